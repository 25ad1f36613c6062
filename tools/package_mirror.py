"""
Find the voxel of the other hemisphere for every voxel of the packaged template (run once).

The template is not symmetric. Its T1w brain is registered to its own mirror image (SyN, cross-
correlation); the partner of a voxel is the voxel at the mirrored place of where the registration
takes it. Forward and inverse warp say the same of a perfect registration; their mean is taken. The
displacement beyond the plain mirror is written in whole voxels (int8, i, j, k), 0 outside of the
brain, as data/templates/tpl-MNI152NLin6Asym_res-02_desc-mirror_displacement.nii.gz.

Usage
-----
``python tools/package_mirror.py [OUT]``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ants
import nibabel as nb
import numpy as np
from package_templates import AFFINE, OUT, PREFIX, REPEATABLE, to_ants, write
from scipy import ndimage


def displacement(warps: list[str]) -> np.ndarray:
    """Where the voxels of the template go by transforms, in voxels beside where they are."""
    fixed = to_ants(np.zeros(OUT_SHAPE), AFFINE)
    places = [
        ants.apply_transforms(fixed, to_ants(axis, AFFINE), warps).numpy()
        for axis in np.indices(OUT_SHAPE, dtype=float)
    ]
    return np.stack(places, axis=-1) - np.moveaxis(np.indices(OUT_SHAPE), 0, -1)


OUT_SHAPE = (91, 109, 91)


def main(out: str = str(OUT)) -> None:
    t1w, mask = (
        np.asarray(nb.load(OUT / f'{PREFIX}_{kind}.nii.gz').dataobj, float)
        for kind in ('T1w', 'desc-brain_mask')
    )
    brain = t1w * mask
    mirrored = brain[::-1]
    found = ants.registration(
        to_ants(brain, AFFINE),
        to_ants(mirrored, AFFINE),
        'SyN',
        syn_metric='CC',
        syn_sampling=2,
        reg_iterations=(40, 20, 8),
    )
    there = displacement(found['fwdtransforms'])
    # the inverse warp, seen in the mirror, is another measurement of the same displacement
    back = displacement(found['invtransforms'])[::-1] * [-1, 1, 1]
    inside = ndimage.binary_dilation(mask > 0, iterations=2)[..., None]
    both = np.where(inside, (there + back) / 2, 0)
    print(f'|there - back|: median {np.median(np.abs(there - back)[mask > 0]):.3f} voxels')
    print(
        f'|displacement|: median {np.median(np.linalg.norm(both, axis=-1)[mask > 0]):.2f} voxels'
    )
    path = Path(out) / f'{PREFIX}_desc-mirror_displacement.nii.gz'
    write(np.rint(both).astype(np.int8), path)
    print(path.stat().st_size)


if __name__ == '__main__':
    if any(os.environ.get(key) != value for key, value in REPEATABLE.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **REPEATABLE})
    main(*sys.argv[1:])
