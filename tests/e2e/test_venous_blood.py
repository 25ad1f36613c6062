"""Venous blood as an anchor of OEF: compared, and on request the scale of OEF and CMRO2."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

WRONG = ('--set', 'oxygen.susceptibility=1.8e-7')
"""OEF is half as large again with it."""
EFFECT = 'perf/sub-01_space-MESE_contrast-calcMinusControl_stat-{}_desc-{}_statmap.nii.gz'
SATURATION_ERROR = 0.02


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """A study whose venous blood is known: what tissue leaves of the oxygen that it is brought."""
    root = support.phantom(tmp_path_factory.mktemp('venous'), participants=1)
    truth = root / 'derivatives/truth/sub-01'
    true = 'sub-01_task-control_space-MESE_desc-tissue_'
    grey = support.read(truth / 'anat/sub-01_space-MESE_label-GM_probseg.nii.gz') > 0.5
    flow, oef = (
        support.read(truth / f'perf/{true}{name}.nii.gz')[grey] for name in ('cbf', 'oef')
    )
    extraction = (flow * oef).sum() / flow.sum()
    path = root / 'participants.tsv'
    header, row = path.read_text().splitlines()
    sao2 = float(row.split('\t')[header.split('\t').index('SaO2')]) / 100
    yv, se = f'{sao2 * (1 - extraction):.4f}', f'{SATURATION_ERROR}'
    path.write_text(f'{header}\tYv\tYv_se\n{row}\t{yv}\t{se}\n')
    unit = {'Units': '1'}
    support.edit_json(path.with_suffix('.json'), lambda about: about.update(Yv=unit, Yv_se=unit))
    return root, extraction, sao2


@pytest.fixture(scope='module')
def runs(study, tmp_path_factory):
    """The same study with a wrong constant: only compared, and scaled."""
    folder = tmp_path_factory.mktemp('runs')
    named = {'compared': (), 'scaled': ('--oef-scale', 'venous')}
    for name, options in named.items():
        outcome = support.run_app(
            study[0], folder / name, 'participant', *support.anatomy_of(study[0]),
            *support.HEADER, *WRONG, *options,
        )  # fmt: skip
        assert outcome.code == 0, outcome.log
    return folder


def grey_median(out, name):
    data = support.read(out / f'sub-01/perf/sub-01_task-control_space-MESE_{name}.nii.gz')
    grey = support.read(out / 'sub-01/anat/sub-01_space-MESE_label-GM_probseg.nii.gz') > 0.8
    return float(np.nanmedian(data[grey]))


def test_comparison_finds_the_wrong_constant_and_leaves_the_maps(runs, study):
    table = pd.read_csv(
        runs / 'compared/sub-01/perf/sub-01_desc-venousBlood_oef.tsv', sep='\t'
    ).iloc[0]
    assert table['extraction'] == pytest.approx(study[1], abs=1e-3)
    assert table['scale'] == pytest.approx(0.18 / 0.264, rel=0.05)
    assert table['z'] > 5
    assert table['applied'] == 'no'
    page = (runs / 'compared/sub-01.html').read_text()
    assert 'OEF beside venous blood' in page


def test_scaled_maps_have_the_extraction_of_venous_blood(runs, study):
    oef, cmro2 = (grey_median(runs / 'scaled', name) for name in ('oef', 'cmro2'))
    assert oef == pytest.approx(study[1], rel=0.03)
    factor = oef / grey_median(runs / 'compared', 'oef')
    assert cmro2 / grey_median(runs / 'compared', 'cmro2') == pytest.approx(factor, rel=1e-4)
    about = json.loads(
        (runs / 'scaled/sub-01/perf/sub-01_task-calc_space-MESE_oef.json').read_text()
    )
    assert about['VenousBlood']['IsApplied']
    assert about['VenousBlood']['Scale'] == pytest.approx(factor, rel=1e-4)


def test_changes_are_scaled_and_their_signs_and_labels_are_not(runs):
    for quantity in ('oef', 'cmro2'):
        factor = {
            name: support.read(runs / name / 'sub-01' / EFFECT.format('effect', quantity))
            for name in ('compared', 'scaled')
        }
        known = np.isfinite(factor['compared']) & (factor['compared'] != 0)
        ratio = factor['scaled'][known] / factor['compared'][known]
        assert ratio == pytest.approx(0.18 / 0.264, rel=0.05)
        assert np.ptp(ratio) < 1e-4
        z = [
            support.read(runs / x / 'sub-01' / EFFECT.format('z', quantity))[known] for x in factor
        ]
        np.testing.assert_allclose(*z, rtol=1e-3)
    name = 'func/sub-01_task-all_space-MESE_seg-concordance_desc-calcMinusControl_dseg.nii.gz'
    labels = [support.read(runs / run / 'sub-01' / name) for run in ('compared', 'scaled')]
    np.testing.assert_array_equal(*labels)


def test_error_of_the_saturation_is_in_the_total_variance_and_not_in_the_random_one(runs, study):
    perf = runs / 'scaled/sub-01/perf'
    stem = 'sub-01_task-control_space-MESE_{}.nii.gz'
    spread = 'stat-variance_desc-oef{}_statmap'
    value, random, total = (
        support.read(perf / stem.format(one))
        for one in ('oef', spread.format(''), spread.format('Total'))
    )
    known = np.isfinite(value) & (value > 0)
    common = np.sqrt((total - random)[known]) / value[known]
    _, extraction, sao2 = study
    by_saturation = SATURATION_ERROR / sao2 / extraction
    by_arterial = 0.01 * (1 - extraction) / extraction
    assert common == pytest.approx(np.hypot(by_saturation, by_arterial), rel=0.03)
    before = support.read(runs / 'compared/sub-01/perf' / stem.format(spread.format('')))
    factor = grey_median(runs / 'scaled', 'oef') / grey_median(runs / 'compared', 'oef')
    np.testing.assert_allclose(random[known], factor**2 * before[known], rtol=1e-4)
    about = json.loads(
        (perf / stem.format(spread.format('Total')).replace('nii.gz', 'json')).read_text()
    )
    assert about['ConstantsError']['Effects']['oxygen.venous_saturation'] < 0
    assert 'oxygen.venous_saturation' not in about['ConstantsError']['SharedByGroup']
    assert 'oxygen.susceptibility' not in about['ConstantsError']['Effects']


def test_replay_takes_the_scale_away_and_gives_it_back(runs, tmp_path):
    for start, scale, expected in (
        ('scaled', 'model', 'compared'),
        ('compared', 'venous', 'scaled'),
    ):
        out = tmp_path / scale
        outcome = support.run_app(
            runs / start, out, 'participant', '--replay', f'oxygen.oef_scale={scale}'
        )
        assert outcome.code == 0, outcome.log
        for name in ('oef', 'cmro2'):
            assert grey_median(out, name) == pytest.approx(
                grey_median(runs / expected, name), rel=1e-4
            )
    outcome = support.run_app(
        tmp_path / 'model',
        tmp_path / 'again',
        'participant',
        '--replay',
        'oxygen.oef_scale=venous',
    )
    assert outcome.code != 0  # a replay of a replay has no grey matter
    assert 'replay the first run' in outcome.log


def test_asymmetric_echo_is_scaled_once_and_replayed_from_what_its_model_made(
    tmp_path_factory, tmp_path
):
    root = support.phantom(
        tmp_path_factory.mktemp('ase'), '--asymmetric-spin-echo', participants=1
    )
    shutil.rmtree(root / 'sub-01/func')
    options = (
        '--oef-model',
        'qbold',
        '--cbv-model',
        'ase',
        '--set',
        'oxygen.venous_saturation=0.7',
    )
    made = {}
    for name in ('model', 'venous'):
        outcome = support.run_app(
            root, tmp_path / name, 'participant', *support.anatomy_of(root), *support.HEADER,
            *options, '--oef-scale', name,
        )  # fmt: skip
        assert outcome.code == 0, outcome.log
        made[name] = tmp_path / name
    outcome = support.run_app(
        made['venous'], tmp_path / 'back', 'participant', '--replay', 'oxygen.oef_scale=model'
    )
    assert outcome.code == 0, outcome.log
    effect = EFFECT.format('effect', 'cmro2')
    for path in ('perf/sub-01_task-control_space-MESE_oef.nii.gz', effect):
        model, venous, back = (
            support.read(out / 'sub-01' / path)
            for out in (made['model'], made['venous'], tmp_path / 'back')
        )
        known = np.isfinite(model) & (model != 0)
        facts = made['venous'] / 'sub-01/perf/sub-01_task-control_space-MESE_oef.json'
        scale = json.loads(facts.read_text())['VenousBlood']['Scale']
        np.testing.assert_allclose(venous[known], scale * model[known], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(back[known], model[known], rtol=1e-4, atol=1e-4)
