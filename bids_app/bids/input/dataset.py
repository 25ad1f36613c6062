"""What a dataset holds, who is computed, and what the whole of it must meet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import (
    Plan,
    Scan,
    find_labels,
    gas_conditions,
    make_plan,
    normalise,
)
from bids_app.bids.input.files import companions_of, read_json
from bids_app.bids.input.input_map import Listing, RoleMap, choose_role_map, list_roles
from bids_app.bids.input.inventory import FilesByLabel, Inventory, take_inventory
from bids_app.bids.input.metadata.bold import longest_blocks
from bids_app.bids.input.participants import BloodTable, check_units, read_participants
from bids_app.bids.input.query import (
    NOT_UTF8,
    Found,
    assign_roles,
)
from bids_app.bids.input.sidecar import (
    load_overrides,
)
from bids_app.bids.input.surfaces import standard_meshes, surface_atlases
from bids_app.bids.input.suspect_scans import find_suspects
from bids_app.bids.input.templates import other_templates
from bids_app.bids.output.dataset import HIDDEN
from bids_app.bids.scans import ParticipantInputs, Suspicion
from bids_app.errors import AppError, DatasetError, SelectionError, SettingsError
from bids_app.models.bold.events import is_of_events
from bids_app.settings import parcel_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bids_app.settings import BloodVolumeSettings, RunSettings, Settings

MAIN_ROLES = {
    'mese': 'mese',
    'megre': 'megre_mag',
    'ase': 'ase',
    'asl': 'asl',
    'dsc': 'dsc',
    'bold': 'bold',
}
"""Family -> the role whose files are its acquisitions."""

MODALITY = {
    't1w': 'T1w image',
    'mese': 'MESE (multi-echo spin echo)',
    'megre': 'MEGRE (multi-echo gradient echo)',
    'ase': 'ASE (asymmetric spin echo)',
    'asl': 'ASL series',
    'dsc': 'DSC series',
    'bold': 'task BOLD run',
}
"""Family -> name in messages."""

WITHIN_SERIES = ('subject', 'echo', 'part', 'run', 'suffix', 'extension', 'datatype')
"""Entities in which the files of one acquisition, or its repeats, differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A dataset as a whole; made once per run."""

    path: Path
    name: str
    participants: tuple[str, ...]
    """Labels of the sub- folders, sorted."""
    description: Mapping[str, Any] = field(default_factory=dict)
    """dataset_description.json."""
    found: Mapping[str, tuple[Found, ...]] = field(default_factory=dict)
    """Participant -> its files by name."""
    kinds: tuple[Found, ...] = ()
    """Files of any participant that stand for all that differ from them in the label only."""
    types_of: Callable[[Path], Mapping[str, float]] = lambda _: {}
    """BOLD file -> condition labels of its events, and the longest block of each, s."""
    blood: BloodTable = field(default_factory=BloodTable)
    role_map: RoleMap | None = None
    """Given where the dataset is not laid out as BIDS."""
    listing: Listing | None = None
    """What the role map makes of the dataset."""
    notes: tuple[str, ...] = ()
    """What was left aside, such as stray folders."""
    inventory: Inventory | None = None
    """Of a dataset laid out as BIDS."""
    suspects: Mapping[str, tuple[Suspicion, ...]] = field(default_factory=dict)
    """Participant that is chosen -> signs that its files are not what they are named."""


def read_dataset(run: RunSettings, preset: str = '') -> DatasetInfo:
    """
    Read what concerns the dataset as a whole.

    No image is opened; the preset may choose a packaged role map.

    Raises
    ------
    SettingsError
        If the folder does not exist, or the role map is wrong.
    DatasetError
        If dataset_description.json is missing or malformed, unless validation is skipped.
    """
    root = Path(run.bids_dir)
    if not root.is_dir():
        msg = f'BIDS_DIR {root} is not a folder'
        raise SettingsError(msg)
    if NOT_UTF8.search(str(root)):
        msg = f'BIDS_DIR {str(root)!r}: its name is not UTF-8; rename the folder'
        raise SettingsError(msg)
    description = _description(root, skip=run.skip_bids_validation)
    role_map = choose_role_map(run.input_map, preset, root)
    listing = list_roles(role_map, root, skip=run.output_dir) if role_map else None
    info = DatasetInfo(
        path=root,
        name=str(description.get('Name') or root.resolve().name),
        participants=(),
        description=description,
        blood=read_participants(root, role_map.units if role_map else None),
        role_map=role_map,
        listing=listing,
    )
    return _by_folders(info, run) if listing is None else _by_map(info, listing)


def _by_folders(info: DatasetInfo, run: RunSettings) -> DatasetInfo:
    """Add what the folders of a BIDS dataset hold."""
    inventory = take_inventory(info.path, inventory_file(run))
    records = inventory.records
    chosen = [label for label in bare_labels(run.participants, 'sub-') if label in records]
    return replace(
        info,
        participants=tuple(records),
        found=FilesByLabel(inventory),
        kinds=inventory.kinds(),
        types_of=inventory.types_of,
        notes=(*inventory.notes, *(note for one in records.values() for note in one.notes)),
        inventory=inventory,
        suspects=find_suspects(
            inventory.peers(chosen or records),
            inventory.types_of,
            info.path,
            size_of=inventory.size_of,
        ),
    )


def inventory_file(run: RunSettings) -> Path:
    """Name the file in which the inventory of the dataset is kept between runs."""
    return run.output_dir / HIDDEN / 'inventory.json'


def _by_map(info: DatasetInfo, listing: Listing) -> DatasetInfo:
    """Add what a role map finds in a dataset."""
    found = tuple(item for files in listing.found.values() for item in files)
    types = {item.path: _trial_types(item, info.path) for item in assign_roles(found)['bold']}

    def types_of(path: Path) -> Mapping[str, float]:
        return types.get(path, {})

    return replace(
        info,
        participants=tuple(listing.found),
        found=listing.found,
        kinds=found,
        types_of=types_of,
        suspects=find_suspects(listing.found, types_of, info.path),
    )


def _description(root: Path, *, skip: bool) -> dict[str, Any]:
    """Read dataset_description.json."""
    path = root / 'dataset_description.json'
    hint = (
        f'every BIDS dataset has one; write for example '
        f'{{"Name": "{root.resolve().name}", "BIDSVersion": "1.10.0"}} to {path}'
    )
    try:
        description = read_json(path)
    except AppError as error:
        if skip:
            return {}
        msg = f'{root} is not a BIDS dataset: {error}; {hint}'
        raise DatasetError(msg) from error
    if 'BIDSVersion' not in description and not skip:
        msg = f'{path} lacks BIDSVersion; {hint}'
        raise DatasetError(msg)
    return description


def _trial_types(found: Found, root: Path) -> dict[str, float]:
    """Condition labels of a BOLD file and their longest blocks, s."""
    companions = companions_of(found, root, 'events', '.tsv')
    return longest_blocks(companions[-1]) if companions else {}


def select_participants(info: DatasetInfo, run: RunSettings) -> tuple[str, ...]:
    """
    Choose the participants of a run.

    In the order of the dataset; labels may have ``sub-`` and ``ses-`` before them.

    Raises
    ------
    SelectionError
        If there are none, or a label is not in the dataset.
    """
    if not info.participants:
        msg = f'{info.path} has no sub- folder'
        raise SelectionError(msg)
    wanted = bare_labels(run.participants, 'sub-')
    _check_labels('--participant-label', wanted, info.participants)
    chosen = [label for label in info.participants if not wanted or label in wanted]
    sessions = bare_labels(run.sessions, 'ses-')
    if not sessions:
        return tuple(chosen)
    existing = {label: sessions_of(info.found[label]) for label in info.participants}
    _check_labels('--session-label', sessions, sorted(set().union(*existing.values())))
    chosen = [label for label in chosen if existing[label] & set(sessions)]
    if not chosen:
        msg = f'no chosen participant has the session {", ".join(sessions)}'
        raise SelectionError(msg)
    return tuple(chosen)


def bare_labels(labels: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Labels without their prefix."""
    return tuple(label.removeprefix(prefix) for label in labels)


