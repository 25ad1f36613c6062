"""Defects of a bolus series that would make its blood volume wrong, each with a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    ABSURD_SHARE,
    ABSURD_Z,
    BOLUS_MOTION,
    CLIPPED_SHARE,
    CLIPPED_VOLUMES,
    MOTION_MINIMUM_STRUCTURE,
    MOTION_MINIMUM_VOXELS,
    ONE_SIDED_RATIO,
    ROBUST_FLOOR,
    ROBUST_ITERATIONS,
    ROTATION_RADIUS,
)
from bids_app.models.status import is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.models.dsc.relative_cbv import BolusAreas, BolusWindow

NAMES = ('truncated', 'clipped', 'one-sided', 'motion', 'absurd')
"""Defects that can be accepted; a missing bolus cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BolusDefect:
    """One defect: its name, one of :data:`NAMES`, and a sentence with the numbers."""

    name: str
    message: str


def find_bolus_defects(
    signal: ArrayLike,
    areas: BolusAreas,
    *,
    brain: ArrayLike,
    right: ArrayLike,
    motion: ArrayLike,
) -> tuple[BolusDefect, ...]:
    """
    Find what would make the blood volume of a series wrong although it has a bolus.

    Parameters
    ----------
    signal : (V, T) array_like
        As measured, any unit.
    areas : BolusAreas
        Made from it.
    brain : (V,) array_like of bool
        Voxels that are judged.
    right : (V,) array_like of bool
        Which of them lie in one half of the brain.
    motion : (T,) array_like
        Displacement of the head at each volume, mm, from :func:`estimate_motion`.

    Returns
    -------
    defects : tuple of BolusDefect
        In the order of :data:`NAMES`; empty for a sound series.

    Raises
    ------
    ModelInputError
        If no voxel of the brain has an estimate.
    """
    signal, brain = np.asarray(signal, float), np.asarray(brain, bool)
    seen = brain & ~is_missing(areas.relative_cbv.status)
    if not seen.any():
        msg = 'no voxel of the brain has a bolus curve'
        raise ModelInputError(msg)
    checks = (
        ('truncated', _truncated(areas)),
        ('clipped', _clipped(signal[brain])),
        ('one-sided', _one_sided(areas, seen, np.asarray(right, bool))),
        ('motion', _moved(np.asarray(motion, float), areas)),
        ('absurd', _absurd(areas, brain, seen)),
    )
    return tuple(BolusDefect(name=name, message=text) for name, text in checks if text)


def motion_fields(image: ArrayLike, mask: ArrayLike, *, zooms: ArrayLike) -> FloatArray:
    """
    Give how the signal of every voxel changes with each movement of the head.

    Parameters
    ----------
    image : (X, Y, Z) array_like
        Mean image before the bolus.
    mask : (X, Y, Z) array_like of bool
        V voxels.
    zooms : (3,) array_like
        Voxel size, mm.

    Returns
    -------
    fields : (V, 6) ndarray
        Derivatives by shifts along the axes of the image (per mm) and by turns about them
        through the centre of the mask (per rad).
    """
    mask, zooms = np.asarray(mask, bool), np.asarray(zooms, float)
    slope = np.stack(
        [part[mask] for part in np.gradient(np.asarray(image, float), *zooms)], axis=-1
    )
    position = np.argwhere(mask) * zooms
    turn = np.cross(position - position.mean(axis=0), slope)
    fields: FloatArray = -np.concatenate([slope, turn], axis=1)
    return fields


