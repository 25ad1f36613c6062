"""Changes of one contrast, and the labels and tables made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.interfaces.change import (
    EstimateChangeInCBF,
    EstimateChangeInCBV,
    EstimateChangeInCMRO2,
    EstimateChangeInOEF,
    EstimateChangeInR2Prime,
    LabelConcordance,
)
from bids_app.interfaces.regions import SummariseConcordance
from bids_app.workflows._engine import Quantity, Workflow, connect_quantity, pe, ports
from bids_app.workflows.anatomy import atlas_files

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app.settings import ChangeSettings

INTERFACES = {
    'cbf': EstimateChangeInCBF,
    'R2prime': EstimateChangeInR2Prime,
    'cbv': EstimateChangeInCBV,
    'oef': EstimateChangeInOEF,
    'cmro2': EstimateChangeInCMRO2,
}
PRIMITIVES = {
    'cbf': ('task_cbf', 'baseline_cbf'),
    'R2prime': ('task_r2_star', 'baseline_r2_star'),
    'cbv': ('task_cbv', 'baseline_cbv'),
    'oef': ('task_r2_star', 'baseline_r2_star', 'r2', 'task_cbv', 'baseline_cbv'),
    'cmro2': (
        'task_cbf',
        'baseline_cbf',
        'task_r2_star',
        'baseline_r2_star',
        'r2',
        'task_cbv',
        'baseline_cbv',
    ),
}
"""What each change is made from: primitive maps per condition and shared ones."""
BY_ASE = {
    'R2prime': ('task_r2_prime', 'baseline_r2_prime'),
    'oef': ('task_oef', 'baseline_oef'),
    'cmro2': ('task_cbf', 'baseline_cbf', 'task_oef', 'baseline_oef'),
}
"""The same where an asymmetric spin echo gave OEF in each condition."""
BOLD_ROUTE = (
    'bold', 'task_cbf', 'baseline_cbf', 'baseline_r2_star', 'baseline_r2', 'baseline_cbv',
)  # fmt: skip
"""What the change of CMRO2 is made from where it leans on BOLD."""
CHALLENGE = ('challenge_bold', 'challenge_cbf')
"""What the maximum of BOLD is made from where a gas challenge was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """What a contrast has, and so which changes can be made."""

    quantities: tuple[str, ...]
    """Of :data:`INTERFACES`, in that order."""
    cbv_shared: bool = True
    cbv_carried: bool = False
    """The one CBV was carried to the task by a rule."""
    cbv_exponent: float = 0.0
    """Of the power law, where CBV comes from CBF."""
    r2_shared: bool = True
    """One R2 serves both conditions; else R2 of the baseline comes as `baseline_r2`."""
    m0_shared: bool = False
    by_ase: bool = False
    """OEF was measured in each condition by an asymmetric spin echo."""
    r2_prime_by_ase: bool = False
    """R2' too, and nothing else gave it."""
    settings: ChangeSettings
    davis_map: Path | None = None
    """Of the maximum of BOLD, where it is given."""
    echo_time: float = 0.0
    """Of the BOLD series, s; for the routes that use it."""
    rate: float = 0.0
    """R2' per OEF and CBV, 1/s."""
    cao2: float = 0.0
    """umol/mL"""

    @property
    def primitives(self) -> tuple[str, ...]:
        """Primitive maps that the changes need."""
        needed = [name for quantity in self.quantities for name in self.needs(quantity)]
        return tuple(dict.fromkeys(needed))

    def needs(self, quantity: str) -> tuple[str, ...]:
        """Primitive maps of one change."""
        if quantity == 'cmro2' and self.settings.route != 'quantitative':
            is_one = (self.cbv_shared or self.cbv_exponent) and not self.cbv_carried
            own = () if is_one else ('task_cbv',)
            both = ('task_r2_star',) if self.settings.route == 'combined' else ()
            has_gas = self.settings.route == 'davis' and self.settings.hypercapnia
            return (*BOLD_ROUTE, *both, *own, *(CHALLENGE if has_gas else ()))
        by_ase = self.r2_prime_by_ase if quantity == 'R2prime' else self.by_ase
        if by_ase and quantity in BY_ASE:
            return BY_ASE[quantity]
        names = PRIMITIVES[quantity]
        if not self.r2_shared and 'task_r2_star' in names:
            names = tuple(dict.fromkeys((*names, 'r2', 'baseline_r2')))
        return names


