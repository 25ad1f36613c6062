"""What a perfect measurement of the study would give, on the quantification grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bids_app.phantom import physics
from bids_app.phantom.acquisition import BOLUS_PEAK
from bids_app.phantom.participant import T1, baseline_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray
    from bids_app.phantom.acquisition import DscScan, Labeling
    from bids_app.phantom.design import TaskTiming
    from bids_app.phantom.participant import Participant

N_ITERATIONS = 30
"""Gauss-Newton steps of the mono-exponential fit; it converges in fewer than ten."""

PERCENT = 100.0


def fit_decay(signal: FloatArray, echo_times: Sequence[float]) -> FloatArray:
    """
    Fit one exponential by least squares in signal space.

    Parameters
    ----------
    signal : (..., E) ndarray
        Noise-free trains.
    echo_times : (E,) sequence of float
        s.

    Returns
    -------
    rate : (...) ndarray
        1/s; NaN where there is no signal.

    Notes
    -----
    The amplitude is eliminated (variable projection): with e = exp(-TE r), A = (e.s)/(e.e), the
    rate solves e'.(s - A e) = 0, by Gauss-Newton from the two-point estimate.
    """
    times = np.asarray(echo_times, float)
    shape = signal.shape[:-1]
    trains = signal.reshape(-1, len(times))
    rate = np.full(len(trains), np.nan)
    present = trains.min(axis=1) > 1e-9
    s = trains[present]
    r = np.log(s[:, 0] / s[:, -1]) / (times[-1] - times[0])
    for _ in range(N_ITERATIONS):
        e = np.exp(-np.outer(r, times))
        energy = (e * e).sum(1)
        amplitude = (e * s).sum(1) / energy
        slope = -times * e
        projected = slope - ((slope * e).sum(1) / energy)[:, None] * e
        step = (projected * (s - amplitude[:, None] * e)).sum(1)
        r = r + step / (amplitude * (projected**2).sum(1))
    rate[present] = r
    return rate.reshape(shape)


def measured_cbf(
    difference: FloatArray, m0: FloatArray, scan: Labeling, delays: ArrayLike
) -> FloatArray:
    """Perfect CBF (X, Y, Z), mL/100 g/min, of images with these post label delays (s)."""
    recovered = m0 / physics.saturation_recovery(scan.repetition_time, T1[0])
    return physics.white_paper_cbf(
        difference,
        recovered,
        label_duration=scan.label_duration,
        post_label_delay=delays,
        efficiency=scan.efficiency,
    )


def measured_cbv(first_pass: FloatArray, scan: DscScan) -> FloatArray:
    """
    Give the perfect blood volume of a DSC scan on its own grid.

    Parameters
    ----------
    first_pass : (X, Y, Z, T) ndarray
        Noise-free signal without recirculation.
    scan : DscScan
        Protocol.

    Returns
    -------
    cbv : (X, Y, Z) ndarray
        Area of the change of R2* relative to that of pure white matter times its blood volume,
        mL/mL; NaN where there is no signal.
    """
    course, _ = physics.bolus(scan.times, arrival=scan.arrival)
    with np.errstate(divide='ignore', invalid='ignore'):
        change = -np.log(first_pass / first_pass[..., :1]) / scan.echo_time
    # pure white matter has area BOLUS_PEAK x its volume x sum(course): the volume cancels
    return np.asarray(change.sum(-1) / (BOLUS_PEAK * course.sum()))


def measured_bold(
    states: FloatArray, design: TaskTiming, times: FloatArray, condition: str
) -> FloatArray:
    """
    Give the perfect percent change of a task by its windows, on the grid of the run.

    Parameters
    ----------
    states : (X, Y, Z, C) ndarray
        Steady state of the baseline, then of every task of the design.
    design : TaskTiming
        Blocks.
    times : (T,) ndarray
        Of the volumes, s.
    condition : str
        A task.

    Returns
    -------
    percent : (X, Y, Z) ndarray
        100 (mean over the task's windows / mean over the baseline's - 1); NaN without signal.
    """
    means = _window_means(states, design, times, condition)
    with np.errstate(divide='ignore', invalid='ignore'):
        percent = PERCENT * (means[0] / means[1] - 1)
    return np.where(states[..., 0] > 1e-6, percent, np.nan)


def measured_bold_r2_star(
    states: Sequence[FloatArray],
    echo_times: Sequence[float],
    design: TaskTiming,
    times: FloatArray,
    condition: str,
) -> FloatArray:
    """Give the perfect change of R2* (X, Y, Z), 1/s, of a task from the states of every echo."""
    means = [_window_means(one, design, times, condition) for one in states]
    task, baseline = (np.stack(one, axis=-1) for one in zip(*means, strict=True))
    return fit_decay(task, echo_times) - fit_decay(baseline, echo_times)


def _window_means(
    states: FloatArray, design: TaskTiming, times: FloatArray, condition: str
) -> list[FloatArray]:
    """Average the noise-free run over the windows of a task and of the baseline."""
    responses = design.responses(times)
    change = states[..., 1:] - states[..., :1]
    return [
        states[..., 0] + change @ responses[:, design.window(name, times)].mean(1)
        for name in (condition, design.baseline)
    ]


@dataclass(slots=True, eq=False)
class Truth:
    """Perfect maps on the quantification grid, and what follows from them."""

    participant: Participant
    conditions: tuple[str, ...]
    r2: FloatArray
    """1/s"""
    cbv: FloatArray
    """mL/mL"""
    r2_star: dict[str, FloatArray] = field(default_factory=dict)
    """1/s per condition."""
    cbf: dict[str, FloatArray] = field(default_factory=dict)
    """mL/100 g/min per condition."""
    bold: dict[str, FloatArray] = field(default_factory=dict)
    """Percent per task."""
    bold_r2_star: dict[str, FloatArray] = field(default_factory=dict)
    """Change of R2* per task from the echoes of BOLD, 1/s; empty where it has one."""

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return baseline_of(self.conditions)

    @property
    def tasks(self) -> tuple[str, ...]:
        """All other conditions."""
        return tuple(name for name in self.conditions if name != self.baseline)

    def r2_prime(self, condition: str) -> FloatArray:
        """R2* minus R2, 1/s."""
        return self.r2_star[condition] - self.r2

    def oef(self, condition: str) -> FloatArray:
        """Oxygen extraction fraction; NaN where there is no blood volume."""
        rate = self.participant.static_dephasing_constant
        with np.errstate(divide='ignore', invalid='ignore'):
            oef = self.r2_prime(condition) / (rate * self.cbv)
        return np.where(self.cbv > 1e-4, oef, np.nan)

    def cmro2(self, condition: str) -> FloatArray:
        """Oxygen metabolism, umol/100 g/min."""
        return self.participant.oxygen_content * self.cbf[condition] * self.oef(condition)

    def change(self, quantity: str, task: str) -> FloatArray:
        """
        Difference of a quantity between a task and the baseline.

        (X, Y, Z), for cbf, oef, cmro2 or R2prime, in its unit.
        """
        if quantity == 'cbf':
            return self.cbf[task] - self.cbf[self.baseline]
        make = {'oef': self.oef, 'cmro2': self.cmro2, 'R2prime': self.r2_prime}[quantity]
        return make(task) - make(self.baseline)


def contrast_label(task: str, baseline: str) -> str:
    """Name a contrast, such as calcMinusControl."""
    return f'{task}Minus{baseline[:1].upper()}{baseline[1:]}'
