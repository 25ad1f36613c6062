"""Decays of single voxels beside the curve of their fit, to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.relaxometry.decay import predict_decay
from bids_app.models.relaxometry.epg import predict_echo_train
from bids_app.models.status import Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray
    from bids_app.models.estimate import Estimate

REFOCUSING_ANGLES = np.arange(90.0, 181.0, 2.0)
"""Refocusing angles that are tried for the curve of a spin-echo train, degrees; ours."""


def choose_voxels(
    rate: Estimate, groups: ArrayLike, names: Mapping[int, str], *, flagged: str = 'flagged'
) -> dict[str, int]:
    """
    Choose a typical voxel of every tissue and one that is flagged.

    Parameters
    ----------
    rate : (V,) Estimate
        R2 or R2*, 1/s.
    groups : (V,) array_like of int
        Tissue of every voxel.
    names : mapping of int to str
        Tissue to the name of its voxel.
    flagged : str
        Name of the voxel whose status is neither OK nor outside.

    Returns
    -------
    voxels : dict of str to int
        Name to index: of every tissue the voxel whose rate is nearest to the median of the tissue,
        and of the flagged ones the one in the middle. What there is none of is left out.

    Examples
    --------
    >>> from bids_app.models.estimate import Estimate
    >>> choose_voxels(Estimate.of([9.0, 12.0, 13.0], 1.0), [1, 1, 1], {1: 'grey', 2: 'white'})
    {'grey': 1}
    """
    groups = np.asarray(groups)
    is_good = rate.status == Status.OK
    found = {}
    for group, name in names.items():
        members = np.flatnonzero(is_good & (groups == group))
        if members.size:
            distance = np.abs(rate.value[members] - np.median(rate.value[members]))
            found[name] = int(members[np.argmin(distance)])
    doubtful = np.flatnonzero(~is_good & (rate.status != Status.OUTSIDE_MASK))
    if doubtful.size:
        found[flagged] = int(doubtful[doubtful.size // 2])
    return found


def fitted_curve(
    signal: ArrayLike,
    rate: ArrayLike,
    status: ArrayLike,
    *,
    echo_times: ArrayLike,
    attenuation: ArrayLike = 1.0,
    model: str = 'exponential',
) -> FloatArray:
    r"""
    Give the curve of known rate that lies nearest to a train of echoes.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units.
    rate : (V,) array_like
        R2 or R2* as estimated, 1/s.
    status : (V,) array_like of int
        Its status.
    echo_times : (E,) array_like
        s.
    attenuation : (V, E) array_like
        Signal fraction that the background gradient leaves; broadcasts.
    model : str
        ``epg...`` for a train with imperfect refocusing, whose angle is searched; ``drop-first``
        leaves the first echo out; any other is one exponential.

    Returns
    -------
    curve : (V, E) ndarray of float64
        Scanner units; NaN where there is no rate.

    Notes
    -----
    Only the amplitude is found here, by least squares over the echoes of the fit:
    :math:`S_0 = \sum_e S_e m_e / \sum_e m_e^2` for the shape :math:`m`.

    Examples
    --------
    >>> curve = fitted_curve([[80.0, 40.0]], [np.log(2) / 0.02], [0], echo_times=[0.02, 0.04])
    >>> curve.round(1)
    array([[80., 40.]])
    """
    times = np.asarray(echo_times, float)
    measured = np.nan_to_num(np.asarray(signal, float))
    rates = np.where(is_missing(status), np.nan, np.asarray(rate, float))
    if model.startswith('epg'):
        angles = REFOCUSING_ANGLES[:, None]
        spacing = float(times.min())
        shapes = predict_echo_train(
            len(times), echo_spacing=spacing, r2=rates, refocusing_angle=angles
        )
    else:
        shapes = predict_decay(times, np.ones(rates.shape), rates)[None]
        shapes = shapes * np.asarray(attenuation, float)
    counts = np.ones(len(times))
    if model == 'drop-first':
        counts[np.argmin(times)] = 0.0
    power = np.sum(counts * shapes**2, axis=-1, keepdims=True)
    power = np.where(power > 0, power, np.nan)
    curves = np.sum(counts * measured * shapes, axis=-1, keepdims=True) / power * shapes
    misfit = np.sum(counts * (measured - curves) ** 2, axis=-1)
    best = np.argmin(np.nan_to_num(misfit, nan=np.inf), axis=0)
    chosen: FloatArray = curves[best, np.arange(len(rates))]
    return chosen
