"""Bias, spread and coverage of T2, T2* and R2' on simulated trains, beside their bars."""

from __future__ import annotations

import argparse
import resource
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.background_field import (
    field_map_from_echoes,
    gradient_attenuation,
    gradient_turns,
    is_outside_kspace,
    slice_gradient,
)
from bids_app.models.relaxometry.decay import (
    fit_r2,
    fit_r2_star,
    fit_r2_without_first,
    predict_decay,
)
from bids_app.models.relaxometry.epg import fit_r2_epg, fit_r2_epg_smooth, predict_echo_train
from bids_app.models.relaxometry.kspace_merge import EchoSet, merge_redundant_echoes
from bids_app.models.relaxometry.slice_edge import fit_slice_edge, join_slice_edges
from bids_app.models.status import Status, is_missing
from bids_app.phantom import acquisition, measurement
from bids_app.phantom.participant import effects_of, make_participant
from bids_app.phantom.study import PhantomStudy, _anatomy
from bids_app.phantom.truth import fit_decay

MESE = 0.016 * np.arange(1, 9)
MEGRE = 0.005 * np.arange(1, 13)
T2, T2_STAR = 0.074, 0.0545
THICKNESS = 3.3e-3
R2_PRIME = 5.5
"""Typical of grey matter, 1/s."""
CYCLES_PER_TESLA = 267.52219e6 / (2 * np.pi)


def rician(rng: np.random.Generator, signal: np.ndarray, noise: float) -> np.ndarray:
    """Magnitude of a signal with noise in both channels."""
    return np.abs(
        signal + noise * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    )


def bound(times: np.ndarray, rate: float, snr: float) -> float:
    """Cramer-Rao bound of the standard deviation of a rate, signal 1 at echo time 0."""
    decay = np.exp(-rate * times)
    jacobian = np.stack([decay, -times * decay], axis=1) * snr
    return float(np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1]))


def monte_carlo(n_voxels: int) -> list[dict]:
    """Bias, spread and coverage of the mono-exponential fits."""
    rng = np.random.default_rng(1)
    rows = []
    cases = (('T2', MESE, T2), ('T2*', MEGRE, T2_STAR), ('T2* 30 ms', MEGRE, 0.030))
    for name, times, time in cases:
        for snr in (30, 60, 100):
            signal = predict_decay(times, np.full(n_voxels, 1000.0), np.full(n_voxels, 1 / time))
            noisy = rician(rng, signal, 1000 / snr)
            estimate = fit_r2_star(noisy, 1.0, echo_times=times)
            z = (estimate.value - 1 / time) / np.sqrt(estimate.variance)
            rows.append(
                {
                    'what': f'{name}, SNR {snr}',
                    'median bias %': 100 * (np.nanmedian(1 / estimate.value) / time - 1),
                    'mean bias %': 100 * (np.nanmean(1 / estimate.value) / time - 1),
                    'spread over bound': np.nanstd(estimate.value) / bound(times, 1 / time, snr),
                    'coverage %': 100 * np.mean(np.abs(z) < 1.96),
                }
            )
    return rows


def refocusing(n_voxels: int) -> list[dict]:
    """Bias of T2 by refocusing angle, without noise and at SNR 60."""
    rng = np.random.default_rng(2)
    models = {'exponential': fit_r2, 'drop-first': fit_r2_without_first, 'epg': fit_r2_epg}
    rows = []
    for angle in (180, 170, 160, 150, 140, 130):
        train = 1000 * predict_echo_train(
            8, echo_spacing=0.016, r2=np.full(n_voxels, 1 / T2), refocusing_angle=angle
        )
        row: dict = {'what': f'{angle} degrees'}
        for name, fit in models.items():
            clean = fit(train[:1], echo_times=MESE).value[0]
            noisy = fit(rician(rng, train, 1000 / 60), echo_times=MESE).value
            row[f'{name} %'] = 100 * (1 / clean / T2 - 1)
            row[f'{name} SNR 60 %'] = 100 * (1 / np.nanmedian(noisy) / T2 - 1)
            row[f'{name} SD 1/s'] = np.nanstd(noisy)
        rows.append(row)
    return rows


