"""Simulation study of the labels and of the noise-corrected discordance; prints tables."""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import argparse
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.discordance import estimate_discordance
from bids_app.models.concordance.labels import bold_gate, label_by_sign, label_robust
from bids_app.models.estimate import Estimate

SIDE = 30
"""Voxels per edge of the simulated tissue."""
FWHM = 2.5
"""Of correlated noise, voxels."""
SMALLEST = 0.15
"""Smallest effect of interest; the mean size of the effects is 1."""
TRUTHS = ('null', 0.0, 0.1, 0.4)
NOISES = (0.5, 1.0, 2.0)
SHAPES = ('bounded', 'half-normal')
BARS = {0.5: 0.03, 1.0: 0.07, 2.0: 0.08}


@dataclass
class Case:
    """One row of the study."""

    shape: str
    truth: str | float
    noise: float
    fwhm: float


def noise_map(rng, fwhm):
    """Draw standard normal noise, correlated over space or not."""
    noise = rng.standard_normal((SIDE, SIDE, SIDE))
    if fwhm:
        noise = gaussian_filter(noise, fwhm / np.sqrt(8 * np.log(2)), mode='wrap')
        noise /= noise.std()
    return noise.ravel()


def simulate(case, seed):
    """Make one participant: BOLD and CMRO2 changes with their errors, and the true change."""
    rng = np.random.default_rng(seed)
    n = SIDE**3
    size = rng.uniform(0.5, 1.5, n)
    if case.shape == 'half-normal':
        size = np.abs(rng.standard_normal(n)) * np.sqrt(np.pi / 2)
    bold_truth = rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.5, n)
    discordant = rng.random(n) < (0.0 if case.truth == 'null' else case.truth)
    truth = np.sign(bold_truth) * size * np.where(discordant, -1, 1) * (case.truth != 'null')
    error = case.noise * np.exp(0.2 * rng.standard_normal(n))
    bold = Estimate.of(bold_truth + 0.25 * noise_map(rng, case.fwhm), 0.25**2)
    change = Estimate.of(truth + error * noise_map(rng, case.fwhm), error**2)
    return bold, change, truth, bold_truth


def run_seed(case, seed, blocks):
    """Label one participant and estimate its discordance; compare with the truth."""
    bold, change, truth, bold_truth = simulate(case, seed)
    everywhere = np.ones(truth.size, bool)
    gate = bold_gate(bold, q=0.05, mask=everywhere)
    sign = label_by_sign(bold.value, change.value, gate, everywhere)
    robust = label_robust(bold, change, gate, everywhere, level=0.05)
    decided = (robust >= 1) & (robust <= 4)
    wrong = np.sign(change.value) != np.sign(truth)
    found = estimate_discordance(
        (np.sign(bold.value) * change.value)[gate],
        np.sqrt(change.variance)[gate],
        smallest_effect=SMALLEST,
        blocks=blocks[gate],
    )
    # the truth of this participant: changed, gated voxels
    changed = gate & (np.abs(truth) > SMALLEST)
    opposite = np.sign(truth) != np.sign(bold_truth)
    share = float(opposite[changed].mean()) if changed.any() else float('nan')
    covered = found.count.low - 1e-3 <= share <= found.count.high + 1e-3
    if case.truth == 'null':
        covered = np.isnan(found.count.value) or found.null.high == 1.0
    return {
        'bias': found.count.value - share,
        'location_bias': found.location_fraction - share,
        'covered': bool(covered),
        'defined': bool(np.isfinite(found.count.value)),
        'width': found.count.high - found.count.low,
        'contains_0': bool(found.count.low <= 1e-3),
        'sign_share': found.sign_fraction,
        'noise_only': found.noise_only_fraction,
        'sign_wrong': float(wrong[(sign >= 1) & (sign <= 4)].mean()),
        'robust_wrong': float(wrong[decided].mean()) if decided.any() else float('nan'),
        'robust_n': int(decided.sum()),
        'robust_wrong_n': int((wrong & decided).sum()),
        'decided': float(decided.sum() / gate.sum()),
    }


def summarise(case, rows):
    """Collapse the seeds of a case."""

    def mean(key):
        values = np.array([row[key] for row in rows], float)
        return float(np.nanmean(values)) if np.isfinite(values).any() else float('nan')

    n_decided = sum(row['robust_n'] for row in rows)
    n_wrong = sum(row['robust_wrong_n'] for row in rows)
    return {
        'shape': case.shape,
        'truth': case.truth,
        'noise': case.noise,
        'fwhm': case.fwhm,
        'seeds': len(rows),
        **{
            key: mean(key)
            for key in (
                'bias', 'location_bias', 'covered', 'defined', 'width', 'contains_0',
                'sign_share', 'noise_only', 'sign_wrong', 'decided',
            )
        },
        'robust_wrong': n_wrong / n_decided if n_decided else float('nan'),
    }  # fmt: skip


def verdict(row):
    """Hold a row to its bars."""
    if row['truth'] == 'null':
        return row['covered'] >= 0.9 and row['decided'] <= 0.05
    good = abs(row['bias']) <= BARS[row['noise']] and row['covered'] >= 0.9
    good &= not row['robust_wrong'] > 0.05
    return good and (row['truth'] != 0 or row['contains_0'] >= 0.9)


def as_line(row):
    """Format a row for the table of the documentation."""

    def number(key, digits=3):
        return '–' if np.isnan(row[key]) else f'{row[key]:.{digits}f}'

    truth = row['truth'] if row['truth'] == 'null' else f'{row["truth"]:.1f}'
    cells = [
        row['shape'], truth, f'{row["noise"]:g}', 'yes' if row['fwhm'] else 'no',
        number('bias'), number('location_bias'), f'{100 * row["covered"]:.0f}',
        number('width', 2), number('sign_share', 2), number('noise_only', 2),
        number('sign_wrong', 2), number('robust_wrong'), number('decided'),
    ]  # fmt: skip
    return '| ' + ' | '.join(cells) + ' |'


HEADER = (
    '| effects | discordant | noise | correlated | bias of pi_d | bias, grid | covered % | width '
    '| sign rule | noise only | sign rule wrong | robust wrong | robust decided |\n'
    '|' + '---|' * 13
)


def main() -> None:
    """Run the study and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--json', type=Path, help='write the rows here too')
    arguments = parser.parse_args()
    start = time.perf_counter()
    points = np.indices((SIDE, SIDE, SIDE)).reshape(3, -1).T
    blocks = spatial_blocks(points, side=3 * FWHM)
    table = []
    print(HEADER)
    for shape, truth, noise, fwhm in itertools.product(SHAPES, TRUTHS, NOISES, (0.0, FWHM)):
        case = Case(shape, truth, noise, fwhm)
        if truth == 'null' and shape == SHAPES[1]:
            continue
        rows = [run_seed(case, seed, blocks) for seed in range(arguments.seeds)]
        table.append({**summarise(case, rows), 'passed': None})
        table[-1]['passed'] = bool(verdict(table[-1]))
        print(as_line(table[-1]) + ('' if table[-1]['passed'] else ' MISSED'), flush=True)
    missed = sum(not row['passed'] for row in table)
    print(f'{len(table)} cases, {missed} missed, {time.perf_counter() - start:.0f} s')
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + '\n', 'utf-8')


if __name__ == '__main__':
    main()
