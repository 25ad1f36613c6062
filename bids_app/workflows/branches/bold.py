"""The BOLD response of every contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.bids.conditions import runs_for_contrast
from bids_app.workflows._engine import Quantity
from bids_app.workflows.bold import init_bold_wf
from bids_app.workflows.branches.scans import combine_runs, connect_scan, smooth, to_target

if TYPE_CHECKING:
    from bids_app.bids.acquisitions import Contrast
    from bids_app.workflows.graph import Graph, Scan


def add_bold(graph: Graph) -> None:
    """Add the percent BOLD change of every contrast; halves where BOLD enters CMRO2."""
    for label, (quantity, task) in _bold_changes(graph, 'all').items():
        graph.changes['boldPct', label] = (quantity, task)
    if graph.settings.change.route != 'quantitative':
        gate, estimate = (_bold_changes(graph, half) for half in ('first', 'second'))
        for label in gate:
            graph.bold_halves[label] = (gate[label][0], estimate[label][0])


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
