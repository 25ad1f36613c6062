"""The other hemisphere of the template, voxel by voxel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from bids_app.engines.templates import packaged_template
from bids_app.images import grid_of, load_data

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray, IntArray


@cache
def partners() -> IntArray:
    """
    Find the voxel of the other hemisphere for every voxel of the template.

    Returns
    -------
    index : (X * Y * Z,) ndarray of int64
        Flat index, from the registration of the template to its mirror image
        (tools/package_mirror.py), to the nearest voxel.
    """
    moved = load_data(packaged_template('desc-mirror_displacement'))
    places = np.moveaxis(np.indices(moved.shape[:3]), 0, -1) + np.rint(moved).astype(np.int64)
    places = np.clip(places, 0, np.array(moved.shape[:3]) - 1)
    places[..., 0] = moved.shape[0] - 1 - places[..., 0]
    index: IntArray = np.ravel_multi_index(np.moveaxis(places, -1, 0), moved.shape[:3]).ravel()
    return index


def other_side(data: FloatArray) -> FloatArray:
    """Put the value of the other hemisphere into every voxel of a map of the template."""
    mirrored: FloatArray = data.ravel()[partners()].reshape(data.shape)
    return mirrored


def pairs_of(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """
    Pair the voxels of a mask with those of the other hemisphere.

    Parameters
    ----------
    mask : (X, Y, Z) ndarray of bool
        On the grid of the template.

    Returns
    -------
    left, right : (N,) ndarray of int64
        Positions in the list of voxels of the mask; x < 0 is left.
    """
    grid = grid_of(packaged_template('desc-brain_mask'))
    x = (np.indices(mask.shape).reshape(3, -1).T @ grid.affine[0, :3]) + grid.affine[0, 3]
    position = np.full(mask.size, -1)
    position[mask.ravel()] = np.arange(mask.sum())
    partner = partners()
    chosen = mask.ravel() & (x < 0) & (x[partner] > 0) & mask.ravel()[partner]
    return position[chosen], position[partner[chosen]]
