"""
The verdict of a participant and of a run: one value from which all else is said.

The exit code, the last log line, the run summary and the badge of the report are read off one
frozen object, so they cannot disagree. Rules: docs/reference/exit-codes.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import bids_app
from bids_app.errors import AppError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bids_app.bids.scans import Problem

LOGGER = logging.getLogger('oxybold')

DATA_CODES = frozenset({ExitCode.BAD_INPUT, ExitCode.MISSING_INPUT})
"""The data of the participant are to blame."""

MACHINE_CODES = (ExitCode.CANNOT_CREATE_OUTPUT, ExitCode.IO_ERROR)
"""The output is to blame; it concerns the whole run."""


class State(StrEnum):
    """What became of a participant."""

    COMPLETE = 'complete'
    DEGRADED = 'degraded'
    INCOMPLETE = 'incomplete'
    FAILED = 'failed'
    SKIPPED = 'skipped'
    INTERRUPTED = 'interrupted'


MEANING = {
    State.COMPLETE: 'every map that the app can make was made',
    State.DEGRADED: 'an input is absent, so its maps were not made; all others were',
    State.INCOMPLETE: 'an input is defective, or a step or a part of the report failed; the other '
    'maps were made',
    State.FAILED: 'it could not be run or finished',
    State.SKIPPED: 'nothing to do: inputs, settings and program are those of the finished run',
    State.INTERRUPTED: 'stopped before the end',
}
"""One sentence per state."""

GOOD = frozenset({State.COMPLETE, State.DEGRADED, State.SKIPPED})
"""States that end with exit code 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What became of one participant, all sessions together.

    Parameters
    ----------
    participant : str
        Without sub-; ``group`` for the group level.
    state : State
        See :data:`MEANING`.
    reasons : tuple of str
        Sentences: what is absent, defective or went wrong.
    code : ExitCode
        Exit code if this participant were alone.

    Raises
    ------
    ValueError
        If state and code contradict each other: an error of the program.
    """

    participant: str
    state: State
    reasons: tuple[str, ...] = ()
    code: ExitCode = ExitCode.OK

    def __post_init__(self) -> None:
        if (self.state in GOOD) != (self.code == ExitCode.OK):
            msg = f'state {self.state} does not go with exit code {int(self.code)}'
            raise ValueError(msg)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost that the data allow."""
        return self.state in GOOD

    @property
    def text(self) -> str:
        """One line: name, state and reasons."""
        name = self.participant if self.participant == 'group' else f'sub-{self.participant}'
        return f'{name}: {self.state}' + (f' ({"; ".join(self.reasons)})' if self.reasons else '')

    def as_dict(self) -> dict[str, Any]:
        """Give the `verdict` entry of the run summaries."""
        return {
            'state': str(self.state),
            'exit_code': int(self.code),
            'reasons': list(self.reasons),
        }

    @classmethod
    def from_summary(cls, summary: dict[str, Any]) -> Verdict:
        """Read a verdict back from a participant's run summary."""
        entry = summary['verdict']
        return cls(
            participant=summary['participant'],
            state=State(entry['state']),
            reasons=tuple(entry['reasons']),
            code=ExitCode(entry['exit_code']),
        )


def judge(
    participant: str,
    *,
    absences: Iterable[str] = (),
    problems: Iterable[Problem] = (),
    errors: Iterable[str] = (),
    made_anything: bool = True,
    step_code: ExitCode = ExitCode.SOFTWARE,
    error: BaseException | None = None,
) -> Verdict:
    """
    Give the verdict on a participant from what happened.

    Parameters
    ----------
    participant : str
        Without sub-.
    absences : iterable of str
        Sentences: inputs that are not there, so that maps were not made.
    problems : iterable of Problem
        Defective inputs, whose branches were not run.
    errors : iterable of str
        Steps that failed.
    made_anything : bool
        Whether at least one result was made; where nothing failed the anatomy is one.
    step_code : ExitCode
        Exit code of the failed steps: it counts where nothing was made, or the output could not
        be written.
    error : BaseException, optional
        What ended the participant as a whole; wins over the rest.

    Returns
    -------
    verdict : Verdict
        With every reason, the gravest kind first.

    Examples
    --------
    >>> judge('01', absences=['no DSC: CBV was not made']).text
    'sub-01: degraded (no DSC: CBV was not made)'
    """
    problems, errors, absences = tuple(problems), tuple(errors), tuple(absences)
    if error is not None:
        return _ended(participant, error)
    reasons = (*errors, *(_sentence(problem) for problem in problems), *absences)
    if not (problems or errors):
        return _without_loss(participant, absences, made_anything=made_anything)
    if made_anything:
        full_disk = bool(errors) and step_code in MACHINE_CODES
        code = step_code if full_disk else ExitCode.PARTICIPANT_FAILED
        return Verdict(participant=participant, state=State.INCOMPLETE, reasons=reasons, code=code)
    code = step_code if errors else _data_code(problem.code for problem in problems)
    return Verdict(participant=participant, state=State.FAILED, reasons=reasons, code=code)


