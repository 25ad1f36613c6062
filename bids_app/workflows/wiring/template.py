"""Maps in the space of a template; the group level reads those of the packaged one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.templates import other_templates
from bids_app.bids.output.names import label_of, output_path
from bids_app.bids.products import PRODUCTS
from bids_app.bids.run.feasible import cbv_model
from bids_app.engines.templates import RESOLUTION
from bids_app.interfaces.relaxometry import ConvertRateToTime
from bids_app.interfaces.spatial import (
    MapCoordinates,
    NormaliseToTemplate,
    ResampleFraction,
    ResampleLabels,
    ResampleProbability,
    ResampleQuantity,
)
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.anatomy import TEMPLATE, template_file
from bids_app.workflows.wiring.change import contrast_sidecar

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.input.templates import Template
    from bids_app.bids.scans import Contrast
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph


LABELS = ('concordance', 'concordance_sign', 'response_mode', 'discordant')
"""What is carried by nearest neighbour."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A template in the graph: its files' names, its voxels, and where they lie in T1w space."""

    space: str
    resolution: str | None
    mask: str
    coordinates: tuple[Any, str]
    """Node and port."""
    sidecar: dict[str, str]

    @property
    def entities(self) -> dict[str, str | None]:
        return {'space': self.space, 'res': self.resolution}


def add_template_maps(graph: Graph) -> None:
    """Carry what the group level reads to every template that is wanted."""
    spaces = graph.settings.output_spaces
    if TEMPLATE in spaces and graph.has_template:
        coordinates = (graph.anatomy, 'outputnode.coordinates')
        mask = template_file('desc-brain_mask')
        _add_maps(graph, _Place(TEMPLATE, RESOLUTION, mask, coordinates, {}))
    for template in other_templates(spaces):
        node = _locate(graph, template)
        if node is None:
            continue
        own = {'SpatialReference': template.t1w.name}
        place = _Place(template.space, None, str(template.mask), (node, 'coordinates'), own)
        if graph.inputs.saved is None:
            _add_anatomy(graph, place)
        _add_maps(graph, place)


def _locate(graph: Graph, template: Template) -> pe.Node | None:
    """Map the voxels of another template to T1w space by a transform found or computed."""
    node = pe.Node(MapCoordinates(reference=str(template.mask)),
                   name=f'map_{template.space}_to_t1w')  # fmt: skip
    known = _known_transform(graph, template.space)
    if known is not None:
        node.inputs.transform = str(known)
        graph.workflow.add_nodes([node])
        return node
    settings = graph.settings.anatomy
    is_there = graph.inputs.saved is None and graph.has_anatomy
    if not is_there or (graph.inputs.anatomy and settings.registration != 'rigid'):
        return None
    normalise = pe.Node(
        NormaliseToTemplate(
            template=str(template.t1w),
            template_mask=str(template.mask),
            sloppy=settings.sloppy,
            random_seed=settings.random_seed,
        ),
        name=f'normalise_to_{template.space}',
    )
    graph.workflow.connect([
        (graph.anatomy, normalise, [(f'outputnode.{port}', port)
                                    for port in ('t1w', 'brain_mask')]),
        (normalise, node, [('to_template', 'transform')]),
    ])  # fmt: skip
    sink = graph.sink(f'save_transforms_{template.space}')
    for port, key in (
        ('to_template', 'xfm_t1w_template'),
        ('from_template', 'xfm_template_t1w'),
    ):
        sink.add(MapPort(normalise, port), key, template=template.space)
    graph.close(sink)
    return node


def _known_transform(graph: Graph, space: str) -> Path | None:
    """Find the transform from T1w space that an earlier run or other software left."""
    saved = graph.inputs.saved
    if saved is not None:
        path = saved.root / output_path('xfm_t1w_template', **graph.entities, template=space)
        found = [path.with_name(path.name + end) for end in ('.h5', '.txt')]
        return next((path for path in found if path.is_file()), None)
    anatomy = graph.inputs.anatomy
    return dict(anatomy.to_others).get(space) if anatomy else None


