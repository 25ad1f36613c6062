"""Calibrated BOLD: round trips, the semi-quantitative identity, its bias and error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.contrast.calibrated_bold import (
    change_in_cmro2_davis,
    change_in_cmro2_published,
    change_in_cmro2_with_bold,
    davis_cmro2_ratio,
    semiquantitative_bias,
)
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.gas_calibration import COEFFICIENTS
from bids_app.models.status import Status
from tests.forward import davis_bold, semiquantitative_ratio
from tests.models.contrast.test_difference import RATE, SCALE, change_in_cmro2

ratios = st.floats(0.6, 1.6)


def primitives(*, n=1, sd=None, rng=None, **true):
    """Estimates of what goes in, drawn around the truth if errors are given."""
    values = {
        'bold': 0.5, 'task_cbf': 52.8, 'baseline_cbf': 48.0, 'baseline_r2_star': 18.8,
        'r2': 13.5, 'baseline_cbv': 0.048, 'task_r2_star': 18.65, **true,
    }  # fmt: skip
    sd = sd or {}
    return {
        name: Estimate.of(
            value + (rng.normal(0, sd[name], n) if name in sd else np.zeros(n)),
            sd.get(name, 0.0) ** 2,
        )
        for name, value in values.items()
    }


@pytest.mark.parametrize('source', COEFFICIENTS)
@given(flow=ratios, rate=ratios, largest=st.floats(2.0, 30.0))
def test_davis_model_and_its_inverse_are_a_round_trip(source, flow, rate, largest):
    alpha, beta = COEFFICIENTS[source]
    bold = davis_bold(flow, rate, maximum=largest, alpha=alpha, beta=beta)
    again = davis_cmro2_ratio(bold, flow, maximum=largest, alpha=alpha, beta=beta)
    assert again == pytest.approx(rate, rel=1e-9)


def test_davis_model_has_no_answer_beyond_its_maximum():
    assert np.isnan(davis_cmro2_ratio(16.0, 1.2, maximum=15.0, alpha=0.2, beta=1.3))


def relative_change_by_bold(bold, flow, *, volume, rate):
    """Change of CMRO2 by BOLD over the baseline."""
    given_ = primitives(bold=bold, task_cbf=48.0 * flow, baseline_r2_star=13.5 + rate)
    given_.pop('task_r2_star')
    change = change_in_cmro2_with_bold(
        **given_, echo_time=0.03, scale=SCALE, cbv_response=volume - 1
    )
    return change.value[0] / (SCALE * 48.0 * rate / 0.048)


@given(bold=st.floats(-2, 2), flow=ratios, volume=st.floats(0.9, 1.2), rate=st.floats(3, 9))
def test_identity_of_the_semi_quantitative_route(bold, flow, volume, rate):
    """CMRO2 ratio = (1 + fCBF)(1 - 10 dBOLD/(TE R2'))/(1 + fCBV), TE in ms (science 2.9)."""
    found = relative_change_by_bold(bold, flow, volume=volume, rate=rate)
    assert found == pytest.approx(flow * (1 - 10 * bold / (30 * rate)) / volume - 1, abs=1e-9)


@pytest.mark.parametrize(
    ('bold', 'volume', 'flow'), [(0.5, 0.0, 0.033), (0.5, 0.05, 0.084), (-0.5, 0.0, -0.031),
                                 (-0.5, 0.05, 0.018)],
)  # fmt: skip
def test_flow_at_which_the_sign_turns(bold, volume, flow):
    found = relative_change_by_bold(bold, 1 + flow, volume=1 + volume, rate=5.3)
    assert found == pytest.approx(0.0, abs=1.2e-3)


@pytest.mark.parametrize(
    ('flow', 'volume', 'bias'),
    [(1.15, 1.0, -0.014), (0.88, 1.0, 0.013), (1.15, 1.05, -0.061), (0.88, 1.05, -0.035)],
)
def test_bias_of_the_semi_quantitative_route_where_metabolism_is_constant(flow, volume, bias):
    found = semiquantitative_bias(flow, alpha=0.2, beta=1.3, cbv_ratio=volume)
    assert found == pytest.approx(bias, abs=6e-4)
    # the same by way of the BOLD signal it would be given
    bold = davis_bold(flow, 1.0, maximum=15.9, alpha=0.2, beta=1.3)
    ratio = semiquantitative_ratio(bold, flow, r2_prime=5.3, echo_time=0.03, volume=volume)
    assert ratio - 1 == pytest.approx(found, abs=1e-9)


def test_combination_is_the_quantitative_route_where_bold_is_useless():
    given_ = primitives(sd={'bold': 1e4, 'task_r2_star': 0.1}, rng=np.random.default_rng(0))
    change = change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)
    given_.pop('bold')
    quantitative = change_in_cmro2(**given_, task_cbv=given_['baseline_cbv'], cbv_shared=True)
    np.testing.assert_allclose(change.value, quantitative.value, rtol=1e-5)
    np.testing.assert_allclose(change.variance, quantitative.variance, rtol=1e-4)


MODELS = {
    'bold_maximum': 'r2-prime', 'r2_prime': 'difference', 'oef': 'mqbold', 'cmro2': 'fick',
}  # fmt: skip
CONSTANTS = {
    'static_dephasing_constant': RATE, 'cao2': RATE * SCALE, 'bold_echo_time': 0.03, 'alpha': 0.2,
    'beta': 1.3, 'hypercapnia_cmro2': 1.0,
}  # fmt: skip


def davis(given_, *, gas=None, **more):
    """Change by the Davis model; M from R2', or from BOLD and CBF of a gas."""
    rest = {
        name: given_[f'baseline_{name}' if f'baseline_{name}' in given_ else name]
        for name in ('cbf', 'r2_star', 'r2', 'cbv')
    }
    models = MODELS
    if gas is not None:
        rest |= dict(zip(('hypercapnia_bold', 'hypercapnia_cbf'), gas, strict=True))
        models = MODELS | {'bold_maximum': 'hypercapnia'}
    return change_in_cmro2_davis(
        bold=given_['bold'], task_cbf=given_['task_cbf'], baseline=rest, models=models,
        constants=CONSTANTS, **more,
    )  # fmt: skip


ERRORS = {
    'bold': 0.1, 'task_cbf': 3.0, 'baseline_cbf': 3.0, 'baseline_r2_star': 0.15, 'r2': 0.15,
    'baseline_cbv': 0.001, 'task_r2_star': 0.15,
}  # fmt: skip


@pytest.mark.parametrize('route', ['semi-quantitative', 'combined', 'davis', 'davis given M'])
def test_variance_is_that_of_repeated_measurements(route):
    rng = np.random.default_rng(1)
    noisy, clean = (primitives(n=40_000, sd=ERRORS, rng=rng), primitives())

    def estimate(given_):
        given_ = dict(given_)
        if route != 'combined':
            given_.pop('task_r2_star')
        if route.startswith('davis'):
            return davis(given_, maximum=15.0 if 'given' in route else None)
        return change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)

    found = estimate(noisy)
    z = (found.value - estimate(clean).value) / np.sqrt(found.variance)
    assert z.std() == pytest.approx(1.0, abs=0.03)
    assert abs(z.mean()) < 0.05


