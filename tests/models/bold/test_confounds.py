"""Nuisance of a BOLD run: edges and laws."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.bold.confounds import (
    count_unsteady,
    expand_motion,
    framewise_displacement,
    noise_components,
    relative_dvars,
)


def test_a_spike_and_a_step_stand_out_of_the_change_from_volume_to_volume():
    series = 100 + np.random.default_rng(3).normal(0, 1, (500, 50))
    series[:, 20] += 10
    series[:, 40:] += 10
    size = relative_dvars(series)
    assert set(np.flatnonzero(size > 1.5)) == {20, 21, 40}
    assert np.median(size) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(relative_dvars(np.ones((3, 5))), 1.0)


def test_displacement_adds_shifts_and_turns_on_the_sphere():
    motion = np.zeros((3, 6))
    motion[1] = [0.1, -0.2, 0.0, 0.002, 0.0, 0.0]
    np.testing.assert_allclose(framewise_displacement(motion), [0.0, 0.4, 0.4])


def test_motion_is_expanded_to_its_steps_and_squares():
    motion = np.random.default_rng(4).normal(size=(10, 6))
    columns = expand_motion(motion)
    np.testing.assert_array_equal(columns[:, :6], motion)
    np.testing.assert_allclose(columns[1:, 6:12], np.diff(motion, axis=0))
    np.testing.assert_array_equal(columns[:, 12:], columns[:, :12] ** 2)


def test_noise_components_hold_what_the_voxels_share_and_nothing_of_the_columns():
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(2, 100))
    series = rng.normal(size=(300, 2)) @ shared + 0.1 * rng.normal(size=(300, 100))
    series[3], series[4, 0] = 5.0, np.nan
    series += 50 * np.cos(np.pi * np.arange(0.5, 100) / 100)
    columns = np.column_stack([np.ones(100), np.cos(np.pi * np.arange(0.5, 100) / 100)])
    components = noise_components(series, 2, n_half_waves=1)
    np.testing.assert_allclose(components.T @ components, np.eye(2), atol=1e-10)
    np.testing.assert_allclose(columns.T @ components, 0, atol=1e-10)
    clean = shared - shared @ np.linalg.pinv(columns).T @ columns.T
    left = clean - clean @ components @ components.T
    assert np.linalg.norm(left) < 0.05 * np.linalg.norm(clean)


def test_noise_components_need_voxels_that_change():
    with pytest.raises(ModelInputError, match='no voxel'):
        noise_components(np.ones((3, 9)), 1)
    with pytest.raises(ModelInputError, match='expected'):
        noise_components(np.ones(9), 1)


@pytest.fixture
def steady(rng):
    """A run of 300 voxels and 120 volumes with 2 % noise, and a task of .3 % everywhere."""
    task = 0.003 * (np.arange(120) // 15 % 2)
    return 1000 * (1 + task + 0.02 * rng.standard_normal((300, 120)))


@pytest.mark.parametrize('volume', [0, 1, 2, 60, 119])
def test_one_bad_volume_has_the_largest_dvars_and_no_good_neighbour_is_blamed_first(
    steady, volume
):
    steady[:, volume] *= 1.6
    dvars = relative_dvars(steady)
    beyond = np.flatnonzero(dvars > 1.5)
    assert volume in beyond
    assert set(beyond) <= {volume, volume + 1}
    if volume == 0:
        assert beyond.tolist() == [0]


def test_a_sound_run_has_a_dvars_of_one_everywhere(steady):
    assert relative_dvars(steady) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize('bright', [(), (0.6,), (0.2,), (0.6, 0.25, 0.1, 0.04), (0.03, 0.01)])
def test_unsteady_volumes_are_counted(steady, bright):
    course = steady.mean(axis=0)
    course[: len(bright)] *= 1 + np.array(bright)
    assert count_unsteady(course) == len(bright)


def test_neither_drift_nor_a_task_at_the_start_is_taken_for_unsteadiness(rng):
    volumes = np.arange(200)
    for _ in range(50):
        course = 1000 * (1 + 0.02 * volumes / 200 + 0.003 * (volumes // 20 % 2 == 0))
        course += rng.standard_normal(200)
        assert count_unsteady(course) == 0
        assert count_unsteady(course[::-1]) == 0


def test_a_short_run_is_not_judged():
    assert count_unsteady([200.0, *[100.0] * 15]) == 0
