"""From relative or assumed blood volume to CBV: white matter, artery, blood flow, parcels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    VESSEL_LEAD,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.models.status import Status, combine_status, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


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
    check_positive('white_matter_cbv (mL/mL)', white_matter_cbv)
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


def cbv_from_arterial_input(
    relative_cbv: Estimate,
    *,
    arterial_area: float,
    haematocrit_factor: float,
) -> Estimate:
    r"""
    Scale a relative blood volume by the area of the arterial input.

    Parameters
    ----------
    relative_cbv : (V,) Estimate
        Area of the change of R2*, any unit.
    arterial_area : float
        That of an artery over the same volumes, in the same unit; positive.
    haematocrit_factor : float
        Dimensionless, see :func:`haematocrit_factor`.

    Returns
    -------
    cbv : (V,) Estimate
        mL/mL, flagged as the input is.

    Notes
    -----
    The contrast agent stays in the plasma. No density: the volume is per volume of tissue.

    .. math:: CBV = \frac{1 - Hct_{LV}}{1 - Hct_{SV}} \frac{A_{tissue}}{A_{artery}}

    Partial volume of the artery and the relaxivity of whole blood scale the result: a systematic
    error of all voxels, and not part of the variance.

    References
    ----------
    .. [1] Rempp et al., Radiology 193:637, 1994.

    Examples
    --------
    >>> cbv_from_arterial_input(
    ...     Estimate.of([4.0]), arterial_area=100.0, haematocrit_factor=0.902
    ... ).value.round(4)
    array([0.0361])
    """
    check_positive('arterial_area', arterial_area)
    check_positive('haematocrit_factor', haematocrit_factor)
    scale = haematocrit_factor / arterial_area
    return Estimate.of(
        scale * relative_cbv.value,
        scale**2 * relative_cbv.variance,
        relative_cbv.status,
        relative_cbv.dof,
    )


def haematocrit_factor(*, hct: float, small_vessel_hct_ratio: float) -> float:
    """
    Give the ratio of plasma per blood in large vessels over that in small ones.

    Parameters
    ----------
    hct : float
        Haematocrit of large vessels, dimensionless, in (0, 1).
    small_vessel_hct_ratio : float
        That of small vessels over it, dimensionless, in (0, 1].

    Returns
    -------
    factor : float
        (1 - Hct of large vessels)/(1 - Hct of small vessels), dimensionless.

    Examples
    --------
    >>> round(haematocrit_factor(hct=0.42, small_vessel_hct_ratio=0.85), 4)
    0.902
    """
    check_fraction('hct', hct, below_one=True)
    check_fraction('small_vessel_hct_ratio', small_vessel_hct_ratio)
    return (1 - hct) / (1 - small_vessel_hct_ratio * hct)


def flag_large_vessels(
    cbv: Estimate,
    bolus_time: ArrayLike = np.nan,
    *,
    large_vessel_cbv: float,
    exclude: bool,
) -> Estimate:
    """
    Mark the voxels that an artery or a vein dominates.

    Parameters
    ----------
    cbv : (V,) Estimate
        mL/mL.
    bolus_time : (V,) array_like
        Of the bolus after that of the brain, s; NaN where it is not known.
    large_vessel_cbv : float
        Blood volume from which a voxel counts as a vessel, mL/mL; positive.
    exclude : bool
        Whether such voxels lose their value.

    Returns
    -------
    cbv : (V,) Estimate
        With LARGE_ARTERY where the bolus is over a second early, LARGE_VEIN where it is over a
        second late, else LARGE_VESSEL (value kept); with `exclude`, NaN and EXCLUDED_VESSEL.

    Notes
    -----
    In such a voxel R2' is not that of randomly oriented small vessels, so that OEF is not valid.

    Examples
    --------
    >>> cbv = Estimate.of([0.04, 0.3])
    >>> flag_large_vessels(cbv, large_vessel_cbv=0.1, exclude=True).value
    array([0.04,  nan])
    """
    check_positive('large_vessel_cbv (mL/mL)', large_vessel_cbv)
    time = np.broadcast_to(np.asarray(bolus_time, float), cbv.value.shape)
    kind = np.select(
        [np.full(time.shape, exclude), time < -VESSEL_LEAD, time > VESSEL_LEAD],
        [Status.EXCLUDED_VESSEL, Status.LARGE_ARTERY, Status.LARGE_VEIN],
        Status.LARGE_VESSEL,
    )
    vessel = np.where(cbv.value > large_vessel_cbv, kind, Status.OK).astype(np.uint8)
    return Estimate.of(cbv.value, cbv.variance, combine_status(cbv.status, vessel), cbv.dof)


def change_cbv_by_flow(
    cbv: Estimate, task_cbf: Estimate, baseline_cbf: Estimate, *, grubb_exponent: float
) -> Estimate:
    r"""
    Carry a blood volume from one condition to another by the change of flow.

    Parameters
    ----------
    cbv : (V,) Estimate
        Of the baseline, mL/mL.
    task_cbf, baseline_cbf : (V,) Estimate
        Flow, equal units.
    grubb_exponent : float
        Dimensionless; positive.

    Returns
    -------
    cbv : (V,) Estimate
        Of the task, mL/mL; missing where an input is, and with NO_REFERENCE where a flow is not
        positive. Its variance holds the errors of all three.

    Notes
    -----
    .. math:: V_t = V_b (F_t/F_b)^g

    References
    ----------
    .. [1] Grubb et al., Stroke 5:630, 1974. doi:10.1161/01.STR.5.5.630

    Examples
    --------
    >>> one = Estimate.of([0.04]), Estimate.of([66.0]), Estimate.of([55.0])
    >>> change_cbv_by_flow(*one, grubb_exponent=0.38).value.round(4)
    array([0.0429])
    """
    check_positive('grubb_exponent', grubb_exponent)
    valid = (task_cbf.value > 0) & (baseline_cbf.value > 0)
    after = np.where(valid, task_cbf.value, np.nan)
    before = np.where(valid, baseline_cbf.value, np.nan)
    ratio = (after / before) ** grubb_exponent
    value = cbv.value * ratio
    variance = ratio**2 * cbv.variance + (grubb_exponent * value) ** 2 * (
        task_cbf.variance / after**2 + baseline_cbf.variance / before**2
    )
    reason = np.where(valid, Status.OK, Status.NO_REFERENCE)
    status = combine_status(cbv.status, task_cbf.status, baseline_cbf.status, reason)
    dof = min(cbv.dof, task_cbf.dof, baseline_cbf.dof)
    return Estimate.of(value, variance, status, dof)


def change_cbv_by_parcel(cbv: Estimate, factor: ArrayLike) -> Estimate:
    """
    Carry a blood volume from one condition to another by a factor that was found elsewhere.

    Parameters
    ----------
    cbv : (V,) Estimate
        Of the baseline, mL/mL.
    factor : (V,) array_like
        Relative change of each voxel's parcel, dimensionless (0.05 is 5 % more); above -1.

    Returns
    -------
    cbv : (V,) Estimate
        Of the task, mL/mL, with the relative error of the baseline: the factor counts as known.

    Raises
    ------
    ModelInputError
        If a factor is not finite or not above -1.

    Notes
    -----
    An error of the factor is common to all who use the table: it does not average away, and it
    tips the sign of the change of CMRO2 (:func:`cbv_change_that_flips_sign`).

    Examples
    --------
    >>> change_cbv_by_parcel(Estimate.of([0.04, 0.04]), [0.05, 0.0]).value
    array([0.042, 0.04 ])
    """
    factor = np.asarray(factor, float)
    if not np.all(np.isfinite(factor) & (factor > -1)):
        msg = 'factors of blood volume must be finite and above -1 (0.05 is 5 % more)'
        raise ModelInputError(msg)
    gain = 1.0 + factor
    return Estimate.of(gain * cbv.value, gain**2 * cbv.variance, cbv.status, cbv.dof)


def cbv_change_that_flips_sign(
    *,
    task_cbf: ArrayLike,
    baseline_cbf: ArrayLike,
    task_r2_prime: ArrayLike,
    baseline_r2_prime: ArrayLike,
) -> FloatArray:
    r"""
    Give the change of blood volume at which the change of CMRO2 is zero.

    Parameters
    ----------
    task_cbf, baseline_cbf : (...) array_like
        Flow, equal units.
    task_r2_prime, baseline_r2_prime : (...) array_like
        R2', equal units.

    Returns
    -------
    change : (...) ndarray of float64
        Relative, dimensionless: above it CMRO2 falls, below it CMRO2 rises. NaN where a value is
        not positive.

    Notes
    -----
    .. math:: V_t/V_b - 1 = \frac{F_t R_{2,t}'}{F_b R_{2,b}'} - 1

    Examples
    --------
    >>> cbv_change_that_flips_sign(
    ...     task_cbf=[52.0], baseline_cbf=[50.0], task_r2_prime=[5.2], baseline_r2_prime=[5.3]
    ... ).round(4)
    array([0.0204])
    """
    arrays = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (task_cbf, baseline_cbf, task_r2_prime, baseline_r2_prime))
    )
    valid = np.all([array > 0 for array in arrays], axis=0)
    after_flow, before_flow, after_rate, before_rate = arrays
    change: FloatArray = np.full(valid.shape, np.nan)
    np.divide(after_flow * after_rate, before_flow * before_rate, out=change, where=valid)
    return change - 1.0


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
    check_positive('grubb_factor (mL/mL)', grubb_factor)
    check_positive('grubb_exponent', grubb_exponent)
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
    check_positive('grey_matter_cbv (mL/mL)', grey_matter_cbv)
    check_positive('white_matter_cbv (mL/mL)', white_matter_cbv)
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
