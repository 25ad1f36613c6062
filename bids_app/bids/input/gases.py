"""End-tidal pressures at rest and with each gas: from recordings, else from participants.tsv."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.conditions import gas_conditions, normalise
from bids_app.bids.input.files import MISSING_VALUES, NOT_ENTITIES, read_json
from bids_app.bids.input.participants import own_row
from bids_app.bids.input.query import parse_name
from bids_app.bids.input.sidecar import choose, is_number
from bids_app.bids.scans import DataValue, Problem
from bids_app.errors import AppError, InputDataError
from bids_app.settings import limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Reader
    from bids_app.bids.scans import AslSeries, ParticipantInputs

UNITS = {'mmhg': 1.0, 'torr': 1.0, 'kpa': units.KILOPASCAL}
"""Unit of a pressure, in lower case -> mmHg."""

TRACES = {
    'pco2': ('co2', 'pco2', 'carbondioxide'),
    'po2': ('o2', 'po2', 'oxygen'),
}
"""Gas -> normalised names of a column that holds the breathed gas."""

END_TIDAL = {
    'pco2': ('petco2', 'etco2', 'endtidalco2'),
    'po2': ('peto2', 'eto2', 'endtidalo2'),
}
"""Gas -> normalised names of a column that holds end-tidal values already."""

COLUMNS = {'pco2': 'petco2', 'po2': 'peto2'}
"""Gas -> start of the normalised name of a column of participants.tsv; a condition follows."""

WANTED = ('resting_po2', 'hypercapnia_po2', 'hyperoxia_po2', 'resting_pco2', 'hypercapnia_pco2')
"""Settings of the branch oxygen; what stands before the gas is a condition."""


def read_gases(reader: Reader, inputs: ParticipantInputs, found: Sequence[Found]) -> None:
    """
    Find the end-tidal pressures of a unit, where conditions of gases are named.

    Parameters
    ----------
    reader : Reader
        Takes the values, and problems of files that cannot be read.
    inputs : ParticipantInputs
        With its series and their blocks.
    found : sequence of Found
        Recordings.
    """
    named = gas_conditions(reader.settings)
    if not named:
        return
    conditions = named | ({'resting': inputs.baseline} if inputs.baseline else {})
    recorded = _recorded(reader, inputs.asl, conditions, found)
    listed = _listed(reader, inputs.participant, conditions)
    for name in WANTED:
        which, _, gas = name.partition('_')
        if which not in conditions:
            continue
        candidates = [
            (getattr(reader.settings.oxygen, name), 'setting'),
            *(found.get((which, gas), (None, '')) for found in (recorded, listed)),
        ]
        value = choose(f'oxygen.{name}', 'mmHg', candidates)
        if value is not None:
            _keep(reader, value)
    _suppose(reader)
    _keep_shared_noise(reader, inputs, set(named.values()))


def _keep(reader: Reader, value: DataValue) -> None:
    """Take a pressure that can be one."""
    low, high = limits_of(value.name)
    if low <= value.value <= high:
        reader.findings.value(value)
        return
    message = (
        f'{value.name} = {value.value:g} mmHg ({value.origin}) is outside {low:g} to {high:g}; '
        'correct the value or its declared unit'
    )
    reader.findings.problem(Problem(role='gases', message=message))


def _keep_shared_noise(reader: Reader, inputs: ParticipantInputs, gases: set[str]) -> None:
    """Keep which noise BOLD and flow of gases have in common that are blocks of one series."""
    from bids_app.models.oxygen.gas_calibration import first_echo_share

    start = reader.settings.bold.window_start
    for run in inputs.bold:
        blocks = [event for event in run.events if event.trial_type != inputs.baseline]
        if not (run.context and gases <= {event.trial_type for event in blocks}):
            continue
        breathed = sum(max(event.duration - start, 0.0) for event in blocks
                       if event.trial_type in gases) / len(gases)  # fmt: skip
        length = run.n_volumes * run.repetition_time
        still = length - sum(event.duration + start for event in blocks)
        shares = {
            'echo_share': first_echo_share(run.echo_times),
            'resting_share': breathed / (breathed + max(still, breathed)),
        }
        for name, value in shares.items():
            origin = f'design of {run.file.name}'
            row = DataValue(name=f'oxygen.{name}', value=round(value, 4), unit='1', origin=origin)
            reader.findings.value(row)
        return


def _suppose(reader: Reader) -> None:
    """Take the pressure of oxygen in hypercapnia as that at rest, where it is not known."""
    known = {one.name: one for one in reader.findings.values}
    rest = known.get('oxygen.resting_po2')
    wants = 'hypercapnia' in gas_conditions(reader.settings)
    if not wants or rest is None or 'oxygen.hypercapnia_po2' in known:
        return
    reader.findings.note(
        'the pressure of oxygen in hypercapnia is not known and taken as that at rest'
    )
    name, origin = 'oxygen.hypercapnia_po2', 'oxygen.resting_po2'
    reader.findings.value(DataValue(name=name, value=rest.value, unit='mmHg', origin=origin))


def _listed(
    reader: Reader, participant: str, conditions: Mapping[str, str]
) -> dict[tuple[str, str], tuple[float, str]]:
    """Read the columns of participants.tsv: PetO2_<condition>, PetCO2_<condition>."""
    table = own_row(reader.root, participant)
    if table is None:
        return {}
    _, own, described = table
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for column in own:
        for gas, start in COLUMNS.items():
            label = normalise(column)
            which = [w for w, one in conditions.items() if label == f'{start}{one}']
            if not which or own[column] in MISSING_VALUES:
                continue
            value = _pressure(reader, own[column], described.get(column), f'column {column}')
            if value is not None:
                found[which[0], gas] = (value, f'participants.tsv column {column}')
    return found


def _pressure(reader: Reader, cell: str, about: Any, where: str) -> float | None:
    """Read a cell of a table in the unit that its JSON declares."""
    factor = _factor(about)
    if factor is None:
        message = (
            f'participants.tsv: the unit of {where} is not declared; add to participants.json '
            f'{{"Units": "mmHg"}} or "kPa" under its name'
        )
        reader.findings.problem(Problem(role='gases', message=message))
        return None
    try:
        return factor * float(cell)
    except ValueError:
        message = f'participants.tsv: {where} should be a number, found {cell!r}'
        reader.findings.problem(Problem(role='gases', message=message))
        return None


def _factor(about: Any) -> float | None:
    """Factor from a declared unit to mmHg."""
    unit = about.get('Units', '') if isinstance(about, dict) else ''
    return UNITS.get(str(unit).strip().lower())


def _recorded(
    reader: Reader,
    series: Sequence[AslSeries],
    conditions: Mapping[str, str],
    recordings: Sequence[Found],
) -> dict[tuple[str, str], tuple[float, str]]:
    """Read the pressures of every condition from the recordings beside the series."""
    from bids_app.models.oxygen.end_tidal import pressure_in

    found: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for one in {one.file: one for one in series if one.events}.values():
        for path in _beside(one.file, recordings):
            try:
                breaths = _breaths(reader, path)
            except (AppError, OSError, ValueError) as error:
                message = f'{path.name} cannot be used: {error}'
                reader.findings.problem(Problem(role='gases', message=message, file=path))
                continue
            reader.findings.files.add(path)
            for gas, (times, pressures) in breaths.items():
                for which, condition in conditions.items():
                    windows = _windows(
                        one,
                        condition,
                        is_baseline=which == 'resting',
                        start=reader.settings.bold.window_start,
                    )
                    value = pressure_in(times, pressures, windows)
                    if math.isfinite(value):
                        found.setdefault((which, gas), []).append((value, path.name))
    return {
        key: (
            round(sum(value for value, _ in values) / len(values), 2),
            f'recording {", ".join(dict.fromkeys(name for _, name in values))}',
        )
        for key, values in found.items()
    }


def _windows(
    series: AslSeries, condition: str, *, is_baseline: bool, start: float
) -> list[tuple[float, float]]:
    """List the blocks of a condition, without their start; of a baseline without rows the gaps."""
    blocks = [(one.onset, one.onset + one.duration) for one in series.events]
    own = [
        block
        for block, one in zip(blocks, series.events, strict=True)
        if one.trial_type == condition
    ]
    if not own and is_baseline:
        end = series.n_volumes * (series.repetition_time or 0.0)
        borders = [0.0, *(x for block in blocks for x in block), end]
        own = list(zip(borders[::2], borders[1::2], strict=True))
    return [(begin + start, end) for begin, end in own]


def _beside(file: Path, recordings: Sequence[Found]) -> list[Path]:
    """List the recordings whose entities are all among those of a series."""
    own, found = parse_name(file), []
    for one in recordings:
        ours = {'recording', *NOT_ENTITIES}
        if all(own.get(key) == value for key, value in one.entities.items() if key not in ours):
            found.append(one.path)
    return found


def _breaths(reader: Reader, path: Path) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Read times (s) and end-tidal pressures (mmHg) of the gases of a recording."""
    import numpy as np

    from bids_app.models.oxygen.end_tidal import find_end_tidal

    about = read_json(path.with_name(path.name.removesuffix('.tsv.gz') + '.json'))
    columns: Any = about.get('Columns')
    rate: Any = about.get('SamplingFrequency')
    if not (isinstance(columns, list) and is_number(rate) and float(rate) > 0):
        msg = 'its JSON lacks Columns or SamplingFrequency'
        raise InputDataError(msg)
    chosen = {gas: _column(columns, gas) for gas in TRACES}
    if not any(chosen.values()):
        return {}  # of the heart or of a belt
    table = np.genfromtxt(io.StringIO(_text(path)), delimiter='\t', ndmin=2)
    if table.shape[1] != len(columns):
        msg = f'{len(columns)} Columns are named, the table has {table.shape[1]}'
        raise InputDataError(msg)
    begin = about.get('StartTime', 0.0)
    times = (begin if is_number(begin) else 0.0) + np.arange(len(table)) / rate
    traces: dict[str, FloatArray] = {}
    ends: dict[str, Any] = {}
    for gas, column in chosen.items():
        if column is None:
            continue
        index, is_end_tidal = column
        factor = _factor(about.get(columns[index]))
        if factor is None:
            msg = (
                f'the unit of its column {columns[index]} is not declared as mmHg or kPa (a share '
                'of the breath needs the pressure of that day)'
            )
            raise InputDataError(msg)
        traces[gas] = factor * table[:, index]
        ends[gas] = (
            np.flatnonzero(np.isfinite(traces[gas]))
            if is_end_tidal
            else find_end_tidal(
                traces[gas], sampling_rate=float(rate), rises_in_expiration=gas == 'pco2'
            )
        )
    return {gas: (times[ends[gas]], trace[ends[gas]]) for gas, trace in traces.items()}


def _text(path: Path) -> str:
    """Read the text of a recording."""
    try:
        text = gzip.decompress(path.read_bytes()).decode('utf-8')
    except (EOFError, zlib.error) as error:
        msg = f'it is cut off or damaged ({error})'
        raise InputDataError(msg) from error
    if not text.strip():
        msg = 'it is empty'
        raise InputDataError(msg)
    return text


def _column(columns: Sequence[str], gas: str) -> tuple[int, bool] | None:
    """Index of the column of a gas, and whether it holds end-tidal values."""
    for names, is_end_tidal in ((END_TIDAL[gas], True), (TRACES[gas], False)):
        for index, column in enumerate(columns):
            if normalise(str(column)) in names:
                return index, is_end_tidal
    return None
