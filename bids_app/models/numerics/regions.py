"""Summaries of a map per region, with the standard error of the regional mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import ELLIPSE_CONFIDENCE, ELLIPSE_PAIRS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, IntArray
    from bids_app.models.estimate import Estimate


class RegionSummary(TypedDict):
    """Columns of a region table; one entry per region."""

    index: IntArray
    mean: FloatArray
    se: FloatArray
    n_voxels: IntArray
    coverage: FloatArray


def summarise_regions(
    estimate: Estimate,
    labels: ArrayLike,
    indices: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    voxels_per_sample: float = 1.0,
    shared: ArrayLike = 0.0,
) -> RegionSummary:
    r"""
    Average a map over regions.

    Parameters
    ----------
    estimate : (V,) Estimate
        Any quantity.
    labels : (V,) array_like of int
        Region of each voxel.
    indices : (K,) array_like of int
        Regions to summarise, each once.
    weights : (V,) array_like, optional
        Share of tissue in each voxel, dimensionless, not negative; NaN counts as 0. They must
        not be made from the variance, which correlates with the value. None: 1 everywhere.
    voxels_per_sample : float
        How many voxels share one independent sample of the noise, at least 1: above 1 where a
        map was resampled to a finer grid or smoothed.
    shared : float or (K,) array_like
        Share of the variance that the voxels of a region have in common, in [0, 1]; from
        :func:`bids_app.models.numerics.noise.shared_noise`.

    Returns
    -------
    summary : dict of (K,) ndarray
        `index`; `mean` in the unit of the map, NaN where no voxel has an estimate; `se`, its
        random standard error; `n_voxels` with an estimate and weight; `coverage`, the share of
        the region's weight that has an estimate, in [0, 1], NaN where the region is absent.

    Raises
    ------
    ModelInputError
        If shapes differ, an index is repeated, a weight is negative, `voxels_per_sample` is below
        1 or `shared` outside of [0, 1].

    Notes
    -----
    With weights w, errors s, k voxels per sample and the share c that is in common

    .. math:: se^2 = \left[(1 - c) \min\left(k \sum w^2 s^2,\; \left(\sum w s\right)^2\right)
              + c \left(\sum w s\right)^2\right] / \left(\sum w\right)^2

    The second bound is that of one sample for the whole region. Errors of constants
    (haematocrit, calibration) are systematic and not included.

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> cbf = Estimate.of([40.0, 44.0, 60.0, float('nan')], 4.0)
    >>> summary = summarise_regions(cbf, [1, 1, 2, 2], [1, 2])
    >>> summary['mean'], summary['se'].round(2), summary['coverage']
    (array([42., 60.]), array([1.41, 2.  ]), array([1. , 0.5]))
    """
    regions = np.asarray(labels).astype(np.int64)
    index = np.asarray(indices).astype(np.int64).ravel()
    share = _shares(weights, regions)
    shared = np.asarray(shared, float)
    _check(estimate, regions, index, voxels_per_sample, shared)
    row = _row_of_region(regions, index)
    known = np.isfinite(estimate.value) & (share > 0)

    def add(terms: FloatArray) -> FloatArray:
        return _sum_by_row(terms[known], row[known], index.size)

    weight = add(share)
    error = np.sqrt(estimate.variance)
    together = add(share * error) ** 2
    alone = np.minimum(voxels_per_sample * add((share * error) ** 2), together)
    variance = (1 - shared) * alone + shared * together
    n_voxels = np.bincount(row[known], minlength=index.size + 1)[: index.size]
    return RegionSummary(
        index=index,
        mean=_ratio(add(share * estimate.value), weight),
        se=_ratio(np.sqrt(variance), weight),
        n_voxels=n_voxels.astype(np.int64),
        coverage=_ratio(weight, _sum_by_row(share, row, index.size)),
    )


def _shares(weights: ArrayLike | None, regions: IntArray) -> FloatArray:
    """Give the weight of every voxel."""
    if weights is None:
        return np.ones(regions.shape)
    share: FloatArray = np.nan_to_num(np.asarray(weights, float), nan=0.0)
    if share.shape != regions.shape or np.any(share < 0):
        msg = f'weights must not be negative and have the shape {regions.shape} of the labels'
        raise ModelInputError(msg)
    return share


def _check(
    estimate: Estimate,
    regions: IntArray,
    index: IntArray,
    voxels_per_sample: float,
    shared: FloatArray,
) -> None:
    """Refuse what cannot be summarised."""
    if estimate.value.ndim != 1 or estimate.value.shape != regions.shape:
        msg = f'map and labels must be one list, got {estimate.value.shape} and {regions.shape}'
        raise ModelInputError(msg)
    if np.unique(index).size != index.size:
        msg = 'a region is named twice'
        raise ModelInputError(msg)
    if not (voxels_per_sample >= 1 and np.all((shared >= 0) & (shared <= 1))):
        msg = (
            'voxels_per_sample must be at least 1 and shared in [0, 1], got '
            f'{voxels_per_sample} and {shared}'
        )
        raise ModelInputError(msg)


def _row_of_region(regions: IntArray, index: IntArray) -> IntArray:
    """Give the position of each voxel's region in the table; the last row is the rest."""
    order = np.argsort(index)
    position = np.searchsorted(index, regions, sorter=order).clip(max=max(index.size - 1, 0))
    if index.size == 0:
        return np.zeros(regions.shape, np.int64)
    row = order[position]
    return np.where(index[row] == regions, row, index.size)


