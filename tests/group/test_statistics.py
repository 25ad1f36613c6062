"""Random effects per voxel: closed forms, null behaviour, bias and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.group.statistics import (
    Weighting,
    equivalence,
    random_effects,
    smallest_equivalence,
    weigh_participants,
)


def test_equal_variances_give_the_one_sample_t_test():
    effects = np.random.default_rng(0).normal(0.5, 1, (12, 50))
    result = random_effects(effects, np.full(effects.shape, 0.3))
    reference = stats.ttest_1samp(effects, 0)
    np.testing.assert_allclose(result.t, reference.statistic, rtol=1e-10)
    np.testing.assert_allclose(result.p, reference.pvalue, rtol=1e-8)
    np.testing.assert_allclose(result.effect, effects.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(result.variance, effects.var(axis=0, ddof=1) / 12, rtol=1e-10)
    assert (result.dof == 11).all()


def test_variance_between_participants_is_the_excess_over_their_random_errors():
    effects = np.array([[1.0], [4.0], [7.0]])
    assert random_effects(effects, np.full((3, 1), 2.0)).tau2[0] == pytest.approx(7.0)
    assert random_effects(effects, np.full((3, 1), 20.0)).tau2[0] == 0


def test_variance_between_participants_is_recovered_on_average():
    rng = np.random.default_rng(1)
    error = rng.uniform(0.5, 2.0, (15, 1)) * np.ones(4000)
    effects = rng.normal(3, 1.5, (15, 4000)) + rng.normal(size=(15, 4000)) * error
    assert random_effects(effects, error**2).tau2.mean() == pytest.approx(1.5**2, rel=0.05)


def test_noisy_participant_counts_less():
    effects = np.vstack([np.zeros((4, 5)), np.full((1, 5), 10.0)])
    variances = np.vstack([np.full((4, 5), 1.0), np.full((1, 5), 1000.0)])
    assert (random_effects(effects, variances).effect < 0.1).all()


def test_scale_of_the_variances_does_not_change_the_test_of_pure_random_error():
    rng = np.random.default_rng(2)
    variances = np.exp(rng.normal(0, 0.5, (8, 1))) * np.full((8, 30), 4.0)
    effects = rng.normal(size=(8, 30))
    first, second = random_effects(effects, variances), random_effects(effects, 9 * variances)
    np.testing.assert_allclose(first.t, second.t, rtol=1e-10)


@pytest.mark.parametrize('n', [3, 6, 20])
def test_null_is_rejected_at_its_nominal_rate(n):
    rng = np.random.default_rng(n)
    error = np.exp(rng.normal(0, 0.3, (n, 1))) * np.ones(20000)
    effects = rng.normal(size=(n, 20000)) * error + rng.normal(0, 0.5, (n, 20000))
    result = random_effects(effects, error**2)
    assert np.mean(result.p < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(np.abs(result.z) > 1.959964) == np.mean(result.p < 0.05)


def test_weights_do_not_pull_a_change_whose_variance_grows_with_its_estimate_towards_zero():
    rng = np.random.default_rng(4)
    shape, truth = (30, 20000), 6.0
    level = np.exp(rng.normal(0, 0.3, (shape[0], 1)))
    slope = 7.64 / (317 * 0.048)
    flow, rate = rng.normal(55, 6, shape), rng.normal(5.4, 0.5, shape)
    task_flow = 1.12 * flow
    task_rate = (slope * flow * rate + rng.normal(truth, 10, shape)) / (slope * task_flow)

    def measured(values, error):
        return values + error * level * rng.normal(size=shape)

    task_flow, flow = measured(task_flow, 10), measured(flow, 10)
    task_rate, rate = measured(task_rate, 1), measured(rate, 1)
    effects = slope * (task_flow * task_rate - flow * rate)
    variances = (slope * level) ** 2 * (100 * (task_rate**2 + rate**2) + task_flow**2 + flow**2)
    result = random_effects(effects, variances)
    plain = effects.mean(axis=0)
    raw = np.average(effects, axis=0, weights=1 / variances)
    assert abs(np.mean(result.effect - plain)) < 0.03 * truth
    assert np.mean(raw - plain) < -0.05 * truth
    covered = np.abs(result.effect - truth) < stats.t.ppf(0.975, 29) * np.sqrt(result.variance)
    assert 0.93 < covered.mean() < 0.97
    assert result.effect.std() < 0.85 * plain.std()


def test_missing_participants_are_left_out_voxel_by_voxel():
    rng = np.random.default_rng(5)
    effects, variances = rng.normal(1, 1, (6, 4)), np.ones((6, 4))
    effects[0, 1] = np.nan
    variances[3, 2] = np.nan
    effects[1:, 3] = np.nan
    result = random_effects(effects, variances)
    assert result.n.tolist() == [6, 5, 5, 1]
    np.testing.assert_allclose(result.effect[1], effects[1:, 1].mean())
    np.testing.assert_allclose(result.t[2], stats.ttest_1samp(np.delete(effects[:, 2], 3), 0)[0])
    for field in ('effect', 'variance', 't', 'z', 'p', 'dof', 'tau2'):
        assert np.isnan(getattr(result, field)[3])


def test_a_group_of_one_has_no_estimate():
    result = random_effects(np.ones((1, 3)), np.ones((1, 3)))
    assert np.isnan(result.effect).all()
    assert result.n.tolist() == [1, 1, 1]


def test_voxel_that_nobody_has_is_missing_and_its_neighbours_are_not():
    effects = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    result = random_effects(effects, np.ones((2, 2)))
    assert np.isnan(result.t).tolist() == [True, False]


def test_participants_without_any_change_are_no_evidence():
    result = random_effects(np.zeros((4, 2)), np.zeros((4, 2)))
    assert (result.t == 0).all()
    assert (result.p == 1).all()


def test_order_of_voxels_and_participants_is_irrelevant():
    rng = np.random.default_rng(6)
    effects, variances = rng.normal(size=(5, 30)), rng.uniform(0.5, 2, (5, 30))
    voxels, people = rng.permutation(30), rng.permutation(5)
    result = random_effects(effects, variances)
    permuted = random_effects(effects[people][:, voxels], variances[people][:, voxels])
    np.testing.assert_allclose(permuted.t, result.t[voxels], rtol=1e-10)


def test_inputs_are_never_modified():
    effects, variances = np.ones((3, 2)), np.ones((3, 2))
    effects.flags.writeable = variances.flags.writeable = False
    assert (random_effects(effects, variances).effect == 1).all()


@pytest.mark.parametrize(
    ('effects', 'variances', 'message'),
    [
        (np.ones(3), np.ones(3), 'participants, voxels'),
        (np.ones((3, 2)), np.ones((3, 1)), 'participants, voxels'),
        (np.ones((3, 2)), -np.ones((3, 2)), 'negative'),
    ],
)
def test_what_is_no_group_is_refused(effects, variances, message):
    with pytest.raises(ModelInputError, match=message):
        random_effects(effects, variances)


def test_a_design_of_others_and_no_smallest_effect_are_refused():
    with pytest.raises(ModelInputError, match='must have 3 rows'):
        random_effects(np.ones((3, 2)), None, design=np.ones((2, 1)))
    with pytest.raises(ModelInputError, match='must be positive'):
        equivalence(random_effects(np.ones((3, 2)), None), 0.0)


@pytest.mark.parametrize('n', [4, 10])
def test_moderated_null_is_rejected_at_its_nominal_rate(n):
    rng = np.random.default_rng(n)
    level = np.exp(rng.normal(0, 0.3, (n, 1)))
    spread = rng.uniform(0.5, 2, 20000)
    random = level * rng.uniform(1, 3, 20000)
    effects = rng.normal(size=random.shape) * np.hypot(random, spread)
    weighting = weigh_participants(effects[:, ::4], random[:, ::4] ** 2)
    result = random_effects(effects, random**2, weighting=weighting)
    assert np.mean(result.p < 0.05) == pytest.approx(0.05, abs=0.008)
    assert (result.dof > n - 1).all()
    plain = random_effects(effects, random**2)
    shifted = random_effects(effects + 2.5, random**2, weighting=weighting)
    unmoderated = random_effects(effects + 2.5, random**2)
    assert np.mean(shifted.p < 0.001) > np.mean(unmoderated.p < 0.001)
    assert plain.dof.max() == n - 1


def test_voxels_that_are_alike_lend_each_other_degrees_of_freedom_and_others_do_not():
    rng = np.random.default_rng(9)
    alike = rng.normal(size=(6, 5000))
    unlike = alike * np.exp(rng.normal(0, 2, 5000))
    assert weigh_participants(alike, None).prior_dof > 100
    assert weigh_participants(unlike, None).prior_dof < 2
    assert weigh_participants(alike[:, :50], None).prior_dof == 0


def test_standard_error_carries_the_t_distribution_into_normal_methods():
    rng = np.random.default_rng(10)
    result = random_effects(rng.normal(0.3, 1, (5, 200)), None)
    np.testing.assert_allclose(result.effect / result.standard_error, result.z, rtol=1e-6)
    assert (result.standard_error > np.sqrt(result.variance)).all()
    still = random_effects(np.array([[1.0], [-1.0], [0.0]]), None)
    assert np.isfinite(still.standard_error).all()


def test_covariate_is_regressed_out_and_can_be_tested():
    rng = np.random.default_rng(11)
    age = rng.normal(size=30)
    design = np.stack([np.ones(30), age - age.mean()], axis=1)
    effects = 2.0 + 3.0 * design[:, 1:] + rng.normal(size=(30, 40))
    mean = random_effects(effects, None, design=design)
    slope = random_effects(effects, None, design=design, tested=1)
    fit = [stats.linregress(design[:, 1], column) for column in effects.T]
    np.testing.assert_allclose(slope.effect, [one.slope for one in fit], rtol=1e-9)
    np.testing.assert_allclose(slope.p, [one.pvalue for one in fit], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(mean.effect, effects.mean(axis=0), rtol=1e-9)
    assert (mean.dof == 28).all()


def test_voxel_whose_participants_cannot_tell_the_design_apart_is_missing():
    design = np.stack([np.ones(6), [1, 1, 1, -1, -1, -1]], axis=1)
    effects = np.random.default_rng(12).normal(size=(6, 2))
    effects[3:, 1] = np.nan
    result = random_effects(effects, None, design=design)
    assert np.isnan(result.t).tolist() == [False, True]


def test_weights_of_a_weighting_are_used():
    effects = np.array([[1.0], [3.0]])
    weighting = Weighting(participants=np.array([0.5, 1.5]))
    assert random_effects(effects, None, weighting=weighting).effect[0] == pytest.approx(2.5)


@pytest.mark.parametrize('shape', ['normal', 't3', 'exponential'])
@pytest.mark.parametrize('n', [5, 20])
def test_null_of_very_unequal_participants_is_rejected_at_its_nominal_rate(n, shape):
    rng = np.random.default_rng(n)
    rates = []
    for _ in range(12):
        error = np.exp(rng.normal(0, 0.9, (n, 1))) * np.ones(2000)
        draw = {
            'normal': rng.standard_normal,
            't3': lambda size: rng.standard_t(3, size) / np.sqrt(3),
            'exponential': lambda size: rng.exponential(1, size) - 1,
        }[shape]
        effects = draw(error.shape) + error * rng.standard_normal(error.shape)
        weighting = weigh_participants(effects, error**2)
        p = random_effects(effects, error**2, weighting=weighting).p
        rates.append([(p < 0.05).mean(), (p < 0.001).mean()])
    at_05, at_001 = np.mean(rates, axis=0)
    assert 0.04 < at_05 < 0.06
    assert at_001 < 0.002


def test_weights_follow_the_true_spread_of_very_unequal_participants():
    rng = np.random.default_rng(13)
    error = np.exp(rng.normal(0, 0.9, (10, 1)))
    effects = rng.normal(0, 1.5, (10, 5000)) + error * rng.standard_normal((10, 5000))
    weights = weigh_participants(effects, error**2 * np.ones(5000)).participants
    best = 1 / (error[:, 0] ** 2 + 1.5**2)
    np.testing.assert_allclose(weights, best / best.mean(), rtol=0.05)


def test_smallest_delta_is_where_an_effect_of_zero_just_shows_equivalence():
    result = random_effects(np.array([[0.3], [-0.3], [0.1], [-0.1]]), None)
    delta = smallest_equivalence(result)
    assert equivalence(result, float(delta[0]))[0] == pytest.approx(0.05, rel=1e-9)
    assert equivalence(result, 0.9 * float(delta[0]))[0] > 0.05
