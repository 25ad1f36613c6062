"""End-tidal pressures of breathed gases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.constants import BREATH_DEPTH, BREATH_WINDOW, SHORTEST_BREATH
from bids_app.models.numerics.checks import check_positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import FloatArray


def find_end_tidal(
    trace: ArrayLike, *, sampling_rate: float, rises_in_expiration: bool
) -> NDArray[np.int64]:
    """
    Find the ends of expiration in a recording of a breathed gas.

    Parameters
    ----------
    trace : (T,) array_like
        Pressure or share of the gas, any unit.
    sampling_rate : float
        Hz; positive.
    rises_in_expiration : bool
        True of carbon dioxide, False of oxygen.

    Returns
    -------
    ends : (N,) ndarray of int
        Samples at which a breath ends, in order; none where the gas does not go up and down.

    Raises
    ------
    ModelInputError
        If the rate is not positive.

    Examples
    --------
    >>> breaths = 20 - 20 * np.cos(2 * np.pi * np.arange(200) / 40)
    >>> find_end_tidal(breaths, sampling_rate=10.0, rises_in_expiration=True)
    array([ 20,  60, 100, 140, 180])
    """
    from scipy.signal import find_peaks  # slow to import

    check_positive('sampling_rate (Hz)', sampling_rate)
    values = np.asarray(trace, float) * (1 if rises_in_expiration else -1)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(0, np.int64)
    filled = np.where(known, values, values[known].min())
    window = min(len(filled), max(1, round(BREATH_WINDOW * sampling_rate)))
    windows = filled[: len(filled) // window * window].reshape(-1, window)
    depth = float(np.median(np.ptp(windows, axis=1)))  # not over gases, which differ by more
    peaks, _ = find_peaks(
        filled,
        prominence=max(BREATH_DEPTH * depth, np.finfo(float).tiny),
        distance=max(1, round(SHORTEST_BREATH * sampling_rate)),
    )
    return np.asarray(peaks, np.int64)


def pressure_in(
    times: FloatArray, pressures: FloatArray, windows: list[tuple[float, float]]
) -> float:
    """
    Give the usual pressure in windows of time.

    Parameters
    ----------
    times, pressures : (N,) ndarray
        Of every breath, s and any unit.
    windows : list of (start, end)
        s.

    Returns
    -------
    pressure : float
        Median, which swallows and the change between gases hardly move; NaN without a breath.

    Examples
    --------
    >>> pressure_in(np.arange(6.0), np.array([40.0, 41, 42, 50, 51, 52]), [(3.0, 6.0)])
    51.0
    """
    inside = np.zeros(times.shape, bool)
    for start, end in windows:
        inside |= (times >= start) & (times < end)
    found = pressures[inside & np.isfinite(pressures)]
    return float(np.median(found)) if found.size else float('nan')
