"""Participants against people of reference: which regions are beyond the norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from bids_app.reports.derivatives import read_table, select, to_number
from bids_app.reports.report_table import report_table
from bids_app.reports.text import in_words, number, with_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app.reports.derivatives import Derivative

ABNORMAL = 0.05
"""Probability below which a region is listed."""

MAX_REGIONS = 30
"""Lines of the list of a participant and quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One quantity of one participant."""

    participant: str
    title: str
    sentences: tuple[str, ...]
    regions: tuple[tuple[str, ...], ...]
    """Region, value with the interval of the norm, difference, z, volume, q."""
    n_hidden: int
    """Regions beyond the norm that are in the file only."""


def quantity_unit(quantity: str, *, is_change: bool) -> tuple[str, str, float]:
    """
    Find how a quantity is shown on the page.

    Give title and unit in words, and the factor from the unit of the files.

    Examples
    --------
    >>> quantity_unit('oef', is_change=False), quantity_unit('oef', is_change=True)
    (('OEF', '%', 100.0), ('OEF change', 'percentage points', 100.0))
    """
    rows = report_table().figures
    kinds = ('change', 'map') if is_change else ('map',)
    found = next((r for kind in kinds for r in rows if (r.kind, r.quantity) == (kind, quantity)),
                 None)  # fmt: skip
    words = report_table().words
    return (
        (words.get(quantity, quantity), '', 1.0)
        if found is None
        else (found.title, found.unit, found.scale)
    )


def deviations(files: Sequence[Derivative]) -> tuple[Card, ...]:
    """
    Read who is beyond the norm where.

    Per participant and quantity, as in the table; none without ``--reference``.
    """
    lines = [line for file in select(files, 'group_deviations') for line in read_table(file.path)]
    keys = ('participant', 'quantity', 'condition', 'contrast')
    lines.sort(key=lambda line: [line[key] for key in keys])
    return tuple(
        _card(place, list(of_place))
        for place, of_place in groupby(lines, key=lambda line: tuple(line[key] for key in keys))
    )


def _card(place: tuple[str, ...], lines: Sequence[Mapping[str, str]]) -> Card:
    """Put together what a participant shows in a quantity."""
    participant, quantity, condition, contrast = place
    is_change = contrast != 'n/a'
    title, unit, scale = quantity_unit(quantity, is_change=is_change)
    of = contrast if is_change else condition
    parcels = [line for line in lines if line['level'] == 'parcel']
    tested = parcels or [line for line in lines if line['level'] != 'voxel']
    beyond = sorted(
        (line for line in tested if to_number(line['p']) < ABNORMAL),
        key=lambda line: to_number(line['p']),
    )
    return Card(
        participant=participant,
        title=f'{title}{"" if of == "n/a" else f" of {of}"}{f", {unit}" if unit else ""}',
        sentences=tuple(_sentences(lines, tested, beyond)),
        regions=tuple(_region(line, scale) for line in beyond[:MAX_REGIONS]),
        n_hidden=max(len(beyond) - MAX_REGIONS, 0),
    )


def _sentences(
    lines: Iterable[Mapping[str, str]],
    tested: Sequence[Mapping[str, str]],
    beyond: Sequence[Mapping[str, str]],
) -> Iterable[str]:
    """Say how many are beyond the norm, and how many would be by chance."""
    known = [line for line in tested if math.isfinite(to_number(line['p']))]
    if known:
        clear = sum(to_number(line['q']) < ABNORMAL for line in beyond)
        yield (
            f'{len(beyond)} of {len(known)} regions beyond the norm of '
            f'{known[0]["n_reference"]} participants (p < .05); '
            f'{number(ABNORMAL * len(known))} expected by chance. '
            f'{clear} after control of the false discovery rate.'
        )
    for line in lines:
        if line['level'] == 'voxel':
            n, seen = to_number(line['n_voxels']), to_number(line['n_beyond'])
            volume = to_number(line['volume_ml']) * seen / n if n else 0.0
            yield (
                f'{seen:,.0f} of {n:,.0f} voxels beyond p < .05 ({number(volume)} mL); '
                f'{to_number(line["n_expected"]):,.0f} expected by chance.'
            )


def _region(line: Mapping[str, str], scale: float) -> tuple[str, ...]:
    """Write a line of the list."""
    names = ('value', 'expected', 'low', 'high')
    value, expected, low, high = (scale * to_number(line[name]) for name in names)
    return (
        in_words(line['name']),
        number(value),
        with_interval(expected, low, high),
        number(value - expected),
        number(to_number(line['z'])),
        number(to_number(line['volume_ml'])),
        number(to_number(line['q'])),
    )
