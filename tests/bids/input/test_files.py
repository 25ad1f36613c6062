"""Every way a file can be broken has its own words."""

import gzip
import math
import struct

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.files import (
    find_companions,
    find_defect,
    map_of_user,
    read_header,
    read_json,
    read_table,
)
from bids_app.bids.scans import ParticipantInputs
from bids_app.errors import InputDataError, MissingInputError, SettingsError


@pytest.mark.parametrize('read', [read_header, read_json, lambda p: read_table(p, ())])
def test_absent_empty_and_unfetched_files_are_missing_input(dataset, read):
    path = dataset.root / 'x.nii'
    with pytest.raises(MissingInputError, match='cannot be opened'):
        read(path)
    path.write_text('')
    with pytest.raises(MissingInputError, match='0 bytes'):
        read(path)
    path.unlink()
    path.symlink_to('gone')
    with pytest.raises(MissingInputError, match=f'datalad get {path}'):
        read(path)


def test_a_map_of_the_user_is_found_per_participant_or_told_by_setting_and_file(tmp_path):
    unit = ParticipantInputs(participant='01', session='a', b0=3.0, hct=0.4, sao2=0.98)
    pattern = f'{tmp_path}/M_sub-{{participant}}_ses-{{session}}.nii'
    with pytest.raises(MissingInputError, match=r'change.x names .* sub-01_ses-a: M_sub-01_ses-a'):
        map_of_user(pattern, 'change.x', unit)
    path = tmp_path / 'M_sub-01_ses-a.nii'
    path.write_text('any')
    assert map_of_user(pattern, 'change.x', unit) == path
    with pytest.raises(SettingsError, match=r'change.x = .* but \{participant\} and \{session\}'):
        map_of_user('M_{subject}.nii', 'change.x', unit)


def test_bytes_that_are_no_text_are_bad_input(dataset):
    path = dataset.root / 'x.tsv'
    path.write_bytes(b'\xff\xfe\x00a')
    with pytest.raises(InputDataError, match='should be UTF-8 text, found UTF-16'):
        read_table(path, ('a',))
    with pytest.raises(InputDataError, match='not valid JSON'):
        read_json(path)


def test_short_rows_are_filled_and_blank_lines_skipped(dataset):
    path = dataset.text('x.tsv', 'a\tb\r\n\r\n1\r\n2\t 3 \r\n')
    assert read_table(path, ('a',)) == [{'a': '1', 'b': ''}, {'a': '2', 'b': '3'}]


def test_inheritance_goes_from_general_to_near_and_needs_all_entities(dataset):
    dataset.add('ses-a/func/task-x_run-1_bold[calc]')
    for name in (
        'bold.json',
        'task-x_bold.json',
        'task-y_bold.json',
        'sub-01/sub-01_bold.json',
        'acq-z_task-x_bold.json',
        'task-x_events.json',
        'sub-01/ses-a/ses-a_bold.json',
    ):
        dataset.json(name, {})  # fmt: skip
    path = dataset.find('*_bold.nii.gz')
    found = find_companions(path, dataset.root, 'bold', '.json')
    assert [str(item.relative_to(dataset.root)) for item in found] == [
        'bold.json', 'task-x_bold.json', 'sub-01/sub-01_bold.json',
        'sub-01/ses-a/ses-a_bold.json', 'sub-01/ses-a/func/sub-01_ses-a_task-x_run-1_bold.json',
    ]  # fmt: skip


def place(path, *, qform=None, sform=None, zooms=(2.0, 2.0, 2.0), shape=(70, 70, 40)):
    """Write an image whose two affines are those given."""
    image = nb.Nifti1Image(np.ones(shape, np.int16), np.diag([*zooms, 1.0]))
    for name, affine in (('qform', qform), ('sform', sform)):
        set_affine = getattr(image, f'set_{name}')
        set_affine(
            np.diag([*zooms, 1.0]) if affine is None else affine, code=int(affine is not None)
        )
    image.header.set_zooms(zooms)
    nb.save(image, path)
    return path


OWN = np.diag([-2.0, 2, 2, 1])


@pytest.mark.parametrize(
    ('affines', 'said'),
    [
        ({'qform': OWN, 'sform': OWN}, ''),
        ({'sform': OWN}, ''),
        ({'qform': OWN}, ''),
        ({'qform': OWN, 'sform': OWN + 5 * np.eye(4, k=3)}, 'disagree by up to 5 mm; the sform'),
        ({}, 'left and right are taken'),
        ({'sform': np.diag([1.0, 1, 1, 1]), 'zooms': (1.0, 1, 1)}, '70 x 70 x 40 mm in all'),
    ],
)
def test_header_says_what_is_odd_about_the_place_of_an_image(affines, said, tmp_path):
    remark = read_header(place(tmp_path / 'x.nii', **affines)).remark
    assert said in remark
    assert bool(remark) is bool(said)


def test_a_header_whose_data_start_at_infinity_is_no_error_of_the_program(dataset):
    path = dataset.image('sub-01/anat/sub-01_T1w.nii.gz')
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[108:112] = struct.pack('<f', math.inf)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(MissingInputError, match='cannot be read as a NIfTI image'):
        read_header(path)


def test_a_header_that_claims_more_than_the_file_can_hold_asks_for_no_memory(dataset):
    path = dataset.image('sub-01/anat/sub-01_T1w.nii.gz')
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:48] = struct.pack('<4h', 3, 1200, 1200, 1200)
    path.write_bytes(gzip.compress(bytes(content)))
    message, _ = find_defect(path)
    assert 'the file holds' in message


@pytest.mark.parametrize(('place', 'patch'), [
    (123, b'\x04'),
    (252, struct.pack('<2h6f', 1, 1, 0, 0, 2, 0, 0, 0)),
])  # fmt: skip
def test_codes_and_quaternions_that_are_none_leave_the_image_readable(place, patch, dataset):
    path = dataset.image('sub-01/perf/sub-01_asl.nii.gz', shape=(3, 3, 2, 4))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[place : place + len(patch)] = patch
    path.write_bytes(gzip.compress(bytes(content)))
    assert read_header(path).n_volumes == 4
