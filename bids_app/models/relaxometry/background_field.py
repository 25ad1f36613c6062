"""From echo phase to the signal that a background gradient leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.restoration import unwrap_phase

from bids_app.errors import ModelInputError
from bids_app.models.constants import GYROMAGNETIC_RATIO
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import pool_variance
from bids_app.models.status import Status

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

TURN = 2 * np.pi
"""rad."""

SPACING_TOLERANCE = 0.01
"""Relative difference up to which two echo spacings count as equal; no unit."""

MINIMUM_ECHOES = 3
"""A line and one degree of freedom for the noise of the phase."""

ALTERNATING_FROM = 5
"""Echoes from which on a phase that alternates with the polarity of the readout is fitted."""

DEPHASED = 0.1
"""Signal relative to the strongest echo below which, and after which, phase is not trusted: by
relaxation alone such echoes have a hundredth of the weight; no unit."""

HOLDING_RIDGE = 1e6
"""Relative curvature that holds a parameter at zero; no unit."""

SMALLEST_RIDGE = 1e-12
"""Relative curvature that keeps a voxel with silent echoes solvable; no unit."""

UNIFORM_VARIANCE = 1 / 12
"""Of a quantity that lies anywhere in an interval of length 1."""

KSPACE_EDGE = 0.4
"""Turns per voxel from which on an echo counts as lost; the edge itself is at one half; ours."""

SLICE_PROFILES = ('fitted', 'rectangular', 'exponential', 'sinc-gauss', 'none')
"""Shapes of the excited slice that :func:`gradient_attenuation` knows."""

SINC_GAUSS_EDGE = 0.16
"""Blur (SD) of the edges of a sinc-Gauss slice relative to its thickness: a Gaussian window
that has fallen to 1 % at the third zero of the sinc; no unit; ours, the pulse is not in BIDS."""


def field_map_from_echoes(
    magnitude: ArrayLike, phase: ArrayLike, mask: ArrayLike, *, echo_times: ArrayLike
) -> Estimate:
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
        s; at least 3 different ones, in any order.

    Returns
    -------
    field_map : Estimate
        (X, Y, Z), Hz. NaN outside the mask and where fewer than 3 echoes have signal. Known up to
        a multiple of 1 / (echo spacing) for each connected part of the mask; the multiple is
        chosen so that the median of the part is within half of it around 0.

    Raises
    ------
    ModelInputError
        If shapes do not fit or fewer than 3 echo times differ.

    Notes
    -----
    First complex products of neighbouring echoes are averaged, so that a phase offset common to
    the echoes drops out and pairs count by their magnitude; of pairs with unequal spacing those
    with the shortest are used. Pairs that start at an odd and at an even echo are averaged
    apart. Readouts of alternating polarity add a phase :math:`\pm a`, of which they differ by
    :math:`4a`: that is unwrapped in space (its median is taken to be within half a turn of 0, so
    :math:`a` within 45 degrees, but it may be anything at the edges) and removed. The average of
    both is unwrapped in space:

    .. math:: \Delta\varphi = \arg \sum_e m_e m_{e+1} e^{i(\varphi_{e+1} - \varphi_e)},
              \qquad f = \Delta\varphi / (2\pi\,\Delta TE)

    Then a straight line, with an offset and (from 5 echoes on) an alternating term, is fitted
    to what is left of the phases, weighted by :math:`m^2` up to the first echo with less than a
    tenth of the signal (behind the zero of a dephased slice the phase is turned by half); its
    error is that of the fit with the noise pooled over the mask.

    References
    ----------
    .. [1] Herraez et al., Appl Opt 41:7437, 2002 (unwrapping). doi:10.1364/AO.41.007437

    Examples
    --------
    >>> echo_times = np.array([0.005, 0.010, 0.015])
    >>> phase = 2 * np.pi * 30.0 * echo_times * np.ones((4, 4, 4, 1))
    >>> field = field_map_from_echoes(
    ...     np.ones(phase.shape), phase, np.ones((4, 4, 4), bool), echo_times=echo_times)
    >>> field.value[0, 0, 0].round(6)
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
    if echo_times.shape != phase.shape[3:] or len(np.unique(echo_times)) < MINIMUM_ECHOES:
        msg = (
            f'{phase.shape[3]} echo times, {MINIMUM_ECHOES} of them different, expected, '
            f'got {echo_times}'
        )
        raise ModelInputError(msg)

    order = np.argsort(echo_times)
    times = echo_times[order]
    usable = np.isfinite(magnitude) & np.isfinite(phase) & (magnitude > 0)
    known: BoolArray = mask & (usable.sum(axis=-1) >= MINIMUM_ECHOES)
    usable_here = usable[known][:, order]
    weight = np.where(usable_here, magnitude[known][:, order], 0.0)
    angle = np.where(usable_here, phase[known][:, order], 0.0)

    weight = _before_dephasing(weight)
    first, second, spacing = _neighbour_products(weight, angle, times)
    # a product can vanish though three echoes are there: no neighbours, nothing to start from
    there = first != 0
    known[known] = there
    weight, angle, first, second = (one[there] for one in (weight, angle, first, second))
    value, variance = np.full((2, *known.shape), np.nan)
    if known.any():
        half = _without_wraps(np.angle(second * first.conj()), known) / 2
        angle = angle - half[:, None] / 2 * (-1.0) ** np.arange(len(times))
        average = np.angle(first) + half
        start = _without_wraps((average + np.pi) % TURN - np.pi, known) / (TURN * spacing)
        change, variance[known] = _refine(weight, angle, times, start)
        value[known] = start + change
    status = np.where(mask, Status.OK, Status.OUTSIDE_MASK)
    return Estimate.of(value, variance, np.where(mask & ~known, Status.NO_SIGNAL, status))


def field_map_from_difference(
    difference: ArrayLike, mask: ArrayLike, *, echo_difference: float
) -> FloatArray:
    r"""
    Turn the phase that the field winds up between two echoes into the field.

    Parameters
    ----------
    difference : (X, Y, Z) array_like
        Phase of the later echo minus that of the earlier one, rad, wrapped or not.
    mask : (X, Y, Z) array_like of bool
        Where the phase is not noise.
    echo_difference : float
        Time between the echoes, s; positive.

    Returns
    -------
    field_map : (X, Y, Z) ndarray of float64
        Hz; NaN outside the mask. Known up to a multiple of 1 / echo_difference for each
        connected part of the mask: the one whose median is nearest to 0.

    Raises
    ------
    ModelInputError
        If shapes differ or the time is not positive.

    Notes
    -----
    .. math:: f = \Delta\varphi / (2\pi\,\Delta TE)

    Examples
    --------
    >>> phase = np.full((4, 4, 4), 0.5 * np.pi)
    >>> field = field_map_from_difference(phase, np.ones((4, 4, 4)), echo_difference=0.005)
    >>> field[0, 0, 0].round(6)
    np.float64(50.0)
    """
    difference, mask = np.asarray(difference, float), np.asarray(mask, bool)
    if difference.shape != mask.shape or difference.ndim != 3 or not echo_difference > 0:
        msg = (
            f'phase difference {difference.shape} and mask {mask.shape} of one shape (X, Y, Z) '
            f'and a positive time between echoes (s) expected, got {echo_difference}'
        )
        raise ModelInputError(msg)
    known = mask & np.isfinite(difference)
    field: FloatArray = np.full(difference.shape, np.nan)
    if known.any():
        wrapped = (np.where(known, difference, 0.0) + np.pi) % TURN - np.pi
        unwrapped = _remove_turns(_unwrap(wrapped, known), known)
        field[known] = unwrapped[known] / (TURN * echo_difference)
    return field


def slice_gradient(
    field_map: Estimate, mask: ArrayLike, *, slice_spacing: float, axis: int = 2
) -> Estimate:
    r"""
    Differentiate a field map across the slices.

    Parameters
    ----------
    field_map : Estimate
        (X, Y, Z), Hz.
    mask : (X, Y, Z) array_like of bool
        Voxels whose field is known; a missing field counts as unknown, too.
    slice_spacing : float
        Distance of slice centres, with the gap, m; positive.
    axis : int
        Array axis across the slices.

    Returns
    -------
    gradient : Estimate
        (X, Y, Z), T/m, positive where the field rises with the slice index. NaN outside the mask
        and where neither neighbour lies in the mask.

    Raises
    ------
    ModelInputError
        If shapes differ or the spacing is not positive.

    Notes
    -----
    Central difference where both neighbours are known; where one is, the one-sided difference,
    carried on by half a step along its change to the next where that is known; never across the
    edge of the mask.

    .. math:: G_z = \frac{2\pi}{\gamma}\,\frac{\partial f}{\partial z}

    The variance has two parts: noise of the field, and that the slope inside the slice is known
    only from outside it. For the second any slope in an interval as wide as the two
    neighbouring differences are apart is held equally likely (variance: width squared over 12);
    with a single difference, any between none and twice it.

    Examples
    --------
    >>> field = Estimate.of(10.0 * np.arange(4.0).reshape(1, 1, 4))
    >>> gradient = slice_gradient(field, np.ones((1, 1, 4), bool), slice_spacing=3.3e-3)
    >>> (gradient.value * 1e6).round(1).ravel()
    array([71.2, 71.2, 71.2, 71.2])
    """
    mask = np.asarray(mask, bool)
    if field_map.value.shape != mask.shape:
        msg = f'field_map {field_map.value.shape} and mask {mask.shape} must have equal shapes'
        raise ModelInputError(msg)
    if not slice_spacing > 0:
        msg = f'slice_spacing must be positive (m), got {slice_spacing}'
        raise ModelInputError(msg)
    scale = TURN / GYROMAGNETIC_RATIO / slice_spacing
    field = scale * np.moveaxis(np.where(mask, field_map.value, np.nan), axis, -1)
    noise = scale**2 * np.moveaxis(np.where(mask, field_map.variance, np.nan), axis, -1)
    below, above = _both_sides(np.diff(field, axis=-1))
    noise_below, noise_above = _both_sides(noise[..., :-1] + noise[..., 1:])
    before, after = _shift(noise, 1), _shift(noise, -1)
    # from the side that is there, carried half a step on where the next step is known, too
    is_upper = np.isfinite(above)
    step = np.where(is_upper, above, below)
    step_noise = np.where(is_upper, noise_above, noise_below)
    beyond = np.where(is_upper, _shift(above, -1), _shift(below, 1))
    bend = step - beyond
    curved = np.isfinite(bend)
    one_sided = np.where(curved, step + bend / 2, step)
    width = np.where(curved, bend, 2 * step)
    one_sided_variance = np.where(curved, 4, 1) * step_noise + width**2 * UNIFORM_VARIANCE
    central = (below + above) / 2
    both = np.isfinite(central)
    slope = np.where(both, central, one_sided)
    central_variance = (before + after) / 4 + (above - below) ** 2 * UNIFORM_VARIANCE
    variance = np.where(both, central_variance, one_sided_variance)
    status = np.where(mask, field_map.status, Status.OUTSIDE_MASK)
    return Estimate.of(np.moveaxis(slope, -1, axis), np.moveaxis(variance, -1, axis), status)


def _shift(step: FloatArray, by: int) -> FloatArray:
    """Give every voxel what the one `by` places before it along the last axis has."""
    shifted = np.roll(step, by, axis=-1)
    shifted[..., 0 if by > 0 else -1] = np.nan
    return shifted


def _both_sides(step: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give for every voxel the step from the one before it and to the one after it."""
    unknown = np.full((*step.shape[:-1], 1), np.nan)
    return np.concatenate([unknown, step], axis=-1), np.concatenate([step, unknown], axis=-1)


