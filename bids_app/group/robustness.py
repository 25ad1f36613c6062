"""How far the result depends on choices, on who took part, on their number and on smoothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.group.baseline import RULES, classes_of
from bids_app.group.effects import random_of, smallest_effect
from bids_app.group.inputs import from_derivatives
from bids_app.group.shares import jackknife_groups
from bids_app.group.statistics import (
    MINIMUM,
    percent_of,
    random_effects,
    weigh_participants,
)
from bids_app.group.stream import Stack, common_participants, paired_blocks, stack_maps
from bids_app.models.concordance.discordance import discordant_shares, estimate_discordance
from bids_app.models.concordance.epp2025 import below_typical, median_over_participants
from bids_app.models.concordance.labels import (
    Label,
    gate_by_probability,
    label_by_sign,
    label_robust,
)
from bids_app.models.concordance.published_errors import MEDIAN_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from bids_app._typing import BoolArray, FloatArray, StatusArray
    from bids_app.group.concordance import Concordance
    from bids_app.group.effects import Effect
    from bids_app.group.study import Study

    _Maps: TypeAlias = tuple[FloatArray, FloatArray | None]
    """Values and variances, participants x voxels."""

SPLITS = 20
"""Random halves of the participants."""

DRAWS = 3
"""Random groups of each size."""


def save_robustness(study: Study, effects: Mapping[str, Effect], found: Concordance) -> None:
    """Write the tables of reliability, yield and multiverse of a contrast."""
    contrast = effects['cmro2'].maps.contrast
    about = study.about(*(effect.maps for effect in effects.values()))
    tables = {
        'group_reliability': list(_reliability(study, effects, found)),
        'group_yield': list(_yields(study, effects['boldPct'], effects['cmro2'])),
        'group_multiverse': list(_multiverse(study, effects, found)),
    }
    for key, rows in tables.items():
        if rows:
            study.save_table(rows, key, about, contrast=contrast)


def _reliability(
    study: Study, effects: Mapping[str, Effect], found: Concordance
) -> Iterator[dict[str, Any]]:
    """Compare maps and labels of random halves, and leave each participant out in turn."""
    for quantity, effect in effects.items():
        n = len(effect.stack.participants)
        if n < 2 * MINIMUM:
            continue
        halves = _halves(study, effect.maps.name, n)
        means = _means(effect.stack, np.concatenate(halves).astype(float))
        r = np.array(
            [_correlation(means[2 * split], means[2 * split + 1]) for split in range(SPLITS)]
        )
        whole = 2 * r / (1 + r)  # Spearman and Brown: of the whole group
        yield _over_halves('split-half correlation of the map', quantity, r) | {
            'whole_group': float(np.median(whole))
        }
    names = effects['cmro2'].stack.participants
    sign = np.sign(effects['boldPct'].result.effect)
    for group, (change, error) in enumerate(found.gated.left_out):
        shares = discordant_shares(
            (sign * change)[found.gate], error[found.gate], smallest_effect=found.smallest_effect
        )
        for measure, value in zip(('pi_d', 'w_d'), shares, strict=True):
            who = _members(names, group)
            yield _without(f'{measure} without the participant', 'cmro2', who, value)
    yield from _label_reliability(study, effects['boldPct'], effects['cmro2'], found)


def _halves(study: Study, name: str, n: int) -> list[BoolArray]:
    """Draw random halves of n participants, (2, n) each: who is in the one and in the other."""
    rng = random_of(study, f'halves_{name}')
    first = [np.isin(np.arange(n), rng.permutation(n)[: n // 2]) for _ in range(SPLITS)]
    return [np.stack([one, ~one]) for one in first]


def _members(names: Sequence[str], group: int) -> str:
    """Name the participants of a group that is left out."""
    member = jackknife_groups(len(names))
    return ', '.join(
        f'sub-{name}' for name, own in zip(names, member, strict=True) if own == group
    )


def _over_halves(measure: str, quantity: str, values: FloatArray) -> dict[str, Any]:
    """Make the row of a number that every pair of halves has."""
    known = values[np.isfinite(values)]
    low, middle, high = np.quantile(known, [0, 0.5, 1]) if known.size else [np.nan] * 3
    row = {'measure': measure, 'quantity': quantity, 'participant': None, 'whole_group': None}
    return row | {'value': float(middle), 'low': float(low), 'high': float(high)}


def _without(measure: str, quantity: str, who: str, value: float) -> dict[str, Any]:
    """Make the row of a number with somebody left out."""
    row = {'measure': measure, 'quantity': quantity, 'participant': who, 'value': float(value)}
    return row | dict.fromkeys(('low', 'high', 'whole_group'))


def _label_reliability(
    study: Study, bold: Effect, change: Effect, found: Concordance
) -> Iterator[dict[str, Any]]:
    """Compare the labels of random halves, and those without each participant, with each other."""
    stacks = [bold.stack, change.stack]
    common = common_participants(stacks)
    n = len(common)
    if n < 2 * MINIMUM:
        return
    data = _spread_voxels(stacks)
    gate = found.gate[bold.stack.spread]
    pairs = [
        [_labels(study, data, half, gate) for half in halves]
        for halves in _halves(study, f'labels_{change.maps.name}', n)
    ]
    for rule in RULES:
        both = [_agreement(one[rule], other[rule]) for one, other in pairs]
        decided, same = np.array(both).T
        yield _over_halves(f'split-half share decided in both, {rule} rule', 'labels', decided)
        yield _over_halves(f'split-half share of these alike, {rule} rule', 'labels', same)
    whole = _labels(study, data, np.ones(n, bool), gate)['robust']
    n_labels = max(int(_is_decided(whole).sum()), 1)
    member = jackknife_groups(n)
    for group in range(int(member.max()) + 1):
        left = _labels(study, data, member != group, gate)['robust']
        kept = float((_is_decided(whole) & (left == whole)).sum() / n_labels)
        measure = 'robust labels kept without the participant'
        yield _without(measure, 'labels', _members(common, group), kept)


def _is_decided(labels: StatusArray) -> BoolArray:
    """Find the voxels whose label is concordant or discordant."""
    concordant, discordant = classes_of(labels).values()
    return concordant | discordant


def _agreement(one: StatusArray, other: StatusArray) -> tuple[float, float]:
    """Give the share of the gate that two label maps decide, and of it that with one label."""
    gated = max(int(((one > 0) & (one < Label.NOT_SIGNIFICANT)).sum()), 1)
    both = _is_decided(one) & _is_decided(other)
    n_both = int(both.sum())
    return n_both / gated, float((one == other)[both].mean()) if n_both else float('nan')


def _labels(
    study: Study, data: Sequence[_Maps], chosen: BoolArray, gate: BoolArray | None = None
) -> dict[str, StatusArray]:
    """Label voxels by sign and robustly from the chosen participants, in their gate or another."""
    results = []
    for values, variances in data:
        part = values[chosen], None if variances is None else variances[chosen]
        results.append(random_effects(*part, weighting=weigh_participants(*part)))
    bold, change = results
    levels = study.settings.change
    everywhere = np.ones(bold.effect.shape, bool)
    if gate is None:
        gate = gate_by_probability(bold.p, q=levels.bold_q, mask=everywhere)
    estimates = bold.as_estimate, change.as_estimate
    return {
        'sign': label_by_sign(bold.effect, change.effect, gate, everywhere),
        'robust': label_robust(*estimates, gate, everywhere, level=levels.false_sign_rate),
    }


def _means(stack: Stack, weights: FloatArray) -> FloatArray:
    """Average groups of participants given by the rows of `weights`."""
    parts = []
    for where in stack.slices(6 * len(stack.participants) + 3 * len(weights)):
        values, _ = stack.block(where)
        known = np.isfinite(values)
        n = weights @ known
        total = weights @ np.where(known, values, 0.0)
        parts.append(np.where(n > 0, total / np.maximum(n, 1), np.nan))
    return np.concatenate(parts, axis=1)


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Correlate two maps where both are known."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3:
        return float('nan')
    one, two = first[known] - first[known].mean(), second[known] - second[known].mean()
    size = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / size if size > 0 else float('nan')


def _yields(study: Study, bold: Effect, change: Effect) -> Iterator[dict[str, Any]]:
    """Label random groups of several sizes after smoothing the maps, in spread voxels."""
    common = common_participants([bold.stack, change.stack])
    n = len(common)
    sizes = sorted({size for size in (n // 4, n // 2, 3 * n // 4, n) if size > MINIMUM})
    rng = random_of(study, f'yield_{change.maps.name}')
    for fwhm in study.settings.group.yield_fwhm:
        stacks = [bold.stack, change.stack]
        data = _spread_voxels([_smoothed(study, one, fwhm) if fwhm else one for one in stacks])
        for size in sizes:
            draws = [
                _shares(_labels(study, data, np.isin(np.arange(n), rng.permutation(n)[:size])))
                for _ in range(1 if size == n else DRAWS)
            ]
            gated, decided, discordant = np.mean(draws, axis=0)
            yield {
                'n_participants': size,
                'fwhm': fwhm,
                'draws': len(draws),
                'gated_fraction': gated,
                'decided_fraction': decided,
                'discordant_fraction': discordant,
            }


def _spread_voxels(stacks: Sequence[Stack]) -> list[_Maps]:
    """Read voxels spread over the mask, the same of every stack, of the participants of all."""
    data: list[_Maps] = []
    for stack in stacks:
        rows = [stack.participants.index(name) for name in common_participants(stacks)]
        values, variances = stack.block(stacks[0].spread)
        data.append((values[rows], None if variances is None else variances[rows]))
    return data


def _shares(labels: Mapping[str, StatusArray]) -> tuple[float, float, float]:
    """Give the shares of gated voxels, of decided ones in the gate, and of discordant ones."""
    robust = labels['robust']
    gated = (robust > 0) & (robust < Label.NOT_SIGNIFICANT)
    concordant, discordant = (int(one.sum()) for one in classes_of(robust).values())
    decided = concordant + discordant
    return (
        float(gated.mean()),
        decided / max(int(gated.sum()), 1),
        discordant / decided if decided else 0.0,
    )


def _smoothed(study: Study, stack: Stack, fwhm: float) -> Stack:
    """Smooth the maps within the mask; weights of participants keep their unsmoothed variances."""
    sigma = fwhm / np.sqrt(8 * np.log(2)) / study.grid.zooms
    target = stack.values.with_name(f'{stack.values.stem}_{fwhm:g}.f32')
    with target.open('wb') as stream:
        for number in range(len(stack.participants)):
            volume = study.volume(stack.row(number))
            known = np.isfinite(volume)
            weight = gaussian_filter(known.astype(np.float32), sigma)
            total = gaussian_filter(np.where(known, volume, 0.0).astype(np.float32), sigma)
            mean = np.where(known, total / np.where(known, weight, 1.0), np.nan)
            stream.write(mean[study.mask].astype(np.float32).tobytes())
    return replace(stack, values=target)


def _multiverse(
    study: Study, effects: Mapping[str, Effect], found: Concordance
) -> Iterator[dict[str, Any]]:
    """Repeat sign rule, pi_d and w_d over routes, statistics, scales, masks and gates."""
    bold, change = effects['boldPct'], effects['cmro2']
    masks = {'grey matter': np.ones(study.n_voxels, bool)}
    volume = study.inputs.baseline_of(change.maps, 'cbv')
    if volume is not None and study.stack(volume).participants:
        stack = study.stack(volume)
        medians = [
            median_over_participants(stack.block(where)[0])
            for where in stack.slices(6 * len(stack.participants))
        ]
        masks['typical blood volume'] = below_typical(np.concatenate(medians)[None])
    gates = {'t and false discovery rate': found.gate, 'bootstrap ratio and clusters':
             found.pls_gate}  # fmt: skip
    sign = np.sign(bold.result.effect)
    for source, stack in _routes(study, change).items():
        for scale, smallest, centre in _centres(study, stack, change):
            for statistic, (value, error) in centre.items():
                for mask_name, mask in masks.items():
                    for gate_name, gate in gates.items():
                        chosen = gate & mask & np.isfinite(value) & np.isfinite(error)
                        here = estimate_discordance(
                            (sign * value)[chosen],
                            error[chosen],
                            smallest_effect=smallest,
                            intervals=(),
                        )
                        yield {
                            'source': source,
                            'scale': scale,
                            'statistic': statistic,
                            'mask': mask_name,
                            'gate': gate_name,
                            'n_participants': len(stack.participants),
                            'n_voxels': here.n_used,
                            'sign_fraction': here.sign_fraction,
                            'pi_d': here.count.value,
                            'w_d': here.size.value,
                            'null_fraction': here.null.value,
                            'note': here.reason or None,
                        }


def _routes(study: Study, change: Effect) -> dict[str, Stack]:
    """Give the change of CMRO2 of this output, and of others made by another route or rule."""
    stacks = {'this output': change.stack}
    for name, folder in sorted(study.run.derivatives.items()):
        others = from_derivatives(folder, study.inputs.participants).changes
        for maps in others:
            if (maps.quantity, maps.contrast) == ('cmro2', change.maps.contrast):
                place = study.folder / name
                place.mkdir(exist_ok=True)
                stack = stack_maps(maps, study.mask, study.grid, place)
                if len(stack.participants) >= MINIMUM:
                    stacks[name] = stack
    return stacks


def _centres(
    study: Study, stack: Stack, change: Effect
) -> Iterator[tuple[str, float, dict[str, tuple[FloatArray, FloatArray]]]]:
    """Give means and medians with errors, of the difference and in percent of the baseline."""
    baseline = study.inputs.baseline_of(change.maps)
    scales: dict[str, list[Stack]] = {'difference': [stack]}
    if baseline is not None and study.stack(baseline).participants:
        scales['percent'] = [stack, study.stack(baseline)]
    for scale, stacks in scales.items():
        if len(common_participants(stacks)) < MINIMUM:
            continue
        smallest = 100 * study.settings.change.smallest_effect
        if scale == 'difference':
            smallest = smallest_effect(study, change.baseline)
        parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        for _, values in paired_blocks(stacks, 12 * len(stack.participants)):
            x = values[0] if scale == 'difference' else percent_of(*values)
            mean = random_effects(x, None)
            parts.append((mean.effect, mean.standard_error, median_over_participants(x)))
        mean_effect, error, median = (np.concatenate(one) for one in zip(*parts, strict=True))
        smallest = 0.0 if np.isnan(smallest) else max(smallest, 0.0)
        yield (
            scale,
            smallest,
            {
                'mean': (mean_effect, error),
                'median': (median, MEDIAN_ERROR * error),
            },
        )
