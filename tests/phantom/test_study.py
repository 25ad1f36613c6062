import ast
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

import bids_app.phantom
from bids_app.phantom.cli import main
from bids_app.phantom.study import PhantomStudy, make_study

PACKAGE = Path(bids_app.phantom.__file__).parent


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('phantom') / 'bids'
    assert main([str(folder), '--grid', 'tiny', '--participants', '2', '--seed', '7']) == 0
    return folder


def load(path):
    return nb.load(path).get_fdata()


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_phantom_shares_no_code_with_the_app():
    for path in PACKAGE.glob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        types_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and getattr(node.test, 'id', '') == 'TYPE_CHECKING'
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in types_only:
                continue
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('bids_app'):
                is_version = node.module == 'bids_app' and node.names[0].name == '__version__'
                assert is_version or node.module.startswith('bids_app.phantom'), path


def test_same_seed_gives_the_same_bytes(root, tmp_path):
    # fewer participants: the first does not depend on how many follow
    assert main([str(tmp_path / 'b'), '--grid', 'tiny', '--participants', '1', '--seed', '7']) == 0
    first, again = digests(root / 'sub-01'), digests(tmp_path / 'b' / 'sub-01')
    assert first == again
    truth = Path('derivatives', 'truth', 'sub-01')
    assert digests(root / truth) == digests(tmp_path / 'b' / truth)


def test_participants_differ(root):
    a, b = digests(root / 'sub-01'), digests(root / 'sub-02')
    images = [name for name in a if name.endswith('.nii.gz')]
    assert all(a[name] != b[name.replace('sub-01', 'sub-02')] for name in images)


def test_study_is_valid_bids(root):
    validator = shutil.which('bids-validator-deno', path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip('bids-validator-deno is not installed')
    done = subprocess.run(
        [validator, '--format', 'json', str(root)], capture_output=True, check=False
    )
    issues = json.loads(done.stdout)['issues']['issues']
    assert [i for i in issues if i['severity'] == 'error'] == []


def test_every_scan_of_the_target_study_is_there(root):
    name = 'sub-01'
    folder = root / name
    wanted = {f'anat/{name}_T1w', f'perf/{name}_dsc', f'func/{name}_task-all_bold'}
    wanted |= {f'anat/{name}_echo-{i}_MESE' for i in range(1, 9)}
    for c in ('control', 'calc'):
        wanted |= {f'perf/{name}_acq-{c}_{kind}' for kind in ('asl', 'm0scan')}
        wanted |= {
            f'anat/{name}_task-{c}_echo-{i}_part-{part}_MEGRE'
            for i in range(1, 13)
            for part in ('mag', 'phase')
        }
    images = {str(p.relative_to(folder))[:-7] for p in folder.rglob('*.nii.gz')}
    assert images == wanted
    for stem in wanted:
        sidecar = json.loads((folder / f'{stem}.json').read_text(encoding='utf-8'))
        assert sidecar['MagneticFieldStrength'] == 3


def test_series_have_their_repetition_time_and_length(root):
    image = nb.load(root / 'sub-01' / 'func' / 'sub-01_task-all_bold.nii.gz')
    assert image.shape == (12, 12, 6, 400)
    assert image.header.get_zooms()[3] == pytest.approx(1.2)
    asl = nb.load(root / 'sub-01' / 'perf' / 'sub-01_acq-calc_asl.nii.gz')
    context = (root / 'sub-01' / 'perf' / 'sub-01_acq-calc_aslcontext.tsv').read_text()
    assert asl.shape[3] == len(context.split()) - 1 == 78


def truth_maps(root):
    folder = root / 'derivatives' / 'truth' / 'sub-01'
    grey = load(folder / 'anat' / 'sub-01_space-MESE_label-GM_probseg.nii.gz') > 0.8
    region = load(folder / 'anat' / 'sub-01_space-MESE_desc-regions_dseg.nii.gz')
    label = load(
        folder
        / 'func'
        / 'sub-01_task-all_space-MESE_seg-concordance_desc-calcMinusControl_dseg.nii.gz'
    )
    stem = 'sub-01_space-MESE_contrast-calcMinusControl_stat-effect_desc'
    change = load(folder / 'perf' / f'{stem}-cmro2_statmap.nii.gz')
    bold = load(
        folder / 'func' / f'{stem.replace("_space", "_task-all_space")}-boldPct_statmap.nii.gz'
    )
    return grey, region, label, change, bold


def test_true_labels_are_the_signs_of_the_true_changes(root):
    grey, region, label, change, bold = truth_maps(root)
    signs = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}
    for index, (bold_sign, change_sign) in signs.items():
        here = grey & (region == index)
        assert here.sum() > 50
        assert np.all(label[here] == index)
        assert np.all(np.sign(bold[here]) == bold_sign)
        assert np.all(np.sign(change[here]) == change_sign)
    null = grey & (region == 5)
    assert np.all(label[null] == 7)
    assert np.abs(bold[null & ~near(region)]).max() < 1e-6


