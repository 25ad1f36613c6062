"""From a dataset to units: selection, filters, sessions, what is lost and what is only absent."""

import dataclasses

import pytest

from bids_app.bids.input.dataset import (
    check_selection,
    has_data,
    read_dataset,
    select_participants,
)
from bids_app.errors import DatasetError, ExitCode, InputDataError, SelectionError, SettingsError
from bids_app.settings import RunSettings

MEGRE = ('anat/task-control_MEGRE', 'anat/task-calc_MEGRE')


def run_of(dataset, **options):
    return RunSettings(
        bids_dir=dataset.root, output_dir=dataset.root / 'out', level='participant', **options
    )


def test_missing_or_malformed_description_is_refused_with_a_hint(dataset, collect):
    dataset.add('anat/T1w')
    path = dataset.root / 'dataset_description.json'
    for content in (None, '', '{', '{"Name": "x"}'):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(DatasetError, match='BIDSVersion') as caught:
            read_dataset(run_of(dataset))
        assert caught.value.exit_code == ExitCode.INVALID_DATASET
        (unit,) = collect(dataset, skip_bids_validation=True)
        assert len(unit.t1w) == 1


def test_folder_that_does_not_exist_is_a_usage_error(dataset):
    with pytest.raises(SettingsError, match='not a folder'):
        read_dataset(dataclasses.replace(run_of(dataset), bids_dir=dataset.root / 'no'))


def test_participants_are_folders_not_stray_files(dataset):
    dataset.add('anat/T1w', sub='02').add('anat/T1w', sub='01')
    dataset.text('sub-yv98_ses-4088+4137_QSM.nii.gz', '')
    dataset.text('participants.tsv', 'participant_id\nsub-01\nsub-03\n')
    assert read_dataset(run_of(dataset)).participants == ('01', '02')


@pytest.mark.parametrize('label', ['02', 'sub-02'])
def test_labels_are_taken_with_and_without_prefix(dataset, label):
    dataset.add('anat/T1w', sub='01').add('anat/T1w', sub='02')
    run = run_of(dataset, participants=(label,))
    assert select_participants(read_dataset(run), run) == ('02',)


def test_unknown_labels_are_named_with_those_that_exist(dataset, collect):
    dataset.add('ses-a/anat/T1w').add('anat/T1w', 'func/task-x_bold[calc]', sub='02')
    cases = {
        'participants': (('02', '09'), r'09 not in the dataset; there are: 01, 02'),
        'sessions': (('ses-z',), r'z not in the dataset; there are: a'),
        'tasks': (('y',), r'y not in the dataset; there are: x'),
    }
    for field, (labels, text) in cases.items():
        with pytest.raises(SelectionError, match=text) as caught:
            collect(dataset, **{field: labels})
        assert caught.value.exit_code == ExitCode.NOTHING_SELECTED


def test_dataset_without_participants_selects_nothing(dataset):
    run = run_of(dataset)
    with pytest.raises(SelectionError, match='no sub- folder'):
        select_participants(read_dataset(run), run)


def test_session_label_keeps_its_session_and_the_participants_who_have_it(dataset, collect):
    dataset.add('ses-a/anat/MESE', 'ses-b/anat/MESE').add('ses-a/anat/MESE', sub='02')
    found = collect(dataset, sessions=('ses-b',))
    assert [unit.label for unit in found] == ['sub-01_ses-b']


def test_task_label_restricts_runs_and_trial_types(dataset, collect):
    dataset.add('func/task-x_bold[calc]', 'func/task-y_bold[mem]')
    (unit,) = collect(dataset, tasks=('task-y',))
    assert [run.task for run in unit.bold] == ['y']
    assert unit.conditions == ('control', 'mem')


def test_filters_choose_between_acquisitions_that_are_otherwise_ambiguous(dataset, collect):
    dataset.add('anat/task-a_acq-full_MEGRE', 'anat/task-a_acq-half_MEGRE')
    (unit,) = collect(dataset)
    assert unit.megre == ()
    assert 'differ in acquisition' in unit.problems[0].message
    filters = {'megre_mag': {'acquisition': 'full'}}
    (unit,) = collect(dataset, bids_filters=filters)
    assert unit.problems == ()
    assert all('acq-full' in path.name for path in unit.megre[0].magnitude)


