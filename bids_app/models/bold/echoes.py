"""Several echoes of a BOLD series: signal at one echo time, R2* and S0 of every volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from bids_app._typing import BoolArray, FloatArray

VOXELS_AT_ONCE = 2000
"""Of a chunk; keeps the logarithms of a long series out of memory."""

FEWEST_ECHOES = 2
"""Of which a decay follows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecaySeries:
    """What the echoes of a series say, volume by volume; each (V, T) of float32."""

    signal: NDArray[np.float32]
    """At the stated echo time, unit of the series."""
    r2_star: NDArray[np.float32]
    """1/s"""
    s0: NDArray[np.float32]
    """Signal at echo time 0, unit of the series."""


def fit_decay_series(
    echoes: Sequence[ArrayLike],
    echo_times: ArrayLike,
    *,
    at: float,
    kept: ArrayLike | None = None,
) -> DecaySeries:
    r"""
    Fit S0 and R2* to the echoes of every volume of a BOLD series.

    Parameters
    ----------
    echoes : sequence of E (V, T) array_like
        Signal of each echo, arbitrary unit, the same for all.
    echo_times : (E,) array_like
        s, different; two or more.
    at : float
        Echo time for which the signal is wanted, s, positive.
    kept : (T,) array_like of bool, optional
        Volumes from which the weights are taken; default all.

    Returns
    -------
    series : DecaySeries
        An echo that is not positive in every kept volume of a voxel is left out there. Zero
        throughout where fewer than two echoes are left; NaN where the input is not finite.

    Raises
    ------
    ModelInputError
        If shapes disagree, echo times are equal, or fewer than two.

    Notes
    -----
    Weighted least squares of the logarithm,

    .. math:: \ln S_e(t) = \ln S_0(t) - TE_e\,R_2^*(t), \qquad w_e = \langle S_e\rangle_t^2,

    the weights of noise that is equal in all echoes; they do not change with time, so that each
    result is a fixed sum of logarithms in a voxel. The signal at TE is
    :math:`\exp(\ln S_0 - TE\,R_2^*)`. At :math:`TE = \sum w\,TE^2 / \sum w\,TE` the weights of
    its logarithm are proportional to :math:`TE_e \langle S_e\rangle^2`: those of the usual
    optimal combination [1]_, which is thus a case of it. Elsewhere it is the same measurement
    for another, stated echo time.

    References
    ----------
    .. [1] Posse et al., Magn Reson Med 42:87, 1999.
       doi:10.1002/(SICI)1522-2594(199907)42:1<87::AID-MRM13>3.0.CO;2-O

    Examples
    --------
    >>> times = np.array([0.012, 0.028, 0.044])
    >>> train = [100 * np.exp(-time * np.array([[20.0, 21.0]])) for time in times]
    >>> found = fit_decay_series(train, times, at=0.03)
    >>> found.r2_star.round(3), found.signal.round(2)
    (array([[20., 21.]], dtype=float32), array([[54.88, 53.26]], dtype=float32))
    """
    times = np.asarray(echo_times, float)
    arrays = [np.asarray(echo) for echo in echoes]
    shapes = {array.shape for array in arrays}
    if len(arrays) != times.size or times.size < FEWEST_ECHOES or len(shapes) != 1:
        msg = f'two echoes or more of one shape expected, got {times.size} times and {shapes}'
        raise ModelInputError(msg)
    if np.unique(times).size < times.size or at <= 0:
        msg = f'echo times must differ, and the wanted one be positive; got {times} and {at}'
        raise ModelInputError(msg)
    n_voxels, n_volumes = arrays[0].shape
    counted = np.ones(n_volumes, bool) if kept is None else np.asarray(kept, bool)
    signal, r2_star, s0 = (np.empty_like(arrays[0], np.float32) for _ in DecaySeries.__slots__)
    for start in range(0, n_voxels, VOXELS_AT_ONCE):
        part = slice(start, start + VOXELS_AT_ONCE)
        train = np.stack([array[part] for array in arrays], axis=1).astype(np.float64)
        signal[part], r2_star[part], s0[part] = _fit(train, times, at, counted)
    return DecaySeries(signal=signal, r2_star=r2_star, s0=s0)


def _fit(train: FloatArray, times: FloatArray, at: float, kept: BoolArray) -> FloatArray:
    """Fit trains (V, E, T); give signal, R2* and S0, (3, V, T)."""
    counted = train[:, :, kept]
    is_finite = np.all(np.isfinite(counted), axis=(1, 2))
    usable = np.all(counted > 0, axis=2)
    level = np.where(usable, counted.mean(axis=2), 1.0)
    is_enough = usable.sum(axis=1) >= FEWEST_ECHOES
    weights = np.where(usable & is_enough[:, None], level**2, 0.0)
    total = np.where(is_enough, weights.sum(axis=1), 1.0)
    shares = weights / total[:, None]
    centre = shares @ times
    distance = times - centre[:, None]
    spread = np.where(is_enough, np.sum(shares * distance**2, axis=1), 1.0)
    slope = shares * distance / spread[:, None]

    # a volume that does not count may hold what has no logarithm
    logarithm = np.log(np.where(train > 0, train, level[..., None]))
    rate = -np.einsum('ve,vet->vt', slope, logarithm)
    mean = np.einsum('ve,vet->vt', shares, logarithm)
    fits = [np.exp(mean + (centre[:, None] - time) * rate) for time in (at, 0.0)]
    made = np.array([fits[0], rate, fits[1]])
    made = np.where(is_enough[:, None], made, 0.0)
    return np.where(is_finite[:, None], made, np.nan)
