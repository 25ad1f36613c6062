"""Checked reading of metadata: ranges, overrides, what is found wrong; one Probe per file."""

from __future__ import annotations

import difflib
import math
import os
import sys
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.conditions import normalise
from bids_app.bids.input.files import Header, companions_of, read_header, read_json
from bids_app.bids.input.query import ENTITIES, Found, as_list, load_roles
from bids_app.bids.scans import DataValue, Missing, Problem
from bids_app.errors import AppError, ExitCode, SettingsError
from bids_app.settings import limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app._typing import FloatArray
    from bids_app.settings import Settings

RANGES = {
    'EchoTime': (5e-4, 0.5),
    'RepetitionTime': (2e-3, 60.0),
    'RepetitionTimePreparation': (0.0, 60.0),
    'PostLabelingDelay': (0.0, 10.0),
    'LabelingDuration': (1e-2, 10.0),
    'SliceTiming': (0.0, 30.0),
    'StartTime': (0.0, 30.0),
    'SliceThickness': (0.05, 50.0),
    'ReconMatrixPE': (1.0, 4096.0),
    'EffectiveEchoSpacing': (1e-6, 2e-2),
    'TotalReadoutTime': (1e-4, 2.0),
    'EchoTime1': (5e-4, 0.5),
    'EchoTime2': (5e-4, 0.5),
    'MagneticFieldStrength': limits_of('oxygen.b0'),
    'LabelingEfficiency': limits_of('perfusion.labeling_efficiency'),
    'BackgroundSuppressionNumberPulses': (0.0, 20.0),
    'BolusCutOffDelayTime': (1e-2, 10.0),
    'SpinEchoDisplacement': (-0.2, 0.2),
    'M0Estimate': (1e-9, 1e15),
    'Hct': limits_of('oxygen.hct'),
    'SaO2': limits_of('oxygen.sao2'),
}
"""Plausible range of each number that is read, ends included; times in s, field in T, thickness in
mm, the others in 1. Those that are settings too have the limits of the setting."""

TIMES = (
    'EchoTime',
    'EchoTime1',
    'EchoTime2',
    'EffectiveEchoSpacing',
    'TotalReadoutTime',
    'RepetitionTime',
    'RepetitionTimePreparation',
    'PostLabelingDelay',
    'LabelingDuration',
    'SliceTiming',
    'StartTime',
    'BolusCutOffDelayTime',
    'SpinEchoDisplacement',
)

NOMINAL_FIELDS = (0.55, 1.0, 1.5, 3.0, 4.0, 4.7, 7.0, 9.4, 10.5, 11.7)
"""Main fields that magnets are sold with, T."""

NOMINAL_TOLERANCE = 0.05
"""Of a field from its nominal value, relative."""

SHOWN = 80
"""Characters of a wrong value that a message shows."""

FARTHEST = 1e5
"""Of a voxel from the origin of its axes, mm; beyond it an affine is damaged."""

WRITTEN_AS = {
    'PostLabelingDelay': (
        'PostLabelDelay',
        'InitialPostLabelDelay',
        'PostInversionDelay',
        'InversionTime',
    ),
    'LabelingDuration': ('TagDuration',),
    'BolusCutOffDelayTime': ('BolusDuration',),
    'PhaseEncodingDirection': ('PhaseEncodingAxis',),
    'TotalReadoutTime': ('EstimatedTotalReadoutTime',),
}
"""Key of BIDS -> names under which dcm2niix writes what may be the same (BIDS/README.md there);
shown and never taken, for whether they mean the same depends on the sequence."""

OTHER_KEYS = (
    'AcquisitionMatrixPE',
    'ArterialSpinLabelingType',
    'B0FieldIdentifier',
    'B0FieldSource',
    'BackgroundSuppression',
    'BolusCutOffFlag',
    'BolusCutOffTechnique',
    'IntendedFor',
    'LookLocker',
    'M0Type',
    'PhaseEncodingDirection',
    'MRAcquisitionType',
    'SliceEncodingDirection',
    'SliceTimingCorrected',
    'TotalAcquiredPairs',
    'Units',
)
"""Keys read that are not numbers with a range of their own."""


