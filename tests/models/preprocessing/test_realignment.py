"""Rigid movement within a series: estimated, undone, and what is left."""

import numpy as np
import pytest
from scipy.ndimage import shift

from bids_app.errors import ModelInputError
from bids_app.models.bold.confounds import framewise_displacement
from bids_app.models.numerics.resampling import resample_series, voxels_per_noise_sample
from bids_app.models.preprocessing.realignment import (
    estimate_echo_motion,
    estimate_rigid_motion,
    label_courses,
    mask_centre,
    motion_matrices,
)

SHAPE = (24, 28, 18)
TURN = np.deg2rad(20)
AFFINES = {
    'LAS': np.array([[-4.0, 0, 0, 46], [0, 4, 0, -54], [0, 0, 5, -40], [0, 0, 0, 1]]),
    'oblique': np.array([
        [0, -4 * np.sin(TURN), 5 * np.cos(TURN), -30],
        [4, 0, 0, -46], [0, 4 * np.cos(TURN), 5 * np.sin(TURN), -70], [0, 0, 0, 1],
    ]),
}  # fmt: skip
WAVES = np.random.default_rng(3).normal(scale=1 / 22, size=(12, 3))


def head(points):
    """Signal of a smooth head at world points relative to its middle, mm."""
    radius = np.linalg.norm(points / [38, 44, 32], axis=-1)
    texture = 1 + 0.25 * np.sin(points @ WAVES.T + np.arange(len(WAVES))).sum(axis=-1) / 3
    return 1000 * texture / (1 + np.exp((radius - 1) / 0.06))


def world(affine):
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing='ij'), axis=-1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def moved_series(affine, motion, noise=0.0, seed=0):
    """Volumes of a head that moves about the middle of the field of view."""
    points = world(affine)
    middle = points.reshape(-1, 3).mean(axis=0)
    volumes = []
    for matrix in motion_matrices(motion, middle):
        back = np.linalg.inv(matrix)
        volumes.append(head(points @ back[:3, :3].T + back[:3, 3] - middle))
    series = np.stack(volumes, axis=-1)
    series += noise * np.random.default_rng(seed).normal(size=series.shape)
    return series, head(points - middle) > 300, middle


def random_motion(n_volumes, millimetres=2.0, degrees=2.0, seed=1):
    motion = np.random.default_rng(seed).uniform(-1, 1, (n_volumes, 6))
    motion *= np.repeat([millimetres, np.deg2rad(degrees)], 3)
    return motion - motion.mean(axis=0)


def displacement(estimated, true, mask, affine, middle):
    """Distance between where both put the points of the head, common shift removed, mm."""
    points = world(affine)[mask]
    found = motion_matrices(estimated, mask_centre(mask, affine))
    given = motion_matrices(true, middle)
    there = [
        np.einsum('tij,vj->tvi', m[:, :3, :3], points) + m[:, None, :3, 3] for m in (found, given)
    ]
    difference = there[0] - there[1]
    return np.linalg.norm(difference - difference.mean(axis=0), axis=-1)


@pytest.mark.parametrize('name', AFFINES)
def test_movement_of_millimetres_and_degrees_is_found_to_a_twentieth_of_a_voxel(name):
    affine, motion = AFFINES[name], random_motion(12)
    series, mask, middle = moved_series(affine, motion, noise=20.0)
    found = estimate_rigid_motion(series, mask, affine)
    assert displacement(found, motion, mask, affine, middle).mean() < 0.2
    assert displacement(0 * motion, motion, mask, affine, middle).mean() > 1.5


def test_still_head_does_not_move():
    series, mask, _ = moved_series(AFFINES['LAS'], np.zeros((10, 6)), noise=2.0)
    found = estimate_rigid_motion(series, mask, AFFINES['LAS'])
    assert framewise_displacement(found).mean() < 0.05


