"""Cerebral blood flow from arterial spin labeling with one post-labeling delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    CBF_PLAUSIBLE,
    FIELD_TOLERANCE,
    T1_BLOOD,
    T1_BLOOD_INTERCEPT,
    T1_BLOOD_SLOPE,
    T1_TISSUE,
)
from bids_app.models.estimate import Estimate
from bids_app.models.noise import pool_variance
from bids_app.models.status import Status, combine_status
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray


def t1_blood_at(b0: float) -> float:
    r"""
    Give the longitudinal relaxation time of arterial blood at a field strength.

    Parameters
    ----------
    b0 : float
        Main field, T; positive. Within 0.15 T of 1.5, 3 or 7 T it counts as that.

    Returns
    -------
    t1_blood : float
        s.

    Raises
    ------
    ModelInputError
        If `b0` is not positive.

    See Also
    --------
    t1_tissue_at : The same of grey matter.

    Notes
    -----
    1.35, 1.65 and 2.087 s at 1.5, 3 and 7 T; elsewhere the line

    .. math:: T_{1b} = 1.316\,\mathrm{s} + 0.110\,\mathrm{s/T} \cdot B_0

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015. doi:10.1002/mrm.25197
    .. [2] Zhang et al., Magn Reson Med 70:1082, 2013. doi:10.1002/mrm.24550

    Examples
    --------
    >>> t1_blood_at(3.0), round(t1_blood_at(4.0), 3)
    (1.65, 1.756)
    """
    tabulated = _tabulated(T1_BLOOD, b0)
    return T1_BLOOD_INTERCEPT + T1_BLOOD_SLOPE * b0 if tabulated is None else tabulated


def t1_tissue_at(b0: float) -> float:
    """
    Give the longitudinal relaxation time of grey matter at a field strength.

    Parameters
    ----------
    b0 : float
        Main field, T; within 0.15 T of 1.5, 3 or 7 T.

    Returns
    -------
    t1_tissue : float
        s.

    Raises
    ------
    ModelInputError
        If there is no literature value for `b0`.

    See Also
    --------
    t1_blood_at : The same of blood.

    References
    ----------
    .. [1] Wright et al., Magn Reson Mater Phy 21:121, 2008. doi:10.1007/s10334-008-0104-8

    Examples
    --------
    >>> t1_tissue_at(2.89)
    1.607
    """
    tabulated = _tabulated(T1_TISSUE, b0)
    if tabulated is None:
        known = ', '.join(f'{field:g}' for field in T1_TISSUE)
        msg = (
            f'no T1 of tissue is known at b0 = {b0:g} T, only at {known} T: '
            'give it as perfusion.t1_tissue (s)'
        )
        raise ModelInputError(msg)
    return tabulated


def effective_delay(post_label_delay: ArrayLike, slice_time: ArrayLike) -> FloatArray:
    """
    Compute the delay at which a slice is read out.

    Parameters
    ----------
    post_label_delay : (...) array_like
        From the end of labeling to the first excitation, s; not negative.
    slice_time : (...) array_like
        From the first excitation to that of the slice, s; not negative; broadcasts.

    Returns
    -------
    delay : (...) ndarray of float64
        s; NaN where an argument is NaN.

    Raises
    ------
    ModelInputError
        If an argument is negative.

    See Also
    --------
    estimate_cbf : Takes it as `post_label_delay`.

    Examples
    --------
    >>> effective_delay(1.8, [0.0, 0.035])
    array([1.8  , 1.835])
    """
    post_label_delay, slice_time = np.asarray(post_label_delay, float), np.asarray(slice_time)
    for name, time in (('post_label_delay', post_label_delay), ('slice_time', slice_time)):
        if np.any(time < 0):
            msg = f'{name} must not be negative (s), got {np.nanmin(time)}'
            raise ModelInputError(msg)
    delay: FloatArray = post_label_delay + slice_time
    return delay


def estimate_difference(
    series: ArrayLike, *, context: Sequence[str], noise_groups: ArrayLike | None = None
) -> Estimate:
    r"""
    Estimate the mean difference of control and label.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of every volume, any unit.
    context : (T,) sequence of str
        What each volume is: control, label, deltam; anything else (m0scan, cbf) is not used.
    noise_groups : (V,) array_like of int, optional
        Voxels whose noise variance is pooled; default all.

    Returns
    -------
    difference : (V,) Estimate
        Control minus label, unit of `series`; negative values are not flagged. NaN with
        INVALID_INPUT where a used volume is not finite and NO_SIGNAL where all are zero.

    Raises
    ------
    ModelInputError
        If `context` does not fit `series`, holds no or unequally many control and label
        volumes, or pairs as well as ready differences.

    See Also
    --------
    estimate_cbf : What it is for.
    difference_from_cbf : The forward model.

    Notes
    -----
    The k-th control and the k-th label volume form the k-th pair, whichever comes first. The
    variance is that of the mean over pairs, pooled over voxels. From a single difference volume
    it cannot be told: then it is the robust spread over the voxels of a group, which holds the
    anatomy too and so is an upper bound.

    Examples
    --------
    >>> estimate_difference([[7, 9, 5, 9]], context=['label', 'control'] * 2).value
    array([3.])
    """
    series = np.asarray(series, float)
    context = tuple(context)
    if series.ndim != 2 or series.shape[1] != len(context):
        msg = (
            f'series must be voxels x volumes with one volume per entry of the context '
            f'({len(context)}), got shape {series.shape}'
        )
        raise ModelInputError(msg)
    plus, minus = _volumes_of_differences(context)
    used = series[:, np.concatenate([plus, minus])]
    finite = np.isfinite(used).all(axis=1)
    used = np.where(finite[:, np.newaxis], used, 0.0)
    differences = used[:, : len(plus)]
    if len(minus):
        differences = differences - used[:, len(plus) :]

    status = np.where(used.any(axis=1), Status.OK, Status.NO_SIGNAL)
    status = np.where(finite, status, Status.INVALID_INPUT)
    variance, dof = _variance_of_mean(differences, status == Status.OK, noise_groups)
    return Estimate.of(differences.mean(axis=1), variance, status, dof)


def estimate_m0(
    series: ArrayLike,
    *,
    t1_tissue: ArrayLike,
    repetition_time: float | None = None,
    noise_variance: ArrayLike | None = None,
) -> Estimate:
    r"""
    Estimate the equilibrium magnetisation from one or more volumes without labeling.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of the volumes, any unit, T >= 1.
    t1_tissue : float or (V,) array_like
        Longitudinal relaxation time of tissue, s; positive.
    repetition_time : float, optional
        s. Without it, or if it is not positive, the signal is taken as fully recovered.
    noise_variance : float or (V,) array_like, optional
        Variance of a single volume. Default: from the spread over the volumes, pooled over all
        voxels; zero if there is one volume only (the error of M0 is then left out).

    Returns
    -------
    m0 : (V,) Estimate
        Unit of `series`; NaN with INVALID_INPUT where a volume is not finite and NO_REFERENCE
        where M0 is not positive.

    Raises
    ------
    ModelInputError
        If `series` has no volume or `t1_tissue` is not positive.

    See Also
    --------
    estimate_cbf : What it is for.

    Notes
    -----
    .. math:: M_0 = \bar{S} / (1 - e^{-TR/T_1})

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015. doi:10.1002/mrm.25197

    Examples
    --------
    >>> estimate_m0([[900.0]], repetition_time=4.5, t1_tissue=1.607).value.round(1)
    array([958.3])
    """
    series = np.asarray(series, float)
    if series.ndim != 2 or series.shape[1] == 0:
        msg = f'series must be voxels x volumes with at least one volume, got {series.shape}'
        raise ModelInputError(msg)
    _check_positive('t1_tissue (s)', t1_tissue)
    n_volumes = series.shape[1]
    finite = np.isfinite(series).all(axis=1)
    series = np.where(finite[:, np.newaxis], series, 0.0)
    dof = float('inf')
    if noise_variance is not None:
        variance = np.asarray(noise_variance, float) / n_volumes
    elif n_volumes > 1:
        variance, dof = _variance_of_mean(series, finite, None)
    else:
        variance = np.zeros(1)

    recovery = np.ones(1)
    if repetition_time is not None and repetition_time > 0:
        recovery = -np.expm1(-repetition_time / np.asarray(t1_tissue, float))
    value = series.mean(axis=1) / recovery
    status = np.where(value > 0, Status.OK, Status.NO_REFERENCE)
    status = np.where(finite, status, Status.INVALID_INPUT)
    return Estimate.of(value, variance / recovery**2, status, dof)


def cbf_from_difference(
    difference: ArrayLike,
    m0: ArrayLike,
    *,
    label_duration: float,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
) -> FloatArray:
    r"""
    Compute blood flow from the control-label difference of continuous labeling.

    Parameters
    ----------
    difference : (...) array_like
        Control minus label, any unit.
    m0 : (...) array_like
        Equilibrium magnetisation of tissue, unit of `difference`; broadcasts against it.
    label_duration : float
        s; positive.
    post_label_delay : (...) array_like
        From the end of labeling to the readout of the voxel, s; not negative; broadcasts.
    labeling_efficiency : float
        Inversion efficiency without background suppression, dimensionless, in (0, 1].
    background_suppression_factor : float
        Label kept by all suppression pulses together, dimensionless, in (0, 1]; 1 without.
    t1_blood : float
        Longitudinal relaxation time of blood, s; positive.
    partition_coefficient : float
        Blood-brain partition coefficient of water, mL/g; positive.

    Returns
    -------
    cbf : (...) ndarray of float64
        mL/100 g/min, unclipped; NaN where `m0` is not positive or an argument is NaN.

    Raises
    ------
    ModelInputError
        If a parameter lies outside its range.

    See Also
    --------
    difference_from_cbf : The inverse.
    estimate_cbf : With variance and status.

    Notes
    -----
    All label has arrived and decays with the T1 of blood:

    .. math:: CBF = \frac{6000\,\lambda\,\Delta M\,e^{PLD/T_{1b}}}
              {2\,\alpha\,\alpha_{BS}\,T_{1b}\,M_0\,(1-e^{-\tau/T_{1b}})}

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015, eq. 1. doi:10.1002/mrm.25197

    Examples
    --------
    >>> cbf = cbf_from_difference(
    ...     0.006, 1.0, label_duration=1.8, post_label_delay=1.8, labeling_efficiency=0.85,
    ...     background_suppression_factor=1.0, t1_blood=1.65, partition_coefficient=0.9,
    ... )
    >>> round(float(cbf), 2)
    51.78
    """
    scale = _cbf_per_relative_difference(
        label_duration=label_duration,
        post_label_delay=post_label_delay,
        labeling_efficiency=labeling_efficiency,
        background_suppression_factor=background_suppression_factor,
        t1_blood=t1_blood,
        partition_coefficient=partition_coefficient,
    )
    m0 = np.asarray(m0, float)
    cbf: FloatArray = scale * np.asarray(difference, float) / np.where(m0 > 0, m0, np.nan)
    return cbf


def difference_from_cbf(
    cbf: ArrayLike,
    m0: ArrayLike,
    *,
    label_duration: float,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
) -> FloatArray:
    """
    Predict the control-label difference of continuous labeling.

    Parameters
    ----------
    cbf : (...) array_like
        Cerebral blood flow, mL/100 g/min.
    m0 : (...) array_like
        Equilibrium magnetisation of tissue, any unit; broadcasts against `cbf`.
    label_duration, post_label_delay, labeling_efficiency, background_suppression_factor, \
