"""Cerebral blood flow from arterial spin labeling: differences, M0, one post-labeling delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.asl.multi_delay import CONTINUOUS, PULSED, PULSED_QUIPSS
from bids_app.models.constants import (
    BISQUARE,
    CBF_PLAUSIBLE,
    FIELD_OF_HCT_LINE,
    FIELD_TOLERANCE,
    M0_REGION_BLOOD_T2_STAR,
    M0_REGION_FRACTION,
    M0_REGION_PARTITION,
    M0_REGION_T2_STAR,
    M0_REGION_VOXELS,
    NOISY_PAIR,
    R1_BLOOD_PER_HCT,
    R1_BLOOD_PLASMA,
    ROBUST_MINIMUM,
    T1_BLOOD,
    T1_BLOOD_INTERCEPT,
    T1_BLOOD_SLOPE,
    T1_TISSUE,
    WHOLLY_COUNTED,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import pool_variance
from bids_app.models.status import Status, combine_status, is_missing
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray


BISQUARE_STEPS = 4
"""Steps of the weighted mean; the centre moves by less than 1 % of its error in the last; ours."""


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


def t1_blood_from_hct(hct: float, b0: float) -> float:
    r"""
    Compute the longitudinal relaxation time of arterial blood from haematocrit.

    Parameters
    ----------
    hct : float
        Large-vessel haematocrit, dimensionless, in (0, 1).
    b0 : float
        Main field, T; within 0.15 T of 3 T.

    Returns
    -------
    t1_blood : float
        s.

    Raises
    ------
    ModelInputError
        If `hct` lies outside its range or the line is not known at `b0`.

    See Also
    --------
    t1_blood_at : The same for the haematocrit of a healthy adult.

    Notes
    -----
    .. math:: 1/T_{1b} = 0.52\,\mathrm{s}^{-1}\,Hct + 0.38\,\mathrm{s}^{-1}

    References
    ----------
    .. [1] Lu et al., Magn Reson Med 52:679, 2004. doi:10.1002/mrm.20178

    Examples
    --------
    >>> round(t1_blood_from_hct(0.42, 3.0), 3)
    1.671
    """
    if not 0 < hct < 1:
        msg = f'hct must lie in (0, 1), got {hct}'
        raise ModelInputError(msg)
    if not abs(b0 - FIELD_OF_HCT_LINE) <= FIELD_TOLERANCE:
        msg = (
            f'T1 of blood from haematocrit is known at {FIELD_OF_HCT_LINE:g} T only, the field '
            f'is {b0:g} T: give it as perfusion.t1_blood (s)'
        )
        raise ModelInputError(msg)
    return 1 / (R1_BLOOD_PER_HCT * hct + R1_BLOOD_PLASMA)


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
    series: ArrayLike,
    *,
    context: Sequence[str],
    delay_index: Sequence[int] | None = None,
    robust: bool = False,
    noise_groups: ArrayLike | None = None,
) -> Estimate:
    r"""
    Estimate the mean difference of control and label.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of every volume, any unit.
    context : (T,) sequence of str
        What each volume is: control, label, deltam; or cbf, where there is nothing else. Other
        volumes are not used.
    delay_index : (T,) sequence of int, optional
        Which delay each volume has, from 0; those of unused volumes are not read.
    robust : bool
        Weight outlying pairs down, where a delay has four or more.
    noise_groups : (V,) array_like of int, optional
        Voxels whose noise variance is pooled; default all.

    Returns
    -------
    difference : (V,) or, with `delay_index`, (V, D) Estimate
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
    half_difference : Tests its variance.

    Notes
    -----
    The k-th control and the k-th label volume form the k-th pair, whichever comes first. The
    variance is that of the mean over pairs, pooled over voxels and delays. From a single
    difference volume it cannot be told: then it is the robust spread over the voxels of a group,
    which holds the anatomy too and so is an upper bound.

    Robust: a pair whose deviation from the median, squared and taken as median over the voxels,
    exceeds twice that of the other pairs has its weight divided by this ratio; what then
    deviates in a voxel by r standard deviations of the pooled noise has the weight 1 up to 3,
    :math:`(1 - (r/3 - 1)^2)^2` up to 6, and 0 beyond.

    References
    ----------
    .. [1] Beaton & Tukey, Technometrics 16:147, 1974. doi:10.1080/00401706.1974.10489171

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
    pairs, finite, silent = _pairs(series, context)
    status = np.where(silent, Status.NO_SIGNAL, Status.OK)
    status = np.where(finite, status, Status.INVALID_INPUT)
    groups = _delays_of_pairs(context, delay_index)
    usable = status == Status.OK
    weights = [_pair_weights(pairs[:, group], usable, robust=robust) for group in groups]
    noise, dof = _noise_of_pairs(pairs, groups, weights, usable, noise_groups)
    value = np.empty((len(series), len(groups)))
    variance = np.empty_like(value)
    for index, (group, weight) in enumerate(zip(groups, weights, strict=True)):
        value[:, index], counted = _location(pairs[:, group], weight, noise, robust=robust)
        variance[:, index] = noise / counted
    if delay_index is None:
        return Estimate.of(value[:, 0], variance[:, 0], status, dof)
    return Estimate.of(value, variance, np.repeat(status[:, np.newaxis], len(groups), axis=1), dof)


