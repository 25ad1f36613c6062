"""Changes of parcels, networks and the brain over participants."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from bids_app.bids.input.templates import templateflow_atlas
from bids_app.bids.output.names import row, table
from bids_app.engines.templates import ATLAS, SPACE, TERRITORIES, packaged_template
from bids_app.errors import SettingsError
from bids_app.group.effects import random_of
from bids_app.group.inputs import sidecar_of
from bids_app.group.permutation import max_statistic, measure_asymmetry
from bids_app.group.statistics import (
    MINIMUM,
    RandomEffects,
    detectable_effect,
    effect_size,
    random_effects,
    smallest_equivalence,
    weigh_participants,
)
from bids_app.images import grid_of, load_data
from bids_app.interfaces._base import SHARED_NOISE, VOXELS_PER_SAMPLE
from bids_app.interfaces.regions import add_labels, read_atlas, region_levels
from bids_app.models.concordance.labels import false_discovery_rate
from bids_app.models.constants import NORMAL_95
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.regions import summarise_regions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bids_app._typing import IntArray
    from bids_app.group.effects import Effect
    from bids_app.group.inputs import MapSet
    from bids_app.group.study import Study
    from bids_app.images import Grid

KEYS = ['level', 'index', 'name', 'network', 'quantity', 'unit']
"""What tells a row of the tables from the others."""

VALUES = ['effect', 'variance', 'n_voxels', 'coverage']

PACKAGED_LEVELS = ('parcel', 'network', 'brain')
"""Levels of the packaged atlas of networks."""

TERRITORY = 'territories'
"""Name that stands for the packaged atlas of arterial territories."""


def save_regions(study: Study, contrast: str, effects: Mapping[str, Effect]) -> None:
    """
    Test the means of regions and write the table.

    From the tables of the participants where there are some, else means of their maps;
    participants whose map was left out are left out here too.
    """
    found = _tables(study, contrast, effects)
    of_participants = found or _from_maps(study, effects)
    if found and study.settings.group.regions:
        # the tables of participants know the packaged atlas only
        own = _from_maps(study, effects)
        of_participants = {
            name: pd.concat([part, own[name][~own[name]['level'].isin(PACKAGED_LEVELS)]])
            if name in own
            else part
            for name, part in found.items()
        }
    design = study.design.matrix(list(of_participants))
    tables = list(of_participants.values())
    if len(tables) < MINIMUM or np.linalg.matrix_rank(design) < design.shape[1]:
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
        result = random_effects(data[0], data[1] if known else None, design=design)
        _fill(rows, here, result)
        normal[here] = result.standard_error
        for level in rows.loc[here, 'level'].unique():
            chosen = (rows.loc[here, 'level'] == level).to_numpy()
            family = data[0][:, chosen], data[1][:, chosen] if known else None
            at = np.flatnonzero(here)[chosen]
            rows.loc[at, 'q'] = false_discovery_rate(result.p[chosen])
            name = f'{contrast}_{quantity}_{level}'
            rows.loc[at, 'p_fwe'] = _family_wise(study, name, family, design)
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


def _family_wise(study: Study, name: str, data: tuple[Any, Any], design: Any) -> Any:
    """Test regions of one level against the largest statistic of them all, as voxels are."""
    weighting = weigh_participants(*data, design=design)
    shape = measure_asymmetry(*data, weighting, design, rng=random_of(study, f'asymmetry_{name}'))
    return max_statistic(
        [data],
        weighting,
        design,
        n_permutations=study.settings.group.permutations,
        skewed=shape.is_marked,
        rng=random_of(study, name),
    ).p


def save_comparisons(
    study: Study, effects: Iterable[Effect], rois: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Describe regions over participants and test what the design asks, from the maps of all."""
    effects = list(effects)
    of_regions: list[tuple[MapSet, dict[str, pd.DataFrame]]] = []
    if study.settings.atlas != 'none':
        of_regions = [(effect.maps, region_means(study, effect.maps)) for effect in effects]
    of_regions += [(maps, _same_regions(means)) for maps, means in rois.values()]
    rows = [part for maps, means in of_regions for part in _compare(study, maps, means)]
    about = study.about(*(effect.maps for effect in effects))
    if of_regions:
        values = pd.concat(_values(study, maps, means) for maps, means in of_regions)
        model = about['Model'] | {'Name': 'region_means'}
        study.save_table(values.to_dict('records'), 'group_values', about | {'Model': model})
    if rows:
        joined = pd.concat(rows).astype({'index': object})
        for column in ('index', 'n_participants'):
            joined[column] = [None if pd.isna(value) else int(value) for value in joined[column]]
        study.save_table(
            joined.reindex(columns=list(row('group_comparison').columns)).to_dict('records'),
            'group_comparison',
            about,
        )


