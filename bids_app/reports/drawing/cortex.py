"""Draw maps on the cortex: both hemispheres from outside and from the middle, in plain pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.reports.drawing.figures import (
    BAR_HEIGHT,
    BLACK,
    DPI,
    PALE,
    WIDTH,
    Scale,
    colour_bar,
    excess,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray, IntArray

PIXELS = 400
"""Width of a hemisphere from front to back, pixels."""

VIEWS = (('left, outside', 0, -1), ('right, outside', 1, 1),
         ('left, middle', 0, 1), ('right, middle', 1, -1))  # fmt: skip
"""Title, hemisphere, and on which side of it the eye is (1: its right)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class View:
    """
    What an eye sees of a hemisphere.

    Parameters
    ----------
    title : str
        In words.
    side : int
        0 left, 1 right.
    vertex : (R, C) ndarray of int64
        Vertex that is seen in every pixel; -1 where there is none.
    light : (R, C) ndarray of float64
        How far the surface there faces the eye, 0 to 1.
    """

    title: str
    side: int
    vertex: IntArray
    light: FloatArray


def look_at(meshes: tuple[tuple[FloatArray, IntArray], tuple[FloatArray, IntArray]]) -> list[View]:
    """Look at both hemispheres, vertices in RAS mm and triangles, from all :data:`VIEWS`."""
    return [_view(title, side, eye, *meshes[side]) for title, side, eye in VIEWS]


def _view(title: str, side: int, eye: int, vertices: FloatArray, faces: IntArray) -> View:
    """Find the nearest triangle in every pixel: points all over each are sorted by depth."""
    across, up, near = eye * vertices[:, 1], vertices[:, 2], eye * vertices[:, 0]
    size = (np.ptp(across) + 1e-9) / (PIXELS - 1)
    place = np.stack([(across - across.min()) / size, (up.max() - up) / size, near], axis=1)
    corners = place[faces]
    edges = corners[:, 1:] - corners[:, :1]
    normal = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]],
                      vertices[faces[:, 2]] - vertices[faces[:, 0]])  # fmt: skip
    light = np.abs(normal[:, 0]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    shape = (int(np.rint(place[:, 1].max())) + 1, PIXELS)
    depth = np.full(shape[0] * shape[1], -np.inf)
    vertex, shade = np.full(depth.size, -1), np.zeros(depth.size)
    steps = int(np.ceil(2 * np.percentile(np.linalg.norm(edges[..., :2], axis=-1), 99))) + 1
    for a, b in ((i / steps, j / steps) for i in range(steps + 1) for j in range(steps + 1 - i)):
        points = corners[:, 0] + a * edges[:, 0] + b * edges[:, 1]
        pixel = np.rint(points[:, 1]).astype(int) * PIXELS + np.rint(points[:, 0]).astype(int)
        order = np.argsort(points[:, 2])  # of those in one pixel the nearest is written last
        order = order[points[order, 2] > depth[pixel[order]]]
        nearest = faces[:, int(np.argmax((1 - a - b, a, b)))]
        depth[pixel[order]] = points[order, 2]
        vertex[pixel[order]], shade[pixel[order]] = nearest[order], light[order]
    return View(title=title, side=side, vertex=vertex.reshape(shape), light=shade.reshape(shape))


def draw_cortex(
    values: FloatArray, views: list[View], scale: Scale, *, shown: BoolArray | None = None
) -> Figure:
    """
    Draw a map on the cortex with its colour bar.

    Parameters
    ----------
    values : (N, 2) ndarray of float64
        Left and right, unit of the scale; NaN is grey.
    views : list of View
        From :func:`look_at`.
    scale : Scale
        Colours.
    shown : (N, 2) ndarray of bool, optional
        Vertices that are coloured; the others are as grey as those without a value.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    colours = ScalarMappable(Normalize(*scale.limits), colormaps[scale.colormap])
    kept = np.isfinite(values) & (True if shown is None else shown)
    tall = max(len(view.vertex) for view in views)
    rows, columns = 2, 2
    height = WIDTH * rows * tall / (columns * PIXELS)
    figure = Figure(figsize=(WIDTH, height + BAR_HEIGHT), dpi=DPI, facecolor=BLACK)
    for number, view in enumerate(views):
        seen = view.vertex >= 0
        at = np.where(seen, view.vertex, 0)
        grey = np.repeat((0.15 + 0.4 * view.light)[..., None], 3, axis=-1)
        coloured = colours.to_rgba(np.nan_to_num(values[at, view.side]))[..., :3]
        picture = np.where(kept[at, view.side][..., None], coloured, grey)
        row, column = divmod(number, columns)
        low = (BAR_HEIGHT + height * (1 - (row + 1) / rows)) / (height + BAR_HEIGHT)
        axes = figure.add_axes(
            (column / columns, low, 1 / columns, height / rows / (height + BAR_HEIGHT))
        )
        axes.set_axis_off()
        axes.imshow(
            np.dstack([picture, seen]), interpolation='nearest', cmap=colours.cmap, aspect='equal'
        )
        axes.text(0.03, 0.97, view.title, color=PALE, fontsize=11, va='top',
                  transform=axes.transAxes)  # fmt: skip
    colour_bar(figure, colours, scale, excess(values[kept], scale.limits))
    return figure
