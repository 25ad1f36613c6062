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
    AseSeries,
    AslSeries,
    BoldRun,
    DataValue,
    DscSeries,
    EchoSeries,
    Event,
    FoundAnatomy,
    FoundScan,
    M0Image,
    ParticipantInputs,
    Problem,
)
from bids_app.bids.conditions import normalise
from bids_app.bids.delays import USED, describe_delays, distinct_delays, expand_times, pairs_of
from bids_app.bids.fieldmaps import field_map_images, read_readout, with_sound_field
from bids_app.bids.reading import Probe, Reader, as_list, choose, is_number
from bids_app.bids.roles import Found
from bids_app.bids.sources import (
    MISSING_VALUES,
    Header,
    companions_of,
    fetch_command,
    find_defect,
    is_not_fetched,
    read_header,
    read_json,
    read_table,
)
from bids_app.errors import AppError, ExitCode
from bids_app.models.constants import (
    ASE_FEWEST_LONG,
    ASE_LONG,
    ASE_SPIN_ECHO,
    DELAYS_FOR_ARTERIES,
    LABELING_EFFICIENCY,
    SUPPRESSION_PER_PULSE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VOLUME_TYPES = ('control', 'label', 'm0scan', 'deltam', 'cbf', 'noRF', 'n/a')

CUT_OFFS = {'QUIPSS': 'pulsed-quipss', 'QUIPSSII': 'pulsed', 'Q2TIPS': 'pulsed'}
"""BolusCutOffTechnique -> how the bolus is shaped."""

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

CBF_UNITS = 'mL/100 g/min'
"""Of CBF that other software computed; blanks and capitals do not count."""

EVENT_TOLERANCE = 1.0
"""Imprecision of a table of events, s."""


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
    if role == 'mese' and reader.settings.relaxometry.t2_model.startswith('epg'):
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
            f'{probe.file.name}: the epg models of T2 need echoes at 1, 2, 3 ... times the first; '
            f'found {listed} s; choose --t2-model drop-first'
        )


def _by_echo(found: Sequence[Found]) -> list[Found]:
    """Sort files by the number of their echo (10 comes after 9)."""
    return sorted(found, key=lambda item: int(str(item.get('echo') or 0)))


def _report_not_fetched(probe: Probe, found: Sequence[Found]) -> bool:
    """Say once for a whole series that its content is not here."""
    absent = [item.path for item in found if is_not_fetched(item.path)]
    if absent:
        probe.fail(
            f'{len(absent)} of {len(found)} files of {probe.file.name} are not fetched '
            f'(links without content); run: {fetch_command(absent)}',
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
    if context and not set(context) - {'cbf', 'm0scan', 'n/a', 'noRF'}:
        return _scanner_cbf(probe, context, condition, run)
    label_type = _label_type(probe)
    labeling, durations = _labeling(probe, label_type, context)
    delays = _delays(probe, context)
    slice_axis, slice_times = _slice_times(probe, header)
    suppression, kept = _suppression(probe)
    efficiency = probe.value(
        'perfusion.labeling_efficiency',
        'LabelingEfficiency',
        '1',
        setting=reader.settings.perfusion.labeling_efficiency,
        default=LABELING_EFFICIENCY.get(label_type),
    )
    calibration = _m0(probe, header, context, m0, suppression=suppression)
    readout = read_readout(probe, header)
    if probe.ok:
        _check_pairs(probe, context)
    if probe.ok and delays and durations:
        _check_delays(probe, labeling, (delays, durations, context), calibration)
    if not probe.ok or calibration is None or not durations:
        return None
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=context,
        label_type=label_type,
        labeling=labeling,
        label_duration=durations,
        post_label_delay=delays,
        slice_times=slice_times,
        slice_axis=slice_axis,
        background_suppression=suppression,
        background_suppression_factor=kept,
        labeling_efficiency=efficiency,
        m0=calibration,
        readout=readout,
        metadata=probe.metadata,
    )


