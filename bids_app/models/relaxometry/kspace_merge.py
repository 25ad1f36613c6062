"""Merge repeated acquisitions of the centre of k-space, so that movement in one set drops out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.numerics.resampling import resample_series
from bids_app.models.preprocessing.realignment import (
    HEAD_RADIUS,
    estimate_rigid_motion,
    mask_centre,
    motion_matrices,
)
from bids_app.models.relaxometry.background_field import field_map_from_echoes
from bids_app.models.relaxometry.decay import start_decay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray, IntArray

    ComplexArray: TypeAlias = NDArray[np.complex128]

FASTEST_DECAY = 200.0
"""R2* above which the estimate that carries a set to other echo times is noise, 1/s."""

PASSES = 3
"""The decay of each voxel is known the better the better the lines are weighted; it settles."""

VOXELS_PER_SLICE = 800
"""Voxels, evenly spread over the mask, that the weights of a slice are found from: ten per
unknown weight of a 112 matrix; more cost time and change nothing."""

TRIMMINGS = 8
"""Steps from the median of the lines to the half of them that agrees best; it settles."""

MOVED_LINE = 20.0
"""Square of shift and phase of a line over their errors (two degrees of freedom) from which it
counts as moved: by noise alone once in 20 000 lines."""

REALIGNMENTS = 12
"""Steps in which lines without repetition are turned back."""

LARGEST_TURN = 0.5
"""Of the phase of a line in one step, rad; its slope along the line takes half of it. Beyond, the
first order that a step is computed from fails."""

SMALLEST_MOVE = 0.25
"""Of the smallest side of a voxel; below, interpolation does more harm than movement; ours."""

SMALLEST_RIDGE = 1e-9
"""Keeps weights of empty lines solvable, relative to the largest curvature; no unit."""


@dataclass(frozen=True, slots=True, eq=False)
class EchoSet:
    r"""
    One acquisition of a multi-echo gradient echo.

    Parameters
    ----------
    echoes : (X, Y, Z, E) ndarray of complex
        Images, zero-filled to the matrix of the full set; the phase in the sense
        :math:`\exp(+i 2\pi f\,TE)`.
    echo_times : (E,) tuple of float
        s.
    n_lines : int
        Phase-encoding lines acquired around the centre of k-space.
    """

    echoes: ComplexArray
    echo_times: tuple[float, ...]
    n_lines: int


@dataclass(frozen=True, slots=True, eq=False)
class MergedEchoes:
    """
    What a merge gives.

    Parameters
    ----------
    echoes : (X, Y, Z, E) ndarray of complex
        At the echo times of the full set.
    disagreement : (X, Y, Z) ndarray of float
        Root mean square difference of the sets, at the resolution of the coarsest, relative to
        their signal; 0 outside the mask.
    weights : (S, L, Z) ndarray of float
        Of each set in each line and slice; they add to 1 over the sets.
    """

    echoes: ComplexArray
    disagreement: FloatArray
    weights: FloatArray


def merge_redundant_echoes(
    sets: Sequence[EchoSet], mask: BoolArray, *, line_axis: int = 1
) -> MergedEchoes:
    r"""
    Merge a full acquisition with repetitions of its central lines.

    Parameters
    ----------
    sets : sequence of EchoSet
        The full one first; slices on the third axis, or on the first two where `line_axis` is 2.
    mask : (X, Y, Z) ndarray of bool
        Voxels with signal.
    line_axis : int
        Axis of the phase encoding.

    Returns
    -------
    merged : MergedEchoes
        At the echo times of the full set.

    Raises
    ------
    ModelInputError
        If shapes differ, the echo numbers differ, or a set has more lines than the full one.

    Notes
    -----
    1. A set of other echo times is carried to those of the full one, voxel by voxel, by
       :math:`\exp[-(R_2^* - i 2\pi f)\,\delta]` with its own :math:`R_2^*` and the field of the
       full set, and by a gain, a phase and a frequency per slice, from the half of its lines
       that agrees best with the full set (the other half may have been read during movement).
    2. Every line that several sets have becomes a combination of them with weights that add to
       1. A line is read once for all echoes of an excitation, so it has one weight per set and
       slice. The weights are those with which the trains of all voxels of the slice deviate least
       from a complex exponential: with Q the projection away from
       :math:`e^{-\rho TE}` and :math:`TE\,e^{-\rho TE}` of a voxel, linear least squares

       .. math:: \min_w \sum_v \Big| Q_v \Big[ S_v^{full} + \sum_{l,s} w_{ls}\,
                 e^{2\pi i l y / L} (K_{ls} - K_{l}^{full}) \Big] \Big|^2 ,

       repeated with the rates :math:`\rho_v` of the result. Movement breaks the exponential,
       because ghosts bring in the signal of voxels with another rate and frequency. Where the
       sets agree, the weights are those with the least noise.
    3. A line that the full set alone has cannot be replaced. Movement of the head turns its
       phase, by a constant and a slope along the line (translation); both are fitted for all
       such lines by the same criterion. Where they are beyond noise the line is turned back
       step by step, then scaled down, at most, to what the exponentials support; else it stays.

    The published method approaches a target image of the voxels whose train correlates best
    with an exponential; asking for the exponential itself needs no target and in the simulation
    of the tests leaves half the error.

    Movement between the sets is the matter of :func:`align_sets`; it shows in `disagreement`.

    References
    ----------
    .. [1] Magerkurth et al., Magn Reson Med 66:989, 2011. doi:10.1002/mrm.22878
    .. [2] Noeth et al., NeuroImage 92:106, 2014 (two reduced sets).
       doi:10.1016/j.neuroimage.2014.01.050
    """
    full = sets[0]
    _check(sets, mask, line_axis)
    if len(sets) == 1:
        shape = (1, full.echoes.shape[line_axis], mask.shape[2])
        return MergedEchoes(full.echoes, np.zeros(mask.shape), np.ones(shape))
    times = np.asarray(full.echo_times)
    images = [np.moveaxis(full.echoes, line_axis, 0)]
    inside = np.moveaxis(mask, line_axis, 0)
    field = _field(full, mask, line_axis)
    images += [_carry(item, full, field, inside, line_axis) for item in sets[1:]]
    spectra = np.stack([_to_lines(image) for image in images])
    n_total = spectra.shape[1]
    counts = [item.n_lines for item in sets]
    counts[0] = n_total

    weights = np.zeros((len(sets), n_total, spectra.shape[3]))
    available = np.stack([_central(n_total, count) for count in counts])
    merged = np.empty_like(spectra[0])
    single = np.flatnonzero(~available[1:].any(axis=0))
    for z in range(spectra.shape[3]):
        part = _Slice.of(inside[:, :, z], times)
        weights[:, :, z] = _line_weights(spectra[:, :, :, z], available, part)
        joined = np.einsum('sl,slxe->lxe', weights[:, :, z], spectra[:, :, :, z])
        mend = single.size and part.rows.size
        merged[:, :, z] = _turn_back(joined, single, part) if mend else joined
    centre = _central(n_total, min(counts))
    disagreement = _disagreement(spectra, merged, centre, inside)
    return MergedEchoes(
        np.moveaxis(_to_image(merged), 0, line_axis),
        np.moveaxis(disagreement, 0, line_axis),
        weights,
    )


def align_sets(
    sets: Sequence[EchoSet], mask: BoolArray, affine: ArrayLike, *, line_axis: int = 1
) -> tuple[list[EchoSet], FloatArray]:
    """
    Undo movement of the head between the sets.

    Parameters
    ----------
    sets : sequence of EchoSet
        As for :func:`merge_redundant_echoes`.
    mask : (X, Y, Z) ndarray of bool
        Brain, at the place of the full set.
    affine : (4, 4) array_like
        Voxel indices to world coordinates, mm, RAS.
    line_axis : int
        Axis of the phase encoding.

    Returns
    -------
    aligned : list of EchoSet
        At the place of the full set. A set stays as it is where it moved by less than a quarter
        of a voxel, or where the magnitudes do not come closer.
    displacement : (S,) ndarray
        By which each set was brought back, mm: length of the shift plus arcs of 50 mm; 0 where it
        stayed.

    Raises
    ------
    ModelInputError
        As :func:`merge_redundant_echoes`, or if the mask is too small to show movement.

    Notes
    -----
    The position is that of the magnitude at the resolution of the coarsest set, so that all sets
    look alike. The complex echoes are interpolated by cubic splines.
    """
    _check(sets, mask, line_axis)
    displacement = np.zeros(len(sets))
    affine = np.asarray(affine, float)
    coarse = np.stack([_coarse_magnitude(item, sets, line_axis) for item in sets], axis=-1)
    motion = estimate_rigid_motion(coarse, mask, affine)
    matrices = motion_matrices(motion, mask_centre(mask, affine))
    to_set = matrices @ np.linalg.inv(matrices[0])
    shifts, turns = np.split(motion - motion[0], 2, axis=1)
    size = np.linalg.norm(shifts, axis=1) + HEAD_RADIUS * np.linalg.norm(turns, axis=1)
    smallest = SMALLEST_MOVE * np.linalg.norm(affine[:3, :3], axis=0).min()
    aligned = list(sets)
    for index in np.flatnonzero(size > smallest):
        item, n_echoes = sets[index], sets[index].echoes.shape[3]
        back = [to_set[index]] * n_echoes
        parts = [
            np.nan_to_num(resample_series(part, back, affine))
            for part in (item.echoes.real, item.echoes.imag)
        ]
        moved = replace(item, echoes=parts[0] + 1j * parts[1])
        after = _coarse_magnitude(moved, sets, line_axis)
        if _distance(after, coarse[..., 0], mask) < _distance(
            coarse[..., index], coarse[..., 0], mask
        ):
            aligned[index], displacement[index] = moved, size[index]
    return aligned, displacement


def _coarse_magnitude(item: EchoSet, sets: Sequence[EchoSet], line_axis: int) -> FloatArray:
    """Give the magnitude over all echoes at the resolution of the coarsest set."""
    lines = _to_lines(np.moveaxis(item.echoes, line_axis, 0))
    lines[~_central(len(lines), min(one.n_lines for one in sets))] = 0
    power = (np.abs(_to_image(lines)) ** 2).sum(axis=-1)
    return np.asarray(np.moveaxis(np.sqrt(power), 0, line_axis))


def _distance(one: FloatArray, other: FloatArray, mask: BoolArray) -> float:
    """Tell how different two images are, whatever their scale."""
    return float(1 - np.corrcoef(one[mask], other[mask])[0, 1])


def _check(sets: Sequence[EchoSet], mask: BoolArray, line_axis: int) -> None:
    """Raise if the sets do not belong together."""
    if line_axis not in {0, 1}:
        msg = f'line_axis must be 0 or 1 (slices are on the third axis), got {line_axis}'
        raise ModelInputError(msg)
    shape = sets[0].echoes.shape
    for item in sets:
        if item.echoes.shape != shape or len(item.echo_times) != shape[3]:
            msg = f'sets must have the shape {shape} of the full one, got {item.echoes.shape}'
            raise ModelInputError(msg)
        if not 0 < item.n_lines <= shape[line_axis]:
            msg = f'n_lines must lie in 1 to {shape[line_axis]}, got {item.n_lines}'
            raise ModelInputError(msg)
    if mask.shape != shape[:3]:
        msg = f'mask {mask.shape} must have the shape {shape[:3]} of the images'
        raise ModelInputError(msg)


def _field(full: EchoSet, mask: BoolArray, line_axis: int) -> FloatArray:
    """Give the field of the full set with the phase-encoding axis first, Hz; 0 outside."""
    estimate = field_map_from_echoes(
        np.abs(full.echoes), np.angle(full.echoes), mask, echo_times=full.echo_times
    )
    return np.moveaxis(np.nan_to_num(estimate.value), line_axis, 0)


def _carry(
    item: EchoSet, full: EchoSet, field: FloatArray, mask: BoolArray, line_axis: int
) -> ComplexArray:
    """Carry a set to the echo times, gain and phase of the full one, line axis first."""
    echoes = np.moveaxis(item.echoes, line_axis, 0)
    times = np.asarray(item.echo_times)
    delay = np.asarray(full.echo_times) - times
    magnitude = np.abs(echoes[mask])
    start = start_decay(magnitude, np.ones(magnitude.shape), magnitude > 0, times)
    rate = np.zeros(mask.shape)
    rate[mask] = np.clip(start[:, 1], 0, FASTEST_DECAY)
    exponent = (2j * np.pi * field - rate)[..., None] * delay
    carried = echoes * np.exp(exponent)
    n_total = len(echoes)
    centre = _central(n_total, item.n_lines)
    spectrum = _to_lines(carried)
    spectrum[~centre] = 0
    reference = _to_lines(np.moveaxis(full.echoes, line_axis, 0))[centre]
    factor = np.stack(
        [
            _gain_and_drift(
                spectrum[centre, :, z], reference[:, :, z], np.asarray(full.echo_times)
            )
            for z in range(mask.shape[2])
        ]
    )
    return _to_image(spectrum * factor[None, None])


def _gain_and_drift(own: ComplexArray, reference: ComplexArray, times: FloatArray) -> ComplexArray:
    """
    Fit the factor (E,) that turns lines (L, X, E) of a slice into those of the reference.

    One gain for all echoes, one phase and one frequency: a gain per echo would hand the decay of
    a reference that moved to the set that did not.
    """
    products = np.einsum('lxe,lxe->le', own.conj(), reference)
    power = np.einsum('lxe,lxe->le', own.conj(), own).real
    energy = np.einsum('lxe,lxe->l', reference.conj(), reference).real
    factor: ComplexArray = np.ones(len(times), complex)
    if not energy.any():
        return factor
    ratios = np.divide(products, power, out=np.ones_like(products), where=power > 0)
    factor = np.median(ratios.real, axis=0) + 1j * np.median(ratios.imag, axis=0)
    for _ in range(TRIMMINGS):
        left = energy - 2 * (products @ factor.conj()).real + power @ np.abs(factor) ** 2
        left = np.divide(left, energy, out=np.full(len(left), np.inf), where=energy > 0)
        kept = left <= np.median(left)  # the half that movement touched least
        of_echo = products[kept].sum(axis=0)
        wave = np.exp(1j * _frequency(of_echo[None], times)[0] * times)
        factor = wave * (of_echo @ wave.conj()) / power[kept].sum()
    return np.asarray(factor)


def _central(n_total: int, count: int) -> BoolArray:
    """Tell which lines belong to the central `count`, in the order of `_to_lines`."""
    centre = n_total // 2
    lines: BoolArray = np.zeros(n_total, bool)
    lines[centre - count // 2 : centre - count // 2 + count] = True
    return lines


def _to_lines(image: ComplexArray) -> ComplexArray:
    """Transform the first axis to lines, the centre in the middle."""
    shifted = np.fft.ifftshift(image, axes=0)
    return np.asarray(np.fft.fftshift(np.fft.fft(shifted, axis=0, norm='ortho'), axes=0))


def _to_image(lines: ComplexArray) -> ComplexArray:
    """Invert `_to_lines`."""
    shifted = np.fft.ifftshift(lines, axes=0)
    return np.asarray(np.fft.fftshift(np.fft.ifft(shifted, axis=0, norm='ortho'), axes=0))


def _line_weights(spectra: ComplexArray, available: BoolArray, part: _Slice) -> FloatArray:
    """Give the weights (S, L) of one slice's lines (S, L, X, E); `available` is (S, L)."""
    weights = available / available.sum(axis=0)
    unknown = np.argwhere(available[1:])
    if not unknown.size or not part.rows.size:
        return np.where(np.arange(len(weights))[:, None] == 0, 1.0, 0.0)
    first = part.trains(spectra[0])
    steps = np.stack([spectra[s + 1, line] - spectra[0, line] for s, line in unknown])
    basis = part.basis(unknown[:, 1], steps)
    for _ in range(PASSES):
        merged = part.trains(np.einsum('sl,slxe->lxe', weights, spectra))
        tangent = _tangent(merged, part.times)
        projected = _without(basis, tangent).reshape(len(basis), -1)
        left = _without(first, tangent).ravel()
        curvature = (projected.conj() @ projected.T).real
        gradient = -(projected.conj() @ left).real
        ridge = SMALLEST_RIDGE * np.trace(curvature) / len(basis) + np.finfo(float).tiny
        start = weights[1:][tuple(unknown.T)]
        curvature[np.diag_indices(len(basis))] += ridge
        share = np.linalg.solve(curvature, gradient + ridge * start)
        weights[1:][tuple(unknown.T)] = share
        weights[0] = 1 - weights[1:].sum(axis=0)
    return np.asarray(weights)


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """What the criterion of the merge needs to know of a slice: sampled voxels and echo times."""

    wave: ComplexArray
    """(V, L), of each line in each voxel."""

    columns: IntArray
    """(V,)."""

    rows: IntArray
    """(V,)."""

    times: FloatArray

    @classmethod
    def of(cls, mask: BoolArray, times: FloatArray) -> _Slice:
        """Sample at most `VOXELS_PER_SLICE` voxels evenly."""
        rows, columns = np.nonzero(mask)
        count = min(len(rows), VOXELS_PER_SLICE)
        spread = np.linspace(0, max(len(rows) - 1, 0), count).astype(int)
        rows, columns = rows[spread], columns[spread]
        return cls(_to_image(np.eye(len(mask), dtype=complex))[rows], columns, rows, times)

    def trains(self, spectrum: ComplexArray) -> ComplexArray:
        """Give the trains (V, E) of lines (L, X, E)."""
        return _to_image(spectrum)[self.rows, self.columns]

    def basis(self, lines: IntArray, parts: ComplexArray) -> ComplexArray:
        """Give what the given lines alone (N, X, E) put into the trains, (N, V, E)."""
        return np.asarray(self.wave.T[lines, :, None] * parts[:, self.columns])


