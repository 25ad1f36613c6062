"""
What a participant's result depends on, and whether it still stands: the record behind resuming.

The digest covers the bytes of the inputs, the settings that change numbers, the values taken from
the data, the sources of the models and engines, and the versions of the numeric libraries. Where
the files lie, and how many processes worked, is not part of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bids_app
from bids_app.bids.input.files import map_of_user
from bids_app.bids.input.surfaces import standard_meshes, surface_atlases
from bids_app.bids.input.templates import other_templates
from bids_app.bids.output.names import output_path
from bids_app.bids.output.versions import library_versions
from bids_app.bids.output.write import atomic_write, remove_unfinished, to_json
from bids_app.bids.run.outcome import State
from bids_app.settings import flatten, parcel_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app.bids.run.outcome import Verdict
    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import Settings

CODE = (
    'models',
    'engines',
    'interfaces',
    'workflows',
    'data/templates',
    'data/outputs.yml',
    'images.py',
    'units.py',
)
"""Parts of the package whose change changes numbers."""

RESUMABLE = (State.COMPLETE, State.DEGRADED)
"""Verdicts after which there is nothing left to do."""

CHUNK = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """
    What the result of a participant depends on.

    Kept in parts so that a change can be named; :attr:`value` is one number for all of them.
    """

    inputs: Mapping[str, str]
    """Input file, relative to its dataset -> SHA-256 of its bytes."""
    settings: Mapping[str, Any]
    """Dotted name -> value."""
    values: Mapping[str, Any]
    """Unit of work -> conditions, contrasts and the numbers taken from the data."""
    code: str
    """SHA-256 of the sources."""
    libraries: Mapping[str, str]
    """Distribution -> version."""

    @property
    def value(self) -> str:
        """SHA-256 over all parts."""
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()

    def difference(self, other: Mapping[str, Any]) -> str | None:
        """Say what differs from a digest read from a manifest; None where all is equal."""
        mine = self.as_dict()
        words = {
            'inputs': 'input files changed',
            'settings': 'settings changed',
            'values': 'values taken from the data changed',
            'libraries': 'libraries changed',
        }
        for part, what in words.items():
            names = _differing(mine[part], other.get(part, {}))
            if names:
                return f'{what}: {", ".join(names)}'
        return None if mine['code'] == other.get('code') else 'the program changed'

    def as_dict(self) -> dict[str, Any]:
        """Give the parts as JSON knows them."""
        parts: dict[str, Any] = json.loads(_canonical(asdict(self)))
        return parts


def _differing(mine: Mapping[str, Any], other: Mapping[str, Any], most: int = 3) -> list[str]:
    """Name the entries that differ, at most a few."""
    missing = object()
    keys = sorted({*mine, *other})
    names = [key for key in keys if mine.get(key, missing) != other.get(key, missing)]
    more = [f'and {len(names) - most} more'] if len(names) > most else []
    return names[:most] + more


def _canonical(content: Any) -> bytes:
    """Write a value so that equal values give equal bytes."""
    return json.dumps(json.loads(to_json(content)), sort_keys=True).encode()


def file_digest(path: Path) -> str:
    """
    Digest of the bytes of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with Path(path).open('rb') as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 over names and bytes of the sources that make numbers, wherever they lie."""
    root = Path(str(files('bids_app')))
    digest = hashlib.sha256()
    for path in sorted(path for part in CODE for path in _sources(root / part)):
        digest.update(f'{path.relative_to(root).as_posix()}\0'.encode())
        digest.update(file_digest(path).encode())
    return digest.hexdigest()


def _sources(path: Path) -> list[Path]:
    """List a file, or the files of a folder that were not made by running the program."""
    if path.is_file():
        return [path]
    inside = (item for item in path.rglob('*') if '__pycache__' not in item.parts)
    return [item for item in inside if item.is_file()]


def participant_digest(
    units: Sequence[ParticipantInputs], settings: Settings, *, roots: Sequence[Path] = ()
) -> Digest:
    """
    Make the digest of a participant.

    Equal for equal bytes, settings, values and program. Files are named relative to their dataset,
    so that a moved dataset is the same dataset.

    Raises
    ------
    SettingsError, MissingInputError
        If a setting names an image that is not there (:func:`map_of_user`).
    """
    paths = input_files(units, settings)
    return Digest(
        inputs={_name(path, roots): _input_digest(path) for path in paths},
        settings={
            name: value
            for name, value in flatten(settings).items()
            if not name.startswith('group.')
        },
        values={unit.label: _values_of(unit) for unit in units},
        code=code_digest(),
        libraries=library_versions(),
    )


def input_files(units: Sequence[ParticipantInputs], settings: Settings) -> list[Path]:
    """
    List the files a participant is made from, sorted.

    Raises
    ------
    SettingsError, MissingInputError
        As :func:`participant_digest`.
    """
    return sorted(
        {path for unit in units for path in (*unit.files, *_named_files(unit, settings))}
    )


Stamp = tuple[int, ...] | None
"""Inode, size and times of a file in ns; None where it is not there."""


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """
    Note inode, size and times of files, by which any change shows, also one that is put back.

    Links are followed.
    """
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    """Give inode, size and times of one file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def changed_files(before: Mapping[Path, Stamp]) -> list[Path]:
    """
    List the files that were written, replaced or removed since their stamps were taken.

    In the order of the stamps.
    """
    return [path for path, stamp in before.items() if _stamp(path) != stamp]


