"""Changes of one contrast, and the labels and tables made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bids_app.interfaces.change import (
    ChangeInterface,
    EstimateChange,
    EstimateChangeByBOLD,
    LabelConcordance,
)
from bids_app.interfaces.regions import SummariseConcordance
from bids_app.models.contrast.difference import STATISTICS
from bids_app.workflows._engine import MapPort, Workflow, connect_quantity, pe, ports
from bids_app.workflows.anatomy import atlas_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bids_app.settings import ChangeSettings

CHANGES = ('cbf', 'r2_prime', 'cbv', 'oef', 'cmro2')
"""Quantities whose change is made, in the order of the reports."""
SCALED = ('oef', 'cmro2')
"""Those that venous blood scales, where that is set."""
BOLD_ROUTE = (
    'bold', 'task_cbf', 'baseline_cbf', 'baseline_r2_star', 'baseline_r2', 'baseline_cbv',
)  # fmt: skip
"""What the change of CMRO2 is made from where BOLD tells the change of R2'."""
EXTRAS = (*STATISTICS, 'percent', 'common', 'local')
"""What stands beside a change: ports of its node, after its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """What a contrast has, and so which changes can be made."""

    sources: Mapping[str, tuple[str, ...]]
    """Quantity -> maps that its change is made from: `task_cbf`, `baseline_cbf`, or `r2` where
    one map serves both conditions."""
    shared: tuple[str, ...] = ()
    """Maps with one error for both conditions."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Quantity -> row of the registry."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Parameters of the rows."""
    cbv_exponent: float = 0.0
    """Of the power law by which the flows carried the one CBV to the task."""
    cbv_shared: bool = True
    """For the routes through BOLD: one measurement of CBV behind both conditions."""
    m0_shared: bool = False
    is_scaled: bool = False
    """Whether venous blood scales OEF, and CMRO2 with it."""
    within_scan: tuple[str, ...] = ()
    """Maps of which both conditions alternate within one scan."""
    settings: ChangeSettings
    davis_map: Path | None = None
    """Of the maximum of BOLD, where it is given."""
    echo_time: float = 0.0
    """Of the BOLD series, s; for the routes that use it."""
    static_dephasing_constant: float = 0.0
    """R2' per OEF and CBV, 1/s; for the routes that use it."""

    @property
    def ports(self) -> tuple[str, ...]:
        """Every map that one of the changes needs."""
        return tuple(dict.fromkeys(name for names in self.sources.values() for name in names))


def init_change_wf(*, plan: ChangePlan, name: str) -> Workflow:
    """
    Build the graph from the maps of two conditions to the changes between them.

    Inputs
    ------
    mask : file
        On the quantification grid.
    m0_relative : quantity
        Only where the conditions share one M0.
    venous_blood : file
        Only where it scales OEF.
    task_cbf ... baseline_cbv : quantity
        The maps.
    reference_cbf ... reference_cmro2 : quantity
        The quantities in the baseline condition, for percent.

    Outputs
    -------
    cbf, r2_prime, cbv, oef, cmro2 : quantity
        Change, with its statistics (``_z``, ``_p``) and ``_percent`` beside it, and the part of
        its variance that differs between scans: of all voxels (``_common``) and of regions
        (``_local``).
    """
    workflow = Workflow(
        name,
        methods='Changes between conditions were computed from the maps of both conditions with '
        'the errors they share (R2, blood volume, M0) counted once',
    )
    references = tuple(f'reference_{quantity}' for quantity in plan.sources)
    inputnode = ports('inputnode', 'mask', 'm0_relative', 'venous_blood', *plan.ports, *references)
    extras = [f'{quantity}_{part}' for quantity in plan.sources for part in EXTRAS]
    outputnode = ports('outputnode', *extras, *plan.sources)
    for quantity, names in plan.sources.items():
        estimate = pe.Node(_interface(plan, quantity), name=f'estimate_change_in_{quantity}')
        taken = ['mask', *names]
        if plan.m0_shared and 'task_cbf' in names:
            taken.append('m0_relative')
        if plan.is_scaled and quantity in SCALED:
            taken.append('venous_blood')
        workflow.connect([
            (inputnode, estimate, [*taken, (f'reference_{quantity}', 'reference')]),
            (estimate, outputnode, [('change', quantity)]),
            (estimate, outputnode, [(f'change_{x}', f'{quantity}_{x}') for x in EXTRAS]),
        ])  # fmt: skip
    return workflow


