"""R2', OEF and CMRO2 of one condition, on the quantification grid."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from bids_app.interfaces.oxygen import (
    CompareVenousBlood,
    EstimateCMRO2,
    EstimateMaximumBOLD,
    EstimateOEF,
    EstimateR2Prime,
    EstimateReactivity,
)
from bids_app.models.oxygen.gas_calibration import COEFFICIENTS
from bids_app.models.registry import DERIVED, MODELS, ONE_SERIES
from bids_app.workflows._engine import Workflow, pe, ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app.bids.scans import AseSeries, ParticipantInputs
    from bids_app.settings import Settings


INTERFACES = {
    'r2_prime': EstimateR2Prime,
    'oef': EstimateOEF,
    'bold_maximum': EstimateMaximumBOLD,
    'cvr': EstimateReactivity,
    'cmro2': EstimateCMRO2,
}
"""Quantities that models make of other maps."""


def chain_constants(inputs: ParticipantInputs, settings: Settings) -> dict[str, float]:
    """Parameters of the models that make maps from other maps; without what is not known."""
    own = {name: getattr(inputs, name) for name in ('b0', 'hct', 'sao2')}
    given = asdict(settings.blood_volume) | asdict(settings.oxygen) | own
    taken = {
        name
        for quantity in ('cbv', *INTERFACES)
        for spec in MODELS[quantity].values()
        for name in spec.parameters
    }
    known = {name: given[name] for name in taken if isinstance(given.get(name), int | float)}
    known |= {name: derived.of(given) for name, derived in DERIVED.items()}
    known |= {row.name.removeprefix('oxygen.'): row.value for row in inputs.values
              if row.name.startswith('oxygen.') and row.unit == 'mmHg'}  # fmt: skip
    values = {row.name.removeprefix('oxygen.'): row.value for row in inputs.values}
    known |= {name: values.get(name, 0.0) for name in ONE_SERIES}
    known['alpha'], known['beta'] = COEFFICIENTS[settings.change.davis_coefficients]
    return {name: value for name, value in known.items() if not math.isnan(value)}


def init_model_wf(
    *, quantity: str, model: str, constants: Mapping[str, float], name: str
) -> Workflow:
    """
    Build the graph that makes a quantity of other maps by a row of the registry.

    Inputs
    ------
    mask : file
        On the quantification grid.
    r2_star, r2, r2_prime, cbv, cbf, oef, hypercapnia_bold ... resting_cbf : quantity
        Those that the row takes, in its units.

    Outputs
    -------
    r2_prime, oef, bold_maximum, cvr or cmro2 : quantity
        In the unit of the row.
    """
    spec = MODELS[quantity][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode, outputnode = ports('inputnode', 'mask', *spec.maps), ports('outputnode', quantity)
    given = {parameter: constants[parameter] for parameter in spec.parameters}
    estimate = pe.Node(INTERFACES[quantity](model=model, **given), name=f'estimate_{quantity}')
    workflow.connect([
        (inputnode, estimate, ('mask', *spec.maps)),
        (estimate, outputnode, [(quantity, quantity)]),
    ])  # fmt: skip
    return workflow


def init_venous_blood_wf(
    *, numbers: Mapping[str, float], minimum_grey_matter: float, is_applied: bool
) -> Workflow:
    """
    Build the graph that compares OEF at baseline with venous blood.

    Inputs
    ------
    mask, grey_matter : file
        On the quantification grid.
    oef, cbf : quantity
        At baseline.
    behind : list of quantity
        Maps that OEF is made of.

    Outputs
    -------
    comparison, table : file
        Entries of a sidecar; the same as a table.
    """
    scaled = ', and OEF was multiplied by their ratio' if is_applied else ''
    workflow = Workflow(
        'venous_blood',
        methods='The flow-weighted mean of OEF in grey matter at baseline was compared with the '
        f'extraction that the saturation of venous blood tells{scaled}',
        citations=('lu2012',),
    )
    inputnode = ports('inputnode', *(given := ('mask', 'grey_matter', 'oef', 'cbf', 'behind')))
    outputnode = ports('outputnode', 'comparison', 'table')
    compare = pe.Node(
        CompareVenousBlood(
            minimum_grey_matter=minimum_grey_matter, is_applied=is_applied, **numbers
        ),
        name='compare_venous_blood',
    )
    workflow.connect([
        (inputnode, compare, [(port, port) for port in given]),
        (compare, outputnode, [('comparison', 'comparison'), ('table', 'table')]),
    ])  # fmt: skip
    return workflow


def init_qbold_wf(
    *,
    series: AseSeries,
    model: str,
    constants: Mapping[str, float],
    name: str = 'qbold',
) -> Workflow:
    """
    Build the graph from an asymmetric spin echo to OEF and R2'.

    Inputs
    ------
    series, mask, noise_groups : file
        The volumes, aligned to each other; on their grid.

    Outputs
    -------
    oef : quantity
        Dimensionless.
    r2_prime : quantity
        1/s.
    """
    spec = MODELS['oef'][model]
    workflow = Workflow(name, methods=spec.methods, citations=(spec.citation,))
    inputnode = ports('inputnode', 'series', 'mask', 'noise_groups')
    outputnode = ports('outputnode', 'oef', *spec.also)
    known = dict(constants) | {'displacements': list(series.displacements)}
    numbers = {parameter: known[parameter] for parameter in spec.parameters if parameter in known}
    estimate = pe.Node(EstimateOEF(model=model, **numbers), name='estimate_oef')
    given = [('series', 'signal'), 'mask', 'noise_groups']
    workflow.connect([(inputnode, estimate, given)])
    workflow.connect([(estimate, outputnode, ('oef', *spec.also))])
    return workflow
