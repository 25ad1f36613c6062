"""
Maps that other software made, as input of the group: `-d maps=PATH` and an input map.

Condition maps become changes by subtraction; of a preprocessed BOLD series the published change of
block medians is taken. Maps on the grid of the template are read where they are, all others are
moved to it in one interpolation, through every transform on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.input.conditions import Labels, make_plan, normalise
from bids_app.bids.input.external_maps import (
    QUANTITIES,
    MapFile,
    MapListing,
    SpaceStep,
    list_maps,
    route,
)
from bids_app.bids.input.files import read_table
from bids_app.bids.input.input_map import RoleMap, choose_role_map, list_roles
from bids_app.bids.input.metadata.bold import join_trials
from bids_app.bids.input.query import assign_roles
from bids_app.bids.scans import Contrast, Event
from bids_app.engines.templates import packaged_template
from bids_app.errors import AppError, InputDataError, MissingInputError, SettingsError
from bids_app.group.inputs import BASELINES, GroupInputs, MapSet, MapSource
from bids_app.images import (
    Grid,
    check_same_grid,
    grid_of,
    load_affine,
    load_data,
    open_image,
    save_image,
)
from bids_app.models.numerics.resampling import sample_linear, world_of_flirt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.bids.input.conditions import Plan
    from bids_app.settings import RunSettings, Settings

SERIES_BLOCK = 20_000
"""Voxels of a BOLD series that are worked on at a time."""


def list_shared_maps(run: RunSettings, settings: Settings) -> tuple[RoleMap, MapListing]:
    """
    Find the maps of ``-d maps=PATH`` by the input map of the run.

    Raises
    ------
    SettingsError
        If no input map describes the folder.
    """
    root = run.derivatives['maps']
    role_map = choose_role_map(run.input_map, settings.preset, root)
    if role_map is None:
        msg = (
            f'--derivatives maps={root} needs --input-map FILE that says which file is which map '
            '(docs/reference/input-maps.md); that of ds004873 is chosen by --input-map ds004873'
        )
        raise SettingsError(msg)
    return role_map, list_maps(role_map, root, run.participants)


def from_maps(
    role_map: RoleMap, listing: MapListing, settings: Settings, folder: Path
) -> tuple[GroupInputs, tuple[str, ...]]:
    """
    Turn shared maps into what the group reads.

    Without random variances, except that of BOLD series, to which the ``events`` of the input map
    belong. Maps that are moved or computed go into `folder`; those that cannot be used are named,
    with the reason.
    """
    events = _events(role_map, listing)
    conditions = {file.condition for file in listing.maps if file.condition}
    stated = {normalise(one) for file in listing.maps if file.pattern.contrast
              for one in file.pattern.contrast.split('-')}  # fmt: skip
    types = {kind for rows in events.values() for _, _, kind in rows}
    labels = Labels(quantitative=frozenset(conditions | stated), trial_types=frozenset(types))
    plan = make_plan(labels, baseline=settings.baseline, contrasts=settings.contrasts)
    reader = _Reader(listing=listing, folder=folder, events=events, plan=plan,
                     window_start=settings.bold.window_start)  # fmt: skip
    changes: dict[tuple[str, Contrast], dict[str, tuple[MapSource, ...]]] = {}
    tasks: dict[tuple[str, Contrast], set[str]] = {}
    baselines: dict[tuple[str, str | None], dict[str, tuple[MapSource, ...]]] = {}
    for participant in listing.participants:
        own = [file for file in listing.maps if file.participant == participant]
        for quantity, contrast, source, task in reader.changes(own):
            changes.setdefault((quantity, contrast), {})[participant] = (source,)
            tasks.setdefault((quantity, contrast), set()).add(task or 'all')
        for quantity, condition, source in reader.baselines(own):
            baselines.setdefault((quantity, condition), {})[participant] = (source,)
    order = [(quantity, contrast) for contrast in plan.contrasts for quantity in QUANTITIES]
    return GroupInputs(
        participants=listing.participants,
        changes=tuple(
            MapSet(
                quantity=quantity,
                contrast=contrast.label,
                sources=changes[quantity, contrast],
                task=min(tasks[quantity, contrast]),
                about={'Task': contrast.task, 'Baseline': contrast.baseline},
            )
            for quantity, contrast in order
            if (quantity, contrast) in changes
        ),
        baselines=tuple(
            MapSet(quantity=quantity, condition=condition, sources=sources)
            for (quantity, condition), sources in sorted(baselines.items(), key=str)
        ),
    ), tuple(reader.sentences)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Brings the maps of one participant after the other to the template."""

    listing: MapListing
    folder: Path
    events: dict[tuple[str, str], list[tuple[float, float, str]]]
    plan: Plan
    window_start: float
    sentences: dict[str, None] = field(default_factory=dict)
    placed: dict[Path, Path | None] = field(default_factory=dict)

    def changes(
        self, files: Sequence[MapFile]
    ) -> Iterable[tuple[str, Contrast, MapSource, str | None]]:
        """Give every change of a participant."""
        by_condition = {(file.pattern.quantity, file.condition): file for file in files}
        for file in files:
            if file.pattern.series:
                yield from self._of_series(file)
            elif file.pattern.contrast:
                task, baseline = map(normalise, file.pattern.contrast.split('-'))
                contrast = Contrast(task=task, baseline=baseline)
                if contrast in self.plan.contrasts and (source := self._source(file)):
                    yield file.pattern.quantity, contrast, source, file.task
        for quantity in QUANTITIES:
            for contrast in self.plan.contrasts:
                one = by_condition.get((quantity, contrast.task))
                other = by_condition.get((quantity, contrast.baseline))
                if one and other and (source := self._source(one, other)):
                    yield quantity, contrast, source, None

    def baselines(self, files: Sequence[MapFile]) -> Iterable[tuple[str, str | None, MapSource]]:
        """Give the maps of the baseline condition, or of none."""
        for file in files:
            shown = file.condition in {None, self.plan.baseline}
            is_map = not (file.pattern.series or file.pattern.contrast)
            if shown and is_map and file.pattern.quantity in BASELINES:
                source = self._source(file)
                if source is not None:
                    yield file.pattern.quantity, file.condition, source

    def _source(self, file: MapFile, minus: MapFile | None = None) -> MapSource | None:
        """Make a source of one map, or of the difference of two with their own factors."""
        value, other = self._place(file), self._place(minus) if minus else None
        if value is None or (minus is not None and other is None):
            return None
        if minus is not None and other is not None and file.pattern.factor != minus.pattern.factor:
            return self._attempt(file, lambda: self._difference(file, minus, value, other))
        origins = (file.path, minus.path) if minus else (file.path,)
        return MapSource(value=value, minus=other, factor=file.pattern.factor, made_from=origins)

    def _difference(self, file: MapFile, minus: MapFile, value: Path, other: Path) -> MapSource:
        """Subtract maps whose units differ."""
        grid = check_same_grid([value, other])
        data = load_data(value) * file.pattern.factor - load_data(other) * minus.pattern.factor
        name = f'{file.participant}_{file.pattern.quantity}_{file.condition}_{minus.condition}'
        out = self.folder / f'{name}.nii'
        save_image(data.astype(np.float32), grid, out)
        return MapSource(value=out, made_from=(file.path, minus.path))

    def _attempt(self, file: MapFile, make: Any) -> Any:
        """Call; an error of the data becomes a sentence."""
        try:
            return make()
        except AppError as error:
            self.sentences[f'sub-{file.participant}: {file.path.name} is not used: {error}'] = None
            return None

    def _place(self, file: MapFile) -> Path | None:
        """Give a map on the grid of the template."""
        if file.path not in self.placed:
            self.placed[file.path] = self._attempt(file, lambda: self._moved(file))
        return self.placed[file.path]

    def _moved(self, file: MapFile) -> Path:
        """Move a map through all transforms in one interpolation."""
        steps = route(self.listing.steps, file.pattern.space)
        own = grid_of(file.path)
        if not steps:
            return file.path
        template = grid_of(packaged_template('desc-brain_mask'))
        points: FloatArray = _voxel_centres(template)
        for step in reversed(steps):
            points = self._pulled_back(step, points, file, own)
        inverse = np.linalg.inv(own.affine)
        coordinates = points @ inverse[:3, :3].T + inverse[:3, 3]
        moved = sample_linear(load_data(file.path), coordinates)
        out = self.folder / f'moved_{len(self.placed)}_{file.participant}.nii'
        save_image(moved.astype(np.float32), template, out)
        return out

    def _pulled_back(
        self, step: SpaceStep, points: FloatArray, file: MapFile, own: Grid
    ) -> FloatArray:
        """Bring points of the space a step leads to into the space it leaves, RAS mm."""
        path = self._find(step.transform, file)
        if path.suffix == '.h5':
            from bids_app.engines.ants import template_coordinates

            reference = packaged_template('desc-brain_mask')
            out = self.folder / f'points_{file.participant}_{step.name}.nii'
            if not out.is_file():
                template_coordinates(path, reference, out)
            return load_data(out)
        if path.suffix == '.txt':
            matrix = load_affine(path)
        else:
            target = grid_of(self._find(str(step.target), file))
            forward = world_of_flirt(_matrix(path), own.shape, own.affine,
                                     target.shape, target.affine)  # fmt: skip
            matrix = np.asarray(np.linalg.inv(forward), float)
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def _find(self, written: str, file: MapFile) -> Path:
        """Find a file that belongs to a participant's map."""
        path = self.listing.find(written, file.participant)
        if path is None:
            msg = f'nothing matches {written}, which its space needs'
            raise MissingInputError(msg)
        return path

    def _of_series(self, file: MapFile) -> Iterable[tuple[str, Contrast, MapSource, str | None]]:
        """Give the changes of block medians of a BOLD series."""
        made = self._attempt(file, lambda: self._series_changes(file)) or {}
        for contrast, (value, variance) in made.items():
            source = MapSource(value=value, variance=variance, made_from=(file.path,))
            yield file.pattern.quantity, contrast, source, file.task

    def _series_changes(self, file: MapFile) -> dict[Contrast, tuple[Path, Path]]:
        """Compute them block by block of voxels."""
        from bids_app.engines.glm import median_change

        rows = self.events.get((file.participant, normalise(file.task or '')))
        if rows is None:
            msg = 'no events belong to it; describe them by [[file]] role = "events"'
            raise InputDataError(msg)
        mask_path = packaged_template('desc-brain_mask')
        mask, grid = load_data(mask_path) > 0, grid_of(mask_path)
        if not grid_of(file.path).matches(grid):
            msg = 'a BOLD series must be on the grid of the template'
            raise InputDataError(msg)
        series, time = _read_series(file.path, mask)
        time = file.pattern.repetition_time or time
        listed = {kind for _, _, kind in rows}
        baseline = str(self.plan.baseline)
        wanted = [
            one
            for one in self.plan.contrasts
            if one.task in listed and (one.baseline in listed or one.baseline == baseline)
        ]
        pairs = [(one.task, one.baseline) for one in wanted]
        results: list[list[Any]] = [[] for _ in wanted]
        for start in range(0, series.shape[1], SERIES_BLOCK) if wanted else ():
            block = series[:, start : start + SERIES_BLOCK].T
            changes, _ = median_change(block, repetition_time=time, events=rows,
                                       baseline=baseline, contrasts=pairs,
                                       window_start=self.window_start)  # fmt: skip
            for parts, change in zip(results, changes.values(), strict=True):
                parts.append((change.value, change.variance))
        made = {}
        for contrast, parts in zip(wanted, results, strict=True):
            images = []
            for what, values in zip(('value', 'variance'), zip(*parts, strict=True), strict=True):
                data = np.full(mask.shape, np.nan, np.float32)
                data[mask] = np.concatenate(values)
                out = self.folder / f'bold_{file.participant}_{contrast.label}_{what}.nii'
                save_image(data, grid, out)
                images.append(out)
            made[contrast] = (images[0], images[1])
        return made


