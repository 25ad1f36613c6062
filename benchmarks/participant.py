"""
One digital participant through the whole app: time and memory of every part, disk, limits.

``python benchmarks/participant.py --grid study`` takes a quarter of an hour, coarse 3 minutes.
Memory is the resident set of the app and its processes together, sampled 20 times a second.
"""

from __future__ import annotations

import argparse
import gzip
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

LIMITS = {'minutes': 15.0, 'memory': 6.0, 'work': 3.0}
"""Of a participant at study size on 2 cores: minutes, GB, GB."""

REPORTS = 60.0
"""Seconds in which the reports of a participant are made anew."""

PAGE = 4096
POLL = 0.05
DISK_POLL = 2.0


class Sampler(threading.Thread):
    """Watches the memory of a process tree and the size of its work directory."""

    def __init__(self, pid: int, work: Path) -> None:
        super().__init__(daemon=True)
        self.pid, self.work = pid, work
        self.samples: list[tuple[float, float]] = []
        self.disk = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        next_disk = 0.0
        while not self.done.wait(POLL):
            self.samples.append((time.time(), resident(self.pid)))
            if time.time() > next_disk:
                self.disk = max(self.disk, size_of(self.work))
                next_disk = time.time() + DISK_POLL

    def peak(self, start: float = 0.0, end: float = float('inf')) -> float:
        return max((gb for at, gb in self.samples if start <= at <= end), default=float('nan'))


def resident(pid: int) -> float:
    """Resident memory of a process and all below it, GB; pages that workers share count once."""
    parents, pages = {}, {}
    for path in Path('/proc').glob('[0-9]*'):
        try:
            number = int(path.name)
            parents[number] = int((path / 'stat').read_text().rpartition(')')[2].split()[1])
            resident_pages, shared = map(int, (path / 'statm').read_text().split()[1:3])
        except (OSError, ValueError):
            continue
        pages[number] = resident_pages if number == pid else resident_pages - shared
    tree, new = set(), {pid}
    while new:
        tree |= new
        new = {child for child, parent in parents.items() if parent in new} - tree
    return sum(pages.get(number, 0) for number in tree) * PAGE / 1e9


def size_of(folder: Path) -> float:
    """GB of the files below a folder."""
    total = 0
    for path in folder.rglob('*'):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total / 1e9


def steps(work: Path) -> list[tuple[str, float, float]]:
    """Part of the graph, start and end of every node that ran, from nipype's records."""
    found = []
    for path in sorted(work.rglob('result_*.pklz')):
        with gzip.open(path) as stream:
            runtime = pickle.load(stream).runtime
        for one in runtime if isinstance(runtime, list) else [runtime]:
            start, end = (
                datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
                for text in (one.startTime, one.endTime)
            )
            part = path.relative_to(work).parts
            found.append((part[2] if len(part) > 4 else 'derivatives and joins', start, end))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--grid', default='coarse', choices=('tiny', 'coarse', 'study'))
    parser.add_argument('--nprocs', default='2')
    parser.add_argument('--low-mem', action='store_true')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Make the participant, run the app on it, print the tables."""
    raw, out, work = folder / 'raw', folder / 'out', folder / 'work'
    phantom = [str(raw), '--grid', options.grid, '--participants', '1', '--seed', '1']
    subprocess.run([sys.executable, '-m', 'bids_app.phantom.cli', *phantom], check=True)
    command = [sys.executable, '-m', 'bids_app', raw, out, 'participant', '-w', work,
               '--nprocs', options.nprocs]  # fmt: skip
    if options.grid == 'tiny':  # no head to register
        anatomy = f'fmriprep={raw / "derivatives" / "fmriprep"}'
        command += ['-d', anatomy, '--registration', 'header']
    command += ['--low-mem'] if options.low_mem else []
    start = time.time()
    process = subprocess.Popen(list(map(str, command)))
    sampler = Sampler(process.pid, work)
    sampler.start()
    code = process.wait()
    seconds = time.time() - start
    sampler.done.set()
    sampler.join()
    if code != 0:
        sys.exit(f'the app ended with exit code {code}')
    report(options, sampler, steps(work), seconds)
    start = time.time()
    anew = [sys.executable, '-m', 'bids_app', raw, out, 'participant', '--reports-only']
    subprocess.run(list(map(str, anew)), check=True)
    anew_seconds = time.time() - start
    print(f'| reports anew, s | {anew_seconds:.1f} | {REPORTS:g} | {anew_seconds / REPORTS:.2f} |')
    print(f'\noutput {size_of(out) * 1e3:.0f} MB, raw data {size_of(raw) * 1e3:.0f} MB')


def report(
    options: argparse.Namespace,
    sampler: Sampler,
    found: list[tuple[str, float, float]],
    seconds: float,
) -> None:
    """Print time and memory by part, and the totals beside their limits."""
    parts = defaultdict(list)
    for part, start, end in found:
        parts[part].append((start, end))
    print(
        f'\nPhantom {options.grid}, {options.nprocs} processes{" --low-mem" * options.low_mem}\n'
    )
    print('| part of the graph | nodes | seconds | longest node, s | peak memory meanwhile, GB |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for part, spans in sorted(parts.items(), key=lambda item: -sum(e - s for s, e in item[1])):
        lengths = [end - start for start, end in spans]
        peak = max(sampler.peak(start, end + POLL) for start, end in spans)
        row = f'{len(spans)} | {sum(lengths):.1f} | {max(lengths):.1f} | {peak:.2f}'
        print(f'| {part} | {row} |')
    spent = sum(end - start for _, start, end in found)
    print(
        f'\nall nodes {spent:.0f} s of processes; the rest of the wall time is reading, waiting,'
    )
    print('reports and starting python\n')
    print('| whole participant | measured | limit at study size | ratio |')
    print('| --- | ---: | ---: | ---: |')
    totals = {'minutes': seconds / 60, 'memory': sampler.peak(), 'work': sampler.disk}
    names = {'minutes': 'time, min', 'memory': 'peak memory, GB', 'work': 'work directory, GB'}
    for key, value in totals.items():
        ratio = value / LIMITS[key]
        print(f'| {names[key]} | {value:.2f} | {LIMITS[key]:g} | {ratio:.2f} |')


if __name__ == '__main__':
    main()
