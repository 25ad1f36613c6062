"""Percent change of block medians and of R2*: published windows, calibration, edges."""

import numpy as np
import pytest
from scipy.signal import lfilter

from bids_app.errors import ModelInputError
from bids_app.models.bold.block_median import (
    bold_from_r2_star,
    drift_sensitivity,
    median_percent_change,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status

RANGES = {
    'mem': [(30, 50), (105, 125), (180, 200), (380, 400)],
    'control': [(80, 100), (205, 225), (280, 300), (355, 375)],
}


def window(name):
    chosen = np.zeros(400, bool)
    for first, last in RANGES[name]:
        chosen[first:last] = True
    return chosen


MEM, CONTROL = window('mem'), window('control')


def correlated(rng, n_voxels, correlation):
    white = rng.normal(size=(n_voxels, 600))
    series = lfilter([1], [1, -correlation], white, axis=1)[:, 200:]
    return series * np.sqrt(1 - correlation**2)


def test_change_of_medians_is_the_published_formula():
    rng = np.random.default_rng(0)
    series = rng.normal(1000, 20, (5, 400))
    base = np.nanmedian(series[:, CONTROL], axis=1)
    percent = 100 * (series - base[:, None]) / base[:, None]
    published = np.nanmedian(percent[:, MEM], axis=1)
    change = median_percent_change(series, MEM, CONTROL)
    np.testing.assert_allclose(change.value, published, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('correlation', [0.0, 0.35, 0.6])
def test_errors_of_medians_are_calibrated_under_correlated_noise(correlation):
    rng = np.random.default_rng(1)
    series = 1000 + 10 * correlated(rng, 4000, correlation)
    series[:, MEM] += 8
    change = median_percent_change(series, MEM, CONTROL)
    z = (change.value - 0.8) / np.sqrt(change.variance)
    assert z.std() == pytest.approx(1, abs=0.06)
    assert abs(z.mean()) < 0.06


def test_drift_that_medians_keep_is_told():
    sensitivity = drift_sensitivity(MEM, CONTROL)
    ramp = np.linspace(0, 1, 400)
    series = 1000 * (1 + 0.01 * ramp)[None]
    found = median_percent_change(series, MEM, CONTROL).value[0]
    assert found == pytest.approx(sensitivity['Linear'], rel=0.02)
    assert abs(sensitivity['Linear']) > 0.2
    assert set(sensitivity) == {'Linear', 'HalfCycle', 'FullCycle'}


def test_voxels_without_signal_say_so():
    series = np.random.default_rng(2).normal(1000, 10, (5, 400))
    series[0], series[1, 35], series[2] = 7.0, np.nan, series[2] - 2000
    series[3, 0] = np.inf  # not in a window
    change = median_percent_change(series, MEM, CONTROL)
    assert change.status.tolist() == [
        Status.NO_SIGNAL, Status.INVALID_INPUT, Status.NO_REFERENCE, Status.OK, Status.OK,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('task', 'baseline'),
    [(np.zeros(400, bool), CONTROL), (CONTROL, CONTROL), (MEM[:9], CONTROL[:9])],
)
def test_windows_that_cannot_be_compared_are_refused(task, baseline):
    with pytest.raises(ModelInputError):
        median_percent_change(np.ones((2, 400)), task, baseline)


def test_gradient_echo_predicts_bold_with_the_errors_of_both_conditions():
    task = Estimate.of([19.0, 20.0, np.nan], 0.04, [0, 0, Status.NOT_CONVERGED])
    baseline = Estimate.of([20.0, 20.0, 20.0], 0.05)
    change = bold_from_r2_star(task, baseline, echo_time=0.03)
    np.testing.assert_allclose(change.value, [3.0, 0.0, np.nan])
    np.testing.assert_allclose(change.variance[:2], 9 * 0.09)
    assert change.status[2] == Status.NOT_CONVERGED
    with pytest.raises(ModelInputError, match='echo_time'):
        bold_from_r2_star(task, baseline, echo_time=0.0)
