"""What the figures of one space share: the grid, the mask, the tissues, the anatomy behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np

from bids_app.images import Grid, both_sides, load_affine, load_surface
from bids_app.reports.derivatives import finer_in_slice, load_upright, sample, select
from bids_app.reports.drawing.cortex import View, look_at
from bids_app.reports.drawing.figures import Backdrop, Slices, choose_slices

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.reports.derivatives import Derivative

FINENESS = 1.5
"""mm; the anatomy behind coarse maps is drawn about this fine."""

TISSUES = {'GM': 'grey matter', 'WM': 'white matter'}
"""Label of the probability map and its name in the report."""

SCAN_OF_SPACE = {'BOLD': 'boldref'}
"""Where the name of a transform differs from that of the grid."""


@dataclass(eq=False)
class Scene:
    """The common part of the figures of one participant or session."""

    files: tuple[Derivative, ...]
    space: str
    conditions: tuple[str, ...] = ()
    read: dict[Path, tuple[FloatArray, Grid]] = field(default_factory=dict)
    """Anatomy that was read; the scenes of a participant's scans share it."""

    def rank(self, file: Derivative) -> int:
        """Place of a file in the order of the conditions; those shared come first."""
        condition = file.entities.get('condition')
        return self.conditions.index(condition) + 1 if condition in self.conditions else 0

    def maps(self, key: str, **entities: str | None) -> tuple[Derivative, ...]:
        """Files of a row on the quantification grid."""
        return select(self.files, key, space=self.space, res=None, **entities)

    @cached_property
    def grid(self) -> Grid | None:
        """The quantification grid, upright; None without any map."""
        references = select(self.files, 'reference', scan=self.space)
        maps = [file for file in self.files if file.entities.get('space') == self.space]
        images = [file for file in (*references, *maps) if file.path.name.endswith('.nii.gz')]
        return load_upright(images[0].path)[1] if images else None

    @cached_property
    def to_t1w(self) -> FloatArray:
        """From points of the quantification grid to points of the T1w image, RAS mm (4, 4)."""
        return self.transform()

    def transform(self, **entities: str | None) -> FloatArray:
        """From points of a scan of the space to points of the T1w image, RAS mm (4, 4)."""
        scan = SCAN_OF_SPACE.get(self.space, self.space)
        found = select(self.files, 'xfm_scan', scan=scan, **entities)
        if not found:
            return np.eye(4)
        ranks = {condition: rank for rank, condition in enumerate(self.conditions)}
        first = min(found, key=lambda file: (ranks.get(file.entities.get('task', ''), -1),
                                             file.entities.get('run', '')))  # fmt: skip
        return np.asarray(np.linalg.inv(load_affine(first.path)))

    @cached_property
    def t1w(self) -> tuple[FloatArray, Grid] | None:
        """T1w image, upright; 0 where it is not finite."""
        return self._read_once(select(self.files, 'preproc_t1w'))

    def anatomical(self, key: str, **entities: str | None) -> tuple[FloatArray, Grid] | None:
        """Mask or tissue on the grid of the T1w image, upright; 0 where it is not finite."""
        return self._read_once(select(self.files, key, space=None, **entities))

    def _read_once(self, found: tuple[Derivative, ...]) -> tuple[FloatArray, Grid] | None:
        """Read the first image, in single precision: they are large, and only looked at."""
        if not found:
            return None
        path = found[0].path
        if path not in self.read:
            data, grid = load_upright(path)
            self.read[path] = np.nan_to_num(data.astype(np.float32)), grid
        return self.read[path]

    @cached_property
    def tissues(self) -> dict[str, FloatArray]:
        """Name to tissue probability on the quantification grid; empty without a T1w image."""
        if self.grid is None:
            return {}
        found = {name: self._on_grid('probseg', label=label) for label, name in TISSUES.items()}
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def brain(self) -> BoolArray | None:
        """Brain mask on the quantification grid."""
        if self.grid is None:
            return None
        values = self._on_grid('brain_mask')
        return None if values is None or not (values > 0.5).any() else values > 0.5

    def _on_grid(self, key: str, **entities: str) -> FloatArray | None:
        """Return a mask or tissue map on the quantification grid: its own, else the T1w one."""
        own = self.maps(key, **entities)
        if own:
            return load_upright(own[0].path)[0]
        source = self.anatomical(key, **entities)
        if source is None or self.grid is None:
            return None
        return sample(*source, self.grid, self.to_t1w)

    @cached_property
    def slices(self) -> Slices | None:
        """The slices every figure of this grid shows."""
        if self.grid is None:
            return None
        mask = self.brain
        if mask is None:
            mask = np.zeros(self.grid.shape, bool)
            for file in self.files:
                if file.entities.get('space') == self.space and 'map' in file.path.name:
                    data = load_upright(file.path)[0]
                    mask |= np.isfinite(data) & (data != 0)
        mask = mask if mask.any() else np.ones(self.grid.shape, bool)
        return slices_of(mask, self.grid)

    @cached_property
    def backdrop(self) -> Backdrop | None:
        """Anatomy behind labels, finer than the quantification grid in the slice."""
        if self.grid is None:
            return None
        factor = max(1, round(float(self.grid.zooms[:2].min()) / FINENESS))
        finer = finer_in_slice(self.grid, factor)
        if self.t1w is not None:
            data, grid = self.t1w
            return Backdrop(sample(data, grid, finer, self.to_t1w), factor)
        return self._reference()

    def _reference(self) -> Backdrop | None:
        """Return the reference image of the grid as it is."""
        found = select(self.files, 'reference', scan=self.space)
        return Backdrop(load_upright(found[0].path)[0]) if found else None

    def outlined(
        self, key: str, factor: int, world: FloatArray, **entities: str
    ) -> FloatArray | None:
        """
        Return a mask or tissue map on the grid made finer in the slice, moved by `world`.

        0 where no figure of the scene shows it.
        """
        source = self.anatomical(key, **entities)
        if source is None or self.grid is None or self.slices is None:
            return None
        finer = finer_in_slice(self.grid, factor)
        found = np.zeros(finer.shape)
        x, y = (slice(factor * first, factor * last) for first, last in
                (self.slices.x, self.slices.y))  # fmt: skip
        for k in self.slices.indices:
            corner = np.eye(4)
            corner[:3, 3] = x.start, y.start, k
            shown = Grid((x.stop - x.start, y.stop - y.start, 1), finer.affine @ corner)
            found[x, y, k] = sample(*source, shown, world)[..., 0]
        return found


