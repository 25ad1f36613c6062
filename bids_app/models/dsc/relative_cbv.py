"""Relative cerebral blood volume: the area under a bolus of contrast agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import median_filter

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    BOLUS_ARRIVAL_FRACTION,
    BOLUS_ARRIVAL_NOISE,
    BOLUS_LOOK_AHEAD,
    BOLUS_MINIMUM_BASELINE,
    BOLUS_MINIMUM_CONTRAST_TO_NOISE,
    BOLUS_MINIMUM_FALL,
    BOLUS_MINIMUM_VOLUMES,
    DETECTION_LIMIT,
    LEAKAGE_SIGNIFICANT,
    LEAKAGE_STRONG,
    MAD_TO_SD,
    SPOILT_VOLUME,
)
from bids_app.models.dsc.leakage import LeakageCourse, LeakageModel, find_course, find_reference
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_positive
from bids_app.models.numerics.noise import long_run_ratio, moderate_variance
from bids_app.models.status import Status, combine_status, flag_negative, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BolusWindow:
    """
    Volumes before and during the first pass of a bolus; ranges are half-open, from 0.

    Parameters
    ----------
    baseline_start, baseline_end : int
        Steady state before the bolus; volumes before `baseline_start` are still saturating.
    pass_start, pass_end : int
        First pass, up to the first minimum before the second.
    contrast_to_noise : float
        Height of the relaxation-rate change over its noise, dimensionless; inf without noise.
    is_complete : bool
        Whether the first pass ends before the series does.
    """

    baseline_start: int
    baseline_end: int
    pass_start: int
    pass_end: int
    contrast_to_noise: float
    is_complete: bool = True


def relaxation_rate_change(
    signal: ArrayLike, *, echo_time: float, n_baseline: int, n_skipped: int = 0
) -> FloatArray:
    r"""
    Compute the change of R2* that a contrast agent brings about.

    Parameters
    ----------
    signal : (V, T) array_like
        Gradient-echo signal, any unit.
    echo_time : float
        s; positive.
    n_baseline : int
        Volumes before the bolus whose mean is the reference, at least 1.
    n_skipped : int
        Volumes before those, still saturating.

    Returns
    -------
    rate_change : (V, T) ndarray of float64
        1/s; NaN where the signal or its reference is not positive or not finite.

    Raises
    ------
    ModelInputError
        If `echo_time` is not positive or the reference does not lie within the series.

    Notes
    -----
    .. math:: \Delta R_2^*(t) = -\ln(S(t)/S_0) / TE

    References
    ----------
    .. [1] Rosen et al., Magn Reson Med 14:249, 1990. doi:10.1002/mrm.1910140211

    Examples
    --------
    >>> relaxation_rate_change([[100, 100, 74.0818]], echo_time=0.03, n_baseline=2).round(3) + 0.0
    array([[ 0.,  0., 10.]])
    """
    check_positive('echo_time (s)', echo_time)
    signal = np.asarray(signal, float)
    n_volumes = signal.shape[1] if signal.ndim == 2 else 0
    if n_baseline < 1 or n_skipped < 0 or n_skipped + n_baseline > n_volumes:
        msg = (
            f'volumes {n_skipped} to {n_skipped + n_baseline - 1} cannot be the baseline of a '
            f'series (voxels x volumes) of shape {signal.shape}'
        )
        raise ModelInputError(msg)
    signal = np.where(np.isfinite(signal) & (signal > 0), signal, np.nan)
    baseline = signal[:, n_skipped : n_skipped + n_baseline].mean(axis=1, keepdims=True)
    rate_change: FloatArray = -np.log(signal / baseline) / echo_time
    return rate_change


def find_bolus(signal: ArrayLike, *, echo_time: float) -> BolusWindow:
    """
    Find the first pass of a contrast agent in the mean signal of the brain.

    Parameters
    ----------
    signal : (T,) array_like
        Mean signal of the brain, any unit.
    echo_time : float
        s; positive.

    Returns
    -------
    window : BolusWindow
        Which volumes are baseline and which first pass.

    Raises
    ------
    ModelInputError
        With a text that starts with 'no bolus' if the signal does not fall clearly and recover,
        or has no baseline before it falls; if the series is too short or not positive.

    Notes
    -----
    The highest point of the relaxation rate after a running median over three volumes (which a
    single spoilt volume does not move) is the peak. Going back from it, the baseline ends one
    volume before the last one that is within 2 % of the height, or three standard deviations of
    the noise, of the mean before it. The pass ends within 2 % of the height or, sooner, at the
    first minimum below half the height. The noise is that of the second differences, which drift
    and the bolus itself hardly touch.

    Examples
    --------
    >>> time = np.arange(40.0)
    >>> bolus = 10 * np.exp(-0.5 * ((time - 15) / 2) ** 2)
    >>> window = find_bolus(100 * np.exp(-0.03 * bolus), echo_time=0.03)
    >>> window.baseline_end, window.pass_end > 20
    (9, True)
    """
    check_positive('echo_time (s)', echo_time)
    signal = np.asarray(signal, float)
    if signal.ndim != 1 or len(signal) < BOLUS_MINIMUM_VOLUMES:
        msg = (
            f'no bolus can be found: expected one curve of at least {BOLUS_MINIMUM_VOLUMES} '
            f'volumes, got shape {signal.shape}'
        )
        raise ModelInputError(msg)
    if not np.all(np.isfinite(signal) & (signal > 0)):
        msg = 'no bolus can be found: the mean signal is not positive and finite in all volumes'
        raise ModelInputError(msg)
    rate = -np.log(signal / np.median(signal)) / echo_time
    noise = MAD_TO_SD * float(np.median(np.abs(np.diff(rate, n=2)))) / np.sqrt(6)
    rate = median_filter(rate, size=3, mode='nearest')

    peak = int(np.argmax(rate))
    level, baseline_start, baseline_end = _baseline_before(rate, peak, noise)
    height = float(rate[peak] - level)
    contrast_to_noise = height / noise if noise > 0 else np.inf
    fall = -np.expm1(-height * echo_time)
    if contrast_to_noise < BOLUS_MINIMUM_CONTRAST_TO_NOISE or fall < BOLUS_MINIMUM_FALL:
        msg = (
            f'no bolus in the mean signal of the brain: it falls by {100 * fall:.1f} % '
            f'({contrast_to_noise:.1f} times the noise), expected at least '
            f'{100 * BOLUS_MINIMUM_FALL:g} % and {BOLUS_MINIMUM_CONTRAST_TO_NOISE:g} times'
        )
        raise ModelInputError(msg)
    if baseline_end - baseline_start < BOLUS_MINIMUM_BASELINE:
        msg = (
            f'no bolus that can be used: {baseline_end - baseline_start} steady volumes before '
            f'it, expected at least {BOLUS_MINIMUM_BASELINE}'
        )
        raise ModelInputError(msg)
    pass_end, is_complete = _end_of_pass(rate, peak, level)
    return BolusWindow(
        baseline_start=baseline_start,
        baseline_end=baseline_end,
        pass_start=baseline_end,
        pass_end=pass_end,
        contrast_to_noise=float(contrast_to_noise),
        is_complete=is_complete,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BolusAreas:
    """
    What the curves of a bolus give by sums over time, one value per voxel.

    Parameters
    ----------
    relative_cbv : (V,) Estimate
        Area of the change of R2*, dimensionless.
    window : BolusWindow
        Baseline and first pass.
    rate_change : (V, T) ndarray
        Change of R2*, 1/s; NaN where there is no estimate.
    rate_variance : (V,) ndarray
        Variance of its samples before the bolus, 1/s^2.
    k1 : (V,) Estimate, optional
        Height relative to the reference tissue without the leak, dimensionless.
    k2 : (V,) Estimate, optional
        Leak: positive where T1 shortening lowers the curve, negative where it adds to it, 1/s.
    course : LeakageCourse, optional
        How the leaks go on in time; the three are None where leakage is not corrected.
    """

    relative_cbv: Estimate
    window: BolusWindow
    rate_change: FloatArray
    rate_variance: FloatArray
    k1: Estimate | None = None
    k2: Estimate | None = None
    course: LeakageCourse | None = None


def estimate_relative_cbv(
    signal: ArrayLike,
    *,
    echo_time: float,
    repetition_time: float,
    noise_groups: ArrayLike | None = None,
    brain: ArrayLike | None = None,
    area: str = 'first-pass',
    correct_leakage: bool = False,
) -> BolusAreas:
    r"""
    Estimate the area under the curve of a contrast agent, and its leakage into tissue.

    Parameters
    ----------
    signal : (V, T) array_like
        Gradient-echo signal, any unit.
    echo_time : float
        s; positive.
    repetition_time : float
        s; positive.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, which lend each other degrees of freedom; default all.
    brain : (V,) array_like of bool, optional
        Voxels in whose mean the bolus is searched, and among which the reference of the leakage
        is chosen; default all.
    area : {'first-pass', 'full'}
        Sum over the first pass, or from its start to the end of the series.
    correct_leakage : bool
        Whether the area is that of the curve without its leak.

    Returns
    -------
    areas : BolusAreas
        Flagged NEGATIVE below 0 (relative CBV) and STRONG_LEAK where a leak is over half of it.
        NaN with INVALID_INPUT where a used volume is not finite and NO_SIGNAL where one is not
        positive or the baseline is below three standard deviations of the noise.

    Raises
    ------
    ModelInputError
        If there is no usable bolus (the text starts with 'no bolus'), a parameter is unknown, or
        a time is not positive.

    Notes
    -----
    Each of the three is a sum over the curve with weights c(t) that are zero before the bolus
    (TR within the window W for the plain area). The noise variance of the signal, sigma^2, is
    that of the :math:`n_0` baseline volumes of the voxel, drawn towards that of its group; their
    correlation in time enlarges it by :math:`\rho`; their mean is common to all volumes:

    .. math:: A = \sum_t c_t \Delta R_2^*(t), \quad \mathrm{var}(A) =
              \rho\,\frac{\sigma^2}{TE^2}
              \left[\sum_t \frac{c_t^2}{S(t)^2} + \frac{(\sum_t c_t)^2}{n_0 S_0^2}\right]

    In magnitude images the bias of the logarithm and that of the Rician noise cancel to first
    order, :math:`E[\ln M] \approx \ln S`. The reference curve is a mean over thousands of voxels
    and counts as known. No correction for recirculation within the window; it scales all voxels
    alike, and so does an arrival that is common to them.

    References
    ----------
    .. [1] Rosen et al., Magn Reson Med 14:249, 1990. doi:10.1002/mrm.1910140211
    .. [2] Boxerman et al., AJNR 27:859, 2006.

    Examples
    --------
    >>> time = 2.0 * np.arange(40.0)
    >>> bolus = 10 * np.exp(-0.5 * ((time - 30) / 4) ** 2)
    >>> signal = 100 * np.exp(-0.03 * bolus)
    >>> found = estimate_relative_cbv([signal], echo_time=0.03, repetition_time=2.0)
    >>> found.relative_cbv.value.round(1), round(10 * 4 * (2 * np.pi) ** 0.5, 1)
    (array([100.1]), 100.3)
    """
    check_positive('repetition_time (s)', repetition_time)
    if area not in AREAS:
        msg = f'area must be one of {", ".join(AREAS)}; got {area!r}'
        raise ModelInputError(msg)
    curves = _read_curves(signal, brain, echo_time, noise_groups)
    window = curves.window
    n_volumes = curves.rate_change.shape[1]
    pass_end = window.pass_end if area == 'first-pass' else n_volumes
    window_of_area = slice(window.pass_start, pass_end)
    leak: dict[str, Any] = {}
    plain = np.zeros(n_volumes)
    plain[window_of_area] = repetition_time
    relative_cbv = curves.total(plain)
    caution: StatusArray = np.zeros(len(relative_cbv.value), np.uint8)
    if correct_leakage:
        uncorrected = relative_cbv.value
        relative_cbv, leak = _correct(curves, repetition_time, window_of_area)
        caution = _strong_leaks(relative_cbv.value, uncorrected, leak['k2'])
    status = combine_status(relative_cbv.status, flag_negative(relative_cbv.value), caution)
    curves.rate_change[is_missing(status)] = np.nan
    return BolusAreas(
        relative_cbv=replace(relative_cbv, status=status),
        window=window,
        rate_change=curves.rate_change,
        rate_variance=curves.noise / (echo_time * curves.level) ** 2,
        **leak,
    )


AREAS = ('first-pass', 'full')
"""Parts of the curve that a relative blood volume is the sum of."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Curves:
    """The series as change of R2*, with what the error of sums over it needs."""

    signal: FloatArray
    rate_change: FloatArray
    level: FloatArray
    """Mean baseline signal."""
    noise: FloatArray
    """Variance of the signal."""
    slow: FloatArray
    """By how much correlation in time enlarges that of a sum."""
    dof: float
    status: StatusArray
    brain: BoolArray
    window: BolusWindow
    echo_time: float

    def total(self, weights: FloatArray) -> Estimate:
        """Sum the curves with weights over time."""
        used = weights != 0
        value = self.rate_change[:, used] @ weights[used]
        spread = (self.signal[:, used] ** -2) @ weights[used] ** 2
        variance = self._variance(spread, weights.sum(), slice(None))
        return Estimate.of(value, variance, self.status, self.dof)

    def variance_of(self, weights: FloatArray, rows: IntArray) -> FloatArray:
        """Give the variance of sums over the curves of some voxels with weights of their own."""
        spread = np.einsum('vt,vt->v', weights**2, self.signal[rows] ** -2)
        return self._variance(spread, weights.sum(axis=1), rows)

    def _variance(
        self, spread: FloatArray, total: FloatArray, rows: IntArray | slice
    ) -> FloatArray:
        """Add the error of the baseline, common to all volumes, and scale by the noise."""
        n_baseline = self.window.baseline_end - self.window.baseline_start
        spread = spread + total**2 / (n_baseline * self.level[rows] ** 2)
        return np.asarray(self.slow[rows] * self.noise[rows] / self.echo_time**2 * spread)


