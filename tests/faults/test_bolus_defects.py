"""A DSC series with a defect is named and gives no blood volume; everything else is made."""

import json

import numpy as np
import pytest

from bids_app.phantom.acquisition import protocol
from bids_app.phantom.cli import main as make_phantom
from bids_app.phantom.defects import DEFECTS, spoil
from tests.e2e import support

pytestmark = pytest.mark.e2e

SCAN = protocol('tiny').dsc

SPOILT = {
    'no-bolus': 'no bolus in the mean signal',
    'early-bolus': 'no bolus',
    'truncated': 'truncated series: it ends after',
    'clipped': 'clipped series',
    'one-sided': 'one-sided map: the median area in the',
    'negative': 'absurd curves',
}
"""Defect of the phantom -> words of the verdict. Movement needs a head: see the models."""


def milliseconds(path):
    support.edit_json(
        path.with_name(path.name.replace('.nii.gz', '.json')),
        lambda sidecar: sidecar.update(RepetitionTime=1500.0),
    )


def one_volume(path):
    support.write(path, support.read(path)[..., 0])


def constant(path):
    support.write(path, np.full_like(support.read(path), 700))


def nan_volumes(path):
    series = support.read(path).astype(np.float32)
    series[..., [2, 40]] = np.nan
    support.write(path, series)


BAD_INPUT = {
    'milliseconds': (milliseconds, ('RepetitionTime', '1500', 'millisecond')),
    'onevolume': (one_volume, ('dsc',)),
    'constant': (constant, ('constant',)),
    'nanvolumes': (nan_volumes, ('2, 40', 'NaN')),
}


def series_of(folder):
    return next(folder.glob('perf/*_dsc.nii.gz'))


@pytest.fixture(scope='module')
def ward(study, tmp_path_factory):
    root = support.start_dataset(tmp_path_factory.mktemp('bolus') / 'raw', study)
    for name in SPOILT:
        label = name.replace('-', '')
        path = series_of(support.add_participant(root, study, label, 't1w', 'mese', 'dsc'))
        support.write(path, spoil(support.read(path).astype(np.int16), SCAN, name))
    for label, (harm, _) in BAD_INPUT.items():
        harm(series_of(support.add_participant(root, study, label, 't1w', 'mese', 'dsc')))
    return root


def run(root, output, *arguments):
    anatomy = f'fmriprep={root / "derivatives" / "fmriprep"}'
    return support.run_app(
        root, output, 'participant', '-d', anatomy, *support.HEADER, *arguments,
        '--output-spaces', 'none',
    )  # fmt: skip


@pytest.fixture(scope='module')
def finished(ward):
    output = ward.parent / 'out'
    run(ward, output)
    return output


@pytest.mark.parametrize('name', SPOILT)
def test_defect_is_named_in_the_verdict_and_no_map_is_made(finished, name):
    label = name.replace('-', '')
    verdict = support.summary(finished, label)['verdict']
    assert (verdict['state'], verdict['exit_code']) == ('incomplete', 1)
    assert SPOILT[name] in ' '.join(verdict['reasons'])
    assert support.value_maps(finished / f'sub-{label}') == {f'sub-{label}_space-MESE_T2map'}


@pytest.mark.parametrize('name', BAD_INPUT)
def test_bad_input_is_named_and_costs_only_blood_volume(finished, name):
    verdict = support.summary(finished, name)['verdict']
    assert (verdict['state'], verdict['exit_code']) == ('incomplete', 1)
    told = ' '.join(verdict['reasons'])
    assert [word for word in BAD_INPUT[name][1] if word not in told] == []
    assert support.value_maps(finished / f'sub-{name}') == {f'sub-{name}_space-MESE_T2map'}


def test_accepted_defect_is_said_in_map_and_notes(ward, tmp_path):
    run(
        ward, tmp_path, '--participant-label', 'onesided',
        '--set', 'blood_volume.accepted_defects=one-sided',
    )  # fmt: skip
    found = support.summary(tmp_path, 'onesided')
    assert any('accepted defects' in note for note in found['units'][0]['notes'])
    path = next((tmp_path / 'sub-onesided' / 'perf').glob('*_desc-dsc_cbv.json'))
    sidecar = json.loads(path.read_text())
    assert 'one-sided map' in sidecar['AcceptedDefects'][0]


def test_a_missing_bolus_cannot_be_accepted(ward, tmp_path):
    outcome = run(
        ward, tmp_path, '--participant-label', 'nobolus',
        '--set', 'blood_volume.accepted_defects=no-bolus',
    )  # fmt: skip
    assert outcome.code == 64


def test_every_defect_of_the_phantom_is_tested_somewhere():
    elsewhere = {'motion', 'arteries', 'saturated-arteries'}
    assert set(DEFECTS) == set(SPOILT) | elsewhere


@pytest.mark.parametrize('name', ['arteries', 'saturated-arteries'])
def test_arteries_of_the_phantom_are_found_unless_they_are_saturated(tmp_path, name):
    root = tmp_path / 'raw'
    make_phantom([
        str(root), '--grid', 'tiny', '--participants', '1', '--seed', '1', '--dsc-defect', name
    ])  # fmt: skip
    for family in ('bold', 'megre', 'asl'):
        for path in root.glob(f'sub-01/{support.FAMILIES[family]}'):
            path.unlink()
    output = tmp_path / 'out'
    run(
        root, output, '--cbv-model', 'arterial',
        '--set', 'blood_volume.deconvolution=oscillation-limited',
    )  # fmt: skip
    made = {path.name for path in output.rglob('*.nii.gz')}
    told = ' '.join(support.summary(output, '01')['verdict']['reasons'])
    if name == 'saturated-arteries':
        assert 'saturated arteries' in told
        assert not any('arterial_cbv' in item or '_mtt' in item for item in made)
        return
    for suffix in ('arterial_cbv', 'bolus_cbf', 'bolus_mtt', 'bolus_tmax'):
        assert any(item.endswith(f'{suffix}.nii.gz') for item in made)
    curve = json.loads(next(output.rglob('*_desc-arterialInput_timeseries.json')).read_text())
    assert len(curve['Voxels']) >= 5
    assert curve['RelativeHeight'] > 2
