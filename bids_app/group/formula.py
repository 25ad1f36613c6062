"""Formulas over columns of participants.tsv: what they need, and the design they make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """
    How a formula turns columns of participants.tsv into columns of a design.

    Parameters
    ----------
    text : str
        Right side of the formula.
    centres : mapping of str to float
        Number -> what is taken off before it enters the formula: its mean over the participants
        that the formula was made for; 0 where it only stands inside a function such as log(age).
    levels : mapping of str to tuple of str
        Column of words -> its values, in order; the first is the reference.
    """

    text: str
    centres: Mapping[str, float]
    levels: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of participants.tsv that it needs, sorted."""
        return tuple(sorted({*self.centres, *self.levels}))

    def matrix(self, data: pd.DataFrame) -> pd.DataFrame:
        """
        Make the design of participants.

        Raises
        ------
        SettingsError
            If a value is not a number, not among the levels, or has no value of a function.
        """
        from formulaic import Formula
        from formulaic.errors import FormulaicError

        ready = {name: _number(data[name], name) - mean for name, mean in self.centres.items()}
        for name, levels in self.levels.items():
            text = data[name].map(str)
            if set(text) - set(levels):
                msg = (
                    f'participants.tsv: {name} of {_people(text[~text.isin(levels)])} should be '
                    f'one of {", ".join(levels)}'
                )
                raise SettingsError(msg)
            ready[name] = pd.Series(pd.Categorical(text, levels), index=data.index)
        try:
            with np.errstate(invalid='ignore', divide='ignore'):
                made = Formula(self.text).get_model_matrix(
                    pd.DataFrame(ready, index=data.index), context={}, na_action='ignore'
                )
        except FormulaicError as error:
            msg = f'--model {self.text!r}: {first_line(error)}'
            raise SettingsError(msg) from error
        matrix = pd.DataFrame(made).astype(float)
        bad = ~np.isfinite(matrix.to_numpy()).all(axis=1)
        if bad.any():
            msg = (
                f'--model {self.text!r} has no value for {_people(matrix[bad].index)}; numbers '
                'that also stand alone in the formula are centred before a function sees them'
            )
            raise SettingsError(msg)
        return matrix


def variables(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """
    Find the columns that a formula uses.

    Sorted; also those that are not known.

    Raises
    ------
    SettingsError
        If the text is no formula.

    Examples
    --------
    >>> variables('group * age + poly(weight, 2)', ['weight', 'group', 'poly'])
    ('age', 'group', 'weight')
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        required = {str(name) for name in Formula(text).required_variables}
    except FormulaicError as error:
        msg = f'--model {text!r} is no formula such as "oef ~ group + age": {first_line(error)}'
        raise SettingsError(msg) from error
    # formulaic does not list what only stands in its own functions, such as poly(age, 2)
    inside = set(re.findall(r'\b[^\W\d]\w*\b(?!\s*\()', text)) & set(known)
    return tuple(sorted(required | inside))


def encode(text: str, data: pd.DataFrame) -> Encoding:
    """
    Learn means and levels from the participants of a study.

    Numbers that stand alone are centred.
    """
    from formulaic import Formula

    alone = {str(factor.expr) for term in Formula(text) for factor in term.factors}
    numeric = [name for name in data if pd.api.types.is_numeric_dtype(data[name])]
    return Encoding(
        text=text,
        centres={str(name): float(data[name].mean()) if name in alone else 0.0
                 for name in numeric},
        levels={str(name): tuple(sorted(map(str, data[name].unique())))
                for name in data if name not in numeric},
    )  # fmt: skip


def check_rank(text: str, matrix: pd.DataFrame) -> None:
    """
    Refuse columns that these participants cannot tell apart, and name them.

    Raises
    ------
    SettingsError
        If there are too few participants, or a column follows from those before it.
    """
    values = matrix.to_numpy(float)
    if len(values) <= values.shape[1]:
        msg = (
            f'--model {text!r} has {values.shape[1]} columns ({", ".join(matrix.columns)}) and '
            f'{len(values)} participants with all values; it needs more participants than columns'
        )
        raise SettingsError(msg)
    for number, name in enumerate(matrix.columns[1:], start=1):
        before, here = (np.linalg.matrix_rank(values[:, :end]) for end in (number, number + 1))
        if here == before:
            empty = not np.any(values[:, number])
            why = 'no participant has this combination' if empty else (
                'it follows from the columns before it: ' + ', '.join(matrix.columns[:number])
            )  # fmt: skip
            msg = f'--model {text!r}: the column {name} cannot be estimated; {why}'
            raise SettingsError(msg)


def first_line(error: Exception) -> str:
    """Give the first line of a message."""
    return str(error).strip().splitlines()[0]


def _number(values: Any, name: str) -> Any:
    """Read numbers; refuse words."""
    found = pd.to_numeric(values, errors='coerce')
    if found.isna().any():
        msg = f'participants.tsv: {name} of {_people(values[found.isna()])} should be a number'
        raise SettingsError(msg)
    return found.astype(float)


def _people(found: Any) -> str:
    """Name participants of an index or a column."""
    index = found.index if isinstance(found, pd.Series) else found
    return ', '.join(f'sub-{name}' for name in index)
