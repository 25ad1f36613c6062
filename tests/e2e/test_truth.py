"""The tiny study through both levels: truth is recovered, the dataset is whole and valid."""

import json
import re
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest

from bids_app.bids.output.names import match, table
from tests.e2e import support

pytestmark = pytest.mark.e2e

LABELS = ('01', '02')

TOLERANCE = {
    # largest error of the median over grey matter, percent
    'space-MESE_T2map': 1.5,
    'task-control_space-MESE_T2starmap': 1.5,
    'task-calc_space-MESE_T2starmap': 1.5,
    'task-control_space-MESE_R2primemap': 5.0,
    'task-calc_space-MESE_R2primemap': 5.0,
    'task-control_space-MESE_cbf': 5.0,
    'task-calc_space-MESE_cbf': 5.0,
    'space-MESE_desc-dsc_cbv': 8.0,
    'task-control_space-MESE_oef': 8.0,
    'task-calc_space-MESE_oef': 8.0,
    'task-control_space-MESE_cmro2': 8.0,
    'task-calc_space-MESE_cmro2': 8.0,
}

CHANGES = {
    # quantity -> part of the name that a BOLD change has besides
    'R2prime': '',
    'cbf': '',
    'oef': '',
    'cmro2': '',
    'boldPct': 'task-all_',
}

QUANTITY = {'T2map': 'T2', 'T2starmap': 'T2star', 'R2primemap': 'R2prime'}

NOT_IN_THIS_RUN = {
    'group_design',
    'group_map_covariate',  # --model
    'group_model',
    'group_norm',  # five participants
    'group_norm_regions',
    'group_deviations',  # --reference
    'norm_z',
    'asymmetry',  # anatomy.asymmetry
    'group_asymmetry',
    'roi_regions',  # --roi
    'graph',  # --write-graph
    'surface',  # --output-spaces fsLR
    'surface_regions',
    'group_surface',
    'group_mesh',
    'M',  # --hypercapnia
    'venous_blood',  # oxygen.venous_saturation
    'cvr',
    'epi_acquired',  # scans that say how they were read out: oxybold-phantom --distort-epi
    'epi_undistorted',
    'epi_shift',
    'k1',  # blood_volume.leakage
    'k2',
    'boluscbf',  # blood_volume.deconvolution
    'mtt',
    'tmax',
    'arterial_curve',
    'relative_cbf',  # ASL without M0
    'att',  # several delays
    'abv',  # perfusion.model multi-delay-arterial
    'grey_cbf',  # perfusion.partial_volume_correction
    'white_cbf',
    'alignment',  # registration: test_moving_head.py
    'confounds',
    'group_regression',  # three participants
    'group_yield',
    'group_covariate',  # --covariates or --groups
    'group_conjunction',  # two contrasts
    'group_latent',
    'group_pls_joint',
    'multiverse',  # --multiverse: test_replay.py
}

BOLD_UP, BOLD_DOWN = (1, 2), (3, 4)
"""True labels by the sign of the BOLD change; 5 and 6 of the app leave CMRO2 open."""


def find(folder, name):
    """The one image of this name."""
    (path,) = folder.rglob(f'sub-*_{name}.nii.gz')
    return support.read(path).astype(float)


def variance_name(name):
    """Name of the variance map of a value map."""
    stem, suffix = name.replace('_desc-dsc', '').rsplit('_', maxsplit=1)
    return f'{stem}_stat-variance_desc-{QUANTITY.get(suffix, suffix)}_statmap'


@pytest.fixture(scope='module')
def pooled(finished):
    """Give truth, estimate and variance of a map in grey matter, both participants pooled."""
    truth = finished.study / 'derivatives' / 'truth'

    def pool(name, variance):
        parts = []
        for label in LABELS:
            true, own = truth / f'sub-{label}', finished.output / f'sub-{label}'
            grey = find(true, 'space-MESE_label-GM_probseg') > 0.6
            maps = [find(true, name), find(own, name), find(own, variance)]
            inside = grey & np.isfinite(maps[0])
            assert np.isfinite(maps[1][inside]).mean() > 0.95, f'{name}: voxels without estimate'
            inside &= np.isfinite(maps[1])
            parts.append([values[inside] for values in maps])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    return pool


