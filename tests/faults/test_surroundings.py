"""Odd surroundings: no home, closed streams, strange paths, pipes and devices, hang-ups."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_app.bids.input.files import check_readable, read_table
from bids_app.bids.input.inventory import take_inventory
from bids_app.bids.input.suspect_scans import find_suspects
from bids_app.bids.output.dataset import check_private
from bids_app.errors import InputDataError, MissingInputError, SettingsError
from tests.e2e import support
from tests.faults.test_killed import descendants, is_running

NOBODY = ('unshare', '--user', '--map-user=54321')
"""Runs a command as a user without name and without the powers of root."""


def dry(spin_echo, tmp_path, **options):
    words = (spin_echo, tmp_path / 'out', 'participant', '--dry-run')
    return support.spawn(*words, timeout=60, **options)


def without(*names):
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.mark.e2e
@pytest.mark.parametrize('home', [None, 'locked', 'absent'])
def test_runs_without_a_home_and_without_a_user_name(spin_echo, tmp_path, home):
    if subprocess.run([*NOBODY, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('this system permits no name spaces of users')
    environment = without('HOME', 'LOGNAME', 'USER')
    folder = tmp_path / 'home'
    if home == 'locked':
        folder.mkdir(mode=0)
    if home:
        environment['HOME'] = str(folder)
    outcome = support.spawn(
        spin_echo, tmp_path / 'out', 'participant', '--participant-label', '01', *support.HEADER,
        prefix=NOBODY, env=environment, timeout=120,
    )  # fmt: skip
    folder.exists() and folder.chmod(0o700)
    assert outcome.code == 0, outcome.log


@pytest.mark.e2e
@pytest.mark.parametrize('nprocs', ['1', '2'])
def test_percent_and_braces_may_stand_in_every_path(study, tmp_path, nprocs):
    place = tmp_path / '50%(here)s {x} %'
    root = support.start_dataset(place / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    outcome = support.spawn(
        root, place / 'out', 'participant', '--registration', 'header', '--nprocs', nprocs,
        '-w', place / 'work', cwd=place,
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert support.value_maps(place / 'out')


@pytest.mark.e2e
def test_closed_streams_are_no_error(spin_echo, tmp_path):
    script = 'exec "$@" 0<&- 1>&- 2>&-'
    words = (spin_echo, tmp_path / 'out', 'participant', '--participant-label', '01')
    outcome = support.spawn(*words, *support.HEADER, prefix=('sh', '-c', script, 'sh'))
    assert outcome.code == 0
    assert support.summary(tmp_path / 'out', '01')['verdict']['exit_code'] == 0


@pytest.mark.e2e
def test_full_standard_output_is_an_error_of_the_disk_and_a_closed_pipe_none(spin_echo, tmp_path):
    words = support.command(spin_echo, tmp_path / 'out', 'participant', '--dry-run')
    with Path('/dev/full').open('w') as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74
    assert 'cannot write to standard output: No space left on device; exit code 74' in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, 'Exception' in done.stderr) == (0, False)


@pytest.mark.e2e
def test_without_shared_memory_steps_run_in_turn(spin_echo, tmp_path):
    prefix = ('unshare', '--map-root-user', '--mount', 'sh', '-c',
              'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"', 'sh')  # fmt: skip
    if subprocess.run([*prefix, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('this system permits no mounts of users (unshare --mount)')
    outcome = support.spawn(
        spin_echo, tmp_path / 'out', 'participant', '--participant-label', '01',
        '--registration', 'header', '--nprocs', '2', prefix=prefix,
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert '--nprocs 1' in outcome.log


@pytest.mark.parametrize('level', [(), ('--dry-run',)])
def test_plugin_that_does_not_exist_is_an_error_of_usage(spin_echo, tmp_path, level):
    path = tmp_path / 'plugin.yml'
    path.write_text('plugin: Slrum\n')
    outcome = support.run_app(
        spin_echo, tmp_path / 'out', 'participant', '--nipype-plugin-file', path, *level
    )
    assert outcome.code == 64
    assert "no plugin 'Slrum'" in outcome.last
    assert 'SLURM' in outcome.last
    assert not (tmp_path / 'out').exists()


# ------------------------------------------------------------------------------ signals

STUCK = """
import signal, sys, subprocess
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # nohup makes children ignore them
    signal.signal(number, signal.SIG_DFL)
from bids_app.interfaces.relaxometry import ConvertRateToTime
def wait(self, runtime):
    open({mark!r}, 'w').close()
    subprocess.run([sys.executable, '-c',
        'from bids_app.engines.isolated import end_with_parent as e; e(); import time; '
        'time.sleep(60)'])
