"""
Perfusion against its peers: one core against one core, same data.

1. Fit of six delays with covariance against scipy's bounded curve_fit voxel by voxel.
2. Spikes in 5 % of the pairs: the plain mean, SCORE (Dolui et al. 2017) and the app's weights.
3. Real multi-delay data (asltk, MIT), where they are beside the repository.
"""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import contextlib
import sys
import time
from pathlib import Path

import nibabel as nb
import numpy as np
from scipy import ndimage
from scipy.optimize import curve_fit

from bids_app.models.asl.kinetics import predict_difference
from bids_app.models.asl.label_control import estimate_difference
from bids_app.models.asl.multi_delay import fit_multi_delay
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status

SHAPE = (64, 64, 24)
DELAYS = 0.25 * np.arange(1, 7)
LABELLING = {
    'label_duration': 1.8,
    'labeling': 'continuous',
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 1.0,
    't1_blood': 1.65,
    't1_tissue': 1.33,
    'partition_coefficient': 0.9,
}
SAMPLE = 300
"""Voxels given to curve_fit."""

ASLTK = Path(__file__).resolve().parents[2] / 'shared' / 'refs' / 'asltk'


REAL_TIMING = {
    'label_duration': np.array([0.1, 0.1, 0.15, 0.15, 0.4, 0.8, 1.8]),
    'post_label_delay': np.array([0.17, 0.27, 0.37, 0.52, 0.67, 1.07, 1.87]),
}
"""Of the real series, s."""


def compare_speed() -> None:
    """Time both fits on the same voxels; processor time, so that other jobs do not count."""
    rng = np.random.default_rng(0)
    n_voxels = int(np.prod(SHAPE))
    cbf, att = rng.uniform(20, 90, n_voxels), rng.uniform(0.4, 1.35, n_voxels)
    signal = predict_difference(
        cbf[:, None], att[:, None], 1000.0, post_label_delay=DELAYS, **LABELLING
    )
    noise = signal.max() / 20
    noisy = signal + noise * rng.standard_normal(signal.shape)

    start = time.process_time()
    made, arrival = fit_multi_delay(
        Estimate.of(noisy, noise**2),
        Estimate.of(np.full(n_voxels, 1000.0)),
        post_label_delay=DELAYS,
        n_pairs=8,
        **LABELLING,
    )
    ours = time.process_time() - start

    def predict(_, cbf, att):
        return predict_difference(cbf, att, 1000.0, post_label_delay=DELAYS, **LABELLING)

    start = time.process_time()
    peer = np.array(
        [
            curve_fit(predict, DELAYS, voxel, p0=(60, 1.2), bounds=([0, 0], [300, 5]))[0]
            for voxel in noisy[:SAMPLE]
        ]
    )
    theirs = (time.process_time() - start) / SAMPLE
    ratio = theirs / (ours / n_voxels)
    covered = [
        np.mean(np.abs(one.value - truth) < 1.96 * np.sqrt(one.variance))
        for one, truth in ((made, cbf), (arrival, att))
    ]
    agree = np.mean(np.abs(peer[:, 0] - made.value[:SAMPLE]) < 0.1)
    print(f'{n_voxels} voxels x 6 delays with covariance: {ours:.2f} s')
    print(f'curve_fit {theirs * 1e6:.0f} us per voxel: {ratio:.0f} x; {agree:.1%} agree to 0.1')
    print(f'coverage CBF {covered[0]:.3f}, arrival {covered[1]:.3f}')


