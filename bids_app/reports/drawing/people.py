"""Charts of participants and regions as SVG files of their own: they can be saved as they are."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = ('#2f8fd0', '#d98a1e', '#5a9e6f', '#b0569b', '#8a9099')
"""Of groups, in order."""

STYLE = (
    '<style>text{font:13px system-ui,sans-serif;fill:#444}'
    '@media (prefers-color-scheme:dark){text{fill:#bbb}}</style>'
)
"""Goes along when a chart is saved."""

HEIGHT, LEFT, COLUMN = 220.0, 70.0, 110.0
"""Of a strip: height, room for numbers, width of a group."""

ROW, NAMES, TRACK, NUMBERS = 20.0, 220.0, 320.0, 200.0
"""Of a forest: height of a row, widths of names, axis, numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A group of participants: label and value of each, mean and its 95 % interval."""

    name: str
    people: tuple[tuple[str, float], ...]
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A region with its effect, interval and text; `is_clear`: after control of discoveries."""

    name: str
    value: float
    low: float
    high: float
    text: str
    is_clear: bool = False


def draw_strips(groups: Sequence[Strip], *, title: str) -> str:
    """Draw participants as points by group, with mean and interval."""
    everything = [value for group in groups for _, value in group.people]
    ends = [bound for g in groups for bound in (g.low, g.high) if np.isfinite(bound)]
    low, high = min(everything + ends), max(everything + ends)
    room = 0.06 * (high - low) or 0.5
    low, high = low - room, high + room
    width = LEFT + COLUMN * len(groups)

    def y(value: float) -> float:
        return 10.0 + (HEIGHT - 40.0) * (high - value) / (high - low)

    parts = [
        f'<text x="{LEFT - 8:.0f}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        f'<path d="M{LEFT:.0f} {y(value):.1f}H{width:.0f}" stroke="#8886" fill="none"/>'
        for value in np.linspace(low + room, high - room, 3)
    ]
    for number, group in enumerate(groups):
        colour, x = COLOURS[number % len(COLOURS)], LEFT + COLUMN * (number + 0.5)
        # neighbours in value stand beside each other
        order = sorted(group.people, key=lambda one: one[1])
        parts += [
            f'<a href="{quote(label)}.html" tabindex="-1" data-participant="{escape(label)}" '
            f'aria-label="{escape(label)}: {value:.4g}"><circle '
            f'cx="{x - 26 + 13 * (place % 5):.1f}" cy="{y(value):.1f}" r="3.5" '
            f'fill="{colour}" fill-opacity=".65"/></a>'
            for place, (label, value) in enumerate(order)
        ]
        parts.append(f'<path d="M{x - 34:.1f} {y(group.mean):.1f}h68" stroke="{colour}" '
                     'stroke-width="2.5" fill="none"/>')  # fmt: skip
        if np.isfinite(group.low + group.high):
            parts.append(f'<path d="M{x + 40:.1f} {y(group.low):.1f}V{y(group.high):.1f}" '
                         f'stroke="{colour}" stroke-width="2.5" fill="none"/>')  # fmt: skip
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - 8:.0f}" text-anchor="middle">'
            f'{escape(group.name)} ({len(group.people)})</text>'
        )
    return _file(width, HEIGHT, title, parts)


def draw_forest(rows: Sequence[Interval], *, title: str) -> str:
    """Draw effects of regions with their intervals on one axis through zero."""
    low = min(0.0, *(row.low for row in rows))
    high = max(0.0, *(row.high for row in rows))
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return NAMES + 10.0 + (TRACK - 20.0) * (value - low) / span

    height = ROW * (len(rows) + 1)
    parts = [f'<path d="M{x(0.0):.1f} 0V{height - ROW:.0f}" stroke="#888" fill="none"/>']
    for number, row in enumerate(rows):
        y, colour = ROW * (number + 0.5), COLOURS[1 if row.is_clear else 0]
        parts.append(
            f'<g><title>{escape(row.name)}: {escape(row.text)}</title>'
            f'<text x="{NAMES - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">'
            f'{escape(row.name)}</text>'
            f'<path d="M{x(row.low):.1f} {y:.1f}H{x(row.high):.1f}" stroke="{colour}" '
            'stroke-width="2.5" fill="none"/>'
            f'<circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            f'<text x="{NAMES + TRACK + 6:.0f}" y="{y + 4:.1f}">{escape(row.text)}</text></g>'
        )
    for value, anchor in ((low, 'start'), (high, 'end')):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 5:.1f}" text-anchor="{anchor}">'
                     f'{value:.3g}</text>')  # fmt: skip
    return _file(NAMES + TRACK + NUMBERS, height, title, parts)


def _file(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Put a chart together."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="group" aria-label="{escape(title)}">'
        f'{STYLE}{"".join(parts)}</svg>'
    )
