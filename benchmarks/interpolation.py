"""
Kernels of interpolation on a continuous folded cortex: bias, error, and whether it is known.

``python benchmarks/interpolation.py [--seeds 2] [--shift 1] [--turn 1] [--alignment 0]``

Cortex of 2 to 4 mm round sheets of fluid, sampled by averages over the voxels of each kind of
scan at two positions of the head; the first is carried to the second and compared with it. The
tissue is that of a noisy T1w image of 1 mm. Nothing here comes from the phantom.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_app.models.numerics.detail import measure_detail, tissue_trend
from bids_app.models.numerics.resampling import average_around, resample_map

EXTENT = np.array([84.0, 84.0, 72.0])
"""Of the piece of cortex, mm."""
TARGET = np.array([2.0, 2.0, 3.3])
INNER = 0.62
"""Part of the extent in which voxels are compared."""
GREY = 0.8
POINTS = 150_000
TIMES = 0.005 * np.arange(1, 13)
QUANTILE = 1.959964

# active, deactivated and other grey matter, white matter, fluid
DENSITY = np.array([0.8, 0.8, 0.8, 0.73, 0.7])
R2 = np.array([1 / 0.075] * 3 + [1 / 0.070, 1.0])
REST, TASK = np.array([5.6] * 3 + [2.85, 0]), np.array([5.2, 5.95, 5.6, 2.85, 0])
FLOW = np.array([67.0, 44.0, 55.0, 22.0, 0])
VOLUME = np.array([0.048] * 3 + [0.025, 0])
RECOVERY = 1 - np.exp(-4.5 / np.array([1.6] * 3 + [0.85, 4.3]))
COURSE = 12.5 * np.exp(-(((np.arange(30) - 10) / 4) ** 2))


class Cortex:
    """Tissue at any point: sheets of fluid where a sum of waves is zero, cortex round them."""

    def __init__(self, seed: int, spacing: float = 15.0) -> None:
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=(24, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self.waves = direction * (np.pi / spacing) * rng.uniform(0.8, 1.25, (24, 1))
        self.phases = rng.uniform(0, 2 * np.pi, 24)
        self.slow = rng.normal(size=(12, 3)) * 2 * np.pi / 45
        self.slow_phases = rng.uniform(0, 2 * np.pi, 12)

    def fractions(self, x: np.ndarray) -> np.ndarray:
        phase = x @ self.waves.T + self.phases
        slope = np.linalg.norm(np.cos(phase) @ self.waves, axis=1)
        distance = np.abs(np.sin(phase).sum(axis=1)) / np.maximum(slope, 0.1) - 0.5
        slow = np.cos(x @ self.slow.T + self.slow_phases)
        thick = 3 + np.clip(slow[:, :4].sum(axis=1) / 2, -1, 1)
        grey = (distance >= 0) & (distance < thick)
        patch = slow[:, 4:].sum(axis=1)
        parts = [grey & (patch > 1.2), grey & (patch < -1.2), grey & (np.abs(patch) <= 1.2),
                 distance >= thick, distance < 0]  # fmt: skip
        return np.stack(parts, axis=-1).astype(float)

    def averages(self, centres, edges, n_points):
        axes = [(np.arange(n) + 0.5) / n - 0.5 for n in n_points]
        offsets = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3) @ edges.T
        step = POINTS // len(offsets)
        return np.concatenate([
            self.fractions((part[:, None] + offsets).reshape(-1, 3))
            .reshape(len(part), -1, 5).mean(axis=1)
            for part in np.array_split(centres, len(centres) // step + 1)
        ])  # fmt: skip


def fit(train: np.ndarray) -> np.ndarray:
    """Least-squares rate of one exponential."""
    shape, s = train.shape[:-1], train.reshape(-1, TIMES.size)
    s = np.maximum(s, 1e-9)
    rate = np.log(s[:, 0] / s[:, -1]) / (TIMES[-1] - TIMES[0])
    for _ in range(8):
        e = np.exp(-np.outer(rate, TIMES))
        energy = (e * e).sum(axis=1)
        amplitude = (e * s).sum(axis=1) / energy
        slope = -TIMES * e
        slope -= ((slope * e).sum(axis=1) / energy)[:, None] * e
        rate += (slope * (s - amplitude[:, None] * e)).sum(axis=1) / (
            amplitude * (slope**2).sum(axis=1)
        )
    return rate.reshape(shape)


def ratio(signal: np.ndarray) -> np.ndarray:
    return signal[..., 0] / np.maximum(signal[..., 1], 1e-9)


def area(signal: np.ndarray) -> np.ndarray:
    signal = np.maximum(signal, 1e-9)
    return -np.log(signal / signal[..., :1]).sum(axis=-1) / COURSE.sum() * 0.048


@dataclass
class Scan:
    """Voxels, signals of the five tissues, the map of the signals, the weight of a voxel."""

    zooms: tuple[float, float, float]
    signals: np.ndarray
    estimate: object
    weight: object


LATE = np.exp(-0.03 * (R2 + REST))
SCANS = {
    'R2*': Scan((2, 2, 3.3), DENSITY[:, None] * np.exp(-np.outer(R2 + REST, TIMES)), fit,
                lambda s: s.mean(axis=-1)),
    'CBF': Scan((2.75, 2.75, 6.6), (DENSITY * np.exp(-0.0112 * (R2 + REST)))[:, None]
                * np.stack([FLOW, RECOVERY], axis=-1), ratio, lambda s: s[..., 1]),
    'CBV': Scan((2, 2, 3.3), (DENSITY * LATE)[:, None]
                * np.exp(-np.outer(VOLUME / 0.048, COURSE) * 0.03), area, lambda s: s[..., 0]),
    'BOLD': Scan((3, 3, 3.3), DENSITY[:, None]
                 * np.stack([100 * (np.exp(-0.03 * (R2 + TASK)) - LATE), LATE], axis=-1), ratio,
                 lambda s: s[..., 1]),
}  # fmt: skip


def turned(degrees: np.ndarray) -> np.ndarray:
    x, y, z = np.deg2rad(degrees)
    return (
        np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        @ np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        @ np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    )


def grid(shape, zooms):
    index = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)
    return (index - (np.array(shape) - 1) / 2) * zooms


def structural(cortex: Cortex, rng: np.random.Generator) -> np.ndarray:
    """Grey matter, white matter and fluid by the intensity of a noisy T1w image of 1 mm."""
    shape = EXTENT.astype(int)
    f = cortex.averages(grid(shape, np.ones(3)), np.eye(3), (3, 3, 3))
    image = f @ [0.62, 0.62, 0.62, 1, 0.22] + rng.normal(0, 0.04, len(f))
    white, fluid = np.clip((image - 0.62) / 0.38, 0, 1), np.clip((0.62 - image) / 0.4, 0, 1)
    return np.stack([1 - white - fluid, white, fluid], axis=-1).reshape(*shape, 3)


def boxes(tissue, centres, edges):
    voxel = centres + (np.array(tissue.shape[:3]) - 1) / 2
    return np.stack([average_around(tissue[..., k], voxel, edges) for k in range(3)], axis=-1)


def lanczos(image, points, reach=3):
    low = np.floor(points).astype(int)
    weights, places = [], []
    for axis in range(3):
        tap = low[:, axis, None] + np.arange(1 - reach, reach + 1)
        distance = points[:, axis, None] - tap
        kernel = np.sinc(distance) * np.sinc(distance / reach)
        weights.append(kernel / kernel.sum(axis=1, keepdims=True))
        places.append(np.clip(tap, 0, image.shape[axis] - 1))
    total = 0.0
    for i in range(2 * reach):
        for j in range(2 * reach):
            row = image[places[0][:, i, None], places[1][:, j, None], places[2]]
            total += weights[0][:, i] * weights[1][:, j] * (row * weights[2]).sum(axis=1)
    return total


def interpolate(images, points, kernel):
    if kernel == 'sinc':
        parts = [lanczos(images[..., k], points) for k in range(images.shape[-1])]
    else:
        order = {'linear': 1, 'cubic': 3, 'quintic': 5}[kernel]
        parts = [ndimage.map_coordinates(images[..., k], points.T, order=order, mode='nearest')
                 for k in range(images.shape[-1])]  # fmt: skip
    return np.stack(parts, axis=-1)


@dataclass
class Sample:
    """One scan of one piece of cortex, to be carried to the target."""

    scan: Scan
    signals: np.ndarray
    truth: np.ndarray
    points: np.ndarray
    """Where the app believes the target to lie, voxels of the scan."""
    groups: dict[str, tuple[np.ndarray, float]]
    """Voxels that are compared, and what errors are related to."""
    tissue: np.ndarray
    tissue_there: np.ndarray

    @property
    def value(self) -> np.ndarray:
        return self.scan.estimate(self.signals)

    def keep(self, errors: dict, method: str, found: np.ndarray) -> None:
        for group, (part, scale) in self.groups.items():
            errors[group, method] = (found - self.truth)[part] / scale


def measure(name, cortex, tissue, target, off_target, rng, options) -> Sample:  # noqa: PLR0917
    """Scan the cortex, at another place than the target."""
    scan = SCANS[name]
    zooms = np.array(scan.zooms)
    turn, shift = turned(rng.normal(0, options.turn, 3)), rng.normal(0, options.shift, 3)
    edges, shape = turn * zooms, np.ceil(EXTENT / zooms).astype(int)
    n_points = np.ceil(zooms / 0.5).astype(int)
    own = grid(shape, zooms) @ turn.T + shift
    there = cortex.averages(target, edges, n_points)
    truth = scan.estimate(there @ scan.signals)
    off = rng.normal(0, options.alignment, 3)
    grey = there[:, :3].sum(axis=1)
    if name == 'BOLD':
        parts = {'BOLD+': (truth > 0.15) & (grey > 0.6), 'BOLD-': (truth < -0.15) & (grey > 0.6)}
    else:
        parts = {name: grey > GREY}
    level = truth - R2[2] if name == 'R2*' else truth
    return Sample(
        scan,
        cortex.averages(own, edges, n_points).reshape(*shape, 5) @ scan.signals,
        truth,
        ((target + off_target - shift - off) @ turn) / zooms + (shape - 1) / 2,
        {key: (part, level[part].mean()) for key, part in parts.items()},
        boxes(tissue, own + off, edges).reshape(*shape, 3),
        boxes(tissue, target + off_target, edges),
    )


def compare_kernels(sample: Sample, errors: dict) -> None:
    """Carry maps, signals and weighted maps by every kernel."""
    value, weight = sample.value, sample.scan.weight(sample.signals)
    both = np.stack([value * weight, weight], axis=-1)
    for kernel in ('linear', 'cubic', 'quintic', 'sinc'):
        maps, signals, weighted = (
            interpolate(images, sample.points, kernel)
            for images in (value[..., None], sample.signals, both)
        )
        sample.keep(errors, f'{kernel} maps', maps[:, 0])
        sample.keep(errors, f'{kernel} signals', sample.scan.estimate(signals))
        sample.keep(errors, f'{kernel} weighted maps', ratio(weighted))


def use_tissue(sample: Sample, errors: dict, rng, alignment: float) -> dict:
    """Carry maps as the app does; tell what share of intervals holds the truth."""
    value, shape = sample.value, sample.signals.shape[:3]
    variance = np.full(shape, (0.02 * np.median(value)) ** 2)
    known = (sample.tissue, sample.tissue_there)
    where = {'points': sample.points, 'zooms': sample.scan.zooms}
    trend = tissue_trend(value, variance, *known, **where)
    sample.keep(
        errors, 'cubic maps, tissue', resample_map(value, sample.points, trend=trend).value
    )
    noisy = value + rng.normal(0, np.sqrt(variance))
    trend = tissue_trend(noisy, variance, *known, **where)
    found = resample_map(noisy, sample.points, variance=variance, trend=trend)
    detail = measure_detail(noisy - trend[0], variance, np.ones(shape, bool))
    unknown = detail.interpolation_variance(sample.points) + detail.alignment_variance(
        sample.points, error=np.sqrt(2) * alignment, zooms=sample.scan.zooms
    )
    e2 = (found.value - sample.truth) ** 2
    return {
        group: [np.mean((e2 < QUANTILE**2 * v)[part])
                for v in (found.variance, found.variance + unknown)]
        + [(e2 - found.variance)[part].mean() / unknown[part].mean()]
        for group, (part, _) in sample.groups.items()
    }  # fmt: skip


def study(seed: int, options: argparse.Namespace):
    """Errors of one piece of cortex: {(scan, method): error}, and calibration per scan."""
    cortex, rng = Cortex(seed), np.random.default_rng(1000 + seed)
    tissue = structural(cortex, rng)
    target = grid(np.round(EXTENT * INNER / TARGET).astype(int), TARGET)
    off_target = rng.normal(0, options.alignment, 3)
    errors, known = {}, {}
    for name in SCANS:
        sample = measure(name, cortex, tissue, target, off_target, rng, options)
        compare_kernels(sample, errors)
        known |= use_tissue(sample, errors, rng, options.alignment)
    return errors, known


def main() -> None:
    """Print bias and error of every method, then coverage of 95 % intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=2)
    parser.add_argument('--shift', type=float, default=1.0, help='SD per axis, mm')
    parser.add_argument('--turn', type=float, default=1.0, help='SD per axis, degrees')
    parser.add_argument('--alignment', type=float, default=0.0, help='error per axis, mm')
    options = parser.parse_args()
    parts = [study(seed, options) for seed in range(options.seeds)]
    names = list(dict.fromkeys(group for group, _ in parts[0][0]))
    sys.stdout.write(f'{"bias, SD of error in %":24s}' + ''.join(f'{n:>16s}' for n in names))
    for method in dict.fromkeys(method for _, method in parts[0][0]):
        sys.stdout.write(f'\n{method:24s}')
        for name in names:
            pooled = 100 * np.concatenate([errors[name, method] for errors, _ in parts])
            sys.stdout.write(f'{pooled.mean():+8.1f} {pooled.std():7.1f}')
    titles = ('covered by the noise', 'covered with detail', 'missed over stated')
    for row, title in enumerate(titles):
        sys.stdout.write(f'\n{title:24s}')
        for name in names:
            sys.stdout.write(f'{np.mean([known[name][row] for _, known in parts]):16.3f}')
    sys.stdout.write('\n')


if __name__ == '__main__':
    main()
