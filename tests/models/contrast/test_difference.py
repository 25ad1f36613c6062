"""Differences between conditions: closed forms and Monte Carlo proof of their variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.contrast.difference import (
    change_between_conditions,
    make_quantity,
    p_value,
    percent_of_baseline,
    z_score,
)
from bids_app.models.dsc.cbv_scaling import change_cbv_by_flow
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.propagation import propagate
from bids_app.models.oxygen.mqbold import static_dephasing_constant
from bids_app.models.registry import GAS_MAPS
from bids_app.models.registry import MODELS as REGISTRY
from bids_app.models.status import Status

RATE = float(static_dephasing_constant(b0=3.0, hct=0.42))
"""Dephasing rate at 3 T and haematocrit 0.42, 1/s: 317 (Epp et al. 2025)."""
CAO2 = 7.64358
SCALE = CAO2 / RATE
"""Arterial oxygen content at haematocrit 0.42 and saturation 0.98 over that rate."""
N_DRAWS = 200_000


@dataclass(frozen=True)
class Truth:
    """A grey-matter voxel in two conditions and the standard errors of its measurements."""

    task_cbf: float = 50.0
    baseline_cbf: float = 44.0
    task_r2_star: float = 18.55
    baseline_r2_star: float = 18.85
    r2: float = 13.5
    cbv: float = 0.048
    cbf_error: float = 2.0
    r2_star_error: float = 0.12
    r2_error: float = 0.15
    cbv_error: float = 0.002
    m0_error: float = 0.03


CONSTANTS = {'static_dephasing_constant': RATE, 'cao2': CAO2}
MODELS = {'r2_prime': 'difference', 'oef': 'mqbold', 'cmro2': 'fick'}
NAMES = ('cbf', 'r2_star', 'r2', 'cbv')


def change_in(
    quantity,
    *,
    cbv_shared=True,
    cao2=7.64358,
    m0_error=None,
    cbv_exponent=0.0,
    factor=None,
    **maps,
):
    """
    Change of a quantity from maps named `task_cbf` and the like; `r2` is that of both conditions.

    With `factor` the blood volume is that and the power of the flow, by the row of the registry.
    """
    sides = [
        {name: maps[key] for name in NAMES for key in (name, f'{side}_{name}') if key in maps}
        for side in ('task', 'baseline')
    ]
    one_for_both = {
        'r2': 'r2' in maps and 'baseline_r2' not in maps,
        'cbv': cbv_shared and 'task_cbv' in maps,
    }
    models, constants = MODELS, CONSTANTS | {'cao2': cao2}
    if factor is not None:
        models, one_for_both['cbv'] = MODELS | {'cbv': 'grubb'}, False
        sides = [{name: side[name] for name in NAMES[:-1]} for side in sides]
        constants |= {'grubb_factor': factor, 'grubb_exponent': cbv_exponent}
    size = next(iter(maps.values())).value.shape
    return change_between_conditions(
        quantity,
        *sides,
        models=models,
        constants=constants,
        shared=tuple(name for name, is_one in one_for_both.items() if is_one),
        cbv_exponent=cbv_exponent if factor is None else 0.0,
        m0_relative=None if m0_error is None else Estimate.of(np.ones(size), m0_error**2),
    )


def change_in_cmro2(**arguments):
    return change_in('cmro2', **arguments)


def change_in_oef(**arguments):
    return change_in('oef', **arguments)


def change_between(task, baseline):
    return change_in('cbf', task_cbf=task, baseline_cbf=baseline)


def cmro2(cbf, r2_star, r2, cbv):
    return SCALE * cbf * (r2_star - r2) / cbv


def draws(mean: float, error: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, error, N_DRAWS)


def one(value: float, error: float) -> Estimate:
    return Estimate.of([value], [error**2])


def cmro2_arguments(truth: Truth, **changes) -> dict:
    arguments = {
        'task_cbf': one(truth.task_cbf, truth.cbf_error),
        'baseline_cbf': one(truth.baseline_cbf, truth.cbf_error),
        'task_r2_star': one(truth.task_r2_star, truth.r2_star_error),
        'baseline_r2_star': one(truth.baseline_r2_star, truth.r2_star_error),
        'r2': one(truth.r2, truth.r2_error),
        'task_cbv': one(truth.cbv, truth.cbv_error),
        'baseline_cbv': one(truth.cbv, truth.cbv_error),
        'cbv_shared': True,
    }
    return arguments | changes


def oef_arguments(truth: Truth, **changes) -> dict:
    names = (
        'task_r2_star', 'baseline_r2_star', 'r2', 'task_cbv', 'baseline_cbv', 'cbv_shared',
    )  # fmt: skip
    arguments = cmro2_arguments(truth)
    return {name: arguments[name] for name in names} | changes


def assert_variance_is_that_of(sample: np.ndarray, change: Estimate) -> None:
    """The standard error of the variance of 2e5 draws is 0.3 %; nonlinearity adds a little."""
    assert change.variance[0] == pytest.approx(sample.var(), rel=0.02)


def test_change_is_the_difference_of_the_cmro2_of_both_conditions():
    truth = Truth()
    change = change_in_cmro2(**cmro2_arguments(truth))
    task = cmro2(truth.task_cbf, truth.task_r2_star, truth.r2, truth.cbv)
    baseline = cmro2(truth.baseline_cbf, truth.baseline_r2_star, truth.r2, truth.cbv)
    np.testing.assert_allclose(change.value, task - baseline, rtol=1e-12)
    # Reference of the study: R2' 5.36 1/s, CBV 4.78 %, CBF 43.6 give CMRO2 117.9.
    assert cmro2(43.6, 18.86, 13.5, 0.0478) == pytest.approx(117.9, abs=0.05)


def test_variance_equals_the_published_sum_of_terms():
    truth = Truth()
    change = change_in_cmro2(**cmro2_arguments(truth, m0_error=truth.m0_error))
    a = SCALE / truth.cbv
    task_r2_prime = truth.task_r2_star - truth.r2
    baseline_r2_prime = truth.baseline_r2_star - truth.r2
    expected = a**2 * (
        (task_r2_prime**2 + baseline_r2_prime**2) * truth.cbf_error**2
        + (truth.task_cbf**2 + truth.baseline_cbf**2) * truth.r2_star_error**2
        + (truth.task_cbf - truth.baseline_cbf) ** 2 * truth.r2_error**2
    ) + change.value**2 * ((truth.cbv_error / truth.cbv) ** 2 + truth.m0_error**2)
    np.testing.assert_allclose(change.variance, expected, rtol=1e-7)


def test_variance_of_the_cmro2_change_is_right_when_r2_cbv_and_m0_are_shared():
    truth = Truth(cbf_error=1.0, r2_star_error=0.06, r2_error=0.6, cbv_error=0.0015, m0_error=0.02)
    r2, cbv = draws(truth.r2, truth.r2_error, 1), draws(truth.cbv, truth.cbv_error, 2)
    gain = draws(1, truth.m0_error, 3)
    sample = cmro2(
        draws(truth.task_cbf, 1.0, 4) / gain, draws(truth.task_r2_star, 0.06, 5), r2, cbv
    ) - cmro2(
        draws(truth.baseline_cbf, 1.0, 6) / gain, draws(truth.baseline_r2_star, 0.06, 7), r2, cbv
    )
    arguments = cmro2_arguments(truth, m0_error=truth.m0_error)
    assert_variance_is_that_of(sample, change_in_cmro2(**arguments))


def test_variance_of_the_cmro2_change_is_right_when_nothing_is_shared():
    truth = Truth(cbv_error=0.001)
    sample = cmro2(
        draws(truth.task_cbf, 2.0, 1), draws(truth.task_r2_star, 0.12, 2),
        draws(truth.r2, 0.15, 3), draws(truth.cbv, 0.001, 4),
    ) - cmro2(
        draws(truth.baseline_cbf, 2.0, 5), draws(truth.baseline_r2_star, 0.12, 6),
        draws(truth.r2, 0.15, 7), draws(truth.cbv, 0.001, 8),
    )  # fmt: skip
    arguments = cmro2_arguments(truth, cbv_shared=False, baseline_r2=one(truth.r2, truth.r2_error))
    assert_variance_is_that_of(sample, change_in_cmro2(**arguments))


def test_variance_of_the_cmro2_change_is_right_with_a_power_law_blood_volume():
    truth, exponent, gain = Truth(), 0.38, draws(1, 0.03, 9)
    task_cbf = draws(truth.task_cbf, 2.0, 1) / gain
    baseline_cbf = draws(truth.baseline_cbf, 2.0, 2) / gain
    r2 = draws(truth.r2, 0.15, 3)
    factor = 0.012

    def volume(cbf):
        return factor * cbf**exponent

    sample = cmro2(task_cbf, draws(truth.task_r2_star, 0.12, 4), r2, volume(task_cbf)) - cmro2(
        baseline_cbf, draws(truth.baseline_r2_star, 0.12, 5), r2, volume(baseline_cbf)
    )
    change = change_in_cmro2(
        **cmro2_arguments(
            truth,
            factor=factor,
            cbv_exponent=exponent,
            m0_error=0.03,
        )
    )
    assert_variance_is_that_of(sample, change)


def test_intervals_of_the_cmro2_change_cover_at_the_noise_of_single_voxels():
    truth = Truth(cbf_error=8.0, r2_star_error=0.6, r2_error=0.3, cbv_error=0.004)
    r2, cbv = draws(truth.r2, 0.3, 1), draws(truth.cbv, 0.004, 2)

    def maps(value, error, seed):
        return Estimate.of(draws(value, error, seed), error**2)

    change = change_in_cmro2(
        task_cbf=maps(truth.task_cbf, 8.0, 3),
        baseline_cbf=maps(truth.baseline_cbf, 8.0, 4),
        task_r2_star=maps(truth.task_r2_star, 0.6, 5),
        baseline_r2_star=maps(truth.baseline_r2_star, 0.6, 6),
        r2=Estimate.of(r2, 0.3**2),
        task_cbv=Estimate.of(cbv, 0.004**2),
        baseline_cbv=Estimate.of(cbv, 0.004**2),
        cbv_shared=True,
    )
    expected = change_in_cmro2(**cmro2_arguments(truth)).value[0]
    covered = np.abs(change.value - expected) < 1.96 * np.sqrt(change.variance)
    assert 0.93 < covered.mean() < 0.97


def test_variance_of_the_oef_change_is_right_when_r2_and_cbv_are_shared():
    truth = Truth(r2_error=1.0)
    r2, cbv = draws(truth.r2, 1.0, 1), draws(truth.cbv, truth.cbv_error, 2)
    task, baseline = draws(truth.task_r2_star, 0.12, 3), draws(truth.baseline_r2_star, 0.12, 4)
    sample = ((task - r2) - (baseline - r2)) / (RATE * cbv)
    assert_variance_is_that_of(sample, change_in_oef(**oef_arguments(truth)))


def test_variance_of_the_oef_change_is_right_when_blood_volumes_are_measured_apart():
    truth = Truth(cbv_error=0.001)
    r2 = draws(truth.r2, 0.15, 1)
    sample = (draws(truth.task_r2_star, 0.12, 2) - r2) / (RATE * draws(0.052, 0.001, 3)) - (
        draws(truth.baseline_r2_star, 0.12, 4) - r2
    ) / (RATE * draws(0.048, 0.001, 5))
    arguments = oef_arguments(truth, task_cbv=one(0.052, 0.001), cbv_shared=False)
    assert_variance_is_that_of(sample, change_in_oef(**arguments))


def test_shared_blood_volume_has_one_relative_error_also_when_scaled_for_the_task():
    truth = Truth(r2_error=0.0, r2_star_error=0.0)
    cbv = draws(truth.cbv, 0.001, 1)
    task_r2_prime, baseline_r2_prime = truth.task_r2_star - truth.r2, 5.35
    sample = (task_r2_prime / 1.05 - baseline_r2_prime) / (RATE * cbv)
    arguments = oef_arguments(
        truth, task_cbv=one(1.05 * truth.cbv, 0.001), baseline_cbv=one(truth.cbv, 0.001)
    )
    assert_variance_is_that_of(sample, change_in_oef(**arguments))


def test_error_of_a_shared_m0_enters_the_oef_change_through_a_power_law_blood_volume():
    arguments = cmro2_arguments(Truth(), factor=0.012, cbv_exponent=0.38)
    without, change = change_in_oef(**arguments), change_in_oef(**arguments, m0_error=0.03)
    np.testing.assert_allclose(
        change.variance - without.variance, (0.38 * change.value * 0.03) ** 2, rtol=1e-6
    )


def test_variance_of_the_cbf_change_is_right_when_m0_is_shared():
    gain = draws(1, 0.02, 1)
    sample = (draws(70, 2.0, 2) - draws(44, 2.0, 3)) / gain
    change = change_in('cbf', task_cbf=one(70, 2.0), baseline_cbf=one(44, 2.0), m0_error=0.02)
    assert_variance_is_that_of(sample, change)


def test_r2_cancels_in_the_change_of_r2_prime_when_it_is_shared():
    task, baseline = one(18.5, 0.2), one(18.8, 0.3)
    rates = {'task_r2_star': task, 'baseline_r2_star': baseline}
    shared = change_in('r2_prime', **rates, r2=one(13.5, 0.1))
    own = change_between_conditions(
        'r2_prime',
        {'r2_star': task, 'r2': one(13.5, 0.1)},
        {'r2_star': baseline, 'r2': one(13.4, 0.1)},
        models=MODELS,
        constants={},
    )
    assert shared.value[0] == pytest.approx(-0.3)
    assert shared.variance[0] == pytest.approx(0.13)
    assert own.value[0] == pytest.approx(-0.4)
    assert own.variance[0] == pytest.approx(0.15)


def test_scale_changes_neither_sign_nor_z():
    change = change_in_cmro2(**cmro2_arguments(Truth()))
    scaled = change_in_cmro2(**cmro2_arguments(Truth(), cao2=1.3 * CAO2))
    np.testing.assert_allclose(scaled.value, 1.3 * change.value, rtol=1e-12)
    np.testing.assert_allclose(z_score(scaled), z_score(change), rtol=1e-12)


def test_exchanging_the_conditions_changes_the_sign_only():
    truth = Truth()
    arguments = cmro2_arguments(truth)
    swapped = arguments | {
        'task_cbf': arguments['baseline_cbf'], 'baseline_cbf': arguments['task_cbf'],
        'task_r2_star': arguments['baseline_r2_star'],
        'baseline_r2_star': arguments['task_r2_star'],
    }  # fmt: skip
    change, opposite = change_in_cmro2(**arguments), change_in_cmro2(**swapped)
    np.testing.assert_allclose(opposite.value, -change.value, rtol=1e-12)
    np.testing.assert_allclose(opposite.variance, change.variance, rtol=1e-9)


@pytest.mark.parametrize('volume', [0.0, -0.01])
def test_blood_volume_that_is_not_positive_leaves_no_estimate(volume):
    arguments = {'task_cbv': one(volume, 0.001), 'baseline_cbv': one(volume, 0.001)}
    for change in (
        change_in_cmro2(**cmro2_arguments(Truth(), **arguments)),
        change_in_oef(**oef_arguments(Truth(), **arguments)),
    ):
        assert change.status[0] == Status.NO_BLOOD_VOLUME
        assert np.isnan(change.value[0])


def test_missing_input_names_its_reason_and_leaves_its_neighbour_alone():
    def two(estimate):
        return Estimate.of(np.repeat(estimate.value, 2), np.repeat(estimate.variance, 2))

    arguments = {
        name: two(item) if isinstance(item, Estimate) else item
        for name, item in cmro2_arguments(Truth()).items()
    }
    bad = Estimate.of([np.nan, 50.0], 4.0, [Status.NO_REFERENCE, Status.OK])
    change = change_in_cmro2(**(arguments | {'task_cbf': bad}))
    alone = change_in_cmro2(**cmro2_arguments(Truth()))
    assert change.status.tolist() == [Status.NO_REFERENCE, Status.OK]
    assert change.value[1] == alone.value[0]
    assert change.variance[1] == alone.variance[0]


def test_caution_on_an_input_is_kept_on_the_change():
    bold = Estimate.of([-3.0], 1.0, Status.NEGATIVE)
    assert change_between(bold, one(1, 1)).status[0] == Status.NEGATIVE


def test_degrees_of_freedom_are_the_smallest_of_the_inputs():
    task = Estimate.of([1.0], 1.0, dof=120)
    assert change_between(task, Estimate.of([1.0], 1.0, dof=300)).dof == 120


def test_inputs_are_never_modified():
    arguments = cmro2_arguments(Truth())
    for item in arguments.values():
        if isinstance(item, Estimate):
            for array in (item.value, item.variance, item.status):
                array.flags.writeable = False
    assert np.isfinite(change_in_cmro2(**arguments).value).all()
    change = Estimate.of([1.0], 1.0)
    change.value.flags.writeable = False
    assert z_score(change)[0] == 1.0


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ModelInputError, match='equal shapes'):
        change_between(Estimate.of([1.0, 2.0]), Estimate.of([1.0]))
    with pytest.raises(ModelInputError, match='equal shapes'):
        change_in_cmro2(**cmro2_arguments(Truth(), r2=Estimate.of([13.0, 13.0])))


def test_variances_are_right_where_flow_carries_a_measured_volume_to_the_task():
    truth, exponent, gain = Truth(), 0.38, draws(1, 0.03, 21)
    task_cbf, baseline_cbf = draws(truth.task_cbf, 2.0, 22), draws(truth.baseline_cbf, 2.0, 23)
    r2, cbv = draws(truth.r2, 0.15, 24), draws(truth.cbv, 0.002, 25)
    carried = cbv * (task_cbf / baseline_cbf) ** exponent
    task, baseline = draws(truth.task_r2_star, 0.12, 26), draws(truth.baseline_r2_star, 0.12, 27)
    sample = cmro2(task_cbf / gain, task, r2, carried) - cmro2(
        baseline_cbf / gain, baseline, r2, cbv
    )
    task_cbv = change_cbv_by_flow(
        one(truth.cbv, 0.002),
        one(truth.task_cbf, 2.0),
        one(truth.baseline_cbf, 2.0),
        grubb_exponent=exponent,
    )
    found = change_in_cmro2(
        **cmro2_arguments(truth, task_cbv=task_cbv, cbv_exponent=exponent), m0_error=0.03
    )
    assert found.variance[0] == pytest.approx(sample.var(), rel=0.03)
    extraction = ((task - r2) / carried - (baseline - r2) / cbv) / RATE
    change = change_in_oef(**cmro2_arguments(truth, task_cbv=task_cbv, cbv_exponent=exponent))
    assert change.variance[0] == pytest.approx(extraction.var(), rel=0.03)


def test_percent_is_undefined_where_the_baseline_is_not_positive():
    percent = percent_of_baseline(
        Estimate.of([5.0, 5.0, 5.0, np.nan]), Estimate.of([50.0, 0.0, -2.0, 10.0])
    )
    np.testing.assert_array_equal(percent, [10.0, np.nan, np.nan, np.nan])


def test_identical_maps_are_no_evidence_and_missing_ones_have_no_z():
    z = z_score(Estimate.of([0.0, 2.0, np.nan], [0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(z, [0.0, np.inf, np.nan])
    np.testing.assert_array_equal(p_value(z), [1.0, 0.0, np.nan])


def test_p_is_two_sided():
    np.testing.assert_allclose(p_value([1.959964, -1.959964]), 0.05, rtol=1e-6)


def test_parts_of_flow_and_extraction_add_up_to_the_change():
    from bids_app.models.contrast.difference import change_parts

    rng = np.random.default_rng(5)
    base, flow = rng.uniform(30, 60, 50), rng.normal(0, 5, 50)
    oef, extraction = rng.uniform(0.3, 0.5, 50), rng.normal(0, 0.03, 50)
    parts = change_parts(flow, base, extraction, oef, cao2=7.6)
    np.testing.assert_allclose(
        np.sum(parts, axis=0), 7.6 * ((base + flow) * (oef + extraction) - base * oef)
    )


@pytest.mark.parametrize('error', ['cbv', 'r2', 'cbf'])
def test_change_vanishes_at_its_tipping_point(error):
    from bids_app.models.contrast.difference import tipping_points

    flow, base, change, rate = 10.0, 50.0, -0.5, 5.5
    tip = float(tipping_points([flow], [base], [change], [rate])[error][0])
    task, reference = (base + flow), base
    task_rate, base_rate = rate + change, rate
    if error == 'cbv':
        task_rate /= 1 + tip
    elif error == 'r2':
        task_rate, base_rate = task_rate + tip, base_rate + tip
    else:
        task *= 1 + tip
    assert task * task_rate == pytest.approx(reference * base_rate)


def test_no_tipping_point_without_positive_rates():
    from bids_app.models.contrast.difference import tipping_points

    assert np.isnan(tipping_points([1.0], [50.0], [-9.0], [5.0])['cbv']).all()
    assert np.isnan(tipping_points([0.0], [50.0], [-1.0], [5.0])['r2']).all()


# ------------------------------------------------------------------ models of the registry

CHAINS = [
    {'r2_prime': r2_prime, 'oef': oef, 'cmro2': cmro2_model}
    for r2_prime in REGISTRY['r2_prime']
    for oef, row in REGISTRY['oef'].items()
    for cmro2_model in REGISTRY['cmro2']
    if row.maps and not GAS_MAPS.keys() & set(row.maps)  # gases give OEF at rest only
]


def voxels(rng, n=2000):
    """Grey matter with veins: blood volumes so small that limits of OEF are met."""
    volume = Estimate.of(rng.uniform(0.002, 0.08, n), 1e-6)
    r2 = Estimate.of(rng.normal(13.5, 2.0, n), 0.04)
    return [
        {
            'cbf': Estimate.of(rng.normal(50, 10, n), 4.0),
            'r2_star': Estimate.of(rng.normal(18.5, 4.0, n), 0.04),
            'r2': r2,
            'cbv': volume,
        }
        for _ in range(2)
    ]


@pytest.mark.parametrize('models', CHAINS, ids=lambda chain: '-'.join(chain.values()))
@pytest.mark.parametrize('quantity', ['r2_prime', 'oef', 'cmro2'])
def test_a_change_is_the_difference_of_the_maps_whatever_model_makes_them(quantity, models, rng):
    task, baseline = voxels(rng)
    chain = {'models': models, 'constants': CONSTANTS}
    change = change_between_conditions(quantity, task, baseline, shared=('r2', 'cbv'), **chain)
    made = [make_quantity(quantity, maps, **chain) for maps in (task, baseline)]
    np.testing.assert_array_equal(change.value, made[0].value - made[1].value)


def test_a_limit_moves_the_change_and_leaves_its_error(rng):
    """A voxel at a limit is no more certain for being there, and is flagged."""
    task, baseline = voxels(rng)
    plain, limited = (
        change_between_conditions(
            'oef', task, baseline, shared=('r2', 'cbv'), constants=CONSTANTS,
            models={'r2_prime': 'difference', 'oef': oef},
        )
        for oef in ('mqbold', 'epp2025')
    )  # fmt: skip
    moved = limited.status == Status.CAPPED
    assert 0.02 < moved.mean() < 0.9
    np.testing.assert_array_equal(limited.value[~moved], plain.value[~moved])
    np.testing.assert_array_equal(limited.variance, plain.variance)


def test_errors_go_through_any_function_as_a_simulation_says():
    """First order: 1 % errors, so that curvature is far below the sampling error."""
    centre = {'a': 3.0, 'b': 0.7, 'c': 12.0}
    function = lambda at: at['c'] ** 0.4 * np.exp(-at['b']) / at['a']  # noqa: E731
    made = propagate(function, {name: one(x, 0.01 * x) for name, x in centre.items()})
    sample = function({name: draws(x, 0.01 * x, n) for n, (name, x) in enumerate(centre.items())})
    assert made.variance[0] == pytest.approx(sample.var(), rel=0.02)
