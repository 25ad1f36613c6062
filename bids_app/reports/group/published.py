"""Published numbers beside those of this group, where their preset is in use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from bids_app.reports.derivatives import (
    list_derivatives,
    load_upright,
    read_json,
    read_table,
    root_file,
    select,
    to_number,
)
from bids_app.reports.report_table import report_table
from bids_app.reports.text import unit_text, with_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.reports.derivatives import Derivative


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A published number and ours."""

    title: str
    published: str
    ours: str
    note: str


def compare(
    preset: str, output_dir: Path, files: Sequence[Derivative], participants: Sequence[str]
) -> tuple[str, tuple[Comparison, ...]]:
    """
    Put the published numbers of a preset beside those of the group.

    Say where the published numbers are from, none for most presets. Rows are in the order of
    data/published.yml; what this group does not have says so.
    """
    known = _published().get(preset)
    if known is None:
        return '', ()
    rows = []
    for row in known['rows']:
        if 'map' in row:
            found = [_grey_mean(output_dir, label, row['map']) for label in participants]
            means = row['scale'] * np.array([value for value in found if np.isfinite(value)])
        else:
            means = np.array(_cells(files, row))
        rows.append(
            Comparison(
                title=row['title'],
                published=_text(row['published'], row.get('spread'), row['unit']),
                ours=_ours(means, row['unit']),
                note=row['note'],
            )
        )
    return str(known['about']), tuple(rows)


def _published() -> dict[str, Any]:
    """Read data/published.yml."""
    text = (files('bids_app') / 'data' / 'published.yml').read_text('utf-8')
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _text(value: float, spread: float | None, unit: str) -> str:
    """Write a mean with the standard deviation over participants."""
    between = float('nan') if spread is None else float(spread)
    return f'{with_error(float(value), between)} {unit_text(unit)}'


def _ours(means: FloatArray, unit: str) -> str:
    """Write our number; over participants with their standard deviation."""
    if not len(means):
        return 'not in this study'
    means = means[np.isfinite(means)]
    if not len(means):
        return 'no estimate'
    if len(means) == 1:
        return _text(float(means[0]), None, unit)
    spread = float(np.std(means, ddof=1))
    return f'{_text(float(np.mean(means)), spread, unit)} (n = {len(means)})'


def _grey_mean(output_dir: Path, participant: str, key: str) -> float:
    """Mean of a map over the grey matter of a participant, in the baseline condition."""
    found = list_derivatives(output_dir, f'sub-{participant}')
    summary = read_json(root_file(output_dir, 'run_summary', sub=participant))
    baselines = {unit.get('baseline') for unit in summary.get('units') or []} | {None}
    maps = [
        file
        for file in select(found, key, res=None)
        if file.entities.get('condition') in baselines and file.entities.get('space') != 'T1w'
    ]
    for file in maps:
        space = file.entities['space']
        tissue = select(found, 'probseg', space=space, label='GM', res=None)
        if tissue:
            values, grey = (load_upright(path)[0] for path in (file.path, tissue[0].path))
            inside = (grey > report_table().rules['grey_probability']) & np.isfinite(values)
            return float(values[inside].mean()) if inside.any() else float('nan')
    return float('nan')


def _cells(files: Sequence[Derivative], row: Mapping[str, Any]) -> list[float]:
    """Find a number in a table of the group; none without its contrast."""
    for file in select(files, row['table'], contrast=row['contrast']):
        for line in read_table(file.path):
            if all(line.get(name) == value for name, value in row['where'].items()):
                value = to_number(line.get(row['column']))
                divisor = to_number(line.get(row['over'])) if 'over' in row else 1.0
                return [row['scale'] * value / divisor if divisor else float('nan')]
    return []
