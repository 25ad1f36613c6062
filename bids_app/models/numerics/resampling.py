"""Values, variances, labels and series at other points of space."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray

    Scalar = TypeVar('Scalar', bound=np.generic)

MINIMUM_VALID_WEIGHT = 0.5
"""Part of the interpolation weight that must fall on voxels with a value; no unit."""

BORDER = 0.5
"""How far beyond the centre of an outer voxel a point still lies in the image, voxels."""

ROUNDING = 1e-6
"""Slack for coordinates and weights that are meant to be exact; voxels or no unit."""

SPLINE_ORDER = 3
"""Of the interpolation of series; no unit."""

SPLINE_REACH = 20
"""How far from a voxel a spline of that order still takes something of it, voxels."""

NOISE_PHASES = 21
"""Positions between two voxels at which the noise of a spline is tabulated."""

TAPS = (-1, 0, 1, 2)
"""Voxels of every axis around a point whose noise counts."""

NOISE_POINTS = 8
"""Voxels of each axis at which the noise of an interpolation is asked for, at most."""

VOXELS_PER_NOISE_SAMPLE = 1.5
"""Voxels that share one noise sample after one cubic interpolation to a grid of the same voxel
size that lies anywhere: what :func:`voxels_per_noise_sample` gives for a turned grid."""

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


def world_of_flirt(
    matrix: ArrayLike,
    source_shape: Sequence[int],
    source_affine: ArrayLike,
    target_shape: Sequence[int],
    target_affine: ArrayLike,
) -> FloatArray:
    """
    Turn a matrix of FLIRT into one between world coordinates.

    Parameters
    ----------
    matrix : (4, 4) array_like
        Between the scaled voxel coordinates of FSL, mm: voxel index times voxel size, the first
        axis turned round where the affine has a positive determinant.
    source_shape, target_shape : (3,) sequence of int
        Grids of the image that was moved and of the reference.
    source_affine, target_affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.

    Returns
    -------
    world : (4, 4) ndarray
        World of the source to world of the target, mm, RAS.

    Examples
    --------
    >>> world_of_flirt(np.eye(4), (9, 9, 9), np.eye(4), (9, 9, 9), np.eye(4))[:3, 3]
    array([0., 0., 0.])
    """
    source = _fsl_of_world(source_shape, np.asarray(source_affine, float))
    target = _fsl_of_world(target_shape, np.asarray(target_affine, float))
    return np.asarray(np.linalg.inv(target) @ np.asarray(matrix, float) @ source, float)


def _fsl_of_world(shape: Sequence[int], affine: FloatArray) -> FloatArray:
    """World coordinates to the scaled voxel coordinates of FSL."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    scaled = np.diag([*zooms, 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        scaled[0, 0], scaled[0, 3] = -zooms[0], (shape[0] - 1) * zooms[0]
    return np.asarray(scaled @ np.linalg.inv(affine), float)


