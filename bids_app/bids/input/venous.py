"""Saturation of venous blood: of the settings, sessions.tsv or participants.tsv, or by T2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.conditions import normalise
from bids_app.bids.input.files import MISSING_VALUES
from bids_app.bids.input.participants import UNITS, own_row
from bids_app.bids.scans import DataValue, Problem
from bids_app.errors import AppError, ModelInputError
from bids_app.models.constants import VENOUS_SATURATION_ERROR
from bids_app.settings import limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bids_app.bids.input.sidecar import Reader
    from bids_app.bids.scans import ParticipantInputs

    Known = tuple[float, str]
    """A number and its origin."""

SATURATION, T2 = 'venous_saturation', 'venous_t2'

COLUMNS = {SATURATION: ('yv', 'svo2'), T2: ('t2v', 'venoust2')}
"""Quantity -> normalised names of its column; that of its error ends in one of `ERRORS`."""

ERRORS = ('se', 'error')

TIMES = {'s': 1.0, 'ms': units.MILLISECOND}
"""Unit of a time -> s."""

SUPPOSED = (VENOUS_SATURATION_ERROR, 'default')
"""Error of a saturation that comes without one."""

HCT_ERROR = 0.03
"""Relative error of the haematocrit, as among the errors of the constants; ours."""


def read_venous_blood(reader: Reader, inputs: ParticipantInputs) -> None:
    """
    Find the saturation of venous blood of a unit, and its error.

    A saturation goes before a T2, and in each the settings before sessions.tsv before
    participants.tsv. A T2 needs the haematocrit and 3 T. What cannot be one is a problem.
    """
    try:
        found = _saturation(reader, inputs)
    except AppError as error:
        reader.findings.problem(Problem(role='venous', message=str(error)))
        return
    for name, (value, origin) in found.items():
        low, high = limits_of(f'oxygen.{name}')
        if not low <= value <= high:
            message = (
                f'oxygen.{name} = {value:g} ({origin}) is outside {low:g} to {high:g}; correct '
                'the value or its declared unit'
            )
            reader.findings.problem(Problem(role='venous', message=message))
            return
    for name, (value, origin) in found.items():
        row = DataValue(name=f'oxygen.{name}', value=value, unit='1', origin=origin)
        reader.findings.value(row)


def _saturation(reader: Reader, inputs: ParticipantInputs) -> dict[str, Known]:
    """Give the saturation and its error, each with its origin; nothing where none is known."""
    sources = list(_sources(reader, inputs))
    for source in sources:
        if SATURATION in source:
            if any(T2 in one for one in sources):
                reader.findings.note('T2 of venous blood is not used: its saturation is given')
            error = _error_of(SATURATION, source, sources[0])
            return {SATURATION: source[SATURATION], f'{SATURATION}_error': error or SUPPOSED}
    for source in sources:
        if T2 in source:
            return _by_t2(source[T2], _error_of(T2, source, sources[0]), inputs)
    return {}


def _error_of(
    name: str, source: Mapping[str, Known], settings: Mapping[str, Known]
) -> Known | None:
    """Give the error of a quantity: where that stands, else of the settings."""
    return source.get(f'{name}_error', settings.get(f'{name}_error'))


def _by_t2(known: Known, error: Known | None, inputs: ParticipantInputs) -> dict[str, Known]:
    """Turn T2 of venous blood into its saturation."""
    from bids_app.models.oxygen.venous import saturation_error, saturation_from_t2

    t2, origin = known
    blood = {'hct': inputs.hct, 'b0': inputs.b0}
    if math.isnan(inputs.hct) or math.isnan(inputs.b0):
        msg = f'T2 of venous blood ({origin}) needs the haematocrit and the field'
        raise ModelInputError(msg)
    low, high = limits_of(f'oxygen.{T2}')
    if not low <= t2 <= high:
        msg = f'T2 of venous blood = {t2:g} s ({origin}) is outside {low:g} to {high:g} s'
        raise ModelInputError(msg)
    value = round(saturation_from_t2(t2, **blood), 4)
    shown = f'T2 of {1000 * t2:g} ms ({origin}) at a haematocrit of {inputs.hct:g}'
    if error is None:
        return {SATURATION: (value, shown), f'{SATURATION}_error': SUPPOSED}
    spread = saturation_error(t2, **blood, t2_error=error[0], hct_error=HCT_ERROR * inputs.hct)
    shown_error = f'error of T2 ({error[1]}), haematocrit and calibration'
    return {SATURATION: (value, shown), f'{SATURATION}_error': (round(spread, 4), shown_error)}


def _sources(reader: Reader, inputs: ParticipantInputs) -> Iterable[Mapping[str, Known]]:
    """Give what each source says, the strongest first: quantity or its error -> value, origin."""
    settings = reader.settings.oxygen
    given = {
        SATURATION: settings.venous_saturation,
        f'{SATURATION}_error': settings.venous_saturation_error,
        T2: settings.venous_t2,
        f'{T2}_error': settings.venous_t2_error,
    }
    yield {name: (value, 'setting') for name, value in given.items() if value is not None}
    for session in (inputs.session, None) if inputs.session else (None,):
        table = own_row(reader.root, inputs.participant, session)
        if table is not None:
            yield _listed(reader, *table)


def _listed(
    reader: Reader, path: Path, row: Mapping[str, str], described: Mapping[str, Any]
) -> dict[str, Known]:
    """Read the columns of a table."""
    found: dict[str, Known] = {}
    for column, cell in row.items():
        name = _quantity(column)
        if name is None or cell in MISSING_VALUES:
            continue
        reader.findings.files.add(path)
        about = described.get(column)
        unit = str(about.get('Units', '')).strip() if isinstance(about, dict) else ''
        factors = UNITS if name.startswith(SATURATION) else TIMES
        if unit not in factors:
            wanted = ' or '.join(f'"{one}"' for one in factors)
            msg = (
                f'{path.name}: the unit of {column} is not declared; add to the JSON of the table '
                f'{{"{column}": {{"Units": ...}}}} with {wanted}'
            )
            raise ModelInputError(msg)
        try:
            value = float(cell)
        except ValueError as error:
            msg = f'{path.name}: {column} should be a number, found {cell!r}'
            raise ModelInputError(msg) from error
        found[name] = (round(factors[unit] * value, 12), f'{path.name} column {column}')
    return found


def _quantity(column: str) -> str | None:
    """Name the quantity that a column holds, or whose error it holds."""
    label = normalise(column)
    for name, labels in COLUMNS.items():
        if label in labels:
            return name
        if any(label == f'{one}{end}' for one in labels for end in ERRORS):
            return f'{name}_error'
    return None
