"""Blood volume: from the bolus, from the literature, or from CBF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_app.errors import InputDataError
from bids_app.images import load_data, load_masked, save_image
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    Interface,
    ModelInterface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    read_mask,
    result,
    sidecar_of,
    traits,
)
from bids_app.models.dsc.cbv_scaling import flag_large_vessels
from bids_app.models.registry import choices


class SelectWhiteMatter(Interface):
    """Select pure white matter: high probability, eroded where enough voxels remain."""

    class Inputs(BaseInterfaceInputSpec):
        white_matter = image('white-matter probability', '1')
        threshold = traits.Float(0.95, usedefault=True, desc='probability above', unit='1')
        minimum = traits.Int(20, usedefault=True, desc='fewest voxels of a reference', unit='')

    class Outputs(TraitedSpec):
        white_matter = result('voxels of the white-matter reference', '1')
        sidecar = traits.Dict(desc='entries of the sidecar', unit='')

    def _run_interface(self, runtime):
        _, grid = read_mask(self.inputs.white_matter)
        pure = np.nan_to_num(load_data(self.inputs.white_matter)) > self.inputs.threshold
        eroded = ndimage.binary_erosion(pure)
        is_eroded = bool(eroded.sum() >= self.inputs.minimum)
        chosen = eroded if is_eroded else pure
        if chosen.sum() < self.inputs.minimum:
            msg = (
                f'blood volume needs at least {self.inputs.minimum} voxels of white matter '
                f'(probability above {self.inputs.threshold}) as reference, found {chosen.sum()}; '
                'check the alignment of the DSC series, or choose another --cbv-model'
            )
            raise InputDataError(msg)
        path = Path(runtime.cwd) / 'white_matter.nii'
        self._results['white_matter'] = save_image(chosen, grid, path)
        self._results['sidecar'] = {
            'WhiteMatterReference': {
                'Voxels': int(chosen.sum()),
                'Eroded': is_eroded,
                'ProbabilityAbove': self.inputs.threshold,
            }
        }
        return runtime


class EstimateCBV(ModelInterface):
    """Estimate CBV with one model of the registry; mark large vessels where it was measured."""

    quantity = 'cbv'

    class Inputs(BaseInterfaceInputSpec):
        model = traits.Enum(*choices('cbv'), usedefault=True, desc='name in the registry', unit='')
        mask = image('voxels to estimate', '1')
        relative_cbv = estimated('area under the bolus', '1', optional=True)
        cbf = estimated('cerebral blood flow', 'mL/100 g/min', optional=True)
        grey_matter = image('grey-matter probability', '1', optional=True)
        white_matter = image('white matter: reference voxels, or probability', '1', optional=True)
        grey_matter_cbv = traits.Float(desc='literature value', unit='mL/mL')
        white_matter_cbv = traits.Float(desc='literature value', unit='mL/mL')
        relative_error = traits.Float(desc='of a literature value', unit='1')
        grubb_factor = traits.Float(desc='CBV at unit CBF', unit='mL/mL')
        grubb_exponent = traits.Float(desc='exponent of the power law', unit='1')
        signal = image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True)
        displacements = traits.List(traits.Float, desc='of the spin echo, per volume', unit='s')
        noise_groups = image('voxels with equal noise', '', optional=True)
        arterial_area = traits.Float(desc='area of the arterial input', unit='1')
        haematocrit_factor = traits.Float(
            desc='plasma per blood, large over small vessels', unit='1'
        )
        bolus_time = image('centre of the bolus after that of the brain', 's', optional=True)
        large_vessel_cbv = traits.Float(desc='a vessel from here on', unit='mL/mL')
        excludes_vessels = traits.Bool(
            False, usedefault=True, desc='large vessels lose their value', unit=''
        )

    class Outputs(TraitedSpec):
        cbv = estimated('cerebral blood volume', 'mL/mL')

    def _revise(self, estimate, mask, grid):
        """Mark large vessels, where a limit is set."""
        if not isdefined(self.inputs.large_vessel_cbv):
            return estimate
        time = np.full(estimate.value.shape, np.nan)
        if isdefined(self.inputs.bolus_time):
            time = load_masked(self.inputs.bolus_time, mask, grid)
        return flag_large_vessels(
            estimate,
            time,
            large_vessel_cbv=self.inputs.large_vessel_cbv,
            exclude=self.inputs.excludes_vessels,
        )

    def _sidecar(self, arguments):
        """Repeat what is known of the bolus."""
        return sidecar_of(self.inputs.relative_cbv)
