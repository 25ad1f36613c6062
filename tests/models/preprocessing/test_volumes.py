import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.preprocessing.volumes import (
    brightest_voxels,
    fill_volumes,
    has_lost_its_mean,
    rising_echo,
    volumes_without_data,
)


@pytest.fixture
def series(rng):
    """Tissue of 500 voxels and 40 volumes with 2 % noise."""
    tissue = rng.uniform(500, 1500, (500, 1))
    return tissue * (1 + 0.02 * rng.standard_normal((500, 40)))


def test_a_sound_series_has_data_in_every_volume(series):
    assert not volumes_without_data(series).any()


@pytest.mark.parametrize('value', [np.nan, np.inf, 0.0, 700.0, -3.0])
def test_volumes_of_one_value_or_none_are_found(series, value):
    series[:, [3, 38, 39]] = value
    assert np.flatnonzero(volumes_without_data(series)).tolist() == [3, 38, 39]


@pytest.mark.parametrize(('share', 'is_lost'), [(0.05, False), (0.2, True), (0.6, True)])
def test_a_volume_cut_off_in_part_is_lost_but_not_one_that_lacks_an_edge(series, share, is_lost):
    series[: int(share * len(series)), 7] = 0
    assert volumes_without_data(series)[7] == is_lost


def test_a_volume_of_noise_alone_has_no_signal(series, rng):
    series[:, 12] = np.abs(rng.standard_normal(len(series)))
    assert np.flatnonzero(volumes_without_data(series)).tolist() == [12]


def test_volumes_are_compared_with_those_of_their_kind_only(series):
    kinds = ['m0scan'] * 2 + ['control', 'label'] * 19
    series[:, :2] *= 200
    assert not volumes_without_data(series, kinds).any()
    assert volumes_without_data(series).sum() == 0  # they are few: the others are the rule


def test_a_bolus_that_takes_nine_tenths_of_the_signal_is_data(series):
    series[:, 10:15] *= 0.1
    assert not volumes_without_data(series).any()


def test_filled_volumes_lie_between_their_neighbours(series):
    lost = np.zeros(40, bool)
    lost[[0, 5, 6, 39]] = True
    broken = np.where(lost, np.nan, series)
    filled = fill_volumes(broken, lost)
    assert np.array_equal(filled[:, ~lost], series[:, ~lost])
    assert np.array_equal(filled[:, 0], series[:, 1])
    assert np.array_equal(filled[:, 39], series[:, 38])
    assert filled[:, 5] == pytest.approx((2 * series[:, 4] + series[:, 7]) / 3)


def test_a_series_without_any_data_cannot_be_filled(series):
    with pytest.raises(ModelInputError, match='no volume'):
        fill_volumes(series, np.ones(40, bool))
    with pytest.raises(ModelInputError, match='one entry per volume'):
        volumes_without_data(series, ['control'])


def test_decay_is_never_taken_for_a_rise(rng):
    times = np.arange(1, 17) * 0.01
    train = 1000 * np.exp(-times / rng.uniform(0.04, 2.0, (400, 1)))
    noisy = np.hypot(train + 20 * rng.standard_normal(train.shape),
                     20 * rng.standard_normal(train.shape))  # fmt: skip
    noisy[:, 0] *= 0.75  # as stimulated echoes do
    assert rising_echo(noisy) is None


def test_echoes_that_were_scaled_up_are_named(rng):
    times = np.arange(1, 9) * 0.01
    train = 1000 * np.exp(-times / 0.08) * (1 + 0.02 * rng.standard_normal((300, 8)))
    train[:, 5:] *= 4
    echo, ratio = rising_echo(train)
    assert echo == 5
    assert ratio == pytest.approx(4 * np.exp(-0.01 / 0.08), rel=0.02)


def test_a_removed_mean_is_told_from_noise_and_from_tissue(series, rng):
    noise = np.hypot(rng.standard_normal((300, 200)), rng.standard_normal((300, 200)))
    assert not has_lost_its_mean(series)
    assert not has_lost_its_mean(noise)
    assert has_lost_its_mean(series - series.mean(axis=1, keepdims=True))


def test_the_brightest_voxels_are_those_of_the_head(series):
    size = np.concatenate([np.full(4500, 5.0), series.mean(axis=1)])
    assert np.array_equal(brightest_voxels(size), np.arange(5000) >= 4500)
    assert brightest_voxels(np.zeros(10)).all()


def test_an_even_image_alone_is_that_of_an_even_object_and_no_lost_volume():
    assert not volumes_without_data(np.full((20, 1), 1000.0)).any()
    series = np.random.default_rng(0).normal(100.0, 5.0, (20, 3))
    series[:, 1] = 100.0
    assert volumes_without_data(series).tolist() == [False, True, False]