def resample_map(
    value: ArrayLike,
    coordinates: ArrayLike,
    *,
    variance: ArrayLike | None = None,
    status: ArrayLike | None = None,
    trend: tuple[ArrayLike, ArrayLike] | None = None,
) -> Estimate:
    r"""
    Interpolate a map between its voxels by a cubic spline, with its variance.

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
    trend : (X, Y, Z) and (...) array_like, optional
        What is known of the map at its voxels and at the points, as from
        :func:`~bids_app.models.numerics.detail.tissue_trend`; only the rest is interpolated.

    Returns
    -------
    resampled : Estimate
        At the points. NaN where less than half of the linear weight falls on voxels with a
        value, with the status of the nearest voxel (of the heaviest missing one if the nearest
        has a value), or OUTSIDE_FIELD_OF_VIEW. Cautions are taken from the nearest voxel.

    Notes
    -----
    Linear weights blur: they take a tenth of the contrast of cortex (docs/explanation/
    resampling.md). Missing voxels are filled from the nearest that has a value, so that nothing
    rings at an edge. The errors of neighbours are taken as independent, hence the squared
    weights for the variance; errors that they share are underestimated.

    .. math:: y = t(p) + \sum_k w_k (x_k - t_k), \qquad
              \operatorname{var}(y) = \sum_k w_k^2 \operatorname{var}(x_k)

    Examples
    --------
    >>> line = [[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]]
    >>> halfway = resample_map(line, [0, 0, 2.5], variance=np.ones((1, 1, 6)))
    >>> float(halfway.value.round(3)), float(halfway.variance.round(2))
    (2.5, 0.76)
    """
    value, coordinates = _check_map(value, coordinates)
    variance = np.zeros(value.shape) if variance is None else np.asarray(variance, float)
    codes = np.zeros(value.shape, np.uint8) if status is None else np.asarray(status, np.uint8)
    known, known_there = (np.asarray(part, float) for part in trend or (0.0, 0.0))
    shape = coordinates.shape[:-1]
    _check_same(value.shape, variance=variance, status=codes, trend=known)
    _check_same(shape, **{'trend at the points': known_there})
    unexplained = ~(np.isfinite(value) & np.isfinite(variance)) & ~is_missing(codes)
    codes = np.where(unexplained, np.uint8(Status.INVALID_INPUT), codes)
    present = ~is_missing(codes)

    points = coordinates.reshape(-1, 3)
    inside = _is_inside(points, value.shape)
    all_value, all_variance = np.full(len(inside), np.nan), np.full(len(inside), np.nan)
    all_status = np.full(len(inside), Status.OUTSIDE_FIELD_OF_VIEW, np.uint8)
    points = np.clip(points[inside], 0, np.array(value.shape) - 1)
    nearest = codes[_nearest(points, value.shape)]
    all_status[inside] = nearest
    if present.any():
        weight = ndimage.map_coordinates(present.astype(float), points.T, order=1)
        enough = weight >= MINIMUM_VALID_WEIGHT - ROUNDING
        kept = np.flatnonzero(inside)[enough]
        rest, noise = fill_missing(value - known, present), fill_missing(variance, present)
        places = points[enough]
        all_value[kept] = ndimage.map_coordinates(
            rest, places.T, order=SPLINE_ORDER, mode='nearest'
        )
        all_value[kept] += known_there.reshape(-1)[kept] if known_there.ndim else known_there
        all_variance[kept] = _squared_weights(noise, places)
        all_status[kept] = np.where(is_missing(nearest), np.uint8(Status.OK), nearest)[enough]
        # a point may be lost although its nearest voxel has a value
        lost = ~enough & ~is_missing(nearest)
        all_status[np.flatnonzero(inside)[lost]] = _heaviest_missing(codes, points[lost])
    return Estimate.of(
        all_value.reshape(shape), all_variance.reshape(shape), all_status.reshape(shape)
    )


def fill_missing(image: FloatArray, present: BoolArray) -> FloatArray:
    """
    Give every voxel without a value that of the nearest voxel that has one.

    Parameters
    ----------
    image : (X, Y, Z) ndarray
        Any unit.
    present : (X, Y, Z) ndarray of bool
        Where it counts; somewhere.

    Returns
    -------
    filled : (X, Y, Z) ndarray
        Unit of `image`.

    Examples
    --------
    >>> fill_missing(np.array([[[1.0, np.nan, 3.0]]]), np.array([[[True, False, False]]]))
    array([[[1., 1., 1.]]])
    """
    if present.all():
        return image
    index = ndimage.distance_transform_edt(~present, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(index)])


def _squared_weights(variance: FloatArray, points: FloatArray) -> FloatArray:
    """Sum variances (X, Y, Z) with the squared weights of the spline at points (N, 3) inside."""
    phases, squares = _spline_squares()
    low = np.floor(points).astype(np.intp)
    last = np.array(variance.shape) - 1
    index, weight = [], []
    for axis in range(variance.ndim):
        phase = points[:, axis] - low[:, axis]
        index.append(np.clip(low[:, axis, None] + np.array(TAPS), 0, last[axis]))
        weight.append(np.stack([np.interp(phase, phases, row) for row in squares], axis=-1))
    total = np.zeros(len(points))
    for i, j in product(range(len(TAPS)), repeat=2):
        row = variance[index[0][:, i, None], index[1][:, j, None], index[2]]
        total += weight[0][:, i] * weight[1][:, j] * (row * weight[2]).sum(axis=1)
    return total