def read_cbf(
    reader: Reader,
    found: Found,
    preprocessed: FoundScan,
    *,
    condition: str | None,
    run: str | None,
) -> AslSeries | None:
    """
    Read CBF that other software computed.

    Parameters
    ----------
    reader : Reader
        Collects problems and notes.
    found : Found
        CBF map, or one map per pair.
    preprocessed : FoundScan
        What is known of it.
    condition, run : str or None
        Of the series it was computed from.

    Returns
    -------
    series : AslSeries or None
        Of cbf volumes; None when anything is wrong with it.
    """
    probe = Probe.of(reader, 'asl', found, condition)
    header = probe.header((3, 4))
    probe.field_strength()
    units = str(probe.metadata.get('Units', CBF_UNITS))
    if ''.join(units.lower().split()) != ''.join(CBF_UNITS.lower().split()):
        probe.fail(f'{found.path.name}: CBF in {CBF_UNITS} expected, its Units are {units!r}')
    if not probe.ok or header is None:
        return None
    n_volumes = header.n_volumes
    if n_volumes == 1:
        reader.findings.note(
            f'{found.path.name}: one map of CBF without its scatter over the volumes '
            '(desc-timeseries_cbf); the spread over the voxels of a tissue, which is an upper '
            'bound, stands for its error'
        )
    reader.findings.note(f'CBF is taken from the derivatives {preprocessed.source}')
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=('cbf',) * n_volumes,
        label_type=str(probe.metadata.get('ArterialSpinLabelingType', '')),
        label_duration=(0.0,) * n_volumes,
        post_label_delay=(0.0,) * n_volumes,
        labeling_efficiency=1.0,
        m0=M0Image(kind='Unneeded', file=None),
        found=preprocessed,
        metadata=probe.metadata,
    )


def _scanner_cbf(
    probe: Probe, context: tuple[str, ...], condition: str | None, run: str | None
) -> AslSeries | None:
    """Read a series of which the scanner computed CBF."""
    if not probe.ok:
        return None
    probe.reader.findings.note(
        f'{probe.file.name}: CBF was computed by the scanner; it is taken as it is, in '
        'mL/100 g/min, and none of the constants of perfusion applies to it'
    )
    return AslSeries(
        condition=condition,
        run=run,
        file=probe.file,
        context=context,
        label_type=str(probe.metadata.get('ArterialSpinLabelingType', '')),
        label_duration=(0.0,) * len(context),
        post_label_delay=(0.0,) * len(context),
        labeling_efficiency=1.0,
        m0=M0Image(kind='Unneeded', file=None),
        metadata=probe.metadata,
    )


def _context(probe: Probe, header: Header | None) -> tuple[str, ...]:
    """Read the type of every volume."""
    companions = companions_of(probe.found, probe.reader.root, 'aslcontext', '.tsv')
    if not companions and probe.found.volume_types:
        return _repeated(probe, header)
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
    if not has_pairs and not {'deltam', 'cbf'} & set(context):
        probe.fail(f'{path.name} lists neither control and label volumes nor deltam or cbf', path)
    return context


