"""Block design of the task run: onsets, windows, and what the windows see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.phantom import physics
from bids_app.phantom.participant import baseline_of

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray

BLOCK = 30.0
"""Length of a block, s."""

WINDOW_START = 6.0
"""A block counts from this time after its start, s (the first 5 volumes are dropped)."""

SLOTS = {
    'rest': (0.0, 150.0, 270.0, 390.0),
    'mem': (30.0, 120.0, 210.0, 450.0),
    'calc': (60.0, 180.0, 300.0, 360.0),
    'control': (90.0, 240.0, 330.0, 420.0),
}
"""Onsets of the target study's main group, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTiming:
    """Which task runs when; everything else is the baseline."""

    baseline: str
    tasks: dict[str, tuple[float, ...]]
    """Onsets, s."""
    length: float
    """Of the run, s."""

    @property
    def events(self) -> list[tuple[float, float, str]]:
        """Rows (onset, duration, trial type) in order; the baseline is not listed."""
        rows = [(onset, BLOCK, name) for name, onsets in self.tasks.items() for onset in onsets]
        return sorted(rows)

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Start and end of every stretch of baseline, s."""
        borders = [0.0]
        for onset, duration, _ in self.events:
            borders += [onset, onset + duration]
        borders.append(self.length)
        pairs = zip(borders[::2], borders[1::2], strict=True)
        return [(start, end) for start, end in pairs if end > start]

    def responses(self, times: FloatArray) -> FloatArray:
        """Response to every task relative to its plateau, (tasks, T)."""
        return np.array(
            [physics.haemodynamic_response(on, BLOCK, times) for on in self.tasks.values()]
        )

    def window(self, condition: str, times: FloatArray) -> BoolArray:
        """Volumes that count for a condition, (T,)."""
        blocks = [(onset, onset + BLOCK) for onset in self.tasks.get(condition, ())]
        if condition == self.baseline:
            blocks = self.gaps
        inside = [(times >= a + WINDOW_START - 1e-6) & (times < b - 1e-6) for a, b in blocks]
        return np.asarray(np.any(inside, axis=0))


def make_design(conditions: tuple[str, ...], *, length: float) -> TaskTiming:
    """
    Give every condition but the baseline its four blocks.

    Onsets in s. Conditions of the target study keep theirs, others take the slots that are free;
    the baseline is what is left.

    Raises
    ------
    ValueError
        If there are more tasks than slots.
    """
    baseline = baseline_of(conditions)
    tasks = [name for name in conditions if name != baseline]
    free = [name for name in SLOTS if name not in tasks and name not in (baseline, 'control')]
    unknown = [name for name in tasks if name not in SLOTS]
    if len(unknown) > len(free):
        msg = f'the run has blocks for three tasks beside the baseline, got {len(tasks)}: {tasks}'
        raise ValueError(msg)
    onsets = {name: SLOTS[name] for name in tasks if name in SLOTS}
    onsets |= {name: SLOTS[slot] for name, slot in zip(unknown, reversed(free), strict=False)}
    return TaskTiming(
        baseline=baseline, tasks={name: onsets[name] for name in tasks}, length=length
    )
