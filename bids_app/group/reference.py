"""Norms on disk: what a group exports, and how other participants are compared with it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import output_path, row, table
from bids_app.bids.output.write import write_image
from bids_app.errors import SettingsError
from bids_app.group.design import find_columns
from bids_app.group.formula import Encoding
from bids_app.group.norms import Norm, compare_with_norm, fit_norm
from bids_app.group.regions import region_means
from bids_app.group.study import Study
from bids_app.images import grid_of, load_data, save_image
from bids_app.models.concordance.labels import false_discovery_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bids_app._typing import FloatArray
    from bids_app.group.inputs import MapSet

FEWEST = 3
"""Participants of a norm; and two more than its design has columns."""

OTHERS = ('residual', 'random', 'participants')
"""Volumes of a norm beside the coefficients."""

ABNORMAL = 0.05
"""Probability below which a region or voxel is counted as beyond the norm."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """
    A norm that was read.

    Parameters
    ----------
    facts : mapping of str to value
        Of its sidecar.
    norm : Norm
        Of the voxels of the study, or of regions.
    regions : DataFrame or None
        Level and name of these regions.
    """

    facts: Mapping[str, Any]
    norm: Norm
    regions: pd.DataFrame | None = None

    @property
    def encoding(self) -> Encoding | None:
        """How covariates become columns; None where the norm is a mean."""
        made = self.facts['Encoding']
        return None if made is None else Encoding(
            text=made['text'],
            centres=made['centres'],
            levels={name: tuple(levels) for name, levels in made['levels'].items()},
        )  # fmt: skip

    def row(self, data: pd.DataFrame) -> FloatArray:
        """Put a person, a line of covariates, into the columns of the design."""
        encoding = self.encoding
        if encoding is None:
            return np.ones(1)
        columns = encoding.matrix(data)[self.facts['Terms'][1:]].to_numpy(float)[0]
        return np.array([1.0, *(columns - np.asarray(self.facts['ColumnMeans'], float))])


# ------------------------------------------------------------------------------ export


def save_norms(study: Study, tested: Sequence[MapSet]) -> None:
    """
    Write what the participants lead to expect of others: maps, and a table of regions.

    Covariates as columns and not as formula cannot be told to others: no norm then.
    """
    if study.design.columns and study.design.encoding is None:
        study.absences['no norm for others: it takes covariates as --model'] = None
        return
    rows: list[dict[str, Any]] = []
    designs: dict[str, Any] = {}
    for maps in tested:
        stack = study.stack(maps)
        design = study.design.matrix(stack.participants)
        if len(stack.participants) < max(FEWEST, design.shape[1] + 2):
            continue
        facts = _facts(study, maps)
        parts = [
            fit_norm(*stack.block(where), design)
            for where in stack.slices((12 + design.shape[1] ** 2) * len(stack.participants))
        ]
        _save_map(study, maps, np.concatenate([_volumes(part) for part in parts], axis=1), facts)
        if study.settings.atlas != 'none':
            designs[maps.name] = facts | {'Atlas': study.settings.atlas}
            rows += _region_rows(study, maps, design, facts['Volumes'])
    if rows:
        study.save_table(rows, 'group_norm_regions', {'Norms': designs})


def _facts(study: Study, maps: MapSet) -> dict[str, Any]:
    """Say in the sidecar how the norm was made; nobody of it is named."""
    names = study.stack(maps).participants
    terms = ['mean', *study.design.columns]
    design, encoding = study.design.matrix(names), study.design.encoding
    raw = np.array([study.design.values[name] for name in names]) if encoding else np.ones((1, 0))
    return {
        'Units': table().quantities[maps.quantity].unit,
        'Norm': maps.name,
        'NumberOfParticipants': len(names),
        'Terms': terms,
        'Volumes': [*terms, *OTHERS],
        'Encoding': None if encoding is None else {
            'text': encoding.text,
            'centres': dict(encoding.centres),
            'levels': {name: list(levels) for name, levels in encoding.levels.items()},
        },
        'ColumnMeans': raw.mean(axis=0).tolist(),
        'InverseOfNormalMatrix': np.linalg.pinv(design.T @ design).tolist(),
    }  # fmt: skip


def _volumes(norm: Norm) -> FloatArray:
    """Put the parts of a norm one above the other."""
    return np.stack([*norm.coefficients, norm.residual, norm.random, norm.n])


def _save_map(study: Study, maps: MapSet, volumes: FloatArray, facts: dict[str, Any]) -> None:
    """Write a norm as an image of several volumes."""
    data = np.stack([study.volume(values) for values in volumes], axis=-1)
    with tempfile.TemporaryDirectory(dir=study.folder) as folder:
        source = save_image(data.astype(np.float32), study.grid, Path(folder) / 'norm.nii')
        write_image(
            Path(source),
            output_dir=study.run.output_dir,
            key='group_norm',
            entities=_entities(study, maps),
            sidecar=facts,
        )


def _entities(study: Study, maps: MapSet) -> dict[str, str | None]:
    """Say in a name which maps."""
    return {
        **study.place,
        'quantity': maps.quantity,
        'contrast': maps.contrast,
        'condition': None if maps.contrast else maps.condition,
    }


def _region_rows(
    study: Study, maps: MapSet, design: FloatArray, terms: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Give the lines of the table of regions."""
    places, values, variances = _regions(study, maps)
    volumes = _volumes(fit_norm(values, variances, design))
    for number, place in enumerate(places[['level', 'name']].to_dict('records')):
        for term, value in zip(terms, volumes[:, number], strict=True):
            yield {**place, 'norm': maps.name, 'term': term, 'value': value}


