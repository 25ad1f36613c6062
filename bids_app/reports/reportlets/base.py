"""A reportlet: pictures of one map with caption, numbers and legend."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.names import table as output_table
from bids_app.models.status import Status
from bids_app.reports.background import TISSUES, Scene
from bids_app.reports.derivatives import load_upright, read_table
from bids_app.reports.drawing import figures
from bids_app.reports.report_table import FigureRow, report_table
from bids_app.reports.text import contrast_text, number, percent, unit_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.reports.derivatives import Derivative


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image of a reportlet."""

    name: str
    """File name without extension."""
    content: bytes
    """WebP."""
    size: tuple[int, int]
    """Width and height, pixels."""
    alt: str
    title: str = ''
    """Over the picture."""
    before: bytes = b''
    """WebP of the same size that flickers against it; may be empty."""
    before_is: str = 'before alignment'
    """What the picture that flickers shows."""

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return _data_uri(self.content)

    @property
    def source_before(self) -> str:
        """The picture that flickers as a data URI."""
        return _data_uri(self.before)


def _data_uri(content: bytes) -> str:
    """Write a picture as an address that needs no file."""
    return 'data:image/webp;base64,' + base64.b64encode(content).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number under a picture, with a verdict where there is a rule."""

    name: str
    text: str
    verdict: str = ''
    """good, check or nothing."""
    rule: str = ''
    beyond: float = 0.0
    """How far a number that asks for a look is beyond its limit, in sizes of the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A colour, what it means, and how much of the map has it."""

    colour: str
    name: str
    share: str = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table of the output."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the output as it is shown."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, ...], ...]
    n_hidden: int = 0
    """Lines that are only in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scroll:
    """All slices of a map, one under the other, of which the page shows one."""

    content: bytes
    """WebP."""
    size: tuple[int, int]
    """Width and height of one slice, pixels."""
    heights: tuple[str, ...]
    """Where each slice is, foot first."""
    start: int
    """Slice that is shown first: the one with most to see."""
    alt: str

    @property
    def source(self) -> str:
        """The slices as a data URI."""
        return _data_uri(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reportlet:
    """A figure of the report."""

    row: FigureRow
    key: str
    """Unique in the page."""
    title: str
    where: str
    caption: str
    pictures: tuple[Picture, ...] = ()
    scroll: Scroll | None = None
    table: Table | None = None
    chart: str = ''
    """SVG element made by us."""
    chart_alt: str = ''
    chart_note: str = ''
    """Small print under the chart."""
    facts: tuple[Fact, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    file: str = ''


def lines_of(row: FigureRow, file: Derivative) -> list[dict[str, str]]:
    """Read the lines of a table that are shown."""
    lines = read_table(file.path)
    return [line for line in lines if not row.levels or line.get('level') in row.levels]


def place_of(file: Derivative) -> str:
    """Say of which condition, task, run or contrast a table is; nothing where it is of all."""
    if 'contrast' in file.entities:
        return contrast_text(file)
    names = ('scan', 'condition', 'task', 'run')
    return ', '.join(file.entities[name] for name in names if name in file.entities)


def make_reportlet(
    row: FigureRow,
    file: Derivative,
    *,
    pictures: Sequence[tuple[str, Figure, str]] = (),
    before: Figure | None = None,
    before_is: str = 'before alignment',
    where: str = '',
    output_key: str = '',
    extra: Mapping[str, str] | None = None,
    **content: Any,
) -> Reportlet:
    """Put a reportlet together; the first picture takes the alternative text of the row."""
    every = ('ses', 'scan', 'task', 'condition', 'run', 'contrast', 'column', 'den')
    named = ('ses',) if output_key else every
    entities = {k: file.entities[k] for k in named if k in file.entities}
    key = '_'.join([output_key or row.key, *(f'{k}-{v}' for k, v in entities.items())])
    words = {'where': where, 'range': '', **(extra or {})}
    alt = row.alt.format(**words).strip()
    made = [
        Picture(
            name=f'{key}_{number}' if number else key,
            content=figures.webp(figure),
            size=figures.size_of(figure),
            alt=own_alt if number and own_alt else alt,
            title=title if len(pictures) > 1 else '',
            before=figures.webp(before) if before is not None and not number else b'',
            before_is=before_is,
        )
        for number, (title, figure, own_alt) in enumerate(pictures)
    ]
    content['facts'] = tuple(fact for fact in content.get('facts', ()) if fact is not None)
    if content.get('chart'):
        content['chart_alt'] = f'Histogram of {row.title} per tissue, {where}. {words["range"]}'
    return Reportlet(
        row=row,
        key=key,
        title=row.title,
        where=where,
        caption=row.caption.format(**words),
        pictures=tuple(made),
        sidecar=file.sidecar,
        file=file.path.name,
        **content,
    )


def status_of(scene: Scene, row: FigureRow, condition: str | None) -> FloatArray | None:
    """Read the status map of a value map."""
    found = scene.maps('status', quantity=row.quantity, condition=condition)
    return load_upright(found[0].path)[0] if found else None


def standard_error_of(scene: Scene, row: FigureRow, condition: str | None) -> FloatArray | None:
    """Read the variance map of a value map as standard error, in the unit shown."""
    found = scene.maps('variance', quantity=row.quantity, condition=condition)
    if not found:
        return None
    variance = load_upright(found[0].path)[0]
    return np.asarray(np.sqrt(np.where(variance >= 0, variance, np.nan)) * row.scale)


def tried_voxels(values: FloatArray, status: FloatArray | None, scene: Scene) -> BoolArray:
    """Tell where an estimate was tried: by the status map, else the brain, else the values."""
    if status is not None and (status != Status.OUTSIDE_MASK).any():
        return np.asarray(status != Status.OUTSIDE_MASK)
    return scene.brain if scene.brain is not None else np.isfinite(values)


def tissue_values(values: FloatArray, mask: BoolArray, scene: Scene) -> dict[str, FloatArray]:
    """
    Take the values of each tissue.

    NaN included; one entry ``brain`` where tissues are not known.
    """
    rules = report_table().rules
    floors = dict(
        zip(TISSUES.values(), (rules['grey_probability'], rules['white_probability']), strict=True)
    )
    found = {
        name: values[mask & (probability > floors[name])]
        for name, probability in scene.tissues.items()
    }
    found = {name: taken for name, taken in found.items() if len(taken)}
    return found or {'brain': values[mask]}


def histogram_of(row: FigureRow, tissues: Mapping[str, FloatArray], name: str) -> str:
    """Draw the distribution per tissue; nothing where there is no value."""
    if not any(np.isfinite(values).any() for values in tissues.values()):
        return ''
    usual = {'grey matter': row.usual} if row.usual else {}
    content = figures.Histogram(groups=tissues, limits=row.limits, label=row.label, usual=usual)
    return figures.svg(figures.draw_histogram(content), name=name)


def missing_fact(values: FloatArray, mask: BoolArray, scene: Scene) -> Fact:
    """Give the share without an estimate in grey matter, else in the brain."""
    name, taken = next(iter(tissue_values(values, mask, scene).items()))
    return share_fact(taken, name)


def share_fact(values: FloatArray, name: str) -> Fact:
    """Give the share of a tissue without an estimate."""
    limit = report_table().rules['missing_share']
    share = float(np.mean(~np.isfinite(values))) if len(values) else 1.0
    return Fact(
        name=f'{name} without an estimate',
        text=percent(share),
        verdict='good' if share <= limit else 'check',
        rule=f'usual: at most {percent(limit)}',
        beyond=max(0.0, share / limit - 1),
    )


def halves_fact(sidecar: Mapping[str, Any]) -> Fact | None:
    """
    Say whether the halves of a scan differ by what their errors say.

    Parameters
    ----------
    sidecar : mapping
        Of a map.

    Returns
    -------
    fact : Fact or None
        None where halves were not compared.
    """
    found = sidecar.get('HalfCalibration', {}).get('voxel', {})
    spread = found.get('SDofZ')
    if spread is None:
        return None
    is_right = found['Verdict'] == 'right'
    return Fact(
        name='first minus second half, in their errors',
        text=f'SD {number(float(spread))} in voxels',
        verdict='good' if is_right else 'check',
        rule='' if is_right else found['Verdict'],
        beyond=0.0 if is_right else abs(float(spread) - 1),
    )


def columns_of(key: str) -> tuple[Column, ...]:
    """Columns of a table of outputs.yml."""
    return tuple(
        Column(
            name=name,
            unit=unit_text(about.get('unit', '')),
            description=about['description'],
        )
        for name, about in output_table().rows[key].columns.items()
    )
