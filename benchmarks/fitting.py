"""
T2* fit with covariance against scipy's curve_fit with bounds, one core against one core.

Times are processor times, so that other work on the machine does not enter.
"""

from __future__ import annotations

import os

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import resource
import time

import numpy as np
from scipy.optimize import curve_fit

from bids_app.models.relaxometry.decay import fit_r2_star, predict_decay, start_decay

SHAPE = (112, 112, 35)
ECHO_TIMES = np.arange(5, 61, 5) * 1e-3
SNR = 60.0
SAMPLE = 500
"""Voxels given to curve_fit."""


def main() -> None:
    """Time both on the same voxels and print the ratio per voxel."""
    rng = np.random.default_rng(0)
    n_voxels = int(np.prod(SHAPE))
    rate = rng.uniform(10, 30, n_voxels)
    signal = predict_decay(ECHO_TIMES, 1000.0, rate)
    noise = rng.normal(0, 1000 / SNR, (2, *signal.shape))
    signal = np.hypot(signal + noise[0], noise[1])

    start, wall = time.process_time(), time.perf_counter()
    estimate = fit_r2_star(signal, np.ones_like(signal), echo_times=ECHO_TIMES)
    ours = (time.process_time() - start) / n_voxels
    wall = time.perf_counter() - wall

    def decay(echo_times, s0, r2_star):
        return s0 * np.exp(-echo_times * r2_star)

    start = time.process_time()
    peer = np.array(
        [
            curve_fit(decay, ECHO_TIMES, voxel, p0=(voxel[0], 20.0), bounds=(0, [1e5, 1e3]))[0][1]
            for voxel in signal[:SAMPLE]
        ]
    )
    theirs = (time.process_time() - start) / SAMPLE

    usable = signal > 0
    start = time.process_time()
    start_decay(signal, np.ones_like(signal), usable, ECHO_TIMES)
    log_linear = time.process_time() - start
    design = np.stack([np.ones_like(ECHO_TIMES), -ECHO_TIMES], axis=1)
    start = time.process_time()
    np.linalg.lstsq(design, np.log(np.abs(signal.T) + 1), rcond=None)
    as_tedana = time.process_time() - start

    difference = np.nanmax(np.abs(peer - estimate.value[:SAMPLE]) / peer)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f'{n_voxels} voxels x {len(ECHO_TIMES)} echoes: {ours * n_voxels:.2f} s of one core, '
        f'{wall:.2f} s wall'
    )
    print(f'per voxel {ours * 1e6:.2f} us, curve_fit {theirs * 1e6:.0f} us: {theirs / ours:.0f} x')
    print(
        f'log-linear step {log_linear:.2f} s (weighted), one lstsq of the logarithm as in tedana '
        f'{as_tedana:.2f} s'
    )
    print(f'largest relative difference {difference:.1e}; peak memory {memory:.2f} GB')


if __name__ == '__main__':
    main()
