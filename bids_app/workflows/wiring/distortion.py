"""The field that displaces each echo-planar scan: of the dataset, else of the gradient echo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.workflows._engine import MapPort
from bids_app.workflows.anatomy import init_field_map_wf
from bids_app.workflows.graph import WORD, AlignedScan
from bids_app.workflows.wiring.anatomy import add_scan

if TYPE_CHECKING:
    from bids_app.bids.scans import FieldMap
    from bids_app.workflows.graph import Graph


def add_distortion(graph: Graph) -> None:
    """Hand every echo-planar scan the field that displaces it, and save what that does."""
    sink = graph.sink('save_distortion')
    known: dict[str, tuple[MapPort, Any]] = {}
    given: list[Any] = []
    for scan in graph.scans:
        if scan.readout is None:
            continue
        field_map = scan.series.field_map
        if field_map is None:
            field, owner = _of_gradient_echo(graph, scan.series.condition)
        else:
            if field_map.name not in known:
                known[field_map.name] = _of_dataset(graph, field_map)
            field, owner = known[field_map.name]
        align = graph.alignment[scan.name]
        if align not in given:  # the conditions within one series have one alignment
            given.append(align)
            graph.workflow.connect([
                (field.node, align, [(field.output, 'inputnode.field_map')]),
                (owner, align, [('outputnode.transform', 'inputnode.field_transform')]),
            ])  # fmt: skip
        files = [scan.series.file, *(field_map.files if field_map else ())]
        at: dict[str, Any] = {
            'scan': WORD[scan.kind],
            'task': getattr(scan.series, 'task', None) or scan.series.condition,
            'run': scan.series.run,
            'sidecar': {
                'Sources': graph.sources(files),
                'FieldFrom': field_map.name if field_map else 'gradient echo',
            },
        }
        for port, key in (('acquired', 'epi_acquired'), ('reference', 'epi_undistorted'),
                          ('voxel_shift', 'epi_shift')):  # fmt: skip
            sink.add(MapPort(align, port), key, **at)
    graph.close(sink)


def _of_gradient_echo(graph: Graph, condition: str | None) -> tuple[MapPort, Any]:
    """Field of the gradient echo of a condition, else of the first one."""
    first = next(iter(graph.fields.values()))
    field, scan = graph.fields.get(condition, first)
    return field, graph.alignment[scan.name]


def _of_dataset(graph: Graph, field_map: FieldMap) -> tuple[MapPort, Any]:
    """Align a field map of the dataset and read it."""
    name = field_map.name.replace('-', '_')
    add_scan(graph, AlignedScan(kind='', series=None, name=name, images=(field_map.magnitude,)))
    align = graph.alignment[name]
    read = init_field_map_wf(field_map=field_map, name=f'field_{name}')
    if field_map.kind == 'opposite':
        image = ('outputnode.images', 'average_volumes.files')
        graph.workflow.connect([(read, align, [image])])
    else:
        graph.workflow.connect([(align, read, [('outputnode.mask', 'inputnode.mask')])])
    return MapPort(read, 'field_map'), align
