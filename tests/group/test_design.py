"""Covariates, groups and exclusions from participants.tsv and the verdicts."""

import numpy as np
import pytest

from bids_app.errors import SettingsError
from bids_app.group.design import excluded_by_verdict, isolate_contrast, make_design
from bids_app.group.statistics import random_effects
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
    meanings = {name: test.meaning for name, test in design.tests.items()}
    assert meanings == {'age': 'per unit of age', 'sex': 'M minus F'}


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


# ------------------------------------------------------------------------------ formulas


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(4)
    rows = [
        f'sub-{n:02d}\t{"ABC"[n % 3]}\t{20 + n + rng.normal():.3f}\t{"FM"[n % 2]}'
        for n in range(1, 25)
    ]
    text = 'participant_id\tgroup\tage\tsex\n' + '\n'.join(rows) + '\n'
    (tmp_path / 'participants.tsv').write_text(text)
    return tmp_path


PEOPLE = [f'{n:02d}' for n in range(1, 25)]


def design_of(folder, model, people=PEOPLE):
    return make_design([folder], people, GroupSettings(model=model))


@pytest.mark.parametrize('model', ['~ group + age', 'oef ~ group * age', '~ group * sex + age'])
def test_every_test_of_a_formula_is_that_of_statsmodels(model, study):
    formula = pytest.importorskip('statsmodels.formula.api')
    import pandas as pd

    design, left_out = design_of(study, model)
    assert left_out == {}
    assert design.quantity == ('oef' if model.startswith('oef') else None)
    table = pd.read_csv(study / 'participants.tsv', sep='\t')
    table['age'] -= table['age'].mean()
    table['y'] = np.random.default_rng(5).normal(size=24)
    fit = formula.ols('y ~' + model.partition('~')[2], table).fit()
    names = list(fit.model.exog_names)
    terms = {f'group{b}Minus{a}': {f'group[T.{b}]': 1.0, f'group[T.{a}]': -1.0}
             for a, b in ('AB', 'AC', 'BC')} | {'sexMMinusF': {'sex[T.M]': 1.0}}  # fmt: skip
    checked = 0
    for name in design.tests:
        weights = terms.get(name, {'age': 1.0} if name == 'age' else None)
        if weights is None:
            continue
        theirs = fit.t_test([weights.get(one, 0.0) for one in names])
        ours = random_effects(table[['y']].to_numpy(), None, design=design.matrix_of(PEOPLE, name))
        for mine, other in ((ours.effect, theirs.effect), (ours.t, theirs.tvalue),
                            (ours.p, theirs.pvalue)):  # fmt: skip
            assert mine[0] == pytest.approx(np.ravel(other)[0], rel=1e-8, abs=1e-10)
        checked += 1
    assert checked == (5 if 'sex' in model else 4)


def test_t_maps_are_those_of_nilearn(study):
    import nibabel as nb
    import pandas as pd
    from nilearn.glm.second_level import SecondLevelModel

    design, _ = design_of(study, '~ group + age')
    data = np.random.default_rng(6).normal(1.0, 2.0, (24, 4, 5, 6))
    images = [nb.Nifti1Image(one.astype(np.float64), np.eye(4)) for one in data]
    matrix = pd.DataFrame(design.matrix(PEOPLE), columns=['mean', *'abc'[: len(design.columns)]])
    mask = nb.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    model = SecondLevelModel(mask_img=mask, smoothing_fwhm=None).fit(images, design_matrix=matrix)
    for name, test in design.tests.items():
        theirs = model.compute_contrast(np.array(test.weights), output_type='stat').get_fdata()
        ours = random_effects(data.reshape(24, -1), None, design=design.matrix_of(PEOPLE, name)).t
        np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-6, atol=1e-6)


def test_rewritten_design_is_the_same_model(study):
    design, _ = design_of(study, '~ group * age')
    matrix = design.matrix(PEOPLE)
    y = np.random.default_rng(7).normal(size=24)
    weights = np.arange(1.0, 1.0 + matrix.shape[1])
    new = isolate_contrast(matrix, weights)
    old_fit, new_fit = np.linalg.lstsq(matrix, y)[0], np.linalg.lstsq(new, y)[0]
    assert new_fit[0] == pytest.approx(weights @ old_fit, rel=1e-9)
    np.testing.assert_allclose(new @ new_fit, matrix @ old_fit, atol=1e-9)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('~ group + weight', "no column 'weight'; there are: age, group, sex"),
        ('~ group * (', 'is no formula'),
        ('~ age + I(2 * age)', 'cannot be estimated; it follows from the columns before it'),
        ('~ 0 + group', 'has no mean'),
    ],
)
def test_formula_that_cannot_be_used_is_explained(model, message, study):
    with pytest.raises(SettingsError, match=message):
        design_of(study, model)


def test_empty_cells_and_too_few_participants_are_named(study):
    women_of_a = [one for one in PEOPLE if not (int(one) % 3 == 2 and int(one) % 2 == 1)]
    with pytest.raises(SettingsError, match=r'group\[T.C\]:sex\[T.M\].*no participant has'):
        design_of(study, '~ group * sex', women_of_a)
    with pytest.raises(SettingsError, match='more participants than columns'):
        design_of(study, '~ group * age', PEOPLE[:6])


def test_participant_without_a_value_is_left_out_of_a_formula(study):
    path = study / 'participants.tsv'
    path.write_text(path.read_text().replace('sub-03\tA', 'sub-03\tn/a'))
    design, left_out = design_of(study, '~ group + age')
    assert left_out == {'03': 'no value of group in participants.tsv'}
    assert '03' not in design.values


def test_model_and_columns_exclude_each_other(study):
    with pytest.raises(SettingsError, match='one or the other'):
        make_design([study], PEOPLE, GroupSettings(model='~ age', covariates=('age',)))


def test_function_of_a_number_sees_it_uncentred_and_its_gaps_name_participants(study):
    design, _ = design_of(study, '~ log(age)')
    assert design.encoding.centres == {'age': 0.0}
    with pytest.raises(SettingsError, match=r'has no value for sub-01, .*centred before'):
        design_of(study, '~ age + log(age)')


def test_encoding_makes_the_row_of_a_person_without_the_others(study):
    import pandas as pd

    design, _ = design_of(study, '~ group * age')
    table = pd.read_csv(study / 'participants.tsv', sep='\t', index_col=0)
    table.index = table.index.str.removeprefix('sub-')
    one = table.loc[['05'], ['group', 'age']]
    np.testing.assert_allclose(
        design.encoding.matrix(one).iloc[0, 1:], design.values['05'], rtol=1e-12
    )
    with pytest.raises(SettingsError, match='group of sub-05 should be one of A, B, C'):
        design.encoding.matrix(one.assign(group='D'))


def test_stats_model_says_what_the_specification_has_words_for(study):
    from bids_app.group.stats_model import stats_model

    model = stats_model(design_of(study, '~ group * age')[0])
    (node,) = model['Nodes']
    assert node['Model']['X'] == [
        1, 'group.B', 'group.C', 'age', 'group.B*age', 'group.C*age'
    ]  # fmt: skip
    names = [step['Name'] for step in node['Transformations']['Instructions']]
    assert names == ['Factor', 'Demean', 'Product', 'Product', 'Demean']
    contrast = next(one for one in node['Contrasts'] if one['Name'] == 'groupCMinusB')
    assert contrast['ConditionList'] == ['group.B', 'group.C']
    assert contrast['Weights'] == [-1.0, 1.0]
    assert stats_model(design_of(study, '~ log(age)')[0]) is None
