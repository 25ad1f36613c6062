"""Group statistics on arrays: random effects per voxel and the labels that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance import (
    gate_by_probability,
    label_by_probability,
    label_by_sign,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RandomEffects:
    """
    A group mean per voxel with its test against zero; NaN with fewer than two participants.

    Parameters
    ----------
    effect : (V,) ndarray of float64
        Mean over the population, unit of the effects.
    variance : (V,) ndarray of float64
        Variance of that mean, between participants included, unit squared.
    t, z, p : (V,) ndarray of float64
        Student t with `dof`, normal value and two-sided probability of the same evidence.
    dof : (V,) ndarray of float64
        Participants minus one.
    tau2 : (V,) ndarray of float64
        Variance between participants, unit squared.
    n : (V,) ndarray of int64
        Participants with an estimate.
    """

    effect: FloatArray
    variance: FloatArray
    t: FloatArray
    z: FloatArray
    p: FloatArray
    dof: FloatArray
    tau2: FloatArray
    n: IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupLabels:
    """
    Concordance labels of a group.

    Parameters
    ----------
    sign, robust : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.concordance.Label` by the published rule and by the one
        that asks for evidence.
    gate : (V,) ndarray of bool
        Where BOLD is significant.
    """

    sign: StatusArray
    robust: StatusArray
    gate: BoolArray


def random_effects(effects: ArrayLike, variances: ArrayLike) -> RandomEffects:
    r"""
    Estimate the population mean of an effect from participants' effects and random variances.

    Parameters
    ----------
    effects : (N, V) array_like
        Effect of each participant; NaN where there is none.
    variances : (N, V) array_like
        Random variance of each effect, unit squared; NaN counts as no effect.

    Returns
    -------
    result : RandomEffects
        Participants without an estimate are left out voxel by voxel.

    Raises
    ------
    ModelInputError
        If the shapes differ or a variance is negative.

    See Also
    --------
    group_labels : Labels from two such results.

    Notes
    -----
    Weights :math:`w_{ij} = 1/(u_{ij} + \rho\,\bar u_j)`, random variance u plus that between
    participants. The variance of the weighted mean is that of Hartung and Knapp [2]_,

    .. math:: var(\hat\mu) = \frac{\sum w_i (x_i - \hat\mu)^2}{(N-1) \sum w_i},

    with which t has N-1 degrees of freedom whatever the scale of the variances; equal weights
    give the one-sample t test. The variance between participants that is reported is the moment
    estimate :math:`\tau_j^2 = \max(0,\, s_j^2 - \bar u_j)` with the sample variance s [1]_.

    The weights are moderated over voxels. u is the median over participants at the voxel times
    the level of the participant (median over voxels of the ratio to that median); rho is the
    median over voxels of the ratio of between to random variance. Two reasons: the variance of
    a CMRO2 change grows with the estimate itself, so that raw inverse variances pull the mean
    towards zero (by 2 to 7 % at the noise of single voxels); and weights from the spread of one
    voxel reject 7 % instead of 5 % of the nulls with six participants.

    References
    ----------
    .. [1] Hedges & Olkin, Statistical Methods for Meta-Analysis, Academic Press, 1985, ch. 9.
    .. [2] Hartung & Knapp, Stat Med 20:3875, 2001. doi:10.1002/sim.1009

    Examples
    --------
    >>> result = random_effects([[1.0], [2.0], [3.0]], np.ones((3, 1)))
    >>> result.effect, result.t.round(3), result.p.round(3), result.n
    (array([2.]), array([3.464]), array([0.074]), array([3]))
    """
    x, v = np.asarray(effects, float), np.asarray(variances, float)
    if x.ndim != 2 or x.shape != v.shape:
        msg = f'effects and variances must be (participants, voxels), got {x.shape}, {v.shape}'
        raise ModelInputError(msg)
    if np.any(v < 0):
        msg = 'variances must not be negative'
        raise ModelInputError(msg)
    known = np.isfinite(x) & np.isfinite(v)
    n = known.sum(axis=0)
    enough = n >= 2
    x = np.where(known & enough, x, 0.0)
    within = _moderated_variance(v, known)
    excess = _excess_variance(x, within, known)

    total_variance = within + _typical_ratio(excess, within, known) * _mean(within, known)
    weights = np.where(known, _inverse(total_variance), 0.0)
    total = np.maximum(weights.sum(axis=0), np.finfo(float).tiny)
    mean = (weights * x).sum(axis=0) / total
    dof = np.maximum(n - 1.0, 1.0)
    variance = (weights * (x - mean) ** 2).sum(axis=0) / (dof * total)
    return _tested(mean, variance, dof, tau2=np.maximum(excess, 0.0), n=n)


def group_labels(
    bold: RandomEffects,
    change: RandomEffects,
    *,
    bold_q: float,
    cmro2_q: float,
    mask: ArrayLike,
) -> GroupLabels:
    """
    Label the voxels of a group from its BOLD and CMRO2 changes.

    Parameters
    ----------
    bold, change : (V,) RandomEffects
        Group effects of the BOLD change (percent) and of the CMRO2 change (umol/100 g/min).
    bold_q, cmro2_q : float
        False discovery rates of the BOLD gate and of the sign of the CMRO2 change in it.
    mask : (V,) array_like of bool
        Voxels to label.

    Returns
    -------
    labels : GroupLabels
        0 outside the mask and where a group effect is missing.

    Raises
    ------
    ModelInputError
        If the shapes differ or a rate is not in (0, 1).

    See Also
    --------
    random_effects : Where the effects come from.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9
    """
    gate = gate_by_probability(bold.p, q=bold_q, mask=mask)
    return GroupLabels(
        sign=label_by_sign(bold.effect, change.effect, gate, mask),
        robust=label_by_probability(bold.effect, change.effect, change.p, gate, mask, q=cmro2_q),
        gate=gate,
    )


def _moderated_variance(variances: FloatArray, known: BoolArray) -> FloatArray:
    """Give the voxel's median over participants times the participant's level over voxels."""
    typical = _masked_median(variances.T, known.T)
    usable = known & (typical > 0)
    ratio = np.divide(variances, typical, out=np.ones_like(variances), where=usable)
    level = _masked_median(ratio, usable)
    level = np.where(np.isfinite(level), level, 1.0)
    moderated: FloatArray = level[:, None] * np.where(np.isfinite(typical), typical, 0.0)
    return moderated


def _masked_median(rows: FloatArray, known: BoolArray) -> FloatArray:
    """Give the median of each row over what is known; NaN where nothing is."""
    ordered = np.sort(np.where(known, rows, np.nan), axis=1)
    n = known.sum(axis=1)
    middle = np.stack([np.maximum(n - 1, 0) // 2, n // 2], axis=1).clip(max=rows.shape[1] - 1)
    median: FloatArray = np.take_along_axis(ordered, middle, axis=1).mean(axis=1)
    return median


def _mean(rows: FloatArray, known: BoolArray) -> FloatArray:
    """Average over the participants that are known; 0 where none is."""
    mean: FloatArray = rows.sum(axis=0, where=known) / np.maximum(known.sum(axis=0), 1)
    return mean


def _excess_variance(x: FloatArray, within: FloatArray, known: BoolArray) -> FloatArray:
    """Give the sample variance beyond the random one; negative where it is smaller."""
    squares = ((x - _mean(x, known)) ** 2).sum(axis=0, where=known)
    sample: FloatArray = squares / np.maximum(known.sum(axis=0) - 1, 1)
    return sample - _mean(within, known)


def _typical_ratio(excess: FloatArray, within: FloatArray, known: BoolArray) -> float:
    """Give the variance between participants over the random one, one number for all voxels."""
    random = _mean(within, known)
    dof = known.sum(axis=0) - 1
    usable = (dof > 0) & (random > 0)
    if not usable.any():
        return 0.0
    typical_dof = np.median(dof[usable])
    median_of_one = stats.chi2.median(typical_dof) / typical_dof
    ratio = np.median(excess[usable] / random[usable] + 1.0) / median_of_one
    return max(float(ratio) - 1.0, 0.0)


def _inverse(variance: FloatArray) -> FloatArray:
    """Invert variances; equal weights where a voxel has no variance at all."""
    scale = variance.max(axis=0)
    relative = np.divide(variance, scale, out=np.ones_like(variance), where=scale > 0)
    inverse: FloatArray = 1.0 / np.maximum(relative, np.finfo(float).eps)
    return inverse


def _tested(
    mean: FloatArray, variance: FloatArray, dof: FloatArray, *, tau2: FloatArray, n: IntArray
) -> RandomEffects:
    """Test the mean against zero; an effect of exactly 0 without any spread is no evidence."""
    with np.errstate(divide='ignore'):
        t = np.where(mean == 0, 0.0, mean / np.where(mean == 0, 1.0, np.sqrt(variance)))
    tail = stats.t.sf(np.abs(t), dof)
    fields = {
        'effect': mean,
        'variance': variance,
        't': t,
        'z': np.copysign(stats.norm.isf(tail), t),
        'p': 2.0 * tail,
        'dof': dof,
        'tau2': tau2,
    }
    missing = n < 2
    return RandomEffects(
        **{name: np.where(missing, np.nan, field) for name, field in fields.items()}, n=n
    )
