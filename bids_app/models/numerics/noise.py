"""Noise of a voxel: its own residuals, what other voxels lend it, and what it has in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
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
from bids_app.models.numerics.regions import summarise_regions
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray

DIGITS = 3
"""Of a calibration in a sidecar."""

MINIMUM_DOF = 100.0
"""Degrees of freedom below which value +- 1.96 SE covers visibly less than .95; no unit."""

FEWEST_VOXELS = 100
"""Fewer voxels lend each other no degrees of freedom; ours."""

LARGEST_PRIOR_DOF = 1000.0
"""Voxels this much alike have one variance; ours."""

SMALLEST_HALF = 1e-6
"""Half the degrees of freedom of a prior, at least; ours."""

FEWEST_IN_TIME = 8
"""Samples below which their correlation in time cannot be told; ours."""

LONGEST_LAG, SAMPLES_PER_LAG = 6, 6
"""Highest order of the autoregression behind a long-run variance, and samples that each needs, 1;
ours."""

RATIO_LIMITS = (0.5, 8.0)
"""Of a long-run variance over that of independent samples, 1; ours."""

CORRELATION_LIMIT = 0.8
"""Of successive samples of one voxel, 1; ours."""

FEWEST_FREEDOM = 4.0
"""Degrees of freedom that a share is taken to be known with at least; ours."""

PARTIAL_LIMIT = 0.98
"""Of samples some lags apart beside what lies between them, 1; ours."""

SIZES: Mapping[str, float] = MappingProxyType({'parcel': 20.0, 'network': 60.0, 'brain': math.inf})
"""Level of region -> side of the cubes that stand for it, mm; ours."""

FEWEST_IN_REGION = 8
"""Voxels of a cube below which its mean says nothing of shared noise; ours."""

COVERED = 0.95
"""Share of an interval, 1."""

TOLERATED_TAILS = 0.025
"""Share beyond the interval that is too much, 1; ours."""

CORRECTIONS = 4
"""Rounds in which a ratio and what a subtracted mean takes settle; ours."""

OUTLYING = 4.0
"""Logarithms of variances this many standard deviations above the median count as if they lay
there, so that a few voxels that a model does not fit do not set what all others lend; ours."""


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
    variance, dof, usable = _checked_variance(variance, dof)
    pooled_all, dof_all = _pool(variance, dof, usable)
    pooled = np.full(variance.shape, pooled_all)
    if groups is None:
        return pooled, dof_all

    groups = _checked_groups(groups, variance.shape)
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


def moderate_variance(
    variance: ArrayLike, dof: ArrayLike, groups: ArrayLike | None = None
) -> tuple[FloatArray, float]:
    r"""
    Draw each voxel's variance estimate towards that of its group, as far as the voxels are alike.

    Parameters
    ----------
    variance, dof, groups
        As for :func:`pool_variance`. A group of fewer than 100 voxels is one with all others.

    Returns
    -------
    moderated : (V,) ndarray of float64
        Unit of `variance`; the expectation of the group where a voxel has no estimate, NaN if
        none has.
    total_dof : float
        Degrees of freedom of the moderated variance of a typical voxel of the group that has
        fewest; 0 if no voxel has an estimate.

    Notes
    -----
    The true variances of a group are taken as scaled inverse chi-square with :math:`d_0` degrees
    of freedom and scale :math:`s_0^2`, both learnt from its voxels (:func:`variance_prior`). The
    expectation of a voxel's variance is then

    .. math:: \mathrm{E}(\sigma^2 | s^2) = \frac{d_0 s_0^2 + d s^2}{d_0 + d - 2}

    on d + d_0 degrees of freedom: even noise is pooled, uneven noise keeps its place. It is this
    expectation, and not the scale with d_0 + d in the denominator, with which an error over its
    standard error has the standard deviation 1 (and .95 of them lie within 1.96 from about six
    degrees of freedom). The denominator is at least half of d_0 + d.

    References
    ----------
    .. [1] Smyth, Stat Appl Genet Mol Biol 3:3, 2004. doi:10.2202/1544-6115.1027

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> even = rng.chisquare(6, 5000) / 6
    >>> moderated, dof = moderate_variance(even * np.repeat([1.0, 9.0], 2500), 6)
    >>> moderated[:2500].mean().round(1), moderated[2500:].mean().round(1), 7 < dof < 11
    (np.float64(1.7), np.float64(9.2), True)
    """
    variance, dof, usable = _checked_variance(variance, dof)
    members_of = [np.ones(variance.shape, bool)]
    if groups is not None:
        groups = _checked_groups(groups, variance.shape)
        large = [groups == group for group in np.unique(groups)]
        members_of += [group for group in large if (group & usable).sum() >= FEWEST_VOXELS]
    moderated = np.full(variance.shape, np.nan)
    total = np.full(variance.shape, 0.0)
    for members in members_of:
        prior_dof, scale = _prior_of(variance, dof, usable & members)
        own = np.where(usable, dof, 0.0)[members]
        total[members] = prior_dof + own
        known = np.where(own > 0, variance[members], 0.0)
        sums = np.maximum(total[members], np.finfo(float).tiny)
        sums = np.maximum(sums - 2, sums / 2)
        moderated[members] = (prior_dof * scale + own * known) / sums
    if not usable.any():
        return moderated, 0.0
    if len(members_of) == 1:
        return moderated, float(np.median(total[usable]))
    rest = usable & ~np.any(members_of[1:], axis=0)
    parts = [usable & members for members in members_of[1:]] or [rest]
    return moderated, float(min(np.median(total[part]) for part in parts))


def long_run_ratio(deviations: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
    r"""
    Tell by how much correlation in time enlarges the variance of a mean over time.

    Parameters
    ----------
    deviations : (V, N) array_like
        Samples of each voxel in their order in time, minus their mean; any unit. Voxels that
        are not finite or constant take what their group has.
    groups : (V,) array_like of int, optional
        Voxels with alike correlation (tissue classes); those of fewer than 100 are one with all.

    Returns
    -------
    ratio : (V,) ndarray of float64
        Variance of the mean times N over the variance of the samples (with N - 1), between 0.5
        and 8; 1 with fewer than 8 samples.

    Raises
    ------
    ModelInputError
        If `groups` does not fit.

    Notes
    -----
    The spectrum at frequency zero of an autoregression (of order N/6, at most 6), over the
    variance. The correlations :math:`r_k` are means over the voxels of a group, freed of what
    the subtracted mean takes from them (:math:`\approx L / N` of each). A voxel departs from its
    group by its own first correlation :math:`r_1`, drawn to that of the group as far as the
    scatter of :math:`r_1` over voxels is no more than N samples make:

    .. math:: L / \sigma^2 = \frac{1 - \sum_k \phi_k r_k}{(1 - \sum_k \phi_k)^2}

    Noise that is shared by the voxels is one draw for all: then the ratio itself is known to
    :math:`2/\sqrt{N}` only.

    Examples
    --------
    >>> white = np.random.default_rng(0).normal(size=(4000, 40))
    >>> series = white[:, 1:] + 0.5 * white[:, :-1]
    >>> ratio = long_run_ratio(series - series.mean(axis=1, keepdims=True))
    >>> bool(1.6 < np.median(ratio) < 1.9)  # (1 + 0.5)^2 over 1 + 0.5^2 is 1.8
    True
    """
    deviations = np.asarray(deviations, float)
    n_voxels, n_samples = deviations.shape
    if n_samples < FEWEST_IN_TIME:
        return np.ones(n_voxels)
    power = np.einsum('vn,vn->v', deviations, deviations)
    usable = np.isfinite(power) & (power > 0)
    lags = range(1, min(LONGEST_LAG, n_samples // SAMPLES_PER_LAG) + 1)
    scale = np.where(usable, power, 1.0)
    products = [
        np.einsum('vn,vn->v', deviations[:, lag:], deviations[:, :-lag]) / scale for lag in lags
    ]
    correlation = np.where(usable, np.array(products), np.nan)
    members_of = [np.ones(n_voxels, bool)]
    if groups is not None:
        groups = _checked_groups(groups, (n_voxels,))
        members_of += [groups == group for group in np.unique(groups)]
    ratio = np.ones(n_voxels)
    for members in members_of:
        used = members & usable
        if used.sum() >= FEWEST_VOXELS:
            ratio[members] = _ratio_of_group(correlation[:, members], n_samples)
    return ratio


def _ratio_of_group(raw: FloatArray, n_samples: int) -> FloatArray:
    """Give the long-run ratio of voxels that lend each other their correlations, (lags, V)."""
    mean = np.nanmean(raw, axis=1)
    lags = np.arange(1, len(mean) + 1)
    ratio = _spectrum_at_zero(mean[:1])
    for _ in range(CORRECTIONS):
        taken = ratio / n_samples
        typical = (mean * (1 - taken) + taken * (1 - lags / n_samples)) / (1 - lags / n_samples)
        ratio = min(_spectrum_at_zero(typical), RATIO_LIMITS[1])
    first = raw[0] + (typical[0] - mean[0])
    scatter = float(np.nanvar(first))
    by_chance = (1 - min(typical[0] ** 2, 1.0)) / n_samples
    kept = max(scatter - by_chance, 0.0) / scatter if scatter > 0 else 0.0
    own = typical[0] + kept * np.where(np.isfinite(first), first - typical[0], 0.0)
    own, of_group = (np.clip(r, -CORRELATION_LIMIT, CORRELATION_LIMIT) for r in (own, typical[0]))
    relative = (1 + own) / (1 - own) * (1 - of_group) / (1 + of_group)
    # the samples' variance, too, lacks what the subtracted mean takes
    lost = (1 - 1 / n_samples) / max(1 - ratio / n_samples, 1 / n_samples)
    clipped: FloatArray = np.clip(ratio * relative * lost, *RATIO_LIMITS)
    return clipped


def _spectrum_at_zero(correlations: FloatArray) -> float:
    """Give the spectrum at frequency 0 of the autoregression with these correlations, over it."""
    # Levinson's recursion; ends where the series is as good as foretold by what came before
    phi, left = np.zeros(0), 1.0
    for lag, correlation in enumerate(correlations):
        partial = (correlation - phi @ correlations[:lag][::-1]) / left
        bounded = np.clip(partial, -PARTIAL_LIMIT, PARTIAL_LIMIT)
        phi = np.append(phi - bounded * phi[::-1], bounded)
        left *= 1 - bounded**2
        if bounded != partial:
            break
    return float(left / (1 - phi.sum()) ** 2)


def shared_noise(
    deviations: ArrayLike, variance: ArrayLike, points: ArrayLike
) -> dict[str, float]:
    r"""
    Tell how much of the noise the voxels of regions of three sizes have in common.

    Parameters
    ----------
    deviations : (V, N) array_like
        Samples of each voxel in their order in time, minus their mean; any unit.
    variance : (V,) array_like
        Variance of one sample of each voxel with what correlation in time adds, unit squared:
        what the error of the voxel is made from.
    points : (V, 3) array_like
        Where the voxels lie, mm.

    Returns
    -------
    share : dict of str to float
        ``parcel`` (cubes of 20 mm), ``network`` (of 60 mm) and ``brain`` -> variance of the mean
        over a region, beyond that of independent voxels, over the square of the mean standard
        deviation; dimensionless, in [0, 1].

    Notes
    -----
    From the regions' own series. With the long-run variance L of the mean over the n voxels of a
    region, those of its voxels :math:`\\sigma_i^2`, and sums over the regions of a size:

    .. math:: c = \\frac{\\sum (L - \\overline{\\sigma^2} / n)}{\\sum \\bar\\sigma^2}

    L takes the first correlation :math:`r` of the regions' series, drawn towards that of the
    voxels as far as chance explains the difference. Noise that is in common to the whole brain is
    one draw: c is then known with :math:`\nu = (N - 1)(1 - r^2)/(1 + r^2)` degrees of freedom
    only, and :math:`\nu/(\nu - 2)` times as large in expectation.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> series = 3 * rng.normal(size=(4000, 40)) + rng.normal(size=40)
    >>> points = 4 * np.stack(np.unravel_index(range(4000), (20, 20, 10)), axis=1)
    >>> deviations = series - series.mean(axis=1, keepdims=True)
    >>> {name: round(share, 2) for name, share in
    ...  shared_noise(deviations, np.full(4000, 10.0), points).items()}
    {'parcel': 0.12, 'network': 0.12, 'brain': 0.12}
    """
    samples, noise = np.asarray(deviations, float), np.asarray(variance, float)
    points = np.asarray(points, float)
    if noise.shape != samples.shape[:1] or points.shape != (*noise.shape, 3):
        msg = (
            'deviations (V, N), variance (V,) and points (V, 3) expected, got '
            f'{samples.shape}, {noise.shape} and {points.shape}'
        )
        raise ModelInputError(msg)
    known = np.isfinite(samples).all(axis=1) & np.isfinite(noise) & (noise > 0)
    usual = _first_correlation(samples[known])

    def of_size(side: float) -> float:
        cube, _ = cubes_of(points[known], side)
        means = means_of_cubes(samples[known], cube)
        first = _correlation_of_regions(means, usual)
        of_means = (1 + first) / (1 - first) * means.var(axis=1, ddof=1)
        freedom = (samples.shape[1] - 1) * (1 - first**2) / (1 + first**2)
        unknown = max(freedom, FEWEST_FREEDOM) / (max(freedom, FEWEST_FREEDOM) - 2)
        return float(min(unknown * share_in_common(noise[known], cube, of_means), 1.0))

    return {name: of_size(side) for name, side in SIZES.items()}


def means_of_cubes(series: FloatArray, cube: IntArray) -> FloatArray:
    """
    Average series over cubes; cubes of fewer than 8 voxels are left out.

    Parameters
    ----------
    series : (V, N) ndarray
        Any unit.
    cube : (V,) ndarray of int
        Of :func:`cubes_of`.

    Returns
    -------
    means : (K, N) ndarray of float64
        Unit of `series`.
    """
    n_voxels = np.bincount(cube)
    kept = n_voxels >= FEWEST_IN_REGION
    means = [np.bincount(cube, column)[kept] / n_voxels[kept] for column in series.T]
    return np.stack(means, axis=1)


def share_in_common(variance: FloatArray, cube: IntArray, of_means: FloatArray) -> float:
    """
    Tell which share of the variance of voxels those of a cube have in common.

    Parameters
    ----------
    variance : (V,) ndarray
        Of each voxel, positive, any unit squared.
    cube : (V,) ndarray of int
        Of :func:`cubes_of`.
    of_means : (K,) ndarray
        Variance of the mean of each cube of 8 voxels or more, found from its own series.

    Returns
    -------
    share : float
        In [0, 1]; 0 without a cube.

    Examples
    --------
    >>> round(share_in_common(np.ones(100), np.zeros(100, int), np.array([0.109])), 3)
    0.1
    """
    n_voxels = np.bincount(cube)
    kept = n_voxels >= FEWEST_IN_REGION
    if not kept.any():
        return 0.0
    n_voxels = n_voxels[kept]
    alone = np.bincount(cube, variance)[kept] / n_voxels**2
    together = (np.bincount(cube, np.sqrt(variance))[kept] / n_voxels) ** 2
    share = (of_means - alone).sum() / (together - alone).sum()
    return float(np.clip(share, 0, 1))


def _correlation_of_regions(series: FloatArray, usual: float) -> float:
    """
    Give the correlation of successive samples of regions' series.

    The series have noise in common: their correlation departs from that of the voxels as far as it
    does by more than chance in one.
    """
    n_samples = series.shape[1]
    if n_samples < FEWEST_IN_TIME or not len(series):
        return 0.0
    away = _first_correlation(series) - usual
    first = usual + away * away**2 / (away**2 + 1 / n_samples)
    return float(np.clip(first, -CORRELATION_LIMIT, CORRELATION_LIMIT))


def _first_correlation(series: FloatArray) -> float:
    """Give the correlation of successive samples, mean over series, with what a mean takes."""
    series = series - series.mean(axis=1, keepdims=True)
    power = np.sum(series**2)
    if not power > 0:
        return 0.0
    raw = float(np.sum(series[:, 1:] * series[:, :-1]) / power)
    return float(raw + (1 + raw) / series.shape[1])


def _prior_of(variance: FloatArray, dof: FloatArray, used: BoolArray) -> tuple[float, float]:
    """Learn a prior from some voxels; where all variances are 0 there is nothing to learn."""
    positive = used & (variance > 0)
    if positive.sum() < FEWEST_VOXELS:
        pooled, _ = _pool(variance, dof, used)
        return (float(dof[used].mean()) if used.any() else 0.0), pooled
    return variance_prior(variance[positive], dof[positive])


def variance_prior(
    variance: ArrayLike, dof: ArrayLike, *, caution: float = 0.0
) -> tuple[float, float]:
    r"""
    Fit a scaled inverse chi-square to variances by the moments of their logarithms.

    Parameters
    ----------
    variance : (V,) array_like
        Estimates, positive, any unit; 100 or more.
    dof : float or (V,) array_like
        Degrees of freedom of each.
    caution : float
        Standard errors by which the true variances are taken to be less alike than is found:
        tails far out hang on it.

    Returns
    -------
    prior_dof : float
        Degrees of freedom of the prior, at most 1000: how alike the true variances are.
    scale : float
        Its scale, unit of `variance`.

    Notes
    -----
    With digamma and trigamma functions :math:`\psi`, :math:`\psi'` and
    :math:`e = \ln s^2 - \psi(d/2) + \ln(d/2)`

    .. math:: \psi'(d_0/2) = \mathrm{var}(e) - \overline{\psi'(d/2)}, \qquad
              \ln s_0^2 = \bar e + \psi(d_0/2) - \ln(d_0/2)

    Logarithms more than four robust standard deviations above the median count as if they lay
    there.

    References
    ----------
    .. [1] Smyth, Stat Appl Genet Mol Biol 3:3, 2004. doi:10.2202/1544-6115.1027

    Examples
    --------
    >>> dof, scale = variance_prior(np.random.default_rng(0).chisquare(6, 5000) / 6, 6)
    >>> dof > 100, round(scale, 1)
    (True, 1.0)
    """
    from scipy import optimize, special  # slow to import

    half = np.broadcast_to(np.asarray(dof, float), np.shape(variance)) / 2
    centred = np.log(variance) - special.digamma(half) + np.log(half)
    middle = np.median(centred)
    spread = MAD_TO_SD * np.median(np.abs(centred - middle))
    centred = np.minimum(centred, middle + OUTLYING * spread)
    mean = float(centred.mean())
    squares = (centred - mean) ** 2
    excess = float(np.mean(squares) - np.mean(special.polygamma(1, half)))
    excess += caution * float(squares.std() / np.sqrt(squares.size))
    if excess <= special.polygamma(1, LARGEST_PRIOR_DOF / 2):
        return LARGEST_PRIOR_DOF, float(np.exp(mean))
    found = optimize.brentq(
        lambda value: special.polygamma(1, value) - excess, SMALLEST_HALF, LARGEST_PRIOR_DOF
    )
    return 2.0 * found, float(np.exp(mean + special.digamma(found) - np.log(found)))


def _checked_variance(
    variance: ArrayLike, dof: ArrayLike
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Check variances; tell which voxels have one."""
    variance = np.asarray(variance, float)
    if variance.ndim != 1:
        msg = f'variance must have one axis (voxels), got shape {variance.shape}'
        raise ModelInputError(msg)
    if np.any(variance < 0):
        msg = 'variance must not be negative'
        raise ModelInputError(msg)
    dof = np.broadcast_to(np.asarray(dof, float), variance.shape)
    return variance, dof, np.isfinite(variance) & (dof > 0)