def test_two_files_for_one_echo_are_ambiguous(dataset, collect):
    dataset.add('anat/MESE')
    dataset.image('sub-01/anat/sub-01_echo-2_part-mag_MESE.nii.gz', metadata={'EchoTime': 0.032})
    (unit,) = collect(dataset)
    assert 'choose with --bids-filter-file' in unit.problems[0].message


def echoes(dataset, *times, stem='sub-01/func/sub-01_task-x', shape=(3, 3, 2, 200)):
    """Echoes of one BOLD run, with its events."""
    for number, time in enumerate(times, start=1):
        about = {'RepetitionTime': 1.2} | ({'EchoTime': time} if time else {})
        dataset.image(f'{stem}_echo-{number}_bold.nii.gz', shape=shape, metadata=about)
    dataset.text(f'{stem}_events.tsv', 'onset\tduration\ttrial_type\n30\t30\tcalc\n')


def test_echoes_of_bold_are_one_run_in_order_of_echo_time(dataset, collect):
    echoes(dataset, 0.03, 0.013, 0.047)
    (unit,) = collect(dataset)
    assert unit.problems == ()
    (run,) = unit.bold
    assert run.echo_times == (0.013, 0.03, 0.047)
    assert [path.name[14:20] for path in run.files] == ['echo-2', 'echo-1', 'echo-3']
    assert run.file == run.echoes[0]
    assert run.echo_time == 0.03, 'that of the middle echo'
    (unit,) = collect(dataset, settings={'bold.echo_time': 0.035})
    assert unit.bold[0].echo_time == 0.035


def test_one_echo_of_bold_can_be_chosen(dataset, collect):
    echoes(dataset, 0.013, 0.03)
    (unit,) = collect(dataset, bids_filters={'bold': {'echo': 2}})
    (run,) = unit.bold
    assert (run.echoes, run.echo_time) == ((), 0.03)


@pytest.mark.parametrize(
    ('defect', 'message'),
    [
        ('gap', 'echoes 2 missing'),
        ('time', 'EchoTime is missing'),
        ('same', 'every echo needs its own EchoTime'),
        ('shape', 'must share one grid'),
    ],
)
def test_defective_echoes_of_bold_are_one_problem_that_says_what_to_do(
    dataset, collect, defect, message
):
    echoes(dataset, 0.013, {'time': None, 'same': 0.013}.get(defect, 0.03), 0.047)
    second = dataset.root / 'sub-01/func/sub-01_task-x_echo-2_bold.nii.gz'
    if defect == 'gap':
        second.unlink()
    if defect == 'shape':
        dataset.image(str(second.relative_to(dataset.root)), shape=(3, 3, 2, 150))
    (unit,) = collect(dataset)
    assert unit.bold == ()
    assert message in ' '.join(problem.message for problem in unit.problems)
    assert {problem.role for problem in unit.problems} == {'bold'}


def test_echoes_of_asl_give_flow_from_the_first_one(dataset, collect):
    dataset.add('perf/echo-1_asl', 'perf/echo-2_asl')
    (unit,) = collect(dataset)
    (series,) = unit.asl
    assert 'echo-1' in series.file.name
    assert unit.bold == ()
    assert any('later echoes of this ASL series are not used' in note for note in unit.notes)


def test_filters_that_leave_nothing_select_nothing(dataset, collect):
    dataset.add('anat/T1w')
    units = collect(dataset, bids_filters={'t1w': {'acquisition': 'none'}})
    assert not has_data(units[0])
    with pytest.raises(SelectionError, match='none of the images'):
        check_selection(units)
    check_selection(collect(dataset))


def test_absent_modalities_are_notes_and_ignored_ones_say_so(dataset, collect):
    dataset.add('anat/T1w', 'perf/asl', 'func/task-x_bold[calc]')
    (unit,) = collect(dataset, settings={'ignore': ('bold',)})
    assert unit.problems == ()
    assert unit.bold == ()
    assert unit.conditions == ()
    assert 'no MESE (multi-echo spin echo)' in unit.notes
    assert 'no task BOLD run (--ignore)' in unit.notes


def test_participant_without_a_condition_loses_a_chosen_contrast_only(dataset, collect):
    dataset.add(*MEGRE).add(MEGRE[0], sub='02')
    first, second = collect(dataset)
    assert (len(first.contrasts), second.contrasts, second.problems) == (1, (), ())
    assert any('calc-control is not made' in note for note in second.notes)
    first, second = collect(dataset, settings={'contrasts': ('calc-control',)})
    assert (first.problems, [p.role for p in second.problems]) == ((), ['conditions'])
    assert len(second.megre) == 1


