"""
Reading the tree of ds004873 (38,760 entries): this app by its role map against a plain pybids.

Give the unpacked tree (``mkdir t && tar -C t -xf skeleton.tar.xz``). Every line is a process of
its own, so that wall time and peak memory hold the interpreter and all imports.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

DRY_RUN = (
    'import sys; from bids_app.cli.main import main; '
    'sys.exit(main([{root!r}, "/nonexistent/out", "participant", "--preset", "epp2025", '
    '"--dry-run", *{options!r}]))'
)
PYBIDS = (
    'import re; from bids.layout import BIDSLayout, BIDSLayoutIndexer; '
    'indexer = BIDSLayoutIndexer(validate=False, index_metadata={metadata}, '
    'ignore=[re.compile(r"/\\."), re.compile("sub-p026_task-mem_acq-epi_asl")]); '
    'BIDSLayout({root!r}, validate=False); '
    'BIDSLayout({root!r} + "/derivatives", validate=False, indexer=indexer)'
)
"""
pybids leaves derivatives/ out of the index of its parent, so it is indexed by itself; the one
sidecar without content stops it and is ignored.
"""


def measure(code: str) -> tuple[float, float, float]:
    """Wall time and processor time, s, and peak memory, MB, of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(errors)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', help='the unpacked tree')
    parser.add_argument('--peer', action='store_true', help='measure pybids too (minutes)')
    options = parser.parse_args()
    one = ['--participant-label', 'p026']
    rows = {
        'one participant, dry run': DRY_RUN.format(root=options.root, options=one),
        '75 participants, dry run': DRY_RUN.format(root=options.root, options=[]),
    }
    if options.peer:
        rows['pybids, names only'] = PYBIDS.format(root=options.root, metadata=False)
        rows['pybids, with sidecars'] = PYBIDS.format(root=options.root, metadata=True)
    for name, code in rows.items():
        wall, processor, memory = measure(code)
        print(f'{name:28s} {wall:7.1f} s wall {processor:7.1f} s processor {memory:6.0f} MB',
              flush=True)  # fmt: skip


if __name__ == '__main__':
    main()
