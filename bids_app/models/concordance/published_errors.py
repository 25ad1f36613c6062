"""Standard errors of effects from what a published table holds in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

MEDIAN_ERROR = float(np.sqrt(np.pi / 2))
"""Standard error of a median over that of a mean of normal values, 1; exact for many."""


def error_from_t(effect: ArrayLike, t: ArrayLike) -> FloatArray:
    """
    Give the standard error of effects from their t.

    Parameters
    ----------
    effect, t : (V,) array_like
        Effects, any unit, and their t.

    Returns
    -------
    error : (V,) ndarray of float64
        Unit of the effects; NaN where t is 0.

    Examples
    --------
    >>> error_from_t([4.0, -3.0, 1.0], [2.0, -3.0, 0.0])
    array([ 2.,  1., nan])
    """
    x, ratio = np.asarray(effect, float), np.asarray(t, float)
    error: FloatArray = np.abs(x / np.where(ratio == 0, np.nan, ratio))
    return error


def error_from_p(effect: ArrayLike, p: ArrayLike, *, n: ArrayLike = np.inf) -> FloatArray:
    """
    Give the standard error of effects from their two-sided probabilities.

    Parameters
    ----------
    effect, p : (V,) array_like
        Effects, any unit, and their uncorrected two-sided p of a t test against 0.
    n : float or (V,) array_like
        Participants; infinite for a normal test.

    Returns
    -------
    error : (V,) ndarray of float64
        Unit of the effects; NaN where p is 1.

    Raises
    ------
    ModelInputError
        If a p is outside (0, 1], or n below 2.

    Examples
    --------
    >>> error_from_p([1.96], [0.05]).round(3), error_from_p([2.093], [0.05], n=20).round(3)
    (array([1.]), array([1.]))
    """
    probability = np.asarray(p, float)
    if np.any((probability <= 0) | (probability > 1)):
        worst = float(probability[(probability <= 0) | (probability > 1)][0])
        msg = f'p must lie above 0 and not above 1, found {worst:g}; an underflown p has no error'
        raise ModelInputError(msg)
    t = stats.t.isf(probability / 2, _participants(n) - 1)
    return error_from_t(effect, t)


def error_from_spread(sd: ArrayLike, n: ArrayLike, *, of_median: bool = False) -> FloatArray:
    """
    Give the standard error of means or medians over participants from their spread.

    Parameters
    ----------
    sd : (V,) array_like
        Standard deviation between participants, any unit.
    n : float or (V,) array_like
        Participants.
    of_median : bool
        The effects are medians, of normal values: their error is 1.25 times as large.

    Returns
    -------
    error : (V,) ndarray of float64
        Unit of `sd`.

    Raises
    ------
    ModelInputError
        If there are fewer than 2 participants.

    Examples
    --------
    >>> error_from_spread([10.0], 25), error_from_spread([10.0], 25, of_median=True).round(2)
    (array([2.]), array([2.51]))
    """
    error: FloatArray = np.asarray(sd, float) / np.sqrt(_participants(n))
    return error * MEDIAN_ERROR if of_median else error


def _participants(n: ArrayLike) -> FloatArray:
    """Refuse numbers of participants that no error can come from."""
    number = np.asarray(n, float)
    if np.any(number < 2):
        msg = f'at least 2 participants expected, found {float(np.min(number)):g}'
        raise ModelInputError(msg)
    return number
