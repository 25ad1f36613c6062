"""Suspicious scans from raw images to the group."""

import shutil

import pandas as pd
import pytest

from tests.e2e import support


def options(study):
    return ('--preset', 'epp2025', '--metadata-overrides', study / 'code' / 'overrides.toml',
            *support.anatomy_of(study), *support.HEADER)  # fmt: skip


@pytest.mark.e2e
@pytest.mark.prove
def test_a_run_cut_off_and_a_copied_m0_cost_the_group_their_participants(tmp_path):
    study = support.phantom(
        tmp_path, '--layout', 'ds004873', '--conditions', 'control,calc', participants=4
    )
    run = study / 'sub-p033' / 'func' / 'sub-p033_task-all_bold.nii.gz'
    series = support.read(run)
    within_last_block = int(0.77 * series.shape[3])  # the block begins at 75 % and ends at 81 %
    support.write(run, series[..., :within_last_block])
    perfusion = study / 'derivatives' / 'sub-p034' / 'qmri'
    shutil.copyfile(
        perfusion / 'sub-p034_task-control_acq-pd_asl.nii.gz',
        perfusion / 'sub-p034_task-calc_acq-pd_asl.nii.gz',
    )
    out = tmp_path / 'out'
    outcome = support.run_app(study, out, 'participant', *options(study))
    assert outcome.code == 0, outcome.log
    signs = {
        'p033': ('short-bold', 'sub-p033_task-all_bold.nii.gz ends at'),
        'p034': ('copy', 'sub-p034_task-calc_acq-pd_asl.nii.gz has the same bytes'),
    }
    for label, (kind, words) in signs.items():
        verdict = ' '.join(support.summary(out, label)['verdict']['reasons'])
        assert f'suspicious ({kind}): {words}' in verdict
        assert f'suspicious ({kind}): {words}' in outcome.log
    for label in ('p032', 'p035'):
        assert not support.summary(out, label)['verdict']['reasons']

    assert support.run_app(study, out, 'group').code == 0
    table = participants_of_the_group(out)
    assert dict(table.included) == {
        'sub-p032': 'yes', 'sub-p033': 'no', 'sub-p034': 'no', 'sub-p035': 'yes',
    }  # fmt: skip
    for label, (kind, words) in signs.items():
        assert table.loc[f'sub-{label}'].reason.startswith('left out of calcMinusControl: sub-')
        assert words in table.loc[f'sub-{label}'].reason
        assert f'--set group.accept_suspects={kind}' in table.loc[f'sub-{label}'].reason
        assert words in (out / 'group.html').read_text()

    accepted = 'group.accept_suspects=short-bold,copy'
    assert support.run_app(study, out, 'group', '--set', accepted).code == 0
    assert set(participants_of_the_group(out).included) == {'yes'}


def participants_of_the_group(out):
    (path,) = out.glob('tpl-*/*_desc-participants_summary.tsv')
    return pd.read_csv(path, sep='\t').set_index('participant')
