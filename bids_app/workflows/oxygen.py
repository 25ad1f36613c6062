"""R2', OEF and CMRO2 of one condition, on the quantification grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bids_app.interfaces.oxygen import EstimateCMRO2, EstimateOEF, EstimateR2Prime
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content
from bids_app.models.oxygen.mqbold import static_dephasing_constant
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app.bids.scans import AseSeries, ParticipantInputs
    from bids_app.settings import OxygenSettings, Settings


def oef_constants(inputs: ParticipantInputs, settings: OxygenSettings) -> dict[str, float]:
    """Constants of the OEF model."""
    return {
        'b0': inputs.b0,
        'hct': inputs.hct,
        'small_vessel_hct_ratio': settings.small_vessel_hct_ratio,
        'susceptibility': settings.susceptibility,
        'gyromagnetic_ratio': settings.gyromagnetic_ratio,
    }


def dephasing_constant_of(inputs: ParticipantInputs, settings: OxygenSettings) -> float:
    """R2' per unit OEF and unit blood volume, 1/s."""
    return float(static_dephasing_constant(**oef_constants(inputs, settings)))


def cao2_of(inputs: ParticipantInputs, settings: OxygenSettings) -> float:
    """Arterial oxygen content, umol/mL."""
    return float(
        arterial_oxygen_content(
            hct=inputs.hct,
            sao2=inputs.sao2,
            oxygen_per_haemoglobin=settings.oxygen_per_haemoglobin,
            haemoglobin_per_hct=settings.haemoglobin_per_hct,
        )
    )


def chain_constants(inputs: ParticipantInputs, settings: Settings) -> dict[str, float]:
    """Parameters of the models that make maps from other maps; without what is not known."""
    volume, oxygen = settings.blood_volume, settings.oxygen
    known = {
        **oef_constants(inputs, oxygen),
        'grubb_factor': volume.grubb_factor,
        'grubb_exponent': volume.grubb_exponent,
    }
    if not (math.isnan(inputs.hct) or math.isnan(inputs.sao2)):
        known['cao2'] = cao2_of(inputs, oxygen)
    return {name: float(value) for name, value in known.items() if not math.isnan(value)}


INTERFACES = {'r2_prime': EstimateR2Prime, 'oef': EstimateOEF, 'cmro2': EstimateCMRO2}
"""Quantities that models make of other maps."""


def init_model_wf(
    *, quantity: str, model: str, constants: Mapping[str, float], name: str
) -> Workflow:
    """
    Build the graph that makes a quantity of other maps by a row of the registry.

    Parameters
    ----------
    quantity, model : str
        Row of the registry.
    constants : mapping of str to float
        Parameters, those of other rows too.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask : file
        On the quantification grid.
    r2_star, r2, r2_prime, cbv, cbf, oef : quantity
        Those that the row takes, in its units.

    Outputs
    -------
    r2_prime, oef or cmro2 : quantity
        In the unit of the row.
    """
    spec = MODELS[quantity][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode, outputnode = ports('inputnode', 'mask', *spec.maps), ports('outputnode', quantity)
    given = {parameter: constants[parameter] for parameter in spec.parameters}
    estimate = pe.Node(INTERFACES[quantity](model=model, **given), name=f'estimate_{quantity}')
    workflow.connect([
        (inputnode, estimate, [(port, port) for port in ('mask', *spec.maps)]),
        (estimate, outputnode, [(quantity, quantity)]),
    ])  # fmt: skip
    return workflow


def init_qbold_wf(
    *,
    series: AseSeries,
    inputs: ParticipantInputs,
    settings: OxygenSettings,
    model: str,
    name: str = 'qbold',
) -> Workflow:
    """
    Build the graph from an asymmetric spin echo to OEF and R2'.

    Inputs
    ------
    series, mask, noise_groups : file
        The volumes, aligned to each other; on their grid.

    Outputs
    -------
    oef : quantity
        Dimensionless.
    r2_prime : quantity
        1/s.
    """
    spec = MODELS['oef'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'series', 'mask', 'noise_groups')
    outputnode = ports('outputnode', 'oef', *spec.also)
    estimate = pe.Node(
        EstimateOEF(
            model=model,
            displacements=list(series.displacements),
            **oef_constants(inputs, settings),
        ),
        name='estimate_oef',
    )
    given = [('series', 'signal'), ('mask', 'mask'), ('noise_groups', 'noise_groups')]
    workflow.connect([(inputnode, estimate, given)])
    workflow.connect([(estimate, outputnode, [(port, port) for port in ('oef', *spec.also)])])
    return workflow
