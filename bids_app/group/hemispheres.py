"""One hemisphere against the other: index maps, region tables, and sides that are affected."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import output_path
from bids_app.errors import SettingsError
from bids_app.group.inputs import GroupInputs, MapSet, MapSource, sidecar_of
from bids_app.group.mirror import pairs_of
from bids_app.group.regions import region_estimate, study_levels
from bids_app.group.stream import Stack
from bids_app.group.study import Study
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.asymmetry import asymmetry_index

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bids_app._typing import FloatArray, IntArray

SIDES = {'l': 'left', 'left': 'left', 'r': 'right', 'right': 'right'}
"""Words of the column of affected sides."""

SUFFIX = 'Asymmetry'
"""What the name of the index of a quantity ends with."""


def turn_affected(inputs: GroupInputs, sides: Mapping[str, Any], column: str) -> GroupInputs:
    """
    Mirror the maps of participants whose right side is affected.

    Sides are left, right (L, R), or nothing for people without an affected side. The affected side
    of everybody is then on the left, also of the grey matter of which the mask is made; regions
    are averaged from the maps.

    Raises
    ------
    SettingsError
        If a side is another word, or nobody has one.
    """
    known = {name: str(side).strip().lower() for name, side in sides.items() if not pd.isna(side)}
    unknown = {name: side for name, side in known.items() if side not in SIDES}
    if unknown or not known:
        found = ', '.join(f'{side} of sub-{name}' for name, side in unknown.items()) or 'nothing'
        msg = (
            f'participants.tsv: the column {column} should hold left or right (L, R), n/a for '
            f'people without an affected side; found {found}'
        )
        raise SettingsError(msg)
    right = {name for name, side in known.items() if SIDES[side] == 'right'}

    def turned(of_people: Mapping[str, tuple[MapSource, ...]]) -> dict[str, tuple[MapSource, ...]]:
        return {
            name: tuple(replace(one, mirrored=name in right) for one in sources)
            for name, sources in of_people.items()
        }

    changes, baselines = (
        tuple(replace(maps, sources=turned(maps.sources)) for maps in found)
        for found in (inputs.changes, inputs.baselines)
    )
    return replace(
        inputs,
        changes=changes,
        baselines=baselines,
        grey_matter=turned(inputs.grey_matter),
        regions={},
    )


def add_asymmetries(study: Study) -> None:
    """
    Make the asymmetry of every map of a condition, per participant, and add it to the changes.

    Parameters
    ----------
    study : Study
        Its inputs get one change more per map: the index of left against right, or of the
        affected against the other side, in the voxels of the left hemisphere whose partner is in
        the mask too. Regions are indices of the means of both sides.
    """
    left, right = pairs_of(study.mask)
    if not len(left):
        study.absences['no asymmetry: no voxel of the group mask has a partner in it'] = None
        return
    added, rows = [], []
    for maps in study.inputs.baselines:
        if not study.stack(maps).participants:
            continue
        index = _index_of(study, maps)
        _write_stack(study, maps, index, (left, right))
        added.append(_with_sources(study, index))
        if study.settings.atlas != 'none':
            rows += _region_rows(study, maps, index, (left, right))
    study.inputs = replace(study.inputs, changes=(*study.inputs.changes, *added))
    if rows:
        about = study.about(*study.inputs.baselines) | {'Sides': _sides(study)}
        study.save_table(rows, 'group_asymmetry', about)


def _sides(study: Study) -> tuple[str, str]:
    """Name the sides that are compared."""
    is_affected = study.settings.group.affected_side is not None
    return ('affected', 'unaffected') if is_affected else ('left', 'right')


def _index_of(study: Study, maps: MapSet) -> MapSet:
    """Describe the index of a quantity; files come later."""
    first, second = _sides(study)
    name = f'{first}Minus{second[:1].upper()}{second[1:]}'
    of = maps.condition or ''
    return MapSet(
        quantity=f'{maps.quantity}{SUFFIX}',
        contrast=f'{of}{name[:1].upper()}{name[1:]}' if of else name,
        condition=maps.condition,
        sources={},
        about={'Task': f'{of} {first}'.strip(), 'Baseline': second},
    )


def _write_stack(
    study: Study, maps: MapSet, index: MapSet, pairs: tuple[IntArray, IntArray]
) -> None:
    """Compute the index of every participant and write it as a map and for the group."""
    stack = study.stack(maps)
    paths = [study.folder / f'{index.name}{part}.f32' for part in ('', '_var')]
    about = study.about(maps) | {'Contrast': dict(index.about)}
    with paths[0].open('wb') as values, paths[1].open('wb') as variances:
        for number, name in enumerate(stack.participants):
            made = asymmetry_index(*(_side(stack, number, where) for where in pairs))
            for statistic, data, stream in (
                ('effect', made.value, values),
                ('variance', made.variance, variances),
            ):
                whole = np.full(study.n_voxels, np.nan)
                whole[pairs[0]] = data
                stream.write(whole.astype(np.float32).tobytes())
                if statistic == 'effect' or stack.variances is not None:
                    sidecar = about | {'Participants': [f'sub-{name}']}
                    at = _place(index, name) | {'statistic': statistic}
                    study.save_image(whole, 'asymmetry', sidecar, **at)
    study.stacks[index.name] = Stack(
        participants=stack.participants,
        n_voxels=study.n_voxels,
        values=paths[0],
        variances=None if stack.variances is None else paths[1],
        is_change=True,
    )


def _side(stack: Stack, number: int, where: IntArray) -> Estimate:
    """Read one side of a participant."""
    variance = stack.row_variance(number)
    return Estimate.of(stack.row(number)[where], 0.0 if variance is None else variance[where])


def _place(index: MapSet, name: str) -> dict[str, Any]:
    """Say in a name which index of whom."""
    return {'sub': name, 'quantity': index.quantity, 'condition': index.condition}


def _with_sources(study: Study, index: MapSet) -> MapSet:
    """Point to the maps that were written."""
    sources = {}
    for name in study.stacks[index.name].participants:
        at = {**_place(index, name), **study.place}
        value, variance = (
            study.run.output_dir / output_path('asymmetry', **at, statistic=statistic)
            for statistic in ('effect', 'variance')
        )
        has_variance = study.stacks[index.name].variances is not None
        sources[name] = (MapSource(value=value, variance=variance if has_variance else None),)
    return replace(index, sources=sources)


def _region_rows(
    study: Study, maps: MapSet, index: MapSet, pairs: tuple[IntArray, IntArray]
) -> list[dict[str, Any]]:
    """Compare the means of both sides in every region, and keep them for the tests."""
    stack = study.stack(maps)
    levels = [(regions, labels[pairs[0]]) for regions, labels in study_levels(study)]
    rows: list[dict[str, Any]] = []
    means: dict[str, pd.DataFrame] = {}
    for number, name in enumerate(stack.participants):
        sides = [_side(stack, number, where) for where in pairs]
        known = np.isfinite(sides[0].value + sides[1].value)
        both = [Estimate.of(np.where(known, s.value, np.nan), s.variance) for s in sides]
        facts = sidecar_of(maps.sources[name][0].value)
        first, second = (region_estimate(side, levels, facts) for side in both)
        made = asymmetry_index(*(_as_estimate(table, stack) for table in (first, second)))
        means[name] = first.assign(
            effect=made.value, variance=np.nan if stack.variances is None else made.variance
        )
        here = first['n_voxels'] > 0
        rows += pd.DataFrame({
            'participant': f'sub-{name}', 'quantity': maps.quantity, 'condition': maps.condition,
            'level': first['level'], 'name': first['name'], 'network': first['network'],
            'first': first['effect'], 'second': second['effect'], 'index': made.value,
            'se': np.sqrt(means[name]['variance']), 'n_pairs': first['n_voxels'],
        })[here].to_dict('records')  # fmt: skip
    study.region_means[index.name] = means
    return rows


def _as_estimate(table: pd.DataFrame, stack: Stack) -> Estimate:
    """Take means of regions as values with errors."""
    variance: FloatArray | float = 0.0
    if stack.variances is not None:
        variance = table['variance'].to_numpy(float)
    return Estimate.of(table['effect'].to_numpy(float), variance)
