"""Cerebral blood volume, measured or assumed."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import output_path
from bids_app.bids.run.feasible import MEASURED_CBV, cbv_model
from bids_app.interfaces.dsc import CarryCBV
from bids_app.models.registry import MODELS
from bids_app.settings import parcel_file, parcel_tasks
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.blood_volume import (
    init_ase_cbv_wf,
    init_assumed_cbv_wf,
    init_dsc_wf,
    needs_artery,
    quantities_of,
)
from bids_app.workflows.wiring.anatomy import atlas_of
from bids_app.workflows.wiring.replay import saved_cbv_sources
from bids_app.workflows.wiring.scans import add_per_condition, connect_derived, save_map

if TYPE_CHECKING:
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


def add_blood_volume(graph: Graph) -> None:
    """Add CBV, measured or chosen, and save it."""
    settings = graph.settings.blood_volume
    model = cbv_model(graph.inputs, graph.settings)
    sink = graph.sink('save_blood_volume')
    if graph.inputs.saved is not None and model in MEASURED_CBV:
        sources = saved_cbv_sources(graph)
    elif model == 'arterial' or (model == 'dsc' and graph.has_anatomy):
        sources = _add_measured_cbv(graph, sink, model)
    elif model == 'ase':
        sources = _add_ase_cbv(graph)
    elif model in ('literature', 'grubb'):
        sources = _add_assumed_cbv(graph, model)
    else:
        return
    for condition, uris in sources.items():
        sidecar = {'Sources': uris} | graph.parameters_of('cbv', model)
        at: dict[str, Any] = {'condition': condition, 'variant': model, 'sidecar': sidecar}
        save_map(graph, sink, graph.maps['cbv', condition], 'cbv', **at)
    if model in MEASURED_CBV and settings.task_change != 'none':
        _carry_cbv(graph, sink, model)
    graph.close(sink)


def _add_measured_cbv(graph: Graph, sink: Sink, model: str) -> dict[str | None, list[str]]:
    """Add a CBV from every bolus series, and save what else is made of it."""
    settings = graph.settings.blood_volume
    constants = graph.constants
    models: dict[str, Workflow] = {}

    def build(scan: AlignedScan) -> Workflow:
        models[scan.name] = init_dsc_wf(
            series=scan.series,
            inputs=graph.inputs,
            settings=settings,
            haematocrit_factor=constants.get('haematocrit_factor', nan),
            model=model,
            is_target=scan is graph.target,
            name=f'model_{scan.name}',
        )
        return models[scan.name]

    ports = ('noise_groups', 'white_matter') if model == 'dsc' else ('noise_groups',)
    extras = quantities_of(settings)
    about = graph.parameters_of('cbv', model)
    groups = add_per_condition(graph, 'dsc', ('cbv', *extras), build, ports)
    sources = {}
    for condition, scans in groups.items():
        sources[condition] = graph.sources(scan.series.file for scan in scans)
        at: dict[str, Any] = {
            'condition': condition,
            'sidecar': {'Sources': sources[condition], **about},
        }
        for quantity in extras:
            save_map(graph, sink, graph.maps[quantity, condition], quantity, **at)
        curves = ('bolus_curve', *(('arterial_curve',) if needs_artery(model, settings) else ()))
        for curve in curves:
            sink.add(MapPort(models[scans[0].name], curve), curve, **at)
    return sources


def _carry_cbv(graph: Graph, sink: Sink, model: str) -> None:
    """Change a CBV that was measured once with every task, by the rule that was chosen."""
    settings = graph.settings.blood_volume
    for contrast in graph.inputs.contrasts:
        both = (contrast.task, contrast.baseline)
        has_flow = all(graph.has('cbf', condition) for condition in both)
        has_atlas = graph.has_template and graph.settings.atlas != 'none'
        tasks = parcel_tasks(settings) or (contrast.task,)
        can = has_flow if settings.task_change == 'grubb' else has_atlas and contrast.task in tasks
        if not can or any(('cbv', condition) in graph.maps for condition in both):
            continue
        carry = pe.Node(
            CarryCBV(
                rule=settings.task_change,
                task=contrast.task,
                grubb_exponent=settings.grubb_exponent,
            ),
            name=f'carry_cbv_{contrast.task}',
        )
        mask, port = graph.mask
        graph.workflow.connect([(mask, carry, [(port, 'mask')])])
        parents = [graph.maps['cbv', None]]
        connect_quantity(graph.workflow, parents[0], carry, 'cbv')
        if settings.task_change == 'grubb':
            for role, condition in zip(('task', 'baseline'), both, strict=True):
                parents.append(graph.lookup('cbf', condition))
                connect_quantity(graph.workflow, parents[-1], carry, f'{role}_cbf')
        else:
            carry.inputs.table = str(parcel_file(settings))
            atlas = atlas_of(graph)
            graph.workflow.connect([(atlas.node, carry, [(atlas.port, 'atlas')])])
        graph.maps['cbv', contrast.task] = MapPort(carry, 'cbv')
        sidecar = graph.made_from(*parents) | graph.model_of(parents[0])
        at: dict[str, Any] = {'condition': contrast.task, 'variant': model, 'sidecar': sidecar}
        save_map(graph, sink, graph.maps['cbv', contrast.task], 'cbv', **at)


def _add_assumed_cbv(graph: Graph, model: str) -> dict[str | None, list[str]]:
    """Add a CBV that was chosen: one for all from the literature, or one per CBF map."""
    is_literature = model == 'literature'
    if is_literature and not graph.has_anatomy:
        return {}
    conditions = [None] if is_literature else graph.conditions('cbf')
    sources: dict[str | None, list[str]] = {}
    for condition in conditions:
        name = '_'.join(part for part in ('assume_cbv', condition) if part)
        assumed = init_assumed_cbv_wf(settings=graph.settings.blood_volume, name=name)
        connect_derived(graph, assumed, MODELS['cbv'][model].maps, condition)
        align = graph.alignment[graph.target.name]
        tissue = [
            (f'outputnode.{port}', f'inputnode.{port}') for port in MODELS['cbv'][model].data
        ]
        if tissue:
            graph.workflow.connect([(align, assumed, tissue)])
        graph.maps['cbv', condition] = MapPort(assumed, 'cbv')
        at = {'space': graph.space, 'condition': condition}
        parent = (
            output_path('probseg', **graph.entities, label='GM')
            if is_literature
            else output_path('cbf', **graph.entities, **at)
        )
        sources[condition] = [f'bids::{parent}']
    return sources


def _add_ase_cbv(graph: Graph) -> dict[str | None, list[str]]:
    """Add the deoxygenated blood volume of every asymmetric spin echo."""

    def build(scan: AlignedScan) -> Workflow:
        return init_ase_cbv_wf(series=scan.series, name=f'volume_{scan.name}')

    groups = add_per_condition(graph, 'ase', ('cbv',), build, ('noise_groups',))
    return {
        condition: graph.sources(scan.series.file for scan in scans)
        for condition, scans in groups.items()
    }
