"""Datasets of other people: each kind is read, left out by name, or refused in words."""

import json
import os

import numpy as np
import pytest

from bids_app.bids.input.dataset import read_dataset
from bids_app.bids.run.feasible import capabilities
from bids_app.settings import RunSettings, Settings
from tests.bids.conftest import Dataset
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


def test_a_stray_session_is_not_read(dataset, collect):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE')
    folder = dataset.root / 'sub-01'
    (folder / 'ses-a_old').mkdir()
    for path in (folder / 'ses-a' / 'anat').iterdir():
        target = folder / 'ses-a_old' / 'anat' / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    (unit,) = collect(dataset)
    assert unit.session == 'a'
    assert len(unit.mese) == 1
    assert read(dataset).notes == (
        "'sub-01/ses-a_old' is not read: a label of a participant or session holds letters and "
        'digits only; rename or move the folder',
    )


def test_a_file_name_that_is_no_text_is_left_out_by_name(dataset, collect):
    dataset.add('anat/T1w', 'anat/MESE')
    folder = os.fsencode(dataset.root / 'sub-01' / 'anat')
    for name in (b'sub-01_acq-\xe9_T1w.nii.gz', b'\xe9_MESE.json'):
        with open(folder + b'/' + name, 'wb') as stream:  # noqa: PTH123  a Path holds no bytes
            stream.write(b'{"EchoTime": 9}')
    (unit,) = collect(dataset)
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


# ------------------------------------------------------------------------- labelling


PULSED = {'ArterialSpinLabelingType': 'PASL', 'BolusCutOffFlag': True, 'LabelingDuration': None,
          'BolusCutOffTechnique': 'Q2TIPS', 'BolusCutOffDelayTime': [0.7, 1.6]}  # fmt: skip


def test_inversion_times_before_the_cut_are_used(dataset, unit):
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('*_asl.json', **PULSED, PostLabelingDelay=[0.3, 0.3, 0.6, 0.6, 1.5, 1.5])
    found = unit(dataset)
    assert found.problems == ()
    assert set(found.asl[0].context) == {'control', 'label'}
    assert 'at 0.3, 0.6 s the bolus is not cut yet (0.7 s)' in said(found)


def test_a_last_readout_before_the_cut_is_refused(dataset, unit):
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('*_asl.json', **PULSED, PostLabelingDelay=[0.3, 0.3, 0.5, 0.5, 0.6, 0.6])
    found = unit(dataset)
    assert found.asl == ()
    assert 'the end of the bolus at 0.7 s (BolusCutOffDelayTime, or' in said(found)
    assert 'is not before the readout at 0.6 s' in said(found)


# ------------------------------------------------------------------------- trial types


def events(dataset, *types, length=30, step=60, name='all'):
    rows = [f'{30 + step * n}\t{length}\t{one}' for n, one in enumerate(types)]
    table = '\n'.join(['onset\tduration\ttrial_type', *rows])
    return dataset.text(f'sub-01/func/sub-01_task-{name}_events.tsv', table)


