"""Studies without a task: maps of one condition, groups and formulas of participants.tsv."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_app.group import workflow
from bids_app.group.design import make_design
from bids_app.group.permutation import max_statistic
from bids_app.group.statistics import random_effects, weigh_participants
from bids_app.images import load_data
from bids_app.settings import GroupSettings
from tests.group.support import BLOCK, Study

PEOPLE = 12
AFFECTED = (slice(42, 44), slice(26, 30), slice(44, 48))
"""Half of the block."""
DIFFERENCE = 0.06


@pytest.fixture(scope='module')
def patients(tmp_path_factory):
    """Six controls and six patients, who are older and have a higher OEF in half of the block."""
    study = Study(tmp_path_factory.mktemp('patients'))
    rng = np.random.default_rng(3)
    lines = ['participant_id\tgroup\tage']
    for number in range(1, PEOPLE + 1):
        sub, is_patient = f'{number:02d}', number > PEOPLE // 2
        age = rng.uniform(20, 40) + 15 * is_patient
        study.summary(sub)
        study.image(0.9, 'probseg', sub=sub, label='GM')
        level = 0.4 + 0.002 * (age - 40)
        oef = level + 0.005 * rng.standard_normal((4, 4, 4))
        oef[:2] += DIFFERENCE * is_patient
        study.image(oef, 'oef', sub=sub, condition='rest')
        study.image(0.005**2, 'variance', sub=sub, condition='rest', quantity='oef')
        study.image(0.08 + 0.005 * rng.standard_normal((4, 4, 4)), 'T2map', sub=sub)
        study.image(0.005**2, 'variance', sub=sub, quantity='T2')
        kind = 'patient' if is_patient else 'control'
        lines.append(f'sub-{sub}\t{kind}\t{age:.2f}')
    (study.run.bids_dir / 'participants.tsv').write_text('\n'.join(lines) + '\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        study.verdict = study.group(**{'group.model': '~ group + age', 'group.permutations': 99})
    return study


def rest_map(study, quantity, statistic, **entities):
    key = 'group_map_covariate' if 'column' in entities else 'group_map'
    return study.path(key, quantity=quantity, statistic=statistic, res='2', **entities)


def test_maps_of_a_condition_are_described(patients):
    (verdict,) = patients.verdict.verdicts
    assert verdict.reasons == ()
    mean, spread, relative, coverage = (
        load_data(rest_map(patients, 'oef', name, condition='rest'))[BLOCK]
        for name in ('effect', 'sd', 'cv', 'coverage')
    )
    assert mean.mean() == pytest.approx(0.4 + DIFFERENCE / 4, abs=0.03)
    np.testing.assert_allclose(relative, spread / mean, rtol=1e-5)
    assert (coverage == 1).all()
    assert rest_map(patients, 'T2', 'effect').is_file()
    assert not list(patients.folder.rglob('*stat-t_desc-oef*task-rest*'))


def test_difference_of_groups_is_recovered_with_age_and_not_without(patients):
    at = {'condition': 'rest', 'column': 'grouppatientMinuscontrol'}
    path = rest_map(patients, 'oef', 'effect', **at)
    found = load_data(path)
    assert found[AFFECTED].mean() == pytest.approx(DIFFERENCE, rel=0.1)
    sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    assert sidecar['Column'] == 'patient minus control'
    slope = load_data(rest_map(patients, 'oef', 'effect', condition='rest', column='age'))
    assert slope[BLOCK].mean() == pytest.approx(0.002, rel=0.2)


def test_regions_hold_means_differences_and_effect_sizes(patients):
    path = patients.path('group_comparison')
    table = pd.read_csv(path, sep='\t', na_values=['n/a'])
    brain = table[table.level == 'brain'].set_index(['quantity', 'test'])
    mean = brain.loc['oef', 'mean']
    assert mean.n_participants == PEOPLE
    assert np.isnan(mean.t)
    assert mean.low < mean.effect < mean.high
    row = brain.loc['oef', 'patient minus control']
    assert row.low < DIFFERENCE / 2 < row.high
    assert row.d_low < row.d < row.d_high
    assert row.p < 0.001
    assert brain.loc['T2', 'patient minus control'].p > 0.01


def test_design_is_written_for_other_programs(patients):
    table = pd.read_csv(patients.path('group_design'), sep='\t')
    wide = table.pivot_table(index='participant', columns='column', values='value')
    assert list(wide.columns) == ['age', 'group[T.patient]', 'mean']
    assert wide['age'].mean() == pytest.approx(0, abs=1e-4)
    assert len(wide) == PEOPLE


# ------------------------------------------------------------------------------ arrays

TWENTY = [f'{number:02d}' for number in range(1, 41)]


def design_of(folder, rng, model):
    """Make 20 controls and 20 patients who are ten years older."""
    is_patient = np.arange(40) >= 20
    age = rng.normal(50, 8, 40) + 10 * is_patient
    kind = np.where(is_patient, 'patient', 'control')
    lines = [
        f'sub-{name}\t{group}\t{years:.4f}'
        for name, group, years in zip(TWENTY, kind, age, strict=True)
    ]
    (folder / 'participants.tsv').write_text('participant_id\tgroup\tage\n' + '\n'.join(lines))
    design, _ = make_design([folder], TWENTY, GroupSettings(model=model))
    return design.matrix_of(TWENTY, 'grouppatientMinuscontrol'), is_patient, age


@pytest.mark.parametrize(('model', 'expected'), [('~ group + age', 0.06), ('~ group', 0.08)])
def test_age_confounds_the_difference_unless_it_is_in_the_model(model, expected, tmp_path):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        matrix, is_patient, age = design_of(tmp_path, rng, model)
        oef = 0.35 + 0.002 * (age - 50)[:, None] + 0.04 * rng.standard_normal((40, 200))
        oef += DIFFERENCE * is_patient[:, None]
        variances = np.full_like(oef, 0.03**2)
        found.append(random_effects(oef, variances, design=matrix).effect.mean())
    assert np.mean(found) == pytest.approx(expected, rel=0.1)


@pytest.mark.prove
def test_family_wise_error_of_a_difference_with_a_covariate_is_nominal(tmp_path):
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng([9, seed])
        matrix, _, age = design_of(tmp_path, rng, '~ group + age')
        common = rng.standard_normal((40, 1))
        oef = 0.02 * (age - 50)[:, None] + 0.7 * common + rng.standard_normal((40, 300))
        found = max_statistic(
            [(oef, None)], weigh_participants(oef, None, matrix), matrix,
            n_permutations=199, rng=rng,
        )  # fmt: skip
        hits += found.p.min() <= 0.05
    assert 0.03 <= hits / 200 <= 0.07


def test_report_draws_every_participant_by_group_and_what_was_tested(patients):
    from bids_app.engines.templates import SPACE
    from bids_app.reports.derivatives import list_derivatives
    from bids_app.reports.group.people import people

    charts = people(list_derivatives(patients.folder, f'tpl-{SPACE}'), patients.folder)
    by_title = {chart.title: chart.svg for chart in charts.strips}
    assert set(by_title) == {'OEF of rest (%), grey matter', 'T2 (ms), grey matter'}
    oef = by_title['OEF of rest (%), grey matter']
    assert oef.count('<circle') == PEOPLE
    assert 'control (6)' in oef
    assert 'patient (6)' in oef
    titles = [chart.title for chart in charts.forests]
    assert 'OEF of rest (%): patient minus control' in titles
    values = pd.read_csv(patients.folder / charts.tables[0], sep='\t', na_values=['n/a'])
    brain = values[(values.level == 'brain') & (values.quantity == 'oef')]
    assert brain.groupby('group').size().to_dict() == {'control': 6, 'patient': 6}
    assert (brain.se > 0).all()


def test_page_of_the_study_holds_its_charts_and_their_files(patients):
    from bids_app.reports.render import render_group

    report = render_group(patients.folder)
    assert report.missing == ()
    page = report.path.read_text()
    assert 'id="people"' in page
    assert 'download="OEF of rest (%), grey matter.svg"' in page
    assert 'href="tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_desc-values_summary.tsv"' in page


def test_studies_of_one_modality_reach_the_group_and_who_lacks_what_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, 'render_group', lambda output_dir: None)
    monkeypatch.setattr(workflow, 'render_index', lambda output_dir: '')
    study = Study(tmp_path)
    rng = np.random.default_rng(8)
    for sub in ('01', '02', '03', '04'):
        study.summary(sub)
        study.image(0.9, 'probseg', sub=sub, label='GM')
        rows = {'cbf': ('cbf', 'rest', 50.0)} if sub < '03' else {
            'T2map': ('T2', None, 0.08), 'R2primemap': ('R2prime', 'rest', 4.0)
        }  # fmt: skip
        for key, (quantity, condition, level) in rows.items():
            at = {'sub': sub, 'condition': condition}
            study.image(level * (1 + 0.05 * rng.standard_normal((4, 4, 4))), key, **at)
            study.image((0.1 * level) ** 2, 'variance', quantity=quantity, **at)
    (verdict,) = study.group(**{'group.permutations': 20}).verdicts
    assert rest_map(study, 'cbf', 'effect', condition='rest').is_file()
    assert rest_map(study, 'T2', 'effect').is_file()
    assert rest_map(study, 'R2prime', 'effect', condition='rest').is_file()
    assert 'cbf of rest without 03, 04' in verdict.reasons
    table = pd.read_csv(study.path('group_participants'), sep='\t').set_index('participant')
    assert 'no map of T2' in table.loc['sub-01', 'reason']
