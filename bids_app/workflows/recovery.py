"""Run the graph of a unit; leave a scan out that proves useless, and make the rest without it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.metadata.fieldmaps import with_sound_field
from bids_app.bids.output.names import output_path
from bids_app.bids.run.outcome import MACHINE_CODES
from bids_app.bids.scans import Problem
from bids_app.errors import ExitCode
from bids_app.workflows.execution import run_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app.bids.scans import FieldMap, ParticipantInputs
    from bids_app.settings import RunSettings, Settings
    from bids_app.workflows._engine import Workflow
    from bids_app.workflows.graph import AlignedScan
    from bids_app.workflows.step_errors import StepError

    Entry = tuple[str, dict[str, Any]]

LOGGER = logging.getLogger('oxybold')

HEAD_STEPS = ('average_heads', 'extract_brain', 'segment_tissue', 'discretise_tissue')
"""Steps of the anatomy without which there is no mask and no tissue."""

TRANSFORMS = ('xfm_t1w_template', 'xfm_template_t1w')


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of the graph of a unit."""

    inputs: ParticipantInputs
    """Without what proved useless, which its problems name."""
    workflow: Workflow
    expected: list[Entry]
    """Files it was to make, as rows of data/outputs.yml."""
    errors: list[StepError]
    """Steps that failed, of scans left out too."""


def run_unit(
    inputs: ParticipantInputs, *, settings: Settings, run: RunSettings, work_dir: Path
) -> Finished:
    """
    Build and run the graph of a unit, again without a scan whose steps fail.

    Files of an earlier graph that the last one does not make are removed.

    A node that fails takes along everything that is made from it and from others together, such
    as a table of all changes. So where a scan failed and something is to be won, the graph is
    built as if that scan were not there; what was computed is taken from the work directory.
    """
    from bids_app.workflows.participant import init_participant_wf

    def build(unit: ParticipantInputs, errors: list[StepError]) -> Finished:
        workflow, expected = init_participant_wf(inputs=unit, settings=settings, run=run)
        return Finished(inputs=unit, workflow=workflow, expected=expected, errors=errors)

    plan = build(inputs, [])
    while plan.expected:
        errors = run_graph(plan.workflow, run=run, work_dir=work_dir)
        done = replace(plan, errors=[*plan.errors, *errors])
        smaller, useless = without_failed(plan.inputs, errors)
        if not useless:
            return done
        plan = build(smaller, [*plan.errors, *useless])
        if not _regained(done.expected, plan.expected, run.output_dir):
            return done
        for problem in smaller.problems[len(done.inputs.problems) :]:
            LOGGER.warning('%s: made anew without %s: %s', smaller.label, problem.role,
                           problem.message)  # fmt: skip
        _remove(done.expected, plan.expected, run.output_dir)
    return plan


def without_failed(
    inputs: ParticipantInputs, errors: Sequence[StepError]
) -> tuple[ParticipantInputs, list[StepError]]:
    """
    Leave out the scans that steps failed for.

    Scan, field map or T1w image that failed become a problem each. Where no scan would be left,
    the T1w image goes in place of the scans that do not fit it. Beside the inputs stand the steps
    this is about; none where no scan can be blamed, or the machine is to blame.
    """
    from bids_app.workflows.graph import find_scans

    if inputs.saved is not None or any(ExitCode(one.code) in MACHINE_CODES for one in errors):
        return inputs, []
    scans = find_scans(inputs)
    lost: dict[str, AlignedScan] = {}
    useless, problems, maps = [], [], set()
    has_head = bool(inputs.t1w or inputs.anatomy)
    for error in errors:
        part, _, step = error.node.partition('.')[2].partition('.')
        scan, field_map = _scan_of(part, scans), _field_map_of(part, inputs)
        if field_map is not None:
            maps |= set(field_map.files)
            problems.append(_problem('fieldmaps', field_map.files[0], error))
        elif scan is not None:
            if scan.name not in lost:
                problems.append(_scan_problem(scan, error))
            # what cannot be aligned is lost in every condition within it
            others = [one for one in scans if one.shares_images(scan)]
            lost |= {one.name: one for one in others if part.startswith('align_')}
            lost[scan.name] = scan
        elif part == 'anatomy' and step in HEAD_STEPS and has_head:
            file = inputs.anatomy.t1w if inputs.anatomy else inputs.t1w[0]
            problems.append(_problem('t1w', file, error))
            has_head = False
        else:
            continue
        useless.append(error)
    if lost and len(lost) == len(scans) and has_head and _do_not_fit(useless):
        lost, has_head = {}, False
        about_fields = [one for one in problems if one.role == 'fieldmaps']
        problems = [_head_problem(inputs, problems), *about_fields]
    return _reduce(inputs, lost, maps, problems, has_head=has_head), useless


