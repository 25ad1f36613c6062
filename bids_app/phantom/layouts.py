"""Other layouts of a study: names and sidecars of published datasets in place of BIDS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bids_app.phantom.files import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from bids_app.phantom.acquisition import Protocol
    from bids_app.phantom.participant import Participant

LAYOUTS = ('bids', 'ds004873')

CONDITIONS = {'bids': ('control', 'calc'), 'ds004873': ('rest', 'control', 'mem', 'calc')}
"""Layout -> conditions where none are asked for."""

FIRST_LABEL = 32
"""Number of the first participant of ds004873; from p032 on nothing but the layout is special."""

PARTS = {'mag': '', 'real': 'real_', 'imag': 'imaginary_'}
"""Part entity -> what stands in the name of a gradient echo."""

PHILIPS = {
    'Manufacturer': 'Philips',
    'PatientPosition': 'HFS',
    'SeriesDescription': 'ImageMRSERIES',
    'ImageComments': '------',
    'UsePhilipsFloatNotDisplayScaling': 1,
    'ConversionSoftware': 'dcm2niix',
    'ConversionSoftwareVersion': 'v1.0.20190902',
}
"""In every sidecar of the main study: anonymous, without field strength or slice timing."""

KEPT = ('EchoTime', 'RepetitionTime', 'InversionTime')
"""Fields of a BIDS sidecar that stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What becomes of the files of one kind."""

    name: str
    """Regular expression of the BIDS path without extension."""
    target: Callable[[Mapping[str, str]], str]
    """From the groups of the name to the new path without extension."""
    sidecar: Callable[[Mapping[str, str]], dict[str, Any]]
    """Fields of that kind."""
    kept: tuple[str, ...] = ()
    """Fields that stay beside KEPT."""


def _gradient_echo(found: Mapping[str, str]) -> str:
    part = PARTS[found['part']]
    stem = f'{found["sub"]}_echo-{int(found["echo"]):02d}_{part}task-{found["task"]}'
    return f'derivatives/{found["sub"]}/anat/{stem}_acq-{found["acq"]}_MEGRE'


def _gradient_protocol(found: Mapping[str, str]) -> dict[str, Any]:
    protocol = 'T2SSGPhaseCorrOFF' if found['acq'] == 'fullres' else f'T2SSG{found["acq"]}'
    name = f'{found["task"]}_{protocol}'
    return {'ProtocolName': name, 'EchoNumber': int(found['echo']), 'ReconMatrixPE': 112}


RULES = (
    Rule(
        name=r'sub-\w+?/anat/(?P<sub>sub-\w+?)_T1w',
        target=lambda found: f'{found["sub"]}/anat/{found["sub"]}_T1w',
        sidecar=lambda _: {'ProtocolName': 'MPR_3D_cs7.5', 'ReconMatrixPE': 256},
    ),
    Rule(
        name=r'sub-\w+?/anat/(?P<sub>sub-\w+?)_echo-(?P<echo>\d+)_MESE',
        target=lambda found: (
            f'{found["sub"]}/anat/{found["sub"]}_echo-{int(found["echo"]):02d}_MESE'
        ),
        sidecar=lambda found: {
            'ProtocolName': 'rest_T23DGRASE8e16ms',
            'EchoNumber': int(found['echo']),
            'ReconMatrixPE': 112,
        },
    ),
    Rule(
        name=r'sub-\w+?/anat/(?P<sub>sub-\w+?)_task-(?P<task>\w+?)_acq-(?P<acq>\w+?)'
        r'_echo-(?P<echo>\d+)_part-(?P<part>\w+?)_MEGRE',
        target=_gradient_echo,
        sidecar=_gradient_protocol,
    ),
    Rule(
        name=r'sub-\w+?/perf/(?P<sub>sub-\w+?)_acq-(?P<task>\w+?)_asl',
        target=lambda found: (
            f'derivatives/{found["sub"]}/qmri/{found["sub"]}_task-{found["task"]}_acq-epi_asl'
        ),
        sidecar=lambda found: {
            'ProtocolName': f'WIPSOURCE-{found["task"]}_pCASL2D',
            'RepetitionTime': 9,
            'ReconMatrixPE': 80,
        },
    ),
    Rule(
        name=r'sub-\w+?/perf/(?P<sub>sub-\w+?)_acq-(?P<task>\w+?)_m0scan',
        target=lambda found: (
            f'derivatives/{found["sub"]}/qmri/{found["sub"]}_task-{found["task"]}_acq-pd_asl'
        ),
        sidecar=lambda found: {
            'ProtocolName': f'WIP{found["task"]}_pCASL2DEPI_PLD1800',
            'RepetitionTime': 4.5,
            'ReconMatrixPE': 80,
        },
    ),
    Rule(
        name=r'sub-\w+?/perf/(?P<sub>sub-\w+?)_dsc',
        target=lambda found: (
            f'derivatives/{found["sub"]}/perf/{found["sub"]}_task-control_acq-perf_dsc'
        ),
        sidecar=lambda _: {'ProtocolName': 'PWI', 'ReconMatrixPE': 112},
    ),
    Rule(
        name=r'sub-\w+?/func/(?P<sub>sub-\w+?)_task-all_bold',
        target=lambda found: f'{found["sub"]}/func/{found["sub"]}_task-all_bold',
        sidecar=lambda _: {
            'ProtocolName': 'localizer_calc_mem_fMRI_MB2',
            'ReconMatrixPE': 64,
            'TaskName': 'all',
        },
        kept=('EffectiveEchoSpacing', 'PhaseEncodingDirection'),
    ),
)
"""From the names of the phantom to those of ds004873."""

DROPPED = r'.*_(?:aslcontext\.tsv|events\.json)'
"""Files that the dataset does not have."""


def make_untidy(root: Path, label: str) -> None:
    """Move the files of a participant to where ds004873 keeps them, with its sidecars."""
    folder = root / f'sub-{label}'
    for path in sorted(item for item in folder.rglob('*') if item.is_file()):
        if re.fullmatch(DROPPED, path.name):
            path.unlink()
            continue
        stem, dot, extension = path.relative_to(root).as_posix().partition('.')
        rule, found = _rule_of(stem)
        if rule is None or found is None:
            continue
        target = root / f'{rule.target(found)}{dot}{extension}'
        target.parent.mkdir(parents=True, exist_ok=True)
        if extension == 'json':
            sidecar = _sidecar(json.loads(path.read_text('utf-8')), rule, found)
            path.unlink()
            target.write_text(json.dumps(sidecar, indent='\t'), encoding='utf-8')
        else:
            path.rename(target)
    if not any((folder / 'perf').iterdir()):
        (folder / 'perf').rmdir()


def _rule_of(stem: str) -> tuple[Rule | None, dict[str, str] | None]:
    """Find what becomes of a file."""
    for rule in RULES:
        match = re.fullmatch(rule.name, stem)
        if match:
            return rule, match.groupdict()
    return None, None


def _sidecar(content: Mapping[str, Any], rule: Rule, found: dict[str, str]) -> dict[str, Any]:
    """Give the fields that the dataset has."""
    kept = {key: content[key] for key in (*KEPT, *rule.kept) if key in content}
    return {**PHILIPS, **kept, **rule.sidecar(found)}


def write_untidy_dataset(
    root: Path, participants: Iterable[Participant], protocol: Protocol
) -> None:
    """
    Write the files at the root as ds004873 has them: no participants.json, no unit anywhere.

    What this phantom does otherwise than the scanner of the study (thickness and times of its
    slices) goes to code/overrides.toml, for ``--metadata-overrides``.
    """
    for name in ('participants.json', '.bidsignore'):
        (root / name).unlink()
    (root / 'README.md').rename(root / 'README')
    write_table(
        root / 'participants.tsv',
        ('participant_id', 'sex', 'age', 'Hct', 'O2sat', 'comments'),
        [
            (f'sub-{p.label}', 'f', 30, f'{p.hct * 100:.1f}', f'{p.sao2 * 100:.0f}', '')
            for p in participants
        ],
    )
    n_slices, step = protocol.asl.geometry.shape[2], protocol.asl.slice_time
    times = [round(step * index, 6) for index in range(n_slices)]
    facts: dict[str, dict[str, Any]] = {
        'megre': {'SliceThickness': protocol.megre.geometry.zooms[2]},
        'asl': {'SliceTiming': times},
        'm0': {'SliceTiming': times},
    }
    (root / 'code').mkdir()
    (root / 'code' / 'overrides.toml').write_text(
        '\n'.join(
            f'[[override]]\nmatch = {{ role = "{role}" }}\nset = {{ {key} = {value} }}\n'
            'source = "protocol of the phantom"\n'
            for role, fields in facts.items()
            for key, value in fields.items()
        ),
        encoding='utf-8',
    )
