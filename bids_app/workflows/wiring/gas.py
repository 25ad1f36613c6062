"""What gases do to BOLD and CBF, as the calibration of BOLD takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import gas_conditions
from bids_app.bids.scans import Contrast
from bids_app.interfaces.spatial import SmoothQuantity
from bids_app.models.registry import GASES
from bids_app.workflows._engine import MapPort, connect_quantity, pe
from bids_app.workflows.wiring.scans import smooth

if TYPE_CHECKING:
    from bids_app.workflows.derivatives import Sink
    from bids_app.workflows.graph import Graph

GAS_BOLD = 'boldGasPct'
"""BOLD change by a gas without what echoes tell of inflow, where a run has several."""


def gas_contrasts(graph: Graph) -> dict[str, Contrast]:
    """Contrast of every gas with the state at rest."""
    inputs, named = graph.inputs, gas_conditions(graph.settings)
    found = {gas: Contrast(task=label, baseline=inputs.baseline or '')
             for gas, label in named.items()}  # fmt: skip
    return {gas: one for gas, one in found.items() if one in inputs.contrasts}


def add_gases(graph: Graph) -> None:
    """Add BOLD and CBF of every gas, and CBF at rest beside them, equally smooth."""
    sink, rest = graph.sink('save_gases'), graph.inputs.baseline
    for gas, contrast in gas_contrasts(graph).items():
        if ('boldPct', contrast.label) in graph.changes and ('cbf', contrast.task) in graph.maps:
            _take_bold(graph, sink, gas, contrast.label)
            _take_flow(graph, f'{gas}_cbf', contrast.task)
    if any((f'{gas}_cbf', rest) in graph.maps for gas in GASES) and ('cbf', rest) in graph.maps:
        _take_flow(graph, 'resting_cbf', rest)
    graph.close(sink)


def _take_bold(graph: Graph, sink: Sink, gas: str, label: str) -> None:
    """Take the BOLD change by a gas; one that is of R2* alone is saved for a replay."""
    source, task = graph.gas_bold.get(label, graph.changes['boldPct', label])
    quantity = GAS_BOLD if label in graph.gas_bold else 'boldPct'
    at: dict[str, Any] = {'space': graph.space, 'contrast': label, 'task': task,
                          'quantity': quantity}  # fmt: skip
    about = graph.origins.get(('boldPct', label), {})
    if quantity == GAS_BOLD:
        for part, statistic in (('value', 'effect'), ('variance', 'variance')):
            sink.add(source, 'contrast', part=part, statistic=statistic, sidecar=about, **at)
    entities = {**graph.entities, **at, 'statistic': 'effect'}
    saved = {'key': 'contrast', 'entities': entities, 'sidecar': about}
    _take(graph, f'{gas}_bold', source, saved)


def _take_flow(graph: Graph, name: str, condition: str | None) -> None:
    """Take CBF of a condition; M0, which serves all, cancels in the ratios that are made of it."""
    saved = graph.saved[graph.lookup('cbf', condition).key]
    quantity = 'cbf_without_m0' if graph.has('m0_relative', condition) else 'cbf'
    source = smooth(graph, graph.lookup(quantity, condition), name)
    _take(graph, name, source, saved)


def _take(graph: Graph, name: str, source: MapPort, saved: dict[str, Any]) -> None:
    """Add a map of a gas at rest, smoothed; its file is that of what it is made of."""
    fwhm = graph.settings.oxygen.gas_fwhm
    if fwhm:
        node = pe.Node(SmoothQuantity(fwhm=fwhm), name=f'smooth_gas_{name}')
        mask, port = graph.mask
        graph.workflow.connect([(mask, node, [(port, 'mask')])])
        connect_quantity(graph.workflow, source, node, 'quantity')
        source = MapPort(node, 'quantity')
    graph.maps[name, graph.inputs.baseline] = source
    graph.saved[source.key] = saved
