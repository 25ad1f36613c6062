"""The change of one quantity over participants: tests, permutations, and what could be found."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from bids_app.bids.output.names import row
from bids_app.group.permutation import Asymmetry, max_statistic, measure_asymmetry
from bids_app.group.statistics import (
    MINIMUM,
    STATISTICS,
    RandomEffects,
    equivalence,
    smallest_equivalence,
    weigh_participants,
)
from bids_app.group.stream import Stack, common_participants, paired_blocks, stack_effects
from bids_app.models.concordance.pls import (
    PartialLeastSquares,
    bootstrap_ratios,
    cross_products,
    fit_pls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.group.inputs import MapSet
    from bids_app.group.study import Study

ROWS = {
    ('mean', True): 'group_contrast',
    ('mean', False): 'group_map',
    ('test', True): 'group_covariate',
    ('test', False): 'group_map_covariate',
}
"""What is saved, and whether of a change -> row of the output table."""

LOGGER = logging.getLogger('oxybold')


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Effect:
    """
    What is known of the change of one quantity.

    Parameters
    ----------
    maps : MapSet
        Where it came from.
    stack : Stack
        Participants x voxels.
    result : RandomEffects
        Mean over participants.
    bsr : (V,) ndarray of float64
        Bootstrap ratio of partial least squares; NaN where a participant has no estimate.
    baseline : (V,) ndarray of float64 or None
        Mean of the baseline over participants.
    """

    maps: MapSet
    stack: Stack
    result: RandomEffects
    bsr: FloatArray
    baseline: FloatArray | None


def random_of(study: Study, name: str) -> np.random.Generator:
    """Make a generator that depends on the seed and on what it is for, not on the order."""
    return np.random.default_rng([study.settings.group.random_seed, crc32(name.encode())])


def maps_to_test(study: Study) -> Iterator[MapSet]:
    """
    Read maps and changes; give those of enough participants, name what is missing.

    Yields
    ------
    maps : MapSet
        With at least two participants, and more than the design has columns.
    """
    for maps in study.inputs.all_maps:
        if study.design.quantity not in {None, maps.quantity}:
            continue
        stack = study.stack(maps)
        what = maps.what
        lacking = sorted(set(study.inputs.participants) - set(maps.sources))
        if lacking:
            study.absences[f'{what} without {", ".join(lacking)}'] = None
        n, columns = len(stack.participants), 1 + len(study.design.columns)
        matrix = study.design.matrix(stack.participants)
        if n == 1 and study.settings.group.reference:
            continue  # one against many: no group is expected
        if n < MINIMUM:
            who = ', '.join(f'sub-{name}' for name in stack.participants) or 'no participant'
            study.absences[
                f'{what} is there for one participant only ({who}): no group statistics; labels, '
                'pi_d and regions of a single participant are in its own report'
            ] = None
        elif n <= columns or np.linalg.matrix_rank(matrix) < columns:
            study.absences[
                f'{what}: {n} participants cannot tell {columns} columns of the design apart '
                f'({", ".join(("mean", *study.design.columns))})'
            ] = None
        else:
            yield maps


def analyse_effect(study: Study, maps: MapSet) -> Effect:
    """
    Describe a quantity over participants and test what the design asks, block by block.

    The mean of a change is tested against zero; that of a map of a condition only described.
    """
    LOGGER.info('group: %s', maps.what)
    stack = study.stack(maps)
    result = stack_effects(stack, design=study.design.matrix(stack.participants))
    baseline, bsr = None, np.full(stack.n_voxels, np.nan)
    further = _spread(stack, result)
    sidecar = study.about(maps) | {'DegreesOfFreedom': float(np.nanmedian(result.dof))}
    if maps.contrast is not None:
        baseline = mean_baseline(study, maps)
        bsr = _save_pls(study, maps, stack)
        tests, facts = _test_change(study, maps, result, baseline)
        further |= tests | {'bsr': bsr}
        sidecar |= facts
    _save(study, maps, (result, further), 'mean', sidecar)
    for name, test in study.design.tests.items():
        design = study.design.matrix_of(stack.participants, name)
        found = stack_effects(stack, design=design)
        p, _ = _permute(study, stack, f'{maps.name}_{name}', design)
        about = sidecar | {'Column': test.meaning}
        _save(study, maps, (found, {'pFwe': p}), 'test', about, column=name)
    return Effect(maps=maps, stack=stack, result=result, bsr=bsr, baseline=baseline)


def _spread(stack: Stack, result: RandomEffects) -> dict[str, FloatArray]:
    """Give the standard deviation over participants, that relative to the mean, and coverage."""
    parts = []
    for where in stack.slices(6 * len(stack.participants)):
        values, _ = stack.block(where)
        known = np.isfinite(values)
        n = known.sum(axis=0)
        filled = np.where(known, values, 0.0)
        mean = filled.sum(axis=0) / np.maximum(n, 1)
        squares = np.where(known, (filled - mean) ** 2, 0.0).sum(axis=0)
        parts.append(np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan))
    spread = np.concatenate(parts)
    found = {'sd': spread, 'coverage': result.n / len(stack.participants)}
    if not stack.is_change:
        positive = result.effect > 0
        mean = np.where(positive, result.effect, 1.0)
        found['cv'] = np.where(positive, spread / mean, np.nan)
    return found


def _test_change(
    study: Study, maps: MapSet, result: RandomEffects, baseline: FloatArray | None
) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Test the mean of a change against zero; give maps, and facts for the sidecar."""
    stack = study.stack(maps)
    design = study.design.matrix(stack.participants)
    p, asymmetry = _permute(study, stack, maps.name, design)
    statistics = {'pFwe': p}
    smallest = smallest_effect(study, baseline)
    if smallest > 0:
        statistics['pEquivalence'] = equivalence(result, smallest)
    if study.settings.group.tfce == 'yes' and study.mesh is not None:
        study.absences['clusters are enhanced (tfce) in volumes, not on the cortex'] = None
    elif study.settings.group.tfce == 'yes':
        statistics['pTfce'] = _tfce(study, stack)
    return statistics, {
        'SmallestEffect': smallest,
        'SmallestEquivalence': float(np.nanmedian(smallest_equivalence(result))),
        'Skewness': asymmetry.skewness,
        'SkewnessP': asymmetry.p,
        'SkewnessCorrected': asymmetry.is_marked,
        'Permutations': study.settings.group.permutations,
    }


