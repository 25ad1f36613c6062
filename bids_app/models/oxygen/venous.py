"""Oxygen extraction of the whole brain from venous blood, to which a map of OEF is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import Polynomial

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    BLOOD_T2_CALIBRATION_ERROR,
    BLOOD_T2_OFFSET,
    BLOOD_T2_SLOPE,
    BLOOD_T2_SQUARE,
    FIELD_OF_BLOOD_T2,
    FIELD_TOLERANCE,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_fraction, check_positive
from bids_app.models.numerics.regions import summarise_regions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

STEP = 1e-4
"""Relative step of the numerical derivatives."""


def blood_r2(saturation: ArrayLike, hct: float) -> FloatArray:
    r"""
    Predict R2 of blood from its saturation, as trains of echoes 10 ms apart see it at 3 T.

    Parameters
    ----------
    saturation : (...) array_like
        Fraction.
    hct : float
        Haematocrit, fraction.

    Returns
    -------
    r2 : (...) ndarray of float64
        1/s.

    Notes
    -----
    With :math:`x = 1 - Y` and the haematocrit H

    .. math::

        R_2 = a_1 + a_2 H + a_3 H^2 + (b_1 H + b_2 H^2)\,x + c_1 H (1 - H)\,x^2

    References
    ----------
    .. [1] Lu et al., Magn Reson Med 67:42, 2012. doi:10.1002/mrm.22970

    Examples
    --------
    >>> (1000 / blood_r2([0.6, 0.7, 1.0], 0.42)).round(1)
    array([ 60.3,  81.1, 147.2])
    """
    lack = 1 - np.asarray(saturation, float)
    offset, slope, square = _coefficients(hct)
    r2: FloatArray = np.asarray(offset + slope * lack + square * lack**2)
    return r2


def saturation_from_t2(t2: float, hct: float, *, b0: float) -> float:
    """
    Estimate the saturation of venous blood from its T2.

    Parameters
    ----------
    t2 : float
        Of blood in the sagittal sinus, by echoes 10 ms apart, s.
    hct : float
        Haematocrit, fraction.
    b0 : float
        T.

    Returns
    -------
    saturation : float
        Fraction.

    Raises
    ------
    ModelInputError
        If the field is not 3 T, or no saturation between 0 and 1 has that T2.

    See Also
    --------
    blood_r2 : The inverse.

    Examples
    --------
    >>> round(saturation_from_t2(0.062, 0.42, b0=3.0), 3)
    0.61
    """
    check_positive('T2 of venous blood', t2)
    check_fraction('haematocrit', hct)
    if not abs(b0 - FIELD_OF_BLOOD_T2) <= FIELD_TOLERANCE:
        msg = (
            f'T2 of blood tells its saturation at {FIELD_OF_BLOOD_T2:g} T only, not at {b0:g} T: '
            'give the saturation itself'
        )
        raise ModelInputError(msg)
    offset, slope, square = _coefficients(hct)
    roots = Polynomial([offset - 1 / t2, slope, square]).roots()
    lack = max(roots.real) if np.isreal(roots).all() else np.nan
    if not 0 <= lack <= 1:
        msg = f'no saturation of blood has a T2 of {t2:g} s at a haematocrit of {hct:g}'
        raise ModelInputError(msg)
    return float(1 - lack)


def saturation_error(
    t2: float, hct: float, *, b0: float, t2_error: float, hct_error: float
) -> float:
    """
    Say how well the saturation is known by T2: its noise, the haematocrit and the calibration.

    Parameters
    ----------
    t2, hct, b0 : float
        As for :func:`saturation_from_t2`.
    t2_error, hct_error : float
        Standard deviations: s, fraction.

    Returns
    -------
    error : float
        Standard deviation, fraction.

    Examples
    --------
    >>> error = saturation_error(0.062, 0.42, b0=3.0, t2_error=0.002, hct_error=0.0126)
    >>> round(error, 3)
    0.033
    """
    here = saturation_from_t2(t2, hct, b0=b0)
    by_t2 = (saturation_from_t2(t2 * (1 - STEP), hct, b0=b0) - here) / (STEP * t2)
    by_hct = (saturation_from_t2(t2, hct * (1 - STEP), b0=b0) - here) / (STEP * hct)
    parts = (by_t2 * t2_error, by_hct * hct_error, BLOOD_T2_CALIBRATION_ERROR)
    return float(np.hypot.reduce(parts))


def global_extraction(venous_saturation: float, sao2: float) -> float:
    r"""
    Compute the oxygen extraction of all that venous blood drains.

    Parameters
    ----------
    venous_saturation, sao2 : float
        Saturation of venous and arterial blood, fraction.

    Returns
    -------
    oef : float
        Fraction.

    Raises
    ------
    ModelInputError
        If venous blood is not less saturated than arterial.

    Notes
    -----
    .. math:: OEF = (Y_a - Y_v)/Y_a

    Examples
    --------
    >>> round(global_extraction(0.62, 0.98), 4)
    0.3673
    """
    check_fraction('sao2', sao2)
    if not 0 < venous_saturation < sao2:
        msg = (
            f'the saturation of venous blood, {venous_saturation:g}, must lie between 0 and that '
            f'of arterial blood, {sao2:g}'
        )
        raise ModelInputError(msg)
    return 1 - venous_saturation / sao2


@dataclass(frozen=True, slots=True, kw_only=True)
class VenousComparison:
    """The scale of a map of OEF beside the extraction that venous blood tells."""

    anchor: float
    """By venous blood, fraction."""
    anchor_error: float
    """Its standard deviation."""
    mean: float
    """Flow-weighted mean of the map; NaN without a voxel."""
    mean_error: float
    """Its standard deviation by the noise of the scans."""
    n_voxels: int

    @property
    def scale(self) -> float:
        """By which the map has to be multiplied; NaN where its mean is not positive."""
        return self.anchor / self.mean if self.mean > 0 else np.nan

    @property
    def scale_error(self) -> float:
        """Relative standard deviation of the scale by both errors."""
        return float(np.hypot(self.anchor_error / self.anchor, self.mean_error / self.mean))

    @property
    def z(self) -> float:
        """Difference of map and anchor in units of the error of both."""
        return float((self.mean - self.anchor) / np.hypot(self.mean_error, self.anchor_error))


def compare_with_venous_blood(
    oef: Estimate,
    cbf: Estimate,
    counts: ArrayLike,
    *,
    venous_saturation: float,
    venous_saturation_error: float,
    sao2: float,
    voxels_per_sample: float = 1.0,
    shared: float = 0.0,
) -> VenousComparison:
    r"""
    Compare the mean of a map of OEF with what the saturation of venous blood says.

    Parameters
    ----------
    oef : (V,) Estimate
        Fraction.
    cbf : (V,) Estimate
        mL/100 g/min.
    counts : (V,) array_like of bool
        Voxels to average.
    venous_saturation, venous_saturation_error, sao2 : float
        Fractions.
    voxels_per_sample, shared : float
        As for :func:`bids_app.models.numerics.regions.summarise_regions`.

    Returns
    -------
    comparison : VenousComparison
        Of the voxels whose OEF and CBF are known.

    Notes
    -----
    Blood leaves each voxel in proportion to its flow F, so that mixed venous blood has lost

    .. math:: \bar E = \sum F E / \sum F

    and its variance is that of a mean of :math:`F E`, to which the noise of the weights adds
    :math:`(E - \bar E)^2` times the variance of F.

    Examples
    --------
    >>> found = compare_with_venous_blood(
    ...     Estimate.of([0.4, 0.2], 1e-4), Estimate.of([60.0, 20.0]), [True, True],
    ...     venous_saturation=0.637, venous_saturation_error=0.02, sao2=0.98)
    >>> round(found.mean, 3), round(found.scale, 3), round(found.z, 2)
    (0.35, 1.0, 0.0)
    """
    anchor = global_extraction(venous_saturation, sao2)
    known = np.isfinite(oef.value) & np.isfinite(cbf.value) & np.asarray(counts, bool)
    flow, extraction = cbf.value[known], oef.value[known]
    total = flow.sum()
    mean = error = np.nan
    if total > 0:
        mean = float((flow * extraction).sum() / total)
        variance = flow**2 * oef.variance[known] + (extraction - mean) ** 2 * cbf.variance[known]
        one = np.ones(len(flow))
        row = summarise_regions(
            Estimate.of(flow * extraction, variance),
            one,
            [1],
            voxels_per_sample=voxels_per_sample,
            shared=shared,
        )
        error = float(row['se'][0] * len(flow) / total)
    return VenousComparison(
        anchor=anchor,
        anchor_error=venous_saturation_error / sao2,
        mean=mean,
        mean_error=error,
        n_voxels=int(known.sum()),
    )


def _coefficients(hct: float) -> tuple[float, float, float]:
    """Give the terms of R2 of blood in the lack of saturation: none, linear and square, 1/s."""
    (a1, a2, a3), (b1, b2) = BLOOD_T2_OFFSET, BLOOD_T2_SLOPE
    offset = a1 + a2 * hct + a3 * hct**2
    return offset, b1 * hct + b2 * hct**2, BLOOD_T2_SQUARE * hct * (1 - hct)
