"""Names of other software, of several versions, and what is refused."""

import json

import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import read_dataset
from bids_app.settings import RunSettings, Settings, resolve
from tests.e2e import support

SERIES = (3, 3, 2, 200)


@pytest.fixture
def collected(dataset):
    """Collect the only unit, with derivatives in d."""

    def collect(session=None):
        run = RunSettings(
            bids_dir=dataset.root,
            output_dir=dataset.root / 'out',
            level='participant',
            derivatives={'fmriprep': dataset.root / 'd'},
        )
        units = collect_participant(read_dataset(run), '01', run, Settings())
        return next(unit for unit in units if unit.session == session)

    return collect


def prepared(dataset, *names, folder='sub-01/func', stem='sub-01_task-all', shape=SERIES):
    """Write files that follow a raw series."""
    for name in names:
        path = f'd/{folder}/{stem}_{name}'
        if name.endswith('.nii.gz'):
            size = shape if 'bold.' in name or 'timeseries' in name else shape[:3]
            dataset.image(path, shape=size, metadata={'RepetitionTime': 1.2})
        elif name.endswith('.tsv'):
            dataset.text(path, 'trans_x\tcsf\n' + '0.1\t2\n' * shape[3])
        else:
            dataset.text(path, 'transform')


OLD = ('from-scanner_to-T1w_mode-image_xfm.txt', 'desc-preproc_bold.nii.gz', 'boldref.nii.gz',
       'desc-confounds_regressors.tsv')  # fmt: skip
NEW = ('from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt', 'desc-preproc_bold.nii.gz',
       'from-boldref_to-T1w_mode-image_desc-coreg_xfm.json', 'desc-coreg_boldref.nii.gz',
       'desc-hmc_boldref.nii.gz', 'desc-confounds_timeseries.tsv')  # fmt: skip
MIDDLE = ('from-scanner_to-T1w_mode-image_xfm.txt', 'from-T1w_to-scanner_mode-image_xfm.txt',
          'desc-preproc_bold.nii.gz', 'boldref.nii.gz', 'desc-brain_mask.nii.gz',
          'desc-confounds_timeseries.tsv')  # fmt: skip
FIELD = (
    *NEW[:-1],
    'from-boldref_to-auto00000_mode-image_xfm.txt',
    'from-orig_to-boldref_mode-image_desc-hmc_xfm.txt',
    'desc-brain_mask.nii.gz',
    NEW[-1],
)
T1W = ('space-T1w_desc-preproc_bold.nii.gz', 'space-T1w_boldref.nii.gz',
       'space-T1w_desc-brain_mask.nii.gz')  # fmt: skip
TEMPLATE = ('space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz',)


@pytest.mark.parametrize(
    'names',
    [OLD, MIDDLE, NEW, FIELD],
    ids=['to 20.1', '20.2 to 23.1', '23.2 on', 'with a field map'],
)
def test_run_on_its_own_grid_comes_with_transform_reference_and_confounds(
    dataset, collected, names
):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *names)
    (run,) = collected().bold
    assert run.file.name == 'sub-01_task-all_desc-preproc_bold.nii.gz'
    assert run.found.transform.name == f'sub-01_task-all_{names[0]}'
    assert run.found.reference.name.endswith(('-coreg_boldref.nii.gz', 'all_boldref.nii.gz'))
    assert run.found.confounds.name.endswith(names[-1])
    assert run.events
    assert run.echo_time == 0.03, 'the raw sidecar still counts'
    assert run.readout is None


def test_run_in_t1w_space_is_preferred_and_needs_no_transform(dataset, collected):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *NEW, *T1W, *TEMPLATE)
    (run,) = collected().bold
    assert run.file.name == 'sub-01_task-all_space-T1w_desc-preproc_bold.nii.gz'
    assert run.found.transform is None
    assert run.found.reference.name == 'sub-01_task-all_space-T1w_boldref.nii.gz'


def test_runs_and_sessions_are_told_apart_whatever_their_zeros(dataset, collected):
    for run in ('1', '2'):
        dataset.add(f'ses-a/func/task-all_run-{run}_bold[calc]')
    stem = 'sub-01_ses-a_task-all_run-02'
    prepared(dataset, *NEW, folder='sub-01/ses-a/func', stem=stem)
    first, second = collected('a').bold
    assert first.found is None
    assert second.found.source == 'fmriprep'


