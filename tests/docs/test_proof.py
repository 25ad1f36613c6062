import json
from pathlib import Path

import pytest

PROOFS = sorted((Path(__file__).parents[2] / 'docs' / 'proof').glob('issue*.json'))


@pytest.mark.parametrize('path', PROOFS, ids=lambda path: path.stem)
def test_every_number_of_a_proof_stands_beside_its_bar_and_its_command(path):
    rows = json.loads(path.read_text('utf-8'))
    assert rows
    for row in rows:
        assert {'what', 'bar', 'measured', 'command'} <= set(row), row
        assert all(str(row[key]).strip() for key in ('what', 'bar', 'measured', 'command')), row
