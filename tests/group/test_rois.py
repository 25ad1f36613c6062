"""Regions of interest of participants in native space, and atlases of the user."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.bids.output.dataset import read_summaries
from bids_app.bids.output.names import output_path
from bids_app.errors import SettingsError
from bids_app.group import workflow
from bids_app.group.regions import read_regions
from bids_app.group.rois import save_rois
from bids_app.images import Grid, save_affine
from tests.group.support import Study

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
LESION = (slice(2, 5), slice(3, 6), slice(1, 3))
FINE = np.diag([2.0, 2.0, 2.5, 1.0])
FINE[:3, 3] = -1.0, -1.0, -1.25
"""Half the voxels, on the same edges."""
PEOPLE = 5
HCT = {'name': 'oxygen.hct', 'value': 0.42, 'unit': '1', 'origin': 'x', 'overruled': ''}
SAO2 = HCT | {'name': 'oxygen.sao2', 'value': 0.98}
B0 = HCT | {'name': 'oxygen.b0', 'value': 3.0}


def native(study, sub, key, value, **entities):
    path = study.folder / output_path(key, sub=sub, space='ASL', **entities)
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(value.astype(np.float32), AFFINE).to_filename(path)
    about = {'VoxelsPerNoiseSample': 1.0}
    path.with_name(path.name.replace('.nii.gz', '.json')).write_text(json.dumps(about))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """Five people with blood flow and OEF on the grid of ASL: no T1w image, no template."""
    made = Study(tmp_path_factory.mktemp('rois'))
    rng = np.random.default_rng(3)
    rois = made.run.bids_dir / 'rois'
    for number in range(1, PEOPLE + 1):
        sub = f'{number:02d}'
        made.summary(sub)
        log = made.folder / 'logs' / f'sub-{sub}_run_summary.json'
        unit = {'space': 'ASL', 'values': [HCT, SAO2, B0]}
        log.write_text(json.dumps(json.loads(log.read_text()) | {'units': [unit]}))
        for key, level in (('cbf', 50.0), ('oef', 0.4)):
            value = level * (1 + 0.05 * rng.standard_normal((8, 9, 6)))
            value[LESION] *= 0.5
            native(made, sub, key, value, condition='rest')
            error = np.full(value.shape, (0.05 * level) ** 2)
            native(made, sub, 'variance', error, condition='rest', quantity=key)
        fine = np.zeros((16, 18, 12))
        fine[tuple(slice(2 * s.start, 2 * s.stop) for s in LESION)] = 1
        path = rois / f'sub-{sub}' / 'anat' / f'sub-{sub}_space-ASL_label-lesion_mask.nii.gz'
        path.parent.mkdir(parents=True)
        nb.Nifti1Image(fine.astype(np.uint8), FINE).to_filename(path)
        coarse = np.ones((8, 9, 6), np.uint8)
        coarse[4:] = 2
        path = rois / f'sub-{sub}' / 'anat' / f'sub-{sub}_desc-half_dseg.nii.gz'
        nb.Nifti1Image(coarse, AFFINE).to_filename(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        made.verdict = made.group(**{'group.roi': str(rois)})
    return made


def test_native_maps_are_averaged_with_every_error_without_t1w_or_template(study):
    assert study.verdict.code == 0
    table = pd.read_csv(study.folder / 'sub-01' / 'sub-01_desc-rois_summary.tsv', sep='\t')
    assert set(table.roi) == {'lesion', 'half1', 'half2'}
    lesion = table[(table.roi == 'lesion') & (table.quantity == 'oef')].iloc[0]
    assert lesion.n_voxels == 3 * 3 * 2
    assert lesion.volume_ml == pytest.approx(18 * 0.08)
    assert lesion.value == pytest.approx(0.2, rel=0.05)
    assert lesion.se == pytest.approx(0.02 / np.sqrt(18), rel=1e-3)
    assert 0.02 < lesion.se_constants / lesion.value < 0.2
    assert lesion.se_total == pytest.approx(np.hypot(lesion.se, lesion.se_constants))


def test_regions_of_interest_reach_the_group(study):
    table = pd.read_csv(study.path('group_comparison'), sep='\t', na_values=['n/a'])
    row = table[(table.level == 'roi') & (table.name == 'lesion')
                & (table.quantity == 'cbf')].iloc[0]  # fmt: skip
    assert row.n_participants == PEOPLE
    assert row.low < 25.0 < row.high


def test_a_region_that_cannot_be_placed_and_a_folder_without_any_are_said(study, tmp_path):
    path = tmp_path / 'sub-01' / 'sub-01_label-x_mask.nii.gz'
    path.parent.mkdir()
    nb.Nifti1Image(np.ones((4, 4, 4), np.uint8), 3 * AFFINE).to_filename(path)
    text = '; '.join(save_rois(study.folder, tmp_path, read_summaries(study.folder)).absences)
    assert 'oef of rest of regions of interest: sub-01_label-x_mask.nii.gz should be in' in text
    assert 'sub-02 has no region of interest' in text
    with pytest.raises(SettingsError, match='holds no region of sub-01, sub-02'):
        study.group(**{'group.roi': str(tmp_path / 'nothing')})


def test_atlas_of_the_user_is_laid_on_the_template_and_its_table_checked(tmp_path):
    image, listed = tmp_path / 'atlas.nii.gz', tmp_path / 'atlas.tsv'
    labels = np.zeros((16, 18, 12), np.uint8)
    labels[:8] = 7
    nb.Nifti1Image(labels, FINE).to_filename(image)
    listed.write_text('index\tname\n7\tMCA left\n')
    grid = Grid((8, 9, 6), AFFINE)
    regions, found = read_regions(f'vascular={image},{listed}', grid)
    assert regions.to_dict('records') == [
        {'index': 7, 'name': 'MCA left', 'network': 'all', 'level': 'vascular'}
    ]
    np.testing.assert_array_equal(found[:4], 7)
    np.testing.assert_array_equal(found[4:], 0)
    listed.write_text('number\tname\n7\tx\n')
    with pytest.raises(SettingsError, match='should have columns index'):
        read_regions(f'vascular={image},{listed}', grid)
    with pytest.raises(SettingsError, match='NAME=IMAGE,TSV'):
        read_regions(f'{image},{listed}', grid)


def test_atlas_of_the_local_templateflow_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    folder = tmp_path / 'tpl-MNI152NLin6Asym'
    folder.mkdir()
    image = folder / 'tpl-MNI152NLin6Asym_res-01_atlas-HOCPA_desc-th25_dseg.nii.gz'
    image.write_bytes(b'')  # listed by TemplateFlow, and not fetched
    grid = Grid((8, 9, 6), AFFINE)
    with pytest.raises(SettingsError, match=r'res-02_atlas-HOCPA_desc-th25_dseg.* there: none'):
        read_regions('lobes=atlas-HOCPA_desc-th25', grid)
    nb.Nifti1Image(np.full((16, 18, 12), 3, np.uint8), FINE).to_filename(image)
    with pytest.raises(SettingsError, match=r'expected tpl-MNI152NLin6Asym_atlas.*_dseg\.tsv'):
        read_regions('lobes=atlas-HOCPA_desc-th25', grid)
    table = folder / 'tpl-MNI152NLin6Asym_atlas-HOCPA_dseg.tsv'
    table.write_text('index\tname\n0\tbackground\n3\tInsula\n')
    regions, labels = read_regions('lobes=atlas-HOCPA_desc-th25', grid)
    assert regions[['index', 'name', 'level']].to_numpy().tolist() == [[3, 'Insula', 'lobes']]
    assert (labels == 3).all()
    with pytest.raises(SettingsError, match='there: atlas-HOCPA_desc-th25'):
        read_regions('lobes=atlas-Other', grid)


def test_region_on_the_t1w_image_follows_the_alignment_of_the_scan(study, tmp_path):
    shift = np.array([8.0, 0.0, -5.0])  # point of the scan minus that of the T1w image
    transform = study.folder / output_path('xfm_scan', sub='02', scan='ASL', task='rest')
    transform.parent.mkdir(parents=True, exist_ok=True)
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    save_affine(matrix, transform.with_suffix('.txt'))
    structural = study.folder / output_path('preproc_t1w', sub='02')
    nb.Nifti1Image(np.zeros((16, 18, 12), np.float32), FINE).to_filename(structural)
    drawn = np.zeros((16, 18, 12), np.uint8)
    drawn[tuple(slice(2 * s.start - back, 2 * s.stop - back) for s, back in
                zip(LESION, (4, 0, -2), strict=True))] = 1  # fmt: skip
    path = tmp_path / 'sub-02' / 'sub-02_space-T1w_label-lesion_mask.nii.gz'
    path.parent.mkdir()
    nb.Nifti1Image(drawn, FINE).to_filename(path)
    summaries = [one for one in read_summaries(study.folder) if one['participant'] == '02']
    maps, means = save_rois(study.folder, tmp_path, summaries).values['oef_rest']
    assert maps.quantity == 'oef'
    assert means['02'].effect[0] == pytest.approx(0.2, rel=0.05)
    assert means['02'].n_voxels[0] == 18
