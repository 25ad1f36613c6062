"""Adaptive shrinkage of signs: the fit of a mixture, false sign rates, blocks of space."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.ashr import (
    false_sign_rate,
    fit_mixture,
    spatial_blocks,
)

N = 8000
SHAPES = {
    'bounded': lambda rng, n: rng.uniform(0.5, 1.5, n),
    'half-normal': lambda rng, n: np.abs(rng.normal(size=n)) * np.sqrt(np.pi / 2),
}


def draw(seed=0, *, discordant=0.0, noise=1.0, shape='bounded', n=N):
    """Make effects of mean size 1 with a share of negative ones, and estimates of them."""
    rng = np.random.default_rng(seed)
    truth = SHAPES[shape](rng, n) * np.where(rng.random(n) < discordant, -1, 1)
    error = noise * np.exp(0.2 * rng.normal(size=n))
    return truth, truth + error * rng.normal(size=n), error


# ------------------------------------------------------------------------------ mixture


def test_mixture_of_two_exclusive_components_is_their_share():
    fit = fit_mixture(np.eye(2), [30.0, 10.0])
    np.testing.assert_allclose(fit.weights, [0.75, 0.25], atol=1e-4)
    assert fit.converged


def test_mixture_is_at_the_optimum_of_the_likelihood():
    rng = np.random.default_rng(1)
    likelihood = rng.random((200, 5))
    fit = fit_mixture(likelihood, np.ones(200))
    score = (likelihood / (likelihood @ fit.weights)[:, None]).mean(axis=0)
    # Karush-Kuhn-Tucker: 1 where a weight is in use, below 1 elsewhere
    np.testing.assert_allclose(score[fit.weights > 0.01], 1.0, atol=2e-3)
    assert np.all(score < 1 + 2e-3)


def test_mixture_obeys_its_constraint():
    rng = np.random.default_rng(2)
    constraint = np.array([1.0, 0.0, -2.0, 0.0])
    fit = fit_mixture(rng.random((100, 4)), np.ones(100), constraint=constraint)
    assert constraint @ fit.weights == pytest.approx(0.0, abs=1e-9)
    assert fit.weights.sum() == pytest.approx(1.0)


def test_mixture_refuses_an_impossible_observation():
    with pytest.raises(ModelInputError, match='one likelihood per component'):
        fit_mixture([[0.0, 0.0]], [1.0])


# ------------------------------------------------------------------------------ per voxel


def test_false_sign_rate_is_that_of_the_known_normal_prior():
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 2.0, 40_000)
    x = truth + rng.normal(size=truth.size)
    posterior = false_sign_rate(x, np.ones(truth.size))
    shrink = 4 / 5
    exact = stats.norm.cdf(-np.abs(shrink * x) / np.sqrt(shrink))
    assert np.abs(posterior.false_sign_rate - exact).mean() < 0.01
    assert posterior.misfit < 0.02


@pytest.mark.parametrize('noise', [0.5, 1.0, 2.0])
@pytest.mark.parametrize('shape', SHAPES)
def test_few_of_the_sure_signs_are_wrong(shape, noise):
    truth, x, error = draw(4, discordant=0.4, noise=noise, shape=shape, n=20_000)
    sure = false_sign_rate(x, error).false_sign_rate < 0.05
    assert sure.any()
    assert np.mean(np.sign(x[sure]) != np.sign(truth[sure])) < 0.05


def test_without_any_effect_no_sign_is_sure():
    x = np.random.default_rng(5).normal(size=N)
    posterior = false_sign_rate(x, np.ones(N))
    assert np.mean(posterior.false_sign_rate < 0.05) < 0.001
    assert posterior.null_fraction > 0.5


def test_few_effects_are_judged_by_their_own_error():
    posterior = false_sign_rate([3.0, -0.5], [1.0, 1.0])
    np.testing.assert_allclose(posterior.false_sign_rate, 2 * stats.norm.sf([3.0, 0.5]))
    np.testing.assert_allclose(posterior.negative, stats.norm.cdf([-3.0, 0.5]))


def test_scale_and_sign_of_the_effects_change_nothing():
    _, x, error = draw(6, discordant=0.2)
    ours = false_sign_rate(x, error)
    scaled = false_sign_rate(-1e4 * x, 1e4 * error)
    np.testing.assert_allclose(scaled.false_sign_rate, ours.false_sign_rate, atol=0.01)
    np.testing.assert_allclose(scaled.negative, 1 - ours.negative, atol=0.01)


@pytest.mark.parametrize('bad', [0.0, -1.0, np.nan, np.inf])
def test_observation_without_usable_error_is_left_out(bad):
    _, x, error = draw(7)
    spoilt = error.copy()
    spoilt[:100] = bad
    posterior = false_sign_rate(x, spoilt)
    assert np.isnan(posterior.false_sign_rate[:100]).all()
    assert np.isfinite(posterior.false_sign_rate[100:]).all()


def test_nothing_usable_gives_nothing():
    assert np.isnan(false_sign_rate([1.0], [0.0]).negative).all()


def test_columns_must_be_equal():
    with pytest.raises(ModelInputError, match='two equal columns'):
        false_sign_rate([1.0, 2.0], [1.0])


# ------------------------------------------------------------------------------ blocks


def test_blocks_are_cubes_of_the_given_side():
    points = np.array([[0, 0, 0], [9.9, 9.9, 9.9], [10.1, 0, 0], [0, 0, 25.0]])
    assert spatial_blocks(points, side=10.0).tolist() == [0, 0, 2, 1]
    assert spatial_blocks(np.empty((0, 3)), side=1.0).size == 0
    with pytest.raises(ModelInputError, match='positive side'):
        spatial_blocks(points, side=0.0)
