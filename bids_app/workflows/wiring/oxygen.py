"""Oxygen extraction fraction and metabolic rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import label_of
from bids_app.bids.run.feasible import bold_maximum_model, oef_model
from bids_app.models.registry import GAS_MAPS, MODELS
from bids_app.workflows.oxygen import init_qbold_wf
from bids_app.workflows.wiring.scans import add_derived, add_per_condition, save_map

if TYPE_CHECKING:
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


def add_oxygen(graph: Graph) -> None:
    """Add OEF and CMRO2 of every condition and save them."""
    sink = graph.sink('save_oxygen')
    model = oef_model(graph.inputs, graph.settings)
    if MODELS['oef'][model].maps:
        add_derived(graph, sink, 'oef', model)
    elif graph.inputs.saved is None:
        _add_qbold(graph, sink)
    add_derived(graph, sink, 'cmro2', graph.settings.oxygen.cmro2_model)
    maximum = bold_maximum_model(graph.inputs, graph.settings)
    if set(MODELS['bold_maximum'][maximum].maps) & set(GAS_MAPS):
        add_derived(graph, sink, 'bold_maximum', maximum)
    add_derived(graph, sink, 'cvr', 'cbf')
    graph.close(sink)


def _add_qbold(graph: Graph, sink: Sink) -> None:
    """Add OEF and R2' of every asymmetric spin echo, and save them."""
    model = oef_model(graph.inputs, graph.settings)
    constants = graph.constants
    if 'static_dephasing_constant' not in constants:
        return  # a problem that the inputs name

    def build(scan: AlignedScan) -> Workflow:
        return init_qbold_wf(
            series=scan.series,
            model=model,
            constants=constants,
            name=f'model_{scan.name}',
        )

    found = {key: graph.maps[key] for key in graph.maps if key[0] == 'r2_prime'}
    groups = add_per_condition(graph, 'ase', ('oef', 'r2_prime'), build, ('noise_groups',))
    graph.maps.update(found)
    for condition, scans in groups.items():
        sidecar = {
            'Sources': graph.sources(scan.series.file for scan in scans),
            **graph.parameters_of('oef', model),
        }
        at: dict[str, Any] = {'condition': condition, 'sidecar': sidecar}
        save_map(graph, sink, graph.maps['oef', condition], 'oef', **at)
        if found:  # that of the multi-echo scans has the name already
            continue
        rate = graph.maps['r2_prime', condition]
        save_map(graph, sink, rate, label_of('r2_prime'), **at)