def _turn_back(spectrum: ComplexArray, single: IntArray, part: _Slice) -> ComplexArray:
    """Undo movement in the lines of a slice (L, X, E) that have no repetition."""
    n_columns = spectrum.shape[1]
    along = 2 * np.pi * np.fft.fftshift(np.fft.fftfreq(n_columns))
    ramp: ComplexArray = np.multiply(1j, along[:, None], dtype=complex)
    moved = np.zeros(len(single), bool)
    spectrum = spectrum.copy()

    def slopes(lines: IntArray) -> tuple[ComplexArray, ComplexArray]:
        """Give what a turn of the phase, and one of its slope, change in lines."""
        own = spectrum[lines]
        return 1j * own, _along_rows(own, ramp)

    for _ in range(REALIGNMENTS):
        turns, covariance = _fit_lines(spectrum, single, slopes(single), part)
        moved |= _significance(turns, covariance) > MOVED_LINE
        if not moved.any():
            return spectrum
        chosen = single[moved]
        (turn, slope), _ = _fit_lines(spectrum, chosen, slopes(chosen), part)
        phase = np.clip(turn, -LARGEST_TURN, LARGEST_TURN)[:, None] + (
            np.clip(slope, -LARGEST_TURN / 2, LARGEST_TURN / 2)[:, None] * along
        )
        spectrum[chosen] = _along_rows(spectrum[chosen], np.exp(1j * phase)[..., None])
    own = spectrum[chosen]
    (real, imaginary), _ = _fit_lines(spectrum, chosen, (own, 1j * own), part, gain=True)
    factor = 1 + real + 1j * imaginary
    spectrum[chosen] *= (factor / np.maximum(np.abs(factor), 1))[:, None, None]
    return spectrum