def _repeated(probe: Probe, header: Header | None) -> tuple[str, ...]:
    """Repeat the volume types that the role map gives over a series."""
    types = probe.found.volume_types
    if header is None:
        return ()
    if header.n_volumes % len(types):
        probe.fail(
            f'{probe.file.name} has {header.n_volumes} volumes, which is no multiple of '
            f'{len(types)} ({", ".join(types)}, volume_types of the input map)'
        )
        return ()
    probe.reader.findings.note(
        f'volumes of the ASL series are taken to be {", ".join(types)} in turn (input map)'
    )
    return types * (header.n_volumes // len(types))


def _label_type(probe: Probe) -> str:
    """Read how blood was labelled."""
    stated = str(probe.require('ArterialSpinLabelingType', 'write PCASL, CASL or PASL'))
    if stated.upper() not in LABELING_EFFICIENCY and stated != 'None':
        probe.fail(
            f'{probe.file.name}: ArterialSpinLabelingType {stated!r} is not known; it is one of '
            f'{", ".join(LABELING_EFFICIENCY)}'
        )
    if probe.metadata.get('LookLocker') is True:
        probe.fail(
            f'{probe.file.name}: a Look-Locker readout uses up label with every excitation, '
            'which no model of this version describes'
        )
    return stated.upper()


def _labeling(
    probe: Probe, label_type: str, context: Sequence[str]
) -> tuple[str, tuple[float, ...]]:
    """Read the shape of the bolus, and its duration for every volume, s."""
    if label_type != 'PASL':
        probe.require('LabelingDuration', f'{label_type} needs it, in seconds')
        return 'continuous', _times(probe, 'LabelingDuration', 'perfusion.label_duration', context)
    flag = probe.require('BolusCutOffFlag', 'PASL needs it: whether the bolus was cut off')
    if flag is None:
        return 'pulsed', ()
    if flag is not True:
        probe.fail(
            f'{probe.file.name}: BolusCutOffFlag is {flag!r}: the duration of an uncut bolus is '
            'not known, and a CBF that is wrong by the same unknown factor would come of a guess; '
            'PASL is quantified with QUIPSS, QUIPSSII or Q2TIPS'
        )
        return 'pulsed', ()
    technique = str(probe.require('BolusCutOffTechnique', f'one of {", ".join(CUT_OFFS)}'))
    name = technique.upper().replace(' ', '').replace('-', '').replace('_', '')
    if name not in CUT_OFFS:
        probe.fail(
            f'{probe.file.name}: BolusCutOffTechnique {technique!r} is not known; it is one of '
            f'{", ".join(CUT_OFFS)}'
        )
        return 'pulsed', ()
    probe.require('BolusCutOffDelayTime', 'from the inversion to the cut-off, in seconds')
    listed = probe.numbers('BolusCutOffDelayTime')
    if listed is None:
        return 'pulsed', ()
    # of Q2TIPS: first and last saturation pulse; the first ends the bolus
    _add_time(probe, 'BolusCutOffDelayTime', 'perfusion.label_duration', listed[:1])
    return CUT_OFFS[name], listed[:1] * len(context)


def _delays(probe: Probe, context: Sequence[str]) -> tuple[float, ...]:
    """Read the delay of every volume, s."""
    probe.require('PostLabelingDelay', 'the time from the end of labelling to readout, in seconds')
    return _times(probe, 'PostLabelingDelay', 'perfusion.post_label_delay', context)


def _times(probe: Probe, key: str, name: str, context: Sequence[str]) -> tuple[float, ...]:
    """Read times in any form in which they may be written, for every volume, s."""
    listed = probe.numbers(key)
    if listed is None or not context:
        return ()
    times = expand_times(listed, context)
    n_pairs = len(pairs_of(context))
    if times is None:
        probe.fail(
            f'{probe.file.name}: {key} has {len(listed)} values; expected one, one for each of '
            f'the {len(context)} volumes, one for each of the {n_pairs} pairs, or one repetition '
            'of the pairs'
        )
        return ()
    if 1 < len(listed) < n_pairs:
        probe.reader.findings.note(
            f'{probe.file.name}: {key} lists {len(listed)} values for {n_pairs} pairs; the pairs '
            'are taken to run through the list again and again'
        )
    used = [times[index] for pair in pairs_of(context) for index in pair]
    _add_time(probe, key, name, tuple(dict.fromkeys(used)))
    return times


def _add_time(probe: Probe, key: str, name: str, values: Sequence[float]) -> None:
    """Add times to the constants table, numbered where there are several."""
    for number, value in enumerate(values, start=1):
        probe.reader.findings.value(
            DataValue(
                name=f'{name}_{number}' if len(values) > 1 else name,
                value=value,
                unit='s',
                origin=probe.origins[key],
                overruled=probe.overruled.get(key, ''),
            )
        )


def _check_delays(
    probe: Probe,
    labeling: str,
    timing: tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]],
    calibration: M0Image | None,
) -> None:
    """Check that pairs have one delay, and that there is a model for what there is."""
    delays, durations, context = timing
    for pair in pairs_of(context):
        if len({(delays[index], durations[index]) for index in pair}) > 1:
            volumes = ' and '.join(str(index + 1) for index in pair)
            probe.fail(
                f'{probe.file.name}: control and label of a pair (volumes {volumes}) have '
                'different delays'
            )
            return
    _, table = distinct_delays(delays, durations, context)
    wanted = probe.reader.settings.perfusion.model
    if labeling != 'continuous' and table[0][0] <= table[0][1]:
        probe.fail(
            f'{probe.file.name}: BolusCutOffDelayTime {table[0][1]:g} s is not before the readout '
            f'at {table[0][0]:g} s (PostLabelingDelay, of PASL from the inversion on)'
        )
    if len(table) == 1:
        if wanted in ('multi-delay', 'multi-delay-arterial'):
            probe.fail(f'{probe.file.name}: perfusion.model {wanted} needs two delays or more')
        return
    if wanted == 'multi-delay-arterial' and len(table) < DELAYS_FOR_ARTERIES:
        probe.fail(
            f'{probe.file.name}: perfusion.model multi-delay-arterial needs '
            f'{DELAYS_FOR_ARTERIES} delays or more, got {len(table)}; set multi-delay'
        )
        return
    probe.reader.findings.note(f'{probe.file.name}: {describe_delays(delays, durations, context)}')
    if wanted == 'single-delay':
        probe.reader.findings.note(
            f'{probe.file.name}: perfusion.model is single-delay: only the pairs of the longest '
            f'delay ({table[-1][0]:g} s) are used'
        )
    else:
        _refuse_several_delays(probe, labeling, calibration)


