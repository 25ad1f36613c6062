"""
Draw figures: arrays in, figures out; pure matplotlib without pyplot state.

Brain pictures are drawn on black, so that they read the same on light and dark pages. Charts are
drawn without background, in the text colour of the page.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator
    from PIL import Image

    from bids_app._typing import BoolArray, FloatArray, IntArray

WIDTH = 6.0
"""Width of every picture, inches."""

BAR_HEIGHT = 0.88
"""Room for the colour bar below a picture, inches."""

DPI = 140
"""Pixels per inch of pictures."""

PHOTO_QUALITY = 85
"""Of pictures over the anatomy; above it files grow without a visible gain."""

TALLEST = 16383
"""Pixels of a side that WebP can have."""

DIMMED = 0.5
"""Brightness of the anatomy behind a map whose middle colour is white, 1."""

BLACK = '#0c0d10'
"""Behind brain pictures."""

PALE = '#e8eaee'
"""Text on BLACK."""

MISSING = '#5d626b'
"""Voxels inside the mask that have no estimate."""

PAGE_TEXT = '#010203'
"""Stands for the text colour of the page in charts; replaced by currentColor."""

GROUP_COLOURS = ('#2f8fd0', '#d98a1e', '#8a9099')
"""Of histogram groups; read on white and on black."""

CURVE_COLOURS = (
    '#2f8fd0', '#d98a1e', '#12a37f', '#c45ab3', '#8a9099', '#b5502a', '#7a6fe0', '#8c8f1f',
)  # fmt: skip
"""Of curves; read on white and on black and by every kind of colour vision."""

LEGEND_COLUMNS = 3

LEGEND_LETTERS = 74
"""Letters for which there is room beside each other; the mark of a name counts as four."""

LEGEND_ROW = 0.22
"""Height of a line of names above a chart, inches."""

LABEL_WIDTH = 24
"""Letters in a line of the name of a vertical axis; longer ones would leave the chart."""

MANY_POINTS = 100
"""Curves of so many points are drawn as lines only."""

STATUS_COLOURS = (
    '#e69f00', '#56b4e9', '#009e73', '#f0e442', '#cc79a7', '#d55e00', '#3f7fbf', '#b8b8b8',
)  # fmt: skip
"""Of reasons why there is no value, in the order of their codes; Okabe and Ito."""


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """
    Which part of a volume is shown: axial slices cropped to the brain.

    Parameters
    ----------
    indices : tuple of int
        Slice numbers, foot to head.
    x, y : (int, int)
        First and last-but-one voxel shown along the first two axes.
    zooms : (float, float)
        Voxel size in the slice, mm.
    heights : tuple of float
        Position of each slice along the body axis, mm; empty = not written.
    n_columns : int
        Slices in a row.
    """

    indices: tuple[int, ...]
    x: tuple[int, int]
    y: tuple[int, int]
    zooms: tuple[float, float]
    heights: tuple[float, ...] = ()
    n_columns: int = 4
    gap: int = 1
    """Empty voxels around every slice."""

    @property
    def n_rows(self) -> int:
        """Rows of the mosaic."""
        return -(-len(self.indices) // self.n_columns)

    @property
    def tile_mm(self) -> tuple[float, float]:
        """Width and height of one slice, mm."""
        return (
            (self.x[1] - self.x[0] + 2 * self.gap) * self.zooms[0],
            (self.y[1] - self.y[0] + 2 * self.gap) * self.zooms[1],
        )

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the mosaic, mm."""
        width, height = self.tile_mm
        return (0.0, width * self.n_columns, 0.0, height * self.n_rows)

    def mosaic(self, volume: FloatArray, *, factor: int = 1) -> FloatArray:
        """
        Lay the slices out in rows, seen from above the head, left on the left.

        NaN where there is nothing. The volume may be finer in the slice, by `factor`, than the
        grid of the slices.
        """
        x = slice(self.x[0] * factor, self.x[1] * factor)
        y = slice(self.y[0] * factor, self.y[1] * factor)
        tiles = [np.asarray(volume[x, y, k], float).T[::-1] for k in self.indices]
        tiles = [np.pad(tile, self.gap * factor, constant_values=np.nan) for tile in tiles]
        blank = np.full_like(tiles[0], np.nan)
        tiles += [blank] * (self.n_rows * self.n_columns - len(tiles))
        rows = [
            np.hstack(tiles[first : first + self.n_columns])
            for first in range(0, len(tiles), self.n_columns)
        ]
        return np.vstack(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """Grey-scale anatomy under an overlay, on a grid that is finer in the slice."""

    data: FloatArray
    """(X * factor, Y * factor, Z)"""
    factor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How numbers become colours."""

    limits: tuple[float, float]
    """Shown unit; values beyond take the last colour and the bar gets an arrow."""
    colormap: str = 'viridis'
    label: str = ''
    """Under the colour bar: quantity and unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """What a histogram shows."""

    groups: Mapping[str, FloatArray]
    """Name to values; NaN are left out."""
    limits: tuple[float, float]
    label: str
    """Quantity and unit."""
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Group to the range usual in healthy adults, shaded."""
    n_bins: int = 60


def choose_slices(
    mask: BoolArray,
    zooms: Sequence[float] | FloatArray,
    *,
    heights: Sequence[float] | FloatArray = (),
    n_slices: int = 12,
    n_columns: int = 4,
) -> Slices:
    """
    Choose evenly spaced slices of a mask and the box around it.

    Those with at least a tenth of the area of the largest one, thinned evenly to `n_slices`. Axes
    lead towards right, front and head; zooms and heights (may be empty) are in mm.

    Raises
    ------
    ModelInputError
        If the mask is empty.
    """
    area = mask.sum(axis=(0, 1))
    if not area.any():
        msg = 'there is no voxel to show: the mask is empty'
        raise ModelInputError(msg)
    worth = np.flatnonzero(area >= 0.1 * area.max())
    steps = np.linspace(0, len(worth) - 1, min(n_slices, len(worth)))
    chosen = tuple(int(k) for k in worth[np.unique(np.round(steps).astype(int))])
    box = [_span(np.asarray(mask.any(axis=axes))) for axes in ((1, 2), (0, 2))]
    return Slices(
        indices=chosen,
        x=box[0],
        y=box[1],
        zooms=(float(zooms[0]), float(zooms[1])),
        heights=tuple(float(heights[k]) for k in chosen) if len(heights) else (),
        n_columns=min(n_columns, len(chosen)),
    )


def _span(is_used: BoolArray) -> tuple[int, int]:
    """Return first and last-but-one used index with a margin of 3 %."""
    used = np.flatnonzero(is_used)
    margin = max(1, round(0.03 * len(is_used)))
    return max(0, int(used[0]) - margin), min(len(is_used), int(used[-1]) + 1 + margin)


def draw_map(
    volume: FloatArray,
    slices: Slices,
    scale: Scale,
    *,
    mask: BoolArray | None = None,
    backdrop: Backdrop | None = None,
) -> Figure:
    """
    Draw a map with its colour bar.

    NaN is no estimate: in the mask, where one was tried, it is grey, outside black; over a
    backdrop the anatomy is seen there, dimmed.
    """
    figure, axes = _canvas(slices, bar=BAR_HEIGHT)
    if backdrop is not None:
        _paint_backdrop(axes, slices, backdrop, dimmed=DIMMED)
    if mask is not None:
        _paint_missing(axes, slices, mask & ~np.isfinite(volume))
    shown = volume if mask is None else np.where(mask, volume, np.nan)
    picture = axes.imshow(
        slices.mosaic(shown),
        extent=slices.extent,
        cmap=scale.colormap,
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        interpolation='nearest',
    )
    _mark(axes, slices)
    colour_bar(figure, picture, scale, excess(shown, scale.limits))
    return figure


def draw_glass(
    volume: FloatArray, brain: BoolArray, zooms: Sequence[float] | FloatArray, scale: Scale
) -> Figure:
    """
    Draw the value of largest size along three lines of sight through the brain.

    From the right, from behind and from above (axes towards right, front and head, zooms in mm),
    over a colour bar; NaN and 0 are nothing to be seen.
    """
    from matplotlib.figure import Figure

    size = np.array(volume.shape) * np.asarray(zooms, float)
    wide = [size[1], size[0], size[0]]
    height = WIDTH / sum(wide) * max(size[2], size[1])
    bar = BAR_HEIGHT
    figure = Figure(figsize=(WIDTH, height + bar), dpi=DPI, facecolor=BLACK)
    left, pictures = 0.0, []
    filled = np.nan_to_num(volume)
    for axis, width in enumerate(wide):
        seen = np.take_along_axis(
            filled, np.expand_dims(np.abs(filled).argmax(axis=axis), axis), axis=axis
        ).squeeze(axis)
        shadow = brain.any(axis=axis)
        tall = size[2] if axis < 2 else size[1]
        place = (left / sum(wide), bar / (height + bar), width / sum(wide),
                 WIDTH / sum(wide) * tall / (height + bar))  # fmt: skip
        axes = figure.add_axes(place)
        axes.set_axis_off()
        extent = (0.0, width, 0.0, tall)
        shown = np.where(seen == 0, np.nan, seen).T
        pictures.append(axes.imshow(shown, origin='lower', extent=extent, cmap=scale.colormap,
                                    vmin=scale.limits[0], vmax=scale.limits[1],
                                    interpolation='nearest'))  # fmt: skip
        axes.contour(shadow.T, levels=[0.5], colors=[PALE], linewidths=0.8, extent=extent)
        for x, text in ((0.04, 'L'), (0.96, 'R')) if axis else ((0.04, 'back'), (0.96, 'front')):
            axes.text(x * width, 0.97 * tall, text, color=PALE, fontsize=9, va='top',
                      ha='left' if x < 0.5 else 'right')  # fmt: skip
        left += width
    colour_bar(figure, pictures[0], scale, excess(filled[filled != 0], scale.limits))
    return figure


def stack_slices(
    volume: FloatArray, brain: BoolArray, backdrop: FloatArray, scale: Scale, *, threshold: float
) -> tuple[bytes, tuple[int, int], tuple[int, ...]]:
    """
    Paint every axial slice of the brain, one under the other, for a page to scroll through.

    Give a WebP, one pixel per voxel, foot first, with width and height of one slice (pixels), and
    the slices. Those without brain are left out; values smaller than the threshold leave the
    anatomy visible.
    """
    import matplotlib as mpl
    from PIL import Image

    x, y, z = (_span(np.asarray(brain.any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    step = -(-(z[1] - z[0]) * (y[1] - y[0]) // TALLEST)
    part = (slice(*x), slice(*y), slice(*z, step))
    values, grey = volume[part], backdrop[part]
    top = float(np.percentile(grey[grey > 0], 99.5)) if (grey > 0).any() else 1.0
    tone = np.clip(grey / top, 0, 1)[..., None] * 0.85 + 0.05
    share = (values - scale.limits[0]) / (scale.limits[1] - scale.limits[0])
    painted = mpl.colormaps[scale.colormap](np.nan_to_num(share))[..., :3]
    seen = np.isfinite(values) & (np.abs(values) >= threshold)
    colours = np.where(seen[..., None], painted, tone)
    tall = colours.transpose(2, 1, 0, 3)[:, ::-1]  # slices, rows from the front, columns
    pixels = np.rint(255 * tall.reshape(-1, tall.shape[2], 3)).astype(np.uint8)
    image = Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).convert('RGB')
    content = io.BytesIO()
    image.save(content, 'WEBP', lossless=True, quality=40, method=3)
    return content.getvalue(), (tall.shape[2], tall.shape[1]), tuple(range(*z, step))


def draw_labels(
    labels: IntArray,
    colours: Mapping[int, str],
    slices: Slices,
    *,
    backdrop: Backdrop | None = None,
) -> Figure:
    """
    Draw a label map over the anatomy; the legend belongs to the page.

    Labels without a colour are transparent.
    """
    from matplotlib.colors import to_rgba

    figure, axes = _canvas(slices, bar=0.0)
    if backdrop is not None:
        _paint_backdrop(axes, slices, backdrop)
    picture = slices.mosaic(np.asarray(labels, float))
    rgba = np.zeros((*picture.shape, 4))
    for index, colour in colours.items():
        rgba[picture == index] = to_rgba(colour, 0.9)
    axes.imshow(rgba, extent=slices.extent, interpolation='nearest')
    _mark(axes, slices)
    return figure


def draw_outlines(
    backdrop: Backdrop, outlines: Mapping[str, FloatArray], slices: Slices
) -> Figure:
    """
    Draw the borders of masks or tissues over an image.

    Colours lead to probabilities on the grid of the backdrop; the border is at 0.5.
    """
    figure, axes = _canvas(slices, bar=0.0)
    _paint_backdrop(axes, slices, backdrop)
    for colour, probability in outlines.items():
        picture = slices.mosaic(probability, factor=backdrop.factor)[::-1]
        picture = np.nan_to_num(picture)
        if (picture > 0.5).any():
            axes.contour(
                picture, levels=[0.5], colors=[colour], linewidths=0.9, extent=slices.extent
            )
    _mark(axes, slices)
    return figure


def draw_histogram(content: Histogram) -> Figure:
    """Draw the distribution of a quantity per tissue, as share of the tissue's voxels."""
    figure = _chart(height=1.9)
    axes = figure.add_axes((0.02, 0.27, 0.96, 0.6))
    edges = np.linspace(*content.limits, content.n_bins + 1)
    for colour, (name, values) in zip(GROUP_COLOURS, content.groups.items(), strict=False):
        finite = values[np.isfinite(values)]
        if not len(finite):
            continue
        counts = np.histogram(np.clip(finite, *content.limits), edges)[0] / len(finite)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=name)
        if name in content.usual:
            axes.axvspan(*content.usual[name], color=colour, alpha=0.13, linewidth=0)
    axes.set_xlim(*content.limits)
    axes.set_yticks([])
    axes.set_xlabel(content.label, color=PAGE_TEXT, fontsize=11)
    axes.tick_params(colors=PAGE_TEXT, labelsize=10)
    for side in ('top', 'left', 'right'):
        axes.spines[side].set_visible(False)
    axes.spines['bottom'].set_color(PAGE_TEXT)
    _legend_above(axes)
    return figure


