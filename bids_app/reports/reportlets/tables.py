"""Tables, shortened to what a page can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bids_app.bids.output.names import unit_of
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import select
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.base import (
    Reportlet,
    Table,
    columns_of,
    lines_of,
    make_reportlet,
    place_of,
)
from bids_app.reports.text import cell, unit_text

if TYPE_CHECKING:
    from pathlib import Path


MAX_LINES = 60
"""Of a table that is shown."""


def draw_table(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show a table of the output with the units of its columns."""
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = lines_of(row, file)
        if not lines:
            continue
        columns = tuple(
            column
            for column in columns_of(row.output)
            if (not row.columns or column.name in row.columns)
            and any(line.get(column.name, 'n/a') not in ('n/a', '') for line in lines)
        )
        shown = tuple(
            tuple(shown_cell(row, line, column.name) for column in columns)
            for line in lines[:MAX_LINES]
        )
        table = Table(columns=columns, lines=shown, n_hidden=max(0, len(lines) - MAX_LINES))
        yield make_reportlet(row, file, where=place_of(file), table=table)


def shown_cell(row: FigureRow, line: Mapping[str, str], column: str) -> str:
    """Write a cell; a quantity with its unit, where that is the unit of the numbers beside it."""
    text = cell(line.get(column, ''))
    if column != 'quantity' or not row.per_quantity:
        return text
    return f'{text} ({unit_text(unit_of(row.per_quantity, quantity=line[column]))})'
