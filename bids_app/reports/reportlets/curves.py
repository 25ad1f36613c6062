"""Curves over time or echoes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.status import DESCRIPTIONS, Status
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import read_table, select, to_number
from bids_app.reports.drawing import figures
from bids_app.reports.report_table import FigureRow, report_table
from bids_app.reports.reportlets.base import (
    Fact,
    Reportlet,
    columns_of,
    lines_of,
    make_reportlet,
    place_of,
)
from bids_app.reports.text import in_words, number

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.reports.derivatives import Derivative


def draw_arterial_curve(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show the arterial input and say which voxels it is the mean of."""
    for reportlet, file in _curves(row, scene):
        voxels = file.sidecar.get('Voxels', [])
        origin = 'the mask' if file.sidecar.get('FromMask') else 'the shape of the curves'
        places = ', '.join(str(tuple(voxel)) for voxel in voxels[:8])
        fact = Fact(name=f'{len(voxels)} voxels by {origin}', text=f'the first: {places}')
        yield replace(reportlet, facts=(fact,))


def draw_series(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show columns of a table over another of its columns."""
    for reportlet, file in _curves(row, scene):
        yield replace(
            reportlet, facts=() if row.x else _movement_facts(row, read_table(file.path))
        )


def _movement_facts(row: FigureRow, lines: list[dict[str, str]]) -> tuple[Fact, ...]:
    """Say how large a course is, how often it leaves the usual range, and what is left out."""
    values = np.array([to_number(line.get(row.columns[0])) for line in lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return ()
    unit = '' if row.unit == '1' else f' {row.unit}'
    text = f'{number(float(values.mean()))}{unit}, at most {number(float(values.max()))}{unit}'
    facts = [Fact(name='mean', text=text)]
    if row.usual:
        beyond = int((values > row.usual[1]).sum())
        most = report_table().rules['moved_share'] * len(values)
        facts.append(
            Fact(
                name=f'above {number(row.usual[1])}{unit}',
                text=f'{beyond} of {len(values)}',
                verdict='good' if beyond <= most else 'check',
                rule=row.source,
                beyond=max(0.0, beyond / most - 1),
            )
        )  # fmt: skip
    if lines and 'censored' in lines[0]:
        left_out = sum(line['censored'] == '1' for line in lines)
        facts.append(Fact(name='volumes that do not count', text=f'{left_out} of {len(lines)}'))
    return tuple(facts)


def _curves(row: FigureRow, scene: Scene) -> Iterator[tuple[Reportlet, Derivative]]:
    """Draw columns of a table over another of its columns, or over its lines."""
    units = {column.name: column.unit for column in columns_of(row.output)}
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = lines_of(row, file)
        curves = _curves_of(row, lines)
        if not any(np.isfinite(values).any() for _, values in curves.values()):
            continue
        axis = row.x.replace('_', ' ') + (f' ({units[row.x]})' if units.get(row.x) else '')
        where = place_of(file)
        counted_by = 'echo' if file.entities.get('scan') in ('MESE', 'MEGRE') else 'volume'
        figure = figures.draw_curves(curves, labels=(axis or counted_by, row.label))
        reportlet = make_reportlet(row, file, where=where)
        chart = figures.svg(figure, name=reportlet.key)
        alt = row.alt.format(where=where, range='').strip()
        yield replace(reportlet, chart=chart, chart_alt=alt), file


def draw_decays(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show the echoes of a few voxels with the curve of their fit."""
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = read_table(file.path)
        trains, facts = {}, []
        for name in dict.fromkeys(line['voxel'] for line in lines):
            train = [line for line in lines if line['voxel'] == name]
            times, signal, fit = (
                np.array([to_number(line[column]) for line in train])
                for column in ('echo_time', 'signal', 'fit')
            )
            first = signal[0] if signal[0] > 0 else np.nan
            trains[name] = 1e3 * times, signal / first, fit / first
            facts.append(_voxel_fact(name, train[0]))
        if not trains:
            continue
        where = place_of(file)
        figure = figures.draw_fits(trains, labels=('echo time (ms)', 'signal'))
        reportlet = make_reportlet(row, file, where=where, facts=facts)
        alt = row.alt.format(where=where, range='').strip()
        yield replace(reportlet, chart=figures.svg(figure, name=reportlet.key), chart_alt=alt)


def _voxel_fact(name: str, line: Mapping[str, str]) -> Fact:
    """Say where a voxel is and what was estimated there."""
    rate = to_number(line['rate'])
    time = f'{number(1e3 / rate)} ms' if rate > 0 else 'no relaxation time'
    code = line['status']
    why = '' if code == Status.OK.name else f'; {DESCRIPTIONS[Status[code]]}'
    place = ', '.join(line[axis] for axis in 'ijk')
    return Fact(name=f'{name}, voxel {place}', text=f'{time}{why}')


def _curves_of(
    row: FigureRow, lines: list[dict[str, str]]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Sort the lines of a table into curves of both axes."""
    grouped: dict[str, tuple[list[float], list[float]]] = {}
    for volume, line in enumerate(lines):
        for column in row.columns:
            if column in line:
                words = [in_words(line.get(name, '')) for name in row.curves]
                name = ', '.join(words) or column.replace('_', ' ')
                x, y = grouped.setdefault(name, ([], []))
                x.append(to_number(line[row.x]) if row.x else float(volume))
                y.append(to_number(line[column]))
    return {name: (np.array(x), np.array(y)) for name, (x, y) in grouped.items()}
