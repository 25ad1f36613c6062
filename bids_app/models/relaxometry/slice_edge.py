"""How soft the edges of the slices are, from the bend of the decays in background gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.numerics.fitting import fit_least_squares
from bids_app.models.numerics.noise import pool_variance
from bids_app.models.relaxometry.background_field import edge_attenuation
from bids_app.models.relaxometry.decay import (
    STRONGEST_DECAY,
    STRONGEST_GROWTH,
    is_visible,
    start_decay,
    with_noise_floor,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

PRIOR = 0.0, 0.013
"""Mean and SD of the variance of the edges before the echoes are seen: a rectangle, twice the SD
from a sinc-Gauss slice (0.026); squared slice thicknesses; ours."""

NARROWEST, WIDEST = -1 / 12, 0.15
"""Of the variance: -1/12 takes back what a rectangle dephases, so that nothing is corrected."""

MODEL_ERROR = 0.003
"""Standard deviation that stays however many voxels there are, for fields that bend within a
slice: the largest error seen on simulated heads with air cavities; squared slice thicknesses."""

FLOOR = 0.2
"""Share of the signal that a rectangle must leave of an echo for it to be used."""

ABOVE_NOISE = 3.0
"""Signal over the noise floor from which an echo is used; below, the floor bends the decay."""

FEWEST_ECHOES = 5
"""A decay, its bend, and two degrees of freedom for the noise."""

FEWEST_VOXELS = 500
MOST_VOXELS = 50_000
"""Evenly over the gradients; more cost time and leave the error to MODEL_ERROR."""

N_PASSES = 3
N_REWEIGHTINGS = 5
HUBER = 1.5
"""Residual in robust standard deviations from which a voxel has less weight."""

NORMAL_MEDIAN = 0.6745
"""Median of the absolute value of a standard normal."""


class SliceEdge(NamedTuple):
    """The edges of a slice, as a normal blur of a rectangle."""

    variance: float
    """Of the blur, squared slice thicknesses; below 0: narrower than stated."""
    error: float
    """Its standard deviation."""
    n_voxels: int
    """From which it was estimated; 0: assumed."""


def fit_slice_edge(
    signal: ArrayLike, turns: ArrayLike, *, echo_times: ArrayLike, coils: int = 1
) -> SliceEdge:
    r"""
    Estimate how soft the edges of the slices are.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude of gradient echoes, scanner units.
    turns : (V, E) array_like
        Phase that the background gradient has wound up over the thickness of the slice at each
        echo, in turns (:func:`bids_app.models.relaxometry.background_field.gradient_turns`);
        NaN where the gradient is not known.
    echo_times : (E,) array_like
        s, ascending.
    coils : int
        Receivers combined as the root of the sum of squares.

    Returns
    -------
    edge : SliceEdge
        With its random error; infinite, from no voxel, where there are fewer than 500 voxels
        with 5 echoes. :func:`join_slice_edges` makes of it what a correction takes.

    Raises
    ------
    ModelInputError
        If shapes differ.

    Notes
    -----
    Gradient G and edges of variance e (in squared thicknesses) leave of the signal

    .. math:: F = \operatorname{sinc}(k)\, e^{-2 \pi^2 e k^2}, \qquad
              k = \gamma G \Delta z\,TE / 2\pi

    so that a wrong e bends the logarithm of the decay by a parabola that grows with the square
    of the gradient. Every voxel is fitted as :math:`S_0 F e^{-R TE - c\,TE^2}`; the slope of c
    over the squared gradient (weighted, robust) is what e lacks, its intercept what bends all
    decays alike: several tissues in a voxel. A trapezium with edges as wide as a share p of the
    thickness has e = p squared / 12.
    """
    data, phase = np.asarray(signal, float), np.asarray(turns, float)
    times = np.asarray(echo_times, float)
    if data.shape != phase.shape or data.shape[1:] != times.shape:
        msg = (
            f'signal {data.shape}, turns {phase.shape} and echo_times {times.shape} must be '
            '(V, E), (V, E) and (E,)'
        )
        raise ModelInputError(msg)
    usable = np.isfinite(data) & (data > 0) & np.isfinite(phase)
    usable &= is_visible(np.where(usable, edge_attenuation(phase, 0.0), 0.0), times, FLOOR)
    # of an echo that is lost the phase is not known, of its gradient it is
    furthest = np.nan_to_num(phase / times).max(axis=1) * times[-1]
    chosen = _spread(furthest, usable.sum(axis=1) >= FEWEST_ECHOES)
    if chosen.size < FEWEST_VOXELS:
        return SliceEdge(0.0, np.inf, 0)
    data, phase, usable = data[chosen], np.nan_to_num(phase[chosen]), usable[chosen]
    steepness = 2 * (np.pi * furthest[chosen]) ** 2
    edge, error, noise = 0.0, np.inf, 0.0
    for _ in range(N_PASSES):
        train = (data, edge_attenuation(phase, edge), usable)
        bend, spread, noise, expected = _bends(*train, times, (noise, coils))
        lack, error = _slope(steepness, bend, spread)
        edge = float(np.clip(edge + lack, NARROWEST, WIDEST))
        # by what is expected: by what is seen, noise would choose the echoes that it raises
        bright = expected > ABOVE_NOISE * np.sqrt((2 * coils - 1) * noise)
        usable = usable & np.logical_and.accumulate(bright, axis=1)
    return SliceEdge(edge, error, chosen.size)


def join_slice_edges(edges: Iterable[SliceEdge]) -> SliceEdge:
    """
    Join what several scans by one pulse say of its slices, and what is plausible without them.

    Parameters
    ----------
    edges : iterable of SliceEdge
        Of every scan, with random errors.

    Returns
    -------
    edge : SliceEdge
        Mean by inverse variance, joined with :data:`PRIOR`; the error holds :data:`MODEL_ERROR`.

    Notes
    -----
    One number for all conditions: edges of each condition's own, in error by little, would be a
    change that all voxels share.

    Examples
    --------
    >>> join_slice_edges([SliceEdge(0.02, 0.004, 900), SliceEdge(0.01, 0.004, 800)])
    SliceEdge(variance=0.0136..., error=0.0039..., n_voxels=1700)
    """
    known = [edge for edge in edges if edge.n_voxels]
    if not known:
        return SliceEdge(*PRIOR, 0)
    weights = np.array([1 / edge.error**2 for edge in known])
    mean = np.average([edge.variance for edge in known], weights=weights)
    own, prior = 1 / (1 / weights.sum() + MODEL_ERROR**2), 1 / PRIOR[1] ** 2
    joined = (own * mean + prior * PRIOR[0]) / (own + prior)
    n_voxels = sum(edge.n_voxels for edge in known)
    return SliceEdge(float(joined), float(np.sqrt(1 / (own + prior))), n_voxels)


def _spread(turns: FloatArray, good: BoolArray) -> FloatArray:
    """Choose voxels evenly over the gradients; their numbers."""
    order = np.flatnonzero(good)
    order = order[np.argsort(turns[order])]
    every = np.linspace(0, order.size - 1, min(order.size, MOST_VOXELS)).round().astype(int)
    return np.asarray(order[every])


def _bends(
    signal: FloatArray,
    kept: FloatArray,
    usable: BoolArray,
    times: FloatArray,
    floor: tuple[float, int],
) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """Fit decays with a parabola in the logarithm: its value at the last echo, SD; noise, fit."""
    noise, coils = floor
    scaled = (times / times[-1]) ** 2

    def predict(parameters: FloatArray, factor: FloatArray) -> tuple[FloatArray, FloatArray]:
        shape = factor * np.exp(-parameters[:, 1:2] * times - parameters[:, 2:] * scaled)
        full = parameters[:, :1] * shape
        return full, np.stack([shape, -times * full, -scaled * full], axis=2)

    start = start_decay(signal, kept, usable, times)
    steepest = STRONGEST_DECAY / times.min()
    known = [np.where(usable, kept, 1.0)]
    if noise:
        known.append(np.full((len(signal), 1), np.sqrt(noise)))
    fit = fit_least_squares(
        with_noise_floor(predict, coils) if noise else predict,
        signal,
        np.column_stack([start, np.zeros(len(start))]),
        lower=np.array([0.0, -STRONGEST_GROWTH / times.max(), -np.inf]),
        upper=np.array([np.inf, steepest, np.inf]),
        weights=usable.astype(float),
        auxiliary=known,
    )
    pooled, _ = pool_variance(fit.noise_variance, fit.noise_dof, None)
    typical = float(np.median(pooled))
    expected, _ = predict(fit.parameters, known[0])
    enough = usable.sum(axis=1) >= FEWEST_ECHOES
    spread = np.where(enough, np.sqrt(fit.covariance[:, 2, 2] * typical), np.nan)
    return fit.parameters[:, 2], spread, typical, expected


def _slope(x: FloatArray, y: FloatArray, spread: FloatArray) -> tuple[float, float]:
    """Fit a line by reweighted least squares: its slope and the standard error of that."""
    good = np.isfinite(y) & np.isfinite(spread) & (spread > 0)
    x, y, own = x[good], y[good], 1 / spread[good] ** 2
    columns, weight = np.column_stack([np.ones(x.size), x]), own
    for _ in range(N_REWEIGHTINGS):
        curvature = np.linalg.pinv((columns.T * weight) @ columns)
        line = curvature @ (columns.T @ (weight * y))
        z = (y - columns @ line) * np.sqrt(own)
        size = float(np.median(np.abs(z))) / NORMAL_MEDIAN
        limit = max(HUBER * size, np.finfo(float).tiny)
        weight = own * limit / np.maximum(np.abs(z), limit)
    return float(line[1]), size * float(np.sqrt(curvature[1, 1]))
