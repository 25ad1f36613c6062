"""Quantities that models make of other maps: R2', oxygen extraction, metabolism."""

from __future__ import annotations

from bids_app.interfaces._base import ModelInterface, image, model_specs, traits

_ASE = {
    'signal': image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True),
    'displacements': traits.List(traits.Float, desc='of the spin echo, per volume', unit='s'),
    'noise_groups': image('voxels with equal noise', '', optional=True),
}
"""What the models take that fit OEF to the scan itself."""


_R2PrimeInputSpec, _R2PrimeOutputSpec = model_specs('r2_prime', (__name__, '_R2Prime'))
_OEFInputSpec, _OEFOutputSpec = model_specs('oef', (__name__, '_OEF'), **_ASE)
_MaximumInputSpec, _MaximumOutputSpec = model_specs('bold_maximum', (__name__, '_Maximum'))
_CVRInputSpec, _CVROutputSpec = model_specs('cvr', (__name__, '_CVR'))
_CMRO2InputSpec, _CMRO2OutputSpec = model_specs('cmro2', (__name__, '_CMRO2'))


class EstimateR2Prime(ModelInterface):
    """Estimate R2' by a model of the registry."""

    quantity = 'r2_prime'
    input_spec, output_spec = _R2PrimeInputSpec, _R2PrimeOutputSpec


class EstimateOEF(ModelInterface):
    """Estimate OEF by a model of the registry."""

    quantity = 'oef'
    input_spec, output_spec = _OEFInputSpec, _OEFOutputSpec


class EstimateMaximumBOLD(ModelInterface):
    """Estimate the maximum of BOLD by a model of the registry."""

    quantity = 'bold_maximum'
    input_spec, output_spec = _MaximumInputSpec, _MaximumOutputSpec


class EstimateReactivity(ModelInterface):
    """Estimate the vascular reactivity by a model of the registry."""

    quantity = 'cvr'
    input_spec, output_spec = _CVRInputSpec, _CVROutputSpec


class EstimateCMRO2(ModelInterface):
    """Estimate CMRO2 by a model of the registry."""

    quantity = 'cmro2'
    input_spec, output_spec = _CMRO2InputSpec, _CMRO2OutputSpec
