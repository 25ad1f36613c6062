"""Share of every constant, and of noise, in the variance of CMRO2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.models.oxygen.sensitivity import relative_effects, stated_error, variance_shares
from bids_app.reports.derivatives import load_upright, read_table, select, to_number
from bids_app.reports.report_table import report_table
from bids_app.reports.reportlets.base import tissue_values
from bids_app.reports.text import contrast_text, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bids_app.reports.background import Scene
    from bids_app.reports.derivatives import Derivative

NOISE = 'noise'
"""Key of the share of the noise of the scans."""

SAMPLES = 'VoxelsPerNoiseSample'
"""Entry of the sidecar: voxels that share one independent sample of noise."""


def share_table(
    values: Sequence[Mapping[str, Any]], scene: Scene
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """
    Say what every constant adds to the variance of CMRO2.

    Give what the shares are of, nothing without a map of CMRO2; and per constant, and for
    ``noise``: how well it is known, what that does to CMRO2, and its share of each column.
    """
    noises = {**_of_map(scene), **_of_changes(scene.files)}
    if not noises:
        return (), {}
    constants = {str(entry['name']): to_number(entry['value']) for entry in values}
    effects = relative_effects(constants)
    shares = {name: variance_shares(effects, noise) for name, noise in noises.items()}
    rows = {
        name: (
            f'± {percent(stated_error(name, constants))}',
            f'± {percent(abs(effect))}',
            *(percent(share[name]) for share in shares.values()),
        )
        for name, effect in effects.items()
    }
    rows[NOISE] = ('', '', *(percent(share[NOISE]) for share in shares.values()))
    return tuple(noises), rows


def _of_map(scene: Scene) -> dict[str, float]:
    """Relative noise of CMRO2 of the first condition: of a voxel and of the mean of its tissue."""
    for file in sorted(scene.maps('cmro2'), key=scene.rank):
        condition = file.entities.get('condition')
        errors = scene.maps('variance', quantity='cmro2', condition=condition)
        if not errors:
            continue
        value, variance = (load_upright(path)[0] for path in (file.path, errors[0].path))
        known = np.isfinite(value) & np.isfinite(variance) & (value > 0)
        row = next(row for row in report_table().figures if row.quantity == 'cmro2')
        tissue = next(iter(tissue_values(np.where(known, variance, np.nan), known, scene)))
        taken = [tissue_values(data, known, scene)[tissue] for data in (value, variance)]
        if not len(taken[0]):
            continue
        samples = len(taken[0]) / float(file.sidecar.get(SAMPLES, 1.0))
        of_mean = float(np.sqrt(np.mean(taken[1]) / samples) / np.mean(taken[0]))
        of_voxel = float(np.median(np.sqrt(taken[1]) / taken[0]))
        where = f', {condition}' if condition else ''
        return {
            f'{row.title} of a voxel of {tissue}{where}': of_voxel,
            f'{row.title}, mean of {tissue}{where}': of_mean,
        }
    return {}


def _of_changes(files: Sequence[Derivative]) -> dict[str, float]:
    """Relative noise of the change of CMRO2 of the whole brain, per contrast."""
    noises = {}
    for file in select(files, 'regions'):
        for line in read_table(file.path):
            if line['level'] == 'brain' and line['quantity'] == 'cmro2':
                effect, error = to_number(line['effect']), to_number(line['se'])
                if np.isfinite(effect + error) and effect:
                    name = f'change of CMRO2 of the brain, {contrast_text(file)}'
                    noises[name] = error / abs(effect)
    return noises
