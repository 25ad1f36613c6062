"""Sidecars of multi-echo spin and gradient echoes and of asymmetric spin echoes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bids_app import units
from bids_app.bids.input.files import fetch_command, is_not_fetched, read_header
from bids_app.bids.input.metadata.echoes import (
    by_echo,
    check_echo_numbers,
    check_echo_times,
    check_same_grid,
    read_echo_times,
)
from bids_app.bids.input.metadata.phase import recognise_phase
from bids_app.bids.input.metadata.readout import read_slice_axis
from bids_app.bids.input.sidecar import Probe, is_number, shortened
from bids_app.bids.scans import AseSeries, EchoSeries
from bids_app.errors import ExitCode
from bids_app.models.constants import ASE_FEWEST_LONG, ASE_LONG, ASE_SPIN_ECHO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bids_app.bids.input.files import Header
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Reader


UNCORRECTED = "R2' is 12 % too high in the digital phantom"
"""What background gradients do where they are not corrected; see Relaxometry."""
COMPLEX = ('real', 'imag')
PART_NAMES = {'mag': 'magnitude', 'phase': 'phase', 'real': 'real', 'imag': 'imaginary'}
LINE_AXES = {'i': 0, 'j': 1}
"""PhaseEncodingDirection -> axis of the array; slices lie along the third."""
KNOWN_SHARES = {'mocohr': 0.5, 'mocoqr': 0.25}
"""Label of a redundant set, lower case -> share of the phase-encoding lines (ds004873)."""
EPG_TOLERANCE = 0.01
"""Deviation of an echo time relative to the first."""


def is_even_train(echo_times: Sequence[float]) -> bool:
    """
    Tell whether echo times (s) are 1, 2, 3 ... times the first within 1 %, as of equal pulses.

    Examples
    --------
    >>> is_even_train([0.016, 0.032, 0.048]), is_even_train([0.016, 0.035, 0.048])
    (True, False)
    """
    first = echo_times[0]
    return all(
        abs(time - number * first) <= EPG_TOLERANCE * first
        for number, time in enumerate(echo_times, start=1)
    )


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

    `parts` are ``mag``, ``phase``, ``real`` and ``imag``, one file per echo; ``mag``, or else both
    of ``real`` and ``imag``, must be there. None when anything is wrong with it; the reason is
    among the problems.
    """
    sorted_parts = {part: by_echo(parts.get(part, ())) for part in ('mag', 'phase', *COMPLEX)}
    leading = 'mag' if sorted_parts['mag'] else 'real'
    found = sorted_parts[leading]
    probes = [Probe.of(reader, role, item, condition) for item in found]
    first = probes[0]
    needed = [item for part, items in sorted_parts.items() if part != 'phase' for item in items]
    if _report_not_fetched(first, needed):
        return None
    others = any(items for part, items in sorted_parts.items() if part != leading)
    check_echo_numbers(first, found, PART_NAMES[leading] if others else '')
    headers = {probe.file: probe.header((3,)) for probe in probes}
    times = read_echo_times(probes)
    repetition_time = first.repetition_time()
    first.field_strength()
    thickness = _slice_thickness(first)
    scale, phases = _read_phase(sorted_parts['phase'], probes, headers[first.file])
    images = {leading: tuple(probe.file for probe in probes), 'phase': phases}
    if not phases:
        images |= _read_complex(sorted_parts, leading, first, headers)
    if role != 'mese' and not others and 'phase' not in reader.settings.ignore:
        reader.findings.note(
            f"{first.file.name}: no phase; background gradients stay in T2* and R2' "
            f'({UNCORRECTED})'
        )
    check_same_grid(first, headers)
    check_echo_times(first, times)
    axis, n_slices = read_slice_axis(first, headers[first.file]) if role != 'mese' else (2, None)
    if role == 'mese' and (reader.settings.relaxometry.t2_model or '').startswith('epg'):
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
        slice_axis=axis,
        n_slices=n_slices,
        metadata=probes[order[0]].metadata,
    )


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
        check_echo_numbers(probe, parts[part], PART_NAMES[part])
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


