"""Loop over participants: collect, build, run, judge, record. Nothing one does harms another."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import (
    check_dataset,
    check_selection,
    inventory_file,
    read_dataset,
    select_participants,
)
from bids_app.bids.input.suspect_scans import flag_suspicious
from bids_app.bids.input.unreadable import drop_unreadable
from bids_app.bids.output.dataset import (
    check_private,
    check_standing,
    check_writable,
    lock,
    prepare_output,
    update_shared,
    work_dir_of,
)
from bids_app.bids.output.manifest import (
    changed_files,
    check_manifest,
    input_files,
    participant_digest,
    read_manifest,
    remove_manifest,
    remove_stale,
    stamps,
    work_name,
    write_manifest,
)
from bids_app.bids.output.names import output_path
from bids_app.bids.output.write import write_json, write_text
from bids_app.bids.products import PRODUCTS
from bids_app.bids.run.cohort import note_end, note_waiting
from bids_app.bids.run.coverage import doubts_of_brain, is_result, poor_maps
from bids_app.bids.run.feasible import capabilities
from bids_app.bids.run.outcome import (
    MACHINE_CODES,
    Aftermath,
    RunVerdict,
    State,
    Verdict,
    combine,
    interrupted,
    judge,
    participant_summary,
    run_error,
    skipped,
)
from bids_app.bids.run.replay import collect_saved, saved_participants
from bids_app.bids.run.scan_summary import scan_records
from bids_app.bids.scans import Problem
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.errors import AppError, ExitCode, OutputError
from bids_app.reports.citations import citation_bibtex, citation_markdown
from bids_app.reports.render import finish, render_index, render_participant
from bids_app.settings import to_toml
from bids_app.workflows.constants import constants_table
from bids_app.workflows.execution import choose_plugin
from bids_app.workflows.recovery import paths_of, run_unit, sidecar_of
from bids_app.workflows.step_errors import StepError, as_app_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import RunSettings, Settings

    Collect = Callable[[str], tuple[Sequence[ParticipantInputs], Settings]]

LOGGER = logging.getLogger('oxybold')


def relative(path: Path, root: Path) -> str:
    """Path below the dataset."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def run_participants(run: RunSettings, settings: Settings) -> RunVerdict:
    """
    Run the participant level.

    Raises
    ------
    AppError
        For what concerns the run as a whole: settings, selection, output.
    """
    run = replace(run, derivatives={SAVED: run.bids_dir}) if run.replay is not None else run
    chosen, collect, keep = _source(run, settings)
    choose_plugin(run)  # a plugin file that cannot be used is said before anything is computed
    prepare_output(run)
    keep()
    note_waiting(run.output_dir, chosen)
    verdicts: list[Verdict] = []
    units: list[ParticipantInputs] = []
    spent: list[float] = []
    for position, participant in enumerate(chosen, start=1):
        LOGGER.info('sub-%s (%d of %d): starts', participant, position, len(chosen))
        began = time.monotonic()
        found, verdict = _serve(participant, collect, run)
        units += found
        verdicts.append(verdict)
        note_end(run.output_dir, verdict, time.monotonic() - began)
        LOGGER.info('%s', verdict.text)
        if verdict.state != State.SKIPPED:
            spent.append(time.monotonic() - began)
            LOGGER.info('%s', pace(participant, spent, len(chosen) - position))
        if verdict.code == ExitCode.INTERRUPTED:
            verdicts += [interrupted(rest) for rest in chosen[position:]]
            break
        if run.stop_on_first_crash and not verdict.is_good:
            break
    if units:  # none was collected where the run was stopped at once
        check_selection(units)
    later = Aftermath()
    try:
        later.attempt('index.html', lambda: update_shared(run.output_dir, render_index))
    except OutputError as error:
        return run_error(error, verdicts)
    return later.amend_run(combine(verdicts))


SAVED = 'replayed'
"""Name of the earlier run among the sources of a replay."""


def _source(
    run: RunSettings, settings: Settings
) -> tuple[tuple[str, ...], Collect, Callable[[], None]]:
    """
    Find the participants and how one is collected: from raw data, or from an earlier run.

    The third is called once the output is there, to keep what planning learnt of the dataset.
    """
    if run.replay is not None:
        collect_again = partial(collect_saved, run=run, changes=run.replay)
        return saved_participants(run), collect_again, lambda: None
    info = read_dataset(run, settings.preset)
    chosen = select_participants(info, run)
    plan = check_dataset(info, run, settings)
    for note in info.notes:
        LOGGER.warning('%s', note)
    for path in info.listing.unmatched if info.listing else ():
        LOGGER.warning('input map: nothing matches %s', path)

    def collect(participant: str) -> tuple[Sequence[ParticipantInputs], Settings]:
        return collect_participant(info, participant, run, settings, plan=plan), settings

    def keep() -> None:
        if info.inventory is not None and info.inventory.n_read:
            info.inventory.save(inventory_file(run))

    return chosen, collect, keep


