"""Measured numbers stand in one table with bar, command, commit and day."""

import importlib.util
import json
import re

import pytest

from tests.paths import ROOT

spec = importlib.util.spec_from_file_location('record', ROOT / 'tools' / 'record_validation.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

ROWS = tool.read_rows()
MARK = {'commit': '0123abcd', 'date': '2026-11-29'}


def test_every_measured_number_has_bar_command_commit_and_day():
    assert len(ROWS) > 200
    assert not [row for row in ROWS if not all(text.strip() for text in row.values())]
    assert not [row for row in ROWS if not re.fullmatch('[0-9a-f]{8}', row['commit'])]
    assert not [row for row in ROWS if not re.fullmatch(r'20\d\d-\d\d-\d\d', row['date'])]


def test_no_measured_number_stands_twice():
    assert len({(row['topic'], row['what']) for row in ROWS}) == len(ROWS)


def test_row_measured_again_replaces_the_old_one_and_a_new_one_joins_its_topic():
    old = ROWS[0]
    again = {'what': old['what'], 'bar': 'x', 'measured': [1, 2], 'command': 'a\n  b'}
    merged = tool.merge(ROWS, old['topic'], [again, again | {'what': 'new'}], MARK)
    assert merged[0] == {
        'topic': old['topic'], 'what': old['what'], 'bar': 'x', 'measured': '[1, 2]',
        'command': 'a b', **MARK,
    }  # fmt: skip
    assert len(merged) == len(ROWS) + 1
    at = next(index for index, row in enumerate(merged) if row['what'] == 'new')
    assert merged[at - 1]['topic'] == old['topic'] != merged[at + 1]['topic']


def rows_of_labels():
    """Lines of the table of the simulation of labels."""
    page = (ROOT / 'docs' / 'explanation' / 'labels.md').read_text('utf-8')
    names = [name.strip() for name in re.search(r'^\| effects .*', page, re.M)[0].split('|')[1:-1]]
    lines = re.findall(r'^\| (?:bounded|half-normal) .*', page, re.M)
    return [
        dict(zip(names, [cell.strip() for cell in line.split('|')[1:-1]], strict=True))
        for line in lines
    ]


def test_the_table_of_labels_is_the_one_that_was_measured():
    proof = {row['what']: row['measured'] for row in ROWS if row['topic'] == 'Labels'}
    table = rows_of_labels()
    changed = [row for row in table if row['discordant'] != 'null']
    assert len(table) == 42
    for noise in ('0.5', '1', '2'):
        level = [row for row in changed if row['noise'] == noise]
        for column, what in (
            ('bias of pi_d', f'largest |bias| of pi_d at noise {noise}, 12 cases x 100 seeds'),
            ('bias, grid',
             f'the same with point masses on a grid (sensitivity) at noise {noise}'),
        ):  # fmt: skip
            assert max(abs(float(row[column])) for row in level) == json.loads(proof[what])
    covered = json.loads(proof['seeds of 100 whose interval covers the share, worst of 36 cases'])
    assert min(int(row['covered %']) for row in changed) == covered
    wrong = json.loads(proof['false sign rate of the robust labels 1-4, worst case with change'])
    assert max(float(row['robust wrong']) for row in changed) == pytest.approx(wrong, abs=6e-4)
    sign = [float(row['sign rule wrong']) for row in changed]
    expected = json.loads(
        proof['false sign rate of the sign rule, best and worst case with change']
    )
    assert [min(sign), max(sign)] == pytest.approx(expected, abs=6e-3)
