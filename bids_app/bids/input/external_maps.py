"""Entries `[[map]]` and `[[space]]` of an input map: maps that other software made."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import normalise
from bids_app.bids.input.input_map import RoleMap, check_pattern, find_paths, walk_tree
from bids_app.bids.input.sidecar import RANGES, check_known, is_number
from bids_app.bids.output.names import table
from bids_app.errors import SelectionError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FACTORS = (1e-9, 1e9)
"""Range of the size of a factor between units, ends included."""

MAP_KEYS = ('quantity', 'path', 'space', 'condition', 'contrast', 'factor', 'series',
            'repetition_time', 'source')  # fmt: skip

SPACE_KEYS = ('name', 'to', 'transform', 'target')

TEMPLATE = 'template'
"""Name of the space in which nothing has to be moved."""

QUANTITIES = ('boldPct', 'cbf', 'cbv', 'oef', 'cmro2', 'R2prime')
"""What the group reads."""

TRANSFORMS = ('.mat', '.h5', '.txt')


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPattern:
    """One entry ``[[map]]``."""

    quantity: str
    paths: tuple[str, ...]
    """Of two that find a map of the same participant and condition the earlier is used."""
    space: str = TEMPLATE
    condition: str | None = None
    """Where the path does not hold {task}."""
    contrast: str | None = None
    """A-B: the files are changes."""
    factor: float = 1.0
    """File times factor has the unit of data/outputs.yml."""
    series: bool = False
    """The file is a preprocessed BOLD series, of which the change of block medians is taken."""
    repetition_time: float | None = None
    """s, of a series; default that of its header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceStep:
    """One entry ``[[space]]``: how to get from a space to another."""

    name: str
    to: str
    transform: str
    """FLIRT matrix (.mat) or ITK file (.h5, .txt) that moves images from the one to the other."""
    target: str | None = None
    """Image of the space that a FLIRT matrix leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFile:
    """A map that was found."""

    participant: str
    path: Path
    pattern: MapPattern
    condition: str | None = None
    task: str | None = None
    """As written in the name."""

    @property
    def key(self) -> tuple[str, str, str | None, str | None]:
        """What only one map can be."""
        return self.pattern.quantity, self.participant, self.condition, self.pattern.contrast


@dataclass(frozen=True, slots=True, kw_only=True)
class MapListing:
    """All maps of a dataset."""

    maps: tuple[MapFile, ...]
    steps: Mapping[str, SpaceStep]
    """Space -> the step that leaves it."""
    paths: frozenset[str]
    """Every file of the dataset, relative."""
    root: Path
    participants: tuple[str, ...]
    """Of the maps, or those that were asked for."""

    def find(self, written: str, participant: str) -> Path | None:
        """Find the one file of a participant that matches a pattern."""
        inside = [path for path in self.paths if f'sub-{participant}' in path]
        found = [path for path, values in find_paths(written, inside)
                 if values['sub'] == participant]  # fmt: skip
        return self.root / min(found) if found else None


def list_maps(role_map: RoleMap, root: Path, wanted: Sequence[str] = ()) -> MapListing:
    """
    Find the maps that an input map describes.

    Sorted by participant; one map per quantity, participant and condition.

    Raises
    ------
    SettingsError
        If an entry is wrong, or there is none.
    SelectionError
        If there is no map, or none of a participant that was asked for.
    """
    patterns, steps = _entries(role_map)
    paths = walk_tree(root)
    found: dict[Any, MapFile] = {}
    for pattern in patterns:
        for written in pattern.paths:
            for path, values in find_paths(written, paths):
                condition = pattern.condition or values.get('task')
                file = MapFile(
                    participant=values['sub'],
                    path=root / path,
                    pattern=pattern,
                    condition=_condition(pattern, condition),
                    task=values.get('task'),
                )
                found.setdefault(file.key, file)
    participants = sorted({file.participant for file in found.values()})
    lacking = [label for label in wanted if label not in participants]
    if lacking or not participants:
        msg = (
            f'{root} has no maps of {", ".join(lacking) or "any participant"} by the input map '
            f'{role_map.name}; there are: {", ".join(participants) or "none"}'
        )
        raise SelectionError(msg)
    chosen = tuple(label for label in participants if not wanted or label in wanted)
    return MapListing(
        maps=tuple(found[key] for key in sorted(found, key=lambda key: (key[1], str(key)))),
        steps=steps,
        paths=frozenset(paths),
        root=root,
        participants=chosen,
    )


def _entries(role_map: RoleMap) -> tuple[list[MapPattern], dict[str, SpaceStep]]:
    """Read and check the entries of an input map."""
    content = tomllib.loads(role_map.path.read_text('utf-8'))
    patterns = [
        _map_pattern(entry, f'{role_map.path}, map {number}')
        for number, entry in enumerate(content.get('map', []), 1)
    ]
    steps = [
        _space_step(entry, f'{role_map.path}, space {number}')
        for number, entry in enumerate(content.get('space', []), 1)
    ]
    if not patterns:
        msg = f'{role_map.path}: --derivatives maps=... needs [[map]] entries; there are none'
        raise SettingsError(msg)
    for pattern in patterns:
        check_known([pattern.space], [TEMPLATE, *(step.name for step in steps)],
                    f'{role_map.path}, space of {pattern.paths[0]}')  # fmt: skip
    for step in steps:
        check_known([step.to], [TEMPLATE, *(one.name for one in steps)],
                    f'{role_map.path}, to of space {step.name}')  # fmt: skip
    by_name = {step.name: step for step in steps}
    for pattern in patterns:
        route(by_name, pattern.space)  # a circle is said before anything is read
    return patterns, by_name


def _condition(pattern: MapPattern, named: str | None) -> str | None:
    """Condition of a map; of changes and series it is not in the name."""
    if pattern.contrast or pattern.series or not named:
        return None
    return normalise(named)


def _map_pattern(entry: dict[str, Any], place: str) -> MapPattern:
    """Check one entry."""
    check_known(entry, list(MAP_KEYS), place)
    lacking = [key for key in ('quantity', 'path') if not entry.get(key)]
    if lacking:
        msg = f'{place}: expected quantity = "..." and path = "..."; {lacking[0]} is missing'
        raise SettingsError(msg)
    check_known([entry['quantity']], list(QUANTITIES), f'{place}, quantity')
    factor, time = entry.get('factor', 1.0), entry.get('repetition_time')
    size = abs(factor) if is_number(factor) else factor
    for name, value, (low, high) in (
        ('the size of factor', size, FACTORS),
        ('repetition_time', time, RANGES['RepetitionTime']),
    ):
        if value is not None and not (is_number(value) and low <= value <= high):
            msg = f'{place}: {name} should be a number from {low:g} to {high:g}, found {value!r}'
            raise SettingsError(msg)
    if factor != 1 and not entry.get('source'):
        unit = table().quantities[entry['quantity']].unit
        msg = f'{place}: factor = {factor} needs source = "..." (why; the result is in {unit})'
        raise SettingsError(msg)
    paths = entry['path'] if isinstance(entry['path'], list) else [entry['path']]
    for path in paths:
        check_pattern(str(path), ('.nii.gz', '.nii'), place)
    contrast = entry.get('contrast')
    if contrast is not None and str(contrast).count('-') != 1:
        msg = f'{place}: contrast = {contrast!r} should be two conditions, A-B'
        raise SettingsError(msg)
    return MapPattern(
        quantity=entry['quantity'],
        paths=tuple(str(path) for path in paths),
        space=entry.get('space', TEMPLATE),
        condition=entry.get('condition'),
        contrast=contrast,
        factor=float(factor),
        series=bool(entry.get('series', False)),
        repetition_time=time,
    )


def _space_step(entry: dict[str, Any], place: str) -> SpaceStep:
    """Check one entry."""
    check_known(entry, list(SPACE_KEYS), place)
    lacking = [key for key in ('name', 'to', 'transform') if not entry.get(key)]
    if lacking:
        msg = f'{place}: expected name, to and transform; {lacking[0]} is missing'
        raise SettingsError(msg)
    check_pattern(entry['transform'], TRANSFORMS, place)
    if entry['transform'].endswith('.mat') and not entry.get('target'):
        msg = f'{place}: a FLIRT matrix needs target = "..." (an image of the space {entry["to"]})'
        raise SettingsError(msg)
    if entry['transform'].endswith('.h5') and entry['to'] != TEMPLATE:
        msg = f'{place}: a .h5 transform must lead to the {TEMPLATE}'
        raise SettingsError(msg)
    return SpaceStep(**entry)


def route(steps: Mapping[str, SpaceStep], space: str) -> Sequence[SpaceStep]:
    """
    List the steps from a space to the template.

    In the order in which a map is moved; empty in the template.

    Raises
    ------
    SettingsError
        If the steps lead in a circle.
    """
    taken: list[SpaceStep] = []
    while space != TEMPLATE:
        if len(taken) > len(steps):
            msg = f'the [[space]] entries lead in a circle from {taken[0].name}'
            raise SettingsError(msg)
        taken.append(steps[space])
        space = steps[space].to
    return taken
