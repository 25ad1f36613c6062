"""What a page shows: sections with reportlets, steps, units."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bids_app.reports.citations import Reference, Segment
from bids_app.reports.derivatives import Derivative
from bids_app.reports.glance import Glance
from bids_app.reports.group.tables import ContrastTables
from bids_app.reports.reportlets.base import Reportlet

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with its figures."""

    key: str
    title: str
    intro: str
    reportlets: tuple[Reportlet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A card of the chain from inputs to CMRO2."""

    title: str
    made_from: str
    unit: str
    results: tuple[tuple[str, str, str, str], ...]
    """Per map: condition, grey-matter median, verdict, anchor of its figure."""
    reasons: tuple[str, ...]
    """Why it was not made, in part or at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPage:
    """What the page says of one participant, session or group."""

    label: str
    anchor: str
    about: Mapping[str, Any]
    """The unit of the run summary as it stands there."""
    sections: tuple[Section, ...] = ()
    steps: tuple[Step, ...] = ()
    tables: tuple[ContrastTables, ...] = ()
    graph: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Step and what it receives."""
    methods: tuple[tuple[Segment, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    unreadable: tuple[str, ...] = field(default=())
    files: tuple[Derivative, ...] = ()
    """Of a group."""
    glance: Glance = field(default_factory=Glance)
    """Of a participant."""
    maps: bytes = b''
    """Script with the volumes of the map viewer."""
    maps_file: str = ''
    """Where it is, as seen from the page."""
    chain: str = ''
    """SVG element of the chain from scans to labels."""
    shares: tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]] = ((), MappingProxyType({}))
    """Columns; and constant -> how well it is known, what that does, its share of each column."""
