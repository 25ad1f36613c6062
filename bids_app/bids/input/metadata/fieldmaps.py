"""Field maps, and which scan each serves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from bids_app.bids.input.metadata.phase import recognise_phase
from bids_app.bids.input.metadata.readout import read_readout
from bids_app.bids.input.query import as_list
from bids_app.bids.input.sidecar import Probe, note_absent_targets
from bids_app.bids.scans import AslSeries, BoldRun, DscSeries, FieldMap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Findings, Reader
    from bids_app.bids.scans import ParticipantInputs

AnySeries = TypeVar('AnySeries', AslSeries, BoldRun, DscSeries)

HERTZ_PER_UNIT = {'Hz': 1.0, 'rad/s': 0.15915494309189535, 'T': 42577478.5}
"""Units of a field map -> Hz per unit; 1/2 pi, and that of the proton."""

MAGNITUDES = ('magnitude1', 'magnitude', 'magnitude2')


def read_field_maps(reader: Reader, found: Sequence[Found]) -> tuple[FieldMap, ...]:
    """
    Read the field maps of a unit.

    Phase differences, pairs of phases, measured fields and pairs of opposite phase encoding,
    sorted by name. A map that cannot be used is a note, for scans are used without it.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[str, Found]] = {}
    for item in found:
        suffix = str(item.get('suffix'))
        # the two of a pair differ in their direction alone
        apart = ('suffix', 'extension', 'datatype', 'direction' if suffix == 'epi' else '')
        same = {key: value for key, value in item.entities.items() if key not in apart}
        same['kind'] = 'epi' if suffix == 'epi' else ''
        name = item.path.name if suffix == 'epi' else suffix
        groups.setdefault(tuple(sorted(same.items())), {})[name] = item
    maps = [_field_map(reader, group) for _, group in sorted(groups.items())]
    return tuple(one for one in maps if one is not None)


def _field_map(reader: Reader, group: Mapping[str, Found]) -> FieldMap | None:
    """Read one field map; None, with a note, where it cannot be used."""
    known = (name for name in ('phasediff', 'phase1', 'fieldmap') if name in group)
    main = next(known, next(iter(group)))
    scratch = replace(reader, findings=type(reader.findings)())
    probe = Probe.of(scratch, 'fieldmaps', group[main], None)
    if main in ('phasediff', 'phase1'):
        made = _read_phase(probe, group, main)
    elif main == 'fieldmap':
        made = _read_field(probe, group)
    else:
        made = _read_opposites(probe, group)
    reader.findings.files.update(scratch.findings.files)
    for note in scratch.findings.notes:
        reader.findings.note(note)
    for problem in scratch.findings.problems:
        reader.findings.note(f'{problem.message}; the field map is not used')
    return made if probe.ok else None


def _common(probe: Probe, group: Mapping[str, Found]) -> dict[str, Any]:
    """Read what all kinds share: the image to align, and which scans the map is for."""
    image = next((group[name] for name in MAGNITUDES if name in group), None)
    if image is None:
        probe.fail(f'{probe.file.name}: there is no magnitude image to align it by')
    else:
        probe.reader.findings.files.add(image.path)
    return {'magnitude': image.path if image else None, **_purpose(probe)}


def _purpose(probe: Probe) -> dict[str, Any]:
    """Read the name of a map and which scans it is for."""
    intended = as_list(probe.metadata.get('IntendedFor') or [])
    note_absent_targets(probe.reader, probe.file, intended)
    return {
        'name': probe.file.name.partition('.')[0],
        'intended': tuple(str(one) for one in intended),
        'identifiers': tuple(
            str(one) for one in as_list(probe.metadata.get('B0FieldIdentifier') or [])
        ),
    }


def _read_phase(probe: Probe, group: Mapping[str, Found], main: str) -> FieldMap | None:
    """Read a phase difference, or two phases."""
    probe.header((3,))
    files = [probe.file]
    if main == 'phasediff':
        times = [probe.number(key, 'it is the time of an echo', required=True)
                 for key in ('EchoTime1', 'EchoTime2')]  # fmt: skip
    else:
        second = group.get('phase2')
        if second is None:
            probe.fail(f'{probe.file.name}: there is no phase2')
            return None
        other = Probe.of(probe.reader, 'fieldmaps', second, None)
        other.header((3,))
        files.append(second.path)
        times = [one.number('EchoTime', 'it is the time of the echo', required=True)
                 for one in (probe, other)]  # fmt: skip
        probe.ok = probe.ok and other.ok
    scale = probe.reader.settings.anatomy.fieldmap_phase_scale
    if probe.metadata.get('Units') == 'rad':
        scale = 1.0
    if scale is None and probe.ok:
        maker = str(probe.metadata.get('Manufacturer') or '')
        scale, reason = recognise_phase(files, maker)
        probe.reader.findings.note(f'{probe.file.name}: its Units are not rad; {reason}')
    if scale is None:
        probe.fail(
            f'{probe.file.name}: its phase has no Units: rad; state them, or set '
            'anatomy.fieldmap_phase_scale (0.001534 for 4096 units per turn)'
        )
    common = _common(probe, group)
    if not probe.ok or None in times or scale is None:
        return None
    first, last = (float(time or 0.0) for time in times)
    if first == last:
        probe.fail(f'{probe.file.name}: both echo times are {first:g} s')
        return None
    return FieldMap(
        kind='phase', files=tuple(files), scale=scale, echo_difference=last - first, **common
    )


