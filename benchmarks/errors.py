"""
Whether errors hold where noise is uneven, shared or slow, by generators of their own.

`python benchmarks/errors.py [--seeds 20] [--part PART ...]`
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from bold import TR, events_of
from scipy.signal import lfilter

from bids_app.engines.glm import make_task_design
from bids_app.models.asl.label_control import estimate_difference
from bids_app.models.asl.scan_noise import describe_scan_noise
from bids_app.models.asl.single_delay import cbf_from_difference
from bids_app.models.bold.glm import (
    TaskDesign,
    fit_task_design,
    share_of_noise,
)
from bids_app.models.dsc.relative_cbv import estimate_relative_cbv
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.between_scans import PRIORS, local_share
from bids_app.models.numerics.noise import SIZES, cubes_of, long_run_ratio, shared_noise
from bids_app.models.numerics.regions import summarise_regions
from bids_app.models.oxygen.cmro2 import estimate_cmro2
from bids_app.models.oxygen.mqbold import estimate_oef
from bids_app.models.oxygen.sensitivity import RELATIVE_ERROR, relative_error
from bids_app.models.registry import DERIVED
from bids_app.models.relaxometry.decay import fit_r2_star

SHAPE, SIDE, PAIRS = (20, 20, 20), 4.0, 39
POINTS = SIDE * np.stack(np.unravel_index(np.arange(np.prod(SHAPE)), SHAPE), axis=1)
FLOW, NOISE = 6.0, 12.0
"""Difference of control and label, and the noise of a pair, a.u."""


def describe(z: np.ndarray) -> dict[str, float]:
    """Standard deviation of z, and what lies within 1.96."""
    z = np.asarray(z, float).ravel()
    return {'sd': round(float(z.std()), 3), 'covers': round(float(np.mean(np.abs(z) < 1.96)), 3)}


def slow(rng: np.random.Generator, phi: float, shape: tuple[int, ...]) -> np.ndarray:
    """AR(1) noise of unit variance along the last axis."""
    white = rng.normal(size=(*shape[:-1], shape[-1] + 100))
    return np.sqrt(1 - phi**2) * lfilter([1], [1, -phi], white, axis=-1)[..., 100:]


def pairs_of(rng, *, uneven=0.0, common=0.0, regional=0.0, phi=0.0) -> np.ndarray:
    """Label and control volumes whose noise is uneven, shared and slow."""
    sd = NOISE * np.exp(uneven * rng.normal(size=len(POINTS)))
    cubes, _ = cubes_of(POINTS, 20.0)
    level = 1 + common * rng.normal(size=PAIRS)
    level = level + regional * rng.normal(size=(cubes.max() + 1, PAIRS))[cubes]
    difference = FLOW * level + sd[:, None] * slow(rng, phi, (len(POINTS), PAIRS))
    series = np.full((len(POINTS), 2 * PAIRS), 1000.0)
    series[:, 1::2] -= difference
    return series


CONTEXT = ['control', 'label'] * PAIRS


def flows(n_seeds: int) -> list[dict[str, object]]:
    """SD of z of voxels, parcels, networks and the brain for pairs of every kind of noise."""
    rows = []
    kinds = [
        {},
        {'uneven': 0.35},
        {'uneven': 0.5},
        {'phi': 0.3},
        {'common': 0.1},
        {'common': 0.2},
        {'regional': 0.1},
        {'uneven': 0.35, 'common': 0.1, 'regional': 0.02},
    ]
    everywhere = np.ones(len(POINTS), bool)
    for kind in kinds:
        z = []
        for seed in range(n_seeds):
            series = pairs_of(np.random.default_rng(seed), **kind)
            found = estimate_difference(series, context=CONTEXT, robust=True)
            shared = describe_scan_noise(series, POINTS, everywhere, context=CONTEXT, robust=True)[
                'shared'
            ]
            z.append(z_of_regions(found, FLOW, shared))
        rows.append({'noise': kind, **together(z)})
    return rows


def z_of_regions(estimate: Estimate, truth: float, shared: dict[str, float]) -> dict[str, list]:
    """Departure from the truth over its error, of voxels and of regions of every size."""
    z: dict[str, list] = {'voxel': list((estimate.value - truth) / np.sqrt(estimate.variance))}
    for size, side in SIZES.items():
        region = summarise_regions(estimate, *cubes_of(POINTS, side), shared=shared[size])
        z[size] = list((region['mean'] - truth) / region['se'])
    return z


def together(parts: list[dict[str, list]]) -> dict[str, dict[str, float]]:
    """Describe z of several studies."""
    return {size: describe(np.concatenate([part[size] for part in parts])) for size in parts[0]}


def design_of(n_volumes: int) -> TaskDesign:
    """Give the design of two conditions in blocks."""
    return make_task_design(
        n_volumes,
        repetition_time=TR,
        events=events_of(n_volumes),
        baseline='control',
        contrasts=[('calc', 'control')],
    )


def regions(n_seeds: int) -> list[dict[str, object]]:
    """SD of z of BOLD changes and bolus areas, part of whose noise all voxels have in common."""
    n_volumes, rows = 400, []
    design = design_of(n_volumes)
    time = 1.5 * np.arange(60.0)
    since = np.maximum(time - 36, 0) / 9  # a gamma variate with its peak 9 s after arrival
    bolus = 500 * np.exp(-0.9 * (since * np.exp(1 - since)) ** 3)
    how = {'echo_time': 0.03, 'repetition_time': 1.5}
    area = float(estimate_relative_cbv(bolus[None].repeat(200, 0), **how).relative_cbv.value[0])
    for share in (0.0, 0.05, 0.2):
        of_bold, of_bolus = [], []
        for seed in range(n_seeds):
            rng = np.random.default_rng(seed)

            def noise(n_samples: int, rng=rng, share=share) -> np.ndarray:
                own = slow(rng, 0.4, (len(POINTS), n_samples))
                return np.sqrt(1 - share) * own + np.sqrt(share) * slow(rng, 0.4, (n_samples,))

            series = 1000 + 10 * noise(n_volumes)
            changes = fit_task_design(series, design)
            shared = share_of_noise(series, changes, POINTS, design)['calcMinusControl']
            of_bold.append(z_of_regions(changes['calcMinusControl'], 0.0, shared))
            series = bolus + 5 * noise(time.size)
            found = estimate_relative_cbv(series, **how)
            before = slice(found.window.baseline_start, found.window.baseline_end)
            relative = series[:, before] / series[:, before].mean(axis=1, keepdims=True) - 1
            spread = long_run_ratio(relative) * relative.var(axis=1, ddof=1)
            shared = shared_noise(relative, spread, POINTS)
            of_bolus.append(z_of_regions(found.relative_cbv, area, shared))
        rows += [{'share': share, 'bold': together(of_bold), 'bolus': together(of_bolus)}]
    return rows


def one_over_f(rng: np.random.Generator, n_voxels: int, n_volumes: int) -> np.ndarray:
    """Noise of a spectrum 1/f, from four times as long a series, unit variance."""
    frequency = np.fft.rfftfreq(4 * n_volumes)[1:]
    parts = rng.normal(size=(2, n_voxels, frequency.size)) / np.sqrt(frequency)
    spectrum = np.concatenate([np.zeros((n_voxels, 1)), parts[0] + 1j * parts[1]], axis=1)
    series = np.fft.irfft(spectrum, axis=1)[:, :n_volumes]
    return series / series.std()


def brains(n_seeds: int) -> list[dict[str, object]]:
    """SD of z of one region of 1,000 voxels: cheap, so that many draws of shared noise count."""
    points = POINTS[np.all(POINTS < 40, axis=1)]
    everywhere = np.zeros(len(points), int)
    design = design_of(400)
    time = 1.5 * np.arange(60.0)
    since = np.maximum(time - 36, 0) / 9
    bolus = 500 * np.exp(-0.9 * (since * np.exp(1 - since)) ** 3)
    how = {'echo_time': 0.03, 'repetition_time': 1.5}
    area = float(estimate_relative_cbv(bolus[None].repeat(200, 0), **how).relative_cbv.value[0])

    def z_of(estimate: Estimate, shared: dict[str, float], truth: float) -> float:
        region = summarise_regions(estimate, everywhere, [0], shared=shared['brain'])
        return float((region['mean'][0] - truth) / region['se'][0])

    rows = []
    for kind, share in (('bold', 0.0), ('bold', 0.2), ('bolus', 0.2)):
        z = []
        for seed in range(n_seeds):
            rng = np.random.default_rng([6 if kind == 'bold' else 5, seed])
            n = 400 if kind == 'bold' else time.size
            own = slow(rng, 0.4, (len(points), n))
            noise = np.sqrt(1 - share) * own + np.sqrt(share) * slow(rng, 0.4, (n,))
            if kind == 'bold':
                series = 1000 + 10 * noise
                changes = fit_task_design(series, design)
                shared = share_of_noise(series, changes, points, design)['calcMinusControl']
                z.append(z_of(changes['calcMinusControl'], shared, 0.0))
                continue
            series = bolus + 5 * noise
            found = estimate_relative_cbv(series, **how)
            before = slice(found.window.baseline_start, found.window.baseline_end)
            relative = series[:, before] / series[:, before].mean(axis=1, keepdims=True) - 1
            spread = long_run_ratio(relative) * relative.var(axis=1, ddof=1)
            z.append(z_of(found.relative_cbv, shared_noise(relative, spread, points), area))
        rows.append({'of': kind, 'shared': share, 'studies': n_seeds, 'brain': describe(z)})
    return rows


def gates(n_seeds: int) -> list[dict[str, object]]:
    """Rejections of the BOLD gate without any effect, at 0.05 and over 0.001."""
    rng, n_volumes, n_voxels = np.random.default_rng(3), 400, 1000 * n_seeds
    shape = (n_voxels, n_volumes)
    design = design_of(n_volumes)
    kinds = {
        'white': lambda: rng.normal(size=shape),
        'AR(1) .3': lambda: slow(rng, 0.3, shape),
        'AR(1) .9': lambda: slow(rng, 0.9, shape),
        'AR(1) .9 + white': lambda: slow(rng, 0.9, shape) + rng.normal(size=shape),
        '1/f': lambda: one_over_f(rng, *shape),
        '1/f + white': lambda: one_over_f(rng, *shape) + rng.normal(size=shape),
    }
    rows = []
    for name, noise in kinds.items():
        series, row = 1000 + 10 * noise(), {'noise': name}
        for model in ('fast', 'ar1'):
            change = fit_task_design(series, design, noise_model=model)['calcMinusControl']
            z = np.abs(change.value) / np.sqrt(change.variance)
            row[model] = {
                'percent_at_0.05': round(100 * float(np.mean(z > 1.95996)), 2),
                'times_0.001': round(float(np.mean(z > 3.29053)) / 0.001, 2),
            }
        rows.append(row)
    return rows


def boluses(n_seeds: int) -> list[dict[str, object]]:
    """SD of z of the area of a bolus whose baseline is correlated in time."""
    time, n_voxels, rows = 1.5 * np.arange(60.0), 1000, []
    rate = 30 * np.exp(-0.5 * ((time - 45) / 5) ** 2)
    clean = 500 * np.exp(-0.03 * rate)
    truth = estimate_relative_cbv(clean[None] * np.ones((200, 1)), echo_time=0.03,
                                  repetition_time=1.5).relative_cbv.value[0]  # fmt: skip
    for phi in (0.0, 0.3, 0.6):
        z = []
        for seed in range(n_seeds):
            rng = np.random.default_rng(seed)
            sd = 5 * np.exp(0.35 * rng.normal(size=(n_voxels, 1)))
            series = clean + sd * slow(rng, phi, (n_voxels, time.size))
            area = estimate_relative_cbv(series, echo_time=0.03, repetition_time=1.5).relative_cbv
            z.extend((area.value - truth) / np.sqrt(area.variance))
        rows.append({'correlation': phi, 'voxel': describe(z)})
    return rows


def scans(n_seeds: int) -> list[dict[str, object]]:
    """False signs of a flow that does not change where scans differ by 3.5 % in common."""
    prior, rows = PRIORS['cbf'], []
    for counted in (True, False):
        beyond: dict[str, list[bool]] = {size: [] for size in SIZES}
        for seed in range(20 * n_seeds):
            rng = np.random.default_rng(seed)
            level = 50 * (1 + 0.035 * rng.normal(size=2))
            noise = 15 * rng.normal(size=(2, len(POINTS)))
            change = Estimate.of(level[0] - level[1] + noise[0] - noise[1], 2 * 15.0**2)
            common, local = prior.variance(np.full(len(POINTS), 50.0))
            for size, side in SIZES.items():
                labels, indices = cubes_of(POINTS, side)
                region = summarise_regions(change, labels, indices)
                left = local_share(region['n_voxels'], SIDE**3)
                between = 2 * (common[0] + left * local[0]) * counted
                z = region['mean'] / np.sqrt(region['se'] ** 2 + between)
                beyond[size].extend(np.abs(z) > 1.96)
        percent = {size: round(100 * float(np.mean(hits)), 1) for size, hits in beyond.items()}
        rows.append({'between_scans': counted, 'percent_beyond_1.96': percent})
    return rows


def echoes(n_seeds: int) -> list[dict[str, object]]:
    """SD of z of the difference of two scans whose echoes depart from a decay in the same way."""
    times, rows = 0.005 * np.arange(1, 13), []
    rng, n_voxels = np.random.default_rng(1), 1000 * n_seeds
    share = rng.uniform(0, 0.4, (n_voxels, 1))
    decay = np.exp(-20 * times)
    kinds = {
        'one decay': decay * np.ones((n_voxels, 1)),
        'two pools': (1 - share) * decay + share * np.exp(-90 * times),
        'spread of fields': decay * np.exp(-500 * share * times**2),
        'gradient': decay * np.sinc(30 * share * times),
        'bipolar readout': decay * (1 + 0.1 * share * (-1.0) ** np.arange(12)),
    }
    for name, clean in kinds.items():
        for snr in (60, 250):
            scan = [
                np.abs(
                    clean
                    + (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)) / snr
                )
                for _ in range(2)
            ]
            one, two = (fit_r2_star(1000 * each, 1.0, echo_times=times) for each in scan)
            z = (one.value - two.value) / np.sqrt(one.variance + two.variance)
            rows.append({'misfit': name, 'snr': snr, 'voxel': describe(z)})
    return rows


ASSUMED = {
    'oxygen.b0': 3.0,
    'oxygen.hct': 0.42,
    'oxygen.sao2': 0.97,
    'oxygen.small_vessel_hct_ratio': 0.85,
    'oxygen.susceptibility': 0.264e-6,
    'oxygen.gyromagnetic_ratio': 2.6752e8,
    'oxygen.oxygen_per_haemoglobin': 55.6,
    'oxygen.haemoglobin_per_hct': 33.4,
    'perfusion.labeling_efficiency': 0.85,
    'perfusion.background_suppression_factor': 0.8,
    'perfusion.t1_blood': 1.65,
    'perfusion.partition_coefficient': 0.9,
    'perfusion.label_duration': 1.8,
    'perfusion.post_label_delay': 1.8,
    'blood_volume.white_matter_cbv': 0.025,
}
LARGEST = {'oxygen.sao2': 1.0, 'perfusion.labeling_efficiency': 1.0}


def signals(constants: dict[str, np.ndarray], oef: float, cbf: float) -> dict[str, np.ndarray]:
    """R2', relative difference and blood volume over that of white matter of a participant."""
    true = {name.partition('.')[2]: value for name, value in constants.items()}
    t1, volume = true['t1_blood'], 1.6 * true['white_matter_cbv']
    hct = true['small_vessel_hct_ratio'] * true['hct']
    rate = 4 / 3 * np.pi * true['gyromagnetic_ratio'] * true['b0'] * true['susceptibility'] * hct
    label = true['labeling_efficiency'] * true['background_suppression_factor']
    arrived = np.exp(-true['post_label_delay'] / t1) - np.exp(
        -(true['post_label_delay'] + true['label_duration']) / t1
    )
    flow = cbf / 6000 / true['partition_coefficient']
    return {
        'r2_prime': rate * oef * volume,
        'difference': 2 * label * flow * t1 * arrived,
        'relative_volume': np.full_like(t1, 1.6),
        'content': true['haemoglobin_per_hct'] / 100 * true['hct'] * true['sao2']
        * true['oxygen_per_haemoglobin'],
    }  # fmt: skip


