"""The value every estimator returns: number, random variance, status, degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.status import Status, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, StatusArray


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """
    A quantity with its random error.

    Parameters
    ----------
    value : (...) ndarray of float64
        The quantity in its unit; NaN exactly where `status` says it is missing.
    variance : (...) ndarray of float64
        Random variance in that unit squared; NaN where `value` is NaN.
    status : (...) ndarray of uint8
        Codes of :class:`bids_app.models.status.Status`.
    dof : float
        Effective degrees of freedom of the variance; one number per map.

    Raises
    ------
    ModelInputError
        If the shapes differ, or NaN and status contradict each other.

    Examples
    --------
    >>> flow = Estimate.of([50.0, np.nan], 25.0)
    >>> flow.value, flow.variance, (flow.status == 0).tolist()
    (array([50., nan]), array([25., nan]), [True, False])
    """

    value: FloatArray
    variance: FloatArray
    status: StatusArray
    dof: float = float('inf')

    def __post_init__(self) -> None:
        shapes = {self.value.shape, self.variance.shape, self.status.shape}
        if len(shapes) != 1:
            msg = f'value, variance and status must have equal shapes, got {sorted(shapes)}'
            raise ModelInputError(msg)
        missing = is_missing(self.status)
        if not np.array_equal(np.isnan(self.value), missing):
            msg = 'value must be NaN exactly where the status says that the estimate is missing'
            raise ModelInputError(msg)
        if not np.all(np.isnan(self.variance[missing])):
            msg = 'variance must be NaN where the value is NaN'
            raise ModelInputError(msg)

    @classmethod
    def of(
        cls,
        value: ArrayLike,
        variance: ArrayLike = 0.0,
        status: ArrayLike = Status.OK,
        dof: float = float('inf'),
    ) -> Self:
        """
        Build a consistent estimate.

        Parameters
        ----------
        value, variance, status : (...) array_like
            Broadcast against each other. Values that are not finite, or whose variance is
            negative or not finite, get status INVALID_INPUT unless they have a reason already.
        dof : float
            Effective degrees of freedom of the variance.

        Returns
        -------
        estimate : Estimate
            With NaN exactly where the status says missing.

        Examples
        --------
        >>> Estimate.of([1.0, float('nan')], 0.1).status
        array([0, 3], dtype=uint8)
        """
        arrays = np.broadcast_arrays(
            np.asarray(value, float), np.asarray(variance, float), np.asarray(status, np.uint8)
        )
        value, variance, status = (array.copy() for array in arrays)
        usable = np.isfinite(value) & np.isfinite(variance) & (variance >= 0)
        unexplained = ~usable & ~is_missing(status)
        status[unexplained] = Status.INVALID_INPUT
        missing = is_missing(status)
        value[missing] = np.nan
        variance[missing] = np.nan
        return cls(value, variance, status, float(dof))

    def at(self, rows: ArrayLike) -> Estimate:
        """
        Keep some elements.

        Parameters
        ----------
        rows : array_like
            Index or mask along the first axis.

        Returns
        -------
        part : Estimate
            With the same degrees of freedom.
        """
        rows = np.asarray(rows)
        return Estimate(self.value[rows], self.variance[rows], self.status[rows], self.dof)

    def scaled(self, factor: float) -> Estimate:
        """
        Multiply by a number without error of its own; status stays.

        Parameters
        ----------
        factor : float
            In the unit by which that of the quantity changes.

        Returns
        -------
        scaled : Estimate
            Value times the factor, variance times its square.

        Examples
        --------
        >>> Estimate.of([2.0], 1.0).scaled(3.0).variance
        array([9.])
        """
        return replace(self, value=factor * self.value, variance=factor**2 * self.variance)

    def with_variance(self, variance: ArrayLike) -> Estimate:
        """
        Give the estimate another variance.

        Parameters
        ----------
        variance : (...) array_like
            In the unit of the value squared; broadcasts.

        Returns
        -------
        estimate : Estimate
            With the same values, status and degrees of freedom.
        """
        return Estimate.of(self.value, variance, self.status, self.dof)
