"""General linear model of a series: change, with the noise that each voxel seems to have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.noise import SIZES, cubes_of, means_of_cubes, share_in_common
from bids_app.models.status import Status
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, StatusArray

    Scaling = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

NOISE_MODELS = ('fast', 'ar1', 'ols')
"""Names of what the noise of a series may be."""

WHITE_SHARES = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
"""Share of independent noise in the power of a candidate; no unit."""

MEMORIES = np.geomspace(0.5, 256.0, 10)
"""Times after which noise of a candidate has decayed to 1/e, volumes."""

FINER = 4
"""As many times more memories where a candidate has one only."""

STEEPNESS = np.array([0.0, 0.5, 1.0])
"""Exponents of the memory by which noise of all memories is weighted: 0 is nearly 1/f; no unit."""

ALTERNATING = -0.2
"""Correlation of successive samples where a filter has left a negative one; no unit."""

LEARNING_STEPS = 10
"""In which the shares of the candidates among the voxels settle."""

SMALLEST_POWER = 1e-9
"""Of residuals at a frequency that the design takes out; no unit."""

SLACK = 1e-6
"""Of a coefficient that the design determines; no unit."""

MOST_RESIDUALS = 4000
"""Voxels whose residuals are looked at, at most."""

LAGS_TOLD, DIGITS = 6, 3
"""Of the autocorrelation in the sidecar."""

COPIES_IN_FIT = 4
"""Arrays of the size of the data that the fit holds at once; sizes the chunks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskDesign:
    """A design matrix and what the contrasts make of its coefficients."""

    matrix: FloatArray
    """(T, P)"""
    weights: Mapping[str, FloatArray]
    """Contrast, such as `calcMinusControl` -> weights that make the signal change and the
    baseline, (2, P)."""
    high_pass: float
    """Cut-off of the drift columns, Hz."""
    loss: float
    """By which the drift columns lengthen the standard error of the worst contrast; no unit."""
    kept: BoolArray
    """(T,) volumes that count."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Condition -> what is told of the response to one event; empty for blocks."""

    @cached_property
    def inverse(self) -> FloatArray:
        """Pseudo-inverse of the matrix, (P, T): from a series to its coefficients."""
        return np.asarray(np.linalg.pinv(self.matrix), np.float64)

    @cached_property
    def filters(self) -> FloatArray:
        """From a series to change and baseline of every contrast, (contrasts, 2, T)."""
        return np.array(list(self.weights.values())) @ self.inverse

    def part(self, volumes: slice) -> TaskDesign:
        """
        Give the rows of a half of the run, drift and all, and the same weights.

        Parameters
        ----------
        volumes : slice
            Of the run.

        Returns
        -------
        part : TaskDesign
            The design itself for all of them.

        Raises
        ------
        ModelInputError
            If these volumes do not determine a contrast.
        """
        if volumes == slice(None):
            return self
        rows = replace(self, matrix=self.matrix[volumes], kept=self.kept[volumes])
        return check_design(rows, 'half of the run')

    def residuals(self, series: FloatArray) -> FloatArray:
        """Give what the design leaves of series (V, T)."""
        return np.asarray(series - series @ self.inverse.T @ self.matrix.T)


