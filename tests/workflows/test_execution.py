"""Running a graph: crash files become sentences, plugin files are checked first."""

import pytest

from bids_app.errors import ExitCode, SettingsError
from bids_app.settings import RunSettings
from bids_app.workflows import execution
from bids_app.workflows._engine import Workflow, pe
from bids_app.workflows.execution import choose_plugin, run_graph
from bids_app.workflows.step_errors import read_crashes

HEAD = 'Node: sub_01.model_asl.estimate_m0\nWorking directory: x\n\nNode inputs:\n\nm0 = 3\n\n'


def crash(folder, text, name='crash-1-user-estimate_m0.txt'):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return read_crashes(folder)


@pytest.mark.parametrize(
    ('trace', 'message', 'code'),
    [
        (
            'Traceback (most recent call last):\n  File "x.py", line 3, in f\n    g()\n'
            'bids_app.errors.InputDataError: no bolus in the series\n',
            'no bolus in the series',
            ExitCode.BAD_INPUT,
        ),
        (
            'Traceback (most recent call last):\n  File "a"\n'
            'nipype.pipeline.engine.nodes.NodeExecutionError: Exception raised while executing '
            'Node estimate_m0.\n\nTraceback:\n\tTraceback (most recent call last):\n'
            '\t  File "b"\n\tbids_app.errors.MissingInputError: m0.nii.gz is truncated\n',
            'm0.nii.gz is truncated',
            ExitCode.MISSING_INPUT,
        ),
        (
            'Traceback (most recent call last):\nValueError: negative\n\nDuring handling ...\n'
            'nipype.pipeline.engine.nodes.NodeExecutionError: Exception raised\n',
            'ValueError: negative',
            ExitCode.SOFTWARE,
        ),
        (
            'Traceback (most recent call last):\nOSError: [Errno 28] No space left on device\n',
            'No space left on device',
            ExitCode.IO_ERROR,
        ),
        (
            'Traceback (most recent call last):\n'
            'concurrent.futures.process.BrokenProcessPool: A process was terminated abruptly\n',
            'concurrent.futures.process.BrokenProcessPool: A process was terminated abruptly',
            ExitCode.SOFTWARE,
        ),
        ('it just ended\n', 'it just ended', ExitCode.SOFTWARE),
    ],
)
def test_crash_becomes_the_sentence_of_its_error_and_its_exit_code(trace, message, code, tmp_path):
    (error,) = crash(tmp_path, HEAD + trace)
    assert (error.node, error.message, error.code) == (
        'sub_01.model_asl.estimate_m0', message, code,
    )  # fmt: skip


def test_crash_of_ours_wins_over_what_nipype_makes_of_it(tmp_path):
    trace = (
        'Traceback (most recent call last):\nbids_app.errors.GridMismatchError: two grids\n\n'
        'The above exception was the direct cause of the following exception:\n\n'
        'Traceback (most recent call last):\nRuntimeError: node failed\n'
    )
    (error,) = crash(tmp_path, HEAD + trace)
    assert (error.message, error.code) == ('two grids', ExitCode.BAD_INPUT)
    assert error.trace.startswith('Traceback')
    assert 'Node inputs' not in error.trace


def test_empty_and_odd_crash_files_are_read_too(tmp_path):
    crash(tmp_path, '', 'crash-b.txt')
    (tmp_path / 'crash-a.txt').write_bytes(b'Node: a\n\xff\xfe')
    (tmp_path / 'other.txt').write_text('no crash')
    assert [error.node for error in read_crashes(tmp_path)] == ['a', 'crash-b']
    assert read_crashes(tmp_path)[1].message == 'no message'


# ------------------------------------------------------------------------------ plugins


def settings(tmp_path, **options):
    return RunSettings(bids_dir=tmp_path, output_dir=tmp_path, level='participant', **options)


def test_one_process_is_linear_and_more_are_multiproc(tmp_path):
    assert choose_plugin(settings(tmp_path)) == ('Linear', {})
    name, arguments = choose_plugin(settings(tmp_path, nprocs=3, memory_mb=6000))
    assert (name, arguments['n_procs'], arguments['memory_gb']) == ('MultiProc', 3, 5.7)


def test_low_memory_is_one_process_for_every_step(tmp_path):
    name, arguments = choose_plugin(settings(tmp_path, nprocs=4, low_mem=True))
    assert (name, arguments['n_procs']) == ('MultiProc', 1)
    workflow = Workflow('sub_01')
    first, second = function_node(process_id, 'first', x=1), function_node(process_id, 'second')
    workflow.connect([(first, second, [('out', 'x')])])
    assert run_graph(workflow, run=settings(tmp_path, low_mem=True), work_dir=tmp_path) == []
    ids = {load_result(path).outputs.out for path in tmp_path.rglob('result_*.pklz')}
    assert len(ids) == 2


