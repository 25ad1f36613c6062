"""Contrast agent that leaks into tissue during its first pass (Boxerman and Weisskoff)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    LEAKAGE_FIT_PASSES,
    LEAKAGE_OUTLIER,
    LEAKAGE_RETURN_RATES,
    MAD_TO_SD,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


def find_reference(rate_change: ArrayLike, *, pass_start: int, pass_end: int) -> BoolArray:
    """
    Choose the voxels whose mean curve stands for tissue that does not leak.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2*, 1/s; NaN where there is none.
    pass_start, pass_end : int
        First pass, half-open.

    Returns
    -------
    reference : (V,) ndarray of bool
        Voxels with a positive area whose tail, after the first pass, is as high as their area
        lets expect: within 1.5 robust standard deviations of the median relation.

    Raises
    ------
    ModelInputError
        If nothing follows the first pass, or no voxel has a positive area.

    Notes
    -----
    A leak lifts the tail (T2* effect) or lowers it (T1 effect). The rule holds as long as most of
    the brain does not leak.
    """
    rate_change = np.asarray(rate_change, float)
    if rate_change.shape[1] - pass_end < 1:
        msg = 'leakage cannot be estimated: the series ends with the first pass'
        raise ModelInputError(msg)
    area = rate_change[:, pass_start:pass_end].sum(axis=1)
    tail = rate_change[:, pass_end:].mean(axis=1)
    usable = np.isfinite(area) & np.isfinite(tail) & (area > 0)
    if not usable.any():
        msg = 'leakage cannot be estimated: no voxel has a positive area'
        raise ModelInputError(msg)
    excess = np.full(len(area), np.inf)
    ratio = float(np.median(tail[usable] / area[usable]))
    excess[usable] = tail[usable] - ratio * area[usable]
    middle = np.median(excess[usable])
    width = MAD_TO_SD * np.median(np.abs(excess[usable] - middle))
    reference: BoolArray = usable & (np.abs(excess - middle) <= LEAKAGE_OUTLIER * width)
    return reference


def find_return_rate(
    rate_change: ArrayLike,
    reference: ArrayLike,
    *,
    repetition_time: float,
    pass_start: int,
    pass_end: int,
) -> float:
    r"""
    Find how fast the agent that has leaked returns to the blood.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2*, 1/s, of the voxels that may leak; NaN where there is none.
    reference : (T,) array_like
        Mean change of R2* of tissue that does not leak, 1/s.
    repetition_time : float
        s.
    pass_start, pass_end : int
        As for :func:`leakage_functionals`.

    Returns
    -------
    rate : float
        1/s; of some rates from 0 to 0.064 the one with which the curves are described best.

    Raises
    ------
    ModelInputError
        As :func:`leakage_functionals`.

    Notes
    -----
    One rate for all voxels leaves the weights of :func:`leakage_functionals` the same for all,
    and their variances without approximation. In a single voxel the rate cannot be told from
    noise.

    References
    ----------
    .. [1] Leu et al., J Cereb Blood Flow Metab 36:2128, 2016 (a rate per voxel).
       doi:10.1177/0271678X16632460
    """
    curves = np.asarray(rate_change, float)
    curves = curves[np.isfinite(curves).all(axis=1)]
    explained = []
    for rate in LEAKAGE_RETURN_RATES:
        after, _, design = _design(reference, repetition_time, pass_start, pass_end, rate)
        axes, _ = np.linalg.qr(design)
        explained.append(float(np.sum((curves[:, after] @ axes) ** 2)))
    return LEAKAGE_RETURN_RATES[int(np.argmax(explained))]


def leakage_functionals(
    reference: ArrayLike,
    *,
    repetition_time: float,
    pass_start: int,
    pass_end: int,
    return_rate: float = 0.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""
    Give the weights over time that turn a curve into K1, K2 and its area without the leak.

    Parameters
    ----------
    reference : (T,) array_like
        Mean change of R2* of tissue that does not leak, 1/s.
    repetition_time : float
        s.
    pass_start, pass_end : int
        Volumes of the area, half-open; the fit uses twice as many from `pass_start` on,
        or all there are.
    return_rate : float
        Of agent from tissue to blood, 1/s; 0 is the model of Boxerman and Weisskoff.

    Returns
    -------
    k1, k2, area : (T,) ndarray
        Products with a curve give K1 (dimensionless), K2 (1/s) and the corrected area
        (dimensionless); zero before the bolus.

    Raises
    ------
    ModelInputError
        If the reference has no area, or the two regressors cannot be told apart.

    See Also
    --------
    find_reference : The voxels of the reference.
    find_return_rate : The rate.

    Notes
    -----
    T1 shortening saturates, so that a longer fit finds too small a leak for the first pass. All
    three are linear in the curve, so that their variances follow without approximation:

    .. math::

        \Delta R_2^*(t) = K_1 \bar r(t) - K_2\, l(t), \qquad
        l(t) = \int_0^t \bar r(\tau)\, e^{-k(t-\tau)} d\tau, \qquad
        A = \sum_W TR [\Delta R_2^*(t) + K_2\, l(t)]

    K2 is positive where T1 shortening lowers the curve and negative where the leak adds to it.

    References
    ----------
    .. [1] Boxerman et al., AJNR 27:859, 2006.
    .. [2] Weisskoff et al., Proc ISMRM 2:279, 1994.
    .. [3] Leu et al., J Cereb Blood Flow Metab 36:2128, 2016. doi:10.1177/0271678X16632460

    Examples
    --------
    >>> r = np.array([0.0, 0, 2, 6, 4, 1, 1, 1, 1, 1])
    >>> k1, k2, area = leakage_functionals(r, repetition_time=1.0, pass_start=2, pass_end=6)
    >>> curve = 0.5 * r - 0.02 * np.cumsum(r)
    >>> [round(float(weights @ curve), 6) for weights in (k1, k2, area)]
    [0.5, 0.02, 6.5]
    """
    after, leaked, design = _design(reference, repetition_time, pass_start, pass_end, return_rate)
    k1, k2 = np.zeros((2, len(leaked)))
    k1[after], k2[after] = np.linalg.pinv(design)
    area = repetition_time * leaked[pass_start:pass_end].sum() * k2
    area[pass_start:pass_end] += repetition_time
    return k1, k2, area


def _design(
    reference: ArrayLike,
    repetition_time: float,
    pass_start: int,
    pass_end: int,
    return_rate: float,
) -> tuple[slice, FloatArray, FloatArray]:
    """Give the volumes of the fit, what has leaked (T,) and the two regressors, or raise."""
    reference = np.asarray(reference, float)
    if not reference[pass_start:pass_end].sum() > 0:
        msg = 'leakage cannot be estimated: the reference has no bolus'
        raise ModelInputError(msg)
    arrived = reference[pass_start:]
    kept = np.exp(-return_rate * repetition_time * np.arange(len(arrived)))
    leaked = np.zeros(len(reference))
    leaked[pass_start:] = repetition_time * np.convolve(arrived, kept)[: len(arrived)]
    after = slice(pass_start, pass_start + LEAKAGE_FIT_PASSES * (pass_end - pass_start))
    design = np.stack([reference[after], -leaked[after]], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        msg = 'leakage cannot be estimated: too few volumes after the first pass'
        raise ModelInputError(msg)
    return after, leaked, design
