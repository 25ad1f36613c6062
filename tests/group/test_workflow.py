"""The group level on small derivatives: it reads maps and tables, and nothing else."""

import json
from types import SimpleNamespace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_app.bids.run.outcome import State
from bids_app.errors import ExitCode, SelectionError, SettingsError
from bids_app.group import workflow
from bids_app.group.baseline import save_conjunctions
from bids_app.group.inputs import from_derivatives
from bids_app.group.regions import save_regions
from bids_app.group.study import Study as GroupStudy
from bids_app.group.study import mean_grey_matter
from bids_app.images import load_data
from bids_app.models.concordance.labels import Label
from bids_app.settings import resolve
from tests.group.support import BLOCK, CONTRAST, TEMPLATE, Study


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Reports have tests of their own."""
    monkeypatch.setattr(workflow, 'render_group', lambda output_dir: None)
    monkeypatch.setattr(workflow, 'render_index', lambda output_dir: '')


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    """Three participants; the last has no BOLD."""
    study = Study(tmp_path_factory.mktemp('group'))
    study.participant('01', size=0).participant('02', size=1)
    study.participant('03', size=2, quantities=('cmro2',))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        study.verdict = study.group()
    return study


def test_mean_over_participants_on_the_grid_of_the_template(three):
    path = three.map('cmro2', 'effect')
    image = nb.load(path)
    np.testing.assert_allclose(image.affine, TEMPLATE.affine)
    data = load_data(path)
    assert np.mean(data[BLOCK]) == pytest.approx(20.0, rel=0.01)
    assert np.isfinite(data).sum() == 64, 'outside the grey matter of the group there is nothing'


def test_statistics_of_the_mean_belong_together(three):
    effect, variance, t, p, q = (
        load_data(three.map('cmro2', name))[BLOCK]
        for name in ('effect', 'variance', 't', 'p', 'q')
    )
    np.testing.assert_allclose(t, effect / np.sqrt(variance), rtol=1e-4)
    assert (q >= p).all()


def test_sidecar_says_who_and_what(three):
    path = three.map('cmro2', 'effect')
    sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    assert sidecar['Participants'] == ['sub-01', 'sub-02', 'sub-03']
    assert sidecar['DegreesOfFreedom'] == 2
    assert sidecar['Contrast'] == {'Task': 'calc', 'Baseline': 'control'}
    assert all((three.folder / uri.removeprefix('bids::')).is_file() for uri in sidecar['Sources'])


def test_participant_without_a_map_is_left_out_and_named(three):
    (verdict,) = three.verdict.verdicts
    assert verdict.state == State.DEGRADED
    assert f'boldPct of {CONTRAST} without 03' in verdict.reasons
    path = three.map('boldPct', 'effect')
    sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    assert sidecar['Participants'] == ['sub-01', 'sub-02']


def test_labels_are_made_from_the_group_effects(three):
    labels = load_data(
        three.path('group_concordance_sign', res='2', contrast=CONTRAST, task='all')
    )
    inside = labels[BLOCK]
    assert set(np.unique(inside)) <= {Label.CONCORDANT_POSITIVE, Label.NOT_SIGNIFICANT}
    assert (inside == Label.CONCORDANT_POSITIVE).mean() > 0.9
    assert (labels != Label.OUTSIDE).sum() == 64
    summary = three.table('group_summary').set_index(['rule', 'bold', 'network'])
    assert summary.loc['sign', 'all', 'all'].n_discordant == 0


def test_regions_are_tested_over_the_participants_who_have_them(three):
    table = three.table('group_regions', atlas='Schaefer2018')
    rows = table.set_index(['level', 'quantity'])
    metabolic, bold = rows.loc['brain', 'cmro2'], rows.loc['brain', 'boldPct']
    assert (metabolic.effect, metabolic.n_participants) == (pytest.approx(20.0), 3)
    assert (bold.effect, bold.n_participants) == (pytest.approx(0.95), 2)
    assert metabolic.t == pytest.approx(20.0 / (2.0 / np.sqrt(3)), rel=1e-3)
    assert table.loc[table.level == 'parcel', 'index'].tolist() == [1, 1]


def test_records_of_the_group_are_written(three):
    logs = three.folder / 'logs'
    summary = json.loads((logs / 'group_run_summary.json').read_text())
    assert summary['participants'] == ['01', '02', '03']
    assert 'Benjamini' in (logs / 'group_CITATION.md').read_text()
    assert (logs / 'group_settings.toml').is_file()


# ------------------------------------------------------------------------------ few, odd


def test_own_atlases_stand_beside_the_tables_of_the_participants(study):
    for number in (1, 2, 3):
        study.participant(f'{number:02d}', quantities=('cmro2',), size=number - 1)
    study.group(**{'group.regions': ('territories',), 'group.permutations': 7})
    table = study.table('group_regions', atlas='Schaefer2018')
    assert set(table.level) == {'parcel', 'brain', 'territories'}
    found = table[(table.level == 'territories') & (table.n_voxels > 0)]
    assert len(table[table.level == 'territories']) == 8
    # the block of grey matter lies on the midline behind: both posterior cerebral arteries
    assert set(found.name) == {'PCA left', 'PCA right'}
    assert found.n_voxels.sum() == 64
    np.testing.assert_allclose(found.effect, 20.0, rtol=0.01)
    assert (found.n_participants == 3).all()
    with pytest.raises(SettingsError, match='network is the name of another atlas'):
        study.group(**{'group.regions': ('network=a.nii,b.tsv',)})


def test_rows_of_a_quantity_that_the_first_participant_lacks_are_kept(study):
    study.participant('01', quantities=('cmro2',))
    study.participant('02', quantities=('cmro2',)).participant('03', size=2)
    study.regions('04', None, ('boldPct', 'cmro2'), 0)
    inputs = from_derivatives(study.folder, ['01', '02', '03', '04'])
    at = {'run': study.run, 'settings': resolve(), 'folder': study.folder}
    save_regions(GroupStudy(inputs=inputs, mask=None, grid=None, **at), CONTRAST, {})
    table = study.table('group_regions', atlas='Schaefer2018').set_index(['level', 'quantity'])
    assert table.loc['brain', 'boldPct'].n_participants == 2
    assert table.loc['brain', 'cmro2'].n_participants == 4


def test_sessions_are_repeats_and_not_participants(study):
    study.participant('01', ses='a', quantities=('cmro2',))
    study.participant('01', ses='b', quantities=('cmro2',), size=2)
    (maps,) = from_derivatives(study.folder, ['01']).changes
    assert [len(sources) for sources in maps.sources.values()] == [2]
    (verdict,) = study.group().verdicts
    assert any('one participant only' in reason for reason in verdict.reasons)
    assert not study.map('cmro2', 'effect').exists()


def test_the_console_says_why_a_group_lost_something(study, caplog):
    caplog.set_level('INFO', logger='oxybold')
    study.participant('01')
    study.group()
    said = ' '.join(record.getMessage() for record in caplog.records)
    assert 'there for one participant only (sub-01)' in said


def test_one_participant_is_no_group(study):
    verdict = study.participant('01', quantities=('cmro2',)).group()
    assert verdict.code != 0
    assert any('in its own report' in reason for reason in verdict.verdicts[0].reasons)
    assert not list(study.folder.rglob('tpl-*statmap*'))


def test_effect_without_its_variance_does_not_count(study):
    study.participant('01', quantities=('cmro2',))
    for path in study.folder.rglob('*stat-variance*'):
        path.unlink()
    assert from_derivatives(study.folder, ['01']).changes == ()


def test_no_results_or_unknown_labels_are_said(study):
    study.folder.mkdir()
    with pytest.raises(SelectionError, match='any participant'):
        study.group()
    study.participant('01', quantities=())
    with pytest.raises(SelectionError, match=r'no maps in.*6Asym among --output'):
        study.group()
    object.__setattr__(study.run, 'participants', ('01', '99'))
    with pytest.raises(SelectionError, match='no results of 99'):
        study.group()


def test_without_grey_matter_maps_that_of_the_template_serves(study):
    study.participant('01', quantities=('cmro2',)).participant('02', quantities=('cmro2',))
    for path in study.folder.rglob('*probseg.nii.gz'):
        path.unlink()
    inputs = from_derivatives(study.folder, ['01', '02'])
    grey, grid, left_out = mean_grey_matter(inputs)
    mask = grey > 0.5
    assert 50_000 < mask.sum() < 300_000
    assert grid.shape == TEMPLATE.shape
    assert left_out == ()


@pytest.mark.parametrize('key', ['contrast', 'probseg'])
def test_participant_on_another_grid_is_left_out_and_named(key, study):
    for sub in ('01', '02', '03'):
        study.participant(sub, quantities=('cmro2',))
    moved = TEMPLATE.affine.copy()
    moved[0, 3] += 2
    at = {'quantity': 'cmro2', 'statistic': 'effect', 'contrast': CONTRAST}
    study.image(1.0, key, moved, sub='02', **(at if key == 'contrast' else {'label': 'GM'}))
    (verdict,) = study.group().verdicts
    assert verdict.code == ExitCode.PARTICIPANT_FAILED
    assert any('sub-02' in reason and 'grid' in reason for reason in verdict.reasons)
    assert np.isfinite(load_data(study.map('cmro2', 'effect'))).sum() == 64


def defect(study, sub, statistic, value):
    """Overwrite a CMRO2 map of a participant within the block."""
    at = {'quantity': 'cmro2', 'contrast': CONTRAST, 'statistic': statistic}
    study.image(value, 'contrast', sub=sub, **at)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (np.nan, 'no voxel of the group mask has an estimate'),
        (0.0, 'both conditions have the same map'),
        ('twin', 'identical to that of sub-01'),
    ],
)
def test_map_that_cannot_be_true_is_left_out_and_named(value, message, study):
    for sub in ('01', '02', '03'):
        study.participant(sub, quantities=('cmro2',))
    if value == 'twin':
        at = {'quantity': 'cmro2', 'contrast': CONTRAST, 'statistic': 'effect'}
        value = load_data(study.path('contrast', res='2', sub='01', **at))[BLOCK]
    defect(study, '03', 'effect', value)
    (verdict,) = study.group().verdicts
    assert verdict.code == ExitCode.PARTICIPANT_FAILED
    assert any('sub-03' in reason and message in reason for reason in verdict.reasons)
    sidecar = study.map('cmro2', 'effect')
    sidecar = json.loads(sidecar.with_name(sidecar.name.replace('.nii.gz', '.json')).read_text())
    assert sidecar['Participants'] == ['sub-01', 'sub-02']


# ------------------------------------------------------------------------------ every rule


@pytest.fixture(scope='module')
def six(tmp_path_factory):
    """Six participants with baselines; BOLD rises, CMRO2 falls in one half of the block."""
    study = Study(tmp_path_factory.mktemp('six'))
    rng = np.random.default_rng(5)
    direction = np.where(np.arange(4) < 2, 1.0, -1.0)[:, None, None]
    for number in range(1, 7):
        sub = f'0{number}'
        study.participant(sub, quantities=())
        for table in study.folder.rglob('*regions.tsv'):
            table.unlink()
        for quantity, effect in (('boldPct', 1.0), ('cmro2', 20.0 * direction)):
            task = 'all' if quantity == 'boldPct' else None
            at = {'sub': sub, 'quantity': quantity, 'contrast': CONTRAST, 'task': task}
            noise = 0.05 * np.max(effect) * rng.standard_normal((4, 4, 4))
            study.image(effect + noise, 'contrast', statistic='effect', **at)
            study.image(0.003 * np.max(effect) ** 2, 'contrast', statistic='variance', **at)
        at = {'sub': sub, 'condition': 'control'}
        study.image(130 + rng.normal(0, 3, (4, 4, 4)), 'cmro2', **at)
        study.image(4.0, 'variance', quantity='cmro2', **at)
    (study.run.bids_dir / 'participants.tsv').write_text(
        'participant_id\tage\n' + ''.join(f'sub-0{n}\t{20 + n}\n' for n in range(1, 7))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, 'render_group', lambda output_dir: None)
        patch.setattr(workflow, 'render_index', lambda output_dir: '')
        patch.setattr('bids_app.models.constants.FEWEST_NOISE_BLOCKS', 1)
        study.verdict = study.group(**{
            'group.covariates': ('age',), 'group.permutations': 63, 'group.bootstraps': 200,
        })  # fmt: skip
    return study


def test_every_rule_stands_side_by_side(six):
    table = six.table('group_summary').set_index(['rule', 'bold', 'network'])
    for rule in ('sign', 'ttest', 'consistency', 'robust', 'noise_corrected', 'noise_only'):
        row = table.loc[rule, 'all', 'all']
        assert row.n_voxels == 64, rule
    for rule in ('sign', 'ttest', 'robust'):
        assert table.loc[rule, 'all', 'all'].n_discordant == 32, rule
    corrected = table.loc['noise_corrected', 'positive', 'all']
    assert corrected.ci_low <= 0.5 <= corrected.ci_high
    assert corrected.discordant_fraction == pytest.approx(0.5, abs=0.05)
    assert 'jackknife' in corrected.note
    assert table.loc['noise_only', 'all', 'all'].discordant_fraction < 0.05


def test_shares_stand_beside_a_common_offset(six):
    curve = six.table('group_offset_curve')
    assert curve.groupby('bold').size().to_dict() == {
        'all': 7, 'positive': 7, 'negative': 7,
    }  # fmt: skip
    assert sorted(curve.offset.unique()) == [-3, -2, -1, 0, 1, 2, 3]
    at_zero = curve[(curve.offset == 0) & (curve.bold == 'positive')].iloc[0]
    assert at_zero.w_d_low <= 0.5 <= at_zero.w_d_high


def test_parcels_add_up_to_their_networks(six):
    keys = ['rule', 'bold', 'network']
    counts = ['n_voxels', 'n_concordant', 'n_discordant']
    parcels = six.table('group_parcels')
    counted = ['sign', 'ttest', 'consistency', 'robust']
    of_networks = six.table('group_summary').set_index(keys)[counts]
    summed = parcels[parcels.rule.isin(counted)].groupby(keys)[counts].sum()
    assert summed.n_voxels.sum() > 0
    pd.testing.assert_frame_equal(of_networks.loc[summed.index], summed)
    corrected = parcels[(parcels.rule == 'noise_corrected') & (parcels.n_voxels > 9)]
    assert corrected.discordant_fraction.between(0, 1).any()
    assert parcels.set_index('index').loc[1, 'name'].unique() == ['LH_Vis_1']


def test_posterior_follows_the_signs(six):
    path = six.path('group_discordant', res='2', contrast=CONTRAST, task='all')
    posterior = load_data(path)[BLOCK]
    assert (posterior[:2] < 0.05).all()
    assert (posterior[2:] > 0.95).all()


def test_equivalence_is_not_shown_where_there_is_a_change(six):
    assert (load_data(six.map('cmro2', 'pEquivalence'))[BLOCK] > 0.95).all()
    assert (load_data(six.map('cmro2', 'detectable'))[BLOCK] < 5).all()
    assert not six.map('boldPct', 'pEquivalence').exists()


def test_sidecar_says_what_could_be_shown_and_how_skewed_participants_are(six):
    path = six.map('cmro2', 'effect')
    sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
    variance = load_data(six.map('cmro2', 'variance'))[BLOCK]
    error = np.sqrt(np.median(variance))
    reach = stats.t.ppf(0.95, sidecar['DegreesOfFreedom'])
    assert sidecar['SmallestEquivalence'] == pytest.approx(reach * error, rel=0.05)
    assert abs(sidecar['Skewness']) < 0.5
    assert 0 < sidecar['SkewnessP'] <= 1


def test_permutation_and_bootstrap_maps_are_written_and_the_covariate_is_tested(six):
    assert load_data(six.map('cmro2', 'pFwe'))[BLOCK].max() <= 0.05
    assert np.sign(load_data(six.map('cmro2', 'bsr'))[BLOCK][:, 0, 0]).tolist() == [1, 1, -1, -1]
    at = {'quantity': 'cmro2', 'contrast': CONTRAST, 'column': 'age', 'res': '2'}
    slope = load_data(six.path('group_covariate', statistic='effect', **at))[BLOCK]
    assert np.abs(slope).max() < 3
    pls = six.table('group_pls').set_index('quantity')
    assert pls.loc['cmro2'].p <= 0.05
    assert pls.loc['cmro2'].design_scores == '-0.7071, 0.7071'


def test_regions_come_from_the_maps_where_there_are_no_tables(six):
    table = six.table('group_regions', atlas='Schaefer2018')
    brain = table[table.level == 'brain'].set_index('quantity')
    assert brain.loc['boldPct'].effect == pytest.approx(1.0, abs=0.02)
    assert brain.loc['cmro2'].n_voxels == 64
    assert brain.loc['cmro2'].n_participants == 6
    parcels = table[(table.level == 'parcel') & (table.quantity == 'boldPct')]
    found = parcels.dropna(subset='p')
    np.testing.assert_allclose(
        found.q, stats.false_discovery_control(found.p), rtol=1e-6, atol=1e-12
    )
    assert (found.p_fwe >= 1 / 32).all(), 'six participants have 32 patterns of signs'
    assert found.p_fwe.max() <= 2 / 32
    assert (brain.smallest_delta > 0).all()


def test_table_of_regions_that_is_none_is_named(study):
    for sub in ('01', '02', '03'):
        study.participant(sub, quantities=('cmro2',))
    next((study.folder / 'sub-02').rglob('*regions.tsv')).write_text('')
    (verdict,) = study.group().verdicts
    assert any(
        'sub-02' in reason and 'no table of regions' in reason for reason in verdict.reasons
    )


def test_who_is_in_the_group_is_listed(three):
    table = pd.read_csv(three.path('group_participants'), sep='\t', na_values=['n/a'])
    table = table.set_index('participant')
    assert table.included.to_dict() == {'sub-01': 'yes', 'sub-02': 'yes', 'sub-03': 'partly'}
    assert table.loc['sub-03'].reason == f'no map of boldPct of {CONTRAST} in MNI152NLin6Asym'


def test_excluded_participant_is_named(study):
    for sub in ('01', '02', '03'):
        study.participant(sub, quantities=('cmro2',))
    path = study.folder / 'logs' / 'sub-02_run_summary.json'
    summary = json.loads(path.read_text())
    summary['verdict'] = {'state': 'incomplete', 'exit_code': 1, 'reasons': ['DSC clipped']}
    path.write_text(json.dumps(summary))
    (verdict,) = study.group(**{'group.exclude': ('incomplete',)}).verdicts
    assert verdict.reasons == ('sub-02 left out: verdict incomplete: DSC clipped',)
    table = pd.read_csv(study.path('group_participants'), sep='\t').set_index('participant')
    assert table.loc['sub-02'].included == 'no'


@pytest.mark.parametrize(
    ('kind', 'condition'),
    [('copy', 'control'), ('small-bold', None), ('short-bold', None), ('one-sided', 'calc')],
)
def test_suspicious_scan_leaves_its_participant_out_unless_accepted(kind, condition, study):
    for sub in ('01', '02', '03'):
        study.participant(sub)
    path = study.folder / 'logs' / 'sub-02_run_summary.json'
    summary = json.loads(path.read_text())
    sign = {'kind': kind, 'condition': condition, 'reason': 'it is not what its name says'}
    summary['units'] = [{'suspicions': [sign]}]
    path.write_text(json.dumps(summary))
    quick = {'group.permutations': 10, 'group.bootstraps': 10}
    (verdict,) = study.group(**quick).verdicts
    (reason,) = [one for one in verdict.reasons if 'sub-02 is left out' in one]
    assert 'it is not what its name says' in reason
    assert f'--set group.accept_suspects={kind}' in reason
    table = pd.read_csv(study.path('group_participants'), sep='\t').set_index('participant')
    row = table.loc['sub-02']
    assert (row.included, row.reason) == ('no', reason.removeprefix('sub-02 is '))
    (verdict,) = study.group(**quick, **{'group.accept_suspects': (kind,)}).verdicts
    assert not any('sub-02' in one for one in verdict.reasons)
    table = pd.read_csv(study.path('group_participants'), sep='\t').set_index('participant')
    assert table.loc['sub-02'].included == 'yes'


def test_tables_of_the_contrast_are_there_and_agree_with_the_labels(six):
    quartiles = six.table('group_quartiles')
    assert quartiles[quartiles.rule == 'robust'].n_discordant.sum() == 32
    reliability = six.table('group_reliability').set_index('quantity')
    halves = reliability[reliability.measure.str.startswith('split')]
    assert halves.loc['cmro2'].value > 0.99
    left_out = reliability[reliability.measure.str.startswith('pi_d')]
    assert len(left_out) == 6
    labels = reliability.loc['labels'].set_index('measure')
    assert (labels.loc['robust labels kept without the participant'].value == 1).all()
    for rule in ('sign', 'robust'):
        assert labels.loc[f'split-half share of these alike, {rule} rule'].value == 1
    assert labels.loc['split-half share decided in both, sign rule'].value == 1
    yields = six.table('group_yield')
    assert sorted(set(yields.n_participants)) == [3, 4, 6]
    assert sorted(set(yields.fwhm)) == [0, 4, 8]
    assert (yields[yields.fwhm == 0].decided_fraction > 0.95).all()
    multiverse = six.table('group_multiverse')
    assert len(multiverse) == 8
    np.testing.assert_allclose(multiverse.sign_fraction, 0.5)
    np.testing.assert_allclose(multiverse.pi_d, 0.5, atol=0.05)
    lines = six.table('group_regression').set_index('response')
    assert lines.loc['cmro2'].n_voxels == 64
    assert lines.loc['cmro2'].reliability < 0.5, 'the baseline of this study does not vary'
    baseline = six.table('group_baseline').set_index('rule')
    assert baseline.loc['robust'].n_discordant == 32
    assert baseline.loc['robust'].p_participants > 0.01


def test_two_contrasts_with_opposite_bold_are_compared(tmp_path):
    labels = np.array([1, 2, 3, 7])
    bold = np.array([1.0, 1.0, -1.0, 1.0])

    class Labelled:
        def __init__(self, codes, change):
            self.labels = {'sign': codes, 'robust': codes}
            self.table = SimpleNamespace(bold_median=change)

    saved = {}
    study = SimpleNamespace(save_table=lambda rows, key, about: saved.update({key: rows}))
    other = np.array([3, 4, 1, 3])
    save_conjunctions(study, {'a': Labelled(labels, bold), 'b': Labelled(other, -bold)}, {})
    first, second = saved['group_conjunction'][:2]
    assert (first['first'], first['second'], first['bold']) == ('a', 'b', 'first_up')
    assert (first['n_concordant'], first['n_discordant'], first['n_inconsistent']) == (1, 1, 0)
    assert second['n_concordant'] == 1


def test_other_derivatives_enter_the_multiverse_by_name(study, tmp_path):
    for sub in ('01', '02', '03'):
        study.participant(sub)
    object.__setattr__(study.run, 'derivatives', {'davis': study.folder})
    study.group()
    table = study.table('group_multiverse')
    assert set(table.source) == {'this output', 'davis'}
    both = table.groupby('source').sign_fraction.mean()
    assert both['davis'] == both['this output']


def test_contrasts_with_one_baseline_are_compared_together(study):
    rng = np.random.default_rng(8)
    tasks = {'calc': 1.0, 'mem': -0.5}
    for number in range(1, 6):
        study.participant(f'0{number}', quantities=())
        for task, effect in tasks.items():
            at = {'sub': f'0{number}', 'quantity': 'boldPct', 'contrast': f'{task}MinusControl'}
            path = study.image(
                effect + 0.05 * rng.standard_normal((4, 4, 4)),
                'contrast',
                statistic='effect',
                task='all',
                **at,
            )
            about = path.with_name(path.name.replace('.nii.gz', '.json'))
            about.write_text(json.dumps({'Contrast': {'Task': task, 'Baseline': 'control'}}))
            study.image(0.01, 'contrast', statistic='variance', task='all', **at)
        for table in study.folder.rglob('*regions.tsv'):
            table.unlink()
    study.group(**{'group.permutations': 99, 'group.bootstraps': 50})
    table = pd.read_csv(study.path('group_pls_joint'), sep='\t')
    assert table.conditions[0] == 'control, calc, mem'
    assert table.latent.tolist() == [1, 2]
    assert table.p[0] <= 0.05
    scores = [float(score) for score in table.design_scores[0].split(', ')]
    assert scores[0] < 0
    ratio = load_data(study.path('group_latent', quantity='boldPct', column='LV1', res='2'))
    assert (np.abs(ratio[BLOCK]) > 2).all()
    first = study.path('group_contrast', quantity='boldPct', statistic='bsr', res='2',
                       contrast='memMinusControl', task='all')  # fmt: skip
    assert (load_data(first)[BLOCK] < -2).all()
