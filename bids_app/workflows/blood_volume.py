"""CBV: measured by the bolus, from the literature, or from CBF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import map_of_user
from bids_app.interfaces.blood_volume import EstimateCBV, SelectWhiteMatter
from bids_app.interfaces.dsc import EstimateArterialInput, EstimateBolus
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import MapPort, Workflow, connect_quantity, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.scans import AseSeries, DscSeries, ParticipantInputs
    from bids_app.settings import BloodVolumeSettings


LEAKAGE = ('k1', 'k2')
BY_PRODUCTS = ('boluscbf', 'mtt', 'tmax')


def quantities_of(settings: BloodVolumeSettings) -> tuple[str, ...]:
    """Give what is made of a bolus beside CBV."""
    leakage = LEAKAGE if settings.leakage != 'none' else ()
    return leakage + (BY_PRODUCTS if settings.deconvolution != 'none' else ())


def needs_artery(model: str, settings: BloodVolumeSettings) -> bool:
    """Tell whether the arterial input is needed."""
    return model == 'arterial' or settings.deconvolution != 'none'


def init_dsc_wf(
    *,
    series: DscSeries,
    inputs: ParticipantInputs,
    settings: BloodVolumeSettings,
    haematocrit_factor: float,
    model: str,
    is_target: bool,
    name: str = 'blood_volume',
) -> Workflow:
    """
    Build the graph from a bolus series to CBV.

    Where the series is not the quantification grid, a rim around the brain is estimated too, so
    that no voxel of the brain is resampled from a part of its neighbours.

    Inputs
    ------
    series : file
        With the head at one place.
    mask, noise_groups, white_matter : file
        On its grid.

    Outputs
    -------
    cbv : quantity
        mL/mL.
    k1, k2, boluscbf, mtt, tmax : quantity
        Where the settings ask for them.
    bolus_curve : file
        Of the brain.
    arterial_curve : file
        Where it is needed.
    """
    spec = MODELS['cbv'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'series', 'mask', 'noise_groups', 'white_matter')
    extras = quantities_of(settings)
    outputnode = ports('outputnode', 'bolus_curve', 'arterial_curve', 'cbv', *extras)
    taken = ('series', 'mask', 'noise_groups')
    common: dict[str, Any] = {
        'echo_time': series.echo_time,
        'repetition_time': series.repetition_time,
        'is_widened': not is_target,
        'area': settings.area,
    }
    bolus = pe.Node(
        EstimateBolus(
            accepted_defects=list(settings.accepted_defects),
            correct_leakage=settings.leakage != 'none',
            **common,
        ),
        name='estimate_bolus',
    )
    estimate = pe.Node(
        EstimateCBV(
            model=model,
            large_vessel_cbv=settings.large_vessel_cbv,
            excludes_vessels=settings.large_vessels == 'exclude',
        ),
        name='normalise_cbv',
    )
    workflow.connect([
        (inputnode, bolus, taken),
        (bolus, estimate, ['mask', 'bolus_time']),
        (bolus, outputnode, ['bolus_curve']),
    ])  # fmt: skip
    if model == 'dsc':
        select = pe.Node(SelectWhiteMatter(), name='select_white_matter')
        estimate.inputs.white_matter_cbv = settings.white_matter_cbv
        workflow.connect([
            (inputnode, select, ['white_matter']),
            (select, estimate, ['white_matter']),
        ])  # fmt: skip
    if needs_artery(model, settings):
        artery = pe.Node(
            EstimateArterialInput(
                deconvolves=settings.deconvolution != 'none',
                oscillation_index=settings.oscillation_index,
                haematocrit_factor=haematocrit_factor,
                **common,
            ),
            name='estimate_arterial_input',
        )
        if settings.arterial_mask is not None:
            artery.inputs.arterial_mask = map_of_user(
                settings.arterial_mask, 'blood_volume.arterial_mask', inputs
            )
        workflow.connect([
            (inputnode, artery, taken),
            (artery, outputnode, ['arterial_curve']),
        ])  # fmt: skip
        if model == 'arterial':
            estimate.inputs.haematocrit_factor = haematocrit_factor
            workflow.connect([(artery, estimate, ['arterial_area'])])
        for quantity in BY_PRODUCTS if settings.deconvolution != 'none' else ():
            connect_quantity(workflow, MapPort(artery, quantity), outputnode, quantity)
    connect_quantity(workflow, MapPort(bolus, 'relative_cbv'), estimate, 'relative_cbv')
    connect_quantity(workflow, MapPort(estimate, 'cbv'), outputnode, 'cbv')
    for quantity in LEAKAGE if settings.leakage != 'none' else ():
        connect_quantity(workflow, MapPort(bolus, quantity), outputnode, quantity)
    return workflow


def init_ase_cbv_wf(*, series: AseSeries, name: str = 'blood_volume') -> Workflow:
    """
    Build the graph from an asymmetric spin echo to the deoxygenated blood volume.

    Inputs
    ------
    series, mask, noise_groups : file
        The volumes, aligned to each other; on their grid.

    Outputs
    -------
    cbv : quantity
        mL/mL.
    """
    spec = MODELS['cbv']['ase']
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'series', 'mask', 'noise_groups')
    outputnode = ports('outputnode', 'cbv')
    estimate = pe.Node(
        EstimateCBV(model='ase', displacements=list(series.displacements)),
        name='estimate_cbv',
    )
    given = [('series', 'signal'), 'mask', 'noise_groups']
    workflow.connect([(inputnode, estimate, given)])
    connect_quantity(workflow, MapPort(estimate, 'cbv'), outputnode, 'cbv')
    return workflow


def init_assumed_cbv_wf(*, settings: BloodVolumeSettings, name: str = 'blood_volume') -> Workflow:
    """
    Build the graph to a CBV that was chosen, not measured: literature, or a power law of CBF.

    Inputs
    ------
    mask, grey_matter, white_matter : file
        On the quantification grid (literature).
    cbf : quantity
        mL/100 g/min, on the quantification grid (grubb).

    Outputs
    -------
    cbv : quantity
        mL/mL.
    """
    model = str(settings.model)
    spec = MODELS['cbv'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'grey_matter', 'white_matter', 'cbf')
    outputnode = ports('outputnode', 'cbv')
    constants = {parameter: getattr(settings, parameter) for parameter in spec.parameters}
    estimate = pe.Node(EstimateCBV(model=model, **constants), name='assume_cbv')
    workflow.connect([(inputnode, estimate, ('mask', *spec.data))])
    for quantity in spec.maps:
        connect_quantity(workflow, MapPort(inputnode, quantity), estimate, quantity)
    connect_quantity(workflow, MapPort(estimate, 'cbv'), outputnode, 'cbv')
    return workflow