@pytest.mark.parametrize(('types', 'labels'), [
    (('CS+', 'CS-'), ('csminus', 'csplus')),
    (('load+', 'load-'), ('loadminus', 'loadplus')),
    (('<3', '>3'), ('less3', 'more3')),
    (('Gedächtnis', 'naïve'), ('gedachtnis', 'naive')),
])  # fmt: skip
def test_trial_types_that_differ_in_signs_are_two_conditions(types, labels, dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    events(dataset, *types, *types)
    found = unit(dataset)
    assert found.problems == ()
    assert {event.trial_type for event in found.bold[0].events} == set(labels)
    assert set(labels) < set(found.conditions)


@pytest.mark.parametrize('types', [('calc 1', 'calc-1'), ('Calc1', 'calc1'), ('calc_1', 'CALC 1')])
def test_two_ways_to_write_a_trial_type_are_one_and_that_is_said(types, dataset):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    events(dataset, *types)
    outcome = dry(dataset)
    assert outcome.code == 0
    assert all(repr(one) in outcome.out for one in types)
    assert 'are taken for one, calc1' in outcome.out


@pytest.mark.parametrize('types', [('a/b', 'ab'), ('x!', 'x'), ('load 1.5', 'load 15')])
def test_trial_types_that_would_become_one_are_refused_by_name(types, dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    events(dataset, *types)
    found = unit(dataset)
    assert found.bold == ()
    assert all(repr(one) in said(found) for one in types)


def test_trial_types_without_latin_letters_are_refused_with_that_reason(dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    events(dataset, '計算', '休憩')
    found = unit(dataset)
    assert found.bold == ()
    assert "'計算' has no Latin letter or digit" in said(found)


# ------------------------------------------------------------------------- sidecars


def test_volume_timing_is_refused_by_that_name(dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[calc]')
    dataset.edit('*_bold.json', RepetitionTime=None, VolumeTiming=[0, 3.5, 7.0])
    (problem,) = unit(dataset).problems
    assert 'VolumeTiming' in problem.message
    assert 'not supported' in problem.message


@pytest.mark.parametrize(('header', 'is_used'), [(2.4, False), (1.2, True), (1.0, True),
                                                 (0.0, True), (1200.0, True)])  # fmt: skip
def test_a_header_that_contradicts_the_repetition_time_is_refused(header, is_used, dataset, unit):
    import nibabel as nb

    dataset.add('anat/T1w', 'func/task-all_bold[calc]')
    path = dataset.find('*_bold.nii.gz')
    image = nb.load(path)
    image.header.set_zooms((1, 1, 1, header))
    nb.save(nb.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    found = unit(dataset)
    assert bool(found.bold) is is_used
    if not is_used:
        assert 'says 2.4 s between volumes, its sidecar 1.2 s' in said(found)
        text = '[[override]]\nmatch = {role="bold"}\nset = {RepetitionTime=1.2}\nsource = "log"'
        overrides = dataset.text('o.toml', text)
        assert unit(dataset, metadata_overrides=overrides).bold


@pytest.mark.parametrize(('fields', 'used'), [
    ((3, 2.89362), 3.0), ((2.893620, 2.89), 3.0), ((1.5, 1.494), 1.5), ((3, 1.5), None),
    ((6.98, 7), 7.0),
])  # fmt: skip
def test_fields_of_one_nominal_strength_are_one(fields, used, dataset, unit):
    dataset.add('anat/T1w', 'perf/asl', 'anat/MEGRE')
    dataset.edit('*_asl.json', MagneticFieldStrength=fields[0])
    for echo in range(1, 5):
        dataset.edit(f'*echo-{echo}_MEGRE.json', MagneticFieldStrength=fields[1])
    found = unit(dataset)
    if used is None:
        assert 'MagneticFieldStrength differs' in said(found)
    else:
        assert found.b0 == used
        assert f'{used:g} T is used' in said(found)


def test_one_field_alone_is_taken_as_it_is(dataset, unit):
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('*_asl.json', MagneticFieldStrength=2.89362)
    assert unit(dataset).b0 == 2.89362


# ------------------------------------------------------------------------- other scans


def complex_only(dataset):
    """Two conditions of a gradient echo as real and imaginary parts, and nothing else."""
    metadata = {'RepetitionTime': 2.2, 'MagneticFieldStrength': 3}
    for task in ('calc', 'control'):
        for echo in range(1, 5):
            for part in ('real', 'imag'):
                name = f'sub-01_task-{task}_echo-{echo}_part-{part}_MEGRE.nii.gz'
                times = {'EchoTime': 0.005 * echo}
                dataset.image(f'sub-01/anat/{name}', metadata=metadata | times)
    return dataset.add('anat/T1w')


def test_a_gradient_echo_as_real_and_imaginary_parts_is_known_everywhere(dataset, unit):
    found = unit(complex_only(dataset))
    assert found.conditions == ('control', 'calc')
    assert [contrast.label for contrast in found.contrasts] == ['calcMinusControl']
    assert {('T2star', 'calc'), ('T2star', 'control')} <= made(found)
    assert found.b0 == 3.0
    assert not any('no MEGRE' in note for note in found.notes)
    outcome = dry(dataset)
    assert 'conditions control, calc; contrasts calcMinusControl' in outcome.out
    assert 'no MEGRE' not in outcome.out


def test_an_mp2rage_is_the_t1w_image_where_there_is_no_other(dataset, unit):
    dataset.add('anat/MESE')
    path = dataset.image('sub-01/anat/sub-01_UNIT1.nii.gz')
    dataset.image('sub-01/anat/sub-01_inv-2_MP2RAGE.nii.gz')
    alone = unit(dataset)
    assert alone.t1w == (path,)
    assert any(note.startswith('sub-01_UNIT1.nii.gz (MP2RAGE) is the T1w') for note in alone.notes)
    dataset.add('anat/acq-mprage_T1w')  # more entities, but what other software takes
    both = unit(dataset)
    assert both.t1w == (dataset.find('*_T1w.nii.gz'),)
    assert 'sub-01_UNIT1.nii.gz is not used' in said(both)


# ------------------------------------------------------------------------- blocks


def table(dataset, rows, name='all'):
    lines = ['onset\tduration\ttrial_type', *('\t'.join(map(str, row)) for row in rows)]
    return dataset.text(f'sub-01/func/sub-01_task-{name}_events.tsv', '\n'.join(lines))


def trials(length, spacing, n, *, kind='calc', starts=(30, 90, 150)):
    return [(start + spacing * i, length, kind) for start in starts for i in range(n)]


@pytest.mark.parametrize(('rows', 'block'), [
    (trials(1, 1, 30), 30.0), (trials(0.9, 1, 30), 29.9), (trials(0.5, 2.5, 12), 28.0),
])  # fmt: skip
def test_trials_that_touch_are_one_block_and_the_dry_run_says_so(rows, block, dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    table(dataset, rows)
    found = unit(dataset)
    assert [(event.onset, event.duration) for event in found.bold[0].events] == [
        (start, pytest.approx(block)) for start in (30, 90, 150)
    ]
    assert ('boldPct', 'calcMinusControl') in made(found)
    outcome = dry(dataset)
    assert f'{len(rows)} trials of calc' in outcome.out
    assert f'are 3 blocks of {block:g} s' in outcome.out


def test_a_trial_of_another_type_or_a_long_gap_ends_a_block(dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    rest = [(38, 1, 'rest'), (98, 1, 'rest')]
    table(dataset, [*trials(8, 9, 2), *rest, *trials(8, 12, 2, starts=(180,))])
    found = unit(dataset).bold[0].events
    lengths = [event.duration for event in found if event.trial_type == 'calc']
    assert lengths == [8, 8, 8, 8, 17, 8, 8]


@pytest.mark.parametrize('length', [0, 1, 6])
def test_short_events_alone_are_an_event_related_design_and_the_dry_run_says_so(
    length, dataset, unit
):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    table(dataset, trials(length, 15, 2))
    (run,) = unit(dataset).bold
    assert run.is_of_events
    assert {event.duration for event in run.events} == {length}
    outcome = dry(dataset)
    assert ('boldPct', 'calcMinusControl') in made(unit(dataset))
    assert 'an event-related design (bold.design)' in outcome.out


@pytest.mark.parametrize(
    ('rows', 'settings', 'message'),
    [
        (trials(1, 15, 2), {'bold.design': 'blocks'}, 'the change of blocks needs some longer'),
        (trials(1, 15, 2), {'bold.estimator': 'block-median'}, 'block-median needs blocks'),
        (trials(30, 60, 1), {'bold.hrf_model': 'fir'}, 'fir is for events'),
        (trials(30, 60, 1), {'bold.modulators': ('onset',)}, 'bold.modulators is for events'),
    ],
)
def test_choices_that_do_not_fit_the_design_are_refused_early(
    rows, settings, message, dataset, collect
):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    table(dataset, rows)
    (found,) = collect(dataset, settings=settings)
    assert found.bold == ()
    assert message in said(found)


def test_modulators_of_events_are_read_and_a_column_that_is_not_there_is_named(dataset, collect):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    rows = [f'{20 * n}\t1\tcalc\t{0.5 + n if n else "n/a"}' for n in range(8)]
    dataset.text('sub-01/func/sub-01_task-all_events.tsv',
                 '\n'.join(['onset\tduration\ttrial_type\trt', *rows]))  # fmt: skip
    (found,) = collect(dataset, settings={'bold.modulators': ('rt',)})
    (run,) = found.bold
    values = [event.modulators[0] for event in run.events]
    assert np.isnan(values[0])
    assert values[1:] == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    (found,) = collect(dataset, settings={'bold.modulators': ('speed',)})
    assert 'columns are onset, duration, trial_type, rt' in said(found)


def test_all_trial_types_are_conditions_where_they_are_called_events(dataset, collect):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    table(dataset, [*trials(30, 60, 1), (70, 0.5, 'press'), (130, 0.5, 'press')])
    (found,) = collect(dataset, settings={'bold.design': 'events'})
    assert found.bold[0].is_of_events
    labels = [contrast.label for contrast in found.contrasts]
    assert labels == ['calcMinusControl', 'pressMinusControl']
    assert found.problems == ()


def test_a_trial_type_without_a_block_is_no_condition_but_stays_in_the_model(dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_bold[x]')
    table(dataset, [*trials(30, 60, 1), (40, 0, 'press'), (100, 0.5, 'press')])
    found = unit(dataset)
    assert [contrast.label for contrast in found.contrasts] == ['calcMinusControl']
    assert {event.trial_type for event in found.bold[0].events} == {'calc', 'press'}
    assert 'press 0.5 s' in said(found)
    assert found.problems == ()


# ------------------------------------------------------------------------- shapes and derivatives


def test_axes_of_length_1_are_left_out(dataset, unit):
    dataset.add('anat/T1w', 'anat/MESE', 'perf/asl', 'func/task-all_bold[calc]')
    for path in sorted(dataset.root.rglob('*_MESE.nii.gz')):
        dataset.image(path.relative_to(dataset.root).as_posix(), shape=(3, 3, 2, 1))
    dataset.image('sub-01/anat/sub-01_T1w.nii.gz', shape=(3, 3, 2, 1, 1))
    dataset.image('sub-01/func/sub-01_task-all_bold.nii.gz', shape=(3, 3, 2, 1, 200))
    found = unit(dataset)
    assert found.problems == ()
    assert (len(found.mese), len(found.t1w), found.bold[0].n_volumes) == (1, 1, 200)


def test_several_echoes_of_bold_are_one_run_and_of_dsc_are_refused(dataset, unit):
    dataset.add('anat/T1w', 'func/task-all_echo-1_bold[calc]', 'func/task-all_echo-2_bold[calc]')
    dataset.edit('*echo-1_bold.json', EchoTime=0.012)
    dataset.add('perf/echo-1_dsc', 'perf/echo-2_dsc')
    found = unit(dataset)
    assert [run.echo_times for run in found.bold] == [(0.012, 0.03)]
    assert found.dsc == ()
    assert 'echoes are not combined: choose one with --bids-filter-file, such as ' in said(found)
    assert '{"dsc": {"echo": "1"}}' in said(found)


ANATOMY = ('desc-preproc_T1w', 'desc-brain_mask', 'label-GM_probseg', 'label-WM_probseg',
           'label-CSF_probseg')  # fmt: skip


def fmriprep(dataset):
    for name in ANATOMY:
        dataset.image(f'fp/sub-01/anat/sub-01_{name}.nii.gz')
    return {'derivatives': {'fmriprep': dataset.root / 'fp'}}


@pytest.mark.parametrize(('name', 'harm', 'words'), [
    ('desc-preproc_T1w', lambda path: path.write_bytes(b''), 'is empty'),
    ('label-GM_probseg', lambda path: path.write_bytes(b'\x1f\x8b\x08'), 'cannot be read'),
])  # fmt: skip
def test_an_anatomy_of_others_is_opened_before_computing(name, harm, words, dataset, unit):
    options = fmriprep(dataset.add('anat/MESE'))
    assert unit(dataset, **options).anatomy is not None
    harm(dataset.find(f'sub-01_{name}.nii.gz'))
    found = unit(dataset, **options)
    assert found.anatomy is None
    assert any(name in problem.message and words in problem.message for problem in found.problems)


def test_an_anatomy_of_several_grids_is_refused_by_name(dataset, unit):
    options = fmriprep(dataset.add('anat/MESE'))
    dataset.image('fp/sub-01/anat/sub-01_label-WM_probseg.nii.gz', shape=(6, 6, 4))
    found = unit(dataset, **options)
    (problem,) = found.problems
    assert 'label-WM_probseg.nii.gz has another grid ((6, 6, 4))' in problem.message
    assert dry(dataset, '-d', f'fmriprep={dataset.root / "fp"}').out.count('another grid') > 0


# ------------------------------------------------------------------------- partial datasets


def test_scans_in_several_sessions_are_units_that_share_the_anatomy(dataset, collect):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE', 'ses-b/perf/asl', 'ses-c/anat/MEGRE[phase]')
    units = collect(dataset)
    assert [unit.session for unit in units] == ['a', 'b', 'c']
    assert {unit.t1w for unit in units} == {(dataset.find('*_T1w.nii.gz'),)}
    assert [{name for name, _ in made(unit)} - {'anatomy', 'template'} for unit in units] == [
        {'T2'}, {'cbf'}, {'T2star'},
    ]  # fmt: skip
    assert 'session b has no T1w image; the one of session a is used' in said(units[1])


def test_runs_of_different_matrix_are_both_used(dataset, unit):
    dataset.add('anat/T1w', 'func/task-x_run-1_bold[calc]', 'func/task-x_run-2_bold[calc]')
    dataset.image('sub-01/func/sub-01_task-x_run-2_bold.nii.gz', shape=(5, 4, 3, 200))
    found = unit(dataset)
    assert [run.run for run in found.bold] == ['1', '2']
    assert found.problems == ()


def test_an_image_in_both_formats_is_used_once_and_named(dataset, unit):
    import gzip

    dataset.add('anat/T1w', 'anat/MESE', 'perf/asl')
    for path in sorted(dataset.root.rglob('*.nii.gz')):
        path.with_name(path.name.removesuffix('.gz')).write_bytes(
            gzip.decompress(path.read_bytes())
        )
    found = unit(dataset)
    assert found.problems == ()
    assert (len(found.t1w), len(found.mese), len(found.asl)) == (1, 1, 1)
    assert all(path.suffix == '.gz' for path in found.mese[0].files)
    assert 'sub-01_T1w.nii is not used: sub-01_T1w.nii.gz lies beside it' in said(found)
    plain = {role: {'extension': '.nii'} for role in ('t1w', 'mese')}
    assert unit(dataset, bids_filters=plain).t1w == (dataset.find('*_T1w.nii'),)


@pytest.mark.parametrize('extension', ['.NII.GZ', '.nii.GZ', '.Nii'])
def test_an_extension_in_capitals_is_pointed_at(extension, dataset):
    dataset.add('anat/T1w', 'anat/MESE')
    path = dataset.find('*_T1w.nii.gz')
    path.rename(path.with_name(f'sub-01_T1w{extension}'))
    (note,) = read(dataset).notes
    assert note == (
        f"'sub-01/anat/sub-01_T1w{extension}' is not read: write its extension in lower case"
    )


@pytest.mark.parametrize(
    'folder', ['with blanks', 'Gedächtnis 計算', 'x' * 200, "it's [1] {2} %s"]
)
def test_a_dataset_may_lie_in_any_folder(folder, tmp_path, collect):
    dataset = Dataset(tmp_path / folder / 'data').add('anat/T1w', 'anat/MESE', 'perf/asl')
    (unit,) = collect(dataset)
    assert unit.problems == ()
    outcome = dry(dataset)
    assert outcome.code == 0
    assert 'will be made   cbf' in outcome.out


@pytest.mark.parametrize('label', ['Sub1', 'ABC', '001', 'P01x', '1+2'])
def test_labels_may_hold_capitals_and_digits(label, dataset):
    dataset.add('anat/T1w', 'anat/MESE', sub=label)
    dataset.text(f'sub-{label}/sub-{label}_scans.tsv', 'filename\tacq_time\n')
    assert read(dataset).participants == (label,)
    assert f'sub-{label}: conditions none' in dry(dataset).out


def test_a_field_map_may_be_named_by_either_key(dataset, unit):
    dataset.add('anat/T1w', 'func/task-x_bold[calc]', 'func/task-y_bold[calc]')
    readout = {'PhaseEncodingDirection': 'j', 'TotalReadoutTime': 0.03}
    dataset.edit('*task-x_bold.json', **readout, B0FieldSource='named')
    dataset.edit('*task-y_bold.json', **readout)
    for run, purpose in (
        ('1', {'B0FieldIdentifier': 'named'}),
        ('2', {'IntendedFor': ['bids::sub-01/func/sub-01_task-y_bold.nii.gz']}),
    ):
        metadata = {'Units': 'Hz', **purpose}
        dataset.image(f'sub-01/fmap/sub-01_run-{run}_fieldmap.nii.gz', metadata=metadata)
        dataset.image(f'sub-01/fmap/sub-01_run-{run}_magnitude.nii.gz')
    found = {run.task: run.field_map.name for run in unit(dataset).bold}
    assert found == {'x': 'sub-01_run-1_fieldmap', 'y': 'sub-01_run-2_fieldmap'}


@pytest.mark.parametrize('many', [1, 5])
def test_an_intended_scan_that_is_not_there_is_said_once(many, dataset, unit):
    dataset.add('anat/T1w', 'perf/asl', 'func/task-x_bold[calc]')
    there = 'bids::sub-01/func/sub-01_task-x_bold.nii.gz'
    absent = [f'func/sub-01_task-z{number}_bold.nii.gz' for number in range(many)]
    dataset.image('sub-01/fmap/sub-01_fieldmap.nii.gz',
                  metadata={'Units': 'Hz', 'IntendedFor': [there, *absent]})  # fmt: skip
    dataset.image('sub-01/fmap/sub-01_magnitude.nii.gz')
    dataset.edit('*_m0scan.json', IntendedFor='perf/sub-01_aslx.nii.gz')
    notes = [note for note in unit(dataset).notes if 'IntendedFor names' in note]
    shown = ', '.join(absent[:3]) + (' and 2 more' if many > 3 else '')
    assert sorted(notes) == [
        f'sub-01_fieldmap.nii.gz: IntendedFor names {shown}, which the dataset does not have',
        'sub-01_m0scan.nii.gz: IntendedFor names perf/sub-01_aslx.nii.gz, which the dataset does '
        'not have',
    ]
    assert dry(dataset).out.count('IntendedFor names') == 2


# ------------------------------------------------------------------------- a task within ASL


def within_asl(dataset, rows=((10, 60, 'calc'), (130, 60, 'calc')), n_volumes=60):
    """One series of control and label with a table of events."""
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('*_asl.json', RepetitionTimePreparation=4.5, RepetitionTime=None)
    dataset.image('sub-01/perf/sub-01_asl.nii.gz', shape=(3, 3, 2, n_volumes))
    kinds = '\n'.join(['volume_type', *['label', 'control'] * (n_volumes // 2)])
    dataset.text('sub-01/perf/sub-01_aslcontext.tsv', kinds)
    lines = ['onset\tduration\ttrial_type', *('\t'.join(map(str, row)) for row in rows)]
    dataset.text('sub-01/perf/sub-01_events.tsv', '\n'.join(lines))
    return dataset


def test_blocks_within_an_asl_series_are_conditions_with_one_m0(dataset, unit):
    found = unit(within_asl(dataset))
    assert found.problems == ()
    assert [one.condition for one in found.asl] == ['calc', 'control']
    assert {one.file for one in found.asl} == {found.asl[0].file}
    assert all(one.m0.shared and one.repetition_time == 4.5 for one in found.asl)
    assert found.conditions == ('control', 'calc')
    assert {('cbf', 'calc'), ('cbf', 'control'), ('change_cbf', 'calcMinusControl')} <= made(found)
    outcome = dry(dataset)
    assert 'the conditions calc, control are those of the task within it' in outcome.out


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'PostLabelingDelay': [1.0, 1.0, 2.0, 2.0] * 15}, 'within a series of several delays'),
        ({'M0Type': 'Absent', 'BackgroundSuppression': True,
          'BackgroundSuppressionNumberPulses': 2}, 'within a series without M0'),
        ({'RepetitionTimePreparation': [4.5, 5.0] * 30}, 'needs one time between its volumes'),
    ],
)  # fmt: skip
def test_a_task_within_a_series_that_cannot_be_told_apart_is_refused(
    change, message, dataset, unit
):
    within_asl(dataset)
    dataset.edit('*_asl.json', **change)
    if 'M0Type' in change:
        for path in dataset.root.rglob('*_m0scan*'):
            path.unlink()
    found = unit(dataset)
    assert message in said(found)
    assert not {condition for name, condition in made(found) if name == 'cbf'}


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ([(10, 2, 'calc'), (130, 2, 'calc')], 'needs some longer than 6 s'),
        ([(0, 100, 'calc'), (100, 170, 'mem')], 'no baseline to compare with'),
    ],
)
def test_events_of_asl_without_blocks_or_baseline_are_refused(rows, message, dataset, unit):
    found = unit(within_asl(dataset, rows))
    assert message in said(found)
    assert found.asl == ()


def second_echo(dataset, time=0.03):
    """Give the series of :func:`within_asl` a second echo."""
    folder = dataset.root / 'sub-01/perf'
    for path in list(folder.glob('sub-01_asl.*')):
        for echo, own in ((1, 0.011), (2, time)):
            copy = folder / path.name.replace('sub-01_', f'sub-01_echo-{echo}_')
            copy.write_bytes(path.read_bytes())
            if path.suffix == '.json':
                copy.write_text(json.dumps(json.loads(path.read_text()) | {'EchoTime': own}))
        path.unlink()


def test_later_echoes_of_a_task_within_asl_are_bold(dataset, unit):
    second_echo(within_asl(dataset))
    found = unit(dataset)
    assert found.problems == ()
    (run,) = found.bold
    assert (run.task, run.echo_times, run.echo_time) == ('asl', (0.011, 0.03), 0.03)
    assert run.context == found.asl[0].context
    assert {('boldPct', 'calcMinusControl'), ('boldR2star', 'calcMinusControl'),
            ('change_cbf', 'calcMinusControl')} <= made(found)  # fmt: skip


def test_first_echo_of_asl_must_be_the_shortest(dataset, unit):
    second_echo(within_asl(dataset), time=0.005)
    found = unit(dataset)
    assert found.bold == ()
    assert 'must be the one of the shortest EchoTime' in said(found)


# ------------------------------------------------------------------ what is said, not only done


@pytest.mark.parametrize('parts', ['', '[phase]'])
def test_a_gradient_echo_without_phase_says_what_it_costs(parts, dataset, unit):
    dataset.add('anat/T1w', 'anat/MESE', f'anat/task-rest_MEGRE{parts}')
    notes = [note for note in unit(dataset).notes if 'no phase' in note]
    assert [('12 %' in note, '_MEGRE' in note) for note in notes] == [(True, True)] * (not parts)
    assert 'no phase' not in said(unit(dataset, settings={'ignore': ('phase',)}))


def test_an_m0_of_another_series_is_said(dataset, unit):
    dataset.add('anat/T1w', 'perf/acq-rest_asl', 'perf/acq-calc_asl')
    assert 'no m0scan of its own' not in said(unit(dataset))
    for path in dataset.root.rglob('*acq-calc_m0scan*'):
        path.unlink()
    found = unit(dataset)
    assert [one.m0.file.name for one in found.asl] == ['sub-01_acq-rest_m0scan.nii.gz'] * 2
    (note,) = [note for note in found.notes if 'no m0scan of its own' in note]
    assert note.startswith('sub-01_acq-calc_asl.nii.gz: ')
    assert 'sub-01_acq-rest_m0scan.nii.gz serves' in note


def test_of_what_undoing_distortion_needs_only_what_lacks_is_named(dataset, unit):
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('*_asl.json', PhaseEncodingDirection='j')
    (note,) = [note for note in unit(dataset).notes if 'distortion' in note]
    assert note.endswith('its sidecar needs EffectiveEchoSpacing or TotalReadoutTime')


def test_sessions_in_fields_of_different_strength_are_said_in_the_verdict(dataset, collect):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/task-rest_MEGRE', 'ses-b/anat/task-rest_MEGRE')
    assert not any('fields of different' in said(one) for one in collect(dataset))
    for path in dataset.root.rglob('*ses-b*_MEGRE.json'):
        dataset.edit(path.name, MagneticFieldStrength=1.5)
    units = collect(dataset)
    assert [one.b0 for one in units] == [3.0, 1.5]
    for one in units:
        (warning,) = [text for text in one.warnings if 'fields of different' in text]
        assert 'ses-a at 3 T, ses-b at 1.5 T' in warning
