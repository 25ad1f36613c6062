"""The page of a published table: figure of the answer, and its numbers as tables."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from bids_app.reports.drawing.answer import SIGNS, T_TEST, Bound, draw_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

RULES = {
    'sign_fraction': 'sign rule',
    't_test': T_TEST,
    'noise_only': 'what noise alone, would show',
    'pi_d': 'of the changes, (pi_d)',
    'w_d': 'of the total change, (w_d)',
}
"""Column of the table to the title in the figure, in its order."""


def published_figure(curve: pd.DataFrame) -> str:
    """
    Draw the answer that a table gives.

    One row per offset (percent) and sign of BOLD, with the columns of :data:`RULES`.
    """
    at_zero = curve[curve.offset == 0].set_index('bold')
    rules = {
        title: {str(bold): _bound(row, name) for bold, row in at_zero.iterrows()}
        for name, title in RULES.items()
        if name in at_zero
    }
    lines = {
        str(bold): [(float(row.offset), _bound(row, 'w_d')) for _, row in part.iterrows()]
        for bold, part in curve.groupby('bold')
    }
    return draw_answer(rules, lines, None)


def published_page(
    name: str,
    curve: pd.DataFrame,
    errors: pd.DataFrame,
    counts: pd.DataFrame,
    *,
    assumed: float | None,
) -> str:
    """
    Make the page of a published table.

    Shares over an offset and over the assumed error, and the population share behind counts; empty
    where there are none. `assumed` is the standard error of all voxels, percent, where none was
    given.
    """
    parts = []
    if len(curve):
        parts += [
            '<p>Share opposite to BOLD, with 95 % intervals; below, with a common offset '
            'subtracted (a sensitivity, not a correction).</p>',
            f'<div class="plane-box">{published_figure(curve)}</div>',
            _table('Without an offset', '', curve[curve.offset == 0]),
        ]
    if len(errors):
        parts += [
            f'<p>No error was given: {assumed:g} % was assumed for all voxels. What hangs on '
            'it:</p>',
            _table('With another error', 'assumed_se', errors),
        ]
    if len(counts):
        parts.append(_counts(counts))
    style = files('bids_app.reports').joinpath('templates/style.css').read_text('utf-8')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escape(name)}</title><style>{style}</style></head><body>'
        f'<div class="frame"><h1>{escape(name)}</h1>{"".join(parts)}</div></body></html>\n'
    )


def _bound(row: pd.Series, name: str) -> Bound:
    """Read a share with its interval, if it has one."""
    nothing = float('nan')
    low, high = (float(row.get(f'{name}_{end}', nothing)) for end in ('low', 'high'))
    return Bound(value=float(row.get(name, nothing)), low=low, high=high)


def _table(title: str, first: str, rows: pd.DataFrame) -> str:
    """Write shares as a table, `first` the column that differs from row to row."""
    names = [name for name in RULES if name in rows]
    head = ['BOLD', 'voxels']
    before: list[list[str]] = [[]] * len(rows)
    if first:
        head.insert(0, 'assumed error')
        before = [[f'{value:.2f} %'] for value in rows[first]]
    lines = [
        [*start, _sign(row.bold), f'{row.n_voxels:,}', *(_bound(row, name).text for name in names)]
        for start, (_, row) in zip(before, rows.iterrows(), strict=True)
    ]
    return _html_table(title, head + [RULES[name].replace(',', '') for name in names], lines)


def _counts(rows: pd.DataFrame) -> str:
    """Write what counts of agreeing signs tell."""
    lines = [
        [
            _sign(row.bold),
            f'{row.n_voxels:,}',
            f'{100 * row.below_45_percent:.1f} %',
            f'{100 * row.above_55_percent:.1f} %',
            f'{row.spread:.3f}',
            f'{row.chance_spread:.3f}',
        ]
        for _, row in rows.iterrows()
    ]
    head = [
        'BOLD',
        'voxels',
        'voxels in which less than 45 % of the population agree',
        'more than 55 %',
        'spread of k/n',
        'of it by chance',
    ]
    return _html_table('Counts of agreeing signs', head, lines)


def _sign(name: str) -> str:
    """Name a sign of BOLD."""
    return next(words for sign, _, words in SIGNS if sign == name)


def _html_table(title: str, head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Write a table."""
    columns = ''.join(f'<th scope="col">{escape(one)}</th>' for one in head)
    body = ''.join(
        '<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in line) + '</tr>' for line in lines
    )
    return (
        f'<h2>{escape(title)}</h2><div class="wide"><table class="published"><thead>'
        f'<tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'
    )
