"""From a dataset to frozen ParticipantInputs, one per unit of work; what each unit can make."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import (
    Labels,
    Plan,
    Scan,
    assign_conditions,
    find_labels,
    longest_gap,
    make_plan,
    normalise,
    plan_unit,
    runs_for_contrast,
)
from bids_app.bids.input.files import companions_of, read_json
from bids_app.bids.input.input_map import Listing, RoleMap, choose_role_map, list_roles
from bids_app.bids.input.inventory import FilesByLabel, Inventory, take_inventory
from bids_app.bids.input.metadata.asl import read_asl, read_cbf
from bids_app.bids.input.metadata.bold import longest_blocks, read_bold, read_bold_of_asl
from bids_app.bids.input.metadata.dsc import read_dsc
from bids_app.bids.input.metadata.echoes import by_echo
from bids_app.bids.input.metadata.fieldmaps import choose_field_map, read_field_maps
from bids_app.bids.input.metadata.relaxometry import add_reduced_sets, read_ase, read_echoes
from bids_app.bids.input.participants import BloodTable, check_units, read_blood, read_participants
from bids_app.bids.input.preprocessed import find_preprocessed
from bids_app.bids.input.query import (
    NOT_UTF8,
    TEMPLATE,
    Found,
    assign_roles,
    find_anatomy,
    load_roles,
    parse_name,
)
from bids_app.bids.input.sidecar import (
    Findings,
    Probe,
    Reader,
    load_overrides,
    note_links,
    read_field_strength,
)
from bids_app.bids.input.suspect_scans import find_suspects
from bids_app.bids.input.templates import other_templates
from bids_app.bids.output.dataset import HIDDEN
from bids_app.bids.run.feasible import arrival_is_shared, cbf_model
from bids_app.bids.scans import FoundAnatomy, ParticipantInputs, Problem, Suspicion
from bids_app.errors import AppError, DatasetError, SelectionError, SettingsError
from bids_app.models.bold.events import is_of_events
from bids_app.settings import parcel_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bids_app.bids.scans import AslSeries, BoldRun, DscSeries, FoundScan
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


# --------------------------------------------------------------------------- the dataset


def read_dataset(run: RunSettings, preset: str = '') -> DatasetInfo:
    """
    Read what concerns the dataset as a whole.

    Parameters
    ----------
    run : RunSettings
        With `bids_dir` and `input_map`.
    preset : str
        Name of the preset, which may choose a packaged role map.

    Returns
    -------
    info : DatasetInfo
        No image has been opened.

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
    chosen = [label for label in _bare(run.participants, 'sub-') if label in records]
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

    Parameters
    ----------
    info : DatasetInfo
        From :func:`read_dataset`.
    run : RunSettings
        With participant and session labels, with or without ``sub-`` and ``ses-``.

    Returns
    -------
    participants : tuple of str
        In the order of the dataset.

    Raises
    ------
    SelectionError
        If there are none, or a label is not in the dataset.
    """
    if not info.participants:
        msg = f'{info.path} has no sub- folder'
        raise SelectionError(msg)
    wanted = _bare(run.participants, 'sub-')
    _check_labels('--participant-label', wanted, info.participants)
    chosen = [label for label in info.participants if not wanted or label in wanted]
    sessions = _bare(run.sessions, 'ses-')
    if not sessions:
        return tuple(chosen)
    existing = {label: _sessions(info.found[label]) for label in info.participants}
    _check_labels('--session-label', sessions, sorted(set().union(*existing.values())))
    chosen = [label for label in chosen if existing[label] & set(sessions)]
    if not chosen:
        msg = f'no chosen participant has the session {", ".join(sessions)}'
        raise SelectionError(msg)
    return tuple(chosen)


def _bare(labels: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Labels without their prefix."""
    return tuple(label.removeprefix(prefix) for label in labels)


def _sessions(found: Iterable[Found]) -> set[str]:
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

    Parameters
    ----------
    info : DatasetInfo
        From :func:`read_dataset`.
    run : RunSettings
        Filters, tasks, derivatives, overrides.
    settings : Settings
        Condition entity, baseline, contrasts.

    Returns
    -------
    plan : Plan
        Of the whole dataset, so that every participant is compared in the same way.

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
    load_overrides(run.metadata_overrides)
    for name, path in run.derivatives.items():
        if not Path(path).is_dir():
            msg = f'--derivatives {name}={path}: no such folder'
            raise SettingsError(msg)
    files = assign_roles(info.kinds, filters=run.bids_filters, ignore=settings.ignore)
    tasks = sorted({item.entities.get('task', '') for item in files['bold']})
    if 'bold' not in settings.ignore:
        _check_labels('--task-id', _bare(run.tasks, 'task-'), tasks)
    scans = _scans(files, info, run, settings)
    labels = find_labels(scans, entity=settings.condition_entity, named=_named(settings))
    return make_plan(labels, baseline=settings.baseline, contrasts=settings.contrasts)


