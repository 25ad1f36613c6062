"""Venous blood: T2 to saturation, and the mean of a map beside what it says."""

import numpy as np
import pytest
from scipy.optimize import brentq

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.venous import (
    blood_r2,
    compare_with_venous_blood,
    global_extraction,
    saturation_error,
    saturation_from_t2,
)

BLOOD = {'hct': 0.4, 'b0': 3.0}


@pytest.mark.parametrize('hct', [0.25, 0.4, 0.55])
@pytest.mark.parametrize('saturation', [0.3, 0.6, 0.8])
def test_saturation_from_t2_inverts_the_calibration(saturation, hct):
    t2 = 1 / float(blood_r2(saturation, hct))
    assert saturation_from_t2(t2, hct, b0=3.0) == pytest.approx(saturation, abs=1e-12)


def test_saturation_is_the_root_of_the_published_polynomial():
    """Numbers typed from Table 2 of Lu et al. 2012, and a search in place of the closed form."""

    def gap(y):
        x, h = 1 - y, 0.42
        rate = -13.5 + 80.2 * h - 75.9 * h**2 + (-0.5 * h + 3.4 * h**2) * x
        return rate + 247.4 * h * (1 - h) * x**2 - 1 / 0.0624

    found = saturation_from_t2(0.0624, 0.42, b0=2.89)
    assert found == pytest.approx(brentq(gap, 0, 1), abs=1e-9)
    # the same T2 gave an extraction of 0.37 +- 0.04 by another calibration (Qin et al. 2011)
    assert global_extraction(found, 0.98) == pytest.approx(0.37, abs=0.02)


@pytest.mark.parametrize(
    ('t2', 'given', 'words'),
    [
        (0.06, {'hct': 0.42, 'b0': 1.5}, 'at 3 T only'),
        (0.06, {'hct': 0.42, 'b0': float('nan')}, 'at 3 T only'),
        (0.3, {'hct': 0.42, 'b0': 3.0}, 'no saturation'),
        (0.005, {'hct': 0.42, 'b0': 3.0}, 'no saturation'),
        (0.0, {'hct': 0.42, 'b0': 3.0}, 'positive'),
    ],
)
def test_a_t2_that_tells_no_saturation_is_refused(t2, given, words):
    with pytest.raises(ModelInputError, match=words):
        saturation_from_t2(t2, **given)


def test_error_of_the_saturation_is_the_spread_of_repeated_measurements(rng):
    draws = [
        saturation_from_t2(t2, hct, b0=3.0) + rng.normal(0, 0.03)
        for t2, hct in zip(
            rng.normal(0.06, 0.002, 4000), rng.normal(0.4, 0.012, 4000), strict=True
        )
    ]
    stated = saturation_error(0.06, **BLOOD, t2_error=0.002, hct_error=0.012)
    assert stated == pytest.approx(np.std(draws), rel=0.05)


@pytest.mark.parametrize('saturation', [0.0, 0.98, 0.99])
def test_venous_blood_must_be_less_saturated_than_arterial(saturation):
    with pytest.raises(ModelInputError, match='must lie between 0 and that of arterial blood'):
        global_extraction(saturation, 0.98)


def test_mean_is_that_of_blood_that_has_passed_all_voxels(rng):
    """Content of mixed venous blood is added up voxel by voxel."""
    flow, oef = rng.uniform(20, 90, 300), rng.uniform(0.2, 0.6, 300)
    content = 7.6
    brought, left = (flow * content).sum(), (flow * content * (1 - oef)).sum()
    found = compare_with_venous_blood(
        Estimate.of(oef), Estimate.of(flow), np.ones(300, bool),
        venous_saturation=0.98 * left / brought, venous_saturation_error=0.02, sao2=0.98,
    )  # fmt: skip
    assert found.scale == pytest.approx(1.0, abs=1e-12)
    assert found.anchor_error == pytest.approx(0.02 / 0.98)
    assert found.n_voxels == 300


@pytest.mark.parametrize('common', [0.0, 0.004])
def test_error_of_the_mean_covers_the_noise_of_both_maps(rng, common):
    flow, oef = rng.uniform(20, 90, 400), rng.uniform(0.2, 0.6, 400)
    spread, of_flow = 0.08, 12.0
    true = (flow * oef).sum() / flow.sum()
    z = []
    for _ in range(500):
        noisy = oef + rng.normal(0, spread, 400) + rng.normal(0, common)
        found = compare_with_venous_blood(
            Estimate.of(noisy, spread**2 + common**2),
            Estimate.of(flow + rng.normal(0, of_flow, 400), of_flow**2),
            np.ones(400, bool),
            venous_saturation=0.6, venous_saturation_error=0.02, sao2=0.98,
            shared=common**2 / (spread**2 + common**2),
        )  # fmt: skip
        z.append((found.mean - true) / found.mean_error)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.03)
    assert abs(np.mean(z)) < 0.15


def test_voxels_without_an_estimate_or_outside_grey_matter_do_not_count():
    oef = Estimate.of([0.4, np.nan, 0.2, 0.9], 1e-4)
    cbf = Estimate.of([50.0, 50.0, np.nan, 50.0], 1.0)
    blood = {'venous_saturation': 0.6, 'venous_saturation_error': 0.02, 'sao2': 0.98}
    found = compare_with_venous_blood(oef, cbf, [True, True, True, False], **blood)
    assert (found.mean, found.n_voxels) == (0.4, 1)
    nothing = compare_with_venous_blood(oef, cbf, [False] * 4, **blood)
    assert np.isnan([nothing.mean, nothing.scale, nothing.z]).all()
