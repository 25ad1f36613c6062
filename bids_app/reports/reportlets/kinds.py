"""Kinds of rows in report.yml, and what draws each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bids_app.reports.background import Scene
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.alignment import draw_alignment, draw_anatomy, draw_distortion
from bids_app.reports.reportlets.base import Reportlet
from bids_app.reports.reportlets.contrasts import draw_change, draw_group_change, draw_labels
from bids_app.reports.reportlets.curves import draw_arterial_curve, draw_decays, draw_series
from bids_app.reports.reportlets.maps import draw_maps
from bids_app.reports.reportlets.tables import draw_table

if TYPE_CHECKING:
    from pathlib import Path


def draw_row(row: FigureRow, scene: Scene, output_dir: Path) -> Iterator[Reportlet]:
    """
    Draw the figures of one row of report.yml.

    One per condition or contrast that has the file; none where there is none.
    """
    yield from KINDS[row.kind](row, scene, output_dir)


KINDS: Mapping[str, Callable[[FigureRow, Scene, Path], Iterator[Reportlet]]] = {
    'anatomy': draw_anatomy,
    'alignment': draw_alignment,
    'distortion': draw_distortion,
    'map': draw_maps,
    'arterial_curve': draw_arterial_curve,
    'series': draw_series,
    'decays': draw_decays,
    'table': draw_table,
    'change': draw_change,
    'labels': draw_labels,
    'group_change': draw_group_change,
}
"""Kind of report.yml -> how it is drawn."""
