"""Streamlined quantitative BOLD: R2', blood volume and OEF from an asymmetric spin echo (ASE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import j0

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    ASE_FEWEST_LONG,
    ASE_KERNEL_NODES,
    ASE_KERNEL_PHASE,
    ASE_KERNEL_POINTS,
    ASE_KERNEL_RANGE,
    ASE_LONG,
    ASE_LOWER,
    ASE_SPIN_ECHO,
    ASE_START,
    ASE_UPPER,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_positive
from bids_app.models.numerics.fitting import FitResult, fit_least_squares
from bids_app.models.numerics.noise import moderate_variance
from bids_app.models.status import Status, combine_status, flag_negative, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray


PARAMETERS = ('s0', 'r2_prime', 'dbv')
"""Columns of the fits."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AseMaps:
    """
    What an asymmetric spin echo tells.

    Parameters
    ----------
    r2_prime : (V,) Estimate
        Reversible relaxation rate, 1/s.
    dbv : (V,) Estimate
        Deoxygenated blood volume, mL/mL.
    oef : (V,) Estimate
        Oxygen extraction fraction, 1; its variance holds the covariance of the other two.
    """

    r2_prime: Estimate
    dbv: Estimate
    oef: Estimate


def dephasing_exponent(phase: ArrayLike) -> FloatArray:
    r"""
    Compute the attenuation per unit blood volume by randomly oriented vessels.

    Parameters
    ----------
    phase : (...) array_like
        Characteristic frequency times displacement of the spin echo, rad; its sign is ignored.

    Returns
    -------
    exponent : (...) ndarray of float64
        f; the signal falls by exp(-DBV f).

    Notes
    -----
    .. math::

        f(x) = \frac13 \int_0^1 (2 + u)\sqrt{1 - u}\;\frac{1 - J_0(1.5\,x\,u)}{u^2}\,du

    which is :math:`0.3\,x^2` for small x and :math:`x - 1` for large ones. It is integrated by
    Gauss and Legendre after u = 1 - v^2, which takes the root away.

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> dephasing_exponent([0.1, 50.0]).round(4)
    array([3.00000e-03, 4.90034e+01])
    """
    x = np.abs(np.asarray(phase, float))
    nodes, weights = np.polynomial.legendre.leggauss(ASE_KERNEL_NODES)
    v = (nodes + 1) / 2
    u = 1 - v**2
    kernel = (2 + u) * v**2 * weights / u**2
    attenuation: FloatArray = (1 - j0(ASE_KERNEL_PHASE * x[..., None] * u)) @ kernel / 3
    return attenuation


def predict_ase(
    displacements: ArrayLike, s0: ArrayLike, r2_prime: ArrayLike, dbv: ArrayLike
) -> FloatArray:
    r"""
    Predict the signal of tissue in an asymmetric spin echo.

    Parameters
    ----------
    displacements : (N,) array_like
        Displacement of the spin echo tau, s.
    s0 : (V,) array_like
        Signal at no displacement, scanner units.
    r2_prime : (V,) array_like
        1/s; positive.
    dbv : (V,) array_like
        Deoxygenated blood volume, mL/mL; positive.

    Returns
    -------
    signal : (V, N) ndarray of float64
        Scanner units.

    Notes
    -----
    .. math:: S(\tau) = S_0 \exp\left[-DBV\, f(R_2'\,\tau / DBV)\right]

    Static dephasing; the signal of blood itself (below 0.2 % at long echo times with the
    fluid or blood suppressed) and diffusion are left out.

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> predict_ase([0.0, 0.03], [100.0], [4.26], [0.03]).round(1)
    array([[100. ,  90.5]])
    """
    tau = np.asarray(displacements, float)
    rate, volume = np.asarray(r2_prime, float)[:, None], np.asarray(dbv, float)[:, None]
    exponent = volume * dephasing_exponent(rate * tau / volume)
    signal: FloatArray = np.asarray(s0, float)[:, None] * np.exp(-exponent)
    return signal


