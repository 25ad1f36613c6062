"""Difference of control and label volumes of arterial spin labeling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    BISQUARE,
    MAD_TO_SD,
    NOISY_PAIR,
    ROBUST_MINIMUM,
    WHOLLY_COUNTED,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import long_run_ratio, moderate_variance, pool_variance
from bids_app.models.status import Status, combine_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray


EFFICIENCY_OF_MAD = 0.37
"""Precision of a variance found by the median of absolute deviations over that of the mean of
squares, normal noise; 1."""

BISQUARE_STEPS = 4
"""Steps of the weighted mean; the centre moves by less than 1 % of its error in the last; ours."""


def estimate_difference(
    series: ArrayLike,
    *,
    context: Sequence[str],
    delay_index: Sequence[int] | None = None,
    robust: bool = False,
    noise_groups: ArrayLike | None = None,
) -> Estimate:
    r"""
    Estimate the mean difference of control and label.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of every volume, any unit.
    context : (T,) sequence of str
        What each volume is: control, label, deltam; or cbf, where there is nothing else. Other
        volumes are not used.
    delay_index : (T,) sequence of int, optional
        Which delay each volume has, from 0; those of unused volumes are not read.
    robust : bool
        Weight outlying pairs down, where a delay has four or more.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, which lend each other degrees of freedom; default all.

    Returns
    -------
    difference : (V,) or, with `delay_index`, (V, D) Estimate
        Control minus label, unit of `series`; negative values are not flagged. NaN with
        INVALID_INPUT where a used volume is not finite and NO_SIGNAL where all are zero.

    Raises
    ------
    ModelInputError
        If `context` does not fit `series`, holds no or unequally many control and label
        volumes, or pairs as well as ready differences.

    Notes
    -----
    The k-th control and the k-th label volume form the k-th pair, whichever comes first. The
    variance is that of the mean over pairs: the scatter of the pairs of a voxel (of all delays),
    drawn towards that of its group (:func:`bids_app.models.numerics.noise.moderate_variance`),
    times what the correlation of successive pairs adds
    (:func:`bids_app.models.numerics.noise.long_run_ratio`). From a single difference volume it
    cannot be told: then it is the robust spread over the voxels of a group, which holds the
    anatomy too and so is an upper bound.

    Robust: a pair whose deviation from the median, squared and taken as median over the voxels,
    exceeds twice that of the other pairs has its weight divided by this ratio; what then
    deviates in a voxel by r standard deviations of its noise (first from the median of the
    absolute deviations, moderated) has the weight 1 up to 3,
    :math:`(1 - (r/3 - 1)^2)^2` up to 6, and 0 beyond.

    References
    ----------
    .. [1] Beaton & Tukey, Technometrics 16:147, 1974. doi:10.1080/00401706.1974.10489171

    Examples
    --------
    >>> estimate_difference([[7, 9, 5, 9]], context=['label', 'control'] * 2).value
    array([3.])
    """
    series = np.asarray(series, float)
    context = tuple(context)
    if series.ndim != 2 or series.shape[1] != len(context):
        msg = (
            f'series must be voxels x volumes with one volume per entry of the context '
            f'({len(context)}), got shape {series.shape}'
        )
        raise ModelInputError(msg)
    pairs, finite, silent = _pairs(series, context)
    status = np.where(silent, Status.NO_SIGNAL, Status.OK)
    status = np.where(finite, status, Status.INVALID_INPUT)
    groups = _delays_of_pairs(context, delay_index)
    usable = status == Status.OK
    weights = [_pair_weights(pairs[:, group], usable, robust=robust) for group in groups]
    start, dof = _noise_of_pairs(pairs, groups, weights, usable, noise_groups, robust=robust)
    value, counted = np.empty((2, len(series), len(groups)))
    slow = np.empty_like(value)
    squares, freedom = np.zeros((2, len(series)))
    for index, (group, weight) in enumerate(zip(groups, weights, strict=True)):
        own = pairs[:, group]
        value[:, index], share = _location(own, weight, start, robust=robust)
        deviations = own - value[:, index, np.newaxis]
        slow[:, index] = long_run_ratio(deviations[:, weight == 1], noise_groups)
        counted[:, index] = np.maximum((weight * (share > 0)).sum(axis=1), 1.0)
        squares += (weight * share * deviations**2).sum(axis=1)
        freedom += np.maximum(share.sum(axis=1) - 1, 0.0)
    noise = start
    if np.any(freedom > 0):
        own_variance = np.divide(squares, freedom, out=np.full(len(series), np.nan),
                                 where=usable & (freedom > 0))  # fmt: skip
        noise, dof = moderate_variance(own_variance, freedom, noise_groups)
    variance = slow * noise[:, np.newaxis] / counted
    if delay_index is None:
        return Estimate.of(value[:, 0], variance[:, 0], status, dof)
    return Estimate.of(value, variance, np.repeat(status[:, np.newaxis], len(groups), axis=1), dof)


def half_difference(
    series: ArrayLike,
    *,
    context: Sequence[str],
    delay_index: Sequence[int] | None = None,
    robust: bool = False,
    noise_groups: ArrayLike | None = None,
    split: str = 'interleaved',
) -> Estimate | None:
    """
    Estimate the difference of two halves of the pairs.

    Parameters
    ----------
    series, context, delay_index, robust, noise_groups
        As for :func:`estimate_difference`.
    split : {'interleaved', 'contiguous'}
        Odd and even pairs, whose difference is noise; or the first and the second half, which
        slow changes tell apart too.

    Returns
    -------
    half : (V,) Estimate or None
        Mean over one half minus mean over the other, averaged over delays, unit of `series`;
        divided by its standard error it is N(0, 1) if the variances are right. None where a delay
        has fewer than four pairs.

    Examples
    --------
    >>> half_difference([[7, 9, 5, 9, 7, 9, 5, 9.5]], context=['label', 'control'] * 4).value
    array([-2.25])
    """
    context = tuple(context)
    groups = _delays_of_pairs(context, delay_index)
    if min(len(group) for group in groups) < ROBUST_MINIMUM:
        return None
    plus, minus = _volumes_of_differences(context)
    halves = []
    for second in (False, True):
        kept = np.concatenate([_half(group, split, second=second) for group in groups])
        volumes = {*plus[kept], *(minus[kept] if len(minus) else ())}
        own = [kind if index in volumes else 'n/a' for index, kind in enumerate(context)]
        halves.append(
            estimate_difference(
                series,
                context=own,
                delay_index=delay_index if delay_index is not None else [0] * len(own),
                robust=robust,
                noise_groups=noise_groups,
            )
        )
    odd, even = halves
    value = (odd.value - even.value).mean(axis=1)
    variance = (odd.variance + even.variance).sum(axis=1) / len(groups) ** 2
    status = combine_status(odd.status[:, 0], even.status[:, 0])
    return Estimate.of(value, variance, status, min(odd.dof, even.dof))


def _half(group: IntArray, split: str, *, second: bool) -> IntArray:
    """Return half of the pairs of a delay."""
    if split == 'interleaved':
        return group[int(second) :: 2]
    middle = len(group) // 2
    return group[middle:] if second else group[:middle]


def pair_deviations(
    series: ArrayLike,
    *,
    context: Sequence[str],
    delay_index: Sequence[int] | None = None,
    robust: bool = False,
) -> FloatArray:
    """
    Give the pairs of every voxel in their order in time, minus the mean of their delay.

    Parameters
    ----------
    series, context, delay_index, robust
        As for :func:`estimate_difference`; robust, a noisy volume is scaled down to its like.

    Returns
    -------
    deviations : (V, N) ndarray of float64
        Unit of `series`.

    Examples
    --------
    >>> pair_deviations([[7, 9, 5, 9]], context=['label', 'control'] * 2)
    array([[-1.,  1.]])
    """
    context = tuple(context)
    pairs, finite, _ = _pairs(np.asarray(series, float), context)
    deviations = np.empty_like(pairs)
    for group in _delays_of_pairs(context, delay_index):
        own = pairs[:, group]
        weight = _pair_weights(own, finite, robust=robust)
        mean = (own * weight).sum(axis=1, keepdims=True) / weight.sum()
        deviations[:, group] = (own - mean) * np.sqrt(weight)
    return deviations


def pairs_per_delay(
    context: Sequence[str], delay_index: Sequence[int] | None = None
) -> tuple[int, ...]:
    """
    Count the pairs (or ready differences) of each delay.

    Parameters
    ----------
    context, delay_index
        As for :func:`estimate_difference`.

    Returns
    -------
    counts : tuple of int
        One per delay.

    Examples
    --------
    >>> pairs_per_delay(['control', 'label'] * 3, [0, 0, 0, 0, 1, 1])
    (2, 1)
    """
    return tuple(len(group) for group in _delays_of_pairs(tuple(context), delay_index))


def sign_of_difference(series: ArrayLike, *, context: Sequence[str]) -> float:
    """
    Test whether label lowers the signal, as it must.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of a region with blood flow (grey matter), any unit.
    context : (T,) sequence of str
        As for :func:`estimate_difference`.

    Returns
    -------
    z : float
        Mean difference over its error, no unit; far below 0 where control and label are
        swapped. The error is that between pairs, with fewer than four pairs that between voxels.

    Examples
    --------
    >>> sign_of_difference([[9, 7.0, 9, 5, 9, 6, 9, 6]], context=['label', 'control'] * 4) < -5
    True
    """
    pairs, finite, _ = _pairs(np.asarray(series, float), tuple(context))
    pairs = pairs[finite]
    if not pairs.size:
        return 0.0
    samples = pairs.mean(axis=0 if pairs.shape[1] >= ROBUST_MINIMUM else 1)
    error = samples.std(ddof=1) / np.sqrt(len(samples)) if len(samples) > 1 else 0.0
    return float(samples.mean() / error) if error > 0 else 0.0


def _volumes_of_differences(context: tuple[str, ...]) -> tuple[IntArray, IntArray]:
    """Return the volumes that count positive and those that are subtracted, pair by pair."""
    volumes = {
        name: np.flatnonzero([entry.strip().lower() == name for entry in context])
        for name in ('control', 'label', 'deltam', 'cbf')
    }
    control, label, deltam, ready = volumes.values()
    if len(ready) and not len(control) + len(label) + len(deltam):
        return ready, label
    counts = f'{len(control)} control, {len(label)} label and {len(deltam)} deltam volumes'
    if len(control) != len(label):
        msg = f'control and label volumes must be equally many, got {counts}'
        raise ModelInputError(msg)
    if (len(control) > 0) == (len(deltam) > 0):
        msg = f'expected either pairs of control and label or deltam volumes, got {counts}'
        raise ModelInputError(msg)
    return (deltam, label) if len(deltam) else (control, label)


def _pairs(
    series: FloatArray, context: tuple[str, ...]
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return the differences (V, N), which voxels are finite and which are empty."""
    plus, minus = _volumes_of_differences(context)
    used = series[:, np.concatenate([plus, minus])]
    finite: BoolArray = np.asarray(np.isfinite(used).all(axis=1))
    used = np.where(finite[:, np.newaxis], used, 0.0)
    differences = used[:, : len(plus)]
    if len(minus):
        differences = differences - used[:, len(plus) :]
    silent: BoolArray = np.asarray(~used.any(axis=1))
    return differences, finite, silent


