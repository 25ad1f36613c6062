"""From noise-free signals to what the scanner writes: noise, drift, movement, integers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from bids_app.phantom import physics
from bids_app.phantom.acquisition import (
    EPI_WEIGHT,
    GRADIENT_ECHO_WEIGHT,
    PROTON_DENSITY,
    SPIN_ECHO_WEIGHT,
    SUPPRESSED,
)
from bids_app.phantom.anatomy import smooth_field
from bids_app.phantom.participant import BLOOD_VOLUME, EXTRACTION, T1, T2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bids_app._typing import FloatArray
    from bids_app.phantom.acquisition import (
        AsymmetricEcho,
        Bold,
        DscScan,
        Geometry,
        Labeling,
        MultiEcho,
    )

N_SHARED = 4
"""Courses of physiological noise that all voxels share."""

GAIN = 2000.0
"""Stored value of grey matter."""

R2_STAR_GREY = float(1 / T2[0] + 317.0 * EXTRACTION[0] * BLOOD_VOLUME[0])
"""Typical grey matter, 1/s; only scales noise and stored values."""


def to_integers(signal: FloatArray, grey: float) -> NDArray[np.int16]:
    """Store signals as 16-bit integers with grey matter at GAIN."""
    return np.clip(np.rint(signal * (GAIN / grey)), -32768, 32767).astype(np.int16)


def grey_signal(weights: FloatArray, echo_time: float, rate: float) -> float:
    """Typical signal of grey matter at an echo time (s), given its rate (1/s)."""
    return float(weights[0]) * math.exp(-echo_time * rate)


def measure_spin_echoes(
    train: FloatArray, scan: MultiEcho, rng: np.random.Generator, coils: int = 1
) -> NDArray[np.int16]:
    """Magnitude of a spin-echo train (X, Y, Z, E) with noise, from some coils."""
    grey = grey_signal(SPIN_ECHO_WEIGHT, scan.echo_times[0], 1 / float(T2[0]))
    return to_integers(physics.rician(train, scan.noise * grey, rng, coils), grey)


def measure_asymmetric_echoes(
    series: FloatArray, scan: AsymmetricEcho, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Magnitude of an asymmetric spin echo (X, Y, Z, N) with noise."""
    grey = grey_signal(SPIN_ECHO_WEIGHT, scan.echo_time, 1 / float(T2[0]))
    return physics.rician(series / grey, scan.noise, rng).astype(np.float32)


def measure_gradient_echoes(
    train: NDArray[np.complex128],
    scan: MultiEcho,
    rng: np.random.Generator,
    coils: int = 1,
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """
    Magnitude and phase (rad) of a gradient-echo train (X, Y, Z, E) with noise.

    The phase carries that of the receive coil, equal for all echoes and smooth in space. With
    several coils the magnitude is the root of their sum of squares, the phase that of one image.
    """
    grey = grey_signal(GRADIENT_ECHO_WEIGHT, scan.echo_times[0], R2_STAR_GREY)
    x, y, _, _ = np.indices(train.shape, sparse=True)
    coil = 0.8 + 1.5 * x / train.shape[0] - 1.0 * y / train.shape[1]
    noise = rng.normal(0, scan.noise * grey, (2, *train.shape))
    noisy = train * np.exp(1j * coil) + noise[0] + 1j * noise[1]
    magnitude = np.abs(noisy)
    if coils > 1:
        magnitude = physics.rician(np.abs(train), scan.noise * grey, rng, coils)
    return to_integers(magnitude, grey), np.angle(noisy).astype(np.float32)


def measure_lines(
    train: NDArray[np.complex128],
    scan: MultiEcho,
    n_lines: int,
    rng: np.random.Generator,
    *,
    axis: int = 1,
) -> dict[str, NDArray[np.int16]]:
    """
    Magnitude, real and imaginary part of a gradient-echo train read with fewer lines.

    Parameters
    ----------
    train : (X, Y, Z, E) ndarray of complex
        Noise-free.
    scan : MultiEcho
        Protocol.
    n_lines : int
        Phase-encoding lines around the centre; the others are zero.
    rng : numpy.random.Generator
        Where the randomness comes from.
    axis : int
        Of the phase encoding.

    Returns
    -------
    parts : dict of str to (X, Y, Z, E) ndarray of int16
        ``mag``, ``real`` and ``imag``.
    """
    grey = grey_signal(GRADIENT_ECHO_WEIGHT, scan.echo_times[0], R2_STAR_GREY)
    x, y, _, _ = np.indices(train.shape, sparse=True)
    coil = 0.8 + 1.5 * x / train.shape[0] - 1.0 * y / train.shape[1]
    noise = rng.normal(0, scan.noise * grey, (2, *train.shape))
    noisy = train * np.exp(1j * coil) + noise[0] + 1j * noise[1]
    lines = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(noisy, axes=axis), axis=axis), axes=axis)
    first = train.shape[axis] // 2 - n_lines // 2
    along = np.moveaxis(lines, axis, 0)
    along[:first] = 0
    along[first + n_lines :] = 0
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(lines, axes=axis), axis=axis), axes=axis)
    parts = {'mag': np.abs(image), 'real': image.real, 'imag': image.imag}
    return {name: to_integers(part, grey) for name, part in parts.items()}


