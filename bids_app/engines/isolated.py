"""
Run one function of :mod:`bids_app.engines.ants` in a process of its own.

ITK reads its number of threads and its random seed once, when it is loaded; only a process that
was started with both gives the same numbers each time. The request and the reply are JSON files.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import errors

if TYPE_CHECKING:
    from bids_app._typing import PathLike

TASKS = (
    'average_heads',
    'correct_bias',
    'extract_brain',
    'segment_tissue',
    'register_rigid',
    'normalise_to_template',
    'template_coordinates',
)
"""Functions that may be asked for."""

LAST_LINES = 15
"""Lines of the error output that an error quotes."""

KILLED = (
    'the process of this step was killed, probably because memory ran out; give more memory, or '
    'run fewer steps at once (--nprocs, --low-mem)'
)
"""What is said where a process ended without an answer."""

PR_SET_PDEATHSIG = 1
"""Of Linux: the signal that a process gets when its parent has ended."""

THREAD_VARIABLES = (
    'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS',
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'MKL_NUM_THREADS',
)


def run_isolated(
    task: str, *, cwd: PathLike, seed: int = 42, n_threads: int = 1, **arguments: Any
) -> dict[str, Any]:
    """
    Run a function of the ANTs engine in its own process, the same numbers each time.

    Parameters
    ----------
    task : str
        One of :data:`TASKS`.
    cwd : path
        Existing folder for scratch files; they are removed at the end.
    seed : int
        Of everything that samples at random.
    n_threads : int
        Threads of ITK and BLAS; results are repeatable with 1 only.
    **arguments
        Of the function: paths, numbers, booleans, None. Relative paths are meant from here.

    Returns
    -------
    reply : dict
        What the function returned.

    Raises
    ------
    AppError
        Of the class the function raised; or, if the process died, with its last lines.
    StepKilledError
        If the process was killed.

    Examples
    --------
    >>> run_isolated('paint', cwd='.')
    Traceback (most recent call last):
    bids_app.errors.SettingsError: no engine task 'paint'; expected one of average_heads, \
correct_bias, extract_brain, segment_tissue, \
register_rigid, normalise_to_template, template_coordinates
    """
    if task not in TASKS:
        msg = f'no engine task {task!r}; expected one of {", ".join(TASKS)}'
        raise errors.SettingsError(msg)
    with tempfile.TemporaryDirectory(prefix=f'{task}_', dir=cwd) as scratch:
        request, reply = Path(scratch) / 'request.json', Path(scratch) / 'reply.json'
        request.write_text(json.dumps({'task': task, 'arguments': arguments}, default=os.fspath))
        done = subprocess.run(
            [sys.executable, '-m', __name__, str(request), str(reply)],
            env=_environment(Path(scratch).resolve(), seed, n_threads),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            check=False,
        )
        answer = json.loads(reply.read_text()) if reply.exists() else {}
    if 'error' in answer:
        raise getattr(errors, answer['error'])(answer['message'])
    if done.returncode == -signal.SIGKILL:
        raise errors.StepKilledError(KILLED)
    if done.returncode != 0 or 'result' not in answer:
        lines = (done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:] or ['none']
        shown = '\n'.join(lines)
        msg = f'{task} ended with code {done.returncode}: {lines[-1]}\nIts last lines:\n{shown}'
        raise errors.AppError(msg)
    result: dict[str, Any] = answer['result']
    return result


def _environment(scratch: Path, seed: int, n_threads: int) -> dict[str, str]:
    """Environment of the process: threads, seed, scratch folder, this very package."""
    package_parent = str(Path(errors.__file__).resolve().parents[1])
    search_path = [package_parent, os.environ.get('PYTHONPATH', '')]
    return {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(n_threads)),
        'ANTS_RANDOM_SEED': str(seed),
        'TMPDIR': str(scratch),
        'MPLBACKEND': 'Agg',
        'PYTHONPATH': os.pathsep.join(filter(None, search_path)),
    }


def end_with_parent() -> None:
    """Let the kernel end this process when its parent has ended, even by a kill; Linux only."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(request: Path, reply: Path) -> None:
    """Do what the request asks; write the result, or an error the user can act on."""
    end_with_parent()
    wanted = json.loads(request.read_text())
    function = getattr(import_module('bids_app.engines.ants'), wanted['task'])
    seed = int(os.environ['ANTS_RANDOM_SEED'])
    try:
        result = function(**wanted['arguments'], seed=seed, scratch=request.parent)
    except errors.AppError as error:
        reply.write_text(json.dumps({'error': type(error).__name__, 'message': str(error)}))
    else:
        reply.write_text(json.dumps({'result': result}))


if __name__ == '__main__':
    _answer(Path(sys.argv[1]), Path(sys.argv[2]))
