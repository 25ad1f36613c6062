"""The figure of the answer: shares with intervals by rule, and over a common offset, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 560.0
LEFT, RIGHT = 190.0, 20.0
"""Room for the names of rules, and at the right edge."""
ROW, TRACK = 46.0, 12.0
"""Height of a rule, and of each of its three signs of BOLD."""
PANEL = 190.0
"""Height of the curve."""
T_TEST = 't test rule'
"""The rule that decides some voxels only."""
SIGNS = (('all', 'c4', 'all'), ('positive', 'c1', 'BOLD up'), ('negative', 'c0', 'BOLD down'))
"""Sign of BOLD, colour class, words; the order of the tracks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A share with its interval; NaN where there is none."""

    value: float
    low: float = float('nan')
    high: float = float('nan')

    @property
    def text(self) -> str:
        """Percent with the interval."""
        if not np.isfinite(self.value):
            return 'withheld'
        interval = ''
        if np.isfinite(self.low + self.high):
            interval = f' ({100 * self.low:.0f} to {100 * self.high:.0f})'
        return f'{100 * self.value:.0f} %{interval}'


def draw_answer(
    rules: Mapping[str, Mapping[str, Bound]],
    curve: Mapping[str, Sequence[tuple[float, Bound]]],
    measured: tuple[float, float] | None,
) -> str:
    """
    Draw the shares by rule, and the share of the total change over a common offset.

    `rules`: title of a rule to sign of BOLD to its share; `curve`: sign of BOLD to offset
    (percent) and share, empty without a baseline; `measured`: interval of the change where BOLD is
    absent, percent.
    """
    top = 26.0
    bottom = top + ROW * len(rules)
    height = bottom + 26 + (PANEL + 76 if curve else 0)
    parts = [_legend(), _axis(top, bottom)]
    for number, (title, shares) in enumerate(rules.items()):
        parts.append(_rule(title, shares, top + ROW * number))
    if curve:
        parts.append(_panel(curve, measured, bottom + 62))
    alt = '; '.join(
        f'{title}, {words}: {shares[sign].text}'
        for title, shares in rules.items()
        for sign, _, words in SIGNS
        if sign in shares
    )
    return (
        f'<svg class="plane answer" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="Opposite to BOLD. {escape(alt)}">{"".join(parts)}</svg>'
    )


def _at(share: float) -> float:
    """Place of a share between 0 and 1."""
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _legend() -> str:
    """Name what is drawn, and the colours."""
    parts = ['<text class="left" x="0" y="13">opposite to BOLD:</text>']
    for number, (_, colour, words) in enumerate(SIGNS):
        x = LEFT + 100 * number
        parts.append(f'<circle class="{colour}" cx="{x + 6:.0f}" cy="9" r="5"/>')
        parts.append(f'<text class="left" x="{x + 16:.0f}" y="13">{words}</text>')
    return ''.join(parts)


def _axis(top: float, bottom: float) -> str:
    """Draw the grid of shares."""
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _at(share)
        kind = 'zero' if share in (0.0, 0.5) else 'grid'
        parts.append(
            f'<line class="{kind}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16:.1f}">{100 * share:.0f} %</text>'
        )
    return ''.join(parts)


def _rule(title: str, shares: Mapping[str, Bound], top: float) -> str:
    """Draw the three tracks of a rule."""
    words = title.split(', ')
    parts = [
        f'<text class="left" x="0" y="{top + 20 + 15 * line:.1f}">{escape(word)}</text>'
        for line, word in enumerate(words)
    ]
    for number, (sign, colour, about) in enumerate(SIGNS):
        share = shares.get(sign)
        y = top + 11 + TRACK * number
        if share is None:
            continue
        if not np.isfinite(share.value):
            if number == 1:
                why = 'no voxel decided' if title == T_TEST else 'withheld'
                parts.append(f'<text class="left" x="{LEFT + 8}" y="{y + 4:.1f}">{why}</text>')
            continue
        bar = ''
        if np.isfinite(share.low + share.high):
            bar = (
                f'<line stroke-width="5" stroke-opacity=".45" x1="{_at(share.low):.1f}" '
                f'y1="{y:.1f}" x2="{_at(share.high):.1f}" y2="{y:.1f}"/>'
            )
        parts.append(
            f'<g class="{colour}"><title>{escape(title)}, {about}: {share.text}</title>{bar}'
            f'<circle cx="{_at(share.value):.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    return ''.join(parts)


def _panel(
    curve: Mapping[str, Sequence[tuple[float, Bound]]],
    measured: tuple[float, float] | None,
    top: float,
) -> str:
    """Draw the share of the total change over the offset, with bands."""
    offsets = sorted({offset for points in curve.values() for offset, _ in points})
    low, high = offsets[0], offsets[-1]
    left = 58.0

    def x_of(offset: float) -> float:
        return left + (offset - low) / ((high - low) or 1.0) * (WIDTH - left - RIGHT)

    def y_of(share: float) -> float:
        return top + (1 - share) * PANEL

    middle = (left + WIDTH - RIGHT) / 2
    parts = [
        f'<text x="{middle:.0f}" y="{top - 12:.0f}">w_d if a common offset is subtracted</text>'
    ]
    if measured is not None and np.isfinite(measured).all():
        a, b = (x_of(float(np.clip(one, low, high))) for one in measured)
        parts.append(
            f'<rect class="offset" x="{a:.1f}" y="{top:.1f}" width="{max(b - a, 2):.1f}" '
            f'height="{PANEL}"><title>change of CMRO2 where BOLD is absent</title></rect>'
        )
    for share in (0.0, 0.5, 1.0):
        y = y_of(share)
        parts.append(
            f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{left - 26:.0f}" y="{y + 4:.1f}">{100 * share:.0f} %</text>'
        )
    for offset in offsets:
        text = f'{offset:+g} %'.replace('+0', '0').replace('-', '−')
        parts.append(f'<text x="{x_of(offset):.1f}" y="{top + PANEL + 18:.1f}">{text}</text>')
    if not any(np.isfinite(one.value) for points in curve.values() for _, one in points):
        y = top + PANEL / 4
        parts.append(f'<text x="{middle:.0f}" y="{y:.1f}">withheld with every offset</text>')
    for sign, colour, about in SIGNS:
        known = [(o, one) for o, one in curve.get(sign, ()) if np.isfinite(one.value)]
        banded = [(o, one) for o, one in known if np.isfinite(one.low + one.high)]
        ring = [(o, one.low) for o, one in banded] + [(o, one.high) for o, one in banded[::-1]]
        band = ' '.join(f'{x_of(o):.1f},{y_of(share):.1f}' for o, share in ring)
        path = ' '.join(f'{x_of(o):.1f},{y_of(one.value):.1f}' for o, one in known)
        parts.append(
            f'<g class="{colour}"><title>{about}</title>'
            f'<polygon fill-opacity=".15" stroke="none" points="{band}"/>'
            f'<polyline class="solid" points="{path}"/></g>'
        )
    return ''.join(parts)
