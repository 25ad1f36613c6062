"""Regional means and their standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.regions import confidence_ellipse, summarise_regions


def test_mean_and_error_of_a_region_follow_the_weights():
    estimate = Estimate.of([10.0, 20.0, 99.0], [4.0, 9.0, 1.0])
    summary = summarise_regions(estimate, [7, 7, 8], [7], weights=[1.0, 0.5, 1.0])
    np.testing.assert_allclose(summary['mean'], [20 / 1.5])
    np.testing.assert_allclose(summary['se'], [np.sqrt(4 + 0.25 * 9) / 1.5])
    assert summary['n_voxels'].tolist() == [2]


def test_regions_come_in_the_order_asked_for():
    estimate = Estimate.of(np.arange(6.0), 1.0)
    summary = summarise_regions(estimate, [1, 1, 5, 5, 3, 3], [5, 1, 3])
    assert summary['index'].tolist() == [5, 1, 3]
    assert summary['mean'].tolist() == [2.5, 0.5, 4.5]


def test_missing_voxels_lower_the_coverage_and_are_left_out():
    estimate = Estimate.of([10.0, np.nan, 30.0, 40.0], 1.0)
    summary = summarise_regions(estimate, [1, 1, 1, 1], [1], weights=[1.0, 0.5, 1.0, np.nan])
    assert summary['mean'].tolist() == [20.0]
    assert summary['n_voxels'].tolist() == [2]
    assert summary['coverage'].tolist() == [0.8]


def test_absent_and_empty_regions_have_no_mean():
    estimate = Estimate.of([np.nan, 1.0], 1.0)
    summary = summarise_regions(estimate, [1, 2], [1, 9])
    assert np.isnan(summary['mean']).all()
    assert np.isnan(summary['se']).all()
    assert summary['n_voxels'].tolist() == [0, 0]
    np.testing.assert_array_equal(summary['coverage'], [0.0, np.nan])


def test_no_regions_give_an_empty_table():
    summary = summarise_regions(Estimate.of([1.0, 2.0]), [1, 1], [])
    assert all(column.size == 0 for column in summary.values())


def test_correlated_voxels_count_as_fewer_samples_but_at_least_one():
    estimate = Estimate.of(np.ones(100), 4.0)
    labels = np.ones(100, int)
    alone = summarise_regions(estimate, labels, [1])['se'][0]
    shared = summarise_regions(estimate, labels, [1], voxels_per_sample=9.0)['se'][0]
    one = summarise_regions(estimate, labels, [1], voxels_per_sample=1e6)['se'][0]
    assert (alone, shared, one) == pytest.approx((0.2, 0.6, 2.0))


def test_error_of_the_mean_of_an_upsampled_map_is_right_with_its_voxels_per_sample():
    rng = np.random.default_rng(0)
    means = []
    for _ in range(400):
        coarse = rng.normal(size=(16, 16))
        fine = np.kron(coarse, np.ones((2, 2)))
        estimate = Estimate.of(fine.ravel(), 1.0)
        summary = summarise_regions(estimate, np.ones(fine.size, int), [1], voxels_per_sample=4.0)
        means.append(summary['mean'][0])
    assert summary['se'][0] == pytest.approx(np.std(means), rel=0.1)


def test_error_of_the_mean_of_a_smoothed_map_is_right_with_its_voxels_per_sample():
    rng = np.random.default_rng(1)
    sigma = 1.5
    per_sample = 4 * np.pi * sigma**2
    maps = [ndimage.gaussian_filter(rng.normal(size=(40, 40)), sigma, mode='wrap')
            for _ in range(400)]  # fmt: skip
    variance = np.var(maps)
    summaries = [
        summarise_regions(
            Estimate.of(item.ravel(), variance),
            np.ones(item.size, int),
            [1],
            voxels_per_sample=per_sample,
        )
        for item in maps
    ]
    spread = np.std([summary['mean'][0] for summary in summaries])
    assert summaries[0]['se'][0] == pytest.approx(spread, rel=0.1)


def test_permuting_the_voxels_changes_nothing():
    rng = np.random.default_rng(2)
    value, labels, weights = rng.normal(size=60), rng.integers(0, 5, 60), rng.random(60)
    order = rng.permutation(60)
    summary = summarise_regions(Estimate.of(value, 1.0), labels, [1, 2, 3], weights=weights)
    permuted = summarise_regions(
        Estimate.of(value[order], 1.0), labels[order], [1, 2, 3], weights=weights[order]
    )
    for name, column in summary.items():
        np.testing.assert_allclose(permuted[name], column, rtol=1e-12)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'labels': [1, 1, 1]}, 'one list'),
        ({'indices': [1, 1]}, 'named twice'),
        ({'weights': [-1.0, 1.0]}, 'weights'),
        ({'weights': [1.0]}, 'weights'),
        ({'voxels_per_sample': 0.5}, 'at least 1'),
        ({'voxels_per_sample': float('nan')}, 'at least 1'),
    ],
)
def test_what_cannot_be_summarised_is_refused(changes, message):
    arguments = {'labels': [1, 1], 'indices': [1]} | changes
    with pytest.raises(ModelInputError, match=message):
        summarise_regions(Estimate.of([1.0, 2.0]), **arguments)


def test_confidence_ellipse_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((800, 8, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]]) + [3.0, -1.0]
    held = 0
    for points in mixed:
        center, half_axes = confidence_ellipse(points)
        lengths = np.linalg.norm(half_axes, axis=1)
        along = half_axes @ (np.array([3.0, -1.0]) - center) / lengths**2
        held += np.sum(along**2) <= 1
    assert held / len(mixed) == pytest.approx(0.95, abs=0.025)


def test_pairs_without_a_value_do_not_count_and_two_pairs_have_no_ellipse():
    center, half_axes = confidence_ellipse([[1.0, 2.0], [3.0, 4.0], [np.nan, 9.0]])
    np.testing.assert_allclose(center, [2.0, 3.0])
    assert np.isnan(half_axes).all()
