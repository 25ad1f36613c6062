"""
Signs of effects that are measured with error: adaptive shrinkage on two columns.

Give it effects and their standard errors, nothing else is needed::

    from bids_app.models.concordance.ashr import estimate_discordance, false_sign_rate
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.special import ndtr

import bids_app.models.constants as c
from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MixtureFit:
    """
    Weights of a mixture that make the observations most likely.

    Parameters
    ----------
    weights : (K,) ndarray of float64
        Of the components; positive, they add up to 1.
    log_likelihood : float
        Of the observations, without the barrier, up to a constant.
    iterations : int
        Newton steps in all.
    converged : bool
        False where a barrier ran out of steps.
    """

    weights: FloatArray
    log_likelihood: float
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SignPosterior:
    """
    What is known of the sign of every effect.

    Parameters
    ----------
    negative : (V,) ndarray of float64
        Posterior probability that the true effect is negative; half of the point mass at 0 counts
        as negative. NaN without a usable observation.
    false_sign_rate : (V,) ndarray of float64
        Local false sign rate: probability that the more likely sign is wrong; the point mass at 0
        counts as wrong.
    null_fraction : float
        Weight of the point mass at 0; NaN where the prior was not fitted.
    fit : MixtureFit or None
        Of the prior.
    misfit : float
        Largest distance of the distribution of the observations from that of the fit, in [0, 1].
    """

    negative: FloatArray
    false_sign_rate: FloatArray
    null_fraction: float = float('nan')
    fit: MixtureFit | None = None
    misfit: float = float('nan')


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Discordance:
    """
    Share of negative effects that survives measurement error, with all that belongs to it.

    Parameters
    ----------
    fraction : float
        pi_d = p_- / (p_- + p_+), half-uniform family; NaN where undefined.
    ci_low, ci_high : float
        95 % interval; NaN where undefined or without enough blocks.
    null_fraction : float
        p_0, share of effects within the smallest effect of interest.
    null_low, null_high : float
        Its 95 % interval.
    location_fraction : float
        pi_d with point masses on a grid instead: the sensitivity to the family.
    smaller_error_fraction, larger_error_fraction : float
        pi_d with 0.9 and 1.1 times the standard errors.
    sign_fraction : float
        Share of negative estimates: what the sign rule says.
    noise_only_fraction : float
        What the sign rule would say if every true effect were positive with the size it has.
    n_used, n_blocks : int
        Observations and spatial blocks.
    design_effect : float
        By how much the correlation of the noise widens the variance of the estimate.
    misfit : float
        As in :class:`SignPosterior`.
    converged : bool
        Of all fits.
    reason : str
        Why there is no number; empty where there is one.
    """

    fraction: float = float('nan')
    ci_low: float = float('nan')
    ci_high: float = float('nan')
    null_fraction: float = float('nan')
    null_low: float = float('nan')
    null_high: float = float('nan')
    location_fraction: float = float('nan')
    smaller_error_fraction: float = float('nan')
    larger_error_fraction: float = float('nan')
    sign_fraction: float = float('nan')
    noise_only_fraction: float = float('nan')
    n_used: int = 0
    n_blocks: int = 0
    design_effect: float = float('nan')
    misfit: float = float('nan')
    converged: bool = True
    reason: str = ''


def fit_mixture(
    likelihood: ArrayLike,
    counts: ArrayLike,
    *,
    constraint: ArrayLike | None = None,
    start: ArrayLike | None = None,
) -> MixtureFit:
    r"""
    Find the weights of a mixture that make counted observations most likely.

    Parameters
    ----------
    likelihood : (B, K) array_like
        Density of each observation under each component; scaling a row changes nothing.
    counts : (B,) array_like
        How often each observation occurs; not negative.
    constraint : (K,) array_like, optional
        Coefficients c; the weights are then held to ``c @ weights == 0``.
    start : (K,) array_like, optional
        Positive weights to start from; the widest barrier is then left out. None: equal weights.

    Returns
    -------
    fit : MixtureFit
        The optimum.

    Raises
    ------
    ModelInputError
        If the shapes differ or an observation is impossible under every component.

    See Also
    --------
    false_sign_rate, estimate_discordance : Use it.

    Notes
    -----
    The problem is convex. It is solved by Newton's method on

    .. math:: \frac1N \sum_i n_i \log (L w)_i + \mu \sum_k \log w_k, \qquad 1^T w = 1

    for barriers mu of 1e-2, 1e-3, 1e-4 and 1e-5 in turn. The last one stays: it adds
    N/100,000 observations per component, which keeps weights positive and the optimum unique.

    Examples
    --------
    >>> fit_mixture([[1.0, 0.0], [0.0, 1.0]], [30, 10]).weights.round(3)
    array([0.75, 0.25])
    """
    matrix, n = np.asarray(likelihood, float), np.asarray(counts, float)
    if matrix.ndim != 2 or n.shape != matrix.shape[:1] or not np.all(matrix.max(axis=1) > 0):
        msg = 'every observation needs one likelihood per component, one of them positive'
        raise ModelInputError(msg)
    matrix = matrix / matrix.max(axis=1, keepdims=True)
    share = n / n.sum()
    size = matrix.shape[1]
    rows = [np.ones(size)] if constraint is None else [np.ones(size), np.asarray(constraint)]
    held, target = np.stack(rows), np.eye(len(rows))[0]
    weights: FloatArray = (
        np.full(size, 1.0 / size) if start is None else np.array(start, float, copy=True)
    )
    steps, converged = 0, True
    for barrier in c.MIXTURE_BARRIERS if start is None else c.MIXTURE_BARRIERS[1:]:
        settled = False
        for _ in range(c.MIXTURE_STEPS):
            move = _newton_step(matrix, share, weights, (barrier, held, target))
            # the barrier is infinite at a weight of 0: a step goes part of the way there at most,
            # and only one that was not cut short can tell that the optimum is reached
            shrinking = move < 0
            to_zero = np.min(-weights[shrinking] / move[shrinking], initial=np.inf)
            room = c.MIXTURE_STEP_TO_BOUNDARY * to_zero
            weights = weights + min(1.0, room) * move
            steps += 1
            settled = bool(room >= 1.0 and np.abs(move / weights).max() < c.MIXTURE_TOLERANCE)
            if settled:
                break
        converged &= settled
    return MixtureFit(
        weights=weights,
        log_likelihood=float(n @ np.log(matrix @ weights)),
        iterations=steps,
        converged=converged,
    )


def _newton_step(
    matrix: FloatArray,
    share: FloatArray,
    weights: FloatArray,
    problem: tuple[float, FloatArray, FloatArray],
) -> FloatArray:
    """Solve for the change of the weights; `problem` is barrier, constraints, their targets."""
    barrier, held, target = problem
    density = matrix @ weights
    ratio = share / density
    gradient = ratio @ matrix + barrier / weights
    scaled = matrix * np.sqrt(ratio / density)[:, None]
    hessian = scaled.T @ scaled
    hessian[np.diag_indices_from(hessian)] += barrier / weights**2
    # optimum of the quadratic model with the constraints held by multipliers, the last unknowns
    size, n_held = weights.size, target.size
    system = np.zeros((size + n_held, size + n_held))
    system[:size, :size] = hessian
    system[:size, size:] = held.T
    system[size:, :size] = held
    solution = np.linalg.solve(system, np.concatenate([gradient, target - held @ weights]))
    move: FloatArray = solution[:size]
    return move


def false_sign_rate(effect: ArrayLike, standard_error: ArrayLike) -> SignPosterior:
    r"""
    Estimate how likely the sign of every effect is wrong.

    Parameters
    ----------
    effect : (V,) array_like
        Estimated effects, any unit.
    standard_error : (V,) array_like
        Their standard errors, same unit. Observations that are not finite or whose error is not
        positive are left out: NaN.

    Returns
    -------
    posterior : SignPosterior
        Per effect; NaN where it is not usable.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    estimate_discordance : The share of one sign among all effects.

    Notes
    -----
    The prior is a point mass at 0 and normal distributions around 0, of standard deviations that
    double from a tenth of the smallest error to twice the largest effect; their weights come
    from the data. It is symmetric, so it takes no side: the posterior is conservative, and the
    share of signs cannot be read from it. With fewer than 30 effects there is no telling their
    sizes: each is judged by its own error, and its rate is its two-sided probability.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> truth = rng.normal(0, 3, 2000)
    >>> posterior = false_sign_rate(truth + rng.normal(size=2000), np.ones(2000))
    >>> sure = posterior.false_sign_rate < 0.05
    >>> bool(np.mean((posterior.negative > 0.5)[sure] != (truth < 0)[sure]) < 0.05)
    True
    """
    x, s, used = _usable(effect, standard_error)
    negative, rate = np.full(used.shape, np.nan), np.full(used.shape, np.nan)
    if x.size < c.FEWEST_EFFECTS:
        negative[used], rate[used] = ndtr(-x / s), 2.0 * ndtr(-np.abs(x / s))
        return SignPosterior(negative=negative, false_sign_rate=rate)
    scales = _normal_scales(x, s)
    bins = _Bins.of(x, s)
    fit = fit_mixture(_normal_density(bins.effect, bins.error, scales), bins.counts)
    joint = _normal_density(x, s, scales) * fit.weights
    joint /= joint.sum(axis=1, keepdims=True)
    # a normal prior and a normal error give a normal posterior, shrunk towards 0; the point mass
    # (the first component) has no side, and half of it counts for either
    shrink = scales**2 / (scales**2 + s[:, None] ** 2)
    spread = np.sqrt(shrink[:, 1:]) * s[:, None]
    below = np.sum(joint[:, 1:] * ndtr(-shrink[:, 1:] * x[:, None] / spread), axis=1)
    at_zero = joint[:, 0]
    negative[used] = below + at_zero / 2
    rate[used] = at_zero + np.minimum(below, 1.0 - at_zero - below)
    total = np.sqrt(scales**2 + bins.error[:, None] ** 2)
    expected = ndtr(bins.effect[:, None] / total) @ fit.weights
    return SignPosterior(
        negative=negative,
        false_sign_rate=rate,
        null_fraction=float(fit.weights[0]),
        fit=fit,
        misfit=_misfit(expected, bins.counts),
    )


def estimate_discordance(
    effect: ArrayLike,
    standard_error: ArrayLike,
    *,
    smallest_effect: float,
    blocks: ArrayLike | None = None,
    interval: bool = True,
) -> Discordance:
    r"""
    Estimate the share of negative effects behind noisy estimates.

    Parameters
    ----------
    effect : (V,) array_like
        Change of CMRO2 times the sign of the BOLD change: negative where discordant.
    standard_error : (V,) array_like
        Standard errors, same unit; observations that are not finite or whose error is not
        positive are left out.
    smallest_effect : float
        Smallest effect of interest delta, not negative; smaller ones count as no change.
    blocks : (V,) array_like of int, optional
        Spatial block of each observation, see :func:`spatial_blocks`; noise may be correlated
        within, not between blocks. None: every observation is independent.
    interval : bool
        Compute the intervals too.

    Returns
    -------
    discordance : Discordance
        Undefined, with a reason, where nothing is usable, where less than a tenth of the effects
        exceeds `smallest_effect`, or where the interval of that share reaches 0.

    Raises
    ------
    ModelInputError
        If the shapes differ or `smallest_effect` is negative.

    See Also
    --------
    false_sign_rate : The same question per voxel.

    Notes
    -----
    The observations are x = theta + s e with the known errors s. The distribution of theta is

    - for the estimate: uniform distributions from 0 to 16 ends on either side, with weights of
      their own for the two sides, and a point mass at 0;
    - for the sensitivity and the intervals: point masses on a grid half an error apart, which
      assumes nothing on the shape.

    The interval holds all values of pi_d whose profile likelihood is close enough to the maximum,

    .. math:: 2\,[\ell_{max} - \ell(\pi_d)] \le \lambda\, t^2_{B-1}

    where lambda is the variance of the block sums of the log likelihood ratio over that of
    independent observations, and t the .975 quantile with as many degrees of freedom as blocks
    less one. It is widened to hold the estimate, should the families disagree. Unlike a jackknife
    around the estimate it includes what the noise hides: shapes that fit equally well.

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
    >>> found.ci_low < 0.3 < found.ci_high, round(found.sign_fraction, 1)
    (True, 0.4)
    """
    if not 0 <= smallest_effect < np.inf:
        msg = f'the smallest effect must be a number of at least 0, got {smallest_effect}'
        raise ModelInputError(msg)
    x, s, used = _usable(effect, standard_error)
    if x.size == 0:
        return Discordance(reason='no voxel with an estimate and its error')
    block = np.arange(x.size) if blocks is None else _blocks_of(blocks, used)
    n_blocks = int(block.max()) + 1
    shape = _half_uniforms(x, s, smallest_effect)
    grid = _locations(x, s, smallest_effect)
    unit = float(np.median(s))
    smaller, larger = (
        _fraction(_half_uniforms(x, factor * s, smallest_effect))
        for factor in c.SIGN_ERROR_FACTORS
    )
    profile = _Profile(grid, block, n_blocks)
    null_low, null_high = profile.null_interval() if interval else (np.nan, np.nan)
    found = Discordance(
        fraction=_fraction(shape),
        null_fraction=_null(shape),
        null_low=min(null_low, _null(shape)) if interval else np.nan,
        null_high=max(null_high, _null(shape)) if interval else np.nan,
        location_fraction=_fraction(grid),
        smaller_error_fraction=smaller,
        larger_error_fraction=larger,
        sign_fraction=float(np.mean(x < 0)),
        noise_only_fraction=_noise_only(grid, s / unit, unit),
        n_used=x.size,
        n_blocks=n_blocks,
        design_effect=profile.null_design_effect,
        misfit=grid.misfit(),
        converged=shape.fit.converged and grid.fit.converged,
    )
    return _judged(found, profile, interval=interval)


def discordant_fraction(
    effect: ArrayLike, standard_error: ArrayLike, *, smallest_effect: float
) -> float:
    """
    Estimate pi_d alone, as often as a jackknife needs it.

    Parameters
    ----------
    effect, standard_error, smallest_effect
        As for :func:`estimate_discordance`.

    Returns
    -------
    fraction : float
        pi_d of the half-uniform family, defined or not; NaN without a usable observation.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    estimate_discordance : With all that belongs to it; five times slower.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(2)
    >>> x = np.where(rng.random(4000) < 0.3, -2.0, 2.0) + rng.normal(size=4000)
    >>> abs(discordant_fraction(x, np.ones(4000), smallest_effect=0.2) - 0.3) < 0.03
    True
    """
    x, s, _ = _usable(effect, standard_error)
    return _fraction(_half_uniforms(x, s, smallest_effect)) if x.size else float('nan')


def _judged(found: Discordance, profile: _Profile, *, interval: bool) -> Discordance:
    """Add the interval of pi_d, or withdraw it where there is nothing to take a share of."""
    if profile.is_null_possible() or found.null_fraction > 1.0 - c.SMALLEST_CHANGED_FRACTION:
        return replace(
            found,
            fraction=np.nan,
            location_fraction=np.nan,
            smaller_error_fraction=np.nan,
            larger_error_fraction=np.nan,
            reason='no change detectable',
        )
    if not interval:
        return found
    if found.n_blocks < c.FEWEST_NOISE_BLOCKS:
        reason = f'no interval: {found.n_blocks} blocks of noise, {c.FEWEST_NOISE_BLOCKS} needed'
        return replace(found, reason=reason)
    low, high, design_effect = profile.fraction_interval()
    return replace(
        found,
        ci_low=min(low, found.fraction),
        ci_high=max(high, found.fraction),
        design_effect=design_effect,
    )


def spatial_blocks(coordinates: ArrayLike, *, side: float) -> IntArray:
    """
    Cut space into cubes.

    Parameters
    ----------
    coordinates : (V, 3) array_like
        Positions, mm.
    side : float
        Length of the cubes, mm; at least three times the width of the noise correlation.

    Returns
    -------
    blocks : (V,) ndarray of int64
        Number of the cube of each position, from 0 without gaps.

    Raises
    ------
    ModelInputError
        If the side is not positive or the positions are not triples.

    Examples
    --------
    >>> spatial_blocks([[0, 0, 0], [9, 0, 0], [11, 0, 0]], side=10.0)
    array([0, 0, 1])
    """
    points = np.asarray(coordinates, float)
    if points.ndim != 2 or points.shape[1] != 3 or not 0 < side < np.inf:
        msg = 'blocks need positions of shape (V, 3) and a positive side'
        raise ModelInputError(msg)
    if points.shape[0] == 0:
        return np.empty(0, np.int64)
    cube = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    span = cube.max(axis=0) + 1
    flat = (cube[:, 0] * span[1] + cube[:, 1]) * span[2] + cube[:, 2]
    return np.unique(flat, return_inverse=True)[1].astype(np.int64)


# --- observations -------------------------------------------------------------------------


def _usable(effect: ArrayLike, error: ArrayLike) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Select what can be used."""
    x, s = np.asarray(effect, float), np.asarray(error, float)
    if x.ndim != 1 or x.shape != s.shape:
        msg = f'effects and errors must be two equal columns, got {x.shape} and {s.shape}'
        raise ModelInputError(msg)
    used = np.isfinite(x) & np.isfinite(s) & (s > 0)
    return x[used], s[used], used


