"""Hemispheres against each other on whole heads: what the participant and group level find, and
what the truth of the phantom says of the same voxels.

    oxybold-phantom DIR/raw --design patients --either-side --participants 10 --seed 11
    oxybold DIR/raw DIR/out participant
    oxybold DIR/raw DIR/out group --asymmetry --affected-side affected_side --model '~ group + age'
    python benchmarks/hemispheres.py DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from bids_app.engines.ants import template_coordinates
from bids_app.engines.templates import ATLAS, packaged_template
from bids_app.group.mirror import other_side, pairs_of
from bids_app.images import grid_of, load_affine, load_data
from bids_app.models.numerics.resampling import resample_map
from bids_app.settings import Settings

SPHERES = (((-38.0, 28.0, 30.0), 27.0), ((-56.0, -18.0, -4.0), 26.0))
"""Where the phantom puts the territory, on the left of the template, mm."""

INSIDE, OUTSIDE = 0.5, 0.0
"""Share of a parcel in the territory."""

FEWEST = 100
"""Pairs of voxels of a parcel."""


def one(folder: Path, pattern: str) -> Path:
    """Find the only file."""
    (path,) = folder.rglob(pattern)
    return path


def truth_in_template(root: Path, sub: str) -> np.ndarray:
    """Carry the true OEF to the template by the transforms that the app found."""
    out = root / 'out' / sub / 'anat'
    path = one(root / 'raw/derivatives/truth' / sub, '*_space-MESE_oef.nii.gz')
    with tempfile.TemporaryDirectory() as folder:
        points = Path(folder) / 'points.nii'
        transform = one(out, '*_from-T1w_to-MNI152NLin6Asym_mode-image_xfm.h5')
        template_coordinates(transform, packaged_template('desc-brain_mask'), points)
        in_t1w = load_data(points)
    matrix = np.linalg.inv(grid_of(path).affine) @ load_affine(
        one(out, '*_from-MESE_to-T1w_*.txt')
    )
    return resample_map(load_data(path), in_t1w @ matrix[:3, :3].T + matrix[:3, 3]).value


def indices_of(root: Path, sub: str, side: str, mask: np.ndarray, atlas: np.ndarray):
    """Yield the index of every parcel, true and found, over the same voxels."""
    left, right = pairs_of(mask)
    found = load_data(one(root / 'out' / sub, '*_space-MNI152NLin6Asym_res-2_oef.nii.gz'))
    maps = np.stack([found, truth_in_template(root, sub)])
    if side == 'right':
        maps = np.stack([other_side(data) for data in maps])
    first, second = maps[:, mask][:, left], maps[:, mask][:, right]
    known = np.isfinite(first + second).all(axis=0)
    for index in np.unique(atlas[left][atlas[left] > 0]):
        here = known & (atlas[left] == index)
        if here.sum() > FEWEST:
            a, b = first[:, here].mean(axis=1), second[:, here].mean(axis=1)
            estimate, truth = 2 * (a - b) / (a + b)
            yield {'index': index, 'estimate': estimate, 'truth': truth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='folder that holds raw and out')
    root = parser.parse_args().root
    template = root / 'out' / 'tpl-MNI152NLin6Asym'
    mask = load_data(one(template, '*_label-GM_probseg.nii.gz')) > Settings().change.grey_matter
    grid, atlas = grid_of(packaged_template(ATLAS)), np.rint(load_data(packaged_template(ATLAS)))
    place = np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    inside = np.any(
        [np.linalg.norm(place - centre, axis=-1) < radius for centre, radius in SPHERES], axis=0
    )
    names = pd.read_csv(packaged_template(ATLAS, '.tsv'), sep='\t').set_index('index')['name']
    share = pd.Series({name: inside[atlas == index].mean() for index, name in names.items()})
    people = pd.read_csv(root / 'raw/participants.tsv', sep='\t', keep_default_na=False)
    lines = pd.DataFrame([
        {'participant': person.participant_id, 'group': person.group, **line}
        for person in people.itertuples()
        for line in indices_of(root, person.participant_id, person.affected_side, mask,
                               atlas[mask].astype(int))
    ])  # fmt: skip
    lines['name'] = lines['index'].map(names)
    table = pd.read_csv(one(template, '*_desc-asymmetry_summary.tsv'), sep='\t', na_values=['n/a'])
    table = table[(table.quantity == 'oef') & (table.level == 'parcel')]
    lines = lines.merge(table[['participant', 'name', 'se']])
    lines['share'] = lines['name'].map(share)
    compared = pd.read_csv(one(template, '*_desc-groups_summary.tsv'), sep='\t', na_values=['n/a'])
    compared = compared[(compared.quantity == 'oefAsymmetry') & (compared.level == 'parcel')
                        & compared.test.str.contains('minus')].set_index('name')  # fmt: skip
    true = lines.groupby(['name', 'group']).truth.mean().unstack()
    compared = compared.assign(truth=true.patient - true.control, share=share)
    compared = compared.dropna(subset='truth')
    for where, chosen in (('territory', lambda x: x.share > INSIDE),
                          ('elsewhere', lambda x: x.share == OUTSIDE)):  # fmt: skip
        for group, part in lines[chosen(lines)].groupby('group'):
            error = part.estimate - part.truth
            print(f'{where}, {group}: index {part.estimate.mean():.4f}, truth '
                  f'{part.truth.mean():.4f}, 95 % hold {(abs(error) < 1.96 * part.se).mean():.3f} '
                  f'of {len(part)} parcels')  # fmt: skip
        part = compared[chosen(compared)]
        weight = 1 / part.se**2
        print(f'{where}, patients minus controls: {np.average(part.effect, weights=weight):.4f}, '
              f'truth {np.average(part.truth, weights=weight):.4f}, p < .05 in '
              f'{(part.p < 0.05).mean():.2f} of {len(part)} parcels, 95 % hold '
              f'{((part.low < part.truth) & (part.truth < part.high)).mean():.3f}')  # fmt: skip


if __name__ == '__main__':
    main()
