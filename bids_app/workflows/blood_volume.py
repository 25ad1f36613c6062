"""CBV: measured by the bolus, from the literature, or from CBF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.interfaces.blood_volume import EstimateCBV, EstimateRelativeCBV, SelectWhiteMatter
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Quantity, Workflow, connect_quantity, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import DscSeries
    from bids_app.settings import BloodVolumeSettings


def init_dsc_wf(
    *, series: DscSeries, settings: BloodVolumeSettings, name: str = 'blood_volume'
) -> Workflow:
    """
    Build the graph from a bolus series to CBV.

    Parameters
    ----------
    series : DscSeries
        File and timing (s).
    settings : BloodVolumeSettings
        White-matter reference.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask, noise_groups, white_matter : file
        On the grid of the series.

    Outputs
    -------
    cbv : quantity
        mL/mL.
    """
    spec = MODELS['cbv']['dsc']
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups', 'white_matter')
    outputnode = ports('outputnode', quantities=('cbv',))
    relative = pe.Node(
        EstimateRelativeCBV(
            series=str(series.file),
            echo_time=series.echo_time,
            repetition_time=series.repetition_time,
        ),
        name='estimate_relative_cbv',
        mem_gb=2,
    )
    select = pe.Node(SelectWhiteMatter(), name='select_white_matter', mem_gb=0.5)
    estimate = pe.Node(
        EstimateCBV(model='dsc', white_matter_cbv=settings.white_matter_cbv),
        name='normalise_cbv',
        mem_gb=0.5,
    )
    workflow.connect([
        (inputnode, relative, [('mask', 'mask'), ('noise_groups', 'noise_groups')]),
        (inputnode, select, [('white_matter', 'white_matter')]),
        (inputnode, estimate, [('mask', 'mask')]),
        (select, estimate, [('white_matter', 'white_matter')]),
    ])  # fmt: skip
    connect_quantity(workflow, Quantity(relative, 'relative_cbv'), estimate, 'relative_cbv')
    connect_quantity(workflow, Quantity(estimate, 'cbv'), outputnode, 'cbv')
    return workflow


def init_assumed_cbv_wf(*, settings: BloodVolumeSettings, name: str = 'blood_volume') -> Workflow:
    """
    Build the graph to a CBV that was chosen, not measured: literature, or a power law of CBF.

    Parameters
    ----------
    settings : BloodVolumeSettings
        Model ``literature`` or ``grubb`` and its constants.
    name : str
        Node name in the parent graph.

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
    inputnode = ports('inputnode', 'mask', 'grey_matter', 'white_matter', quantities=('cbf',))
    outputnode = ports('outputnode', quantities=('cbv',))
    constants = {parameter: getattr(settings, parameter) for parameter in spec.parameters}
    estimate = pe.Node(EstimateCBV(model=model, **constants), name='assume_cbv', mem_gb=0.5)
    workflow.connect([(inputnode, estimate, [(port, port) for port in ('mask', *spec.data)])])
    for quantity in spec.maps:
        connect_quantity(workflow, Quantity(inputnode, quantity), estimate, quantity)
    connect_quantity(workflow, Quantity(estimate, 'cbv'), outputnode, 'cbv')
    return workflow
