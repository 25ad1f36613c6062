"""Sessions compared within participants: before and after, drug and placebo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bids_app.bids.input.files import read_table
from bids_app.bids.scans import Contrast
from bids_app.errors import SettingsError
from bids_app.group.inputs import GroupInputs, MapSet, MapSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    LabelOf = Callable[[str, str], str | None]


def session_labels(bids_dir: Path, column: str | None) -> LabelOf:
    """
    Say how sessions are called: by their label, or by a column of sessions.tsv.

    The function takes participant and session, both without prefix; None where there is no name.
    """
    if column is None:
        return lambda _, session: session or None
    known: dict[str, dict[str, str]] = {}

    def label_of(participant: str, session: str) -> str | None:
        if participant not in known:
            path = bids_dir / f'sub-{participant}' / f'sub-{participant}_sessions.tsv'
            rows = read_table(path, ('session_id', column)) if path.is_file() else []
            known[participant] = {
                row['session_id'].removeprefix('ses-'): row[column] for row in rows
            }
        found = known[participant].get(session)
        return None if found in (None, '', 'n/a') else found

    return label_of


def compare_sessions(
    inputs: GroupInputs, wanted: Sequence[str], label_of: LabelOf
) -> tuple[GroupInputs, dict[str, str]]:
    """
    Replace maps by their differences between sessions of the same participant.

    The changes are then differences such as post-pre, of conditions and of changes; the baselines
    the maps of the sessions that are taken off. A participant with several sessions of one name
    counts as the mean of its differences, first with first. Those without any pair are left out,
    with the reason.

    Raises
    ------
    SettingsError
        If a difference is not written A-B, or nobody has a session of that name.
    """
    present = {
        label
        for maps in inputs.all_maps
        for name, sources in maps.sources.items()
        for source in sources
        if (label := label_of(name, source.session))
    }
    changes: list[MapSet] = []
    baselines: dict[str, MapSet] = {}
    paired: set[str] = set()
    for text in wanted:
        task, minus, baseline = text.partition('-')
        if not minus or not {task, baseline} <= present:
            msg = (
                f'--session-contrasts {text} should be A-B of sessions that there are: '
                f'{", ".join(sorted(present)) or "none"}'
            )
            raise SettingsError(msg)
        contrast = Contrast(task=task, baseline=baseline)
        for maps in inputs.all_maps:
            before = _of_session(maps, baseline, label_of)
            pairs = _pairs(_of_session(maps, task, label_of), before)
            if not pairs:
                continue
            paired |= pairs.keys()
            changes.append(_difference(maps, contrast, pairs))
            if maps.contrast is None:
                earlier = baselines[maps.name].sources if maps.name in baselines else {}
                baselines[maps.name] = replace(maps, sources={**earlier, **before})
    left_out = {
        name: f'no sessions {" or ".join(wanted)} of the same map, as many of both names'
        for name in inputs.participants
        if name not in paired
    }
    return replace(
        inputs, changes=tuple(changes), baselines=tuple(baselines.values()), regions={}
    ), left_out


def _of_session(maps: MapSet, wanted: str, label_of: LabelOf) -> dict[str, tuple[MapSource, ...]]:
    """Choose the maps of the sessions of a name."""
    found = {
        name: tuple(one for one in sources if label_of(name, one.session) == wanted)
        for name, sources in maps.sources.items()
    }
    return {name: sources for name, sources in found.items() if sources}


def _pairs(
    after: dict[str, tuple[MapSource, ...]], before: dict[str, tuple[MapSource, ...]]
) -> dict[str, tuple[MapSource, ...]]:
    """Take the map of one session from that of the other."""
    return {
        name: tuple(
            replace(one, minus=other.value, minus_variance=other.variance)
            for one, other in zip(after[name], before[name], strict=True)
        )
        for name in after
        if len(after[name]) == len(before.get(name, ()))
    }


def _difference(
    maps: MapSet, contrast: Contrast, pairs: dict[str, tuple[MapSource, ...]]
) -> MapSet:
    """Name the differences: that of a condition or change carries it in front."""
    label, of = contrast.label, maps.contrast or maps.condition or ''
    return MapSet(
        quantity=maps.quantity,
        contrast=f'{of}{label[:1].upper()}{label[1:]}' if of else label,
        condition=maps.condition,
        task=maps.task,
        sources=pairs,
        about={'Task': contrast.task, 'Baseline': contrast.baseline},
    )
