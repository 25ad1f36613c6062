"""Gas calibration: literature values, a detailed BOLD model it does not share, its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.contrast.calibrated_bold import davis_cmro2_ratio
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content
from bids_app.models.oxygen.gas_calibration import (
    COEFFICIENTS,
    arterial_t1,
    estimate_maximum_from_hypercapnia,
    estimate_maximum_from_hyperoxia,
    estimate_maximum_from_r2_prime,
    estimate_oef_dual_calibrated,
    estimate_reactivity,
    first_echo_share,
    haemoglobin_saturation,
    lacking_oxygen,
)
from bids_app.models.status import Status
from tests.forward import davis_bold, detailed_bold

HCT, SAO2 = 0.42, 0.98
CAO2 = arterial_oxygen_content(hct=HCT, sao2=SAO2)
BLOOD = {'cao2': CAO2, 'sao2': SAO2}
GASES = {**BLOOD, 'resting_po2': 110.0, 'hypercapnia_po2': 115.0, 'hyperoxia_po2': 400.0}
GAGNON = dict(zip(('alpha', 'beta'), COEFFICIENTS['gagnon2016'], strict=True))
FLOWS = {'hypercapnia_cbf': 75.0, 'hyperoxia_cbf': 48.0, 'resting_cbf': 50.0}
"""mL/100 g/min"""


def measured(oef, *, flows=FLOWS, po2=(115.0, 400.0), **physiology):
    """BOLD of the detailed model in both gases, and the flows."""
    bold = {
        f'{gas}_bold': detailed_bold(
            flows[f'{gas}_cbf'] / flows['resting_cbf'], 1.0, oef=oef, po2=pressure, **physiology
        )
        for gas, pressure in zip(('hypercapnia', 'hyperoxia'), po2, strict=True)
    }
    return {**bold, **flows}


def estimates(values, sd=None, n=1, draw=None):
    """Make the maps, with errors drawn around them where there are any."""
    sd = sd or {}
    return {
        name: Estimate.of(
            value + (draw(n) * sd[name] if name in sd else np.zeros(n)), sd.get(name, 0.0) ** 2
        )
        for name, value in values.items()
    }


def generalised_bold(flow, oef, gas, *, maximum, alpha, beta):
    """Percent BOLD of an isometabolic gas by the closed equations (Gauthier & Hoge 2012)."""
    rest = lacking_oxygen(110.0, **BLOOD) + oef * SAO2
    lack = lacking_oxygen(gas, **BLOOD) + oef * SAO2 / flow
    return maximum * (1 - flow**alpha * (lack / rest) ** beta)


@pytest.mark.parametrize('source', COEFFICIENTS)
@given(oef=st.floats(0.2, 0.7), largest=st.floats(3.0, 20.0), flow=st.floats(1.15, 1.9))
def test_both_gases_give_back_extraction_and_maximum_that_made_them(source, oef, largest, flow):
    alpha, beta = COEFFICIENTS[source]
    flows = FLOWS | {'hypercapnia_cbf': 50.0 * flow}
    maps = estimates(flows)
    for gas, ratio, po2 in (('hypercapnia', flow, 115.0), ('hyperoxia', 0.96, 400.0)):
        bold = generalised_bold(ratio, oef, po2, maximum=largest, alpha=alpha, beta=beta)
        maps[f'{gas}_bold'] = Estimate.of([bold])
    found = estimate_oef_dual_calibrated(**maps, **GASES, alpha=alpha, beta=beta)
    assert found.value == pytest.approx(oef, rel=1e-6)
    names = ('hyperoxia_bold', 'hyperoxia_cbf', 'resting_cbf')
    by_oxygen = estimate_maximum_from_hyperoxia(
        **{name: maps[name] for name in names}, oef=found, alpha=alpha, beta=beta,
        **BLOOD, resting_po2=110.0, hyperoxia_po2=400.0,
    )  # fmt: skip
    assert by_oxygen.value == pytest.approx(largest, rel=1e-5)


def test_hypercapnia_gives_back_the_maximum_that_made_it():
    flows = (Estimate.of([70.0, 70.0]), Estimate.of([50.0, 50.0]))
    bold = Estimate.of([davis_bold(1.4, 1.0, maximum=9.0, alpha=0.14, beta=0.91), -1.0])
    found = estimate_maximum_from_hypercapnia(bold, *flows, alpha=0.14, beta=0.91)
    assert found.value[0] == pytest.approx(9.0)
    assert found.status.tolist() == [Status.OK, Status.NO_REFERENCE]


def test_maximum_is_the_decay_of_r2_prime_in_the_echo_time():
    found = estimate_maximum_from_r2_prime(Estimate.of([5.3, -1.0]), bold_echo_time=0.03)
    np.testing.assert_allclose(found.value, [15.9, np.nan])
    with pytest.raises(ModelInputError, match='bold_echo_time must be positive'):
        estimate_maximum_from_r2_prime(Estimate.of([5.0]), bold_echo_time=0.0)


def test_blood_holds_what_the_literature_says():
    # standard curve at pH 7.4 and 37 degrees: 57, 75, 91 and 97.7 %
    np.testing.assert_allclose(
        haemoglobin_saturation([30, 40, 60, 100]), [0.572, 0.748, 0.906, 0.977], atol=0.003
    )
    # 290 mmHg more dissolve 0.9 mL/100 mL, and fill the 2 % of haemoglobin that lacked oxygen
    more = (lacking_oxygen(110.0, **BLOOD) - lacking_oxygen(400.0, **BLOOD)) * CAO2 / SAO2
    assert more * 2.24 == pytest.approx(0.9 + 0.017 * 17.5, abs=0.05)
    assert arterial_t1(1.65, po2=650.0, resting_po2=110.0) == pytest.approx(1.49, abs=0.01)


def test_reactivity_of_a_healthy_adult():
    """CBF rises by 3 to 6 % per mmHg of carbon dioxide (Liu 2019)."""
    flows = (Estimate.of([75.0, -1.0], 4.0), Estimate.of([50.0, 50.0], 4.0))
    found = estimate_reactivity(*flows, hypercapnia_pco2=50.0, resting_pco2=40.0)
    assert found.value[0] == pytest.approx(5.0)
    assert found.status.tolist() == [Status.OK, Status.NO_REFERENCE]
    with pytest.raises(ModelInputError, match='carbon dioxide'):
        estimate_reactivity(*flows, hypercapnia_pco2=39.0, resting_pco2=40.0)


@pytest.mark.parametrize('oef', [0.25, 0.3, 0.35, 0.4])
@pytest.mark.parametrize(('flow', 'bar'), [(65.0, 0.07), (75.0, 0.05), (80.0, 0.05)])
def test_extraction_and_maximum_of_a_detailed_bold_model(oef, flow, bar):
    """Blood volume, capillaries, arteries and the dissociation curve are not those of the app."""
    maps = estimates(measured(oef, flows=FLOWS | {'hypercapnia_cbf': flow}))
    found = estimate_oef_dual_calibrated(**maps, **GASES, **GAGNON)
    assert found.value == pytest.approx(oef, rel=bar)
    names = ('hypercapnia_bold', 'hypercapnia_cbf', 'resting_cbf')
    largest = estimate_maximum_from_hypercapnia(**{x: maps[x] for x in names}, **GAGNON)
    if 0.3 <= oef <= 0.4:
        assert 5.0 < largest.value < 12.0
        names = ('hyperoxia_bold', 'hyperoxia_cbf', 'resting_cbf')
        by_oxygen = estimate_maximum_from_hyperoxia(
            **{x: maps[x] for x in names}, oef=Estimate.of([oef]), **GAGNON, **BLOOD,
            resting_po2=110.0, hyperoxia_po2=400.0,
        )  # fmt: skip
        assert by_oxygen.value == pytest.approx(largest.value, rel=0.06)


@pytest.mark.parametrize('physiology', [{'volume': 0.03}, {'volume': 0.07}, {'hct': 0.38},
                                        {'echo_time': 0.022}, {'resting_po2': 95.0}])  # fmt: skip
def test_extraction_where_baseline_physiology_differs(physiology):
    cao2 = arterial_oxygen_content(hct=physiology.get('hct', HCT), sao2=SAO2)
    maps = estimates(measured(0.37, **physiology))
    blood = GASES | {'cao2': cao2, 'resting_po2': physiology.get('resting_po2', 110.0)}
    found = estimate_oef_dual_calibrated(**maps, **blood, **GAGNON)
    assert found.value == pytest.approx(0.37, rel=0.06)


def heavy_tailed(rng):
    """Errors with the tails of few degrees of freedom, of variance 1."""
    return lambda n: rng.standard_t(6, n) / np.sqrt(1.5)


ERRORS = {
    'hypercapnia_bold': 0.08, 'hyperoxia_bold': 0.08, 'hypercapnia_cbf': 1.6,
    'hyperoxia_cbf': 0.8, 'resting_cbf': 0.8,
}  # fmt: skip
"""Of maps smoothed over some voxels: percent, mL/100 g/min."""


def test_extraction_is_not_biased_and_its_intervals_hold_it():
    n, oef = 20_000, 0.37
    maps = estimates(measured(oef), ERRORS, n, heavy_tailed(np.random.default_rng(1)))
    found = estimate_oef_dual_calibrated(**maps, **GASES, **GAGNON)
    assert np.isfinite(found.value).mean() > 0.999
    assert np.nanmedian(found.value) == pytest.approx(oef, rel=0.05)
    assert np.nanmean(found.value) == pytest.approx(oef, rel=0.05)
    exact = estimate_oef_dual_calibrated(**estimates(measured(oef)), **GASES, **GAGNON).value
    inside = np.abs(found.value - exact) < 1.96 * np.sqrt(found.variance)
    assert 0.92 < inside.mean() < 0.97


def test_maximum_is_not_biased_and_its_intervals_hold_it():
    n = 20_000
    values = measured(0.37)
    names = ('hypercapnia_bold', 'hypercapnia_cbf', 'resting_cbf')
    noisy = estimates(values, ERRORS, n, heavy_tailed(np.random.default_rng(2)))
    found, exact = (
        estimate_maximum_from_hypercapnia(**{x: maps[x] for x in names}, **GAGNON)
        for maps in (noisy, estimates(values))
    )
    assert found.value.mean() == pytest.approx(exact.value[0], rel=0.02)
    inside = np.abs(found.value - exact.value) < 1.96 * np.sqrt(found.variance)
    assert 0.92 < inside.mean() < 0.97


@pytest.mark.parametrize(
    ('source', 'least', 'most'),
    [('gagnon2016', 0.87, 1.0), ('griffeth2011', 1.03, 1.17), ('epp2025', 1.1, 1.24),
     ('lin2008', 1.4, 1.6)],
)  # fmt: skip
def test_exponents_scale_extraction(source, least, most):
    """What the page says: the largest systematic error, and much the same in all voxels."""
    alpha, beta = COEFFICIENTS[source]
    ratios = [
        estimate_oef_dual_calibrated(
            **estimates(measured(oef, r2=r2)), **GASES, alpha=alpha, beta=beta
        ).value[0]
        / oef
        for oef in (0.3, 0.37, 0.45)
        for r2 in (15.0, 25.0)
    ]
    assert least < min(ratios)
    assert max(ratios) < most
    assert ratios[::2] == pytest.approx([ratios[0]] * 3, rel=0.06)


CHANGES = ((1.22, 0.93), (0.88, 0.94), (0.80, 1.06), (1.12, 1.06))
"""Ratios of flow and of extraction; CMRO2 rises, falls, falls, rises."""


@pytest.mark.parametrize(('source', 'most'), [('gagnon2016', 0.4), ('griffeth2011', 0.1)])
@pytest.mark.parametrize('r2', [15.0, 25.0])
def test_change_of_metabolism_by_the_maximum_of_a_gas_has_the_right_sign(source, most, r2):
    alpha, beta = COEFFICIENTS[source]
    values = measured(0.37, r2=r2)
    names = ('hypercapnia_bold', 'hypercapnia_cbf', 'resting_cbf')
    largest = estimate_maximum_from_hypercapnia(
        **estimates({name: values[name] for name in names}), alpha=alpha, beta=beta
    ).value[0]

    def change(flow, metabolism):
        bold = detailed_bold(flow, metabolism, oef=0.37, r2=r2)
        return davis_cmro2_ratio(bold, flow, maximum=largest, alpha=alpha, beta=beta) - 1

    for flow, extraction in CHANGES:
        true = flow * extraction - 1
        assert change(flow, flow * extraction) == pytest.approx(true, rel=most)
    for flow in (0.8, 1.25, 1.4):
        assert change(flow, 1.0) == pytest.approx(0.0, abs=0.02)


def test_metabolism_that_follows_carbon_dioxide_scales_extraction_unless_it_is_told():
    """Isometabolism is an assumption: CMRO2 that falls by 5 % with the gas costs 7 to 9 %."""
    values = measured(0.37)
    ratio = FLOWS['hypercapnia_cbf'] / FLOWS['resting_cbf']
    plain, told = (
        estimate_oef_dual_calibrated(
            **estimates({**values, 'hypercapnia_bold': bold}), **GASES, **GAGNON,
            hypercapnia_cmro2=known,
        ).value
        for bold, known in [
            (detailed_bold(ratio, 0.95, oef=0.37, po2=115.0), one) for one in (1.0, 0.95)
        ]
    )  # fmt: skip
    same = estimate_oef_dual_calibrated(**estimates(values), **GASES, **GAGNON).value
    assert 1.06 < plain / same < 1.11
    assert told == pytest.approx(same, rel=0.02)


@pytest.mark.parametrize('error', [-0.03, 0.03])
def test_flow_in_hyperoxia_must_be_right(error):
    """What the pages say: 3 % of it are 15 to 20 % of the extraction."""
    values = measured(0.37)
    wrong = {**values, 'hyperoxia_cbf': (1 + error) * values['hyperoxia_cbf']}
    found, same = (
        estimate_oef_dual_calibrated(**estimates(one), **GASES, **GAGNON).value
        for one in (wrong, values)
    )
    assert found / same - 1 == pytest.approx(5.7 * error, rel=0.2)


def test_gases_that_no_maximum_explains_have_a_reason():
    maps = estimates(measured(0.37))
    maps['hyperoxia_bold'] = Estimate.of([40.0])  # above M
    found = estimate_oef_dual_calibrated(**maps, **GASES, **GAGNON)
    assert np.isnan(found.value)
    assert found.status.tolist() == [Status.NO_REFERENCE]


def one_series(rng, n, echo_times, r2_star):
    """
    Draw errors of flow and BOLD from the volumes of one series of two echoes, all conditions.

    Control and label alternate; flow is their mean difference in the first echo, BOLD follows from
    the logarithms of the control volumes of both.
    """
    sizes = {'resting': 70, 'hypercapnia': 38, 'hyperoxia': 38}
    signal = np.exp(-np.asarray(echo_times) * r2_star)
    flow, rate = {}, {}
    for name, pairs in sizes.items():
        control, label = 0.01 * rng.standard_normal((2, n, pairs, 2))
        flow[name] = (control - label)[..., 0].mean(1)
        logs = (control / signal).mean(1)
        rate[name] = -(logs[:, 1] - logs[:, 0]) / np.diff(echo_times)
    errors = {f'{name}_cbf': error for name, error in flow.items()}
    errors |= {f'{gas}_bold': -(rate[gas] - rate['resting']) for gas in sizes if gas != 'resting'}
    return {name: error / error.std() for name, error in errors.items()}


@pytest.mark.parametrize('r2_star', [15.0, 30.0])
def test_intervals_hold_extraction_of_maps_of_one_series(r2_star):
    """Errors are drawn volume by volume; the tissue is not that of which the share is stated."""
    rng, n, times = np.random.default_rng(4), 20_000, (0.0112, 0.030)
    drawn = one_series(rng, n, times, r2_star)
    values = measured(0.37)
    maps = {
        name: Estimate.of(value + ERRORS[name] * drawn[name], ERRORS[name] ** 2)
        for name, value in values.items()
    }
    exact = estimate_oef_dual_calibrated(**estimates(values), **GASES, **GAGNON).value
    shares = {'echo_share': first_echo_share(times), 'resting_share': 38 / (38 + 70)}
    inside = {}
    for kind, told in (('known', shares), ('unknown', {})):
        found = estimate_oef_dual_calibrated(**maps, **GASES, **GAGNON, **told)
        inside[kind] = np.mean(np.abs(found.value - exact) < 1.96 * np.sqrt(found.variance))
    assert 0.92 < inside['known'] < 0.97
    assert inside['unknown'] < inside['known'] - 0.01


def test_one_echo_shares_no_noise_and_the_maximum_is_no_other_for_it():
    assert first_echo_share((0.02,)) == 0.0
    values = measured(0.37)
    names = ('hypercapnia_bold', 'hypercapnia_cbf', 'resting_cbf')
    maps = estimates({name: values[name] for name in names}, ERRORS, 1, np.zeros)
    alone, shared = (
        estimate_maximum_from_hypercapnia(**maps, **GAGNON, **given)
        for given in ({}, {'echo_share': 0.4, 'resting_share': 0.35})
    )
    assert shared.value == pytest.approx(alone.value)
    assert shared.variance != pytest.approx(alone.variance, rel=0.02)
