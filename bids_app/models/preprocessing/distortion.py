"""Where an echo-planar image is displaced by the static field, from every kind of field map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

SMALLEST_WEIGHT = 1e-3
"""Of the smoothed mask below which a voxel has no neighbour to take its field from; no unit."""


SCHEDULE = (3.0, 2.0, 1.5, 1.0)
"""Widths to which the shift between opposite images is smoothed in turn, voxels; ours."""

STEPS = 7
"""At each of them."""

LARGEST_STEP = 1.0
"""voxels"""

WEAK = 0.02
"""Squared signal, relative to that of bright tissue, below which a voxel follows its neighbours;
no unit; ours."""

EDGE = 2
"""Voxels on both sides of the outline of the brain that tell whether an image fills it."""

DISPLACED = 0.5
"""Displacement from which a voxel tells whether the field has the right sign, voxels."""

FEW = 100
"""Voxels below which nothing is said."""

BRIGHT = 0.95
"""Quantile of an image that stands for bright tissue; no unit."""


def voxel_shift(
    field_map: ArrayLike, *, echo_spacing: float, n_lines: int, polarity: int
) -> FloatArray:
    r"""
    Turn a field map into the displacement of an echo-planar image along its phase encoding.

    Parameters
    ----------
    field_map : (...) array_like
        Offset of the main field at the true place, Hz.
    echo_spacing : float
        Effective echo spacing (with acceleration taken into account), s; positive.
    n_lines : int
        Voxels of the image along the phase-encoding axis.
    polarity : {1, -1}
        1 where the phase-encoding direction is i, j or k; -1 where it is i-, j- or k-.

    Returns
    -------
    shift : (...) ndarray of float64
        Voxels: the signal that belongs to voxel i is found at i + shift along the axis.

    Raises
    ------
    ModelInputError
        If the spacing is not positive or the polarity neither 1 nor -1.

    Notes
    -----
    A line is as wide as :math:`1/(N\,\Delta t)` in Hz, hence with the field f

    .. math:: s = \pm f\,N\,\Delta t

    References
    ----------
    .. [1] Jezzard & Balaban, Magn Reson Med 34:65, 1995. doi:10.1002/mrm.1910340111

    Examples
    --------
    >>> round(float(voxel_shift(50.0, echo_spacing=0.00064, n_lines=64, polarity=1)), 3)
    2.048
    """
    if not echo_spacing > 0 or polarity not in (1, -1):
        msg = (
            'echo_spacing must be positive (s) and polarity 1 or -1, got '
            f'{echo_spacing} and {polarity}'
        )
        raise ModelInputError(msg)
    return np.asarray(polarity * n_lines * echo_spacing * np.asarray(field_map, float))


def complete_field(field_map: ArrayLike, mask: ArrayLike, *, width: float = 1.0) -> FloatArray:
    """
    Smooth a field map lightly and carry it on beyond its mask.

    Parameters
    ----------
    field_map : (X, Y, Z) array_like
        Any unit; NaN where it is not known.
    mask : (X, Y, Z) array_like of bool
        Where the field counts.
    width : float
        Standard deviation of the smoothing inside the mask, voxels; positive.

    Returns
    -------
    complete : (X, Y, Z) ndarray of float64
        Without NaN; 0 where nothing is known at all.

    Raises
    ------
    ModelInputError
        If shapes differ or the width is not positive.

    Notes
    -----
    Inside, the mean of the known neighbours with the weights of a Gaussian, corrected for the
    slope at the edge by smoothing what is left once more. Beyond, the same with a Gaussian
    that is doubled until it reaches.

    Examples
    --------
    >>> field = np.array([[[10.0, 10.0, np.nan, np.nan, np.nan]]])
    >>> complete_field(field, np.isfinite(field)).round(6).ravel()
    array([10., 10., 10., 10., 10.])
    """
    field, mask = np.asarray(field_map, float), np.asarray(mask, bool)
    if field.shape != mask.shape or not width > 0:
        msg = f'field {field.shape} and mask {mask.shape} of one shape expected, width {width} > 0'
        raise ModelInputError(msg)
    known = mask & np.isfinite(field)
    values = np.where(known, field, 0.0)
    if not known.any():
        return np.zeros(field.shape)
    smooth, weight = _weighted(values, known, width)
    left, _ = _weighted(np.where(known, values - smooth, 0.0), known, width)
    complete = np.where(weight > SMALLEST_WEIGHT, smooth + left, np.nan)
    reach = width
    while np.isnan(complete).any():
        reach *= 2
        beyond, weight = _weighted(values, known, reach)
        missing = np.isnan(complete) & (weight > SMALLEST_WEIGHT)
        complete[missing] = beyond[missing]
    return complete


def _weighted(values: FloatArray, known: BoolArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Average the known values with a Gaussian, and give the weight that falls on them."""
    weight = ndimage.gaussian_filter(known.astype(float), width, mode='constant')
    total = ndimage.gaussian_filter(values, width, mode='constant')
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return mean, weight


