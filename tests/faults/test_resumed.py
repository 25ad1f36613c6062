"""Memory, disk and clock fail: said in words, and the same command then gives the same bytes."""

import os
import sys
import time
from pathlib import Path

import pytest

from bids_app.errors import ExitCode
from tests.e2e import support

pytestmark = pytest.mark.e2e

OUT_OF_MEMORY = """
import os, signal, sys
from bids_app.interfaces.relaxometry import ConvertRateToTime
original = ConvertRateToTime._run_interface
def take_too_much(self, runtime):
    if 'sub_01' in runtime.cwd:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, runtime)
ConvertRateToTime._run_interface = take_too_much
from bids_app.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The app, with a step of one participant that ends as the kernel ends it."""

FILLED = """
mount -t tmpfs -o size=300k none "$0" || exit 3
copies=$1; shift
"$@"; echo $? > "$copies/code"
cp -r "$0" "$copies/filled"
mount -o remount,size=100m "$0"
"$@"; code=$?
cp -r "$0" "$copies/completed"
exit $code
"""
"""The app on a small disk, and again when there is room."""

DAY = 86400


@pytest.fixture(scope='module')
def whole(spin_echo, tmp_path_factory):
    """Digests of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp('whole') / 'out'
    assert support.run_app(spin_echo, output, 'participant', *support.HEADER).code == 0
    return support.results(output)


def run_out_of_memory(root, output):
    """Run two processes; the worker at a step of the first participant is killed."""
    script = [sys.executable, '-c', OUT_OF_MEMORY]
    options = (root, output, 'participant', '--registration', 'header', '--nprocs', '2')
    return support.spawn_command([*script, *map(str, options)])


def test_worker_without_memory_is_said_spares_the_others_and_resumes(spin_echo, whole, tmp_path):
    output = tmp_path / 'out'
    outcome = run_out_of_memory(spin_echo, output)
    assert outcome.code not in (0, ExitCode.INTERRUPTED)
    errors = support.summary(output, '01')['units'][0]['errors']
    assert errors
    assert all('memory' in error['message'] for error in errors)
    assert 'memory' in outcome.log
    assert 'Traceback' not in outcome.log
    others = {name: digest for name, digest in whole.items() if name.startswith('sub-02/')}
    found = support.results(output)
    assert others
    assert {name: found.get(name) for name in others} == others
    outcome = support.run_app(spin_echo, output, 'participant', *support.HEADER)
    assert outcome.code == 0
    assert support.results(output) == whole


def test_full_disk_is_said_and_with_room_the_same_command_completes(spin_echo, whole, tmp_path):
    output = tmp_path / 'out'
    output.mkdir()
    if support.isolated(read_only=output) is None:
        pytest.skip('this system permits no mount (unshare --mount)')
    prefix = ('unshare', '--map-root-user', '--mount', 'sh', '-c', FILLED)
    command = (spin_echo, output, 'participant', *support.HEADER, '-w', tmp_path / 'work')
    outcome = support.spawn(*command, prefix=(*prefix, str(output), str(tmp_path)))
    assert int((tmp_path / 'code').read_text()) == ExitCode.IO_ERROR
    assert 'space' in outcome.log
    assert 'exit code 74' in outcome.log
    for path in (tmp_path / 'filled').rglob('sub-*/**/[!.]*.nii.gz'):
        support.read(path)
    assert outcome.code == 0, outcome.log
    assert support.results(tmp_path / 'completed') == whole


def move_times(folder: Path, seconds: float) -> None:
    """Give every file below a folder another time of modification."""
    for path in folder.rglob('*'):
        if path.is_file():
            moment = path.stat().st_mtime + seconds
            os.utime(path, (moment, moment))


@pytest.mark.parametrize('seconds', [DAY, -DAY], ids=['ahead', 'behind'])
def test_clock_that_was_wrong_changes_no_result(study, whole, tmp_path, seconds):
    """To a run, a clock that stepped back leaves files of the future; input and work have both."""
    root = support.start_dataset(tmp_path / 'raw', study)
    for label in ('01', '02'):
        support.add_participant(root, study, label, 'mese')
    move_times(root, seconds)
    output = tmp_path / 'out'
    assert run_out_of_memory(root, output).code != 0
    move_times(output, seconds)
    newest = max(support.times(output, '**/*').values()) / 1e9
    assert (newest > time.time()) == (seconds > 0)
    outcome = support.run_app(root, output, 'participant', *support.HEADER)
    assert outcome.code == 0
    assert support.results(output) == whole
    outcome = support.run_app(root, output, 'participant', *support.HEADER)
    assert outcome.code == 0
    assert outcome.last.count('skipped') == 2
