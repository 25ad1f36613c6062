"""What changes between the conditions of a contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import gas_conditions
from bids_app.bids.input.files import map_of_user
from bids_app.bids.output.names import label_of
from bids_app.bids.run.feasible import cbv_model, derived_models
from bids_app.interfaces.change import ComputeStatistics
from bids_app.models.contrast.difference import STATISTICS, maps_behind
from bids_app.models.registry import GAS_MAPS, MODELS
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.change import BOLD_ROUTE, CHANGES, ChangePlan, init_change_wf
from bids_app.workflows.constants import branch_parameters
from bids_app.workflows.wiring.scans import smooth

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.scans import Contrast
    from bids_app.settings import ChangeSettings
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph


BOLD_CHANGES = ('boldPct', 'boldR2star', 'boldS0Pct')
"""Changes that the BOLD runs alone give; the last two where they have several echoes."""

MAY_BE_SHARED = ('r2', 'cbv', 'cbf')
"""Maps of which one may serve both conditions: what is left still tells a change of R2'."""


def plan_change(graph: Graph, contrast: Contrast) -> ChangePlan:
    """Decide which changes a contrast can have: what was measured in both of its conditions."""
    both = (contrast.task, contrast.baseline)
    settings, models = graph.settings, chain_models(graph)

    def per_condition(quantity: str) -> bool:
        return all((quantity, condition) in graph.maps for condition in both)

    def known(quantity: str) -> bool:
        return all(graph.has(quantity, condition) for condition in both)

    behind = {name: maps_behind(name, models, known) for name in CHANGES}
    own = {'cbf': 'cbf', 'cbv': 'cbv', 'oef': 'oef', 'cmro2': 'cbf'}
    can = {
        name: known(name)
        and (name not in own or per_condition(own[name]))
        and all(known(x) if x in MAY_BE_SHARED else per_condition(x) for x in behind[name])
        for name in CHANGES
    }
    is_by_bold = settings.change.route != 'quantitative'
    if is_by_bold:
        can['cmro2'] = _has_bold_route(graph, contrast, settings.change.route)
    volume = settings.blood_volume
    is_carried = ('cbv', contrast.task) in graph.maps and not per_condition('cbv')
    by_flow = is_carried and volume.task_change == 'grubb'
    is_grubb = by_flow or cbv_model(graph.inputs, settings) == 'grubb'
    sources = {name: _ports(names, both, graph) for name, names in behind.items() if can[name]}
    if by_flow:  # the flows carried the volume: their errors are in it
        sources = {name: _with_flows(names) for name, names in sources.items()}
    if is_by_bold and can['cmro2']:
        one_volume = (not per_condition('cbv') or is_grubb) and not is_carried
        sources['cmro2'] = (
            _davis_sources(graph, contrast)
            if settings.change.route == 'davis'
            else _bold_sources(settings.change, needs_volume=not one_volume)
        )
    constants = graph.constants
    return ChangePlan(
        sources=sources,
        shared=tuple(name for name in MAY_BE_SHARED if known(name) and not per_condition(name)),
        models=models,
        constants=constants,
        cbv_exponent=volume.grubb_exponent if by_flow else 0.0,
        cbv_shared=known('cbv') and not per_condition('cbv'),
        m0_shared=known('m0_relative'),
        is_scaled=graph.venous_blood is not None,
        within_scan=('cbf',) if _is_within_series(graph, both) else (),
        settings=settings.change,
        davis_map=_davis_map(graph),
        echo_time=graph.bold_echo_times.get(contrast.label, 0.0),
        static_dephasing_constant=constants['static_dephasing_constant']
        if is_by_bold and can['cmro2']
        else 0.0,
    )


def _is_within_series(graph: Graph, both: tuple[str, str]) -> bool:
    """Tell whether the blood flow of both conditions comes from one series."""
    files = [
        {one.file for one in graph.inputs.asl if one.condition == condition} for condition in both
    ]
    return files[0] == files[1] != set()


def chain_models(graph: Graph) -> dict[str, str]:
    """Name the row of the registry of every quantity that is made from other maps."""
    models = derived_models(graph.inputs, graph.settings)
    volume = cbv_model(graph.inputs, graph.settings)
    return models | ({'cbv': volume} if volume in MODELS['cbv'] else {})