t1_blood, partition_coefficient
        As for :func:`cbf_from_difference`.

    Returns
    -------
    difference : (...) ndarray of float64
        Control minus label, unit of `m0`; NaN where an argument is NaN.

    Raises
    ------
    ModelInputError
        If a parameter lies outside its range.

    See Also
    --------
    cbf_from_difference : The inverse.

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015, eq. 1. doi:10.1002/mrm.25197

    Examples
    --------
    >>> difference = difference_from_cbf(
    ...     60.0, 1.0, label_duration=1.8, post_label_delay=1.8, labeling_efficiency=0.85,
    ...     background_suppression_factor=1.0, t1_blood=1.65, partition_coefficient=0.9,
    ... )
    >>> round(float(difference), 5)
    0.00695
    """
    scale = _cbf_per_relative_difference(
        label_duration=label_duration,
        post_label_delay=post_label_delay,
        labeling_efficiency=labeling_efficiency,
        background_suppression_factor=background_suppression_factor,
        t1_blood=t1_blood,
        partition_coefficient=partition_coefficient,
    )
    difference: FloatArray = np.asarray(cbf, float) * np.asarray(m0, float) / scale
    return difference


def estimate_cbf(
    difference: Estimate,
    m0: Estimate,
    *,
    label_duration: float,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
) -> Estimate:
    r"""
    Estimate blood flow from continuous labeling with its random error.

    Parameters
    ----------
    difference : (V,) Estimate
        Control minus label, any unit.
    m0 : (V,) Estimate
        Equilibrium magnetisation of tissue, unit of `difference`.
    label_duration, post_label_delay, labeling_efficiency, background_suppression_factor, \
