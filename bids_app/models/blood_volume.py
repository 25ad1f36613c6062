"""Cerebral blood volume from a bolus of contrast agent, from blood flow or from the tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    MAD_TO_SD,
)
from bids_app.models.estimate import Estimate
from bids_app.models.noise import pool_variance
from bids_app.models.status import Status, combine_status, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, StatusArray


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
    """

    baseline_start: int
    baseline_end: int
    pass_start: int
    pass_end: int
    contrast_to_noise: float


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

    See Also
    --------
    estimate_relative_cbv : Its area under the first pass.

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
    _check_positive('echo_time (s)', echo_time)
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

    See Also
    --------
    estimate_relative_cbv : What it is for.

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
    _check_positive('echo_time (s)', echo_time)
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
    return BolusWindow(
        baseline_start=baseline_start,
        baseline_end=baseline_end,
        pass_start=baseline_end,
        pass_end=_end_of_pass(rate, peak, level),
        contrast_to_noise=float(contrast_to_noise),
    )


def estimate_relative_cbv(
    signal: ArrayLike,
    *,
    echo_time: float,
    repetition_time: float,
    noise_groups: ArrayLike | None = None,
) -> Estimate:
    r"""
    Estimate the area under the first pass of a contrast agent.

    Parameters
    ----------
    signal : (V, T) array_like
        Gradient-echo signal of the voxels of the brain, any unit; their mean is searched for
        the bolus.
    echo_time : float
        s; positive.
    repetition_time : float
        s; positive.
    noise_groups : (V,) array_like of int, optional
        Voxels whose noise variance is pooled; default all.

    Returns
    -------
    relative_cbv : (V,) Estimate
        Dimensionless, proportional to blood volume, flagged NEGATIVE below 0. NaN with
        INVALID_INPUT where a used volume is not finite and NO_SIGNAL where one is not positive
        or the baseline is below three standard deviations of the noise.

    Raises
    ------
    ModelInputError
        If there is no usable bolus (the text starts with 'no bolus') or a time is not positive.

    See Also
    --------
    normalise_to_white_matter : Makes it a blood volume.
    find_bolus : Gives baseline and first pass.

    Notes
    -----
    No correction for leakage, recirculation or the arrival in the single voxel. With the noise
    variance of the signal, sigma^2, pooled from the :math:`n_0` baseline volumes, W the n volumes
    of the first pass, and the baseline mean common to all of them:

    .. math:: A = TR \sum_W \Delta R_2^*(t), \quad \mathrm{var}(A) =
              \left(\frac{TR}{TE}\right)^2 \sigma^2
              \left[\sum_W \frac{1}{S(t)^2} + \frac{n^2}{n_0 S_0^2}\right]

    References
    ----------
    .. [1] Rosen et al., Magn Reson Med 14:249, 1990. doi:10.1002/mrm.1910140211

    Examples
    --------
    >>> time = 2.0 * np.arange(40.0)
    >>> bolus = 10 * np.exp(-0.5 * ((time - 30) / 4) ** 2)
    >>> signal = 100 * np.exp(-0.03 * bolus)
    >>> area = estimate_relative_cbv([signal], echo_time=0.03, repetition_time=2.0)
    >>> area.value.round(1), round(10 * 4 * (2 * np.pi) ** 0.5, 1)
    (array([100.1]), 100.3)
    """
    _check_positive('repetition_time (s)', repetition_time)
    signal = np.asarray(signal, float)
    if signal.ndim != 2:
        msg = f'signal must be voxels x volumes, got shape {signal.shape}'
        raise ModelInputError(msg)
    finite = np.isfinite(signal).all(axis=1)
    positive = finite & (np.where(finite[:, np.newaxis], signal, 0.0) > 0).all(axis=1)
    if not positive.any():
        msg = 'no bolus can be found: no voxel has a positive signal in all volumes'
        raise ModelInputError(msg)
    window = find_bolus(signal[positive].mean(axis=0), echo_time=echo_time)

    n_baseline = window.baseline_end - window.baseline_start
    used = np.where(positive[:, np.newaxis], signal, 1.0)
    baseline = used[:, window.baseline_start : window.baseline_end]
    noise = baseline.var(axis=1, ddof=1)
    noise, dof = pool_variance(np.where(positive, noise, np.nan), n_baseline - 1.0, noise_groups)
    rate_change = relaxation_rate_change(
        used, echo_time=echo_time, n_baseline=n_baseline, n_skipped=window.baseline_start
    )
    first_pass = slice(window.pass_start, window.pass_end)
    value = repetition_time * rate_change[:, first_pass].sum(axis=1)
    level = baseline.mean(axis=1)
    n_pass = window.pass_end - window.pass_start
    weight = (used[:, first_pass] ** -2).sum(axis=1) + n_pass**2 / (n_baseline * level**2)
    variance = (repetition_time / echo_time) ** 2 * noise * weight

    seen = positive & (level > DETECTION_LIMIT * np.sqrt(noise))
    status = np.where(seen, _negative(value), Status.NO_SIGNAL)
    status = np.where(finite, status, Status.INVALID_INPUT)
    return Estimate.of(value, variance, status, dof)


