"""Write derivatives, and read them back: names and units come from data/outputs.yml."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import row
from bids_app.bids.output.write import write_copy, write_image, write_surface, write_table
from bids_app.images import grid_of, load_data, load_masked, save_image
from bids_app.interfaces._base import (
    DEGREES,
    BaseInterfaceInputSpec,
    Bundle,
    DynamicTraitedSpec,
    Interface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    read_mask,
    save_estimate,
    traits,
)
from bids_app.interfaces.oxygen import error_of_scale
from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.decay import time_from_rate
from bids_app.models.status import Status


class SaveDerivatives(Interface):
    """
    Write files into the output dataset.

    Besides the fixed ports there is one for every name in `items`: a file, or a bundle, of which
    the part that the item names is written, with what its maker says for the sidecar.
    """

    class Inputs(DynamicTraitedSpec, BaseInterfaceInputSpec):
        output_dir = traits.Directory(exists=True, mandatory=True, desc='derivatives', unit='')
        items = traits.Dict(
            mandatory=True,
            desc='per port: key of the output table, entities and sidecar entries',
            unit='',
        )

    class Outputs(TraitedSpec):
        out_files = traits.List(traits.Str, desc='what was written', unit='')

    _always_run = True  # a cached node would not notice that a derivative was deleted

    def __init__(self, items: dict[str, Any] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        if items:
            for name in items:
                self.inputs.add_trait(name, traits.Any(desc='file to write', unit=''))
            self.inputs.items = items

    def _run_interface(self, runtime):
        written = []
        for name, item in sorted(self.inputs.items.items()):
            files = Bundle.read(getattr(self.inputs, name))
            sidecar = {**item['sidecar'], **files.sidecar}
            target = {
                'output_dir': Path(self.inputs.output_dir),
                'key': item['key'],
                'entities': item['entities'],
            }
            if item['part'] == 'total':
                error = math.hypot(
                    item['sidecar']['ConstantsError']['Total'], error_of_scale(sidecar)
                )
                source = _add_constants(files, error, name, runtime.cwd)
            else:
                source = Path(getattr(files, item['part']))
            path = _write(source, target, sidecar)
            written.append(str(path))
        self._results['out_files'] = written
        return runtime


def _add_constants(files: Bundle, relative_error: float, name: str, cwd: str) -> Path:
    """Write the variance of a map with what the constants add to it."""
    value, variance, _ = files.parts
    total = load_data(variance) + (relative_error * load_data(value)) ** 2
    return Path(save_image(total, grid_of(value), Path(cwd) / f'{name}.nii'))


def _write(source: Path, target: dict[str, Any], sidecar: dict[str, Any]) -> Path:
    """Write one file as its row of the output table says."""
    kind = row(target['key']).format
    if kind == 'image':
        return write_image(source, **target, sidecar=sidecar)
    if kind == 'surface':
        return write_surface(source, **target, sidecar=sidecar)
    if kind == 'table':
        table = pd.read_csv(source, sep='\t', keep_default_na=False, na_values=['n/a'])
        return write_table(table, **target, sidecar=sidecar)
    return write_copy(source, **target)


class LoadQuantity(Interface):
    """Read a quantity back from the derivatives."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to read', '1')
        value = image('saved map; unset means 1 everywhere', '', optional=True)
        variance = image('its random variance', '')
        status = image('its status; unset means that of an estimate wherever there is one', '',
                       optional=True)  # fmt: skip
        sidecar = traits.Dict({}, usedefault=True, desc='entries of its sidecar', unit='')
        scale = traits.Float(1.0, usedefault=True, desc='multiplies the value', unit='1')
        is_time = traits.Bool(False, usedefault=True, desc='a time, to be read as a rate', unit='')

    class Outputs(TraitedSpec):
        quantity = estimated('the map as it travels through the graph', '')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        scale = self.inputs.scale
        known = self.inputs.status
        status = load_masked(known, mask, grid).astype(np.uint8) if isdefined(known) else Status.OK

        value = np.ones(int(mask.sum()))
        if isdefined(self.inputs.value):
            value = load_masked(self.inputs.value, mask, grid)
        quantity = Estimate.of(
            scale * value,
            scale**2 * load_masked(self.inputs.variance, mask, grid),
            status,
            float(self.inputs.sidecar.get(DEGREES, np.inf)),
        )
        quantity = time_from_rate(quantity) if self.inputs.is_time else quantity

        self._results['quantity'] = save_estimate(
            'quantity', quantity, mask, grid, runtime.cwd, self.inputs.sidecar
        )
        return runtime
