"""Charts written as SVG by hand, in the colours of the page and with text under the pointer."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app._typing import FloatArray
    from bids_app.reports.report_table import ChainStep

CELL = (128.0, 62.0)
"""Width and height that a step of the chain has for itself."""

BOX = (118.0, 34.0)
"""Width and height of a step of the chain."""


def draw_chain(steps: Mapping[str, ChainStep], states: Mapping[str, str]) -> str:
    """
    Draw the chain from scans to labels.

    Steps that were not made are dashed, and say why under the pointer; a step without a state was
    not asked for.
    """
    width = CELL[0] * (1 + max(step.x for step in steps.values()))
    height = CELL[1] * max(step.y for step in steps.values()) + BOX[1] + 4
    is_made = {name: states.get(name) == 'made' for name in steps}
    arrows = [
        _arrow(steps[source], step, is_made[source] and is_made[name])
        for name, step in steps.items()
        for source in step.made_from
    ]
    boxes = [
        _box(step, states.get(name, 'not asked for'), is_made[name])
        for name, step in steps.items()
    ]
    names = [steps[name].title for name in steps if is_made[name]]
    missing = [steps[name].title for name in steps if not is_made[name]]
    there, absent = (', '.join(found) or 'nothing' for found in (names, missing))
    label = f'Chain of steps. There: {there}. Not there: {absent}.'
    return (
        f'<svg class="chain-graph" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(arrows + boxes)}</svg>'
    )


def _corner(step: ChainStep) -> tuple[float, float]:
    """Left and upper edge of a step."""
    return CELL[0] * step.x + (CELL[0] - BOX[0]) / 2, CELL[1] * step.y + 2


def _arrow(source: ChainStep, target: ChainStep, is_made: bool) -> str:
    """Curve from the lower edge of a step to the upper edge of the next."""
    x0, y0 = _corner(source)
    x1, y1 = _corner(target)
    x0, x1, y0 = x0 + BOX[0] / 2, x1 + BOX[0] / 2, y0 + BOX[1]
    bend = (y1 - y0) * 0.55
    kind = 'made' if is_made else 'missing'
    points = (x0, y0 + bend, x1, y1 - bend, x1, y1)
    path = f'M{x0:.1f} {y0:.1f}C{" ".join(f"{value:.1f}" for value in points)}'
    return f'<path class="{kind}" d="{path}"/>'


def _box(step: ChainStep, state: str, is_made: bool) -> str:
    """Draw a step with its title; the state is under the pointer."""
    x, y = _corner(step)
    kind = 'made' if is_made else 'missing'
    return (
        f'<g class="{kind}"><title>{escape(step.title)}: {escape(state)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX[0]:.0f}" height="{BOX[1]:.0f}" rx="7"/>'
        f'<text x="{x + BOX[0] / 2:.1f}" y="{y + BOX[1] / 2 + 5:.1f}">{escape(step.title)}</text>'
        '</g>'
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """A mean of two quantities with the region that holds it."""

    name: str
    title: str
    """Beside the point."""
    text: str
    """Under the pointer."""
    center: FloatArray
    """(2,)"""
    half_axes: FloatArray
    """(2, 2), one per row; NaN where there is no region."""


PLANE = (560.0, 400.0)
"""Width and height of the plane of two changes, margins included."""

NAME_WIDTH = 190.0
"""Nearer to the right edge than this, a name stands on the left of its point."""

LINE_NAME_WIDTH = 76.0
"""Room for the name of a line, which ends where the line leaves the plane."""

MARGIN = (58.0, 46.0)
"""Left and below the plane."""


def draw_plane(
    points: Sequence[Point],
    lines: Mapping[str, tuple[FloatArray, FloatArray]],
    *,
    labels: tuple[str, str],
) -> str:
    """
    Draw means of two quantities with their confidence ellipses over reference lines.

    Lines are named at their right end; names and numbers of the points are under the pointer.
    """
    low, high = _span_of(points)
    places = np.array([_place(point.center, low, high) for point in points])
    names = _apart(places)
    dots = [
        _dot(point, low, high, position, name)
        for position, (point, name) in enumerate(zip(points, names, strict=True))
    ]
    curves = [_curve(name, x, y, low, high) for name, (x, y) in lines.items()]
    alt = f'{labels[1]} over {labels[0]}: ' + '; '.join(point.text for point in points)
    clip = f'<clipPath id="plane"><rect x="{MARGIN[0]}" y="0" width="{PLANE[0] - MARGIN[0]}" '
    clip += f'height="{PLANE[1] - MARGIN[1]}"/></clipPath>'
    return (
        f'<svg class="plane" viewBox="0 0 {PLANE[0]:.0f} {PLANE[1]:.0f}" role="img" '
        f'aria-label="{escape(alt)}">{clip}{_axes(low, high, labels)}'
        f'<g clip-path="url(#plane)">{"".join(curves)}{"".join(dots)}</g></svg>'
    )


def _span_of(points: Sequence[Point]) -> tuple[FloatArray, FloatArray]:
    """Find the range of both axes: all centers, their regions as far as they help, and zero."""
    centers = np.array([point.center for point in points] + [np.zeros(2)])
    extent = np.array([np.sqrt(np.nansum(point.half_axes**2, axis=0)) for point in points])
    room = np.minimum(extent.max(axis=0), 2 * np.ptp(centers, axis=0)) + 1.0
    return centers.min(axis=0) - room, centers.max(axis=0) + room


def _place(value: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Turn values of both axes into places of the drawing."""
    share = (np.asarray(value, float) - low) / (high - low)
    size = np.array(PLANE) - MARGIN
    return np.stack([MARGIN[0] + share[..., 0] * size[0], (1 - share[..., 1]) * size[1]], axis=-1)