def _named(settings: Settings) -> set[str]:
    """Labels that the user named."""
    texts = [*settings.contrasts, settings.baseline or '']
    return {normalise(label) for text in texts for label in text.split('-')} - {''}


def acquisitions(files: Mapping[str, Sequence[Found]], family: str) -> Sequence[Found]:
    """Give the files that stand for the scans of a family: the real part of complex ones."""
    found = files[MAIN_ROLES.get(family, family)]
    return found or (files['megre_real'] if family == 'megre' else ())


def _scans(
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

    tasks = _bare(run.tasks, 'task-')
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

    Parameters
    ----------
    units : sequence of ParticipantInputs
        Of all chosen participants.

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


# --------------------------------------------------------------------------- one participant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What collecting one participant needs; passed down."""

    info: DatasetInfo
    run: RunSettings
    settings: Settings
    participant: str
    plan: Plan
    files: Mapping[str, tuple[Found, ...]]
    """Role -> all files of the participant."""
    twins: tuple[Path, ...] = ()
    """Images that are not used because they are there compressed too."""


def collect_participant(
    info: DatasetInfo,
    participant: str,
    run: RunSettings,
    settings: Settings,
    *,
    plan: Plan | None = None,
) -> tuple[ParticipantInputs, ...]:
    """
    Collect the inputs of one participant.

    Parameters
    ----------
    info : DatasetInfo
        From :func:`read_dataset`.
    participant : str
        Label without ``sub-``.
    run : RunSettings
        Filters, sessions, tasks, derivatives, overrides.
    settings : Settings
        Everything that changes numbers.
    plan : Plan, optional
        From :func:`check_dataset`; made anew when it is not given.

    Returns
    -------
    units : tuple of ParticipantInputs
        One per session (one in all without sessions, or with sessions as conditions). Headers,
        sidecars and tables have been read, voxels not; whatever is wrong with the data is in
        `problems`, all of it at once.

    Raises
    ------
    AppError
        Only for what :func:`check_dataset` raises.
    """
    plan = plan or check_dataset(info, run, settings)
    found = info.found[participant]
    files, twins = _without_twins(
        assign_roles(found, filters=run.bids_filters, ignore=settings.ignore)
    )
    context = _Context(
        info=info,
        run=run,
        settings=settings,
        participant=participant,
        plan=plan,
        files=files,
        twins=twins,
    )
    if settings.condition_entity == 'ses':
        return (_collect_unit(context, None, context.files),)
    return tuple(
        _collect_unit(context, session, _of_session(files, session)) for session in _units(context)
    )


def _without_twins(
    files: Mapping[str, Sequence[Found]],
) -> tuple[dict[str, tuple[Found, ...]], tuple[Path, ...]]:
    """Leave out the images that lie beside their like in the compressed format."""
    kept, twins = {}, []
    for role, found in files.items():
        names = {item.path for item in found}
        doubled = {path for path in names if path.with_name(f'{path.name}.gz') in names}
        kept[role] = tuple(item for item in found if item.path not in doubled)
        twins += sorted(doubled)
    return kept, tuple(twins)


def _of_session(
    files: Mapping[str, Sequence[Found]], session: str | None
) -> dict[str, tuple[Found, ...]]:
    """Files of one session (None: those in no session)."""
    return {
        role: tuple(item for item in found if item.get('session') == session)
        for role, found in files.items()
    }


def _units(context: _Context) -> list[str | None]:
    """Sessions to work on: those with more than a T1w image, or all when none has more."""
    found = {
        item.get('session')
        for family in MAIN_ROLES
        for item in acquisitions(context.files, family)
    }
    found = found or {item.get('session') for item in context.files['t1w']}
    wanted = set(_bare(context.run.sessions, 'ses-'))
    if wanted:
        found &= wanted
    elif not found:
        found = {None}
    return sorted(found, key=str)


def _collect_unit(
    context: _Context, session: str | None, files: Mapping[str, tuple[Found, ...]]
) -> ParticipantInputs:
    """Collect one unit."""
    overrides = load_overrides(context.run.metadata_overrides)
    role_map = context.info.role_map
    reader = Reader(
        root=context.info.path,
        settings=context.settings,
        overrides=overrides,
        defaults=role_map.defaults if role_map else (),
    )
    findings = reader.findings
    _note_role_map(context, findings)
    for path in context.twins:
        findings.note(f'{path.name} is not used: {path.name}.gz lies beside it')
    if context.run.metadata_overrides:
        findings.files.add(Path(context.run.metadata_overrides))
    anatomy, t1w = _anatomy(context, reader, session)
    mese = _echoes(context, reader, files, 'mese')
    megre = _echoes(context, reader, files, 'megre')
    ase = tuple(
        one
        for (condition, run), item in _single(context, reader, files['ase'], 'ase').items()
        if (one := read_ase(reader, item, condition=condition, run=run)) is not None
    )
    asl, of_asl = _asl(context, reader, files)
    dsc = _dsc(context, reader, files)
    bold = (*_bold(context, reader, files), *of_asl)
    needs_b0 = any(acquisitions(files, family) for family in ('asl', 'megre', 'ase'))
    b0 = read_field_strength(reader) if needs_b0 else math.nan
    hct, sao2 = read_blood(reader, context.info.blood, context.participant)
    inputs = ParticipantInputs(
        participant=context.participant,
        session=session,
        baseline=context.plan.baseline,
        t1w=t1w,
        anatomy=anatomy,
        mese=mese,
        megre=megre,
        ase=ase,
        asl=asl,
        dsc=dsc,
        bold=bold,
        b0=b0,
        hct=hct,
        sao2=sao2,
    )
    inputs = _with_contrasts(context, reader, inputs, files)
    inputs = _with_field_maps(reader, inputs, files['fieldmaps'])
    note_links(findings, context.info.path)
    _note_absences(context, findings, files, anatomy)
    _note_blood_volume(findings, inputs, context.settings.blood_volume)
    return replace(
        inputs,
        values=tuple(findings.values),
        suspicions=_suspicions(context, files),
        problems=tuple(findings.problems),
        notes=tuple(findings.notes),
        missing=tuple(findings.missing),
        warnings=tuple(findings.warnings),
        files=tuple(sorted(findings.files)),
    )


def _suspicions(context: _Context, files: Mapping[str, Sequence[Found]]) -> tuple[Suspicion, ...]:
    """Give those of the files of a unit."""
    used = {item.path for found in files.values() for item in found}
    known = context.info.suspects.get(context.participant, ())
    return tuple(suspicion for suspicion in known if suspicion.file in used)


def _note_role_map(context: _Context, findings: Findings) -> None:
    """Say which role map is used, and what it could not settle."""
    role_map, listing = context.info.role_map, context.info.listing
    if role_map is None or listing is None:
        return
    findings.files.add(role_map.path)
    findings.note(f'files are found by the input map {role_map.name}, not by their BIDS names')
    for problem in listing.problems.get(context.participant, ()):
        findings.problem(problem)
    for note in listing.notes.get(context.participant, ()):
        findings.note(note)


def _with_field_maps(
    reader: Reader, inputs: ParticipantInputs, found: Sequence[Found]
) -> ParticipantInputs:
    """Choose what undoes the distortion of every echo-planar series."""
    if reader.settings.anatomy.distortion == 'none':
        kept: dict[str, Any] = {
            kind: tuple(replace(one, readout=None) for one in getattr(inputs, kind))
            for kind in ('asl', 'dsc', 'bold')
        }
        return replace(inputs, **kept)
    maps = read_field_maps(reader, found)
    has_gradient_echo = any(series.has_phase for series in inputs.megre)
    chosen: dict[str, Any] = {
        kind: tuple(
            choose_field_map(
                one, maps, has_gradient_echo=has_gradient_echo, findings=reader.findings
            )
            for one in getattr(inputs, kind)
        )
        for kind in ('asl', 'dsc', 'bold')
    }
    return replace(inputs, **chosen)


def _anatomy(
    context: _Context, reader: Reader, session: str | None
) -> tuple[FoundAnatomy | None, tuple[Path, ...]]:
    """Take the anatomy from other derivatives, else find T1w images."""
    findings = reader.findings
    derivatives = {} if 't1w' in context.settings.ignore else context.run.derivatives
    for name, path in derivatives.items():
        if name == 'maps':  # of the group level
            continue
        anatomy = find_anatomy(name, path, context.participant, session)
        if isinstance(anatomy, str):
            if name != 'aslprep':  # it need not copy the anatomy it was given
                findings.note(
                    f'derivatives {name}: no complete anatomy of sub-{context.participant} (T1w, '
                    f'brain mask and three tissue maps in T1w space): {anatomy}'
                )
            continue
        if not _is_sound(reader, anatomy):
            return None, ()
        findings.note(f'anatomy is taken from the derivatives {name}')
        files = (anatomy.t1w, anatomy.brain_mask, anatomy.grey_matter, anatomy.white_matter)
        transforms = (anatomy.to_template, anatomy.from_template)
        if None in transforms:
            own = context.settings.anatomy.registration == 'rigid'
            findings.note(
                f'derivatives {name}: no transforms between T1w and {TEMPLATE}; '
                + ('they are computed' if own else 'nothing is made in template space')
            )
        others = _other_transforms(context, findings, anatomy)
        findings.files.update([*files, anatomy.csf, *filter(None, transforms), *others])
        return anatomy, ()
    return None, _t1w(context, reader, session)


def _is_sound(reader: Reader, anatomy: FoundAnatomy) -> bool:
    """Open the images of an anatomy: all must have the grid of its T1w image."""
    paths = (
        anatomy.t1w,
        anatomy.brain_mask,
        anatomy.grey_matter,
        anatomy.white_matter,
        anatomy.csf,
    )
    reference = None
    sound = True
    for path in paths:
        found = Found(path=path, entities=parse_name(path))
        probe = Probe(reader=reader, role='t1w', found=found, condition=None)
        header = probe.header((3,))
        reference = reference or header
        if header and reference and not header.has_grid_of(reference):
            probe.fail(
                f'{path.name} has another grid ({header.shape}) than {paths[0].name} '
                f'({reference.shape}); all images of an anatomy must share one'
            )
        sound = sound and probe.ok
    return sound


def _other_transforms(
    context: _Context, findings: Findings, anatomy: FoundAnatomy
) -> tuple[Path, ...]:
    """Choose the transforms to other templates that are wanted; say which are not there."""
    known = dict(anatomy.to_others)
    wanted = [template.space for template in other_templates(context.settings.output_spaces)]
    if context.settings.anatomy.registration != 'rigid':
        for space in wanted:
            if space not in known:
                findings.note(
                    f'derivatives {anatomy.source}: no transform from T1w to {space}; '
                    'nothing is made there'
                )
    return tuple(known[space] for space in wanted if space in known)


def _t1w(context: _Context, reader: Reader, session: str | None) -> tuple[Path, ...]:
    """Choose T1w images: of the session, else in no session, else of the first that has one."""
    found = context.files['t1w']
    places = [session, None, *sorted(_sessions(found))]
    for place in places:
        here = [item for item in found if item.get('session') == place]
        if not here:
            continue
        if session is not None and place != session:
            where = f'session {place}' if place else 'outside the sessions'
            reader.findings.note(f'session {session} has no T1w image; the one of {where} is used')
        return _same_kind(reader, here)
    return ()


def _same_kind(reader: Reader, found: Sequence[Found]) -> tuple[Path, ...]:
    """Keep the runs of the plainest kind of T1w image, with a readable header."""

    def kind(item: Found) -> tuple[tuple[str, str], ...]:
        return tuple(
            sorted((k, v) for k, v in item.entities.items() if k not in ('run', 'extension'))
        )

    plainest = min((kind(item) for item in found), key=lambda pairs: (len(pairs), pairs))
    chosen = [item for item in found if kind(item) == plainest]
    for item in found:
        if item not in chosen:
            reader.findings.note(f'{item.path.name} is not used; {chosen[0].path.name} is')
    reader.findings.files.update(item.path for item in chosen)
    probes = [Probe(reader=reader, role='t1w', found=item, condition=None) for item in chosen]
    return tuple(probe.file for probe in probes if probe.header((3,)) is not None)


# --------------------------------------------------------------------------- acquisitions


def _grouped(
    context: _Context, reader: Reader, found: Sequence[Found], family: str
) -> dict[tuple[str | None, str | None], list[Found]]:
    """Group the files of a family by condition and run; groups that are ambiguous are left out."""
    scans = [Scan(family=family, entities=item.entities) for item in found]
    entity = context.settings.condition_entity
    conditions, unused = assign_conditions(scans, labels=context.plan.labels, entity=entity)
    _report_unused(reader, family, found, conditions, unused)
    groups: dict[tuple[str | None, str | None], list[Found]] = {}
    for index, (item, condition) in enumerate(zip(found, conditions, strict=True)):
        if index not in unused:
            groups.setdefault((condition, item.get('run')), []).append(item)
    return {
        key: items
        for key, items in groups.items()
        if not _report_variants(reader, family, key[0], items)
    }


def _report_unused(
    reader: Reader,
    family: str,
    found: Sequence[Found],
    conditions: Sequence[str | None],
    unused: Sequence[int],
) -> None:
    """Say which files serve no condition, and why."""
    if not unused:
        return
    names = ', '.join(sorted({found[index].path.name for index in unused}))
    if any(conditions):
        reader.findings.note(f'{names}: names no condition while others do; not used')
        return
    message = (
        f'{names}: several {MODALITY[family]} files that name no condition; name it in task- '
        '(or acq- for perfusion), or choose one with --bids-filter-file'
    )
    problem = Problem(role=MAIN_ROLES[family], message=message, file=found[unused[0]].path)
    reader.findings.problem(problem)


def _report_variants(
    reader: Reader, family: str, condition: str | None, found: Sequence[Found]
) -> bool:
    """Tell whether files of one condition and run belong to several acquisitions."""
    variants = {
        tuple(sorted((k, v) for k, v in item.entities.items() if k not in WITHIN_SERIES))
        for item in found
    }
    if len(variants) < 2:
        return False
    common = variants.pop()
    pairs = {pair for one in variants for pair in set(one) ^ set(common)}
    differing = sorted({key for key, _ in pairs})
    message = (
        f'{found[0].path.name}: several acquisitions of the same condition and run, they differ '
        f'in {", ".join(differing)}; choose one with --bids-filter-file, for example '
        f'{{"{MAIN_ROLES[family]}": {{"{differing[0]}": ...}}}}'
    )
    reader.findings.problem(
        Problem(role=MAIN_ROLES[family], message=message, file=found[0].path, condition=condition)
    )
    return True


def _single(
    context: _Context, reader: Reader, found: Sequence[Found], family: str
) -> dict[tuple[str | None, str | None], Found]:
    """Group files of which each condition and run has one."""
    return _one_each(reader, _grouped(context, reader, found, family), family)


def _one_each(
    reader: Reader, groups: Mapping[tuple[str | None, str | None], list[Found]], family: str
) -> dict[tuple[str | None, str | None], Found]:
    """Take the only file of each group; a group of several is a problem."""
    single = {}
    for key, items in groups.items():
        if len(items) == 1:
            single[key] = items[0]
            continue
        names = ', '.join(item.path.name for item in items)
        message = (
            f'{names}: several files where one {MODALITY[family]} is expected; '
            f'{_how_to_choose(MAIN_ROLES[family], items)}'
        )
        problem = Problem(
            role=MAIN_ROLES[family], message=message, file=items[0].path, condition=key[0]
        )
        reader.findings.problem(problem)
    return single


def _how_to_choose(role: str, items: Sequence[Found]) -> str:
    """Say how one of several files is chosen; echoes are not combined."""
    if len({item.get('echo') for item in items}) > 1:
        filters = json.dumps({role: {'echo': items[0].get('echo')}})
        return f'echoes are not combined: choose one with --bids-filter-file, such as {filters}'
    if len({item.get('extension') for item in items}) > 1:
        return 'they differ in their format: remove all but one'
    return 'choose one with --bids-filter-file'


def _echoes(
    context: _Context, reader: Reader, files: Mapping[str, tuple[Found, ...]], family: str
) -> tuple[Any, ...]:
    """Read the multi-echo series of a family, gradient echoes with their redundant sets."""
    role = MAIN_ROLES[family]
    parts = ('megre_phase', 'megre_real', 'megre_imag') if family == 'megre' else ()
    found = [*files[role], *(item for part in parts for item in files[part])]
    found, redundant = _split_redundant(context, reader, found) if parts else (found, {})
    reduced = {
        label: {
            key: _read_parts(reader, role, items, key)
            for key, items in _grouped(context, reader, sets, family).items()
        }
        for label, sets in redundant.items()
    }
    series = []
    counts = {}
    for key, items in _grouped(context, reader, found, family).items():
        made = _read_parts(reader, role, items, key)
        counts[key] = sum(item.get('part') in {None, 'mag'} for item in items) or sum(
            item.get('part') == 'real' for item in items
        )
        if made is None:
            continue
        own = {label: sets[key] for label, sets in reduced.items() if sets.get(key) is not None}
        series.append(add_reduced_sets(reader, made, own) if own else made)
    return _of_equal_length(reader, role, series, counts)


def _split_redundant(
    context: _Context, reader: Reader, found: Sequence[Found]
) -> tuple[list[Found], dict[str, list[Found]]]:
    """Set the files apart that repeat the centre of k-space, by their acq- label."""
    labels = {label.lower(): label for label in context.settings.relaxometry.redundant_sets}
    names = [labels.get((item.get('acquisition') or '').lower()) for item in found]
    full = [item for item, name in zip(found, names, strict=True) if name is None]
    if not full or len(full) == len(found):
        return list(found), {}
    if 'redundant' in context.settings.ignore:
        reader.findings.note('redundant sets of the gradient echo are not used (--ignore)')
        return full, {}
    redundant: dict[str, list[Found]] = {}
    for item, name in zip(found, names, strict=True):
        if name is not None:
            redundant.setdefault(name, []).append(item)
    return full, redundant


def _read_parts(
    reader: Reader, role: str, items: Sequence[Found], key: tuple[str | None, str | None]
) -> Any:
    """Read the parts of one series; None when it cannot be used."""
    parts: dict[str, list[Found]] = {}
    for item in items:
        parts.setdefault(item.get('part') or 'mag', []).append(item)
    condition, run = key
    if not parts.get('mag') and not parts.get('real'):
        _report_no_magnitude(reader, items[0], condition)
        return None
    return read_echoes(reader, role=role, parts=parts, condition=condition, run=run)


def _report_no_magnitude(reader: Reader, item: Found, condition: str | None) -> None:
    """Say that a gradient echo has other parts but no magnitude."""
    message = (
        f'{item.path.name}: this gradient echo has neither magnitude images nor real and '
        'imaginary parts; restore them'
    )
    reader.findings.problem(
        Problem(role='megre_mag', message=message, file=item.path, condition=condition)
    )


def _of_equal_length(
    reader: Reader,
    role: str,
    series: Sequence[Any],
    counts: Mapping[tuple[str | None, str | None], int],
) -> tuple[Any, ...]:
    """Keep the series with as many echoes as the longest of the unit."""
    most = max(counts.values(), default=0)
    kept = []
    for item in series:
        n_echoes = len(item.echo_times)
        if n_echoes == most:
            kept.append(item)
            continue
        message = (
            f'{item.files[0].name}: {n_echoes} echoes where another condition or run has '
            f'{most}; restore the missing files, or choose with --bids-filter-file'
        )
        reader.findings.problem(
            Problem(role=role, message=message, file=item.files[0], condition=item.condition)
        )
    return tuple(kept)


def _asl(
    context: _Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
) -> tuple[tuple[AslSeries, ...], tuple[BoldRun, ...]]:
    """Read the ASL series and BOLD of their echoes; mark an M0 image of several conditions."""
    series: list[AslSeries] = []
    runs = []
    for (condition, run), items in _trains(context, reader, files['asl'], 'asl').items():
        item, *later = items
        (file,), preprocessed = _preprocessed(context, reader, [item], 'asl')
        made = (
            read_asl(reader, file, m0=files['m0'], condition=condition, run=run)
            if preprocessed is None
            else read_cbf(reader, file, preprocessed, condition=condition, run=run)
        )
        if made is None:
            continue
        of_echoes = read_bold_of_asl(reader, item, later, made) if later else None
        runs += [] if of_echoes is None else [of_echoes]
        series += _by_condition(context, reader, made)
    settings = reader.settings
    wanted = settings.perfusion.arrival == 'shared' and len(series) > 0
    if wanted and not arrival_is_shared(series, settings):
        reader.findings.note(
            'the arrival time is not shared: that takes two conditions or more, each with one '
            'series of several delays, all labelled in the same way, and the model multi-delay '
            f'(here: {", ".join(sorted({cbf_model(one, settings) for one in series}))})'
        )
    served: dict[Path | None, set[str | None]] = {}
    for one in series:
        served.setdefault(one.m0.file, set()).add(one.condition)
    marked = tuple(
        replace(
            one,
            m0=replace(one.m0, shared=one.m0.file is not None and len(served[one.m0.file]) > 1),
        )
        for one in series
    )
    return marked, tuple(runs)


def _by_condition(context: _Context, reader: Reader, series: AslSeries) -> list[AslSeries]:
    """Tell the conditions of a task apart that runs within a series."""
    if not series.events:
        return [series]
    shortest, baseline = reader.settings.bold.window_start, context.plan.baseline
    found = sorted({one.trial_type for one in series.events if one.duration > shortest})
    if baseline is not None and baseline not in found and longest_gap(series) > shortest:
        found.append(baseline)
    if baseline not in found or len(found) < 2:
        message = (
            f'{series.file.name}: the task within the series has no baseline to compare with; '
            f'conditions found: {", ".join(found)}; choose one with --baseline'
        )
        reader.findings.problem(Problem(role='asl', message=message, file=series.events_file))
        return []
    reader.findings.note(
        f'{series.file.name}: the conditions {", ".join(found)} are those of the task within it'
    )
    return [replace(series, condition=one, baseline=baseline) for one in found]


def _dsc(
    context: _Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
) -> tuple[DscSeries, ...]:
    """Read the DSC series, or those that the user chose in their place."""
    chosen = context.settings.blood_volume
    found, findings = files['dsc'], reader.findings
    if not found and chosen.from_session is not None:
        label = chosen.from_session.removeprefix('ses-')
        found = tuple(item for item in context.files['dsc'] if item.get('session') == label)
        if found:
            findings.note(f'blood volume is that of session {label} (blood_volume.from_session)')
    series = tuple(
        one
        for (condition, run), item in _single(context, reader, found, 'dsc').items()
        if (one := read_dsc(reader, item, condition=condition, run=run)) is not None
    )
    wanted = chosen.from_condition
    if wanted is None or len({one.condition for one in series}) < 2:
        return series
    findings.note(f'blood volume is that of {wanted} (blood_volume.from_condition)')
    own = tuple(replace(one, condition=None) for one in series if one.condition == wanted)
    if not own:
        labels = ', '.join(sorted(str(one.condition) for one in series))
        message = f'no DSC series of {wanted} (blood_volume.from_condition); there are: {labels}'
        findings.problem(Problem(role='dsc', message=message))
    return own


def _note_blood_volume(
    findings: Findings, inputs: ParticipantInputs, chosen: BloodVolumeSettings
) -> None:
    """Say which blood volume was chosen where it is not measured in each condition."""
    if chosen.model not in (None, 'dsc'):
        findings.note(f'blood volume was chosen: --cbv-model {chosen.model}')
    if chosen.accepted_defects:
        names = ', '.join(chosen.accepted_defects)
        findings.note(f'accepted defects of a DSC series: {names}')
    if not inputs.dsc or not inputs.contrasts:
        return
    if len({series.condition for series in inputs.dsc}) > 1:
        return
    if chosen.task_change == 'none':
        findings.note(
            'one blood volume serves all conditions: it is taken not to change with the task '
            '(blood_volume.task_change)'
        )
        return
    flows = {series.condition for series in inputs.asl}
    if chosen.task_change == 'grubb' and not flows - {None}:
        findings.note('blood volume does not change with the task: no CBF of each condition')
        return
    rule = {'grubb': 'the power law of CBF', 'parcels': f'the table {chosen.parcel_table}'}
    findings.note(f'blood volume changes with the task by {rule[chosen.task_change]}')


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


def _bold(
    context: _Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
) -> tuple[Any, ...]:
    """Read the BOLD runs of the chosen tasks."""
    wanted = _bare(context.run.tasks, 'task-')
    by_task: dict[str, list[Found]] = {}
    for item in files['bold']:
        task = item.entities.get('task', '')
        if not wanted or task in wanted:
            by_task.setdefault(task, []).append(item)
    runs = []
    for task in sorted(by_task):
        for key, items in _trains(context, reader, by_task[task], 'bold').items():
            made = _read_bold(context, reader, items, key)
            runs += [] if made is None else [made]
    return tuple(runs)


def _trains(
    context: _Context, reader: Reader, found: Sequence[Found], family: str
) -> dict[tuple[str | None, str | None], list[Found]]:
    """Group files of which each condition and run has one, or one per echo."""
    groups = _grouped(context, reader, found, family)
    singles = {key: items for key, items in groups.items() if not _is_train(items)}
    known = _one_each(reader, singles, family)
    return {
        key: by_echo(items) for key, items in groups.items() if key in known or key not in singles
    }


def _is_train(items: Sequence[Found]) -> bool:
    """Tell whether files are the echoes of one series."""
    echoes = {item.get('echo') for item in items}
    return len(items) > 1 and None not in echoes and len(echoes) == len(items)


def _read_bold(
    context: _Context,
    reader: Reader,
    items: Sequence[Found],
    key: tuple[str | None, str | None],
) -> BoldRun | None:
    """Read a run, of one echo or of several."""
    files, about = _preprocessed(context, reader, items, 'bold')
    is_combined = len(files) < len(items)
    if is_combined:
        reader.findings.note(
            f'{files[0].path.name} was made from several echoes: its percent change belongs to no '
            'one echo time and is not turned into R2*; write the echoes too '
            '(--me-output-echos of fMRIPrep)'
        )
    condition, run = key
    return read_bold(
        reader,
        files[0],
        condition=condition,
        run=run,
        preprocessed=about,
        others=files[1:],
        is_combined=is_combined,
    )


def _preprocessed(
    context: _Context, reader: Reader, items: Sequence[Found], kind: str
) -> tuple[Sequence[Found], FoundScan | None]:
    """Take what other derivatives hold in the place of the echoes of a raw series."""
    folders = {name: path for name, path in context.run.derivatives.items() if name != 'maps'}
    root = context.info.path
    made = [find_preprocessed(folders, item, root, kind=kind) for item in items]
    if len(items) > 1 and any(isinstance(one, str) for one in made):
        made = [find_preprocessed(folders, items[0], root, kind=kind, is_combined=True)]
    reasons = [one for one in made if isinstance(one, str)]
    if reasons:
        if reasons[0]:
            reader.findings.note(reasons[0])
        return items, None
    found = [one for one in made if not isinstance(one, str)]
    about = found[0][1]
    for file, _ in found:
        reader.findings.note(f'{file.path.name} of the derivatives {about.source} is used')
    reader.findings.files.update(filter(None, (about.transform, about.reference)))
    return [file for file, _ in found], about


# --------------------------------------------------------------------------- conditions


def _with_contrasts(
    context: _Context,
    reader: Reader,
    inputs: ParticipantInputs,
    files: Mapping[str, tuple[Found, ...]],
) -> ParticipantInputs:
    """Add the conditions and contrasts of a unit; say which are lost."""
    settings, plan = context.settings, context.plan
    scans = _scans(files, context.info, context.run, settings)
    own = find_labels(scans, entity=settings.condition_entity, named=plan.labels.all)
    conditions, contrasts = plan_unit(plan, own)
    for contrast in plan.contrasts:
        if contrast in contrasts:
            continue
        found = ', '.join(conditions) or 'none'
        text = f'contrast {contrast.task}-{contrast.baseline} is not made: conditions of {found}'
        text = text.replace('conditions of', f'conditions found in {inputs.label}:')
        if settings.contrasts or settings.baseline:
            reader.findings.problem(Problem(role='conditions', message=text))
        else:
            reader.findings.note(text)
    inputs = replace(inputs, conditions=conditions, contrasts=contrasts)
    _check_events(reader, inputs, own)
    return inputs


def _check_events(reader: Reader, inputs: ParticipantInputs, own: Labels) -> None:
    """Report conditions of quantitative scans that no BOLD run shows."""
    if not inputs.bold or reader.settings.condition_entity == 'ses':
        return
    for contrast in inputs.contrasts:
        runs = runs_for_contrast(
            inputs.bold,
            contrast,
            baseline=inputs.baseline,
            min_gap=reader.settings.bold.window_start,
        )
        if runs or contrast.task not in own.quantitative:
            continue
        file = inputs.bold[0].events_file
        message = (
            f'{file.name}: percent BOLD change of {contrast.task}-{contrast.baseline} cannot be '
            f'made; trial types found: {", ".join(sorted(own.trial_types)) or "none"}, and '
            f'{contrast.baseline} must be listed or be the gaps; correct the table or choose '
            'with --contrasts'
        )
        reader.findings.problem(
            Problem(role='events', message=message, file=file, condition=contrast.task)
        )


def _hint_at_mp2rage(context: _Context, findings: Findings) -> None:
    """Say that there is an image that could be the T1w image, were it named so."""
    for item in context.info.found[context.participant]:
        if item.get('suffix') == 'UNIT1' and item.get('extension') in ('.nii', '.nii.gz'):
            findings.note(
                f'{item.path.name} (MP2RAGE) is not read: give a version of it without the noise '
                'of its background the suffix T1w, and it is'
            )


def _note_absences(
    context: _Context,
    findings: Findings,
    files: Mapping[str, tuple[Found, ...]],
    anatomy: FoundAnatomy | None,
) -> None:
    """Say which modalities are not there."""
    roles = load_roles()
    for family, role in {'t1w': 't1w', **MAIN_ROLES}.items():
        present = acquisitions(files, family) or (
            family == 't1w' and (anatomy or context.files['t1w'])
        )
        if not present:
            ignored = {family, roles[role].ignore} & set(context.settings.ignore)
            reason = ' (--ignore)' if ignored else ''
            findings.note(f'no {MODALITY[family]}{reason}')
            if family == 't1w' and not reason:
                _hint_at_mp2rage(context, findings)
    if context.settings.condition_entity == 'ses' and files['bold']:
        findings.note('BOLD is not compared between sessions')
