"""On a real SLURM: the scripts and plugin files of the docs give the numbers of a local run.

Needs a SLURM in which this machine is a node; skipped where there is none.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_app.workflows.execution import choose_plugin
from tests.e2e import support
from tests.paths import ROOT
from tests.workflows.test_execution import settings

FILES = ROOT / 'docs' / 'how-to' / 'slurm'
PARTICIPANTS = 8


@pytest.mark.parametrize('name', ['slurm', 'slurm-graph'])
def test_plugin_file_of_the_docs_can_be_used(name, tmp_path):
    plugin, _ = choose_plugin(settings(tmp_path, plugin_file=FILES / f'{name}.yml'))
    assert plugin in {'SLURM', 'SLURMGraph'}


def test_array_script_is_sound_shell():
    subprocess.run(['bash', '-n', FILES / 'participants.sh'], check=True)


@pytest.mark.parametrize(('list_file', 'labels'), [(None, ['b', 'c']), ('list', ['x', 'y'])])
def test_array_script_takes_the_label_of_its_task(tmp_path, list_file, labels):
    (tmp_path / 'participants.tsv').write_text('participant_id\tage\nb\t1\nc\t2\n')
    (tmp_path / 'list').write_text('x\ny\n')
    for number, label in enumerate(labels, start=1):
        environment = {**os.environ, 'OXYBOLD': 'echo', 'SLURM_ARRAY_TASK_ID': str(number),
                       'SLURM_CPUS_PER_TASK': '2', 'SLURM_MEM_PER_NODE': '6000'}  # fmt: skip
        if list_file:
            environment['OXYBOLD_LIST'] = str(tmp_path / list_file)
        words = ['bash', FILES / 'participants.sh', tmp_path, 'out', '--tfce']
        done = subprocess.run(words, env=environment, text=True, capture_output=True, check=True)
        assert done.stdout.split() == [
            str(tmp_path), 'out', 'participant', '--participant-label', label, '--nprocs', '2',
            '--mem', '6000M', '--tfce',
        ]  # fmt: skip


def test_list_for_the_array_is_made_from_the_dry_run_as_the_page_says(tmp_path):
    page = (FILES.parent / 'cluster.md').read_text()
    script = page.partition("<<'END'\n")[2].partition('\nEND\n')[0]
    study = support.phantom(tmp_path, participants=1)
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    (root / 'sub-02' / 'anat').mkdir(parents=True)
    plan = tmp_path / 'plan.json'
    words = (root, tmp_path / 'out', 'participant', '--dry-run', '--json')
    plan.write_text(support.run_app(*words).out)
    done = subprocess.run(
        [sys.executable, '-', plan], input=script, text=True, capture_output=True, check=True
    )
    assert done.stdout.split() == ['01']


def has_slurm():
    if shutil.which('sbatch') is None:
        return False
    return subprocess.run(['sinfo'], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    if not has_slurm():
        pytest.skip('no SLURM answers here (sinfo)')
    return support.phantom(tmp_path_factory.mktemp('slurm'), participants=PARTICIPANTS)


@pytest.fixture(scope='module')
def local(study):
    output = study.parent / 'local'
    outcome = support.spawn(study, output, 'participant', *options(study), timeout=900)
    assert outcome.code == 0
    return support.results(output)


def options(study):
    return (*support.anatomy_of(study), *support.HEADER)


def submit(study, output, array, *more):
    """Submit the array script of the docs; its options stand in the order of the command line."""
    command = ['sbatch', '--parsable', f'--array={array}', '--cpus-per-task=1', '--mem=1500',
               '-o', f'{output}-%a.log', *more, FILES / 'participants.sh', study, output,
               *options(study)]  # fmt: skip
    environment = {**os.environ, 'OXYBOLD': ' '.join(support.command())}
    return subprocess.run(
        list(map(str, command)), env=environment, text=True, capture_output=True, check=True,
        timeout=900,
    ).stdout.strip()  # fmt: skip


@pytest.mark.prove
def test_array_gives_the_numbers_of_a_local_run(study, local):
    output = study.parent / 'array'
    submit(study, output, f'1-{PARTICIPANTS}%4', '--wait')
    assert support.results(output) == local


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert condition()


@pytest.mark.prove
def test_cancelled_task_ends_in_order_and_the_same_script_resumes(study):
    output = study.parent / 'cancelled'
    log = Path(f'{output}-1.log')
    job = submit(study, output, '1')
    wait_for(lambda: any(output.glob('.oxybold/work/sub-01*/**/result_*.pklz')))
    subprocess.run(['scancel', job], check=True)
    wait_for(lambda: 'exit code 75' in log.read_text())
    submit(study, output, '1-2', '--wait')
    assert 'exit code 0' in log.read_text().splitlines()[-1]
    names = [name for name in support.results(output) if name.startswith('sub-01/')]
    assert names
    assert not [path for path in output.rglob('*') if '.tmp' in path.name]


@pytest.fixture(scope='module')
def relaxometry(study, tmp_path_factory):
    """Give the command for spin echoes alone, and the digests of its local run of all."""
    command = (study, tmp_path_factory.mktemp('relaxometry') / 'local', 'participant',
               *options(study), '--output-spaces', 'none',
               '--ignore', 'asl', 'dsc', 'bold', 'megre')  # fmt: skip
    outcome = support.spawn(*command, timeout=900)
    assert outcome.code == 0, outcome.log
    return command, support.results(command[1])


@pytest.mark.prove
@pytest.mark.parametrize('name', ['slurm', 'slurm-graph'])
def test_plugin_gives_the_numbers_of_a_local_run(relaxometry, tmp_path, name):
    (raw, _, *rest), wanted = relaxometry
    text = (FILES / f'{name}.yml').read_text().replace('--mem=3G', '--mem=800')
    (tmp_path / 'plugin.yml').write_text(text)
    plugin = ('--nipype-plugin-file', tmp_path / 'plugin.yml')
    outcome = support.spawn(raw, tmp_path / 'out', *rest, *plugin, timeout=3000)
    assert outcome.code == 0, outcome.log
    found = support.results(tmp_path / 'out')
    assert {name.partition('/')[0] for name in found if name.startswith('sub-')} == {
        f'sub-{number:02d}' for number in range(1, PARTICIPANTS + 1)
    }
    assert found == wanted
