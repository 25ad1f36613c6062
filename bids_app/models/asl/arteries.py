"""Voxels of several delays that hold arteries: blood that is counted before it reaches tissue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from bids_app.models.asl.arrival_fit import (
    SMALLEST_VARIANCE,
    TIMING_DIGITS,
    Data,
    Fitted,
    Solution,
    add_intervals,
    arrival_limits,
    solve,
)
from bids_app.models.constants import (
    ARRIVAL_STEP,
    CBF_PLAUSIBLE,
    REFERENCE_CBF,
)
from bids_app.models.status import (
    Status,
)
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray, IntArray

ARTERIES_BY_CHANCE = 0.01
"""Share of voxels without arteries in which noise may look like them."""

UNIFORM = 12
"""Squared width of a uniform distribution over its variance."""

SLACK = 1e-6
"""Share of the response that must be left beside an arterial column; no unit."""


def add_arteries(fitted: Fitted) -> tuple[FloatArray, FloatArray, BoolArray]:
    """
    Fit again the voxels that hold arteries, in place.

    Parameters
    ----------
    fitted : Fitted
        Flow and arrival of V voxels.

    Returns
    -------
    volume : (V,) ndarray of float64
        Blood volume of arteries, a fraction.
    variance : (V,) ndarray of float64
        Of it.
    is_seen : (V,) ndarray of bool
        Whether a delay can have seen them.
    """
    data, solution = fitted.data, fitted.solution
    volume = np.full(len(fitted.noise), np.nan)
    variance, is_seen = volume.copy(), np.zeros(len(volume), bool)
    _, group = np.unique(data.time.round(TIMING_DIGITS), axis=0, return_inverse=True)
    for number in range(group.max(initial=-1) + 1):
        rows = np.flatnonzero(group.ravel() == number)
        voxels = fitted.good[rows]
        usable = (solution.status[voxels] == Status.OK) & np.isfinite(fitted.noise[voxels])
        rows, voxels = rows[usable], voxels[usable]
        if not rows.size:
            continue
        part = data.take(rows)
        starts, columns, blur = _arterial_windows(part)
        best, gain = _best_window(part, starts, columns)
        gain /= np.maximum(fitted.noise[voxels], SMALLEST_VARIANCE)
        # twice the share, because only positive amounts count: half of the noise is negative
        asked_for = gain > chi2.isf(2 * ARTERIES_BY_CHANCE / len(starts), 1)
        volume[voxels] = 0.0
        for window in np.unique(best):
            column, own = columns[window], best == window
            here = np.flatnonzero(own & asked_for)
            taken = _solve_with(part.take(here), column, voxels[here], fitted, starts[window])
            chosen = here[taken]
            amount, spread = _amount(part.take(own), column, solution.parameters[voxels[own]])
            variance[voxels[own]] = spread * fitted.noise[voxels[own]]
            volume[voxels[chosen]] = amount[np.isin(np.flatnonzero(own), chosen)]
            variance[voxels[chosen]] += volume[voxels[chosen]] ** 2 * blur[window]
        is_seen[voxels] = solution.parameters[voxels, 1] > starts.min()
    return volume, variance, is_seen


def _arterial_windows(data: Data) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Give the windows of arterial arrival.

    Returns the beginning of each, s; what unit volume adds, (W, N); and the relative variance of
    the volume because the arrival within the window is not known.
    """
    time, kinetics = data.time[0], data.model.kinetics
    complete = time - data.model.duration
    edges = np.unique(np.maximum(np.concatenate([complete, time]), 0.0).round(TIMING_DIGITS))
    middle = ((edges[1:] + edges[:-1]) / 2)[:, np.newaxis]
    decay = np.exp(-kinetics.r1_blood * (time if kinetics.pulsed else middle))
    columns = ML_PER_100G_PER_MIN * decay * ((complete < middle) & (middle < time))
    # the last readout alone would see anything that comes late; windows alike count once
    _, first = np.unique(columns > 0, axis=0, return_index=True)
    kept = np.sort(first[columns[first].any(axis=1)])
    loss = 0.0 if kinetics.pulsed else kinetics.r1_blood
    blur = (loss * np.diff(edges)) ** 2 / UNIFORM
    return edges[:-1][kept], columns[kept], blur[kept]


