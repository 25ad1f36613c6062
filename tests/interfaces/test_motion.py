"""Series whose movement and distortion are undone."""

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import InputDataError
from bids_app.images import Grid, load_data, save_image
from bids_app.interfaces._base import Bundle, sidecar_of
from bids_app.interfaces.motion import (
    EstimateEchoMotion,
    EstimateMotion,
    FillVolumes,
    ResampleSeries,
)
from tests.models.preprocessing.test_realignment import (
    AFFINES,
    ECHO_TIMES,
    SHAPE,
    echo_train,
    moved_series,
    random_motion,
)

AFFINE = AFFINES['LAS']


def table_of(port):
    return pd.read_csv(Bundle.read(port).value, sep='\t')


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
    table = table_of(estimated.confounds)
    assert len(table) == 6
    facts = sidecar_of(estimated.confounds)
    assert facts['MeanFramewiseDisplacement'] == pytest.approx(
        table['framewise_displacement'][1:].mean(), abs=1e-3
    )


def test_other_echoes_go_where_the_first_one_goes(files, moved):
    path, mask = moved
    later = save_image(0.5 * load_data(path), Grid(SHAPE, AFFINE), files.folder / 'echo-2.nii')
    matrices = files.run(EstimateMotion(series=path)).matrices
    both = files.run(ResampleSeries(series=path, other_echoes=[later], matrices=matrices))
    (other,) = both.other_echoes
    assert other.endswith('echo-2.nii')
    np.testing.assert_allclose(
        load_data(other)[mask], 0.5 * load_data(both.series)[mask], rtol=1e-4, atol=1e-2
    )


def test_lost_volumes_of_every_echo_are_filled(files):
    data = np.arange(16.0).reshape(2, 2, 1, 4) + 1
    data[..., 1] = np.nan
    paths = [
        save_image(factor * data, Grid((2, 2, 1), np.eye(4)), files.folder / f'e{factor}.nii')
        for factor in (1, 2)
    ]
    filled = files.run(FillVolumes(series=paths[0], other_echoes=paths[1:], lost=[1]))
    for factor, path in ((1, filled.series), (2, filled.other_echoes[0])):
        expected = factor * (data[..., 0] + data[..., 2]) / 2
        np.testing.assert_allclose(load_data(path)[..., 1], expected)


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


def test_echo_that_was_shifted_stands_out_in_the_table(files):
    motion = np.zeros((6, 6))
    motion[3, 0] = 2.0
    echoes, _ = echo_train(motion)
    paths = [files.folder / f'sub-01_echo-{t + 1}_MEGRE.nii.gz' for t in range(6)]
    echoes = [
        save_image(echoes[..., t], Grid(SHAPE, AFFINE), path) for t, path in enumerate(paths)
    ]
    found = files.run(EstimateEchoMotion(echoes=echoes, echo_times=list(ECHO_TIMES)))
    displacement = table_of(found.confounds)['framewise_displacement']
    assert set(displacement.nlargest(2).index) == {3, 4}
    assert displacement[3] == pytest.approx(2.0, abs=0.3)
    assert displacement.drop([3, 4]).max() < 0.3
    parts = {'echoes': echoes, 'imaginary': echoes, 'echo_times': list(ECHO_TIMES)}
    twice = files.run(EstimateEchoMotion(**parts))  # a factor of the square root of 2
    pd.testing.assert_frame_equal(
        table_of(twice.confounds),
        table_of(found.confounds),
        atol=1e-3,
    )
