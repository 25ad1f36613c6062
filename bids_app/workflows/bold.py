"""Percent BOLD change of one run, on its own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.interfaces.bold import (
    EstimateDecays,
    EstimatePercentChange,
    EstimateTimeCourses,
    FindNuisance,
)
from bids_app.workflows._engine import Workflow, pe, ports
from bids_app.workflows.anatomy import SERIES_PORTS

if TYPE_CHECKING:
    from bids_app.bids.scans import AslSeries, BoldRun, Contrast
    from bids_app.settings import BoldSettings

METHODS = {
    'events': 'The response to one event of each trial type was estimated with a general linear '
    'model and is given in percent of the mean signal',
    'glm': 'Percent BOLD change was estimated with a general linear model whose effect is '
    'the fitted signal of the task windows minus that of the baseline windows, over the latter',
    'block-median': 'Percent BOLD change was computed from the medians of the task windows and '
    'of the baseline windows, without filter or regression',
}


def init_echoes_wf(*, run: BoldRun, name: str = 'echoes') -> Workflow:
    """
    Build the graph from the echoes of a task run to signal, R2* and S0 of every volume.

    Inputs
    ------
    series, other_echoes : file, list of file
        First echo and the others, with the head at one place.
    mask : file
        On their grid.

    Outputs
    -------
    series, r2_star, s0 : file
        At the stated echo time; 1/s; at echo time 0.
    """
    workflow = Workflow(
        name,
        methods='R2* and S0 of every volume were fitted to the echoes of BOLD by weighted least '
        'squares of their logarithm; percent change is that of the fitted signal at '
        f'{run.echo_time:g} s',
        citations=('posse1999',),
    )
    inputnode = ports('inputnode', *SERIES_PORTS, 'mask')
    outputnode = ports('outputnode', 'series', 'r2_star', 's0')
    fit = pe.Node(
        EstimateDecays(
            echo_times=list(run.echo_times), echo_time=run.echo_time, lost=list(run.lost)
        ),
        name='fit_echoes',
    )
    workflow.connect([
        (inputnode, fit, (*SERIES_PORTS, 'mask')),
        (fit, outputnode, ('series', 'r2_star', 's0')),
    ])  # fmt: skip
    return workflow


def init_nuisance_wf(
    *, run: BoldRun, settings: BoldSettings, has_tissue: bool, name: str = 'nuisance'
) -> Workflow:
    """
    Build the graph from a task run to its regressors of no interest.

    Inputs
    ------
    series, mask, white_matter, csf : file
        On the grid of the run.
    motion : file
        Table of the motion, where it is known.

    Outputs
    -------
    nuisance : file
        Table, one row per volume.
    """
    rejected = run.found.rejected if run.found is not None else ()
    methods = (
        f'Components that tedana removed from the task series ({len(rejected)}) are regressors'
    )
    workflow = Workflow(
        name,
        methods=methods if rejected else '',
        citations=('dupre2021',) if rejected else (),
    )
    inputnode = ports('inputnode', 'series', 'mask', 'white_matter', 'csf', 'motion')
    outputnode = ports('outputnode', 'nuisance')
    find = pe.Node(
        FindNuisance(
            repetition_time=run.repetition_time,
            confounds=list(settings.confounds),
            components=settings.noise_components,
            lost=list(run.lost),
            censor_dvars=settings.censor_dvars,
            censor_displacement=settings.censor_displacement,
        ),
        name='find_nuisance',
    )
    if run.found is not None and rejected:
        find.inputs.courses = str(run.found.components)
        find.inputs.rejected = list(rejected)
    tissue = ('white_matter', 'csf') if has_tissue else ()
    workflow.connect([
        (inputnode, find, ['series', 'mask', ('motion', 'table'), *tissue]),
        (find, outputnode, ['nuisance']),
    ])  # fmt: skip
    return workflow


def task_ports(
    run: BoldRun | AslSeries, baseline: str | None, settings: BoldSettings
) -> dict[str, Any]:
    """Give the ports of a task that runs in a series, and of the noise around it."""
    cut_off = {} if settings.high_pass is None else {'high_pass': settings.high_pass}
    return {
        'repetition_time': run.repetition_time,
        'events': [(event.onset, event.duration, event.trial_type) for event in run.events],
        'baseline': baseline,
        'hrf_model': settings.hrf_model,
        'noise_model': settings.noise_model,
        'window_start': settings.window_start,
        **cut_off,
    }


def _design(
    run: BoldRun, contrasts: tuple[Contrast, ...], settings: BoldSettings
) -> dict[str, Any]:
    """Give the inputs that describe the design."""
    given = task_ports(run, contrasts[0].baseline, settings)
    given['contrasts'] = [(contrast.task, contrast.baseline) for contrast in contrasts]
    if run.is_of_events:
        given['measure'] = settings.event_measure
        given['modulators'] = {
            name: [event.modulators[index] for event in run.events]
            for index, name in enumerate(settings.modulators)
        }
    if run.context:
        given['context'] = list(run.context)
    return given


def init_bold_wf(
    *,
    run: BoldRun,
    contrasts: tuple[Contrast, ...],
    settings: BoldSettings,
    half: str = 'all',
    factor: float | None = None,
    name: str = 'bold',
) -> Workflow:
    """
    Build the graph from a task run to the change of every contrast.

    `half` takes all blocks, or every other one. The change is percent of the baseline; with a
    `factor` it is that of the model, times this.

    Inputs
    ------
    series : file
        The run, with the head at one place.
    mask : file
        On its grid.
    nuisance : file
        Table, one row per volume.

    Outputs
    -------
    bold : quantity, one per contrast
        Percent, or the unit of the series times the factor.
    """
    # medians would take the label of ASL for signal
    is_by_model = factor is not None or bool(run.context)
    estimator = 'glm' if is_by_model else settings.estimator
    methods = METHODS['events' if run.is_of_events else estimator] if factor is None else ''
    workflow = Workflow(name, methods=methods, citations=('abraham2014',) if methods else ())
    inputnode = ports('inputnode', 'series', 'mask', 'nuisance')
    outputnode = ports('outputnode', 'bold')
    estimate = pe.Node(
        EstimatePercentChange(
            estimator=estimator,
            half=half,
            slice_times=list(run.slice_times) if settings.slice_timing == 'sidecar' else [],
            slice_axis=run.slice_axis,
            **_design(run, contrasts, settings),
        ),
        name='estimate_percent_change',
    )
    if factor is not None:
        estimate.inputs.factor = factor
    workflow.connect([
        (inputnode, estimate, ('series', 'mask', 'nuisance')),
        (estimate, outputnode, ['bold']),
    ])  # fmt: skip
    return workflow


def init_time_courses_wf(
    *,
    run: BoldRun,
    contrasts: tuple[Contrast, ...],
    settings: BoldSettings,
    minimum_grey_matter: float,
    atlas_table: str,
    name: str = 'time_courses',
) -> Workflow:
    """
    Build the graph from a task run to the course of every condition per region.

    Voxels count from a fraction of `minimum_grey_matter`.

    Inputs
    ------
    series, mask, grey_matter, atlas : file
        On the grid of the run.
    nuisance : file
        Table, one row per volume.

    Outputs
    -------
    table : file
        One row per region, condition and time.
    """
    workflow = Workflow(name)
    fields = ('series', 'mask', 'grey_matter', 'atlas', 'nuisance')
    inputnode = ports('inputnode', *fields)
    outputnode = ports('outputnode', 'table')
    estimate = pe.Node(
        EstimateTimeCourses(
            minimum_grey_matter=minimum_grey_matter,
            atlas_table=atlas_table,
            **_design(run, contrasts, settings),
        ),
        name='estimate_time_courses',
    )
    workflow.connect([
        (inputnode, estimate, fields),
        (estimate, outputnode, ['table']),
    ])  # fmt: skip
    return workflow
