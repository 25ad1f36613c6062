"""The rows of report.yml are complete and fit the table of outputs."""

import pytest

from bids_app.bids.output.names import table, unit_of
from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.group.dispute import SOURCES
from bids_app.models.asl.quality import grey_matter_statistics
from bids_app.models.constants import QUALITY_RULES
from bids_app.reports.derivatives import read_table
from bids_app.reports.group.published import _published
from bids_app.reports.report_table import report_table
from bids_app.reports.reportlets.base import columns_of
from bids_app.reports.reportlets.kinds import KINDS
from bids_app.reports.reportlets.tables import shown_cell
from bids_app.settings import presets

ROWS = {row.key: row for row in report_table().figures}
WITH_NUMBERS = {key: row for key, row in ROWS.items() if 'change' in row.kind or row.kind == 'map'}


def test_keys_are_unique():
    assert len(ROWS) == len(report_table().figures)


@pytest.mark.parametrize('key', ROWS)
def test_every_figure_says_what_it_is_and_what_good_looks_like(key):
    row = ROWS[key]
    for text in (row.title, row.alt, row.caption, row.good):
        assert len(text) > 1
        assert text.strip() == text
    assert len(row.alt) > 30
    assert len(row.good) > 20
    assert row.level in ('participant', 'group')
    assert row.section in report_table().sections
    assert row.kind in KINDS
    assert row.output in table().rows
    assert not row.also or row.also in table().rows


@pytest.mark.parametrize('key', WITH_NUMBERS)
def test_every_figure_with_numbers_has_unit_limits_and_range(key):
    row = WITH_NUMBERS[key]
    assert row.unit
    assert row.quantity in table().quantities
    assert row.limits[0] < row.limits[1]
    assert '{range}' in row.alt
    if row.kind != 'map':
        assert row.limits[0] == -row.limits[1]


@pytest.mark.parametrize('key', [key for key, row in ROWS.items() if row.kind == 'map'])
def test_the_usual_range_has_a_source_and_lies_within_the_colours(key):
    row = ROWS[key]
    assert row.source
    assert row.limits[0] <= row.usual[0] < row.usual[1] <= row.limits[1]


@pytest.mark.parametrize('key', WITH_NUMBERS)
def test_the_unit_shown_is_that_of_the_file_times_the_scale(key):
    row = WITH_NUMBERS[key]
    names = {'s': ('ms', 1000.0), 'percent': ('%', 1.0), 'fraction': ('%', 100.0),
             'percent/mmHg': ('%/mmHg', 1.0)}  # fmt: skip
    statistic = {} if row.kind == 'map' else {'statistic': 'effect'}
    unit = unit_of(row.output, quantity=row.quantity, **statistic).replace('umol', 'µmol')
    if row.quantity == 'cbv':
        assert (unit, row.unit, row.scale) == ('percent', 'mL/100 mL', 1.0)
    elif row.unit == 'percentage points':
        assert (unit, row.scale) == ('fraction', 100.0)
    else:
        assert names.get(unit, (unit, 1.0)) == (row.unit, row.scale)


def test_every_value_map_of_the_app_is_in_the_report():
    shown = {row.output for row in ROWS.values() if row.kind == 'map'}
    made = {row.key for row in table().rows.values() if row.quantity and row.format == 'image'}
    assert made == shown


def test_words_stand_for_codes_that_there_are_and_every_network_has_some():
    atlas = read_table(packaged_template(ATLAS, '.tsv'))
    networks = {line['network'] for line in atlas}
    columns = {name for row in table().rows.values() for name in row.columns}
    numbers = grey_matter_statistics([60, 40], grey_matter=[1, 0], white_matter=[0, 1])
    quality = {*QUALITY_RULES, *numbers, *SOURCES, 'scan_order'}
    codes = {*networks, *columns, *table().quantities, *quality, 'brain'}
    assert set(report_table().words) <= codes
    assert networks - set(report_table().words) == {'Limbic'}


PUBLISHED = [(preset, row) for preset, about in _published().items() for row in about['rows']]


@pytest.mark.parametrize(('preset', 'row'), PUBLISHED, ids=lambda x: str(x)[:40])
def test_a_published_number_has_a_unit_a_note_and_a_place_to_find_ours(preset, row):
    assert preset in presets()
    assert row['unit']
    assert row['note']
    target = table().rows[row.get('map') or row['table']]
    if 'table' in row:
        assert {row['column'], *row['where'], row.get('over', row['column'])} <= set(
            target.columns
        )
    else:
        assert target.quantity


def test_columns_of_errors_are_columns_of_their_table():
    for row in report_table().figures:
        if row.errors:
            known = {column.name for column in columns_of(row.output)}
            assert {
                *row.errors,
                *(name for names in row.errors.values() for name in names),
            } <= known


def test_a_cell_holds_its_error():
    row = next(row for row in report_table().figures if row.key == 'bold_consistency')
    assert (
        shown_cell(row, {'measured': '-8.95', 'measured_se': '0.761'}, 'measured') == '−8.9 ± 0.8'
    )
    assert shown_cell(row, {'measured': '-8.95', 'measured_se': 'n/a'}, 'measured') == '−8.95'
