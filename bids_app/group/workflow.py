"""Group level: read the derivatives of all participants, test, label, write tpl- files."""

from __future__ import annotations

import logging
import tempfile
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
from bids_app.bids.outputs import row, write_json, write_text
from bids_app.bids.verdict import RunVerdict, combine, judge, participant_summary
from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.engines.templates import SPACE as TEMPLATE
from bids_app.errors import ExitCode, SelectionError
from bids_app.group.inputs import GroupInputs, MapSet, from_derivatives
from bids_app.group.statistics import MINIMUM, RandomEffects, random_effects
from bids_app.group.stream import stack_effects
from bids_app.group.study import Study, group_mask
from bids_app.images import load_data
from bids_app.interfaces.regions import add_labels, network_masks, read_atlas
from bids_app.models.concordance import (
    concordance_summary,
    false_discovery_rate,
    gate_by_probability,
    label_by_probability,
    label_by_sign,
    label_robust,
)
from bids_app.reports.citations import citation_bibtex, citation_markdown
from bids_app.reports.render import render_group, render_index
from bids_app.settings import to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bids_app.settings import RunSettings, Settings

LOGGER = logging.getLogger('oxybold')

LABEL_MAPS = {
    'sign': 'group_concordance_sign',
    'ttest': 'group_concordance_ttest',
    'robust': 'group_concordance',
}
"""Rule -> row of its map."""

METHODS = (
    'Changes were tested over participants with a random-effects mean that weights every '
    'participant by its random variance and that between participants, with variances moderated '
    'over voxels [@smyth2004], and false discoveries were controlled per map [@benjamini1995]. '
    'Voxels were labelled from the group effects [@epp2025] [@goltermann2026] [@stephens2017].'
)


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
    inputs = find_inputs(run, names)
    if not inputs.changes:
        msg = (
            f'{run.output_dir} holds no change maps in {TEMPLATE} of {", ".join(names)}; run the '
            'participant level with a T1w image and two conditions first'
        )
        raise SelectionError(msg)
    mask, grid, unusable = group_mask(inputs, settings.change.grey_matter)
    with tempfile.TemporaryDirectory(dir=_scratch(run)) as folder:
        study = Study(
            run=run,
            settings=settings,
            inputs=inputs,
            mask=mask,
            grid=grid,
            folder=Path(folder),
            defects=dict.fromkeys(f'sub-{name}: {reason}' for name, reason in unusable),
        )
        effects = {maps.name: (_effects(study, maps), maps) for maps in _testable(study)}
        for contrast in dict.fromkeys(maps.contrast for _, maps in effects.values()):
            _label(study, effects, contrast)
            if settings.atlas != 'none':
                _regions(study, contrast)
        return _finish(study, names, made=bool(effects))


def find_inputs(run: RunSettings, participants: tuple[str, ...]) -> GroupInputs:
    """
    Find the maps of the group: the one place that chooses a provider.

    Parameters
    ----------
    run : RunSettings
        Output and other derivatives.
    participants : tuple of str
        Labels.

    Returns
    -------
    inputs : GroupInputs
        From this program's own derivatives.
    """
    return from_derivatives(run.output_dir, participants)


def _testable(study: Study) -> Iterator[MapSet]:
    """Read the changes; give those of two participants or more, name what is missing."""
    for maps in study.inputs.changes:
        stack = study.stack(maps)
        what = f'{maps.quantity} of {maps.contrast}'
        lacking = sorted(set(study.inputs.participants) - set(maps.sources))
        if lacking:
            study.absences[f'{what} without {", ".join(lacking)}'] = None
        if len(stack.participants) < MINIMUM:
            who = ', '.join(f'sub-{name}' for name in stack.participants) or 'no participant'
            study.absences[
                f'{what} is there for one participant only ({who}): no group statistics; labels, '
                'pi_d and regions of a single participant are in its own report'
            ] = None
            continue
        yield maps


