"""Group statistics on arrays: random effects per voxel, what they can and cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.labels import false_discovery_rate
from bids_app.models.contrast.difference import p_value
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import FEWEST_VOXELS, variance_prior

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray

MINIMUM = 2
"""Fewest participants of a group."""

TRIMMED = 0.1
"""Share of voxels, those of the largest variance, that do not tell the spread of participants."""

CAUTION = 3.0
"""Standard errors by which voxels are taken to be less alike than they seem; ours."""

SMALLEST_LEVEL = 1e-12
"""Random variance of a participant, relative to the largest, below which it counts as this."""

SMALL_T = 1e-4
"""Below this, z is proportional to t."""


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
        Participants minus columns of the design, and what a moderated variance borrows.
    residual : (V,) ndarray of float64
        Weighted residual variance before moderation, unit squared.
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
    residual: FloatArray
    tau2: FloatArray
    n: IntArray

    @property
    def standard_error(self) -> FloatArray:
        """
        Error with which effect / error is the normal value z; for methods that assume normality.

        It exceeds the square root of `variance` where t has few degrees of freedom.
        """
        ratio = stats.t.pdf(0, self.dof) / stats.norm.pdf(0)
        moved = np.isfinite(self.z) & (np.abs(self.t) > SMALL_T)
        scale = np.where(moved, self.z / np.where(moved, self.t, 1.0), ratio)
        error: FloatArray = np.sqrt(self.variance) / scale
        return error

    @property
    def as_estimate(self) -> Estimate:
        """Effect with its normal variance, for the labels; missing where not positive."""
        return Estimate.of(self.effect, self.standard_error**2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weighting:
    """
    What all voxels tell of the participants and of the spread between them.

    Parameters
    ----------
    participants : (N,) ndarray of float64
        Relative weights, mean 1.
    prior_dof : float
        Degrees of freedom that the other voxels lend to the variance of one; 0 = none.
    prior_scale : float
        Residual variance that they lead to expect, relative to the random variance of the voxel
        (to 1 without random variances).
    """

    participants: FloatArray
    prior_dof: float = 0.0
    prior_scale: float = 1.0

    def of(self, participants: BoolArray | IntArray) -> Weighting:
        """Keep some participants."""
        return replace(self, participants=self.participants[participants])


def weigh_participants(
    effects: ArrayLike, variances: ArrayLike | None, design: ArrayLike | None = None
) -> Weighting:
    r"""
    Learn the weights of participants, and how alike the variances of voxels are.

    Parameters
    ----------
    effects : (N, V) array_like
        Effect of each participant in voxels spread over the mask; NaN where there is none.
    variances : (N, V) array_like or None
        Random variance of each effect, unit squared; None: participants have equal weights.
    design : (N, P) array_like, optional
        As for :func:`random_effects`.

    Returns
    -------
    weighting : Weighting
        For :func:`random_effects` of any part of the voxels.

    Raises
    ------
    ModelInputError
        If the shapes differ or a variance is negative.

    Notes
    -----
    The residual variances s_j^2, relative to the random variance of the voxel, are taken as
    scaled inverse chi-square over voxels; the degrees of freedom d_0 and scale of that
    distribution follow from mean and variance of their logarithms [1]_, the latter three standard
    errors above what is found: few participants tell it badly, and with d_0 too large tests at
    .001 reject two to four times too often. The more alike the voxels, the more they lend each
    other.

    References
    ----------
    .. [1] Smyth, Stat Appl Genet Mol Biol 3:3, 2004. doi:10.2202/1544-6115.1027

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weighting = weigh_participants(rng.normal(size=(8, 4000)), np.ones((8, 4000)))
    >>> weighting.prior_dof > 100, bool(abs(weighting.prior_scale - 1) < 0.05)
    (True, True)
    """
    x, v, known = _checked(effects, variances)
    weights = _weights(x, v, known)
    plain = random_effects(x, v, weighting=Weighting(participants=weights), design=design)
    typical = typical_variance(v, known)
    usable = (plain.n >= 2) & (plain.residual > 0) & (typical > 0)
    dof, scale = 0.0, 1.0
    if usable.sum() >= FEWEST_VOXELS:
        relative = plain.residual[usable] / typical[usable]
        dof, scale = variance_prior(relative, plain.dof[usable], caution=CAUTION)
    return Weighting(participants=weights, prior_dof=dof, prior_scale=scale)


def random_effects(
    effects: ArrayLike,
    variances: ArrayLike | None,
    *,
    weighting: Weighting | None = None,
    design: ArrayLike | None = None,
    tested: int = 0,
) -> RandomEffects:
    r"""
    Estimate the population mean of an effect from participants' effects and random variances.

    Parameters
    ----------
    effects : (N, V) array_like
        Effect of each participant; NaN where there is none.
    variances : (N, V) array_like or None
        Random variance of each effect, unit squared; NaN counts as no effect. None: there are
        none, all participants count alike.
    weighting : Weighting, optional
        From :func:`weigh_participants`. None: the weights are learnt from these voxels, and
        variances are not moderated.
    design : (N, P) array_like, optional
        Columns of a regression over participants, such as ones and centred covariates. None: ones.
    tested : int
        Column whose coefficient is the effect.

    Returns
    -------
    result : RandomEffects
        Participants without an estimate are left out voxel by voxel.

    Raises
    ------
    ModelInputError
        If the shapes differ or a variance is negative.

    Notes
    -----
    A participant weighs :math:`g_i = 1/(l_i + \rho)`: l is the level of its random variance
    (median over voxels of the ratio to the voxel's median over participants), rho the variance
    between participants in the same unit, with which the weighted residual variance of the voxels
    is 1 on average [4]_. The weights are the same in all voxels: the variance of a CMRO2 change
    grows with the estimate itself, so that
    raw inverse variances pull the mean towards zero (by 2 to 7 % at the noise of single voxels);
    and weights from the spread of one voxel reject 7 % instead of 5 % of the nulls with six
    participants. The variance of the weighted mean is that of Hartung and Knapp [2]_,

    .. math:: var(\hat\mu) = \frac{\sum g_i (x_i - \hat\mu)^2}{(N-1) \sum g_i},

    with which t has N-1 degrees of freedom whatever the scale of the variances; equal weights
    give the one-sample t test. With a moderated `weighting` the residual variance s_j^2 becomes
    :math:`(d_0 s_0^2 u_j + d\,s_j^2)/(d_0 + d)` with the median random variance u_j of the voxel,
    and t has :math:`d_0 + d` degrees of freedom [3]_. The variance between participants that is
    reported is the moment estimate :math:`\tau_j^2 = \max(0,\, s_j^2 - \bar u_j)` with the plain
    sample variance s [1]_.

    References
    ----------
    .. [1] Hedges & Olkin, Statistical Methods for Meta-Analysis, Academic Press, 1985, ch. 9.
    .. [2] Hartung & Knapp, Stat Med 20:3875, 2001. doi:10.1002/sim.1009
    .. [3] Smyth, Stat Appl Genet Mol Biol 3:3, 2004. doi:10.2202/1544-6115.1027
    .. [4] Paule & Mandel, J Res Natl Bur Stand 87:377, 1982. doi:10.6028/jres.087.022

    Examples
    --------
    >>> result = random_effects([[1.0], [2.0], [3.0]], np.ones((3, 1)))
    >>> result.effect, result.t.round(3), result.p.round(3), result.n
    (array([2.]), array([3.464]), array([0.074]), array([3]))
    """
    x, v, known = _checked(effects, variances)
    columns = np.ones((x.shape[0], 1)) if design is None else np.asarray(design, float)
    if columns.ndim != 2 or columns.shape[0] != x.shape[0]:
        msg = f'the design must have {x.shape[0]} rows, one per participant, got {columns.shape}'
        raise ModelInputError(msg)
    if weighting is None:
        weighting = Weighting(participants=_weights(x, v, known))
    excess = np.maximum(_excess_variance(x, v, known), 0.0)
    typical = typical_variance(v, known)
    return _estimated(x, known, weighting, columns, typical=typical, tau2=excess, tested=tested)


def means_without(
    effects: FloatArray,
    variances: FloatArray | None,
    member: IntArray,
    weighting: Weighting,
    design: FloatArray,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """
    Estimate the mean of :func:`random_effects` with each group of participants left out in turn.

    Parameters
    ----------
    effects : (N, V) ndarray of float64
        Effect of each participant; NaN where there is none.
    variances : (N, V) ndarray of float64 or None
        Random variance of each effect, unit squared.
    member : (N,) ndarray of int
        Group of each participant, from 0.
    weighting : Weighting
        Of all participants.
    design : (N, P) ndarray of float64
        Columns over participants; the first is tested.

    Yields
    ------
    effect, error : (V,) ndarray of float64
        Mean and standard error, unit of the effects; NaN where too few are left.
    """
    x, v, known = _checked(effects, variances)
    if v is not None:  # sorted once for all groups: the median of what is kept is then counted
        order = np.argsort(np.where(known, v, np.inf), axis=0)
        ordered, usable = (np.take_along_axis(one, order, axis=0) for one in (v, known))
    for group in range(int(member.max()) + 1):
        kept = member != group
        typical = np.ones(x.shape[1])
        if v is not None:
            typical = _counted_median(np.asarray(ordered, float), kept[order] & usable)
        part = _estimated(
            x[kept],
            known[kept],
            weighting.of(kept),
            design[kept],
            typical=typical,
            tau2=np.full(x.shape[1], np.nan),
        )
        yield part.effect, part.standard_error


def _counted_median(ordered: FloatArray, counted: BoolArray) -> FloatArray:
    """Give the median of what counts in sorted columns; 0 where nothing does."""
    reached = np.cumsum(counted, axis=0)
    n = reached[-1]
    places = np.stack([(reached > middle).argmax(axis=0) for middle in ((n - 1) // 2, n // 2)])
    median = np.take_along_axis(ordered, places, axis=0).mean(axis=0)
    return np.where(n > 0, median, 0.0)


def _estimated(
    x: FloatArray,
    known: BoolArray,
    weighting: Weighting,
    columns: FloatArray,
    *,
    typical: FloatArray,
    tau2: FloatArray,
    tested: int = 0,
) -> RandomEffects:
    """Fit a design over participants in every voxel, and test a column."""
    n = known.sum(axis=0)
    weights = np.where(known, weighting.participants[:, None], 0.0)
    values = np.where(known, x, 0.0)
    coefficients, spread, regular = regress(values, weights, columns)
    freedom = n - columns.shape[1]
    enough = (n >= MINIMUM) & (freedom >= 1) & regular
    residuals = values - columns @ coefficients
    dof = np.maximum(freedom, 1).astype(float)
    residual = (weights * residuals**2).sum(axis=0) / dof
    variance, total = moderate(residual, dof, typical, weighting)
    return _tested(
        coefficients[tested],
        variance * spread[:, tested],
        total,
        residual=residual,
        tau2=tau2,
        n=n,
        missing=~enough,
    )


def nuisance_residuals(
    effects: FloatArray, known: BoolArray, weighting: Weighting, columns: FloatArray
) -> FloatArray:
    """Take columns of a design out of effects, voxel by voxel; 0 where there is no effect."""
    x = np.where(known, effects, 0.0)
    if columns.shape[1] == 0:
        return x
    weights = np.where(known, weighting.participants[:, None], 0.0)
    coefficients, _, _ = regress(x, weights, columns)
    return np.where(known, x - columns @ coefficients, 0.0)


def equivalence(result: RandomEffects, smallest: float) -> FloatArray:
    r"""
    Test whether an effect is smaller than the smallest one of interest (two one-sided tests).

    Parameters
    ----------
    result : RandomEffects
        Of a group.
    smallest : float
        Smallest effect of interest delta, positive, unit of the effects.

    Returns
    -------
    p : (V,) ndarray of float64
        Probability of effects this close to 0 if the true one were delta in size; small where
        "no change" is shown and not just not refuted.

    Raises
    ------
    ModelInputError
        If `smallest` is not positive.

    References
    ----------
    .. [1] Schuirmann, J Pharmacokinet Biopharm 15:657, 1987. doi:10.1007/BF01068419

    Examples
    --------
    >>> result = random_effects(np.array([[0.1], [-0.1], [0.0], [0.05]]), None)
    >>> bool(equivalence(result, 1.0)[0] < 0.001)
    True
    """
    if not smallest > 0:
        msg = f'the smallest effect must be positive, got {smallest}'
        raise ModelInputError(msg)
    error = np.sqrt(np.where(result.variance > 0, result.variance, np.nan))
    nearer = (smallest - np.abs(result.effect)) / error
    p: FloatArray = stats.t.sf(nearer, result.dof)
    return p


def smallest_equivalence(result: RandomEffects, *, alpha: float = 0.05) -> FloatArray:
    r"""
    Compute the smallest delta for which a study of this size and noise could show equivalence.

    Parameters
    ----------
    result : RandomEffects
        Of a group.
    alpha : float
        Level of the two one-sided tests.

    Returns
    -------
    delta : (V,) ndarray of float64
        Unit of the effects. For a smaller one of interest even an estimate of exactly 0 does not
        show that there is no change.

    Notes
    -----
    .. math:: t_{1-\alpha}\,\sqrt{var(\hat\mu)}

    Examples
    --------
    >>> result = random_effects(np.array([[1.0], [-1.0], [0.5], [-0.5]]), None)
    >>> delta = smallest_equivalence(result)
    >>> delta.round(2), equivalence(result, float(delta[0])).round(2)
    (array([1.07]), array([0.05]))
    """
    delta: FloatArray = stats.t.ppf(1 - alpha, result.dof) * np.sqrt(result.variance)
    return delta


def detectable_effect(
    result: RandomEffects, *, power: float = 0.8, alpha: float = 0.05
) -> FloatArray:
    r"""
    Compute the effect that a study of this size and noise finds with a given power.

    Parameters
    ----------
    result : RandomEffects
        Of a group.
    power : float
        Probability to find it.
    alpha : float
        Two-sided level of the test of one voxel.

    Returns
    -------
    effect : (V,) ndarray of float64
        Unit of the effects.

    Notes
    -----
    .. math:: (t_{1-\alpha/2} + t_{power})\,\sqrt{var(\hat\mu)}

    Examples
    --------
    >>> result = random_effects(np.array([[1.0], [2.0], [3.0], [2.0]]), None)
    >>> detectable_effect(result).round(2)
    array([1.7])
    """
    reach = stats.t.ppf(1 - alpha / 2, result.dof) + stats.t.ppf(power, result.dof)
    effect: FloatArray = reach * np.sqrt(result.variance)
    return effect


def effect_size(result: RandomEffects) -> tuple[FloatArray, FloatArray]:
    r"""
    Compute an effect in units of the standard deviation between participants, and its error.

    Parameters
    ----------
    result : RandomEffects
        Of a mean, of a difference of groups, or per unit of a covariate.

    Returns
    -------
    d, error : (V,) ndarray of float64
        Corrected for few participants; a 95 % interval is d -+ 1.96 errors.

    Notes
    -----
    .. math:: d = J\,\hat\beta/s, \quad J = 1 - 3/(4\nu - 1), \quad
        var(d) = J^2\,(v + (\hat\beta/s)^2 / (2\nu))

    with the residual standard deviation s, nu its degrees of freedom and v the variance of the
    coefficient for s = 1, which is 1/n + 1/m for two groups [1]_.

    References
    ----------
    .. [1] Hedges & Olkin, Statistical Methods for Meta-Analysis, Academic Press, 1985, ch. 5.

    Examples
    --------
    >>> result = random_effects(np.array([[1.0], [2.0], [3.0], [2.0]]), None)
    >>> d, error = effect_size(result)
    >>> d.round(2), error.round(2)
    (array([1.78]), array([0.81]))
    """
    known = (result.residual > 0) & (result.variance > 0)
    spread = np.sqrt(np.where(known, result.residual, np.nan))
    raw = result.effect / spread
    correction = 1.0 - 3.0 / (4.0 * result.dof - 1.0)
    unit = (raw / np.where(result.t != 0, result.t, np.nan)) ** 2
    unit = np.where(result.t == 0, result.variance / spread**2, unit)
    error: FloatArray = correction * np.sqrt(unit + raw**2 / (2.0 * result.dof))
    d: FloatArray = correction * raw
    return d, error


STATISTICS: Mapping[str, Callable[[RandomEffects], FloatArray]] = MappingProxyType(
    {
        'effect': attrgetter('effect'),
        'variance': attrgetter('variance'),
        't': attrgetter('t'),
        'z': attrgetter('z'),
        'p': attrgetter('p'),
        'q': lambda result: false_discovery_rate(result.p),
        'detectable': detectable_effect,
        'd': lambda result: effect_size(result)[0],
    }
)
"""Statistic of data/outputs.yml -> function of the mean over participants; it is written where a
row of that table lists it."""


def typical_variance(variances: FloatArray | None, known: BoolArray) -> FloatArray:
    """Give the median random variance of each voxel; 1 without variances, 0 where nothing is."""
    if variances is None:
        return np.ones(known.shape[1])
    median = _masked_median(variances.T, known.T)
    return np.where(np.isfinite(median), median, 0.0)


def moderate(
    residual: FloatArray, dof: FloatArray, typical: FloatArray, weighting: Weighting
) -> tuple[FloatArray, FloatArray]:
    """Draw residual variances towards what the other voxels lead to expect."""
    borrowed = np.where(typical > 0, weighting.prior_dof, 0.0)
    expected = weighting.prior_scale * typical
    total = dof + borrowed
    return (borrowed * expected + dof * residual) / total, total


def _checked(
    effects: ArrayLike, variances: ArrayLike | None
) -> tuple[FloatArray, FloatArray | None, BoolArray]:
    """Check shapes and signs; tell what is known."""
    x = np.asarray(effects, float)
    v = None if variances is None else np.asarray(variances, float)
    if x.ndim != 2 or (v is not None and x.shape != v.shape):
        found = None if v is None else v.shape
        msg = f'effects and variances must be (participants, voxels), got {x.shape}, {found}'
        raise ModelInputError(msg)
    if v is not None and np.any(v < 0):
        msg = 'variances must not be negative'
        raise ModelInputError(msg)
    return x, v, np.isfinite(x) if v is None else np.isfinite(x) & np.isfinite(v)


def _weights(x: FloatArray, variances: FloatArray | None, known: BoolArray) -> FloatArray:
    """Give the relative weight of each participant, mean 1."""
    if variances is None:
        return np.ones(x.shape[0])
    typical = typical_variance(variances, known)
    usable = known & (typical > 0)
    ratio = np.divide(variances, typical, out=np.ones_like(variances), where=usable)
    level = _masked_median(ratio, usable)
    level = np.where(np.isfinite(level), level, 1.0)
    level = np.maximum(level, SMALLEST_LEVEL * max(float(level.max()), SMALLEST_LEVEL))
    usable &= usable.sum(axis=0) >= MINIMUM
    columns = usable.any(axis=0)
    scaled = np.where(usable, x, 0.0)[:, columns] / np.sqrt(typical[columns])
    inverse = 1.0 / (level + _between_ratio(scaled, level, usable[:, columns]))
    weights: FloatArray = inverse / inverse.mean()
    return weights


def _between_ratio(x: FloatArray, level: FloatArray, known: BoolArray) -> float:
    """
    Solve for the variance between participants, in units of the typical random variance.

    With the right one the weighted residual variance of a voxel is 1 on average, however unequal
    the participants are (Paule and Mandel); a median of plain sample variances is not, because
    the noisiest participant rules them. Voxels of the largest variances are left out, as are
    those of the chi-square distribution that they are compared with.
    """
    if x.shape[1] == 0:
        return 0.0
    dof = known.sum(axis=0) - 1
    kept = int(np.ceil((1.0 - TRIMMED) * x.shape[1]))
    typical_dof = float(np.median(dof))
    limit = stats.chi2.ppf(kept / x.shape[1], typical_dof)
    expected = stats.chi2.cdf(limit, typical_dof + 2) * x.shape[1] / kept

    def misfit(between: float) -> float:
        weights = np.where(known, 1.0 / (level + between)[:, None], 0.0)
        mean = (weights * x).sum(axis=0) / weights.sum(axis=0)
        variance = (weights * (x - mean) ** 2).sum(axis=0) / dof
        return float(np.partition(variance, kept - 1)[:kept].mean() - expected)

    if misfit(0.0) <= 0:
        return 0.0
    high = float(level.mean())
    while misfit(high) > 0:
        high *= 4.0
    return float(optimize.brentq(misfit, 0.0, high, rtol=1e-3))


def regress(
    x: FloatArray, weights: FloatArray, columns: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Fit a design in every voxel: coefficients (P, V), their unit variances (V, P), regular."""
    if columns.shape[1] == 1:
        total = columns[:, 0] ** 2 @ weights
        regular = total > 0
        inverse = np.divide(1.0, total, out=np.zeros_like(total), where=regular)
        return (inverse * (columns[:, 0] @ (weights * x)))[None], inverse[:, None], regular
    products = np.einsum('np,nq->npq', columns, columns).reshape(columns.shape[0], -1)
    width = columns.shape[1]
    normal = (weights.T @ products).reshape(-1, width, width)
    regular = np.linalg.matrix_rank(normal, hermitian=True) == width
    inverse = np.linalg.pinv(normal, hermitian=True)
    coefficients = np.einsum('vpq,qv->pv', inverse, columns.T @ (weights * x))
    return coefficients, np.diagonal(inverse, axis1=1, axis2=2), regular


def _masked_median(rows: FloatArray, known: BoolArray) -> FloatArray:
    """Give the median of each row over what is known; NaN where nothing is."""
    if rows.size and known.all():  # twice as fast
        whole: FloatArray = np.median(rows, axis=1)
        return whole
    ordered = np.sort(np.where(known, rows, np.nan), axis=1)
    n = known.sum(axis=1)
    middle = np.stack([np.maximum(n - 1, 0) // 2, n // 2], axis=1).clip(max=rows.shape[1] - 1)
    median: FloatArray = np.take_along_axis(ordered, middle, axis=1).mean(axis=1)
    return median


def _mean(rows: FloatArray, known: BoolArray) -> FloatArray:
    """Average over the participants that are known; 0 where none is."""
    mean: FloatArray = rows.sum(axis=0, where=known) / np.maximum(known.sum(axis=0), 1)
    return mean


def _excess_variance(x: FloatArray, variances: FloatArray | None, known: BoolArray) -> FloatArray:
    """Give the sample variance beyond the random one; negative where it is smaller."""
    values = np.where(known, x, 0.0)
    squares = ((values - _mean(values, known)) ** 2).sum(axis=0, where=known)
    sample: FloatArray = squares / np.maximum(known.sum(axis=0) - 1, 1)
    return sample if variances is None else sample - _mean(variances, known)


def evidence(t: FloatArray, dof: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Turn t (V,) with degrees of freedom (V,) into z and the two-sided p of the same evidence."""
    p = p_value(t, dof)
    return np.copysign(stats.norm.isf(p / 2), t), p


def _tested(
    mean: FloatArray,
    variance: FloatArray,
    dof: FloatArray,
    *,
    residual: FloatArray,
    tau2: FloatArray,
    n: IntArray,
    missing: BoolArray,
) -> RandomEffects:
    """Test the mean against zero; an effect of exactly 0 without any spread is no evidence."""
    with np.errstate(divide='ignore'):
        t = np.where(mean == 0, 0.0, mean / np.where(mean == 0, 1.0, np.sqrt(variance)))
    z, p = evidence(t, dof)
    columns = {
        'effect': mean,
        'variance': variance,
        't': t,
        'z': z,
        'p': p,
        'dof': dof,
        'residual': residual,
        'tau2': tau2,
    }
    return RandomEffects(
        **{name: np.where(missing, np.nan, field) for name, field in columns.items()}, n=n
    )


def percent_of(change: FloatArray, baseline: FloatArray) -> FloatArray:
    """Give changes in percent of positive baselines; NaN elsewhere."""
    positive: BoolArray = baseline > 0
    return np.where(positive, 100 * change / np.where(positive, baseline, 1.0), np.nan)
