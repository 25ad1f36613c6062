"""
Sidecars, tables and headers -> typed acquisitions in SI units.

The only module that reads a BIDS key. Nothing is converted silently: a time that can only be
milliseconds is refused with file, field, value and fix. Nothing is raised for a defect of the
data: it becomes a Problem, and all problems of a participant are collected.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app import units
from bids_app.bids.acquisitions import (
    AslSeries,
    BoldRun,
    DataValue,
    DscSeries,
    EchoSeries,
    Event,
    FoundAnatomy,
    M0Image,
    ParticipantInputs,
    Problem,
)
from bids_app.bids.conditions import normalise
from bids_app.bids.reading import Probe, Reader, as_list, choose, is_number
from bids_app.bids.roles import Found
from bids_app.bids.sources import (
    MISSING_VALUES,
    Header,
    find_companions,
    find_defect,
    is_not_fetched,
    read_header,
    read_json,
    read_table,
)
from bids_app.errors import AppError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VOLUME_TYPES = ('control', 'label', 'm0scan', 'deltam', 'cbf', 'noRF', 'n/a')

LABELING_EFFICIENCY = 0.85
"""Default of (P)CASL; Alsop et al. 2015."""

SIGNAL_KEPT_PER_PULSE = 0.93
"""Default per background-suppression pulse; four give the published 0.75."""

MIN_ECHOES = 3

COMPLEX = ('real', 'imag')

PART_NAMES = {'mag': 'magnitude', 'phase': 'phase', 'real': 'real', 'imag': 'imaginary'}

LINE_AXES = {'i': 0, 'j': 1}
"""PhaseEncodingDirection -> axis of the array; slices lie along the third."""

KNOWN_SHARES = {'mocohr': 0.5, 'mocoqr': 0.25}
"""Label of a redundant set, lower case -> share of the phase-encoding lines (ds004873)."""

EPG_TOLERANCE = 0.01
"""Deviation of an echo time relative to the first."""

MIN_DSC_VOLUMES = 10


def read_echoes(
    reader: Reader,
    *,
    role: str,
    parts: Mapping[str, Sequence[Found]],
    condition: str | None,
    run: str | None,
) -> EchoSeries | None:
    """
    Read one multi-echo series.

    Parameters
    ----------
    reader : Reader
        Collects problems and notes.
    role : str
        ``mese`` or ``megre_mag``.
    parts : mapping of str to sequence of Found
        ``mag``, ``phase``, ``real`` and ``imag``, one file per echo; ``mag``, or else both of
        ``real`` and ``imag``, must be there.
    condition, run : str or None
        Of the series.

    Returns
    -------
    series : EchoSeries or None
        None when anything is wrong with it; the reason is among the problems.
    """
    sorted_parts = {part: _by_echo(parts.get(part, ())) for part in ('mag', 'phase', *COMPLEX)}
    leading = 'mag' if sorted_parts['mag'] else 'real'
    found = sorted_parts[leading]
    probes = [Probe.of(reader, role, item, condition) for item in found]
    first = probes[0]
    if _report_not_fetched(first, [item for items in sorted_parts.values() for item in items]):
        return None
    others = any(items for part, items in sorted_parts.items() if part != leading)
    _check_echo_numbers(first, found, PART_NAMES[leading] if others else '')
    headers = {probe.file: probe.header((3,)) for probe in probes}
    times = _read_echo_times(probes)
    repetition_time = first.repetition_time()
    first.field_strength()
    thickness = _slice_thickness(first)
    scale, phases = _read_phase(reader, sorted_parts['phase'], condition, first, headers)
    images = {leading: tuple(probe.file for probe in probes), 'phase': phases}
    if not phases:
        images |= _read_complex(sorted_parts, leading, first, headers)
    _check_same_grid(first, headers)
    _check_echo_times(first, times)
    if role == 'mese' and reader.settings.relaxometry.t2_model == 'epg':
        _check_train_of_epg(first, times)
    if not all(probe.ok for probe in probes):
        return None
    order = sorted(range(len(times)), key=lambda index: times[index] or 0.0)
    ordered = {
        part: tuple(files[index] for index in order) if files else ()
        for part, files in images.items()
    }
    return EchoSeries(
        condition=condition,
        run=run,
        magnitude=ordered.get('mag', ()),
        phase=ordered['phase'],
        phase_scale=scale,
        real=ordered.get('real', ()),
        imaginary=ordered.get('imag', ()),
        echo_times=tuple(sorted(time for time in times if time is not None)),
        repetition_time=repetition_time,
        slice_thickness=thickness,
        metadata=probes[order[0]].metadata,
    )


def _read_echo_times(probes: Sequence[Probe]) -> list[float | None]:
    """Read the echo times; what is wrong with several echoes in the same way is said once."""
    problems = probes[0].reader.findings.problems
    n_before = len(problems)
    times = [
        probe.number('EchoTime', 'it is the time axis of the decay', required=True)
        for probe in probes
    ]
    kinds: dict[str, list[Problem]] = {}
    for problem in problems[n_before:]:
        kinds.setdefault(re.sub(r'[\d.]+', '', problem.message), []).append(problem)
    problems[n_before:] = [
        replace(first, message=f'{first.message}; the same for {len(others)} more echoes')
        if others
        else first
        for first, *others in kinds.values()
    ]
    return times


def _slice_thickness(probe: Probe) -> float | None:
    """Read the thickness of a slice, m; in 3D the partitions fill the slab."""
    thickness = probe.number('SliceThickness')
    is_3d = str(probe.metadata.get('MRAcquisitionType', '')).upper() == '3D'
    return None if thickness is None or is_3d else thickness * units.MILLIMETRE


def _read_complex(
    parts: Mapping[str, Sequence[Found]],
    leading: str,
    probe: Probe,
    headers: dict[Path, Header | None],
) -> dict[str, tuple[Path, ...]]:
    """Take real and imaginary parts where both are there; adds their headers to those checked."""
    present = [part for part in COMPLEX if parts[part]]
    if not present:
        return {}
    if len(present) < len(COMPLEX):
        text = f'{probe.file.name}: only the {PART_NAMES[present[0]]} part is there'
        if leading == 'real':
            probe.fail(f'{text}; restore the other')
        else:
            probe.reader.findings.note(f'{text}; it is not used')
        return {}
    n_echoes = len(parts[leading])
    for part in COMPLEX:
        _check_echo_numbers(probe, parts[part], PART_NAMES[part])
        if len(parts[part]) != n_echoes:
            probe.fail(
                f'{probe.file.name}: {n_echoes} echoes of {PART_NAMES[leading]} but '
                f'{len(parts[part])} of the {PART_NAMES[part]} part; restore the missing files or '
                'leave the complex parts alone with --ignore phase'
            )
            return {}
    probes = {
        part: [Probe.of(probe.reader, f'megre_{part}', item, probe.condition) for item in items]
        for part, items in parts.items()
        if part in COMPLEX
    }
    for part in COMPLEX:
        if part != leading:
            headers |= {item.file: item.header((3,)) for item in probes[part]}
            probe.ok = probe.ok and all(item.ok for item in probes[part])
    return {part: tuple(item.file for item in items) for part, items in probes.items()}


def with_reduced(
    reader: Reader, full: EchoSeries, reduced: Mapping[str, EchoSeries]
) -> EchoSeries:
    """
    Join a series with the sets that repeat the centre of its k-space.

    Parameters
    ----------
    reader : Reader
        Collects notes.
    full : EchoSeries
        With all lines.
    reduced : mapping of str to EchoSeries
        By their ``acq-`` label.

    Returns
    -------
    series : EchoSeries
        With the sets that can be merged; a note says which cannot, and why.
    """
    axis = LINE_AXES.get(str(full.metadata.get('PhaseEncodingDirection', ''))[:1])
    if axis is None:
        reader.findings.note(
            f'{full.files[0].name}: redundant sets are not merged, PhaseEncodingDirection of the '
            'full set is not i or j'
        )
        return full
    n_total = read_header(full.files[0]).shape[axis]
    usable = []
    for label, item in reduced.items():
        reason = _obstacle(full, item)
        if reason:
            reader.findings.note(f'{item.files[0].name} is not merged: {reason}')
            continue
        lines = _lines(reader, label, item, n_total)
        if lines is not None:
            usable.append(replace(item, n_lines=lines, line_axis=axis))
    if not usable:
        return full
    return replace(full, n_lines=n_total, line_axis=axis, reduced=tuple(usable))


def _obstacle(full: EchoSeries, item: EchoSeries) -> str:
    """Say why a reduced set cannot be merged with the full one; empty if it can."""
    if not (full.has_phase and item.has_phase):
        return 'without phase (or real and imaginary parts) sets cannot be merged'
    if len(item.echo_times) != len(full.echo_times):
        return f'{len(item.echo_times)} echoes, the full set has {len(full.echo_times)}'
    if read_header(item.files[0]).shape != read_header(full.files[0]).shape:
        return 'another matrix than the full set'
    return ''


def _lines(reader: Reader, label: str, item: EchoSeries, n_total: int) -> int | None:
    """Find how many lines a reduced set has: from the sidecar, else from its known label."""
    stated = item.metadata.get('AcquisitionMatrixPE')
    if is_number(stated) and 0 < float(str(stated)) <= n_total:
        return int(float(str(stated)))
    share = KNOWN_SHARES.get(label.lower())
    name = item.files[0].name
    if share is None:
        reader.findings.note(
            f'{name} is not merged: its sidecar lacks AcquisitionMatrixPE, the number of '
            'phase-encoding lines that were acquired'
        )
        return None
    reader.findings.note(f'{name}: no AcquisitionMatrixPE; {share:g} of the lines is assumed')
    return round(share * n_total)


def _check_train_of_epg(probe: Probe, times: Sequence[float | None]) -> None:
    """Check that the echoes are where a train of equal refocusing pulses puts them."""
    known = sorted(time for time in times if time is not None)
    if not known or len(known) < len(times):
        return
    expected = [known[0] * number for number in range(1, len(known) + 1)]
    pairs = zip(known, expected, strict=True)
    if any(abs(found - wanted) > EPG_TOLERANCE * known[0] for found, wanted in pairs):
        listed = ', '.join(f'{time:g}' for time in known)
        probe.fail(
            f'{probe.file.name}: --t2-model epg needs echoes at 1, 2, 3 ... times the first; '
            f'found {listed} s; choose --t2-model drop-first'
        )


def _by_echo(found: Sequence[Found]) -> list[Found]:
    """Sort files by the number of their echo (10 comes after 9)."""
    return sorted(found, key=lambda item: int(str(item.get('echo') or 0)))


def _report_not_fetched(probe: Probe, found: Sequence[Found]) -> bool:
    """Say once for a whole series that its content is not here."""
    absent = [item.path for item in found if is_not_fetched(item.path)]
    if absent:
        names = ' '.join(str(path) for path in absent)
        probe.fail(
            f'{len(absent)} of {len(found)} files of {probe.file.name} are not fetched '
            f'(links without content); run: datalad get {names}',
            absent[0],
            ExitCode.MISSING_INPUT,
        )
    return bool(absent)


def _check_echo_numbers(probe: Probe, found: Sequence[Found], part: str) -> None:
    """Check that the echoes are numbered 1 to n without a gap."""
    numbers = [item.get('echo') or '' for item in found]
    label = f'{part} echoes' if part else 'echoes'
    if not all(number.isdigit() for number in numbers):
        probe.fail(f'{probe.file.name}: every file of a multi-echo series needs the entity echo-')
        return
    counted = sorted(int(number) for number in numbers)
    if len(set(counted)) < len(counted):
        names = ', '.join(item.path.name for item in found)
        probe.fail(
            f'{probe.file.name}: several files for the same of the {label} ({names}); choose '
            'with --bids-filter-file'
        )
        return
    expected = range(1, counted[-1] + 1)
    missing = sorted(set(expected) - set(counted))
    if missing:
        listed = ', '.join(map(str, missing))
        probe.fail(
            f'{probe.file.name}: {label} {listed} missing (found '
            f'{", ".join(map(str, counted))}); restore the file or remove the whole series'
        )
    elif len(counted) < MIN_ECHOES:
        probe.fail(f'{probe.file.name}: {len(counted)} {label}, at least {MIN_ECHOES} are needed')


def _check_echo_times(probe: Probe, times: Sequence[float | None]) -> None:
    """Check that echo times rise with the echo number."""
    known = [time for time in times if time is not None]
    if len(known) == len(times) and any(b <= a for a, b in itertools.pairwise(known)):
        listed = ', '.join(f'{time:g}' for time in known)
        probe.fail(f'{probe.file.name}: EchoTime must rise with the echo number; found {listed} s')


def _check_same_grid(probe: Probe, headers: Mapping[Path, Header | None]) -> None:
    """Check that the images of a series share one voxel grid."""
    import numpy as np

    known = [(path, header) for path, header in headers.items() if header is not None]
    for path, header in known[1:]:
        reference = known[0][1]
        if header.shape != reference.shape:
            probe.fail(
                f'{path.name} has the shape {header.shape} where {known[0][0].name} has '
                f'{reference.shape}; all files of a series must share one grid',
                path,
            )
        elif not np.allclose(header.affine, reference.affine, atol=1e-3):
            probe.fail(
                f'{path.name} has another affine than {known[0][0].name}; all files of a series '
                'must share one grid',
                path,
            )


def _read_phase(
    reader: Reader,
    phase: Sequence[Found],
    condition: str | None,
    magnitude: Probe,
    headers: dict[Path, Header | None],
) -> tuple[float, tuple[Path, ...]]:
    """Read scale and phase of a series; adds its headers to those that must agree."""
    if not phase:
        return 1.0, ()
    probes = [Probe.of(reader, 'megre_phase', found, condition) for found in phase]
    echoes = {item.get('echo') for item in phase}
    n_magnitude = len(headers)
    _check_echo_numbers(magnitude, phase, 'phase')
    if len(echoes) != n_magnitude:
        magnitude.fail(
            f'{magnitude.file.name}: {n_magnitude} echoes of magnitude but {len(echoes)} of '
            'phase; restore the missing files or leave the phase alone with --ignore phase'
        )
    headers |= {probe.file: probe.header((3,)) for probe in probes}
    magnitude.ok = magnitude.ok and all(probe.ok for probe in probes)
    files = tuple(probe.file for probe in probes)
    scale = reader.settings.relaxometry.phase_scale
    if scale is not None:
        reader.findings.note(
            f'{files[0].name}: phase is scaled by {scale:g} rad per unit (relaxometry.phase_scale)'
        )
        return scale, files
    stated = {str(probe.metadata.get('Units', 'missing')) for probe in probes}
    if stated != {'rad'}:
        reader.findings.note(
            f'{files[0].name}: phase is not used, its Units are '
            f'{", ".join(sorted(stated))} and not rad; if you know its scale, set '
            'relaxometry.phase_scale (radians per unit)'
        )
        return 1.0, ()
    return 1.0, files


def read_asl(
    reader: Reader,
    found: Found,
    *,
    m0: Sequence[Found],
    condition: str | None,
    run: str | None,
) -> AslSeries | None:
    """
    Read one arterial spin labeling series.

    Parameters
    ----------
    reader : Reader
        Collects problems, notes and values.
    found : Found
        The series.
    m0 : sequence of Found
        All separate M0 images of the unit.
    condition, run : str or None
        Of the series.

    Returns
    -------
    series : AslSeries or None
        None when anything is wrong with it; the reason is among the problems.
    """
    probe = Probe.of(reader, 'asl', found, condition)
    header = probe.header((3, 4))
    probe.field_strength()
    context = _context(probe, header)
    label_type = _label_type(probe)
    label_duration = _label_duration(probe)
    delays = _delays(probe, context)
    slice_times = _slice_times(probe, header)
    suppression, kept = _suppression(probe)
    efficiency = probe.value(
        'perfusion.labeling_efficiency',
        'LabelingEfficiency',
        '1',
        setting=reader.settings.perfusion.labeling_efficiency,
        default=LABELING_EFFICIENCY,
    )
    calibration = _m0(probe, context, m0)
    _note_pairs(probe, context)
    if not probe.ok or calibration is None or label_duration is None:
        return None
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=context,
        label_type=label_type,
        label_duration=label_duration,
        post_label_delay=delays,
        slice_times=slice_times,
        background_suppression=suppression,
        background_suppression_factor=kept,
        labeling_efficiency=efficiency,
        m0=calibration,
        metadata=probe.metadata,
    )


def _context(probe: Probe, header: Header | None) -> tuple[str, ...]:
    """Read the type of every volume."""
    companions = find_companions(probe.file, probe.reader.root, 'aslcontext', '.tsv')
    if not companions:
        probe.fail(
            f'{probe.file.name}: its aslcontext.tsv is missing; it says which volume is control '
            'and which is label'
        )
        return ()
    path = companions[-1]
    probe.reader.findings.files.add(path)
    rows = probe.attempt(path, read_table, ('volume_type',))
    if rows is None:
        return ()
    context = tuple(row['volume_type'] for row in rows)
    if header is not None and len(context) != header.n_volumes:
        probe.fail(
            f'{path.name} lists {len(context)} volumes but {probe.file.name} has '
            f'{header.n_volumes}; they must agree',
            path,
        )
    unknown = sorted(set(context) - set(VOLUME_TYPES))
    if unknown:
        probe.fail(
            f'{path.name}: unknown volume_type {unknown[0]!r}; allowed: {", ".join(VOLUME_TYPES)}',
            path,
        )
    has_pairs = 'control' in context and 'label' in context
    if not has_pairs and 'deltam' not in context:
        probe.fail(f'{path.name} lists neither control and label volumes nor deltam', path)
    return context


def _label_type(probe: Probe) -> str:
    """Read how blood was labelled."""
    stated = str(probe.require('ArterialSpinLabelingType', 'write PCASL or CASL'))
    if stated.upper() not in ('PCASL', 'CASL') and stated != 'None':
        probe.fail(
            f'{probe.file.name}: ArterialSpinLabelingType {stated!r} is not supported yet; '
            'PCASL and CASL are'
        )
    return stated.upper()


def _label_duration(probe: Probe) -> float | None:
    """Read the duration of labelling, s."""
    probe.require('LabelingDuration', '(P)CASL needs it, in seconds')
    listed = probe.numbers('LabelingDuration')
    if listed is None:
        return None
    if len(set(listed)) > 1:
        probe.fail(f'{probe.file.name}: several LabelingDuration values are not supported yet')
        return None
    probe.reader.findings.value(
        DataValue(
            name='perfusion.label_duration',
            value=listed[0],
            unit='s',
            origin=probe.origins['LabelingDuration'],
            overruled=probe.overruled.get('LabelingDuration', ''),
        )
    )
    return listed[0]


def _delays(probe: Probe, context: Sequence[str]) -> tuple[float, ...]:
    """Read the delay of every volume, s: one for all, or one per volume."""
    probe.require('PostLabelingDelay', 'the time from the end of labelling to readout, in seconds')
    listed = probe.numbers('PostLabelingDelay')
    if listed is None or not context:
        return ()
    delays = listed * len(context) if len(listed) == 1 else listed
    if len(delays) != len(context):
        probe.fail(
            f'{probe.file.name}: PostLabelingDelay has {len(delays)} values; expected one, or one '
            f'for each of the {len(context)} volumes'
        )
        return ()
    labelled = [
        delay
        for delay, kind in zip(delays, context, strict=True)
        if kind in ('control', 'label', 'deltam')
    ]
    if len(set(labelled)) > 1:
        shown = ', '.join(f'{delay:g}' for delay in sorted(set(labelled)))
        probe.fail(f'{probe.file.name}: several delays ({shown} s) are not supported yet')
    if labelled:
        probe.reader.findings.value(
            DataValue(
                name='perfusion.post_label_delay',
                value=labelled[0],
                unit='s',
                origin=probe.origins['PostLabelingDelay'],
                overruled=probe.overruled.get('PostLabelingDelay', ''),
            )
        )
    return delays


def _slice_times(probe: Probe, header: Header | None) -> tuple[float, ...]:
    """Read the time of each slice in the order of the array, s, the first at 0; empty for 3D."""
    if str(probe.metadata.get('MRAcquisitionType', '')).upper() == '3D':
        return ()
    times = probe.numbers('SliceTiming')
    if times is None:
        if probe.metadata.get('SliceTiming') is None:
            probe.reader.findings.note(
                f'{probe.file.name}: no SliceTiming; every slice has the delay of the first'
            )
        return ()
    direction = str(probe.metadata.get('SliceEncodingDirection', 'k'))
    if direction not in ('k', 'k-'):
        probe.fail(
            f'{probe.file.name}: SliceEncodingDirection {direction!r} is not supported yet; '
            'slices along the third axis (k, k-) are'
        )
    n_slices = header.shape[2] if header is not None else len(times)
    if len(times) != n_slices:
        probe.fail(f'{probe.file.name}: SliceTiming has {len(times)} values for {n_slices} slices')
    if direction == 'k-':
        times = times[::-1]
    return tuple(time - min(times) for time in times)


def _suppression(probe: Probe) -> tuple[bool, float]:
    """Read background suppression: whether, and the signal its pulses keep."""
    setting = probe.reader.settings.perfusion.background_suppression_factor
    declared = probe.metadata.get('BackgroundSuppression')
    pulses = probe.number('BackgroundSuppressionNumberPulses')
    if declared is None and setting is None:
        probe.require('BackgroundSuppression', 'write true or false')
        return False, 1.0
    if declared and pulses is None and setting is None:
        probe.fail(
            f'{probe.file.name}: background suppression is declared but the number of pulses is '
            'not; add BackgroundSuppressionNumberPulses, or give the signal they keep with '
            'perfusion.background_suppression_factor'
        )
        return True, 1.0
    default, origin = 1.0, 'no background suppression'
    if declared and pulses is not None:
        default = SIGNAL_KEPT_PER_PULSE**pulses
        origin = f'default, {SIGNAL_KEPT_PER_PULSE} for each of {pulses:g} pulses'
    name = 'perfusion.background_suppression_factor'
    chosen = choose(name, '1', [(setting, 'setting'), (default, origin)])
    if chosen is None:
        return bool(declared), 1.0
    probe.reader.findings.value(chosen)
    return bool(declared), chosen.value


def _m0(probe: Probe, context: Sequence[str], found: Sequence[Found]) -> M0Image | None:
    """Find the calibration image."""
    stated = probe.metadata.get('M0Type')
    kind = str(stated)
    inside = tuple(index for index, volume in enumerate(context) if volume == 'm0scan')
    if stated is None:
        kind = 'Included' if inside else 'Separate' if found else 'missing'
        if kind != 'missing':
            probe.reader.findings.note(f'{probe.file.name}: no M0Type; {kind} is assumed')
    if kind == 'Included':
        return _included_m0(probe, inside, len(context))
    if kind == 'Separate':
        return _separate_m0(probe, found)
    probe.fail(
        f'{probe.file.name}: M0Type {kind} is not supported yet; Separate (an m0scan image) and '
        'Included (m0scan volumes in the series) are'
    )
    return None


def _included_m0(probe: Probe, inside: tuple[int, ...], n_volumes: int) -> M0Image | None:
    """M0 volumes inside the series."""
    if not inside and n_volumes:
        probe.fail(f'{probe.file.name}: M0Type is Included but its aslcontext.tsv lists no m0scan')
    if not inside:
        return None
    return M0Image(
        kind='Included',
        file=probe.file,
        volumes=inside,
        repetition_time=_m0_repetition_time(probe, inside, n_volumes),
    )


def _separate_m0(probe: Probe, found: Sequence[Found]) -> M0Image | None:
    """M0 image beside the series."""
    chosen = _match_m0(probe, found)
    if chosen is None:
        probe.fail(
            f'{probe.file.name}: no m0scan image belongs to it; name the series in the '
            'IntendedFor of an m0scan, or give both the same entities'
        )
        return None
    calibration = Probe.of(probe.reader, 'm0', chosen, probe.condition)
    header = calibration.header((3, 4))
    n_volumes = header.n_volumes if header else 0
    repetition_time = _m0_repetition_time(calibration, tuple(range(n_volumes)), n_volumes)
    probe.ok = probe.ok and calibration.ok
    return M0Image(kind='Separate', file=chosen.path, repetition_time=repetition_time)


def _match_m0(probe: Probe, found: Sequence[Found]) -> Found | None:
    """Choose the M0 of a series: IntendedFor, else equal entities, else the only one."""
    for item in found:
        intended = _intended_for(probe.reader, item)
        if any(probe.file.as_posix().endswith(f'/{name}') for name in intended):
            return item
    names = ('session', 'task', 'acquisition', 'reconstruction', 'direction', 'run')
    for item in found:
        if all(item.get(name) == probe.found.get(name) for name in names):
            return item
    session = [item for item in found if item.get('session') == probe.found.get('session')]
    return session[0] if len(session) == 1 else None


def _intended_for(reader: Reader, found: Found) -> list[str]:
    """Read IntendedFor as paths that end the path of a file; errors are met when it is used."""
    intended: list[str] = []
    for path in find_companions(found.path, reader.root, 'm0scan', '.json'):
        try:
            stated = read_json(path).get('IntendedFor', [])
        except AppError:
            continue
        intended += [str(name).removeprefix('bids::').lstrip('/') for name in as_list(stated)]
    return intended


def _m0_repetition_time(probe: Probe, volumes: Sequence[int], n_volumes: int) -> float | None:
    """Repetition time of the M0 volumes, s; None = unknown, no recovery correction."""
    findings = probe.reader.findings
    listed = probe.numbers('RepetitionTimePreparation') or ()
    chosen = [listed[index] for index in volumes] if len(listed) == n_volumes else listed[:1]
    if len(listed) not in (0, 1, n_volumes):
        probe.fail(
            f'{probe.file.name}: RepetitionTimePreparation has {len(listed)} values; expected '
            f'one, or one for each of the {n_volumes} volumes'
        )
        return None
    if chosen and min(chosen) > 0:
        if len(set(chosen)) > 1:
            probe.fail(f'{probe.file.name}: the M0 volumes have several repetition times')
        return float(chosen[0])
    stated = '0' if chosen else 'absent'
    repetition_time = probe.repetition_time()
    if repetition_time is None:
        findings.note(
            f'{probe.file.name}: RepetitionTimePreparation is {stated} and there is no '
            'RepetitionTime; M0 is not corrected for incomplete recovery'
        )
    else:
        findings.note(
            f'{probe.file.name}: RepetitionTimePreparation is {stated}; RepetitionTime '
            f'({repetition_time:g} s) is used for the recovery of M0'
        )
    return repetition_time


def _note_pairs(probe: Probe, context: Sequence[str]) -> None:
    """Say where the number of pairs differs from what is stated; the table counts."""
    n_control, n_label = context.count('control'), context.count('label')
    stated = probe.metadata.get('TotalAcquiredPairs')
    n_pairs = min(n_control, n_label) or context.count('deltam')
    if is_number(stated) and n_pairs and stated != n_pairs:
        probe.reader.findings.note(
            f'{probe.file.name}: TotalAcquiredPairs is {stated}, its aslcontext.tsv lists '
            f'{n_pairs} pairs; the table is used'
        )
    if n_control != n_label:
        probe.reader.findings.note(
            f'{probe.file.name}: {n_control} control and {n_label} label volumes; '
            'those without a partner are not used'
        )


def read_dsc(
    reader: Reader, found: Found, *, condition: str | None, run: str | None
) -> DscSeries | None:
    """
    Read one bolus-tracking series.

    Parameters
    ----------
    reader : Reader
        Collects problems.
    found : Found
        The series.
    condition, run : str or None
        Of the series.

    Returns
    -------
    series : DscSeries or None
        None when anything is wrong with it.
    """
    probe = Probe.of(reader, 'dsc', found, condition)
    header = probe.header((4,))
    echo_time = probe.number('EchoTime', 'it scales signal to relaxation rate', required=True)
    repetition_time = probe.repetition_time(required=True)
    probe.field_strength()
    if header is not None and header.n_volumes < MIN_DSC_VOLUMES:
        probe.fail(
            f'{probe.file.name} has {header.n_volumes} volumes; a bolus needs at least '
            f'{MIN_DSC_VOLUMES}'
        )
    if not probe.ok or echo_time is None or repetition_time is None:
        return None
    return DscSeries(
        condition=condition,
        run=run,
        file=probe.file,
        echo_time=echo_time,
        repetition_time=repetition_time,
        metadata=probe.metadata,
    )


def read_bold(
    reader: Reader, found: Found, *, condition: str | None, run: str | None
) -> BoldRun | None:
    """
    Read one task BOLD run with its events.

    Parameters
    ----------
    reader : Reader
        Collects problems and notes.
    found : Found
        The series.
    condition : str or None
        Only with sessions as conditions.
    run : str or None
        Label of the run.

    Returns
    -------
    run : BoldRun or None
        None when anything is wrong with it, or when it has no events (a note then).
    """
    task = found.get('task') or ''
    companions = find_companions(found.path, reader.root, 'events', '.tsv')
    if not companions:
        reader.findings.note(
            f'{found.path.name}: no events.tsv; percent BOLD change is not made from it'
        )
        return None
    probe = Probe.of(reader, 'bold', found, condition)
    header = probe.header((4,))
    repetition_time = probe.repetition_time(required=True)
    echo_time = probe.number('EchoTime')
    probe.field_strength()
    duration = header.n_volumes * repetition_time if header and repetition_time else None
    events = _events(probe, companions[-1], duration)
    _note_header_time(probe, header, repetition_time)
    if not probe.ok or header is None or repetition_time is None:
        return None
    return BoldRun(
        task=task,
        run=run,
        condition=condition,
        file=probe.file,
        events_file=companions[-1],
        events=events,
        repetition_time=repetition_time,
        n_volumes=header.n_volumes,
        echo_time=echo_time,
        metadata=probe.metadata,
    )


def _note_header_time(probe: Probe, header: Header | None, repetition_time: float | None) -> None:
    """Say where header and sidecar disagree about the time between volumes."""
    if header is None or repetition_time is None or len(header.zooms) < 4:
        return
    stated = header.zooms[3]
    if stated > 0 and abs(stated - repetition_time) > 0.01 * repetition_time:
        probe.reader.findings.note(
            f'{probe.file.name}: its header says {stated:g} between volumes, its sidecar '
            f'{repetition_time:g} s; the sidecar is used'
        )


def trial_types(path: Path) -> tuple[str, ...]:
    """
    List the condition labels of an events table; none when it cannot be read.

    Parameters
    ----------
    path : Path
        An events.tsv.

    Returns
    -------
    labels : tuple of str
        Normalised, sorted.
    """
    try:
        rows = read_table(path, ('trial_type',))
    except AppError:
        return ()
    labels = {
        normalise(row['trial_type']) for row in rows if row['trial_type'] not in MISSING_VALUES
    }
    return tuple(sorted(labels - {''}))


def _events(probe: Probe, path: Path, duration: float | None) -> tuple[Event, ...]:
    """Read the blocks of a run; every defect is a problem of the role events."""
    own = Probe(
        reader=probe.reader,
        role='events',
        found=Found(path=path, entities=probe.found.entities),
        condition=probe.condition,
    )
    probe.reader.findings.files.add(path)
    rows = own.attempt(path, read_table, ('onset', 'duration', 'trial_type')) or []
    events = [
        _event(own, number, row)
        for number, row in enumerate(rows, start=2)
        if row['trial_type'] not in MISSING_VALUES
    ]
    known = tuple(sorted((e for e in events if e is not None), key=lambda event: event.onset))
    if own.ok and not known:
        own.fail(f'{path.name} lists no event with a trial_type')
    last = known[-1].onset if known else 0.0
    if duration is not None and last >= duration:
        looks = '; it looks like milliseconds' if last * units.MILLISECOND < duration else ''
        own.fail(
            f'{path.name}: an event starts at {last:g} s, the run lasts {duration:g} s{looks}'
        )
    probe.ok = probe.ok and own.ok
    return known


def _event(probe: Probe, number: int, row: Mapping[str, str]) -> Event | None:
    """Read one row."""
    numbers = []
    for column in ('onset', 'duration'):
        try:
            value = float(row[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (column == 'duration' and value < 0):
            probe.fail(
                f'{probe.file.name}, line {number}: {column} should be a number of seconds, '
                f'found {row[column]!r}'
            )
            return None
        numbers.append(value)
    return Event(onset=numbers[0], duration=numbers[1], trial_type=normalise(row['trial_type']))


def read_field_strength(reader: Reader) -> float:
    """
    Choose the main field from the setting and from what the sidecars said.

    Parameters
    ----------
    reader : Reader
        After all scans have been read.

    Returns
    -------
    b0 : float
        T; NaN where it is unknown or the sidecars contradict each other (a problem then).
    """
    stated = reader.findings.fields_of_b0
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


# --------------------------------------------------------------------------- whole images


def inspect_files(inputs: ParticipantInputs) -> tuple[Problem, ...]:
    """
    Read every image of a unit once and list those that cannot be used.

    Parameters
    ----------
    inputs : ParticipantInputs
        As collected.

    Returns
    -------
    problems : tuple of Problem
        Truncated, all NaN, all zero or constant images, and phases that are not in radians.
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
        defect = find_defect(path, phase_scale=scales.get(path), may_be_constant=path in maps)
        if defect is not None:
            message, code = defect
            problems.append(
                Problem(role=role, message=message, file=path, code=code, condition=condition)
            )
    return tuple(problems)


