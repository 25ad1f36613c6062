"""Trains of imperfectly refocused echoes."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.relaxometry import epg
from bids_app.models.relaxometry.decay import fit_r2, fit_r2_without_first
from bids_app.models.relaxometry.epg import fit_r2_epg, fit_r2_epg_smooth, predict_echo_train
from bids_app.models.status import Status

SPACING = 0.016
MESE = SPACING * np.arange(1, 9)
T2 = 0.074


def isochromats(angle, *, rate, t1, n_echoes, n_spins=4096):
    """CPMG train by turning spins one by one: no graph."""
    half_turn = np.pi * (np.arange(n_spins) + 0.5) / n_spins
    x, y, z = np.ones(n_spins), np.zeros(n_spins), np.zeros(n_spins)
    kept, recovered = np.exp(-rate * SPACING / 2), np.exp(-SPACING / 2 / t1)
    angle = np.radians(angle)
    echoes = []
    for _ in range(n_echoes):
        for part in range(2):
            x, y = (x * np.cos(half_turn) - y * np.sin(half_turn),
                    x * np.sin(half_turn) + y * np.cos(half_turn))  # fmt: skip
            x, y, z = x * kept, y * kept, z * recovered
            if part == 0:
                y, z = (y * np.cos(angle) - z * np.sin(angle),
                        y * np.sin(angle) + z * np.cos(angle))  # fmt: skip
        echoes.append(x.mean())
    return np.array(echoes)


@pytest.mark.parametrize('angle', [180, 165, 140, 110])
def test_graph_equals_turning_the_spins(angle):
    expected = isochromats(angle, rate=13.5, t1=epg.T1_OF_TRAIN, n_echoes=10)
    found = predict_echo_train(10, echo_spacing=SPACING, r2=13.5, refocusing_angle=angle)
    assert found == pytest.approx(expected, abs=1e-12)


def test_derivatives_of_the_graph_are_its_slopes():
    rate, miss, step = np.array([9.0, 14.0]), np.array([0.1, -0.05]), 1e-6
    _, (by_rate, by_miss) = epg.echo_train(rate, miss, SPACING, 8)

    def difference(rate_step, miss_step):
        ends = [
            epg.echo_train(rate + side * rate_step, miss + side * miss_step, SPACING, 8)[0]
            for side in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    assert by_rate == pytest.approx(difference(step, 0), abs=1e-8)
    assert by_miss == pytest.approx(difference(0, step), abs=1e-8)


@pytest.mark.parametrize('angle', [180, 170, 160, 150, 140])
def test_t2_does_not_depend_on_the_refocusing_angle(angle):
    train = 900 * predict_echo_train(8, echo_spacing=SPACING, r2=[1 / T2], refocusing_angle=angle)
    assert 1 / fit_r2_epg(train, echo_times=MESE).value == pytest.approx(T2, rel=1e-6)


@pytest.mark.parametrize(('angle', 'bias'), [(180, 0.0), (160, 0.03), (140, 0.113)])
def test_the_plain_fit_is_biased_as_published_and_without_the_first_echo_little(angle, bias):
    train = predict_echo_train(8, echo_spacing=SPACING, r2=[1 / T2], refocusing_angle=angle)
    plain = 1 / fit_r2(train, echo_times=MESE).value[0] / T2 - 1
    dropped = 1 / fit_r2_without_first(train, echo_times=MESE).value[0] / T2 - 1
    assert plain == pytest.approx(bias, abs=0.003)
    assert abs(dropped) < 0.01


@pytest.mark.parametrize('angle', [180, 150])
def test_with_noise_t2_is_right_and_its_interval_covers(angle):
    rng = np.random.default_rng(3)
    train = 1000 * predict_echo_train(
        8, echo_spacing=SPACING, r2=np.full(6000, 1 / T2), refocusing_angle=angle
    )
    noise = 1000 / 60 * (rng.normal(size=train.shape) + 1j * rng.normal(size=train.shape))
    estimate = fit_r2_epg(np.abs(train + noise), echo_times=MESE)
    assert 1 / np.nanmedian(estimate.value) == pytest.approx(T2, rel=0.01)
    z = (estimate.value - 1 / T2) / np.sqrt(estimate.variance)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.012)
    assert np.mean(estimate.status == Status.OK) > 0.999


def head_of_angles(shape=(24, 26, 6)):
    """Angle of a transmit field that falls from 178 degrees in the middle to 132 at the sides."""
    place = np.argwhere(np.ones(shape)) * [8.0, 8.0, 6.6]
    away = (place - place.mean(axis=0)) / [95, 105, 60]
    head = (away**2).sum(axis=1) < 1
    angle = 178 - 43 * (away**2 * [1.0, 0.7, 0.3]).sum(axis=1) - 3 * away[:, 0]
    return place[head], angle[head]


def test_a_smooth_angle_is_right_more_precise_and_its_interval_covers():
    rng = np.random.default_rng(5)
    place, angle = head_of_angles()
    rate = rng.uniform(11, 16, len(place))
    train = 1000 * predict_echo_train(8, echo_spacing=SPACING, r2=rate, refocusing_angle=angle)
    noise = 1000 / 60 * (rng.normal(size=train.shape) + 1j * rng.normal(size=train.shape))
    noisy = np.abs(train + noise)
    each = fit_r2_epg(noisy, echo_times=MESE)
    smooth = fit_r2_epg_smooth(noisy, place, echo_times=MESE)
    tilted = angle < 150
    spread = {
        name: np.nanstd((estimate.value - rate)[tilted])
        for name, estimate in (('voxel', each), ('smooth', smooth))
    }
    assert spread['smooth'] < 0.9 * spread['voxel']
    z = (smooth.value - rate) / np.sqrt(smooth.variance)
    assert abs(np.nanmedian(smooth.value[tilted] / rate[tilted]) - 1) < 0.01
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)


def test_a_smooth_angle_is_that_of_the_voxels_where_nothing_is_noisy():
    place, angle = head_of_angles()
    train = predict_echo_train(8, echo_spacing=SPACING, r2=1 / T2, refocusing_angle=angle)
    train[40] = 0
    estimate = fit_r2_epg_smooth(900 * train, place, echo_times=MESE)
    assert np.nanmax(np.abs(estimate.value * T2 - 1)) < 0.005
    assert estimate.status[40] == Status.NO_SIGNAL
    assert np.isnan(estimate.value).sum() == 1


def test_a_smooth_angle_of_few_voxels_has_fewer_terms():
    train = predict_echo_train(8, echo_spacing=SPACING, r2=[13.0] * 3, refocusing_angle=150)
    estimate = fit_r2_epg_smooth(train, np.diag([1.0, 2, 3]), echo_times=MESE)
    assert estimate.value == pytest.approx(13.0, rel=1e-5)
    nothing = fit_r2_epg_smooth(np.zeros((2, 8)), np.zeros((2, 3)), echo_times=MESE)
    assert (nothing.status == Status.NO_SIGNAL).all()
    with pytest.raises(ModelInputError, match='positions'):
        fit_r2_epg_smooth(train, np.ones((3, 2)), echo_times=MESE)


def test_t1_of_the_train_hardly_matters(monkeypatch):
    monkeypatch.setattr(epg, 'T1_OF_TRAIN', 0.8)
    train = predict_echo_train(8, echo_spacing=SPACING, r2=[1 / T2], refocusing_angle=150)
    monkeypatch.undo()
    assert 1 / fit_r2_epg(train, echo_times=MESE).value == pytest.approx(T2, rel=0.005)


def test_order_of_echoes_is_free_and_few_echoes_are_said():
    train = predict_echo_train(8, echo_spacing=SPACING, r2=[13.0, 13.0], refocusing_angle=150)
    train[1, 3:] = np.nan
    estimate = fit_r2_epg(train[:, ::-1], echo_times=MESE[::-1])
    assert estimate.value[0] == pytest.approx(13.0, rel=1e-6)
    assert estimate.status[1] == Status.TOO_FEW_SAMPLES


@pytest.mark.parametrize(
    'echo_times', [[0.016, 0.032, 0.048, 0.070], [0.020, 0.036, 0.052, 0.068], [0.01, 0.02, 0.03]]
)
def test_echoes_that_no_train_of_equal_pulses_has_are_refused(echo_times):
    with pytest.raises(ModelInputError, match='drop-first'):
        fit_r2_epg(np.ones((2, len(echo_times))), echo_times=echo_times)
    with pytest.raises(ModelInputError, match='noise_floor'):
        fit_r2_epg(np.ones((2, 8)), echo_times=MESE, noise_floor='gauss')
