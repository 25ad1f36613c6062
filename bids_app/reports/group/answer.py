"""The first screen of the report of a group: what share of metabolism opposes BOLD, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.concordance.offset import crossings
from bids_app.reports.derivatives import read_table, select, to_number
from bids_app.reports.drawing.answer import SIGNS, T_TEST, Bound, draw_answer
from bids_app.reports.text import contrast_text, number, with_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app.reports.derivatives import Derivative

SHOWN = {
    'sign': 'sign rule',
    'ttest': T_TEST,
    'noise_only': 'what noise alone, would show',
    'noise_corrected': 'of the changes, (pi_d)',
    'size_weighted': 'of the total change, (w_d)',
}
"""Rules of the figure, in its order; a comma starts a new line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What can be said of a contrast, and the figure that shows it."""

    title: str
    sentences: tuple[str, ...]
    chart: str


def answers(files: Sequence[Derivative]) -> tuple[Answer, ...]:
    """Say what each contrast of a group shows."""
    found = []
    for file in select(files, 'group_summary'):
        at = {'contrast': file.entities['contrast']}
        lines = [line for line in read_table(file.path) if line['network'] == 'all']
        curve, offsets = (
            [line for one in select(files, key, **at) for line in read_table(one.path)]
            for key in ('group_offset_curve', 'group_offset')
        )
        rules = {
            title: {line['bold']: bound_of(line) for line in lines if line['rule'] == rule}
            for rule, title in SHOWN.items()
        }
        measured = _measured(offsets)
        points = {
            sign: [
                (to_number(line['offset']), bound_of(line, 'w_d'))
                for line in curve
                if line['bold'] == sign
            ]
            for sign, _, _ in SIGNS
        }
        points = {sign: listed for sign, listed in points.items() if listed}
        found.append(
            Answer(
                title=contrast_text(file),
                sentences=(
                    *_shares(rules, _reason(lines)),
                    *_offset(measured, points),
                    *_outlying(offsets),
                ),
                chart=draw_answer(rules, points, measured[1:] if measured else None),
            )
        )
    return tuple(found)


def bound_of(line: Mapping[str, str], name: str = '') -> Bound:
    """Read a share with its interval from a line of a table; a summary has no prefix."""
    names = (name, f'{name}_low', f'{name}_high')
    columns = names if name else ('discordant_fraction', 'ci_low', 'ci_high')
    value, low, high = (to_number(line.get(column)) for column in columns)
    return Bound(value=value, low=low, high=high)


def _reason(lines: Iterable[Mapping[str, str]]) -> str:
    """Say why there is no share of the total change."""
    row = next(
        (one for one in lines if one['rule'] == 'size_weighted' and one['bold'] == 'all'), None
    )
    return '' if row is None else row.get('note', '').partition('; ')[0]


def _shares(rules: Mapping[str, Mapping[str, Bound]], reason: str) -> list[str]:
    """Say what share of metabolism opposes BOLD, or that nothing can be said."""
    weighted = rules[SHOWN['size_weighted']]
    sign, noise = rules[SHOWN['sign']], rules[SHOWN['noise_only']]
    sentences = []
    if 'all' in weighted and np.isfinite(weighted['all'].value):
        sentences.append(
            f'{weighted["all"].text} of the total change of oxygen metabolism opposes BOLD: '
            f'{_of(weighted, "positive")} where BOLD rises, {_of(weighted, "negative")} where it '
            'falls.'
        )
    else:
        sentences.append(
            f'What share of oxygen metabolism opposes BOLD cannot be said: {reason or "no data"}.'
        )
    if 'all' in sign and np.isfinite(sign['all'].value):
        alone = ''
        if 'all' in noise and np.isfinite(noise['all'].value):
            alone = f'; noise alone would make {noise["all"].text} if every voxel were concordant'
        sentences.append(f'The sign rule calls {sign["all"].text} discordant{alone}.')
    return sentences


def _of(shares: Mapping[str, Bound], sign: str) -> str:
    """Write a share, or that there is none."""
    return shares[sign].text if sign in shares else 'withheld'


def _measured(lines: Iterable[Mapping[str, str]]) -> tuple[float, float, float] | None:
    """Find the change of CMRO2 where BOLD is absent, percent, with its interval."""
    for line in lines:
        if (line['quantity'], line['network'], line['participant']) == ('cmro2', 'all', 'group'):
            names = ('percent', 'percent_low', 'percent_high')
            value, low, high = (to_number(line.get(name)) for name in names)
            return value, low, high
    return None


def _outlying(lines: Iterable[Mapping[str, str]]) -> list[str]:
    """Name the participants whose change where BOLD is absent is unlike that of the others."""
    found = [
        f'{line["participant"]} ({number(to_number(line["percent"]))} %)'
        for line in lines
        if line['quantity'] == 'cmro2' and line.get('note', 'n/a') not in {'n/a', ''}
    ]
    return [f'There unlike the others: {", ".join(found)}.'] if found else []


def _offset(
    measured: tuple[float, float, float] | None,
    points: Mapping[str, Sequence[tuple[float, Bound]]],
) -> list[str]:
    """Say what changes where BOLD does not, and at which offset a share passes one half."""
    sentences = []
    if measured is not None and np.isfinite(measured[0]):
        offset = with_interval(*measured, unit='%')
        sentences.append(
            f'Where BOLD does not change, CMRO2 changes by {offset}: an offset '
            'of the scans, or a true change of the whole brain.'
        )
    passed = []
    for sign, _, words in SIGNS:
        listed = points.get(sign, ())
        at = crossings([o for o, _ in listed], [one.value for _, one in listed])
        passed += [f'{words} at {one:+.1f} %'.replace('-', '−') for one in at]
    if passed:
        sentences.append(f'With an offset subtracted, one half is passed: {", ".join(passed)}.')
    elif any(np.isfinite(one.value) for listed in points.values() for _, one in listed):
        sentences.append('No offset from −3 to +3 % makes a share pass one half.')
    return sentences