def sessions_of(found: Iterable[Found]) -> set[str]:
    """Session labels of files."""
    return {item.entities['session'] for item in found if 'session' in item.entities}


def _check_labels(option: str, wanted: Sequence[str], existing: Sequence[str]) -> None:
    """Refuse labels that do not exist."""
    unknown = [label for label in wanted if label not in existing]
    if unknown:
        msg = (
            f'{option}: {", ".join(unknown)} not in the dataset; there are: '
            f'{", ".join(existing) or "none"}'
        )
        raise SelectionError(msg)


def check_dataset(info: DatasetInfo, run: RunSettings, settings: Settings) -> Plan:
    """
    Check what concerns all participants, and plan conditions and contrasts.

    The plan is of the whole dataset, so that every participant is compared in the same way.

    Raises
    ------
    SettingsError
        For a condition found nowhere, no baseline, an unknown role in the filters, derivatives
        that do not exist, or an overrides file that cannot be used.
    SelectionError
        For a BOLD task that is not in the dataset.
    InputDataError
        For haematocrit or saturation without a declared unit.
    """
    check_units(info.blood, settings)
    check_blood_volume(settings.blood_volume)
    other_templates(settings.output_spaces)
    surface_atlases(settings.surface_atlas, standard_meshes(settings.output_spaces))
    load_overrides(run.metadata_overrides)
    for name, path in run.derivatives.items():
        if not Path(path).is_dir():
            msg = f'--derivatives {name}={path}: no such folder'
            raise SettingsError(msg)
    files = assign_roles(info.kinds, filters=run.bids_filters, ignore=settings.ignore)
    tasks = sorted({item.entities.get('task', '') for item in files['bold']})
    if 'bold' not in settings.ignore:
        _check_labels('--task-id', bare_labels(run.tasks, 'task-'), tasks)
    scans = scans_of(files, info, run, settings)
    labels = find_labels(scans, entity=settings.condition_entity, named=_named(settings))
    return make_plan(
        labels,
        baseline=settings.baseline,
        contrasts=settings.contrasts,
        gases=gas_conditions(settings),
    )