def _save_pls(study: Study, maps: MapSet, stack: Stack) -> FloatArray:
    """Compare task and baseline by partial least squares; give the bootstrap ratio."""
    fit, ratios = _partial_least_squares(study, [stack], maps.name)
    if fit is not None:
        conditions = [maps.about.get(key, key) for key in ('Baseline', 'Task')]
        rows = _pls_rows(maps.quantity, conditions, [stack], (fit, ratios))
        study.pls_rows.setdefault(maps.contrast or '', []).extend(rows)
    return ratios[0]


def smallest_effect(study: Study, baseline: FloatArray | None) -> float:
    """Give the smallest effect of interest of a quantity with a baseline; NaN without."""
    if baseline is None or not np.isfinite(baseline).any():
        return float('nan')
    return study.settings.change.smallest_effect * float(np.nanmedian(baseline))


def mean_baseline(study: Study, maps: MapSet, quantity: str | None = None) -> FloatArray | None:
    """Average the baseline of a contrast over participants; None where there is none."""
    baseline = study.inputs.baseline_of(maps, quantity)
    if baseline is None:
        return None
    stack = study.stack(baseline)
    if not stack.participants:
        return None
    parts = []
    for where in stack.slices(4 * len(stack.participants)):
        values, _ = stack.block(where)
        known = np.isfinite(values)
        n = known.sum(axis=0)
        total = np.where(known, values, 0.0).sum(axis=0)
        parts.append(np.where(n > 0, total / np.maximum(n, 1), np.nan))
    return np.concatenate(parts)


def _permute(
    study: Study, stack: Stack, name: str, design: FloatArray
) -> tuple[FloatArray, Asymmetry]:
    """Give the family-wise probability by permutation, and how skewed participants are."""
    settings = study.settings.group
    weighting = weigh_participants(*stack.sample(), design=design)
    asymmetry = measure_asymmetry(
        *stack.sample(), weighting, design, rng=random_of(study, f'asymmetry_{name}')
    )
    # numbers per voxel and rearrangement: t alone, or t and what its correction needs
    rows = (5 if asymmetry.is_marked else 2) * 128 + 8 * len(stack.participants)
    found = max_statistic(
        (stack.block(where) for where in stack.slices(rows)),
        weighting,
        design,
        n_permutations=settings.permutations,
        skewed=asymmetry.is_marked,
        rng=random_of(study, name),
    )
    return found.p, asymmetry


def _save(
    study: Study,
    maps: MapSet,
    found: tuple[RandomEffects, dict[str, FloatArray]],
    kind: str,
    sidecar: dict[str, Any],
    **entities: str,
) -> None:
    """Write the statistics that the row lists, and further maps, of a change or a condition."""
    result, further = found
    of_change = maps.contrast is not None
    key = ROWS[kind, of_change]
    statistics = {
        name: statistic(result)
        for name, statistic in STATISTICS.items()
        if name in row(key).statistics
    } | further
    at = {'contrast': maps.contrast, 'task': maps.task} if of_change else {
        'condition': maps.condition
    }  # fmt: skip
    for statistic, values in statistics.items():
        study.save_image(
            values, key, sidecar, quantity=maps.quantity, statistic=statistic, **at, **entities
        )


