"""Maps of an earlier run in place of scans: where a replay starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bids_app.bids.output.names import output_path, scale_of
from bids_app.bids.products import PRODUCTS, Product
from bids_app.bids.run.feasible import is_by_ase, oef_model
from bids_app.bids.run.replay import read_sidecar
from bids_app.engines.templates import RESOLUTION
from bids_app.interfaces._base import TRAVELLING
from bids_app.interfaces.derivatives import LoadQuantity
from bids_app.interfaces.spatial import MapCoordinates
from bids_app.workflows._engine import MapPort, Workflow, pe, ports
from bids_app.workflows.anatomy import TEMPLATE, template_file
from bids_app.workflows.graph import TISSUE_LABELS
from bids_app.workflows.wiring.bold import use_all_blocks
from bids_app.workflows.wiring.gas import GAS_BOLD
from bids_app.workflows.wiring.oxygen import add_venous_blood
from bids_app.workflows.wiring.relaxometry import smooth_rate
from bids_app.workflows.wiring.scans import add_derived, save_map, smooth

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.scans import SavedMaps
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph

ALIGNMENT = 'saved'
"""Name of the one scan of a replay."""


def add_saved(graph: Graph) -> None:
    """Add what an earlier run saved, as if it had just been made, and save it again."""
    sink = graph.sink('save_saved')
    _add_grid(graph, sink)
    if graph.has_template:
        _add_template(graph, sink)
    for name in ('r2', 'r2_star'):
        _add_rates(graph, sink, PRODUCTS[name])
    add_derived(graph, sink, 'r2_prime', graph.settings.relaxometry.r2_prime_model)
    _add_flow(graph, sink)
    if is_by_ase(graph.inputs, graph.settings):
        _add_extraction(graph, sink)
    _add_volume(graph)
    _add_bold(graph)
    graph.close(sink)


def saved_cbv_sources(graph: Graph) -> dict[str | None, list[str]]:
    """Name the saved file behind every blood volume that was read back."""
    at = {'space': graph.space, 'variant': _saved(graph).cbv_model}
    return {
        condition: graph.sources([_path(graph, 'cbv', condition=condition, **at)])
        for quantity, condition in graph.maps
        if quantity == 'cbv'
    }


def _saved(graph: Graph) -> SavedMaps:
    """Give what the earlier run left; this branch is only built where there is one."""
    return cast('SavedMaps', graph.inputs.saved)


def _path(graph: Graph, key: str, **entities: str | None) -> Path:
    """Path of a saved file, whether it is there or not."""
    return _saved(graph).root / output_path(key, **graph.entities, **entities)


def _add_grid(graph: Graph, sink: Sink) -> None:
    """Add masks and tissue on the quantification grid, and the atlas."""
    at = {'space': graph.space}
    grid = Workflow(ALIGNMENT)
    outputnode = ports('outputnode', 'mask', 'transform', *TISSUE_LABELS.values())
    grid.add_nodes([outputnode])
    graph.alignment[graph.target.name] = grid
    named = {'mask': ('brain_mask', at)}
    named |= {port: ('probseg', {**at, 'label': label}) for label, port in TISSUE_LABELS.items()}
    for port, (key, entities) in named.items():
        path = _path(graph, key, **entities)
        if path.is_file():
            setattr(outputnode.inputs, port, str(path))
            sink.add(path, key, sidecar={'Sources': graph.sources([path])}, **entities)
    reference = _path(graph, 'reference', scan=graph.space)
    if reference.is_file():
        sidecar = {'Sources': graph.sources([reference])}
        sink.add(reference, 'reference', scan=graph.space, sidecar=sidecar)
    transform = _saved(graph).transform
    if transform is not None:
        outputnode.inputs.transform = str(transform)
    atlas = _path(graph, 'atlas', atlas=graph.settings.atlas, **at)
    if atlas.is_file():
        node = ports('saved_atlas', 'labels')
        node.inputs.labels = str(atlas)
        graph.workflow.add_nodes([node])
        graph.atlas = MapPort(node, 'labels')
        sink.add(graph.atlas, 'atlas', atlas=graph.settings.atlas,
                 sidecar={'Sources': graph.sources([atlas])}, **at)  # fmt: skip


def _add_template(graph: Graph, sink: Sink) -> None:
    """Add the way from the T1w image to the template, and what the group level needs of it."""
    anatomy = Workflow('anatomy')
    outputnode = ports('outputnode', 'coordinates')
    locate = pe.Node(
        MapCoordinates(
            transform=str(_saved(graph).to_template),
            reference=template_file('desc-brain_mask'),
        ),
        name='map_template_to_t1w',
    )
    anatomy.connect([(locate, outputnode, ['coordinates'])])
    graph.anatomy = anatomy
    at = {'space': TEMPLATE, 'res': RESOLUTION}
    for key, entities in (('brain_mask', at), ('probseg', {**at, 'label': 'GM'})):
        path = _path(graph, key, **entities)
        sink.add(path, key, sidecar={'Sources': graph.sources([path])}, **entities)


def _load(
    graph: Graph,
    name: str,
    key: str,
    quantity: str,
    condition: str | None = None,
    *,
    variance: str | None = None,
    is_time: bool = False,
    **entities: str | None,
) -> MapPort | None:
    """Read value, variance and status of a saved map, if it is there."""
    at = {'space': graph.space, 'condition': condition}
    value = _path(graph, key, **at, **entities)
    spread = _path(graph, 'variance', quantity=variance or quantity, **at)
    if not (value.is_file() and spread.is_file()):
        return None
    factor = dict(_saved(graph).scales).get(quantity, 1.0) / scale_of(key, **entities)
    load = LoadQuantity(
        value=str(value),
        variance=str(spread),
        status=str(_path(graph, 'status', quantity=quantity, **at)),
        sidecar=_sidecar(value),
        scale=factor,
        is_time=is_time,
    )
    return _read(graph, load, '_'.join(part for part in (name, condition) if part))


def _sidecar(path: Path) -> dict[str, Any]:
    """Entries of a sidecar that travel with a map."""
    return {key: value for key, value in read_sidecar(path).items() if key in TRAVELLING}


def _read(graph: Graph, interface: LoadQuantity, name: str) -> MapPort:
    """Add the node that reads a map."""
    node = pe.Node(interface, name=f'load_{name}')
    mask, port = graph.mask
    graph.workflow.connect([(mask, node, [(port, 'mask')])])
    return MapPort(node, 'quantity')


def _labels(graph: Graph) -> tuple[str | None, ...]:
    """Conditions a map may be saved for: none, or each."""
    return (None, *graph.inputs.conditions)


def _add_rates(graph: Graph, sink: Sink, product: Product) -> None:
    """Add R2 or R2* from the saved times, and save these again."""
    name, key, quantity = product.quantity, product.row, product.label
    width = graph.settings.relaxometry.smoothing
    for condition in _labels(graph):
        rate = _load(graph, name, key, quantity, condition, is_time=True)
        if rate is None:
            continue
        for row, of in ((key, None), ('variance', quantity), ('status', quantity)):
            at: dict[str, Any] = {'space': graph.space, 'condition': condition, 'quantity': of}
            path = _path(graph, row, **at)
            about = read_sidecar(path) | {'Sources': graph.sources([path])}
            sink.add(path, row, sidecar=about, **at)
        at = {**graph.entities, 'space': graph.space, 'condition': condition}
        about = read_sidecar(_path(graph, key, space=graph.space, condition=condition))
        graph.saved[rate.key] = {'key': key, 'entities': at, 'sidecar': about}
        label = '_'.join(part for part in (name, condition) if part)
        graph.maps[name, condition] = smooth_rate(graph, rate, label, width) if width else rate


def _add_extraction(graph: Graph, sink: Sink) -> None:
    """Add OEF and R2' of an asymmetric spin echo, which are not made from other maps."""
    parameters = graph.parameters_of('oef', oef_model(graph.inputs, graph.settings))
    found: list[tuple[str, str | None]] = []
    for name in ('oef', 'r2_prime'):
        key, quantity = PRODUCTS[name].row, PRODUCTS[name].label
        for condition in _labels(graph):
            made = _load(graph, name, key, quantity, condition)
            if made is None or (name, condition) in graph.maps:
                continue
            graph.maps[name, condition] = made
            found.append((name, condition))
    add_venous_blood(graph, sink)
    for name, condition in found:
        if (name, condition) in graph.maps:
            key, quantity = PRODUCTS[name].row, PRODUCTS[name].label
            path = _path(graph, key, space=graph.space, condition=condition)
            sidecar = {'Sources': graph.sources([path])} | parameters
            made = graph.maps[name, condition]
            save_map(graph, sink, made, quantity, condition=condition, sidecar=sidecar)