def _checked_groups(groups: ArrayLike, shape: tuple[int, ...]) -> IntArray:
    """Check that there is a group per voxel."""
    groups = np.asarray(groups)
    if groups.shape != shape:
        msg = f'groups must have the shape of variance {shape}, got {groups.shape}'
        raise ModelInputError(msg)
    return groups


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
    tails : float
        Share of the differences beyond 1.96 stated errors; 0.05 where these are right.
    factor : float
        By which the stated errors would have to be multiplied: the larger of `sd` and what the
        tails ask for. Uneven errors have the latter.
    n_voxels : int
        Voxels compared.
    verdict : str
        In words.
    """

    sd: float
    low: float = float('nan')
    high: float = float('nan')
    tails: float = float('nan')
    factor: float = float('nan')
    n_voxels: int
    verdict: str

    def as_sidecar(self) -> dict[str, Any]:
        """Entries of a sidecar."""
        is_known = np.isfinite(self.sd)
        numbers = [round(number, DIGITS) for number in (self.sd, self.low, self.high)]
        return {
            'SDofZ': numbers[0] if is_known else None,
            'Interval95': numbers[1:] if is_known else None,
            'BeyondInterval95': round(self.tails, DIGITS) if is_known else None,
            'ImpliedFactor': round(self.factor, DIGITS) if is_known else None,
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
        The verdict is `right` where the interval reaches into 10 % around 1 and the tails hold
        no more than 2.5 % too much.

    Notes
    -----
    .. math:: z = (x_1 - x_2)/\sqrt{v_1 + v_2} \sim N(0, 1)

    Its standard deviation is taken from the median of the absolute values, whose own relative
    error with n independent voxels is :math:`1.166/\sqrt{n}`. A median is blind to noise that is
    uneven; the share beyond 1.96 and the 95 % quantile of \|z\| over 1.96 are not.

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
    tails = float(np.mean(np.abs(z) > NORMAL_95))
    factor = max(sd, float(np.quantile(np.abs(z), COVERED)) / NORMAL_95)
    margin = np.sqrt(COVERED * (1 - COVERED) * max(voxels_per_sample, 1.0) / n_voxels)
    smallest, _, largest = ERROR_SCALES
    verdict = 'right'
    if high < smallest or low > largest:
        size = 'small' if sd > 1 else 'large'
        percent = abs(1 - 1 / sd) / PERCENT if sd > 0 else float('inf')
        verdict = f'stated errors are {percent:.0f} % too {size}'
    elif tails - NORMAL_95 * margin > 1 - COVERED + TOLERATED_TAILS:
        verdict = f'stated errors are uneven: {tails / PERCENT:.0f} % lie beyond 1.96'
    return ErrorCalibration(
        sd=sd, low=low, high=high, tails=tails, factor=factor, n_voxels=n_voxels, verdict=verdict
    )


def error_scales(factors: Iterable[float]) -> tuple[float, float, float]:
    """
    Tell what the errors of a study may have to be multiplied by.

    Parameters
    ----------
    factors : iterable of float
        What its repeated measurements imply (:attr:`ErrorCalibration.factor`). One of 0, where two
        runs are alike to the last digit, tells of no error and is left out.

    Returns
    -------
    scales : (float, float, float)
        Smallest, 1 and largest: 0.9 and 1.1, or as far as the factors reach beyond.

    Examples
    --------
    >>> error_scales([1.02, 1.3]), error_scales([0.0])
    ((0.9, 1.0, 1.3), (0.9, 1.0, 1.1))
    """
    smallest, same, largest = ERROR_SCALES
    reached = [smallest, largest, *(one for one in factors if 0 < one < np.inf)]
    return min(reached), same, max(reached)


def calibrate_levels(
    difference: Estimate, points: ArrayLike, shared: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """
    Compare the difference of two halves of a scan with its error, from voxels to the brain.

    Parameters
    ----------
    difference : (V,) Estimate
        Of the halves; 0 where nothing but noise is.
    points : (V, 3) array_like
        Where the voxels lie, mm.
    shared : dict of str to float
        From :func:`shared_noise`.

    Returns
    -------
    facts : dict of str to dict
        Entries of a sidecar for ``voxel``, ``parcel`` and ``network``; ``brain`` has one z.

    Examples
    --------
    >>> points = 4.0 * np.stack(np.unravel_index(range(8000), (20, 20, 20)), axis=1)
    >>> noise = Estimate.of(np.random.default_rng(1).normal(size=8000), 1.0)
    >>> facts = calibrate_levels(noise, points, {'parcel': 0, 'network': 0, 'brain': 0})
    >>> facts['voxel']['Verdict'], facts['parcel']['Verdict'], abs(facts['brain']['Z']) < 3
    ('right', 'right', True)
    """
    zero = Estimate.of(np.zeros(difference.value.shape))
    facts = {'voxel': calibrate_errors(difference, zero).as_sidecar()}
    for level, side in SIZES.items():
        summary = summarise_regions(difference, *cubes_of(points, side), shared=shared[level])
        kept = summary['n_voxels'] >= FEWEST_IN_REGION
        means = Estimate.of(summary['mean'][kept], summary['se'][kept] ** 2)
        if level == 'brain':
            z = means.value / np.sqrt(means.variance)
            facts[level] = {'Z': round(float(z[0]), DIGITS) if z.size else None}
        else:
            none = Estimate.of(np.zeros(means.value.shape))
            facts[level] = calibrate_errors(means, none).as_sidecar()
    return facts


def cubes_of(points: ArrayLike, side: float) -> tuple[IntArray, IntArray]:
    """
    Cut space into cubes.

    Parameters
    ----------
    points : (V, 3) array_like
        Where the voxels lie, mm.
    side : float
        Of the cubes, mm; infinite for one.

    Returns
    -------
    cube, indices : (V,), (K,) ndarray of int64
        Number of the cube of each voxel, and all numbers.

    Examples
    --------
    >>> cubes_of([[0, 0, 0], [9, 0, 0], [11, 0, 0]], 10.0)
    (array([0, 0, 1]), array([0, 1]))
    """
    points = np.asarray(points, float)
    if not len(points):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    corners = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    _, cube = np.unique(corners, axis=0, return_inverse=True)
    cube = cube.ravel().astype(np.int64)
    return cube, np.arange(cube.max() + 1)


def correlation_width(volumes: Iterable[ArrayLike], zooms: ArrayLike) -> float:
    r"""
    Estimate how wide noise is correlated in space.

    Parameters
    ----------
    volumes : iterable of (X, Y, Z) array_like
        Noise of the same variance everywhere; NaN where there is none.
    zooms : (3,) array_like
        Voxel size, mm.

    Returns
    -------
    width : float
        Full width at half maximum of a Gaussian, mm: geometric mean over the axes; at least the
        largest side of a voxel.

    Notes
    -----
    With the correlation r of voxels that are d apart, :math:`d\sqrt{-2\ln 2/\ln r}`.

    Examples
    --------
    >>> white = np.random.default_rng(0).normal(size=(20, 20, 20))
    >>> correlation_width([white], [2, 2, 3])
    3.0
    """
    zooms = np.asarray(zooms, float)
    products, squares = np.zeros((2, zooms.size))
    for volume in volumes:
        noise = np.asarray(volume, float)
        for axis in range(zooms.size):
            first = noise.take(range(1, noise.shape[axis]), axis)
            second = noise.take(range(noise.shape[axis] - 1), axis)
            both = np.isfinite(first) & np.isfinite(second)
            products[axis] += np.sum(first[both] * second[both])
            squares[axis] += np.sum((first[both] ** 2 + second[both] ** 2) / 2)
    least = np.finfo(np.float32).eps
    correlation = np.clip(products / np.maximum(squares, np.finfo(float).tiny), least, 1 - least)
    widths = zooms * np.sqrt(-2 * np.log(2) / np.log(correlation))
    return float(max(np.exp(np.mean(np.log(widths))), zooms.max()))
