"""Estimates of several runs joined into one, and smoothing that knows its variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import moderate_variance
from bids_app.models.status import Status, combine_status, is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


def combine_runs(runs: Sequence[Estimate], *, by_scatter: bool = False) -> Estimate:
    r"""
    Join repeated estimates of one quantity by inverse variance.

    Parameters
    ----------
    runs : sequence of Estimate, each (...)
        Independent estimates on one grid. A run without an estimate in a voxel is left out
        there; runs whose variance is zero count alone.
    by_scatter : bool
        Let the runs' own differences, rather than the variances they state, say how large the
        variance is.

    Returns
    -------
    combined : Estimate, (...)
        Missing, with the status of the first run, only where every run is missing.

    Raises
    ------
    ModelInputError
        If there is no run.

    Notes
    -----
    `by_scatter` multiplies the variance by

    .. math:: Q = \frac{1}{R - 1} \sum_r (x_r - m_r - \bar x)^2 / v_r

    of each voxel, drawn towards that of all as far as they are alike
    (:func:`bids_app.models.numerics.noise.moderate_variance`). The median difference :math:`m_r`
    of a run is not in it: that is what scans differ by.

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
    dof = sum(run.dof for run in runs)
    if by_scatter and len(runs) > 1:
        factor, dof = _scatter(value, variance, mean)
        combined = combined * factor
    return Estimate.of(mean, combined, status, dof)


def _scatter(
    value: FloatArray, variance: FloatArray, mean: FloatArray
) -> tuple[FloatArray, float]:
    """Give the variance that runs (R, V) show over the one they state, and its freedom."""
    known = np.isfinite(value) & (variance > 0)
    away = np.where(known, value - mean, np.nan)
    common = [np.median(run[np.isfinite(run)]) if np.isfinite(run).any() else 0.0 for run in away]
    away -= np.array(common)[:, np.newaxis]
    weight = np.where(known, 1 / np.where(known, variance, 1.0), 0.0)
    total = np.maximum(weight.sum(axis=0), np.finfo(float).tiny)
    away -= np.nansum(weight * away, axis=0) / total
    freedom = np.maximum(known.sum(axis=0) - 1.0, 0.0)
    ratio = np.nansum(weight * away**2, axis=0) / np.maximum(freedom, 1.0)
    factor, dof = moderate_variance(ratio, freedom)
    if dof == 0:  # no voxel has two runs
        return np.ones(ratio.shape), float('inf')
    return factor, dof


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
