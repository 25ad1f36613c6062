"""
What share of the metabolic changes opposes BOLD, behind noisy estimates of them.

Two shares are estimated from effects and their standard errors: pi_d counts effects, w_d weighs
them by their size::

    from bids_app.models.concordance.discordance import estimate_discordance
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.special import ndtr

import bids_app.models.constants as c
from bids_app.errors import ModelInputError
from bids_app.models.concordance.ashr import Bins, MixtureFit, fit_mixture, misfit, usable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Share:
    """
    A share with its 95 % interval.

    Parameters
    ----------
    value : float
        In [0, 1]; NaN where undefined.
    low, high : float
        Interval; NaN where undefined or without enough blocks of noise.
    by_scale : tuple of float
        The share with the standard errors times each of the error scales.
    jackknife : float
        Half the width of the interval of the jackknife alone; NaN without one.
    """

    value: float = float('nan')
    low: float = float('nan')
    high: float = float('nan')
    by_scale: tuple[float, ...] = ()
    jackknife: float = float('nan')


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SignPrior:
    """
    Distributions of true effects among which the data cannot choose.

    Parameters
    ----------
    locations : (K,) ndarray of float64
        Values of the effect, unit of the effects.
    weights : (P, K) ndarray of float64
        Of P distributions: the likeliest one first, then those at both ends of the interval of
        pi_d.
    scales : (P,) ndarray of float64
        What the standard errors are multiplied by under each.
    """

    locations: FloatArray
    weights: FloatArray
    scales: FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Discordance:
    """
    Shares of opposing effects that survive measurement error, with all that belongs to them.

    Parameters
    ----------
    count : Share
        pi_d, the share of negative effects among those beyond the smallest effect of interest.
    size : Share
        w_d, the share of negative effects in the sum of the sizes of all effects.
    null : Share
        Share of effects within the smallest effect of interest.
    mean_size : float
        Mean size of the true effects, unit of the effects.
    location_fraction : float
        pi_d with point masses on a grid instead: the sensitivity to the family.
    sign_fraction : float
        Share of negative estimates: what the sign rule says.
    noise_only_fraction : float
        What the sign rule would say if every true effect were positive with the size it has.
    n_used, n_blocks : int
        Observations and spatial blocks.
    design_effect : float
        By how much the correlation of the noise widens the variance of the estimate.
    misfit : float
        Largest distance of the distribution of the observations from that of the fit, in [0, 1].
    error_scales : tuple of float
        What the standard errors were multiplied by, in the order of :attr:`Share.by_scale`.
    converged : bool
        Of all fits.
    reason : str
        Why there is no number; empty where there is one.
    is_offset : bool
        Whether that is a change common to all observations.
    prior : SignPrior or None
        What the posterior of a single effect follows from; None where nothing may have changed.
    """

    count: Share = field(default_factory=Share)
    size: Share = field(default_factory=Share)
    null: Share = field(default_factory=Share)
    mean_size: float = float('nan')
    location_fraction: float = float('nan')
    sign_fraction: float = float('nan')
    noise_only_fraction: float = float('nan')
    n_used: int = 0
    n_blocks: int = 0
    design_effect: float = float('nan')
    misfit: float = float('nan')
    error_scales: tuple[float, ...] = ()
    converged: bool = True
    reason: str = ''
    is_offset: bool = False
    prior: SignPrior | None = None


def estimate_discordance(
    effect: ArrayLike,
    standard_error: ArrayLike,
    *,
    smallest_effect: float,
    direction: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    left_out: Sequence[tuple[ArrayLike, ArrayLike]] | None = None,
    error_scales: Sequence[float] = c.ERROR_SCALES,
    withheld: str = '',
    intervals: Collection[str] = ('count', 'size', 'null'),
) -> Discordance:
    r"""
    Estimate the shares of negative effects behind noisy estimates.

    Parameters
    ----------
    effect : (V,) array_like
        Change of CMRO2 times the sign of the BOLD change: negative where discordant.
    standard_error : (V,) array_like
        Standard errors, same unit; observations that are not finite or whose error is not
        positive are left out.
    smallest_effect : float
        Smallest effect of interest delta, not negative; smaller ones count as no change.
    direction : (V,) array_like, optional
        Sign of the BOLD change. With it, nothing is estimated where one change that is common to
        all observations (an offset) explains them as well. None: only "nothing changed" is tried.
    blocks : (V,) array_like of int, optional
        Spatial block of each observation, see
        :func:`bids_app.models.concordance.ashr.spatial_blocks`; noise may be correlated within,
        not between blocks. None: every observation is independent.
    left_out : sequence of ((V,) array_like, (V,) array_like), optional
        Effects and errors with each participant left out, for a jackknife over them. None: groups
        of blocks are left out in turn.
    error_scales : sequence of float
        What the standard errors may have to be multiplied by; the one nearest to 1 makes the
        estimate, the interval holds those of all.
    withheld : str
        Why it is known from elsewhere that nothing may have changed; empty where it is not.
    intervals : collection of str
        Shares whose intervals are computed too.

    Returns
    -------
    discordance : Discordance
        Undefined, with a reason, where nothing is usable, and where it is not excluded that
        nothing changed; pi_d also where less than a tenth of the effects exceeds
        `smallest_effect`.

    Raises
    ------
    ModelInputError
        If the shapes differ, `smallest_effect` is negative or an error scale is not positive.

    Notes
    -----
    The observations are x = theta + s e with the known errors s. With the sizes of effects of
    either sign, theta- = max(-theta, 0),

    .. math:: \pi_d = \frac{P(\theta < -\delta)}{P(|\theta| > \delta)}, \qquad
              w_d = \frac{E[\theta^-]}{E|\theta|}

    Tiny effects, whose sign the noise hides, have no weight in w_d: it is known two to five times
    better. The distribution of theta is, for the estimate of pi_d, uniform from 0 to 16 ends on
    either side with a point mass at 0; for w_d and all intervals, point masses on a grid half an
    error apart, which assumes nothing on the shape.

    The interval is the union over the error scales of all values whose profile likelihood is
    close enough to the maximum,

    .. math:: 2\,[\ell_{max} - \ell(v)] \le \lambda\, t^2_{B-1},

    and of the jackknife around the estimates. lambda is the variance of the log likelihood ratio
    over that of independent observations, t the .975 quantile. With participants, that variance is
    the jackknife's over them, and B their number: noise alone, however far it reaches, and not
    what is true in one place and untrue in the next. Without, it is that of the sums over B
    blocks, which holds both. The profile knows what the noise hides, shapes that fit equally
    well; the jackknife knows how the estimate scatters where errors are shared.

    Nothing changed is possible where the likelihood of effects within delta is that close, by
    blocks, at any of the error scales. So is an offset where effects within delta of it are: each
    sign of BOLD has a distribution of its own then, with the offset and without, so that both
    know where BOLD rises.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041
    .. [2] Kent, Biometrika 69:19, 1982. doi:10.1093/biomet/69.1.19

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(2)
    >>> theta = np.where(rng.random(4000) < 0.3, -1.0, 1.0)
    >>> found = estimate_discordance(
    ...     theta + rng.normal(size=4000), np.ones(4000), smallest_effect=0.2)
    >>> found.size.low < 0.3 < found.size.high, round(found.sign_fraction, 1)
    (True, 0.4)
    """
    scales = _checked(smallest_effect, error_scales)
    x, s, used = usable(effect, standard_error)
    if x.size == 0:
        return Discordance(reason='no voxel with an estimate and its error')
    noise = _Noise.of(np.arange(x.size) if blocks is None else _part(blocks, used))
    shape = _HalfUniforms.of(x, s, smallest_effect)
    grid = _Locations.of(x, s, smallest_effect)
    main = int(np.argmin(np.abs(np.log(scales))))
    shapes = [shape.fit(scale) for scale in scales]
    parts = _usable_parts(left_out)
    profiles = [_Profile(grid, scale, noise, parts) for scale in scales]
    best = profiles[main]
    found = Discordance(
        count=Share(
            value=shape.ratio(shape.count, shapes[main].weights),
            by_scale=tuple(shape.ratio(shape.count, fit.weights) for fit in shapes),
        ),
        size=Share(
            value=grid.ratio(grid.size, best.fit.weights),
            by_scale=tuple(grid.ratio(grid.size, one.fit.weights) for one in profiles),
        ),
        null=Share(value=shape.ratio(shape.null, shapes[main].weights)),
        mean_size=float(np.abs(grid.locations) @ best.fit.weights),
        location_fraction=grid.ratio(grid.count, best.fit.weights),
        sign_fraction=float(np.mean(x < 0)),
        noise_only_fraction=_noise_only(grid, best.fit.weights, scales[main] * s),
        n_used=x.size,
        n_blocks=noise.n_blocks,
        error_scales=tuple(scales),
        misfit=grid.misfit(best.fit.weights, scales[main]),
        converged=all(fit.converged for fit in (*shapes, *(one.fit for one in profiles))),
        prior=SignPrior(
            locations=grid.locations,
            weights=best.fit.weights[None],
            scales=np.array([scales[main]]),
        ),
    )
    sign = None if direction is None else np.sign(_part(direction, used))
    found = _judged(found, profiles, (x, s, sign), withheld)
    if found.reason:
        return found
    if not intervals:
        return found
    if noise.n_blocks < c.FEWEST_NOISE_BLOCKS:
        reason = f'no interval: {noise.n_blocks} blocks of noise, {c.FEWEST_NOISE_BLOCKS} needed'
        return replace(found, reason=reason, prior=None)
    reach = _jackknife((shape, shapes[main]), best, parts, intervals)
    return _with_intervals(found, profiles, reach, intervals)


def discordant_shares(
    effect: ArrayLike, standard_error: ArrayLike, *, smallest_effect: float
) -> tuple[float, float]:
    """
    Estimate pi_d and w_d alone, defined or not.

    Parameters
    ----------
    effect, standard_error, smallest_effect
        As for :func:`estimate_discordance`.

    Returns
    -------
    count, size : float
        pi_d and w_d; NaN without a usable observation.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(2)
    >>> x = np.where(rng.random(4000) < 0.3, -2.0, 2.0) + rng.normal(size=4000)
    >>> count, size = discordant_shares(x, np.ones(4000), smallest_effect=0.2)
    >>> abs(count - 0.3) < 0.03, abs(size - 0.3) < 0.03
    (True, True)
    """
    x, s, _ = usable(effect, standard_error)
    if x.size == 0:
        return float('nan'), float('nan')
    shape, grid = (family.of(x, s, smallest_effect) for family in (_HalfUniforms, _Locations))
    return (
        shape.ratio(shape.count, shape.fit(1.0).weights),
        grid.ratio(grid.size, grid.fit(1.0).weights),
    )


def sign_posterior(
    effect: ArrayLike, standard_error: ArrayLike, prior: SignPrior, *, dof: float = np.inf
) -> tuple[FloatArray, FloatArray]:
    """
    Give what is known of the sign of every effect under each distribution of a prior.

    Parameters
    ----------
    effect, standard_error : (V,) array_like
        Estimates with their errors, same unit; NaN where not usable.
    prior : SignPrior
        P distributions, from :func:`estimate_discordance`.
    dof : float
        Degrees of freedom of a Student t of the noise, of the same variance; above 2. Infinite:
        normal noise.

    Returns
    -------
    negative : (P, V) ndarray of float64
        Posterior probability that the true effect is negative; half of the mass at 0 counts.
    false_sign_rate : (P, V) ndarray of float64
        Probability that the more likely sign is wrong; the mass at 0 counts as wrong.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> prior = SignPrior(
    ...     locations=np.array([-1.0, 1.0]), weights=np.array([[0.5, 0.5]]), scales=np.ones(1))
    >>> sign_posterior([0.0, 3.0], [1.0, 1.0], prior)[0].round(3)
    array([[0.5  , 0.002]])
    """
    x, s, used = usable(effect, standard_error)
    shape = (len(prior.scales), used.size)
    negative, rate = np.full(shape, np.nan), np.full(shape, np.nan)
    below, zero = prior.locations < 0, prior.locations == 0
    members = np.flatnonzero(used)
    for start in range(0, x.size, c.POSTERIOR_CHUNK):
        part = slice(start, start + c.POSTERIOR_CHUNK)
        for number, (weights, scale) in enumerate(zip(prior.weights, prior.scales, strict=True)):
            z = (x[part, None] - prior.locations) / (scale * s[part, None])
            joint = _kernel(z, dof) * weights
            joint /= joint.sum(axis=1, keepdims=True)
            mass, at_zero = joint[:, below].sum(axis=1), joint[:, zero].sum(axis=1)
            negative[number, members[part]] = mass + at_zero / 2
            rate[number, members[part]] = at_zero + np.minimum(mass, 1.0 - at_zero - mass)
    return negative, rate


def _kernel(z: FloatArray, dof: float) -> FloatArray:
    """Density of the noise relative to its largest in each row, unit variance."""
    log = -(z**2) / 2
    if np.isfinite(dof):
        log = -(dof + 1) / 2 * np.log1p(z**2 / (dof - 2))
    density: FloatArray = np.exp(log - log.max(axis=1, keepdims=True))
    return density


# --- observations -------------------------------------------------------------------------


def _checked(smallest_effect: float, error_scales: Sequence[float]) -> list[float]:
    """Refuse what is no effect or no scale; give the scales in order."""
    if not 0 <= smallest_effect < np.inf:
        msg = f'the smallest effect must be a number of at least 0, got {smallest_effect}'
        raise ModelInputError(msg)
    if not error_scales or not all(0 < scale < np.inf for scale in error_scales):
        msg = f'error scales must be positive numbers, got {tuple(error_scales)}'
        raise ModelInputError(msg)
    return sorted(float(scale) for scale in error_scales)


def _part(values: ArrayLike, used: BoolArray) -> FloatArray:
    """Select a column of the usable observations."""
    column = np.asarray(values, float)
    if column.shape != used.shape:
        msg = f'blocks and directions must be like the effects, {used.shape}, got {column.shape}'
        raise ModelInputError(msg)
    return column[used]


def _usable_parts(
    left_out: Sequence[tuple[ArrayLike, ArrayLike]] | None,
) -> list[Bins] | None:
    """Bin what can be used of each jackknife sample; none where one of them holds nothing."""
    if left_out is None:
        return None
    parts = [usable(*one)[:2] for one in left_out]
    return [Bins.of(*part) for part in parts] if all(x.size for x, _ in parts) else []


def _squared_t(dof: int) -> float:
    """Square of the quantile of t that an interval reaches to."""
    return float(stats.t.ppf(1 - c.SIGN_ALPHA / 2, max(dof, 1))) ** 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Noise:
    """Blocks within which noise is shared."""

    block: IntArray
    n_blocks: int
    threshold: float

    @classmethod
    def of(cls, labels: FloatArray | IntArray) -> _Noise:
        """Give the blocks numbers."""
        block = np.unique(labels, return_inverse=True)[1].astype(np.int64)
        n_blocks = int(block.max()) + 1
        return cls(block=block, n_blocks=n_blocks, threshold=_squared_t(n_blocks - 1))

    def design_effect(self, term: FloatArray) -> float:
        """Variance of the block sums of a term over that of independent observations."""
        centred = term - term.mean()
        sums = np.bincount(self.block, centred, self.n_blocks)
        spread = float(centred @ centred)
        effect = float(sums @ sums) / spread if spread > 0 else 1.0
        return max(1.0, effect * self.n_blocks / max(self.n_blocks - 1, 1))

    def is_within(self, term: FloatArray) -> tuple[bool, float]:
        """Tell whether a log likelihood ratio is within the limit, and its design effect."""
        lost = max(-2.0 * float(term.sum()), 0.0)
        effect = self.design_effect(term) if lost > 0 else 1.0
        return lost <= effect * self.threshold, effect


# --- families of priors -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Family:
    """
    Components of a distribution of true effects.

    Shares are ratios of sums over the weights: each functional is numerator and denominator (K,).
    """

    bins: Bins
    locations: FloatArray
    """Mean of every component."""
    below: FloatArray
    """Share of each component below minus the smallest effect."""
    above: FloatArray
    smallest_effect: float

    @property
    def count(self) -> tuple[FloatArray, FloatArray]:
        """Functional of pi_d."""
        return self.below, self.below + self.above

    @property
    def size(self) -> tuple[FloatArray, FloatArray]:
        """Functional of w_d."""
        return np.maximum(-self.locations, 0.0), np.abs(self.locations)

    @property
    def null(self) -> tuple[FloatArray, FloatArray]:
        """Functional of the share within the smallest effect."""
        return 1.0 - self.below - self.above, np.ones_like(self.below)

    @staticmethod
    def ratio(functional: tuple[FloatArray, FloatArray], weights: FloatArray) -> float:
        """Value of a functional."""
        part, whole = functional
        return float(part @ weights) / float(whole @ weights)

    def likelihood(self, scale: float, bins: Bins | None = None) -> FloatArray:
        """Density of binned observations (B, K) under each component."""
        raise NotImplementedError

    def fit(self, scale: float) -> MixtureFit:
        """Fit the weights to the observations."""
        return fit_mixture(self.likelihood(scale), self.bins.counts)


class _HalfUniforms(_Family):
    """Uniform distributions from 0 outward, the two sides apart, and a point mass at 0."""

    @classmethod
    def of(cls, x: FloatArray, s: FloatArray, smallest_effect: float) -> _HalfUniforms:
        """Choose the ends for observations."""
        first = max(smallest_effect, float(np.median(s)) / c.SIGN_FIRST_END)
        last = max(float(np.quantile(np.abs(x), 1 - c.SIGN_OUTLIERS)), c.SIGN_NARROWEST * first)
        ends = np.geomspace(first, last, c.SIGN_ENDS)
        beyond = np.clip(1.0 - smallest_effect / ends, 0.0, 1.0)
        nothing = np.zeros(ends.size)
        return cls(
            bins=Bins.of(x, s),
            locations=np.concatenate([-ends[::-1] / 2, [0.0], ends / 2]),
            below=np.concatenate([beyond[::-1], [0.0], nothing]),
            above=np.concatenate([nothing, [0.0], beyond]),
            smallest_effect=smallest_effect,
        )

    def likelihood(self, scale: float, bins: Bins | None = None) -> FloatArray:
        """Integrate the normal density over each component."""
        chosen = self.bins if bins is None else bins
        ends = 2.0 * self.locations[self.locations > 0]
        # a uniform density blurred by the error is a difference of two normal distributions
        at, error = chosen.effect[:, None], scale * chosen.error[:, None]
        centre = ndtr(at / error)
        right = (centre - ndtr((at - ends) / error)) / ends
        left = (ndtr((at + ends) / error) - centre) / ends
        null = np.exp(-((at / error) ** 2) / 2) / (error * np.sqrt(2 * np.pi))
        density: FloatArray = np.maximum(np.hstack([left[:, ::-1], null, right]), c.SIGN_TINY)
        return density


class _Locations(_Family):
    """Point masses on a grid, half an error apart and wider far out."""

    @classmethod
    def of(cls, x: FloatArray, s: FloatArray, smallest_effect: float) -> _Locations:
        """Choose the grid for observations."""
        step = float(np.quantile(s, c.SIGN_GRID_QUANTILE)) / 2
        last = max(float(np.quantile(np.abs(x), 1 - c.SIGN_OUTLIERS)), smallest_effect + step)
        side = [smallest_effect + c.SIGN_EDGE * step]
        while side[-1] < last:
            side.append(side[-1] + max(step, c.SIGN_GROWTH * side[-1]))
        outside = np.array(side)
        inside = [-smallest_effect, 0.0, smallest_effect] if smallest_effect > 0 else [0.0]
        at = np.concatenate([-outside[::-1], inside, outside])
        return cls(
            bins=Bins.of(x, s),
            locations=at,
            below=(at < -smallest_effect).astype(float),
            above=(at > smallest_effect).astype(float),
            smallest_effect=smallest_effect,
        )

    def likelihood(self, scale: float, bins: Bins | None = None) -> FloatArray:
        """Evaluate the normal density at each point, relative to the largest."""
        chosen = self.bins if bins is None else bins
        z = (chosen.effect[:, None] - self.locations) / (scale * chosen.error[:, None])
        return _kernel(z, np.inf)

    def misfit(self, weights: FloatArray, scale: float) -> float:
        """Distance of observed and fitted distribution."""
        z = (self.bins.effect[:, None] - self.locations) / (scale * self.bins.error[:, None])
        return misfit(ndtr(z) @ weights, self.bins.counts)


def _noise_only(grid: _Locations, weights: FloatArray, errors: FloatArray) -> float:
    """Share of negative estimates if every effect were positive with the size it has."""
    levels = np.quantile(errors, np.linspace(0, 1, c.SIGN_LEVELS))
    wrong = ndtr(-np.abs(grid.locations)[None, :] / levels[:, None])
    return float(np.mean(wrong @ weights))


# --- nothing changed ----------------------------------------------------------------------


def _judged(
    found: Discordance,
    profiles: list[_Profile],
    data: tuple[FloatArray, FloatArray, FloatArray | None],
    withheld: str,
) -> Discordance:
    """Add the design effect, and take back what would be a share of nothing."""
    tried = [_is_nothing_enough(profile) for profile in profiles]
    found = replace(found, design_effect=max(effect for _, effect in tried))
    if withheld or any(enough for enough, _ in tried):
        return _withheld(found, withheld or 'no change detectable')
    x, s, sign = data
    if sign is not None:
        offset = float(np.sum(sign * x / s**2) / np.sum(1.0 / s**2))
        if any(_is_offset_enough(one, (sign * x - offset, s, sign)) for one in profiles):
            reason = f'a change of {offset:.3g} common to all voxels explains them'
            return replace(_withheld(found, reason), is_offset=True)
    if found.null.value > 1.0 - c.SMALLEST_CHANGED_FRACTION:
        return replace(found, count=Share())
    return found


def _is_nothing_enough(profile: _Profile) -> tuple[bool, float]:
    """Tell whether effects within the smallest one explain the data, and the design effect."""
    held = profile.likelihood @ _nothing_changed(profile.family, profile.likelihood)
    term = np.log(np.maximum(held, c.SIGN_TINY) / profile.density)[profile.family.bins.member]
    return profile.noise.is_within(term)


def _is_offset_enough(profile: _Profile, data: tuple[FloatArray, FloatArray, FloatArray]) -> bool:
    """Tell whether what is left of a common change lies within the smallest effect."""
    # both hypotheses know where BOLD rises and where it falls: each side has a distribution of
    # its own, free under one and within the smallest effect under the other
    rest, errors, sign = data
    term = np.zeros(rest.size)
    for side in (sign > 0, sign < 0):
        if side.any():
            family = _Locations.of(rest[side], errors[side], profile.family.smallest_effect)
            likelihood = family.likelihood(profile.scale)
            free = likelihood @ fit_mixture(likelihood, family.bins.counts).weights
            held = likelihood @ _nothing_changed(family, likelihood)
            ratio = np.log(np.maximum(held, c.SIGN_TINY) / free)
            term[side] = ratio[family.bins.member]
    return profile.noise.is_within(term)[0]


def _nothing_changed(family: _Family, likelihood: FloatArray) -> FloatArray:
    """Best weights with every effect within the smallest one."""
    # a changed share of 0 is a corner of the simplex that the barrier keeps out of reach: leave
    # out the components beyond the smallest effect instead
    inside = (family.below + family.above) == 0
    fit = fit_mixture(np.maximum(likelihood[:, inside], c.SIGN_TINY), family.bins.counts)
    weights = np.zeros(inside.size)
    weights[inside] = fit.weights
    return weights


def _withheld(found: Discordance, reason: str) -> Discordance:
    """Take back the shares."""
    return replace(
        found,
        count=Share(),
        size=Share(),
        null=replace(found.null, high=1.0),
        location_fraction=np.nan,
        reason=reason,
        prior=None,
    )


# --- intervals ----------------------------------------------------------------------------


class _Profile:
    """Profile likelihood of shares of a family of point masses at one scale of the errors."""

    def __init__(
        self, family: _Locations, scale: float, noise: _Noise, left_out: list[Bins] | None = None
    ) -> None:
        self.family = family
        self.scale = scale
        self.noise = noise
        self.left_out = left_out or []
        self.likelihood = family.likelihood(scale)
        self.fit = fit_mixture(self.likelihood, family.bins.counts)
        self.density = self.likelihood @ self.fit.weights

    @cached_property
    def samples(self) -> list[tuple[FloatArray, FloatArray]]:
        """Likelihood and counts with each participant left out."""
        return [(self.family.likelihood(self.scale, bins), bins.counts) for bins in self.left_out]

    def compare(self, weights: FloatArray) -> tuple[float, float]:
        """Tell how far weights are beyond the limit (at most 0 inside), and the design effect."""
        ratio = np.log(np.maximum(self.likelihood @ weights, c.SIGN_TINY) / self.density)
        term = ratio[self.family.bins.member]
        lost = max(-2.0 * float(term.sum()), 0.0)
        effect, reach = 1.0, self.noise.threshold
        if self.left_out:
            # what participants make the ratio scatter by is noise alone, however wide; blocks
            # also scatter by what is true in them
            effect = self._scatter_over_participants(weights, term)
            reach = _squared_t(len(self.left_out) - 1)
        elif lost > 0:
            effect = self.noise.design_effect(term)
        return np.sqrt(lost / effect) - np.sqrt(reach), effect

    def _scatter_over_participants(self, weights: FloatArray, term: FloatArray) -> float:
        """Jackknife variance of the log likelihood ratio over that of independent voxels."""
        means = np.array([
            counts @ np.log(np.maximum(likelihood @ weights, c.SIGN_TINY)
                            / (likelihood @ self.fit.weights)) / counts.sum()
            for likelihood, counts in self.samples
        ])  # fmt: skip
        n_samples, spread = means.size, float(np.sum((term - term.mean()) ** 2))
        variance = (n_samples - 1) / n_samples * np.sum((term.size * (means - means.mean())) ** 2)
        return max(1.0, float(variance) / spread) if spread > 0 else 1.0

    def weights_at(self, functional: tuple[FloatArray, FloatArray], value: float) -> FloatArray:
        """Best weights that give a functional a value."""
        part, whole = functional
        constraint = part - value * whole
        constraint = constraint / np.abs(constraint).max()
        best = self.fit.weights
        start = (1 - c.SIGN_BLEND) * best + c.SIGN_BLEND / best.size
        up, down = constraint > 0, constraint < 0
        if up.any() and down.any():
            gain, loss = constraint[up] @ start[up], -(constraint[down] @ start[down])
            start[up] *= np.sqrt(loss / gain)
            start[down] *= np.sqrt(gain / loss)
        fit = fit_mixture(
            self.likelihood, self.family.bins.counts, constraint=constraint, start=start
        )
        return fit.weights

    def end(
        self,
        functional: tuple[FloatArray, FloatArray],
        inner: tuple[float, FloatArray],
        outer: float,
    ) -> tuple[float, FloatArray, float]:
        """Search the end of an interval between a value inside, with its weights, and a limit."""
        weights = self.weights_at(functional, outer)
        above, effect = self.compare(weights)
        if above <= 0:
            return outer, weights, effect
        near, kept = inner
        below, far = min(self.compare(kept)[0], -c.SIGN_EDGE), outer
        for number in range(c.SIGN_BISECTIONS):
            # the excess is nearly straight: regula falsi; bisect where one side sticks
            sticks = (number + 1) % c.SIGN_BISECT_EVERY == 0
            step = 1 / 2 if sticks else -below / (above - below)
            value = near + float(np.clip(step, *c.SIGN_STEPS)) * (far - near)
            weights = self.weights_at(functional, value)
            excess, effect = self.compare(weights)
            if excess <= 0:
                near, below, kept = value, min(excess, -c.SIGN_EDGE), weights
            else:
                far, above = value, excess
            if abs(far - near) < c.SIGN_END_WIDTH:
                break
        return near, kept, effect


def _union(
    profiles: list[_Profile], functional: tuple[FloatArray, FloatArray], upward: bool
) -> tuple[float, FloatArray, float, float]:
    """Find one end of the union of intervals: value, its weights, error scale, design effect."""
    outer = 1.0 - c.SIGN_END if upward else c.SIGN_END
    direction = 1.0 if upward else -1.0
    points = [one.family.ratio(functional, one.fit.weights) for one in profiles]
    order = np.argsort([-direction * point for point in points])
    first = profiles[order[0]]
    start = points[order[0]], first.fit.weights
    reached = (*first.end(functional, start, outer), first.scale)
    for number in order[1:]:
        profile, value = profiles[number], reached[0]
        weights = profile.weights_at(functional, value)
        if value != outer and profile.compare(weights)[0] <= 0:
            reached = (*profile.end(functional, (value, weights), outer), profile.scale)
    value, weights, effect, scale = reached
    limit = 1.0 if upward else 0.0
    return limit if value == outer else value, weights, scale, effect


def _with_intervals(
    found: Discordance,
    profiles: list[_Profile],
    reach: dict[str, float],
    intervals: Collection[str],
) -> Discordance:
    """Add the intervals and the distributions at both ends of that of pi_d."""
    shares = {'count': found.count, 'size': found.size, 'null': found.null}
    effects = [found.design_effect]
    prior = found.prior
    for name in intervals:
        functional = getattr(profiles[0].family, name)
        ends = [_union(profiles, functional, upward) for upward in (False, True)]
        shares[name] = _widened(shares[name], ends, reach[name])
        effects += [effect for *_, effect in ends]
        if name == 'count' and prior is not None:
            prior = SignPrior(
                locations=prior.locations,
                weights=np.stack([prior.weights[0], *(end[1] for end in ends)]),
                scales=np.array([prior.scales[0], *(end[2] for end in ends)]),
            )
    return replace(
        found,
        count=shares['count'],
        size=shares['size'],
        null=shares['null'],
        design_effect=max(effects),
        prior=prior,
    )


def _widened(
    share: Share, ends: list[tuple[float, FloatArray, float, float]], reach: float
) -> Share:
    """Unite the profile with the jackknife around the estimates of all error scales."""
    if not np.isfinite(share.value):
        return share
    points = (*share.by_scale, share.value)
    moved = np.nan_to_num(reach)
    return replace(
        share,
        low=max(0.0, min(ends[0][0], min(points) - moved)),
        high=min(1.0, max(ends[1][0], max(points) + moved)),
        jackknife=reach,
    )


def _jackknife(
    shape: tuple[_Family, MixtureFit],
    best: _Profile,
    left_out: list[Bins] | None,
    intervals: Collection[str],
) -> dict[str, float]:
    """Give half the width of the jackknife intervals of pi_d and of w_d; 1 is all there is."""
    reach = {'count': 1.0, 'size': 1.0, 'null': 0.0}
    if left_out is not None and not left_out:
        return reach  # without one of the participants nothing is left to say how they vary
    for name, family, fit in (('count', *shape), ('size', best.family, best.fit)):
        if name not in intervals:
            continue
        if left_out is None:
            samples = _without_blocks(family, best.scale, best.noise)
        elif name == 'size':
            samples = best.samples
        else:
            samples = [(family.likelihood(best.scale, bins), bins.counts) for bins in left_out]
        functional = getattr(family, name)
        reach[name] = jackknife_reach([
            family.ratio(functional, fit_mixture(*sample, start=fit.weights).weights)
            for sample in samples
        ])  # fmt: skip
    return reach


def _without_blocks(
    family: _Family, scale: float, noise: _Noise
) -> list[tuple[FloatArray, FloatArray]]:
    """Give likelihood and counts with each group of blocks left out."""
    likelihood, n_bins = family.likelihood(scale), family.bins.counts.size
    n_groups = min(noise.n_blocks, c.JACKKNIFE_GROUPS)
    group = noise.block % n_groups
    removed = np.bincount(group * n_bins + family.bins.member, minlength=n_groups * n_bins)
    samples = []
    for part in removed.reshape(n_groups, n_bins):
        counts = family.bins.counts - part
        kept = counts > 0
        samples.append((likelihood[kept], counts[kept]))
    return samples


def jackknife_reach(values: ArrayLike) -> float:
    r"""
    Give half the width of a 95 % jackknife interval.

    Parameters
    ----------
    values : (G,) array_like
        Of an estimate with each of G parts of the data left out.

    Returns
    -------
    reach : float
        :math:`t_{G-1} \sqrt{\tfrac{G-1}{G} \sum_g (v_g - \bar v)^2}`; NaN with fewer than two
        parts or where a value is missing.

    Notes
    -----
    The bootstrap over participants must not be used in its place: a sample holds some participants
    twice, and with them their noise, which looks like discordance.

    Examples
    --------
    >>> round(jackknife_reach([0.19, 0.21, 0.2, 0.2]), 3)
    0.039
    """
    v = np.asarray(values, float)
    if v.size < 2 or not np.isfinite(v).all():
        return float('nan')
    error = np.sqrt((v.size - 1) / v.size * np.sum((v - v.mean()) ** 2))
    return float(stats.t.ppf(1 - c.SIGN_ALPHA / 2, v.size - 1) * error)
