"""One against many: what a group of reference leads to expect of a person, on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.group.statistics import evidence, regress

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Norm:
    """
    What participants of reference tell of each voxel or region.

    Parameters
    ----------
    coefficients : (P, V) ndarray of float64
        Of the columns of the design, the mean first; NaN where the norm cannot tell.
    residual : (V,) ndarray of float64
        Variance of participants around what the design expects, their random errors included.
    random : (V,) ndarray of float64
        Mean of their random variances; NaN where these are not known.
    n : (V,) ndarray of float64
        Participants.
    inverse : (P, P) ndarray of float64
        Inverse of the normal matrix of the design of all participants.
    size : int
        All participants.
    """

    coefficients: FloatArray
    residual: FloatArray
    random: FloatArray
    n: FloatArray
    inverse: FloatArray
    size: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Deviation:
    """
    How far a person is from a norm; NaN where either has no value.

    Parameters
    ----------
    expected : (V,) ndarray of float64
        For a person of these covariates.
    se : (V,) ndarray of float64
        Error of the prediction: of the norm, between people, and of the person's measurement.
    z, p : (V,) ndarray of float64
        Normal value and two-sided probability of the t of the difference.
    low, high : (V,) ndarray of float64
        Interval in which 95 % of people like those of the norm lie.
    """

    expected: FloatArray
    se: FloatArray
    z: FloatArray
    p: FloatArray
    low: FloatArray
    high: FloatArray


def fit_norm(effects: ArrayLike, variances: ArrayLike | None, design: ArrayLike) -> Norm:
    """
    Fit a norm; all participants count alike.

    Parameters
    ----------
    effects : (N, V) array_like
        Of each participant; NaN where there is no estimate.
    variances : (N, V) array_like or None
        Random variance of each effect, unit squared.
    design : (N, P) array_like
        Columns over participants, the mean first.

    Returns
    -------
    norm : Norm
        NaN where fewer than P + 2 participants have an estimate.
    """
    x, columns = np.asarray(effects, float), np.asarray(design, float)
    known = np.isfinite(x)
    filled = np.where(known, x, 0.0)
    coefficients, _, regular = regress(filled, known.astype(float), columns)
    n = known.sum(axis=0).astype(float)
    freedom = n - columns.shape[1]
    squares = (np.where(known, filled - columns @ coefficients, 0.0) ** 2).sum(axis=0)
    usable = regular & (freedom >= 2)
    residual = np.where(usable, squares / np.maximum(freedom, 1), np.nan)
    random = np.full(x.shape[1], np.nan)
    if variances is not None:
        v = np.where(known, np.asarray(variances, float), 0.0)
        random = np.where(usable, v.sum(axis=0) / np.maximum(n, 1), np.nan)
    return Norm(
        coefficients=np.where(usable, coefficients, np.nan),
        residual=residual,
        random=random,
        n=n,
        inverse=np.linalg.pinv(columns.T @ columns),
        size=len(x),
    )


def compare_with_norm(
    norm: Norm, values: ArrayLike, variances: ArrayLike | None, row: ArrayLike
) -> Deviation:
    r"""
    Compare a person with a norm.

    Parameters
    ----------
    norm : Norm
        Of the same voxels or regions.
    values : (V,) array_like
        Of the person; NaN is no estimate.
    variances : (V,) array_like or None
        Random variance of each; None: as in the norm.
    row : (P,) array_like
        The person in the columns of the norm's design, the mean first.

    Returns
    -------
    deviation : Deviation
        With the degrees of freedom of the norm.

    Raises
    ------
    ModelInputError
        If the shapes differ.

    Notes
    -----
    With the residual variance s^2 of the norm, its mean random variance u, the variance between
    people :math:`\tau^2 = \max(0, s^2 - u)` and the random variance v of the person,

    .. math:: t = \frac{x - c'\hat\beta}{\sqrt{s^2 (r + h)}}, \quad
        r = \frac{\tau^2 + v}{\tau^2 + u}, \quad h = c' (C'C)^{-1} c

    has N - P degrees of freedom: exactly where v = u, when it is the usual interval of
    prediction. In voxels that not everybody of the norm has, h is larger by N/n.

    References
    ----------
    .. [1] Crawford & Howell, Clin Neuropsychol 12:482, 1998. doi:10.1076/clin.12.4.482.7241

    Examples
    --------
    >>> norm = fit_norm([[1.0], [2.0], [3.0], [2.0]], None, np.ones((4, 1)))
    >>> found = compare_with_norm(norm, [5.0], None, [1.0])
    >>> found.low.round(2), found.high.round(2), found.p.round(3)
    (array([-0.91]), array([4.91]), array([0.046]))
    """
    x, c = np.asarray(values, float), np.asarray(row, float)
    if x.shape != norm.n.shape or c.shape != norm.coefficients.shape[:1]:
        msg = (
            f'the norm is of {norm.n.shape} voxels and {norm.coefficients.shape[0]} columns, got '
            f'{x.shape} and {c.shape}'
        )
        raise ModelInputError(msg)
    expected = c @ norm.coefficients
    ratio = np.ones_like(x)
    if variances is not None:
        between = np.maximum(norm.residual - norm.random, 0.0)
        usual = between + norm.random
        known = np.isfinite(usual) & (usual > 0)
        own = between + np.asarray(variances, float)
        ratio = np.where(known, own / np.where(known, usual, 1.0), 1.0)
    leverage = (c @ norm.inverse @ c) * norm.size / np.maximum(norm.n, 1)
    error = np.sqrt(norm.residual * (ratio + leverage))
    error = np.where(error > 0, error, np.nan)
    dof = np.maximum(norm.n - len(c), 1)
    t = (x - expected) / error
    z, p = evidence(t, dof)
    reach = stats.t.ppf(0.975, dof) * error
    return Deviation(
        expected=expected,
        se=error,
        z=z,
        p=p,
        low=expected - reach,
        high=expected + reach,
    )
