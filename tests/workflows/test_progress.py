import logging
import os
import pty
import re
import select
import sys
import time

import nipype.pipeline.engine as pe
import pytest
from nipype import Function

from bids_app.settings import RunSettings
from bids_app.workflows import progress as module
from bids_app.workflows._engine import Workflow
from bids_app.workflows.execution import run_graph
from bids_app.workflows.progress import Progress, read_times, write_times


class Node:
    """What nipype hands to the callback."""

    class interface:
        always_run = False

    def __init__(self, name, *, cached=False):
        self.fullname, self.cached = f'sub_01.{name}', cached

    def is_cached(self):
        return self.cached, self.cached


@pytest.fixture
def progress():
    expected = {'a': 20.0, 'b': 40.0}
    return Progress(
        label='sub-01', n_steps=3, n_processes=2, expected=expected, steps=('a', 'b', 'c')
    )


def test_the_line_says_what_is_at_work_and_how_far_it_is(progress):
    progress(Node('a'), 'start')
    assert re.fullmatch(
        r'sub-01: 0 of 3 steps, 0 s elapsed, about 30 s left \| a 0 s of 20 s', progress.line()
    )
    progress(Node('a'), 'end')
    assert progress.line().endswith('about 20 s left | ...')


def test_nothing_is_promised_where_most_steps_were_never_timed(progress):
    progress.expected.clear()
    assert progress.left() is None
    assert 'left' not in progress.state()


def test_reused_and_failed_steps_are_counted_and_do_not_change_the_times(progress, caplog):
    with caplog.at_level(logging.ERROR, logger='oxybold'):
        progress(Node('a', cached=True), 'start')
        progress(Node('a', cached=True), 'end')
        progress(Node('b'), 'end')  # found done before it was started
        progress(Node('c'), 'start')
        progress(Node('c'), 'exception')
    assert progress.state().startswith('2 of 3 steps, 2 reused, 1 failed')
    assert progress.expected == {'a': 20.0, 'b': 40.0}


def test_a_long_step_gets_a_line_in_a_plain_log(progress, monkeypatch):
    lines = []
    monkeypatch.setattr(module.LOGGER, 'log', lambda level, *text: lines.append((level, text)))
    for name, start in (('a', 30.0), ('b', 0.1)):
        progress.running[name] = time.monotonic() - start
        progress(Node(name), 'end')
    assert [level for level, _ in lines] == [logging.INFO, logging.DEBUG]
    assert '30 s' in lines[0][1]


def test_times_are_kept_for_the_next_run_and_a_damaged_file_is_nothing(tmp_path):
    assert read_times(tmp_path) == {}
    write_times(tmp_path, {'a': 1.5})
    assert read_times(tmp_path) == {'a': 1.5}
    (tmp_path / module.HIDDEN / module.TIMES).write_text('[1')
    assert read_times(tmp_path) == {}


def sleep(seconds):
    import time  # the function runs alone

    time.sleep(seconds)
    return seconds


def test_a_terminal_gets_one_live_line_that_is_cleared(tmp_path, monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, 'w') as terminal:
        monkeypatch.setattr(sys, 'stderr', terminal)
        monkeypatch.setattr(module, 'TICK', 0.05)
        workflow = Workflow('sub_01')
        step = pe.Node(Function(input_names=['seconds'], output_names=['out'], function=sleep),
                       name='rest')  # fmt: skip
        step.inputs.seconds = 0.4
        workflow.add_nodes([step])
        run = RunSettings(bids_dir=tmp_path, output_dir=tmp_path, level='participant', nprocs=1)
        assert run_graph(workflow, run=run, work_dir=tmp_path / 'work') == []
        shown = ''
        while select.select([master], [], [], 0.2)[0]:
            shown += os.read(master, 1 << 16).decode()
    os.close(master)
    assert shown.count('| rest') >= 4
    assert '0 of 1 steps' in shown
    assert shown.endswith(module.CLEAR)
    assert '\n' not in shown
    assert read_times(tmp_path)['rest'] > 0.3


def test_dry_run_of_many_says_how_far_it_is(monkeypatch):
    from bids_app.workflows import dry_run

    told = []
    monkeypatch.setattr(dry_run, 'TELL', -1.0)
    monkeypatch.setattr(dry_run.LOGGER, 'info', lambda text, *values: told.append(text % values))
    assert list(dry_run._told(['01', '02', '03'], 3)) == ['01', '02', '03']
    assert [line.partition(',')[0] for line in told] == [
        f'dry run: {number} of 3 participants' for number in (1, 2, 3)
    ]
