"""Regions of interest of each participant in native space: lesions, masks, segmentations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.input.query import parse_name
from bids_app.bids.output.names import table
from bids_app.bids.output.write import write_table
from bids_app.errors import AppError, SettingsError
from bids_app.group.inputs import from_derivatives, sidecar_of
from bids_app.group.regions import region_estimate
from bids_app.group.stream import read_source
from bids_app.images import grid_of, load_affine, load_data
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.sensitivity import relative_error
from bids_app.reports.derivatives import list_derivatives, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bids_app._typing import FloatArray, IntArray
    from bids_app.group.inputs import MapSet
    from bids_app.images import Grid

LEVEL = 'roi'
"""Level of these regions in the tables of the group."""

STRUCTURAL = 'T1w'
"""Space of what was drawn on the structural image."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Roi:
    """
    A region of interest of a participant.

    Parameters
    ----------
    name : str
        From label-, desc- or the table of a segmentation.
    path : Path
        Image.
    index : int or None
        Label in a segmentation; None: everything above 0.
    """

    name: str
    path: Path
    index: int | None

    @property
    def space(self) -> str | None:
        """Space of the name of the file; None where it has none."""
        return parse_name(self.path).get('space')


def find_rois(folder: Path, participant: str) -> list[Roi]:
    """
    Find masks and segmentations of a participant in BIDS derivatives.

    ``sub-01/**/*_mask.nii.gz`` or ``*_dseg.nii.gz`` (with or without ``.tsv``), sorted by path.
    """
    rois: list[Roi] = []
    for path in sorted((folder / f'sub-{participant}').rglob('*.nii*')):
        stem = path.name.partition('.')[0]
        entities = parse_name(path)
        named = entities.get('label') or entities.get('desc')
        if stem.endswith('_mask'):
            rois.append(Roi(name=named or 'mask', path=path, index=None))
        elif stem.endswith('_dseg'):
            labels = path.with_name(f'{stem}.tsv')
            names: Mapping[int, str]
            if labels.is_file():
                lines = pd.read_csv(labels, sep='\t')
                names = dict(zip(lines['index'], lines['name'].map(str), strict=True))
            else:
                found = np.unique(load_data(path).astype(int))
                names = {int(one): f'{named or "label"}{one}' for one in found}
            rois += [Roi(name=name, path=path, index=int(one)) for one, name in names.items()
                     if one > 0]  # fmt: skip
    return rois


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiStudy:
    """
    Values of the regions of interest of all participants.

    Parameters
    ----------
    values : dict of str to (MapSet, dict)
        Name of a quantity to what it is, and participant to its table: level, index, name,
        network, effect, variance, n_voxels, coverage, in the unit of the output table.
    absences : tuple of str
        Who lacks what, as sentences.
    """

    values: dict[str, tuple[MapSet, dict[str, pd.DataFrame]]]
    absences: tuple[str, ...]


def save_rois(output_dir: Path, folder: Path, summaries: Iterable[Mapping[str, Any]]) -> RoiStudy:
    """
    Average every native map over the regions of interest, and write a table per participant.

    Neither template nor T1w image is needed; space and constants of a participant are those of its
    run summary.

    Raises
    ------
    SettingsError
        If the folder holds no region of any of the participants.
    """
    values: dict[str, tuple[MapSet, dict[str, pd.DataFrame]]] = {}
    absences: list[str] = []
    summaries = list(summaries)
    any_found = False
    for summary in summaries:
        name = summary['participant']
        rois = find_rois(folder, name)
        any_found |= bool(rois)
        if not rois:
            absences.append(f'sub-{name} has no region of interest in {folder.name}')
            continue
        rows: list[dict[str, Any]] = []
        space = next((u['space'] for u in summary['units'] if u.get('space')), None)
        for maps in from_derivatives(output_dir, [name], space=space or STRUCTURAL).all_maps:
            try:
                means = _means(output_dir, maps, rois, name)
            except AppError as error:
                absences.append(f'sub-{name}: {maps.what} of regions of interest: {error}')
                continue
            values.setdefault(maps.name, (maps, {}))[1][name] = means
            rows += _rows(maps, means, _constants(summary), maps.sources[name][0].value)
        if rows:
            write_table(rows, output_dir=output_dir, key='roi_regions', entities={'sub': name})
        else:
            absences.append(f'sub-{name} has no map that its regions of interest could be read in')
    if not any_found:
        who = ', '.join(f'sub-{summary["participant"]}' for summary in summaries)
        msg = (
            f'--roi {folder} holds no region of {who}; expected '
            'sub-XX/**/*_mask.nii.gz or *_dseg.nii.gz'
        )
        raise SettingsError(msg)
    return RoiStudy(values=values, absences=tuple(dict.fromkeys(absences)))


