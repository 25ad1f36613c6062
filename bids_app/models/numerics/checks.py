"""Checks of arguments that several models make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def check_positive(name: str, number: ArrayLike) -> None:
    """
    Refuse a parameter that is not positive and finite.

    Parameters
    ----------
    name : str
        What it is, with its unit, for the message.
    number : (...) array_like
        One or several numbers.

    Raises
    ------
    ModelInputError
        If one of them is zero, negative, infinite or NaN.

    Examples
    --------
    >>> check_positive('echo_time (s)', 0.03)
    """
    number = np.asarray(number, float)
    if not np.all((number > 0) & np.isfinite(number)):
        msg = f'{name} must be positive and finite, got {number}'
        raise ModelInputError(msg)


def check_fraction(name: str, number: float, *, below_one: bool = False) -> None:
    """
    Refuse a parameter that is no fraction.

    Parameters
    ----------
    name : str
        What it is, for the message.
    number : float
        Dimensionless.
    below_one : bool
        Whether 1 is refused too.

    Raises
    ------
    ModelInputError
        If it does not lie in (0, 1], or in (0, 1).

    Examples
    --------
    >>> check_fraction('sao2', 1.0)
    """
    if not (0 < number < 1 or (number == 1 and not below_one)):
        end = ')' if below_one else ']'
        msg = f'{name} must be a fraction in (0, 1{end}, got {number}; divide percent by 100'
        raise ModelInputError(msg)