def near(region):
    """Voxels beside a region that changes (the slab's null region lies in the upper slices)."""
    return np.broadcast_to(np.arange(region.shape[2]) < 5, region.shape)


def test_true_maps_obey_the_closed_forms(root):
    folder = root / 'derivatives' / 'truth' / 'sub-01'
    numbers = json.loads((folder / 'sub-01_desc-truth_parameters.json').read_text())

    def perf(name):
        return load(folder / 'perf' / f'sub-01_{name}.nii.gz')

    def anat(name):
        return load(folder / 'anat' / f'sub-01_{name}.nii.gz')

    r2_prime = 1 / anat('task-calc_space-MESE_T2starmap') - 1 / anat('space-MESE_T2map')
    assert anat('task-calc_space-MESE_R2primemap') == pytest.approx(r2_prime, abs=1e-4)
    cbv = perf('space-MESE_desc-dsc_cbv') / 100
    oef = perf('task-calc_space-MESE_oef')
    assert oef == pytest.approx(
        r2_prime / (numbers['StaticDephasingConstant'] * cbv), rel=1e-4, nan_ok=True
    )
    cmro2 = numbers['CaO2'] * oef * perf('task-calc_space-MESE_cbf')
    assert perf('task-calc_space-MESE_cmro2') == pytest.approx(cmro2, rel=1e-4, nan_ok=True)


def test_white_matter_has_its_reference_blood_volume(root):
    folder = root / 'derivatives' / 'truth' / 'sub-01'
    white = load(folder / 'anat' / 'sub-01_space-MESE_label-WM_probseg.nii.gz') > 0.95
    cbv = load(folder / 'perf' / 'sub-01_space-MESE_desc-dsc_cbv.nii.gz')
    assert white.sum() > 50
    assert cbv[white] == pytest.approx(2.5, rel=0.01)


def test_a_plain_inverse_of_the_raw_images_finds_the_truth(root):
    """Two-point estimates of the stored images: the writer, the units and the truth agree."""
    grey = truth_maps(root)[0]
    folder, made = root / 'derivatives' / 'truth' / 'sub-01', root / 'sub-01'
    echoes = [load(made / 'anat' / f'sub-01_echo-{i}_MESE.nii.gz')[grey] for i in (1, 8)]
    t2 = 0.112 / np.log(echoes[0] / echoes[1])
    true_t2 = load(folder / 'anat' / 'sub-01_space-MESE_T2map.nii.gz')[grey]
    assert np.median(t2 / true_t2) == pytest.approx(1.0, abs=0.015)

    series = load(made / 'perf' / 'sub-01_acq-calc_asl.nii.gz')
    m0 = load(made / 'perf' / 'sub-01_acq-calc_m0scan.nii.gz') / (1 - np.exp(-4.5 / 1.6))
    delay = 1.8 + 0.035 * np.arange(6)
    difference = (series[..., 0::2] - series[..., 1::2]).mean(-1)
    factor = 6000 * 0.9 * np.exp(delay / 1.65)
    factor = factor / (2 * 0.85 * 0.93**4 * 1.65 * (1 - np.exp(-1.8 / 1.65)))
    cbf = (difference / m0 * factor)[grey]
    true_cbf = load(folder / 'perf' / 'sub-01_task-calc_space-MESE_cbf.nii.gz')[grey]
    assert np.median(cbf) / np.median(true_cbf) == pytest.approx(1.0, abs=0.03)


def test_field_displaces_the_echo_planar_images_on_request(root, tmp_path):
    folder = tmp_path / 'distorted'
    arguments = ['--grid', 'tiny', '--participants', '1', '--seed', '7', '--distort-epi']
    assert main([str(folder), *arguments]) == 0
    for name in ('func/sub-01_task-all_bold', 'perf/sub-01_dsc', 'perf/sub-01_acq-calc_asl'):
        plain, moved = (load(base / 'sub-01' / f'{name}.nii.gz').mean(-1)
                        for base in (root, folder))  # fmt: skip
        assert np.abs(moved - plain).mean() > 0.02 * plain.mean()
        assert moved.sum() == pytest.approx(plain.sum(), rel=0.1)
        sidecar = json.loads((folder / 'sub-01' / f'{name}.json').read_text())
        assert sidecar['PhaseEncodingDirection'] == 'j'
        assert sidecar['EffectiveEchoSpacing'] == pytest.approx(0.03 / 12)
    name = 'anat/sub-01_task-calc_echo-1_part-mag_MEGRE.nii.gz'
    np.testing.assert_array_equal(load(root / 'sub-01' / name), load(folder / 'sub-01' / name))


