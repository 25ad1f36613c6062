"""
Change of CMRO2, levels and alignment of digital participants against truth, beside a bar.

``python benchmarks/participant_truth.py`` makes a coarse participant and runs the app on it (4
minutes of processor time); with two folders it judges what is there: the phantom, the output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
from scipy import ndimage

from bids_app.images import load_affine
from bids_app.models.concordance.labels import LABEL_NAMES, Label
from bids_app.models.contrast.difference import z_score
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.regions import summarise_regions

GREY, FLUID = 0.8, 0.05
"""Voxels count above and below these true fractions."""
ANY_GREY = 0.5
"""Voxels of a parcel, as the app counts them."""
REGIONS = np.arange(1, 5)
"""True regions with a change."""
MOST = 0.5
"""Share of a parcel that lies in them."""
QUANTILE = 1.959964
UP = (Label.CONCORDANT_POSITIVE, Label.DISCORDANT_NEGATIVE)
DOWN = (Label.DISCORDANT_POSITIVE, Label.CONCORDANT_NEGATIVE)
"""Labels that decide the sign of the change of CMRO2."""


def read(folder: Path, pattern: str) -> np.ndarray:
    """Read the one image of a participant."""
    (path,) = folder.glob(pattern)
    return np.asarray(nb.load(path).dataobj, float)


def score(sign: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Count regions decided right, decided wrong, and all."""
    decided = sign != 0
    right = decided & (sign == np.sign(truth))
    return int(right.sum()), int((decided & ~right).sum()), truth.size


def regions(estimate: Estimate, truth: np.ndarray, region: np.ndarray, shared: float):
    """Decide every true region with a change by its mean and standard error."""
    own = summarise_regions(estimate, region, REGIONS, voxels_per_sample=shared)
    known = np.isfinite(estimate.value)
    means = np.array([truth[known & (region == number)].mean() for number in REGIONS])
    z = own['mean'] / own['se']
    return score(np.where(np.abs(z) > QUANTILE, np.sign(z), 0), means)


def parcels(table: pd.DataFrame, truth: np.ndarray, atlas: np.ndarray, region: np.ndarray):
    """Score the labels of the app's own table, of parcels that lie mostly where D changes."""
    rows = table[(table['level'] == 'parcel') & (table['quantity'] == 'cmro2')]
    changed = {number: np.mean(np.isin(region[atlas == number], REGIONS))
               for number in np.unique(atlas)}  # fmt: skip
    rows = rows[[changed.get(number, 0) > MOST for number in rows['index']]]
    means = np.array([truth[atlas == number].mean() for number in rows['index']])
    up, down = (rows['label'].isin([LABEL_NAMES[code] for code in codes]) for codes in (UP, DOWN))
    return score(up.to_numpy(int) - down.to_numpy(int), means)


def judge(truth_of: Path, own: Path) -> bool:
    """Print all contrasts of one participant; True where every bar is met."""
    met = []
    for path in sorted(
        own.glob('perf/*space-MESE_contrast-*_stat-effect_desc-cmro2_statmap.json')
    ):
        label = path.name.split('contrast-')[1].split('_')[0]
        name = f'perf/*_space-MESE_contrast-{label}_stat-{{}}_desc-cmro2_statmap.nii.gz'
        truth = read(truth_of, name.format('effect'))
        effect, variance = (read(own, name.format(part)) for part in ('effect', 'variance'))
        grey = read(truth_of, 'anat/*_space-MESE_label-GM_probseg.nii.gz')
        fluid = read(truth_of, 'anat/*_space-MESE_label-CSF_probseg.nii.gz')
        both = np.isfinite(truth) & np.isfinite(effect)
        clear, wide = both & (grey > GREY) & (fluid < FLUID), both & (grey > ANY_GREY)
        z = z_score(Estimate.of((effect - truth)[clear], variance[clear]))
        covered, spread = np.mean(np.abs(z) < QUANTILE), z.std()
        shared = json.loads(path.read_text('utf-8')).get('VoxelsPerNoiseSample', 1.0)
        estimate = Estimate.of(effect[wide], variance[wide])
        region = read(truth_of, 'anat/*_space-MESE_desc-regions_dseg.nii.gz')
        atlas = read(own, 'anat/*_space-MESE_atlas-*_dseg.nii.gz')
        (table,) = own.glob(f'*_contrast-{label}_desc-summary_regions.tsv')
        by_region = regions(estimate, truth[wide], region[wide], shared)
        by_parcel = parcels(pd.read_csv(table, sep='\t'), truth[wide], atlas[wide], region[wide])
        checks = [
            (f'95 % intervals of D cover, {z.size} voxels', covered, '.93-.97',
             0.93 <= covered <= 0.97),
            ('SD of z of D', spread, '.9-1.1', 0.9 <= spread <= 1.1),
        ]  # fmt: skip
        right, wrong, count = by_region
        checks += [
            (f'{count} true regions: decided, right sign', right / count, '>= .8',
             right >= 0.8 * count),
            (f'{count} true regions: decided, wrong sign', wrong, '0', wrong == 0),
        ]  # fmt: skip
        sys.stdout.write(f'{own.name} {label}\n')
        for what, value, bar, is_met in checks:
            sys.stdout.write(
                f'  {what:44s} {value:6.3f}  {bar:8s} {"met" if is_met else "NOT MET"}\n'
            )
        right, wrong, count = by_parcel
        sys.stdout.write(
            f'  {count} parcels of the table of the app: {right} right, {wrong} wrong, '
            f'{count - right - wrong} not decided\n'
        )
        met += [is_met for *_, is_met in checks]
    return bool(met) and all(met)


