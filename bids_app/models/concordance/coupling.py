"""How flow, extraction and metabolism go together: ratios, shares and lines with errors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.constants import COUPLING_LEVEL, COUPLING_PERMUTATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioSet:
    """
    A ratio of two means and the values that are compatible with the data.

    Parameters
    ----------
    ratio : float
        Of the means.
    low, high : float
        Ends of the 95 % set; infinite where it has none.
    kind : str
        `interval`: from low to high. `outside`: everything but what lies between high and low
        (the denominator may be 0). `everything`: the data exclude no value. `undefined`: fewer
        than two pairs.
    """

    ratio: float
    low: float
    high: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    A straight line through points with errors on both axes, beside the naive one.

    Parameters
    ----------
    slope, slope_se : float
        Corrected for the errors of x and for those that x and y share.
    naive_slope, naive_se : float
        Ordinary least squares.
    reliability : float
        Share of the variance of x that is not error, in (0, 1]; the naive slope is too flat by
        this factor where the errors are independent.
    n : int
        Points.
    """

    slope: float
    slope_se: float
    naive_slope: float
    naive_se: float
    reliability: float
    n: int


def median_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    n_permutations: int = COUPLING_PERMUTATIONS,
) -> tuple[float, float]:
    """
    Test the difference of two medians by exchanging the members of the groups.

    Parameters
    ----------
    first, second : (V,), (W,) array_like
        Values of two groups of voxels; NaN are left out.
    rng : Generator
        Draws the permutations.
    n_permutations : int
        How many.

    Returns
    -------
    difference : float
        First minus second; NaN where a group is empty.
    p : float
        Two-sided. Voxels count as independent, as published: with spatial correlation the p is
        far too small. See also the test over participants in the same table.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> import numpy as np
    >>> median_difference([1, 2, 3], [11, 12, 13], rng=np.random.default_rng(0))[0]
    -10.0
    """
    one, two = (np.asarray(values, float) for values in (first, second))
    one, two = one[np.isfinite(one)], two[np.isfinite(two)]
    if not one.size or not two.size:
        return float('nan'), float('nan')
    pooled = np.sort(np.concatenate([one, two]))
    member = np.arange(pooled.size) < one.size
    observed = float(np.median(one) - np.median(two))
    reached = 0
    for _ in range(n_permutations):
        rng.shuffle(member)
        found = _middle(pooled[member]) - _middle(pooled[~member])
        reached += abs(found) >= abs(observed)
    return observed, (reached + 1) / (n_permutations + 1)


def relative_importance(
    response: ArrayLike, predictors: Mapping[str, ArrayLike]
) -> dict[str, tuple[float, float]]:
    r"""
    Share the explained variance of a regression among its predictors.

    Parameters
    ----------
    response : (V,) array_like
        Rows with a missing value are left out.
    predictors : mapping of str to (V,) array_like
        At most a few.

    Returns
    -------
    importance : dict of str to (float, float)
        Predictor to its coefficient and its part of R2: the gain in R2, averaged over all orders
        in which predictors can enter [1]_. The parts add up to R2. Empty with too few rows.

    References
    ----------
    .. [1] Lindeman, Merenda & Gold, Introduction to bivariate and multivariate analysis, 1980.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    >>> {k: (round(s, 3), round(r, 3))
    ...  for k, (s, r) in relative_importance(3 * a + b, {'a': a, 'b': b}).items()}
    {'a': (3.0, 0.9), 'b': (1.0, 0.1)}
    """
    y = np.asarray(response, float)
    columns = {name: np.asarray(values, float) for name, values in predictors.items()}
    if any(values.shape != y.shape for values in columns.values()):
        msg = 'response and predictors must have one length'
        raise ModelInputError(msg)
    known = np.isfinite(y) & np.all([np.isfinite(values) for values in columns.values()], axis=0)
    if known.sum() <= len(columns) + 1:
        return {}
    y = y[known] - y[known].mean()
    x = np.stack([values[known] - values[known].mean() for values in columns.values()], axis=1)
    size = len(columns)
    explained = {
        chosen: _explained(x[:, list(chosen)], y)
        for number in range(size + 1)
        for chosen in itertools.combinations(range(size), number)
    }
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    importance = {}
    for number, name in enumerate(columns):
        others = [other for other in range(size) if other != number]
        part = sum(
            (explained[tuple(sorted((*before, number)))] - explained[before])
            / (size * math.comb(size - 1, len(before)))
            for count in range(size)
            for before in itertools.combinations(others, count)
        )
        importance[name] = (float(coefficients[number]), float(part))
    return importance


