"""What a planned study could say."""

import numpy as np
import pandas as pd
import pytest

from bids_app.cli.power import run
from bids_app.group.power import Plan, power_of, simulate_study


def test_smaller_errors_and_more_participants_decide_more(tmp_path):
    out = tmp_path / 'plan.tsv'
    command = ['--participants', '8', '30', '--error', '21', '--minutes', '4', '--volume', '1']
    assert run([*command, '--discordant', '0.4', '--studies', '3', '--out', str(out)]) == 0
    found = pd.read_csv(out, sep='\t').set_index('participants')
    assert found.error.tolist() == [10.5, 10.5]  # four times the minutes halve the error
    assert found.group_error[30] == pytest.approx(np.sqrt(10.5**2 + 5**2) / np.sqrt(30), rel=1e-3)
    assert found.width[30] < found.width[8]
    assert found.decided[30] >= found.decided[8]
    assert found.covered[30] == 1


def test_share_of_a_simulated_study_is_that_of_its_truth():
    plan = Plan(participants=20, error=3.0, between=1.0, discordant=0.3, side=14)
    found, truth = simulate_study(plan, np.random.default_rng(1))
    assert truth == pytest.approx(0.3, abs=0.06)
    assert found.size.low <= truth <= found.size.high
    assert found.size.value == pytest.approx(truth, abs=0.03)


def test_where_nothing_can_be_told_from_an_offset_studies_are_withheld():
    plan = Plan(participants=10, error=60.0, effect=0.1, offset=5.0, side=12)
    found = power_of(plan, studies=4, threshold=0.25, seed=1)
    assert found.withheld >= 0.75
    assert found.decided <= 0.25


@pytest.mark.parametrize('wrong', [['--participants', '1'], ['--error', '0'], ['--studies', '0'],
                                   ['--discordant', '2']])  # fmt: skip
def test_what_cannot_be_planned_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        run(wrong)
    assert 'expected' in (text := capsys.readouterr().err) or 'must' in text