def _read_curves(
    signal: ArrayLike,
    brain: ArrayLike | None,
    echo_time: float,
    noise_groups: ArrayLike | None,
) -> _Curves:
    """Find the bolus, the noise and the change of R2*."""
    signal = np.asarray(signal, float)
    if signal.ndim != 2:
        msg = f'signal must be voxels x volumes, got shape {signal.shape}'
        raise ModelInputError(msg)
    inside = np.ones(len(signal), bool) if brain is None else np.asarray(brain, bool)
    _check_volumes(signal[inside])
    finite = np.isfinite(signal).all(axis=1)
    positive = finite & (np.where(finite[:, np.newaxis], signal, 0.0) > 0).all(axis=1)
    if not (positive & inside).any():
        msg = 'no bolus can be found: no voxel has a positive signal in all volumes'
        raise ModelInputError(msg)
    window = find_bolus(signal[positive & inside].mean(axis=0), echo_time=echo_time)

    n_baseline = window.baseline_end - window.baseline_start
    used = signal if positive.all() else np.where(positive[:, np.newaxis], signal, 1.0)
    baseline = used[:, window.baseline_start : window.baseline_end]
    noise = np.where(positive, baseline.var(axis=1, ddof=1), np.nan)
    noise, dof = moderate_variance(noise, n_baseline - 1.0, noise_groups)
    level = baseline.mean(axis=1)
    seen = positive & (level > DETECTION_LIMIT * np.sqrt(noise))
    status = np.where(seen, Status.OK, Status.NO_SIGNAL)
    return _Curves(
        signal=used,
        rate_change=relaxation_rate_change(
            used, echo_time=echo_time, n_baseline=n_baseline, n_skipped=window.baseline_start
        ),
        level=level,
        noise=noise,
        slow=long_run_ratio(baseline - level[:, np.newaxis], noise_groups),
        dof=dof,
        status=np.where(finite, status, Status.INVALID_INPUT).astype(np.uint8),
        brain=inside & seen,
        window=window,
        echo_time=echo_time,
    )


