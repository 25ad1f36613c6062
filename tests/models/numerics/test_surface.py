"""Maps on the surface of made cortex: a shell between two spheres, or ellipsoids."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.numerics.surface import (
    average_parcels,
    cortex_points,
    sample_surface,
    sphere_weights,
    vertex_areas,
    voxel_weights,
)

SHAPE, SIZE = (26, 26, 24), 3.0
CENTRE = SIZE * (np.array(SHAPE) - 1) / 2
AXES = np.array([1.0, 1.1, 0.9])
"""An ellipsoid of 27 to 36 mm, with a cortex of about 3 mm."""
INNER, OUTER = 30.0, 33.0


def icosphere(n=4):
    """Subdivide an icosahedron; return unit vertices and triangles."""
    golden = (1 + 5**0.5) / 2
    corners = [[s * a, t * b, 0] for s in (-1, 1) for t in (-1, 1) for a, b in ((1, golden),)]
    vertices = np.array([np.roll(c, k) for k in range(3) for c in corners], float)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    for _ in range(n):
        faces = ConvexHull(vertices).simplices
        edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
        middle = vertices[edges].mean(axis=1)
        vertices = np.vstack([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return vertices, ConvexHull(vertices).simplices


@pytest.fixture(scope='module')
def cortex():
    """Mesh, true fraction of grey matter by counting, and weights."""
    unit, faces = icosphere()
    white, pial = (CENTRE + radius * AXES * unit for radius in (INNER, OUTER))
    fine = 6
    axes = [np.arange(n * fine) * SIZE / fine - SIZE / 2 + SIZE / fine / 2 for n in SHAPE]
    position = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
    radius = np.linalg.norm((position - CENTRE) / AXES, axis=-1)
    in_cortex = ((radius > INNER) & (radius < OUTER)).astype(float)
    shape = tuple(part for n in SHAPE for part in (n, fine))
    tissue = in_cortex.reshape(shape).mean(axis=(1, 3, 5))
    inner = (radius <= INNER).astype(float).reshape(shape).mean(axis=(1, 3, 5))
    weights = voxel_weights(cortex_points(white, pial) / SIZE, tissue)
    place = position.reshape(*shape, 3).mean(axis=(1, 3, 5))
    return unit, faces, (white + pial) / 2, tissue, inner, weights, place


def test_constant_map_is_constant_on_the_surface(cortex):
    tissue, weights = cortex[3], cortex[5]
    made = sample_surface(weights, np.full(tissue.size, 42.0), np.ones(tissue.size))
    assert len(made.value) == 2562
    np.testing.assert_allclose(made.value, 42.0)


def test_smooth_map_is_recovered_at_the_vertices(cortex):
    """40 +- 12 along the head, in cortex and around it."""
    _, _, middle, tissue, _, weights, place = cortex
    field = 40 + 0.3 * (place[..., 0] - CENTRE[0]) - 0.2 * (place[..., 2] - CENTRE[2])
    truth = 40 + 0.3 * (middle[:, 0] - CENTRE[0]) - 0.2 * (middle[:, 2] - CENTRE[2])
    made = sample_surface(weights, field.ravel(), np.ones(tissue.size))
    error = made.value - truth
    assert truth.std() > 5
    assert np.abs(error).max() < 0.6
    assert abs(error.mean()) < 0.05


def test_white_matter_and_fluid_beside_cortex_weigh_little(cortex):
    """Voxels hold mixtures: cortex of 60 with white matter of 20 below and fluid of 0 above."""
    tissue, inner, weights = cortex[3:6]
    mixed = 60 * tissue + 20 * inner
    made = sample_surface(weights, mixed.ravel(), np.ones(tissue.size))
    plain = sample_surface(
        voxel_weights(cortex_points(*_surfaces(cortex)) / SIZE, np.ones(SHAPE)),
        mixed.ravel(), np.ones(tissue.size),
    )  # fmt: skip
    # what voxels of 3 mm hold of a cortex of 3 mm cannot be undone by weights, only lessened
    assert np.median(made.value) > np.median(plain.value) + 4
    assert 45 < np.median(made.value) < 60


def _surfaces(cortex):
    unit = cortex[0]
    return tuple(CENTRE + radius * AXES * unit for radius in (INNER, OUTER))


def test_variance_is_what_vertices_and_parcels_scatter_by(cortex):
    unit, faces, middle, tissue, _, weights, _ = cortex
    rng = np.random.default_rng(5)
    variance = rng.uniform(1, 9, tissue.size)
    areas = vertex_areas(middle, faces)
    labels = 1 + (unit[:, 2] > 0) + 2 * (unit[:, 0] > 0.8)
    draws, means = [], []
    for _ in range(400):
        noise = np.sqrt(variance) * rng.standard_normal(tissue.size)
        draws.append(sample_surface(weights, noise, variance))
        means.append(average_parcels(weights, noise, variance, areas=areas, labels=labels,
                                     indices=[1, 2, 3, 4]))  # fmt: skip
    scatter = np.std([one.value for one in draws], axis=0)
    assert np.median(scatter / np.sqrt(draws[0].variance)) == pytest.approx(1, abs=0.02)
    of_parcels = np.std([one.mean for one in means], axis=0) / means[0].se
    np.testing.assert_allclose(of_parcels, 1, atol=0.12)
    # vertices taken as independent would claim several times less
    naive = np.sqrt(np.sum((areas**2 * draws[0].variance)[labels == 1])) / areas[labels == 1].sum()
    assert means[0].se[0] > 2 * naive


def test_parcel_is_the_mean_over_its_area_and_tells_its_coverage(cortex):
    unit, faces, middle, tissue, _, weights, place = cortex
    areas = vertex_areas(middle, faces)
    field = np.where(place[..., 0] > CENTRE[0], 50.0, 30.0).ravel()
    labels = np.where(unit[:, 0] > 0.2, 1, np.where(unit[:, 0] < -0.2, 2, 0))
    field[np.flatnonzero(place[..., 2].ravel() > CENTRE[2])] = np.nan
    made = average_parcels(weights, field, np.ones(tissue.size), areas=areas, labels=labels,
                           indices=[2, 1, 9])  # fmt: skip
    np.testing.assert_allclose(made.mean[:2], [30, 50])
    np.testing.assert_allclose(made.coverage[:2], 0.5, atol=0.06)
    assert np.isnan(made.mean[2])
    assert made.n_vertices[2] == 0


def test_shared_noise_does_not_average_out(cortex):
    _, faces, middle, tissue, _, weights, _ = cortex
    areas = vertex_areas(middle, faces)
    at = {'areas': areas, 'labels': np.ones(len(areas)), 'indices': [1]}
    alone, half, all_shared, coarse = (
        average_parcels(weights, np.zeros(tissue.size), np.full(tissue.size, 4.0), **at, **more)
        for more in ({}, {'shared': 0.5}, {'shared': 1.0}, {'voxels_per_sample': 9.0})
    )
    assert all_shared.se[0] == pytest.approx(2)
    assert half.se[0] ** 2 == pytest.approx((alone.se[0] ** 2 + 4) / 2)
    assert coarse.se[0] == pytest.approx(3 * alone.se[0])
    assert alone.se[0] < 0.2


def test_vertex_without_cortex_in_its_voxels_has_no_value():
    weights = voxel_weights([[[0, 0, 0]], [[1, 0, 0]], [[9, 9, 9]]], [[[0.05]], [[0.9]]])
    made = sample_surface(weights, [1.0, 2.0], [1.0, 1.0])
    assert np.isnan(made.value).tolist() == [True, False, True]
    lost = sample_surface(weights, [1.0, np.nan], [1.0, 1.0])
    assert np.isnan(lost.value).all()
    assert np.isnan(lost.variance).all()


def test_area_of_a_sphere_is_shared_among_its_vertices():
    unit, faces = icosphere()
    areas = vertex_areas(10 * unit, faces)
    assert areas.sum() == pytest.approx(400 * np.pi, rel=0.01)
    assert areas.min() > 0


# --------------------------------------------------------------------------------- registration


def turn(angle):
    """Turn about an oblique axis."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.array([0.3, -0.5, 0.8]) * angle).as_matrix()


