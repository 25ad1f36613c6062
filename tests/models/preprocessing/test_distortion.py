"""Displacement of echo-planar images: units, signs, extension of a field, whole correction."""

import numpy as np
import pytest
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.preprocessing.distortion import (
    complete_field,
    shift_between_opposites,
    undistort,
    voxel_shift,
)
from bids_app.models.relaxometry.background_field import (
    field_map_from_difference,
    field_map_from_echoes,
)
from bids_app.phantom.physics import distort

SHAPE = (24, 32, 12)
ECHO_SPACING = 0.0006


def brain():
    """An ellipsoid with stripes, and the coordinate along the phase encoding."""
    x, y, z = np.indices(SHAPE, float)
    radius = np.hypot(np.hypot((x - 11.5) / 9, (y - 15.5) / 12), (z - 5.5) / 5)
    inside = radius < 1
    return inside, np.where(inside, 2 + np.sin(x) + np.cos(0.7 * y) + 0.3 * z / 6, 0.0), y


def smooth_field(rng, largest):
    """Field of a few voxels' displacement, larger at the front as over the sinuses, Hz."""
    _, _, y = brain()
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 6)
    field = field / np.abs(field).max() + np.exp((y - 31) / 6)
    per_voxel = SHAPE[1] * ECHO_SPACING
    return field / np.abs(field[brain()[0]]).max() * largest / per_voxel


def test_shift_is_field_times_readout_and_turns_with_the_polarity():
    shift = voxel_shift([10.0, -10.0], echo_spacing=0.0005, n_lines=100, polarity=1)
    np.testing.assert_allclose(shift, [0.5, -0.5])
    turned = voxel_shift([10.0], echo_spacing=0.0005, n_lines=100, polarity=-1)
    np.testing.assert_allclose(turned, [-0.5])
    for wrong in ({'echo_spacing': 0.0, 'polarity': 1}, {'echo_spacing': 1e-3, 'polarity': 2}):
        with pytest.raises(ModelInputError, match='echo_spacing'):
            voxel_shift(1.0, n_lines=64, **wrong)


def test_field_is_carried_on_beyond_the_brain_and_kept_within():
    inside, _, y = brain()
    field = np.where(inside, 3.0 * y - 40, np.nan)
    complete = complete_field(field, inside)
    assert np.isfinite(complete).all()
    deep = ndimage.binary_erosion(inside, iterations=3)
    np.testing.assert_allclose(complete[deep], field[deep], atol=0.3)
    np.testing.assert_allclose(complete[inside], field[inside], atol=2.0)
    near = ndimage.binary_dilation(inside, iterations=2) & ~inside
    assert np.abs(complete - (3.0 * y - 40))[near].max() < 12
    np.testing.assert_array_equal(complete_field(np.full(SHAPE, np.nan), inside), 0.0)
    with pytest.raises(ModelInputError, match='one shape'):
        complete_field(field, inside[:3])


def test_distorted_signal_is_moved_not_lost():
    inside, image, _ = brain()
    shift = voxel_shift(
        smooth_field(np.random.default_rng(0), 2.0), echo_spacing=ECHO_SPACING,
        n_lines=SHAPE[1], polarity=1,
    )  # fmt: skip
    moved = distort(image, shift, axis=1)
    np.testing.assert_allclose(moved.sum(axis=1), image.sum(axis=1), rtol=1e-9, atol=1e-9)
    centre = [np.sum(one * np.arange(SHAPE[1])[:, None]) / one.sum() for one in
              (image[11], moved[11])]  # fmt: skip
    weighted = np.sum(image[11] * shift[11]) / image[11].sum()
    assert centre[1] - centre[0] == pytest.approx(weighted, abs=0.05)
    assert inside.any()


