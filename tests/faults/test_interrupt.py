"""A scheduler ends the run: it stops in order, and the same command goes on from there."""

import json
import signal
import subprocess
import time

import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

SLOW = """
import sys, time
from bids_app.interfaces import perfusion
original = perfusion.{name}._run_interface
def wait(self, runtime):
    open({mark!r}, 'w').close()
    time.sleep(60)
    return original(self, runtime)
perfusion.{name}._run_interface = wait
from bids_app.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The app, with a step that waits to be interrupted."""


@pytest.fixture(params=['1', '2'], ids=['1-process', '2-processes'])
def interrupted(request, study, tmp_path):
    """Run that was ended by SIGTERM in the second of three participants."""
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    support.add_participant(root, study, '02', 'mese', 'asl')
    support.add_participant(root, study, '03', 'mese')
    output, mark = tmp_path / 'out', tmp_path / 'mark'
    options = (str(root), str(output), 'participant', '--registration', 'header',
               '-w', str(tmp_path / 'work'), '--nprocs', request.param)  # fmt: skip
    script = SLOW.format(name='EstimateCBF', mark=str(mark))
    program = support.command()[0]
    process = subprocess.Popen(
        [program, '-c', script, *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    try:
        _, log = process.communicate(timeout=20)  # the step itself would take longer
    finally:
        process.kill()
    outcome = support.Outcome(code=process.returncode, log=log, out='')
    return options, output, tmp_path / 'work', outcome


def test_sigterm_ends_in_order_and_the_same_command_goes_on(interrupted):
    options, output, work, outcome = interrupted
    assert outcome.code == 75
    assert 'interrupted' in outcome.last
    assert '1 degraded, 2 interrupted' in outcome.last
    assert 'exit code 75' in outcome.last
    assert 'Traceback' not in outcome.log
    verdict = json.loads((output / 'logs' / 'run_summary.json').read_text())['verdict']
    assert (verdict['state'], verdict['exit_code']) == ('interrupted', 75)
    assert not (output / 'logs' / 'sub-02_manifest.json').exists()
    assert not [path for path in output.rglob('*') if '.tmp' in path.name]
    done = support.times(work, '**/result_*.pklz')

    outcome = support.spawn(*options)
    assert outcome.code == 0
    assert 'sub-01: skipped' in outcome.log
    assert 'sub-02: degraded' in outcome.log
    assert 'sub-03: degraded' in outcome.log
    after = support.times(work, '**/result_*.pklz')
    kept = [name for name in done if 'sub-02' in name and after.get(name) == done[name]]
    assert kept, 'finished steps of the interrupted participant were computed again'
