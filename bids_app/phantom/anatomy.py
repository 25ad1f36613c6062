"""A participant's head on a fine grid: tissues, regions, smooth variation, background field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import nibabel as nb
import numpy as np
from scipy import ndimage

from bids_app.phantom import physics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bids_app._typing import BoolArray, FloatArray

TISSUES = ('GM', 'WM', 'CSF', 'other')
"""Order of the last axis of every fraction; other = skull, scalp, neck."""

CHANNELS = (*TISSUES, 'r2', 'cbf', 'cbv', 'oef', 'texture')
"""Maps on the fine grid: fractions, factors of grey-matter values, T1w texture."""

NULL_REGION = 5
"""Grey matter in which nothing changes; 0 is everything else."""

REGION_CENTRES: dict[int, tuple[tuple[float, float, float, float], ...]] = {
    1: ((-38.0, 28.0, 30.0, 27.0), (38.0, 28.0, 30.0, 27.0)),
    2: ((-42.0, -50.0, 44.0, 27.0), (42.0, -50.0, 44.0, 27.0)),
    3: ((0.0, -86.0, 4.0, 36.0),),
    4: ((-56.0, -18.0, -4.0, 26.0), (56.0, -18.0, -4.0, 26.0)),
}
"""Spheres in template space (x, y, z, radius, mm) whose grey matter is a region."""

SHARPNESS = 4.0
"""Exponent that turns the blurred group averages of the template into one person's tissue."""

SHEETS = 24
"""Plane waves whose sum is zero along the sulci."""

SULCUS_SPACING = 15.0
"""Mean distance between sulci, mm."""

SULCUS_HALF_WIDTH = 0.5
"""Half of the fluid between two banks, mm."""

SULCUS_DEPTH, DEPTH_SPREAD = 14.0, 2.0
"""Mean and SD of how deep a sulcus reaches below the surface of the brain, mm."""

THICKNESS, THICKNESS_SPREAD = 3.0, 0.5
"""Mean and SD of the cortex, mm; at most two SD from the mean, so 2 to 4 mm."""

EDGE = 1.0
"""mm over which one tissue turns into the next."""

FOLDED_DEPTH = (16.0, 21.0)
"""Depth below the surface over which folded cortex gives way to the template's deep tissue, mm."""

FOLDED_HEIGHT = (-30.0, -20.0)
"""Height in template space over which it gives way to the template's cerebellum and stem, mm."""

AIR_HAZE = 0.12
"""Intensity of the air around the template's head, relative to white matter."""

VARIATION = {'r2': 0.02, 'cbf': 0.08, 'cbv': 0.05, 'oef': 0.04}
"""Relative SD of the smooth variation of grey-matter values over the brain."""

POINTS_PER_CHUNK = 50_000
"""Points at which waves are summed at once."""