def measured_field(kind, field, inside, rng):
    """The field as a scanner shows it, with noise."""
    image = brain()[1]
    magnitude = np.where(inside, image, 0.05)
    noise = 0.03 * image[inside].mean()

    def echo(time):
        signal = magnitude * np.exp(2j * np.pi * field * time + 0.6j)
        return signal + noise * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))

    if kind == 'phase difference':
        first, second = echo(0.00492), echo(0.00738)
        difference = np.angle(second * first.conj())
        return field_map_from_difference(difference, inside, echo_difference=0.00246)
    times = 0.005 * np.arange(1, 13)
    train = np.stack([echo(time) for time in times], axis=-1)
    return field_map_from_echoes(np.abs(train), np.angle(train), inside, echo_times=times).value


@pytest.mark.parametrize('kind', ['phase difference', 'gradient echoes'])
@pytest.mark.parametrize('polarity', [1, -1])
def test_displacement_of_three_voxels_is_known_to_a_tenth(kind, polarity):
    rng = np.random.default_rng(1)
    inside, _, _ = brain()
    field = smooth_field(rng, 3.0)
    readout = {'echo_spacing': ECHO_SPACING, 'n_lines': SHAPE[1], 'polarity': polarity}
    truth = voxel_shift(field, **readout)
    found = complete_field(measured_field(kind, field, inside, rng), inside)
    left = np.abs(voxel_shift(found, **readout) - truth)[inside]
    assert np.abs(truth[inside]).max() == pytest.approx(3.0)
    assert np.percentile(left, 99) < 0.3
    assert left.max() < 0.5


@pytest.mark.parametrize('wrong', [{'echo_difference': 0.0}, {'mask': np.ones((2, 2, 2))}])
def test_phase_difference_that_cannot_be_used_is_refused(wrong):
    arguments = {'mask': np.ones(SHAPE), 'echo_difference': 0.002} | wrong
    with pytest.raises(ModelInputError, match='one shape'):
        field_map_from_difference(np.zeros(SHAPE), **arguments)


def test_field_of_an_empty_mask_is_unknown():
    field = field_map_from_difference(np.zeros(SHAPE), np.zeros(SHAPE), echo_difference=0.002)
    assert np.isnan(field).all()


@pytest.mark.parametrize('largest', [1.0, 3.0])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_opposite_images_tell_a_displacement_of_three_voxels(seed, largest):
    rng = np.random.default_rng(seed)
    inside, image, _ = brain()
    field = smooth_field(rng, largest)
    truth = voxel_shift(field, echo_spacing=ECHO_SPACING, n_lines=SHAPE[1], polarity=1)
    noise = 0.03 * image[inside].mean()

    def scan(shift):
        both = rng.normal(size=(2, *SHAPE)) * noise
        return np.hypot(distort(image, shift, axis=1) + both[0], both[1])

    found = shift_between_opposites(scan(truth), scan(-truth), axis=1)
    left = np.abs(found - truth)[inside]
    assert np.median(left) < 0.06
    assert np.percentile(left, 99) < 0.5


def test_opposite_images_without_signal_or_of_other_shapes_are_refused():
    with pytest.raises(ModelInputError, match='no signal'):
        shift_between_opposites(np.zeros(SHAPE), np.zeros(SHAPE), axis=1)
    with pytest.raises(ModelInputError, match='one shape'):
        shift_between_opposites(np.ones(SHAPE), np.ones((3, 3, 3)), axis=1)


def test_displaced_signal_is_brought_back():
    inside, image, _ = brain()
    image = ndimage.gaussian_filter(image, 1.0)
    field = smooth_field(np.random.default_rng(3), 2.0)
    shift = voxel_shift(field, echo_spacing=ECHO_SPACING, n_lines=SHAPE[1], polarity=-1)
    moved = distort(image, shift, axis=1)
    back = undistort(moved, shift, axis=1)
    deep = ndimage.binary_erosion(inside, iterations=2)
    wrong = [np.abs(one - image)[deep].mean() / image[deep].mean() for one in (moved, back)]
    assert wrong[1] < 0.03
    assert wrong[1] < wrong[0] / 3
