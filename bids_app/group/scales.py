"""What share of metabolism opposes BOLD from voxels to networks, each unit with its own error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.engines.templates import FINE_ATLAS, packaged_template
from bids_app.group.concordance import noise_width, study_regions
from bids_app.group.effects import random_of
from bids_app.group.shares import (
    common_offsets,
    leave_out,
    sign_flip_probability,
    sign_flip_products,
)
from bids_app.group.statistics import random_effects, weigh_participants
from bids_app.images import load_data
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.discordance import Discordance, estimate_discordance
from bids_app.models.concordance.labels import gate_by_probability
from bids_app.models.concordance.offset import SIGNS
from bids_app.models.constants import FEWEST_EFFECTS, NOISE_BLOCK_WIDTHS, SIGN_ALPHA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bids_app._typing import BoolArray, FloatArray, IntArray
    from bids_app.group.concordance import Concordance
    from bids_app.group.effects import Effect
    from bids_app.group.statistics import RandomEffects, Weighting
    from bids_app.group.stream import Stack
    from bids_app.group.study import Study

CUBES = (4.0, 8.0, 12.0)
"""Edges of the cubes whose voxels are averaged, mm."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scale:
    """Voxels that are averaged, and blocks of averages that share noise."""

    name: str
    unit: IntArray
    """(V,) number of the unit of each voxel; -1 is none."""
    blocks: IntArray
    """(U,) block of each unit."""


def save_scales(study: Study, effects: Mapping[str, Effect], found: Concordance) -> None:
    """Write the table of shares at every scale."""
    bold, change = effects['boldPct'], effects['cmro2']
    rows = [_row('voxel', bold_sign, found.shares['all', bold_sign]) for bold_sign, _ in SIGNS]
    for scale in _scales(study, change):
        rows += _at_scale(study, scale, (bold, change), found.smallest_effect)
    about = study.about(bold.maps, change.maps)
    study.save_table(rows, 'group_scale', about, contrast=change.maps.contrast)


def _scales(study: Study, change: Effect) -> Iterator[Scale]:
    """Cut the mask into cubes, parcels and networks."""
    points = np.argwhere(study.mask) * study.grid.zooms
    shared = NOISE_BLOCK_WIDTHS * noise_width(study, change)
    for edge in CUBES:
        unit = spatial_blocks(points, side=edge)
        centres = np.stack([_averages(axis, unit) for axis in points.T.astype(float)], axis=1)
        yield Scale(
            name=f'{edge:g} mm',
            unit=unit,
            blocks=spatial_blocks(centres, side=max(shared, 2 * edge)),
        )
    networks, parcels, _ = study_regions(study)
    if not parcels:
        return
    fine = load_data(packaged_template(FINE_ATLAS))[study.mask].astype(np.int64)
    labels = np.unique(fine[fine > 0])
    for name, unit in (
        ('400 parcels', _numbered(fine == label for label in labels)),
        ('200 parcels', _numbered(parcels.values())),
        ('networks', _numbered(networks.values())),
    ):
        if unit.size and unit.max() >= 0:
            yield Scale(name=name, unit=unit, blocks=np.arange(unit.max() + 1))


def _numbered(parts: Iterable[BoolArray]) -> IntArray:
    """Give each voxel the number of its part, from 0 without gaps; -1 is none."""
    kept = [part for part in parts if part.any()]
    if not kept:
        return np.full(0, -1)
    unit = np.full(kept[0].size, -1)
    for number, part in enumerate(kept):
        unit[part] = number
    return unit


def _averages(values: FloatArray, unit: IntArray) -> FloatArray:
    """Average what is known of each unit; NaN where nothing is."""
    known = np.isfinite(values) & (unit >= 0)
    size = int(unit.max()) + 1
    counts = np.bincount(unit[known], minlength=size)
    sums = np.bincount(unit[known], values[known], size)
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _participants(stack: Stack, unit: IntArray) -> FloatArray:
    """Average each participant, (N, U)."""
    return np.stack([_averages(stack.row(n), unit) for n in range(len(stack.participants))])


def _estimate(
    study: Study, effect: Effect, scale: Scale
) -> tuple[FloatArray, RandomEffects, Weighting, FloatArray]:
    """Give participants, mean, weighting and design of the units of a scale."""
    values = _participants(effect.stack, scale.unit)
    design = study.design.matrix(effect.stack.participants)
    weighting = weigh_participants(values, None, design=design)
    mean = random_effects(values, None, weighting=weighting, design=design)
    return values, mean, weighting, design


def _at_scale(
    study: Study, scale: Scale, effects: tuple[Effect, Effect], smallest: float
) -> Iterator[dict[str, Any]]:
    """Estimate the shares of units whose errors are those between participants."""
    change = effects[1]
    (_, of_bold, _, _), (values, mean, weighting, design) = (
        _estimate(study, effect, scale) for effect in effects
    )
    gate = gate_by_probability(
        of_bold.p, q=study.settings.change.bold_q, mask=np.isfinite(mean.effect)
    )
    sign = np.sign(of_bold.effect)[gate]
    if gate.sum() < FEWEST_EFFECTS:
        opposite = sign * mean.effect[gate] < 0
        few = Discordance(
            n_used=int(gate.sum()),
            sign_fraction=float(np.mean(opposite)) if gate.any() else float('nan'),
            reason=f'{gate.sum()} units with a BOLD change, {FEWEST_EFFECTS} needed',
        )
        yield _row(scale.name, 'all', few)
        return
    values, effect, error = values[:, gate], mean.effect[gate], mean.standard_error[gate]
    base = np.ones(sign.size)
    if change.baseline is not None:
        base = np.nan_to_num(_averages(change.baseline, scale.unit)[gate])
    products = sign_flip_products(
        values, common_offsets([(values, base)])[:, None] * base, weighting.participants
    )
    rng = random_of(study, f'flip_{scale.name}_{change.maps.name}')
    p = sign_flip_probability(products, rng=rng)
    left_out = list(zip(*leave_out(values, None, weighting, design), strict=True))
    withheld = '' if p <= SIGN_ALPHA else f'no change beyond an offset: sign-flip test p = {p:.2g}'
    for name, wanted in SIGNS:
        chosen = sign != 0 if wanted == 0 else sign == wanted
        one = estimate_discordance(
            (sign * effect)[chosen],
            error[chosen],
            smallest_effect=smallest,
            direction=sign[chosen] if wanted == 0 else None,
            blocks=scale.blocks[gate][chosen],
            left_out=[((sign * x)[chosen], s[chosen]) for x, s in left_out],
            withheld=withheld,
            intervals=('count', 'size'),
        )
        withheld = withheld or (one.reason if one.is_offset else '')
        yield _row(scale.name, name, one)


def _row(scale: str, bold: str, found: Discordance) -> dict[str, Any]:
    """Make a row of the table."""
    return {
        'scale': scale,
        'bold': bold,
        'n_units': found.n_used,
        'sign_fraction': found.sign_fraction,
        'noise_only': found.noise_only_fraction,
        'w_d': found.size.value,
        'w_d_low': found.size.low,
        'w_d_high': found.size.high,
        'pi_d': found.count.value,
        'pi_d_low': found.count.low,
        'pi_d_high': found.count.high,
        'note': found.reason or None,
    }
