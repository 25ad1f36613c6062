"""The equilibrium magnetisation that goes with a perfusion series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.bids.input.files import companions_of, read_json
from bids_app.bids.input.metadata.readout import read_readout
from bids_app.bids.input.query import as_list
from bids_app.bids.input.sidecar import Probe, note_absent_targets
from bids_app.bids.scans import M0Image
from bids_app.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bids_app.bids.input.files import Header
    from bids_app.bids.input.query import Found
    from bids_app.bids.input.sidecar import Reader


def read_m0(
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
    if stated is None:
        probe.lack('M0Type')
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
    same_grid = header is None or series is None or header.has_grid_of(series)
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
    if len(session) != 1:
        return None
    if any(session[0].get(name) for name in names[1:]):  # it is named as that of another series
        probe.reader.findings.note(
            f'{probe.file.name}: no m0scan of its own; {session[0].path.name} serves, the only '
            'one there is'
        )
    return session[0]


def _intended_for(reader: Reader, found: Found) -> list[str]:
    """Read IntendedFor as paths that end the path of a file; errors are met when it is used."""
    intended: list[str] = []
    for path in companions_of(found, reader.root, 'm0scan', '.json'):
        try:
            stated = read_json(path).get('IntendedFor', [])
        except AppError:
            continue
        note_absent_targets(reader, found.path, as_list(stated))
        intended += [str(name).removeprefix('bids::').lstrip('/') for name in as_list(stated)]
    return intended


def _m0_repetition_time(probe: Probe, volumes: Sequence[int], n_volumes: int) -> float | None:
    """Repetition time of the M0 volumes, s; None = unknown, no recovery correction."""
    findings = probe.reader.findings
    listed = probe.numbers('RepetitionTimePreparation', of=n_volumes, judged=volumes) or ()
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