def save_joint_pls(study: Study, effects: Mapping[str, Mapping[str, Effect]]) -> None:
    """Compare all conditions that share a baseline, where there are two contrasts or more."""
    families: dict[tuple[str, str], list[Effect]] = {}
    for of_contrast in effects.values():
        for quantity, effect in of_contrast.items():
            baseline = effect.maps.about.get('Baseline', '')
            families.setdefault((quantity, baseline), []).append(effect)
    rows: list[dict[str, Any]] = []
    used: list[MapSet] = []
    for (quantity, baseline), members in families.items():
        stacks = [member.stack for member in members]
        if len(members) == 1 or len(common_participants(stacks)) < MINIMUM:
            continue
        fit, ratios = _partial_least_squares(study, stacks, f'{quantity}_{baseline}')
        if fit is None:
            continue
        tasks = [member.maps.about.get('Task', '') for member in members]
        rows += _pls_rows(quantity, [baseline, *tasks], stacks, (fit, ratios))
        about = study.about(*(member.maps for member in members))
        used += [member.maps for member in members]
        for latent, values in enumerate(ratios, start=1):
            study.save_image(
                values,
                'group_latent',
                about
                | {'Conditions': [baseline, *tasks], 'DesignScores': fit.design[:, latent - 1]},
                quantity=quantity,
                column=f'LV{latent}',
            )
    if rows:
        study.save_table(rows, 'group_pls_joint', study.about(*used))


def _partial_least_squares(
    study: Study, stacks: list[Stack], name: str
) -> tuple[PartialLeastSquares | None, FloatArray]:
    """Compare tasks and baseline: changes against zeros, in voxels that every participant has."""
    settings = study.settings.group
    size = (1 + len(stacks)) * len(common_participants(stacks))
    rows = 2 * settings.bootstraps + 6 * size
    products = np.zeros((size, size))
    complete = []
    for _, values in paired_blocks(stacks, rows):
        complete.append(np.asarray(np.isfinite(values).all(axis=(0, 1))))
        if complete[-1].any():
            products += cross_products(_against_zero(values, complete[-1]))
    ratios = np.full((len(stacks), stacks[0].n_voxels), np.nan)
    if not products.any():
        return None, ratios
    fit = fit_pls(
        products,
        1 + len(stacks),
        rng=random_of(study, f'pls_{name}'),
        n_permutations=settings.permutations,
        n_bootstraps=settings.bootstraps,
    )
    blocks = paired_blocks(stacks, rows)
    for (where, values), known in zip(blocks, complete, strict=True):
        part = ratios[:, where]
        if known.any():
            part[:, known] = bootstrap_ratios(_against_zero(values, known), fit)
    return fit, ratios


def _against_zero(changes: list[FloatArray], voxels: BoolArray) -> FloatArray:
    """Put a baseline of zeros before changes."""
    kept = [change[:, voxels] for change in changes]
    return np.stack([np.zeros_like(kept[0]), *kept])


def _pls_rows(
    quantity: str,
    conditions: list[str],
    stacks: list[Stack],
    found: tuple[PartialLeastSquares, FloatArray],
) -> list[dict[str, Any]]:
    """Make the rows of the table of latent variables."""
    fit, ratios = found
    return [
        {
            'quantity': quantity,
            'conditions': ', '.join(conditions),
            'n_participants': len(common_participants(stacks)),
            'n_voxels': int(np.isfinite(ratios[latent]).sum()),
            'latent': latent + 1,
            'singular_value': fit.singular[latent],
            'explained': fit.explained[latent],
            'p': fit.p[latent],
            'design_scores': ', '.join(f'{score:.4f}' for score in fit.design[:, latent]),
        }
        for latent in range(fit.singular.size)
    ]


def _tfce(study: Study, stack: Stack) -> FloatArray:
    """Enhance clusters in the voxels that every participant has."""
    from bids_app.engines.permutation import tfce_probability

    values, _ = stack.block(slice(None))
    complete = np.isfinite(values).all(axis=0)
    p = np.full(stack.n_voxels, np.nan)
    if complete.any():
        mask = study.volume(complete, 0) > 0
        p[complete] = tfce_probability(
            values[:, complete],
            mask,
            study.grid,
            n_permutations=study.settings.group.permutations,
            random_seed=study.settings.group.random_seed,
            n_jobs=study.run.nprocs,
        )
    return p