def fit_ase(
    signal: ArrayLike,
    *,
    displacements: ArrayLike,
    static_dephasing_constant: float,
    method: str = 'nonlinear',
    noise_groups: IntArray | None = None,
) -> AseMaps:
    r"""
    Estimate R2', deoxygenated blood volume and OEF from an asymmetric spin echo.

    Parameters
    ----------
    signal : (V, N) array_like
        Magnitude, scanner units, all at one echo time. Samples that are not finite or not
        positive are not used.
    displacements : (N,) array_like
        Displacement of the spin echo of every sample, s; at least 4 samples, one of them at 0 and
        three of at least 15 ms.
    static_dephasing_constant : float
        1/s, see :func:`bids_app.models.oxygen.mqbold.static_dephasing_constant`; scales OEF only.
    method : {'nonlinear', 'loglinear'}
        The whole curve by least squares, or a straight line through the logarithms at long
        displacements with the distance to the spin echo as blood volume. The line is fitted
        twice: the curve still is 2 to 5 % of the blood volume off its asymptote there, which
        the second time is added.
    noise_groups : (V,) array_like of int, optional
        Voxels with equal noise.

    Returns
    -------
    maps : AseMaps
        R2' and blood volume below 0 are kept and flagged NEGATIVE (loglinear); OEF is missing
        with NO_BLOOD_VOLUME where the blood volume is not positive.

    Raises
    ------
    ModelInputError
        If the displacements do not suffice, shapes disagree or the method is unknown.

    Notes
    -----
    .. math:: OEF = \frac{R_2'}{C \cdot DBV}, \qquad
              \frac{var(OEF)}{OEF^2} = \frac{v(R_2')}{R_2'^2} + \frac{v(DBV)}{DBV^2}
              - 2 \frac{cov(R_2', DBV)}{R_2'\,DBV}

    References
    ----------
    .. [1] Stone & Blockley, NeuroImage 147:79, 2017. doi:10.1016/j.neuroimage.2016.11.057

    Examples
    --------
    >>> tau = np.arange(-0.016, 0.065, 0.008)
    >>> maps = fit_ase(
    ...     predict_ase(tau, [100.0], [4.26], [0.03]), displacements=tau,
    ...     static_dephasing_constant=355.0)
    >>> maps.oef.value.round(2)
    array([0.4])
    """
    tau, data = np.abs(np.asarray(displacements, float)), np.asarray(signal, float)
    _check(tau, data, method)
    check_positive('static_dephasing_constant (1/s)', static_dephasing_constant)
    usable = np.isfinite(data) & (data > 0)
    line, status = _fit_line(np.where(usable, data, 1.0), usable, tau)
    if method == 'loglinear':
        line, status = _refine_line(np.where(usable, data, 1.0), usable, tau, line)
    else:
        line, status = _fit_curve(np.where(usable, data, 0.0), usable, tau, (line, status))
    noise, dof = moderate_variance(line.residual_variance, line.dof, noise_groups)
    return _as_maps(line, status, (noise, dof), static_dephasing_constant)


def _as_maps(
    fit: FitResult, status: StatusArray, pooled: tuple[FloatArray, float], rate: float
) -> AseMaps:
    """Turn parameters (s0, R2', DBV) into maps; the covariance of the last two enters OEF."""
    noise, dof = pooled
    r2_prime, dbv = fit.parameters[:, 1], fit.parameters[:, 2]
    covariance = fit.covariance * noise[:, None, None]
    flags = [flag_negative(value) for value in (r2_prime, dbv)]
    volume = np.where(dbv > 0, dbv, np.nan)
    oef = r2_prime / (rate * volume)
    spread = (
        covariance[:, 1, 1]
        - 2 * rate * oef * covariance[:, 1, 2]
        + (rate * oef) ** 2 * covariance[:, 2, 2]
    ) / (rate * volume) ** 2
    bare = np.where(dbv > 0, Status.OK, Status.NO_BLOOD_VOLUME)
    return AseMaps(
        r2_prime=Estimate.of(r2_prime, covariance[:, 1, 1], combine_status(status, flags[0]), dof),
        dbv=Estimate.of(dbv, covariance[:, 2, 2], combine_status(status, flags[1]), dof),
        oef=Estimate.of(oef, spread, combine_status(status, bare, flags[0]), dof),
    )


