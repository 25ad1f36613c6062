"""Speed, memory and error rates of the group level on simulated studies; prints rows."""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ.setdefault(name, '1')

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.group.effects import _partial_least_squares
from bids_app.group.permutation import max_statistic
from bids_app.group.shares import leave_out
from bids_app.group.statistics import (
    random_effects,
    weigh_participants,
)
from bids_app.group.stream import Stack, stack_effects
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.models.concordance.epp2025 import (
    describe_voxels,
    label_by_consistency,
    label_by_medians,
    label_by_ttests,
)
from bids_app.models.concordance.labels import (
    Label,
    estimate_shares,
    gate_by_probability,
    label_robust,
)
from bids_app.models.concordance.pls import keep_clusters, mean_centred_pls
from bids_app.settings import GroupSettings, Settings

SIDE = 22
"""Voxels per edge of the simulated tissue."""
FWHM = 2.5
"""Of the noise, voxels."""
SMALLEST = 1.3
"""Smallest CMRO2 change of interest, umol/100 g/min: 1 % of a baseline of 130."""
CASES = ('null', 0.0, 0.1, 0.4)
"""No change of CMRO2 anywhere, or the share of its changes that are opposite to BOLD."""


def noise_maps(rng, n, fwhm=FWHM):
    """Draw correlated standard normal noise, a map per participant."""
    maps = rng.standard_normal((n, SIDE, SIDE, SIDE))
    for one in maps:
        one[...] = gaussian_filter(one, fwhm / np.sqrt(8 * np.log(2)), mode='wrap')
    maps /= maps.std()
    return maps.reshape(n, -1)


def draw_truth(rng, discordant):
    """Give the true group changes: patches of BOLD of both signs, CMRO2 of 3 to 12 units."""
    bold = rng.choice([-1.0, 1.0], SIDE**3) * rng.uniform(0.3, 1.2, SIDE**3)
    if discordant == 'null':
        return bold, np.zeros(SIDE**3)
    size = rng.uniform(3.0, 12.0, SIDE**3)
    opposite = rng.random(SIDE**3) < discordant
    return bold, np.sign(bold) * size * np.where(opposite, -1.0, 1.0)


def simulate(rng, n, discordant):
    """Make the participants of a study: changes with their random variances, and the truth."""
    bold, change = draw_truth(rng, discordant)
    level = np.exp(rng.normal(0, 0.25, (n, 1)))
    error = 18.0 * level * np.exp(rng.normal(0, 0.15, SIDE**3))
    between = 4.0 * rng.standard_normal((n, SIDE**3))
    measured = change + between + error * noise_maps(rng, n)
    of_bold = bold + 0.3 * rng.standard_normal((n, SIDE**3)) + 0.2 * noise_maps(rng, n)
    return (of_bold, np.full_like(of_bold, 0.04)), (measured, error**2), bold, change


def group_of(effects, variances):
    """Estimate a moderated group mean with its weighting."""
    weighting = weigh_participants(effects, variances)
    return random_effects(effects, variances, weighting=weighting), weighting


def run_seed(seed, n, discordant, blocks):
    """Label one study by every rule, estimate pi_d with its interval; compare with the truth."""
    rng = np.random.default_rng([seed, n, 0 if discordant == 'null' else int(100 * discordant)])
    bold_data, change_data, bold, change = simulate(rng, n, discordant)
    of_bold, _ = group_of(*bold_data)
    of_change, weighting = group_of(*change_data)
    everywhere = np.ones(bold.size, bool)
    gate = gate_by_probability(of_bold.p, q=0.05, mask=everywhere)
    table = describe_voxels(bold_data[0], change_data[0])
    labels = {
        'sign': label_by_medians(table, gate, everywhere),
        'ttest': label_by_ttests(table, everywhere),
        'consistency': label_by_consistency(
            table.bold_mean, table.n_signs, table.n_concordant, gate
        ),
        'robust': label_robust(
            of_bold.as_estimate, of_change.as_estimate, gate, everywhere, level=0.05
        ),
    }
    estimate = estimate_shares(
        of_bold.as_estimate,
        of_change.as_estimate,
        gate,
        everywhere,
        smallest_effect=SMALLEST,
        blocks=blocks,
        left_out=list(zip(*leave_out(*change_data, weighting, np.ones((n, 1))), strict=True)),
    )['all', 'all'].count
    changed = gate & (np.abs(change) > SMALLEST)
    opposite = np.sign(change) != np.sign(bold)
    share = float(opposite[changed].mean()) if changed.any() else float('nan')
    result = {
        'share': share,
        'bias': estimate.value - share,
        'covered': bool(estimate.low - 1e-3 <= share <= estimate.high + 1e-3),
        'contains_0': bool(estimate.low <= 1e-3),
        'undefined': bool(np.isnan(estimate.value)),
        'width': float(estimate.high - estimate.low),
    }
    for rule, codes in labels.items():
        decided = (codes >= Label.CONCORDANT_POSITIVE) & (codes <= Label.DISCORDANT_NEGATIVE)
        wrong = np.sign(of_change.effect) != np.sign(change)
        n_decided = int(decided.sum())
        opposed = (codes == Label.DISCORDANT_POSITIVE) | (codes == Label.DISCORDANT_NEGATIVE)
        result[f'{rule}_decided'] = n_decided / max(int(gate.sum()), 1)
        result[f'{rule}_wrong'] = float(wrong[decided].mean()) if n_decided else 0.0
        result[f'{rule}_discordant'] = opposed.sum() / n_decided if n_decided else float('nan')
    return result


