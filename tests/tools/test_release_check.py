import importlib.util

import pytest

from tests.paths import ROOT

spec = importlib.util.spec_from_file_location('release_check', ROOT / 'tools' / 'release_check.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

GOOD = '# Changes\n\n## 1.2.0 - 2026-11-23\n\n- a change\n\n## 1.1.0 - 2026-01-01\n\n- old\n'


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        (GOOD, []),
        (GOOD.replace('1.2.0 - 2026-11-23', 'Unreleased (1.2.0)'), ['Unreleased']),
        (GOOD.replace('1.2.0', '1.3.0'), ['1.3.0']),
        (GOOD.replace('- a change', ''), ['lists nothing']),
        ('', ['begins', 'lists nothing']),
    ],
)
def test_changelog_begins_with_the_dated_version(text, says):
    found = tool.check_changelog(text, '1.2.0')
    assert len(found) == len(says)
    assert all(word in line for word, line in zip(says, found, strict=True))


def test_citation_names_version_and_day():
    assert tool.check_citation('version: 1.2.0\ndate-released: 2026-11-23\n', '1.2.0') == []
    assert len(tool.check_citation('version: 1.1.0\n', '1.2.0')) == 2


def test_lock_fits_the_project_and_has_hashes():
    project = '[project]\ndependencies = ["numpy>=2,<3", "scipy>=1.13"]\n'
    hashed = ' \\\n    --hash=sha256:00\n'
    lock = f'numpy==2.1{hashed}scipy==1.14{hashed}'
    assert tool.check_lock(project, lock) == []
    assert tool.check_lock(project, lock.replace('2.1', '3.1')) != []
    assert tool.check_lock(project, f'numpy==2.1{hashed}') == ['lock: scipy is missing']
    assert tool.check_lock(project, lock.replace(hashed, '\n')) != []


def test_this_tree_agrees_with_itself_on_version_recipes_and_lock():
    version = tool.version()
    assert tool.check_recipes(version) == []
    project, lock = tool.read('pyproject.toml'), tool.read('requirements-app.lock')
    assert tool.check_lock(project, lock) == []
