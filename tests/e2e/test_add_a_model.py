"""The page *Add a model*, followed literally in a copy of the tree."""

import json
import re

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support
from tests.e2e.pages import copy_tree, follow, run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Copy of the tree with the blocks of the page put where their captions say."""
    copy = copy_tree(tmp_path_factory.mktemp('tree'))
    follow('add-a-model', copy, at_most=3)
    return copy


def test_the_option_the_page_and_the_contract_tests_follow_from_the_row(tree):
    assert 'flow-limited' in run(tree, '-m', 'bids_app', '--help-all')
    run(tree, 'tools/make_docs.py')
    page = (tree / 'docs/reference/models/oef-flow-limited.md').read_text('utf-8')
    assert '(1 - E_0)^{F_0/F}' in page
    options = (
        '-q',
        '-p',
        'no:cacheprovider',
        'tests/models/test_registry.py',
        '-k',
        'flow-limited',
    )
    assert re.search(r'\d+ passed', run(tree, '-m', 'pytest', *options))


def test_maps_changes_and_report_are_made_by_the_new_model(tree, study, tmp_path):
    """Blood flow is all it needs: without the scans of the other models there is OEF and CMRO2."""
    out = tmp_path / 'out'
    run(
        tree, '-m', 'bids_app', study, out, 'participant', '--participant-label', '01',
        *support.anatomy_of(study), *support.HEADER, '--oef-model', 'flow-limited',
        '--ignore', 'mese', 'megre', 'dsc', 'bold',
    )  # fmt: skip
    folder, maps = out / 'sub-01' / 'perf', {}
    for name in ('cbf', 'oef'):
        for condition in ('calc', 'control'):
            path = folder / f'sub-01_task-{condition}_space-ASL_{name}.nii.gz'
            maps[name, condition] = nb.load(path).get_fdata()
    expected = 1 - 0.6 ** (50 / maps['cbf', 'calc'])
    np.testing.assert_allclose(maps['oef', 'calc'], expected, rtol=1e-5)
    sidecar = json.loads((folder / 'sub-01_task-calc_space-ASL_oef.json').read_text('utf-8'))
    assert sidecar['Model']['Name'] == 'flow-limited'
    effect = 'sub-01_space-ASL_contrast-calcMinusControl_stat-effect_desc-{}_statmap.nii.gz'
    change = nb.load(folder / effect.format('oef')).get_fdata()
    np.testing.assert_allclose(
        change, maps['oef', 'calc'] - maps['oef', 'control'], rtol=1e-4, atol=1e-6
    )
    assert (folder / effect.format('cmro2')).is_file()
    (unit,) = json.loads((out / 'logs' / 'sub-01_run_summary.json').read_text())['units']
    said = {row['map']: row['state'] for row in unit['maps']}
    assert said['change_oef'] == said['change_cmro2'] == 'made'
    assert 'predicted from blood flow by limited diffusion' in (out / 'sub-01.html').read_text()
