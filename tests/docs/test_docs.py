"""What the documents say is what the code does."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bids_app
from bids_app.cli.parser import parse, parse_init, parse_status
from bids_app.engines import glm
from bids_app.errors import ExitCode
from bids_app.models import constants
from bids_app.models.contrast import calibrated_bold
from bids_app.models.oxygen import gas_calibration
from bids_app.models.preprocessing import coregistration
from bids_app.models.registry import MODELS
from bids_app.settings import Settings, declarations, flatten, resolve
from tests.paths import ROOT

WRITTEN = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')]
PAGES = sorted(path for path in (ROOT / 'docs').rglob('*.md') if '_build' not in path.parts)
DOCUMENTS = [*WRITTEN, *PAGES]
REFERENCE = ROOT / 'docs' / 'reference'


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_docs = load_tool('make_docs')


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    return re.findall(rf'^ *```{language}\n(.*?)^ *```', path.read_text('utf-8'), re.M | re.S)


def commands():
    """Every command of the documents, lines that go on joined, comments left out."""
    for path in DOCUMENTS:
        for block in blocks(path, 'bash'):
            for line in re.sub(r'\\\n\s*', '', block).splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield pytest.param(words, id=f'{path.name}: {line[:50].strip()}')


# --------------------------------------------------------------------------- generated pages


@pytest.mark.parametrize('name', make_docs.PAGES)
def test_generated_page_is_what_the_code_says(name):
    assert (REFERENCE / f'{name}.md').read_text('utf-8') == make_docs.PAGES[name](), (
        'stale: make reference'
    )


def test_the_graph_of_the_readme_is_the_graph_of_the_code():
    made = make_docs.between(make_docs.GRAPH_MARKS, make_docs.README, make_docs.graph_block())
    assert make_docs.README.read_text('utf-8') == made, 'stale: make reference'


def test_the_table_of_folders_is_what_they_say_and_import():
    block = make_docs.folders_block()
    assert 'cli        ->  group, workflows\n' in block
    path = make_docs.ARCHITECTURE
    made = make_docs.between(make_docs.FOLDER_MARKS, path, block)
    assert path.read_text('utf-8') == made, 'stale: make reference'


def test_the_graph_shows_that_change_comes_from_primitive_maps_not_from_cmro2():
    block = make_docs.graph_block()
    into_change = set(re.findall(r'(\w+) (?:-- "[^"]*" )?--> change\n', block))
    assert into_change == {'model_asl', 'model_dsc', 'model_megre', 'model_mese'}


@pytest.mark.parametrize(('quantity', 'name'), [(q, n) for q in MODELS for n in MODELS[q]])
def test_every_model_has_a_page_with_equation_validity_constants_sources_and_figure(
    quantity, name
):
    text = (REFERENCE / f'models/{quantity}-{name}.md').read_text('utf-8')
    titles = re.findall(r'^## (.+)$', text, re.M)
    assert titles == ['Equation', 'Where it holds', 'Constants', 'Sources', 'Figure']
    assert re.search(r'^\$\$\n.+\n\$\$$', text, re.M)
    assert 'from bids_app.models' in text.partition('.. plot::')[2]
    for parameter in MODELS[quantity][name].constants:
        assert parameter in text


def test_every_setting_is_on_the_page_of_settings():
    text = (REFERENCE / 'settings.md').read_text('utf-8')
    assert [name for name in flatten(Settings()) if f'| `{name}` |' not in text] == []


def test_exit_codes_are_one_table():
    text = (REFERENCE / 'exit-codes.md').read_text('utf-8')
    rows = {int(code): name for code, name in re.findall(r'^\| (\d+) \| `(\w+)` \|', text, re.M)}
    assert rows == {code.value: code.name for code in ExitCode}


# --------------------------------------------------------------------------- written pages


@pytest.mark.parametrize('path', DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    text = re.sub(r'```.*?```', '', path.read_text('utf-8'), flags=re.S)
    targets = re.findall(r'\]\(([^)\s]+)\)', text)
    local = [target.partition('#')[0] for target in targets if '://' not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize('path', DOCUMENTS, ids=name_of)
def test_settings_that_are_named_exist(path):
    branches = {name.partition('.')[0] for name in flatten(Settings()) if '.' in name}
    quoted = re.findall(r'`([a-z_]+)\.([a-z_0-9]+)`', path.read_text('utf-8'))
    files = {('group', 'html')}
    named = {'.'.join(pair) for pair in quoted if pair[0] in branches and pair not in files}
    known = set(flatten(Settings()))
    if path.name == 'CHANGELOG.md':  # names what a setting was called
        known |= {name for one, _ in declarations().values() for name in one.metadata['former']}
    assert named <= known


def percent_text(share):
    """Percent as the pages write it."""
    return f'{100 * share:+.1f} %'.replace('-', '−')


def written_numbers():
    """What the tables and sentences that are written by hand must say, from the code."""
    settings = Settings()
    yield (
        'group',
        (
            f'bootstrap ratio of a PLS ≥ {constants.BOOTSTRAP_RATIO:g} in clusters of '
            f'{constants.CLUSTER_EXTENT} voxels'
        ),
    )
    yield (
        'movement',
        f'| `failed` | overlap below {coregistration.FAILED_OVERLAP:g}; or more than ',
    )
    yield (
        'movement',
        f'more than {coregistration.FAILED_GAIN:g} times as similar after a small movement',
    )
    yield (
        'movement',
        (
            f'more than {coregistration.OTHER_HEAD_GAIN:g} times, and overlap below '
            f'{coregistration.SAME_OVERLAP:g}'
        ),
    )
    yield (
        'movement',
        (
            f'| `check` | overlap below {coregistration.GOOD_OVERLAP:g}, or more than '
            f'{coregistration.GOOD_GAIN:g} times as similar'
        ),
    )
    yield 'bold', f'{settings.bold.censor_dvars:g} times the median step'
    yield 'bold', f'the head moved by {settings.bold.censor_displacement:g} mm'
    yield 'bold', f'the standard error of a contrast by more than {100 * glm.LARGEST_LOSS:g} %'
    for name, exponents in gas_calibration.COEFFICIENTS.items():
        alpha, beta = (f'{number:g}'.replace('-', '−') for number in exponents)
        yield 'calibrated-bold', f'{name} ({alpha}, {beta})'
    for flow, volume in ((1.15, 0.0), (0.88, 0.0), (1.15, 0.05), (0.88, 0.05)):
        bias = calibrated_bold.semiquantitative_bias(
            flow, alpha=0.2, beta=1.3, cbv_ratio=1 + volume
        )
        shown = f'{100 * volume:g} %' if volume else '0'
        yield 'calibrated-bold', f'| {flow:g} | {shown} | {percent_text(float(bias))} |'
    change = settings.change
    yield 'labels', f'`change.grey_matter` ({change.grey_matter:g})'
    yield 'labels', f'`change.bold_q` ({change.bold_q:g})'
    yield 'labels', f'`change.false_sign_rate` ({change.false_sign_rate:g})'
    yield 'labels', f'`change.smallest_effect`, {100 * change.smallest_effect:g} %'


@pytest.mark.parametrize(('page', 'fragment'), [*written_numbers()])
def test_numbers_that_are_written_by_hand_are_those_of_the_code(page, fragment):
    text = (ROOT / 'docs' / 'explanation' / f'{page}.md').read_text('utf-8')
    assert fragment in ' '.join(text.split())


@pytest.mark.parametrize('path', DOCUMENTS, ids=name_of)
def test_settings_files_that_are_shown_can_be_used(path, tmp_path):
    shown = [block for block in blocks(path, 'toml') if '[[' not in block]
    for number, block in enumerate(shown):
        config = tmp_path / f'{number}.toml'
        config.write_text(block, 'utf-8')
        assert resolve(config_file=config) != Settings()


@pytest.mark.parametrize('words', [*commands()])
def test_commands_that_are_shown_can_be_typed(words):
    program = Path(words[0]).name
    if program == 'make':
        text = (ROOT / 'Makefile').read_text('utf-8')
        targets = re.findall(r'^([a-z-]+):', text, re.M)
        assert {word for word in words[1:] if '=' not in word} <= set(targets)
    elif words[:2] == ['oxybold', 'status']:
        assert parse_status(words[2:])
    elif words[:2] == ['oxybold', 'init']:
        assert parse_init(words[2:])
    elif program == 'oxybold' and '[options]' not in words:
        assert parse(words[1 : words.index('>')] if '>' in words else words[1:])
    elif program == 'oxybold-phantom' and '[options]' not in words:
        from bids_app.phantom.cli import make_parser

        assert make_parser().parse_args(words[1:])
    elif '/data' in words:
        arguments = words[words.index('/data') :]
        given = [word.replace('$SLURM_CPUS_PER_TASK', '2') for word in arguments]
        assert parse(given)


def test_the_readme_leads_with_purpose_picture_and_two_commands():
    text = (ROOT / 'README.md').read_text('utf-8')
    order = [text.index(part) for part in ('Does a BOLD', 'labels.png', 'make demo\nmake test')]
    assert order == sorted(order)
    assert text[: order[2]].count('\n') < 35


# --------------------------------------------------------------------------- packaging


def test_one_version_everywhere():
    version = bids_app.__version__
    assert f'version: {version}\n' in (ROOT / 'CITATION.cff').read_text('utf-8')
    assert version in (ROOT / 'CHANGELOG.md').read_text('utf-8')


def locked(name):
    """Entries of a lock: requirement with its marker -> hashes."""
    text = (ROOT / name).read_text('utf-8').replace('\\\n', '')
    entries = {}
    for line in text.splitlines():
        requirement, *hashes = line.split(' --hash=')
        entries[requirement.partition(';')[0].strip()] = {item.strip() for item in hashes}
    return entries


@pytest.mark.parametrize('name', ['requirements-app.lock', 'requirements-build.lock'])
def test_smaller_lock_holds_the_versions_of_the_large_one(name):
    everything, some = locked('requirements.lock'), locked(name)
    assert set(some) <= set(everything)
    assert all(some.values())


def test_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))
    app = {entry.partition('==')[0] for entry in locked('requirements-app.lock')}
    build = {entry.partition('==')[0] for entry in locked('requirements-build.lock')}

    def names(items):
        return {re.match(r'[\w-]+', item).group().lower() for item in items}

    assert names(project['project']['dependencies']) <= app
    assert names(project['build-system']['requires']) <= build
    assert not app & {'pytest', 'ruff', 'mypy', 'sphinx', 'hypothesis'}


def test_the_server_runs_make_test():
    script = ROOT / '.ci' / 'run'
    assert script.stat().st_mode & stat.S_IXUSR
    lines = script.read_text('utf-8').splitlines()
    assert 'set -euo pipefail' in lines
    assert lines[-1] == 'make test'


@pytest.mark.parametrize(
    ('machine', 'version', 'has_venv', 'says'),
    [
        ('Linux x86_64', (3, 11), True, []),
        ('Linux x86_64', (3, 13), True, []),
        ('Darwin arm64', (3, 12), True, []),
        ('Linux aarch64', (3, 12), True, ['antspyx']),
        ('Darwin x86_64', (3, 12), True, ['antspyx']),
        ('Windows AMD64', (3, 12), True, ['linux/amd64']),
        ('Linux x86_64', (3, 10), True, ['3.10']),
        ('Linux x86_64', (3, 14), True, ['3.14']),
        ('Linux x86_64', (3, 12), False, ['python3-venv']),
    ],
)
def test_the_installation_says_what_is_missing(machine, version, has_venv, says):
    found = load_tool('check_machine').problems(*machine.split(), version, has_venv)
    assert len(found) == len(says)
    assert all(word in text for word, text in zip(says, found, strict=True))


def test_the_pages_build_without_a_warning(tmp_path):
    build = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-W', '-q', '-b', 'html', 'docs', str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONWARNINGS': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr


@pytest.mark.parametrize('name', ['relaxometry', 'perfusion', 'blood-volume', 'calibrated-bold',
                                  'asymmetric-spin-echo', 'labels'])  # fmt: skip
def test_every_model_page_has_a_figure_made_by_the_code_it_shows(name):
    text = (ROOT / 'docs' / 'explanation' / f'{name}.md').read_text('utf-8')
    assert '.. plot::' in text
    assert 'from bids_app.models' in text
    assert ':alt:' in text


def test_examples_of_docstrings_are_run_by_the_server():
    text = (ROOT / 'Makefile').read_text('utf-8')
    for target in ('check', 'test'):
        recipe = re.search(rf'^{target}:.*\n((?:\t.*\n)+)', text, re.M)[1]
        assert '--doctest-modules bids_app' in recipe


def test_the_workflow_of_github_runs_what_exists():
    steps = [
        step['run']
        for job in yaml.safe_load((ROOT / '.github/workflows/check.yml').read_text())[
            'jobs'
        ].values()
        for step in job['steps']
        if 'run' in step
    ]
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text('utf-8'), re.M)
    assert '.ci/run' in steps
    made = [step.split()[1] for step in steps if step.startswith('make ')]
    assert made
    assert set(made) <= set(targets)


def test_the_table_of_faults_names_tests_that_exist():
    rows = re.findall(r'`([\w/]+\.py)::(\w+)`', (ROOT / 'docs/reference/faults.md').read_text())
    assert len(rows) > 40
    for path, name in rows:
        assert f'def {name}(' in (ROOT / 'tests' / path).read_text(), (path, name)
