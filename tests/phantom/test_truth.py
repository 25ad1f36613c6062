import numpy as np
import pytest
from scipy.optimize import curve_fit

from bids_app.phantom import truth
from bids_app.phantom.acquisition import MEGRE_TIMES, DscScan, Geometry
from bids_app.phantom.design import make_design
from bids_app.phantom.participant import Participant

GRID = Geometry(shape=(8, 9, 7), zooms=(4.0, 4.0, 6.6), centre=(3.0, 2.0, 1.0), points=(1, 1, 1))


def test_fit_is_the_least_squares_solution_for_mixed_tissue():
    rng = np.random.default_rng(0)
    te = np.asarray(MEGRE_TIMES)
    weights = rng.uniform(0.05, 1, (30, 2))
    trains = weights @ np.exp(-np.outer([19.0, 2.0], te))
    rate = truth.fit_decay(trains, MEGRE_TIMES)
    for train, got in zip(trains, rate, strict=True):
        best, _ = curve_fit(
            lambda t, a, r: a * np.exp(-r * t),
            te,
            train,
            p0=(train[0], 10),
            xtol=1e-14,
            ftol=1e-14,
        )
        assert got == pytest.approx(best[1], rel=1e-6)


def test_fit_of_one_tissue_is_its_rate_and_air_has_none():
    trains = np.stack([np.exp(-13.3 * np.asarray(MEGRE_TIMES)), np.zeros(12)])
    rate = truth.fit_decay(trains, MEGRE_TIMES)
    assert rate[0] == pytest.approx(13.3, rel=1e-10)
    assert np.isnan(rate[1])


def test_area_of_pure_tissue_is_its_blood_volume():
    scan = DscScan(geometry=GRID)
    from bids_app.phantom.acquisition import BOLUS_PEAK
    from bids_app.phantom.physics import bolus

    course, _ = bolus(scan.times, arrival=scan.arrival)
    volume = np.array([0.025, 0.048]).reshape(2, 1, 1)
    signal = np.exp(-scan.echo_time * BOLUS_PEAK * volume[..., None] * course)
    assert truth.measured_cbv(signal, scan) == pytest.approx(volume, rel=1e-9)


def test_bold_of_long_blocks_is_the_ratio_of_the_states():
    design = make_design(('control', 'calc'), length=480.0)
    times = 1.2 * np.arange(400)
    states = np.zeros((1, 1, 2, 2))
    states[0, 0, 0] = 1.0, 1.01
    percent = truth.measured_bold(states, design, times, 'calc')
    # the windows see most of the plateau, and a little of the tail in the baseline
    assert 0.85 < percent[0, 0, 0] < 1.02
    assert np.isnan(percent[0, 0, 1])


def test_closed_forms_join_the_maps():
    person = Participant(label='01', hct=0.42, sao2=0.98, flow_scale=1.0)
    shape = (1, 1, 1)
    maps = truth.Truth(
        participant=person,
        conditions=('control', 'calc'),
        r2=np.full(shape, 13.0),
        cbv=np.full(shape, 0.0478),
    )
    maps.r2_star = {'control': np.full(shape, 18.36), 'calc': np.full(shape, 18.0)}
    maps.cbf = {'control': np.full(shape, 43.6), 'calc': np.full(shape, 50.0)}
    # science section 7: R2' 5.36, CBV 4.78 % -> OEF .3538; CBF 43.6 -> CMRO2 117.9
    assert maps.oef('control').item() == pytest.approx(0.3538, abs=3e-4)
    assert maps.cmro2('control').item() == pytest.approx(117.9, abs=0.15)
    assert maps.change('R2prime', 'calc').item() == pytest.approx(-0.36)
    assert maps.change('cbf', 'calc').item() == pytest.approx(6.4)
    expected = maps.cmro2('calc') - maps.cmro2('control')
    assert maps.change('cmro2', 'calc') == pytest.approx(expected)


def test_no_blood_volume_has_no_extraction():
    person = Participant(label='01', hct=0.42, sao2=0.98, flow_scale=1.0)
    maps = truth.Truth(
        participant=person, conditions=('a',), r2=np.array([13.0]), cbv=np.array([0.0])
    )
    maps.r2_star = {'a': np.array([18.0])}
    assert np.isnan(maps.oef('a')).all()


def test_contrasts_are_named_as_in_the_outputs():
    assert truth.contrast_label('calc', 'control') == 'calcMinusControl'
