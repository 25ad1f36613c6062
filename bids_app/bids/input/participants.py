"""Haematocrit and arterial saturation of the participants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.files import MISSING_VALUES, read_json, read_table
from bids_app.bids.input.sidecar import RANGES, Reader, choose, is_number, matches
from bids_app.bids.scans import Problem
from bids_app.errors import AppError, InputDataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app.settings import Settings

HCT = 0.42
"""Default large-vessel haematocrit, fraction."""

SAO2 = 0.98
"""Default arterial oxygen saturation, fraction."""

HCT_COLUMNS = ('Hct', 'hct', 'haematocrit', 'hematocrit')

SAO2_COLUMNS = ('O2sat', 'SaO2', 'sao2')

UNITS = {'percent': units.PERCENT, '%': units.PERCENT, '1': 1.0, 'fraction': 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodTable:
    """Haematocrit and saturation of every participant, as fractions."""

    hct: Mapping[str, float] = field(default_factory=dict)
    """Participant label -> fraction; only those that have one."""
    sao2: Mapping[str, float] = field(default_factory=dict)
    hct_column: str = ''
    sao2_column: str = ''
    files: tuple[Path, ...] = ()
    undeclared: tuple[str, ...] = ()
    """Columns without a usable unit."""
    defects: tuple[str, ...] = ()
    """What is wrong with the files."""


def read_participants(root: Path, units_of: Mapping[str, str] | None = None) -> BloodTable:
    """
    Read haematocrit and saturation from participants.tsv and its JSON.

    Parameters
    ----------
    root : Path
        The dataset.
    units_of : mapping of str to str, optional
        Unit of a column that the JSON does not declare (from a role map).

    Returns
    -------
    table : BloodTable
        Values converted by the declared unit; a column without one is listed, not read.
    """
    path = root / 'participants.tsv'
    if not (path.exists() or path.is_symlink()):
        return BloodTable()
    try:
        rows = read_table(path, ('participant_id',))
    except AppError as error:
        return BloodTable(files=(path,), defects=(str(error),))
    described, files, defects = _described(root)
    columns = list(rows[0]) if rows else []
    table = BloodTable(files=(path, *files), defects=defects)
    for name, choices in (('hct', HCT_COLUMNS), ('sao2', SAO2_COLUMNS)):
        column = next((column for column in choices if column in columns), None)
        if column is None or all(row[column] in MISSING_VALUES for row in rows):
            continue
        unit = _declared_unit(described, column) or UNITS.get((units_of or {}).get(column, ''))
        if unit is None:
            table = replace(table, undeclared=(*table.undeclared, column))
        else:
            changes: dict[str, Any] = {name: _column(rows, column, unit), f'{name}_column': column}
            table = replace(table, **changes)
    return table


def _described(root: Path) -> tuple[dict[str, Any], tuple[Path, ...], tuple[str, ...]]:
    """Read participants.json."""
    path = root / 'participants.json'
    if not (path.exists() or path.is_symlink()):
        return {}, (), ()
    try:
        return read_json(path), (path,), ()
    except AppError as error:
        return {}, (path,), (str(error),)


def _declared_unit(described: Mapping[str, Any], column: str) -> float | None:
    """Factor from the declared unit of a column to a fraction."""
    entry = described.get(column)
    return UNITS.get(str(entry.get('Units', '')).strip()) if isinstance(entry, dict) else None


def _column(rows: Sequence[Mapping[str, str]], column: str, unit: float) -> dict[str, float]:
    """Read a column of numbers; NaN where a cell is no number."""
    values = {}
    for row in rows:
        if row[column] in MISSING_VALUES:
            continue
        try:
            value = round(float(row[column]) * unit, 12)  # 41.5 % is 0.415, not 0.4150...04
        except ValueError:
            value = math.nan
        values[row['participant_id'].removeprefix('sub-')] = value
    return values


def check_units(table: BloodTable, settings: Settings) -> None:
    """
    Refuse columns whose unit is not declared, unless the values are given otherwise.

    Raises
    ------
    InputDataError
        With the lines to add to participants.json.
    """
    given = {
        **dict.fromkeys(HCT_COLUMNS, settings.oxygen.hct),
        **dict.fromkeys(SAO2_COLUMNS, settings.oxygen.sao2),
    }
    lacking = [column for column in table.undeclared if given[column] is None]
    if lacking:
        lines = ',\n'.join(f'  "{column}": {{"Units": "percent"}}' for column in lacking)
        msg = (
            f'participants.tsv: the unit of {" and ".join(lacking)} is not declared '
            '(percent or fraction?); add to participants.json:\n'
            f'{{\n{lines}\n}}\n'
            '(or "1" for fractions), or give oxygen.hct and oxygen.sao2 on the command line'
        )
        raise InputDataError(msg)


def read_blood(reader: Reader, table: BloodTable, participant: str) -> tuple[float, float]:
    """
    Choose haematocrit and saturation of a participant.

    Parameters
    ----------
    reader : Reader
        Collects problems, notes and values.
    table : BloodTable
        Of the dataset.
    participant : str
        Label without ``sub-``.

    Returns
    -------
    hct, sao2 : float
        Fractions; NaN where the value given is impossible (a problem then).
    """
    reader.findings.files.update(table.files)
    for defect in table.defects:
        reader.findings.note(f'{defect}; Hct and SaO2 are not read from it')
    oxygen = reader.settings.oxygen
    hct = _blood(reader, participant, 'Hct', oxygen.hct, table.hct, table.hct_column, HCT)
    sao2 = _blood(reader, participant, 'SaO2', oxygen.sao2, table.sao2, table.sao2_column, SAO2)
    return hct, sao2


def _blood(  # noqa: PLR0917
    reader: Reader,
    participant: str,
    key: str,
    setting: float | None,
    values: Mapping[str, float],
    column: str,
    default: float,
) -> float:
    """Choose one of the two."""
    stated, origin = None, ''
    for override in reader.overrides:
        entities = {'subject': participant}
        fits = matches(override, role='participants', entities=entities, condition=None)
        if fits and key in override.set:
            stated, origin = override.set[key], f'overrides file: {override.source}'
    candidates = [
        (setting, 'setting'),
        (stated, origin),
        (values.get(participant), f'participants.tsv column {column}'),
        (default, 'default'),
    ]
    chosen = choose(f'oxygen.{key.lower()}', '1', candidates)
    value, origin = (chosen.value, chosen.origin) if chosen else (math.nan, '')
    low, high = RANGES[key]
    if not (is_number(value) and low <= value <= high):
        message = (
            f'{key} of sub-{participant} = {value!r} ({origin}) is outside {low:g} to {high:g}; '
            'correct the value or its declared unit'
        )
        reader.findings.problem(Problem(role='participants', message=message))
        return math.nan
    if chosen is not None:
        reader.findings.value(chosen)
    if origin == 'default':
        reader.findings.note(f'{key} of sub-{participant} is not known; default {default:g}')
    return float(value)