def _effects(study: Study, maps: MapSet) -> RandomEffects:
    """Test the mean over participants, block by block, and write its maps."""
    LOGGER.info('group: %s of %s', maps.quantity, maps.contrast)
    result = stack_effects(study.stack(maps))
    sidecar = study.about(maps)
    sidecar['DegreesOfFreedom'] = float(np.nanmedian(result.dof))
    statistics = {
        'effect': result.effect,
        'variance': result.variance,
        't': result.t,
        'z': result.z,
        'p': result.p,
        'q': false_discovery_rate(result.p),
    }
    for statistic, values in statistics.items():
        study.save_image(
            values,
            'group_contrast',
            sidecar,
            quantity=maps.quantity,
            contrast=maps.contrast,
            statistic=statistic,
            task=maps.task,
        )
    return result


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


def _scratch(run: RunSettings) -> Path:
    """Folder for files on their way."""
    folder = work_dir_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _label(
    study: Study, effects: dict[str, tuple[RandomEffects, MapSet]], contrast: str | None
) -> None:
    """Label the voxels of a contrast, where it has BOLD and CMRO2, and count them."""
    if not {f'boldPct_{contrast}', f'cmro2_{contrast}'} <= set(effects):
        return
    bold, maps = effects[f'boldPct_{contrast}']
    change, _ = effects[f'cmro2_{contrast}']
    levels = study.settings.change
    everywhere = np.ones(bold.effect.shape, bool)
    gate = gate_by_probability(bold.p, q=levels.bold_q, mask=everywhere)
    labels = {
        'sign': label_by_sign(bold.effect, change.effect, gate, everywhere),
        'ttest': label_by_probability(
            bold.effect, change.effect, change.p, gate, everywhere, q=levels.cmro2_q
        ),
        'robust': label_robust(
            bold.as_estimate,
            change.as_estimate,
            gate,
            everywhere,
            level=levels.false_sign_rate,
        ),
    }
    image, names = packaged_template(ATLAS), packaged_template(ATLAS, '.tsv')
    networks = network_masks(load_data(image)[study.mask].astype(int), read_atlas(names))
    rows: list[Any] = []
    sidecar = {key: study.about(maps)[key] for key in ('Contrast', 'Participants')}
    for rule, key in LABEL_MAPS.items():
        study.save_image(labels[rule], key, sidecar, contrast=contrast, task=maps.task)
        rows += concordance_summary(labels[rule], rule=rule, networks=networks)
    study.save_table(rows, 'group_summary', contrast=contrast)


def _regions(study: Study, contrast: str | None) -> None:
    """Test the region means of the participants."""
    settings = study.settings
    keys = ['level', 'index', 'name', 'network', 'quantity', 'unit']
    sessions: dict[str, list[Any]] = {}
    for participant, path in study.inputs.regions.get(contrast or '', ()):
        part = pd.read_csv(path, sep='\t', na_values=['n/a'])
        sessions.setdefault(participant, []).append(part)
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
    study.save_table(
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


def _finish(study: Study, names: tuple[str, ...], *, made: bool) -> RunVerdict:
    """Judge the group and write its records and report."""
    run = study.run
    verdict = judge(
        'group',
        absences=study.absences,
        errors=study.defects,
        made_anything=made,
        step_code=ExitCode.BAD_INPUT,
    )
    out: dict[str, Any] = {'output_dir': run.output_dir, 'entities': {}}
    summary = participant_summary(verdict, command=run.command, units=[])
    summary |= {'participants': list(names), 'methods': METHODS}
    write_json(summary, key='group_run_summary', **out)
    write_text(to_toml(study.settings), key='group_settings', **out)
    write_text(citation_markdown(METHODS), key='group_citation_md', **out)
    write_text(citation_bibtex(METHODS), key='group_citation_bib', **out)
    render_group(run.output_dir)
    update_shared(run.output_dir, render_index)
    return combine([verdict])