def _refuse_several_delays(probe: Probe, labeling: str, calibration: M0Image | None) -> None:
    """Say why several delays cannot be fitted, where they cannot."""
    if labeling == 'pulsed-quipss':
        probe.fail(
            f'{probe.file.name}: QUIPSS saturates the label that has arrived, so several delays '
            'do not follow the general kinetic model; set perfusion.model single-delay'
        )
    if calibration is not None and calibration.kind == 'Absent':
        probe.fail(
            f'{probe.file.name}: several delays need M0: how fast label leaves the tissue '
            'depends on absolute CBF; give an M0 or set perfusion.model single-delay'
        )


def _slice_times(probe: Probe, header: Header | None) -> tuple[int, tuple[float, ...]]:
    """Read axis and time of each slice in the order of the array, s, the first at 0; () for 3D."""
    if str(probe.metadata.get('MRAcquisitionType', '')).upper() == '3D':
        return 2, ()
    times = probe.numbers('SliceTiming')
    if times is None:
        if probe.metadata.get('SliceTiming') is None and probe.role == 'asl':
            probe.reader.findings.note(
                f'{probe.file.name}: no SliceTiming; every slice has the delay of the first'
            )
        return 2, ()
    direction = str(probe.metadata.get('SliceEncodingDirection', 'k'))
    if direction not in ('i', 'i-', 'j', 'j-', 'k', 'k-'):
        probe.fail(
            f'{probe.file.name}: SliceEncodingDirection {direction!r} is not known; it is one of '
            'i, i-, j, j-, k, k-'
        )
        return 2, ()
    axis = 'ijk'.index(direction[0])
    n_slices = header.shape[axis] if header is not None else len(times)
    if len(times) != n_slices:
        probe.fail(f'{probe.file.name}: SliceTiming has {len(times)} values for {n_slices} slices')
    if direction.endswith('-'):
        times = times[::-1]
    return axis, tuple(time - min(times) for time in times)


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
        default = SUPPRESSION_PER_PULSE**pulses
        origin = f'default, {SUPPRESSION_PER_PULSE} for each of {pulses:g} pulses'
    name = 'perfusion.background_suppression_factor'
    chosen = choose(name, '1', [(setting, 'setting'), (default, origin)])
    if chosen is None:
        return bool(declared), 1.0
    probe.reader.findings.value(chosen)
    return bool(declared), chosen.value