def _axes(low: FloatArray, high: FloatArray, labels: tuple[str, str]) -> str:
    """Draw the ticks, the lines through zero and the names of both axes."""
    from matplotlib.ticker import MaxNLocator

    parts = []
    bottom = PLANE[1] - MARGIN[1]
    for axis in (0, 1):
        ticks = MaxNLocator(6).tick_values(low[axis], high[axis])
        for tick in ticks[(ticks >= low[axis]) & (ticks <= high[axis])]:
            where = np.zeros(2)
            where[axis] = tick
            x, y = _place(where, low, high)
            ends = (x, 0.0, x, bottom) if axis == 0 else (MARGIN[0], y, PLANE[0], y)
            kind = 'zero' if tick == 0 else 'grid'
            parts.append('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
                         .format(kind, *ends))  # fmt: skip
            x, y = (min(x, PLANE[0] - 12), bottom + 16) if axis == 0 else (MARGIN[0] - 20, y + 4)
            text = f'{tick:g}'.replace('-', '−')
            parts.append(f'<text x="{x:.1f}" y="{y:.1f}">{text}</text>')
    middle = (MARGIN[0] + PLANE[0]) / 2
    parts.append(f'<text x="{middle:.0f}" y="{PLANE[1] - 8:.0f}">{escape(labels[0])}</text>')
    turned = f'transform="translate(14 {bottom / 2:.0f}) rotate(-90)"'
    parts.append(f'<text {turned}>{escape(labels[1])}</text>')
    return ''.join(parts)


def _curve(name: str, x: FloatArray, y: FloatArray, low: FloatArray, high: FloatArray) -> str:
    """Draw a reference line with its name where it leaves the plane."""
    inside = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
    if not inside.any():
        return ''
    places = _place(np.column_stack([x, y])[inside], low, high)
    path = ' '.join(f'{a:.1f},{b:.1f}' for a, b in places)
    a, b = places[-1]
    end = max(a - 6, MARGIN[0] + LINE_NAME_WIDTH)
    text = f'<text class="name" x="{end:.1f}" y="{max(b, 12.0):.1f}">{escape(name)}</text>'
    return f'<polyline points="{path}"/>{text}'


NAME_HEIGHT = 15.0
"""Names that stand side by side are so far apart."""


def _apart(places: FloatArray) -> FloatArray:
    """Find heights for the names of the points, the upper ones first, so that none overlap."""
    heights = places[:, 1] - 7.0
    for later, point in enumerate(order := np.argsort(heights)):
        for above in order[:later]:
            if abs(places[point, 0] - places[above, 0]) < NAME_WIDTH:
                heights[point] = max(heights[point], heights[above] + NAME_HEIGHT)
    return np.asarray(heights)


def _dot(point: Point, low: FloatArray, high: FloatArray, position: int, name: float) -> str:
    """Draw a mean, the ellipse around it, and its name at a height."""
    angles = np.linspace(0, 2 * np.pi, 60)
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) @ point.half_axes + point.center
    shape = ''
    if np.isfinite(ring).all():
        path = ' '.join(f'{a:.1f},{b:.1f}' for a, b in _place(ring, low, high))
        shape = f'<polygon points="{path}"/>'
    x, y = _place(point.center, low, high)
    side, gap = ('left', -8) if x > PLANE[0] - NAME_WIDTH else ('right', 8)
    return (
        f'<g class="point c{position % 6}" tabindex="0" data-network="{escape(point.name)}">'
        f'<title>{escape(point.text)}</title>{shape}'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text class="name {side}" x="{x + gap:.1f}" y="{name:.1f}">{escape(point.title)}</text>'
        '</g>'
    )