@cache
def _spline_squares() -> tuple[FloatArray, FloatArray]:
    """
    Squared weights of the nearest voxels of a spline, by the phase between the grids.

    The weights reach further, but hardly: the few taken here are raised to the sum of all.
    """
    pulse = np.zeros(2 * SPLINE_REACH + 1)
    pulse[SPLINE_REACH] = 1.0
    phases = np.linspace(0, 1, NOISE_PHASES)
    reach = np.arange(-SPLINE_REACH // 2, SPLINE_REACH // 2 + 1)
    offsets = SPLINE_REACH + phases - reach[:, None]
    squares = ndimage.map_coordinates(pulse, [offsets], order=SPLINE_ORDER) ** 2
    near = squares[np.isin(reach, TAPS)]
    return phases, near * (squares.sum(axis=0) / near.sum(axis=0))


def _heaviest_missing(codes: NDArray[np.uint8], points: FloatArray) -> NDArray[np.uint8]:
    """Status of the heaviest missing voxel around every point (N, 3)."""
    heaviest = np.zeros(len(points))
    reason = np.full(len(points), Status.INVALID_INPUT, np.uint8)
    for index, weight in _corners(points, codes.shape):
        heavier = is_missing(codes[index]) & (weight > heaviest)
        heaviest[heavier] = weight[heavier]
        reason[heavier] = codes[index][heavier]
    return reason


def _check_same(shape: tuple[int, ...], **arrays: NDArray[np.generic]) -> None:
    """Raise unless every array has the shape, or is a number."""
    for name, array in arrays.items():
        if array.ndim and array.shape != shape:
            msg = f'{name} must have the shape {shape}, got {array.shape}'
            raise ModelInputError(msg)


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


def resample_series(
    series: ArrayLike,
    matrices: ArrayLike,
    affine: ArrayLike,
    *,
    shift: ArrayLike | None = None,
    shift_axis: int = 1,
) -> NDArray[np.float32]:
    r"""
    Bring every volume of a series to one place, on the grid of the series, in one interpolation.

    Parameters
    ----------
    series : (X, Y, Z, T) array_like
        Any unit; what is not finite counts as 0.
    matrices : (T, 4, 4) array_like
        World points of the wanted image to those of each volume, mm, RAS, from
        :func:`~bids_app.models.preprocessing.realignment.motion_matrices`; identity where nothing
        moved.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.
    shift : (X, Y, Z) array_like, optional
        Distortion of the scan: what belongs to voxel i of the wanted image is found at
        i + `shift` along `shift_axis` of the acquired one, voxels. It moves with the head.
    shift_axis : int
        Axis of the array along which `shift` counts.

    Returns
    -------
    resampled : (X, Y, Z, T) ndarray of float32
        Unit of `series`; NaN where a point lies more than half a voxel outside. Where no value
        of `series` is negative, no result is.

    Notes
    -----
    Cubic splines, which leave more of the noise in place than linear interpolation. With a
    shift s the signal is multiplied by the change of the voxel's size:

    .. math:: y_t(x) = V_t\bigl(M_t (x + s(x)\,e)\bigr)\,(1 + \partial s / \partial e)

    Examples
    --------
    >>> moved = np.eye(4)
    >>> moved[2, 3] = 1.0
    >>> line = np.arange(8.0).reshape(1, 1, 8, 1)
    >>> resample_series(line, [moved], np.eye(4)).ravel().round(3)
    array([ 1.,  2.,  3.,  4.,  5.,  6.,  7., nan], dtype=float32)
    """
    series, matrices = np.asarray(series), np.asarray(matrices, float)
    affine = np.asarray(affine, float)
    if series.ndim != 4 or matrices.shape != (series.shape[-1], 4, 4):
        msg = (
            f'series (X, Y, Z, T) and matrices (T, 4, 4) expected, got {series.shape} and '
            f'{matrices.shape}'
        )
        raise ModelInputError(msg)
    inverse = np.linalg.inv(affine)
    bent = None if shift is None else _undistorted(series.shape[:3], shift, shift_axis)
    resampled: NDArray[np.float32] = np.empty(series.shape, np.float32)
    for t, matrix in enumerate(matrices):
        volume = np.nan_to_num(np.asarray(series[..., t], float), posinf=0, neginf=0)
        step = inverse @ matrix @ affine
        if bent is None:  # twice as fast as points with coordinates of their own
            value = ndimage.affine_transform(
                volume, step[:3, :3], step[:3, 3], order=SPLINE_ORDER, mode='nearest'
            )
            inside, scale = _is_inside_after(step, volume.shape), np.ones(1)
        else:
            points, scale = bent[0] @ step[:3, :3].T + step[:3, 3], bent[1]
            value = ndimage.map_coordinates(volume, points.T, order=SPLINE_ORDER, mode='nearest')
            inside = _is_inside(points, volume.shape)
        if volume.min() >= 0:
            value = np.maximum(value, 0)
        resampled[..., t] = np.where(inside, value * scale, np.nan).reshape(volume.shape)
    return resampled


def voxels_per_noise_sample(shape: Sequence[int], matrices: ArrayLike, affine: ArrayLike) -> float:
    """
    Tell how many voxels share one noise sample after :func:`resample_series`.

    Parameters
    ----------
    shape : (3,) sequence of int
        Grid of the series.
    matrices : (T, 4, 4) array_like
        As for :func:`resample_series`.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.

    Returns
    -------
    n_voxels : float
        1 or more: the noise variance of a voxel before over that after, mean over voxels and
        volumes. The sum over a region keeps its variance, so its error counts that many voxels
        as one.

    Examples
    --------
    >>> halfway = np.eye(4)
    >>> halfway[2, 3] = 0.5
    >>> round(voxels_per_noise_sample((4, 4, 4), [np.eye(4)], np.eye(4)), 6)
    1.0
    >>> round(voxels_per_noise_sample((4, 4, 4), [halfway], np.eye(4)), 2)
    1.32
    """
    matrices, affine = np.asarray(matrices, float), np.asarray(affine, float)
    inverse = np.linalg.inv(affine)
    # a few voxels of every axis show the phase between the grids as well as all do
    axes = [np.linspace(0, n - 1, min(n, NOISE_POINTS)).round() for n in shape]
    indices = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)
    kept = []
    for matrix in matrices:
        step = inverse @ matrix @ affine
        points = indices @ step[:3, :3].T + step[:3, 3]
        phase = points - np.floor(points)
        kept.append(kept_noise(phase).mean())
    return max(1 / float(np.mean(kept)), 1.0)


