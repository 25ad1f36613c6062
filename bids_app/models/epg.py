"""Trains of imperfectly refocused spin echoes: extended phase graph, and T2 from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.fitting import FitResult, fit_least_squares
from bids_app.models.noise import pool_variance
from bids_app.models.relaxometry import (
    MINIMUM_ECHOES_LEFT,
    NOISE_FLOORS,
    SPACING_TOLERANCE,
    STRONGEST_DECAY,
    STRONGEST_GROWTH,
    check_train,
    flag_fit,
    near_floor,
    replace_rows,
    start_decay,
    status_of_train,
    with_noise_floor,
)
from bids_app.models.status import Status, combine_status

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

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
"""Of the fit, see :func:`bids_app.models.fitting.fit_least_squares`; a thousandth of the
error by noise."""

MAX_ITERATIONS = 100
"""Curvature by miss that the fit neglects makes the last steps short where noise is high."""

FIRST_MISS = 0.03
"""Start value of cos^2(angle/2): 160 degrees."""


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

    See Also
    --------
    fit_r2_epg : The inverse.

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
    signal, _ = _train(rate.ravel(), miss.ravel(), echo_spacing, n_echoes)
    return signal.reshape(*rate.shape, n_echoes)


def fit_r2_epg(
    signal: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
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
        Voxels with equal noise, see :func:`bids_app.models.noise.pool_variance`.
    noise_floor : {'rician', 'none'}
        As for :func:`bids_app.models.relaxometry.fit_r2`.

    Returns
    -------
    r2 : Estimate
        1/s; flags as from :func:`bids_app.models.relaxometry.fit_r2`. The variance holds the
        uncertainty of the angle. NaN also where fewer than 4 echoes have signal.

    Raises
    ------
    ModelInputError
        If the echoes are not equally spaced from the excitation on, or shapes do not fit.

    See Also
    --------
    predict_echo_train : The inverse.

    Notes
    -----
    Least squares for S0, R2 and the refocusing angle of each voxel, with the derivatives of the
    graph; the residual noise is pooled over voxels.

    References
    ----------
    .. [1] Lebel & Wilman, Magn Reson Med 64:1005, 2010. doi:10.1002/mrm.22487

    Examples
    --------
    >>> train = predict_echo_train(8, echo_spacing=0.016, r2=[13.5], refocusing_angle=150.0)
    >>> fit_r2_epg(1000 * train, echo_times=0.016 * np.arange(1, 9)).value.round(6)
    array([13.5])
    """
    signal, echo_times = check_train(signal, echo_times)
    if noise_floor not in NOISE_FLOORS:
        msg = f'noise_floor must be one of {", ".join(NOISE_FLOORS)}, got {noise_floor!r}'
        raise ModelInputError(msg)
    order = np.argsort(echo_times)
    signal, echo_times = signal[:, order], echo_times[order]
    spacing = _spacing(echo_times)
    usable = np.isfinite(signal) & (signal > 0)
    status = status_of_train(signal, usable)
    few = (status == Status.OK) & (usable.sum(axis=1) < MINIMUM_ECHOES_LEFT)
    status[few] = Status.TOO_FEW_SAMPLES
    usable &= (status == Status.OK)[:, None]

    weights = usable.astype(float)
    fit = _solve(signal, weights, spacing)
    noise, dof = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    if noise_floor == 'rician':
        prediction = fit.parameters[:, :1] * np.exp(-fit.parameters[:, 1:2] * echo_times)
        near = near_floor(prediction, usable, noise)
        if near.any():
            again = _solve(signal[near], weights[near], spacing, np.sqrt(noise[near, None]))
            fit = replace_rows(fit, near, again)
    rate = fit.parameters[:, 1]
    status = combine_status(status, fit.status, flag_fit(rate, fit, noise))
    return Estimate.of(rate, fit.covariance[:, 1, 1] * noise, status, dof=dof)


def _solve(
    signal: FloatArray, weights: FloatArray, spacing: float, noise: FloatArray | None = None
) -> FitResult:
    """Fit S0, R2 and miss, with the noise floor of a noise (V, 1) where one is given."""
    n_echoes = signal.shape[1]
    times = spacing * np.arange(1, n_echoes + 1)

    def predict(parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        s0 = parameters[:, :1]
        train, slopes = _train(parameters[:, 1], parameters[:, 2], spacing, n_echoes)
        return s0 * train, np.stack([train, s0 * slopes[0], s0 * slopes[1]], axis=2)

    start = start_decay(signal, np.ones(signal.shape), weights > 0, times)
    return fit_least_squares(
        predict if noise is None else with_noise_floor(predict),
        signal,
        np.concatenate([start, np.full((len(start), 1), FIRST_MISS)], axis=1),
        lower=[0.0, -STRONGEST_GROWTH / times.max(), MISS_BOUNDS[0]],
        upper=[np.inf, STRONGEST_DECAY / times.min(), MISS_BOUNDS[1]],
        weights=weights,
        auxiliary=() if noise is None else (noise,),
        max_iterations=MAX_ITERATIONS,
        tolerance=TOLERANCE,
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


def _train(
    rate: FloatArray, miss: FloatArray, spacing: float, n_echoes: int
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Run the graph for V voxels; give the echoes (V, E) and their slopes by rate and miss."""
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
