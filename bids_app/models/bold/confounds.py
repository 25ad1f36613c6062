"""Nuisance of a BOLD run: motion, DVARS, noise components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import MAD_TO_SD, ROTATION_RADIUS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


MOST_UNSTEADY = 10
"""First volumes of a run that may not be steady; ours."""

PLATEAU_VOLUMES = 30
"""Volumes after them whose median is the plateau; ours."""

UNSTEADY_SHARE = 0.005
"""Of the plateau, by which a volume must lie above it; ours."""

UNSTEADY_SDS = 5.0
"""Standard deviations of the noise of the plateau, likewise; ours."""

ROUNDING = 1e-9
"""Of a signal, below which what is left of it is not noise; no unit."""


def expand_motion(motion: ArrayLike) -> FloatArray:
    """
    Make 24 columns of six parameters of motion: they, their steps, and the squares of both.

    Parameters
    ----------
    motion : (T, 6) array_like
        Shifts and turns, any unit.

    Returns
    -------
    columns : (T, 24) ndarray
        The step of the first volume is 0.

    References
    ----------
    .. [1] Friston et al., Magn Reson Med 35:346, 1996; Satterthwaite et al., NeuroImage 64:240,
       2013. doi:10.1016/j.neuroimage.2012.08.052

    Examples
    --------
    >>> expand_motion(np.arange(12.0).reshape(2, 6)).shape
    (2, 24)
    """
    motion = np.asarray(motion, float)
    steps = np.diff(motion, axis=0, prepend=motion[:1])
    both = np.column_stack([motion, steps])
    return np.column_stack([both, both**2])


def framewise_displacement(motion: ArrayLike) -> FloatArray:
    """
    Add up how far the head moved between volumes.

    Parameters
    ----------
    motion : (T, 6) array_like
        Shifts (mm), then turns (rad).

    Returns
    -------
    displacement : (T,) ndarray
        mm; 0 for the first volume.

    Notes
    -----
    The sum of the absolute steps of the six parameters, turns on a sphere of 50 mm.

    References
    ----------
    .. [1] Power et al., NeuroImage 59:2142, 2012. doi:10.1016/j.neuroimage.2011.10.018

    Examples
    --------
    >>> framewise_displacement([[0, 0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0, -0.002]]).round(6)
    array([0. , 0.2])
    """
    steps = np.abs(np.diff(np.asarray(motion, float), axis=0))
    per_volume = steps[:, :3].sum(axis=1) + ROTATION_RADIUS * steps[:, 3:].sum(axis=1)
    return np.concatenate([[0.0], per_volume])


def relative_dvars(series: ArrayLike) -> FloatArray:
    """
    Measure the change of the whole image from volume to volume.

    Parameters
    ----------
    series : (V, T) array_like
        Signal, any unit.

    Returns
    -------
    dvars : (T,) ndarray
        Root mean square over voxels of the step from the volume before, relative to the median
        of the run; 1 for all of a series that does not change. The first volume has the smaller
        of its steps to the second and the third; where that is large, the second has the smaller
        of its own two steps.

    Notes
    -----
    Each voxel counts relative to its own noise (median absolute step), so that large vessels
    and edges do not decide. So a first or second volume that stands off is found, and not its
    neighbour in its place.

    References
    ----------
    .. [1] Power et al., NeuroImage 59:2142, 2012. doi:10.1016/j.neuroimage.2011.10.018

    Examples
    --------
    >>> relative_dvars([[1.0, 2.0, 1.5, 2.5, 8.5, 7.5]]).round(1)
    array([0.5, 1. , 0.5, 1. , 6. , 1. ])
    >>> relative_dvars([[9.0, 2.0, 1.0, 2.0, 3.0, 2.0]]).round(1)
    array([7., 1., 1., 1., 1., 1.])
    """
    series = np.asarray(series, float)
    steps = np.diff(series, axis=1)
    noise = MAD_TO_SD * np.median(np.abs(steps), axis=1, keepdims=True)
    usable = (noise > 0) & np.isfinite(noise)

    def size(change: FloatArray) -> FloatArray:
        scaled = np.divide(change, noise, out=np.zeros_like(change), where=usable)
        return np.asarray(np.sqrt(np.mean(scaled**2, axis=0)))

    found = size(steps)
    middle = np.median(found) if found.size else 0.0
    if not middle > 0:
        return np.ones(series.shape[1])
    found = np.concatenate([found[:1], found])
    if len(found) > 2:
        found[0] = min(found[0], size(series[:, :1] - series[:, 2:3])[0])
        found[1] = min(found[1], found[2]) if found[0] > found[2] else found[1]
    return found / middle


def count_unsteady(course: ArrayLike) -> int:
    """
    Count the first volumes of a run in which the magnetisation is not steady yet.

    Parameters
    ----------
    course : (T,) array_like
        Signal of the whole head per volume, any unit.

    Returns
    -------
    n_volumes : int
        How many volumes from the first on lie above the plateau by more than half a percent, five
        standard deviations of its noise and half of its range; at most ten, and 0 in a run too
        short to tell.

    Notes
    -----
    Until the excitations balance the recovery, tissue is brighter, by tens of percent in the first
    volume. The plateau is the median of the next thirty volumes; the global signal of a task
    stays within some tenths of a percent. Volumes of the first scan of a session that scanners
    discard themselves are not in the file.

    Examples
    --------
    >>> course = np.full(60, 100.0)
    >>> course[:3] = 160, 125, 104
    >>> count_unsteady(course)
    3
    """
    course = np.asarray(course, float)
    plateau = course[MOST_UNSTEADY : MOST_UNSTEADY + PLATEAU_VOLUMES]
    if len(plateau) < MOST_UNSTEADY:
        return 0
    level = float(np.median(plateau))
    noise = MAD_TO_SD * float(np.median(np.abs(np.diff(plateau)))) / np.sqrt(2)
    least = max(UNSTEADY_SHARE * abs(level), UNSTEADY_SDS * noise, float(np.ptp(plateau)) / 2)
    above = course[:MOST_UNSTEADY] - level > least
    return int(np.argmin(above)) if not above.all() else MOST_UNSTEADY


def noise_components(series: ArrayLike, n_components: int, *, n_half_waves: int = 0) -> FloatArray:
    """
    Find the common courses of voxels that hold no task: white matter and fluid (CompCor).

    Parameters
    ----------
    series : (V, T) array_like
        Signal of these voxels; those that do not change or are not finite are left out.
    n_components : int
        How many courses.
    n_half_waves : int
        The mean, and cosines of up to so many half waves in the run, are removed first.

    Returns
    -------
    components : (T, n_components) ndarray
        Orthonormal; fewer columns where there are fewer voxels or volumes.

    Raises
    ------
    ModelInputError
        If there is no voxel, or the series has not two axes.

    References
    ----------
    .. [1] Behzadi et al., NeuroImage 37:90, 2007. doi:10.1016/j.neuroimage.2007.04.042

    Examples
    --------
    >>> wave = np.sin(np.arange(20.0))
    >>> noise = np.array([1.0, 2.0, -1.0])[:, None] * wave
    >>> found = noise_components(noise, 1)[:, 0]
    >>> round(abs(np.corrcoef(found, wave)[0, 1]), 6)
    np.float64(1.0)
    """
    series = np.asarray(series, float)
    if series.ndim != 2:
        msg = f'a series (V, T) is expected, got {series.shape}'
        raise ModelInputError(msg)
    phase = np.pi * (np.arange(series.shape[1]) + 1 / 2) / series.shape[1]
    columns = np.cos(np.multiply.outer(phase, np.arange(n_half_waves + 1)))
    series = series[np.isfinite(series).all(axis=1)]
    residuals = series - series @ np.linalg.pinv(columns).T @ columns.T
    spread = residuals.std(axis=1)
    usable = spread > ROUNDING * np.abs(series).max(axis=1)
    if not usable.any():
        msg = 'no voxel of white matter or fluid to take noise components from'
        raise ModelInputError(msg)
    scaled = residuals[usable] / spread[usable, None]
    _, _, courses = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(courses[:n_components].T)