def half_difference(
    series: ArrayLike,
    *,
    context: Sequence[str],
    delay_index: Sequence[int] | None = None,
    robust: bool = False,
    noise_groups: ArrayLike | None = None,
) -> Estimate | None:
    """
    Estimate the difference of odd and even pairs, which is nothing but noise.

    Parameters
    ----------
    series, context, delay_index, robust, noise_groups
        As for :func:`estimate_difference`.

    Returns
    -------
    half : (V,) Estimate or None
        Mean over the odd pairs minus mean over the even ones, averaged over delays, unit of
        `series`; divided by its standard error it is N(0, 1) if the variances are right. None
        where a delay has fewer than four pairs.

    Raises
    ------
    ModelInputError
        As for :func:`estimate_difference`.

    Examples
    --------
    >>> half_difference([[7, 9, 5, 9, 7, 9, 5, 9.5]], context=['label', 'control'] * 4).value
    array([-2.25])
    """
    context = tuple(context)
    groups = _delays_of_pairs(context, delay_index)
    if min(len(group) for group in groups) < ROBUST_MINIMUM:
        return None
    plus, minus = _volumes_of_differences(context)
    halves = []
    for parity in (0, 1):
        kept = np.concatenate([group[parity::2] for group in groups])
        volumes = {*plus[kept], *(minus[kept] if len(minus) else ())}
        own = [kind if index in volumes else 'n/a' for index, kind in enumerate(context)]
        halves.append(
            estimate_difference(
                series,
                context=own,
                delay_index=delay_index if delay_index is not None else [0] * len(own),
                robust=robust,
                noise_groups=noise_groups,
            )
        )
    odd, even = halves
    value = (odd.value - even.value).mean(axis=1)
    variance = (odd.variance + even.variance).sum(axis=1) / len(groups) ** 2
    status = combine_status(odd.status[:, 0], even.status[:, 0])
    return Estimate.of(value, variance, status, min(odd.dof, even.dof))


def pairs_per_delay(
    context: Sequence[str], delay_index: Sequence[int] | None = None
) -> tuple[int, ...]:
    """
    Count the pairs (or ready differences) of each delay.

    Parameters
    ----------
    context, delay_index
        As for :func:`estimate_difference`.

    Returns
    -------
    counts : tuple of int
        One per delay.

    Raises
    ------
    ModelInputError
        As for :func:`estimate_difference`.

    Examples
    --------
    >>> pairs_per_delay(['control', 'label'] * 3, [0, 0, 0, 0, 1, 1])
    (2, 1)
    """
    return tuple(len(group) for group in _delays_of_pairs(tuple(context), delay_index))


