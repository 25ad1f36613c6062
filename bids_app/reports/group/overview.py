"""Who came how far, and who is unlike the others: inclusion flow and outliers of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.bids.run.outcome import State
from bids_app.reports.derivatives import list_derivatives, read_table, select, to_number
from bids_app.reports.report_table import report_table
from bids_app.reports.text import number, unit_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

OUTLYING = 3.5
"""Robust z above which a value is unlike the others; Iglewicz and Hoaglin 1993."""

SMALLEST_STUDY = 5
"""With fewer participants nobody can be told to be unlike the others."""

CONSISTENT = 1.4826
"""Median absolute deviation of a normal distribution to its standard deviation, 1; exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of the inclusion flow."""

    title: str
    count: int
    lost: tuple[tuple[str, int], ...] = ()
    """Why participants end here, and how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measure of quality of all participants."""

    title: str
    unit: str
    median: str
    spread: str
    places: tuple[tuple[str, float, str, bool], ...]
    """Participant, place between the extremes (percent), text, whether it is an outlier."""
    values: tuple[float, ...]
    """Of the participants, in their order."""

    @property
    def outliers(self) -> tuple[tuple[str, str], ...]:
        """Participants unlike the others with their value."""
        return tuple((label, text) for label, _, text, is_out in self.places if is_out)


def inclusion_flow(
    summaries: Mapping[str, Mapping[str, object]], decisions: Iterable[Mapping[str, str]] = ()
) -> tuple[Stage, ...]:
    """
    Count the participants from those that were run to those in the group.

    `decisions` are the lines of the table of inclusion, empty before the group was made. Each
    stage has what was lost on the way to the next.
    """
    states = {label: _state(summary) for label, summary in summaries.items()}
    good = (State.COMPLETE, State.DEGRADED, State.SKIPPED)
    bad = [state for state in states.values() if state not in good and state != State.INCOMPLETE]
    has_maps = len(states) - len(bad)
    stages = [
        Stage(title='run', count=len(states), lost=_counted(bad)),
        Stage(
            title='with results',
            count=has_maps,
            lost=_counted(state for state in states.values() if state == State.INCOMPLETE),
        ),
        Stage(title='without loss', count=sum(state in good for state in states.values())),
    ]
    decisions = list(decisions)
    if decisions:
        left = [line.get('reason', '') for line in decisions if line.get('included') == 'no']
        partly = [line.get('reason', '') for line in decisions if line.get('included') == 'partly']
        n_in = len(decisions) - len(left)
        stages[-1] = Stage(title='considered for the group', count=len(decisions),
                           lost=_counted(left))  # fmt: skip
        stages.append(Stage(title='in the group', count=n_in, lost=_counted(partly)))
    return tuple(stages)


def _state(summary: Mapping[str, object]) -> str:
    """State of the verdict of a participant."""
    verdict = summary.get('verdict')
    return str(verdict.get('state', '')) if isinstance(verdict, dict) else ''


def _counted(reasons: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Count equal reasons."""
    listed = [str(reason) for reason in reasons]
    return tuple((reason, listed.count(reason)) for reason in dict.fromkeys(listed))


def quality_measures(output_dir: Path, participants: Sequence[str]) -> tuple[Measure, ...]:
    """
    Compare the participants in what their tables say of quality and of the brain as a whole.

    Those that at least two participants have.
    """
    values: dict[tuple[str, str], dict[str, float]] = {}
    for participant in participants:
        for name, value in _measures_of(output_dir, participant):
            if np.isfinite(value):
                values.setdefault(name, {})[participant] = value
    return tuple(make_measure(name, found) for name, found in values.items() if len(found) > 1)


def _measures_of(output_dir: Path, participant: str) -> list[tuple[tuple[str, str], float]]:
    """Read the measures of one participant from its tables: name with unit, value."""
    files = list_derivatives(output_dir, participant)
    found: list[tuple[tuple[str, str], float]] = []
    for file in select(files, 'alignment'):
        lines = [line for line in read_table(file.path) if line.get('scan') != 'T1w']
        found.append(
            (
                ('worst overlap of a scan with the T1w image', '1'),
                min((to_number(line.get('overlap')) for line in lines), default=np.nan),
            )
        )
        found.append(
            (
                ('largest movement between scans', 'mm'),
                max((to_number(line.get('shift')) for line in lines), default=np.nan),
            )
        )
    moved = [
        to_number(line.get('framewise_displacement'))
        for file in select(files, 'confounds', scan='BOLD')
        for line in read_table(file.path)
    ]
    if moved:
        found.append((('mean framewise displacement of BOLD', 'mm'), float(np.nanmean(moved))))
    quality = [line for file in select(files, 'cbf_quality') for line in read_table(file.path)]
    scores = [to_number(line.get('value')) for line in quality if line.get('measure') == 'qei']
    if scores:
        found.append((('worst quality index of CBF', '1'), float(np.nanmin(scores))))
    maps = {row.quantity: row for row in report_table().figures if row.kind == 'map'}
    for file in select(files, 'regions')[:1]:
        found += [
            ((f'baseline {map_row.title}', map_row.unit),
             map_row.scale * to_number(line.get('baseline')))
            for line in read_table(file.path)
            if line['level'] == 'brain' and (map_row := maps.get(line['quantity'])) is not None
        ]  # fmt: skip
    return found


def make_measure(name: tuple[str, str], values: Mapping[str, float]) -> Measure:
    """Place the participants between the extremes and mark those unlike the others."""
    numbers = np.array(list(values.values()))
    middle = float(np.median(numbers))
    spread = CONSISTENT * float(np.median(np.abs(numbers - middle)))
    low, high = float(numbers.min()), float(numbers.max())
    span = high - low or 1.0
    can_tell = len(values) >= SMALLEST_STUDY and spread > 0
    return Measure(
        title=name[0],
        unit='' if name[1] == '1' else unit_text(name[1]),
        median=number(middle),
        spread=f'{number(low)} to {number(high)}',
        places=tuple(
            (label, 100 * (value - low) / span, number(value),
             can_tell and abs(value - middle) > OUTLYING * spread)
            for label, value in values.items()
        ),
        values=tuple(values.values()),
    )  # fmt: skip