def _interface(plan: ChangePlan, quantity: str) -> ChangeInterface:
    """Make the interface of one change."""
    names, settings = list(plan.sources[quantity]), plan.settings
    if quantity != 'cmro2' or settings.route == 'quantitative':
        return EstimateChange(
            sources=names,
            between_scans=settings.between_scans,
            within_scan=list(plan.within_scan),
            quantity=quantity,
            models=dict(plan.models),
            constants=dict(plan.constants),
            shared=list(plan.shared),
            cbv_exponent=plan.cbv_exponent,
        )
    interface = EstimateChangeByBOLD(
        sources=names,
        between_scans=settings.between_scans,
        within_scan=list(plan.within_scan),
        route=settings.route,
        cbv_shared=plan.cbv_shared,
        echo_time=plan.echo_time,
        cbv_response=settings.cbv_response,
        models=dict(plan.models),
        constants={**plan.constants, 'bold_echo_time': plan.echo_time},
        static_dephasing_constant=plan.static_dephasing_constant,
        cao2=plan.constants['cao2'],
    )
    if settings.davis_maximum is not None:
        interface.inputs.davis_maximum = settings.davis_maximum
    if plan.davis_map is not None:
        interface.inputs.davis_maximum_map = plan.davis_map
    return interface


def init_label_wf(*, settings: ChangeSettings, has_atlas: bool, name: str) -> Workflow:
    """
    Build the graph from the BOLD change and the CMRO2 change to concordance labels.

    Inputs
    ------
    mask, grey_matter, atlas : file
        On the quantification grid.
    bold, change : quantity
        Percent; umol/100 g/min.
    baseline : file
        CMRO2 of the baseline.

    Outputs
    -------
    sign, robust : file
        Label maps.
    discordant : file
        Posterior probability.
    summary : file
        Counts and shares.
    """
    workflow = Workflow(
        name,
        methods='Voxels were labelled concordant or discordant by the signs of their BOLD and '
        'CMRO2 changes, once by sign alone and once only where the local false sign rate of the '
        'CMRO2 change is below the chosen level; the share of discordance that survives '
        'measurement error was estimated by adaptive shrinkage',
        citations=('epp2025', 'goltermann2026', 'stephens2017'),
    )
    inputnode = ports('inputnode', 'mask', 'grey_matter', 'atlas', 'baseline', 'bold', 'change')
    outputnode = ports('outputnode', 'sign', 'robust', 'discordant', 'summary')
    label = pe.Node(
        LabelConcordance(
            minimum_grey_matter=settings.grey_matter,
            bold_q=settings.bold_q,
            level=settings.false_sign_rate,
            smallest_effect=settings.smallest_effect,
            fwhm=settings.fwhm,
        ),
        name='label_concordance',
    )
    summarise = pe.Node(
        SummariseConcordance(smallest_effect=settings.smallest_effect, fwhm=settings.fwhm),
        name='summarise_concordance',
    )
    workflow.connect([
        (inputnode, label, [
            'mask', 'grey_matter', 'baseline',
        ]),
        (label, summarise, ['sign', 'robust']),
        (label, outputnode, [
            'sign', 'robust', 'discordant',
        ]),
        (inputnode, summarise, ['mask', 'baseline']),
        (summarise, outputnode, [('table', 'summary')]),
    ])  # fmt: skip
    if has_atlas:
        summarise.inputs.atlas_table = atlas_files()[1]
        workflow.connect([(inputnode, summarise, ['atlas'])])
    for quantity in ('bold', 'change'):
        connect_quantity(workflow, MapPort(inputnode, quantity), label, quantity)
        connect_quantity(workflow, MapPort(inputnode, quantity), summarise, quantity)
    return workflow