def _named_files(unit: ParticipantInputs, settings: Settings) -> list[Path]:
    """List the files that settings name for a unit, those it has a use for."""
    volume, change = settings.blood_volume, settings.change
    table = volume.parcel_table and str(parcel_file(volume))
    named = {
        'blood_volume.arterial_mask': volume.arterial_mask if unit.dsc else None,
        'blood_volume.parcel_table': table if volume.task_change == 'parcels' else None,
        'change.davis_maximum_map': change.davis_maximum_map if change.route == 'davis' else None,
    }
    maps = [map_of_user(pattern, name, unit) for name, pattern in named.items() if pattern]
    templates = other_templates(settings.output_spaces)
    meshes = standard_meshes(settings.output_spaces)
    atlases = surface_atlases(settings.surface_atlas, meshes)
    of_surfaces = [*(one.files for one in meshes), *(one.files for one in atlases)]
    return [
        *maps,
        *(path for item in templates for path in (item.t1w, item.mask)),
        *(path for files in of_surfaces for path in files),
    ]


def _values_of(unit: ParticipantInputs) -> dict[str, Any]:
    """Take what a unit of work knows beside the bytes of its files."""
    return {
        'conditions': unit.conditions,
        'baseline': unit.baseline,
        'contrasts': [contrast.label for contrast in unit.contrasts],
        'b0': unit.b0,
        'hct': unit.hct,
        'sao2': unit.sao2,
        'values': {value.name: value.value for value in unit.values},
        'problems': sorted(problem.message for problem in unit.problems),
        'suspicions': sorted(suspicion.reason for suspicion in unit.suspicions),
        'multiverse': unit.saved and unit.saved.multiverse,
    }


def _name(path: Path, roots: Sequence[Path]) -> str:
    """Name a file by its place in the innermost of the datasets."""
    path = Path(os.path.abspath(path))  # noqa: PTH100  (a git-annex link must not be followed)
    inside = [Path(os.path.abspath(root)) for root in roots]  # noqa: PTH100
    inside = [root for root in inside if path.is_relative_to(root)]
    if not inside:
        return path.as_posix()
    return path.relative_to(max(inside, key=lambda root: len(root.parts))).as_posix()


def _input_digest(path: Path) -> str:
    """Digest of an input; a file that cannot be read is a state of its own."""
    try:
        return file_digest(path) if path.is_file() else 'unreadable'
    except OSError:
        return 'unreadable'


