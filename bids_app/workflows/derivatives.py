"""Collect what is to be saved and write it in one node per branch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

# isort: split
from bids_app.interfaces.derivatives import SaveDerivatives
from bids_app.workflows._engine import Quantity, pe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app.workflows._engine import Workflow


class Sink:
    """
    The derivatives of one branch: files are added one by one, the node is made at the end.

    Parameters
    ----------
    name : str
        Of the node, such as ``save_relaxometry``.
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
        source: Quantity | str | Path,
        key: str,
        *,
        part: str = 'value',
        sidecar: Mapping[str, Any] | None = None,
        **entities: str | None,
    ) -> None:
        """
        Add one file.

        Parameters
        ----------
        source : Quantity or path
            A port of the graph, or a file that is there already.
        key : str
            Row of data/outputs.yml.
        part : str
            ``value``, ``variance`` or ``status`` of a quantity.
        sidecar : mapping, optional
            Entries of the sidecar known when the graph is built.
        **entities : str or None
            Besides those of the participant.
        """
        given = {name: value for name, value in entities.items() if value is not None}
        name = '_'.join([key, *(f'{value}' for value in given.values())]).replace('-', '_')
        self.items[name] = {
            'key': key,
            'entities': {**self.entities, **given},
            'sidecar': dict(sidecar or {}),
            'part': part,
        }
        if isinstance(source, Quantity):
            self.saved.setdefault(source.key, self.items[name])
            self.sources.append((source.node, source.output, name))
        else:
            self.items[name]['file'] = str(source)

    def add_quantity(
        self,
        source: Quantity,
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
        """Make the node, if there is anything to save."""
        if not self.items:
            return
        files = {name: item.pop('file') for name, item in self.items.items() if 'file' in item}
        save = pe.Node(
            SaveDerivatives(items=self.items, output_dir=str(self.output_dir)),
            name=self.name,
        )
        for name, path in files.items():
            setattr(save.inputs, name, path)
        workflow.connect([(node, save, [(output, name)]) for node, output, name in self.sources])
