"""Volumes without data, and scans whose signal contradicts what they are, found by reading all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.input.asl_delays import pairs_of
from bids_app.bids.scans import Problem
from bids_app.images import grid_of, open_image
from bids_app.models.bold.confounds import count_unsteady
from bids_app.models.preprocessing.realignment import FEWEST_SLICES
from bids_app.models.preprocessing.volumes import (
    brightest_voxels,
    has_lost_its_mean,
    negative_echo,
    rising_echo,
    volumes_without_data,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.bids.scans import (
        AslSeries,
        BoldRun,
        EchoSeries,
        M0Image,
        ParticipantInputs,
    )

MOST = 0.5
"""Share of the volumes of a scan that may hold no data; beyond it the scan is refused; ours."""

VOXELS = 5000
"""Most voxels of a scan that are looked at."""

CAUSE = 'NaN, empty, constant or without signal, as where a scan was stopped'
UNUSED = 'n/a'
"""Volume type that no model reads."""


def drop_lost_volumes(inputs: ParticipantInputs, *, dummy_scans: int | None) -> ParticipantInputs:
    """
    Leave out volumes without data, and scans that cannot be what they are said to be.

    BOLD and ASL series get their `lost` volumes, each named in a note. Refused with a problem: a
    series that lost more than half, a DSC or ASE series that lost any, BOLD whose mean was
    removed, and trains of echoes that rise. The first `dummy_scans` volumes of every BOLD run do
    not count; None = those found not to be steady.
    """
    sieve = _Sieve(dummy_scans)
    sieve.note_thin(inputs)
    return replace(
        inputs,
        mese=tuple(one for one in inputs.mese if sieve.decays('mese', one)),
        megre=tuple(one for one in inputs.megre if sieve.decays('megre_mag', one)),
        ase=tuple(one for one in inputs.ase if sieve.is_whole('ase', one)),
        asl=tuple(one for one in map(sieve.asl, inputs.asl) if one is not None),
        dsc=tuple(one for one in inputs.dsc if sieve.is_whole('dsc', one)),
        bold=tuple(one for one in map(sieve.bold, inputs.bold) if one is not None),
        problems=(*inputs.problems, *sieve.problems),
        notes=(*inputs.notes, *dict.fromkeys(sieve.notes)),
    )


class _Sieve:
    """Looks at one scan after the other and remembers what is to be said."""

    def __init__(self, dummy_scans: int | None) -> None:
        self.dummy_scans = dummy_scans
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def note_thin(self, inputs: ParticipantInputs) -> None:
        """Say where a scan has too few slices for its movement to be told."""
        series: tuple[Any, ...] = (*inputs.asl, *inputs.dsc, *inputs.bold)
        trains = [one.files[0] for one in (*inputs.mese, *inputs.megre)]
        for path in (*trains, *(one.file for one in series)):
            if min(grid_of(path).shape) < FEWEST_SLICES:
                self.notes.append(
                    f'{path.name}: a single slice: movement is neither estimated nor undone'
                )

    def decays(self, role: str, series: EchoSeries) -> bool:
        """Tell whether the magnitude of a train can be decay."""
        if len(series.magnitude) < 2:
            return True
        head = _head(*series.magnitude)
        below = negative_echo(head)
        if below is not None:
            echo, share = below
            path = series.magnitude[echo]
            self._refuse(
                role,
                series,
                path,
                f'{path.name} is below zero in {100 * share:.0f} % of the head, which no '
                'magnitude is; its numbers were probably too large for the type that they are '
                'stored in: convert it again (unsigned or with a scale factor)',
            )
            return False
        rise = rising_echo(head)
        if rise is not None:
            echo, ratio = rise
            before, after = series.magnitude[echo - 1 : echo + 1]
            self._refuse(
                role,
                series,
                after,
                f'the signal rises {ratio:.3g} times from {before.name} to {after.name} in most '
                'of the head, which no decay does; the echoes are probably scaled differently: '
                'check the scale factors (scl_slope) of the conversion',
            )
        return rise is None

    def is_whole(self, role: str, series: Any) -> bool:
        """Tell whether every volume of a series that needs all of them holds data."""
        lost = self._lost(_head(series.file))
        if lost:
            self._refuse(
                role,
                series,
                series.file,
                f'volume(s) {ranges(lost)} (from 0) hold no data ({CAUSE}); remove them or '
                'acquire the scan again',
            )
        return not lost

    def bold(self, run: BoldRun) -> BoldRun | None:
        """Mark the volumes of a BOLD run; None where it cannot be used."""
        data = _head(run.file)
        lost = self._lost(data)
        for path in run.files[1:]:
            lost = tuple(sorted({*lost, *self._lost(_head(path))}))
        if not self._enough('bold', run, lost, data.shape[1]):
            return None
        # dummy scans of a run; the M0 volumes of an ASL series are no volumes of it
        unsteady = 0 if run.context else self._unsteady(run, data)
        lost = tuple(sorted({*run.lost, *lost, *range(unsteady)}))
        kept = [volume for volume in range(data.shape[1]) if volume not in lost]
        if has_lost_its_mean(data[:, kept]):
            self._refuse(
                'bold',
                run,
                run.file,
                'the mean signal is near 0: it was removed, as denoising tools do, so there is '
                'no percent change; give the series with its mean',
            )
            return None
        return replace(run, lost=lost) if lost else run

    def _unsteady(self, run: BoldRun, data: FloatArray) -> int:
        """Count the first volumes of a run that do not count, and say it where they were found."""
        if self.dummy_scans is not None:
            return min(self.dummy_scans, data.shape[1] - 1)
        found = count_unsteady(np.median(np.nan_to_num(data), axis=0))
        if found:
            self.notes.append(
                f'{run.file.name}: the first {found} volume(s) are brighter than the plateau: the '
                'magnetisation was not steady yet; left out (bold.dummy_scans overrides)'
            )
        return found

    def asl(self, series: AslSeries) -> AslSeries | None:
        """Leave out the volumes of an ASL series with their partners; None without enough."""
        data = _head(series.file)
        lost = self._lost(data, series.context)
        gone = set(lost)
        encoding = series.encoding
        groups = pairs_of(series.context) if encoding is None else encoding.cycles
        for group in groups:
            if gone & set(group):
                gone |= set(group)
        used = {volume for group in groups for volume in group}
        if not self._enough('asl', series, tuple(sorted(used & gone)), len(used), lost):
            return None
        m0 = self._m0(series, lost)
        if m0 is None:
            return None
        if not lost:
            return series if m0 is series.m0 else replace(series, m0=m0)
        context = tuple(
            UNUSED if volume in gone else kind for volume, kind in enumerate(series.context)
        )
        if encoding is not None:
            cycles = tuple(one for one in encoding.cycles if not gone & set(one))
            series = replace(
                series,
                encoding=replace(encoding, cycles=cycles),
                label_duration=encoding.label_duration * len(cycles),
                post_label_delay=encoding.post_label_delay * len(cycles),
            )
        return replace(series, context=context, lost=lost, m0=m0)

    def _m0(self, series: AslSeries, lost: Sequence[int]) -> M0Image | None:
        """Leave out the volumes of M0; None where none is left."""
        m0 = series.m0
        if m0.file is None:
            return m0
        n_volumes = len(series.context)
        if m0.file != series.file:
            data = _head(m0.file)
            lost, n_volumes = self._lost(data, name=m0.file), data.shape[1]
        data_of = m0.volumes or range(n_volumes)
        volumes = tuple(volume for volume in data_of if volume not in lost)
        if not volumes:
            self._refuse('m0', series, m0.file, f'no volume of M0 holds data ({CAUSE})')
            return None
        return m0 if len(volumes) == len(data_of) else replace(m0, volumes=volumes)

    def _lost(
        self, data: FloatArray, kinds: Sequence[str] = (), name: Path | None = None
    ) -> tuple[int, ...]:
        """Find the volumes without data; they are said in a note where a file is named."""
        found = volumes_without_data(data, kinds)
        lost = tuple(int(volume) for volume in found.nonzero()[0])
        if lost and name is not None:
            self._note(name, lost)
        return lost

    def _note(self, path: Path, lost: Sequence[int]) -> None:
        """Say which volumes are left out."""
        self.notes.append(
            f'{path.name}: volume(s) {ranges(lost)} (from 0) hold no data ({CAUSE}); left out'
        )

    def _enough(
        self,
        role: str,
        series: AslSeries | BoldRun,
        lost: Sequence[int],
        n_volumes: int,
        named: Sequence[int] | None = None,
    ) -> bool:
        """Tell whether enough volumes are left, and say which are not."""
        named = lost if named is None else named
        if len(lost) > MOST * n_volumes:
            self._refuse(
                role,
                series,
                series.file,
                f'volume(s) {ranges(named)} (from 0) hold no data ({CAUSE}), more than half of '
                'the scan; acquire it again',
            )
            return False
        if named:
            self._note(series.file, named)
        return True

    def _refuse(self, role: str, series: Any, path: Path, message: str) -> None:
        """Refuse a scan."""
        problem = Problem(role=role, message=message, file=path, condition=series.condition)
        self.problems.append(problem)


def ranges(numbers: Sequence[int]) -> str:
    """
    Write rising numbers as ranges.

    Examples
    --------
    >>> ranges([3, 7, 8, 9, 12])
    '3, 7-9, 12'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ', '.join(f'{first}-{last}' if last > first else f'{first}' for first, last in runs)


def _head(*paths: Path) -> FloatArray:
    """Signal of the brightest voxels of one image, or of several put side by side, (V, T)."""
    raws, scales = [], []
    for path in paths:
        image = open_image(path)
        raw = np.asanyarray(image.dataobj.get_unscaled())
        raws.append(raw.reshape((-1, raw.shape[3] if raw.ndim > 3 else 1), order='F'))
        scales.append((image.dataobj.slope, image.dataobj.inter))
    size = np.zeros(len(raws[0]))
    for raw, (slope, inter) in zip(raws, scales, strict=True):
        for volume in raw.T:  # one after the other, for a whole series as float fills memory
            size += np.abs(np.nan_to_num(volume * slope + inter, posinf=0.0, neginf=0.0))
    bright = np.flatnonzero(brightest_voxels(size))
    bright = bright[:: len(bright) // VOXELS + 1]
    return np.concatenate(
        [raw[bright] * slope + inter for raw, (slope, inter) in zip(raws, scales, strict=True)],
        axis=1,
        dtype=float,
    )
