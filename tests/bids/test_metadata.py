"""Acquisitions in SI from sidecars, tables and headers; one clear message per defect."""

import gzip
import json

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.metadata import inspect_files, without_defects
from bids_app.errors import ExitCode

FULL = (
    'anat/T1w', 'anat/MESE', 'anat/task-control_MEGRE[phase]', 'anat/task-calc_MEGRE[phase]',
    'perf/acq-control_asl', 'perf/acq-calc_asl', 'perf/dsc', 'func/task-all_bold[calc]',
)  # fmt: skip


@pytest.fixture
def full(dataset):
    return dataset.add(*FULL)


@pytest.fixture
def unit(collect):
    def one(dataset, **options):
        (found,) = collect(dataset, **options)
        return found

    return one


def only_problem(found, *words, role, code=ExitCode.BAD_INPUT):
    """Assert that there is one problem, that it says these words, and return it."""
    assert len(found.problems) == 1, [problem.message for problem in found.problems]
    (problem,) = found.problems
    assert (problem.role, problem.code) == (role, code)
    for word in words:
        assert word in problem.message
    return problem


def test_complete_participant_has_no_problem_and_si_units(full, unit):
    found = unit(full)
    assert found.problems == ()
    assert found.mese[0].echo_times == pytest.approx((0.016, 0.032, 0.048, 0.064))
    assert found.megre[0].echo_times == pytest.approx((0.005, 0.01, 0.015, 0.02))
    assert [len(series.phase) for series in found.megre] == [4, 4]
    asl = found.asl[0]
    assert asl.context == ('label', 'control') * 3
    assert asl.post_label_delay == (1.8,) * 6
    assert asl.slice_times == (0.0, 0.045)
    assert asl.background_suppression_factor == pytest.approx(0.93**4)
    assert (asl.m0.kind, asl.m0.repetition_time, asl.m0.shared) == ('Separate', 4.5, False)
    assert (found.dsc[0].echo_time, found.dsc[0].repetition_time) == (0.03, 1.5)
    assert (found.bold[0].repetition_time, found.bold[0].n_volumes) == (1.2, 200)
    assert [event.onset for event in found.bold[0].events] == [30, 90, 150, 210]
    assert found.b0 == 3.0


@pytest.mark.parametrize(
    'case',
    [
        ('*echo-2_MESE.json', 'EchoTime', 32, 'mese', '0.032'),
        ('*control_echo-1_part-mag_MEGRE.json', 'EchoTime', 5.0, 'megre_mag', '0.005'),
        ('*control_asl.json', 'PostLabelingDelay', 1800, 'asl', '1.8'),
        ('*control_asl.json', 'LabelingDuration', 1800, 'asl', '1.8'),
        ('*control_asl.json', 'SliceTiming', [0, 45], 'asl', '0.045'),
        ('*control_m0scan.json', 'RepetitionTimePreparation', 4500, 'm0', '4.5'),
        ('*dsc.json', 'RepetitionTime', 1500, 'dsc', '1.5'),
        ('*dsc.json', 'EchoTime', 30, 'dsc', '0.03'),
        ('*bold.json', 'RepetitionTime', 1200, 'bold', '1.2'),
    ],
)
def test_milliseconds_are_refused_with_file_field_value_and_fix(full, unit, case):
    pattern, key, value, role, fixed = case
    path = full.edit(pattern, **{key: value})
    problem = only_problem(
        unit(full), key, 'milliseconds: divide by 1000', f'write {fixed}', path.name, role=role
    )
    assert problem.file.name.split('.')[0] == path.name.split('.')[0]


@pytest.mark.parametrize('value', ['0.016', None, True, [0.016], float('nan')])
def test_echo_time_that_is_no_number_is_refused(full, unit, value):
    path = full.find('*echo-2_MESE.json')
    path.write_text(json.dumps({'EchoTime': value, 'MagneticFieldStrength': 3}))
    only_problem(unit(full), 'EchoTime', role='mese')


def test_all_problems_of_a_participant_are_found_at_once(full, unit):
    full.edit('*echo-2_MESE.json', EchoTime=32)
    full.edit('*calc_asl.json', PostLabelingDelay=None, LabelingDuration=1800)
    full.find('*task-calc_echo-3_part-mag_MEGRE.nii.gz').unlink()
    full.edit('*dsc.json', EchoTime=None)
    found = unit(full)
    assert [(p.role, p.condition) for p in found.problems] == [
        ('mese', None), ('megre_mag', 'calc'), ('megre_mag', 'calc'), ('asl', 'calc'),
        ('asl', 'calc'), ('dsc', None),
    ]  # fmt: skip
    assert found.mese == found.dsc == ()
    assert [series.condition for series in (*found.megre, *found.asl)] == ['control', 'control']
    assert len(found.bold) == 1