def sign_of_difference(series: ArrayLike, *, context: Sequence[str]) -> float:
    """
    Test whether label lowers the signal, as it must.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of a region with blood flow (grey matter), any unit.
    context : (T,) sequence of str
        As for :func:`estimate_difference`.

    Returns
    -------
    z : float
        Mean difference over its error, no unit; far below 0 where control and label are
        swapped. The error is that between pairs, with fewer than four pairs that between voxels.

    Raises
    ------
    ModelInputError
        As for :func:`estimate_difference`.

    Examples
    --------
    >>> sign_of_difference([[9, 7.0, 9, 5, 9, 6, 9, 6]], context=['label', 'control'] * 4) < -5
    True
    """
    pairs, finite, _ = _pairs(np.asarray(series, float), tuple(context))
    pairs = pairs[finite]
    if not pairs.size:
        return 0.0
    samples = pairs.mean(axis=0 if pairs.shape[1] >= ROBUST_MINIMUM else 1)
    error = samples.std(ddof=1) / np.sqrt(len(samples)) if len(samples) > 1 else 0.0
    return float(samples.mean() / error) if error > 0 else 0.0


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
        variance, dof = _variance_of_mean(series, finite)
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
    label_duration: ArrayLike,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
    labeling: str = CONTINUOUS,
) -> FloatArray:
    r"""
    Compute blood flow from the control-label difference of one delay.

    Parameters
    ----------
    difference : (...) array_like
        Control minus label, any unit.
    m0 : (...) array_like
        Equilibrium magnetisation of tissue, unit of `difference`; broadcasts against it.
    label_duration : (...) array_like
        Duration of labeling, or for pulsed labeling the time at which the bolus is cut off (often
        called TI1), s; positive; broadcasts.
    post_label_delay : (...) array_like
        From the end of labeling, or for pulsed labeling from the inversion (often called TI), to
        the readout of the voxel, s; not negative; broadcasts.
    labeling_efficiency : float
        Inversion efficiency without background suppression, dimensionless, in (0, 1].
    background_suppression_factor : float
        Label kept by all suppression pulses together, dimensionless, in (0, 1]; 1 without.
    t1_blood : float
        Longitudinal relaxation time of blood, s; positive.
    partition_coefficient : float
        Blood-brain partition coefficient of water, mL/g; positive.
    labeling : str
        ``continuous`` (PCASL, CASL), ``pulsed`` (PASL with QUIPSS II or Q2TIPS) or
        ``pulsed-quipss`` (PASL with QUIPSS).

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

    Pulsed labeling has :math:`TI_1\,e^{-TI/T_{1b}}` in place of :math:`T_{1b} (1-e^{-\tau/T_{1b}})
    \,e^{-PLD/T_{1b}}`; QUIPSS, which saturates the imaged slab instead of what follows the label,
    has :math:`TI - TI_1` in place of :math:`TI_1` (NaN where that is not positive).

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015, eq. 1 and 2. doi:10.1002/mrm.25197
    .. [2] Wong et al., Magn Reson Med 39:702, 1998. doi:10.1002/mrm.1910390506

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
        labeling=labeling,
    )
    m0 = np.asarray(m0, float)
    cbf: FloatArray = scale * np.asarray(difference, float) / np.where(m0 > 0, m0, np.nan)
    return cbf


def difference_from_cbf(
    cbf: ArrayLike,
    m0: ArrayLike,
    *,
    label_duration: ArrayLike,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
    labeling: str = CONTINUOUS,
) -> FloatArray:
    """
    Predict the control-label difference of one delay.

    Parameters
    ----------
    cbf : (...) array_like
        Cerebral blood flow, mL/100 g/min.
    m0 : (...) array_like
        Equilibrium magnetisation of tissue, any unit; broadcasts against `cbf`.
    label_duration, post_label_delay, labeling_efficiency, background_suppression_factor, \
t1_blood, partition_coefficient, labeling
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
        labeling=labeling,
    )
    difference: FloatArray = np.asarray(cbf, float) * np.asarray(m0, float) / scale
    return difference