def fit_task_design(
    series: ArrayLike,
    design: TaskDesign,
    *,
    noise_model: str = 'fast',
    is_relative: bool = True,
    memory_mb: float = 400.0,
) -> dict[str, Estimate]:
    r"""
    Estimate the change of each contrast with a general linear model.

    Parameters
    ----------
    series : (V, T) array_like
        BOLD signal, arbitrary unit.
    design : TaskDesign
        Of :func:`bids_app.engines.glm.make_task_design`.
    noise_model : str
        fast (white noise and noise that decays over one or all of many times), ar1 (over one
        time) or ols (white).
    is_relative : bool
        Give the change in percent of the baseline signal, else in the unit of the series.
    memory_mb : float
        Approximate size of the working arrays, MB.

    Returns
    -------
    changes : dict of str to (V,) Estimate
        Keyed by contrast; percent of the baseline signal, or in its unit. Variance from the
        covariance of the model (signal and baseline), dof = T - rank. NO_SIGNAL where the series
        is constant, INVALID_INPUT where it is not finite, NO_REFERENCE where the change is
        relative and the baseline not positive; volumes that do not count may hold anything.

    Raises
    ------
    ModelInputError
        If shapes disagree or the noise model is unknown.

    Notes
    -----
    With x the columns of the two conditions of a contrast, means over the volumes of the task
    windows W_t and of the baseline windows W_b,

    .. math::

        \Delta = 100\,\frac{\sum_j \beta_j (\langle x_j \rangle_{W_t}
                 - \langle x_j \rangle_{W_b})}{\langle X \beta \rangle_{W_b}}

    over all columns j of the two conditions. This is what a block-window average of a noise-free
    signal would show. With the flexible response (its derivatives in time and in width have
    columns of their own, and count) the result does not depend on the true one: within 0.5 %
    for those of SPM and Glover, at a standard error 4 to 15 % longer than that of one known
    shape. One wrong shape alone is off by up to 14 % (30-s blocks every 60 s). The baseline has
    no column of its own where listed events and baseline together fill the run.

    The coefficients are those of ordinary least squares. Their covariance is that under noise
    whose autocovariance is one of a set of candidates g: a share of white noise, and
    exponentials :math:`e^{-k/\tau}` of one memory :math:`\tau`, or of all together, which is
    nearly 1/f or steeper (the basis of FAST [3]_). Each candidate predicts the power
    :math:`E_g(f)` of the cosine transform of the residuals of this very design, so that what the
    design takes out is counted. With the observed power P(f), the weights w(f) of what the design
    leaves of white noise, and :math:`\hat\sigma_g^2 = \sum_f w P/E_g / \sum_f w`, the likelihood
    of Whittle is

    .. math:: \ln L_g = -\tfrac12 \sum_f w \left[\ln E_g + \ln\hat\sigma_g^2\right]

    The covariance is the mean over the candidates by their probability in the voxel; their shares
    among all voxels, the prior of each, are learnt from these. Compared with prewhitening the
    precision is the same for block designs, the error through a wrong response smaller (at high
    signal prewhitening takes the misfit for noise).

    References
    ----------
    .. [1] Epp et al., Nat Neurosci, 2025. doi:10.1038/s41593-025-02132-9
    .. [2] Nilearn, first-level models. doi:10.5281/zenodo.8397156
    .. [3] Corbin, Todd, Friston & Callaghan, Hum Brain Mapp 39:3884, 2018.
       doi:10.1002/hbm.24218
    """
    data = np.asarray(series)
    if data.ndim != 2 or data.shape[1] != len(design.matrix):
        msg = f'the BOLD series must be (voxels, volumes = {len(design.matrix)}), got {data.shape}'
        raise ModelInputError(msg)
    if noise_model not in NOISE_MODELS:
        msg = f'noise model {noise_model!r} is not one of {", ".join(NOISE_MODELS)}'
        raise ModelInputError(msg)
    scaled = _percent if is_relative else _unscaled
    return _estimate(data, design, noise_model, scaled, memory_mb)


def share_of_noise(
    series: ArrayLike,
    changes: Mapping[str, Estimate],
    points: ArrayLike,
    design: TaskDesign,
    *,
    noise_model: str = 'fast',
    is_relative: bool = True,
) -> dict[str, dict[str, float]]:
    """
    Tell how much of the noise of each contrast the voxels of regions of three sizes share.

    Parameters
    ----------
    series : (V, T) array_like
        BOLD signal, arbitrary unit.
    changes : dict of str to (V,) Estimate
        What :func:`fit_task_design` made of it.
    points : (V, 3) array_like
        Where the voxels lie, mm.
    design : TaskDesign
        For the series of the regions.
    noise_model, is_relative : optional
        As there.

    Returns
    -------
    shares : dict of str to dict
        Contrast -> as of :func:`bids_app.models.numerics.noise.shared_noise`, whose Notes hold:
        the variance of a region is that of the same fit to its mean series.
    """
    known = np.all([np.isfinite(one.value) & (one.variance > 0) for one in changes.values()], 0)
    data, points = np.asarray(series)[known], np.asarray(points, float)[known]
    shares: dict[str, dict[str, float]] = {label: {} for label in changes}
    for size, side in SIZES.items():
        cube, _ = cubes_of(points, side)
        means = means_of_cubes(data, cube)
        how: dict[str, Any] = {'noise_model': noise_model, 'is_relative': is_relative}
        fits = fit_task_design(means, design, **how) if len(means) else {}
        for label, change in changes.items():
            of_means = fits[label].variance if fits else np.empty(0)
            of_means = np.nan_to_num(of_means)
            shares[label][size] = share_in_common(change.variance[known], cube, of_means)
    return shares


