"""Field maps of a dataset, the readout of echo-planar scans, and which serves which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bids_app.bids.acquisitions import FieldMap, Readout
from bids_app.bids.reading import Probe, as_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bids_app.bids.acquisitions import AslSeries, BoldRun, DscSeries
    from bids_app.bids.reading import Findings, Reader
    from bids_app.bids.roles import Found
    from bids_app.bids.sources import Header

    Series = AslSeries | BoldRun | DscSeries

AXES = {'i': 0, 'j': 1, 'k': 2}
"""PhaseEncodingDirection -> axis of the array."""

HERTZ_PER_UNIT = {'Hz': 1.0, 'rad/s': 0.15915494309189535, 'T': 42577478.5}
"""Units of a field map -> Hz per unit; 1/2 pi, and that of the proton."""

MAGNITUDES = ('magnitude1', 'magnitude', 'magnitude2')


def read_readout(probe: Probe, header: Header | None) -> Readout | None:
    """
    Read how an echo-planar image was read out.

    Parameters
    ----------
    probe : Probe
        Of the image.
    header : Header or None
        Its geometry.

    Returns
    -------
    readout : Readout or None
        None where the sidecar lacks the direction or the time.
    """
    direction = str(probe.metadata.get('PhaseEncodingDirection') or '')
    if header is None or direction[:1] not in AXES or direction[1:] not in ('', '-'):
        return None
    axis = AXES[direction[0]]
    lines = probe.number('ReconMatrixPE') or float(header.shape[axis])
    spacing = probe.number('EffectiveEchoSpacing')
    total = probe.number('TotalReadoutTime')
    if spacing is None and total is not None and lines > 1:
        spacing = total / (lines - 1)
    if spacing is None:
        return None
    polarity = -1 if direction.endswith('-') else 1
    return Readout(axis=axis, polarity=polarity, echo_spacing=spacing, n_lines=round(lines))


def read_field_maps(reader: Reader, found: Sequence[Found]) -> tuple[FieldMap, ...]:
    """
    Read the field maps of a unit.

    Parameters
    ----------
    reader : Reader
        Collects notes; a map that cannot be used is a note, for scans are used without it.
    found : sequence of Found
        Files of fmap/.

    Returns
    -------
    maps : tuple of FieldMap
        Phase differences, pairs of phases and measured fields, sorted by name.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[str, Found]] = {}
    for item in found:
        same = tuple(sorted((key, value) for key, value in item.entities.items()
                            if key not in ('suffix', 'extension', 'datatype')))  # fmt: skip
        groups.setdefault(same, {})[str(item.get('suffix'))] = item
    maps = [_field_map(reader, group) for _, group in sorted(groups.items())]
    return tuple(one for one in maps if one is not None)


def _field_map(reader: Reader, group: Mapping[str, Found]) -> FieldMap | None:
    """Read one field map; None, with a note, where it cannot be used."""
    main = next((name for name in ('phasediff', 'phase1', 'fieldmap') if name in group), None)
    if main is None:
        names = ', '.join(item.path.name for item in group.values())
        reader.findings.note(
            f'{names}: not used for the distortion; only phase differences, pairs of phases and '
            'measured fields are'
        )
        return None
    scratch = replace(reader, findings=type(reader.findings)())
    probe = Probe.of(scratch, 'fieldmaps', group[main], None)
    made = _read_field(probe, group) if main == 'fieldmap' else _read_phase(probe, group, main)
    reader.findings.files.update(scratch.findings.files)
    for problem in scratch.findings.problems:
        reader.findings.note(f'{problem.message}; the field map is not used')
    return made if probe.ok else None


def _common(probe: Probe, group: Mapping[str, Found]) -> dict[str, Any]:
    """Read what all kinds share: the image to align, and which scans the map is for."""
    magnitude = next((group[name].path for name in MAGNITUDES if name in group), None)
    if magnitude is None:
        probe.fail(f'{probe.file.name}: there is no magnitude image to align it by')
    else:
        probe.reader.findings.files.add(magnitude)
    return {
        'name': probe.file.name.partition('.')[0],
        'magnitude': magnitude,
        'intended': tuple(str(one) for one in as_list(probe.metadata.get('IntendedFor') or [])),
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


def choose_field_map(
    series: Series, maps: Sequence[FieldMap], *, has_gradient_echo: bool, findings: Findings
) -> Series:
    """
    Give a series its field map, and say it where its distortion is not corrected.

    Parameters
    ----------
    series : AslSeries, BoldRun or DscSeries
        With its readout and its metadata.
    maps : sequence of FieldMap
        Of the unit.
    has_gradient_echo : bool
        Whether there is a gradient echo with phase, which gives a field too.
    findings : Findings
        Takes the note.

    Returns
    -------
    series : AslSeries, BoldRun or DscSeries
        With the map that names it (B0FieldSource, then IntendedFor), or the only one where no
        map names any scan; without readout where nothing can be corrected.
    """
    name = series.file.name
    if series.readout is None:
        findings.note(
            f'{name}: distortion is not corrected; its sidecar needs PhaseEncodingDirection, and '
            'EffectiveEchoSpacing or TotalReadoutTime'
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
