"""What a planned group could say of the share of metabolism that opposes BOLD, by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bids_app.group.shares import (
    common_offsets,
    leave_out,
    sign_flip_probability,
    sign_flip_products,
)
from bids_app.group.statistics import random_effects, weigh_participants
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.discordance import estimate_discordance
from bids_app.models.concordance.labels import gate_by_probability
from bids_app.models.constants import NOISE_BLOCK_WIDTHS, SIGN_ALPHA

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray
    from bids_app.models.concordance.discordance import Discordance

FWHM_TO_SD = 1 / np.sqrt(8 * np.log(2))
"""Standard deviation of a Gaussian over its full width at half maximum, 1; exact."""

BOLD_SIZES = (0.3, 1.2)
"""Smallest and largest BOLD change, percent."""

BOLD_ERROR = 0.3
"""Of one participant, percent."""

PATCHES = 5.0
"""Width of the patches of either sign of BOLD, and of opposition, voxels."""

RISING = 0.64
"""Share of the voxels in which BOLD rises, 1; as in the public table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    A study that is planned; changes and errors are percent of the baseline.

    Parameters
    ----------
    participants : int
        How many.
    error : float
        Standard error of the CMRO2 change of one participant in one voxel.
    between : float
        Standard deviation of the true change between participants.
    effect : float
        Mean size of the true changes.
    discordant : float
        Share of the voxels whose change opposes BOLD, 1.
    offset : float
        Change that all voxels share, for whatever reason.
    offset_spread : float
        Its standard deviation between participants.
    fwhm : float
        Width of the noise, voxels.
    smallest : float
        Smallest change of interest.
    side : int
        Voxels per edge of the simulated grey matter.
    """

    participants: int
    error: float
    between: float = 5.0
    effect: float = 4.0
    discordant: float = 0.0
    offset: float = 0.0
    offset_spread: float = 2.0
    fwhm: float = 2.5
    smallest: float = 1.0
    side: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """
    What studies of a plan say.

    Parameters
    ----------
    studies : int
        Simulated.
    withheld : float
        Share of them that give no number.
    width : float
        Mean width of the interval of w_d of the others; NaN if there are none.
    decided : float
        Share of all whose interval lies on one side of the threshold.
    covered : float
        Share of those with an interval that holds the truth; NaN if there are none.
    """

    studies: int
    withheld: float
    width: float
    decided: float
    covered: float


def power_of(plan: Plan, *, studies: int, threshold: float, seed: int) -> Power:
    """
    Simulate studies, and analyse each as the group level does.

    Parameters
    ----------
    plan : Plan
        What is planned.
    studies : int
        How many to simulate.
    threshold : float
        Share of the total change from which intervals are to be told apart.
    seed : int
        Of the random numbers.

    Returns
    -------
    power : Power
        Of the share of the total change, w_d.

    Examples
    --------
    >>> plan = Plan(participants=12, error=2.0, side=12)
    >>> power_of(plan, studies=2, threshold=0.25, seed=0).decided
    1.0
    """
    lows, highs, truths = [], [], []
    for number in range(studies):
        found, truth = simulate_study(plan, np.random.default_rng([seed, number]))
        lows.append(found.size.low)
        highs.append(found.size.high)
        truths.append(truth)
    low, high, true = (np.array(one, float) for one in (lows, highs, truths))
    known = np.isfinite(low + high)
    decided = known & ((low > threshold) | (high < threshold))
    covered = (low <= true) & (true <= high)
    return Power(
        studies=studies,
        withheld=float(1 - known.mean()),
        width=float(np.mean((high - low)[known])) if known.any() else float('nan'),
        decided=float(decided.mean()),
        covered=float(covered[known].mean()) if known.any() else float('nan'),
    )


def simulate_study(plan: Plan, rng: np.random.Generator) -> tuple[Discordance, float]:
    """
    Simulate a study and analyse it as the group level does.

    Parameters
    ----------
    plan : Plan
        What is planned.
    rng : Generator
        Of its random numbers.

    Returns
    -------
    found : Discordance
        Of the voxels with significant BOLD.
    truth : float
        Their share of the total change that opposes BOLD.
    """
    patches = [_field(rng, plan, PATCHES) for _ in range(2)]
    sign, concordant = (
        np.where(field < np.quantile(field, share), first, -first)
        for field, share, first in zip(patches, (RISING, plan.discordant), (1, -1), strict=True)
    )
    bold = sign * rng.uniform(*BOLD_SIZES, sign.size)
    # sizes of a gamma distribution: neither a point mass nor a normal
    change = plan.effect * rng.gamma(2.0, 0.5, sign.size) * sign * concordant
    n = plan.participants
    bolds = bold + BOLD_ERROR * rng.standard_normal((n, bold.size))
    level = np.exp(rng.normal(0, 0.25, (n, 1)))
    error = plan.error * level / np.sqrt(np.mean(level**2))
    values = change + rng.normal(plan.offset, plan.offset_spread if plan.offset else 0.0, (n, 1))
    values = values + plan.between * np.stack([_field(rng, plan, 2.0) for _ in range(n)])
    values += error * np.stack([_field(rng, plan, plan.fwhm) for _ in range(n)])
    found, gate = _analyse(plan, rng, bolds, values, np.broadcast_to(error**2, values.shape))
    true = (sign * change)[gate]
    return found, float(np.maximum(-true, 0).sum() / np.abs(true).sum())


def _field(rng: np.random.Generator, plan: Plan, fwhm: float) -> FloatArray:
    """Draw a standard normal field, correlated over space."""
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(
        rng.standard_normal((plan.side,) * 3), fwhm * FWHM_TO_SD, mode='wrap'
    ).ravel()
    field: FloatArray = (values - values.mean()) / values.std()
    return field


def _analyse(
    plan: Plan,
    rng: np.random.Generator,
    bolds: FloatArray,
    values: FloatArray,
    variances: FloatArray,
) -> tuple[Discordance, BoolArray]:
    """Estimate the share of the voxels with significant BOLD, as the group level does."""
    of_bold = random_effects(bolds, None)
    gate = gate_by_probability(of_bold.p, q=SIGN_ALPHA, mask=np.ones(bolds.shape[1], bool))
    weighting = weigh_participants(values, variances)
    change = random_effects(values, variances, weighting=weighting)
    sign = np.sign(of_bold.effect)[gate]
    ones = np.ones(sign.size)
    offsets = common_offsets([(values[:, gate], ones)])
    p = sign_flip_probability(
        sign_flip_products(values[:, gate], offsets[:, None] * ones, weighting.participants),
        rng=rng,
    )
    left_out = leave_out(values[:, gate], variances[:, gate], weighting, np.ones((len(values), 1)))
    points = np.indices((plan.side,) * 3).reshape(3, -1).T
    found = estimate_discordance(
        sign * change.effect[gate],
        change.standard_error[gate],
        smallest_effect=plan.smallest,
        direction=sign,
        blocks=spatial_blocks(points, side=NOISE_BLOCK_WIDTHS * plan.fwhm)[gate],
        left_out=[(sign * one, error) for one, error in zip(*left_out, strict=True)],
        withheld='no change beyond an offset' if p > SIGN_ALPHA else '',
        intervals=('size',),
    )
    return found, gate