def _ports(names: tuple[str, ...], both: tuple[str, str], graph: Graph) -> tuple[str, ...]:
    """Name the maps of both conditions, and once what serves both."""
    ports: list[str] = []
    for name in names:
        own = [(name, condition) in graph.maps for condition in both]
        ports += [f'task_{name}', f'baseline_{name}'] if any(own) else [name]
    return tuple(ports)


def _with_flows(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the flows to what leans on a blood volume that they carried."""
    flows = ('task_cbf', 'baseline_cbf') if 'task_cbv' in names else ()
    return tuple(dict.fromkeys((*flows, *names)))


def _bold_sources(settings: ChangeSettings, *, needs_volume: bool) -> tuple[str, ...]:
    """Name the maps of a change of CMRO2 that leans on BOLD."""
    own = ('task_cbv',) if needs_volume else ()
    both = ('task_r2_star',) if settings.route == 'combined' else ()
    return (*BOLD_ROUTE, *both, *own)


def _davis_sources(graph: Graph, contrast: Contrast) -> tuple[str, ...]:
    """Name the maps of a change of CMRO2 by the Davis model; none where one is not there."""
    models, rest = chain_models(graph), contrast.baseline
    change = graph.settings.change

    def known(name: str) -> bool:
        return graph.has(name, rest)

    is_given = (change.davis_maximum, change.davis_maximum_map) != (None, None)
    wanted = ('cmro2',) if is_given else ('cmro2', 'bold_maximum')
    behind = dict.fromkeys(name for one in wanted for name in maps_behind(one, models, known))
    if not all(known(name) for name in behind):
        return ()
    if 'resting_cbf' in behind and graph.lookup('resting_cbf', rest) == graph.lookup('cbf', rest):
        del behind['resting_cbf']  # one map, one error
    return ('bold', 'task_cbf', *(f'baseline_{name}' for name in {'cbf': None, **behind}))


def _davis_map(graph: Graph) -> Path | None:
    """Path of the given maximum of BOLD of this unit."""
    pattern = graph.settings.change.davis_maximum_map
    if pattern is None:
        return None
    return map_of_user(pattern, 'change.davis_maximum_map', graph.inputs)


def _has_bold_route(graph: Graph, contrast: Contrast, route: str) -> bool:
    """Tell whether a contrast has what a route through BOLD needs."""
    both = (contrast.task, contrast.baseline)
    can = (
        all(('cbf', condition) in graph.maps for condition in both)
        and graph.has('cmro2', contrast.baseline)
        and contrast.label in graph.bold_halves
    )
    has_echo_time = graph.bold_echo_times.get(contrast.label, 0.0) > 0
    if not can or contrast.task in gas_conditions(graph.settings).values():
        return False  # a gas is taken not to change CMRO2, or to change it as the settings say
    if route == 'davis':
        by_echo_time = chain_models(graph)['bold_maximum'] == 'r2-prime'
        return bool(_davis_sources(graph, contrast)) and (has_echo_time or not by_echo_time)
    has_task = route != 'combined' or ('r2_star', contrast.task) in graph.maps
    return has_task and has_echo_time and graph.has('r2_star', contrast.baseline)


def add_changes(graph: Graph) -> None:
    """Add the changes of every contrast and save them."""
    sinks = {one: graph.sink(f'save_{one.label}') for one in graph.inputs.contrasts}
    for contrast, sink in sinks.items():
        for quantity in BOLD_CHANGES:
            if (quantity, contrast.label) in graph.changes:
                _add_bold_test(graph, sink, contrast, quantity)
    for contrast, sink in sinks.items():
        plan = plan_change(graph, contrast)
        if plan.sources:
            change = init_change_wf(plan=plan, name=f'change_{contrast.label}')
            _connect_change(graph, change, plan, contrast)
            for quantity in plan.sources:
                source = MapPort(change, quantity)
                graph.changes[quantity, contrast.label] = (source, None)
                graph.origins[quantity, contrast.label] = _origin(graph, plan, contrast, quantity)
                _save_change(graph, sink, contrast, quantity, change)
        graph.close(sink)


def _connect_change(graph: Graph, change: Workflow, plan: ChangePlan, contrast: Contrast) -> None:
    """Connect the primitive maps of both conditions, smoothed where that was asked for."""
    mask, port = graph.mask
    graph.workflow.connect([(mask, change, [(port, 'inputnode.mask')])])
    for name in plan.ports:
        source = _source(graph, contrast, name)
        quantity, condition = _map_behind(contrast, name)
        if plan.m0_shared and quantity == 'cbf':
            source = graph.lookup('cbf_without_m0', condition)
        if name != 'bold' and quantity not in GAS_MAPS:
            source = smooth(graph, source, f'{contrast.label}_{name}')
        connect_quantity(graph.workflow, source, change, name)
    if plan.m0_shared:
        m0 = graph.lookup('m0_relative', contrast.baseline)
        connect_quantity(graph.workflow, m0, change, 'm0_relative')
    if graph.venous_blood is not None:
        connect_quantity(graph.workflow, graph.venous_blood, change, 'venous_blood')
    for quantity in plan.sources:
        baseline = graph.lookup(quantity, contrast.baseline)
        connect_quantity(graph.workflow, baseline, change, f'reference_{quantity}')


def _map_behind(contrast: Contrast, name: str) -> tuple[str, str]:
    """Quantity and condition behind the name of a map of a contrast."""
    role, _, quantity = name.partition('_')
    conditions = {'task': contrast.task, 'baseline': contrast.baseline}
    return (quantity, conditions[role]) if role in conditions else (name, contrast.baseline)


def _source(graph: Graph, contrast: Contrast, name: str) -> MapPort:
    """Find the map behind the name of a map of a contrast."""
    if name == 'bold':
        return graph.bold_halves[contrast.label][1]
    return graph.lookup_unscaled(*_map_behind(contrast, name))


def _origin(graph: Graph, plan: ChangePlan, contrast: Contrast, quantity: str) -> dict[str, Any]:
    """Say what a change is made from, and by which model of its quantity."""
    sources = [_source(graph, contrast, name) for name in plan.sources[quantity]]
    model = graph.model_of(graph.lookup(quantity, contrast.baseline))
    if quantity == 'cmro2' and plan.settings.route != 'quantitative':
        own = branch_parameters(quantity, plan.settings.route, 'change', graph.table)
        own['ModelParameters'] |= model['ModelParameters']
        model = own
    return graph.made_from(*sources) | model


def contrast_sidecar(graph: Graph, contrast: Contrast) -> dict[str, Any]:
    """Entries every file of a contrast carries."""
    fwhm = graph.settings.change.fwhm
    return {
        'Contrast': {'Task': contrast.task, 'Baseline': contrast.baseline},
        **({'SmoothingFWHM': fwhm} if fwhm else {}),
    }


def _save_change(graph: Graph, sink: Sink, contrast: Contrast, quantity: str, node: Any) -> None:
    """Save effect, variance and statistics, and percent where the node makes it."""
    source, task = graph.changes[quantity, contrast.label]
    at: dict[str, Any] = {
        'space': graph.space,
        'contrast': contrast.label,
        'quantity': label_of(quantity),
        'sidecar': contrast_sidecar(graph, contrast) | graph.origins[quantity, contrast.label],
    }
    echo_time = graph.bold_echo_times.get(contrast.label)
    if quantity == 'boldPct' and echo_time:
        at['sidecar']['EchoTime'] = echo_time
    by_task = {**at, 'task': task}
    sink.add(source, 'contrast', statistic='effect', **by_task)
    sink.add(source, 'contrast', part='variance', statistic='variance', **by_task)
    start = quantity if source.node is node else 'change'
    for name in STATISTICS:
        sink.add(MapPort(node, f'{start}_{name}'), 'contrast', statistic=name, **by_task)
    if source.node is node:
        sink.add(MapPort(node, f'{quantity}_percent'), 'contrast_percent', **at)


def _add_bold_test(graph: Graph, sink: Sink, contrast: Contrast, quantity: str) -> None:
    """Add the statistics of a change of BOLD and save it, with its halves where they are used."""
    about = graph.origins[quantity, contrast.label]
    source, task = graph.changes[quantity, contrast.label]
    halves = graph.bold_halves.get(contrast.label, ()) if quantity == 'boldPct' else ()
    if source in halves:
        halves = ()  # both are the whole
    for half, name in zip(halves, ('boldGatePct', 'boldEstimatePct'), strict=False):
        for part, statistic in (('value', 'effect'), ('variance', 'variance')):
            sink.add(half, 'contrast', part=part, statistic=statistic, space=graph.space,
                     contrast=contrast.label, quantity=name, task=task,
                     sidecar=contrast_sidecar(graph, contrast) | about)  # fmt: skip
    test = pe.Node(ComputeStatistics(), name=f'test_{quantity}_{contrast.label}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, test, [(port, 'mask')])])
    connect_quantity(graph.workflow, source, test, 'quantity')
    _save_change(graph, sink, contrast, quantity, test)
