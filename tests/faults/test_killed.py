"""SIGKILL at any moment: nothing half-written or left running, the same command completes."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

MOMENTS = 40


def descendants(pid):
    """Processes that have this one as ancestor."""
    parents = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in new} - found
    return found - {pid}


def is_running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def kill_after(seconds, *arguments):
    """Start the app, kill it, and tell which of its processes outlive it."""
    with subprocess.Popen(
        support.command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            others = descendants(process.pid)
            process.send_signal(signal.SIGKILL)
        else:
            return set()
    deadline = time.monotonic() + 10
    while any(map(is_running, others)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {pid for pid in others if is_running(pid)}


def files_are_whole(output):
    """Every image that is in its place can be read."""
    for path in output.rglob('sub-*/**/[!.]*.nii.gz'):
        support.read(path)


@pytest.fixture(scope='module')
def whole(study, tmp_path_factory):
    """Digest of a run that nobody disturbed, and how long it took."""
    output = tmp_path_factory.mktemp('whole') / 'out'
    start = time.monotonic()
    outcome = support.spawn(study, output, 'participant', *options(study), '--nprocs', '2')
    assert outcome.code == 0
    return support.results(output), time.monotonic() - start


def options(study):
    return (*support.anatomy_of(study), *support.HEADER)


@pytest.mark.prove
@pytest.mark.parametrize('seed', range(MOMENTS))
def test_killed_run_is_completed_to_the_same_bytes(study, whole, tmp_path, seed):
    wanted, duration = whole
    moment = random.Random(seed).uniform(0.5, duration)
    command = (study, tmp_path / 'out', 'participant', *options(study))
    assert kill_after(moment, *command, '--nprocs', str(1 + seed % 2)) == set()
    files_are_whole(tmp_path / 'out')
    outcome = support.spawn(*command)
    assert outcome.code == 0, outcome.log
    assert support.results(tmp_path / 'out') == wanted


def test_what_a_killed_process_was_writing_is_removed_by_the_next_run(spin_echo, tmp_path):
    output = tmp_path / 'out'
    half = [
        output / 'sub-01' / 'anat' / '.sub-01_space-MESE_T2map.nii.gz.123.0a1b2c3d',
        output / '.sub-01.html.123.0a1b2c3d',
        output / 'logs' / '.sub-01_manifest.json.123.0a1b2c3d',
        output / '.participants.tsv.123.0a1b2c3d',
    ]
    for path in half:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'half')
    command = (spin_echo, output, 'participant', '--participant-label', '01', *support.HEADER)
    assert support.run_app(*command).code == 0
    assert [path for path in half if path.exists()] == []
    hidden = [name for name in support.results(output) if Path(name).name.startswith('.')]
    assert hidden == ['.bidsignore']


def test_second_job_on_a_participant_waits_and_finds_it_done(spin_echo, tmp_path):
    command = support.command(
        spin_echo, tmp_path / 'out', 'participant', '--participant-label', '01', *support.HEADER
    )
    jobs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    logs = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], logs
    assert sorted('skipped' in log.splitlines()[-1] for log in logs) == [False, True]