def test_run_in_template_space_only_is_not_used_and_that_is_said(dataset, collected):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *TEMPLATE, NEW[-1])
    unit = collected()
    assert unit.bold[0].found is None
    assert any('--output-spaces T1w' in note for note in unit.notes)


def test_slices_that_were_brought_to_one_time_are_at_that_time(dataset, collected):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *T1W)
    facts = {'RepetitionTime': 1.2, 'SliceTimingCorrected': True, 'StartTime': 0.58}
    dataset.edit('*space-T1w_desc-preproc_bold.json', **facts)
    unit = collected()
    assert unit.bold[0].slice_times == (0.58, 0.58)
    assert any('its movement is not' in note for note in unit.notes)


@pytest.mark.parametrize(('start', 'is_refused'), [(30.0, False), (30.3, True), (-1e-6, True)])
def test_start_time_has_the_range_that_is_declared(start, is_refused, dataset, collected):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *T1W)
    facts = {'RepetitionTime': 31.0, 'SliceTimingCorrected': True, 'StartTime': start}
    dataset.edit('*space-T1w_desc-preproc_bold.json', **facts)
    said = [one.message for one in collected().problems if 'StartTime = ' in one.message]
    assert bool(said) is is_refused
    assert all('is outside 0 to 30 s' in one for one in said)


@pytest.mark.parametrize('n_rows', [2, 199, 201])
def test_table_of_another_length_is_a_problem_that_names_both_in_the_dry_run(
    n_rows, dataset, collected
):
    dataset.add('func/task-all_bold[calc]')
    prepared(dataset, *NEW)
    table = 'd/sub-01/func/sub-01_task-all_desc-confounds_timeseries.tsv'
    dataset.text(table, 'csf\n' + '1\n' * n_rows)
    unit = collected()
    assert not unit.bold
    said = f'has {n_rows} rows but sub-01_task-all_desc-preproc_bold.nii.gz has 200 volumes'
    assert any(said in item.message for item in unit.problems)
    outcome = support.run_app(
        dataset.root, dataset.root.parent / 'o', 'participant', '--dry-run',
        '-d', f'fmriprep={dataset.root / "d"}',
    )  # fmt: skip
    assert said in outcome.out


def cbf(dataset, *names, units='mL/100 g/min'):
    """Write CBF as ASLPrep names it."""
    prepared(dataset, *names, folder='sub-01/perf', stem='sub-01_acq-calc', shape=(3, 3, 2, 6))
    for path in (dataset.root / 'd').rglob('*_cbf.json'):
        path.write_text(json.dumps({'Units': units}))


ASLPREP = ('desc-timeseries_cbf.nii.gz', 'cbf.nii.gz', 'desc-coreg_aslref.nii.gz',
           'from-aslref_to-T1w_mode-image_xfm.txt')  # fmt: skip
ASLPREP_NEW = (*ASLPREP[:-1], 'from-orig_to-aslref_mode-image_desc-hmc_xfm.txt',
               'from-aslref_to-auto00000_mode-image_desc-fmap_xfm.txt',
               'from-aslref_to-T1w_mode-image_desc-coreg_xfm.txt')  # fmt: skip


@pytest.mark.parametrize('names', [ASLPREP, ASLPREP_NEW], ids=['older', 'newer'])
def test_cbf_of_every_pair_is_taken_before_their_mean(dataset, collected, names):
    dataset.add('perf/acq-calc_asl', 'perf/acq-control_asl')
    cbf(dataset, *names)
    found, own = collected().asl
    assert found.file.name == 'sub-01_acq-calc_desc-timeseries_cbf.nii.gz'
    assert found.context == ('cbf',) * 6
    assert found.m0.kind == 'Unneeded'
    assert found.found.reference.name == 'sub-01_acq-calc_desc-coreg_aslref.nii.gz'
    assert own.found is None


def test_mean_cbf_alone_is_taken_and_said(dataset, collected):
    dataset.add('perf/acq-calc_asl')
    cbf(dataset, 'space-T1w_cbf.nii.gz')
    unit = collected()
    assert unit.asl[0].context == ('cbf',)
    assert any('upper bound' in note for note in unit.notes)


