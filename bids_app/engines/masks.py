"""Brain masks of scans that come without a T1w image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import InputDataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray

SMOOTHING = 3.0
"""Standard deviation of the smoothing before the threshold, mm."""

OPENING_RADIUS = 6.0
"""Bridges thinner than twice this (optic nerves, dura to scalp) are cut, mm."""


def mask_from_mean(data: ArrayLike, affine: ArrayLike) -> BoolArray:
    """
    Find the brain in the mean image of a spin-echo, gradient-echo or perfusion scan.

    Parameters
    ----------
    data : (X, Y, Z) or (X, Y, Z, T) array_like
        Signal, any unit; a series is averaged. Not finite counts as no signal.
    affine : (4, 4) array_like
        Voxel to world, mm.

    Returns
    -------
    mask : (X, Y, Z) ndarray of bool
        The largest connected bright body, cut from what hangs on it by thin bridges, holes filled.

    Raises
    ------
    InputDataError
        If the image has no contrast.

    Notes
    -----
    Otsu's threshold [1]_ between background and head on the smoothed image, then opening, the
    largest component, dilation by the same radius inside the threshold, holes filled, and of that
    the largest component again: the dilation may reach over a gap.

    References
    ----------
    .. [1] Otsu, IEEE Trans Syst Man Cybern 9:62, 1979. doi:10.1109/TSMC.1979.4310076
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    image = np.nan_to_num(np.asarray(data, float), posinf=0, neginf=0)
    image = image.mean(axis=3) if image.ndim == 4 else image
    zooms = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    image = np.minimum(image, np.percentile(image, 99))
    smooth = ndimage.gaussian_filter(image, SMOOTHING / zooms)
    if not np.ptp(smooth) > 0:
        msg = 'no brain mask can be found: expected an image with contrast, all voxels are equal'
        raise InputDataError(msg)
    head = smooth > threshold_otsu(smooth)

    depth = ndimage.distance_transform_edt(np.pad(head, 1), sampling=zooms)[1:-1, 1:-1, 1:-1]
    deep = depth > OPENING_RADIUS
    core = largest_component(deep if deep.any() else head)
    reach = ndimage.distance_transform_edt(~core, sampling=zooms) <= OPENING_RADIUS
    return largest_component(ndimage.binary_fill_holes(head & reach))


def largest_component(mask: BoolArray) -> BoolArray:
    """Keep the largest connected component."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), bool)
