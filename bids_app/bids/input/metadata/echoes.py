"""Numbers, times and grids of the echoes of one series."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bids_app.bids.input.files import Header
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Probe
    from bids_app.bids.scans import Problem


FEWEST = 3
"""Echoes from which a decay and its error follow."""


def read_echo_times(probes: Sequence[Probe]) -> list[float | None]:
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


def by_echo(found: Sequence[Found]) -> list[Found]:
    """Sort files by the number of their echo (10 comes after 9)."""

    def number(item: Found) -> int:
        echo = item.get('echo') or ''
        return int(echo) if echo.isdigit() else 0

    return sorted(found, key=number)


def check_echo_numbers(
    probe: Probe, found: Sequence[Found], part: str = '', *, fewest: int = FEWEST
) -> None:
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
    elif len(counted) < fewest:
        probe.fail(f'{probe.file.name}: {len(counted)} {label}, at least {fewest} are needed')


def check_echo_times(probe: Probe, times: Sequence[float | None]) -> None:
    """Check that echo times differ; BIDS does not say that they rise with the echo number."""
    known = [time for time in times if time is not None]
    listed = ', '.join(f'{time:g}' for time in known)
    if len(set(known)) < len(known):
        probe.fail(f'{probe.file.name}: every echo needs its own EchoTime; found {listed} s')
    elif known != sorted(known):
        probe.reader.findings.note(
            f'{probe.file.name}: echoes are sorted by their EchoTime, which does not rise with '
            f'the echo number ({listed} s)'
        )


def check_same_grid(probe: Probe, headers: Mapping[Path, Header | None]) -> None:
    """Check that the images of a series share one voxel grid."""
    known = [(path, header) for path, header in headers.items() if header is not None]
    for path, header in known[1:]:
        reference = known[0][1]
        if header.shape != reference.shape:
            probe.fail(
                f'{path.name} has the shape {header.shape} where {known[0][0].name} has '
                f'{reference.shape}; all files of a series must share one grid',
                path,
            )
        elif not header.has_grid_of(reference):
            probe.fail(
                f'{path.name} has another affine than {known[0][0].name}; all files of a series '
                'must share one grid',
                path,
            )
