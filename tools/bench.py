"""
Run the timed benchmarks and keep what they print beside its limit in benchmarks/performance.json.

Usage
-----
``python tools/bench.py`` needs two idle cores; ``--quick`` leaves out what takes longest: the
participant of study size and the group. ``--tree FOLDER`` gives the unpacked
tree for indexing, which is left out without it. Rows that were not measured keep their last
values; ``make reference`` writes the page docs/reference/performance.md from the file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / 'benchmarks' / 'performance.json'
PARTICIPANT = 'participant.py --grid study --nprocs 2'
STEP = re.compile(r'^\| (\w[\w ]*) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$', re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table: where a number stands in what a script prints."""

    part: str
    what: str
    unit: str
    command: str
    """Script of benchmarks and its options."""
    pattern: str
    """Group 1 is what this app needed, group 2, if there, what the peer needed."""
    against: str
    """The peer or the limit."""
    limit: float | None = None
    """In the unit; None where the peer was measured in the same run."""
    slow: bool = False


LINES = (
    Line(part='whole participant', what='study size, 2 processes', unit='min', slow=True,
         command=PARTICIPANT, pattern=r'time, min \| ([\d.]+)', against='limit', limit=15),
    Line(part='whole participant', what='peak memory of all processes', unit='GB', slow=True,
         command=PARTICIPANT, pattern=r'memory, GB \| ([\d.]+)', against='limit', limit=6),
    Line(part='whole participant', what='work directory', unit='GB', slow=True,
         command=PARTICIPANT, pattern=r'directory, GB \| ([\d.]+)', against='limit', limit=3),
    Line(part='indexing', what='75 participants, 38,760 entries, processor time', unit='s',
         command='indexing.py {tree} --peer',
         pattern=r'75 participants.* ([\d.]+) s processor[\s\S]*sidecars.* ([\d.]+) s processor',
         against='pybids with sidecars'),
    Line(part='fits', what='T2*, 12 echoes, per voxel, one core', unit='us',
         command='fitting.py', pattern=r'per voxel ([\d.]+) us, curve_fit ([\d.]+) us',
         against='bounded curve_fit of scipy'),
    Line(part='fits', what='T2*, 112 x 112 x 35 voxels x 12 echoes, one core', unit='s',
         command='fitting.py', pattern=r'echoes: ([\d.]+) s of one core',
         against='limit', limit=3),
    Line(part='fits', what='perfusion, 64 x 64 x 24 voxels x 6 delays, one core', unit='s',
         command='perfusion.py --speed', pattern=r'with covariance: ([\d.]+) s',
         against='limit', limit=5),
    Line(part='fits', what='bolus, 112 x 112 x 35 voxels x 80 volumes, one thread', unit='s',
         command='blood_volume.py --speed', pattern=r'measured ([\d.]+) s \(deconv',
         against='limit', limit=20),
    Line(part='replay', what='new constants, study size, 208 maps, 2 processes', unit='s',
         command='replay.py', pattern=r'"seconds": ([\d.]+)', against='limit', limit=30),
    Line(part='GLM', what='64 x 64 x 40 voxels x 400 volumes, 3 contrasts', unit='s',
         command='bold.py --part speed', pattern=r"'wall_s': ([\d.]+)", against='limit', limit=60),
    Line(part='report', what='of the participant of study size, anew', unit='s', slow=True,
         command=PARTICIPANT, pattern=r'reports anew, s \| ([\d.]+)', against='limit', limit=60),
    Line(part='group', what='40 participants at 2 mm, 1,000 permutations', unit='s', slow=True,
         command='group.py --speed 40', pattern=r"'seconds': ([\d.]+)", against='limit',
         limit=600),
)  # fmt: skip


def run(command: str, tree: str | None) -> str:
    """Text that a benchmark prints; its errors end the run."""
    words = command.format(tree=tree).split()
    done = subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks' / words[0]), *words[1:]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f'{command}: exit code {done.returncode}\n{done.stderr[-2000:]}')
    return done.stdout


def read_line(line: Line, text: str) -> dict[str, object]:
    """Find the number of a line and its ratio to the peer or the limit."""
    found = re.search(line.pattern, text)
    if found is None:
        sys.exit(f'{line.command}: prints no "{line.pattern}" any more; mend tools/bench.py')
    measured = float(found[1])
    limit = line.limit if line.limit is not None else float(found[2])
    return {
        'part': line.part, 'what': line.what, 'unit': line.unit, 'measured': measured,
        'against': line.against, 'limit': limit, 'ratio': float(f'{measured / limit:.2g}'),
        'command': f'python benchmarks/{line.command.format(tree="TREE")}',
    }  # fmt: skip


def read_steps(text: str) -> list[dict[str, object]]:
    """Take the table of steps of a participant."""
    return [
        {'step': step, 'nodes': int(nodes), 'seconds': float(seconds), 'longest': float(longest),
         'memory': float(memory)}
        for step, nodes, seconds, longest, memory in STEP.findall(text)
    ]  # fmt: skip


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--quick', action='store_true', help='without participant and group')
    parser.add_argument('--tree', help='unpacked tree of ds004873 for indexing')
    options = parser.parse_args()
    table = json.loads(TABLE.read_text('utf-8'))
    rows = {(row['part'], row['what']): row for row in table['rows']}
    printed: dict[str, str] = {}
    for line in LINES:
        if (line.slow and options.quick) or ('{tree}' in line.command and not options.tree):
            continue
        if line.command not in printed:
            print(f'benchmarks/{line.command}', flush=True)
            printed[line.command] = run(line.command, options.tree)
        row = read_line(line, printed[line.command])
        rows[line.part, line.what] = row
        print(f'  {row["what"]}: {row["measured"]} {row["unit"]}, {row["ratio"]} of the '
              f'{row["against"]}', flush=True)  # fmt: skip
    table['rows'] = [rows[key] for line in LINES if (key := (line.part, line.what)) in rows]
    if PARTICIPANT in printed:
        table['note'] = ''
        table['steps'] = read_steps(printed[PARTICIPANT])
    TABLE.write_text(json.dumps(table, indent=1) + '\n', 'utf-8')


if __name__ == '__main__':
    main()
