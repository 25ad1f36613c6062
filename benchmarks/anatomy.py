"""
Movement, alignment and normalisation against the truth of the phantom.

python benchmarks/anatomy.py motion      movement within a BOLD series of 400 volumes
python benchmarks/anatomy.py verdict     verdicts on scans that fit and on scans that do not
python benchmarks/anatomy.py poses       brain and alignment of heads turned and shifted
python benchmarks/anatomy.py heads       brains of turned, cropped, defaced, noisy, shaded heads
python benchmarks/anatomy.py kinds       brains of children, atrophy, contrast agent, MP2RAGE, 7 T
python benchmarks/anatomy.py coarse      brain, tissue, scans and template of a coarse participant
python benchmarks/anatomy.py study       the same at study size (minutes)
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_app.engines.isolated import run_isolated
from bids_app.engines.masks import mask_from_mean
from bids_app.errors import InputDataError
from bids_app.images import Grid, grid_of, load_affine, load_data, save_affine, save_image
from bids_app.interfaces.alignment import measure_alignment
from bids_app.models.numerics.resampling import average_over_voxel
from bids_app.models.preprocessing.coregistration import judge_brain, mask_overlap
from bids_app.models.preprocessing.realignment import (
    estimate_rigid_motion,
    mask_centre,
    motion_matrices,
)
from bids_app.phantom import acquisition, measurement, physics
from bids_app.phantom.anatomy import _deformed, make_head, random_rigid, smooth_field
from bids_app.phantom.participant import effects_of, make_participant
from bids_app.phantom.study import PhantomStudy, _anatomy

STUDY = PhantomStudy(root=Path('none'), n_participants=1, seed=5, grid='coarse')
PROTOCOL = acquisition.protocol('coarse')


def displacements(motion, centre, points):
    """Where movements (T, 6) bring points (V, 3), relative to them, (T, V, 3)."""
    matrices = motion_matrices(motion, centre)
    moved = np.einsum('tij,vj->tvi', matrices[:, :3, :3], points) + matrices[:, None, :3, 3]
    return moved - points


def measure_motion() -> None:
    """Print the error of the movement, with drift and task in the series."""
    scan, effects = PROTOCOL.bold, [effects_of(c, STUDY.conditions) for c in STUDY.conditions]
    states = acquisition.steady_states(
        subject(STUDY.seed, PROTOCOL), scan, np.eye(4), tuple(effects)
    )
    rng = STUDY.stream('01', 'BOLD')
    true = measurement.motion_course(scan, rng)
    task = (scan.times // 30 % 2)[np.newaxis]
    series = measurement.measure_bold(states, task, true, scan, rng)
    true[:, 3:] = np.deg2rad(true[:, 3:])
    affine = scan.geometry.affine
    brain = mask_from_mean(series, affine)
    mask = ndimage.binary_dilation(brain, iterations=2)
    start = time.perf_counter()
    found = estimate_rigid_motion(series, mask, affine)
    seconds = time.perf_counter() - start
    points = np.argwhere(brain)[::37] @ affine[:3, :3].T + affine[:3, 3]
    truth = displacements(true, np.array(scan.geometry.centre), points)
    error = displacements(found, mask_centre(mask, affine), points) - truth
    error, truth = (part - part.mean(axis=0) for part in (error, truth))
    size, left = (np.sqrt((part**2).sum(axis=-1).mean()) for part in (truth, error))
    print(f'{len(found)} volumes {series.shape[:3]}: movement {size:.3f} mm, '
          f'error {left:.3f} mm (root mean square), {seconds:.1f} s')  # fmt: skip


def subject(seed: int, protocol: acquisition.Protocol, **kind: float) -> acquisition.Subject:
    """Make the participant of a seed, its head of another size or with atrophy."""
    study = PhantomStudy(root=Path('none'), n_participants=1, seed=seed, grid=protocol.name)
    participant = make_participant(study.stream('01', 'blood'), '01')
    if kind:
        rng = study.stream('01', 'anatomy')
        return acquisition.Subject(participant, make_head(rng, spacing=protocol.spacing, **kind))
    return acquisition.Subject(participant, _anatomy(study, '01', protocol))


def write_t1w(one: acquisition.Subject, protocol: acquisition.Protocol, seed: int, folder: Path):
    """Write T1w image and true brain; return their files."""
    image, brain = acquisition.structural(one, protocol.t1w)
    stored = measurement.measure_structural(image, protocol.t1w, np.random.default_rng(seed))
    grid = Grid(protocol.t1w.shape, protocol.t1w.affine)
    t1w = save_image(stored.astype(np.float32), grid, folder / f't1w_{seed}.nii')
    return t1w, save_image(brain, grid, folder / f'brain_{seed}.nii')


def scan_of(one: acquisition.Subject, protocol: acquisition.Protocol, kind: str, pose):
    """Image that stands for a scan, with noise, and its grid."""
    effects = {}
    if kind in ('mese', 'megre'):
        scan = getattr(protocol, kind)
        image = acquisition.spin_echoes(one, scan, pose).mean(axis=-1)
    elif kind == 'asl':
        scan = protocol.asl
        image = acquisition.labeling_images(one, scan, pose, effects)[1]
    else:
        scan = getattr(protocol, kind)
        image = acquisition.steady_states(one, protocol.bold, pose, (effects,))[..., 0]
        scan = protocol.bold
    rng = np.random.default_rng(7)
    noisy = np.hypot(image + 0.01 * rng.standard_normal(image.shape),
                     0.01 * rng.standard_normal(image.shape))  # fmt: skip
    return noisy, Grid(scan.geometry.shape, scan.geometry.affine)


def register(t1w, brain, image, grid, work: Path):
    """Align a scan; return its file and the transform's."""
    moving = save_image(image.astype(np.float32), grid, work / 'scan.nii')
    out = work / 'transform.txt'
    run_isolated('register_rigid', cwd=work, fixed=t1w, moving=moving, fixed_mask=brain,
                 out_transform=out)  # fmt: skip
    return moving, out


