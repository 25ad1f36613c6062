"""The rules of conditions: the documented table row by row, and the pure functions."""

import re
from pathlib import Path

import pytest

from bids_app.bids.input.conditions import (
    Labels,
    Scan,
    assign_conditions,
    condition_of,
    find_labels,
    for_condition,
    longest_gap,
    make_plan,
    normalise,
    plan_unit,
    runs_for_contrast,
)
from bids_app.bids.output.names import output_path
from bids_app.bids.scans import BoldRun, Contrast, Event
from bids_app.errors import SettingsError
from tests.paths import ROOT

PAGE = ROOT / 'docs' / 'reference' / 'conditions.md'


def table_rows():
    lines = [line for line in PAGE.read_text('utf-8').splitlines() if line.startswith('| ')]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return cells[1:]


ROWS = table_rows()


def units_in(cell):
    return [part.strip() for part in cell.split(';')]


def start_of_names(session, condition):
    """Beginning of the names that the output table gives a unit and condition."""
    path = output_path('T2starmap', sub='01', ses=session, condition=condition, space='MESE')
    return path.name.split('_space-')[0]


def as_list(text):
    return [] if text == 'none' else [item.strip() for item in text.split(',')]


@pytest.mark.parametrize('row', ROWS, ids=[row[0] for row in ROWS])
def test_documented_row_holds(row, dataset, collect, options_of):
    _, files, options, conditions, contrasts, names = row
    dataset.add(*re.findall(r'`([^`]+)`', files))
    settings = options_of(options)
    if conditions.startswith('error'):
        with pytest.raises(SettingsError) as caught:
            collect(dataset, settings=settings)
        assert f'error {int(caught.value.exit_code)}' == conditions
        return
    found = collect(dataset, settings=settings)
    assert [list(unit.conditions) for unit in found] == [as_list(c) for c in units_in(conditions)]
    made = [[contrast.label for contrast in unit.contrasts] for unit in found]
    assert made == [as_list(c) for c in units_in(contrasts)]
    starts = [
        [start_of_names(unit.session, one) for one in unit.conditions or (None,)] for unit in found
    ]
    assert starts == [re.findall(r'`([^`]+)`', part) for part in units_in(names)]
    assert not [problem.message for unit in found for problem in unit.problems]


def test_page_covers_the_cases_that_matter():
    cases = ' '.join(row[0] for row in ROWS)
    for case in (
        'no session',
        'one session',
        'as repeats',
        'as conditions',
        'two runs',
        'first session only',
        'task- on ASL',
        'acq- on ASL',
    ):
        assert case in cases


def test_t1w_of_the_first_session_is_used_and_said(dataset, collect):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE', 'ses-b/anat/MESE')
    first, second = collect(dataset)
    assert first.t1w == second.t1w == (dataset.find('*_T1w.nii.gz'),)
    assert not any('has no T1w' in note for note in first.notes)
    assert any('session b has no T1w image; the one of session a' in n for n in second.notes)


def test_runs_of_a_condition_stay_apart_and_keep_their_label(dataset, collect):
    dataset.add('anat/task-rest_run-1_MEGRE', 'anat/task-rest_run-2_MEGRE')
    (unit,) = collect(dataset)
    assert [(s.condition, s.run) for s in unit.megre] == [('rest', '1'), ('rest', '2')]


def test_sessions_as_conditions_share_a_spin_echo_made_in_one(dataset, collect):
    dataset.add('ses-rest/anat/MESE', 'ses-rest/anat/MEGRE', 'ses-drug/anat/MEGRE')
    (unit,) = collect(dataset, settings={'condition_entity': 'ses'})
    assert unit.session is None
    assert [series.condition for series in unit.mese] == [None]
    assert {series.condition for series in unit.megre} == {'rest', 'drug'}


@pytest.mark.parametrize('order', [('01', '02'), ('02', '01')])
def test_participants_with_different_data_do_not_influence_each_other(order, dataset, collect):
    specs = {
        '01': ('anat/T1w', 'anat/MESE', 'anat/task-control_MEGRE', 'anat/task-calc_MEGRE'),
        '02': ('perf/acq-control_asl', 'perf/acq-calc_asl', 'func/task-all_bold[calc]'),
    }
    for label in order:
        dataset.add(*specs[label], sub=label)
    found = {unit.participant: unit for unit in collect(dataset)}
    assert (len(found['01'].megre), len(found['01'].asl), found['01'].bold) == (2, 0, ())
    assert (found['02'].mese, len(found['02'].asl), len(found['02'].bold)) == ((), 2, 1)
    for unit in found.values():
        assert unit.conditions == ('control', 'calc')
        assert all(f'sub-{unit.participant}' in str(path) for path in unit.files)
    alone = {u.participant: u for label in order for u in collect(dataset, participants=(label,))}
    assert alone == found