def _values(study: Study, maps: MapSet, means: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """List what the tests over participants are made from."""
    unit = table().quantities[maps.quantity].unit
    parts = [
        regions[['level', 'name', 'network']].assign(
            participant=f'sub-{name}', group=study.design.members.get(name),
            quantity=maps.quantity, condition=maps.condition, contrast=maps.contrast,
            unit=unit, value=regions['effect'],
            se=np.sqrt(regions['variance'].to_numpy(float)),
        )
        for name, regions in means.items()
    ]  # fmt: skip
    return pd.concat(parts)


def _same_regions(means: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Give everybody a line for every region of interest, by name."""
    names = dict.fromkeys(name for table in means.values() for name in table['name'])
    lines = pd.DataFrame({'name': list(names), 'level': 'roi', 'network': 'all', 'index': None})
    numbers = ['effect', 'variance', 'n_voxels', 'coverage']
    return {
        participant: lines.merge(
            table.groupby('name')[numbers].mean(), left_on='name', right_index=True, how='left'
        )
        for participant, table in sorted(means.items())
    }


def _compare(
    study: Study, maps: MapSet, means: Mapping[str, pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    """Give the rows of a quantity: its mean, then every test of the design."""
    people, parts = list(means), list(means.values())
    matrix = study.design.matrix(people)
    if len(people) < MINIMUM or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        return
    values, variances = (
        np.stack([part[name].to_numpy(float) for part in parts]) for name in ('effect', 'variance')
    )
    known = variances if np.isfinite(variances).any() else None
    places = parts[0][['level', 'index', 'name', 'network']].assign(
        quantity=maps.quantity,
        unit=table().quantities[maps.quantity].unit,
        condition=maps.condition,
        contrast=maps.contrast,
        coverage=pd.DataFrame([part['coverage'].to_numpy() for part in parts]).mean().to_numpy(),
    )
    names = [None, *study.design.tests]
    for name in names:
        design = matrix if name is None else study.design.matrix_of(people, name)
        found = random_effects(values, known, design=design)
        is_tested = name is not None or maps.contrast is not None
        test = study.design.tests[name].meaning if name else 'mean'
        rows = places.assign(test=test, **_numbers(found, is_tested=is_tested))
        if is_tested:
            for level in rows['level'].unique():
                here = (rows['level'] == level).to_numpy()
                rows.loc[here, 'q'] = false_discovery_rate(found.p[here])
                family = f'{maps.name}_{name}_{level}'
                data = values[:, here], None if known is None else known[:, here]
                rows.loc[here, 'p_fwe'] = _family_wise(study, family, data, design)
        yield rows


def _numbers(found: RandomEffects, *, is_tested: bool) -> dict[str, Any]:
    """Give the columns of a test over regions; a mean of a condition is not tested against 0."""
    error = np.sqrt(found.variance)
    reach = stats.t.ppf(0.975, found.dof) * error
    columns: dict[str, Any] = {
        'effect': found.effect,
        'se': error,
        'low': found.effect - reach,
        'high': found.effect + reach,
        'sd': np.sqrt(found.residual),
        'n_participants': found.n,
    }
    if is_tested:
        d, d_error = effect_size(found)
        columns |= {
            'd': d,
            'd_low': d - NORMAL_95 * d_error,
            'd_high': d + NORMAL_95 * d_error,
            't': found.t,
            'p': found.p,
            'smallest_delta': smallest_equivalence(found),
            'detectable': detectable_effect(found),
        }
    return columns


def _tables(study: Study, contrast: str, effects: Mapping[str, Effect]) -> dict[str, pd.DataFrame]:
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
    return {name: _mean_of_sessions(parts) for name, parts in sessions.items()}


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


def _from_maps(study: Study, effects: Mapping[str, Effect]) -> dict[str, pd.DataFrame]:
    """Average the maps of each participant over regions."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for quantity, effect in effects.items():
        unit = table().quantities[quantity].unit
        for name, means in region_means(study, effect.maps).items():
            parts.setdefault(name, []).append(means.assign(quantity=quantity, unit=unit))
    return {name: pd.concat(parts[name], ignore_index=True) for name in sorted(parts)}


def region_means(study: Study, maps: MapSet) -> dict[str, pd.DataFrame]:
    """
    Average the maps of a quantity over regions.

    Per participant: level, index, name, network, effect, variance (random; NaN where the maps have
    none), n_voxels, coverage.
    """
    if maps.name not in study.region_means:
        study.region_means[maps.name] = _average(study, maps)
    return study.region_means[maps.name]


def _average(study: Study, maps: MapSet) -> dict[str, pd.DataFrame]:
    """Average the maps of every participant."""
    stack = study.stack(maps)
    levels = study_levels(study)
    means = {}
    for number, participant in enumerate(stack.participants):
        variance = stack.row_variance(number)
        estimate = Estimate.of(stack.row(number), 0.0 if variance is None else variance)
        table = region_estimate(estimate, levels, sidecar_of(maps.sources[participant][0].value))
        means[participant] = table.assign(variance=np.nan) if variance is None else table
    return means


def study_levels(study: Study) -> tuple[tuple[pd.DataFrame, IntArray], ...]:
    """Give the regions of the atlas, level by level, and the label of every voxel of the mask."""
    atlas = study.networks
    table = read_atlas(packaged_template(ATLAS, '.tsv'))
    levels = region_levels(np.zeros(study.n_voxels, int) if atlas is None else atlas, table)
    if atlas is None:
        levels = levels[-1:]  # the brain: no label of the packaged atlas lies in this template
    names = [text.partition('=')[0] for text in study.settings.group.regions]
    twice = [name for name in names if [*PACKAGED_LEVELS, *names].count(name) > 1]
    if twice:
        msg = (
            f'--regions: {twice[0]} is the name of another atlas; expected one name each, not '
            f'{", ".join(PACKAGED_LEVELS)}'
        )
        raise SettingsError(msg)
    own = (read_regions(text, study.grid, study.space) for text in study.settings.group.regions)
    return (*levels, *((regions, labels[study.mask]) for regions, labels in own))


def read_regions(text: str, grid: Grid, space: str = SPACE) -> tuple[pd.DataFrame, IntArray]:
    """
    Read an atlas beside the packaged one of networks.

    Parameters
    ----------
    text : str
        NAME=IMAGE,TSV: labels in template space, on any grid, and a table with index and name,
        with or without network; NAME=atlas-...: an atlas of the local TemplateFlow;
        ``territories``: the packaged arterial territories.
    grid : Grid
        Of the template.
    space : str
        Its name.

    Returns
    -------
    regions : DataFrame
        index, name, network, level (the name).
    labels : (X, Y, Z) ndarray of int
        Of the nearest voxel of the image.

    Raises
    ------
    SettingsError
        If the text or the table is not understood.
    """
    name, image, listed = _atlas_files(text, space)
    if not re.fullmatch('[A-Za-z0-9]+', name) or not image.is_file():
        msg = (
            f'--regions {text} should be NAME=IMAGE,TSV with files that there are, '
            f'NAME=atlas-... of TemplateFlow, or {TERRITORY}'
        )
        raise SettingsError(msg)
    regions = pd.read_csv(listed, sep='\t') if listed.is_file() else pd.DataFrame()
    if not {'index', 'name'} <= set(regions) or regions['index'].duplicated().any():
        msg = f'--regions {text}: {listed} should have columns index (each once) and name'
        raise SettingsError(msg)
    regions = regions[regions['index'] != 0]  # the background, which some tables list
    places = np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1)
    source = grid_of(image)
    way = np.linalg.inv(source.affine) @ grid.affine
    at = np.rint(places @ way[:3, :3].T + way[:3, 3]).astype(int)
    inside = ((at >= 0) & (at < source.shape)).all(axis=-1)
    data = np.rint(load_data(image)).astype(int)
    labels = np.zeros(grid.shape, int)
    labels[inside] = data[tuple(at[inside].T)]
    network = regions.get('network', 'all')
    return regions[['index', 'name']].assign(network=network, level=name), labels


def _atlas_files(text: str, space: str) -> tuple[str, Path, Path]:
    """Name, label image and table of an atlas, by what stands for it."""
    name, _, files = text.partition('=')
    if text == TERRITORY:
        if space != SPACE:
            msg = (
                f'--regions {TERRITORY} lie in {SPACE}, not in {space}; give an atlas of that '
                'template as NAME=IMAGE,TSV'
            )
            raise SettingsError(msg)
        return name, packaged_template(TERRITORIES), packaged_template(TERRITORIES, '.tsv')
    if files.startswith('atlas-') and ',' not in files:
        return name, *templateflow_atlas(files, space)
    image, _, listed = files.rpartition(',')
    return name, Path(image), Path(listed)


def region_estimate(
    estimate: Estimate,
    levels: Iterable[tuple[pd.DataFrame, IntArray]],
    noise: Mapping[str, Any],
) -> pd.DataFrame:
    """
    Average a map over the regions of all levels.

    level, index, name, network, effect, variance, n_voxels, coverage; levels are from
    :func:`study_levels`, the noise is that of the sidecar.
    """
    tables = []
    shared = noise.get(SHARED_NOISE, {})
    for regions, labels in levels:
        level = regions['level'].iloc[0]
        found = summarise_regions(
            estimate,
            labels,
            regions['index'],
            voxels_per_sample=noise.get(VOXELS_PER_SAMPLE, 1.0),
            shared=shared.get(level, shared.get('parcel', 0.0)),
        )
        rows = regions[['level', 'index', 'name', 'network']].copy()
        rows['index'] = rows['index'].where(~rows['level'].isin(('network', 'brain')))
        rows['effect'], rows['variance'] = found['mean'], found['se'] ** 2
        rows['n_voxels'], rows['coverage'] = found['n_voxels'], found['coverage']
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)