def constants(n_seeds: int) -> list[dict[str, object]]:
    """Coverage of random and total intervals where constants are as unknown as is stated."""
    rng, n_draws = np.random.default_rng(2), 1000 * n_seeds
    drawn = {
        name: np.minimum(
            value * (1 + RELATIVE_ERROR.get(name, (0.0,))[0] * rng.normal(size=n_draws)),
            LARGEST.get(name, np.inf),
        )
        for name, value in ASSUMED.items()
    }
    oef, cbf = 0.4, 50.0
    seen = signals(drawn, oef, cbf)
    truth = {'oef': oef, 'cmro2': oef * cbf * seen.pop('content')}

    def measured(value: np.ndarray, relative: float) -> Estimate:
        error = relative * value.mean()
        return Estimate.of(value + error * rng.normal(size=n_draws), error**2)

    names: dict[str, dict[str, float]] = {'oxygen': {}, 'perfusion': {}, 'blood_volume': {}}
    for name, value in ASSUMED.items():
        branch, _, short = name.partition('.')
        names[branch][short] = value
    rate = DERIVED['static_dephasing_constant'].of(names['oxygen'])
    volume = measured(ASSUMED['blood_volume.white_matter_cbv'] * seen['relative_volume'], 0.05)
    flow = measured(cbf_from_difference(seen['difference'], 1.0, **names['perfusion']), 0.1)
    made = {'oef': estimate_oef(measured(seen['r2_prime'], 0.08), volume,
                                static_dephasing_constant=rate)}  # fmt: skip
    cao2 = DERIVED['cao2'].of(names['oxygen'])
    made['cmro2'] = estimate_cmro2(flow, made['oef'], cao2=cao2)
    rows = []
    for quantity, estimate in made.items():
        off = estimate.value - truth[quantity]
        by_constants = relative_error(ASSUMED, quantity) * estimate.value
        rows.append(
            {
                'quantity': quantity,
                'random': describe(off / np.sqrt(estimate.variance)),
                'total': describe(off / np.sqrt(estimate.variance + by_constants**2)),
            }
        )
    return rows


PARTS = {
    'pairs': flows,
    'bold': gates,
    'regions': regions,
    'brains': brains,
    'dsc': boluses,
    'scans': scans,
    'echoes': echoes,
    'constants': constants,
}


def main() -> None:
    """Print a line of JSON per row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=20)
    parser.add_argument('--part', nargs='+', choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    for part in arguments.part:
        for row in PARTS[part](arguments.seeds):
            print(json.dumps({'part': part, **row}), flush=True)


if __name__ == '__main__':
    main()
