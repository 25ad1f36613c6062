"""Blood flow, transit time and delay from a bolus by block-circulant deconvolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    BRAIN_DENSITY,
    DECONVOLUTION_CHUNK_MB,
    DECONVOLUTION_THRESHOLDS,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status, flag_negative
from bids_app.units import ML_PER_100G_PER_MIN

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import FloatArray

    ComplexArray = NDArray[np.complexfloating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residue:
    """
    What the deconvolution of a bolus gives, one value per voxel.

    Parameters
    ----------
    flow : (V,) Estimate
        Maximum of the flow-scaled residue function, 1/s, i.e. mL of blood per mL and second
        before any factor of haematocrit. Its variance is that of a linear estimate at the delay
        and the threshold that were chosen: the choice itself is not part of it.
    transit_time : (V,) Estimate
        Ratio of areas over `flow` (central volume theorem), s.
    delay : (V,) Estimate
        Time of the maximum (Tmax), s; its variance is that of a uniform error of one volume.
    threshold : (V,) ndarray
        Singular values below this fraction of the largest were not used.
    """

    flow: Estimate
    transit_time: Estimate
    delay: Estimate
    threshold: FloatArray


def deconvolve(
    rate_change: ArrayLike,
    arterial_input: ArrayLike,
    *,
    repetition_time: float,
    oscillation_index: float,
    rate_variance: ArrayLike | None = None,
    haematocrit_factor: float = 1.0,
) -> Residue:
    r"""
    Deconvolve tissue curves with an arterial input, oscillations of the result limited.

    Parameters
    ----------
    rate_change : (V, T) array_like
        Change of R2* (or concentration) of the tissue, from before the bolus on.
    arterial_input : (T,) array_like
        That of the artery, in the same unit.
    repetition_time : float
        s; positive.
    oscillation_index : float
        Largest oscillation index allowed, dimensionless; Wu et al. use 0.035.
    rate_variance : (V,) array_like, optional
        Variance of one sample of `rate_change`; default 0.
    haematocrit_factor : float
        (1 - Hct of large vessels)/(1 - Hct of small vessels), dimensionless; it multiplies flow
        and leaves the transit time alone.

    Returns
    -------
    residue : Residue
        NaN with INVALID_INPUT where a curve is not finite, with NO_SIGNAL where no part of it
        follows the arterial input.

    Raises
    ------
    ModelInputError
        If the shapes do not fit, a number lies outside its range, or the arterial input has no
        positive area.

    Notes
    -----
    With the curves padded to L = 2 T the convolution is circulant, so that its singular values
    are those of the discrete Fourier transform of the arterial input, and tissue that the bolus
    reaches before the chosen artery does no harm. Both functions are taken as linear between the
    volumes: that is the filter (1, 4, 1)/6 on the arterial input. Fourier components below a
    threshold are left out. The threshold is the lowest of a fixed ladder whose residue function k
    satisfies

    .. math:: O = \frac{1}{L\,k_{max}} \sum_t |k(t) - 2k(t-1) + k(t-2)| \le O_{max}

    found by bisection, for all voxels at once and in single precision (where the index does not
    fall with the threshold throughout, one of the thresholds that satisfy it).

    References
    ----------
    .. [1] Wu et al., Magn Reson Med 50:164, 2003. doi:10.1002/mrm.10522

    Examples
    --------
    >>> time = np.arange(0, 80, 1.0)
    >>> artery = np.clip(time - 10, 0, None) ** 3 * np.exp(-np.clip(time - 10, 0, None) / 1.5)
    >>> tissue = 0.01 * np.convolve(artery, np.exp(-time / 4.0))[:80]
    >>> found = deconvolve([tissue], artery, repetition_time=1.0, oscillation_index=0.035)
    >>> bool(abs(found.flow.value[0] / 0.01 - 1) < 0.15)
    True
    """
    tissue, artery = _checked(rate_change, arterial_input, repetition_time, oscillation_index)
    variance = np.broadcast_to(
        np.asarray(0.0 if rate_variance is None else rate_variance, float), tissue.shape[:1]
    )
    kernel = _Kernel.of(artery, repetition_time)
    peak, index, threshold = (np.full(len(tissue), np.nan) for _ in 'pit')
    finite = np.isfinite(tissue).all(axis=1)
    chunk = max(1, int(DECONVOLUTION_CHUNK_MB * 1e6 / (8 * 4 * kernel.length)))
    usable = np.flatnonzero(finite)
    for start in range(0, len(usable), chunk):
        voxels = usable[start : start + chunk]
        found = _limit_oscillation(kernel, tissue[voxels], oscillation_index)
        peak[voxels], index[voxels], threshold[voxels] = found

    status = np.where(finite, Status.OK, Status.INVALID_INPUT)
    status = np.where(finite & ~(peak > 0), Status.NO_SIGNAL, status).astype(np.uint8)
    flow = np.where(peak > 0, peak, np.nan)
    flow_variance = variance * kernel.gain(threshold, index)
    transit = tissue.sum(axis=1) / artery.sum() / flow
    transit_variance = variance * len(artery) / (artery.sum() * flow) ** 2
    transit_variance = transit_variance + (transit / flow) ** 2 * flow_variance
    negative = flag_negative(transit)
    late = np.where(index >= len(artery), index - kernel.length, index)
    factor = haematocrit_factor
    return Residue(
        flow=Estimate.of(factor * flow, factor**2 * flow_variance, status),
        transit_time=Estimate.of(transit, transit_variance, combine_status(status, negative)),
        delay=Estimate.of(repetition_time * late, repetition_time**2 / 12, status),
        threshold=threshold,
    )


def flow_per_mass(flow: Estimate, *, density: float = BRAIN_DENSITY) -> Estimate:
    """
    Express a flow per volume and second in mL/100 g/min.

    Parameters
    ----------
    flow : (V,) Estimate
        mL/mL/s.
    density : float
        Of tissue, g/mL; positive.

    Returns
    -------
    cbf : (V,) Estimate
        mL/100 g/min.

    Examples
    --------
    >>> flow_per_mass(Estimate.of([0.01]), density=1.0).value
    array([60.])
    """
    if not density > 0:
        msg = f'density (g/mL) must be positive, got {density}'
        raise ModelInputError(msg)
    scale = ML_PER_100G_PER_MIN / density
    return Estimate.of(scale * flow.value, scale**2 * flow.variance, flow.status, flow.dof)


@dataclass(frozen=True, slots=True, eq=False)
class _Kernel:
    """The arterial input in the Fourier domain."""

    spectrum: ComplexArray
    """(F,), of the padded input times the repetition time."""
    strength: FloatArray
    """(F,) singular values over the largest."""
    length: int
    """Of the padded curves."""

    @classmethod
    def of(cls, artery: FloatArray, repetition_time: float) -> _Kernel:
        """Transform an arterial input."""
        length = 2 * len(artery)
        padded = np.concatenate([artery, np.zeros(len(artery))])
        smooth = (np.roll(padded, 1) + 4 * padded + np.roll(padded, -1)) / 6
        spectrum = fft.rfft(repetition_time * smooth)
        size = np.abs(spectrum)
        return cls(spectrum, size / size.max(), length)

    def gain(self, threshold: FloatArray, index: FloatArray) -> FloatArray:
        """Variance of a point of the residue function over that of a sample of the curve."""
        tables = []
        for level in DECONVOLUTION_THRESHOLDS:
            inverse = np.zeros(len(self.spectrum), complex)
            kept = self.strength >= level
            inverse[kept] = 1 / self.spectrum[kept]
            energy = fft.irfft(inverse, n=self.length) ** 2
            # sample s < T of the curve reaches point t by element t - s of the inverse
            total = np.concatenate([[0.0], np.cumsum(np.tile(energy, 2))])
            last = np.arange(self.length) + self.length + 1
            tables.append(total[last] - total[last - self.length // 2])
        row = np.searchsorted(DECONVOLUTION_THRESHOLDS, np.nan_to_num(threshold, nan=1.0))
        row = np.minimum(row, len(tables) - 1)
        gain: FloatArray = np.array(tables)[row, np.nan_to_num(index).astype(int)]
        return gain


def _limit_oscillation(
    kernel: _Kernel, tissue: FloatArray, limit: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the maximum of the residue functions, where it is, and the threshold used."""
    inverse = np.zeros_like(kernel.spectrum)
    np.divide(1.0, kernel.spectrum, out=inverse, where=kernel.strength > 0)
    rough = (inverse * fft.rfft(tissue, n=kernel.length, axis=1)).astype(np.complex64)
    ladder = np.asarray(DECONVOLUTION_THRESHOLDS)
    low = np.zeros(len(tissue), int)
    high = np.full(len(tissue), len(ladder) - 1)
    while (active := np.flatnonzero(low < high)).size:
        middle = (low[active] + high[active]) // 2
        part = rough if active.size == len(rough) else rough[active]
        residue = _invert(kernel, part, ladder[middle])
        calm = _oscillation(residue) <= limit
        high[active] = np.where(calm, middle, high[active])
        low[active] = np.where(calm, low[active], middle + 1)
    residue = _invert(kernel, rough, ladder[high])
    index = residue.argmax(axis=1)
    peak = residue[np.arange(len(residue)), index].astype(float)
    return peak, index.astype(float), ladder[high]


