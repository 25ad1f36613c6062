"""Time of a replay with new constants, for maps of the size of the published study."""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np
from scipy.ndimage import map_coordinates

from bids_app.bids.output.names import output_path
from bids_app.bids.output.write import to_json, write_image
from bids_app.engines.templates import ATLAS, SPACE, packaged_template
from bids_app.images import save_affine
from bids_app.settings import Settings, to_toml

SHAPE, VOXEL = (112, 112, 35), (2.0, 2.0, 3.3)
"""Of the echo images of the study."""
TASKS = ('calc', 'mem', 'rest')
BASELINE = 'control'
VALUES = {
    'oxygen.b0': 3.0, 'oxygen.hct': 0.42, 'oxygen.sao2': 0.98,
    'perfusion.labeling_efficiency': 0.85, 'perfusion.background_suppression_factor': 0.748,
}  # fmt: skip
BAR = 30.0
"""s"""


class Study:
    """The output of a run of one participant, as far as a replay reads it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        size = np.multiply(SHAPE, VOXEL)
        self.affine = np.diag([*VOXEL, 1.0])
        self.affine[:3, 3] = np.array([0.0, -18.0, 8.0]) - size / 2
        self.mask = self.sample('desc-brain_mask', 0) > 0.5
        self.at = {'sub': '01', 'space': 'MESE'}

    def sample(self, kind: str, order: int) -> np.ndarray:
        """Bring a packaged image of the template to the grid: the participant is the template."""
        image = nb.load(packaged_template(kind))
        to_voxel = np.linalg.inv(image.affine) @ self.affine
        points = np.indices(SHAPE).reshape(3, -1)
        points = to_voxel[:3, :3] @ points + to_voxel[:3, 3:]
        return map_coordinates(image.get_fdata(), points, order=order).reshape(SHAPE)

    def write(self, key: str, data: np.ndarray, sidecar: dict | None = None, **more: str) -> None:
        """Write one derivative; data are in SI."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'x.nii'
            nb.save(nb.Nifti1Image(data, self.affine), path)
            write_image(path, output_dir=self.folder, key=key, entities={**self.at, **more},
                        sidecar=sidecar or {})  # fmt: skip

    def add(self, key: str, quantity: str, mean: float, error: float, **more: str) -> None:
        """Write value, variance and status of a map with noise."""
        shown = {name: value for name, value in more.items() if name == 'condition'}
        value = np.where(self.mask, mean + error * self.rng.standard_normal(SHAPE), np.nan)
        model = {'cbf': 'single-delay', 'cbv': 'dsc'}.get(key, 'exponential')
        about = {'Model': {'Name': model}, 'VoxelsPerNoiseSample': 1.5}
        self.write(key, value.astype(np.float32), about, **more)
        spread = np.where(self.mask, error**2, np.nan).astype(np.float32)
        self.write('variance', spread, quantity=quantity, **shown)
        status = np.where(self.mask, 0, 1).astype(np.uint8)
        self.write('status', status, quantity=quantity, **shown)

    def bold(self, contrast: str) -> None:
        """Write a BOLD change."""
        about = {'EchoTime': 0.03, 'VoxelsPerNoiseSample': 2.0}
        effect = np.where(self.mask, self.rng.standard_normal(SHAPE), np.nan).astype(np.float32)
        more = {'quantity': 'boldPct', 'contrast': contrast, 'task': 'all'}
        self.write('contrast', effect, about, statistic='effect', **more)
        variance = np.where(self.mask, 0.04, np.nan).astype(np.float32)
        self.write('contrast', variance, about, statistic='variance', **more)


def make_study(folder: Path, seed: int) -> None:
    """Write maps, transforms and records."""
    study = Study(folder, seed)
    study.write('brain_mask', study.mask.astype(np.uint8))
    for label, share in (('GM', 0.6), ('WM', 0.3), ('CSF', 0.1)):
        noise = 0.3 * study.rng.random(SHAPE)
        study.write('probseg', (study.mask * (share + noise)).astype(np.float32), label=label)
    study.write('atlas', study.sample(ATLAS, 0).astype(np.uint8), atlas='Schaefer2018')
    del study.at['space']
    study.write('reference', study.mask.astype(np.float32), scan='MESE')
    study.at['space'] = 'MESE'
    study.add('T2map', 'T2', 0.074, 0.001)
    study.add('cbv', 'cbv', 0.048, 0.003, variant='dsc')
    for condition in (BASELINE, *TASKS):
        study.add('T2starmap', 'T2star', 0.0545, 0.001, condition=condition)
        study.add('cbf', 'cbf', 45.0, 6.0, condition=condition)
    contrasts = [
        {'task': task, 'baseline': BASELINE, 'label': f'{task}MinusControl'} for task in TASKS
    ]
    for contrast in contrasts:
        study.bold(contrast['label'])
    for key, more in (('xfm_t1w_template', {'template': SPACE}), ('xfm_scan', {'scan': 'MESE'})):
        path = folder / output_path(key, sub='01', **more)
        save_affine(np.eye(4), path.with_suffix('.txt'))
    at = {'space': SPACE, 'res': '2'}
    for key, kind, more in (('brain_mask', 'desc-brain_mask', {}),
                            ('probseg', 'label-GM_probseg', {'label': 'GM'})):  # fmt: skip
        write_image(packaged_template(kind), output_dir=folder, key=key,
                    entities={'sub': '01', **at, **more}, sidecar={})  # fmt: skip
    unit = {
        'label': 'sub-01', 'session': None, 'conditions': [BASELINE, *TASKS],
        'baseline': BASELINE, 'contrasts': contrasts, 'space': 'MESE', 'notes': [],
        'maps': [
            {'map': name, 'condition': contrast['label'], 'state': 'made', 'files': [],
             'fallback': '', 'reason': ''}
            for contrast in contrasts for name in ('change_cmro2', 'concordance')
        ],
        'values': [
            {'name': name, 'value': value, 'unit': '', 'origin': 'benchmark', 'overruled': ''}
            for name, value in VALUES.items()
        ],
    }  # fmt: skip
    summary = {'participant': '01', 'version': '0', 'units': [unit]}
    logs = folder / output_path('run_summary', sub='01')
    logs.parent.mkdir(parents=True, exist_ok=True)
    logs.write_bytes(to_json(summary))
    (folder / output_path('settings', sub='01')).write_text(to_toml(Settings()), 'utf-8')


def main() -> None:
    """Make the study and time the program on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--nprocs', type=int, default=2)
    parser.add_argument('--seed', type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / 'first', Path(folder) / 'second'
        make_study(first, arguments.seed)
        changed = ['oxygen.hct=0.40', 'perfusion.background_suppression_factor=0.815']
        command = [sys.executable, '-m', 'bids_app', str(first), str(second), 'participant',
                   '--nprocs', str(arguments.nprocs), '--replay', *changed]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, check=False)
        seconds = time.perf_counter() - start
        made = sorted(path for path in second.rglob('*.nii.gz'))
    print(json.dumps({'code': done.returncode, 'seconds': round(seconds, 1), 'bar': BAR,
                      'voxels': int(np.prod(SHAPE)), 'maps': len(made)}))  # fmt: skip


if __name__ == '__main__':
    main()
