"""Compare derivatives of the app with the truth: `python -m bids_app.phantom.compare BIDS OUT`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nb
import numpy as np

from bids_app.phantom.derivatives import PLACES
from bids_app.phantom.truth import contrast_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bids_app._typing import BoolArray, FloatArray

TOLERANCE = {
    'T2map': 0.015,
    'T2starmap': 0.015,
    'R2primemap': 0.05,
    'cbf': 0.05,
    'cbv': 0.08,
    'oef': 0.08,
    'cmro2': 0.08,
}
"""Largest relative error of a median in grey matter, per suffix."""

GREY_MATTER = (0.8, 0.6)
"""True fractions above which voxels count; the second where the first leaves too few."""

ENOUGH = 500
"""Voxels."""

N_REGIONS = 5
"""Four with a change, the fifth without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison."""

    participant: str
    quantity: str
    truth: float
    estimate: float
    is_within: bool
    """The bar is met."""
    bar: str

    @property
    def text(self) -> str:
        """As printed."""
        verdict = 'ok' if self.is_within else 'OUTSIDE'
        return (
            f'{self.participant:8s} {self.quantity:34s} {self.truth:10.4g} {self.estimate:10.4g}'
            f'  {self.bar:18s} {verdict}'
        )


def compare(root: Path, out: Path) -> list[Row]:
    """
    Compare medians in grey matter, and signs of the change of CMRO2 in the true regions.

    Per participant and map, then per contrast and region of the group. A map that is absent from
    the output is outside, with NaN.
    """
    folders = sorted((root / 'derivatives' / 'truth').glob('sub-*'))
    rows: list[Row] = []
    for folder in folders:
        rows += _participant_rows(folder, out)
    return [*rows, *_group_rows(folders, out)]


def _participant_rows(folder: Path, out: Path) -> Iterator[Row]:
    """Compare the medians of all maps of one participant."""
    inside = _grey(folder)
    numbers = _numbers(folder)
    name = folder.name
    stems = [f'anat/{name}_space-MESE_T2map', f'perf/{name}_space-MESE_desc-dsc_cbv']
    for condition in numbers['Conditions']:
        start = f'{name}_task-{condition}_space-MESE'
        stems.append(f'anat/{start}_T2starmap')
        places = [PLACES[quantity] for quantity in ('R2prime', 'cbf', 'oef', 'cmro2')]
        stems += [f'{kind}/{start}_{suffix}' for kind, suffix in places]
    for stem in stems:
        suffix = stem.rsplit('_', 1)[1]
        truth, estimate = _medians(folder / stem, out / name / stem, inside)
        bar = TOLERANCE[suffix]
        is_within = bool(abs(estimate / truth - 1) <= bar)
        label = stem.split('/')[1].removeprefix(f'{name}_').replace('space-MESE_', '')
        yield Row(
            participant=name,
            quantity=label,
            truth=truth,
            estimate=estimate,
            is_within=is_within,
            bar=f'{100 * (estimate / truth - 1):+.1f} of {100 * bar:.1f} %',
        )


def _group_rows(folders: Sequence[Path], out: Path) -> Iterator[Row]:
    """Compare the sign of the mean change over participants in every true region."""
    numbers = _numbers(folders[0])
    tasks = [name for name in numbers['Conditions'] if name != numbers['Baseline']]
    for task in tasks:
        label = contrast_label(task, numbers['Baseline'])
        means = np.array([_region_means(folder, out, label) for folder in folders])
        truth, estimate = means.mean(axis=0)
        for region in range(N_REGIONS - 1):
            is_same = bool(np.sign(truth[region]) == np.sign(estimate[region]))
            yield Row(
                participant='group',
                quantity=f'{label} cmro2 region {region + 1}',
                truth=float(truth[region]),
                estimate=float(estimate[region]),
                is_within=is_same,
                bar='same sign',
            )


def _region_means(folder: Path, out: Path, label: str) -> tuple[list[float], list[float]]:
    """Mean change of CMRO2 in grey matter of every region: truth, estimate."""
    name = folder.name
    stem = f'perf/{name}_space-MESE_contrast-{label}_stat-effect_desc-cmro2_statmap'
    inside = _grey(folder)
    region = _load(folder / 'anat' / f'{name}_space-MESE_desc-regions_dseg')
    maps = [_load(folder / stem), _load(out / name / stem, inside.shape)]
    means = []
    for image in maps:
        known = inside & np.isfinite(image)
        parts = [image[known & (region == index + 1)] for index in range(N_REGIONS)]
        means.append([float(part.mean()) if part.size else np.nan for part in parts])
    return means[0], means[1]


def _medians(truth: Path, estimate: Path, inside: BoolArray) -> tuple[float, float]:
    """Medians of two maps over the voxels that both have."""
    maps = [_load(truth), _load(estimate, inside.shape)]
    both = inside & np.isfinite(maps[0]) & np.isfinite(maps[1])
    if not both.any():
        return float(np.nanmedian(maps[0][inside])), float('nan')
    return float(np.median(maps[0][both])), float(np.median(maps[1][both]))


def _grey(folder: Path) -> BoolArray:
    """Voxels of true grey matter that count."""
    fraction = _load(folder / 'anat' / f'{folder.name}_space-MESE_label-GM_probseg')
    strict, loose = (fraction > level for level in GREY_MATTER)
    return strict if strict.sum() >= ENOUGH else loose


def _load(stem: Path, shape: tuple[int, ...] | None = None) -> FloatArray:
    """Read an image; NaN of a shape where it may be absent and is."""
    path = stem.parent / f'{stem.name}.nii.gz'
    if shape is not None and not path.exists():
        return np.full(shape, np.nan)
    image: Any = nb.load(path)
    return np.asarray(image.get_fdata(), float)


def _numbers(folder: Path) -> dict[str, Any]:
    """Parameters of the truth."""
    path = folder / f'{folder.name}_desc-truth_parameters.json'
    numbers: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
    return numbers


def main(argv: Sequence[str] | None = None) -> int:
    """
    Print truth against estimate.

    Give the exit code: 0 if every bar is met, else 1.
    """
    parser = argparse.ArgumentParser(prog='python -m bids_app.phantom.compare')
    parser.add_argument('bids_dir', type=Path, help='the phantom')
    parser.add_argument('out', type=Path, help='output folder of the app')
    args = parser.parse_args(argv)
    rows = compare(args.bids_dir, args.out)
    header = f'{"":8s} {"median in grey matter":34s} {"truth":>10s} {"estimate":>10s}'
    sys.stdout.write('\n'.join([header, *(row.text for row in rows)]) + '\n')
    n_outside = sum(not row.is_within for row in rows)
    sys.stdout.write(f'{len(rows) - n_outside} of {len(rows)} within their bars\n')
    return int(n_outside > 0)


if __name__ == '__main__':
    sys.exit(main())
