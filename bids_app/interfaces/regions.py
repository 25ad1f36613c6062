"""Tables per region and per network."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import row, scale_of, unit_of
from bids_app.images import load_data, load_masked
from bids_app.interfaces._base import (
    ERROR_FACTORS,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    Interface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    load_estimate,
    load_value,
    read_mask,
    sidecar_of,
    traits,
)
from bids_app.interfaces.oxygen import error_of_scale
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.labels import (
    LABEL_NAMES,
    Label,
    bold_gate,
    concordance_summary,
    estimate_shares,
    label_robust,
    share_rows,
)
from bids_app.models.constants import NOISE_BLOCK_WIDTHS
from bids_app.models.contrast.calibrated_bold import semiquantitative_bias
from bids_app.models.contrast.difference import change_parts, tipping_points
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.between_scans import local_share
from bids_app.models.numerics.noise import error_scales
from bids_app.models.numerics.regions import summarise_regions
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from bids_app._typing import PathLike


def read_atlas(path: PathLike) -> pd.DataFrame:
    """Read an atlas table: index, name, network."""
    return pd.read_csv(path, sep='\t')


def network_masks(atlas: np.ndarray, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Voxels of each network."""
    return {
        network: np.isin(atlas, rows['index'].to_numpy())
        for network, rows in table.groupby('network', sort=True)
    }


