"""The built image does what the docs say: any user, read-only, no network, equal numbers."""

import json
import shutil
import subprocess

import pytest

from tests.e2e import support

pytestmark = pytest.mark.prove

LIMIT = 1.5e9
"""Bytes of the image."""

KERNELS = ('-e', 'OPENBLAS_CORETYPE')
"""The container takes the choice of this machine; without one both choose by the processor."""


def engine_with_image():
    for engine in ('podman', 'docker'):
        if shutil.which(engine) is None:
            continue
        command = [engine, 'image', 'inspect', 'oxybold']
        seen = subprocess.run(command, capture_output=True, check=False)
        if seen.returncode == 0:
            return engine, json.loads(seen.stdout)[0]
    return None


@pytest.fixture(scope='module')
def image():
    found = engine_with_image()
    if found is None:
        pytest.skip('no image oxybold (make image, or make image ENGINE=podman)')
    return found


@pytest.fixture
def run_image(image):
    def run(*arguments, mounts=()):
        places = [word for mount in mounts for word in ('-v', mount)]
        command = [image[0], 'run', '--rm', '--network', 'none', '--read-only', '--tmpfs', '/tmp',
                   '-u', '1234:1234', '-e', 'HOME=/nowhere', *KERNELS, *places,
                   'oxybold']  # fmt: skip
        return subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


def test_image_is_small_and_tells_what_it_is(image):
    _, about = image
    assert about['Size'] < LIMIT
    labels = about['Config']['Labels']
    assert labels['org.opencontainers.image.title'] == 'oxybold'
    assert labels['org.opencontainers.image.licenses'] == 'Apache-2.0'


def test_self_test_passes_for_any_user_on_a_read_only_root_without_network(run_image):
    done = run_image('--self-test')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'self-test passed'


def test_exit_code_comes_through(run_image):
    assert run_image('--no-such-option').returncode == 64


def test_outputs_are_those_of_the_bare_run(run_image, tmp_path):
    raw, bare, boxed = (tmp_path / name for name in ('raw', 'bare', 'boxed'))
    support.make_phantom([str(raw), '--grid', 'coarse', '--participants', '1', '--seed', '1'])
    boxed.mkdir()
    boxed.chmod(0o777)
    options = ('participant', '--nprocs', '1')
    done = run_image('/data', '/out', *options, mounts=(f'{raw}:/data:ro', f'{boxed}:/out'))
    assert done.returncode == 0, done.stderr
    assert support.spawn(raw, bare, *options, timeout=900).code == 0
    assert len(support.results(bare)) > 200
    assert support.results(boxed) == support.results(bare)
    generated = json.loads((boxed / 'dataset_description.json').read_text())['GeneratedBy'][0]
    assert generated['Container'] == {'Type': 'docker', 'Tag': 'oxybold:0.1.0'}