def without_defects(inputs: ParticipantInputs) -> ParticipantInputs:
    """
    Leave out what cannot be used after reading every image once.

    Parameters
    ----------
    inputs : ParticipantInputs
        As collected.

    Returns
    -------
    inputs : ParticipantInputs
        Without the series that hold a defective image, whose problems are added.
    """
    problems = inspect_files(inputs)
    bad = {problem.file for problem in problems}
    if not bad:
        return inputs
    anatomy = inputs.anatomy
    return replace(
        inputs,
        t1w=tuple(path for path in inputs.t1w if path not in bad),
        anatomy=None if anatomy and bad & set(_anatomy_images(anatomy)) else anatomy,
        mese=tuple(item for item in inputs.mese if not bad & set(item.files)),
        megre=tuple(item for item in inputs.megre if not bad & set(item.files)),
        asl=tuple(item for item in inputs.asl if not bad & {item.file, item.m0.file}),
        dsc=tuple(item for item in inputs.dsc if item.file not in bad),
        bold=tuple(item for item in inputs.bold if item.file not in bad),
        problems=(*inputs.problems, *problems),
    )


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
    images |= {item.file: ('dsc', item.condition) for item in inputs.dsc}
    images |= {item.file: ('bold', item.condition) for item in inputs.bold}
    return images
