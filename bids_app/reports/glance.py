"""The first screen of a participant: what was made, whether to trust it, what is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.models.constants import NORMAL_95
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import load_upright, read_table, select, to_number
from bids_app.reports.drawing.answer import SIGNS
from bids_app.reports.drawing.figures import Scale, stack_slices
from bids_app.reports.group.answer import bound_of
from bids_app.reports.report_table import report_table
from bids_app.reports.reportlets.base import Picture, tried_voxels
from bids_app.reports.reportlets.tables import shown_cell
from bids_app.reports.text import (
    cell,
    contrast_text,
    contrast_words,
    map_title,
    percent,
    with_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bids_app.reports.derivatives import Derivative
    from bids_app.reports.group.tables import ContrastTables
    from bids_app.reports.report_table import FigureRow
    from bids_app.reports.reportlets.base import Reportlet

SHOWN_SIGNS = 3
"""Of the worst signs of quality."""

LOST, MISPLACED, UNUSUAL = 3.0, 2.0, 1.0
"""Weight of a sign: a map is lost, a scan is not where it belongs, a number is unusual."""

IN_ORDER = 0.999
"""Weights within a kind stay below this."""

PARTS = ('anatomy', 'relaxation', 'flow', 'oxygen', 'change')
"""Sections of the report whose quality the list of participants shows."""

THUMBNAILS = ('r2prime', 'cbf', 'oef', 'cmro2')
"""Rows of report.yml that are shown small."""

USELESS_WIDTH = 0.5
"""Width of the interval of a share from which on it says nothing, 1."""

NUMBERS = ('cbf', 'cbv', 'oef', 'cmro2')
"""Rows of report.yml whose medians are named first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Something that asks for a look."""

    weight: float
    part: str
    """Section of report.yml; empty where it is none."""
    about: str
    """Signs that say the same of another condition have the same."""
    text: str
    anchor: str = ''
    """Of the figure that shows it."""
    where: str = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What is said first of a unit."""

    made: tuple[str, ...] = ()
    signs: tuple[Sign, ...] = ()
    """The worst first; one of each kind."""
    n_checks: int = 0
    found: tuple[str, ...] = ()
    looks: Mapping[str, str] = field(default_factory=dict)
    """Part of the report -> good, check, bad; parts without a check are absent."""
    thumbnails: tuple[Picture, ...] = ()

    @property
    def worst(self) -> tuple[Sign, ...]:
        """The signs that are written out."""
        return self.signs[:SHOWN_SIGNS]


def glance(
    about: Mapping[str, Any],
    scene: Scene,
    reportlets: Sequence[Reportlet],
    tables: Iterable[ContrastTables],
) -> Glance:
    """
    Say what was made of a participant or session, whether to trust it, and what is found.

    Signs by their weight: a lost map, then a scan that is not where it belongs, then a number
    outside its usual range, the further the heavier.
    """
    signs = [*_lost(about), *_tabled(scene), *_unusual(reportlets)]
    judged = [one.row.section for one in reportlets for fact in one.facts if fact.verdict]
    judged += [row.section for row, _, _ in _judged_lines(scene)]
    looks = dict.fromkeys(judged, 'good')
    for sign in sorted(signs, key=lambda sign: sign.weight):
        looks[sign.part] = 'bad' if sign.weight >= LOST else 'check'
    return Glance(
        made=tuple(_made(about)),
        signs=_once(signs),
        n_checks=len(judged) + sum(sign.weight >= LOST for sign in signs),
        found=tuple(_found(reportlets, tables, scene)),
        looks={part: looks[part] for part in PARTS if part in looks},
        thumbnails=tuple(_thumbnails(scene)),
    )


def remembered(units: Sequence[Glance]) -> dict[str, Any]:
    """
    Give what the list of participants shows of one, as it is kept in its logs.

    ``looks`` (the worst of the sessions), ``signs`` (those written out), ``n_signs`` and
    ``thumbnails`` (name, width, height and title of those of the first session).
    """
    order = ('good', 'check', 'bad')
    looks: dict[str, str] = {}
    for unit in units:
        for part, look in unit.looks.items():
            looks[part] = max(look, looks.get(part, 'good'), key=order.index)
    signs = sorted((sign for unit in units for sign in unit.signs), key=lambda one: -one.weight)
    return {
        'looks': looks,
        'signs': [sign.text for sign in signs[:SHOWN_SIGNS]],
        'n_signs': len(signs),
        'thumbnails': [
            {'name': one.name, 'width': one.size[0], 'height': one.size[1], 'title': one.title}
            for unit in units[:1]
            for one in unit.thumbnails
        ],
    }


