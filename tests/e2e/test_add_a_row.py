"""The pages *Add an output map*, *a report figure*, *a scan role*, followed literally."""

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
    return copy


@pytest.fixture(scope='module')
def dataset(study, tmp_path_factory):
    """The study with an image of the new role for one participant."""
    folder = tmp_path_factory.mktemp('dataset') / 'study'
    shutil.copytree(study, folder)
    image = folder / 'sub-01' / 'anat' / 'sub-01_FLAIR.nii.gz'
    image.parent.mkdir(exist_ok=True)
    nb.save(nb.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), image)
    image.with_name('sub-01_FLAIR.json').write_text('{"EchoTime": 0.12}')
    return folder


def test_pages_of_reference_have_the_new_rows(tree):
    run(tree, 'tools/make_docs.py')
    for page, text in (('outputs', 'Mean of the odd minus mean of the even'), ('inputs', 'FLAIR')):
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


def test_new_map_is_written_and_shown(tree, dataset, tmp_path):
    out = tmp_path / 'out'
    run(
        tree, '-m', 'bids_app', dataset, out, 'participant', '--participant-label', '01',
        *support.anatomy_of(dataset), *support.HEADER,
        '--ignore', 'mese', 'megre', 'dsc', 'bold',
    )  # fmt: skip
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
    assert 'stat-scatter' in (out / '.bidsignore').read_text('utf-8')
