"""What would be made from which files, for every participant; nothing is computed or written."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from traceback import format_exc
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import (
    DatasetInfo,
    check_dataset,
    read_dataset,
    select_participants,
)
from bids_app.bids.input.input_map import roles_table, summarise
from bids_app.bids.input.unreadable import drop_unreadable
from bids_app.bids.output.dataset import prepare_output
from bids_app.bids.run.feasible import MADE, capabilities
from bids_app.bids.run.replay import collect_saved, saved_participants
from bids_app.engines.isolated import KILLED
from bids_app.errors import AppError, StepKilledError
from bids_app.workflows._workers import start_worker
from bids_app.workflows.app import relative
from bids_app.workflows.execution import choose_plugin
from bids_app.workflows.progress import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bids_app.bids.input.query import Found
    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import RunSettings, Settings

LOGGER = logging.getLogger('oxybold')

TELL = 10.0
"""Time between lines of the log that say how far a dry run is, s."""

FEW = 20
"""Participants that are read sooner than another process is started."""

MOST_FREQUENT = 5
"""Reasons that the summary lists."""


@dataclass(slots=True, kw_only=True)
class Preview:
    """What a run would make."""

    dataset: str
    notes: tuple[str, ...] = ()
    participants: list[dict[str, Any]] = field(default_factory=list)
    """Label, files by role, units, and what ended the reading of one, if anything did."""
    unused: list[str] = field(default_factory=list)
    """Lines on what an input map did not find or left unused."""


def dry_run(run: RunSettings, settings: Settings) -> str:
    """
    Say what would be made from which files.

    Per participant one line per map, then problems and notes; at last a summary. With `as_json`
    the same as a JSON object. Nothing is written.
    """
    found = make_preview(run, settings)
    if run.as_json:
        return json.dumps(_as_dict(found), indent=2, ensure_ascii=False) + '\n'
    return to_text(found)


def make_preview(run: RunSettings, settings: Settings) -> Preview:
    """Find out what a run would make; arguments as for :func:`dry_run`."""
    _, arguments = choose_plugin(run)
    if run.replay is not None:
        return _replay(run, settings)
    return _participants(run, settings, processes=arguments.get('n_procs', 1))


def _participants(run: RunSettings, settings: Settings, *, processes: int) -> Preview:
    """Read every participant as a run would, with a look into every image."""
    info = read_dataset(run, settings.preset)
    chosen = select_participants(info, run)
    plan = check_dataset(info, run, settings)
    prepare_output(run)
    preview = Preview(dataset=info.name, notes=info.notes, unused=_describe_map(info))
    records = _records(_Reading(info, run, settings, plan), chosen, processes)
    preview.participants.extend(_told(records, len(chosen)))
    return preview


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the reading of one participant asks for."""

    info: DatasetInfo
    run: RunSettings
    settings: Settings
    plan: Any

    def __call__(self, label: str) -> dict[str, Any]:
        """Read one participant."""
        info = self.info
        record: dict[str, Any] = {
            'participant': label,
            'roles': [],
            'units': [],
            'error': '',
        }
        try:
            record['roles'] = _describe_roles(info.found[label], info.path)
            for unit in collect_participant(info, label, self.run, self.settings, plan=self.plan):
                sound = drop_unreadable(unit, at_a_glance=True)
                record['units'].append(_describe_unit(sound, self.settings, info.path))
        except Exception as error:  # nothing that one participant holds may hide the others
            if not isinstance(error, AppError):
                LOGGER.exception('sub-%s: unexpected error', label)
            record['error'] = f'{type(error).__name__}: {error}'
        return record


def _records(reading: _Reading, labels: Sequence[str], processes: int) -> Iterator[dict[str, Any]]:
    """Read participants in turn, or in processes of their own where they are many."""
    processes = min(processes, len(labels) // FEW)
    if processes < 2:
        yield from map(reading, labels)
        return
    # forked, a process has the listing, which is too long to be sent with every participant
    context = multiprocessing.get_context('fork')
    workers, ends = [], []
    for first in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_send, args=(reading, labels[first::processes], theirs))
        worker.start()
        theirs.close()
        workers.append(worker)
        ends.append(ours)
    try:
        for number in range(len(labels)):
            record = ends[number % processes].recv()
            if isinstance(record, Exception):
                raise record
            yield record
    except EOFError as error:
        raise StepKilledError(KILLED) from error
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _send(reading: _Reading, labels: Sequence[str], pipe: Connection) -> None:
    """Read participants one after the other, in a process of their own."""
    try:
        start_worker(os.curdir)
        for label in labels:
            pipe.send(reading(label))
    except Exception as error:  # else the other end takes this process for one that was killed
        error.add_note(format_exc())
        pipe.send(error)


