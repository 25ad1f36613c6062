"""Volumes without data, unsteady ones, and signal that contradicts its scan, found by machine."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.input.lost_volumes import drop_lost_volumes
from bids_app.settings import RunSettings, resolve
from tests.e2e import support

N_BOLD, N_ASL = 400, 78
FAMILIES = ('mese', 'megre', 'asl', 'dsc', 'bold')
PATTERNS = {
    'bold': 'func/*_bold.nii.gz',
    'asl': 'perf/*_acq-calc_asl.nii.gz',
    'm0': 'perf/*_acq-calc_m0scan.nii.gz',
    'dsc': 'perf/*_dsc.nii.gz',
    'early echoes': 'anat/*_echo-[12]_MESE.nii.gz',
    'late echoes': 'anat/*_echo-[5-8]_MESE.nii.gz',
}


def spoil(root, scan, change):
    """Change the voxels of a scan, as floats."""
    paths = sorted(root.glob(f'sub-01/{PATTERNS[scan]}'))
    assert paths
    for path in paths:
        old = nb.load(path)
        data = np.asarray(change(old.get_fdata(dtype=np.float64)), np.float32)
        nb.Nifti1Image(data, old.affine).to_filename(path)


def at(volumes, value):
    """Give volumes one value, or multiply each by a factor of its own."""

    def change(data):
        data[..., volumes] = value
        return data

    return change


def scaled(volumes, factors):
    def change(data):
        data[..., volumes] *= factors
        return data

    return change


@pytest.fixture
def raw(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', *FAMILIES)
    return root


def found(root, dummy_scans=None):
    """What is left of the participant, and what is said."""
    run = RunSettings(bids_dir=root, output_dir=root / 'out', level='participant')
    settings = resolve()
    info = read_dataset(run, settings.preset)
    plan = check_dataset(info, run, settings)
    (before,) = collect_participant(info, '01', run, settings, plan=plan)
    unit = drop_lost_volumes(before, dummy_scans=dummy_scans)
    said = [note for note in unit.notes if note not in before.notes]
    return unit, said, [problem for problem in unit.problems if problem not in before.problems]


def test_a_sound_study_loses_nothing(raw):
    unit, said, problems = found(raw)
    assert (said, problems) == ([], [])
    assert unit.bold[0].lost == ()
    assert all(series.lost == () for series in unit.asl)


@pytest.mark.parametrize('value', [np.nan, 0.0, 12.0])
def test_volumes_without_data_are_named_and_left_out(raw, value):
    spoil(raw, 'bold', at([7, 300, 301, 302], value))
    unit, said, problems = found(raw)
    assert problems == []
    assert unit.bold[0].lost == (7, 300, 301, 302)
    assert 'volume(s) 7, 300-302 (from 0) hold no data' in said[0]


def test_a_volume_of_a_pair_takes_its_partner_along(raw):
    spoil(raw, 'asl', at([20], np.nan))
    unit, said, _ = found(raw)
    (series,) = (one for one in unit.asl if one.condition == 'calc')
    kinds = [series.context.count(kind) for kind in ('control', 'label', 'n/a')]
    assert kinds == [N_ASL // 2 - 1, N_ASL // 2 - 1, 2]
    assert '20 (from 0)' in said[0]


@pytest.mark.parametrize('scan', ['bold', 'asl'])
def test_a_scan_that_lost_most_is_refused(raw, scan):
    spoil(raw, scan, lambda data: at(slice(data.shape[3] // 3, None), 0)(data))
    unit, _, problems = found(raw)
    assert [problem.role for problem in problems] == [scan]
    assert 'more than half' in problems[0].message
    assert len(unit.bold) + len(unit.asl) == 2  # of three


def test_a_bolus_with_holes_is_refused_by_name(raw):
    spoil(raw, 'dsc', at(slice(-5, None), 0))
    unit, _, problems = found(raw)
    assert unit.dsc == ()
    assert problems[0].role == 'dsc'
    assert 'hold no data' in problems[0].message


def test_an_empty_volume_of_m0_is_left_out(raw):
    spoil(raw, 'm0', lambda data: np.stack([data, 0 * data, data], axis=3))
    unit, said, problems = found(raw)
    (series,) = (one for one in unit.asl if one.condition == 'calc')
    assert problems == []
    assert series.m0.volumes == (0, 2)
    assert 'm0scan' in said[0]


def test_unsteady_volumes_are_dropped_unless_the_user_counts_them(raw):
    spoil(raw, 'bold', scaled([0, 1, 2, 3], [1.6, 1.25, 1.1, 1.04]))
    unit, said, _ = found(raw)
    assert unit.bold[0].lost == (0, 1, 2, 3)
    assert 'first 4 volume(s) are brighter than the plateau' in said[0]
    for number in (0, 2, 6):
        unit, said, _ = found(raw, dummy_scans=number)
        assert (unit.bold[0].lost, said) == (tuple(range(number)), [])


def test_bold_without_its_mean_is_refused(raw):
    spoil(raw, 'bold', lambda data: data - data.mean(axis=3, keepdims=True))
    unit, _, problems = found(raw)
    assert unit.bold == ()
    assert 'the mean signal is near 0: it was removed' in problems[0].message


def test_echoes_that_rise_are_refused_by_name(raw):
    spoil(raw, 'late echoes', lambda data: 4 * data)
    unit, _, problems = found(raw)
    assert unit.mese == ()
    assert unit.megre
    assert 'rises 3.' in problems[0].message
    assert 'echo-4_MESE.nii.gz to sub-01_echo-5_MESE' in problems[0].message


def test_a_magnitude_that_wrapped_around_is_refused_by_name(raw):
    """20 times 2000 does not fit into 16 bits with a sign: T2* was 3 %, R2' 13 % off, silently."""

    def wrap(data):
        scaled = np.rint(40000 / data.max() * data).astype(np.int64)
        return scaled.astype(np.int16)

    spoil(raw, 'early echoes', wrap)
    unit, _, problems = found(raw)
    assert unit.mese == ()
    assert unit.megre
    assert 'sub-01_echo-1_MESE.nii.gz is below zero in' in problems[0].message