def _without_loss(participant: str, absences: tuple[str, ...], *, made_anything: bool) -> Verdict:
    """Judge a participant where nothing went wrong."""
    if not made_anything:
        return Verdict(
            participant=participant,
            state=State.FAILED,
            reasons=absences or ('no image that the app can use',),
            code=ExitCode.MISSING_INPUT,
        )
    state = State.DEGRADED if absences else State.COMPLETE
    return Verdict(participant=participant, state=state, reasons=absences)


def _ended(participant: str, error: BaseException) -> Verdict:
    """Judge a participant that an exception ended."""
    code, reason = code_of(error), reason_of(error)
    state = State.INTERRUPTED if code == ExitCode.INTERRUPTED else State.FAILED
    return Verdict(participant=participant, state=state, reasons=(reason,), code=code)


def skipped(participant: str, reason: str = MEANING[State.SKIPPED]) -> Verdict:
    """Give the verdict on a participant whose outputs are intact and up to date."""
    return Verdict(participant=participant, state=State.SKIPPED, reasons=(reason,))


def interrupted(participant: str, reason: str = 'stopped by a signal') -> Verdict:
    """Give the verdict on a participant that a signal stopped or never let start."""
    return Verdict(
        participant=participant,
        state=State.INTERRUPTED,
        reasons=(reason,),
        code=ExitCode.INTERRUPTED,
    )


def code_of(error: BaseException) -> ExitCode:
    """
    Give the exit code of an exception.

    Examples
    --------
    >>> code_of(ZeroDivisionError())
    <ExitCode.SOFTWARE: 70>
    """
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, AppError):
        return error.exit_code
    return ExitCode.SOFTWARE


