"""Progress that people can follow: one live line in a terminal, plain log lines elsewhere."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.dataset import HIDDEN
from bids_app.bids.output.write import atomic_write, to_json
from bids_app.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOGGER = logging.getLogger('oxybold')

LONG_STEP = 10.0
"""Steps that took longer get a line in a plain log, s."""

TICK = 1.0
"""The live line is drawn anew so often, s."""

PUBLISH = 10.0
"""The file that others watch is written anew at most so often, s."""

CLEAR = '\r\x1b[2K'
"""Empties the line of a terminal."""

TIMES = 'step_times.json'
"""File in the hidden folder of the output: what every step took the last time, s."""


@dataclass(slots=True, eq=False)
class Progress:
    """
    What the steps of one graph do; nipype calls it before and after each.

    Parameters
    ----------
    label : str
        Of the participant and session.
    n_steps : int
        Of the graph.
    n_processes : int
        Steps that may run at once.
    expected : dict of str to float
        Step to the time it took before, s; updated as steps end.
    is_live : bool
        Draw one line that changes, instead of log lines.
    """

    label: str
    n_steps: int
    n_processes: int
    expected: dict[str, float] = field(default_factory=dict)
    is_live: bool = False
    began: float = field(default_factory=time.monotonic)
    running: dict[str, float] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    steps: tuple[str, ...] = ()
    """Names of all steps, for the time that is left."""
    publish: Callable[[dict[str, Any]], None] | None = None
    """Takes what :meth:`as_dict` gives, every :data:`PUBLISH` seconds."""
    published: float = -PUBLISH
    took: dict[str, dict[str, float]] = field(default_factory=dict)
    """Step that was computed -> seconds and memory_mb."""

    def __call__(self, node: Any, status: str) -> None:
        """Note that a step starts, has ended, or has failed."""
        name = step_name(node)
        if status == 'start':
            self.running[name] = time.monotonic()
            if _is_reused(node):
                self.reused.add(name)
        elif status == 'exception':
            self.running.pop(name, None)
            self.failed.append(name)
            LOGGER.error('%s: %s failed; its report says why', self.label, name)
        else:
            self._end(name)
        if self.is_live:
            self.draw()
        if time.monotonic() - self.published > PUBLISH:
            self.tell()

    def tell(self, **more: Any) -> None:
        """Say how far the graph is to whoever takes it."""
        self.published = time.monotonic()
        if self.publish is not None:
            self.publish(self.as_dict() | more)

    def note_memory(self, node: Any, megabytes: float) -> None:
        """Note the most memory that a step took, of its process or a child."""
        self.took.setdefault(step_name(node), {})['memory_mb'] = megabytes

    def as_dict(self) -> dict[str, Any]:
        """Say how far the graph is, for a file."""
        now = time.monotonic()
        left = self.left()
        return {
            'unit': self.label,
            'steps_done': len(self.done),
            'n_steps': self.n_steps,
            'failed': list(self.failed),
            'at_work': {name: round(now - start, 1) for name, start in self.running.items()},
            'seconds': round(now - self.began, 1),
            'seconds_left': None if left is None else round(left, 1),
        }

    def _end(self, name: str) -> None:
        """Note that a step has ended; one that never started was found done."""
        start = self.running.pop(name, None)
        self.done.add(name)
        if start is None or name in self.reused:
            self.reused.add(name)
            LOGGER.debug('%s: %s reused', self.label, name)
            return
        took = time.monotonic() - start
        self.expected[name] = took
        self.took.setdefault(name, {})['seconds'] = took
        level = logging.INFO if took >= LONG_STEP and not self.is_live else logging.DEBUG
        LOGGER.log(level, '%s: %s took %s; %s', self.label, name, clock(took), self.state())

    def left(self) -> float | None:
        """Estimate how long the graph still takes, s; None where most steps were never timed."""
        waiting = [name for name in self.steps if name not in self.done | set(self.failed)]
        known = [self.expected[name] for name in waiting if name in self.expected]
        if 2 * len(known) < len(waiting):
            return None
        now = time.monotonic()
        spent = [min(now - start, self.expected.get(name, 0.0))
                 for name, start in self.running.items()]  # fmt: skip
        return max(0.0, (sum(known) - sum(spent)) / self.n_processes)

    def state(self) -> str:
        """Say how far the graph is, in words."""
        elapsed, left = time.monotonic() - self.began, self.left()
        parts = [f'{len(self.done)} of {self.n_steps} steps']
        parts += [f'{len(self.reused)} reused'] if self.reused else []
        parts += [f'{len(self.failed)} failed'] if self.failed else []
        parts += [f'{clock(elapsed)} elapsed']
        parts += [f'about {clock(left)} left'] if left is not None else []
        return ', '.join(parts)

    def line(self) -> str:
        """Write the live line: the participant, what is at work and since when, and how far."""
        now = time.monotonic()
        at_work = [
            f'{name} {clock(now - start)}'
            + (f' of {clock(self.expected[name])}' if name in self.expected else '')
            for name, start in list(self.running.items())
        ]
        return f'{self.label}: {self.state()} | {"; ".join(at_work) or "..."}'

    def draw(self) -> None:
        """Draw the live line over the last one; past Python's buffers, as workers are forked."""
        width = shutil.get_terminal_size().columns - 1
        _write(f'{CLEAR}{self.line()[:width]}')

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the live line up to date, out of the way of log lines; clear it in the end."""
        if not self.is_live:
            yield
            return
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(TICK):
                self.draw()

        def clear(_: logging.LogRecord) -> bool:
            _write(CLEAR)
            return True

        ticker = threading.Thread(target=tick, name='progress', daemon=True)
        LOGGER.addFilter(clear)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()
            LOGGER.removeFilter(clear)
            _write(CLEAR)


def _write(text: str) -> None:
    """Write to the terminal; one that was closed is no reason to stop."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode())


def step_name(node: Any) -> str:
    """Give the name of a node without that of the whole graph."""
    return str(node.fullname).partition('.')[2] or str(node.fullname)


def _is_reused(node: Any) -> bool:
    """Tell whether nipype will take the result of an earlier run."""
    return all(node.is_cached()) and not node.interface.always_run


def clock(seconds: float) -> str:
    """
    Write a duration.

    Examples
    --------
    >>> clock(8.2), clock(95), clock(7384)
    ('8 s', '1:35 min', '2:03 h')
    """
    if seconds < 60:
        return f'{seconds:.0f} s'
    whole = round(seconds)
    if whole < 3600:
        return f'{whole // 60}:{whole % 60:02d} min'
    return f'{whole // 3600}:{whole % 3600 // 60:02d} h'


def read_times(output_dir: Path) -> dict[str, float]:
    """Read what every step took the last time; empty where nothing is known."""
    try:
        found = json.loads((output_dir / HIDDEN / TIMES).read_text('utf-8'))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_times(output_dir: Path, times: dict[str, float]) -> None:
    """Keep what every step took; a folder that cannot be written costs the estimate only."""
    try:
        atomic_write(output_dir / HIDDEN / TIMES, to_json(times))
    except OutputError as error:
        LOGGER.debug('%s', error)
