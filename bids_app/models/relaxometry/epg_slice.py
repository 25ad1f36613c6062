"""T2 from the spin echoes of a slice, each part of which has an angle of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import chebyshev

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.fitting import FitResult, fit_least_squares
from bids_app.models.numerics.noise import moderate_variance, pool_variance
from bids_app.models.relaxometry.decay import (
    STRONGEST_DECAY,
    STRONGEST_GROWTH,
    floor_passes,
    near_floor,
    replace_rows,
    rician_mean,
    start_decay,
    with_noise_floor,
)
from bids_app.models.relaxometry.epg import (
    MAX_ITERATIONS,
    TOLERANCE,
    Train,
    echo_train,
    estimate_of_train,
    polynomial_of_place,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray

TIME_BANDWIDTH = 4.0
"""Of the pulses, sinc in a Hamming window; common for slice-selective pulses of spin echoes."""

OTHER_TIME_BANDWIDTHS = (3.0, 6.0)
"""Softer and sharper pulses, whose R2 tells how much the assumed one matters."""

THICKNESSES = (0.9, 1.0, 1.12, 1.25, 1.4, 1.6, 2.0, 2.5, 3.5, 6.0, 10.0)
"""That the refocusing pulse may select, over that of the slice; tried where it is not known."""

MOST_TRIED = 1500
"""Voxels that they are tried on."""

HAMMING = 0.46
"""Of the window: the share that falls to the edges."""

PULSE_STEPS = 128

SLICE_REACH = 2.0
"""Up to this far from its middle the slice is looked at, in thicknesses."""

SLICE_POINTS = 81

B1_LIMITS = (0.4, 1.5)
"""Transmit field over nominal."""

B1_POINTS = 89

LARGEST_DECAY = 1.25
"""exp(-R2 x spacing) up to which the train is known: negative rates that noise may cause."""

MIDDLE_FIELDS, FIELD_FALLS = (0.8, 0.9, 0.97, 1.05, 1.15, 1.25), (0.0, 0.2, 0.4)
"""In the middle of the head, and how far the field falls to its edge: starts of the search. A
field that crosses nominal is not reached from one that does not, for at nominal the train is
flat in it."""

MOST_DESCENTS = 4
"""Of the starts, from the best."""

STARTS_B1 = (0.9, 1.2)
"""A field above nominal leaves nearly the train of one below: the fit may end on either side."""

FEWEST_FOR_FIELD = 500
"""Voxels from which on the field is a function of place; below, each voxel has its own."""

MOST_FOR_FIELD = 3000
"""Voxels that the field is found from."""

FIELD_STEPS = 15

LARGEST_FIELD_STEP = 0.1
"""Of the field anywhere, in one step: the train is far from linear in it."""

FIELD_SETTLED = 1e-3

SMALLEST_RIDGE = 1e-9
"""Keeps polynomials solvable that the head hardly tells apart, relative to the others."""

AS_GOOD = 4.0
"""Sum of squares, in units of the noise, by which the better side must win (two SD)."""


def predict_slice_train(
    n_echoes: int,
    *,
    echo_spacing: float,
    r2: ArrayLike,
    b1: ArrayLike,
    refocusing_thickness: float,
    time_bandwidth: float = TIME_BANDWIDTH,
) -> FloatArray:
    r"""
    Predict a CPMG train of a slice that windowed sinc pulses of 90 and 180 degrees select.

    Parameters
    ----------
    n_echoes : int
        Length of the train.
    echo_spacing : float
        Time of the first echo and between echoes, s.
    r2 : (...) array_like
        1/s.
    b1 : (...) array_like
        Transmit field over nominal, in [0.4, 1.5]; broadcasts against `r2`.
    refocusing_thickness : float
        Thickness that the refocusing pulses select over that of the slice.
    time_bandwidth : float
        Of all pulses.

    Returns
    -------
    signal : (..., E) ndarray of float64
        Relative to that of a rectangular slice of ideal pulses at echo time 0.

    Notes
    -----
    Excitation :math:`2|a||b|` and refocusing :math:`u = |a|^2` of the Cayley-Klein parameters of
    the pulses [1]_ at every place of the slice; there the extended phase graph of one angle,
    whose echo n is a polynomial of degree n in :math:`e^{-R_2 \Delta TE}`. The phase that pulses
    leave across the slice is taken as rewound.

    References
    ----------
    .. [1] Pauly et al., IEEE Trans Med Imaging 10:53, 1991. doi:10.1109/42.75611
    .. [2] Lebel & Wilman, Magn Reson Med 64:1005, 2010. doi:10.1002/mrm.22487

    Examples
    --------
    >>> thick = predict_slice_train(
    ...     3, echo_spacing=1e-6, r2=0.0, b1=1.0, refocusing_thickness=20.0
    ... )
    >>> bool(np.ptp(thick) < 1e-2)
    True
    """
    rate, field = np.broadcast_arrays(np.asarray(r2, float), np.asarray(b1, float))
    profile = _Profile(echo_spacing, n_echoes, refocusing_thickness, time_bandwidth)
    signal, _ = _echoes(rate.ravel(), field.ravel(), profile)
    return signal.reshape(*rate.shape, n_echoes)


def fit_r2_epg_slice(
    signal: ArrayLike,
    positions: ArrayLike | None = None,
    *,
    echo_times: ArrayLike,
    refocusing_thickness: float | None = None,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    r"""
    Estimate R2 from a CPMG train of a slice, the transmit field being unknown.

    Parameters
    ----------
    signal : (V, E) array_like
        As for :func:`bids_app.models.relaxometry.epg.fit_r2_epg`.
    positions : (V, 3) array_like, optional
        Of the voxels, mm. With 500 voxels or more the transmit field is a polynomial of place;
        else every voxel has one of its own.
    echo_times : (E,) array_like
        s; at least 4, in any order, multiples 1, 2, 3 ... of the first.
    refocusing_thickness : float, optional
        Thickness that the refocusing pulses select over that of the slice; found in the echoes
        where it is not known.
    noise_groups, noise_floor, coils
        As for :func:`bids_app.models.relaxometry.epg.fit_r2_epg`.

    Returns
    -------
    r2 : Estimate
        1/s; flags as from :func:`bids_app.models.relaxometry.epg.fit_r2_epg`. The variance holds
        the uncertainty of the transmit field, and what other slice profiles would change.

    Raises
    ------
    ModelInputError
        As :func:`bids_app.models.relaxometry.epg.fit_r2_epg`; if the thickness is not positive.

    Notes
    -----
    Least squares for S0, R2 and the transmit field. A field above nominal leaves nearly the train
    of one below, and at nominal the train does not change with it: noise alone moves the field of
    a voxel by .2, and R2 with it, to one side. But the field is smooth. Its polynomial is found
    from all voxels at once, S0 and R2 being solved for at every step (variable projection [1]_),
    from the best of even fields and of some that fall towards the edge of the head; then R2 is
    fitted in that field. How far voxels depart from it, beyond noise, is a part of the variance.

    A thickness that is not known is, of those between 0.9 and 10, the one that leaves the smallest
    residuals of all voxels; it takes up most of what other pulses than the assumed would change.
    The fit is repeated with softer and with sharper pulses, or, where the thickness was found,
    with the next smaller and larger one; the squared half of the difference is added to the
    variance. This error is shared by all voxels, and by all conditions that share the scan.

    References
    ----------
    .. [1] Golub & Pereyra, SIAM Journal on Numerical Analysis 10:413, 1973. doi:10.1137/0710036

    Examples
    --------
    >>> train = predict_slice_train(
    ...     8, echo_spacing=0.016, r2=[13.5], b1=0.9, refocusing_thickness=1.2
    ... )
    >>> found = fit_r2_epg_slice(
    ...     1000 * train, echo_times=0.016 * np.arange(1, 9), refocusing_thickness=1.2
    ... )
    >>> found.value.round(3)
    array([13.5])
    """
    if refocusing_thickness is not None and not refocusing_thickness > 0:
        msg = f'refocusing_thickness must be positive, got {refocusing_thickness}'
        raise ModelInputError(msg)
    train = Train.of(signal, echo_times, noise_floor, coils)
    where = _Field.of(train, positions)
    if refocusing_thickness is None:
        number = _most_likely_thickness(train, where)
        thickness = THICKNESSES[number]
        others = [_profile(train, THICKNESSES[number + side]) for side in (-1, 1)]
    else:
        thickness = refocusing_thickness
        others = [_profile(train, thickness, pulse) for pulse in OTHER_TIME_BANDWIDTHS]
    profile = _profile(train, thickness)
    if where is None:
        fits = [_fit(train, noise_groups, profile, start) for start in STARTS_B1]
        fit, noise, apart = _better(*fits)
        shift, fields = apart / 2, [fit.parameters[:, 2]] * len(others)
    else:
        weights, _ = where.find(train, profile)[0]
        fit, noise = _fit(train, noise_groups, profile, where.everywhere @ weights, is_known=True)
        shift = where.shift_of_rate(train, profile, fit, noise, weights)
        ends = [where.find(train, other, [weights])[0] for other in others]
        fields = [where.everywhere @ found for found, _ in ends]
    low, high = (
        _fit(train, noise_groups, other, field, is_known=where is not None)[0].parameters[:, 1]
        for other, field in zip(others, fields, strict=True)
    )
    own, dof = moderate_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    between = np.where(np.isfinite(high - low), high - low, 0.0)
    variance = fit.covariance[:, 1, 1] * own + shift**2 + (between / 2) ** 2
    return estimate_of_train(train, fit, noise, dof, variance)


@dataclass(frozen=True, slots=True)
class _Profile:
    """What the train of a slice depends on besides rate and transmit field."""

    spacing: float
    n_echoes: int
    thickness: float
    time_bandwidth: float


def _profile(train: Train, thickness: float, time_bandwidth: float = TIME_BANDWIDTH) -> _Profile:
    """Give the profile of a train."""
    return _Profile(train.spacing, train.signal.shape[1], thickness, time_bandwidth)


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """The transmit field as a polynomial of place, and the voxels that it is found from."""

    everywhere: FloatArray
    """(V, K) polynomials at all voxels."""
    places: FloatArray
    """(V, 3) positions from the middle."""
    rows: BoolArray
    """(V,) those that it is found from."""
    noise: float
    """SD of the noise whose floor counts; NaN where none does."""

    @classmethod
    def of(cls, train: Train, positions: ArrayLike | None) -> _Field | None:
        """Choose the voxels; None where there are too few, or nobody says where they are."""
        known = np.flatnonzero(train.usable.all(axis=1))
        if positions is None or len(known) < FEWEST_FOR_FIELD:
            return None
        place = np.asarray(positions, float)
        if place.shape != (len(train.signal), 3) or not np.isfinite(place).all():
            msg = f'positions must be finite and of shape ({len(train.signal)}, 3)'
            raise ModelInputError(msg)
        rows = np.zeros(len(place), bool)
        rows[known[:: -(-len(known) // MOST_FOR_FIELD)]] = True
        everywhere = polynomial_of_place(place, int(rows.sum()))
        noise = np.nan
        if train.noise_floor != 'none':
            level = np.full(len(place), STARTS_B1[0])
            spread = _solve(train, rows, _profile(train, THICKNESSES[1]), level).residual_variance
            noise = float(np.sqrt(np.nanmedian(spread)))
        return cls(everywhere, place - place[rows].mean(axis=0), rows, noise)

    def find(
        self, train: Train, profile: _Profile, starts: Sequence[FloatArray] = ()
    ) -> list[tuple[FloatArray, float]]:
        """Find the weights (K,) of the polynomials, and how badly they fit; the best first."""
        if not starts:
            far = (self.places[self.rows] ** 2).sum(axis=1)
            far /= max(float(far.max()), np.finfo(float).tiny)
            tried = []
            for middle, fall in product(MIDDLE_FIELDS, FIELD_FALLS):
                start = np.linalg.lstsq(self.everywhere[self.rows], middle - fall * far)[0]
                tried.append((start, self._project(train, profile, start)[2]))
            starts = [start for start, _ in sorted(tried, key=itemgetter(1))[:MOST_DESCENTS]]
        ends = [self._descend(train, profile, start) for start in starts]
        return sorted(ends, key=itemgetter(1))

    def _descend(
        self, train: Train, profile: _Profile, weights: FloatArray
    ) -> tuple[FloatArray, float]:
        """Improve weights by Gauss-Newton steps as long as the residuals fall."""
        places = self.everywhere[self.rows]
        gain, slope, misfit = self._project(train, profile, weights)
        for _ in range(FIELD_STEPS):
            curvature = places.T @ (gain[:, None] * places)
            curvature[np.diag_indices(len(curvature))] += SMALLEST_RIDGE * np.trace(curvature)
            step = np.linalg.solve(curvature, places.T @ slope)
            size = float(np.abs(places @ step).max())
            step *= min(1.0, LARGEST_FIELD_STEP / max(size, LARGEST_FIELD_STEP))
            found = self._project(train, profile, weights + step)
            if not found[2] < misfit:
                break
            weights = weights + step
            gain, slope, misfit = found
            if size < FIELD_SETTLED:
                break
        return weights, misfit

    def _project(
        self, train: Train, profile: _Profile, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray, float]:
        """
        Solve for S0 and R2 in a field.

        Returns
        -------
        gain, slope : (N,) ndarray
            Squared length of what the field changes and S0 and R2 do not, and its product with
            the residuals; both over the noise of the voxel, so that a voxel of two tissues says
            little.
        misfit : float
            Mean over voxels of the logarithm of the residual variance.
        """
        field = np.clip(self.everywhere @ weights, *B1_LIMITS)
        noise = None if np.isnan(self.noise) else np.full(len(field), self.noise)
        fit = _solve(train, self.rows, profile, field, noise, is_known=True)
        signal = train.signal[self.rows]
        mean, by_s0, by_rate, by_field = _slopes(
            fit.parameters, field[self.rows], profile, self.noise, train.coils
        )
        across = _without(by_field, np.stack([by_s0, by_rate], axis=2))[0]
        left = signal - mean
        left[~np.isfinite(left)] = 0.0
        across[~np.isfinite(across)] = 0.0
        known = np.where(np.isfinite(fit.residual_variance), fit.residual_variance, np.inf)
        known = np.maximum(known, np.finfo(float).tiny)
        misfit = float(np.mean(np.log(known[np.isfinite(known)])))
        return (across**2).sum(axis=1) / known, (across * left).sum(axis=1) / known, misfit

    def shift_of_rate(
        self,
        train: Train,
        profile: _Profile,
        fit: FitResult,
        noise: FloatArray,
        weights: FloatArray,
    ) -> FloatArray:
        """Give by how much (V,) R2 changes where the field departs from its polynomial, SD."""
        field = np.clip(self.everywhere @ weights, *B1_LIMITS)
        mean, by_s0, by_rate, by_field = _slopes(
            fit.parameters, field, profile, self.noise, train.coils
        )
        across, along = _without(by_field, np.stack([by_s0, by_rate], axis=2))
        left = (across * (train.signal - mean)).sum(axis=1)
        gain = (across**2).sum(axis=1)
        known = np.isfinite(left) & np.isfinite(gain) & (gain > 0) & (noise > 0)
        # of the scatter of the fields that voxels would choose, what noise does not explain
        if not known.any():
            return np.zeros(len(gain))
        excess = float((left[known] ** 2 / gain[known] / noise[known] - 1).mean())
        spread = np.sqrt(max(excess, 0.0) / float((gain[known] / noise[known]).mean()))
        return np.where(np.isfinite(along[:, 1]), np.abs(along[:, 1]) * spread, 0.0)


def _slopes(
    parameters: FloatArray, field: FloatArray, profile: _Profile, noise: float, coils: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Give the mean signal (V, E) of a fit, and its slopes by S0, rate and field."""
    s0 = parameters[:, :1]
    echoes, (by_rate, by_field) = _echoes(parameters[:, 1], field, profile)
    mean, slope = s0 * echoes, np.ones(1)
    if not np.isnan(noise):
        mean, slope = rician_mean(np.maximum(mean, 0.0), np.full((1, 1), noise), coils)
    return mean, slope * echoes, slope * s0 * by_rate, slope * s0 * by_field