def test_vertices_of_the_sphere_are_given_back():
    unit, faces = icosphere(3)
    weights = sphere_weights(100 * unit, faces, 3 * unit)
    np.testing.assert_allclose(weights.toarray(), np.eye(len(unit)), atol=1e-9)


def test_values_follow_the_registration_to_the_template():
    """A person's sphere that is turned onto the template's carries what lies there."""
    own, faces = icosphere(5)
    target, _ = icosphere(4)
    rotation = turn(0.7)
    weights = sphere_weights(100 * own @ rotation.T, faces, 100 * target)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.data.min() >= 0
    pattern = 3 * own[:, 0] ** 2 - own[:, 1] * own[:, 2]
    there = target @ rotation  # the same places before the turn
    truth = 3 * there[:, 0] ** 2 - there[:, 1] * there[:, 2]
    np.testing.assert_allclose(weights @ pattern, truth, atol=3e-3)
    assert np.ptp(truth) > 3


def test_what_is_no_sphere_or_not_the_same_mesh_is_refused():
    unit, faces = icosphere(1)
    with pytest.raises(ModelInputError, match='a sphere about the origin expected, found radii'):
        sphere_weights(unit * [1, 1, 2], faces, unit)
    with pytest.raises(ModelInputError, match='of the same vertices'):
        cortex_points(unit, unit[:-1])