def gradient_attenuation(
    gradient: ArrayLike,
    *,
    slice_thickness: float,
    echo_times: ArrayLike,
    profile: str = 'rectangular',
    edge: float = 0.0,
) -> FloatArray:
    r"""
    Compute the fraction of signal that a gradient across the slice leaves.

    Parameters
    ----------
    gradient : (...) array_like
        T/m, either sign. NaN (unknown) gives a factor of 1: no correction.
    slice_thickness : float
        Thickness of the excited slice at half its height, without the gap, m; positive.
    echo_times : (E,) array_like
        Since excitation, s.
    profile : {'fitted', 'rectangular', 'exponential', 'sinc-gauss', 'none'}
        Shape of the excited slice; 'none' gives 1 everywhere.
    edge : float
        Of 'fitted': variance of the blur of the edges, squared thicknesses.

    Returns
    -------
    attenuation : (..., E) ndarray of float64
        In [0, 1].

    Raises
    ------
    ModelInputError
        If the thickness is not positive or the profile unknown.

    Notes
    -----
    The Fourier transform of the slice profile at the spatial frequency that the gradient has
    wound up, equal to the envelope of the excitation pulse at the corresponding time. With
    :math:`k = \gamma G_z TE / 2\pi` and thickness :math:`\Delta z` at half height

    .. math:: F = |\operatorname{sinc}(k \Delta z)|, \qquad
              F = \exp(-\pi |k| \Delta z), \qquad
              F = |\operatorname{sinc}(k \Delta z)| \exp(-2 \pi^2 k^2 (0.16\,\Delta z)^2)

    for a rectangle, for the Lorentzian that an exponential pulse excites, and for a rectangle
    with the blurred edges that a sinc with a Gaussian window excites (fitted: as blurred as
    :func:`bids_app.models.relaxometry.slice_edge.fit_slice_edge` finds);
    :math:`\operatorname{sinc}(x) = \sin(\pi x)/(\pi x)`.

    References
    ----------
    .. [1] Hirsch & Preibisch, AJNR Am J Neuroradiol 34:E65, 2013.

    Examples
    --------
    >>> gradient_attenuation(100e-6, slice_thickness=3e-3, echo_times=[0.0, 0.03, 0.06]).round(3)
    array([1.   , 0.775, 0.278])
    """
    if profile not in SLICE_PROFILES:
        msg = f'profile must be one of {", ".join(SLICE_PROFILES)}, got {profile!r}'
        raise ModelInputError(msg)
    turns = gradient_turns(gradient, slice_thickness=slice_thickness, echo_times=echo_times)
    turns = np.nan_to_num(turns)
    if profile == 'none':
        return np.ones(turns.shape)
    if profile == 'exponential':
        return np.asarray(np.exp(-np.pi * turns))
    edges = {'fitted': edge, 'rectangular': 0.0, 'sinc-gauss': SINC_GAUSS_EDGE**2}
    return edge_attenuation(turns, edges[profile])