def test_more_measurements_make_the_combination_more_precise():
    errors = {**ERRORS, 'bold': 0.6}
    given_ = primitives(n=500, sd=errors, rng=np.random.default_rng(2))
    combined = change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)
    task_r2_star = given_.pop('task_r2_star')
    by_bold = change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)
    quantitative = change_in_cmro2(
        **{name: value for name, value in given_.items() if name != 'bold'},
        task_r2_star=task_r2_star, task_cbv=given_['baseline_cbv'], cbv_shared=True,
    )  # fmt: skip
    assert np.median(combined.variance) < np.median(by_bold.variance)
    assert np.median(combined.variance) < np.median(quantitative.variance)


def test_missing_reasons_are_named():
    given_ = primitives(bold=40.0)
    given_.pop('task_r2_star')
    beyond = davis(given_)
    assert beyond.status.tolist() == [Status.NO_REFERENCE]
    given_ = primitives(baseline_cbv=0.0)
    given_.pop('task_r2_star')
    bare = change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)
    assert bare.status.tolist() == [Status.NO_BLOOD_VOLUME]


def without_task(**true):
    """Inputs of a route that does not need R2* of the task."""
    given_ = primitives(**true)
    given_.pop('task_r2_star')
    return given_


def test_published_limits_change_nothing_within_them():
    given_ = without_task(n=50)
    plain = change_in_cmro2_with_bold(**given_, echo_time=0.03, scale=SCALE)
    limited = change_in_cmro2_published(
        **given_, echo_time=0.03, static_dephasing_constant=RATE, cao2=RATE * SCALE
    )
    np.testing.assert_allclose(limited.value, plain.value)
    assert not limited.status.any()


def test_published_limit_turns_a_strong_negative_extraction_into_the_largest():
    given_ = without_task(n=9)
    bold = np.full(9, 0.5)
    bold[0] = 120.0  # R2' of the task becomes -34.7 1/s
    given_['bold'] = Estimate.of(bold, 0.01)
    found = change_in_cmro2_published(
        **given_, echo_time=0.03, static_dephasing_constant=316.956, cao2=7.64358
    )
    largest = max(5 * (5.3 - 0.5 / 3) / (316.956 * 0.048), 1.5)
    expected = 7.64358 * (52.8 * largest - 48.0 * 5.3 / (316.956 * 0.048))
    assert found.value[0] == pytest.approx(expected)
    assert found.status.tolist() == [Status.CAPPED] + [Status.OK] * 8


def test_gas_itself_leaves_cmro2_alone():
    given_ = without_task()
    change = davis(given_, gas=(given_['bold'], given_['task_cbf']))
    assert change.value == pytest.approx(0.0, abs=1e-9)


def test_variance_with_a_maximum_from_a_gas_is_right():
    rng = np.random.default_rng(5)
    errors = {
        'bold': 0.03, 'task_cbf': 0.8, 'baseline_cbf': 0.8, 'baseline_r2_star': 0.1, 'r2': 0.05,
        'baseline_cbv': 0.001,
    }  # fmt: skip
    n = 20_000
    given_ = primitives(n=n, sd=errors, rng=rng)
    largest = davis_bold(1.5, 1.0, maximum=9.0, alpha=0.2, beta=1.3)
    gas = (
        Estimate.of(largest + rng.normal(0, 0.05, n), 0.05**2),
        Estimate.of(72.0 + rng.normal(0, 0.8, n), 0.8**2),
    )
    change = davis(given_, gas=gas)
    exact = (Estimate.of([largest], 0.0), Estimate.of([72.0], 0.0))
    truth = davis(without_task(), gas=exact).value
    z = (change.value - truth) / np.sqrt(change.variance)
    assert z.std() == pytest.approx(1.0, abs=0.04)


def test_maximum_that_is_given_may_differ_between_voxels():
    given_ = without_task(n=2)
    each = davis(given_, maximum=[9.0, np.nan])
    one = davis(given_, maximum=9.0)
    assert each.value[0] == one.value[0]
    assert np.isnan(each.value[1])
    with pytest.raises(ModelInputError, match='positive'):
        davis(given_, maximum=-1.0)