def _check_volumes(signal: FloatArray) -> None:
    """Refuse a series in which whole volumes are not numbers."""
    broken = np.flatnonzero(np.isnan(signal).mean(axis=0) > SPOILT_VOLUME)
    if broken.size:
        msg = (
            f'no bolus can be found: volume(s) {", ".join(map(str, broken[:10]))} (from 0) are '
            'NaN in more than half of the brain; remove them from the series or acquire it again'
        )
        raise ModelInputError(msg)


def _correct(
    curves: _Curves, repetition_time: float, area: slice
) -> tuple[Estimate, dict[str, Any]]:
    """Give the area without the leak, and K1, K2 and the course of the leaks."""
    window = curves.window
    rate_change = curves.rate_change[curves.brain]
    during: dict[str, Any] = {
        'repetition_time': repetition_time,
        'pass_start': area.start,
        'pass_end': area.stop,
    }
    reference = find_reference(rate_change, pass_start=window.pass_start, pass_end=window.pass_end)
    mean = rate_change[reference].mean(axis=0)
    course = find_course(rate_change[~reference], mean, **during)
    model = LeakageModel.of(mean, course, **during)
    weights = model.linear()
    names = ('k1', 'k2', 'area')
    found = {name: curves.total(getattr(weights, name)) for name in names}
    if np.isfinite(course.saturation):
        k2 = found['k2']
        strong = k2.value > LEAKAGE_SIGNIFICANT * np.sqrt(k2.variance)
        for rows in np.array_split(
            np.flatnonzero(strong), int(strong.sum()) // VOXELS_AT_ONCE + 1
        ):
            *values, slopes = model.saturating(curves.rate_change[rows], k2.value[rows])
            for name, value in zip(names, values, strict=True):
                found[name].value[rows] = value
                found[name].variance[rows] = curves.variance_of(getattr(slopes, name), rows)
    return found['area'], {'k1': found['k1'], 'k2': found['k2'], 'course': course}


