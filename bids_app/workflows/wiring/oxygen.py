"""Oxygen extraction fraction and metabolic rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import label_of
from bids_app.bids.run.feasible import bold_maximum_model, derived_models, oef_model
from bids_app.errors import InputDataError
from bids_app.interfaces.oxygen import NormaliseToVenousBlood
from bids_app.models.contrast.difference import maps_behind
from bids_app.models.registry import GAS_MAPS, MODELS
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.graph import UNSCALED
from bids_app.workflows.oxygen import init_qbold_wf, init_venous_blood_wf
from bids_app.workflows.wiring.scans import (
    add_derived,
    add_per_condition,
    connect_list,
    make_derived,
    save_derived,
    save_map,
)

if TYPE_CHECKING:
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


def add_oxygen(graph: Graph) -> None:
    """Add OEF and CMRO2 of every condition and save them."""
    sink = graph.sink('save_oxygen')
    model = oef_model(graph.inputs, graph.settings)
    if MODELS['oef'][model].maps:
        made = make_derived(graph, 'oef', model)
        add_venous_blood(graph, sink)
        for condition in made:
            if ('oef', condition) in graph.maps:
                save_derived(graph, sink, 'oef', model, condition)
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
    add_venous_blood(graph, sink)
    for condition, scans in groups.items():
        sidecar = {
            'Sources': graph.sources(scan.series.file for scan in scans),
            **graph.parameters_of('oef', model),
        }
        at: dict[str, Any] = {'condition': condition, 'sidecar': sidecar}
        if ('oef', condition) in graph.maps:
            save_map(graph, sink, graph.maps['oef', condition], 'oef', **at)
        if found:  # that of the multi-echo scans has the name already
            continue
        rate = graph.maps['r2_prime', condition]
        save_map(graph, sink, rate, label_of('r2_prime'), **at)


def add_venous_blood(graph: Graph, sink: Sink) -> None:
    """
    Compare OEF at baseline with venous blood, and scale OEF of all conditions where that is set.

    What is scaled keeps the map of its model beside it, from which changes are made; where the
    scale cannot be known, OEF is taken away.
    """
    is_applied = graph.settings.oxygen.oef_scale == 'venous'
    made = [key for key in graph.maps if key[0] == 'oef']
    compare = _compare_venous_blood(graph, sink, is_applied=is_applied)
    if compare is None and is_applied and made and graph.inputs.saved is not None:
        msg = (
            'oxygen.oef_scale = venous: the maps to replay lack grey matter, CBF or the '
            'saturation of venous blood; replay the first run, not a replay of it, and give '
            'oxygen.venous_saturation'
        )
        raise InputDataError(msg)
    for key in made if compare is None and is_applied else ():
        del graph.maps[key]
    if compare is None:
        return
    mask, port = graph.mask
    for key in made:
        name = '_'.join(part for part in ('scale_oef', key[1]) if part)
        node = pe.Node(NormaliseToVenousBlood(), name=name)
        graph.workflow.connect([
            (mask, node, [(port, 'mask')]),
            (compare, node, [('outputnode.comparison', 'comparison')]),
        ])  # fmt: skip
        connect_quantity(graph.workflow, graph.maps[key], node, 'quantity')
        graph.maps[UNSCALED, key[1]] = graph.maps[key]
        graph.maps[key] = MapPort(node, 'quantity')
    if is_applied:
        graph.venous_blood = MapPort(compare, 'comparison')


def _compare_venous_blood(graph: Graph, sink: Sink, *, is_applied: bool) -> Workflow | None:
    """Add the graph that compares; None where something it needs is not there."""
    known, rest = {one.name: one.value for one in graph.inputs.values}, graph.inputs.baseline
    names = ('venous_saturation', 'venous_saturation_error', 'sao2')
    has_maps = graph.has('oef', rest) and graph.has('cbf', rest) and graph.has_anatomy
    if not has_maps or not {f'oxygen.{name}' for name in names} <= set(known):
        return None
    compare = init_venous_blood_wf(
        numbers={name: known[f'oxygen.{name}'] for name in names},
        minimum_grey_matter=graph.settings.change.grey_matter,
        is_applied=is_applied,
    )
    align = graph.alignment[graph.target.name]
    taken = ('mask', 'grey_matter')
    graph.workflow.connect([
        (align, compare, [(f'outputnode.{name}', f'inputnode.{name}') for name in taken]),
    ])  # fmt: skip
    for name in ('oef', 'cbf'):
        connect_quantity(graph.workflow, graph.lookup(name, rest), compare, name)
    models = derived_models(graph.inputs, graph.settings)
    names_behind = maps_behind('oef', models, lambda name: graph.has(name, rest))
    behind = [graph.lookup(name, rest) for name in names_behind]
    connect_list(graph, behind, compare, 'behind', 'venous_blood')
    sidecar = graph.made_from(graph.lookup('cbf', rest)) | {'IsApplied': is_applied}
    sink.add(MapPort(compare, 'table'), 'venous_blood', sidecar=sidecar)
    return compare