t1_blood, partition_coefficient
        As for :func:`cbf_from_difference`; `post_label_delay` may be one per voxel.

    Returns
    -------
    cbf : (V,) Estimate
        mL/100 g/min, unclipped; NaN with NO_REFERENCE where M0 is not positive, INVALID_INPUT
        where the delay is unknown, else with the reason of the input. Flagged IMPLAUSIBLE
        outside [-50, 200], else NEGATIVE below 0.

    Raises
    ------
    ModelInputError
        If a parameter lies outside its range.

    See Also
    --------
    cbf_from_difference : The closed form.
    difference_from_cbf : The forward model.

    Notes
    -----
    Delta method, errors of difference and M0 independent; the parameters are scale factors and
    not part of the variance. Where one M0 serves several conditions give it with variance zero
    and let :mod:`bids_app.models.change` count its error once.

    .. math:: \mathrm{var}(CBF) = CBF^2 \left[\frac{\mathrm{var}(\Delta M)}{\Delta M^2}
              + \frac{\mathrm{var}(M_0)}{M_0^2}\right]

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015, eq. 1. doi:10.1002/mrm.25197

    Examples
    --------
    >>> cbf = estimate_cbf(
    ...     Estimate.of([6.0], [1.0]), Estimate.of([1000.0], [400.0]), label_duration=1.8,
    ...     post_label_delay=1.8, labeling_efficiency=0.85, background_suppression_factor=1.0,
    ...     t1_blood=1.65, partition_coefficient=0.9,
    ... )
    >>> cbf.value.round(2), (cbf.variance**0.5).round(2)
    (array([51.78]), array([8.69]))
    """
    scale = _cbf_per_relative_difference(
        label_duration=label_duration,
        post_label_delay=post_label_delay,
        labeling_efficiency=labeling_efficiency,
        background_suppression_factor=background_suppression_factor,
        t1_blood=t1_blood,
        partition_coefficient=partition_coefficient,
    )
    reference = np.where(m0.value > 0, m0.value, np.nan)
    value = scale * difference.value / reference
    variance = (scale / reference) ** 2 * difference.variance
    variance = variance + (value / reference) ** 2 * m0.variance
    lowest, highest = CBF_PLAUSIBLE
    status = combine_status(
        difference.status,
        m0.status,
        np.where(m0.value <= 0, Status.NO_REFERENCE, Status.OK),
        np.where((value < lowest) | (value > highest), Status.IMPLAUSIBLE, Status.OK),
        np.where(value < 0, Status.NEGATIVE, Status.OK),
    )
    return Estimate.of(value, variance, status, min(difference.dof, m0.dof))


def separate_m0_error(cbf: Estimate, m0: Estimate) -> tuple[Estimate, Estimate]:
    r"""
    Separate the error of M0 from that of CBF, to count it once where conditions share one M0.

    Parameters
    ----------
    cbf : (V,) Estimate
        From :func:`estimate_cbf` with this `m0`, mL/100 g/min.
    m0 : (V,) Estimate
        Equilibrium magnetisation, any unit.

    Returns
    -------
    cbf : (V,) Estimate
        The same values; the variance is that of the difference alone.
    m0_relative : (V,) Estimate
        Value 1; its variance is the relative variance of M0.

    See Also
    --------
    estimate_cbf : Puts the two errors together.
    bids_app.models.change.change_in_cbf : Counts the error of a shared M0 once.

    Examples
    --------
    >>> cbf, m0 = Estimate.of([50.0], [29.0]), Estimate.of([1000.0], [400.0])
    >>> [part.variance.round(6).tolist() for part in separate_m0_error(cbf, m0)]
    [[28.0], [0.0004]]
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        relative = m0.variance / m0.value**2
    without = np.maximum(cbf.variance - cbf.value**2 * relative, 0.0)
    usable = combine_status(
        m0.status, np.where(m0.value > 0, Status.OK, Status.NO_REFERENCE).astype(np.uint8)
    )
    return (
        Estimate.of(cbf.value, without, cbf.status, cbf.dof),
        Estimate.of(np.ones_like(m0.value), relative, usable, m0.dof),
    )


