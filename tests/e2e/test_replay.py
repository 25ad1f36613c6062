"""A replay gives what a run with those constants gives."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.bids.output.names import match
from tests.e2e import support

pytestmark = pytest.mark.e2e

CHANGED = ('oxygen.hct=0.35', 'perfusion.background_suppression_factor=0.815')
FITTED = ('reference', 'fieldmap', 'echo_inconsistency', 'half_difference', 'effective_delay')
"""Rows that a replay has no need to write again."""


def replay(finished, output, *constants):
    """Replay the first participant."""
    only = ('--participant-label', '01', '--nprocs', '1')
    return support.run_app(finished.output, output, 'participant', *only, '--replay', *constants)


def maps(folder):
    """Images of the first participant by their name, but those of the T1w grid and of fits."""
    named = {path.relative_to(folder).as_posix(): path for path in folder.rglob('sub-01*.nii.gz')}
    return {
        name: path
        for name, path in named.items()
        if 'space-' in name and not match(name)[0].startswith(FITTED)
    }


def differences(ours, theirs):
    """Largest relative difference of every map, and voxels that only one of them has."""
    found = {}
    for name, path in ours.items():
        one, two = support.read(path), support.read(theirs[name])
        assert np.array_equal(np.isnan(one), np.isnan(two)), name
        size = np.nanmedian(np.abs(one[one != 0])) if np.any(one[~np.isnan(one)]) else 1.0
        found[name] = np.nanmax(np.abs(one - two), initial=0.0) / size
    return found


@pytest.fixture(scope='module')
def unchanged(finished, tmp_path_factory):
    """A replay without a change."""
    output = tmp_path_factory.mktemp('replay') / 'out'
    assert replay(finished, output).code == 0
    return output


def test_unchanged_constants_reproduce_every_map_and_table(finished, unchanged):
    before, after = maps(finished.output), maps(unchanged)
    assert set(before) == set(after)
    assert max(differences(before, after).values()) < 1e-4
    for path in (finished.output / 'sub-01').glob('*.tsv'):
        one, two = (pd.read_csv(folder / 'sub-01' / path.name, sep='\t')
                    for folder in (finished.output, unchanged))  # fmt: skip
        pd.testing.assert_frame_equal(one, two, rtol=1e-3, atol=1e-6)


def test_changed_constants_give_the_maps_of_a_run_with_them(finished, tmp_path):
    constants = (f'--set={CHANGED[0]}', f'--set={CHANGED[1]}')
    run = support.run_app(finished.study, tmp_path / 'run', *finished.command,
                          '--participant-label', '01', *constants)  # fmt: skip
    assert run.code == 0
    assert replay(finished, tmp_path / 'out', *CHANGED).code == 0
    ours, theirs = maps(tmp_path / 'out'), maps(tmp_path / 'run')
    assert set(ours) == set(theirs)
    assert max(differences(ours, theirs).values()) < 1e-4
    assert min(differences(ours, maps(finished.output)).values()) == 0.0
    assert max(differences(ours, maps(finished.output)).values()) > 0.05


def test_a_replay_links_to_the_run_it_came_from(unchanged):
    about = json.loads((unchanged / 'dataset_description.json').read_text())
    assert set(about['DatasetLinks']) == {'replayed'}
    sidecar = next(unchanged.rglob('*task-calc_space-MESE_cbf.json'))
    assert json.loads(sidecar.read_text())['Sources'][0].startswith('bids:replayed:sub-01/')


def test_the_group_level_reads_a_replay(finished, tmp_path):
    output = tmp_path / 'out'
    arguments = (finished.output, output, 'participant', '--nprocs', '1', '--replay', CHANGED[0])
    assert support.run_app(*arguments).code == 0
    assert support.run_app(finished.output, output, 'group').code == 0


def test_a_replay_refuses_other_sources_of_settings(finished, tmp_path):
    arguments = (finished.output, tmp_path / 'out', 'participant', '--replay')
    outcome = support.run_app(*arguments, 'oxygen.hct=0.4', '--preset', 'epp2025')
    assert outcome.code == 64
    assert '--preset' in outcome.last


def test_rows_of_a_multiverse_are_what_a_replay_with_these_constants_gives(finished, tmp_path):
    name = 'sub-01/sub-01_contrast-calcMinusControl_desc-{}_summary.tsv'
    only = ('--participant-label', '01', '--nprocs', '1')
    outcome = support.run_app(finished.output, tmp_path / 'all', 'participant', *only,
                              '--multiverse', 'oxygen.hct=0.35', 'change.bold_q=0.05,0.001',
                              'change.route=quantitative,davis')  # fmt: skip
    assert outcome.code == 0
    rows = pd.read_csv(tmp_path / 'all' / name.format('multiverse'), sep='\t').set_index('choices')
    assert len(rows) == 5
    assert replay(finished, tmp_path / 'one', 'oxygen.hct=0.35', 'change.bold_q=0.001').code == 0
    summary = pd.read_csv(tmp_path / 'one' / name.format('concordance'), sep='\t')
    alone = summary[(summary.bold == 'all') & (summary.network == 'all')].set_index('rule')
    here = rows.loc['oxygen.hct=0.35 change.bold_q=0.001 change.route=quantitative']
    assert here.sign_fraction == pytest.approx(alone.discordant_fraction['sign'])
    corrected = alone.loc['noise_corrected']
    np.testing.assert_allclose(
        [here.pi_d, here.ci_low, here.ci_high, here.null_fraction],
        corrected[['discordant_fraction', 'ci_low', 'ci_high', 'null_fraction']].astype(float),
        atol=1e-5,
    )
    davis = rows.loc['oxygen.hct=0.35 change.bold_q=0.05 change.route=davis']
    assert 'alternate blocks' in davis.note
    assert np.isnan(davis.pi_d)


def test_a_gas_is_named_before_the_run_and_the_published_limits_hold(finished, tmp_path):
    effect = 'sub-01/perf/sub-01_space-MESE_contrast-calcMinusControl_stat-effect_desc-cmro2'
    blocks = 'change.bold_blocks=all'
    assert replay(finished, tmp_path / 'gas', 'oxygen.hypercapnia=calc').code == 64
    for route in ('semiquantitative', 'epp2025'):
        assert replay(finished, tmp_path / route, f'change.route={route}', blocks).code == 0
    plain, limited = (
        support.read(tmp_path / route / f'{effect}_statmap.nii.gz')
        for route in ('semiquantitative', 'epp2025')
    )
    same = np.isclose(plain, limited, rtol=1e-4)
    assert 0.5 < same[np.isfinite(plain)].mean() <= 1.0


def test_a_map_of_the_maximum_gives_what_the_number_does(finished, tmp_path):
    image = nb.load(next(finished.output.rglob('sub-01_space-MESE_T2map.nii.gz')))
    for participant, maximum in (('01', 8.0), ('02', 4.0)):
        flat = np.full(image.shape[:3], maximum, np.float32)
        nb.save(nb.Nifti1Image(flat, image.affine), tmp_path / f'sub-{participant}_M.nii')
    route = ('change.route=davis', 'change.bold_blocks=all')
    given = f'change.davis_maximum_map={tmp_path}/sub-{{participant}}_M.nii'
    assert replay(finished, tmp_path / 'map', *route, given).code == 0
    assert replay(finished, tmp_path / 'number', *route, 'change.davis_maximum=8').code == 0
    map_, number = maps(tmp_path / 'map'), maps(tmp_path / 'number')
    assert any('desc-cmro2_statmap' in name for name in map_)
    assert max(differences(map_, number).values()) == 0.0
