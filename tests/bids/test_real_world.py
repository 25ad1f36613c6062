"""Datasets of other people: each kind is read, left out by name, or refused in words."""

import json
import os

import numpy as np
import pytest

from bids_app.bids.input.collect import read_dataset
from bids_app.bids.run.feasible import capabilities
from bids_app.settings import RunSettings, Settings
from tests.e2e.support import run_app


def read(dataset):
    return read_dataset(
        RunSettings(bids_dir=dataset.root, output_dir=dataset.root / 'o', level='participant')
    )


def dry(dataset, *options):
    return run_app(dataset.root, dataset.root.parent / 'out', 'participant', '--dry-run', *options)


def said(unit):
    return '\n'.join([*(problem.message for problem in unit.problems), *unit.notes])


def made(unit, **settings):
    rows = capabilities(unit, Settings(**settings))
    return {(row['map'], row['condition']) for row in rows if row['state'] == 'made'}


# ------------------------------------------------------------------------- files and folders


def test_a_copy_that_plays_no_role_is_no_suspect_and_stops_nobody(dataset):
    dataset.add('anat/T1w', 'perf/asl')
    same = dataset.find('*_m0scan.nii.gz').read_bytes()
    for stem in ('dir-pa_m0scan', 'acq-b_dir-pa_m0scan'):
        dataset.image(f'sub-01/fmap/sub-01_{stem}.nii.gz').write_bytes(same)
    assert read(dataset).suspects == {}


@pytest.mark.parametrize('name', ['sub-01_old', 'sub-01 copy', 'sub-', 'sub-02.bak'])
def test_a_stray_folder_is_no_participant_and_is_named_once(name, dataset):
    dataset.add('anat/T1w', 'anat/MESE')
    (dataset.root / name / 'anat').mkdir(parents=True)
    assert read(dataset).participants == ('01',)
    outcome = dry(dataset)
    assert outcome.code == 0
    assert outcome.out.count(f'{name!r} is not read') == 1


@pytest.mark.parametrize('pybids', [True, False])
def test_a_stray_session_is_not_read(pybids, dataset, collect):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE')
    folder = dataset.root / 'sub-01'
    (folder / 'ses-a_old').mkdir()
    for path in (folder / 'ses-a' / 'anat').iterdir():
        target = folder / 'ses-a_old' / 'anat' / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    (unit,) = collect(dataset, pybids=pybids)
    assert unit.session == 'a'
    assert len(unit.mese) == 1
    assert read(dataset).notes == (
        "'sub-01/ses-a_old' is not read: a label of a participant or session holds letters and "
        'digits only; rename or move the folder',
    )


@pytest.mark.parametrize('pybids', [True, False])
def test_a_file_name_that_is_no_text_is_left_out_by_name(pybids, dataset, collect):
    dataset.add('anat/T1w', 'anat/MESE')
    folder = os.fsencode(dataset.root / 'sub-01' / 'anat')
    for name in (b'sub-01_acq-\xe9_T1w.nii.gz', b'\xe9_MESE.json'):
        with open(folder + b'/' + name, 'wb') as stream:  # noqa: PTH123  a Path holds no bytes
            stream.write(b'{"EchoTime": 9}')
    (unit,) = collect(dataset, pybids=pybids)
    assert len(unit.mese) == 1
    outcome = dry(dataset)
    assert outcome.code == 0
    assert 'its name is not UTF-8' in outcome.out
    json.dumps(outcome.out).encode()


@pytest.mark.parametrize(('written', 'label'), [('n-back', 'nback'), ('n back', 'nback')])
def test_a_task_that_bids_does_not_allow_is_read_under_a_name_that_it_does(
    written, label, dataset, unit
):
    dataset.add('anat/T1w', f'func/task-{written}_bold[calc]')
    found = unit(dataset)
    assert [run.task for run in found.bold] == [label]
    assert f'task-{written} is no label of BIDS' in said(found)


def test_a_task_without_letter_or_digit_is_refused_alone(dataset, unit):
    dataset.add('anat/T1w', 'anat/MESE', 'func/task-計算_bold[calc]')
    found = unit(dataset)
    assert found.bold == ()
    assert len(found.mese) == 1
    assert 'has no letter or digit; rename the task' in said(found)


# ------------------------------------------------------------------------- numbers


HUGE = int('9' * 400)


@pytest.mark.parametrize('value', [HUGE, [HUGE], [0.1, HUGE], -HUGE])
@pytest.mark.parametrize('key', ['EchoTime', 'RepetitionTime', 'SliceTiming', 'TotalReadoutTime'])
def test_an_integer_of_400_digits_is_one_short_problem(key, value, dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[calc]')
    dataset.edit('*_bold.json', PhaseEncodingDirection='j', **{key: value})
    found = unit(dataset)
    assert found.bold == () or key == 'TotalReadoutTime'
    assert all(len(problem.message) < 300 for problem in found.problems)
    assert key in said(found)


@pytest.mark.parametrize('scale', [1e30, 1e37])
def test_an_affine_beyond_any_scanner_is_refused_in_words(scale, dataset, unit):
    dataset.add('anat/T1w', 'anat/MESE')
    affine = np.diag([scale, 1.0, 1.0, 1.0])
    path = dataset.find('*_echo-2_MESE.nii.gz').relative_to(dataset.root).as_posix()
    dataset.image(path, affine=affine)
    found = unit(dataset)
    assert found.mese == ()
    assert 'affine is damaged' in said(found)


# ------------------------------------------------------------------------- perfusion


def with_extra(dataset, types=('noRF', 'm0scan')):
    """Append volumes without label; every time is one per volume, 0 where it means nothing."""
    from tests.bids.conftest import ASL, CONTEXT

    context = (*CONTEXT, *types)
    extra = [0] * len(types)
    preparation = [8.0 if one == 'm0scan' else 0 for one in types]
    metadata = {
        **ASL,
        'M0Type': 'Included',
        'LabelingDuration': [1.8] * len(CONTEXT) + extra,
        'PostLabelingDelay': [1.5] * len(CONTEXT) + extra,
        'RepetitionTimePreparation': [3.6] * len(CONTEXT) + preparation,
    }
    shape = (3, 3, 2, len(context))
    dataset.image('sub-01/perf/sub-01_asl.nii.gz', shape=shape, metadata=metadata)
    dataset.text('sub-01/perf/sub-01_aslcontext.tsv', '\n'.join(['volume_type', *context]))
    return dataset.add('anat/T1w')


def test_times_of_volumes_without_label_are_not_judged(dataset, unit):
    found = unit(with_extra(dataset))
    assert found.problems == ()
    (series,) = found.asl
    assert set(series.label_duration[:6]) == {1.8}
    assert series.m0.repetition_time == 8.0


def test_a_time_of_zero_at_a_label_is_refused(dataset, unit):
    with_extra(dataset)
    dataset.edit('*_asl.json', LabelingDuration=[0, *[1.8] * 5, 0, 0])
    found = unit(dataset)
    assert found.asl == ()
    assert 'LabelingDuration = 0 s is outside' in said(found)


def test_a_repetition_time_of_zero_at_m0_is_taken_from_elsewhere(dataset, unit):
    with_extra(dataset)
    dataset.edit('*_asl.json', RepetitionTimePreparation=[3.6] * 6 + [0, 0], RepetitionTime=4.1)
    (series,) = unit(dataset).asl
    assert series.m0.repetition_time == 4.1
