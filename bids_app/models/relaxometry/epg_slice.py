"""T2 from the spin echoes of a slice, each part of which has an angle of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
    start_decay,
    with_noise_floor,
)
from bids_app.models.relaxometry.epg import (
    MAX_ITERATIONS,
    TOLERANCE,
    Train,
    echo_train,
    estimate_of_train,
)

if TYPE_CHECKING:
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

STARTS_B1 = (0.9, 1.2)
"""A field above nominal leaves nearly the train of one below: the fit may end on either side."""

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
    Least squares for S0, R2 and the transmit field of each voxel. A thickness that is not known
    is, of those between 0.9 and 10, the one that leaves the smallest residuals of all voxels; it
    takes up most of what other pulses than the assumed would change. The fit is repeated with
    softer and with sharper pulses, or, where the thickness was found, with the next smaller and
    larger one; the squared half of the difference is added to the variance. This error is shared
    by all voxels, and by all conditions that share the scan.

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
    if refocusing_thickness is None:
        number = _most_likely_thickness(train)
        thickness = THICKNESSES[number]
        others = [_profile(train, THICKNESSES[number + side]) for side in (-1, 1)]
    else:
        thickness = refocusing_thickness
        others = [_profile(train, thickness, pulse) for pulse in OTHER_TIME_BANDWIDTHS]
    fits = [_fit(train, noise_groups, _profile(train, thickness), start) for start in STARTS_B1]
    fit, noise, apart = _better(*fits)
    own, dof = moderate_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    low, high = (
        _fit(train, noise_groups, profile, fit.parameters[:, 2])[0].parameters[:, 1]
        for profile in others
    )
    between = np.where(np.isfinite(high - low), high - low, 0.0)
    variance = fit.covariance[:, 1, 1] * own + (apart / 2) ** 2 + (between / 2) ** 2
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


def _most_likely_thickness(train: Train) -> int:
    """Find the thickness, but for the first and the last, that fits the echoes best."""
    known = np.flatnonzero(train.usable.any(axis=1))
    rows = np.zeros(len(train.signal), bool)
    rows[known[:: max(1, len(known) // MOST_TRIED)]] = True
    misfits = []
    for thickness in THICKNESSES[1:-1]:
        profile = _profile(train, thickness)
        fits = (_solve(train, rows, profile, np.full(len(rows), start)) for start in STARTS_B1)
        misfit = np.fmin(*(fit.residual_variance for fit in fits))
        misfits.append(np.nanmean(misfit) if np.isfinite(misfit).any() else np.inf)
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
    train: Train, noise_groups: ArrayLike | None, profile: _Profile, field: ArrayLike
) -> tuple[FitResult, FloatArray]:
    """Fit S0, R2 and the transmit field from a first field; give also the pooled noise."""
    field = np.broadcast_to(np.asarray(field, float), len(train.signal))
    field = np.where(np.isfinite(field), field, STARTS_B1[0])
    fit = _solve(train, np.ones(len(train.signal), bool), profile, field)
    noise, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    for _ in range(floor_passes(train.noise_floor, train.coils)):
        prediction = fit.parameters[:, :1] * np.exp(-fit.parameters[:, 1:2] * train.times)
        near = near_floor(prediction, train.usable, noise, train.coils)
        if near.any():
            again = _solve(train, near, profile, field, np.sqrt(noise))
            fit = replace_rows(fit, near, again)
            noise, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    return fit, noise


def _solve(
    train: Train,
    rows: BoolArray,
    profile: _Profile,
    field: FloatArray,
    noise: FloatArray | None = None,
) -> FitResult:
    """Fit some voxels, above the floor of a noise (V,) if any."""
    signal, usable, times = train.signal[rows], train.usable[rows], train.times

    def predict(
        parameters: FloatArray, *_known: NDArray[np.generic]
    ) -> tuple[FloatArray, FloatArray]:
        s0 = parameters[:, :1]
        echoes, slopes = _echoes(parameters[:, 1], parameters[:, 2], profile)
        return s0 * echoes, np.stack([echoes, s0 * slopes[0], s0 * slopes[1]], axis=2)

    start = start_decay(signal, np.ones(signal.shape), usable, times)
    start = np.column_stack([start, field[rows]])
    growth = np.log(LARGEST_DECAY) / train.spacing
    return fit_least_squares(
        predict if noise is None else with_noise_floor(predict, train.coils),
        signal,
        start,
        lower=[0.0, -min(STRONGEST_GROWTH / times.max(), growth), B1_LIMITS[0]],
        upper=[np.inf, STRONGEST_DECAY / times.min(), B1_LIMITS[1]],
        weights=usable.astype(float),
        auxiliary=[] if noise is None else [noise[rows, None]],
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
