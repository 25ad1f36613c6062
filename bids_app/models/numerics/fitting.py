"""Nonlinear least squares for all voxels at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.status import Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray, StatusArray

    Predict: TypeAlias = Callable[..., tuple[FloatArray, FloatArray]]
    Shapes: TypeAlias = Callable[[FloatArray], FloatArray]

FIRST_DAMPING = 1e-4
"""Damping of the first step, relative to the scaled curvature; no unit."""

DAMPING_FACTOR = 10.0
"""By which damping falls after a good step and rises after a bad one; no unit."""

SMALLEST_DAMPING = 1e-12
"""Keeps the normal equations solvable where a parameter has no influence; no unit."""

SMALLEST_DETERMINANT = 1e-12
"""Of the scaled curvature; below it the data do not determine the parameters; no unit."""

SMALLEST_SHAPE = 1e-6
"""Part of a shape of unit length that the shapes before it leave; less is none; no unit."""

MAX_CHUNK = 16_384
"""Voxels worked on together; more leave the processor cache and are slower, measured."""

ARRAYS_PER_SAMPLE = 6
"""Temporary copies of (voxels, samples, parameters) that a step holds; for the memory bound."""


@dataclass(frozen=True, slots=True, eq=False)
class FitResult:
    """
    Parameters of a fit and what is needed for their error.

    Parameters
    ----------
    parameters : (V, P) ndarray of float64
        NaN exactly where `status` says that the fit is missing.
    covariance : (V, P, P) ndarray of float64
        Inverse curvature :math:`(J^T W J)^{-1}`, to be multiplied by the noise variance.
    residual_variance : (V,) ndarray of float64
        Weighted sum of squared residuals divided by `dof`; NaN also where `dof` is 0.
    dof : (V,) ndarray of float64
        Number of samples used minus number of parameters, at least 0.
    noise_variance, noise_dof : (V,) ndarray of float64
        As `residual_variance` and `dof`, of what is left when known shapes of a misfit are taken
        out of the residual as well; equal to them without such shapes.
    status : (V,) ndarray of uint8
        Codes of :class:`bids_app.models.status.Status`.
    """

    parameters: FloatArray
    covariance: FloatArray
    residual_variance: FloatArray
    dof: FloatArray
    noise_variance: FloatArray
    noise_dof: FloatArray
    status: StatusArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Problem:
    """What one chunk of voxels is fitted with."""

    predict: Predict
    data: FloatArray
    root_weights: FloatArray
    auxiliary: tuple[NDArray[np.generic], ...]
    lower: FloatArray
    upper: FloatArray
    max_iterations: int
    tolerance: float
    misfit: Shapes | None

    def evaluate(self, parameters: FloatArray, voxels: NDArray[np.intp]) -> _Point:
        """Predict at `parameters` and linearise."""
        rows = slice(None) if len(voxels) == len(self.data) else voxels
        prediction, jacobian = self.predict(parameters, *[a[rows] for a in self.auxiliary])
        root_weights = self.root_weights[rows]
        used = root_weights > 0
        residual = np.multiply(
            self.data[rows] - prediction, root_weights, out=np.zeros(used.shape), where=used
        )
        n_parameters = parameters.shape[1]
        columns = [
            np.multiply(jacobian[:, :, p], root_weights, out=np.zeros(used.shape), where=used)
            for p in range(n_parameters)
        ]
        gradient = np.empty(parameters.shape)
        curvature = np.empty((*parameters.shape, n_parameters))
        for p, column in enumerate(columns):
            gradient[:, p] = np.einsum('vn,vn->v', column, residual)
            for q in range(p + 1):
                curvature[:, p, q] = np.einsum('vn,vn->v', column, columns[q])
                curvature[:, q, p] = curvature[:, p, q]
        cost = np.einsum('vn,vn->v', residual, residual)
        finite = np.isfinite(curvature).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
        cost = np.where(finite & np.isfinite(cost), cost, np.inf)
        return _Point(parameters, cost, gradient, curvature)


@dataclass(slots=True, eq=False)
class _Point:
    """Parameters of some voxels with cost, half the negative gradient and curvature there."""

    parameters: FloatArray
    cost: FloatArray
    gradient: FloatArray
    curvature: FloatArray

    def take(self, rows: NDArray[np.intp]) -> _Point:
        return _Point(
            self.parameters[rows], self.cost[rows], self.gradient[rows], self.curvature[rows]
        )

    def put(self, rows: NDArray[np.intp], other: _Point) -> None:
        self.parameters[rows] = other.parameters
        self.cost[rows] = other.cost
        self.gradient[rows] = other.gradient
        self.curvature[rows] = other.curvature


def fit_least_squares(
    predict: Predict,
    data: ArrayLike,
    start: ArrayLike,
    *,
    lower: ArrayLike,
    upper: ArrayLike,
    weights: ArrayLike | None = None,
    auxiliary: Sequence[NDArray[np.generic]] = (),
    max_iterations: int = 50,
    tolerance: float = 1e-8,
    memory_mb: float = 200.0,
    misfit: Shapes | None = None,
) -> FitResult:
    r"""
    Fit a model with few parameters to every voxel by weighted least squares.

    Parameters
    ----------
    predict : callable
        ``predict(parameters (v, P), *auxiliary) -> (prediction (v, N), jacobian (v, N, P))``
        for any subset of v voxels; may return non-finite values, which reject the step.
    data : (V, N) array_like
        Samples; not read where the weight is 0.
    start : (V, P) array_like
        Start values; moved into the bounds.
    lower, upper : (P,) array_like
        Bounds of the parameters, infinite where there is none.
    weights : (V, N) array_like, optional
        Inverse variances up to a factor, not negative; 0 leaves a sample out. Default 1.
    auxiliary : sequence of (V, ...) ndarray
        Arguments of `predict` that differ from voxel to voxel.
    max_iterations : int
        Steps tried before a voxel is given up.
    tolerance : float
        A voxel has converged when no free parameter can lower the residual by more than this
        part of the norm of its data (to first order, in the metric of the curvature).
    memory_mb : float
        Bound on temporary memory, MB; voxels are worked on in chunks.
    misfit : callable, optional
        ``misfit(prediction (v, N)) -> shapes (v, N, K)`` by which data may depart from the model
        beside noise, the likeliest first; they do not count in `noise_variance`. At most half
        of the degrees of freedom go to them.

    Returns
    -------
    result : FitResult
        Status INVALID_INPUT (data, start or prediction not finite), TOO_FEW_SAMPLES (fewer
        than parameters), NO_SIGNAL (all data 0), NOT_CONVERGED (or not determined by the data),
        AT_BOUND, else OK. Parameters are NaN for all codes but OK.

    Raises
    ------
    ModelInputError
        If shapes contradict each other, a weight is negative or a lower bound is not below the
        upper one.

    Notes
    -----
    Levenberg-Marquardt with the damping scaled by the diagonal of the curvature; only voxels
    that have not converged take part in a step. A step is projected onto the bounds; a
    parameter at a bound that the gradient presses outwards is held.

    References
    ----------
    .. [1] Marquardt, J Soc Indust Appl Math 11:431, 1963. doi:10.1137/0111030

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(3.0)
    >>> def predict(parameters):
    ...     jacobian = np.broadcast_to(x[:, None], (len(parameters), 3, 1))
    ...     return parameters * x, jacobian
    >>> fit_least_squares(predict, [[0, 2, 4]], [[1]], lower=[-9], upper=[9]).parameters
    array([[2.]])
    """
    data = np.asarray(data, float)
    start = np.asarray(start, float)
    weights = np.ones(data.shape) if weights is None else np.asarray(weights, float)
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    _check(data, start, weights, (lower, upper), auxiliary)

    n_voxels, n_samples = data.shape
    n_parameters = start.shape[1]
    used = weights > 0
    n_used = used.sum(axis=1)
    result = FitResult(
        parameters=np.full(start.shape, np.nan),
        covariance=np.full((n_voxels, n_parameters, n_parameters), np.nan),
        residual_variance=np.full(n_voxels, np.nan),
        dof=np.maximum(n_used - n_parameters, 0).astype(float),
        noise_variance=np.full(n_voxels, np.nan),
        noise_dof=np.zeros(n_voxels),
        status=_status_before_fit(data, start, weights, n_used),
    )
    fittable = np.flatnonzero(result.status == Status.OK)
    bytes_per_voxel = n_samples * n_parameters * data.itemsize * ARRAYS_PER_SAMPLE
    chunk = int(np.clip(memory_mb * 1e6 // bytes_per_voxel, 1, MAX_CHUNK))
    for first in range(0, len(fittable), chunk):
        voxels = fittable[first : first + chunk]
        problem = _Problem(
            predict=predict,
            data=np.where(used[voxels], data[voxels], 0.0),
            root_weights=np.sqrt(weights[voxels]),
            auxiliary=tuple(np.asarray(array)[voxels] for array in auxiliary),
            lower=lower,
            upper=upper,
            max_iterations=max_iterations,
            tolerance=tolerance,
            misfit=misfit,
        )
        _fit_chunk(problem, np.clip(start[voxels], lower, upper), voxels, result)
    return result


def _check(
    data: FloatArray,
    start: FloatArray,
    weights: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    auxiliary: Sequence[NDArray[np.generic]],
) -> None:
    """Raise if the arguments contradict each other."""
    if data.ndim != 2 or start.ndim != 2 or len(start) != len(data) or not start.shape[1]:
        msg = f'data (V, N) and start (V, P) expected, got {data.shape} and {start.shape}'
        raise ModelInputError(msg)
    if weights.shape != data.shape or not np.all(weights >= 0):
        msg = f'weights must have the shape of data {data.shape} and not be negative or NaN'
        raise ModelInputError(msg)
    lower, upper = bounds
    if not lower.shape == upper.shape == start.shape[1:] or not np.all(lower < upper):
        msg = f'lower and upper must have shape {start.shape[1:]} and lower < upper'
        raise ModelInputError(msg)
    if any(len(array) != len(data) for array in auxiliary):
        msg = f'auxiliary arrays must have {len(data)} voxels on their first axis'
        raise ModelInputError(msg)


def _status_before_fit(
    data: FloatArray, start: FloatArray, weights: FloatArray, n_used: NDArray[np.intp]
) -> StatusArray:
    """Find the voxels that cannot be fitted."""
    used = weights > 0
    invalid = (used & ~np.isfinite(data)).any(axis=1) | ~np.isfinite(start).all(axis=1)
    invalid |= ~np.isfinite(weights).all(axis=1)
    silent = ~(used & (data != 0)).any(axis=1)
    status = np.select(
        [n_used < start.shape[1], invalid, silent],
        [Status.TOO_FEW_SAMPLES, Status.INVALID_INPUT, Status.NO_SIGNAL],
        Status.OK,
    )
    return np.asarray(status, np.uint8)


def _fit_chunk(
    problem: _Problem, start: FloatArray, voxels: NDArray[np.intp], result: FitResult
) -> None:
    """Fit some voxels and write their part of the result."""
    point = problem.evaluate(start, np.arange(len(start)))
    status = np.where(np.isfinite(point.cost), Status.OK, Status.INVALID_INPUT).astype(np.uint8)
    converged = _iterate(problem, point)
    at_bound = _held(problem, point).any(axis=1)
    covariance, determined = _inverse(point.curvature)
    failed = [~converged & (status == Status.OK), at_bound, ~determined]
    codes = [Status.NOT_CONVERGED, Status.AT_BOUND, Status.NOT_CONVERGED]
    for where, code in zip(failed, codes, strict=True):
        status[where & (status == Status.OK)] = code

    good = ~is_missing(status)
    result.status[voxels] = status
    result.parameters[voxels[good]] = point.parameters[good]
    result.covariance[voxels[good]] = covariance[good]
    dof = result.dof[voxels]
    estimable = good & (dof > 0)
    result.residual_variance[voxels[estimable]] = point.cost[estimable] / dof[estimable]
    cost = point.cost
    if problem.misfit is not None:
        cost, dof = _without_misfit(problem, problem.misfit, point)
    estimable = good & (dof > 0)
    result.noise_dof[voxels[estimable]] = dof[estimable]
    result.noise_variance[voxels[estimable]] = cost[estimable] / dof[estimable]


def _without_misfit(
    problem: _Problem, misfit: Shapes, point: _Point
) -> tuple[FloatArray, FloatArray]:
    """Give the cost (V,) that the shapes of a misfit leave, and its degrees of freedom."""
    prediction, jacobian = problem.predict(point.parameters, *problem.auxiliary)
    weights = problem.root_weights[:, :, np.newaxis]
    n_samples, n_free = jacobian.shape[1:]
    shapes = misfit(prediction)[:, :, : max(n_samples - n_free, 0) // 2]
    columns = np.concatenate([jacobian, shapes], axis=2)
    columns = np.where(weights > 0, np.nan_to_num(columns, posinf=0, neginf=0) * weights, 0.0)
    residual = weights[:, :, 0] * (problem.data - prediction)
    residual = np.where(weights[:, :, 0] > 0, residual, 0.0)
    length = np.sqrt(np.einsum('vnk,vnk->vk', columns, columns))
    columns /= np.where(length > 0, length, 1.0)[:, np.newaxis]
    gram = np.swapaxes(columns, 1, 2) @ columns
    # so that no column is all that those before it are; where it is, it explains nothing
    gram += SMALLEST_SHAPE**2 * np.eye(columns.shape[2])
    mixing = np.linalg.cholesky(gram)
    product = np.einsum('vnk,vn->vk', columns, residual)
    along = np.empty_like(product)  # the residual on each column beside those before it
    for k in range(columns.shape[2]):
        before = np.einsum('vj,vj->v', mixing[:, k, :k], along[:, :k])
        along[:, k] = (product[:, k] - before) / mixing[:, k, k]
    n_used = (problem.root_weights > 0).sum(axis=1)
    allowed = n_free + np.maximum(n_used - n_free, 0) // 2
    independent = np.einsum('vkk->vk', mixing) > 2 * SMALLEST_SHAPE
    independent &= np.arange(independent.shape[1]) < allowed[:, np.newaxis]
    explained = np.where(independent, along, 0.0)
    left = np.einsum('vn,vn->v', residual, residual) - (explained**2).sum(axis=1)
    return np.maximum(left, 0.0), n_used - independent.sum(axis=1).astype(float)


def _iterate(problem: _Problem, point: _Point) -> BoolArray:
    """Improve `point` in place until every voxel has converged or is given up."""
    target = problem.tolerance * np.linalg.norm(problem.data * problem.root_weights, axis=1)
    damping = np.full(len(point.cost), FIRST_DAMPING)
    converged = _slope(problem, point) <= target
    converged[~np.isfinite(point.cost)] = False
    active = np.flatnonzero(~converged & np.isfinite(point.cost))
    rounding = 1 + 8 * np.finfo(float).eps
    for _ in range(problem.max_iterations):
        if not active.size:
            break
        here = point if len(active) == len(point.cost) else point.take(active)
        step = _step(here, _held(problem, here), damping[active])
        trial = problem.evaluate(
            np.clip(here.parameters + step, problem.lower, problem.upper), active
        )
        better = trial.cost <= here.cost * rounding
        damping[active] *= np.where(better, 1 / DAMPING_FACTOR, DAMPING_FACTOR)
        np.maximum(damping, SMALLEST_DAMPING, out=damping)
        rows = np.flatnonzero(better)
        moved = trial if len(rows) == len(better) else trial.take(rows)
        point.put(active[rows], moved)
        converged[active[rows]] = _slope(problem, moved) <= target[active[rows]]
        active = active[~converged[active]]
    return np.asarray(converged)


def _held(problem: _Problem, point: _Point) -> BoolArray:
    """Tell which parameters lie at a bound and are pressed outwards."""
    low = (point.parameters <= problem.lower) & (point.gradient <= 0)
    high = (point.parameters >= problem.upper) & (point.gradient >= 0)
    return np.asarray(low | high)


def _scale(curvature: FloatArray) -> FloatArray:
    """Return the length of each column of the Jacobian, 1 where it is 0."""
    diagonal = np.einsum('vpp->vp', curvature)
    return np.asarray(np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))


def _slope(problem: _Problem, point: _Point) -> FloatArray:
    """Return the largest drop of the residual's norm that a free parameter offers."""
    scaled = np.abs(point.gradient) / _scale(point.curvature)
    return np.asarray(np.where(_held(problem, point), 0.0, scaled).max(axis=1))


def _step(point: _Point, held: BoolArray, damping: FloatArray) -> FloatArray:
    """Solve the damped normal equations; held parameters stay."""
    scale = np.where(held, np.inf, _scale(point.curvature))
    matrix = point.curvature / (scale[:, :, None] * scale[:, None, :])
    diagonal = np.einsum('vpp->vp', matrix)
    diagonal += damping[:, None]
    diagonal[held] = 1.0
    step = np.linalg.solve(matrix, (point.gradient / scale)[:, :, None])[:, :, 0]
    return np.asarray(step / scale)


def _inverse(curvature: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Invert each matrix; tell where that is possible."""
    scale = _scale(curvature)
    outer = scale[:, :, None] * scale[:, None, :]
    matrix = curvature / outer
    finite = np.isfinite(matrix).all(axis=(1, 2))
    matrix[~finite] = np.eye(matrix.shape[1])
    determined = finite & (np.linalg.det(matrix) > SMALLEST_DETERMINANT)
    matrix[~determined] = np.eye(matrix.shape[1])
    return np.linalg.inv(matrix) / outer, determined
