"""The phantom in the layout of ds004873: its names and sidecars, and that nothing else changes."""

import json
import tomllib

import nibabel as nb
import numpy as np
import pytest

from bids_app.phantom.cli import main
from bids_app.phantom.layouts import CONDITIONS

SIDE = ('--grid', 'tiny', '--participants', '1', '--seed', '3')


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp('untidy') / 'study'
    assert main([str(root), *SIDE, '--layout', 'ds004873', '--conditions', 'control,calc']) == 0
    return root


def sidecar(study, name):
    (path,) = study.rglob(name)
    return json.loads(path.read_text())


def test_names_are_those_of_the_dataset(study):
    names = [path.relative_to(study).as_posix() for path in study.rglob('*.nii.gz')]
    names = [name for name in names if not name.startswith(('derivatives/t', 'derivatives/f'))]
    raw = {name.rpartition('/')[0] for name in names}
    assert raw == {
        'sub-p032/anat',
        'sub-p032/func',
        'derivatives/sub-p032/anat',
        'derivatives/sub-p032/perf',
        'derivatives/sub-p032/qmri',
    }
    megre = [name for name in names if 'MEGRE' in name]
    assert len(megre) == 2 * 3 * 3 * 12
    assert (
        'derivatives/sub-p032/anat/sub-p032_echo-01_imaginary_task-calc_acq-MoCoHR_MEGRE.nii.gz'
        in megre
    )
    assert not list(study.rglob('*aslcontext*'))
    assert not (study / 'participants.json').exists()


def test_sidecars_say_no_more_than_those_of_the_dataset(study):
    asl = sidecar(study, '*task-calc_acq-epi_asl.json')
    assert asl['RepetitionTime'] == 9
    assert not {'SliceTiming', 'PostLabelingDelay', 'MagneticFieldStrength'} & set(asl)
    assert sidecar(study, '*task-calc_acq-pd_asl.json')['RepetitionTime'] == 4.5
    full = sidecar(study, '*echo-01_task-calc_acq-fullres_MEGRE.json')
    quarter = sidecar(study, '*echo-01_task-calc_acq-MoCoQR_MEGRE.json')
    assert quarter['EchoTime'] - full['EchoTime'] == pytest.approx(0.001)
    assert quarter['ProtocolName'] == 'calc_T2SSGMoCoQR'
    assert 'PhaseEncodingDirection' not in quarter


def test_reduced_sets_lack_lines_of_the_first_axis(study):
    (path,) = study.rglob('*echo-01_real_task-calc_acq-MoCoHR_MEGRE.nii.gz')
    image = np.asarray(nb.load(path).dataobj, float)
    lines = np.abs(np.fft.fftshift(np.fft.fft(image, axis=0), axes=0)).sum((1, 2))
    assert lines[[0, 1, -1]].max() < 0.05 * lines.max()


def test_the_protocol_of_the_phantom_is_given_as_overrides(study):
    entries = tomllib.loads((study / 'code' / 'overrides.toml').read_text())['override']
    assert {key for entry in entries for key in entry['set']} == {'SliceThickness', 'SliceTiming'}


def test_unknown_layout_is_refused_and_the_dataset_has_four_conditions(tmp_path, capsys):
    assert main([str(tmp_path / 'x'), '--layout', 'ds1']) == 64
    assert '--layout must be one of bids, ds004873' in capsys.readouterr().err
    assert CONDITIONS['ds004873'] == ('rest', 'control', 'mem', 'calc')