def init_change_wf(*, plan: ChangePlan, name: str) -> Workflow:
    """
    Build the graph from the primitive maps of two conditions to the changes between them.

    Parameters
    ----------
    plan : ChangePlan
        What there is.
    name : str
        Node name in the parent graph.

    Inputs
    ------
    mask : file
        On the quantification grid.
    m0_relative : quantity
        Only where the conditions share one M0.
    task_cbf ... baseline_cbv : quantity
        Primitive maps.
    reference_cbf ... reference_cmro2 : quantity
        The quantities in the baseline condition, for percent.

    Outputs
    -------
    cbf, R2prime, cbv, oef, cmro2 : quantity
        Change, with ``_z``, ``_p`` and ``_percent`` beside it.
    """
    workflow = Workflow(
        name,
        methods='Changes between conditions were computed from the maps of both conditions with '
        'the errors they share (R2, blood volume, M0) counted once',
    )
    references = tuple(f'reference_{quantity}' for quantity in plan.quantities)
    inputnode = ports('inputnode', 'mask', 'm0_relative', *plan.primitives, *references)
    extras = [f'{quantity}{part}' for quantity in plan.quantities for part in EXTRAS]
    outputnode = ports('outputnode', *extras, *plan.quantities)
    for quantity in plan.quantities:
        estimate = pe.Node(
            INTERFACES[quantity](cbv_shared=plan.cbv_shared, cbv_exponent=plan.cbv_exponent),
            name=f'estimate_change_in_{quantity.lower()}',
        )
        if quantity in ('oef', 'cmro2'):
            estimate.inputs.rate = plan.rate
            estimate.inputs.cao2 = plan.cao2
        if quantity == 'cmro2' and plan.settings.route != 'quantitative':
            _set_route(estimate, plan)
        workflow.connect([(inputnode, estimate, [('mask', 'mask')])])
        if plan.m0_shared and 'task_cbf' in plan.needs(quantity):
            workflow.connect([(inputnode, estimate, [('m0_relative', 'm0_relative')])])
        for primitive in plan.needs(quantity):
            connect_quantity(workflow, Quantity(inputnode, primitive), estimate, primitive)
        reference = Quantity(inputnode, f'reference_{quantity}')
        connect_quantity(workflow, reference, estimate, 'reference')
        connect_quantity(workflow, Quantity(estimate, 'change'), outputnode, quantity)
        workflow.connect([
            (estimate, outputnode, [(f'change{part}', f'{quantity}{part}') for part in EXTRAS]),
        ])  # fmt: skip
    return workflow


EXTRAS = ('_z', '_p', '_percent')


def _set_route(estimate: Any, plan: ChangePlan) -> None:
    """Tell the node of CMRO2 how BOLD enters."""
    settings = plan.settings
    estimate.inputs.route = settings.route
    estimate.inputs.echo_time = plan.echo_time
    estimate.inputs.cbv_response = settings.cbv_response
    estimate.inputs.coefficients = settings.davis_coefficients
    if settings.davis_maximum is not None:
        estimate.inputs.davis_maximum = settings.davis_maximum
    if plan.davis_map is not None:
        estimate.inputs.davis_maximum_map = plan.davis_map


def init_label_wf(*, settings: ChangeSettings, has_atlas: bool, name: str) -> Workflow:
    """
    Build the graph from the BOLD change and the CMRO2 change to concordance labels.

    Parameters
    ----------
    settings : ChangeSettings
        Levels and the grey-matter threshold.
    has_atlas : bool
        Count per network too.
    name : str
        Node name in the parent graph.

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
        ),
        name='label_concordance',
    )
    summarise = pe.Node(
        SummariseConcordance(smallest_effect=settings.smallest_effect, fwhm=settings.fwhm),
        name='summarise_concordance',
    )
    workflow.connect([
        (inputnode, label, [('mask', 'mask'), ('grey_matter', 'grey_matter')]),
        (label, summarise, [('sign', 'sign'), ('robust', 'robust')]),
        (label, outputnode, [
            ('sign', 'sign'), ('robust', 'robust'), ('discordant', 'discordant'),
        ]),
        (inputnode, summarise, [('mask', 'mask'), ('baseline', 'baseline')]),
        (summarise, outputnode, [('table', 'summary')]),
    ])  # fmt: skip
    if has_atlas:
        summarise.inputs.atlas_table = atlas_files()[1]
        workflow.connect([(inputnode, summarise, [('atlas', 'atlas')])])
    for quantity in ('bold', 'change'):
        connect_quantity(workflow, Quantity(inputnode, quantity), label, quantity)
        connect_quantity(workflow, Quantity(inputnode, quantity), summarise, quantity)
    return workflow
