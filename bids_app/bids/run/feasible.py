"""What a unit can make from its inputs, and why not the rest; printed by --dry-run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.asl_delays import distinct_delays
from bids_app.bids.input.conditions import for_condition, gas_conditions, runs_for_contrast
from bids_app.bids.input.metadata.relaxometry import is_even_train
from bids_app.bids.products import PRODUCTS
from bids_app.bids.scans import Contrast
from bids_app.models.contrast.difference import maps_behind
from bids_app.models.registry import GAS_MAPS, GASES, MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bids_app.bids.scans import AslSeries, EchoSeries, ParticipantInputs
    from bids_app.settings import Settings

FEWEST_FOR_STIMULATED = 4
"""Echoes that a model of imperfect refocusing needs; drop-first has three left then."""

MADE, ABSENT, DEFECTIVE = 'made', 'absent', 'defective'

ROLES = {
    'anatomy': ('t1w',),
    'mese': ('mese',),
    'megre': ('megre_mag', 'megre_phase', 'megre_real', 'megre_imag'),
    'ase': ('ase',),
    'asl': ('asl', 'aslcontext', 'm0'),
    'dsc': ('dsc',),
    'bold': ('bold', 'events'),
}
"""Input -> roles whose problems make it defective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Whether one map can be made."""

    map: str
    condition: str | None = None
    """Condition, or label of the contrast."""
    state: str
    """made, absent (an input is not there) or defective (an input cannot be used)."""
    files: tuple[Path, ...] = ()
    fallback: str = ''
    """What is done in place of something better."""
    reason: str = ''
    """Why it cannot be made."""


def capabilities(inputs: ParticipantInputs, settings: Settings) -> list[dict[str, Any]]:
    """
    List every map with whether it can be made.

    Keys map, condition, state, files, fallback, reason. Changes are called ``change_<quantity>``;
    their condition is the label of the contrast.
    """
    if inputs.saved is not None:
        return [
            {**row, 'files': tuple(Path(path) for path in row['files'])}
            for row in inputs.saved.rows
        ]
    rows = [_anatomy(inputs), _template(inputs, settings)]
    conditions = _Maps(inputs, settings)
    for name, product in PRODUCTS.items():
        if not product.comes_along:
            rows += [conditions.make(name, one) for one in _conditions_of(name, inputs, settings)]
    if _asks_for_venous_blood(inputs, settings):
        rows.append(conditions.venous_blood())
    for contrast in inputs.contrasts:
        rows += _changes(conditions, contrast)
    return [asdict(row) for row in rows]


def _asks_for_venous_blood(inputs: ParticipantInputs, settings: Settings) -> bool:
    """Tell whether anything says that OEF is to be compared with venous blood."""
    names = {row.name for row in inputs.values} | {item.role for item in inputs.problems}
    return bool({'oxygen.venous_saturation', 'venous'} & names) or (
        settings.oxygen.oef_scale == 'venous'
    )


SCAN_OF_CBV = {'dsc': 'dsc', 'arterial': 'dsc', 'ase': 'ase', 'grubb': 'asl'}
"""Model of CBV -> the scans in whose conditions it makes a map; the others make one for all."""

MEASURED_CBV = ('dsc', 'arterial', 'ase')
"""Models of CBV that are measured."""


def cbv_model(inputs: ParticipantInputs, settings: Settings) -> str:
    """
    Decide where blood volume comes from.

    The setting; else dsc where the unit has a usable DSC series and tissue maps can be made (white
    matter is the reference), else ase where it has an asymmetric spin echo, else none.
    """
    if settings.blood_volume.model is not None:
        return settings.blood_volume.model
    if inputs.dsc and (inputs.t1w or inputs.anatomy):
        return 'dsc'
    return 'ase' if inputs.ase else 'none'


def oef_model(inputs: ParticipantInputs, settings: Settings) -> str:
    """
    Decide which model OEF comes from.

    The setting; else mqbold, or without both multi-echo scans qbold where there is an asymmetric
    spin echo, else dual-calibrated where both gases are named.
    """
    if settings.oxygen.oef_model is not None:
        return settings.oxygen.oef_model
    if inputs.mese and inputs.megre:
        return 'mqbold'
    if inputs.ase:
        return 'qbold'
    return 'dual-calibrated' if len(gas_conditions(settings)) == len(GASES) else 'mqbold'


def is_by_gases(inputs: ParticipantInputs, settings: Settings) -> bool:
    """Tell whether OEF comes from what gases change, which gives it at rest only."""
    return bool(GAS_MAPS.keys() & set(MODELS['oef'][oef_model(inputs, settings)].maps))


def bold_maximum_model(inputs: ParticipantInputs, settings: Settings) -> str:
    """
    Decide which model the maximum of BOLD comes from.

    The setting; else generalised where OEF comes from both gases or hyperoxia alone is named,
    hypercapnia where that is, r2-prime without gases.
    """
    if settings.oxygen.bold_maximum_model is not None:
        return settings.oxygen.bold_maximum_model
    gases = gas_conditions(settings)
    if is_by_gases(inputs, settings) or list(gases) == ['hyperoxia']:
        return 'generalised'
    return 'hypercapnia' if gases else 'r2-prime'


def is_by_ase(inputs: ParticipantInputs, settings: Settings) -> bool:
    """Tell whether OEF comes from the asymmetric spin echo."""
    return 'signal' in MODELS['oef'][oef_model(inputs, settings)].data


def _maps_behind(quantity: str, inputs: ParticipantInputs, settings: Settings) -> tuple[str, ...]:
    """Name the maps of scans that a quantity is made of, by the models that make it."""
    has_rates = bool(inputs.mese and inputs.megre) or not is_by_ase(inputs, settings)
    return maps_behind(
        quantity,
        derived_models(inputs, settings),
        lambda name: has_rates or name not in ('r2', 'r2_star'),
    )


def _families_of(quantity: str, inputs: ParticipantInputs, settings: Settings) -> tuple[str, ...]:
    """List the inputs that a quantity is made of, by the models that make it."""
    by_cbv = SCAN_OF_CBV.get(cbv_model(inputs, settings), '')
    families = [
        by_cbv if name == 'cbv' else _family_of(name)
        for name in _maps_behind(quantity, inputs, settings)
    ]
    return tuple(family for family in dict.fromkeys(families) if family)


def can_have(quantity: str, inputs: ParticipantInputs, settings: Settings) -> bool:
    """Tell whether there is a scan of every kind that is needed; of T2 and CBV others may do."""
    needed = set(_maps_behind(quantity, inputs, settings)) - {'r2', 'cbv'}
    return all(getattr(inputs, _family_of(name)) for name in needed)


def _family_of(name: str) -> str:
    """Name the scans that a map is made of."""
    if name in GAS_MAPS:
        return 'bold' if name.endswith('_bold') else 'asl'
    return PRODUCTS[name].scans[0]


def derived_models(inputs: ParticipantInputs, settings: Settings) -> dict[str, str]:
    """Name the row of the registry of every quantity that is made of other maps."""
    return {
        'r2_prime': settings.relaxometry.r2_prime_model,
        'oef': oef_model(inputs, settings),
        'bold_maximum': bold_maximum_model(inputs, settings),
        'cvr': 'cbf',
        'cmro2': settings.oxygen.cmro2_model,
    }


def t2_model(series: EchoSeries, settings: Settings) -> tuple[str, str]:
    """
    Decide which model of T2 a multi-echo spin echo is for, by what its sidecar says.

    Give the row of the registry, and why this one.
    """
    if settings.relaxometry.t2_model is not None:
        return settings.relaxometry.t2_model, 'chosen by the settings'
    if len(series.echo_times) < FEWEST_FOR_STIMULATED:
        return 'exponential', 'fewer than four echoes'
    kind = str(series.metadata.get('MRAcquisitionType', '')).upper()
    if kind == '3D':
        return 'drop-first', 'a slab (3D), whose first echo lacks stimulated echoes'
    if kind == '2D' and is_even_train(series.echo_times):
        return 'epg-slice', 'slices (2D), across which the refocusing angle changes'
    return 'drop-first', 'the sidecar does not say how the echoes were refocused'


def cbf_model(series: AslSeries, settings: Settings) -> str:
    """Decide which model of CBF a series is for."""
    if series.m0.kind == 'Unneeded':
        return 'scanner'
    if settings.perfusion.model is not None:
        return settings.perfusion.model
    _, table = distinct_delays(series.post_label_delay, series.label_duration, series.differences)
    return 'multi-delay' if len(table) > 1 else 'single-delay'


def arrival_is_shared(series: Sequence[AslSeries], settings: Settings) -> bool:
    """
    Tell whether the conditions of a unit are fitted with one arrival time.

    That is so where it is set and there are two conditions or more, each with one series of
    several delays, all labelled in the same way.
    """
    conditions = {one.condition for one in series}
    return (
        settings.perfusion.arrival == 'shared'
        and len(series) == len(conditions) > 1
        and len({one.labeling for one in series}) == 1
        and all(cbf_model(one, settings) == 'multi-delay' for one in series)
    )


def _conditions(inputs: ParticipantInputs, families: Sequence[str]) -> tuple[str | None, ...]:
    """Conditions in which any of the inputs was acquired; one shared row without any."""
    found = {item.condition for name in families for item in getattr(inputs, name)}
    roles = {role for name in families for role in ROLES[name]} - {'events'}
    found |= {problem.condition for problem in inputs.problems if problem.role in roles}
    return tuple(one for one in inputs.conditions if one in found) or (None,)


def _conditions_of(
    quantity: str, inputs: ParticipantInputs, settings: Settings
) -> tuple[str | None, ...]:
    """Conditions that a quantity has a row for: one that gases give is made at rest, or not."""
    model = derived_models(inputs, settings).get(quantity, '')
    by_gases = GAS_MAPS.keys() & set(MODELS[quantity][model].maps if model else ())
    if by_gases or (quantity == 'cmro2' and is_by_gases(inputs, settings)):
        gases = gas_conditions(settings)
        return (inputs.baseline,) if quantity != 'cvr' or 'hypercapnia' in gases else ()
    if quantity == 'bold_maximum':
        return ()  # that of R2' is not written
    return _conditions(inputs, _families_of(quantity, inputs, settings))


def _template(inputs: ParticipantInputs, settings: Settings) -> Capability:
    """Tell whether the way to the template can be made, or was found."""
    found = inputs.anatomy
    is_found = found is not None and found.to_template and found.from_template
    if found is not None and not is_found and settings.anatomy.registration == 'header':
        reason = f'no transforms to the template in the derivatives {found.source}'
        return Capability(map='template', state=ABSENT, reason=reason)
    row = _anatomy(inputs)
    return Capability(map='template', state=row.state, files=row.files, reason=row.reason)


def _anatomy(inputs: ParticipantInputs) -> Capability:
    """Masks and tissue."""
    if inputs.anatomy is not None:
        return Capability(
            map='anatomy',
            state=MADE,
            files=(inputs.anatomy.t1w,),
            fallback=f'from the derivatives {inputs.anatomy.source}',
        )
    if inputs.t1w:
        return Capability(map='anatomy', state=MADE, files=inputs.t1w)
    return _lacking(inputs, 'anatomy', 'anatomy', None, 'no T1w image')


def _lacking(
    inputs: ParticipantInputs, name: str, source: str, condition: str | None, absence: str
) -> Capability:
    """Tell whether an input is absent or defective."""
    problems = [
        problem
        for problem in inputs.problems
        if problem.role in ROLES[source]
        and (condition is None or problem.condition in (None, condition))
    ]
    if not problems:
        return Capability(map=name, condition=condition, state=ABSENT, reason=absence)
    return Capability(
        map=name,
        condition=condition,
        state=DEFECTIVE,
        files=tuple(problem.file for problem in problems if problem.file is not None),
        reason='; '.join(problem.message for problem in problems),
    )


def _combined(name: str, condition: str | None, parts: Sequence[Capability]) -> Capability:
    """Make a map from others: absent if any is, for then no repair would make it."""
    states = {part.state for part in parts}
    state = next((one for one in (ABSENT, DEFECTIVE) if one in states), MADE)
    reasons = [part.reason for part in parts if part.state != MADE and part.reason]
    fallbacks = [part.fallback for part in parts if part.fallback]
    files = [file for part in parts for file in part.files]
    return Capability(
        map=name,
        condition=condition,
        state=state,
        files=tuple(dict.fromkeys(files)),
        fallback='; '.join(dict.fromkeys(fallbacks)) if state == MADE else '',
        reason='; '.join(dict.fromkeys(reasons)),
    )


@dataclass(frozen=True, slots=True)
class _Maps:
    """The maps of one unit, per condition."""

    inputs: ParticipantInputs
    settings: Settings

    def make(self, name: str, condition: str | None) -> Capability:
        """Tell whether a map can be made in a condition."""
        if name in GAS_MAPS:
            return self._of_gas(name)
        own = getattr(self, f'_{name}', None)
        row: Capability = own(condition) if own else self._derived(name, condition)
        return row

    def _derived(self, quantity: str, condition: str | None) -> Capability:
        """Tell whether a model has the maps and numbers that it makes a quantity of."""
        model = derived_models(self.inputs, self.settings)[quantity]
        parts = [*self._parts(quantity, model, condition), *self._pressures(quantity, model)]
        parts += self._numbers(quantity, model, condition)
        return _combined(PRODUCTS[quantity].label, condition, parts)

    def _parts(self, quantity: str, model: str, condition: str | None) -> list[Capability]:
        """Tell the same of the maps that a model makes a quantity of."""
        return [self.make(name, condition) for name in MODELS[quantity][model].maps]

    def _r2(self, condition: str | None) -> Capability:
        return self._echoes('T2', 'mese', condition)

    def _r2_star(self, condition: str | None) -> Capability:
        return self._echoes('T2star', 'megre', condition)

    def _echoes(self, name: str, family: str, condition: str | None) -> Capability:
        """Make a map from a multi-echo series."""
        series = for_condition(getattr(self.inputs, family), condition)
        if not series:
            return _lacking(self.inputs, name, family, condition, f'no {family.upper()}')
        lacks = [item.uncorrected for item in series if item.uncorrected and family == 'megre']
        return Capability(
            map=name,
            condition=condition,
            state=MADE,
            files=tuple(path for item in series for path in item.files),
            fallback=f'{lacks[0]}: background gradients stay in T2*' if lacks else '',
        )

    def _ase(self, name: str, condition: str | None) -> Capability:
        """Make a map from an asymmetric spin echo."""
        series = for_condition(self.inputs.ase, condition)
        if not series:
            return _lacking(self.inputs, name, 'ase', condition, 'no ASE')
        files = tuple(item.file for item in series)
        return Capability(map=name, condition=condition, state=MADE, files=files)

    def _r2_prime(self, condition: str | None) -> Capability:
        if _families_of('r2_prime', self.inputs, self.settings) == ('ase',):
            return self._ase('R2prime', condition)
        model = self.settings.relaxometry.r2_prime_model
        return _combined('R2prime', condition, self._parts('r2_prime', model, condition))

    def _cbf(self, condition: str | None) -> Capability:
        series = for_condition(self.inputs.asl, condition)
        if not series:
            return _lacking(self.inputs, 'cbf', 'asl', condition, 'no ASL')
        if math.isnan(self.inputs.b0) and self.settings.perfusion.t1_blood is None:
            return self._unknown('cbf', condition, 'b0')
        if any(item.m0.kind == 'Absent' for item in series):
            return Capability(map='cbf', condition=condition, state=ABSENT,
                              reason='no M0: CBF is relative')  # fmt: skip
        with_time = ('Separate', 'Included', 'Control')
        uncorrected = any(
            item.m0.repetition_time is None and item.m0.kind in with_time for item in series
        )
        files = [path for item in series for path in (item.file, item.m0.file) if path]
        return Capability(
            map='cbf',
            condition=condition,
            state=MADE,
            files=tuple(dict.fromkeys(files)),
            fallback='M0 is not corrected for incomplete recovery' if uncorrected else '',
        )

    def _unknown(self, name: str, condition: str | None, role: str) -> Capability:
        """Say that a number that is needed is not known."""
        messages = [item.message for item in self.inputs.problems if item.role == role]
        return Capability(
            map=name, condition=condition, state=DEFECTIVE, reason='; '.join(messages)
        )

    def _cbv(self, condition: str | None) -> Capability:
        model = cbv_model(self.inputs, self.settings)
        if model == 'none':
            return self._no_cbv(condition)
        if model == 'ase':
            return self._ase('cbv', condition)
        if model == 'grubb':
            return _combined('cbv', condition, [self._cbf(condition)])
        anatomy = _anatomy(self.inputs)
        if model == 'literature':
            return _combined('cbv', condition, [anatomy, self._grid()])
        series = for_condition(self.inputs.dsc, condition)
        own = _lacking(self.inputs, 'cbv', 'dsc', condition, 'no DSC')
        if series:
            files = tuple(item.file for item in series)
            own = Capability(map='cbv', condition=condition, state=MADE, files=files)
        if model == 'arterial':
            return self._absolute_cbv(condition, own)
        return _combined('cbv', condition, [own, anatomy])

    def _grid(self) -> Capability:
        """Tell whether there is a scan, whose grid the maps are made on."""
        inputs = self.inputs
        kinds = (inputs.mese, inputs.megre, inputs.ase, inputs.asl, inputs.dsc, inputs.bold)
        if any(kinds):
            return Capability(map='grid', state=MADE)
        return Capability(map='grid', state=ABSENT, reason='no scan to make it for')

    def _absolute_cbv(self, condition: str | None, own: Capability) -> Capability:
        """Blood volume by the arterial input, which needs the haematocrit and no anatomy."""
        parts = [own]
        if math.isnan(self.inputs.hct):
            parts.append(self._unknown('cbv', condition, 'participants'))
        return _combined('cbv', condition, parts)

    def _no_cbv(self, condition: str | None) -> Capability:
        """Say why there is no blood volume."""
        hint = 'choose --cbv-model grubb or literature'
        if self.settings.blood_volume.model == 'none':
            return Capability(map='cbv', condition=condition, state=ABSENT, reason='set to none')
        if self.inputs.dsc:
            reason = f'DSC needs a T1w image for its white-matter reference; {hint}'
            return Capability(map='cbv', condition=condition, state=ABSENT, reason=reason)
        return _lacking(self.inputs, 'cbv', 'dsc', condition, f'no DSC; {hint}')

    def _of_gas(self, name: str) -> Capability:
        """Tell whether what a gas changes was measured, or CBF at rest beside it."""
        gas, _, kind = name.partition('_')
        if gas == 'resting':
            return self._cbf(self.inputs.baseline)
        label, baseline = gas_conditions(self.settings).get(gas), self.inputs.baseline
        if label is None or baseline is None:
            reason = f'no condition is named as {gas} (--{gas})'
            return Capability(map=name, condition=baseline, state=ABSENT, reason=reason)
        contrast = Contrast(task=label, baseline=baseline)
        if contrast not in self.inputs.contrasts:
            reason = f'{gas} needs the contrast {label}-{baseline}'
            return Capability(map=name, condition=baseline, state=ABSENT, reason=reason)
        if kind == 'bold':
            return _bold(self, contrast)
        return _combined(name, label, [self._cbf(label), self._own_flow(contrast)])

    def _own_flow(self, contrast: Contrast) -> Capability:
        """Tell whether the conditions of a contrast have a blood flow each."""
        task, base = (for_condition(self.inputs.asl, one)
                      for one in (contrast.task, contrast.baseline))  # fmt: skip
        is_own = task != base
        reason = '' if is_own else 'one ASL serves both conditions'
        state = MADE if is_own else ABSENT
        return Capability(map='cbf', condition=contrast.label, state=state, reason=reason)

    def _pressures(self, quantity: str, model: str) -> list[Capability]:
        """Say which pressures of gases a model lacks."""
        known = {row.name for row in self.inputs.values}
        wanted = [
            name
            for name in MODELS[quantity][model].parameters
            if name.endswith(('_po2', '_pco2')) and f'oxygen.{name}' not in known
        ]
        gases = {'po2': 'oxygen', 'pco2': 'carbon dioxide'}
        broken = [item.message for item in self.inputs.problems if item.role == 'gases']
        if wanted and broken:
            return [Capability(map=quantity, state=DEFECTIVE, reason='; '.join(broken))]
        return [
            Capability(
                map=quantity,
                state=ABSENT,
                reason=f'the end-tidal pressure of {gases[name.partition("_")[2]]} '
                f'({name.partition("_")[0]}) is not known: a recording *_physio.tsv.gz beside the '
                f'series, a column of participants.tsv, or oxygen.{name}',
            )
            for name in wanted
        ]

    def _oef(self, condition: str | None) -> Capability:
        made = self._extraction(condition)
        if self.settings.oxygen.oef_scale == 'model':
            return made
        return _combined('oef', condition, [made, self.venous_blood()])

    def venous_blood(self) -> Capability:
        """Tell whether OEF can be compared with venous blood."""
        known = {row.name for row in self.inputs.values}
        broken = [item.message for item in self.inputs.problems if item.role == 'venous']
        own = Capability(map='venous_blood', state=MADE)
        if broken:
            own = replace(own, state=DEFECTIVE, reason='; '.join(broken))
        elif 'oxygen.venous_saturation' not in known:
            reason = (
                'the saturation of venous blood is not known: column Yv or T2v of sessions.tsv or '
                'participants.tsv, oxygen.venous_saturation or oxygen.venous_t2'
            )
            own = replace(own, state=ABSENT, reason=reason)
        rest = self.inputs.baseline
        parts = [own, _anatomy(self.inputs), self._cbf(rest), self._extraction(rest)]
        row = _combined('venous_blood', rest, parts)
        return row if row.state == MADE else replace(row, files=())

    def _extraction(self, condition: str | None) -> Capability:
        """OEF as its model has it."""
        model = oef_model(self.inputs, self.settings)
        if is_by_gases(self.inputs, self.settings) and condition != self.inputs.baseline:
            reason = 'gases give OEF at rest only; change.route davis gives the change of CMRO2'
            return Capability(map='oef', condition=condition, state=ABSENT, reason=reason)
        if MODELS['oef'][model].maps:
            return self._derived('oef', condition)
        parts = [self._ase('oef', condition), *self._numbers('oef', model, condition)]
        return _combined('oef', condition, parts)

    def _numbers(self, quantity: str, model: str, condition: str | None) -> list[Capability]:
        """Say which numbers of the participant and the scanner a model lacks."""
        roles = {'hct': 'participants', 'sao2': 'participants', 'b0': 'b0'}
        lacking = dict.fromkeys(
            roles[name]
            for name in MODELS[quantity][model].constants
            if name in roles and math.isnan(getattr(self.inputs, name))
        )
        return [self._unknown(quantity, condition, role) for role in lacking]


def _changes(maps: _Maps, contrast: Contrast) -> list[Capability]:
    """List the changes and labels of one contrast."""
    inputs = maps.inputs
    label = contrast.label
    sides = (contrast.task, contrast.baseline)

    def both(name: str, family: str) -> Capability:
        """Make a change, of which each side needs its own acquisition."""
        called = f'change_{PRODUCTS[name].label}'
        row = _combined(called, label, [maps.make(name, side) for side in sides])
        task, base = (for_condition(getattr(inputs, family), side) for side in sides)
        if row.state == MADE and task == base:
            reason = f'one {family.upper()} serves both conditions'
            return Capability(map=row.map, condition=label, state=ABSENT, reason=reason)
        return row

    rate = _families_of('r2_prime', inputs, maps.settings)[0]
    cbf, r2_prime = both('cbf', 'asl'), both('r2_prime', rate)
    taken = MODELS['oef'][oef_model(inputs, maps.settings)].maps
    behind = [row for name, row in (('r2_prime', r2_prime), ('cbf', cbf)) if name in taken]
    oef = _combined('change_oef', label, [*behind, *(maps.make('oef', side) for side in sides)])
    if is_by_ase(inputs, maps.settings):
        oef = both('oef', 'ase')
    bold = _bold(maps, contrast)
    route = maps.settings.change.route
    metabolic = [cbf, oef, *(maps.make('cmro2', side) for side in sides)]
    if route == 'davis':
        rest = maps.make('cmro2', contrast.baseline)
        metabolic = [cbf, rest, bold, *_largest(maps, bold, contrast)]
    elif route != 'quantitative':
        metabolic = [cbf, maps.make('cmro2', contrast.baseline), _with_echo_time(maps, bold)]
        metabolic += [maps.make(name, contrast.baseline) for name in ('r2', 'r2_star')]
        metabolic += [r2_prime] if route == 'combined' else []
    cmro2 = _combined('change_cmro2', label, metabolic)
    # one CBV for both conditions is the usual design, not a loss: then there is no row
    family = SCAN_OF_CBV.get(cbv_model(inputs, maps.settings))
    cbv = [both('cbv', family)] if family else []
    cbv = [row for row in cbv if row.state == MADE]
    labels = _combined('concordance', label, [bold, cmro2, _anatomy(inputs)])
    # CMRO2 is taken as unchanged by a gas: what does not change is no loss, and has no row
    is_gas = route != 'quantitative' and contrast.task in gas_conditions(maps.settings).values()
    metabolic, labelled = ([], []) if is_gas else ([cmro2], [labels])
    return [cbf, r2_prime, *cbv, oef, *metabolic, bold, *_of_echoes(inputs, bold), *labelled]


def _largest(maps: _Maps, bold: Capability, contrast: Contrast) -> list[Capability]:
    """Tell whether the maximum of BOLD is known where the Davis model is to be used."""
    change = maps.settings.change
    if (change.davis_maximum, change.davis_maximum_map) != (None, None):
        return []
    if bold_maximum_model(maps.inputs, maps.settings) == 'r2-prime':
        return [_with_echo_time(maps, bold), maps.make('r2_prime', contrast.baseline)]
    return [maps.make('bold_maximum', contrast.baseline)]


def _of_echoes(inputs: ParticipantInputs, bold: Capability) -> list[Capability]:
    """List what the echoes of BOLD tell beside its percent change."""
    has_echoes = any(run.echoes and run.file in bold.files for run in inputs.bold)
    made = bold.state == MADE and has_echoes
    return [replace(bold, map=name) for name in ('boldR2star', 'boldS0Pct') if made]


def _with_echo_time(maps: _Maps, bold: Capability) -> Capability:
    """Turn a BOLD change into a change of R2', which needs one known echo time."""
    times = {run.echo_time for run in maps.inputs.bold if run.file in bold.files}
    if bold.state != MADE or (len(times) == 1 and None not in times):
        return bold
    reason = 'EchoTime of the BOLD runs is unknown or differs, and CMRO2 is to come from BOLD'
    return Capability(map=bold.map, condition=bold.condition, state=ABSENT, reason=reason)


def _bold(maps: _Maps, contrast: Contrast) -> Capability:
    """Percent BOLD change of one contrast."""
    inputs = maps.inputs
    if maps.settings.condition_entity == 'ses':
        reason = 'BOLD is not compared between sessions'
        return Capability(map='boldPct', condition=contrast.label, state=ABSENT, reason=reason)
    runs = runs_for_contrast(
        inputs.bold,
        contrast,
        baseline=inputs.baseline,
        min_gap=maps.settings.bold.window_start,
    )
    if runs:
        files = tuple(path for run in runs for path in (*run.files, run.events_file))
        return Capability(map='boldPct', condition=contrast.label, state=MADE, files=files)
    absence = f'no BOLD run with blocks of {contrast.task}'
    row = _lacking(inputs, 'boldPct', 'bold', contrast.task, absence)
    return Capability(
        map='boldPct',
        condition=contrast.label,
        state=row.state,
        files=row.files,
        reason=row.reason,
    )