def ratio_of_means(numerator: ArrayLike, denominator: ArrayLike) -> RatioSet:
    r"""
    Divide two means over the same participants, with the set of Fieller.

    Parameters
    ----------
    numerator, denominator : (N,) array_like
        One pair per participant, such as the changes of CBF and CMRO2 in percent; pairs with a
        missing value are left out.

    Returns
    -------
    ratio : RatioSet
        The coupling ratio n, with all values that a test at 5 % does not reject. Where the mean
        of the denominator does not differ from 0 the set is unbounded, and says so.

    References
    ----------
    .. [1] Fieller, J R Stat Soc B 16:175, 1954. doi:10.1111/j.2517-6161.1954.tb00159.x

    Examples
    --------
    >>> found = ratio_of_means([9.0, 11.0, 10.0, 10.0], [4.8, 5.2, 5.0, 5.0])
    >>> found.ratio, found.kind, found.low < 2.0 < found.high
    (2.0, 'interval', True)
    >>> ratio_of_means([9.0, 11.0, 10.0], [4.0, -5.0, 2.0]).kind
    'outside'
    """
    pairs = np.stack([np.asarray(numerator, float), np.asarray(denominator, float)])
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    n = pairs.shape[1]
    if n < 2:
        return RatioSet(ratio=np.nan, low=np.nan, high=np.nan, kind='undefined')
    above, below = pairs.mean(axis=1)
    (above_variance, shared), (_, below_variance) = np.cov(pairs) / n
    reach = float(stats.t.ppf(1 - COUPLING_LEVEL / 2, n - 1)) ** 2
    # (above - r below)^2 <= reach var(above - r below), a quadratic in r
    square = below**2 - reach * below_variance
    linear = above * below - reach * shared
    constant = above**2 - reach * above_variance
    root = linear**2 - square * constant
    ratio = float(above / below) if below != 0 else float('nan')
    if square > 0:
        half = np.sqrt(max(root, 0.0))
        low, high = (linear - half) / square, (linear + half) / square
        return RatioSet(ratio=ratio, low=float(low), high=float(high), kind='interval')
    if root <= 0 or square == 0:
        return RatioSet(ratio=ratio, low=-np.inf, high=np.inf, kind='everything')
    half = np.sqrt(root)
    ends = sorted(((linear - half) / square, (linear + half) / square))
    return RatioSet(ratio=ratio, low=float(ends[1]), high=float(ends[0]), kind='outside')


def fit_line(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_variance: ArrayLike,
    covariance: ArrayLike = 0.0,
    blocks: ArrayLike | None = None,
) -> Line:
    r"""
    Fit a straight line when x has errors and shares some with y.

    Parameters
    ----------
    x, y : (V,) array_like
        Points, such as baseline OEF and change of CMRO2; those with a missing value are left out.
    x_variance : (V,) array_like or float
        Error variance of x.
    covariance : (V,) array_like or float
        Covariance of the errors of x and y: a baseline that enters both makes it negative.
    blocks : (V,) array_like of int, optional
        Points that share errors; one block at a time is left out for the standard errors.
        None: every point is its own.

    Returns
    -------
    line : Line
        NaN with fewer than three points, or where all variance of x is error.

    Notes
    -----
    With the sample variance and covariance S over points and the mean error terms,

    .. math:: b = \frac{S_{xy} - \overline{cov}}{S_{xx} - \overline{var(x)}},
       \qquad b_{naive} = S_{xy}/S_{xx}

    which holds whatever scatters the points around the line besides the errors [1]_.

    References
    ----------
    .. [1] Fuller, Measurement Error Models, Wiley, 1987, ch. 1. doi:10.1002/9780470316665

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=4000)
    >>> x, y = truth + rng.normal(size=4000), 2 * truth + rng.normal(size=4000)
    >>> line = fit_line(x, y, x_variance=1.0)
    >>> round(line.naive_slope, 1), round(line.slope, 1)
    (1.0, 2.0)
    """
    first, second = np.asarray(x, float), np.asarray(y, float)
    if first.shape != second.shape or first.ndim != 1:
        msg = f'x and y must be two equal columns, got {first.shape} and {second.shape}'
        raise ModelInputError(msg)
    errors = np.broadcast_to(np.asarray(x_variance, float), first.shape)
    shared = np.broadcast_to(np.asarray(covariance, float), first.shape)
    block = np.arange(first.size) if blocks is None else np.asarray(blocks)
    known = np.isfinite(first) & np.isfinite(second) & np.isfinite(errors) & np.isfinite(shared)
    if known.sum() <= 2:
        nothing = float('nan')
        return Line(slope=nothing, slope_se=nothing, naive_slope=nothing, naive_se=nothing,
                    reliability=nothing, n=int(known.sum()))  # fmt: skip
    columns = np.stack([first, second, errors, shared])[:, known]
    sums = _block_sums(columns, np.unique(block[known], return_inverse=True)[1])
    total = sums.sum(axis=1, keepdims=True)
    best, left = _slopes(total)[:, 0], _slopes(total - sums)
    number = sums.shape[1]
    spread = np.sqrt((number - 1) / number * np.sum((left - left.mean(axis=1)[:, None]) ** 2, 1))
    return Line(
        slope=float(best[0]),
        slope_se=float(spread[0]),
        naive_slope=float(best[1]),
        naive_se=float(spread[1]),
        reliability=float(best[2]),
        n=int(known.sum()),
    )


def _middle(ordered: FloatArray) -> float:
    """Give the median of sorted values."""
    return float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2


def _explained(x: FloatArray, y: FloatArray) -> float:
    """Give R2 of a regression of centred columns."""
    if x.shape[1] == 0:
        return 0.0
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(fitted @ fitted / (y @ y))


def _block_sums(columns: FloatArray, member: IntArray) -> FloatArray:
    """Add up what the slopes need, block by block."""
    x, y, errors, shared = columns
    x, y = x - x.mean(), y - y.mean()
    terms = (np.ones_like(x), x, y, x * x, x * y, errors, shared)
    return np.stack([np.bincount(member, term) for term in terms])


def _slopes(sums: FloatArray) -> FloatArray:
    """Give corrected slope, naive slope and reliability from sums."""
    n, x, y, xx, xy, errors, shared = sums
    with np.errstate(divide='ignore', invalid='ignore'):  # nothing left: no slope
        variance = (xx - x * x / n) / (n - 1)
        covariance = (xy - x * y / n) / (n - 1)
        true_variance = variance - errors / n
        slope = np.where(true_variance > 0, (covariance - shared / n) / true_variance, np.nan)
        return np.stack([slope, covariance / variance, true_variance / variance])
