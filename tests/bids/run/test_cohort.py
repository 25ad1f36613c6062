"""One file says how far all participants of all jobs are; a process that is gone is found out."""

import json
import multiprocessing
import os
import socket

import pytest

from bids_app.bids.output.dataset import prepare_output
from bids_app.bids.run.cohort import (
    cohort,
    describe,
    note_end,
    note_running,
    note_waiting,
    read_progress,
)
from bids_app.bids.run.outcome import judge
from bids_app.errors import SelectionError
from bids_app.settings import RunSettings


@pytest.fixture
def output(tmp_path):
    run = RunSettings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant')
    prepare_output(run)
    return run.output_dir


def states(output):
    return {label: entry['state'] for label, entry in cohort(output)['participants'].items()}


def test_participants_go_from_waiting_by_running_to_their_verdict(output):
    note_waiting(output, ['01', '02', '03'])
    assert states(output) == {'01': 'waiting', '02': 'waiting', '03': 'waiting'}
    note_running(output, '01', steps_done=3, n_steps=9, at_work={'fit': 2.0}, seconds_left=40.0)
    note_end(output, judge('02', errors=['no fit']), 12.0)
    assert states(output) == {'01': 'running', '02': 'incomplete', '03': 'waiting'}
    lines = describe(cohort(output))
    assert lines[0].startswith('3 participant(s): ')
    assert '  sub-01: running, 3 of 9 steps, about 40 s left; at work: fit' in lines
    assert any('sub-02' in line and 'no fit' in line for line in lines)
    assert 'left: --participant-label 01 02 03' in lines


def test_steps_of_all_participants_are_added_up(output):
    for label, seconds, memory in (('01', 2.0, 300.0), ('02', 4.0, 200.0)):
        note_running(output, label, steps={'fit': {'seconds': seconds, 'memory_mb': memory},
                                           'failed': {'memory_mb': 9.0}})  # fmt: skip
    steps = read_progress(output)['steps']
    assert steps == {'fit': {'n': 2, 'seconds': 6.0, 'longest': 4.0, 'memory_mb': 300}}
    assert any(
        'step fit: 3.0 s on average of 2, 300 MB' in one for one in describe(cohort(output))
    )


def gone():
    """Number of a process that has ended."""
    process = multiprocessing.get_context('fork').Process(target=int)
    process.start()
    process.join()
    return process.pid


@pytest.mark.parametrize(
    ('host', 'process', 'updated', 'state'),
    [
        (socket.gethostname(), os.getpid(), '2026-01-01T00:00:00+00:00', 'running'),
        (socket.gethostname(), None, '2026-01-01T00:00:00+00:00', 'lost'),
        ('elsewhere', 1, '2020-01-01T00:00:00+00:00', 'lost'),
        ('elsewhere', 1, '9999-01-01T00:00:00+00:00', 'running'),
        ('elsewhere', 1, 'once', 'lost'),
    ],
    ids=['own', 'ended', 'old', 'new', 'no date'],
)
def test_a_process_that_is_gone_left_its_participant(output, host, process, updated, state):
    note_running(output, '01')
    path = output / 'logs' / 'progress.json'
    content = json.loads(path.read_text())
    about = {'host': host, 'process': process or gone(), 'updated': updated}
    content['participants']['01'].update(about)
    path.write_text(json.dumps(content))
    assert states(output) == {'01': state}
    note_waiting(output, ['01'])
    assert states(output) == {'01': 'running' if state == 'running' else 'waiting'}


def test_many_jobs_lose_nothing(output):
    context = multiprocessing.get_context('fork')
    labels = [f'{number:02d}' for number in range(20)]
    jobs = [context.Process(target=note_end, args=(output, judge(one), 1.0)) for one in labels]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert states(output) == dict.fromkeys(labels, 'complete')


def test_a_deleted_output_is_not_made_again(tmp_path):
    note_end(tmp_path / 'gone', judge('01'), 1.0)
    assert not (tmp_path / 'gone').exists()


def test_damaged_file_is_made_anew(output):
    (output / 'logs').mkdir(exist_ok=True)
    (output / 'logs' / 'progress.json').write_text('{')
    note_end(output, judge('01'), 1.0)
    assert states(output) == {'01': 'complete'}


def test_output_without_participants_says_so(output):
    with pytest.raises(SelectionError, match='no participant yet'):
        cohort(output)
