"""Turn rows of report.yml into pictures with captions and numbers; one function per kind."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.derivatives import packaged_table, unit_of
from bids_app.bids.output.derivatives import table as output_table
from bids_app.models.constants import NORMAL_95
from bids_app.models.status import DESCRIPTIONS, Status
from bids_app.reports.background import TISSUES, ScanScene, Scene, slices_of
from bids_app.reports.derivatives import (
    load_upright,
    read_table,
    root_file,
    select,
    to_number,
)
from bids_app.reports.drawing import figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.images import Grid
    from bids_app.reports.derivatives import Derivative

ORANGE, BLUE = '#ff9d2e', '#4cc3ff'
"""Outlines of brain and white matter; on grey, for every kind of colour vision."""

UNCOLOURED = (0, 7)
"""Labels through which the anatomy shows: outside, and BOLD not significant."""

MAX_LINES = 60
"""Of a table that is shown."""

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
    """Further output row shown beside the first."""
    posterior: str = ''
    """Output row of the probability shown beside labels."""
    seg: str = 'concordance'
    """Label table of a label map."""
    x: str = ''
    """Column of a table that is the horizontal axis."""
    columns: tuple[str, ...] = ()
    """Columns of a table that are shown; empty = all."""
    curves: tuple[str, ...] = ()
    """Columns of a table whose values name the curve that a line belongs to."""
    levels: tuple[str, ...] = ()
    """Lines of a table that are shown, by their column level; empty = all."""
    per_quantity: str = ''
    """Output row of maps in whose unit the numbers of a line are, by its column quantity."""
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
        return f'{self.title} ({self.unit})' if self.unit not in ('', '1') else self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStep:
    """A step of the chain from scans to labels: where it stands and what it is made from."""

    x: float
    y: float
    title: str
    made_from: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """The whole of report.yml."""

    rules: Mapping[str, float]
    chain: Mapping[str, ChainStep]
    sections: Mapping[str, Mapping[str, str]]
    words: Mapping[str, str]
    figures: tuple[FigureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image of a block."""

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
class Block:
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


@cache
def report_table() -> ReportTable:
    """Read data/report.yml."""
    raw = packaged_table('report')
    rows = []
    for fields in raw['figures']:
        for name in ('limits', 'usual', 'columns', 'curves', 'levels'):
            if name in fields:
                fields[name] = tuple(fields[name])
        rows.append(FigureRow(**fields))
    chain = {
        name: ChainStep(
            x=step['x'], y=step['y'], title=step['title'], made_from=tuple(step['from'])
        )
        for name, step in raw['chain'].items()
    }
    return ReportTable(
        rules=raw['rules'],
        chain=chain,
        sections=raw['sections'],
        words=raw['words'],
        figures=tuple(rows),
    )


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
    """Show every scan on its own grid with the outlines of the T1w image, before and after."""
    references = select(scene.files, row.output)
    for file in sorted(references, key=lambda file: _rank_of_scan(file, scene)):
        scan = ScanScene(
            files=scene.files,
            space=file.entities['scan'],
            conditions=scene.conditions,
            reference=file,
        )
        if scan.slices is None or scan.backdrop is None:
            continue
        is_grid = _is_grid(file, scene)
        if scene.t1w is None and not is_grid:
            continue  # nothing to compare it with
        shift, angle = scan.movement
        outlined = partial(_outlined, scan, scan.slices, scan.backdrop)
        moved = shift > 0.01 or angle > 0.01
        names = [file.entities[name] for name in ('scan', 'task', 'run') if name in file.entities]
        yield _block(
            row,
            file,
            pictures=[(row.title, outlined(scan.to_t1w), '')],
            before=outlined(np.eye(4)) if moved else None,
            where=' '.join(names) + (', quantification grid' if is_grid else ''),
            output_key='_'.join([row.key, *names]),
            facts=[
                Fact(name='movement from the header to the T1w image',
                     text=f'{number(shift)} mm and {number(angle)}°'),
            ] if scene.t1w is not None else [],
        )  # fmt: skip


