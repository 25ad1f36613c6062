"""Bring maps to the cortical surface, and average them over its parcels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from bids_app.bids.output.names import scale_of, unit_of
from bids_app.images import (
    grid_of,
    load_affine,
    load_data,
    load_surface,
    load_surface_labels,
    save_surface_map,
)
from bids_app.interfaces._base import (
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    Bundle,
    DynamicTraitedSpec,
    File,
    Interface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    traits,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.surface import (
    average_parcels,
    cortex_points,
    sample_surface,
    sphere_weights,
    vertex_areas,
    voxel_weights,
)
from bids_app.models.relaxometry.decay import time_from_rate


def _file(desc: str) -> Any:
    """Declare a file that is no image."""
    return File(exists=True, mandatory=True, desc=desc, unit='')


class MapCortex(Interface):
    """Map every vertex of a standard mesh to the voxels that it is made of."""

    class Inputs(BaseInterfaceInputSpec):
        white = _file('inner surface of the cortex, T1w space')
        pial = _file('outer surface, same vertices')
        own_sphere = _file('sphere of the same vertices, registered to the template')
        sphere = _file('sphere of the standard mesh')
        grey_matter = image('grey-matter fraction on the grid of the maps', '1')
        source_transform = image(
            'rigid transform, T1w points to scan points (ITK)', '', optional=True
        )

    class Outputs(TraitedSpec):
        weights = File(exists=True, desc='voxels of every vertex, and its area', unit='')

    def _run_interface(self, runtime):
        (white, faces), (pial, _) = (
            load_surface(path) for path in (self.inputs.white, self.inputs.pial)
        )
        own, own_faces = load_surface(self.inputs.own_sphere)
        sphere, sphere_faces = load_surface(self.inputs.sphere)
        transform = self.inputs.source_transform
        to_scan = load_affine(transform) if isdefined(transform) else np.eye(4)
        to_voxel = np.linalg.inv(grid_of(self.inputs.grey_matter).affine) @ to_scan
        points = cortex_points(white, pial) @ to_voxel[:3, :3].T + to_voxel[:3, 3]

        onto = sphere_weights(own, own_faces, sphere)
        weights = (onto @ voxel_weights(points, load_data(self.inputs.grey_matter))).tocsr()
        # how much the cortex of the person is larger than its sphere, at every vertex
        stretch = vertex_areas((white + pial) / 2, faces) / vertex_areas(own, own_faces)
        areas = (onto @ stretch) * vertex_areas(sphere, sphere_faces)

        path = Path(runtime.cwd) / 'weights.npz'
        np.savez(
            path,
            data=weights.data,
            indices=weights.indices,
            indptr=weights.indptr,
            shape=weights.shape,
            areas=areas,
        )
        self._results['weights'] = str(path)
        return runtime


def load_weights(path: str) -> tuple[sparse.csr_array, Any]:
    """Read what :class:`MapCortex` wrote: weights (N, V) and areas (N,), mm2."""
    with np.load(path) as found:
        parts = (found['data'], found['indices'], found['indptr'])
        return sparse.csr_array(parts, shape=tuple(found['shape'])), found['areas']


class ResampleToCortex(Interface):
    """Resample a map and its variance to the cortex of both hemispheres."""

    class Inputs(BaseInterfaceInputSpec):
        quantity = estimated('map on the quantification grid', '')
        left = _file('weights of the left hemisphere')
        right = _file('weights of the right hemisphere')
        is_rate = traits.Bool(
            False, usedefault=True, desc='a rate, to be saved as a time', unit=''
        )

    class Outputs(TraitedSpec):
        left = estimated('map on the left hemisphere', '')
        right = estimated('map on the right hemisphere', '')

    def _run_interface(self, runtime):
        files = Bundle.read(self.inputs.quantity)
        value, variance = (load_data(path).ravel() for path in files.parts[:2])
        for side in ('left', 'right'):
            weights, _ = load_weights(getattr(self.inputs, side))
            made = sample_surface(weights, value, variance)
            made = time_from_rate(made) if self.inputs.is_rate else made
            paths = [Path(runtime.cwd) / f'{side}{part}.gii' for part in ('', '_variance')]
            for path, data in zip(paths, (made.value, made.variance), strict=True):
                save_surface_map(data, path, side=side)
            bundle = Bundle(value=str(paths[0]), variance=str(paths[1]), sidecar=files.sidecar)
            self._results[side] = bundle.write(Path(runtime.cwd) / f'{side}.bundle.json')
        return runtime


class SummariseCortex(Interface):
    """Average maps over the parcels of an atlas on the surface; one port for every map."""

    class Inputs(DynamicTraitedSpec, BaseInterfaceInputSpec):
        left = _file('weights of the left hemisphere')
        right = _file('weights of the right hemisphere')
        atlas = traits.List(File(exists=True), mandatory=True, desc='label files', unit='')
        maps = traits.Dict(
            mandatory=True, desc='port -> quantity, condition, contrast, is_rate', unit=''
        )

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='one row per map and parcel', unit='')

    def __init__(self, maps: dict[str, Any] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        for name in maps or {}:
            self.inputs.add_trait(name, traits.Any(desc='map on the quantification grid', unit=''))
        if maps:
            self.inputs.maps = maps

    def _run_interface(self, runtime):
        parts = []
        for hemisphere, side in (('L', 'left'), ('R', 'right')):
            weights, areas = load_weights(getattr(self.inputs, side))
            labels, names = load_surface_labels(self.inputs.atlas, hemisphere)
            present = np.unique(labels)
            parcels = {index: name for index, name in names.items() if index in present}
            for port, about in self.inputs.maps.items():
                files = Bundle.read(getattr(self.inputs, port))
                rows = _rows(files, weights, areas, labels, parcels, about)
                parts.append(rows.assign(hemisphere=hemisphere))
        path = Path(runtime.cwd) / 'parcels.tsv'
        pd.concat(parts).to_csv(path, sep='\t', index=False, na_rep='n/a')
        self._results['table'] = str(path)
        return runtime


def _rows(files, weights, areas, labels, parcels, about):  # noqa: PLR0917  (a map and where it lies)
    """Make the rows of one map on one hemisphere, in the units of the output."""
    value, variance = (load_data(path).ravel() for path in files.parts[:2])
    shared = files.sidecar.get(SHARED_NOISE, {})
    found = average_parcels(
        weights, value, variance, areas=areas, labels=labels, indices=list(parcels),
        voxels_per_sample=files.sidecar.get(VOXELS_PER_SAMPLE, 1.0),
        shared=shared.get('parcel', 0.0),
    )  # fmt: skip
    mean = Estimate.of(found.mean, found.se**2)
    mean = time_from_rate(mean) if about['is_rate'] else mean
    at = {'quantity': about['quantity'], 'statistic': 'effect'}
    scale = scale_of('surface', **at)
    return pd.DataFrame({
        'index': list(parcels), 'name': list(parcels.values()), 'quantity': about['quantity'],
        'condition': about['condition'] or 'n/a', 'contrast': about['contrast'] or 'n/a',
        'unit': unit_of('surface', **at), 'value': scale * mean.value,
        'se': scale * np.sqrt(mean.variance), 'n_vertices': found.n_vertices,
        'coverage': found.coverage,
    })  # fmt: skip
