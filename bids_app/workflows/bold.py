"""Percent BOLD change of one run, on its own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.interfaces.bold import EstimatePercentChange
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import BoldRun, Contrast
    from bids_app.settings import BoldSettings


def init_bold_wf(
    *,
    run: BoldRun,
    contrasts: tuple[Contrast, ...],
    settings: BoldSettings,
    half: str = 'all',
    name: str = 'bold',
) -> Workflow:
    """
    Build the graph from a task run to the percent change of every contrast.

    Parameters
    ----------
    run : BoldRun
        File, repetition time (s) and events.
    contrasts : tuple of Contrast
        Those whose conditions are in the run.
    settings : BoldSettings
        Design and noise model.
    half : {'all', 'first', 'second'}
        All blocks, or every other one.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask : file
        On the grid of the run.

    Outputs
    -------
    bold : quantity, one per contrast
        Percent.
    """
    workflow = Workflow(
        name,
        methods='Percent BOLD change was estimated with a general linear model whose effect was '
        'scaled to the mean response in the task windows over the fitted baseline',
        citations=('abraham2014',),
    )
    inputnode = ports('inputnode', 'mask')
    outputnode = ports('outputnode', quantities=('bold',))
    estimate = pe.Node(
        EstimatePercentChange(
            series=str(run.file),
            repetition_time=run.repetition_time,
            events=[(event.onset, event.duration, event.trial_type) for event in run.events],
            baseline=contrasts[0].baseline,
            contrasts=[(contrast.task, contrast.baseline) for contrast in contrasts],
            hrf_model=settings.hrf_model,
            noise_model=settings.noise_model,
            window_start=settings.window_start,
            half=half,
        ),
        name='estimate_percent_change',
        mem_gb=3,
    )
    if settings.high_pass is not None:
        estimate.inputs.high_pass = settings.high_pass
    workflow.connect([
        (inputnode, estimate, [('mask', 'mask')]),
        (estimate, outputnode, [(f'bold{part}', f'bold{part}')
                                for part in ('', '_variance', '_status', '_facts')]),
    ])  # fmt: skip
    return workflow
