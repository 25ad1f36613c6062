"""Quantities that models make of other maps: R2', oxygen extraction, metabolism."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.images import load_masked
from bids_app.interfaces._base import (
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    Bundle,
    File,
    Interface,
    ModelInterface,
    TraitedSpec,
    estimated,
    estimated_each,
    image,
    load_estimate,
    read_mask,
    save_estimate,
    sidecar_of,
    traits,
)
from bids_app.models.oxygen.venous import compare_with_venous_blood

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASE = {
    'signal': image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True),
    'displacements': traits.List(traits.Float, desc='of the spin echo, per volume', unit='s'),
    'noise_groups': image('voxels with equal noise', '', optional=True),
}
"""What the models take that fit OEF to the scan itself."""

VENOUS_BLOOD = 'VenousBlood'
"""Sidecar key: extraction by venous blood, that of the map, and whether the map is scaled."""


class EstimateR2Prime(ModelInterface):
    """Estimate R2' by a model of the registry."""

    quantity = 'r2_prime'


class EstimateOEF(ModelInterface):
    """Estimate OEF by a model of the registry."""

    quantity = 'oef'
    further = _ASE


class EstimateMaximumBOLD(ModelInterface):
    """Estimate the maximum of BOLD by a model of the registry."""

    quantity = 'bold_maximum'


class EstimateReactivity(ModelInterface):
    """Estimate the vascular reactivity by a model of the registry."""

    quantity = 'cvr'


class EstimateCMRO2(ModelInterface):
    """Estimate CMRO2 by a model of the registry."""

    quantity = 'cmro2'


class CompareVenousBlood(Interface):
    """Compare the mean extraction of grey matter with that of venous blood."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels of the map', '1')
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='a voxel counts above', unit='1')
        oef = estimated('oxygen extraction at baseline, as its model has it', '1')
        cbf = estimated('blood flow at baseline', 'mL/100 g/min')
        behind = estimated_each('what that extraction is made of', '')
        venous_saturation = traits.Float(mandatory=True, desc='of the sagittal sinus', unit='1')
        venous_saturation_error = traits.Float(
            mandatory=True, desc='its standard deviation', unit='1'
        )
        sao2 = traits.Float(mandatory=True, desc='arterial oxygen saturation', unit='1')
        is_applied = traits.Bool(
            mandatory=True, desc='scale the map by it, or only compare', unit=''
        )

    class Outputs(TraitedSpec):
        comparison = File(exists=True, desc='entries of the sidecar of OEF', unit='')
        table = File(exists=True, desc='the same as a table', unit='')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        grey = load_masked(self.inputs.grey_matter, mask, grid)
        known = [sidecar_of(path) for path in self.inputs.behind]
        found = compare_with_venous_blood(
            load_estimate(self.inputs.oef, mask, grid),
            load_estimate(self.inputs.cbf, mask, grid),
            grey > self.inputs.minimum_grey_matter,
            venous_saturation=self.inputs.venous_saturation,
            venous_saturation_error=self.inputs.venous_saturation_error,
            sao2=self.inputs.sao2,
            voxels_per_sample=max(facts.get(VOXELS_PER_SAMPLE, 1.0) for facts in known),
            shared=max(facts.get(SHARED_NOISE, {}).get('brain', 0.0) for facts in known),
        )
        row = {
            'venous_saturation': self.inputs.venous_saturation,
            'venous_saturation_se': self.inputs.venous_saturation_error,
            'extraction': found.anchor,
            'extraction_se': found.anchor_error,
            'map_mean': found.mean,
            'map_mean_se': found.mean_error,
            'scale': found.scale,
            'scale_se': found.scale * found.scale_error,
            'z': found.z,
            'n_voxels': found.n_voxels,
            'applied': 'yes' if self.inputs.is_applied else 'no',
        }
        shown = {
            name: f'{one:.6g}' if isinstance(one, float) else str(one) for name, one in row.items()
        }
        lines = ['\t'.join(row), '\t'.join(shown.values()).replace('nan', 'n/a')]
        if self.inputs.is_applied and not np.isfinite(found.scale):
            msg = (
                f'OEF cannot be scaled by venous blood: its mean in grey matter is {found.mean:g}'
            )
            raise ModelInputError(msg)
        numbers = {
            'Extraction': found.anchor,
            'ExtractionError': found.anchor_error,
            'MapMean': found.mean,
            'MapMeanError': found.mean_error,
            'Scale': found.scale,
        }
        facts = {name: one if np.isfinite(one) else None for name, one in numbers.items()}
        facts |= {'IsApplied': bool(self.inputs.is_applied)}
        written = {
            'table': ('venous_blood.tsv', '\n'.join([*lines, ''])),
            'comparison': ('venous_blood.json', json.dumps(facts)),
        }
        for port, (name, text) in written.items():
            path = Path(runtime.cwd) / name
            path.write_text(text, 'utf-8')
            self._results[port] = str(path)
        return runtime


class NormaliseToVenousBlood(Interface):
    """Normalise OEF to venous blood where asked to; the comparison goes into its sidecar."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels of the map', '1')
        quantity = estimated('oxygen extraction as its model has it', '1')
        comparison = File(exists=True, mandatory=True, desc='with venous blood', unit='')

    class Outputs(TraitedSpec):
        quantity = estimated('the same with the comparison, scaled where that is asked for', '1')

    def _run_interface(self, runtime):
        facts = json.loads(Path(self.inputs.comparison).read_text('utf-8'))
        mask, grid = read_mask(self.inputs.mask)
        path = self.inputs.quantity
        oef = load_estimate(path, mask, grid).scaled(applied_scale(facts))
        about = {**Bundle.read(path).sidecar, VENOUS_BLOOD: facts}
        self._results['quantity'] = save_estimate('oef', oef, mask, grid, runtime.cwd, about)
        return runtime


def applied_scale(facts: Mapping[str, Any]) -> float:
    """Give by which maps are multiplied: 1 where they are only compared."""
    return float(facts['Scale']) if facts['IsApplied'] else 1.0


def error_of_scale(sidecar: Mapping[str, Any]) -> float:
    """Relative error that the noise of the mean of a map left in its scale; 0 where not scaled."""
    facts = sidecar.get(VENOUS_BLOOD, {})
    return facts['MapMeanError'] / facts['MapMean'] if facts.get('IsApplied') else 0.0