def draw_curves(
    curves: Mapping[str, tuple[FloatArray, FloatArray]], *, labels: tuple[str, str]
) -> Figure:
    """
    Draw quantities of one unit over a common axis.

    NaN leave a gap; labels are of both axes, with their units.
    """
    columns = _legend_columns(list(curves))
    rows = -(-len(curves) // columns) if len(curves) > 1 else 0
    height = 2.4 + LEGEND_ROW * max(0, rows - 1)
    figure = _chart(height=height)
    axes = figure.add_axes((0.14, 0.528 / height, 0.84, 1.584 / height))
    for number, (name, (x, values)) in enumerate(curves.items()):
        again, which = divmod(number, len(CURVE_COLOURS))
        style: dict[str, Any] = {
            'color': CURVE_COLOURS[which],
            'linestyle': '--' if again else '-',
            'linewidth': 1.4,
            'marker': 'o' if len(x) < MANY_POINTS else '',
        }
        axes.plot(x, values, **style, markersize=2.2, label=name, gid=f'{CURVE}{name}')
    _dress(axes, labels)
    if len(curves) > 1:
        _legend_above(axes, columns=columns)
    return figure


CURVE = 'curve:'
"""Start of the name of a curve in the SVG, so that a page can tell what is pointed at."""


def draw_fits(
    trains: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]], *, labels: tuple[str, str]
) -> Figure:
    """
    Draw measured points with their fitted curves.

    NaN leave a gap; labels are of both axes, with their units.
    """
    figure = _chart(height=2.4)
    axes = figure.add_axes((0.14, 0.22, 0.84, 0.62))
    for colour, (name, (x, points, curve)) in zip(CURVE_COLOURS, trains.items(), strict=False):
        axes.plot(x, points, color=colour, linestyle='', marker='o', markersize=3.6)
        axes.plot(x, curve, color=colour, linewidth=1.4, label=name)
    axes.set_ylim(bottom=0)
    _dress(axes, labels)
    _legend_above(axes, columns=4)
    return figure