def estimate_cbf(
    difference: Estimate,
    m0: Estimate,
    *,
    label_duration: ArrayLike,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
    labeling: str = CONTINUOUS,
) -> Estimate:
    r"""
    Estimate blood flow from one delay with its random error.

    Parameters
    ----------
    difference : (V,) Estimate
        Control minus label, any unit.
    m0 : (V,) Estimate
        Equilibrium magnetisation of tissue, unit of `difference`.
    label_duration, post_label_delay, labeling_efficiency, background_suppression_factor, \
t1_blood, partition_coefficient, labeling
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
    and let :mod:`bids_app.models.contrast.difference` count its error once.

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
        labeling=labeling,
    )
    reference = np.where(m0.value > 0, m0.value, np.nan)
    value = scale * difference.value / reference
    variance = (scale / reference) ** 2 * difference.variance
    variance = variance + (value / reference) ** 2 * m0.variance
    status = combine_status(
        difference.status,
        m0.status,
        np.where(m0.value <= 0, Status.NO_REFERENCE, Status.OK),
        *_cautions(value),
    )
    return Estimate.of(value, variance, status, min(difference.dof, m0.dof))


def take_scanner_cbf(difference: Estimate) -> Estimate:
    """
    Take CBF that the scanner computed.

    Parameters
    ----------
    difference : (V,) Estimate
        Mean of the volumes of type cbf, mL/100 g/min.

    Returns
    -------
    cbf : (V,) Estimate
        The same, flagged IMPLAUSIBLE outside [-50, 200], else NEGATIVE below 0.

    See Also
    --------
    estimate_cbf : From differences.

    Examples
    --------
    >>> take_scanner_cbf(Estimate.of([50.0, 900.0])).status
    array([ 0, 21], dtype=uint8)
    """
    status = combine_status(difference.status, *_cautions(difference.value))
    return Estimate.of(difference.value, difference.variance, status, difference.dof)


def relative_to_region(cbf: Estimate, region: BoolArray) -> Estimate:
    """
    Express blood flow relative to its median in a region.

    Parameters
    ----------
    cbf : (V,) Estimate
        Up to an unknown factor: without M0.
    region : (V,) ndarray of bool
        Such as grey matter.

    Returns
    -------
    relative : (V,) Estimate
        Dimensionless, median 1 in the region; the error of that median, which is small, is not
        in the variance. NaN with NO_REFERENCE everywhere if it is not positive.

    See Also
    --------
    estimate_cbf : In absolute units.

    Examples
    --------
    >>> relative_to_region(Estimate.of([2.0, 4.0, 6.0]), np.ones(3, bool)).value
    array([0.5, 1. , 1.5])
    """
    usable = region & np.isfinite(cbf.value)
    reference = float(np.median(cbf.value[usable])) if usable.any() else 0.0
    lost = np.where(is_missing(cbf.status), cbf.status, Status.OK)
    if not reference > 0:
        status = combine_status(lost, np.full(lost.shape, Status.NO_REFERENCE))
        return Estimate.of(cbf.value, cbf.variance, status, cbf.dof)
    value = cbf.value / reference
    status = combine_status(lost, np.where(value < 0, Status.NEGATIVE, Status.OK))
    return Estimate.of(value, cbf.variance / reference**2, status, cbf.dof)


def m0_from_region(
    m0: Estimate,
    fraction: ArrayLike,
    *,
    region: str,
    echo_time: float,
    partition_coefficient: float,
) -> Estimate:
    r"""
    Replace M0 of every voxel by that of blood, from a region of one tissue.

    Parameters
    ----------
    m0 : (V,) Estimate
        Signal fully recovered with the T1 of the region, any unit.
    fraction : (V,) array_like
        Part of each voxel that is this tissue, dimensionless, in [0, 1].
    region : str
        ``grey_matter``, ``white_matter`` or ``csf``.
    echo_time : float
        Of the images, s; not negative. T2* of the region and of labelled water differ.
    partition_coefficient : float
        Blood-brain partition coefficient that the model of CBF divides by, mL/g; positive.

    Returns
    -------
    m0 : (V,) Estimate
        The same number everywhere: partition coefficient times M0 of blood, unit of `m0`.

    Raises
    ------
    ModelInputError
        If the region is unknown or has fewer than 20 voxels.

    See Also
    --------
    estimate_m0 : M0 of every voxel.

    Notes
    -----
    With the median over voxels whose fraction exceeds 0.9 and the water of the region over that
    of blood, :math:`p`:

    .. math:: M_0 = \lambda \frac{\mathrm{median}(M_r)}{p}
              \exp\left(\frac{TE}{T^*_{2r}} - \frac{TE}{T^*_{2b}}\right)

    References
    ----------
    .. [1] Chappell, MacIntosh & Okell, Introduction to Perfusion Quantification using Arterial
       Spin Labelling, 2018. doi:10.1093/oso/9780198793816.001.0001

    Examples
    --------
    >>> m0_from_region(
    ...     Estimate.of(np.full(30, 1000.0)), np.ones(30), region='grey_matter', echo_time=0.012,
    ...     partition_coefficient=0.98,
    ... ).value[:1].round(6)
    array([1000.])
    """
    if region not in M0_REGION_PARTITION:
        msg = f'region must be one of {", ".join(M0_REGION_PARTITION)}, got {region!r}'
        raise ModelInputError(msg)
    members = (np.asarray(fraction, float) > M0_REGION_FRACTION) & np.isfinite(m0.value)
    if members.sum() < M0_REGION_VOXELS:
        msg = (
            f'M0 from {region} needs {M0_REGION_VOXELS} voxels that are more than '
            f'{M0_REGION_FRACTION:g} {region}, found {members.sum()}; use another region or '
            'perfusion.m0_reference voxel'
        )
        raise ModelInputError(msg)
    rates = 1 / M0_REGION_T2_STAR[region] - 1 / M0_REGION_BLOOD_T2_STAR
    factor = partition_coefficient / M0_REGION_PARTITION[region] * np.exp(echo_time * rates)
    value = float(np.median(m0.value[members])) * factor
    # the scatter over the region holds anatomy and noise: no less than the noise alone
    variance = float(m0.value[members].var()) * factor**2 / members.sum()
    status = np.where(is_missing(m0.status), m0.status, Status.OK)
    return Estimate.of(np.full(m0.value.shape, value), variance, status, float(members.sum() - 1))


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
    bids_app.models.contrast.difference.change_in_cbf : Counts the error of a shared M0 once.

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


def _cautions(value: FloatArray) -> tuple[StatusArray, StatusArray]:
    """Flag values outside the physiological range, and negative ones."""
    lowest, highest = CBF_PLAUSIBLE
    return (
        np.where((value < lowest) | (value > highest), Status.IMPLAUSIBLE, Status.OK).astype(
            np.uint8
        ),
        np.where(value < 0, Status.NEGATIVE, Status.OK).astype(np.uint8),
    )


def _cbf_per_relative_difference(
    *,
    label_duration: ArrayLike,
    post_label_delay: ArrayLike,
    labeling_efficiency: float,
    background_suppression_factor: float,
    t1_blood: float,
    partition_coefficient: float,
    labeling: str,
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
    duration = np.asarray(label_duration, float)
    if labeling == CONTINUOUS:
        bolus = t1_blood * -np.expm1(-duration / t1_blood)
    elif labeling == PULSED:
        bolus = duration
    elif labeling == PULSED_QUIPSS:
        bolus = np.where(delay > duration, delay - duration, np.nan)
    else:
        msg = f'labeling must be {CONTINUOUS}, {PULSED} or {PULSED_QUIPSS}, got {labeling!r}'
        raise ModelInputError(msg)
    kept = labeling_efficiency * background_suppression_factor
    label_seconds = bolus * np.exp(-delay / t1_blood)
    scale: FloatArray = ML_PER_100G_PER_MIN * partition_coefficient / (2 * kept * label_seconds)
    return scale


def _volumes_of_differences(context: tuple[str, ...]) -> tuple[IntArray, IntArray]:
    """Return the volumes that count positive and those that are subtracted, pair by pair."""
    volumes = {
        name: np.flatnonzero([entry.strip().lower() == name for entry in context])
        for name in ('control', 'label', 'deltam', 'cbf')
    }
    control, label, deltam, ready = volumes.values()
    if len(ready) and not len(control) + len(label) + len(deltam):
        return ready, label
    counts = f'{len(control)} control, {len(label)} label and {len(deltam)} deltam volumes'
    if len(control) != len(label):
        msg = f'control and label volumes must be equally many, got {counts}'
        raise ModelInputError(msg)
    if (len(control) > 0) == (len(deltam) > 0):
        msg = f'expected either pairs of control and label or deltam volumes, got {counts}'
        raise ModelInputError(msg)
    return (deltam, label) if len(deltam) else (control, label)


def _pairs(
    series: FloatArray, context: tuple[str, ...]
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return the differences (V, N), which voxels are finite and which are empty."""
    plus, minus = _volumes_of_differences(context)
    used = series[:, np.concatenate([plus, minus])]
    finite: BoolArray = np.asarray(np.isfinite(used).all(axis=1))
    used = np.where(finite[:, np.newaxis], used, 0.0)
    differences = used[:, : len(plus)]
    if len(minus):
        differences = differences - used[:, len(plus) :]
    silent: BoolArray = np.asarray(~used.any(axis=1))
    return differences, finite, silent


