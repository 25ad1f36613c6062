"""
The published rules for a group, on plain arrays or on the columns of a published table.

From participants x voxels::

    from bids_app.models.concordance import epp2025

From a table with one row per voxel (a CSV file with, say, the columns n_eff, k_conc, bold_mean,
cmro2_mean, p_cmro2) no images are needed: :func:`label_by_consistency` takes the counts and
:func:`bids_app.models.concordance.labels.label_by_probability` the means with their probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.labels import (
    Label,
    gate_by_probability,
    label_by_probability,
    label_by_sign,
)
from bids_app.models.constants import QUARTILES, RULE_LEVEL, TYPICAL_DEVIATIONS
from bids_app.models.contrast.difference import p_value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VoxelTable:
    """
    What the published rules need of every voxel.

    Parameters
    ----------
    bold_mean, bold_median, bold_p : (V,) ndarray of float64
        BOLD change over participants, percent, and the two-sided probability of its t test.
    cmro2_mean, cmro2_median, cmro2_p : (V,) ndarray of float64
        The same of the CMRO2 change.
    n_signs, n_concordant : (V,) ndarray of int64
        Participants whose two changes are both known and not 0, and those of equal signs.
    """

    bold_mean: FloatArray
    bold_median: FloatArray
    bold_p: FloatArray
    cmro2_mean: FloatArray
    cmro2_median: FloatArray
    cmro2_p: FloatArray
    n_signs: IntArray
    n_concordant: IntArray


def describe_voxels(bold: ArrayLike, cmro2: ArrayLike) -> VoxelTable:
    """
    Reduce participants x voxels to what the published rules need.

    Parameters
    ----------
    bold : (N, V) array_like
        BOLD change of each participant, percent; NaN is no estimate.
    cmro2 : (N, V) array_like
        CMRO2 change of the same participants, percent of the baseline as published, or in any
        other unit.

    Returns
    -------
    table : VoxelTable
        One value per voxel; NaN with fewer than two participants.

    Examples
    --------
    >>> table = describe_voxels([[1.0], [2.0], [1.5]], [[5.0], [-1.0], [3.0]])
    >>> table.cmro2_median, table.n_concordant, table.bold_p.round(3)
    (array([3.]), array([2]), array([0.035]))
    """
    first, second = np.asarray(bold, float), np.asarray(cmro2, float)
    if first.ndim != 2 or first.shape != second.shape:
        msg = f'both must be (participants, voxels), got {first.shape} and {second.shape}'
        raise ModelInputError(msg)
    both = np.isfinite(first) & np.isfinite(second) & (first != 0) & (second != 0)
    agree = both & (np.sign(first) == np.sign(second))
    bold_mean, bold_p = _ttest(first)
    cmro2_mean, cmro2_p = _ttest(second)
    return VoxelTable(
        bold_mean=bold_mean,
        bold_median=median_over_participants(first),
        bold_p=bold_p,
        cmro2_mean=cmro2_mean,
        cmro2_median=median_over_participants(second),
        cmro2_p=cmro2_p,
        n_signs=both.sum(axis=0),
        n_concordant=agree.sum(axis=0),
    )


def label_by_medians(table: VoxelTable, gate: ArrayLike, mask: ArrayLike) -> StatusArray:
    """
    Label voxels by the signs of the medians over participants, without a test on CMRO2.

    Parameters
    ----------
    table : VoxelTable
        From :func:`describe_voxels`.
    gate : (V,) array_like of bool
        Where BOLD is significant: as published, clusters of bootstrap ratios of a PLS, see
        :func:`bids_app.models.concordance.pls.keep_clusters`.
    mask : (V,) array_like of bool
        Voxels to label.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.concordance.labels.Label`.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9
    """
    return label_by_sign(table.bold_median, table.cmro2_median, gate, mask)


def label_by_ttests(table: VoxelTable, mask: ArrayLike, *, q: float = RULE_LEVEL) -> StatusArray:
    """
    Label voxels by the signs of the means where t tests of both changes are significant.

    Parameters
    ----------
    table : VoxelTable
        From :func:`describe_voxels`.
    mask : (V,) array_like of bool
        Voxels to test.
    q : float
        False discovery rate of BOLD in the mask, and of CMRO2 where BOLD is significant.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.concordance.labels.Label`.

    References
    ----------
    .. [1] Goltermann, Huth & Buechel, bioRxiv, 2026. doi:10.64898/2026.04.21.719913
    """
    gate = gate_by_probability(table.bold_p, q=q, mask=mask)
    return label_by_probability(table.bold_mean, table.cmro2_mean, table.cmro2_p, gate, mask, q=q)


def consistency_probability(n_signs: ArrayLike, n_concordant: ArrayLike) -> FloatArray:
    r"""
    Test whether more (or fewer) participants than half are concordant.

    Parameters
    ----------
    n_signs : (V,) array_like of int
        Participants with two signs.
    n_concordant : (V,) array_like of int
        Of them, those with equal signs.

    Returns
    -------
    p : (V,) ndarray of float64
        Two-sided exact binomial probability, twice the smaller tail; NaN without participants.

    Raises
    ------
    ModelInputError
        If more are concordant than there are.

    Examples
    --------
    >>> consistency_probability([37, 37, 0], [30, 18, 0]).round(5)
    array([1.9e-04, 1.0e+00,     nan])
    """
    n, k = np.asarray(n_signs), np.asarray(n_concordant)
    if n.shape != k.shape or np.any((k < 0) | (k > n)):
        msg = 'concordant participants must be a part of all, voxel by voxel'
        raise ModelInputError(msg)
    tail = np.minimum(stats.binom.cdf(k, n, 1 / 2), stats.binom.sf(k - 1, n, 1 / 2))
    p: FloatArray = np.where(n > 0, np.minimum(2.0 * tail, 1.0), np.nan)
    return p


def label_by_consistency(
    bold: ArrayLike,
    n_signs: ArrayLike,
    n_concordant: ArrayLike,
    gate: ArrayLike,
    *,
    q: float = RULE_LEVEL,
) -> StatusArray:
    """
    Label voxels where the signs of the participants agree more often than by chance.

    Parameters
    ----------
    bold : (V,) array_like
        BOLD change of the group; only its sign counts.
    n_signs, n_concordant : (V,) array_like of int
        As for :func:`consistency_probability`.
    gate : (V,) array_like of bool
        Where BOLD is significant: the family of tests.
    q : float
        False discovery rate.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.concordance.labels.Label`.

    References
    ----------
    .. [1] Goltermann, Huth & Buechel, bioRxiv, 2026. doi:10.64898/2026.04.21.719913

    Examples
    --------
    >>> label_by_consistency([1, 1, -1], [37] * 3, [36, 18, 2], [True] * 3)
    array([1, 5, 4], dtype=uint8)
    """
    n, k = np.asarray(n_signs), np.asarray(n_concordant)
    direction = np.sign(np.asarray(bold, float))
    majority = direction * np.where(2 * k >= n, 1.0, -1.0)
    everywhere = np.ones(direction.shape, bool)
    p = consistency_probability(n, k)
    return label_by_probability(direction, majority, p, gate, everywhere, q=q)


def below_typical(values: ArrayLike, *, deviations: float = TYPICAL_DEVIATIONS) -> BoolArray:
    """
    Find voxels whose median over participants is not far above that of all voxels.

    Parameters
    ----------
    values : (N, V) array_like
        Baseline blood volume or R2' of participants; NaN is no estimate.
    deviations : float
        Allowed distance above the median, in median absolute deviations (not scaled).

    Returns
    -------
    inside : (V,) ndarray of bool
        False for the high values of large vessels and of air, and without an estimate.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> below_typical([[4.0, 5.0, 6.0, 5.0, 30.0]])
    array([ True,  True,  True,  True, False])
    """
    median = median_over_participants(np.asarray(values, float))
    centre = np.nanmedian(median) if np.isfinite(median).any() else np.nan
    spread = np.nanmedian(np.abs(median - centre)) if np.isfinite(centre) else np.nan
    inside: BoolArray = median <= centre + deviations * spread
    return inside


def discordance_by_quartile(labels: ArrayLike, bold: ArrayLike) -> list[dict[str, object]]:
    """
    Count labels in the quartiles of the BOLD change, increases and decreases apart.

    Parameters
    ----------
    labels : (V,) array_like of int
        Codes of :class:`bids_app.models.concordance.labels.Label`.
    bold : (V,) array_like
        BOLD change, percent.

    Returns
    -------
    rows : list of dict
        bold, quartile (1 = weakest change), low, high (percent), n_concordant, n_discordant,
        discordant_fraction.

    Examples
    --------
    >>> rows = discordance_by_quartile([1, 2, 1, 1], [0.1, 0.2, 0.3, 0.4])
    >>> [row['n_discordant'] for row in rows]
    [0, 1, 0, 0]
    """
    codes, change = np.asarray(labels), np.asarray(bold, float)
    rows: list[dict[str, object]] = []
    for name, agree, oppose in (
        ('positive', Label.CONCORDANT_POSITIVE, Label.DISCORDANT_POSITIVE),
        ('negative', Label.CONCORDANT_NEGATIVE, Label.DISCORDANT_NEGATIVE),
    ):
        chosen = (codes == agree) | (codes == oppose)
        if not chosen.any():
            continue
        size = np.abs(change[chosen])
        edges = np.quantile(size, QUARTILES)
        quartile = np.searchsorted(edges, size, side='left')
        for number in range(len(QUARTILES) + 1):
            here = quartile == number
            n_discordant = int(np.sum(codes[chosen][here] == oppose))
            n = int(here.sum())
            rows.append(
                {
                    'bold': name,
                    'quartile': number + 1,
                    'low': float(size[here].min()) if n else float('nan'),
                    'high': float(size[here].max()) if n else float('nan'),
                    'n_concordant': n - n_discordant,
                    'n_discordant': n_discordant,
                    'discordant_fraction': n_discordant / n if n else float('nan'),
                }
            )
    return rows


def conjunction(
    first: ArrayLike, second: ArrayLike, first_bold: ArrayLike, second_bold: ArrayLike
) -> dict[str, dict[str, int]]:
    """
    Compare the labels of two contrasts where their BOLD changes are opposite.

    Parameters
    ----------
    first, second : (V,) array_like of int
        Labels of two contrasts, codes of :class:`bids_app.models.concordance.labels.Label`.
    first_bold, second_bold : (V,) array_like
        Their BOLD changes; only the sign counts.

    Returns
    -------
    counts : dict
        `first_up` (BOLD up in the first, down in the second contrast) and `second_up`, each with
        the numbers of voxels that are `concordant` in both, `discordant` in both, or
        `inconsistent`.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> conjunction([1, 1, 2, 4], [3, 4, 4, 2], [1, 1, 1, -1], [-1, -1, -1, 1])['first_up']
    {'concordant': 1, 'discordant': 1, 'inconsistent': 1}
    """
    agreement = _agreement(first) + _agreement(second)
    decided = (_agreement(first) != 0) & (_agreement(second) != 0)
    counts = {}
    for name, sign in (('first_up', 1.0), ('second_up', -1.0)):
        up = np.sign(np.asarray(first_bold, float)) == sign
        here = decided & up & (np.sign(np.asarray(second_bold, float)) == -sign)
        counts[name] = {
            'concordant': int(np.sum(agreement[here] == 2)),
            'discordant': int(np.sum(agreement[here] == -2)),
            'inconsistent': int(np.sum(agreement[here] == 0)),
        }
    return counts


def _agreement(labels: ArrayLike) -> IntArray:
    """Turn labels into 1 concordant, -1 discordant, 0 neither."""
    codes = np.asarray(labels)
    concordant = (codes == Label.CONCORDANT_POSITIVE) | (codes == Label.CONCORDANT_NEGATIVE)
    discordant = (codes == Label.DISCORDANT_POSITIVE) | (codes == Label.DISCORDANT_NEGATIVE)
    agreement: IntArray = concordant.astype(np.int64) - discordant.astype(np.int64)
    return agreement


def median_over_participants(values: FloatArray) -> FloatArray:
    """Give the median over the participants that are known; NaN where none is."""
    ordered = np.sort(values, axis=0)  # missing values come last
    n = np.isfinite(values).sum(axis=0)
    middle = np.stack([np.maximum(n - 1, 0) // 2, n // 2]).clip(max=len(values) - 1)
    median: FloatArray = np.take_along_axis(ordered, middle, axis=0).mean(axis=0)
    return median


def _ttest(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give mean and two-sided probability of the one-sample t test over known participants."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    enough = n >= 2
    x = np.where(known, values, 0.0)
    mean = x.sum(axis=0) / np.maximum(n, 1)
    squares = (np.where(known, x - mean, 0.0) ** 2).sum(axis=0)
    error = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    t = np.divide(mean, error, out=np.where(mean == 0, 0.0, np.inf), where=error > 0)
    p = np.where(enough, p_value(t, np.maximum(n - 1, 1)), np.nan)
    return np.where(enough, mean, np.nan), p