def _add_anatomy(graph: Graph, place: _Place) -> None:
    """Save brain mask and grey matter in the space of another template."""
    sink = graph.sink(f'save_anatomy_{place.space}')
    for interface, port, source, key, label in (
        (ResampleLabels(mask=place.mask), 'labels', 'brain_mask', 'brain_mask', None),
        (ResampleFraction(mask=place.mask), 'fraction', 'grey_matter', 'probseg', 'GM'),
    ):
        node = pe.Node(interface, name=f'{source}_to_{place.space}')
        located, coordinates = place.coordinates
        graph.workflow.connect(
            [
                (graph.anatomy, node, [(f'outputnode.{source}', 'quantity')]),
                (located, node, [(coordinates, 'coordinates')]),
            ]
        )
        own = graph.made_from(MapPort(graph.anatomy, source)) | place.sidecar
        about: dict[str, Any] = {'sidecar': own, **place.entities}
        sink.add(MapPort(node, port), key, label=label, **about)
    graph.close(sink)


def _add_maps(graph: Graph, place: _Place) -> None:
    """Carry the baseline maps and every contrast."""
    sink = graph.sink(f'save_{place.space}')
    at: dict[str, Any] = {**place.entities}
    baseline = graph.inputs.baseline
    variant = cbv_model(graph.inputs, graph.settings)
    for quantity, product in PRODUCTS.items():
        condition = baseline if (quantity, baseline) in graph.maps else None
        source = graph.maps.get((quantity, condition))
        if source is None:
            continue
        at['sidecar'] = graph.made_from(source) | graph.model_of(source) | place.sidecar
        on_template = _carry(graph, place, source, f'{quantity}_baseline')
        if product.is_time:
            on_template = _as_time(graph, place, on_template, quantity)
        own = variant if quantity == 'cbv' else None
        sink.add(on_template, product.row, condition=condition, variant=own, **at)
        sink.add(on_template, 'variance', part='variance', quantity=product.label,
                 condition=condition, **at)  # fmt: skip
    for contrast in graph.inputs.contrasts:
        _add_contrast(graph, sink, contrast, place)
    graph.close(sink)


def _add_contrast(graph: Graph, sink: Sink, contrast: Contrast, place: _Place) -> None:
    """Carry effect, variance and labels of one contrast."""
    for (quantity, label), (source, task) in list(graph.changes.items()):
        if label != contrast.label:
            continue
        name = f'{quantity}_{label}'
        about: dict[str, Any] = {
            'contrast': label,
            'task': task,
            'sidecar': {
                **contrast_sidecar(graph, contrast),
                **graph.made_from(source),
                **graph.model_of(source),
                **place.sidecar,
            },
            **place.entities,
        }
        if quantity in LABELS:
            sink.add(_carry_labels(graph, place, source, name), quantity, **about)
            continue
        on_template = _carry(graph, place, source, name)
        about['quantity'] = label_of(quantity)
        sink.add(on_template, 'contrast', statistic='effect', **about)
        sink.add(on_template, 'contrast', part='variance', statistic='variance', **about)


def _node(graph: Graph, place: _Place, interface: Any, name: str) -> Any:
    """Make a node that resamples from the quantification grid to a template."""
    interface.inputs.mask = place.mask
    node = pe.Node(interface, name=f'to_{place.space}_{name}')
    align = graph.alignment[graph.target.name]
    located, coordinates = place.coordinates
    graph.workflow.connect([
        (located, node, [(coordinates, 'coordinates')]),
        (align, node, [('outputnode.transform', 'source_transform')]),
    ])  # fmt: skip
    return node


def _carry(graph: Graph, place: _Place, source: MapPort, name: str) -> MapPort:
    """Carry a quantity."""
    node = _node(graph, place, ResampleQuantity(), name)
    connect_quantity(graph.workflow, source, node, 'quantity')
    return MapPort(node, 'quantity')


def _as_time(graph: Graph, place: _Place, rate: MapPort, name: str) -> MapPort:
    """Convert a rate on a template into the time that is saved."""
    convert = ConvertRateToTime(mask=place.mask)
    node = pe.Node(convert, name=f'to_{place.space}_time_of_{name}')
    connect_quantity(graph.workflow, rate, node, 'rate')
    return MapPort(node, 'time')


def _carry_labels(graph: Graph, place: _Place, source: MapPort, name: str) -> MapPort:
    """Carry labels, or the probability of one."""
    is_probability = name.startswith('discordant')
    interface = ResampleProbability() if is_probability else ResampleLabels()
    node = _node(graph, place, interface, name)
    graph.workflow.connect([(source.node, node, [(source.output, 'quantity')])])
    return MapPort(node, 'probability' if is_probability else 'labels')