def test_plugin_file_is_taken_as_written(tmp_path):
    path = tmp_path / 'plugin.yml'
    path.write_text('plugin: SLURM\nplugin_args: {sbatch_args: "-p long"}\n')
    plugin = choose_plugin(settings(tmp_path, plugin_file=path, nprocs=2))
    assert plugin == ('SLURM', {'sbatch_args': '-p long'})
    path.write_text('plugin: Linear\n')
    assert choose_plugin(settings(tmp_path, plugin_file=path)) == ('Linear', {})


@pytest.mark.parametrize(
    'content', [None, '', 'plugin_args: {}', '- a\n- b', 'x: [', 'plugin: A\nplugin_args: 5']
)
def test_plugin_file_that_says_nothing_is_an_error_of_usage(content, tmp_path):
    path = tmp_path / 'plugin.yml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r'--nipype-plugin-file .*plugin\.yml'):
        choose_plugin(settings(tmp_path, plugin_file=path))


def test_plugin_that_does_not_wait_for_its_jobs_is_refused(tmp_path):
    path = tmp_path / 'plugin.yml'
    path.write_text('plugin: SLURMGraph\nplugin_args: {sbatch_args: "-p long"}\n')
    with pytest.raises(SettingsError, match='--wait'):
        choose_plugin(settings(tmp_path, plugin_file=path))


# ------------------------------------------------------------------------------ running


def double(x):
    return 2 * x


def refuse(x):
    from bids_app.errors import InputDataError

    msg = f'{x} is refused'
    raise InputDataError(msg)


def process_id(x):
    import os

    return os.getpid()


def load_result(path):
    from nipype.utils.filemanip import loadpkl

    return loadpkl(path)


def be_killed(x):
    import os
    import signal
    import time

    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def function_node(function, name, **inputs):
    from nipype import Function

    interface = Function(input_names=['x'], output_names=['out'], function=function)
    for port, value in inputs.items():
        setattr(interface.inputs, port, value)
    return pe.Node(interface, name=name)


@pytest.fixture
def two_branches():
    workflow = Workflow('sub_01')
    bad, after = function_node(refuse, 'bad', x=3), function_node(double, 'after_bad')
    good, last = function_node(double, 'good', x=3), function_node(double, 'after_good')
    workflow.connect([(bad, after, [('out', 'x')]), (good, last, [('out', 'x')])])
    return workflow


def test_a_failing_node_takes_only_its_own_branch_with_it(two_branches, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    (error,) = run_graph(two_branches, run=settings(tmp_path), work_dir=work)
    assert (error.node, error.message, error.code) == ('sub_01.bad', '3 is refused', 65)
    done = {path.parent.name for path in (work / 'sub_01').rglob('result_*.pklz')}
    assert {'good', 'after_good'} <= done
    assert 'after_bad' not in done
    (again,) = run_graph(two_branches, run=settings(tmp_path), work_dir=work)
    assert again.message == error.message, 'crash files of an earlier run do not count'


def test_an_error_outside_of_any_node_is_not_swallowed(two_branches, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(two_branches, 'run', fails)
    with pytest.raises(ZeroDivisionError):
        run_graph(two_branches, run=settings(tmp_path), work_dir=tmp_path)


def test_polling_is_tuned(two_branches, tmp_path):
    run_graph(two_branches, run=settings(tmp_path), work_dir=tmp_path)
    assert float(two_branches.config['execution']['poll_sleep_duration']) == execution.POLL_SECONDS
    assert execution.POLL_SECONDS <= 0.1


def test_killed_worker_loses_its_branch_only_and_nobody_waits_for_it(tmp_path):
    workflow = Workflow('sub_01')
    bad, after = function_node(be_killed, 'bad', x=3), function_node(double, 'after_bad')
    good = [function_node(double, f'good{number}') for number in range(4)]
    first = function_node(double, 'first', x=1)
    pairs = zip([first, *good[:-1]], good, strict=True)
    workflow.connect([(bad, after, [('out', 'x')])])
    workflow.connect([(one, two, [('out', 'x')]) for one, two in pairs])
    errors = run_graph(workflow, run=settings(tmp_path, nprocs=2), work_dir=tmp_path)
    killed = {error.node for error in errors}
    assert 'sub_01.bad' in killed
    assert len(killed) <= 2, 'the step that was at work beside it'
    assert all('memory' in error.message for error in errors)
    done = {path.parent.name for path in tmp_path.rglob('result_*.pklz')}
    assert 'after_bad' not in done
    assert len(killed) == 2 or 'good3' in done