def gradient_turns(
    gradient: ArrayLike, *, slice_thickness: float, echo_times: ArrayLike
) -> FloatArray:
    r"""
    Give the phase that a gradient winds up over the thickness of a slice.

    Parameters
    ----------
    gradient : (...) array_like
        T/m, either sign.
    slice_thickness : float
        m; positive.
    echo_times : (E,) array_like
        s.

    Returns
    -------
    turns : (..., E) ndarray of float64
        :math:`\gamma |G| \Delta z\,TE / 2\pi`; NaN where the gradient is.

    Raises
    ------
    ModelInputError
        If the thickness is not positive.

    Examples
    --------
    >>> gradient_turns(100e-6, slice_thickness=3e-3, echo_times=[0.03]).round(3)
    array([0.383])
    """
    if not slice_thickness > 0:
        msg = f'slice_thickness must be positive (m), got {slice_thickness}'
        raise ModelInputError(msg)
    size = GYROMAGNETIC_RATIO / TURN * slice_thickness * np.abs(np.asarray(gradient, float))
    return np.asarray(size[..., None] * np.asarray(echo_times, float))


def edge_attenuation(turns: ArrayLike, edge: float) -> FloatArray:
    """
    Give the signal that slices with blurred edges keep.

    Parameters
    ----------
    turns : (...) array_like
        Of the phase over the slice thickness.
    edge : float
        Variance of the blur, squared slice thicknesses.

    Returns
    -------
    attenuation : (...) ndarray of float64
        Transform of a rectangle blurred by a normal distribution.

    Examples
    --------
    >>> edge_attenuation([0.0, 0.5], 0.0256).round(3)
    array([1.   , 0.561])
    """
    turns = np.asarray(turns, float)
    return np.asarray(np.abs(np.sinc(turns)) * np.exp(-2 * edge * (np.pi * turns) ** 2))


