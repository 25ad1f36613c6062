"""Sidecars, events and confounds of BOLD runs."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_app import units
from bids_app.bids.input.conditions import are_one_label, normalise, spellings
from bids_app.bids.input.files import MISSING_VALUES, Row, companions_of, read_table
from bids_app.bids.input.metadata.echoes import (
    check_echo_numbers,
    check_echo_times,
    check_same_grid,
    read_echo_times,
)
from bids_app.bids.input.metadata.readout import read_readout, read_slice_times
from bids_app.bids.input.query import Found
from bids_app.bids.input.sidecar import Probe
from bids_app.bids.scans import BoldRun, Event
from bids_app.errors import AppError
from bids_app.models.bold.echoes import FEWEST_ECHOES
from bids_app.models.bold.events import is_of_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app.bids.input.files import Header
    from bids_app.bids.input.sidecar import Reader
    from bids_app.bids.scans import AslSeries, FoundScan


JOIN_GAP = 2.0
"""Between trials of one type that are one block, s; most tasks log a block trial by trial."""

MAX_TRIAL_TYPES = 200
"""Of one run; a table with more names single trials, not conditions."""

MAX_EVENTS = 20_000
"""Of one run, more than any task has."""

EVENT_TOLERANCE = 1.0
"""Imprecision of a table of events, s."""


def read_bold(
    reader: Reader,
    found: Found,
    *,
    condition: str | None,
    run: str | None,
    preprocessed: FoundScan | None = None,
    others: Sequence[Found] = (),
    is_combined: bool = False,
) -> BoldRun | None:
    """
    Read one task BOLD run with its events.

    Parameters
    ----------
    reader : Reader
        Collects problems and notes.
    found : Found
        The series; the first of several echoes.
    condition : str or None
        Only with sessions as conditions.
    run : str or None
        Label of the run.
    preprocessed : FoundScan or None
        What is known where `found` is a series that other software preprocessed: movement and
        distortion are undone, and its slices are those of no scan.
    others : sequence of Found
        The other echoes.
    is_combined : bool
        Whether `found` was made from several echoes, so that no one echo time belongs to it.

    Returns
    -------
    run : BoldRun or None
        None when anything is wrong with it, or when it has no events (a note then).
    """
    task = re.sub(r'[^0-9A-Za-z]', '', found.get('task') or '')
    companions = companions_of(found, reader.root, 'events', '.tsv')
    if not companions:
        reader.findings.note(
            f'{found.path.name}: no events.tsv; percent BOLD change is not made from it'
        )
        return None
    probe = Probe.of(reader, 'bold', found, condition)
    if task != found.get('task'):
        _check_task(probe, task)
    header = probe.header((4,))
    _check_volume_timing(probe)
    repetition_time = probe.repetition_time(required='VolumeTiming' not in probe.metadata)
    echo_time = None if is_combined else probe.number('EchoTime')
    probe.field_strength()
    echoes, echo_times = _read_echoes(probe, others, header) if others else ((), ())
    duration = header.n_volumes * repetition_time if header and repetition_time else None
    if preprocessed is None:
        slice_axis, slice_times = read_slice_times(probe, header)
        readout = read_readout(probe, header)
    else:
        slice_axis, slice_times, readout = 2, _start_times(probe, header), None
        _check_confounds(probe, header, preprocessed)
        if preprocessed.components is not None:
            preprocessed = _read_components(probe, header, preprocessed)
    if repetition_time and max(slice_times, default=0.0) >= repetition_time:
        probe.fail(
            f'{found.path.name}: SliceTiming reaches {max(slice_times):g} s, RepetitionTime is '
            f'{repetition_time:g} s; correct one of them'
        )
    events, of_events = read_events(probe, companions[-1], duration)
    _check_header_time(probe, header, repetition_time)
    if not probe.ok or header is None or repetition_time is None:
        return None
    return BoldRun(
        task=task,
        run=run,
        condition=condition,
        file=echoes[0] if echoes else probe.file,
        events_file=companions[-1],
        events=events,
        is_of_events=of_events,
        echoes=echoes,
        echo_times=echo_times,
        repetition_time=repetition_time,
        n_volumes=header.n_volumes,
        echo_time=_stated_time(reader, echo_times) if echo_times else echo_time,
        slice_times=slice_times,
        slice_axis=slice_axis,
        readout=readout,
        found=preprocessed,
        metadata=probe.metadata,
    )


def read_bold_of_asl(
    reader: Reader, found: Found, others: Sequence[Found], series: AslSeries
) -> BoldRun | None:
    """
    Read the echoes of an ASL series, in which a task runs, as a BOLD run.

    None when anything is wrong with the echoes, or no task runs in them (a note then). Blood flow
    is made from the first echo alone.
    """
    if not series.events or series.events_file is None or series.repetition_time is None:
        reader.findings.note(
            f'{found.path.name}: the later echoes of this ASL series are not used: no task runs '
            'in it (no events.tsv of its name)'
        )
        return None
    probe = Probe.of(reader, 'bold', found, None)
    header = probe.header((4,))
    echoes, echo_times = _read_echoes(probe, others, header)
    if probe.ok and echoes[0] != series.file:
        probe.fail(
            f'{found.path.name}: blood flow is made of echo 1, which must be the one of the '
            f'shortest EchoTime; found {", ".join(f"{time:g}" for time in echo_times)} s'
        )
    if not probe.ok:
        return None
    unused = [i for i, kind in enumerate(series.context) if kind not in ('control', 'label')]
    return BoldRun(
        task='asl',
        run=series.run,
        file=echoes[0],
        events_file=series.events_file,
        events=series.events,
        echoes=echoes,
        echo_times=echo_times,
        repetition_time=series.repetition_time,
        n_volumes=series.n_volumes,
        lost=tuple(unused),
        echo_time=_stated_time(reader, echo_times),
        slice_times=series.slice_times,
        slice_axis=series.slice_axis,
        readout=series.readout,
        context=series.context,
        metadata=probe.metadata,
    )


def _read_echoes(
    first: Probe, others: Sequence[Found], header: Header | None
) -> tuple[tuple[Path, ...], tuple[float, ...]]:
    """Read the other echoes; give files and echo times (s) of all, in order of echo time."""
    probes = [first, *(Probe.of(first.reader, 'bold', one, first.condition) for one in others)]
    check_echo_numbers(first, [probe.found for probe in probes], fewest=FEWEST_ECHOES)
    headers = {first.file: header} | {probe.file: probe.header((4,)) for probe in probes[1:]}
    check_same_grid(first, headers)
    times = read_echo_times(probes)
    check_echo_times(first, times)
    first.ok = first.ok and all(probe.ok for probe in probes)
    known = sorted(
        (time, probe.file) for time, probe in zip(times, probes, strict=True) if time is not None
    )
    return tuple(file for _, file in known), tuple(time for time, _ in known)


def _stated_time(reader: Reader, echo_times: Sequence[float]) -> float:
    """Choose the echo time that percent change is stated for, s: the middle one by default."""
    wanted = reader.settings.bold.echo_time
    return echo_times[len(echo_times) // 2] if wanted is None else wanted


def _check_task(probe: Probe, task: str) -> None:
    """Say what a task is called in the output whose name BIDS does not allow."""
    written = probe.found.get('task')
    if not task:
        probe.fail(f'{probe.file.name}: task-{written} has no letter or digit; rename the task')
    else:
        probe.reader.findings.note(
            f'{probe.file.name}: task-{written} is no label of BIDS; files of it are named '
            f'task-{task}'
        )


def _check_volume_timing(probe: Probe) -> None:
    """Refuse a series whose volumes are not equally spaced."""
    if probe.metadata.get('VolumeTiming') is not None:
        probe.fail(
            f'{probe.file.name}: VolumeTiming (volumes at unequal times, as in sparse sampling) '
            'is not supported: the model of the response needs one RepetitionTime'
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


def _read_components(probe: Probe, header: Header | None, denoised: FoundScan) -> FoundScan:
    """Find the components that a series no longer holds, and check that all is of one run."""
    courses, classes = denoised.components, denoised.classification
    if courses is None or classes is None:
        return denoised
    if probe.reader.settings.bold.estimator == 'block-median':
        probe.fail(
            f'{probe.file.name}: the block median cannot account for the components that '
            f'{denoised.source} removed, so that its error would be too small; use '
            'bold.estimator = "glm"'
        )
    rows = probe.attempt(classes, read_table, ('Component', 'classification'))
    rejected = tuple(row['Component'] for row in rows or () if row['classification'] == 'rejected')
    if rows and not any(row['classification'] == 'accepted' for row in rows):
        probe.fail(
            f'{classes.name}: {denoised.source} accepted no component, so that its series holds '
            f'no BOLD; run it again, or leave the derivatives {denoised.source} away',
            classes,
        )
    values = probe.attempt(courses, read_table, rejected)
    if values is not None and header is not None and len(values) != header.n_volumes:
        probe.fail(
            f'{courses.name} has {len(values)} rows but {probe.file.name} has '
            f'{header.n_volumes} volumes; are they of one run of {denoised.source}?',
            courses,
        )
    if values is not None and not all(
        _is_number(row[name]) for row in values for name in rejected
    ):
        probe.fail(f'{courses.name} holds cells that are no numbers; write it again', courses)
    if denoised.reference is not None and header is not None:
        beside = replace(probe.found, path=denoised.reference)
        reference = Probe.of(probe.reader, 'bold', beside, probe.condition).header((3,))
        if reference is not None and not header.has_grid_of(reference):
            probe.fail(
                f'{probe.file.name} has another grid than {denoised.reference.name}, by which it '
                f'is placed; run {denoised.source} on the echoes of the same derivatives'
            )
    raw = probe.found.path
    probe.reader.findings.note(
        f'{raw.name}: {len(rejected)} components that {denoised.source} removed are regressors; '
        'what they hold of the task is lost, which no error says'
    )
    return replace(denoised, rejected=rejected)


def _is_number(text: str) -> bool:
    """Tell whether a cell of a table is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