def test_imperfections_change_the_scans_they_name_and_no_truth(root, tmp_path):
    folder = tmp_path / 'imperfect'
    arguments = ['--grid', 'tiny', '--participants', '1', '--seed', '7', '--noise',
                 'physiological', '--coils', '4', '--soft-edges', '.1', '--scale-error',
                 '.04', '--refocusing', 'slab']  # fmt: skip
    assert main([str(folder), *arguments]) == 0
    before, after = digests(root / 'sub-01'), digests(folder / 'sub-01')
    changed = {name for name in before if before[name] != after[name]}
    images = {name for name in before if name.endswith('.nii.gz') and 'T1w' not in name}
    assert changed == images | {name for name in before if name.endswith('_MESE.json')}
    sidecar = folder / 'sub-01' / 'anat' / 'sub-01_echo-1_MESE.json'
    assert json.loads(sidecar.read_text())['MRAcquisitionType'] == '3D'
    truth = Path('derivatives', 'truth', 'sub-01')
    assert digests(root / truth) == digests(folder / truth)


def test_handed_over_anatomy_is_complete(root):
    folder = root / 'derivatives' / 'fmriprep' / 'sub-01' / 'anat'
    names = sorted(p.name.removeprefix('sub-01_') for p in folder.iterdir())
    assert [n for n in names if not n.endswith('.json')] == [
        'desc-brain_mask.nii.gz',
        'desc-preproc_T1w.nii.gz',
        'from-MNI152NLin6Asym_to-T1w_mode-image_xfm.txt',
        'from-T1w_to-MNI152NLin6Asym_mode-image_xfm.txt',
        'label-CSF_probseg.nii.gz',
        'label-GM_probseg.nii.gz',
        'label-WM_probseg.nii.gz',
    ]
    total = sum(load(folder / f'sub-01_label-{t}_probseg.nii.gz') for t in ('GM', 'WM', 'CSF'))
    assert total == pytest.approx(1.0, abs=1e-3)


def test_third_condition_is_a_task_of_its_own(tmp_path):
    study = PhantomStudy(
        root=tmp_path, n_participants=1, conditions=('rest', 'mem', 'control'), grid='tiny'
    )
    assert list(make_study(study)) == ['01']
    rows = (tmp_path / 'sub-01' / 'func' / 'sub-01_task-all_events.tsv').read_text().splitlines()
    assert {row.split('\t')[2] for row in rows[1:]} == {'rest', 'mem'}
    table = tmp_path / 'derivatives' / 'truth' / 'sub-01' / 'sub-01_desc-effects_regions.tsv'
    contrasts = {row.split('\t')[0] for row in table.read_text().splitlines()[1:]}
    assert contrasts == {'restMinusControl', 'memMinusControl'}


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['--grid', 'huge'], 'tiny, coarse, study'),
        (['--conditions', 'control,my-task'], 'letters and digits'),
        (['--conditions', 'control,control'], 'different labels'),
        (['--participants', '0'], '1 to 999'),
        (['--movement', '20'], '0 to 10'),
        (['--coils', '0'], '1 to 64'),
        (['--refocusing', '.5'], 'slab or at least 1'),
        (['--readout', 'fourier', '--grid', 'tiny'], 'whole head'),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(tmp_path, capsys, arguments, reason):
    out = tmp_path / 'out'
    assert main([str(out), *arguments]) == 64
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / 'mine.txt').write_text('mine')
    assert main([str(tmp_path), '--grid', 'tiny']) == 64
    assert 'empty' in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_unwritable_place_has_its_own_exit_code(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main([str(tmp_path / 'file' / 'out'), '--grid', 'tiny']) == 73
    assert 'cannot be written' in capsys.readouterr().err


def test_help_and_version_answer_without_the_sciences():
    code = (
        'import sys; from bids_app.phantom.cli import main; main(["--version"]);'
        'sys.exit(bool({"numpy", "scipy", "nibabel"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_study_of_patients_has_groups_one_condition_and_no_bold(tmp_path):
    root = tmp_path / 'study'
    arguments = ['--grid', 'tiny', '--participants', '2', '--design', 'patients']
    assert main([str(root), *arguments]) == 0
    table = (root / 'participants.tsv').read_text().splitlines()
    assert table[0] == 'participant_id\tHct\tSaO2\tgroup\tage\taffected_side'
    assert [line.split('\t')[3] for line in table[1:]] == ['control', 'patient']
    assert {path.name.split('_')[1] for path in root.glob('sub-*/anat/*MEGRE.json')} == {
        'task-rest'
    }
    assert not list(root.rglob('*_bold*'))


def test_every_second_patient_is_affected_on_the_right_where_that_is_asked(tmp_path):
    root = tmp_path / 'study'
    arguments = ['--grid', 'tiny', '--participants', '4', '--design', 'patients', '--either-side']
    assert main([str(root), *arguments]) == 0
    table = (root / 'participants.tsv').read_text().splitlines()
    assert [line.split('\t')[5] for line in table[1:]] == ['n/a', 'n/a', 'left', 'right']
    assert main([str(tmp_path / 'other'), '--either-side']) == 64
