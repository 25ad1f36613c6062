"""Merge repeated acquisitions of the centre of k-space, so that movement in one set drops out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.phase import field_map_from_echoes
from bids_app.models.relaxometry import start_decay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bids_app._typing import BoolArray, FloatArray

    ComplexArray: TypeAlias = NDArray[np.complex128]

FASTEST_DECAY = 200.0
"""R2* above which the estimate that carries a set to other echo times is noise, 1/s."""

PASSES = 3
"""The decay of each voxel is known the better the better the lines are weighted; it settles."""

VOXELS_PER_SLICE = 800
"""Voxels, evenly spread over the mask, that the weights of a slice are found from: ten per
unknown weight of a 112 matrix; more cost time and change nothing."""

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
       full set, and by one complex factor per slice and echo, which takes up gain and drift.
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
    3. Lines that the full set alone has stay.

    The published method approaches a target image of the voxels whose train correlates best
    with an exponential; asking for the exponential itself needs no target and in the simulation
    of the tests leaves half the error.

    Movement between the sets is not corrected; it shows in `disagreement`.

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
    for z in range(spectra.shape[3]):
        weights[:, :, z] = _line_weights(
            spectra[:, :, :, z], available, inside[:, :, z], np.asarray(full.echo_times)
        )
        merged[:, :, z] = np.einsum('sl,slxe->lxe', weights[:, :, z], spectra[:, :, :, z])
    centre = _central(n_total, min(counts))
    disagreement = _disagreement(spectra, merged, centre, inside)
    return MergedEchoes(
        np.moveaxis(_to_image(merged), 0, line_axis),
        np.moveaxis(disagreement, 0, line_axis),
        weights,
    )


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
    # of the factors that the lines give the median: few of them were read during movement
    products = np.einsum('lxze,lxze->lze', spectrum[centre].conj(), reference)
    power = np.einsum('lxze,lxze->lze', spectrum[centre].conj(), spectrum[centre]).real
    factors = np.divide(products, power, out=np.ones_like(products), where=power > 0)
    factor = np.median(factors.real, axis=0) + 1j * np.median(factors.imag, axis=0)
    return _to_image(spectrum * factor[None, None])


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


def _line_weights(
    spectra: ComplexArray, available: BoolArray, mask: BoolArray, times: FloatArray
) -> FloatArray:
    """Give the weights (S, L) of one slice's lines (S, L, X, E); `available` is (S, L)."""
    weights = available / available.sum(axis=0)
    rows, columns = np.nonzero(mask)
    spread = np.linspace(0, max(len(rows) - 1, 0), min(len(rows), VOXELS_PER_SLICE)).astype(int)
    rows, columns = rows[spread], columns[spread]
    unknown = np.argwhere(available[1:])
    if not unknown.size or not rows.size:
        return np.where(np.arange(len(weights))[:, None] == 0, 1.0, 0.0)
    n_lines = spectra.shape[1]
    wave = _to_image(np.eye(n_lines, dtype=complex))[rows]  # (voxels, lines)
    first = _to_image(spectra[0])[rows, columns]
    steps = [spectra[s + 1, line] - spectra[0, line] for s, line in unknown]
    basis = np.stack([
        wave[:, line, None] * step[columns]
        for (_, line), step in zip(unknown, steps, strict=True)
    ])  # fmt: skip
    for _ in range(PASSES):
        merged = _to_image(np.einsum('sl,slxe->lxe', weights, spectra))[rows, columns]
        tangent = _tangent(merged, times)
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


def _tangent(train: ComplexArray, times: FloatArray) -> ComplexArray:
    """Give two orthonormal vectors (V, 2, E) along which exponentials near a train lie."""
    step = np.angle(np.einsum('ve,ve->v', train[:, 1:], train[:, :-1].conj()))
    spacing = np.diff(times).mean()
    phase = np.angle(train * np.exp(-1j * np.outer(step / spacing, times - times[0])))
    magnitude = np.abs(train)
    rate = start_decay(magnitude, np.ones(magnitude.shape), magnitude > 0, times)[:, 1]
    square = magnitude**2
    centre = np.exp(1j * phase) * square
    offset = np.angle(centre.sum(axis=1))
    left = np.angle(np.exp(1j * (phase - offset[:, None])))
    mean_time = square @ times / np.maximum(square.sum(axis=1), np.finfo(float).tiny)
    lag = times - mean_time[:, None]
    spread = np.einsum('ve,ve->v', square, lag**2)
    slope = np.divide(
        np.einsum('ve,ve->v', square * lag, left), spread, out=np.zeros(len(spread)),
        where=spread > 0,
    )  # fmt: skip
    exponent = 1j * (step / spacing + slope) - rate
    one = np.exp(exponent[:, None] * times)
    vectors = np.stack([one, times * one], axis=1)
    vectors[:, 0] /= np.linalg.norm(vectors[:, 0], axis=1, keepdims=True)
    overlap = np.einsum('ve,ve->v', vectors[:, 0].conj(), vectors[:, 1])
    vectors[:, 1] -= overlap[:, None] * vectors[:, 0]
    vectors[:, 1] /= np.linalg.norm(vectors[:, 1], axis=1, keepdims=True)
    return vectors


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
