"""Forward physics of every scan: pure functions of arrays, with constants of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter
from scipy.special import j0
from scipy.stats import gamma

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

GYROMAGNETIC_RATIO = 267.52219e6
"""Proton, rad/s/T (CODATA, rounded as in science notes of mqBOLD)."""

CYCLES_PER_TESLA = GYROMAGNETIC_RATIO / (2 * math.pi)
"""Proton, Hz/T."""

SUSCEPTIBILITY = 0.264e-6
"""Deoxygenated minus oxygenated blood per unit haematocrit, cgs (Spees 2001)."""

SMALL_VESSEL_HCT = 0.85
"""Haematocrit of small vessels relative to large ones (Eichling 1975)."""

HAEMOGLOBIN_PER_HCT = 33.4
"""g/dL of haemoglobin at haematocrit 1."""

OXYGEN_PER_HAEMOGLOBIN = 55.6
"""umol of oxygen per g."""

T1_BLOOD = 1.65
"""s at 3 T (Alsop 2015)."""

PARTITION = 0.9
"""Blood-brain partition coefficient, mL/g (Alsop 2015)."""

INVERSION = 0.85
"""Labeling efficiency of PCASL without background suppression (Alsop 2015)."""

KEPT_PER_PULSE = 0.93
"""Labelled signal kept by one background suppression pulse (Garcia 2005)."""


N_MIDPOINTS, N_PHASES, PHASE_RANGE = 2000, 1500, 30.0
"""Of the table of :func:`vessel_dephasing`."""


def static_dephasing_constant(*, b0: float, hct: float) -> float:
    r"""
    Give R2' per unit of OEF x CBV of a random vessel network.

    Parameters
    ----------
    b0 : float
        Main field, T.
    hct : float
        Large-vessel haematocrit, fraction.

    Returns
    -------
    rate : float
        1/s; :math:`\frac43\pi\gamma B_0\Delta\chi\,0.85\,Hct`.

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> round(static_dephasing_constant(b0=3.0, hct=0.42), 1)
    316.8
    """
    return 4 / 3 * math.pi * GYROMAGNETIC_RATIO * b0 * SUSCEPTIBILITY * SMALL_VESSEL_HCT * hct


def oxygen_content(*, hct: float, sao2: float) -> float:
    """
    Give the arterial oxygen content.

    umol/mL, from haematocrit and saturation as fractions.

    Examples
    --------
    >>> round(oxygen_content(hct=0.42, sao2=0.98), 5)
    7.64358
    """
    return HAEMOGLOBIN_PER_HCT / 100 * hct * OXYGEN_PER_HAEMOGLOBIN * sao2


def decay(echo_times: ArrayLike, rate: FloatArray) -> FloatArray:
    """
    Give exp(-TE rate) on a new last axis.

    Echo times (E,) in s, rates (...) in 1/s: (..., E), dimensionless.
    """
    return np.asarray(np.exp(-np.multiply.outer(rate, np.asarray(echo_times, float))))


def vessel_dephasing(phase: ArrayLike) -> FloatArray:
    r"""
    Give the attenuation per unit blood volume of a random vessel network, static dephasing.

    Parameters
    ----------
    phase : (...) array_like
        R2' over blood volume, times the displacement of the spin echo.

    Returns
    -------
    exponent : (...) ndarray
        By the rule of midpoints on a table.

    References
    ----------
    .. [1] Yablonskiy & Haacke, Magn Reson Med 32:749, 1994. doi:10.1002/mrm.1910320610

    Examples
    --------
    >>> vessel_dephasing([0.1, 20.0]).round(1)
    array([ 0., 19.])
    """
    ends = np.linspace(0, 1, N_MIDPOINTS + 1)
    u = (ends[1:] + ends[:-1]) / 2
    weight = (2 + u) * np.sqrt(1 - u) / (3 * u**2) / u.size
    table = np.linspace(0, PHASE_RANGE, N_PHASES)
    values = np.array([weight @ (1 - j0(1.5 * x * u)) for x in table])
    x = np.abs(np.asarray(phase, float))
    inside = np.minimum(x, PHASE_RANGE)
    return np.interp(inside, table, values) + (x - inside)


def labelled_magnetisation(
    cbf: ArrayLike,
    *,
    arrival_time: ArrayLike,
    label_duration: float,
    post_label_delay: ArrayLike,
    efficiency: float,
    t1_blood: float | None = None,
) -> FloatArray:
    r"""
    Predict the label-control difference of (P)CASL per unit of equilibrium tissue signal.

    Parameters
    ----------
    cbf : (...) array_like
        mL/100 g/min.
    arrival_time : (...) array_like
        Arterial transit time, s.
    label_duration : float
        s.
    post_label_delay : (...) array_like
        From the end of labeling to the readout of the slice, s.
    efficiency : float
        All losses of inversion, dimensionless.
    t1_blood : float, optional
        Of arterial blood, s; default that at rest.

    Returns
    -------
    difference : (...) ndarray
        :math:`\Delta M / M_0`, dimensionless; zero before arrival.

    Notes
    -----
    Kinetic model with the label decaying by the T1 of blood from the labeling plane on. It enters
    the voxel at the arrival time and stays:

    .. math:: \frac{\Delta M}{M_0} = \frac{2\alpha f}{\lambda}
        \int_{\max(0, t-\tau)}^{t} e^{-u/T_1}\,[u \ge \delta]\, du,\qquad t = \tau + PLD

    References
    ----------
    .. [1] Buxton et al., Magn Reson Med 40:383, 1998. doi:10.1002/mrm.1910400308
    """
    flow = np.asarray(cbf, float) / 6000
    delay = np.asarray(post_label_delay, float)
    first = np.maximum(delay, arrival_time)  # age of the youngest label that is there
    last = np.maximum(delay + label_duration, first)
    t1 = T1_BLOOD if t1_blood is None else t1_blood
    aged = t1 * (np.exp(-first / t1) - np.exp(-last / t1))
    return np.asarray(2 * efficiency * flow / PARTITION * aged)


def white_paper_cbf(
    difference: FloatArray,
    equilibrium: FloatArray,
    *,
    label_duration: float,
    post_label_delay: ArrayLike,
    efficiency: float,
) -> FloatArray:
    """
    Turn noise-free signals into CBF by the closed form of the consensus paper.

    Parameters
    ----------
    difference, equilibrium : (...) ndarray
        Control minus label, and equilibrium signal, same unit.
    label_duration : float
        s.
    post_label_delay : (...) array_like
        s.
    efficiency : float
        Dimensionless.

    Returns
    -------
    cbf : (...) ndarray
        mL/100 g/min; NaN where the equilibrium signal is not positive.

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015. doi:10.1002/mrm.25197
    """
    decay_factor = np.exp(np.asarray(post_label_delay, float) / T1_BLOOD)
    scale = 2 * efficiency * T1_BLOOD * (1 - math.exp(-label_duration / T1_BLOOD))
    with np.errstate(divide='ignore', invalid='ignore'):
        cbf = 6000 * PARTITION * difference * decay_factor / (scale * equilibrium)
    return np.where(equilibrium > 0, cbf, np.nan)


def saturation_recovery(repetition_time: float, t1: ArrayLike) -> FloatArray:
    """Give 1 - exp(-TR/T1), dimensionless; both times in s."""
    return np.asarray(1 - np.exp(-repetition_time / np.asarray(t1, float)))


def bolus(times: ArrayLike, *, arrival: float) -> tuple[FloatArray, FloatArray]:
    """
    Draw the contrast agent in blood: first pass, and first pass with recirculation.

    Parameters
    ----------
    times : (T,) array_like
        s.
    arrival : float
        s.

    Returns
    -------
    first_pass, whole : (T,) ndarray
        Concentration relative to the peak of the first pass.

    Notes
    -----
    Gamma variate of shape 3 and scale 2 s; the second pass comes 16 s later, wider and a quarter
    as high, over a slow washout of 5 %.
    """
    t = np.asarray(times, float)
    first = _gamma_variate(t - arrival, 3.0, 2.0)
    second = 0.22 * _gamma_variate(t - arrival - 14.0, 3.0, 4.0)
    washout = 0.05 * (1 - np.exp(-np.maximum(t - arrival - 8.0, 0) / 6))
    return first, first + second + washout


def _gamma_variate(t: FloatArray, shape: float, scale: float) -> FloatArray:
    """Give a gamma variate with maximum 1."""
    x = np.maximum(t, 0) / (shape * scale)
    return np.asarray(x**shape * np.exp(shape * (1 - x)))


def haemodynamic_response(
    onsets: Sequence[float], duration: float, times: ArrayLike
) -> FloatArray:
    """
    Give the response to blocks, relative to the plateau of an endless block.

    Parameters
    ----------
    onsets : sequence of float
        s.
    duration : float
        s.
    times : (T,) array_like
        s.

    Returns
    -------
    response : (T,) ndarray
        Dimensionless.

    Notes
    -----
    The impulse response is a difference of two gamma densities of its own (peak near 5.2 s,
    undershoot near 14.7 s); a block is the difference of two step responses, exactly.
    """
    t = np.asarray(times, float)
    response = np.zeros(t.shape)
    for onset in onsets:
        response += _step_response(t - onset) - _step_response(t - onset - duration)
    return response


def _step_response(t: FloatArray) -> FloatArray:
    """Answer to a block that starts at 0 and never ends, plateau 1."""
    undershoot = 0.12
    peak, late = gamma.cdf(t, 6.5, scale=0.95), gamma.cdf(t, 15.0, scale=1.05)
    return np.asarray((peak - undershoot * late) / (1 - undershoot))


def rician(
    signal: FloatArray, sigma: float, rng: np.random.Generator, coils: int = 1
) -> FloatArray:
    """
    Give the magnitude of a signal with complex Gaussian noise.

    Parameters
    ----------
    signal : (...) ndarray
        Noise-free.
    sigma : float
        SD per channel of the combined image.
    rng : numpy.random.Generator
        Where the randomness comes from.
    coils : int
        That see the signal alike, joined by the root of the sum of squares.

    Returns
    -------
    magnitude : (...) ndarray
        Unit of `signal`.
    """
    power = np.zeros(signal.shape)
    for _ in range(coils):
        real = signal / math.sqrt(coils) + rng.normal(0, sigma, signal.shape)
        power += real**2 + rng.normal(0, sigma, signal.shape) ** 2
    return np.sqrt(power)


def physiological(
    shape: tuple[int, ...], *, sigma: float, weights: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """
    Draw noise of a series as living heads make it.

    Parameters
    ----------
    shape : (4,) tuple of int
        (X, Y, Z, T).
    sigma : float
        Typical SD of a sample.
    weights : (X, Y, Z, K) ndarray
        Smooth maps of about unit variance, through which K courses reach all voxels.
    rng : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    noise : (X, Y, Z, T) ndarray of float32
        Unit of `sigma`. Half of the variance is white with heavy tails (t, 5 degrees of
        freedom), 30 % has a spectrum of 1/f in every voxel, 20 % is shared by all voxels through
        `weights`, 1/f too. The SD of a voxel is log-normal (SD of its logarithm .35).
    """
    noise = rng.standard_t(5, shape).astype(np.float32) * np.float32(math.sqrt(0.5 / (5 / 3)))
    noise += math.sqrt(0.3) * _pink(shape, rng)
    courses = _pink((weights.shape[-1], shape[-1]), rng)
    noise += math.sqrt(0.2 / weights.shape[-1]) * (weights @ courses).astype(np.float32)
    noise *= np.float32(sigma) * np.exp(0.35 * rng.standard_normal(shape[:-1]))[..., None]
    return np.asarray(noise, np.float32)


def _pink(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Noise of unit variance whose power falls as 1/f along the last axis."""
    frequency = np.fft.rfftfreq(shape[-1])
    frequency[0] = np.inf  # no constant part
    spectrum = np.fft.rfft(rng.standard_normal(shape, dtype=np.float32)) / np.sqrt(frequency)
    noise = np.fft.irfft(spectrum, shape[-1])
    return np.asarray(noise / noise.std(), np.float32)