def _refine_line(
    data: FloatArray, usable: BoolArray, tau: FloatArray, line: FitResult
) -> tuple[FitResult, StatusArray]:
    """Add what the curve still lacks of its asymptote at the first estimate, and fit again."""
    rate, volume = line.parameters[:, [1]], line.parameters[:, [2]]
    positive = (rate > 0) & (volume > 0)
    phase = np.where(positive, rate * tau / np.where(positive, volume, 1.0), 1.0)
    lacking = volume * (dephasing_exponent(phase) - (phase - 1))
    lacking = np.where(positive & (tau >= ASE_LONG), lacking, 0.0)
    return _fit_line(data * np.exp(lacking), usable, tau)


def _fit_line(
    data: FloatArray, usable: BoolArray, tau: FloatArray
) -> tuple[FitResult, StatusArray]:
    """Weighted line through the logarithms at long displacements, and the spin echo apart."""
    columns = np.zeros((tau.size, len(PARAMETERS)))
    is_long, is_echo = tau >= ASE_LONG, tau < ASE_SPIN_ECHO
    columns[:, 0] = is_long | is_echo
    columns[:, 1] = np.where(is_long, -tau, 0.0)
    columns[:, 2] = is_long
    counted = usable & (is_long | is_echo)
    weight = np.where(counted, data, 0.0) ** 2  # of a logarithm, at equal noise of the signal
    normal = np.einsum('vn,np,nq->vpq', weight, columns, columns)
    n_long = (usable & is_long).sum(axis=1)
    n_echo = (usable & is_echo).sum(axis=1)
    status = np.where((n_long < ASE_FEWEST_LONG) | (n_echo < 1), Status.TOO_FEW_SAMPLES, Status.OK)
    status = np.where(usable.any(axis=1), status, Status.NO_SIGNAL).astype(np.uint8)
    normal[is_missing(status)] = np.eye(len(PARAMETERS))
    inverse = np.linalg.inv(normal)
    log = np.where(counted, np.log(data), 0.0)
    parameters = np.einsum('vpq,vn,nq,vn->vp', inverse, weight, columns, log)
    residual = np.where(counted, log - parameters @ columns.T, 0.0)
    dof = np.maximum(counted.sum(axis=1) - float(len(PARAMETERS)), 0.0)
    squares = np.sum(weight * residual**2, axis=1)
    variance = np.divide(squares, dof, out=np.full(dof.size, np.nan), where=dof > 0)
    return FitResult(parameters, inverse, variance, dof, variance, dof, status), status


