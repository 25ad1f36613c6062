"""Trains of imperfectly refocused spin echoes: extended phase graph, and T2 from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.fitting import FitResult, fit_least_squares
from bids_app.models.numerics.noise import moderate_variance, pool_variance
from bids_app.models.relaxometry.decay import (
    MINIMUM_ECHOES_LEFT,
    SPACING_TOLERANCE,
    STRONGEST_DECAY,
    STRONGEST_GROWTH,
    check_floor,
    check_train,
    flag_fit,
    floor_passes,
    near_floor,
    replace_rows,
    shapes_of_misfit,
    start_decay,
    status_of_train,
    with_noise_floor,
)
from bids_app.models.status import Status, combine_status

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray, StatusArray

T1_OF_TRAIN = 1.3
"""s; brain at 3 T. Stimulated echoes decay with T1 between pulses; 0.8 s instead changes T2 by
less than 0.5 %."""

MISS_BOUNDS = (-0.3, 0.75)
"""Of cos^2(angle/2); 0.75 is a refocusing of 60 degrees. Below 0 there is no angle, but the
train continues smoothly: cut off at 0, noise around perfect refocusing would shorten T2 (1.4 %
at a signal-to-noise ratio of 30, measured)."""

N_TANGENTS = 3
"""Value, slope by rate and slope by miss are carried through the graph together."""

TOLERANCE = 1e-5
"""Of the fit, see :func:`bids_app.models.numerics.fitting.fit_least_squares`; a thousandth of the
error by noise."""

MAX_ITERATIONS = 100
"""Curvature by miss that the fit neglects makes the last steps short where noise is high."""

FIRST_MISS = 0.03
"""Start value of cos^2(angle/2): 160 degrees."""

SMOOTH_ORDER = 4
"""Degree of the polynomial in space that a smooth miss is; ours. The transmit field of a head at
3 T falls by some tens of degrees from its middle to its sides."""

FEWEST_PER_TERM = 4
"""Voxels that every term of the polynomial needs; with fewer its degree is lower."""


def predict_echo_train(
    n_echoes: int, *, echo_spacing: float, r2: ArrayLike, refocusing_angle: ArrayLike
) -> FloatArray:
    r"""
    Predict a CPMG train with one refocusing angle.

    Parameters
    ----------
    n_echoes : int
        Length of the train.
    echo_spacing : float
        Time of the first echo and between echoes, s.
    r2 : (...) array_like
        1/s.
    refocusing_angle : (...) array_like
        Degrees; broadcasts against `r2`.

    Returns
    -------
    signal : (..., E) ndarray of float64
        Relative to the signal at echo time 0.

    Notes
    -----
    Extended phase graph of excitation and refocusing pulses a quarter turn apart in phase;
    spoiled outside the train, T1 of 1.3 s. With :math:`u = \cos^2(\alpha/2)` a pulse mixes the
    states of order k as

    .. math:: F_k' = u F_k + (1-u) F_{-k} + 4u(1-u) W_k, \qquad
              W_k' = \tfrac12 (F_{-k} - F_k) + (2u - 1) W_k

    where :math:`W = Z / \sin\alpha`, which leaves polynomials in u without a square root.

    References
    ----------
    .. [1] Hennig, J Magn Reson 78:397, 1988. doi:10.1016/0022-2364(88)90128-X
    .. [2] Lebel & Wilman, Magn Reson Med 64:1005, 2010. doi:10.1002/mrm.22487

    Examples
    --------
    >>> predict_echo_train(3, echo_spacing=0.016, r2=0.0, refocusing_angle=180.0).round(3)
    array([1., 1., 1.])
    >>> predict_echo_train(2, echo_spacing=1e-6, r2=0.0, refocusing_angle=120.0).round(4)
    array([0.75  , 0.9375])
    """
    angle = np.radians(np.asarray(refocusing_angle, float))
    rate, miss = np.broadcast_arrays(np.asarray(r2, float), np.cos(angle / 2) ** 2)
    signal, _ = echo_train(rate.ravel(), miss.ravel(), echo_spacing, n_echoes)
    return signal.reshape(*rate.shape, n_echoes)


def fit_r2_epg(
    signal: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    """
    Estimate R2 from a CPMG train whose refocusing angle is unknown.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units. Echoes that are not finite or not positive are not used.
    echo_times : (E,) array_like
        s; at least 4, in any order, multiples 1, 2, 3 ... of the first.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, see :func:`bids_app.models.numerics.noise.moderate_variance`.
    noise_floor, coils : str, int
        As for :func:`bids_app.models.relaxometry.decay.fit_r2`.

    Returns
    -------
    r2 : Estimate
        1/s; flags as from :func:`bids_app.models.relaxometry.decay.fit_r2`. The variance holds the
        uncertainty of the angle. NaN also where fewer than 4 echoes have signal.

    Raises
    ------
    ModelInputError
        If the echoes are not equally spaced from the excitation on, or shapes do not fit.

    Notes
    -----
    Least squares for S0, R2 and the refocusing angle of each voxel, with the derivatives of the
    graph; voxels lend each other residual noise.

    References
    ----------
    .. [1] Lebel & Wilman, Magn Reson Med 64:1005, 2010. doi:10.1002/mrm.22487

    Examples
    --------
    >>> train = predict_echo_train(8, echo_spacing=0.016, r2=[13.5], refocusing_angle=150.0)
    >>> fit_r2_epg(1000 * train, echo_times=0.016 * np.arange(1, 9)).value.round(6)
    array([13.5])
    """
    train = Train.of(signal, echo_times, noise_floor, coils)
    fit, _, usual = _fit_train(train, noise_groups)
    own, dof = moderate_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    return estimate_of_train(train, fit, usual, dof, fit.covariance[:, 1, 1] * own)


def fit_r2_epg_smooth(
    signal: ArrayLike,
    positions: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    r"""
    Estimate R2 from a CPMG train whose refocusing angle is unknown but smooth in space.

    Parameters
    ----------
    signal : (V, E) array_like
        As for :func:`fit_r2_epg`.
    positions : (V, 3) array_like
        Of the voxels, any unit of length.
    echo_times, noise_groups, noise_floor, coils
        As for :func:`fit_r2_epg`.

    Returns
    -------
    r2 : Estimate
        1/s; flags as from :func:`fit_r2_epg`. The variance holds the uncertainty of the smooth
        angle.

    Raises
    ------
    ModelInputError
        As :func:`fit_r2_epg`; if `positions` is not finite or has another shape.

    Notes
    -----
    1. :func:`fit_r2_epg` gives the miss :math:`u = \cos^2(\alpha/2)` of each voxel.
    2. A polynomial of degree 4 in space (lower where voxels are few) goes through them, each
       weighted by its squared ratio of signal to noise. Not by the variance of u, which depends
       on the noise of u itself and would pull.
    3. S0 and R2 are fitted again with the u of the polynomial. At a known u they are
       uncorrelated with the u that a voxel had found, so that with the covariance C of this fit

    .. math:: \mathrm{var}(R_2) = \sigma^2 C_{R_2} +
              (\partial R_2/\partial u)^2\,\mathrm{var}(\hat u)

    where :math:`\mathrm{var}(\hat u)` follows from the scatter of u around the polynomial. What a
    polynomial cannot follow is an error that the variance does not hold.

    References
    ----------
    .. [1] Lebel & Wilman, Magn Reson Med 64:1005, 2010. doi:10.1002/mrm.22487

    Examples
    --------
    >>> train = predict_echo_train(8, echo_spacing=0.016, r2=[13.5, 10], refocusing_angle=150.0)
    >>> fit_r2_epg_smooth(
    ...     1000 * train, [[0, 0, 0], [0, 0, 1]], echo_times=0.016 * np.arange(1, 9)
    ... ).value.round(4)
    array([13.5, 10. ])
    """
    train = Train.of(signal, echo_times, noise_floor, coils)
    positions = np.asarray(positions, float)
    if positions.shape != (len(train.signal), 3) or not np.isfinite(positions).all():
        msg = f'positions must be finite and of shape ({len(train.signal)}, 3)'
        raise ModelInputError(msg)
    each, each_noise, _ = _fit_train(train, noise_groups)
    miss, spread = _smooth_miss(each, each_noise, positions)
    fit, _, usual = _fit_train(train, noise_groups, miss)
    own, dof = moderate_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    known = fit.covariance[:, 1, 1] * own
    variance = known + _slope(train, fit, miss) ** 2 * spread
    return estimate_of_train(train, fit, usual, dof, variance)


def _slope(train: Train, fit: FitResult, miss: FloatArray) -> FloatArray:
    """Give the change of the rate of a fit with a known miss by that miss."""
    s0 = fit.parameters[:, :1]
    echoes, (by_rate, by_miss) = echo_train(
        fit.parameters[:, 1], miss, train.spacing, train.signal.shape[1]
    )
    push = s0 * by_miss * train.usable
    gradient = np.stack([(echoes * push).sum(axis=1), (s0 * by_rate * push).sum(axis=1)], axis=1)
    return np.asarray(-np.einsum('vp,vp->v', fit.covariance[:, 1], gradient))


def _smooth_miss(
    fit: FitResult, noise: FloatArray, positions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give the miss of a polynomial in space through those of the voxels, and its variance."""
    miss = fit.parameters[:, 2]
    known = np.isfinite(miss) & (noise >= 0)
    if not known.any():
        return np.full(miss.shape, FIRST_MISS), np.full(miss.shape, np.nan)
    terms = polynomial_of_place(positions, int(known.sum()))
    # exact trains have no noise: then all voxels count alike
    snr = fit.parameters[known, 0] / np.sqrt(np.maximum(noise[known], np.finfo(float).tiny))
    weights = (snr / snr.max())[:, None]
    factors, _, rank, _ = np.linalg.lstsq(weights * terms[known], weights[:, 0] * miss[known])
    left = weights[:, 0] * (miss[known] - terms[known] @ factors)
    scatter = left @ left / max(int(known.sum()) - rank, 1)
    covariance = scatter * np.linalg.pinv((weights * terms[known]).T @ (weights * terms[known]))
    variance = np.einsum('vp,pq,vq->v', terms, covariance, terms)
    return np.clip(terms @ factors, *MISS_BOUNDS), variance


