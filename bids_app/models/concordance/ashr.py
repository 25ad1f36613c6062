"""
Signs of effects that are measured with error: adaptive shrinkage on two columns.

Give it effects and their standard errors, nothing else is needed::

    from bids_app.models.concordance.ashr import false_sign_rate
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

import bids_app.models.constants as c
from bids_app.errors import ModelInputError

if TYPE_CHECKING:
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
        False where it ran out of steps.
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
        Positive weights to start from. None: equal weights.

    Returns
    -------
    fit : MixtureFit
        The optimum.

    Raises
    ------
    ModelInputError
        If the shapes differ or an observation is impossible under every component.

    Notes
    -----
    The problem is convex: the maximum over w of

    .. math:: \frac1N \sum_i n_i \log (L w)_i + \mu \sum_k \log w_k, \qquad 1^T w = 1

    with a barrier mu of 1e-5. It adds N/100,000 observations per component, which keeps weights
    positive and the optimum unique. Newton's method runs on the weights and on their multipliers
    z = mu/w at once (a primal-dual interior point method), with a mu that falls to 1e-5: it needs
    a third of the steps that it needs on the weights alone.

    References
    ----------
    .. [1] Wright, Primal-Dual Interior-Point Methods, SIAM 1997, chapter 5.
       doi:10.1137/1.9781611971453

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
    first = c.MIXTURE_FIRST_BARRIER if start is None else c.MIXTURE_WARM_BARRIER
    multipliers = first / weights
    steps, converged = 0, False
    while steps < c.MIXTURE_STEPS and not converged:
        barrier = max(c.MIXTURE_BARRIER, c.MIXTURE_FALL * float(np.mean(weights * multipliers)))
        move = _newton_step(matrix, share, weights, multipliers, (barrier, held, target))
        follow = barrier / weights - multipliers * (1.0 + move / weights)
        # a step that was cut short cannot tell that the optimum is reached
        room = _room(weights, move)
        converged = bool(
            barrier == c.MIXTURE_BARRIER
            and room >= 1.0
            and np.abs(move / weights).max() < c.MIXTURE_TOLERANCE
        )
        multipliers = multipliers + min(1.0, _room(multipliers, follow)) * follow
        weights = weights + min(1.0, room) * move
        steps += 1
    return MixtureFit(
        weights=weights,
        log_likelihood=float(n @ np.log(matrix @ weights)),
        iterations=steps,
        converged=converged,
    )


def _room(values: FloatArray, move: FloatArray) -> float:
    """Tell which part of a step goes nearly to where a first value becomes 0."""
    shrinking = move < 0
    with np.errstate(over='ignore'):  # next to no move: as far as one likes
        to_zero = np.min(-values[shrinking] / move[shrinking], initial=np.inf)
    return float(c.MIXTURE_STEP_TO_BOUNDARY * to_zero)


def _newton_step(
    matrix: FloatArray,
    share: FloatArray,
    weights: FloatArray,
    multipliers: FloatArray,
    problem: tuple[float, FloatArray, FloatArray],
) -> FloatArray:
    """Solve for the change of the weights; `problem` is barrier, constraints, their targets."""
    barrier, held, target = problem
    density = matrix @ weights
    ratio = share / density
    gradient = ratio @ matrix + barrier / weights
    scaled = matrix * np.sqrt(ratio / density)[:, None]
    hessian = scaled.T @ scaled
    size, n_held = weights.size, target.size
    hessian.ravel()[:: size + 1] += multipliers / weights
    # optimum of the quadratic model with the constraints held by multipliers, the last unknowns
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
    x, s, used = usable(effect, standard_error)
    negative, rate = np.full(used.shape, np.nan), np.full(used.shape, np.nan)
    if x.size < c.FEWEST_EFFECTS:
        negative[used], rate[used] = ndtr(-x / s), 2.0 * ndtr(-np.abs(x / s))
        return SignPosterior(negative=negative, false_sign_rate=rate)
    scales = _normal_scales(x, s)
    bins = Bins.of(x, s)
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
        misfit=misfit(expected, bins.counts),
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


def usable(effect: ArrayLike, error: ArrayLike) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Select what can be used."""
    x, s = np.asarray(effect, float), np.asarray(error, float)
    if x.ndim != 1 or x.shape != s.shape:
        msg = f'effects and errors must be two equal columns, got {x.shape} and {s.shape}'
        raise ModelInputError(msg)
    used = np.isfinite(x) & np.isfinite(s) & (s > 0)
    return x[used], s[used], used


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bins:
    """Observations that are nearly alike, counted."""

    effect: FloatArray
    error: FloatArray
    counts: FloatArray
    member: IntArray
    """Bin of every observation."""

    @classmethod
    def of(cls, x: FloatArray, s: FloatArray) -> Bins:
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


def misfit(expected: FloatArray, counts: FloatArray) -> float:
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
