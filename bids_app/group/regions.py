"""Changes of parcels, networks and the brain over participants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import row, unit_of
from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.group.effects import random_of
from bids_app.group.permutation import max_statistic, measure_asymmetry
from bids_app.group.statistics import (
    MINIMUM,
    RandomEffects,
    random_effects,
    smallest_equivalence,
    weigh_participants,
)
from bids_app.images import load_data
from bids_app.interfaces.regions import add_labels, read_atlas, region_levels
from bids_app.models.concordance.labels import false_discovery_rate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bids_app.group.effects import Effect
    from bids_app.group.study import Study

KEYS = ['level', 'index', 'name', 'network', 'quantity', 'unit']
"""What tells a row of the tables from the others."""

VALUES = ['effect', 'variance', 'n_voxels', 'coverage']


def save_regions(study: Study, contrast: str, effects: Mapping[str, Effect]) -> None:
    """
    Test the means of regions and write the table.

    Parameters
    ----------
    study : Study
        The tables of the participants where there are some, else means of their maps.
    contrast : str
        Name of the contrast.
    effects : mapping of str to Effect
        Quantity to its change; participants whose map was left out are left out here too.
    """
    found = _tables(study, contrast, effects)
    tables = found or _from_maps(study, effects)
    if len(tables) < MINIMUM:
        return
    about = study.about(*(effect.maps for effect in effects.values()))
    if found:
        about['Sources'] = study.uris(path for _, path in study.inputs.regions[contrast])
    rows = pd.concat([part[KEYS] for part in tables]).drop_duplicates(ignore_index=True)
    stacked = [rows.merge(part, on=KEYS, how='left') for part in tables]
    values = np.stack([part['effect'].to_numpy(float) for part in stacked])
    variances = np.stack([part['variance'].to_numpy(float) for part in stacked])
    normal = np.full(len(rows), np.nan)
    for quantity in rows['quantity'].unique():
        here = (rows['quantity'] == quantity).to_numpy()
        known = np.isfinite(variances[:, here]).any()
        data = values[:, here], variances[:, here]
        result = random_effects(data[0], data[1] if known else None)
        _fill(rows, here, result)
        normal[here] = result.standard_error
        for level in rows.loc[here, 'level'].unique():
            chosen = (rows.loc[here, 'level'] == level).to_numpy()
            family = data[0][:, chosen], data[1][:, chosen] if known else None
            at = np.flatnonzero(here)[chosen]
            rows.loc[at, 'q'] = false_discovery_rate(result.p[chosen])
            rows.loc[at, 'p_fwe'] = _family_wise(study, f'{contrast}_{quantity}_{level}', family)
    for column in ('n_voxels', 'coverage'):
        rows[column] = pd.concat([part[column] for part in stacked], axis=1).mean(axis=1)
    levels = study.settings.change
    # labels assume normal errors: those of few participants are wider
    labelled = add_labels(
        rows.assign(se=normal), bold_q=levels.bold_q, level=levels.false_sign_rate
    )
    rows['label'] = [None if pd.isna(value) else value for value in labelled['label']]
    rows['n_voxels'] = rows['n_voxels'].round()
    for column in ('index', 'n_voxels', 'n_participants'):
        rows[column] = [None if pd.isna(value) else int(value) for value in rows[column]]
    rows = rows.astype({'index': object})
    study.save_table(
        rows.reindex(columns=list(row('group_regions').columns)).to_dict('records'),
        'group_regions',
        about,
        contrast=contrast,
        atlas=study.settings.atlas,
    )


def _fill(rows: pd.DataFrame, here: Any, result: RandomEffects) -> None:
    """Write the tests of a quantity into its rows."""
    rows.loc[here, 'effect'] = result.effect
    rows.loc[here, 'se'] = np.sqrt(result.variance)
    for column in ('z', 't', 'p'):
        rows.loc[here, column] = getattr(result, column)
    rows.loc[here, 'smallest_delta'] = smallest_equivalence(result)
    rows.loc[here, 'n_participants'] = result.n


def _family_wise(study: Study, name: str, data: tuple[Any, Any]) -> Any:
    """Test regions of one level against the largest statistic of them all, as voxels are."""
    design = np.ones((len(data[0]), 1))
    weighting = weigh_participants(*data)
    shape = measure_asymmetry(*data, weighting, design, rng=random_of(study, f'asymmetry_{name}'))
    return max_statistic(
        [data],
        weighting,
        design,
        n_permutations=study.settings.group.permutations,
        skewed=shape.is_marked,
        rng=random_of(study, name),
    ).p


def _tables(study: Study, contrast: str, effects: Mapping[str, Effect]) -> list[pd.DataFrame]:
    """Read the tables of the participants; sessions are repeats."""
    sessions: dict[str, list[pd.DataFrame]] = {}
    for participant, path in study.inputs.regions.get(contrast, ()):
        part = _read(study, participant, path)
        if part is None:
            continue
        out = [
            quantity
            for quantity, effect in effects.items()
            if participant not in effect.stack.participants
        ]
        sessions.setdefault(participant, []).append(part[~part['quantity'].isin(out)])
    return [_mean_of_sessions(parts) for parts in sessions.values()]


def _read(study: Study, participant: str, path: Path) -> pd.DataFrame | None:
    """Read a table; None, and named as defective, where it has no rows or columns."""
    try:
        table = pd.read_csv(path, sep='\t', na_values=['n/a'])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError):
        table = pd.DataFrame()
    if not {*KEYS, 'effect', 'se'} <= set(table):
        study.defects[f'sub-{participant}: {path.name} is no table of regions'] = None
        return None
    return table


def _mean_of_sessions(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Join the region tables of one participant."""
    joined = pd.concat(parts)
    joined['variance'] = joined['se'] ** 2
    groups = joined.groupby(KEYS, sort=False, dropna=False)
    mean = groups[VALUES].mean()
    mean['variance'] /= groups['variance'].count()
    return mean.reset_index()


def _from_maps(study: Study, effects: Mapping[str, Effect]) -> list[pd.DataFrame]:
    """Average the maps of each participant over regions; there are no random variances then."""
    atlas = load_data(packaged_template(ATLAS))[study.mask].astype(int)
    levels = region_levels(atlas, read_atlas(packaged_template(ATLAS, '.tsv')))
    parts: dict[str, list[pd.DataFrame]] = {}
    for quantity, effect in effects.items():
        unit = unit_of('contrast', quantity=quantity, statistic='effect')
        for number, participant in enumerate(effect.stack.participants):
            values = effect.stack.row(number)
            for regions, labels in levels:
                table = _means(values, regions, labels).assign(quantity=quantity, unit=unit)
                parts.setdefault(participant, []).append(table)
    return [pd.concat(parts[name], ignore_index=True) for name in sorted(parts)]


def _means(values: Any, regions: pd.DataFrame, labels: Any) -> pd.DataFrame:
    """Average the known voxels of each region."""
    size = int(regions['index'].max()) + 1
    known = np.isfinite(values) & (labels < size)
    n = np.bincount(labels[known], minlength=size)[regions['index']]
    total = np.bincount(labels[known], values[known], minlength=size)[regions['index']]
    present = np.bincount(labels[labels < size], minlength=size)[regions['index']]
    table = regions[['level', 'index', 'name', 'network']].copy()
    table['index'] = table['index'].where(table['level'] == 'parcel')
    table['effect'] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    table['variance'] = np.nan
    table['n_voxels'] = n
    table['coverage'] = np.where(present > 0, n / np.maximum(present, 1), np.nan)
    return table