def work_name(participant: str, digest: Digest) -> str:
    """
    Name the work folder of a participant: another digest never meets its intermediate files.

    Such as ``sub-01_3fe1c2a09b77``.
    """
    return f'sub-{participant}_{digest.value[:12]}'


def participant_files(output_dir: Path, participant: str) -> tuple[Path, ...]:
    """
    List what the output holds of a participant, without its logs.

    Under ``sub-XX/`` and ``sub-XX*.html``, sorted; never those of a participant whose label begins
    alike.
    """
    root, name = Path(output_dir), f'sub-{participant}'
    inside = [path for path in (root / name).rglob('*') if path.is_file()]
    beside = [*root.glob(f'{name}.html'), *root.glob(f'{name}_*.html')]
    return tuple(sorted([*inside, *beside]))


def write_manifest(
    output_dir: Path,
    verdict: Verdict,
    digest: Digest,
    *,
    outputs: Iterable[Path] | None = None,
    work_dir: Path | str = '',
) -> Path:
    """
    Write the manifest of a participant: the last file of its run.

    Only after a complete or degraded run will a later one be skipped. The digest was made before
    the run; the bytes of `outputs`, by default all of :func:`participant_files`, must stay. Of the
    work directory only the name is kept.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    root, participant = Path(output_dir), verdict.participant
    if outputs is None:
        outputs = participant_files(root, participant)
    content = {
        'participant': participant,
        'version': bids_app.__version__,
        'verdict': verdict.as_dict(),
        'digest': digest.value,
        **digest.as_dict(),
        'work_directory': Path(work_dir).name,
        'outputs': {
            path.relative_to(root).as_posix(): file_digest(path) for path in sorted(outputs)
        },
    }
    return atomic_write(root / output_path('manifest', sub=participant), to_json(content))


def read_manifest(output_dir: Path, participant: str) -> dict[str, Any] | None:
    """Read the manifest of a participant; None where there is none, or none that can be read."""
    path = Path(output_dir) / output_path('manifest', sub=participant)
    try:
        manifest = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def remove_manifest(output_dir: Path, participant: str) -> None:
    """Take the manifest, and what a killed run was writing, away before computing anew."""
    root, name = Path(output_dir), f'sub-{participant}'
    (root / output_path('manifest', sub=participant)).unlink(missing_ok=True)
    remove_unfinished(root / name, deep=True)
    for folder in (root, root / 'logs'):
        remove_unfinished(folder, f'{name}[_.]*')


def remove_stale(
    output_dir: Path, previous: Mapping[str, Any] | None, written: Iterable[Path]
) -> tuple[Path, ...]:
    """
    Remove what an earlier run wrote and the present one did not.

    Only files that the manifest of the earlier run listed and that still have the bytes it wrote.
    """
    root, kept = Path(output_dir), {Path(path) for path in written}
    removed = []
    for name, expected in (previous or {}).get('outputs', {}).items():
        path = root / name
        if path not in kept and path.is_file() and _input_digest(path) == expected:
            path.unlink()
            removed.append(path)
    return tuple(removed)


def check_manifest(output_dir: Path, participant: str, digest: Digest) -> str | None:
    """
    Tell why a participant has to be computed.

    One sentence; None when the outputs stand and nothing has to be done.
    """
    manifest = read_manifest(output_dir, participant)
    if manifest is None:
        return 'there is no finished run of it'
    verdict = manifest.get('verdict', {})
    if verdict.get('state') not in RESUMABLE:
        return f'its last run ended {verdict.get("state", "without verdict")}'
    difference = digest.difference(manifest)
    return difference or _damage(Path(output_dir), manifest.get('outputs', {}))


def _damage(output_dir: Path, outputs: Mapping[str, str]) -> str | None:
    """Name the first output that is absent or has other bytes."""
    for name, expected in outputs.items():
        path = output_dir / name
        if not path.is_file():
            return f'an output is missing: {name}'
        if _input_digest(path) != expected:
            return f'an output was changed: {name}'
    return None
