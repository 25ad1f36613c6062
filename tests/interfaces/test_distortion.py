"""Nodes that undo distortion: units, grids, signs, the whole way from a field map to the image."""

import numpy as np
import pytest
from scipy import ndimage

from bids_app.images import Grid, save_affine
from bids_app.interfaces.distortion import (
    FindFieldFromOpposites,
    MapVoxelShift,
    ReadFieldMap,
    UndistortImage,
)
from bids_app.interfaces.motion import ResampleSeries
from bids_app.phantom.physics import distort
from tests.interfaces.conftest import Files

SHAPE = (20, 28, 10)
AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])
SPACING = 0.0007
N_LINES = SHAPE[1]


def head(shape=SHAPE):
    """Brain, image and field (Hz) on a grid that covers the same space as SHAPE."""
    points = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*points, indexing='ij')
    inside = np.hypot(np.hypot(x / 0.75, y / 0.75), z / 0.8) < 1
    image = np.where(inside, 100 * (2 + np.sin(9 * x) + np.cos(8 * y)), 0.0)
    return inside, image, 300 * y**3 - 200 * np.exp(-((y - 0.8) ** 2 + z**2) / 0.2) + 100 * x


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, Grid(SHAPE, AFFINE))


def identity(files):
    return save_affine(np.eye(4), files.folder / 'identity.txt')


def shift_of(files, field_map, polarity):
    reference = files.image('reference', np.ones(SHAPE))
    outputs = files.run(
        MapVoxelShift(
            field_map=field_map, reference=reference, source_transform=identity(files),
            target_transform=identity(files), echo_spacing=SPACING, n_lines=N_LINES,
            polarity=polarity,
        )
    )  # fmt: skip
    return outputs.voxel_shift


@pytest.mark.parametrize('kind', ['difference', 'two phases', 'field'])
@pytest.mark.parametrize('polarity', [1, -1])
def test_map_of_the_dataset_brings_every_signal_back(files, kind, polarity):
    inside, image, field = head()
    mask = files.image('brain', inside)
    step = 0.00246
    phase = np.angle(np.exp(2j * np.pi * field * step))
    if kind == 'field':
        inputs = {'kind': 'field', 'scale': 1 / (2 * np.pi),
                  'files': [files.image('field', 2 * np.pi * field)]}  # fmt: skip
    elif kind == 'difference':
        stored = files.image('difference', phase * 4096 / (2 * np.pi))
        inputs = {'kind': 'phase', 'scale': 2 * np.pi / 4096, 'files': [stored]}
    else:
        first = np.angle(np.exp(1j * (0.8 + 2 * np.pi * field * 0.004)))
        second = np.angle(np.exp(1j * (0.8 + 2 * np.pi * field * (0.004 + step))))
        inputs = {'kind': 'phase', 'scale': 1.0,
                  'files': [files.image('p1', first), files.image('p2', second)]}  # fmt: skip
    found = files.run(ReadFieldMap(mask=mask, echo_difference=step, **inputs)).field_map
    shift_file = shift_of(files, found, polarity)
    shift = files.read_all(shift_file)
    truth = polarity * N_LINES * SPACING * field
    assert np.abs(truth[inside]).max() > 2
    assert np.percentile(np.abs(shift - truth)[inside], 99) < 0.5

    moved = distort(image, truth, axis=1)
    smooth = [ndimage.gaussian_filter(one, 0.7) for one in (image, moved)]
    back = files.run(
        UndistortImage(acquired=files.image('moved', smooth[1]), voxel_shift=shift_file, axis=1)
    ).undistorted
    deep = ndimage.binary_erosion(inside, iterations=2)
    wrong = [np.abs(one - smooth[0])[deep].mean() for one in (smooth[1], files.read_all(back))]
    assert wrong[1] < wrong[0] / 2.5

    series = files.image('series', np.repeat(smooth[1][..., None], 2, axis=-1))
    corrected = files.run(
        ResampleSeries(series=series, voxel_shift=shift_file, shift_axis=1)
    ).series
    left = np.abs(files.read_all(corrected)[..., 1] - smooth[0])[deep].mean()
    assert left < wrong[0] / 2.5


def test_field_of_another_grid_and_place_is_carried_to_the_scan(files):
    shape = (15, 21, 8)
    inside, _, field = head(shape)
    scale = (np.array(SHAPE) - 1) / (np.array(shape) - 1)
    affine = AFFINE @ np.diag([*scale, 1.0])
    apart = np.eye(4)
    apart[1, 3] = 7.0  # the field map lies 7 mm further to the front
    grid = Grid(shape, apart @ affine)
    image = files.image('field', np.where(inside, field, np.nan), grid)
    outputs = files.run(
        MapVoxelShift(
            field_map=image,
            reference=files.image('reference', np.ones(SHAPE)),
            source_transform=save_affine(apart, files.folder / 'apart.txt'),
            target_transform=identity(files),
            echo_spacing=SPACING,
            n_lines=N_LINES,
            polarity=1,
        )
    )
    brain, _, truth = head()
    left = np.abs(files.read_all(outputs.voxel_shift) - N_LINES * SPACING * truth)[brain]
    assert np.percentile(left, 99) < 0.5


def test_opposite_images_give_field_and_undistorted_image(files):
    inside, image, field = head()
    shift = N_LINES * SPACING * field
    both = [files.image(name, distort(image, sign * shift, axis=1))
            for name, sign in (('plus', 1), ('minus', -1))]  # fmt: skip
    outputs = files.run(FindFieldFromOpposites(files=both, axis=1, scale=1 / (N_LINES * SPACING)))
    deep = ndimage.binary_erosion(inside, iterations=1)
    left = np.abs(files.read_all(outputs.field_map) - field)[deep] * N_LINES * SPACING
    assert np.percentile(left, 99) < 0.5
    found = files.read_all(outputs.images[0])
    assert np.corrcoef(found[deep], image[deep])[0, 1] > 0.97
