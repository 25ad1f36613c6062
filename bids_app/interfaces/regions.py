"""Tables per region and per network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.outputs import scale_of, unit_of
from bids_app.images import load_data, load_masked
from bids_app.interfaces._base import (
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    image,
    isdefined,
    load_estimate,
    read_mask,
    traits,
)
from bids_app.models.concordance import (
    LABEL_NAMES,
    Label,
    bold_gate,
    concordance_summary,
    label_robust,
)
from bids_app.models.estimate import Estimate
from bids_app.models.regions import summarise_regions

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


class _RegionsInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    mask = image('voxels that count', '1')
    grey_matter = image('grey-matter fraction', '1')
    minimum_grey_matter = traits.Float(mandatory=True, desc='a voxel counts above', unit='1')
    atlas = image('region of every voxel', '')
    atlas_table = File(exists=True, mandatory=True, desc='index and name per region', unit='')
    quantities = traits.List(traits.Str, mandatory=True, desc='what to summarise', unit='')
    q = traits.Float(0.05, usedefault=True, desc='FDR level of the labels', unit='1')


class _RegionsOutputSpec(TraitedSpec):
    table = File(exists=True, desc='one row per region and quantity', unit='')


class SummariseRegions(SimpleInterface):
    """
    Average changes over parcels, networks and the brain, with standard errors and labels.

    Besides the fixed ports there are four for every name in `quantities`: the map, its variance,
    its status and its facts.
    """

    input_spec = _RegionsInputSpec
    output_spec = _RegionsOutputSpec

    def __init__(self, quantities: list[str] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        for name in quantities or []:
            for part in ('', '_variance', '_status'):
                port = traits.Any(desc='change, its variance or its status', unit='')
                self.inputs.add_trait(f'{name}{part}', port)
            facts = traits.Dict(desc='entries of the sidecar', unit='')
            self.inputs.add_trait(f'{name}_facts', facts)
        if quantities:
            self.inputs.quantities = quantities

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        mask = mask & (load_data(self.inputs.grey_matter) > self.inputs.minimum_grey_matter)
        atlas = load_masked(self.inputs.atlas, mask, grid).astype(int)
        levels = region_levels(atlas, read_atlas(self.inputs.atlas_table))
        parts = []
        for quantity in self.inputs.quantities:
            facts = getattr(self.inputs, f'{quantity}_facts')
            shared = facts.get(VOXELS_PER_SAMPLE, 1.0) if isdefined(facts) else 1.0
            estimate = load_estimate(self.inputs, quantity, mask, grid)
            for regions, labels in levels:
                summary = summarise_regions(
                    estimate, labels, regions['index'], voxels_per_sample=shared
                )
                parts.append(_as_rows(regions, summary, quantity))
        rows = add_labels(pd.concat(parts, ignore_index=True), q=self.inputs.q)
        rows['index'] = rows['index'].where(rows['level'] == 'parcel').astype('Int64')

        path = Path(runtime.cwd) / 'regions.tsv'
        rows.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.7g')
        self._results['table'] = str(path)
        return runtime


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
    rows['z'] = np.divide(
        rows['effect'], rows['se'], out=np.full(len(rows), np.nan), where=rows['se'] > 0
    )
    rows['n_voxels'] = summary['n_voxels']
    rows['coverage'] = summary['coverage']
    return rows


def add_labels(rows: pd.DataFrame, *, q: float) -> pd.DataFrame:
    """Give the concordance label of each region, by the rule of the voxels, in rows of cmro2."""
    rows['label'] = pd.array([pd.NA] * len(rows), dtype='string')
    for level in rows['level'].unique():
        here = rows['level'] == level
        bold = rows[here & (rows['quantity'] == 'boldPct')]
        change = rows[here & (rows['quantity'] == 'cmro2')]
        if bold.empty or change.empty:
            continue
        of_bold, of_change = (
            Estimate.of(part['effect'], part['se'] ** 2) for part in (bold, change)
        )
        everywhere = np.ones(len(bold), bool)
        gate = bold_gate(of_bold, q=q, mask=everywhere)
        labels = label_robust(of_bold, of_change, gate, everywhere, q=q)
        rows.loc[change.index, 'label'] = [LABEL_NAMES[Label(code)] for code in labels]
    return rows


class _SummaryInputSpec(BaseInterfaceInputSpec):
    sign = image('labels by the sign rule', '')
    robust = image('robust labels', '')
    atlas = image('region of every voxel', '', optional=True)
    atlas_table = File(exists=True, desc='index and name per region', unit='')


class _SummaryOutputSpec(TraitedSpec):
    table = File(exists=True, desc='counts and shares by rule, sign of BOLD and network', unit='')


class SummariseConcordance(SimpleInterface):
    """Count the labels by rule, sign of BOLD and network."""

    input_spec = _SummaryInputSpec
    output_spec = _SummaryOutputSpec

    def _run_interface(self, runtime):
        networks = None
        if isdefined(self.inputs.atlas):
            atlas = load_data(self.inputs.atlas).astype(int)
            networks = network_masks(atlas, read_atlas(self.inputs.atlas_table))
        rows = []
        for rule in ('sign', 'robust'):
            labels = load_data(getattr(self.inputs, rule)).astype(np.uint8)
            rows += concordance_summary(labels, rule=rule, networks=networks)
        path = Path(runtime.cwd) / 'summary.tsv'
        pd.DataFrame(rows).to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.6g')
        self._results['table'] = str(path)
        return runtime
