"""Perfusion series from sidecars and contexts; one clear message per defect."""

import pytest

from tests.bids.support import only_problem

PASL = {
    'ArterialSpinLabelingType': 'PASL', 'LabelingDuration': None, 'BolusCutOffFlag': True,
    'BolusCutOffTechnique': 'Q2TIPS', 'BolusCutOffDelayTime': [0.7, 1.6], 'PostLabelingDelay': 1.8,
}  # fmt: skip


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


def test_pulsed_labelling_without_a_cut_off_takes_a_duration_that_is_given(full, unit):
    full.edit('*calc_asl.json', **PASL | {'BolusCutOffFlag': False, 'BolusCutOffTechnique': None,
                                          'BolusCutOffDelayTime': None})  # fmt: skip
    found = unit(full, settings={'perfusion.bolus_duration': 0.9})
    assert found.problems == ()
    calc = {asl.condition: asl for asl in found.asl}['calc']
    assert (calc.labeling, calc.label_duration[0]) == ('pulsed', 0.9)
    assert {one.name: one.value for one in found.values}['perfusion.bolus_duration'] == 0.9
    assert any('its bolus is not cut off' in note for note in found.notes)
    found = unit(full, settings={'perfusion.bolus_duration': 5.0})
    only_problem(found, 'not before the readout', role='asl')


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
        (
            {'ArterialSpinLabelingType': 'VSASL'},
            ('velocity-selective labelling (VSASL)', '-d aslprep=PATH'),
        ),
        ({'ArterialSpinLabelingType': 'EPISTAR'}, ("'EPISTAR' is not known",)),
        ({'LookLocker': True}, ('Look-Locker', '-d aslprep=PATH')),
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


@pytest.mark.parametrize(('kinds', 'odd'), [
    (('label', 'control') * 14 + ('label',), {28: 'label'}),
    (('label', 'control', 'control', 'label', 'control'), {4: 'control'}),
    (('control', 'label', 'label', 'control', 'label'), {4: 'label'}),
    (('label', 'label', 'label', 'control', 'control'), {2: 'label'}),
    (('m0scan', 'label', 'label', 'control'), {1: 'label'}),
])  # fmt: skip
def test_a_volume_without_partner_is_left_out_by_name(kinds, odd, full, unit):
    write_context(full, *kinds)
    found = unit(full)
    assert found.problems == ()
    (series,) = (one for one in found.asl if one.condition == 'calc')
    assert {i: kinds[i] for i, kind in enumerate(series.context) if kind != kinds[i]} == odd
    assert series.context.count('control') == series.context.count('label')
    ((index, kind),) = odd.items()
    assert any(f'without a partner: {index + 1} ({kind})' in note for note in found.notes)


@pytest.mark.parametrize(('word', 'meant'), [
    ('tag', 'label'), ('ctrl', 'control'), ('contrl', 'control'), ('M0', 'm0scan'),
    ('lable', 'label'),
])  # fmt: skip
def test_an_unknown_volume_type_is_one_problem_with_the_nearest_word(word, meant, full, unit):
    write_context(full, 'control', 'label', word, 'label')
    only_problem(unit(full), 'line 4', repr(word), f'did you mean {meant}?', role='asl')


def test_volume_types_are_read_in_any_case(full, unit):
    write_context(full, 'Control', 'LABEL', 'M0Scan', 'Control', 'Label', 'NoRF', 'N/A')
    found = unit(full)
    assert found.problems == ()
    assert ('control', 'label', 'm0scan', 'control', 'label', 'noRF', 'n/a') in {
        series.context for series in found.asl
    }


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
