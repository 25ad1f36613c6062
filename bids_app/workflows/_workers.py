"""nipype's MultiProc with workers that may be killed, and that never outlive the app."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from bids_app.engines.isolated import KILLED, end_with_parent
from bids_app.errors import StepKilledError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from nipype.pipeline.plugins.multiproc import MultiProcPlugin as Base
else:
    Base = object


def make_plugin(plugin_args: dict[str, Any]) -> Any:
    """
    Make what nipype runs a graph with.

    nipype's plugins draw a random number when they are imported, so that is done here.

    Parameters
    ----------
    plugin_args : dict
        As for nipype's MultiProc; and ``new_process_per_node``, with one process at a time.

    Returns
    -------
    plugin : Workers
        Which is a MultiProcPlugin.
    """
    from nipype.pipeline.plugins.multiproc import MultiProcPlugin

    plugin: Any = type('WorkersPlugin', (Workers, MultiProcPlugin), {})
    return plugin(plugin_args=plugin_args)


class Workers(Base):
    """
    What is different from nipype's MultiProc; goes before it among the bases.

    nipype waits for ever when the kernel kills a worker for want of memory. Here its node fails
    with a sentence, those that were at work beside it too, and new workers go on with the rest.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._replace_workers()

    def _start_workers(self) -> None:
        self.pool = ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=start_worker,
            initargs=(self._cwd,),
            mp_context=multiprocessing.get_context('fork'),
        )

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        if self.plugin_args.get('new_process_per_node'):
            self._replace_workers()
        try:
            return int(super()._submit_job(node, updatehash=updatehash))
        except BrokenProcessPool:
            self._replace_workers()
            return int(super()._submit_job(node, updatehash=updatehash))

    def _replace_workers(self) -> None:
        self.pool.shutdown()
        self._start_workers()

    def _async_callback(self, args: Future[Any]) -> None:
        if not _was_killed(args):
            super()._async_callback(args)

    def _get_result(self, taskid: int) -> Any:
        if _was_killed(self._task_obj[taskid]):
            error = f'{StepKilledError.__module__}.{StepKilledError.__name__}: {KILLED}\n'
            trace = ['Traceback (most recent call last):\n', error]
            return {'result': None, 'traceback': trace, 'taskid': taskid}
        return super()._get_result(taskid)


def _was_killed(future: Future[Any]) -> bool:
    """Tell whether the worker of a node ended without an answer."""
    done = future.done() and not future.cancelled()
    return done and isinstance(future.exception(), BrokenProcessPool)


def start_worker(folder: str) -> None:
    """Prepare a worker: the app alone takes signals, and takes its workers along."""
    os.chdir(folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
