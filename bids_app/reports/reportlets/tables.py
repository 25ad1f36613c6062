"""Tables, shortened to what a page can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bids_app.bids.output.names import unit_of
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import select, to_number
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.base import (
    Reportlet,
    Table,
    columns_of,
    lines_of,
    make_reportlet,
    place_of,
)
from bids_app.reports.text import cell, unit_text, with_error, with_interval

if TYPE_CHECKING:
    from pathlib import Path


MAX_LINES = 60
"""Of a table that is shown."""


def draw_table(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show a table of the output with the units of its columns."""
    folded = {name for names in row.errors.values() for name in names}
    for file in sorted(select(scene.files, row.output), key=scene.rank):
        lines = lines_of(row, file)
        if not lines:
            continue
        columns = tuple(
            column
            for column in columns_of(row.output)
            if (not row.columns or column.name in row.columns)
            and column.name not in folded
            and any(line.get(column.name, 'n/a') not in ('n/a', '') for line in lines)
        )
        shown = tuple(
            tuple(shown_cell(row, line, column.name) for column in columns)
            for line in lines[:MAX_LINES]
        )
        table = Table(columns=columns, lines=shown, n_hidden=max(0, len(lines) - MAX_LINES))
        yield make_reportlet(row, file, where=place_of(file), table=table)


def shown_cell(row: FigureRow, line: Mapping[str, str], column: str) -> str:
    """
    Write a cell: a number with its error, if the row names one.

    A quantity gets its unit, where that is the unit of the numbers beside it.
    """
    text = cell(line.get(column, ''))
    beside = [to_number(line.get(name)) for name in row.errors.get(column, ())]
    if beside and text and not np.isnan(sum(beside)):
        value = to_number(line[column])
        return (
            with_error(value, beside[0])
            if len(beside) == 1
            else with_interval(value, beside[0], beside[1])
        )
    if column != 'quantity' or not row.per_quantity:
        return text
    return f'{text} ({unit_text(unit_of(row.per_quantity, quantity=line[column]))})'