def _regions(study: Study, maps: MapSet) -> tuple[pd.DataFrame, FloatArray, FloatArray | None]:
    """Average over regions: their names, values and variances of the participants."""
    parts = list(region_means(study, maps).values())
    values = np.stack([part['effect'].to_numpy(float) for part in parts])
    variances = np.stack([part['variance'].to_numpy(float) for part in parts])
    return parts[0], values, None if study.stack(maps).variances is None else variances


# ------------------------------------------------------------------------------ comparison


def save_deviations(study: Study) -> bool:
    """
    Compare every participant with a norm and write z maps and a table of regions.

    Tell whether there was anything to compare.

    Raises
    ------
    SettingsError
        If the folder holds no norm, or is the output of these participants themselves.
    """
    folder = _checked(study)
    rows: list[dict[str, Any]] = []
    found = dict(_read_maps(folder, study.space))
    tables = dict(_read_tables(folder, study.space))
    for maps in study.inputs.all_maps:
        stack = study.stack(maps)
        if maps.name not in found and maps.name not in tables:
            study.absences[f'{maps.what} has no norm in {folder.name}'] = None
            continue
        of_maps = _read_map(*found[maps.name], study) if maps.name in found else None
        of_regions = tables.get(maps.name)
        people = _covariates(study, [one for one in (of_maps, of_regions) if one], stack)
        if of_maps is not None:
            rows += _save_maps(study, maps, of_maps, people)
        if of_regions is not None:
            rows += _lines_of_regions(study, maps, of_regions, people)
    if rows:
        wanted = [maps for maps in study.inputs.all_maps if study.stack(maps).participants]
        lines = pd.DataFrame(rows).reindex(columns=list(row('group_deviations').columns))
        for column in ('n_voxels', 'n_reference', 'n_beyond'):
            lines[column] = pd.Series(
                [None if pd.isna(value) else int(value) for value in lines[column]], dtype=object
            )
        study.save_table(lines.to_dict('records'), 'group_deviations', study.about(*wanted))
    return bool(rows)


def _checked(study: Study) -> Path:
    """Refuse a folder that cannot be a norm for these participants."""
    folder = Path(study.settings.group.reference or '').absolute()
    if folder.resolve() == study.run.output_dir.resolve():
        msg = (
            f'--reference {folder} is the output itself: its participants are in that norm. '
            'Give the output of people of reference'
        )
        raise SettingsError(msg)
    name = _table_name(study.space)
    if not _norm_images(folder, study.space) and not any(folder.rglob(name)):
        msg = (
            f'--reference {folder} holds no norm in {study.space}: expected *_norm.nii.gz or '
            f'{name} with their .json, as the group level of three participants or more '
            'writes them'
        )
        raise SettingsError(msg)
    return folder


def _table_name(space: str) -> str:
    """Name of the table of regions, whatever folder it is in."""
    return Path(output_path('group_norm_regions', space=space)).name


def _norm_images(folder: Path, space: str) -> list[Path]:
    """Find the norms of maps in a template: files of another name belong to every one."""
    return [
        path
        for path in sorted(folder.rglob('*_norm.nii.gz'))
        if path.name.startswith(f'tpl-{space}_') or not path.name.startswith('tpl-')
    ]


def _sidecar(path: Path) -> dict[str, Any]:
    """Read the sidecar of a norm."""
    about = path.with_name(path.name.removesuffix('.gz').rpartition('.')[0] + '.json')
    try:
        return dict(json.loads(about.read_text('utf-8')))
    except (OSError, ValueError) as error:
        msg = f'the norm {path} needs its sidecar {about.name}, which cannot be read: {error}'
        raise SettingsError(msg) from error


def _read_maps(folder: Path, space: str) -> Iterator[tuple[str, tuple[Path, dict[str, Any]]]]:
    """Find the norms of maps."""
    for path in _norm_images(folder, space):
        facts = _sidecar(path)
        yield str(facts.get('Norm')), (path, facts)


