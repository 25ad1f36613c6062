"""Laws of blood flow from arterial spin labeling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.perfusion import (
    cbf_from_difference,
    difference_from_cbf,
    effective_delay,
    estimate_cbf,
    estimate_difference,
    estimate_m0,
    t1_blood_at,
    t1_tissue_at,
)
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
        (['m0scan', 'cbf', 'n/a'], 'expected either'),
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
