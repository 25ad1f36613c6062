import json
import re

import pytest

from tests.paths import ROOT

PROOFS = sorted((ROOT / 'docs' / 'proof').glob('issue*.json'))


@pytest.mark.parametrize('path', PROOFS, ids=lambda path: path.stem)
def test_every_number_of_a_proof_stands_beside_its_bar_and_its_command(path):
    rows = json.loads(path.read_text('utf-8'))
    assert rows
    for row in rows:
        assert {'what', 'bar', 'measured', 'command'} <= set(row), row
        assert all(str(row[key]).strip() for key in ('what', 'bar', 'measured', 'command')), row


def rows_of_labels():
    """Lines of the table of the simulation of labels."""
    page = (PROOFS[0].parents[1] / 'explanation' / 'labels.md').read_text('utf-8')
    names = [name.strip() for name in re.search(r'^\| effects .*', page, re.M)[0].split('|')[1:-1]]
    lines = re.findall(r'^\| (?:bounded|half-normal) .*', page, re.M)
    return [
        dict(zip(names, [cell.strip() for cell in line.split('|')[1:-1]], strict=True))
        for line in lines
    ]


def test_the_table_of_labels_is_the_one_that_was_measured():
    proof = {
        row['what']: row['measured']
        for row in json.loads(next(p for p in PROOFS if p.stem == 'issue8').read_text('utf-8'))
    }
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
            assert max(abs(float(row[column])) for row in level) == proof[what]
    covered = proof['seeds of 100 whose interval covers the share, worst of 36 cases']
    assert min(int(row['covered %']) for row in changed) == covered
    wrong = proof['false sign rate of the robust labels 1-4, worst case with change']
    assert max(float(row['robust wrong']) for row in changed) == pytest.approx(wrong, abs=6e-4)
    sign = [float(row['sign rule wrong']) for row in changed]
    expected = proof['false sign rate of the sign rule, best and worst case with change']
    assert [min(sign), max(sign)] == pytest.approx(expected, abs=6e-3)
