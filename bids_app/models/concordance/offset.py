"""
A change of metabolism that is common to all voxels: what it is, and what it does to the shares.

An error (or a true change) c that all voxels share adds c to sign(BOLD) D where BOLD rises, and
-c where it falls: increases become concordant and decreases discordant, whatever the brain does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.discordance import (
    Discordance,
    estimate_discordance,
)
from bids_app.models.constants import (
    BOLD_EQUIVALENCE,
    ERROR_SCALES,
    OFFSETS,
    SIGN_ALPHA,
)
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray

SIGNS: tuple[tuple[str, float], ...] = (('all', 0.0), ('positive', 1.0), ('negative', -1.0))
"""Names of the signs of BOLD that are always shown together."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OffsetPoint:
    """
    Shares with an offset subtracted.

    Parameters
    ----------
    offset : float
        What was subtracted, share of the baseline.
    bold : str
        all, positive or negative BOLD change.
    found : Discordance
        Shares of these voxels.
    """

    offset: float
    bold: str
    found: Discordance

    def as_row(self) -> dict[str, Any]:
        """Row of a table, the offset in percent."""
        one = self.found
        return {
            'offset': self.offset / PERCENT,
            'bold': self.bold,
            'n_voxels': one.n_used,
            'sign_fraction': one.sign_fraction,
            'w_d': one.size.value,
            'w_d_low': one.size.low,
            'w_d_high': one.size.high,
            'pi_d': one.count.value,
            'pi_d_low': one.count.low,
            'pi_d_high': one.count.high,
            'note': one.reason or None,
        }


def is_bold_equivalent_to_zero(
    bold: ArrayLike, standard_error: ArrayLike, *, margin: float = BOLD_EQUIVALENCE
) -> BoolArray:
    """
    Find the voxels where the BOLD change is shown to be small (two one-sided tests at 5 %).

    Parameters
    ----------
    bold : (V,) array_like
        BOLD change, percent.
    standard_error : (V,) array_like
        Its error, percent.
    margin : float
        Largest change that counts as none, percent.

    Returns
    -------
    equivalent : (V,) ndarray of bool
        False where it is not shown, and without an estimate.

    References
    ----------
    .. [1] Schuirmann, J Pharmacokinet Biopharm 15:657, 1987. doi:10.1007/BF01068419

    Examples
    --------
    >>> is_bold_equivalent_to_zero([0.0, 0.15, 0.0], [0.05, 0.05, 0.5])
    array([ True, False, False])
    """
    reach = stats.norm.ppf(1 - SIGN_ALPHA)
    farthest = np.abs(np.asarray(bold, float)) + reach * np.asarray(standard_error, float)
    equivalent: BoolArray = farthest < margin
    return equivalent


def subtract_offset(
    change: ArrayLike, baseline: ArrayLike, offset: float, direction: ArrayLike
) -> FloatArray:
    """Take a share of the baseline from changes, and give them the sign of BOLD."""
    rest = np.asarray(change, float) - offset * np.asarray(baseline, float)
    aligned: FloatArray = np.sign(np.asarray(direction, float)) * rest
    return aligned


