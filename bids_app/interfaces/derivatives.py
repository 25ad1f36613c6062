"""Write derivatives: names, units and sidecars come from data/outputs.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bids_app.bids.outputs import row, write_copy, write_image, write_table
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _SaveInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    output_dir = traits.Directory(exists=True, mandatory=True, desc='derivatives', unit='')
    items = traits.Dict(
        mandatory=True,
        desc='per port: key of the output table, entities and sidecar entries',
        unit='',
    )


class _SaveOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc='what was written', unit='')


class SaveDerivatives(SimpleInterface):
    """
    Write files into the output dataset.

    Besides the fixed ports there is one for every name in `items`, and one `<name>_facts` for
    what was only known when the map was made (degrees of freedom and the like).
    """

    input_spec = _SaveInputSpec
    output_spec = _SaveOutputSpec
    _always_run = True  # a cached node would not notice that a derivative was deleted

    def __init__(self, items: dict[str, Any] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        if items:
            for name in items:
                self.inputs.add_trait(name, traits.Any(desc='file to write', unit=''))
                facts = traits.Dict(desc='entries of its sidecar', unit='')
                self.inputs.add_trait(f'{name}_facts', facts)
            self.inputs.items = items

    def _run_interface(self, runtime):
        written = []
        for name, item in sorted(self.inputs.items.items()):
            facts = getattr(self.inputs, f'{name}_facts')
            sidecar = {**item['sidecar'], **(facts if isdefined(facts) else {})}
            target = {
                'output_dir': Path(self.inputs.output_dir),
                'key': item['key'],
                'entities': item['entities'],
            }
            path = _write(Path(getattr(self.inputs, name)), target, sidecar)
            written.append(str(path))
        self._results['out_files'] = written
        return runtime


def _write(source: Path, target: dict[str, Any], sidecar: dict[str, Any]) -> Path:
    """Write one file as its row of the output table says."""
    kind = row(target['key']).format
    if kind == 'image':
        return write_image(source, **target, sidecar=sidecar)
    if kind == 'table':
        table = pd.read_csv(source, sep='\t', keep_default_na=False, na_values=['n/a'])
        return write_table(table, **target, sidecar=sidecar)
    return write_copy(source, **target)
