"""R2, R2*, R2' and the field maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.run.feasible import t2_model
from bids_app.interfaces.relaxometry import CombineSliceEdges, ConvertRateToTime
from bids_app.interfaces.spatial import SmoothQuantity
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.graph import word_of
from bids_app.workflows.relaxometry import (
    has_fitted_slices,
    init_r2_star_wf,
    init_r2_wf,
    slice_edge_node,
)
from bids_app.workflows.wiring.scans import (
    add_derived,
    add_per_condition,
    connect_list,
    save_map,
)

if TYPE_CHECKING:
    from bids_app.settings import RelaxometrySettings
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


def add_relaxometry(graph: Graph) -> None:
    """Add R2, R2*, R2' and save T2, T2*, R2' and the field maps."""
    settings = graph.settings.relaxometry
    models: dict[str, Workflow] = {}

    def build(scan: AlignedScan) -> Workflow:
        given = {'series': scan.series, 'settings': settings, 'name': f'model_{scan.name}'}
        models[scan.name] = (
            init_r2_wf(model=t2_model(scan.series, graph.settings), **given)
            if scan.kind == 'mese'
            else init_r2_star_wf(**given)
        )
        return models[scan.name]

    ports = ('noise_groups',)
    sink = graph.sink('save_relaxometry')
    for kind, quantities, label in (
        ('mese', ('r2',), 'T2'),
        ('megre', ('r2_star', 'echo_inconsistency'), 'T2star'),
    ):
        groups = add_per_condition(graph, kind, quantities, build, ports)
        quantity = quantities[0]
        for condition, scans in groups.items():
            files = [path for scan in scans for path in scan.series.files]
            model, reason = (
                t2_model(scans[0].series, graph.settings)
                if kind == 'mese'
                else (settings.t2_star_model, '')
            )
            parameters = graph.parameters_of(quantity, model)
            if reason:
                parameters['Model']['Reason'] = reason
            sidecar = {'Sources': graph.sources(files), **parameters}
            if kind == 'megre':
                sidecar |= _correction_entries(scans, settings)
                inconsistency = graph.maps.pop(('echo_inconsistency', condition))
                at: dict[str, Any] = {'space': graph.space, 'condition': condition}
                sink.add(inconsistency, 'echo_inconsistency', sidecar=sidecar, **at)
            _save_decays(graph, sink, models, scans, parameters)
            time = _add_time(graph, quantity, condition)
            save_map(graph, sink, time, label, condition=condition, sidecar=sidecar)
            rate = graph.maps[quantity, condition]
            graph.saved[rate.key] = graph.saved[time.key]
            if kind == 'megre' and scans[0].series.has_phase:
                model_wf = models[scans[0].name]
                graph.fields[condition] = (MapPort(model_wf, 'field_map'), scans[0])
                _save_field_map(graph, sink, model_wf, condition, sidecar)
            if settings.smoothing:
                name = '_'.join(part for part in (quantity, condition) if part)
                smooth = smooth_rate(graph, rate, name, settings.smoothing)
                graph.maps[quantity, condition] = smooth
    _combine_slice_edges(graph, models)
    add_derived(graph, sink, 'r2_prime', settings.r2_prime_model)
    graph.close(sink)


def _combine_slice_edges(graph: Graph, models: dict[str, Workflow]) -> None:
    """Ask all gradient echoes how soft the slices are, and give every model the one answer."""
    settings = graph.settings.relaxometry
    scans = [scan for scan in graph.scans if scan.kind == 'megre']
    fitted = [scan for scan in scans if has_fitted_slices(scan.series, settings)]
    if not fitted:
        return
    edges = []
    for scan in fitted:
        node = slice_edge_node(scan.series, settings, f'estimate_slice_edge_{scan.name}')
        align = graph.alignment[scan.name]
        graph.workflow.connect([(align, node, [('outputnode.mask', 'mask')])])
        edges.append(MapPort(node, 'edge'))
    join = pe.Node(CombineSliceEdges(), name='combine_slice_edges')
    connect_list(graph, edges, join, 'edges', 'slice_edges')
    for scan in fitted:
        graph.workflow.connect([(join, models[scan.name], [('edge', 'inputnode.slice_edge')])])


def _save_decays(
    graph: Graph,
    sink: Sink,
    models: dict[str, Workflow],
    scans: list[AlignedScan],
    parameters: dict[str, Any],
) -> None:
    """Save the decays of a few voxels of every scan."""
    for scan in scans:
        sink.add(
            MapPort(models[scan.name], 'decays'),
            'decays',
            condition=scan.series.condition,
            scan=word_of(scan),
            run=scan.series.run,
            sidecar={'Sources': graph.sources(scan.series.files), **parameters},
        )


def _correction_entries(scans: list[AlignedScan], settings: RelaxometrySettings) -> dict[str, Any]:
    """Say in the sidecar what was done about background gradients and with redundant sets."""
    reasons = [scan.series.uncorrected for scan in scans if scan.series.uncorrected]
    profile = 'none' if reasons else settings.slice_profile
    if profile != 'none' and any(scan.series.is_slab for scan in scans):
        profile = 'phase-encoded'
    merged = max(len(scan.series.reduced) for scan in scans)
    return {
        'BackgroundGradientCorrected': profile != 'none',
        'SliceProfile': profile,
        **({'BackgroundGradientReason': reasons[0]} if reasons else {}),
        **({'RedundantSetsMerged': merged} if merged else {}),
    }


def smooth_rate(graph: Graph, source: MapPort, name: str, width: float) -> MapPort:
    """Smooth a rate, as published pipelines do before R2' is made."""
    node = pe.Node(SmoothQuantity(fwhm_voxels=width), name=f'smooth_{name}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, node, 'quantity')
    smoothed = MapPort(node, 'quantity')
    graph.saved[smoothed.key] = graph.saved[source.key]
    return smoothed


def _add_time(graph: Graph, quantity: str, condition: str | None) -> MapPort:
    """Convert a rate into the time that is saved."""
    name = '_'.join(part for part in ('convert', quantity, condition) if part)
    node = pe.Node(ConvertRateToTime(), name=name)
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, graph.maps[quantity, condition], node, 'rate')
    return MapPort(node, 'time')


def _save_field_map(
    graph: Graph, sink: Sink, model: Workflow, condition: str | None, sidecar: dict[str, Any]
) -> None:
    """Save the field map of a MEGRE series on its own grid."""
    sources = {'Sources': sidecar['Sources']}
    for port, key in (('field_map', 'fieldmap'), ('field_magnitude', 'fieldmap_magnitude')):
        sink.add(MapPort(model, port), key, condition=condition, sidecar=sources)
