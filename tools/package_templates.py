"""
Make the files of bids_app/data/templates from their sources (run once; the result is committed).

Sources
-------
- nimare 0.22.1 (``pip download --no-deps nimare==0.22.1``): MNI152NLin6Asym T1w with skull and its
  brain mask, 2 mm; the mask only steers the registration.
- nilearn: MNI152NLin2009aSym T1w, brain mask, grey and white matter, 1 mm, inside its wheel.
- Schaefer 2018, 200 and 400 parcels x 7 networks in MNI152NLin6Asym, 2 mm, with the label table
  of the former.

All files are written on the LAS grid of the atlas, diag(-2, 2, 2), origin (90, -126, -72),
91 x 109 x 91. Brain mask and tissue maps are our own: nilearn's maps warped to the T1w (brain to
brain, SyN, cross-correlation), each voxel the mean of eight points 1 mm apart.

Usage
-----
``python tools/package_templates.py NIMARE_WHEEL ATLAS_DIR [OUT]``
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nb
import numpy as np

PREFIX = 'tpl-MNI152NLin6Asym_res-02'
ATLAS = 'atlas-Schaefer2018_seg-7n_scale-200_dseg'
FINE_ATLAS = 'atlas-Schaefer2018_seg-7n_scale-400_dseg'
WHEEL_FOLDER = 'nimare/resources/templates'
SHAPE = (91, 109, 91)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
OUT = Path(__file__).parents[1] / 'bids_app' / 'data' / 'templates'
REPEATABLE = {'ANTS_RANDOM_SEED': '42', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS': '1'}


def to_las(image: nb.Nifti1Image) -> np.ndarray:
    """Voxels of an image on the packaged grid; only axes are flipped, nothing is interpolated."""
    target = nb.orientations.axcodes2ornt('LAS')
    flip = nb.orientations.ornt_transform(nb.io_orientation(image.affine), target)
    flipped = image.as_reoriented(flip)
    if flipped.shape != SHAPE or not np.allclose(flipped.affine, AFFINE):
        sys.exit(f'unexpected grid: {flipped.shape} {flipped.affine.tolist()}')
    return np.asarray(flipped.dataobj)


def write(data: np.ndarray, path: Path, slope: float = 1.0) -> None:
    """Write integers with a scale, the same bytes each time."""
    image = nb.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units('mm')
    image.header.set_slope_inter(slope, 0.0)
    image.set_sform(AFFINE, code=4)
    image.set_qform(AFFINE, code=4)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def to_ants(data: np.ndarray, affine: np.ndarray) -> object:
    import ants

    flip = np.diag([-1.0, -1.0, 1.0])
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    return ants.from_numpy(
        np.asarray(data, 'float32'),
        origin=list(flip @ affine[:3, 3]),
        spacing=list(zooms),
        direction=flip @ affine[:3, :3] / zooms,
    )


def warp_tissue(t1w: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Brain mask, grey and white matter of nilearn on the packaged grid, in [0, 1]."""
    import ants
    from nilearn import datasets

    fixed = to_ants(t1w * mask, AFFINE)
    sources = {
        name: getattr(datasets, f'load_mni152_{name}')(resolution=1)
        for name in ('template', 'brain_mask', 'gm_template', 'wm_template')
    }
    images = {
        name: to_ants(image.get_fdata(dtype=np.float32), image.affine)
        for name, image in sources.items()
    }
    warp = ants.registration(
        fixed,
        ants.resample_image(images['template'], (2, 2, 2)),
        'SyN',
        syn_metric='CC',
        syn_sampling=2,
        reg_iterations=(40, 20, 10),
    )['fwdtransforms']
    fine_affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine_affine[:3, 3] = AFFINE[:3, 3] + AFFINE[:3, :3] @ np.full(3, -0.25)
    fine = to_ants(np.zeros([2 * n for n in SHAPE]), fine_affine)
    warped = {}
    for name in ('brain_mask', 'gm_template', 'wm_template'):
        points = ants.apply_transforms(fine, images[name], warp).numpy()
        blocks = points.reshape(SHAPE[0], 2, SHAPE[1], 2, SHAPE[2], 2)
        warped[name] = np.clip(blocks.mean(axis=(1, 3, 5)), 0, 1)
    return warped


def write_labels(atlas: Path, folder: Path) -> None:
    """Parcels on the packaged grid, in the smallest integers that hold them."""
    for kind, integers in ((ATLAS, np.uint8), (FINE_ATLAS, np.uint16)):
        labels = nb.load(atlas / f'{PREFIX}_{kind}.nii.gz')
        write(to_las(labels).astype(integers), folder / f'{PREFIX}_{kind}.nii.gz')


def main(wheel: str, atlas: str, out: str = str(OUT)) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(Path(atlas), folder)
    shutil.copyfile(Path(atlas) / f'{ATLAS}.tsv', folder / f'{PREFIX}_{ATLAS}.tsv')
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        source = {
            kind: nb.load(archive.extract(f'{WHEEL_FOLDER}/{PREFIX}_{kind}.nii.gz', scratch))
            for kind in ('T1w', 'desc-brain_mask')
        }
        t1w, mask = (to_las(image) for image in source.values())
    write(t1w.astype(np.int16), folder / f'{PREFIX}_T1w.nii.gz')

    warped = warp_tissue(t1w, mask)
    brain = warped['brain_mask'] > 0.5
    grey, white = (np.where(brain, warped[f'{name}_template'], 0) for name in ('gm', 'wm'))
    total = np.maximum(grey + white, 1)
    tissues = {'GM': grey / total, 'WM': white / total}
    tissues['CSF'] = np.where(brain, 1 - tissues['GM'] - tissues['WM'], 0)
    write(brain.astype(np.uint8), folder / f'{PREFIX}_desc-brain_mask.nii.gz')
    for name, value in tissues.items():
        counts = np.rint(np.clip(value, 0, 1) * 200).astype(np.uint8)
        write(counts, folder / f'{PREFIX}_label-{name}_probseg.nii.gz', slope=1 / 200)
    for path in sorted(folder.glob('tpl-*')):
        print(f'{path.stat().st_size:>9} {path.name}')


if __name__ == '__main__':
    if any(os.environ.get(key) != value for key, value in REPEATABLE.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **REPEATABLE})
    main(*sys.argv[1:])