def _dress(axes: Axes, labels: tuple[str, str]) -> None:
    """Name both axes and draw them in the colours of the page."""
    axes.set_xlabel(labels[0], color=PAGE_TEXT, fontsize=11)
    axes.set_ylabel(fill(labels[1], LABEL_WIDTH), color=PAGE_TEXT, fontsize=11)
    axes.tick_params(colors=PAGE_TEXT, labelsize=10)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    for side in ('bottom', 'left'):
        axes.spines[side].set_color(PAGE_TEXT)


def _legend_columns(names: Sequence[str]) -> int:
    """
    Find the largest number of columns that have room for names, filled one after the other.

    Examples
    --------
    >>> _legend_columns(['a', 'b', 'c']), _legend_columns([30 * 'a', 30 * 'b', 30 * 'c'])
    (3, 2)
    """
    for columns in range(LEGEND_COLUMNS, 1, -1):
        rows = -(-len(names) // columns)
        parts = (
            [names[start : start + rows] for start in range(0, len(names), rows)] if rows else []
        )
        if sum(max(map(len, part)) + 4 for part in parts) <= LEGEND_LETTERS:
            return columns
    return 1


def _legend_above(axes: Axes, *, columns: int = LEGEND_COLUMNS) -> None:
    """Name the groups above a chart, on the right; nothing without groups."""
    if not axes.get_legend_handles_labels()[0]:
        return
    legend = axes.legend(
        loc='lower right',
        bbox_to_anchor=(1.0, 0.98),
        ncols=columns,
        frameon=False,
        fontsize=10.5,
        borderaxespad=0.0,
        handlelength=1.2,
    )
    for text in legend.get_texts():
        text.set_color(PAGE_TEXT)


def webp(figure: Figure) -> bytes:
    """
    Render a picture as WebP, the same bytes for the same figure.

    Maps with a colour bar keep every colour (at most 256); pictures over the anatomy, which have
    smooth greys and no numbers to be read off, are compressed as photographs are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    palette = _palette(figure)
    content = io.BytesIO()
    if palette is None:
        image.save(content, 'WEBP', quality=PHOTO_QUALITY, method=2)
    else:
        exact = image.quantize(256, palette=palette, dither=Image.Dither.NONE).convert('RGB')
        exact.save(content, 'WEBP', lossless=True, quality=20, method=2)
    return content.getvalue()


def size_of(figure: Figure) -> tuple[int, int]:
    """
    Give width and height of a picture, pixels.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> size_of(Figure(figsize=(6, 2), dpi=140))
    (840, 280)
    """
    width, height = figure.get_size_inches() * figure.dpi
    return int(width), int(height)


def svg(figure: Figure, *, name: str) -> str:
    """
    Render a chart as an SVG element to be put into a page.

    What is drawn in PAGE_TEXT gets the text colour of the page; identifiers start with `name`,
    unique in the page.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'oxybold'}):
        figure.savefig(stream, format='svg', transparent=True, metadata={'Date': None})
    text = stream.getvalue()
    text = text[text.index('<svg') :].strip()
    text = re.sub(r'<metadata>.*?</metadata>\s*', '', text, flags=re.DOTALL)
    text = text.replace(PAGE_TEXT, 'currentColor')
    text = re.sub(r'font: ([\d.]+px) [^;\"]*', r'font: \1 system-ui, sans-serif', text)
    text = re.sub(rf'id="{CURVE}([^"]*)"', r'data-curve="\1"', text)
    prefix = 'chart-' + re.sub(r'[^\w-]', '-', name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf'\g<1>{prefix}-', text)
    attributes = f'viewBox="\\1"{_axes_of(figure)}'
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg {attributes}>', text, count=1)


