"""What is true of a participant: blood, tissue values, and what each condition changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bids_app.phantom import physics
from bids_app.phantom.anatomy import NULL_REGION

if TYPE_CHECKING:
    from bids_app._typing import FloatArray
    from bids_app.phantom.anatomy import Tissue

T2 = np.array([0.075, 0.070, 1.0, 0.050])
"""s, in the order of TISSUES; grey matter as in the target study (74 ms)."""

BLOOD_VOLUME = np.array([0.048, 0.025, 0.0, 0.02])
"""mL/mL; grey and white matter as in the target study."""

EXTRACTION = np.array([0.37, 0.36, 0.0, 0.36])
"""Oxygen extraction fraction."""

FLOW = np.array([55.0, 22.0, 0.0, 0.0])
"""mL/100 g/min."""

T1 = np.array([1.6, 0.85, 4.3, 0.4])
"""s at 3 T."""

ARRIVAL = np.array([1.0, 1.4, 1.0, 1.0])
"""Arterial transit time, s; below the post label delay, so that all label has arrived."""

BASELINES = ('control', 'rest')
"""Names of a baseline condition, the first present is it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionEffect:
    """What a task does to one region: ratios to the baseline."""

    flow: float
    extraction: float

    @property
    def metabolism(self) -> float:
        """Ratio of CMRO2."""
        return self.flow * self.extraction

    @property
    def label(self) -> int:
        """True concordance label: 1-4, or 7 where nothing changes."""
        if self.extraction == 1 and self.flow == 1:
            return 7
        is_positive = self.extraction < 1  # BOLD rises where R2' falls
        is_up = self.metabolism > 1
        return {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
            is_positive, is_up
        ]


NO_EFFECT = RegionEffect(flow=1.0, extraction=1.0)

EFFECTS = {
    1: RegionEffect(flow=1.22, extraction=0.93),
    2: RegionEffect(flow=0.88, extraction=0.94),
    3: RegionEffect(flow=0.80, extraction=1.06),
    4: RegionEffect(flow=1.12, extraction=1.06),
}
"""Per region: concordant positive, discordant positive, concordant and discordant negative."""


def effects_of(
    condition: str, conditions: tuple[str, ...], *, concordant: bool = False
) -> dict[int, RegionEffect]:
    """
    Give what a condition changes in each region.

    Nothing for the baseline. The first task has the table EFFECTS; the next has it turned by one
    region, and so on, so that every task has all four sign combinations. With `concordant`,
    metabolism follows BOLD in all regions.
    """
    baseline = baseline_of(conditions)
    if condition == baseline:
        return dict.fromkeys(EFFECTS, NO_EFFECT)
    tasks = [name for name in conditions if name != baseline]
    turn = tasks.index(condition)
    regions = list(EFFECTS)
    same = {2: 1, 4: 3} if concordant else {}
    turned = [regions[(i + turn) % len(regions)] for i in range(len(regions))]
    return {
        region: EFFECTS[same.get(other, other)]
        for region, other in zip(regions, turned, strict=True)
    }


def baseline_of(conditions: tuple[str, ...]) -> str:
    """Name the baseline: control, else rest, else the first condition."""
    return next((name for name in BASELINES if name in conditions), conditions[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One participant's blood, flow and head-independent truth."""

    label: str
    hct: float
    """Large-vessel, fraction."""
    sao2: float
    """Fraction."""
    flow_scale: float
    """Global factor of CBF."""
    extraction_scale: float = 1.0
    """Global factor of OEF."""
    territory_scale: float = 1.0
    """Factor of OEF in the territory of a patient."""
    territory_side: str = 'left'
    """Hemisphere of the territory."""
    age: float | None = None
    """Years; where the study has groups."""
    is_patient: bool = False
    b0: float = 3.0
    """T"""

    @property
    def static_dephasing_constant(self) -> float:
        """R2' per OEF x CBV, 1/s."""
        return physics.static_dephasing_constant(b0=self.b0, hct=self.hct)

    @property
    def oxygen_content(self) -> float:
        """Of arterial blood, umol/mL."""
        return physics.oxygen_content(hct=self.hct, sao2=self.sao2)

    def values(self, tissue: Tissue, effects: dict[int, RegionEffect]) -> Values:
        """
        Give the tissue values at points of the anatomy in a condition.

        (P, 4) each.
        """
        ratio = np.ones((2, NULL_REGION + 1))
        for region, effect in effects.items():
            ratio[:, region] = effect.flow, effect.extraction
        r2 = _with_grey(1 / T2, tissue.factors['r2'])
        flow = _with_grey(FLOW * self.flow_scale, tissue.factors['cbf'] * ratio[0, tissue.region])
        volume = _with_grey(BLOOD_VOLUME, tissue.factors['cbv'])
        level = EXTRACTION * self.extraction_scale
        extraction = _with_grey(level, tissue.factors['oef'] * ratio[1, tissue.region])
        r2_prime = self.static_dephasing_constant * extraction * volume
        return Values(r2=r2, r2_prime=r2_prime, flow=flow, volume=volume, extraction=extraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Tissue values at P points, (P, 4) in the order of TISSUES."""

    r2: FloatArray
    """1/s"""
    r2_prime: FloatArray
    """1/s"""
    flow: FloatArray
    """mL/100 g/min"""
    volume: FloatArray
    """mL/mL"""
    extraction: FloatArray
    """Fraction."""


def _with_grey(values: FloatArray, factor: FloatArray) -> FloatArray:
    """Spread tissue values (4,) over points; grey matter times a factor (P,)."""
    spread = np.tile(values, (len(factor), 1))
    spread[:, 0] *= factor
    return spread


TERRITORY_DIFFERENCE = 0.06
"""OEF of grey matter that patients have more in the territory, fraction."""

AGE_SLOPE = 0.002
"""OEF of grey matter per year of age; with groups."""

AGES = {False: (40.0, 6.0), True: (50.0, 6.0)}
"""Mean and SD of the age of controls and patients, years: age is confounded with the group."""

PEOPLE = 0.02
"""SD of OEF of grey matter between people of one age; with groups."""


def make_person(rng: np.random.Generator, person: Participant, *, is_patient: bool) -> Participant:
    """Give a participant of a study of patients an age, what follows from it, and the disease."""
    mean, spread = AGES[is_patient]
    age = round(float(np.clip(rng.normal(mean, spread), 20, 80)), 1)
    level = AGE_SLOPE * (age - AGES[False][0]) + PEOPLE * float(np.clip(rng.normal(), -2, 2))
    grey = float(EXTRACTION[0])
    return replace(
        person,
        age=age,
        is_patient=is_patient,
        extraction_scale=1.0 + level / grey,
        territory_scale=1.0 + TERRITORY_DIFFERENCE / (grey + level) if is_patient else 1.0,
    )


def make_participant(rng: np.random.Generator, label: str) -> Participant:
    """Draw a participant's blood as it was in the target study (Hct 42 +- 2.7 %, SaO2 98 %)."""
    return Participant(
        label=label,
        hct=round(float(np.clip(rng.normal(0.42, 0.027), 0.36, 0.48)), 3),
        sao2=round(float(np.clip(rng.normal(0.98, 0.008), 0.96, 1.0)), 2),
        flow_scale=float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15)),
    )
