"""How much of the variance of CMRO2 each constant carries, beside the noise of the scans."""

from __future__ import annotations

import math
import re
import statistics
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bids_app.models.asl.kinetics import PULSED
from bids_app.models.asl.single_delay import cbf_from_difference
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content
from bids_app.models.oxygen.gas_calibration import (
    COEFFICIENTS,
    arterial_t1,
    estimate_oef_dual_calibrated,
)
from bids_app.models.oxygen.mqbold import static_dephasing_constant
from bids_app.models.oxygen.venous import global_extraction
from bids_app.models.registry import DERIVED, GAS_MAPS

if TYPE_CHECKING:
    from collections.abc import Mapping

RELATIVE_ERROR: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        'oxygen.hct': (
            0.03,
            'repeated blood counts; a default instead of a sample is 3 times worse',
        ),
        'oxygen.sao2': (0.01, 'pulse oximetry'),
        'oxygen.small_vessel_hct_ratio': (0.10, 'published values reach from 0.7 to 0.9'),
        'oxygen.susceptibility': (0.10, 'published values reach from 0.18 to 0.27 ppm'),
        'oxygen.oxygen_per_haemoglobin': (0.05, '55.6 umol/g against 1.34 to 1.39 mL/g'),
        'oxygen.haemoglobin_per_hct': (0.02, 'mean corpuscular concentration of healthy adults'),
        'change.davis_coefficients': (
            0.2,
            'alpha and beta of the published sources; of the OEF that they give, by gases',
        ),
        'oxygen.resting_po2': (0.05, 'end-tidal for arterial pressure'),
        'oxygen.hyperoxia_po2': (0.05, 'end-tidal for arterial pressure, which is lower'),
        'oxygen.hypercapnia_cmro2': (0.05, 'published changes reach from none to -13 %'),
        'oxygen.oxygen_relaxivity': (0.3, '1.49 +- 0.07 s of T1 with 95 % oxygen'),
        'perfusion.labeling_efficiency': (0.06, 'differs with flow velocity and field offset'),
        'perfusion.background_suppression_factor': (0.05, '0.75 against 0.815 for four pulses'),
        'perfusion.t1_blood': (0.06, 'differs with haematocrit and oxygenation'),
        'perfusion.bolus_duration': (0.15, 'width of the labelled slab and speed of the blood'),
        'perfusion.partition_coefficient': (0.05, 'grey matter 0.98, white matter 0.82 mL/g'),
        'blood_volume.white_matter_cbv': (0.15, 'published values reach from 2 to 3 mL/100 mL'),
        'blood_volume.grey_matter_cbv': (0.15, 'published values reach from 4 to 6 mL/100 mL'),
        'blood_volume.grubb_factor': (0.15, 'as for blood volume of grey matter'),
    }
)
"""Constant -> relative standard deviation with which it is taken to be known, and why; ours. They
are judgements, not measurements, and enter no random variance: only region tables, maps of the
total variance and the shares of the report."""

OWN = ('oxygen.hct', 'oxygen.sao2', 'oxygen.venous_saturation')
"""Constants of the participant; the others are shared by a group, whose mean they do not spare."""

DIGITS = 4
"""Of a sidecar."""

STEP = 1e-4
"""Relative step of the numerical derivatives."""


RATE = DERIVED['static_dephasing_constant'].constants
CONTENT = DERIVED['cao2'].constants
FLOW = (
    'labeling_efficiency',
    'background_suppression_factor',
    't1_blood',
    'partition_coefficient',
    'label_duration',
    'post_label_delay',
)
"""Constants of the three parts of the chain, without their branch."""

BOLUS = 'bolus_duration'
"""In place of the duration of labelling, of pulsed labelling whose bolus is not cut off."""

BY_GASES = {'oxygen.hyperoxia_po2', 'oxygen.alpha'}
"""Constants that are there where OEF comes from gases; those of R2' are not."""

VENOUS, SCALED_TO = 'oxygen.venous_saturation', 'oxygen.venous_extraction'
"""Names of the saturation of venous blood, and of the extraction by it that OEF is scaled to; the
latter is there only where OEF is scaled."""

EXPONENTS = 'change.davis_coefficients'
"""Name of what the sources of alpha and beta differ by."""

TYPICAL_GASES: Mapping[str, float] = MappingProxyType(
    {
        'hypercapnia_bold': 3.0,
        'hypercapnia_cbf': 1.5,
        'hyperoxia_bold': 1.4,
        'hyperoxia_cbf': 0.96,
        'hyperoxia_label': 0.90,
        'resting_cbf': 1.0,
    }
)
"""Changes of BOLD, percent, and flow relative to rest of healthy adults, about; the label of
hyperoxia as if T1 of blood were that at rest."""

VOLUMES = ('white_matter_cbv', 'grey_matter_cbv', 'grubb_factor')
"""Constants that blood volume is proportional to, each in its own model."""