def test_baseline_is_that_of_the_dataset_not_of_the_participant(dataset, collect):
    dataset.add(*MEGRE).add('anat/task-rest_MEGRE', 'anat/task-calc_MEGRE', sub='02')
    found = collect(dataset, participants=('02',))
    assert [unit.baseline for unit in found] == ['control']
    assert found[0].contrasts == ()


def test_gradient_echo_without_magnitude_is_defective(dataset, collect):
    dataset.image('sub-01/anat/sub-01_task-a_echo-1_part-phase_MEGRE.nii.gz')
    (unit,) = collect(dataset)
    assert (unit.megre, [p.role for p in unit.problems]) == ((), ['megre_mag'])


def test_plainest_t1w_is_used_with_its_runs_and_the_others_are_named(dataset, collect):
    dataset.add('anat/ce-gad_T1w', 'anat/run-1_T1w', 'anat/run-2_T1w')
    (unit,) = collect(dataset)
    assert [path.name for path in unit.t1w] == [
        'sub-01_run-1_T1w.nii.gz', 'sub-01_run-2_T1w.nii.gz',
    ]  # fmt: skip
    assert any('ce-gad_T1w.nii.gz is not used' in note for note in unit.notes)


def test_derivatives_of_fmriprep_replace_the_t1w_image(dataset, collect):
    dataset.add('anat/T1w')
    names = ('desc-preproc_T1w', 'desc-brain_mask', *(f'label-{t}_probseg' for t in TISSUES))
    for name in names:
        dataset.image(f'derivatives/fmriprep/sub-01/anat/sub-01_{name}.nii.gz')
    (unit,) = collect(dataset, derivatives={'fmriprep': dataset.root / 'derivatives/fmriprep'})
    assert (unit.t1w, unit.anatomy.source) == ((), 'fmriprep')
    assert unit.anatomy.t1w in unit.files
    with pytest.raises(SettingsError, match='no such folder'):
        collect(dataset, derivatives={'fmriprep': dataset.root / 'nowhere'})
    (unit,) = collect(dataset, derivatives={'other': dataset.root / 'derivatives'})
    assert (len(unit.t1w), unit.anatomy) == (1, None)
    assert any('derivatives other: no complete anatomy' in note for note in unit.notes)


@pytest.mark.parametrize(
    ('place', 'names', 'said'),
    [
        ('up/fmriprep', ('desc-preproc_T1w',), 'there is one in'),
        ('up', ('T1w_preproc',), 'those of fMRIPrep before 1.2, which are not read'),
        ('up', ('desc-preproc_T1w', 'desc-brain_mask', 'label-GM_probseg', 'label-WM_probseg'),
         'anat has no label-CSF_probseg'),
    ],
)  # fmt: skip
def test_derivatives_that_lack_an_anatomy_say_what_and_where(place, names, said, dataset, collect):
    dataset.add('anat/T1w')
    for name in names:
        dataset.image(f'{place}/sub-01/anat/sub-01_{name}.nii.gz')
    (unit,) = collect(dataset, derivatives={'up': dataset.root / 'up'})
    assert unit.anatomy is None
    (note,) = [note for note in unit.notes if 'no complete anatomy' in note]
    assert said in note


TISSUES = ('GM', 'WM', 'CSF')


def test_every_file_the_result_depends_on_is_listed_once_and_sorted(dataset, collect):
    dataset.add('anat/T1w', 'perf/asl', 'func/task-x_bold[calc]')
    dataset.json('task-x_bold.json', {'Manufacturer': 'x'})
    dataset.text('participants.tsv', 'participant_id\tage\nsub-01\t20\n')
    (unit,) = collect(dataset)
    names = [str(path.relative_to(dataset.root)) for path in unit.files]
    assert names == sorted(names)
    assert set(names) == {
        'participants.tsv', 'task-x_bold.json', 'sub-01/anat/sub-01_T1w.nii.gz',
        'sub-01/perf/sub-01_asl.nii.gz', 'sub-01/perf/sub-01_asl.json',
        'sub-01/perf/sub-01_aslcontext.tsv', 'sub-01/perf/sub-01_m0scan.nii.gz',
        'sub-01/perf/sub-01_m0scan.json', 'sub-01/func/sub-01_task-x_bold.nii.gz',
        'sub-01/func/sub-01_task-x_bold.json', 'sub-01/func/sub-01_task-x_events.tsv',
    }  # fmt: skip


