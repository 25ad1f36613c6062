"""Permutation tests over voxels: the largest statistic under random signs of participants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.group.statistics import Weighting, moderate, nuisance_residuals, typical_variance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

BATCH = 128
"""Permutations that are worked on at once."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MaxStatistic:
    """
    Family-wise error control over voxels.

    Parameters
    ----------
    p : (V,) ndarray of float64
        Two-sided probability that the largest statistic of all voxels reaches that of the voxel;
        NaN where there is none.
    maxima : (P,) ndarray of float64
        Largest absolute t of every rearrangement, the observed one first.
    exhaustive : bool
        True where these are all rearrangements there are.
    """

    p: FloatArray
    maxima: FloatArray
    exhaustive: bool


def rearrangements(
    design: ArrayLike, tested: int, *, number: int, rng: np.random.Generator
) -> tuple[FloatArray, bool]:
    """
    Make the matrices that rearrange participants: signs for a mean, permutations for a column.

    Parameters
    ----------
    design : (N, P) array_like
        Columns over participants.
    tested : int
        Column whose coefficient is tested; a constant one is a mean.
    number : int
        Rearrangements besides the observed one; fewer where there are no more.
    rng : Generator
        Draws them.

    Returns
    -------
    order : (R, N) ndarray of float64
        Signs, or positions, the observed arrangement first.
    exhaustive : bool
        True where the list holds every one.
    """
    column = np.asarray(design, float)[:, tested]
    size = column.size
    if np.ptp(column) > 0:
        shuffled = [rng.permutation(size) for _ in range(number)]
        return np.stack([np.arange(size), *shuffled]).astype(float), False
    if 2 ** (size - 1) <= number + 1:
        signs = [(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=size - 1)]
        return np.array(signs), True
    flips = rng.choice([-1.0, 1.0], (number, size))
    return np.vstack([np.ones(size), flips]), False


def max_statistic(
    blocks: Iterable[tuple[ArrayLike, ArrayLike | None]],
    weighting: Weighting,
    design: ArrayLike,
    tested: int = 0,
    *,
    n_permutations: int = 1000,
    rng: np.random.Generator,
) -> MaxStatistic:
    r"""
    Test every voxel against the largest statistic of all voxels.

    Parameters
    ----------
    blocks : iterable of ((N, B) array_like, (N, B) array_like or None)
        Effects and random variances of all voxels, block after block; NaN is no estimate.
    weighting : Weighting
        As for :func:`bids_app.group.statistics.random_effects`.
    design : (N, P) array_like
        Columns over participants.
    tested : int
        Tested column.
    n_permutations : int
        Rearrangements.
    rng : Generator
        Draws them.

    Returns
    -------
    result : MaxStatistic
        Over the voxels of all blocks, in their order.

    Raises
    ------
    ModelInputError
        With fewer than two participants.

    See Also
    --------
    bids_app.group.statistics.random_effects : The statistic, whose t this tests.

    Notes
    -----
    Under the null the errors of a participant are symmetric, so all its voxels may change sign
    together, which keeps their correlation [1]_. The statistic is the weighted, moderated t. Its
    numerator is one product of signs and voxels, and the sum of squares does not change with the
    sign, so a thousand sign flips cost about as much as a thousand means. Other columns of the
    design are removed first and again in every rearrangement (Freedman and Lane, [2]_); a column
    that differs between participants is permuted. A participant missing in a voxel counts as 0
    there in every rearrangement.

    References
    ----------
    .. [1] Nichols & Holmes, Hum Brain Mapp 15:1, 2002. doi:10.1002/hbm.1058
    .. [2] Winkler et al., NeuroImage 92:381, 2014. doi:10.1016/j.neuroimage.2014.01.060

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(12, 50))
    >>> x[:, 0] += 3
    >>> one = np.ones((12, 1))
    >>> found = max_statistic(
    ...     [(x, None)], Weighting(participants=np.ones(12)), one, n_permutations=99, rng=rng)
    >>> bool(found.p[0] <= 0.05), bool(found.p[1:].min() > 0.05)
    (True, True)
    """
    columns = np.asarray(design, float)
    if columns.shape[0] < 2:
        msg = f'a permutation test needs two participants, got {columns.shape[0]}'
        raise ModelInputError(msg)
    order, exhaustive = rearrangements(columns, tested, number=n_permutations, rng=rng)
    rows = _rows(columns, tested, weighting.participants, order)
    maxima = np.zeros(len(order))
    observed = []
    for block in blocks:
        observed.append(_statistics(block, weighting, (columns, tested), rows, maxima))
    values = np.concatenate(observed)
    ranked = np.sort(maxima)
    reached = len(maxima) - np.searchsorted(ranked, values * (1 - 1e-9))
    p = np.where(np.isfinite(values), reached / len(maxima), np.nan)
    return MaxStatistic(p=p, maxima=maxima, exhaustive=exhaustive)


def _rows(
    columns: FloatArray, tested: int, weights: FloatArray, order: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the tested regressor (N,), its rearrangements (R, N), and those of the nuisance."""
    root = np.sqrt(weights)[:, None]
    nuisance = np.linalg.qr(root * np.delete(columns, tested, axis=1))[0]
    regressor = (root * columns)[:, tested]
    regressor = regressor - nuisance @ (nuisance.T @ regressor)
    if np.ptp(columns[:, tested]) > 0:
        place = order.astype(int)
        return regressor, regressor[place], nuisance.T[:, place]
    return regressor, order * regressor, nuisance.T[:, None] * order


def _statistics(
    block: tuple[ArrayLike, ArrayLike | None],
    weighting: Weighting,
    model: tuple[FloatArray, int],
    rows: tuple[FloatArray, FloatArray, FloatArray],
    maxima: FloatArray,
) -> FloatArray:
    """Give the observed |t| of a block and raise the maxima."""
    columns, tested = model
    x = np.asarray(block[0], float)
    v = None if block[1] is None else np.asarray(block[1], float)
    known = np.isfinite(x) if v is None else np.isfinite(x) & np.isfinite(v)
    reduced = np.delete(columns, tested, axis=1)
    values = nuisance_residuals(x, known, weighting, reduced)
    values *= np.sqrt(weighting.participants)[:, None]
    regressor, rearranged, nuisance = rows
    dof = known.sum(axis=0) - columns.shape[1]
    usable = dof >= 1
    if not usable.any():
        return np.full(x.shape[1], np.nan)
    typical = typical_variance(v, known)[usable]
    values, known, dof = values[:, usable], known[:, usable], dof[usable].astype(float)
    norm = np.maximum(regressor**2 @ known, np.finfo(float).tiny)
    total = (values**2).sum(axis=0)
    observed = np.full(x.shape[1], np.nan)
    for start in range(0, len(rearranged), BATCH):
        part = slice(start, start + BATCH)
        numerator = rearranged[part] @ values
        left = total - numerator**2 / norm
        for row in nuisance:
            left -= (row[part] @ values) ** 2
        spread, _ = moderate(np.maximum(left, 0.0) / dof, dof, typical, weighting)
        t = np.abs(numerator) / np.sqrt(np.maximum(norm * spread, np.finfo(float).tiny))
        maxima[part] = np.maximum(maxima[part], t.max(axis=1))
        if start == 0:
            observed[usable] = t[0]
    return observed