def _delays_of_pairs(
    context: tuple[str, ...], delay_index: Sequence[int] | None
) -> list[IntArray]:
    """Return the pairs of each delay."""
    plus, minus = _volumes_of_differences(context)
    if delay_index is None:
        return [np.arange(len(plus))]
    index = np.asarray(delay_index, int)
    if index.shape != (len(context),):
        msg = f'delay_index must have one entry per volume ({len(context)}), got {index.shape}'
        raise ModelInputError(msg)
    own = index[plus]
    if len(minus) and np.any(own != index[minus]):
        msg = 'control and label of a pair must have the same delay'
        raise ModelInputError(msg)
    return [np.flatnonzero(own == delay) for delay in np.unique(own)]


def _pair_weights(pairs: FloatArray, usable: BoolArray, *, robust: bool) -> FloatArray:
    """Return the weight of each pair of a delay: 1, less where the whole volume is noisy."""
    n_pairs = pairs.shape[1]
    if not robust or n_pairs < ROBUST_MINIMUM or not usable.any():
        return np.ones(n_pairs)
    squared = (pairs[usable] - np.median(pairs[usable], axis=1, keepdims=True)) ** 2
    power = np.median(squared, axis=0)
    typical = np.median(power)
    ratio = power / typical if typical > 0 else np.ones(n_pairs)
    return np.asarray(np.where(ratio > NOISY_PAIR, 1 / np.maximum(ratio, 1.0), 1.0))