def test_both_levels_end_with_exit_code_0(finished):
    assert (finished.participant.code, finished.group.code) == (0, 0)
    assert 'complete: 2 complete; exit code 0' in finished.participant.last
    # two participants are too few for shares of discordance, which the verdict says
    assert 'degraded: 1 degraded; exit code 0' in finished.group.last


def test_last_log_line_exit_code_and_summary_agree(finished):
    for label in LABELS:
        verdict = support.summary(finished.output, label)['verdict']
        assert verdict == {'state': 'complete', 'exit_code': 0, 'reasons': []}
    last = json.loads((finished.output / 'logs' / 'run_summary.json').read_text())
    assert last['verdict']['exit_code'] == finished.group.code
    assert last['level'] == 'group'


@pytest.mark.parametrize('name', TOLERANCE)
def test_median_over_grey_matter_is_the_true_one(pooled, name):
    true, found, _ = pooled(name, variance_name(name))
    error = 100 * (np.median(found) / np.median(true) - 1)
    assert abs(error) < TOLERANCE[name]


@pytest.mark.parametrize('name', TOLERANCE)
def test_errors_of_a_map_have_the_variance_it_states(pooled, name):
    true, found, variance = pooled(name, variance_name(name))
    z = (found - true) / np.sqrt(variance)
    assert 0.9 < z.std() < 1.15
    assert abs(z.mean()) < 0.2


@pytest.mark.parametrize('quantity', CHANGES)
def test_errors_of_a_change_have_the_variance_it_states(pooled, quantity):
    name = f'{CHANGES[quantity]}space-MESE_contrast-calcMinusControl_stat-effect_desc-{quantity}'
    variance = name.replace('stat-effect', 'stat-variance')
    true, found, variance = pooled(f'{name}_statmap', f'{variance}_statmap')
    z = (found - true) / np.sqrt(variance)
    # stated too is what scans minutes apart may differ by, which those of the phantom do not
    assert (0.9 if quantity == 'boldPct' else 0.5) < z.std() < 1.15
    assert abs(z.mean()) < 0.2


@pytest.mark.parametrize('label', LABELS)
def test_robust_labels_follow_the_true_sign_of_the_bold_change(finished, label):
    name = 'task-all_space-MESE_seg-concordance_desc-calcMinusControl_dseg'
    true = find(finished.study / 'derivatives' / 'truth' / f'sub-{label}', name)
    found = find(finished.output / f'sub-{label}', name)
    up = np.isin(true, BOLD_UP) & (found > 0)
    down = np.isin(true, BOLD_DOWN) & (found > 0)
    none = (true == 7) & (found > 0)
    assert np.isin(found[up], (*BOLD_UP, 5, 7)).all()
    assert np.isin(found[down], (*BOLD_DOWN, 6, 7)).all()
    assert (found[up | down] != 7).mean() > 0.9
    assert (found[none] == 7).mean() > 0.9
    certain = np.isin(found, (1, 2, 3, 4)) & np.isin(true, (1, 2, 3, 4))
    wrong = int((found != true)[certain].sum())
    assert wrong <= max(1, 0.1 * certain.sum())


def test_every_report_shows_its_maps_and_no_nan_headline(finished):
    for name in ('sub-01', 'sub-02', 'group', 'index'):
        html = (finished.output / f'{name}.html').read_text()
        headlines = re.findall(r'<h\d[^>]*>(.*?)</h\d>', html, re.DOTALL)
        assert headlines
        assert not [text for text in headlines if re.search(r'\bnan\b', text, re.IGNORECASE)]
    for label in LABELS:
        html = (finished.output / f'sub-{label}.html').read_text()
        assert html.count('<img') + html.count('<svg') > 20
        assert not re.search(r'>\s*nan\b', html)


