"""Cerebral blood flow from one post-labeling delay, and the T1 of blood and tissue it takes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.asl.kinetics import CONTINUOUS, PULSED, PULSED_QUIPSS
from bids_app.models.constants import (
    CBF_PLAUSIBLE,
    FIELD_OF_HCT_LINE,
    FIELD_TOLERANCE,
    R1_BLOOD_PER_HCT,
    R1_BLOOD_PLASMA,
    T1_BLOOD,
    T1_BLOOD_INTERCEPT,
    T1_BLOOD_SLOPE,
    T1_TISSUE,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.models.status import (
    Status,
    combine_status,
    flag_negative,
    without_cautions,
)
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, StatusArray

BOLUS: Mapping[str, Callable[[FloatArray, FloatArray, float], FloatArray]] = MappingProxyType(
    {
        CONTINUOUS: lambda duration, _, t1_blood: t1_blood * -np.expm1(-duration / t1_blood),
        PULSED: lambda duration, *_: duration,
        PULSED_QUIPSS: lambda duration, delay, _: np.where(
            delay > duration, delay - duration, np.nan
        ),
    }
)
"""Shape of the bolus -> label that was delivered, s of inflow, from the duration of labelling, the
delay and T1 of blood (s), but for its decay during the delay."""


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
    check_fraction('hct', hct, below_one=True)
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
    label_duration, post_label_delay : float or (V,) array_like
        As for :func:`cbf_from_difference`; the delay may be one per voxel.
    labeling_efficiency, background_suppression_factor : float
        As for :func:`cbf_from_difference`.
    t1_blood, partition_coefficient, labeling
        As for :func:`cbf_from_difference`.

    Returns
    -------
    cbf : (V,) Estimate
        mL/100 g/min, unclipped; NaN with NO_REFERENCE where M0 is not positive, INVALID_INPUT
        where the delay is unknown, else with the reason of the input. Flagged IMPLAUSIBLE
        outside [-50, 200], else NEGATIVE below 0.

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

    Examples
    --------
    >>> relative_to_region(Estimate.of([2.0, 4.0, 6.0]), np.ones(3, bool)).value
    array([0.5, 1. , 1.5])
    """
    usable = region & np.isfinite(cbf.value)
    reference = float(np.median(cbf.value[usable])) if usable.any() else 0.0
    lost = without_cautions(cbf.status)
    if not reference > 0:
        status = combine_status(lost, np.full(lost.shape, Status.NO_REFERENCE))
        return Estimate.of(cbf.value, cbf.variance, status, cbf.dof)
    value = cbf.value / reference
    status = combine_status(lost, flag_negative(value))
    return Estimate.of(value, cbf.variance / reference**2, status, cbf.dof)


def _cautions(value: FloatArray) -> tuple[StatusArray, StatusArray]:
    """Flag values outside the physiological range, and negative ones."""
    lowest, highest = CBF_PLAUSIBLE
    return (
        np.where((value < lowest) | (value > highest), Status.IMPLAUSIBLE, Status.OK).astype(
            np.uint8
        ),
        flag_negative(value),
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
    check_positive('label_duration (s)', label_duration)
    check_positive('t1_blood (s)', t1_blood)
    check_positive('partition_coefficient (mL/g)', partition_coefficient)
    check_fraction('labeling_efficiency', labeling_efficiency)
    check_fraction('background_suppression_factor', background_suppression_factor)
    delay = effective_delay(post_label_delay, 0.0)
    duration = np.asarray(label_duration, float)
    if labeling not in BOLUS:
        msg = f'labeling must be one of {", ".join(BOLUS)}, got {labeling!r}'
        raise ModelInputError(msg)
    bolus = BOLUS[labeling](duration, delay, t1_blood)
    kept = labeling_efficiency * background_suppression_factor
    label_seconds = bolus * np.exp(-delay / t1_blood)
    scale: FloatArray = ML_PER_100G_PER_MIN * partition_coefficient / (2 * kept * label_seconds)
    return scale


def _tabulated(table: Mapping[float, float], b0: float) -> float | None:
    """Return the entry of the nearest field, or None if there is none within tolerance."""
    check_positive('b0 (T)', b0)
    nearest = min(table, key=lambda field: abs(field - b0))
    return table[nearest] if abs(nearest - b0) <= FIELD_TOLERANCE else None
