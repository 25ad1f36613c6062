"""What went wrong in a step, as a sentence with an exit code: from tracebacks and crash files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bids_app.errors
from bids_app.bids.output.write import DISK_ERRORS
from bids_app.errors import AppError, ExitCode, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DISK_FAULTS = tuple(map(os.strerror, DISK_ERRORS))
"""What the system says of a medium that failed."""

FULL = 1 << 20
"""A disk with less room than this is full, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """A node that failed."""

    node: str
    """Its full name."""
    message: str
    """The last line of the error."""
    trace: str
    """The whole traceback."""
    code: int
    """Exit code the error would have if the participant were alone."""

    @classmethod
    def of(cls, node: str, trace: str) -> StepError:
        """Make one from a traceback."""
        message, code = _last_error(trace)
        return cls(node=node, message=message, trace=trace.strip(), code=int(code))


def note_crash(node: Any, trace: str, errors: list[StepError]) -> str:
    """
    Keep the error of a step, and write nipype's crash file where that can be done.

    Give the path of the crash file; empty where it could not be written.

    The error is kept in memory: the disk for crash files may be what failed.
    """
    from nipype.pipeline.plugins.tools import report_crash

    errors.append(StepError.of(node.fullname, trace))
    folder = node.config['execution']['crashdump_dir']
    with contextlib.suppress(Exception):  # of a node that cannot be pickled, or of the disk
        Path(folder).stat()  # one that was deleted is not made again
        return str(report_crash(node, traceback=trace.splitlines(keepends=True)))
    return ''


def read_crashes(folder: Path) -> list[StepError]:
    """Read nipype's crash files, which is all that plugins of others leave."""
    errors = []
    for path in sorted(folder.glob('crash-*.txt')):
        text = path.read_text('utf-8', errors='replace')
        node = re.search(r'^Node: (.+)$', text, re.MULTILINE)
        trace = text[text.find('Traceback') :] if 'Traceback' in text else text
        errors.append(StepError.of(node[1].strip() if node else path.stem, trace))
    return sorted(errors, key=lambda error: error.node)


def _last_error(trace: str) -> tuple[str, ExitCode]:
    """Find the error in a traceback: its text and exit code; the last of ours, else the last."""
    found = re.findall(
        r'^\s*((?:\w+\.)*(\w*(?:Error|Exception|Exit|Interrupt|Killed)\w*)): (.+)$',
        trace,
        re.MULTILINE,
    )
    fault = next((text for text in DISK_FAULTS if text in trace), '')
    for _, name, message in reversed(found):
        family = getattr(bids_app.errors, name, None)
        if not (isinstance(family, type) and issubclass(family, AppError)):
            continue
        if not fault or issubclass(family, OutputError):
            return message.strip(), ExitCode.IO_ERROR if fault else family.exit_code
    if fault:
        return fault, ExitCode.IO_ERROR
    real = [item for item in found if item[1] != 'NodeExecutionError']
    if real:
        return f'{real[-1][1]}: {real[-1][2].strip()}', ExitCode.SOFTWARE
    last = [line.strip() for line in trace.splitlines() if line.strip()]
    return (last[-1] if last else 'no message'), ExitCode.SOFTWARE


def blame_disks(errors: Iterable[StepError], folders: Mapping[str, Path]) -> list[StepError]:
    """
    Name the disk that is full, or the folder that was deleted, where that is what stopped steps.

    `folders` maps how a folder is called, such as ``the output /out``, to a folder or file in it
    that was there when the run began. Errors of a full disk, and those that look like faults of
    the program while a disk is full or a folder is gone, get exit code 74 and its name.
    """
    fault = disk_fault(folders)
    return [_blamed(error, fault, folders) for error in errors]


def _blamed(error: StepError, fault: str, folders: Mapping[str, Path]) -> StepError:
    """Say of one error which disk is to blame."""
    if error.code not in (ExitCode.IO_ERROR, ExitCode.SOFTWARE):
        return error
    if fault:
        return replace(error, message=fault, code=int(ExitCode.IO_ERROR))
    if error.code == ExitCode.SOFTWARE:
        return error
    places = ' or '.join(folders)
    return replace(error, message=f'{error.message}, on the disk of {places}')


def as_app_error(error: BaseException, folders: Mapping[str, Path]) -> BaseException:
    """
    Turn an error that the machine made into one that says so.

    An OutputError with exit code 74 where a disk is full or a folder is gone; else as it was.
    """
    if isinstance(error, AppError | KeyboardInterrupt):
        return error
    fault = disk_fault(folders)
    if not fault and isinstance(error, OSError) and error.errno in DISK_ERRORS:
        fault = str(error)
    if not fault:
        return error
    result = OutputError(fault)
    result.exit_code = ExitCode.IO_ERROR
    return result


def disk_fault(folders: Mapping[str, Path]) -> str:
    """
    Look for a folder that is gone, or whose disk has no room.

    One sentence; empty where all is well.
    """
    for name, path in folders.items():
        try:
            room = os.statvfs(path)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return f'{name} was deleted while the run used it'
            return f'{name}: {error.strerror}'
        kind = 'inodes' if room.f_files and not room.f_favail else 'space'
        if kind == 'inodes' or room.f_bavail * room.f_frsize < FULL:
            return f'the disk of {name} is full (no {kind} left)'
    return ''