def _noise_of_pairs(
    pairs: FloatArray,
    groups: Sequence[IntArray],
    weights: Sequence[FloatArray],
    usable: BoolArray,
    noise_groups: ArrayLike | None,
) -> tuple[FloatArray, float]:
    """Return the variance of a single pair, pooled over voxels and delays, and its dof."""
    squares, dof = np.zeros(len(pairs)), 0
    for group, weight in zip(groups, weights, strict=True):
        quiet = pairs[:, group[weight == 1]]
        if quiet.shape[1] > 1:
            squares = squares + quiet.var(axis=1) * quiet.shape[1]
            dof += quiet.shape[1] - 1
    if dof:
        variance = squares / dof
    else:
        variance, dof = _squared_deviation(pairs.mean(axis=1), usable, noise_groups), 1
    return pool_variance(np.where(usable, variance, np.nan), dof, noise_groups)


def _location(
    pairs: FloatArray, weights: FloatArray, noise: FloatArray, *, robust: bool
) -> tuple[FloatArray, FloatArray | float]:
    """Return the mean of the pairs of a delay and how many quiet pairs it is worth."""
    n_pairs = pairs.shape[1]
    if not robust or n_pairs < ROBUST_MINIMUM:
        return pairs.mean(axis=1), float(n_pairs)
    centre = np.median(pairs, axis=1)
    spread = np.sqrt(noise)[:, np.newaxis] / np.sqrt(weights)
    spread = np.where(spread > 0, spread, np.inf)
    for _ in range(BISQUARE_STEPS):
        beyond = np.abs(pairs - centre[:, np.newaxis]) / spread - WHOLLY_COUNTED
        inside = 1 - np.clip(beyond / (BISQUARE - WHOLLY_COUNTED), 0, 1) ** 2
        share = weights * inside**2
        total = share.sum(axis=1)
        mean = (share * pairs).sum(axis=1)
        centre = np.divide(mean, total, out=centre.copy(), where=total > 0)
    counted = (weights * (inside > 0)).sum(axis=1)
    return centre, np.maximum(counted, 1.0)


def _variance_of_mean(samples: FloatArray, usable: BoolArray) -> tuple[FloatArray, float]:
    """Return the variance of the mean over (V, N) samples, pooled over voxels, and its dof."""
    n_samples = samples.shape[1]
    variance = samples.var(axis=1, ddof=1) / n_samples
    return pool_variance(np.where(usable, variance, np.nan), n_samples - 1.0)


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