class SummariseRegions(Interface):
    """
    Average changes over parcels, networks and the brain, with standard errors and labels.

    Besides the fixed ports there are four for every name in `quantities`: the change, the map of
    the baseline condition where there is one, and the two parts of the variance that differ
    between scans, where they do.
    """

    class Inputs(DynamicTraitedSpec, BaseInterfaceInputSpec):
        mask = image('voxels that count', '1')
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='a voxel counts above', unit='1')
        cao2 = traits.Float(desc='arterial oxygen content', unit='umol/mL')
        davis = traits.Tuple(
            traits.Float, traits.Float, desc='alpha and beta, where BOLD enters CMRO2', unit='1'
        )
        cbv_response = traits.Float(
            0.0, usedefault=True, desc='assumed relative change of CBV', unit='1'
        )
        atlas = image('region of every voxel', '')
        atlas_table = File(exists=True, mandatory=True, desc='index and name per region', unit='')
        quantities = traits.List(traits.Str, mandatory=True, desc='what to summarise', unit='')
        bold_q = traits.Float(mandatory=True, desc='FDR level of the BOLD gate', unit='1')
        level = traits.Float(mandatory=True, desc='local false sign rate of a label', unit='1')
        constants = traits.Dict({}, usedefault=True, desc='relative error by constants', unit='1')

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='one row per region and quantity', unit='')

    def __init__(self, quantities: list[str] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        for name in quantities or []:
            for part in ('', '_reference', '_common', '_local'):
                port = traits.Any(desc='change, baseline, or variance between scans', unit='')
                self.inputs.add_trait(f'{name}{part}', port)
        if quantities:
            self.inputs.quantities = quantities

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        mask = mask & (load_data(self.inputs.grey_matter) > self.inputs.minimum_grey_matter)
        atlas = load_masked(self.inputs.atlas, mask, grid).astype(int)
        levels = region_levels(atlas, read_atlas(self.inputs.atlas_table))
        parts = []
        for regions, labels in levels:
            tables = {}
            for quantity in self.inputs.quantities:
                estimate = load_estimate(getattr(self.inputs, quantity), mask, grid)
                where = (labels, regions['index'], regions['level'].iloc[0])
                tables[quantity] = self._rows(quantity, estimate, regions, where, (mask, grid))
                tables[quantity]['baseline'] = self._baseline(
                    quantity, (estimate, labels, regions['index']), (mask, grid)
                )
            parts += add_parts(tables, cao2=self.inputs.cao2)
            if isdefined(self.inputs.davis) and {'cbf', 'cmro2'} <= set(tables):
                alpha, beta = self.inputs.davis
                bias = semiquantitative_bias(
                    np.exp(tables['cbf']['log_ratio']),
                    alpha=alpha,
                    beta=beta,
                    cbv_ratio=1 + self.inputs.cbv_response,
                )
                tables['cmro2']['bold_route_bias'] = bias / PERCENT
        rows = add_labels(
            pd.concat(parts, ignore_index=True), bold_q=self.inputs.bold_q, level=self.inputs.level
        )
        rows['index'] = rows['index'].where(rows['level'] == 'parcel').astype('Int64')
        rows = rows.reindex(columns=list(row('regions').columns))

        path = Path(runtime.cwd) / 'regions.tsv'
        rows.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.7g')
        self._results['table'] = str(path)
        return runtime

    def _rows(self, quantity, estimate, regions, where, grid):
        """Average a change, its error from the noise and from what differs between scans."""
        labels, index, level = where
        facts = sidecar_of(getattr(self.inputs, quantity))
        between = {part: self._between(quantity, part, grid) for part in ('common', 'local')}
        noise = estimate.variance - between['common'] - between['local']
        summary = summarise_regions(
            estimate.with_variance(np.maximum(noise, 0.0)),
            labels,
            index,
            voxels_per_sample=facts.get(VOXELS_PER_SAMPLE, 1.0),
            shared=facts.get(SHARED_NOISE, {}).get(level, 0.0),
        )
        volume = float(np.prod(grid[1].zooms))
        left: dict[str, Any] = {
            'common': 1.0,
            'local': np.sqrt(local_share(summary['n_voxels'], volume)),
        }
        common, local = (
            left[name]
            * summarise_regions(estimate.with_variance(part), labels, index, shared=1.0)['se']
            for name, part in between.items()
        )
        rows = _as_rows(regions, summary, quantity)
        scale = scale_of('contrast', quantity=quantity, statistic='effect')
        rows['se_noise'] = rows['se']
        rows['se_between'] = scale * np.hypot(common, local)
        rows['se'] = np.hypot(rows['se_noise'], rows['se_between'])
        constants = self.inputs.constants.get(quantity, 0.0)
        rows['se_constants'] = rows['effect'].abs() * np.hypot(constants, error_of_scale(facts))
        rows['se_total'] = np.hypot(rows['se'], rows['se_constants'])
        rows['z'] = np.divide(rows['effect'], rows['se'], out=np.full(len(rows), np.nan),
                              where=rows['se'] > 0)  # fmt: skip
        return rows

    def _between(self, quantity, part, grid):
        """Read a part of the variance that differs between scans; 0 where there is none."""
        path = getattr(self.inputs, f'{quantity}_{part}')
        known = path is not None and isdefined(path)
        return np.nan_to_num(load_value(path, *grid)) if known else 0.0

    def _baseline(self, quantity, regions, where):
        """Average the baseline over the voxels of a region that have a change."""
        estimate, labels, index = regions
        reference = getattr(self.inputs, f'{quantity}_reference')
        if reference is None or not isdefined(reference):
            return np.full(len(index), np.nan)
        values = load_value(reference, *where)
        both = Estimate.of(np.where(np.isfinite(estimate.value), values, np.nan), 0.0)
        scale = scale_of('contrast', quantity=quantity, statistic='effect')
        return summarise_regions(both, labels, index)['mean'] * scale


def add_parts(tables: dict[str, pd.DataFrame], *, cao2: Any) -> list[pd.DataFrame]:
    """
    Say how large changes are relative to the baseline, and what would turn the sign of CMRO2.

    All from the means of a region: percent and logarithm of the ratio for every quantity; for
    CMRO2 the parts of the change that flow and extraction carry, and the tipping points.
    """
    for rows in tables.values():
        base, task = rows['baseline'], rows['baseline'] + rows['effect']
        positive = (base > 0) & (task > 0)
        rows['percent'] = (100 * rows['effect'] / base).where(base > 0)
        rows['log_ratio'] = np.log((task / base).where(positive))
    if 'cmro2' in tables and {'cbf', 'oef', 'R2prime'} <= set(tables) and isdefined(cao2):
        cbf, oef, r2_prime = (tables[name] for name in ('cbf', 'oef', 'R2prime'))
        flow, extraction = change_parts(
            cbf['effect'], cbf['baseline'], oef['effect'], oef['baseline'], cao2=cao2
        )
        tips = tipping_points(
            cbf['effect'], cbf['baseline'], r2_prime['effect'], r2_prime['baseline']
        )
        parts = {'cbf_part': flow, 'oef_part': extraction}
        parts |= {f'tipping_{name}': values for name, values in tips.items()}
        for name, values in parts.items():
            tables['cmro2'][name] = values
    return list(tables.values())


def region_levels(
    atlas: np.ndarray, table: pd.DataFrame
) -> tuple[tuple[pd.DataFrame, np.ndarray], ...]:
    """Parcels, networks and the whole brain: a table of the regions and a label per voxel."""
    networks = sorted(table['network'].unique())
    number = {name: position for position, name in enumerate(networks, start=1)}
    of_parcel = np.zeros(int(table['index'].max()) + 1, int)
    of_parcel[table['index']] = table['network'].map(number)
    parcels = table[['index', 'name', 'network']].assign(level='parcel')
    as_regions = pd.DataFrame(
        {'index': range(1, len(networks) + 1), 'name': networks, 'network': networks}
    ).assign(level='network')
    brain = pd.DataFrame({'index': [1], 'name': ['brain'], 'network': ['all'], 'level': ['brain']})
    return (
        (parcels, atlas),
        (as_regions, of_parcel[atlas]),
        (brain, np.ones_like(atlas)),
    )


def _as_rows(regions: pd.DataFrame, summary: Any, quantity: str) -> pd.DataFrame:
    """Rows of the table for one quantity and level, in the units of the output."""
    scale = scale_of('contrast', quantity=quantity, statistic='effect')
    rows = regions[['level', 'index', 'name', 'network']].copy()
    rows['quantity'] = quantity
    rows['unit'] = unit_of('contrast', quantity=quantity, statistic='effect')
    rows['effect'] = summary['mean'] * scale
    rows['se'] = summary['se'] * scale
    rows['n_voxels'] = summary['n_voxels']
    rows['coverage'] = summary['coverage']
    return rows


def add_labels(rows: pd.DataFrame, *, bold_q: float, level: float) -> pd.DataFrame:
    """Give the concordance label of each region, by the rule of the voxels, in rows of cmro2."""
    rows['label'] = pd.array([pd.NA] * len(rows), dtype='string')
    for kind in rows['level'].unique():
        here = rows['level'] == kind
        bold = rows[here & (rows['quantity'] == 'boldPct')]
        change = rows[here & (rows['quantity'] == 'cmro2')]
        if bold.empty or change.empty:
            continue
        of_bold, of_change = (
            Estimate.of(part['effect'], part['se'] ** 2) for part in (bold, change)
        )
        everywhere = np.ones(len(bold), bool)
        gate = bold_gate(of_bold, q=bold_q, mask=everywhere)
        labels = label_robust(of_bold, of_change, gate, everywhere, level=level)
        rows.loc[change.index, 'label'] = [LABEL_NAMES[Label(code)] for code in labels]
    return rows


class SummariseConcordance(Interface):
    """Count the labels by rule, sign of BOLD and network."""

    class Inputs(BaseInterfaceInputSpec):
        sign = image('labels by the sign rule', '')
        robust = image('robust labels', '')
        mask = image('brain', '1')
        bold = estimated('percent BOLD change', '%')
        change = estimated('change of CMRO2', 'umol/100 g/min')
        baseline = estimated('CMRO2 of the baseline', 'umol/100 g/min')
        smallest_effect = traits.Float(
            mandatory=True, desc='of interest, relative to the median baseline', unit='1'
        )
        fwhm = traits.Float(0.0, usedefault=True, desc='smoothing of the maps', unit='mm')
        atlas = image('region of every voxel', '', optional=True)
        atlas_table = File(exists=True, desc='index and name per region', unit='')

    class Outputs(TraitedSpec):
        table = File(
            exists=True, desc='counts and shares by rule, sign of BOLD and network', unit=''
        )

    def _run_interface(self, runtime):
        networks: dict[str, np.ndarray] = {}
        if isdefined(self.inputs.atlas):
            atlas = load_data(self.inputs.atlas).astype(int)
            networks = network_masks(atlas, read_atlas(self.inputs.atlas_table))
        rows = []
        for rule in ('sign', 'robust'):
            labels = load_data(getattr(self.inputs, rule)).astype(np.uint8)
            rows += concordance_summary(labels, rule=rule, networks=networks)
        mask, grid = read_mask(self.inputs.mask)
        labels = load_masked(self.inputs.robust, mask, grid).astype(np.uint8)
        inside = labels != Label.OUTSIDE
        gate = inside & (labels != Label.NOT_SIGNIFICANT)
        rows += share_rows(*shares_of(self.inputs, gate, inside, networks))
        path = Path(runtime.cwd) / 'summary.tsv'
        pd.DataFrame(rows).to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.6g')
        self._results['table'] = str(path)
        return runtime


def shares_of(inputs, gate, inside, networks=MappingProxyType({})):
    """
    Estimate what survives the noise of a participant, in blocks wider than its correlation.

    Parameters
    ----------
    inputs : InputSpec
        Ports mask, bold, change, baseline, smallest_effect and fwhm.
    gate, inside : (V,) ndarray of bool
        Of the mask: where BOLD is significant, and what is labelled.
    networks : mapping of str to ndarray of bool
        Further parts of the brain, as images.

    Returns
    -------
    shares : dict of (str, str) to Discordance
        Network and sign of BOLD.
    smallest_effect : float
        Of interest, umol/100 g/min.
    """
    mask, grid = read_mask(inputs.mask)
    baseline = load_value(inputs.baseline, mask, grid)[inside]
    baseline = baseline[np.isfinite(baseline)]
    typical = max(float(np.median(baseline)), 0.0) if baseline.size else 0.0
    facts = sidecar_of(inputs.change)
    shared = facts.get(VOXELS_PER_SAMPLE, 1.0)
    width = max(float(np.prod(grid.zooms) * shared) ** (1 / 3), inputs.fwhm)
    smallest = inputs.smallest_effect * typical
    shares = estimate_shares(
        load_estimate(inputs.bold, mask, grid),
        load_estimate(inputs.change, mask, grid),
        gate,
        inside,
        smallest_effect=smallest,
        blocks=spatial_blocks(np.argwhere(mask) * grid.zooms, side=NOISE_BLOCK_WIDTHS * width),
        networks={name: part[mask] for name, part in networks.items()},
        error_scales=error_scales(facts.get(ERROR_FACTORS, ())),
    )
    return shares, smallest
