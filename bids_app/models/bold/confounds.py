"""Nuisance of a BOLD run, and the published percent change from block medians."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import MAD_TO_SD, ROTATION_RADIUS
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

LARGEST_CORRELATION = 0.99
"""Of successive noise samples, as far as it is believed; no unit; ours."""

ROUNDING = 1e-9
"""Of a signal, below which what is left of it is not noise; no unit."""

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

    See Also
    --------
    drift_sensitivity : What drift adds, which this estimate does not remove.

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

    See Also
    --------
    median_percent_change : The estimate that is sensitive.

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

    See Also
    --------
    median_percent_change : What it is compared with.

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


def expand_motion(motion: ArrayLike) -> FloatArray:
    """
    Make 24 columns of six parameters of motion: they, their steps, and the squares of both.

    Parameters
    ----------
    motion : (T, 6) array_like
        Shifts and turns, any unit.

    Returns
    -------
    columns : (T, 24) ndarray
        The step of the first volume is 0.

    See Also
    --------
    framewise_displacement : One number per volume.

    References
    ----------
    .. [1] Friston et al., Magn Reson Med 35:346, 1996; Satterthwaite et al., NeuroImage 64:240,
       2013. doi:10.1016/j.neuroimage.2012.08.052

    Examples
    --------
    >>> expand_motion(np.arange(12.0).reshape(2, 6)).shape
    (2, 24)
    """
    motion = np.asarray(motion, float)
    steps = np.diff(motion, axis=0, prepend=motion[:1])
    both = np.column_stack([motion, steps])
    return np.column_stack([both, both**2])


def framewise_displacement(motion: ArrayLike) -> FloatArray:
    """
    Add up how far the head moved between volumes.

    Parameters
    ----------
    motion : (T, 6) array_like
        Shifts (mm), then turns (rad).

    Returns
    -------
    displacement : (T,) ndarray
        mm; 0 for the first volume.

    See Also
    --------
    relative_dvars : The same question asked of the signal.

    Notes
    -----
    The sum of the absolute steps of the six parameters, turns on a sphere of 50 mm.

    References
    ----------
    .. [1] Power et al., NeuroImage 59:2142, 2012. doi:10.1016/j.neuroimage.2011.10.018

    Examples
    --------
    >>> framewise_displacement([[0, 0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0, -0.002]]).round(6)
    array([0. , 0.2])
    """
    steps = np.abs(np.diff(np.asarray(motion, float), axis=0))
    per_volume = steps[:, :3].sum(axis=1) + ROTATION_RADIUS * steps[:, 3:].sum(axis=1)
    return np.concatenate([[0.0], per_volume])


def relative_dvars(series: ArrayLike) -> FloatArray:
    """
    Measure the change of the whole image from volume to volume.

    Parameters
    ----------
    series : (V, T) array_like
        Signal, any unit.

    Returns
    -------
    dvars : (T,) ndarray
        Root mean square over voxels of the step from the volume before, relative to the median
        of the run; 1 for the first volume, and for all of a series that does not change.

    See Also
    --------
    framewise_displacement : The same question asked of the motion.

    Notes
    -----
    Each voxel counts relative to its own noise (median absolute step), so that large vessels
    and edges do not decide.

    References
    ----------
    .. [1] Power et al., NeuroImage 59:2142, 2012. doi:10.1016/j.neuroimage.2011.10.018

    Examples
    --------
    >>> relative_dvars([[1.0, 2.0, 1.0, 2.0, 8.0, 7.0]]).round(1)
    array([1., 1., 1., 1., 6., 1.])
    """
    steps = np.diff(np.asarray(series, float), axis=1)
    noise = MAD_TO_SD * np.median(np.abs(steps), axis=1, keepdims=True)
    usable = (noise > 0) & np.isfinite(noise)
    scaled = np.divide(steps, noise, out=np.zeros_like(steps), where=usable)
    size = np.sqrt(np.mean(scaled**2, axis=0))
    middle = np.median(size) if size.size else 0.0
    if not middle > 0:
        return np.ones(np.shape(series)[1])
    return np.concatenate([[1.0], size / middle])


def noise_components(series: ArrayLike, n_components: int, *, n_half_waves: int = 0) -> FloatArray:
    """
    Find the common courses of voxels that hold no task: white matter and fluid (CompCor).

    Parameters
    ----------
    series : (V, T) array_like
        Signal of these voxels; those that do not change or are not finite are left out.
    n_components : int
        How many courses.
    n_half_waves : int
        The mean, and cosines of up to so many half waves in the run, are removed first.

    Returns
    -------
    components : (T, n_components) ndarray
        Orthonormal; fewer columns where there are fewer voxels or volumes.

    Raises
    ------
    ModelInputError
        If there is no voxel, or the series has not two axes.

    References
    ----------
    .. [1] Behzadi et al., NeuroImage 37:90, 2007. doi:10.1016/j.neuroimage.2007.04.042

    Examples
    --------
    >>> wave = np.sin(np.arange(20.0))
    >>> noise = np.array([1.0, 2.0, -1.0])[:, None] * wave
    >>> found = noise_components(noise, 1)[:, 0]
    >>> round(abs(np.corrcoef(found, wave)[0, 1]), 6)
    np.float64(1.0)
    """
    series = np.asarray(series, float)
    if series.ndim != 2:
        msg = f'a series (V, T) is expected, got {series.shape}'
        raise ModelInputError(msg)
    phase = np.pi * (np.arange(series.shape[1]) + 1 / 2) / series.shape[1]
    columns = np.cos(np.multiply.outer(phase, np.arange(n_half_waves + 1)))
    series = series[np.isfinite(series).all(axis=1)]
    residuals = series - series @ np.linalg.pinv(columns).T @ columns.T
    spread = residuals.std(axis=1)
    usable = spread > ROUNDING * np.abs(series).max(axis=1)
    if not usable.any():
        msg = 'no voxel of white matter or fluid to take noise components from'
        raise ModelInputError(msg)
    scaled = residuals[usable] / spread[usable, None]
    _, _, courses = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(courses[:n_components].T)
