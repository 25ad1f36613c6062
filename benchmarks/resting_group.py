"""Time and memory of a study at rest: participants x 8 quantities at 2 mm, two groups and age."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.bids.output.names import output_path
from bids_app.engines.templates import SPACE, packaged_template
from bids_app.images import load_data

LEVELS = {
    'T2map': ('T2', 0.075), 'T2starmap': ('T2star', 0.055), 'R2primemap': ('R2prime', 4.0),
    'cbf': ('cbf', 50.0), 'att': ('att', 1.0), 'cbv': ('cbv', 4.5), 'oef': ('oef', 0.4),
    'cmro2': ('cmro2', 130.0),
}  # fmt: skip
"""Row -> quantity and typical value, unit of the file."""

BASES = 12
"""Smooth noise fields that the maps of all participants are mixed from."""


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nb.Nifti1Image(data.astype(np.float32), affine)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1))
    path.with_name(path.name.replace('.nii.gz', '.json')).write_text('{}')


def make_study(out: Path, raw: Path, n_participants: int) -> None:
    """Write maps of many participants from a few noise fields; variance maps are one file each."""
    rng = np.random.default_rng(0)
    affine = nb.load(packaged_template('desc-brain_mask')).affine
    brain = load_data(packaged_template('desc-brain_mask')) > 0
    grey = load_data(packaged_template('label-GM_probseg'))
    noise = [gaussian_filter(rng.standard_normal(brain.shape), 1.5)[brain] for _ in range(BASES)]
    fields = np.stack([one / one.std() for one in noise])
    lines = ['participant_id\tgroup\tage']
    (out / 'logs').mkdir(parents=True)
    for number in range(n_participants):
        sub = f'{number + 1:03d}'
        lines.append(f'sub-{sub}\t{"AB"[number % 2]}\t{rng.uniform(20, 80):.1f}')
        summary = {'participant': sub, 'units': [],
                   'verdict': {'state': 'complete', 'exit_code': 0, 'reasons': []}}  # fmt: skip
        (out / 'logs' / f'sub-{sub}_run_summary.json').write_text(json.dumps(summary))
        at = {'sub': sub, 'space': SPACE, 'res': '2'}
        place(
            out / output_path('probseg', label='GM', **at), lambda path: write(path, grey, affine)
        )
        for key, (quantity, level) in LEVELS.items():
            condition = None if key in ('T2map', 'cbv') else 'rest'
            data = np.full(brain.shape, np.nan)
            mixed = rng.normal(size=BASES) @ fields / np.sqrt(BASES)
            data[brain] = level * (1 + 0.05 * rng.normal() + 0.15 * mixed)
            variant = {'variant': 'dsc'} if key == 'cbv' else {}
            write(out / output_path(key, condition=condition, **variant, **at), data, affine)
            data[brain] = (0.1 * level) ** 2
            name = output_path('variance', quantity=quantity, condition=condition, **at)
            place(out / name, lambda path, data=data: write(path, data, affine))
    raw.mkdir()
    (raw / 'participants.tsv').write_text('\n'.join(lines) + '\n')


def place(path: Path, make) -> None:
    """Make a file for the first participant, and link it for the others."""
    first = path.parents[2] / str(path.relative_to(path.parents[2])).replace(
        path.name.partition('_')[0], 'sub-001'
    )
    if path == first:
        make(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(first, path)
    about = path.with_name(path.name.replace('.nii.gz', '.json'))
    about.write_text('{}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--participants', type=int, default=60)
    parser.add_argument('--keep', type=Path, help='folder of the study; default a temporary one')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        out, raw = root / 'out', root / 'raw'
        if not out.exists():
            make_study(out, raw, options.participants)
        started = time.monotonic()
        command = [sys.executable, '-m', 'bids_app', str(raw), str(out), 'group',
                   '--model', '~ group + age', '--nprocs', '1']  # fmt: skip
        code = subprocess.call(command, env={**os.environ, 'OMP_NUM_THREADS': '1'})
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(json.dumps({
            'participants': options.participants, 'exit': code,
            'seconds': round(time.monotonic() - started, 1),
            'cpu_seconds': round(used.ru_utime + used.ru_stime, 1),
            'gigabytes': round(used.ru_maxrss / 1e6, 2),
        }))  # fmt: skip


if __name__ == '__main__':
    main()
