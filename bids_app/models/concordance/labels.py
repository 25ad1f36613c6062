"""Labels that compare the sign of the BOLD change with that of the CMRO2 change."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.ashr import false_sign_rate
from bids_app.models.concordance.discordance import (
    Discordance,
    Share,
    SignPrior,
    estimate_discordance,
    sign_posterior,
)
from bids_app.models.constants import ERROR_SCALES, FEWEST_EFFECTS, LABEL_DOF
from bids_app.models.contrast.difference import p_value, z_score

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
    n_concordant: int | None
    n_discordant: int | None
    n_undetermined: int | None
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


def within_limits(maps: Sequence[ArrayLike], limits: Sequence[tuple[float, float]]) -> BoolArray:
    """
    Find the voxels in which every map lies within its limits.

    Parameters
    ----------
    maps : sequence of (V,) array_like
        At least one; NaN lies nowhere.
    limits : sequence of (float, float)
        Of each map: greater than the first, up to the second.

    Returns
    -------
    inside : (V,) ndarray of bool
        True where all do.

    Raises
    ------
    ModelInputError
        If there are no maps, or not as many as limits, or shapes differ.

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9

    Examples
    --------
    >>> within_limits([[0.4, 0.95, float('nan')]], [(0.0, 0.9)])
    array([ True, False, False])
    """
    arrays = [np.asarray(values, float) for values in maps]
    if not arrays or len(arrays) != len(limits):
        msg = f'one pair of limits per map is needed, got {len(limits)} for {len(arrays)}'
        raise ModelInputError(msg)
    _check_shapes(*arrays)
    inside: BoolArray = np.ones(arrays[0].shape, bool)
    for values, (low, high) in zip(arrays, limits, strict=True):
        inside &= (values > low) & (values <= high)
    return inside


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

    Notes
    -----
    Two-sided significance at a false discovery rate bounds the rate of wrong signs among the
    labels 1 to 4 by the same level. For the group, whose errors have few degrees of freedom.

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
    bold: Estimate, change: Estimate, gate: ArrayLike, mask: ArrayLike, *, level: float
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
    level : float
        Local false sign rate below which a sign is known, in (0, 1).

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Label`; 0 outside the mask and where an estimate is missing. A change
        whose variance is not positive has no known sign.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold, change = Estimate.of([1.0, 1.0], 0.01), Estimate.of([9.0, 1.0], 4.0)
    >>> label_robust(bold, change, [True, True], [True, True], level=0.05)
    array([1, 5], dtype=uint8)
    """
    _check_level(level)
    labels = label_by_sign(bold.value, change.value, gate, mask)
    tested = _tested(bold, change, gate, mask)
    posterior = false_sign_rate(change.value[tested], _standard_error(change)[tested])
    known = np.zeros(tested.shape, bool)
    known[tested] = posterior.false_sign_rate < level
    labels[tested & ~known & (bold.value > 0)] = Label.UNDETERMINED_POSITIVE
    labels[tested & ~known & (bold.value < 0)] = Label.UNDETERMINED_NEGATIVE
    return labels


