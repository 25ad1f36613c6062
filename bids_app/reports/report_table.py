"""Rows of data/report.yml: what the reports show, in which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from bids_app.bids.output.names import packaged_table, row
from bids_app.bids.products import PRODUCTS


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One row of report.yml; the fields are described there."""

    key: str
    section: str
    title: str
    alt: str
    caption: str
    good: str
    output: str
    quantity: str
    level: str = 'participant'
    kind: str = 'map'
    unit: str = ''
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
    errors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> column of its standard error, or both of its interval; shown in one cell."""
    curves: tuple[str, ...] = ()
    """Columns of a table whose values name the curve that a line belongs to."""
    levels: tuple[str, ...] = ()
    """Lines of a table that are shown, by their column level; empty = all."""
    per_quantity: str = ''
    """Output row of maps in whose unit the numbers of a line are, by its column quantity."""
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


@cache
def report_table() -> ReportTable:
    """Read data/report.yml."""
    raw = packaged_table('report')
    rows = []
    for fields in raw['figures']:
        for name in ('limits', 'usual', 'columns', 'curves', 'levels'):
            if name in fields:
                fields[name] = tuple(fields[name])
        output = fields.pop('output', fields['key'])
        same = {'output': output, 'quantity': row(output).quantity}
        rows.append(FigureRow(**same | fields))
    drawn, products = raw['chain'], {one.label: one.sources for one in PRODUCTS.values()}
    chain = {
        name: ChainStep(
            x=step['x'],
            y=step['y'],
            title=step['title'],
            made_from=tuple(
                one for one in step.get('from', products.get(name, ())) if one in drawn
            ),
        )
        for name, step in drawn.items()
    }
    return ReportTable(
        rules=raw['rules'],
        chain=chain,
        sections=raw['sections'],
        words=raw['words'],
        figures=tuple(rows),
    )
