"""
How far a cohort is: logs/progress.json, which schedulers, notebooks and ``oxybold status`` read.

Every job on an output merges what it knows of its participants into the one file, under a lock. It
is written as a whole and only informs: where it cannot be written the run goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import bids_app
from bids_app.bids.output.dataset import check_version, lock, read_summaries
from bids_app.bids.output.names import output_path
from bids_app.bids.output.write import atomic_write, to_json
from bids_app.bids.run.outcome import GOOD, State
from bids_app.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bids_app.bids.run.outcome import Verdict

RUNNING, WAITING, LOST = 'running', 'waiting', 'lost'
"""States beside those of verdicts; lost: it was running, and its process is gone."""

SILENT = 3600.0
"""A participant that runs on another host and said nothing for so long may be lost, s."""

MOST_REASONS = 3
"""Reasons of a participant that are kept."""


def now() -> str:
    """Give the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec='seconds')


def read_progress(output_dir: Path) -> dict[str, Any]:
    """Read the file; empty where there is none that can be read."""
    try:
        content = json.loads((output_dir / output_path('progress')).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _merge(
    output_dir: Path,
    participants: Mapping[str, Mapping[str, Any]],
    steps: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Change what the file says of some participants."""
    if not (output_dir / output_path('dataset_description')).is_file():
        return  # the output was deleted, and is not made anew
    with contextlib.suppress(OSError), lock(output_dir, 'progress', is_said=False):
        content = read_progress(output_dir)
        known = content.get('participants', {}) | participants
        content = {
            'app': 'oxybold',
            'version': bids_app.__version__,
            'updated': now(),
            'participants': dict(sorted(known.items())),
            'steps': _add_steps(content.get('steps', {}), steps or {}),
        }
        atomic_write(output_dir / output_path('progress'), to_json(content))


def _add_steps(
    known: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Add the steps of one participant to what is known of those of all."""
    steps = {name: dict(about) for name, about in known.items()}
    for name, step in new.items():
        if 'seconds' not in step:
            continue  # it failed
        about = steps.setdefault(name, {'n': 0, 'seconds': 0.0, 'longest': 0.0, 'memory_mb': 0.0})
        about['n'] += 1
        about['seconds'] = round(about['seconds'] + step['seconds'], 2)
        about['longest'] = round(max(about['longest'], step['seconds']), 2)
        about['memory_mb'] = round(max(about['memory_mb'], step.get('memory_mb', 0.0)))
    return steps


def note_waiting(output_dir: Path, participants: Iterable[str]) -> None:
    """
    Note the participants a command is going to serve.

    What is known of those that another job is at work on stays.
    """
    known = read_progress(output_dir).get('participants', {})
    waiting = {
        label: known.get(label, {}) | {'state': WAITING, 'updated': now()}
        for label in participants
        if _state_now(known.get(label, {})) != RUNNING
    }
    _merge(output_dir, waiting)


def note_running(
    output_dir: Path,
    participant: str,
    *,
    steps: Mapping[str, Mapping[str, float]] | None = None,
    **about: Any,
) -> None:
    """
    Note how far a participant is.

    `steps` come once its graph has ended: step that was computed -> seconds and memory_mb.
    """
    entry = {
        'state': RUNNING,
        'updated': now(),
        'host': socket.gethostname(),
        'process': os.getpid(),
        **about,
    }
    _merge(output_dir, {participant: entry}, steps)


def note_end(output_dir: Path, verdict: Verdict, seconds: float) -> None:
    """Note the verdict on a participant, and the seconds it took."""
    entry = {
        'state': str(verdict.state),
        'updated': now(),
        'exit_code': int(verdict.code),
        'seconds': round(seconds, 1),
        'reasons': list(verdict.reasons[:MOST_REASONS]),
    }
    _merge(output_dir, {verdict.participant: entry})


def _state_now(entry: Mapping[str, Any]) -> str:
    """Give the state of a participant; one whose process is gone is lost."""
    state = str(entry.get('state', WAITING))
    if state != RUNNING:
        return state
    if entry.get('host') == socket.gethostname():
        return RUNNING if _is_alive(int(entry.get('process', 0))) else LOST
    with contextlib.suppress(ValueError, TypeError):
        silent = time.time() - datetime.fromisoformat(str(entry['updated'])).timestamp()
        return RUNNING if silent < SILENT else LOST
    return LOST


def _is_alive(process: int) -> bool:
    """Tell whether a process of this host runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def cohort(output_dir: Path) -> dict[str, Any]:
    """
    Give what is known of all participants of an output.

    As logs/progress.json, with the state each participant has now; participants of runs that wrote
    no such file are added from their summaries.

    Raises
    ------
    SelectionError
        If the folder holds no results.
    SettingsError
        If it was made by another program.
    """
    check_version(output_dir)
    content = read_progress(output_dir)
    participants = {
        summary['participant']: {
            'state': summary['verdict']['state'],
            'exit_code': summary['verdict']['exit_code'],
            'reasons': summary['verdict']['reasons'][:MOST_REASONS],
        }
        for summary in read_summaries(output_dir)
    } | content.get('participants', {})
    if not participants:
        msg = f'{output_dir} holds no participant yet; run the participant level first'
        raise SelectionError(msg)
    for label, entry in participants.items():
        participants[label] = dict(entry) | {'state': _state_now(entry)}
    return content | {'participants': dict(sorted(participants.items()))}


def describe(found: Mapping[str, Any]) -> list[str]:
    """Write lines on a cohort: how many are in which state, what runs, what is left and why."""
    participants: Mapping[str, Mapping[str, Any]] = found['participants']
    states = [entry['state'] for entry in participants.values()]
    order = [*map(str, State), RUNNING, WAITING, LOST]
    counts = {state: states.count(state) for state in order if state in states}
    lines = [f'{len(states)} participant(s): ' + ', '.join(f'{n} {s}' for s, n in counts.items())]
    for label, entry in participants.items():
        state = entry['state']
        if state == RUNNING:
            lines.append(f'  sub-{label}: running, {_how_far(entry)}')
        elif state == LOST:
            lines.append(f'  sub-{label}: its process ended without a verdict; run it again')
        elif state not in GOOD and state != WAITING:
            reasons = '; '.join(entry.get('reasons', ())) or 'no reason is known'
            lines.append(f'  sub-{label}: {state} ({reasons})')
    left = [label for label, entry in participants.items() if entry['state'] not in GOOD]
    if left:
        lines.append(f'left: --participant-label {" ".join(left)}')
    slowest = sorted(
        found.get('steps', {}).items(), key=lambda item: -item[1]['seconds'] / item[1]['n']
    )
    for name, step in slowest[:5]:
        lines.append(
            f'  step {name}: {step["seconds"] / step["n"]:.1f} s on average of {step["n"]:.0f}, '
            f'{step["memory_mb"]:.0f} MB at most'
        )
    return lines


def _how_far(entry: Mapping[str, Any]) -> str:
    """Say how far a participant is."""
    text = f'{entry.get("steps_done", 0)} of {entry.get("n_steps", "?")} steps'
    left = entry.get('seconds_left')
    text += f', about {left:.0f} s left' if left is not None else ''
    at_work = entry.get('at_work', {})
    return text + (f'; at work: {", ".join(at_work)}' if at_work else '')
