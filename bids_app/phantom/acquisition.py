"""Scanner: protocols of the three sizes and the noise-free, voxel-averaged signal of each scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.phantom import physics, pulses
from bids_app.phantom.participant import ARRIVAL, T1

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.phantom.anatomy import Anatomy, Background, Tissue
    from bids_app.phantom.participant import Participant, RegionEffect

POINTS_PER_CHUNK = 16_000
"""Sub-voxel points that are evaluated at once; larger arrays cost more in page faults."""

PROTON_DENSITY = np.array([0.82, 0.72, 1.0, 0.25])
"""Relative, in the order of TISSUES."""

SPIN_ECHO_WEIGHT = np.array([0.80, 0.73, 0.60, 0.30])
GRADIENT_ECHO_WEIGHT = np.array([0.80, 0.73, 0.70, 0.30])
EPI_WEIGHT = np.array([0.65, 0.62, 0.40, 0.06])
"""Signal at TE = 0 by density and saturation; fat is suppressed in EPI."""

BOLUS_PEAK = 20.0 / 0.048
"""Peak change of R2* per blood volume, 1/s per mL/mL."""

REDUNDANT_SETS = {'fullres': 1.0, 'MoCoHR': 0.5, 'MoCoQR': 0.25}
"""Label of a gradient-echo set -> share of the phase-encoding lines, around the centre."""

REDUCED_DELAY = 0.001
"""By which the echoes of the reduced sets are later, s; as in the target study."""

SHIFTS, SHIFT_WEIGHTS = np.polynomial.legendre.leggauss(3)
"""By which the soft edges of a slice are averaged, -1 to 1, and their weights."""

LEAST_WEIGHT = 1e-4
"""Of a tissue in a point whose signal counts."""

TEXTURE_SHARE = 0.1
"""Part of the T1w intensity of the brain that is the template's, not that of the tissue."""