def normalise_to_white_matter(
    relative_cbv: Estimate, white_matter: ArrayLike, *, white_matter_cbv: float
) -> Estimate:
    r"""
    Scale a relative blood volume so that white matter has its literature value.

    Parameters
    ----------
    relative_cbv : (V,) Estimate
        Proportional to blood volume, any unit.
    white_matter : (V,) array_like of bool
        Voxels of pure white matter (probability above .95, eroded: an argmax mask reads 13 %
        too high).
    white_matter_cbv : float
        Mean blood volume of these voxels, mL/mL; positive.

    Returns
    -------
    cbv : (V,) Estimate
        mL/mL, flagged NEGATIVE below 0; NaN with the reason of the input, everywhere
        NO_REFERENCE if no white-matter voxel has a value or their mean is not positive.

    Raises
    ------
    ModelInputError
        If shapes differ or `white_matter_cbv` is not positive.

    See Also
    --------
    estimate_relative_cbv : Gives `relative_cbv`.

    Notes
    -----
    The error of the white-matter mean is common to all voxels; it is part of the variance of
    each and small with the hundreds of voxels of a brain. The literature value is a scale factor
    and not part of the variance.

    References
    ----------
    .. [1] Leenders et al., Brain 113:27, 1990. doi:10.1093/brain/113.1.27

    Examples
    --------
    >>> area = Estimate.of([10.0, 20.0])
    >>> normalise_to_white_matter(area, [True, False], white_matter_cbv=0.025).value
    array([0.025, 0.05 ])
    """
    _check_positive('white_matter_cbv (mL/mL)', white_matter_cbv)
    white_matter = np.asarray(white_matter, bool)
    if white_matter.shape != relative_cbv.value.shape:
        msg = (
            f'white_matter must have the shape of relative_cbv {relative_cbv.value.shape}, '
            f'got {white_matter.shape}'
        )
        raise ModelInputError(msg)
    reference = white_matter & ~is_missing(relative_cbv.status)
    n_reference = int(reference.sum())
    mean = float(relative_cbv.value[reference].sum()) / max(n_reference, 1)
    if mean <= 0:
        status = combine_status(relative_cbv.status, Status.NO_REFERENCE)
        return Estimate.of(relative_cbv.value, relative_cbv.variance, status, relative_cbv.dof)
    mean_variance = float(relative_cbv.variance[reference].sum()) / n_reference**2
    value = white_matter_cbv / mean * relative_cbv.value
    variance = (white_matter_cbv / mean) ** 2 * relative_cbv.variance
    variance = variance + (value / mean) ** 2 * mean_variance
    return Estimate.of(value, variance, relative_cbv.status, relative_cbv.dof)


def cbv_from_cbf(cbf: Estimate, *, grubb_factor: float, grubb_exponent: float) -> Estimate:
    r"""
    Predict blood volume from blood flow by a power law.

    Parameters
    ----------
    cbf : (...) Estimate
        Cerebral blood flow, mL/100 g/min.
    grubb_factor : float
        Blood volume at a flow of 1 mL/100 g/min, mL/mL; positive.
    grubb_exponent : float
        Dimensionless; positive.

    Returns
    -------
    cbv : (...) Estimate
        mL/mL; NaN with NO_BLOOD_VOLUME where the flow is not positive, else with the reason of
        the input.

    Raises
    ------
    ModelInputError
        If a parameter is not positive.

    See Also
    --------
    cbv_from_tissue : Without any measurement.

    Notes
    -----
    The law was measured across levels of carbon dioxide; that it holds across the voxels of a
    brain is an assumption, and its error is systematic and not part of the variance (delta
    method, from that of CBF).

    .. math:: CBV = k \cdot CBF^g

    References
    ----------
    .. [1] Grubb et al., Stroke 5:630, 1974. doi:10.1161/01.STR.5.5.630

    Examples
    --------
    >>> cbv = cbv_from_cbf(Estimate.of([50.0, -5.0]), grubb_factor=0.008, grubb_exponent=0.38)
    >>> cbv.value.round(4)
    array([0.0354,    nan])
    """
    _check_positive('grubb_factor (mL/mL)', grubb_factor)
    _check_positive('grubb_exponent', grubb_exponent)
    flow = np.where(cbf.value > 0, cbf.value, np.nan)
    value = grubb_factor * flow**grubb_exponent
    variance = (grubb_exponent * value / flow) ** 2 * cbf.variance
    none = np.where(cbf.value <= 0, Status.NO_BLOOD_VOLUME, Status.OK)
    return Estimate.of(value, variance, combine_status(cbf.status, none), cbf.dof)


