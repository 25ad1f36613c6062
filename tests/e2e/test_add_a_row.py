"""The pages on how to add an output map, figure, role, ASL kind, statistic, followed literally."""

import json
import shutil

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support
from tests.e2e.pages import copy_tree, follow, run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Copy of the tree that followed all of them."""
    copy = copy_tree(tmp_path_factory.mktemp('tree'))
    follow('add-an-output-map', copy, at_most=2)
    follow('add-a-report-figure', copy, at_most=1)
    follow('add-a-scan-role', copy, at_most=2)
    follow('add-an-asl-kind', copy, at_most=3)
    follow('add-a-statistic', copy, at_most=3)
    return copy


@pytest.fixture(scope='module')
def dataset(study, tmp_path_factory):
    """The study with an image of the new role and the new labelling for one participant."""
    folder = tmp_path_factory.mktemp('dataset') / 'study'
    shutil.copytree(study, folder)
    image = folder / 'sub-01' / 'anat' / 'sub-01_FLAIR.nii.gz'
    image.parent.mkdir(exist_ok=True)
    nb.save(nb.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), image)
    image.with_name('sub-01_FLAIR.json').write_text('{"EchoTime": 0.12}')
    for sidecar in (folder / 'sub-01' / 'perf').glob('*_asl.json'):
        content = json.loads(sidecar.read_text()) | {'ArterialSpinLabelingType': 'ACCASL'}
        del content['LabelingEfficiency']
        sidecar.write_text(json.dumps(content))
    return folder


def test_pages_of_reference_have_the_new_rows(tree):
    run(tree, 'tools/make_docs.py')
    for page, text in (('outputs', 'Mean of the odd minus mean of the even'), ('inputs', 'FLAIR'),
                       ('outputs', 'standard error')):  # fmt: skip
        assert text in (tree / 'docs' / 'reference' / f'{page}.md').read_text('utf-8')


def test_files_of_the_new_role_are_found_and_read(tree, dataset, tmp_path):
    text = run(
        tree, '-m', 'bids_app', dataset, tmp_path / 'out', 'participant',
        '--dry-run', '--json', *support.anatomy_of(dataset),
    )  # fmt: skip
    told = json.loads(text)
    first, second = told['participants']
    assert [row['path'] for row in first['roles'] if row['role'] == 'flair'] == [
        'sub-01/anat/sub-01_FLAIR.nii.gz'
    ]
    notes = [note for unit in first['units'] for note in unit['notes']]
    assert 'sub-01_FLAIR.nii.gz: echo time 0.12 s, not used yet' in notes
    assert 'flair' not in {row['role'] for row in second['roles']}


@pytest.fixture(scope='module')
def out(tree, dataset, tmp_path_factory):
    """Output of both participants, blood flow only, and of the group."""
    out = tmp_path_factory.mktemp('made') / 'out'
    run(
        tree, '-m', 'bids_app', dataset, out, 'participant',
        *support.anatomy_of(dataset), *support.HEADER,
        '--ignore', 'mese', 'megre', 'dsc', 'bold',
    )  # fmt: skip
    run(tree, '-m', 'bids_app', dataset, out, 'group', '--set', 'group.permutations=20')
    return out


def test_flow_of_the_new_labelling_is_that_of_its_bolus(study, out):
    name = 'sub-01_task-control_space-ASL_cbf'
    sidecar = json.loads((out / 'sub-01' / 'perf' / f'{name}.json').read_text('utf-8'))
    assert sidecar['ArterialSpinLabelingType'] == 'ACCASL'
    flow = nb.load(out / 'sub-01' / 'perf' / f'{name}.nii.gz').get_fdata()
    t1 = sidecar['ModelParameters']['t1_blood']['Value']
    # the phantom labels continuously for 1.8 s with an efficiency of 0.85
    factor = 0.85 * t1 * -np.expm1(-1.8 / t1) / (0.8 * 1.8 * np.exp(-0.9 / t1))
    usual = run_app_flow(study, out.parent / 'usual')
    known = np.isfinite(usual) & np.isfinite(flow)
    assert known.any()
    np.testing.assert_allclose(flow[known], usual[known] * factor, rtol=1e-4, atol=1e-3)


def run_app_flow(study, out):
    """Blood flow of the same participant, labelled as the phantom says."""
    options = (*support.anatomy_of(study), *support.HEADER, '--participant-label', '01')
    ignored = ('--ignore', 'mese', 'megre', 'dsc', 'bold')
    assert support.run_app(study, out, 'participant', *options, *ignored).code == 0
    path = out / 'sub-01' / 'perf' / 'sub-01_task-control_space-ASL_cbf.nii.gz'
    return nb.load(path).get_fdata()


def test_new_map_is_written_and_shown(out):
    name = 'sub-01_task-control_space-ASL_stat-{}_statmap'
    folder = out / 'sub-01' / 'perf'
    scatter = nb.load(folder / f'{name.format("scatter_desc-pairs")}.nii.gz').get_fdata()
    z = nb.load(folder / f'{name.format("z_desc-oddMinusEven")}.nii.gz').get_fdata()
    known = np.isfinite(z)
    assert known.any()
    assert np.array_equal(np.sign(scatter[known]), np.sign(z[known]))
    sidecar = json.loads((folder / f'{name.format("scatter_desc-pairs")}.json').read_text())
    assert sidecar['Units'] == 'arbitrary'
    assert sidecar['Description'].startswith('Mean of the odd minus mean of the even')
    page = (out / 'sub-01.html').read_text('utf-8')
    assert 'Noise without a shape.' in page
    assert '*_statmap.*' in (out / '.bidsignore').read_text('utf-8')


def test_new_statistic_is_written_for_participants_and_group(out):
    found = sorted(out.rglob('*_stat-error_desc-cbf_statmap.nii.gz'))
    assert {path.relative_to(out).parts[0] for path in found} > {'sub-01', 'sub-02'}
    assert any(path.parts[-3].startswith('tpl-') for path in found)
    for path in found:
        variance = path.with_name(path.name.replace('stat-error', 'stat-variance'))
        if not variance.is_file():  # of a column of the design
            continue
        error, square = (nb.load(one).get_fdata() for one in (path, variance))
        np.testing.assert_allclose(error, np.sqrt(square), rtol=1e-5)
        sidecar = json.loads(path.with_name(path.name[:-7] + '.json').read_text('utf-8'))
        assert sidecar['Units'] == 'mL/100 g/min'