def measure_labeling(
    difference: FloatArray,
    m0: FloatArray,
    scan: Labeling,
    rng: np.random.Generator,
    *,
    is_physiological: bool = False,
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """
    Label-control series and M0 image with noise.

    Parameters
    ----------
    difference, m0 : (X, Y, Z) ndarray
        Noise-free.
    scan : Labeling
        Protocol.
    rng : numpy.random.Generator
        Where the randomness comes from.
    is_physiological : bool
        Noise of a living head in place of white noise.

    Returns
    -------
    series : (X, Y, Z, 2 pairs) ndarray of int16
        Control first.
    m0_image : (X, Y, Z) ndarray of int16
        Same scale.
    """
    grey = float(PROTON_DENSITY[0] * physics.saturation_recovery(scan.repetition_time, T1[0]))
    grey *= math.exp(-scan.echo_time * R2_STAR_GREY)
    static = SUPPRESSED * m0
    pair = np.stack([static, static - difference], axis=-1)
    series = np.tile(pair, (1, 1, 1, scan.n_pairs))
    # M0 is stored near 8000: the difference of a few per mille must survive the rounding
    scale = grey / 4
    sigma = scan.noise * grey
    if is_physiological:
        noisy = np.abs(series + living_noise(series.shape, sigma, scan.geometry, rng))
    else:
        noisy = physics.rician(series, sigma, rng)
    return (
        to_integers(noisy, scale),
        to_integers(physics.rician(m0, sigma, rng), scale),
    )


def living_noise(
    shape: tuple[int, ...], sigma: float, geometry: Geometry, rng: np.random.Generator
) -> FloatArray:
    """Noise of a series (X, Y, Z, T) as :func:`physics.physiological` makes it."""
    fields = [smooth_field(rng, geometry.axes, length=60.0) for _ in range(N_SHARED)]
    weights = np.stack(fields, axis=-1)
    return physics.physiological(shape, sigma=sigma, weights=weights, rng=rng)


def measure_bolus(
    series: FloatArray,
    scan: DscScan,
    rng: np.random.Generator,
    *,
    is_physiological: bool = False,
) -> NDArray[np.int16]:
    """Magnitude of a DSC series (X, Y, Z, T) with white or physiological noise."""
    grey = grey_signal(EPI_WEIGHT, scan.echo_time, R2_STAR_GREY)
    if is_physiological:
        noise = living_noise(series.shape, scan.noise * grey, scan.geometry, rng)
        return to_integers(np.abs(series + noise), grey)
    return to_integers(physics.rician(series, scan.noise * grey, rng), grey)


def motion_course(scan: Bold, rng: np.random.Generator) -> FloatArray:
    """
    Draw the slow movement of the head within a run.

    Parameters
    ----------
    scan : Bold
        Protocol.
    rng : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    motion : (T, 6) ndarray
        Shifts (mm) and turns (degrees) about the centre of the field of view; zero at the start.
    """
    course = np.cumsum(rng.standard_normal((scan.n_volumes, 6)), axis=0)
    course = gaussian_filter1d(course, 5.0, axis=0)
    course -= course[0]
    course *= scan.motion / np.abs(course).max(axis=0)
    course[:, 3:] *= 0.6
    return np.asarray(course)


def measure_bold(
    states: FloatArray,
    responses: FloatArray,
    motion: FloatArray,
    scan: Bold,
    rng: np.random.Generator,
    *,
    drift: tuple[FloatArray, FloatArray] | None = None,
    is_physiological: bool = False,
) -> NDArray[np.int16]:
    """
    Task series with drift, movement and autocorrelated noise.

    Parameters
    ----------
    states : (X, Y, Z, C) ndarray
        Steady state of the baseline, then of every task.
    responses : (C - 1, T) ndarray
        Course of every task relative to its plateau.
    motion : (T, 6) ndarray
        Shifts (mm) and turns (degrees).
    scan : Bold
        Protocol; noise and stored values are relative to grey matter at its echo time, whichever
        echo the states are of.
    rng : numpy.random.Generator
        Where the randomness comes from.
    drift : tuple, optional
        Of :func:`drift_course`, where echoes share it; drawn otherwise.
    is_physiological : bool
        Noise of a living head in place of that of first order.

    Returns
    -------
    series : (X, Y, Z, T) ndarray of int16
        Magnitude.

    Notes
    -----
    Movement is the first-order change of the image by the shift of each voxel, good for the
    tenths of a millimetre that are drawn.
    """
    grey = grey_signal(EPI_WEIGHT, scan.echo_time, R2_STAR_GREY)
    baseline = states[..., 0]
    change = states[..., 1:] - states[..., :1]
    drift = drift_course(scan, rng) if drift is None else drift
    sensitivity = _motion_sensitivity(baseline, scan.geometry)
    living = None
    if is_physiological:
        shape = (*baseline.shape, scan.n_volumes)
        living = living_noise(shape, scan.noise * grey, scan.geometry, rng)
    series = np.empty((*baseline.shape, scan.n_volumes), np.int16)
    for z in range(baseline.shape[2]):
        slow = scan.drift * (drift[0][..., z, :] @ drift[1])
        course = baseline[..., z, None] * (1 + slow)
        course += change[..., z, :] @ responses + sensitivity[..., z, :] @ motion.T
        if living is None:
            noise = physics.autoregressive(
                baseline[..., z].size,
                scan.n_volumes,
                sigma=scan.noise * grey,
                rho=scan.autocorrelation,
                rng=rng,
            ).reshape(course.shape)
        else:
            noise = living[..., z, :]
        series[..., z, :] = to_integers(np.abs(course + noise), grey)
    return series


def drift_course(scan: Bold, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw a slow drift: smooth weights in space (X, Y, Z, 3) of slow courses (3, T)."""
    weights = [smooth_field(rng, scan.geometry.axes, length=60.0) / 2 for _ in range(3)]
    phase = (np.arange(scan.n_volumes) + 0.5) / scan.n_volumes
    courses = [np.cos(math.pi * k * phase) / k for k in (1, 2, 3)]
    return np.stack(weights, axis=-1), np.array(courses)


def _motion_sensitivity(image: FloatArray, geometry: Geometry) -> FloatArray:
    """Change of an image (X, Y, Z) per mm and per degree of movement, (X, Y, Z, 6)."""
    affine = geometry.affine
    slopes = np.gradient(image)
    # world slope along each axis: the affine is diagonal
    world = np.stack([slopes[i] / affine[i, i] for i in range(3)], axis=-1)
    grids = np.indices(image.shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    arm = grids.reshape(*image.shape, 3) - np.array(geometry.centre)
    turns = np.cross(arm, world) * math.pi / 180
    return np.asarray(-np.concatenate([world, turns], axis=-1))


def measure_structural(
    image: FloatArray, geometry: Geometry, rng: np.random.Generator
) -> NDArray[np.int16]:
    """T1w image (X, Y, Z) with receive bias and noise."""
    bias = np.exp(0.10 * smooth_field(rng, geometry.axes, length=80.0))
    return to_integers(physics.rician(image * bias, 0.02, rng), 1.0)
