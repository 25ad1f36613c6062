"""Group level: read the derivatives of all participants, test, label, write tpl- files."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.dataset import (
    prepare_output,
    read_summaries,
    update_shared,
    work_dir_of,
)
from bids_app.bids.outputs import (
    match,
    row,
    scale_of,
    table,
    write_image,
    write_json,
    write_table,
    write_text,
)
from bids_app.bids.verdict import RunVerdict, combine, judge, participant_summary
from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.errors import GridMismatchError, InputDataError, SelectionError
from bids_app.group.statistics import RandomEffects, group_labels, random_effects
from bids_app.images import Grid, grid_of, load_data, save_image
from bids_app.interfaces.regions import add_labels, network_masks, read_atlas
from bids_app.models.concordance import concordance_summary, false_discovery_rate
from bids_app.reports.citations import citation_bibtex, citation_markdown
from bids_app.reports.render import render_group, render_index
from bids_app.settings import to_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bids_app.settings import RunSettings, Settings

LOGGER = logging.getLogger('oxybold')

RESOLUTION = '2'
MINIMUM = 2
"""Fewest participants of a group."""

METHODS = (
    'Changes were tested over participants with a random-effects mean that weights every '
    'participant by its random variance and that between participants, and false discoveries '
    'were controlled per map [@benjamini1995]. Voxels were labelled from the group effects '
    '[@epp2025] [@goltermann2026].'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Where the maps of one quantity and contrast are."""

    quantity: str
    contrast: str
    task: str | None
    effects: dict[str, Path]
    """Participant (and session) -> effect map."""
    variances: dict[str, Path]

    @property
    def sessions(self) -> dict[str, list[str]]:
        """Participant -> its entries of `effects` that have a variance: repeats, not people."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.effects):
            if name in self.variances:
                found.setdefault(name.split('_')[0].removeprefix('sub-'), []).append(name)
        return found


def run_group(run: RunSettings, settings: Settings) -> RunVerdict:
    """
    Run the group level.

    Parameters
    ----------
    run : RunSettings
        The raw dataset is not read.
    settings : Settings
        Levels and thresholds.

    Returns
    -------
    verdict : RunVerdict
        Of the group.

    Raises
    ------
    AppError
        If the output holds no participants, or they do not fit together.
    """
    prepare_output(run)
    names = _select(run)
    if run.reports_only:
        render_group(run.output_dir)
        return RunVerdict()
    found = find_maps(run.output_dir, names)
    if not found:
        msg = (
            f'{run.output_dir} holds no change maps in {TEMPLATE} of {", ".join(names)}; run the '
            'participant level with a T1w image and two conditions first'
        )
        raise SelectionError(msg)
    mask, grid = group_mask(run.output_dir, names, settings.change.grey_matter)
    writer = _Writer(run, grid, mask)
    absences = []
    effects: dict[tuple[str, str], tuple[RandomEffects, Maps]] = {}
    for maps in found:
        LOGGER.info('group: %s of %s', maps.quantity, maps.contrast)
        lacking = sorted(set(names) - set(maps.sessions))
        if lacking:
            absences.append(f'{maps.quantity} of {maps.contrast} without {", ".join(lacking)}')
        if len(maps.sessions) < MINIMUM:
            absences.append(
                f'{maps.quantity} of {maps.contrast} is there for one participant only: '
                'no group statistics'
            )
            continue
        result = _test(maps, mask, grid)
        effects[maps.quantity, maps.contrast] = (result, maps)
        writer.save_effects(result, maps)
    for contrast in dict.fromkeys(contrast for _, contrast in effects):
        _label(writer, effects, contrast, settings)
        if settings.atlas != 'none':
            _regions(writer, contrast, names, settings)
    return _finish(run, settings, names, absences, made=bool(effects))


def _select(run: RunSettings) -> tuple[str, ...]:
    """Participants of the group: those asked for, else all that have results."""
    present = [summary['participant'] for summary in read_summaries(run.output_dir)]
    unknown = [label for label in run.participants if label not in present]
    if unknown or not present:
        msg = (
            f'{run.output_dir} has no results of {", ".join(unknown) or "any participant"}; '
            f'there are: {", ".join(present) or "none"}'
        )
        raise SelectionError(msg)
    return tuple(sorted(run.participants or present))


def find_maps(output_dir: Path, participants: Iterable[str]) -> list[Maps]:
    """
    Find the change maps in template space.

    Parameters
    ----------
    output_dir : Path
        Derivatives.
    participants : iterable of str
        Labels.

    Returns
    -------
    found : list of Maps
        One per quantity and contrast, in the order of the output table.
    """
    files: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    tasks: dict[tuple[str, str], set[str]] = {}
    for path, entities in _find(output_dir, participants, 'contrast', space=TEMPLATE):
        key = (entities['quantity'], entities['contrast'])
        session = f'_ses-{entities["ses"]}' if 'ses' in entities else ''
        statistic = files.setdefault(key, {}).setdefault(entities['statistic'], {})
        statistic[f'sub-{entities["sub"]}{session}'] = path
        tasks.setdefault(key, set()).update(filter(None, [entities.get('task')]))
    order = list(table().quantities)
    return [
        Maps(
            quantity=quantity,
            contrast=contrast,
            task=_task(tasks[quantity, contrast]),
            effects=files[quantity, contrast].get('effect', {}),
            variances=files[quantity, contrast].get('variance', {}),
        )
        for quantity, contrast in sorted(files, key=lambda key: (key[1], order.index(key[0])))
    ]


def _find(
    output_dir: Path, participants: Iterable[str], key: str, **wanted: str
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Files of one row of the output table whose entities are those wanted, sorted."""
    extension = row(key).extension[0]
    for participant in sorted(participants):
        for path in sorted((output_dir / f'sub-{participant}').rglob(f'*{extension}')):
            found, entities = match(path.relative_to(output_dir).as_posix()) or ('', {})
            if found == key and wanted.items() <= entities.items():
                yield path, entities


