"""Changes between conditions, their tests and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.images import load_cortex
from bids_app.models.constants import NORMAL_95
from bids_app.reports.background import Scene, TemplateScene
from bids_app.reports.derivatives import load_upright, read_table, root_file
from bids_app.reports.drawing import figures
from bids_app.reports.drawing.cortex import draw_cortex
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.base import (
    Fact,
    LegendEntry,
    Picture,
    Reportlet,
    Scroll,
    halves_fact,
    make_reportlet,
    missing_fact,
)
from bids_app.reports.text import (
    contrast_text,
    number,
    percent,
    range_text,
    round_up,
    unit_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.images import Grid
    from bids_app.reports.derivatives import Derivative


UNCOLOURED = (0, 7)
"""Labels through which the anatomy shows: outside, and BOLD not significant."""


Z_LIMITS = (-5.0, 5.0)
"""Colours of z and t maps."""


def draw_change(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show the effect and its z map."""
    yield from _effects(row, scene, 'z')


SEEN_T = 2.0
"""Below this size a t value leaves the brain behind it visible."""


def draw_group_change(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show the group mean and its t map, all slices, the whole brain, and what could be found."""
    yield from _on_cortex(row, scene)
    files = scene.maps(row.output, quantity=row.quantity, statistic='effect')
    for reportlet, file in zip(_effects(row, scene, 't'), files, strict=True):
        same = _same(file)
        tests = scene.maps(row.output, quantity=row.quantity, statistic='t', **same)
        pictures = list(reportlet.pictures)
        scroll = None
        if tests and scene.brain is not None and scene.grid is not None:
            tested = load_upright(tests[0].path)[0]
            pictures.insert(0, _glass(reportlet, tested, scene.brain, scene.grid))
            if scene.backdrop is not None and scene.backdrop.factor == 1:
                anatomy = scene.backdrop.data
                scroll = _scroll(reportlet, tested, scene.brain, scene.grid, anatomy)
        pictures += _detectable(row, reportlet, scene, same)
        facts = (*reportlet.facts, *_group_facts(row, file.sidecar))
        yield replace(reportlet, pictures=tuple(pictures), scroll=scroll, facts=facts)


def _same(file: Derivative) -> dict[str, str | None]:
    """Entities that the statistics of one effect share."""
    names = ('contrast', 'task', 'condition', 'column')
    return {name: file.entities.get(name) for name in names}


def _on_cortex(row: FigureRow, scene: Scene) -> Iterator[Reportlet]:
    """Show the group mean and its t at the vertices of the meshes that the group has."""
    if not isinstance(scene, TemplateScene):
        return
    at: dict[str, str | None] = {'quantity': row.quantity, 'hemi': 'L'}
    for density, views in scene.cortex.items():
        for file in scene.maps('group_surface', statistic='effect', den=density, **at):
            if ('contrast' in file.entities, 'column' in file.entities) != SHOWN_ON[row.output]:
                continue
            tests = scene.maps('group_surface', statistic='t', den=density, **at, **_same(file))
            values = load_cortex(file.path)[..., 0] * row.scale
            scale = figures.Scale(limits=row.limits, colormap=row.colormap, label=row.label)
            drawn = [('Change', draw_cortex(values, views, scale), '')]
            for tested in (load_cortex(one.path)[..., 0] for one in tests):
                clear = np.abs(np.nan_to_num(tested)) >= SEEN_T
                scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r',
                                      label=f't beyond ±{SEEN_T:g}')  # fmt: skip
                alt = f'Both hemispheres with t. {range_text(tested, "")}'
                drawn.append(('t', draw_cortex(tested, views, scale, shown=clear), alt))
            alt = row.alt.replace('Axial slices', 'Both hemispheres of the cortex')
            made = make_reportlet(
                replace(row, title=f'{row.title} on the cortex', alt=alt),
                file,
                pictures=drawn,
                where=contrast_text(file),
                extra={'range': range_text(values, row.unit)},
            )
            yield replace(made, facts=tuple(_group_facts(row, file.sidecar)))


SHOWN_ON = {'group_contrast': (True, False), 'group_map_covariate': (False, True)}
"""Row of outputs.yml -> whether its files on the cortex have a contrast, and a column."""


def _glass(reportlet: Reportlet, tested: FloatArray, brain: BoolArray, grid: Grid) -> Picture:
    """Look through the whole brain at the clear t values."""
    seen = np.where(np.abs(tested) >= SEEN_T, tested, np.nan)
    scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r', label=f't beyond ±{SEEN_T:g}')
    figure = figures.draw_glass(seen, brain, grid.zooms, scale)
    of = f'{reportlet.title}, {reportlet.where}'
    alt = f'Glass brain of the t values of {of}. {range_text(seen, "")}'
    return Picture(
        name=f'{reportlet.key}_glass',
        content=figures.webp(figure),
        size=figures.size_of(figure),
        alt=alt,
        title='Through the whole brain',
    )


def _scroll(
    reportlet: Reportlet, tested: FloatArray, brain: BoolArray, grid: Grid, anatomy: FloatArray
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
        alt=f'One axial slice of t of {reportlet.title}, {reportlet.where}, over the template.',
    )


def _detectable(
    row: FigureRow, reportlet: Reportlet, scene: Scene, same: Mapping[str, str | None]
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
            name=f'{reportlet.key}_detectable',
            content=figures.webp(figure),
            size=figures.size_of(figure),
            alt=f'Axial slices of the smallest change of {reportlet.title} that would be found '
            f'with 80 percent power, {reportlet.where}. {range_text(inside, row.unit)}',
            title='Smallest change found with 80 % power',
        )


def _effects(row: FigureRow, scene: Scene, statistic: str) -> Iterator[Reportlet]:
    """Show an effect and a statistic beside it."""
    for file in scene.maps(row.output, quantity=row.quantity, statistic='effect'):
        if scene.slices is None:
            return
        values = load_upright(file.path)[0] * row.scale
        mask = scene.brain if scene.brain is not None else np.isfinite(values)
        scale = figures.Scale(limits=row.limits, colormap=row.colormap, label=row.label)
        drawn = [('Change', figures.draw_map(values, scene.slices, scale, mask=mask), '')]
        same = _same(file)
        tests = scene.maps(row.output, quantity=row.quantity, statistic=statistic, **same)
        facts = [missing_fact(values, mask, scene), halves_fact(file.sidecar)]
        if tests:
            tested = load_upright(tests[0].path)[0]
            scale = figures.Scale(limits=Z_LIMITS, colormap='RdBu_r', label=statistic)
            alt = f'Axial slices of {statistic}. {range_text(tested[mask], "")}'
            figure = figures.draw_map(tested, scene.slices, scale, mask=mask)
            drawn.append((f'{statistic}: change in units of its error', figure, alt))
        judge = 'z' if statistic == 'z' else 'q'
        for judged in scene.maps(row.output, quantity=row.quantity, statistic=judge, **same):
            facts.append(_strength_fact(load_upright(judged.path)[0][mask], judge))
        yield make_reportlet(
            row,
            file,
            pictures=drawn,
            where=contrast_text(file),
            extra={'range': range_text(values[mask], row.unit)},
            facts=facts,
        )


def draw_labels(row: FigureRow, scene: Scene, output_dir: Path) -> Iterator[Reportlet]:
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
        yield make_reportlet(
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


def _strength_fact(tested: FloatArray, statistic: str) -> Fact | None:
    """Say how much of a map is far from zero (z) or passes the false discovery rate (q)."""
    finite = tested[np.isfinite(tested)]
    if not len(finite):
        return None
    if statistic == 'q':
        return Fact(name='voxels with q below 0.05', text=percent(float(np.mean(finite < 0.05))))
    share = float(np.mean(np.abs(finite) > NORMAL_95))
    return Fact(name='voxels with |z| above 1.96', text=f'{percent(share)} (5 % by chance)')


def _group_facts(row: FigureRow, sidecar: Mapping[str, Any]) -> Iterator[Fact]:
    """Say what a study of this size cannot show, and how skewed its participants are."""
    could = _float(sidecar, 'SmallestEquivalence') * row.scale
    wanted = _float(sidecar, 'SmallestEffect') * row.scale
    if np.isfinite(could):
        rule = f'smallest of interest: {number(wanted)}' if np.isfinite(wanted) else ''
        verdict = 'check' if could > wanted else 'good' if rule else ''
        yield Fact(
            name='smallest delta for which no change could be shown',
            text=f'{number(could)} {unit_text(row.unit)}',
            verdict=verdict,
            rule=rule,
        )
    skewness = _float(sidecar, 'Skewness')
    if np.isfinite(skewness):
        marked = sidecar.get('SkewnessCorrected')
        note = 'family-wise tests corrected for it' if marked else 'no more than by chance'
        yield Fact(name='skewness of participants', text=f'{number(skewness)} ({note})')


def _float(sidecar: Mapping[str, Any], key: str) -> float:
    """Read a number of a sidecar; NaN where it has none."""
    value = sidecar.get(key)
    return float(value) if isinstance(value, int | float) else float('nan')


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