def _cbf_per_relative_difference(
    *,
    label_duration: float,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
) -> FloatArray:
    """Return CBF (mL/100 g/min) per difference in units of M0."""
    _check_positive('label_duration (s)', label_duration)
    _check_positive('t1_blood (s)', t1_blood)
    _check_positive('partition_coefficient (mL/g)', partition_coefficient)
    fractions = {
        'labeling_efficiency': labeling_efficiency,
        'background_suppression_factor': background_suppression_factor,
    }
    for name, number in fractions.items():
        if not 0 < number <= 1:
            msg = f'{name} must be a fraction in (0, 1], got {number}'
            raise ModelInputError(msg)
    delay = effective_delay(post_label_delay, 0.0)
    kept = labeling_efficiency * background_suppression_factor
    label_seconds = t1_blood * -np.expm1(-label_duration / t1_blood) * np.exp(-delay / t1_blood)
    scale: FloatArray = ML_PER_100G_PER_MIN * partition_coefficient / (2 * kept * label_seconds)
    return scale


def _volumes_of_differences(context: tuple[str, ...]) -> tuple[IntArray, IntArray]:
    """Return the volumes that count positive and those that are subtracted, pair by pair."""
    volumes = {
        name: np.flatnonzero([entry.strip().lower() == name for entry in context])
        for name in ('control', 'label', 'deltam')
    }
    control, label, deltam = volumes.values()
    counts = f'{len(control)} control, {len(label)} label and {len(deltam)} deltam volumes'
    if len(control) != len(label):
        msg = f'control and label volumes must be equally many, got {counts}'
        raise ModelInputError(msg)
    if (len(control) > 0) == (len(deltam) > 0):
        msg = f'expected either pairs of control and label or deltam volumes, got {counts}'
        raise ModelInputError(msg)
    return (deltam, label) if len(deltam) else (control, label)