def test_gain_of_a_volume_is_no_movement():
    motion = random_motion(8)
    series, mask, _ = moved_series(AFFINES['LAS'], motion)
    found = estimate_rigid_motion(series, mask, AFFINES['LAS'])
    scaled = estimate_rigid_motion(series * np.linspace(0.9, 1.1, 8), mask, AFFINES['LAS'])
    assert np.abs(found - scaled)[:, :3].max() < 0.1


def test_smooth_shading_that_drifts_is_no_movement():
    series, mask, _ = moved_series(AFFINES['LAS'], np.zeros((8, 6)))
    front = world(AFFINES['LAS'])[..., 1:2]
    drift = 1 + 0.02 * np.linspace(-1, 1, 8) * front / np.abs(front).max()
    found = estimate_rigid_motion(series * drift, mask, AFFINES['LAS'])
    assert np.abs(found[:, :3]).max() < 0.01


def test_what_follows_the_contrast_is_no_movement():
    drift = np.linspace(-1, 1, 20)[:, None] * [1.0, 0, 0, 0, 0, 0]
    series, mask, _ = moved_series(AFFINES['LAS'], drift)
    kinds = ['control', 'label'] * 10
    front = world(AFFINES['LAS'])[..., 1:2] > 0  # label takes signal from one side
    series -= series * 0.02 * front * label_courses(kinds)[:, 0]
    naive = estimate_rigid_motion(series, mask, AFFINES['LAS'])
    found = estimate_rigid_motion(series, mask, AFFINES['LAS'], courses=label_courses(kinds))
    zigzag = label_courses(kinds)[:, 0] - 0.5
    assert np.abs(zigzag @ (found - drift)).max() < 0.04
    assert np.abs(zigzag @ (naive - drift)).max() > 0.1
    assert found[:, 0] == pytest.approx(drift[:, 0], abs=0.05)


def test_movement_in_which_label_and_control_differ_by_chance_is_kept():
    motion = random_motion(40, 0.5, 0.5, seed=8)
    series, mask, _ = moved_series(AFFINES['LAS'], motion, noise=5.0)
    courses = label_courses(['control', 'label'] * 20)
    found = estimate_rigid_motion(series, mask, AFFINES['LAS'], courses=courses)
    zigzag = courses[:, 0] - 0.5
    left, there = (zigzag @ part[:, :3] for part in (found - motion, motion))
    assert np.linalg.norm(left) < 0.5 * np.linalg.norm(there)


def test_noise_alone_moves_nothing():
    series, mask, _ = moved_series(AFFINES['LAS'], np.zeros((20, 6)), noise=100.0)
    assert not estimate_rigid_motion(series, mask, AFFINES['LAS']).any()


ECHO_TIMES = np.arange(1, 7) * 0.006


def echo_train(motion, noise=2.0):
    """Echoes of a head whose front decays faster than its back."""
    series, mask, middle = moved_series(AFFINES['LAS'], np.zeros((len(ECHO_TIMES), 6)))
    rate = 20 + 15 * np.tanh((world(AFFINES['LAS']) - middle)[..., 1:2] / 15)
    still = series * np.exp(-ECHO_TIMES * rate)
    steps = motion[:, :3] @ np.linalg.inv(AFFINES['LAS'][:3, :3]).T
    echoes = np.stack([shift(still[..., t], step) for t, step in enumerate(steps)], axis=-1)
    return echoes + noise * np.random.default_rng(5).normal(size=echoes.shape), mask


def test_shift_of_one_echo_is_found_and_decay_is_no_movement():
    motion = np.zeros((6, 6))
    still, mask = echo_train(motion)
    found = estimate_echo_motion(still, ECHO_TIMES, mask, AFFINES['LAS'])
    assert np.abs(found[:, :3]).max() < 0.1
    naive = estimate_rigid_motion(still, mask, AFFINES['LAS'])
    assert np.abs(naive[:, :3]).max() > 0.3
    motion[2, :3] = [1.0, -0.5, 0.8]
    moved, mask = echo_train(motion)
    found = estimate_echo_motion(moved, ECHO_TIMES, mask, AFFINES['LAS'])
    others = np.delete(found, 2, axis=0).mean(axis=0)
    np.testing.assert_allclose((found[2] - others)[:3], motion[2, :3], atol=0.15)


