"""Errors of maps carried through a function of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

    Values = Mapping[str, FloatArray]
    """Name of a source of error -> (V,) values."""

    Function = Callable[[Values], FloatArray]

DERIVATIVE_STEP = 1e-4
"""Relative step of a numeric derivative: its error is the square of it, rounding 1e-12."""

CANCELLED = 1e-9
"""Share of a variance below which a source of error has cancelled; rounding leaves less."""


def propagate(
    function: Function,
    sources: Mapping[str, Estimate],
    *,
    slopes_of: Function | None = None,
    status: ArrayLike = Status.OK,
) -> Estimate:
    r"""
    Carry independent errors through a function to first order.

    Parameters
    ----------
    function : callable
        Takes the values of the sources by name, (V,) each, and gives (V,) values; voxel by voxel.
    sources : mapping of str to (V,) Estimate
        Each an error of its own: what two conditions share is one source.
    slopes_of : callable, optional
        Gives the derivatives in place of `function`, where that has limits: a value at its limit
        is no more certain for being there.
    status : (V,) array_like of int
        Further reasons and cautions; those of the sources come first.

    Returns
    -------
    estimate : (V,) Estimate
        Missing where a source is or the function is not finite; degrees of freedom of the
        source that has the fewest.

    Notes
    -----
    Central differences; for sources :math:`p_i`

    .. math:: \mathrm{var}(f) = \sum_i (\partial f/\partial p_i)^2\, \mathrm{var}(p_i)

    Examples
    --------
    >>> sources = {'flow': Estimate.of([50.0], 4.0), 'oef': Estimate.of([0.4], 1e-4)}
    >>> made = propagate(lambda at: at['flow'] * at['oef'], sources)
    >>> made.value.round(3), made.variance.round(3)
    (array([20.]), array([0.89]))
    """
    check_shapes(*sources.values())
    values = {name: source.value for name, source in sources.items()}
    slope_function = function if slopes_of is None else slopes_of
    value = function(values)
    shares: dict[str, FloatArray] = {}
    for name, source in sources.items():
        if not np.any(source.variance > 0):
            continue
        size = np.where(source.value == 0, np.sqrt(source.variance), np.abs(source.value))
        step = DERIVATIVE_STEP * np.where(size > 0, size, 1.0)
        up, down = (
            slope_function({**values, name: source.value + sign * step}) for sign in (1, -1)
        )
        shares[name] = ((up - down) / (2 * step)) ** 2 * source.variance
    variance = np.sum(list(shares.values()), axis=0) if shares else np.zeros(value.shape)
    codes = [source.status for source in sources.values()]
    # an error that cancels, as that of an R2 which serves both conditions, limits nothing
    counting = [name for name, part in shares.items() if np.any(part > CANCELLED * variance)]
    dof = min((sources[name].dof for name in counting or sources), default=np.inf)
    return Estimate.of(value, variance, combine_status(*codes, status), dof)


def check_shapes(*estimates: Estimate) -> None:
    """Refuse maps of different shapes."""
    shapes = {estimate.value.shape for estimate in estimates}
    if len(shapes) != 1:
        msg = f'the maps of a change must have equal shapes, got {sorted(shapes)}'
        raise ModelInputError(msg)
