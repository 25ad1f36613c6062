"""Why pi_d has the interval of a profile likelihood and not of a block jackknife: coverage."""

from __future__ import annotations

import argparse
import itertools

import labels
import numpy as np
from scipy import stats

from bids_app.models.concordance import ashr
from bids_app.models.concordance.labels import bold_gate

GROUPS = 20
"""Of blocks that are left out together."""
FIRST_SEED = 5000
"""None of these seeds was used to build the estimator."""
QUANTILE = stats.t.ppf(0.975, GROUPS - 1)


def jackknife(prior, groups):
    """Estimate and standard error, leaving out one group of blocks after the other."""
    shares = []
    for group in range(GROUPS):
        left_out = np.bincount(
            prior.bins.member[groups == group], minlength=prior.bins.counts.size
        )
        counts = np.maximum(prior.bins.counts - left_out, 1e-9)
        weights = ashr.fit_mixture(prior.likelihood, counts).weights
        below, above = prior.below @ weights, prior.above @ weights
        shares.append(below / (below + above))
    spread = np.sum((np.array(shares) - np.mean(shares)) ** 2)
    return ashr._fraction(prior), np.sqrt((GROUPS - 1) / GROUPS * spread)


def intervals(case, seed, blocks):
    """True share, and the intervals of one participant by name."""
    bold, change, truth, bold_truth = labels.simulate(case, seed)
    gate = bold_gate(bold, q=0.05, mask=np.ones(truth.size, bool))
    changed = gate & (np.abs(truth) > labels.SMALLEST)
    share = np.mean((np.sign(truth) != np.sign(bold_truth))[changed])
    x, s = (np.sign(bold.value) * change.value)[gate], np.sqrt(change.variance)[gate]
    names, block = np.unique(blocks[gate], return_inverse=True)
    groups = np.random.default_rng(seed).permutation(np.arange(names.size) % GROUPS)[block]
    shape, error = jackknife(ashr._half_uniforms(x, s, labels.SMALLEST), groups)
    grid, grid_error = jackknife(ashr._locations(x, s, labels.SMALLEST), groups)
    widest = QUANTILE * max(error, grid_error)
    found = ashr.estimate_discordance(x, s, smallest_effect=labels.SMALLEST, blocks=blocks[gate])
    return share, {
        'jackknife': (shape - QUANTILE * error, shape + QUANTILE * error),
        'jackknife, grid': (grid - QUANTILE * grid_error, grid + QUANTILE * grid_error),
        'both': (min(shape, grid) - widest, max(shape, grid) + widest),
        'profile': (found.ci_low, found.ci_high),
    }


def main() -> None:
    """Print coverage and width of every interval in every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=12)
    arguments = parser.parse_args()
    points = np.indices((labels.SIDE,) * 3).reshape(3, -1).T
    blocks = ashr.spatial_blocks(points, side=3 * labels.FWHM)
    worst: dict[str, float] = {}
    cases = itertools.product(labels.SHAPES, (0.0, 0.1, 0.4), labels.NOISES, (0.0, labels.FWHM))
    for shape, truth, noise, fwhm in cases:
        case = labels.Case(shape, truth, noise, fwhm)
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        runs = [intervals(case, seed, blocks) for seed in seeds]
        cells = []
        for name in runs[0][1]:
            ends = np.clip([found[name] for _, found in runs], 0, 1)
            share = np.array([share for share, _ in runs])
            covered = np.mean((ends[:, 0] - 1e-3 <= share) & (share <= ends[:, 1] + 1e-3))
            worst[name] = min(worst.get(name, 1.0), covered)
            cells.append(f'{name} {100 * covered:.0f} % {np.mean(ends[:, 1] - ends[:, 0]):.3f}')
        print(shape, truth, noise, 'correlated' if fwhm else 'independent', *cells, sep=' | ')
    print('worst coverage:', {name: round(float(share), 2) for name, share in worst.items()})


if __name__ == '__main__':
    main()