def _read_field(probe: Probe, group: Mapping[str, Found]) -> FieldMap | None:
    """Read a field that was measured as such."""
    probe.header((3,))
    unit = str(probe.metadata.get('Units') or '')
    if unit not in HERTZ_PER_UNIT:
        probe.fail(
            f'{probe.file.name}: Units should be one of {", ".join(HERTZ_PER_UNIT)}, found '
            f'{unit or "none"}'
        )
    common = _common(probe, group)
    if not probe.ok:
        return None
    return FieldMap(kind='field', files=(probe.file,), scale=HERTZ_PER_UNIT[unit], **common)


def _read_opposites(probe: Probe, group: Mapping[str, Found]) -> FieldMap | None:
    """Read two echo-planar images of opposite phase encoding."""
    probes = [Probe.of(probe.reader, 'fieldmaps', item, None) for item in group.values()]
    headers = [one.header((3, 4)) for one in probes]
    readouts = [read_readout(one, header) for one, header in zip(probes, headers, strict=True)]
    pair = {one.polarity: one for one in readouts if one is not None}
    alike = {(one.axis, round(one.echo_spacing * one.n_lines, 6)) for one in pair.values()}
    shapes = {header.shape[:3] for header in headers if header is not None}
    if len(probes) != 2 or len(pair) != 2 or len(alike) != 1 or len(shapes) != 1:
        names = ', '.join(one.file.name for one in probes)
        probe.fail(
            f'{names}: expected two images of one shape, with opposite PhaseEncodingDirection and '
            'equally fast readout (EffectiveEchoSpacing or TotalReadoutTime)'
        )
        return None
    files = {one.polarity: it.file for one, it in zip(readouts, probes, strict=True) if one}
    plus = pair[1]
    return FieldMap(
        kind='opposite',
        files=(files[1], files[-1]),
        magnitude=files[1],
        scale=1 / (plus.n_lines * plus.echo_spacing),
        axis=plus.axis,
        **_purpose(probe),
    )


def field_map_images(inputs: ParticipantInputs) -> set[Path]:
    """Give the images of all field maps that are used."""
    maps = {one.field_map for one in inputs.asl}
    maps |= {one.field_map for one in inputs.dsc} | {one.field_map for one in inputs.bold}
    return {path for one in maps if one for path in _images(one)}


def _images(field_map: FieldMap) -> tuple[Path, ...]:
    """Give the images of a field map."""
    return (*field_map.files, field_map.magnitude)


def with_sound_field(series: AnySeries, bad: Collection[Path | None]) -> AnySeries:
    """
    Leave the distortion of a series as it is where its field map cannot be used.

    It loses map and readout where an image of the map is among the bad ones.
    """
    if series.field_map is None or not set(_images(series.field_map)) & set(bad):
        return series
    return replace(series, readout=None, field_map=None)


def choose_field_map(
    series: AnySeries, maps: Sequence[FieldMap], *, has_gradient_echo: bool, findings: Findings
) -> AnySeries:
    """
    Give a series its field map, and say it where its distortion is not corrected.

    The map is the one that names it (B0FieldSource, then IntendedFor), or the only one where no
    map names any scan; a gradient echo with phase gives a field too. The series loses its readout
    where nothing can be corrected.
    """
    name = series.file.name
    if series.readout is None:
        lacking = {
            'PhaseEncodingDirection': {'PhaseEncodingDirection'},
            'EffectiveEchoSpacing or TotalReadoutTime': {
                'EffectiveEchoSpacing', 'TotalReadoutTime'
            },
        }  # fmt: skip
        needed = [text for text, keys in lacking.items() if not keys & set(series.metadata)]
        findings.note(
            f'{name}: distortion is not corrected; its sidecar needs '
            f'{", and ".join(needed or lacking)}'
        )
        return series
    source = {str(one) for one in as_list(series.metadata.get('B0FieldSource') or [])}
    chosen = [one for one in maps if source & set(one.identifiers)]
    chosen = chosen or [one for one in maps if any(to.endswith(name) for to in one.intended)]
    is_for_all = len(maps) == 1 and not maps[0].intended and not maps[0].identifiers
    chosen = chosen or list(maps if is_for_all else ())
    if chosen:
        findings.note(f'{name}: distortion is corrected by {chosen[0].name}')
        return replace(series, field_map=chosen[0])
    if has_gradient_echo:
        findings.note(f'{name}: distortion is corrected by the field of the gradient echo')
        return series
    findings.note(
        f'{name}: distortion is not corrected; there is no field map for it, and no gradient '
        'echo with phase'
    )
    return replace(series, readout=None)
