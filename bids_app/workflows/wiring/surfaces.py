"""Maps on standard meshes of the cortex, from the surfaces that fMRIPrep reconstructed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.input.surfaces import lacking_surfaces, standard_meshes, surface_atlases
from bids_app.bids.output.names import label_of
from bids_app.bids.products import PRODUCTS
from bids_app.interfaces.surface import MapCortex, ResampleToCortex, SummariseCortex
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.wiring.change import contrast_sidecar
from bids_app.workflows.wiring.template import LABELS

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.input.surfaces import StandardMesh, SurfaceAtlas
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph

SIDES = {'left': 'L', 'right': 'R'}


def add_surface_maps(graph: Graph) -> None:
    """Bring the baseline maps and the changes to every standard mesh that is wanted."""
    found = graph.inputs.anatomy
    meshes = standard_meshes(graph.settings.output_spaces)
    atlases = surface_atlases(graph.settings.surface_atlas, meshes)
    for mesh in meshes:
        if found is None or not graph.scans or lacking_surfaces(found.surfaces, mesh):
            continue
        sink = graph.sink(f'save_{mesh.name}')
        known = dict(found.surfaces)
        located = {side: _locate(graph, mesh, known, side) for side in SIDES}
        maps = _maps(graph)
        for name, about in maps.items():
            _sample(graph, sink, mesh, located, name, about)
        for atlas in atlases:
            if maps and atlas.n_vertices == mesh.n_vertices:
                _summarise(graph, sink, mesh, located, atlas, maps)
        graph.close(sink)


def _locate(graph: Graph, mesh: StandardMesh, known: dict[str, Path], side: str) -> Any:
    """Find the voxels of one hemisphere."""
    letter = SIDES[side]
    node = pe.Node(
        MapCortex(
            white=str(known[f'{letter}_white']),
            pial=str(known[f'{letter}_pial']),
            own_sphere=str(known[f'{letter}_{mesh.space}']),
            sphere=str(mesh.files[list(SIDES).index(side)]),
        ),
        name=f'locate_{side}_cortex_of_{mesh.name}',
    )
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (align, node, [('outputnode.transform', 'source_transform'),
                       ('outputnode.grey_matter', 'grey_matter')]),
    ])  # fmt: skip
    return node


def _maps(graph: Graph) -> dict[str, dict[str, Any]]:
    """List the maps: name of the node -> where it is and what it is."""
    found: dict[str, dict[str, Any]] = {}
    baseline = graph.inputs.baseline
    for quantity, product in PRODUCTS.items():
        condition = baseline if (quantity, baseline) in graph.maps else None
        source = graph.maps.get((quantity, condition))
        if source is not None:
            found[f'{quantity}_baseline'] = {
                'source': source, 'quantity': product.label, 'condition': condition,
                'contrast': None, 'is_rate': product.is_time, 'sidecar': {},
            }  # fmt: skip
    for contrast in graph.inputs.contrasts:
        for (quantity, label), (source, task) in graph.changes.items():
            if label == contrast.label and quantity not in LABELS:
                found[f'{quantity}_{label}'] = {
                    'source': source, 'quantity': label_of(quantity), 'condition': task,
                    'contrast': label, 'is_rate': False,
                    'sidecar': contrast_sidecar(graph, contrast),
                }  # fmt: skip
    return found


def _sample(  # noqa: PLR0917  (one map, where it lies, where it goes)
    graph: Graph,
    sink: Sink,
    mesh: StandardMesh,
    located: dict[str, Any],
    name: str,
    about: dict[str, Any],
) -> None:
    """Bring one map to both hemispheres."""
    node = pe.Node(ResampleToCortex(is_rate=about['is_rate']), name=f'to_{mesh.name}_{name}')
    connect_quantity(graph.workflow, about['source'], node, 'quantity')
    graph.workflow.connect([(located[side], node, [('weights', side)]) for side in SIDES])
    sidecar = {
        **about['sidecar'],
        **graph.made_from(about['source']),
        **graph.model_of(about['source']),
        'Density': f'{mesh.n_vertices} vertices per hemisphere',
    }
    at = {key: about[key] for key in ('quantity', 'condition', 'contrast')}
    for side, letter in SIDES.items():
        for statistic, part in (('effect', 'value'), ('variance', 'variance')):
            sink.add(
                MapPort(node, side), 'surface', part=part, sidecar=sidecar, hemi=letter,
                space=mesh.space, den=mesh.density, statistic=statistic, **at,
            )  # fmt: skip


def _summarise(  # noqa: PLR0917  (all maps, where they lie, and an atlas)
    graph: Graph,
    sink: Sink,
    mesh: StandardMesh,
    located: dict[str, Any],
    atlas: SurfaceAtlas,
    maps: dict[str, dict[str, Any]],
) -> None:
    """Average all maps over the parcels of an atlas."""
    facts = ('quantity', 'condition', 'contrast', 'is_rate')
    node = pe.Node(
        SummariseCortex(
            maps={name: {key: about[key] for key in facts} for name, about in maps.items()},
            atlas=[str(path) for path in atlas.files],
        ),
        name=f'summarise_{atlas.name}_of_{mesh.name}',
    )
    graph.workflow.connect([(located[side], node, [('weights', side)]) for side in SIDES])
    for name, about in maps.items():
        connect_quantity(graph.workflow, about['source'], node, name)
    sources = graph.made_from(*(about['source'] for about in maps.values()))
    sources['Sources'] += graph.sources(atlas.files)
    sink.add(
        MapPort(node, 'table'), 'surface_regions', sidecar=sources,
        space=mesh.space, den=mesh.density, atlas=atlas.name,
    )  # fmt: skip
