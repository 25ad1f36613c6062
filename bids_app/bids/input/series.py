"""Files of one participant to acquisitions: echoes, arterial spin labeling, bolus, BOLD."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import (
    Plan,
    Scan,
    assign_conditions,
    longest_gap,
    normalise,
)
from bids_app.bids.input.dataset import (
    MAIN_ROLES,
    MODALITY,
    WITHIN_SERIES,
    DatasetInfo,
    bare_labels,
)
from bids_app.bids.input.metadata.asl import read_asl, read_cbf
from bids_app.bids.input.metadata.bold import read_bold, read_bold_of_asl
from bids_app.bids.input.metadata.dsc import read_dsc
from bids_app.bids.input.metadata.echoes import by_echo
from bids_app.bids.input.metadata.relaxometry import add_reduced_sets, read_echoes
from bids_app.bids.input.preprocessed import find_preprocessed
from bids_app.bids.input.query import (
    Found,
)
from bids_app.bids.input.sidecar import (
    Findings,
    Reader,
)
from bids_app.bids.input.tedana import TEDANA, find_denoised
from bids_app.bids.run.feasible import arrival_is_shared, cbf_model
from bids_app.bids.scans import ParticipantInputs, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app.bids.scans import AslSeries, BoldRun, DscSeries, FoundScan
    from bids_app.settings import BloodVolumeSettings, RunSettings, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
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


def _grouped(
    context: Context, reader: Reader, found: Sequence[Found], family: str
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


def single_file(
    context: Context, reader: Reader, found: Sequence[Found], family: str
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


def echo_series(
    context: Context, reader: Reader, files: Mapping[str, tuple[Found, ...]], family: str
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
    context: Context, reader: Reader, found: Sequence[Found]
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


def _without_trust(reader: Reader, found: tuple[Found, ...]) -> tuple[Found, ...]:
    """Leave out series that are named as TRUST, which labels venous blood; say what to give."""
    trust = [
        item for item in found if normalise(item.get('acquisition') or '').startswith('trust')
    ]
    for item in trust:
        reader.findings.note(
            f'{item.path.name} is not read: a TRUST series tells T2 of venous blood, which serves '
            'as a number (column T2v or Yv of sessions.tsv or participants.tsv, oxygen.venous_t2)'
        )
    return tuple(item for item in found if item not in trust)


def asl_series(
    context: Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
) -> tuple[tuple[AslSeries, ...], tuple[BoldRun, ...]]:
    """Read the ASL series and BOLD of their echoes; mark an M0 image of several conditions."""
    series: list[AslSeries] = []
    runs = []
    labelled = _without_trust(reader, files['asl'])
    for (condition, run), items in _trains(context, reader, labelled, 'asl').items():
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


def _by_condition(context: Context, reader: Reader, series: AslSeries) -> list[AslSeries]:
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


def dsc_series(
    context: Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
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
        for (condition, run), item in single_file(context, reader, found, 'dsc').items()
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


def note_blood_volume(
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


def bold_runs(
    context: Context, reader: Reader, files: Mapping[str, tuple[Found, ...]]
) -> tuple[Any, ...]:
    """Read the BOLD runs of the chosen tasks."""
    wanted = bare_labels(context.run.tasks, 'task-')
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
    context: Context, reader: Reader, found: Sequence[Found], family: str
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
    context: Context,
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
            '(--me-output-echos of fMRIPrep, --verbose of tedana)'
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
    context: Context, reader: Reader, items: Sequence[Found], kind: str
) -> tuple[Sequence[Found], FoundScan | None]:
    """Take what other derivatives hold in the place of the echoes of a raw series."""
    folders = {name: path for name, path in context.run.derivatives.items() if name != 'maps'}
    root = context.info.path
    if kind == 'bold' and TEDANA in folders:
        denoised = find_denoised(folders, items, root)
        if not isinstance(denoised, str):
            return _note_used(reader, *denoised)
        reader.findings.note(f'{denoised}; the series without it is used')
        del folders[TEDANA]
    made = [find_preprocessed(folders, item, root, kind=kind) for item in items]
    if len(items) > 1 and any(isinstance(one, str) for one in made):
        made = [find_preprocessed(folders, items[0], root, kind=kind, is_combined=True)]
    reasons = [one for one in made if isinstance(one, str)]
    if reasons:
        if reasons[0]:
            reader.findings.note(reasons[0])
        return items, None
    found = [one for one in made if not isinstance(one, str)]
    return _note_used(reader, [file for file, _ in found], found[0][1])


def _note_used(
    reader: Reader, files: Sequence[Found], about: FoundScan
) -> tuple[Sequence[Found], FoundScan]:
    """Say which derivatives are used, and remember what the result depends on."""
    for file in files:
        reader.findings.note(f'{file.path.name} of the derivatives {about.source} is used')
    needed = (about.transform, about.reference, about.components, about.classification)
    reader.findings.files.update(filter(None, needed))
    return files, about
