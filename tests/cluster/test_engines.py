"""The recipes for Snakemake and DataLad, with these programs: the numbers of a local run."""

import os
import subprocess
import sys

import pytest

from tests.e2e import support
from tests.paths import ROOT

pytestmark = [pytest.mark.prove, pytest.mark.network]
RECIPES = ROOT / 'docs' / 'how-to'
PARTICIPANTS = 12


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    return support.phantom(tmp_path_factory.mktemp('engines'), participants=PARTICIPANTS)


def options(study):
    return (*support.anatomy_of(study), '--registration', 'header',
            '--ignore', 'asl', 'dsc', 'bold')  # fmt: skip


@pytest.fixture(scope='module')
def local(study):
    output = study.parent / 'local'
    outcome = support.spawn(study, output, 'participant', *options(study), timeout=1800)
    assert outcome.code == 0, outcome.log
    return of_participants(output)


def of_participants(output):
    return {name: digest for name, digest in support.results(output).items()
            if name.startswith('sub-')}  # fmt: skip


@pytest.fixture(scope='module')
def tools(tmp_path_factory):
    """Install both into an environment of their own; return how a command finds them."""
    place = tmp_path_factory.mktemp('tools')
    subprocess.run([sys.executable, '-m', 'venv', place], check=True)
    packages = ('snakemake', 'datalad', 'git-annex')
    subprocess.run([place / 'bin' / 'pip', 'install', '--quiet', *packages], check=True)
    who = {f'GIT_{role}_{what}': 'somebody@example.org' if what == 'EMAIL' else 'somebody'
           for role in ('AUTHOR', 'COMMITTER') for what in ('NAME', 'EMAIL')}  # fmt: skip
    return {**os.environ, **who, 'PATH': f'{place / "bin"}:{os.environ["PATH"]}',
            'HOME': str(place), 'OXYBOLD': ' '.join(support.command())}  # fmt: skip


def call(words, environment, folder):
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, text=True, capture_output=True,
        check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_snakemake_gives_the_numbers_of_a_local_run(study, local, tools, tmp_path):
    words = ' '.join(map(str, options(study)))
    call(
        ('snakemake', '--snakefile', RECIPES / 'snakemake' / 'Snakefile', '--cores', '2',
         '--config', f'bids={study}', f'out={tmp_path / "out"}', f'options={words}'),
        tools, tmp_path,
    )  # fmt: skip
    assert of_participants(tmp_path / 'out') == local
    assert (tmp_path / 'out' / 'group.html').is_file()


def test_clones_of_datalad_give_the_numbers_of_a_local_run(study, local, tools, tmp_path):
    source, output = tmp_path / 'source', tmp_path / 'out'
    call(('datalad', 'create', source), tools, tmp_path)
    call(('cp', '-r', *(one for one in study.iterdir() if one.name != 'derivatives'), source),
         tools, tmp_path)  # fmt: skip
    call(('datalad', 'save', '-d', source, '-m', 'raw'), tools, tmp_path)
    for number in range(1, PARTICIPANTS + 1):
        call(('bash', RECIPES / 'datalad' / 'participant.sh', source, output, f'{number:02d}',
              *options(study)), tools, tmp_path)  # fmt: skip
    call((*support.command(output, output, 'participant'), '--reports-only'), tools, tmp_path)
    assert of_participants(output) == local
    index = (output / 'index.html').read_text()
    assert all(f'sub-{number:02d}.html' in index for number in range(1, PARTICIPANTS + 1))
    assert support.run_app(output, output, 'group').code == 0