UNSET_TIME = 1.0
"""What software writes between volumes where it knows no time, s."""


def _check_header_time(probe: Probe, header: Header | None, repetition_time: float | None) -> None:
    """Refuse a series whose header and sidecar disagree about the time between volumes."""
    if header is None or repetition_time is None or len(header.zooms) < 4:
        return
    stated = header.zooms[3]

    def agrees(time: float) -> bool:
        return abs(time - repetition_time) <= 0.01 * repetition_time

    if stated <= 0 or agrees(stated):
        return
    is_milliseconds = agrees(stated * units.MILLISECOND)
    text = (
        f'{probe.file.name}: its header says {stated:g} s between volumes'
        f'{", as if in milliseconds" if is_milliseconds else ""}, its sidecar '
        f'{repetition_time:g} s'
    )
    is_confirmed = probe.origins['RepetitionTime'].startswith('overrides')
    if is_milliseconds or is_confirmed or stated == UNSET_TIME:
        probe.reader.findings.note(f'{text}; the sidecar is used')
    else:
        probe.fail(
            f'{text}; correct the wrong one, or state RepetitionTime with --metadata-overrides'
        )


def longest_blocks(path: Path) -> dict[str, float]:
    """
    List the condition labels of an events table; none when it cannot be read.

    Give normalised labels, sorted, with their longest block, s; infinite where a duration is no
    number, which is said when the table is used.
    """
    try:
        rows = read_table(path, ('trial_type',))
    except AppError:
        return {}
    if _too_many(rows):
        return {}
    events, longest = [], {}
    for row in rows:
        label = normalise(row['trial_type'])
        if row['trial_type'] in MISSING_VALUES or not label:
            continue
        onset, duration = (_seconds(row.get(key, '')) for key in ('onset', 'duration'))
        if onset is None or duration is None:
            longest[label] = math.inf
        else:
            events.append(Event(onset=onset, duration=duration, trial_type=label))
    for event in join_trials(sorted(events, key=lambda event: event.onset)):
        longest[event.trial_type] = max(longest.get(event.trial_type, 0.0), event.duration)
    return dict(sorted(longest.items()))