def residual_autocorrelation(series: ArrayLike, design: TaskDesign) -> list[float]:
    """
    Give the autocorrelation of what a design leaves of the series.

    Parameters
    ----------
    series : (V, T) array_like
        BOLD signal, arbitrary unit.
    design : TaskDesign
        Fitted by ordinary least squares.

    Returns
    -------
    correlations : list of float
        Of volumes 1, 2 ... 6 apart, mean over voxels; pairs with a volume that does not count
        are left out. Biased downwards, as the design takes slow noise along.

    Examples
    --------
    >>> design = TaskDesign(matrix=np.ones((120, 1)), weights={}, high_pass=0.0, loss=0.0,
    ...                     kept=np.ones(120, bool))
    >>> white = 100 + np.random.default_rng(0).normal(size=(500, 120))
    >>> max(abs(r) for r in residual_autocorrelation(white, design)) < 0.05
    True
    """
    data = np.asarray(series)
    data = data[np.isfinite(data[:, design.kept]).all(axis=1)]
    data = np.where(design.kept, data[:: -(-len(data) // MOST_RESIDUALS) or 1], 0.0)
    residuals = design.residuals(data)
    power = np.einsum('vt,vt->v', residuals, residuals)
    residuals = residuals[power > 0] / np.sqrt(power[power > 0, np.newaxis])
    if not len(residuals):
        return []
    n_volumes, found = design.kept.sum(), []
    for lag in range(1, LAGS_TOLD + 1):
        pairs = (design.kept[lag:] & design.kept[:-lag]).sum()
        product = np.einsum('vt,vt->', residuals[:, lag:], residuals[:, :-lag])
        found.append(round(float(product / len(residuals) * n_volumes / max(pairs, 1)), DIGITS))
    return found


def check_design(design: TaskDesign, what: str = 'the run') -> TaskDesign:
    """Refuse a design whose coefficients do not determine its contrasts."""
    projection = design.inverse @ design.matrix
    for label, (change, _) in design.weights.items():
        if np.abs(change @ projection - change).max() > SLACK * np.abs(change).max():
            msg = (
                f'{label}: {what} cannot tell the response to these events from the rest of the '
                'design; choose a response of fewer columns (bold.hrf_model)'
            )
            raise ModelInputError(msg)
    return design


def _estimate(
    data: np.ndarray, task: TaskDesign, noise_model: str, scaled: Scaling, memory_mb: float
) -> dict[str, Estimate]:
    """Fit chunks of voxels and form every contrast."""
    n_voxels, n_volumes = data.shape
    weights, filters = task.weights, task.filters
    status = _status_of_series(data[:, task.kept])
    shape = (len(weights), n_voxels)
    value, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    usable = np.flatnonzero(status == Status.OK)
    step = max(1, int(memory_mb * 1e6 / (8 * COPIES_IN_FIT * n_volumes)))
    noise = _Noise.of(task, candidates(noise_model, n_volumes))
    chunks = [usable[start : start + step] for start in range(0, usable.size, step)]
    likelihood, scale = np.empty((2, n_voxels, len(noise.power)))
    signals = np.empty((*filters.shape[:2], n_voxels))
    for chunk in chunks:
        series = np.where(task.kept, data[chunk], 0.0).astype(np.float64)
        likelihood[chunk], scale[chunk] = noise.likelihood(task.residuals(series))
        signals[:, :, chunk] = filters @ series.T
    shares = learn_shares(likelihood[usable])
    for chunk in chunks:
        covariance = noise.covariance(likelihood[chunk] * shares, scale[chunk])
        value[:, chunk], variance[:, chunk] = scaled(signals[:, :, chunk], covariance)

    dof = n_volumes - int(np.linalg.matrix_rank(task.matrix))
    return {
        label: Estimate.of(
            value[i],
            variance[i],
            np.where((status == Status.OK) & np.isnan(value[i]), Status.NO_REFERENCE, status),
            dof,
        )
        for i, label in enumerate(weights)
    }


def _status_of_series(data: np.ndarray) -> StatusArray:
    """Tell which series carry no signal."""
    finite = np.isfinite(data).all(axis=1)
    constant = data.max(axis=1) == data.min(axis=1)
    status = np.where(constant, Status.NO_SIGNAL, Status.OK)
    return np.where(finite, status, Status.INVALID_INPUT).astype(np.uint8)


def candidates(noise_model: str, n_volumes: int) -> FloatArray:
    """
    Give the autocovariances that the noise of a voxel may have.

    Parameters
    ----------
    noise_model : str
        fast, ar1 or ols.
    n_volumes : int
        Of the series.

    Returns
    -------
    autocovariances : (G, T) ndarray
        At each lag, per unit of power.

    Examples
    --------
    >>> candidates('ols', 3), len(candidates('fast', 100))
    (array([[1., 0., 0.]]), 67)
    """
    lags = np.arange(n_volumes)
    white: FloatArray = (lags == 0).astype(float)
    if noise_model == 'ols':
        return white[np.newaxis]
    plain = [white, ALTERNATING ** lags.astype(float)]
    if noise_model == 'ar1':
        finer = np.geomspace(MEMORIES[0], MEMORIES[-1], FINER * MEMORIES.size)
        return np.array([*plain, *np.exp(-lags / finer[:, np.newaxis])])
    decays = np.exp(-lags / MEMORIES[:, np.newaxis])
    shares = MEMORIES ** STEEPNESS[:, np.newaxis]
    slow = [*decays, *(shares / shares.sum(axis=1, keepdims=True) @ decays)]
    mixed = [share * white + (1 - share) * one for share in WHITE_SHARES for one in slow]
    return np.array([*plain, *mixed])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Noise:
    """What each candidate of the noise does to the fit of one design."""

    weights: FloatArray
    """(T,) What the design leaves of white noise at each frequency."""
    power: FloatArray
    """(G, T) Expected power of the residuals at each frequency."""
    products: FloatArray
    """(G, contrasts, 2, 2) Covariance of the filtered series."""

    @classmethod
    def of(cls, design: TaskDesign, autocovariances: FloatArray) -> _Noise:
        """Tabulate the candidates."""
        n_volumes = len(design.matrix)
        left = np.eye(n_volumes) - design.matrix @ design.inverse
        rows = fft.dct(left, axis=0, norm='ortho')
        spectra = np.abs(np.fft.rfft(rows, 2 * n_volumes, axis=1)) ** 2
        of_lag = np.fft.irfft(spectra, axis=1)[:, :n_volumes]
        of_lag[:, 1:] *= 2
        weights = np.clip(of_lag[:, 0], 0.0, 1.0)
        power = np.maximum(autocovariances @ of_lag.T, SMALLEST_POWER)
        sums = np.array(
            [
                [[_lag_products(one, other) for other in pair] for one in pair]
                for pair in design.filters
            ]
        )
        products = np.moveaxis(sums @ autocovariances.T, -1, 0)
        return cls(weights=weights, power=power, products=products)

    def likelihood(self, residuals: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give likelihood, up to a factor, and power of each candidate in each voxel, (V, G)."""
        observed = fft.dct(residuals, axis=1, norm='ortho') ** 2
        total = self.weights.sum()
        scale = observed @ (self.weights / self.power).T / total
        logarithm = -np.log(np.maximum(scale, np.finfo(float).tiny)) * total / 2
        logarithm -= np.log(self.power) @ self.weights / 2
        return np.exp(logarithm - logarithm.max(axis=1, keepdims=True)), scale

    def covariance(self, posterior: FloatArray, scale: FloatArray) -> FloatArray:
        """Average the covariance of the filtered series, (contrasts, 2, 2, V)."""
        posterior = posterior / posterior.sum(axis=1, keepdims=True)
        columns = self.products.reshape(len(self.power), -1)
        covariance: FloatArray = ((posterior * scale) @ columns).T
        return covariance.reshape(*self.products.shape[1:], -1)


def learn_shares(likelihood: FloatArray) -> FloatArray:
    """Learn the shares of the candidates (G,) among voxels, from their likelihoods (V, G)."""
    n_candidates = likelihood.shape[1]
    shares = np.full(n_candidates, 1 / n_candidates)
    for _ in range(LEARNING_STEPS):
        expected = likelihood @ shares
        found = shares * (likelihood.T @ (1 / expected))
        shares = (found + 1 / n_candidates) / (len(likelihood) + 1)
    return shares


def _lag_products(one: FloatArray, other: FloatArray) -> FloatArray:
    """Add up the products of the elements of two vectors at each distance, (T,)."""
    both = np.correlate(one, other, 'full')
    middle = len(one) - 1
    sums = both[middle:] + both[middle::-1]
    sums[0] = both[middle]
    return np.asarray(sums, np.float64)


def _unscaled(signals: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give the change of change and baseline, (contrasts, 2, voxels), and its variance."""
    return signals[:, 0], covariance[:, 0, 0]


def _percent(signals: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Turn change and baseline, (contrasts, 2, voxels), into percent change and its variance.

    NaN where the baseline is not positive.
    """
    amount, baseline = np.moveaxis(signals, 1, 0)
    baseline = np.where(baseline > 0, baseline, np.nan)
    ratio = amount / baseline
    spread = covariance[:, 0, 0] - 2.0 * ratio * covariance[:, 0, 1]
    spread += ratio**2 * covariance[:, 1, 1]
    return ratio / PERCENT, spread / (PERCENT * baseline) ** 2
