"""Values, variances and labels on another grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.numerics.resampling import (
    average_around,
    average_over_voxel,
    resample_map,
    resample_nearest,
    sample_linear,
    voxel_coordinates,
    world_of_flirt,
)
from bids_app.models.status import Status
from tests import strategies

SHAPE = (6, 5, 4)
RNG = np.random.default_rng(0)
OBLIQUE = np.array([[0, -3.9, 0.3, 40], [4, 0, 0, -60], [0, 0.2, 6.6, -30], [0, 0, 0, 1.0]])


def indices(shape=SHAPE):
    return voxel_coordinates(shape, np.eye(4), np.eye(4))


def linear_map(shape=SHAPE):
    return indices(shape) @ np.array([1.0, -2.0, 0.5]) + 3.0


# --- coordinates -----------------------------------------------------------------------------


def test_coordinates_follow_affines_and_transform():
    transform = np.array([[1, 0, 0, 5], [0, 0, -1, 2], [0, 1, 0, -3], [0, 0, 0, 1.0]])
    source = np.diag([-2.0, 2.0, 2.0, 1.0])
    coordinates = voxel_coordinates((3, 4, 5), OBLIQUE, source, transform)
    world = transform @ OBLIQUE @ [2, 3, 1, 1]
    assert source @ [*coordinates[2, 3, 1], 1] == pytest.approx(world)


def test_a_grid_lies_on_itself():
    coordinates = voxel_coordinates(SHAPE, OBLIQUE, OBLIQUE)
    assert coordinates == pytest.approx(np.stack(np.indices(SHAPE), -1), abs=1e-12)


# --- spline ----------------------------------------------------------------------------------


def test_the_own_grid_returns_every_value_variance_and_status():
    value, variance = RNG.normal(size=SHAPE), RNG.uniform(1, 2, SHAPE)
    status = np.zeros(SHAPE, np.uint8)
    value[1, 2, 3], status[1, 2, 3] = np.nan, Status.NO_SIGNAL
    status[0, 0, 0] = Status.NEGATIVE
    estimate = resample_map(value, indices(), variance=variance, status=status)
    np.testing.assert_allclose(estimate.value, value, atol=1e-12)
    known = np.isfinite(value)
    np.testing.assert_allclose(estimate.variance[known], variance[known], rtol=1e-12)
    assert np.array_equal(estimate.status, status)


def test_a_smooth_map_keeps_the_detail_that_linear_weights_take():
    """A wave of five voxels, halfway between them: .1 % is lost, linearly 19 %."""
    x = np.arange(60.0)
    value = np.cos(2 * np.pi * x / 5)[:, None, None] * np.ones((60, 4, 4))
    points = np.stack([np.arange(20, 40) + 0.5, np.full(20, 1.5), np.full(20, 1.5)], axis=-1)
    truth = np.cos(2 * np.pi * points[:, 0] / 5)
    found = [f(value, points) for f in (sample_linear, lambda *a: resample_map(*a).value)]
    slopes = [(y @ truth) / (truth @ truth) for y in found]
    assert slopes == pytest.approx([np.cos(np.pi / 5), 1.0], abs=0.03)
    assert abs(slopes[1] - 1) < abs(slopes[0] - 1) / 8


def test_interpolation_equals_scipy():
    value = RNG.normal(size=SHAPE)
    points = RNG.uniform(0, np.array(SHAPE) - 1, (200, 3))
    expected = ndimage.map_coordinates(value, points.T, order=3, mode='nearest')
    assert resample_map(value, points).value == pytest.approx(expected)


def test_variance_is_that_of_the_interpolated_noise():
    rng = np.random.default_rng(5)
    shape = (9, 9, 9)
    variance = rng.uniform(0.5, 3, shape)
    points = rng.uniform(3, 5, (20, 3))
    estimate = resample_map(np.ones(shape), points, variance=variance)
    draws = [resample_map(rng.normal(0, np.sqrt(variance)), points).value for _ in range(3000)]
    assert np.var(draws, axis=0) == pytest.approx(estimate.variance, rel=0.15)
    assert np.var(draws, axis=0).mean() == pytest.approx(estimate.variance.mean(), rel=0.03)


def test_an_edge_of_what_is_known_does_not_ring():
    value = np.full((12, 4, 4), np.nan)
    value[:6] = 5.0
    points = np.stack([np.linspace(2, 5.4, 30), np.full(30, 1.3), np.full(30, 1.6)], axis=-1)
    assert resample_map(value, points).value == pytest.approx(np.full(30, 5.0))


def test_only_what_is_not_known_is_interpolated():
    """A map that is its trend exactly is found exactly, wherever and however rough it is."""
    value = RNG.normal(size=SHAPE)
    points = RNG.uniform(0, np.array(SHAPE) - 1, (50, 3))
    there = RNG.normal(size=50)
    assert resample_map(value, points, trend=(value, there)).value == pytest.approx(there)
    more = resample_map(value + 2.0, points, trend=(value, there))
    assert more.value == pytest.approx(there + 2.0)


@settings(deadline=None, max_examples=40)
@given(strategies.masks(SHAPE))
def test_a_constant_survives_any_holes_and_nothing_else_is_invented(mask):
    value = np.where(mask, 7.0, np.nan)
    points = np.random.default_rng(1).uniform(-1, np.array(SHAPE), (100, 3))
    estimate = resample_map(value, points, variance=np.ones(SHAPE))
    kept = np.isfinite(estimate.value)
    assert estimate.value[kept] == pytest.approx(np.full(kept.sum(), 7.0))
    assert np.all((estimate.variance[kept] <= 1 + 1e-9) & (estimate.variance[kept] >= 1 / 8))
    clamped = np.clip(points, 0, np.array(SHAPE) - 1)
    weight = ndimage.map_coordinates(mask.astype(float), clamped.T, order=1)
    inside = (np.abs(points - clamped) <= 0.5).all(axis=1)
    assert np.array_equal(kept, inside & (weight >= 0.5))


def test_half_the_weight_is_enough_and_less_is_not():
    value = np.array([[[1.0, np.nan]]])
    estimate = resample_map(
        value, [[0, 0, 0.5], [0, 0, 0.51]], status=[[[0, Status.GRADIENT_TOO_STRONG]]]
    )
    assert estimate.value == pytest.approx([1.0, np.nan], nan_ok=True)
    assert estimate.status[1] == Status.GRADIENT_TOO_STRONG


def test_a_missing_point_next_to_a_present_nearest_voxel_has_the_heaviest_reason():
    value = np.full((2, 2, 2), np.nan)
    status = np.full((2, 2, 2), Status.NO_SIGNAL, np.uint8)
    value[0, 0, 0], status[0, 0, 0] = 1.0, Status.OK
    status[1, 0, 0] = Status.AT_BOUND
    estimate = resample_map(value, [0.45, 0.4, 0.4], status=status)
    assert np.isnan(estimate.value)
    assert estimate.status == Status.AT_BOUND


def test_cautions_come_from_the_nearest_voxel():
    status = np.array([[[Status.OK, Status.NEGATIVE]]])
    estimate = resample_map([[[1.0, -1.0]]], [[0, 0, 0.3], [0, 0, 0.7]], status=status)
    assert list(estimate.status) == [Status.OK, Status.NEGATIVE]


def test_half_a_voxel_beyond_the_border_the_value_holds_and_further_there_is_none():
    points = [[-0.5, 0, 0], [5.5, 4.5, 3.5], [-0.6, 0, 0], [0, 0, 3.6], [np.nan, 0, 0]]
    value = linear_map()
    estimate = resample_map(value, points)
    assert estimate.value[:2] == pytest.approx([value[0, 0, 0], value[-1, -1, -1]])
    assert (estimate.status[2:] == Status.OUTSIDE_FIELD_OF_VIEW).all()


def test_inputs_stay_as_they_are_and_a_single_slice_is_an_image():
    value = np.array([[[1.0, 3.0]]])
    value.setflags(write=False)
    assert resample_map(value, [[0, 0.2, 1]]).value == pytest.approx([3.0])


# --- nearest ---------------------------------------------------------------------------------


def test_labels_are_taken_whole_in_their_type():
    labels = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    points = RNG.uniform(-0.4, 0.4, (*SHAPE, 3)) + indices()
    resampled = resample_nearest(labels, points)
    assert np.array_equal(resampled, labels)
    assert resampled.dtype == np.uint8


def test_labels_outside_the_image_get_the_fill():
    labels = np.ones(SHAPE, np.int64)
    points = [[0, 0, -0.7], [9, 0, 0], [np.nan, 0, 0], [0, 0, 3.4]]
    assert list(resample_nearest(labels, points, fill=-1)) == [-1, -1, -1, 1]


# --- averages --------------------------------------------------------------------------------


def test_blocks_are_averaged_exactly():
    fine = RNG.uniform(size=(8, 6, 9))
    coarse_affine = np.array(
        [[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 3, 1.0], [0, 0, 0, 1]], dtype=float
    )
    average = average_over_voxel(fine, coarse_affine, (4, 3, 3), np.eye(4))
    assert average == pytest.approx(fine.reshape(4, 2, 3, 2, 3, 3).mean(axis=(1, 3, 5)))


def test_sampling_an_image_is_linear_and_leaves_missing_voxels_out():
    image = np.array([[[1.0, 3.0, np.nan]]])
    found = sample_linear(image, [[0, 0, 0.25], [0, 0, 1.4], [0, 0, 1.6], [0, 0, 2.6]])
    assert found == pytest.approx([1.5, 3.0, np.nan, np.nan], nan_ok=True)


def test_a_linear_image_is_averaged_to_its_value_at_the_centre_under_rotation():
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    target = np.diag([3.3, 2.0, 4.0, 1.0])
    target[:3, 3] = [20.0, 12.0, 8.0]
    fine = linear_map((60, 60, 40))
    average = average_over_voxel(fine, target, (3, 3, 3), np.eye(4), turn)
    centres = voxel_coordinates((3, 3, 3), target, np.eye(4), turn)
    assert average == pytest.approx(centres @ np.array([1.0, -2.0, 0.5]) + 3.0)


def test_the_amount_of_tissue_is_kept():
    fine = np.zeros((24, 24, 24))
    fine[8:15, 7:16, 9:14] = 1.0
    target = np.diag([4.0, 4.0, 4.0, 1.0])
    target[:3, 3] = 1.5
    average = average_over_voxel(fine, target, (6, 6, 6), np.eye(4))
    assert average.sum() * 64 == pytest.approx(fine.sum())


def test_outside_the_image_there_is_no_tissue_unless_told_otherwise():
    target = np.diag([2.0, 2.0, 2.0, 1.0])
    target[:3, 3] = [0.5, 0.5, 2.5]
    ones = np.ones((2, 2, 4))
    empty = average_over_voxel(ones, target, (1, 1, 2), np.eye(4))
    unknown = average_over_voxel(ones, target, (1, 1, 2), np.eye(4), fill=np.nan)
    assert empty.ravel() == pytest.approx([1.0, 0.0])
    assert unknown.ravel() == pytest.approx([1.0, np.nan], nan_ok=True)


def test_contradictory_arguments_are_refused():
    with pytest.raises(ModelInputError, match='coordinates'):
        resample_map(np.ones(SHAPE), np.ones((5, 2)))
    with pytest.raises(ModelInputError, match='variance'):
        resample_map(np.ones(SHAPE), np.ones((5, 3)), variance=np.ones((2, 2, 2)))
    with pytest.raises(ModelInputError, match='image'):
        resample_nearest(np.ones((2, 2)), np.ones((5, 3)))
    with pytest.raises(ModelInputError, match=r'\(4, 4\)'):
        voxel_coordinates(SHAPE, np.eye(3), np.eye(4))
    with pytest.raises(ModelInputError, match='inverted'):
        voxel_coordinates(SHAPE, np.eye(4), np.diag([1.0, 0, 1, 1]))


def test_flirt_counts_millimetres_from_the_radiological_corner():
    neurological, radiological = np.diag([2.0, 2.0, 3.0, 1.0]), np.diag([-2.0, 2.0, 3.0, 1.0])
    radiological[:3, 3] = 18, 0, 0  # the same voxel centres in the other order
    shape = (10, 8, 6)
    same = world_of_flirt(np.eye(4), shape, neurological, shape, radiological)
    np.testing.assert_allclose(same, np.eye(4), atol=1e-12)
    step = np.eye(4)
    step[0, 3] = 5.0  # away from the corner, which lies at the right: to the left
    moved = world_of_flirt(step, shape, neurological, shape, radiological)
    np.testing.assert_allclose(moved[:3, 3], [-5, 0, 0], atol=1e-12)


def test_boxes_that_touch_no_tissue_are_left_out_and_change_nothing(rng):
    """Against the same average of an image that is zero nowhere."""
    image = np.zeros((20, 24, 18))
    image[6:12, 9:15, 5:9] = rng.random((6, 6, 4))
    centres = rng.uniform(-6, 28, (4000, 3))
    edges = np.array([[2.3, 0.4, 0.0], [-0.4, 2.1, 0.3], [0.1, -0.2, 3.6]])
    inside = np.all((centres > 3) & (centres < np.array(image.shape) - 4), axis=1)
    found = average_around(image, centres, edges)
    whole = average_around(image + 1.0, centres, edges)
    np.testing.assert_allclose(found[inside], whole[inside] - 1.0, atol=1e-12)
    assert np.count_nonzero(found[inside]) > 20
    assert np.count_nonzero(found == 0) > 200