def label_by_posterior(
    bold: Estimate,
    change: Estimate,
    gate: ArrayLike,
    mask: ArrayLike,
    *,
    level: float,
    prior: SignPrior | None,
) -> tuple[StatusArray, float]:
    """
    Label voxels whose sign of the CMRO2 change is known whatever the data leave open.

    Parameters
    ----------
    bold, change, gate, mask : (V,)
        As for :func:`label_robust`.
    level : float
        False sign rate below which a sign is known, in (0, 1).
    prior : SignPrior or None
        Of the change times the sign of BOLD, from all gated voxels:
        :attr:`bids_app.models.concordance.discordance.Discordance.prior`. None, because nothing
        may have changed or no interval is known: every gated voxel is undetermined.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Label`; 0 outside the mask and where an estimate is missing.
    expected_wrong : float
        Expected number of wrong signs among the labels 1 to 4, at most: under the least
        favourable distribution in every voxel.

    Notes
    -----
    A sign is known if its false sign rate is below `level` under the distributions of effects at
    both ends of the interval of pi_d, with normal noise and with that of a Student t of 5 degrees
    of freedom and the same variance. Fewer than 30 voxels are each judged by their own error. The
    prior takes the side that the data take, so that more
    voxels are decided than by a symmetric one, and none that the interval leaves open.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold, change = Estimate.of([1.0, 1.0], 0.01), Estimate.of([9.0, 1.0], 4.0)
    >>> prior = SignPrior(
    ...     locations=np.array([-3.0, 3.0]),
    ...     weights=np.array([[0.1, 0.9], [0.05, 0.95], [0.2, 0.8]]),
    ...     scales=np.ones(3),
    ... )
    >>> label_by_posterior(bold, change, [True] * 2, [True] * 2, level=0.05, prior=prior)[0]
    array([1, 5], dtype=uint8)
    """
    tested = _tested(bold, change, gate, mask)
    if tested.sum() < FEWEST_EFFECTS:
        labels = label_robust(bold, change, gate, mask, level=level)
        rate = false_sign_rate(change.value[tested], _standard_error(change)[tested])
        known_rates = rate.false_sign_rate[rate.false_sign_rate < level]
        return labels, float(known_rates.sum())
    _check_level(level)
    labels = label_by_sign(bold.value, change.value, gate, mask)
    worst, known = np.full(tested.shape, np.nan), np.zeros(tested.shape, bool)
    if prior is not None:
        aligned = (np.sign(bold.value) * change.value)[tested]
        error = _standard_error(change)[tested]
        found = [sign_posterior(aligned, error, prior, dof=dof) for dof in (np.inf, LABEL_DOF)]
        rates = np.concatenate([rate for _, rate in found])
        negative = np.concatenate([below for below, _ in found]) > 1 / 2
        # every distribution must name the sign that is measured
        agreed = np.all(negative == (aligned < 0), axis=0)
        worst[tested] = rates.max(axis=0)
        known[tested] = agreed & (rates.max(axis=0) < level)
    labels[tested & ~known & (bold.value > 0)] = Label.UNDETERMINED_POSITIVE
    labels[tested & ~known & (bold.value < 0)] = Label.UNDETERMINED_NEGATIVE
    return labels, float(worst[known].sum())


def discordance_probability(
    bold: Estimate,
    change: Estimate,
    gate: ArrayLike,
    mask: ArrayLike,
    *,
    prior: SignPrior | None = None,
) -> FloatArray:
    r"""
    Give the posterior probability that the true changes of BOLD and CMRO2 have opposite signs.

    Parameters
    ----------
    bold, change, gate, mask : (V,)
        As for :func:`label_robust`.
    prior : SignPrior, optional
        Of the change times the sign of BOLD; its likeliest distribution is used. None: a
        symmetric one, learnt from all gated voxels, which takes no side.

    Returns
    -------
    probability : (V,) ndarray of float64
        In [0, 1]; NaN outside gate and mask and where an estimate or its error is missing.

    Notes
    -----
    With q_B the probability that the sign of BOLD is wrong (flat prior) and q_D that the true D
    has the sign of the measured BOLD,

    .. math:: P = (1 - q_B)(1 - q_D) + q_B q_D

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold, change = Estimate.of([1.0, 1.0], 0.01), Estimate.of([9.0, -9.0], 4.0)
    >>> discordance_probability(bold, change, [True] * 2, [True] * 2).round(3)
    array([0., 1.])
    """
    tested = _tested(bold, change, gate, mask)
    value, error = change.value[tested], _standard_error(change)[tested]
    if prior is None:
        negative = false_sign_rate(value, error).negative
    else:
        sign = np.sign(bold.value[tested])
        opposed = sign_posterior(sign * value, error, prior)[0][0]
        negative = np.where(sign > 0, opposed, 1.0 - opposed)
    upward = 1.0 - p_value(z_score(bold))[tested] / 2
    upward = np.where(bold.value[tested] > 0, upward, 1.0 - upward)
    probability: FloatArray = np.full(tested.shape, np.nan)
    probability[tested] = upward * negative + (1.0 - upward) * (1.0 - negative)
    return probability