SUPPRESSED = 'background_suppression_factor'
"""Absent where nothing was suppressed."""


PARTS: Mapping[str, tuple[int, int, int, int]] = MappingProxyType(
    {'cbf': (1, 0, 0, 0), 'cbv': (0, 1, 0, 0), 'oef': (0, -1, -1, 0), 'cmro2': (1, -1, -1, 1)}
)
"""Quantity -> powers of flow, blood volume, static dephasing constant and oxygen content in it."""


def predict_relative(constants: Mapping[str, float], quantity: str) -> float:
    """
    Predict a quantity of one voxel with all signals fixed, relative to an unknown scale.

    Parameters
    ----------
    constants : mapping of str to float
        Dotted name to value in SI, as in the table of constants.
    quantity : str
        A key of `PARTS`.

    Returns
    -------
    predicted : float
        Proportional to the quantity, and to its change, for fixed images.

    Examples
    --------
    >>> one, two = ({'oxygen.b0': b0, 'oxygen.hct': 0.42, 'oxygen.sao2': 0.98} for b0 in (3, 6))
    >>> round(predict_relative(one, 'cmro2') / predict_relative(two, 'cmro2'), 6)
    2.0
    """
    of_flow, of_volume, of_rate, of_content = PARTS[quantity]
    flow = _flow(_given(constants, 'perfusion', (*FLOW, BOLUS)))
    is_scaled = bool(of_rate) and SCALED_TO in constants
    if is_scaled:  # whatever the model of OEF took, its mean is that of venous blood
        of_volume = of_rate = 0
    volumes = _given(constants, 'blood_volume', (*VOLUMES, 'grubb_exponent'))
    exponent = volumes.pop('grubb_exponent', 0.0)
    volume = math.prod(volumes.values()) * flow**exponent
    predicted = flow**of_flow * volume**of_volume
    if of_rate and _is_by_gases(constants):
        predicted *= _extraction_by_gases(constants) ** -of_rate
    elif of_rate:
        predicted *= static_dephasing_constant(**_given(constants, 'oxygen', RATE)) ** of_rate
    if is_scaled:
        predicted *= global_extraction(constants[VENOUS], constants['oxygen.sao2'])
    if of_content:
        predicted *= arterial_oxygen_content(**_given(constants, 'oxygen', CONTENT)) ** of_content
    return float(predicted)


def relative_error(constants: Mapping[str, float], quantity: str) -> float:
    """
    Say how well the constants let a quantity, or its change, be known.

    Parameters
    ----------
    constants : mapping of str to float
        As for :func:`predict_relative`.
    quantity : str
        One of :data:`PARTS`; any other does not depend on constants.

    Returns
    -------
    error : float
        Relative standard deviation. It scales all voxels and conditions alike, so that it turns
        no sign and does not shrink over a region; over a group it shrinks only where the constant
        is the participant's own (:data:`OWN`).

    Examples
    --------
    >>> round(relative_error({'blood_volume.white_matter_cbv': 0.025}, 'cbv'), 3)
    0.15
    """
    if quantity not in PARTS:
        return 0.0
    return math.hypot(*relative_effects(constants, quantity).values())


def stated_error(name: str, constants: Mapping[str, float]) -> float:
    """
    Say how well a constant is known, relative to itself.

    Parameters
    ----------
    name : str
        An entry of :data:`RELATIVE_ERROR`, or the saturation of venous blood, whose error stands
        beside it.
    constants : mapping of str to float
        As for :func:`predict_relative`.

    Examples
    --------
    >>> stated_error('oxygen.sao2', {})
    0.01
    """
    if name == VENOUS:
        return constants[f'{VENOUS}_error'] / constants[VENOUS]
    return RELATIVE_ERROR[name][0]


def describe_effects(effects: Mapping[str, float]) -> dict[str, Any]:
    """
    Say what each constant adds to the relative error, and whose it is.

    Parameters
    ----------
    effects : mapping of str to float
        From :func:`relative_effects`.

    Returns
    -------
    facts : dict
        ``Total`` and the ``Effects`` of all, relative; of these ``SharedByGroup`` those that a
        mean over participants does not spare.

    Examples
    --------
    >>> describe_effects({'oxygen.hct': 0.03, 'perfusion.t1_blood': -0.04})['Total']
    0.05
    """
    rounded = {name: round(effect, DIGITS) for name, effect in effects.items()}
    rounded = {name: effect for name, effect in rounded.items() if effect}
    return {
        'Total': round(math.hypot(*effects.values()), DIGITS),
        'Effects': rounded,
        'SharedByGroup': [name for name in rounded if name not in OWN],
    }