def autoregressive(
    n_voxels: int, n_volumes: int, *, sigma: float, rho: float, rng: np.random.Generator
) -> FloatArray:
    """
    Draw stationary first-order autoregressive noise.

    Parameters
    ----------
    n_voxels, n_volumes : int
        V and T.
    sigma : float
        Standard deviation of a sample.
    rho : float
        Correlation of neighbouring volumes, in [0, 1).
    rng : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    noise : (V, T) ndarray
        Unit of `sigma`.
    """
    white = rng.standard_normal((n_voxels, n_volumes), dtype=np.float32)
    white[:, 1:] *= math.sqrt(1 - rho**2)
    return np.asarray(sigma * lfilter([1.0], [1.0, -rho], white, axis=1))


def background_field(
    position: FloatArray, *, base: float, gradient: float, length: float, dipoles: FloatArray
) -> FloatArray:
    r"""
    Give the field offset of sources below and in front of the brain.

    Parameters
    ----------
    position : (..., 3) ndarray
        Head coordinates, RAS, mm.
    base : float
        Height of the lower end of the brain, mm.
    gradient : float
        Axial gradient there, T/m.
    length : float
        It falls to 1/e over this height, mm.
    dipoles : (D, 4) ndarray
        Per source outside the brain: position (mm) and moment (T mm^3), along z.

    Returns
    -------
    field : (...) ndarray
        T.

    Notes
    -----
    The axial part is :math:`-G L\,e^{-(z-z_0)/L}` (its gradient is steep at the skull base, as
    above the sinuses, without in-plane dephasing); every source adds the field of a magnetised
    sphere :math:`m\,(2z^2 - x^2 - y^2)/r^5`.
    """
    metres = length / 1000
    field = -gradient * metres * np.exp(-(position[..., 2] - base) / length)
    for x, y, z, moment in dipoles:
        offset = position - np.array([x, y, z])
        square = offset**2
        axial = 2 * square[..., 2] - square[..., 0] - square[..., 1]
        field = field + moment * axial / square.sum(-1) ** 2.5
    return np.asarray(field)