def _m0(
    probe: Probe,
    header: Header | None,
    context: Sequence[str],
    found: Sequence[Found],
    *,
    suppression: bool,
) -> M0Image | None:
    """Find the calibration: an image, volumes of the series, a number, or nothing."""
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
        return _separate_m0(probe, header, found)
    if kind == 'Estimate':
        probe.require('M0Estimate', 'M0Type is Estimate: the signal of blood and tissue')
        value = probe.value('perfusion.m0', 'M0Estimate', '1', setting=None, default=None)
        return M0Image(kind='Estimate', file=None, value=value) if value else None
    if kind == 'Absent':
        return _absent_m0(probe, context, suppression=suppression)
    probe.fail(
        f'{probe.file.name}: no M0: M0Type is {kind}; expected Separate (an m0scan image), '
        'Included (m0scan volumes in the series), Estimate (a number, M0Estimate) or Absent (the '
        'control volumes where background is not suppressed, else relative CBF)'
    )
    return None


def _absent_m0(probe: Probe, context: Sequence[str], *, suppression: bool) -> M0Image:
    """Take the controls as M0 where their background is not suppressed; else there is none."""
    controls = tuple(index for index, volume in enumerate(context) if volume == 'control')
    if controls and not suppression:
        probe.reader.findings.note(
            f'{probe.file.name}: M0Type is Absent; the control volumes, whose background is not '
            'suppressed, are taken as M0'
        )
        return M0Image(
            kind='Control',
            file=probe.file,
            volumes=controls,
            repetition_time=_m0_repetition_time(probe, controls, len(context)),
            echo_time=probe.number('EchoTime'),
        )
    why = 'background is suppressed' if controls else 'there are no control volumes'
    probe.reader.findings.note(
        f'{probe.file.name}: M0Type is Absent and {why}; CBF is relative to the median of grey '
        'matter, and no CMRO2 is made from it'
    )
    return M0Image(kind='Absent', file=None)


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
        echo_time=probe.number('EchoTime'),
    )


def _separate_m0(probe: Probe, series: Header | None, found: Sequence[Found]) -> M0Image | None:
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
    same_grid = header is None or series is None or _same_grid(header, series)
    if not same_grid:
        probe.reader.findings.note(
            f'{chosen.path.name} has another grid or position than {probe.file.name}; it is '
            'aligned to it'
        )
    echo_time = calibration.number('EchoTime')
    probe.ok = probe.ok and calibration.ok
    return M0Image(
        kind='Separate',
        file=chosen.path,
        repetition_time=repetition_time,
        same_grid=same_grid,
        readout=None if same_grid else read_readout(calibration, header),
        echo_time=echo_time,
    )


def _same_grid(one: Header, other: Header) -> bool:
    """Tell whether two images have the same voxels."""
    import numpy as np

    return one.shape[:3] == other.shape[:3] and np.allclose(one.affine, other.affine, atol=1e-3)


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
    for path in companions_of(found, reader.root, 'm0scan', '.json'):
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


