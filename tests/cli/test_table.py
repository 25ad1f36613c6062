"""A published table gives shares over a common offset, as a table and a page."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_app.cli.table import run
from bids_app.errors import ModelInputError
from bids_app.models.concordance.published_errors import error_from_p, error_from_spread


@pytest.fixture
def table(tmp_path):
    """4,000 voxels of known effects: 20 % discordant, error 3 %, no offset."""
    rng = np.random.default_rng(1)
    bold = np.where(rng.random(4000) < 0.6, 1.0, -1.0) * rng.uniform(0.2, 1, 4000)
    truth = np.sign(bold) * 4 * rng.gamma(2, 0.5, 4000) * np.where(rng.random(4000) < 0.2, -1, 1)
    effect = truth + 3 * rng.normal(size=4000)
    path = tmp_path / 'voxels.csv'
    pd.DataFrame({'bold': bold, 'd': effect, 'se': 3.0, 't': effect / 3}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize('error', [['--se', 'se'], ['--t', 't'], ['--assumed-se', '3']])
def test_shares_hold_the_truth_however_the_error_is_given(table, tmp_path, error):
    out = tmp_path / 'answer'
    assert run([str(table), '--bold', 'bold', '--effect', 'd', *error, '--out', str(out)]) == 0
    found = pd.read_csv(out.with_suffix('.tsv'), sep='\t').set_index(['offset', 'bold'])
    for bold in ('all', 'positive', 'negative'):
        row = found.loc[0.0, bold]
        assert row.w_d_low <= 0.2 <= row.w_d_high
        assert row.sign_fraction > 0.22
    assert '<svg' in out.with_suffix('.html').read_text('utf-8')


def test_unknown_column_is_named_with_those_there_are(table, capsys):
    assert run([str(table), '--bold', 'nothing', '--effect', 'd', '--se', 'se']) == 65
    assert "no column 'nothing'; there are: bold, d, se, t" in capsys.readouterr().err


def test_p_and_spread_give_the_same_shares_as_the_error_they_come_from(table, tmp_path):
    frame = pd.read_csv(table)
    frame['p'] = 2 * stats.t.sf(np.abs(frame.t), 24)
    frame['sd'] = 5 * frame.se
    frame.to_csv(table, index=False)
    found = {}
    for name, error in {'se': 'se', 'p': 'p', 'sd': 'sd'}.items():
        out = tmp_path / name
        command = [str(table), '--bold', 'bold', '--effect', 'd', f'--{error}', error, '--n', '25']
        assert run([*command, '--out', str(out)]) == 0
        found[name] = pd.read_csv(f'{out}.tsv', sep='\t')
    for name in ('p', 'sd'):
        pd.testing.assert_frame_equal(found[name], found['se'], rtol=1e-3)
    at_zero = found['se'][found['se'].offset == 0].set_index('bold')
    assert at_zero.t_test['all'] < at_zero.sign_fraction['all']
    assert at_zero.t_test_decided['all'] < 0.5


def test_median_has_a_larger_error_than_a_mean():
    mean, median = (error_from_spread([5.0], 25, of_median=one) for one in (False, True))
    assert mean == 1.0
    medians = np.median(np.random.default_rng(2).normal(size=(20_000, 201)), axis=1)
    assert median[0] == pytest.approx(medians.std() * np.sqrt(201), rel=0.02)
    with pytest.raises(ModelInputError, match='at least 2 participants'):
        error_from_spread([5.0], 1)


def test_counts_alone_give_the_population_share(tmp_path):
    rng = np.random.default_rng(3)
    bold = np.where(rng.random(3000) < 0.5, 1.0, -1.0)
    agree = rng.binomial(37, np.where(rng.random(3000) < 0.3, 0.3, 0.7))
    path = tmp_path / 'counts.tsv'
    frame = pd.DataFrame({'bold': bold, 'k': agree, 'n': 37})
    frame.to_csv(path, sep='\t', index=False)
    command = [str(path), '--bold', 'bold', '--agree', 'k', '--n', 'n']
    assert run([*command, '--out', str(tmp_path / 'answer')]) == 0
    found = pd.read_csv(tmp_path / 'answer_counts.tsv', sep='\t').set_index('bold')
    assert list(found.index) == ['all', 'positive', 'negative']
    assert found.below_45_percent.to_numpy() == pytest.approx(0.3, abs=0.04)
    assert 'Counts of agreeing signs' in (tmp_path / 'answer.html').read_text('utf-8')


def test_maps_give_the_same_as_the_table_of_their_voxels(table, tmp_path):
    frame = pd.read_csv(table)
    frame.loc[:9, 'd'] = 0.0  # outside of the maps
    frame.to_csv(table, index=False)
    for name in ('bold', 'd', 'se'):
        image = nb.Nifti1Image(frame[name].to_numpy().reshape(20, 20, 10), np.diag([3, 3, 3, 1]))
        image.to_filename(tmp_path / f'{name}.nii.gz')
    given = {name: str(tmp_path / f'{name}.nii.gz') for name in ('bold', 'd', 'se')}
    out = tmp_path / 'maps'
    command = ['--bold', given['bold'], '--effect', given['d'], '--se', given['se']]
    assert run([*command, '--out', str(out)]) == 0
    found = pd.read_csv(f'{out}.tsv', sep='\t').set_index(['offset', 'bold']).loc[0.0, 'all']
    assert found.n_voxels == 3990
    assert found.w_d_low <= 0.2 <= found.w_d_high


def test_assumed_error_is_shown_with_what_hangs_on_it(table, tmp_path):
    out = tmp_path / 'answer'
    command = [str(table), '--bold', 'bold', '--effect', 'd', '--assumed-se', '3']
    assert run([*command, '--out', str(out)]) == 0
    found = pd.read_csv(f'{out}_error.tsv', sep='\t')
    of_all = found[found.bold == 'all'].set_index('assumed_se').w_d
    assert of_all.iloc[0] > of_all.iloc[-1]
    assert '2.10 %' in out.with_suffix('.html').read_text('utf-8')


def test_what_is_missing_is_named(table, capsys):
    for extra, missing in ((['--effect', 'd'], '--se'), (['--agree', 't'], '--n')):
        with pytest.raises(SystemExit):
            run([str(table), '--bold', 'bold', *extra])
        assert missing in capsys.readouterr().err
    with pytest.raises(ModelInputError, match='underflown p'):
        error_from_p([4.0], [0.0])