def residual(pose: list, found: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points (V, 3) of the T1w image end up by the transform found and the true one back."""
    there = np.c_[points, np.ones(len(points))] @ (np.array(pose) @ found).T
    return there[:, :3]


def aligned(truth_of: Path, own: Path) -> bool:
    """Print how far every scan lies from the quantification grid (MESE), mean over the brain."""
    (parameters,) = truth_of.glob('*_desc-truth_parameters.json')
    poses = json.loads(parameters.read_text('utf-8'))['ToT1w']
    (mask,) = own.glob('anat/*_space-MESE_desc-brain_mask.nii.gz')
    image = nb.load(mask)
    inside = np.argwhere(np.asarray(image.dataobj) > 0)[::29]
    points = nb.affines.apply_affine(image.affine, inside)
    found = {}
    for path in sorted(own.glob('anat/*_to-T1w_mode-image_xfm.txt')):
        scan = path.name.split('_from-')[1].split('_')[0].replace('boldref', 'BOLD')
        task = path.name.split('_task-')[1].split('_')[0] if '_task-' in path.name else None
        name = scan if scan in poses else f'{scan}_{task}'
        if name in poses:
            found[name] = residual(poses[name], load_affine(path), points)
    sys.stdout.write(f'{own.name} misalignment with MESE (with the T1w image), mm\n')
    met = []
    for name, there in found.items():
        scan = name.split('_')[0]
        (reference, *_) = own.rglob(f'*_space-{scan}_desc-reference_*.nii.gz')
        bar = max(*nb.load(reference).header.get_zooms()[:3], *image.header.get_zooms()[:3]) / 2
        between, from_t1w = (
            float(np.linalg.norm(there - other, axis=1).mean())
            for other in (found['MESE'], points)
        )
        met.append(between < bar)
        sys.stdout.write(
            f'  {name:15s} {between:6.2f} ({from_t1w:.2f})  below {bar:.2f}, half a voxel of the '
            f'coarser  {"met" if met[-1] else "NOT MET"}\n'
        )
    return bool(met) and all(met)


LEVELS = {
    # quantity of the truth: folder, name of the variance, bar of the bias in %, of the coverage
    'T2map': ('anat', 'T2', 0.5, None),
    'T2starmap': ('anat', 'T2star', 0.5, None),
    'R2primemap': ('anat', 'R2prime', 1.5, 0.92),
    'desc-dsc_cbv': ('perf', 'cbv', 2.5, 0.92),
    'cbf': ('perf', 'cbf', 2.0, 0.92),
    'oef': ('perf', 'oef', 2.0, 0.92),
    'cmro2': ('perf', 'cmro2', 2.5, 0.92),
    'desc-boldPct_statmap': ('func', 'boldPct', 3.0, 0.92),
    'desc-cmro2_statmap': ('perf', 'cmro2', None, 0.92),
}
"""Last the changes; of D, the change of CMRO2, only the coverage has a bar."""
MOST_COVERED, COVERED_NEAR_FLUID = 0.97, 0.90
NEAR_FLUID, SOME_FLUID = 4.0, 0.5
"""mm from voxels with more than this fraction of fluid."""
FEWEST = 500
SOME_BOLD = 0.15
"""%, from which on a change of BOLD counts."""


def maps_of(truth_of: Path, own: Path):
    """Name, truth, value and variance of every map that both have."""
    for suffix, (folder, name, *bars) in LEVELS.items():
        for path in sorted(truth_of.glob(f'{folder}/*_space-MESE_*{suffix}.nii.gz')):
            is_change = '_contrast-' in path.name
            if is_change != suffix.endswith('statmap') or 'desc-tissue' in path.name:
                continue
            label = path.name.removeprefix(f'{own.name}_').replace('space-MESE_', '')
            stem = path.name.removesuffix(f'_{suffix}.nii.gz').removesuffix('_stat-effect')
            found = own / folder / path.name
            variance = own / folder / f'{stem}_stat-variance_desc-{name}_statmap.nii.gz'
            if found.exists() and variance.exists():
                images = [np.asarray(nb.load(p).dataobj, float) for p in (path, found, variance)]
                yield label.removesuffix('.nii.gz'), *images, *bars


def levels(truth_of: Path, own: Path) -> bool:
    """Print bias and coverage in grey matter; True where every bar is met."""
    (path,) = truth_of.glob('anat/*_space-MESE_label-GM_probseg.nii.gz')
    image = nb.load(path)
    fraction = np.asarray(image.dataobj, float)
    grey = fraction > GREY
    grey = grey if grey.sum() >= FEWEST else fraction > ANY_GREY
    fluid = read(truth_of, 'anat/*_space-MESE_label-CSF_probseg.nii.gz') > SOME_FLUID
    distance = ndimage.distance_transform_edt(~fluid, sampling=image.header.get_zooms()[:3])
    met = []
    for label, truth, value, variance, bias_bar, coverage_bar in maps_of(truth_of, own):
        known = grey & np.isfinite(truth) & np.isfinite(value) & (variance > 0)
        parts = {'': known}
        if 'boldPct' in label:
            parts = {' up': known & (truth > SOME_BOLD), ' down': known & (truth < -SOME_BOLD)}
        for part, inside in parts.items():
            error = value[inside] - truth[inside]
            z = np.abs(error) / np.sqrt(variance[inside])
            near = distance[inside] < NEAR_FLUID
            covered, beside = (
                np.sum(item < QUANTILE) / max(item.size, 1) for item in (z, z[near])
            )
            level = np.median(truth[inside]) if bias_bar is not None else np.nan
            bias = 100 * np.median(error) / abs(level)
            good = bias_bar is None or abs(bias) <= bias_bar
            if coverage_bar is not None:
                good &= coverage_bar <= covered <= MOST_COVERED and (
                    beside >= COVERED_NEAR_FLUID or not near.any()
                )
            met.append(good)
            sys.stdout.write(
                f'  {label + part:58s} {inside.sum():6d} voxels: bias {bias:+6.2f} %, covered '
                f'{covered:.3f}, near fluid {beside:.3f}  {"met" if good else "NOT MET"}\n'
            )
    return bool(met) and all(met)


def make(folder: Path, seed: int) -> list[Path]:
    """Make a participant and run the app on it."""
    raw, out = folder / 'raw', folder / 'out'
    for command in (
        ['bids_app.phantom.cli', raw, '--grid', 'coarse', '--participants', '1', '--seed', seed],
        ['bids_app', raw, out, 'participant'],
    ):
        subprocess.run([sys.executable, '-m', *map(str, command)], check=True)
    return [raw, out]


PARTS = (judge, levels, aligned)


def main() -> None:
    """Judge every participant of the phantom; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folders', type=Path, nargs='*', help='the phantom, output of the app')
    parser.add_argument('--seed', type=int, default=3, help='of the participant that is made')
    options = parser.parse_args()
    if len(options.folders) not in {0, 2}:
        parser.error('expected no folder or two: the phantom and the output of the app')
    with tempfile.TemporaryDirectory() as folder:
        raw, out = options.folders or make(Path(folder), options.seed)
        truths = sorted((raw / 'derivatives' / 'truth').glob('sub-*'))
        results = [part(truth, out / truth.name) for truth in truths for part in PARTS]
    sys.exit(int(not all(results)))


if __name__ == '__main__':
    main()