def kept_noise(phase: ArrayLike) -> FloatArray:
    """
    Give the share of the variance of white noise that a cubic spline keeps.

    Parameters
    ----------
    phase : (..., 3) array_like
        Where a point lies between two voxels of every axis, in [0, 1].

    Returns
    -------
    share : (...) ndarray
        1 at a voxel, less between; no unit.

    Examples
    --------
    >>> kept_noise([[0, 0, 0], [0, 0, 0.5]]).round(2)
    array([1.  , 0.76])
    """
    phases, squares = _spline_squares()
    kept = np.interp(np.asarray(phase, float), phases, squares.sum(axis=0))
    return np.asarray(kept.prod(axis=-1))


def _undistorted(
    shape: tuple[int, ...], shift: ArrayLike, axis: int
) -> tuple[FloatArray, FloatArray]:
    """Voxel coordinates (N, 3) in the distorted image, and the change of the voxels' size."""
    points = np.moveaxis(np.indices(shape, dtype=float), 0, -1)
    shift = np.asarray(shift, float)
    if shift.shape != tuple(shape):
        msg = f'shift must have the grid of the series {tuple(shape)}, got {shift.shape}'
        raise ModelInputError(msg)
    points[..., axis] += shift
    scale = 1 + np.gradient(shift, axis=axis)
    return points.reshape(-1, 3), np.asarray(scale.reshape(-1))


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
    return average_around(image, centres, matrix[:3, :3], fill=fill)