def _too_many(rows: Sequence[Row]) -> str:
    """Say that a table has more events or types than a design of conditions can have."""
    n_types = len({row['trial_type'] for row in rows})
    if n_types > MAX_TRIAL_TYPES:
        return (
            f'has {n_types} values of trial_type, more than {MAX_TRIAL_TYPES}: it names single '
            'trials; name their conditions in trial_type'
        )
    if len(rows) > MAX_EVENTS:
        return f'has {len(rows)} events, more than {MAX_EVENTS}; correct the table'
    return ''


def join_trials(events: Sequence[Event]) -> list[Event]:
    """
    Join trials of one type that touch, or nearly so, to blocks.

    In order of onset. A trial goes on with the one before where no more than :data:`JOIN_GAP` lies
    between them and no event of another type. Events without duration are no part of a block.

    Examples
    --------
    >>> trials = [Event(onset=2.0 * n, duration=1.5, trial_type='calc') for n in range(15)]
    >>> [(block.onset, block.duration) for block in join_trials(trials)]
    [(0.0, 29.5)]
    """
    blocks: list[Event] = []
    points = [event for event in events if not event.duration]
    for event in events:
        last = blocks[-1] if blocks else None
        if not event.duration:
            continue
        if last is not None and last.trial_type == event.trial_type:
            end = last.onset + last.duration
            if event.onset - end <= JOIN_GAP:
                end = max(end, event.onset + event.duration)
                blocks[-1] = replace(last, duration=round(end - last.onset, 9))
                continue
        blocks.append(event)
    return sorted([*blocks, *points], key=lambda event: event.onset)


