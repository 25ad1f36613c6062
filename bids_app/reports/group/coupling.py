"""Change of flow against change of metabolism per network, over the participants of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.constants import DAVIS_EPP, DAVIS_EPP_MAXIMUM
from bids_app.models.contrast.calibrated_bold import davis_cmro2_ratio
from bids_app.models.numerics.regions import confidence_ellipse
from bids_app.reports.derivatives import list_derivatives, read_table, select, to_number
from bids_app.reports.drawing.charts import Point, draw_plane
from bids_app.reports.text import contrast_text, in_words, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bids_app._typing import FloatArray

AXES = ('cbf', 'cmro2')
"""Quantities of both axes."""

LINES = (-1.0, 0.0, 1.0)
"""BOLD changes whose lines are drawn, percent."""


def coupling_charts(output_dir: Path, participants: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """
    Draw the change of CMRO2 over that of CBF for every contrast of a group.

    Contrasts without both quantities are left out.
    """
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for participant in participants:
        for file in select(list_derivatives(output_dir, f'sub-{participant}'), 'regions'):
            networks = found.setdefault(contrast_text(file), {})
            for name, pair in _percents(read_table(file.path)).items():
                networks.setdefault(name, []).append(pair)
    charts = []
    for contrast, networks in found.items():
        points = [_point(name, pairs) for name, pairs in sorted(networks.items())]
        shown = [point for point in points if np.isfinite(point.center).all()]
        if shown:
            labels = ('change of CBF (%)', 'change of CMRO2 (%)')
            charts.append((contrast, draw_plane(shown, _lines(), labels=labels)))
    return tuple(charts)


def _percents(lines: Iterable[Mapping[str, str]]) -> dict[str, tuple[float, ...]]:
    """Read the percent changes of both quantities per network."""
    values: dict[str, dict[str, float]] = {}
    for line in lines:
        if line['level'] == 'network' and line['quantity'] in AXES:
            network = values.setdefault(line['name'], {})
            network[line['quantity']] = to_number(line.get('percent'))
    return {
        name: tuple(pair[axis] for axis in AXES)
        for name, pair in values.items()
        if pair.keys() == set(AXES)
    }


def _point(name: str, pairs: list[tuple[float, ...]]) -> Point:
    """Average a network over the participants."""
    center, half_axes = confidence_ellipse(pairs)
    counted = int(np.isfinite(np.array(pairs)).all(axis=1).sum())
    flow, metabolism = (number(float(value)) for value in center)
    title = in_words(name)
    text = f'{title}: CBF {flow} %, CMRO2 {metabolism} % (n = {counted})'
    return Point(name=name, title=title, text=text, center=center, half_axes=half_axes)


def _lines() -> dict[str, tuple[FloatArray, FloatArray]]:
    """Make the lines of constant BOLD of the Davis model."""
    alpha, beta = DAVIS_EPP
    flow = np.linspace(0.5, 2.0, 301)
    lines = {}
    for bold in LINES:
        ratio = davis_cmro2_ratio(bold, flow, maximum=DAVIS_EPP_MAXIMUM, alpha=alpha, beta=beta)
        name = f'BOLD {bold:+.0f} %'.replace('+0', '0').replace('-', '−')
        lines[name] = 100 * (flow - 1), 100 * (ratio - 1)
    return lines
