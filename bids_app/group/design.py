"""Who takes part, and the columns of participants.tsv that enter the regression over them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import match
from bids_app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.settings import GroupSettings

LEVELS = 2
"""Values of a column that is not a number."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Design:
    """
    Columns over participants.

    Parameters
    ----------
    columns : tuple of str
        Names of the tested columns besides the mean, as labels of files.
    values : mapping of str to tuple of float
        Participant to the values of these columns.
    meaning : mapping of str to str
        Column to what one unit of it is.
    """

    columns: tuple[str, ...] = ()
    values: Mapping[str, tuple[float, ...]]
    meaning: Mapping[str, str]

    def matrix(self, participants: Sequence[str]) -> FloatArray:
        """Give ones and the columns, centred over these participants; groups are +-1/2."""
        columns = [np.ones(len(participants))]
        for number, name in enumerate(self.columns):
            values = np.array([self.values[one][number] for one in participants])
            columns.append(values if 'minus' in self.meaning[name] else values - values.mean())
        return np.stack(columns, axis=1)


def make_design(
    folders: Iterable[Path], participants: Sequence[str], settings: GroupSettings
) -> tuple[Design, dict[str, str]]:
    """
    Read covariates and groups.

    Parameters
    ----------
    folders : iterable of Path
        With participants.tsv; the first that has a column provides it.
    participants : sequence of str
        Without sub-.
    settings : GroupSettings
        Names of the columns.

    Returns
    -------
    design : Design
        Of the participants that have a value in every column.
    left_out : dict of str to str
        The others, with the reason.

    Raises
    ------
    SettingsError
        If a column is not there, or is neither numeric nor of two values.
    """
    wanted = (*settings.covariates, *([settings.groups] if settings.groups else []))
    tables = [_read(folder / 'participants.tsv') for folder in folders]
    columns: dict[str, Any] = {}
    meaning: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name in wanted:
        found = next((table[name] for table in tables if name in table), None)
        if found is None:
            known = sorted({column for table in tables for column in table})
            msg = f'participants.tsv has no column {name!r}; there are: {", ".join(known)}'
            raise SettingsError(msg)
        values = found.reindex(participants)
        for participant in values.index[values.isna()]:
            left_out.setdefault(participant, f'no value of {name} in participants.tsv')
        label = re.sub(r'[^A-Za-z0-9]', '', name)
        columns[label], meaning[label] = _numbers(
            name, values.dropna(), is_group=name == settings.groups
        )
    kept = [name for name in participants if name not in left_out]
    return Design(
        columns=tuple(columns),
        values={one: tuple(float(columns[name][one]) for name in columns) for one in kept},
        meaning=meaning,
    ), left_out


def excluded_by_verdict(
    output_dir: Path, summaries: Iterable[Mapping[str, Any]], settings: GroupSettings
) -> dict[str, str]:
    """
    Find who is left out by the verdict of the participant level or the quality of blood flow.

    Parameters
    ----------
    output_dir : Path
        Derivatives.
    summaries : iterable of mapping
        Run summaries of the participants.
    settings : GroupSettings
        What to exclude.

    Returns
    -------
    reasons : dict of str to str
        Participant to the reason.
    """
    reasons: dict[str, str] = {}
    for summary in summaries:
        name, state = summary['participant'], summary['verdict']['state']
        if state in settings.exclude:
            why = '; '.join(summary['verdict']['reasons'])
            reasons[name] = f'verdict {state}: {why}'
        elif 'quality' in settings.exclude:
            poor = _poor_quality(output_dir, name)
            if poor:
                reasons[name] = f'quality of blood flow: {poor}'
    return reasons


def _poor_quality(output_dir: Path, participant: str) -> str:
    """List the measures of blood flow that break their rule."""
    poor = []
    for path in sorted((output_dir / f'sub-{participant}').rglob('*_cbf.tsv')):
        found = match(path.relative_to(output_dir).as_posix())
        if found is not None and found[0] == 'cbf_quality':
            table = pd.read_csv(path, sep='\t', na_values=['n/a'])
            for row in table[table['verdict'] == 'check'].itertuples():
                poor.append(f'{row.measure} of {row.condition} is {row.value:g} ({row.rule})')
    return ', '.join(poor)


def _read(path: Path) -> pd.DataFrame:
    """Read a table of participants; empty where there is none."""
    if not path.is_file() or not path.read_text('utf-8').strip():
        return pd.DataFrame()
    table = pd.read_csv(path, sep='\t', na_values=['n/a'], dtype={'participant_id': str})
    if 'participant_id' not in table:
        return pd.DataFrame()
    return table.set_index(table.pop('participant_id').str.removeprefix('sub-'))


def _numbers(name: str, values: pd.Series[Any], *, is_group: bool) -> tuple[Any, str]:
    """Turn a column into numbers, and say what a unit of it means."""
    levels = sorted(values.unique(), key=str)
    if not is_group and pd.api.types.is_numeric_dtype(values):
        return values.astype(float), f'per unit of {name}'
    if len(levels) != LEVELS:
        msg = (
            f'participants.tsv: the column {name!r} should be of numbers or of two values, found '
            f'{", ".join(map(str, levels[:5])) or "nothing"}'
        )
        raise SettingsError(msg)
    return values.map({levels[0]: -0.5, levels[1]: 0.5}), f'{levels[1]} minus {levels[0]}'
