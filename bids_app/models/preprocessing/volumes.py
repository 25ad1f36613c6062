"""Which volumes or echoes of a scan hold no signal that a model could use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

EMPTY_SHARE = 0.1
"""Share of the voxels of the head without a value from which on a volume holds no data; ours.
Volumes that other software resampled lack up to 5 % at the edge of the field of view."""

SILENT_LEVEL = 0.01
"""Signal of a volume over that of its like, below which there is none in it; ours."""

LARGEST_RISE = 1.1
"""Signal of an echo over that of the one before, above which it cannot be decay; ours."""

NEGATIVE_SHARE = 0.01
"""Share of the head from which on a magnitude has values below zero that are no rounding; ours."""

NEGATIVE_LEVEL = 0.1
"""How far below zero, over the typical signal: less is left by interpolation; ours."""

FIRST_RISE = 1.5
"""The same from the first echo to the second, which stimulated echoes can raise; ours."""


def brightest_voxels(size: ArrayLike, share: float = 0.1) -> BoolArray:
    """
    Find the voxels with most signal, a stand-in for the head where no mask is known yet.

    Parameters
    ----------
    size : (V,) array_like
        Mean absolute signal.
    share : float
        Of the voxels, in (0, 1].

    Returns
    -------
    bright : (V,) ndarray of bool
        At least one voxel.

    Examples
    --------
    >>> brightest_voxels([1.0, 8.5], 0.5)
    array([False,  True])
    """
    size = np.asarray(size, float)
    return np.asarray(size >= np.quantile(size, 1 - share))


def volumes_without_data(series: ArrayLike, kinds: Sequence[str] = ()) -> BoolArray:
    """
    Find the volumes that hold no data: not finite, empty, constant or without signal.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of voxels of the head, any unit.
    kinds : (T,) sequence of str, optional
        What each volume is; only those of one kind are alike in signal. Default: all are alike.

    Returns
    -------
    lost : (T,) ndarray of bool
        True where more than a tenth of the voxels is not finite or zero, where all voxels have
        one value and those of other volumes have not (an image that is even by itself is that of
        an even object), or where the median signal is below a hundredth of that of the other
        volumes of its kind.

    Raises
    ------
    ModelInputError
        If `kinds` does not fit `series`.

    Examples
    --------
    >>> volumes_without_data([[5.0, 0.0, 6.0, np.nan], [7.0, 0.0, 8.0, 9.0]])
    array([False,  True, False,  True])
    """
    series = np.asarray(series, float)
    alike = np.asarray(kinds or [''] * series.shape[1])
    if alike.shape != series.shape[1:]:
        msg = f'kinds must have one entry per volume ({series.shape[1]}), got {len(alike)}'
        raise ModelInputError(msg)
    has_value = np.isfinite(series) & (series != 0)
    known = np.where(has_value, series, 0.0)
    lost = (~has_value).mean(axis=0) > EMPTY_SHARE
    if len(series) > 1:
        is_even = np.ptp(known, axis=0) == 0
        lost |= is_even & ~is_even.all()
    level = np.median(np.abs(known), axis=0)  # differences scatter about zero
    for kind in np.unique(alike):
        same = (alike == kind) & ~lost
        if same.any():
            lost |= (alike == kind) & (level < SILENT_LEVEL * np.median(level[same]))
    return np.asarray(lost)


def fill_volumes(series: ArrayLike, lost: ArrayLike) -> FloatArray:
    """
    Put the course between their neighbours in the place of volumes without data.

    Nothing may be estimated from them: they only keep alignment and resampling from breaking.

    Parameters
    ----------
    series : (..., T) array_like
        Signal, any unit.
    lost : (T,) array_like of bool
        Volumes to replace; not all of them.

    Returns
    -------
    filled : (..., T) ndarray
        Linear between the nearest volumes with data, and equal to the nearest beyond them.

    Raises
    ------
    ModelInputError
        If no volume has data.

    Examples
    --------
    >>> fill_volumes([[2.0, np.nan, 6.0, 0.0]], [False, True, False, True])
    array([[2., 4., 6., 6.]])
    """
    filled = np.array(series, float)
    lost = np.asarray(lost, bool)
    kept = np.flatnonzero(~lost)
    if not kept.size:
        msg = 'no volume holds data'
        raise ModelInputError(msg)
    for volume in np.flatnonzero(lost):
        after = min(int(np.searchsorted(kept, volume)), len(kept) - 1)
        before = max(int(np.searchsorted(kept, volume)) - 1, 0)
        first, last = kept[before], kept[after]
        weight = np.clip((volume - first) / (last - first), 0, 1) if last > first else 0.0
        filled[..., volume] = (1 - weight) * filled[..., first] + weight * filled[..., last]
    return filled


def rising_echo(train: ArrayLike) -> tuple[int, float] | None:
    """
    Find the echo at which the signal of a decay rises in most of the head.

    Parameters
    ----------
    train : (V, E) array_like
        Magnitude of voxels of the head in order of echo time, any unit.

    Returns
    -------
    rise : (int, float) or None
        Index of the echo with the largest rise, and the median signal over that of the echo
        before; None where every echo can be decay. From the first echo to the second the signal
        may rise by half: imperfect refocusing makes the first echo low.

    Examples
    --------
    >>> rising_echo([[100.0, 80.0, 64.0, 205.0]])
    (3, 3.203125)
    >>> rising_echo([[100.0, 120.0, 64.0]]) is None
    True
    """
    train = np.asarray(train, float)
    usable = train[(np.isfinite(train) & (train > 0)).all(axis=1)]
    if not len(usable) or train.shape[1] < 2:
        return None
    ratio = np.median(usable[:, 1:] / usable[:, :-1], axis=0)
    limit = np.where(np.arange(len(ratio)) == 0, FIRST_RISE, LARGEST_RISE)
    worst = int(np.argmax(ratio / limit))
    return (worst + 1, float(ratio[worst])) if ratio[worst] > limit[worst] else None


def negative_echo(train: ArrayLike) -> tuple[int, float] | None:
    """
    Find the echo whose magnitude is below zero in part of the head, which no magnitude can be.

    Parameters
    ----------
    train : (V, E) array_like
        Magnitude of voxels of the head in order of echo time, any unit.

    Returns
    -------
    found : (int, float) or None
        Index of the echo with most of them, and their share; None where every echo can be a
        magnitude.

    Examples
    --------
    >>> negative_echo([[100.0, 80.0], [-65436.0, 80.0]])
    (0, 0.5)
    >>> negative_echo([[100.0, 80.0], [90.0, -0.1]]) is None
    True
    """
    train = np.asarray(train, float)
    level = NEGATIVE_LEVEL * np.nanmedian(np.abs(train), axis=0)
    share = np.mean(train < -level, axis=0)
    worst = int(np.argmax(share))
    return (worst, float(share[worst])) if share[worst] > NEGATIVE_SHARE else None


def has_lost_its_mean(series: ArrayLike) -> bool:
    """
    Tell whether the mean was removed from a series, so that percent have no meaning.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of voxels of the head over time, any unit.

    Returns
    -------
    is_lost : bool
        Whether in most voxels the mean over time is not even as large as the standard deviation.
        In a magnitude image of tissue it is some 20 to 100 times as large, in pure noise 1.9.

    Examples
    --------
    >>> has_lost_its_mean([[-1.0, 2.0, -1.0]]), has_lost_its_mean([[99.0, 102.0, 99.0]])
    (True, False)
    """
    series = np.asarray(series, float)
    return bool(np.median(series.mean(axis=1) / np.maximum(series.std(axis=1), np.spacing(1))) < 1)
