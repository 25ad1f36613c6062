"""
Put measured rows into benchmarks/validation.tsv, with their commit and day.

Usage
-----
``python tools/record_validation.py TOPIC ROWS.json`` takes a list of objects with what, bar,
measured and command, as the scripts of ``benchmarks/`` write; a row of the same topic and name is
replaced. ``make reference`` then writes docs/reference/validation.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / 'benchmarks' / 'validation.tsv'
COLUMNS = ('topic', 'what', 'bar', 'measured', 'command', 'commit', 'date')


def read_rows(table: Path = TABLE) -> list[dict[str, str]]:
    """Read the table; what was measured is text, or JSON where it is numbers."""
    header, *lines = table.read_text('utf-8').splitlines()
    if tuple(header.split('\t')) != COLUMNS:
        sys.exit(f'{table} has the columns {header!r}, not {COLUMNS}')
    return [dict(zip(COLUMNS, line.split('\t'), strict=True)) for line in lines]


def merge(
    rows: list[dict[str, str]], topic: str, measured: list[dict[str, object]], mark: dict[str, str]
) -> list[dict[str, str]]:
    """Replace rows of the same topic and name in their place; add the others to their topic."""
    merged = list(rows)
    for made in measured:
        text = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key in ('what', 'bar', 'measured', 'command')
            for value in [made[key]]
        }
        row = {'topic': topic, **{key: ' '.join(one.split()) for key, one in text.items()}, **mark}
        places = [at for at, old in enumerate(merged) if old['topic'] == topic]
        same = [at for at in places if merged[at]['what'] == row['what']]
        if same:
            merged[same[0]] = row
        else:
            merged.insert(places[-1] + 1 if places else len(merged), row)
    return merged


def main(topic: str, path: str) -> None:
    """Merge a file of rows into the table."""
    commit = subprocess.run(
        ['git', 'rev-parse', '--short=8', 'HEAD'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    mark = {'commit': commit, 'date': datetime.now(UTC).date().isoformat()}
    rows = merge(read_rows(), topic, json.loads(Path(path).read_text('utf-8')), mark)
    lines = ['\t'.join(COLUMNS), *('\t'.join(row[name] for name in COLUMNS) for row in rows)]
    TABLE.write_text('\n'.join(lines) + '\n', 'utf-8')


if __name__ == '__main__':
    main(*sys.argv[1:3])