def error_rates(seeds, sizes, cases=CASES):
    """Labels and pi_d of studies of 10, 20 and 40 participants."""
    points = np.indices((SIDE, SIDE, SIDE)).reshape(3, -1).T
    blocks = spatial_blocks(points, side=2 * FWHM)
    table = []
    for n in sizes:
        for discordant in cases:
            found = [run_seed(seed, n, discordant, blocks) for seed in seeds]
            row = {'participants': n, 'discordant': discordant, 'seeds': len(found)}
            for key in found[0]:
                values = np.array([one[key] for one in found], float)
                row[key] = float(np.nanmean(values)) if np.isfinite(values).any() else None
            table.append(row)
            shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
            print(shown, flush=True)
    return table


def family_wise(seeds, n_voxels=5000, n=20):
    """Share of null studies with any voxel below a family-wise p of 5 %."""
    hits = 0
    for seed in range(seeds):
        rng = np.random.default_rng([7, seed])
        level = np.exp(rng.normal(0, 0.25, (n, 1)))
        data = level * noise_maps(rng, n)[:, :n_voxels]
        variances = np.repeat(level**2, n_voxels, axis=1)
        found = max_statistic(
            [(data, variances)],
            weigh_participants(data, variances),
            np.ones((n, 1)),
            n_permutations=199,
            rng=rng,
        )
        hits += bool(found.p.min() <= 0.05)
    print({'family-wise error': hits / seeds, 'seeds': seeds}, flush=True)
    return hits / seeds


def bootstrap_ratio(seeds=20):
    """Compare bootstrap ratios with t sqrt(n/(n-1)), and clusters with the published limits."""
    errors = []
    for seed in range(seeds):
        rng = np.random.default_rng([9, seed])
        change = 0.3 + noise_maps(rng, 40)
        data = np.stack([np.zeros_like(change), change])
        _, ratios = mean_centred_pls(data, rng=rng, n_permutations=99)
        t = change.mean(axis=0) / (change.std(axis=0, ddof=1) / np.sqrt(40))
        errors.append(np.std(ratios[0] / (t * np.sqrt(40 / 39)) - 1))
        kept = keep_clusters(ratios[0].reshape(SIDE, SIDE, SIDE))
    measured, expected = float(np.mean(errors)), 1 / np.sqrt(2 * 3000)
    print({'sd of bsr / (t sqrt(n/(n-1)))': measured, 'expected': expected, 'kept': kept.mean()})
    return measured, expected


def write_study(folder, n):
    """Write derivatives of simulated participants on the template, one contrast."""
    import nibabel as nb

    from bids_app.bids.output.names import output_path
    from bids_app.engines.templates import SPACE, packaged_template

    template = nb.load(packaged_template('label-GM_probseg'))
    grey = np.asarray(template.dataobj, np.float32)
    brain = grey > 0.05
    rng = np.random.default_rng(1)
    patch = gaussian_filter(rng.standard_normal(grey.shape), 6)
    bold = np.sign(patch)[brain] * 0.8
    change = bold * 10 * np.where(rng.random(brain.sum()) < 0.2, -1, 1)
    noise = [gaussian_filter(rng.standard_normal(grey.shape), 1)[brain] / 0.1 for _ in range(12)]

    def image(values, key, **entities):
        path = folder / output_path(key, space=SPACE, res='2', **entities)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.full(grey.shape, np.nan, np.float32)
        data[brain] = values
        nb.Nifti1Image(data, template.affine).to_filename(path)
        about = {'Contrast': {'Task': 'calc', 'Baseline': 'control'}}
        path.with_name(path.name.replace('.nii.gz', '.json')).write_text(json.dumps(about))

    (folder / 'logs').mkdir(parents=True, exist_ok=True)
    for number in range(1, n + 1):
        sub = f'{number:03d}'
        image(grey[brain], 'probseg', sub=sub, label='GM')
        quantities = {
            'boldPct': (bold, 0.3),
            'cmro2': (change, 18.0),
            'cbf': (change / 3, 5.0),
            'oef': (-bold * 0.02, 0.05),
        }
        for quantity, (truth, error) in quantities.items():
            mixed = sum(rng.normal() * one for one in noise) / np.sqrt(len(noise))
            mixed = 0.7 * mixed + 0.7 * rng.standard_normal(mixed.shape)
            at = {'sub': sub, 'quantity': quantity, 'contrast': 'calcMinusControl'}
            at |= {'task': 'all'} if quantity == 'boldPct' else {}
            image(truth + error * mixed, 'contrast', statistic='effect', **at)
            image(error**2, 'contrast', statistic='variance', **at)
        for quantity, value in (('cmro2', 130.0), ('cbf', 45.0), ('oef', 0.4)):
            values = value * np.exp(0.1 * rng.standard_normal(brain.sum()))
            image(values, quantity, sub=sub, condition='control')
            at = {'sub': sub, 'condition': 'control', 'quantity': quantity}
            image((0.1 * value) ** 2, 'variance', **at)
        verdict = {'state': 'complete', 'exit_code': 0, 'reasons': []}
        summary = {'participant': sub, 'verdict': verdict, 'units': []}
        (folder / 'logs' / f'sub-{sub}_run_summary.json').write_text(json.dumps(summary))


