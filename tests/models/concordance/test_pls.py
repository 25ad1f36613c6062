"""Partial least squares: its closed form with two conditions, its null, its rotation."""

from __future__ import annotations

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.concordance.pls import (
    bootstrap_ratios,
    cross_products,
    fit_pls,
    keep_clusters,
    mean_centred_pls,
)


def paired(rng, n=40, n_voxels=400, shift=0.4):
    change = rng.normal(shift, 1.0, (n, n_voxels))
    return np.stack([np.zeros_like(change), change])


def test_ratio_of_two_conditions_is_the_paired_t_within_bootstrap_error():
    rng = np.random.default_rng(1)
    data = paired(rng)
    fit, ratios = mean_centred_pls(data, rng=rng, n_permutations=50, n_bootstraps=3000)
    change = data[1]
    t = change.mean(axis=0) / (change.std(axis=0, ddof=1) / np.sqrt(40))
    expected = t * np.sqrt(40 / 39)
    error = 1 / np.sqrt(2 * 3000)
    relative = (ratios[0] - expected) / expected
    assert abs(np.median(relative)) < error
    assert np.std(relative) == pytest.approx(error, rel=0.3)
    np.testing.assert_allclose(fit.design[:, 0], [-(0.5**0.5), 0.5**0.5])


def test_singular_value_is_that_of_the_centred_means():
    rng = np.random.default_rng(2)
    data = rng.normal(size=(3, 10, 60))
    fit = fit_pls(cross_products(data), 3, rng=rng, n_permutations=10, n_bootstraps=10)
    means = data.mean(axis=1)
    expected = np.linalg.svd(means - means.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(fit.singular, expected[:2], rtol=1e-9)
    assert fit.explained.sum() == pytest.approx(1)


def test_sum_over_parts_of_the_voxels_is_the_whole():
    data = np.random.default_rng(3).normal(size=(2, 8, 90))
    parts = sum(cross_products(part) for part in np.array_split(data, 4, axis=2))
    np.testing.assert_allclose(parts, cross_products(data), rtol=1e-12)


def test_offset_of_a_participant_changes_nothing():
    rng = np.random.default_rng(4)
    data = rng.normal(size=(2, 9, 50))
    moved = data + rng.normal(size=(9, 50)) * 10
    first, second = (
        mean_centred_pls(one, rng=np.random.default_rng(5), n_permutations=99, n_bootstraps=99)
        for one in (data, moved)
    )
    np.testing.assert_allclose(first[0].p, second[0].p)
    np.testing.assert_allclose(first[1], second[1], rtol=1e-6)


def test_null_p_is_uniform():
    rng = np.random.default_rng(6)
    p = [
        fit_pls(
            cross_products(paired(rng, n=10, n_voxels=30, shift=0.0)),
            2,
            rng=rng,
            n_permutations=99,
            n_bootstraps=1,
        ).p[0]
        for _ in range(300)
    ]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_patterns_of_three_conditions_are_told_apart():
    rng = np.random.default_rng(7)
    data = rng.normal(0, 0.5, (3, 20, 100))
    data[1, :, :50] += 3.0
    data[2, :, 50:] += 1.0
    _, ratios = mean_centred_pls(data, rng=rng, n_permutations=99, n_bootstraps=300)
    first, second = np.abs(ratios)
    assert first[:50].mean() > 2 * first[50:].mean()
    assert second[50:].mean() > 2 * second[:50].mean()


def test_voxel_that_never_varies_has_no_ratio():
    rng = np.random.default_rng(8)
    data = paired(rng, n=6, n_voxels=3)
    data[:, :, 1] = 0.0
    fit = fit_pls(cross_products(data), 2, rng=rng, n_permutations=9, n_bootstraps=20)
    assert np.isnan(bootstrap_ratios(data, fit)[0]).tolist() == [False, True, False]


def test_clusters_touch_by_faces_and_signs_stay_apart():
    values = np.zeros((5, 5, 5))
    values[0, 0, :3] = 2.5
    values[1, 1, 3] = 2.5
    values[4, 4, :2] = -3.0
    values[4, 4, 2] = 3.0
    kept = keep_clusters(values, threshold=2.0, extent=3)
    assert kept.sum() == 3
    assert kept[0, 0, :3].all()
    assert keep_clusters(np.full((2, 2, 2), np.nan), extent=1).sum() == 0


@pytest.mark.parametrize(
    'data',
    [np.zeros((2, 3)), np.full((2, 3, 4), np.nan), np.zeros((1, 3, 4)), np.zeros((2, 1, 4))],
)
def test_what_is_no_study_is_refused(data):
    with pytest.raises(ModelInputError, match='PLS needs'):
        mean_centred_pls(data, rng=np.random.default_rng(0), n_permutations=1, n_bootstraps=2)
