"""Laws of the arterial oxygen content and of the metabolic rate of oxygen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content, cmro2_from_cbf, estimate_cmro2
from bids_app.models.status import Status


def test_oxygen_content_is_the_published_one():
    # Epp et al. 2025, code: .334 x 42 % x 55.6 x 98 % / 100, per 100 mL
    assert arterial_oxygen_content(hct=0.42, sao2=0.98) == pytest.approx(7.643577, abs=1e-5)


def test_cmro2_of_the_published_means_is_the_published_one():
    cao2 = arterial_oxygen_content(hct=0.42, sao2=0.98)
    assert float(cmro2_from_cbf(43.6, 0.3538, cao2=cao2)) == pytest.approx(117.9, abs=0.05)


@given(st.floats(0.2, 0.3), st.floats(0.6, 0.7), st.floats(0.5, 1.4))
def test_oxygen_content_is_linear_in_haematocrit_and_saturation(hct, sao2, scale):
    expected = scale * arterial_oxygen_content(hct=hct, sao2=sao2)
    assert arterial_oxygen_content(hct=scale * hct, sao2=sao2) == pytest.approx(expected)
    assert arterial_oxygen_content(hct=hct, sao2=scale * sao2) == pytest.approx(expected)


@given(st.floats(-50, 200), st.floats(-1, 2), st.floats(3, 11))
def test_cmro2_is_the_product_of_its_factors_and_blind_to_their_order(cbf, oef, cao2):
    assert float(cmro2_from_cbf(cbf, oef, cao2=cao2)) == pytest.approx(cbf * oef * cao2)
    assert float(cmro2_from_cbf(oef, cbf, cao2=cao2)) == pytest.approx(cbf * oef * cao2)


def test_variance_is_the_spread_of_noisy_inputs():
    rng = np.random.default_rng(2)
    cbf = 50 + 4 * rng.standard_normal(40_000)
    oef = 0.4 + 0.03 * rng.standard_normal(40_000)
    spread = cmro2_from_cbf(cbf, oef, cao2=7.6).std()
    cmro2 = estimate_cmro2(Estimate.of([50.0], 16.0), Estimate.of([0.4], 9e-4), cao2=7.6)
    assert float(cmro2.variance[0] ** 0.5) == pytest.approx(spread, rel=0.02)


def test_reasons_and_cautions_of_the_inputs_are_handed_on():
    cbf = Estimate.of([-5.0, 50.0, 50.0, np.nan], 1.0, [Status.NEGATIVE, 0, 0, Status.NO_SIGNAL])
    oef = Estimate.of(
        [-0.1, -0.1, np.nan, 0.4], 0.01, [20, Status.NEGATIVE, Status.NO_BLOOD_VOLUME, 0], dof=120
    )
    cmro2 = estimate_cmro2(cbf, oef, cao2=7.6)
    np.testing.assert_array_equal(
        cmro2.status,
        [Status.NEGATIVE, Status.NEGATIVE, Status.NO_BLOOD_VOLUME, Status.NO_SIGNAL],
    )
    assert cmro2.value[0] == pytest.approx(3.8)
    assert cmro2.dof == 120


def test_zero_flow_is_zero_metabolism():
    cmro2 = estimate_cmro2(Estimate.of([0.0], 4.0), Estimate.of([0.4]), cao2=7.6)
    assert cmro2.value[0] == 0
    assert cmro2.status[0] == Status.OK
    assert cmro2.variance[0] > 0


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('hct', 40.2),
        ('hct', 0.0),
        ('sao2', 98.0),
        ('sao2', float('nan')),
        ('oxygen_per_haemoglobin', 0.0),
        ('haemoglobin_per_hct', -1.0),
    ],
)
def test_parameter_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ModelInputError, match=name):
        arterial_oxygen_content(**({'hct': 0.42, 'sao2': 0.98} | {name: value}))


def test_oxygen_content_must_be_positive():
    with pytest.raises(ModelInputError, match='cao2'):
        cmro2_from_cbf(50, 0.4, cao2=0.0)