def is_outside_kspace(
    gradient: ArrayLike, *, voxel_size: float, echo_times: ArrayLike
) -> BoolArray:
    r"""
    Tell which echoes a gradient in the plane has pushed out of the k-space that was acquired.

    Parameters
    ----------
    gradient : (...) array_like
        Along one axis of the plane, T/m, either sign. NaN (unknown) counts as none.
    voxel_size : float
        Along that axis, m; positive.
    echo_times : (E,) array_like
        Since excitation, s.

    Returns
    -------
    is_outside : (..., E) ndarray of bool
        Where the echo lies within a tenth of a turn per voxel of the edge of k-space, or beyond.

    Raises
    ------
    ModelInputError
        If the size is not positive.

    Notes
    -----
    In a sampled plane a uniform object loses nothing to a gradient: its echo moves in k-space, by
    :math:`\gamma G\,TE / 2\pi`, and is gone when it has moved by half a turn per voxel. The rim
    holds what the finer detail of the object loses before. Images interpolated by the scanner
    have lost their echo earlier than this says.

    Examples
    --------
    >>> is_outside_kspace(80e-6, voxel_size=4e-3, echo_times=[0.01, 0.02, 0.03, 0.06])
    array([False, False,  True,  True])
    """
    if not voxel_size > 0:
        msg = f'voxel_size must be positive (m), got {voxel_size}'
        raise ModelInputError(msg)
    known = np.nan_to_num(np.asarray(gradient, float))[..., None]
    moved = GYROMAGNETIC_RATIO / TURN * voxel_size * np.abs(known) * np.asarray(echo_times, float)
    return np.asarray(moved > KSPACE_EDGE)


