"""Concordance of a contrast in the group: every rule side by side, and what survives the noise."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.group.effects import Effect, mean_baseline, random_of, smallest_effect
from bids_app.group.shares import (
    FEWEST_FLIPPED,
    common_offsets,
    leave_out,
    sign_flip_probability,
    sign_flip_products,
)
from bids_app.group.statistics import weigh_participants
from bids_app.group.stream import common_participants, paired_blocks
from bids_app.interfaces.regions import network_masks, read_atlas
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.epp2025 import (
    VoxelTable,
    below_typical,
    describe_voxels,
    label_by_consistency,
    label_by_medians,
    label_by_ttests,
    median_over_participants,
)
from bids_app.models.concordance.labels import (
    concordance_summary,
    discordance_probability,
    estimate_shares,
    gate_by_probability,
    label_by_posterior,
    share_rows,
)
from bids_app.models.concordance.pls import keep_clusters
from bids_app.models.constants import NOISE_BLOCK_WIDTHS, SIGN_ALPHA
from bids_app.models.contrast.response_mode import label_response_mode, log_ratio
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import correlation_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app._typing import BoolArray, FloatArray, IntArray, StatusArray
    from bids_app.group.study import Study
    from bids_app.models.concordance.discordance import Discordance

LOGGER = logging.getLogger('oxybold')

LABEL_MAPS = {
    'sign': 'group_concordance_sign',
    'ttest': 'group_concordance_ttest',
    'robust': 'group_concordance',
}
"""Rule -> row of its map."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gated:
    """
    What the participants tell of the CMRO2 change in the gate.

    Parameters
    ----------
    effects, errors : (G, V) ndarray of float64
        Mean and standard error with each group of participants left out; NaN outside the gate.
    p : dict of str to float
        Part of the brain to the probability of its changes if every participant's map held one
        offset and noise only.
    """

    effects: FloatArray
    errors: FloatArray
    p: dict[str, float]

    @property
    def left_out(self) -> list[tuple[FloatArray, FloatArray]]:
        """Samples of the jackknife over participants."""
        return list(zip(self.effects, self.errors, strict=True))

    @property
    def withheld(self) -> dict[str, str]:
        """Parts in which nothing but an offset may have changed, and why."""
        return {
            name: f'no change beyond an offset: sign-flip test p = {p:.2g}'
            for name, p in self.p.items()
            if not p <= SIGN_ALPHA
        }


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Concordance:
    """
    Labels of a contrast by every rule, with what they were made from.

    Parameters
    ----------
    table : VoxelTable
        Means, medians and counts over participants.
    is_percent : bool
        Whether the CMRO2 changes in `table` are percent of the baseline.
    labels : dict of str to (V,) ndarray of uint8
        Rule to labels: sign, ttest, consistency, robust.
    gate, pls_gate : (V,) ndarray of bool
        Where BOLD is significant by t and false discovery rate, and by bootstrap ratios.
    rows : list of dict
        Of the summary table: the brain and its networks.
    parcels : list of dict
        Of the table of parcels.
    gated : Gated
        CMRO2 changes in the gate, with each group of participants left out.
    shares : dict of (str, str) to Discordance
        Network and sign of BOLD: the shares that survive noise.
    smallest_effect : float
        Of interest, umol/100 g/min; 0 where there is no baseline.
    """

    table: VoxelTable
    is_percent: bool
    labels: dict[str, StatusArray]
    gate: BoolArray
    pls_gate: BoolArray
    rows: list[Any]
    parcels: list[Any]
    gated: Gated
    shares: dict[tuple[str, str], Discordance]
    smallest_effect: float


