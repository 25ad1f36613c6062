"""Series whose movement and distortion are undone."""

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import InputDataError
from bids_app.images import Grid, load_data, save_image
from bids_app.interfaces.motion import EstimateMotion, ResampleSeries
from tests.models.test_motion import AFFINES, SHAPE, moved_series, random_motion

AFFINE = AFFINES['LAS']


@pytest.fixture
def moved(files):
    """A series that moves, as a file."""
    series, mask, _ = moved_series(AFFINE, random_motion(6), noise=5.0)
    path = files.folder / 'sub-01_task-all_bold.nii.gz'
    return save_image(series, Grid(SHAPE, AFFINE), path), mask


def test_series_varies_less_once_its_movement_is_undone(files, moved):
    path, mask = moved
    estimated = files.run(EstimateMotion(series=path))
    resampled = files.run(ResampleSeries(series=path, matrices=estimated.matrices))
    before, after = load_data(path)[mask], load_data(resampled.series)[mask]
    assert np.nanmedian(after.std(axis=-1)) < 0.4 * np.median(before.std(axis=-1))
    assert resampled.series.endswith('sub-01_task-all_bold.nii')
    assert estimated.voxels_per_sample > 1.1
    table = pd.read_csv(estimated.confounds, sep='\t')
    assert len(table) == 6
    facts = estimated.confounds_facts
    assert facts['MeanFramewiseDisplacement'] == pytest.approx(
        table['framewise_displacement'][1:].mean(), abs=1e-3
    )


def test_distortion_alone_is_undone(files, moved):
    path, _ = moved
    shift = save_image(np.ones(SHAPE), Grid(SHAPE, AFFINE), files.folder / 'shift.nii')
    resampled = files.run(ResampleSeries(series=path, voxel_shift=shift, shift_axis=2))
    found = load_data(resampled.series)[:, :, :-1]
    np.testing.assert_allclose(found, load_data(path)[:, :, 1:], atol=0.1)


def test_distortion_of_another_grid_is_refused(files, moved):
    path, _ = moved
    shift = save_image(np.ones(SHAPE), Grid(SHAPE, np.eye(4)), files.folder / 'shift.nii')
    with pytest.raises(InputDataError, match='must be on the grid'):
        files.run(ResampleSeries(series=path, voxel_shift=shift))
