"""A read-only input and no network are enough; nothing heavy and nothing chatty is imported."""

import json
import subprocess

import pytest

from bids_app.cli import self_test
from bids_app.phantom import compare
from tests.e2e import support

pytestmark = pytest.mark.e2e

HEAVY = ('numpy', 'scipy', 'nipype', 'nibabel', 'bids', 'nilearn', 'ants', 'pandas', 'matplotlib')


@pytest.fixture(scope='module')
def two_processes(finished, tmp_path_factory):
    """First participant of the study by two processes, sealed off as far as the system permits."""
    output = tmp_path_factory.mktemp('sealed') / 'out'
    sealed = support.isolated(read_only=finished.study, network=False)
    before = support.tree_digest(finished.study)
    outcome = support.spawn(
        finished.study, output, *finished.command, '--nprocs', '2',
        '--participant-label', '01', prefix=sealed or (),
    )  # fmt: skip
    return output, outcome, sealed, support.tree_digest(finished.study) == before


def test_one_and_two_processes_give_the_same_bits(finished, two_processes):
    output, outcome, _, _ = two_processes
    assert outcome.code == 0, outcome.log
    found = support.images(output / 'sub-01')
    assert found == support.images(finished.output / 'sub-01')
    assert len(found) > 80


def test_read_only_input_without_network_works_and_stays_as_it_is(two_processes):
    _, outcome, sealed, unchanged = two_processes
    if sealed is None:
        pytest.skip('this system permits no mounts or network namespaces (unshare --mount --net)')
    assert outcome.code == 0
    assert 'Traceback' not in outcome.log
    assert unchanged


def test_seal_really_holds(finished):
    sealed = support.isolated(read_only=finished.study, network=False)
    if sealed is None:
        pytest.skip('this system permits no mounts or network namespaces (unshare --mount --net)')
    touch = subprocess.run(
        [*sealed, 'touch', str(finished.study / 'x')], capture_output=True, check=False
    )
    assert touch.returncode != 0
    connect = 'import socket; socket.create_connection(("192.0.2.1", 80), timeout=2)'
    reach = subprocess.run(
        [*sealed, support.command()[0], '-c', connect], capture_output=True, text=True, check=False
    )
    assert 'unreachable' in reach.stderr


def python(script, **environment):
    """Run a script in a fresh interpreter without variables that change the answer."""
    dropped = ('NO_ET', 'NIPYPE_NO_ET')
    clean = {k: v for k, v in support.os.environ.items() if k not in dropped} | environment
    done = subprocess.run(
        [support.command()[0], '-c', script], capture_output=True, text=True, check=True, env=clean
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('option', ['--help', '--version'])
def test_help_and_version_import_nothing_heavy(option):
    script = (
        'import json, sys\n'
        'from bids_app.cli.main import main\n'
        f'code = main([{option!r}])\n'
        'print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))'
    )
    code, loaded = python(script)
    assert code == 0
    assert set(HEAVY) & set(loaded) == set()


@pytest.mark.parametrize('module', ['bids_app.interfaces', 'bids_app.workflows.app'])
def test_telemetry_is_off_before_nipype_is_imported(module):
    script = f"""
import importlib.abc, json, os, sys
class Spy(importlib.abc.MetaPathFinder):
    seen = []
    def find_spec(self, name, path=None, target=None):
        if name in ('nipype', 'etelemetry'):
            self.seen.append([name, os.environ.get('NO_ET'), os.environ.get('NIPYPE_NO_ET')])
sys.meta_path.insert(0, Spy())
import {module}
import bids_app.workflows.participant
print(json.dumps(Spy.seen))
"""
    seen = python(script)
    assert [entry[0] for entry in seen].count('nipype') >= 1
    assert [entry for entry in seen if entry[1:] != ['1', '1']] == []


def test_comparison_of_the_self_test_passes_and_fails_with_the_maps(finished, tmp_path, capsys):
    assert compare.main([str(finished.study), str(finished.output)]) == 0
    assert compare.main([str(finished.study), str(tmp_path)]) != 0
    assert 'within their bars' in capsys.readouterr().out


@pytest.mark.parametrize(('failing', 'code', 'word'), [(None, 0, 'passed'), (1, 70, 'FAILED')])
def test_self_test_gives_0_or_70_and_leaves_nothing(monkeypatch, capsys, failing, code, word):
    steps = []

    def record(module, *arguments):
        steps.append((module, *arguments))
        return len(steps) - 1 != failing

    monkeypatch.setattr(self_test, '_run', record)
    outcome = support.run_app('--self-test')
    assert outcome.code == code
    assert outcome.out == f'self-test {word}\n'
    modules = [step[0] for step in steps]
    every = ['bids_app.phantom.cli', 'bids_app', 'bids_app', 'bids_app.phantom.compare']
    assert modules == (every if failing is None else every[: failing + 1])
    assert not support.Path(steps[0][1]).parent.exists()


def test_self_test_starts_only_when_it_stands_alone(monkeypatch):
    monkeypatch.setattr(self_test, '_run', lambda *_: pytest.fail('the self-test started'))
    asked = support.run_app('--self-test', '--help')
    assert (asked.code, asked.out.startswith('usage: oxybold BIDS_DIR')) == (0, True)
    assert support.run_app('--self-test', '--nprocs', '2').code == 64