def _delays_of_pairs(
    context: tuple[str, ...], delay_index: Sequence[int] | None
) -> list[IntArray]:
    """Return the pairs of each delay."""
    plus, minus = _volumes_of_differences(context)
    if delay_index is None:
        return [np.arange(len(plus))]
    index = np.asarray(delay_index, int)
    if index.shape != (len(context),):
        msg = f'delay_index must have one entry per volume ({len(context)}), got {index.shape}'
        raise ModelInputError(msg)
    own = index[plus]
    if len(minus) and np.any(own != index[minus]):
        msg = 'control and label of a pair must have the same delay'
        raise ModelInputError(msg)
    return [np.flatnonzero(own == delay) for delay in np.unique(own)]


def _pair_weights(pairs: FloatArray, usable: BoolArray, *, robust: bool) -> FloatArray:
    """Return the weight of each pair of a delay: 1, less where the whole volume is noisy."""
    n_pairs = pairs.shape[1]
    if not robust or n_pairs < ROBUST_MINIMUM or not usable.any():
        return np.ones(n_pairs)
    squared = (pairs[usable] - np.median(pairs[usable], axis=1, keepdims=True)) ** 2
    power = np.median(squared, axis=0)
    typical = np.median(power)
    ratio = power / typical if typical > 0 else np.ones(n_pairs)
    return np.asarray(np.where(ratio > NOISY_PAIR, 1 / np.maximum(ratio, 1.0), 1.0))


