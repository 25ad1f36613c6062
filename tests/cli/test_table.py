"""A published table gives shares over a common offset, as a table and a page."""

import numpy as np
import pandas as pd
import pytest

from bids_app.cli.table import run


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
