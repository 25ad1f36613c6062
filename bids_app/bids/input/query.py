"""Roles: which file of a dataset plays which part; the providers that find them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.surfaces import find_surfaces
from bids_app.bids.output.names import packaged_table
from bids_app.bids.scans import FoundAnatomy
from bids_app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app._typing import PathLike

ENTITIES = {
    'sub': 'subject',
    'ses': 'session',
    'task': 'task',
    'acq': 'acquisition',
    'ce': 'ceagent',
    'rec': 'reconstruction',
    'dir': 'direction',
    'run': 'run',
    'echo': 'echo',
    'flip': 'flip',
    'inv': 'inv',
    'mt': 'mt',
    'part': 'part',
    'space': 'space',
    'desc': 'desc',
}
"""Keys in file names to the long names of pybids, which filters use."""

TEMPLATE = 'MNI152NLin6Asym'

LABEL = re.compile(r'[0-9A-Za-z+]+')
"""What BIDS allows as the label of a participant or session."""

NOT_UTF8 = re.compile('[\udc80-\udcff]')
"""How Python writes the bytes of a file name that are no UTF-8: no text can hold them."""


IMAGES = ('.nii.gz', '.nii')
"""Endings of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One row of data/inputs.yml."""

    name: str
    datatype: str
    suffix: tuple[str, ...]
    extension: tuple[str, ...]
    entities: Mapping[str, Any]
    family: str
    ignore: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file with what its name says."""

    path: Path
    entities: Mapping[str, str]
    """Long names; with suffix, extension and datatype."""
    companions: Mapping[str, tuple[Path, ...]] | None = None
    """json, events, aslcontext -> files that belong to it; None = by inheritance."""
    volume_types: tuple[str, ...] = ()
    """Of an ASL series without aslcontext: repeated over its volumes."""

    def get(self, entity: str) -> str | None:
        """Value of an entity, None when it is absent."""
        return self.entities.get(entity)


@cache
def load_roles() -> Mapping[str, Role]:
    """Read the table of roles, in the order of data/inputs.yml."""
    return {name: _role(name, row) for name, row in packaged_table('inputs').items()}


def _role(name: str, row: dict[str, Any]) -> Role:
    """Make one row; a single value stands for a list of one."""
    listed = {key: tuple(as_list(row[key])) for key in ('suffix', 'extension')}
    return Role(name=name, **{**row, **listed})


def as_list(value: Any) -> list[Any]:
    """Give a list of what may be one value."""
    return value if isinstance(value, list) else [value]


def parse_name(path: Path) -> dict[str, str]:
    """
    Read the entities of a BIDS file name.

    Long names, with suffix, extension and datatype; tokens without a dash are left out.

    Examples
    --------
    >>> parse_name(Path('sub-01/perf/sub-01_acq-calc_asl.nii.gz'))['acquisition']
    'calc'
    """
    stem, dot, extension = path.name.partition('.')
    *pairs, suffix = stem.split('_')
    entities = {'suffix': suffix, 'extension': dot + extension, 'datatype': path.parent.name}
    for pair in pairs:
        key, dash, value = pair.partition('-')
        if dash:
            entities[ENTITIES.get(key, key)] = value
    return entities


def assign_roles(
    found: Iterable[Found],
    *,
    filters: Mapping[str, Mapping[str, Any]] | None = None,
    ignore: Sequence[str] = (),
) -> dict[str, tuple[Found, ...]]:
    """
    Sort files into roles.

    Every role is there, sorted by path; files of no role are left out. Filters are those of
    ``--bids-filter-file``: a value, a list of values, None (entity absent) or ``*``; `ignore` are
    words of ``--ignore``.

    Raises
    ------
    SettingsError
        For a filter on a role that does not exist.
    """
    filters = filters or {}
    roles = load_roles()
    unknown = sorted(set(filters) - set(roles))
    if unknown:
        msg = f'--bids-filter-file: unknown role {unknown[0]!r}; the roles are: {", ".join(roles)}'
        raise SettingsError(msg)
    assigned: dict[str, list[Found]] = {name: [] for name in roles}
    for item in sorted(found, key=lambda item: str(item.path)):
        for role in _named_alike().get(_kind(item.entities), ()):
            if (
                role.ignore not in ignore
                and role.family not in ignore
                and _passes(item, role.entities)
                and _passes(item, filters.get(role.name, {}))
            ):
                assigned[role.name].append(item)
    return {name: tuple(items) for name, items in assigned.items()}


def roles_of(item: Found) -> tuple[str, ...]:
    """Name the roles that a file can play, without any filter."""
    return tuple(name for name, files in assign_roles([item]).items() if files)


def _kind(entities: Mapping[str, str]) -> tuple[str | None, ...]:
    """Give what a role asks of every file: folder, suffix and format."""
    return entities.get('datatype'), entities.get('suffix'), entities.get('extension')


@cache
def _named_alike() -> Mapping[tuple[str | None, ...], list[Role]]:
    """Collect the roles of each folder, suffix and format."""
    alike: dict[tuple[str | None, ...], list[Role]] = {}
    for role in load_roles().values():
        for suffix, extension in product(role.suffix, role.extension):
            alike.setdefault((role.datatype, suffix, extension), []).append(role)
    return alike


def _passes(item: Found, query: Mapping[str, Any]) -> bool:
    """Tell whether the entities of a file satisfy a query."""
    for key, wanted in query.items():
        value = item.get(ENTITIES.get(key, key))
        if not any(_equal(value, one) for one in as_list(wanted)):
            return False
    return True


