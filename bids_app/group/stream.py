"""
Participants' maps in one pass: a file of participants x voxels on disk, used block by block.

Memory does not grow with the number of participants: while reading, one participant is held;
afterwards a block of voxels of all participants, or a few thousand voxels spread over the mask.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import AppError, GridMismatchError
from bids_app.group.mirror import other_side
from bids_app.group.statistics import RandomEffects, random_effects, weigh_participants
from bids_app.images import Grid, grid_of, load_cortex, load_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.group.inputs import MapSet, MapSource

BLOCK_BYTES = 2**27
"""Memory of one block with everything that is computed from it."""

SAMPLE = 20_000
"""Voxels, evenly spread over the mask, from which the group learns what all voxels share."""

SAMPLE_VALUES = 4_000_000
"""Values in them; with more than 200 participants fewer voxels serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """
    The maps of one quantity, participants x voxels, in files.

    Parameters
    ----------
    participants : tuple of str
        Rows, sorted.
    n_voxels : int
        Voxels of the mask: columns.
    values : Path
        float32, participant after participant, unit of data/outputs.yml.
    variances : Path or None
        The same of the random variances; None where the maps have none.
    is_change : bool
        Whether values are changes, not maps of a condition.
    left_out : tuple of (str, str)
        Participant and why it is not a row.
    defects : tuple of str
        What is wrong with the data, as sentences: a subset of `left_out` is defective.
    """

    participants: tuple[str, ...]
    n_voxels: int
    values: Path
    variances: Path | None
    is_change: bool = False
    left_out: tuple[tuple[str, str], ...] = ()
    defects: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Participants and voxels."""
        return len(self.participants), self.n_voxels

    def block(self, where: slice | IntArray) -> tuple[FloatArray, FloatArray | None]:
        """Read some voxels of all participants: values and variances (N, B)."""
        return self._read(self.values, where), (
            None if self.variances is None else self._read(self.variances, where)
        )

    def row(self, participant: int) -> FloatArray:
        """Read all voxels of one participant: values (V,)."""
        return self._row(self.values, participant)

    def row_variance(self, participant: int) -> FloatArray | None:
        """Read its random variances (V,); None where the maps have none."""
        return None if self.variances is None else self._row(self.variances, participant)

    def _row(self, path: Path, participant: int) -> FloatArray:
        offset = 4 * participant * self.n_voxels
        return np.fromfile(path, np.float32, self.n_voxels, offset=offset).astype(float)

    def _read(self, path: Path, where: slice | IntArray) -> FloatArray:
        # mapped for this block only: pages of the file never add up in memory
        mapped = np.memmap(path, np.float32, 'r', shape=self.shape)
        return np.array(mapped[:, where], float)

    def slices(self, rows: int) -> Iterator[slice]:
        """Cut the voxels into blocks of which `rows` numbers per voxel fit into memory."""
        size = max(BLOCK_BYTES // (8 * max(rows, 1)), 256)
        for start in range(0, self.n_voxels, size):
            yield slice(start, min(start + size, self.n_voxels))

    @property
    def spread(self) -> slice:
        """Voxels spread evenly over the mask, fewer with many participants."""
        wanted = min(SAMPLE, max(SAMPLE_VALUES // max(len(self.participants), 1), 1))
        return slice(0, self.n_voxels, max(1, -(-self.n_voxels // wanted)))

    def sample(self) -> tuple[FloatArray, FloatArray | None]:
        """Read voxels spread evenly over the mask."""
        return self.block(self.spread)


def stack_maps(maps: MapSet, mask: BoolArray, grid: Grid, folder: Path) -> Stack:
    """
    Read the maps of a quantity once, participant by participant in sorted order.

    Sessions of a participant are averaged. Left out, each with its reason: maps that cannot be
    read or lie on another grid, maps without any estimate in the mask, a change that is exactly 0
    everywhere (the same map served both conditions), and maps bit-identical to those of an earlier
    participant. Variances are kept only where every participant has them. The files of the stack
    are in `folder`.
    """
    n_voxels = int(mask.sum())
    with_variance = all(s.has_variance for sources in maps.sources.values() for s in sources)
    values = folder / f'{maps.name}.f32'
    variances = folder / f'{maps.name}_var.f32' if with_variance else None
    rows, left_out = [], []
    seen: dict[str, str] = {}
    streams = [path.open('wb') for path in (values, variances) if path is not None]
    try:
        for participant in sorted(maps.sources):
            try:
                columns = _participant(maps.sources[participant], mask, grid)
            except AppError as error:
                left_out.append((participant, str(error)))
                continue
            reason = _why_not(columns[0], seen, participant, is_change=maps.contrast is not None)
            if reason:
                left_out.append((participant, f'{maps.name}: {reason}'))
                continue
            rows.append(participant)
            for stream, column in zip(streams, columns, strict=False):
                stream.write(column.astype(np.float32).tobytes())
    finally:
        for stream in streams:
            stream.close()
    return Stack(
        participants=tuple(rows),
        n_voxels=n_voxels,
        values=values,
        variances=variances,
        is_change=maps.contrast is not None,
        left_out=tuple(left_out),
        defects=tuple(f'sub-{name}: {reason}' for name, reason in left_out),
    )


def _why_not(
    values: FloatArray, seen: dict[str, str], participant: str, *, is_change: bool
) -> str:
    """Say why a map cannot be used; empty where it can."""
    known = np.isfinite(values)
    if not known.any():
        return 'no voxel of the group mask has an estimate'
    if is_change and not values[known].any():
        return 'the change is exactly 0 in every voxel: both conditions have the same map'
    digest = sha256(values.astype(np.float32).tobytes()).hexdigest()
    twin = seen.setdefault(digest, participant)
    return '' if twin == participant else f'the map is identical to that of sub-{twin}'


def _participant(
    sources: Sequence[MapSource], mask: BoolArray, grid: Grid
) -> tuple[FloatArray, FloatArray]:
    """Read and average the sessions of a participant; variances are NaN where there are none."""
    pairs = [read_source(source, mask, grid) for source in sources]
    values = np.stack([pair[0] for pair in pairs])
    errors = np.stack([pair[1] for pair in pairs])
    known = np.isfinite(values)
    if all(source.has_variance for source in sources):
        known &= np.isfinite(errors)
    n = known.sum(axis=0)
    with np.errstate(invalid='ignore'):  # no session: 0 / 0, no estimate
        return (
            np.where(known, values, 0).sum(axis=0) / n,
            np.where(known, errors, 0).sum(axis=0) / n**2,
        )


def read_source(source: MapSource, mask: BoolArray, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """
    Read one map, or the difference of two, in the unit of the output table.

    Value and variance, (V,) each; variances are NaN where there are none.

    Raises
    ------
    GridMismatchError
        If a file is on another grid.
    """

    def read(path: Path) -> FloatArray:
        data = on_grid(path, grid)
        masked: FloatArray = (other_side(data) if source.mirrored else data)[mask]
        return masked

    value = read(source.value)
    if source.minus is not None:
        value = value - read(source.minus)
    variance = np.zeros_like(value) if source.has_variance else np.full_like(value, np.nan)
    for path in (source.variance, source.minus_variance):
        if source.has_variance and path is not None:
            variance = variance + read(path)
    return value * source.factor, variance * source.factor**2


def stack_effects(
    stack: Stack, *, design: ArrayLike | None = None, tested: int = 0
) -> RandomEffects:
    """
    Estimate the population mean of maps on disk, block by block.

    Weights and moderation are learnt from voxels spread over the mask; design and tested column
    are as for :func:`bids_app.group.statistics.random_effects`.
    """
    weighting = weigh_participants(*stack.sample(), design=design)
    parts = [
        random_effects(*stack.block(where), weighting=weighting, design=design, tested=tested)
        for where in stack.slices(12 * len(stack.participants))
    ]
    return RandomEffects(
        **{
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(RandomEffects)
        }
    )


def paired_blocks(
    stacks: Sequence[Stack], rows: int = 0
) -> Iterator[tuple[slice, list[FloatArray]]]:
    """
    Read blocks of voxels of several quantities in the participants that have all of them.

    Give the voxels, and (N, B) values per stack, rows in the same order. `rows` is how many
    numbers per voxel are computed from a block besides the values.
    """
    common = common_participants(stacks)
    places = [[stack.participants.index(name) for name in common] for stack in stacks]
    needed = rows + 3 * sum(len(stack.participants) for stack in stacks)
    for where in stacks[0].slices(needed):
        yield (
            where,
            [stack.block(where)[0][place] for stack, place in zip(stacks, places, strict=True)],
        )


def common_participants(stacks: Sequence[Stack]) -> tuple[str, ...]:
    """Find the participants that are in every stack, sorted."""
    return tuple(sorted(set.intersection(*(set(stack.participants) for stack in stacks))))


def on_grid(path: Path, grid: Grid) -> Any:
    """
    Read a map that must be on the grid of the template; one on the cortex of both hemispheres.

    Raises
    ------
    GridMismatchError
        If it is on another one.
    """
    if path.suffix == '.gii':
        data = load_cortex(path)
        if data.shape != grid.shape:
            msg = f'{path}: expected {grid.shape[0]} vertices, found {data.shape[0]}'
            raise GridMismatchError(msg)
        return data
    found = grid_of(path)
    if not found.matches(grid):
        msg = (
            f'{path} is not on the grid of the template: expected {grid.shape} voxels, found '
            f'{found.shape}, or their affines differ'
        )
        raise GridMismatchError(msg)
    return load_data(path)