ConvertRateToTime._run_interface = wait
from bids_app.cli.main import run
run()
"""
"""The app, with a step that waits for a child, as a registration does."""


@pytest.mark.e2e
@pytest.mark.parametrize('nprocs', ['1', '2'])
@pytest.mark.parametrize('whom', ['process', 'group'])
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_ends_in_order_and_leaves_no_process(spin_echo, tmp_path, number, whom, nprocs):
    mark = tmp_path / 'mark'
    words = [
        sys.executable, '-c', STUCK.format(mark=str(mark)), str(spin_echo), str(tmp_path / 'out'),
        'participant', '--registration', 'header', '--nprocs', nprocs,
    ]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    others = descendants(process.pid)
    assert others
    send = os.kill if whom == 'process' else os.killpg
    send(process.pid, number)
    try:
        _, log = process.communicate(timeout=5)
    finally:
        process.kill()
    assert process.returncode == 75, log
    assert 'interrupted' in log.splitlines()[-1]
    assert support.summary(tmp_path / 'out', '01')['verdict']['state'] == 'interrupted'
    time.sleep(0.2)
    assert [pid for pid in others if is_running(pid)] == []


# ------------------------------------------------------------------------------ odd inputs


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def unix_socket(path):
    path.unlink(missing_ok=True)
    place = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(path.name)
    finally:
        os.chdir(place)


def device(path):
    path.unlink(missing_ok=True)
    path.symlink_to('/dev/zero')


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


ODD = [pipe, unix_socket, device, folder]


@pytest.mark.parametrize('make', ODD)
def test_only_regular_files_are_opened(tmp_path, make):
    make(tmp_path / 'x.nii.gz')
    with pytest.raises(MissingInputError, match='no regular file'):
        check_readable(tmp_path / 'x.nii.gz')


@pytest.mark.e2e
@pytest.mark.parametrize('make', ODD)
def test_inputs_that_are_no_files_end_as_messages(study, tmp_path, make):
    root = support.start_dataset(tmp_path / 'raw', study)
    for label in ('01', '02'):
        support.add_participant(root, study, label, 'mese', 'asl', 'bold')
    for name in ('anat/*_echo-2_MESE.nii.gz', 'perf/*_aslcontext.tsv', 'func/*_events.tsv',
                 'func/*_bold.json'):  # fmt: skip
        make(sorted((root / 'sub-02').glob(name))[0])
    (root / 'sub-01' / 'anat' / 'loop').symlink_to('..')
    (root / 'sub-01' / 'ses-a').symlink_to('..')
    (root / 'sub-01' / 'ses-b').symlink_to('/')
    (root / 'sub-03').symlink_to('.')
    (root / 'sub-04').symlink_to('sub-04')
    outcome = dry(root, tmp_path)
    assert outcome.code == 0, outcome.log
    assert 'no regular file' in outcome.out
    assert 'will be made   T2' in outcome.out
    words = ('--participant-label', '02', '--ignore', 'asl', 'bold', '--registration', 'header')
    outcome = support.spawn(root, tmp_path / 'out', 'participant', *words, timeout=60)
    assert outcome.code == 66
    assert 'no regular file' in outcome.log


@pytest.mark.e2e
def test_events_without_end_are_refused_in_time(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese', 'bold')
    table = next(folder.glob('func/*_events.tsv'))
    rows = [f'{n}\t1\ttype{n}' for n in range(100_000)]
    table.write_text('\n'.join(['onset\tduration\ttrial_type', *rows]))
    began = time.monotonic()
    outcome = dry(root, tmp_path)
    assert time.monotonic() - began < 40
    assert outcome.code == 0
    assert f'{table.name} has 100000 values of trial_type, more than 200' in outcome.out


def test_what_a_link_out_of_the_dataset_holds_is_not_told(tmp_path):
    secret = tmp_path / 'passwd'
    secret.write_text('root:secret:0:0\n')
    root = tmp_path / 'raw'
    root.mkdir()
    (root / 'dataset_description.json').write_text('{}')
    table = root / 'task-x_events.tsv'
    table.symlink_to(secret)
    with pytest.raises(InputDataError) as caught:
        read_table(table, ('onset',))
    assert 'secret' not in str(caught.value)
    table.unlink()
    table.write_text(secret.read_text())
    with pytest.raises(InputDataError, match='secret'):
        read_table(table, ('onset',))


def test_of_many_equal_files_three_are_named(tmp_path):

    first, found = None, {}
    for n in range(400):
        path = tmp_path / f'sub-{n:03d}' / 'anat' / f'sub-{n:03d}_T1w.nii.gz'
        path.parent.mkdir(parents=True)
        if first is None:
            path.write_bytes(b'image')
            first = path
        else:
            os.link(first, path)
    inventory = take_inventory(tmp_path)
    found = {label: inventory.files(label) for label in inventory.records}
    suspects = find_suspects(found, lambda _: (), tmp_path)
    assert len(suspects) == 400
    for (suspicion,) in suspects.values():
        assert suspicion.reason.count('_T1w.nii.gz') == 4
        assert suspicion.reason.endswith(' and 396 more')


# ------------------------------------------------------------------------------ work directory


@pytest.mark.parametrize(
    ('mode', 'owner', 'is_fine'),
    [(0o700, 1000, True), (0o775, 1000, True), (0o777, 1000, False), (0o1777, 0, True),
     (0o700, 1001, False), (0o755, 0, True)],
)  # fmt: skip
def test_work_directory_of_others_is_refused(tmp_path, monkeypatch, mode, owner, is_fine):
    about = os.stat_result((0o40000 | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, 'stat', lambda *_: about)
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    check_private(tmp_path, is_trusted=True)
    if is_fine:
        check_private(tmp_path)
    else:
        with pytest.raises(SettingsError, match='--trust-work-dir'):
            check_private(tmp_path)


@pytest.mark.e2e
def test_work_directory_open_to_all_is_refused_before_computing(spin_echo, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    work.chmod(0o777)
    words = (spin_echo, tmp_path / 'out', 'participant', *support.HEADER, '-w', work)
    outcome = support.run_app(*words)
    assert outcome.code == 64
    assert 'may be written by everybody' in outcome.last