def _told(records: Iterable[Any], count: int) -> Iterator[Any]:
    """Go through participants and say from time to time how far this is."""
    began = told = time.monotonic()
    for number, record in enumerate(records, 1):
        yield record
        now = time.monotonic()
        if now - told > TELL:
            told, left = now, clock((now - began) / number * (count - number))
            LOGGER.info('dry run: %d of %d participants, about %s left', number, count, left)


def _replay(run: RunSettings, settings: Settings) -> Preview:
    """Say what a replay would make."""
    del settings  # those of the earlier run count
    chosen = saved_participants(run)
    prepare_output(run)
    preview = Preview(dataset=run.bids_dir.name)
    for label in chosen:
        units, used = collect_saved(label, run=run, changes=run.replay or {})
        described = [_describe_unit(unit, used, run.bids_dir) for unit in units]
        preview.participants.append(
            {'participant': label, 'roles': [], 'units': described, 'error': ''}
        )
    return preview


def _describe_roles(found: Sequence[Found], root: Path) -> list[dict[str, Any]]:
    """Say which files of a participant play which role."""
    keys = ('role', 'entities', 'path', 'files')
    return [dict(zip(keys, row, strict=True)) for row in roles_table(found, root)]


def _describe_map(info: DatasetInfo) -> list[str]:
    """Say what a role map did not find, and what it left unused."""
    if info.role_map is None or info.listing is None:
        return []
    rows = summarise(info.listing.unused)
    return [
        *(f'input map: nothing matches {path}' for path in info.listing.unmatched),
        f'unused: {len(info.listing.unused)} files play no role in the input map '
        f'{info.role_map.name}',
        *(f'  {count:6d}  {path}' for path, count in rows),
    ]


def _describe_unit(unit: ParticipantInputs, settings: Settings, root: Path) -> dict[str, Any]:
    """Say what one unit can make, and what is wrong with it."""
    maps = [
        {**row, 'files': [relative(path, root) for path in row['files']]}
        for row in capabilities(unit, settings)
    ]
    problems = [
        {
            'role': problem.role,
            'file': relative(problem.file, root) if problem.file else None,
            'message': problem.message,
        }
        for problem in unit.problems
    ]
    missing = [
        {'role': one.role, 'key': one.key, 'value': one.value, 'written_as': one.written_as}
        for one in unit.missing
    ]
    return {
        'label': unit.label,
        'conditions': list(unit.conditions),
        'contrasts': [contrast.label for contrast in unit.contrasts],
        'maps': maps,
        'problems': problems,
        'missing': missing,
        'suspicions': [{'kind': one.kind, 'reason': one.reason} for one in unit.suspicions],
        'warnings': list(unit.warnings),
        'notes': [note for note in unit.notes if note not in unit.warnings],
    }


# --------------------------------------------------------------------------- summary


