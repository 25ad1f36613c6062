"""Bolus series that are not as they should be: one defect each, made from a sound series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.phantom.physics import bolus

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bids_app._typing import FloatArray
    from bids_app.phantom.acquisition import DscScan

N_ARTERIES = 24
"""Voxels that become arteries."""

ARTERY_HEIGHT = 70.0
"""Peak change of R2* in an artery, 1/s."""

SATURATED_HEIGHT = 300.0
"""The same where the signal is gone at the peak, 1/s."""

EARLY = 2.0
"""How much earlier the bolus reaches an artery, s."""


def spoil(series: NDArray[np.int16], scan: DscScan, name: str) -> NDArray[np.int16]:
    """
    Give a bolus series one defect.

    The series (X, Y, Z, T) of int16 is copied; the defect is one of :data:`DEFECTS`, and may
    shorten it.
    """
    spoilt = DEFECTS[name](series.astype(float), scan)
    return np.clip(np.rint(spoilt), 0, 32767).astype(np.int16)


def _arrival(scan: DscScan) -> int:
    """Volume at which the bolus reaches tissue."""
    return int(scan.arrival / scan.repetition_time)


def _before(series: FloatArray, scan: DscScan) -> FloatArray:
    """Mean before the bolus, with an axis for time."""
    return np.asarray(series[..., : _arrival(scan)].mean(axis=-1, keepdims=True))


def _without_bolus(series: FloatArray, scan: DscScan) -> FloatArray:
    """Repeat the volumes before the bolus."""
    return np.asarray(series[..., np.arange(series.shape[-1]) % _arrival(scan)])


def _early(series: FloatArray, scan: DscScan) -> FloatArray:
    """Start the series within the bolus."""
    return np.asarray(series[..., _arrival(scan) + 1 :])


def _truncated(series: FloatArray, scan: DscScan) -> FloatArray:
    """End the series 15 s after arrival: the peak is over, the pass is not."""
    return np.asarray(series[..., : _arrival(scan) + round(15.0 / scan.repetition_time)])


def _clipped(series: FloatArray, scan: DscScan) -> FloatArray:
    """Cut the signal at the median of the bright voxels."""
    level = _before(series, scan)
    return np.minimum(series, np.median(level[level > level.max() / 4]))


def _one_sided(series: FloatArray, scan: DscScan) -> FloatArray:
    """Leave a quarter of the bolus in one half of the image."""
    half = slice(0, series.shape[0] // 2)
    level = np.maximum(_before(series, scan)[half], 1.0)
    series[half] = level * np.maximum(series[half] / level, 1e-6) ** 0.25
    return series


def _moved(series: FloatArray, scan: DscScan) -> FloatArray:
    """Move the head by a voxel when the bolus arrives."""
    after = slice(_arrival(scan) + 2, None)
    series[..., after] = np.roll(series[..., after], 1, axis=1)
    return series


def _negative(series: FloatArray, scan: DscScan) -> FloatArray:
    """Let the signal rise under the bolus in three tenths of the image."""
    part = np.s_[:, : 3 * series.shape[1] // 10]
    level = np.maximum(_before(series, scan)[part], 1.0)
    series[part] = level**2 / np.maximum(series[part], 1.0)
    return series


def _with_arteries(series: FloatArray, scan: DscScan, height: float) -> FloatArray:
    """Make a block of bright voxels near the centre into arteries."""
    level = _before(series, scan)[..., 0]
    noise = series[..., : _arrival(scan)].std(axis=-1)
    middle = np.array(series.shape[:3]) / 2
    distance = np.linalg.norm(np.indices(level.shape).reshape(3, -1).T - middle, axis=1)
    distance[level.ravel() < np.median(level[level > level.max() / 4])] = np.inf
    chosen = np.unravel_index(np.argsort(distance)[:N_ARTERIES], level.shape)
    narrow = 1.3  # of the time axis: the bolus is not yet spread
    course, _ = bolus(narrow * (scan.times - scan.arrival + EARLY), arrival=0.0)
    signal = level[chosen][:, None] * np.exp(-scan.echo_time * height * course)
    random = np.random.default_rng(0).standard_normal((2, *signal.shape))
    floor = noise[chosen][:, None]
    series[chosen] = np.hypot(signal + floor * random[0], floor * random[1])
    return series


DEFECTS: dict[str, Callable[[FloatArray, DscScan], FloatArray]] = {
    'no-bolus': _without_bolus,
    'early-bolus': _early,
    'truncated': _truncated,
    'clipped': _clipped,
    'one-sided': _one_sided,
    'motion': _moved,
    'negative': _negative,
    'arteries': lambda series, scan: _with_arteries(series, scan, ARTERY_HEIGHT),
    'saturated-arteries': lambda series, scan: _with_arteries(series, scan, SATURATED_HEIGHT),
}
"""Name -> what makes it of a sound series. `arteries` is no defect, but the phantom has none."""
