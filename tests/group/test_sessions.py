"""Sessions of the same people compared: before and after, drug and placebo."""

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import SettingsError
from bids_app.group import workflow
from bids_app.group.inputs import from_derivatives
from bids_app.group.sessions import compare_sessions, session_labels
from bids_app.images import load_data
from tests.group.support import BLOCK, Study

PEOPLE = 6
CHANGE = 0.05


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """Six people before and after, who differ by four times the change; one has no second scan."""
    made = Study(tmp_path_factory.mktemp('sessions'))
    rng = np.random.default_rng(2)
    lines = ['participant_id\tage']
    for number in range(1, PEOPLE + 2):
        sub = f'{number:02d}'
        made.summary(sub)
        lines.append(f'sub-{sub}\t{30 + 3 * number}')
        level = 0.4 + 0.2 * rng.standard_normal()
        for ses in ('pre', 'post')[: 2 if number <= PEOPLE else 1]:
            at = {'sub': sub, 'ses': ses}
            made.image(0.9, 'probseg', label='GM', **at)
            oef = level + CHANGE * (ses == 'post') + 0.005 * rng.standard_normal((4, 4, 4))
            made.image(oef, 'oef', condition='rest', **at)
            made.image(0.005**2, 'variance', condition='rest', quantity='oef', **at)
        table = made.run.bids_dir / f'sub-{sub}' / f'sub-{sub}_sessions.tsv'
        table.parent.mkdir()
        table.write_text('session_id\tdrug\nses-pre\tplacebo\nses-post\tcaffeine\n')
    (made.run.bids_dir / 'participants.tsv').write_text('\n'.join(lines) + '\n')
    return made


def compared(study, *wanted, column=None):
    inputs = from_derivatives(study.folder, [f'{n:02d}' for n in range(1, PEOPLE + 2)])
    return compare_sessions(inputs, wanted, session_labels(study.run.bids_dir, column))


def test_difference_within_people_is_tested_with_its_design(study, monkeypatch):
    monkeypatch.setattr(workflow, 'render_group', lambda output_dir: None)
    monkeypatch.setattr(workflow, 'render_index', lambda output_dir: '')
    study.group(**{
        'group.session_contrasts': ('post-pre',), 'group.model': '~ age',
        'group.permutations': 99, 'group.bootstraps': 20,
    })  # fmt: skip
    at = {'quantity': 'oef', 'contrast': 'restPostMinusPre', 'res': '2'}
    effect = load_data(study.path('group_contrast', statistic='effect', **at))[BLOCK]
    assert effect.mean() == pytest.approx(CHANGE, abs=0.005)
    assert np.median(load_data(study.path('group_contrast', statistic='p', **at))[BLOCK]) < 0.001
    assert study.path('group_covariate', statistic='t', column='age', **at).is_file()
    table = pd.read_csv(study.path('group_participants'), sep='\t').set_index('participant')
    assert 'no sessions post-pre' in table.loc['sub-07', 'reason']
    regions = pd.read_csv(
        study.path('group_regions', contrast='restPostMinusPre', atlas='Schaefer2018'),
        sep='\t', na_values=['n/a'],
    )  # fmt: skip
    brain = regions[regions.level == 'brain'].iloc[0]
    # p has the degrees of freedom that age leaves: 6 - 2
    from scipy import stats

    assert brain.p == pytest.approx(2 * stats.t.sf(abs(brain.t), PEOPLE - 2), rel=1e-4)


def test_sessions_are_told_apart_by_a_column_of_sessions_tsv(study):
    inputs, left_out = compared(study, 'caffeine-placebo', column='drug')
    (maps,) = inputs.changes
    assert maps.contrast == 'restCaffeineMinusPlacebo'
    assert list(left_out) == ['07']
    (source,) = maps.sources['01']
    assert 'ses-post' in source.value.name
    assert 'ses-pre' in source.minus.name
    assert inputs.baseline_of(maps).sources['01'][0].session == 'pre'


def test_sessions_that_nobody_has_are_an_error_that_lists_what_there_is(study):
    with pytest.raises(SettingsError, match=r'followup-pre should be A-B.*: post, pre'):
        compared(study, 'followup-pre')