def _rank_of_scan(file: Derivative, scene: Scene) -> tuple[bool, int, str]:
    """Order of the alignments: the quantification grid first, then as in the output table."""
    scans = list(output_table().scans)
    return not _is_grid(file, scene), scans.index(file.entities['scan']), file.path.name


def _is_grid(file: Derivative, scene: Scene) -> bool:
    """Tell whether a reference image is that of the quantification grid."""
    return file.entities['scan'] == scene.space and 'task' not in file.entities


def _outlined(
    scan: ScanScene, slices: figures.Slices, backdrop: figures.Backdrop, world: FloatArray
) -> Figure:
    """Draw the outlines of brain and white matter over a scan."""
    outlines = {
        ORANGE: scan.outlined('brain_mask', backdrop.factor, world),
        BLUE: scan.outlined('probseg', backdrop.factor, world, label='WM'),
    }
    drawn = {colour: values for colour, values in outlines.items() if values is not None}
    return figures.draw_outlines(backdrop, drawn, slices)


def _distortion(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show an echo-planar scan without its distortion, with it, and the displacement."""
    for file in select(scene.files, row.output):
        scan = ScanScene(
            files=scene.files, space=file.entities['scan'], conditions=scene.conditions,
            reference=file,
        )  # fmt: skip
        same = {name: file.entities.get(name) for name in ('scan', 'task', 'run')}
        pair = [select(scene.files, key, **same) for key in ('epi_acquired', row.also)]
        if scan.slices is None or scan.backdrop is None or not all(pair):
            continue
        acquired, shifts = (load_upright(found[0].path)[0] for found in pair)
        factor = scan.backdrop.factor
        before = figures.Backdrop(acquired.repeat(factor, axis=0).repeat(factor, axis=1), factor)
        outlined = partial(_outlined, scan, scan.slices, world=scan.to_t1w)
        inside = np.isfinite(shifts) if scan.brain is None else scan.brain & np.isfinite(shifts)
        top = round_up(float(np.percentile(np.abs(shifts[inside]), 99))) if inside.any() else 1.0
        scale = figures.Scale(limits=(-top, top), colormap='RdBu_r',
                              label='displacement (voxels)')  # fmt: skip
        drawn = figures.draw_map(shifts, scan.slices, scale, mask=inside)
        text = range_text(shifts[inside], row.unit)
        yield _block(
            row,
            file,
            pictures=[
                ('Without distortion', outlined(scan.backdrop), ''),
                ('Displacement', drawn, f'Axial slices of the displacement. {text}'),
            ],
            before=outlined(before),
            before_is='as acquired',
            where=' '.join(label for label in same.values() if label),
            extra={'range': text},
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
        reasons, legend = _reasons(status, mask)
        if legend:
            colours = {code: entry.colour for code, entry in legend}
            figure = figures.draw_labels(reasons, colours, scene.slices, backdrop=scene.backdrop)
            alt = f'Axial slices of the reasons why {row.title} has no value, or is doubtful.'
            drawn.append(('Reasons and cautions', figure, alt))
        tissues = tissue_values(values, mask, scene)
        yield _block(
            row,
            file,
            pictures=drawn,
            where=condition or 'shared',
            extra={'range': range_text(values[mask], row.unit)},
            chart=_histogram(row, tissues, '-'.join([row.key, *file.entities.values()])),
            chart_note=HISTOGRAM_NOTE
            if row.usual and 'grey matter' in tissues
            else HISTOGRAM_NOTE.partition('. ')[2],
            facts=[
                *_map_facts(row, values, error=error, mask=mask, tissues=tissues),
                *_set_facts(file.sidecar),
            ],
            legend=tuple(entry for _, entry in legend),
        )


HISTOGRAM_NOTE = (
    'Shaded: where the grey-matter median usually lies. The outermost bins hold everything '
    'beyond them.'
)


def _reasons(
    status: FloatArray | None, mask: BoolArray
) -> tuple[IntArray, tuple[tuple[int, LegendEntry], ...]]:
    """List the codes of a status map other than OK with their colours and shares."""
    if status is None:
        return np.zeros(mask.shape, int), ()
    codes = np.where(mask, np.rint(np.nan_to_num(status)), 0).astype(int)
    known = {int(code) for code in Status} - {int(Status.OK)}
    found = [code for code in np.unique(codes[mask]).tolist() if code in known]
    entries = []
    for position, code in enumerate(found):
        count = int(np.sum(codes[mask] == code))
        entry = LegendEntry(
            colour=figures.STATUS_COLOURS[position % len(figures.STATUS_COLOURS)],
            name=DESCRIPTIONS[Status(code)],
            share=f'{counted(count, "voxel")}, {percent(count / max(1, mask.sum()))}',
        )
        entries.append((code, entry))
    return codes, tuple(entries)


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


SEEN_T = 2.0
"""Below this size a t value leaves the brain behind it visible."""


def _group_change(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the group mean and its t map, all slices, the whole brain, and what could be found."""
    files = scene.maps(row.output, quantity=row.quantity, statistic='effect')
    for block, file in zip(_effects(row, scene, 't'), files, strict=True):
        same = {name: file.entities.get(name) for name in ('contrast', 'task')}
        tests = scene.maps(row.output, quantity=row.quantity, statistic='t', **same)
        pictures = list(block.pictures)
        scroll = None
        if tests and scene.brain is not None and scene.grid is not None:
            tested = load_upright(tests[0].path)[0]
            pictures.insert(0, _glass(block, tested, scene.brain, scene.grid))
            if scene.backdrop is not None and scene.backdrop.factor == 1:
                anatomy = scene.backdrop.data
                scroll = _scroll(block, tested, scene.brain, scene.grid, anatomy)
        pictures += _detectable(row, block, scene, same)
        yield replace(block, pictures=tuple(pictures), scroll=scroll)


def _glass(block: Block, tested: FloatArray, brain: BoolArray, grid: Grid) -> Picture:
    """Look through the whole brain at the clear t values."""
    seen = np.where(np.abs(tested) >= SEEN_T, tested, np.nan)
    scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r', label=f't beyond ±{SEEN_T:g}')
    figure = figures.draw_glass(seen, brain, grid.zooms, scale)
    alt = f'Glass brain of the t values of {block.title}, {block.where}. {range_text(seen, "")}'
    return Picture(
        name=f'{block.key}_glass',
        content=figures.webp(figure),
        size=figures.size_of(figure),
        alt=alt,
        title='Through the whole brain',
    )


def _scroll(
    block: Block, tested: FloatArray, brain: BoolArray, grid: Grid, anatomy: FloatArray
) -> Scroll:
    """Put all slices of the t map over the anatomy under one another."""
    scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r')
    content, size, indices = figures.stack_slices(tested, brain, anatomy, scale, threshold=SEEN_T)
    heights = grid.affine[2, 2] * np.array(indices) + grid.affine[2, 3]
    seen = np.sum(np.abs(np.nan_to_num(tested)) >= SEEN_T, axis=(0, 1))[list(indices)]
    return Scroll(
        content=content,
        size=size,
        heights=tuple(f'{height:+.0f} mm' for height in heights),
        start=int(seen.argmax()) if seen.any() else len(indices) // 2,
        alt=f'One axial slice of t of {block.title}, {block.where}, over the template.',
    )


def _detectable(
    row: FigureRow, block: Block, scene: Scene, same: Mapping[str, str | None]
) -> Iterator[Picture]:
    """Draw the smallest change that this group would find with 80 % power."""
    for file in scene.maps(row.output, quantity=row.quantity, statistic='detectable', **same):
        values = load_upright(file.path)[0] * row.scale
        mask = scene.brain if scene.brain is not None else np.isfinite(values)
        inside = values[mask & np.isfinite(values)]
        if scene.slices is None or not len(inside):
            return
        top = round_up(float(np.percentile(inside, 95)))
        scale = figures.Scale(
            limits=(0.0, top), colormap='cividis', label=f'detectable change ({row.unit})'
        )
        figure = figures.draw_map(values, scene.slices, scale, mask=mask)
        yield Picture(
            name=f'{block.key}_detectable',
            content=figures.webp(figure),
            size=figures.size_of(figure),
            alt=f'Axial slices of the smallest change of {block.title} that would be found with '
            f'80 percent power, {block.where}. {range_text(inside, row.unit)}',
            title='Smallest change found with 80 % power',
        )


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
    """Show a label map over the anatomy, beside other labels and their probability."""
    for file in scene.maps(row.output):
        if scene.slices is None:
            return
        same = {name: file.entities.get(name) for name in ('contrast', 'task')}
        names = read_table(root_file(output_dir, 'label_table', seg=row.seg))
        colours = {int(line['index']): _colour(line) for line in names}
        clear = UNCOLOURED if row.seg == 'concordance' else (0,)
        shown = {index: c for index, c in colours.items() if index not in clear}
        both = [('Robust rule' if row.also else row.title, file)]
        if row.also:
            both += [('Published sign rule', other) for other in scene.maps(row.also, **same)[:1]]
        drawn, counts = [], []
        for title, source in both:
            labels = np.rint(np.nan_to_num(load_upright(source.path)[0])).astype(int)
            figure = figures.draw_labels(labels, shown, scene.slices, backdrop=scene.backdrop)
            drawn.append((title, figure, f'{title}: axial slices with labels.'))
            counts.append((title, labels))
        if row.posterior:
            drawn += _probabilities(scene, scene.maps(row.posterior, **same)[:1], scene.slices)
        yield _block(
            row,
            file,
            pictures=drawn,
            where=contrast_text(file),
            legend=_legend(names, counts, clear),
        )


def _probabilities(
    scene: Scene, found: Iterable[Derivative], slices: figures.Slices
) -> Iterator[tuple[str, Figure, str]]:
    """Draw the probability that signs differ over the anatomy."""
    for file in found:
        values = load_upright(file.path)[0]
        scale = figures.Scale(limits=(0.0, 1.0), colormap='PuOr_r',
                              label='probability of opposite signs')  # fmt: skip
        alt = f'Probability that the signs differ. {range_text(values, "")}'
        figure = figures.draw_map(values, slices, scale, backdrop=scene.backdrop)
        yield 'Posterior probability', figure, alt


def _arterial_curve(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the arterial input and say which voxels it is the mean of."""
    for block, file in _curves(row, scene):
        voxels = file.sidecar.get('Voxels', [])
        origin = 'the mask' if file.sidecar.get('FromMask') else 'the shape of the curves'
        places = ', '.join(str(tuple(voxel)) for voxel in voxels[:8])
        fact = Fact(name=f'{len(voxels)} voxels by {origin}', text=f'the first: {places}')
        yield replace(block, facts=(fact,))


def _series(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show columns of a table over another of its columns."""
    for block, file in _curves(row, scene):
        yield replace(block, facts=() if row.x else _movement_facts(row, read_table(file.path)))


def _movement_facts(row: FigureRow, lines: list[dict[str, str]]) -> tuple[Fact, ...]:
    """Say how large a course is, how often it leaves the usual range, and what is left out."""
    values = np.array([to_number(line.get(row.columns[0])) for line in lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return ()
    unit = '' if row.unit == '1' else f' {row.unit}'
    text = f'{number(float(values.mean()))}{unit}, at most {number(float(values.max()))}{unit}'
    facts = [Fact(name='mean', text=text)]
    if row.usual:
        beyond = int((values > row.usual[1]).sum())
        facts.append(
            Fact(
                name=f'above {number(row.usual[1])}{unit}',
                text=f'{beyond} of {len(values)}',
                verdict='good' if beyond <= report_table().rules['moved_share'] * len(values)
                else 'check',
                rule=row.source,
            )
        )  # fmt: skip
    if lines and 'censored' in lines[0]:
        left_out = sum(line['censored'] == '1' for line in lines)
        facts.append(Fact(name='volumes that do not count', text=f'{left_out} of {len(lines)}'))
    return tuple(facts)


def _curves(row: FigureRow, scene: Scene) -> Iterator[tuple[Block, Derivative]]:
    """Draw columns of a table over another of its columns, or over its lines."""
    units = {column.name: column.unit for column in _columns(row.output)}
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = _lines(row, file)
        curves = _curves_of(row, lines)
        if not any(np.isfinite(values).any() for _, values in curves.values()):
            continue
        axis = row.x.replace('_', ' ') + (f' ({units[row.x]})' if units.get(row.x) else '')
        where = _where(file)
        counted_by = 'echo' if file.entities.get('scan') in ('MESE', 'MEGRE') else 'volume'
        figure = figures.draw_curves(curves, labels=(axis or counted_by, row.label))
        block = _block(row, file, where=where)
        chart = figures.svg(figure, name=block.key)
        alt = row.alt.format(where=where, range='').strip()
        yield replace(block, chart=chart, chart_alt=alt), file


def _decays(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show the echoes of a few voxels with the curve of their fit."""
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = read_table(file.path)
        trains, facts = {}, []
        for name in dict.fromkeys(line['voxel'] for line in lines):
            train = [line for line in lines if line['voxel'] == name]
            times, signal, fit = (
                np.array([to_number(line[column]) for line in train])
                for column in ('echo_time', 'signal', 'fit')
            )
            first = signal[0] if signal[0] > 0 else np.nan
            trains[name] = 1e3 * times, signal / first, fit / first
            facts.append(_voxel_fact(name, train[0]))
        if not trains:
            continue
        where = _where(file)
        figure = figures.draw_fits(trains, labels=('echo time (ms)', 'signal'))
        block = _block(row, file, where=where, facts=facts)
        alt = row.alt.format(where=where, range='').strip()
        yield replace(block, chart=figures.svg(figure, name=block.key), chart_alt=alt)


def _voxel_fact(name: str, line: Mapping[str, str]) -> Fact:
    """Say where a voxel is and what was estimated there."""
    rate = to_number(line['rate'])
    time = f'{number(1e3 / rate)} ms' if rate > 0 else 'no relaxation time'
    code = line['status']
    why = '' if code == Status.OK.name else f'; {DESCRIPTIONS[Status[code]]}'
    place = ', '.join(line[axis] for axis in 'ijk')
    return Fact(name=f'{name}, voxel {place}', text=f'{time}{why}')


def _lines(row: FigureRow, file: Derivative) -> list[dict[str, str]]:
    """Read the lines of a table that are shown."""
    lines = read_table(file.path)
    return [line for line in lines if not row.levels or line.get('level') in row.levels]


def _curves_of(
    row: FigureRow, lines: list[dict[str, str]]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Sort the lines of a table into curves of both axes."""
    grouped: dict[str, tuple[list[float], list[float]]] = {}
    for volume, line in enumerate(lines):
        for column in row.columns:
            if column in line:
                words = [in_words(line.get(name, '')) for name in row.curves]
                name = ', '.join(words) or column.replace('_', ' ')
                x, y = grouped.setdefault(name, ([], []))
                x.append(to_number(line[row.x]) if row.x else float(volume))
                y.append(to_number(line[column]))
    return {name: (np.array(x), np.array(y)) for name, (x, y) in grouped.items()}


def _table(row: FigureRow, scene: Scene, _: Path) -> Iterator[Block]:
    """Show a table of the output with the units of its columns."""
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = _lines(row, file)
        if not lines:
            continue
        columns = tuple(
            column
            for column in _columns(row.output)
            if (not row.columns or column.name in row.columns)
            and any(line.get(column.name, 'n/a') not in ('n/a', '') for line in lines)
        )
        shown = tuple(
            tuple(_cell(row, line, column.name) for column in columns)
            for line in lines[:MAX_LINES]
        )
        table = Table(columns=columns, lines=shown, n_hidden=max(0, len(lines) - MAX_LINES))
        yield _block(row, file, where=_where(file), table=table)


def _cell(row: FigureRow, line: Mapping[str, str], column: str) -> str:
    """Write a cell; a quantity with its unit, where that is the unit of the numbers beside it."""
    text = cell(line.get(column, ''))
    if column != 'quantity' or not row.per_quantity:
        return text
    return f'{text} ({unit_text(unit_of(row.per_quantity, quantity=line[column]))})'


def _columns(key: str) -> tuple[Column, ...]:
    """Columns of a table of outputs.yml."""
    return tuple(
        Column(
            name=name,
            unit=unit_text(about.get('unit', '')),
            description=about['description'],
        )
        for name, about in output_table().rows[key].columns.items()
    )


def _where(file: Derivative) -> str:
    """Say of which condition, task, run or contrast a table is; nothing where it is of all."""
    if 'contrast' in file.entities:
        return contrast_text(file)
    names = ('scan', 'condition', 'task', 'run')
    return ', '.join(file.entities[name] for name in names if name in file.entities)


def cell(text: str) -> str:
    """
    Write the cell of a table: numbers with three digits, words for names, nothing for n/a.

    Examples
    --------
    >>> cell('0.123456'), cell('n/a'), cell('ratio_of_means'), cell('true'), cell('12')
    ('0.123', '', 'ratio of means', 'yes', '12')
    """
    if text in ('n/a', ''):
        return ''
    value = to_number(text)
    if not np.isnan(value):
        return text if text.isdigit() else number(value)
    words = {'true': 'yes', 'false': 'no', **report_table().words}
    if re.fullmatch(r'[a-z0-9]+(_[a-z0-9]+)+', text):
        text = words.get(text, text.replace('_', ' '))
    return SCAN.sub(lambda found: found[0].upper(), words.get(text, text))


SCAN = re.compile(r'^(mese|megre|ase|asl|dsc|bold)(?=$| )')
"""Kind of a scan at the start of its name."""


def in_words(code: str) -> str:
    """
    Write a code of the atlas or a column for readers.

    Examples
    --------
    >>> in_words('SomMot'), in_words('cbf_change'), in_words('repetition_time')
    ('Somatomotor', 'CBF change', 'repetition time')
    """
    quantities = {'cbf', 'cbv', 'oef', 'cmro2', 'bold'}
    parts = [part.upper() if part in quantities else part for part in code.split('_')]
    return report_table().words.get(code, ' '.join(parts))


KINDS: Mapping[str, Callable[[FigureRow, Scene, Path], Iterator[Block]]] = {
    'anatomy': _anatomy,
    'alignment': _alignment,
    'distortion': _distortion,
    'map': _map,
    'arterial_curve': _arterial_curve,
    'series': _series,
    'decays': _decays,
    'table': _table,
    'change': _change,
    'labels': _labels,
    'group_change': _group_change,
}
"""Kind of report.yml -> how it is drawn."""


def _block(
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
) -> Block:
    """Put a block together; the first picture takes the alternative text of the row."""
    named = ('ses',) if output_key else ('ses', 'scan', 'task', 'condition', 'run', 'contrast')
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
    mask: BoolArray,
    tissues: Mapping[str, FloatArray],
) -> list[Fact | None]:
    """List the numbers of a value map."""
    facts: list[Fact | None] = [_median_fact(name, taken, row) for name, taken in tissues.items()]
    if error is not None and np.isfinite(error[mask]).any():
        unit = 'percentage points' if row.unit == '%' else row.unit
        text = f'{number(float(np.nanmedian(error[mask])))} {unit}'
        facts.append(Fact(name='typical standard error of a voxel', text=text))
    main = next(iter(tissues.items()))
    facts.append(_share_fact(main[1], main[0]))
    facts.append(_unit_fact(row))
    return facts


def _set_facts(sidecar: Mapping[str, Any]) -> list[Fact]:
    """Say how redundant sets moved and how far they agree, where there were some."""
    moved = sidecar.get('SetDisplacement') or ()
    facts = [
        Fact(name=f'movement of set {position} that was undone', text=f'{number(size)} mm')
        for position, size in enumerate(moved, start=1)
        if position > 1
    ]
    if 'SetDisagreement' in sidecar:
        text = f'{number(float(sidecar["SetDisagreement"]))} % of the signal'
        facts.append(Fact(name='disagreement of the sets', text=text))
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


def _unit_fact(row: FigureRow) -> Fact | None:
    """Say that the unit shown is not that of the file."""
    if row.scale == 1.0:
        return None
    unit = unit_text(unit_of(row.output, quantity=row.quantity)) if row.quantity else ''
    return Fact(name='unit of the file', text=f'{unit}, shown times {row.scale:g}')


def _strength_fact(tested: FloatArray, statistic: str) -> Fact | None:
    """Say how much of a map is far from zero (z) or passes the false discovery rate (q)."""
    finite = tested[np.isfinite(tested)]
    if not len(finite):
        return None
    if statistic == 'q':
        return Fact(name='voxels with q below 0.05', text=percent(float(np.mean(finite < 0.05))))
    share = float(np.mean(np.abs(finite) > NORMAL_95))
    return Fact(name='voxels with |z| above 1.96', text=f'{percent(share)} (5 % by chance)')


def _legend(
    names: list[dict[str, str]],
    counts: list[tuple[str, IntArray]],
    clear: tuple[int, ...],
) -> tuple[LegendEntry, ...]:
    """List the labels with their shares of the labelled voxels under each rule."""
    entries = []
    for line in names:
        index = int(line['index'])
        if index == 0:
            continue
        shares = [
            (f'{title.lower()} ' if counts[1:] else '')
            + percent(np.sum(labels == index) / max(1, np.sum(labels > 0)))
            for title, labels in counts
        ]
        colour = 'transparent' if index in clear else _colour(line)
        entries.append(LegendEntry(colour=colour, name=line['name'], share=', '.join(shares)))
    return tuple(entries)


def _colour(line: Mapping[str, str]) -> str:
    """Colour of a label; grey for anything that is not written as #rrggbb."""
    colour = line.get('color', '')
    return colour if re.fullmatch(r'#[0-9A-Fa-f]{6}', colour) else '#888888'


def contrast_text(file: Derivative) -> str:
    """Say what is compared, from the sidecar; without one, from the label of the name."""
    about = file.sidecar.get('Contrast')
    if isinstance(about, dict) and {'Task', 'Baseline'} <= about.keys():
        return f'{about["Task"]} minus {about["Baseline"]}'
    return contrast_words(file.entities.get('contrast', ''))


def contrast_words(label: str) -> str:
    """
    Write the label of a contrast in words; other labels stay.

    Examples
    --------
    >>> contrast_words('calcMinusControl'), contrast_words('calc')
    ('calc minus control', 'calc')
    """
    task, minus, baseline = label.partition('Minus')
    return f'{task} minus {baseline[:1].lower()}{baseline[1:]}' if minus else label


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


SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
"""Characters of an exponent, raised."""


def number(value: float) -> str:
    """
    Write a number with three significant digits.

    Examples
    --------
    >>> number(43.5678), number(float('nan')), number(-0.0012345), number(-4.5e-5)
    ('43.6', 'no estimate', '−0.00123', '−4.5 × 10⁻⁵')
    """
    if not np.isfinite(value):
        return 'no estimate'
    return raised(f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}')


def raised(text: str) -> str:
    """
    Write a number of a program as people do.

    Examples
    --------
    >>> raised('2.64e-07'), raised('-3')
    ('2.64 × 10⁻⁷', '−3')
    """
    mantissa, _, exponent = text.replace('-', '−').partition('e')
    if not exponent:
        return mantissa
    power = f'{int(exponent.replace("−", "-"))}'.translate(SUPERSCRIPTS)
    return f'{mantissa} × 10{power}'


def unit_text(unit: str) -> str:
    """
    Write a unit of a file, which has ASCII letters only, for readers.

    Examples
    --------
    >>> unit_text('umol/100 g/min'), unit_text('(1/s)^2'), unit_text('percent')
    ('µmol/100 g/min', '(1/s)²', '%')
    """
    if unit == 'percent':
        return '%'
    return re.sub(r'\bu(?=mol|T\b|m\b|s\b)', 'µ', unit).replace('^2', '²')


def counted(count: int, noun: str) -> str:
    """
    Write a number of things.

    Examples
    --------
    >>> counted(1, 'voxel'), counted(1200, 'voxel')
    ('1 voxel', '1,200 voxels')
    """
    return f'{count:,} {noun}' + ('' if count == 1 else 's')


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