def add_reduced_sets(
    reader: Reader, full: EchoSeries, reduced: Mapping[str, EchoSeries]
) -> EchoSeries:
    """
    Join a series with the sets that repeat the centre of its k-space.

    Of the sets, named by their ``acq-`` label, those that can be merged; a note says which cannot,
    and why.
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
    name = item.files[0].name
    if stated is not None:
        if is_number(stated) and 0 < float(str(stated)) <= n_total:
            return int(float(str(stated)))
        reader.findings.note(
            f'{name} is not merged: AcquisitionMatrixPE should be a number from 1 to {n_total} '
            f'(the lines of the full set), found {shortened(stated)}'
        )
        return None
    share = KNOWN_SHARES.get(label.lower())
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
    if not is_even_train(known):
        listed = ', '.join(f'{time:g}' for time in known)
        probe.fail(
            f'{probe.file.name}: the epg models of T2 need echoes at 1, 2, 3 ... times the first; '
            f'found {listed} s; choose --t2-model drop-first'
        )


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


def _read_phase(
    phase: Sequence[Found], magnitudes: Sequence[Probe], header: Header | None
) -> tuple[float, tuple[Path, ...]]:
    """Read scale and phase of a series; a phase that cannot be used costs no magnitude."""
    if not phase:
        return 1.0, ()
    magnitude = magnitudes[0]
    reader = magnitude.reader
    probes = [Probe.of(reader, 'megre_phase', found, magnitude.condition) for found in phase]
    first = probes[0]
    if _report_not_fetched(first, phase):
        return 1.0, ()
    check_echo_numbers(first, phase, 'phase')
    if {item.get('echo') for item in phase} != {one.found.get('echo') for one in magnitudes}:
        first.fail(
            f'{magnitude.file.name}: {len(magnitudes)} echoes of magnitude but {len(phase)} of '
            'phase, which is not used; restore the missing files, or --ignore phase'
        )
    headers = {probe.file: probe.header((3,)) for probe in probes}
    check_same_grid(first, {magnitude.file: header, **headers})
    files = tuple(probe.file for probe in probes)
    if not all(probe.ok for probe in probes):
        return 1.0, ()
    scale = reader.settings.relaxometry.phase_scale
    if scale is not None:
        reader.findings.note(
            f'{files[0].name}: phase is scaled by {scale:g} rad per unit (relaxometry.phase_scale)'
        )
        return scale, files
    scale = 1.0
    if any(probe.metadata.get('Units') != 'rad' for probe in probes):
        scale = _recognise(probes, magnitudes)
    return (1.0, ()) if scale is None else (scale, files)


def _recognise(probes: Sequence[Probe], magnitudes: Sequence[Probe]) -> float | None:
    """Find the scale of a phase that is not in radians; say how, or what it costs."""
    if not all(probe.ok for probe in magnitudes):
        return None
    reader, maker = probes[0].reader, str(probes[0].metadata.get('Manufacturer') or '')
    scale, reason = recognise_phase(
        [probe.file for probe in probes],
        maker,
        magnitude=[probe.file for probe in magnitudes],
        echo_times=[float(probe.metadata['EchoTime']) for probe in magnitudes],
    )
    text = f'{probes[0].file.name}: its Units are {_units_of(probes)} and not rad; {reason}'
    if scale is not None:
        reader.findings.note(text)
        return scale
    reader.findings.warn(
        f"{text}: phase is not used, and background gradients stay in T2* and R2' "
        f'({UNCORRECTED}); set relaxometry.phase_scale (radians per unit)'
    )
    return None


def _units_of(probes: Sequence[Probe]) -> str:
    """Show the units that sidecars state."""
    stated = {str(probe.metadata.get('Units', 'missing')) for probe in probes}
    return ', '.join(sorted(stated))


def read_ase(
    reader: Reader, found: Found, *, condition: str | None, run: str | None
) -> AseSeries | None:
    """
    Read one asymmetric spin echo.

    None when anything is wrong with it; the reason is among the problems.
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