def _add_flow(graph: Graph, sink: Sink) -> None:
    """Add CBF, and the error of an M0 that conditions share."""
    for condition in _labels(graph):
        flow = _load(graph, 'cbf', 'cbf', 'cbf', condition)
        if flow is None:
            continue
        graph.maps['cbf', condition] = flow
        path = _path(graph, 'cbf', space=graph.space, condition=condition)
        model = read_sidecar(path)['Model']['Name']
        sidecar = {'Sources': graph.sources([path])} | graph.parameters_of('cbf', model)
        save_map(graph, sink, flow, 'cbf', condition=condition, sidecar=sidecar)
        _add_m0_error(graph, condition)


def _add_m0_error(graph: Graph, condition: str | None) -> None:
    """Add CBF without the error of M0, and that error apart."""
    own = _load(graph, 'cbf_without_m0', 'cbf', 'cbf', condition, variance='cbfWithoutM0')
    if own is None:
        return
    graph.maps['cbf_without_m0', condition] = own
    at = {'space': graph.space, 'condition': condition}
    name = '_'.join(part for part in ('m0_relative', condition) if part)
    path = _path(graph, 'variance', quantity='relativeM0', **at)
    graph.maps['m0_relative', condition] = _read(graph, LoadQuantity(variance=str(path)), name)