def read_events(
    probe: Probe, path: Path, duration: float | None, *, role: str = 'events'
) -> tuple[tuple[Event, ...], bool]:
    """
    Read the blocks or events of a run.

    Give them in order of onset, and whether they are events, else blocks. The duration of the run
    is in s or unknown; `role` says whose problem a defect is, and that of asl has blocks only.
    """
    own = Probe(
        reader=probe.reader,
        role=role,
        found=Found(path=path, entities=probe.found.entities),
        condition=probe.condition,
    )
    probe.reader.findings.files.add(path)
    rows = own.attempt(path, read_table, ('onset', 'duration', 'trial_type')) or []
    rows = [row for row in rows if row['trial_type'] not in MISSING_VALUES]
    if text := _too_many(rows):
        own.fail(f'{path.name} {text}')
        rows = []
    _check_spellings(own, [row['trial_type'] for row in rows])
    events = [_event(own, row) for row in rows]
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
    blocks = tuple(join_trials(known))
    settings = probe.reader.settings.bold
    design = 'blocks' if role == 'asl' else settings.design
    if is_of_events(_longest(blocks), design=design, shortest=settings.window_start):
        _check_choices_of_events(own, _longest(known))
        probe.ok = probe.ok and own.ok
        return known, True
    _note_joined(own, known, blocks)
    _check_lengths(own, blocks)
    probe.ok = probe.ok and own.ok
    return blocks, False


def _note_joined(probe: Probe, trials: Sequence[Event], blocks: Sequence[Event]) -> None:
    """Say which trials are taken together as blocks."""
    for label in sorted({event.trial_type for event in trials}):
        n_trials = sum(event.trial_type == label for event in trials)
        lengths = sorted({block.duration for block in blocks if block.trial_type == label})
        n_blocks = sum(block.trial_type == label for block in blocks)
        if n_blocks < n_trials:
            span = ' to '.join(
                f'{length:g}' for length in dict.fromkeys((lengths[0], lengths[-1]))
            )
            probe.reader.findings.note(
                f'{probe.file.name}: {n_trials} trials of {label}, no more than {JOIN_GAP:g} s '
                f'apart within a block, are {n_blocks} block{"s" * (n_blocks > 1)} of {span} s'
            )


def _longest(blocks: Sequence[Event]) -> dict[str, float]:
    """Find the longest block of every trial type, s."""
    longest: dict[str, float] = {}
    for block in blocks:
        longest[block.trial_type] = max(longest.get(block.trial_type, 0.0), block.duration)
    return longest


