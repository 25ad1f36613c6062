"""Laws of blood flow from arterial spin labeling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from bids_app.errors import ModelInputError
from bids_app.models.asl.kinetics import predict_difference
from bids_app.models.asl.label_control import (
    estimate_difference,
)
from bids_app.models.asl.single_delay import (
    cbf_from_difference,
    effective_delay,
    estimate_cbf,
    relative_to_region,
    t1_blood_at,
    t1_blood_from_hct,
    t1_tissue_at,
    take_scanner_cbf,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status
from tests.forward import difference_from_cbf

LABELING = {
    'label_duration': 1.8,
    'post_label_delay': 1.8,
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 1.0,
    't1_blood': 1.65,
    'partition_coefficient': 0.9,
}


def test_factor_is_that_of_the_white_paper():
    # Alsop et al. 2015 with lambda .9, alpha .85, T1b 1.65, tau = PLD = 1.8
    assert float(cbf_from_difference(1.0, 1.0, **LABELING)) == pytest.approx(8629.99, abs=0.005)


def test_flow_is_that_which_delivered_the_decayed_label():
    # every inflowing mL carries 2 alpha M0/lambda, decaying with T1b since it was labelled
    flow = 60 / 6000
    delivered, _ = quad(lambda age: np.exp(-age / 1.65), 1.8, 1.8 + 1.8)
    expected = 2 * 0.85 * 1000 / 0.9 * flow * delivered
    assert float(cbf_from_difference(expected, 1000.0, **LABELING)) == pytest.approx(60.0)


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
    assert float(cbf_from_difference(expected, 1.0, **steady)) == pytest.approx(60.0)


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
