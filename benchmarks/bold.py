"""
Bias, coverage, speed and memory of percent BOLD change; error of the distortion.

`python benchmarks/bold.py [--voxels 4000] [--part coverage speed distortion]`
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np
from nilearn.glm.first_level import compute_regressor
from scipy import ndimage
from scipy.signal import lfilter

from bids_app.engines.glm import (
    implicit_blocks,
    make_task_design,
    volumes_in_blocks,
)
from bids_app.models.bold.confounds import relative_dvars
from bids_app.models.bold.glm import fit_task_design
from bids_app.models.preprocessing.distortion import (
    complete_field,
    shift_between_opposites,
    voxel_shift,
)
from bids_app.models.relaxometry.background_field import (
    field_map_from_difference,
    field_map_from_echoes,
)
from bids_app.phantom.physics import distort

TR = 1.2
DESIGNS = {
    400: {'rest': (0, 150, 270, 390), 'mem': (30, 120, 210, 450), 'calc': (60, 180, 300, 360)},
    200: {'calc': (30, 90, 150, 210)},
}
"""Volumes -> onsets of the two designs of ds004873, s."""

EFFECT = 1.5
"""True change, percent of the baseline, at the plateau."""


def events_of(n_volumes: int) -> list[tuple[float, float, str]]:
    """Blocks of a design."""
    design = DESIGNS[n_volumes]
    return [(float(onset), 30.0, name) for name, onsets in design.items() for onset in onsets]


def response(n_volumes: int, hrf: str) -> np.ndarray:
    """Course of calc relative to its plateau, by nilearn's response."""
    onsets = np.array(DESIGNS[n_volumes]['calc'], float)
    condition = np.array([onsets, np.full(4, 30.0), np.ones(4)])
    return compute_regressor(condition, hrf, TR * np.arange(n_volumes))[0][:, 0]


def window(blocks: list[tuple[float, float]], n_volumes: int) -> np.ndarray:
    """Volumes that count."""
    return volumes_in_blocks(blocks, n_volumes=n_volumes, repetition_time=TR, window_start=6.0)


def simulate(n_volumes: int, hrf: str, n_voxels: int, rng: np.random.Generator):
    """Series with drift, 1 mm of movement, spikes and AR(1) noise; movement; true change."""
    shape = response(n_volumes, hrf)
    events = events_of(n_volumes)
    calc = [event[:2] for event in events if event[2] == 'calc']
    base = implicit_blocks(events, n_volumes * TR)
    clean = 1 + EFFECT / 100 * shape
    task, control = window(calc, n_volumes), window(base, n_volumes)
    truth = 100 * (clean[task].mean() / clean[control].mean() - 1)

    phase = (np.arange(n_volumes) + 0.5) / n_volumes
    slow = np.array([phase - 0.5, np.cos(np.pi * phase) / 2, np.cos(2 * np.pi * phase) / 2])
    drift = 0.01 * rng.normal(size=(n_voxels, 3)) @ slow
    course = np.cumsum(rng.standard_normal((n_volumes, 6)), axis=0)
    course = ndimage.gaussian_filter1d(course, 2.0, axis=0)
    motion = (course - course[0]) / np.abs(course - course[0]).max(axis=0)
    moved = 0.02 * rng.normal(size=(n_voxels, 6)) @ motion.T
    white = rng.normal(size=(n_voxels, n_volumes + 100))
    noise = lfilter([1], [1, -0.4], white, axis=1)[:, 100:] * np.sqrt(1 - 0.4**2)
    series = 1000 * (clean + drift + moved + 0.01 * noise)
    spikes = rng.choice(n_volumes, 5, replace=False)
    series[:, spikes] += 60 * rng.normal(size=(n_voxels, 5))
    return series, motion, truth


def coverage(n_voxels: int, n_seeds: int, first_seed: int) -> list[dict[str, object]]:
    """Bias and coverage for every pair of true and assumed response, both designs."""
    rows = []
    for n_volumes in DESIGNS:
        for hrf in ('spm', 'glover'):
            for assumed in ('flexible', 'spm', 'glover'):
                bias, inside, z, se = [], [], [], []
                for seed in range(first_seed, first_seed + n_seeds):
                    rng = np.random.default_rng([seed, n_volumes])
                    series, motion, truth = simulate(n_volumes, hrf, n_voxels, rng)
                    design = make_task_design(
                        n_volumes,
                        repetition_time=TR,
                        events=events_of(n_volumes),
                        baseline='control',
                        contrasts=[('calc', 'control')],
                        hrf_model=assumed,
                        confounds=motion,
                        censored=relative_dvars(series) > 1.5,
                    )
                    change = fit_task_design(series, design)['calcMinusControl']
                    error = change.value - truth
                    bias.append(error.mean() / truth)
                    z.append(error / np.sqrt(change.variance))
                    inside.append(np.mean(np.abs(z[-1]) < 1.96))
                    se.append(np.sqrt(change.variance).mean())
                row = {
                    'volumes': n_volumes, 'true': hrf, 'assumed': assumed,
                    'bias_percent': round(100 * float(np.mean(bias)), 2),
                    'worst_run_percent': round(100 * float(np.abs(bias).max()), 2),
                    'standard_error': round(float(np.mean(se)), 4),
                    'coverage': round(float(np.mean(inside)), 4),
                    'sd_of_z': round(float(np.std(np.concatenate(z))), 3),
                    'censored': int((~design.kept).sum()),
                }  # fmt: skip
                rows.append(row)
                print(row, flush=True)
    return rows


