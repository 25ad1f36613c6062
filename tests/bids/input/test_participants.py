"""Haematocrit and saturation: units, order of sources, defects."""

import math

import pytest

from bids_app.bids.input.participants import HCT, SAO2, read_participants


@pytest.fixture
def unit(dataset, collect):
    def one(table, units=None, **options):
        dataset.add('anat/T1w')
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


@pytest.mark.parametrize('table', ['', 'nonsense\n', 'participant_id\tHct\nsub-01\t1\t2\n'])
def test_table_that_cannot_be_read_is_said_and_defaults_are_used(unit, table):
    found = unit(table)
    assert found.hct == HCT
    assert any('Hct and SaO2 are not read' in note for note in found.notes)


def test_no_table_at_all_is_nothing(dataset):
    assert read_participants(dataset.root).files == ()


def test_empty_columns_need_no_unit(unit):
    assert unit('participant_id\tHct\nsub-01\tn/a\n').hct == HCT