def test_gap_in_the_echoes_is_defective(full, unit):
    full.find('*echo-2_MESE.nii.gz').unlink()
    found = unit(full)
    only_problem(found, 'echoes 2 missing', '1, 3, 4', role='mese')
    assert found.mese == ()


def test_missing_first_echo_is_defective(full, unit):
    full.find('*echo-1_MESE.nii.gz').unlink()
    only_problem(unit(full), 'echoes 1 missing', role='mese')


def test_fewer_echoes_in_one_condition_or_part_is_defective(full, unit):
    for part in ('mag', 'phase'):
        full.find(f'*task-calc_echo-4_part-{part}_MEGRE.nii.gz').unlink()
    found = unit(full)
    problem = only_problem(found, '3 echoes where another condition', '4', role='megre_mag')
    assert problem.condition == 'calc'
    full.find('*task-control_echo-4_part-phase_MEGRE.nii.gz').unlink()
    assert 'but 3 of phase' in ' '.join(p.message for p in unit(full).problems)


def test_echo_of_another_size_or_place_is_defective(full, unit):
    full.image('sub-01/anat/sub-01_echo-2_MESE.nii.gz', shape=(3, 4, 2))
    full.image('sub-01/anat/sub-01_echo-3_MESE.nii.gz', affine=np.diag([1, 1, 2, 1]))
    first, second = unit(full).problems
    assert '(3, 4, 2)' in first.message
    assert 'another affine' in second.message
    assert first.file.name == 'sub-01_echo-2_MESE.nii.gz'


def test_echo_times_that_do_not_rise_are_defective(full, unit):
    full.edit('*echo-3_MESE.json', EchoTime=0.016)
    only_problem(unit(full), 'must rise', '0.016, 0.032, 0.016', role='mese')


def test_phase_that_is_not_in_radians_is_left_out_and_said(full, unit):
    for echo in range(1, 5):
        full.edit(f'*calc_echo-{echo}_part-phase_MEGRE.json', Units='arbitrary')
    found = unit(full)
    assert found.problems == ()
    assert {series.condition: len(series.phase) for series in found.megre} == {
        'calc': 0, 'control': 4,
    }  # fmt: skip
    assert any('phase is not used' in note and 'arbitrary' in note for note in found.notes)


def test_dangling_links_are_not_fetched_with_the_command_to_fetch(full, unit):
    path = full.find('*dsc.nii.gz')
    path.unlink()
    path.symlink_to('.git/annex/objects/x')
    problem = only_problem(
        unit(full), 'not fetched', f'datalad get {path}', role='dsc', code=ExitCode.MISSING_INPUT
    )
    assert problem.file == path


def test_series_without_content_gives_one_message(full, unit):
    for path in full.root.rglob('*MESE.nii.gz'):
        path.write_text('/annex/objects/SHA256E-s1--0.nii.gz\n')
    code = ExitCode.MISSING_INPUT
    only_problem(unit(full), '4 of 4', 'datalad get', role='mese', code=code)


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x1f\x8b\x08\x00\x00'])
def test_empty_truncated_or_foreign_file_cannot_be_opened(full, unit, content):
    full.find('*bold.nii.gz').write_bytes(content)
    found = unit(full)
    problem = only_problem(found, 'bold.nii.gz', role='bold', code=ExitCode.MISSING_INPUT)
    assert problem.file.name == 'sub-01_task-all_bold.nii.gz'
    assert found.bold == ()


@pytest.mark.parametrize(
    ('content', 'words', 'code'),
    [
        ('', 'empty', ExitCode.MISSING_INPUT),
        ('{', 'not valid JSON', ExitCode.BAD_INPUT),
        ('[1]', 'JSON object', ExitCode.BAD_INPUT),
    ],
)
def test_bad_json_is_a_problem_of_the_role_that_uses_it(full, unit, content, words, code):
    path = full.find('*dsc.json')
    path.write_text(content)
    problems = unit(full).problems
    assert {problem.role for problem in problems} == {'dsc'}
    assert words in problems[0].message
    assert (problems[0].file, problems[0].code) == (path, code)


def test_bad_json_that_nothing_uses_is_no_problem(full, unit):
    full.text('sub-01/anat/sub-01_T1w.json', '')
    full.text('task-other_bold.json', '{')
    assert unit(full).problems == ()


