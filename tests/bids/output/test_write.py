"""Images, tables and sidecars appear whole or not at all."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

import bids_app
from bids_app.bids.output.names import row
from bids_app.bids.output.write import (
    atomic_write,
    base_sidecar,
    create_once,
    output_error,
    to_json,
    tsv,
    write_copy,
    write_image,
    write_table,
)
from bids_app.errors import ExitCode, InputDataError, OutputError
from tests.bids.support import make_image


def test_a_space_of_our_own_refers_to_an_image() -> None:
    mese = base_sidecar('T2map', sub='01', ses='a', space='MESE')
    assert mese['SpatialReference'] == (
        'bids::sub-01/ses-a/anat/sub-01_ses-a_space-MESE_desc-reference_T2w.nii.gz'
    )
    t1w = base_sidecar('T2map', sub='01', space='T1w')
    assert t1w['SpatialReference'] == 'bids::sub-01/anat/sub-01_desc-preproc_T1w.nii.gz'
    template = base_sidecar('T2map', sub='01', space='MNI152NLin6Asym', res='2')
    assert 'SpatialReference' not in template
    assert '2 mm' in template['Resolution']


def test_sidecar_describes_the_map_in_words() -> None:
    about = base_sidecar(
        'contrast',
        sub='01',
        space='MESE',
        contrast='calcMinusControl',
        statistic='variance',
        quantity='cbf',
    )
    assert about['Description'].startswith('Random variance of cerebral blood flow')
    assert about['SkullStripped'] is True


def test_blood_volume_is_written_in_percent_and_its_variance_squared(
    image: Path, tmp_path: Path
) -> None:
    place = {'sub': '01', 'space': 'MESE'}
    value = write_image(
        image,
        output_dir=tmp_path / 'o',
        key='cbv',
        entities=place | {'variant': 'dsc'},
        sidecar={'ModelName': 'dsc'},
    )
    variance = write_image(
        image,
        output_dir=tmp_path / 'o',
        key='variance',
        entities=place | {'quantity': 'cbv'},
        sidecar={},
    )
    source = nb.load(image).get_fdata()
    np.testing.assert_allclose(nb.load(value).get_fdata(), 100 * source, rtol=1e-6)
    np.testing.assert_allclose(nb.load(variance).get_fdata(), 1e4 * source, rtol=1e-6)
    about = json.loads(Path(str(value).replace('.nii.gz', '.json')).read_text())
    assert about['Units'] == 'percent'
    assert about['ModelName'] == 'dsc'


def test_missing_stays_nan_and_grid_and_type_are_kept(image: Path, tmp_path: Path) -> None:
    path = write_image(
        image,
        output_dir=tmp_path / 'o',
        key='T2map',
        entities={'sub': '01', 'space': 'MESE'},
        sidecar={},
    )
    written = nb.load(path)
    assert np.isnan(written.get_fdata()[0, 0, 0])
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(written.affine, nb.load(image).affine)
    assert written.header.get_xyzt_units() == ('mm', 'sec')
    assert int(written.header['sform_code']) == int(written.header['qform_code']) == 1
    assert np.isnan(written.header['scl_slope']) or written.header['scl_slope'] == 1


def test_same_voxels_give_same_bytes(image: Path, tmp_path: Path) -> None:
    arguments = {
        'key': 'T2map',
        'entities': {'sub': '01', 'space': 'MESE'},
        'sidecar': {'Sources': ['bids:raw:x']},
    }
    first = write_image(image, output_dir=tmp_path / 'a', **arguments)
    again = nb.Nifti1Image(nb.load(image).get_fdata(), nb.load(image).affine)
    again.header['descrip'] = b'made at another time'
    nb.save(again, tmp_path / 'again.nii.gz')
    second = write_image(tmp_path / 'again.nii.gz', output_dir=tmp_path / 'b', **arguments)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4), 'gzip must hold no time'
    assert gzip.decompress(first.read_bytes())


def test_labels_are_written_without_loss_or_not_at_all(
    labels: Path, image: Path, tmp_path: Path
) -> None:
    place = {'sub': '01', 'space': 'MESE', 'quantity': 'cbf'}
    path = write_image(labels, output_dir=tmp_path / 'o', key='status', entities=place, sidecar={})
    assert nb.load(path).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(nb.load(path).get_fdata(), nb.load(labels).get_fdata())
    for bad in (np.nan, 0.5, 256.0, -1.0):
        source = make_image(tmp_path / 'bad.nii', np.full((2, 2, 2), bad, np.float32))
        with pytest.raises(InputDataError, match='labels from 0 to 255'):
            write_image(
                source, output_dir=tmp_path / 'p', key='status', entities=place, sidecar={}
            )
    assert not (tmp_path / 'p').exists()


def test_caller_wins_over_the_table(image: Path, tmp_path: Path) -> None:
    path = write_image(
        image,
        output_dir=tmp_path,
        key='preproc_t1w',
        entities={'sub': '01'},
        sidecar={'SkullStripped': True},
    )
    about = json.loads(Path(str(path).replace('.nii.gz', '.json')).read_text())
    assert about['SkullStripped'] is True


def test_further_columns_are_written_and_explained_where_the_row_knows_them(
    tmp_path: Path,
) -> None:
    columns = [*row('nuisance').columns, 'trans_x']
    place = {'sub': '01', 'task': 'all'}
    frame = pd.DataFrame([dict.fromkeys(columns, 1)])
    path = write_table(frame, output_dir=tmp_path, key='nuisance', entities=place)
    assert path.read_text().splitlines()[0].split('\t') == columns
    about = json.loads(path.with_suffix('.json').read_text())
    assert about['trans_x']['Description'] == row('nuisance').further_columns


def test_table_has_exactly_the_columns_of_its_row(tmp_path: Path) -> None:
    columns = list(row('summary').columns)
    place = {'sub': '01', 'contrast': 'calcMinusControl'}
    record = dict.fromkeys(columns, 1) | {'ci_low': np.nan, 'note': None, 'rule': 'sign'}
    frame = pd.DataFrame([record])[columns[::-1]]
    path = write_table(frame, output_dir=tmp_path, key='summary', entities=place)
    header, line = path.read_text().splitlines()
    assert header.split('\t') == columns
    cells = dict(zip(columns, line.split('\t'), strict=True))
    assert (cells['rule'], cells['ci_low'], cells['note']) == ('sign', 'n/a', 'n/a')
    about = json.loads(path.with_suffix('.json').read_text())
    assert set(columns) < set(about)
    for wrong in ({**record, 'extra': 1}, {k: v for k, v in record.items() if k != 'bold'}):
        with pytest.raises(ValueError, match='columns'):
            write_table([wrong], output_dir=tmp_path, key='summary', entities=place)


def test_cells_are_plain_text() -> None:
    record = {
        'a': np.float32(0.1),
        'b': np.int64(3),
        'c': True,
        'd': 'two\twords\n',
        'e': '',
        'f': np.inf,
        'g': np.bool_(False),
        'h': pd.NA,
    }
    line = tsv([record], record).decode().splitlines()[1]
    assert line == '0.1\t3\ttrue\ttwo words\tn/a\tinf\tfalse\tn/a'


def test_json_knows_no_nan() -> None:
    content = {
        'a': np.array([1.0, np.nan]),
        'b': np.float64('inf'),
        'c': (Path('x'), {2, 1}),
        2: None,
    }
    assert json.loads(to_json(content)) == {
        'a': [1.0, None],
        'b': 'inf',
        'c': ['x', [1, 2]],
        '2': None,
    }


def test_transform_keeps_the_extension_of_its_kind(tmp_path: Path) -> None:
    source = tmp_path / 'x.txt'
    source.write_text('affine')
    place = {'sub': '01', 'template': 'MNI152NLin6Asym'}
    path = write_copy(source, output_dir=tmp_path, key='xfm_t1w_template', entities=place)
    assert path.name == 'sub-01_from-T1w_to-MNI152NLin6Asym_mode-image_xfm.txt'
    assert path.read_text() == 'affine'


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = atomic_write(tmp_path / 'a.json', b'old')

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'replace', full)
    with pytest.raises(OutputError, match='No space left') as caught:
        atomic_write(path, b'new')
    assert caught.value.exit_code == ExitCode.IO_ERROR
    assert path.read_bytes() == b'old'
    assert [item.name for item in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize(
    ('number', 'code'),
    [
        (errno.EACCES, ExitCode.CANNOT_CREATE_OUTPUT),
        (errno.EROFS, ExitCode.CANNOT_CREATE_OUTPUT),
        (errno.ENOSPC, ExitCode.IO_ERROR),
        (errno.EDQUOT, ExitCode.IO_ERROR),
        (errno.EIO, ExitCode.IO_ERROR),
    ],
)
def test_full_disk_and_refused_permission_have_their_own_codes(
    number: int, code: ExitCode
) -> None:
    assert output_error(OSError(number, 'x'), Path('y')).exit_code == code
    assert OutputError.exit_code == ExitCode.CANNOT_CREATE_OUTPUT


def test_a_file_in_the_place_of_a_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / 'sub-01').write_text('')
    with pytest.raises(OutputError) as caught:
        atomic_write(tmp_path / 'sub-01' / 'a.json', b'')
    assert caught.value.exit_code == ExitCode.CANNOT_CREATE_OUTPUT


def test_fixed_content_is_made_by_the_first_and_left_alone(tmp_path: Path) -> None:
    assert create_once(tmp_path / 'a', b'first')
    assert not create_once(tmp_path / 'a', b'second')
    assert (tmp_path / 'a').read_bytes() == b'first'
    assert [item.name for item in tmp_path.iterdir()] == ['a']


def test_fixed_content_needs_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, 'no links here')

    monkeypatch.setattr('os.link', no_links)
    assert create_once(tmp_path / 'a', b'first')
    assert [item.name for item in tmp_path.iterdir()] == ['a']


def test_every_sidecar_states_the_versions_of_the_software(tmp_path: Path, image: Path) -> None:
    entities = {'sub': '01', 'condition': 'calc', 'space': 'MESE'}
    path = write_image(image, output_dir=tmp_path, key='oef', entities=entities, sidecar={})
    about = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    assert about['GeneratedWith']['oxybold'] == bids_app.__version__
    assert about['GeneratedWith']['numpy'] == np.__version__