def _check_pairs(probe: Probe, context: Sequence[str]) -> None:
    """Check that every control has its label; say where the table contradicts the sidecar."""
    counts = {kind: context.count(kind) for kind in USED}
    n_control, n_label = counts['control'], counts['label']
    if n_control != n_label:
        probe.fail(
            f'{probe.file.name}: {n_control} control and {n_label} label volumes; every control '
            'needs its label: correct its aslcontext.tsv, and write n/a for volumes without a '
            'partner'
        )
        return
    if n_control and counts['deltam']:
        probe.fail(
            f'{probe.file.name}: its aslcontext.tsv lists pairs of control and label as well as '
            'deltam; write n/a for those that are not to be used'
        )
        return
    n_pairs = len(pairs_of(context))
    stated = probe.metadata.get('TotalAcquiredPairs')
    if is_number(stated) and n_pairs and stated != n_pairs:
        probe.reader.findings.note(
            f'{probe.file.name}: TotalAcquiredPairs is {stated}, its aslcontext.tsv lists '
            f'{n_pairs} pairs; the table is used'
        )
    if n_pairs == 1:
        probe.reader.findings.note(
            f'{probe.file.name}: one pair only; its noise cannot be told from anatomy, so the '
            'variance of CBF is an upper bound'
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
    readout = read_readout(probe, header)
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
        readout=readout,
        metadata=probe.metadata,
    )


def read_ase(
    reader: Reader, found: Found, *, condition: str | None, run: str | None
) -> AseSeries | None:
    """
    Read one asymmetric spin echo.

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
    series : AseSeries or None
        None when anything is wrong with it.
    """
    probe = Probe.of(reader, 'ase', found, condition)
    header = probe.header((4,))
    probe.require('SpinEchoDisplacement', 'it is the displacement of every volume, s')
    displacements = probe.numbers('SpinEchoDisplacement')
    probe.field_strength()
    if header is not None and displacements and header.n_volumes != len(displacements):
        probe.fail(
            f'{probe.file.name} has {header.n_volumes} volumes, but SpinEchoDisplacement lists '
            f'{len(displacements)} numbers; one per volume is needed'
        )
    if probe.ok and displacements and not is_sufficient(displacements):
        probe.fail(
            f'{probe.file.name}: SpinEchoDisplacement should hold 0 and at least '
            f'{ASE_FEWEST_LONG} displacements of {1e3 * ASE_LONG:g} ms or more, found '
            f'{", ".join(f"{1e3 * tau:g}" for tau in displacements)} ms'
        )
    if not probe.ok or displacements is None:
        return None
    return AseSeries(
        condition=condition,
        run=run,
        file=probe.file,
        displacements=displacements,
        metadata=probe.metadata,
    )


def is_sufficient(displacements: tuple[float, ...]) -> bool:
    """Tell whether the blood volume can be read from displacements (s)."""
    n_long = sum(abs(tau) >= ASE_LONG for tau in displacements)
    return n_long >= ASE_FEWEST_LONG and any(abs(tau) < ASE_SPIN_ECHO for tau in displacements)


