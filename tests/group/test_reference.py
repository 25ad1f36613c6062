"""One against many: norms that a group exports, and others compared with them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_app.errors import SettingsError
from bids_app.group import workflow
from bids_app.group.norms import compare_with_norm, fit_norm
from bids_app.images import load_data
from tests.group.support import BLOCK, Study

PEOPLE = 8
SPREAD = 0.02
NOISE = 0.005
LOSS = -0.2
"""Of OEF of the patient in half of the block."""


def level_of(age, rng):
    return 0.4 - 0.004 * (age - 40) + SPREAD * rng.standard_normal()


def add_person(study, sub, age, rng, change=0.0):
    study.summary(sub)
    study.image(0.9, 'probseg', sub=sub, label='GM')
    oef = level_of(age, rng) + NOISE * rng.standard_normal((4, 4, 4))
    oef[:2] += change
    study.image(oef, 'oef', sub=sub, condition='rest')
    study.image(NOISE**2, 'variance', sub=sub, condition='rest', quantity='oef')


@pytest.fixture(scope='module')
def studies(tmp_path_factory):
    """Eight people of reference, their norm alone in a folder, and one patient of 60 years."""
    rng = np.random.default_rng(5)
    norm = Study(tmp_path_factory.mktemp('norm'))
    ages = np.linspace(25, 55, PEOPLE)
    lines = ['participant_id\tage']
    for number, age in enumerate(ages, start=1):
        add_person(norm, f'{number:02d}', age, rng)
        lines.append(f'sub-{number:02d}\t{age}')
    (norm.run.bids_dir / 'participants.tsv').write_text('\n'.join(lines) + '\n')
    patient = Study(tmp_path_factory.mktemp('patient'))
    add_person(patient, '77', 60, rng, LOSS)
    add_person(patient, '78', 60, rng)
    table = 'participant_id\tage\nsub-77\t60\nsub-78\tn/a\n'
    (patient.run.bids_dir / 'participants.tsv').write_text(table)
    shared = tmp_path_factory.mktemp('shared')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        norm.group(**{'group.model': '~ age', 'group.permutations': 20})
        for path in norm.folder.rglob('*norm*'):
            shutil.copy(path, shared)
        patient.verdict = patient.group(**{'group.reference': str(shared)})
    return norm, patient, shared


def test_norm_is_small_and_names_nobody(studies):
    _, _, shared = studies
    names = sorted(path.name for path in shared.iterdir())
    assert [name.rpartition('_')[2] for name in names] == [
        'summary.json', 'summary.tsv', 'norm.json', 'norm.nii.gz'
    ]  # fmt: skip
    for path in shared.glob('*.json'):
        assert 'sub-' not in path.read_text()
    facts = json.loads(next(shared.glob('*norm.json')).read_text())
    assert facts['Terms'] == ['mean', 'age']
    assert facts['Encoding']['centres'] == {'age': pytest.approx(40)}


def test_patient_is_compared_with_people_of_the_same_age(studies):
    _, patient, _ = studies
    table = pd.read_csv(patient.path('group_deviations'), sep='\t', na_values=['n/a'])
    assert set(table.participant) == {'sub-77'}
    brain = table[table.level == 'brain'].iloc[0]
    assert brain.expected == pytest.approx(0.4 - 0.004 * 20, abs=3 * SPREAD)
    assert brain.low < brain.expected < brain.high
    z = load_data(
        patient.path('norm_z', sub='77', res='2', quantity='oef', statistic='zNorm',
                     condition='rest')
    )[BLOCK]  # fmt: skip
    assert (z[:2] < -2).mean() > 0.9
    voxels = table[table.level == 'voxel'].iloc[0]
    assert (voxels.n_voxels, voxels.n_expected) == (64, pytest.approx(3.2))
    assert voxels.n_beyond >= 30
    assert voxels.volume_ml == pytest.approx(64 * 0.008)


def test_who_lacks_a_covariate_of_the_norm_is_named(studies):
    _, patient, _ = studies
    (verdict,) = patient.verdict.verdicts
    assert any('sub-78 cannot be compared with the norm: no value of age' in reason
               for reason in verdict.reasons)  # fmt: skip


def test_own_output_or_a_folder_without_norm_is_no_reference(studies, tmp_path):
    norm, patient, _ = studies
    with pytest.raises(SettingsError, match='is the output itself'):
        norm.group(**{'group.reference': str(norm.folder)})
    with pytest.raises(SettingsError, match=r'holds no norm in MNI152NLin6Asym: expected \*_norm'):
        patient.group(**{'group.reference': str(tmp_path)})


# ------------------------------------------------------------------------------ arrays


def test_prediction_interval_is_that_of_regression():
    """Against the textbook interval of statsmodels."""
    api = pytest.importorskip('statsmodels.api')
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(15), rng.normal(size=15)])
    y = x @ [2.0, 0.5] + rng.normal(size=15)
    found = compare_with_norm(fit_norm(y[:, None], None, x), [3.0], None, [1.0, 0.7])
    frame = api.OLS(y, x).fit().get_prediction([[1.0, 0.7]]).summary_frame()
    assert found.low[0] == pytest.approx(frame.obs_ci_lower[0], rel=1e-9)
    assert found.high[0] == pytest.approx(frame.obs_ci_upper[0], rel=1e-9)


@pytest.mark.parametrize('noise', [0.0, 0.5])
@pytest.mark.parametrize('size', [10, 20, 40])
def test_without_a_difference_five_percent_of_regions_are_beyond(size, noise):
    """
    400 participants against norms of 10, 20 and 40, age as covariate; in 20 regions.

    Values are of a skew-free but not normal spread (a mixture of two groups' widths would be
    heavy-tailed; here uniform plus normal), errors of measurement differ between participants by
    a log-normal factor of log SD `noise`.
    """
    rng = np.random.default_rng([size, int(10 * noise)])
    beyond = []
    for _ in range(400):
        age = rng.uniform(20, 80, size + 1)
        random = np.exp(rng.normal(0, noise, (size + 1, 1))) * np.ones((1, 20))
        spread = rng.uniform(-1.7, 1.7, (size + 1, 20)) * 0.6 + 0.8 * rng.normal(
            size=(size + 1, 20)
        )
        values = 0.05 * age[:, None] + spread + np.sqrt(random) * rng.normal(size=random.shape)
        design = np.column_stack([np.ones(size), age[:-1] - age[:-1].mean()])
        norm = fit_norm(values[:-1], random[:-1], design)
        row = [1.0, age[-1] - age[:-1].mean()]
        beyond.append(compare_with_norm(norm, values[-1], random[-1], row).p < 0.05)
    assert 0.04 <= np.mean(beyond) <= 0.06


def test_noisier_measurement_needs_a_larger_difference():
    rng = np.random.default_rng(1)
    norm = fit_norm(rng.normal(size=(30, 1)), np.full((30, 1), 0.5), np.ones((30, 1)))
    quiet, same, loud = (compare_with_norm(norm, [3.0], [v], [1.0]).z[0] for v in (0.1, 0.5, 3.0))
    assert quiet > same > loud
    t = (3.0 - norm.coefficients[0, 0]) / np.sqrt(norm.residual[0] * (1 + 1 / 30))
    assert same == pytest.approx(stats.norm.isf(stats.t.sf(t, 29)))


def test_report_lists_the_regions_beyond_and_what_chance_would_do(studies):
    from bids_app.engines.templates import SPACE
    from bids_app.reports.derivatives import list_derivatives
    from bids_app.reports.group.deviations import deviations

    _, patient, _ = studies
    (card,) = deviations(list_derivatives(patient.folder, f'tpl-{SPACE}'))
    assert (card.participant, card.title) == ('sub-77', 'OEF of rest, %')
    assert 'beyond the norm of 8 participants (p < .05)' in card.sentences[0]
    assert '3 expected by chance' in card.sentences[1]
    assert card.regions
    assert all(float(line[3].replace('−', '-')) < 0 for line in card.regions)