def analyse_concordance(study: Study, bold: Effect, change: Effect) -> Concordance:
    """Label the voxels of a contrast by every rule, count them, and write maps and table."""
    LOGGER.info('group: concordance of %s', change.maps.contrast)
    levels = study.settings.change
    everywhere = np.ones(study.n_voxels, bool)
    table, is_percent = _describe(study, bold, change)
    gate = gate_by_probability(bold.result.p, q=levels.bold_q, mask=everywhere)
    pls_gate = keep_clusters(study.volume(bold.bsr))[study.mask] & _limits(study, change)
    t_gate = gate_by_probability(table.bold_p, q=levels.bold_q, mask=everywhere)
    networks, parcels, parcel_table = study_regions(study)
    estimates = bold.result.as_estimate, change.result.as_estimate
    smallest = smallest_effect(study, change.baseline)
    smallest = 0.0 if np.isnan(smallest) else max(smallest, 0.0)
    gated = _leave_out(study, change, gate, networks)
    shares = estimate_shares(
        *estimates,
        gate,
        everywhere,
        smallest_effect=smallest,
        blocks=noise_blocks(study, noise_width(study, change)),
        networks=networks,
        left_out=gated.left_out,
        withheld=gated.withheld,
    )
    robust, expected_wrong = label_by_posterior(
        *estimates,
        gate,
        everywhere,
        level=levels.false_sign_rate,
        prior=shares['all', 'all'].prior,
    )
    labels = {
        'sign': label_by_medians(table, pls_gate, everywhere),
        'ttest': label_by_ttests(table, everywhere, q=levels.cmro2_q),
        'consistency': label_by_consistency(
            table.bold_mean, table.n_signs, table.n_concordant, t_gate, q=levels.cmro2_q
        ),
        'robust': robust,
    }
    places = networks | parcels
    rows: list[Any] = []
    for rule, found in labels.items():
        rows += concordance_summary(found, rule=rule, networks=places)
    for row in rows:
        if row['rule'] == 'robust' and row['network'] == row['bold'] == 'all':
            row['note'] += f'; at most {expected_wrong:.1f} wrong signs expected'
    rows += share_rows(shares, smallest)
    if parcels:
        # a parcel holds too few blocks of noise for an interval
        of_parcels = estimate_shares(
            *estimates,
            gate,
            everywhere,
            smallest_effect=smallest,
            networks=parcels,
            error_scales=(1.0,),
            intervals=(),
        )
        named = {key: found for key, found in of_parcels.items() if key[0] in parcels}
        rows += share_rows(named, smallest)
    result = Concordance(
        table=table,
        is_percent=is_percent,
        labels=labels,
        gate=gate,
        pls_gate=pls_gate,
        rows=[row for row in rows if row['network'] not in parcels],
        parcels=[row | parcel_table[row['network']] for row in rows if row['network'] in parcels],
        gated=gated,
        shares=shares,
        smallest_effect=smallest,
    )
    _save(study, bold, change, result)
    return result


def study_regions(
    study: Study,
) -> tuple[dict[str, BoolArray], dict[str, BoolArray], dict[str, dict[str, Any]]]:
    """Give networks and parcels of the atlas as voxels of the mask, and what parcels are."""
    atlas = study.networks
    if atlas is None:
        return {}, {}, {}
    table = read_atlas(packaged_template(ATLAS, '.tsv'))
    parcels = table[['index', 'name', 'network']].to_dict('records')
    return (
        network_masks(atlas, table),
        {one['name']: atlas == one['index'] for one in parcels},
        {one['name']: one for one in parcels},
    )


def _describe(study: Study, bold: Effect, change: Effect) -> tuple[VoxelTable, bool]:
    """Reduce the participants that have both; CMRO2 in percent where there is a baseline."""
    stacks = [bold.stack, change.stack]
    baseline = study.inputs.baseline_of(change.maps)
    is_percent = False
    if baseline is not None:
        found = study.stack(baseline)
        is_percent = set(common_participants(stacks)) <= set(found.participants)
        stacks += [found] if is_percent else []
    parts = []
    for _, values in paired_blocks(stacks, rows=6 * len(bold.stack.participants)):
        cmro2 = values[1]
        if is_percent:
            positive = values[2] > 0
            cmro2 = np.where(positive, 100 * cmro2 / np.where(positive, values[2], 1.0), np.nan)
        parts.append(describe_voxels(values[0], cmro2))
    names = VoxelTable.__dataclass_fields__
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return VoxelTable(**joined), is_percent


def _limits(study: Study, change: Effect) -> BoolArray:
    """Find the voxels within the published limits of blood volume and R2', if asked for."""
    inside = np.ones(study.n_voxels, bool)
    if study.settings.change.limits == 'none':
        return inside
    for quantity in ('cbv', 'R2prime'):
        maps = study.inputs.baseline_of(change.maps, quantity)
        if maps is None:
            study.absences[f'{quantity} of the baseline is not there: no limit of it'] = None
            continue
        stack = study.stack(maps)
        medians = [
            median_over_participants(stack.block(where)[0])
            for where in stack.slices(6 * len(stack.participants))
        ]
        inside &= below_typical(np.concatenate(medians)[None])
    return inside