def _task(tasks: set[str]) -> str | None:
    """Label of the BOLD task; pooled where participants differ."""
    if not tasks:
        return None
    return tasks.pop() if len(tasks) == 1 else 'pooled'


def group_mask(
    output_dir: Path, participants: Iterable[str], threshold: float
) -> tuple[Any, Grid]:
    """
    Make the mask of the group: mean grey-matter probability above a threshold.

    Returns
    -------
    mask : (X, Y, Z) ndarray of bool
        On the template grid.
    grid : Grid
        Of the template.

    Raises
    ------
    InputDataError
        If no participant has a grey-matter map there.
    """
    grid = grid_of(packaged_template('desc-brain_mask'))
    total, count = np.zeros(grid.shape), 0
    for path, _ in _find(output_dir, participants, 'probseg', space=TEMPLATE, label='GM'):
        total += _whole(path, grid)
        count += 1
    if count == 0:
        msg = f'no grey-matter map in {TEMPLATE} below {output_dir}'
        raise InputDataError(msg)
    return total / count > threshold, grid


def _test(maps: Maps, mask: Any, grid: Grid) -> RandomEffects:
    """Read the maps of a quantity one participant at a time and test their mean."""
    scale = scale_of('contrast', quantity=maps.quantity, statistic='effect')
    effects = np.empty((len(maps.sessions), int(mask.sum())), np.float32)
    variances = np.empty_like(effects)
    for number, names in enumerate(maps.sessions.values()):
        values = [_whole(maps.effects[name], grid)[mask] / scale for name in names]
        errors = [_whole(maps.variances[name], grid)[mask] / scale**2 for name in names]
        known = np.isfinite(values) & np.isfinite(errors)
        with np.errstate(invalid='ignore'):  # no session: 0 / 0, no estimate
            effects[number] = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
            variances[number] = np.where(known, errors, 0).sum(axis=0) / known.sum(axis=0) ** 2
    return random_effects(effects, variances)


