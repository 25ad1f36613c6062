"""Transverse relaxation rates from multi-echo trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.fitting import fit_least_squares
from bids_app.models.noise import pool_variance
from bids_app.models.status import Status, combine_status, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, StatusArray

DEPHASING_FLOOR = 0.2
"""Signal fraction left by a background gradient, below which an echo says little; no unit."""

MINIMUM_ECHOES = 3
"""Two parameters and one degree of freedom for the noise."""

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

    See Also
    --------
    fit_r2, fit_r2_star : The inverse.

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
    signal: ArrayLike, *, echo_times: ArrayLike, noise_groups: ArrayLike | None = None
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
        Voxels with equal noise, see :func:`bids_app.models.noise.pool_variance`.

    Returns
    -------
    r2 : Estimate
        1/s. A negative rate is kept and flagged NEGATIVE. NaN with status INVALID_INPUT,
        NO_SIGNAL, TOO_FEW_SAMPLES (fewer than 3 echoes), NOT_CONVERGED or AT_BOUND.

    Raises
    ------
    ModelInputError
        If shapes do not fit or the echo times are not usable.

    See Also
    --------
    predict_decay : The inverse.
    time_from_rate : T2 of R2.

    Notes
    -----
    Unweighted least squares in signal space, where the noise of a magnitude image well above
    its floor is equal in all echoes, from the log-linear fit with weights S^2 as start. The
    noise of the residuals is pooled over voxels before it enters the variance.

    References
    ----------
    .. [1] Hirsch et al., NMR Biomed 27:853, 2014 (the use in multi-parametric quantitative
       BOLD). doi:10.1002/nbm.3131

    Examples
    --------
    >>> echo_times = [0.016, 0.032, 0.048, 0.064]
    >>> fit_r2(predict_decay(echo_times, [1000.0], [13.5]), echo_times=echo_times).value.round(6)
    array([13.5])
    """
    signal, echo_times = _check_train(signal, echo_times)
    usable = np.isfinite(signal) & (signal > 0)
    status = _status_of_train(signal, usable)
    return _fit_decay(
        signal,
        np.ones(signal.shape),
        usable,
        status,
        echo_times=echo_times,
        noise_groups=noise_groups,
    )


def fit_r2_star(
    signal: ArrayLike,
    dephasing: ArrayLike,
    *,
    echo_times: ArrayLike,
    noise_groups: ArrayLike | None = None,
    dephasing_floor: float = DEPHASING_FLOOR,
) -> Estimate:
    r"""
    Estimate R2* from a train of gradient echoes in a known background gradient.

    Parameters
    ----------
    signal : (V, E) array_like
        Magnitude, scanner units. Echoes that are not finite or not positive are not used.
    dephasing : (V, E) or (E,) array_like
        Signal fraction that the background gradient leaves, in [0, 1]; 1 without a gradient.
    echo_times : (E,) array_like
        s; at least 3 different ones, positive, in any order.
    noise_groups : (V,) array_like of int, optional
        Voxels with equal noise, see :func:`bids_app.models.noise.pool_variance`.
    dephasing_floor : float
        Echoes from the first on whose `dephasing` lies below this are not used, also where
        `dephasing` rises again beyond its first zero.

    Returns
    -------
    r2_star : Estimate
        1/s, without the contribution of the background gradient. A negative rate is kept and
        flagged NEGATIVE. NaN with status GRADIENT_TOO_STRONG where the floor leaves fewer than
        3 echoes, else as for :func:`fit_r2`.

    Raises
    ------
    ModelInputError
        If shapes do not fit, the echo times are not usable or the floor is not in [0, 1).

    See Also
    --------
    bids_app.models.phase.dephasing_factor : Makes `dephasing`.

    Notes
    -----
    The fraction F multiplies the model, not the data, so that noise stays equal in all echoes:

    .. math:: S(TE) = S_0\,F(TE)\,\exp(-R_2^*\,TE)

    References
    ----------
    .. [1] Hirsch & Preibisch, AJNR Am J Neuroradiol 34:E65, 2013. doi:10.3174/ajnr.A3021

    Examples
    --------
    >>> echo_times = [0.01, 0.02, 0.03]
    >>> signal = predict_decay(echo_times, [900.0], [20.0]) * [0.9, 0.8, 0.7]
    >>> fit_r2_star(signal, [0.9, 0.8, 0.7], echo_times=echo_times).value.round(6)
    array([20.])
    """
    signal, echo_times = _check_train(signal, echo_times)
    if not 0 <= dephasing_floor < 1:
        msg = f'dephasing_floor must lie in [0, 1), got {dephasing_floor}'
        raise ModelInputError(msg)
    try:
        dephasing = np.broadcast_to(np.asarray(dephasing, float), signal.shape)
    except ValueError as error:
        msg = f'dephasing {np.shape(dephasing)} must have the shape of signal {signal.shape}'
        raise ModelInputError(msg) from error
    visible = _is_visible(dephasing, echo_times, dephasing_floor)
    present = np.isfinite(signal) & (signal > 0) & np.isfinite(dephasing)
    usable = present & visible
    status = _status_of_train(signal, present)
    lost = (status == Status.OK) & (usable.sum(axis=1) < MINIMUM_ECHOES)
    status[lost] = Status.GRADIENT_TOO_STRONG
    return _fit_decay(
        signal, dephasing, usable, status, echo_times=echo_times, noise_groups=noise_groups
    )


