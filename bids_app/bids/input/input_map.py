"""
Role maps: which file plays which part in a dataset that is not laid out as BIDS.

A TOML file of patterns (docs/reference/input-maps.md) stands in for the BIDS query. Files are told
apart by name alone; the tree is walked once and no image is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import normalise
from bids_app.bids.input.participants import UNITS
from bids_app.bids.input.query import ENTITIES, Found, assign_roles, load_roles
from bids_app.bids.input.sidecar import Override, check_known, check_override
from bids_app.bids.scans import VOLUME_TYPES, Problem
from bids_app.errors import SelectionError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KEYS = ('title', 'preset', 'signature', 'participants', 'file', 'default', 'map', 'space')

FILE_KEYS = ('role', 'path', 'entities', 'volume_types', 'optional')

TOKEN = re.compile(
    r'\{(?P<entity>\w+)(?::(?P<choices>[^{}]+))?\}|\[(?P<optional>[^\[\]]+)\]'
    r'|\((?P<either>[^()]+)\)|(?P<any>\*)'
)
"""What is not literal in a pattern."""

OWNERS = {'events': 'bold', 'aslcontext': 'asl'}
"""Role whose files belong to another file of the same entities -> suffix of that file."""

ANNEX_KEY = re.compile(r'-s(?P<size>\d+)(?:-\w+)*--(?P<hash>[0-9a-f]{16,})')
"""Name of content kept by git-annex: size and checksum are known without the content."""

DATASET_FILES = ('dataset_description.json', 'participants.tsv', 'participants.json', 'README',
                 'README.md', 'CHANGES', 'LICENSE')  # fmt: skip
"""Files at the root that are no images and are not reported as unused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePattern:
    """One entry of a role map."""

    role: str
    paths: tuple[str, ...]
    """As written; of two that find copies of one file the first is used."""
    entities: Mapping[str, str] = field(default_factory=dict)
    """Short names; fixed for every file."""
    volume_types: tuple[str, ...] = ()
    """Of an ASL series without aslcontext: repeated over its volumes."""
    optional: bool = False
    """Finding nothing is no reason to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleMap:
    """A role map, checked."""

    name: str
    path: Path
    patterns: tuple[FilePattern, ...]
    defaults: tuple[Override, ...] = ()
    """Metadata that sidecars lack."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Column of participants.tsv -> unit, where participants.json does not say it."""
    title: str = ''
    preset: str | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a role map makes of a dataset."""

    found: Mapping[str, tuple[Found, ...]]
    """Participant -> files with a role."""
    problems: Mapping[str, tuple[Problem, ...]]
    """Participant -> files that contend for one role."""
    notes: Mapping[str, tuple[str, ...]]
    """Participant -> copies that are not used."""
    unmatched: tuple[str, ...] = ()
    """Patterns that found nothing."""
    unused: tuple[str, ...] = ()
    """Paths below the root that play no role, sorted."""


# ------------------------------------------------------------------------------------- reading


def packaged_maps() -> tuple[str, ...]:
    """Give the names of the maps that ship with the app."""
    folder = files('bids_app') / 'data' / 'roles'
    return tuple(
        sorted(
            item.name.removesuffix('.toml')
            for item in folder.iterdir()
            if item.name.endswith('.toml')
        )
    )


def choose_role_map(wanted: str | None, preset: str, root: Path) -> RoleMap | None:
    """
    Choose the role map of a run.

    `wanted` is the name of a packaged map or a path. A packaged map that names the preset is used
    where the dataset has the signature of that map. None: the dataset is BIDS.

    Raises
    ------
    SettingsError
        If the file cannot be read or says something that is not known.
    """
    if wanted is not None:
        return load_role_map(wanted)
    for name in packaged_maps():
        role_map = load_role_map(name)
        fits = role_map.preset == preset and role_map.signature
        if fits and next(root.glob(str(role_map.signature)), None) is not None:
            return role_map
    return None


@cache
def load_role_map(name: str) -> RoleMap:
    """
    Read and check a role map.

    By the name of a packaged map, or a path; every role, entity and metadata key in it is known.

    Raises
    ------
    SettingsError
        With place, what was found and what is possible.
    """
    packaged = packaged_maps()
    path = Path(str(files('bids_app') / 'data' / 'roles' / f'{name}.toml'))
    path = path if name in packaged else Path(name).absolute()
    try:
        content = tomllib.loads(path.read_text('utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        msg = (
            f'--input-map: {name} is neither a packaged map ({", ".join(packaged)}) nor a file '
            f'that can be read as TOML ({error})'
        )
        raise SettingsError(msg) from error
    check_known(content, list(KEYS), f'{path}')
    entries = content.get('file', [])
    if not isinstance(entries, list) or not (entries or content.get('map')):
        msg = f'{path}: expected [[file]] entries with role = "..." and path = "..."'
        raise SettingsError(msg)
    defaults = enumerate(content.get('default', []), 1)
    return RoleMap(
        name=name if name in packaged else path.stem,
        path=path,
        title=str(content.get('title', '')),
        preset=content.get('preset'),
        signature=content.get('signature'),
        units=_units(content.get('participants', {}), path),
        patterns=tuple(_pattern(e, f'{path}, file {n}') for n, e in enumerate(entries, 1)),
        defaults=tuple(check_override(e, f'{path}, default {n}') for n, e in defaults),
    )


def _units(table: dict[str, Any], path: Path) -> dict[str, str]:
    """Check the declared units of participants.tsv."""
    check_known(table, ['units'], f'{path}, participants')
    units: dict[str, str] = table.get('units', {})
    for column, unit in units.items():
        check_known([unit], list(UNITS), f'{path}, participants.units.{column}')
    return units


def _pattern(entry: dict[str, Any], place: str) -> FilePattern:
    """Check one entry."""
    if not entry.get('role') or not entry.get('path'):
        msg = f'{place}: expected role = "..." and path = "..."'
        raise SettingsError(msg)
    check_known(entry, list(FILE_KEYS), place)
    check_known([entry['role']], list(load_roles()), f'{place}, role')
    check_known(entry.get('entities', {}), list(ENTITIES), f'{place}, entities')
    check_known(entry.get('volume_types', []), list(VOLUME_TYPES), f'{place}, volume_types')
    paths = entry['path'] if isinstance(entry['path'], list) else [entry['path']]
    for path in paths:
        check_pattern(str(path), load_roles()[entry['role']].extension, place)
    return FilePattern(
        role=entry['role'],
        paths=tuple(str(path) for path in paths),
        entities={key: str(value) for key, value in entry.get('entities', {}).items()},
        volume_types=tuple(entry.get('volume_types', ())),
        optional=bool(entry.get('optional', False)),
    )


def check_pattern(path: str, extensions: Sequence[str], place: str) -> None:
    """
    Check a pattern: it says the participant, holds known entities only, and has an extension.

    Raises
    ------
    SettingsError
        If it is wrong.
    """
    names = [match['entity'] for match in TOKEN.finditer(path) if match['entity']]
    check_known(names, list(ENTITIES), f'{place}, {path}')
    rest = TOKEN.sub('', path)
    if 'sub' not in names or re.search(r'[{}\[\]()]', rest):
        msg = (
            f'{place}: {path}: a path needs {{sub}}, and {{name}}, {{name:a|b}}, [optional], '
            '(this|that) and * are all it may hold beside plain text'
        )
        raise SettingsError(msg)
    shown = TOKEN.sub(lambda match: match['optional'] or 'x', path)
    if not shown.endswith(tuple(extensions)):
        msg = f'{place}: {path}: such a file ends in {" or ".join(extensions)}'
        raise SettingsError(msg)


def _expression(path: str) -> re.Pattern[str]:
    """Compile a pattern; an entity that is repeated must be the same everywhere."""
    parts, seen, end = [], set(), 0
    for match in TOKEN.finditer(path):
        parts.append(re.escape(path[end : match.start()]))
        end = match.end()
        name = match['entity']
        if name in seen:
            parts.append(f'(?P={name})')
        elif name:
            seen.add(name)
            allowed = match['choices']
            text = _either(allowed) if allowed else '[A-Za-z0-9]+'
            parts.append(f'(?P<{name}>{text})')
        elif match['optional']:
            parts.append(f'(?:{re.escape(match["optional"])})?')
        else:
            parts.append(f'(?:{_either(match["either"])})' if match['either'] else '[^/]*')
    return re.compile(''.join(parts) + re.escape(path[end:]))


def _either(text: str) -> str:
    """Alternatives of plain text."""
    return '|'.join(re.escape(one) for one in text.split('|'))


# ------------------------------------------------------------------------------------- listing


def walk_tree(root: Path, *, skip: Path | None = None) -> list[str]:
    """
    List the files of a dataset, links without content included.

    Relative, with slashes, sorted; nothing whose name begins with a dot, nothing of datasets
    inside this one, and nothing in the folder `skip`.
    """
    listed: list[str] = []
    folders = ['']
    left_out = os.fspath(skip) if skip is not None else ''
    for folder in folders:  # grows on the way
        try:
            entries = [entry for entry in os.scandir(root / folder) if entry.name[0] != '.']
        except PermissionError:  # files that cannot be seen are missing inputs
            continue
        if folder and any(entry.name == 'dataset_description.json' for entry in entries):
            continue  # a dataset of its own
        for entry in entries:
            inside = f'{folder}{entry.name}'
            if not entry.is_dir(follow_symlinks=False):  # links are not followed: no time for it
                listed.append(inside)
            elif entry.path != left_out:
                folders.append(f'{inside}/')
    return sorted(listed)


def list_roles(role_map: RoleMap, root: Path, *, skip: Path | None = None) -> Listing:
    """
    Give every file of a dataset its role.

    Files that contend for one role are in none, and a problem of their participant names both; of
    identical copies the one of the earlier pattern is used.

    Raises
    ------
    SelectionError
        If no pattern finds anything.
    """
    paths = walk_tree(root, skip=skip)
    existing, unclaimed = frozenset(paths), dict.fromkeys(paths)
    claims: dict[tuple[Any, ...], list[Found]] = {}
    counts: Counter[str] = Counter()
    for pattern in role_map.patterns:
        for written in pattern.paths:
            for path, values in find_paths(written, unclaimed):
                sidecar = f'{path.removesuffix(".gz").rpartition(".")[0]}.json'
                own = sidecar if sidecar in existing else None
                found = _describe(pattern, root, path, values, own)
                claims.setdefault(_slot(pattern.role, found), []).append(found)
                counts[written] += 1
                del unclaimed[path]
                unclaimed.pop(sidecar, None)
    if not claims:
        msg = (
            f'--input-map {role_map.name}: no pattern finds a file in {root}; the first looks '
            f'for {role_map.patterns[0].paths[0]}'
        )
        raise SelectionError(msg)
    unmatched = [
        written
        for pattern in role_map.patterns
        for written in pattern.paths
        if not counts[written] and not pattern.optional
    ]
    unused = [path for path in unclaimed if path not in DATASET_FILES]
    return replace(_settle(claims, root), unmatched=tuple(unmatched), unused=tuple(unused))


def find_paths(written: str, paths: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """
    Find the paths that match a pattern.

    Give path and the entities in it, in order.
    """
    expression = _expression(written)
    head, tail = TOKEN.split(written)[0], TOKEN.split(written.rpartition('}')[2])[0]
    likely = (path for path in paths if path.startswith(head) and tail in path)
    matches = ((path, expression.fullmatch(path)) for path in likely)
    return [(path, match.groupdict()) for path, match in matches if match is not None]


def _describe(
    pattern: FilePattern, root: Path, path: str, values: Mapping[str, str], sidecar: str | None
) -> Found:
    """Describe a file as its BIDS name would."""
    role = load_roles()[pattern.role]
    entities = {ENTITIES[key]: value for key, value in {**pattern.entities, **values}.items()}
    part = role.entities.get('part')
    if isinstance(part, str):
        entities['part'] = part
    entities['datatype'], entities['suffix'] = role.datatype, role.suffix[0]
    entities['extension'] = ''.join(path.rpartition('/')[2].partition('.')[1:])
    return Found(
        path=root / path,
        entities=entities,
        companions={'json': (root / sidecar,)} if sidecar else {},
        volume_types=pattern.volume_types,
    )


def _slot(role: str, found: Found) -> tuple[Any, ...]:
    """Name what only one file can be: role and entities, whatever the format."""
    named = {key: value for key, value in found.entities.items() if key != 'extension'}
    return role, tuple(sorted(named.items()))


def _settle(claims: Mapping[tuple[Any, ...], list[Found]], root: Path) -> Listing:
    """Settle the claims of files on roles."""
    kept: dict[str, list[Found]] = {}
    problems: dict[str, list[Problem]] = {}
    notes: dict[str, list[str]] = {}
    belonging: dict[tuple[Any, ...], Path] = {}
    for (role, _), claimants in claims.items():
        first, *others = claimants
        participant = first.entities['subject']
        mine = kept.setdefault(participant, [])
        if others and len({content_key(found.path) for found in claimants}) > 1:
            problems.setdefault(participant, []).append(_contest(role, claimants, root))
            continue
        for other in others:
            text = f'{_below(other.path, root)} is a copy of {_below(first.path, root)}: not used'
            notes.setdefault(participant, []).append(text)
        mine.append(first)
        if role in OWNERS:
            belonging[_owner(role, first)] = first.path
    return Listing(
        found={
            label: tuple(_with_companions(found, belonging) for found in kept[label])
            for label in sorted(kept)
        },
        problems={label: tuple(found) for label, found in problems.items()},
        notes={label: tuple(found) for label, found in notes.items()},
    )


def _contest(role: str, found: Sequence[Found], root: Path) -> Problem:
    """Say that several files contend for one role."""
    names = ' and '.join(_below(item.path, root) for item in found)
    task = found[0].get('task') if load_roles()[role].family != 'bold' else None
    return Problem(
        role=role,
        message=(
            f'{names} differ and both are {role} of the same acquisition; make the patterns of '
            'the input map more specific, or remove one of the files'
        ),
        file=found[0].path,
        condition=normalise(task) if task else None,
    )


def _owner(kind: str, found: Found) -> tuple[Any, ...]:
    """Participant, session, task and run of a file: by these it belongs to another."""
    return kind, *(found.get(key) for key in ('subject', 'session', 'task', 'run'))


def _with_companions(found: Found, belonging: Mapping[tuple[Any, ...], Path]) -> Found:
    """Add the events of a BOLD run and the context of an ASL series."""
    own = {
        kind: (belonging[_owner(kind, found)],)
        for kind, suffix in OWNERS.items()
        if found.get('suffix') == suffix and _owner(kind, found) in belonging
    }
    return replace(found, companions={**(found.companions or {}), **own}) if own else found


def _below(path: Path, root: Path) -> str:
    """Path below the dataset."""
    return path.relative_to(root).as_posix()


# ------------------------------------------------------------------------------------ contents


def content_key(path: Path) -> str:
    """
    Name the content of a file: equal names mean identical bytes.

    The checksum that git-annex keeps in the link, else that of the bytes; of a file that cannot be
    read its own path.
    """
    if known := _annexed(path):
        return known['hash']
    if not path.is_file():
        return path.as_posix()
    try:
        with path.open('rb') as stream:
            return hashlib.file_digest(stream, 'sha256').hexdigest()
    except OSError:
        return path.as_posix()


def content_size(path: Path) -> int | None:
    """Give the size of a file, bytes, also of one not fetched; None where it is not known."""
    if known := _annexed(path):
        return int(known['size'])
    try:
        return path.stat().st_size
    except OSError:
        return None


def _annexed(path: Path) -> re.Match[str] | None:
    """Read size and checksum in a link of git-annex; None for any other file."""
    try:
        return ANNEX_KEY.search(os.readlink(path))  # noqa: PTH115  a Path of each takes longer
    except OSError:
        return None


# ------------------------------------------------------------------------------------- showing


def summarise(paths: Iterable[str]) -> list[tuple[str, int]]:
    """
    Shorten a list of paths: participants and echoes become a star.

    Give patterns, sorted, with the number of files.

    Examples
    --------
    >>> summarise(['sub-1/a_echo-1.nii', 'sub-1/a_echo-2.nii', 'sub-2/a_echo-1.nii'])
    [('sub-*/a_echo-*.nii', 3)]
    """
    counts = Counter(re.sub(r'(sub|echo)-[A-Za-z0-9]+', r'\1-*', path) for path in paths)
    return sorted(counts.items())


def roles_table(found: Iterable[Found], root: Path) -> list[tuple[str, str, str, int]]:
    """
    Say which files of a participant play which role, echoes together.

    Give role, what the name says, path and number of files, in the order of the roles.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for role, items in assign_roles(found).items():
        for item in items:
            said = ' '.join(
                f'{key}-{item.get(ENTITIES[key])}'
                for key in ('ses', 'task', 'acq', 'run')
                if item.get(ENTITIES[key])
            )
            path = re.sub(r'echo-[A-Za-z0-9]+', 'echo-*', _below(item.path, root))
            counts[role, said, path] += 1
    return [(*key, number) for key, number in counts.items()]