def pace(participant: str, spent: Sequence[float], n_left: int) -> str:
    """
    Say how long a participant took, and how long the rest will take at that pace.

    In s; participants that are up to date will take less.

    Examples
    --------
    >>> pace('02', [30.0, 34.0], 3)
    'sub-02: took 34 s; 3 to go, at most about 2 min'
    >>> pace('05', [3600.0], 0)
    'sub-05: took 60 min'
    """
    text = f'sub-{participant}: took {_duration(spent[-1])}'
    if not n_left:
        return text
    expected = n_left * sum(spent) / len(spent)
    return f'{text}; {n_left} to go, at most about {_duration(expected)}'


def _duration(seconds: float) -> str:
    """Write a time as one would say it."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 7200 else f'{seconds / 3600:.1f} h'


def _serve(
    participant: str,
    collect: Callable[[str], tuple[Sequence[ParticipantInputs], Settings]],
    run: RunSettings,
) -> tuple[Sequence[ParticipantInputs], Verdict]:
    """Collect and run one participant; whatever ends it becomes its verdict, on record."""
    found: Sequence[ParticipantInputs] = ()
    try:
        found, settings = collect(participant)
        with lock(run.output_dir, f'sub-{participant}'):
            return found, run_participant(found, run, settings)
    except KeyboardInterrupt:
        verdict = interrupted(participant)
    except Exception as error:  # nothing that one participant does may harm another
        reason = as_app_error(error, _folders(run))
        if not isinstance(reason, AppError):
            LOGGER.exception('sub-%s: unexpected error', participant)
        verdict = judge(participant, error=reason)
    _record_end(run, verdict)
    return found, verdict


def _folders(run: RunSettings) -> dict[str, Path]:
    """Name the folders that are written to, each with something that lies in it."""
    work, output = work_dir_of(run), run.output_dir
    description = output / output_path('dataset_description')  # steps may make the folder anew
    return {f'the work directory {work}': work, f'the output {output}': description}


def _record_end(run: RunSettings, verdict: Verdict) -> None:
    """Put a verdict on record that was reached early or after the records were written."""
    if not (run.output_dir / output_path('dataset_description')).is_file():
        return  # deleted during the run; it is not made anew
    entities = {'sub': verdict.participant}
    summary = participant_summary(verdict, command=run.command, units=[])
    with contextlib.suppress(OSError):
        # on a full disk the summary finds room where the one it replaces was; none is better
        # than one that says otherwise
        if verdict.code in MACHINE_CODES:
            for key in ('run_summary', 'participant_report'):
                (run.output_dir / output_path(key, **entities)).unlink(missing_ok=True)
        write_json(summary, output_dir=run.output_dir, key='run_summary', entities=entities)


def run_participant(
    found: Sequence[ParticipantInputs], run: RunSettings, settings: Settings
) -> Verdict:
    """
    Run one participant: all its sessions.

    Never an exception for the fault of data: others must go on.
    """
    from bids_app.bids.input.lost_volumes import drop_lost_volumes

    participant = found[0].participant
    readable = (drop_unreadable(unit) for unit in found)
    dummy_scans = settings.bold.dummy_scans
    units = tuple(
        flag_suspicious(drop_lost_volumes(unit, dummy_scans=dummy_scans)) for unit in readable
    )
    before = stamps(input_files(units, settings))
    digest = participant_digest(units, settings, roots=(run.bids_dir, *run.derivatives.values()))
    reason = check_manifest(run.output_dir, participant, digest)
    if reason is None:
        return skipped(participant)
    LOGGER.info('sub-%s: computing, because %s', participant, reason)
    check_standing(run)
    check_writable(work_dir_of(run))
    previous = read_manifest(run.output_dir, participant)
    remove_manifest(run.output_dir, participant)
    work_dir = work_dir_of(run) / work_name(participant, digest)
    work_dir.mkdir(parents=True, exist_ok=True)
    check_private(work_dir, is_trusted=run.trust_work_dir)
    later = Aftermath()
    records = [_run_unit(unit, run, settings, work_dir, later) for unit in units]
    check_standing(run)
    changed = [_changed(path) for path in changed_files(before)]
    verdict = _judge(participant, units, records, changed)
    written = {Path(path) for record in records for path in record['written']}
    remove_stale(run.output_dir, previous, written)  # the report shows what it finds
    verdict = _write_records(run, settings, verdict, records, later)
    write_manifest(run.output_dir, verdict, digest, work_dir=work_dir)
    is_done = verdict.is_good and not run.keep_work and run.work_dir is None
    if is_done or changed:  # of a changed input nobody knows what was made from which bytes
        shutil.rmtree(work_dir, ignore_errors=True)
    elif not verdict.is_good:
        LOGGER.warning('sub-%s: intermediate files are kept in %s', participant, work_dir)
    return verdict


def _changed(path: Path) -> Problem:
    """Say that an input is not what it was when the run began."""
    message = f'{path.name} was changed while the run used it; run the same command again'
    return Problem(role='inputs', message=message, file=path)


def _run_unit(
    unit: ParticipantInputs,
    run: RunSettings,
    settings: Settings,
    work_dir: Path,
    later: Aftermath,
) -> dict[str, Any]:
    """Build and run the graph of one unit, and say what became of it."""
    from bids_app.workflows._engine import methods_text, to_mermaid
    from bids_app.workflows.graph import find_scans, word_of
    from bids_app.workflows.multiverse import add_multiverse

    done = run_unit(unit, settings=settings, run=run, work_dir=work_dir)
    unit, expected, errors = done.inputs, done.expected, done.errors
    graph = ''
    if expected:
        graph = later.attempt('graph', lambda: to_mermaid(done.workflow), '')
        expected += later.attempt(
            'multiverse', lambda: add_multiverse(unit, run, settings, work_dir), []
        )
    methods, _ = later.attempt('methods', lambda: methods_text(done.workflow), ('', ()))
    paths = paths_of(expected, run.output_dir)
    gone = [path for path in paths if not path.is_file()] if not errors else []
    errors += [_lost(path, run.output_dir) for path in gone[:1]]
    later.missing += later.attempt(
        'coverage', lambda: poor_maps(expected, paths, run.output_dir), []
    )
    scans = find_scans(unit)
    return {
        'label': unit.label,
        'session': unit.session,
        'conditions': list(unit.conditions),
        'baseline': unit.baseline,
        'contrasts': [
            {'task': c.task, 'baseline': c.baseline, 'label': c.label} for c in unit.contrasts
        ],
        'space': word_of(scans[0]) if scans else 'T1w',
        'scans': later.attempt('scans', lambda: scan_records(unit, run.bids_dir), []),
        'notes': list(unit.notes),
        'suspicions': [
            {'kind': one.kind, 'condition': one.condition, 'reason': one.reason}
            for one in unit.suspicions
        ],
        'problems': [
            {
                'role': problem.role,
                'file': relative(problem.file, run.bids_dir) if problem.file else None,
                'message': problem.message,
                'code': int(problem.code),
            }
            for problem in unit.problems
        ],
        'values': [asdict(value) for value in constants_table(unit, settings)],
        'maps': _maps_made(unit, settings, expected, paths, errors=errors, root=run.bids_dir),
        'graph': graph,
        'methods': methods,
        'errors': [asdict(error) for error in errors],
        'doubts': later.attempt('doubts', lambda: doubts_of_brain(expected, paths), []),
        'has_results': any(
            path.is_file() and is_result(key)
            for (key, _), path in zip(expected, paths, strict=True)
        ),
        'written': [
            str(path) for path in paths for path in (path, sidecar_of(path)) if path.is_file()
        ],
    }


def _lost(path: Path, root: Path) -> StepError:
    """Say that a file is not there although every step ended well."""
    message = f'{relative(path, root)} was written, and is gone: did something delete it?'
    return StepError(node='output', message=message, trace='', code=int(ExitCode.IO_ERROR))


def _maps_made(
    unit: ParticipantInputs,
    settings: Settings,
    expected: Sequence[tuple[str, dict[str, Any]]],
    paths: Sequence[Path],
    *,
    errors: Sequence[StepError],
    root: Path,
) -> list[dict[str, Any]]:
    """Table of the maps: made, absent, defective or failed, and why."""
    lost = {
        _map_name(key, entities)
        for (key, entities), path in zip(expected, paths, strict=True)
        if not path.is_file()
    }
    names = {_map_name(key, entities) for key, entities in expected}
    rows = []
    for row in capabilities(unit, settings):
        name = (row['map'], row['condition'])
        if unit.saved is not None:
            if name not in names and (row['map'], None) not in names:
                continue  # a replay says nothing of what it does not make
            row['state'], row['reason'] = 'made', ''
        row['files'] = [relative(path, root) for path in row['files']]
        if row['state'] == 'made' and (name in lost or (row['map'], None) in lost):
            row['state'] = 'failed'
            row['reason'] = '; '.join(error.message for error in errors) or 'a step failed'
        rows.append(row)
    return rows


def _map_name(key: str, entities: dict[str, Any]) -> tuple[str, str | None]:
    """Name and condition that the dry run uses for a file."""
    if key == 'contrast':
        quantity = entities['quantity']
        prefix = '' if quantity.startswith('bold') else 'change_'
        return f'{prefix}{quantity}', entities['contrast']
    if key == 'brain_mask' and entities.get('space') == TEMPLATE:
        return 'template', None
    named = {'preproc_t1w': 'anatomy'} | {one.row: one.label for one in PRODUCTS.values()}
    return named.get(key, key), entities.get('contrast') or entities.get('condition')


def _judge(
    participant: str,
    units: Sequence[ParticipantInputs],
    records: Sequence[dict[str, Any]],
    changed: Sequence[Problem] = (),
) -> Verdict:
    """Judge a participant from what its units made."""
    rows = [row for record in records for row in record['maps']]
    errors = [error for record in records for error in record['errors']]
    codes = [ExitCode(error['code']) for error in errors]
    problems = [problem for unit in units for problem in unit.problems]
    is_sound = not (errors or problems or changed) and any(record['written'] for record in records)
    signs = [f'suspicious ({one.kind}): {one.reason}' for u in units for one in u.suspicions]
    signs += [warning for unit in units for warning in unit.warnings]
    signs += [doubt for record in records for doubt in record['doubts']]
    verdict = judge(
        participant,
        absences=_absences(rows),
        problems=[*changed, *problems],
        errors=dict.fromkeys(f'{error["node"]}: {error["message"]}' for error in errors),
        made_anything=is_sound or any(record['has_results'] for record in records),
        step_code=max(codes, default=ExitCode.SOFTWARE),
    )
    return replace(verdict, reasons=(*verdict.reasons, *dict.fromkeys(signs)))


def _absences(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say once what is absent, and every map that it costs; defects are said by the problems."""
    absent = [row for row in rows if row['state'] == 'absent' and row['reason']]
    reasons = dict.fromkeys(row['reason'] for row in absent)
    sentences = []
    for reason in reasons:
        if any(other != reason and other in reason for other in reasons):
            continue  # made up of others
        lost = dict.fromkeys(row['map'] for row in absent if reason in row['reason'])
        sentences.append(f'{reason}: no {", ".join(lost)}')
    return sentences


