"""What changes between the conditions of a contrast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import map_of_user
from bids_app.bids.run.feasible import cbv_model, is_by_ase
from bids_app.interfaces.change import ComputeSignificance
from bids_app.workflows._engine import Quantity, connect_quantity, pe
from bids_app.workflows.change import CHALLENGE, EXTRAS, INTERFACES, ChangePlan, init_change_wf
from bids_app.workflows.constants import branch_parameters, constants_table
from bids_app.workflows.oxygen import cao2_of, rate_of
from bids_app.workflows.wiring.scans import smooth

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.scans import Contrast
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph


def plan_change(graph: Graph, contrast: Contrast) -> ChangePlan:
    """Decide which changes a contrast can have: what was measured in both of its conditions."""
    both = (contrast.task, contrast.baseline)

    def per_condition(quantity: str) -> bool:
        return all((quantity, condition) in graph.maps for condition in both)

    def known(quantity: str) -> bool:
        return all(graph.has(quantity, condition) for condition in both)

    has_r2_prime = per_condition('r2_star') and known('r2')
    by_ase = is_by_ase(graph.inputs, graph.settings) and per_condition('oef')
    r2_prime_by_ase = by_ase and not has_r2_prime
    has_oef = per_condition('oef') and (by_ase or has_r2_prime)
    available = {
        'cbf': per_condition('cbf'),
        'R2prime': has_r2_prime or (r2_prime_by_ase and per_condition('r2_prime')),
        'cbv': per_condition('cbv'),
        'oef': has_oef,
        'cmro2': per_condition('cbf') and has_oef and known('cmro2'),
    }
    route = graph.settings.change.route
    if route != 'quantitative':
        available['cmro2'] = _has_bold_route(graph, contrast, route)
    volume = graph.settings.blood_volume
    is_carried = ('cbv', contrast.task) in graph.maps and not per_condition('cbv')
    is_grubb = cbv_model(graph.inputs, graph.settings) == 'grubb' or (
        is_carried and volume.task_change == 'grubb'
    )
    return ChangePlan(
        quantities=tuple(name for name in INTERFACES if available[name]),
        cbv_shared=known('cbv') and not per_condition('cbv'),
        cbv_carried=is_carried,
        cbv_exponent=volume.grubb_exponent if is_grubb else 0.0,
        r2_shared=('r2', None) in graph.maps,
        by_ase=by_ase,
        r2_prime_by_ase=r2_prime_by_ase,
        m0_shared=known('m0_relative'),
        settings=graph.settings.change,
        davis_map=_davis_map(graph),
        echo_time=graph.bold_echo_times.get(contrast.label, 0.0),
        rate=(
            rate_of(graph.inputs, graph.settings.oxygen)
            if available['oef'] or available['cmro2']
            else 0.0
        ),
        cao2=cao2_of(graph.inputs, graph.settings.oxygen) if available['cmro2'] else 0.0,
    )


def _davis_map(graph: Graph) -> Path | None:
    """Path of the given maximum of BOLD of this unit."""
    pattern = graph.settings.change.davis_maximum_map
    if pattern is None:
        return None
    return map_of_user(pattern, 'change.davis_maximum_map', graph.inputs)


def _gas_contrast(graph: Graph, contrast: Contrast) -> Contrast:
    """Contrast of the gas challenge with the same baseline."""
    gas = graph.settings.change.hypercapnia or ''
    return replace(contrast, task=gas)


def _has_gas(graph: Graph, contrast: Contrast) -> bool:
    """Tell whether the gas challenge was measured, where one is named."""
    gas = _gas_contrast(graph, contrast)
    return ('cbf', gas.task) in graph.maps and ('boldPct', gas.label) in graph.changes


def _has_bold_route(graph: Graph, contrast: Contrast, route: str) -> bool:
    """Tell whether a contrast has what a route through BOLD needs."""
    both = (contrast.task, contrast.baseline)
    has_flow = all(('cbf', condition) in graph.maps for condition in both)
    has_task = route != 'combined' or ('r2_star', contrast.task) in graph.maps
    needs_gas = route == 'davis' and graph.settings.change.hypercapnia is not None
    return (
        has_flow
        and has_task
        and (not needs_gas or _has_gas(graph, contrast))
        and graph.has('r2_star', contrast.baseline)
        and graph.has('cmro2', contrast.baseline)
        and contrast.label in graph.bold_halves
        and graph.bold_echo_times.get(contrast.label, 0.0) > 0
    )


def add_changes(graph: Graph) -> None:
    """Add the changes of every contrast and save them."""
    sinks = {one: graph.sink(f'save_{one.label}') for one in graph.inputs.contrasts}
    for contrast, sink in sinks.items():
        if ('boldPct', contrast.label) in graph.changes:
            _add_bold_test(graph, sink, contrast)
    for contrast, sink in sinks.items():
        plan = plan_change(graph, contrast)
        if plan.quantities:
            change = init_change_wf(plan=plan, name=f'change_{contrast.label}')
            _connect_change(graph, change, plan, contrast)
            for quantity in plan.quantities:
                source = Quantity(change, quantity)
                graph.changes[quantity, contrast.label] = (source, None)
                graph.origins[quantity, contrast.label] = _origin(graph, plan, contrast, quantity)
                _save_change(graph, sink, contrast, quantity, _extra_ports(source, quantity))
        graph.close(sink)


def _connect_change(graph: Graph, change: Workflow, plan: ChangePlan, contrast: Contrast) -> None:
    """Connect the primitive maps of both conditions, smoothed where that was asked for."""
    mask, port = graph.mask
    graph.workflow.connect([(mask, change, [(port, 'inputnode.mask')])])
    for primitive in plan.primitives:
        source = _source(graph, contrast, primitive)
        if plan.m0_shared and primitive.endswith('_cbf'):
            _, condition = _primitive(graph, contrast, primitive)
            source = graph.lookup('cbf_without_m0', condition)
        if 'bold' not in primitive:
            source = smooth(graph, source, f'{contrast.label}_{primitive}')
        connect_quantity(graph.workflow, source, change, primitive)
    if plan.m0_shared:
        m0 = graph.lookup('m0_relative', contrast.baseline)
        connect_quantity(graph.workflow, m0, change, 'm0_relative')
    for quantity in plan.quantities:
        name = {'R2prime': 'r2_prime'}.get(quantity, quantity)
        baseline = graph.lookup(name, contrast.baseline)
        connect_quantity(graph.workflow, baseline, change, f'reference_{quantity}')


def _primitive(graph: Graph, contrast: Contrast, name: str) -> tuple[str, str]:
    """Quantity and condition behind the name of a primitive map."""
    of = _gas_contrast(graph, contrast) if name in CHALLENGE else contrast
    role, _, quantity = name.replace('challenge', 'task').partition('_')
    return (quantity, getattr(of, role)) if quantity else (name, of.task)


def _source(graph: Graph, contrast: Contrast, primitive: str) -> Quantity:
    """Find the map behind the name of a primitive map."""
    if primitive == 'bold':
        return graph.bold_halves[contrast.label][1]
    if primitive == 'challenge_bold':
        return graph.changes['boldPct', _gas_contrast(graph, contrast).label][0]
    return graph.lookup(*_primitive(graph, contrast, primitive))


def _origin(graph: Graph, plan: ChangePlan, contrast: Contrast, quantity: str) -> dict[str, Any]:
    """Say what a change is made from, and by which model of its quantity."""
    sources = [_source(graph, contrast, primitive) for primitive in plan.needs(quantity)]
    name = {'R2prime': 'r2_prime'}.get(quantity, quantity)
    model = graph.model_of(graph.lookup(name, contrast.baseline))
    if quantity == 'cmro2' and plan.settings.route != 'quantitative':
        table = constants_table(graph.inputs, graph.settings)
        own = branch_parameters(quantity, plan.settings.route, 'change', table)
        own['ModelParameters'] |= model['ModelParameters']
        model = own
    return graph.made_from(*sources) | model


def _extra_ports(source: Quantity, quantity: str) -> dict[str, Quantity]:
    """Ports of z, p and percent beside a change."""
    return {part: Quantity(source.node, f'{quantity}{part}') for part in EXTRAS}


def contrast_sidecar(graph: Graph, contrast: Contrast) -> dict[str, Any]:
    """Entries every file of a contrast carries."""
    fwhm = graph.settings.change.fwhm
    return {
        'Contrast': {'Task': contrast.task, 'Baseline': contrast.baseline},
        **({'SmoothingFWHM': fwhm} if fwhm else {}),
    }


def _save_change(
    graph: Graph, sink: Sink, contrast: Contrast, quantity: str, extras: dict[str, Quantity]
) -> None:
    """Save effect, variance, z and p, and percent where there is one."""
    source, task = graph.changes[quantity, contrast.label]
    at: dict[str, Any] = {
        'space': graph.space,
        'contrast': contrast.label,
        'quantity': quantity,
        'sidecar': contrast_sidecar(graph, contrast) | graph.origins[quantity, contrast.label],
    }
    echo_time = graph.bold_echo_times.get(contrast.label)
    if quantity == 'boldPct' and echo_time:
        at['sidecar']['EchoTime'] = echo_time
    by_task = {**at, 'task': task}
    sink.add(source, 'contrast', statistic='effect', **by_task)
    sink.add(source, 'contrast', part='variance', statistic='variance', **by_task)
    sink.add(extras['_z'], 'contrast', statistic='z', **by_task)
    sink.add(extras['_p'], 'contrast', statistic='p', **by_task)
    if '_percent' in extras:
        sink.add(extras['_percent'], 'contrast_percent', **at)


def _add_bold_test(graph: Graph, sink: Sink, contrast: Contrast) -> None:
    """Add z and p of a BOLD change and save it, with its halves where they are used."""
    about = graph.origins['boldPct', contrast.label]
    source, task = graph.changes['boldPct', contrast.label]
    halves = graph.bold_halves.get(contrast.label, ())
    if source in halves:
        halves = ()  # both are the whole
    for half, name in zip(halves, ('boldGatePct', 'boldEstimatePct'), strict=False):
        for part, statistic in (('value', 'effect'), ('variance', 'variance')):
            sink.add(half, 'contrast', part=part, statistic=statistic, space=graph.space,
                     contrast=contrast.label, quantity=name, task=task,
                     sidecar=contrast_sidecar(graph, contrast) | about)  # fmt: skip
    test = pe.Node(ComputeSignificance(), name=f'test_bold_{contrast.label}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, test, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, test, 'quantity')
    extras = {'_z': Quantity(test, 'z'), '_p': Quantity(test, 'p')}
    _save_change(graph, sink, contrast, 'boldPct', extras)
