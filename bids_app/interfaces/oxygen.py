"""Oxygen extraction and metabolism."""

from __future__ import annotations

from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    ModelInterface,
    TraitedSpec,
    estimated,
    image,
    traits,
)
from bids_app.models.registry import choices


class _OEFInputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('oef'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    r2_prime = estimated('reversible relaxation rate', '1/s', optional=True)
    cbv = estimated('cerebral blood volume', 'mL/mL', optional=True)
    signal = image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True)
    displacements = traits.List(traits.Float, desc='of the spin echo, per volume', unit='s')
    noise_groups = image('voxels with equal noise', '', optional=True)
    b0 = traits.Float(mandatory=True, desc='main magnetic field', unit='T')
    hct = traits.Float(mandatory=True, desc='large-vessel haematocrit', unit='1')
    small_vessel_hct_ratio = traits.Float(mandatory=True, desc='of small vessels', unit='1')
    susceptibility = traits.Float(mandatory=True, desc='per unit haematocrit, cgs', unit='1')
    gyromagnetic_ratio = traits.Float(mandatory=True, desc='of the proton', unit='rad/s/T')


class _OEFOutputSpec(TraitedSpec):
    oef = estimated('oxygen extraction fraction', '1')
    r2_prime = estimated('reversible relaxation rate by the asymmetric spin echo', '1/s')


class EstimateOEF(ModelInterface):
    """Estimate OEF with one model of the registry."""

    quantity = 'oef'
    input_spec = _OEFInputSpec
    output_spec = _OEFOutputSpec


class _CMRO2InputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('cmro2'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    cbf = estimated('cerebral blood flow', 'mL/100 g/min')
    oef = estimated('oxygen extraction fraction', '1')
    cao2 = traits.Float(mandatory=True, desc='arterial oxygen content', unit='umol/mL')


class _CMRO2OutputSpec(TraitedSpec):
    cmro2 = estimated('metabolic rate of oxygen', 'umol/100 g/min')


class EstimateCMRO2(ModelInterface):
    """Estimate CMRO2 by the Fick principle."""

    quantity = 'cmro2'
    input_spec = _CMRO2InputSpec
    output_spec = _CMRO2OutputSpec