def _whole(path: Path, grid: Grid) -> Any:
    """Read a map that must be on the grid of the template."""
    if not grid_of(path).matches(grid):
        msg = f'{path} is not on the {TEMPLATE} grid of {grid.shape} voxels'
        raise GridMismatchError(msg)
    return load_data(path)


class _Writer:
    """Writes the maps and tables of the group."""

    def __init__(self, run: RunSettings, grid: Grid, mask: Any) -> None:
        self.run = run
        self.grid = grid
        self.mask = mask

    def _image(self, values: Any, key: str, sidecar: dict[str, Any], **entities: Any) -> None:
        """Write voxels of the mask as an image."""
        is_label = row(key).dtype == 'uint8'
        data = np.full(self.grid.shape, 0 if is_label else np.nan)
        data[self.mask] = values
        with tempfile.TemporaryDirectory(dir=_scratch(self.run)) as folder:
            kind = np.uint8 if is_label else np.float32
            source = save_image(data.astype(kind), self.grid, Path(folder) / 'map.nii')
            write_image(
                Path(source),
                output_dir=self.run.output_dir,
                key=key,
                entities={'space': TEMPLATE, 'res': RESOLUTION, **entities},
                sidecar=sidecar,
            )

    def save_effects(self, result: RandomEffects, maps: Maps) -> None:
        """Write effect, variance, t, z, p and q of a quantity."""
        sidecar = {
            'Contrast': contrast_of(maps),
            'Participants': sorted(maps.effects),
            'DegreesOfFreedom': float(len(maps.sessions) - 1),
            'Sources': [f'bids::{path.relative_to(self.run.output_dir).as_posix()}'
                        for _, path in sorted(maps.effects.items())],
        }  # fmt: skip
        statistics = {
            'effect': result.effect,
            'variance': result.variance,
            't': result.t,
            'z': result.z,
            'p': result.p,
            'q': false_discovery_rate(result.p),
        }
        for statistic, values in statistics.items():
            self._image(
                values,
                'group_contrast',
                sidecar,
                quantity=maps.quantity,
                contrast=maps.contrast,
                statistic=statistic,
                task=maps.task,
            )

    def save_labels(self, labels: Any, key: str, maps: Maps) -> None:
        """Write a label map."""
        sidecar = {'Contrast': contrast_of(maps), 'Participants': sorted(maps.effects)}
        self._image(labels, key, sidecar, contrast=maps.contrast, task=maps.task)

    def save_table(self, rows: Any, key: str, **entities: Any) -> None:
        """Write a table."""
        write_table(
            rows,
            output_dir=self.run.output_dir,
            key=key,
            entities={'space': TEMPLATE, **entities},
        )


def _scratch(run: RunSettings) -> Path:
    """Folder for files on their way."""
    folder = work_dir_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def contrast_of(maps: Maps) -> dict[str, str]:
    """Read task and baseline of a contrast from a sidecar: names are not parsed."""
    path = next(iter(maps.effects.values()))
    sidecar = json.loads(Path(str(path).removesuffix('.nii.gz') + '.json').read_text('utf-8'))
    contrast: dict[str, str] = sidecar['Contrast']
    return contrast


def _label(
    writer: _Writer,
    effects: dict[tuple[str, str], tuple[RandomEffects, Maps]],
    contrast: str,
    settings: Settings,
) -> None:
    """Label the voxels of a contrast, where it has BOLD and CMRO2, and count them."""
    if ('boldPct', contrast) not in effects or ('cmro2', contrast) not in effects:
        return
    bold, maps = effects['boldPct', contrast]
    change, _ = effects['cmro2', contrast]
    labels = group_labels(
        bold,
        change,
        bold_q=settings.change.bold_q,
        cmro2_q=settings.change.cmro2_q,
        mask=np.ones(bold.effect.shape, bool),
    )
    image, names = packaged_template(ATLAS), packaged_template(ATLAS, '.tsv')
    networks = network_masks(load_data(image)[writer.mask].astype(int), read_atlas(names))
    rows: list[Any] = []
    for rule, key, found in (
        ('sign', 'group_concordance_sign', labels.sign),
        ('robust', 'group_concordance', labels.robust),
    ):
        writer.save_labels(found, key, maps)
        rows += concordance_summary(found, rule=rule, networks=networks)
    writer.save_table(rows, 'group_summary', contrast=contrast)