def _invert(kernel: _Kernel, rough: ComplexArray, threshold: FloatArray) -> FloatArray:
    """Give the residue functions without the components below a threshold."""
    kept = kernel.strength >= threshold[:, np.newaxis]
    residue: FloatArray = fft.irfft(rough * kept, n=kernel.length, axis=1)
    return residue


def _oscillation(residue: FloatArray) -> FloatArray:
    """Give the oscillation index of residue functions; infinite without a positive maximum."""
    second = residue[:, 2:] + residue[:, :-2]
    second -= 2 * residue[:, 1:-1]
    second = np.abs(second, out=second).sum(axis=1)
    peak = residue.max(axis=1)
    index: FloatArray = np.full(len(residue), np.inf)
    np.divide(second, residue.shape[1] * peak, out=index, where=peak > 0)
    return index


def _checked(
    rate_change: ArrayLike, arterial_input: ArrayLike, repetition_time: float, limit: float
) -> tuple[FloatArray, FloatArray]:
    """Refuse curves and numbers that cannot be deconvolved."""
    tissue, artery = np.asarray(rate_change, float), np.asarray(arterial_input, float)
    if tissue.ndim != 2 or artery.shape != tissue.shape[1:]:
        msg = (
            'expected curves (voxels x volumes) and one arterial input of as many volumes, got '
            f'shapes {tissue.shape} and {artery.shape}'
        )
        raise ModelInputError(msg)
    if not (np.all(np.isfinite(artery)) and artery.sum() > 0):
        msg = 'the arterial input must be finite and have a positive area'
        raise ModelInputError(msg)
    for name, number in (('repetition_time (s)', repetition_time), ('oscillation_index', limit)):
        if not 0 < number < np.inf:
            msg = f'{name} must be positive and finite, got {number}'
            raise ModelInputError(msg)
    return tissue, artery
