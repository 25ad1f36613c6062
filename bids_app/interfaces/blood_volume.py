"""Blood volume: from the bolus, from the literature, or from CBF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_app.errors import InputDataError
from bids_app.images import load_data, load_masked, save_image
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    ModelInterface,
    SimpleInterface,
    TraitedSpec,
    image,
    isdefined,
    read_mask,
    result,
    save_estimate,
    traits,
)
from bids_app.models.blood_volume import estimate_relative_cbv
from bids_app.models.registry import choices


class _RelativeCBVInputSpec(BaseInterfaceInputSpec):
    series = image('dynamic susceptibility contrast series', 'a.u.')
    mask = image('voxels to estimate', '1')
    echo_time = traits.Float(mandatory=True, desc='echo time', unit='s')
    repetition_time = traits.Float(mandatory=True, desc='repetition time', unit='s')
    noise_groups = image('tissue class whose noise is pooled', '', optional=True)


class _RelativeCBVOutputSpec(TraitedSpec):
    relative_cbv = result('area of the relaxation rate change under the bolus', '1')
    relative_cbv_variance = result('its random variance', '1')
    relative_cbv_status = result('why a voxel has no estimate', '')
    relative_cbv_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateRelativeCBV(SimpleInterface):
    """Estimate relative blood volume from the first pass of a contrast agent."""

    input_spec = _RelativeCBVInputSpec
    output_spec = _RelativeCBVOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        groups = None
        if isdefined(self.inputs.noise_groups):
            groups = load_masked(self.inputs.noise_groups, mask, grid).astype(int)

        relative_cbv = estimate_relative_cbv(
            load_masked(self.inputs.series, mask, grid),
            echo_time=self.inputs.echo_time,
            repetition_time=self.inputs.repetition_time,
            noise_groups=groups,
        )

        save_estimate(self._results, 'relative_cbv', relative_cbv, mask, grid, runtime.cwd)
        return runtime


class _WhiteMatterInputSpec(BaseInterfaceInputSpec):
    white_matter = image('white-matter probability', '1')
    threshold = traits.Float(0.95, usedefault=True, desc='probability above', unit='1')
    minimum = traits.Int(20, usedefault=True, desc='fewest voxels of a reference', unit='')


class _WhiteMatterOutputSpec(TraitedSpec):
    white_matter = result('voxels of the white-matter reference', '1')
    facts = traits.Dict(desc='entries of the sidecar', unit='')


class SelectWhiteMatter(SimpleInterface):
    """Select pure white matter: high probability, eroded where enough voxels remain."""

    input_spec = _WhiteMatterInputSpec
    output_spec = _WhiteMatterOutputSpec

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
        self._results['facts'] = {
            'WhiteMatterReference': {
                'Voxels': int(chosen.sum()),
                'Eroded': is_eroded,
                'ProbabilityAbove': self.inputs.threshold,
            }
        }
        return runtime


class _CBVInputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('cbv'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    relative_cbv = image('area under the bolus', '1', optional=True)
    relative_cbv_variance = image('its random variance', '1', optional=True)
    relative_cbv_status = image('its status', '', optional=True)
    relative_cbv_facts = traits.Dict(desc='degrees of freedom', unit='')
    cbf = image('cerebral blood flow', 'mL/100 g/min', optional=True)
    cbf_variance = image('its random variance', '(mL/100 g/min)^2', optional=True)
    cbf_status = image('its status', '', optional=True)
    cbf_facts = traits.Dict(desc='degrees of freedom', unit='')
    grey_matter = image('grey-matter probability', '1', optional=True)
    white_matter = image('white matter: reference voxels, or probability', '1', optional=True)
    grey_matter_cbv = traits.Float(desc='literature value', unit='mL/mL')
    white_matter_cbv = traits.Float(desc='literature value', unit='mL/mL')
    relative_error = traits.Float(desc='of a literature value', unit='1')
    grubb_factor = traits.Float(desc='CBV at unit CBF', unit='mL/mL')
    grubb_exponent = traits.Float(desc='exponent of the power law', unit='1')


class _CBVOutputSpec(TraitedSpec):
    cbv = result('cerebral blood volume', 'mL/mL')
    cbv_variance = result('its random variance', '(mL/mL)^2')
    cbv_status = result('why a voxel has no estimate', '')
    cbv_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateCBV(ModelInterface):
    """Estimate CBV with one model of the registry."""

    quantity = 'cbv'
    input_spec = _CBVInputSpec
    output_spec = _CBVOutputSpec
