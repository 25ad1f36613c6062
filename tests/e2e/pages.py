"""Follow a page "add a ..." literally, in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys

from tests.paths import ROOT

PAGES = ROOT / 'docs' / 'how-to'
BLOCK = re.compile(
    r'```\{code-block\} \w+\n:caption: ([^\n,]+)(?:, ([^\n]*))?\n\n(.*?)```', re.DOTALL
)


def copy_tree(folder):
    """Copy what tests and pages need."""
    for name in ('benchmarks', 'bids_app', 'docs', 'tests', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('README.md', 'pyproject.toml'):
        shutil.copy(ROOT / name, folder / name)
    return folder


def follow(page, tree, *, at_most):
    """Put the blocks of a page where their captions say."""
    blocks = BLOCK.findall((PAGES / f'{page}.md').read_text('utf-8'))
    assert 0 < len({name for name, *_ in blocks}) <= at_most, 'files by hand'
    for name, place, text in blocks:
        path = tree / name
        if not place:
            path.write_text(text, 'utf-8')
        elif place == 'at the end':
            path.write_text(f'{path.read_text("utf-8")}\n{text}', 'utf-8')
        else:
            how, line = re.fullmatch('(after|in place of) "(.*)"', place).groups()
            old, line = path.read_text('utf-8'), f'{line}\n'
            assert old.count(f'\n{line}') == 1, f'{name}: {line}'
            kept = line if how == 'after' else ''
            path.write_text(old.replace(f'\n{line}', f'\n{kept}{text}'), 'utf-8')


def run(tree, *words):
    """Run Python in the copy; return what it printed."""
    environment = {**os.environ, 'PYTHONPATH': str(tree)}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