def speed(counts):
    """Run the group level on studies of several sizes: wall clock and peak memory."""
    from bids_app.cli.main import main as oxybold

    rows = []
    for n in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / 'raw').mkdir()
            write_study(folder / 'out', n)
            child = os.fork()
            if child == 0:
                start = time.perf_counter()
                code = oxybold([str(folder / 'raw'), str(folder / 'out'), 'group'])
                used = resource.getrusage(resource.RUSAGE_SELF)
                row = {
                    'participants': n,
                    'exit_code': int(code),
                    'seconds': round(time.perf_counter() - start, 1),
                    'cpu_seconds': round(used.ru_utime + used.ru_stime, 1),
                    'peak_mb': round(used.ru_maxrss / 1024),
                }
                (folder / 'row.json').write_text(json.dumps(row))
                os._exit(0)
            os.waitpid(child, 0)
            rows.append(json.loads((folder / 'row.json').read_text()))
            print(rows[-1], flush=True)
    return rows


def memory(n, n_voxels=150_000):
    """Peak memory of effects, largest statistic and PLS of many participants, from a stack."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = os.fork()
        if child == 0:
            rng = np.random.default_rng(1)
            paths = [folder / 'values.f32', folder / 'variances.f32']
            with paths[0].open('wb') as values, paths[1].open('wb') as variances:
                for _ in range(n):
                    values.write(rng.standard_normal(n_voxels, np.float32).tobytes())
                    variances.write(np.ones(n_voxels, np.float32).tobytes())
            stack = Stack(
                participants=tuple(f'{number:04d}' for number in range(n)),
                n_voxels=n_voxels,
                values=paths[0],
                variances=paths[1],
            )
            start = time.perf_counter()
            stack_effects(stack)
            rows = 2 * 128 + 8 * n
            max_statistic(
                (stack.block(where) for where in stack.slices(rows)),
                weigh_participants(*stack.sample()),
                np.ones((n, 1)),
                n_permutations=99,
                rng=rng,
            )
            settings = replace(Settings(), group=GroupSettings(permutations=99, bootstraps=99))
            study = SimpleNamespace(settings=settings)
            _partial_least_squares(study, [stack], 'benchmark')
            row = {
                'participants': n,
                'voxels': n_voxels,
                'seconds': round(time.perf_counter() - start, 1),
                'peak_mb': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
            (folder / 'row.json').write_text(json.dumps(row))
            os._exit(0)
        os.waitpid(child, 0)
        row = json.loads((folder / 'row.json').read_text())
    print(row, flush=True)
    return row


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=0, help='studies per case of the error rates')
    parser.add_argument('--first-seed', type=int, default=0)
    parser.add_argument('--participants', type=int, nargs='+', default=[10, 20, 40])
    parser.add_argument('--null', action='store_true', help='error rates without any change only')
    parser.add_argument('--family-wise', type=int, default=0, help='null studies')
    parser.add_argument('--bootstrap-ratio', action='store_true')
    parser.add_argument('--speed', type=int, nargs='*', default=[], help='participants')
    parser.add_argument('--memory', type=int, nargs='*', default=[], help='participants')
    parser.add_argument('--json', type=Path, help='write the rows here')
    arguments = parser.parse_args()
    found = {}
    if arguments.seeds:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        cases = CASES[:1] if arguments.null else CASES
        found['error_rates'] = error_rates(seeds, arguments.participants, cases)
    if arguments.family_wise:
        found['family_wise'] = family_wise(arguments.family_wise)
    if arguments.bootstrap_ratio:
        found['bootstrap_ratio'] = bootstrap_ratio()
    if arguments.speed:
        found['speed'] = speed(arguments.speed)
    if arguments.memory:
        found['memory'] = [memory(n) for n in arguments.memory]
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


if __name__ == '__main__':
    main()
