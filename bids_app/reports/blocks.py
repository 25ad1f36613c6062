"""Turn rows of report.yml into pictures with captions and numbers; one function per kind."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from bids_app.bids.outputs import unit_of
from bids_app.models.status import DESCRIPTIONS, Status
from bids_app.reports import figures
from bids_app.reports.derivatives import (
    load_upright,
    read_table,
    root_file,
    select,
    to_number,
)
from bids_app.reports.scene import TISSUES, Scene, slices_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.reports.derivatives import Derivative

ORANGE, BLUE = '#ff9d2e', '#4cc3ff'
"""Outlines of brain and white matter; on grey, for every kind of colour vision."""

UNCOLOURED = (0, 7)
"""Labels through which the anatomy shows: outside, and BOLD not significant."""

Z_LIMITS = (-5.0, 5.0)
"""Colours of z and t maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One row of report.yml; the fields are described there."""

    key: str
    level: str
    section: str
    kind: str
    output: str
    title: str
    unit: str
    alt: str
    caption: str
    good: str
    also: str = ''
    quantity: str = ''
    made_from: str = ''
    scale: float = 1.0
    limits: tuple[float, float] = (0.0, 1.0)
    colormap: str = 'viridis'
    usual: tuple[float, float] | None = None
    source: str = ''
    in_chain: bool = True
    """Whether a map is a step from the inputs to CMRO2."""

    @property
    def label(self) -> str:
        """Title and unit, as under a colour bar."""
        return f'{self.title} ({self.unit})' if self.unit else self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """The whole of report.yml."""

    rules: Mapping[str, float]
    sections: Mapping[str, Mapping[str, str]]
    figures: tuple[FigureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image of a block."""

    name: str
    """File name without extension."""
    content: bytes
    """PNG."""
    alt: str
    title: str = ''
    """Over the picture."""

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return 'data:image/png;base64,' + base64.b64encode(self.content).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels, from the PNG header."""
        return int.from_bytes(self.content[16:20]), int.from_bytes(self.content[20:24])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number under a picture, with a verdict where there is a rule."""

    name: str
    text: str
    verdict: str = ''
    """good, check or nothing."""
    rule: str = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A colour, what it means, and how much of the map has it."""

    colour: str
    name: str
    share: str = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A figure of the report."""

    row: FigureRow
    key: str
    """Unique in the page."""
    title: str
    where: str
    caption: str
    pictures: tuple[Picture, ...]
    chart: str = ''
    """SVG element made by us."""
    chart_alt: str = ''
    facts: tuple[Fact, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    file: str = ''


@cache
def report_table() -> ReportTable:
    """Read data/report.yml."""
    text = (files('bids_app') / 'data' / 'report.yml').read_text('utf-8')
    raw = yaml.safe_load(text)
    rows = []
    for fields in raw['figures']:
        for name in ('limits', 'usual'):
            if name in fields:
                fields[name] = tuple(fields[name])
        rows.append(FigureRow(**fields))
    return ReportTable(rules=raw['rules'], sections=raw['sections'], figures=tuple(rows))


def build_blocks(row: FigureRow, scene: Scene, output_dir: Path) -> Iterator[Block]:
    """
    Draw the figures of one row of report.yml.

    Parameters
    ----------
    row : FigureRow
        What to show.
    scene : Scene
        Of a participant, session or group.
    output_dir : Path
        Where tables of labels are.

    Yields
    ------
    block : Block
        One per condition or contrast that has the file; none where there is none.
    """
    yield from KINDS[row.kind](row, scene, output_dir)


def _anatomy(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the T1w image with the outlines of brain and white matter."""
    found = select(scene.files, row.output)
    if not found or scene.t1w is None:
        return
    data, grid = scene.t1w
    mask = scene.anatomical('brain_mask')
    white = scene.anatomical('probseg', label='WM')
    shown = data > np.percentile(data, 50) if mask is None else mask[0] > 0.5
    slices = slices_of(shown, grid)
    outlines = {ORANGE: mask, BLUE: white}
    drawn = {colour: pair[0] for colour, pair in outlines.items() if pair is not None}
    figure = figures.draw_outlines(figures.Backdrop(data), drawn, slices)
    yield _block(row, found[0], pictures=[(row.title, figure, '')], output_key=row.key)


def _alignment(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the reference image of the grid with the outlines of the T1w image."""
    found = select(scene.files, row.output, scan=scene.space)
    if not found or scene.slices is None:
        return
    factor = scene.backdrop.factor if scene.backdrop else 1
    data = load_upright(found[0].path)[0]
    fine = np.repeat(np.repeat(data, factor, axis=0), factor, axis=1)
    outlines = {
        ORANGE: scene.outlined('brain_mask', factor),
        BLUE: scene.outlined('probseg', factor, label='WM'),
    }
    drawn = {colour: values for colour, values in outlines.items() if values is not None}
    figure = figures.draw_outlines(figures.Backdrop(fine, factor), drawn, scene.slices)
    yield _block(
        row, found[0], pictures=[(row.title, figure, '')], where=scene.space, output_key=row.key
    )


def _map(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show a value map, its standard error and its distribution per tissue."""
    for file in sorted(scene.maps(row.output), key=scene.rank):
        if scene.slices is None:
            return
        condition = file.entities.get('condition')
        values = load_upright(file.path)[0] * row.scale
        status = _status(scene, row, condition)
        mask = _tried(values, status, scene)
        scale = figures.Scale(limits=row.limits, colormap=row.colormap, label=row.label)
        drawn = [('Estimate', figures.draw_map(values, scene.slices, scale, mask=mask), '')]
        error = _standard_error(scene, row, condition)
        if error is not None:
            drawn.append(_error_picture(row, error, scene.slices, mask))
        tissues = tissue_values(values, mask, scene)
        yield _block(
            row,
            file,
            pictures=drawn,
            where=condition or 'shared',
            extra={'range': range_text(values[mask], row.unit)},
            chart=_histogram(row, tissues, '-'.join([row.key, *file.entities.values()])),
            facts=_map_facts(row, values, error=error, status=status, mask=mask, tissues=tissues),
        )


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


def _change(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the effect and its z map."""
    yield from _effects(row, scene, 'z')


def _group_change(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the group mean and its t map."""
    yield from _effects(row, scene, 't')


def _effects(row: FigureRow, scene: Scene, statistic: str) -> Iterator[Block]:
    """Show an effect and a statistic beside it."""
    for file in scene.maps(row.output, quantity=row.quantity, statistic='effect'):
        if scene.slices is None:
            return
        values = load_upright(file.path)[0] * row.scale
        mask = scene.brain if scene.brain is not None else np.isfinite(values)
        scale = figures.Scale(limits=row.limits, colormap=row.colormap, label=row.label)
        drawn = [('Change', figures.draw_map(values, scene.slices, scale, mask=mask), '')]
        same = {name: file.entities.get(name) for name in ('contrast', 'task')}
        tests = scene.maps(row.output, quantity=row.quantity, statistic=statistic, **same)
        facts: list[Fact | None] = [_missing_fact(values, mask, scene)]
        if tests:
            tested = load_upright(tests[0].path)[0]
            scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r', label=statistic)
            alt = f'Axial slices of {statistic}. {range_text(tested[mask], "")}'
            figure = figures.draw_map(tested, scene.slices, scale, mask=mask)
            drawn.append((f'{statistic}: change in units of its error', figure, alt))
        judge = 'z' if statistic == 'z' else 'q'
        for judged in scene.maps(row.output, quantity=row.quantity, statistic=judge, **same):
            facts.append(_strength_fact(load_upright(judged.path)[0][mask], judge))
        yield _block(
            row,
            file,
            pictures=drawn,
            where=contrast_text(file),
            extra={'range': range_text(values[mask], row.unit)},
            facts=facts,
        )


def _labels(row: FigureRow, scene: Scene, output_dir: Path) -> Iterator[Block]:
    """Show the robust labels beside those of the sign rule."""
    for file in scene.maps(row.output):
        if scene.slices is None:
            return
        same = {name: file.entities.get(name) for name in ('contrast', 'task')}
        names = read_table(root_file(output_dir, 'label_table', seg='concordance'))
        colours = {int(line['index']): _colour(line) for line in names}
        shown = {index: c for index, c in colours.items() if index not in UNCOLOURED}
        both = [('Robust rule', file)]
        both += [('Published sign rule', other) for other in scene.maps(row.also, **same)[:1]]
        drawn, counts = [], []
        for title, source in both:
            labels = np.rint(np.nan_to_num(load_upright(source.path)[0])).astype(int)
            figure = figures.draw_labels(labels, shown, scene.slices, backdrop=scene.backdrop)
            drawn.append((title, figure, f'{title}: axial slices with labels.'))
            counts.append((title, labels))
        yield _block(
            row,
            file,
            pictures=drawn,
            where=contrast_text(file),
            legend=_legend(names, counts),
        )


def _arterial_curve(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the arterial input and say which voxels it is the mean of."""
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        table = read_table(file.path)
        time, values = (
            np.array([to_number(line[name]) for line in table]) for name in ('time', 'rate_change')
        )
        figure = figures.draw_curve(time, values, label='change of R2*', unit=row.unit)
        voxels = file.sidecar.get('Voxels', [])
        origin = 'the mask' if file.sidecar.get('FromMask') else 'the shape of the curves'
        places = ', '.join(str(tuple(voxel)) for voxel in voxels[:8])
        words = f'{len(voxels)} voxels by {origin}, of which the first are {places}'
        where = f'{file.entities.get("condition") or "shared"}, {words}'
        yield _block(row, file, pictures=[(row.title, figure, '')], where=where)


KINDS: Mapping[str, Callable[[FigureRow, Scene, Path], Iterator[Block]]] = {
    'anatomy': _anatomy,
    'alignment': _alignment,
    'map': _map,
    'arterial_curve': _arterial_curve,
    'change': _change,
    'labels': _labels,
    'group_change': _group_change,
    'group_labels': _labels,
}
"""Kind of report.yml -> how it is drawn."""


def _block(
    row: FigureRow,
    file: Derivative,
    *,
    pictures: list[tuple[str, Figure, str]],
    where: str = '',
    output_key: str = '',
    extra: Mapping[str, str] | None = None,
    **content: Any,
) -> Block:
    """Put a block together; the first picture takes the alternative text of the row."""
    entities = {
        k: file.entities[k] for k in ('ses', 'task', 'condition', 'contrast') if k in file.entities
    }
    key = '_'.join([output_key or row.key, *(f'{k}-{v}' for k, v in entities.items())])
    words = {'where': where, 'range': '', **(extra or {})}
    alt = row.alt.format(**words).strip()
    made = [
        Picture(
            name=f'{key}_{number}' if number else key,
            content=figures.png(figure),
            alt=own_alt if number and own_alt else alt,
            title=title if len(pictures) > 1 else '',
        )
        for number, (title, figure, own_alt) in enumerate(pictures)
    ]
    content['facts'] = tuple(fact for fact in content.get('facts', ()) if fact is not None)
    if content.get('chart'):
        content['chart_alt'] = f'Histogram of {row.title} per tissue, {where}. {words["range"]}'
    return Block(
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


def _status(scene: Scene, row: FigureRow, condition: str | None) -> FloatArray | None:
    """Read the status map of a value map."""
    found = scene.maps('status', quantity=row.quantity, condition=condition)
    return load_upright(found[0].path)[0] if found else None


def _standard_error(scene: Scene, row: FigureRow, condition: str | None) -> FloatArray | None:
    """Read the variance map of a value map as standard error, in the unit shown."""
    found = scene.maps('variance', quantity=row.quantity, condition=condition)
    if not found:
        return None
    variance = load_upright(found[0].path)[0]
    return np.asarray(np.sqrt(np.where(variance >= 0, variance, np.nan)) * row.scale)


def _tried(values: FloatArray, status: FloatArray | None, scene: Scene) -> BoolArray:
    """Tell where an estimate was tried: by the status map, else the brain, else the values."""
    if status is not None and (status != Status.OUTSIDE_MASK).any():
        return np.asarray(status != Status.OUTSIDE_MASK)
    return scene.brain if scene.brain is not None else np.isfinite(values)


def tissue_values(values: FloatArray, mask: BoolArray, scene: Scene) -> dict[str, FloatArray]:
    """
    Take the values of each tissue.

    Parameters
    ----------
    values : (X, Y, Z) ndarray of float64
        A map.
    mask : (X, Y, Z) ndarray of bool
        Where an estimate was tried.
    scene : Scene
        Holds the tissue probabilities.

    Returns
    -------
    tissues : dict of str to (V,) ndarray
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


def _histogram(row: FigureRow, tissues: Mapping[str, FloatArray], name: str) -> str:
    """Draw the distribution per tissue; nothing where there is no value."""
    if not any(np.isfinite(values).any() for values in tissues.values()):
        return ''
    usual = {'grey matter': row.usual} if row.usual else {}
    content = figures.Histogram(groups=tissues, limits=row.limits, label=row.label, usual=usual)
    return figures.svg(figures.draw_histogram(content), name=name)


def _map_facts(
    row: FigureRow,
    values: FloatArray,
    *,
    error: FloatArray | None,
    status: FloatArray | None,
    mask: BoolArray,
    tissues: Mapping[str, FloatArray],
) -> list[Fact | None]:
    """List the numbers of a value map."""
    facts: list[Fact | None] = [_median_fact(name, taken, row) for name, taken in tissues.items()]
    if error is not None and np.isfinite(error[mask]).any():
        text = f'{number(float(np.nanmedian(error[mask])))} {row.unit}'
        facts.append(Fact(name='typical standard error of a voxel', text=text))
    main = next(iter(tissues.items()))
    facts.append(_share_fact(main[1], main[0]))
    if status is not None:
        facts += _status_facts(status[mask])
    facts.append(_unit_fact(row))
    return facts


def _median_fact(name: str, values: FloatArray, row: FigureRow) -> Fact:
    """Give median and quartiles, judged for grey matter by the usual range."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Fact(name=f'median, {name}', text='no estimate', verdict='check')
    low, middle, high = np.percentile(finite, (25, 50, 75))
    text = f'{number(middle)} {row.unit} (quartiles {number(low)} to {number(high)})'
    if name != 'grey matter' or row.usual is None:
        return Fact(name=f'median, {name}', text=text)
    inside = row.usual[0] <= middle <= row.usual[1]
    rule = f'usual: {number(row.usual[0])} to {number(row.usual[1])} {row.unit}, {row.source}'
    return Fact(
        name=f'median, {name}', text=text, verdict='good' if inside else 'check', rule=rule
    )


def _share_fact(values: FloatArray, name: str) -> Fact:
    """Give the share of a tissue without an estimate."""
    limit = report_table().rules['missing_share']
    share = float(np.mean(~np.isfinite(values))) if len(values) else 1.0
    return Fact(
        name=f'{name} without an estimate',
        text=percent(share),
        verdict='good' if share <= limit else 'check',
        rule=f'usual: at most {percent(limit)}',
    )


def _missing_fact(values: FloatArray, mask: BoolArray, scene: Scene) -> Fact:
    """Give the share without an estimate in grey matter, else in the brain."""
    name, taken = next(iter(tissue_values(values, mask, scene).items()))
    return _share_fact(taken, name)


def _status_facts(status: FloatArray) -> list[Fact | None]:
    """Say how many voxels have which reason or caution; OK is not listed."""
    codes, counts = np.unique(status.astype(int), return_counts=True)
    known = {int(code) for code in Status}
    return [
        Fact(
            name=DESCRIPTIONS[Status(code)],
            text=f'{count:,} voxels, {percent(count / len(status))}',
        )
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if code != Status.OK and code in known
    ]


def _unit_fact(row: FigureRow) -> Fact | None:
    """Say that the unit shown is not that of the file."""
    if row.scale == 1.0:
        return None
    unit = unit_of(row.output, quantity=row.quantity) if row.quantity else ''
    return Fact(name='unit of the file', text=f'{unit}, shown times {row.scale:g}')


def _strength_fact(tested: FloatArray, statistic: str) -> Fact | None:
    """Say how much of a map is far from zero (z) or passes the false discovery rate (q)."""
    finite = tested[np.isfinite(tested)]
    if not len(finite):
        return None
    if statistic == 'q':
        return Fact(name='voxels with q below 0.05', text=percent(float(np.mean(finite < 0.05))))
    share = float(np.mean(np.abs(finite) > 1.96))
    return Fact(name='voxels with |z| above 1.96', text=f'{percent(share)} (5 % by chance)')


def _legend(
    names: list[dict[str, str]], counts: list[tuple[str, np.ndarray[Any, Any]]]
) -> tuple[LegendEntry, ...]:
    """List the labels with their shares of the labelled voxels under each rule."""
    entries = []
    for line in names:
        index = int(line['index'])
        if index == 0:
            continue
        shares = [
            f'{title.lower()} {percent(np.sum(labels == index) / max(1, np.sum(labels > 0)))}'
            for title, labels in counts
        ]
        colour = 'transparent' if index in UNCOLOURED else _colour(line)
        entries.append(LegendEntry(colour=colour, name=line['name'], share=', '.join(shares)))
    return tuple(entries)


def _colour(line: Mapping[str, str]) -> str:
    """Colour of a label; grey for anything that is not written as #rrggbb."""
    colour = line.get('color', '')
    return colour if re.fullmatch(r'#[0-9A-Fa-f]{6}', colour) else '#888888'


def contrast_text(file: Derivative) -> str:
    """Say what is compared, from the sidecar; the label of the name without one."""
    about = file.sidecar.get('Contrast')
    if isinstance(about, dict) and {'Task', 'Baseline'} <= about.keys():
        return f'{about["Task"]} minus {about["Baseline"]}'
    return file.entities.get('contrast', '')


def range_text(values: FloatArray, unit: str) -> str:
    """Say in words what a map holds."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 'No voxel has an estimate.'
    low, middle, high = np.percentile(finite, (5, 50, 95))
    return (
        f'Median {number(middle)}, 90 percent of the voxels between {number(low)} and '
        f'{number(high)} {unit}'.rstrip()
        + '.'
    )


def number(value: float) -> str:
    """
    Write a number with three significant digits.

    Examples
    --------
    >>> number(43.5678), number(float('nan')), number(-0.0012345)
    ('43.6', 'no estimate', '−0.00123')
    """
    if not np.isfinite(value):
        return 'no estimate'
    text = f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return text.replace('-', '−') if 'e' not in text else text


def round_up(value: float) -> float:
    """
    Round a positive number up to 1, 2, 3, 5 or 7.5 times a power of ten.

    Examples
    --------
    >>> round_up(0.0231), round_up(4.2), round_up(0.0)
    (0.03, 5.0, 1.0)
    """
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = [step for step in (1, 2, 3, 5, 7.5, 10) if step * power >= value * (1 - 1e-9)]
    return float(np.round(steps[0] * power, 12))


def percent(share: float) -> str:
    """
    Write a share as percentage.

    Examples
    --------
    >>> percent(0.0004), percent(0.123), percent(float('nan'))
    ('0.04 %', '12 %', 'no estimate')
    """
    if not np.isfinite(share):
        return 'no estimate'
    value = 100 * share
    if 0 < value < 0.01:
        return '< 0.01 %'
    return f'{value:.2g} %' if 0 < value < 10 else f'{value:.0f} %'