def _before_dephasing(magnitude: FloatArray) -> FloatArray:
    """
    Silence the echoes (V, E) from the first on that has lost nearly all signal.

    A gradient that dephases a slice turns the sign of what comes after the first zero: half a
    turn that no field has made.
    """
    peak = magnitude.max(axis=1, keepdims=True)
    gone = np.logical_or.accumulate(magnitude < DEPHASED * peak, axis=1)
    gone[:, :MINIMUM_ECHOES] = False
    return np.where(gone, 0.0, magnitude)


def _neighbour_products(
    magnitude: FloatArray, phase: FloatArray, times: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """
    Average the products of neighbouring echoes, (V,), that start at an even and at an odd echo.

    Returns
    -------
    first, second : (V,) ndarray of complex
        Each stands for the other where that is 0; both are 0 without a pair.
    spacing : float
        Of the echoes, s.
    """
    spacings = np.diff(times)
    spacing = spacings[spacings > 0].min()
    pairs = np.flatnonzero(np.isclose(spacings, spacing, rtol=SPACING_TOLERANCE, atol=0))
    products = np.zeros((2, len(phase)), complex)
    for pair in pairs:
        weight = magnitude[:, pair] * magnitude[:, pair + 1]
        products[pair % 2] += weight * np.exp(1j * (phase[:, pair + 1] - phase[:, pair]))
    first, second = np.where(products != 0, products, products[::-1])
    return first, second, float(spacings[pairs].mean())


def _without_wraps(wrapped: FloatArray, mask: BoolArray) -> FloatArray:
    """Unwrap a phase (V,) in space; the median of each connected part is near 0."""
    image = np.zeros(mask.shape)
    image[mask] = wrapped
    return np.asarray(_remove_turns(_unwrap(image, mask), mask)[mask])


def _refine(
    magnitude: FloatArray, phase: FloatArray, times: FloatArray, field: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit a line to the phases that a field (V,) in Hz leaves; give its change and variance."""
    left = np.exp(1j * (phase - TURN * field[:, None] * times))
    centre = np.einsum('ve,ve->v', magnitude**2, left)
    left = np.angle(left * centre.conj()[:, None])
    columns: list[FloatArray] = [np.ones(len(times)), np.asarray(TURN * times)]
    if len(times) >= ALTERNATING_FROM:
        columns.append(np.asarray((-1.0) ** np.arange(len(times)), float))
    design = np.stack(columns, axis=1)
    weight = magnitude**2
    n_used = (weight > 0).sum(axis=1)
    # with few echoes left in a voxel the alternating term is held at zero by a strong ridge
    ridge = np.zeros((len(weight), len(columns)))
    ridge[:, 2:] = np.where(n_used < ALTERNATING_FROM, HOLDING_RIDGE, 0.0)[:, None]
    curvature = np.einsum('ve,ep,eq->vpq', weight, design, design)
    diagonal = np.einsum('vpp->vp', curvature)
    scale = np.sqrt(diagonal)
    diagonal += ridge * diagonal + SMALLEST_RIDGE * diagonal
    curvature /= scale[:, :, None] * scale[:, None, :]
    inverse = np.linalg.inv(curvature) / (scale[:, :, None] * scale[:, None, :])
    gradient = np.einsum('ve,ve,ep->vp', weight, left, design)
    parameters = np.einsum('vpq,vq->vp', inverse, gradient)
    residual = left - parameters @ design.T
    n_free = np.where(n_used < ALTERNATING_FROM, 2, len(columns))
    dof = np.maximum(n_used - n_free, 1)
    noise, _ = pool_variance(np.einsum('ve,ve->v', weight, residual**2) / dof, dof)
    return parameters[:, 1], inverse[:, 1, 1] * noise


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
