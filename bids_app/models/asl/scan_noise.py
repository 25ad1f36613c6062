"""What the halves of a label-control series tell of its errors: right, shared, slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.models.asl.label_control import (
    estimate_difference,
    half_difference,
    pair_deviations,
    pairs_per_delay,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.between_scans import compare_maps
from bids_app.models.numerics.noise import calibrate_levels, shared_noise
from bids_app.models.status import is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray

SPLITS = ('interleaved', 'contiguous')
"""Odd against even pairs; the first half against the second."""


def describe_scan_noise(
    series: ArrayLike, points: ArrayLike, region: BoolArray, **how: Any
) -> dict[str, Any]:
    """
    Tell how much noise voxels share, whether errors hold, and what the halves differ by.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of every volume, any unit.
    points : (V, 3) array_like
        Where the voxels lie, mm.
    region : (V,) ndarray of bool
        Voxels to judge by: grey matter.
    **how
        As for :func:`bids_app.models.asl.label_control.estimate_difference`.

    Returns
    -------
    found : dict
        ``shared``, of :func:`bids_app.models.numerics.noise.shared_noise`; for each of
        :data:`SPLITS` what :func:`bids_app.models.numerics.noise.calibrate_levels` says; and
        ``difference``, of
        :func:`bids_app.models.numerics.between_scans.compare_maps`. Only ``shared`` where a
        delay has fewer than four pairs, and that empty where there is one pair in all.
    """
    series, points = np.asarray(series, float), np.asarray(points, float)
    difference = _over_delays(estimate_difference(series, **how))
    region = region & ~is_missing(difference.status)
    counts = pairs_per_delay(how['context'], how.get('delay_index'))
    if np.sum(counts) < 2:  # one difference tells nothing of its noise
        return {'shared': {}}
    pairs = {key: value for key, value in how.items() if key != 'noise_groups'}
    deviations = pair_deviations(series[region], **pairs)
    each = difference.variance[region] * np.sum(counts)
    shared = shared_noise(deviations, each, points[region])
    found: dict[str, Any] = {'shared': shared}
    for split in SPLITS:
        half = half_difference(series, **how, split=split)
        if half is None:
            return found
        kept = region & ~is_missing(half.status)
        found[split] = calibrate_levels(half.at(kept), points[kept], shared)
        if split == 'contiguous':
            found['difference'] = compare_maps(
                half.at(kept), difference.at(kept), points[kept], shared
            )
    return found


def _over_delays(difference: Estimate) -> Estimate:
    """Average the delays of a difference."""
    if difference.value.ndim == 1:
        return difference
    variance = difference.variance.sum(axis=1) / difference.value.shape[1] ** 2
    return Estimate.of(difference.value.mean(axis=1), variance, difference.status[:, 0],
                       difference.dof)  # fmt: skip
