"""Oxygen extraction fraction from the reversible relaxation rate and blood volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.constants import (
    GYROMAGNETIC_RATIO,
    OEF_CAP_OF_MEDIAN,
    OEF_PLAUSIBLE_MAXIMUM,
    OEF_SMALLEST_CAP,
    SMALL_VESSEL_HCT_RATIO,
    SUSCEPTIBILITY,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.models.status import (
    Status,
    combine_status,
    flag_negative,
    without_cautions,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


def static_dephasing_constant(
    *,
    b0: float,
    hct: float,
    small_vessel_hct_ratio: float = SMALL_VESSEL_HCT_RATIO,
    susceptibility: float = SUSCEPTIBILITY,
    gyromagnetic_ratio: float = GYROMAGNETIC_RATIO,
) -> float:
    r"""
    Compute R2' per unit oxygen extraction and unit blood volume.

    Parameters
    ----------
    b0 : float
        Main field, T; positive.
    hct : float
        Haematocrit of large vessels, as measured in a blood sample, dimensionless, in (0, 1).
    small_vessel_hct_ratio : float
        Haematocrit of small vessels relative to large ones, dimensionless, in (0, 1].
    susceptibility : float
        Difference of fully de- and fully oxygenated blood per unit haematocrit, cgs; positive.
    gyromagnetic_ratio : float
        Of the proton, rad/s/T; positive.

    Returns
    -------
    rate : float
        1/s.

    Notes
    -----
    .. math:: C = \tfrac{4}{3}\pi\,\gamma\,B_0\,\Delta\chi_0\,(0.85\,Hct)

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> round(static_dephasing_constant(b0=3.0, hct=0.42, gyromagnetic_ratio=267.61918e6), 3)
    316.956
    """
    check_fraction('hct', hct, below_one=True)
    check_fraction('small_vessel_hct_ratio', small_vessel_hct_ratio)
    check_positive('b0 (T)', b0)
    check_positive('susceptibility (cgs)', susceptibility)
    check_positive('gyromagnetic_ratio (rad/s/T)', gyromagnetic_ratio)
    small_vessel_hct = small_vessel_hct_ratio * hct
    return float(4 / 3 * np.pi * gyromagnetic_ratio * b0 * susceptibility * small_vessel_hct)


def r2_prime_from_oef(
    oef: ArrayLike,
    cbv: ArrayLike,
    *,
    static_dephasing_constant: float,
) -> FloatArray:
    r"""
    Predict R2' of a network of randomly oriented vessels in the static dephasing regime.

    Parameters
    ----------
    oef : (...) array_like
        Oxygen extraction fraction, dimensionless, in [0, 1].
    cbv : (...) array_like
        Blood volume, mL/mL; broadcasts against `oef`.
    static_dephasing_constant : float
        1/s, see :func:`static_dephasing_constant`.

    Returns
    -------
    r2_prime : (...) ndarray of float64
        Reversible transverse relaxation rate, 1/s; NaN where an argument is NaN.

    Notes
    -----
    Valid for echo times well beyond the characteristic time of dephasing; the whole blood volume
    is taken as deoxygenated:

    .. math:: R_2' = C \cdot OEF \cdot CBV

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610
    .. [2] Hirsch et al., NMR Biomed 27:853, 2014.

    Examples
    --------
    >>> round(float(r2_prime_from_oef(0.4, 0.03, static_dephasing_constant=316.7)), 2)
    3.8
    """
    extraction, volume = np.asarray(oef, float), np.asarray(cbv, float)
    r2_prime: FloatArray = static_dephasing_constant * extraction * volume
    return r2_prime


def oef_from_r2_prime(
    r2_prime: ArrayLike,
    cbv: ArrayLike,
    *,
    static_dephasing_constant: float,
) -> FloatArray:
    """
    Compute the oxygen extraction fraction from R2' and blood volume.

    Parameters
    ----------
    r2_prime : (...) array_like
        Reversible transverse relaxation rate, 1/s.
    cbv : (...) array_like
        Blood volume, mL/mL; broadcasts against `r2_prime`.
    static_dephasing_constant : float
        1/s, see :func:`static_dephasing_constant`.

    Returns
    -------
    oef : (...) ndarray of float64
        Dimensionless and unclipped; NaN where `cbv` is not positive.

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> oef_from_r2_prime([3.8, 3.8], [0.03, 0.0], static_dephasing_constant=316.7).round(2)
    array([0.4, nan])
    """
    r2_prime, cbv = np.broadcast_arrays(np.asarray(r2_prime, float), np.asarray(cbv, float))
    oef: FloatArray = np.full(cbv.shape, np.nan)
    np.divide(r2_prime, static_dephasing_constant * cbv, out=oef, where=cbv > 0)
    return oef


def estimate_oef(
    r2_prime: Estimate,
    cbv: Estimate,
    *,
    static_dephasing_constant: float,
) -> Estimate:
    r"""
    Estimate the oxygen extraction fraction with its random error.

    Parameters
    ----------
    r2_prime : (...) Estimate
        Reversible transverse relaxation rate, 1/s.
    cbv : (...) Estimate
        Blood volume, mL/mL; same shape.
    static_dephasing_constant : float
        1/s, see :func:`static_dephasing_constant`.

    Returns
    -------
    oef : (...) Estimate
        Dimensionless and unclipped; NaN with NO_BLOOD_VOLUME where CBV is not positive, else
        with the reason of the input. Flagged NEGATIVE below 0 and IMPLAUSIBLE above 1.

    Notes
    -----
    Delta method, errors of R2' and CBV independent; hct, field and susceptibility are scale
    factors common to all voxels and not part of the variance:

    .. math:: \mathrm{var}(OEF) = \frac{\mathrm{var}(R_2')}{(C\,CBV)^2}
              + OEF^2 \frac{\mathrm{var}(CBV)}{CBV^2}

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> r2_prime, cbv = Estimate.of([3.8]), Estimate.of([0.03], [9e-6])
    >>> oef = estimate_oef(r2_prime, cbv, static_dephasing_constant=316.7)
    >>> oef.value.round(2), (oef.variance**0.5).round(2)
    (array([0.4]), array([0.04]))
    """
    check_positive('static_dephasing_constant (1/s)', static_dephasing_constant)
    volume = np.where(cbv.value > 0, cbv.value, np.nan)
    rate = static_dephasing_constant * volume
    value = r2_prime.value / rate
    variance = r2_prime.variance / rate**2 + (value / volume) ** 2 * cbv.variance
    status = combine_status(
        r2_prime.status,
        cbv.status,
        np.where(cbv.value <= 0, Status.NO_BLOOD_VOLUME, Status.OK),
        flag_negative(value),
        np.where(value > OEF_PLAUSIBLE_MAXIMUM, Status.IMPLAUSIBLE, Status.OK),
    )
    return Estimate.of(value, variance, status, min(r2_prime.dof, cbv.dof))


def estimate_oef_epp2025(
    r2_prime: Estimate,
    cbv: Estimate,
    *,
    static_dephasing_constant: float,
) -> Estimate:
    """
    Estimate the oxygen extraction fraction with the limit of the published analysis.

    Parameters
    ----------
    r2_prime, cbv, static_dephasing_constant
        As for :func:`estimate_oef`.

    Returns
    -------
    oef : (...) Estimate
        Dimensionless, at most :func:`oef_limit`; what was above is flagged CAPPED and keeps the
        variance of the value before. NaN where CBV is not positive.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> r2_prime, cbv = Estimate.of([3.8, 3.8, 3.8]), Estimate.of([0.03, 0.03, 0.001])
    >>> estimate_oef_epp2025(r2_prime, cbv, static_dephasing_constant=316.7).value.round(2)
    array([0.4, 0.4, 2. ])
    """
    plain = estimate_oef(r2_prime, cbv, static_dephasing_constant=static_dephasing_constant)
    limit = oef_limit(plain.value)
    flags = np.where(plain.value > limit, Status.CAPPED, Status.OK)
    status = combine_status(without_cautions(plain.status), flags)
    return Estimate.of(np.minimum(plain.value, limit), plain.variance, status, plain.dof)


def oef_limit(oef: ArrayLike) -> float:
    """
    Give the limit of OEF of the published analysis: 5 times the median of the brain, or 1.5.

    Parameters
    ----------
    oef : (V,) array_like
        Of the brain, dimensionless; NaN is left out.

    Returns
    -------
    limit : float
        The larger of the two, dimensionless.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> oef_limit([0.4, 0.4, 7.0]), oef_limit([0.2, float('nan')])
    (2.0, 1.5)
    """
    values = np.asarray(oef, float)
    known = values[np.isfinite(values)]
    median = float(np.median(known)) if known.size else 0.0
    return max(OEF_CAP_OF_MEDIAN * median, OEF_SMALLEST_CAP)
