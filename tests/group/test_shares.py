"""What participants tell of a share: leaving them out, and flipping their signs around offsets."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.group.shares import (
    common_offsets,
    jackknife_groups,
    leave_out,
    sign_flip_probability,
    sign_flip_products,
)
from bids_app.group.statistics import random_effects, weigh_participants


def probability(values, rng, baseline=None):
    base = np.ones(values.shape[1]) if baseline is None else baseline
    offsets = common_offsets([(values, base)])
    products = sign_flip_products(values, offsets[:, None] * base, np.ones(len(values)))
    return sign_flip_probability(products, rng=rng)


@pytest.mark.parametrize('offset', [0.0, 3.0])
def test_sign_flips_reject_five_percent_of_nulls_with_shared_noise_and_offsets(offset):
    """Heavy tails, noise shared by neighbours, participants of unequal noise: still exact."""
    hits = 0
    for seed in range(300):
        rng = np.random.default_rng([1, seed, int(offset)])
        block = np.repeat(np.arange(20), 10)
        noise = rng.standard_t(3, (10, 20))[:, block] + rng.standard_t(3, (10, 200))
        values = offset + rng.normal(0, 2, (10, 1)) + noise * np.exp(rng.normal(0, 0.7, (10, 1)))
        hits += probability(values, rng) <= 0.05
    # binomial: 15 expected, 95 % within 8 and 23
    assert 6 <= hits <= 25


def test_changes_of_both_signs_are_found_beside_an_offset():
    rng = np.random.default_rng(2)
    truth = np.where(rng.random(500) < 0.6, 1.0, -1.0)
    values = truth + 5.0 + rng.normal(0, 3, (12, 500))
    assert probability(values, rng) < 0.01


def test_offset_is_a_share_of_the_baseline_and_missing_voxels_are_left_out():
    baseline = np.array([1.0, 2.0, 4.0])
    values = np.array([[0.1, 0.2, np.nan], [np.nan] * 3])
    np.testing.assert_allclose(common_offsets([(values, baseline)]), [0.1, 0.0])


def test_blocks_of_voxels_add_up():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(7, 60))
    fitted = np.zeros(values.shape)
    whole = sign_flip_products(values, fitted, np.ones(7))
    parts = [sign_flip_products(values[:, k], fitted[:, k], np.ones(7))
             for k in (slice(0, 25), slice(25, 60))]  # fmt: skip
    np.testing.assert_allclose(sum(parts), whole)


def test_fewer_than_six_participants_are_never_significant():
    rng = np.random.default_rng(4)
    values = np.where(np.arange(50) < 25, 9.0, -9.0) + rng.normal(size=(5, 50))
    assert probability(values, rng) > 0.05
    with pytest.raises(ModelInputError, match='participants, participants'):
        sign_flip_probability(np.ones((2, 3)), rng=rng)


def test_leaving_out_a_participant_is_the_mean_of_the_others():
    rng = np.random.default_rng(5)
    values, variances = rng.normal(size=(6, 150)), np.ones((6, 150))
    weighting = weigh_participants(values, variances)
    effects, errors = leave_out(values, variances, weighting, np.ones((6, 1)))
    kept = np.arange(6) != 2
    expected = random_effects(values[kept], variances[kept], weighting=weighting.of(kept))
    np.testing.assert_allclose(effects[2], expected.effect)
    np.testing.assert_allclose(errors[2], expected.standard_error)
    assert jackknife_groups(100).max() == 39


@pytest.mark.parametrize('has_variances', [True, False])
def test_mean_without_a_participant_is_that_of_the_others(has_variances):
    """Medians that are counted in one sorted column are those of each sample."""
    rng = np.random.default_rng(12)
    x, v = rng.normal(size=(7, 60)), rng.gamma(2.0, 1.0, (7, 60))
    x[rng.random(x.shape) < 0.2] = np.nan
    v[:, :3], v[1:, 4] = np.nan, np.nan
    variances = v if has_variances else None
    weighting, design = weigh_participants(x, variances), np.ones((7, 1))
    effects, errors = leave_out(x, variances, weighting, design)
    for group in range(7):
        kept = np.arange(7) != group
        part = random_effects(
            x[kept], None if variances is None else v[kept], weighting=weighting.of(kept)
        )
        np.testing.assert_array_equal(effects[group], part.effect)
        np.testing.assert_array_equal(errors[group], part.standard_error)
    assert np.isnan(effects).any() == has_variances