def cbv_from_tissue(
    grey_matter: ArrayLike,
    white_matter: ArrayLike,
    *,
    grey_matter_cbv: float,
    white_matter_cbv: float,
    relative_error: float,
) -> Estimate:
    r"""
    Take blood volume from the literature according to the tissue of each voxel.

    Parameters
    ----------
    grey_matter, white_matter : (V,) array_like
        Fraction of the voxel, dimensionless, in [0, 1]; the rest holds no blood.
    grey_matter_cbv, white_matter_cbv : float
        Blood volume of pure tissue, mL/mL; positive.
    relative_error : float
        Relative standard error of the literature values, dimensionless; not negative.

    Returns
    -------
    cbv : (V,) Estimate
        mL/mL, zero in voxels without tissue; NaN with INVALID_INPUT where a fraction is not
        finite or negative. `dof` is infinite.

    Raises
    ------
    ModelInputError
        If shapes differ or a parameter lies outside its range.

    See Also
    --------
    normalise_to_white_matter : From a measurement.

    Notes
    -----
    The variance is not random but stands for what is not known: the error is common to all
    voxels and conditions, so it scales OEF and CMRO2 and does not average away over voxels.

    .. math:: CBV = f_{GM} CBV_{GM} + f_{WM} CBV_{WM}

    References
    ----------
    .. [1] Leenders et al., Brain 113:27, 1990. doi:10.1093/brain/113.1.27

    Examples
    --------
    >>> cbv = cbv_from_tissue(
    ...     [1.0, 0.5], [0.0, 0.5], grey_matter_cbv=0.048, white_matter_cbv=0.025,
    ...     relative_error=0.1,
    ... )
    >>> cbv.value
    array([0.048 , 0.0365])
    """
    _check_positive('grey_matter_cbv (mL/mL)', grey_matter_cbv)
    _check_positive('white_matter_cbv (mL/mL)', white_matter_cbv)
    if not 0 <= relative_error < np.inf:
        msg = f'relative_error must not be negative, got {relative_error}'
        raise ModelInputError(msg)
    grey_matter, white_matter = np.asarray(grey_matter, float), np.asarray(white_matter, float)
    if grey_matter.shape != white_matter.shape:
        msg = (
            'grey_matter and white_matter must have equal shapes, got '
            f'{grey_matter.shape} and {white_matter.shape}'
        )
        raise ModelInputError(msg)
    value = grey_matter_cbv * grey_matter + white_matter_cbv * white_matter
    valid = (grey_matter >= 0) & (white_matter >= 0)
    status = np.where(valid, Status.OK, Status.INVALID_INPUT)
    return Estimate.of(value, (relative_error * value) ** 2, status)


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


def _end_of_pass(rate: FloatArray, peak: int, level: float) -> int:
    """Return the volume after the bolus is gone or, sooner, before its recirculation."""
    height = rate[peak] - level
    below = np.flatnonzero(rate[peak:] < level + height / 2)
    if not len(below):
        msg = 'no bolus that can be used: the signal does not recover to half of its fall'
        raise ModelInputError(msg)
    for volume in range(peak + int(below[0]), len(rate) - 1):
        following = rate[volume + 1 : volume + 1 + BOLUS_LOOK_AHEAD]
        is_over = rate[volume] <= level + BOLUS_ARRIVAL_FRACTION * height
        if is_over or rate[volume] <= following.min():
            return volume + 1
    return len(rate)


def _negative(value: FloatArray) -> StatusArray:
    """Return the caution of values below zero."""
    return np.where(value < 0, Status.NEGATIVE, Status.OK).astype(np.uint8)


def _check_positive(name: str, number: float) -> None:
    """Refuse a parameter that is not positive and finite."""
    if not 0 < number < np.inf:
        msg = f'{name} must be positive and finite, got {number}'
        raise ModelInputError(msg)
