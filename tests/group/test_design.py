"""Covariates, groups and exclusions from participants.tsv and the verdicts."""

import numpy as np
import pytest

from bids_app.errors import SettingsError
from bids_app.group.design import excluded_by_verdict, make_design
from bids_app.settings import GroupSettings

TABLE = 'participant_id\tage\tsex\tsite\nsub-01\t20\tF\ta\nsub-02\t30\tM\tb\nsub-03\t46\tM\tc\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'participants.tsv').write_text(TABLE + 'sub-04\tn/a\tF\ta\n')
    return tmp_path


def test_numbers_are_centred_and_groups_are_halves(folder):
    settings = GroupSettings(covariates=('age',), groups='sex')
    design, left_out = make_design([folder], ['01', '02', '03', '04'], settings)
    assert left_out == {'04': 'no value of age in participants.tsv'}
    expected = [[1, -12, -0.5], [1, -2, 0.5], [1, 14, 0.5]]
    np.testing.assert_allclose(design.matrix(['01', '02', '03']), expected)
    assert design.meaning == {'age': 'per unit of age', 'sex': 'M minus F'}


def test_without_columns_the_design_is_the_mean(tmp_path):
    design, left_out = make_design([tmp_path], ['01', '02'], GroupSettings())
    assert design.matrix(['01', '02']).tolist() == [[1.0], [1.0]]
    assert left_out == {}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (GroupSettings(covariates=('weight',)), "no column 'weight'; there are: age, sex, site"),
        (GroupSettings(groups='site'), 'of two values, found a, b, c'),
    ],
)
def test_column_that_cannot_be_used_is_named(settings, message, folder):
    with pytest.raises(SettingsError, match=message):
        make_design([folder], ['01', '02', '03'], settings)


def test_verdict_and_quality_exclude_with_the_reason(tmp_path):
    folder = tmp_path / 'sub-02' / 'perf'
    folder.mkdir(parents=True)
    (folder / 'sub-02_desc-quality_cbf.tsv').write_text(
        'condition\trun\tmeasure\tvalue\tverdict\trule\tprobable_cause\n'
        'calc\tn/a\tqei\t0.2\tcheck\tat least 0.5\tmotion\n'
    )
    states = {'01': 'incomplete', '02': 'complete', '03': 'complete'}
    summaries = [
        {'participant': name, 'verdict': {'state': state, 'reasons': ['no fit']}}
        for name, state in states.items()
    ]
    assert excluded_by_verdict(tmp_path, summaries, GroupSettings()) == {}
    both = GroupSettings(exclude=('incomplete', 'quality'))
    assert excluded_by_verdict(tmp_path, summaries, both) == {
        '01': 'verdict incomplete: no fit',
        '02': 'quality of blood flow: qei of calc is 0.2 (at least 0.5)',
    }