def _read_map(path: Path, facts: dict[str, Any], study: Study) -> Reference:
    """Read the norm of a map in the voxels of the study."""
    if not grid_of(path).matches(study.grid):
        msg = f'the norm {path} is not on the grid of the template {study.grid.shape}'
        raise SettingsError(msg)
    return Reference(facts=facts, norm=_norm(load_data(path)[study.mask].T, facts))


def _norm(volumes: FloatArray, facts: Mapping[str, Any]) -> Norm:
    """Take the parts of a norm apart again."""
    residual, random, n = volumes[-len(OTHERS) :]
    return Norm(
        coefficients=volumes[: -len(OTHERS)],
        residual=residual,
        random=random,
        n=np.nan_to_num(n),
        inverse=np.asarray(facts['InverseOfNormalMatrix'], float),
        size=int(facts['NumberOfParticipants']),
    )


def _read_tables(folder: Path, space: str) -> Iterator[tuple[str, Reference]]:
    """Read the norms of regions."""
    for path in sorted(folder.rglob(_table_name(space))):
        facts = _sidecar(path)['Norms']
        lines = pd.read_csv(path, sep='\t', na_values=['n/a'], keep_default_na=False)
        for name, part in lines.groupby('norm'):
            terms = facts[name]['Volumes']
            wide = part.set_index(['level', 'name', 'term'])['value'].unstack('term', sort=False)
            wide = wide.reindex(columns=terms)
            norm = _norm(wide.to_numpy(float).T, facts[name])
            yield (
                str(name),
                Reference(facts=facts[name], norm=norm, regions=wide.index.to_frame(index=False)),
            )


def _covariates(study: Study, references: Sequence[Reference], stack: Any) -> pd.DataFrame:
    """Read what the norm needs to know of the participants; name who lacks it."""
    names = {name for one in references if one.encoding for name in one.encoding.names}
    folders = (study.run.output_dir, study.run.bids_dir)
    data, left_out = find_columns(folders, sorted(names), stack.participants)
    for name, why in left_out.items():
        study.absences[f'sub-{name} cannot be compared with the norm: {why}'] = None
    return data


def _place(maps: MapSet, name: str, reference: Reference) -> dict[str, Any]:
    """Say what a line is about."""
    return {
        'participant': f'sub-{name}',
        'quantity': maps.quantity,
        'condition': maps.condition,
        'contrast': maps.contrast,
        'unit': table().quantities[maps.quantity].unit,
        'n_reference': reference.norm.size,
    }


def _volume(study: Study) -> float:
    """Volume of a voxel, mL."""
    return float(np.prod(study.grid.zooms)) / 1000.0


def _save_maps(
    study: Study, maps: MapSet, reference: Reference, people: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Write the z map of every participant, and count its voxels beyond the norm."""
    stack = study.stack(maps)
    for number, name in enumerate(stack.participants):
        if name not in people.index:
            continue
        row = reference.row(people.loc[[name]])
        values, variance = stack.row(number), stack.row_variance(number)
        deviation = compare_with_norm(reference.norm, values, variance, row)
        facts = study.about(maps) | {'Norm': maps.name, 'Participants': [f'sub-{name}']}
        at = {**_entities(study, maps), 'sub': name, 'statistic': 'zNorm'}
        study.save_image(deviation.z, 'norm_z', facts, **at)
        n = int(np.isfinite(deviation.p).sum())
        yield _place(maps, name, reference) | {
            'level': 'voxel',
            'name': 'grey matter',
            'n_voxels': n,
            'volume_ml': n * _volume(study),
            'n_beyond': int((deviation.p < ABNORMAL).sum()),
            'n_expected': ABNORMAL * n,
        }


def _lines_of_regions(
    study: Study, maps: MapSet, reference: Reference, people: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Compare the regions of every participant with their norm."""
    if reference.regions is None or study.settings.atlas != reference.facts['Atlas']:
        study.absences[
            f'regions of {maps.what} have a norm for the atlas {reference.facts["Atlas"]} only'
        ] = None
        return
    for name, means in region_means(study, maps).items():
        if name not in people.index:
            continue
        own = reference.regions.merge(means, on=['level', 'name'], how='left')
        is_known = study.stack(maps).variances is not None
        variance = own['variance'].to_numpy(float) if is_known else None
        found = compare_with_norm(
            reference.norm, own['effect'].to_numpy(float), variance,
            reference.row(people.loc[[name]]),
        )  # fmt: skip
        lines = own[['level', 'name', 'network', 'n_voxels']].assign(
            value=own['effect'], se_random=np.sqrt(own['variance']), expected=found.expected,
            se=found.se, low=found.low, high=found.high, z=found.z, p=found.p,
            volume_ml=own['n_voxels'] * _volume(study), q=np.nan,
        )  # fmt: skip
        for level in lines['level'].unique():
            here = (lines['level'] == level).to_numpy()
            lines.loc[here, 'q'] = false_discovery_rate(found.p[here])
        place = _place(maps, name, reference)
        yield from ({**place, **line} for line in lines.to_dict('records'))
