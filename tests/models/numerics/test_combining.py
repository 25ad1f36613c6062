"""Runs joined by inverse variance, maps smoothed within a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.combining import combine_runs, smooth_in_mask
from bids_app.models.status import Status

values = npst.arrays(float, 3, elements=st.floats(-100, 100))
variances = npst.arrays(float, 3, elements=st.floats(0.01, 100))


def test_weights_are_inverse_variances():
    combined = combine_runs([Estimate.of([10.0], 1.0), Estimate.of([20.0], 4.0)])
    assert combined.value[0] == pytest.approx((10 / 1 + 20 / 4) / (1 / 1 + 1 / 4))
    assert combined.variance[0] == pytest.approx(1 / (1 / 1 + 1 / 4))


@given(values, variances, values, variances)
def test_order_of_runs_does_not_matter(x, u, y, v):
    one = combine_runs([Estimate.of(x, u), Estimate.of(y, v)])
    other = combine_runs([Estimate.of(y, v), Estimate.of(x, u)])
    np.testing.assert_allclose(one.value, other.value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.variance, other.variance)


@given(values, variances)
def test_repeating_a_run_halves_the_variance_and_keeps_the_value(x, u):
    run = Estimate.of(x, u, dof=30)
    combined = combine_runs([run, run])
    np.testing.assert_allclose(combined.value, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(combined.variance, u / 2)
    assert combined.dof == 60


def test_variance_is_the_spread_of_repeated_measurements(rng):
    errors = np.array([[1.0], [2.0], [0.5]])
    runs = 7 + errors * rng.standard_normal((3, 20000))
    combined = combine_runs([Estimate.of(x, e**2) for x, e in zip(runs, errors, strict=True)])
    assert combined.value.var() == pytest.approx(combined.variance[0], rel=0.03)


@pytest.mark.parametrize('overstated', [0.3, 1.0, 8.0])
def test_runs_say_how_large_the_error_is_beside_what_they_differ_by_in_common(rng, overstated):
    truth, spread = rng.normal(20, 5, 4000), rng.choice([0.5, 1.0], 4000)

    def pair():
        return combine_runs(
            [
                Estimate.of(truth + drift + spread * rng.standard_normal(4000), overstated**2)
                for drift in (0.0, 3.0)
            ],
            by_scatter=True,
        )

    one, two = pair(), pair()
    z = (one.value - two.value) / np.sqrt(one.variance + two.variance)
    assert 0.9 < z.std() < 1.1
    assert one.dof < 100


def test_a_voxel_with_one_run_takes_the_scatter_of_the_others(rng):
    runs = rng.standard_normal((2, 4000))
    runs[1, 0] = np.nan
    codes = np.where(np.isnan(runs), Status.NO_SIGNAL, Status.OK)
    combined = combine_runs(
        [Estimate.of(run, 9.0, code) for run, code in zip(runs, codes, strict=True)],
        by_scatter=True,
    )
    assert combined.variance[0] == pytest.approx(1.0, rel=0.2)


def test_a_voxel_missing_in_one_run_is_taken_from_the_other():
    whole = Estimate.of([1.0, 2.0], 0.5)
    holed = Estimate.of([3.0, np.nan], 0.5, [Status.OK, Status.NO_SIGNAL])
    combined = combine_runs([holed, whole])
    np.testing.assert_allclose(combined.value, [2.0, 2.0])
    np.testing.assert_allclose(combined.variance, [0.25, 0.5])
    np.testing.assert_array_equal(combined.status, [Status.OK, Status.OK])


def test_a_voxel_missing_in_all_runs_keeps_the_first_reason():
    runs = [Estimate.of([np.nan], np.nan, code) for code in (Status.NO_SIGNAL, Status.AT_BOUND)]
    combined = combine_runs(runs)
    assert np.isnan(combined.value[0])
    assert combined.status[0] == Status.NO_SIGNAL


def test_caution_of_one_run_stays_with_the_joined_value():
    flagged = Estimate.of([-1.0], 1.0, Status.NEGATIVE)
    combined = combine_runs([Estimate.of([1.0], 1.0), flagged])
    assert combined.value[0] == 0.0
    assert combined.status[0] == Status.NEGATIVE


def test_exact_runs_count_alone():
    combined = combine_runs([Estimate.of([5.0], 0.0), Estimate.of([9.0], 1.0)])
    assert (combined.value[0], combined.variance[0]) == (5.0, 0.0)


def test_no_run_is_an_error():
    with pytest.raises(ModelInputError, match='at least one run'):
        combine_runs([])


SHAPE = (7, 6, 5)


def test_smoothing_a_constant_changes_nothing_up_to_the_edge(rng):
    mask = rng.random(SHAPE) < 0.7
    constant = Estimate.of(np.full(SHAPE, 3.0), 1.0)
    smooth = smooth_in_mask(constant, mask, fwhm=2.5)
    np.testing.assert_allclose(smooth.value[mask], 3.0)


def test_nothing_crosses_the_edge_of_the_mask():
    mask = np.zeros(SHAPE, bool)
    mask[:3] = True
    step = Estimate.of(np.where(mask, 1.0, 1e6), 1.0)
    smooth = smooth_in_mask(step, mask, fwhm=3.0)
    np.testing.assert_allclose(smooth.value[mask], 1.0)


def test_point_spreads_to_half_at_half_the_width():
    point = np.zeros((81, 1, 1))
    point[40] = 1.0
    smooth = smooth_in_mask(Estimate.of(point), np.ones(point.shape, bool), fwhm=(8.0, 0, 0))
    profile = smooth.value[:, 0, 0]
    assert profile.sum() == pytest.approx(1.0)
    assert profile[44] / profile[40] == pytest.approx(0.5, rel=1e-12)


def test_missing_voxels_stay_missing_and_do_not_contribute():
    value = np.full(SHAPE, 2.0)
    value[3, 3, 2] = np.nan
    estimate = Estimate.of(value, 1.0, np.where(np.isnan(value), Status.NO_SIGNAL, Status.OK))
    smooth = smooth_in_mask(estimate, np.ones(SHAPE, bool), fwhm=2.0)
    assert smooth.status[3, 3, 2] == Status.NO_SIGNAL
    np.testing.assert_allclose(smooth.value[np.isfinite(smooth.value)], 2.0)
    assert np.isnan(smooth.value).sum() == 1


def test_variance_is_the_spread_of_smoothed_noise(rng):
    shape, mask = (9, 1, 1), np.ones((9, 1, 1), bool)
    noise = rng.standard_normal((4000, *shape))
    smooth = [smooth_in_mask(Estimate.of(x, 1.0), mask, fwhm=(3.0, 0, 0)) for x in noise]
    spread = np.var([x.value for x in smooth], axis=0)
    np.testing.assert_allclose(spread, smooth[0].variance, rtol=0.12)


def test_zero_width_is_no_smoothing(rng):
    value = rng.standard_normal(SHAPE)
    smooth = smooth_in_mask(Estimate.of(value, 0.5), np.ones(SHAPE, bool), fwhm=0.0)
    np.testing.assert_allclose(smooth.value, value)
    np.testing.assert_allclose(smooth.variance, 0.5)
