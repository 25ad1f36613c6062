"""How well a scan lies on the anatomy it was aligned to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

GOOD_OVERLAP = 0.85
"""Overlap of the masks from which on an alignment is good; no unit."""

SAME_OVERLAP = 0.95
"""Overlap below which two brains may be those of two heads; no unit."""

FAILED_OVERLAP = 0.8
"""Overlap below which a scan is not where the brain is; no unit."""

GOOD_GAIN = 0.9
"""Similarity after a small movement over that before, up to which an alignment is good."""

OTHER_HEAD_GAIN = 0.94
"""The same, above which two brains that differ are taken for those of two heads. A real head in
its place had 0.92, other heads 0.94 to 1.24 (docs/reference/validation.md)."""

FAILED_GAIN = 1.1
"""Similarity after a small movement over that before, above which an alignment failed."""

SURE_PLACE = 0.2
"""Mutual information of a head and the template at 4 mm, aligned rigidly, from which on the head
lies where it should, nats. A real head has 0.235 in its place, at most 0.18 in a wrong one."""

SURE_BRAIN = 0.3
"""The same once the head is deformed, in that eighth of the brain where it is smallest."""

HISTOGRAM_BINS = 24

FEWEST_VOXELS = 200
"""Below this there is nothing to judge by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentVerdict:
    """What is to be thought of an alignment."""

    name: str
    """good, check or failed."""
    reason: str
    """Empty where it is good."""


def judge_brain(placed: float, likeness: float) -> AlignmentVerdict:
    """
    Decide whether the brain found in a T1w image can be trusted.

    Parameters
    ----------
    placed : float
        Mutual information of the head and the template, aligned rigidly, nats.
    likeness : float
        The same once the head is deformed, in that eighth of the brain where it is smallest.

    Returns
    -------
    verdict : AlignmentVerdict
        Good, or check.

    Examples
    --------
    >>> judge_brain(0.3, 0.4).name
    'good'
    >>> judge_brain(0.1, 0.4).reason
    'the head resembles the template by 0.10, expected 0.2: is it a whole T1w head?'
    """
    if placed < SURE_PLACE:
        reason = (
            f'the head resembles the template by {placed:.2f}, expected {SURE_PLACE}: is it a '
            'whole T1w head?'
        )
        return AlignmentVerdict(name='check', reason=reason)
    if likeness < SURE_BRAIN:
        reason = (
            f'a part of the brain resembles the template by {likeness:.2f} only, expected '
            f'{SURE_BRAIN}: is the mask complete there?'
        )
        return AlignmentVerdict(name='check', reason=reason)
    return AlignmentVerdict(name='good', reason='')


def mask_overlap(one: ArrayLike, other: ArrayLike) -> float:
    """
    Measure how far two masks agree.

    Parameters
    ----------
    one, other : (...) array_like of bool
        Same shape.

    Returns
    -------
    dice : float
        Twice the common voxels over all of both; NaN where both are empty.

    Examples
    --------
    >>> mask_overlap([True, True, False], [True, False, False])
    0.6666666666666666
    """
    one, other = np.asarray(one, bool), np.asarray(other, bool)
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else float('nan')


def mutual_information(one: ArrayLike, other: ArrayLike) -> float:
    """
    Measure how much two images of the same voxels tell about each other.

    Parameters
    ----------
    one, other : (V,) array_like
        Any units; finite.

    Returns
    -------
    information : float
        Nats, from a histogram of equally filled bins; 0 where they are independent.

    Raises
    ------
    ModelInputError
        If shapes differ or there are fewer than 200 voxels.

    Examples
    --------
    >>> x = np.linspace(0, 1, 960)
    >>> bool(round(mutual_information(x, x**2), 3) == round(np.log(24), 3))
    True
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.shape != other.shape or one.size < FEWEST_VOXELS:
        msg = f'{FEWEST_VOXELS} voxels or more of both expected, got {one.shape}, {other.shape}'
        raise ModelInputError(msg)
    joint, _, _ = np.histogram2d(
        _ranks(one), _ranks(other), bins=HISTOGRAM_BINS, range=[[0, 1], [0, 1]]
    )
    share = joint / joint.sum()
    apart = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    filled = share > 0
    return float((share[filled] * np.log(share[filled] / apart[filled])).sum())


def judge_alignment(overlap: float, similarity: float, moved: ArrayLike) -> AlignmentVerdict:
    """
    Decide whether an alignment can be trusted.

    Parameters
    ----------
    overlap : float
        Dice of the brain in the scan and that of the anatomy.
    similarity : float
        Of the images where they lie.
    moved : (K,) array_like
        The same after small shifts and turns.

    Returns
    -------
    verdict : AlignmentVerdict
        Failed where the masks miss each other, where the images are far more alike after a small
        movement, or where they are hardly less alike after one and the brains differ (the T1w
        image of another head). Check where only one of these is so, and less clearly.

    Examples
    --------
    >>> judge_alignment(0.95, 1.0, [0.9, 0.8]).name
    'good'
    >>> judge_alignment(0.97, 0.85, [0.8, 0.7]).name
    'check'
    >>> judge_alignment(0.93, 0.85, [0.81, 0.7]).name
    'failed'
    >>> judge_alignment(0.93, 0.85, [0.78, 0.7]).name
    'check'
    >>> judge_alignment(0.95, 0.5, [0.9, 0.8]).name
    'failed'
    >>> judge_alignment(0.4, 1.0, [0.9, 0.8]).name
    'failed'
    """
    gain = float(np.max(moved)) / similarity if similarity > 0 else np.inf
    if overlap < FAILED_OVERLAP:
        reason = f'brain of the scan and of the anatomy overlap by {overlap:.2f} only'
        return AlignmentVerdict(name='failed', reason=f'{reason}, expected {FAILED_OVERLAP}')
    if gain > FAILED_GAIN:
        reason = 'images are more alike after a small movement'
        return AlignmentVerdict(name='failed', reason=reason)
    if gain > GOOD_GAIN:
        reason = f'images are {gain:.2f} times as alike after a small movement, expected less'
        if overlap >= SAME_OVERLAP or gain <= OTHER_HEAD_GAIN:
            return AlignmentVerdict(name='check', reason=reason)
        reason += f', and the brains overlap by {overlap:.2f} only: is the T1w image of this head?'
        return AlignmentVerdict(name='failed', reason=reason)
    if overlap < GOOD_OVERLAP:
        reason = f'masks overlap by {overlap:.2f}, expected {GOOD_OVERLAP}'
        return AlignmentVerdict(name='check', reason=reason)
    return AlignmentVerdict(name='good', reason='')


def _ranks(values: FloatArray) -> FloatArray:
    """Rank of every value from 0 to 1."""
    order = np.argsort(np.argsort(values, kind='stable'), kind='stable')
    return np.asarray(order / len(values), float)