def test_sidecars_are_inherited_and_the_nearest_wins(full, unit):
    full.json('bold.json', {'RepetitionTime': 9.0, 'EchoTime': 0.04})
    full.json('task-all_bold.json', {'RepetitionTime': 2.0})
    full.edit('sub-01_task-all_bold.json', RepetitionTime=None, EchoTime=None)
    run = unit(full).bold[0]
    assert (run.repetition_time, run.echo_time) == (2.0, 0.04)


# ASL ---------------------------------------------------------------------------------------


def test_context_of_another_length_names_both_lengths(full, unit):
    path = full.find('*calc_aslcontext.tsv')
    path.write_text('volume_type\ncontrol\nlabel\n')
    only_problem(unit(full), 'lists 2 volumes', 'has 6', path.name, role='asl')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('volume_type\n' + 'm0scan\n' * 6, 'neither control and label'),
        ('volume_type\n' + 'control\ntag\n' * 3, "'tag'"),
        ('type\n' + 'control\nlabel\n' * 3, "column 'volume_type'"),
    ],
)
def test_unusable_context_says_why(full, unit, content, words):
    full.find('*calc_aslcontext.tsv').write_text(content)
    assert words in unit(full).problems[0].message


@pytest.mark.parametrize('key', ['PostLabelingDelay', 'LabelingDuration'])
def test_missing_timing_of_asl_is_named(full, unit, key):
    full.edit('*calc_asl.json', **{key: None})
    found = unit(full)
    only_problem(found, f'{key} is missing', '--metadata-overrides', role='asl')
    assert [series.condition for series in found.asl] == ['control']


def test_delay_per_volume_is_accepted_and_its_length_checked(full, unit):
    full.edit('*calc_asl.json', PostLabelingDelay=[1.8] * 6)
    full.edit('*control_asl.json', PostLabelingDelay=[1.8] * 4)
    found = unit(full)
    only_problem(found, '4 values', '6 volumes', role='asl')
    assert found.asl[0].post_label_delay == (1.8,) * 6


@pytest.mark.parametrize(
    ('listed', 'expected'),
    [
        ([1, 1, 2, 2, 3, 3], (1, 1, 2, 2, 3, 3)),
        ([1, 2, 3], (1, 1, 2, 2, 3, 3)),
        ([2], (2,) * 6),
        (2, (2,) * 6),
    ],
)
def test_delays_may_be_listed_per_volume_per_pair_or_once(full, unit, listed, expected):
    full.edit('*calc_asl.json', PostLabelingDelay=listed)
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.post_label_delay for asl in found.asl}['calc'] == expected


def test_table_of_several_delays_is_in_the_notes_and_the_constants(full, unit):
    full.edit('*calc_asl.json', PostLabelingDelay=[1, 2, 3])
    found = unit(full)
    assert any('pair 1: delay 1 s after 1.8 s; pair 2' in note for note in found.notes)
    names = {value.name: value.value for value in found.values}
    assert names['perfusion.post_label_delay_3'] == 3


def test_pair_of_two_delays_is_a_problem(full, unit):
    full.edit('*calc_asl.json', PostLabelingDelay=[1, 2, 2, 1, 3, 3])
    only_problem(unit(full), 'volumes 2 and 1', 'different delays', role='asl')


def test_single_delay_model_takes_the_longest_and_multi_delay_needs_two(full, unit):
    full.edit('*calc_asl.json', PostLabelingDelay=[1, 2, 3])
    found = unit(full, settings={'perfusion.model': 'single-delay'})
    assert any('longest delay (3 s)' in note for note in found.notes)
    found = unit(full, settings={'perfusion.model': 'multi-delay'})
    only_problem(found, 'multi-delay needs two delays', role='asl')


@pytest.mark.parametrize(
    ('model', 'said'),
    [('multi-delay', False), ('multi-delay-arterial', True), ('single-delay', True)],
)
def test_arrival_that_cannot_be_shared_is_said_with_the_model(full, unit, model, said):
    for condition in ('calc', 'control'):
        stem = f'sub-01/perf/sub-01_acq-{condition}'
        delays = [delay / 2 for delay in range(1, 9) for _ in range(2)]
        full.image(f'{stem}_asl.nii.gz', shape=(3, 3, 2, 16))
        full.text(f'{stem}_aslcontext.tsv', '\n'.join(['volume_type', *('label', 'control') * 8]))
        full.edit(f'*{condition}_asl.json', PostLabelingDelay=delays, TotalAcquiredPairs=8)
    found = unit(full, settings={'perfusion.arrival': 'shared', 'perfusion.model': model})
    notes = [note for note in found.notes if 'the arrival time is not shared' in note]
    assert bool(notes) is said
    assert all(f'and the model multi-delay (here: {model})' in note for note in notes), notes