def score(pairs: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """
    Discard volumes as SCORE does: our own reading of Dolui et al. 2017.

    Volumes whose grey-matter mean is off by 2.5 robust deviations go first; then, as long as the
    variance within tissues falls, the volume that correlates most with the mean map goes.
    """
    means = pairs[tissue == 1].mean(axis=0)
    spread = 1.4826 * np.median(np.abs(means - np.median(means)))
    kept = np.flatnonzero(np.abs(means - np.median(means)) <= 2.5 * spread)

    def within(chosen: np.ndarray) -> float:
        mean = pairs[:, chosen].mean(axis=1)
        return sum(mean[tissue == one].var() * (tissue == one).sum() for one in np.unique(tissue))

    while len(kept) > 2:
        mean = pairs[:, kept].mean(axis=1)
        correlation = [np.corrcoef(mean, pairs[:, one])[0, 1] for one in kept]
        fewer = np.delete(kept, np.argmax(correlation))
        if within(fewer) >= within(kept):
            break
        kept = fewer
    return pairs[:, kept].mean(axis=1)


def compare_outliers(n_seeds: int = 40, first_seed: int = 4000) -> None:
    """Error of the mean difference with spikes in 2 of 40 pairs, three kinds of spike."""
    tissue = np.repeat([1, 2, 3], [2000, 1500, 500])
    truth = np.array([6.0, 2.2, 0.0])[tissue - 1]
    n_pairs = 40
    for kind in ('noise', 'offset', 'slab'):
        errors = {'mean': [], 'SCORE': [], 'oxybold': []}
        for seed in range(first_seed, first_seed + n_seeds):
            rng = np.random.default_rng(seed)
            pairs = truth[:, None] + 5 * rng.standard_normal((len(truth), n_pairs))
            for pair in rng.choice(n_pairs, n_pairs // 20, replace=False):
                spike = {
                    'noise': 60 * rng.standard_normal(len(truth)),
                    'offset': np.full(len(truth), 60.0) * rng.choice([-1, 1]),
                    'slab': np.where(np.arange(len(truth)) % 4 == 0, 80.0, 0.0),
                }[kind]
                pairs[:, pair] += spike
            robust = estimate_difference(
                pairs, context=['deltam'] * n_pairs, robust=True, noise_groups=tissue
            )
            made = {
                'mean': pairs.mean(axis=1),
                'SCORE': score(pairs, tissue),
                'oxybold': robust.value,
            }
            for name, value in made.items():
                errors[name].append(np.sqrt(np.mean((value - truth) ** 2)))
        shown = ', '.join(f'{name} {np.mean(values):.3f}' for name, values in errors.items())
        apart = np.subtract(errors['oxybold'], errors['SCORE'])
        shown += f'; ours minus SCORE {apart.mean():+.4f} +- {apart.std() / n_seeds**0.5:.4f}'
        print(f'spikes ({kind}) in 5 % of the pairs, root mean square error: {shown}')


def fit_real_series() -> None:
    """Fit the shortest echo of a real Hadamard-encoded PCASL series."""
    if not ASLTK.is_dir():
        print('real multi-delay series: not here')
        return
    read = {name: nb.load(ASLTK / f'asltk_{name}.nii.gz').get_fdata()
            for name in ('pcasl_mte', 'm0', 'm0_brain_mask')}  # fmt: skip
    mask = read['m0_brain_mask'] > 0
    # grey matter by the second to fourth echo, whose noise the fit does not see: what is in the
    # upper of two clusters at the longest delay, without the fluid that is bright in M0
    smooth = ndimage.gaussian_filter(read['pcasl_mte'][..., 6, 1:4].mean(-1), (1, 1, 0))
    inside = ndimage.binary_erosion(mask, np.ones((3, 3, 1)), border_value=1)
    border = smooth[inside].mean()
    for _ in range(50):
        border = np.mean([smooth[inside & (smooth > border)].mean(),
                          smooth[inside & (smooth <= border)].mean()])  # fmt: skip
    fluid = read['m0'] > 1.2 * np.median(read['m0'][inside])
    grey = inside & (smooth > border) & ~fluid
    # the series holds one repetition and no segmentation: every voxel of the brain, as it is and
    # after smoothing in the slice, and the mean curve of the brain
    for title, width in (('voxels', 0.0), ('smoothed by 2 voxels', 2.0), ('mean curve', np.inf)):
        difference, m0 = read['pcasl_mte'][..., 0], read['m0']
        if np.isinf(width):
            difference, m0 = difference[mask].mean(axis=0)[None], m0[mask].mean()[None]
        else:
            sigma = (width / 2.355, width / 2.355, 0)
            inside = ndimage.gaussian_filter(mask.astype(float), sigma)[mask]
            m0 = ndimage.gaussian_filter(m0 * mask, sigma)[mask] / inside
            masked = difference * mask[..., None]
            difference = ndimage.gaussian_filter(masked, (*sigma, 0))[mask] / inside[:, None]
        cbf, att = fit_multi_delay(
            Estimate.of(difference, 1.0),
            Estimate.of(m0),
            n_pairs=1,
            **LABELLING | REAL_TIMING | {'t1_tissue': 1.607},
        )
        flagged = np.mean(att.status == Status.ARRIVAL_NOT_COVERED)
        shown = []
        for one in (cbf, att):
            quartiles = np.nanpercentile(one.value, [25, 50, 75])
            shown.append(' '.join(f'{value:.2f}' for value in quartiles))
        print(
            f'real series, {title} ({len(m0)}): CBF quartiles {shown[0]}, arrival {shown[1]} s; '
            f'NaN {np.isnan(cbf.value).mean():.1%}, zero {(cbf.value == 0).mean():.1%}, '
            f'arrival not covered {flagged:.1%}'
        )
        if len(m0) == mask.sum():
            own = [np.percentile(one.value[grey[mask]], [25, 50, 75]) for one in (cbf, att)]
            print(
                f'  its grey matter ({grey.sum()}): CBF {own[0].round(1)}, arrival '
                f'{own[1].round(2)} s'
            )


def compare_with_asltk(n_voxels: int = 600) -> None:
    """Fit voxels of the real series as asltk does, with its constants, where it is installed."""
    try:
        from asltk.models.signal_dynamic import asl_model_buxton
    except ImportError:
        print('asltk: not installed')
        return
    if not ASLTK.is_dir():
        return
    series, m0, mask = (nb.load(ASLTK / f'asltk_{name}.nii.gz').get_fdata()
                        for name in ('pcasl_mte', 'm0', 'm0_brain_mask'))  # fmt: skip
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(mask))[:n_voxels]
    difference, m0 = series[..., 0].reshape(-1, series.shape[3])[chosen], m0.ravel()[chosen]
    times = [list(1e3 * REAL_TIMING[name]) for name in ('label_duration', 'post_label_delay')]
    theirs = np.full((len(chosen), 2), np.nan)
    for voxel, (signal, tissue) in enumerate(zip(difference, m0, strict=True)):

        def predict(given, flow, arrival, tissue=tissue):
            return asl_model_buxton(*given, tissue, flow, arrival)

        with contextlib.suppress(RuntimeError):
            theirs[voxel], _ = curve_fit(predict, times, signal, p0=[1e-5, 1000],
                                         bounds=([0, 0], [1, 5000]))  # fmt: skip
    # asltk divides by no partition coefficient and lets tissue relax as blood does
    cbf, _ = fit_multi_delay(
        Estimate.of(difference, 1.0),
        Estimate.of(m0),
        n_pairs=1,
        **LABELLING | REAL_TIMING | {'t1_tissue': 1.65, 'partition_coefficient': 1.0},
    )
    flow = theirs[:, 0] * 6e6  # 1/ms in mL/100 g/min
    both = (flow > 5) & (flow < 400) & (cbf.value > 5)
    ratio = np.percentile(cbf.value[both] / flow[both], [25, 50, 75])
    print(f'{both.sum()} voxels of the real series, CBF over that of asltk: quartiles '
          f'{ratio.round(3)}; its own unit takes 3.6e6 for 6e6 and reads '
          f'{np.percentile(theirs[both, 0] * 3.6e6, 50):.0f} where it is '
          f'{np.percentile(flow[both], 50):.0f}')  # fmt: skip


if __name__ == '__main__':
    compare_speed()
    if '--speed' not in sys.argv:
        compare_outliers()
        fit_real_series()
        compare_with_asltk()
