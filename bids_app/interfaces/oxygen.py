"""Oxygen extraction and metabolism."""

from __future__ import annotations

from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    ModelInterface,
    TraitedSpec,
    image,
    result,
    traits,
)
from bids_app.models.registry import choices


class _OEFInputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('oef'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    r2_prime = image('reversible relaxation rate', '1/s', optional=True)
    r2_prime_variance = image('its random variance', '1/s^2', optional=True)
    r2_prime_status = image('its status', '', optional=True)
    r2_prime_facts = traits.Dict(desc='degrees of freedom', unit='')
    cbv = image('cerebral blood volume', 'mL/mL', optional=True)
    cbv_variance = image('its random variance', '(mL/mL)^2', optional=True)
    cbv_status = image('its status', '', optional=True)
    cbv_facts = traits.Dict(desc='degrees of freedom', unit='')
    signal = image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True)
    displacements = traits.List(traits.Float, desc='of the spin echo, per volume', unit='s')
    noise_groups = image('voxels with equal noise', '', optional=True)
    b0 = traits.Float(mandatory=True, desc='main magnetic field', unit='T')
    hct = traits.Float(mandatory=True, desc='large-vessel haematocrit', unit='1')
    small_vessel_hct_ratio = traits.Float(mandatory=True, desc='of small vessels', unit='1')
    susceptibility = traits.Float(mandatory=True, desc='per unit haematocrit, cgs', unit='1')
    gyromagnetic_ratio = traits.Float(mandatory=True, desc='of the proton', unit='rad/s/T')


class _OEFOutputSpec(TraitedSpec):
    oef = result('oxygen extraction fraction', '1')
    oef_variance = result('its random variance', '1')
    oef_status = result('why a voxel has no estimate', '')
    oef_facts = traits.Dict(desc='entries of the sidecar', unit='')
    r2_prime = result('reversible relaxation rate by the asymmetric spin echo', '1/s')
    r2_prime_variance = result('its random variance', '1/s^2')
    r2_prime_status = result('why a voxel has no estimate', '')
    r2_prime_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateOEF(ModelInterface):
    """Estimate OEF with one model of the registry."""

    quantity = 'oef'
    input_spec = _OEFInputSpec
    output_spec = _OEFOutputSpec


class _CMRO2InputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('cmro2'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    cbf = image('cerebral blood flow', 'mL/100 g/min')
    cbf_variance = image('its random variance', '(mL/100 g/min)^2')
    cbf_status = image('its status', '')
    cbf_facts = traits.Dict(desc='degrees of freedom', unit='')
    oef = image('oxygen extraction fraction', '1')
    oef_variance = image('its random variance', '1')
    oef_status = image('its status', '')
    oef_facts = traits.Dict(desc='degrees of freedom', unit='')
    cao2 = traits.Float(mandatory=True, desc='arterial oxygen content', unit='umol/mL')


class _CMRO2OutputSpec(TraitedSpec):
    cmro2 = result('metabolic rate of oxygen', 'umol/100 g/min')
    cmro2_variance = result('its random variance', '(umol/100 g/min)^2')
    cmro2_status = result('why a voxel has no estimate', '')
    cmro2_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateCMRO2(ModelInterface):
    """Estimate CMRO2 by the Fick principle."""

    quantity = 'cmro2'
    input_spec = _CMRO2InputSpec
    output_spec = _CMRO2OutputSpec