def distort(image: FloatArray, shift: FloatArray, *, axis: int) -> FloatArray:
    r"""
    Displace an image as the field does: the forward model of the distortion.

    Parameters
    ----------
    image : (X, Y, Z) ndarray
        True signal.
    shift : (X, Y, Z) ndarray
        Voxels: where the signal of a voxel goes.
    axis : int
        Of the phase encoding.

    Returns
    -------
    distorted : (X, Y, Z) ndarray of float64
        The same signal in all, except what leaves the image.

    Notes
    -----
    Every voxel is taken as a box whose ends move to where the field takes them; its signal is
    spread over the voxels that it then covers. So signal piles up where boxes overlap.

    Examples
    --------
    >>> line = np.array([0.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1)
    >>> distort(line, np.full(line.shape, 1.5), axis=1).ravel()
    array([0. , 0. , 0.5, 0.5])
    """
    rows = np.moveaxis(np.asarray(image, float), axis, -1)
    moves = np.moveaxis(np.asarray(shift, float), axis, -1)
    n_voxels = rows.shape[-1]
    flat, moved = rows.reshape(-1, n_voxels), moves.reshape(-1, n_voxels)
    ends = np.concatenate(
        [moved[:, :1], (moved[:, 1:] + moved[:, :-1]) / 2, moved[:, -1:]], axis=1
    )
    ends = ends + np.arange(n_voxels + 1)  # in voxels from the lower end of the row
    low, high = np.minimum(ends[:, 1:], ends[:, :-1]), np.maximum(ends[:, 1:], ends[:, :-1])
    length = np.maximum(high - low, 1e-3)
    high = low + length
    spread = np.zeros_like(flat)
    for target in range(n_voxels):
        shared = np.clip(np.minimum(high, target + 1) - np.maximum(low, target), 0, None)
        spread[:, target] = np.sum(flat * shared / length, axis=1)
    return np.moveaxis(spread.reshape(rows.shape), -1, axis)
