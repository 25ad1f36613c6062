"""
Simulate groups of realistic size and ask what share of oxygen metabolism opposes BOLD.

Runs in pieces: every cell of the study is a line of JSON that is appended to a file, cells that
are there already are not run again, and the table is made from the file.
"""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from bids_app.group.shares import (
    common_offsets,
    leave_out,
    sign_flip_probability,
    sign_flip_products,
)
from bids_app.group.statistics import random_effects, weigh_participants
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.discordance import estimate_discordance
from bids_app.models.concordance.labels import (
    Label,
    discordance_probability,
    gate_by_probability,
    label_by_posterior,
    label_robust,
)
from bids_app.models.estimate import Estimate

SIDE = 24
"""Voxels per edge of the simulated tissue."""
GROUP_ERROR = 3.3
"""Standard error of the group at 40 participants, percent of the baseline."""
BETWEEN = 5.0
"""Standard deviation between participants, percent of the baseline."""
SIZE = 4.0
"""Mean size of the true changes, percent of the baseline."""
SMALLEST = 1.0
"""Smallest change of interest, percent of the baseline."""
TRUTHS = ('null', 'none', '10 %', '40 %')
SHARES = {'none': 0.0, '10 %': 0.1, '40 %': 0.4}
VARIANTS = (
    'plain', 'misregistered', 'errors x 0.8', 'errors x 1.25', 't4', 'uneven', 'wide noise',
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One row of the study."""

    truth: str
    offset: float
    variant: str
    n: int

    @property
    def fwhm(self):
        """Width of the noise, voxels."""
        return 6.0 if self.variant == 'wide noise' else 2.5


def field(rng, fwhm):
    """Draw a standard normal field, correlated over space."""
    values = gaussian_filter(rng.standard_normal((SIDE,) * 3), fwhm / 2.3548, mode='wrap')
    return (values - values.mean()) / values.std()


def truth_of(rng, cell):
    """Make the true BOLD and CMRO2 changes: patches of both signs, opposition in patches."""
    bold = np.where(field(rng, 5.0) > -0.35, 1.0, -1.0) * rng.uniform(0.3, 1.2, (SIDE,) * 3)
    if cell.truth == 'null':
        return bold, np.zeros((SIDE,) * 3)
    # sizes of a gamma distribution: neither a point mass nor a normal
    size = SIZE * rng.gamma(2.0, 0.5, (SIDE,) * 3)
    opposed = field(rng, 4.0)
    opposed = opposed < np.quantile(opposed, SHARES[cell.truth])
    return bold, np.sign(bold) * size * np.where(opposed, -1.0, 1.0)


def noise_of(rng, cell):
    """Draw the noise of one participant, standard deviation 1."""
    noise = field(rng, cell.fwhm)
    if cell.variant == 't4':
        # t with 4 degrees of freedom has a variance of 2
        noise = noise / np.sqrt(rng.chisquare(4, noise.shape) / 4) / np.sqrt(2)
    return noise


def simulate(rng, cell):
    """Make a study: changes of all participants with stated variances, the truth, as placed."""
    bold, change = truth_of(rng, cell)
    within = np.sqrt(40 * GROUP_ERROR**2 - BETWEEN**2)
    uneven = cell.variant == 'uneven'
    voxel = np.exp(rng.normal(0, 0.35 if uneven else 0.15, (SIDE,) * 3))
    voxel /= np.sqrt(np.mean(voxel**2))
    stated = {'errors x 0.8': 0.8, 'errors x 1.25': 1.25}.get(cell.variant, 1.0)
    bolds, values, variances = [], [], []
    placed = np.zeros((2, *bold.shape))
    for _ in range(cell.n):
        level = np.exp(rng.normal(0, 0.7 if uneven else 0.25))
        level *= np.exp(-(0.7**2 if uneven else 0.25**2))
        error = within * level * voxel
        place = rng.uniform(-1, 1, (2, 3)) if cell.variant == 'misregistered' else np.zeros((2, 3))
        seen = [shift(one, by, order=1, mode='wrap') if by.any() else one
                for one, by in zip((bold, change), place, strict=True)]  # fmt: skip
        placed += np.stack(seen) / cell.n
        own = rng.normal(cell.offset, 2.0) if cell.offset else 0.0
        values.append(seen[1] + own + BETWEEN * field(rng, 2.0) + error * noise_of(rng, cell))
        variances.append((stated * error) ** 2)
        bolds.append(seen[0] + 0.3 * rng.standard_normal((SIDE,) * 3) + 0.2 * field(rng, 2.5))
    flat = [np.stack(one).reshape(cell.n, -1) for one in (bolds, values, variances)]
    return *flat, bold.ravel(), change.ravel(), placed.reshape(2, -1)


def run_seed(cell, seed, *, signs=False):
    """Analyse one study and compare with the truth; the two signs of BOLD apart if wanted."""
    key = [seed, cell.n, TRUTHS.index(cell.truth), int(cell.offset)]
    rng = np.random.default_rng([*key, VARIANTS.index(cell.variant)])
    bolds, values, variances, bold, change, placed = simulate(rng, cell)
    of_bold = random_effects(bolds, None)
    weighting = weigh_participants(values, variances)
    of_change = random_effects(values, variances, weighting=weighting)
    gate = gate_by_probability(of_bold.p, q=0.05, mask=np.ones(bold.size, bool))
    sign = np.sign(of_bold.effect)[gate]
    points = np.indices((SIDE,) * 3).reshape(3, -1).T
    block = spatial_blocks(points, side=3 * cell.fwhm)[gate]
    x, s = of_change.effect[gate], of_change.standard_error[gate]
    ones = np.ones(int(gate.sum()))
    offsets = common_offsets([(values[:, gate], ones)])
    products = sign_flip_products(values[:, gate], offsets[:, None] * ones, weighting.participants)
    p = sign_flip_probability(products, rng=rng)
    effects, errors = leave_out(
        values[:, gate], variances[:, gate], weighting, np.ones((cell.n, 1))
    )
    left_out = list(zip(effects, errors, strict=True))
    true = (np.sign(bold) * change)[gate]
    blurred = (np.sign(placed[0]) * placed[1])[gate]
    row = {'p': p, 'gated': int(gate.sum())}
    rest = cell.offset and [(one - cell.offset, two) for one, two in left_out]
    for name, chosen in (('all', sign != 0), ('up', sign > 0), ('down', sign < 0)):
        t = true[chosen]
        at = {'smallest_effect': SMALLEST, 'blocks': block[chosen]}
        start = time.perf_counter()
        found = estimate_discordance(
            (sign * x)[chosen],
            s[chosen],
            direction=sign[chosen] if name == 'all' else None,
            left_out=aligned(left_out, sign, chosen),
            withheld='no change beyond an offset' if p > 0.05 else '',
            intervals=('count', 'size'),
            **at,
        )
        row[name] = {
            'w': opposed_share(t),
            'w_placed': opposed_share(blurred[chosen]),
            'pi': float(np.mean(t[np.abs(t) > SMALLEST] < 0)) if t.any() else None,
            'size': [found.size.value, found.size.low, found.size.high],
            'count': [found.count.value, found.count.low, found.count.high],
            'sign_rule': found.sign_fraction,
            'reason': found.reason,
            'seconds': round(time.perf_counter() - start, 2),
        }
        if name == 'all':
            row['labels'] = count_labels(x, s, sign, true, found.prior)
        if cell.offset:
            # the point of the offset curve at the true offset
            shifted = estimate_discordance(
                (sign * (x - cell.offset))[chosen],
                s[chosen],
                left_out=aligned(rest, sign, chosen),
                intervals=('size',),
                **at,
            )
            row[name]['at_offset'] = [shifted.size.value, shifted.size.low, shifted.size.high]
        if not signs:
            break
    return row


def opposed_share(change):
    """Share of the total change that is negative."""
    return float(np.maximum(-change, 0).sum() / np.abs(change).sum()) if change.any() else None


def aligned(samples, sign, chosen):
    """Give the samples of a jackknife the sign of BOLD."""
    return [((sign * one)[chosen], two[chosen]) for one, two in samples]


def count_labels(x, s, sign, true, prior):
    """Count decided voxels and wrong ones, of the posterior and of the symmetric rule."""
    everywhere = np.ones(x.size, bool)
    bold, change = Estimate.of(sign, 1e-6), Estimate.of(x, s**2)
    given = (bold, change, everywhere, everywhere)
    labels, expected = label_by_posterior(*given, level=0.05, prior=prior)
    result = {'expected_wrong': expected}
    wrong = (sign * x < 0) != (true < 0)
    wrong |= true == 0
    for name, codes in (('posterior', labels), ('symmetric', label_robust(*given, level=0.05))):
        decided = (codes >= Label.CONCORDANT_POSITIVE) & (codes <= Label.DISCORDANT_NEGATIVE)
        result[f'{name}_decided'] = int(decided.sum())
        result[f'{name}_wrong'] = int((decided & wrong).sum())
    probability = discordance_probability(*given, prior=prior)
    bins = np.minimum((probability * 10).astype(int), 9)
    opposed = true < 0
    result['reliability'] = [
        [int(here.sum()), float(probability[here].sum()), int(opposed[here].sum())]
        for here in (bins == k for k in range(10))
    ]
    return result


def cells(offset_variants=False):
    """List the cells of the study."""
    listed = []
    for n in (40, 20, 10):
        for truth in TRUTHS:
            listed += [Cell(truth, offset, 'plain', n) for offset in (0.0, 2.0)]
            for variant in VARIANTS[1:]:
                listed += [Cell(truth, 0.0, variant, n)]
                listed += [Cell(truth, 2.0, variant, n)] if offset_variants else []
    return listed


def run(path, wanted, seeds, *, signs):
    """Run what the file does not hold yet, seed by seed over all cells."""
    done = set()
    if path.exists():
        lines = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
        done = {(Cell(**line['cell']), line['seed']) for line in lines}
    for seed in seeds:
        for cell in wanted:
            if (cell, seed) in done:
                continue
            line = {'cell': asdict(cell), 'seed': seed, **run_seed(cell, seed, signs=signs)}
            with path.open('a', encoding='utf-8') as stream:
                stream.write(json.dumps(line) + '\n')


def main() -> None:
    """Run a piece of the study, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('path', type=Path, help='file of results, one line per study')
    parser.add_argument('--seeds', type=int, nargs=2, default=(0, 4), metavar=('FROM', 'TO'))
    parser.add_argument('--participants', type=int, nargs='+', default=[40, 20, 10])
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument('--offsets', type=float, nargs='+', default=[0.0, 2.0])
    parser.add_argument('--truths', nargs='+', choices=TRUTHS, default=list(TRUTHS))
    parser.add_argument('--signs', action='store_true', help='BOLD up and down too')
    parser.add_argument('--offset-variants', action='store_true', help='offset in every variant')
    parser.add_argument('--table', action='store_true', help='print the table, run nothing')
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.path)
        return
    wanted = [
        cell
        for cell in cells(arguments.offset_variants)
        if cell.n in arguments.participants
        and cell.variant in arguments.variants
        and cell.truth in arguments.truths
        and cell.offset in arguments.offsets
    ]
    run(arguments.path, wanted, range(*arguments.seeds), signs=arguments.signs)


