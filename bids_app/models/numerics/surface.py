"""Maps on the cortical surface: which voxels a vertex is made of, with which weights."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from bids_app.errors import ModelInputError
from bids_app.models.constants import CORTEX_DEPTHS, LEAST_CORTEX, LEAST_ROUND
from bids_app.models.estimate import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray

CANDIDATES = (8, 32, 128)
"""Faces nearest to a point that are tried, in turn, until one holds it."""


class Parcels(NamedTuple):
    """Means over parcels of both hemispheres; one entry per parcel."""

    mean: FloatArray
    se: FloatArray
    n_vertices: IntArray
    coverage: FloatArray


def cortex_points(white: ArrayLike, pial: ArrayLike, n_depths: int = CORTEX_DEPTHS) -> FloatArray:
    """
    Place points through the thickness of the cortex, from white matter to the surface.

    Parameters
    ----------
    white, pial : (N, 3) array_like
        Inner and outer end of every vertex, mm.
    n_depths : int
        Points per vertex, in the middle of layers of equal thickness.

    Returns
    -------
    points : (N, D, 3) ndarray
        mm.

    Raises
    ------
    ModelInputError
        If the meshes have other vertices.

    Examples
    --------
    >>> cortex_points([[0, 0, 0]], [[0, 0, 4]], 2)[0, :, 2]
    array([1., 3.])
    """
    white, pial = np.asarray(white, float), np.asarray(pial, float)
    if white.shape != pial.shape or white.ndim != 2 or white.shape[1] != 3:
        msg = (
            f'white and pial must be (N, 3) of the same vertices, got {white.shape}, {pial.shape}'
        )
        raise ModelInputError(msg)
    depth = (2 * np.arange(n_depths)[:, None] + 1) / (2 * n_depths)
    return np.asarray(white[:, None] + depth * (pial - white)[:, None])


def voxel_weights(points: ArrayLike, tissue: ArrayLike) -> sparse.csr_array:
    """
    Weigh the voxels that the points of each vertex lie in.

    Parameters
    ----------
    points : (N, D, 3) array_like
        Voxel coordinates.
    tissue : (X, Y, Z) array_like
        Fraction of grey matter of every voxel, in [0, 1]; NaN counts as 0.

    Returns
    -------
    weights : (N, X * Y * Z) csr_array
        Linear weights of the eight voxels around each point, averaged over the points, times the
        fraction of grey matter: a voxel of white matter or fluid says nothing of cortex. They add
        up to the fraction of grey matter that the vertex sees, at most 1.

    Examples
    --------
    >>> voxel_weights([[[0, 0, 0.25]]], [[[1.0, 0.5]]]).toarray()
    array([[0.75 , 0.125]])
    """
    places = np.asarray(points, float)
    grey: FloatArray = np.nan_to_num(np.asarray(tissue, float))
    n, depths = places.shape[:2]
    low = np.floor(places).astype(np.int64)
    fraction = places - low
    rows, columns, values = [], [], []
    for upper in product((0, 1), repeat=3):
        index = low + np.array(upper)
        weight = np.where(np.array(upper), fraction, 1 - fraction).prod(axis=-1) / depths
        inside = ((index >= 0) & (index < grey.shape)).all(axis=-1) & (weight > 0)
        place = np.ravel_multi_index(tuple(index[inside].T), grey.shape)
        rows.append(np.nonzero(inside)[0])
        columns.append(place)
        values.append(weight[inside] * grey.ravel()[place])
    shape = (n, grey.size)
    coordinates = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(sparse.coo_array((np.concatenate(values), coordinates), shape=shape))


def sphere_weights(sphere: ArrayLike, faces: ArrayLike, targets: ArrayLike) -> sparse.csr_array:
    """
    Interpolate from the vertices of one sphere to points of another: barycentric weights.

    Parameters
    ----------
    sphere : (N, 3) array_like
        Vertices of a person's sphere, registered to the sphere of the template.
    faces : (F, 3) array_like of int
        Its triangles.
    targets : (M, 3) array_like
        Vertices of the sphere of the template; its radius may be another.

    Returns
    -------
    weights : (M, N) csr_array
        Three per row, not negative, that add up to 1: of the triangle that the point's ray
        passes through (of the nearest one where none of the nearest is passed).

    Raises
    ------
    ModelInputError
        If a mesh is no sphere about the origin.
    """
    sphere, targets = _on_unit_sphere(sphere), _on_unit_sphere(targets)
    faces = np.asarray(faces, np.int64)
    corners = sphere[faces]
    tree = cKDTree(corners.mean(axis=1))
    chosen = np.full(len(targets), -1)
    weights = np.zeros((len(targets), faces.shape[1]))
    least = np.full(len(targets), -np.inf)
    left = np.arange(len(targets))
    for n_tried in CANDIDATES:
        _, near = tree.query(targets[left], k=min(n_tried, len(faces)))
        near = near.reshape(len(left), -1)
        for rank in range(near.shape[1]):
            face = near[:, rank]
            found = _barycentric(corners[face], targets[left])
            lowest = found.min(axis=1)
            better = lowest > least[left]
            at = left[better]
            chosen[at], weights[at], least[at] = face[better], found[better], lowest[better]
        left = left[least[left] < -np.finfo(np.float32).eps]
        if not left.size:
            break
    weights = np.clip(weights, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(targets)), faces.shape[1])
    made = (weights.ravel(), (rows, faces[chosen].ravel()))
    return sparse.csr_array(sparse.coo_array(made, shape=(len(targets), len(sphere))))


def _on_unit_sphere(points: ArrayLike) -> FloatArray:
    """Bring the vertices of a sphere to radius 1; refuse what is none."""
    points = np.asarray(points, float)
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    if not radius.size or radius.min() < LEAST_ROUND * radius.max():
        found = f'radii of {radius.min():.3g} to {radius.max():.3g} mm' if radius.size else 'none'
        msg = f'vertices of a sphere about the origin expected, found {found}'
        raise ModelInputError(msg)
    return np.asarray(points / radius)


def _barycentric(corners: FloatArray, points: FloatArray) -> FloatArray:
    """Write points as weighted corners, scaled to the plane of the triangle; (N, 3)."""
    first, second, third = np.moveaxis(corners, 1, 0)
    volumes = np.stack(
        [
            _triple(points, second, third),
            _triple(first, points, third),
            _triple(first, second, points),
        ],
        axis=1,
    )
    # a triangle on the other side of the sphere has weights that add up to less than 0
    total = volumes.sum(axis=1, keepdims=True) * np.sign(_triple(first, second, third))[:, None]
    with np.errstate(divide='ignore', invalid='ignore'):
        found = volumes / volumes.sum(axis=1, keepdims=True)
    return np.where(np.isfinite(found) & (total > 0), found, -np.inf)


def _triple(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """Triple product of rows."""
    return np.asarray(np.einsum('ni,ni->n', a, np.cross(b, c)))


def vertex_areas(vertices: ArrayLike, faces: ArrayLike) -> FloatArray:
    """
    Share the area of a mesh among its vertices.

    Parameters
    ----------
    vertices : (N, 3) array_like
        mm.
    faces : (F, 3) array_like of int
        Triangles.

    Returns
    -------
    areas : (N,) ndarray
        Equal shares of the triangles around each vertex, mm2.

    Examples
    --------
    >>> vertex_areas([[0, 0, 0], [3, 0, 0], [0, 2, 0]], [[0, 1, 2]])
    array([1., 1., 1.])
    """
    vertices, faces = np.asarray(vertices, float), np.asarray(faces, np.int64)
    n = faces.shape[1]
    first, second, third = (vertices[faces[:, k]] for k in range(n))
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    return np.asarray(np.bincount(faces.ravel(), np.repeat(area / n, n), minlength=len(vertices)))


def sample_surface(weights: sparse.csr_array, value: ArrayLike, variance: ArrayLike) -> Estimate:
    r"""
    Bring a map to the surface, with its variance.

    Parameters
    ----------
    weights : (N, V) csr_array
        Of every vertex, as of :func:`voxel_weights`.
    value, variance : (V,) array_like
        Any unit, and its square; NaN where there is no estimate.

    Returns
    -------
    sampled : (N,) Estimate
        NaN where the voxels with an estimate hold too little grey matter
        (:data:`~bids_app.models.constants.LEAST_CORTEX` of the vertex).

    Notes
    -----
    With the weights w of the voxels that have an estimate

    .. math:: y = \frac{\sum w_k x_k}{\sum w_k}, \qquad
              \operatorname{var}(y) = \frac{\sum w_k^2 \operatorname{var}(x_k)}{(\sum w_k)^2}

    Neighbouring vertices share voxels: their errors are not independent, and means over parcels
    are made by :func:`average_parcels` from the voxels.
    """
    value, variance = np.asarray(value, float), np.asarray(variance, float)
    known = np.isfinite(value) & np.isfinite(variance)
    seen = weights @ known.astype(float)
    there = seen > LEAST_CORTEX
    total = np.where(there, seen, np.nan)
    return Estimate.of(
        (weights @ np.where(known, value, 0.0)) / total,
        (weights.power(2) @ np.where(known, variance, 0.0)) / total**2,
    )


def average_parcels(
    weights: sparse.csr_array,
    value: ArrayLike,
    variance: ArrayLike,
    *,
    areas: ArrayLike,
    labels: ArrayLike,
    indices: ArrayLike,
    voxels_per_sample: float = 1.0,
    shared: float = 0.0,
) -> Parcels:
    r"""
    Average a map over parcels of the surface, with the error that their voxels make.

    Parameters
    ----------
    weights : (N, V) csr_array
        Of every vertex, as of :func:`voxel_weights`.
    value, variance : (V,) array_like
        Any unit, and its square; NaN where there is no estimate.
    areas : (N,) array_like
        Of the vertices, mm2: the weight of a vertex in its parcel.
    labels : (N,) array_like of int
        Parcel of each vertex.
    indices : (K,) array_like of int
        Parcels, each once.
    voxels_per_sample, shared
        As for :func:`bids_app.models.numerics.regions.summarise_regions`.

    Returns
    -------
    parcels : Parcels
        `mean` and `se` in the unit of the map, NaN where no vertex has an estimate; `n_vertices`
        with one; `coverage`, their share of the area, NaN where the parcel is absent.

    Notes
    -----
    A parcel is a sum over voxels, u = sum of area times weight, so that a voxel that many vertices
    see counts once; with errors s, k voxels per sample and the share c of the variance in common

    .. math:: se^2 = \left[(1 - c)\min\left(k \sum u^2 s^2, \left(\sum u s\right)^2\right)
              + c \left(\sum u s\right)^2\right] / \left(\sum a\right)^2
    """
    value, variance = np.asarray(value, float), np.asarray(variance, float)
    areas, index = np.asarray(areas, float), np.asarray(indices, np.int64)
    known: BoolArray = np.isfinite(value) & np.isfinite(variance)
    seen = weights @ known.astype(float)
    there = seen > LEAST_CORTEX
    member = sparse.csr_array(np.asarray(labels)[None, :] == index[:, None], dtype=float)
    weighed = member.multiply(np.where(there, areas, 0.0)[None, :]).tocsr()
    area = np.asarray(weighed.sum(axis=1)).ravel()
    with np.errstate(invalid='ignore', divide='ignore'):
        per_vertex = sparse.diags_array(np.where(there, 1 / seen, 0.0))
        of_voxels = weighed @ (per_vertex @ weights)
        error = np.sqrt(np.where(known, variance, 0.0))
        together = (of_voxels @ error) ** 2
        alone = np.minimum(voxels_per_sample * (of_voxels.power(2) @ error**2), together)
        return Parcels(
            mean=np.asarray(of_voxels @ np.where(known, value, 0.0))
            / np.where(area, area, np.nan),
            se=np.sqrt((1 - shared) * alone + shared * together) / np.where(area, area, np.nan),
            n_vertices=np.asarray(member @ there.astype(float)).astype(np.int64),
            coverage=area / np.asarray(member @ areas),
        )
