"""The BOLD response of every contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import runs_for_contrast
from bids_app.interfaces.spatial import ResampleLabels
from bids_app.units import PERCENT
from bids_app.workflows._engine import MapPort, pe
from bids_app.workflows.anatomy import SERIES_PORTS, atlas_files
from bids_app.workflows.bold import (
    init_bold_wf,
    init_echoes_wf,
    init_nuisance_wf,
    init_time_courses_wf,
)
from bids_app.workflows.constants import branch_parameters
from bids_app.workflows.wiring.gas import gas_contrasts
from bids_app.workflows.wiring.scans import combine_runs, connect_scan, smooth, to_target

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from bids_app.bids.scans import Contrast
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import AlignedScan, Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is made of a run: of its series, or of one that was fitted to its echoes."""

    quantity: str
    port: str = ''
    """Of the fit to the echoes; empty = the series itself."""
    factor: float | None = None
    """None = percent of the baseline; else the change times this."""
    is_by_time: bool = False
    """Whether the factor is to be multiplied by the echo time."""


BOLD = Measure(quantity='boldPct')
MEASURES = (
    BOLD,
    Measure(quantity='boldR2star', port='r2_star', factor=1.0),
    Measure(quantity='boldS0Pct', port='s0'),
)
DECAY = Measure(quantity='boldPct', port='r2_star', factor=-1 / PERCENT, is_by_time=True)
"""Percent change by R2* alone: -TE times its change."""


def add_bold(graph: Graph) -> None:
    """Add the percent BOLD change of every contrast; halves where BOLD enters CMRO2."""
    sink = graph.sink('save_bold')
    for scan in graph.scans:
        if scan.kind == 'bold' and contrasts_of(graph, scan):
            _add_run(graph, sink, scan)
    graph.close(sink)
    for measure in MEASURES:
        for label, change in _bold_changes(graph, measure).items():
            graph.changes[measure.quantity, label] = change
        for contrast in graph.inputs.contrasts:
            graph.origins[measure.quantity, contrast.label] = _origin(graph, measure, contrast)
    for contrast in graph.inputs.contrasts:
        graph.bold_echo_times[contrast.label] = _echo_time(graph, contrast)
    if graph.settings.change.route != 'quantitative':
        _split_blocks(graph)
    gases = {one.label for one in gas_contrasts(graph).values()}
    # CMRO2 is not in the inflow, which a gas moves, and oxygen by T1 too
    graph.gas_bold.update(_bold_changes(graph, DECAY, only=gases))


def _add_run(graph: Graph, sink: Sink, scan: AlignedScan) -> None:
    """Add what every run has, whatever is compared in it."""
    if scan.series.echoes:
        _fit_echoes(graph, scan)
    graph.nuisance[scan.name] = _add_nuisance(graph, sink, scan)
    # courses of an ASL series would hold what the task does to its label
    if graph.has_template and graph.settings.atlas != 'none' and not scan.series.context:
        _add_time_courses(graph, sink, scan)


def _fit_echoes(graph: Graph, scan: AlignedScan) -> None:
    """Make signal, R2* and S0 of every volume from the echoes of a run."""
    fit = init_echoes_wf(run=scan.series, name=f'echoes_{scan.name}')
    aligned = [(f'outputnode.{port}', f'inputnode.{port}') for port in (*SERIES_PORTS, 'mask')]
    graph.workflow.connect([(graph.alignment[scan.name], fit, aligned)])
    graph.series[scan.name] = MapPort(fit, 'series')


def _origin(graph: Graph, measure: Measure, contrast: Contrast) -> dict[str, Any]:
    """Say from which runs a change is made, and by what."""
    runs = [
        scan.series
        for scan in graph.scans
        if scan.kind == 'bold' and contrast in contrasts_of(graph, scan)
    ]
    files = [path for run in runs for path in (*run.files, run.events_file)]
    about = _sidecar(graph, files, 'glm', measure.quantity)
    echo_times = sorted({time for run in runs for time in run.echo_times})
    return about | ({'EchoTimes': echo_times} if echo_times else {})


def _sidecar(
    graph: Graph, files: list[Path], model: str, quantity: str = 'boldPct'
) -> dict[str, Any]:
    """Entries of what is made from BOLD runs."""
    about = branch_parameters(quantity, model, 'bold', graph.table)
    return {'Sources': graph.sources(files)} | about


def _split_blocks(graph: Graph) -> None:
    """Find the BOLD changes for the gate and for the change of CMRO2."""
    if graph.settings.change.bold_blocks == 'all':
        use_all_blocks(graph)
    else:
        gate = _bold_changes(graph, BOLD, 'first')
        # of several echoes what R2* alone does at the echo time: CMRO2 is not in the inflow
        estimate = _bold_changes(graph, BOLD, 'second') | _bold_changes(graph, DECAY, 'second')
        for label in gate:
            graph.bold_halves[label] = (gate[label][0], estimate[label][0])


def use_all_blocks(graph: Graph) -> None:
    """Take the same BOLD change for the gate and for the change of CMRO2."""
    for (quantity, label), (whole, _) in graph.changes.items():
        if quantity == 'boldPct':
            graph.bold_halves[label] = (whole, whole)


NUISANCE = ('outputnode.nuisance', 'inputnode.nuisance')