def smooth_refocusing(snr: float, seed: int) -> list[dict]:
    """
    T2 with one angle per voxel and with a smooth one, in a head whose angle falls to its sides.

    The angle is a Gaussian in space plus a ripple of 2 degrees: no polynomial. R2 varies.
    """
    rng = np.random.default_rng(seed)
    place = np.argwhere(np.ones((44, 52, 14))) * [4.0, 4.0, 6.6]
    away = (place - place.mean(axis=0)) / [85, 100, 60]
    inside = (away**2).sum(axis=1) < 1
    place, away = place[inside], away[inside]
    centre = rng.uniform(-0.2, 0.2, 3)
    height = np.exp(-0.5 * ((away - centre) ** 2 * [0.55, 0.45, 0.2]).sum(axis=1))
    angle = 180 * height + 2 * np.sin(6 * away[:, 0] + rng.uniform(0, 6))
    rate = rng.uniform(11, 16, len(place))
    train = 1000 * predict_echo_train(8, echo_spacing=0.016, r2=rate, refocusing_angle=angle)
    noisy = rician(rng, train, 1000 / snr)
    fits = {
        'epg': fit_r2_epg(noisy, echo_times=MESE),
        'epg-smooth': fit_r2_epg_smooth(noisy, place, echo_times=MESE),
        'drop-first': fit_r2_without_first(noisy, echo_times=MESE),
    }
    rows = []
    for low, high in ((170, 200), (160, 170), (150, 160), (140, 150), (120, 140)):
        chosen = (angle >= low) & (angle < high)
        row: dict = {'what': f'SNR {snr:.0f}, {low} to {high} degrees ({chosen.sum()} voxels)'}
        for name, fit in fits.items():
            off = fit.value[chosen] - rate[chosen]
            z = off / np.sqrt(fit.variance[chosen])
            row[f'{name} T2 %'] = 100 * np.nanmedian(rate[chosen] / fit.value[chosen] - 1)
            row[f'{name} SD 1/s'] = np.nanstd(off)
            row[f'{name} covered %'] = 100 * np.mean(np.abs(z) < 1.96)
        rows.append(row)
    return rows


