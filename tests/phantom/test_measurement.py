import dataclasses

import numpy as np
import pytest
from scipy.fft import dct
from scipy.ndimage import gaussian_filter, shift

from bids_app.phantom import measurement
from bids_app.phantom.acquisition import Geometry, protocol
from bids_app.phantom.design import make_design

GRID = Geometry(shape=(12, 11, 6), zooms=(4.0, 4.0, 6.6), centre=(0, 0, 0), points=(1, 1, 1))
PROTOCOL = protocol('tiny')
DESIGN = make_design(('control', 'calc'), length=480.0)


def rng():
    return np.random.default_rng(11)


def on_grid(which, **changes):
    return dataclasses.replace(getattr(PROTOCOL, which), geometry=GRID, **changes)


def test_spin_echo_noise_is_the_declared_one():
    scan = on_grid('mese', noise=0.01)
    train = np.full((40, 40, 20, 8), measurement.grey_signal([0.80], 0.016, 1 / 0.075))
    stored = measurement.measure_spin_echoes(train, scan, rng())
    assert stored.mean() == pytest.approx(measurement.GAIN, rel=1e-3)
    assert stored.std() == pytest.approx(0.01 * measurement.GAIN, rel=0.02)


def test_gradient_echo_phase_differs_between_echoes_by_the_field_only():
    scan = on_grid('megre', noise=0.0)
    signal = np.exp(2j * np.pi * 7.0 * np.asarray(scan.echo_times))
    train = 0.5 * np.tile(signal, (*GRID.shape, 1))
    _, phase = measurement.measure_gradient_echoes(train, scan, rng())
    step = np.angle(np.exp(1j * (phase[..., 1] - phase[..., 0]).astype(float)))
    assert step == pytest.approx(2 * np.pi * 7.0 * 0.005, abs=1e-5)
    assert phase[..., 0].std() > 0.1  # the coil has a phase of its own


def test_label_difference_survives_noise_and_rounding():
    scan = on_grid('asl', noise=protocol('coarse').asl.noise)
    m0 = np.full((30, 30, 20), 0.62)
    difference = 0.0048 * m0
    series, m0_image = measurement.measure_labeling(difference, m0, scan, rng())
    pairs = series[..., 0::2].astype(float) - series[..., 1::2]
    ratio = pairs.mean() / m0_image.mean()
    assert ratio == pytest.approx(0.0048, rel=0.01)
    # realistic: one pair shows nothing, 39 pairs leave an error near a tenth
    error = pairs.std() / np.sqrt(scan.n_pairs) / pairs.mean()
    assert 0.06 < error < 0.15


def test_motion_starts_at_rest_and_stays_small():
    motion = measurement.motion_course(PROTOCOL.bold, rng())
    assert not motion[0].any()
    assert np.abs(motion[:, :3]).max() <= 0.3
    # farthest brain voxel, 90 mm from the centre
    assert np.deg2rad(np.abs(motion[:, 3:]).max()) * 90 <= 0.3


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_motion_moves_the_image_towards_positive_world(axis):
    image = gaussian_filter(np.random.default_rng(0).normal(size=(12, 11, 6)), 2.5) + 1
    change = 0.1 * measurement._motion_sensitivity(image, GRID)[..., axis]
    step = np.zeros(3)
    step[axis] = 0.1 / GRID.affine[axis, axis]
    moved = shift(image, step, order=3, mode='nearest') - image
    inner = (slice(3, -3), slice(3, -3), slice(2, -2))
    assert change[inner] == pytest.approx(moved[inner], abs=0.3 * np.abs(moved[inner]).max())


def states():
    image = np.full((*GRID.shape, 2), 0.368)
    image[..., 1] *= 1.01
    return image


def test_bold_without_noise_is_the_response():
    scan = on_grid('bold', noise=0.0, drift=0.0)
    responses = DESIGN.responses(scan.times)
    still = np.zeros((400, 6))
    stored = measurement.measure_bold(states(), responses, still, scan, rng())
    expected = (
        measurement.GAIN * 0.368 / measurement.grey_signal([0.65], 0.030, measurement.R2_STAR_GREY)
    )
    assert stored[0, 0, 0] == pytest.approx(expected * (1 + 0.01 * responses[0]), abs=0.51)


def test_bold_noise_is_autocorrelated_and_of_the_declared_size():
    scan = on_grid('bold', drift=0.0)
    flat = states()
    flat[..., 1] = flat[..., 0]
    stored = measurement.measure_bold(
        flat, DESIGN.responses(scan.times), np.zeros((400, 6)), scan, rng()
    ).astype(float)
    noise = stored - stored.mean(-1, keepdims=True)
    assert noise.std() / measurement.GAIN == pytest.approx(scan.noise, rel=0.03)
    lagged = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert lagged == pytest.approx(scan.autocorrelation, abs=0.03)


def test_bold_drift_is_slower_than_the_design():
    scan = on_grid('bold', noise=0.0)
    flat = states()
    flat[..., 1] = flat[..., 0]
    stored = measurement.measure_bold(
        flat, DESIGN.responses(scan.times), np.zeros((400, 6)), scan, rng()
    ).astype(float)
    relative = stored / stored.mean(-1, keepdims=True) - 1
    assert 0.002 < np.abs(relative).max() < 0.05
    # periods of 960, 480 and 320 s; the longest cycle of the design is 120 s
    power = (dct(relative.reshape(-1, 400), axis=1) ** 2).sum(0)
    assert power[1:4].sum() > 0.99 * power[1:].sum()


def test_fewer_lines_leave_the_centre_of_k_space_and_less_noise():
    scan = protocol('tiny').megre
    train = np.zeros((12, 12, 6, 12), complex)
    full, half = (
        measurement.measure_lines(train, scan, lines, np.random.default_rng(1))
        for lines in (12, 6)
    )
    assert np.std(half['real']) == pytest.approx(np.std(full['real']) / np.sqrt(2), rel=0.05)
    image = half['real'] + 1j * half['imag']
    lines = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axes=1), axis=1), axes=1)
    power = (np.abs(lines) ** 2).sum(axis=(0, 2, 3))
    assert power[[0, 1, 2, 9, 10, 11]].sum() < 0.01 * power.sum()
