"""Files and arrays: nothing is lost, turned or scaled on the way."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.errors import GridMismatchError, InputDataError, MissingInputError
from bids_app.images import (
    Grid,
    check_same_grid,
    grid_of,
    load_affine,
    load_data,
    load_echoes,
    load_mask,
    load_masked,
    load_volume,
    save_affine,
    save_image,
    save_unmasked,
)

GRID = Grid((2, 2, 1), np.diag([2.0, 2.0, 2.0, 1.0]))


def test_grid_and_values_survive_in_every_orientation(oriented_grid, tmp_path, rng):
    data = rng.standard_normal(oriented_grid.shape).astype(np.float32)
    path = save_image(data, oriented_grid, tmp_path / 'x.nii')
    np.testing.assert_array_equal(load_data(path), data)
    assert grid_of(path).matches(oriented_grid)
    np.testing.assert_allclose(oriented_grid.zooms, [2, 3, 4])


def test_header_says_mm_and_s_and_both_affines(oriented_grid, tmp_path):
    image = nb.load(save_image(np.zeros(oriented_grid.shape), oriented_grid, tmp_path / 'x.nii'))
    assert image.header.get_xyzt_units() == ('mm', 'sec')
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(affine, oriented_grid.affine, atol=1e-4)


@pytest.mark.parametrize(
    ('made', 'written'),
    [(bool, np.uint8), (np.uint8, np.uint8), (np.int16, np.int16), (float, np.float32)],
)
def test_type_on_disk_follows_from_what_the_array_means(made, written, tmp_path):
    path = save_image(np.ones(GRID.shape, made), GRID, tmp_path / 'x.nii')
    assert nb.load(path).get_data_dtype() == written


def test_masked_values_return_to_their_voxels(oriented_grid, tmp_path, rng):
    mask = rng.random(oriented_grid.shape) < 0.5
    values = rng.standard_normal(mask.sum())
    path = save_unmasked(values, mask, oriented_grid, tmp_path / 'x.nii')
    np.testing.assert_allclose(load_masked(path, mask, oriented_grid), values, rtol=1e-6)
    assert np.isnan(load_data(path)[~mask]).all(), 'outside there is no estimate, not zero'


def test_status_outside_the_mask_is_the_fill(tmp_path):
    mask = np.array([True, False, False, True]).reshape(GRID.shape)
    path = save_unmasked(np.array([0, 20], np.uint8), mask, GRID, tmp_path / 'x.nii', fill=1)
    np.testing.assert_array_equal(load_data(path).ravel(), [0, 1, 1, 20])


def test_a_series_keeps_its_volumes(tmp_path):
    mask = np.array([True, False, False, True]).reshape(GRID.shape)
    values = np.arange(6.0).reshape(2, 3)
    path = save_unmasked(values, mask, GRID, tmp_path / 'x.nii')
    np.testing.assert_array_equal(load_masked(path, mask, GRID), values)


def test_mask_is_above_one_half(tmp_path):
    path = save_image(np.array([0.5, 0.51, 0, 1]).reshape(GRID.shape), GRID, tmp_path / 'x.nii')
    np.testing.assert_array_equal(load_mask(path).ravel(), [False, True, False, True])


MOVED = Grid(GRID.shape, GRID.affine + np.eye(4, k=3))
LARGER = Grid((3, 2, 1), GRID.affine)


@pytest.mark.parametrize('other', [MOVED, LARGER], ids=['moved', 'larger'])
def test_images_on_two_grids_are_refused(other, tmp_path):
    first = save_image(np.ones(GRID.shape), GRID, tmp_path / 'first.nii')
    second = save_image(np.ones(other.shape), other, tmp_path / 'second.nii')
    with pytest.raises(GridMismatchError, match=r'second\.nii'):
        check_same_grid([first, second])
    with pytest.raises(GridMismatchError, match=r'second\.nii'):
        load_masked(second, np.ones(GRID.shape, bool), GRID)
    with pytest.raises(GridMismatchError):
        check_same_grid([second, first, second])


def test_rounding_of_a_header_is_the_same_grid(tmp_path):
    nearly = Grid(GRID.shape, GRID.affine + 1e-5)
    nearly.affine[3] = 0, 0, 0, 1
    paths = [
        save_image(np.ones(grid.shape), grid, tmp_path / f'{number}.nii')
        for number, grid in enumerate((GRID, nearly))
    ]
    assert check_same_grid(paths).matches(GRID)


def test_data_that_do_not_fit_the_grid_are_refused(tmp_path):
    with pytest.raises(InputDataError, match='do not fit a grid'):
        save_image(np.ones((1, 1, 1)), GRID, tmp_path / 'x.nii')


def test_unreadable_images_are_named(tmp_path):
    empty = tmp_path / 'empty.nii'
    empty.touch()
    link = tmp_path / 'link.nii.gz'
    link.symlink_to(tmp_path / 'annex' / 'gone')
    whole = save_image(np.ones((9, 9, 9)), Grid((9, 9, 9), np.eye(4)), tmp_path / 'whole.nii')
    cut = tmp_path / 'cut.nii'
    cut.write_bytes((tmp_path / 'whole.nii').read_bytes()[:1000])
    for path, said in (
        (empty, 'empty.nii'),
        (tmp_path / 'absent.nii', 'absent.nii'),
        (link, 'datalad get'),
        (cut, 'complete'),
    ):
        with pytest.raises(MissingInputError, match=said):
            load_data(path)
    assert load_data(whole).sum() == 9**3


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 4.0], [s, c, 0, -5.0], [0, 0, 1, 6.0], [0, 0, 0, 1]])


def test_transform_survives_the_itk_file(tmp_path):
    path = save_affine(rotation(0.3), tmp_path / 'x.txt')
    np.testing.assert_allclose(load_affine(path), rotation(0.3), atol=1e-10)


def test_itk_file_is_in_lps_and_turns_about_its_centre(tmp_path):
    """Half a turn about z at the centre (1, 0, 0) LPS: a point x goes to 2 - x."""
    (tmp_path / 'x.txt').write_text(
        '#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n'
        'Parameters: -1 0 0 0 -1 0 0 0 1 0 0 0\nFixedParameters: 1 0 0\n'
    )
    matrix = load_affine(tmp_path / 'x.txt')
    np.testing.assert_allclose(matrix @ [-3.0, 0, 0, 1], [1.0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ('kind', 'parameters', 'fixed'),
    [
        ('Euler3DTransform', [0.1, -0.2, 0.3, 4, 5, 6], [7, 8, 9, 0]),
        ('Euler3DTransform', [0.1, -0.2, 0.3, 4, 5, 6], [7, 8, 9, 1]),
        ('VersorRigid3DTransform', [0.1, -0.2, 0.3, 4, 5, 6], [7, 8, 9]),
        ('MatrixOffsetTransformBase', [0.9, 0.1, 0, 0, 1.1, 0.2, 0, 0, 1, 4, 5, 6], [7, 8, 9]),
    ],
)
def test_itk_file_of_any_kind_is_read_as_ants_reads_it(kind, parameters, fixed, tmp_path):
    import ants

    (tmp_path / 'x.txt').write_text(
        f'#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}_double_3_3\n'
        f'Parameters: {" ".join(map(str, parameters))}\n'
        f'FixedParameters: {" ".join(map(str, fixed))}\n'
    )
    point = np.array([10.0, 20, 30])
    expected = ants.read_transform(str(tmp_path / 'x.txt')).apply_to_point(point)
    flip = np.array([-1, -1, 1.0])
    found = (load_affine(tmp_path / 'x.txt') @ [*(flip * point), 1])[:3] * flip
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    'content',
    [
        'Transform: Euler3DTransform\nParameters: 0 0 0\n',
        'Transform: TranslationTransform\nParameters: 0 0 0 1 2 3\n',
        'Transform: AffineTransform\nParameters: ' + 2 * '1 0 0 0 1 0 0 0 1 0 0 0\nParameters: ',
        '\u00e9',
    ],
)
def test_itk_file_with_anything_else_is_refused(content, tmp_path):
    (tmp_path / 'x.txt').write_text(content, 'utf-8')
    with pytest.raises(InputDataError, match='12 parameters'):
        load_affine(tmp_path / 'x.txt')


@pytest.mark.parametrize('shape', [(2, 2, 1), (2, 2, 1, 1), (2, 2, 1, 1, 1)])
def test_one_volume_is_read_whatever_axes_of_length_1_it_has(shape, tmp_path):
    data = np.arange(4.0).reshape(shape)
    nb.save(nb.Nifti1Image(data, np.eye(4)), tmp_path / 'x.nii')
    np.testing.assert_array_equal(load_volume(tmp_path / 'x.nii').ravel(), data.ravel())
    assert load_echoes([tmp_path / 'x.nii'] * 3).shape == (2, 2, 1, 3)


def test_volumes_along_a_fifth_axis_are_a_series(tmp_path):
    nb.save(nb.Nifti1Image(np.zeros((2, 2, 2, 1, 7)), np.eye(4)), tmp_path / 'x.nii')
    assert load_data(tmp_path / 'x.nii').shape == (2, 2, 2, 7)
    with pytest.raises(InputDataError, match='expected a 3D image'):
        load_volume(tmp_path / 'x.nii')
