"""R2 from MESE and R2* from MEGRE, each on the grid of its scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.interfaces.relaxometry import (
    EstimateFieldMap,
    EstimateR2,
    EstimateR2Star,
    PredictDephasing,
)
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Quantity, Workflow, connect_quantity, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import EchoSeries
    from bids_app.settings import RelaxometrySettings


def init_r2_wf(*, series: EchoSeries, settings: RelaxometrySettings, name: str = 'r2') -> Workflow:
    """
    Build the graph from a multi-echo spin echo to R2.

    Parameters
    ----------
    series : EchoSeries
        Files and echo times (s).
    settings : RelaxometrySettings
        Model.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask, noise_groups : file
        On the grid of the series.

    Outputs
    -------
    r2 : quantity
        1/s.
    """
    spec = MODELS['r2'][settings.t2_model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups')
    outputnode = ports('outputnode', quantities=('r2',))
    estimate = pe.Node(
        EstimateR2(
            model=settings.t2_model,
            signal=[str(path) for path in series.magnitude],
            echo_times=list(series.echo_times),
        ),
        name='estimate_r2',
        mem_gb=1,
    )
    workflow.connect([
        (inputnode, estimate, [('mask', 'mask'), ('noise_groups', 'noise_groups')]),
    ])  # fmt: skip
    connect_quantity(workflow, Quantity(estimate, 'r2'), outputnode, 'r2')
    return workflow


def init_r2_star_wf(
    *, series: EchoSeries, settings: RelaxometrySettings, name: str = 'r2_star'
) -> Workflow:
    """
    Build the graph from a multi-echo gradient echo to R2*, with the field map on the way.

    Parameters
    ----------
    series : EchoSeries
        Files and echo times (s); without phase no correction of background gradients is made.
    settings : RelaxometrySettings
        Model and slice profile.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask, noise_groups : file
        On the grid of the series.

    Outputs
    -------
    r2_star : quantity
        1/s.
    field_map, field_magnitude : file
        Hz; only with phase.
    """
    spec = MODELS['r2_star'][settings.t2_star_model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups')
    outputnode = ports('outputnode', 'field_map', 'field_magnitude', quantities=('r2_star',))
    magnitude = [str(path) for path in series.magnitude]
    echo_times = list(series.echo_times)
    estimate = pe.Node(
        EstimateR2Star(
            model=settings.t2_star_model,
            signal=magnitude,
            echo_times=echo_times,
            dephasing_floor=settings.dephasing_floor,
        ),
        name='estimate_r2_star',
        mem_gb=1,
    )
    workflow.connect([
        (inputnode, estimate, [('mask', 'mask'), ('noise_groups', 'noise_groups')]),
    ])  # fmt: skip
    connect_quantity(workflow, Quantity(estimate, 'r2_star'), outputnode, 'r2_star')
    if series.phase:
        field = pe.Node(
            EstimateFieldMap(
                magnitude=magnitude,
                phase=[str(path) for path in series.phase],
                echo_times=echo_times,
            ),
            name='estimate_field_map',
            mem_gb=1,
        )
        dephasing = pe.Node(
            PredictDephasing(echo_times=echo_times, slice_profile=settings.slice_profile),
            name='predict_dephasing',
            mem_gb=1,
        )
        workflow.connect([
            (inputnode, field, [('mask', 'mask')]),
            (inputnode, dephasing, [('mask', 'mask')]),
            (field, dephasing, [('field_map', 'field_map')]),
            (dephasing, estimate, [('dephasing', 'dephasing')]),
            (field, outputnode, [('field_map', 'field_map'),
                                 ('field_magnitude', 'field_magnitude')]),
        ])  # fmt: skip
    else:
        workflow.methods += ' (no phase images: background gradients were not corrected)'
        estimate.inputs.dephasing_floor = 0.0
    return workflow
