import nibabel as nb
import numpy as np
import pytest

from bids_app.images import Grid
from bids_app.reports.derivatives import (
    finer_in_slice,
    list_derivatives,
    load_upright,
    read_json,
    read_table,
    sample,
    select,
)


@pytest.mark.parametrize('codes', ['RAS', 'LPS', 'LAS', 'PIR', 'SAL'])
def test_any_orientation_becomes_the_same_upright_volume(tmp_path, codes):
    data = np.arange(24.0).reshape(2, 3, 4)
    image = nb.Nifti1Image(data, np.diag([2.0, 3.0, 4.0, 1.0]))
    wanted = nb.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(
        nb.orientations.ornt_transform(nb.io_orientation(image.affine), wanted)
    )
    turned.to_filename(tmp_path / 'x.nii.gz')
    upright, grid = load_upright(tmp_path / 'x.nii.gz')
    np.testing.assert_array_equal(upright, data)
    np.testing.assert_allclose(grid.affine, image.affine, atol=1e-6)


def test_a_series_is_shown_by_its_first_volume(tmp_path):
    data = np.random.default_rng(0).random((3, 3, 3, 2)).astype(np.float32)
    nb.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / 'x.nii.gz')
    np.testing.assert_array_equal(load_upright(tmp_path / 'x.nii.gz')[0], data[..., 0])


def test_a_finer_grid_keeps_the_edges_of_the_image():
    grid = Grid((4, 5, 6), np.diag([4.0, 4.0, 6.0, 1.0]))
    finer = finer_in_slice(grid, 2)
    corner = np.array([-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(finer.affine @ corner, grid.affine @ corner)
    np.testing.assert_allclose(finer.affine @ [7.5, 9.5, 5.5, 1], grid.affine @ [3.5, 4.5, 5.5, 1])


def test_sampling_follows_the_movement_between_the_images():
    source = Grid((6, 6, 6), np.eye(4))
    data = np.zeros(source.shape)
    data[3, 2, 1] = 1.0
    world = np.eye(4)
    world[:3, 3] = 1.0, 0.0, -1.0  # target point + this = source point
    moved = sample(data, source, source, world)
    assert moved[2, 2, 2] == pytest.approx(1.0)
    assert moved.sum() == pytest.approx(1.0)


def test_files_are_found_by_row_and_entities(output_dir):
    files = list_derivatives(output_dir, 'sub-01')
    assert len(select(files, 'cbf')) == 2
    assert select(files, 'cbf', condition='calc')[0].entities['condition'] == 'calc'
    assert select(files, 'T2map', condition=None)
    assert not select(files, 'cbf', space='other')
    assert not any(file.path.suffix == '.json' for file in files)


def test_broken_or_absent_tables_are_empty(tmp_path):
    (tmp_path / 'x.json').write_text('{"a": ')
    (tmp_path / 'list.json').write_text('[1]')
    assert read_json(tmp_path / 'x.json') == read_json(tmp_path / 'list.json') == {}
    assert read_json(tmp_path / 'none.json') == {}
    assert read_table(tmp_path / 'none.tsv') == []


def test_a_row_that_is_too_short_is_filled_with_nothing(tmp_path):
    (tmp_path / 'x.tsv').write_text('a\tb\n1\n1\t2\t3\n')
    assert read_table(tmp_path / 'x.tsv') == [{'a': '1', 'b': ''}, {'a': '1', 'b': '2'}]
