"""Engine functions run in processes of their own, with seed and threads set before they start."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bids_app.engines import ants, isolated
from bids_app.engines.isolated import TASKS, _environment, run_isolated
from bids_app.errors import AppError, InputDataError, SettingsError, StepKilledError
from bids_app.images import Grid, load_data, save_affine, save_image


@pytest.fixture
def image(tmp_path):
    return save_image(np.ones((4, 5, 6)), Grid((4, 5, 6), np.eye(4)), tmp_path / 'a.nii')


def test_unknown_task_is_refused_before_a_process_starts(tmp_path):
    with pytest.raises(SettingsError, match='paint'):
        run_isolated('paint', cwd=tmp_path)


def test_every_task_is_a_function_of_the_engine():
    assert all(callable(getattr(ants, task)) for task in TASKS)


def test_reply_comes_back_and_scratch_is_removed(tmp_path, image):
    transform = save_affine(np.eye(4), tmp_path / 'identity.txt')
    out = tmp_path / 'xyz.nii'
    reply = run_isolated(
        'template_coordinates', cwd=tmp_path, transform=transform, template=image, out=out
    )
    assert reply == {'coordinates': str(out)}
    np.testing.assert_allclose(load_data(out)[3, 4, 5], [3, 4, 5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.nii', 'identity.txt', 'xyz.nii']


def test_error_of_the_engine_keeps_its_class_and_text(tmp_path, image):
    with pytest.raises(InputDataError, match='no contrast to align by'):
        run_isolated(
            'register_rigid', cwd=tmp_path, fixed=image, moving=image, out_transform='none.txt'
        )


def test_death_of_the_process_quotes_its_last_lines(tmp_path):
    with pytest.raises(AppError, match=r'(?s)ended with code 1.*unexpected keyword') as caught:
        run_isolated('correct_bias', cwd=tmp_path, colour='red')
    assert type(caught.value) is AppError


ORPHAN = """
import subprocess, sys, time
code = 'from bids_app.engines.isolated import end_with_parent as e; e(); print(1, flush=True)'
child = subprocess.Popen([sys.executable, '-c', code + '; import time; time.sleep(60)'],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_engine_process_ends_when_the_app_is_killed():
    with subprocess.Popen([sys.executable, '-c', ORPHAN], stdout=subprocess.PIPE) as app:
        child = int(app.stdout.readline())
        app.kill()
    deadline = time.monotonic() + 10
    while Path(f'/proc/{child}').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f'/proc/{child}').exists()


def test_killed_process_says_that_memory_may_have_run_out(tmp_path, monkeypatch):
    killed = type('Done', (), {'returncode': -9, 'stderr': '', 'stdout': ''})
    monkeypatch.setattr(isolated.subprocess, 'run', lambda *_, **__: killed)
    with pytest.raises(StepKilledError, match='memory'):
        run_isolated('correct_bias', cwd=tmp_path)


def test_environment_fixes_threads_seed_and_scratch_only_for_the_child(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', 'kept')
    before = dict(os.environ)
    environment = _environment(tmp_path, seed=7, n_threads=1)
    assert environment['ANTS_RANDOM_SEED'] == '7'
    assert environment['ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'] == '1'
    assert environment['OMP_NUM_THREADS'] == '1'
    assert environment['TMPDIR'] == str(tmp_path)
    assert environment['PYTHONPATH'].endswith('kept')
    assert dict(os.environ) == before


def test_request_is_plain_json(tmp_path, monkeypatch):
    seen = {}

    def run(command, **options):
        seen.update(json.loads((tmp_path / command[-2]).read_text()), env=options['env'])
        (tmp_path / command[-1]).write_text('{"result": {"done": true}}')
        return type('Done', (), {'returncode': 0, 'stderr': '', 'stdout': ''})

    monkeypatch.setattr(isolated.subprocess, 'run', run)
    reply = run_isolated('correct_bias', cwd=tmp_path, image=tmp_path / 'x.nii', mask=None)
    assert reply == {'done': True}
    assert seen['arguments'] == {'image': str(tmp_path / 'x.nii'), 'mask': None}


def test_without_linux_a_process_starts_all_the_same(monkeypatch):
    monkeypatch.setattr(isolated.sys, 'platform', 'darwin')
    monkeypatch.setattr(isolated.ctypes, 'CDLL', None)  # asked for, it would be an error
    isolated.end_with_parent()
