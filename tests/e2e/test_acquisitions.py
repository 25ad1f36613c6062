"""Other ways to acquire: BOLD of several echoes, events, a task within one ASL series."""

import json

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e


def compared(study, output, quantity):
    """Effect and standard error of a change in grey matter, and the truth."""
    grey = support.read(output / 'sub-01/anat/sub-01_space-BOLD_label-GM_probseg.nii.gz') > 0.8
    name = (
        f'sub-01_task-all_space-{{}}_contrast-calcMinusControl_stat-{{}}_desc-{quantity}_statmap'
    )
    effect, variance = (
        support.read(output / 'sub-01/func' / f'{name.format("BOLD", one)}.nii.gz')[grey]
        for one in ('effect', 'variance')
    )
    truth = study / 'derivatives/truth/sub-01/func' / f'{name.format("MESE", "effect")}.nii.gz'
    true = support.read(truth)[grey] if truth.is_file() else np.zeros_like(effect)
    return effect, np.sqrt(variance), true


@pytest.fixture(scope='module')
def echoes(tmp_path_factory):
    """A study of BOLD with three echoes, and what the app makes of it."""
    root = support.phantom(tmp_path_factory.mktemp('echoes'), '--bold-echoes', participants=1)
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--ignore', 'mese', 'megre', 'dsc', 'asl',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    return root, made


@pytest.mark.parametrize('quantity', ['boldPct', 'boldR2star'])
def test_changes_from_echoes_are_the_true_ones_within_their_errors(echoes, quantity):
    effect, error, true = compared(*echoes, quantity)
    assert (effect @ true) / (true @ true) == pytest.approx(1, abs=0.05)
    assert 0.9 < np.mean(np.abs(effect - true) < 1.96 * error) < 0.98


def test_s0_does_not_change_where_only_oxygen_does(echoes):
    effect, error, _ = compared(*echoes, 'boldS0Pct')
    assert np.mean(np.abs(effect) > 1.96 * error) < 0.08


def test_echoes_are_named_in_sidecar_run_summary_and_report(echoes):
    _, output = echoes
    stem = 'sub-01_task-all_space-BOLD_contrast-calcMinusControl_stat-effect_desc-{}_statmap.json'
    about = [
        json.loads((output / 'sub-01/func' / stem.format(name)).read_text())
        for name in ('boldPct', 'boldR2star')
    ]
    assert about[0]['EchoTime'] == 0.03
    assert about[1]['EchoTimes'] == [0.013, 0.03, 0.047]
    assert len(about[1]['Sources']) == 4
    summary = json.loads((output / 'logs/sub-01_run_summary.json').read_text())
    maps = {row['map']: row['state'] for row in summary['units'][0]['maps']}
    assert maps['boldR2star'] == maps['boldS0Pct'] == 'made'
    page = (output / 'sub-01.html').read_text()
    assert 'R2* change during BOLD' in page


EFFECT = 0.012
"""Of one event, relative to the signal."""


@pytest.fixture(scope='module')
def events(study, tmp_path_factory):
    """A run of events of two types of which one acts on half of the slab, computed."""
    root = support.start_dataset(tmp_path_factory.mktemp('events') / 'study', study)
    folder = support.add_participant(root, study, '01', 't1w', 'bold')
    stem = folder / 'func' / 'sub-01_task-all'
    image = nb.load(f'{stem}_bold.nii.gz')
    mean = image.get_fdata().mean(axis=-1, keepdims=True)
    rng = np.random.default_rng(8)
    onsets = 5 + np.cumsum(rng.uniform(4, 9, 64))
    types = rng.choice(['faces', 'houses'], onsets.size)
    lag = 1.2 * np.arange(image.shape[3]) - onsets[:, np.newaxis]
    course = np.where(lag > 0, (np.maximum(lag, 0) / 5) ** 5 * np.exp(5 - np.maximum(lag, 0)), 0)
    course = course[types == 'faces'].sum(axis=0)
    active = np.zeros(mean.shape)
    active[:6] = EFFECT
    data = mean * (1 + active * course + 0.008 * rng.standard_normal(image.shape))
    nb.save(nb.Nifti1Image(data.astype(np.float32), image.affine, image.header),
            f'{stem}_bold.nii.gz')  # fmt: skip
    speed = rng.uniform(0.5, 1.5, onsets.size).round(3)
    rows = [f'{on:.3f}\t1\t{one}\t{rt}' for on, one, rt in zip(onsets, types, speed, strict=True)]
    table = '\n'.join(['onset\tduration\ttrial_type\trt', *rows, ''])
    (folder / 'func/sub-01_task-all_events.tsv').write_text(table)
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--contrasts', 'faces-control', 'faces-houses', '--set', 'bold.modulators=rt',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    return made