@dataclass(eq=False, kw_only=True)
class ScanScene(Scene):
    """The grid of one scan, as it was measured."""

    reference: Derivative

    @cached_property
    def grid(self) -> Grid | None:
        """Grid of the reference image, upright."""
        return load_upright(self.reference.path)[1]

    @cached_property
    def to_t1w(self) -> FloatArray:
        """From points of the scan to points of the T1w image, RAS mm (4, 4)."""
        at = {name: self.reference.entities.get(name) for name in ('task', 'run')}
        return self.transform(**at) if at['task'] else self.transform()

    def maps(self, key: str, **entities: str | None) -> tuple[Derivative, ...]:
        """Nothing is saved on the grid of a scan but its reference image."""
        return ()

    @cached_property
    def backdrop(self) -> Backdrop | None:
        """Reference image, each voxel repeated until outlines are smooth."""
        data, grid = load_upright(self.reference.path)
        factor = max(1, round(float(grid.zooms[:2].min()) / FINENESS))
        return Backdrop(np.repeat(np.repeat(data, factor, axis=0), factor, axis=1), factor)

    @property
    def movement(self) -> tuple[float, float]:
        """Shift of the brain (mm) and rotation (degrees) from the header to the T1w image."""
        mask = self.anatomical('brain_mask')
        if mask is None:
            return 0.0, 0.0
        brain, grid = mask
        middle = grid.affine @ [*np.argwhere(brain > 0.5).mean(axis=0), 1.0]
        shift = float(np.linalg.norm((np.linalg.inv(self.to_t1w) @ middle - middle)[:3]))
        cosine = (np.trace(self.to_t1w[:3, :3]) - 1) / 2
        return shift, float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


@dataclass(eq=False)
class TemplateScene(Scene):
    """The common part of the figures of the group, in template space."""

    @cached_property
    def cortex(self) -> dict[str, list[View]]:
        """Density to what is seen of the cortex, where there is a shape to look at."""
        found = {}
        for left in select(self.files, 'group_mesh', hemi='L'):
            meshes = tuple(load_surface(path) for path in both_sides(left.path))
            found[left.entities['den']] = look_at((meshes[0], meshes[1]))
        return found

    @cached_property
    def grid(self) -> Grid | None:
        """Grid of the group maps, upright; None without any."""
        images = [file for file in self.files if file.path.name.endswith('.nii.gz')]
        return load_upright(images[0].path)[1] if images else None

    def maps(self, key: str, **entities: str | None) -> tuple[Derivative, ...]:
        """Files of a row, all in template space."""
        return select(self.files, key, **entities)

    def _on_grid(self, key: str, **entities: str) -> FloatArray | None:
        """Return a mask or tissue map of the template on the grid of the group maps."""
        name = 'desc-brain_mask' if key == 'brain_mask' else f'label-{entities["label"]}_probseg'
        return self._template(name)

    @cached_property
    def backdrop(self) -> Backdrop | None:
        """T1w image of the packaged template, the mean grey matter in another one."""
        data = self._template('T1w')
        if data is None:
            found = select(self.files, 'group_grey_matter')
            data = np.nan_to_num(load_upright(found[0].path)[0]) if found else None
        return None if data is None else Backdrop(data)

    def _template(self, name: str) -> FloatArray | None:
        """Return a packaged image of the template on the grid of the group maps."""
        resource = (
            files('bids_app') / 'data' / 'templates' / f'tpl-{self.space}_res-02_{name}.nii.gz'
        )
        if self.grid is None or not resource.is_file():
            return None
        with as_file(resource) as path:
            data, grid = load_upright(path)
        return sample(np.nan_to_num(data), grid, self.grid)


def slices_of(mask: BoolArray, grid: Grid) -> Slices:
    """Choose the slices of a mask; heights are written where the slices are level."""
    k = np.arange(grid.shape[2])
    middle = np.array(grid.shape[:2]) / 2
    is_level = bool(np.allclose(grid.affine[2, :2], 0, atol=1e-3))
    heights = grid.affine[2, 0] * middle[0] + grid.affine[2, 1] * middle[1]
    heights = heights + grid.affine[2, 2] * k + grid.affine[2, 3]
    return choose_slices(mask, grid.zooms, heights=heights if is_level else ())
