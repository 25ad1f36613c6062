"""One participant: its anatomy, acquisitions, conditions and what is wrong with them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import (
    Labels,
    Plan,
    find_labels,
    plan_unit,
    runs_for_contrast,
)
from bids_app.bids.input.dataset import (
    MAIN_ROLES,
    MODALITY,
    DatasetInfo,
    acquisitions,
    bare_labels,
    check_dataset,
    scans_of,
    sessions_of,
)
from bids_app.bids.input.gases import read_gases
from bids_app.bids.input.metadata.fieldmaps import choose_field_map, read_field_maps
from bids_app.bids.input.metadata.relaxometry import read_ase
from bids_app.bids.input.participants import read_blood
from bids_app.bids.input.query import (
    TEMPLATE,
    Found,
    assign_roles,
    find_anatomy,
    load_roles,
    parse_name,
)
from bids_app.bids.input.series import (
    Context,
    asl_series,
    bold_runs,
    dsc_series,
    echo_series,
    note_blood_volume,
    single_file,
)
from bids_app.bids.input.sidecar import (
    Findings,
    Probe,
    Reader,
    load_overrides,
    note_links,
    read_field_strength,
)
from bids_app.bids.input.surfaces import SIDES, lacking_surfaces, standard_meshes
from bids_app.bids.input.tedana import TEDANA
from bids_app.bids.input.templates import other_templates
from bids_app.bids.input.venous import read_venous_blood
from bids_app.bids.scans import FoundAnatomy, ParticipantInputs, Problem, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app.settings import RunSettings, Settings


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

    Give one per session (one in all without sessions, or with sessions as conditions). Headers,
    sidecars and tables have been read, voxels not; whatever is wrong with the data is in
    `problems`, all of it at once. The plan is made anew when it is not given.

    Raises
    ------
    AppError
        Only for what :func:`~bids_app.bids.input.dataset.check_dataset` raises.
    """
    plan = plan or check_dataset(info, run, settings)
    found = info.found[participant]
    files, twins = _without_twins(
        assign_roles(found, filters=run.bids_filters, ignore=settings.ignore)
    )
    context = Context(
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
    return _with_fields(
        _collect_unit(context, session, _of_session(files, session)) for session in _units(context)
    )


def _with_fields(units: Iterable[ParticipantInputs]) -> tuple[ParticipantInputs, ...]:
    """Say it of every session where sessions were measured in fields of different strength."""
    units = tuple(units)
    known = {unit.session: unit.b0 for unit in units if math.isfinite(unit.b0)}
    if len(set(known.values())) < 2:
        return units
    listed = ', '.join(f'ses-{name} at {b0:g} T' for name, b0 in known.items())
    text = (
        f"sessions in fields of different strength ({listed}): T2, T2* and R2' depend on it and "
        'must not be averaged or compared; at the group level sessions of a participant are '
        'averaged, so choose by --session-label into outputs of their own'
    )
    return tuple(
        replace(one, notes=(*one.notes, text), warnings=(*one.warnings, text)) for one in units
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


def _units(context: Context) -> list[str | None]:
    """Sessions to work on: those with more than a T1w image, or all when none has more."""
    found = {
        item.get('session')
        for family in MAIN_ROLES
        for item in acquisitions(context.files, family)
    }
    found = found or {item.get('session') for item in context.files['t1w']}
    wanted = set(bare_labels(context.run.sessions, 'ses-'))
    if wanted:
        found &= wanted
    elif not found:
        found = {None}
    return sorted(found, key=str)


def _collect_unit(
    context: Context, session: str | None, files: Mapping[str, tuple[Found, ...]]
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
    mese = echo_series(context, reader, files, 'mese')
    megre = echo_series(context, reader, files, 'megre')
    ase = tuple(
        one
        for (condition, run), item in single_file(context, reader, files['ase'], 'ase').items()
        if (one := read_ase(reader, item, condition=condition, run=run)) is not None
    )
    asl, of_asl = asl_series(context, reader, files)
    dsc = dsc_series(context, reader, files)
    bold = (*bold_runs(context, reader, files), *of_asl)
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
    read_gases(reader, inputs, files['physio'])
    read_venous_blood(reader, inputs)
    inputs = _with_field_maps(reader, inputs, files['fieldmaps'])
    note_links(findings, context.info.path)
    _note_absences(context, findings, files, anatomy)
    note_blood_volume(findings, inputs, context.settings.blood_volume)
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


def _suspicions(context: Context, files: Mapping[str, Sequence[Found]]) -> tuple[Suspicion, ...]:
    """Give those of the files of a unit."""
    used = {item.path for found in files.values() for item in found}
    known = context.info.suspects.get(context.participant, ())
    return tuple(suspicion for suspicion in known if suspicion.file in used)


def _note_role_map(context: Context, findings: Findings) -> None:
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
    context: Context, reader: Reader, session: str | None
) -> tuple[FoundAnatomy | None, tuple[Path, ...]]:
    """Take the anatomy from other derivatives, else find T1w images."""
    findings = reader.findings
    derivatives = {} if 't1w' in context.settings.ignore else context.run.derivatives
    for name, path in derivatives.items():
        if name == 'maps':  # of the group level
            continue
        anatomy = find_anatomy(name, path, context.participant, session)
        if isinstance(anatomy, str):
            if name not in {'aslprep', TEDANA}:  # they need not copy the anatomy they were given
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
        surfaces = _surfaces(context, findings, anatomy)
        findings.files.update([*files, anatomy.csf, *filter(None, transforms), *others, *surfaces])
        return anatomy, ()
    for mesh in standard_meshes(context.settings.output_spaces):
        findings.note(
            f'nothing is made on the surface {mesh.name}: oxybold reconstructs no cortex; give '
            'the derivatives of fMRIPrep with -d fmriprep=PATH'
        )
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
    context: Context, findings: Findings, anatomy: FoundAnatomy
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


def _surfaces(context: Context, findings: Findings, anatomy: FoundAnatomy) -> tuple[Path, ...]:
    """Choose the surfaces that are wanted; say which are not there."""
    known = dict(anatomy.surfaces)
    chosen: list[Path] = []
    for mesh in standard_meshes(context.settings.output_spaces):
        lacking = lacking_surfaces(anatomy.surfaces, mesh)
        if lacking:
            findings.note(
                f'derivatives {anatomy.source}: no {", ".join(lacking)} beside the T1w image; '
                f'nothing is made on the surface {mesh.name}'
            )
            continue
        names = ('white', 'pial', mesh.space)
        chosen += [known[f'{side}_{name}'] for side in SIDES for name in names]
    return tuple(chosen)


def _t1w(context: Context, reader: Reader, session: str | None) -> tuple[Path, ...]:
    """Choose T1w images: of the session, else in no session, else of the first that has one."""
    found = context.files['t1w']
    places = [session, None, *sorted(sessions_of(found))]
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
    """Keep the runs of the plainest kind of T1w image, else of UNIT1, with a readable header."""

    def kind(item: Found) -> tuple[tuple[str, str], ...]:
        return tuple(
            sorted((k, v) for k, v in item.entities.items() if k not in ('run', 'extension'))
        )

    plainest = min(
        (kind(item) for item in found),
        key=lambda pairs: (('suffix', 'T1w') not in pairs, len(pairs), pairs),
    )
    chosen = [item for item in found if kind(item) == plainest]
    for item in found:
        if item not in chosen:
            reader.findings.note(f'{item.path.name} is not used; {chosen[0].path.name} is')
    if chosen[0].get('suffix') == 'UNIT1':
        reader.findings.note(
            f'{chosen[0].path.name} (MP2RAGE) is the T1w image; its noisy background is cleared'
        )
    reader.findings.files.update(item.path for item in chosen)
    probes = [Probe(reader=reader, role='t1w', found=item, condition=None) for item in chosen]
    return tuple(probe.file for probe in probes if probe.header((3,)) is not None)


def _with_contrasts(
    context: Context,
    reader: Reader,
    inputs: ParticipantInputs,
    files: Mapping[str, tuple[Found, ...]],
) -> ParticipantInputs:
    """Add the conditions and contrasts of a unit; say which are lost."""
    settings, plan = context.settings, context.plan
    scans = scans_of(files, context.info, context.run, settings)
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


def _note_absences(
    context: Context,
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
    if context.settings.condition_entity == 'ses' and files['bold']:
        findings.note('BOLD is not compared between sessions')
