"""How much two sides differ, relative to their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.estimate import Estimate

if TYPE_CHECKING:
    from bids_app._typing import FloatArray


def asymmetry_index(first: Estimate, second: Estimate) -> Estimate:
    r"""
    Compute the asymmetry of pairs of values.

    Parameters
    ----------
    first, second : (...) Estimate
        Of both sides, any unit, of one shape.

    Returns
    -------
    index : (...) Estimate
        Dimensionless, positive where `first` is larger; missing where a side is, or where their
        sum is not positive.

    Notes
    -----
    .. math:: A = \frac{a - b}{(a + b)/2}, \qquad
        var(A) = \frac{16\,(b^2\,var(a) + a^2\,var(b))}{(a + b)^4}

    to first order, with independent random errors of both sides. A constant that scales both
    (haematocrit, calibration) cancels.

    Examples
    --------
    >>> index = asymmetry_index(Estimate.of([0.44, 0.4], 1e-4), Estimate.of([0.36, 0.4], 1e-4))
    >>> index.value.round(3), np.sqrt(index.variance).round(3)
    (array([0.2, 0. ]), array([0.036, 0.035]))
    """
    a, b = first.value, second.value
    total = a + b
    known = np.isfinite(total) & (total > 0)
    safe = np.where(known, total, 1.0)
    gain = 2.0 / safe
    value: FloatArray = np.where(known, gain * (a - b), np.nan)
    by_first, by_second = gain**2 * b, gain**2 * a
    variance = by_first**2 * first.variance + by_second**2 * second.variance
    return Estimate.of(value, np.where(known, variance, np.nan))