def _axes_of(figure: Figure) -> str:
    """Say where the axes of curves lie, for a page that tells the value pointed at."""
    axes = figure.axes[0]
    if not any(str(line.get_gid()).startswith(CURVE) for line in axes.lines):
        return ''
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = axes.transData.transform([(left, bottom), (right, top)]) * POINTS / figure.dpi
    height = figure.get_figheight() * POINTS
    x = (left, right, *ends[:, 0])
    y = (bottom, top, *(height - ends[:, 1]))
    places = (f'data-{name}="{" ".join(f"{one:.6g}" for one in ends)}"'
              for name, ends in (('x', x), ('y', y)))  # fmt: skip
    return f' {" ".join(places)}'


POINTS = 72
"""Units of an SVG of matplotlib per inch."""


def _palette(figure: Figure) -> Image.Image | None:
    """Make a palette of the colour bar's colours and greys; None without a colour bar."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    if len(figure.axes) < 2:
        return None
    shown = figure.axes[0].images[-1].get_cmap()
    greys = np.linspace(to_rgb(BLACK), to_rgb(PALE), 55)
    colours = np.vstack([shown(np.linspace(0, 1, 200))[:, :3], greys, to_rgb(MISSING)])
    image = Image.new('P', (1, 1))
    image.putpalette(np.rint(255 * colours).astype(np.uint8).tobytes())
    return image


def _canvas(slices: Slices, *, bar: float) -> tuple[Figure, Axes]:
    """Return a black figure whose upper part is the mosaic; `bar` inches stay free below."""
    from matplotlib.figure import Figure

    _, width, _, height = slices.extent
    picture = WIDTH * height / width
    figure = Figure(figsize=(WIDTH, picture + bar), dpi=DPI, facecolor=BLACK)
    axes = figure.add_axes((0.0, bar / (picture + bar), 1.0, picture / (picture + bar)))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return figure, axes


def _chart(*, height: float) -> Figure:
    """Return a figure without background."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), facecolor='none')


