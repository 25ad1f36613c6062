"""Estimates of several runs joined into one, and smoothing that knows its variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status, is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


def combine_runs(runs: Sequence[Estimate]) -> Estimate:
    """
    Join repeated estimates of one quantity by inverse variance.

    Parameters
    ----------
    runs : sequence of Estimate, each (...)
        Independent estimates on one grid. A run without an estimate in a voxel is left out
        there; runs whose variance is zero count alone.

    Returns
    -------
    combined : Estimate, (...)
        Missing, with the status of the first run, only where every run is missing.

    Raises
    ------
    ModelInputError
        If there is no run.

    Examples
    --------
    >>> combine_runs([Estimate.of([1.0], 1.0), Estimate.of([4.0], 2.0)]).value
    array([2.])
    """
    if not runs:
        msg = 'combine_runs needs at least one run, got none'
        raise ModelInputError(msg)
    value = np.stack([run.value for run in runs])
    variance = np.stack([run.variance for run in runs])
    present = np.isfinite(value)
    with np.errstate(divide='ignore', invalid='ignore'):
        weight = np.where(present, 1 / variance, 0.0)
    exact = np.isinf(weight)
    weight = np.where(exact.any(axis=0), exact.astype(float), weight)
    total = weight.sum(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):
        mean = (weight * np.where(present, value, 0.0)).sum(axis=0) / total
        combined = np.where(exact.any(axis=0), 0.0, 1 / total)
    status = np.where(
        present.any(axis=0), Status.OK, combine_status(*[run.status for run in runs])
    )
    flags = combine_status(*[np.where(is_missing(r.status), 0, r.status) for r in runs])
    status = np.where(status == Status.OK, flags, status)
    return Estimate.of(mean, combined, status, sum(run.dof for run in runs))


def smooth_in_mask(estimate: Estimate, mask: BoolArray, *, fwhm: ArrayLike) -> Estimate:
    """
    Smooth a map with a Gaussian inside a mask (normalised convolution).

    Parameters
    ----------
    estimate : Estimate, (X, Y, Z)
        Missing voxels do not contribute and stay missing.
    mask : (X, Y, Z) ndarray of bool
        Nothing crosses its edge.
    fwhm : float or (3,) array_like
        Full width at half maximum in voxels per axis; 0 leaves an axis alone.

    Returns
    -------
    smooth : Estimate, (X, Y, Z)
        Variance with the squared normalised weights: noise independent between voxels.

    Examples
    --------
    >>> ones = np.ones((5, 5, 5))
    >>> smooth = smooth_in_mask(Estimate.of(ones, ones), ones > 0, fwhm=2.0)
    >>> bool(np.allclose(smooth.value, 1)), bool(smooth.variance.max() < 0.5)
    (True, True)
    """
    kernels = [_gaussian(width) for width in np.broadcast_to(np.asarray(fwhm, float), (3,))]
    present = mask & ~is_missing(estimate.status)

    def convolve(image: FloatArray, power: int) -> FloatArray:
        filtered = np.where(present, image, 0.0)
        for axis, kernel in enumerate(kernels):
            filtered = ndimage.convolve1d(filtered, kernel**power, axis=axis, mode='constant')
        return filtered

    weight = np.where(present, convolve(np.ones(mask.shape), 1), 1.0)
    value = convolve(estimate.value, 1) / weight
    variance = convolve(estimate.variance, 2) / weight**2
    return Estimate.of(value, variance, estimate.status, estimate.dof)


def _gaussian(fwhm: float) -> FloatArray:
    """Return a sampled Gaussian of unit sum, cut at four standard deviations."""
    sigma = fwhm / np.sqrt(8 * np.log(2))
    if sigma == 0:
        return np.ones(1)
    radius = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    normalised: FloatArray = kernel / kernel.sum()
    return normalised