def _named(settings: Settings) -> set[str]:
    """Labels that the user named."""
    texts = [*settings.contrasts, settings.baseline or '']
    named = {normalise(label) for text in texts for label in text.split('-')} - {''}
    return named | set(gas_conditions(settings).values())


def acquisitions(files: Mapping[str, Sequence[Found]], family: str) -> Sequence[Found]:
    """Give the files that stand for the scans of a family: the real part of complex ones."""
    found = files[MAIN_ROLES.get(family, family)]
    return found or (files['megre_real'] if family == 'megre' else ())


def scans_of(
    files: Mapping[str, Sequence[Found]],
    info: DatasetInfo,
    run: RunSettings,
    settings: Settings,
) -> list[Scan]:
    """Give the acquisitions behind files; beside blocks, shorter trial types are no conditions."""
    needed, design = settings.bold.window_start, settings.bold.design

    def blocks(item: Found) -> tuple[str, ...]:
        longest = info.types_of(item.path)
        all_count = item.get('suffix') == 'bold' and is_of_events(
            longest, design=design, shortest=needed
        )
        return tuple(label for label, length in longest.items() if all_count or length > needed)

    tasks = bare_labels(run.tasks, 'task-')
    return [
        Scan(
            family=family,
            entities=item.entities,
            trial_types=blocks(item) if family in ('bold', 'asl') else (),
        )
        for family in MAIN_ROLES
        for item in acquisitions(files, family)
        if family != 'bold' or not tasks or item.entities.get('task') in tasks
    ]


def check_selection(units: Sequence[ParticipantInputs]) -> None:
    """
    Refuse a run in which the filters leave nothing at all.

    Raises
    ------
    SelectionError
        If no unit has a file the app can use or a problem to report.
    """
    if not any(has_data(unit) or unit.problems for unit in units):
        msg = (
            'the dataset, with the given filters, holds none of the images the app reads: '
            f'{", ".join(MODALITY.values())}'
        )
        raise SelectionError(msg)


def has_data(inputs: ParticipantInputs) -> bool:
    """Tell whether a unit has anything to compute from."""
    kinds = (
        inputs.t1w,
        inputs.mese,
        inputs.megre,
        inputs.ase,
        inputs.asl,
        inputs.dsc,
        inputs.bold,
    )
    return any(kinds) or inputs.anatomy is not None or inputs.saved is not None


def check_blood_volume(chosen: BloodVolumeSettings) -> None:
    """
    Refuse choices of blood volume that contradict each other.

    Raises
    ------
    SettingsError
        If the rule needs a table and there is none, or a file does not exist.
    """
    if chosen.task_change == 'parcels' and chosen.parcel_table is None:
        msg = 'blood_volume.task_change = parcels needs blood_volume.parcel_table'
        raise SettingsError(msg)
    if chosen.parcel_table is not None and not parcel_file(chosen).is_file():
        msg = f'blood_volume.parcel_table {chosen.parcel_table}: no such file'
        raise SettingsError(msg)