def _noise_of_pairs(
    pairs: FloatArray,
    groups: Sequence[IntArray],
    weights: Sequence[FloatArray],
    usable: BoolArray,
    noise_groups: ArrayLike | None,
    *,
    robust: bool,
) -> tuple[FloatArray, float]:
    """Return a first variance of a single pair, from all delays, and its dof."""
    squares, dof = np.zeros(len(pairs)), 0.0
    for group, weight in zip(groups, weights, strict=True):
        quiet = pairs[:, group[weight == 1]]
        n_quiet = quiet.shape[1]
        if robust and n_quiet >= ROBUST_MINIMUM:
            distance = np.abs(quiet - np.median(quiet, axis=1, keepdims=True))
            freedom = EFFICIENCY_OF_MAD * (n_quiet - 1)
            squares = squares + freedom * (MAD_TO_SD * np.median(distance, axis=1)) ** 2
            dof += freedom
        elif n_quiet > 1:
            squares = squares + quiet.var(axis=1) * n_quiet
            dof += n_quiet - 1
    if dof:
        return moderate_variance(np.where(usable, squares / dof, np.nan), dof, noise_groups)
    variance = _squared_deviation(pairs.mean(axis=1), usable, noise_groups)
    return pool_variance(np.where(usable, variance, np.nan), 1, noise_groups)


