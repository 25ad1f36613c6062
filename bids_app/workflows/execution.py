"""Run a graph with nipype, and stop it when asked to."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import re
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.run.cohort import note_running
from bids_app.errors import SettingsError
from bids_app.workflows._engine import is_identity
from bids_app.workflows.memory import state_memory
from bids_app.workflows.progress import Progress, read_times, step_name, write_times
from bids_app.workflows.step_errors import StepError, blame_disks, read_crashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bids_app.settings import RunSettings
    from bids_app.workflows._engine import Workflow

LOGGER = logging.getLogger('oxybold')

POLL_SECONDS = 0.05
"""nipype's default of 2 s would be most of the run time of a small graph."""

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end a run in order."""

OURS = ('Linear', 'MultiProc')
"""Plugins in whose place the app has its own."""

OWN_MEMORY = 0.3
"""Of the app itself while steps are at work, GB."""


def run_graph(workflow: Workflow, *, run: RunSettings, work_dir: Path) -> list[StepError]:
    """Run a graph; a node that fails takes only its own branch with it."""
    crash_dir = work_dir / 'crash' / workflow.name
    _clear(crash_dir)
    _configure(workflow, run, crash_dir)
    workflow.base_dir = str(work_dir)
    state_memory(workflow)
    plugin, arguments = choose_plugin(run)
    request = StopRequest()
    progress = _progress(workflow, run)
    errors: list[StepError] = []

    def follow(node: Any, status: str) -> None:
        if plugin == 'Linear':
            request.check()
        progress(node, status)

    arguments |= _callbacks(plugin, follow, progress)
    gc.collect()
    gc.freeze()  # nipype collects garbage at every poll; without this that takes most of the time
    try:
        with request.listening(), progress.shown():
            workflow.run(plugin=_runner(plugin, arguments, errors), plugin_args=arguments)
    except KeyboardInterrupt:
        logging.getLogger('concurrent.futures').setLevel(logging.CRITICAL)  # misses its workers
        raise
    except Exception as error:  # nipype raises anything a node raised
        errors += [] if errors else read_crashes(crash_dir)
        if not errors:
            raise
        LOGGER.debug('nipype: %s', error)
    finally:
        for child in multiprocessing.active_children():
            child.kill()  # else the process waits for their nodes before it ends
        gc.unfreeze()
        write_times(run.output_dir, progress.expected)
        progress.tell(steps=progress.took)
        LOGGER.info('%s: %s', progress.label, progress.state())
    folders = {
        f'the work directory {work_dir}': crash_dir,
        f'the output {run.output_dir}': run.output_dir,
    }
    return blame_disks(sorted(errors, key=lambda error: error.node), folders)


def _callbacks(plugin: str, follow: Callable[..., None], progress: Progress) -> dict[str, Any]:
    """Give the callbacks that a plugin knows."""
    if plugin.endswith('Graph'):  # those submit everything at once and say nothing
        return {}
    ours = {'memory_callback': progress.note_memory} if plugin in OURS else {}
    return {'status_callback': follow, **ours}


def _progress(workflow: Workflow, run: RunSettings) -> Progress:
    """Start to follow a graph."""
    nodes = workflow._create_flat_graph().nodes
    steps = tuple(step_name(node) for node in nodes if not is_identity(node))
    participant = workflow.name.removeprefix('sub_').partition('_')[0]
    return Progress(
        label=re.sub(r'(^sub|_ses)_', r'\1-', workflow.name),
        n_steps=len(steps),
        n_processes=1 if run.low_mem else run.nprocs,
        expected=read_times(run.output_dir),
        is_live=sys.stderr.isatty() and not run.verbose,
        steps=steps,
        publish=lambda about: note_running(run.output_dir, participant, **about),
    )


def _runner(plugin: str, arguments: dict[str, Any], errors: list[StepError]) -> Any:
    """Give what nipype runs a graph with: one of our own, or the name of another's."""
    from bids_app.workflows._workers import InTurnPlugin, make_plugin

    if plugin == 'MultiProc':
        return make_plugin(arguments, errors)
    return InTurnPlugin(arguments, errors) if plugin == 'Linear' else plugin