def _leave_out(
    study: Study, change: Effect, gate: BoolArray, networks: Mapping[str, BoolArray]
) -> Gated:
    """Leave participants out in turn, and flip their signs around their offsets, in the gate."""
    stack = change.stack
    design = study.design.matrix(stack.participants)
    weighting = weigh_participants(*stack.sample(), design=design)
    n = len(stack.participants)
    baseline = np.ones(study.n_voxels) if change.baseline is None else change.baseline
    parts = {'all': np.ones(study.n_voxels, bool)} | dict(networks)
    offsets = common_offsets(
        (stack.block(where)[0][:, gate[where]], baseline[where][gate[where]])
        for where in stack.slices(6 * n)
    )
    products = {name: np.zeros((n, n)) for name in parts}
    effects: list[FloatArray] = []
    errors: list[FloatArray] = []
    for where in stack.slices(14 * n):
        here = gate[where]
        values, variances = stack.block(where)
        values = values[:, here]
        variances = None if variances is None else variances[:, here]
        for kept, found in zip(
            (effects, errors), leave_out(values, variances, weighting, design), strict=True
        ):
            full = np.full((len(found), here.size), np.nan)
            full[:, here] = found
            kept.append(full)
        common = offsets[:, None] * np.nan_to_num(baseline[where][here])
        for name, part in parts.items():
            inside = part[where][here]
            products[name] += sign_flip_products(
                values[:, inside], common[:, inside], weighting.participants
            )
    if n < FEWEST_FLIPPED:
        study.absences[
            f'{n} participants: no test can tell a change of the group from an offset, '
            f'{FEWEST_FLIPPED} are needed; shares are withheld'
        ] = None
    return Gated(
        effects=np.concatenate(effects, axis=1),
        errors=np.concatenate(errors, axis=1),
        p={
            name: sign_flip_probability(
                matrix, rng=random_of(study, f'flip_{name}_{change.maps.name}')
            )
            for name, matrix in products.items()
        },
    )


def noise_blocks(study: Study, width: float) -> IntArray:
    """Cut the mask into cubes of three times the width of the noise, mm."""
    points = np.argwhere(study.mask) * study.grid.zooms
    return spatial_blocks(points, side=NOISE_BLOCK_WIDTHS * width)


def noise_width(study: Study, effect: Effect) -> float:
    """
    Estimate the width of the correlation of the errors between voxels.

    Returns
    -------
    width : float
        Full width at half maximum of a Gaussian, mm, from the correlation of the residuals of
        (at most ten) participants between neighbours; at least the voxel.
    """
    stack = effect.stack
    error = np.sqrt(effect.result.residual)
    scale = np.where(error > 0, error, 1.0)
    shown = range(min(len(stack.participants), 10))
    residuals = (study.volume((stack.row(k) - effect.result.effect) / scale) for k in shown)
    return correlation_width(residuals, study.grid.zooms)


def _save(study: Study, bold: Effect, change: Effect, found: Concordance) -> None:
    """Write the maps and the table of a contrast."""
    at = {'contrast': change.maps.contrast, 'task': bold.maps.task}
    sidecar = study.about(bold.maps, change.maps)
    for rule, key in LABEL_MAPS.items():
        study.save_image(found.labels[rule], key, sidecar, **at)
    everywhere = np.ones(study.n_voxels, bool)
    probability = discordance_probability(
        bold.result.as_estimate,
        change.result.as_estimate,
        found.gate,
        everywhere,
        prior=found.shares['all', 'all'].prior,
    )
    study.save_image(probability, 'group_discordant', sidecar, **at)
    contrast = change.maps.contrast
    study.save_table(found.rows, 'group_summary', sidecar, contrast=contrast)
    if found.parcels:
        study.save_table(found.parcels, 'group_parcels', sidecar, contrast=contrast)


def save_response_mode(
    study: Study, effects: Mapping[str, Effect], gate: BoolArray, bold: Effect
) -> None:
    """Write whether flow or extraction changed more, where both have a baseline."""
    ratios = []
    for quantity in ('cbf', 'oef'):
        effect = effects.get(quantity)
        baseline = None if effect is None else mean_baseline(study, effect.maps)
        if effect is None or baseline is None:
            return
        estimate: Estimate = effect.result.as_estimate
        ratios.append(log_ratio(estimate, baseline))
    labels = label_response_mode(ratios[0], ratios[1], gate, np.ones(study.n_voxels, bool))
    study.save_image(
        labels,
        'group_response_mode',
        study.about(bold.maps, *(effects[name].maps for name in ('cbf', 'oef'))),
        contrast=bold.maps.contrast,
        task=bold.maps.task,
    )