def average_around(
    image: ArrayLike, centres: ArrayLike, edges: ArrayLike, *, fill: float = 0.0
) -> FloatArray:
    """
    Average a fine image over boxes anywhere in it.

    Parameters
    ----------
    image : (X', Y', Z') array_like
        Tissue fraction, mask or any other density; NaN voxels are left out.
    centres : (..., 3) array_like
        Of the boxes, voxel coordinates in `image`.
    edges : (3, 3) array_like
        Their three edges as columns, the same way.
    fill : float
        As for :func:`average_over_voxel`.

    Returns
    -------
    average : (...) ndarray of float64
        Unit of `image`. With `fill` NaN: NaN where no point of the box has a value.

    Examples
    --------
    >>> fine = np.array([[[0.0, 1.0, 1.0, 1.0]]])
    >>> average_around(fine, [[0, 0, 0.5], [0, 0, 1.5]], np.diag([1, 1, 2]))
    array([0.5, 1. ])
    """
    image, centres = _check_map(image, centres)
    edges = np.asarray(edges, float)
    extent = np.linalg.norm(edges, axis=0)
    n_points = np.clip(np.ceil(extent - ROUNDING), 1, MOST_POINTS_PER_AXIS).astype(int)
    shape, centres = centres.shape[:-1], centres.reshape(-1, 3)
    average = np.full(len(centres), fill)
    touching = _touching(image, centres, edges) if fill == 0 else np.ones(len(centres), bool)
    centres = centres[touching]
    total, n_valid = np.zeros((2, len(centres)))
    interpolate = _interpolator(image)
    for offset in product(*[(np.arange(n) + 1 / 2) / n - 1 / 2 for n in n_points]):
        sample = interpolate(centres + edges @ np.array(offset))
        sample = np.where(np.isnan(sample), fill, sample)
        total += np.nan_to_num(sample)
        n_valid += ~np.isnan(sample)
    average[touching] = np.divide(
        total, n_valid, out=np.full(len(centres), np.nan), where=n_valid > 0
    )
    return average.reshape(shape)


def _touching(image: FloatArray, centres: FloatArray, edges: FloatArray) -> BoolArray:
    """Tell which boxes (V,) may hold more than zeros; most of a scan lies beside the brain."""
    reach = np.ceil(np.abs(edges).sum(axis=1) / 2 + 1).astype(int)
    nearby = ndimage.maximum_filter((image != 0).astype(np.uint8), size=tuple(2 * reach + 1))
    # a box beyond the border touches no more than one on it
    places = np.clip(np.rint(centres).astype(int), 0, np.array(image.shape) - 1)
    return np.asarray(nearby[tuple(places.T)] > 0)


def sample_linear(value: ArrayLike, coordinates: ArrayLike) -> FloatArray:
    """
    Interpolate an image between its voxels linearly: masks, tissue and what need not be exact.

    Parameters
    ----------
    value : (X, Y, Z) array_like
        Any unit; NaN where there is none.
    coordinates : (..., 3) array_like
        Voxel coordinates in `value`.

    Returns
    -------
    sampled : (...) ndarray
        NaN outside, and where less than half of the weight falls on voxels with a value.

    Examples
    --------
    >>> float(sample_linear([[[1.0, 3.0]]], [0, 0, 0.25]))
    1.5
    """
    value, coordinates = _check_map(value, coordinates)
    return _interpolator(value)(coordinates)


def _interpolator(value: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Prepare an image (X, Y, Z) to be interpolated at points (..., 3) again and again."""
    present = np.isfinite(value)
    is_complete = bool(present.all())
    filled = value if is_complete else np.where(present, value, 0.0)
    last = np.array(value.shape)[:, None] - 1

    def interpolate(coordinates: FloatArray) -> FloatArray:
        points = coordinates.reshape(-1, 3)
        inside = _is_inside(points, value.shape)
        places = np.clip(points[inside].T, 0, last)
        found = ndimage.map_coordinates(filled, places, order=1)
        if not is_complete:
            weight = ndimage.map_coordinates(present.astype(float), places, order=1)
            is_enough = weight >= MINIMUM_VALID_WEIGHT - ROUNDING
            found = np.where(is_enough, found / np.where(is_enough, weight, 1.0), np.nan)
        sampled = np.full(len(points), np.nan)
        sampled[inside] = found
        return sampled.reshape(coordinates.shape[:-1])

    return interpolate


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


def _is_inside_after(step: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """Tell which voxels of a grid lie in the image after an affine step (4, 4) of voxels."""
    axes, slack = np.ogrid[tuple(map(slice, shape))], BORDER + ROUNDING
    inside = np.ones(shape, bool)
    for row, size in zip(step[:3], shape, strict=True):
        *slopes, start = row
        there = start + sum(slope * axis for slope, axis in zip(slopes, axes, strict=True))
        inside &= (there >= -slack) & (there <= size - 1 + slack)
    return inside


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