def _variance_of_mean(
    samples: FloatArray, usable: BoolArray, noise_groups: ArrayLike | None
) -> tuple[FloatArray, float]:
    """Return the variance of the mean over (V, N) samples, pooled over voxels, and its dof."""
    n_samples = samples.shape[1]
    if n_samples > 1:
        variance, dof = samples.var(axis=1, ddof=1) / n_samples, n_samples - 1.0
    else:
        variance, dof = _squared_deviation(samples[:, 0], usable, noise_groups), 1.0
    return pool_variance(np.where(usable, variance, np.nan), dof, noise_groups)


def _squared_deviation(
    value: FloatArray, usable: BoolArray, noise_groups: ArrayLike | None
) -> FloatArray:
    """Return the squared deviation of each voxel from the median of its group."""
    groups = np.zeros(value.shape, int) if noise_groups is None else np.asarray(noise_groups)
    deviation = np.zeros(value.shape)
    for group in np.unique(groups[usable]):
        members = usable & (groups == group)
        deviation[members] = value[members] - np.median(value[members])
    return deviation**2


def _tabulated(table: Mapping[float, float], b0: float) -> float | None:
    """Return the entry of the nearest field, or None if there is none within tolerance."""
    _check_positive('b0 (T)', b0)
    nearest = min(table, key=lambda field: abs(field - b0))
    return table[nearest] if abs(nearest - b0) <= FIELD_TOLERANCE else None


def _check_positive(name: str, number: ArrayLike) -> None:
    """Refuse a parameter that is not positive and finite."""
    number = np.asarray(number, float)
    if not np.all((number > 0) & np.isfinite(number)):
        msg = f'{name} must be positive and finite, got {number}'
        raise ModelInputError(msg)
