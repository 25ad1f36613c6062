"""Oxygen extraction fraction and metabolic rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bids_app.bids.run.feasible import is_by_ase, oef_model
from bids_app.workflows._engine import Quantity
from bids_app.workflows.constants import constants_table, sidecar_parameters
from bids_app.workflows.oxygen import init_cmro2_wf, init_oef_wf, init_qbold_wf
from bids_app.workflows.wiring.scans import (
    add_per_condition,
    connect_derived,
    derived_sidecar,
    save_map,
)

if TYPE_CHECKING:
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph, Scan


def add_oxygen(graph: Graph) -> None:
    """Add OEF and CMRO2 of every condition and save them."""
    inputs, settings = graph.inputs, graph.settings.oxygen
    sink = graph.sink('save_oxygen')
    steps = (
        ('oef', init_oef_wf, ('r2_prime', 'cbv'), oef_model(inputs, graph.settings)),
        ('cmro2', init_cmro2_wf, ('cbf', 'oef'), settings.cmro2_model),
    )
    by_ase = is_by_ase(inputs, graph.settings)
    if by_ase and inputs.saved is None:
        _add_qbold(graph, sink)
    numbers = {'oef': (inputs.b0, inputs.hct), 'cmro2': (inputs.sao2,)}
    for quantity, init, needs, model in steps[1:] if by_ase else steps:
        if any(math.isnan(number) for number in numbers[quantity]):
            continue  # a problem that the inputs name
        for condition in graph.conditions(*needs):
            name = '_'.join(part for part in ('compute', quantity, condition) if part)
            derived = init(inputs=inputs, settings=settings, model=model, name=name)
            connect_derived(graph, derived, needs, condition)
            graph.maps[quantity, condition] = Quantity(derived, quantity)
            sidecar = derived_sidecar(graph, quantity, model, needs, condition)
            source = graph.maps[quantity, condition]
            save_map(graph, sink, source, quantity, quantity, condition=condition, sidecar=sidecar)
    graph.close(sink)


def _add_qbold(graph: Graph, sink: Sink) -> None:
    """Add OEF and R2' of every asymmetric spin echo, and save them."""
    inputs, model = graph.inputs, oef_model(graph.inputs, graph.settings)
    if math.isnan(inputs.b0) or math.isnan(inputs.hct):
        return  # a problem that the inputs name

    def build(scan: Scan) -> Workflow:
        return init_qbold_wf(
            series=scan.series,
            inputs=inputs,
            settings=graph.settings.oxygen,
            model=model,
            name=f'model_{scan.name}',
        )

    found = {key: graph.maps[key] for key in graph.maps if key[0] == 'r2_prime'}
    groups = add_per_condition(graph, 'ase', ('oef', 'r2_prime'), build, ('noise_groups',))
    graph.maps.update(found)
    table = constants_table(inputs, graph.settings)
    for condition, scans in groups.items():
        sidecar = {
            'Sources': graph.sources(scan.series.file for scan in scans),
            **sidecar_parameters('oef', model, table),
        }
        at: dict[str, Any] = {'condition': condition, 'sidecar': sidecar}
        save_map(graph, sink, graph.maps['oef', condition], 'oef', 'oef', **at)
        if found:  # that of the multi-echo scans has the name already
            continue
        rate = graph.maps['r2_prime', condition]
        save_map(graph, sink, rate, 'R2primemap', 'R2prime', **at)
