"""Limits of the cgroups, versions 1 and 2, of this process and of those around it."""

import os
import sys

import pytest

from bids_app.cli.limits import memory_limit, processor_limit


@pytest.fixture
def cgroups(tmp_path):
    """Make a tree of cgroups, and the table that says where this process is."""

    def make(table, files):
        (tmp_path / 'own').write_text(table)
        for name, content in files.items():
            path = tmp_path / 'tree' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return {'root': tmp_path / 'tree', 'own': tmp_path / 'own'}

    return make


V2 = '0::/slurm/job_7/step_0\n'
V1 = '4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n'


@pytest.mark.parametrize(
    ('table', 'files', 'megabytes'),
    [
        (V2, {'slurm/job_7/memory.max': '500000000\n', 'memory.max': 'max\n'}, 500),
        (V2, {'slurm/memory.max': '300000000', 'slurm/job_7/memory.max': '500000000'}, 300),
        (V2, {'memory.max': '200000000'}, 200),  # in a container its own group is the root
        (V1, {'memory/docker/x/memory.limit_in_bytes': '400000000'}, 400),
        (V1, {'memory/memory.limit_in_bytes': '100000000'}, 100),
    ],
)
def test_least_memory_limit_around_this_process_holds(cgroups, table, files, megabytes):
    assert memory_limit(**cgroups(table, files)) == megabytes


def test_without_limit_the_memory_of_the_machine_holds(cgroups):
    machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e6
    nothing = {'memory.max': 'max', 'memory/memory.limit_in_bytes': '9223372036854771712'}
    assert memory_limit(**cgroups(V2 + V1, nothing)) == machine
    assert memory_limit(**cgroups('', {})) == machine


@pytest.mark.parametrize(
    ('table', 'files'),
    [
        (V2, {'slurm/job_7/cpu.max': '150000 100000\n'}),
        (V2, {'cpu.max': '50000 100000\n'}),
        (V1, {'cpu,cpuacct/docker/x/cpu.cfs_quota_us': '100000',
              'cpu,cpuacct/docker/x/cpu.cfs_period_us': '100000'}),
    ],
)  # fmt: skip
def test_quota_of_processors_is_kept_and_is_at_least_one(cgroups, table, files):
    assert processor_limit(**cgroups(table, files)) == 1


def test_without_quota_the_affinity_holds(cgroups):
    files = {'cpu.max': 'max 100000', 'cpu,cpuacct/docker/x/cpu.cfs_quota_us': '-1',
             'cpu,cpuacct/docker/x/cpu.cfs_period_us': '100000'}  # fmt: skip
    assert processor_limit(**cgroups(V2 + V1, files)) == len(os.sched_getaffinity(0))


def test_without_linux_the_processors_of_the_machine_count(cgroups, monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    monkeypatch.delattr(os, 'sched_getaffinity')
    nowhere = cgroups('', {})
    (nowhere['own']).unlink()
    assert processor_limit(**nowhere) == os.cpu_count()
    assert memory_limit(**nowhere) > 0
