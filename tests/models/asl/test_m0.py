"""Equilibrium magnetisation."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.asl.m0 import estimate_m0, m0_from_region
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status


def test_m0_is_the_mean_corrected_for_recovery():
    m0 = estimate_m0([[90.0, 110.0]], repetition_time=4.5, t1_tissue=1.607, noise_variance=8.0)
    recovery = 1 - np.exp(-4.5 / 1.607)
    assert m0.value[0] == pytest.approx(100 / recovery)
    assert m0.variance[0] == pytest.approx(4.0 / recovery**2)


@pytest.mark.parametrize('repetition_time', [None, 0.0, -1.0])
def test_unknown_repetition_time_means_no_recovery_correction(repetition_time):
    m0 = estimate_m0([[100.0]], repetition_time=repetition_time, t1_tissue=1.607)
    assert m0.value[0] == 100.0
    assert m0.variance[0] == 0.0


def test_recovery_is_complete_for_long_repetition_times():
    assert estimate_m0([[100.0]], repetition_time=1e3, t1_tissue=1.6).value[0] == 100.0


def test_error_of_m0_is_taken_from_repeated_volumes():
    rng = np.random.default_rng(6)
    m0 = estimate_m0(1000 + 20 * rng.standard_normal((3000, 5)), t1_tissue=1.6)
    assert m0.variance[0] == pytest.approx(400 / 5, rel=0.05)
    assert m0.value.std() == pytest.approx(np.sqrt(m0.variance[0]), rel=0.05)


def test_m0_that_is_not_positive_is_no_reference():
    m0 = estimate_m0([[0.0], [-3.0], [np.nan], [5.0]], t1_tissue=1.6)
    np.testing.assert_array_equal(
        m0.status,
        [Status.NO_REFERENCE, Status.NO_REFERENCE, Status.INVALID_INPUT, Status.OK],
    )


@pytest.mark.parametrize('series', [np.ones(3), np.ones((3, 0))])
def test_m0_needs_a_volume(series):
    with pytest.raises(ModelInputError, match='at least one volume'):
        estimate_m0(series, t1_tissue=1.6)


def test_m0_of_a_region_is_one_number_for_all():
    rng = np.random.default_rng(15)
    m0 = Estimate.of(1150 + 10 * rng.standard_normal(400), 100.0)
    made = m0_from_region(
        m0, np.arange(400) < 200, region='csf', echo_time=0.0, partition_coefficient=0.9
    )
    assert np.ptp(made.value) == 0
    assert made.value[0] == pytest.approx(900, rel=0.005)
    assert 0 < made.variance[0] < 100
    later = m0_from_region(
        m0, np.arange(400) < 200, region='csf', echo_time=0.012, partition_coefficient=0.9
    )
    # CSF has lost less signal than labelled water by then
    assert later.value[0] / made.value[0] == pytest.approx(np.exp(0.012 * (1 / 0.4 - 1 / 0.05)))


def test_region_that_is_too_small_or_unknown_is_refused():
    m0 = Estimate.of(np.ones(50))
    with pytest.raises(ModelInputError, match='20 voxels'):
        m0_from_region(m0, np.zeros(50), region='csf', echo_time=0.0, partition_coefficient=0.9)
    with pytest.raises(ModelInputError, match='region must be'):
        m0_from_region(m0, np.ones(50), region='bone', echo_time=0.0, partition_coefficient=0.9)