def estimate_shares(
    bold: Estimate,
    change: Estimate,
    gate: ArrayLike,
    mask: ArrayLike,
    *,
    smallest_effect: float,
    blocks: ArrayLike | None = None,
    networks: Mapping[str, ArrayLike] | None = None,
    left_out: Sequence[tuple[FloatArray, FloatArray]] | None = None,
    withheld: Mapping[str, str] | None = None,
    error_scales: Sequence[float] = ERROR_SCALES,
    intervals: Collection[str] = ('count', 'size', 'null'),
) -> dict[tuple[str, str], Discordance]:
    """
    Estimate the shares of discordance that survive measurement error, all, BOLD up, BOLD down.

    Parameters
    ----------
    bold, change, gate, mask : (V,)
        As for :func:`label_robust`.
    smallest_effect : float
        Smallest CMRO2 change of interest, umol/100 g/min.
    blocks : (V,) array_like of int, optional
        Spatial blocks of the noise, see :func:`bids_app.models.concordance.ashr.spatial_blocks`.
    networks : mapping of str to (V,) array_like of bool, optional
        Further parts of the brain.
    left_out : sequence of ((V,) ndarray, (V,) ndarray), optional
        CMRO2 changes and errors with each participant left out; only gated voxels are read.
    withheld : mapping of str to str, optional
        Parts (`all` is the whole) in which nothing may have changed by another test, and why.
    error_scales : sequence of float
        What the standard errors may have to be multiplied by.
    intervals : collection of str
        Shares whose intervals are computed too.

    Returns
    -------
    shares : dict of (str, str) to Discordance
        Part and sign of BOLD (all, positive, negative). Where a change that is common to all
        voxels explains a part, its two signs are withheld too.

    Raises
    ------
    ModelInputError
        If the shapes differ or `smallest_effect` is negative.

    References
    ----------
    .. [1] Stephens, Biostatistics 18:275, 2017. doi:10.1093/biostatistics/kxw041

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> bold, change = Estimate.of([1.0] * 9, 0.01), Estimate.of([9.0] * 9, 4.0)
    >>> shares = estimate_shares(bold, change, [True] * 9, [True] * 9, smallest_effect=1.0)
    >>> list(shares), shares['all', 'positive'].n_used
    ([('all', 'all'), ('all', 'positive'), ('all', 'negative')], 9)
    """
    tested = _tested(bold, change, gate, mask)
    sign = np.sign(bold.value)
    aligned, error = sign * change.value, _standard_error(change)
    block = np.arange(tested.size) if blocks is None else np.asarray(blocks)
    parts = {'all': np.ones(tested.shape, bool)}
    parts |= {name: np.asarray(part, bool) for name, part in (networks or {}).items()}
    _check_shapes(tested, block, *parts.values())
    signs = {'all': tested, 'positive': sign > 0, 'negative': sign < 0}
    found: dict[tuple[str, str], Discordance] = {}
    for network, part in parts.items():
        reason = (withheld or {}).get(network, '')
        for name, chosen_sign in signs.items():
            chosen = tested & part & chosen_sign
            one = estimate_discordance(
                aligned[chosen],
                error[chosen],
                smallest_effect=smallest_effect,
                direction=sign[chosen] if name == 'all' else None,
                blocks=block[chosen],
                left_out=None
                if left_out is None
                else [(sign[chosen] * d[chosen], s[chosen]) for d, s in left_out],
                error_scales=error_scales,
                withheld=reason,
                intervals=intervals,
            )
            found[network, name] = one
            reason = reason or (one.reason if one.is_offset else '')
    return found


def share_rows(
    shares: Mapping[tuple[str, str], Discordance], smallest_effect: float
) -> list[ConcordanceRow]:
    """
    Put shares into rows of the table of counts and shares.

    Parameters
    ----------
    shares : mapping of (str, str) to Discordance
        From :func:`estimate_shares`.
    smallest_effect : float
        Smallest CMRO2 change of interest, umol/100 g/min.

    Returns
    -------
    rows : list of dict
        Rules `size_weighted` (w_d), `noise_corrected` (pi_d) and `noise_only` of every part, with
        the columns of :func:`concordance_summary`. The counts of `noise_corrected` are expected
        numbers; `n_undetermined` are the voxels whose change is below the smallest effect. Those
        of `noise_only` are what the sign rule would count if every voxel were concordant.

    Examples
    --------
    >>> rows = share_rows({('all', 'all'): Discordance(reason='no voxel')}, 1.0)
    >>> [row['rule'] for row in rows]
    ['size_weighted', 'noise_corrected', 'noise_only']
    """
    rows: list[ConcordanceRow] = []
    for (network, bold), found in shares.items():
        rows += _estimated_rows(found, bold, network, smallest_effect)
    return rows


