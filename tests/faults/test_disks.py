"""Disks that fill up, folders that vanish, inputs that change: nothing is vouched for."""

import json
import os
import shutil
import subprocess
import time

import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

PROCESSES = pytest.mark.parametrize('nprocs', ['1', '2'])


def options(nprocs='1'):
    return '--registration', 'header', '--nprocs', nprocs


def on_small_disk(folder, size):
    """Give a command prefix that mounts a memory disk of that size at a folder."""
    folder.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o {size} tmpfs "$0"; exec "$@"'
    prefix = ('unshare', '--map-root-user', '--mount', 'sh', '-c', script, str(folder))
    if shutil.which('unshare') is None:
        pytest.skip('there is no unshare')
    if subprocess.run([*prefix, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('this system permits no mounts of users (unshare --mount)')
    return prefix


@PROCESSES
@pytest.mark.parametrize('size', ['size=60k', 'nr_inodes=20'])
def test_full_work_disk_ends_the_run_in_seconds_with_its_name(spin_echo, tmp_path, nprocs, size):
    work, output = tmp_path / 'work', tmp_path / 'out'
    outcome = support.spawn(
        spin_echo, output, 'participant', *options(nprocs), '-w', work,
        prefix=on_small_disk(work, size), timeout=60,
    )  # fmt: skip
    assert outcome.code == 74, outcome.log
    assert f'the disk of the work directory {work}' in outcome.log
    assert 'is full' in outcome.log
    for label in ('01', '02'):
        assert support.summary(output, label)['verdict']['exit_code'] == 74
    summary = json.loads((output / 'logs' / 'run_summary.json').read_text())
    assert summary['verdict']['exit_code'] == 74


def code_on_file(path):
    """Exit code in a record; None where there is none."""
    return json.loads(path.read_text())['verdict']['exit_code'] if path.is_file() else None


BEFORE = 2256
"""Kilobytes that are in an output before its participants: the viewer of the reports."""


@pytest.mark.parametrize('size', [BEFORE + more for more in (100, 190, 260, 290)])
def test_output_that_fills_up_has_one_verdict(spin_echo, tmp_path, size):
    output, copy = tmp_path / 'out', tmp_path / 'copy'
    prefix = on_small_disk(output, f'size={size}k')
    script = '"$@"; code=$?; cp -r "$0" "$COPY"; exit $code'
    outcome = support.spawn(
        spin_echo, output, 'participant', '--participant-label', '01', *options(),
        '-w', tmp_path / 'work', prefix=(*prefix, 'sh', '-c', script, str(output)),
        env={**os.environ, 'COPY': str(copy)},
    )  # fmt: skip
    assert outcome.code == 74, outcome.log
    logs = copy / 'logs'
    is_done = (logs / 'sub-01_manifest.json').is_file()
    assert code_on_file(logs / 'sub-01_run_summary.json') in ((0,) if is_done else (None, 74))
    assert code_on_file(logs / 'run_summary.json') in (None, 74)
    assert is_done or not (copy / 'sub-01.html').is_file()
    assert 'sub-01: degraded' in outcome.log if is_done else 'sub-01: failed' in outcome.log


SLOW = """
import sys, time
from bids_app.interfaces.relaxometry import ConvertRateToTime
original = ConvertRateToTime._run_interface
def wait(self, runtime):
    open({mark!r}, 'w').close()
    time.sleep({seconds})
    return original(self, runtime)
ConvertRateToTime._run_interface = wait
from bids_app.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The app, with a step that leaves time to do harm."""


def harm(dataset, output, work, tmp_path, do, *more):
    """Run the app and do something while a step is at work."""
    mark = tmp_path / 'mark'
    words = [
        support.command()[0], '-c', SLOW.format(mark=str(mark), seconds=3), str(dataset),
        str(output), 'participant', '--participant-label', '01', '-w', str(work), *more,
    ]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        do()
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    return support.Outcome(code=process.returncode, log=log, out='')


@PROCESSES
@pytest.mark.parametrize('victim', ['out', 'work'])
def test_folder_deleted_under_a_run_ends_it_in_seconds(spin_echo, tmp_path, victim, nprocs):
    output, work = tmp_path / 'out', tmp_path / 'work'

    def delete():
        (tmp_path / victim).rename(tmp_path / 'away')

    outcome = harm(spin_echo, output, work, tmp_path, delete, *options(nprocs))
    assert outcome.code == 74, outcome.log
    assert 'deleted while the run used it' in outcome.log
    assert str(tmp_path / victim) in outcome.log


def test_input_that_changes_during_the_run_and_is_put_back_is_not_vouched_for(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese')
    path = next(folder.glob('anat/*_echo-2_MESE.nii.gz'))
    output, work = tmp_path / 'out', tmp_path / 'work'
    content, about = path.read_bytes(), path.stat()

    def change():
        support.write(path, support.read(path) * 2)
        path.write_bytes(content)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))

    outcome = harm(root, output, work, tmp_path, change, *options())
    assert outcome.code == 1, outcome.log
    assert f'{path.name} was changed while the run used it' in outcome.log
    assert support.summary(output, '01')['verdict']['state'] == 'incomplete'
    assert not list(work.glob('sub-01_*'))
    again = support.run_app(root, output, 'participant', *support.HEADER, '-w', work)
    assert again.code == 0
    assert 'last run ended incomplete' in again.log