def _equal(value: str | None, wanted: Any) -> bool:
    """Compare an entity with a wanted value: None = absent, * = any, 1 = 01."""
    if wanted is None or value is None:
        return value is None and wanted is None
    wanted = str(wanted)
    return wanted in ('*', value) or (
        value.isdigit() and wanted.isdigit() and int(value) == int(wanted)
    )


def participant_folders(root: Path, participant: str) -> tuple[list[Path], list[Path], list[Path]]:
    """
    Find the folders of a participant.

    Give its own and those of its sessions; those in them that hold files of some role; and those
    whose name begins as that of a session but is none.

    Folders are not searched deeper than BIDS goes, and none that is a link to a folder around it.
    """
    folder = root / f'sub-{participant}'
    sessions, stray = labelled_folders(folder, 'ses-')
    folders = [folder, *(folder / f'ses-{label}' for label in sessions)]
    places = [
        place for parent in folders for place in folders_in(parent) if place.name in _datatypes()
    ]
    return folders, places, stray


def labelled_folders(folder: Path, prefix: str) -> tuple[list[str], list[Path]]:
    """
    List the labels of folders such as ``sub-01``, and the folders whose label cannot be one.

    Examples
    --------
    >>> labelled_folders(Path('nowhere'), 'sub-')
    ([], [])
    """
    found = folders_in(folder, prefix)
    labels = [path.name.removeprefix(prefix) for path in found if has_label(path, prefix)]
    return labels, [path for path in found if not has_label(path, prefix)]


def files_in(place: Path) -> list[Path]:
    """List what is named as a file of a participant in a folder."""
    return [Path(entry.path) for entry in _entries(place) if entry.name.startswith('sub-')]


@cache
def _datatypes() -> frozenset[str]:
    """Names of the folders that hold files of a role."""
    return frozenset(role.datatype for role in load_roles().values())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder by name; one that cannot be read is empty."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def folders_in(folder: Path, prefix: str = '') -> list[Path]:
    """
    List the folders in a folder, but none that is a link to a folder around it.

    By name; a folder that cannot be read has none.
    """
    return [
        Path(entry.path)
        for entry in _entries(folder)
        if entry.name.startswith(prefix) and _is_folder(entry)
    ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder and no loop."""
    try:
        if not entry.is_dir():
            return False
    except OSError:  # a link to itself
        return False
    if not entry.is_symlink():
        return True
    here = Path(os.path.realpath(Path(entry.path).parent))
    return not here.is_relative_to(os.path.realpath(entry.path))


def has_label(path: Path, prefix: str) -> bool:
    """Tell whether the name of a folder is a prefix and a label."""
    return LABEL.fullmatch(path.name.removeprefix(prefix)) is not None


ANATOMY = {
    't1w': 'desc-preproc_T1w',
    'brain_mask': 'desc-brain_mask',
    'grey_matter': 'label-GM_probseg',
    'white_matter': 'label-WM_probseg',
    'csf': 'label-CSF_probseg',
}
"""Image of an anatomy -> how its file name ends."""


def find_anatomy(
    source: str, path: PathLike, participant: str, session: str | None = None
) -> FoundAnatomy | str:
    """
    Find the anatomy of a participant in derivatives of fMRIPrep's layout.

    The session's folder is looked at before the participant's. Without one, say what is missing,
    of the place that has most.
    """
    root = Path(path)
    folder = root / f'sub-{participant}'
    if not folder.is_dir():
        below = sorted(root.glob(f'*/sub-{participant}'))
        hint = f'; there is one in {below[0].parent}' if below else ''
        return f'no folder {folder.name} in {root}{hint}'
    sessions = sorted(folder.glob('ses-*/anat')) if session is None else []
    places = [folder / f'ses-{session}' / 'anat'] if session else []
    missing: dict[Path, list[str]] = {}
    for place in [*places, folder / 'anat', *sessions]:
        found = {name: _native(place, stem, ('.nii.gz', '.nii')) for name, stem in ANATOMY.items()}
        images = {name: image for name, image in found.items() if image is not None}
        if len(images) == len(ANATOMY):
            return _as_anatomy(source, place, images)
        missing[place] = [ANATOMY[name] for name in ANATOMY if name not in images]
    place = min(missing, key=lambda one: len(missing[one]))
    text = f'{place.relative_to(root)} has no {", ".join(missing[place])}'
    if list(place.glob('*_T1w_preproc.nii*')):
        text += '; its names are those of fMRIPrep before 1.2, which are not read'
    return text


def _as_anatomy(source: str, folder: Path, images: Mapping[str, Path]) -> FoundAnatomy:
    """Add the transforms in the folder of a complete anatomy."""
    transforms = ('.h5', '.txt')
    return FoundAnatomy(
        source=source,
        to_template=_native(folder, f'from-T1w_to-{TEMPLATE}_mode-image_xfm', transforms),
        from_template=_native(folder, f'from-{TEMPLATE}_to-T1w_mode-image_xfm', transforms),
        to_others=_other_transforms(folder),
        surfaces=find_surfaces(folder),
        **images,
    )


def _other_transforms(folder: Path) -> tuple[tuple[str, Path], ...]:
    """List the transforms from T1w space to templates beside the packaged one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob('sub-*_from-T1w_to-*_mode-image_xfm.*')):
        space = path.name.partition('_to-')[2].partition('_')[0]
        if path.suffix in ('.h5', '.txt') and space not in (TEMPLATE, 'fsnative'):
            found.setdefault(space, path)
    return tuple(found.items())


def _native(folder: Path, stem: str, extensions: Sequence[str]) -> Path | None:
    """Return the first file of that stem in T1w space."""
    for extension in extensions:
        matches = sorted(folder.glob(f'sub-*_{stem}{extension}'))
        matches = [path for path in matches if '_space-' not in path.name]
        if matches:
            return matches[0]
    return None
