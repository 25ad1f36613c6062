"""What runs a graph: steps in turn, or nipype's MultiProc with workers that may be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from traceback import format_exc, format_exception
from typing import TYPE_CHECKING, Any

from bids_app.engines.isolated import KILLED, end_with_parent
from bids_app.errors import StepKilledError
from bids_app.workflows.step_errors import note_crash

if TYPE_CHECKING:
    from concurrent.futures import Future

    from nipype.pipeline.plugins.multiproc import MultiProcPlugin as Base

    from bids_app.workflows.step_errors import StepError
else:
    Base = object


def make_plugin(plugin_args: dict[str, Any], errors: list[StepError]) -> Any:
    """
    Make what nipype runs a graph with.

    `plugin_args` are those of nipype's MultiProc, and ``new_process_per_node``, with one process
    at a time.

    nipype's plugins draw a random number when they are imported, so that is done here.
    """
    from nipype.pipeline.plugins.multiproc import MultiProcPlugin

    plugin: Any = type('WorkersPlugin', (Workers, MultiProcPlugin), {})
    return plugin(plugin_args=plugin_args, errors=errors)


class InTurnPlugin:
    """
    Runs one step after the other in this process, as nipype's Linear does.

    That one ends the run where a crash file cannot be written, which is so on a full disk.

    Parameters
    ----------
    plugin_args : dict
        ``status_callback``, called before and after every step.
    errors : list of StepError
        Gets the error of every step that fails.
    """

    def __init__(self, plugin_args: dict[str, Any], errors: list[StepError]) -> None:
        self.plugin_args = plugin_args
        self._errors = errors

    def run(self, graph: Any, config: dict[str, Any], updatehash: bool = False) -> None:
        """Run all steps but those that need one that failed."""
        from networkx import descendants
        from nipype.pipeline.engine.utils import topological_sort

        follow = self.plugin_args.get('status_callback', lambda *_: None)
        folder, lost = Path.cwd(), set[Any]()
        for node in topological_sort(graph)[0]:
            if node in lost:
                continue
            follow(node, 'start')
            measure = PeakMemory()
            try:
                node.run(updatehash=updatehash)
            except Exception:  # whatever ends a step ends what is made from it, and no more
                note_crash(node, format_exc(), self._errors)
                lost |= descendants(graph, node)
                follow(node, 'exception')
                if config['execution']['stop_on_first_crash'] == 'true':
                    break
            else:
                self.plugin_args.get('memory_callback', lambda *_: None)(node, measure.megabytes())
                follow(node, 'end')
        # every node runs in its own folder
        os.chdir(folder)


class Workers(Base):
    """
    What is different from nipype's MultiProc; goes before it among the bases.

    nipype waits for ever for a node whose worker gives no answer, be it killed by the kernel for
    want of memory, or unable to write what became of the node. Here that node fails with a
    sentence; after a kill those that were at work beside it too, and new workers go on.
    """

    def __init__(self, *, errors: list[StepError], **options: Any) -> None:
        super().__init__(**options)
        self._errors = errors
        self._nodes: dict[int, Any] = {}
        # nipype has made a pool of its own kind by now
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
            return self._submit_step(node, updatehash)
        except BrokenProcessPool:  # by a kill before this node: a pool that broke takes no more
            self._replace_workers()
            return self._submit_step(node, updatehash)

    def _replace_workers(self) -> None:
        self.pool.shutdown()
        self._start_workers()

    def _submit_step(self, node: Any, updatehash: bool) -> int:
        """Do what nipype's plugin does, with the memory measured."""
        self._taskid += 1
        future = self.pool.submit(run_measured, node, updatehash, self._taskid)
        future.add_done_callback(self._async_callback)
        self._task_obj[self._taskid] = future
        self._nodes[self._taskid] = node
        return int(self._taskid)

    def _async_callback(self, args: Future[Any]) -> None:
        # nipype's asks for the result, which would raise where nobody listens and leave the node
        # waiting; one that failed is fetched by `_get_result` instead
        if args.exception() is None:
            super()._async_callback(args)

    def _get_result(self, taskid: int) -> Any:
        future = self._task_obj[taskid]
        error = future.exception() if future.done() else None
        if error is None:
            result = super()._get_result(taskid)
            if result and 'memory' in result:
                note = self.plugin_args.get('memory_callback', lambda *_: None)
                note(self._nodes.pop(taskid), result.pop('memory'))
            return result
        if isinstance(error, BrokenProcessPool):  # of all that were at work, killed or not
            error = StepKilledError(KILLED)
        return {'result': None, 'traceback': format_exception(error), 'taskid': taskid}

    def _report_crash(self, node: Any, result: Any = None) -> str:
        trace = result['traceback'] if result else format_exc()
        return note_crash(node, ''.join(trace), self._errors)


UNIT = 1024 if sys.platform == 'linux' else 1
"""Bytes of one unit of ru_maxrss; macOS counts bytes."""


class PeakMemory:
    """Measures the most memory that this process, or a child it waited for, takes from now on."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # else the peak is that since the process began
            Path('/proc/self/clear_refs').write_text('5', 'ascii')
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    def megabytes(self) -> float:
        """Give the peak so far, MB; a child counts where it took more than all before it."""
        own = 0
        with contextlib.suppress(OSError, ValueError):
            for line in Path('/proc/self/status').read_text('ascii').splitlines():
                if line.startswith('VmHWM'):
                    own = int(line.split()[1]) * 1024
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return max(own, children * UNIT if children > self._children else 0) / 1e6


def run_measured(node: Any, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a step in a worker as nipype does, and measure its memory."""
    from nipype.pipeline.plugins.multiproc import run_node

    measure = PeakMemory()
    result: dict[str, Any] = run_node(node, updatehash, taskid)
    return result | {'memory': measure.megabytes()}


def start_worker(folder: str) -> None:
    """Prepare a worker: the app alone takes signals, and takes its workers along."""
    os.chdir(folder)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
