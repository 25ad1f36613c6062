"""Make a digital study, run the app on it, and print truth against estimate (make demo)."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'demo'


def run(*command: str) -> None:
    """Run one command, say how long it took, stop at an error."""
    print(f'\n$ {" ".join(command)}', flush=True)
    start = time.monotonic()
    subprocess.run([sys.executable, '-m', *command], check=True)
    print(f'({time.monotonic() - start:.0f} s)', flush=True)


def main() -> int:
    """Run the demo; returns 0 if every estimate is within its tolerance."""
    start = time.monotonic()
    study, output = DEMO / 'study', DEMO / 'derivatives'
    shutil.rmtree(DEMO, ignore_errors=True)
    run('bids_app.phantom.cli', str(study), '--participants', '3', '--grid', 'coarse')
    run('bids_app', str(study), str(output), 'participant', '--sloppy')
    run('bids_app', str(study), str(output), 'group')
    print('\nTruth against estimate, medians over grey matter and regions of true change:\n')
    compare = [sys.executable, '-m', 'bids_app.phantom.compare']
    code = subprocess.run([*compare, str(study), str(output)], check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f'\n{time.monotonic() - start:.0f} s in all, {used.ru_utime + used.ru_stime:.0f} s of '
        f'computing, largest process {used.ru_maxrss / 1e6:.1f} GB\n'
        f'Reports: {output / "index.html"}, {output / "sub-01.html"}, {output / "group.html"}'
    )
    return code


if __name__ == '__main__':
    sys.exit(main())
