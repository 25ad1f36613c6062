"""Maps of a condition with their error and histogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.names import unit_of
from bids_app.models.status import DESCRIPTIONS, Status
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import load_upright
from bids_app.reports.drawing import figures
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.base import (
    Fact,
    LegendEntry,
    Reportlet,
    halves_fact,
    histogram_of,
    make_reportlet,
    share_fact,
    standard_error_of,
    status_of,
    tissue_values,
    tried_voxels,
)
from bids_app.reports.text import (
    counted,
    number,
    percent,
    range_text,
    round_up,
    unit_text,
    with_error,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray, IntArray


def draw_maps(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show a value map, its standard error and its distribution per tissue."""
    for file in sorted(scene.maps(row.output), key=scene.rank):
        if scene.slices is None:
            return
        condition = file.entities.get('condition')
        values = load_upright(file.path)[0] * row.scale
        status = status_of(scene, row, condition)
        mask = tried_voxels(values, status, scene)
        scale = figures.Scale(limits=row.limits, colormap=row.colormap, label=row.label)
        drawn = [('Estimate', figures.draw_map(values, scene.slices, scale, mask=mask), '')]
        error = standard_error_of(scene, row, condition)
        if error is not None:
            drawn.append(_error_picture(row, error, scene.slices, mask))
        reasons, legend = _reasons(status, mask)
        if legend:
            colours = {code: entry.colour for code, entry in legend}
            figure = figures.draw_labels(reasons, colours, scene.slices, backdrop=scene.backdrop)
            alt = f'Axial slices of the reasons why {row.title} has no value, or is doubtful.'
            drawn.append(('Reasons and cautions', figure, alt))
        tissues = tissue_values(values, mask, scene)
        yield make_reportlet(
            row,
            file,
            pictures=drawn,
            where=condition or 'shared',
            extra={'range': range_text(values[mask], row.unit)},
            chart=histogram_of(row, tissues, '-'.join([row.key, *file.entities.values()])),
            chart_note=HISTOGRAM_NOTE
            if row.usual and 'grey matter' in tissues
            else HISTOGRAM_NOTE.partition('. ')[2],
            facts=[
                *_map_facts(row, values, error=error, mask=mask, tissues=tissues),
                *_set_facts(file.sidecar),
                edge_fact(file.sidecar),
                first_echo_fact(file.sidecar),
                halves_fact(file.sidecar),
            ],
            legend=tuple(entry for _, entry in legend),
        )


FIRST_ECHO_LOW = 2.0
"""Of the first echo below the decay of the later ones, beyond which T2 is doubted, %; ours."""

SLAB_EDGE = -0.05
"""Variance of the edges of slices below which they look encoded by phase; ours."""

HISTOGRAM_NOTE = (
    'Shaded: where the grey-matter median usually lies. The outermost bins hold everything '
    'beyond them.'
)


def _reasons(
    status: FloatArray | None, mask: BoolArray
) -> tuple[IntArray, tuple[tuple[int, LegendEntry], ...]]:
    """List the codes of a status map other than OK with their colours and shares."""
    if status is None:
        return np.zeros(mask.shape, int), ()
    codes = np.where(mask, np.rint(np.nan_to_num(status)), 0).astype(int)
    known = {int(code) for code in Status} - {int(Status.OK)}
    found = [code for code in np.unique(codes[mask]).tolist() if code in known]
    entries = []
    for position, code in enumerate(found):
        count = int(np.sum(codes[mask] == code))
        entry = LegendEntry(
            colour=figures.STATUS_COLOURS[position % len(figures.STATUS_COLOURS)],
            name=DESCRIPTIONS[Status(code)],
            share=f'{counted(count, "voxel")}, {percent(count / max(1, mask.sum()))}',
        )
        entries.append((code, entry))
    return codes, tuple(entries)


def _error_picture(
    row: FigureRow, error: FloatArray, slices: figures.Slices, mask: BoolArray
) -> tuple[str, Figure, str]:
    """Draw a standard error from 0 to a round number that leaves out the worst 2 %."""
    finite = error[mask & np.isfinite(error)]
    top = round_up(float(np.percentile(finite, 98))) if len(finite) else 1.0
    scale = figures.Scale(
        limits=(0.0, top), colormap='cividis', label=f'standard error ({row.unit})'
    )
    figure = figures.draw_map(error, slices, scale, mask=mask)
    alt = f'Axial slices of the standard error. {range_text(error[mask], row.unit)}'
    return 'Random error', figure, alt