def head_field(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Field (T) whose through-slice gradient runs smoothly from 0 to 200 uT/m."""
    x = np.linspace(0, 1, shape[0])[:, None, None]
    z = (np.arange(shape[2] * 20) + 0.5) / 20 * THICKNESS
    wave = gaussian_filter(rng.normal(size=(shape[0], shape[1], 1)), (4, 4, 0))
    wave = 0.1 * wave / np.abs(wave).max()
    gradient = 200e-6 * np.clip(x + wave, 0, 1) * np.ones(shape[:2])[:, :, None]
    return gradient * z + 0.15 * gradient * 0.03 * np.sin(z / 0.03)


def gradients(snr: float = 100.0) -> list[dict]:
    """Bias of R2' with gradients through 3.3 mm slices, corrected and not."""
    rng = np.random.default_rng(3)
    shape = (100, 60, 20)
    field = head_field(rng, shape)
    r2, r2_star = 1 / T2, 1 / T2_STAR
    cycles = CYCLES_PER_TESLA * field[..., None] * MEGRE
    signal = 1000 * np.exp(-r2_star * MEGRE) * np.exp(2j * np.pi * cycles)
    signal = signal.reshape(*shape[:2], shape[2], 20, len(MEGRE)).mean(axis=3)
    noise = 1000 / snr
    signal += noise * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    mask = np.ones(shape, bool)
    corrected, plain = fit_corrected(signal, mask)
    inner = field.reshape(*shape, 20)
    true = (inner[..., -1] - inner[..., 0]) / (THICKNESS * 19 / 20)
    strength = true[mask]
    rows = []
    ranges = [(0, 50), (50, 100), (100, 150), (150, 200), (np.percentile(strength, 90) * 1e6, 999)]
    for low, high in ranges:
        chosen = (strength * 1e6 >= low) & (strength * 1e6 < high)
        rows.append(gradient_row(corrected, plain, chosen, r2_star - r2, r2))
        name = f'{low:.0f} to {high} uT/m' if high < 999 else f'top decile (over {low:.0f} uT/m)'
        rows[-1] = {'what': name, **rows[-1]}
    return rows


def air_field(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Field (T) of two spheres of air below the slab, 20 heights per slice, voxels of 2 mm."""
    side, radius = 2e-3, 14e-3
    x, y = ((np.arange(n) - n / 2) * side for n in shape[:2])
    z = (np.arange(shape[2] * 20) + 0.5) / 20 * THICKNESS
    field = np.zeros((*shape[:2], len(z)))
    for _ in range(2):
        centre = rng.uniform(-0.3, 0.3, 2) * np.array(shape[:2]) * side
        dx, dy = x[:, None, None] - centre[0], y[None, :, None] - centre[1]
        dz = z[None, None, :] + radius * rng.uniform(1.35, 1.6)
        square = dx**2 + dy**2 + dz**2
        moment = 3.0 * 9.4e-6 / 3 * radius**3  # 3 T, air against tissue
        field += moment * (2 * dz**2 - dx**2 - dy**2) / square**2.5
    return field


def air_gradients(snr: float, seed: int) -> list[dict]:
    """
    Bias of R2' beside air, with gradients that change in all directions.

    Written after the correction was finished: nothing was set by it.
    """
    rng = np.random.default_rng(seed)
    shape = (80, 70, 16)
    field = air_field(rng, shape)
    truth = rng.uniform(3.5, 6, shape)
    cycles = CYCLES_PER_TESLA * field[..., None] * MEGRE
    turned = np.exp(2j * np.pi * cycles).reshape(*shape, 20, len(MEGRE)).mean(axis=3)
    signal = 1000 * turned * np.exp(-(1 / T2 + truth[..., None]) * MEGRE)
    noise = 1000 / snr
    signal += noise * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    x, y = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:2]], indexing='ij')
    mask = np.broadcast_to((x**2 + y**2 < 0.9)[:, :, None], shape)
    corrected, plain = fit_corrected(signal, mask)
    inner = field.reshape(*shape, 20)
    strength = np.abs(inner[..., -1] - inner[..., 0])[mask] / (THICKNESS * 19 / 20) * 1e6
    top = np.percentile(strength[strength < 200], 90)
    rows = []
    for low, high in ((0, 20), (20, 50), (50, 100), (100, 200), (top, 200)):
        chosen = (strength >= low) & (strength < high)
        row = gradient_row(corrected, plain, chosen, truth[mask], 1 / T2)
        name = f'top decile below 200 (over {low:.0f} uT/m)' if low == top else f'{low} to {high}'
        rows.append({'what': f'SNR {snr:.0f}, {name}', **row})
    return rows


def soft_slices(edge: float, *, snr: float = 60.0, coils: int = 1, background: str = 'strong'):
    """Bias of R2* in a head of study size whose slices have soft edges, assumed and fitted."""
    study = PhantomStudy(
        root=Path('none'), n_participants=1, seed=7, grid='study', background=background
    )
    made = acquisition.protocol(study.grid)
    scan = replace(
        made.megre, geometry=replace(made.megre.geometry, soft_edge=edge), noise=1 / snr
    )
    person = make_participant(study.stream('01', 'blood'), '01')
    subject = acquisition.Subject(person, _anatomy(study, '01', made))
    which = (subject, scan, np.eye(4), effects_of('control', study.conditions))
    fractions, _ = acquisition.tissue_fractions(subject, scan.geometry, np.eye(4))
    mask = fractions.sum(-1) > 0.6
    places = acquisition.Places(acquisition.centres(scan.geometry, np.eye(4)), mask)
    times = np.array(scan.echo_times)
    truth = fit_decay(acquisition.ideal_gradient_echoes(*which, at=places), scan.echo_times)[mask]
    magnitude, phase = measurement.measure_gradient_echoes(
        acquisition.gradient_echoes(*which), scan, np.random.default_rng(1), coils
    )
    field = field_map_from_echoes(magnitude.astype(float), phase, mask, echo_times=times)
    gradient = slice_gradient(field, mask, slice_spacing=THICKNESS)
    strength, uncertain = np.abs(gradient.value[mask]), np.sqrt(gradient.variance[mask])
    lost = np.zeros((strength.size, times.size), bool)
    for axis, size in ((0, 2e-3), (1, 2e-3)):
        along = slice_gradient(field, mask, slice_spacing=size, axis=axis).value[mask]
        lost |= is_outside_kspace(along, voxel_size=size, echo_times=times)
    signal = magnitude[mask].astype(float)
    turns = gradient_turns(strength, slice_thickness=THICKNESS, echo_times=times)
    seen = np.where(lost, np.nan, turns)
    found = join_slice_edges([fit_slice_edge(signal, seen, echo_times=times, coils=coils)])
    grey = (fractions[..., 0][mask] > 0.8) & (fractions[..., 2][mask] < 0.05)
    rows = []
    for name, variance, error in (('rectangular', 0.0, 0.0), ('fitted', *found[:2])):
        kept, less = (
            gradient_attenuation(
                one, slice_thickness=THICKNESS, echo_times=times, profile='fitted', edge=variance
            )
            for one in (strength, strength + uncertain)
        )
        by_edge = 2 * error * (np.pi * np.nan_to_num(turns)) ** 2 * kept
        rate = fit_r2_star(
            signal,
            np.where(lost, 0.0, kept),
            echo_times=times,
            attenuation_error=np.where(lost, 0.0, np.hypot(kept - less, by_edge)),
            coils=coils,
        )
        row = {'what': f'{background}, edges {edge}, SNR {snr:.0f}, {coils} coils, {name}'}
        row |= {'e * 1000': 1000 * variance, 'error': 1000 * error}
        for low, high in ((0, 999), (20, 50), (50, 100), (100, 200)):
            here = grey & ~is_missing(rate.status) & np.isfinite(truth)
            here &= (strength >= low * 1e-6) & (strength < high * 1e-6)
            away = rate.value[here] - truth[here]
            z = np.abs(away) / np.sqrt(rate.variance[here])
            some = here.sum() > 50
            row[f'{low}-{high} %'] = 100 * np.median(away) / R2_PRIME if some else np.nan
            row[f'covers {low}'] = 100 * np.mean(z < 1.96) if some else np.nan
        rows.append(row)
    return rows


def fit_corrected(signal: np.ndarray, mask: np.ndarray) -> tuple[Estimate, Estimate]:
    """Fit R2* with and without the correction of the gradient through the slices."""
    magnitude, phase = np.abs(signal), np.angle(signal)
    gradient = slice_gradient(
        field_map_from_echoes(magnitude, phase, mask, echo_times=MEGRE),
        mask,
        slice_spacing=THICKNESS,
    )
    factor, stronger = (
        gradient_attenuation(one, slice_thickness=THICKNESS, echo_times=MEGRE)
        for one in (
            gradient.value[mask],
            np.abs(gradient.value[mask]) + np.sqrt(gradient.variance[mask]),
        )
    )
    plain = fit_r2_star(magnitude[mask], 1.0, echo_times=MEGRE, attenuation_floor=0.0)
    corrected = fit_r2_star(
        magnitude[mask], factor, echo_times=MEGRE, attenuation_error=stronger - factor
    )
    return corrected, plain


def gradient_row(
    corrected: Estimate, plain: Estimate, chosen: np.ndarray, truth: float | np.ndarray, r2: float
) -> dict:
    """Bias of R2' in some voxels."""
    status = corrected.status[chosen]
    known = ~is_missing(status)
    trusted = known & (status != Status.GRADIENT_UNCERTAIN)
    truth = np.broadcast_to(truth, chosen.shape)[chosen]
    value = (corrected.value[chosen] - r2) / truth
    before = (plain.value[chosen] - r2) / truth
    z = (value - 1)[known] * truth[known] / np.sqrt(corrected.variance[chosen][known])
    return {
        'uncorrected %': 100 * (np.nanmedian(before) - 1),
        'corrected %': 100 * (np.median(value[known]) - 1),
        'trusted %': 100 * (np.median(value[trusted]) - 1) if trusted.any() else np.nan,
        'no estimate %': 100 * np.mean(~known),
        'flagged %': 100 * np.mean(status == Status.GRADIENT_UNCERTAIN),
        'coverage %': 100 * np.mean(np.abs(z) < 1.96),
    }


def lines(image: np.ndarray) -> np.ndarray:
    """Phase-encoding lines along the second axis."""
    return np.fft.fftshift(np.fft.fft2(image, axes=(0, 1)), axes=(0, 1))


def acquire(
    image: np.ndarray, n_lines: int, moves: np.ndarray, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Read an image line by line; `moves` gives each line its shift in voxels."""
    size = image.shape[0]
    k = np.arange(size) - size // 2
    shift = moves[None, :, 0] * k[None, :] + moves[None, :, 1] * k[:, None]
    spectrum = lines(image) * np.exp(-2j * np.pi * shift / size)[..., None]
    spectrum[:, np.abs(k + 0.5) > n_lines / 2] = 0
    read = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1))
    return read + noise * np.sqrt(n_lines / size) * (
        rng.normal(size=read.shape) + 1j * rng.normal(size=read.shape)
    )


def movement(snr: float, first_seed: int = 100, n_runs: int = 12) -> list[dict]:
    """
    Error of T2* with movement during some lines, before and after the merge.

    Beside it stands what the same sets give when nobody moves: no merge can do better.
    """
    size, noise = 112, 1000 / snr
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing='ij')
    mask = (x / 0.75) ** 2 + (y / 0.85) ** 2 < 1
    rate = 18 + 3 * np.sin(9 * x) * np.cos(7 * y) + 4 * ((x**2 + (y - 0.2) ** 2) < 0.06)
    field = 40 * x**2 - 25 * y + 15 * np.sin(3 * x + 2 * y)
    amplitude = mask * (1000 + 150 * np.cos(11 * y) * np.sin(8 * x))
    still = np.zeros((size, 2))

    def image(times: np.ndarray) -> np.ndarray:
        return amplitude[..., None] * np.exp((2j * np.pi * field - rate)[..., None] * times)

    def error(echoes: np.ndarray) -> float:
        estimate = fit_r2_star(np.abs(echoes[mask]), 1.0, echo_times=MEGRE)
        return float(np.sqrt(np.nanmean((1 / estimate.value - 1 / rate[mask]) ** 2)))

    def merge(full: np.ndarray, reduced: list[np.ndarray]) -> np.ndarray:
        sets = [EchoSet(full[:, :, None], tuple(MEGRE), size)]
        sets += [
            EchoSet(item[:, :, None], tuple(MEGRE + 1e-3), size // part)
            for item, part in zip(reduced, (2, 4), strict=True)
        ]
        return merge_redundant_echoes(sets, mask[:, :, None]).echoes[:, :, 0]

    rows = []
    for name, length, n_bursts in (('central eighth', 14, 1), ('3 bursts anywhere', 7, 3)):
        runs = []
        for seed in range(first_seed, first_seed + n_runs):
            rng = np.random.default_rng(seed)
            moves = still.copy()
            for _ in range(n_bursts):
                first = rng.integers(size - length) if n_bursts > 1 else size // 2 - 10
                moves[first : first + length] = rng.normal(0, 1.0, 2)
            full = acquire(image(MEGRE), size, moves, noise, rng)
            rest = acquire(image(MEGRE), size, still, noise, rng)
            reduced = [
                acquire(image(MEGRE + 1e-3), size // part, still, noise, rng) for part in (2, 4)
            ]
            runs.append((error(full), error(merge(full, reduced)), error(merge(rest, reduced))))
        before, after, bound = np.array(runs).T
        possible = bound < 0.4 * before
        rows.append(
            {
                'what': f'{name}, SNR {snr:.0f}',
                'unmerged RMSE ms': 1e3 * np.median(before),
                'merged RMSE ms': 1e3 * np.median(after),
                'the same sets at rest RMSE ms': 1e3 * np.median(bound),
                'median ratio': np.median(after / before),
                'largest ratio': np.max(after / before),
                'runs under half': f'{np.sum(after < before / 2)} of {n_runs}',
                'of those whose ratio at rest is under 0.4': (
                    f'{np.sum((after < before / 2)[possible])} of {np.sum(possible)}'
                ),
            }
        )
    return rows


def merge_speed() -> list[dict]:
    """Time of the merge of a full, a half and a quarter set of the target study, one core."""
    rng = np.random.default_rng(7)
    shape = (112, 112, 35)
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing='ij')
    mask = (x / 0.75) ** 2 + (y / 0.85) ** 2 < 1
    exponent = 2j * np.pi * (40 * x**2 - 25 * y) - 18
    sets = []
    for part, delay in ((1, 0.0), (2, 1e-3), (4, 1e-3)):
        echoes = 1000 * mask[..., None] * np.exp(exponent[..., None] * (MEGRE + delay))
        echoes += 3 * rng.normal(size=(*echoes.shape, 2)).view(complex)[..., 0]
        sets.append(EchoSet(echoes, tuple(MEGRE + delay), shape[1] // part))
    start = process_time()
    merge_redundant_echoes(sets, mask)
    spent = process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [{'what': '112 x 112 x 35 x 12, three sets', 'CPU s': spent, 'peak GB': peak}]


def show(title: str, rows: list[dict]) -> None:
    """Print a table."""
    print(f'\n{title}')
    print(' | '.join(rows[0]))
    for row in rows:
        cells = (item if isinstance(item, str) else f'{item:.2f}' for item in row.values())
        print(' | '.join(cells))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--voxels', type=int, default=20_000)
    n_voxels = parser.parse_args().voxels
    show('Mono-exponential fits', monte_carlo(n_voxels))
    show('T2 by refocusing angle', refocusing(n_voxels))
    for snr in (30, 60, 100):
        show('T2 with an angle per voxel or a smooth one', smooth_refocusing(snr, seed=61))
    show('T2* with movement during some lines', movement(330) + movement(100))
    show('Merge of redundant sets', merge_speed())
    show("R2' with gradients through 3.3 mm slices", gradients())
    cases = [
        {'edge': edge, 'background': field}
        for field in ('strong', 'mild')
        for edge in (0.0, 0.2, 0.5)
    ]
    cases += [{'edge': 0.0, 'coils': 8}, {'edge': 0.2, 'snr': 30.0}]  # fmt: skip
    show("R2* of soft slices, bias in percent of R2'",
         [row for case in cases for row in soft_slices(**case)])  # fmt: skip
    show("R2' beside air", [row for seed in (51, 52) for row in air_gradients(100, seed)])


if __name__ == '__main__':
    main()
