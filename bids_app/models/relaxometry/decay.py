"""Transverse relaxation rates from multi-echo trains."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.fitting import MAX_CHUNK, FitResult, fit_least_squares
from bids_app.models.numerics.noise import moderate_variance, pool_variance
from bids_app.models.status import Status, combine_status, without_cautions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray, StatusArray

ATTENUATION_FLOOR = 0.2
"""Signal fraction left by a background gradient, below which an echo says little; no unit."""

MINIMUM_ECHOES = 3
"""Two parameters and one degree of freedom for the noise."""

MINIMUM_ECHOES_LEFT = 4
"""So that three are left when the first is dropped."""

SIGNAL_NEAR_FLOOR = 10.0
"""Signal over noise of the weakest echo below which the noise floor of a magnitude image is
modelled; there its bias is 5 % of the noise; no unit."""

FLUID_TIME = 0.2
"""T2 or T2* above which a voxel is flagged as mostly fluid, s; grey matter has 0.07 and 0.055."""

UNCERTAIN_GRADIENT = 2.5
"""Error of the rate by that of the gradient above which a voxel is flagged, 1/s: half of R2' of
grey matter; ours."""

MISFIT_PROBABILITY = 1e-6
"""Of residuals as large by noise alone; below it the echoes are flagged as inconsistent; ours."""

MOVED_SHARE = 0.05
"""Disagreement of echoes or sets, relative to the signal, that moves R2* as much; ours."""

SMALLEST_SPREAD = 1e-12
"""Of the echo times that are used, relative to their square; below it there is one; no unit."""

ROUNDING = 1e-9
"""Residual relative to the signal that is no misfit but arithmetic; no unit."""

COMBINED_PASSES = 3
"""Of the fit where many coils were combined: the first misfit passes for noise."""

NOISE_FLOORS = ('rician', 'none')
"""How the noise floor of magnitude images is handled."""

SPACING_TOLERANCE = 0.01
"""Relative difference up to which echo spacings count as equal; no unit."""

STRONGEST_DECAY = 5.0
"""Largest rate times first echo time: the first echo has fallen to 0.7 %; no unit."""

STRONGEST_GROWTH = 1.0
"""Largest negative rate times last echo time that noise may cause; no unit."""


def predict_decay(echo_times: ArrayLike, s0: ArrayLike, rate: ArrayLike) -> FloatArray:
    r"""
    Predict the mono-exponential decay of a train of echoes.

    Parameters
    ----------
    echo_times : (E,) array_like
        s.
    s0 : (...) array_like
        Signal at echo time 0, scanner units; broadcasts against `rate`.
    rate : (...) array_like
        R2 or R2*, 1/s.

    Returns
    -------
    signal : (..., E) ndarray of float64
        Scanner units.

    Notes
    -----
    .. math:: S(TE) = S_0 \exp(-R\,TE)

    Examples
    --------
    >>> predict_decay([0.016, 0.074], 1000.0, 1 / 0.074).round(1)
    array([805.6, 367.9])
    """
    s0, rate = np.asarray(s0, float), np.asarray(rate, float)
    decay = np.exp(-rate[..., None] * np.asarray(echo_times, float))
    return np.asarray(s0[..., None] * decay)


def fit_r2(
    signal: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    """
    Estimate R2 from a train of spin echoes.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units. Echoes that are not finite or not positive are not used.
    echo_times : (E,) array_like
        s; at least 3 different ones, positive, in any order.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, see :func:`bids_app.models.numerics.noise.moderate_variance`.
    noise_floor : {'rician', 'none'}
        Whether the mean of the noisy magnitude is modelled where an echo comes near the noise.
    coils : int
        Receivers whose magnitudes were combined as the root of the sum of their squares, which
        lifts the floor; 1 for any other combination.

    Returns
    -------
    r2 : Estimate
        1/s. A negative rate is kept and flagged NEGATIVE; FLUID where T2 is above 200 ms,
        INCONSISTENT_ECHOES where the residual is far above the noise. NaN with status
        INVALID_INPUT, NO_SIGNAL, TOO_FEW_SAMPLES (fewer than 3 echoes), NOT_CONVERGED or AT_BOUND.

    Raises
    ------
    ModelInputError
        If shapes do not fit, the echo times are not usable or the noise floor is unknown.

    Notes
    -----
    Unweighted least squares in signal space, from the log-linear fit with weights S^2 as start.
    The residual without the shapes of a misfit (:func:`shapes_of_misfit`) is the noise; voxels
    lend it to each other before it enters the variance. With three echoes misfit counts as
    noise. Where the weakest echo is below 10 times that noise, the fit is repeated with the mean
    of a Rician distribution as prediction.

    References
    ----------
    .. [1] Hirsch et al., NMR Biomed 27:853, 2014 (the use in multi-parametric quantitative
       BOLD).

    Examples
    --------
    >>> echo_times = [0.016, 0.032, 0.048, 0.064]
    >>> fit_r2(predict_decay(echo_times, [1000.0], [13.5]), echo_times=echo_times).value.round(6)
    array([13.5])
    """
    signal, echo_times = check_train(signal, echo_times)
    usable = np.isfinite(signal) & (signal > 0)
    train = _Train(signal, np.ones(signal.shape), usable, echo_times)
    return _fit_decay(train, status_of_train(signal, usable), noise_groups, (noise_floor, coils))


def fit_r2_without_first(
    signal: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    """
    Estimate R2 from a train of spin echoes without its first echo.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units. Echoes that are not finite or not positive are not used.
    echo_times : (E,) array_like
        s; at least 4 different ones, positive, in any order.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, see :func:`bids_app.models.numerics.noise.moderate_variance`.
    noise_floor, coils : str, int
        As for :func:`fit_r2`.

    Returns
    -------
    r2 : Estimate
        As from :func:`fit_r2`.

    Raises
    ------
    ModelInputError
        If there are fewer than 4 echo times, or as for :func:`fit_r2`.

    Notes
    -----
    With imperfect refocusing only the first echo lacks a stimulated echo and lies below the
    decay of the others.

    References
    ----------
    .. [1] Hirsch et al., NMR Biomed 27:853, 2014.

    Examples
    --------
    >>> echo_times = [0.016, 0.032, 0.048, 0.064]
    >>> signal = predict_decay(echo_times, [1000.0], [13.5]) * [0.9, 1, 1, 1]
    >>> fit_r2_without_first(signal, echo_times=echo_times).value.round(6)
    array([13.5])
    """
    signal, echo_times = check_train(signal, echo_times)
    if len(np.unique(echo_times)) < MINIMUM_ECHOES_LEFT:
        msg = f'{MINIMUM_ECHOES_LEFT} echo times are needed to drop the first, got {echo_times}'
        raise ModelInputError(msg)
    kept = echo_times > echo_times.min()
    return fit_r2(
        signal[:, kept],
        echo_times=echo_times[kept],
        noise_groups=noise_groups,
        noise_floor=noise_floor,
        coils=coils,
    )


def first_echo_departure(signal: ArrayLike, *, echo_times: ArrayLike) -> FloatArray:
    r"""
    Tell how far the first echo lies from the decay of the later ones.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units.
    echo_times : (E,) array_like
        s; positive.

    Returns
    -------
    departure : (V,) ndarray of float64
        Of the first echo, relative to where the later ones say it should be; -0.1 where it is
        10 % low. NaN with fewer than three later echoes, or where one is not positive.

    Raises
    ------
    ModelInputError
        As for :func:`fit_r2`.

    See Also
    --------
    fit_r2_without_first : Where a low first echo does no harm.

    Notes
    -----
    Line through the logarithms of the later echoes, each weighted by :math:`S^2`, which their
    noise is by. Imperfect refocusing leaves the first echo low: the later ones hold stimulated
    echoes that it lacks.

    Examples
    --------
    >>> echo_times = [0.016, 0.032, 0.048, 0.064]
    >>> signal = predict_decay(echo_times, [1000.0], [13.5]) * [0.9, 1, 1, 1]
    >>> first_echo_departure(signal, echo_times=echo_times).round(6)
    array([-0.1])
    """
    signal, times = check_train(signal, echo_times)
    first = int(np.argmin(times))
    later = times > times[first]
    nowhere = np.full(len(signal), np.nan)
    if later.sum() < MINIMUM_ECHOES:
        return nowhere
    usable = (np.isfinite(signal) & (signal > 0)).all(axis=1)
    train, since = signal[usable], times[later] - times[first]
    logs, weight = np.log(train[:, later]), train[:, later] ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    middle, level = weight @ since, (weight * logs).sum(axis=1)
    away = since - middle[:, np.newaxis]
    slope = (weight * away * logs).sum(axis=1) / (weight * away**2).sum(axis=1)
    nowhere[usable] = train[:, first] / np.exp(level - slope * middle) - 1
    return nowhere


def fit_r2_star(
    signal: ArrayLike,
    attenuation: ArrayLike,
    *,
    echo_times: ArrayLike,
    attenuation_error: ArrayLike = 0.0,
    noise_groups: ArrayLike | None = None,
    attenuation_floor: float = ATTENUATION_FLOOR,
    noise_floor: str = 'rician',
    coils: int = 1,
) -> Estimate:
    r"""
    Estimate R2* from a train of gradient echoes in a known background gradient.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units. Echoes that are not finite or not positive are not used.
    attenuation : (V, E) or (E,) array_like
        Signal fraction that the background gradient leaves, in [0, 1]; 1 without a gradient.
    echo_times : (E,) array_like
        s; at least 3 different ones, positive, in any order.
    attenuation_error : (V, E) or (E,) array_like
        Change of `attenuation` by one standard deviation of the gradient; enters the variance.
    noise_groups : (V,) array_like of int, optional
        Voxels with alike noise, see :func:`bids_app.models.numerics.noise.moderate_variance`.
    attenuation_floor : float
        Echoes from the first on whose `attenuation` lies below this are not used, also where
        `attenuation` rises again beyond its first zero.
    noise_floor, coils : str, int
        As for :func:`fit_r2`.

    Returns
    -------
    r2_star : Estimate
        1/s, without the contribution of the background gradient. Flags as from :func:`fit_r2`;
        GRADIENT_UNCERTAIN where the error of the gradient alone is above 2.5 1/s.
        NaN with status GRADIENT_TOO_STRONG where the floor leaves fewer than
        3 echoes, else as for :func:`fit_r2`.

    Raises
    ------
    ModelInputError
        If shapes do not fit, the echo times are not usable or the floor is not in [0, 1).

    Notes
    -----
    The fraction F multiplies the model, not the data, so that noise stays equal in all echoes:

    .. math:: S(TE) = S_0\,F(TE)\,\exp(-R_2^*\,TE)

    An error :math:`\delta F` moves the solution by :math:`-(J^T J)^{-1} J^T S_0\,\delta F
    \exp(-R_2^*\,TE)`; the square of its second entry is added to the variance.

    References
    ----------
    .. [1] Hirsch & Preibisch, AJNR Am J Neuroradiol 34:E65, 2013.

    Examples
    --------
    >>> echo_times = [0.01, 0.02, 0.03]
    >>> signal = predict_decay(echo_times, [900.0], [20.0]) * [0.9, 0.8, 0.7]
    >>> fit_r2_star(signal, [0.9, 0.8, 0.7], echo_times=echo_times).value.round(6)
    array([20.])
    """
    signal, echo_times = check_train(signal, echo_times)
    if not 0 <= attenuation_floor < 1:
        msg = f'attenuation_floor must lie in [0, 1), got {attenuation_floor}'
        raise ModelInputError(msg)
    try:
        attenuation = np.broadcast_to(np.asarray(attenuation, float), signal.shape)
        attenuation_error = np.broadcast_to(np.asarray(attenuation_error, float), signal.shape)
    except ValueError as error:
        msg = f'attenuation {np.shape(attenuation)} must have the shape of signal {signal.shape}'
        raise ModelInputError(msg) from error
    visible = is_visible(attenuation, echo_times, attenuation_floor)
    present = np.isfinite(signal) & (signal > 0) & np.isfinite(attenuation)
    usable = present & visible
    status = status_of_train(signal, present)
    lost = (status == Status.OK) & (usable.sum(axis=1) < MINIMUM_ECHOES)
    status[lost] = Status.GRADIENT_TOO_STRONG
    train = _Train(signal, attenuation, usable, echo_times)
    return _fit_decay(train, status, noise_groups, (noise_floor, coils), attenuation_error)


def echo_inconsistency(
    signal: ArrayLike,
    r2_star: Estimate,
    attenuation: ArrayLike = 1.0,
    disagreement: ArrayLike = 0.0,
    *,
    echo_times: ArrayLike,
) -> Estimate:
    r"""
    Measure how far the echoes are from one decay, and the sets from each other.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units.
    r2_star : Estimate
        1/s, of these echoes.
    attenuation : (V, E) or (E,) array_like
        As for :func:`fit_r2_star`.
    disagreement : (V,) array_like
        Relative difference of redundant sets, see
        :func:`bids_app.models.relaxometry.kspace_merge.merge_redundant_echoes`.
    echo_times : (E,) array_like
        s.

    Returns
    -------
    index : Estimate
        Root mean square deviation of the echoes from the decay relative to its start, with the
        disagreement of the sets added in quadrature; dimensionless. NaN where R2* is. Flagged
        MOVED where its square is above the median of all voxels, the noise, by 5 % squared.

    Notes
    -----
    .. math:: I^2 = \frac{\sum_e (S_e - S_0 F_e e^{-R TE_e})^2}{(E - 2) S_0^2} + d^2

    Noise alone gives about 1/SNR; movement, ghosts and flow more. It needs no phase.

    Examples
    --------
    >>> times = [0.01, 0.02, 0.03]
    >>> signal = predict_decay(times, [900.0], [20.0])
    >>> echo_inconsistency(signal, Estimate.of([20.0]), echo_times=times).value.round(9)
    array([0.])
    """
    signal, echo_times = check_train(signal, echo_times)
    _, square, dof = _deviation(signal, r2_star.value, attenuation, echo_times)
    index = np.sqrt(square + np.asarray(disagreement, float) ** 2)
    moved = index**2 - median_known(square) > MOVED_SHARE**2
    status = combine_status(
        without_cautions(r2_star.status),
        np.where(moved, Status.MOVED, Status.OK),
    )
    return Estimate.of(index, index**2 / (2 * dof), status)


def misfit_of_rate(
    signal: ArrayLike, r2_star: Estimate, attenuation: ArrayLike = 1.0, *, echo_times: ArrayLike
) -> FloatArray:
    r"""
    Tell what the misfit of the decay would add to the error of the rate if it were noise.

    Parameters
    ----------
    signal, r2_star, attenuation, echo_times
        As for :func:`echo_inconsistency`.

    Returns
    -------
    error : (V,) ndarray of float64
        1/s; 0 where the variance of the rate explains all, NaN where there is no rate.

    Notes
    -----
    With the residual variance :math:`s^2` and the variance of the rate,
    :math:`\sqrt{\max(s^2 (J^T J)^{-1}_{RR} - \mathrm{var}(R), 0)}`. Repeats have the same
    misfit: it is no part of the variance, and much of it cancels in a change.

    Examples
    --------
    >>> times = np.array([0.01, 0.02, 0.03, 0.04])
    >>> signal = 900 * np.exp(-20 * times[None] - 200 * times**2)
    >>> rate = fit_r2_star(signal, 1.0, echo_times=times)
    >>> misfit_of_rate(signal, rate, echo_times=times).round(2)
    array([1.27])
    """
    signal, times = check_train(signal, echo_times)
    shape, square, _ = _deviation(signal, r2_star.value, attenuation, times)
    energy, by_time, by_square = (shape**2 @ np.stack([times**0, times, times**2], axis=1)).T
    determinant = np.where(energy > 0, energy * by_square - by_time**2, np.nan)
    as_noise = square * energy / np.where(determinant > 0, determinant, np.nan)
    return np.asarray(np.sqrt(np.maximum(as_noise - r2_star.variance, 0.0)))


def _deviation(
    signal: FloatArray, rate: FloatArray, attenuation: ArrayLike, echo_times: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the decay (V, E) of unit start, the mean square deviation from it, and its freedom."""
    shape = np.exp(-rate[:, None] * echo_times) * np.asarray(attenuation, float)
    used = np.isfinite(signal) & (signal > 0) & np.isfinite(shape) & (shape > 0)
    shape, data = np.where(used, shape, 0.0), np.where(used, signal, 0.0)
    energy = np.einsum('ve,ve->v', shape, shape)
    product = np.einsum('ve,ve->v', shape, data)
    s0 = np.divide(product, energy, out=np.full(len(signal), np.nan), where=energy > 0)
    residual = np.where(used, data - s0[:, None] * shape, 0.0)
    dof = np.maximum(used.sum(axis=1) - 2.0, 1.0)
    square = np.einsum('ve,ve->v', residual, residual) / dof / np.where(s0 > 0, s0, np.nan) ** 2
    return shape, square, dof


