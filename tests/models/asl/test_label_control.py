"""Differences of control and label."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.asl.label_control import (
    estimate_difference,
    half_difference,
    pairs_per_delay,
    sign_of_difference,
)
from bids_app.models.status import Status

PAIRS = ['control', 'label']


def test_difference_is_control_minus_label_whichever_comes_first():
    series = np.array([[10.0, 8.0, 11.0, 8.0]])
    first = estimate_difference(series, context=PAIRS * 2)
    swapped = estimate_difference(series[:, [1, 0, 3, 2]], context=['label', 'control'] * 2)
    assert first.value[0] == swapped.value[0] == 2.5
    assert first.variance[0] == swapped.variance[0] > 0


def test_volumes_of_other_kinds_are_left_out():
    series = np.array([[500.0, np.nan, 10.0, 8.0, 11.0, 8.0]])
    context = ['m0scan', 'n/a', *PAIRS, *PAIRS]
    assert estimate_difference(series, context=context).value[0] == 2.5


def test_ready_differences_are_averaged():
    difference = estimate_difference([[2.0, 3.0, 4.0, 900.0]], context=['deltam'] * 3 + ['m0scan'])
    assert difference.value[0] == 3.0
    assert difference.variance[0] > 0


def test_variance_is_that_of_the_mean_and_covers_the_truth():
    rng = np.random.default_rng(3)
    n_voxels, n_pairs, noise = 4000, 39, 5.0
    series = 1000 + noise * rng.standard_normal((n_voxels, 2 * n_pairs))
    series[:, ::2] += 6.0
    difference = estimate_difference(series, context=PAIRS * n_pairs)
    assert difference.variance[0] == pytest.approx(2 * noise**2 / n_pairs, rel=0.02)
    covered = np.abs(difference.value - 6.0) < 1.96 * np.sqrt(difference.variance)
    assert covered.mean() == pytest.approx(0.95, abs=0.012)
    assert difference.dof > 100


def test_even_noise_is_pooled_within_its_group():
    rng = np.random.default_rng(4)
    groups = np.repeat([0, 1], 500)
    series = rng.standard_normal((1000, 20)) * np.where(groups == 1, 4.0, 1.0)[:, np.newaxis]
    variance = estimate_difference(series, context=PAIRS * 10, noise_groups=groups).variance
    assert variance[500:] / variance[:500] == pytest.approx(np.full(500, 16), rel=0.25)


def test_slow_drift_does_not_become_perfusion():
    drift = np.linspace(0, 20, 80)
    series = 1000 + drift + np.tile([6.0, 0.0], 40)
    difference = estimate_difference(series[np.newaxis], context=PAIRS * 40)
    assert difference.value[0] == pytest.approx(6.0, abs=0.3)


def test_single_difference_gets_the_spread_over_voxels_as_an_upper_bound():
    rng = np.random.default_rng(5)
    values = 6 + 2 * rng.standard_normal((2000, 1))
    difference = estimate_difference(values, context=['deltam'])
    assert difference.variance[0] == pytest.approx(4.0, rel=0.15)
    grouped = estimate_difference(
        np.concatenate([values, values + 50]),
        context=['deltam'],
        noise_groups=[0] * 2000 + [1] * 2000,
    )
    assert grouped.variance[0] == pytest.approx(4.0, rel=0.15)


def test_empty_and_spoilt_voxels_are_told_apart():
    series = np.array(
        [[1.0, 0.5, 1.2, 0.4], [0.0] * 4, [1.0, np.nan, 1.0, 1.0], [1, np.inf, 1, 1]]
    )
    status = estimate_difference(series, context=PAIRS * 2).status
    np.testing.assert_array_equal(
        status, [Status.OK, Status.NO_SIGNAL, Status.INVALID_INPUT, Status.INVALID_INPUT]
    )


@pytest.mark.parametrize(
    ('context', 'message'),
    [
        (['control', 'label', 'control'], 'equally many'),
        (['m0scan', 'noRF', 'n/a'], 'expected either'),
        (['control', 'label', 'deltam'], 'expected either'),
        (['control', 'label'], 'one volume per entry'),
    ],
)
def test_context_that_does_not_make_pairs_is_refused(context, message):
    with pytest.raises(ModelInputError, match=message):
        estimate_difference(np.ones((2, 3)), context=context)


def spiked(seed, *, n_voxels=2000, n_pairs=40, spikes=2, size=20.0):
    """Pairs with a difference of 6, noise 5, and whole volumes that jump."""
    rng = np.random.default_rng(seed)
    series = 1000 + 5 * rng.standard_normal((n_voxels, 2 * n_pairs))
    series[:, ::2] += 6
    for pair in rng.choice(n_pairs, spikes, replace=False):
        series[:, 2 * pair] += size * rng.standard_normal(n_voxels) * 5
    return series


def error(difference):
    return np.sqrt(np.mean((difference.value - 6) ** 2))


def test_spikes_in_a_twentieth_of_the_pairs_cost_less_than_half_of_what_they_cost_the_mean():
    series, context = spiked(8), PAIRS * 40
    plain = estimate_difference(series, context=context)
    robust = estimate_difference(series, context=context, robust=True)
    assert error(robust) < 0.5 * error(plain)
    covered = np.abs(robust.value - 6) < 1.96 * np.sqrt(robust.variance)
    assert covered.mean() == pytest.approx(0.95, abs=0.02)


def test_spikes_of_single_voxels_are_weighted_down_too():
    rng = np.random.default_rng(9)
    series = spiked(10, spikes=0)
    hit = rng.random(series.shape) < 0.02
    series = series + hit * 200
    context = PAIRS * 40
    robust = estimate_difference(series, context=context, robust=True)
    assert error(robust) < 0.5 * error(estimate_difference(series, context=context))


def test_without_outliers_robust_costs_next_to_nothing():
    series, context = spiked(11, spikes=0, n_voxels=8000), PAIRS * 40
    plain = estimate_difference(series, context=context)
    robust = estimate_difference(series, context=context, robust=True)
    assert error(robust) < 1.02 * error(plain)
    assert robust.variance[0] == pytest.approx(2 * 25 / 40, rel=0.04)


def test_every_delay_gets_its_mean_and_the_variance_of_its_number_of_pairs():
    rng = np.random.default_rng(12)
    index = np.repeat([0, 1, 1], 2).tolist() * 8
    series = rng.standard_normal((3000, 48)) + 100
    series += np.tile([2.0, 0, 5, 0, 5, 0], 8)
    difference = estimate_difference(series, context=PAIRS * 24, delay_index=index)
    np.testing.assert_allclose(difference.value.mean(axis=0), [2, 5], atol=0.05)
    np.testing.assert_allclose(difference.variance[0], [2 / 8, 2 / 16], rtol=0.03)
    assert pairs_per_delay(PAIRS * 24, index) == (8, 16)


def test_control_and_label_of_different_delays_make_no_pair():
    with pytest.raises(ModelInputError, match='same delay'):
        estimate_difference(np.ones((2, 4)), context=PAIRS * 2, delay_index=[0, 1, 1, 0])
    with pytest.raises(ModelInputError, match='one entry per volume'):
        estimate_difference(np.ones((2, 4)), context=PAIRS * 2, delay_index=[0, 0])


@pytest.mark.parametrize('robust', [True, False])
@pytest.mark.parametrize('delays', [None, [0, 0, 1, 1] * 20])
def test_odd_minus_even_pairs_are_standard_normal_in_units_of_their_error(robust, delays):
    series = spiked(13, spikes=0, n_voxels=8000)
    half = half_difference(series, context=PAIRS * 40, delay_index=delays, robust=robust)
    z = half.value / np.sqrt(half.variance)
    assert z.mean() == pytest.approx(0, abs=0.04)
    assert z.std() == pytest.approx(1, abs=0.03)


def test_fewer_than_four_pairs_have_no_halves():
    assert half_difference(np.ones((2, 6)), context=PAIRS * 3) is None


@pytest.mark.parametrize('n_pairs', [1, 20])
def test_sign_tells_a_swapped_context(n_pairs):
    series = spiked(14, spikes=0, n_pairs=n_pairs)
    assert sign_of_difference(series, context=PAIRS * n_pairs) > 5
    assert sign_of_difference(series, context=['label', 'control'] * n_pairs) < -5


def test_sign_of_nothing_is_no_sign():
    assert sign_of_difference(np.full((3, 2), np.nan), context=PAIRS) == 0
    assert sign_of_difference(np.ones((1, 2)), context=PAIRS) == 0