def _entities(scan: AlignedScan) -> dict[str, Any]:
    """Entities of a table of a run."""
    return {'task': scan.series.task, 'run': scan.series.run}


def _add_nuisance(graph: Graph, sink: Sink, scan: AlignedScan) -> Workflow:
    """Find and save the regressors of no interest of a run."""
    nuisance = init_nuisance_wf(
        run=scan.series,
        settings=graph.settings.bold,
        has_tissue=graph.has_anatomy,
        name=f'nuisance_{scan.name}',
    )
    connect_scan(graph, scan, nuisance, 'white_matter', 'csf')
    if scan.is_corrected:
        table = ('outputnode.confounds', 'inputnode.motion')
        graph.workflow.connect([(graph.alignment[scan.name], nuisance, [table])])
    elif scan.found is not None and scan.found.confounds is not None:
        nuisance.get_node('inputnode').inputs.motion = str(scan.found.confounds)
    files = [scan.series.file]
    if scan.found is not None and scan.found.components is not None:
        files.append(scan.found.components)
    sidecar = _sidecar(graph, files, 'nuisance')
    sink.add(MapPort(nuisance, 'nuisance'), 'nuisance', sidecar=sidecar, **_entities(scan))
    return nuisance


def _add_time_courses(graph: Graph, sink: Sink, scan: AlignedScan) -> None:
    """Estimate and save the course of every condition per region of a run."""
    model = init_time_courses_wf(
        run=scan.series,
        contrasts=contrasts_of(graph, scan),
        settings=graph.settings.bold,
        minimum_grey_matter=graph.settings.change.grey_matter,
        atlas_table=atlas_files()[1],
        name=f'time_courses_{scan.name}',
    )
    connect_scan(graph, scan, model, 'grey_matter')
    atlas = pe.Node(ResampleLabels(), name=f'resample_atlas_{scan.name}')
    graph.workflow.connect([
        (graph.anatomy, atlas, [('outputnode.atlas', 'quantity')]),
        (graph.alignment[scan.name], atlas, [('outputnode.mask', 'mask'),
                                             ('outputnode.transform', 'target_transform')]),
        (atlas, model, [('labels', 'inputnode.atlas')]),
        (graph.nuisance[scan.name], model, [NUISANCE]),
    ])  # fmt: skip
    sink.add(
        MapPort(model, 'table'),
        'time_courses',
        atlas=graph.settings.atlas,
        sidecar=_sidecar(graph, [scan.series.file, scan.series.events_file], 'fir'),
        **_entities(scan),
    )


def _bold_changes(
    graph: Graph, measure: Measure, half: str = 'all', *, only: Collection[str] | None = None
) -> dict[str, tuple[MapPort, str]]:
    """Estimate every contrast from all blocks or from every other one, runs combined."""
    suffix = ('' if half == 'all' else f'_{half}') + (f'_{measure.port}' if measure.port else '')
    suffix += '' if only is None else '_gas'
    runs: dict[str, list[tuple[str, MapPort]]] = {}
    for scan in graph.scans:
        contrasts = contrasts_of(graph, scan) if scan.kind == 'bold' else ()
        contrasts = tuple(one for one in contrasts if only is None or one.label in only)
        fit = graph.series.get(scan.name)
        if not contrasts or (measure.port and fit is None):
            continue
        time = scan.series.echo_time if measure.is_by_time else 1.0
        model = init_bold_wf(
            run=scan.series,
            contrasts=contrasts,
            settings=graph.settings.bold,
            half=half,
            factor=None if measure.factor is None else measure.factor * time,
            name=f'model_{scan.name}{suffix}',
        )
        series = MapPort(fit.node, measure.port) if measure.port and fit else None
        connect_scan(graph, scan, model, series=series)
        graph.workflow.connect([(graph.nuisance[scan.name], model, [NUISANCE])])
        for index, contrast in enumerate(contrasts):
            source = MapPort(model, 'bold', index)
            on_grid = to_target(graph, scan, source, f'bold{suffix}_{contrast.label}')
            runs.setdefault(contrast.label, []).append((scan.series.task, on_grid))
    changes = {}
    for label, found in runs.items():
        tasks = sorted({task for task, _ in found})
        name = f'bold{suffix}_{label}'
        combined = combine_runs(graph, [quantity for _, quantity in found], name)
        task = tasks[0] if len(tasks) == 1 else 'pooled'
        changes[label] = (smooth(graph, combined, name), task)
    return changes


def contrasts_of(graph: Graph, scan: AlignedScan) -> tuple[Contrast, ...]:
    """Contrasts that a BOLD run can make: none between sessions."""
    if graph.settings.condition_entity == 'ses':
        return ()
    return tuple(
        contrast
        for contrast in graph.inputs.contrasts
        if runs_for_contrast(
            [scan.series],
            contrast,
            baseline=graph.inputs.baseline,
            min_gap=graph.settings.bold.window_start,
        )
    )


def _echo_time(graph: Graph, contrast: Contrast) -> float:
    """Echo time of the BOLD runs of a contrast, s; 0 where it is unknown or differs."""
    times = {
        scan.series.echo_time
        for scan in graph.scans
        if scan.kind == 'bold' and contrast in contrasts_of(graph, scan)
    }
    return times.pop() or 0.0 if len(times) == 1 else 0.0