def estimate_motion(
    signal: ArrayLike,
    *,
    fields: ArrayLike,
    level: ArrayLike,
    area: ArrayLike,
    window: BolusWindow,
) -> FloatArray:
    r"""
    Estimate how far the head is from its place before the bolus, without resampling.

    Parameters
    ----------
    signal : (V, T) array_like
        As measured; voxels with a value that is not finite are left out.
    fields : (V, 6) array_like
        From :func:`motion_fields`, in the unit of the signal.
    level : (V,) array_like
        Mean signal before the bolus.
    area : (V,) array_like
        Area of the first pass: the pattern of the bolus itself.
    window : BolusWindow
        Baseline and first pass.

    Returns
    -------
    displacement : (T,) ndarray
        Shift of the centre plus turn times 50 mm, relative to the median of the baseline, mm;
        NaN with fewer than 1500 voxels (a slab or a patch cannot show it).

    Notes
    -----
    Least squares, for every volume, of the change of the signal on its spatial derivatives (which
    the bolus lowers as it lowers the mean of all, h(t)), on the pattern of the bolus to second
    order and on a gain:

    .. math:: S(t) - S_0 = h(t) \sum_j m_j(t)\,\partial_j S_0
              + S_0 [b_1(t) A + b_2(t) A^2 + g(t)]

    with the part of A that looks like movement taken out of it, for a movement within the first
    pass changes the area too; what of the movement then follows the course of the mean, linearly
    or squared within the first pass, is contrast and is taken out in turn. Movements for which
    the image has less than a tenth of its structure cannot be seen and count as zero.
    First order in the movement: beyond a voxel it is too small, which is far above the limit.
    """
    curves, areas = np.asarray(signal, float), np.asarray(area, float)
    usable = np.isfinite(curves).all(axis=1) & np.isfinite(areas)
    used, before = curves[usable], np.asarray(level, float)[usable]
    if usable.sum() < MOTION_MINIMUM_VOXELS:
        return np.full(curves.shape[1], np.nan)
    directions = _seen_directions(np.asarray(fields, float)[usable])
    turns = np.repeat([1.0, ROTATION_RADIUS], len(directions) // 2)
    slopes = np.asarray(fields, float)[usable] / turns @ directions
    peak = areas[usable] / (np.max(np.abs(areas[usable]), initial=0) or 1)
    bolus = np.column_stack([before * peak, before * peak**2])
    # what of the area is movement must not hide it
    bolus = bolus - slopes @ np.linalg.lstsq(slopes, bolus, rcond=None)[0]
    design = np.column_stack([slopes, bolus, before])
    fitted = np.linalg.lstsq(design, used - before[:, np.newaxis], rcond=None)[0]
    height = used.mean(axis=0) / before.mean()
    course = np.zeros(len(height))
    during = slice(window.pass_start, window.pass_end)
    course[during] = -np.log(height[during])
    movement = _without_bolus(fitted[: slopes.shape[1]] / height, course)
    still = movement[:, window.baseline_start : window.baseline_end]
    movement = directions @ (movement - np.median(still, axis=1, keepdims=True))
    shift, turn = np.split(movement, 2)
    displacement: FloatArray = np.linalg.norm(shift, axis=0) + np.linalg.norm(turn, axis=0)
    return displacement


def _seen_directions(fields: FloatArray) -> FloatArray:
    """Give the movements (mm; turns at 50 mm) that the image has enough structure to show."""
    scaled = fields / np.repeat([1.0, ROTATION_RADIUS], fields.shape[1] // 2)
    _, size, axes = np.linalg.svd(scaled.T @ scaled)
    seen: FloatArray = axes[np.sqrt(size) > MOTION_MINIMUM_STRUCTURE * np.sqrt(size[0])].T
    return seen


def _without_bolus(movement: FloatArray, course: FloatArray) -> FloatArray:
    """Take out what follows the course of the bolus: contrast, not movement."""
    regressors = np.stack([np.ones_like(course), course, course**2], axis=1)
    cleaned = np.empty_like(movement)
    for row, part in enumerate(movement):
        weight = np.ones_like(part)
        for _ in range(ROBUST_ITERATIONS):  # least absolute deviations: a step is not a bolus
            half = np.sqrt(weight)
            fitted = np.linalg.lstsq(half[:, np.newaxis] * regressors, half * part, rcond=None)[0]
            residual = np.abs(part - regressors @ fitted)
            weight = 1 / np.maximum(residual, ROBUST_FLOOR)
        cleaned[row] = part - regressors[:, 1:] @ fitted[1:]
    return cleaned


def _truncated(areas: BolusAreas) -> str:
    """Tell whether the series ends within the first pass."""
    window = areas.window
    if window.is_complete:
        return ''
    n_volumes = areas.rate_change.shape[1]
    return (
        f'truncated series: it ends after {n_volumes} volumes, within the first pass that '
        f'starts at volume {window.pass_start}'
    )


def _clipped(signal: FloatArray) -> str:
    """Tell whether many voxels sit at one end of the range of values."""
    finite = np.nan_to_num(signal, nan=float(np.nanmedian(signal)))
    for end, value in (('largest', finite.max()), ('smallest', finite.min())):
        share = float(((finite == value).sum(axis=1) >= CLIPPED_VOLUMES).mean())
        if share > CLIPPED_SHARE:
            return (
                f'clipped series: {100 * share:.1f} % of the brain has the {end} value '
                f'({value:g}) in {CLIPPED_VOLUMES} volumes or more'
            )
    return ''


def _one_sided(areas: BolusAreas, seen: BoolArray, right: BoolArray) -> str:
    """Tell whether one half of the brain has much less of a bolus than the other."""
    medians = []
    for half in (right, ~right):
        found = areas.relative_cbv.value[seen & half]
        medians.append(float(np.median(found)) if found.size else np.nan)
    low, high = sorted(medians)
    if not high > 0 or not low < ONE_SIDED_RATIO * high:
        return ''
    side = 'right' if medians[0] == low else 'left'
    return (
        f'one-sided map: the median area in the {side} half of the brain is '
        f'{100 * low / high:.0f} % of that in the other'
    )


def _moved(motion: FloatArray, areas: BolusAreas) -> str:
    """Tell whether the head moved between the baseline and the end of the first pass."""
    window = areas.window
    during = motion[window.pass_start : window.pass_end]
    if not during.size or not during.max() > BOLUS_MOTION:
        return ''
    volume = window.pass_start + int(during.argmax())
    return (
        f'motion at the bolus: the head is {during.max():.1f} mm from its place before the bolus '
        f'at volume {volume}, more than {BOLUS_MOTION:g} mm; movement within the series is not '
        'corrected'
    )


def _absurd(areas: BolusAreas, brain: BoolArray, seen: BoolArray) -> str:
    """Tell whether curves are negative, or absent, in much of the brain."""
    relative = areas.relative_cbv
    negative = float(np.mean(relative.value[seen] < -ABSURD_Z * np.sqrt(relative.variance[seen])))
    if negative > ABSURD_SHARE:
        return (
            f'absurd curves: in {100 * negative:.0f} % of the brain the signal rises under the '
            'bolus'
        )
    lost = 1.0 - float(seen.sum() / brain.sum())
    if lost > 2 * ABSURD_SHARE:
        return f'absurd curves: {100 * lost:.0f} % of the brain has no usable signal'
    return ''
