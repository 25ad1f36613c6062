"""Images whose background is noise as bright as the head: ratios such as UNIT1 of MP2RAGE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

NOISY = 0.15
"""Standard deviation of neighbours at the border of an image, relative to its range, above which
its background is noise; numbers that may be anything have 0.29, air of other images below 0.05."""

ENDS = (0.5, 99.5)
"""Percentiles between which the range of an image lies."""

NEIGHBOURS = 3
"""Edge of the cube of neighbours, voxels."""

EVEN = 0.6
"""Of the noise of the background, below which neighbours belong to the head."""

HALF_FACE = 0.5
"""Of the border, which has to be noisy: heads reach through one or two of the six faces."""


def clear_background(image: ArrayLike) -> tuple[FloatArray, bool]:
    r"""
    Set the background of an image to zero, where it is noise as bright as the head.

    Parameters
    ----------
    image : (X, Y, Z) array_like
        Any unit; finite.

    Returns
    -------
    cleared : (X, Y, Z) ndarray of float64
        As it was, where its background is dark; else without it, darkest 0.
    was_noisy : bool
        Whether it was changed.

    Raises
    ------
    ModelInputError
        If the image has not three axes.

    Notes
    -----
    UNIT1 is :math:`S_1 S_2 / (S_1^2 + S_2^2)` of two inversion times [1]_: in air the ratio of two
    noises, anything from the darkest to the brightest. Neighbours (3 x 3 x 3) in a head are alike,
    in such air they are not. What is left is the largest connected part, holes filled; bone, as
    dark as air in both images, goes with the background, as it is dark in a T1w image.

    References
    ----------
    .. [1] Marques et al., NeuroImage 49:1271, 2010. doi:10.1016/j.neuroimage.2009.10.002

    Examples
    --------
    >>> air = np.random.default_rng(0).uniform(0, 4095, (40, 40, 40))
    >>> air[10:30, 10:30, 10:30] = 3000.0
    >>> cleared, was_noisy = clear_background(air)
    >>> was_noisy, bool((cleared[10:30, 10:30, 10:30] > 0).all()), bool(cleared[:8].any())
    (True, True, False)
    """
    image = np.asarray(image, float)
    if image.ndim != 3:
        msg = f'an image of three axes expected, got {image.shape}'
        raise ModelInputError(msg)
    low, high = np.percentile(image, ENDS)
    spread = _local_spread(image)
    border = spread[_border(image.shape)]
    if not high > low or np.mean(border > NOISY * (high - low)) < HALF_FACE:
        return image, False
    head = spread < EVEN * np.median(border)
    # the cube of a voxel inside reaches out of the head: its edge comes back by half a cube
    parts, count = ndimage.label(head)
    if count:
        head = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        head = ndimage.binary_dilation(head, np.ones((3, 3, 3)), iterations=NEIGHBOURS // 2)
        head = ndimage.binary_fill_holes(head)
    return np.where(head, np.maximum(image - low, 0.0), 0.0), True


def _local_spread(image: FloatArray) -> FloatArray:
    """Give the standard deviation of the cube around every voxel."""
    middle = image - image.mean()
    mean, square = (ndimage.uniform_filter(part, NEIGHBOURS) for part in (middle, middle**2))
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0.0)))


def _border(shape: tuple[int, ...]) -> BoolArray:
    """Find the voxels that lie in the outermost layers but one, where cubes are whole."""
    depth = np.minimum.reduce(
        [
            np.minimum(index, size - 1 - index)
            for index, size in zip(np.indices(shape), shape, strict=True)
        ]
    )
    return np.asarray(depth == NEIGHBOURS // 2)