def offset_curve(
    change: ArrayLike,
    standard_error: ArrayLike,
    direction: ArrayLike,
    baseline: ArrayLike,
    *,
    smallest_effect: float,
    blocks: ArrayLike | None = None,
    left_out: Sequence[tuple[FloatArray, FloatArray]] | None = None,
    error_scales: Sequence[float] = ERROR_SCALES,
    withheld: str = '',
    offsets: Sequence[float] = OFFSETS,
) -> Iterator[OffsetPoint]:
    """
    Estimate the shares as they would be with offsets subtracted.

    Parameters
    ----------
    change, standard_error : (V,) array_like
        CMRO2 change D and its error, same unit.
    direction : (V,) array_like
        BOLD change; only its sign counts.
    baseline : (V,) array_like
        CMRO2 of the baseline, same unit; its median where a voxel has none.
    smallest_effect, blocks, left_out, error_scales, withheld
        As for :func:`bids_app.models.concordance.discordance.estimate_discordance`; `left_out`
        holds changes D, not aligned ones. What no change beyond an offset explains is withheld
        with every offset.
    offsets : sequence of float
        Shares of the baseline.

    Yields
    ------
    point : OffsetPoint
        Of every offset: all voxels, BOLD up, BOLD down.

    Notes
    -----
    A sensitivity, not a correction: where metabolism truly changes by the same amount everywhere,
    subtracting it hides what was to be found.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> up = np.where(rng.random(4000) < 0.5, 1.0, -1.0)
    >>> seen = 3.0 * up + 2.0 + rng.normal(size=4000)
    >>> curve = offset_curve(
    ...     seen, np.ones(4000), up, np.full(4000, 100.0), smallest_effect=0.2,
    ...     offsets=(0.0, 0.02, 0.04))
    >>> [round(p.found.size.value, 1) for p in curve if p.bold == 'all']
    [0.0, 0.0, 0.0]
    """
    d, s = np.asarray(change, float), np.asarray(standard_error, float)
    sign, base = np.sign(np.asarray(direction, float)), np.asarray(baseline, float)
    if not d.shape == s.shape == sign.shape == base.shape:
        shapes = [one.shape for one in (d, s, sign, base)]
        msg = f'changes, errors, BOLD and baseline must be equal columns, got {shapes}'
        raise ModelInputError(msg)
    typical = np.nanmedian(base) if np.isfinite(base).any() else np.nan
    base = np.where(np.isfinite(base), base, typical)
    block = None if blocks is None else np.asarray(blocks)
    for offset in offsets:
        aligned = subtract_offset(d, base, offset, sign)
        samples = [(subtract_offset(one, base, offset, sign), e) for one, e in left_out or ()]
        for bold, wanted in SIGNS:
            chosen = sign != 0 if wanted == 0 else sign == wanted
            found = estimate_discordance(
                aligned[chosen],
                s[chosen],
                smallest_effect=smallest_effect,
                blocks=None if block is None else block[chosen],
                left_out=[(one[chosen], e[chosen]) for one, e in samples] or None,
                error_scales=error_scales,
                withheld=withheld,
                intervals=('count', 'size'),
            )
            yield OffsetPoint(offset=offset, bold=bold, found=found)


def crossings(offsets: ArrayLike, shares: ArrayLike, level: float = 0.5) -> tuple[float, ...]:
    """
    Find the offsets at which a curve passes a level, by straight lines between its points.

    Parameters
    ----------
    offsets, shares : (K,) array_like
        The curve, offsets rising; NaN where there is no share.
    level : float
        Share to pass.

    Returns
    -------
    crossings : tuple of float
        Empty where the curve stays on one side.

    Examples
    --------
    >>> crossings([-1.0, 0.0, 1.0], [0.25, 0.25, 0.75])
    (0.5,)
    """
    x, y = np.asarray(offsets, float), np.asarray(shares, float) - level
    found = []
    for first in range(x.size - 1):
        a, b = y[first], y[first + 1]
        if np.isfinite(a + b) and a != b and a * b <= 0 and b != 0:
            found.append(float(x[first] - a * (x[first + 1] - x[first]) / (b - a)))
    return tuple(found)


def mean_offset(offsets: ArrayLike) -> tuple[float, float, float, float]:
    """
    Average the offsets of participants: mean, standard error between them, 95 % interval.

    Parameters
    ----------
    offsets : (N,) array_like
        Of participants, any unit; NaN is no estimate.

    Returns
    -------
    mean, error, low, high : float
        Error and interval are NaN with fewer than two participants.

    Examples
    --------
    >>> [round(value, 2) for value in mean_offset([1.0, 2.0, 3.0])]
    [2.0, 0.58, -0.48, 4.48]
    """
    values = np.asarray(offsets, float)
    values = values[np.isfinite(values)]
    n = values.size
    if n == 0:
        nothing = float('nan')
        return nothing, nothing, nothing, nothing
    mean = float(values.mean())
    if n == 1:
        return mean, float('nan'), float('nan'), float('nan')
    error = float(values.std(ddof=1) / np.sqrt(n))
    reach = float(stats.t.ppf(1 - SIGN_ALPHA / 2, n - 1)) * error
    return mean, error, mean - reach, mean + reach
