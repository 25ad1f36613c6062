"""Collect what is to be saved and write it: what fails to be made keeps nothing else back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

# isort: split
from bids_app.interfaces.derivatives import SaveDerivatives
from bids_app.workflows._engine import MapPort, Workflow, maker_of, pe

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sink:
    """
    The derivatives of one branch: files are added one by one, the nodes are made at the end.

    There is one node per step that makes files, for a node runs only if all before it have.

    Parameters
    ----------
    name : str
        Of the workflow that holds the nodes, such as ``save_relaxometry``.
    output_dir : Path
        Root of the output dataset.
    entities : mapping
        ``sub`` and ``ses`` of every file.
    saved : dict, optional
        Quantity -> the first file it was saved as; grows with every file.
    """

    def __init__(
        self,
        name: str,
        *,
        output_dir: Path,
        entities: Mapping[str, str | None],
        saved: dict[Any, dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self.output_dir = output_dir
        self.entities = dict(entities)
        self.saved = {} if saved is None else saved
        self.items: dict[str, Any] = {}
        self.sources: list[tuple[Any, Any, str]] = []

    def add(
        self,
        source: MapPort | str | Path,
        key: str,
        *,
        part: str = 'value',
        sidecar: Mapping[str, Any] | None = None,
        **entities: str | None,
    ) -> None:
        """
        Add one file.

        `part` is ``value``, ``variance`` or ``status`` of a quantity; or ``total``, the variance
        with that of the constants, which `sidecar` tells as ``ConstantsError``.
        """
        given = {name: value for name, value in entities.items() if value is not None}
        name = '_'.join([key, *(f'{value}' for value in given.values())]).replace('-', '_')
        self.items[name] = {
            'key': key,
            'entities': {**self.entities, **given},
            'sidecar': dict(sidecar or {}),
            'part': part,
        }
        if isinstance(source, MapPort):
            self.saved.setdefault(source.key, self.items[name])
            self.sources.append((source.node, source.output, name))
        else:
            self.items[name]['file'] = str(source)

    def add_quantity(
        self,
        source: MapPort,
        key: str,
        quantity: str,
        *,
        sidecar: Mapping[str, Any] | None = None,
        variant: str | None = None,
        **entities: str | None,
    ) -> None:
        """Add the value map of a quantity, its variance map and its status map."""
        at: dict[str, Any] = {'sidecar': sidecar, **entities}
        self.add(source, key, variant=variant, **at)
        for part in ('variance', 'status'):
            self.add(source, part, part=part, quantity=quantity, **at)

    def connect(self, workflow: Workflow) -> None:
        """Make the nodes, if there is anything to save."""
        if not self.items:
            return
        makers = {name: maker_of(node, output) for node, output, name in self.sources}
        together: dict[Any, list[str]] = {}
        for name in self.items:
            together.setdefault(makers.get(name), []).append(name)
        branch = Workflow(self.name)
        places: dict[str, str] = {}
        for names in together.values():
            branch.add_nodes([self._save(names)])
            places |= {name: f'{names[0]}.{name}' for name in names}
        workflow.connect(
            [(node, branch, [(output, places[name])]) for node, output, name in self.sources]
        )

    def _save(self, names: list[str]) -> Any:
        """Make the node that writes some of the files."""
        items = {name: self.items[name] for name in names}
        files = {name: item.pop('file') for name, item in items.items() if 'file' in item}
        save = SaveDerivatives(items=items, output_dir=str(self.output_dir))
        for name, path in files.items():
            setattr(save.inputs, name, path)
        return pe.Node(save, name=names[0])