def test_m0_estimate_is_a_number(full, unit):
    full.edit('*calc_asl.json', M0Type='Estimate', M0Estimate=1234.5)
    found = unit(full)
    assert found.problems == ()
    m0 = {asl.condition: asl.m0 for asl in found.asl}['calc']
    assert (m0.kind, m0.value, m0.file) == ('Estimate', 1234.5, None)
    full.edit('*calc_asl.json', M0Estimate=None)
    only_problem(unit(full), 'M0Estimate is missing', role='asl')


def test_absent_m0_is_the_controls_where_they_are_not_suppressed(full, unit):
    full.edit(
        '*calc_asl.json', M0Type='Absent', BackgroundSuppression=False,
        BackgroundSuppressionNumberPulses=None,
    )  # fmt: skip
    m0 = {asl.condition: asl.m0 for asl in unit(full).asl}['calc']
    assert (m0.kind, m0.volumes, m0.repetition_time) == ('Control', (1, 3, 5), 4.5)


def test_absent_m0_under_suppression_leaves_relative_flow(full, unit):
    full.edit('*calc_asl.json', M0Type='Absent')
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.kind for asl in found.asl}['calc'] == 'Absent'
    assert any('CBF is relative' in note for note in found.notes)


def test_several_delays_without_m0_are_refused(full, unit):
    full.edit('*calc_asl.json', M0Type='Absent', PostLabelingDelay=[1, 2, 3])
    only_problem(unit(full), 'several delays need M0', role='asl')


def test_unknown_kind_of_m0_lists_the_known(full, unit):
    full.edit('*calc_asl.json', M0Type='None')
    only_problem(unit(full), 'no M0', 'Separate', 'Included', 'Estimate', 'Absent', role='asl')


def test_m0_of_another_grid_is_marked_to_be_aligned(full, unit):
    path = full.find('*calc_m0scan.nii.gz')
    full.image(path.relative_to(full.root).as_posix(), shape=(4, 4, 3))
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.same_grid for asl in found.asl} == {
        'calc': False, 'control': True,
    }  # fmt: skip
    assert any('another grid or position' in note for note in found.notes)


PASL = {
    'ArterialSpinLabelingType': 'PASL', 'LabelingDuration': None, 'BolusCutOffFlag': True,
    'BolusCutOffTechnique': 'Q2TIPS', 'BolusCutOffDelayTime': [0.7, 1.6], 'PostLabelingDelay': 1.8,
}  # fmt: skip


@pytest.mark.parametrize(
    ('technique', 'labeling'),
    [('Q2TIPS', 'pulsed'), ('QUIPSS II', 'pulsed'), ('QUIPSSII', 'pulsed'),
     ('QUIPSS', 'pulsed-quipss')],
)  # fmt: skip
def test_pulsed_labelling_takes_its_bolus_from_the_cut_off(full, unit, technique, labeling):
    full.edit('*calc_asl.json', **PASL | {'BolusCutOffTechnique': technique})
    found = unit(full)
    assert found.problems == ()
    calc = {asl.condition: asl for asl in found.asl}['calc']
    assert (calc.labeling, calc.label_duration[0]) == (labeling, 0.7)
    assert calc.labeling_efficiency == 0.98


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'BolusCutOffFlag': None}, ('BolusCutOffFlag is missing',)),
        ({'BolusCutOffFlag': False}, ('duration of an uncut bolus is not known',)),
        ({'BolusCutOffTechnique': None}, ('BolusCutOffTechnique is missing',)),
        ({'BolusCutOffTechnique': 'other'}, ("'other' is not known", 'QUIPSS')),
        ({'BolusCutOffDelayTime': None}, ('BolusCutOffDelayTime is missing',)),
        ({'BolusCutOffDelayTime': 700}, ('divide by 1000',)),
        ({'BolusCutOffDelayTime': 1.9}, ('not before the readout',)),
        ({'BolusCutOffTechnique': 'QUIPSS', 'PostLabelingDelay': [1, 2, 3]}, ('saturates',)),
        ({'ArterialSpinLabelingType': 'VSASL'}, ("'VSASL' is not known",)),
        ({'LookLocker': True}, ('Look-Locker',)),
    ],
)
def test_pulsed_labelling_that_cannot_be_quantified_says_why(full, unit, change, words):
    full.edit('*calc_asl.json', **PASL | change)
    found = unit(full)
    text = ' '.join(problem.message for problem in found.problems)
    assert all(word in text for word in words), text
    assert [asl.condition for asl in found.asl] == ['control']