SUPPRESSION_PULSES = 4
SUPPRESSED = 0.15
"""Static tissue left by background suppression, relative to equilibrium."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A scan's voxel grid in its own scanner world."""

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    """mm"""
    centre: tuple[float, float, float]
    """World, mm."""
    points: tuple[int, int, int]
    """Sub-voxel points per axis over which a voxel averages."""
    is_radiological: bool = True
    """First axis runs to the left (LAS), as converters write it."""
    soft_edge: float = 0.0
    """Part of the thickness over which the profile of a slice falls to zero, at each side."""
    readout_decay: float | None = None
    """Exponent by which the signal falls while the lines of k-space along the second axis are
    read, 0 where each has its own excitation; None: voxels are boxes, as no scanner has them."""

    @property
    def affine(self) -> FloatArray:
        """Voxel to world (RAS mm)."""
        signs = np.array([-1.0 if self.is_radiological else 1.0, 1.0, 1.0])
        affine = np.diag([*(signs * self.zooms), 1.0])
        half = (np.array(self.shape) - 1) / 2
        affine[:3, 3] = np.array(self.centre) - affine[:3, :3] @ half
        return np.asarray(affine, float)

    @property
    def axes(self) -> list[FloatArray]:
        """Distance along each axis from the first voxel, mm."""
        lengths = zip(self.shape, self.zooms, strict=True)
        return [np.asarray(zoom * np.arange(n), float) for n, zoom in lengths]

    @property
    def fine(self) -> Geometry:
        """The grid whose voxels are the sub-voxel points in plane."""
        (nx, ny, nz), (dx, dy, dz), (px, py, pz) = self.shape, self.zooms, self.points
        return replace(
            self,
            shape=(nx * px, ny * py, nz),
            zooms=(dx / px, dy / py, dz),
            points=(1, 1, pz),
            readout_decay=None,
        )

    @property
    def offsets(self) -> FloatArray:
        """
        Voxel coordinates of the sub-voxel points relative to the centre, (S, 3).

        A slice with soft edges is the average over boxes that are shifted by up to half an edge.
        """
        axes = [(np.arange(n) + 0.5) / n - 0.5 for n in self.points]
        shifts = self.soft_edge / 2 * SHIFTS
        axes[2] = (axes[2][:, None] + shifts).ravel() if self.soft_edge else axes[2]
        grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
        return np.asarray(grid.reshape(-1, 3), float)

    @property
    def weights(self) -> FloatArray:
        """Of the sub-voxel points in the signal of the voxel, (S,); they add up to 1."""
        of_shifts = SHIFT_WEIGHTS if self.soft_edge else np.ones(1)
        weights = np.tile(of_shifts, math.prod(self.points))
        return np.asarray(weights / weights.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeling:
    """PCASL protocol."""

    geometry: Geometry
    label_duration: float = 1.8
    """s"""
    post_label_delay: float = 1.8
    """s, of the first slice."""
    slice_time: float = 0.035
    """s"""
    echo_time: float = 0.0112
    """s"""
    repetition_time: float = 4.5
    """s, of label, control and M0."""
    n_pairs: int = 39
    noise: float = 0.0021
    """SD of one image relative to the equilibrium signal of grey matter."""

    @property
    def efficiency(self) -> float:
        """Inversion times what the suppression pulses keep."""
        return physics.INVERSION * physics.KEPT_PER_PULSE**SUPPRESSION_PULSES

    @property
    def slice_delays(self) -> FloatArray:
        """Post label delay of each slice, (Z,), s."""
        delays = self.post_label_delay + self.slice_time * np.arange(self.geometry.shape[2])
        return np.asarray(delays, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiEcho:
    """MESE or MEGRE protocol."""

    geometry: Geometry
    echo_times: tuple[float, ...]
    """s"""
    repetition_time: float
    """s"""
    noise: float
    """SD per channel relative to grey matter at the first echo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsymmetricEcho:
    """ASE protocol: spin echoes displaced from the readout at one echo time."""

    geometry: Geometry
    displacements: tuple[float, ...] = tuple(round(0.004 * i, 3) for i in range(-4, 17))
    """s"""
    echo_time: float = 0.074
    """s"""
    repetition_time: float = 3.0
    """s"""
    noise: float = 0.0015
    """SD per channel relative to grey matter at the spin echo, averages included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DscScan:
    """DSC protocol."""

    geometry: Geometry
    n_volumes: int = 70
    echo_time: float = 0.030
    """s"""
    repetition_time: float = 1.5
    """s"""
    arrival: float = 21.0
    """s"""
    noise: float = 0.012
    """SD relative to grey matter before the bolus."""

    @property
    def times(self) -> FloatArray:
        """Of the volumes, s."""
        return np.asarray(self.repetition_time * np.arange(self.n_volumes), float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bold:
    """BOLD protocol."""

    geometry: Geometry
    n_volumes: int = 400
    echo_time: float = 0.030
    """s"""
    echo_times: tuple[float, ...] = (0.013, 0.030, 0.047)
    """s, where several echoes are written."""
    repetition_time: float = 1.2
    """s"""
    noise: float = 0.010
    """SD relative to grey matter."""
    autocorrelation: float = 0.35
    """Of neighbouring volumes."""
    drift: float = 0.01
    """Size of the slow drift relative to the signal."""
    motion: float = 0.12
    """Largest movement in mm, and in tenths of a degree, within the run."""

    @property
    def times(self) -> FloatArray:
        """Of the volumes, s."""
        return np.asarray(self.repetition_time * np.arange(self.n_volumes), float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """All scans of a study."""

    name: str
    spacing: float
    """Of the fine anatomy, mm."""
    t1w: Geometry
    mese: MultiEcho
    megre: MultiEcho
    asl: Labeling
    dsc: DscScan
    bold: Bold
    moves: bool = True
    """Whether the head lies differently in every scan."""
    slab: bool = False
    """Idealised slab instead of a head."""


def protocol(name: str) -> Protocol:
    """
    Give the protocol of a phantom size.

    tiny: slab of 12 x 12 x 6 voxels; coarse: whole head with coarse voxels; study: the target
    study's own.

    Raises
    ------
    ValueError
        If there is no such size.
    """
    makers = {'tiny': _tiny, 'coarse': _coarse, 'study': _study}
    if name not in makers:
        msg = f'--grid must be one of {", ".join(makers)}; got {name!r}'
        raise ValueError(msg)
    return makers[name]()


MESE_TIMES = tuple(round(0.016 * i, 3) for i in range(1, 9))
MEGRE_TIMES = tuple(round(0.005 * i, 3) for i in range(1, 13))
SLAB_CENTRE = (-32.0, -38.0, 46.0)
HEAD_CENTRE = (0.0, -18.0, 12.0)


def _tiny() -> Protocol:
    scan = Geometry(shape=(12, 12, 6), zooms=(4.0, 4.0, 6.6), centre=SLAB_CENTRE, points=(4, 4, 5))
    t1w = Geometry(
        shape=(24, 24, 20),
        zooms=(2.0, 2.0, 1.98),
        centre=SLAB_CENTRE,
        points=(2, 2, 2),
        is_radiological=False,
    )
    return Protocol(
        name='tiny',
        spacing=1.0,
        t1w=t1w,
        mese=MultiEcho(
            geometry=scan, echo_times=MESE_TIMES, repetition_time=0.250852, noise=0.008
        ),
        megre=MultiEcho(geometry=scan, echo_times=MEGRE_TIMES, repetition_time=1.91, noise=0.008),
        asl=Labeling(geometry=scan, noise=0.0012),
        dsc=DscScan(geometry=scan),
        bold=Bold(geometry=scan),
        moves=False,
        slab=True,
    )


def _coarse() -> Protocol:
    scan = Geometry(
        shape=(48, 56, 24), zooms=(4.0, 4.0, 6.6), centre=HEAD_CENTRE, points=(3, 3, 5)
    )
    asl = Geometry(shape=(44, 50, 24), zooms=(4.5, 4.5, 6.6), centre=HEAD_CENTRE, points=(3, 3, 5))
    t1w = Geometry(
        shape=(96, 116, 98),
        zooms=(2.0, 2.0, 2.0),
        centre=(-1.0, -17.0, 17.0),
        points=(1, 1, 1),
        is_radiological=False,
    )
    return Protocol(
        name='coarse',
        spacing=2.0,
        t1w=t1w,
        mese=MultiEcho(
            geometry=scan, echo_times=MESE_TIMES, repetition_time=0.250852, noise=0.010
        ),
        megre=MultiEcho(geometry=scan, echo_times=MEGRE_TIMES, repetition_time=1.91, noise=0.010),
        asl=Labeling(geometry=asl),
        dsc=DscScan(geometry=scan),
        bold=Bold(geometry=scan),
    )


def _study() -> Protocol:
    scan = Geometry(
        shape=(112, 112, 35), zooms=(2.0, 2.0, 3.3), centre=HEAD_CENTRE, points=(2, 2, 3)
    )
    asl = Geometry(
        shape=(80, 80, 20), zooms=(2.75, 2.75, 6.6), centre=HEAD_CENTRE, points=(3, 3, 6)
    )
    bold = Geometry(
        shape=(64, 64, 40), zooms=(3.0, 3.0, 3.3), centre=HEAD_CENTRE, points=(3, 3, 3)
    )
    t1w = Geometry(
        shape=(192, 232, 196),
        zooms=(1.0, 1.0, 1.0),
        centre=(-0.5, -16.5, 17.5),
        points=(1, 1, 1),
        is_radiological=False,
    )
    return Protocol(
        name='study',
        spacing=1.0,
        t1w=t1w,
        mese=MultiEcho(
            geometry=scan, echo_times=MESE_TIMES, repetition_time=0.250852, noise=1 / 60
        ),
        megre=MultiEcho(
            geometry=scan, echo_times=MEGRE_TIMES, repetition_time=2.229, noise=1 / 60
        ),
        asl=Labeling(geometry=asl, noise=0.0042),
        dsc=DscScan(geometry=scan, n_volumes=80, repetition_time=2.04, noise=0.02),
        bold=Bold(geometry=bold, noise=0.015),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A participant and the head that lies in the scanner."""

    participant: Participant
    anatomy: Anatomy


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """P sub-voxel points of a scan: tissue, and where they lie."""

    tissue: Tissue
    position: FloatArray
    """(P, 3) head coordinates, mm."""
    slice_step: FloatArray
    """(3,) extent of one point along the slice axis in head coordinates, mm."""
    slice_index: NDArray[np.int64]
    """(P,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where voxels of a scan are wanted, besides where they lie."""

    position: FloatArray
    """(X, Y, Z, 3) head coordinates of their centres, mm."""
    wanted: BoolArray
    """(X, Y, Z)"""


def centres(geometry: Geometry, to_head: FloatArray) -> FloatArray:
    """Head coordinates of the voxel centres of a scan, (X, Y, Z, 3), mm."""
    to_world = to_head @ geometry.affine
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    return np.asarray(index @ to_world[:3, :3].T + to_world[:3, 3])


def average(
    anatomy: Anatomy,
    geometry: Geometry,
    to_head: FloatArray,
    signal: Callable[[Points], NDArray[Any]],
    at: Places | None = None,
) -> NDArray[Any]:
    """
    Average a signal over the voxels of a scan.

    Parameters
    ----------
    anatomy : Anatomy
        The head.
    geometry : Geometry
        Grid and sub-voxel points.
    to_head : (4, 4) ndarray
        Scanner world to head (T1w) world; rigid.
    signal : callable
        Takes P :class:`Points`, gives (P, N), real or complex.
    at : Places, optional
        Where voxels of the size and orientation of the scan are wanted; default its own. They
        are all read out as its first slice.

    Returns
    -------
    average : (X, Y, Z, N) ndarray
        Zero where there is no head, or nothing is wanted.
    """
    if at is None and geometry.readout_decay is not None:
        return read_lines(average(anatomy, geometry.fine, to_head, signal), geometry)
    to_world = to_head @ geometry.affine
    places = centres(geometry, to_head) if at is None else at.position
    shape = places.shape[:3]
    slices = np.indices(shape)[2] if at is None else np.zeros(shape, int)
    wanted = anatomy.is_head(places.reshape(-1, 3)).reshape(shape)
    wanted &= True if at is None else at.wanted
    # the truth is the average over a box, however the slices are excited
    geometry = geometry if at is None else replace(geometry, soft_edge=0.0)
    offsets = geometry.offsets @ to_world[:3, :3].T
    step = to_world[:3, 2] / geometry.points[2]
    weights, chunk = geometry.weights, max(1, POINTS_PER_CHUNK // len(offsets))
    voxels, slice_index = places[wanted], slices[wanted]
    parts = []
    for start in range(0, len(voxels), chunk):
        part = slice(start, start + chunk)
        position = (voxels[part, None] + offsets).reshape(-1, 3)
        points = Points(
            anatomy.sample(position), position, step, np.repeat(slice_index[part], len(offsets))
        )
        values = signal(points)
        parts.append(weights @ values.reshape(-1, len(offsets), values.shape[1]))
    filled = np.concatenate(parts)
    result = np.zeros((*shape, filled.shape[1]), filled.dtype)
    result[wanted] = filled
    return result


def read_lines(fine: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """
    Keep what the k-space of a scan holds of a finer image.

    Parameters
    ----------
    fine : (X px, Y py, Z, N) ndarray
        Real or complex, at the sub-voxel points in plane.
    geometry : Geometry
        Of the scan: X, Y, px, py and the decay while its lines are read.

    Returns
    -------
    image : (X, Y, Z, N) ndarray of complex128
        Sampled at the centres of the voxels: with ringing, without signal that a gradient in
        plane has moved out of k-space, and blurred by the decay.
    """
    image = fine
    for axis, decay in ((0, 0.0), (1, geometry.readout_decay or 0.0)):
        n, factor = geometry.shape[axis], geometry.points[axis]
        line = np.fft.fftfreq(n, 1 / n)
        # from the first point of a voxel to its centre, and what is left of the signal by then
        weight = np.exp((1j * math.pi * (factor - 1) / factor - decay) * line / n) / factor
        kept = np.fft.fft(image, axis=axis).take(line.astype(int), axis=axis, mode='wrap')
        shape = [-1 if one == axis else 1 for one in range(image.ndim)]
        image = np.fft.ifft(kept * weight.reshape(shape), axis=axis)
    return image


def field_at(subject: Subject, geometry: Geometry, to_head: FloatArray) -> FloatArray:
    """Give the field at the voxel centres of a scan, (X, Y, Z), Hz, as far as in the head."""
    position = centres(geometry, to_head).reshape(-1, 3)
    field = physics.CYCLES_PER_TESLA * subject.anatomy.background.field(position)
    low, high = np.percentile(field[subject.anatomy.is_head(position)], [0.1, 99.9])
    return np.asarray(np.clip(field, low, high).reshape(geometry.shape))


def spin_echoes(
    subject: Subject,
    scan: MultiEcho,
    to_head: FloatArray,
    refocusing: float | None = None,
    at: Places | None = None,
) -> FloatArray:
    """
    Give the noise-free spin-echo train, (X, Y, Z, E).

    Parameters
    ----------
    subject : Subject
        Who is scanned.
    scan : MultiEcho
        How.
    to_head : (4, 4) ndarray
        Scanner world to head (T1w) world; rigid.
    refocusing : float, optional
        Thickness of the refocusing pulse over the slice, inf for a slab, both in a transmit field
        that changes over the head; default perfect pulses.
    at : Places, optional
        As for :func:`average`.

    Returns
    -------
    train : (X, Y, Z, E) ndarray
        Signal.
    """

    def signal(points: Points) -> FloatArray:
        rates = subject.participant.values(points.tissue, {}).r2
        weights = points.tissue.fractions * SPIN_ECHO_WEIGHT
        if refocusing is None:
            return _mixture(weights, rates, scan.echo_times)
        field = pulses.transmit_field(points.position)
        total = np.zeros((len(weights), len(scan.echo_times)))
        for k in range(weights.shape[1]):
            present = weights[:, k] > LEAST_WEIGHT
            train = pulses.echoes(rates[present, k], field[present], scan.echo_times, refocusing)
            total[present] += weights[present, k, None] * train
        return total

    return average(subject.anatomy, scan.geometry, to_head, signal, at).real


def asymmetric_spin_echoes(
    subject: Subject, scan: AsymmetricEcho, to_head: FloatArray, effects: dict[int, RegionEffect]
) -> FloatArray:
    """Give the noise-free asymmetric spin echo without background field, (X, Y, Z, N)."""
    tau = np.asarray(scan.displacements)

    def signal(points: Points) -> FloatArray:
        values = subject.participant.values(points.tissue, effects)
        weights = points.tissue.fractions * SPIN_ECHO_WEIGHT
        total = np.zeros((len(weights), tau.size))
        for k in range(weights.shape[1]):
            has_blood = values.volume[:, k] > 0
            volume = np.where(has_blood, values.volume[:, k], 1.0)
            phase = np.multiply.outer(values.r2_prime[:, k] / volume, tau)
            loss = np.where(has_blood, volume, 0.0)[:, None] * physics.vessel_dephasing(phase)
            decay = np.exp(-scan.echo_time * values.r2[:, k])
            total += (weights[:, k] * decay)[:, None] * np.exp(-loss)
        return total

    return average(subject.anatomy, scan.geometry, to_head, signal).real


def gradient_echoes(
    subject: Subject, scan: MultiEcho, to_head: FloatArray, effects: dict[int, RegionEffect]
) -> NDArray[np.complex128]:
    """
    Give the noise-free gradient-echo train, dephased by the background field.

    Complex (X, Y, Z, E), phase in the sense exp(+i 2 pi df TE); `to_head` leads from the world of
    the scanner to that of the head.
    """
    background = subject.anatomy.background
    times = np.asarray(scan.echo_times)
    decays = _decays(subject, scan, effects)

    def signal(points: Points) -> NDArray[np.complex128]:
        return np.asarray(decays(points) * _precession(points, background, times))

    return average(subject.anatomy, scan.geometry, to_head, signal)


def ideal_gradient_echoes(
    subject: Subject,
    scan: MultiEcho,
    to_head: FloatArray,
    effects: dict[int, RegionEffect],
    at: Places | None = None,
) -> FloatArray:
    """Give the noise-free gradient-echo train as it would be without the field, (X, Y, Z, E)."""
    decays = _decays(subject, scan, effects)
    return average(subject.anatomy, scan.geometry, to_head, decays, at).real


def _decays(
    subject: Subject, scan: MultiEcho, effects: dict[int, RegionEffect]
) -> Callable[[Points], FloatArray]:
    """Magnitude of gradient echoes at points, (P, E)."""

    def signal(points: Points) -> FloatArray:
        values = subject.participant.values(points.tissue, effects)
        weights = points.tissue.fractions * GRADIENT_ECHO_WEIGHT
        return _mixture(weights, values.r2 + values.r2_prime, scan.echo_times)

    return signal


def _precession(
    points: Points, background: Background, times: FloatArray
) -> NDArray[np.complex128]:
    """Phase at each point, and dephasing inside the point's share of the slice, (P, E)."""
    frequency = physics.CYCLES_PER_TESLA * background.field(points.position)
    ends = [background.field(points.position + side * points.slice_step / 2) for side in (-1, 1)]
    spread = physics.CYCLES_PER_TESLA * (ends[1] - ends[0])
    cycles = np.multiply.outer(frequency, times)
    return np.exp(2j * math.pi * cycles) * np.sinc(np.multiply.outer(spread, times))


def _mixture(
    weights: FloatArray, rates: FloatArray, echo_times: FloatArray | tuple[float, ...]
) -> FloatArray:
    """Sum of decaying tissues: weights and rates (P, 4) to signal (P, E)."""
    signal = np.zeros((len(weights), len(echo_times)))
    for k in range(weights.shape[1]):
        present = weights[:, k] > LEAST_WEIGHT
        rate = rates[present, k]
        if rate.size and np.all(rate == rate[0]):
            rate = rate[:1]  # tissue without variation: one decay serves all points
        signal[present] += weights[present, k, None] * physics.decay(echo_times, rate)
    return signal


def labeling_images(
    subject: Subject,
    scan: Labeling,
    to_head: FloatArray,
    effects: dict[int, RegionEffect],
    at: Places | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Give the noise-free label-control difference and M0 image, (X, Y, Z) each."""
    times = (scan.echo_time,)
    recovery = physics.saturation_recovery(scan.repetition_time, T1)

    def signal(points: Points) -> FloatArray:
        values = subject.participant.values(points.tissue, effects)
        weights = points.tissue.fractions * PROTON_DENSITY
        labelled = physics.labelled_magnetisation(
            values.flow,
            arrival_time=ARRIVAL,
            label_duration=scan.label_duration,
            post_label_delay=scan.slice_delays[points.slice_index][:, None],
            efficiency=scan.efficiency,
        )
        rates = values.r2 + values.r2_prime
        difference = _mixture(weights * labelled, rates, times)
        return np.concatenate([difference, _mixture(weights * recovery, rates, times)], axis=1)

    both = average(subject.anatomy, scan.geometry, to_head, signal, at).real
    return both[..., 0], both[..., 1]


def bolus_passage(
    subject: Subject,
    scan: DscScan,
    to_head: FloatArray,
    *,
    at: Places | None = None,
    recirculates: bool = True,
) -> FloatArray:
    """
    Give the noise-free DSC series.

    (X, Y, Z, T); `to_head` leads from the world of the scanner to that of the head, `at` is as for
    :func:`average`. The bolus may come back after the first pass.
    """
    first, whole = physics.bolus(scan.times, arrival=scan.arrival)
    course = whole if recirculates else first

    def signal(points: Points) -> FloatArray:
        values = subject.participant.values(points.tissue, {})
        rates = values.r2 + values.r2_prime
        weights = points.tissue.fractions * EPI_WEIGHT * np.exp(-scan.echo_time * rates)
        return _mixture(weights, BOLUS_PEAK * scan.echo_time * values.volume, course)

    return average(subject.anatomy, scan.geometry, to_head, signal, at).real


def steady_states(
    subject: Subject,
    scan: Bold,
    to_head: FloatArray,
    effects: tuple[dict[int, RegionEffect], ...],
    at: Places | None = None,
) -> FloatArray:
    """Give the noise-free BOLD image of every condition as if it lasted, (X, Y, Z, C)."""

    def signal(points: Points) -> FloatArray:
        weights = points.tissue.fractions * EPI_WEIGHT
        images = []
        for change in effects:
            values = subject.participant.values(points.tissue, change)
            images.append(_mixture(weights, values.r2 + values.r2_prime, (scan.echo_time,)))
        return np.concatenate(images, axis=1)

    return average(subject.anatomy, scan.geometry, to_head, signal, at).real


def structural(subject: Subject, geometry: Geometry) -> tuple[FloatArray, BoolArray]:
    """Give the noise-free T1w image and the brain mask on its grid, (X, Y, Z)."""
    weights = np.array([0.62, 1.0, 0.22])
    share = TEXTURE_SHARE

    def signal(points: Points) -> FloatArray:
        fractions = points.tissue.fractions[:, :3]
        texture = points.tissue.factors['texture']
        brain = fractions.sum(1)
        tissue = (1 - share) * fractions @ weights + share * brain * texture
        image = tissue + (1 - brain) * texture
        return np.stack([image, brain], axis=1)

    both = average(subject.anatomy, geometry, np.eye(4), signal).real
    return both[..., 0], both[..., 1] > 0.5


def tissue_fractions(
    subject: Subject, geometry: Geometry, to_head: FloatArray
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """
    Give the true tissue fractions of voxels and the region of most of their grey matter.

    Parameters
    ----------
    subject : Subject
        The head.
    geometry : Geometry
        Grid.
    to_head : (4, 4) ndarray
        Scanner world to head world.

    Returns
    -------
    fractions : (X, Y, Z, 3) ndarray
        Grey matter, white matter, fluid.
    region : (X, Y, Z) ndarray of uint8
        1-4 or 5 (null) where grey matter is more than half, else 0.
    """

    def signal(points: Points) -> FloatArray:
        grey = points.tissue.fractions[:, :1]
        regions = grey * (points.tissue.region[:, None] == np.arange(1, 6))
        return np.concatenate([points.tissue.fractions[:, :3], regions], axis=1)

    boxes = replace(geometry, readout_decay=None)
    both = average(subject.anatomy, boxes, to_head, signal).real
    region = np.where(both[..., 0] > 0.5, both[..., 3:].argmax(-1) + 1, 0)
    return both[..., :3], region.astype(np.uint8)


def volume_averages(
    subject: Subject, geometry: Geometry, to_head: FloatArray, effects: dict[int, RegionEffect]
) -> dict[str, FloatArray]:
    """
    Give tissue values averaged by brain volume, as no scanner measures them.

    Parameters
    ----------
    subject : Subject
        Head and blood.
    geometry : Geometry
        Grid.
    to_head : (4, 4) ndarray
        Scanner world to head world.
    effects : dict of int to RegionEffect
        Of the condition.

    Returns
    -------
    maps : dict of str to (X, Y, Z) ndarray
        R2 and R2prime (1/s), cbf (mL/100 g/min), cbv (mL/mL), oef, cmro2 (umol/100 g/min);
        NaN where there is no brain.
    """
    names = ('R2', 'R2prime', 'cbf', 'cbv', 'oef', 'cmro2')

    def signal(points: Points) -> FloatArray:
        v = subject.participant.values(points.tissue, effects)
        fractions = points.tissue.fractions[:, :3]
        metabolism = v.flow * v.extraction * subject.participant.oxygen_content
        maps = (v.r2, v.r2_prime, v.flow, v.volume, v.extraction, metabolism)
        sums = [(fractions * item[:, :3]).sum(1) for item in maps]
        return np.stack([fractions.sum(1), *sums], axis=1)

    boxes = replace(geometry, readout_decay=None)
    both = average(subject.anatomy, boxes, to_head, signal).real
    with np.errstate(divide='ignore', invalid='ignore'):
        scaled = np.where(both[..., :1] > 0.01, both[..., 1:] / both[..., :1], np.nan)
    return {name: scaled[..., i] for i, name in enumerate(names)}