@pytest.mark.e2e
def test_maps_of_a_broken_study_are_those_of_the_sound_one_with_less_data(study, tmp_path):
    """Bias of the unsteady first volumes was -0.18 points, that of an aborted run -12.6."""
    outputs = {}
    for name in ('sound', 'broken'):
        root = support.start_dataset(tmp_path / name, study)
        support.add_participant(root, study, '01', 't1w', 'asl', 'bold')
        if name == 'broken':
            spoil(root, 'bold', scaled([0, 1, 2, 3], [1.6, 1.25, 1.1, 1.04]))
            spoil(root, 'bold', at(slice(300, None), 0))
            spoil(root, 'bold', at([133], np.nan))
            spoil(root, 'asl', at(slice(58, None), 0))
        outputs[name] = tmp_path / f'{name}_out'
        told = support.run_app(
            root, outputs[name], 'participant', *support.anatomy_of(root), *support.HEADER,
            '--output-spaces', 'none',
        )  # fmt: skip
        assert told.code == 0
    notes = ' '.join(support.summary(outputs['broken'], '01')['units'][0]['notes'])
    assert '133, 300-399' in notes
    assert '58-77' in notes
    sound, broken = (
        {
            name: support.read(outputs[one] / f'sub-01/{path}')
            for name, path in {
                'bold': 'func/sub-01_task-all_space-ASL_contrast-calcMinusControl_stat-effect_'
                'desc-boldPct_statmap.nii.gz',
                'bold variance': 'func/sub-01_task-all_space-ASL_contrast-calcMinusControl_stat-'
                'variance_desc-boldPct_statmap.nii.gz',
                'cbf': 'perf/sub-01_task-calc_space-ASL_cbf.nii.gz',
            }.items()
        }
        for one in ('sound', 'broken')
    )
    inside = np.isfinite(sound['bold'])
    difference = (broken['bold'] - sound['bold'])[inside]
    assert abs(difference.mean()) < 0.02
    ratio = np.median(broken['bold variance'][inside] / sound['bold variance'][inside])
    assert 1.2 < ratio < 1.6  # 295 of 400 volumes
    inside = np.isfinite(sound['cbf'])
    assert np.isfinite(broken['cbf'][inside]).all()
    assert np.median(broken['cbf'][inside]) == pytest.approx(
        np.median(sound['cbf'][inside]), rel=0.02
    )