def _fit_curve(
    data: FloatArray,
    usable: BoolArray,
    tau: FloatArray,
    start: tuple[FitResult, StatusArray],
) -> tuple[FitResult, StatusArray]:
    """Least squares of the whole curve in signal space, from the line."""
    line, status = start
    grid = np.linspace(0.0, ASE_KERNEL_RANGE, ASE_KERNEL_POINTS)
    table = CubicSpline(grid, dephasing_exponent(grid))
    slope = table.derivative()

    def predict(parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        s0, rate, volume = (parameters[:, [index]] for index in range(len(PARAMETERS)))
        phase = rate * tau / volume
        near = np.minimum(phase, ASE_KERNEL_RANGE)
        beyond = phase - near
        exponent, steepness = table(near) + beyond, slope(near)
        decay = np.exp(-volume * exponent)
        signal = s0 * decay
        by_rate = -signal * steepness * tau
        by_volume = -signal * (exponent - steepness * phase)
        return signal, np.stack([decay, by_rate, by_volume], axis=-1)

    first = np.clip(np.nan_to_num(line.parameters[:, 1:]), *np.array(ASE_START).T)
    peak = np.max(data, axis=1, where=usable, initial=0.0)
    peak[peak == 0] = 1.0
    scaled = data / peak[:, None]
    fit = fit_least_squares(
        predict,
        scaled,
        np.column_stack([np.ones(peak.size), first]),
        lower=[0.0, *ASE_LOWER],
        upper=[np.inf, *ASE_UPPER],
        weights=usable.astype(float),
    )
    return fit, combine_status(status, fit.status)


def _check(tau: FloatArray, data: FloatArray, method: str) -> None:
    """Refuse an acquisition that cannot be fitted."""
    if data.ndim != 2 or tau.shape != data.shape[1:]:
        msg = f'one displacement per sample is needed, got {tau.shape} for {data.shape}'
        raise ModelInputError(msg)
    if method not in ('nonlinear', 'loglinear'):
        msg = f'method must be nonlinear or loglinear, got {method!r}'
        raise ModelInputError(msg)
    if not (np.sum(tau >= ASE_LONG) >= ASE_FEWEST_LONG and np.any(tau < ASE_SPIN_ECHO)):
        msg = (
            'the displacements (s) need one spin echo at 0 and three samples of at least '
            f'{ASE_LONG:g}, got {tau.tolist()}'
        )
        raise ModelInputError(msg)


def fit_oef(
    signal: ArrayLike,
    *,
    displacements: ArrayLike,
    static_dephasing_constant: float,
    noise_groups: IntArray | None = None,
) -> tuple[Estimate, Estimate]:
    """
    Estimate OEF and R2' from an asymmetric spin echo by the whole curve.

    Parameters
    ----------
    signal, displacements, static_dephasing_constant
        As for :func:`fit_ase`.
    noise_groups : (V,) array_like of int, optional
        Voxels with equal noise.

    Returns
    -------
    oef : (V,) Estimate
        Dimensionless; its variance holds the covariance of R2' and blood volume.
    r2_prime : (V,) Estimate
        1/s.

    Examples
    --------
    >>> tau = np.arange(0, 0.065, 0.004)
    >>> signal = predict_ase(tau, [100.0], [4.26], [0.03])
    >>> oef, r2_prime = fit_oef(
    ...     signal, displacements=tau, static_dephasing_constant=301.7)
    >>> oef.value.round(2), r2_prime.value.round(2)
    (array([0.47]), array([4.26]))
    """
    maps = fit_ase(
        signal,
        displacements=displacements,
        static_dephasing_constant=static_dephasing_constant,
        noise_groups=noise_groups,
    )
    return maps.oef, maps.r2_prime


def fit_oef_loglinear(
    signal: ArrayLike,
    *,
    displacements: ArrayLike,
    static_dephasing_constant: float,
    noise_groups: IntArray | None = None,
) -> tuple[Estimate, Estimate]:
    """
    Estimate OEF and R2' from an asymmetric spin echo by a line through the logarithms.

    Parameters
    ----------
    signal, displacements, static_dephasing_constant
        As for :func:`fit_ase`.
    noise_groups : (V,) array_like of int, optional
        Voxels with equal noise.

    Returns
    -------
    oef : (V,) Estimate
        Dimensionless; its variance holds the covariance of R2' and blood volume.
    r2_prime : (V,) Estimate
        1/s.
    """
    maps = fit_ase(
        signal,
        displacements=displacements,
        static_dephasing_constant=static_dephasing_constant,
        method='loglinear',
        noise_groups=noise_groups,
    )
    return maps.oef, maps.r2_prime


def fit_dbv(
    signal: ArrayLike, *, displacements: ArrayLike, noise_groups: IntArray | None = None
) -> Estimate:
    """
    Estimate the deoxygenated blood volume from an asymmetric spin echo.

    Parameters
    ----------
    signal, displacements
        As for :func:`fit_ase`.
    noise_groups : (V,) array_like of int, optional
        Voxels with equal noise.

    Returns
    -------
    dbv : (V,) Estimate
        mL/mL. It needs no constant: only OEF depends on field and haematocrit.
    """
    return fit_ase(
        signal,
        displacements=displacements,
        static_dephasing_constant=1.0,
        noise_groups=noise_groups,
    ).dbv
