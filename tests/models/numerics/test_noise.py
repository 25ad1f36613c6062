"""Pooled noise variance."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import calibrate_errors, pool_variance


def chi_square_variance(rng, true_variance, dof, n_voxels):
    return true_variance * rng.chisquare(dof, n_voxels) / dof


@pytest.mark.parametrize('dof', [1, 2, 6, 10, 50])
def test_pooled_variance_is_unbiased_for_any_degrees_of_freedom(dof):
    rng = np.random.default_rng(dof)
    pooled, effective = pool_variance(chi_square_variance(rng, 4.0, dof, 40_000), dof)
    np.testing.assert_allclose(pooled, 4.0, rtol=5 * np.sqrt(2 / effective))


def test_pooled_variance_is_unbiased_where_voxels_have_different_degrees_of_freedom():
    rng = np.random.default_rng(5)
    dof = rng.choice([1, 4, 10], 40_000, p=[0.5, 0.2, 0.3])
    pooled, effective = pool_variance(4.0 * rng.chisquare(dof) / dof, dof)
    assert pooled[0] == pytest.approx(4.0, rel=5 * np.sqrt(2 / effective))


@pytest.mark.parametrize('dof', [2, 6])
def test_effective_dof_predicts_the_spread_of_the_pooled_variance(dof):
    rng = np.random.default_rng(11)
    draws = [pool_variance(chi_square_variance(rng, 1.0, dof, 201), dof) for _ in range(2000)]
    spread = np.var([pooled[0] for pooled, _ in draws])
    assert 2 / spread == pytest.approx(draws[0][1], rel=0.15)


def test_misfit_voxels_do_not_move_the_pooled_variance():
    rng = np.random.default_rng(2)
    variance = chi_square_variance(rng, 4.0, 6, 10_000)
    clean = pool_variance(variance, 6)[0][0]
    variance[:300] = 1e6
    assert pool_variance(variance, 6)[0][0] == pytest.approx(clean, rel=0.05)


def test_each_group_has_its_own_variance():
    rng = np.random.default_rng(3)
    groups = np.repeat([7, -2], 20_000)
    variance = np.where(groups == 7, 1.0, 9.0) * rng.chisquare(6, 40_000) / 6
    pooled, dof = pool_variance(variance, 6, groups)
    assert pooled[groups == 7] == pytest.approx(1.0, rel=0.05)
    assert pooled[groups == -2] == pytest.approx(9.0, rel=0.05)
    assert dof == pool_variance(variance[:20_000], 6)[1]


def test_a_group_with_few_degrees_of_freedom_takes_the_variance_of_all():
    rng = np.random.default_rng(4)
    groups = np.r_[np.zeros(5000, int), np.ones(10, int)]
    variance = chi_square_variance(rng, 4.0, 6, 5010)
    pooled, dof = pool_variance(variance, 6, groups)
    everything, dof_all = pool_variance(variance, 6)
    assert pooled[-1] == everything[0]
    assert 100 < dof < dof_all


def test_voxels_without_an_estimate_are_ignored_but_get_the_pooled_variance():
    variance = np.r_[np.full(50, 2.0), np.nan, 1e9]
    dof = np.r_[np.full(51, 10.0), 0.0]
    pooled, effective = pool_variance(variance, dof)
    expected, expected_dof = pool_variance(np.full(50, 2.0), 10)
    assert pooled == pytest.approx(np.full(52, expected[0]))
    assert effective == pytest.approx(expected_dof)


def test_without_any_estimate_there_is_no_pooled_variance():
    pooled, dof = pool_variance([np.nan, np.nan], 5, [0, 1])
    assert np.isnan(pooled).all()
    assert dof == 0


def test_effective_dof_never_exceeds_the_sum_over_voxels():
    assert pool_variance([3.0], 6)[1] <= 6


@pytest.mark.parametrize(
    ('variance', 'groups', 'text'),
    [
        ([[1.0]], None, 'one axis'),
        ([-1.0], None, 'negative'),
        ([1.0, 2.0], [0], 'groups must have the shape'),
    ],
)
def test_contradictory_arguments_are_refused(variance, groups, text):
    with pytest.raises(ModelInputError, match=text):
        pool_variance(variance, 5, groups)


@pytest.mark.parametrize(
    ('stated', 'verdict'),
    [(1.0, 'right'), (0.64, 'too small'), (1.5625, 'too large')],
)  # fmt: skip
def test_two_measurements_tell_whether_stated_errors_are_right(stated, verdict):
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 10, 200_000)
    halves = [Estimate.of(truth + rng.normal(size=truth.size), stated) for _ in range(2)]
    found = calibrate_errors(*halves)
    assert found.verdict.endswith(verdict)
    assert found.sd == pytest.approx(stated**-0.5, abs=0.01)


def test_few_or_exact_measurements_have_no_verdict():
    exact = Estimate.of(np.ones(100), 0.0)
    assert calibrate_errors(exact, exact).verdict == 'too few voxels'
    with pytest.raises(ModelInputError, match='shapes'):
        calibrate_errors(exact, Estimate.of([1.0], 1.0))


def test_interval_of_the_scatter_covers_and_widens_with_shared_noise():
    rng = np.random.default_rng(3)
    zero = Estimate.of(np.zeros(400))
    found = [calibrate_errors(Estimate.of(rng.normal(size=400), 1.0), zero) for _ in range(300)]
    assert 0.92 <= np.mean([one.low <= 1 <= one.high for one in found]) <= 0.98
    noisy = Estimate.of(rng.normal(size=400), 1.0)
    alone, shared = (calibrate_errors(noisy, zero, voxels_per_sample=n) for n in (1.0, 4.0))
    assert shared.high - shared.sd == pytest.approx(2 * (alone.high - alone.sd))
