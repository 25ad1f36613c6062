"""Whether a scan lies where the anatomy says."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.engines.masks import mask_from_mean
from bids_app.errors import InputDataError
from bids_app.images import grid_of, load_affine, load_data, load_volume
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    File,
    Interface,
    TraitedSpec,
    image,
    read_mask,
    result,
    traits,
)
from bids_app.models.numerics.resampling import sample_linear, voxel_coordinates
from bids_app.models.preprocessing.coregistration import (
    AlignmentVerdict,
    judge_alignment,
    mask_overlap,
    mutual_information,
)

RIM = 2
"""Voxels around the brain that are compared too: its edge shows a shift best."""

TURN = 4.0
"""Of the small turns, degrees."""

SHIFT = 4.0
"""Of the small shifts at least, mm; they are those of a voxel where that is larger."""


class JudgeAlignment(Interface):
    """Compare a scan with the anatomy, in its place and moved a little."""

    class Inputs(BaseInterfaceInputSpec):
        reference = image('mean image of the scan', 'a.u.')
        mask = image('brain of the anatomy on the grid of the scan', '1')
        t1w = image('T1w image', 'a.u.')
        brain_mask = image('brain of the T1w image', '1')
        transform = image('rigid transform, T1w points to scan points (ITK)', '')
        scan = traits.Str(mandatory=True, desc='name of the scan', unit='')

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='one row of measures', unit='')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        names = ('reference', 'mask', 't1w', 'brain_mask', 'transform')
        measured = measure_alignment(**{name: getattr(self.inputs, name) for name in names})
        verdict = measured.verdict

        transform = load_affine(self.inputs.transform)
        angle = np.arccos(np.clip((np.trace(transform[:3, :3]) - 1) / 2, -1, 1))
        centre = grid.affine @ [*np.argwhere(mask).mean(axis=0), 1]
        shift = np.linalg.norm((np.linalg.inv(transform) @ centre - centre)[:3])
        row = {
            'scan': self.inputs.scan,
            'shift': round(float(shift), 2),
            'turn': round(float(np.rad2deg(angle)), 2),
            'overlap': round(measured.overlap, 3),
            'similarity': round(measured.similarity, 4),
            'similarity_moved': round(measured.moved, 4),
            'verdict': verdict.name,
            'reason': verdict.reason,
        }
        path = Path(runtime.cwd) / 'alignment.tsv'
        pd.DataFrame([row]).to_csv(path, sep='\t', index=False)
        self._results['table'] = str(path)
        return runtime


class PassAligned(Interface):
    """Hand the mask of a scan on; stop where its alignment failed."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain of the anatomy on the grid of the scan', '1')
        table = File(exists=True, mandatory=True, desc='verdict on the scan', unit='')

    class Outputs(TraitedSpec):
        mask = result('as it came in; there is none where the alignment failed', '1')

    def _run_interface(self, runtime):
        (row,) = pd.read_csv(self.inputs.table, sep='\t').to_dict('records')
        if row['verdict'] == 'failed':
            msg = (
                f'{row["scan"]}: the alignment to the T1w image failed: {row["reason"]}. '
                'Look at the scan and the T1w image: are they of one head, complete and with '
                'true headers? Nothing is made of this scan'
            )
            raise InputDataError(msg)
        self._results['mask'] = self.inputs.mask
        return runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAlignment:
    """What a verdict rests on."""

    verdict: AlignmentVerdict
    overlap: float
    similarity: float
    moved: float
    """The largest similarity after a small movement."""


def measure_alignment(*, reference, mask, t1w, brain_mask, transform):
    """Compare a scan with the anatomy where it lies, and after every small movement."""
    inside, grid = read_mask(mask)
    data = load_data(reference)
    overlap = mask_overlap(inside, mask_from_mean(data, grid.affine))

    source = grid_of(t1w)
    head = load_volume(t1w) * (load_data(brain_mask) > 0.5)
    width = np.sqrt(np.maximum(grid.zooms.mean() ** 2 - source.zooms**2, 0) / 12)
    head = ndimage.gaussian_filter(head, width / source.zooms)
    near = ndimage.binary_dilation(inside, iterations=RIM)
    to_t1w = np.linalg.inv(load_affine(transform))
    signal = np.nan_to_num(data[near])
    found = []
    for movement in (np.eye(4), *small_movements(grid, inside)):
        points = voxel_coordinates(grid.shape, grid.affine, source.affine, to_t1w @ movement)[near]
        seen = np.nan_to_num(sample_linear(head, points))
        found.append(mutual_information(seen, signal))
    here, *there = found
    return MeasuredAlignment(
        verdict=judge_alignment(overlap, here, there),
        overlap=overlap,
        similarity=here,
        moved=max(there),
    )


def small_movements(grid, mask):
    """Shifts along every axis, and turns about the world's through the brain."""
    centre = (grid.affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3]
    movements = []
    for axis, sign in product(range(3), (1, -1)):
        shift, turn = np.eye(4), np.eye(4)
        step = grid.affine[:3, axis]
        shift[:3, 3] = sign * step * max(SHIFT / np.linalg.norm(step), 1)
        vector = np.deg2rad(TURN) * sign * np.eye(3)[axis]
        turn[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
        turn[:3, 3] = centre - turn[:3, :3] @ centre
        movements += [shift, turn]
    return movements