def print_table(path):
    """Print one line of the table per cell."""
    lines = [json.loads(line) for line in path.read_text('utf-8').splitlines()]
    by_cell = {}
    for line in lines:
        by_cell.setdefault(Cell(**line['cell']), []).append(line)
    print(HEADER)
    for cell in cells(offset_variants=True):
        if cell in by_cell:
            print(as_line(cell, by_cell[cell]))
    changed = [
        rows
        for cell, rows in by_cell.items()
        if cell.variant == 'plain' and not cell.offset and cell.truth != 'null'
    ]
    print_reliability([row for rows in changed for row in rows])


def print_reliability(rows):
    """Print how often voxels oppose BOLD where the posterior says so."""
    bins = np.sum([row['labels']['reliability'] for row in rows], axis=0)
    print('\n| posterior | voxels | mean posterior | truly opposite |\n|---|---|---|---|')
    for number, (voxels, posterior, opposite) in enumerate(bins):
        if voxels:
            low, high = number / 10, (number + 1) / 10
            shares = f'{posterior / voxels:.3f} | {opposite / voxels:.3f}'
            print(f'| {low:.1f} to {high:.1f} | {voxels:.0f} | {shares} |')


HEADER = (
    '| truth | offset | variant | N | studies | withheld | w_d bias | w_d covers | bias as placed '
    '| covers as placed | w_d width | pi_d covers | pi_d width | w_d at the offset covers '
    '| decided | wrong | expected wrong |\n|' + '---|' * 17
)