def write_context(full, *kinds):
    full.find('*calc_aslcontext.tsv').write_text('\n'.join(['volume_type', *kinds]))
    path = full.find('*calc_asl.nii.gz').relative_to(full.root).as_posix()
    full.image(path, shape=(3, 3, 2, len(kinds)))


def test_odd_number_of_volumes_is_a_problem(full, unit):
    write_context(full, 'control', 'label', 'control')
    only_problem(unit(full), '2 control and 1 label', 'n/a', role='asl')


def test_all_label_is_a_problem(full, unit):
    write_context(full, *['label'] * 4)
    assert 'neither control and label' in unit(full).problems[0].message


def test_ready_differences_alone_are_enough(full, unit):
    write_context(full, *['deltam'] * 3)
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.context for asl in found.asl}['calc'] == ('deltam',) * 3


def test_pairs_and_ready_differences_together_are_a_problem(full, unit):
    write_context(full, 'control', 'label', 'deltam')
    only_problem(unit(full), 'pairs of control and label as well as deltam', role='asl')


def test_one_pair_is_used_with_a_note(full, unit):
    write_context(full, 'control', 'label')
    found = unit(full)
    assert found.problems == ()
    assert any('one pair only' in note for note in found.notes)


def test_flow_computed_by_the_scanner_needs_no_constants(full, unit):
    write_context(full, 'cbf', 'cbf')
    full.edit('*calc_asl.json', PostLabelingDelay=None, LabelingDuration=None, M0Type=None)
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.kind for asl in found.asl}['calc'] == 'Unneeded'


def test_included_m0_and_its_real_quirks(dataset, unit):
    """Repetition time 0, label first, pairs counted twice: all of it from a real dataset."""
    dataset.add('perf/asl[included]')
    dataset.edit(
        '*_asl.json', RepetitionTimePreparation=0, RepetitionTime=4.0, TotalAcquiredPairs=6,
        BackgroundSuppression=False, MRAcquisitionType='3D', LabelingEfficiency=0.72,
    )  # fmt: skip
    found = unit(dataset)
    (asl,) = found.asl
    assert found.problems == ()
    assert (asl.m0.volumes, asl.m0.repetition_time) == ((0,), 4.0)
    assert asl.context[:3] == ('m0scan', 'label', 'control')
    assert (asl.labeling_efficiency, asl.background_suppression_factor) == (0.72, 1.0)
    assert asl.slice_times == ()
    notes = ' '.join(found.notes)
    assert 'RepetitionTimePreparation is 0; RepetitionTime (4 s) is used' in notes
    assert 'TotalAcquiredPairs is 6' in notes


def test_m0_without_any_repetition_time_is_not_corrected(full, unit):
    full.edit('*calc_m0scan.json', RepetitionTimePreparation=None)
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.repetition_time for asl in found.asl} == {
        'calc': None, 'control': 4.5,
    }  # fmt: skip
    assert any('M0 is not corrected' in note for note in found.notes)


def test_m0_is_found_by_intended_for_and_marked_shared(full, unit):
    for name in ('nii.gz', 'json'):
        full.find(f'*calc_m0scan.{name}').unlink()
    full.edit('*control_m0scan.json', IntendedFor=[
        'bids::sub-01/perf/sub-01_acq-calc_asl.nii.gz', 'perf/sub-01_acq-control_asl.nii.gz',
    ])  # fmt: skip
    found = unit(full)
    assert found.problems == ()
    assert [asl.m0.shared for asl in found.asl] == [True, True]
    assert len({asl.m0.file for asl in found.asl}) == 1


def test_separate_m0_that_is_missing_is_named(dataset, unit):
    dataset.add('perf/asl')
    dataset.find('*m0scan.nii.gz').unlink()
    only_problem(unit(dataset), 'no m0scan', 'IntendedFor', role='asl')


def test_unknown_number_of_suppression_pulses_asks_for_the_factor(full, unit):
    full.edit('*calc_asl.json', BackgroundSuppressionNumberPulses=None)
    only_problem(unit(full), 'perfusion.background_suppression_factor', role='asl')
    settings = {'perfusion.background_suppression_factor': 0.75}
    found = unit(full, settings=settings)
    assert found.problems == ()
    assert {asl.background_suppression_factor for asl in found.asl} == {0.75}


