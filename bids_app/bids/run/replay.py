"""An earlier run as the start of a replay: its maps, its constants, and which may change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.query import TEMPLATE
from bids_app.bids.output.dataset import read_summaries
from bids_app.bids.output.names import match, output_path, table
from bids_app.bids.scans import Contrast, DataValue, ParticipantInputs, SavedMaps
from bids_app.errors import InputDataError, SelectionError, SettingsError
from bids_app.models.registry import DERIVED, MODELS
from bids_app.settings import Scale, Settings, apply, declarations, field_of, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app.settings import RunSettings


def saved_participants(run: RunSettings) -> tuple[str, ...]:
    """
    Choose the participants of a replay.

    `bids_dir` is the output of an earlier run.

    Raises
    ------
    SelectionError
        If the folder holds no run, or not that of a participant that is named.
    """
    known = [str(item['participant']) for item in read_summaries(run.bids_dir)]
    unknown = [label for label in run.participants if label not in known]
    if unknown or not known:
        msg = (
            f'--replay needs the output of an earlier run: {run.bids_dir} has none of '
            f'{", ".join(unknown) or "any participant"}; there are: {", ".join(known) or "none"}'
        )
        raise SelectionError(msg)
    return tuple(label for label in known if not run.participants or label in run.participants)


def collect_saved(
    participant: str, run: RunSettings, changes: Mapping[str, Any]
) -> tuple[tuple[ParticipantInputs, ...], Settings]:
    """
    Read what an earlier run left of a participant, and change constants.

    `bids_dir` is the output of the earlier run. Give one unit per session, with `saved` in place
    of scans, and the settings of the earlier run with the changes (dotted names, values).

    Raises
    ------
    SettingsError
        If a change would need a new fit.
    InputDataError
        If records of the earlier run are missing or damaged.
    """
    root = Path(run.bids_dir)
    try:
        summary = json.loads((root / output_path('run_summary', sub=participant)).read_text())
        units = summary['units']
    except (OSError, ValueError, LookupError) as error:
        msg = f'the summary of sub-{participant} in {root}/logs cannot be read: {error}'
        raise InputDataError(msg) from error
    path = root / output_path('settings', sub=participant)
    before = apply(Settings(), read_toml(path), str(path))
    after = apply(before, dict(changes), '--replay')
    _check_changes(before, changes)
    for name, values in run.multiverse or ():
        for value in values:
            apply(before, {name: value}, '--multiverse')
            _check_changes(before, {name: value})
    read = [_Unit(root, participant, about, before, after) for about in units]
    wanted = [unit for unit in read if not run.sessions or unit.session in run.sessions]
    if not any(unit.maps for unit in wanted):
        msg = f'{root} holds no maps of sub-{participant} to replay'
        raise InputDataError(msg)
    after = _with_models(after, wanted)
    return tuple(unit.inputs(changes, run.multiverse) for unit in wanted), after


def _with_models(settings: Settings, units: Sequence[_Unit]) -> Settings:
    """Name the models that the earlier run chose from the data."""
    volumes = {unit.cbv_model for unit in units}
    extractions = {unit.oef_model for unit in units} - {None}
    if settings.blood_volume.model is None and len(volumes) == 1:
        volume = replace(settings.blood_volume, model=volumes.pop())
        settings = replace(settings, blood_volume=volume)
    if settings.oxygen.oef_model is None and len(extractions) == 1:
        oxygen = replace(settings.oxygen, oef_model=extractions.pop())
        settings = replace(settings, oxygen=oxygen)
    return settings


def _check_changes(before: Settings, changes: Mapping[str, Any]) -> None:
    """Refuse what the saved maps cannot follow."""
    for name in changes:
        if not field_of(name)[0].metadata['replay']:
            can = ', '.join(
                other for other, (one, _) in declarations().items() if one.metadata['replay']
            )
            msg = f'--replay {name}: needs a new fit from the raw data; these do not: {can}'
            raise SettingsError(msg)
    flow = before.perfusion
    if 'oxygen.hct' in changes and flow.t1_blood is None and flow.t1_blood_from == 'haematocrit':
        msg = 'T1 of blood came from the haematocrit: another oxygen.hct needs a new run'
        raise SettingsError(msg)
    blood = {'oxygen.hct', 'oxygen.small_vessel_hct_ratio'} & set(changes)
    if blood and before.blood_volume.model == 'arterial':
        msg = (
            f'the blood volume came from the arterial input: another {min(blood)} needs a new run'
        )
        raise SettingsError(msg)
    if before.change.fwhm and changes.get('change.fwhm', before.change.fwhm) != before.change.fwhm:
        msg = (
            f'the BOLD changes were saved smoothed by {before.change.fwhm:g} mm; replay another '
            'change.fwhm from a run without smoothing'
        )
        raise SettingsError(msg)


class _Unit:
    """One unit of work of the earlier run."""

    def __init__(
        self,
        root: Path,
        participant: str,
        about: Mapping[str, Any],
        before: Settings,
        after: Settings,
    ) -> None:
        self.root = root
        self.participant = participant
        self.about = about
        self.before = before
        self.after = after
        self.session: str | None = about['session']
        self.space: str = about['space']
        self.maps = self._saved_maps()
        variants = {entities['variant'] for key, entities in self.maps.values() if key == 'cbv'}
        self.cbv_model: str = min(variants, default='none')
        self.oef_model = self._name_of_oef_model()

    def _saved_maps(self) -> dict[Path, tuple[str, dict[str, str]]]:
        """Files of the unit that can be read back."""
        folder = self.root / f'sub-{self.participant}'
        folder = folder / f'ses-{self.session}' if self.session else folder
        found = {}
        for path in sorted(folder.rglob('*')):
            named = match(path.relative_to(self.root).as_posix())
            is_map = path.is_file() and path.name.endswith(('.nii.gz', '.h5', '.txt'))
            if is_map and named is not None and named[0] != 'figure':
                found[path] = named
        return found

    def _name_of_oef_model(self) -> str | None:
        """Model behind the saved OEF; None without one."""
        for path, (key, entities) in self.maps.items():
            if key == 'oef' and entities['space'] == self.space:
                return str(read_sidecar(path)['Model']['Name'])
        return None

    def inputs(
        self, changes: Mapping[str, Any], multiverse: tuple[tuple[str, Any], ...] | None
    ) -> ParticipantInputs:
        """Make the start of the replay."""
        values = {item['name']: DataValue(**item) for item in self.about['values']}
        for name, value in changes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values[name] = self._changed(name, float(value), values.get(name))

        def number(name: str) -> float:
            return values[name].value if name in values else math.nan

        contrasts = [Contrast(task=c['task'], baseline=c['baseline'])
                     for c in self.about['contrasts']]  # fmt: skip
        bold = [
            (path, entities)
            for path, (key, entities) in self.maps.items()
            if key == 'contrast'
            and (entities['quantity'], entities['statistic']) == ('boldPct', 'effect')
            and entities['space'] == self.space
        ]
        self._check_halves(contrasts)
        return ParticipantInputs(
            participant=self.participant,
            session=self.session,
            conditions=tuple(self.about['conditions']),
            baseline=self.about['baseline'],
            contrasts=tuple(contrasts),
            b0=number('oxygen.b0'),
            hct=number('oxygen.hct'),
            sao2=number('oxygen.sao2'),
            values=tuple(values.values()),
            notes=(*self.about['notes'], self._note(changes)),
            files=tuple(self.maps),
            saved=SavedMaps(
                root=self.root,
                kind=next(kind for kind, word in _words().items() if word == self.space),
                transform=self._transform(),
                to_template=next(
                    (
                        path
                        for path, (key, entities) in self.maps.items()
                        if key == 'xfm_t1w_template' and entities['template'] == TEMPLATE
                    ),
                    None,
                ),
                cbv_model=self.cbv_model,
                bold_tasks=tuple((entities['contrast'], entities['task']) for _, entities in bold),
                echo_times=tuple(
                    (entities['contrast'], read_sidecar(path).get('EchoTime', 0.0))
                    for path, entities in bold
                ),
                scales=tuple(self._scales(changes).items()),
                smooth_bold=bool(self.after.change.fwhm) and not self.before.change.fwhm,
                rows=tuple(self.about['maps']),
                multiverse=multiverse,
            ),
        )

    def _changed(self, name: str, value: float, old: DataValue | None) -> DataValue:
        """Row of the constants table of a changed constant."""
        declaration, _ = field_of(name)
        overruled = f'{old.value:g} ({old.origin})' if old else ''
        unit = declaration.metadata['unit']
        return DataValue(name=name, value=value, unit=unit, origin='--replay', overruled=overruled)

    def _note(self, changes: Mapping[str, Any]) -> str:
        """Say what was replayed."""
        changed = ', '.join(f'{name} = {value}' for name, value in changes.items())
        return (
            f'replay of saved maps with {changed or "unchanged constants"}; nothing was refitted'
        )

    def _check_halves(self, contrasts: Sequence[Contrast]) -> None:
        """Refuse a route through BOLD where the halves of the blocks were not estimated."""
        change = self.after.change
        if change.route == 'quantitative' or change.bold_blocks == 'all' or not contrasts:
            return
        quantities = {entities.get('quantity') for _, entities in self.maps.values()}
        if 'boldGatePct' not in quantities:
            msg = (
                f'change.route = {change.route} needs BOLD of alternate blocks, which '
                'the earlier run did not estimate; run it with a route through BOLD, then replay '
                'any route, or take the same blocks for both with change.bold_blocks=all'
            )
            raise SettingsError(msg)

    def _transform(self) -> Path | None:
        """Transform from the quantification grid to the T1w image."""
        order = {label: rank for rank, label in enumerate(self.about['conditions'])}
        word = 'boldref' if self.space == 'BOLD' else self.space
        found = [
            (order.get(entities.get('task', ''), -1), entities.get('run', ''), path)
            for path, (key, entities) in self.maps.items()
            if key == 'xfm_scan' and entities['scan'] == word
        ]
        return min(found)[-1] if found else None

    def _scales(self, changes: Mapping[str, Any]) -> dict[str, float]:
        """Factors by which changed constants scale saved maps."""
        factors = self._scale_of_oef(changes)
        known = {item['name']: item['value'] for item in self.about['values']}
        for name in changes:
            scale = field_of(name)[0].metadata['replay']
            if not isinstance(scale, Scale) or self._is_recomputed(name):
                continue
            quantity, model, power = scale
            old = known.get(name)
            if old is None or not self._made_by(quantity, model):
                msg = (
                    f'--replay {name}: {quantity} of sub-{self.participant} cannot follow it '
                    f'without a new fit (it does where one {model} model made all its maps with '
                    'one value)'
                )
                raise SettingsError(msg)
            factors[quantity] = factors.get(quantity, 1.0) * (changes[name] / old) ** power
        return factors

    def _scale_of_oef(self, changes: Mapping[str, Any]) -> dict[str, float]:
        """
        Factor of an OEF that was fitted to the signal.

        Inverse to the rate of dephasing, and to the scale of venous blood that is in the map.
        """
        known = {item['name']: item['value'] for item in self.about['values']}
        derived = DERIVED['static_dephasing_constant']
        names = [f'oxygen.{name}' for name in derived.constants]
        is_fitted = self.oef_model is not None and 'signal' in MODELS['oef'][self.oef_model].data
        if not is_fitted:
            return {}
        scale = self._scale_by_venous_blood()
        if not set(names) & set(changes):
            return {'oef': 1 / scale} if scale != 1 else {}
        old, new = (
            derived.of({name.removeprefix('oxygen.'): table[name] for name in names})
            for table in (known, known | dict(changes))
        )
        return {'oef': old / new / scale}

    def _scale_by_venous_blood(self) -> float:
        """By which the saved OEF was multiplied; one number for all conditions."""
        for path, (key, entities) in self.maps.items():
            if key == 'oef' and entities['space'] == self.space:
                facts = read_sidecar(path).get('VenousBlood', {})
                return float(facts['Scale']) if facts.get('IsApplied') else 1.0
        return 1.0

    def _is_recomputed(self, name: str) -> bool:
        """Tell whether a constant belongs to a blood volume that is not read back."""
        is_volume = name.startswith('blood_volume.')
        return is_volume and (self.after.blood_volume.model or self.cbv_model) != 'dsc'

    def _made_by(self, quantity: str, model: str) -> bool:
        """Tell whether a model made all saved maps of a quantity."""
        names = {
            read_sidecar(path).get('Model', {}).get('Name', model)
            for path, (key, entities) in self.maps.items()
            if key == quantity and entities['space'] == self.space
        }
        return names == {model}


def read_sidecar(path: Path) -> dict[str, Any]:
    """
    Read the JSON beside a saved image.

    Raises
    ------
    InputDataError
        If it is missing or damaged.
    """
    name = path.with_name(path.name.removesuffix('.gz')).with_suffix('.json')
    try:
        content: dict[str, Any] = json.loads(name.read_text('utf-8'))
    except (OSError, ValueError) as error:
        msg = f'{name} cannot be read as JSON: {error}'
        raise InputDataError(msg) from error
    return content


def _words() -> dict[str, str]:
    """Kind of scan and its word in names."""
    return {word.lower(): word for word in table().scans}