@dataclass(slots=True)
class StopRequest:
    """
    Whether a signal asked for the end of the run.

    nipype takes the exception of a signal handler for an error of the node it falls in, and goes
    on with the next node; this remembers it until nipype says that a node has ended.
    """

    made: bool = False

    def note(self, *_: Any) -> None:
        """Handle a signal: end the node at work."""
        self.made = True
        raise KeyboardInterrupt

    def check(self, *_: Any) -> None:
        """Before and after every node: end the run."""
        if self.made:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over, and give them back; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.note)
            for number in STOPS
            if signal.getsignal(number) != signal.SIG_IGN  # as the hang-up is under nohup
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _configure(workflow: Workflow, run: RunSettings, crash_dir: Path) -> None:
    """Set what nipype does with errors, polling and its files."""
    options = {
        'crashfile_format': 'txt',
        'stop_on_first_crash': str(run.stop_on_first_crash).lower(),
        'poll_sleep_duration': str(POLL_SECONDS),
        'check_version': 'false',
        'create_report': 'false',
        'remove_unnecessary_outputs': 'false',
        'hash_method': 'timestamp',
    }
    # a path stays out of nipype's own configuration, which takes % for a reference
    workflow.config['execution'] = options | {'crashdump_dir': str(crash_dir)}
    from nipype import config
    from nipype import logging as nipype_logging

    config.update_config({'execution': options})
    quiet = {
        f'{name}_level': 'INFO' if run.verbose > 1 else 'CRITICAL'
        for name in ('workflow', 'interface', 'utils')
    }
    config.update_config({'logging': quiet})
    nipype_logging.update_logging(config)


def choose_plugin(run: RunSettings) -> tuple[str, dict[str, Any]]:
    """
    Choose how nodes are run: a plugin file, else MultiProc, else one after the other.

    Raises
    ------
    SettingsError
        If the plugin file cannot be read or names no plugin.
    """
    if run.plugin_file is not None:
        return _read_plugin(run.plugin_file)
    if (run.nprocs == 1 and not run.low_mem) or not _can_share():
        return 'Linear', {}
    return 'MultiProc', {
        'n_procs': 1 if run.low_mem else run.nprocs,
        'memory_gb': max(run.memory_mb / 1e3 - OWN_MEMORY, OWN_MEMORY),
        'raise_insufficient': False,
        'new_process_per_node': run.low_mem,
    }


def _can_share() -> bool:
    """Tell whether processes can wait for one another, which takes shared memory."""
    try:
        multiprocessing.get_context('fork').Lock()
    except OSError as error:
        LOGGER.warning('/dev/shm: %s; steps run one after the other (--nprocs 1)', error.strerror)
        return False
    return True


def _read_plugin(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a plugin file; refuse a plugin that would return before anything has run."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text('utf-8'))
        plugin, arguments = str(content['plugin']), dict(content.get('plugin_args') or {})
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
        msg = (
            f'--nipype-plugin-file {path} should be YAML with the entries plugin and '
            f'plugin_args: {error}'
        )
        raise SettingsError(msg) from error
    if plugin.endswith('Graph') and '--wait' not in str(arguments.get('sbatch_args', '')):
        msg = (
            f'--nipype-plugin-file {path}: {plugin} returns before the steps have run, so nothing '
            'could be said about them; use SLURM, or SLURMGraph with --wait in its sbatch_args'
        )
        raise SettingsError(msg)
    from nipype.pipeline import plugins

    if not hasattr(plugins, f'{plugin}Plugin'):
        names = sorted(name.removesuffix('Plugin') for name in dir(plugins))
        known = [name for name in names if hasattr(plugins, f'{name}Plugin')]
        msg = (
            f'--nipype-plugin-file {path}: nipype has no plugin {plugin!r}; it has: '
            f'{", ".join(known)}'
        )
        raise SettingsError(msg)
    return plugin, arguments


def _clear(folder: Path) -> None:
    """Remove the crash files of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob('crash-*.txt'):
        path.unlink()
