"""Why a voxel has no estimate, or which caution belongs to the one it has."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, StatusArray

FIRST_FLAG = 20
"""Codes from here on are cautions: the value is kept. Codes 1 to 19: the value is NaN."""


class Status(IntEnum):
    """Codes of every status map; the same table is written to desc-status_dseg.tsv."""

    OK = 0
    OUTSIDE_MASK = 1
    OUTSIDE_FIELD_OF_VIEW = 2
    INVALID_INPUT = 3
    NO_SIGNAL = 4
    TOO_FEW_SAMPLES = 5
    NOT_CONVERGED = 6
    AT_BOUND = 7
    GRADIENT_TOO_STRONG = 8
    NO_BLOOD_VOLUME = 9
    NO_REFERENCE = 10
    EXCLUDED_VESSEL = 11
    NEGATIVE = 20
    IMPLAUSIBLE = 21
    LARGE_VESSEL = 22
    ARRIVAL_NOT_COVERED = 23
    STRONG_LEAK = 24
    LARGE_ARTERY = 25
    LARGE_VEIN = 26
    FLUID = 30
    INCONSISTENT_ECHOES = 31
    GRADIENT_UNCERTAIN = 32
    CAPPED = 33
    MOVED = 34


DESCRIPTIONS = {
    Status.OK: 'estimate is regular',
    Status.OUTSIDE_MASK: 'outside the brain mask',
    Status.OUTSIDE_FIELD_OF_VIEW: 'the scan does not cover this voxel',
    Status.INVALID_INPUT: 'input is NaN, infinite or of the wrong sign',
    Status.NO_SIGNAL: 'signal is zero or below the noise',
    Status.TOO_FEW_SAMPLES: 'fewer usable samples than the model needs',
    Status.NOT_CONVERGED: 'the fit did not converge',
    Status.AT_BOUND: 'the fit ended at a bound of the parameter range',
    Status.GRADIENT_TOO_STRONG: 'background gradient leaves too few usable echoes',
    Status.NO_BLOOD_VOLUME: 'blood volume is zero or negative',
    Status.NO_REFERENCE: 'reference value (baseline, M0, white matter) is zero or absent',
    Status.EXCLUDED_VESSEL: 'dominated by a large vessel, excluded on request',
    Status.NEGATIVE: 'value is negative, kept as estimated',
    Status.IMPLAUSIBLE: 'value is outside the physiological range, kept as estimated',
    Status.LARGE_VESSEL: 'dominated by an artery or a vein, which of them is not clear, kept as '
    'estimated',
    Status.ARRIVAL_NOT_COVERED: 'the delays do not bracket the arrival of the label: '
    'its time, and flow with it, is less certain than its variance says',
    Status.STRONG_LEAK: 'contrast agent that leaked changes the area by more than half of what '
    'the correction leaves: less certain than its variance says',
    Status.LARGE_ARTERY: 'dominated by an artery (the bolus is early), kept as estimated',
    Status.LARGE_VEIN: 'dominated by a vein (the bolus is late), kept as estimated',
    Status.FLUID: 'relaxes as slowly as fluid (T2 or T2* above 200 ms)',
    Status.INCONSISTENT_ECHOES: 'echoes deviate from the decay by more than noise (movement, '
    'ghosts, several tissues)',
    Status.GRADIENT_UNCERTAIN: 'the error of the background gradient moves R2* by over 2.5 1/s',
    Status.CAPPED: 'value was set to the limit of the published pipeline',
    Status.MOVED: 'echoes or redundant sets disagree by 5 % of the signal beyond the noise',
}
"""One sentence per code."""


def is_missing(status: ArrayLike) -> BoolArray:
    """
    Tell which voxels have no estimate.

    Parameters
    ----------
    status : (...) array_like of int
        Status codes.

    Returns
    -------
    missing : (...) ndarray of bool
        True where the value is NaN by definition.

    Examples
    --------
    >>> is_missing([Status.OK, Status.NO_SIGNAL, Status.NEGATIVE])
    array([False,  True, False])
    """
    codes = np.asarray(status)
    missing: BoolArray = (codes != Status.OK) & (codes < FIRST_FLAG)
    return missing


def without_cautions(status: ArrayLike) -> StatusArray:
    """
    Keep the reasons of missing values only.

    Parameters
    ----------
    status : (...) array_like of int
        Status codes.

    Returns
    -------
    reasons : (...) ndarray of uint8
        OK where there was a caution.

    Examples
    --------
    >>> without_cautions([Status.OK, Status.NO_SIGNAL, Status.NEGATIVE])
    array([0, 4, 0], dtype=uint8)
    """
    codes = np.asarray(status, np.uint8)
    return np.where(is_missing(codes), codes, np.uint8(Status.OK))


def flag_negative(value: ArrayLike) -> StatusArray:
    """
    Flag what lies below zero.

    Parameters
    ----------
    value : (...) array_like
        Any unit.

    Returns
    -------
    status : (...) ndarray of uint8
        NEGATIVE or OK; OK where the value is NaN.

    Examples
    --------
    >>> flag_negative([1.0, -1.0, np.nan])
    array([ 0, 20,  0], dtype=uint8)
    """
    return np.where(np.asarray(value) < 0, np.uint8(Status.NEGATIVE), np.uint8(Status.OK))


def combine_status(*status: ArrayLike) -> StatusArray:
    """
    Combine the status of several inputs into that of what is computed from them.

    Parameters
    ----------
    *status : (...) array_like of int
        Status codes that broadcast; earlier arguments win.

    Returns
    -------
    combined : (...) ndarray of uint8
        The first reason for a missing value; else the first caution; else OK.

    Examples
    --------
    >>> combine_status([0, 20, 20], [0, 0, 4])
    array([ 0, 20,  4], dtype=uint8)
    """
    layers = np.broadcast_arrays(*[np.asarray(layer, np.uint8) for layer in status])
    combined = layers[0].copy()
    for layer in layers[1:]:
        better = (combined == Status.OK) | (is_missing(layer) & ~is_missing(combined))
        combined = np.where(better, layer, combined)
    return combined