def _blocks_of(blocks: ArrayLike, used: BoolArray) -> IntArray:
    """Renumber the blocks of the usable observations."""
    block = np.asarray(blocks)
    if block.shape != used.shape:
        msg = f'blocks must have the shape {used.shape} of the effects, got {block.shape}'
        raise ModelInputError(msg)
    return np.unique(block[used], return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Bins:
    """Observations that are nearly alike, counted."""

    effect: FloatArray
    error: FloatArray
    counts: FloatArray
    member: IntArray
    """Bin of every observation."""

    @classmethod
    def of(cls, x: FloatArray, s: FloatArray) -> _Bins:
        """Bin by effect over error and by the logarithm of the error; keep the means."""
        # the fit then costs what the bins cost, however many voxels there are
        z = np.rint(np.clip(x / s, -c.SIGN_LARGEST_Z, c.SIGN_LARGEST_Z) / c.SIGN_Z_BIN).astype(
            np.int64
        )
        level = np.rint(np.log(s / np.median(s)) / c.SIGN_ERROR_BIN).astype(np.int64)
        key = (level - level.min()) * (z.max() - z.min() + 1) + (z - z.min())
        member = np.unique(key, return_inverse=True)[1].astype(np.int64)
        counts = np.bincount(member).astype(float)
        return cls(
            effect=np.bincount(member, x) / counts,
            error=np.bincount(member, s) / counts,
            counts=counts,
            member=member,
        )


def _misfit(expected: FloatArray, counts: FloatArray) -> float:
    """Distance of the probability transforms from a uniform distribution."""
    order = np.argsort(expected)
    reached = np.cumsum(counts[order])
    middle = (reached - counts[order] / 2) / reached[-1]
    return float(np.abs(middle - expected[order]).max())


# --- families of priors -------------------------------------------------------------------


def _normal_scales(x: FloatArray, s: FloatArray) -> FloatArray:
    """Give the standard deviations of the components, the first that of the point mass."""
    smallest = float(np.quantile(s, c.SIGN_TAIL)) / c.SIGN_FINEST
    largest = max(2 * float(np.abs(x).max()), c.SIGN_NARROWEST * smallest)
    number = int(np.ceil(np.log2(largest / smallest))) + 1
    return np.concatenate([[0.0], np.geomspace(smallest, largest, number)])


def _normal_density(x: FloatArray, s: FloatArray, scales: FloatArray) -> FloatArray:
    """Density of each observation under each component, relative to its largest."""
    variance = scales**2 + s[:, None] ** 2
    log = -(x[:, None] ** 2 / variance + np.log(variance)) / 2
    density: FloatArray = np.exp(log - log.max(axis=1, keepdims=True))
    return density


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Prior:
    """A fitted family: its weights, and how much of each component lies where."""

    bins: _Bins
    likelihood: FloatArray
    below: FloatArray
    """Share of each component below minus the smallest effect."""
    above: FloatArray
    fit: MixtureFit
    locations: FloatArray

    def misfit(self) -> float:
        """Distance of observed and fitted distribution (families of point masses)."""
        z = (self.bins.effect[:, None] - self.locations) / self.bins.error[:, None]
        return _misfit(ndtr(z) @ self.fit.weights, self.bins.counts)


def _half_uniforms(x: FloatArray, s: FloatArray, smallest_effect: float) -> _Prior:
    """Fit uniform distributions from 0 outward, the two sides apart."""
    bins = _Bins.of(x, s)
    first = max(smallest_effect, float(np.median(s)) / c.SIGN_FIRST_END)
    last = max(float(np.quantile(np.abs(x), 1 - c.SIGN_OUTLIERS)), c.SIGN_NARROWEST * first)
    ends = np.geomspace(first, last, c.SIGN_ENDS)
    # a uniform density blurred by the error is a difference of two normal distributions
    at, error = bins.effect[:, None], bins.error[:, None]
    centre = ndtr(at / error)
    right = (centre - ndtr((at - ends) / error)) / ends
    left = (ndtr((at + ends) / error) - centre) / ends
    null = np.exp(-((at / error) ** 2) / 2) / (error * np.sqrt(2 * np.pi))
    likelihood = np.maximum(np.hstack([left[:, ::-1], null, right]), c.SIGN_TINY)
    beyond = np.clip(1.0 - smallest_effect / ends, 0.0, 1.0)
    nothing = np.zeros(ends.size)
    return _Prior(
        bins=bins,
        likelihood=likelihood,
        below=np.concatenate([beyond[::-1], [0.0], nothing]),
        above=np.concatenate([nothing, [0.0], beyond]),
        fit=fit_mixture(likelihood, bins.counts),
        locations=np.concatenate([-ends[::-1] / 2, [0.0], ends / 2]),
    )


def _locations(x: FloatArray, s: FloatArray, smallest_effect: float) -> _Prior:
    """Fit point masses on a grid, half an error apart and wider far out."""
    bins = _Bins.of(x, s)
    step = float(np.quantile(s, c.SIGN_GRID_QUANTILE)) / 2
    last = max(float(np.quantile(np.abs(x), 1 - c.SIGN_OUTLIERS)), smallest_effect + step)
    side = [smallest_effect + c.SIGN_EDGE * step]
    while side[-1] < last:
        side.append(side[-1] + max(step, c.SIGN_GROWTH * side[-1]))
    outside = np.array(side)
    inside = [-smallest_effect, 0.0, smallest_effect] if smallest_effect > 0 else [0.0]
    at = np.concatenate([-outside[::-1], inside, outside])
    log = -(((bins.effect[:, None] - at) / bins.error[:, None]) ** 2) / 2
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    return _Prior(
        bins=bins,
        likelihood=likelihood,
        below=(at < -smallest_effect).astype(float),
        above=(at > smallest_effect).astype(float),
        fit=fit_mixture(likelihood, bins.counts),
        locations=at,
    )


def _fraction(prior: _Prior) -> float:
    """Share pi_d of negative effects among those beyond the smallest one."""
    below = float(prior.below @ prior.fit.weights)
    above = float(prior.above @ prior.fit.weights)
    return below / (below + above)


def _null(prior: _Prior) -> float:
    """Share of effects within the smallest one."""
    return float(1.0 - (prior.below + prior.above) @ prior.fit.weights)


def _noise_only(grid: _Prior, relative_error: FloatArray, unit: float) -> float:
    """Share of negative estimates if every effect were positive with the size it has."""
    errors = np.quantile(relative_error, np.linspace(0, 1, c.SIGN_LEVELS)) * unit
    wrong = ndtr(-np.abs(grid.locations)[None, :] / errors[:, None])
    return float(np.mean(wrong @ grid.fit.weights))


# --- intervals ----------------------------------------------------------------------------


class _Profile:
    """Profile likelihood of shares of a family of point masses, for noise with blocks."""

    def __init__(self, prior: _Prior, block: IntArray, n_blocks: int) -> None:
        self.prior = prior
        self.block = block
        self.n_blocks = n_blocks
        self.threshold = float(stats.t.ppf(1 - c.SIGN_ALPHA / 2, max(n_blocks - 1, 1)) ** 2)
        self.density = prior.likelihood @ prior.fit.weights
        self._null = self._nothing_changed()

    @property
    def null_design_effect(self) -> float:
        """Widening of the variance at the hypothesis that nothing changed."""
        return self._null[1]

    def is_null_possible(self) -> bool:
        """Tell whether the interval of the changed share reaches 0."""
        return self._null[0]

    def _nothing_changed(self) -> tuple[bool, float]:
        # a changed share of 0 is a corner of the simplex that the barrier keeps out of reach:
        # leave out the components beyond the smallest effect instead
        inside = (self.prior.below + self.prior.above) == 0
        fit = fit_mixture(
            np.maximum(self.prior.likelihood[:, inside], c.SIGN_TINY), self.prior.bins.counts
        )
        weights = np.zeros(inside.size)
        weights[inside] = fit.weights
        return self._is_possible(weights)

    def _is_possible(self, weights: FloatArray) -> tuple[bool, float]:
        """Compare weights with the best ones; give the verdict and the design effect."""
        density = np.maximum(self.prior.likelihood @ weights, c.SIGN_TINY)
        ratio = np.log(density / self.density)
        lost = -2.0 * float(self.prior.bins.counts @ ratio)
        if lost <= 0:
            return True, 1.0
        # noise that is alike within a block makes the log likelihood ratio of a block vary more
        # than its voxels would on their own; by as much the drop exceeds a chi square (Kent)
        term = ratio[self.prior.bins.member]
        term = term - term.mean()
        sums = np.bincount(self.block, term, self.n_blocks)
        spread = float(term @ term)
        effect = float(sums @ sums) / spread if spread > 0 else 1.0
        effect = max(1.0, effect * self.n_blocks / max(self.n_blocks - 1, 1))
        return lost <= effect * self.threshold, effect

    def _weights_at(self, constraint: FloatArray) -> FloatArray:
        """Best weights under a constraint."""
        # near the optimum but off every bound; then both sides of the constraint are brought to
        # their geometric mean, so that the start fulfils it and Newton steps stay on it
        best = self.prior.fit.weights
        start = (1 - c.SIGN_BLEND) * best + c.SIGN_BLEND / best.size
        up, down = constraint > 0, constraint < 0
        if up.any() and down.any():
            gain, loss = constraint[up] @ start[up], -(constraint[down] @ start[down])
            start[up] *= np.sqrt(loss / gain)
            start[down] *= np.sqrt(gain / loss)
        fit = fit_mixture(
            self.prior.likelihood, self.prior.bins.counts, constraint=constraint, start=start
        )
        return fit.weights

    def _end(
        self, inner: float, outer: float, constraint_at: Callable[[float], FloatArray]
    ) -> tuple[float, float]:
        """Search the end of an interval between a value inside and the end of the range."""
        # bisection, after a first look at the end of the range: most intervals that are open there
        # need that look only
        effect = 1.0
        for number in range(c.SIGN_BISECTIONS):
            value = outer if number == 0 else (inner + outer) / 2
            weights = self._weights_at(constraint_at(value))
            possible, effect = self._is_possible(weights)
            if possible:
                inner = value
                if number == 0:
                    break
            else:
                outer = value
        return inner, effect

    def fraction_interval(self) -> tuple[float, float, float]:
        """Interval of pi_d, and the larger design effect of its ends."""
        below, above = self.prior.below, self.prior.above
        best = _fraction(self.prior)

        # a share is a ratio of weights, but that it has a given value is linear in them
        def constraint(value: float) -> FloatArray:
            return (1.0 - value) * below - value * above

        low, first = self._end(best, c.SIGN_END, constraint)
        high, second = self._end(best, 1.0 - c.SIGN_END, constraint)
        return (
            (0.0 if low <= c.SIGN_END else low),
            (1.0 if high >= 1 - c.SIGN_END else high),
            max(first, second),
        )

    def null_interval(self) -> tuple[float, float]:
        """Interval of the share of effects within the smallest one."""
        changed = self.prior.below + self.prior.above
        best = _null(self.prior)

        def constraint(value: float) -> FloatArray:
            return (1.0 - value) * (1.0 - changed) - value * changed

        low, _ = self._end(best, c.SIGN_END, constraint)
        high = 1.0 if self.is_null_possible() else self._end(best, 1.0 - c.SIGN_END, constraint)[0]
        return (0.0 if low <= c.SIGN_END else low), high