def _regions(
    writer: _Writer, contrast: str, participants: Iterable[str], settings: Settings
) -> None:
    """Test the region means of the participants."""
    keys = ['level', 'index', 'name', 'network', 'quantity', 'unit']
    sessions: dict[str, list[Any]] = {}
    found = _find(writer.run.output_dir, participants, 'regions', contrast=contrast)
    for path, entities in found:
        part = pd.read_csv(path, sep='\t', na_values=['n/a'])
        sessions.setdefault(entities['sub'], []).append(part)
    if len(sessions) < MINIMUM:
        return
    tables = [_mean_of_sessions(parts, keys) for parts in sessions.values()]
    rows = pd.concat([part[keys] for part in tables]).drop_duplicates(ignore_index=True)
    stacked = [rows.merge(part, on=keys, how='left') for part in tables]
    effects = np.stack([part['effect'].to_numpy(float) for part in stacked])
    errors = np.stack([part['se'].to_numpy(float) for part in stacked])
    for quantity in rows['quantity'].unique():
        here = (rows['quantity'] == quantity).to_numpy()
        result = random_effects(effects[:, here], errors[:, here] ** 2)
        rows.loc[here, 'effect'] = result.effect
        rows.loc[here, 'se'] = np.sqrt(result.variance)
        for column in ('z', 't', 'p'):
            rows.loc[here, column] = getattr(result, column)
        rows.loc[here, 'n_participants'] = result.n
    for column in ('n_voxels', 'coverage'):
        rows[column] = pd.concat([part[column] for part in stacked], axis=1).mean(axis=1)
    rows['n_voxels'] = rows['n_voxels'].round()
    change = settings.change
    rows = add_labels(rows, bold_q=change.bold_q, level=change.false_sign_rate)
    for column in ('index', 'n_voxels', 'n_participants'):
        rows[column] = [None if pd.isna(value) else int(value) for value in rows[column]]
    rows['label'] = [None if pd.isna(value) else value for value in rows['label']]
    rows = rows.astype({'index': object})
    columns = list(row('group_regions').columns)
    writer.save_table(
        rows[columns].to_dict('records'),
        'group_regions',
        contrast=contrast,
        atlas=settings.atlas,
    )


def _mean_of_sessions(parts: list[Any], keys: list[str]) -> Any:
    """Join the region tables of one participant: sessions are repeats."""
    joined = pd.concat(parts)
    joined['variance'] = joined['se'] ** 2
    groups = joined.groupby(keys, sort=False, dropna=False)
    mean = groups[['effect', 'variance', 'n_voxels', 'coverage']].mean()
    mean['se'] = np.sqrt(mean['variance'] / groups['variance'].count())
    return mean.reset_index()


def _finish(
    run: RunSettings,
    settings: Settings,
    names: tuple[str, ...],
    absences: list[str],
    *,
    made: bool,
) -> RunVerdict:
    """Judge the group and write its records and report."""
    verdict = judge('group', absences=dict.fromkeys(absences), made_anything=made)
    out: dict[str, Any] = {'output_dir': run.output_dir, 'entities': {}}
    summary = participant_summary(verdict, command=run.command, units=[])
    summary |= {'participants': list(names), 'methods': METHODS}
    write_json(summary, key='group_run_summary', **out)
    write_text(to_toml(settings), key='group_settings', **out)
    write_text(citation_markdown(METHODS), key='group_citation_md', **out)
    write_text(citation_bibtex(METHODS), key='group_citation_bib', **out)
    render_group(run.output_dir)
    update_shared(run.output_dir, render_index)
    return combine([verdict])
