"""Cerebral blood flow and arrival time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import gas_conditions
from bids_app.bids.output.names import label_of
from bids_app.bids.run.feasible import arrival_is_shared, cbf_model
from bids_app.interfaces.change import ComputeStatistics
from bids_app.models.asl.single_delay import t1_tissue_at
from bids_app.models.oxygen.gas_calibration import arterial_t1
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.constants import t1_blood
from bids_app.workflows.graph import TISSUE_LABELS
from bids_app.workflows.perfusion import (
    PerfusionConstants,
    init_perfusion_wf,
    init_shared_arrival_wf,
)
from bids_app.workflows.wiring.scans import add_per_condition, connect_list, join_tables, save_map

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app.bids.scans import AslSeries
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


PERFUSION = (
    'cbf',
    'cbf_without_m0',
    'm0_relative',
    'relative_cbf',
    'att',
    'abv',
    'grey_cbf',
    'white_cbf',
    'half_difference',
    'effective_delay',
)
"""Quantities that a perfusion graph may have."""


def add_perfusion(graph: Graph) -> None:
    """Add CBF of every condition and what belongs to it, and save it."""
    settings, inputs = graph.settings.perfusion, graph.inputs
    if math.isnan(inputs.b0) and settings.t1_blood is None:
        return  # no field strength: a problem that the inputs name
    tables: list[MapPort] = []
    models: dict[str, Workflow] = {}
    orders = _orders(inputs.asl)
    constants = PerfusionConstants(
        t1_blood=t1_blood(inputs, graph.settings),
        t1_tissue=settings.t1_tissue or t1_tissue_at(inputs.b0),
    )

    def build(scan: AlignedScan) -> Workflow:
        models[scan.name] = model = init_perfusion_wf(
            series=scan.series,
            model=cbf_model(scan.series, graph.settings),
            settings=settings,
            bold=graph.settings.bold,
            anatomy=graph.settings.anatomy,
            constants=replace(constants, t1_blood=_arterial_t1(graph, scan.series.condition)),
            has_tissue=graph.has_anatomy,
            readout=scan.readout,
            order=orders.get(scan.series.file),
            name=f'model_{scan.name}',
        )
        wanted = ('reference',) if scan.readout is None else ('reference', 'voxel_shift')
        connected = [(f'outputnode.{port}', f'inputnode.{port}') for port in wanted]
        graph.workflow.connect([(graph.alignment[scan.name], model, connected)])
        if graph.has_anatomy:
            tables.append(MapPort(model, 'quality'))
        return model

    groups = add_per_condition(
        graph, 'asl', PERFUSION, build, ('noise_groups', *TISSUE_LABELS.values())
    )
    tables += _compare_runs(graph, groups)
    if arrival_is_shared(inputs.asl, graph.settings):
        _share_arrival(graph, {key: scans[0] for key, scans in groups.items()}, models, constants)
    sink = graph.sink('save_perfusion')
    if ('att', None) in graph.maps and None not in groups:
        sidecar = _all_series_sidecar(graph)
        save_map(graph, sink, graph.maps['att', None], 'att', sidecar=sidecar)
    for condition, scans in groups.items():
        _save_perfusion(graph, sink, condition, scans)
    if tables:
        _save_quality(graph, sink, tables)
    graph.close(sink)


def _orders(series: Sequence[AslSeries]) -> dict[Path, int]:
    """Give each scan its rank in time; empty unless all say when, and differ."""
    times = {one.file: one.acquired for one in series}
    known = {file: time for file, time in times.items() if time is not None}
    if len(known) < len(times) or len(set(known.values())) < len(times):
        return {}
    return {file: rank for rank, file in enumerate(sorted(known, key=known.__getitem__), start=1)}


def _arterial_t1(graph: Graph, condition: str | None) -> float:
    """T1 of arterial blood in a condition, s: oxygen that is breathed shortens it."""
    rest = t1_blood(graph.inputs, graph.settings)
    known = graph.constants
    for gas, label in gas_conditions(graph.settings).items():
        if label == condition and {f'{gas}_po2', 'resting_po2'} <= set(known):
            return arterial_t1(
                rest,
                po2=known[f'{gas}_po2'],
                resting_po2=known['resting_po2'],
                relaxivity=graph.settings.oxygen.oxygen_relaxivity,
            )
    return rest


def _within_series(graph: Graph, series: Any, condition: str | None) -> dict[str, Any]:
    """Entries of the sidecar of a condition of a task within the series, or of a gas."""
    t1 = _arterial_t1(graph, condition)
    is_moved = t1 != t1_blood(graph.inputs, graph.settings)
    about: dict[str, Any] = {'ArterialT1WithGas': round(t1, 4)} if is_moved else {}
    return about | ({'ConditionsWithinSeries': True} if series.events else {})


def _compare_runs(graph: Graph, groups: dict[str | None, list[AlignedScan]]) -> list[MapPort]:
    """Tables that tell whether repeated scans of a condition differ by more than their errors."""
    tables = []
    for condition, scans in groups.items():
        if len(scans) > 1 and ('cbf', condition) in graph.maps and graph.has_anatomy:
            node = graph.maps['cbf', condition].node
            node.inputs.condition = condition or ''
            tables.append(MapPort(node, 'table'))
    return tables


def _save_quality(graph: Graph, sink: Sink, tables: list[MapPort]) -> None:
    """Join the quality tables of all scans and save them."""
    table = join_tables(graph, tables, 'quality')
    sink.add(table, 'cbf_quality', sidecar=_all_series_sidecar(graph))


def _all_series_sidecar(graph: Graph) -> dict[str, Any]:
    """Entries of a file that is made from all ASL series."""
    series = graph.inputs.asl
    return {
        'Sources': graph.sources(one.file for one in series),
        **graph.parameters_of('cbf', cbf_model(series[0], graph.settings)),
    }


def _share_arrival(
    graph: Graph,
    scans: dict[str | None, AlignedScan],
    models: dict[str, Workflow],
    constants: PerfusionConstants,
) -> None:
    """Replace the maps of each condition by those of a fit with one arrival time."""
    shared = init_shared_arrival_wf(
        series=[scan.series for scan in scans.values()],
        settings=graph.settings.perfusion,
        constants=constants,
    )
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, shared, [(port, 'inputnode.mask'),
                        ('outputnode.transform', 'inputnode.target_transform')]),
    ])  # fmt: skip
    for name in ('difference', 'm0', 'delay', 'source_transform'):
        sources = [
            MapPort(graph.alignment[scan.name], 'transform')
            if name == 'source_transform'
            else MapPort(models[scan.name], name)
            for scan in scans.values()
        ]
        connect_list(graph, sources, shared, name, f'shared_{name}')
    for index, condition in enumerate(scans):
        for quantity in ('cbf', 'cbf_without_m0'):
            if (quantity, condition) in graph.maps:
                graph.maps[quantity, condition] = MapPort(shared, quantity, index)
        del graph.maps['att', condition]
    graph.maps['att', None] = MapPort(shared, 'att')


def _save_perfusion(
    graph: Graph, sink: Sink, condition: str | None, scans: list[AlignedScan]
) -> None:
    """Save the maps of one condition."""
    files = [scan.series.file for scan in scans]
    files += [scan.series.m0.file for scan in scans if scan.series.m0.kind == 'Separate']
    series = scans[0].series
    parameters = graph.parameters_of('cbf', cbf_model(series, graph.settings))
    sidecar = {
        'Sources': graph.sources(files),
        **parameters,
        'ArterialSpinLabelingType': series.label_type,
        'M0Type': series.m0.kind,
        **_within_series(graph, series, condition),
    }
    if series.events:
        sidecar['Sources'] += graph.sources([series.events_file])
    at: dict[str, Any] = {'condition': condition, 'sidecar': sidecar}
    for port in ('cbf', 'relative_cbf', 'att', 'abv', 'grey_cbf', 'white_cbf'):
        if (port, condition) in graph.maps:
            save_map(graph, sink, graph.maps[port, condition], label_of(port), **at)
    if not all(scan.series.m0.shared for scan in scans):
        graph.maps.pop(('m0_relative', condition), None)
    if ('m0_relative', condition) in graph.maps:
        _save_m0_error(graph, sink, condition, sidecar)
    if ('effective_delay', condition) in graph.maps:
        delay = graph.maps['effective_delay', condition]
        sink.add(delay, 'effective_delay', space=graph.space, **at)
    if ('half_difference', condition) in graph.maps:
        half = graph.maps['half_difference', condition]
        name = '_'.join(part for part in ('test_half_difference', condition) if part)
        test = pe.Node(ComputeStatistics(), name=name)
        mask, port = graph.mask
        graph.workflow.connect([(mask, test, [(port, 'mask')])])
        connect_quantity(graph.workflow, half, test, 'quantity')
        sink.add(MapPort(test, 'change_z'), 'half_difference', space=graph.space, **at)


def _save_m0_error(
    graph: Graph, sink: Sink, condition: str | None, sidecar: dict[str, Any]
) -> None:
    """Save apart the error that conditions with one M0 share, for a later replay."""
    at: dict[str, Any] = {'space': graph.space, 'condition': condition, 'sidecar': sidecar}
    for name, quantity in (('cbf_without_m0', 'cbfWithoutM0'), ('m0_relative', 'relativeM0')):
        source = graph.maps[name, condition]
        sink.add(source, 'variance', part='variance', quantity=quantity, **at)
