"""R2', OEF and CMRO2 of one condition, on the quantification grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.interfaces.oxygen import EstimateCMRO2, EstimateOEF
from bids_app.interfaces.relaxometry import EstimateR2Prime
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content
from bids_app.models.oxygen.mqbold import dephasing_rate
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Quantity, Workflow, connect_quantity, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.scans import AseSeries, ParticipantInputs
    from bids_app.settings import OxygenSettings


def oef_constants(inputs: ParticipantInputs, settings: OxygenSettings) -> dict[str, float]:
    """Constants of the OEF model."""
    return {
        'b0': inputs.b0,
        'hct': inputs.hct,
        'small_vessel_hct_ratio': settings.small_vessel_hct_ratio,
        'susceptibility': settings.susceptibility,
        'gyromagnetic_ratio': settings.gyromagnetic_ratio,
    }


def rate_of(inputs: ParticipantInputs, settings: OxygenSettings) -> float:
    """R2' per unit OEF and unit blood volume, 1/s."""
    return float(dephasing_rate(**oef_constants(inputs, settings)))


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


def init_r2_prime_wf(*, model: str, name: str = 'r2_prime') -> Workflow:
    """
    Build the graph from R2* and R2 to R2'.

    Inputs
    ------
    mask : file
        On the quantification grid.
    r2_star, r2 : quantity
        1/s.

    Outputs
    -------
    r2_prime : quantity
        1/s.
    """
    spec = MODELS['r2_prime'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', *spec.maps)
    outputnode = ports('outputnode', 'r2_prime')
    estimate = pe.Node(EstimateR2Prime(model=model), name='estimate_r2_prime')
    workflow.connect([(inputnode, estimate, [('mask', 'mask')])])
    for quantity in spec.maps:
        connect_quantity(workflow, Quantity(inputnode, quantity), estimate, quantity)
    connect_quantity(workflow, Quantity(estimate, 'r2_prime'), outputnode, 'r2_prime')
    return workflow


def init_oef_wf(
    *, inputs: ParticipantInputs, settings: OxygenSettings, model: str, name: str = 'oef'
) -> Workflow:
    """
    Build the graph from R2' and blood volume to OEF.

    Inputs
    ------
    mask : file
        On the quantification grid.
    r2_prime : quantity
        1/s.
    cbv : quantity
        mL/mL.

    Outputs
    -------
    oef : quantity
        Dimensionless.
    """
    spec = MODELS['oef'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', *spec.maps)
    outputnode = ports('outputnode', 'oef')
    estimate = pe.Node(
        EstimateOEF(model=model, **oef_constants(inputs, settings)),
        name='estimate_oef',
    )
    workflow.connect([(inputnode, estimate, [('mask', 'mask')])])
    for quantity in spec.maps:
        connect_quantity(workflow, Quantity(inputnode, quantity), estimate, quantity)
    connect_quantity(workflow, Quantity(estimate, 'oef'), outputnode, 'oef')
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
    for quantity in ('oef', *spec.also):
        connect_quantity(workflow, Quantity(estimate, quantity), outputnode, quantity)
    return workflow


def init_cmro2_wf(
    *, inputs: ParticipantInputs, settings: OxygenSettings, model: str, name: str = 'cmro2'
) -> Workflow:
    """
    Build the graph from CBF and OEF to CMRO2.

    Inputs
    ------
    mask : file
        On the quantification grid.
    cbf : quantity
        mL/100 g/min.
    oef : quantity
        Dimensionless.

    Outputs
    -------
    cmro2 : quantity
        umol/100 g/min.
    """
    spec = MODELS['cmro2'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', *spec.maps)
    outputnode = ports('outputnode', 'cmro2')
    estimate = pe.Node(
        EstimateCMRO2(model=model, cao2=cao2_of(inputs, settings)),
        name='estimate_cmro2',
    )
    workflow.connect([(inputnode, estimate, [('mask', 'mask')])])
    for quantity in spec.maps:
        connect_quantity(workflow, Quantity(inputnode, quantity), estimate, quantity)
    connect_quantity(workflow, Quantity(estimate, 'cmro2'), outputnode, 'cmro2')
    return workflow