def polynomial_of_place(positions: FloatArray, count: int) -> FloatArray:
    """
    Give the terms of a smooth function of place.

    Parameters
    ----------
    positions : (V, 3) ndarray of float64
        Any unit of length.
    count : int
        Voxels that the function is found from; the fewer, the lower its degree.

    Returns
    -------
    terms : (V, P) ndarray of float64
        Products of powers of the centred positions; the first is constant.
    """
    centred = positions - positions.mean(axis=0)
    scaled = centred / max(float(np.abs(centred).max()), np.finfo(float).tiny)
    orders = (SMOOTH_ORDER + 1,) * positions.shape[1]
    powers = np.array([p for p in np.ndindex(orders) if sum(p) <= SMOOTH_ORDER])
    for order in range(SMOOTH_ORDER, -1, -1):
        chosen = powers[powers.sum(axis=1) <= order]
        if count >= FEWEST_PER_TERM * len(chosen):
            break
    return np.asarray(np.prod(scaled[:, None, :] ** chosen, axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class Train:
    """
    Echoes in order, and which of them can be used.

    Parameters
    ----------
    signal : (V, E) ndarray of float64
        Magnitude, scanner units.
    usable : (V, E) ndarray of bool
        Finite and positive, in voxels with enough echoes.
    spacing : float
        s.
    status : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.status.Status`.
    noise_floor, coils : str, int
        As for :func:`bids_app.models.relaxometry.decay.fit_r2`.
    """

    signal: FloatArray
    usable: BoolArray
    spacing: float
    status: StatusArray
    noise_floor: str
    coils: int = 1

    @classmethod
    def of(
        cls, signal: ArrayLike, echo_times: ArrayLike, noise_floor: str, coils: int = 1
    ) -> Train:
        """
        Check and order the echoes.

        Parameters
        ----------
        signal : (V, E) array_like
            Magnitude.
        echo_times : (E,) array_like
            s.
        noise_floor, coils : str, int
            How it is handled.

        Returns
        -------
        train : Train
            In order of echo time.
        """
        signal, echo_times = check_train(signal, echo_times)
        check_floor(noise_floor, coils)
        order = np.argsort(echo_times)
        signal, echo_times = signal[:, order], echo_times[order]
        spacing = _spacing(echo_times)
        usable = np.isfinite(signal) & (signal > 0)
        status = status_of_train(signal, usable)
        few = (status == Status.OK) & (usable.sum(axis=1) < MINIMUM_ECHOES_LEFT)
        status[few] = Status.TOO_FEW_SAMPLES
        usable &= (status == Status.OK)[:, None]
        return cls(signal, usable, spacing, status, noise_floor, coils)

    @property
    def times(self) -> FloatArray:
        """Echo times, s."""
        return self.spacing * np.arange(1, self.signal.shape[1] + 1)


def _fit_train(
    train: Train, noise_groups: ArrayLike | None, miss: FloatArray | None = None
) -> tuple[FitResult, FloatArray, FloatArray]:
    """Fit S0, R2 and, unless known, the miss; give also pooled noise and pooled residual."""
    weights = train.usable.astype(float)
    fit = _solve(train, np.ones(len(weights), bool), miss=miss)
    noise, _ = pool_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    for _ in range(floor_passes(train.noise_floor, train.coils)):
        prediction = fit.parameters[:, :1] * np.exp(-fit.parameters[:, 1:2] * train.times)
        near = near_floor(prediction, train.usable, noise, train.coils)
        if near.any():
            fit = replace_rows(fit, near, _solve(train, near, np.sqrt(noise), miss))
            noise, _ = pool_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    usual, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    return fit, noise, usual


def estimate_of_train(
    train: Train, fit: FitResult, usual: FloatArray, dof: float, variance: FloatArray
) -> Estimate:
    """
    Flag the rates of a fit.

    Parameters
    ----------
    train : Train
        What was fitted.
    fit : FitResult
        Its second parameter is R2, 1/s.
    usual : (V,) ndarray of float64
        Pooled residual variance.
    dof : float
        Degrees of freedom of the variance.
    variance : (V,) ndarray of float64
        Of R2.

    Returns
    -------
    r2 : Estimate
        1/s.
    """
    rate = fit.parameters[:, 1]
    status = combine_status(train.status, fit.status, flag_fit(rate, fit, usual))
    return Estimate.of(rate, variance, status, dof=dof)


def _solve(
    train: Train,
    rows: BoolArray,
    noise: FloatArray | None = None,
    miss: FloatArray | None = None,
) -> FitResult:
    """Fit S0, R2 and miss (V,) where it is not given, above the floor of a noise (V,) if any."""
    signal, weights, times = train.signal[rows], train.usable[rows].astype(float), train.times

    def predict(
        parameters: FloatArray, *known: NDArray[np.generic]
    ) -> tuple[FloatArray, FloatArray]:
        s0 = parameters[:, :1]
        of_angle = np.asarray(known[0], float)[:, 0] if known else parameters[:, 2]
        echoes, slopes = echo_train(parameters[:, 1], of_angle, train.spacing, len(times))
        columns = [echoes, s0 * slopes[0], s0 * slopes[1]]
        return s0 * echoes, np.stack(columns[: parameters.shape[1]], axis=2)

    auxiliary = [array[rows, None] for array in (miss, noise) if array is not None]
    start = start_decay(signal, np.ones(signal.shape), weights > 0, times)
    start = np.concatenate([start, np.full((len(start), 1), FIRST_MISS)], axis=1)
    lower = [0.0, -STRONGEST_GROWTH / times.max(), MISS_BOUNDS[0]]
    upper = [np.inf, STRONGEST_DECAY / times.min(), MISS_BOUNDS[1]]
    n_free = len(lower) - (miss is not None)
    return fit_least_squares(
        predict if noise is None else with_noise_floor(predict, train.coils),
        signal,
        start[:, :n_free],
        lower=lower[:n_free],
        upper=upper[:n_free],
        weights=weights,
        auxiliary=auxiliary,
        max_iterations=MAX_ITERATIONS,
        tolerance=TOLERANCE,
        misfit=shapes_of_misfit(times),
    )


def _spacing(echo_times: FloatArray) -> float:
    """Return the spacing of a train that starts at its first multiple, or raise."""
    spacing = float(echo_times[-1] / len(echo_times))
    expected = spacing * np.arange(1, len(echo_times) + 1)
    if len(echo_times) < MINIMUM_ECHOES_LEFT or not np.allclose(
        echo_times, expected, rtol=SPACING_TOLERANCE, atol=0
    ):
        msg = (
            f'the model epg needs {MINIMUM_ECHOES_LEFT} or more echoes at 1, 2, 3 ... times the '
            f'first echo time, got {echo_times} s; choose the T2 model drop-first'
        )
        raise ModelInputError(msg)
    return spacing


def echo_train(
    rate: FloatArray, miss: FloatArray, spacing: float, n_echoes: int
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """
    Run the graph for many voxels.

    Parameters
    ----------
    rate : (V,) ndarray of float64
        R2, 1/s.
    miss : (V,) ndarray of float64
        cos^2 of half the refocusing angle.
    spacing : float
        s.
    n_echoes : int
        Length of the train.

    Returns
    -------
    echoes : (V, E) ndarray of float64
        Relative to the signal at echo time 0.
    slopes : tuple of (V, E) ndarray of float64
        By rate, and by miss.
    """
    n_orders = n_echoes + 1
    # value, slope by rate, slope by miss; orders 0..n of F+ and F-, W; voxels last (contiguous)
    plus = np.zeros((N_TANGENTS, n_orders, len(rate)))
    minus, stored = np.zeros_like(plus), np.zeros_like(plus)
    plus[0, 0] = minus[0, 0] = 1.0
    half = spacing / 2
    decay = np.exp(-rate * half)
    recovery = np.exp(-half / T1_OF_TRAIN)
    hit, mixing = 1 - miss, 4 * miss * (1 - miss)
    echoes = np.empty((N_TANGENTS, n_echoes, len(rate)))
    for echo in range(n_echoes):
        top = min(2 * echo + 3, n_orders)  # orders beyond are empty still
        part = (slice(None), slice(0, top))
        _evolve((plus[part], minus[part], stored[part]), (decay, recovery), half)
        p, m, w = plus[part], minus[part], stored[part]
        new_plus = miss * p + hit * m + mixing * w
        new_minus = hit * p + miss * m - mixing * w
        new_stored = (m - p) / 2 + (2 * miss - 1) * w
        slope = 4 * (1 - 2 * miss) * w[0]
        new_plus[2] += p[0] - m[0] + slope
        new_minus[2] += m[0] - p[0] - slope
        new_stored[2] += 2 * w[0]
        plus[part], minus[part], stored[part] = new_plus, new_minus, new_stored
        _evolve((plus[part], minus[part], stored[part]), (decay, recovery), half)
        echoes[:, echo] = plus[:, 0]
    value, by_rate, by_miss = np.moveaxis(echoes, 1, 2)
    return value, (by_rate, by_miss)


def _evolve(
    states: tuple[FloatArray, FloatArray, FloatArray],
    kept: tuple[FloatArray, float],
    half: float,
) -> None:
    """Let F+, F- and W relax for half a spacing and shift F by one order, in place."""
    plus, minus, stored = states
    decay, recovery = kept
    for transverse in (plus, minus):
        np.multiply(transverse, decay, out=transverse)
        transverse[1] -= half * transverse[0]
    stored *= recovery
    plus[:, 1:] = plus[:, :-1].copy()
    minus[:, :-1] = minus[:, 1:].copy()
    minus[:, -1] = 0.0
    plus[:, 0] = minus[:, 0]