@dataclass(slots=True)
class Findings:
    """What collecting one unit brings to light; the lists grow while it is read."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Notes that the verdict repeats."""
    values: list[DataValue] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    fields_of_b0: dict[float, str] = field(default_factory=dict)
    """Field strength, T -> first file that says so."""

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Add a note that the verdict repeats."""
        self.note(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def problem(self, problem: Problem) -> None:
        """Add a problem once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def value(self, value: DataValue) -> None:
        """Add a row of the constants table; equal numbers of several scans are one row."""
        known = {(row.name, row.value, row.overruled) for row in self.values}
        if (value.name, value.value, value.overruled) not in known:
            self.values.append(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One entry of the overrides file."""

    match: Mapping[str, Any]
    set: Mapping[str, Any]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What every reading needs; passed down."""

    root: Path
    settings: Settings
    overrides: tuple[Override, ...] = ()
    defaults: tuple[Override, ...] = ()
    """Of a role map: used where sidecars say nothing."""
    findings: Findings = field(default_factory=Findings)


def load_overrides(path: Path | None) -> tuple[Override, ...]:
    """
    Read the file of ``--metadata-overrides``.

    TOML: ``[[override]]`` with ``match = {role=, sub=, condition=, ...}``, ``set = {...}`` and
    ``source = "..."``; later entries win.

    Raises
    ------
    SettingsError
        If the file cannot be read, or names an unknown role, entity or metadata key.
    """
    if path is None:
        return ()
    try:
        content = tomllib.loads(Path(path).read_text('utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        msg = f'--metadata-overrides: {path} cannot be read as TOML ({error})'
        raise SettingsError(msg) from error
    entries = content.get('override', [])
    if set(content) - {'override'} or not isinstance(entries, list):
        msg = f'--metadata-overrides: {path} should hold [[override]] entries only'
        raise SettingsError(msg)
    return tuple(
        check_override(entry, f'{path}, override {n}') for n, entry in enumerate(entries, 1)
    )


def check_override(entry: dict[str, Any], place: str) -> Override:
    """
    Check one entry of an overrides file, or one default of a role map.

    Its roles, entities and metadata keys must be known; `place` is for messages.

    Raises
    ------
    SettingsError
        If something is missing or not known, or a blank is not filled in.
    """
    lacking = [key for key in ('match', 'set', 'source') if not entry.get(key)]
    if lacking or not all(isinstance(entry[key], dict) for key in ('match', 'set')):
        msg = f'{place}: expected match = {{...}}, set = {{...}}, source = "..." (why)'
        raise SettingsError(msg)
    families = {role.family for role in load_roles().values()}
    roles = [*load_roles(), *families, 'participants']
    check_known(entry['match'], ['role', 'condition', *ENTITIES], f'{place}, match')
    for role in as_list(entry['match'].get('role', [])):
        check_known([role], roles, f'{place}, match.role')
    check_known(entry['set'], [*RANGES, *OTHER_KEYS], f'{place}, set')
    blanks = [key for key, value in entry['set'].items() if value == '?']
    if blanks:
        msg = (
            f'{place}: "?" still stands for {", ".join(blanks)}; put the true value there, or '
            'take it out (--dry-run says what cannot be made without it)'
        )
        raise SettingsError(msg)
    return Override(match=entry['match'], set=entry['set'], source=str(entry['source']))


def check_known(names: Sequence[str] | Mapping[str, Any], known: list[str], place: str) -> None:
    """
    Refuse a name that is not known, and suggest the nearest.

    Raises
    ------
    SettingsError
        For the first that is not known.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(sorted(known))}'
            msg = f'{place}: unknown name {name!r}; {hint}'
            raise SettingsError(msg)


def matches(
    override: Override, *, role: str, entities: Mapping[str, str], condition: str | None
) -> bool:
    """Tell whether an override is for a file."""
    family = load_roles()[role].family if role in load_roles() else role
    for key, wanted in override.match.items():
        values = [str(value) for value in as_list(wanted)]
        if key == 'role':
            fits = role in values or family in values
        elif key == 'condition':
            fits = condition in [normalise(value) for value in values]
        else:
            value = entities.get(ENTITIES[key], '')
            values = [one.removeprefix(f'{key}-') for one in values]
            fits = value in values or (value.isdigit() and str(int(value)) in values)
        if not fits:
            return False
    return True


@dataclass(slots=True, kw_only=True)
class Probe:
    """
    Reads one file and its metadata: checks every value, notes everything wrong, never raises.

    `ok` turns False with the first problem; the caller goes on reading, so that all problems
    are found at once, and makes no acquisition in the end.
    """

    reader: Reader
    role: str
    found: Found
    condition: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    overruled: dict[str, str] = field(default_factory=dict)
    ok: bool = True
    has_sidecars: bool = True
    """False where one cannot be read: what it might have said is not called missing."""

    @classmethod
    def of(cls, reader: Reader, role: str, found: Found, condition: str | None) -> Probe:
        """Open a file's metadata: sidecars by inheritance, then overrides."""
        probe = cls(reader=reader, role=role, found=found, condition=condition)
        probe.reader.findings.files.add(found.path)
        suffix = str(found.get('suffix'))
        for path in companions_of(found, reader.root, suffix, '.json'):
            probe.reader.findings.files.add(path)
            content = probe.attempt(path, read_json) or {}
            probe.has_sidecars = probe.ok
            probe.metadata |= content
            probe.origins |= dict.fromkeys(content, f'sidecar {path.name}')
        for given, use in ((reader.defaults, probe._fill), (reader.overrides, probe._override)):
            for entry in given:
                if matches(entry, role=role, entities=found.entities, condition=condition):
                    use(entry)
        return probe

    @property
    def file(self) -> Path:
        """The data file."""
        return self.found.path

    def _fill(self, default: Override) -> None:
        """Take what the sidecars do not say from the role map; a sidecar wins."""
        for key, value in default.set.items():
            if key not in self.metadata:
                self.metadata[key] = value
                self.origins[key] = f'input map: {default.source}'
            elif self.metadata[key] != value:
                self.reader.findings.note(
                    f'{self.role}: {key} = {self.metadata[key]} of the sidecar is used; the input '
                    f'map says {value} ({default.source})'
                )

    def _override(self, override: Override) -> None:
        """Replace values, remembering the losers."""
        for key, value in override.set.items():
            if key in self.metadata and self.metadata[key] != value:
                self.overruled[key] = f'{self.metadata[key]} ({self.origins[key]})'
                self.reader.findings.note(
                    f'{self.role}: {key} = {value} of the overrides file is used '
                    f'({override.source}), not {self.overruled[key]}'
                )
            self.metadata[key] = value
            self.origins[key] = f'overrides file: {override.source}'

    def fail(
        self, message: str, file: Path | None = None, code: ExitCode = ExitCode.BAD_INPUT
    ) -> None:
        """Note a problem."""
        self.ok = False
        problem = Problem(
            role=self.role,
            message=message,
            file=file or self.file,
            code=code,
            condition=self.condition,
        )
        self.reader.findings.problem(problem)

    def attempt(self, path: Path, read: Any, *arguments: Any) -> Any:
        """Call a reading function; its error becomes a problem and None is returned."""
        try:
            return read(path, *arguments)
        except AppError as error:
            self.fail(str(error), path, error.exit_code)
            return None

    def header(self, n_dims: tuple[int, ...]) -> Header | None:
        """Read the header and check the number of axes."""
        header: Header | None = self.attempt(self.file, read_header)
        if header is None:
            return None
        while len(header.shape) > max(n_dims) and header.shape[-1] == 1:
            header = replace(header, shape=header.shape[:-1])
        if len(header.shape) not in n_dims or 0 in header.shape:
            wanted = ' or '.join(f'{n}D' for n in n_dims)
            self.fail(f'{self.file.name} should be a {wanted} image, its shape is {header.shape}')
            return None
        if not _is_affine(header.affine):
            self.fail(f'{self.file.name} has no usable orientation: its affine is damaged')
            return None
        if header.remark:
            self.reader.findings.note(f'{self.file.name}: {header.remark}')
        return header

    def require(self, key: str, purpose: str) -> Any:
        """Give a value that must be there."""
        if self.metadata.get(key) is None and self.has_sidecars:
            hint = self.lack(key)
            self.fail(
                f'{self.file.name}: {key} is missing from its sidecar{hint}; {purpose}; '
                'add it there or with --metadata-overrides'
            )
        return self.metadata.get(key)

    def lack(self, key: str) -> str:
        """Remember that a key is missing; say under which name a converter wrote it."""
        name = next((one for one in WRITTEN_AS.get(key, ()) if one in self.metadata), '')
        value = self.metadata.get(name)
        if not isinstance(value, str | float | int) or isinstance(value, bool):
            name, value = '', None
        lacking = Missing(role=self.role, key=key, value=value, written_as=name)
        if lacking not in self.reader.findings.missing:
            self.reader.findings.missing.append(lacking)
        return f', which has {name} = {shortened(value)}' if name else ''

    def flag(self, key: str) -> bool | None:
        """Give a value that is true or false; None when it is missing or neither."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(f'{self.file.name}: {key} should be true or false, found {shortened(value)}')
            return None
        return value

    def number(self, key: str, purpose: str = '', *, required: bool = False) -> float | None:
        """Give one number in its range; None when it is missing or wrong."""
        if required:
            self.require(key, purpose)
        if self.metadata.get(key) is None:
            return None
        value = self.metadata[key]
        if not is_number(value):
            self.fail(f'{self.file.name}: {key} should be a number, found {shortened(value)}')
            return None
        return float(value) if self._in_range(key, float(value)) else None

    def numbers(
        self, key: str, *, of: int = 0, judged: Sequence[int] = ()
    ) -> tuple[float, ...] | None:
        """
        Give a list of numbers in their range; None when it is missing or wrong.

        A list that is as long as there are volumes (`of`) has one value for each, and those of
        `judged` must be in range: BIDS wants 0 in the place of the others.
        """
        value = self.metadata.get(key)
        if value is None:
            return None
        listed = as_list(value)
        if not listed or not all(is_number(item) for item in listed):
            found = shortened(value)
            self.fail(f'{self.file.name}: {key} should be a list of numbers, found {found}')
            return None
        numbers = tuple(float(item) for item in listed)
        checked = [numbers[index] for index in judged] if len(numbers) == of else numbers
        ends = (max(checked, key=abs), min(checked)) if checked else ()
        return numbers if all(self._in_range(key, end) for end in ends) else None

    def _in_range(self, key: str, value: float) -> bool:
        """Check a value; a time that can only be milliseconds is called by its name."""
        low, high = RANGES[key]
        if low <= value <= high:
            return True
        guess = ''
        if key in TIMES and value > high and low <= value * units.MILLISECOND <= high:
            fixed = f'{value * units.MILLISECOND:g}'
            guess = f'; it looks like milliseconds: divide by 1000 (write {fixed})'
        unit = ' s' if key in TIMES else ''
        self.fail(
            f'{self.file.name}: {key} = {value:g}{unit} is outside {low:g} to {high:g}{unit}'
            f'{guess} ({self.origins.get(key, "unknown origin")})'
        )
        return False

    def repetition_time(self, *, required: bool = False) -> float | None:
        """Give RepetitionTime, s."""
        return self.number('RepetitionTime', 'it is the time between volumes', required=required)

    def field_strength(self) -> None:
        """Remember the field strength."""
        b0 = self.number('MagneticFieldStrength')
        if b0 is not None:
            origin = self.origins['MagneticFieldStrength']
            self.reader.findings.fields_of_b0.setdefault(b0, origin)

    def value(self, name: str, key: str, unit: str, *, setting: Any, default: Any) -> Any:
        """Choose between setting, sidecar and default; the choice enters the constants table."""
        sidecar = self.number(key) if key in RANGES else None
        candidates = [
            (setting, 'setting'),
            (sidecar, self.origins.get(key, '')),
            (default, 'default'),
        ]
        chosen = choose(name, unit, candidates, self.overruled.get(key, ''))
        if chosen is not None:
            self.reader.findings.value(chosen)
        return chosen.value if chosen else None


def note_absent_targets(reader: Reader, source: Path, targets: Sequence[Any]) -> None:
    """Say which scans an IntendedFor names that are not in the dataset: it is a typing error."""
    name = next((part for part in source.parts if part.startswith('sub-')), '')
    absent = [
        str(one)
        for one in targets
        for path in [str(one).removeprefix('bids::').lstrip('/')]
        if not any(os.path.lexists(root / path) for root in (reader.root, reader.root / name))
    ]
    if absent:
        more = f' and {len(absent) - 3} more' if len(absent) > 3 else ''
        reader.findings.note(
            f'{source.name}: IntendedFor names {", ".join(absent[:3])}{more}, which the dataset '
            'does not have'
        )


def note_links(findings: Findings, root: Path) -> None:
    """Say which files are links out of the dataset; links of git-annex stay inside."""
    here = os.path.realpath(root)
    # realpath, because Path.resolve raises an error where a link leads to itself
    out = [
        (path, target)
        for path in sorted(findings.files)
        if path.is_relative_to(root)
        and not (target := Path(os.path.realpath(path))).is_relative_to(here)
    ]
    if out:
        path, target = out[0]
        more = f', and so do {len(out) - 1} more files' if out[1:] else ''
        findings.note(f'{path.name} is a link that leads out of the dataset: {target}{more}')


def choose(
    name: str, unit: str, candidates: Sequence[tuple[float | None, str]], overruled: str = ''
) -> DataValue | None:
    """
    Choose the first value that is there.

    Candidates are (value or None, origin), the strongest first; the last may be the origin
    ``default``, which never counts as loser. Losers that differ stand beside the value.
    """
    present = [(value, origin) for value, origin in candidates if value is not None]
    if not present:
        return None
    value, origin = present[0]
    losers = [f'{one:g} ({by})' for one, by in present[1:] if one != value and by != 'default']
    losers += [overruled] if overruled else []
    return DataValue(name=name, value=value, unit=unit, origin=origin, overruled='; '.join(losers))


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a finite number that a float can hold."""
    is_a_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_a_number and abs(value) <= sys.float_info.max  # an int of 400 digits is none


def shortened(value: Any) -> str:
    """Show a value that should not be where it is, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}... ({len(text)} characters)'


def _is_affine(affine: FloatArray) -> bool:
    """Tell whether an affine is invertible and of the size of things in a scanner."""
    import numpy as np

    if not (np.abs(affine[:3]) < FARTHEST).all():  # not a number, or infinite, either
        return False
    return bool(abs(np.linalg.det(affine[:3, :3])) > 1e-9)


def read_field_strength(reader: Reader) -> float:
    """
    Choose the main field from the setting and from what the sidecars said.

    T; NaN where it is unknown or the sidecars contradict each other (a problem then).
    """
    stated = _of_one_magnet(reader)
    setting = reader.settings.oxygen.b0
    if setting is None and len(stated) != 1:
        if stated:
            shown = ', '.join(f'{value:g} T ({origin})' for value, origin in stated.items())
            message = f'MagneticFieldStrength differs between scans: {shown}; set oxygen.b0'
        else:
            message = (
                'MagneticFieldStrength is in no sidecar; add it there, with '
                '--metadata-overrides, or set oxygen.b0'
            )
        reader.findings.problem(Problem(role='b0', message=message))
        return math.nan
    candidates = [(setting, 'setting'), *((value, origin) for value, origin in stated.items())]
    chosen = choose('oxygen.b0', 'T', candidates)
    if chosen is None:
        return math.nan
    reader.findings.value(chosen)
    return chosen.value


def _of_one_magnet(reader: Reader) -> dict[float, str]:
    """Take fields that round to the same nominal one for that: Siemens writes 3 and 2.89362."""
    stated = reader.findings.fields_of_b0
    if len(stated) < 2:
        return stated
    for nominal in NOMINAL_FIELDS:
        if all(abs(value - nominal) <= NOMINAL_TOLERANCE * nominal for value in stated):
            shown = ' and '.join(f'{value:g} T ({origin})' for value, origin in stated.items())
            reader.findings.note(f'MagneticFieldStrength is {shown}; {nominal:g} T is used')
            return {nominal: ', '.join(stated.values())}
    return stated
