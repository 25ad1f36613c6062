"""The page *Add a model*, followed literally in a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support
from tests.paths import ROOT

pytestmark = pytest.mark.e2e

PAGE = ROOT / 'docs' / 'how-to' / 'add-a-model.md'
BLOCK = re.compile(
    r'```\{code-block\} \w+\n:caption: ([^\n,]+)(?:, ([^\n]*))?\n\n(.*?)```', re.DOTALL
)


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Copy of the tree with the blocks of the page put where their captions say."""
    copy = tmp_path_factory.mktemp('tree')
    for name in ('benchmarks', 'bids_app', 'docs', 'tests', 'tools'):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('README.md', 'pyproject.toml'):
        shutil.copy(ROOT / name, copy / name)
    blocks = BLOCK.findall(PAGE.read_text('utf-8'))
    assert len(blocks) == 3, 'at most three files by hand'
    for name, place, text in blocks:
        path = copy / name
        if not place:
            path.write_text(text, 'utf-8')
        elif place == 'at the end':
            path.write_text(f'{path.read_text("utf-8")}\n{text}', 'utf-8')
        else:
            line = re.fullmatch('after "(.*)"', place)[1] + '\n'
            old = path.read_text('utf-8')
            assert old.count(line) == 1
            path.write_text(old.replace(line, line + text), 'utf-8')
    return copy


def run(tree, *words):
    """Run Python in the copy; return what it printed."""
    environment = {**os.environ, 'PYTHONPATH': str(tree)}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    assert 'predicted from blood flow by limited diffusion' in (out / 'sub-01.html').read_text()