def test_work_directory_is_removed_after_success(finished):
    assert list((finished.output / '.oxybold' / 'work').iterdir()) == []


def files_of(output):
    """Every file of an output, below it; dot folders are not part of the dataset."""
    paths = [path.relative_to(output) for path in output.rglob('*') if path.is_file()]
    return [path for path in paths if path.parts[0] != '.oxybold']


def test_every_file_has_a_row_in_the_table_of_outputs(finished):
    assert [
        str(path) for path in files_of(finished.output) if match(path.as_posix()) is None
    ] == []


def test_every_row_of_the_table_is_made_by_the_run(finished):
    made = {match(path.as_posix())[0] for path in files_of(finished.output)}
    assert set(table().rows) - made == NOT_IN_THIS_RUN


WITHOUT_A_MODEL = re.compile(
    '_(T1w|mask|magnitude|fieldmap)$|_desc-reference_|_(label-[A-Z]+_probseg|atlas-.*_dseg)$|'
    r'sub-\d+_dseg$|desc-participants_summary$'
)
"""Pictures, masks and tissue: what is not computed by a model of the app."""


def sidecars(folder):
    """Every sidecar of a dataset with what it says."""
    found = list(folder.glob('*-*/**/*.json'))
    assert len(found) > 200
    return {path: json.loads(path.read_text()) for path in found}


def test_every_sidecar_names_sources_that_are_there(finished):
    about = json.loads((finished.output / 'dataset_description.json').read_text())
    roots = {'': finished.output} | {
        name: support.Path(urllib.request.url2pathname(link.removeprefix('file://')))
        for name, link in about['DatasetLinks'].items()
    }
    for path, sidecar in sidecars(finished.output).items():
        assert sidecar['Sources'], path.name
        for uri in sidecar['Sources']:
            scheme, dataset, place = uri.split(':', maxsplit=2)
            assert scheme == 'bids'
            assert (roots[dataset] / place).is_file(), f'{path.name}: {uri}'


def test_every_sidecar_names_model_constants_and_software(finished):
    for path, sidecar in sidecars(finished.output).items():
        assert {'oxybold', 'numpy', 'scipy'} <= set(sidecar['GeneratedWith']), path.name
        if WITHOUT_A_MODEL.search(path.stem):
            continue
        assert {'Quantity', 'Name'} <= set(sidecar['Model']), path.name
        for name, constant in sidecar['ModelParameters'].items():
            assert {'Value', 'Units', 'Origin'} == set(constant), f'{path.name}: {name}'


def test_every_image_and_table_has_a_sidecar_with_description(finished):
    for path in finished.output.rglob('sub-*/*/*.nii.gz'):
        sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert sidecar['Description'], path.name


def errors_of(folder):
    """Errors of the official validator, as code and file."""
    program = shutil.which('bids-validator-deno') or shutil.which(
        'bids-validator-deno', path=str(support.Path(support.sys.executable).parent)
    )
    if program is None:
        pytest.skip('bids-validator-deno is not installed')
    done = subprocess.run(
        [program, str(folder), '--format', 'json'], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)['issues']['issues']
    return [
        (issue['code'], issue.get('location'))
        for issue in issues
        if issue.get('severity', 'error') == 'error'
    ]


def test_validator_finds_no_error_in_the_phantom(finished):
    assert errors_of(finished.study) == []


def test_validator_finds_no_error_in_the_derivatives(finished):
    assert errors_of(finished.output) == []


def test_validator_would_find_an_error(finished, tmp_path):
    copy = tmp_path / 'out'
    shutil.copytree(finished.output, copy)
    (copy / 'sub-01' / 'anat' / 'sub-01_stray.nii.gz').write_bytes(b'x')
    assert errors_of(copy) != []