def _head_problem(inputs: ParticipantInputs, problems: Sequence[Problem]) -> Problem:
    """Blame the T1w image for what no scan agrees with."""
    blamed = [one for one in problems if one.role != 'fieldmaps']
    file = inputs.anatomy.t1w if inputs.anatomy else inputs.t1w[0]
    message = (
        f'no scan lies on the T1w image (of {len(blamed)}; the first: {blamed[0].message}); so '
        'the T1w image is in doubt, its brain mask, its header or its head, and left out'
    )
    return Problem(role='t1w', message=message, file=file, code=blamed[0].code)


def _do_not_fit(errors: Sequence[StepError]) -> bool:
    """Tell whether all that failed is the alignment of scans to the T1w image."""
    return all('.align_' in error.node for error in errors)


def _reduce(
    inputs: ParticipantInputs,
    lost: dict[str, AlignedScan],
    maps: set[Path],
    problems: list[Problem],
    *,
    has_head: bool,
) -> ParticipantInputs:
    """Leave out scans, field maps and the T1w image."""
    gone = {id(scan.series) for scan in lost.values()}

    def kept(kind: str) -> tuple[Any, ...]:
        series = [one for one in getattr(inputs, kind) if id(one) not in gone]
        if kind in ('asl', 'dsc', 'bold'):
            series = [with_sound_field(one, maps) for one in series]
        return tuple(series)

    return replace(
        inputs,
        t1w=inputs.t1w if has_head else (),
        anatomy=inputs.anatomy if has_head else None,
        mese=kept('mese'),
        megre=kept('megre'),
        ase=kept('ase'),
        asl=kept('asl'),
        dsc=kept('dsc'),
        bold=kept('bold'),
        problems=(*inputs.problems, *problems),
    )


def _scan_of(part: str, scans: Sequence[AlignedScan]) -> AlignedScan | None:
    """Find the scan of a part of the graph: the names of such parts end with it."""
    ends = [
        scan for scan in scans if re.search(f'_{re.escape(scan.name)}(_first|_second)?$', part)
    ]
    return max(ends, key=lambda scan: len(scan.name), default=None)


def _field_map_of(part: str, inputs: ParticipantInputs) -> FieldMap | None:
    """Find the field map of a part of the graph."""
    series: tuple[Any, ...] = (*inputs.asl, *inputs.dsc, *inputs.bold)
    for one in series:
        field_map: FieldMap | None = one.field_map
        if field_map is not None:
            name = field_map.name.replace('-', '_')
            if part in (f'align_{name}', f'field_{name}'):
                return field_map
    return None


def _scan_problem(scan: AlignedScan, error: StepError) -> Problem:
    """Say that a scan is useless."""
    role = {'megre': 'megre_mag'}.get(scan.kind, scan.kind)
    return _problem(role, scan.images[0], error, scan.series.condition)


def _problem(role: str, file: Path, error: StepError, condition: str | None = None) -> Problem:
    """Turn the error of a step into a problem of the file it is about."""
    code = ExitCode(error.code)
    return Problem(role=role, message=error.message, file=file, code=code, condition=condition)


def paths_of(expected: Sequence[Entry], output_dir: Path) -> list[Path]:
    """Give the files that a graph was to make."""
    return [
        output_dir / output_path(key, **entities)
        if key not in TRANSFORMS
        else _transform(output_dir, key, entities)
        for key, entities in expected
    ]


def sidecar_of(path: Path) -> Path:
    """Give the JSON beside a file."""
    return path.with_name(path.name.removesuffix('.gz')).with_suffix('.json')


def _transform(output_dir: Path, key: str, entities: dict[str, Any]) -> Path:
    """Path of a transform, whose extension depends on where it came from."""
    composite = output_dir / output_path(key, extension='.h5', **entities)
    return composite if composite.is_file() else composite.with_suffix('.txt')


def _regained(before: Sequence[Entry], after: Sequence[Entry], output_dir: Path) -> bool:
    """Tell whether a graph makes what the one before it was to make and could not."""
    paths = paths_of(before, output_dir)
    lost = [entry for entry, path in zip(before, paths, strict=True) if not path.is_file()]
    return any(_what(entry) in map(_what, after) for entry in lost)


def _what(entry: Entry) -> Entry:
    """Tell a file but for the grid it lies on."""
    key, entities = entry
    return key, {name: value for name, value in entities.items() if name != 'space'}


def _remove(before: Sequence[Entry], after: Sequence[Entry], output_dir: Path) -> None:
    """Remove what the graph after does not make."""
    kept = set(paths_of(after, output_dir))
    for path in set(paths_of(before, output_dir)) - kept:
        path.unlink(missing_ok=True)
        sidecar_of(path).unlink(missing_ok=True)
