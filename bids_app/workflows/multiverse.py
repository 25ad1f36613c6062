"""How far the labels of a participant depend on constants and choices: many replays, one table."""

from __future__ import annotations

import itertools
import logging
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from bids_app.bids.output.names import output_path, row
from bids_app.bids.output.write import write_table
from bids_app.bids.run.replay import collect_saved
from bids_app.errors import AppError
from bids_app.workflows.execution import run_graph
from bids_app.workflows.participant import init_participant_wf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import RunSettings, Settings

LOGGER = logging.getLogger('oxybold')

CHOICES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ('change.route', ('quantitative', 'semiquantitative', 'combined', 'davis')),
    ('blood_volume.task_change', ('none', 'grubb')),
    ('change.limits', ('none', 'epp2025')),
    ('change.bold_q', (0.05, 0.001)),
)
"""Choices of a table for which none are named: route, rule of CBV, mask and gate."""


def add_multiverse(
    unit: ParticipantInputs, run: RunSettings, settings: Settings, work_dir: Path
) -> list[tuple[str, dict[str, str | None]]]:
    """
    Write the table of sign rule and pi_d under every combination of choices.

    Only where the replay asks for the table. `work_dir` holds the maps of each combination, which
    are removed. Give key and entities of one table per contrast.
    """
    if unit.saved is None or unit.saved.multiverse is None:
        return []
    at = {'sub': unit.participant, 'ses': unit.session}
    read = partial(_read, at=at, atlas=settings.atlas)
    rows: dict[str, list[dict[str, Any]]] = {
        contrast.label: [{'choices': 'none', **read(run.output_dir, contrast=contrast.label)}]
        for contrast in unit.contrasts
    }
    for changes in combinations(unit.saved.multiverse or CHOICES):
        named = ' '.join(f'{name}={value}' for name, value in changes.items())
        LOGGER.info('%s: multiverse %s', unit.label, named)
        folder = work_dir / 'multiverse'
        reason = _replay(unit, run, changes, folder)
        for contrast, lines in rows.items():
            found = {'note': reason} if reason else read(folder / 'out', contrast=contrast)
            lines.append({'choices': named, **found})
        shutil.rmtree(folder, ignore_errors=True)
    columns = list(row('multiverse').columns)
    for contrast, lines in rows.items():
        table = pd.DataFrame(lines).reindex(columns=columns)
        of = {**at, 'contrast': contrast}
        counts = output_path('summary', **of)
        write_table(table, output_dir=run.output_dir, key='multiverse', entities=of,
                    sidecar={'Sources': [f'bids::{counts}']})  # fmt: skip
    return [('multiverse', {**at, 'contrast': contrast}) for contrast in rows]


def combinations(
    choices: tuple[tuple[str, tuple[Any, ...]], ...],
) -> Iterator[dict[str, Any]]:
    """
    Combine every value of every setting.

    Examples
    --------
    >>> list(combinations((('a', (1, 2)), ('b', (3,)))))
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    names = [name for name, _ in choices]
    for values in itertools.product(*(values for _, values in choices)):
        yield dict(zip(names, values, strict=True))


def _replay(
    unit: ParticipantInputs, run: RunSettings, changes: dict[str, Any], folder: Path
) -> str:
    """Replay one combination without report and template; say why where it cannot be."""
    here = replace(run, output_dir=folder / 'out', multiverse=None)
    here.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        units, settings = collect_saved(unit.participant, here, {**(run.replay or {}), **changes})
        same = next(other for other in units if other.session == unit.session)
        settings = replace(settings, output_spaces=())
        workflow, _ = init_participant_wf(inputs=same, settings=settings, run=here)
    except AppError as error:
        return str(error)
    errors = run_graph(workflow, run=here, work_dir=folder)
    return '; '.join(error.message for error in errors)


def _read(root: Path, *, at: dict[str, str | None], contrast: str, atlas: str) -> dict[str, Any]:
    """Take what the table shows from the summary and the regions of a contrast."""
    path = root / output_path('summary', contrast=contrast, **at)
    if not path.is_file():
        return {'note': 'no concordance labels'}
    summary = pd.read_csv(path, sep='\t', na_values=['n/a'])
    everywhere = summary[(summary.bold == 'all') & (summary.network == 'all')].set_index('rule')
    corrected = everywhere.loc['noise_corrected']
    kept = ('n_voxels', 'ci_low', 'ci_high', 'null_fraction', 'note')
    return {
        'sign_fraction': everywhere.loc['sign', 'discordant_fraction'],
        'pi_d': corrected['discordant_fraction'],
        'cmro2_percent': _percent(root, at, contrast, atlas),
        **{name: corrected[name] for name in kept},
    }


def _percent(root: Path, at: dict[str, str | None], contrast: str, atlas: str) -> float:
    """Give the change of CMRO2 of the brain's grey matter; NaN without an atlas."""
    path = root / output_path('regions', contrast=contrast, atlas=atlas, **at)
    if atlas == 'none' or not path.is_file():
        return float('nan')
    regions = pd.read_csv(path, sep='\t', na_values=['n/a'])
    brain = regions[(regions.level == 'brain') & (regions.quantity == 'cmro2')]
    return float(brain['percent'].iloc[0]) if len(brain) else float('nan')
