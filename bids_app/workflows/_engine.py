"""nipype with three things added: methods text, places of quantities, a readable graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bids_app.interfaces._base  # noqa: F401  (sets NO_ET before nipype is imported)

# isort: split
import nipype.pipeline.engine as pe
from nipype import IdentityInterface

if TYPE_CHECKING:
    from collections.abc import Iterator


class Workflow(pe.Workflow):
    """A nipype workflow that carries the sentence of the methods section it stands for."""

    def __init__(self, name: str, *, methods: str = '', citations: tuple[str, ...] = ()) -> None:
        super().__init__(name=name)
        self.methods = methods
        self.citations = citations

    def connect(self, *edges: Any, **options: Any) -> None:
        """Connect as nipype does; a name alone is that of the ports at both ends."""
        if len(edges) == 1:
            pairs = [
                (source, target, [(one, one) if isinstance(one, str) else one for one in named])
                for source, target, named in edges[0]
            ]
            edges = (pairs,)
        super().connect(*edges, **options)

    def has_output(self, quantity: str) -> bool:
        """Tell whether the graph makes a quantity."""
        return quantity in self.get_node('outputnode').outputs.copyable_trait_names()


@dataclass(frozen=True, slots=True, eq=False)
class MapPort:
    """Where a quantity, or another file, leaves the graph: a node and the name of its port."""

    node: Any
    port: str
    index: int | None = None
    """Position, where the port is a list with one entry per contrast."""

    @property
    def key(self) -> tuple[Any, str, int | None]:
        """What tells it from others."""
        return self.node, self.port, self.index

    @property
    def output(self) -> Any:
        """Name of the output, as nipype's connect takes it."""
        prefix = 'outputnode.' if isinstance(self.node, pe.Workflow) else ''
        name = f'{prefix}{self.port}'
        return name if self.index is None else (name, pick, self.index)


def pick(items, index):  # noqa: ANN001, ANN202  (nipype runs its source text alone)
    """Take one item; runs inside a connection."""
    return items[index]


def maker_of(node: Any, output: Any) -> tuple[Any, str]:
    """
    Find the step behind an output, through the signatures of workflows.

    The port is empty for a step; it is there for one that only hands on what it was given.
    """
    port = output[0] if isinstance(output, tuple) else output
    if not isinstance(node, pe.Workflow):
        return node, port if is_identity(node) else ''
    inside, _, port = port.partition('.')
    signature = node.get_node(inside)
    for source, _, data in node._graph.in_edges(signature, data=True):
        for given, taken in data['connect']:
            if taken == port:
                return maker_of(source, given)
    return signature, port


def ports(name: str, *fields: str) -> Any:
    """Make the node that is the signature of a workflow."""
    return pe.Node(IdentityInterface(fields=list(fields)), name=name)


def connect_quantity(workflow: pe.Workflow, source: MapPort, target: Any, port: str) -> None:
    """Connect a quantity to the port of a node, or of the signature of a workflow."""
    prefix = 'inputnode.' if isinstance(target, pe.Workflow) else ''
    workflow.connect([(source.node, target, [(source.output, f'{prefix}{port}')])])


def _walk(workflow: pe.Workflow) -> Iterator[pe.Workflow]:
    """Visit a workflow and everything inside it, in the order of the graph."""
    yield workflow
    import networkx as nx

    names = {node: str(node.fullname) for node in workflow._graph.nodes}
    for node in nx.lexicographical_topological_sort(workflow._graph, key=names.__getitem__):
        if isinstance(node, pe.Workflow):
            yield from _walk(node)


def methods_text(workflow: pe.Workflow) -> tuple[str, tuple[str, ...]]:
    """
    Join the methods sentences of a graph, each once, in the order of the graph.

    Citation keys stand in it as ``[@key]``, and are given beside it.
    """
    sentences: dict[str, None] = {}
    keys: dict[str, None] = {}
    for part in _walk(workflow):
        sentence = getattr(part, 'methods', '').strip()
        if sentence:
            cited = getattr(part, 'citations', ())
            tags = ''.join(f' [@{key}]' for key in cited)
            sentences[f'{sentence}{tags}.'] = None
            keys.update(dict.fromkeys(cited))
    return ' '.join(sentences), tuple(keys)


def to_mermaid(workflow: pe.Workflow) -> str:
    """
    Draw the flat graph as Mermaid text; edges carry the names of the quantities.

    Identity nodes, the signatures of the workflows, are left out: their neighbours are joined.
    """
    graph = workflow._create_flat_graph()
    names = {node: _short_name(node, workflow) for node in graph.nodes if not is_identity(node)}
    labels: dict[tuple[str, str], set[str]] = {}
    for source, name in names.items():
        for target, port in _targets(graph, source):
            shown = labels.setdefault((name, names[target]), set())
            shown.add(port)
    lines = [f'  {_identifier(name)}["{name}"]' for name in sorted(set(names.values()))]
    for (source, target), shown in sorted(labels.items()):
        arrow = f'-- "{", ".join(sorted(shown))}" -->' if shown else '-->'
        lines.append(f'  {_identifier(source)} {arrow} {_identifier(target)}')
    return '\n'.join(['flowchart LR', *lines]) + '\n'


def is_identity(node: Any) -> bool:
    """Tell whether a node only hands on what it gets."""
    return isinstance(node.interface, IdentityInterface)


def _targets(graph: Any, source: Any, port: str | None = None) -> Iterator[tuple[Any, str]]:
    """Nodes that use an output, through identity nodes, and the port where it arrives."""
    for _, target, data in graph.out_edges(source, data=True):
        for output, name in data['connect']:
            if port is not None and (output[0] if isinstance(output, tuple) else output) != port:
                continue
            if is_identity(target):
                yield from _targets(graph, target, name)
            else:
                yield target, name


def _short_name(node: Any, workflow: pe.Workflow) -> str:
    """Full name of a node without that of the whole graph; those that save a branch are one."""
    name = str(node.fullname).removeprefix(f'{workflow.name}.')
    branch = name.partition('.')[0]
    return branch if branch.startswith('save_') else name


def _identifier(name: str) -> str:
    """Turn a node name into what Mermaid takes as identifier."""
    return re.sub(r'\W', '_', name)