def _along_rows(lines: ComplexArray, factor: ComplexArray) -> ComplexArray:
    """Multiply the k-space of lines (N, X, E) by a factor along X."""
    spectrum = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(lines, axes=1), axis=1), axes=1)
    back = np.fft.ifft(np.fft.ifftshift(spectrum * factor, axes=1), axis=1)
    return np.asarray(np.fft.fftshift(back, axes=1))


def _fit_lines(
    spectrum: ComplexArray,
    lines: IntArray,
    changes: tuple[ComplexArray, ComplexArray],
    part: _Slice,
    *,
    gain: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """
    Fit how much of two changes of each line leaves the trains most exponential.

    Gives the amounts (2, N) and their covariance (2N, 2N). With `gain` the first change scales
    the line: that it takes noise along is not counted in its favour.
    """
    trains = part.trains(spectrum)
    tangent = _tangent(trains, part.times)
    left = _without(trains, tangent)
    basis = np.concatenate([_without(part.basis(lines, item), tangent) for item in changes])
    basis = basis.reshape(len(basis), -1)
    curvature = (basis.conj() @ basis.T).real
    gradient = -(basis.conj() @ left.ravel()).real
    n_voxels, n_echoes = trains.shape
    # power of the noise by the median of an exponential distribution; an exponential train takes
    # two echoes of it
    noise = np.median(np.abs(left) ** 2) / np.log(2) * n_echoes / (n_echoes - 2)
    diagonal = np.diag_indices(len(curvature))
    if gain:
        own = noise * (n_echoes - 2) * n_voxels / len(spectrum)
        curvature[diagonal] = np.maximum(curvature[diagonal] - own, own)
        gradient[: len(lines)] += own
    curvature[diagonal] += SMALLEST_RIDGE * np.trace(curvature) / len(curvature)
    inverse = np.linalg.inv(curvature)
    return (inverse @ gradient).reshape(2, -1), inverse * noise / 2


def _significance(amounts: FloatArray, covariance: FloatArray) -> FloatArray:
    """Give the squared distance from zero (N,) of pairs of amounts (2, N), in their errors."""
    n_lines = amounts.shape[1]
    index = np.arange(n_lines) + n_lines * np.arange(2)[:, None]
    blocks = covariance[index[:, None], index[None]].transpose(2, 0, 1)
    solved = np.linalg.solve(blocks, amounts.T[..., None])[..., 0]
    return np.asarray(np.einsum('nq,nq->n', amounts.T, solved))


def _tangent(train: ComplexArray, times: FloatArray) -> ComplexArray:
    """Give two orthonormal vectors (V, 2, E) along which exponentials near a train lie."""
    magnitude = np.abs(train)
    rate = start_decay(magnitude, np.ones(magnitude.shape), magnitude > 0, times)[:, 1]
    exponent = 1j * _frequency(train, times) - rate
    one = np.exp(exponent[:, None] * times)
    vectors = np.stack([one, times * one], axis=1)
    vectors[:, 0] /= np.linalg.norm(vectors[:, 0], axis=1, keepdims=True)
    overlap = np.einsum('ve,ve->v', vectors[:, 0].conj(), vectors[:, 1])
    vectors[:, 1] -= overlap[:, None] * vectors[:, 0]
    vectors[:, 1] /= np.linalg.norm(vectors[:, 1], axis=1, keepdims=True)
    return vectors


def _frequency(train: ComplexArray, times: FloatArray) -> FloatArray:
    """Give the slope of the phase (V,) of trains (V, E), rad/s: unwrapped, weighted by power."""
    step = np.angle(np.einsum('ve,ve->v', train[:, 1:], train[:, :-1].conj()))
    coarse = step / np.diff(times).mean()
    square = np.abs(train) ** 2
    turned = train * np.exp(-1j * np.outer(coarse, times - times[0]))
    offset = np.angle(np.einsum('ve,ve->v', turned, np.abs(train)))
    left = np.angle(turned * np.exp(-1j * offset[:, None]))
    mean_time = square @ times / np.maximum(square.sum(axis=1), np.finfo(float).tiny)
    lag = times - mean_time[:, None]
    spread = np.einsum('ve,ve->v', square, lag**2)
    slope = np.divide(
        np.einsum('ve,ve->v', square * lag, left), spread, out=np.zeros(len(spread)),
        where=spread > 0,
    )  # fmt: skip
    return np.asarray(coarse + slope)


def _without(trains: ComplexArray, vectors: ComplexArray) -> ComplexArray:
    """Remove from trains (..., V, E) what lies along the vectors (V, 2, E)."""
    left = trains
    for vector in np.moveaxis(vectors, 1, 0):
        along = np.einsum('...ve,ve->...v', left, vector.conj())
        left = left - along[..., None] * vector
    return left


def _disagreement(
    spectra: ComplexArray, merged: ComplexArray, centre: BoolArray, mask: BoolArray
) -> FloatArray:
    """Give the relative difference of the sets on the lines that all have."""

    def coarse(lines: ComplexArray) -> ComplexArray:
        return _to_image(np.where(centre[:, None, None, None], lines, 0))

    reference = coarse(merged)
    squares = [np.abs(coarse(lines) - reference) ** 2 for lines in spectra]
    power = (np.abs(reference) ** 2).mean(axis=-1)
    spread = np.mean(squares, axis=(0, -1))
    relative = np.sqrt(np.divide(spread, power, out=np.zeros(mask.shape), where=power > 0))
    return np.where(mask, relative, 0.0)
