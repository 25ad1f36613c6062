"""Laws of blood flow from arterial spin labeling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from bids_app.errors import ModelInputError
from bids_app.models.asl.multi_delay import predict_difference
from bids_app.models.asl.single_delay import (
    cbf_from_difference,
    difference_from_cbf,
    effective_delay,
    estimate_cbf,
    estimate_difference,
    estimate_m0,
    half_difference,
    m0_from_region,
    pairs_per_delay,
    relative_to_region,
    sign_of_difference,
    t1_blood_at,
    t1_blood_from_hct,
    t1_tissue_at,
    take_scanner_cbf,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status

LABELING = {
    'label_duration': 1.8,
    'post_label_delay': 1.8,
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 1.0,
    't1_blood': 1.65,
    'partition_coefficient': 0.9,
}
PAIRS = ['control', 'label']


def test_factor_is_that_of_the_white_paper():
    # Alsop et al. 2015 with lambda .9, alpha .85, T1b 1.65, tau = PLD = 1.8
    assert float(cbf_from_difference(1.0, 1.0, **LABELING)) == pytest.approx(8629.99, abs=0.005)


def test_difference_is_the_decayed_label_that_was_delivered():
    # every inflowing mL carries 2 alpha M0/lambda, decaying with T1b since it was labelled
    flow = 60 / 6000
    delivered, _ = quad(lambda age: np.exp(-age / 1.65), 1.8, 1.8 + 1.8)
    expected = 2 * 0.85 * 1000 / 0.9 * flow * delivered
    assert float(difference_from_cbf(60.0, 1000.0, **LABELING)) == pytest.approx(expected)


labelings = st.fixed_dictionaries(
    {
        'label_duration': st.floats(0.5, 4),
        'post_label_delay': st.floats(0, 4),
        'labeling_efficiency': st.floats(0.3, 1),
        'background_suppression_factor': st.floats(0.5, 1),
        't1_blood': st.floats(1.2, 2.3),
        'partition_coefficient': st.floats(0.8, 1),
    }
)


@given(st.floats(-20, 150), st.floats(10, 5000), labelings)
def test_cbf_inverts_its_forward_model(cbf, m0, labeling):
    difference = difference_from_cbf(cbf, m0, **labeling)
    assert float(cbf_from_difference(difference, m0, **labeling)) == pytest.approx(cbf)


@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_cbf_is_linear_in_difference_and_blind_to_a_common_gain(gain, difference):
    cbf = float(cbf_from_difference(difference, 800.0, **LABELING))
    common = cbf_from_difference(gain * difference, gain * 800.0, **LABELING)
    assert float(common) == pytest.approx(cbf)
    linear = cbf_from_difference(gain * difference, 800.0, **LABELING)
    assert float(linear) == pytest.approx(gain * cbf)


def test_suppression_of_four_pulses_is_the_published_three_quarters():
    kept = LABELING | {'background_suppression_factor': 0.93**4}
    ratio = cbf_from_difference(1, 1, **kept) / cbf_from_difference(1, 1, **LABELING)
    assert float(ratio) == pytest.approx(1 / 0.75, rel=3e-3)


def test_very_long_label_reaches_the_steady_state():
    steady = LABELING | {'label_duration': 1e4, 'post_label_delay': 0.0}
    expected = 2 * 0.85 * 1.65 * 60 / 6000 / 0.9
    assert float(difference_from_cbf(60.0, 1.0, **steady)) == pytest.approx(expected)


def test_later_readout_of_a_slice_raises_cbf_by_the_decay():
    delay = effective_delay(1.8, [0.0, 0.7])
    cbf = cbf_from_difference([1.0, 1.0], 1000.0, **(LABELING | {'post_label_delay': delay}))
    assert cbf[1] / cbf[0] == pytest.approx(np.exp(0.7 / 1.65))


@pytest.mark.parametrize('delay', [(-0.1, 0.0), (1.8, [0.0, -0.1])])
def test_negative_times_are_refused(delay):
    with pytest.raises(ModelInputError, match='must not be negative'):
        effective_delay(*delay)


@pytest.mark.parametrize(
    ('b0', 't1_blood', 't1_tissue'),
    [(1.5, 1.35, 1.197), (3.0, 1.65, 1.607), (2.89, 1.65, 1.607), (7.0, 2.087, 1.939)],
)
def test_relaxation_times_are_the_literature_values_of_the_field(b0, t1_blood, t1_tissue):
    assert t1_blood_at(b0) == t1_blood
    assert t1_tissue_at(b0) == t1_tissue


def test_other_fields_follow_the_line_for_blood_and_need_a_setting_for_tissue():
    assert t1_blood_at(4.7) == pytest.approx(1.316 + 0.110 * 4.7)
    with pytest.raises(ModelInputError, match=r'perfusion\.t1_tissue'):
        t1_tissue_at(4.7)


@pytest.mark.parametrize('b0', [0.0, -3.0, float('nan')])
def test_field_must_be_positive(b0):
    with pytest.raises(ModelInputError, match='b0'):
        t1_blood_at(b0)


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


def test_noise_is_pooled_within_its_group():
    rng = np.random.default_rng(4)
    groups = np.repeat([0, 1], 500)
    series = rng.standard_normal((1000, 20)) * np.where(groups == 1, 4.0, 1.0)[:, np.newaxis]
    variance = estimate_difference(series, context=PAIRS * 10, noise_groups=groups).variance
    assert len(np.unique(variance)) == 2
    assert variance[-1] / variance[0] == pytest.approx(16, rel=0.2)


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


def test_m0_is_the_mean_corrected_for_recovery():
    m0 = estimate_m0([[90.0, 110.0]], repetition_time=4.5, t1_tissue=1.607, noise_variance=8.0)
    recovery = 1 - np.exp(-4.5 / 1.607)
    assert m0.value[0] == pytest.approx(100 / recovery)
    assert m0.variance[0] == pytest.approx(4.0 / recovery**2)


@pytest.mark.parametrize('repetition_time', [None, 0.0, -1.0])
def test_unknown_repetition_time_means_no_recovery_correction(repetition_time):
    m0 = estimate_m0([[100.0]], repetition_time=repetition_time, t1_tissue=1.607)
    assert m0.value[0] == 100.0
    assert m0.variance[0] == 0.0


def test_recovery_is_complete_for_long_repetition_times():
    assert estimate_m0([[100.0]], repetition_time=1e3, t1_tissue=1.6).value[0] == 100.0


def test_error_of_m0_is_taken_from_repeated_volumes():
    rng = np.random.default_rng(6)
    m0 = estimate_m0(1000 + 20 * rng.standard_normal((3000, 5)), t1_tissue=1.6)
    assert m0.variance[0] == pytest.approx(400 / 5, rel=0.05)
    assert m0.value.std() == pytest.approx(np.sqrt(m0.variance[0]), rel=0.05)


def test_m0_that_is_not_positive_is_no_reference():
    m0 = estimate_m0([[0.0], [-3.0], [np.nan], [5.0]], t1_tissue=1.6)
    np.testing.assert_array_equal(
        m0.status,
        [Status.NO_REFERENCE, Status.NO_REFERENCE, Status.INVALID_INPUT, Status.OK],
    )


@pytest.mark.parametrize('series', [np.ones(3), np.ones((3, 0))])
def test_m0_needs_a_volume(series):
    with pytest.raises(ModelInputError, match='at least one volume'):
        estimate_m0(series, t1_tissue=1.6)


def test_variance_of_cbf_is_the_spread_of_noisy_inputs():
    rng = np.random.default_rng(7)
    difference = 6 + 0.5 * rng.standard_normal(40_000)
    m0 = 1000 + 30 * rng.standard_normal(40_000)
    spread = cbf_from_difference(difference, m0, **LABELING).std()
    cbf = estimate_cbf(Estimate.of([6.0], 0.25), Estimate.of([1000.0], 900.0), **LABELING)
    assert float(cbf.variance[0] ** 0.5) == pytest.approx(spread, rel=0.02)


def test_cbf_out_of_range_is_kept_and_flagged():
    difference = Estimate.of(np.array([-100.0, -10.0, 0.0, 60.0, 500.0]) / 8629.99)
    cbf = estimate_cbf(difference, Estimate.of([1.0] * 5), **LABELING)
    np.testing.assert_allclose(cbf.value, [-100, -10, 0, 60, 500], rtol=1e-6)
    np.testing.assert_array_equal(
        cbf.status,
        [Status.IMPLAUSIBLE, Status.NEGATIVE, Status.OK, Status.OK, Status.IMPLAUSIBLE],
    )


def test_reasons_of_missing_inputs_are_handed_on():
    difference = Estimate.of([np.nan, 5.0, 5.0], 1.0, [Status.NO_SIGNAL, 0, 0], dof=200)
    m0 = Estimate.of([1000.0, 0.0, 1000.0], 0.0, dof=130)
    labeling = LABELING | {'post_label_delay': np.array([1.8, 1.8, np.nan])}
    cbf = estimate_cbf(difference, m0, **labeling)
    np.testing.assert_array_equal(
        cbf.status, [Status.NO_SIGNAL, Status.NO_REFERENCE, Status.INVALID_INPUT]
    )
    assert cbf.dof == 130


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('label_duration', 0.0),
        ('post_label_delay', -0.1),
        ('labeling_efficiency', 85.0),
        ('background_suppression_factor', 0.0),
        ('t1_blood', float('nan')),
        ('partition_coefficient', -0.9),
    ],
)
def test_parameter_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ModelInputError, match=name):
        cbf_from_difference(1.0, 1.0, **(LABELING | {name: value}))


def test_single_delay_is_exact_where_tissue_relaxes_like_blood():
    # general kinetic model (Buxton 1998) with T1' = T1b: the arrival time does not matter
    for arrival in (0.3, 1.2, 1.7):
        delivered = np.exp(-arrival / 1.65) * np.exp(-(1.8 - arrival) / 1.65)
        difference = 2 * 0.85 / 0.9 * (60 / 6000) * 1.65 * delivered * -np.expm1(-1.8 / 1.65)
        assert float(cbf_from_difference(difference, 1.0, **LABELING)) == pytest.approx(60)


PULSED = LABELING | {'labeling': 'pulsed', 'label_duration': 0.7, 'labeling_efficiency': 0.98}


def test_pulsed_factor_is_that_of_the_white_paper():
    # Alsop et al. 2015, eq. 2: 6000 lambda exp(TI/T1b) / (2 alpha TI1 M0)
    expected = 6000 * 0.9 * np.exp(1.8 / 1.65) / (2 * 0.98 * 0.7)
    assert float(cbf_from_difference(1.0, 1.0, **PULSED)) == pytest.approx(expected)


def test_pulsed_difference_is_that_of_the_kinetic_model_where_tissue_relaxes_like_blood():
    kinetic = predict_difference(
        60.0, 0.5, post_label_delay=1.8, label_duration=0.7, labeling='pulsed',
        labeling_efficiency=0.98, background_suppression_factor=1.0, t1_blood=1.65,
        t1_tissue=1 / (1 / 1.65 - 60 / 6000 / 0.9), partition_coefficient=0.9,
    )  # fmt: skip
    assert float(cbf_from_difference(kinetic, 1.0, **PULSED)) == pytest.approx(60, rel=1e-5)


def test_quipss_counts_what_came_after_the_saturation():
    quipss = PULSED | {'labeling': 'pulsed-quipss'}
    ratio = cbf_from_difference(1, 1, **quipss) / cbf_from_difference(1, 1, **PULSED)
    assert float(ratio) == pytest.approx(0.7 / (1.8 - 0.7))
    early = quipss | {'post_label_delay': np.array([0.6, 1.8])}
    cbf = estimate_cbf(Estimate.of([1e-3, 1e-3]), Estimate.of([1.0, 1.0]), **early)
    np.testing.assert_array_equal(cbf.status, [Status.INVALID_INPUT, Status.OK])


def test_unknown_labelling_is_refused():
    with pytest.raises(ModelInputError, match='labeling must be'):
        cbf_from_difference(1, 1, **(LABELING | {'labeling': 'velocity'}))


def test_t1_of_blood_from_haematocrit_meets_that_of_the_field():
    assert t1_blood_from_hct(0.43, 3.0) == pytest.approx(t1_blood_at(3.0), abs=0.01)
    assert t1_blood_from_hct(0.36, 3.0) > t1_blood_from_hct(0.48, 3.0)
    with pytest.raises(ModelInputError, match='3 T only'):
        t1_blood_from_hct(0.42, 7.0)
    with pytest.raises(ModelInputError, match='hct'):
        t1_blood_from_hct(42, 3.0)


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


def test_volumes_computed_by_the_scanner_are_averaged_and_flagged():
    difference = estimate_difference([[40.0, 60], [300, 300]], context=['cbf', 'cbf'])
    cbf = take_scanner_cbf(difference)
    np.testing.assert_array_equal(cbf.value, [50, 300])
    np.testing.assert_array_equal(cbf.status, [Status.OK, Status.IMPLAUSIBLE])


def test_relative_flow_has_median_one_whatever_the_scale():
    cbf = Estimate.of([20.0, 50, 80, -5], 4.0, [0, 0, Status.IMPLAUSIBLE, 0])
    region = np.array([True, True, True, False])
    for scale in (1.0, 1e5):
        scaled = Estimate.of(cbf.value * scale, cbf.variance * scale**2, cbf.status)
        relative = relative_to_region(scaled, region)
        np.testing.assert_allclose(relative.value, [0.4, 1, 1.6, -0.1])
        np.testing.assert_allclose(relative.variance, 4 / 2500)
    np.testing.assert_array_equal(relative.status, [0, 0, 0, Status.NEGATIVE])


def test_relative_flow_without_a_reference_is_missing():
    relative = relative_to_region(Estimate.of([-1.0, 2.0]), np.array([True, False]))
    np.testing.assert_array_equal(relative.status, [Status.NO_REFERENCE] * 2)


def test_m0_of_a_region_is_one_number_for_all():
    rng = np.random.default_rng(15)
    m0 = Estimate.of(1150 + 10 * rng.standard_normal(400), 100.0)
    made = m0_from_region(
        m0, np.arange(400) < 200, region='csf', echo_time=0.0, partition_coefficient=0.9
    )
    assert np.ptp(made.value) == 0
    assert made.value[0] == pytest.approx(900, rel=0.005)
    assert 0 < made.variance[0] < 100
    later = m0_from_region(
        m0, np.arange(400) < 200, region='csf', echo_time=0.012, partition_coefficient=0.9
    )
    # CSF has lost less signal than labelled water by then
    assert later.value[0] / made.value[0] == pytest.approx(np.exp(0.012 * (1 / 0.4 - 1 / 0.05)))


def test_region_that_is_too_small_or_unknown_is_refused():
    m0 = Estimate.of(np.ones(50))
    with pytest.raises(ModelInputError, match='20 voxels'):
        m0_from_region(m0, np.zeros(50), region='csf', echo_time=0.0, partition_coefficient=0.9)
    with pytest.raises(ModelInputError, match='region must be'):
        m0_from_region(m0, np.ones(50), region='bone', echo_time=0.0, partition_coefficient=0.9)
