"""Charts written as SVG by hand, in the colours of the page and with text under the pointer."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app.reports.blocks import ChainStep

CELL = (128.0, 62.0)
"""Width and height that a step of the chain has for itself."""

BOX = (118.0, 34.0)
"""Width and height of a step of the chain."""


def draw_chain(steps: Mapping[str, ChainStep], states: Mapping[str, str]) -> str:
    """
    Draw the chain from scans to labels.

    Parameters
    ----------
    steps : mapping of str to ChainStep
        Of report.yml.
    states : mapping of str to str
        Step to ``made`` or why it is not; a step that is not named was not asked for.

    Returns
    -------
    element : str
        SVG element; steps that were not made are dashed, and say why under the pointer.
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