def _strong_leaks(area: FloatArray, uncorrected: FloatArray, k2: Estimate) -> StatusArray:
    """Return the caution of voxels whose leak, beyond noise, is most of their area."""
    is_leak = np.abs(k2.value) > LEAKAGE_SIGNIFICANT * np.sqrt(k2.variance)
    strong = is_leak & (np.abs(uncorrected - area) > LEAKAGE_STRONG * np.abs(area))
    return np.where(strong, Status.STRONG_LEAK, Status.OK).astype(np.uint8)


VOXELS_AT_ONCE = 20_000
"""Whose leak is fitted together; a bound of memory."""


def bolus_times(areas: BolusAreas, brain: ArrayLike, *, repetition_time: float) -> FloatArray:
    r"""
    Tell how much later than in the brain the bolus passes each voxel.

    Parameters
    ----------
    areas : BolusAreas
        Curves and first pass.
    brain : (V,) array_like of bool
        Voxels whose median is time 0.
    repetition_time : float
        s; positive.

    Returns
    -------
    time : (V,) ndarray of float64
        Centre of the first pass, s; NaN where a curve is missing or its area is not positive.

    Notes
    -----
    .. math:: \tau = \sum_W t\,\Delta R_2^*(t) \Big/ \sum_W \Delta R_2^*(t)
    """
    check_positive('repetition_time (s)', repetition_time)
    window = slice(areas.window.pass_start, areas.window.pass_end)
    curves = areas.rate_change[:, window]
    total = curves.sum(axis=1)
    time: FloatArray = np.full(len(total), np.nan)
    moment = repetition_time * (curves @ np.arange(curves.shape[1]))
    np.divide(moment, total, out=time, where=total > 0)
    of_brain = time[np.asarray(brain, bool)]
    known = of_brain[np.isfinite(of_brain)]
    return time - np.median(known) if known.size else time