def estimate_r2_prime(r2_star: Estimate, r2: Estimate) -> Estimate:
    """
    Estimate the reversible relaxation rate R2'.

    Parameters
    ----------
    r2_star : Estimate
        1/s.
    r2 : Estimate
        1/s; on the same voxels.

    Returns
    -------
    r2_prime : Estimate
        1/s. Negative values are kept and flagged NEGATIVE; NaN where either rate is missing.
        The errors of the two are taken as independent; degrees of freedom are the smaller.

    See Also
    --------
    fit_r2, fit_r2_star : The two rates.

    Notes
    -----
    .. math:: R_2' = R_2^* - R_2

    Examples
    --------
    >>> estimate_r2_prime(Estimate.of([18.3], 0.04), Estimate.of([13.5], 0.05)).value.round(1)
    array([4.8])
    """
    value = r2_star.value - r2.value
    status = combine_status(
        _without_flags(r2_star.status), _without_flags(r2.status), _flag_negative(value)
    )
    return Estimate.of(value, r2_star.variance + r2.variance, status, dof=min(r2_star.dof, r2.dof))


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
        T2 or T2*, s; NaN with status INVALID_INPUT where the rate is not positive.

    Notes
    -----
    .. math:: T = 1/R, \qquad \operatorname{var}(T) = \operatorname{var}(R) / R^4

    Examples
    --------
    >>> time_from_rate(Estimate.of([1 / 0.074])).value.round(3)
    array([0.074])
    """
    positive = rate.value > 0
    value = np.divide(1.0, rate.value, out=np.full(rate.value.shape, np.nan), where=positive)
    undefined = ~positive & ~is_missing(rate.status)
    status = np.where(undefined, Status.INVALID_INPUT, rate.status)
    return Estimate.of(value, rate.variance * value**4, status, dof=rate.dof)


def _check_train(signal: ArrayLike, echo_times: ArrayLike) -> tuple[FloatArray, FloatArray]:
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


def _status_of_train(signal: FloatArray, present: BoolArray) -> StatusArray:
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


def _is_visible(dephasing: FloatArray, echo_times: FloatArray, floor: float) -> BoolArray:
    """Tell which echoes come before the background gradient has taken the signal."""
    order = np.argsort(echo_times)
    lowest = np.minimum.accumulate(np.nan_to_num(dephasing[:, order], nan=np.inf), axis=1)
    visible = np.empty(dephasing.shape, bool)
    visible[:, order] = lowest >= floor
    return visible


def _fit_decay(
    signal: FloatArray,
    factor: FloatArray,
    usable: BoolArray,
    status: StatusArray,
    *,
    echo_times: FloatArray,
    noise_groups: ArrayLike | None,
) -> Estimate:
    """Fit S0 * factor * exp(-rate TE) to the usable echoes of the voxels with status OK."""
    usable = usable & (status == Status.OK)[:, None]
    lower = np.array([0.0, -STRONGEST_GROWTH / echo_times.max()])
    upper = np.array([np.inf, STRONGEST_DECAY / echo_times.min()])

    def predict(
        parameters: FloatArray, factor: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        jacobian = np.empty((2, len(parameters), len(echo_times)))
        np.exp(-parameters[:, 1:] * echo_times, out=jacobian[0])
        if factor is not None:
            jacobian[0] *= factor
        prediction = parameters[:, :1] * jacobian[0]
        np.multiply(-echo_times, prediction, out=jacobian[1])
        return prediction, np.moveaxis(jacobian, 0, 2)

    varying = not np.all(factor == 1)
    fit = fit_least_squares(
        predict,
        signal,
        _start_decay(signal, factor, usable, echo_times),
        lower=lower,
        upper=upper,
        weights=usable.astype(float),
        auxiliary=(np.where(usable, factor, 1.0),) if varying else (),
    )
    noise, dof = pool_variance(fit.residual_variance, fit.dof, noise_groups)
    status = combine_status(status, fit.status, _flag_negative(fit.parameters[:, 1]))
    return Estimate.of(fit.parameters[:, 1], fit.covariance[:, 1, 1] * noise, status, dof=dof)


def _start_decay(
    signal: FloatArray, factor: FloatArray, usable: BoolArray, echo_times: FloatArray
) -> FloatArray:
    """Fit a straight line to log(signal / factor) with weights signal squared."""
    usable = usable & (factor > 0)
    peak = np.max(signal, axis=1, where=usable, initial=0.0)
    peak[peak == 0] = 1.0
    weight = np.where(usable, signal / peak[:, None], 0.0) ** 2
    ratio = np.divide(signal, factor * peak[:, None], out=np.ones(signal.shape), where=usable)
    log_signal = np.log(ratio)
    total = weight.sum(axis=1)
    total[total == 0] = 1.0
    mean_time = weight @ echo_times / total
    mean_log = np.einsum('ve,ve->v', weight, log_signal) / total
    time = echo_times - mean_time[:, None]
    spread = np.einsum('ve,ve->v', weight, time**2)
    slope = np.einsum('ve,ve,ve->v', weight, time, log_signal)
    slope = np.divide(slope, spread, out=np.zeros(len(slope)), where=spread > 0)
    s0 = peak * np.exp(mean_log - slope * mean_time)
    return np.stack([s0, -slope], axis=1)


def _flag_negative(value: FloatArray) -> StatusArray:
    """Return NEGATIVE where the value is below 0."""
    return np.asarray(np.where(value < 0, Status.NEGATIVE, Status.OK), np.uint8)


def _without_flags(status: StatusArray) -> StatusArray:
    """Keep only the codes of missing values."""
    return np.asarray(np.where(is_missing(status), status, Status.OK), np.uint8)