MAX_IN_PLANE = 1.5e-6
"""T/m that the dipole sources may reach across the slab, before any turn of the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Parameters of the field of sources outside the brain."""

    base: float
    """Height of the lower end of the brain, mm."""
    gradient: float
    """Axial gradient there, T/m."""
    length: float
    """mm over which it falls to 1/e."""
    dipoles: FloatArray
    """(D, 4): position (mm) and moment (T mm^3)."""

    def field(self, position: FloatArray) -> FloatArray:
        """Field offset at head positions (..., 3) in mm, T."""
        return physics.background_field(
            position,
            base=self.base,
            gradient=self.gradient,
            length=self.length,
            dipoles=self.dipoles,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """The anatomy at P points."""

    fractions: FloatArray
    """(P, 4) in the order of TISSUES; their sum is below 1 where there is air."""
    region: NDArray[np.uint8]
    """(P,) 1-4, 5 = null, 0 = outside."""
    factors: dict[str, FloatArray]
    """(P,) factors of grey-matter values (r2, cbf, cbv, oef) and the texture."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Maps on a fine grid in the world of the participant's T1w image."""

    affine: FloatArray
    """Voxel to world, RAS mm."""
    maps: NDArray[np.float32]
    """(X, Y, Z, C) in the order of CHANNELS."""
    region: NDArray[np.uint8]
    """(X, Y, Z)"""
    to_template: FloatArray | None
    """World to template world (4, 4), where it is affine; else None."""
    background: Background

    @cached_property
    def brain(self) -> BoolArray:
        """Voxels at least half full of brain, (X, Y, Z)."""
        return np.asarray(self.maps[..., :3].sum(-1) > 0.5)

    @cached_property
    def head(self) -> BoolArray:
        """Voxels within reach of any tissue, (X, Y, Z)."""
        inside = self.maps[..., :4].sum(-1) > 0.05
        spacing = float(self.affine[0, 0])
        reach = max(1, round(6.0 / spacing))
        return np.asarray(ndimage.binary_dilation(inside, iterations=reach))

    def sample(self, position: FloatArray) -> Tissue:
        """
        Interpolate the anatomy linearly.

        Parameters
        ----------
        position : (P, 3) ndarray
            World, mm; outside the grid there is air.

        Returns
        -------
        tissue : Tissue
            At these points.
        """
        voxel = (position - self.affine[:3, 3]) / np.diag(self.affine)[:3]
        values = _trilinear(self.maps, voxel)
        names = {name: values[:, i] for i, name in enumerate(CHANNELS) if i >= len(TISSUES)}
        return Tissue(values[:, : len(TISSUES)], _nearest(self.region, voxel), names)

    def is_head(self, position: FloatArray) -> BoolArray:
        """Tell which world positions (P, 3), mm, may hold tissue within some millimetres."""
        voxel = (position - self.affine[:3, 3]) / np.diag(self.affine)[:3]
        return _nearest(self.head, voxel).astype(bool)


def _trilinear(maps: NDArray[np.float32], voxel: FloatArray) -> FloatArray:
    """Interpolate (X, Y, Z, C) maps at (P, 3) voxel positions; zero outside."""
    shape = np.array(maps.shape[:3])
    inside = np.all((voxel >= 0) & (voxel <= shape - 1), axis=1)
    voxel = np.where(inside[:, None], voxel, 0)
    low = np.minimum(voxel.astype(np.int64), shape - 2)
    fraction = (voxel - low).astype(np.float32)
    flat = maps.reshape(-1, maps.shape[3])
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    start = low @ strides
    values = np.zeros((len(voxel), maps.shape[3]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = inside.astype(np.float32)
        for axis, upper in enumerate(corner):
            weight *= fraction[:, axis] if upper else 1 - fraction[:, axis]
        part = flat.take(start + int(np.dot(corner, strides)), axis=0)
        part *= weight[:, None]
        values += part
    return values.astype(np.float64)


def _nearest(labels: NDArray[np.generic], voxel: FloatArray) -> NDArray[np.uint8]:
    """Look labels up at (P, 3) voxel positions; zero outside."""
    index = np.rint(voxel).astype(np.int64)
    inside = np.all((index >= 0) & (index < labels.shape), axis=1)
    index[~inside] = 0
    return np.where(inside, labels[tuple(index.T)], 0).astype(np.uint8)


TERRITORY = (1, 4)
"""Regions whose part in one hemisphere is the territory that a disease changes."""


def change_territory(anatomy: Anatomy, factor: float, side: str = 'left') -> None:
    """Multiply OEF of grey matter in the part of two regions on one side."""
    from_middle = np.arange(anatomy.region.shape[0]) - (anatomy.region.shape[0] - 1) / 2
    is_there = (from_middle < 0 if side == 'left' else from_middle > 0)[:, None, None]
    anatomy.maps[np.isin(anatomy.region, TERRITORY) & is_there, CHANNELS.index('oef')] *= factor


def make_head(
    rng: np.random.Generator,
    *,
    spacing: float,
    axial_gradient: float = 40e-6,
    size: float = 1.0,
    atrophy: float = 0.0,
) -> Anatomy:
    """
    Deform the packaged template into a participant's head.

    Parameters
    ----------
    rng : numpy.random.Generator
        Makes this participant.
    spacing : float
        Of the fine grid, mm; the head is the same for every spacing.
    axial_gradient : float
        Background gradient at the base of the brain, T/m.
    size : float
        Of the head, its length over that of an adult.
    atrophy : float
        How far fluid has moved the surface of the brain and the walls of its ventricles, mm.

    Returns
    -------
    anatomy : Anatomy
        Size and pose of the head, a smooth displacement of some millimetres, sharpened deep
        tissue, and a cortex of 2 to 4 mm that is folded round sulci full of fluid.
    """
    extent = np.array([192.0, 232.0, 196.0])
    origin = np.array([-96.0, -132.0, -80.0])
    shape = tuple(int(n) for n in np.round(extent / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    template_position = _deformed(rng, shape, affine, size=size)

    # channels are filled one by one: the study grid has 9 million points
    maps = np.empty((*shape, len(CHANNELS)), np.float32)
    texture = _template('T1w', template_position)
    brain = _template('desc-brain_mask', template_position)
    power = np.stack(
        [_template(f'label-{name}_probseg', template_position) for name in TISSUES[:3]], axis=-1
    )
    power = np.maximum(power, 1e-4) ** SHARPNESS
    maps[..., :3] = power / power.sum(-1, keepdims=True) * brain[..., None]
    _fold(rng, maps, affine, template_position, atrophy)
    maps[..., 3] = (1 - brain) * np.clip(texture - AIR_HAZE, 0, 1.2)
    maps[..., CHANNELS.index('texture')] = np.clip(texture - AIR_HAZE, 0, 1.5)
    _vary(rng, maps, affine)

    region = np.where(maps[..., 0] > 0.5, NULL_REGION, 0).astype(np.uint8)
    for index, spheres in REGION_CENTRES.items():
        for *centre, radius in spheres:
            distance = np.linalg.norm(template_position - np.array(centre), axis=-1)
            # fractions are sharp, so a region may reach into white matter: it has no effect there
            region[(distance < radius) & (brain > 0.5)] = index
    background = _background(maps[..., :3].sum(-1) > 0.5, affine, axial_gradient)
    return Anatomy(affine, maps, region, None, background)


def make_slab(
    rng: np.random.Generator, *, centre: tuple[float, float, float], size: tuple[float, ...]
) -> Anatomy:
    """
    Make an idealised slab: white matter inside a ring of cortex, fluid along one side.

    Parameters
    ----------
    rng : numpy.random.Generator
        Makes this participant.
    centre : tuple of float
        World and template position of its centre, mm.
    size : tuple of float
        Edge lengths, mm.

    Returns
    -------
    anatomy : Anatomy
        Template space and world are the same. The four regions are the quadrants of the cortex
        in the lower two thirds, the null region lies above.
    """
    margin = 4
    half = np.array(size) / 2
    n_points = np.ceil(2 * half).astype(int) + 2 * margin + 1
    affine = np.eye(4)
    affine[:3, 3] = np.array(centre) - (n_points - 1) / 2
    axes = [np.arange(n) - (n - 1) / 2 for n in n_points]
    x, y, z = np.meshgrid(*axes, indexing='ij')

    maps = np.zeros((*n_points, len(CHANNELS)), np.float32)
    core = np.maximum(np.abs(x) - half[0] / 2, np.abs(y) - half[1] / 2)
    fluid = np.clip(y - (half[1] - 2.0) + 0.5, 0, 1)
    white = np.clip(0.5 - core, 0, 1)
    maps[..., 0] = (1 - white) * (1 - fluid)
    maps[..., 1] = white
    maps[..., 2] = (1 - white) * fluid
    maps[..., CHANNELS.index('texture')] = maps[..., :3] @ np.array([0.62, 1.0, 0.22])
    _vary(rng, maps, affine)

    quadrant = 1 + (x > 0) + 2 * (y > 0)
    lower = z < -half[2] + 4 * half[2] / 3
    region = np.where(lower, quadrant, NULL_REGION).astype(np.uint8)
    background = Background(
        base=float(centre[2] - half[2]),
        gradient=15e-6,
        length=38.0,
        dipoles=np.zeros((0, 4)),
    )
    return Anatomy(affine, maps, region, np.eye(4), background)


def _deformed(
    rng: np.random.Generator, shape: tuple[int, ...], affine: FloatArray, *, size: float = 1.0
) -> FloatArray:
    """Template position of every point of a grid: pose, size and a smooth displacement."""
    angles = rng.normal(0, 2.5, 3)
    scale = np.diag(1 + rng.normal(0, 0.03, 3)) / size
    shift = rng.normal(0, 3.0, 3)
    matrix = rotation(angles) @ scale
    axes = [affine[i, 3] + affine[i, i] * np.arange(shape[i]) for i in range(3)]
    position = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
    target = position @ matrix.T + shift
    for axis in range(3):
        target[..., axis] += 2.5 * smooth_field(rng, axes, length=32.0)
    return np.asarray(target)


def _fold(
    rng: np.random.Generator,
    maps: NDArray[np.float32],
    affine: FloatArray,
    template_position: FloatArray,
    atrophy: float,
) -> None:
    """
    Put a folded cortex in place of the blurred one of the template, in place.

    Sulci lie where a sum of plane waves is zero, as deep as a smooth field says, and along the
    fluid of the template; the cortex follows them at its thickness, white matter fills the rest.
    Atrophy moves every surface of fluid, that of the ventricles too, by its length.
    """
    axes = [affine[i, 3] + affine[i, i] * np.arange(maps.shape[i]) for i in range(3)]
    depth = SULCUS_DEPTH + DEPTH_SPREAD * np.clip(smooth_field(rng, axes, length=30.0), -2, 2)
    thick = THICKNESS + THICKNESS_SPREAD * np.clip(smooth_field(rng, axes, length=20.0), -2, 2)
    direction = rng.normal(size=(SHEETS, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    waves = direction * (math.pi / SULCUS_SPACING * rng.uniform(0.8, 1.25, (SHEETS, 1)))
    phases = rng.uniform(0, 2 * math.pi, SHEETS)

    below_skull, from_fluid = _template_depths()
    deep = _sampled(below_skull, template_position)
    if atrophy:
        solid = np.clip(0.5 + (_sampled(from_fluid, template_position) - atrophy) / EDGE, 0, 1)
        lost = maps[..., :2] * (1 - solid)[..., None]
        maps[..., :2] -= lost
        maps[..., 2] += lost.sum(-1)
    share = 1 - _ramp(deep, *FOLDED_DEPTH)
    share *= _ramp(template_position[..., 2], *FOLDED_HEIGHT)
    # the sheath of the brain keeps the fraction that the template gives it
    brain = maps[..., :3].sum(-1)
    zone = (share > 0) & (brain > 0)
    index = np.argwhere(zone)
    position = index * np.diag(affine)[:3] + affine[:3, 3]
    slit = _distance_to_sheets(position, waves, phases) - SULCUS_HALF_WIDTH - atrophy
    slit = np.maximum(slit, deep[zone] - depth[zone])
    pia = np.minimum(_sampled(from_fluid, template_position[zone]) - atrophy, slit)
    solid, white = (np.clip(0.5 + x / EDGE, 0, 1) for x in (pia, pia - thick[zone]))
    folded = np.stack([solid - white, white, 1 - solid], axis=-1)
    weight = share[zone][:, None]
    maps[zone, :3] = (1 - weight) * maps[zone, :3] + weight * folded * brain[zone][:, None]


def _distance_to_sheets(position: FloatArray, waves: FloatArray, phases: FloatArray) -> FloatArray:
    """First-order distance of points (P, 3) to where the sum of the waves is zero, mm."""
    distance = np.empty(len(position))
    for start in range(0, len(position), POINTS_PER_CHUNK):
        part = slice(start, start + POINTS_PER_CHUNK)
        phase = position[part] @ waves.T + phases
        slope = np.linalg.norm(np.cos(phase) @ waves, axis=1)
        # where the sum is flat there is no sheet near
        distance[part] = np.abs(np.sin(phase).sum(axis=1)) / np.maximum(slope, 0.1)
    return distance


def _template_depths() -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Depth below the surface of the template's brain, and distance from its fluid, mm."""
    brain, affine = _packaged('desc-brain_mask')
    fluid, grey, white = (_packaged(f'label-{n}_probseg')[0] for n in ('CSF', 'GM', 'WM'))
    solid = (brain > 0.5) & (fluid < np.maximum(grey, white))
    spacing = float(abs(affine[0, 0]))
    depths = (
        spacing * (ndimage.distance_transform_edt(part) - ndimage.distance_transform_edt(~part))
        for part in (brain > 0.5, solid)
    )
    return tuple((np.asarray(depth, float), affine) for depth in depths)  # type: ignore[return-value]


def _ramp(values: FloatArray, low: float, high: float) -> FloatArray:
    """Rise from 0 to 1 between two values."""
    return np.clip((values - low) / (high - low), 0, 1)


def _vary(rng: np.random.Generator, maps: NDArray[np.float32], affine: FloatArray) -> None:
    """Fill the channels of smooth grey-matter variation."""
    axes = [affine[i, 3] + affine[i, i] * np.arange(maps.shape[i]) for i in range(3)]
    for name, spread in VARIATION.items():
        field = np.clip(smooth_field(rng, axes, length=24.0), -2, 2)
        maps[..., CHANNELS.index(name)] = 1 + spread * field


def smooth_field(rng: np.random.Generator, axes: list[FloatArray], *, length: float) -> FloatArray:
    """
    Draw a smooth random field of about unit variance.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the randomness comes from; the same for every spacing of the grid.
    axes : list of three (N,) ndarray
        Positions along each axis, mm, within 300 mm of the origin.
    length : float
        Distance of its knots, mm.

    Returns
    -------
    field : (X, Y, Z) ndarray
        Dimensionless.
    """
    n_knots = int(600 / length) + 4
    knots = rng.standard_normal((n_knots, n_knots, n_knots))
    x, y, z = (_spline_weights((axis + 300) / length, n_knots) for axis in axes)
    field = np.einsum('xa,abc->xbc', x, knots)
    field = np.einsum('yb,xbc->xyc', y, field)
    return np.asarray(np.einsum('zc,xyc->xyz', z, field) / 0.33)


def _spline_weights(position: FloatArray, n_knots: int) -> FloatArray:
    """Cubic B-spline basis (N, K) at positions in units of the knot distance."""
    distance = np.abs(position[:, None] - np.arange(n_knots)[None] + 1)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far)


def rotation(degrees: FloatArray) -> FloatArray:
    """Rotation matrix about x, then y, then z."""
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def random_rigid(rng: np.random.Generator, *, degrees: float, millimetres: float) -> FloatArray:
    """Draw a rigid transform (4, 4) with uniform angles and shifts up to the given size."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(rng.uniform(-degrees, degrees, 3))
    matrix[:3, 3] = rng.uniform(-millimetres, millimetres, 3)
    return matrix


def _template(name: str, position: FloatArray) -> FloatArray:
    """Sample a packaged template map linearly; probabilities and texture reach about 1."""
    data, affine = _packaged(name)
    if name == 'T1w':
        brain, _ = _packaged('desc-brain_mask')
        top = float(np.percentile(data[brain > 0.5], 95))
    else:
        top = max(1.0, float(data.max()))
    return _sampled((data / top, affine), position)


def _sampled(image: tuple[NDArray[Any], FloatArray], position: FloatArray) -> FloatArray:
    """Interpolate an image with its affine linearly at positions (..., 3), mm; zero outside."""
    data, affine = image
    to_voxel = np.linalg.inv(affine)
    voxel = position @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    return np.asarray(
        ndimage.map_coordinates(data, np.moveaxis(voxel, -1, 0), order=1, mode='constant')
    )


def _packaged(name: str) -> tuple[NDArray[np.float32], FloatArray]:
    """Read a packaged template map and its affine."""
    source = files('bids_app') / 'data' / 'templates' / f'tpl-MNI152NLin6Asym_res-02_{name}.nii.gz'
    with as_file(source) as path:
        image: Any = nb.load(path)
        return np.asarray(image.get_fdata(), np.float32), np.asarray(image.affine, float)


def _background(brain: BoolArray, affine: FloatArray, gradient: float) -> Background:
    """Put sources in front of and beside the base of a brain, within the in-plane limit."""
    inside = np.argwhere(brain)[:: max(1, int(brain.sum() / 20000))]
    position = inside * np.diag(affine)[:3] + affine[:3, 3]
    low, high = np.percentile(position, [1, 99], axis=0)
    middle = (low + high) / 2
    dipoles = np.array(
        [
            [middle[0], high[1] + 25, low[2] - 10, 1.0],
            [low[0] - 25, middle[1], low[2] - 10, 0.6],
            [high[0] + 25, middle[1], low[2] - 10, 0.6],
        ]
    )
    unit = Background(base=float(low[2]), gradient=0.0, length=38.0, dipoles=dipoles)
    step = 1.0
    slopes = [
        unit.field(position + step * np.eye(3)[axis]) - unit.field(position) for axis in (0, 1)
    ]
    steepest = np.max(np.hypot(*slopes)) * 1000 / step
    dipoles[:, 3] *= MAX_IN_PLANE / steepest
    return Background(base=float(low[2]), gradient=gradient, length=38.0, dipoles=dipoles)