def relative_effects(constants: Mapping[str, float], quantity: str = 'cmro2') -> dict[str, float]:
    """
    Say what one standard deviation of each constant does to a quantity.

    Parameters
    ----------
    constants : mapping of str to float
        As for :func:`predict_relative`; those without an entry in :data:`RELATIVE_ERROR`
        are taken as known.
    quantity : str
        One of :data:`PARTS`.

    Returns
    -------
    effects : dict of str to float
        Relative change of the quantity, with sign.

    Examples
    --------
    >>> effects = relative_effects({'oxygen.b0': 3.0, 'oxygen.hct': 0.42, 'oxygen.sao2': 0.9})
    >>> {name: round(effect, 4) + 0 for name, effect in effects.items()}
    {'oxygen.hct': 0.0, 'oxygen.sao2': 0.01}
    """
    effects = {}
    here = predict_relative(constants, quantity)
    if SCALED_TO in constants and quantity in ('oef', 'cmro2'):
        effects[VENOUS] = -constants[f'{VENOUS}_error'] / (
            constants['oxygen.sao2'] - constants[VENOUS]
        )
    elif _is_by_gases(constants):
        others = [
            math.log(
                predict_relative(
                    {**constants, 'oxygen.alpha': alpha, 'oxygen.beta': beta}, quantity
                )
            )
            for alpha, beta in COEFFICIENTS.values()
        ]
        effects[EXPONENTS] = statistics.stdev(others)  # no number to vary
    for name, (error, _) in RELATIVE_ERROR.items():
        if constants.get(name):
            # downward: a saturation or an efficiency of 1 is the end of its range
            below = predict_relative({**constants, name: constants[name] * (1 - STEP)}, quantity)
            effects[name] = error * math.log(here / below) / -math.log1p(-STEP)
    return effects


def variance_shares(effects: Mapping[str, float], noise: float) -> dict[str, float]:
    """
    Share a relative variance out among the constants and the noise.

    Parameters
    ----------
    effects : mapping of str to float
        From :func:`relative_effects`; taken as independent.
    noise : float
        Relative standard deviation by the noise of the scans.

    Returns
    -------
    shares : dict of str to float
        One entry per constant and ``noise``; they add up to 1.

    Examples
    --------
    >>> variance_shares({'a': 0.5, 'b': -1.5}, 0.0)
    {'a': 0.1, 'b': 0.9, 'noise': 0.0}
    """
    squares = {name: effect**2 for name, effect in effects.items()} | {'noise': noise**2}
    total = math.fsum(squares.values())
    return {name: square / total if total else 0.0 for name, square in squares.items()}


def _is_by_gases(constants: Mapping[str, float]) -> bool:
    """Tell whether OEF comes from gases, not from R2'."""
    return set(constants) >= BY_GASES and 'oxygen.susceptibility' not in constants


def _extraction_by_gases(constants: Mapping[str, float]) -> float:
    """Give OEF of typical changes by hypercapnia and hyperoxia, T1 of whose blood differs."""
    gases: dict[str, Any] = {
        name: constants[f'oxygen.{name}']
        for name in ('alpha', 'beta', 'resting_po2', 'hypercapnia_po2', 'hyperoxia_po2',
                     'hypercapnia_cmro2', 'sao2')
    }  # fmt: skip
    content = arterial_oxygen_content(**_given(constants, 'oxygen', CONTENT))
    labelling = _given(constants, 'perfusion', (*FLOW, BOLUS))
    flow = TYPICAL_GASES['hyperoxia_cbf']
    if 't1_blood' in labelling and 'oxygen.oxygen_relaxivity' in constants:
        t1_blood = arterial_t1(
            labelling['t1_blood'],
            po2=gases['hyperoxia_po2'],
            resting_po2=gases['resting_po2'],
            relaxivity=constants['oxygen.oxygen_relaxivity'],
        )
        rest, gas = (_flow({**labelling, 't1_blood': t1}) for t1 in
                     (labelling['t1_blood'], t1_blood))  # fmt: skip
        flow = TYPICAL_GASES['hyperoxia_label'] * gas / rest
    flows = {**TYPICAL_GASES, 'hyperoxia_cbf': flow}
    maps: dict[str, Any] = {name: Estimate.of([flows[name]]) for name in GAS_MAPS}
    return float(estimate_oef_dual_calibrated(**maps, **gases, cao2=content).value[0])


def _given(
    constants: Mapping[str, float], branch: str, names: tuple[str, ...]
) -> dict[str, float]:
    """Take the constants of a part; of those listed per delay the largest."""
    found: dict[str, float] = {}
    for name, value in constants.items():
        short = re.sub(r'_\d+$', '', name.removeprefix(f'{branch}.'))
        if name.startswith(f'{branch}.') and short in names:
            found[short] = max(value, found.get(short, value))
    return found


def _flow(constants: dict[str, Any]) -> float:
    """Give CBF of a unit signal; 1 where the flow was not made from a labelled series here."""
    constants = {SUPPRESSED: 1.0, **constants}
    bolus = constants.pop(BOLUS, None)
    if bolus is not None:
        constants |= {'label_duration': bolus, 'labeling': PULSED}
    if not set(FLOW) <= set(constants):
        return 1.0
    return float(cbf_from_difference(1.0, 1.0, **constants))
