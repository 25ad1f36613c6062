"""T2 of slices whose refocusing angle changes across them, against spins turned one by one."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.relaxometry.decay import fit_r2_without_first
from bids_app.models.relaxometry.epg import predict_echo_train
from bids_app.models.relaxometry.epg_slice import fit_r2_epg_slice, predict_slice_train
from bids_app.phantom.pulses import HAMMING_SINC, Pulse, turn

SPACING = 0.016
MESE = SPACING * np.arange(1, 9)
R2, R2_STAR = 1 / 0.074, 1 / 0.0545


def bloch(b1, thickness, pulse=HAMMING_SINC):
    """Train of a slice whose spins are turned one by one: no graph, no profile."""
    return turn(R2, b1, SPACING, MESE.size, thickness, pulse=pulse)


def r2_prime_error(r2):
    return (R2_STAR - r2) / (R2_STAR - R2) - 1


@pytest.mark.parametrize('thickness', [1.0, 1.5])
@pytest.mark.parametrize('b1', [0.8, 1.0, 1.2])
def test_r2_prime_of_slices_is_right(thickness, b1):
    train = 1000 * bloch(b1, thickness)[None]
    found = fit_r2_epg_slice(
        train, echo_times=MESE, refocusing_thickness=thickness, noise_floor='none'
    )
    assert abs(r2_prime_error(found.value[0])) < 0.03
    dropped = fit_r2_without_first(train, echo_times=MESE, noise_floor='none')
    assert r2_prime_error(dropped.value[0]) > 0.15


@pytest.mark.parametrize(('thickness', 'pulse'), [(1.0, 4.0), (1.5, 3.0), (3.0, 4.0)])
def test_thickness_is_found_in_the_echoes_and_its_error_in_the_variance(thickness, pulse):
    rng = np.random.default_rng(2)
    fields = np.linspace(0.8, 1.2, 5)
    trains = [bloch(field, thickness, Pulse(time_bandwidth=pulse)) for field in fields]
    train = 1000 * np.repeat(trains, 60, axis=0)
    noise = train[:, :1].max() / 60 * rng.standard_normal((2, *train.shape))
    found = fit_r2_epg_slice(np.hypot(train + noise[0], noise[1]), echo_times=MESE)
    assert abs(r2_prime_error(np.nanmedian(found.value))) < 0.06
    covered = np.abs(found.value - R2) < 1.96 * np.sqrt(found.variance)
    assert covered[np.isfinite(found.value)].mean() > 0.88


@pytest.mark.parametrize('thickness', [1.0, 1.5])
def test_a_smooth_field_keeps_noise_from_bending_the_fit(thickness):
    """Fields below and above nominal, by the turned spins; each voxel by itself is off."""
    rng = np.random.default_rng(5)
    n = 1500
    positions = rng.uniform(-80, 80, (n, 3))
    field = 1.2 - 0.4 * np.abs(positions[:, 0] / 80) ** 2 + 0.03 * np.sin(positions[:, 1] / 30)
    nodes = np.linspace(0.75, 1.25, 21)
    trains = np.array([1000 * bloch(node, thickness) for node in nodes])
    train = np.stack([np.interp(field, nodes, echo) for echo in trains.T], axis=1)
    noise = train[:, :1].max() / 60 * rng.standard_normal((2, *train.shape))
    magnitude = np.hypot(train + noise[0], noise[1])
    given = {'echo_times': MESE, 'refocusing_thickness': thickness}
    found = fit_r2_epg_slice(magnitude, positions=positions, **given)
    alone = fit_r2_epg_slice(magnitude, **given)
    known = np.isfinite(found.value)
    assert known.mean() > 0.98
    bias = r2_prime_error(np.median(found.value[known]))
    assert abs(bias) < 0.03
    assert found.value[known].std() < 0.8 * np.nanstd(alone.value)
    covered = np.abs(found.value - R2)[known] < 1.96 * np.sqrt(found.variance[known])
    assert 0.9 < covered.mean() < 0.995
    for part in (field < 0.95, field > 1.05):
        assert abs(r2_prime_error(np.nanmedian(found.value[part]))) < 0.05


def test_positions_must_fit():
    with pytest.raises(ModelInputError, match='positions'):
        fit_r2_epg_slice(
            1000 * predict_slice_train(
                8, echo_spacing=SPACING, r2=np.full(600, 12.0), b1=1.0, refocusing_thickness=1.2
            ),
            echo_times=MESE, positions=np.zeros((5, 3)), refocusing_thickness=1.2,
        )  # fmt: skip


def test_thick_refocusing_is_one_angle():
    slice_train = predict_slice_train(
        6, echo_spacing=SPACING, r2=12.0, b1=0.8, refocusing_thickness=40.0
    )
    one = predict_echo_train(6, echo_spacing=SPACING, r2=12.0, refocusing_angle=0.8 * 180)
    np.testing.assert_allclose(slice_train / slice_train[0], one / one[0], rtol=2e-3)


def test_thickness_must_be_positive():
    with pytest.raises(ModelInputError, match='thickness'):
        fit_r2_epg_slice(np.ones((1, 8)), echo_times=MESE, refocusing_thickness=0.0)