def _events(
    role_map: RoleMap, listing: MapListing
) -> dict[tuple[str, str], list[tuple[float, float, str]]]:
    """Read the events that the input map finds: (participant, task) -> onset, duration, type."""
    if not role_map.patterns:
        return {}
    events = {}
    for participant, found in list_roles(role_map, listing.root).found.items():
        for item in assign_roles(found)['events']:
            try:
                rows = read_table(item.path, ('onset', 'duration', 'trial_type'))
                trials = [
                    Event(
                        onset=float(row['onset']),
                        duration=float(row['duration']),
                        trial_type=normalise(row['trial_type']),
                    )
                    for row in rows
                ]
                key = participant, normalise(item.get('task') or '')
                events[key] = [
                    (block.onset, block.duration, block.trial_type)
                    for block in join_trials(sorted(trials, key=lambda trial: trial.onset))
                ]
            except (AppError, ValueError):  # said when a series asks for them
                continue
    return events


def _voxel_centres(grid: Grid) -> FloatArray:
    """Positions of the voxels, (X, Y, Z, 3), RAS mm."""
    indices = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    return np.asarray(indices @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def _matrix(path: Path) -> FloatArray:
    """Read the text of a FLIRT matrix."""
    try:
        matrix = np.array(path.read_text('utf-8').split(), float)
    except (OSError, ValueError) as error:
        msg = f'{path.name} cannot be read as a FLIRT matrix ({error})'
        raise InputDataError(msg) from error
    if matrix.size != 16:
        msg = f'{path.name} should hold 4 x 4 numbers, it holds {matrix.size}'
        raise InputDataError(msg)
    return matrix.reshape(4, 4)


def _read_series(path: Path, mask: BoolArray) -> tuple[FloatArray, float]:
    """Read the voxels of a mask volume by volume, (T, V), and the time between volumes, s."""
    from nibabel.openers import Opener

    image = open_image(path)
    if len(image.shape) != 4:
        msg = f'a series has four axes, its shape is {image.shape}'
        raise InputDataError(msg)
    kind, proxy = image.get_data_dtype(), image.dataobj
    size = int(np.prod(mask.shape)) * kind.itemsize
    series = np.empty((image.shape[3], int(mask.sum())), np.float32)
    with Opener(str(path), 'rb') as stream:
        stream.seek(proxy.offset)
        for volume in range(image.shape[3]):
            content = stream.read(size)
            if len(content) < size:
                msg = f'it ends in volume {volume + 1} of {image.shape[3]}; is it complete?'
                raise MissingInputError(msg)
            data = np.frombuffer(content, kind).reshape(mask.shape, order='F')[mask]
            series[volume] = data * proxy.slope + proxy.inter
    return series, float(image.header.get_zooms()[3])
