"""Maps that were written but say nothing: no value in grey matter, or in little of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bids_app.bids.input.files import read_table
from bids_app.bids.output.names import output_path
from bids_app.bids.products import PRODUCTS
from bids_app.models.status import DESCRIPTIONS, Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LEAST_COVERAGE = 0.25
"""Share of grey matter with a value, below which a map is not what was to be made; ours. A slab
that covers a third of the brain on purpose stays above it."""

GREY_MATTER = 0.5
"""Tissue fraction above which a voxel is one of grey matter."""


def is_result(row: str) -> bool:
    """Tell whether a row of data/outputs.yml is a result, that should hold values."""
    products = {one.row for one in PRODUCTS.values() if not one.comes_along}
    return row in products or row in ('relative_cbf', 'contrast')


def poor_maps(
    expected: Sequence[tuple[str, Mapping[str, Any]]], paths: Sequence[Path], output_dir: Path
) -> list[str]:
    """
    List the results that hold no value in grey matter, or in less than a quarter of it.

    One sentence per map that was written, with the most frequent reason of its status. Without
    tissue maps on the grid of the map the brain counts.
    """
    sentences = []
    for (key, entities), path in zip(expected, paths, strict=True):
        is_value = entities.get('statistic', 'effect') == 'effect'
        if not is_result(key) or not is_value or not path.is_file():
            continue
        share, where = _coverage(path, entities, output_dir)
        if share < LEAST_COVERAGE:
            name = path.name.removesuffix('.nii.gz')
            how_much = f'a value in {share:.0%} of {where} only' if share else 'no value'
            how_much += '' if share else f' in {where}'
            sentences.append(f'{name} has {how_much}: {_reason(path)}')
    return sentences


def doubts_of_brain(
    expected: Sequence[tuple[str, Mapping[str, Any]]], paths: Sequence[Path]
) -> list[str]:
    """Say why the brain that was found in a T1w image is in doubt."""
    return [
        f'T1w image: {row["reason"]}'
        for (key, _), path in zip(expected, paths, strict=True)
        if key == 'alignment' and path.is_file()
        for row in read_table(path, ('scan', 'verdict', 'reason'))
        if row['scan'] == 'T1w' and row['verdict'] != 'good'
    ]


def _coverage(path: Path, entities: Mapping[str, Any], output_dir: Path) -> tuple[float, str]:
    """Share of the voxels of grey matter, or of the brain, that have a value."""
    import numpy as np

    from bids_app.images import grid_of, load_data

    about = {name: entities.get(name) for name in ('sub', 'ses', 'space', 'res')}
    value = np.isfinite(load_data(path))
    for key, extra, where in (
        ('probseg', {'label': 'GM'}, 'grey matter'),
        ('brain_mask', {}, 'the brain'),
    ):
        mask = output_dir / output_path(key, **about, **extra)
        if mask.is_file() and grid_of(mask).matches(grid_of(path)):
            inside = load_data(mask) > GREY_MATTER
            if inside.any():
                return float(value[inside].mean()), where
    return float(value.any()), 'the image'


def _reason(path: Path) -> str:
    """Give the most frequent reason of the voxels without a value."""
    sidecar = json.loads(
        path.with_name(path.name.removesuffix('.nii.gz') + '.json').read_text('utf-8')
    )
    counts = {
        Status[name]: number
        for name, number in sidecar.get('StatusCounts', {}).items()
        if name in Status.__members__ and is_missing(Status[name])
    }
    if not counts:
        return 'what it is made from has none there'
    return DESCRIPTIONS[max(counts, key=lambda status: counts[status])]
