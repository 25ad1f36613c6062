"""Other ways to acquire: BOLD of several echoes, events in place of blocks."""

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
    rows = [f'{onset:.3f}\t1\t{one}' for onset, one in zip(onsets, types, strict=True)]
    table = '\n'.join(['onset\tduration\ttrial_type', *rows, ''])
    (folder / 'func/sub-01_task-all_events.tsv').write_text(table)
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--contrasts', 'faces-control', 'faces-houses', '--atlas', 'none',
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
