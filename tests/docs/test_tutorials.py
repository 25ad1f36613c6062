"""What the tutorials show is run as it stands: Python by doctest, commands with their output."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

FOLDER = ROOT / 'docs' / 'tutorial'
BLOCK = re.compile(r'```(pycon|bash)\n(.*?)```(?:\n\n```text\n(.*?)```)?', re.DOTALL)
"""Language, content and, of a command, the output that is shown."""


def run_page(name, folder):
    """Run the blocks of a page in order in a folder; fail where the output is another."""
    names = {'__name__': name}
    text = (FOLDER / f'{name}.md').read_text('utf-8')
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    for number, (language, content, shown) in enumerate(BLOCK.findall(text)):
        if language == 'bash':
            for line in content.splitlines():
                done = subprocess.run(
                    shlex.split(line), cwd=folder, env=os.environ | {'PATH': path},
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
            assert not shown or done.stdout.rstrip() == shown.rstrip()
            continue
        example = doctest.DocTestParser().get_doctest(content, names, f'{name} {number}', None, 0)
        said = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(example, out=said.append, clear_globs=False)
        assert not runner.summarize(verbose=False).failed, ''.join(said)
        names = example.globs


@pytest.mark.parametrize('name', ['published-table', 'what-can-i-conclude'])
def test_the_page_runs_as_it_stands(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(name, tmp_path)


@pytest.mark.prove
@pytest.mark.parametrize('name', ['scanner-to-labels', 'asl-only', 'resting-patients'])
def test_the_study_of_the_page_runs_as_it_stands(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(name, tmp_path)
