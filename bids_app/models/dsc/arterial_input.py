"""Arterial input of a bolus: found by the shape of the curves, or given as a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    ARTERY_CORRELATION,
    ARTERY_HEIGHT_QUANTILE,
    ARTERY_MAXIMUM_VOXELS,
    ARTERY_MINIMUM_HEIGHT,
    ARTERY_MINIMUM_VOXELS,
    DETECTION_LIMIT,
    SATURATED_SHARE,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray

    IndexArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArterialInput:
    """
    Arterial input and where it comes from.

    Parameters
    ----------
    curve : (T,) ndarray
        Mean change of R2*, 1/s; zero before the bolus.
    voxels : (V,) ndarray of bool
        Whose mean it is.
    relative_height : float
        Its maximum over the median maximum of the brain, dimensionless.
    saturated : (V,) ndarray of bool
        Voxels whose signal falls into the noise during the bolus, so that their curves are cut.
    """

    curve: FloatArray
    voxels: BoolArray
    relative_height: float
    saturated: BoolArray


def find_arterial_input(
    rate_change: ArrayLike,
    *,
    echo_time: float,
    rate_variance: ArrayLike,
    pass_start: int,
    pass_end: int,
    eligible: ArrayLike | None = None,
) -> ArterialInput:
    r"""
    Find the voxels whose curve is that of an artery.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2*, 1/s; voxels with NaN are left out.
    echo_time : float
        s.
    rate_variance : (V,) array_like
        Variance of its samples before the bolus, 1/s^2.
    pass_start, pass_end : int
        First pass, half-open.
    eligible : (V,) array_like of bool, optional
        Voxels to choose from; default all (of the brain).

    Returns
    -------
    arterial_input : ArterialInput
        With the voxels that were taken.

    Raises
    ------
    ModelInputError
        With a text that starts with 'no arterial input' where no group of voxels is high, early
        and narrow enough, and with 'saturated arteries' where most of them are cut by the noise.

    Notes
    -----
    Candidates are the highest 5 % of the curves whose half-rise is not later than that of half
    the brain. Each is ranked by height, by the time of its half-rise and by its width at half
    maximum; the best 40 by the sum of the ranks are compared with their
    median curve, and those with a correlation above 0.9 are averaged. A voxel is saturated where
    the signal at its lowest, :math:`S_0 e^{-TE\,\Delta R_2^*}`, is within three standard
    deviations of the noise: the true curve may be higher. Blood in and around the artery is taken
    to have the relaxivity of tissue; partial volume and this assumption scale the curve, and with
    it every absolute flow and volume.

    References
    ----------
    .. [1] Mouridsen et al., Magn Reson Med 55:524, 2006. doi:10.1002/mrm.20759

    Examples
    --------
    >>> t = np.arange(60.0)
    >>> def bolus(start, width):
    ...     x = np.clip(t - start, 0, None) / width
    ...     return x**3 * np.exp(3 - 3 * x)
    >>> artery, tissue = 60 * bolus(9, 4), bolus(11, 7)
    >>> curves = np.concatenate([np.tile(artery, (8, 1)), np.tile(tissue, (99, 1))])
    >>> found = find_arterial_input(
    ...     curves, echo_time=0.03, rate_variance=np.full(107, 1e-4), pass_start=9, pass_end=35)
    >>> int(found.voxels.sum()), bool(found.voxels[:8].all())
    (8, True)
    """
    curves = np.asarray(rate_change, float)
    usable = np.isfinite(curves).all(axis=1)
    usable &= True if eligible is None else np.asarray(eligible, bool)
    if usable.sum() < ARTERY_MINIMUM_VOXELS:
        msg = f'no arterial input: {int(usable.sum())} voxels with a curve'
        raise ModelInputError(msg)
    index = np.flatnonzero(usable)
    inside = curves[index, pass_start:pass_end]
    height = inside.max(axis=1)
    is_saturated = _saturated(height, np.asarray(rate_variance, float)[index], echo_time)
    rise = _half_rise(inside, height)
    high = height >= np.quantile(height, ARTERY_HEIGHT_QUANTILE)
    candidates = high & (height > 0) & (rise <= np.median(rise))
    _check_saturation(is_saturated, candidates)
    candidates &= ~is_saturated
    chosen = _best(inside, height, rise, np.flatnonzero(candidates))
    relative_height = float(height[chosen].mean() / np.median(height)) if chosen.size else 0.0
    if chosen.size < ARTERY_MINIMUM_VOXELS or relative_height < ARTERY_MINIMUM_HEIGHT:
        msg = (
            f'no arterial input: the {chosen.size} most arterial curves are '
            f'{relative_height:.1f} times as high as the median of the brain, expected at least '
            f'{ARTERY_MINIMUM_VOXELS} voxels and {ARTERY_MINIMUM_HEIGHT:g} times; name the '
            'voxels by a mask (blood_volume.arterial_mask)'
        )
        raise ModelInputError(msg)
    saturated = np.zeros(len(curves), bool)
    saturated[index] = is_saturated
    voxels = np.zeros(len(curves), bool)
    voxels[index[chosen]] = True
    return _averaged(curves, voxels, saturated, pass_start, relative_height)


def arterial_input_from_mask(
    rate_change: ArrayLike,
    mask: ArrayLike,
    *,
    echo_time: float,
    rate_variance: ArrayLike,
    pass_start: int,
    pass_end: int,
) -> ArterialInput:
    """
    Average the curves of the voxels that the user takes for arteries.

    Parameters
    ----------
    rate_change, echo_time, rate_variance, pass_start, pass_end
        As for :func:`find_arterial_input`.
    mask : (V,) array_like of bool
        The voxels.

    Returns
    -------
    arterial_input : ArterialInput
        Of all of them that have a curve; saturated ones are counted, not left out.

    Raises
    ------
    ModelInputError
        If none has a curve with a positive area.

    Examples
    --------
    >>> curves = [[0.0, 0, 8, 4, 0], [0.0, 0, 1, 1, 0]]
    >>> arterial_input_from_mask(curves, [True, False], echo_time=0.03,
    ...     rate_variance=[0.1, 0.1], pass_start=2, pass_end=4).curve
    array([0., 0., 8., 4., 0.])
    """
    curves = np.asarray(rate_change, float)
    usable = np.isfinite(curves).all(axis=1)
    voxels = np.asarray(mask, bool) & usable
    if not voxels.any() or not curves[voxels, pass_start:pass_end].sum() > 0:
        msg = (
            f'no arterial input: {int(voxels.sum())} voxels of the mask have a curve, and '
            'their area must be positive'
        )
        raise ModelInputError(msg)
    height = np.where(usable, np.nan_to_num(curves[:, pass_start:pass_end]).max(axis=1), 0.0)
    saturated = usable & _saturated(height, np.asarray(rate_variance, float), echo_time)
    relative_height = float(height[voxels].mean() / np.median(height[usable]))
    return _averaged(curves, voxels, saturated, pass_start, relative_height)


def _averaged(
    curves: FloatArray,
    voxels: BoolArray,
    saturated: BoolArray,
    pass_start: int,
    relative_height: float,
) -> ArterialInput:
    """Average the voxels that were chosen."""
    curve = curves[voxels].mean(axis=0)
    curve[:pass_start] = 0.0
    return ArterialInput(
        curve=curve, voxels=voxels, relative_height=relative_height, saturated=saturated
    )


def _saturated(height: FloatArray, rate_variance: FloatArray, echo_time: float) -> BoolArray:
    """Tell where the signal at its lowest is in the noise."""
    noise = echo_time * np.sqrt(rate_variance)
    saturated: BoolArray = np.exp(-echo_time * height) < DETECTION_LIMIT * noise
    return saturated


def _check_saturation(is_saturated: BoolArray, candidates: BoolArray) -> None:
    """Refuse arteries whose highest part is missing."""
    n_candidates = int(candidates.sum())
    share = float(is_saturated[candidates].mean()) if n_candidates else 0.0
    if share > SATURATED_SHARE:
        msg = (
            f'saturated arteries: in {100 * share:.0f} % of {n_candidates} arterial voxels the '
            'signal falls into the noise, so that the arterial input is cut; use --cbv-model dsc '
            '(white-matter scale, no arterial input) or name other voxels by a mask '
            '(blood_volume.arterial_mask)'
        )
        raise ModelInputError(msg)


def _half_rise(inside: FloatArray, height: FloatArray) -> FloatArray:
    """Give the time, in volumes, at which each curve first reaches half of its height."""
    above = inside >= 0.5 * height[:, np.newaxis]
    first = above.argmax(axis=1)
    rows = np.arange(len(inside))
    before = inside[rows, np.maximum(first - 1, 0)]
    step = inside[rows, first] - before
    part = np.zeros(len(inside))
    np.divide(0.5 * height - before, step, out=part, where=(step > 0) & (first > 0))
    time: FloatArray = first - 1 + np.where(first > 0, part, 1.0)
    return time


def _best(
    inside: FloatArray, height: FloatArray, rise: FloatArray, candidates: IndexArray
) -> IndexArray:
    """Give the candidates that rank best and agree with each other."""
    if candidates.size < ARTERY_MINIMUM_VOXELS:
        return candidates
    shapes = inside[candidates] / height[candidates, np.newaxis]
    width = (shapes >= 0.5).sum(axis=1)
    ranks = stats.rankdata(
        [-height[candidates], rise[candidates], width], axis=1
    ).sum(axis=0)  # fmt: skip
    best = np.argsort(ranks, kind='stable')[:ARTERY_MAXIMUM_VOXELS]
    middle = np.median(shapes[best], axis=0)
    centred = shapes[best] - shapes[best].mean(axis=1, keepdims=True)
    middle = middle - middle.mean()
    norm = np.linalg.norm(centred, axis=1) * np.linalg.norm(middle)
    agreement = np.zeros(len(best))
    np.divide(centred @ middle, norm, out=agreement, where=norm > 0)
    chosen: IndexArray = candidates[best[agreement > ARTERY_CORRELATION]]
    return chosen
