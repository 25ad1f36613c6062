"""
Say what keeps this tree from being released: version, changelog, locks, image recipes and docs.

Usage
-----
``python tools/release_check.py`` prints one line per obstacle; exit code 1 if there is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text('utf-8')


def version() -> str:
    return re.search(r"^__version__ = '(.+)'$", read('bids_app/__init__.py'), re.M)[1]


def check_changelog(text: str, wanted: str) -> list[str]:
    """Check that the newest entry is that of the version, with a date and with content."""
    entries = re.split(r'^## ', text, flags=re.M)[1:]
    heading, _, body = entries[0].partition('\n') if entries else ('', '', '')
    found = []
    if not re.fullmatch(rf'{re.escape(wanted)} - \d{{4}}-\d\d-\d\d', heading.strip()):
        found.append(f'CHANGELOG.md begins with "{heading}", expected "{wanted} - YYYY-MM-DD"')
    if not re.search(r'^- ', body, re.M):
        found.append('CHANGELOG.md: the newest entry lists nothing')
    return found


def check_citation(text: str, wanted: str) -> list[str]:
    """Check that the citation names the version and the day."""
    found = []
    if not re.search(rf'^version: "?{re.escape(wanted)}"?$', text, re.M):
        found.append(f'CITATION.cff: version is not {wanted}')
    if not re.search(r'^date-released: "?\d{4}-\d\d-\d\d"?$', text, re.M):
        found.append('CITATION.cff: date-released is missing')
    return found


def check_recipes(wanted: str) -> list[str]:
    """Check that both recipes label the image with the version."""
    lines = {'Dockerfile': f'ARG VERSION={wanted}\n', 'oxybold.def': f'VERSION={wanted}\n'}
    return [f'{name}: no {line.strip()}' for name, line in lines.items() if line not in read(name)]


def check_lock(project: str, lock: str) -> list[str]:
    """Check that every dependency is locked in a version it allows, by hash."""
    pinned = re.findall(r'^([\w.-]+)==([^ ;\\]+)(.*?)(?=^\S|\Z)', lock, re.M | re.S)
    found = [
        f'lock: {name}=={at} has no hash' for name, at, rest in pinned if 'sha256:' not in rest
    ]
    for text in tomllib.loads(project)['project']['dependencies']:
        wanted = Requirement(text)
        versions = [at for name, at, _ in pinned if name == wanted.name]
        if not versions:
            found.append(f'lock: {wanted.name} is missing')
        found += [
            f'lock: {wanted.name}=={at} does not fit {text}'
            for at in versions
            if at not in wanted.specifier
        ]
    return found


def check_docs() -> list[str]:
    """Check that the generated pages are those of the code."""
    command = [sys.executable, str(ROOT / 'tools' / 'make_docs.py'), '--check']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f'docs: {(done.stdout + done.stderr).strip()}']


def check_tree() -> list[str]:
    """Check that everything is committed."""
    command = ['git', 'status', '--porcelain']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    changed = done.stdout.splitlines()
    return [f'not committed: {line[3:]}' for line in changed[:5]]


def obstacles() -> list[str]:
    """List everything that is in the way of a release."""
    wanted = version()
    return [
        *check_changelog(read('CHANGELOG.md'), wanted),
        *check_citation(read('CITATION.cff'), wanted),
        *check_recipes(wanted),
        *check_lock(read('pyproject.toml'), read('requirements-app.lock')),
        *check_docs(),
        *check_tree(),
    ]


if __name__ == '__main__':
    found = obstacles()
    print('\n'.join(found) or f'{version()} can be released')
    sys.exit(1 if found else 0)
