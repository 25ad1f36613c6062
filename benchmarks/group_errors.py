"""
False positives of the group level where participants are unequal, heavy-tailed or skewed.

Nothing here is drawn from the model that is tested: effects of participants are normal, Student t
with three degrees of freedom, or exponential (skewness 2) around a mean of 0, random errors differ
between participants by a log-normal factor, and spatial noise is smooth. Prints the tables of
docs/explanation/group.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.group.permutation import max_statistic, measure_asymmetry
from bids_app.group.statistics import random_effects, weigh_participants

VOXELS = 4000
SIZES = (5, 10, 20, 40)
UNEQUAL = (0.0, 0.5, 0.7, 0.9)
"""Standard deviation of the logarithm of the participants' random standard error."""
SHAPES = ('normal', 't3', 'skewed')
SIDE = 10
"""Voxels per edge of the volume of the family-wise tests."""
FWHM = 2.5
"""Of its noise, voxels."""


def draw(rng, shape, size):
    """Draw effects of variance 1 and mean 0 of a shape."""
    if shape == 'normal':
        return rng.standard_normal(size)
    if shape == 't3':
        return rng.standard_t(3, size) / np.sqrt(3)
    return rng.exponential(1, size) - 1


def null_study(rng, n, unequal, shape, between):
    """Make participants without an effect: their changes and random variances."""
    error = np.exp(rng.normal(0, unequal, (n, 1))) * np.exp(rng.normal(0, 0.15, VOXELS))
    spread = between * np.exp(rng.normal(0, 0.3, VOXELS))
    effects = spread * draw(rng, shape, (n, VOXELS)) + error * rng.standard_normal((n, VOXELS))
    return effects, error**2


def voxelwise(seeds, between):
    """Rejected voxels of null studies at .05, and at .001 as a multiple of it."""
    rows = []
    for shape, unequal, n in itertools.product(SHAPES, UNEQUAL, SIZES):
        rates = []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, n, int(10 * unequal), SHAPES.index(shape)])
            data = null_study(rng, n, unequal, shape, between)
            p = random_effects(*data, weighting=weigh_participants(*data)).p
            rates.append(((p < 0.05).mean(), (p < 0.001).mean() / 0.001))
        at_05, at_001 = np.mean(rates, axis=0)
        rows.append(
            {
                'shape': shape,
                'log_sd': unequal,
                'participants': n,
                'between': between,
                'rejected_05': round(float(at_05), 4),
                'times_001': round(float(at_001), 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def smooth(rng, n):
    """Draw smooth standard normal noise, a volume per participant."""
    maps = rng.standard_normal((n, SIDE, SIDE, SIDE))
    for one in maps:
        one[...] = gaussian_filter(one, FWHM / np.sqrt(8 * np.log(2)), mode='wrap')
    return (maps / maps.std()).reshape(n, -1)


def field(rng, kind, n):
    """Draw smooth maps of participants: normal, heavy-tailed, or exponential at every voxel."""
    if kind == 'normal':
        return smooth(rng, n)
    if kind == 't3':
        return smooth(rng, n) / np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    if kind == 'skewed, one number per participant':
        return 0.7 * (rng.exponential(1, (n, 1)) - 1) + 0.7 * smooth(rng, n)
    skewed = (smooth(rng, n) ** 2 + smooth(rng, n) ** 2) / 2 - 1
    if kind == 'skewed':
        return skewed
    return skewed * np.sign(gaussian_filter(rng.standard_normal((SIDE,) * 3), 2)).ravel()


KINDS = ('normal', 't3', 'skewed', 'skewed both ways', 'skewed, one number per participant')


def family_wise(seeds, sizes, kinds, permutations=199):
    """Null studies in which any voxel falls below a family-wise p of 5 %."""
    rows = []
    for kind, n in itertools.product(kinds, sizes):
        hits, marked, skewness = {'corrected': 0, 'plain': 0}, 0, []
        design = np.ones((n, 1))
        for seed in range(seeds):
            rng = np.random.default_rng([7, seed, n, KINDS.index(kind)])
            data = field(rng, kind, n)
            weighting = weigh_participants(data, None)
            found = measure_asymmetry(data, None, weighting, design, rng=rng)
            marked += found.is_marked
            skewness.append(found.skewness)
            for name, skewed in (('corrected', found.is_marked), ('plain', False)):
                p = max_statistic(
                    [(data, None)],
                    weighting,
                    design,
                    n_permutations=permutations,
                    skewed=skewed,
                    rng=np.random.default_rng([8, seed]),
                ).p
                hits[name] += bool(np.nanmin(p) <= 0.05)
        rows.append(
            {
                'kind': kind,
                'participants': n,
                'studies': seeds,
                'corrected': hits['corrected'] / seeds,
                'plain': hits['plain'] / seeds,
                'marked': marked / seeds,
                'skewness': round(float(np.mean(skewness)), 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=0, help='null studies per cell, voxelwise')
    parser.add_argument('--between', type=float, nargs='+', default=[1.0],
                        help='spread between participants, in median random errors')  # fmt: skip
    parser.add_argument('--family-wise', type=int, default=0, help='null studies per cell')
    parser.add_argument('--sizes', type=int, nargs='+', default=[12, 20, 30])
    parser.add_argument('--kinds', nargs='+', default=list(KINDS), choices=KINDS)
    parser.add_argument('--json', type=Path, help='write the rows here')
    arguments = parser.parse_args()
    found = {}
    if arguments.seeds:
        found['voxelwise'] = [
            row for one in arguments.between for row in voxelwise(arguments.seeds, one)
        ]
    if arguments.family_wise:
        found['family_wise'] = family_wise(arguments.family_wise, arguments.sizes, arguments.kinds)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__':
    main()