def test_labels_are_compared_without_case_and_punctuation():
    assert normalise('Mental_Calc-2') == 'mentalcalc2'
    scans = [
        Scan(family='megre', entities={'task': 'Control'}),
        Scan(family='megre', entities={'task': 'CALC'}),
    ]
    assert find_labels(scans).quantitative == {'control', 'calc'}


def test_task_of_a_bold_file_is_never_a_condition():
    run = Scan(family='bold', entities={'task': 'calc'}, trial_types=('mem',))
    labels = find_labels([run])
    assert labels.all == {'mem'}
    assert condition_of(run, labels=labels) is None


def test_asl_without_condition_serves_only_when_alone():
    labels = Labels(quantitative=frozenset({'control', 'calc'}))

    def assign(*acquisitions):
        scans = [Scan(family='asl', entities={'acquisition': acq}) for acq in acquisitions]
        return assign_conditions(scans, labels=labels)

    assert assign('epi') == ((None,), ())
    assert assign('epi', 'epi') == ((None, None), ())
    assert assign('control', 'epi') == (('control', None), (1,))
    assert assign('epi', 'spiral') == ((None, None), (0, 1))


def test_spin_echo_made_in_one_condition_is_shared_and_in_two_is_not():
    labels = Labels(quantitative=frozenset({'control', 'calc'}))
    control = Scan(family='mese', entities={'task': 'control'})
    calc = Scan(family='mese', entities={'task': 'calc'})
    assert assign_conditions([control], labels=labels) == ((None,), ())
    assert assign_conditions([control, calc], labels=labels) == (('control', 'calc'), ())


def test_series_of_a_condition_are_preferred_to_shared_ones():
    shared, own = Scan_(None), Scan_('calc')
    assert for_condition([shared, own], 'calc') == (own,)
    assert for_condition([shared, own], 'control') == (shared,)
    assert for_condition([own], 'control') == ()


class Scan_:
    def __init__(self, condition):
        self.condition = condition


def test_error_about_the_baseline_lists_what_was_found():
    labels = Labels(quantitative=frozenset({'a', 'b'}))
    with pytest.raises(SettingsError, match=r'--baseline.*a, b'):
        make_plan(labels)
    with pytest.raises(SettingsError, match=r"'contrl'.*found: calc, control"):
        make_plan(Labels(quantitative=frozenset({'control', 'calc'})), baseline='contrl')


@pytest.mark.parametrize('text', ['calc', 'calc-', '-control', 'calc-Calc'])
def test_malformed_contrast_is_refused(text):
    labels = Labels(quantitative=frozenset({'control', 'calc'}))
    with pytest.raises(SettingsError, match='A-B'):
        make_plan(labels, contrasts=(text,))


def test_named_contrasts_need_no_baseline():
    labels = Labels(quantitative=frozenset({'a', 'b'}))
    plan = make_plan(labels, contrasts=('b-a',))
    assert plan.contrasts == (Contrast(task='b', baseline='a'),)
    assert plan_unit(plan, labels) == (('a', 'b'), plan.contrasts)


def test_unit_without_the_task_loses_the_contrast():
    plan = make_plan(Labels(quantitative=frozenset({'control', 'calc'})))
    own = Labels(quantitative=frozenset({'control'}))
    assert plan_unit(plan, own) == (('control',), ())


def bold_run(*rows, n_volumes=200):
    events = tuple(Event(onset=o, duration=d, trial_type=t) for o, d, t in rows)
    return BoldRun(
        task='x', run=None, file=Path('b'), events_file=Path('e'), events=events,
        repetition_time=1.2, n_volumes=n_volumes,
    )  # fmt: skip


def test_gaps_are_the_baseline_only_where_it_has_no_rows_and_they_are_long_enough():
    contrast = Contrast(task='calc', baseline='control')

    def usable(run):
        return bool(runs_for_contrast([run], contrast, baseline='control', min_gap=6.0))

    assert usable(bold_run((30, 30, 'calc')))
    assert usable(bold_run((0, 120, 'calc'), (120, 120, 'control')))
    assert not usable(bold_run((0, 120, 'calc'), (120, 120, 'mem')))
    assert not usable(bold_run((30, 30, 'mem')))
    other = Contrast(task='calc', baseline='mem')
    assert not runs_for_contrast(
        [bold_run((30, 30, 'calc'))], other, baseline='control', min_gap=6.0
    )


def test_longest_gap_counts_start_middle_and_end():
    assert longest_gap(bold_run((50, 190, 'a'))) == 50
    assert longest_gap(bold_run((0, 60, 'a'), (30, 40, 'b'), (150, 90, 'a'))) == 80
    assert longest_gap(bold_run((0, 140, 'a'))) == pytest.approx(100)
