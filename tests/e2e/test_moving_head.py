"""A head that moves, as scanned: registration, movement within the series, and the truth."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bids_app.bids.output.names import match, row
from tests.e2e import support, trees

pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def moved(tmp_path_factory):
    folder = tmp_path_factory.mktemp('moved')
    study, output = folder / 'study', folder / 'out'
    support.make_phantom([
        str(study), '--grid', 'coarse', '--participants', '1', '--conditions', 'control,calc',
        '--seed', '7',
    ])  # fmt: skip
    spaces = ('MNI152NLin6Asym', trees.template(folder / 'template', 'Made'))
    options = ('--sloppy', '--output-spaces', *spaces)
    return study, output, support.run_app(study, output, 'participant', *options, '--nprocs', '2')


def test_participant_is_complete(moved):
    _, _, outcome = moved
    assert outcome.code == 0, outcome.log


def test_estimates_are_within_the_tolerances_of_the_demo(moved):
    study, output, _ = moved
    compare = [sys.executable, '-m', 'bids_app.phantom.compare', str(study), str(output)]
    done = subprocess.run(compare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rows_that_need_registration_are_made(moved):
    _, output, _ = moved
    files = [path.relative_to(output) for path in output.rglob('*') if path.is_file()]
    made = {found[0] for path in files if (found := match(path.as_posix())) is not None}
    assert {'alignment', 'confounds'} <= made


def test_another_template_is_normalised_to_like_the_packaged_one(moved):
    _, output, _ = moved
    (own,) = output.rglob('*_space-MNI152NLin6Asym_res-2_label-GM_probseg.nii.gz')
    (other,) = output.rglob('*_space-Made_label-GM_probseg.nii.gz')
    np.testing.assert_array_equal(support.read(own), support.read(other))
    assert len(list(output.rglob('*Made_mode-image_xfm.h5'))) == 1
    assert len(list(output.rglob('*from-Made_to-T1w_mode-image_xfm.h5'))) == 1


def test_movement_enters_the_bold_model(moved):
    _, output, _ = moved
    table = next((output / 'sub-01' / 'func').glob('*desc-nuisance_timeseries.tsv'))
    columns = list(pd.read_csv(table, sep='\t', na_values='n/a'))
    assert columns[:3] == list(row('nuisance').columns)
    assert columns[3:] == ['trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z']


@pytest.mark.prove
def test_registration_repeats_to_the_bit_with_any_number_of_processes(moved, tmp_path):
    """A second run, by one process, in the packaged space only."""
    study, output, _ = moved
    options = ('--sloppy', '--nprocs', '1')
    outcome = support.run_app(study, tmp_path / 'out', 'participant', *options)
    assert outcome.code == 0, outcome.log
    first, second = (support.results(folder) for folder in (output, tmp_path / 'out'))
    assert sum(name.endswith('_xfm.txt') for name in second) >= 7
    assert sum(name.endswith('_xfm.h5') for name in second) == 2
    assert {name: first[name] for name in second if name.startswith('sub-01/')} == {
        name: digest for name, digest in second.items() if name.startswith('sub-01/')
    }
