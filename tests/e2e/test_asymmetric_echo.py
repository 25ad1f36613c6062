"""A site with asymmetric spin echoes and ASL, without multi-echo scans and contrast agent."""

import numpy as np
import pytest

from bids_app.phantom.cli import main as make_phantom
from tests.e2e import support

pytestmark = pytest.mark.e2e

CONTRAST = 'contrast-calcMinusControl_stat'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """Raw data of one participant and what the app made of them."""
    root = tmp_path_factory.mktemp('ase') / 'raw'
    arguments = (str(root), '--grid', 'tiny', '--participants', '1', '--seed', '1')
    assert make_phantom([*arguments, '--asymmetric-spin-echo']) == 0
    output = root.parent / 'out'
    options = (*support.HEADER, '--ignore', 'mese', 'megre', 'dsc')
    # nothing drifts between the scans of this phantom, and the errors shall be those of its noise
    options += ('--set', 'change.between_scans=none')
    outcome = support.run_app(root, output, 'participant', *support.anatomy_of(root), *options)
    assert outcome.code == 0
    return root / 'derivatives/truth/sub-01', output


def grey(output):
    return support.read(output / 'sub-01/anat/sub-01_space-ASE_label-GM_probseg.nii.gz') > 0.8


@pytest.mark.parametrize(
    ('folder', 'suffix', 'true', 'bar'),
    [
        ('anat', 'R2primemap', 'R2primemap', 0.02),
        ('perf', 'oef', 'oef', 0.05),
        ('perf', 'cmro2', 'cmro2', 0.05),
    ],
)
def test_medians_of_grey_matter_are_true(site, folder, suffix, true, bar):
    truth, output = site
    for condition in ('control', 'calc'):
        name = f'{folder}/sub-01_task-{condition}_space-'
        found = support.read(output / 'sub-01' / f'{name}ASE_{suffix}.nii.gz')
        expected = support.read(truth / f'{name}MESE_{true}.nii.gz')
        inside = grey(output)
        assert np.nanmedian(found[inside]) == pytest.approx(np.median(expected[inside]), rel=bar)


def test_the_change_of_metabolism_has_true_errors(site):
    truth, output = site
    start = output / 'sub-01/perf' / f'sub-01_space-ASE_{CONTRAST}'
    effect, variance = (
        support.read(start.with_name(f'{start.name}-{name}_desc-cmro2_statmap.nii.gz'))
        for name in ('effect', 'variance')
    )
    name = f'perf/sub-01_space-MESE_{CONTRAST}-effect_desc-cmro2_statmap.nii.gz'
    z = ((effect - support.read(truth / name)) / np.sqrt(variance))[grey(output)]
    assert 0.9 < np.nanstd(z) < 1.1
    assert 0.92 < np.nanmean(np.abs(z) < 1.96) < 0.98


def test_labels_and_regions_are_made(site):
    _, output = site
    assert list(output.rglob('sub-01_task-all_space-ASE_seg-concordance_*_dseg.nii.gz'))
    assert list(output.rglob('sub-01_contrast-*_desc-concordance_summary.tsv'))


def test_a_replay_scales_what_was_fitted(site, tmp_path):
    _, output = site
    outcome = support.run_app(
        output, tmp_path / 'out', 'participant', '--nprocs', '1', '--replay', 'oxygen.b0=6.0'
    )
    assert outcome.code == 0
    name = 'sub-01/perf/sub-01_task-calc_space-ASE_oef.nii.gz'
    ratio = support.read(tmp_path / 'out' / name) / support.read(output / name)
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 0.5, rtol=1e-5)
