"""Rigid movement of the head within a series."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import FloatArray

HEAD_RADIUS = 50.0
"""Turns count for displacement as arcs of this radius (Power et al. 2012), mm."""

MOST_POINTS = 20_000
"""Voxels that are looked at, at most."""

DEGREES_OF_FREEDOM = 6
"""Of a rigid movement: three shifts, three turns."""

FEWEST_POINTS = 100

FEWEST_SLICES = 2
"""Along every axis, below which no rigid movement can be told."""

FEWEST_ECHOES = 3
"""Any two echoes lie on a line: movement would be taken for decay."""

SMALLEST_SIGNAL = 1e-6
"""Of the largest one; the logarithm of less is not taken."""

SMOOTHING = 0.5
"""Standard deviation of the smoothing before volumes are compared, voxels."""

MOST_ITERATIONS = 12

CONVERGED = 1e-3
"""Step below which a volume is at its place, mm."""

NOISE_SPREAD = (2 * np.sqrt(np.pi) * SMOOTHING) ** 3
"""Voxels that share one sample of noise after that smoothing."""

CHANCE = 2.0
"""Standard errors within which movement that follows the contrast is taken to do so by chance;
ours."""

BINS = 7
"""Frequencies over which the spectrum of movement is averaged; ours."""

PASSES = 2
"""How often the mean image is made anew from the aligned volumes."""


def estimate_rigid_motion(
    series: ArrayLike,
    mask: ArrayLike,
    affine: ArrayLike,
    *,
    courses: ArrayLike | None = None,
) -> FloatArray:
    r"""
    Estimate where the head lies in every volume of a series, relative to their mean.

    Parameters
    ----------
    series : (X, Y, Z, T) array_like
        Magnitude, any unit; what is not finite counts as 0.
    mask : (X, Y, Z) array_like of bool
        Voxels to look at: the brain, or more of the head.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.
    courses : (T, K) array_like, optional
        How the contrast of the scan changes over time (label and control, a bolus). Movement
        that follows them by more than chance is taken for contrast and removed.

    Returns
    -------
    motion : (T, 6) ndarray
        Shifts along x, y, z, mm, and turns about them, rad, through the centre of the mask; of
        the head from the mean image to the volume.

    Raises
    ------
    ModelInputError
        If shapes do not fit, or the mask has fewer voxels than the fit needs.

    Notes
    -----
    Least squares by the inverse compositional Gauss-Newton method [1]_: the derivatives of the
    mean image R by the movement are made once and serve all volumes and steps. A shading q of each
    volume, a polynomial of second order in space, is fitted along: smooth drift and activity would
    otherwise be taken for movement.

    .. math:: V_t(M_t x) \approx q_t(x) R(x)

    Volumes and mean are smoothed by less than a voxel, which widens the range (several voxels)
    and makes linear interpolation good enough. The mean is made twice.

    Noise moves volumes too. With its part E of the mean square V of a shift or turn, from the
    residual of the fits, the movement is multiplied by :math:`\max(1 - E/V, 0)`: where there is
    no more than noise makes, there is none. Of the coefficient c by which movement follows a
    course, whose chance error s follows from the spectrum of the rest,
    :math:`c \max(1 - 4 s^2 / c^2, 0)` is removed. All of it would take along the movement that
    label and control volumes differ by through chance, which no scatter of the pairs shows.

    References
    ----------
    .. [1] Baker & Matthews, Int J Comput Vis 56:221, 2004. doi:10.1023/B:VISI.0000011205.11775.fd
    """
    series, mask, affine, indices = _checked(series, mask, affine)
    centre = mask_centre(mask, affine)
    smooth = [_smooth(series[..., t]) for t in range(series.shape[3])]
    motion = np.zeros((len(smooth), DEGREES_OF_FREEDOM))
    for _ in range(PASSES):
        mean = _mean_in_place(smooth, motion, affine, centre)
        motion, error = _fit_volumes(
            smooth, mean, motion, indices=indices, affine=affine, centre=centre
        )
        motion -= motion.mean(axis=0)
    size = (motion**2).mean(axis=0)
    motion *= np.where(size > error, 1 - error / np.where(size > error, size, 1.0), 0.0)
    return motion if courses is None else _without(motion, np.asarray(courses, float))


def estimate_echo_motion(
    echoes: ArrayLike, echo_times: ArrayLike, mask: ArrayLike, affine: ArrayLike
) -> FloatArray:
    r"""
    Estimate where the head lies in every echo of a train, relative to the decay of all.

    Parameters
    ----------
    echoes : (X, Y, Z, T) array_like
        Magnitude, any unit; what is not finite counts as 0.
    echo_times : (T,) array_like
        s.
    mask : (X, Y, Z) array_like of bool
        Voxels to look at: the brain, or more of the head.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.

    Returns
    -------
    motion : (T, 6) ndarray
        As of :func:`estimate_rigid_motion`, relative to the echoes that the decay predicts.

    Raises
    ------
    ModelInputError
        If shapes do not fit, there are fewer than three echoes, or the mask has fewer voxels than
        the fit needs.

    Notes
    -----
    Contrast differs from echo to echo, so every echo is aligned to an image of its own contrast:
    what a line through the logarithm of all echoes, weighted by their squared signal, gives in
    every voxel at its echo time. The lines are fitted anew from the aligned echoes.

    .. math:: \ln R_t(x) = \ln S_0(x) - R(x) T_{E,t}
    """
    echoes, mask, affine, indices = _checked(echoes, mask, affine)
    times = np.asarray(echo_times, float)
    if times.shape != echoes.shape[3:] or times.size < FEWEST_ECHOES:
        msg = (
            f'{FEWEST_ECHOES} or more echoes with a time each expected, got {echoes.shape[3]} '
            f'echoes and times of shape {times.shape}'
        )
        raise ModelInputError(msg)
    centre = mask_centre(mask, affine)
    where: dict[str, Any] = {'indices': indices, 'affine': affine, 'centre': centre}
    smooth = [_smooth(echoes[..., t]) for t in range(times.size)]
    motion = np.zeros((times.size, DEGREES_OF_FREEDOM))
    for _ in range(PASSES):
        predicted = _predict_echoes(_in_place(smooth, motion, affine, centre), times)
        motion = np.concatenate([
            _fit_volumes([echo], image, start[np.newaxis], **where)[0]
            for echo, image, start in zip(smooth, predicted, motion, strict=True)
        ])  # fmt: skip
        motion -= motion.mean(axis=0)
    return motion


def motion_matrices(motion: ArrayLike, centre: ArrayLike) -> FloatArray:
    """
    Turn movements into transforms.

    Parameters
    ----------
    motion : (T, 6) array_like
        Shifts, mm, and turns, rad.
    centre : (3,) array_like
        Of the turns, mm.

    Returns
    -------
    matrices : (T, 4, 4) ndarray
        World points of the mean image to those of the volume, mm, RAS.

    Examples
    --------
    >>> motion_matrices([[1.0, 0, 0, 0, 0, 0]], [0, 0, 0])[0, :3, 3]
    array([1., 0., 0.])
    """
    motion, centre = np.asarray(motion, float), np.asarray(centre, float)
    matrices = np.tile(np.eye(4), (len(motion), 1, 1))
    _, vectors = np.split(motion, 2, axis=1)
    turns = Rotation.from_rotvec(vectors).as_matrix()
    matrices[:, :3, :3] = turns
    matrices[:, :3, 3] = motion[:, :3] + centre - turns @ centre
    return matrices


def mask_centre(mask: ArrayLike, affine: ArrayLike) -> FloatArray:
    """
    Find the point about which turns are told: the centre of a mask.

    Parameters
    ----------
    mask : (X, Y, Z) array_like of bool
        Of :func:`estimate_rigid_motion`.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.

    Returns
    -------
    centre : (3,) ndarray
        World coordinates, mm, RAS.

    Examples
    --------
    >>> mask_centre([[[True, True]]], np.diag([1.0, 1, 3, 1]))
    array([0. , 0. , 1.5])
    """
    points = _world(np.asarray(affine, float), np.argwhere(np.asarray(mask, bool)))
    centre: FloatArray = points.mean(axis=0)
    return centre


def label_courses(context: Sequence[str]) -> FloatArray | None:
    """
    Give the courses of contrast of a label-control series.

    Parameters
    ----------
    context : sequence of str
        Kind of every volume, as in aslcontext.tsv.

    Returns
    -------
    courses : (T, K) ndarray or None
        Membership of every kind but the most frequent; None where there is one kind only.

    Examples
    --------
    >>> label_courses(['control', 'label', 'control']).ravel()
    array([0., 1., 0.])
    """
    kinds = sorted(set(context), key=lambda kind: (-list(context).count(kind), kind))
    members = np.array([[float(one == kind) for kind in kinds[1:]] for one in context])
    return members if members.size else None


def bolus_courses(signal: ArrayLike) -> FloatArray:
    """
    Give the courses of contrast of a bolus series.

    Parameters
    ----------
    signal : (T,) array_like
        Mean over the brain.

    Returns
    -------
    courses : (T, 2) ndarray
        Change of the relaxation rate, arbitrary unit, and its square.

    Examples
    --------
    >>> bolus_courses([10, 10, 1, 10]).round(2)[2]
    array([2.3, 5.3])
    """
    signal = np.asarray(signal, float)
    course = -np.log(np.maximum(signal / np.median(signal), np.finfo(float).tiny))
    return np.stack([course, course**2], axis=1)


def _checked(
    series: ArrayLike, mask: ArrayLike, affine: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_], FloatArray, FloatArray]:
    """Check series, mask and affine; choose the voxels (N, 3) to look at."""
    series, mask = np.asarray(series), np.asarray(mask, bool)
    affine = np.asarray(affine, float)
    if series.ndim != 4 or mask.shape != series.shape[:3] or affine.shape != (4, 4):
        msg = (
            f'series (X, Y, Z, T), mask (X, Y, Z) and affine (4, 4) expected, got {series.shape}, '
            f'{mask.shape} and {affine.shape}'
        )
        raise ModelInputError(msg)
    indices = np.argwhere(mask)
    if len(indices) < FEWEST_POINTS:
        msg = f'a mask of {FEWEST_POINTS} voxels or more shows movement, got {len(indices)}'
        raise ModelInputError(msg)
    return series, mask, affine, indices[:: -(-len(indices) // MOST_POINTS)].astype(float)


def _smooth(volume: FloatArray) -> FloatArray:
    """Smooth one volume, in single precision."""
    data = np.nan_to_num(np.asarray(volume, np.float32), posinf=0, neginf=0)
    return np.asarray(ndimage.gaussian_filter(data, SMOOTHING, mode='nearest', truncate=3.0))


def _world(affine: FloatArray, indices: NDArray[Any]) -> FloatArray:
    """World coordinates (N, 3) of voxels (N, 3)."""
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3], float)


def _mean_in_place(
    volumes: list[FloatArray], motion: FloatArray, affine: FloatArray, centre: FloatArray
) -> FloatArray:
    """Average the volumes, each brought to its place."""
    total = np.zeros(volumes[0].shape)
    for volume in _in_place(volumes, motion, affine, centre):
        total += volume
    return np.asarray(total / len(volumes))


def _in_place(
    volumes: list[FloatArray], motion: FloatArray, affine: FloatArray, centre: FloatArray
) -> Iterator[FloatArray]:
    """Bring every volume to its place."""
    if not motion.any():
        yield from volumes
        return
    inverse = np.linalg.inv(affine)
    for volume, matrix in zip(volumes, motion_matrices(motion, centre), strict=True):
        step = inverse @ matrix @ affine
        yield ndimage.affine_transform(volume, step[:3, :3], step[:3, 3], order=1, mode='nearest')


def _predict_echoes(echoes: Iterable[FloatArray], times: FloatArray) -> FloatArray:
    """Give the echoes (T, X, Y, Z) of one exponential decay per voxel."""
    signal = np.stack(list(echoes))
    signal = np.maximum(signal, max(float(signal.max()), 1.0) * SMALLEST_SIGNAL)
    weight, logarithm = signal**2, np.log(signal)
    time = times[:, np.newaxis, np.newaxis, np.newaxis]
    total = weight.sum(axis=0)
    mean_time, mean = (weight * time).sum(axis=0) / total, (weight * logarithm).sum(axis=0) / total
    spread = (weight * (time - mean_time) ** 2).sum(axis=0)
    slope = (weight * (time - mean_time) * (logarithm - mean)).sum(axis=0) / spread
    return np.asarray(np.exp(mean + slope * (time - mean_time)))


def _fit_volumes(
    volumes: list[FloatArray],
    mean: FloatArray,
    start: FloatArray,
    *,
    indices: NDArray[Any],
    affine: FloatArray,
    centre: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Align every volume to the mean, from a start; give also the variance by noise, (6,)."""
    inverse = np.linalg.inv(affine)
    points = _world(affine, indices)
    at = tuple(indices.astype(int).T)
    level = mean[at]
    slope = np.stack([part[at] for part in np.gradient(mean)], axis=-1)
    slope = slope @ inverse[:3, :3]  # by voxel -> by mm
    place = (points - centre) / np.abs(points - centre).max()
    shading = _polynomials(place) * level[:, np.newaxis]
    design = np.column_stack([slope, np.cross(points - centre, slope), shading])
    solver = np.linalg.pinv(design)
    motion, spread = np.empty((len(volumes), DEGREES_OF_FREEDOM)), np.empty(len(volumes))
    for t, volume in enumerate(volumes):
        matrix = motion_matrices(start[t : t + 1], centre)[0]
        for _ in range(MOST_ITERATIONS):
            change = _difference(volume, inverse @ matrix, points, level)
            fitted = solver @ change
            step = fitted[:DEGREES_OF_FREEDOM]
            matrix = matrix @ np.linalg.inv(motion_matrices(step[np.newaxis], centre)[0])
            if np.linalg.norm(step[:3]) + HEAD_RADIUS * np.linalg.norm(step[3:]) < CONVERGED:
                break
        left = change - design @ fitted
        spread[t] = left @ left / max(len(left) - design.shape[1], 1)
        motion[t, 3:] = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
        motion[t, :3] = (matrix @ np.append(centre, 1))[:3] - centre
    by_noise = (solver[:DEGREES_OF_FREEDOM] ** 2).sum(axis=1)
    return motion, NOISE_SPREAD * spread.mean() * by_noise