def as_line(cell, rows):
    """Format the studies of a cell."""
    found = [row['all'] for row in rows if not row['all']['reason']]
    withheld = 1 - len(found) / len(rows)

    def mean(values, digits=2):
        known = [value for value in values if value is not None and np.isfinite(value)]
        return f'{np.mean(known):.{digits}f}' if known else '–'

    def covers(one, key, truth):
        value, low, high = one[key]
        if one[truth] is None or not np.isfinite(value):
            return None
        return low - 1e-3 <= one[truth] <= high + 1e-3

    defined = [one for one in found if one['w'] is not None]
    at_offset = [row['all'] for row in rows if 'at_offset' in row['all']]
    labels = [row['labels'] for row in rows]
    n_decided = sum(one['posterior_decided'] for one in labels)
    n_wrong = sum(one['posterior_wrong'] for one in labels)
    expected = sum(one['expected_wrong'] for one in labels)
    n_gated = sum(row['gated'] for row in rows)
    cells_ = [
        cell.truth, f'{cell.offset:g} %', cell.variant, str(cell.n), str(len(rows)),
        f'{100 * withheld:.0f} %',
        mean([one['size'][0] - one['w'] for one in defined], 3),
        mean([covers(one, 'size', 'w') for one in found]),
        mean([one['size'][0] - one['w_placed'] for one in defined], 3),
        mean([covers(one, 'size', 'w_placed') for one in defined]),
        mean([one['size'][2] - one['size'][1] for one in found]),
        mean([covers(one, 'count', 'pi') for one in found]),
        mean([one['count'][2] - one['count'][1] for one in found]),
        mean([covers(one, 'at_offset', 'w') for one in at_offset]),
        f'{100 * n_decided / n_gated:.1f} %',
        f'{100 * n_wrong / n_decided:.1f} %' if n_decided else '–',
        f'{100 * expected / n_decided:.1f} %' if n_decided else '–',
    ]  # fmt: skip
    return '| ' + ' | '.join(cells_) + ' |'


if __name__ == '__main__':
    main()