def _paint_backdrop(
    axes: Axes, slices: Slices, backdrop: Backdrop, *, dimmed: float = 1.0
) -> None:
    """Draw the anatomy in grey; an image with a bright, flat brain gets the contrast within it."""
    picture = slices.mosaic(backdrop.data, factor=backdrop.factor)
    inside = picture[np.isfinite(picture) & (picture > 0)]
    high = float(np.percentile(inside, 99.5)) if len(inside) else 1.0
    bright = inside[inside > high / 2]
    dimmest = float(np.percentile(bright, 10)) if len(bright) else 0.0
    axes.imshow(
        picture,
        extent=slices.extent,
        cmap='gray',
        vmin=min(max(0.0, 2 * dimmest - high), high / 2),
        vmax=high * 1.05 / dimmed,
        interpolation='bilinear' if backdrop.factor > 1 else 'nearest',
    )


def _paint_missing(axes: Axes, slices: Slices, is_missing: BoolArray) -> None:
    """Draw voxels without estimate in grey."""
    from matplotlib.colors import ListedColormap

    picture = slices.mosaic(np.where(is_missing, 1.0, np.nan))
    axes.imshow(
        picture, extent=slices.extent, cmap=ListedColormap([MISSING]), interpolation='nearest'
    )


def _mark(axes: Axes, slices: Slices) -> None:
    """Write left and right into the first slice and the height into each."""
    from matplotlib.patheffects import withStroke

    width, height = slices.tile_mm
    top = slices.extent[3]
    edge = [withStroke(linewidth=2.0, foreground=BLACK)]
    style: dict[str, Any] = {'color': PALE, 'path_effects': edge}
    corner: dict[str, Any] = {**style, 'va': 'top', 'fontsize': 13, 'weight': 'bold'}
    axes.text(0.02 * width, top - 0.02 * height, 'L', ha='left', **corner)
    axes.text(0.98 * width, top - 0.02 * height, 'R', ha='right', **corner)
    for number, position in enumerate(slices.heights):
        row, column = divmod(number, slices.n_columns)
        axes.text(
            (column + 0.98) * width,
            top - (row + 0.985) * height,
            f'{position:+.0f}',
            ha='right',
            va='bottom',
            fontsize=11.5,
            **style,
        )


def excess(values: FloatArray, limits: tuple[float, float]) -> str:
    """Tell on which side values leave the limits, in matplotlib's words."""
    finite = values[np.isfinite(values)]
    below, above = (finite < limits[0]).any(), (finite > limits[1]).any()
    return {(0, 0): 'neither', (1, 0): 'min', (0, 1): 'max', (1, 1): 'both'}[
        int(below), int(above)
    ]


def colour_bar(figure: Figure, picture: ScalarMappable, scale: Scale, extend: str) -> None:
    """Draw the horizontal colour bar with its label in the space below the mosaic."""
    height = float(figure.get_size_inches()[1])
    axes = figure.add_axes((0.12, 0.62 / height, 0.76, 0.14 / height))
    bar = figure.colorbar(picture, cax=axes, orientation='horizontal', extend=extend)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=PALE, labelsize=13.5, length=3)
    bar.locator = _ticks()
    bar.update_ticks()
    bar.set_label(scale.label, color=PALE, fontsize=15, labelpad=2)


def _ticks() -> Locator:
    """Return a locator of about five round numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
