"""What a map holds between its voxels."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.numerics.detail import measure_detail, tissue_trend
from bids_app.models.numerics.resampling import resample_map

SHAPE = (14, 12, 10)


def tissue(rng, *shape):
    parts = rng.dirichlet([0.7, 0.7, 0.7], size=shape)
    return parts * rng.uniform(0.4, 1, (*shape, 1))  # the rest of the voxel is not brain


def at(n, seed=9):
    """Places, with the voxel size."""
    points = np.random.default_rng(seed).uniform(0, np.array(SHAPE) - 1, (n, 3))
    return {'points': points, 'zooms': (3.0, 3.0, 3.3)}


def test_a_map_of_its_tissue_is_predicted_exactly_however_full_of_brain_a_voxel_is():
    rng = np.random.default_rng(0)
    here, there = tissue(rng, *SHAPE), tissue(rng, 40)
    levels = np.array([55.0, 22.0, 3.0])

    def of(parts):
        return (parts / parts.sum(-1, keepdims=True)) @ levels

    own, other = tissue_trend(of(here), np.ones(SHAPE), here, there, **at(40))
    assert own == pytest.approx(of(here))
    assert other == pytest.approx(of(there))


def test_grey_matter_that_rises_here_and_falls_there_is_predicted_at_both_places():
    """As percent BOLD does: no slope of the whole map tells anything."""
    rng = np.random.default_rng(7)
    shape, zooms = (40, 16, 16), (3.0, 3.0, 3.3)
    here, there = tissue(rng, *shape), tissue(rng, 400)
    points = rng.uniform([2, 2, 2], [37, 13, 13], (400, 3))

    def of(parts, x):
        grey = (parts / parts.sum(-1, keepdims=True))[..., 0]
        return np.where(x < 20, 1.0, -1.0) * grey

    value = of(here, np.arange(40)[:, None, None])
    _, other = tissue_trend(value, np.ones(shape), here, there, points=points, zooms=zooms)
    far = np.abs(points[:, 0] - 19.5) > 8  # three windows of 8 mm
    error = (other - of(there, points[:, 0]))[far]
    assert np.abs(error).max() < 0.12
    assert np.sqrt(np.mean(error**2)) < 0.05


def test_a_map_that_does_not_follow_the_tissue_has_a_flat_trend():
    rng = np.random.default_rng(1)
    here, there = tissue(rng, *SHAPE), tissue(rng, 40)
    own, other = tissue_trend(rng.normal(5, 1, SHAPE), np.ones(SHAPE), here, there, **at(40))
    assert own.std() < 0.15
    assert other == pytest.approx(np.full(40, 5.0), abs=0.3)


def test_missing_voxels_and_wild_ones_do_not_decide_the_trend():
    rng = np.random.default_rng(2)
    here = tissue(rng, *SHAPE)
    value, variance = here[..., 0] / here.sum(-1), np.full(SHAPE, 1e-4)
    value[0], variance[1] = np.nan, 1e12
    value[1] = 1e5
    own, _ = tissue_trend(value, variance, here, here[5, 5], **at(10))
    assert own[2:] == pytest.approx(value[2:], abs=1e-3)


def test_too_few_voxels_have_no_trend_and_wrong_shapes_are_refused():
    rng = np.random.default_rng(3)
    here = tissue(rng, 4, 4, 4)
    ones = np.ones((4, 4, 4))
    assert tissue_trend(ones, ones, here, here[0, 0], **at(4)) is None
    with pytest.raises(ModelInputError, match='fractions'):
        tissue_trend(ones, ones, here, np.ones((3, 2)), **at(3))


def test_noise_alone_has_hardly_any_detail():
    rng = np.random.default_rng(4)
    variance = rng.uniform(0.5, 2, (30, 30, 30))
    noise = rng.normal(0, np.sqrt(variance))
    detail = measure_detail(noise, variance, np.ones(noise.shape, bool))
    points = rng.uniform(2, 27, (3000, 3))
    missed = detail.interpolation_variance(points)
    apart = detail.alignment_variance(points, error=0.3, zooms=(2.0, 2.0, 3.3))
    # what is left is the part of a random size that is above zero
    assert missed.mean() < 0.12 * variance.mean()
    assert apart.mean() < 0.12 * variance.mean()


def test_what_lies_between_the_voxels_of_white_detail_is_about_as_large_as_stated():
    """Detail without any neighbourhood: nothing of it can be interpolated."""
    rng = np.random.default_rng(5)
    fine = rng.normal(size=(120, 60, 60))
    coarse = sum(fine[i::3, j::2, k::2] for i in range(3) for j in range(2) for k in range(2)) / 12
    moved = np.roll(fine, -1, axis=0)
    truth = sum(moved[i::3, j::2, k::2] for i in range(3) for j in range(2) for k in range(2)) / 12
    inner = np.argwhere(np.ones(coarse.shape, bool))[4000:-4000]
    points = inner + np.array([1 / 3, 0, 0])
    detail = measure_detail(coarse, np.zeros(coarse.shape), np.ones(coarse.shape, bool))
    error = resample_map(coarse, points).value - truth.ravel()[4000:-4000]
    ratio = np.mean(error**2) / detail.interpolation_variance(points).mean()
    assert 0.4 < ratio < 2.5


def test_a_slope_and_its_place_give_the_error_of_the_place():
    x = np.arange(12.0)[:, None, None] * np.ones((12, 5, 5))
    detail = measure_detail(6.0 * x, np.zeros(x.shape), np.ones(x.shape, bool))
    points = np.array([[6.0, 2.0, 2.0], [5.5, 2.0, 2.0]])
    # 6 per voxel of 2 mm: 3 per mm, .5 mm off
    found = detail.alignment_variance(points, error=0.5, zooms=(2.0, 2.0, 2.0))
    assert found == pytest.approx([1.5**2] * 2)
    assert detail.interpolation_variance(points) == pytest.approx([0.0, 0.0])


def test_nothing_known_has_no_detail():
    nothing = np.full((4, 4, 4), np.nan)
    detail = measure_detail(nothing, nothing, np.zeros((4, 4, 4), bool))
    assert not detail.slope.any()
    assert not detail.curvature.any()