def reason_of(error: BaseException) -> str:
    """
    Give the sentence of an exception; the type where it is not one of ours.

    Examples
    --------
    >>> reason_of(ZeroDivisionError('division by zero'))
    'unexpected ZeroDivisionError: division by zero'
    """
    if isinstance(error, AppError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return 'stopped by a signal'
    return f'unexpected {type(error).__name__}: {error}'


def _sentence(problem: Problem) -> str:
    """Give a problem in one line, with its file."""
    place = f' [{problem.file.name}]' if problem.file is not None else ''
    return f'{problem.role}: {problem.message}{place}'


def _data_code(codes: Iterable[ExitCode]) -> ExitCode:
    """Give 66 where no file could be opened, 65 as soon as one was opened and is defective."""
    only_missing = set(codes) == {ExitCode.MISSING_INPUT}
    return ExitCode.MISSING_INPUT if only_missing else ExitCode.BAD_INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerdict:
    """
    What became of a run.

    Parameters
    ----------
    verdicts : tuple of Verdict
        One per participant, in order.
    code : ExitCode
        Of the process.
    reasons : tuple of str
        Why the run as a whole ended, where no participant is to blame.

    Raises
    ------
    ValueError
        If a participant lost something and the code is 0: an error of the program.
    """

    verdicts: tuple[Verdict, ...] = ()
    code: ExitCode = ExitCode.OK
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.code == ExitCode.OK and not all(verdict.is_good for verdict in self.verdicts):
            msg = 'a run that lost something cannot end with exit code 0'
            raise ValueError(msg)

    @property
    def state(self) -> State:
        """The state of the run as a whole."""
        states = {verdict.state for verdict in self.verdicts}
        if self.code == ExitCode.INTERRUPTED:
            return State.INTERRUPTED
        if self.code != ExitCode.OK:
            lost_all = not self.verdicts or states == {State.FAILED}
            return State.FAILED if lost_all else State.INCOMPLETE
        if State.DEGRADED in states:
            return State.DEGRADED
        return State.SKIPPED if states == {State.SKIPPED} else State.COMPLETE

    @property
    def counts(self) -> dict[str, int]:
        """How many participants ended in which state; only states that occur."""
        states = [verdict.state for verdict in self.verdicts]
        return {str(state): states.count(state) for state in State if state in states}

    def line(self, see: object = None, kept: object = None) -> str:
        """
        Give the last line of the log.

        State, counts, exit code, the file to see next, and the work directory that was kept.
        """
        parts = [f'{count} {state}' for state, count in self.counts.items()]
        text = f'{self.state}: {", ".join([*parts, *self.reasons]) or "nothing to do"}'
        text += f'; exit code {int(self.code)}'
        text += f'; see {see}' if see is not None else ''
        return text + (f'; work directory kept: {kept}' if kept is not None else '')

    def summary(self, command: Sequence[str] = (), **extra: Any) -> dict[str, Any]:
        """
        Give the content of logs/run_summary.json.

        Verdict, participants, and what the last log line says; `extra` are further entries.
        """
        return {
            'app': 'oxybold',
            'version': bids_app.__version__,
            'command': list(command),
            'verdict': {
                'state': str(self.state),
                'exit_code': int(self.code),
                'reasons': list(self.reasons),
            },
            'counts': self.counts,
            'participants': [
                {'participant': verdict.participant, **verdict.as_dict()}
                for verdict in self.verdicts
            ],
            **extra,
        }


def combine(verdicts: Iterable[Verdict]) -> RunVerdict:
    """
    Give the verdict on a run from those on its participants.

    Exit code 75 if it was stopped; 73 or 74 if the output could not be written; 0 if nothing was
    lost; 65 or 66 if all failed by their data; 70 if all failed by an error of the program; else
    1.

    Examples
    --------
    >>> combine([judge('01'), judge('02', errors=['no fit'])]).line()
    'incomplete: 1 complete, 1 incomplete; exit code 1'
    """
    verdicts = tuple(verdicts)
    return RunVerdict(verdicts=verdicts, code=_run_code(verdicts))


def _run_code(verdicts: tuple[Verdict, ...]) -> ExitCode:
    """Choose the exit code of a run."""
    codes = {verdict.code for verdict in verdicts}
    for code in (ExitCode.INTERRUPTED, *reversed(MACHINE_CODES)):
        if code in codes:
            return code
    if not verdicts or all(verdict.is_good for verdict in verdicts):
        return ExitCode.OK
    if all(verdict.state == State.FAILED for verdict in verdicts):
        if codes <= DATA_CODES:
            return _data_code(codes)
        if len(codes) == 1:
            return codes.pop()
    return ExitCode.PARTICIPANT_FAILED


def run_error(error: BaseException, verdicts: Iterable[Verdict] = ()) -> RunVerdict:
    """
    Give the verdict on a run that an exception ended outside of any participant.

    With the exit code of the exception; the verdicts are of participants that were done before.
    """
    return RunVerdict(verdicts=tuple(verdicts), code=code_of(error), reasons=(reason_of(error),))


@dataclass(slots=True)
class Aftermath:
    """
    What follows the maps: tables, records, figures, reports.

    Nothing of it can make its participant fail: the maps stand, and a part that could not be made
    is missing with its reason. Only where the output cannot be written does the error go on, for
    that concerns the whole run.

    Parameters
    ----------
    missing : list of str
        One sentence per part that could not be made.
    """

    missing: list[str] = field(default_factory=list)

    def attempt(self, part: str, make: Callable[[], Any], otherwise: Any = None) -> Any:
        """
        Make a part.

        Give what `make` gives, else `otherwise`; `part` names it in the sentence on a failure.

        Examples
        --------
        >>> aftermath = Aftermath()
        >>> aftermath.attempt('shares', lambda: 1 / 0, 0.0)
        0.0
        >>> aftermath.missing
        ['shares missing: unexpected ZeroDivisionError: division by zero']
        """
        try:
            return make()
        except Exception as error:
            if code_of(error) in MACHINE_CODES:
                raise
            LOGGER.debug('%s', part, exc_info=error)
            self.missing.append(f'{part} missing: {reason_of(error)}')
            return otherwise

    def amend(self, verdict: Verdict) -> Verdict:
        """Give a verdict that names what is missing."""
        new = tuple(text for text in self.missing if text not in verdict.reasons)
        if not new:
            return verdict
        changed = replace(verdict, reasons=(*new, *verdict.reasons))
        if not verdict.is_good:
            return changed
        return replace(changed, state=State.INCOMPLETE, code=ExitCode.PARTICIPANT_FAILED)

    def amend_run(self, verdict: RunVerdict) -> RunVerdict:
        """Give the verdict on a run that names what is missing of the pages all share."""
        if not self.missing:
            return verdict
        code = ExitCode.PARTICIPANT_FAILED if verdict.code == ExitCode.OK else verdict.code
        return replace(verdict, reasons=(*verdict.reasons, *self.missing), code=code)


def participant_summary(
    verdict: Verdict, *, command: Sequence[str], units: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """
    Give the content of logs/sub-XX_run_summary.json, from which the report is made.

    `units` have label, conditions, contrasts, notes, problems, values, maps, graph, methods and
    errors of each session.
    """
    return {
        'participant': verdict.participant,
        'version': bids_app.__version__,
        'command': list(command),
        'verdict': verdict.as_dict(),
        'units': list(units),
    }