def summarise_preview(participants: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """
    Count over participants which maps will be made, and what keeps the others from it.

    `maps`: name -> number of participants who get it in one condition or contrast at least;
    `reasons`: the most frequent ones with the number of participants, labels in them replaced by a
    star.
    """
    names = dict.fromkeys(row['map'] for one in participants for row in _rows(one))
    counts = dict.fromkeys(names, 0)
    reasons: Counter[str] = Counter()
    for one in participants:
        for name in {row['map'] for row in _rows(one) if row['state'] == MADE}:
            counts[name] += 1
        reasons.update(_reasons(one))
    listed = [
        {'participants': n, 'reason': text} for text, n in reasons.most_common(MOST_FREQUENT)
    ]
    return {'participants': len(participants), 'maps': counts, 'reasons': listed}


def _rows(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Rows of the maps of a participant."""
    return (row for unit in record['units'] for row in unit['maps'])


def _reasons(record: dict[str, Any]) -> set[str]:
    """Give every reason of a participant once, without its label; not those made up of others."""
    texts = {row['reason'] for row in _rows(record) if row['state'] != MADE}
    texts |= {record['error']}
    texts = {re.sub(r'sub-[0-9A-Za-z+]+', 'sub-*', text) for text in texts if text}
    return {text for text in texts if not any(one != text and one in text for one in texts)}


def _as_dict(preview: Preview) -> dict[str, Any]:
    """Make the JSON object."""
    return {
        'dataset': preview.dataset,
        'notes': list(preview.notes),
        'participants': preview.participants,
        'unused': preview.unused,
        'overrides': suggest_overrides(preview.participants),
        'summary': summarise_preview(preview.participants),
    }


HOW_TO_ADD = (
    'sidecars lack what follows; put true values in the place of "?" (times in s), keep the lines '
    'in a file, and name it with --metadata-overrides:'
)


def suggest_overrides(participants: Sequence[dict[str, Any]]) -> str:
    """
    Write the overrides file that adds what sidecars lack.

    TOML with a question mark for every value that is not known, which is refused as it is; empty
    where nothing is missing.
    """
    wanted: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for record in participants:
        for unit in record['units']:
            for one in unit['missing']:
                found = wanted.setdefault((one['role'], one['key']), {})
                found.setdefault(record['participant'], []).append(one)
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    remarks: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (role, key), found in sorted(wanted.items()):
        place = role, tuple(found) if len(found) < len(participants) else ()
        values = {(one['written_as'], one['value']) for listed in found.values() for one in listed}
        groups.setdefault(place, []).append(f'{key} = "?"')
        remarks.setdefault(place, []).extend(
            f'# {key}: is it {name} = {json.dumps(value)} of the sidecar?'
            for name, value in sorted(values, key=str)
            if name
        )
    blocks = [
        '\n'.join([
            '[[override]]',
            f'match = {{role = "{role}"{f", sub = {json.dumps(labels)}" if labels else ""}}}',
            f'set = {{{", ".join(keys)}}}',
            'source = "protocol of the scan"',
            *remarks[role, labels],
        ])
        for (role, labels), keys in groups.items()
    ]  # fmt: skip
    return '\n\n'.join(blocks)


# --------------------------------------------------------------------------- text


def to_text(preview: Preview) -> str:
    """Write a preview as text."""
    return '\n'.join(_lines(preview)) + '\n'


def _lines(preview: Preview) -> list[str]:
    """Write the lines of a preview."""
    lines = [f'{preview.dataset}: {len(preview.participants)} participant(s)']
    lines += [f'  note: {note}' for note in preview.notes]
    for record in preview.participants:
        lines.append('')
        for row in record['roles']:
            several = f' ({row["files"]} files)' if row['files'] > 1 else ''
            lines.append(f'  {row["role"]:12s} {row["entities"]:28s} {row["path"]}{several}')
        for unit in record['units']:
            lines += _unit_lines(unit)
        if record['error']:
            lines.append(f'sub-{record["participant"]}: cannot be read: {record["error"]}')
    lines += ['', *preview.unused] if preview.unused else []
    overrides = suggest_overrides(preview.participants)
    if overrides:
        lines += ['', HOW_TO_ADD, '', *overrides.splitlines()]
    return lines + _summary_lines(summarise_preview(preview.participants))


def _unit_lines(unit: dict[str, Any]) -> list[str]:
    """Write one unit."""
    conditions = ', '.join(unit['conditions']) or 'none'
    contrasts = ', '.join(unit['contrasts']) or 'none'
    lines = [f'{unit["label"]}: conditions {conditions}; contrasts {contrasts}']
    lines += [_map_line(row) for row in unit['maps']]
    for problem in unit['problems']:
        place = f' [{problem["file"]}]' if problem['file'] else ''
        lines.append(f'  problem: {problem["role"]}: {problem["message"]}{place}')
    lines += [f'  suspicious ({one["kind"]}): {one["reason"]}' for one in unit['suspicions']]
    lines += [f'  warning: {warning}' for warning in unit['warnings']]
    return lines + [f'  note: {note}' for note in unit['notes']]


def _map_line(row: dict[str, Any]) -> str:
    """Write whether one map will be made."""
    name = f'{row["map"]} {row["condition"] or ""}'.strip()
    if row['state'] != MADE:
        return f'  cannot be made {name:28s} {row["state"]}: {row["reason"]}'
    names = [path.rpartition('/')[2] for path in row['files']]
    shown = ', '.join(names[:2]) + (f' and {len(names) - 2} more' if names[2:] else '')
    extra = f' ({row["fallback"]})' if row['fallback'] else ''
    return f'  will be made   {name:28s} from {shown}{extra}'


def _summary_lines(summary: dict[str, Any]) -> list[str]:
    """Write the summary."""
    total = summary['participants']
    lines = ['', f'summary of {total} participant(s)']
    lines += [f'  {name:20s} {count} of {total}' for name, count in summary['maps'].items()]
    if summary['reasons']:
        lines.append('most frequent reasons:')
    return lines + [
        f'  {one["participants"]} of {total}: {one["reason"]}' for one in summary['reasons']
    ]
