"""Quantities that models make of other maps: R2', oxygen extraction, metabolism."""

from __future__ import annotations

from bids_app.interfaces._base import ModelInterface, image, traits

_ASE = {
    'signal': image('asymmetric spin echo, one volume per displacement', 'a.u.', optional=True),
    'displacements': traits.List(traits.Float, desc='of the spin echo, per volume', unit='s'),
    'noise_groups': image('voxels with equal noise', '', optional=True),
}
"""What the models take that fit OEF to the scan itself."""


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
