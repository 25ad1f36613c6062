"""Write the truth, and the anatomy as fMRIPrep would leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app import __version__
from bids_app.phantom import acquisition
from bids_app.phantom.anatomy import NULL_REGION, TISSUES
from bids_app.phantom.files import (
    write_image,
    write_itk_affine,
    write_json,
    write_table,
)
from bids_app.phantom.participant import NO_EFFECT
from bids_app.phantom.truth import PERCENT, contrast_label

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.phantom.acquisition import Geometry, Subject
    from bids_app.phantom.participant import NO_EFFECT, RegionEffect
from bids_app.phantom.truth import Truth

UNITS = {
    'T2': 's',
    'T2star': 's',
    'R2prime': '1/s',
    'cbf': 'mL/100 g/min',
    'cbv': 'percent',
    'oef': '1',
    'cmro2': 'umol/100 g/min',
    'boldPct': 'percent',
    'boldR2star': '1/s',
}
"""Of the values on disk."""

PLACES = {
    'R2prime': ('anat', 'R2primemap'),
    'cbf': ('perf', 'cbf'),
    'cbv': ('perf', 'cbv'),
    'oef': ('perf', 'oef'),
    'cmro2': ('perf', 'cmro2'),
}
"""Folder and suffix."""


def write_truth(
    root: Path,
    subject: Subject,
    truth: Truth,
    *,
    effects: dict[str, dict[int, RegionEffect]],
    quantification: Geometry,
    structural: Geometry,
    poses: dict[str, FloatArray],
) -> None:
    """
    Write all that is known of a participant.

    The grids are those of the MESE and the T1w image; the poses (4, 4) lead from the world of each
    scan to that of the T1w image.
    """
    describe(root, 'truth of the phantom')
    name = f'sub-{subject.participant.label}'
    writer = _TruthWriter(root / name, name, subject, truth, effects)
    writer.write_maps(quantification.affine)
    writer.write_anatomy(quantification, poses['MESE'])
    writer.write_tissue('MESE', quantification, poses['MESE'])
    writer.write_tissue('T1w', structural, np.eye(4))
    writer.write_parameters(poses)
    writer.write_effects()


@dataclass(frozen=True, slots=True, eq=False)
class _TruthWriter:
    """Files of one participant."""

    folder: Path
    name: str
    subject: Subject
    truth: Truth
    effects: dict[str, dict[int, RegionEffect]]

    def write_maps(self, affine: FloatArray) -> None:
        """Write the perfect maps."""
        for stem, (values, unit) in _maps(self.truth).items():
            path = self.folder / stem.format(name=self.name, space='MESE')
            write_map(path, values, affine, unit)

    def write_anatomy(self, geometry: Geometry, pose: FloatArray) -> None:
        """Write fractions, brain mask, regions and true labels on the quantification grid."""
        fractions, region = acquisition.tissue_fractions(self.subject, geometry, pose)
        images: dict[str, NDArray[Any]] = {
            f'anat/{self.name}_space-MESE_label-{tissue}_probseg': fractions[..., i]
            for i, tissue in enumerate(TISSUES[:3])
        }
        mask = (fractions.sum(-1) > 0.5).astype(np.uint8)
        images[f'anat/{self.name}_space-MESE_desc-brain_mask'] = mask
        images[f'anat/{self.name}_space-MESE_desc-regions_dseg'] = region
        for task in self.truth.tasks:
            label = contrast_label(task, self.truth.baseline)
            stem = f'func/{self.name}_task-all_space-MESE_seg-concordance_desc-{label}_dseg'
            images[stem] = true_labels(region, self.effects[task])
        for stem, image in images.items():
            write_image(self.folder / f'{stem}.nii.gz', image, geometry.affine)

    def write_tissue(self, space: str, geometry: Geometry, pose: FloatArray) -> None:
        """Write averages by brain volume, without any measurement, as desc-tissue maps."""
        for condition, change in self.effects.items():
            maps = acquisition.volume_averages(self.subject, geometry, pose, change)
            maps['cbv'] = PERCENT * maps['cbv']
            for quantity in ('R2prime', 'cbf', 'cbv', 'oef', 'cmro2'):
                folder, suffix = PLACES[quantity]
                stem = f'{self.name}_task-{condition}_space-{space}_desc-tissue_{suffix}'
                path = self.folder / folder / stem
                write_map(path, maps[quantity], geometry.affine, UNITS[quantity])

    def write_parameters(self, poses: dict[str, FloatArray]) -> None:
        """Write blood and poses."""
        participant = self.subject.participant
        rounded = {scan.replace(' ', '_'): np.round(pose, 9) for scan, pose in poses.items()}
        write_json(
            self.folder / f'{self.name}_desc-truth_parameters.json',
            {
                'Hct': participant.hct,
                'SaO2': participant.sao2,
                'CaO2': participant.oxygen_content,
                'StaticDephasingConstant': participant.static_dephasing_constant,
                'Conditions': list(self.truth.conditions),
                'Baseline': self.truth.baseline,
                'ToT1w': {scan: pose.tolist() for scan, pose in rounded.items()},
            },
        )

    def write_effects(self) -> None:
        """Write what every task changes in every region."""
        rows: list[tuple[object, ...]] = []
        for task in self.truth.tasks:
            label = contrast_label(task, self.truth.baseline)
            table = self.effects[task] | {NULL_REGION: NO_EFFECT}
            for region, effect in table.items():
                ratios = (effect.flow, effect.extraction, round(effect.metabolism, 6))
                rows.append((label, region, effect.label, *ratios))
        write_table(
            self.folder / f'{self.name}_desc-effects_regions.tsv',
            ('contrast', 'region', 'label', 'cbf_ratio', 'oef_ratio', 'cmro2_ratio'),
            rows,
        )


def true_labels(region: NDArray[np.uint8], effects: dict[int, RegionEffect]) -> NDArray[np.uint8]:
    """
    Give the true concordance labels.

    Regions are 1-4, 5 = null, 0 = outside; labels (uint8) 1-4 as defined for the outputs, 7 where
    BOLD does not change, 0 outside.
    """
    table = np.zeros(NULL_REGION + 1, np.uint8)
    table[NULL_REGION] = 7
    for index, effect in effects.items():
        table[index] = effect.label
    return table[region]


def _maps(truth: Truth) -> dict[str, tuple[FloatArray, str]]:
    """File stem to values (as on disk) and unit."""
    start = '{name}_task-%s_space-{space}_'
    maps: dict[str, tuple[FloatArray, str]] = {
        'anat/{name}_space-{space}_T2map': (1 / truth.r2, UNITS['T2']),
        'perf/{name}_space-{space}_desc-dsc_cbv': (PERCENT * truth.cbv, UNITS['cbv']),
    }
    for c in truth.conditions:
        maps['anat/' + start % c + 'T2starmap'] = (1 / truth.r2_star[c], UNITS['T2star'])
        maps['anat/' + start % c + 'R2primemap'] = (truth.r2_prime(c), UNITS['R2prime'])
        maps['perf/' + start % c + 'cbf'] = (truth.cbf[c], UNITS['cbf'])
        maps['perf/' + start % c + 'oef'] = (truth.oef(c), UNITS['oef'])
        maps['perf/' + start % c + 'cmro2'] = (truth.cmro2(c), UNITS['cmro2'])
    for task in truth.tasks:
        contrast = f'contrast-{contrast_label(task, truth.baseline)}_stat-effect_desc'
        for quantity in ('R2prime', 'cbf', 'oef', 'cmro2'):
            folder = 'anat' if quantity == 'R2prime' else 'perf'
            stem = f'{folder}/{{name}}_space-{{space}}_{contrast}-{quantity}_statmap'
            maps[stem] = (truth.change(quantity, task), UNITS[quantity])
        of_bold = {'boldPct': truth.bold, 'boldR2star': truth.bold_r2_star}
        for quantity, values in of_bold.items():
            if task in values:
                stem = f'func/{{name}}_task-all_space-{{space}}_{contrast}-{quantity}_statmap'
                maps[stem] = (values[task], UNITS[quantity])
    return maps


def write_map(path: Path, values: FloatArray, affine: FloatArray, unit: str) -> None:
    """Write a float map and its sidecar."""
    write_image(path.parent / f'{path.name}.nii.gz', values.astype(np.float32), affine)
    write_json(path.parent / f'{path.name}.json', {'Units': unit, 'SkullStripped': False})


def write_fmriprep(
    root: Path,
    subject: Subject,
    *,
    structural: NDArray[np.int16],
    brain: BoolArray,
    geometry: Geometry,
) -> None:
    """
    Write the true anatomy in the form of fMRIPrep derivatives.

    The anatomy must lie in template space up to an affine transform.
    """
    describe(root, 'true anatomy in the layout of fMRIPrep')
    name = f'sub-{subject.participant.label}'
    folder = root / name / 'anat'
    affine = geometry.affine
    write_image(folder / f'{name}_desc-preproc_T1w.nii.gz', structural, affine)
    write_json(folder / f'{name}_desc-preproc_T1w.json', {'SkullStripped': False})
    write_image(folder / f'{name}_desc-brain_mask.nii.gz', brain.astype(np.uint8), affine)
    write_json(folder / f'{name}_desc-brain_mask.json', {'Type': 'Brain'})
    fractions, _ = acquisition.tissue_fractions(subject, geometry, np.eye(4))
    for i, tissue in enumerate(TISSUES[:3]):
        path = folder / f'{name}_label-{tissue}_probseg.nii.gz'
        write_image(path, fractions[..., i].astype(np.float32), affine)
    to_template = subject.anatomy.to_template
    if to_template is None:
        return
    # an image is resampled by the transform of points in the opposite direction
    forward = folder / f'{name}_from-T1w_to-MNI152NLin6Asym_mode-image_xfm.txt'
    inverse = folder / f'{name}_from-MNI152NLin6Asym_to-T1w_mode-image_xfm.txt'
    write_itk_affine(forward, np.asarray(np.linalg.inv(to_template), float))
    write_itk_affine(inverse, to_template)


def describe(root: Path, title: str) -> None:
    """Write dataset_description.json of a derivative dataset."""
    content: dict[str, Any] = {
        'Name': title,
        'BIDSVersion': '1.10.1',
        'DatasetType': 'derivative',
        'GeneratedBy': [{'Name': 'oxybold-phantom', 'Version': __version__}],
        'SourceDatasets': [{'URL': 'bids::'}],
    }
    write_json(root / 'dataset_description.json', content)