def _without(change: FloatArray, tangent: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Take out of a change (V, E) what the tangents (V, E, 2) explain; give that share (V, 2)."""
    square = np.einsum('vek,vel->vkl', tangent, tangent)
    product = np.einsum('vek,ve->vk', tangent, change)
    determinant = square[:, 0, 0] * square[:, 1, 1] - square[:, 0, 1] ** 2
    with np.errstate(divide='ignore', invalid='ignore'):
        share = np.stack([
            square[:, 1, 1] * product[:, 0] - square[:, 0, 1] * product[:, 1],
            square[:, 0, 0] * product[:, 1] - square[:, 0, 1] * product[:, 0],
        ], axis=1) / determinant[:, None]  # fmt: skip
    return change - np.einsum('vek,vk->ve', tangent, share), share


def _most_likely_thickness(train: Train, where: _Field | None) -> int:
    """Find the thickness, but for the first and the last, that fits the echoes best."""
    known = np.flatnonzero(train.usable.any(axis=1))
    rows = np.zeros(len(train.signal), bool)
    rows[known[:: max(1, len(known) // MOST_TRIED)]] = True
    misfits: list[float] = []
    starts: list[FloatArray] = []
    for thickness in THICKNESSES[1:-1]:
        profile = _profile(train, thickness)
        if where is not None:
            ends = replace(where, rows=where.rows & rows).find(train, profile, starts)
            starts, misfit = [weights for weights, _ in ends[:2]], ends[0][1]
        else:
            fits = (_solve(train, rows, profile, np.full(len(rows), one)) for one in STARTS_B1)
            spread = np.fmin(*(fit.residual_variance for fit in fits))
            misfit = float(np.nanmean(spread)) if np.isfinite(spread).any() else np.inf
        misfits.append(misfit)
    return 1 + int(np.argmin(misfits))


def _better(
    one: tuple[FitResult, FloatArray], other: tuple[FitResult, FloatArray]
) -> tuple[FitResult, FloatArray, FloatArray]:
    """Take the fit of the smaller misfit, its noise, and how far R2 of one as good is from it."""
    (first, noise), (second, second_noise) = one, other
    wins = ~(first.residual_variance <= second.residual_variance)
    wins &= np.isfinite(second.parameters[:, 1])
    subset = {name: getattr(second, name)[wins] for name in FitResult.__dataclass_fields__}
    best = replace_rows(first, wins, FitResult(**subset))
    noise = np.where(wins, second_noise, noise)
    worse = np.maximum(first.residual_variance, second.residual_variance) - best.residual_variance
    is_as_good = worse * best.dof < AS_GOOD * noise
    apart = np.where(is_as_good, first.parameters[:, 1] - second.parameters[:, 1], 0.0)
    return best, noise, np.where(np.isfinite(apart), apart, 0.0)


def _fit(
    train: Train,
    noise_groups: ArrayLike | None,
    profile: _Profile,
    field: ArrayLike,
    *,
    is_known: bool = False,
) -> tuple[FitResult, FloatArray]:
    """Fit S0, R2 and, from a first one, the transmit field; give also the pooled noise."""
    field = np.broadcast_to(np.asarray(field, float), len(train.signal))
    field = np.where(np.isfinite(field), field, STARTS_B1[0])
    fit = _solve(train, np.ones(len(train.signal), bool), profile, field, is_known=is_known)
    noise, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    for _ in range(floor_passes(train.noise_floor, train.coils)):
        prediction = fit.parameters[:, :1] * np.exp(-fit.parameters[:, 1:2] * train.times)
        near = near_floor(prediction, train.usable, noise, train.coils)
        if near.any():
            again = _solve(train, near, profile, field, np.sqrt(noise), is_known=is_known)
            fit = replace_rows(fit, near, again)
            noise, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    return fit, noise


def _solve(
    train: Train,
    rows: BoolArray,
    profile: _Profile,
    field: FloatArray,
    noise: FloatArray | None = None,
    *,
    is_known: bool = False,
) -> FitResult:
    """Fit some voxels in a field that is known or only starts, above the floor of a noise (V,)."""
    signal, usable, times = train.signal[rows], train.usable[rows], train.times
    field = np.clip(field[rows], *B1_LIMITS)

    def predict(
        parameters: FloatArray, *known: NDArray[np.generic]
    ) -> tuple[FloatArray, FloatArray]:
        s0 = parameters[:, :1]
        here = np.asarray(known[0], float)[:, 0] if is_known else parameters[:, 2]
        echoes, slopes = _echoes(parameters[:, 1], here, profile)
        parts = [echoes, s0 * slopes[0]] + ([] if is_known else [s0 * slopes[1]])
        return s0 * echoes, np.stack(parts, axis=2)

    start = start_decay(signal, np.ones(signal.shape), usable, times)
    growth = np.log(LARGEST_DECAY) / train.spacing
    lower = [0.0, -min(STRONGEST_GROWTH / times.max(), growth), B1_LIMITS[0]]
    upper = [np.inf, STRONGEST_DECAY / times.min(), B1_LIMITS[1]]
    n_free = len(lower) - is_known
    auxiliary = [field[:, None]] if is_known else []
    auxiliary += [] if noise is None else [noise[rows, None]]  # it goes last
    return fit_least_squares(
        predict if noise is None else with_noise_floor(predict, train.coils),
        signal,
        start if is_known else np.column_stack([start, field]),
        lower=lower[:n_free],
        upper=upper[:n_free],
        weights=usable.astype(float),
        auxiliary=auxiliary,
        max_iterations=MAX_ITERATIONS,
        tolerance=TOLERANCE,
    )


def _echoes(
    rate: FloatArray, field: FloatArray, profile: _Profile
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Give the echoes (V, E) of V voxels and their slopes by rate and transmit field."""
    terms, terms_by_field = _terms(profile)
    decay = np.exp(-rate * profile.spacing)
    x = 2 * decay / LARGEST_DECAY - 1
    basis = chebyshev.chebvander(x, profile.n_echoes)
    derivative = chebyshev.chebvander(x, profile.n_echoes - 1) @ _differentiation(profile.n_echoes)
    at, by_field = terms(field), terms_by_field(field)
    value = np.einsum('vk,vke->ve', basis, at)
    by_rate = np.einsum('vk,vke->ve', derivative, at)
    by_rate *= (-2 * profile.spacing / LARGEST_DECAY * decay)[:, None]
    return value, (by_rate, np.einsum('vk,vke->ve', basis, by_field))


@cache
def _differentiation(degree: int) -> FloatArray:
    """Matrix from lower polynomials to the derivatives of all, (degree, degree + 1)."""
    columns = [chebyshev.chebder(row) for row in np.eye(degree + 1)]
    return np.stack([np.pad(c, (0, degree - len(c))) for c in columns], axis=1)


@cache
def _terms(profile: _Profile) -> tuple[Any, Any]:
    """Splines of the coefficients (K, E) of the trains over the transmit field, and slopes."""
    from scipy.interpolate import make_interp_spline

    n = profile.n_echoes
    nodes = np.cos(np.pi * (2 * np.arange(n + 1) + 1) / (2 * (n + 1)))
    rates = -np.log((nodes + 1) * LARGEST_DECAY / 2) / profile.spacing
    fields = np.linspace(*B1_LIMITS, B1_POINTS)
    places = np.linspace(0, SLICE_REACH, SLICE_POINTS)
    a, b = _pulse(np.pi / 2 * fields, places, profile.time_bandwidth)
    excited = 2 * np.abs(a) * np.abs(b)
    excited[:, 0] /= 2  # the middle belongs to both halves of the slice
    a, _ = _pulse(np.pi * fields, places / profile.thickness, profile.time_bandwidth)
    miss = np.abs(a) ** 2
    shape = (len(nodes), *miss.shape)
    trains, _ = echo_train(
        np.broadcast_to(rates[:, None, None], shape).ravel(),
        np.broadcast_to(miss, shape).ravel(),
        profile.spacing,
        n,
    )
    summed = np.einsum('nfze,fz->nfe', trains.reshape(*shape, n), excited)
    summed *= 2 * places[1]
    coefficients = np.linalg.solve(chebyshev.chebvander(nodes, n), summed.reshape(n + 1, -1))
    table = np.moveaxis(coefficients.reshape(summed.shape), 0, 1)
    spline = make_interp_spline(fields, table)
    return spline, spline.derivative()


def _pulse(
    angles: FloatArray, places: FloatArray, time_bandwidth: float
) -> tuple[FloatArray, FloatArray]:
    """
    Turn spins by a sinc pulse in a Hamming window: Cayley-Klein parameters (A, Z), complex.

    Angles in rad; places in thicknesses from the middle.
    """
    time = (2 * np.arange(PULSE_STEPS) + 1 - PULSE_STEPS) / (2 * PULSE_STEPS)
    shape = np.sinc(time_bandwidth * time) * (1 - HAMMING + HAMMING * np.cos(2 * np.pi * time))
    shape /= shape.sum()
    half_turn = np.exp(-1j * np.pi * time_bandwidth * places / PULSE_STEPS)
    a = np.ones((len(angles), len(places)), complex)
    b = np.zeros_like(a)
    for part in shape:
        cosine, sine = np.cos(angles * part / 2)[:, None], np.sin(angles * part / 2)[:, None]
        a, b = a * half_turn, b / half_turn
        a, b = cosine * a - 1j * sine * b, cosine * b - 1j * sine * a
    return a, b
