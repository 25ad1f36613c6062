"""Percent BOLD change of two conditions, from medians of blocks or from R2*."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

LARGEST_CORRELATION = 0.99
"""Of successive noise samples, as far as it is believed; no unit; ours."""

SLOW_DRIFTS: Mapping[str, float] = {'Linear': 0.0, 'HalfCycle': 1.0, 'FullCycle': 2.0}
"""Drifts whose effect on block medians is told -> half waves of a cosine in the run; 0: a line."""


def median_percent_change(
    series: ArrayLike, task_window: ArrayLike, baseline_window: ArrayLike
) -> Estimate:
    r"""
    Compute the percent change as the published analysis does: from medians over blocks.

    Parameters
    ----------
    series : (V, T) array_like
        BOLD signal, arbitrary unit.
    task_window, baseline_window : (T,) array_like of bool
        Volumes of the two conditions; disjoint, neither empty.

    Returns
    -------
    change : Estimate
        (V,), percent of the baseline median. NO_SIGNAL where the series is constant,
        INVALID_INPUT where it is not finite, NO_REFERENCE where the baseline is not positive.

    Raises
    ------
    ModelInputError
        If a window is empty, the windows overlap or shapes do not fit.

    Notes
    -----
    .. math:: B_0 = \operatorname{median}_{W_b} S, \qquad
              p = \operatorname{median}_{W_t} 100\,(S - B_0) / B_0

    without filter or regression [1]_. The variance is that of two medians of a Gaussian process
    of first-order autoregression with correlation :math:`\rho_{ij}` of the samples i and j,

    .. math:: \operatorname{cov}(m_a, m_b) =
              \frac{\sigma^2}{n_a n_b} \sum_{i \in a, j \in b} \arcsin \rho_{ij}

    with power and correlation of successive samples taken from the deviations from the median
    of their window; drift that lasts through a window enters them.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> series = np.array([[100.0, 101.0, 99.0, 102.0, 103.0, 101.0]])
    >>> task = np.array([False, False, False, True, True, True])
    >>> median_percent_change(series, task, ~task).value
    array([2.])
    """
    data = np.asarray(series, float)
    windows = [np.asarray(one, bool) for one in (task_window, baseline_window)]
    task, baseline = windows
    if data.ndim != 2 or any(one.shape != data.shape[1:] for one in windows):
        shapes = [one.shape for one in windows]
        msg = f'series (V, T) and windows (T,) expected, got {data.shape} and {shapes}'
        raise ModelInputError(msg)
    if not task.any() or not baseline.any() or (task & baseline).any():
        msg = 'task and baseline windows must hold volumes, and not the same ones'
        raise ModelInputError(msg)

    used = task | baseline
    finite = np.isfinite(data[:, used]).all(axis=1)
    clean = np.where(finite[:, None], data, 0.0)
    medians = np.array([np.median(clean[:, one], axis=1) for one in windows])
    reference = np.where(medians[1] > 0, medians[1], np.nan)
    ratio = medians[0] / reference
    deviation = np.where(task, clean - medians[0][:, None], clean - medians[1][:, None])
    power, correlation = _noise_in_windows(deviation, task, baseline)
    sums = _arcsine_sums(correlation, task, baseline)
    spread = power * (sums[0] - 2 * ratio * sums[1] + ratio**2 * sums[2])

    constant = np.ptp(clean[:, used], axis=1) == 0
    status = np.where(constant, Status.NO_SIGNAL, Status.OK)
    status = np.where(finite, status, Status.INVALID_INPUT)
    lacks_reference = (status == Status.OK) & np.isnan(reference)
    return Estimate.of(
        (ratio - 1) / PERCENT,
        spread / (PERCENT * reference) ** 2,
        np.where(lacks_reference, Status.NO_REFERENCE, status),
        int(used.sum()) - 2,
    )


def _noise_in_windows(
    deviation: FloatArray, task: BoolArray, baseline: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Give power and correlation of successive samples, (V,), of deviations (V, T)."""
    used = task | baseline
    power = np.sum(deviation[:, used] ** 2, axis=1) / max(int(used.sum()) - 2, 1)
    together = (task[1:] & task[:-1]) | (baseline[1:] & baseline[:-1])
    products = deviation[:, 1:] * deviation[:, :-1]
    lagged = products[:, together].sum(axis=1) / max(int(together.sum()), 1)
    correlation = np.divide(lagged, power, out=np.zeros_like(power), where=power > 0)
    return power, np.clip(correlation, -LARGEST_CORRELATION, LARGEST_CORRELATION)


def _arcsine_sums(correlation: FloatArray, task: BoolArray, baseline: BoolArray) -> FloatArray:
    """Average arcsin(rho_ij) over pairs of the windows: task, between them, baseline; (3, V)."""
    weights = [one / one.sum() for one in (task, baseline)]
    lags = np.arange(len(task))
    sums = []
    for first, second in ((0, 0), (0, 1), (1, 1)):
        both = np.correlate(weights[first], weights[second], 'full')
        middle = len(task) - 1
        per_lag = both[middle:] + both[middle::-1]
        per_lag[0] = both[middle]
        sums.append(np.arcsin(correlation[:, None] ** lags) @ per_lag)
    return np.array(sums)


def drift_sensitivity(task_window: ArrayLike, baseline_window: ArrayLike) -> dict[str, float]:
    """
    Tell what slow drift adds to a percent change from block medians.

    Parameters
    ----------
    task_window, baseline_window : (T,) array_like of bool
        Volumes of the two conditions.

    Returns
    -------
    sensitivity : dict of str to float
        Percent change per percent of drift from its lowest to its highest value: of a line that
        rises, of a half and of a full cycle of a cosine over the run.

    Examples
    --------
    >>> task = np.arange(4) > 1
    >>> round(drift_sensitivity(task, ~task)['Linear'], 2)
    0.67
    """
    task, baseline = (np.asarray(one, bool) for one in (task_window, baseline_window))
    position = np.arange(len(task))
    sensitivity = {}
    for name, half_waves in SLOW_DRIFTS.items():
        phase = np.pi * half_waves * (position + 1 / 2) / len(task)
        drift = np.cos(phase) / 2 if half_waves else position / max(len(task) - 1, 1)
        sensitivity[name] = float(np.median(drift[task]) - np.median(drift[baseline]))
    return sensitivity


def bold_from_r2_star(task: Estimate, baseline: Estimate, *, echo_time: float) -> Estimate:
    r"""
    Predict the percent BOLD change from R2* measured in two conditions.

    Parameters
    ----------
    task, baseline : (V,) Estimate
        R2*, 1/s.
    echo_time : float
        Of the BOLD run, s; positive.

    Returns
    -------
    change : (V,) Estimate
        Percent; the errors of the two are independent.

    Raises
    ------
    ModelInputError
        If the echo time is not positive.

    Notes
    -----
    .. math:: p = -100\,TE\,(R^*_{2,task} - R^*_{2,baseline})

    Valid for small changes; changes of the signal at echo time 0 (inflow, volume) are not in it.

    Examples
    --------
    >>> change = bold_from_r2_star(Estimate.of([19.5]), Estimate.of([20.0]), echo_time=0.03)
    >>> change.value.round(6)
    array([1.5])
    """
    if not echo_time > 0:
        msg = f'echo_time must be positive (s), got {echo_time}'
        raise ModelInputError(msg)
    factor = -echo_time / PERCENT
    return Estimate.of(
        factor * (task.value - baseline.value),
        factor**2 * (task.variance + baseline.variance),
        combine_status(task.status, baseline.status),
    )