def _best_window(
    data: Data, starts: FloatArray, columns: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Find the window that explains most, (V,), and what it adds to the explained square."""
    low, high, _ = arrival_limits(data.model, data.time[0])
    nodes = np.linspace(low, high, int((high - low) / ARRIVAL_STEP) + 2)
    weights = data.weights[0]
    basis = data.model.basis(np.array(REFERENCE_CBF), nodes[:, np.newaxis], data.time[0])[..., 0]
    with np.errstate(invalid='ignore', divide='ignore'):
        whole = np.sum(weights * basis**2, axis=1)
        flow = data.samples * weights @ basis.T / whole
        alone = np.nanmax(flow**2 * whole, axis=1)
        gains = np.empty((len(data.samples), len(starts)))
        for window, (start, column) in enumerate(zip(starts, columns, strict=True)):
            model = replace(data.model, arterial=column, weights=weights)
            rest = model.without_arteries(basis)
            power = np.sum(weights * rest**2, axis=1)
            flow = model.without_arteries(data.samples) * weights @ rest.T / power
            own = np.sum(weights * column**2)
            projected = data.samples @ (weights * column)
            amount = (projected[:, np.newaxis] - flow * (basis @ (weights * column))) / own
            both = flow**2 * power + (projected**2 / own)[:, np.newaxis]
            # a column that explains all of the response would leave the flow to rounding
            allowed = (amount > 0) & (flow > 0) & (nodes > start) & (power > SLACK * whole)
            gains[:, window] = np.where(allowed, both, -np.inf).max(axis=1) - alone
    best = gains.argmax(axis=1)
    return best, np.take_along_axis(gains, best[:, np.newaxis], axis=1)[:, 0]


def _solve_with(
    data: Data, column: FloatArray, voxels: IntArray, fitted: Fitted, start: float
) -> BoolArray:
    """Fit voxels with an arterial column; replaced where flow and arrival make sense."""
    if not voxels.size:
        return np.zeros(0, bool)
    model = replace(data.model, arterial=column, weights=data.weights[0])
    data = replace(data, model=model, samples=model.without_arteries(data.samples))
    tried = Solution.empty(len(voxels), model)
    every = np.arange(len(voxels))
    solve(data, tried, every)
    add_intervals(data, tried, every, fitted.noise[voxels])
    cbf, att = tried.parameters.T
    taken: BoolArray = (tried.status == Status.OK) & (att > start)
    taken &= (cbf > 0) & (cbf <= CBF_PLAUSIBLE[1])
    for name in ('parameters', 'variance', 'segment', 'ends', 'status', 'flags'):
        getattr(fitted.solution, name)[voxels[taken]] = getattr(tried, name)[taken]
    return taken


def _amount(
    data: Data, column: FloatArray, parameters: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit the arterial column beside the response; its variance holds the error of that too."""
    response, by_cbf, by_att = data.model.kinetics.response(
        parameters[:, :1], parameters[:, 1:], data.time, data.model.duration
    )
    weighted = data.weights * column
    amount = np.sum(weighted * (data.samples - response), axis=1) / (weighted @ column)
    beside = np.broadcast_to(column, response.shape)
    jacobian = np.stack([by_cbf, by_att, beside], axis=-1)
    gram = np.einsum('vnp,vn,vnq->vpq', jacobian, data.weights, jacobian)
    # columns per mL/100 g/min, s and mL/mL differ by orders; of unit length, what the
    # pseudo-inverse drops is what is collinear, not what is small
    scale = np.sqrt(np.einsum('vpp->vp', gram))
    scale = np.where(scale > 0, scale, 1.0)
    inverse = np.linalg.pinv(gram / (scale[:, :, None] * scale[:, None, :]), hermitian=True)
    return amount, inverse[:, 2, 2] / scale[:, 2] ** 2
