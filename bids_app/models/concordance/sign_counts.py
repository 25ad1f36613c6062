"""What counts of agreeing signs tell: the share of the population that agrees, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.ashr import fit_mixture
from bids_app.models.constants import COUNT_GRID

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SignCounts:
    """
    Distribution over voxels of the population share whose two signs agree.

    Parameters
    ----------
    share : (K,) ndarray of float64
        Grid of shares in [0, 1].
    weights : (K,) ndarray of float64
        Part of the voxels that has each share.
    spread : float
        Standard deviation of the observed shares k / n.
    chance_spread : float
        What it would be if all voxels had one share.
    n_voxels : int
        Voxels with participants.
    """

    share: FloatArray
    weights: FloatArray
    spread: float
    chance_spread: float
    n_voxels: int

    def below(self, share: float) -> float:
        """Part of the voxels whose population share is below one."""
        return float(self.weights[self.share < share].sum())

    def above(self, share: float) -> float:
        """Part of the voxels whose population share is above one."""
        return float(self.weights[self.share > share].sum())


def deconvolve_counts(n_signs: ArrayLike, n_concordant: ArrayLike) -> SignCounts:
    """
    Estimate the distribution of the population share behind counts of agreeing signs.

    Parameters
    ----------
    n_signs : (V,) array_like of int
        Participants with two signs.
    n_concordant : (V,) array_like of int
        Of them, those with equal signs.

    Returns
    -------
    counts : SignCounts
        Maximum likelihood over shares on a grid; nothing is assumed on the sizes of changes,
        their errors or the tails of the noise.

    Raises
    ------
    ModelInputError
        If more are concordant than there are, or no voxel has participants.

    Notes
    -----
    k of n is binomial with the share p of the population; the distribution of p over voxels is a
    nonparametric mixture [1]_.

    References
    ----------
    .. [1] Lord, Psychometrika 34:259, 1969. doi:10.1007/BF02289359

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> k = rng.binomial(40, np.where(rng.random(5000) < 0.3, 0.2, 0.8))
    >>> found = deconvolve_counts(np.full(5000, 40), k)
    >>> round(found.below(0.45), 1), round(found.above(0.55), 1)
    (0.3, 0.7)
    """
    n, k = np.asarray(n_signs), np.asarray(n_concordant)
    if n.shape != k.shape or np.any((k < 0) | (k > n)) or not np.any(n > 0):
        msg = (
            'concordant participants must be a part of all, voxel by voxel, and some must be known'
        )
        raise ModelInputError(msg)
    pairs, counts = np.unique(
        np.stack([n[n > 0], k[n > 0]]).astype(np.int64), axis=1, return_counts=True
    )
    share = np.linspace(0, 1, COUNT_GRID)
    likelihood = stats.binom.pmf(pairs[1][:, None], pairs[0][:, None], share)
    fit = fit_mixture(likelihood, counts.astype(float))
    observed = k[n > 0] / n[n > 0]
    mean = float(k.sum() / n.sum())
    chance = float(np.sqrt(mean * (1 - mean) * np.mean(1.0 / n[n > 0])))
    return SignCounts(
        share=share,
        weights=fit.weights,
        spread=float(observed.std()),
        chance_spread=chance,
        n_voxels=int(counts.sum()),
    )