def test_undeclared_suppression_is_asked_for(full, unit):
    full.edit('*calc_asl.json', BackgroundSuppression=None)
    only_problem(unit(full), 'BackgroundSuppression is missing', role='asl')


def test_slices_acquired_from_the_top_are_put_in_array_order(full, unit):
    full.edit('*calc_asl.json', SliceEncodingDirection='k-', SliceTiming=[0.5, 0.6])
    assert {asl.condition: asl.slice_times for asl in unit(full).asl}['calc'] == pytest.approx(
        (0.1, 0.0)
    )


def test_slice_timing_of_another_length_is_refused(full, unit):
    full.edit('*calc_asl.json', SliceTiming=[0, 0.1, 0.2])
    only_problem(unit(full), '3 values for 2 slices', role='asl')


def test_labeling_efficiency_is_setting_then_sidecar_then_default(full, unit):
    full.edit('*calc_asl.json', LabelingEfficiency=0.72)
    name = 'perfusion.labeling_efficiency'
    rows = {v.value: v for v in unit(full).values if v.name == name}
    assert rows[0.72].origin == 'sidecar sub-01_acq-calc_asl.json'
    assert rows[0.85].origin == 'default'
    (row, other) = [v for v in unit(full, settings={name: 0.8}).values if v.name == name]
    overruled = {row.overruled, other.overruled}
    assert (row.value, row.origin) == (0.8, 'setting')
    assert overruled == {'', '0.72 (sidecar sub-01_acq-calc_asl.json)'}


# BOLD --------------------------------------------------------------------------------------


def test_events_survive_windows_line_ends_and_missing_final_newline(full, unit):
    full.find('*events.tsv').write_bytes(
        b'\xef\xbb\xbfonset\tduration\ttrial_type\r\n90\t30\tCalc\r\n0\t30\tn/a\r\n30\t30\tcalc'
    )
    (run,) = unit(full).bold
    assert [(e.onset, e.trial_type) for e in run.events] == [(30, 'calc'), (90, 'calc')]


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('onset,duration,trial_type\n1,2,calc\n', "column 'onset'"),
        ('onset\tduration\ttrial_type\nx\t30\tcalc\n', 'line 2: onset'),
        ('onset\tduration\ttrial_type\n3\t-30\tcalc\n', 'line 2: duration'),
        ('onset\tduration\ttrial_type\n30000\t30000\tcalc\n', 'milliseconds'),
        ('onset\tduration\ttrial_type\n3\t30\tcalc\textra\n', '4 cells'),
        ('onset\tduration\ttrial_type\n', 'no event'),
        ('onset\tduration\ttrial_type\n3\t30\tmem\n', 'calc-control cannot be made'),
        ('onset\tduration\ttrial_type\n30\t30\tcalc\n50\t30\tcalc\n', 'overlap by 10 s'),
        ('onset\tduration\ttrial_type\n30\t30\tcalc\n300\t30\tcalc\n', 'was the run cut short'),
    ],
)
def test_defective_events_name_table_and_line(full, unit, content, words):
    path = full.find('*events.tsv')
    path.write_text(content)
    found = unit(full)
    events = [problem for problem in found.problems if problem.role == 'events']
    assert words in events[0].message
    assert events[0].file == path
    assert len(found.megre) == 2


def test_empty_events_cannot_be_read(full, unit):
    full.find('*events.tsv').write_text('')
    assert unit(full).problems[0].code == ExitCode.MISSING_INPUT


def test_bold_without_events_is_absent_not_defective(full, unit):
    full.find('*events.tsv').unlink()
    found = unit(full)
    assert (found.bold, found.problems) == ((), ())
    assert any('no events.tsv' in note for note in found.notes)


@pytest.mark.parametrize(
    ('rows', 'words'),
    [
        ('30\t30\tcalc\n50\t30\tmem\n', 'overlap by 10 s; volumes in both count'),
        ('30\t30\tcalc\n220\t30\tcalc\n', 'last until 250 s, the run only 240 s'),
    ],
)
def test_events_that_are_odd_but_usable_are_said(full, unit, rows, words):
    full.find('*events.tsv').write_text(f'onset\tduration\ttrial_type\n{rows}')
    found = unit(full)
    assert len(found.bold) == 1
    assert any(words in note for note in found.notes), found.notes


