"""Anatomy, BOLD and CBF of other software give what the app finds itself."""

import json
import shutil

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support, trees

pytestmark = pytest.mark.e2e

BOLD = 'func/sub-01_task-all_space-MESE_contrast-calcMinusControl_stat-effect_desc-boldPct'


@pytest.fixture(scope='module')
def raw(study):
    return study / 'sub-01' / 'func' / 'sub-01_task-all_bold.nii.gz'


def run(study, output, *trees_and_options):
    """Run one participant, headers trusted."""
    return support.run_app(
        study, output, 'participant', '--participant-label', '01', *trees_and_options,
        *support.HEADER,
    )  # fmt: skip


def voxels(output, name):
    """Values of a map of a run."""
    return nb.load(output / 'sub-01' / f'{name}.nii.gz').get_fdata()


def sidecar(output, name):
    """JSON beside a map of a run."""
    return json.loads((output / 'sub-01' / f'{name}.json').read_text())


@pytest.fixture(scope='module')
def other(study, raw, finished, tmp_path_factory):
    """A run on everything that fMRIPrep and ASLPrep left."""
    folder = tmp_path_factory.mktemp('other')
    prepared, perfused = (trees.start(folder / n, n) for n in ('fmriprep', 'aslprep'))
    anatomy = trees.add_anatomy(prepared, study)
    (known,) = anatomy.glob('*_from-T1w_to-MNI152NLin6Asym_mode-image_xfm.h5')
    shutil.copyfile(known, known.with_name(known.name.replace('MNI152NLin6Asym', 'Made')))
    spaces = [trees.template(folder / name, name) for name in ('Made', 'Absent')]
    trees.add_bold_in_t1w_space(prepared, raw)
    trees.add_cbf(perfused, study, finished.output)
    named = ('-d', f'fmriprep={prepared}', '-d', f'aslprep={perfused}')
    outcome = run(study, folder / 'out', *named, '--output-spaces', 'MNI152NLin6Asym', *spaces)
    assert outcome.code == 0, outcome.log
    return folder / 'out'


def test_another_template_gets_the_maps_of_the_packaged_one_by_the_transform_found(other):
    made = {path.name: path for path in other.rglob('sub-01_*space-Made_*.nii.gz')}
    packaged = [path for path in other.rglob('sub-01_*space-MNI152NLin6Asym_*.nii.gz')]
    assert len(made) == len(packaged) > 20
    for path in packaged:
        name = path.name.replace('MNI152NLin6Asym', 'Made').replace('_res-2', '')
        np.testing.assert_array_equal(support.read(made[name]), support.read(path), name)
    about = json.loads(next(other.rglob('*space-Made*cbf_statmap.json')).read_text())
    assert about['SpatialReference'] == 'tpl-Made_T1w.nii.gz'
    assert not list(other.rglob('*space-Absent*'))
    notes = support.summary(other, '01')['units'][0]['notes']
    assert 'derivatives fmriprep: no transform from T1w to Absent; nothing is made there' in notes


def test_bold_in_t1w_space_is_that_of_the_own_path_within_interpolation(other, finished):
    own, found = (voxels(output, f'{BOLD}_statmap') for output in (finished.output, other))
    both = np.isfinite(own) & np.isfinite(found)
    error = voxels(finished.output, f'{BOLD}_statmap'.replace('effect', 'variance'))[both] ** 0.5
    assert both.sum() > 0.7 * np.isfinite(own).sum()
    assert np.median(np.abs(own - found)[both] / error) < 0.5
    assert abs(np.median((own - found)[both])) < 0.02 * np.percentile(np.abs(own[both]), 95)


def test_transforms_as_hdf5_give_the_same_template_maps(other, finished):
    for name in ('anat/sub-01_space-MNI152NLin6Asym_res-2_label-GM_probseg',
                 'anat/sub-01_space-MNI152NLin6Asym_res-2_desc-brain_mask'):  # fmt: skip
        own, found = (voxels(output, name) for output in (finished.output, other))
        np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('condition', ['control', 'calc'])
def test_cbf_of_aslprep_is_taken_as_it_is_with_its_error(other, finished, condition):
    name = f'perf/sub-01_task-{condition}_space-MESE'
    own, found = (voxels(output, f'{name}_cbf') for output in (finished.output, other))
    both = np.isfinite(own) & np.isfinite(found)
    assert both.sum() > 0.9 * np.isfinite(own).sum()
    np.testing.assert_allclose(found[both], own[both], rtol=1e-3)
    own, found = (
        voxels(o, f'{name}_stat-variance_desc-cbf_statmap')[both] for o in (finished.output, other)
    )
    assert 0.7 < np.median(found / own) < 1.4


def test_sources_name_the_derivatives(other):
    nuisance = sidecar(other, 'func/sub-01_task-all_desc-nuisance_timeseries')
    assert nuisance['Sources'][0].endswith('sub-01_task-all_space-T1w_desc-preproc_bold.nii.gz')
    assert nuisance['Sources'][0].startswith('bids:fmriprep:')
    flow = sidecar(other, 'perf/sub-01_task-calc_space-MESE_cbf')
    assert any('bids:aslprep:' in uri for uri in flow['Sources'])


def test_bold_on_its_own_grid_is_brought_back_by_its_transform(study, raw, finished, tmp_path):
    prepared = trees.start(tmp_path / 'fmriprep', 'fmriprep')
    trees.add_anatomy(prepared, study)
    trees.add_bold_of_its_own(prepared, raw)
    ignored = ('--ignore', 'asl', 'dsc', 'megre')
    outcome = run(study, tmp_path / 'out', '-d', f'fmriprep={prepared}', *ignored)
    assert outcome.code == 0, outcome.log
    own, found = (voxels(o, f'{BOLD}_statmap') for o in (finished.output, tmp_path / 'out'))
    both = np.isfinite(own) & np.isfinite(found)
    error = voxels(finished.output, f'{BOLD}_statmap'.replace('effect', 'variance'))[both] ** 0.5
    assert both.sum() > 0.8 * np.isfinite(own).sum()
    assert np.percentile(np.abs(own - found)[both] / error, 95) < 0.5
