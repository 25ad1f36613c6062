"""Every way a run can end, and that log line, exit code and summary agree."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

import bids_app
from bids_app.bids.run.outcome import (
    GOOD,
    MEANING,
    RunVerdict,
    State,
    Verdict,
    combine,
    interrupted,
    judge,
    participant_summary,
    run_error,
    skipped,
)
from bids_app.bids.scans import Problem
from bids_app.errors import (
    DatasetError,
    ExitCode,
    GridMismatchError,
    InputDataError,
    MissingInputError,
    OutputError,
    SelectionError,
    SettingsError,
)

DEFECT = Problem(role='mese', message='echo 3 is missing', file=Path('sub-01_echo-4_MESE.nii.gz'))
UNFETCHED = Problem(role='asl', message='not fetched', code=ExitCode.MISSING_INPUT)

COMPLETE = judge('01')
DEGRADED = judge('02', absences=['no DSC'])
SKIPPED = skipped('03')
INCOMPLETE = judge('04', problems=[DEFECT])
BAD = judge('05', problems=[DEFECT], made_anything=False)
MISSING = judge('06', problems=[UNFETCHED], made_anything=False)
CRASHED = judge('07', error=ZeroDivisionError('division by zero'))
STOPPED = interrupted('08')
DISK = judge('09', errors=['no space'], step_code=ExitCode.IO_ERROR)


@pytest.mark.parametrize(
    ('verdict', 'state', 'code'),
    [
        (COMPLETE, State.COMPLETE, 0),
        (DEGRADED, State.DEGRADED, 0),
        (SKIPPED, State.SKIPPED, 0),
        (INCOMPLETE, State.INCOMPLETE, 1),
        (judge('1', errors=['fit: it failed']), State.INCOMPLETE, 1),
        (judge('1', errors=['fit: it failed'], made_anything=False), State.FAILED, 70),
        (BAD, State.FAILED, 65),
        (MISSING, State.FAILED, 66),
        (judge('1', problems=[DEFECT, UNFETCHED], made_anything=False), State.FAILED, 65),
        (judge('1', made_anything=False), State.FAILED, 66),
        (CRASHED, State.FAILED, 70),
        (judge('1', error=GridMismatchError('other grid')), State.FAILED, 65),
        (judge('1', error=KeyboardInterrupt()), State.INTERRUPTED, 75),
        (STOPPED, State.INTERRUPTED, 75),
        (DISK, State.INCOMPLETE, 74),
        (judge('1', problems=[DEFECT], step_code=ExitCode.IO_ERROR), State.INCOMPLETE, 1),
    ],
)
def test_what_happened_decides_state_and_code(verdict: Verdict, state: State, code: int) -> None:
    assert (verdict.state, verdict.code) == (state, code)


@pytest.mark.parametrize(
    ('verdicts', 'code'),
    [
        ([], 0),
        ([COMPLETE, DEGRADED, SKIPPED], 0),
        ([COMPLETE, INCOMPLETE], 1),
        ([INCOMPLETE], 1),
        ([COMPLETE, BAD], 1),
        ([BAD], 65),
        ([BAD, BAD], 65),
        ([MISSING, MISSING], 66),
        ([BAD, MISSING], 65),
        ([BAD, CRASHED], 1),
        ([CRASHED, CRASHED], 70),
        ([CRASHED, COMPLETE], 1),
        ([COMPLETE, STOPPED], 75),
        ([DISK, STOPPED], 75),
        ([COMPLETE, DISK], 74),
        ([SKIPPED, BAD], 1),
    ],
)
def test_participants_decide_the_exit_code(verdicts: list[Verdict], code: int) -> None:
    assert combine(verdicts).code == code


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (DatasetError('no dataset_description.json'), 16),
        (SelectionError('no participant 99'), 18),
        (SettingsError('unknown setting'), 64),
        (InputDataError('bad'), 65),
        (MissingInputError('absent'), 66),
        (OutputError('read-only'), 73),
        (KeyboardInterrupt(), 75),
        (RuntimeError('boom'), 70),
    ],
)
def test_an_error_of_the_run_has_its_exit_code(error: BaseException, code: int) -> None:
    run = run_error(error)
    assert run.code == code
    assert f'exit code {code}' in run.line()
    assert run.state == (State.INTERRUPTED if code == 75 else State.FAILED)


def test_unexpected_errors_are_named_and_ours_speak_for_themselves() -> None:
    assert CRASHED.reasons == ('unexpected ZeroDivisionError: division by zero',)
    assert judge('1', error=InputDataError('NaN everywhere')).reasons == ('NaN everywhere',)


ALL = [COMPLETE, DEGRADED, SKIPPED, INCOMPLETE, BAD, MISSING, CRASHED, STOPPED, DISK]


@pytest.mark.parametrize(('first', 'second'), list(product(ALL, ALL)))
def test_line_code_state_and_summary_never_disagree(first: Verdict, second: Verdict) -> None:
    run = combine([first, second])
    summary = run.summary(['oxybold', 'in', 'out', 'participant'])
    assert (run.state in GOOD) == (run.code == 0)
    assert summary['verdict']['exit_code'] == run.code
    assert summary['verdict']['state'] == run.state
    assert run.line().startswith(f'{run.state}: ')
    assert f'exit code {int(run.code)}' in run.line()
    assert sum(summary['counts'].values()) == len(summary['participants']) == 2
    for state, count in summary['counts'].items():
        assert f'{count} {state}' in run.line()
    assert combine([second, first]).code == run.code
    assert json.loads(json.dumps(summary)) == summary


def test_last_line_says_what_to_open_and_what_was_kept() -> None:
    line = combine([COMPLETE, INCOMPLETE]).line(see='out/index.html', kept='out/.oxybold/work')
    assert line == (
        'incomplete: 1 complete, 1 incomplete; exit code 1; see out/index.html; '
        'work directory kept: out/.oxybold/work'
    )


def test_a_run_that_did_nothing_says_so() -> None:
    assert combine([SKIPPED]).line() == 'skipped: 1 skipped; exit code 0'
    assert combine([SKIPPED, DEGRADED]).state == State.DEGRADED


@pytest.mark.parametrize('verdict', ALL)
def test_summary_holds_the_verdict(verdict: Verdict) -> None:
    summary = participant_summary(verdict, command=['oxybold'], units=[])
    assert Verdict.from_summary(json.loads(json.dumps(summary))) == verdict
    assert summary['version'] == bids_app.__version__


def test_reasons_name_role_message_and_file() -> None:
    assert INCOMPLETE.text == (
        'sub-04: incomplete (mese: echo 3 is missing [sub-01_echo-4_MESE.nii.gz])'
    )
    assert judge('group').text == 'group: complete'


@pytest.mark.parametrize(
    ('state', 'code'),
    [(State.COMPLETE, ExitCode.PARTICIPANT_FAILED), (State.FAILED, ExitCode.OK)],
)
def test_state_and_code_cannot_contradict(state: State, code: ExitCode) -> None:
    with pytest.raises(ValueError, match='does not go with'):
        Verdict(participant='01', state=state, code=code)


def test_a_run_cannot_hide_a_failure() -> None:
    with pytest.raises(ValueError, match='exit code 0'):
        RunVerdict(verdicts=(BAD,))


def test_every_state_is_explained() -> None:
    assert set(MEANING) == set(State)