def test_slice_times_of_a_run_are_read_and_must_lie_within_it(full, unit):
    full.edit('*bold.json', SliceTiming=[0.6, 0.0])
    assert unit(full).bold[0].slice_times == (0.6, 0.0)
    full.edit('*bold.json', SliceTiming=[0.0, 1.3])
    only_problem(unit(full), 'SliceTiming reaches 1.3 s', 'RepetitionTime is 1.2 s', role='bold')
    full.edit('*bold.json', SliceTiming=[0.0, 600.0])
    only_problem(unit(full), 'milliseconds', role='bold')


def test_repetition_time_in_milliseconds_is_called_by_its_name(full, unit):
    full.edit('*bold.json', RepetitionTime=1200)
    only_problem(unit(full), 'RepetitionTime = 1200', 'write 1.2', role='bold')


def test_header_time_that_differs_is_said(full, unit):
    found = unit(full)
    assert any('its header says 1 s between volumes' in note for note in found.notes)


@pytest.mark.parametrize('unit_of_time', ['sec', 'msec'])
def test_header_time_in_milliseconds_is_told_unless_the_header_says_so(full, unit, unit_of_time):
    path = full.find('*_bold.nii.gz')
    image = nb.load(path)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1200.0))
    image.header.set_xyzt_units('mm', unit_of_time)
    data = np.asanyarray(image.dataobj)
    nb.save(nb.Nifti1Image(data, image.affine, image.header), path)
    found = unit(full)
    assert found.problems == ()
    said = [note for note in found.notes if 'between volumes' in note and '_bold' in note]
    if unit_of_time == 'msec':
        assert said == []
    else:
        assert 'says 1200 s between volumes, as if in milliseconds' in said[0]
        assert 'its sidecar 1.2 s; the sidecar is used' in said[0]


# field, whole images -----------------------------------------------------------------------


def test_unknown_and_contradicting_field_strengths_are_problems(full, unit):
    full.edit('*dsc.json', MagneticFieldStrength=7)
    only_problem(unit(full), '3 T', '7 T', role='b0')
    assert unit(full, settings={'oxygen.b0': 3.0}).problems == ()
    for path in full.root.rglob('*.json'):
        if path.parent.name in ('anat', 'perf', 'func'):
            full.edit(path.name, MagneticFieldStrength=None)
    only_problem(unit(full), 'in no sidecar', role='b0')


def truncate(path):
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:-40]))


@pytest.mark.parametrize(
    ('damage', 'words', 'code'),
    [
        (lambda d, n: truncate(d.find(n)), 'is the file complete', ExitCode.MISSING_INPUT),
        (np.nan, 'all NaN', ExitCode.BAD_INPUT),
        (0.0, 'all zero', ExitCode.BAD_INPUT),
        (7.0, 'constant (7)', ExitCode.BAD_INPUT),
    ],
)
def test_images_without_content_drop_their_branch_only(full, unit, damage, words, code):
    name = 'sub-01_acq-calc_asl.nii.gz'
    if callable(damage):
        damage(full, name)
    else:
        full.image(f'sub-01/perf/{name}', data=np.full((3, 3, 2, 6), damage, np.float32))
    found = unit(full)
    assert found.problems == ()
    kept = without_defects(found)
    problem = only_problem(kept, words, name, role='asl', code=code)
    assert problem.condition == 'calc'
    assert [series.condition for series in kept.asl] == ['control']
    assert (kept.mese, kept.megre, kept.bold) == (found.mese, found.megre, found.bold)


def test_phase_beyond_radians_is_found_when_read(full, unit):
    data = np.linspace(-4096, 4095, 18).reshape(3, 3, 2).astype(np.int16)
    full.image('sub-01/anat/sub-01_task-calc_echo-2_part-phase_MEGRE.nii.gz', data=data)
    (problem,) = inspect_files(unit(full))
    assert problem.role == 'megre_phase'
    assert '-4096 to 4095' in problem.message


def test_intact_images_change_nothing(full, unit):
    found = unit(full)
    assert without_defects(found) is found


