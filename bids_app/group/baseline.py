"""Where concordant and discordant voxels differ: baselines, shares of flow, coupling, lines."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bids_app.group.effects import mean_baseline, random_of
from bids_app.group.statistics import percent_of
from bids_app.group.stream import common_participants, paired_blocks
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.coupling import (
    fit_line,
    median_difference,
    ratio_of_means,
    relative_importance,
)
from bids_app.models.concordance.epp2025 import conjunction, discordance_by_quartile
from bids_app.models.concordance.labels import Label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.group.concordance import Concordance
    from bids_app.group.effects import Effect
    from bids_app.group.stream import Stack
    from bids_app.group.study import Study

RULES = ('sign', 'robust')
"""Rules whose classes are compared."""

BLOCK_SIDE = 20.0
"""Cubes that are left out in turn for the errors of lines, mm."""

QUANTITIES = ('oef', 'cbf', 'cbv', 'cmro2')


def classes_of(labels: Any) -> dict[str, BoolArray]:
    """Give the voxels of each class of a label map."""
    return {
        'concordant': np.isin(labels, (Label.CONCORDANT_POSITIVE, Label.CONCORDANT_NEGATIVE)),
        'discordant': np.isin(labels, (Label.DISCORDANT_POSITIVE, Label.DISCORDANT_NEGATIVE)),
    }


def save_baseline_tables(study: Study, effects: Mapping[str, Effect], found: Concordance) -> None:
    """Write the tables that compare the classes of a contrast."""
    change = effects['cmro2']
    contrast = change.maps.contrast
    baselines = {
        name: values
        for name in QUANTITIES
        if (values := mean_baseline(study, change.maps, name)) is not None
    }
    quartiles = [
        {'rule': rule} | row
        for rule in RULES
        for row in discordance_by_quartile(found.labels[rule], found.table.bold_median)
    ]
    about = study.about(*(effect.maps for effect in effects.values()))
    tables = {
        'group_baseline': _compare(study, effects, found, baselines),
        'group_importance': _importances(effects, found, baselines),
        'group_coupling': _coupling(study, effects, found),
        'group_quartiles': quartiles,
        'group_regression': _lines(study, effects),
    }
    for key, rows in tables.items():
        if rows:
            study.save_table(rows, key, about, contrast=contrast)


def save_conjunctions(
    study: Study, found: Mapping[str, Concordance], sidecar: dict[str, Any]
) -> None:
    """Compare the labels of every two contrasts where their BOLD changes are opposite."""
    rows = []
    for first, second in combinations(sorted(found), 2):
        one, two = found[first], found[second]
        for rule in RULES:
            counts = conjunction(
                one.labels[rule],
                two.labels[rule],
                one.table.bold_median,
                two.table.bold_median,
            )
            rows += [
                {'rule': rule, 'first': first, 'second': second, 'bold': name}
                | {f'n_{kind}': number for kind, number in numbers.items()}
                for name, numbers in counts.items()
            ]
    if rows:
        study.save_table(rows, 'group_conjunction', sidecar)


def _compare(
    study: Study,
    effects: Mapping[str, Effect],
    found: Concordance,
    baselines: Mapping[str, FloatArray],
) -> list[dict[str, Any]]:
    """Compare the baselines of concordant and discordant voxels, over voxels and participants."""
    rows = []
    change = effects['cmro2']
    for quantity, values in baselines.items():
        maps = study.inputs.baseline_of(change.maps, quantity)
        for rule in RULES:
            classes = classes_of(found.labels[rule])
            name = f'baseline_{quantity}_{rule}_{change.maps.contrast}'
            difference, p = median_difference(
                values[classes['concordant']],
                values[classes['discordant']],
                rng=random_of(study, name),
                n_permutations=study.settings.group.permutations,
            )
            if np.isnan(difference) or maps is None:
                continue
            medians = _class_medians(study.stack(maps), classes)
            paired = medians['concordant'] - medians['discordant']
            tested = stats.ttest_1samp(paired[np.isfinite(paired)], 0.0)
            rest = ~classes['concordant'] & ~classes['discordant']
            rows.append(
                {
                    'quantity': quantity,
                    'rule': rule,
                    'n_concordant': int(classes['concordant'].sum()),
                    'n_discordant': int(classes['discordant'].sum()),
                    'median_concordant': float(np.nanmedian(values[classes['concordant']])),
                    'median_discordant': float(np.nanmedian(values[classes['discordant']])),
                    'median_other': float(np.nanmedian(values[rest])) if rest.any() else None,
                    'difference': difference,
                    'p_voxels': p,
                    'difference_participants': float(np.nanmean(paired)),
                    'p_participants': float(tested.pvalue),
                    'n_participants': int(np.isfinite(paired).sum()),
                }
            )
    return rows


def _class_medians(stack: Stack, classes: Mapping[str, BoolArray]) -> dict[str, FloatArray]:
    """Give the median of each participant over the voxels of each class."""
    medians: dict[str, list[float]] = {name: [] for name in classes}
    for number in range(len(stack.participants)):
        row = stack.row(number)
        for name, members in classes.items():
            values = row[members]
            values = values[np.isfinite(values)]
            medians[name].append(float(np.median(values)) if values.size else np.nan)
    return {name: np.array(values) for name, values in medians.items()}


def _importances(
    effects: Mapping[str, Effect], found: Concordance, baselines: Mapping[str, FloatArray]
) -> list[dict[str, Any]]:
    """Share the variance of CMRO2 over voxels among its parts, at baseline and in its change."""
    models: dict[str, tuple[FloatArray, dict[str, FloatArray]]] = {}
    if {'cmro2', 'oef', 'cbf'} <= set(baselines):
        parts = {name: baselines[name] for name in ('oef', 'cbf', 'cbv') if name in baselines}
        models['baseline'] = (baselines['cmro2'], parts)
        if {'oef', 'cbf'} <= set(effects):
            percent = {
                name: percent_of(effects[name].result.effect, baselines[name])
                for name in ('oef', 'cbf', 'cmro2')
            }
            models['change'] = (percent.pop('cmro2'), percent)
    rows = []
    for model, (response, predictors) in models.items():
        for rule in RULES:
            for name, members in classes_of(found.labels[rule]).items():
                shares = relative_importance(
                    response[members], {key: values[members] for key, values in predictors.items()}
                )
                total = sum(part for _, part in shares.values())
                rows += [
                    {
                        'model': model,
                        'rule': rule,
                        'class': name,
                        'n_voxels': int(members.sum()),
                        'predictor': key,
                        'coefficient': coefficient,
                        'importance': part / total if total > 0 else None,
                        'r2': total,
                    }
                    for key, (coefficient, part) in shares.items()
                ]
    return rows


def _coupling(
    study: Study, effects: Mapping[str, Effect], found: Concordance
) -> list[dict[str, Any]]:
    """Divide the CBF change by the CMRO2 change, in percent, with sets of Fieller."""
    pairs = []
    for quantity in ('cbf', 'cmro2'):
        effect = effects.get(quantity)
        maps = None if effect is None else study.inputs.baseline_of(effect.maps)
        if effect is None or maps is None:
            return []
        pairs += [effect.stack, study.stack(maps)]
    if not common_participants(pairs):
        return []
    rows = []
    for rule in RULES:
        classes = {
            label.name.lower(): found.labels[rule] == label
            for label in Label
            if Label.CONCORDANT_POSITIVE <= label <= Label.DISCORDANT_NEGATIVE
        }
        means = _class_means(pairs, classes)
        for name, (flow, flow_base, metabolism, metabolism_base) in means.items():
            flow_percent = 100 * flow / flow_base
            metabolism_percent = 100 * metabolism / metabolism_base
            ratio = ratio_of_means(flow_percent, metabolism_percent)
            if ratio.kind == 'undefined':
                continue
            rows.append(
                {
                    'rule': rule,
                    'class': name,
                    'n_voxels': int(classes[name].sum()),
                    'n_participants': int(np.isfinite(flow_percent + metabolism_percent).sum()),
                    'cbf_percent': float(np.nanmean(flow_percent)),
                    'cmro2_percent': float(np.nanmean(metabolism_percent)),
                    'coupling': ratio.ratio,
                    'low': ratio.low,
                    'high': ratio.high,
                    'set': ratio.kind,
                }
            )
    return rows


def _class_means(
    stacks: list[Stack], classes: Mapping[str, BoolArray]
) -> dict[str, list[FloatArray]]:
    """Give the mean of each stack (K, N) over the voxels of a class that are known in all."""
    size = len(common_participants(stacks))
    sums = {name: np.zeros((len(stacks), size)) for name in classes}
    counts = {name: np.zeros(size) for name in classes}
    for where, values in paired_blocks(stacks):
        stacked = np.stack(values)
        known = np.asarray(np.isfinite(stacked).all(axis=0))
        filled = np.where(known, stacked, 0.0)
        for name, members in classes.items():
            sums[name] += filled[:, :, members[where]].sum(axis=2)
            counts[name] += known[:, members[where]].sum(axis=1)
    return {
        name: list(np.where(counts[name] > 0, sums[name] / np.maximum(counts[name], 1), np.nan))
        for name in classes
    }


def _lines(study: Study, effects: Mapping[str, Effect]) -> list[dict[str, Any]]:
    """Regress the change of CMRO2 on each baseline, with errors in both axes and naively."""
    change, bold = effects['cmro2'], effects['boldPct']
    points = np.argwhere(study.mask) * study.grid.zooms
    blocks = spatial_blocks(points, side=BLOCK_SIDE)
    rows = []
    for quantity in QUANTITIES:
        maps = study.inputs.baseline_of(change.maps, quantity)
        if maps is None:
            continue
        moments = _moments([study.stack(maps), change.stack])
        if moments is None:
            continue
        sign = np.sign(bold.result.effect)
        for response, factor in (('cmro2', np.ones_like(sign)), ('aligned cmro2', sign)):
            line = fit_line(
                moments['x'],
                factor * moments['y'],
                x_variance=moments['x_variance'],
                covariance=factor * moments['covariance'],
                blocks=blocks,
            )
            rows.append(
                {
                    'response': response,
                    'predictor': quantity,
                    'n_voxels': line.n,
                    'naive_slope': line.naive_slope,
                    'naive_se': line.naive_se,
                    'slope': line.slope,
                    'slope_se': line.slope_se,
                    'reliability': line.reliability,
                    'n_participants': moments['n'],
                }
            )
    return rows


def _moments(stacks: list[Stack]) -> dict[str, Any] | None:
    """Give means over participants of x and y, with the error terms their spread implies."""
    n = len(common_participants(stacks))
    if n < 3:
        return None
    parts: list[list[FloatArray]] = []
    for _, (x, y) in paired_blocks(stacks):
        known = np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        between = (x - mean_x, y - mean_y)
        variance = (between[0] ** 2).sum(axis=0) / (n - 1) / n
        covariance = (between[0] * between[1]).sum(axis=0) / (n - 1) / n
        parts.append([np.where(known, one, np.nan) for one in
                      (mean_x, mean_y, variance, covariance)])  # fmt: skip
    joined = [np.concatenate(one) for one in zip(*parts, strict=True)]
    names = ('x', 'y', 'x_variance', 'covariance')
    return dict(zip(names, joined, strict=True)) | {'n': n}