def _estimated_rows(
    found: Discordance, bold: str, network: str, smallest_effect: float
) -> list[ConcordanceRow]:
    """Make the three rows of an estimate."""
    n, null = found.n_used, found.null.value
    common = {'bold': bold, 'network': network, 'n_voxels': n}
    nothing = {'n_concordant': None, 'n_discordant': None, 'n_undetermined': None}
    is_defined = bool(np.isfinite(found.count.value))
    n_changed = round(n * (1 - null)) if is_defined else 0
    n_discordant = round(n_changed * found.count.value) if is_defined else 0
    noise = found.noise_only_fraction
    n_wrong = round(n * noise) if n else 0
    no_interval = {'ci_low': float('nan'), 'ci_high': float('nan'), 'null_fraction': float('nan')}
    weighted = (
        common
        | nothing
        | {
            'rule': 'size_weighted',
            'discordant_fraction': found.size.value,
            'ci_low': found.size.low,
            'ci_high': found.size.high,
            'null_fraction': float('nan'),
            'note': _note(found, found.size, smallest_effect=None),
        }
    )
    counted = common | {
        'rule': 'noise_corrected',
        'n_concordant': n_changed - n_discordant,
        'n_discordant': n_discordant,
        'n_undetermined': n - n_changed,
        'discordant_fraction': found.count.value,
        'ci_low': found.count.low,
        'ci_high': found.count.high,
        'null_fraction': null,
        'note': _note(found, found.count, smallest_effect),
    }
    noise_only = (
        common
        | no_interval
        | {
            'rule': 'noise_only',
            'n_concordant': n - n_wrong,
            'n_discordant': n_wrong,
            'n_undetermined': 0,
            'discordant_fraction': noise,
            'note': 'sign rule if every voxel were concordant' if n else found.reason,
        }
    )
    columns = ConcordanceRow.__annotations__
    return [
        cast('ConcordanceRow', {name: row[name] for name in columns})
        for row in (weighted, counted, noise_only)
    ]


def _note(found: Discordance, share: Share, smallest_effect: float | None) -> str:
    """Say how sure and how sensitive a share is."""
    facts = [found.reason] if found.reason else []
    if found.n_used and smallest_effect is not None:
        facts.append(f'a change below {smallest_effect:.3g} counts as none')
        facts.append(f'share of those {found.null.low:.2f} to {found.null.high:.2f} (95 %)')
    if found.n_used:
        facts.append(f'misfit of the fit {found.misfit:.3f}')
        facts.append(f'{found.n_blocks} spatial blocks, design effect {found.design_effect:.1f}')
    if np.isfinite(share.value) and smallest_effect is not None:
        facts.append(f'discordant with effects on a grid instead {found.location_fraction:.3f}')
    if np.isfinite(share.value):
        facts += [
            f'with errors x {scale:g} {value:.3f}'
            for scale, value in zip(found.error_scales, share.by_scale, strict=True)
            if scale != 1
        ]
        facts.append(f'jackknife alone +- {share.jackknife:.3f}')
    facts += [] if found.converged else ['a fit did not converge']
    return '; '.join(facts)


def _tested(bold: Estimate, change: Estimate, gate: ArrayLike, mask: ArrayLike) -> BoolArray:
    """Find the voxels of the gate with both estimates."""
    selected, inside = np.asarray(gate, bool), np.asarray(mask, bool)
    _check_shapes(bold.value, change.value, selected, inside)
    known = np.isfinite(bold.value) & (bold.value != 0) & np.isfinite(change.value)
    tested: BoolArray = selected & inside & known
    return tested


def _standard_error(change: Estimate) -> FloatArray:
    """Give the standard error; NaN where the variance is not positive."""
    variance = change.variance
    error: FloatArray = np.sqrt(np.where(variance > 0, variance, np.nan))
    return error


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
