"""The encoding of a time-encoded ASL series: its matrix, and the times of its blocks."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bids_app.bids.scans import TimeEncoding
from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app.bids.input.sidecar import Probe

KEY = 'TimeEncodedMatrix'

HINTS = ('TimeEncodedMatrixType', 'TimeEncodedMatrixSize')
"""Of other software: a name that leaves the order of encodings and blocks open."""

TIME_TOLERANCE = 0.02
"""Between delays that are stated and those that follow from the durations, s."""

LARGEST = 64
"""Most encodings; a longer table is none."""


def is_encoded(probe: Probe, context: Sequence[str]) -> bool:
    """
    Tell whether the volumes of a series are encoded.

    False for differences, which are decoded, whatever the sidecar says of their encoding. An
    encoding that has a name but no matrix is a problem.
    """
    if not {'control', 'label'} & set(context):
        return False
    if probe.metadata.get(KEY) is not None:
        return True
    named = [key for key in HINTS if probe.metadata.get(key) is not None]
    if named:
        probe.fail(
            f'{probe.file.name}: {named[0]} alone leaves open which encodings and blocks come '
            f'first; add {KEY}, rows in the order of the volumes, columns in that of the blocks, '
            '1 for label and 0 for control'
        )
    return False


def read_encoding(probe: Probe, context: Sequence[str]) -> TimeEncoding | None:
    """
    Read how the volumes of a series are encoded.

    Control and label volumes are encoded, whichever they are called. None when anything is wrong
    with it.
    """
    from bids_app.models.asl.time_encoded import decoding_of

    matrix = _matrix(probe)
    durations, delays = probe.numbers('LabelingDuration'), probe.numbers('PostLabelingDelay')
    if matrix is None or durations is None or delays is None:
        return None
    try:
        decoding_of(matrix)
    except ModelInputError as error:
        probe.fail(f'{probe.file.name}: {KEY}: {error}')
        return None
    n_encodings, n_blocks = len(matrix), len(matrix[0])
    volumes = [index for index, kind in enumerate(context) if kind in ('control', 'label')]
    if len(volumes) % n_encodings:
        probe.fail(
            f'{probe.file.name}: {len(volumes)} control and label volumes are no whole number '
            f'of cycles of {n_encodings} encodings ({KEY}); name volumes that are not to be '
            'used n/a, cycle by cycle'
        )
        return None
    times = _times(probe, durations, delays, n_blocks)
    if times is None:
        return None
    starts = range(0, len(volumes), n_encodings)
    return TimeEncoding(
        matrix=matrix,
        cycles=tuple(tuple(volumes[start : start + n_encodings]) for start in starts),
        label_duration=times[0],
        post_label_delay=times[1],
    )


def _matrix(probe: Probe) -> tuple[tuple[int, ...], ...] | None:
    """Read the matrix, from the sidecar or from a file beside the series."""
    rows: Any = probe.metadata[KEY]
    if isinstance(rows, str):
        path = probe.file.with_name(rows)
        if '/' in rows or not path.is_file():
            probe.fail(f'{probe.file.name}: {KEY} names the file {rows!r}, which is not beside it')
            return None
        probe.reader.findings.files.add(path)
        rows = probe.attempt(path, _read_rows)
    if not isinstance(rows, list) or not 1 < len(rows) <= LARGEST:
        rows = [None]
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    cells = {str(cell) for row in rows if isinstance(row, list) for cell in row}
    if len(lengths) != 1 or 0 in lengths or not cells <= {'0', '1', '-1', '0.0', '1.0', '-1.0'}:
        probe.fail(
            f'{probe.file.name}: {KEY} must be a table: a row for every encoding in the order of '
            'the volumes, a column for every block in the order of time, 1 for label and 0 (or '
            '-1) for control'
        )
        return None
    return tuple(tuple(int(float(cell) > 0) for cell in row) for row in rows)


def _read_rows(path: Path) -> list[list[str]]:
    """Read a table of numbers without header."""
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()[: LARGEST + 1]
    return [line.split() for line in lines if line.strip()]


def _times(
    probe: Probe, durations: Sequence[float], delays: Sequence[float], n_blocks: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Give duration and delay of every block, s."""
    durations = tuple(durations) * (n_blocks if len(durations) == 1 else 1)
    if len(durations) != n_blocks or len(delays) not in (1, n_blocks):
        probe.fail(
            f'{probe.file.name}: {n_blocks} blocks ({KEY}) need one LabelingDuration each, or one '
            f'for all, and one PostLabelingDelay each, or that of the last; got {len(durations)} '
            f'and {len(delays)}'
        )
        return None
    # label of a block waits for the blocks after it
    later = [*accumulate(durations[:0:-1], initial=0.0)][::-1]
    known = tuple(round(delays[-1] + time, 9) for time in later)
    if len(delays) > 1:
        off = max(abs(one - two) for one, two in zip(delays, known, strict=True))
        if off > TIME_TOLERANCE:
            probe.fail(
                f'{probe.file.name}: PostLabelingDelay must be that of every block in the order '
                'of time; with these durations it is '
                f'{", ".join(f"{time:g}" for time in known)} s, found '
                f'{", ".join(f"{time:g}" for time in delays)} s'
            )
            return None
    return durations, known