def _check_choices_of_events(probe: Probe, longest: dict[str, float]) -> None:
    """Refuse what is meant for blocks; say that the trial types are events."""
    settings = probe.reader.settings.bold
    shown = ', '.join(f'{label} {length:g} s' for label, length in sorted(longest.items()))
    if settings.estimator == 'block-median':
        probe.fail(
            f'{probe.file.name}: bold.estimator block-median needs blocks longer than '
            f'{settings.window_start:g} s (bold.window_start), the longest are: {shown}; choose '
            'bold.estimator glm'
        )
        return
    probe.reader.findings.note(
        f'{probe.file.name}: an event-related design (bold.design): percent change is the '
        f'{settings.event_measure} of the response to one event (bold.event_measure); the '
        f'longest events: {shown}'
    )


def _check_lengths(probe: Probe, blocks: Sequence[Event]) -> None:
    """Refuse a run without any block, and name the trial types that have none."""
    settings = probe.reader.settings.bold
    needed = settings.window_start
    longest = _longest(blocks)
    short = {label: length for label, length in longest.items() if length <= needed}
    for name, is_chosen in (
        ('bold.hrf_model fir', settings.hrf_model == 'fir'),
        ('bold.modulators', bool(settings.modulators) and probe.role == 'events'),
    ):
        if is_chosen:
            probe.fail(
                f'{probe.file.name}: {name} is for events, and these are blocks; leave it, or '
                'choose bold.design events'
            )
    if not short or not probe.ok:
        return
    shown = ', '.join(f'{label} {length:g} s' for label, length in sorted(short.items()))
    if len(short) < len(longest):
        probe.reader.findings.note(
            f'{probe.file.name}: no change is made of trial types without a block longer than '
            f'{needed:g} s (bold.window_start); they are part of the model: {shown}; with '
            'bold.design events the response to all is estimated'
        )
    else:
        probe.fail(
            f'{probe.file.name}: the change of blocks needs some longer than {needed:g} s '
            f'(bold.window_start), the longest are: {shown}'
            + ('' if probe.role == 'asl' else '; choose bold.design auto or events')
        )


def _check_spellings(probe: Probe, labels: Sequence[str]) -> None:
    """Refuse trial types that differ but would be one, or none; say where spellings are joined."""
    alike, unwritable = spellings(labels)
    for label in unwritable:
        probe.fail(
            f'{probe.file.name}: the trial type {label!r} has no Latin letter or digit, and no '
            'file can be named by it; write it in Latin letters'
        )
    for name, found in alike.items():
        shown = ', '.join(map(repr, found))
        if are_one_label(found):
            probe.reader.findings.note(
                f'{probe.file.name}: the trial types {shown} are taken for one, {name}'
            )
        else:
            probe.fail(
                f'{probe.file.name}: the trial types {shown} would all be called {name}; give '
                'them names that differ in letters or digits'
            )


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


EVENT_RANGES = {'onset': (-3600.0, 86400.0), 'duration': (0.0, 86400.0)}
"""Columns of events.tsv, s, ends included: from an hour before the first volume, for a day."""


def _event(probe: Probe, row: Row) -> Event | None:
    """Read one row."""
    numbers = []
    for column in ('onset', 'duration'):
        value = _seconds(row[column])
        low, high = EVENT_RANGES[column]
        if value is None or not low <= value <= high:
            probe.fail(
                f'{probe.file.name}, line {row.line}: {column} should be a number of seconds, '
                f'{low:g} to {high:g}; found {row[column]!r}'
            )
            return None
        numbers.append(value)
    return Event(
        onset=numbers[0],
        duration=numbers[1],
        trial_type=normalise(row['trial_type']),
        modulators=_modulators(probe, row),
    )


def _modulators(probe: Probe, row: Row) -> tuple[float, ...]:
    """Read the modulators of one row; NaN where a cell is empty."""
    values = []
    for name in probe.reader.settings.bold.modulators if probe.role == 'events' else ():
        text = row.get(name)
        value = math.nan if text in MISSING_VALUES else _seconds(text or '')
        if value is None:
            found = f'found {text!r}' if text is not None else f'columns are {", ".join(row)}'
            probe.fail(
                f'{probe.file.name}, line {row.line}: {name} (bold.modulators) should be a '
                f'number; {found}'
            )
            return ()
        values.append(value)
    return tuple(values)


def _seconds(text: str) -> float | None:
    """Read a finite number; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
