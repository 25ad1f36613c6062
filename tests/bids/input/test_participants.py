"""Haematocrit and saturation: units, order of sources, defects."""

import math

import pytest

from bids_app.bids.input.participants import read_participants
from bids_app.models.constants import ARTERIAL_SATURATION as SAO2
from bids_app.models.constants import HAEMATOCRIT as HCT


@pytest.fixture
def unit(dataset, collect):
    def one(table, units=None, **options):
        dataset.add('anat/T1w')
        if table is not None:
            dataset.text('participants.tsv', table)
        if units is not None:
            described = {name: {'Units': text} for name, text in units.items()}
            dataset.json('participants.json', described)
        return collect(dataset, **options)[0]

    return one


def row(unit, name):
    return next(value for value in unit.values if value.name == name)


@pytest.mark.parametrize('column', ['Hct', 'hct', 'haematocrit', 'hematocrit'])
@pytest.mark.parametrize(
    ('text', 'cell'), [('percent', '40.2'), ('%', '40.2'), ('1', '0.402'), ('fraction', '.402')]
)
def test_unit_is_read_never_guessed(unit, column, text, cell):
    found = unit(f'participant_id\t{column}\nsub-01\t{cell}\n', {column: text})
    assert found.hct == pytest.approx(0.402)
    assert row(found, 'oxygen.hct').origin == f'participants.tsv column {column}'


def test_value_that_does_not_fit_its_unit_is_a_problem_and_no_number(unit):
    found = unit('participant_id\tHct\nsub-01\t40.2\n', {'Hct': '1'})
    assert math.isnan(found.hct)
    (problem,) = found.problems
    assert problem.role == 'participants'
    assert '40.2' in problem.message


@pytest.mark.parametrize('table', [
    'participant_id\tHct\nsub-01\tn/a\n', 'participant_id\tHct\nsub-02\t40\n',
    'participant_id\tage\nsub-01\t30\n',
])  # fmt: skip
def test_missing_value_is_the_default_with_a_warning(unit, table):
    found = unit(table, {'Hct': 'percent'})
    assert (found.hct, found.sao2) == (HCT, SAO2)
    assert row(found, 'oxygen.hct').origin == 'default'
    assert any('Hct of sub-01 is not known; default 0.42' in note for note in found.notes)


def test_winner_and_loser_stand_in_the_constants_table(unit, dataset):
    path = dataset.text(
        'overrides.toml',
        '[[override]]\nmatch = {role="participants", sub="01"}\nset = {Hct=0.44}\nsource = "lab"',
    )
    table, units = 'participant_id\tHct\nsub-01\t40\n', {'Hct': 'percent'}
    found = row(unit(table, units, metadata_overrides=path), 'oxygen.hct')
    assert (found.value, found.origin) == (0.44, 'overrides file: lab')
    assert found.overruled == '0.4 (participants.tsv column Hct)'
    found = row(
        unit(table, units, metadata_overrides=path, settings={'oxygen.hct': 0.39}), 'oxygen.hct'
    )
    assert (found.value, found.origin) == (0.39, 'setting')
    assert found.overruled == ('0.44 (overrides file: lab); 0.4 (participants.tsv column Hct)')


HEAD = 'participant_id\tHct\tSaO2\n'
PERCENT = {'Hct': 'percent', 'SaO2': 'percent'}


@pytest.mark.parametrize(('table', 'words'), [
    ('', ['is empty']),
    ('nonsense\n', ["the column 'participant_id'", 'its columns are: nonsense']),
    ('participant_id\tHct\nsub-01\t1\t2\n', ['line 2: 3 cells']),
    ((HEAD + 'sub-01\t41\t98\n').encode('utf-16'), ['should be UTF-8 text, found UTF-16']),
    ((HEAD + 'sub-01\t41\t98\nsub-02\té\n').encode('latin-1'), ['the byte 0xe9 in line 3']),
    (HEAD + 'sub-02\t40\t98\nsub-01 41 98\n', ['line 3', 'separated by tabs', "'sub-01 41 98'"]),
    (HEAD + 'sub-01 41 98\n', ['line 2', 'separated by tabs']),
    (HEAD + 'sub-01\t41,8\t98,1\n', ['line 2', "'41,8'", 'write a decimal point']),
    (HEAD + '\nsub-01\t41\t98\nsub-01\t44\t97\n', ['lines 3 and 4', 'two values of Hct']),
    (HEAD.replace('SaO2', 'Hct') + 'sub-01\t41\t44\n', ["column 'Hct' stands there 2 times",
                                                        'columns 2, 3']),
])  # fmt: skip
def test_table_that_cannot_be_understood_is_a_problem_never_a_default(unit, dataset, table, words):
    if isinstance(table, bytes):
        (dataset.root / 'participants.tsv').write_bytes(table)
        table = None
    found = unit(table, PERCENT)
    assert math.isnan(found.hct)
    said = ' | '.join(problem.message for problem in found.problems)
    assert {problem.role for problem in found.problems} == {'participants'}
    assert all(word in said for word in words), said
    assert 'set oxygen.hct' in said
    known = unit(table, PERCENT, settings={'oxygen.hct': 0.4, 'oxygen.sao2': 0.97})
    assert (known.problems, known.hct, known.sao2) == ((), 0.4, 0.97)


def test_a_row_of_another_participant_that_is_wrong_costs_nothing(unit):
    found = unit(HEAD + 'sub-01\t41\t98\nsub-02\t41,8\t98\nsub-02\t40\t98\n', PERCENT)
    assert (found.problems, found.hct) == ((), 0.41)


def test_description_that_cannot_be_read_is_named(unit, dataset):
    dataset.text('participants.json', '{')
    found = unit('participant_id\tage\nsub-01\t30\n')
    assert found.hct == HCT
    assert any('participants.json is not valid JSON' in note for note in found.notes)


def test_no_table_at_all_is_nothing(dataset):
    assert read_participants(dataset.root).files == ()


def test_empty_columns_need_no_unit(unit):
    assert unit('participant_id\tHct\nsub-01\tn/a\n').hct == HCT
