"""
Conditions: which scans belong to which condition, what is compared with what.

Pure functions on entities. The rules as a table, tested row by row: docs/reference/conditions.md.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from bids_app.bids.scans import Contrast
from bids_app.errors import SettingsError
from bids_app.models.registry import GASES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bids_app.bids.scans import AslSeries, BoldRun
    from bids_app.settings import Settings

BASELINES = ('control', 'rest')
"""Names taken for the baseline, in order, when none is chosen."""

QUANTITATIVE = ('mese', 'megre', 'ase', 'asl', 'dsc')
"""Families whose scans are made once per condition."""

SHAREABLE = ('mese', 'dsc')
"""Families of which one scan may serve every condition although it names one."""

ACQUIRED = ('asl', 'dsc')
"""Families in perf/, whose names may not hold task-; acq- stands for it."""


class HasCondition(Protocol):
    """Anything made in one condition, or shared (None)."""

    @property
    def condition(self) -> str | None: ...  # noqa: D102


Series = TypeVar('Series', bound=HasCondition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the rules need to know of one acquisition."""

    family: str
    entities: Mapping[str, str]
    """Long names: task, acquisition, session, run ..."""
    trial_types: tuple[str, ...] = ()
    """Of a BOLD run: labels of its events, normalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The condition labels of a dataset or of one unit."""

    quantitative: frozenset[str] = frozenset()
    """Found on quantitative scans."""
    trial_types: frozenset[str] = frozenset()
    """Found in the events of BOLD runs."""

    @property
    def all(self) -> frozenset[str]:
        """Every label."""
        return self.quantitative | self.trial_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The conditions of a dataset and what is compared."""

    labels: Labels
    baseline: str | None
    contrasts: tuple[Contrast, ...]


SIGNS = {
    '+': 'plus',
    '<': 'less',
    '>': 'more',
    '\N{LESS-THAN OR EQUAL TO}': 'atmost',
    '\N{GREATER-THAN OR EQUAL TO}': 'atleast',
}
"""Signs that tell labels apart, in words; so does a minus at the end."""


def normalise(label: str) -> str:
    """
    Bring a label to the form in which labels are compared and written.

    Examples
    --------
    >>> normalise('Mental-Calc_2'), normalise('CS+'), normalise('CS-'), normalise('Gedächtnis')
    ('mentalcalc2', 'csplus', 'csminus', 'gedachtnis')
    """
    text = re.sub(r'(?<=.)[-\N{MINUS SIGN}]$', 'minus', label.strip())
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    text = unicodedata.normalize('NFKD', text).casefold()
    return re.sub(r'[^a-z0-9]', '', text)


def spellings(labels: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """
    Find labels that are written in several ways, and those that cannot be written at all.

    Give normalised labels with their spellings, where there are two or more, and the labels
    without a Latin letter or digit.

    Examples
    --------
    >>> spellings(['calc 1', 'Calc-1', 'rest', '計算'])
    ({'calc1': ['Calc-1', 'calc 1']}, ['計算'])
    """
    known: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        known.setdefault(normalise(label), []).append(label)
    unwritable = known.pop('', [])
    return {name: found for name, found in known.items() if len(found) > 1}, unwritable


def are_one_label(found: Iterable[str]) -> bool:
    """Tell whether spellings differ in nothing but case, blanks, dashes and underscores."""
    plain = {re.sub(r'[\s_-]', '', unicodedata.normalize('NFKD', one).casefold()) for one in found}
    return len(plain) == 1


def find_labels(
    scans: Collection[Scan], *, entity: str = 'auto', named: Collection[str] = ()
) -> Labels:
    """
    Collect the condition labels of scans.

    `named` are labels of the user (baseline, contrasts), or those known from the whole dataset.
    Labels are normalised.
    """
    trial_types = {label for scan in scans for label in scan.trial_types if entity != 'ses'}
    tasks = _values(scans, QUANTITATIVE, 'task')
    acquisitions = _values(scans, ACQUIRED, 'acquisition')
    if entity == 'auto':
        known = tasks | trial_types | set(named) | set(BASELINES)
        alone = not tasks and bool(acquisitions & set(BASELINES))
        found = tasks | (acquisitions if alone else acquisitions & known)
    else:
        found = _values(scans, QUANTITATIVE, _long(entity))
    return Labels(quantitative=frozenset(found), trial_types=frozenset(trial_types))


def _values(scans: Collection[Scan], families: Collection[str], entity: str) -> set[str]:
    """Normalised values of an entity."""
    return {
        normalise(scan.entities[entity])
        for scan in scans
        if scan.family in families and entity in scan.entities
    }


def _long(entity: str) -> str:
    """Long name of a condition entity."""
    return {'task': 'task', 'acq': 'acquisition', 'ses': 'session'}[entity]


def condition_of(scan: Scan, *, labels: Labels, entity: str = 'auto') -> str | None:
    """
    Tell the condition that a scan's name gives.

    None where the name gives none. The ``task-`` of a BOLD run is never a condition; the labels of
    the dataset decide whether an ``acq-`` is one.
    """
    if scan.family == 'bold' and entity != 'ses':
        return None
    if entity != 'auto':
        return normalise(scan.entities.get(_long(entity), '')) or None
    if 'task' in scan.entities:
        return normalise(scan.entities['task'])
    acquisition = normalise(scan.entities.get('acquisition', ''))
    is_condition = scan.family in ACQUIRED and acquisition in labels.all
    return acquisition if is_condition else None


def assign_conditions(
    scans: Sequence[Scan], *, labels: Labels, entity: str = 'auto'
) -> tuple[tuple[str | None, ...], tuple[int, ...]]:
    """
    Assign the scans of one family and one unit to conditions.

    Give one condition per scan (None = serves every condition), and the indices of scans that name
    no condition while others do (or while they differ from each other): they can serve none.
    """
    named = [condition_of(scan, labels=labels, entity=entity) for scan in scans]
    distinct = set(named)
    if scans and scans[0].family in SHAREABLE:
        shared = len(distinct) == 1
        return tuple(None if shared else label for label in named), ()
    kinds = {
        scan.entities.get('acquisition', '')
        for scan, label in zip(scans, named, strict=True)
        if label is None
    }
    if distinct <= {None} and len(kinds) <= 1:
        return tuple(named), ()
    return tuple(named), tuple(index for index, label in enumerate(named) if label is None)


def for_condition(series: Sequence[Series], condition: str | None) -> tuple[Series, ...]:
    """
    Pick the series that serve a condition.

    Those made in that condition (several = runs); where there are none, and for None, the shared
    ones.
    """
    own = tuple(item for item in series if item.condition == condition)
    return own or tuple(item for item in series if item.condition is None)


def runs_for_contrast(
    runs: Sequence[BoldRun], contrast: Contrast, *, baseline: str | None, min_gap: float
) -> tuple[BoldRun, ...]:
    """
    Pick the BOLD runs that can make a contrast.

    Runs that list the task, and list the baseline or have a gap, where that is the baseline of the
    dataset; of events a baseline that is not listed is what no event is of. Blocks and gaps must
    be longer than `min_gap`, s.
    """
    may_be_gap = contrast.baseline == baseline or contrast.baseline in BASELINES
    return tuple(
        run
        for run in runs
        if contrast.task in _listed(run, min_gap)
        and (
            contrast.baseline in _listed(run, min_gap)
            or (may_be_gap and (run.is_of_events or longest_gap(run) > min_gap))
        )
    )


def _listed(run: BoldRun, shortest: float) -> set[str]:
    """Trial types of a run that have a block that is longer; all of a run of events."""
    return {
        event.trial_type for event in run.events if run.is_of_events or event.duration > shortest
    }


def longest_gap(run: BoldRun | AslSeries) -> float:
    """Measure the longest stretch of a run without any event, s."""
    end, longest = 0.0, 0.0
    for event in run.events:
        longest = max(longest, event.onset - end)
        end = max(end, event.onset + event.duration)
    return max(longest, run.n_volumes * (run.repetition_time or 0.0) - end)


def gas_conditions(settings: Settings) -> dict[str, str]:
    """
    Name the conditions in which gases were breathed.

    Returns
    -------
    conditions : dict of str to str
        hypercapnia, hyperoxia -> label as it is written, where the settings name one.
    """
    oxygen = settings.oxygen
    named = dict(zip(GASES, (oxygen.hypercapnia, oxygen.hyperoxia), strict=True))
    return {gas: normalise(label) for gas, label in named.items() if label is not None}


def make_plan(
    labels: Labels,
    *,
    baseline: str | None = None,
    contrasts: Sequence[str] = (),
    gases: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """
    Decide the baseline and the contrasts of a dataset.

    The default baseline is control, else rest; the default contrasts (``A-B``) are every condition
    minus the baseline. There are none where there is nothing to compare.
    Conditions of gases must be there.

    Raises
    ------
    SettingsError
        For a condition that is found nowhere, or when no baseline can be told.
    """
    for gas, label in gases.items():
        if label not in labels.all:
            raise SettingsError(_nowhere(f'--{gas}', label, labels))
    pairs = [_split(text) for text in contrasts]
    chosen = _baseline(labels, baseline, needed=not pairs)
    for label in [label for pair in pairs for label in pair]:
        if label not in labels.all and label != _gaps(labels, label):
            raise SettingsError(_nowhere('--contrasts', label, labels))
    if not pairs and chosen is not None:
        pairs = [(label, chosen) for label in sorted(labels.all - {chosen})]
    planned = tuple(Contrast(task=task, baseline=base) for task, base in dict.fromkeys(pairs))
    return Plan(labels=labels, baseline=chosen, contrasts=planned)


def _split(text: str) -> tuple[str, str]:
    """Read one contrast of the setting."""
    task, dash, base = text.partition('-')
    pair = normalise(task), normalise(base)
    if not (dash and all(pair)) or pair[0] == pair[1]:
        msg = f'--contrasts: expected two different conditions as A-B, got {text!r}'
        raise SettingsError(msg)
    return pair


def _gaps(labels: Labels, wanted: str | None) -> str | None:
    """Name of the condition that the gaps of events.tsv stand for, where no scan names it."""
    if not labels.trial_types or len(labels.quantitative) > 1:
        return None
    return wanted if wanted in BASELINES else BASELINES[0]


def _baseline(labels: Labels, wanted: str | None, *, needed: bool) -> str | None:
    """Choose the baseline."""
    if wanted is not None:
        label = normalise(wanted)
        if label in labels.all or label == _gaps(labels, label):
            return label
        raise SettingsError(_nowhere('--baseline', label, labels))
    for label in BASELINES:
        if label in labels.all:
            return label
    if _gaps(labels, None) or len(labels.all) < 2 or not needed:
        return _gaps(labels, None)
    msg = (
        'no baseline condition: neither control nor rest is in the dataset; '
        f'choose one with --baseline, found: {", ".join(sorted(labels.all))}'
    )
    raise SettingsError(msg)


def _nowhere(option: str, label: str, labels: Labels) -> str:
    """Say that a condition is found nowhere."""
    found = ', '.join(sorted(labels.all)) or 'none'
    return f'{option}: condition {label!r} is nowhere in the dataset; conditions found: {found}'


def plan_unit(plan: Plan, own: Labels) -> tuple[tuple[str, ...], tuple[Contrast, ...]]:
    """
    Restrict the plan of the dataset to what one unit has.

    Give its conditions, the baseline first, and the contrasts of which the unit has both sides;
    the gaps of a BOLD run are a baseline.
    """
    found = own.all | ({plan.baseline} if plan.baseline and own.trial_types else set())
    contrasts = tuple(
        item
        for item in plan.contrasts
        if item.task in found and (item.baseline in found or bool(own.trial_types))
    )
    ordered = sorted(found, key=lambda label: (label != plan.baseline, label))
    return tuple(ordered), contrasts