def _location(
    pairs: FloatArray, weights: FloatArray, noise: FloatArray, *, robust: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the mean of the pairs of a delay and how much each counts beside its weight."""
    n_pairs = pairs.shape[1]
    if not robust or n_pairs < ROBUST_MINIMUM:
        return pairs.mean(axis=1), np.ones(pairs.shape)
    centre = np.median(pairs, axis=1)
    spread = np.sqrt(noise)[:, np.newaxis] / np.sqrt(weights)
    spread = np.where(spread > 0, spread, np.inf)
    for _ in range(BISQUARE_STEPS):
        beyond = np.abs(pairs - centre[:, np.newaxis]) / spread - WHOLLY_COUNTED
        inside = 1 - np.clip(beyond / (BISQUARE - WHOLLY_COUNTED), 0, 1) ** 2
        share = weights * inside**2
        total = share.sum(axis=1)
        mean = (share * pairs).sum(axis=1)
        centre = np.divide(mean, total, out=centre.copy(), where=total > 0)
    return centre, inside**2


def _squared_deviation(
    value: FloatArray, usable: BoolArray, noise_groups: ArrayLike | None
) -> FloatArray:
    """Return the squared deviation of each voxel from the median of its group."""
    groups = np.zeros(value.shape, int) if noise_groups is None else np.asarray(noise_groups)
    deviation = np.zeros(value.shape)
    for group in np.unique(groups[usable]):
        members = usable & (groups == group)
        deviation[members] = value[members] - np.median(value[members])
    return deviation**2
