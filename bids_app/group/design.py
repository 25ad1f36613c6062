"""Who takes part, and the columns of participants.tsv that enter the regression over them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.bids.output.names import match
from bids_app.errors import SettingsError
from bids_app.group.formula import Encoding, check_rank, encode, variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.settings import GroupSettings

LEVELS = 2
"""Values of a column that is not a number."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Test:
    """
    A linear combination of the coefficients of a design.

    Parameters
    ----------
    meaning : str
        What its value is, such as ``patient minus control``.
    weights : tuple of float
        Of the columns of the design, the mean first.
    """

    meaning: str
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Design:
    """
    Columns over participants, and what is tested of them.

    Parameters
    ----------
    columns : tuple of str
        Names of the columns besides the mean.
    values : mapping of str to tuple of float
        Participant to the values of these columns.
    centred : tuple of bool
        Columns whose mean over the participants of a test is taken off.
    tests : mapping of str to Test
        Label of files to what is tested besides the mean.
    quantity : str, optional
        The only quantity that is analysed; None: all.
    encoding : Encoding, optional
        The formula, where the columns come from one.
    members : mapping of str to str
        Participant to its value in the first column of words; empty without one.
    """

    columns: tuple[str, ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    centred: tuple[bool, ...] = ()
    tests: Mapping[str, Test] = field(default_factory=dict)
    quantity: str | None = None
    encoding: Encoding | None = None
    members: Mapping[str, str] = field(default_factory=dict)

    def matrix(self, participants: Sequence[str]) -> FloatArray:
        """Give ones and the columns."""
        columns = [np.ones(len(participants))]
        for number, centred in enumerate(self.centred):
            values = np.array([self.values[one][number] for one in participants])
            columns.append(values - values.mean() if centred else values)
        return np.stack(columns, axis=1)

    def matrix_of(self, participants: Sequence[str], test: str) -> FloatArray:
        """Give a matrix of the same space whose first coefficient is that of a test."""
        return isolate_contrast(self.matrix(participants), self.tests[test].weights)


def isolate_contrast(matrix: FloatArray, weights: Sequence[float]) -> FloatArray:
    """
    Rewrite a design so that its first coefficient is a contrast of the coefficients it had.

    Parameters
    ----------
    matrix : (N, P) ndarray of float64
        Of full rank.
    weights : sequence of float
        Contrast c, of P.

    Returns
    -------
    rewritten : (N, P) ndarray of float64
        With the inverse D of the normal matrix, the first column is X D c / (c' D c) and the
        others X times a basis of what is orthogonal to c: the model is the same.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    >>> new = isolate_contrast(x, (1.0, 0.5))  # mean of both groups, equally weighted
    >>> np.linalg.lstsq(new, np.array([1.0, 3.0, 5.0, 7.0]))[0][0].round(3)
    np.float64(4.0)
    """
    c = np.asarray(weights, float)
    spread = np.linalg.pinv(matrix.T @ matrix) @ c
    rest = np.linalg.svd(c[None])[2][1:]
    return np.column_stack([matrix @ spread / (c @ spread), matrix @ rest.T])


def make_design(
    folders: Iterable[Path], participants: Sequence[str], settings: GroupSettings
) -> tuple[Design, dict[str, str]]:
    """
    Read covariates and groups, or the variables of a model.

    The first folder whose participants.tsv has a column provides it. Give the design of the
    participants that have a value in every column, and why the others are left out.

    Raises
    ------
    SettingsError
        If a column is not there, is neither numeric nor of two values, or if a formula cannot be
        understood or its columns cannot be told apart.
    """
    tables = [_read(folder / 'participants.tsv') for folder in folders]
    if settings.model:
        if settings.covariates or settings.groups:
            msg = '--model takes the place of --covariates and --groups; give one or the other'
            raise SettingsError(msg)
        return _from_formula(settings.model, tables, participants)
    wanted = (*settings.covariates, *([settings.groups] if settings.groups else []))
    found, left_out = _columns(tables, wanted, participants)
    columns: dict[str, Any] = {}
    meaning: dict[str, str] = {}
    for name in wanted:
        label = _label(name)
        columns[label], meaning[label] = _numbers(
            name, found[name].dropna(), is_group=name == settings.groups
        )
    kept = [name for name in participants if name not in left_out]
    return Design(
        columns=tuple(columns),
        values={one: tuple(float(columns[name][one]) for name in columns) for one in kept},
        centred=tuple('minus' not in meaning[name] for name in columns),
        tests={
            name: Test(meaning=meaning[name], weights=_unit(1 + number, 1 + len(columns)))
            for number, name in enumerate(columns)
        },
        members=dict(found[settings.groups].drop(list(left_out)).map(str)) if settings.groups
        else {},
    ), left_out  # fmt: skip


def find_columns(
    folders: Iterable[Path], names: Iterable[str], participants: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """
    Find columns of participants.tsv.

    The first folder whose participants.tsv has a column provides it. Give the columns of the
    participants that have a value in each, and why the others are left out.

    Raises
    ------
    SettingsError
        If a column is not there.
    """
    tables = [_read(folder / 'participants.tsv') for folder in folders]
    columns, left_out = _columns(tables, names, participants)
    return columns.drop(index=list(left_out)), left_out


def _columns(
    tables: Sequence[pd.DataFrame], names: Iterable[str], participants: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find columns of participants.tsv, and who has no value in one of them."""
    columns: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in names:
        found = next((table[name] for table in tables if name in table), None)
        if found is None:
            known = sorted({column for table in tables for column in table})
            msg = f'participants.tsv has no column {name!r}; there are: {", ".join(known)}'
            raise SettingsError(msg)
        columns[name] = found.reindex(participants)
        for participant in columns[name].index[columns[name].isna()]:
            left_out.setdefault(participant, f'no value of {name} in participants.tsv')
    return pd.DataFrame(columns, index=list(participants)), left_out


def _from_formula(
    text: str, tables: Sequence[pd.DataFrame], participants: Sequence[str]
) -> tuple[Design, dict[str, str]]:
    """Make the columns of a formula; numbers are centred before they enter it."""
    quantity, _, right = text.rpartition('~')
    names = variables(right, {column for table in tables for column in table})
    data, left_out = _columns(tables, names, participants)
    data = data.drop(index=list(left_out))
    encoding = encode(right, data)
    matrix = encoding.matrix(data)
    if 'Intercept' not in matrix:
        msg = f'--model {text!r} has no mean: leave out "0 +" and "- 1"'
        raise SettingsError(msg)
    check_rank(text, matrix)
    matrix = matrix.drop(columns='Intercept')
    columns = list(map(str, matrix.columns))
    return Design(
        columns=tuple(columns),
        values={one: tuple(map(float, row)) for one, row in zip(
            matrix.index, matrix.to_numpy(), strict=True)},
        centred=(True,) * len(columns),
        tests=_tests_of(columns, encoding.levels),
        quantity=quantity.strip() or None,
        encoding=encoding,
        members=dict(data[next(iter(encoding.levels))].map(str)) if encoding.levels else {},
    ), left_out  # fmt: skip


def _tests_of(columns: Sequence[str], levels_of: Mapping[str, Sequence[str]]) -> dict[str, Test]:
    """Test every column, and of a factor every two of its levels."""
    size = 1 + len(columns)
    place = {name: 1 + number for number, name in enumerate(columns)}
    tests: dict[str, Test] = {}
    for name, levels in levels_of.items():
        if f'{name}[T.{levels[-1]}]' not in place:
            continue
        for low, high in combinations(levels, 2):
            up, down = (place.get(f'{name}[T.{one}]', 0) for one in (high, low))
            weights = np.zeros(size)
            weights[up] = 1.0
            if down:
                weights[down] = -1.0
            tests[_label(f'{name}{high}Minus{low}')] = Test(
                meaning=f'{high} minus {low}', weights=tuple(weights)
            )
        for one in levels:
            place.pop(f'{name}[T.{one}]', None)
    for name, number in place.items():
        tests[_label(name)] = Test(meaning=f'per unit of {name}', weights=_unit(number, size))
    return tests


def _unit(number: int, size: int) -> tuple[float, ...]:
    """Give the contrast of one coefficient."""
    return tuple(float(one == number) for one in range(size))


def _label(name: str) -> str:
    """Make a label of BIDS files."""
    return re.sub(r'[^A-Za-z0-9]', '', name)


def excluded_by_verdict(
    output_dir: Path, summaries: Iterable[Mapping[str, Any]], settings: GroupSettings
) -> dict[str, str]:
    """Find who is left out by the verdict on a participant or the quality of blood flow."""
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
    return ', '.join(
        f'{row.measure} of {row.condition} is {row.value:g} ({row.rule})'
        for table in quality_tables(output_dir, participant)
        for row in table[table['verdict'] == 'check'].itertuples()
    )


def quality_tables(output_dir: Path, participant: str) -> Iterator[pd.DataFrame]:
    """Read what is known of the quality of a participant's blood flow, session by session."""
    for path in sorted((output_dir / f'sub-{participant}').rglob('*_cbf.tsv')):
        found = match(path.relative_to(output_dir).as_posix())
        if found is not None and found[0] == 'cbf_quality':
            yield pd.read_csv(path, sep='\t', na_values=['n/a'])


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
