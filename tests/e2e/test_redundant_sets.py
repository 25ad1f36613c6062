"""Redundant sets of the gradient echo go through the app as a user has them."""

import json

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e


def test_redundant_sets_are_merged_and_give_the_r2_star_of_the_truth(tmp_path):
    study = support.phantom(tmp_path, '--redundant-sets', participants=1)
    output = tmp_path / 'out'
    options = (*support.anatomy_of(study), *support.HEADER)
    outcome = support.run_app(study, output, 'participant', *options)
    assert outcome.code == 0

    name = 'anat/sub-01_task-control_space-MESE_T2starmap'
    sidecar = json.loads((output / 'sub-01' / f'{name}.json').read_text())
    assert sidecar['RedundantSetsMerged'] == 2
    maps = [
        nb.load(folder / 'sub-01' / f'{name}.nii.gz').get_fdata()
        for folder in (output, study / 'derivatives' / 'truth')
    ]
    both = np.isfinite(maps[0]) & np.isfinite(maps[1])
    assert np.median(maps[0][both] / maps[1][both]) == pytest.approx(1, abs=0.02)

    sidecar = json.loads(
        next((output / 'sub-01' / 'anat').glob('*control*stat-inconsistency*.json')).read_text()
    )
    assert sidecar['SetDisplacement'] == [0.0, 0.0, 0.0]
    assert sidecar['SetDisagreement'] < 3
