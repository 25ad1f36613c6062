"""Pooled noise variance."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import (
    SIZES,
    calibrate_errors,
    calibrate_levels,
    correlation_width,
    cubes_of,
    error_scales,
    long_run_ratio,
    moderate_variance,
    pool_variance,
    shared_noise,
)
from bids_app.models.numerics.regions import summarise_regions


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


@pytest.mark.parametrize('spread', [0.0, 0.35, 0.5])
@pytest.mark.parametrize('dof', [1, 6, 38])
def test_an_error_over_its_moderated_one_is_normal_with_even_and_uneven_noise(dof, spread):
    rng = np.random.default_rng([dof, int(100 * spread)])
    sd = np.exp(spread * rng.normal(size=20_000))
    moderated, _ = moderate_variance(chi_square_variance(rng, sd**2, dof, sd.size), dof)
    z = sd * rng.normal(size=sd.size) / np.sqrt(moderated)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)


def test_uneven_noise_keeps_its_place_and_even_noise_is_pooled():
    rng = np.random.default_rng(6)
    even = chi_square_variance(rng, 4.0, 6, 5000)
    moderated, dof = moderate_variance(even, 6)
    assert moderated == pytest.approx(np.full(5000, 4.0), rel=0.2)
    assert dof > 100
    moderated, dof = moderate_variance(even * np.repeat([1.0, 25.0], 2500), 6)
    assert moderated[2500:].mean() > 8 * moderated[:2500].mean()
    assert dof < 12


def test_misfit_voxels_keep_their_variance_and_do_not_lend_it():
    rng = np.random.default_rng(7)
    variance = chi_square_variance(rng, 4.0, 6, 10_000)
    variance[:100] = 1e4
    moderated, dof = moderate_variance(variance, 6)
    assert np.median(moderated[100:]) == pytest.approx(4.0, rel=0.1)
    assert moderated[:100].min() > 1000
    assert dof > 10


def test_a_voxel_without_residuals_takes_what_its_group_expects():
    rng = np.random.default_rng(8)
    groups = np.repeat([0, 1], 2000)
    variance = np.where(groups == 1, 9.0, 1.0) * rng.chisquare(6, 4000) / 6
    variance[[0, -1]] = np.nan
    moderated, _ = moderate_variance(variance, 6, groups)
    assert moderated[[0, -1]] == pytest.approx([1.0, 9.0], rel=0.1)
    assert np.isnan(moderate_variance([np.nan, np.nan], 6)[0]).all()
    assert np.array_equal(moderate_variance(np.zeros(500), 6)[0], np.zeros(500))


@pytest.mark.parametrize(
    ('n_samples', 'correlation', 'limit'),
    [(12, 0.3, 0.06), (39, 0.0, 0.04), (39, 0.3, 0.04), (39, 0.6, 0.1)],
)
def test_mean_of_correlated_samples_has_the_error_of_the_long_run(n_samples, correlation, limit):
    rng = np.random.default_rng([n_samples, int(100 * correlation)])
    white = rng.normal(size=(6000, n_samples + 50))
    samples = lfilter([1], [1, -correlation], white, axis=1)[:, 50:]
    mean = samples.mean(axis=1)
    ratio = long_run_ratio(samples - mean[:, np.newaxis])
    z = mean / np.sqrt(samples.var(axis=1, ddof=1).mean() * ratio / n_samples)
    assert z.std() == pytest.approx(1, abs=limit)


@pytest.mark.parametrize('noise', [0.0, 0.01, 0.3])
@pytest.mark.parametrize('n_samples', [8, 20, 39, 60])
def test_series_that_alternate_have_a_better_mean_than_independent_ones(n_samples, noise):
    rng = np.random.default_rng(n_samples)
    series = rng.uniform(1, 2, (200, 1)) * (-1.0) ** np.arange(n_samples)
    series = series + noise * rng.normal(size=series.shape)
    assert (long_run_ratio(series - series.mean(axis=1, keepdims=True)) < 1).all()


def test_voxels_differ_in_the_correlation_of_their_noise():
    rng = np.random.default_rng(9)
    white = rng.normal(size=(4000, 90))
    halves = (lfilter([1], [1, -phi], part, axis=1)[:, 50:]
              for phi, part in zip((0.0, 0.5), np.split(white, 2), strict=True))  # fmt: skip
    samples = np.concatenate(list(halves))
    ratio = long_run_ratio(samples - samples.mean(axis=1, keepdims=True))
    assert np.median(ratio[2000:]) > 1.5 * np.median(ratio[:2000])


SIDE = 4.0
POINTS = SIDE * np.stack(np.unravel_index(np.arange(20 * 20 * 10), (20, 20, 10)), axis=1)


@pytest.mark.parametrize('shared', [0.0, 0.3, 0.8])
def test_region_has_the_error_of_its_own_series(shared):
    """Pairs of uneven noise that fluctuate together by a part of it; z at every size."""
    rng = np.random.default_rng(int(10 * shared))
    z = {level: [] for level in SIZES}
    for _ in range(60):
        sd = np.exp(0.35 * rng.normal(size=len(POINTS)))
        pairs = sd[:, None] * rng.normal(size=(len(POINTS), 39)) + shared * rng.normal(size=39)
        mean = pairs.mean(axis=1)
        variance, _ = moderate_variance(pairs.var(axis=1, ddof=1), 38)
        share = shared_noise(pairs - mean[:, None], variance, POINTS)
        for level, side in SIZES.items():
            labels, indices = cubes_of(POINTS, side)
            region = summarise_regions(
                Estimate.of(mean, variance / 39), labels, indices, shared=share[level]
            )
            z[level].extend(region['mean'] / region['se'])
    for level, values in z.items():
        # whatever is in common to the brain is one draw of a study, here 60 in all
        assert np.std(values) == pytest.approx(1, abs=0.2), level
        assert np.mean(np.abs(values) < 1.96) > 0.9, level


def test_share_of_slow_noise_counts_the_memory_of_its_voxels():
    rng = np.random.default_rng(4)
    points, seen = POINTS[::4], []

    def slow(*shape):
        return np.sqrt(0.75) * lfilter([1], [1, -0.5], rng.normal(size=(*shape, 70)))[..., 40:]

    for _ in range(100):
        series = slow(len(points)) + 0.5 * slow()
        mean = series.mean(axis=1)
        variance = long_run_ratio(series - mean[:, None]) * series.var(axis=1, ddof=1)
        share = shared_noise(series - mean[:, None], variance, points)['brain']
        seen.append(share * variance.mean() / 30)
    # memory triples the variance of the mean of 30 samples, less 4 % at the ends
    assert np.mean(seen) == pytest.approx(0.96 * 0.25 * 3 / 30, rel=0.1)


def test_uneven_errors_fail_the_calibration_by_their_tails():
    rng = np.random.default_rng(4)
    sd = np.exp(0.5 * rng.normal(size=40_000))
    zero = Estimate.of(np.zeros(sd.size))
    found = calibrate_errors(Estimate.of(sd * rng.normal(size=sd.size), 1.0), zero)
    assert 0.9 < found.sd < 1.1
    assert 'uneven' in found.verdict
    assert found.factor > 1.2


def test_calibration_of_regions_sees_noise_in_common_that_voxels_hide():
    rng = np.random.default_rng(5)
    cubes, _ = cubes_of(POINTS, 20.0)
    half = rng.normal(size=len(POINTS)) + 0.5 * rng.normal(size=cubes.max() + 1)[cubes]
    none = dict.fromkeys(SIZES, 0.0)
    facts = calibrate_levels(Estimate.of(half, 1.25), POINTS, none)
    assert facts['voxel']['Verdict'] == 'right'
    assert facts['parcel']['SDofZ'] > 2
    known = calibrate_levels(Estimate.of(half, 1.25), POINTS, none | {'parcel': 0.2})
    assert 0.7 < known['parcel']['SDofZ'] < 1.4


def test_too_few_samples_or_voxels_tell_nothing_of_correlation():
    rng = np.random.default_rng(10)
    for shape in ((1000, 5), (50, 40)):
        assert np.array_equal(long_run_ratio(rng.normal(size=shape)), np.ones(shape[0]))


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
    with pytest.raises(ModelInputError, match='expected, got'):
        shared_noise(np.ones((3, 4)), np.ones(3), np.ones((3, 2)))


def test_interval_of_the_scatter_covers_and_widens_with_shared_noise():
    rng = np.random.default_rng(3)
    zero = Estimate.of(np.zeros(400))
    found = [calibrate_errors(Estimate.of(rng.normal(size=400), 1.0), zero) for _ in range(300)]
    assert 0.92 <= np.mean([one.low <= 1 <= one.high for one in found]) <= 0.98
    noisy = Estimate.of(rng.normal(size=400), 1.0)
    alone, shared = (calibrate_errors(noisy, zero, voxels_per_sample=n) for n in (1.0, 4.0))
    assert shared.high - shared.sd == pytest.approx(2 * (alone.high - alone.sd))


@pytest.mark.parametrize('fwhm', [5.0, 8.0])
def test_the_width_of_smooth_noise_is_found_in_voxels_of_any_shape(fwhm):
    """Noise smoothed by a Gaussian correlates over sqrt(2) of its width."""
    zooms = np.array([1.0, 1.25, 2.0])
    rng = np.random.default_rng(4)
    sigma = fwhm / np.sqrt(8 * np.log(2)) / zooms
    volumes = [gaussian_filter(rng.normal(size=(40, 36, 30)), sigma) for _ in range(3)]
    volumes[0][:5] = np.nan
    assert correlation_width(volumes, zooms) == pytest.approx(fwhm, rel=0.06)


@pytest.mark.parametrize('factor', [0.0, np.nan, np.inf])
def test_runs_that_are_alike_tell_of_no_error(factor):
    assert error_scales([factor, 1.3]) == (0.9, 1.0, 1.3)
    assert error_scales([factor]) == error_scales([])