@pytest.mark.parametrize('contrast', ['facesMinusControl', 'facesMinusHouses'])
def test_response_to_events_is_found_where_it_is_with_its_error(events, contrast):
    stem = f'sub-01_task-all_space-BOLD_contrast-{contrast}_stat-{{}}_desc-boldPct_statmap'
    effect, variance = (
        support.read(events / 'sub-01/func' / f'{stem.format(one)}.nii.gz')
        for one in ('effect', 'variance')
    )
    z = effect / np.sqrt(variance)
    assert np.nanmean(effect[:6]) == pytest.approx(100 * EFFECT, rel=0.1)
    assert np.nanmean(np.abs(z[6:]) > 1.96) < 0.09
    about = json.loads((events / 'sub-01/func' / f'{stem.format("effect")}.json').read_text())
    told = about['Response']['faces']
    assert told['Measure'] == 'peak'
    assert told['Duration'] == 1
    assert 4 < told['From'] == told['To'] < 7
    assert about['Confounds'] == ['faces_rt', 'houses_rt']


FLOW, TASK_FLOW = 50.0, 65.0
"""mL/100 g/min; the second in half of the slab."""
ECHO_TIMES = (0.0112, 0.030)
"""s"""
RATE = -0.5
"""Change of R2* there, 1/s."""
BLOCKS = (60.0, 180.0, 300.0, 420.0, 540.0)
"""Onsets of blocks of 60 s, s."""


@pytest.fixture(scope='module')
def task_in_asl(study, tmp_path_factory):
    """One ASL series of two echoes in which a task runs, with BOLD in all volumes, computed."""
    root = support.start_dataset(tmp_path_factory.mktemp('functional') / 'study', study)
    folder = support.add_participant(
        root, study, '01', 't1w', 'asl',
        rename=lambda name: None if 'calc' in name else name.replace(
            'acq-control_', 'echo-1_' if '_asl.' in name else ''
        ),
    )  # fmt: skip
    stem = folder / 'perf' / 'sub-01'
    m0_about = json.loads(stem.with_name('sub-01_m0scan.json').read_text())
    m0_about['IntendedFor'] = ['bids::sub-01/perf/sub-01_echo-1_asl.nii.gz']
    stem.with_name('sub-01_m0scan.json').write_text(json.dumps(m0_about))
    about = json.loads(stem.with_name('sub-01_echo-1_asl.json').read_text())
    del about['TotalAcquiredPairs']
    image = nb.load(f'{stem}_echo-1_asl.nii.gz')
    m0 = support.read(stem.with_name('sub-01_m0scan.nii.gz')).astype(float)
    time = 4.5 * np.arange(160)
    task = np.any([(time >= on + 4) & (time < on + 64) for on in BLOCKS], axis=0)
    flow = np.full((*m0.shape, time.size), FLOW)
    flow[:6][..., task] = TASK_FLOW
    delay = 1.8 + np.array(about['SliceTiming'])  # Alsop et al. 2015, eq. 1
    kept = 2 * 0.85 * 0.93**4 * 1.65 * (1 - np.exp(-1.8 / 1.65)) * np.exp(-delay / 1.65)
    per_flow = m0 / (1 - np.exp(-4.5 / 1.6)) * kept / 0.9 / 6000
    data = np.tile(0.15 * m0[..., np.newaxis], time.size)
    data[..., ::2] -= (per_flow[..., np.newaxis] * flow)[..., ::2]
    rate = np.zeros(data.shape)
    rate[:6][..., task] = RATE
    rng = np.random.default_rng(4)
    for echo, echo_time in enumerate(ECHO_TIMES, start=1):
        decay = np.exp(-20 * (echo_time - ECHO_TIMES[0]) - echo_time * rate)
        noise = 1.2e-3 * m0.max() * rng.standard_normal(data.shape)
        nb.save(nb.Nifti1Image((data * decay + noise).astype(np.float32), image.affine),
                f'{stem}_echo-{echo}_asl.nii.gz')  # fmt: skip
        own = json.dumps(about | {'EchoTime': echo_time})
        stem.with_name(f'sub-01_echo-{echo}_asl.json').write_text(own)
    kinds = ['volume_type', *['label', 'control'] * 80]
    stem.with_name('sub-01_aslcontext.tsv').write_text('\n'.join(kinds) + '\n')
    rows = [f'{onset}\t60\tcalc' for onset in BLOCKS]
    table = '\n'.join(['onset\tduration\ttrial_type', *rows, ''])
    stem.with_name('sub-01_events.tsv').write_text(table)
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--set', 'perfusion.t1_tissue=1.6', '--atlas', 'none',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    return made