def _made(about: Mapping[str, Any]) -> Iterator[str]:
    """Say which maps were made for which condition, and which were not and why."""
    maps: dict[tuple[str, ...], list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for state in about['maps']:
        if state['state'] == 'made':
            by_name.setdefault(str(state['map']), []).append(str(state['condition'] or ''))
    for name, conditions in by_name.items():
        maps.setdefault(tuple(conditions), []).append(map_title(name))
    for places, names in maps.items():
        where = ', '.join(contrast_words(one) for one in places if one)
        yield f'{where or "for all conditions"}: {", ".join(names)}'
    missing: dict[str, list[str]] = {}
    for state in about['maps']:
        if state['state'] != 'made':
            why = str(state['reason'] or state['state'])
            missing.setdefault(why, []).append(map_title(state['map']))
    for why, names in missing.items():
        yield f'not made: {", ".join(dict.fromkeys(names))} ({why})'


def _lost(about: Mapping[str, Any]) -> Iterator[Sign]:
    """List maps that were lost to a defect, and what is suspicious in the input."""
    part_of = {row.title: row.section for row in report_table().figures}
    for state in about['maps']:
        if state['state'] in ('defective', 'failed'):
            name, why = map_title(state['map']), str(state['reason'] or state['state'])
            part = part_of.get(name, '')
            yield Sign(weight=LOST, part=part, about=why, text=f'{name} is lost: {why}',
                       where=str(state['condition'] or ''))  # fmt: skip
    for problem in about['problems']:
        text = str(problem['message'])
        yield Sign(weight=LOST, part='', about=text, text=text)
    for one in about['suspicions']:
        text = str(one['reason'])
        yield Sign(weight=MISPLACED, part='', about=text, text=text)


def _judged_lines(scene: Scene) -> Iterator[tuple[FigureRow, Derivative, dict[str, str]]]:
    """List the lines of tables that have a verdict."""
    for row in report_table().figures:
        if row.level == 'participant' and row.kind == 'table':
            for file in select(scene.files, row.output):
                for line in read_table(file.path):
                    if line.get('verdict') in ('good', 'check'):
                        yield row, file, line


def _tabled(scene: Scene) -> Iterator[Sign]:
    """List what the tables of alignment and of blood flow call unusual."""
    for row, _, line in _judged_lines(scene):
        if line['verdict'] != 'check':
            continue
        if 'scan' in line:
            text = f'{cell(line["scan"])}: {line.get("reason") or "not well aligned"}'
            yield Sign(weight=MISPLACED, part=row.section, about=text, text=text, anchor=row.key)
            continue
        name = cell(line['measure'])
        rule, cause = (cell(line.get(column, '')) for column in ('rule', 'probable_cause'))
        text = f'CBF, {name}: {shown_cell(row, line, "value")}; usual: {rule}'
        yield Sign(
            weight=UNUSUAL + IN_ORDER / 2,
            part=row.section,
            about=line['measure'],
            text=f'{text}; {cause}' if cause else text,
            anchor=row.key,
            where=cell(line.get('condition', '')),
        )


def _unusual(reportlets: Iterable[Reportlet]) -> Iterator[Sign]:
    """List the numbers under the figures that leave their rule, the further the heavier."""
    for one in reportlets:
        for fact in one.facts:
            if fact.verdict == 'check':
                far = fact.beyond / (1 + fact.beyond) if np.isfinite(fact.beyond) else 1.0
                text = f'{one.title}, {fact.name}: {fact.text}'
                yield Sign(
                    weight=UNUSUAL + IN_ORDER * far,
                    part=one.row.section,
                    about=f'{one.title}, {fact.name}',
                    text=f'{text}; {fact.rule}' if fact.rule else text,
                    anchor=one.key,
                    where=one.where,
                )


def _once(signs: Iterable[Sign]) -> tuple[Sign, ...]:
    """Keep the worst sign of each kind, saying where else it is; the worst first."""
    kinds: dict[str, list[Sign]] = {}
    for sign in sorted(signs, key=lambda sign: -sign.weight):
        kinds.setdefault(sign.about, []).append(sign)
    once = []
    for first, *others in kinds.values():
        where = f' ({first.where})' if first.where else ''
        also = dict.fromkeys(sign.where for sign in others if sign.where)
        rest = f'; also {", ".join(also)}' if also else ''
        once.append(replace(first, text=f'{first.text}{where}{rest}'))
    return tuple(once)


def _found(
    reportlets: Iterable[Reportlet], tables: Iterable[ContrastTables], scene: Scene
) -> Iterator[str]:
    """Say the medians of each condition, the changes of the brain, and what the labels say."""
    medians: dict[str, list[str]] = {}
    tissue = 'grey matter' if scene.tissues else 'brain'
    for one in reportlets:
        if one.row.key in NUMBERS:
            facts = [fact for fact in one.facts if fact.name == f'median, {tissue}']
            medians.setdefault(one.where, []).extend(
                f'{one.title} {fact.text.partition(" (")[0]}' for fact in facts
            )
    for where, texts in medians.items():
        if texts:
            yield f'Median of {tissue}, {where}: {", ".join(texts)}.'
    for table in tables:
        brain = next((texts for name, texts in table.regions if name == 'brain'), ())
        changes = [
            f'{title} {text}'
            for title, text in zip(table.quantities, brain, strict=False)
            if text != 'no estimate'
        ]
        if changes:
            yield f'{table.title}, whole brain ± standard error: {", ".join(changes)}.'
    for file in select(scene.files, 'summary'):
        yield from _agreement(file)
        yield from _share(file, select(scene.files, 'regions', **_contrast(file)))


def _agreement(file: Derivative) -> Iterator[str]:
    """Say what the labels of a contrast say of BOLD and metabolism."""
    rules = {
        line['rule']: line
        for line in read_table(file.path)
        if line['network'] == 'all' and line['bold'] == 'all'
    }
    robust = rules.get('robust')
    if robust is None:
        return
    counts = (cell(robust[f'n_{name}']) for name in ('concordant', 'discordant', 'undetermined'))
    same, opposed, open_ = (count or '0' for count in counts)
    yield (
        f'Labels of {contrast_text(file)}: CMRO2 goes with BOLD in {same} voxels, against it in '
        f'{opposed}, and is undetermined in {open_} (robust rule).'
    )
    shares = [
        to_number(rules.get(rule, {}).get('discordant_fraction'))
        for rule in ('sign', 'noise_only')
    ]
    if np.isfinite(shares).all():
        sign, noise = map(percent, shares)
        yield f'The sign rule calls {sign} discordant; noise alone would make {noise}.'


def _contrast(file: Derivative) -> dict[str, str | None]:
    """Entity of the contrast of a file."""
    return {'contrast': file.entities.get('contrast')}


def _share(file: Derivative, regions: Iterable[Derivative]) -> Iterator[str]:
    """Say what share of the total change opposes BOLD, or what regions do instead."""
    weighted = {
        line['bold']: line
        for line in read_table(file.path)
        if line['network'] == 'all' and line['rule'] == 'size_weighted'
    }
    if 'all' not in weighted:
        return
    share, *signs = (bound_of(weighted.get(sign, {})) for sign, _, _ in SIGNS)
    if not share.high - share.low <= USELESS_WIDTH:
        reason = weighted['all'].get('note', '').partition('; ')[0]
        if np.isfinite(share.value):
            reason = f'the estimate is {share.text}'
        yield (
            'What share of metabolism opposes BOLD cannot be said for this participant alone: '
            f'{reason}. Regions can: their errors include what scans minutes apart differ by.'
        )
        for table in regions:
            yield from _networks(table)
        return
    up, down = (one.text for one in signs)
    yield (
        f'{share.text} of the total change of CMRO2 opposes BOLD: {up} where BOLD rises, {down} '
        'where it falls.'
    )


def _networks(file: Derivative) -> Iterator[str]:
    """List the changes of CMRO2 of networks, and name those beyond their error."""
    texts, beyond = [], []
    for line in read_table(file.path):
        effect, error = (to_number(line.get(name)) for name in ('effect', 'se'))
        is_shown = line['level'] == 'network' and line['quantity'] == 'cmro2'
        if is_shown and np.isfinite(effect + error):
            texts.append(f'{line["name"]} {with_error(effect, error)}')
            if abs(effect) > NORMAL_95 * error:
                beyond.append(line['name'])
    if texts:
        sure = f'surely changed: {", ".join(beyond)}' if beyond else 'none surely changed'
        yield f'CMRO2 of networks ± standard error: {", ".join(texts)}; {sure}.'


def _thumbnails(scene: Scene) -> Iterator[Picture]:
    """Paint the middle slice of a few maps of the first condition, one pixel per voxel."""
    for row in report_table().figures:
        files = sorted(scene.maps(row.output), key=scene.rank) if row.key in THUMBNAILS else []
        if not files:
            continue
        values = load_upright(files[0].path)[0] * row.scale
        mask = tried_voxels(values, None, scene)
        if not mask.any():
            continue
        middle = int(np.median(np.flatnonzero(mask.any(axis=(0, 1)))))
        part = (slice(None), slice(None), slice(middle, middle + 1))
        scale = Scale(limits=row.limits, colormap=row.colormap)
        seen = np.where(mask, values, np.nan)[part]
        content, size, _ = stack_slices(seen, mask[part], np.zeros(seen.shape), scale, threshold=0)
        where = files[0].entities.get('condition', '')
        yield Picture(
            name='_'.join(filter(None, ['thumbnail', files[0].entities.get('ses'), row.key])),
            content=content,
            size=size,
            alt=f'{row.title}{", " + where if where else ""}, middle slice',
            title=row.title,
        )
