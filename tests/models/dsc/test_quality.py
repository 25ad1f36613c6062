"""Every defect of a bolus series is found, named, and not seen where there is none."""

import numpy as np
import pytest
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.dsc.quality import estimate_motion, find_bolus_defects, motion_fields
from bids_app.models.dsc.relative_cbv import estimate_relative_cbv

ECHO_TIME, REPETITION_TIME, N_VOLUMES = 0.03, 1.5, 60
SHAPE = (22, 22, 14)
ZOOMS = (4.0, 4.0, 6.0)


def series(seed=0, noise=10.0, height=15.0):
    """A ball of brain with smooth structure."""
    rng = np.random.default_rng(seed)
    position = np.indices(SHAPE).reshape(3, -1).T - (np.array(SHAPE) - 1) / 2
    mask = (np.linalg.norm(position * [1, 1, 1.7], axis=1) < 9.7).reshape(SHAPE)
    level = 1000 + 2500 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.0)
    level = np.where(mask, level, 100.0)
    volume = 0.5 + ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    time = REPETITION_TIME * np.arange(N_VOLUMES)
    lag = np.clip(time - 21, 0, None) / 6
    curve = height * lag**3 * np.exp(3 - 3 * lag) + 0.6 * (time > 40)
    image = level[..., None] * np.exp(-ECHO_TIME * volume[..., None] * curve)
    return image + noise * rng.standard_normal(image.shape), mask


def judge(image, mask):
    signal = image[mask]
    areas = estimate_relative_cbv(signal, echo_time=ECHO_TIME, repetition_time=REPETITION_TIME)
    window = areas.window
    before = image[..., window.baseline_start : window.baseline_end].mean(axis=-1)
    motion = estimate_motion(
        signal,
        fields=motion_fields(before, mask, zooms=ZOOMS),
        level=before[mask],
        area=areas.relative_cbv.value,
        window=window,
    )
    right = np.argwhere(mask)[:, 0] < SHAPE[0] / 2
    defects = find_bolus_defects(
        signal, areas, brain=np.ones(len(signal), bool), right=right, motion=motion
    )
    return {defect.name: defect.message for defect in defects}, motion


def test_a_sound_series_has_no_defect_and_does_not_move():
    for seed in range(3):
        found, motion = judge(*series(seed))
        assert found == {}
        assert motion.max() < 0.5


def test_truncated_series_is_named():
    image, mask = series()
    found, _ = judge(image[..., :23], mask)
    assert list(found) == ['truncated']


@pytest.mark.parametrize(('low', 'high'), [(None, 1100.0), (700.0, None)])
def test_clipped_series_is_named(low, high):
    image, mask = series()
    found, _ = judge(np.clip(image, low, high), mask)
    assert 'clipped' in found


@pytest.mark.parametrize(('half', 'side'), [(slice(0, 11), 'right'), (slice(11, 22), 'left')])
def test_one_sided_map_is_named_with_its_side(half, side):
    image, mask = series()
    level = image[half, ..., :10].mean(axis=-1, keepdims=True)
    image[half] = level + 0.25 * (image[half] - level)
    found, _ = judge(image, mask)
    assert side in found['one-sided']


@pytest.mark.parametrize('shift', [(0.6, 0.0, 0.0), (0.0, -0.5, 0.0), (0.0, 0.0, 0.4)])
def test_motion_at_the_bolus_is_named_and_its_size_told(shift):
    image, mask = series(noise=5.0)
    for volume in range(17, N_VOLUMES):
        image[..., volume] = ndimage.shift(image[..., volume], shift, order=1, mode='nearest')
    found, motion = judge(image, mask)
    assert 'not corrected' in found['motion']
    true = np.linalg.norm(np.multiply(shift, ZOOMS))
    assert motion[30:].mean() == pytest.approx(true, rel=0.4)


def test_motion_after_the_first_pass_does_no_harm():
    image, mask = series()
    for volume in range(45, N_VOLUMES):
        image[..., volume] = ndimage.shift(image[..., volume], (0.6, 0, 0), order=1)
    assert 'motion' not in judge(image, mask)[0]


def test_curves_that_rise_are_absurd():
    image, mask = series()
    upside = mask & (np.indices(SHAPE)[1] < 8)
    level = image[upside][:, :10].mean(-1, keepdims=True)
    image[upside] = level**2 / image[upside]
    assert 'rises' in judge(image, mask)[0]['absurd']
    image, mask = series()
    image[mask & (np.indices(SHAPE)[1] < 9)] = 0.0
    assert 'no usable signal' in judge(image, mask)[0]['absurd']


def test_without_any_curve_nothing_can_be_judged():
    image, mask = series()
    areas = estimate_relative_cbv(
        image[mask], echo_time=ECHO_TIME, repetition_time=REPETITION_TIME
    )
    with pytest.raises(ModelInputError, match='no voxel'):
        find_bolus_defects(
            image[mask],
            areas,
            brain=np.zeros(mask.sum(), bool),
            right=np.ones(mask.sum(), bool),
            motion=np.zeros(N_VOLUMES),
        )


def test_movement_of_a_patch_is_not_known():
    image, mask = series()
    signal = image[mask][:900]
    areas = estimate_relative_cbv(signal, echo_time=ECHO_TIME, repetition_time=REPETITION_TIME)
    motion = estimate_motion(
        signal,
        fields=np.ones((900, 6)),
        level=np.ones(900),
        area=areas.relative_cbv.value,
        window=areas.window,
    )
    assert np.isnan(motion).all()
