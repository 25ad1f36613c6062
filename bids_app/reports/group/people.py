"""Participants of a study by group, and what its design tests of regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bids_app.reports.derivatives import natural, read_table, select, to_number
from bids_app.reports.drawing.people import Interval, Strip, draw_forest, draw_strips
from bids_app.reports.group.deviations import quantity_unit
from bids_app.reports.group.overview import Measure, make_measure
from bids_app.reports.text import contrast_words, in_words, with_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bids_app.reports.derivatives import Derivative

CLEAR = 0.05
"""False discovery rate below which a region is marked."""

FEWEST_AXES = 2
"""Measures of which a plane can be made."""

WIDE_LEVELS = ('parcel',)
"""Levels of too many regions for a chart; they are in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart with its title, and itself as a link that saves it."""

    title: str
    svg: str

    @property
    def link(self) -> str:
        """Address that holds the file."""
        return f'data:image/svg+xml,{quote(self.svg)}'


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Charts of a study: participants by group, then tests of regions; and where the data are."""

    strips: tuple[Chart, ...] = ()
    forests: tuple[Chart, ...] = ()
    tables: tuple[str, ...] = ()
    """Files with all numbers, relative to the page."""


def people(files: Sequence[Derivative], output_dir: Path) -> People:
    """
    Draw a study.

    Strips of the brain (of regions of interest where there is no atlas), and forests of networks,
    atlases of the user and regions of interest per quantity and test.
    """
    values = [line for file in select(files, 'group_values') for line in read_table(file.path)]
    tests = [line for file in select(files, 'group_comparison') for line in read_table(file.path)]
    tables = [*select(files, 'group_values'), *select(files, 'group_comparison')]
    return People(
        strips=tuple(_strips(values)),
        forests=tuple(_forests(tests)),
        tables=tuple(file.path.relative_to(output_dir).as_posix() for file in tables),
    )


def _title(line: Mapping[str, str]) -> tuple[str, float]:
    """Name a quantity with its contrast or condition and unit; give the scale of the page."""
    is_change = line['contrast'] != 'n/a'
    title, unit, scale = quantity_unit(line['quantity'], is_change=is_change)
    of = contrast_words(line['contrast']) if is_change else line['condition']
    text = f'{title}{"" if of == "n/a" else f" of {of}"}{f" ({unit})" if unit else ""}'
    return text, scale


def plane(measures: Sequence[Measure], files: Sequence[Derivative]) -> dict[str, Any]:
    """
    Collect what participants can be set against each other by: quality, then values of regions.

    participants, group of each (number), names of the groups, and axes with title, and text, value
    and mark of every participant (None where it has none); empty with fewer than two axes.
    """
    lines = [line for file in select(files, 'group_values') for line in read_table(file.path)]
    group_of = {line['participant']: line['group'] for line in lines}
    measured = [
        make_measure((f'{title}, {where}', '1'), dict(found))
        for (title, where), groups in _by_place(lines).items()
        if len(found := [person for people in groups.values() for person in people]) > 1
    ]
    axes = [*measures, *measured]
    if len(axes) < FEWEST_AXES:
        return {}
    people = sorted({label for axis in axes for label, *_ in axis.places}, key=natural)
    groups = sorted({group_of.get(label, 'n/a') for label in people})
    return {
        'participants': people,
        'groups': ['' if name == 'n/a' else name for name in groups],
        'group': [groups.index(group_of.get(label, 'n/a')) for label in people],
        'axes': [_axis(axis, people) for axis in axes],
    }


def _axis(measure: Measure, people: Sequence[str]) -> dict[str, Any]:
    """Give a measure of everybody in order."""
    found = {
        label: (value, text, int(is_out))
        for (label, _, text, is_out), value in zip(measure.places, measure.values, strict=True)
    }
    unit = f' ({measure.unit})' if measure.unit else ''
    return {
        'title': f'{measure.title}{unit}',
        'people': [found.get(label) for label in people],
    }


def _by_place(
    lines: Sequence[Mapping[str, str]],
) -> dict[tuple[str, str], dict[str, list[tuple[str, float]]]]:
    """Sort the values of the brain, and of regions of interest, by quantity, place and group."""
    places: dict[tuple[str, str], dict[str, list[tuple[str, float]]]] = {}
    for line in lines:
        title, scale = _title(line)
        value = scale * to_number(line['value'])
        if line['level'] in ('brain', 'roi') and math.isfinite(value):
            group = '' if line['group'] == 'n/a' else line['group']
            where = 'grey matter' if line['name'] == 'brain' else line['name']
            place = places.setdefault((title, where), {})
            place.setdefault(group, []).append((line['participant'], value))
    return places


def _strips(lines: Sequence[Mapping[str, str]]) -> Iterable[Chart]:
    """Draw the values of the brain, and of regions of interest, by group."""
    for (title, where), groups in _by_place(lines).items():
        strips = [_strip(group, groups[group]) for group in sorted(groups)]
        text = f'{title}, {where}'
        yield Chart(title=text, svg=draw_strips(strips, title=text))


def _strip(group: str, found: Sequence[tuple[str, float]]) -> Strip:
    """Describe a group: mean with the interval of Student."""
    from scipy import stats

    values = np.array([value for _, value in found])
    n = len(values)
    half = float('nan')
    if n > 1:
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    mean = float(values.mean())
    return Strip(
        name=group or 'all', people=tuple(found), mean=mean, low=mean - half, high=mean + half
    )


def _forests(lines: Sequence[Mapping[str, str]]) -> Iterable[Chart]:
    """Draw what was tested."""
    charts: dict[str, list[Interval]] = {}
    for line in lines:
        title, scale = _title(line)
        value, low, high = (scale * to_number(line[name]) for name in ('effect', 'low', 'high'))
        if line['t'] == 'n/a' or line['level'] in WIDE_LEVELS or not math.isfinite(low + high):
            continue
        charts.setdefault(f'{title}: {line["test"]}', []).append(
            Interval(
                name=in_words(line['name']),
                value=value,
                low=low,
                high=high,
                text=with_interval(value, low, high),
                is_clear=to_number(line['q']) < CLEAR,
            )
        )
    for title, rows in charts.items():
        yield Chart(title=title, svg=draw_forest(rows, title=title))
