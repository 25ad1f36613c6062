"""Imports point downward, and importing does nothing."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

HEAVY = ('numpy', 'scipy', 'nipype', 'nibabel', 'bids', 'pandas', 'nilearn', 'matplotlib', 'ants')


def python(code, tmp_path):
    """Run code in a fresh interpreter; warnings are errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, '-W', 'error::UserWarning:bids_app', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_contracts_of_import_linter_are_kept(tmp_path):
    pytest.importorskip('importlinter')
    code = (
        'import sys; from importlinter.cli import lint_imports;'
        f'sys.exit(lint_imports(config_filename={str(ROOT / "pyproject.toml")!r}, no_cache=True))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_and_version_import_nothing_heavy(tmp_path):
    printed = python(
        'import sys\n'
        'from bids_app.cli.main import main\n'
        'codes = [main([option]) for option in ("--version", "--help")]\n'
        f'print(codes, [name for name in {HEAVY!r} if name in sys.modules])',
        tmp_path,
    )
    assert printed.startswith('oxybold ')
    assert printed.splitlines()[-1] == '[0, 0] []'


IMPORT_ALL = """
import os, random, sys, pkgutil, importlib, logging
import numpy as np
before = dict(os.environ)
state = np.random.get_state()[1].tolist(), random.getstate()
import bids_app
from tests.paths import ROOT
names = [m.name for m in pkgutil.walk_packages(bids_app.__path__, 'bids_app.')]
names = [name for name in names if not name.endswith('__main__')]
for name in names:
    importlib.import_module(name)
changed = {name for name in os.environ if os.environ[name] != before.get(name)}
assert state == (np.random.get_state()[1].tolist(), random.getstate()), 'random state'
assert not logging.getLogger('oxybold').handlers, 'logging'
changed -= {'NO_ET', 'NIPYPE_NO_ET', 'KMP_DUPLICATE_LIB_OK'}  # the last by threadpoolctl
print(len(names), sorted(changed))
print([name for name in ('ants', 'bids', 'nilearn', 'matplotlib.pyplot') if name in sys.modules])
"""


def test_importing_every_module_has_no_effect(tmp_path):
    first, engines = python(IMPORT_ALL, tmp_path).splitlines()
    count, changed = first.split(' ', 1)
    assert int(count) > 60
    assert changed == '[]', 'only the telemetry of nipype may be switched off by an import'
    assert engines == '[]', 'the work of others is imported when it is used'
    assert not list(tmp_path.iterdir()), 'an import wrote a file'
