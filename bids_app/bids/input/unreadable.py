"""Images that cannot be used once they are read as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bids_app.bids.input.files import find_defect
from bids_app.bids.input.metadata.fieldmaps import field_map_images, with_sound_field
from bids_app.bids.scans import FoundAnatomy, ParticipantInputs, Problem

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from bids_app.bids.scans import EchoSeries


def inspect_files(inputs: ParticipantInputs, *, at_a_glance: bool = False) -> tuple[Problem, ...]:
    """
    Read every image of a unit once and list those that cannot be used.

    Truncated, all NaN, all zero or constant images, and phases that are not in radians; at a
    glance, the length and the first volume of a series.
    """
    # a mask or tissue map of a small field of view may be 1 or 0 everywhere
    maps = _anatomy_images(inputs.anatomy)[1:] if inputs.anatomy else ()
    scales = {
        path: item.phase_scale
        for series in inputs.megre
        for item in (series, *series.reduced)
        for path in item.phase
    }
    problems = []
    for path, (role, condition) in _images(inputs).items():
        defect = find_defect(
            path,
            phase_scale=scales.get(path),
            may_be_constant=path in maps,
            at_a_glance=at_a_glance,
        )
        if defect is not None:
            message, code = defect
            problems.append(
                Problem(role=role, message=message, file=path, code=code, condition=condition)
            )
    return tuple(problems)


def drop_unreadable(inputs: ParticipantInputs, *, at_a_glance: bool = False) -> ParticipantInputs:
    """
    Leave out what cannot be used after reading every image once.

    The series that hold a defective image go, and their problems are added.
    """
    problems = inspect_files(inputs, at_a_glance=at_a_glance)
    bad = {problem.file for problem in problems}
    if not bad:
        return inputs
    anatomy = inputs.anatomy
    return replace(
        inputs,
        t1w=tuple(path for path in inputs.t1w if path not in bad),
        anatomy=None if anatomy and bad & set(_anatomy_images(anatomy)) else anatomy,
        mese=tuple(item for item in inputs.mese if not bad & set(item.files)),
        megre=tuple(_without_phase(item, bad) for item in inputs.megre if not bad & _needed(item)),
        ase=tuple(item for item in inputs.ase if item.file not in bad),
        asl=tuple(
            with_sound_field(item, bad)
            for item in inputs.asl
            if not bad & {item.file, item.m0.file}
        ),
        dsc=tuple(with_sound_field(item, bad) for item in inputs.dsc if item.file not in bad),
        bold=tuple(
            with_sound_field(item, bad) for item in inputs.bold if not bad & set(item.files)
        ),
        problems=(*inputs.problems, *problems),
    )


def _needed(series: EchoSeries) -> set[Path]:
    """Give the images without which there is no decay: all but the phase of a magnitude."""
    return set(series.files) - {path for one in (series, *series.reduced) for path in one.phase}


def _without_phase(series: EchoSeries, bad: Collection[Path | None]) -> EchoSeries:
    """Leave the phase alone, and the sets that need it, where an image of it cannot be used."""
    phases = {path for one in (series, *series.reduced) for path in one.phase}
    if not phases & set(bad):
        return series
    return replace(series, phase=(), phase_scale=1.0, reduced=())


def _anatomy_images(anatomy: FoundAnatomy) -> tuple[Path, ...]:
    """Give the images of an anatomy."""
    return (
        anatomy.t1w,
        anatomy.brain_mask,
        anatomy.grey_matter,
        anatomy.white_matter,
        anatomy.csf,
    )


def _images(inputs: ParticipantInputs) -> dict[Path, tuple[str, str | None]]:
    """Give every image with its role and condition."""
    images: dict[Path, tuple[str, str | None]] = dict.fromkeys(inputs.t1w, ('t1w', None))
    if inputs.anatomy:
        images |= dict.fromkeys(_anatomy_images(inputs.anatomy), ('t1w', None))
    for role, echoes in (('mese', inputs.mese), ('megre_mag', inputs.megre)):
        for item in echoes:
            phases = {path for one in (item, *item.reduced) for path in one.phase}
            for path in item.files:
                own = 'megre_phase' if path in phases else role
                images[path] = (own, item.condition)
    for asl in inputs.asl:
        images[asl.file] = ('asl', asl.condition)
        if asl.m0.file is not None:
            images.setdefault(asl.m0.file, ('m0', asl.condition))
    images |= {item.file: ('ase', item.condition) for item in inputs.ase}
    images |= {item.file: ('dsc', item.condition) for item in inputs.dsc}
    images |= {path: ('bold', item.condition) for item in inputs.bold for path in item.files}
    images |= _found_references(inputs)
    return images | dict.fromkeys(field_map_images(inputs), ('fieldmaps', None))


def _found_references(inputs: ParticipantInputs) -> dict[Path, tuple[str, str | None]]:
    """Give the images that stand for preprocessed series."""
    series = [('asl', one) for one in inputs.asl] + [('bold', one) for one in inputs.bold]
    return {
        one.found.reference: (role, one.condition)
        for role, one in series
        if one.found is not None and one.found.reference is not None
    }
