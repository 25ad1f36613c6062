"""
Movement and normalisation against the truth of the coarse phantom.

python benchmarks/anatomy.py motion      movement within a BOLD series of 400 volumes
python benchmarks/anatomy.py template    brain mask, deformation to the template quick and careful
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_app.engines.isolated import run_isolated
from bids_app.engines.masks import mask_from_mean
from bids_app.images import Grid, load_data, save_image
from bids_app.models.motion import estimate_rigid_motion, mask_centre, motion_matrices
from bids_app.phantom import acquisition, measurement
from bids_app.phantom.anatomy import _deformed
from bids_app.phantom.participant import effects_of, make_participant
from bids_app.phantom.study import Study, _anatomy

STUDY = Study(root=Path('none'), n_participants=1, seed=5, grid='coarse')
PROTOCOL = acquisition.protocol('coarse')


def head() -> acquisition.Subject:
    """Make the participant."""
    participant = make_participant(STUDY.stream('01', 'blood'), '01')
    return acquisition.Subject(participant, _anatomy(STUDY, '01', PROTOCOL))


def displacements(motion, centre, points):
    """Where movements (T, 6) bring points (V, 3), relative to them, (T, V, 3)."""
    matrices = motion_matrices(motion, centre)
    moved = np.einsum('tij,vj->tvi', matrices[:, :3, :3], points) + matrices[:, None, :3, 3]
    return moved - points


def measure_motion() -> None:
    """Print the error of the movement, with drift and task in the series."""
    scan, effects = PROTOCOL.bold, [effects_of(c, STUDY.conditions) for c in STUDY.conditions]
    states = acquisition.steady_states(head(), scan, np.eye(4), tuple(effects))
    rng = STUDY.stream('01', 'BOLD')
    true = measurement.motion_course(scan, rng)
    task = (scan.times // 30 % 2)[np.newaxis]
    series = measurement.measure_bold(states, task, true, scan, rng)
    true[:, 3:] = np.deg2rad(true[:, 3:])
    affine = scan.geometry.affine
    brain = mask_from_mean(series, affine)
    mask = ndimage.binary_dilation(brain, iterations=2)
    start = time.perf_counter()
    found = estimate_rigid_motion(series, mask, affine)
    seconds = time.perf_counter() - start
    points = np.argwhere(brain)[::37] @ affine[:3, :3].T + affine[:3, 3]
    truth = displacements(true, np.array(scan.geometry.centre), points)
    error = displacements(found, mask_centre(mask, affine), points) - truth
    error, truth = (part - part.mean(axis=0) for part in (error, truth))
    size, left = (np.sqrt((part**2).sum(axis=-1).mean()) for part in (truth, error))
    print(f'{len(found)} volumes {series.shape[:3]}: movement {size:.3f} mm, '
          f'error {left:.3f} mm (root mean square), {seconds:.1f} s')  # fmt: skip


def measure_template() -> None:
    """Print the Dice of the brain mask and the error of the deformation."""
    geometry = PROTOCOL.t1w
    image, brain = acquisition.structural(head(), geometry)
    stored = measurement.measure_structural(image, geometry, STUDY.stream('01', 'T1w'))
    low = np.diag([*np.abs(np.diag(geometry.affine)[:3]), 1.0])
    corners = geometry.affine @ np.array([[0, 0, 0, 1], [*(np.array(geometry.shape) - 1), 1]]).T
    low[:3, 3] = corners[:3].min(axis=1)
    true = _deformed(STUDY.stream('01', 'anatomy'), geometry.shape, low)
    true = np.flip(true, [i for i in range(3) if geometry.affine[i, i] < 0])
    grid = Grid(geometry.shape, geometry.affine)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        t1w = save_image(stored.astype(np.float32), grid, work / 't1w.nii')
        corrected, mask = work / 'corrected.nii', work / 'mask.nii'
        run_isolated('extract_brain', cwd=work, t1w=t1w, out_mask=mask, out_corrected=corrected)
        found = load_data(mask) > 0.5
        dice = 2 * (found & brain).sum() / (found.sum() + brain.sum())
        print(f'brain mask: Dice {dice:.3f}')
        for sloppy in (True, False):
            start = time.perf_counter()
            ends = {'out_forward': work / 'to.h5', 'out_inverse': work / 'from.h5'}
            run_isolated(
                'normalise_to_template', cwd=work, t1w=corrected, mask=mask, sloppy=sloppy, **ends
            )
            seconds = time.perf_counter() - start
            out = work / 'position.nii'
            run_isolated(
                'template_coordinates', cwd=work, transform=work / 'from.h5', template=t1w, out=out
            )
            error = np.linalg.norm(load_data(out) - true, axis=-1)[found]
            name = 'sloppy' if sloppy else 'careful'
            print(f'{name}: mean {error.mean():.2f} mm, 95th percentile '
                  f'{np.percentile(error, 95):.2f} mm, {seconds:.0f} s')  # fmt: skip


if __name__ == '__main__':
    parts = {'motion': measure_motion, 'template': measure_template}
    for part in sys.argv[1:] or parts:
        parts[part]()