def time_from_rate(rate: Estimate) -> Estimate:
    r"""
    Convert a relaxation rate to a relaxation time.

    Parameters
    ----------
    rate : Estimate
        R2 or R2*, 1/s.

    Returns
    -------
    time : Estimate
        T2 or T2*, s. A negative rate, which noise makes, gives a negative time, flagged NEGATIVE,
        so that the rate can be had back from it; NaN with status INVALID_INPUT where the rate
        is 0.

    Notes
    -----
    .. math:: T = 1/R, \qquad \operatorname{var}(T) = \operatorname{var}(R) / R^4

    Examples
    --------
    >>> time_from_rate(Estimate.of([1 / 0.074])).value.round(3)
    array([0.074])
    """
    nowhere = np.full(rate.value.shape, np.nan)
    value = np.divide(1.0, rate.value, out=nowhere, where=rate.value != 0)
    status = combine_status(
        rate.status,
        np.where(rate.value == 0, Status.INVALID_INPUT, Status.OK),
        np.where(value < 0, Status.NEGATIVE, Status.OK),
    )
    return Estimate.of(value, rate.variance * value**4, status, dof=rate.dof)


def check_train(signal: ArrayLike, echo_times: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both as arrays of float64 or raise."""
    signal, echo_times = np.asarray(signal, float), np.asarray(echo_times, float)
    if signal.ndim != 2 or echo_times.shape != signal.shape[1:]:
        msg = f'signal (V, E) and echo_times (E,) expected, got {signal.shape}, {echo_times.shape}'
        raise ModelInputError(msg)
    if not np.all(echo_times > 0) or not np.all(np.isfinite(echo_times)):
        msg = f'echo_times must be positive (s), got {echo_times}'
        raise ModelInputError(msg)
    if len(np.unique(echo_times)) < MINIMUM_ECHOES:
        msg = f'at least {MINIMUM_ECHOES} different echo times are needed, got {echo_times}'
        raise ModelInputError(msg)
    return signal, echo_times


def status_of_train(signal: FloatArray, present: BoolArray) -> StatusArray:
    """Find the voxels whose echoes cannot be fitted."""
    n_finite = np.isfinite(signal).sum(axis=1)
    n_present = present.sum(axis=1)
    status = np.select(
        [
            n_present >= MINIMUM_ECHOES,
            (n_present == 0) & (n_finite > 0) & ~(signal > 0).any(axis=1),
            n_finite < MINIMUM_ECHOES,
        ],
        [Status.OK, Status.NO_SIGNAL, Status.INVALID_INPUT],
        Status.TOO_FEW_SAMPLES,
    )
    return np.asarray(status, np.uint8)


def is_visible(attenuation: FloatArray, echo_times: FloatArray, floor: float) -> BoolArray:
    """Tell which echoes come before the background gradient has taken the signal."""
    order = np.argsort(echo_times)
    lowest = np.minimum.accumulate(np.nan_to_num(attenuation[:, order], nan=np.inf), axis=1)
    visible = np.empty(attenuation.shape, bool)
    visible[:, order] = lowest >= floor
    return visible


@dataclass(frozen=True, slots=True, eq=False)
class _Train:
    """Echoes of V voxels and the known factor of their decay."""

    signal: FloatArray
    factor: FloatArray
    usable: BoolArray
    echo_times: FloatArray

    def at(self, rows: BoolArray) -> _Train:
        """Only these voxels."""
        return _Train(self.signal[rows], self.factor[rows], self.usable[rows], self.echo_times)


def check_floor(noise_floor: str, coils: int) -> tuple[str, int]:
    """Return both or raise."""
    if noise_floor not in NOISE_FLOORS:
        msg = f'noise_floor must be one of {", ".join(NOISE_FLOORS)}, got {noise_floor!r}'
        raise ModelInputError(msg)
    if coils < 1:
        msg = f'coils must be 1 or more, got {coils}'
        raise ModelInputError(msg)
    return noise_floor, coils


def floor_passes(noise_floor: str, coils: int) -> int:
    """Tell how often a fit is repeated with the floor: the noise is known better each time."""
    if noise_floor == 'none':
        return 0
    return 1 if coils == 1 else COMBINED_PASSES


def rician_mean(
    signal: FloatArray, noise: FloatArray, coils: int = 1
) -> tuple[FloatArray, FloatArray]:
    r"""
    Give the mean of a magnitude with noise in both channels, and its derivative.

    Parameters
    ----------
    signal : (...) ndarray
        Magnitude without noise.
    noise : (...) ndarray
        Standard deviation of one channel, positive; broadcasts.
    coils : int
        Receivers combined as the root of the sum of squares.

    Returns
    -------
    mean, slope : (...) ndarray
        Mean, and its derivative by `signal`.

    Notes
    -----
    With :math:`x = S^2 / 4 \sigma^2` and :math:`I_k^e(x) = e^{-x} I_k(x)`

    .. math:: E = \sigma \sqrt{\pi/2}\,[(1 + 2x) I_0^e(x) + 2x I_1^e(x)]

    for one coil; for n of them, whose mean square is :math:`S^2 + 2n\sigma^2` and whose variance
    is near :math:`\sigma^2`, :math:`E = \sqrt{S^2 + (2n - 1)\sigma^2}`.

    Examples
    --------
    >>> mean, slope = rician_mean(np.array([0.0, 10.0]), np.array(1.0))
    >>> mean.round(3), slope.round(3)
    (array([ 1.253, 10.05 ]), array([0.   , 0.995]))
    """
    if coils > 1:
        mean = np.sqrt(signal**2 + (2 * coils - 1) * noise**2)
        return np.asarray(mean), np.asarray(signal / mean)
    ratio = signal / noise
    x = ratio**2 / 4
    zeroth, first = special.i0e(x), special.i1e(x)
    root = np.sqrt(np.pi / 2)
    mean = noise * root * ((1 + 2 * x) * zeroth + 2 * x * first)
    return np.asarray(mean), np.asarray(root / 2 * ratio * (zeroth + first))


def with_noise_floor(
    predict: Callable[..., tuple[FloatArray, FloatArray]], coils: int = 1
) -> Callable[..., tuple[FloatArray, FloatArray]]:
    """Turn a prediction of the signal into one of its noisy magnitude; noise (V, 1) goes last."""

    def predict_magnitude(
        parameters: FloatArray, *auxiliary: NDArray[np.generic]
    ) -> tuple[FloatArray, FloatArray]:
        signal, jacobian = predict(parameters, *auxiliary[:-1])
        noise = np.asarray(auxiliary[-1], float)
        mean, slope = rician_mean(np.maximum(signal, 0.0), noise, coils)
        return mean, jacobian * slope[:, :, None]

    return predict_magnitude


def near_floor(
    prediction: FloatArray, usable: BoolArray, noise: FloatArray, coils: int = 1
) -> BoolArray:
    """Tell in which voxels the weakest echo is so near the noise that its floor counts."""
    weakest = np.min(prediction, axis=1, where=usable, initial=np.inf)
    limit = SIGNAL_NEAR_FLOOR * np.sqrt((2 * coils - 1) * noise)
    near: BoolArray = (noise > 0) & (weakest < limit)
    return near


def flag_fit(value: FloatArray, fit: FitResult, usual: FloatArray) -> StatusArray:
    """Give the cautions that belong to a rate by the usual residual: negative, misfit, fluid."""
    limit = stats.chi2.isf(MISFIT_PROBABILITY, np.maximum(fit.dof, 1)) / np.maximum(fit.dof, 1)
    # rounding is no noise: a train without any fits to machine precision, never worse by chance
    misfit = fit.residual_variance > np.maximum(
        limit * usual, (ROUNDING * fit.parameters[:, 0]) ** 2
    )
    flags = np.select(
        [value < 0, misfit, value < 1 / FLUID_TIME],
        [Status.NEGATIVE, Status.INCONSISTENT_ECHOES, Status.FLUID],
        Status.OK,
    )
    return np.asarray(flags, np.uint8)


def _fit_decay(
    train: _Train,
    status: StatusArray,
    noise_groups: ArrayLike | None,
    floor: tuple[str, int],
    factor_error: FloatArray | None = None,
) -> Estimate:
    """Fit S0 * factor * exp(-rate TE) to the usable echoes of the voxels with status OK."""
    noise_floor, coils = check_floor(*floor)
    usable = train.usable & (status == Status.OK)[:, None]
    train = _Train(train.signal, train.factor, usable, train.echo_times)
    start = start_decay(train.signal, train.factor, usable, train.echo_times)
    fit = _solve(train, start)
    noise, _ = pool_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    for _ in range(floor_passes(noise_floor, coils)):
        prediction = train.factor * predict_decay(train.echo_times, *fit.parameters.T)
        near = near_floor(prediction, usable, noise, coils)
        if near.any():
            deviation = np.sqrt(noise[near, None])
            again = _solve(train.at(near), fit.parameters[near], deviation, coils)
            fit = replace_rows(fit, near, again)
            noise, _ = pool_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    rate = fit.parameters[:, 1]
    own, dof = moderate_variance(fit.noise_variance, fit.noise_dof, noise_groups)
    variance = fit.covariance[:, 1, 1] * own
    usual, _ = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    flags = flag_fit(rate, fit, usual)
    if factor_error is not None and np.any(factor_error):
        systematic = _shift_of_rate(train, fit, factor_error) ** 2
        uncertain = np.sqrt(systematic) > UNCERTAIN_GRADIENT
        flags = combine_status(np.where(uncertain, Status.GRADIENT_UNCERTAIN, Status.OK), flags)
        variance = variance + systematic
    return Estimate.of(rate, variance, combine_status(status, fit.status, flags), dof=dof)


def _solve(
    train: _Train, start: FloatArray, noise: FloatArray | None = None, coils: int = 1
) -> FitResult:
    """Fit the decay, with the noise floor of a noise (V, 1) where one is given."""
    times = train.echo_times
    lower = np.array([0.0, -STRONGEST_GROWTH / times.max()])
    upper = np.array([np.inf, STRONGEST_DECAY / times.min()])
    auxiliary: list[FloatArray] = []
    if not np.all(train.factor == 1):
        auxiliary.append(np.where(train.usable, train.factor, 1.0))

    def predict(
        parameters: FloatArray, factor: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        jacobian = np.empty((2, len(parameters), len(times)))
        np.exp(-parameters[:, 1:] * times, out=jacobian[0])
        if factor is not None:
            jacobian[0] *= factor
        prediction = parameters[:, :1] * jacobian[0]
        np.multiply(-times, prediction, out=jacobian[1])
        return prediction, np.moveaxis(jacobian, 0, 2)

    if noise is not None:
        auxiliary.append(noise)
    return fit_least_squares(
        predict if noise is None else with_noise_floor(predict, coils),
        train.signal,
        start,
        lower=lower,
        upper=upper,
        weights=train.usable.astype(float),
        auxiliary=auxiliary,
        misfit=shapes_of_misfit(times),
    )


def shapes_of_misfit(echo_times: FloatArray) -> Callable[[FloatArray], FloatArray]:
    r"""
    Give the shapes by which the echoes of a voxel depart from a decay alike in every repeat.

    Parameters
    ----------
    echo_times : (E,) ndarray
        s.

    Returns
    -------
    shapes : callable
        Of a prediction (V, E), for :func:`bids_app.models.numerics.fitting.fit_least_squares`.

    Notes
    -----
    Several compartments, gradients and vessels bend the logarithm of the decay, stimulated echoes
    and the polarity of the readout alternate, and the first echo lacks what later ones have: the
    prediction times :math:`TE^2`, :math:`(-1)^e`, the first echo, :math:`TE^3`, in this order.
    """
    order = np.argsort(np.argsort(echo_times))
    scaled = echo_times / echo_times.max()
    factors = np.stack([scaled**2, (-1.0) ** order, order == 0, scaled * scaled**2], axis=1)

    def shapes(prediction: FloatArray) -> FloatArray:
        return np.asarray(prediction[:, :, np.newaxis] * factors)

    return shapes


def replace_rows(fit: FitResult, rows: BoolArray, new: FitResult) -> FitResult:
    """Put the fit of some voxels in the place of an earlier one."""
    parts = {}
    for item in dataclasses.fields(FitResult):
        old = getattr(fit, item.name).copy()
        old[rows] = getattr(new, item.name)
        parts[item.name] = old
    return FitResult(**parts)


def _shift_of_rate(train: _Train, fit: FitResult, factor_error: FloatArray) -> FloatArray:
    """Give the change of the rate that an error of the factor makes, to first order."""
    s0, rate = fit.parameters.T
    decay = predict_decay(train.echo_times, np.ones(len(rate)), rate) * train.usable
    columns = (decay * train.factor, -train.echo_times * s0[:, None] * decay * train.factor)
    error = s0[:, None] * decay * np.where(train.usable, factor_error, 0.0)
    projected = np.stack([np.einsum('ve,ve->v', column, error) for column in columns], axis=1)
    return np.asarray(np.einsum('vq,vq->v', fit.covariance[:, 1], projected))


def start_decay(
    signal: FloatArray, factor: FloatArray, usable: BoolArray, echo_times: FloatArray
) -> FloatArray:
    """Fit a straight line to log(signal / factor) with weights signal squared."""
    start = np.empty((len(signal), 2))
    varies = not np.all(factor == 1)
    powers = np.stack([np.ones(len(echo_times)), echo_times, echo_times**2], axis=1)
    for first in range(0, len(signal), MAX_CHUNK):
        rows = slice(first, first + MAX_CHUNK)
        used = usable[rows] & (factor[rows] > 0) if varies else usable[rows]
        data = np.where(used, signal[rows], 1.0)
        weight = data * data
        weight *= used
        if varies:
            data /= np.where(used, factor[rows], 1.0)
        log_signal = np.log(data, out=data)
        total, by_time, by_square = (weight @ powers).T
        log_signal *= weight
        of_log, of_both = (log_signal @ powers[:, :2]).T
        total[total == 0] = 1.0
        spread = by_square - by_time**2 / total
        single = spread <= SMALLEST_SPREAD * by_square
        spread[single] = 1.0
        slope = (of_both - by_time * of_log / total) / spread
        slope[single] = -STRONGEST_DECAY / echo_times.min()  # one echo has all the signal
        start[rows, 0] = np.exp((of_log - slope * by_time) / total)
        start[rows, 1] = -slope
    return start


def median_known(value: FloatArray) -> float:
    """Return the median of what is known; infinite where nothing is, so that it limits nothing."""
    known = value[np.isfinite(value)]
    return float(np.median(known)) if known.size else np.inf
