"""Several echoes: the decay of every volume, and what a design makes of it."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from bids_app.engines.glm import make_task_design
from bids_app.errors import ModelInputError
from bids_app.models.bold.echoes import fit_decay_series
from bids_app.models.bold.glm import fit_task_design
from bids_app.models.status import Status

TIMES = np.array([0.012, 0.028, 0.044])
TR = 1.2
ONSETS = (30.0, 90.0, 150.0, 210.0)


def train(s0, r2_star, times=TIMES):
    """Signal of each echo, noise-free."""
    return [s0 * np.exp(-time * r2_star) for time in times]


@pytest.mark.parametrize('times', [(0.015, 0.04), (0.012, 0.028, 0.044), (0.05, 0.03, 0.01, 0.07)])
def test_a_decay_without_noise_is_found_exactly(rng, times):
    s0, rate = rng.uniform(500, 900, (6, 9)), rng.uniform(10, 40, (6, 9))
    found = fit_decay_series(train(s0, rate, times), times, at=0.033)
    assert found.r2_star == pytest.approx(rate, rel=1e-5)
    assert found.s0 == pytest.approx(s0, rel=1e-5)
    assert found.signal == pytest.approx(s0 * np.exp(-0.033 * rate), rel=1e-5)


def test_volumes_agree_with_a_fit_of_the_signal_itself(rng):
    echoes = [echo + rng.normal(0, 3, (20, 10)) for echo in train(800.0, np.full((20, 10), 22.0))]
    found = fit_decay_series(echoes, TIMES, at=0.03)
    start = (800.0, 22.0)
    fits = [
        curve_fit(lambda t, s0, r: s0 * np.exp(-t * r), TIMES, point, p0=start)[0][1]
        for point in np.stack(echoes, axis=-1).reshape(-1, 3)
    ]
    ratio = found.r2_star.ravel() / np.array(fits)
    assert np.median(ratio) == pytest.approx(1, abs=2e-3)
    assert np.abs(ratio - 1).max() < 0.02


def test_the_usual_optimal_combination_is_the_fit_at_its_own_echo_time():
    means = np.array(train(700.0, np.array(25.0)))
    weights = means**2
    at = (weights @ TIMES**2) / (weights @ TIMES)
    change = np.array([1e-5, -2e-5, 3e-5])
    series = np.stack([means * (1 - change), means * (1 + change)], axis=-1)
    found = fit_decay_series(series[:, np.newaxis], TIMES, at=at)
    relative = found.signal.astype(float)[0]
    combined = (TIMES * means) @ series
    assert relative[1] / relative[0] - 1 == pytest.approx(combined[1] / combined[0] - 1, rel=2e-2)


def test_an_echo_without_signal_is_left_out_and_lost_volumes_may_hold_anything():
    rate = np.full((4, 5), 20.0)
    echoes = np.array(train(100.0, rate))
    echoes[2, 0, 3] = -1.0
    echoes[1:, 1, 2] = 0.0
    echoes[0, 2, 1] = np.nan
    echoes[0, 3, 4] = np.nan
    kept = np.array([True, True, True, True, False])
    found = fit_decay_series(echoes, TIMES, at=0.03, kept=kept)
    assert found.r2_star[0] == pytest.approx(20, rel=1e-5)
    assert (found.signal[1] == 0).all()
    assert np.isnan(found.r2_star[2]).all()
    assert found.r2_star[3, kept] == pytest.approx(20, rel=1e-5)


@pytest.mark.parametrize(
    ('times', 'at'), [((0.01,), 0.03), ((0.01, 0.01, 0.02), 0.03), (TIMES, 0.0)]
)
def test_what_gives_no_decay_is_refused(times, at):
    with pytest.raises(ModelInputError, match='echo'):
        fit_decay_series([np.ones((2, 3))] * len(times), times, at=at)


def _block_response(n_volumes):
    """Blocks that rise and fall exponentially: no response of a design."""
    course = np.zeros(n_volumes * 10)
    time = np.arange(course.size) * TR / 10
    for onset in ONSETS:
        course[(time >= onset) & (time < onset + 30)] = 1
    lag = np.arange(0, 30, TR / 10)
    kernel = lag**3 * np.exp(-lag / 1.4)
    return np.convolve(course, kernel / kernel.sum())[: course.size : 10]


def _slow(rng, n_voxels, n_volumes, size):
    """Fluctuations with a memory of a few volumes and a share of slow drift."""
    white = rng.normal(size=(n_voxels, n_volumes))
    for volume in range(1, n_volumes):
        white[:, volume] += 0.4 * white[:, volume - 1]
    return size * white


def test_changes_of_r2_star_and_inflow_are_told_apart_with_true_errors(rng):
    n_voxels, n_volumes, change, inflow = 1500, 200, -0.4, 0.6
    response = _block_response(n_volumes)
    active = np.arange(n_voxels)[:, np.newaxis] < n_voxels // 2
    rate = rng.uniform(18, 26, (n_voxels, 1)) + active * change * response
    rate = rate + _slow(rng, n_voxels, n_volumes, 0.12)
    s0 = 1000 * (1 + active * inflow / 100 * response + _slow(rng, n_voxels, n_volumes, 2e-3))
    echoes = [echo + rng.normal(0, 4, echo.shape) for echo in train(s0, rate)]
    design = make_task_design(
        n_volumes,
        repetition_time=TR,
        events=[(onset, 30.0, 'calc') for onset in ONSETS],
        baseline='control',
        contrasts=[('calc', 'control')],
    )
    found = fit_decay_series(echoes, TIMES, at=0.028)
    windows = design.weights['calcMinusControl'] @ np.linalg.pinv(design.matrix)
    clean = windows[0] @ response, windows[1] @ response
    rate_of = fit_task_design(found.r2_star, design, is_relative=False)['calcMinusControl']
    flow_of = fit_task_design(found.s0, design)['calcMinusControl']
    percent = fit_task_design(found.signal, design)['calcMinusControl']
    expected = {
        'rate': (rate_of, change * clean[0]),
        'flow': (flow_of, inflow * clean[0] / (1 + inflow / 100 * clean[1])),
        'percent': (percent, (inflow - 100 * 0.028 * change) * clean[0]),
    }
    for estimate, truth in expected.values():
        assert (estimate.status == Status.OK).all()
        size, spread = estimate.value, np.sqrt(estimate.variance)
        half = n_voxels // 2
        assert np.mean(size[:half]) == pytest.approx(truth, rel=0.05)
        covered = np.abs(size[:half] - truth) < 1.96 * spread[:half]
        assert 0.92 < covered.mean() < 0.97
        assert 0.03 < np.mean(np.abs(size[half:]) > 1.96 * spread[half:]) < 0.075
