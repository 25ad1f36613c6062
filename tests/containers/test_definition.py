"""The two recipes of the image have the same steps, and the steps keep what the docs promise."""

import re

import pytest

import bids_app
from tests.containers.recipes import ROOT, definition, dockerfile

STAGES = {'builder': 0, 'image': 1}


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('part', ['base', 'commands', 'files', 'from_builder', 'arguments'])
def test_docker_and_apptainer_do_the_same(stage, part):
    docker, apptainer = dockerfile()[STAGES[stage]], definition()[STAGES[stage]]
    assert getattr(docker, part) == getattr(apptainer, part)


def test_docker_and_apptainer_set_the_same_variables_but_the_name_of_the_engine():
    docker, apptainer = (recipe()[1].environment for recipe in (dockerfile, definition))
    engine = {'OXYBOLD_CONTAINER': docker['OXYBOLD_CONTAINER'].replace('docker', 'apptainer')}
    as_apptainer = {
        name: re.sub(r'\$\{(\w+)\}', r'{{ \1 }}', value)
        for name, value in (docker | engine).items()
    }
    assert as_apptainer == apptainer


def test_docker_and_apptainer_have_the_same_labels():
    docker, apptainer = (recipe()[1].labels for recipe in (dockerfile, definition))
    assert {k: re.sub(r'\$\{(\w+)\}', r'{{ \1 }}', v) for k, v in docker.items()} == apptainer
    assert {f'org.opencontainers.image.{name}' for name in ('title', 'version', 'revision')} < set(
        docker
    )


def test_version_is_that_of_the_package():
    assert dockerfile()[1].arguments['VERSION'] == bids_app.__version__


def test_entry_point_is_the_app():
    assert dockerfile()[1].entry == 'oxybold'
    assert definition()[1].entry == 'exec oxybold "$@"'


def test_every_package_is_fetched_by_its_hash():
    commands = dockerfile()[0].commands
    pip = [command for command in commands if re.search(r'bin/pip .*(install|wheel)', command)]
    online = [command for command in pip if '--no-index' not in command]
    assert len(online) == 3
    assert all('--require-hashes' in c or '--no-deps --no-build-isolation' in c for c in online)


def test_build_context_holds_only_what_exists():
    ignored = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
    assert '*' in ignored
    assert [name for name in dockerfile()[0].files if not (ROOT / name).exists()] == []


def test_image_runs_as_nobody_in_particular_and_asks_no_network():
    text = (ROOT / 'Dockerfile').read_text('utf-8')
    assert text.index('USER 1000:1000') > text.index('RUN oxybold --version')
    environment = dockerfile()[1].environment
    assert {'NO_ET', 'NIPYPE_NO_ET', 'PYTHONDONTWRITEBYTECODE'} <= set(environment)
    assert 'HOME' not in environment
