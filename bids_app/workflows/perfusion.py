"""CBF from arterial spin labeling, on the grid of the series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.interfaces.perfusion import (
    EstimateCBF,
    EstimateDifference,
    EstimateM0,
    MapDelay,
    SeparateM0Error,
)
from bids_app.models.perfusion import t1_blood_at, t1_tissue_at
from bids_app.models.registry import MODELS
from bids_app.workflows._engine import Quantity, Workflow, connect_quantity, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import AslSeries
    from bids_app.settings import PerfusionSettings


def reference_volumes(series: AslSeries) -> tuple[tuple[object, ...], tuple[int, ...]]:
    """Image and volumes that stand for the scan: M0 where it is on its grid, else the controls."""
    if series.m0.kind == 'Included':
        return (series.file,), series.m0.volumes
    if series.m0.kind == 'Separate' and series.m0.file is not None:
        return (series.m0.file,), series.m0.volumes
    controls = tuple(i for i, kind in enumerate(series.context) if kind in ('control', 'label'))
    return (series.file,), controls


def constants_of(series: AslSeries, settings: PerfusionSettings, b0: float) -> dict[str, float]:
    """Constants of the single-delay model: setting, else by field strength."""
    return {
        'label_duration': series.label_duration,
        'labeling_efficiency': series.labeling_efficiency,
        'background_suppression_factor': series.background_suppression_factor,
        't1_blood': settings.t1_blood or t1_blood_at(b0),
        'partition_coefficient': settings.partition_coefficient,
    }


def init_perfusion_wf(
    *, series: AslSeries, settings: PerfusionSettings, b0: float, name: str = 'perfusion'
) -> Workflow:
    """
    Build the graph from a label-control series to CBF.

    Parameters
    ----------
    series : AslSeries
        Files, context and timing (s).
    settings : PerfusionSettings
        Model and constants.
    b0 : float
        Main field, T.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask, noise_groups : file
        On the grid of the series.

    Outputs
    -------
    cbf : quantity
        mL/100 g/min.
    cbf_without_m0 : quantity
        The same values; the variance leaves out the error of M0. Only where conditions share M0.
    m0_relative : quantity
        Its variance is the relative variance of M0. Only where conditions share M0.
    """
    spec = MODELS['cbf'][settings.model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'mask', 'noise_groups')
    outputnode = ports('outputnode', quantities=('cbf', 'cbf_without_m0', 'm0_relative'))
    difference = pe.Node(
        EstimateDifference(series=str(series.file), context=list(series.context)),
        name='estimate_difference',
        mem_gb=1,
    )
    m0 = pe.Node(
        EstimateM0(
            series=str(series.m0.file),
            volumes=list(series.m0.volumes),
            t1_tissue=settings.t1_tissue or t1_tissue_at(b0),
            n_pairs=max(sum(kind in ('label', 'deltam') for kind in series.context), 1),
        ),
        name='estimate_m0',
        mem_gb=0.5,
    )
    if series.m0.repetition_time:
        m0.inputs.repetition_time = series.m0.repetition_time
    delay = pe.Node(
        MapDelay(
            post_label_delay=delay_of(series), slice_times=[float(t) for t in series.slice_times]
        ),
        name='map_delay',
        mem_gb=0.5,
    )
    estimate = pe.Node(
        EstimateCBF(model=settings.model, **constants_of(series, settings, b0)),
        name='estimate_cbf',
        mem_gb=0.5,
    )
    workflow.connect([
        (inputnode, difference, [('mask', 'mask'), ('noise_groups', 'noise_groups')]),
        (inputnode, m0, [('mask', 'mask')]),
        (inputnode, delay, [('mask', 'mask')]),
        (inputnode, estimate, [('mask', 'mask')]),
        (difference, m0, [('difference_variance', 'difference_variance')]),
        (delay, estimate, [('delay', 'post_label_delay')]),
    ])  # fmt: skip
    connect_quantity(workflow, Quantity(difference, 'difference'), estimate, 'difference')
    connect_quantity(workflow, Quantity(m0, 'm0'), estimate, 'm0')
    connect_quantity(workflow, Quantity(estimate, 'cbf'), outputnode, 'cbf')
    if series.m0.shared:
        split = pe.Node(SeparateM0Error(), name='separate_m0_error', mem_gb=0.5)
        workflow.connect([(inputnode, split, [('mask', 'mask')])])
        connect_quantity(workflow, Quantity(m0, 'm0'), split, 'm0')
        connect_quantity(workflow, Quantity(estimate, 'cbf'), split, 'cbf')
        for port in ('cbf_without_m0', 'm0_relative'):
            connect_quantity(workflow, Quantity(split, port), outputnode, port)
    return workflow


def delay_of(series: AslSeries) -> float:
    """Post-labelling delay of the difference volumes, s."""
    delays = {
        delay
        for delay, kind in zip(series.post_label_delay, series.context, strict=True)
        if kind in ('control', 'label', 'deltam')
    }
    return max(delays)