def flow_of(output, name):
    """A map of the functional series in grey matter: the active half and the other."""
    grey = support.read(output / 'sub-01/anat/sub-01_space-ASL_label-GM_probseg.nii.gz') > 0.8
    values = support.read(output / f'sub-01/perf/sub-01_{name}.nii.gz')
    half = np.zeros_like(grey)
    half[:6] = True
    return values[grey & half], values[grey & ~half]


def test_flow_of_each_condition_within_a_series_is_the_true_one(task_in_asl):
    for condition, true in (('calc', TASK_FLOW), ('control', FLOW)):
        active, other = flow_of(task_in_asl, f'task-{condition}_space-ASL_cbf')
        assert np.nanmean(active) == pytest.approx(true, rel=0.03)
        assert np.nanmean(other) == pytest.approx(FLOW, rel=0.03)


def test_change_of_flow_within_a_series_has_its_error_and_no_more(task_in_asl):
    stem = 'space-ASL_contrast-calcMinusControl_stat-{}_desc-cbf_statmap'
    effect, variance = (flow_of(task_in_asl, stem.format(one)) for one in ('effect', 'variance'))
    z = [
        (one - true) / np.sqrt(var)
        for one, var, true in zip(effect, variance, (TASK_FLOW - FLOW, 0.0), strict=True)
    ]
    assert np.nanmean(effect[0]) == pytest.approx(TASK_FLOW - FLOW, rel=0.05)
    for one in z:
        assert np.nanstd(one) == pytest.approx(1, abs=0.12)
    name = f'sub-01_{stem.format("effect")}.json'
    about = json.loads((task_in_asl / 'sub-01/perf' / name).read_text())
    assert about['BetweenScans'] == {}
    name = 'sub-01_task-calc_space-ASL_cbf.json'
    about = json.loads((task_in_asl / 'sub-01/perf' / name).read_text())
    assert about['ConditionsWithinSeries'] is True


@pytest.mark.parametrize(
    ('quantity', 'true'),
    [('boldPct', -100 * 0.030 * RATE), ('boldR2star', RATE), ('boldS0Pct', 0.0)],
)
def test_bold_of_the_later_echo_is_apart_from_the_label(task_in_asl, quantity, true):
    stem = f'func/sub-01_task-asl_space-ASL_contrast-calcMinusControl_stat-{{}}_desc-{quantity}'
    effect, variance = (
        support.read(task_in_asl / 'sub-01' / f'{stem.format(one)}_statmap.nii.gz')
        for one in ('effect', 'variance')
    )
    z = effect / np.sqrt(variance)
    assert np.nanmean(effect[:6]) == pytest.approx(true, rel=0.05, abs=0.05)
    assert np.nanmean(effect[6:]) == pytest.approx(0, abs=0.05)
    assert 0.8 < np.nanstd(z[6:]) < 1.1