def _sum_by_row(terms: FloatArray, row: IntArray, n_rows: int) -> FloatArray:
    """Add up the terms of each row; those of the last row, the rest, are dropped."""
    sums: FloatArray = np.bincount(row, terms, n_rows + 1)[:n_rows].astype(np.float64)
    return sums


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, NaN where there is nothing to divide by."""
    ratio: FloatArray = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def confidence_ellipse(points: ArrayLike) -> tuple[FloatArray, FloatArray]:
    r"""
    Give the region that holds the mean of paired measurements with 95 % confidence.

    Parameters
    ----------
    points : (N, 2) array_like
        One pair per participant, any units; pairs with a NaN do not count.

    Returns
    -------
    center : (2,) ndarray of float64
        Mean; NaN without a pair.
    half_axes : (2, 2) ndarray of float64
        One half axis of the ellipse per row, as a vector in the units of `points`; NaN for fewer
        than three pairs, which have no ellipse.

    Notes
    -----
    Of Hotelling: with the covariance S over participants,

    .. math:: (\bar{x} - \mu)^T S^{-1} (\bar{x} - \mu) \le
              \frac{2 (N - 1)}{N (N - 2)} F_{0.95}(2, N - 2)

    References
    ----------
    .. [1] Hotelling, Ann Math Stat 2:360, 1931. doi:10.1214/aoms/1177732979

    Examples
    --------
    >>> center, half_axes = confidence_ellipse([[1, 0], [-1, 0], [0, 2], [0, -2]])
    >>> center, abs(half_axes).max(axis=0).round(2)
    (array([0., 0.]), array([3.08, 6.16]))
    """
    from scipy.stats import f

    pairs = np.asarray(points, float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    n = len(pairs)
    center = pairs.mean(axis=0) if n else np.full(2, np.nan)
    if n < ELLIPSE_PAIRS:
        return center, np.full((2, 2), np.nan)
    limit = 2 * (n - 1) / (n * (n - 2)) * f.ppf(ELLIPSE_CONFIDENCE, 2, n - 2)
    variances, directions = np.linalg.eigh(np.cov(pairs.T))
    half_axes = np.sqrt(limit * np.maximum(variances, 0.0))[:, None] * directions.T
    return center, np.asarray(half_axes)