@pytest.mark.parametrize(('units', 'is_taken'), [('ml/100g/min', True), ('ml/g/s', False)])
def test_cbf_of_another_unit_is_refused(dataset, collected, units, is_taken):
    dataset.add('perf/acq-calc_asl')
    cbf(dataset, 'space-T1w_cbf.nii.gz', units=units)
    unit = collected()
    assert bool(unit.asl) is is_taken
    assert is_taken is not any(units in item.message for item in unit.problems)


def raw_echoes(dataset):
    """A run of two echoes, with the events of one."""
    dataset.add('func/task-all_bold[calc]')
    (dataset.root / 'sub-01/func/sub-01_task-all_bold.nii.gz').unlink()
    for echo, time in ((1, 0.013), (2, 0.03)):
        dataset.image(
            f'sub-01/func/sub-01_task-all_echo-{echo}_bold.nii.gz',
            shape=SERIES,
            metadata={'RepetitionTime': 1.2, 'EchoTime': time},
        )


def test_echoes_that_were_preprocessed_stand_for_the_raw_ones(dataset, collected):
    raw_echoes(dataset)
    prepared(dataset, *NEW, *T1W, 'echo-1_desc-preproc_bold.nii.gz',
             'echo-2_desc-preproc_bold.nii.gz')  # fmt: skip
    (run,) = collected().bold
    assert [path.name for path in run.files] == [
        f'sub-01_task-all_echo-{echo}_desc-preproc_bold.nii.gz' for echo in (1, 2)
    ]
    assert run.echo_times == (0.013, 0.03)
    assert run.found.transform.name.startswith('sub-01_task-all_from-boldref_to-T1w')


def test_a_series_combined_from_echoes_belongs_to_no_echo_time(dataset, collected):
    raw_echoes(dataset)
    prepared(dataset, *NEW, 'echo-1_desc-preproc_bold.nii.gz')
    unit = collected()
    (run,) = unit.bold
    assert run.file.name == 'sub-01_task-all_desc-preproc_bold.nii.gz'
    assert (run.echoes, run.echo_time) == ((), None)
    assert any('--me-output-echos' in note for note in unit.notes)


def denoised(dataset, stem, *, rejected=('ICA_01',), n_volumes=200, verbose=False, shape=SERIES):
    """Write what tedana leaves of a run, with the stem as prefix or as folder."""
    name = f'd/{stem}'
    if verbose:
        for echo in (1, 2):
            dataset.image(f'{name}echo-{echo}_desc-Denoised_bold.nii.gz', shape=shape)
    dataset.image(f'{name}desc-denoised_bold.nii.gz', shape=shape)
    rows = [f'{one}\t{"rejected" if one in rejected else "accepted"}' for one in ICA]
    dataset.text(f'{name}desc-tedana_metrics.tsv', '\n'.join(['Component\tclassification', *rows]))
    courses = ['\t'.join(ICA), *['0.1\t-0.2\t0.3'] * n_volumes]
    dataset.text(f'{name}desc-ICA_mixing.tsv', '\n'.join(courses))


ICA = ('ICA_00', 'ICA_01', 'ICA_02')
RUN = 'sub-01_task-all'


@pytest.fixture
def with_tedana(dataset, collected):
    """Collect the only unit; what fMRIPrep and tedana left lies in one folder."""

    def collect(**settings):
        raw = dataset.root / 'd'
        names = ('fmriprep', 'tedana') if settings.pop('fmriprep', True) else ('tedana',)
        run = RunSettings(
            bids_dir=dataset.root, output_dir=dataset.root / 'out', level='participant',
            derivatives=dict.fromkeys(names, raw),
        )  # fmt: skip
        chosen = resolve(command_line=settings)
        (unit,) = collect_participant(read_dataset(run), '01', run, chosen)
        return unit

    return collect


