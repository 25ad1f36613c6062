"""Shares of opposing metabolism in a group on arrays: what participants tell beside the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.group.statistics import means_without

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.group.statistics import Weighting

LARGEST_JACKKNIFE = 40
"""With more participants, this many groups of them are left out in turn."""

FLIPS = 4999
"""Random signs of the participants; all patterns where there are no more."""

FEWEST_FLIPPED = 6
"""With fewer participants no pattern of signs is rarer than 5 %."""


def jackknife_groups(n: int) -> IntArray:
    """Put participants into the groups that are left out in turn: (N,) numbers from 0."""
    groups: IntArray = np.arange(n) % min(n, LARGEST_JACKKNIFE)
    return groups


def leave_out(
    values: FloatArray, variances: FloatArray | None, weighting: Weighting, design: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    Estimate the mean with each group of participants left out in turn.

    Parameters
    ----------
    values : (N, V) ndarray of float64
        Effects of the participants.
    variances : (N, V) ndarray of float64 or None
        Their random variances.
    weighting : Weighting
        Of all participants.
    design : (N, P) ndarray of float64
        Columns over participants.

    Returns
    -------
    effects, errors : (G, V) ndarray of float64
        Means and standard errors, see :func:`jackknife_groups`.
    """
    member = jackknife_groups(len(values))
    parts = means_without(values, variances, member, weighting, design)
    effects, errors = zip(*parts, strict=True)
    return np.stack(effects), np.stack(errors)


def common_offsets(parts: Iterable[tuple[ArrayLike, ArrayLike]]) -> FloatArray:
    r"""
    Estimate the change of each participant that is common to all voxels.

    Parameters
    ----------
    parts : iterable of ((N, B) array_like, (B,) array_like)
        Effects of blocks of voxels, and the baseline that an offset is a share of (ones: an
        offset in the unit of the effects).

    Returns
    -------
    offsets : (N,) ndarray of float64
        Share of the baseline, :math:`\sum_v b_v x_{iv} / \sum_v b_v^2`.

    Examples
    --------
    >>> common_offsets([([[2.0, 4.0], [1.0, 1.0]], [1.0, 2.0])])
    array([2. , 0.6])
    """
    products, squares = 0.0, 0.0
    for values, baseline in parts:
        x, b = np.asarray(values, float), np.asarray(baseline, float)
        known = np.isfinite(x) & np.isfinite(b)
        products = products + np.where(known, b * np.where(known, x, 0.0), 0.0).sum(axis=1)
        squares = squares + np.where(known, b**2, 0.0).sum(axis=1)
    positive = np.asarray(squares) > 0
    offsets: FloatArray = np.where(positive, products, 0.0) / np.where(positive, squares, 1.0)
    return offsets


def sign_flip_products(values: ArrayLike, fitted: ArrayLike, weights: ArrayLike) -> FloatArray:
    """
    Reduce a block of voxels to what the sign-flip test needs.

    Parameters
    ----------
    values, fitted : (N, B) array_like
        Effects of the participants, and their offsets there.
    weights : (N,) array_like
        Relative weights of participants.

    Returns
    -------
    products : (N, N) ndarray of float64
        Of the weighted residuals, each voxel divided by its sum of squares; blocks add up.
    """
    x = np.asarray(values, float) - np.asarray(fitted, float)
    x = np.where(np.isfinite(x), x, 0.0) * np.sqrt(np.asarray(weights, float))[:, None]
    size = np.sqrt((x**2).sum(axis=0))
    x = x / np.where(size > 0, size, 1.0)
    return x @ x.T


def sign_flip_probability(products: ArrayLike, *, rng: np.random.Generator) -> float:
    r"""
    Test whether any voxel changed by more than the offset of its participant.

    Parameters
    ----------
    products : (N, N) array_like
        Sum of :func:`sign_flip_products` over the voxels.
    rng : Generator
        For the signs; not used where all patterns are tried.

    Returns
    -------
    p : float
        Of residuals that are symmetric around 0 in every participant; at least one over the
        number of patterns, so never below 5 % with fewer than six participants.

    Raises
    ------
    ModelInputError
        If the products are not square.

    Notes
    -----
    With random signs :math:`\epsilon_i` of whole participants, the statistic is

    .. math:: T(\epsilon) = \sum_v \frac{(\sum_i \epsilon_i r_{iv})^2}{\sum_i r_{iv}^2}

    of the residuals r around each participant's own offset. Signs keep whatever correlates
    voxels and whatever the true errors are, so that the error of the test is exact for symmetric
    noise: no standard error enters. Skewed noise of few participants can spoil it.

    References
    ----------
    .. [1] Winkler et al., NeuroImage 92:381, 2014. doi:10.1016/j.neuroimage.2014.01.060

    Examples
    --------
    >>> r = np.ones((8, 1)) + 0.1 * np.random.default_rng(1).normal(size=(8, 50))
    >>> sign_flip_probability(
    ...     sign_flip_products(r, np.zeros(r.shape), np.ones(8)), rng=np.random.default_rng(2))
    0.0078125
    """
    matrix = np.asarray(products, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        msg = f'products must be (participants, participants), got {matrix.shape}'
        raise ModelInputError(msg)
    n = matrix.shape[0]
    if 2 ** (n - 1) <= FLIPS + 1:
        patterns = np.arange(2 ** (n - 1))
        signs = 1.0 - 2.0 * ((patterns[:, None] >> np.arange(n)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], (FLIPS + 1, n))
        signs[0] = 1.0
    statistic = np.einsum('pi,pi->p', signs @ matrix, signs)
    reached: BoolArray = statistic >= statistic[0] * (1 - 1e-12)
    return float(reached.mean())
