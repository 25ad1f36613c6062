"""What a map holds between its voxels: what anatomy tells of it, and what nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.numerics.resampling import ROUNDING, fill_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

FEWEST_VOXELS = 100
"""Voxels with an estimate below which no trend is fitted."""

WINDOW = 8.0
"""SD of the surroundings in which a map follows the tissue in a way of its own, mm."""

RIDGE = 0.02
"""Weight of the slopes of the whole map, relative to that of the surroundings."""

SOME_TISSUE = 0.05
"""Sum of the fractions of a voxel below which nothing is known of its tissue; no unit."""

NEIGHBOURHOOD = 5
"""Voxels per axis over which the size of what is not resolved is averaged."""

UNRESOLVED = 0.33
"""Error variance of a cubic spline midway between two voxels over the mean squared second
difference there; measured on folded cortex by benchmarks/interpolation.py."""


def tissue_trend(
    value: ArrayLike,
    variance: ArrayLike,
    fractions: ArrayLike,
    fractions_there: ArrayLike,
    *,
    points: ArrayLike,
    zooms: Sequence[float] | FloatArray,
) -> tuple[FloatArray, FloatArray] | None:
    r"""
    Fit a map by the tissue around its voxels, and predict it at other places.

    Parameters
    ----------
    value : (X, Y, Z) array_like
        Any unit; NaN where there is no estimate.
    variance : (X, Y, Z) array_like
        Unit of `value` squared.
    fractions : (X, Y, Z, K) array_like
        Fractions of tissue over the voxels of the map; no unit.
    fractions_there : (N, K) array_like
        The same over voxels of that size and orientation around N other places.
    points : (N, 3) array_like
        These places, voxel coordinates of the map.
    zooms : (3,) sequence of float
        Voxel size, mm.

    Returns
    -------
    trend : (X, Y, Z) and (N,) ndarray, or None
        Unit of `value`. None where fewer than 100 voxels have an estimate.

    Notes
    -----
    A voxel of a scan is as thick as the cortex: what lies between two of them cannot be
    interpolated, but it can be seen in the T1w image, whose voxels are finer. So the part of a
    map that follows the tissue is predicted, and only the rest is interpolated (a control
    variate: errors of the fractions, and a map that does not follow them, make it useless, not
    wrong). Least squares with weights :math:`1/(v + \operatorname{median} v)`, fractions scaled
    to a sum of one: over the whole map, then what that leaves over the surroundings of each voxel
    (normal weights of SD 8 mm, slopes shrunk to those of the whole map), for grey matter that is
    active here and not there.
    """
    value, variance = np.asarray(value, float), np.asarray(variance, float)
    fractions, there = np.asarray(fractions, float), np.asarray(fractions_there, float)
    if fractions.shape[:-1] != value.shape or there.shape[1:] != fractions.shape[-1:]:
        msg = (
            f'fractions {fractions.shape} and {there.shape} must be those of the voxels '
            f'{value.shape} and of N places'
        )
        raise ModelInputError(msg)
    usable = np.isfinite(value) & np.isfinite(variance) & (fractions.sum(-1) > SOME_TISSUE)
    if usable.sum() < FEWEST_VOXELS:
        return None
    average = fractions[usable].mean(axis=0)
    own, other = (_to_unit_sum(part, average) for part in (fractions, there))
    spread = variance[usable]
    usual = max(float(np.median(spread)), np.finfo(float).tiny)
    weight = np.sqrt(usual / (spread + usual))
    slopes = np.linalg.lstsq(own[usable] * weight[:, None], value[usable] * weight, rcond=None)[0]
    rest, weights = np.zeros(value.shape), np.zeros(value.shape)
    rest[usable], weights[usable] = value[usable] - own[usable] @ slopes, weight**2
    local = slopes + _local_slopes(rest, weights, own, WINDOW / np.asarray(zooms, float))
    return (own * local).sum(axis=-1), (other * _at(local, np.asarray(points, float))).sum(axis=-1)


def _local_slopes(
    rest: FloatArray, weights: FloatArray, fractions: FloatArray, window: FloatArray
) -> FloatArray:
    """Fit what is left of a map by the tissue around every voxel: slopes (X, Y, Z, K)."""
    n_tissues = fractions.shape[-1]
    moments = np.empty((*rest.shape, n_tissues, n_tissues))
    products = np.empty((*rest.shape, n_tissues, 1))
    smooth = partial(ndimage.gaussian_filter, sigma=window, mode='constant', truncate=3.0)
    for k in range(n_tissues):
        weighted = weights * fractions[..., k]
        products[..., k, 0] = smooth(weighted * rest)
        for j in range(k + 1):
            moments[..., k, j] = moments[..., j, k] = smooth(weighted * fractions[..., j])
    inside = weights > 0
    whole = np.einsum('v,vk,vj->kj', weights[inside], fractions[inside], fractions[inside])
    # a tissue that the map hardly has must not make the equations singular
    ridge = RIDGE * whole / inside.sum() + ROUNDING * np.eye(n_tissues)
    return np.asarray(np.linalg.solve(moments + ridge, products)[..., 0])


def _to_unit_sum(fractions: FloatArray, average: FloatArray) -> FloatArray:
    """Scale fractions (..., K) to a sum of one; the average where there is hardly any."""
    total = fractions.sum(axis=-1, keepdims=True)
    is_some = total > SOME_TISSUE
    scaled = np.where(is_some, fractions / np.where(is_some, total, 1.0), average)
    return np.asarray(scaled / scaled.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """How much a map changes from voxel to voxel, beyond its noise."""

    curvature: FloatArray
    """(X, Y, Z, 3) mean squared second difference along every axis, unit of the map squared."""
    slope: FloatArray
    """(X, Y, Z, 3) mean squared difference of neighbours along every axis, the same unit."""

    def interpolation_variance(self, points: ArrayLike) -> FloatArray:
        r"""
        Give the variance of what lies between the voxels and no interpolation can know.

        Parameters
        ----------
        points : (N, 3) array_like
            Voxel coordinates inside the map.

        Returns
        -------
        variance : (N,) ndarray
            Unit of the map squared; zero at the voxels.

        Notes
        -----
        .. math:: \operatorname{var} = \kappa \sum_a \overline{h_a^2} \sin^2 \pi p_a

        with the second difference h and the phase p between two voxels along the axis a.
        """
        points = np.asarray(points, float)
        size = np.sin(np.pi * points) ** 2
        return UNRESOLVED * np.asarray((_at(self.curvature, points) * size).sum(axis=-1))

    def alignment_variance(
        self, points: ArrayLike, *, error: float, zooms: Sequence[float] | FloatArray
    ) -> FloatArray:
        r"""
        Give the variance of not knowing exactly where the map lies.

        Parameters
        ----------
        points : (N, 3) array_like
            Voxel coordinates inside the map.
        error : float
            SD of the alignment per axis, mm.
        zooms : (3,) sequence of float
            Voxel size, mm.

        Returns
        -------
        variance : (N,) ndarray
            Unit of the map squared: :math:`\sigma^2 \sum_a \overline{g_a^2}` with the slopes g.
        """
        per_mm = np.asarray(zooms, float) ** -2
        return error**2 * np.asarray(
            (_at(self.slope, np.asarray(points, float)) * per_mm).sum(axis=-1)
        )


def measure_detail(value: ArrayLike, variance: ArrayLike, present: ArrayLike) -> Detail:
    """
    Measure how much a map changes from voxel to voxel, beyond its noise.

    Parameters
    ----------
    value, variance : (X, Y, Z) array_like
        Any unit, and that squared.
    present : (X, Y, Z) array_like of bool
        Voxels with an estimate.

    Returns
    -------
    detail : Detail
        Squared differences less the variance that the noise gives them, averaged over the
        5 x 5 x 5 voxels around; zero where that is negative.

    Examples
    --------
    >>> flat = measure_detail(np.ones((4, 4, 4)), np.zeros((4, 4, 4)), np.ones((4, 4, 4), bool))
    >>> float(flat.slope.max()), float(flat.curvature.max())
    (0.0, 0.0)
    """
    present = np.asarray(present, bool)
    if not present.any():
        nothing = np.zeros((*present.shape, 3))
        return Detail(nothing, nothing)
    x, v = (fill_missing(np.asarray(part, float), present) for part in (value, variance))
    curvature, slope = [], []
    for axis in range(x.ndim):
        below, above = _neighbours(x, axis)
        v_below, v_above = _neighbours(v, axis)
        bend = (x - (below + above) / 2) ** 2 - v - (v_below + v_above) / 4
        step = ((above - x) ** 2 + (x - below) ** 2) / 2 - v - (v_below + v_above) / 2
        curvature.append(_local_mean(bend, present))
        slope.append(_local_mean(step, present))
    return Detail(np.stack(curvature, axis=-1), np.stack(slope, axis=-1))


def _neighbours(image: FloatArray, axis: int) -> tuple[FloatArray, FloatArray]:
    """Values of the voxel before and after along an axis; at the ends the voxel's own."""
    size = image.shape[axis]
    before = np.maximum(np.arange(size) - 1, 0)
    after = np.minimum(np.arange(size) + 1, size - 1)
    return np.take(image, before, axis), np.take(image, after, axis)


def _local_mean(image: FloatArray, present: BoolArray) -> FloatArray:
    """Mean over the voxels around that have an estimate, at least zero."""
    total = ndimage.uniform_filter(np.where(present, image, 0.0), NEIGHBOURHOOD, mode='constant')
    count = ndimage.uniform_filter(present.astype(float), NEIGHBOURHOOD, mode='constant')
    return np.asarray(np.maximum(total / np.maximum(count, ROUNDING), 0))


def _at(detail: FloatArray, points: FloatArray) -> FloatArray:
    """Detail (X, Y, Z, 3) at points (N, 3), linearly."""
    return np.stack(
        [ndimage.map_coordinates(detail[..., a], points.T, order=1, mode='nearest')
         for a in range(detail.shape[-1])], axis=-1
    )  # fmt: skip
