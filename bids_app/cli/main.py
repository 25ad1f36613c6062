"""The program: the only place that sets up logging, catches everything and exits."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.cli.parser import LEVELS, parse, parse_init, parse_status, run_settings
from bids_app.errors import AppError, ExitCode, OutputError
from bids_app.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bids_app.bids.run.outcome import RunVerdict
    from bids_app.settings import RunSettings, Settings

LOGGER = logging.getLogger('oxybold')

ENVIRONMENT = {
    'NO_ET': '1',
    'NIPYPE_NO_ET': '1',
    'MPLBACKEND': 'Agg',
    'LOGNAME': 'oxybold',
}
"""Set unless the user did: no telemetry, no display, a name for schedulers."""


SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""By which schedulers and closed terminals end a program; handled beside the interrupt key."""


def run() -> None:
    """Run the program and leave with its exit code."""
    _open_streams()
    with _usable_home():
        code = main()
    sys.exit(code)


def main(argv: list[str] | None = None) -> int:
    """
    Run the program.

    Give the exit code (docs/reference/exit-codes.md), said in the last log line too.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv == ['--self-test']:
        return _self_test()
    _start_logging(argv)
    if argv[:1] == ['status'] and not set(LEVELS) & set(argv):
        return _status(argv[1:])
    if argv[:1] == ['init'] and not set(LEVELS) & set(argv):
        return _init(argv[1:])
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    where: RunSettings | None = None
    try:
        options, values = parse(argv)
        where = run_settings(options, argv)
        _set_environment(where.omp_nthreads)
        settings = resolve(
            preset=options.preset, config_file=options.config_file, command_line=values
        )
        verdict = _run(where, settings)
    except SystemExit as request:  # --help and --version
        return int(request.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        verdict = _verdict_on(error)
    return _finish(verdict, where)


def _run(where: RunSettings, settings: Settings) -> RunVerdict:
    """Do what was asked for; heavy imports are made here."""
    from bids_app.bids.run.outcome import RunVerdict

    if where.dry_run:
        from bids_app.workflows.dry_run import dry_run

        _say(dry_run(where, settings))
        return RunVerdict(reasons=('dry run, nothing was written',))
    if where.level == 'group':
        from bids_app.group.workflow import run_group

        return run_group(where, settings)
    from bids_app.workflows.app import rebuild_reports, run_participants

    return rebuild_reports(where) if where.reports_only else run_participants(where, settings)


def _say(text: str) -> None:
    """Write to standard output; a reader that has left, such as head, is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # else what is left is written again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            message = OutputError(f'cannot write to standard output: {error.strerror}')
            message.exit_code = ExitCode.IO_ERROR
            raise message from error


def _open_streams() -> None:
    """Open what a daemon was started without: files would take the place of its streams."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            mode = os.O_RDONLY if name == 'stdin' else os.O_WRONLY
            os.dup2(os.open(os.devnull, mode), number)
            setattr(sys, name, os.fdopen(number, 'r' if name == 'stdin' else 'w', closefd=False))


@contextlib.contextmanager
def _usable_home() -> Iterator[None]:
    """Give libraries, which look there at import, an empty home where none can be read."""
    home = Path(os.path.expanduser('~'))  # noqa: PTH111  (Path.home raises where there is none)
    if os.access(home, os.R_OK | os.X_OK):
        yield
        return
    with tempfile.TemporaryDirectory(prefix='oxybold-home-') as folder:
        os.environ['HOME'] = folder
        yield


def _verdict_on(error: BaseException) -> RunVerdict:
    """Turn an exception into a verdict; the traceback is shown only for our own mistakes."""
    from bids_app.bids.run.outcome import run_error

    if not isinstance(error, AppError | KeyboardInterrupt):
        LOGGER.exception('unexpected error')
    elif LOGGER.isEnabledFor(logging.DEBUG):
        LOGGER.debug('traceback', exc_info=error)
    return run_error(error)


def _finish(verdict: RunVerdict, where: RunSettings | None) -> int:
    """Write the summary of the run and the last line of the log."""
    see = _record(verdict, where) if where is not None else None
    level = logging.INFO if verdict.code == 0 else logging.ERROR
    LOGGER.log(level, '%s', verdict.line(see=see, kept=_kept_work(verdict, where)))
    return int(verdict.code)


def _record(verdict: RunVerdict, where: RunSettings) -> Path | None:
    """Write logs/run_summary.json where the output was made; name the file to open."""
    from bids_app.bids.output.dataset import check_locations, check_version
    from bids_app.bids.output.names import output_path
    from bids_app.bids.output.write import write_json

    if where.dry_run or not (where.output_dir / output_path('dataset_description')).is_file():
        return None
    try:
        check_locations(where)
        check_version(where.output_dir, force=where.force)
    except AppError:  # refused, so not ours to write to
        return None
    summary = verdict.summary(command=where.command, level=where.level)
    try:
        write_json(summary, output_dir=where.output_dir, key='last_run_summary', entities={})
    except AppError as error:
        LOGGER.warning('%s', error)
        with contextlib.suppress(OSError):  # none is better than one that says otherwise
            (where.output_dir / output_path('last_run_summary')).unlink(missing_ok=True)
    key = 'group_report' if where.level == 'group' else 'index'
    report = where.output_dir / output_path(key)
    return report if report.is_file() else None


def _kept_work(verdict: RunVerdict, where: RunSettings | None) -> Path | None:
    """Name the work directory where a participant left its files."""
    if where is None or all(item.is_good for item in verdict.verdicts):
        return None
    from bids_app.bids.output.dataset import work_dir_of

    return work_dir_of(where)


def _set_environment(n_threads: int) -> None:
    """Set what libraries read when they are first imported."""
    from bids_app.engines.isolated import THREAD_VARIABLES

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in THREAD_VARIABLES:
        os.environ[name] = str(n_threads)
    if n_threads > 1:
        LOGGER.warning('--omp-nthreads %d: results are no longer bit-identical', n_threads)


def _start_logging(argv: list[str]) -> None:
    """Send our messages to standard error."""
    verbosity = sum(a.count('v') for a in argv if a.startswith('-v') and not a.startswith('--'))
    verbosity += argv.count('--verbose')
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s', '%H:%M:%S'))
    LOGGER.handlers = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(logging.DEBUG if verbosity else logging.INFO)


def _interrupt(*_: Any) -> None:
    """End the run in order when the scheduler asks for it."""
    raise KeyboardInterrupt


def _status(argv: list[str]) -> int:
    """Say how far the cohort in an output is."""
    import json

    from bids_app.bids.run.cohort import cohort, describe

    try:
        options = parse_status(argv)
        found = cohort(options.output_dir.absolute())
        text = json.dumps(found, indent=2) if options.json else '\n'.join(describe(found))
        _say(f'{text}\n')
    except SystemExit as request:  # --help
        return int(request.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        return _finish(_verdict_on(error), None)
    return int(ExitCode.OK)


def _init(argv: list[str]) -> int:
    """Look at a dataset and write what a first run needs."""
    try:
        run, folder = parse_init(argv)
        from bids_app.workflows.start import start

        _say(start(run, folder))
    except SystemExit as request:  # --help
        return int(request.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        return _finish(_verdict_on(error), None)
    return int(ExitCode.OK)


def _self_test() -> int:
    """Run the phantom as a subprocess and compare with the truth."""
    from bids_app.cli.self_test import self_test

    return self_test()
