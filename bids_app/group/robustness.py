"""How far the result depends on choices, on who took part, on their number and on smoothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.group.effects import random_of, smallest_effect
from bids_app.group.inputs import from_derivatives
from bids_app.group.statistics import MINIMUM, random_effects, weigh_participants
from bids_app.group.stream import Stack, common_participants, paired_blocks, stack_maps
from bids_app.models.concordance import Label, gate_by_probability, label_robust
from bids_app.models.published_rules import below_typical, median_over_participants
from bids_app.models.sign_rate import estimate_discordance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.group.concordance import Concordance
    from bids_app.group.effects import Effect
    from bids_app.group.study import Study

SPLITS = 20
"""Random halves of the participants."""

DRAWS = 3
"""Random groups of each size."""

FWHM = (0.0, 6.0)
"""Smoothing of the yield table, mm."""

MEDIAN_ERROR = float(np.sqrt(np.pi / 2))
"""Standard error of a median over that of a mean, normal errors."""


def save_robustness(study: Study, effects: Mapping[str, Effect], found: Concordance) -> None:
    """Write the tables of reliability, yield and multiverse of a contrast."""
    contrast = effects['cmro2'].maps.contrast
    tables = {
        'group_reliability': list(_reliability(study, effects, found)),
        'group_yield': list(_yields(study, effects['boldPct'], effects['cmro2'])),
        'group_multiverse': list(_multiverse(study, effects, found)),
    }
    for key, rows in tables.items():
        if rows:
            study.save_table(rows, key, contrast=contrast)


def _reliability(
    study: Study, effects: Mapping[str, Effect], found: Concordance
) -> Iterator[dict[str, Any]]:
    """Correlate maps of random halves; give pi_d with each participant left out."""
    for quantity, effect in effects.items():
        n = len(effect.stack.participants)
        if n < 2 * MINIMUM:
            continue
        rng = random_of(study, f'halves_{effect.maps.name}')
        halves = np.zeros((2 * SPLITS, n))
        for split in range(SPLITS):
            order = rng.permutation(n)
            halves[2 * split, order[: n // 2]] = 1.0
            halves[2 * split + 1, order[n // 2 :]] = 1.0
        means = _means(effect.stack, halves)
        r = np.array(
            [_correlation(means[2 * split], means[2 * split + 1]) for split in range(SPLITS)]
        )
        whole = 2 * r / (1 + r)  # Spearman and Brown: of the whole group
        yield {
            'measure': 'split-half correlation of the map',
            'quantity': quantity,
            'participant': None,
            'value': float(np.median(r)),
            'low': float(r.min()),
            'high': float(r.max()),
            'whole_group': float(np.median(whole)),
        }
    names = effects['cmro2'].stack.participants
    if len(found.fractions) == len(names):
        for name, value in zip(names, found.fractions, strict=True):
            yield {
                'measure': 'pi_d without the participant',
                'quantity': 'cmro2',
                'participant': f'sub-{name}',
                'value': value,
                'low': None,
                'high': None,
                'whole_group': None,
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
    """Label random groups of several sizes, with and without smoothing, in spread voxels."""
    common = common_participants([bold.stack, change.stack])
    n = len(common)
    sizes = sorted({size for size in (n // 4, n // 2, 3 * n // 4, n) if size > MINIMUM})
    rng = random_of(study, f'yield_{change.maps.name}')
    for fwhm in FWHM:
        data = []
        for effect in (bold, change):
            stack = _smoothed(study, effect.stack, fwhm) if fwhm else effect.stack
            rows = [stack.participants.index(name) for name in common]
            values, variances = stack.sample()
            data.append((values[rows], None if variances is None else variances[rows]))
        for size in sizes:
            draws = [
                _decided(study, data, rng.permutation(n)[:size])
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


def _decided(
    study: Study, data: list[tuple[FloatArray, FloatArray | None]], chosen: Any
) -> tuple[float, float, float]:
    """Give the shares of gated voxels, of decided ones in the gate, and of discordant ones."""
    results = []
    for values, variances in data:
        part = values[chosen], None if variances is None else variances[chosen]
        results.append(random_effects(*part, weighting=weigh_participants(*part)))
    levels = study.settings.change
    everywhere = np.ones(results[0].effect.shape, bool)
    gate = gate_by_probability(results[0].p, q=levels.bold_q, mask=everywhere)
    labels = label_robust(
        results[0].as_estimate,
        results[1].as_estimate,
        gate,
        everywhere,
        level=levels.false_sign_rate,
    )
    n_discordant = np.isin(labels, (Label.DISCORDANT_POSITIVE, Label.DISCORDANT_NEGATIVE)).sum()
    n_concordant = np.isin(labels, (Label.CONCORDANT_POSITIVE, Label.CONCORDANT_NEGATIVE)).sum()
    n_decided = int(n_discordant + n_concordant)
    return (
        float(gate.mean()),
        n_decided / max(int(gate.sum()), 1),
        float(n_discordant / n_decided) if n_decided else 0.0,
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
    """Repeat sign rule and pi_d over routes, statistics, scales, masks and gates."""
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
                            interval=False,
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
                            'pi_d': here.fraction,
                            'null_fraction': here.null_fraction,
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
            x = values[0] if scale == 'difference' else _percent(*values)
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


def _percent(change: FloatArray, baseline: FloatArray) -> FloatArray:
    """Give changes in percent of positive baselines."""
    positive: BoolArray = baseline > 0
    return np.where(positive, 100 * change / np.where(positive, baseline, 1.0), np.nan)