def _means(output_dir: Path, maps: MapSet, rois: Sequence[Roi], name: str) -> pd.DataFrame:
    """Average the maps of a participant over its regions; sessions are repeats."""
    parts = []
    for source in maps.sources[name]:
        grid = grid_of(source.value)
        whole = np.ones(grid.shape, bool)
        value, variance = read_source(source, whole, grid)
        has_variance = source.has_variance
        estimate = Estimate.of(value, np.nan_to_num(variance) if not has_variance else variance)
        tables = []
        for number, roi in enumerate(rois, start=1):
            inside = _inside(output_dir, roi, grid, source.value, name)
            regions = pd.DataFrame(
                {'index': [1], 'name': [roi.name], 'network': ['all'], 'level': [LEVEL]}
            )
            found = region_estimate(estimate, [(regions, inside)], sidecar_of(source.value))
            tables.append(found.assign(index=number))
        part = pd.concat(tables, ignore_index=True)
        parts.append(part if has_variance else part.assign(variance=np.nan))
    joined = pd.concat(parts)
    keys = ['level', 'index', 'name', 'network']
    mean = joined.groupby(keys, sort=False)[['effect', 'variance', 'n_voxels', 'coverage']].mean()
    mean['variance'] /= len(parts)
    return mean.reset_index()


def _inside(output_dir: Path, roi: Roi, grid: Grid, path: Path, name: str) -> IntArray:
    """Tell which voxels of a map have their centre in a region, 1 or 0."""
    of_roi = grid_of(roi.path)
    space = parse_name(path).get('space', STRUCTURAL)
    to_roi = np.eye(4)
    if not (roi.space == space or (roi.space is None and of_roi.matches(grid))):
        to_roi = _to_structural(output_dir, roi, space, name)
    places = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1).reshape(-1, 3)
    way = np.linalg.inv(of_roi.affine) @ to_roi @ grid.affine
    index = np.rint(places @ way[:3, :3].T + way[:3, 3]).astype(int)
    on_image = ((index >= 0) & (index < of_roi.shape)).all(axis=1)
    labels = np.rint(load_data(roi.path)).astype(int)
    found = np.zeros(len(places), int)
    found[on_image] = labels[tuple(index[on_image].T)]
    chosen: IntArray = (found > 0 if roi.index is None else found == roi.index).astype(int)
    return chosen


def _to_structural(output_dir: Path, roi: Roi, space: str, name: str) -> FloatArray:
    """Find the way from a map to the structural image a region was drawn on, RAS mm."""
    files = list_derivatives(output_dir, f'sub-{name}')
    drawn_on = [
        file
        for file in select(files, 'preproc_t1w')
        if roi.space == STRUCTURAL or grid_of(roi.path).matches(grid_of(file.path))
    ]
    transforms = select(files, 'xfm_scan', scan=space)
    if not drawn_on or not transforms or roi.space not in (None, STRUCTURAL):
        msg = (
            f'{roi.path.name} should be in the space {space} of the maps or on the T1w image '
            f'(by its space- or its grid), with an alignment of {space} to it; regions of the '
            'template are given as --regions'
        )
        raise SettingsError(msg)
    # the file takes points of the T1w image to the scan, as images are resampled
    return np.asarray(np.linalg.inv(load_affine(transforms[0].path)), float)


def _constants(summary: Mapping[str, Any]) -> dict[str, float]:
    """Read the constants of a participant."""
    values = [one for unit in summary['units'][:1] for one in unit.get('values', ())]
    return {
        one['name']: float(one['value']) for one in values if isinstance(one['value'], int | float)
    }


def _rows(
    maps: MapSet, means: pd.DataFrame, constants: Mapping[str, float], path: Path
) -> Iterator[dict[str, Any]]:
    """Give the lines of the table of a participant."""
    relative = relative_error(constants, maps.quantity)
    volume = float(np.prod(grid_of(path).zooms)) / 1000.0
    for line in means.itertuples():
        by_constants = abs(line.effect) * relative
        yield {
            'roi': line.name,
            'quantity': maps.quantity,
            'condition': maps.condition,
            'contrast': maps.contrast,
            'unit': table().quantities[maps.quantity].unit,
            'value': line.effect,
            'se': np.sqrt(line.variance),
            'se_constants': by_constants,
            'se_total': np.hypot(np.sqrt(line.variance), by_constants),
            'n_voxels': round(line.n_voxels),
            'volume_ml': line.n_voxels * volume,
            'coverage': line.coverage,
        }
