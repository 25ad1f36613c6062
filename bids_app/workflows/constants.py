"""Every constant that enters a result, with value, unit and where it came from."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.conditions import gas_conditions
from bids_app.bids.products import PRODUCTS
from bids_app.bids.run.feasible import can_have, cbf_model, cbv_model, derived_models, t2_model
from bids_app.bids.scans import DataValue
from bids_app.models.asl.single_delay import t1_blood_at, t1_blood_from_hct, t1_tissue_at
from bids_app.models.oxygen.gas_calibration import COEFFICIENTS
from bids_app.models.oxygen.sensitivity import SCALED_TO, VENOUS
from bids_app.models.oxygen.venous import global_extraction
from bids_app.models.registry import MODELS
from bids_app.settings import field_of, flatten, setting_origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import Settings


def constants_table(inputs: ParticipantInputs, settings: Settings) -> tuple[DataValue, ...]:
    """
    List the constants of one participant.

    Values of the participant (haematocrit, label duration ...) come first and win; then the
    settings that the branches in use take.
    """
    rows = {value.name: value for value in inputs.values}
    used = used_settings(inputs, settings)
    for name, value in flatten(settings).items():
        if name in rows or name not in used or not isinstance(value, int | float):
            continue
        declaration, _ = field_of(name)
        rows[name] = DataValue(
            name=name,
            value=float(value),
            unit=declaration.metadata['unit'],
            origin=setting_origin(name, value, settings),
        )
    if inputs.asl and not math.isnan(inputs.b0):
        by_field = f'by field strength ({inputs.b0:g} T)'
        by_blood = f'from haematocrit ({inputs.hct:g})'
        from_blood = settings.perfusion.t1_blood_from == 'haematocrit'
        for parameter, value, origin in (
            ('t1_blood', t1_blood(inputs, settings), by_blood if from_blood else by_field),
            ('t1_tissue', settings.perfusion.t1_tissue or t1_tissue_at(inputs.b0), by_field),
        ):
            name = f'perfusion.{parameter}'
            if name not in rows:
                rows[name] = DataValue(name=name, value=value, unit='s', origin=origin)
    exponents = COEFFICIENTS[settings.change.davis_coefficients]
    for name, exponent in zip(('oxygen.alpha', 'oxygen.beta'), exponents, strict=True):
        if name in used:
            origin = f'change.davis_coefficients = {settings.change.davis_coefficients}'
            rows[name] = DataValue(name=name, value=exponent, unit='1', origin=origin)
    rows.pop(SCALED_TO, None)  # of an earlier run
    rows |= {one.name: one for one in _scaled_to(inputs, settings)}
    return tuple(rows[name] for name in sorted(rows))


def _scaled_to(inputs: ParticipantInputs, settings: Settings) -> Iterable[DataValue]:
    """Give the extraction that OEF is scaled to, where venous blood scales it."""
    for one in inputs.values:
        if one.name == VENOUS and settings.oxygen.oef_scale == 'venous':
            value = global_extraction(one.value, inputs.sao2)
            yield DataValue(
                name=SCALED_TO, value=value, unit='1', origin='oxygen.oef_scale = venous'
            )


def known_constants(inputs: ParticipantInputs, settings: Settings) -> dict[str, float]:
    """
    Give the numbers of :func:`constants_table`, with field strength and blood of the participant.

    Dotted name to value in SI, as :mod:`bids_app.models.oxygen.sensitivity` takes them.
    """
    blood = {f'oxygen.{name}': getattr(inputs, name) for name in ('b0', 'hct', 'sao2')}
    return blood | {one.name: one.value for one in constants_table(inputs, settings)}


def t1_blood(inputs: ParticipantInputs, settings: Settings) -> float:
    """Choose T1 of blood, s: the setting, else from haematocrit or field strength."""
    if settings.perfusion.t1_blood is not None:
        return settings.perfusion.t1_blood
    if settings.perfusion.t1_blood_from == 'haematocrit':
        return t1_blood_from_hct(inputs.hct, inputs.b0)
    return t1_blood_at(inputs.b0)


def used_settings(inputs: ParticipantInputs, settings: Settings) -> set[str]:
    """Dotted names of the numeric settings that the branches in use take."""
    models = {
        'r2': t2_model(inputs.mese[0], settings)[0] if inputs.mese else None,
        'r2_star': settings.relaxometry.t2_star_model if inputs.megre else None,
        'cbf': cbf_model(inputs.asl[0], settings) if inputs.asl else None,
        'cbv': cbv_model(inputs, settings),
        **{
            name: model
            for name, model in derived_models(inputs, settings).items()
            if can_have(name, inputs, settings)
        },
    }
    names = {'anatomy.random_seed'}
    for quantity, model in models.items():
        if model is not None and model in MODELS[quantity]:
            constants = MODELS[quantity][model].constants
            names |= {f'{PRODUCTS[quantity].branch}.{constant}' for constant in constants}
    if inputs.asl:
        names |= {'perfusion.t1_tissue'}
    if gas_conditions(settings):
        names |= {'oxygen.oxygen_relaxivity'}
    branches = [('bold.', inputs.bold), ('change.', inputs.contrasts)]
    wanted = tuple(prefix for prefix, present in branches if present)
    return names | {name for name in flatten(settings) if name.startswith(wanted)}


def sidecar_parameters(
    quantity: str, model: str, table: tuple[DataValue, ...]
) -> dict[str, dict[str, Any]]:
    """``Model`` and ``ModelParameters`` of a sidecar: a row of the registry, its constants."""
    spec = MODELS[quantity][model]
    branch = PRODUCTS[quantity].branch
    return {
        'Model': {'Quantity': quantity, 'Name': model, 'Citation': spec.citation},
        'ModelParameters': _parameters(
            row
            for row in table
            if row.name.startswith(f'{branch}.')
            and re.sub(r'_\d+$', '', row.name.split('.')[-1]) in spec.constants
        ),
    }


def branch_parameters(
    quantity: str, model: str, branch: str, table: tuple[DataValue, ...]
) -> dict[str, dict[str, Any]]:
    """
    Entries of the sidecar of what is not made by a row of the registry: BOLD and labels.

    ``Model`` and ``ModelParameters``, with all constants of the branch.
    """
    return {
        'Model': {'Quantity': quantity, 'Name': model},
        'ModelParameters': _parameters(row for row in table if row.name.startswith(f'{branch}.')),
    }


def _parameters(rows: Iterable[DataValue]) -> dict[str, dict[str, Any]]:
    """Entries of the sidecar of constants: value, unit and origin."""
    return {
        row.name.split('.')[-1]: {'Value': row.value, 'Units': row.unit, 'Origin': row.origin}
        for row in rows
    }