def test_collecting_changes_nothing_in_the_dataset(dataset, collect):
    dataset.add('anat/T1w', *MEGRE, 'perf/asl')
    before = {path: path.stat().st_mtime_ns for path in dataset.root.rglob('*')}
    collect(dataset)
    assert before == {path: path.stat().st_mtime_ns for path in dataset.root.rglob('*')}


def test_undeclared_unit_of_haematocrit_stops_the_run_with_the_lines_to_add(dataset, collect):
    dataset.add('anat/T1w')
    dataset.text('participants.tsv', 'participant_id\tHct\tO2sat\nsub-01\t40.2\t98\n')
    with pytest.raises(InputDataError, match=r'"Hct": \{"Units": "percent"\}') as caught:
        collect(dataset)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    (unit,) = collect(dataset, settings={'oxygen.hct': 0.4, 'oxygen.sao2': 0.97})
    assert (unit.hct, unit.sao2) == (0.4, 0.97)


def test_dataset_may_be_given_by_a_relative_path_or_a_link(dataset, collect, monkeypatch):
    dataset.add('anat/MESE')
    (before,) = collect(dataset)
    link = dataset.root.parent / 'link'
    link.symlink_to(dataset.root)
    monkeypatch.chdir(dataset.root.parent)
    for name in ('data', link):
        dataset.root = type(link)(name)
        (unit,) = collect(dataset)
        assert unit.problems == ()
        assert [p.name for p in unit.files] == [p.name for p in before.files]
        assert all(path.is_relative_to(dataset.root) for path in unit.files)


def test_blood_volume_of_a_chosen_condition_serves_all(dataset, collect):
    dataset.add(*MEGRE, 'perf/acq-control_dsc', 'perf/acq-calc_dsc')
    (unit,) = collect(dataset)
    assert [series.condition for series in unit.dsc] == ['calc', 'control']
    (unit,) = collect(dataset, settings={'blood_volume.from_condition': 'control'})
    assert [(one.condition, one.file.name) for one in unit.dsc] == [
        (None, 'sub-01_acq-control_dsc.nii.gz')
    ]
    assert any('blood volume is that of control' in note for note in unit.notes)
    (unit,) = collect(dataset, settings={'blood_volume.from_condition': 'rest'})
    assert unit.dsc == ()
    assert 'there are: calc, control' in unit.problems[0].message


def test_blood_volume_of_a_chosen_session_serves_those_without(dataset, collect):
    dataset.add('ses-a/anat/task-control_MEGRE', 'ses-a/perf/dsc', 'ses-b/anat/task-control_MEGRE')
    first, second = collect(dataset)
    assert (len(first.dsc), len(second.dsc)) == (1, 0)
    first, second = collect(dataset, settings={'blood_volume.from_session': 'ses-a'})
    assert second.dsc[0].file == first.dsc[0].file
    assert any('session a' in note for note in second.notes)
    assert not any('session a' in note for note in first.notes)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({}, 'taken not to change'),
        ({'blood_volume.task_change': 'grubb'}, 'by the power law'),
        ({'blood_volume.model': 'literature'}, '--cbv-model literature'),
        ({'blood_volume.accepted_defects': ('motion',)}, 'motion'),
    ],
)
def test_choice_of_blood_volume_is_said(dataset, collect, settings, words):
    dataset.add(*MEGRE, 'anat/T1w', 'perf/dsc', 'perf/acq-control_asl', 'perf/acq-calc_asl')
    (unit,) = collect(dataset, settings=settings)
    assert any(words in note for note in unit.notes)


def test_table_of_parcels_must_be_given_and_exist(dataset, collect):
    dataset.add(*MEGRE)
    with pytest.raises(SettingsError, match='needs blood_volume'):
        collect(dataset, settings={'blood_volume.task_change': 'parcels'})
    with pytest.raises(SettingsError, match='no such file'):
        collect(dataset, settings={'blood_volume.parcel_table': 'nowhere.tsv'})


def test_t1w_series_is_refused_by_name_and_the_rest_is_done(dataset, collect):
    dataset.add('anat/MESE')
    path = dataset.image('sub-01/anat/sub-01_T1w.nii.gz', shape=(3, 3, 2, 5), metadata={})
    (found,) = collect(dataset)
    (problem,) = found.problems
    assert problem.message == f'{path.name} should be a 3D image, its shape is (3, 3, 2, 5)'
    assert found.t1w == ()
    assert len(found.mese) == 1
