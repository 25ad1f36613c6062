"""What the group level reads, in the space of the template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.capabilities import cbv_model
from bids_app.interfaces.spatial import ResampleLabels, ResampleProbability, ResampleQuantity
from bids_app.workflows._engine import Quantity, connect_quantity, pe
from bids_app.workflows.anatomy import TEMPLATE, template_file
from bids_app.workflows.branches.change import contrast_sidecar
from bids_app.workflows.graph import RESOLUTION

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import Contrast
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph


LABELS = ('concordance', 'concordance_sign', 'response_mode', 'discordant')
"""What is carried by nearest neighbour."""


def add_template_maps(graph: Graph) -> None:
    """Carry what the group level reads to the template."""
    sink = graph.sink('save_template')
    at: dict[str, Any] = {'space': TEMPLATE, 'res': RESOLUTION}
    baseline = graph.inputs.baseline
    variant = cbv_model(graph.inputs, graph.settings)
    for quantity in ('cbf', 'cbv', 'oef', 'cmro2'):
        condition = baseline if (quantity, baseline) in graph.maps else None
        source = graph.maps.get((quantity, condition))
        if source is None:
            continue
        on_template = _to_template(graph, source, f'{quantity}_baseline')
        own = variant if quantity == 'cbv' else None
        sink.add(on_template, quantity, condition=condition, variant=own, **at)
        sink.add(on_template, 'variance', part='_variance', quantity=quantity,
                 condition=condition, **at)  # fmt: skip
    for contrast in graph.inputs.contrasts:
        _add_template_contrast(graph, sink, contrast, at)
    graph.close(sink)


def _add_template_contrast(
    graph: Graph, sink: Sink, contrast: Contrast, at: dict[str, Any]
) -> None:
    """Carry effect, variance and labels of one contrast to the template."""
    sidecar = contrast_sidecar(graph, contrast)
    for (quantity, label), (source, task) in list(graph.changes.items()):
        if label != contrast.label:
            continue
        name = f'{quantity}_{label}'
        if quantity in LABELS:
            labels = _labels_to_template(graph, source, name)
            sink.add(labels, quantity, task=task, contrast=label, sidecar=sidecar, **at)
            continue
        on_template = _to_template(graph, source, name)
        entities = {
            'quantity': quantity,
            'contrast': label,
            'task': task,
            'sidecar': sidecar,
            **at,
        }
        sink.add(on_template, 'contrast', statistic='effect', **entities)
        sink.add(on_template, 'contrast', part='_variance', statistic='variance', **entities)


def _template_node(graph: Graph, interface: Any, name: str) -> Any:
    """Make a node that resamples from the quantification grid to the template."""
    interface.inputs.mask = template_file('desc-brain_mask')
    node = pe.Node(interface, name=f'to_template_{name}')
    align = graph.alignment[graph.target.name]
    graph.workflow.connect([
        (graph.anatomy, node, [('outputnode.coordinates', 'coordinates')]),
        (align, node, [('outputnode.transform', 'source_transform')]),
    ])  # fmt: skip
    return node


def _to_template(graph: Graph, source: Quantity, name: str) -> Quantity:
    """Carry a quantity to the template grid."""
    node = _template_node(graph, ResampleQuantity(), name)
    connect_quantity(graph.workflow, source, node, 'quantity')
    return Quantity(node, 'quantity')


def _labels_to_template(graph: Graph, source: Quantity, name: str) -> Quantity:
    """Carry labels, or the probability of one, to the template grid."""
    is_probability = name.startswith('discordant')
    interface = ResampleProbability() if is_probability else ResampleLabels()
    node = _template_node(graph, interface, name)
    graph.workflow.connect([(source.node, node, [(source.output(''), 'quantity')])])
    return Quantity(node, 'probability' if is_probability else 'labels')
