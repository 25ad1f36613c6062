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