def test_scaled_integers_are_judged_after_scaling(full, unit):
    import nibabel as nb

    path = full.find('*_T1w.nii.gz')
    image = nb.Nifti1Image(np.full((3, 3, 2), 5, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -2.5)
    nb.save(image, path)
    raw = nb.load(path)
    assert raw.dataobj.slope == 0.5
    (problem,) = inspect_files(unit(full))
    assert 'all zero' in problem.message


def test_masks_and_tissue_maps_of_derivatives_may_be_constant_but_not_broken(dataset, unit):
    names = ['desc-preproc_T1w', 'desc-brain_mask']
    names += [f'label-{tissue}_probseg' for tissue in ('GM', 'WM', 'CSF')]
    for name in names:
        data = None if 'T1w' in name else np.ones((3, 3, 2), np.uint8)
        dataset.image(f'd/sub-01/anat/sub-01_{name}.nii.gz', data=data)
    dataset.add('anat/MESE')
    options = {'derivatives': {'fmriprep': dataset.root / 'd'}}
    found = unit(dataset, **options)
    assert without_defects(found) is found
    truncate(dataset.find('*label-GM_probseg.nii.gz'))
    kept = without_defects(unit(dataset, **options))
    only_problem(kept, 'GM_probseg', role='t1w', code=ExitCode.MISSING_INPUT)
    assert kept.anatomy is None
    assert len(kept.mese) == 1


# --- parts of gradient echoes and redundant sets ------------------------------------------------


def write_parts(dataset, label, parts, *, delay=0.0, lines=None, direction='j', n_echoes=4):
    for echo in range(1, n_echoes + 1):
        metadata = {
            'EchoTime': round(0.005 * echo + delay, 4),
            'MagneticFieldStrength': 3,
            'PhaseEncodingDirection': direction,
        }
        if lines:
            metadata['AcquisitionMatrixPE'] = lines
        for part in parts:
            name = f'sub-01_task-calc{label}_echo-{echo}_part-{part}_MEGRE.nii.gz'
            dataset.image(f'sub-01/anat/{name}', shape=(4, 8, 2), metadata=metadata)


def test_real_and_imaginary_parts_serve_without_magnitude_and_phase(dataset, unit):
    write_parts(dataset, '', ('real', 'imag'))
    (series,) = unit(dataset).megre
    assert (series.magnitude, series.phase) == ((), ())
    assert (len(series.real), len(series.imaginary), series.has_phase) == (4, 4, True)
    dataset.find('*echo-3_part-imag_MEGRE.nii.gz').unlink()
    found = unit(dataset)
    assert not found.megre
    assert any('imaginary' in problem.message for problem in found.problems)


def test_phase_wins_over_real_and_imaginary_parts_unless_its_unit_is_unknown(full, unit):
    for echo in range(1, 5):
        full.edit(f'*calc_echo-{echo}_part-phase_MEGRE.json', Units='arbitrary')
    found = unit(full, settings={'relaxometry.phase_scale': 0.00153})
    calc = next(series for series in found.megre if series.condition == 'calc')
    assert (len(calc.phase), calc.phase_scale) == (4, 0.00153)
    assert any('0.00153 rad per unit' in note for note in found.notes)
    write_parts(full, '', ('real', 'imag'))
    assert any('relaxometry.phase_scale' in note for note in unit(full).notes)


def test_redundant_sets_join_the_full_one_with_their_echo_times_and_lines(dataset, unit):
    parts = ('mag', 'real', 'imag')
    write_parts(dataset, '_acq-fullres', parts)
    write_parts(dataset, '_acq-MoCoHR', parts, delay=0.001, lines=4)
    write_parts(dataset, '_acq-MoCoQR', parts, delay=0.001)
    found = unit(dataset)
    (series,) = found.megre
    assert not found.problems
    assert (series.n_lines, series.line_axis) == (8, 1)
    assert [item.n_lines for item in series.reduced] == [4, 2]
    assert series.reduced[0].echo_times == pytest.approx((0.006, 0.011, 0.016, 0.021))
    assert len(series.files) == 36
    assert any('0.25 of the lines is assumed' in note for note in found.notes)
    (alone,) = unit(dataset, settings={'ignore': ('redundant',)}).megre
    assert not alone.reduced


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'direction': 'k'}, 'PhaseEncodingDirection'),
        ({'parts': ('mag',)}, 'without phase'),
        ({'n_echoes': 3}, '3 echoes'),
    ],
)
def test_sets_that_cannot_be_merged_are_left_out_and_said(change, reason, dataset, unit):
    parts = ('mag', 'real', 'imag')
    direction = change.get('direction', 'j')
    write_parts(dataset, '_acq-fullres', parts, direction=direction)
    write_parts(dataset, '_acq-MoCoHR', **{'parts': parts, 'delay': 0.001, **change})
    found = unit(dataset)
    assert [series.reduced for series in found.megre] == [()]
    assert any(reason in note for note in found.notes)


def test_echo_times_that_epg_cannot_have_are_named(full, unit):
    full.edit('*echo-2_MESE.json', EchoTime=0.035)
    found = unit(full, settings={'relaxometry.t2_model': 'epg'})
    assert not found.mese
    assert any('drop-first' in problem.message for problem in found.problems)
    assert unit(full).mese
