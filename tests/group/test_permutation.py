"""Max-T over voxels: the statistic, its null, and the peer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.group.permutation import max_statistic, measure_asymmetry, rearrangements
from bids_app.group.statistics import Weighting, random_effects, weigh_participants


def equal(n):
    return Weighting(participants=np.ones(n))


def test_observed_statistic_is_the_t_of_the_random_effects():
    rng = np.random.default_rng(1)
    level = np.exp(rng.normal(0, 0.3, (9, 1)))
    variances = level**2 * np.ones(300)
    effects = rng.normal(0.3, 1, (9, 300)) * level
    weighting = weigh_participants(effects, variances)
    t = np.abs(random_effects(effects, variances, weighting=weighting).t)
    found = max_statistic(
        [(effects[:, :100], variances[:, :100]), (effects[:, 100:], variances[:, 100:])],
        weighting,
        np.ones((9, 1)),
        n_permutations=50,
        rng=rng,
    )
    assert found.maxima[0] == pytest.approx(t.max(), rel=1e-9)
    order = np.argsort(t)
    assert (np.diff(found.p[order]) <= 0).all()
    assert found.p.shape == (300,)


def test_family_wise_error_of_correlated_voxels_is_nominal():
    rng = np.random.default_rng(2)
    smallest = []
    for _ in range(200):
        common = rng.normal(size=(10, 1))
        effects = 0.7 * common + rng.normal(size=(10, 200))
        found = max_statistic(
            [(effects, None)],
            weigh_participants(effects, None),
            np.ones((10, 1)),
            n_permutations=99,
            rng=rng,
        )
        smallest.append(found.p.min())
    assert np.mean(np.array(smallest) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_few_participants_are_flipped_in_every_way():
    order, exhaustive = rearrangements(
        np.ones((5, 1)), 0, number=1000, rng=np.random.default_rng(0)
    )
    assert exhaustive
    assert len(np.unique(order, axis=0)) == len(order) == 16
    assert (order[0] == 1).all()
    effects = np.random.default_rng(3).normal(5, 0.1, (5, 4))
    found = max_statistic(
        [(effects, None)], equal(5), np.ones((5, 1)), rng=np.random.default_rng(0)
    )
    assert found.exhaustive
    np.testing.assert_allclose(found.p, 1 / 16)


def test_distribution_is_that_of_nilearn():
    from nilearn.mass_univariate import permuted_ols

    effects = np.random.default_rng(4).normal(0.2, 1, (12, 300))
    ours = max_statistic(
        [(effects, None)],
        equal(12),
        np.ones((12, 1)),
        n_permutations=1500,
        rng=np.random.default_rng(5),
    )
    theirs = permuted_ols(
        np.ones((12, 1)), effects, model_intercept=False, n_perm=1500, random_state=6
    )
    t = stats.ttest_1samp(effects, 0).statistic
    np.testing.assert_allclose(theirs['t'][0], t, rtol=1e-6)
    levels = [0.5, 0.8, 0.95]
    np.testing.assert_allclose(
        np.quantile(ours.maxima, levels), np.quantile(theirs['h0_max_t'], levels), rtol=0.06
    )


def test_difference_of_two_groups_is_permuted_and_covariates_are_removed():
    rng = np.random.default_rng(7)
    group = np.repeat([-0.5, 0.5], 10)
    age = rng.normal(size=20)
    design = np.stack([np.ones(20), group, age - age.mean()], axis=1)
    effects = rng.normal(size=(20, 60)) + 4 * design[:, 2:]
    effects[:, 0] += 5 * group
    found = max_statistic([(effects, None)], equal(20), design, 1, n_permutations=199, rng=rng)
    t = np.abs(random_effects(effects, None, design=design, tested=1).t)
    assert found.maxima[0] == pytest.approx(t.max(), rel=1e-9)
    assert found.p[0] <= 0.05
    assert np.mean(found.p[1:] > 0.05) > 0.95


def test_missing_participants_do_not_hide_a_voxel_and_empty_ones_have_no_p():
    rng = np.random.default_rng(8)
    effects = rng.normal(4, 1, (12, 5))
    effects[0, 1] = np.nan
    effects[1:, 2] = np.nan
    found = max_statistic(
        [(effects, None)], equal(12), np.ones((12, 1)), n_permutations=99, rng=rng
    )
    assert found.p[1] <= 0.05
    assert np.isnan(found.p).tolist() == [False, False, True, False, False]


def test_one_participant_is_refused():
    with pytest.raises(ModelInputError, match='two participants'):
        max_statistic([], equal(1), np.ones((1, 1)), rng=np.random.default_rng(0))


def test_skewness_is_told_from_heavy_tails():
    rng = np.random.default_rng(9)
    one = np.ones((30, 1))
    exponential = rng.exponential(size=(30, 1000))
    found = measure_asymmetry(exponential, None, equal(30), one, rng=rng)
    assert found.is_marked
    assert 1.3 < found.skewness < 2.0
    opposite = exponential * np.where(np.arange(1000) < 500, 1, -1)
    found = measure_asymmetry(opposite, None, equal(30), one, rng=rng)
    assert found.is_marked, 'opposite skewness does not cancel'
    assert abs(found.skewness) < 0.1
    heavy = rng.standard_t(3, (30, 1000))
    found = measure_asymmetry(heavy, None, equal(30), one, rng=rng)
    assert not found.is_marked
    assert found.ratio < 1.2


def test_corrected_statistic_is_the_transform_of_hall():
    rng = np.random.default_rng(10)
    n = 26
    effects = rng.exponential(size=(n, 40)) - 0.8
    found = max_statistic(
        [(effects, None)], equal(n), np.ones((n, 1)), n_permutations=20, skewed=True, rng=rng
    )
    t = stats.ttest_1samp(effects, 0).statistic
    skewness = stats.skew(effects, bias=False)
    c, a = skewness / (6 * np.sqrt(n)), skewness / (3 * np.sqrt(n))
    expected = t + a * t**2 + a**2 * t**3 / 3 + c
    assert found.maxima[0] == pytest.approx(np.abs(expected).max(), rel=1e-9)


@pytest.mark.prove
def test_family_wise_error_of_skewed_participants_is_nominal():
    one, hits = np.ones((30, 1)), {True: 0, False: 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        effects = rng.exponential(size=(30, 300)) - 1
        weighting = weigh_participants(effects, None)
        assert measure_asymmetry(effects, None, weighting, one, rng=rng).is_marked
        for skewed in hits:
            found = max_statistic([(effects, None)], weighting, one, n_permutations=199,
                                  skewed=skewed, rng=np.random.default_rng(seed))  # fmt: skip
            hits[skewed] += found.p.min() <= 0.05
    assert 0.02 <= hits[True] / 200 <= 0.09
    assert hits[False] / 200 > 0.2, 'the test can fail'
