"""Laws of the deconvolution of a bolus."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.dsc.deconvolution import deconvolve, flow_per_mass
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status
from tests.paths import DATA

TIME = np.arange(0, 100, 1.25)


def artery(delay=0.0):
    lag = np.clip(TIME - 12 - delay, 0, None) / 4.5
    return 30 * lag**3 * np.exp(3 - 3 * lag)


def tissue(flow, transit_time, *, delay=0.0):
    """Convolution on a grid ten times finer than the volumes."""
    fine = np.arange(0, 100, 0.125)
    lag = np.clip(fine - 12 - delay, 0, None) / 4.5
    curve = np.convolve(30 * lag**3 * np.exp(3 - 3 * lag), np.exp(-fine / transit_time))
    return flow * 0.125 * curve[: len(fine) : 10]


def flow_of(curves, **options):
    options = {'repetition_time': 1.25, 'oscillation_index': 0.035} | options
    return deconvolve(np.atleast_2d(curves), artery(), **options)


def test_transit_time_and_volume_follow_the_central_volume_theorem():
    found = flow_of([tissue(0.01, 4.0), tissue(0.005, 8.0)])
    volume = found.flow.value * found.transit_time.value
    np.testing.assert_allclose(volume, 0.04, rtol=0.02)
    np.testing.assert_allclose(found.flow.value, [0.01, 0.005], rtol=0.2)


@given(st.integers(-5, 6))
@settings(max_examples=12)
def test_flow_does_not_depend_on_the_delay_by_whole_volumes(volumes):
    delay = 1.25 * volumes
    found = flow_of([tissue(0.01, 4.0, delay=delay), tissue(0.01, 4.0)])
    assert found.flow.value[0] == pytest.approx(found.flow.value[1], rel=0.1)
    shift = found.delay.value[0] - found.delay.value[1]
    assert shift == pytest.approx(delay, abs=1e-9)


def test_delay_by_a_part_of_a_volume_costs_little_flow():
    found = flow_of([tissue(0.01, 4.0, delay=0.5), tissue(0.01, 4.0)])
    assert found.flow.value[0] == pytest.approx(found.flow.value[1], rel=0.2)


def test_flow_is_proportional_and_blind_to_the_unit_of_the_curves():
    one = flow_of(tissue(0.01, 4.0)).flow.value[0]
    assert flow_of(tissue(0.02, 4.0)).flow.value[0] == pytest.approx(2 * one)
    scaled = deconvolve(
        [1e-3 * tissue(0.01, 4.0)], 1e-3 * artery(), repetition_time=1.25, oscillation_index=0.035
    )
    assert scaled.flow.value[0] == pytest.approx(one)
    factored = flow_of(tissue(0.01, 4.0), haematocrit_factor=0.9)
    assert factored.flow.value[0] == pytest.approx(0.9 * one)
    assert factored.transit_time.value[0] == flow_of(tissue(0.01, 4.0)).transit_time.value[0]


def test_oscillation_is_limited_in_every_voxel_on_its_own():
    rng = np.random.default_rng(1)
    curves = tissue(0.01, 4.0) + rng.standard_normal((200, len(TIME))) * 0.4
    together = flow_of(curves)
    alone = [flow_of(curve).flow.value[0] for curve in curves[:20]]
    np.testing.assert_allclose(together.flow.value[:20], alone, rtol=1e-12)
    assert np.median(together.threshold) > flow_of(tissue(0.01, 4.0)).threshold[0]


def test_noise_variance_is_the_spread_at_a_fixed_threshold():
    rng = np.random.default_rng(2)
    clean = tissue(0.01, 4.0)
    noise = 0.15
    curves = clean + noise * rng.standard_normal((3000, len(TIME)))
    found = flow_of(curves, oscillation_index=1e-6, rate_variance=np.full(3000, noise**2))
    spread = found.flow.value.std()
    assert np.sqrt(np.median(found.flow.variance)) == pytest.approx(spread, rel=0.1)


def test_curves_without_a_bolus_have_no_flow():
    bad = tissue(0.01, 4.0)
    bad[5] = np.nan
    found = flow_of([tissue(0.01, 4.0), np.zeros(len(TIME)), bad])
    assert found.flow.status.tolist() == [Status.OK, Status.NO_SIGNAL, Status.INVALID_INPUT]
    assert np.isnan(found.delay.value[1:]).all()


@pytest.mark.parametrize(
    ('curves', 'arterial', 'options', 'words'),
    [
        (np.ones((2, 9)), np.ones(8), {}, 'shapes'),
        (np.ones((2, 9)), np.zeros(9), {}, 'positive area'),
        (np.ones((2, 9)), np.ones(9), {'repetition_time': 0.0}, 'repetition_time'),
        (np.ones((2, 9)), np.ones(9), {'oscillation_index': -1.0}, 'oscillation_index'),
    ],
)
def test_what_cannot_be_deconvolved_is_refused(curves, arterial, options, words):
    options = {'repetition_time': 1.0, 'oscillation_index': 0.035} | options
    with pytest.raises(ModelInputError, match=words):
        deconvolve(curves, arterial, **options)


def test_density_must_be_positive():
    with pytest.raises(ModelInputError, match='density'):
        flow_per_mass(Estimate.of([0.01]), density=0.0)


def test_osipi_curves_are_recovered():
    with (DATA / 'osipi_dsc' / 'dsc_data.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    for row in rows:
        curve, arterial = (np.array(row[key].split(), float) for key in ('C_tis', 'C_aif'))
        found = deconvolve(
            [curve], arterial, repetition_time=float(row['tr']), oscillation_index=0.05
        )
        cbf = flow_per_mass(found.flow, density=1.0).value[0]
        cbv = 100 * found.flow.value[0] * found.transit_time.value[0]
        assert cbf == pytest.approx(float(row['cbf']), abs=0.1 * float(row['cbf']) + 5)
        assert cbv == pytest.approx(float(row['cbv']), abs=0.15 * float(row['cbv']) + 0.2)
