"""From echo phase to the signal that a background gradient leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.restoration import unwrap_phase

from bids_app.errors import ModelInputError
from bids_app.models.constants import GYROMAGNETIC_RATIO

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

TURN = 2 * np.pi
"""rad."""

SPACING_TOLERANCE = 0.01
"""Relative difference up to which two echo spacings count as equal; no unit."""

SLICE_PROFILES = ('rectangular', 'none')
"""Shapes of the excited slice that :func:`dephasing_factor` knows."""


def field_map_from_echoes(
    magnitude: ArrayLike, phase: ArrayLike, mask: ArrayLike, *, echo_times: ArrayLike
) -> FloatArray:
    r"""
    Estimate the offset of the main field from the phase evolution over echoes.

    Parameters
    ----------
    magnitude : (X, Y, Z, E) array_like
        Scanner units.
    phase : (X, Y, Z, E) array_like
        rad, wrapped or not.
    mask : (X, Y, Z) array_like of bool
        Voxels to estimate; noise outside it does not disturb the unwrapping.
    echo_times : (E,) array_like
        s; at least 2 different ones, in any order.

    Returns
    -------
    field_map : (X, Y, Z) ndarray of float64
        Hz. NaN outside the mask and where no pair of echoes has signal. Known up to a multiple
        of 1 / (echo spacing) for each connected part of the mask; the multiple is chosen so
        that the median of the part is within half of it around 0.

    Raises
    ------
    ModelInputError
        If shapes do not fit or fewer than 2 echo times differ.

    See Also
    --------
    slice_gradient : Its derivative through the slices.

    Notes
    -----
    Complex products of neighbouring echoes are averaged, so that a phase offset common to the
    echoes drops out and pairs count by their magnitude; of pairs with unequal spacing those
    with the shortest are used. The average is unwrapped in space:

    .. math:: \Delta\varphi = \arg \sum_e m_e m_{e+1} e^{i(\varphi_{e+1} - \varphi_e)},
              \qquad f = \Delta\varphi / (2\pi\,\Delta TE)

    References
    ----------
    .. [1] Herraez et al., Appl Opt 41:7437, 2002 (unwrapping). doi:10.1364/AO.41.007437

    Examples
    --------
    >>> echo_times = np.array([0.005, 0.010, 0.015])
    >>> phase = 2 * np.pi * 30.0 * echo_times * np.ones((4, 4, 4, 1))
    >>> field = field_map_from_echoes(
    ...     np.ones(phase.shape), phase, np.ones((4, 4, 4), bool), echo_times=echo_times)
    >>> field[0, 0, 0].round(6)
    np.float64(30.0)
    """
    magnitude, phase = np.asarray(magnitude, float), np.asarray(phase, float)
    mask, echo_times = np.asarray(mask, bool), np.asarray(echo_times, float)
    if phase.ndim != 4 or magnitude.shape != phase.shape or mask.shape != phase.shape[:3]:
        msg = (
            'magnitude and phase (X, Y, Z, E) and mask (X, Y, Z) expected, got '
            f'{magnitude.shape}, {phase.shape} and {mask.shape}'
        )
        raise ModelInputError(msg)
    if echo_times.shape != phase.shape[3:] or len(np.unique(echo_times)) < 2:
        msg = f'{phase.shape[3]} echo times, 2 of them different, expected, got {echo_times}'
        raise ModelInputError(msg)

    product, spacing = _neighbour_product(magnitude, phase, echo_times)
    known: BoolArray = np.logical_and(mask, product != 0)
    field_map = np.full(known.shape, np.nan)
    if known.any():
        unwrapped = _unwrap(np.asarray(np.angle(product), float), known)
        field_map[known] = _remove_turns(unwrapped, known)[known] / (TURN * spacing)
    return field_map


def slice_gradient(
    field_map: ArrayLike, mask: ArrayLike, *, slice_spacing: float, axis: int = 2
) -> FloatArray:
    r"""
    Differentiate a field map across the slices.

    Parameters
    ----------
    field_map : (X, Y, Z) array_like
        Hz.
    mask : (X, Y, Z) array_like of bool
        Voxels whose field is known; NaN of `field_map` counts as unknown, too.
    slice_spacing : float
        Distance of slice centres, with the gap, m; positive.
    axis : int
        Array axis across the slices.

    Returns
    -------
    gradient : (X, Y, Z) ndarray of float64
        T/m, positive where the field rises with the slice index. NaN outside the mask and where
        neither neighbour lies in the mask.

    Raises
    ------
    ModelInputError
        If shapes differ or the spacing is not positive.

    See Also
    --------
    dephasing_factor : What the gradient does to the signal.

    Notes
    -----
    Central difference where both neighbours are known, one-sided where one is; never across
    the edge of the mask.

    .. math:: G_z = \frac{2\pi}{\gamma}\,\frac{\partial f}{\partial z}

    Examples
    --------
    >>> field = 10.0 * np.arange(4.0).reshape(1, 1, 4)
    >>> gradient = slice_gradient(field, np.ones((1, 1, 4), bool), slice_spacing=3.3e-3)
    >>> (gradient * 1e6).round(1).ravel()
    array([71.2, 71.2, 71.2, 71.2])
    """
    field_map, mask = np.asarray(field_map, float), np.asarray(mask, bool)
    if field_map.shape != mask.shape:
        msg = f'field_map {field_map.shape} and mask {mask.shape} must have equal shapes'
        raise ModelInputError(msg)
    if not slice_spacing > 0:
        msg = f'slice_spacing must be positive (m), got {slice_spacing}'
        raise ModelInputError(msg)
    field = np.moveaxis(np.where(mask, field_map, np.nan), axis, -1)
    step = np.diff(field, axis=-1) * (TURN / GYROMAGNETIC_RATIO / slice_spacing)
    unknown = np.full((*field.shape[:-1], 1), np.nan)
    below = np.concatenate([unknown, step], axis=-1)
    above = np.concatenate([step, unknown], axis=-1)
    both = (below + above) / 2
    gradient = np.where(np.isfinite(both), both, np.where(np.isfinite(below), below, above))
    return np.moveaxis(gradient, -1, axis)


def dephasing_factor(
    gradient: ArrayLike,
    *,
    slice_thickness: float,
    echo_times: ArrayLike,
    profile: str = 'rectangular',
) -> FloatArray:
    r"""
    Compute the fraction of signal that a gradient across the slice leaves.

    Parameters
    ----------
    gradient : (...) array_like
        T/m, either sign. NaN (unknown) gives a factor of 1: no correction.
    slice_thickness : float
        Thickness of the excited slice, without the gap, m; positive.
    echo_times : (E,) array_like
        Since excitation, s.
    profile : {'rectangular', 'none'}
        Shape of the excited slice; 'none' gives 1 everywhere.

    Returns
    -------
    dephasing : (..., E) ndarray of float64
        In [0, 1].

    Raises
    ------
    ModelInputError
        If the thickness is not positive or the profile unknown.

    See Also
    --------
    slice_gradient : Makes `gradient`.
    bids_app.models.relaxometry.fit_r2_star : Uses the factor.

    Notes
    -----
    The Fourier transform of the slice profile at the spatial frequency that the gradient has
    wound up; for a rectangle

    .. math:: F(TE) = \left|\operatorname{sinc}\left(
              \frac{\gamma}{2\pi} G_z\,\Delta z\,TE\right)\right|,
              \qquad \operatorname{sinc}(x) = \frac{\sin \pi x}{\pi x}

    References
    ----------
    .. [1] Hirsch & Preibisch, AJNR Am J Neuroradiol 34:E65, 2013. doi:10.3174/ajnr.A3021

    Examples
    --------
    >>> dephasing_factor(100e-6, slice_thickness=3e-3, echo_times=[0.0, 0.03, 0.06]).round(3)
    array([1.   , 0.775, 0.278])
    """
    gradient, echo_times = np.asarray(gradient, float), np.asarray(echo_times, float)
    if not slice_thickness > 0:
        msg = f'slice_thickness must be positive (m), got {slice_thickness}'
        raise ModelInputError(msg)
    if profile not in SLICE_PROFILES:
        msg = f'profile must be one of {", ".join(SLICE_PROFILES)}, got {profile!r}'
        raise ModelInputError(msg)
    if profile == 'none':
        return np.ones((*gradient.shape, *echo_times.shape))
    known = np.where(np.isfinite(gradient), gradient, 0.0)
    turns = GYROMAGNETIC_RATIO / TURN * slice_thickness * known[..., None] * echo_times
    return np.asarray(np.abs(np.sinc(turns)))


def _neighbour_product(
    magnitude: FloatArray, phase: FloatArray, echo_times: FloatArray
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.complex128]], float]:
    """Sum the products of neighbouring echoes; return it and the echo spacing."""
    order = np.argsort(echo_times)
    spacings = np.diff(echo_times[order])
    spacing = spacings[spacings > 0].min()
    pairs = np.flatnonzero(np.isclose(spacings, spacing, rtol=SPACING_TOLERANCE, atol=0))
    product = np.zeros(phase.shape[:3], complex)
    for pair in pairs:
        first, second = order[pair], order[pair + 1]
        weight = magnitude[..., first] * magnitude[..., second]
        step = phase[..., second] - phase[..., first]
        usable = np.isfinite(weight) & np.isfinite(step)
        product += np.where(usable, weight, 0.0) * np.exp(1j * np.where(usable, step, 0.0))
    return product, float(spacings[pairs].mean())


def _unwrap(wrapped: FloatArray, mask: BoolArray) -> FloatArray:
    """Unwrap in space within the mask; axes of length 1 are doubled for the algorithm."""
    shape = mask.shape
    for axis, length in enumerate(shape):
        if length == 1:
            wrapped, mask = np.repeat(wrapped, 2, axis), np.repeat(mask, 2, axis)
    masked: Any = np.ma.masked_array(wrapped, mask=~mask)  # type: ignore[no-untyped-call]
    unwrapped = unwrap_phase(masked, rng=0).filled(np.nan)  # type: ignore[no-untyped-call]
    first = tuple(slice(None) if length > 1 else slice(1) for length in shape)
    return np.asarray(unwrapped[first])


def _remove_turns(phase: FloatArray, mask: BoolArray) -> FloatArray:
    """Remove the multiple of a turn nearest to the median of each connected part."""
    parts, n_parts = ndimage.label(mask)
    medians = ndimage.median(phase, parts, index=np.arange(1, n_parts + 1))
    turns = np.concatenate([[0.0], TURN * np.round(np.asarray(medians) / TURN)])
    return np.asarray(phase - turns[parts])