def _polynomials(place: FloatArray) -> FloatArray:
    """Smooth functions (N, 10) of place (N, 3): constant, linear, quadratic."""
    products = [a * b for a, b in combinations_with_replacement(place.T, 2)]
    return np.column_stack([np.ones(len(place)), place, *products])


def _difference(
    volume: FloatArray, to_voxel: FloatArray, points: FloatArray, level: FloatArray
) -> FloatArray:
    """Give the volume, where it lies now and in the unit of the mean, minus the mean."""
    there = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    value = ndimage.map_coordinates(volume, there.T, order=1, mode='nearest')
    last = np.array(volume.shape) - 1
    seen = ((there >= 0) & (there <= last)).all(axis=1)
    gain = (value[seen] @ level[seen]) / (level[seen] @ level[seen]) or 1.0
    return np.where(seen, value / gain - level, 0.0)


def _without(motion: FloatArray, courses: FloatArray) -> FloatArray:
    """Take out the movement that follows the contrast; steady drift is told apart from it."""
    n_volumes = len(motion)
    known = np.column_stack([np.ones(n_volumes), np.linspace(-1, 1, n_volumes)])
    regressors = courses - courses.mean(axis=0)
    design = np.column_stack([known, regressors])
    inverse = np.linalg.pinv(design)
    fitted = inverse @ motion
    found = fitted[known.shape[1] :]
    chance = _chance(motion - design @ fitted, inverse[known.shape[1] :])
    limit = CHANCE**2 * chance
    kept_share = np.where(found**2 > limit, limit / np.where(found != 0, found, 1.0) ** 2, 1.0)
    clean = motion - regressors @ (found * (1 - kept_share))
    kept: FloatArray = clean - clean.mean(axis=0)
    return kept


def _chance(rest: FloatArray, filters: FloatArray) -> FloatArray:
    """Give the variance (K, 6) that movement as slow as the rest (T, 6) has in filters (K, T)."""
    power = np.abs(np.fft.fft(rest, axis=0)) ** 2
    power = ndimage.uniform_filter1d(power, min(BINS, len(rest)), axis=0, mode='wrap')
    passed = np.abs(np.fft.fft(filters, axis=1)) ** 2
    return np.asarray(passed @ power / len(rest) ** 2)