@pytest.mark.parametrize(
    'stem', [f'sub-01/func/{RUN}_', f'sub-01/func/{RUN}/', f'{RUN}_', f'{RUN}/'],
)  # fmt: skip
def test_series_of_tedana_goes_before_the_echoes_and_lies_where_they_do(
    dataset, with_tedana, stem
):
    raw_echoes(dataset)
    prepared(dataset, *NEW, *(f'echo-{echo}_desc-preproc_bold.nii.gz' for echo in (1, 2)))
    dataset.edit('*echo-1_desc-preproc_bold.json', SliceTimingCorrected=True, StartTime=0.58)
    denoised(dataset, stem)
    unit = with_tedana()
    (run,) = unit.bold
    assert run.file.name.endswith('desc-denoised_bold.nii.gz')
    assert (run.echoes, run.echo_time) == ((), None)
    assert run.found.source == 'tedana'
    assert run.found.transform.name.startswith(f'{RUN}_from-boldref_to-T1w')
    assert run.found.reference.name == f'{RUN}_desc-coreg_boldref.nii.gz'
    assert run.found.confounds.name == f'{RUN}_desc-confounds_timeseries.tsv'
    assert run.found.rejected == ('ICA_01',)
    assert run.slice_times == (0.58, 0.58)
    assert {run.found.components, run.found.classification} <= set(unit.files)


def test_echoes_that_tedana_denoised_one_by_one_keep_their_echo_times(dataset, with_tedana):
    raw_echoes(dataset)
    prepared(dataset, *NEW, *(f'echo-{echo}_desc-preproc_bold.nii.gz' for echo in (1, 2)))
    denoised(dataset, f'sub-01/func/{RUN}_', verbose=True)
    (run,) = with_tedana().bold
    assert [path.name for path in run.files] == [
        f'{RUN}_echo-{echo}_desc-Denoised_bold.nii.gz' for echo in (1, 2)
    ]
    assert run.echo_times == (0.013, 0.03)


def test_series_of_tedana_in_t1w_space_needs_no_other_derivatives(dataset, with_tedana):
    raw_echoes(dataset)
    denoised(dataset, f'sub-01/func/{RUN}_space-T1w_')
    (run,) = with_tedana(fmriprep=False).bold
    assert run.found.source == 'tedana'
    assert run.found.transform is None
    assert run.echo_time is None


def _no_table(dataset):
    dataset.find('*desc-ICA_mixing.tsv').unlink()


def _no_global_signal(dataset):
    dataset.image(f'd/sub-01/func/{RUN}_desc-optcomNoGlobalSignal_bold.nii.gz', shape=SERIES)


def _other_run(dataset):
    for path in list((dataset.root / 'd').rglob(f'{RUN}_desc-*')):
        path.rename(path.with_name(path.name.replace('task-all', 'task-other')))


@pytest.mark.parametrize(
    ('spoil', 'fmriprep', 'reason'),
    [
        (_no_table, True, 'desc-ICA_mixing.tsv is not beside'),
        (_no_global_signal, True, 'without --gscontrol gsr'),
        (_other_run, True, 'no desc-denoised_bold of'),
        (None, False, '--me-output-echos'),
    ],
)
def test_what_tedana_left_that_cannot_be_used_is_named_and_the_echoes_are_taken(
    dataset, with_tedana, spoil, fmriprep, reason
):
    raw_echoes(dataset)
    denoised(dataset, f'sub-01/func/{RUN}_')
    if spoil:
        spoil(dataset)
    unit = with_tedana(fmriprep=fmriprep)
    assert unit.bold[0].found is None
    assert len(unit.bold[0].echoes) == 2
    assert any('derivatives tedana' in note and reason in note for note in unit.notes)


@pytest.mark.parametrize(
    ('options', 'settings', 'message'),
    [
        ({'n_volumes': 199}, {}, 'has 199 rows'),
        ({'rejected': ('ICA_00', 'ICA_01', 'ICA_02')}, {}, 'accepted no component'),
        ({'shape': (4, 3, 2, 200)}, {}, 'has another grid than'),
        ({}, {'bold.estimator': 'block-median'}, 'use bold.estimator'),
    ],
)
def test_tables_and_grids_that_do_not_belong_together_are_problems(
    dataset, with_tedana, options, settings, message
):
    raw_echoes(dataset)
    prepared(dataset, *NEW, *(f'echo-{echo}_desc-preproc_bold.nii.gz' for echo in (1, 2)))
    denoised(dataset, f'sub-01/func/{RUN}_', **options)
    unit = with_tedana(**settings)
    assert not unit.bold
    assert any(message in item.message for item in unit.problems)
