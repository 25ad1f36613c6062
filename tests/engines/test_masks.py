"""Brain masks of scans without a T1w image."""

import numpy as np
import pytest
from scipy import ndimage

from bids_app.engines.masks import largest_component, mask_from_mean
from bids_app.errors import InputDataError
from bids_app.images import grid_of, load_data
from bids_app.models.preprocessing.coregistration import mask_overlap
from tests.paths import DATA, REFS

AFFINE = np.diag([-4.0, 4.0, 6.0, 1.0])


def head(rng, scalp=0.5):
    """Brain (60 x 75 x 50 mm half axes), a dark gap, a scalp; and a bright eye on a stalk."""
    shape = (50, 56, 28)
    x, y, z = (
        (index - (n - 1) / 2) * zoom
        for index, n, zoom in zip(np.indices(shape), shape, (4, 4, 6), strict=True)
    )
    radius = np.sqrt((x / 60) ** 2 + (y / 75) ** 2 + (z / 50) ** 2)
    brain = radius < 1
    image = brain * 1.0 + scalp * ((radius > 1.2) & (radius < 1.3))
    image[(abs(x) < 4) & (abs(z) < 6) & (y > 60) & (y < 100)] = 1.0
    image = np.abs(image + 0.03 * rng.standard_normal(shape)) * 1000
    return image, brain


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize('scalp', [0.0, 0.5])
def test_mask_is_the_brain_not_scalp_or_eye(scalp):
    image, brain = head(np.random.default_rng(0), scalp)
    mask = mask_from_mean(image, AFFINE)
    assert dice(mask, brain) > 0.93
    assert largest_component(mask).sum() == mask.sum()


def test_mask_is_blind_to_the_unit_of_the_signal_and_to_missing_voxels():
    image, _ = head(np.random.default_rng(0))
    mask = mask_from_mean(image, AFFINE)
    np.testing.assert_array_equal(mask_from_mean(image * 1e-3, AFFINE), mask)
    image[0, 0] = np.nan
    image.setflags(write=False)
    np.testing.assert_array_equal(mask_from_mean(image, AFFINE), mask)


def test_series_is_averaged():
    image, _ = head(np.random.default_rng(0))
    series = np.stack([0.5 * image, 1.5 * image], axis=-1)
    np.testing.assert_array_equal(mask_from_mean(series, AFFINE), mask_from_mean(image, AFFINE))


def test_dark_hole_inside_is_filled():
    image, _ = head(np.random.default_rng(0))
    image[24:27, 26:30, 13:15] = 0
    assert mask_from_mean(image, AFFINE)[24:27, 26:30, 13:15].all()


def test_image_without_contrast_is_an_error():
    with pytest.raises(InputDataError, match='contrast'):
        mask_from_mean(np.ones((5, 5, 5)), AFFINE)


REAL = (
    DATA / 'asltk' / 'asltk_m0.nii.gz',
    REFS / 'asltk' / 'asltk_pcasl_mdw.nii.gz',
    REFS / 'asltk' / 'asltk_pcasl_mte.nii.gz',
    REFS / 'mritools' / 'Mag.nii.gz',
)


@pytest.mark.parametrize('path', REAL, ids=lambda path: path.name.partition('.')[0])
def test_mask_of_a_real_image_is_one_piece_without_holes(path):
    if not path.is_file():
        pytest.skip(f'{path.name} is too large for the repository')
    data = load_data(path)
    mask = mask_from_mean(data.reshape(*data.shape[:3], -1), grid_of(path).affine)
    assert ndimage.label(mask)[1] == 1
    assert not (ndimage.binary_fill_holes(mask) & ~mask).any()
    assert 0.2 < mask.mean() < 0.9


def test_mask_of_a_real_m0_image_is_the_one_that_came_with_it():
    folder = DATA / 'asltk'
    path = folder / 'asltk_m0.nii.gz'
    mask = mask_from_mean(load_data(path), grid_of(path).affine)
    given = load_data(folder / 'asltk_m0_brain_mask.nii.gz') > 0.5
    assert mask_overlap(mask, given) > 0.95
