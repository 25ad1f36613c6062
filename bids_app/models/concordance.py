"""Labels that compare the sign of the BOLD change with that of the CMRO2 change."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.change import p_value, z_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, StatusArray
    from bids_app.models.estimate import Estimate


class Label(IntEnum):
    """Values of every concordance map."""

    OUTSIDE = 0
    CONCORDANT_POSITIVE = 1
    DISCORDANT_POSITIVE = 2
    CONCORDANT_NEGATIVE = 3
    DISCORDANT_NEGATIVE = 4
    UNDETERMINED_POSITIVE = 5
    UNDETERMINED_NEGATIVE = 6
    NOT_SIGNIFICANT = 7


LABEL_NAMES: Mapping[Label, str] = {
    Label.OUTSIDE: 'outside',
    Label.CONCORDANT_POSITIVE: 'concordant positive (BOLD up, CMRO2 up)',
    Label.DISCORDANT_POSITIVE: 'discordant positive (BOLD up, CMRO2 down)',
    Label.CONCORDANT_NEGATIVE: 'concordant negative (BOLD down, CMRO2 down)',
    Label.DISCORDANT_NEGATIVE: 'discordant negative (BOLD down, CMRO2 up)',
    Label.UNDETERMINED_POSITIVE: 'undetermined positive (BOLD up, sign of CMRO2 not known)',
    Label.UNDETERMINED_NEGATIVE: 'undetermined negative (BOLD down, sign of CMRO2 not known)',
    Label.NOT_SIGNIFICANT: 'BOLD not significant',
}
"""Column name of the label tables."""

LABEL_COLORS: Mapping[Label, str] = {
    Label.OUTSIDE: '#000000',
    Label.CONCORDANT_POSITIVE: '#D55E00',
    Label.DISCORDANT_POSITIVE: '#F0E442',
    Label.CONCORDANT_NEGATIVE: '#0072B2',
    Label.DISCORDANT_NEGATIVE: '#56B4E9',
    Label.UNDETERMINED_POSITIVE: '#C9A68F',
    Label.UNDETERMINED_NEGATIVE: '#8FA3B5',
    Label.NOT_SIGNIFICANT: '#D9D9D9',
}
"""Column color of the label tables; tells apart with every kind of colour vision."""


class ConcordanceRow(TypedDict):
    """One row of a table of counts and shares."""

    rule: str
    bold: str
    network: str
    n_voxels: int
    n_concordant: int
    n_discordant: int
    n_undetermined: int
    discordant_fraction: float
    ci_low: float
    ci_high: float
    null_fraction: float
    note: str


_SIGNS: Mapping[str, tuple[tuple[Label, ...], tuple[Label, ...], tuple[Label, ...]]] = {
    'all': (
        (Label.CONCORDANT_POSITIVE, Label.CONCORDANT_NEGATIVE),
        (Label.DISCORDANT_POSITIVE, Label.DISCORDANT_NEGATIVE),
        (Label.UNDETERMINED_POSITIVE, Label.UNDETERMINED_NEGATIVE),
    ),
    'positive': (
        (Label.CONCORDANT_POSITIVE,),
        (Label.DISCORDANT_POSITIVE,),
        (Label.UNDETERMINED_POSITIVE,),
    ),
    'negative': (
        (Label.CONCORDANT_NEGATIVE,),
        (Label.DISCORDANT_NEGATIVE,),
        (Label.UNDETERMINED_NEGATIVE,),
    ),
}
"""Sign of BOLD -> its concordant, discordant and undetermined labels."""


def false_discovery_rate(p: ArrayLike) -> FloatArray:
    """
    Adjust probabilities for the number of tests (Benjamini and Hochberg).

    Parameters
    ----------
    p : (...) array_like
        Probabilities in [0, 1]; NaN is no test.

    Returns
    -------
    q : (...) ndarray of float64
        Smallest false discovery rate at which each test is significant; NaN where `p` is.

    Raises
    ------
    ModelInputError
        If a probability lies outside [0, 1].

    See Also
    --------
    gate_by_probability : Threshold it.

    References
    ----------
    .. [1] Benjamini & Hochberg, J R Stat Soc B 57:289, 1995.
       doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> false_discovery_rate([0.01, 0.04, float('nan'), 0.03]).round(3)
    array([0.03, 0.04,  nan, 0.04])
    """
    p = np.asarray(p, float)
    q: FloatArray = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if np.any((p[tested] < 0) | (p[tested] > 1)):
        msg = 'probabilities must lie in [0, 1]'
        raise ModelInputError(msg)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested])
    return q


def gate_by_probability(p: ArrayLike, *, q: float, mask: ArrayLike) -> BoolArray:
    """
    Keep the voxels of a mask that are significant at a false discovery rate.

    Parameters
    ----------
    p : (V,) array_like
        Two-sided probabilities; NaN is no test.
    q : float
        Level, in (0, 1).
    mask : (V,) array_like of bool
        Family of tests.

    Returns
    -------
    gate : (V,) ndarray of bool
        True where significant; False outside the mask and where there is no test.

    Raises
    ------
    ModelInputError
        If the shapes differ or `q` is not in (0, 1).

    See Also
    --------
    bold_gate : From a BOLD change with its variance.

    Examples
    --------
    >>> gate_by_probability([0.001, 0.5, 0.001], q=0.05, mask=[True, True, False])
    array([ True, False, False])
    """
    p, family = np.asarray(p, float), np.asarray(mask, bool)
    _check_shapes(p, family)
    _check_level(q)
    gate: BoolArray = false_discovery_rate(np.where(family, p, np.nan)) <= q
    return gate


def bold_gate(bold: Estimate, *, q: float, mask: ArrayLike) -> BoolArray:
    """
    Find the voxels where BOLD changed.

    Parameters
    ----------
    bold : (V,) Estimate
        BOLD change, percent.
    q : float
        False discovery rate, in (0, 1).
    mask : (V,) array_like of bool
        Voxels to test, such as grey matter.

    Returns
    -------
    gate : (V,) ndarray of bool
        True where the change differs from 0 (two-sided normal test).

    Raises
    ------
    ModelInputError
        If the shapes differ or `q` is not in (0, 1).

    See Also
    --------
    label_by_sign, label_robust : What it selects for.

    References
    ----------
    .. [1] Benjamini & Hochberg, J R Stat Soc B 57:289, 1995.
       doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold_gate(Estimate.of([1.0, 0.1], [0.04, 0.04]), q=0.05, mask=[True, True])
    array([ True, False])
    """
    return gate_by_probability(p_value(z_score(bold)), q=q, mask=mask)


def label_by_sign(
    bold_value: ArrayLike, cmro2_change: ArrayLike, gate: ArrayLike, mask: ArrayLike
) -> StatusArray:
    """
    Label voxels by the two signs alone, the published rule.

    Parameters
    ----------
    bold_value : (V,) array_like
        BOLD change, percent; only its sign counts.
    cmro2_change : (V,) array_like
        CMRO2 change in any unit; only its sign counts. NaN where there is none.
    gate : (V,) array_like of bool
        Where BOLD is significant.
    mask : (V,) array_like of bool
        Voxels to label.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Label` without 5 and 6. 0 outside the mask, where either change is NaN,
        and where the CMRO2 change in the gate is exactly 0 (it has no sign).

    Raises
    ------
    ModelInputError
        If the shapes differ.

    See Also
    --------
    label_robust : The rule that asks for evidence on the sign of the CMRO2 change.

    Notes
    -----
    No test on the CMRO2 change: at the noise of one participant's voxel a quarter to a half of
    these labels are wrong.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> label_by_sign([1, 1, -1, -1, 1], [2, -2, -2, 2, 2],
    ...               [True, True, True, True, False], [True] * 5)
    array([1, 2, 3, 4, 7], dtype=uint8)
    """
    bold, change = np.asarray(bold_value, float), np.asarray(cmro2_change, float)
    selected, inside = np.asarray(gate, bool), np.asarray(mask, bool)
    _check_shapes(bold, change, selected, inside)
    estimated = inside & np.isfinite(bold) & np.isfinite(change)
    classes = {
        Label.NOT_SIGNIFICANT: ~selected,
        Label.CONCORDANT_POSITIVE: selected & (bold > 0) & (change > 0),
        Label.DISCORDANT_POSITIVE: selected & (bold > 0) & (change < 0),
        Label.CONCORDANT_NEGATIVE: selected & (bold < 0) & (change < 0),
        Label.DISCORDANT_NEGATIVE: selected & (bold < 0) & (change > 0),
    }
    labels = np.full(bold.shape, Label.OUTSIDE, np.uint8)
    for label, members in classes.items():
        labels[estimated & members] = label
    return labels


def label_by_probability(
    bold_value: ArrayLike,
    cmro2_change: ArrayLike,
    p: ArrayLike,
    gate: ArrayLike,
    mask: ArrayLike,
    *,
    q: float,
) -> StatusArray:
    """
    Label voxels by sign where the CMRO2 change is significant, else as undetermined.

    Parameters
    ----------
    bold_value, cmro2_change, gate, mask : (V,) array_like
        As for :func:`label_by_sign`.
    p : (V,) array_like
        Two-sided probabilities of the CMRO2 changes if nothing changed.
    q : float
        False discovery rate within the labelled part of the gate, in (0, 1).

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Label`; 0 outside the mask and where an estimate is missing.

    Raises
    ------
    ModelInputError
        If the shapes differ or `q` is not in (0, 1).

    See Also
    --------
    label_robust : From estimates with their variances.

    Notes
    -----
    Two-sided significance at a false discovery rate bounds the rate of wrong signs among the
    labels 1 to 4 by the same level.

    References
    ----------
    .. [1] Benjamini & Hochberg, J R Stat Soc B 57:289, 1995.
       doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> label_by_probability([1, 1, -1], [2, -2, 2], [0.001, 0.4, 0.01],
    ...                      [True] * 3, [True] * 3, q=0.05)
    array([1, 5, 4], dtype=uint8)
    """
    bold, change = np.asarray(bold_value, float), np.asarray(cmro2_change, float)
    labels = label_by_sign(bold, change, gate, mask)
    tested = np.asarray(gate, bool) & np.asarray(mask, bool)
    tested &= np.isfinite(bold) & (bold != 0) & np.isfinite(change)
    known = gate_by_probability(p, q=q, mask=tested)
    labels[tested & ~known & (bold > 0)] = Label.UNDETERMINED_POSITIVE
    labels[tested & ~known & (bold < 0)] = Label.UNDETERMINED_NEGATIVE
    return labels


def label_robust(
    bold: Estimate, change: Estimate, gate: ArrayLike, mask: ArrayLike, *, q: float
) -> StatusArray:
    """
    Label voxels where the sign of the CMRO2 change is known, the others as undetermined.

    Parameters
    ----------
    bold : (V,) Estimate
        BOLD change, percent.
    change : (V,) Estimate
        CMRO2 change D, umol/100 g/min.
    gate : (V,) array_like of bool
        Where BOLD is significant.
    mask : (V,) array_like of bool
        Voxels to label.
    q : float
        False discovery rate of the sign of D inside the gate, in (0, 1).

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Label`; 0 outside the mask and where an estimate is missing.

    Raises
    ------
    ModelInputError
        If the shapes differ or `q` is not in (0, 1).

    See Also
    --------
    label_by_sign : The published rule, without a test.

    References
    ----------
    .. [1] Benjamini & Hochberg, J R Stat Soc B 57:289, 1995.
       doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold, change = Estimate.of([1.0, 1.0], 0.01), Estimate.of([9.0, 1.0], 4.0)
    >>> label_robust(bold, change, [True, True], [True, True], q=0.05)
    array([1, 5], dtype=uint8)
    """
    p = p_value(z_score(change))
    return label_by_probability(bold.value, change.value, p, gate, mask, q=q)


def concordance_summary(
    labels: ArrayLike, *, rule: str, networks: Mapping[str, ArrayLike] | None = None
) -> list[ConcordanceRow]:
    """
    Count the labels and give the share of discordant voxels.

    Parameters
    ----------
    labels : (...) array_like of int
        Codes of :class:`Label`.
    rule : str
        Name of the rule that made them: sign, robust.
    networks : mapping of str to (...) array_like of bool, optional
        Further parts of the brain to count in.

    Returns
    -------
    rows : list of dict
        The whole map first (network `all`), then each network; in each all BOLD changes,
        increases, decreases. `discordant_fraction` is discordant/(discordant + concordant), NaN
        where there is neither; interval and `null_fraction` are NaN for these counting rules,
        which the note says.

    Raises
    ------
    ModelInputError
        If a network has another shape than the labels.

    See Also
    --------
    label_by_sign, label_robust : The rules.

    Examples
    --------
    >>> rows = concordance_summary([1, 1, 1, 2, 5, 7], rule='robust')
    >>> rows[0]['n_voxels'], rows[0]['discordant_fraction']
    (5, 0.25)
    """
    codes = np.asarray(labels)
    parts = {'all': np.ones(codes.shape, bool)}
    parts |= {name: np.asarray(part, bool) for name, part in (networks or {}).items()}
    _check_shapes(codes, *parts.values())
    rows: list[ConcordanceRow] = []
    for network, part in parts.items():
        counts = np.bincount(codes[part].ravel().astype(int), minlength=len(Label))
        rows += [_summary_row(counts, rule, bold, network) for bold in _SIGNS]
    return rows


def _summary_row(
    counts: np.ndarray[tuple[int], np.dtype[np.int64]], rule: str, bold: str, network: str
) -> ConcordanceRow:
    """Make one row from the counts per label."""
    concordant, discordant, undetermined = (
        int(sum(counts[label] for label in labels)) for labels in _SIGNS[bold]
    )
    decided = concordant + discordant
    return ConcordanceRow(
        rule=rule,
        bold=bold,
        network=network,
        n_voxels=decided + undetermined,
        n_concordant=concordant,
        n_discordant=discordant,
        n_undetermined=undetermined,
        discordant_fraction=discordant / decided if decided else float('nan'),
        ci_low=float('nan'),
        ci_high=float('nan'),
        null_fraction=float('nan'),
        note='count without interval' if decided else 'no voxel has a sign by this rule',
    )


def _check_shapes(*arrays: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    """Refuse maps of different shapes."""
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        msg = f'maps, gate and masks must have equal shapes, got {sorted(shapes)}'
        raise ModelInputError(msg)


def _check_level(q: float) -> None:
    """Refuse a level that is no rate."""
    if not 0 < q < 1:
        msg = f'the false discovery rate must lie in (0, 1), got {q}'
        raise ModelInputError(msg)
