"""The group on the cortex: vertices of a standard mesh in the place of voxels, the same tests."""

from __future__ import annotations

import gzip
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bids_app.bids.input.surfaces import SIDES, inflated_mesh
from bids_app.bids.output.names import match, output_path
from bids_app.bids.output.write import atomic_write
from bids_app.group.effects import analyse_effect, maps_to_test
from bids_app.group.inputs import from_derivatives
from bids_app.group.regions import save_comparisons
from bids_app.images import Grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bids_app.bids.input.surfaces import StandardMesh
    from bids_app.group.effects import Effect
    from bids_app.group.inputs import GroupInputs, MapSet
    from bids_app.group.study import Study

LOGGER = logging.getLogger('oxybold')

LEVEL = 'parcel'
"""Level of the parcels of an atlas of the cortex in the tables of the group."""


def cortex_inputs(output_dir: Path, names: Iterable[str], mesh: StandardMesh) -> GroupInputs:
    """Find the maps on a mesh that the participant level of this program wrote."""
    return from_derivatives(output_dir, names, space=mesh.space, density=mesh.density)


def analyse_cortex(volumes: Study, mesh: StandardMesh, inputs: GroupInputs) -> tuple[Study, bool]:
    """
    Describe and test every quantity at the vertices of a mesh and in the parcels of its atlases.

    What the volumes have and the cortex has not, because it is made of neighbours in space:
    labels of concordance, enhanced clusters, norms and asymmetries.

    Parameters
    ----------
    volumes : Study
        The same group: settings and design.
    mesh : StandardMesh
        That the maps lie on.
    inputs : GroupInputs
        From :func:`cortex_inputs`.

    Returns
    -------
    study : Study
        The group on the cortex.
    made : bool
        Whether there was anything of enough participants.
    """
    study = replace(
        volumes,
        inputs=inputs,
        mask=np.ones((mesh.n_vertices, 2, 1), bool),
        grid=Grid((mesh.n_vertices, 2, 1), np.eye(4)),
        space=mesh.space,
        mesh=mesh,
        folder=volumes.folder / mesh.name,
        stacks={},
        region_means={},
        pls_rows={},
    )
    if not inputs.all_maps:
        study.absences[f'nobody has maps on the cortex ({mesh.name})'] = None
        return study, False
    LOGGER.info('group: cortex, %s', mesh.name)
    study.folder.mkdir()
    effects = [analyse_effect(study, maps) for maps in maps_to_test(study)]
    _save_shape(study, mesh)
    tables = _parcel_tables(study)
    for effect in effects:
        study.region_means[effect.maps.name] = _parcel_means(tables, effect)
    with_parcels = [one for one in effects if study.region_means[one.maps.name]]
    if with_parcels:
        save_comparisons(study, with_parcels)
    return study, bool(effects)


def _save_shape(study: Study, mesh: StandardMesh) -> None:
    """Put the shape that maps are looked at on beside them."""
    shape = inflated_mesh(mesh)
    if shape is None:
        study.absences[
            f'no inflated surface beside the sphere of {mesh.name}: the maps on the cortex are '
            'not drawn'
        ] = None
        return
    for letter, path in zip(SIDES, shape, strict=True):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == '.gz' else content
        at = {**study.place, 'hemi': letter}
        atomic_write(study.run.output_dir / output_path('group_mesh', **at), content)


def _parcel_tables(study: Study) -> dict[str, list[pd.DataFrame]]:
    """Read the tables of parcels of every participant; one per session and atlas."""
    found: dict[str, list[pd.DataFrame]] = {}
    root = study.run.output_dir
    for name in study.inputs.participants:
        for path in sorted((root / f'sub-{name}').rglob('*_summary.tsv')):
            key, at = match(path.relative_to(root).as_posix()) or ('', {})
            if key == 'surface_regions' and study.place == {k: at[k] for k in ('space', 'den')}:
                # empty cells of a table are text: a condition may have any name but n/a
                table = pd.read_csv(path, sep='\t', na_values=['n/a'], keep_default_na=False)
                found.setdefault(name, []).append(table.assign(network=at['atlas']))
    return found


def _parcel_means(
    tables: Mapping[str, list[pd.DataFrame]], effect: Effect
) -> dict[str, pd.DataFrame]:
    """Give the parcels of a quantity by participant, the same for all, as regions of volumes."""
    maps = effect.maps
    if any(one.minus is not None for sources in maps.sources.values() for one in sources):
        return {}  # differences of sessions, of which the participants have no table
    means: dict[str, pd.DataFrame] = {}
    keys = ['network', 'hemisphere', 'index', 'name']
    for name in effect.stack.participants:
        parts = [_rows_of(table, maps) for table in tables.get(name, ())]
        joined = pd.concat(parts) if parts else pd.DataFrame()
        if joined.empty:
            continue
        groups = joined.groupby(keys, sort=False)  # sessions are repeats
        mean = groups[['effect', 'variance', 'n_voxels', 'coverage']].mean()
        mean['variance'] /= groups['variance'].count()
        means[name] = mean
    everywhere = pd.concat(means.values()).index.unique() if means else None
    return {name: _as_regions(mean.reindex(everywhere)) for name, mean in means.items()}


def _as_regions(mean: pd.DataFrame) -> pd.DataFrame:
    """Name parcels as the regions of volumes are, the hemisphere before the name."""
    rows = mean.reset_index()
    return rows.assign(level=LEVEL, name=rows.pop('hemisphere') + ' ' + rows['name'])


def _rows_of(table: pd.DataFrame, maps: MapSet) -> pd.DataFrame:
    """Choose the rows of a map; a change is named by its contrast, whatever its task."""
    here = table['quantity'] == maps.quantity
    if maps.contrast is not None:
        here &= table['contrast'] == maps.contrast
    else:
        here &= table['contrast'].isna()
        wanted = table['condition'].isna() if maps.condition is None else (
            table['condition'] == maps.condition
        )  # fmt: skip
        here &= wanted
    return (
        table[here]
        .assign(variance=table['se'] ** 2)
        .rename(columns={'value': 'effect', 'n_vertices': 'n_voxels'})
    )
