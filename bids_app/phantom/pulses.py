"""Pulses of a spin-echo train that turn less than asked for: spins turned one by one."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.interpolate import RectBivariateSpline

if TYPE_CHECKING:
    from bids_app._typing import FloatArray

    Spins = tuple[FloatArray, FloatArray, FloatArray]

T1 = 1.2
"""Of all tissue within a train, s."""

STEPS = 64
"""Hard pulses that a shaped pulse is made of."""

SLICE = np.linspace(-2.5, 2.5, 101)
"""Places across a slice of thickness 1."""

CRUSHED = 2 * np.pi * (np.arange(32) + 0.5) / 32
"""Phases that the crushers spread the spins over, rad."""

FIELDS = np.linspace(0.7, 1.3, 13)
KEPT = np.linspace(0.3, 1.0, 12)
"""Nodes of the table: transmit field, and what T2 leaves after one echo spacing."""

MIDDLE, LOSS, RIPPLE = 1.15, 0.35, 0.03
"""Transmit field in the middle of the head, what it loses 90 mm away, its ripple."""


class Pulse(NamedTuple):
    """A sinc in a window."""

    time_bandwidth: float = 4.0
    hamming: float = 0.46
    """Half of what the window falls by; 0.5 is Hann."""


HAMMING_SINC = Pulse()


def transmit_field(position: FloatArray) -> FloatArray:
    """Give the transmit field (P,), 1 as asked for, at head coordinates (P, 3) in mm."""
    away = np.linalg.norm(position - np.array([0.0, -18.0, 12.0]), axis=1) / 90
    ripple = RIPPLE * np.sin(position[:, 1] / 25) * np.cos(position[:, 0] / 30)
    return np.asarray(np.clip(MIDDLE - LOSS * away**2 + ripple, FIELDS[0], FIELDS[-1]))


def echoes(
    rate: FloatArray, field: FloatArray, echo_times: tuple[float, ...], thickness: float
) -> FloatArray:
    """
    Give the train of slices whose refocusing pulse is some times as thick as the slice.

    Parameters
    ----------
    rate : (P,) ndarray
        R2, 1/s.
    field : (P,) ndarray
        Transmit field relative to the nominal one.
    echo_times : tuple of E float
        s; multiples of the first.
    thickness : float
        Of the refocusing slice relative to the excited one; inf for a slab, in which every spin is
        turned by the same angle.

    Returns
    -------
    train : (P, E) ndarray
        1 at time 0 for a slice that pulses cut as a box.
    """
    spacing = echo_times[0]
    kept = np.exp(-rate * spacing)
    splines = _splines(spacing, len(echo_times), thickness)
    parts = [kept ** (i + 1) * spline.ev(kept, field) for i, spline in enumerate(splines)]
    return np.stack(parts, axis=-1)


@lru_cache(maxsize=4)
def _splines(spacing: float, n_echoes: int, thickness: float) -> list[RectBivariateSpline]:
    """Every echo over that of perfect pulses, as a function of what T2 leaves and the field."""
    rates = -np.log(KEPT) / spacing
    trains = np.array(
        [[turn(rate, b1, spacing, n_echoes, thickness) for b1 in FIELDS] for rate in rates]
    )
    perfect = KEPT[:, None] ** np.arange(1, n_echoes + 1)
    return [
        RectBivariateSpline(KEPT, FIELDS, echo)
        for echo in (trains / perfect[:, None]).T.swapaxes(1, 2)
    ]


def turn(
    rate: float,
    field: float,
    spacing: float,
    n_echoes: int,
    thickness: float,
    *,
    pulse: Pulse = HAMMING_SINC,
) -> FloatArray:
    """
    Turn the spins of one slice through a train with the phases of Carr, Purcell, Meiboom and Gill.

    Parameters
    ----------
    rate : float
        R2, 1/s.
    field : float
        Transmit field relative to the nominal one.
    spacing : float
        Of the echoes, s.
    n_echoes : int
        How many.
    thickness : float
        Of the refocusing slice relative to the excited one; inf: a slab.
    pulse : Pulse
        Shape of both pulses.

    Returns
    -------
    train : (E,) ndarray
        Relative to a slice of thickness 1 at time 0.
    """
    is_slab = math.isinf(thickness)
    places = (np.zeros(1) if is_slab else SLICE)[:, None] * np.ones(CRUSHED.size)
    width = 1.0 if is_slab else SLICE[-1] - SLICE[0]
    spins = np.zeros_like(places), np.zeros_like(places), np.ones_like(places)
    x, y, z = _apply(pulse, spins, angle=np.pi / 2 * field, places=places, axis='y')
    x, y = _rotate(x, y, -np.pi * pulse.time_bandwidth * places)
    kept, untouched = math.exp(-rate * spacing / 2), math.exp(-spacing / 2 / T1)
    train = []
    for _ in range(n_echoes):
        x, y = _rotate(x * kept, y * kept, CRUSHED)
        spins = x, y, z * untouched
        x, y, z = _apply(pulse, spins, angle=np.pi * field, places=places / thickness, axis='x')
        x, y = _rotate(x, y, CRUSHED)
        x, y, z = x * kept, y * kept, z * untouched
        train.append(width * math.hypot(x.mean(), y.mean()))
    return np.array(train)


def _rotate(
    first: FloatArray, second: FloatArray, angle: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Turn two components of the magnetisation by an angle, rad."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * first - sine * second, sine * first + cosine * second


def _apply(pulse: Pulse, spins: Spins, *, angle: float, places: FloatArray, axis: str) -> Spins:
    """Turn spins by a pulse, in short hard ones within the gradient of the slice."""
    x, y, z = spins
    time = (np.arange(STEPS) + 0.5) / STEPS - 0.5
    window = 1 - pulse.hamming + pulse.hamming * np.cos(2 * np.pi * time)
    shape = np.sinc(pulse.time_bandwidth * time) * window
    half_step = np.pi * pulse.time_bandwidth * places / STEPS
    for part in angle * shape / shape.sum():
        x, y = _rotate(x, y, half_step)
        if axis == 'x':
            y, z = _rotate(y, z, part)
        else:
            z, x = _rotate(z, x, part)
        x, y = _rotate(x, y, half_step)
    return x, y, z
