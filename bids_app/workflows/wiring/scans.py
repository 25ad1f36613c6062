"""From the grid of a scan to the quantification grid: what every branch does alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import label_of, row_of_quantity
from bids_app.interfaces.perfusion import CombineTables
from bids_app.interfaces.spatial import (
    TISSUES,
    CombineRuns,
    PredictTissue,
    ResampleQuantity,
    SmoothQuantity,
)
from bids_app.models.numerics.resampling import VOXELS_PER_NOISE_SAMPLE
from bids_app.models.oxygen.sensitivity import PARTS, describe_effects, relative_effects
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.constants import known_constants
from bids_app.workflows.graph import UNSCALED
from bids_app.workflows.oxygen import init_model_wf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


ECHO_RATES = ('r2', 'r2_star')
"""Quantities whose runs say better than their echoes how large the error is: misfit repeats."""


def connect_scan(
    graph: Graph, scan: AlignedScan, model: Workflow, *ports: str, series: MapPort | None = None
) -> None:
    """Hand the maps of a scan's grid to its model; tissue only where there is anatomy."""
    align = graph.alignment[scan.name]
    wanted = ['mask'] + [port for port in ports if graph.has_anatomy]
    if scan.moving:
        source = series or graph.series.get(scan.name) or MapPort(align, 'series')
        connect_quantity(graph.workflow, source, model, 'series')
    graph.workflow.connect([
        (align, model, [(f'outputnode.{port}', f'inputnode.{port}') for port in wanted]),
    ])  # fmt: skip


def to_target(graph: Graph, scan: AlignedScan, source: MapPort, label: str) -> MapPort:
    """Carry a quantity from the grid of its scan to the quantification grid, in one step."""
    if scan is graph.target and not scan.is_corrected and scan.found is None:
        return source
    name = f'resample_{label}_{scan.name}'
    node = pe.Node(_resample_to_target(graph, scan), name=name)
    if graph.has_anatomy and graph.settings.anatomy.tissue_detail:
        align = graph.alignment[scan.name]
        graph.workflow.connect([
            (align, node, [(f'outputnode.{tissue}', tissue) for tissue in TISSUES]),
            (_tissue_there(graph, scan), node, ['tissue_there']),
        ])  # fmt: skip
    if scan.found is not None:  # so does that of the other software
        node.inputs.voxels_per_sample = VOXELS_PER_NOISE_SAMPLE
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, node, [(port, 'mask'), ('outputnode.transform', 'target_transform')]),
        (graph.alignment[scan.name], node, [('outputnode.transform', 'source_transform')]),
    ])  # fmt: skip
    if scan.is_corrected:  # its interpolation counts too
        graph.workflow.connect([
            (graph.alignment[scan.name], node, [('outputnode.voxels_per_sample',
                                                 'voxels_per_sample')]),
        ])  # fmt: skip
    connect_quantity(graph.workflow, source, node, 'quantity')
    return MapPort(node, 'quantity')


def _tissue_there(graph: Graph, scan: AlignedScan) -> Any:
    """Give the node that knows the tissue of a scan's voxels at those of the target."""
    if scan.name not in graph.tissue_there:
        node = pe.Node(PredictTissue(), name=f'predict_tissue_{scan.name}')
        mask, port = graph.mask
        graph.workflow.connect([
            (graph.anatomy, node, [(f'outputnode.{tissue}', tissue) for tissue in TISSUES]),
            (mask, node, [(port, 'mask'), ('outputnode.transform', 'target_transform')]),
            (graph.alignment[scan.name], node, [('outputnode.transform', 'source_transform'),
                                                ('outputnode.reference', 'reference')]),
        ])  # fmt: skip
        graph.tissue_there[scan.name] = node
    return graph.tissue_there[scan.name]


def _resample_to_target(graph: Graph, scan: AlignedScan) -> ResampleQuantity:
    """Set what is not known once a scan is carried; headers that are trusted have no error."""
    settings = graph.settings.anatomy
    is_aligned = settings.registration == 'rigid' and scan is not graph.target
    return ResampleQuantity(
        is_widened=settings.resampling_error,
        alignment_error=settings.alignment_error if is_aligned else 0.0,
    )


