"""Haematocrit and arterial saturation of the participants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.files import MISSING_VALUES, Row, read_json, read_table
from bids_app.bids.input.sidecar import RANGES, Reader, choose, is_number, matches, shortened
from bids_app.bids.scans import Problem
from bids_app.errors import AppError, InputDataError
from bids_app.models.constants import ARTERIAL_SATURATION, HAEMATOCRIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app.settings import Settings

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
    faults: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(hct or sao2, participant label) -> what is wrong with the value."""
    undeclared: tuple[str, ...] = ()
    """Columns without a usable unit."""
    defect: str = ''
    """Why the table cannot be read as a whole."""
    description_defect: str = ''
    """Why its JSON, which holds the units, cannot be read."""


def read_participants(root: Path, units_of: Mapping[str, str] | None = None) -> BloodTable:
    """
    Read haematocrit and saturation from participants.tsv and its JSON.

    Values are converted by the unit of the JSON, else that of `units_of` (a role map); a column
    without one is listed, not read.
    """
    path = root / 'participants.tsv'
    if not (path.exists() or path.is_symlink()):
        return BloodTable()
    try:
        rows = read_table(path, ('participant_id',), once=(*HCT_COLUMNS, *SAO2_COLUMNS))
    except AppError as error:
        return BloodTable(files=(path,), defect=str(error))
    described, files, defect = _described(root)
    columns = list(rows[0]) if rows else []
    table = BloodTable(files=(path, *files), description_defect=defect)
    for name, choices in (('hct', HCT_COLUMNS), ('sao2', SAO2_COLUMNS)):
        column = next((column for column in choices if column in columns), None)
        if column is None:
            continue
        values, faults = _column(rows, column)
        known = {(name, label): f'{path.name}, {text}' for label, text in faults.items()}
        table = replace(table, faults={**table.faults, **known})
        unit = _declared_unit(described, column) or UNITS.get((units_of or {}).get(column, ''))
        if unit is not None:
            # 41.5 % is 0.415, not 0.4150...04
            fractions = {label: round(value * unit, 12) for label, value in values.items()}
            changes: dict[str, Any] = {name: fractions, f'{name}_column': column}
            table = replace(table, **changes)
        elif values:
            table = replace(table, undeclared=(*table.undeclared, column))
    return table


def _described(root: Path) -> tuple[dict[str, Any], tuple[Path, ...], str]:
    """Read participants.json."""
    path = root / 'participants.json'
    if not (path.exists() or path.is_symlink()):
        return {}, (), ''
    try:
        return read_json(path), (path,), ''
    except AppError as error:
        return {}, (path,), str(error)


def _declared_unit(described: Mapping[str, Any], column: str) -> float | None:
    """Factor from the declared unit of a column to a fraction."""
    entry = described.get(column)
    return UNITS.get(str(entry.get('Units', '')).strip()) if isinstance(entry, dict) else None


def _column(rows: Sequence[Row], column: str) -> tuple[dict[str, float], dict[str, str]]:
    """Read a column of numbers: the value of every participant, and what is wrong with it."""
    values: dict[str, float] = {}
    faults: dict[str, str] = {}
    lines: dict[str, int] = {}
    for row in rows:
        label, *more = row['participant_id'].split() or ['']
        label = label.removeprefix('sub-')
        if more:
            faults[label] = (
                f'line {row.line}: cells should be separated by tabs, found '
                f'{row["participant_id"]!r}'
            )
        if label in lines and row[column] not in MISSING_VALUES:
            faults[label] = (
                f'lines {lines[label]} and {row.line}: sub-{label} has two values of {column}; '
                'keep one'
            )
        if row[column] in MISSING_VALUES:
            continue
        lines[label] = row.line
        try:
            values[label] = float(row[column])
        except ValueError:
            hint = '; write a decimal point' if ',' in row[column] else ''
            faults.setdefault(
                label,
                f'line {row.line}: {column} should be a number, found {row[column]!r}{hint}',
            )
    return values, faults


def own_row(
    root: Path, participant: str, session: str | None = None
) -> tuple[Path, Row, dict[str, Any]] | None:
    """
    Find what participants.tsv, or sessions.tsv of a participant, says of one unit.

    Table, its row and the JSON that describes it; None where there is none, or participants.tsv
    cannot be read, which is said where haematocrit is.

    Raises
    ------
    AppError
        If sessions.tsv, or what describes it, cannot be read.
    """
    folder, key, label = root, 'participant_id', participant
    names = ['participants']
    if session is not None:
        folder, key, label = root / f'sub-{participant}', 'session_id', session
        names = [f'sub-{participant}_sessions', '../sessions']
    path = folder / f'{names[0]}.tsv'
    try:
        rows = read_table(path, (key,)) if path.exists() else []
        described: dict[str, Any] = {}
        for name in reversed(names) if rows else ():
            about = folder / f'{name}.json'
            described |= read_json(about) if about.exists() else {}
    except AppError:
        if session is None:
            return None
        raise
    for row in rows:
        if row[key].removeprefix('sub-').removeprefix('ses-') == label:
            return path, row, described
    return None


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
        msg += f'\n({table.description_defect})' if table.description_defect else ''
        raise InputDataError(msg)


def read_blood(reader: Reader, table: BloodTable, participant: str) -> tuple[float, float]:
    """
    Choose haematocrit and saturation of a participant.

    Fractions; NaN where the value given is impossible (a problem then).
    """
    reader.findings.files.update(table.files)
    if table.description_defect:
        reader.findings.note(f'{table.description_defect}; no unit is read from it')
    oxygen = reader.settings.oxygen
    hct = _blood(reader, participant, ('Hct', HAEMATOCRIT), oxygen.hct, table)
    sao2 = _blood(reader, participant, ('SaO2', ARTERIAL_SATURATION), oxygen.sao2, table)
    return hct, sao2


def _blood(
    reader: Reader,
    participant: str,
    quantity: tuple[str, float],
    setting: float | None,
    table: BloodTable,
) -> float:
    """Choose one of the two, given by its name and default."""
    key, default = quantity
    name = key.lower()
    stated, origin = None, ''
    for override in reader.overrides:
        entities = {'subject': participant}
        fits = matches(override, role='participants', entities=entities, condition=None)
        if fits and key in override.set:
            stated, origin = override.set[key], f'overrides file: {override.source}'
    known = setting if stated is None else stated
    fault = table.defect or table.faults.get((name, participant))
    if fault and known is None:
        message = (
            f'{fault}; {key} of sub-{participant} is not known: correct the table, or set '
            f'oxygen.{name}'
        )
        reader.findings.problem(Problem(role='participants', message=message))
        return math.nan
    values = {'hct': table.hct, 'sao2': table.sao2}[name]
    column = {'hct': table.hct_column, 'sao2': table.sao2_column}[name]
    candidates = [
        (setting, 'setting'),
        (stated, origin),
        (values.get(participant), f'participants.tsv column {column}'),
        (default, 'default'),
    ]
    chosen = choose(f'oxygen.{name}', '1', candidates)
    value, origin = (chosen.value, chosen.origin) if chosen else (math.nan, '')
    low, high = RANGES[key]
    if not (is_number(value) and low <= value <= high):
        message = (
            f'{key} of sub-{participant} = {shortened(value)} ({origin}) is outside {low:g} to '
            f'{high:g}; correct the value or its declared unit'
        )
        reader.findings.problem(Problem(role='participants', message=message))
        return math.nan
    if chosen is not None:
        reader.findings.value(chosen)
    if origin == 'default':
        reader.findings.note(f'{key} of sub-{participant} is not known; default {default:g}')
    return float(value)
