"""Scans that lie on the anatomy, and scans that do not."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bids_app.engines.templates import packaged_template
from bids_app.errors import InputDataError
from bids_app.images import Grid, grid_of, load_data, save_affine, save_image
from bids_app.interfaces.alignment import JudgeAlignment, PassAligned
from bids_app.models.numerics.resampling import average_over_voxel

GRID = Grid((48, 52, 24), np.array([[4, 0, 0, -94], [0, 4, 0, -120], [0, 0, 6.6, -60],
                                    [0, 0, 0, 1.0]]))  # fmt: skip


def scan_of(kind):
    """Map of the template as a scan sees it."""
    path = packaged_template(kind)
    return average_over_voxel(load_data(path), GRID.affine, GRID.shape, grid_of(path).affine)


@pytest.fixture(scope='module')
def brain():
    """Brain, and a scan in which white matter is darker than grey."""
    mask = scan_of('desc-brain_mask')
    tissue = 1.0 * scan_of('label-GM_probseg') + 0.6 * scan_of('label-WM_probseg')
    return mask > 0.5, 100 * (tissue + 1.4 * scan_of('label-CSF_probseg')) * (mask > 0.05)


@pytest.fixture
def judge(files, brain):
    """Judge a scan that is given as changed, and whose transform is off by some mm."""
    mask, signal = brain

    def judged(change=lambda data: data, off=(0.0, 0.0, 0.0)):
        transform = np.eye(4)
        transform[:3, 3] = off
        carried = ndimage.shift(mask.astype(float), np.array(off) / GRID.zooms, order=1) > 0.5
        mask_file = save_image(carried, GRID, files.folder / 'carried.nii')
        verdict = files.run(
            JudgeAlignment(
                scan='mese',
                reference=save_image(change(signal), GRID, files.folder / 'reference.nii'),
                mask=mask_file,
                t1w=str(packaged_template('T1w')),
                brain_mask=str(packaged_template('desc-brain_mask')),
                transform=save_affine(transform, files.folder / 'transform.txt'),
            )
        )
        return verdict.table, PassAligned(mask=mask_file, table=verdict.table)

    return judged


def test_scan_in_its_place_is_good_and_passes(judge, files):
    path, gate = judge()
    table = pd.read_csv(path, sep='\t')
    assert files.run(gate).mask == gate.inputs.mask
    assert table['verdict'][0] == 'good'
    assert table['overlap'][0] > 0.9
    assert table['similarity_moved'][0] < 0.9 * table['similarity'][0]


@pytest.mark.parametrize('off', [(6.0, 0, 0), (0, -6.0, 0), (0, 0, 8.0)])
def test_scan_a_voxel_off_is_stopped_and_its_row_is_kept(judge, files, off):
    path, gate = judge(off=off)
    assert pd.read_csv(path, sep='\t')['verdict'][0] == 'failed'
    with pytest.raises(InputDataError, match='mese: the alignment'):
        files.run(gate)


def test_scan_without_half_of_the_brain_is_stopped(judge, files):
    def halve(data):
        return np.where(np.arange(len(data))[:, None, None] < len(data) // 2, 0, data)

    _, gate = judge(change=halve)
    with pytest.raises(InputDataError, match='overlap'):
        files.run(gate)