def combine_runs(
    graph: Graph, runs: list[MapPort], name: str, *, by_scatter: bool = False
) -> MapPort:
    """Join the runs of one modality and condition by inverse variance."""
    if len(runs) == 1:
        return runs[0]
    node = pe.Node(CombineRuns(by_scatter=by_scatter), name=f'combine_{name}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_list(graph, runs, node, 'quantity', name)
    return MapPort(node, 'quantity')


def join_tables(graph: Graph, tables: list[MapPort], name: str) -> MapPort:
    """Put the tables of several scans one under the other."""
    join = pe.Node(CombineTables(), name=f'combine_{name}')
    connect_list(graph, tables, join, 'tables', name)
    return MapPort(join, 'table')


def connect_list(graph: Graph, sources: list[MapPort], node: Any, port: str, name: str) -> None:
    """Hand several quantities or files to the one port of a node, or of a workflow."""
    from nipype import Merge

    merge = pe.Node(Merge(len(sources)), name=f'merge_{name}')
    for number, source in enumerate(sources, start=1):
        connect_quantity(graph.workflow, source, merge, f'in{number}')
    connect_quantity(graph.workflow, MapPort(merge, 'out'), node, port)


def add_per_condition(
    graph: Graph,
    kind: str,
    quantities: tuple[str, ...],
    build: Callable[[AlignedScan], Workflow],
    ports: tuple[str, ...],
) -> dict[str | None, list[AlignedScan]]:
    """Model every series of a kind, carry it to the grid, combine runs; one map per condition."""
    groups: dict[str | None, list[AlignedScan]] = {}
    for scan in graph.scans:
        if scan.kind == kind:
            groups.setdefault(scan.series.condition, []).append(scan)
    models = {scan.name: build(scan) for scans in groups.values() for scan in scans}
    for condition, scans in groups.items():
        for scan in scans:
            connect_scan(graph, scan, models[scan.name], *ports)
        for quantity in quantities:
            if not all(models[scan.name].has_output(quantity) for scan in scans):
                continue
            runs = [
                to_target(graph, scan, MapPort(models[scan.name], quantity), quantity)
                for scan in scans
            ]
            name = '_'.join(part for part in (quantity, condition) if part)
            graph.maps[quantity, condition] = combine_runs(
                graph, runs, name, by_scatter=quantity in ECHO_RATES
            )
    return groups


def save_map(
    graph: Graph,
    sink: Sink,
    quantity: MapPort,
    label: str,
    **entities: Any,
) -> None:
    """Save value, variance and status of a map on the quantification grid."""
    at: dict[str, Any] = {'space': graph.space, **entities}
    sink.add_quantity(quantity, row_of_quantity(label), label, **at)
    if label in PARTS:
        effects = relative_effects(known_constants(graph.inputs, graph.settings), label)
        facts = {**(at.pop('sidecar', None) or {}), 'ConstantsError': describe_effects(effects)}
        at.pop('variant', None)  # of the value map only
        sink.add(quantity, 'total_variance', part='total', quantity=label, sidecar=facts, **at)
    unscaled = graph.maps.get((UNSCALED, entities.get('condition')))
    if label == 'oef' and unscaled is not None:
        graph.saved[unscaled.key] = graph.saved[quantity.key]


def add_derived(graph: Graph, sink: Sink, quantity: str, model: str) -> None:
    """Add a quantity that a model makes of other maps, in every condition, and save it."""
    for condition in make_derived(graph, quantity, model):
        save_derived(graph, sink, quantity, model, condition)


def make_derived(graph: Graph, quantity: str, model: str) -> list[str | None]:
    """Add a quantity that a model makes of other maps; list the conditions that have them."""
    spec, constants = MODELS[quantity][model], graph.constants
    if any(name not in constants for name in spec.parameters):
        return []  # a number that is not known: a problem that the inputs name
    conditions = graph.conditions(*spec.maps)
    for condition in conditions:
        name = '_'.join(part for part in ('compute', quantity, condition) if part)
        derived = init_model_wf(quantity=quantity, model=model, constants=constants, name=name)
        connect_derived(graph, derived, spec.maps, condition, scaled=quantity == 'cmro2')
        graph.maps[quantity, condition] = MapPort(derived, quantity)
    return conditions


def save_derived(
    graph: Graph, sink: Sink, quantity: str, model: str, condition: str | None
) -> None:
    """Save a map that a model made of other maps."""
    parents = MODELS[quantity][model].maps
    sidecar = derived_sidecar(graph, quantity, model, parents, condition)
    source = graph.maps[quantity, condition]
    save_map(graph, sink, source, label_of(quantity), condition=condition, sidecar=sidecar)


def derived_sidecar(
    graph: Graph, quantity: str, model: str, parents: Iterable[str], condition: str | None
) -> dict[str, Any]:
    """Entries of a map that is made from other maps of the output."""
    maps = [graph.lookup(name, condition) for name in parents]
    return graph.made_from(*maps) | graph.parameters_of(quantity, model)


def connect_derived(
    graph: Graph,
    model: Workflow,
    names: Iterable[str],
    condition: str | None,
    *,
    scaled: bool = False,
) -> None:
    """Connect mask and maps on the quantification grid to a model."""
    find = graph.lookup if scaled else graph.lookup_unscaled
    mask, port = graph.mask
    graph.workflow.connect([(mask, model, [(port, 'inputnode.mask')])])
    for name in names:
        connect_quantity(graph.workflow, find(name, condition), model, name)


def smooth(graph: Graph, source: MapPort, name: str) -> MapPort:
    """Smooth a map where that was asked for."""
    if not graph.settings.change.fwhm:
        return source
    node = pe.Node(SmoothQuantity(fwhm=graph.settings.change.fwhm), name=f'smooth_{name}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, node, 'quantity')
    return MapPort(node, 'quantity')
