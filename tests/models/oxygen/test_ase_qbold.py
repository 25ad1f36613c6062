"""Asymmetric spin echo: the published simulation, errors, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import j0

from bids_app.errors import ModelInputError
from bids_app.models.oxygen.ase_qbold import dephasing_exponent, fit_ase, predict_ase
from bids_app.models.oxygen.mqbold import static_dephasing_constant
from bids_app.models.status import Status
from tests.paths import DATA

SIMULATION = DATA / 'qbold' / 'ase_qbold_sim.csv'
CONSTANTS = {
    # of the simulation: github.com/fmriphysiology/model_based_qbold (MIT), OEF .4, DBV .03
    'b0': 3.0,
    'hct': 0.4,
    'small_vessel_hct_ratio': 1.0,
    'susceptibility': 0.264e-6,
    'gyromagnetic_ratio': 267.513e6,
}
RATE = {'static_dephasing_constant': static_dephasing_constant(**CONSTANTS)}
TRUTH = {'r2_prime': 4.259905058735968, 'dbv': 0.03, 'oef': 0.4}
TAU = np.r_[0.0, np.arange(0.016, 0.065, 0.004)]
METHODS = ('loglinear', 'nonlinear')


@pytest.mark.parametrize('phase', [0.01, 0.5, 2.0, 7.0, 30.0])
def test_exponent_is_the_integral_over_vessels(phase):
    def integrand(u):
        return (2 + u) * np.sqrt(1 - u) * (1 - j0(1.5 * phase * u)) / u**2

    exact = quad(integrand, 0, 1, limit=500)[0] / 3
    assert float(dephasing_exponent(phase)) == pytest.approx(exact, rel=1e-6)


def test_exponent_has_its_known_limits():
    assert float(dephasing_exponent(1e-3)) == pytest.approx(0.3e-6, rel=1e-3)
    assert float(dephasing_exponent(60.0)) == pytest.approx(59.0, rel=1e-4)


@pytest.mark.parametrize('method', METHODS)
def test_published_simulation_with_blood_is_recovered(method):
    table = np.genfromtxt(SIMULATION, delimiter=',', names=True)
    maps = fit_ase(
        table['S_total_noisefree'][None], displacements=table['tau_s'], method=method, **RATE
    )
    assert maps.r2_prime.value[0] == pytest.approx(TRUTH['r2_prime'], rel=0.02)
    assert maps.dbv.value[0] == pytest.approx(TRUTH['dbv'], rel=0.05)
    assert maps.oef.value[0] == pytest.approx(TRUTH['oef'], rel=0.05)


def test_published_simulation_with_noise_is_recovered():
    table = np.genfromtxt(SIMULATION, delimiter=',', names=True)
    maps = fit_ase(table['S_sample_snr100'][None], displacements=table['tau_s'], **RATE)
    for name, truth in TRUTH.items():
        found = getattr(maps, name)
        assert abs(found.value[0] - truth) < 3 * np.sqrt(found.variance[0])


@settings(max_examples=25)
@given(rate=st.floats(2.0, 8.0), volume=st.floats(0.02, 0.06))
def test_curve_is_a_round_trip(rate, volume):
    signal = predict_ase(TAU, [500.0], [rate], [volume])
    maps = fit_ase(signal, displacements=TAU, **RATE)
    assert maps.r2_prime.value[0] == pytest.approx(rate, rel=1e-3)
    assert maps.dbv.value[0] == pytest.approx(volume, rel=5e-3)
    ratio = rate / (RATE['static_dephasing_constant'] * volume)
    assert maps.oef.value[0] == pytest.approx(ratio, rel=5e-3)


@pytest.mark.parametrize('method', METHODS)
def test_errors_have_the_variance_that_is_stated(method):
    rng = np.random.default_rng(0)
    n = 4000
    clean = predict_ase(TAU, np.full(n, 100.0), np.full(n, 4.26), np.full(n, 0.03))
    signal = clean + rng.normal(0, 0.2, clean.shape)
    maps = fit_ase(signal, displacements=TAU, method=method, **RATE)
    for name in TRUTH:
        found = getattr(maps, name)
        z = (found.value - np.nanmedian(found.value)) / np.sqrt(found.variance)
        assert 0.9 < np.nanstd(z) < 1.1, name
        assert 0.93 < np.mean(np.abs(z[np.isfinite(z)]) < 1.96) < 0.97, name


def test_voxels_that_cannot_be_fitted_say_why_and_leave_their_neighbours_alone():
    signal = predict_ase(TAU, np.full(4, 100.0), np.full(4, 4.26), np.full(4, 0.03))
    signal[0] = 0.0
    signal[1, 2:] = np.nan
    signal[2, 5] = np.nan
    maps = fit_ase(signal, displacements=TAU, **RATE)
    assert maps.oef.status.tolist() == [Status.NO_SIGNAL, Status.TOO_FEW_SAMPLES, 0, 0]
    np.testing.assert_allclose(maps.oef.value[2:], maps.oef.value[3], rtol=1e-3)


def test_blood_volume_below_zero_has_no_oef():
    signal = 100 * np.exp(-4.0 * TAU)[None] * np.r_[0.97, np.ones(TAU.size - 1)]
    maps = fit_ase(signal, displacements=TAU, method='loglinear', **RATE)
    assert maps.dbv.status.tolist() == [Status.OK]
    signal[0, 0] = 103.0
    maps = fit_ase(signal, displacements=TAU, method='loglinear', **RATE)
    assert maps.dbv.status.tolist() == [Status.NEGATIVE]
    assert maps.oef.status.tolist() == [Status.NO_BLOOD_VOLUME]


def test_acquisition_that_does_not_suffice_is_refused():
    with pytest.raises(ModelInputError, match='one spin echo at 0'):
        fit_ase(np.ones((1, 4)), displacements=[0.016, 0.02, 0.03, 0.04], **RATE)
    with pytest.raises(ModelInputError, match='one displacement per sample'):
        fit_ase(np.ones((1, 4)), displacements=TAU, **RATE)
    with pytest.raises(ModelInputError, match='nonlinear or loglinear'):
        fit_ase(np.ones((1, TAU.size)), displacements=TAU, method='x', **RATE)
