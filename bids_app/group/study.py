"""What every analysis of the group shares: inputs, mask, stacks on disk, and the writer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.names import row, scale_of, source_uri
from bids_app.bids.output.write import write_image, write_surface, write_table
from bids_app.engines.templates import ATLAS, RESOLUTION, SPACE, packaged_template
from bids_app.errors import AppError, SelectionError
from bids_app.group.design import Design
from bids_app.group.inputs import sidecar_of
from bids_app.group.stream import Stack, on_grid, read_source, stack_maps
from bids_app.images import Grid, grid_of, load_data, save_image, save_surface_map
from bids_app.settings import setting_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.bids.input.surfaces import StandardMesh
    from bids_app.group.inputs import GroupInputs, MapSet
    from bids_app.settings import RunSettings, Settings


@dataclass(slots=True, kw_only=True)
class Study:
    """
    A group on its way through the analyses.

    Parameters
    ----------
    run : RunSettings
        Where the output is.
    settings : Settings
        Of the group level.
    inputs : GroupInputs
        What there is.
    mask : (X, Y, Z) ndarray of bool
        Grey matter of the group.
    grid : Grid
        Of the template.
    space : str
        Name of the template.
    mesh : StandardMesh or None
        Of a group on the cortex, whose voxels are vertices: (N, 2, 1), left and right.
    folder : Path
        For files on their way.
    design : Design
        Columns over participants.
    absences, defects : dict of str to None
        Sentences for the verdict, in order, each once.
    """

    run: RunSettings
    settings: Settings
    inputs: GroupInputs
    mask: BoolArray
    grid: Grid
    folder: Path
    space: str = SPACE
    mesh: StandardMesh | None = None
    design: Design = field(default_factory=Design)
    absences: dict[str, None] = field(default_factory=dict)
    defects: dict[str, None] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)
    pls_rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Contrast -> rows of its table of latent variables."""
    region_means: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Quantity -> participant -> its table of regions."""

    @property
    def n_voxels(self) -> int:
        """Voxels of the mask."""
        return int(self.mask.sum())

    @property
    def place(self) -> dict[str, str | None]:
        """Space, and resolution or density, in the names of files."""
        if self.mesh is not None:
            return {'space': self.space, 'den': self.mesh.density}
        return {'space': self.space, 'res': RESOLUTION if self.space == SPACE else None}

    @property
    def networks(self) -> IntArray | None:
        """Parcel of the packaged atlas of every voxel of the mask; None in another template."""
        if self.settings.atlas == 'none' or self.space != SPACE:
            return None
        parcels: IntArray = load_data(packaged_template(ATLAS))[self.mask].astype(np.int64)
        return parcels

    def stack(self, maps: MapSet) -> Stack:
        """Read the maps of a quantity, once."""
        if maps.name not in self.stacks:
            stack = stack_maps(maps, self.mask, self.grid, self.folder)
            self.defects |= dict.fromkeys(stack.defects)
            self.stacks[maps.name] = stack
        return self.stacks[maps.name]

    def volume(self, values: Any, fill: float = np.nan) -> FloatArray:
        """Put the voxels of the mask into an image."""
        data = np.full(self.grid.shape, fill)
        data[self.mask] = values
        return data

    def save_image(self, values: Any, key: str, sidecar: dict[str, Any], **entities: Any) -> None:
        """Write voxels of the mask, or a whole image, in the unit of the output table."""
        if self.mesh is not None:
            self._save_cortex(values, sidecar, **entities)
            return
        is_label = row(key).dtype == 'uint8'
        at = {**self.place, **entities}
        is_whole = np.shape(values) == self.grid.shape
        data = values if is_whole else self.volume(values, 0 if is_label else np.nan)
        data = data / scale_of(key, **at)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            kind = np.uint8 if is_label else np.float32
            source = save_image(data.astype(kind), self.grid, Path(folder) / 'map.nii')
            write_image(
                Path(source),
                output_dir=self.run.output_dir,
                key=key,
                entities=at,
                sidecar=self._reference | sidecar,
            )

    def _save_cortex(self, values: Any, sidecar: dict[str, Any], **entities: Any) -> None:
        """Write vertices, one file per hemisphere, whatever the row of the image would be."""
        task = entities.pop('task', None)
        at = self.place | {'condition': task} | entities
        data = self.volume(values) / scale_of('group_surface', **at)
        for side, (letter, name) in enumerate((('L', 'left'), ('R', 'right'))):
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                path = save_surface_map(data[:, side, 0], Path(folder) / 'map.gii', side=name)
                write_surface(
                    Path(path),
                    output_dir=self.run.output_dir,
                    key='group_surface',
                    entities=at | {'hemi': letter},
                    sidecar=sidecar,
                )

    @property
    def _reference(self) -> dict[str, str]:
        """What the maps of another template say of its image; nothing of the packaged one."""
        paths = [path for maps in self.inputs.all_maps for path in maps.files]
        about = sidecar_of(paths[0]) if paths and self.space != SPACE else {}
        return {name: about[name] for name in ('SpatialReference',) if name in about}

    def save_table(self, rows: Any, key: str, sidecar: dict[str, Any], **entities: Any) -> None:
        """Write a table."""
        den = None if self.mesh is None else self.mesh.density
        at = {'space': self.space, 'den': den, **entities}
        write_table(rows, output_dir=self.run.output_dir, key=key, entities=at, sidecar=sidecar)

    def about(self, *maps: MapSet) -> dict[str, Any]:
        """Say in a sidecar who and which files are in a result, and by which settings."""
        members = [(one, name) for one in maps for name in self.stack(one).participants]
        files = [
            path
            for one, name in members
            for source in one.sources[name]
            for path in source.made_from or source.files
        ]
        contrasts = {one.contrast: dict(one.about) for one in maps}
        quantities = dict.fromkeys(one.quantity for one in maps)
        return {
            **({'Contrast': contrasts.popitem()[1]} if len(contrasts) == 1 else {}),
            'Participants': [f'sub-{name}' for name in sorted({name for _, name in members})],
            'Sources': self.uris(files),
            'Model': {'Quantity': ', '.join(quantities), 'Name': 'random_effects'},
            'ModelParameters': setting_parameters(self.settings, ('group', 'change')),
        }

    def uris(self, files: Iterable[Path]) -> list[str]:
        """BIDS URIs of files that the group was made from."""
        roots: dict[str, Any] = {
            'output_dir': self.run.output_dir,
            'derivatives': self.run.derivatives,
        }
        return [source_uri(path, **roots) for path in files]


def mean_grey_matter(
    inputs: GroupInputs, *, space: str = SPACE
) -> tuple[FloatArray, Grid, tuple[tuple[str, str], ...]]:
    """
    Average the grey matter of the participants, of which the mask of the group is made.

    On the grid of the template, whose own map serves where participants have none; beside it who
    could not be used, and why.

    Raises
    ------
    SelectionError
        If nobody has a map of grey matter in a template that is not packaged.
    """
    grid = _grid_of_template(inputs, space)
    everywhere = np.ones(grid.shape, bool)
    total, count, left_out = np.zeros(grid.shape), 0, []
    for participant in sorted(inputs.grey_matter):
        try:
            maps = [
                read_source(source, everywhere, grid)[0]
                for source in inputs.grey_matter[participant]
            ]
        except AppError as error:
            left_out.append((participant, str(error)))
            continue
        total += np.nan_to_num(np.mean(maps, axis=0)).reshape(grid.shape)
        count += 1
    if count == 0 and space != SPACE:
        msg = (
            f'no participant has a map of grey matter in {space} (label-GM_probseg), of which the '
            'mask of the group is made; run the participant level with a T1w image'
        )
        raise SelectionError(msg)
    if count == 0:
        total, count = on_grid(packaged_template('label-GM_probseg'), grid), 1
    return total / count, grid, tuple(left_out)


def _grid_of_template(inputs: GroupInputs, space: str) -> Grid:
    """Give the grid of the packaged template, or that of the first map in another one."""
    if space == SPACE or not inputs.grey_matter:
        return grid_of(packaged_template('desc-brain_mask'))
    return grid_of(inputs.grey_matter[min(inputs.grey_matter)][0].value)
