"""Prove an installation: make a tiny digital study, run the app on it, compare with the truth."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bids_app.errors import ExitCode

PARTICIPANTS = '2'


def self_test() -> int:
    """
    Run the phantom, the app and the comparison, each in a process of its own.

    Returns
    -------
    code : int
        0 if every median over grey matter lies within its tolerance of the truth, and every
        region of true change has the right sign; else 70.

    Notes
    -----
    Takes about a minute. The table of truth against estimate goes to standard output, what the
    app says to standard error. Nothing is left behind.
    """
    with tempfile.TemporaryDirectory(prefix='oxybold-self-test-') as folder:
        passed = all(_run(*command) for command in _commands(Path(folder)))
    sys.stdout.write(f'self-test {"passed" if passed else "FAILED"}\n')
    return int(ExitCode.OK if passed else ExitCode.SOFTWARE)


def _commands(folder: Path) -> tuple[tuple[str, ...], ...]:
    """Give the steps: module and arguments."""
    study, output = str(folder / 'study'), str(folder / 'derivatives')
    anatomy = f'fmriprep={folder / "study" / "derivatives" / "fmriprep"}'
    options = ('-d', anatomy, '--registration', 'header')
    return (
        ('bids_app.phantom.cli', study, '--grid', 'tiny', '--participants', PARTICIPANTS),
        ('bids_app', study, output, 'participant', *options),
        ('bids_app', study, output, 'group'),
        ('bids_app.phantom.compare', study, output),
    )


def _run(module: str, *arguments: str) -> bool:
    """Run a module; tell whether it ended well."""
    done = subprocess.run([sys.executable, '-m', module, *arguments], check=False)
    return done.returncode == 0