def judge(t1w, brain, moving, transform, work: Path):
    """Give the verdict on a scan, and what it rests on."""
    grid, source = grid_of(moving), grid_of(brain)
    mask = average_over_voxel(
        load_data(brain), grid.affine, grid.shape, source.affine,
        np.linalg.inv(load_affine(transform)),
    ) > 0.5  # fmt: skip
    carried = save_image(mask, grid, work / 'mask.nii')
    return measure_alignment(
        reference=moving, mask=carried, t1w=t1w, brain_mask=brain, transform=transform
    )


def misalignment(transform, pose, brain) -> float:
    """Mean distance of the brain from where it should be, mm."""
    grid = grid_of(brain)
    points = np.argwhere(load_data(brain) > 0.5)[::97] @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    there = np.c_[points, np.ones(len(points))] @ (pose @ load_affine(transform)).T
    return float(np.linalg.norm(there[:, :3] - points, axis=1).mean())


KINDS = ('mese', 'asl', 'bold')


def half(image):
    """Take half of a brain away."""
    return np.where(np.arange(len(image))[:, None, None] < len(image) // 2, 0.0, image)


def measure_verdict(first: int = 240, n_good: int = 20, n_failed: int = 10) -> None:
    """Print what becomes of scans that fit, of other heads, of half brains, of scans left off."""
    counts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        other = write_t1w(subject(first - 1, PROTOCOL), PROTOCOL, first - 1, work)
        for index in range(n_good):
            seed = first + index
            one, kind = subject(seed, PROTOCOL), KINDS[index % len(KINDS)]
            pose = random_rigid(np.random.default_rng(seed), degrees=8, millimetres=15)
            own = write_t1w(one, PROTOCOL, seed, work)
            image, grid = scan_of(one, PROTOCOL, kind, pose)
            cases = {'in place': (own, image)}
            if index < n_failed:
                cases |= {'wrong T1w': (other, image), 'half missing': (own, half(image))}
            for name, ((t1w, brain), signal) in cases.items():
                files = register(t1w, brain, signal, grid, work)
                found = judge(t1w, brain, *files, work)
                counts.setdefault(name, []).append(found.verdict.name)
                print(f'{name:12} {kind:5} {found.verdict.name:6} overlap {found.overlap:.3f} '
                      f'moved {found.moved / found.similarity:.2f}'
                      f' {misalignment(files[1], pose, brain):.2f} mm', flush=True)  # fmt: skip
                if name == 'in place' and index < n_failed:
                    off = load_affine(files[1]) @ random_rigid(
                        np.random.default_rng(seed), degrees=8, millimetres=10)  # fmt: skip
                    save_affine(off, files[1])
                    found = judge(t1w, brain, *files, work)
                    counts.setdefault('left off', []).append(found.verdict.name)
            other = own
    for name, verdicts in counts.items():
        flagged = sum(verdict != 'good' for verdict in verdicts)
        stopped = sum(verdict == 'failed' for verdict in verdicts)
        print(f'{name}: {len(verdicts)} scans, {stopped} stopped, {flagged} flagged')


def measure_poses(first: int = 300, n_heads: int = 5) -> None:
    """Print brain and alignment of heads that lie turned and shifted in the scanner."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for seed in range(first, first + n_heads):
            rng = np.random.default_rng(seed)
            one = subject(seed, PROTOCOL)
            turn = rng.standard_normal(3)
            turn /= np.linalg.norm(turn)
            lie = np.eye(4)
            lie[:3, :3] = Rotation.from_rotvec(turn * np.deg2rad(25)).as_matrix()
            shift = rng.standard_normal(3)
            lie[:3, 3] = 60 * shift / np.linalg.norm(shift)
            pose = random_rigid(rng, degrees=3, millimetres=5)
            files = [_lying(path, lie) for path in write_t1w(one, PROTOCOL, seed, work)]
            image, grid = scan_of(one, PROTOCOL, 'bold', pose)
            brain, t1w = extract(files[0], work)
            dice = overlap_of(brain, files[1])
            scan = Grid(grid.shape, lie @ grid.affine)
            moving, transform = register(t1w, brain, image, scan, work)
            error = misalignment(transform, lie @ pose @ np.linalg.inv(lie), files[1])
            verdict = judge(t1w, brain, moving, transform, work).verdict.name
            failures += dice < 0.95 or error > 2 or verdict != 'good'
            print(f'25 degrees about {turn.round(1)}, 60 mm: brain Dice {dice:.3f}, '
                  f'alignment {error:.2f} mm, verdict {verdict}', flush=True)  # fmt: skip
    print(f'failures: {failures} of {n_heads} (bar: none)')


def measure_heads(first: int = 500, n_heads: int = 100) -> None:
    """Print the Dice of the brain of heads that are turned and spoilt in every way, by chance."""
    dices, unnamed = [], 0
    for seed in range(first, first + n_heads):
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            t1w, true = spoilt_head(seed, rng, work)
            out = {'out_mask': work / 'found.nii', 'out_corrected': work / 'corrected.nii'}
            try:
                reply = run_isolated('extract_brain', cwd=work, t1w=t1w, **out)
            except InputDataError as error:
                print(f'{seed}: refused: {error}', flush=True)
                continue
            dices.append(overlap_of(out['out_mask'], true))
        unnamed += (
            dices[-1] < 0.9 and judge_brain(reply['placed'], reply['likeness']).name == 'good'
        )
        print(f'{seed}: Dice {dices[-1]:.3f}, volume {reply["volume"]:.0f} mL, likeness '
              f'{reply["placed"]:.2f}, {reply["likeness"]:.2f}', flush=True)  # fmt: skip
    good = sum(dice >= 0.96 for dice in dices)
    print(f'{n_heads} heads: {n_heads - len(dices)} refused, Dice 0.96 or more in {good}, '
          f'smallest {min(dices):.3f}, below 0.9 without a word: {unnamed}')  # fmt: skip


def spoilt_head(seed: int, rng, folder: Path):
    """Write a head turned up to 40 degrees, shaded, noisy, perhaps defaced or cut; its brain."""
    one = subject(seed, PROTOCOL)
    image, brain = acquisition.structural(one, PROTOCOL.t1w)
    grid = Grid(PROTOCOL.t1w.shape, PROTOCOL.t1w.affine)
    points = np.moveaxis(np.indices(image.shape), 0, -1) @ grid.affine[:3, :3].T
    points = points + grid.affine[:3, 3]
    inside = points[brain > 0.5]
    centre, reach = inside.mean(axis=0), np.ptp(inside, axis=0) / 2
    around = (points - centre) / reach
    slope, bend = 0.35 * rng.uniform(-1, 1, (2, 3))
    image = image * np.exp(around @ slope + around**2 @ bend)
    if rng.random() < 0.5:  # a plane before and below the brain takes the face away
        image = np.where(around @ [0, 1, -1] > 1.9, 0, image)
    level = np.percentile(image[brain > 0.5], 80)
    noise = level / rng.uniform(10, 40)
    image = np.hypot(image + noise * rng.standard_normal(image.shape),
                     noise * rng.standard_normal(image.shape))  # fmt: skip
    below = inside[:, 2].min() - grid.affine[2, 3]
    cut = int(rng.uniform(0, below / 2))  # slices of the neck that were not acquired
    turn = rng.standard_normal(3)
    lie = np.eye(4)
    lie[:3, :3] = Rotation.from_rotvec(
        turn / np.linalg.norm(turn) * np.deg2rad(rng.uniform(0, 40))
    ).as_matrix()
    lie[:3, 3] = rng.uniform(-40, 40, 3)
    lie = lie @ grid.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, cut], [0, 0, 0, 1]])
    image, brain = image[..., cut:], brain[..., cut:]
    place = Grid(image.shape, lie)
    t1w = save_image(image.astype(np.float32), place, folder / 't1w.nii')
    return t1w, save_image(brain, place, folder / 'brain.nii')


def contrast_agent(image, brain, scan, rng):
    """Let dura, sagittal sinus, scalp and mucosa enhance."""
    distance = ndimage.distance_transform_edt(~brain, sampling=scan.zooms)
    across, _, up = np.indices(image.shape)
    middle, _, height = np.argwhere(brain).mean(axis=0)
    dura = np.exp(-(((distance - 2) / 1.5) ** 2)) * ~brain
    sinus = ~brain & (distance < 9) & (np.abs(across - middle) * scan.zooms[0] < 6)
    image = image + 1.2 * dura + 1.5 * (sinus & (up > height)) + 0.5 * image * ~brain
    return physics.rician(image / np.percentile(image, 99), 0.02, rng)


def seven_tesla(image, brain, scan, rng):
    """Darken a head from the middle outwards, and temporal lobes by half."""
    points = np.moveaxis(np.indices(image.shape), 0, -1) * np.array(scan.zooms)
    inside = points[brain]
    around = (points - inside.mean(axis=0)) / (np.ptp(inside, axis=0) / 2)
    field = np.exp(-(around**2).sum(axis=-1) / 1.5)
    for side in (-0.8, 0.8):
        lobe = (around - [side, 0.1, -0.6]) / 0.4
        field *= 1 - 0.5 * np.exp(-(lobe**2).sum(axis=-1))
    image = image * field
    return physics.rician(image / np.percentile(image, 99), 0.01, rng)


def mp2rage(image, brain, scan, rng):
    """Give the ratio of two noisy inversions of which the first goes through zero."""
    del brain
    density = np.where(image > 0.08, 0.7, image)
    density = density * np.exp(0.3 * smooth_field(rng, scan.axes, length=80.0))
    first, second = (
        density * part + 0.01 * (rng.standard_normal((2, *image.shape)).T @ [1, 1j]).T
        for part in (image - 0.5, 0.9 - 0.2 * image)
    )
    ratio = (np.conj(first) * second).real / (np.abs(first) ** 2 + np.abs(second) ** 2)
    return np.rint(4095 * (ratio + 0.5))


def plain_noise(image, brain, scan, rng):
    """Add noise alone."""
    del brain, scan
    return physics.rician(image / np.percentile(image, 99), 0.02, rng)


FINER = replace(PROTOCOL.t1w, shape=(128, 155, 131), zooms=(1.5, 1.5, 1.5))

HEADS = {
    'child, 0.92 as long': ({'size': 0.92}, PROTOCOL.t1w, plain_noise),
    'child, 0.85 as long': ({'size': 0.85}, PROTOCOL.t1w, plain_noise),
    'child, 0.75 as long': ({'size': 0.75}, PROTOCOL.t1w, plain_noise),
    'fluid 1 mm wider': ({'atrophy': 1.0}, PROTOCOL.t1w, plain_noise),
    'fluid 2 mm wider': ({'atrophy': 2.0}, PROTOCOL.t1w, plain_noise),
    'contrast agent': ({}, PROTOCOL.t1w, contrast_agent),
    '1.5 mm': ({}, FINER, plain_noise),
    'shaded as at 7 T': ({}, PROTOCOL.t1w, seven_tesla),
    'MP2RAGE, UNIT1': ({}, PROTOCOL.t1w, mp2rage),
}
"""Kind of head or of image -> what makes it."""


def measure_kinds(seed: int = 700) -> None:
    """Print the Dice of the brain of heads unlike the template, and of unlike T1w images."""
    for name, (kind, scan, spoil) in HEADS.items():
        image, brain = acquisition.structural(subject(seed, PROTOCOL, **kind), scan)
        image = spoil(image, brain, scan, np.random.default_rng(seed))
        grid = Grid(scan.shape, scan.affine)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            t1w = save_image(image.astype(np.float32), grid, work / 't1w.nii')
            true = save_image(brain, grid, work / 'brain.nii')
            out = {'out_mask': work / 'found.nii', 'out_corrected': work / 'corrected.nii'}
            limits = (100.0, 3000.0)  # how well it is found, not whether it would be refused
            reply = run_isolated('extract_brain', cwd=work, t1w=t1w, volumes=limits, **out)
            dice = overlap_of(out['out_mask'], true)
        placed, likeness = reply['placed'], reply['likeness']
        print(f'{name}: Dice {dice:.3f}, {reply["volume"]:.0f} mL, likeness {placed:.2f}, '
              f'{likeness:.2f}, verdict {judge_brain(placed, likeness).name}',
              flush=True)  # fmt: skip


def _lying(path: str, lie) -> str:
    """Turn a head by its header."""
    grid = grid_of(path)
    return save_image(load_data(path), Grid(grid.shape, lie @ grid.affine), path)


def extract(t1w, work: Path):
    """Find the brain; return its mask and the corrected image."""
    mask, corrected = work / 'mask_found.nii', work / 'corrected.nii'
    run_isolated('extract_brain', cwd=work, t1w=t1w, out_mask=mask, out_corrected=corrected)
    return mask, corrected


def overlap_of(one, other) -> float:
    """Dice of what is above one half in two images."""
    return mask_overlap(load_data(one) > 0.5, load_data(other) > 0.5)


def measure_participant(protocol: acquisition.Protocol, seed: int = 5) -> None:
    """Print the error of every step of a participant, each beside its bar."""
    one = subject(seed, protocol)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw, true_brain = write_t1w(one, protocol, seed, work)
        started = time.process_time(), time.perf_counter()
        brain, t1w = extract(raw, work)
        print(f'brain mask: Dice {overlap_of(brain, true_brain):.3f} (bar 0.95)', flush=True)
        measure_tissue(one, protocol, (t1w, brain, true_brain), work)
        measure_scans(one, protocol, (t1w, brain, true_brain), work)
        measure_template(protocol, seed, (t1w, brain), work)
        print(f'{protocol.name}: {time.perf_counter() - started[1]:.0f} s wall in all')


def measure_tissue(one, protocol, files, work: Path) -> None:
    """Print the Dice of grey and white matter."""
    t1w, brain, _ = files
    out = {f'out_{name}': work / f'{name}.nii' for name in ('gm', 'wm', 'csf')}
    start = time.perf_counter()
    run_isolated('segment_tissue', cwd=work, t1w=t1w, mask=brain, **out)
    seconds = time.perf_counter() - start
    fractions, _ = acquisition.tissue_fractions(one, protocol.t1w, np.eye(4))
    for index, (name, bar) in enumerate((('gm', ' (bar 0.85)'), ('wm', ''), ('csf', ''))):
        dice = mask_overlap(load_data(out[f'out_{name}']) > 0.5, fractions[..., index] > 0.5)
        print(f'{name}: Dice {dice:.3f}{bar}, {seconds:.0f} s', flush=True)


def measure_scans(one, protocol, files, work: Path) -> None:
    """Print how far every scan lies from the quantification grid."""
    t1w, brain, true_brain = files
    first = None
    for index, kind in enumerate(('mese', 'asl', 'bold')):
        pose = random_rigid(np.random.default_rng(index), degrees=2, millimetres=3)
        image, grid = scan_of(one, protocol, kind, pose)
        start = time.perf_counter()
        moving, transform = register(t1w, brain, image, grid, work)
        seconds = time.perf_counter() - start
        verdict = judge(t1w, brain, moving, transform, work).verdict.name
        found = load_affine(transform)
        to_head = pose @ found
        first = to_head if first is None else first
        save_affine(found @ np.linalg.inv(first), transform)
        between = misalignment(transform, pose, true_brain)
        bar = max(*grid.zooms, *protocol.mese.geometry.zooms) / 2
        save_affine(found, transform)
        print(f'{kind}: {between:.2f} mm from the quantification grid (bar {bar:.2f}: half a '
              f'voxel; half of its smallest side {grid.zooms.min() / 2:.2f}), verdict {verdict}, '
              f'{misalignment(transform, pose, true_brain):.2f} mm from the T1w image, '
              f'{seconds:.0f} s', flush=True)  # fmt: skip


def measure_template(protocol, seed: int, files, work: Path) -> None:
    """Print the error of the deformation to the template, quick and careful."""
    t1w, brain = files
    geometry = protocol.t1w
    low = np.diag([*np.abs(np.diag(geometry.affine)[:3]), 1.0])
    corners = geometry.affine @ np.array([[0, 0, 0, 1], [*(np.array(geometry.shape) - 1), 1]]).T
    low[:3, 3] = corners[:3].min(axis=1)
    study = PhantomStudy(root=Path('none'), n_participants=1, seed=seed, grid=protocol.name)
    true = _deformed(study.stream('01', 'anatomy'), geometry.shape, low)
    true = np.flip(true, [i for i in range(3) if geometry.affine[i, i] < 0])
    found = load_data(brain) > 0.5
    for sloppy in (True, False):
        start = time.perf_counter()
        ends = {'out_forward': work / 'to.h5', 'out_inverse': work / 'from.h5'}
        run_isolated('normalise_to_template', cwd=work, t1w=t1w, mask=brain, sloppy=sloppy, **ends)
        seconds = time.perf_counter() - start
        out = work / 'position.nii'
        run_isolated('template_coordinates', cwd=work, transform=work / 'from.h5', template=t1w,
                     out=out)  # fmt: skip
        error = np.linalg.norm(load_data(out) - true, axis=-1)[found]
        name = 'sloppy' if sloppy else 'careful (bar 1.2)'
        print(f'to the template, {name}: mean {error.mean():.2f} mm'
              f', 95th percentile {np.percentile(error, 95):.2f} mm, {seconds:.0f} s',
              flush=True)  # fmt: skip


if __name__ == '__main__':
    parts = {
        'motion': measure_motion,
        'verdict': measure_verdict,
        'poses': measure_poses,
        'heads': measure_heads,
        'kinds': measure_kinds,
        'coarse': lambda: measure_participant(PROTOCOL),
        'study': lambda: measure_participant(acquisition.protocol('study')),
    }
    for part in sys.argv[1:] or parts:
        parts[part]()