def _baseline_before(rate: FloatArray, peak: int, noise: float) -> tuple[float, int, int]:
    """Return the mean rate before the bolus and the half-open range of the baseline volumes."""
    end = peak
    level = float(np.median(rate[: max(end, 1)]))
    for fraction in (0.5, BOLUS_ARRIVAL_FRACTION, BOLUS_ARRIVAL_FRACTION):
        margin = max(fraction * (rate[peak] - level), BOLUS_ARRIVAL_NOISE * noise)
        low = np.flatnonzero(rate[:peak] <= level + margin)
        end = int(low[-1]) + 1 if len(low) else 0
        level = float(np.median(rate[: max(end, 1)]))
    margin = max(BOLUS_ARRIVAL_FRACTION * (rate[peak] - level), BOLUS_ARRIVAL_NOISE * noise)
    steady = np.flatnonzero(np.abs(rate[:end] - level) <= margin)
    start = int(steady[0]) if len(steady) else end
    end = max(end - 1, start)
    return level, start, end


def _end_of_pass(rate: FloatArray, peak: int, level: float) -> tuple[int, bool]:
    """Return the volume after the first pass, and whether its end was seen."""
    height = rate[peak] - level
    below = np.flatnonzero(rate[peak:] < level + height / 2)
    if not len(below):
        msg = 'no bolus that can be used: the signal does not recover to half of its fall'
        raise ModelInputError(msg)
    for volume in range(peak + int(below[0]), len(rate) - 1):
        following = rate[volume + 1 : volume + 1 + BOLUS_LOOK_AHEAD]
        is_over = bool(rate[volume] <= level + BOLUS_ARRIVAL_FRACTION * height)
        if is_over or rate[volume] <= following.min():
            return volume + 1, is_over or len(following) == BOLUS_LOOK_AHEAD
    return len(rate), False
