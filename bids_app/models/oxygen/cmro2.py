"""Arterial oxygen content and the cerebral metabolic rate of oxygen by the Fick principle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.constants import (
    HAEMOGLOBIN_PER_HCT,
    MILLILITRE_PER_DECILITRE,
    OXYGEN_PER_HAEMOGLOBIN,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.models.status import combine_status, flag_negative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


def arterial_oxygen_content(
    *,
    hct: float,
    sao2: float,
    oxygen_per_haemoglobin: float = OXYGEN_PER_HAEMOGLOBIN,
    haemoglobin_per_hct: float = HAEMOGLOBIN_PER_HCT,
) -> float:
    r"""
    Compute the oxygen content of arterial blood.

    Parameters
    ----------
    hct : float
        Haematocrit of large vessels, dimensionless, in (0, 1).
    sao2 : float
        Arterial oxygen saturation, dimensionless, in (0, 1].
    oxygen_per_haemoglobin : float
        Oxygen bound by saturated haemoglobin, umol/g; positive.
    haemoglobin_per_hct : float
        Haemoglobin concentration per unit haematocrit, g/dL; positive.

    Returns
    -------
    cao2 : float
        umol of oxygen per mL of blood.

    Notes
    -----
    Dissolved oxygen, about 1.5 % of the content, is left out:

    .. math:: CaO_2 = 0.334\,\mathrm{g/mL} \cdot Hct \cdot 55.6\,\mathrm{umol/g} \cdot SaO_2

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> round(arterial_oxygen_content(hct=0.42, sao2=0.98), 5)
    7.64358
    """
    check_fraction('hct', hct, below_one=True)
    check_fraction('sao2', sao2)
    check_positive('oxygen_per_haemoglobin (umol/g)', oxygen_per_haemoglobin)
    check_positive('haemoglobin_per_hct (g/dL)', haemoglobin_per_hct)
    haemoglobin = haemoglobin_per_hct * hct / MILLILITRE_PER_DECILITRE
    return haemoglobin * oxygen_per_haemoglobin * sao2


def cmro2_from_cbf(cbf: ArrayLike, oef: ArrayLike, *, cao2: float) -> FloatArray:
    r"""
    Compute the metabolic rate of oxygen from blood flow and oxygen extraction.

    Parameters
    ----------
    cbf : (...) array_like
        Cerebral blood flow, mL/100 g/min.
    oef : (...) array_like
        Oxygen extraction fraction, dimensionless; broadcasts against `cbf`.
    cao2 : float
        Arterial oxygen content, umol/mL; positive.

    Returns
    -------
    cmro2 : (...) ndarray of float64
        umol/100 g/min; NaN where an argument is NaN.

    Notes
    -----
    .. math:: CMRO_2 = CBF \cdot OEF \cdot CaO_2

    References
    ----------
    .. [1] Kety & Schmidt, J Clin Invest 27:476, 1948. doi:10.1172/JCI101994

    Examples
    --------
    >>> round(float(cmro2_from_cbf(43.6, 0.3538, cao2=7.64358)), 1)
    117.9
    """
    check_positive('cao2 (umol/mL)', cao2)
    cmro2: FloatArray = np.asarray(cbf, float) * np.asarray(oef, float) * cao2
    return cmro2


def estimate_cmro2(cbf: Estimate, oef: Estimate, *, cao2: float) -> Estimate:
    r"""
    Estimate the metabolic rate of oxygen with its random error.

    Parameters
    ----------
    cbf : (...) Estimate
        Cerebral blood flow, mL/100 g/min.
    oef : (...) Estimate
        Oxygen extraction fraction, dimensionless; same shape.
    cao2 : float
        Arterial oxygen content, umol/mL; positive.

    Returns
    -------
    cmro2 : (...) Estimate
        umol/100 g/min; NaN with the reason of the input that is missing. Flagged NEGATIVE
        below 0; cautions of the inputs are handed on.

    Notes
    -----
    Delta method with independent errors; `cao2` is a scale factor common to all voxels and not
    part of the variance. Where the blood volume in OEF was predicted from the same CBF the
    errors are not independent and the variance given here is an upper bound; differences
    between conditions take the shared error into account in
    :mod:`bids_app.models.contrast.difference`.

    .. math:: \mathrm{var}(CMRO_2) = CaO_2^2 \left[OEF^2 \mathrm{var}(CBF)
              + CBF^2 \mathrm{var}(OEF)\right]

    References
    ----------
    .. [1] Kety & Schmidt, J Clin Invest 27:476, 1948. doi:10.1172/JCI101994

    Examples
    --------
    >>> cmro2 = estimate_cmro2(Estimate.of([50.0], 25.0), Estimate.of([0.4], 4e-4), cao2=7.5)
    >>> cmro2.value, (cmro2.variance**0.5).round(2)
    (array([150.]), array([16.77]))
    """
    value = cmro2_from_cbf(cbf.value, oef.value, cao2=cao2)
    variance = cao2**2 * (oef.value**2 * cbf.variance + cbf.value**2 * oef.variance)
    negative = flag_negative(value)
    status = combine_status(cbf.status, oef.status, negative)
    return Estimate.of(value, variance, status, min(cbf.dof, oef.dof))
