"""Noise variance shared by many voxels, so that one voxel's residuals do not set its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    ERROR_SCALES,
    FEWEST_EFFECTS,
    MAD_ERROR,
    MAD_TO_SD,
    NORMAL_95,
)
from bids_app.models.estimate import Estimate
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

DIGITS = 3
"""Of a calibration in a sidecar."""

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
    from scipy import stats  # slow to import

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCalibration:
    """
    Whether stated errors are those that repeated measurements show.

    Parameters
    ----------
    sd : float
        Standard deviation of the difference of two measurements over its stated error, robust;
        1 where the stated errors are right, NaN with too few voxels.
    low, high : float
        Interval of 95 % of it.
    n_voxels : int
        Voxels compared.
    verdict : str
        In words.
    """

    sd: float
    low: float = float('nan')
    high: float = float('nan')
    n_voxels: int
    verdict: str

    def as_facts(self) -> dict[str, Any]:
        """Entries of a sidecar."""
        is_known = np.isfinite(self.sd)
        numbers = [round(number, DIGITS) for number in (self.sd, self.low, self.high)]
        return {
            'SDofZ': numbers[0] if is_known else None,
            'Interval95': numbers[1:] if is_known else None,
            'Voxels': self.n_voxels,
            'Verdict': self.verdict,
        }


def calibrate_errors(
    first: Estimate, second: Estimate, *, voxels_per_sample: float = 1.0
) -> ErrorCalibration:
    r"""
    Compare two independent estimates of one quantity with the errors they state.

    Parameters
    ----------
    first, second : (V,) Estimate
        Such as CBF from odd and from even label-control pairs.
    voxels_per_sample : float
        Voxels that share one independent sample of noise, at least 1.

    Returns
    -------
    calibration : ErrorCalibration
        The verdict is `right` where the interval reaches into 10 % around 1.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    bids_app.models.asl.label_control.half_difference : What it judges in the app.

    Notes
    -----
    .. math:: z = (x_1 - x_2)/\sqrt{v_1 + v_2} \sim N(0, 1)

    Its standard deviation is taken from the median of the absolute values, whose own relative
    error with n independent voxels is :math:`1.166/\sqrt{n}`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> halves = [Estimate.of(rng.normal(size=5000), 1.0) for _ in range(2)]
    >>> calibrate_errors(*halves).verdict
    'right'
    """
    if first.value.shape != second.value.shape:
        msg = f'the estimates have shapes {first.value.shape} and {second.value.shape}'
        raise ModelInputError(msg)
    variance = first.variance + second.variance
    usable = np.isfinite(variance) & (variance > 0)
    n_voxels = int(usable.sum())
    if n_voxels < FEWEST_EFFECTS:
        return ErrorCalibration(sd=float('nan'), n_voxels=n_voxels, verdict='too few voxels')
    z = (first.value - second.value)[usable] / np.sqrt(variance[usable])
    sd = float(MAD_TO_SD * np.median(np.abs(z)))
    error = MAD_ERROR * sd * np.sqrt(max(voxels_per_sample, 1.0) / n_voxels)
    low, high = sd - NORMAL_95 * error, sd + NORMAL_95 * error
    smallest, _, largest = ERROR_SCALES
    verdict = 'right'
    if high < smallest or low > largest:
        size = 'small' if sd > 1 else 'large'
        percent = abs(1 - 1 / sd) / PERCENT if sd > 0 else float('inf')
        verdict = f'stated errors are {percent:.0f} % too {size}'
    return ErrorCalibration(sd=sd, low=low, high=high, n_voxels=n_voxels, verdict=verdict)
