"""Noise variance shared by many voxels, so that one voxel's residuals do not set its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

MINIMUM_DOF = 100.0
"""Degrees of freedom below which value +- 1.96 SE covers visibly less than .95; no unit."""


def pool_variance(
    variance: ArrayLike, dof: ArrayLike, groups: ArrayLike | None = None
) -> tuple[FloatArray, float]:
    r"""
    Replace each voxel's variance estimate by that of its group of voxels.

    Parameters
    ----------
    variance : (V,) array_like
        Variance estimate of each voxel, any unit squared; NaN where there is none.
    dof : float or (V,) array_like
        Degrees of freedom of each estimate; entries that are not positive are ignored.
    groups : (V,) array_like of int, optional
        Voxels with equal noise (tissue class, neighbourhood); without it all are one group.
        A group with fewer than 100 effective degrees of freedom takes the variance of all.

    Returns
    -------
    pooled : (V,) ndarray of float64
        Unit of `variance`, finite also where `variance` is NaN; NaN if no voxel has an estimate.
    effective_dof : float
        Degrees of freedom of the least certain group; 0 if no voxel has an estimate.

    Raises
    ------
    ModelInputError
        If shapes differ or a variance is negative.

    Notes
    -----
    The median over a group, divided by what the median of :math:`\chi^2_\nu/\nu` would be.
    Voxels which the model does not fit (vessels, edges) are too few to move it; a mean would
    follow them. With density :math:`f_i` of the scaled estimates at their median, the median of
    n voxels has the precision of :math:`8 (\sum_i f_i)^2 / n` degrees of freedom.

    Examples
    --------
    >>> pooled, dof = pool_variance([1.0, 1.1, 0.9, 500.0], 1000)
    >>> pooled.round(2), round(dof)
    (array([1.05, 1.05, 1.05, 1.05]), 2545)
    """
    variance = np.asarray(variance, float)
    if variance.ndim != 1:
        msg = f'variance must have one axis (voxels), got shape {variance.shape}'
        raise ModelInputError(msg)
    if np.any(variance < 0):
        msg = 'variance must not be negative'
        raise ModelInputError(msg)
    dof = np.broadcast_to(np.asarray(dof, float), variance.shape)
    usable = np.isfinite(variance) & (dof > 0)
    pooled_all, dof_all = _pool(variance, dof, usable)
    pooled = np.full(variance.shape, pooled_all)
    if groups is None:
        return pooled, dof_all

    groups = np.asarray(groups)
    if groups.shape != variance.shape:
        msg = f'groups must have the shape of variance {variance.shape}, got {groups.shape}'
        raise ModelInputError(msg)
    group_dofs = []
    for group in np.unique(groups):
        members = groups == group
        pooled_group, dof_group = _pool(variance, dof, usable & members)
        if dof_group < MINIMUM_DOF:
            group_dofs.append(dof_all)
            continue
        pooled[members] = pooled_group
        group_dofs.append(dof_group)
    return pooled, min(group_dofs, default=dof_all)


def _pool(variance: FloatArray, dof: FloatArray, usable: BoolArray) -> tuple[float, float]:
    """Return the robust variance of the usable voxels and its effective degrees of freedom."""
    n_voxels = int(usable.sum())
    if n_voxels == 0:
        return float('nan'), 0.0
    dof = dof[usable]
    kinds, inverse = np.unique(dof, return_inverse=True)
    median = stats.chi2.median(kinds)
    density = (median * stats.chi2.pdf(median, kinds))[inverse]
    pooled = np.median(variance[usable] / (median / kinds)[inverse])
    effective = 8 * density.sum() ** 2 / n_voxels
    return float(pooled), float(min(effective, dof.sum()))
