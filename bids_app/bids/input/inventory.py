"""
What a dataset holds of every participant: names, sizes and trial types, by its folders.

Planning one participant takes the conditions of all, and the sizes of files that may be copies of
its own. A record of each participant is kept in the output and read anew only where one of its
folders or tables of events has changed, so that planning does not touch the files of the others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import SETTLED, companions_of
from bids_app.bids.input.input_map import content_size
from bids_app.bids.input.metadata.bold import longest_blocks
from bids_app.bids.input.query import (
    IMAGES,
    NOT_UTF8,
    Found,
    files_in,
    labelled_folders,
    parse_name,
    participant_folders,
    roles_of,
)
from bids_app.bids.output.write import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FORMAT = 1
"""Of the file; one of another format is not read."""

EXTENSIONS = (*IMAGES, '.json', '.tsv')
"""Of the files that may be read."""

Types = Mapping[str, float]
"""Condition label of a table of events -> its longest block, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one participant."""

    stamps: Mapping[str, int | None]
    """Folder or table of events, relative to the dataset -> time of its last change, ns."""
    names: tuple[str, ...]
    """Files below the participant's folder, without its label."""
    sizes: tuple[int | None, ...]
    """Of the images among them, bytes."""
    types: Mapping[str, Types]
    """BOLD file, or ASL file with a task in it -> trial types."""
    notes: tuple[str, ...] = ()
    """What is not read, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Records of all participants."""

    root: Path
    records: Mapping[str, Record]
    notes: tuple[str, ...] = ()
    """Folders of the dataset that are not read."""
    n_read: int = 0
    """Participants whose record was made anew."""

    def files(self, label: str) -> tuple[Found, ...]:
        """List the files of a participant."""
        return tuple(self._found(label, name) for name in self.records[label].names)

    def _found(self, label: str, name: str) -> Found:
        """Make one file of a participant from its name without label."""
        folder, _, rest = name.rpartition('/')
        stem = f'sub-{label}' if rest.startswith('_') else ''
        path = self.root / f'sub-{label}' / folder / f'{stem}{rest}'
        return Found(path=path, entities=parse_name(path))

    def kinds(self) -> tuple[Found, ...]:
        """Give one file for each name without label, and for each set of trial types of it."""
        kinds: dict[tuple[Any, ...], str] = {}
        seen: set[tuple[Any, ...]] = set()
        for label, record in self.records.items():
            types = {name: tuple(known.items()) for name, known in record.types.items()}
            whole = (record.names, tuple(types.items()))
            if whole in seen:
                continue
            seen.add(whole)
            for name in record.names:
                kinds.setdefault((name, types.get(name)), label)
        return tuple(self._found(label, name) for (name, _), label in kinds.items())

    def types_of(self, path: Path) -> Types:
        """Give the trial types of a BOLD file."""
        label, name = _split(path, self.root)
        return self.records[label].types.get(name, {}) if label in self.records else {}

    def size_of(self, path: Path) -> int | None:
        """Give the size of an image, bytes."""
        label, name = _split(path, self.root)
        record = self.records[label]
        return record.sizes[record.names.index(name)]

    def peers(self, chosen: Iterable[str]) -> dict[str, tuple[Found, ...]]:
        """
        List the files that tell whether one of some participants is not what it is named.

        Images as large as one of theirs, of any participant, and BOLD runs of one design.
        """
        wanted = {key for label in chosen for _, key in self._keys(label)}
        groups: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
        for label in self.records:
            for name, key in self._keys(label):
                if key in wanted:
                    groups.setdefault(key, []).append((label, name))
        found: dict[str, dict[str, None]] = {}
        for group in groups.values():
            for label, name in group if len(group) > 1 else ():
                found.setdefault(label, {})[name] = None
        return {
            label: tuple(self._found(label, name) for name in found[label])
            for label in sorted(found)
        }

    def _keys(self, label: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Give what the peers of each file of a participant share with it."""
        record = self.records[label]
        for name, size in zip(record.names, record.sizes, strict=True):
            if size:
                yield name, (*_kind(name)[:2], size)
        for name, types in record.types.items():
            if types:
                yield name, (*_kind(name)[2:], tuple(types))

    def save(self, path: Path) -> None:
        """Keep the records; each list of names once, since most participants share it."""
        lists: dict[tuple[str, ...], int] = {}
        recent = time.time_ns() - SETTLED
        rows = {
            label: [
                dict(record.stamps),
                lists.setdefault(record.names, len(lists)),
                record.sizes,
                record.types,
                record.notes,
            ]
            for label, record in self.records.items()
            if max(filter(None, record.stamps.values()), default=0) < recent
        }
        content = {'format': FORMAT, 'root': str(self.root), 'names': list(lists), 'rows': rows}
        atomic_write(path, json.dumps(content).encode())


class FilesByLabel(Mapping[str, tuple[Found, ...]]):
    """Files of each participant, made when they are asked for: a cohort has very many."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def __getitem__(self, label: str) -> tuple[Found, ...]:
        return self._inventory.files(label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._inventory.records)

    def __len__(self) -> int:
        return len(self._inventory.records)


@cache
def _kind(name: str) -> tuple[Any, ...]:
    """Read suffix, part, task and extension of a name without label."""
    entities = parse_name(Path(name))
    return tuple(entities.get(key) for key in ('suffix', 'part', 'task', 'extension'))


def _split(path: Path, root: Path) -> tuple[str, str]:
    """Divide the path of a file into the label of its participant and its name without it."""
    top, *folders, name = path.relative_to(root).parts
    return top.removeprefix('sub-'), '/'.join([*folders, name.removeprefix(top)])


def take_inventory(root: Path, kept: Path | None = None) -> Inventory:
    """
    List what a dataset holds.

    Participants are in order of their labels. What :meth:`Inventory.save` wrote is not used where
    it is absent, damaged or of another dataset.
    """
    known = _read(root, kept) if kept is not None else {}
    labels, stray = labelled_folders(root, 'sub-')
    records, n_read = {}, 0
    for label in labels:
        record = known.get(label)
        if record is None or not _stands(root, record):
            record, n_read = _make_record(root, label), n_read + 1
        records[label] = record
    notes = tuple(_not_a_label(root, path) for path in stray)
    return Inventory(root=root, records=records, notes=notes, n_read=n_read)


def _read(root: Path, path: Path) -> dict[str, Record]:
    """Read the records that were kept."""
    try:
        content = json.loads(path.read_bytes())
        if content['format'] != FORMAT or content['root'] != str(root):
            return {}
        lists = [tuple(names) for names in content['names']]
        return {
            label: Record(
                stamps=stamps,
                names=lists[number],
                sizes=tuple(sizes),
                types=types,
                notes=tuple(notes),
            )
            for label, (stamps, number, sizes, types, notes) in content['rows'].items()
            if len(sizes) == len(lists[number])
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _stands(root: Path, record: Record) -> bool:
    """Tell whether nothing has changed since a record was made."""
    base = f'{root}/'
    return all(_stamp(base + name) == stamp for name, stamp in record.stamps.items())


def _stamp(path: str | Path) -> int | None:
    """Give the time of the last change of a folder or file, ns; None where it is not there."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  a Path of each takes longer
    except OSError:
        return None


def _make_record(root: Path, label: str) -> Record:
    """List one participant."""
    folders, places, stray = participant_folders(root, label)
    stamps = {str(path.relative_to(root)): _stamp(path) for path in (*folders, *places)}
    files = [path for place in places for path in files_in(place)]
    unnamed = [path for path in files if NOT_UTF8.search(path.name)]
    files = [path for path in files if not NOT_UTF8.search(path.name)]
    names = tuple(_split(path, root)[1] for path in files)
    types: dict[str, Types] = {}
    for path, name in zip(files, names, strict=True):
        roles = _roles(name)
        table = _events(path, files, root) if {'bold', 'asl'} & set(roles) else None
        if 'bold' in roles or table:
            types[name] = longest_blocks(table) if table else {}
            changing = table or root  # a table may still appear at the top of the dataset
            stamps[os.path.relpath(changing, root)] = _stamp(changing)
    notes = [_not_a_label(root, path) for path in stray]
    notes += [
        f'{str(path.relative_to(root))!r} is not read: its name is not UTF-8; rename the file'
        for path in unnamed
    ]
    notes += [
        f'{str(path.relative_to(root))!r} is not read: write its extension in lower case'
        for path in files
        if _is_shouted(path)
    ]
    sizes = tuple(
        content_size(path) if path.name.endswith(IMAGES) and _roles(name) else None
        for path, name in zip(files, names, strict=True)
    )
    return Record(stamps=stamps, names=names, sizes=sizes, types=types, notes=tuple(notes))


def _is_shouted(path: Path) -> bool:
    """Tell whether a file would be read were its extension in lower case."""
    extension = parse_name(path)['extension']
    return extension != extension.lower() and extension.lower() in EXTENSIONS


@cache
def _roles(name: str) -> tuple[str, ...]:
    """Give the roles that a name without label may play."""
    path = Path(name)
    return tuple(roles_of(Found(path=path, entities=parse_name(path))))


def _events(path: Path, files: Sequence[Path], root: Path) -> Path | None:
    """Find the table of events of a series: beside it by its own name, else by inheritance."""
    own = path.with_name(f'{path.name.partition(".")[0].rpartition("_")[0]}_events.tsv')
    if own in files:
        return own
    found = Found(path=path, entities=parse_name(path))
    companions = companions_of(found, root, 'events', '.tsv')
    return companions[-1] if companions else None


def _not_a_label(root: Path, path: Path) -> str:
    """Say that a folder is left aside."""
    return (
        f'{str(path.relative_to(root))!r} is not read: a label of a participant or session '
        'holds letters and digits only; rename or move the folder'
    )