def _add_volume(graph: Graph) -> None:
    """Add the blood volume that was measured; one for all rather than one carried to a task."""
    variant = _saved(graph).cbv_model
    if variant == 'none' or graph.settings.blood_volume.model != variant:
        return
    for condition in _labels(graph):
        volume = _load(graph, 'cbv', 'cbv', 'cbv', condition, variant=variant)
        if volume is not None:
            graph.maps['cbv', condition] = volume
        if ('cbv', None) in graph.maps:
            return


def _add_bold(graph: Graph) -> None:
    """Add the BOLD changes, and their halves where they were estimated."""
    saved = _saved(graph)
    graph.bold_echo_times.update(saved.echo_times)
    for contrast, task in saved.bold_tasks:
        changes = {
            name: _load_change(graph, contrast, task, name)
            for name in ('boldPct', 'boldGatePct', 'boldEstimatePct', GAS_BOLD)
        }
        at = {'space': graph.space, 'contrast': contrast, 'task': task, 'quantity': 'boldPct'}
        path = _path(graph, 'contrast', statistic='effect', **at)
        if changes['boldPct'] is not None:
            kept = ('Model', 'ModelParameters')
            about = {key: value for key, value in read_sidecar(path).items() if key in kept}
            graph.origins['boldPct', contrast] = {'Sources': graph.sources([path])} | about
            graph.changes['boldPct', contrast] = (changes['boldPct'], task)
        if (by_gas := changes[GAS_BOLD]) is not None:
            graph.gas_bold[contrast] = (by_gas, task)
        gate, estimate = changes['boldGatePct'], changes['boldEstimatePct']
        if gate and estimate and graph.settings.change.route != 'quantitative':
            graph.bold_halves[contrast] = (gate, estimate)
    if graph.settings.change.route != 'quantitative' and (
        graph.settings.change.bold_blocks == 'all'
    ):
        use_all_blocks(graph)


def _load_change(graph: Graph, contrast: str, task: str, quantity: str) -> MapPort | None:
    """Read effect and variance of a BOLD change, and smooth it where that is new."""
    at = {'space': graph.space, 'contrast': contrast, 'task': task, 'quantity': quantity}
    effect, variance = (
        _path(graph, 'contrast', statistic=name, **at) for name in ('effect', 'variance')
    )
    if not effect.is_file():
        return None
    load = LoadQuantity(value=str(effect), variance=str(variance), sidecar=_sidecar(effect))
    change = _read(graph, load, f'{quantity}_{contrast}')
    if not _saved(graph).smooth_bold:
        return change
    return smooth(graph, change, f'{quantity}_{contrast}')
