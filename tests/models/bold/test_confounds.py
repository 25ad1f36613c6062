"""Nuisance of a BOLD run: edges and laws."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.bold.confounds import (
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
