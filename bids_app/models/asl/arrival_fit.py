"""Fit flow and arrival time to several delays: search, refinement, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.asl.kinetics import (
    Kinetics,
)
from bids_app.models.constants import (
    ARRIVAL_STEP,
    CBF_PLAUSIBLE,
    LATEST_ARRIVAL,
    NORMAL_95,
    PROFILE_NODES,
    PROFILE_REACH,
    PROFILE_STRETCH,
    REFERENCE_CBF,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.fitting import fit_least_squares
from bids_app.models.numerics.noise import moderate_variance
from bids_app.models.status import (
    Status,
    combine_status,
    flag_negative,
    without_cautions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray

TIMING_DIGITS = 3
"""Voxels whose delays agree to as many decimals of a second share their start values."""

SMALLEST_VARIANCE = 1e-12
"""Noise variance below which data count as free of noise, (mL/100 g/min x s)^2."""

DELAYS_NEEDED = 2
"""Different delays below which flow and arrival cannot be told apart."""

FIT_TOLERANCE = 1e-7
"""Of the fit, see :func:`bids_app.models.numerics.fitting.fit_least_squares`; no unit."""

NEAR_KINK = 2 * ARRIVAL_STEP
"""Distance of an estimate from a kink within which the other side is tried, s."""

PROFILE_CHUNK = 4096
"""Voxels whose profiles are held in memory together."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Series:
    """One condition: its samples in the unit of the response, and their timing."""

    samples: FloatArray
    """(V, D)"""
    noise: FloatArray
    """(V,) variance of a single pair; NaN where it is not known."""
    weights: FloatArray
    """(D,) pairs per delay."""
    time: FloatArray
    """(V, D) since the start of labelling, s."""
    duration: FloatArray
    """(D,) s"""
    status: StatusArray
    """(V,)"""
    m0_relative: FloatArray
    """(V,) relative variance of M0."""
    dof: float

    @classmethod
    def of(
        cls,
        difference: Estimate,
        m0: Estimate,
        *,
        kinetics: Kinetics,
        timing: tuple[ArrayLike, ArrayLike, ArrayLike],
        scale: float,
    ) -> Series:
        """Check shapes; take the difference in units of M0."""
        shape = difference.value.shape
        if len(shape) != 2 or m0.value.shape != shape[:1]:
            msg = f'difference (V, D) and m0 (V,) expected, got {shape} and {m0.value.shape}'
            raise ModelInputError(msg)
        try:
            delay = np.broadcast_to(np.asarray(timing[0], float), shape)
            duration, pairs = (
                np.broadcast_to(np.asarray(x, float), shape[1:]) for x in timing[1:]
            )
        except ValueError as error:
            msg = f'delays, durations and pairs must fit {shape[1]} delays'
            raise ModelInputError(msg) from error
        if not np.all(pairs > 0):
            msg = f'n_pairs must be positive, got {pairs}'
            raise ModelInputError(msg)
        known = np.isfinite(delay).all(axis=1)
        delay = np.where(known[:, np.newaxis], delay, 0.0)
        time = kinetics.time(delay, duration)
        samples_of = np.where(np.isfinite(difference.value), difference.value, 0.0)
        reference = np.where(m0.value > 0, m0.value, np.nan)[:, np.newaxis] * scale
        with np.errstate(invalid='ignore', divide='ignore'):
            samples = samples_of / reference
            noise = np.mean(difference.variance * pairs / reference**2, axis=1)
            m0_relative = m0.variance / m0.value**2
        missing = without_cautions(difference.status)
        silent = ~difference.value.any(axis=1)
        status = combine_status(
            missing.max(axis=1),
            m0.status,
            np.where(m0.value > 0, Status.OK, Status.NO_REFERENCE),
            np.where(known, Status.OK, Status.INVALID_INPUT),
            np.where(silent, Status.NO_SIGNAL, Status.OK),
        )
        return cls(
            samples=np.where(np.isfinite(samples), samples, 0.0),
            noise=noise if np.any(pairs > 1) else np.full(shape[0], np.nan),
            weights=pairs,
            time=time,
            duration=duration,
            status=without_cautions(status),
            m0_relative=m0_relative,
            dof=min(difference.dof, m0.dof) if np.any(pairs > 1) else m0.dof,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Model:
    """All samples of all conditions side by side, each knowing its condition."""

    kinetics: Kinetics
    n_conditions: int
    condition: IntArray
    """(N,)"""
    duration: FloatArray
    """(N,)"""
    arterial: FloatArray | None = None
    """(N,) what blood in arteries adds per unit of its volume; its amount is always the best."""
    weights: FloatArray | None = None
    """(N,) of the samples, for `arterial`."""

    @property
    def n_parameters(self) -> int:
        """Flows and one arrival."""
        return self.n_conditions + 1

    def without_arteries(self, samples: FloatArray, axis: int = -1) -> FloatArray:
        """Take out what the arterial column explains: least squares of the rest is then exact."""
        if self.arterial is None or self.weights is None:
            return samples
        # variable projection: the amount is linear, so that data and model without their part
        # along the column have the same best fit, and one parameter less to search
        weighted = self.weights * self.arterial
        last = np.moveaxis(samples, axis, -1)
        amount = (last @ weighted) / (weighted @ self.arterial)
        return np.moveaxis(last - amount[..., np.newaxis] * self.arterial, -1, axis)

    def predict(
        self, parameters: FloatArray, time: FloatArray, low: FloatArray, high: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Predict the samples; the arrival time is given as fraction of its segment."""
        # the response has a kink in the arrival time wherever a readout meets an end of the bolus;
        # between two kinks it is smooth, and a fraction that ends at 0 or 1 says: look next door
        count = self.n_conditions
        att = low + parameters[:, count : count + 1] * (high - low)
        cbf = parameters[:, self.condition]
        prediction, by_cbf, by_att = self.kinetics.response(cbf, att, time, self.duration)
        jacobian = np.zeros((*prediction.shape, self.n_parameters))
        for index in range(count):
            own = self.condition == index
            jacobian[:, own, index] = by_cbf[:, own]
        jacobian[:, :, count] = by_att * (high - low)
        return self.without_arteries(prediction), self.without_arteries(jacobian, axis=1)

    def basis(self, cbf: FloatArray, att: FloatArray, time: FloatArray) -> FloatArray:
        """Return the response per unit of each linear parameter: (..., N, L)."""
        gain = self.kinetics.gain(cbf, att, time, self.duration)
        columns = [gain * (self.condition == index) for index in range(self.n_conditions)]
        return self.without_arteries(np.stack(columns, axis=-1), axis=-2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """All voxels of all conditions with what was found in them."""

    data: Data
    """The good voxels only."""
    good: IntArray
    solution: Solution
    status: StatusArray
    """Of the samples, and of the fit."""
    noise: FloatArray
    """(V,) variance of a pair."""
    dof: float


def fit_arrival(
    kinetics: Kinetics,
    series: Sequence[Series],
    noise_groups: ArrayLike | None,
) -> tuple[tuple[Estimate, ...], Estimate]:
    """Fit CBF per condition and one arrival time."""
    return estimates(fit_all(kinetics, series, noise_groups), series)


def fit_all(
    kinetics: Kinetics, series: Sequence[Series], noise_groups: ArrayLike | None
) -> Fitted:
    """Fit CBF per condition and one arrival time, with their variances."""
    sizes = [one.samples.shape[1] for one in series]
    model = Model(
        kinetics=kinetics,
        n_conditions=len(series),
        condition=np.repeat(np.arange(len(series)), sizes),
        duration=np.concatenate([one.duration for one in series]),
    )
    samples = np.concatenate([one.samples for one in series], axis=1)
    time = np.concatenate([one.time for one in series], axis=1)
    weights = _relative_weights(series, sizes)
    status = combine_status(*[one.status for one in series])
    good = np.flatnonzero(status == Status.OK)
    _check_delays(model, time)

    solution = Solution.empty(len(samples), model)
    inside = Data(model=model, samples=samples[good], time=time[good], weights=weights[good])
    solve(inside, solution, good)
    status = combine_status(status, solution.status)
    noise, dof = _noise(series, solution, noise_groups)
    add_intervals(inside, solution, good, noise[good])
    return Fitted(data=inside, good=good, solution=solution, status=status, noise=noise, dof=dof)


def estimates(fitted: Fitted, series: Sequence[Series]) -> tuple[tuple[Estimate, ...], Estimate]:
    """Take value, variance and status of every quantity from a fit."""
    solution, count = fitted.solution, len(series)
    status = combine_status(fitted.status, solution.flags)
    dof = min([fitted.dof, *(one.dof for one in series)])
    cbf = tuple(
        _cbf_estimate(
            solution.parameters[:, index],
            solution.variance[:, index],
            one.m0_relative,
            status,
            dof,
        )
        for index, one in enumerate(series)
    )
    att = Estimate.of(solution.parameters[:, count], solution.variance[:, count], status, dof)
    return cbf, att


def _cbf_estimate(
    value: FloatArray,
    variance: FloatArray,
    m0_relative: FloatArray,
    status: StatusArray,
    dof: float,
) -> Estimate:
    """Add the error of M0 and the cautions about the value."""
    lowest, highest = CBF_PLAUSIBLE
    with np.errstate(invalid='ignore'):
        flags = (
            np.where((value < lowest) | (value > highest), Status.IMPLAUSIBLE, Status.OK),
            flag_negative(value),
        )
        total = variance + value**2 * m0_relative
    return Estimate.of(value, total, combine_status(status, *flags), dof)


def _relative_weights(series: Sequence[Series], sizes: Sequence[int]) -> FloatArray:
    """Return inverse variances up to a factor per voxel: (V, N)."""
    noise = np.stack([one.noise for one in series], axis=1)
    usable = np.isfinite(noise) & (noise > 0)
    relative = np.where(usable.all(axis=1, keepdims=True), noise, 1.0)
    relative = relative / relative.mean(axis=1, keepdims=True)
    parts = [
        one.weights / np.repeat(relative[:, index : index + 1], size, axis=1)
        for index, (one, size) in enumerate(zip(series, sizes, strict=True))
    ]
    return np.concatenate(parts, axis=1)


def _check_delays(model: Model, time: FloatArray) -> None:
    """Refuse delays that cannot tell arrival from flow."""
    for index in range(model.n_conditions):
        own = model.condition == index
        timing = np.stack([time[:1, own].ravel(), model.duration[own][: time[:1].size]], axis=1)
        distinct = len(np.unique(timing.round(TIMING_DIGITS), axis=0))
        if time.size and distinct < DELAYS_NEEDED:
            msg = f'at least {DELAYS_NEEDED} different delays are needed, got {distinct}'
            raise ModelInputError(msg)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Data:
    """The voxels that are fitted."""

    model: Model
    samples: FloatArray
    time: FloatArray
    weights: FloatArray

    def take(self, rows: IntArray | BoolArray) -> Data:
        """Take some voxels."""
        return Data(
            model=self.model,
            samples=self.samples[rows],
            time=self.time[rows],
            weights=self.weights[rows],
        )

    def cost(self, parameters: FloatArray, att: FloatArray) -> FloatArray:
        """Weighted sum of squared residuals at given parameters and arrival times (s)."""
        column = att[:, np.newaxis]
        values = parameters.copy()
        values[:, self.model.n_conditions] = 0  # of a segment without width
        prediction, _ = self.model.predict(values, self.time, column, column)
        squared: FloatArray = (self.weights * (self.samples - prediction) ** 2).sum(axis=1)
        return squared


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Solution:
    """What the fit found, for all voxels; filled in place."""

    parameters: FloatArray
    """(V, P) CBF per condition, then the arrival time (s)."""
    covariance: FloatArray
    """(V, P, P) without the noise variance."""
    variance: FloatArray
    """(V, P)"""
    residual: FloatArray
    """(V,) variance of a pair from the residuals."""
    dof: FloatArray
    segment: FloatArray
    """(V, 2) kinks around the arrival time, s."""
    ends: FloatArray
    """(V, 2) what the delays can tell, s."""
    status: StatusArray
    flags: StatusArray

    @classmethod
    def empty(cls, n_voxels: int, model: Model) -> Solution:
        """Make one in which nothing is solved yet."""
        size = model.n_parameters
        return cls(
            parameters=np.full((n_voxels, size), np.nan),
            covariance=np.full((n_voxels, size, size), np.nan),
            variance=np.full((n_voxels, size), np.nan),
            residual=np.full(n_voxels, np.nan),
            dof=np.zeros(n_voxels),
            segment=np.full((n_voxels, 2), np.nan),
            ends=np.full((n_voxels, 2), np.nan),
            status=np.zeros(n_voxels, np.uint8),
            flags=np.zeros(n_voxels, np.uint8),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Where fits within segments ended; filled in place."""

    segment: FloatArray
    """(V, 2) s"""
    parameters: FloatArray
    """(V, P) NaN where the fit left its segment."""
    covariance: FloatArray
    status: StatusArray
    cost: FloatArray

    def put(self, rows: IntArray, other: _Fit, chosen: BoolArray) -> None:
        """Take the chosen voxels of another fit, which has these rows."""
        for name in ('segment', 'parameters', 'covariance', 'status', 'cost'):
            getattr(self, name)[rows[chosen]] = getattr(other, name)[chosen]


def arrival_limits(model: Model, time: FloatArray) -> tuple[float, float, FloatArray]:
    """Return the first and last arrival time that the delays can tell, and the kinks between."""
    complete = time - model.duration
    low = max(float(complete.min()), 0.0)
    latest = np.sort(np.unique(time.round(TIMING_DIGITS)))
    # a readout more than the parameters of one condition need must have seen the label
    high = min(float(latest[-2]) if latest.size > 1 else float(complete.max()), LATEST_ARRIVAL)
    high = max(high, low + ARRIVAL_STEP)
    if model.kinetics.kernel is not None:  # what is dispersed has no kinks
        return low, high, np.array([low, high])
    kinks = np.unique(np.concatenate([complete, time, [low, high]]))
    return low, high, kinks[(kinks >= low) & (kinks <= high)]


def solve(data: Data, solution: Solution, voxels: IntArray) -> None:
    """Search, then fit, all voxels; voxels of one timing share the search."""
    if not voxels.size:
        return
    _, group = np.unique(data.time.round(TIMING_DIGITS), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind='stable')
    borders = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    start = np.zeros((len(voxels), data.model.n_parameters))
    segment = np.zeros((len(voxels), 2))
    ends = np.zeros((len(voxels), 2))
    kinks_of: list[tuple[IntArray, FloatArray]] = []
    for rows in np.split(order, borders):
        low, high, kinks = arrival_limits(data.model, data.time[rows[0]])
        start[rows], segment[rows] = _search(data.take(rows), kinks)
        ends[rows] = low, high
        kinks_of.append((rows, kinks))
    fit = _fit_segment(data, start, segment)
    beyond = _neighbouring_segments(segment, kinks_of)
    lost = np.flatnonzero(fit.status != Status.OK)
    _look_beyond(data, beyond, fit)
    if lost.size:
        _settle(data, lost, beyond[lost], start, fit)
    solution.parameters[voxels] = fit.parameters
    solution.covariance[voxels] = fit.covariance
    solution.segment[voxels] = fit.segment
    solution.ends[voxels] = ends
    solution.status[voxels] = fit.status
    dof = max(data.samples.shape[1] - data.model.n_parameters, 0)
    solution.dof[voxels] = dof
    if dof:
        solution.residual[voxels] = np.where(fit.status == Status.OK, fit.cost / dof, np.nan)


def _search(data: Data, kinks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find start values on a grid of arrival times; linear in all else."""
    # of the flow the loss of label from tissue depends but weakly: with a usual flow in it the
    # rest is linear, and one pseudo-inverse per arrival time serves every voxel
    model = data.model
    low, high = kinks[0], kinks[-1]
    nodes = np.union1d(np.linspace(low, high, int((high - low) / ARRIVAL_STEP) + 2), kinks)
    time = data.time.mean(axis=0)
    basis = model.basis(np.array(REFERENCE_CBF), nodes[:, np.newaxis], time)
    root = np.sqrt(data.weights.mean(axis=0))
    inverse = np.linalg.pinv(basis * root[:, np.newaxis])
    # (V, N) x (G, L, N) -> coefficients; the fitted part of the squared signal decides
    projector = np.einsum('gnl,glm->gnm', basis * root[:, np.newaxis], inverse)
    weighted = data.samples * root
    explained = np.empty((len(weighted), len(nodes)))
    for node in range(len(nodes)):
        explained[:, node] = np.einsum('vn,vn->v', weighted @ projector[node], weighted)
    best = explained.argmax(axis=1)
    coefficients = np.einsum('vln,vn->vl', inverse[best], weighted)
    at = nodes[best]
    left = np.take_along_axis(explained, np.maximum(best - 1, 0)[:, None], axis=1)[:, 0]
    right_node = np.minimum(best + 1, len(nodes) - 1)
    right = np.take_along_axis(explained, right_node[:, None], axis=1)[:, 0]
    # a best node that is a kink belongs to two segments: start in that of the better neighbour
    upward = (right >= left) & (at < high) | (at <= low)
    index = np.searchsorted(kinks, at, side='right') - 1
    is_kink = kinks[np.clip(index, 0, None)] == at
    index = np.where(is_kink & ~upward, index - 1, index)
    index = np.clip(index, 0, len(kinks) - 2)
    segment = np.stack([kinks[index], kinks[index + 1]], axis=1)
    count = model.n_conditions
    fraction = (at - segment[:, 0]) / (segment[:, 1] - segment[:, 0])
    start = np.concatenate(
        [coefficients[:, :count], fraction[:, None], coefficients[:, count:]], axis=1
    )
    return start, segment


def _fit_segment(data: Data, start: FloatArray, segment: FloatArray) -> _Fit:
    """Fit within a segment; parameters hold the arrival time in s, NaN where not found."""
    model = data.model
    count, size = model.n_conditions, model.n_parameters
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    lower[count], upper[count] = 0.0, 1.0
    low, high = segment[:, :1], segment[:, 1:]
    result = fit_least_squares(
        model.predict,
        data.samples,
        start,
        lower=lower,
        upper=upper,
        weights=data.weights,
        auxiliary=(data.time, low, high),
        tolerance=FIT_TOLERANCE,
    )
    parameters, covariance = result.parameters.copy(), result.covariance.copy()
    width = (high - low)[:, 0]
    parameters[:, count] = low[:, 0] + parameters[:, count] * width
    covariance[:, count, :] *= width[:, np.newaxis]
    covariance[:, :, count] *= width[:, np.newaxis]
    cost = result.residual_variance * result.dof
    # as many samples as parameters: the fit passes through them, 0/0 degrees of freedom
    if data.samples.shape[1] == size:
        cost = np.where(result.status == Status.OK, 0.0, np.nan)
    return _Fit(segment.copy(), parameters, covariance, result.status.copy(), cost)


def _neighbouring_segments(
    segment: FloatArray, kinks_of: Sequence[tuple[IntArray, FloatArray]]
) -> FloatArray:
    """Return the kinks before and after the segment of each voxel; NaN at the ends."""
    beyond = np.full((len(segment), 2), np.nan)
    for rows, kinks in kinks_of:
        index = np.searchsorted(kinks, segment[rows, 0])
        beyond[rows, 0] = np.where(index > 0, kinks[np.maximum(index - 1, 0)], np.nan)
        after = index + 2
        last = len(kinks) - 1
        beyond[rows, 1] = np.where(after <= last, kinks[np.minimum(after, last)], np.nan)
    return beyond


def _look_beyond(data: Data, beyond: FloatArray, fit: _Fit) -> None:
    """Try the other side of a near kink: the cost may have a second, lower minimum there."""
    count = data.model.n_conditions
    own = fit.segment.copy()
    att = fit.parameters[:, count].copy()
    known = fit.status == Status.OK
    for upward in (False, True):
        border, edge = (own[:, 1], beyond[:, 1]) if upward else (own[:, 0], beyond[:, 0])
        with np.errstate(invalid='ignore'):
            near = known & (np.abs(att - border) < NEAR_KINK) & np.isfinite(edge)
        rows = np.flatnonzero(near)
        if not rows.size:
            continue
        other = np.sort(np.stack([border[rows], edge[rows]], axis=1), axis=1)
        guess = fit.parameters[rows].copy()
        # just inside, seen from the kink; a start on the bound itself could not move
        guess[:, count] = ARRIVAL_STEP if upward else 1 - ARRIVAL_STEP
        tried = _fit_segment(data.take(rows), guess, other)
        fit.put(rows, tried, (tried.status == Status.OK) & (tried.cost < fit.cost[rows]))


def _settle(data: Data, lost: IntArray, beyond: FloatArray, start: FloatArray, fit: _Fit) -> None:
    """Decide voxels whose fit left its segment: the neighbour, or the kink itself."""
    # the cheaper end of the segment is where the fit wanted to go; if the segment behind it holds
    # nothing cheaper either, the cost rises on both sides and the kink is the minimum
    own = fit.segment[lost]
    at_low, low_cost = _fit_at(data.take(lost), start[lost], own[:, 0])
    at_high, high_cost = _fit_at(data.take(lost), start[lost], own[:, 1])
    goes_up = high_cost < low_cost
    kink = np.where(goes_up, own[:, 1], own[:, 0])
    held = np.where(goes_up[:, np.newaxis], at_high, at_low)
    held_cost = np.where(goes_up, high_cost, low_cost)
    neighbour = np.where(
        goes_up[:, np.newaxis],
        np.stack([own[:, 1], beyond[:, 1]], axis=1),
        np.stack([beyond[:, 0], own[:, 0]], axis=1),
    )
    rows = np.flatnonzero(np.isfinite(neighbour).all(axis=1))
    count = data.model.n_conditions
    if rows.size:
        again = held[rows].copy()
        again[:, count] = np.where(goes_up[rows], ARRIVAL_STEP, 1 - ARRIVAL_STEP)
        tried = _fit_segment(data.take(lost[rows]), again, neighbour[rows])
        fit.put(lost[rows], tried, (tried.status == Status.OK) & (tried.cost <= held_cost[rows]))
    stay = (fit.status[lost] != Status.OK) & np.isfinite(held_cost)
    chosen = lost[stay]
    fit.parameters[chosen] = held[stay]
    fit.parameters[chosen, count] = kink[stay]
    fit.covariance[chosen] = np.inf  # one-sided; the profile gives the interval
    fit.status[chosen] = Status.OK
    fit.cost[chosen] = held_cost[stay]


def _fit_at(data: Data, start: FloatArray, att: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit all but the arrival time, which is held; returns parameters and cost."""
    model = data.model
    count = model.n_conditions
    free = np.arange(model.n_parameters) != count
    column = att[:, np.newaxis]

    def predict(
        values: FloatArray, time: FloatArray, at: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        full = np.zeros((len(values), model.n_parameters))
        full[:, free] = values
        prediction, jacobian = model.predict(full, time, at, at)
        return prediction, jacobian[:, :, free]

    result = fit_least_squares(
        predict,
        data.samples,
        start[:, free],
        lower=np.full(free.sum(), -np.inf),
        upper=np.full(free.sum(), np.inf),
        weights=data.weights,
        auxiliary=(data.time, column),
    )
    parameters = np.full(start.shape, np.nan)
    parameters[:, free] = result.parameters
    parameters[:, count] = att
    cost = np.where(result.status == Status.OK, result.residual_variance * result.dof, np.inf)
    return parameters, cost


def _noise(
    series: Sequence[Series], solution: Solution, noise_groups: ArrayLike | None
) -> tuple[FloatArray, float]:
    """Return the variance of a pair: from the pairs, else from the residuals, moderated."""
    from_pairs = np.mean([one.noise for one in series], axis=0)
    if np.isfinite(from_pairs).any():
        return from_pairs, float('inf')
    groups = None if noise_groups is None else np.asarray(noise_groups)
    return moderate_variance(solution.residual, solution.dof, groups)


def add_intervals(data: Data, solution: Solution, voxels: IntArray, noise: FloatArray) -> None:
    """Fill variances: from the covariance, near kinks from the profile likelihood."""
    good = (solution.status[voxels] == Status.OK) & np.isfinite(noise)
    rows, voxels, noise = np.flatnonzero(good), voxels[good], noise[good]
    if not rows.size:
        return
    data = data.take(rows)
    count = data.model.n_conditions
    with np.errstate(invalid='ignore'):
        variance = np.einsum('vpp->vp', solution.covariance[voxels]) * noise[:, np.newaxis]
    # what has no noise has no interval: a covariance of 0, at a kink too
    variance = np.where(noise[:, np.newaxis] > 0, variance, 0.0)
    att = solution.parameters[voxels, count]
    segment, ends = solution.segment[voxels], solution.ends[voxels]
    # the covariance knows the slope within the segment only; an interval that crosses a kink is
    # read from the likelihood itself
    reach = NORMAL_95 * np.sqrt(variance[:, count])
    near = (att - reach < segment[:, 0]) | (att + reach > segment[:, 1])
    near &= noise > SMALLEST_VARIANCE
    touched = (att <= ends[:, 0]) | (att >= ends[:, 1])
    if near.any():
        part = np.flatnonzero(near)
        profile = _Profile(
            data=data.take(part),
            parameters=solution.parameters[voxels[part]],
            noise=noise[part],
            ends=ends[part],
            width=np.sqrt(variance[part, count]),
        )
        variance[part], open_ended = profile.intervals()
        touched[part] |= open_ended
    solution.variance[voxels] = variance
    solution.flags[voxels] = np.where(touched, Status.ARRIVAL_NOT_COVERED, Status.OK)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Profile:
    """The likelihood of some voxels along their arrival time, everything else at its best."""

    data: Data
    parameters: FloatArray
    noise: FloatArray
    ends: FloatArray
    width: FloatArray
    """Standard error of the arrival time by the covariance, s; infinite where unknown."""

    def intervals(self) -> tuple[FloatArray, BoolArray]:
        """Return the variances of all parameters, and whether the arrival is left open."""
        model = self.data.model
        count = model.n_conditions
        variance = np.full(self.parameters.shape, np.nan)
        nodes = self._nodes()
        touched = np.zeros(len(nodes), bool)
        chunk = PROFILE_CHUNK
        for first in range(0, len(nodes), chunk):
            rows = slice(first, first + chunk)
            drop, value, spread = self._evaluate(nodes[rows], rows)
            inside = drop <= NORMAL_95**2
            low, high = _crossings(nodes[rows], drop)
            early = inside[:, 0] & (nodes[rows, 0] <= self.ends[rows, 0])
            late = inside[:, -1] & (nodes[rows, -1] >= self.ends[rows, 1])
            # an end of the delays cuts one side of an interval: noise reaches as far on the other
            att = self.parameters[rows, count]
            low = np.where(early & ~late, np.minimum(low, 2 * att - high), low)
            high = np.where(late & ~early, np.maximum(high, 2 * att - low), high)
            error = (high - low) / (2 * NORMAL_95)
            variance[rows, count] = error**2
            # noise alone takes many arrivals to an end; within one error of it they may lie beyond
            touched[rows] = early & (late | (att - error <= self.ends[rows, 0]))
            touched[rows] |= late & (att + error >= self.ends[rows, 1])
            # what the arrival leaves of the allowed drop, a linear parameter may use up: the union
            # over arrivals of these intervals is its profile-likelihood interval, without a fit
            left = np.sqrt(np.maximum(NORMAL_95**2 - drop, 0))[:, :, np.newaxis] * spread
            top = np.where(inside[:, :, np.newaxis], value + left, -np.inf).max(axis=1)
            bottom = np.where(inside[:, :, np.newaxis], value - left, np.inf).min(axis=1)
            linear = np.arange(model.n_parameters) != count
            half = (top - bottom) / (2 * NORMAL_95)
            variance[rows, linear] = half**2
        return variance, touched

    def _nodes(self) -> FloatArray:
        """Arrival times around the estimate, crowded near it, within what can be told."""
        att = self.parameters[:, self.data.model.n_conditions]
        whole = self.ends[:, 1] - self.ends[:, 0]
        reach = np.where(np.isfinite(self.width), PROFILE_REACH * self.width, whole)
        reach = np.clip(reach, ARRIVAL_STEP, whole)
        x = np.linspace(-1, 1, PROFILE_NODES)
        offset = np.sign(x) * np.abs(x) ** PROFILE_STRETCH
        nodes: FloatArray = att[:, np.newaxis] + reach[:, np.newaxis] * offset
        return np.clip(nodes, self.ends[:, :1], self.ends[:, 1:])

    def _evaluate(
        self, nodes: FloatArray, rows: slice
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the fall of the log-likelihood times -2, linear parameters and their errors."""
        data = self.data.take(np.arange(len(self.data.samples))[rows])
        model = data.model
        # the flow in the loss of label is held at its estimate, so that the rest is linear; only
        # there it must be positive
        cbf = np.abs(self.parameters[rows][:, : model.n_conditions][:, model.condition])
        cbf = np.maximum(cbf, 1.0)
        basis = model.basis(
            cbf[:, np.newaxis, :], nodes[:, :, np.newaxis], data.time[:, np.newaxis, :]
        )
        root = np.sqrt(data.weights)[:, np.newaxis, :]
        weighted = basis * root[..., np.newaxis]
        signal = data.samples[:, np.newaxis, :] * root
        gram = np.einsum('vgnl,vgnm->vglm', weighted, weighted)
        moment = np.einsum('vgnl,vgn->vgl', weighted, signal)
        inverse = np.linalg.pinv(gram, hermitian=True)
        value = np.einsum('vglm,vgm->vgl', inverse, moment)
        cost = np.einsum('vgn,vgn->vg', signal, signal) - np.einsum('vgl,vgl->vg', value, moment)
        noise = self.noise[rows][:, np.newaxis]
        drop = (cost - cost.min(axis=1, keepdims=True)) / noise
        diagonal = np.einsum('vgll->vgl', inverse) * noise[..., np.newaxis]
        return drop, value, np.sqrt(np.maximum(diagonal, 0))


def _crossings(nodes: FloatArray, drop: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the set in which the drop stays below 1.96 squared; interpolated."""
    # the drop is close to a parabola, its root to a line: that is what is interpolated
    level = NORMAL_95**2
    inside = drop <= level
    first = inside.argmax(axis=1)
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    voxel = np.arange(len(nodes))

    def cross(at: IntArray, beyond: IntArray) -> FloatArray:
        beyond = np.clip(beyond, 0, nodes.shape[1] - 1)
        rise = np.sqrt(drop[voxel, beyond]) - np.sqrt(np.maximum(drop[voxel, at], 0))
        share = np.where(rise > 0, (NORMAL_95 - np.sqrt(np.maximum(drop[voxel, at], 0))), 0.0)
        share = np.divide(share, rise, out=np.zeros(len(voxel)), where=rise > 0)
        return np.asarray(
            nodes[voxel, at] + np.clip(share, 0, 1) * (nodes[voxel, beyond] - nodes[voxel, at])
        )

    return cross(first, first - 1), cross(last, last + 1)
