"""Mean-centred partial least squares: the pattern over voxels that tells conditions apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    BOOTSTRAP_RATIO,
    CLUSTER_EXTENT,
    PLS_BATCH,
    PLS_SAMPLES,
    PLS_TIE,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PartialLeastSquares:
    """
    Latent variables of conditions x participants; voxels enter by :func:`bootstrap_ratios`.

    Parameters
    ----------
    singular : (L,) ndarray of float64
        Singular values, one per latent variable (conditions less one).
    p : (L,) ndarray of float64
        Share of permutations whose singular value is at least as large.
    design : (C, L) ndarray of float64
        Score of each condition; the sign is such that the first condition, the baseline, is not
        positive.
    observed : (CN, L) ndarray of float64
        Weights of conditions x participants whose sum over voxel values is the salience.
    resampled : (B, CN, L) ndarray of float64
        The same of each bootstrap sample, turned to the original.
    """

    singular: FloatArray
    p: FloatArray
    design: FloatArray
    observed: FloatArray
    resampled: FloatArray

    @property
    def explained(self) -> FloatArray:
        """Share of each latent variable in the covariance of conditions and voxels."""
        share: FloatArray = self.singular**2 / np.sum(self.singular**2)
        return share


def cross_products(conditions: ArrayLike) -> FloatArray:
    """
    Multiply every pair of rows over voxels; products of parts of the voxels add up.

    Parameters
    ----------
    conditions : (C, N, V) array_like
        Value of each condition and participant.

    Returns
    -------
    products : (CN, CN) ndarray of float64
        All that :func:`fit_pls` needs of the voxels.

    Raises
    ------
    ModelInputError
        If the array has another shape or holds missing values.
    """
    rows = _rows(conditions)
    products: FloatArray = rows @ rows.T
    return products


def fit_pls(
    products: ArrayLike,
    n_conditions: int,
    *,
    rng: np.random.Generator,
    n_permutations: int = PLS_SAMPLES,
    n_bootstraps: int = PLS_SAMPLES,
) -> PartialLeastSquares:
    r"""
    Find the latent variables of one group of participants in two or more conditions.

    Parameters
    ----------
    products : (CN, CN) array_like
        From :func:`cross_products`, condition after condition.
    n_conditions : int
        C, at least 2.
    rng : Generator
        Draws permutations and samples.
    n_permutations, n_bootstraps : int
        How many.

    Returns
    -------
    fit : PartialLeastSquares
        For :func:`bootstrap_ratios`.

    Raises
    ------
    ModelInputError
        With fewer than two conditions or participants.

    Notes
    -----
    M holds the mean of each condition less the mean of all, C x V. Its singular value
    decomposition gives design scores and saliences [1]_. Permutations exchange conditions within
    participants; bootstrap samples draw participants with replacement, jointly over conditions,
    at least half of them different, and their latent variables are turned to the original by a
    Procrustes rotation. With two conditions there is one latent variable, the difference d of the
    means, and its bootstrap ratio is nearly :math:`t \sqrt{N/(N-1)}` of the paired t test.
    M M' follows from `products`, so permutations never touch the voxels.

    References
    ----------
    .. [1] McIntosh & Lobaugh, NeuroImage 23:S250, 2004. doi:10.1016/j.neuroimage.2004.07.020

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> data = rng.normal(size=(2, 12, 300))
    >>> data[1] += 1.0
    >>> fit = fit_pls(cross_products(data), 2, rng=rng, n_permutations=200, n_bootstraps=50)
    >>> fit.p.round(3), bool(fit.design[1, 0] > fit.design[0, 0])
    (array([0.005]), True)
    """
    gram = np.asarray(products, float)
    size, remainder = divmod(gram.shape[0], n_conditions)
    if n_conditions < 2 or size < 2 or remainder:
        msg = f'PLS needs two conditions and participants, got {n_conditions} x {size}'
        raise ModelInputError(msg)
    centring = (np.eye(n_conditions) - 1.0 / n_conditions) / size
    plain = np.repeat(centring, size, axis=1)
    n_latent = n_conditions - 1
    singular, left = _decompose(plain[None], gram)
    singular, left = singular[0, :n_latent], left[0, :, :n_latent]
    left = np.where(left[0] > 0, -left, left)
    larger = np.zeros(n_latent)
    for number in _batches(n_permutations):
        order = rng.random((number, n_conditions, size)).argsort(axis=1)
        moved = np.take_along_axis(
            plain.reshape(1, n_conditions, n_conditions, size), order[:, None], axis=2
        )
        found, _ = _decompose(moved.reshape(number, n_conditions, -1), gram)
        larger += (found[:, :n_latent] >= singular * (1 - PLS_TIE)).sum(axis=0)
    resampled = [
        _bootstrap(centring, left, gram, _draw(size, number, rng))
        for number in _batches(n_bootstraps)
    ]
    return PartialLeastSquares(
        singular=singular,
        p=(larger + 1) / (n_permutations + 1),
        design=left,
        observed=plain.T @ left,
        resampled=np.concatenate(resampled),
    )


def bootstrap_ratios(conditions: ArrayLike, fit: PartialLeastSquares) -> FloatArray:
    """
    Divide the salience of each voxel by its bootstrap standard deviation.

    Parameters
    ----------
    conditions : (C, N, V) array_like
        As for :func:`cross_products`; any part of the voxels.
    fit : PartialLeastSquares
        Of all voxels.

    Returns
    -------
    ratios : (L, V) ndarray of float64
        Positive where the condition with the higher design score has the larger value; NaN where
        a voxel does not vary.
    """
    rows = _rows(conditions)
    ratios = np.empty((fit.singular.size, rows.shape[1]))
    for latent in range(fit.singular.size):
        samples = fit.resampled[:, :, latent] @ rows
        spread = samples.std(axis=0, ddof=1)
        salience = fit.observed[:, latent] @ rows
        usable = spread > 0
        ratios[latent] = np.where(usable, salience / np.where(usable, spread, 1.0), np.nan)
    return ratios


def mean_centred_pls(
    conditions: ArrayLike,
    *,
    rng: np.random.Generator,
    n_permutations: int = PLS_SAMPLES,
    n_bootstraps: int = PLS_SAMPLES,
) -> tuple[PartialLeastSquares, FloatArray]:
    """
    Fit a PLS to an array at once.

    Parameters
    ----------
    conditions : (C, N, V) array_like
        Value of each condition, participant and voxel, the baseline first; nothing missing. For
        changes from a baseline give zeros as the baseline.
    rng, n_permutations, n_bootstraps
        As for :func:`fit_pls`.

    Returns
    -------
    fit : PartialLeastSquares
        Latent variables.
    ratios : (L, V) ndarray of float64
        Bootstrap ratios.

    Raises
    ------
    ModelInputError
        If the array has another shape or holds missing values.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> change = rng.normal(1.0, 1.0, size=(20, 500))
    >>> _, ratios = mean_centred_pls([np.zeros_like(change), change], rng=rng)
    >>> t = change.mean(axis=0) / (change.std(axis=0, ddof=1) / np.sqrt(20))
    >>> bool(abs(np.median(ratios[0] / t) - np.sqrt(20 / 19)) < 0.01)
    True
    """
    fit = fit_pls(
        cross_products(conditions),
        np.shape(conditions)[0],
        rng=rng,
        n_permutations=n_permutations,
        n_bootstraps=n_bootstraps,
    )
    return fit, bootstrap_ratios(conditions, fit)


def keep_clusters(
    ratios: ArrayLike, *, threshold: float = BOOTSTRAP_RATIO, extent: int = CLUSTER_EXTENT
) -> BoolArray:
    """
    Keep voxels beyond a threshold that belong to a large enough cluster of one sign.

    Parameters
    ----------
    ratios : (X, Y, Z) array_like
        Such as bootstrap ratios; NaN outside.
    threshold : float
        Smallest absolute value.
    extent : int
        Smallest number of voxels that touch by their faces.

    Returns
    -------
    kept : (X, Y, Z) ndarray of bool
        True where kept.

    Examples
    --------
    >>> keep_clusters([[[3.0, 2.5, -4.0, 0.0, 5.0]]], extent=2)[0, 0]
    array([ True,  True, False, False, False])
    """
    values = np.nan_to_num(np.asarray(ratios, float))
    kept: BoolArray = np.zeros(values.shape, bool)
    for sign in (1.0, -1.0):
        labels, number = ndimage.label(sign * values >= threshold)
        sizes = np.bincount(labels.ravel(), minlength=number + 1)
        sizes[0] = 0
        kept |= sizes[labels] >= max(extent, 1)
    return kept


def _rows(conditions: ArrayLike) -> FloatArray:
    """Put conditions and participants into rows."""
    values = np.asarray(conditions, float)
    if values.ndim != 3 or not np.isfinite(values).all():
        msg = 'PLS needs conditions x participants x voxels without missing values'
        raise ModelInputError(msg)
    return values.reshape(-1, values.shape[2])


def _batches(number: int) -> list[int]:
    """Cut a number into batches."""
    full, rest = divmod(number, PLS_BATCH)
    return [PLS_BATCH] * full + ([rest] if rest else [])


def _decompose(weights: FloatArray, gram: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Singular values and left vectors of (weights @ rows), largest first, for a stack (P)."""
    inner = (weights.reshape(-1, gram.shape[0]) @ gram).reshape(weights.shape)
    square = inner @ weights.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(square)
    return np.sqrt(np.maximum(values[:, ::-1], 0.0)), vectors[:, :, ::-1]


def _draw(size: int, number: int, rng: np.random.Generator) -> FloatArray:
    """Count how often each participant is in each sample; at least half are different."""
    counts: list[FloatArray] = []
    while len(counts) < number:
        drawn = np.bincount(rng.integers(size, size=size), minlength=size)
        if np.count_nonzero(drawn) >= (size + 1) // 2:
            counts.append(drawn.astype(float))
    return np.stack(counts)


def _bootstrap(
    centring: FloatArray, left: FloatArray, gram: FloatArray, counts: FloatArray
) -> FloatArray:
    """Give the weights of samples, turned to the original latent variables."""
    n_conditions = centring.shape[0]
    weights = (centring[None, :, :, None] * counts[:, None, None]).reshape(
        len(counts), n_conditions, -1
    )
    _, vectors = _decompose(weights, gram)
    own = vectors[:, :, : left.shape[1]]
    first, _, last = np.linalg.svd(own.transpose(0, 2, 1) @ left)
    turned = own @ (first @ last)
    resampled: FloatArray = weights.transpose(0, 2, 1) @ turned
    return resampled
