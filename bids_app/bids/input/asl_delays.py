"""The delays of an ASL series: every form in which they are written, one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

USED = ('control', 'label', 'deltam', 'cbf')
"""Volume types that hold labelled blood."""


def pairs_of(context: Sequence[str]) -> list[tuple[int, ...]]:
    """
    List the volumes of each pair, or of each ready difference.

    The k-th control with the k-th label; without them the deltam, else the cbf volumes.

    Examples
    --------
    >>> pairs_of(['m0scan', 'label', 'control', 'control', 'label'])
    [(2, 1), (3, 4)]
    """
    where = {kind: [i for i, one in enumerate(context) if one == kind] for kind in USED}
    if where['control'] or where['label']:
        return list(zip(where['control'], where['label'], strict=False))
    return [(index,) for index in where['deltam'] or where['cbf']]


def without_partner(context: Sequence[str]) -> tuple[int, ...]:
    """
    Find the controls and labels that no pair needs.

    Empty where there are as many controls as labels. Else those beside which there is none of the
    other kind, where the volumes take turns; the last of the more frequent kind otherwise.

    Examples
    --------
    >>> without_partner(['label', 'control', 'label', 'label', 'control'])
    (2,)
    >>> without_partner(['label', 'label', 'label', 'control', 'control'])
    (2,)
    """
    where = {kind: [i for i, one in enumerate(context) if one == kind] for kind in USED[:2]}
    surplus = len(where['control']) - len(where['label'])
    if not surplus or not all(where.values()):
        return ()
    volumes = sorted(index for found in where.values() for index in found)
    odd, position = [], 0
    while position < len(volumes):
        pair = [context[index] for index in volumes[position : position + 2]]
        is_pair = len(set(pair)) == 2
        odd += [] if is_pair else [volumes[position]]
        position += 2 if is_pair else 1
    if len(odd) == abs(surplus):
        return tuple(odd)
    return tuple(where['control' if surplus > 0 else 'label'][-abs(surplus) :])


def expand_times(listed: Sequence[float], context: Sequence[str]) -> tuple[float, ...] | None:
    """
    Give every volume its time.

    The list has one time for all; one per volume; one per volume with label, per pair, or one
    repetition of the pairs, which then runs through the list again and again. Volumes without
    label get 0; None where the list fits in no form.

    Examples
    --------
    >>> expand_times([0.5, 1.0], ['control', 'label'] * 4)
    (0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0)
    >>> expand_times([1.8], ['m0scan', 'deltam'])
    (0.0, 1.8)
    """
    listed = [float(time) for time in listed]
    pairs = pairs_of(context)
    used = sorted(index for pair in pairs for index in pair)
    n = len(listed)
    if n == len(context):
        return tuple(time if index in used else 0.0 for index, time in enumerate(listed))
    times = [0.0] * len(context)
    if n == len(used) and n != len(pairs):
        for index, time in zip(used, listed, strict=True):
            times[index] = time
        return tuple(times)
    if not pairs or len(pairs) % n:
        return None
    for number, pair in enumerate(pairs):
        for index in pair:
            times[index] = listed[number % n]
    return tuple(times)


def distinct_delays(
    delays: Sequence[float], durations: Sequence[float], context: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[float, float], ...]]:
    """
    Find the different delays of a series, and which volume has which.

    Give the delay of every volume (its place in the table, 0 for volumes without label), and the
    table: each combination of delay and duration (s) once, rising.

    Examples
    --------
    >>> distinct_delays([0, 2, 2, 1, 1], [1.8] * 5, ['m0scan', *(['control', 'label'] * 2)])
    ((0, 1, 1, 0, 0), ((1, 1.8), (2, 1.8)))
    """
    used = [index for pair in pairs_of(context) for index in pair]
    table = sorted({(delays[index], durations[index]) for index in used})
    index = [0] * len(context)
    for volume in used:
        index[volume] = table.index((delays[volume], durations[volume]))
    return tuple(index), tuple(table)


def describe_delays(
    delays: Sequence[float], durations: Sequence[float], context: Sequence[str]
) -> str:
    """
    Write the table of delays in one line: what every pair was read out with.

    In s; runs of equal pairs are joined.

    Examples
    --------
    >>> describe_delays([1, 1, 2, 2], [1.8] * 4, ['control', 'label'] * 2)
    'pair 1: delay 1 s after 1.8 s; pair 2: delay 2 s after 1.8 s'
    """
    runs: list[tuple[int, int, float, float]] = []
    for number, pair in enumerate(pairs_of(context), start=1):
        delay, duration = delays[pair[0]], durations[pair[0]]
        if runs and runs[-1][2:] == (delay, duration):
            runs[-1] = (runs[-1][0], number, delay, duration)
        else:
            runs.append((number, number, delay, duration))
    return '; '.join(
        f'pair{"s" if last > first else ""} {first}{f" to {last}" if last > first else ""}: '
        f'delay {delay:g} s after {duration:g} s'
        for first, last, delay, duration in runs
    )