def read_bold(
    reader: Reader,
    found: Found,
    *,
    condition: str | None,
    run: str | None,
    preprocessed: FoundScan | None = None,
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
    preprocessed : FoundScan or None
        What is known where `found` is a series that other software preprocessed: movement and
        distortion are undone, and its slices are those of no scan.

    Returns
    -------
    run : BoldRun or None
        None when anything is wrong with it, or when it has no events (a note then).
    """
    task = found.get('task') or ''
    companions = companions_of(found, reader.root, 'events', '.tsv')
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
    if preprocessed is None:
        slice_axis, slice_times = _slice_times(probe, header)
        readout = read_readout(probe, header)
    else:
        slice_axis, slice_times, readout = 2, _start_times(probe, header), None
        _check_confounds(probe, header, preprocessed)
    if repetition_time and max(slice_times, default=0.0) >= repetition_time:
        probe.fail(
            f'{found.path.name}: SliceTiming reaches {max(slice_times):g} s, RepetitionTime is '
            f'{repetition_time:g} s; correct one of them'
        )
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
        slice_times=slice_times,
        slice_axis=slice_axis,
        readout=readout,
        found=preprocessed,
        metadata=probe.metadata,
    )


def _start_times(probe: Probe, header: Header | None) -> tuple[float, ...]:
    """Time after the start of a volume that all slices were brought to, s."""
    if header is None or probe.metadata.get('SliceTimingCorrected') is not True:
        return ()
    start = probe.number('StartTime')
    return (start,) * header.shape[2] if start else ()


def _check_confounds(probe: Probe, header: Header | None, preprocessed: FoundScan) -> None:
    """Check that the table of a preprocessed series has a row per volume."""
    path = preprocessed.confounds
    if path is None:
        probe.reader.findings.note(
            f'{probe.file.name}: no desc-confounds_timeseries.tsv beside it; its movement is not '
            'among the regressors'
        )
        return
    probe.reader.findings.files.add(path)
    rows = probe.attempt(path, read_table, ())
    if rows is not None and header is not None and len(rows) != header.n_volumes:
        probe.fail(
            f'{path.name} has {len(rows)} rows but {probe.file.name} has {header.n_volumes} '
            'volumes; are they of one run of the software?',
            path,
        )


def _note_header_time(probe: Probe, header: Header | None, repetition_time: float | None) -> None:
    """Say where header and sidecar disagree about the time between volumes."""
    if header is None or repetition_time is None or len(header.zooms) < 4:
        return
    stated = header.zooms[3]

    def agrees(time: float) -> bool:
        return abs(time - repetition_time) <= 0.01 * repetition_time

    if stated > 0 and not agrees(stated):
        looks = ', as if in milliseconds' if agrees(stated * units.MILLISECOND) else ''
        probe.reader.findings.note(
            f'{probe.file.name}: its header says {stated:g} s between volumes{looks}, its sidecar '
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
            f'{path.name}: an event starts at {last:g} s, the run lasts {duration:g} s{looks}; '
            'was the run cut short, or is this the table of another run?'
        )
    _check_overlaps(own, known)
    _note_cut(own, known, duration)
    probe.ok = probe.ok and own.ok
    return known


def _check_overlaps(probe: Probe, events: Sequence[Event]) -> None:
    """Refuse events of one condition that overlap; note those of different conditions."""
    for one, other in itertools.pairwise(events):
        shared = one.onset + one.duration - other.onset
        if shared <= EVENT_TOLERANCE:
            continue
        pair = f'{one.trial_type} at {one.onset:g} s and {other.trial_type} at {other.onset:g} s'
        text = f'{probe.file.name}: the events {pair} overlap by {shared:g} s'
        if one.trial_type == other.trial_type:
            probe.fail(f'{text}; correct the table')
        else:
            probe.reader.findings.note(f'{text}; volumes in both count for both conditions')


def _note_cut(probe: Probe, events: Sequence[Event], duration: float | None) -> None:
    """Say that the last event goes on after the run: the run may have been cut short."""
    end = max((event.onset + event.duration for event in events), default=0.0)
    if duration is not None and end > duration + EVENT_TOLERANCE:
        probe.reader.findings.note(
            f'{probe.file.name}: its events last until {end:g} s, the run only {duration:g} s; '
            'was it cut short? The last block counts as far as it was acquired'
        )


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
        ase=tuple(item for item in inputs.ase if item.file not in bad),
        asl=tuple(
            with_sound_field(item, bad)
            for item in inputs.asl
            if not bad & {item.file, item.m0.file}
        ),
        dsc=tuple(with_sound_field(item, bad) for item in inputs.dsc if item.file not in bad),
        bold=tuple(with_sound_field(item, bad) for item in inputs.bold if item.file not in bad),
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
    images |= {item.file: ('ase', item.condition) for item in inputs.ase}
    images |= {item.file: ('dsc', item.condition) for item in inputs.dsc}
    images |= {item.file: ('bold', item.condition) for item in inputs.bold}
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