def speed() -> dict[str, object]:
    """Fit 64 x 64 x 40 voxels of 400 volumes."""
    n_voxels = 64 * 64 * 40
    rng = np.random.default_rng(0)
    series = np.empty((n_voxels, 400), np.float32)
    shape = 1000 + 10 * response(400, 'spm')
    for start in range(0, n_voxels, 8192):
        block = series[start : start + 8192]
        block[:] = shape + 10 * rng.standard_normal(block.shape, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    design = make_task_design(
        400,
        repetition_time=TR,
        events=events_of(400),
        baseline='control',
        contrasts=[(name, 'control') for name in ('calc', 'mem', 'rest')],
        confounds=rng.normal(size=(400, 6)),
    )
    changes = fit_task_design(series, design)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        'voxels': n_voxels, 'contrasts': len(changes), 'wall_s': round(wall, 1),
        'cpu_s': round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        'peak_gb': round(after.ru_maxrss / 1e6, 2),
    }  # fmt: skip
    print(row, flush=True)
    return row


def head(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with structure."""
    x, y, z = np.indices(shape, float)
    half = (np.array(shape) - 1) / 2
    radius = np.sqrt(sum(((c - h) / (0.8 * h)) ** 2 for c, h in zip((x, y, z), half, strict=True)))
    inside = radius < 1
    return inside, np.where(inside, 2 + np.sin(x) + np.cos(0.7 * y) + 0.05 * z, 0.0)


def distortion() -> list[dict[str, object]]:
    """Error of the displacement by each kind of field, 3 % noise, 48 x 56 x 24 voxels."""
    shape, spacing = (48, 56, 24), 0.0005
    inside, image = head(shape)
    per_voxel = shape[1] * spacing
    rows = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y = np.indices(shape)[1]
        field = ndimage.gaussian_filter(rng.normal(size=shape), 7)
        field = field / np.abs(field).max() + np.exp((y - shape[1]) / 8)
        field *= 3 / per_voxel / np.abs(field[inside]).max()
        truth = per_voxel * field
        sigma = 0.03 * image[inside].mean()
        magnitude = np.where(inside, image, 0.0)

        def echo(at, field=field, magnitude=magnitude, sigma=sigma, rng=rng):
            noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
            return magnitude * np.exp(2j * np.pi * field * at + 0.7j) + sigma * noise

        difference = np.angle(echo(0.00738) * echo(0.00492).conj())
        times = 0.005 * np.arange(1, 13)
        train = np.stack([echo(at) for at in times], axis=-1)
        fields = {
            'phase difference': field_map_from_difference(
                difference, inside, echo_difference=0.00246
            ),
            'gradient echo': field_map_from_echoes(
                np.abs(train), np.angle(train), inside, echo_times=times
            ).value,
        }
        shifts = {
            name: voxel_shift(complete_field(one, inside), echo_spacing=spacing,
                              n_lines=shape[1], polarity=1)
            for name, one in fields.items()
        }  # fmt: skip
        both = []
        for sign in (1, -1):
            moved = distort(image, sign * truth, axis=1)
            noise = sigma * rng.normal(size=(2, *shape))
            both.append(np.hypot(moved + noise[0], noise[1]))
        shifts['opposites'] = shift_between_opposites(*both, axis=1)
        for name, shift in shifts.items():
            left = np.abs(shift - truth)[inside]
            row = {
                'field': name, 'seed': seed,
                'largest': round(float(np.abs(truth[inside]).max()), 1),
                'median': round(float(np.median(left)), 3),
                'p99': round(float(np.percentile(left, 99)), 3),
                'share_below_half': round(float(np.mean(left < 0.5)), 5),
                'worst': round(float(left.max()), 2),
            }  # fmt: skip
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--part', nargs='+', default=['coverage', 'speed', 'distortion'])
    parser.add_argument('--voxels', type=int, default=4000)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--first-seed', type=int, default=0)
    parser.add_argument('--json')
    options = parser.parse_args()
    made: dict[str, object] = {}
    if 'speed' in options.part:
        made['speed'] = speed()
    if 'coverage' in options.part:
        made['coverage'] = coverage(options.voxels, options.seeds, options.first_seed)
    if 'distortion' in options.part:
        made['distortion'] = distortion()
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as stream:  # noqa: PTH123
            json.dump(made, stream, indent=1)
    return 0


if __name__ == '__main__':
    sys.exit(main())
