"""Values, variances and labels at other points of space."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray

    Scalar = TypeVar('Scalar', bound=np.generic)

MINIMUM_VALID_WEIGHT = 0.5
"""Part of the interpolation weight that must fall on voxels with a value; no unit."""

BORDER = 0.5
"""How far beyond the centre of an outer voxel a point still lies in the image, voxels."""

ROUNDING = 1e-6
"""Slack for coordinates and weights that are meant to be exact; voxels or no unit."""

MOST_POINTS_PER_AXIS = 4
"""Points per axis of a voxel that an average takes at most."""


def voxel_coordinates(
    target_shape: Sequence[int],
    target_affine: ArrayLike,
    source_affine: ArrayLike,
    transform: ArrayLike | None = None,
) -> FloatArray:
    """
    Find where the voxel centres of one image lie in another.

    Parameters
    ----------
    target_shape : (3,) sequence of int
        Grid whose voxel centres are looked for.
    target_affine, source_affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.
    transform : (4, 4) array_like, optional
        World coordinates of the target to those of the source, mm, RAS; default identity.

    Returns
    -------
    coordinates : (X, Y, Z, 3) ndarray of float64
        Voxel coordinates in the source; whole numbers are voxel centres.

    Raises
    ------
    ModelInputError
        If a matrix is not (4, 4) or the source affine cannot be inverted.

    See Also
    --------
    resample_linear, resample_nearest : Use the coordinates.

    Examples
    --------
    >>> voxel_coordinates((1, 1, 2), np.diag([1, 1, 4, 1]), np.diag([2, 2, 2, 1]))[0, 0, 1]
    array([0., 0., 2.])
    """
    matrix = _target_to_source(target_affine, source_affine, transform)
    indices = np.stack(
        np.meshgrid(*[np.arange(float(n)) for n in target_shape], indexing='ij'), axis=-1
    )
    return np.asarray(indices @ matrix[:3, :3].T + matrix[:3, 3])


def resample_linear(
    value: ArrayLike,
    coordinates: ArrayLike,
    *,
    variance: ArrayLike | None = None,
    status: ArrayLike | None = None,
) -> Estimate:
    r"""
    Interpolate a map between its voxels, with its variance.

    Parameters
    ----------
    value : (X, Y, Z) array_like
        Any unit; NaN where there is no estimate.
    coordinates : (..., 3) array_like
        Voxel coordinates in `value`. Up to half a voxel beyond the outer centres the outermost
        value holds.
    variance : (X, Y, Z) array_like, optional
        Unit of `value` squared; default 0.
    status : (X, Y, Z) array_like of int, optional
        Codes of :class:`bids_app.models.status.Status`; default INVALID_INPUT where NaN.

    Returns
    -------
    resampled : Estimate
        At the points. NaN where less than half of the weight falls on voxels with a value, with
        the status of the nearest voxel (of the heaviest missing one if the nearest has a
        value), or OUTSIDE_FIELD_OF_VIEW. Cautions are taken from the nearest voxel.

    Raises
    ------
    ModelInputError
        If shapes do not fit.

    See Also
    --------
    resample_nearest : For labels.

    Notes
    -----
    Missing voxels are left out and the remaining weights renormalised. The errors of neighbours
    are taken as independent, hence the squared weights for the variance; errors that they share
    are underestimated.

    .. math:: y = \sum_k w_k x_k, \qquad \operatorname{var}(y) = \sum_k w_k^2
              \operatorname{var}(x_k)

    Examples
    --------
    >>> halfway = resample_linear([[[1.0, 3.0]]], [0, 0, 0.5], variance=[[[1.0, 1.0]]])
    >>> float(halfway.value), float(halfway.variance)
    (2.0, 0.5)
    """
    value, coordinates = _check_map(value, coordinates)
    variance = np.zeros(value.shape) if variance is None else np.asarray(variance, float)
    codes = np.zeros(value.shape, np.uint8) if status is None else np.asarray(status, np.uint8)
    if variance.shape != value.shape or codes.shape != value.shape:
        msg = (
            f'variance {variance.shape} and status {codes.shape} must have the shape of value '
            f'{value.shape}'
        )
        raise ModelInputError(msg)
    unexplained = ~(np.isfinite(value) & np.isfinite(variance)) & ~is_missing(codes)
    codes = np.where(unexplained, np.uint8(Status.INVALID_INPUT), codes)
    present = ~is_missing(codes)

    points = coordinates.reshape(-1, 3)
    inside = _is_inside(points, value.shape)
    points = points[inside]
    total = np.zeros(len(points))
    mean, spread = total.copy(), total.copy()
    heaviest = total.copy()
    reason = np.full(len(points), Status.INVALID_INPUT, np.uint8)
    for index, weight in _corners(points, value.shape):
        corner = present[index]
        valid_weight = np.where(corner, weight, 0.0)
        total += valid_weight
        mean += valid_weight * np.where(corner, value[index], 0.0)
        spread += valid_weight**2 * np.where(corner, variance[index], 0.0)
        heavier = ~corner & (weight > heaviest)
        heaviest[heavier] = weight[heavier]
        reason[heavier] = codes[index][heavier]

    enough = total >= MINIMUM_VALID_WEIGHT - ROUNDING
    total[~enough] = 1.0
    nearest = codes[_nearest(points, value.shape)]
    kept_code = np.where(is_missing(nearest), np.uint8(Status.OK), nearest)
    lost_code = np.where(is_missing(nearest), nearest, reason)
    all_value, all_variance = np.full(len(inside), np.nan), np.full(len(inside), np.nan)
    all_status = np.full(len(inside), Status.OUTSIDE_FIELD_OF_VIEW, np.uint8)
    all_value[inside] = np.where(enough, mean / total, np.nan)
    all_variance[inside] = np.where(enough, spread / total**2, np.nan)
    all_status[inside] = np.where(enough, kept_code, lost_code)
    shape = coordinates.shape[:-1]
    return Estimate.of(
        all_value.reshape(shape), all_variance.reshape(shape), all_status.reshape(shape)
    )


def resample_nearest(
    labels: NDArray[Scalar], coordinates: ArrayLike, fill: float = 0
) -> NDArray[Scalar]:
    """
    Take the label of the nearest voxel.

    Parameters
    ----------
    labels : (X, Y, Z) ndarray
        Labels, codes or a mask.
    coordinates : (..., 3) array_like
        Voxel coordinates in `labels`; halfway between two voxels the upper one counts.
    fill : scalar
        Label of points more than half a voxel beyond the outer centres, or not finite.

    Returns
    -------
    resampled : (...) ndarray
        Of the type of `labels`.

    Raises
    ------
    ModelInputError
        If shapes do not fit.

    See Also
    --------
    resample_linear : For values.

    Examples
    --------
    >>> resample_nearest(np.array([[[4, 7]]]), [[0, 0, 0.4], [0, 0, 0.6], [0, 0, 2]])
    array([4, 7, 0])
    """
    labels = np.asarray(labels)
    _, coordinates = _check_map(labels, coordinates)
    points = coordinates.reshape(-1, 3)
    inside = _is_inside(points, labels.shape)
    resampled = np.full(len(points), fill, labels.dtype)
    resampled[inside] = labels[_nearest(points[inside], labels.shape)]
    return resampled.reshape(coordinates.shape[:-1])


def average_over_voxel(
    image: ArrayLike,
    target_affine: ArrayLike,
    target_shape: Sequence[int],
    source_affine: ArrayLike,
    transform: ArrayLike | None = None,
    *,
    fill: float = 0.0,
) -> FloatArray:
    """
    Average a fine image over the voxels of a coarse one.

    Parameters
    ----------
    image : (X', Y', Z') array_like
        Tissue fraction, mask or any other density; NaN voxels are left out.
    target_affine, source_affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.
    target_shape : (3,) sequence of int
        Grid of the result.
    transform : (4, 4) array_like, optional
        World coordinates of the target to those of the source, mm, RAS; default identity.
    fill : float
        Value of sub-voxel points outside `image` or without a value there; NaN leaves them out.

    Returns
    -------
    average : (X, Y, Z) ndarray of float64
        Unit of `image`. With `fill` NaN: NaN where no point of the voxel has a value.

    Raises
    ------
    ModelInputError
        If shapes do not fit.

    See Also
    --------
    resample_linear : For maps on a grid of similar size, with variance.

    Notes
    -----
    Mean of linear interpolations at regularly spaced points of the target voxel: per axis as
    many as source voxels fit in, at most 4.

    Examples
    --------
    >>> fine = np.array([[[0.0, 1.0, 1.0, 1.0]]])
    >>> average_over_voxel(fine, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0.5], [0, 0, 0, 1]],
    ...     (1, 1, 2), np.eye(4)).ravel()
    array([0.5, 1. ])
    """
    matrix = _target_to_source(target_affine, source_affine, transform)
    centres = voxel_coordinates(target_shape, target_affine, source_affine, transform)
    extent = np.linalg.norm(matrix[:3, :3], axis=0)
    n_points = np.clip(np.ceil(extent - ROUNDING), 1, MOST_POINTS_PER_AXIS).astype(int)
    total, n_valid = np.zeros(centres.shape[:3]), np.zeros(centres.shape[:3])
    for offset in product(*[(np.arange(n) + 1 / 2) / n - 1 / 2 for n in n_points]):
        sample = resample_linear(image, centres + matrix[:3, :3] @ np.array(offset)).value
        sample = np.where(np.isnan(sample), fill, sample)
        total += np.nan_to_num(sample)
        n_valid += ~np.isnan(sample)
    average = np.full(total.shape, np.nan)
    np.divide(total, n_valid, out=average, where=n_valid > 0)
    return average


def _target_to_source(
    target_affine: ArrayLike, source_affine: ArrayLike, transform: ArrayLike | None
) -> FloatArray:
    """Return the matrix from target voxel indices to source voxel coordinates."""
    target_affine, source_affine = np.asarray(target_affine, float), np.asarray(source_affine)
    transform = np.eye(4) if transform is None else np.asarray(transform, float)
    for matrix in (target_affine, source_affine, transform):
        if matrix.shape != (4, 4):
            msg = f'affine and transform must be (4, 4), got {matrix.shape}'
            raise ModelInputError(msg)
    if np.linalg.matrix_rank(source_affine) < len(source_affine):
        msg = f'source_affine cannot be inverted: {source_affine.tolist()}'
        raise ModelInputError(msg)
    return np.asarray(np.linalg.solve(source_affine.astype(float), transform @ target_affine))


def _check_map(image: ArrayLike, coordinates: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both as float64 arrays or raise."""
    image, coordinates = np.asarray(image, float), np.asarray(coordinates, float)
    if image.ndim != 3 or coordinates.shape[-1:] != (3,):
        msg = f'image (X, Y, Z) and coordinates (..., 3) expected, got {image.shape} and '
        raise ModelInputError(msg + f'{coordinates.shape}')
    return image, coordinates


def _is_inside(points: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """Tell which points (N, 3) lie in the image; NaN does not."""
    last = np.array(shape) - 1
    slack = BORDER + ROUNDING
    return np.asarray(((points >= -slack) & (points <= last + slack)).all(axis=1))


def _nearest(points: FloatArray, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of the nearest voxel of each point (N, 3)."""
    index = np.clip(np.floor(points + BORDER), 0, np.array(shape) - 1).astype(np.intp)
    return tuple(index.T)


def _corners(
    points: FloatArray, shape: tuple[int, ...]
) -> Iterator[tuple[tuple[NDArray[np.intp], ...], FloatArray]]:
    """Yield index and weight of each of the 8 voxels around every point (N, 3)."""
    last = np.array(shape) - 1
    clamped = np.clip(points, 0, last)
    low = np.minimum(np.floor(clamped), np.maximum(last - 1, 0)).astype(np.intp)
    high = np.minimum(low + 1, last)
    fraction = clamped - low
    for upper in product((False, True), repeat=3):
        index = tuple((high if up else low)[:, axis] for axis, up in enumerate(upper))
        weight = np.prod(
            [fraction[:, a] if up else 1 - fraction[:, a] for a, up in enumerate(upper)], axis=0
        )
        yield index, weight