def test_two_echoes_show_no_movement():
    echoes, mask = echo_train(np.zeros((6, 6)))
    with pytest.raises(ModelInputError, match='3 or more echoes'):
        estimate_echo_motion(echoes[..., :2], ECHO_TIMES[:2], mask, AFFINES['LAS'])


def test_undone_series_is_the_head_at_rest():
    affine, motion = AFFINES['oblique'], random_motion(6, 1.5, 1.5)
    series, mask, middle = moved_series(affine, motion)
    resampled = resample_series(series, motion_matrices(motion, middle), affine)
    still, _, _ = moved_series(affine, np.zeros((1, 6)))
    inner = mask & np.isfinite(resampled).all(axis=-1)
    before = np.abs(series - still)[inner].mean()
    assert np.abs(resampled - still)[inner].mean() < 0.1 * before
    assert resampled[np.isfinite(resampled)].min() >= 0


def test_nothing_is_changed_where_nothing_moved():
    series, _, _ = moved_series(AFFINES['LAS'], np.zeros((2, 6)), noise=20.0)
    resampled = resample_series(series, np.tile(np.eye(4), (2, 1, 1)), AFFINES['LAS'])
    np.testing.assert_allclose(resampled, series, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_distortion_is_undone_with_its_change_of_volume(axis):
    """A line of signal that was squeezed keeps its sum, and comes back to its place."""
    shape = [5, 5, 5]
    shape[axis] = 60
    place = np.arange(60.0)
    shift = 2.0 * np.exp(-((place - 30) ** 2) / (2 * 8.0**2))
    true = np.exp(-((place - 30) ** 2) / (2 * 5.0**2))
    # signal of place lands at place + shift, divided by how much the voxel is stretched
    acquired = np.interp(place, place + shift, true / (1 + np.gradient(shift)))

    def along(line):
        turned = [1, 1, 1]
        turned[axis] = 60
        return np.broadcast_to(line.reshape(turned), shape)

    resampled = resample_series(
        along(acquired)[..., None], [np.eye(4)], np.eye(4), shift=along(shift), shift_axis=axis
    )
    line = np.moveaxis(resampled[..., 0], axis, -1)[2, 2]
    np.testing.assert_allclose(line, true, atol=0.02)


def test_distortion_and_movement_are_one_interpolation():
    """Movement along the axis of the distortion adds to it."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(4, 30, 4, 1))
    step = np.eye(4)
    step[1, 3] = 0.4
    both = resample_series(series, [step], np.eye(4), shift=np.full((4, 30, 4), 0.6))
    one = np.eye(4)
    one[1, 3] = 1.0
    np.testing.assert_allclose(both, resample_series(series, [one], np.eye(4)), atol=1e-5)


def test_noise_sample_is_shared_by_as_many_voxels_as_noise_loses_variance():
    motion = random_motion(20, 1.5, 1.0)
    affine = AFFINES['oblique']
    matrices = motion_matrices(motion, world(affine).reshape(-1, 3).mean(axis=0))
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 20))
    left = np.nanvar(resample_series(noise, matrices, affine)[2:-2, 2:-2, 2:-2])
    assert voxels_per_noise_sample(SHAPE, matrices, affine) == pytest.approx(1 / left, rel=0.03)


def test_wrong_shapes_are_refused():
    series, mask, _ = moved_series(AFFINES['LAS'], np.zeros((2, 6)))
    with pytest.raises(ModelInputError, match='series'):
        estimate_rigid_motion(series[..., 0], mask, AFFINES['LAS'])
    with pytest.raises(ModelInputError, match='voxels'):
        estimate_rigid_motion(series, np.zeros(SHAPE), AFFINES['LAS'])
    with pytest.raises(ModelInputError, match='matrices'):
        resample_series(series, np.eye(4), AFFINES['LAS'])
    with pytest.raises(ModelInputError, match='shift'):
        resample_series(series, [np.eye(4)] * 2, AFFINES['LAS'], shift=np.zeros((2, 2, 2)))
