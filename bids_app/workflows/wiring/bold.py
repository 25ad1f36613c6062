"""The BOLD response of every contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import runs_for_contrast
from bids_app.interfaces.spatial import ResampleLabels
from bids_app.workflows._engine import Quantity, pe
from bids_app.workflows.anatomy import atlas_files
from bids_app.workflows.bold import init_bold_wf, init_nuisance_wf, init_time_courses_wf
from bids_app.workflows.constants import branch_parameters, constants_table
from bids_app.workflows.wiring.scans import combine_runs, connect_scan, smooth, to_target

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.bids.scans import Contrast
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph, Scan


def add_bold(graph: Graph) -> None:
    """Add the percent BOLD change of every contrast; halves where BOLD enters CMRO2."""
    sink = graph.sink('save_bold')
    for scan in graph.scans:
        if scan.kind == 'bold' and contrasts_of(graph, scan):
            graph.nuisance[scan.name] = _add_nuisance(graph, sink, scan)
            if graph.has_template and graph.settings.atlas != 'none':
                _add_time_courses(graph, sink, scan)
    graph.close(sink)
    for label, (quantity, task) in _bold_changes(graph, 'all').items():
        graph.changes['boldPct', label] = (quantity, task)
    for contrast in graph.inputs.contrasts:
        graph.bold_echo_times[contrast.label] = _echo_time(graph, contrast)
        graph.origins['boldPct', contrast.label] = _origin(graph, contrast)
    if graph.settings.change.route != 'quantitative':
        _split_blocks(graph)


def _origin(graph: Graph, contrast: Contrast) -> dict[str, Any]:
    """Say from which runs a BOLD change is made, and by what."""
    runs = [
        scan.series
        for scan in graph.scans
        if scan.kind == 'bold' and contrast in contrasts_of(graph, scan)
    ]
    files = [path for run in runs for path in (run.file, run.events_file)]
    return _sidecar(graph, files, 'glm')


def _sidecar(graph: Graph, files: list[Path], model: str) -> dict[str, Any]:
    """Entries of what is made from BOLD runs."""
    table = constants_table(graph.inputs, graph.settings)
    return {'Sources': graph.sources(files)} | branch_parameters('boldPct', model, 'bold', table)


def _split_blocks(graph: Graph) -> None:
    """Find the BOLD changes for the gate and for the change of CMRO2."""
    if graph.settings.change.bold_blocks == 'all':
        use_all_blocks(graph)
    else:
        gate, estimate = (_bold_changes(graph, half) for half in ('first', 'second'))
        for label in gate:
            graph.bold_halves[label] = (gate[label][0], estimate[label][0])


def use_all_blocks(graph: Graph) -> None:
    """Take the same BOLD change for the gate and for the change of CMRO2."""
    for (quantity, label), (whole, _) in graph.changes.items():
        if quantity == 'boldPct':
            graph.bold_halves[label] = (whole, whole)


NUISANCE = ('outputnode.nuisance', 'inputnode.nuisance')


def _entities(scan: Scan) -> dict[str, Any]:
    """Entities of a table of a run."""
    return {'task': scan.series.task, 'run': scan.series.run}


def _add_nuisance(graph: Graph, sink: Sink, scan: Scan) -> Workflow:
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
    sidecar = _sidecar(graph, [scan.series.file], 'nuisance')
    sink.add(Quantity(nuisance, 'nuisance'), 'nuisance', sidecar=sidecar, **_entities(scan))
    return nuisance


def _add_time_courses(graph: Graph, sink: Sink, scan: Scan) -> None:
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
        Quantity(model, 'table'),
        'time_courses',
        atlas=graph.settings.atlas,
        sidecar=_sidecar(graph, [scan.series.file, scan.series.events_file], 'fir'),
        **_entities(scan),
    )


def _bold_changes(graph: Graph, half: str) -> dict[str, tuple[Quantity, str]]:
    """Estimate every contrast from all blocks or from every other one, runs combined."""
    suffix = '' if half == 'all' else f'_{half}'
    runs: dict[str, list[tuple[str, Quantity]]] = {}
    for scan in graph.scans:
        contrasts = contrasts_of(graph, scan) if scan.kind == 'bold' else ()
        if not contrasts:
            continue
        model = init_bold_wf(
            run=scan.series,
            contrasts=contrasts,
            settings=graph.settings.bold,
            half=half,
            name=f'model_{scan.name}{suffix}',
        )
        connect_scan(graph, scan, model)
        graph.workflow.connect([(graph.nuisance[scan.name], model, [NUISANCE])])
        for index, contrast in enumerate(contrasts):
            source = Quantity(model, 'bold', index)
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


def contrasts_of(graph: Graph, scan: Scan) -> tuple[Contrast, ...]:
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