def undistort(image: ArrayLike, shift: ArrayLike, *, axis: int) -> FloatArray:
    r"""
    Bring the signal of a displaced image back, with the change of the voxels' size.

    Parameters
    ----------
    image : (X, Y, Z) array_like
        Any unit.
    shift : (X, Y, Z) array_like
        Voxels, at the true place: the signal of voxel i is found at i + shift.
    axis : int
        Of the phase encoding.

    Returns
    -------
    corrected : (X, Y, Z) ndarray of float64
        Linear interpolation; at the ends of a line the last voxel holds.

    Notes
    -----
    .. math:: y(x) = I(x + s(x))\,(1 + \partial s / \partial x)

    Examples
    --------
    >>> line = np.array([0.0, 0.0, 1.0, 2.0]).reshape(1, 4, 1)
    >>> undistort(line, np.ones(line.shape), axis=1).ravel()
    array([0., 1., 2., 2.])
    """
    image, shift = np.asarray(image, float), np.asarray(shift, float)
    points = np.indices(image.shape, dtype=float)
    points[axis] += shift
    moved = ndimage.map_coordinates(image, points, order=1, mode='nearest')
    return np.asarray(moved * (1 + np.gradient(shift, axis=axis)))


def shift_between_opposites(plus: ArrayLike, minus: ArrayLike, *, axis: int) -> FloatArray:
    r"""
    Find the displacement from two images that the field displaces in opposite directions.

    Parameters
    ----------
    plus, minus : (X, Y, Z) array_like
        Magnitude of one head at one place, read out equally fast with phase encoding along
        `axis` (plus) and against it (minus).
    axis : int
        Of the phase encoding.

    Returns
    -------
    shift : (X, Y, Z) ndarray of float64
        Voxels, of `plus`, at the true place; that of `minus` is its negative. Where there is no
        signal it follows the neighbours.

    Raises
    ------
    ModelInputError
        If shapes differ or there is no signal.

    Notes
    -----
    The field moves signal along the lines and loses none. So the sum of the signal up to a
    point differs between two images, corrected by the shift found so far, by what a further
    shift :math:`\delta` moves across it,

    .. math:: \sum_{x' \le x} (I_+ - I_-)(x') = -\delta(x)\,(I_+ + I_-)(x)

    which is solved for :math:`\delta` by least squares in a neighbourhood that shrinks [1]_.
    What a line has more in one image than in the other is noise and spread over its signal.

    References
    ----------
    .. [1] Chang & Fitzpatrick, IEEE Trans Med Imaging 11:319, 1992 (equal sums along a line).
       doi:10.1109/42.158935

    Examples
    --------
    >>> y = np.arange(24.0).reshape(1, 24, 1)
    >>> bump = lambda centre: np.tile(np.exp(-((y - centre) / 4) ** 2), (3, 1, 3))
    >>> shift_between_opposites(bump(13.0), bump(11.0), axis=1)[1, 12, 1].round(2)
    np.float64(1.0)
    """
    images = [np.nan_to_num(np.asarray(one, float)) for one in (plus, minus)]
    shape = images[0].shape
    if images[1].shape != shape or len(shape) != 3:
        msg = f'two images (X, Y, Z) of one shape expected, got {shape} and {images[1].shape}'
        raise ModelInputError(msg)
    scale = np.quantile(images, BRIGHT)
    if not scale > 0:
        msg = 'the images of opposite phase encoding hold no signal'
        raise ModelInputError(msg)
    shift: FloatArray = np.zeros(shape)
    for width in SCHEDULE:
        for _ in range(STEPS):
            first = undistort(images[0] / scale, shift, axis=axis)
            second = undistort(images[1] / scale, -shift, axis=axis)
            total = first + second
            excess = _up_to(first - second, axis) - _up_to(total, axis) * _ratio(
                (first - second).sum(axis=axis, keepdims=True),
                total.sum(axis=axis, keepdims=True),
            )
            step = ndimage.gaussian_filter(excess * total, width) / (
                ndimage.gaussian_filter(total**2, width) + WEAK
            )
            shift = shift - np.clip(step, -LARGEST_STEP, LARGEST_STEP)
    return shift


def _up_to(values: FloatArray, axis: int) -> FloatArray:
    """Sum up to the middle of each voxel."""
    return np.asarray(np.cumsum(values, axis=axis) - values / 2)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def fit_to_outline(
    images: Sequence[ArrayLike], brain: ArrayLike, shift: ArrayLike
) -> tuple[float, ...] | None:
    """
    Measure how well images fill the outline of the brain where the field displaces them.

    Parameters
    ----------
    images : sequence of (X, Y, Z) array_like
        Any unit; voxels in which one is not finite are left out.
    brain : (X, Y, Z) array_like of bool
        True place of the brain.
    shift : (X, Y, Z) array_like
        Displacement, voxels.

    Returns
    -------
    fits : tuple of float or None
        Correlation of each image with the brain in voxels near its outline; None where too few are
        displaced, they lie on one side of the outline only, or an image is even there.

    Examples
    --------
    >>> brain = np.zeros((20, 20, 20), bool)
    >>> brain[5:15, 5:15, 5:15] = True
    >>> fits = fit_to_outline([5.0 * brain, -2.0 * brain], brain, np.ones(brain.shape))
    >>> np.round(fits, 6)
    array([ 1., -1.])
    """
    inside, arrays = np.asarray(brain, bool), [np.asarray(one, float) for one in images]
    edge = ndimage.binary_dilation(inside, iterations=EDGE)
    edge &= ~ndimage.binary_erosion(inside, iterations=EDGE)
    edge &= np.abs(np.asarray(shift, float)) >= DISPLACED
    edge &= np.all([np.isfinite(one) for one in arrays], axis=0)
    values = [*(one[edge] for one in arrays), inside[edge].astype(float)]
    if edge.sum() < FEW or any(np.ptp(one) == 0 for one in values):
        return None
    return tuple(float(fit) for fit in np.corrcoef(values)[-1, :-1])
