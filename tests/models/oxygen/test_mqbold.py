"""Laws of the oxygen extraction fraction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.mqbold import (
    estimate_oef,
    estimate_oef_epp2025,
    oef_from_r2_prime,
    r2_prime_from_oef,
    static_dephasing_constant,
)
from bids_app.models.status import Status

BLOOD = {'b0': 3.0, 'hct': 0.42}


def constant(**given):
    """Argument of the models, from field and blood."""
    return {'static_dephasing_constant': static_dephasing_constant(**given)}


RATE = constant(**BLOOD)
PUBLISHED_GAMMA = 267.61918e6

fields = st.floats(0.5, 11.7)
haematocrits = st.floats(0.2, 0.6)
extractions = st.floats(0.01, 1.0)
volumes = st.floats(0.005, 0.15)


def test_static_dephasing_constant_is_the_published_constant():
    # Epp et al. 2025, code: 4/3 pi gamma .264e-6 (.85 x .42) 3 T
    rate = static_dephasing_constant(**BLOOD, gyromagnetic_ratio=PUBLISHED_GAMMA)
    assert rate == pytest.approx(316.956, abs=5e-4)


def test_oef_of_the_published_means_is_the_published_one():
    oef = oef_from_r2_prime(5.36, 0.0478, **constant(**BLOOD, gyromagnetic_ratio=PUBLISHED_GAMMA))
    assert float(oef) == pytest.approx(0.3538, abs=5e-5)


def test_rate_agrees_with_an_independent_simulation_of_static_dephasing():
    # model_based_qbold @ f4446b1: OEF .40, DBV .03, Hct .40 (no small-vessel factor), 3 T
    r2_prime = r2_prime_from_oef(
        0.40, 0.03, **constant(b0=3.0, hct=0.40, small_vessel_hct_ratio=1.0)
    )
    assert float(r2_prime) == pytest.approx(4.2599, rel=2e-3)


@given(extractions, volumes, fields, haematocrits)
def test_oef_inverts_its_forward_model(oef, cbv, b0, hct):
    r2_prime = r2_prime_from_oef(oef, cbv, **constant(b0=b0, hct=hct))
    assert float(oef_from_r2_prime(r2_prime, cbv, **constant(b0=b0, hct=hct))) == pytest.approx(
        oef
    )


@given(extractions, volumes, fields, haematocrits, st.floats(0.2, 1.6))
def test_r2_prime_is_linear_in_field_haematocrit_volume_and_extraction(oef, cbv, b0, hct, scale):
    rate = constant(b0=b0, hct=hct)
    expected = pytest.approx(scale * r2_prime_from_oef(oef, cbv, **rate))
    for moved in (constant(b0=scale * b0, hct=hct), constant(b0=b0, hct=scale * hct)):
        assert r2_prime_from_oef(oef, cbv, **moved) == expected
    assert r2_prime_from_oef(oef, scale * cbv, **rate) == expected
    assert r2_prime_from_oef(scale * oef, cbv, **rate) == expected


def test_small_vessel_ratio_multiplies_haematocrit_once():
    full = static_dephasing_constant(b0=3.0, hct=0.42, small_vessel_hct_ratio=1.0)
    assert static_dephasing_constant(
        b0=3.0, hct=0.42, small_vessel_hct_ratio=0.85
    ) == pytest.approx(0.85 * full)
    assert static_dephasing_constant(
        b0=3.0, hct=0.85 * 0.42, small_vessel_hct_ratio=1.0
    ) == pytest.approx(0.85 * full)


def test_scalars_and_maps_broadcast():
    oef = oef_from_r2_prime([[2.0], [4.0]], [0.02, 0.04], **RATE)
    expected = [[float(oef_from_r2_prime(r, c, **RATE)) for c in (0.02, 0.04)] for r in (2, 4)]
    np.testing.assert_allclose(oef, expected)


def test_variance_is_the_spread_of_noisy_inputs():
    rng = np.random.default_rng(1)
    r2_prime = 5.0 + 0.3 * rng.standard_normal(40_000)
    cbv = 0.05 + 0.002 * rng.standard_normal(40_000)
    spread = oef_from_r2_prime(r2_prime, cbv, **RATE).std()
    oef = estimate_oef(Estimate.of([5.0], 0.3**2), Estimate.of([0.05], 0.002**2), **RATE)
    assert float(oef.variance[0] ** 0.5) == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize('cbv', [0.0, -0.01])
def test_no_blood_volume_gives_no_oef(cbv):
    oef = estimate_oef(
        Estimate.of([5.0]), Estimate.of([cbv], 0.0, Status.NEGATIVE if cbv < 0 else 0), **RATE
    )
    assert np.isnan(oef.value[0])
    assert oef.status[0] == Status.NO_BLOOD_VOLUME
    assert np.isnan(oef_from_r2_prime(5.0, cbv, **RATE))


def test_values_out_of_range_are_kept_and_flagged():
    oef = estimate_oef(Estimate.of([-3.0, 0.0, 3.0, 40.0]), Estimate.of([0.03] * 4), **RATE)
    np.testing.assert_array_equal(
        oef.status, [Status.NEGATIVE, Status.OK, Status.OK, Status.IMPLAUSIBLE]
    )
    assert oef.value[0] < 0
    assert oef.value[3] > 1


def test_reason_of_a_missing_input_is_handed_on():
    r2_prime = Estimate.of([5.0, np.nan], 0.1, [0, Status.GRADIENT_TOO_STRONG], dof=150)
    oef = estimate_oef(r2_prime, Estimate.of([0.05, 0.0], 0.0, dof=300), **RATE)
    np.testing.assert_array_equal(oef.status, [Status.OK, Status.GRADIENT_TOO_STRONG])
    assert oef.dof == 150


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('b0', 0.0),
        ('b0', float('nan')),
        ('hct', 0.0),
        ('hct', 42.0),
        ('small_vessel_hct_ratio', 1.2),
        ('susceptibility', -1e-7),
        ('gyromagnetic_ratio', float('inf')),
    ],
)
def test_parameter_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ModelInputError, match=name):
        static_dephasing_constant(**(BLOOD | {name: value}))


def test_published_limit_is_five_medians_and_keeps_what_is_below():
    r2_prime = Estimate.of([3.8] * 5, 0.01)
    cbv = Estimate.of([0.03, 0.03, 0.03, 0.001, 0.0])
    plain, capped = (one(r2_prime, cbv, **RATE) for one in (estimate_oef, estimate_oef_epp2025))
    np.testing.assert_array_equal(capped.value[:3], plain.value[:3])
    assert capped.value[3] == pytest.approx(5 * plain.value[0])
    assert capped.status.tolist() == [
        Status.OK, Status.OK, Status.OK, Status.CAPPED, Status.NO_BLOOD_VOLUME,
    ]  # fmt: skip
    np.testing.assert_array_equal(capped.variance, plain.variance)