def _map_facts(
    row: FigureRow,
    values: FloatArray,
    *,
    error: FloatArray | None,
    mask: BoolArray,
    tissues: Mapping[str, FloatArray],
) -> list[Fact | None]:
    """List the numbers of a value map."""
    facts: list[Fact | None] = [median_fact(name, taken, row) for name, taken in tissues.items()]
    if error is not None and np.isfinite(error[mask]).any():
        unit = 'percentage points' if row.unit == '%' else row.unit
        text = f'{number(float(np.nanmedian(error[mask])))} {unit}'
        facts.append(Fact(name='typical standard error of a voxel', text=text))
    main = next(iter(tissues.items()))
    facts.append(share_fact(main[1], main[0]))
    facts.append(_unit_fact(row))
    return facts


def _set_facts(sidecar: Mapping[str, Any]) -> list[Fact]:
    """Say how redundant sets moved and how far they agree, where there were some."""
    moved = sidecar.get('SetDisplacement') or ()
    facts = [
        Fact(name=f'movement of set {position} that was undone', text=f'{number(size)} mm')
        for position, size in enumerate(moved, start=1)
        if position > 1
    ]
    if 'SetDisagreement' in sidecar:
        text = f'{number(float(sidecar["SetDisagreement"]))} % of the signal'
        facts.append(Fact(name='disagreement of the sets', text=text))
    return facts


def edge_fact(sidecar: Mapping[str, Any]) -> Fact | None:
    """
    Say how soft the slices were found to be, where that was fitted.

    Doubtful where nothing could be fitted, or where nothing is dephased across the slices.
    """
    if 'SliceEdge' not in sidecar:
        return None
    edge = sidecar['SliceEdge']
    found = edge['Voxels'] > 0
    source = f'from {counted(edge["Voxels"], "voxel")}' if found else 'assumed'
    return Fact(
        name='edges of the slices (variance over the squared thickness)',
        text=f'{with_error(edge["Variance"], edge["Error"])}, {source}',
        verdict='good' if found and edge['Variance'] > SLAB_EDGE else 'check',
        rule='a rectangle has 0, a sinc-Gauss slice 0.026; near -0.08 nothing is lost across the '
        'slices, as in 3D (MRAcquisitionType)',
    )


def first_echo_fact(sidecar: Mapping[str, Any]) -> Fact | None:
    """
    Say how far the first echo lies from the decay of the others, where that decides on T2.

    None of other maps than T2, and where the model lets the first echo be low.
    """
    # the key is asked for first: maps of other software may name their model in any way
    if 'FirstEchoDeparture' not in sidecar or sidecar['Model']['Name'] != 'exponential':
        return None
    departure = float(sidecar['FirstEchoDeparture'])
    return Fact(
        name='first echo, beside what the later ones say',
        text=f'{number(departure)} %',
        verdict='good' if departure >= -FIRST_ECHO_LOW else 'check',
        rule=f'usual: above -{number(FIRST_ECHO_LOW)} %; where it is lower, T2 is too long '
        '(choose relaxometry.t2_model drop-first)',
        beyond=max(0.0, -departure - FIRST_ECHO_LOW) / FIRST_ECHO_LOW,
    )


def median_fact(name: str, values: FloatArray, row: FigureRow) -> Fact:
    """Give median and quartiles, judged for grey matter by the usual range."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Fact(
            name=f'median, {name}', text='no estimate', verdict='check', beyond=float('inf')
        )
    low, middle, high = np.percentile(finite, (25, 50, 75))
    text = f'{number(middle)} {row.unit} (quartiles {number(low)} to {number(high)})'
    if name != 'grey matter' or row.usual is None:
        return Fact(name=f'median, {name}', text=text)
    first, last = row.usual
    beyond = max(first - middle, middle - last, 0.0) / (last - first)
    rule = f'usual: {number(first)} to {number(last)} {row.unit}, {row.source}'
    verdict = 'check' if beyond else 'good'
    return Fact(name=f'median, {name}', text=text, verdict=verdict, rule=rule, beyond=beyond)


def _unit_fact(row: FigureRow) -> Fact | None:
    """Say that the unit shown is not that of the file."""
    if row.scale == 1.0:
        return None
    unit = unit_text(unit_of(row.output, quantity=row.quantity)) if row.quantity else ''
    return Fact(name='unit of the file', text=f'{unit}, shown times {row.scale:g}')
