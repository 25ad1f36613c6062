import shutil

import nibabel as nb
import pytest

from bids_app.phantom import compare
from bids_app.phantom.cli import main as make


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('compare') / 'bids'
    assert make([str(folder), '--grid', 'tiny', '--participants', '1']) == 0
    return folder


@pytest.fixture
def out(root, tmp_path):
    shutil.copytree(root / 'derivatives' / 'truth', tmp_path / 'out')
    return tmp_path / 'out'


def scale(path, factor):
    image = nb.load(path)
    nb.save(nb.Nifti1Image((image.get_fdata() * factor).astype('f4'), image.affine), path)


def test_the_truth_meets_every_bar(root, out, capsys):
    assert compare.main([str(root), str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'OUTSIDE' not in printed
    assert '16 of 16' in printed


def test_an_error_beyond_the_bar_is_outside(root, out):
    scale(out / 'sub-01' / 'perf' / 'sub-01_task-calc_space-MESE_cbf.nii.gz', 1.06)
    scale(out / 'sub-01' / 'anat' / 'sub-01_space-MESE_T2map.nii.gz', 1.014)
    outside = [row.quantity for row in compare.compare(root, out) if not row.is_within]
    assert outside == ['task-calc_cbf']


def test_a_missing_map_is_outside(root, out, capsys):
    (out / 'sub-01' / 'perf' / 'sub-01_task-calc_space-MESE_oef.nii.gz').unlink()
    assert compare.main([str(root), str(out)]) == 1
    assert 'nan' in capsys.readouterr().out


def test_a_flipped_sign_of_the_group_is_outside(root, out):
    stem = 'sub-01_space-MESE_contrast-calcMinusControl_stat-effect_desc-cmro2_statmap.nii.gz'
    scale(out / 'sub-01' / 'perf' / stem, -1.0)
    outside = [row for row in compare.compare(root, out) if not row.is_within]
    assert [row.quantity[-1] for row in outside] == ['1', '2', '3', '4']
