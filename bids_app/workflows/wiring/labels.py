"""Labels, counts and region tables of a contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import label_of
from bids_app.interfaces.bold import CompareWithGradientEcho
from bids_app.interfaces.change import LabelResponseMode, LimitVoxels
from bids_app.interfaces.dsc import SummariseCBVRules
from bids_app.interfaces.regions import SummariseRegions
from bids_app.models.constants import PUBLISHED_LIMITS
from bids_app.models.oxygen.gas_calibration import COEFFICIENTS
from bids_app.models.oxygen.sensitivity import relative_error
from bids_app.settings import parcel_file, parcel_tasks
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.anatomy import atlas_files
from bids_app.workflows.change import CHANGES, init_label_wf
from bids_app.workflows.constants import branch_parameters, known_constants
from bids_app.workflows.wiring.anatomy import atlas_of
from bids_app.workflows.wiring.change import BOLD_CHANGES, contrast_sidecar
from bids_app.workflows.wiring.scans import connect_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bids_app.bids.scans import Contrast
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph


def add_labels(graph: Graph) -> None:
    """Add region tables, and labels where a contrast has BOLD and CMRO2 changes."""
    if not graph.has_anatomy:
        return
    has_atlas = graph.has_template and graph.settings.atlas != 'none'
    atlas = atlas_of(graph) if has_atlas else None
    for contrast in graph.inputs.contrasts:
        changes = {
            quantity: source
            for (quantity, label), (source, _) in graph.changes.items()
            if label == contrast.label
        }
        sink = graph.sink(f'save_labels_{contrast.label}')
        if 'boldPct' in changes and 'cmro2' in changes:
            _label_contrast(graph, sink, contrast, atlas)
        if changes and atlas is not None:
            _add_region_table(graph, sink, contrast, changes, atlas)
            if 'boldPct' in changes:
                _add_consistency(graph, sink, contrast, atlas)
            both = (contrast.task, contrast.baseline)
            has_parts = graph.has('cbv', contrast.baseline) and all(
                graph.has(name, condition) for name in ('cbf', 'r2_prime') for condition in both
            )
            if 'cmro2' in changes and 'cbv' not in changes and has_parts:
                _add_cbv_rules(graph, sink, contrast, atlas)
        graph.close(sink)


def _sidecar(
    graph: Graph, contrast: Contrast, name: str, parents: Iterable[MapPort]
) -> dict[str, Any]:
    """Entries of labels or a table: the contrast, what it is made from, and the settings."""
    return {
        **contrast_sidecar(graph, contrast),
        **graph.made_from(*parents),
        **branch_parameters('concordance', name, 'change', graph.table),
    }


def _grey_matter(graph: Graph, contrast: Contrast) -> tuple[Any, str]:
    """Grey matter to label; without the voxels beyond the published limits where asked for."""
    align = graph.alignment[graph.target.name]
    if graph.settings.change.limits == 'none':
        return align, 'outputnode.grey_matter'
    limited = [
        (graph.maps[quantity, condition], PUBLISHED_LIMITS[quantity])
        for quantity, condition in sorted(graph.maps, key=str)
        if quantity in PUBLISHED_LIMITS
    ]
    limit = pe.Node(
        LimitVoxels(limits=[limits for _, limits in limited]),
        name=f'limit_voxels_{contrast.label}',
    )
    sources = [source for source, _ in limited]
    connect_list(graph, sources, limit, 'maps', f'limited_{contrast.label}')
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, limit, [(port, 'mask')]),
        (align, limit, [('outputnode.grey_matter', 'grey_matter')]),
    ])  # fmt: skip
    return limit, 'grey_matter'


def _label_contrast(graph: Graph, sink: Sink, contrast: Contrast, atlas: MapPort | None) -> None:
    """Label the voxels of a contrast and count them."""
    bold, task = graph.changes['boldPct', contrast.label]
    change, _ = graph.changes['cmro2', contrast.label]
    label = init_label_wf(
        settings=graph.settings.change,
        has_atlas=atlas is not None,
        name=f'label_{contrast.label}',
    )
    mask, port = graph.mask
    grey, grey_port = _grey_matter(graph, contrast)
    graph.workflow.connect([
        (mask, label, [(port, 'inputnode.mask')]),
        (grey, label, [(grey_port, 'inputnode.grey_matter')]),
    ])  # fmt: skip
    if atlas is not None:
        graph.workflow.connect([(atlas.node, label, [(atlas.port, 'inputnode.atlas')])])
    gate, _ = graph.bold_halves.get(contrast.label, (bold, bold))
    connect_quantity(graph.workflow, gate, label, 'bold')
    connect_quantity(graph.workflow, change, label, 'change')
    baseline = graph.lookup('cmro2', contrast.baseline)
    parents = (gate, change, baseline)
    at: dict[str, Any] = {'contrast': contrast.label}
    graph.workflow.connect([(baseline.node, label, [(baseline.output, 'inputnode.baseline')])])
    probability = MapPort(label, 'discordant')
    sidecar = _sidecar(graph, contrast, 'posterior', parents)
    sink.add(probability, 'discordant', task=task, space=graph.space, sidecar=sidecar, **at)
    graph.changes['discordant', contrast.label] = (probability, task)
    for port, key in (('robust', 'concordance'), ('sign', 'concordance_sign')):
        sidecar = _sidecar(graph, contrast, port, parents)
        sink.add(MapPort(label, port), key, task=task, space=graph.space, sidecar=sidecar, **at)
        graph.changes[key, contrast.label] = (MapPort(label, port), task)
    sidecar = _sidecar(graph, contrast, 'counts', parents)
    sink.add(MapPort(label, 'summary'), 'summary', sidecar=sidecar, **at)
    if ('oef', contrast.label) in graph.changes:
        _add_response_mode(graph, sink, contrast, label)


def _add_response_mode(graph: Graph, sink: Sink, contrast: Contrast, label: Workflow) -> None:
    """Add the map that tells which of flow and extraction changed more."""
    node = pe.Node(LabelResponseMode(), name=f'label_response_mode_{contrast.label}')
    mask, port = graph.mask
    graph.workflow.connect([
        (mask, node, [(port, 'mask')]),
        (label, node, [('outputnode.robust', 'labels')]),
    ])  # fmt: skip
    parents = [MapPort(label, 'robust')]
    for quantity in ('cbf', 'oef'):
        change, _ = graph.changes[quantity, contrast.label]
        connect_quantity(graph.workflow, change, node, quantity)
        baseline = graph.lookup(quantity, contrast.baseline)
        parents += [change, baseline]
        target = f'baseline_{quantity}'
        graph.workflow.connect([(baseline.node, node, [(baseline.output, target)])])
    _, task = graph.changes['boldPct', contrast.label]
    graph.changes['response_mode', contrast.label] = (MapPort(node, 'mode'), task)
    sink.add(
        MapPort(node, 'mode'),
        'response_mode',
        task=task,
        space=graph.space,
        contrast=contrast.label,
        sidecar=_sidecar(graph, contrast, 'response_mode', parents),
    )


def _of_regions(graph: Graph, atlas: MapPort, interface: Any, name: str) -> Any:
    """Make the node of a table of regions, with mask, grey matter and atlas."""
    interface.inputs.minimum_grey_matter = graph.settings.change.grey_matter
    interface.inputs.atlas_table = atlas_files()[1]
    node = pe.Node(interface, name=name)
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (align, node, [('outputnode.mask', 'mask'), ('outputnode.grey_matter', 'grey_matter')]),
        (atlas.node, node, [(atlas.port, 'atlas')]),
    ])  # fmt: skip
    return node


def _add_region_table(
    graph: Graph,
    sink: Sink,
    contrast: Contrast,
    changes: dict[str, MapPort],
    atlas: MapPort,
) -> None:
    """Average the changes of a contrast over regions and networks."""
    quantities = {label_of(name): name for name in (*BOLD_CHANGES, *CHANGES) if name in changes}
    interface = SummariseRegions(
        quantities=list(quantities),
        bold_q=graph.settings.change.bold_q,
        level=graph.settings.change.false_sign_rate,
    )
    node = _of_regions(graph, atlas, interface, f'summarise_regions_{contrast.label}')
    constants = known_constants(graph.inputs, graph.settings)
    node.inputs.constants = {
        label: relative_error(constants, quantity) for label, quantity in quantities.items()
    }
    if 'cmro2' in changes:
        node.inputs.cao2 = graph.constants['cao2']
        settings = graph.settings.change
        if settings.route != 'quantitative':
            node.inputs.davis = COEFFICIENTS[settings.davis_coefficients]
            node.inputs.cbv_response = settings.cbv_response
    for label, quantity in quantities.items():
        connect_quantity(graph.workflow, changes[quantity], node, label)
        if quantity in CHANGES:
            reference = graph.lookup(quantity, contrast.baseline)
            connect_quantity(graph.workflow, reference, node, f'{label}_reference')
            for part in ('common', 'local'):
                of_scans = MapPort(changes[quantity].node, f'{quantity}_{part}')
                connect_quantity(graph.workflow, of_scans, node, f'{label}_{part}')
    parents = [atlas, *(changes[quantity] for quantity in quantities.values())]
    sink.add(
        MapPort(node, 'table'),
        'regions',
        atlas=graph.settings.atlas,
        contrast=contrast.label,
        sidecar=_sidecar(graph, contrast, 'regions', parents),
    )


def _add_consistency(graph: Graph, sink: Sink, contrast: Contrast, atlas: MapPort) -> None:
    """Compare BOLD with what R2* of the two conditions predicts, where both were measured."""
    rate = graph.changes.get(('boldR2star', contrast.label))
    named = {
        'bold': (rate or graph.changes['boldPct', contrast.label])[0],
        'task': graph.maps.get(('r2_star', contrast.task)),
        'baseline': graph.maps.get(('r2_star', contrast.baseline)),
    }
    echo_time = graph.bold_echo_times.get(contrast.label, 0.0)
    if None in named.values() or not echo_time:
        return
    interface = CompareWithGradientEcho(echo_time=echo_time, is_rate=rate is not None)
    node = _of_regions(graph, atlas, interface, f'compare_bold_{contrast.label}')
    measured = {port: source for port, source in named.items() if source is not None}
    for port, source in measured.items():
        connect_quantity(graph.workflow, source, node, port)
    sink.add(
        MapPort(node, 'table'),
        'consistency',
        atlas=graph.settings.atlas,
        contrast=contrast.label,
        sidecar={
            **_sidecar(graph, contrast, 'consistency', (atlas, *measured.values())),
            'EchoTime': echo_time,
        },
    )


def _add_cbv_rules(graph: Graph, sink: Sink, contrast: Contrast, atlas: MapPort) -> None:
    """Tell what each rule for the change of a shared CBV makes of that of CMRO2."""
    settings = graph.settings.blood_volume
    constants = graph.constants
    interface = SummariseCBVRules(
        task=contrast.task,
        grubb_exponent=settings.grubb_exponent,
        scale=constants['cao2'] / constants['static_dephasing_constant'],
    )
    node = _of_regions(graph, atlas, interface, f'summarise_cbv_rules_{contrast.label}')
    tasks = parcel_tasks(settings) or (contrast.task,)
    if settings.parcel_table is not None and contrast.task in tasks:
        node.inputs.table = str(parcel_file(settings))
    named = {'cbv': graph.lookup('cbv', contrast.baseline)}
    for quantity in ('cbf', 'r2_prime'):
        named[f'task_{quantity}'] = graph.lookup(quantity, contrast.task)
        named[f'baseline_{quantity}'] = graph.lookup(quantity, contrast.baseline)
    if graph.venous_blood is not None:
        named['venous_blood'] = graph.venous_blood
    for port, source in named.items():
        graph.workflow.connect([(source.node, node, [(source.output, port)])])
    named.pop('venous_blood', None)
    sink.add(
        MapPort(node, 'table'),
        'cbv_rules',
        atlas=graph.settings.atlas,
        contrast=contrast.label,
        sidecar=_sidecar(graph, contrast, 'cbv_rules', (atlas, *named.values())),
    )
