"""Oxygen extraction fraction and metabolic rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bids_app.bids.capabilities import cbv_model
from bids_app.workflows._engine import Quantity
from bids_app.workflows.branches.scans import connect_derived, derived_sidecar, save_map
from bids_app.workflows.oxygen import init_cmro2_wf, init_oef_wf

if TYPE_CHECKING:
    from bids_app.workflows.graph import Graph


def add_oxygen(graph: Graph) -> None:
    """Add OEF and CMRO2 of every condition and save them."""
    inputs, settings = graph.inputs, graph.settings.oxygen
    variant = cbv_model(inputs, graph.settings)
    sink = graph.sink('save_oxygen')
    steps = (
        ('oef', init_oef_wf, ('r2_prime', 'cbv'), settings.oef_model),
        ('cmro2', init_cmro2_wf, ('cbf', 'oef'), settings.cmro2_model),
    )
    keys = {'r2_prime': 'R2primemap'}
    numbers = {'oef': (inputs.b0, inputs.hct), 'cmro2': (inputs.sao2,)}
    for quantity, init, needs, model in steps:
        if any(math.isnan(number) for number in numbers[quantity]):
            continue  # a problem that the inputs name
        for condition in graph.conditions(*needs):
            name = '_'.join(part for part in ('compute', quantity, condition) if part)
            derived = init(inputs=inputs, settings=settings, name=name)
            connect_derived(graph, derived, needs, condition)
            graph.maps[quantity, condition] = Quantity(derived, quantity)
            parents = [
                (
                    keys.get(need, need),
                    need,
                    {'condition': condition} | ({'variant': variant} if need == 'cbv' else {}),
                )
                for need in needs
            ]
            sidecar = derived_sidecar(graph, quantity, model, parents)
            source = graph.maps[quantity, condition]
            save_map(graph, sink, source, quantity, quantity, condition=condition, sidecar=sidecar)
    graph.close(sink)