def _write_records(
    run: RunSettings,
    settings: Settings,
    verdict: Verdict,
    records: Sequence[dict[str, Any]],
    later: Aftermath,
) -> Verdict:
    """Write settings, citations, summary and report of a participant; what fails is missing."""
    target: dict[str, Any] = {
        'output_dir': run.output_dir,
        'entities': {'sub': verdict.participant},
    }
    inner = ('written', 'has_results')
    units = [
        {key: value for key, value in record.items() if key not in inner} for record in records
    ]
    methods = '\n\n'.join(dict.fromkeys(record['methods'] for record in records))

    def record(told: Verdict) -> None:
        """Write the summary, from which the report is made."""
        summary = participant_summary(told, command=run.command, units=units)
        write_json(summary, key='run_summary', **target)

    write_text(to_toml(settings), key='settings', **target)
    for key, cite in (('citation_md', citation_markdown), ('citation_bib', citation_bibtex)):
        text = later.attempt(key, partial(cite, methods), '')
        write_text(text, key=key, **target)
    if run.write_graph:
        for unit in units:
            entities = {'sub': verdict.participant, 'ses': unit['session']}
            write_text(unit['graph'], output_dir=run.output_dir, key='graph', entities=entities)
    render = partial(render_participant, run.output_dir, verdict.participant)
    return finish(verdict, later, record=record, render=render)


def rebuild_reports(run: RunSettings) -> RunVerdict:
    """
    Make the reports anew from the derivatives alone.

    The verdict is that of the last run, read back from its summaries.
    """
    from bids_app.bids.output.dataset import read_summaries
    from bids_app.errors import SelectionError

    summaries = {item['participant']: item for item in read_summaries(run.output_dir)}
    wanted = run.participants or tuple(summaries)
    unknown = [label for label in wanted if label not in summaries]
    if unknown or not wanted:
        msg = (
            f'{run.output_dir} has no results of {", ".join(unknown) or "any participant"}; '
            f'there are: {", ".join(summaries) or "none"}'
        )
        raise SelectionError(msg)
    verdicts = []
    for participant in wanted:
        later = Aftermath()
        report = later.attempt('report', partial(render_participant, run.output_dir, participant))
        if report:
            later.missing += report.missing
            LOGGER.info('sub-%s: report made anew: %s', participant, report.path)
        verdicts.append(later.amend(Verdict.from_summary(summaries[participant])))
    update_shared(run.output_dir, render_index)
    return replace(
        combine(verdicts), reasons=(f'reports made anew: {len(wanted)}, nothing computed',)
    )
