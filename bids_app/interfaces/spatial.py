"""Anatomy, alignment and resampling: one way for every map from its own grid to another."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_app.engines.isolated import run_isolated
from bids_app.engines.masks import mask_from_mean
from bids_app.images import (
    check_same_grid,
    grid_of,
    load_affine,
    load_data,
    save_affine,
    save_image,
)
from bids_app.interfaces._base import (
    ERROR_FACTORS,
    FIRST_ECHO,
    RUNS_COMBINED,
    SCAN_DIFFERENCES,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    Bundle,
    File,
    Interface,
    TraitedSpec,
    estimated,
    estimated_each,
    image,
    images,
    isdefined,
    load_estimate,
    read_mask,
    result,
    save_estimate,
    sidecar_of,
    traits,
)
from bids_app.models.asl.quality import judge_quality
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.between_scans import compare_maps
from bids_app.models.numerics.combining import combine_runs, smooth_in_mask
from bids_app.models.numerics.detail import measure_detail, tissue_trend
from bids_app.models.numerics.noise import calibrate_errors
from bids_app.models.numerics.resampling import (
    average_around,
    average_over_voxel,
    kept_noise,
    resample_map,
    resample_nearest,
    sample_linear,
    voxel_coordinates,
)
from bids_app.models.preprocessing.coregistration import judge_brain
from bids_app.models.status import Status

VARIANCE_SHARES = 'VarianceShares'
"""Sidecar key: median share of every named part of the variance."""

TISSUES = ('grey_matter', 'white_matter', 'csf')


class AverageHeads(Interface):
    """Average several T1w images of one head, aligned to the first."""

    class Inputs(BaseInterfaceInputSpec):
        images = images('T1w image of the whole head', 'a.u.')
        random_seed = traits.Int(42, usedefault=True, desc='seed of the registration', unit='')

    class Outputs(TraitedSpec):
        t1w = result('their mean, on the grid of the first', 'a.u.')

    def _run_interface(self, runtime):
        self._results['t1w'] = str(Path(runtime.cwd) / 't1w.nii')
        run_isolated(
            'average_heads',
            images=list(self.inputs.images),
            out_image=self._results['t1w'],
            cwd=runtime.cwd,
            seed=self.inputs.random_seed,
        )
        return runtime


class ExtractBrain(Interface):
    """Correct the bias field of a T1w image, find the brain, and judge it."""

    class Inputs(BaseInterfaceInputSpec):
        t1w = image('T1w image of the whole head', 'a.u.')
        smallest = traits.Float(900.0, usedefault=True, desc='smallest plausible brain', unit='mL')
        largest = traits.Float(2100.0, usedefault=True, desc='largest plausible brain', unit='mL')
        random_seed = traits.Int(42, usedefault=True, desc='seed of the registration', unit='')

    class Outputs(TraitedSpec):
        t1w = result('bias-corrected T1w image', 'a.u.')
        brain_mask = result('brain', '1')
        table = File(exists=True, desc='verdict on the brain, one row', unit='')

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        self._results['t1w'] = str(folder / 't1w.nii')
        self._results['brain_mask'] = str(folder / 'brain_mask.nii')
        reply = run_isolated(
            'extract_brain',
            t1w=self.inputs.t1w,
            volumes=(self.inputs.smallest, self.inputs.largest),
            out_mask=self._results['brain_mask'],
            out_corrected=self._results['t1w'],
            cwd=runtime.cwd,
            seed=self.inputs.random_seed,
        )
        verdict = judge_brain(reply['placed'], reply['likeness'])
        row = {
            'scan': 'T1w',
            'shift': round(reply['shift'], 2),
            'turn': round(reply['turn'], 2),
            'overlap': np.nan,
            'similarity': round(reply['likeness'], 4),
            'similarity_moved': np.nan,
            'verdict': verdict.name,
            'reason': verdict.reason,
        }
        self._results['table'] = str(folder / 'brain.tsv')
        pd.DataFrame([row]).to_csv(self._results['table'], sep='\t', index=False, na_rep='n/a')
        return runtime


class SegmentTissue(Interface):
    """Estimate the probability of grey matter, white matter and cerebrospinal fluid."""

    class Inputs(BaseInterfaceInputSpec):
        t1w = image('bias-corrected T1w image', 'a.u.')
        brain_mask = image('brain', '1')
        random_seed = traits.Int(42, usedefault=True, desc='seed', unit='')

    class Outputs(TraitedSpec):
        grey_matter = result('grey-matter probability', '1')
        white_matter = result('white-matter probability', '1')
        csf = result('cerebrospinal-fluid probability', '1')

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        for name in TISSUES:
            self._results[name] = str(folder / f'{name}.nii')
        run_isolated(
            'segment_tissue',
            t1w=self.inputs.t1w,
            mask=self.inputs.brain_mask,
            out_gm=self._results['grey_matter'],
            out_wm=self._results['white_matter'],
            out_csf=self._results['csf'],
            cwd=runtime.cwd,
            seed=self.inputs.random_seed,
        )
        return runtime


class DiscretiseTissue(Interface):
    """Name the most probable tissue of every voxel (labels of BIDS: 1 GM, 2 WM, 3 CSF)."""

    class Inputs(BaseInterfaceInputSpec):
        grey_matter = image('grey-matter probability', '1')
        white_matter = image('white-matter probability', '1')
        csf = image('cerebrospinal-fluid probability', '1')
        brain_mask = image('brain', '1')

    class Outputs(TraitedSpec):
        dseg = result('most probable tissue: 1 grey matter, 2 white matter, 3 CSF', '')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.brain_mask)
        maps = np.stack([load_data(getattr(self.inputs, name)) for name in TISSUES])
        dseg = np.where(mask, maps.argmax(axis=0) + 1, 0).astype(np.uint8)
        self._results['dseg'] = save_image(dseg, grid, Path(runtime.cwd) / 'dseg.nii')
        return runtime


class NormaliseToTemplate(Interface):
    """Find the deformation between the T1w image and the template."""

    class Inputs(BaseInterfaceInputSpec):
        t1w = image('bias-corrected T1w image', 'a.u.')
        brain_mask = image('brain', '1')
        template = image('T1w image of the template', 'a.u.')
        template_mask = image('brain of the template', '1')
        sloppy = traits.Bool(False, usedefault=True, desc='quick and coarse', unit='')
        random_seed = traits.Int(42, usedefault=True, desc='seed', unit='')

    class Outputs(TraitedSpec):
        to_template = result('transform from T1w to template (ITK)', '')
        from_template = result('transform from template to T1w (ITK)', '')

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        self._results['to_template'] = str(folder / 'to_template.h5')
        self._results['from_template'] = str(folder / 'from_template.h5')
        run_isolated(
            'normalise_to_template',
            t1w=self.inputs.t1w,
            mask=self.inputs.brain_mask,
            template=self.inputs.template,
            template_mask=self.inputs.template_mask,
            sloppy=self.inputs.sloppy,
            out_forward=self._results['to_template'],
            out_inverse=self._results['from_template'],
            cwd=runtime.cwd,
            seed=self.inputs.random_seed,
        )
        return runtime


class MapCoordinates(Interface):
    """Map, for every voxel of a reference grid, its position in the image it came from."""

    class Inputs(BaseInterfaceInputSpec):
        transform = image('ITK transform whose fixed image is the reference', '')
        reference = image('grid to map', '')

    class Outputs(TraitedSpec):
        coordinates = result('position of every voxel in the other image, RAS', 'mm')

    def _run_interface(self, runtime):
        out = str(Path(runtime.cwd) / 'coordinates.nii')
        run_isolated(
            'template_coordinates',
            transform=self.inputs.transform,
            template=self.inputs.reference,
            out=out,
            cwd=runtime.cwd,
        )
        self._results['coordinates'] = out
        return runtime


class AverageVolumes(Interface):
    """Average volumes or echoes into the image that stands for a scan."""

    class Inputs(BaseInterfaceInputSpec):
        files = images('image or series', 'a.u.')
        imaginary = images('imaginary part of each file', 'a.u.', optional=True)
        volumes = traits.List(traits.Int, desc='volumes to average; empty means all', unit='')

    class Outputs(TraitedSpec):
        reference = result('mean image', 'a.u.')

    def _run_interface(self, runtime):
        grid = check_same_grid(self.inputs.files)
        total = np.zeros(grid.shape)
        is_complex = isdefined(self.inputs.imaginary) and self.inputs.imaginary
        for index, path in enumerate(self.inputs.files):
            data = load_data(path)
            if is_complex:
                data = np.hypot(data, load_data(self.inputs.imaginary[index]))
            data = data.reshape(*data.shape[:3], -1)
            if self.inputs.volumes:
                data = data[..., self.inputs.volumes]
            total += np.nan_to_num(data).mean(axis=-1)
        path = Path(runtime.cwd) / 'reference.nii'
        self._results['reference'] = save_image(total / len(self.inputs.files), grid, path)
        return runtime


class MaskFromMean(Interface):
    """Find the brain in the mean image of a scan, where there is no T1w image."""

    class Inputs(BaseInterfaceInputSpec):
        reference = image('mean image', 'a.u.')

    class Outputs(TraitedSpec):
        mask = result('brain', '1')

    def _run_interface(self, runtime):
        grid = grid_of(self.inputs.reference)
        mask = mask_from_mean(load_data(self.inputs.reference), grid.affine)
        self._results['mask'] = save_image(mask, grid, Path(runtime.cwd) / 'mask.nii')
        return runtime


class RegisterRigid(Interface):
    """Align a scan to another rigidly."""

    class Inputs(BaseInterfaceInputSpec):
        fixed = image('image to align to', 'a.u.')
        moving = image('image to align', 'a.u.')
        fixed_mask = image('brain in the fixed image', '1', optional=True)
        random_seed = traits.Int(42, usedefault=True, desc='seed', unit='')

    class Outputs(TraitedSpec):
        transform = result('rigid transform, points of fixed to points of moving (ITK)', '')

    def _run_interface(self, runtime):
        out = str(Path(runtime.cwd) / 'transform.txt')
        mask = {'fixed_mask': self.inputs.fixed_mask} if isdefined(self.inputs.fixed_mask) else {}
        run_isolated(
            'register_rigid',
            fixed=self.inputs.fixed,
            moving=self.inputs.moving,
            out_transform=out,
            cwd=runtime.cwd,
            seed=self.inputs.random_seed,
            **mask,
        )
        self._results['transform'] = out
        return runtime


class TrustHeader(Interface):
    """Take the headers at their word: the identity transform."""

    Inputs = RegisterRigid.Inputs
    Outputs = RegisterRigid.Outputs

    def _run_interface(self, runtime):
        path = Path(runtime.cwd) / 'transform.txt'
        self._results['transform'] = save_affine(np.eye(4), path)
        return runtime


class TakeTransform(Interface):
    """Take a transform that other software found."""

    class Inputs(RegisterRigid.Inputs):
        known = File(exists=True, mandatory=True, desc='rigid or affine transform (ITK)', unit='')

    Outputs = RegisterRigid.Outputs

    def _run_interface(self, runtime):
        path = Path(runtime.cwd) / 'transform.txt'
        self._results['transform'] = save_affine(load_affine(self.inputs.known), path)
        return runtime


class _ProbabilitiesInputSpec(BaseInterfaceInputSpec):
    grey_matter = image('grey-matter probability, T1w grid', '1')
    white_matter = image('white-matter probability, T1w grid', '1')
    csf = image('cerebrospinal-fluid probability, T1w grid', '1')


class ResampleTissue(Interface):
    """Average brain mask and tissue maps over the voxels of a scan."""

    class Inputs(_ProbabilitiesInputSpec):
        reference = image('grid of the scan', '')
        transform = image('rigid transform, T1w points to scan points (ITK)', '')
        brain_mask = image('brain, T1w grid', '1')

    class Outputs(TraitedSpec):
        mask = result('brain on the grid of the scan', '1')
        grey_matter = result('grey-matter fraction of every voxel', '1')
        white_matter = result('white-matter fraction of every voxel', '1')
        csf = result('cerebrospinal-fluid fraction of every voxel', '1')
        noise_groups = result('most frequent tissue: 1 grey matter, 2 white matter, 3 CSF', '')

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        target = grid_of(self.inputs.reference)
        to_t1w = np.linalg.inv(load_affine(self.inputs.transform))
        maps = {}
        for name in ('brain_mask', *TISSUES):
            path = getattr(self.inputs, name)
            maps[name] = average_over_voxel(
                load_data(path),
                target_affine=target.affine,
                target_shape=target.shape,
                source_affine=grid_of(path).affine,
                transform=to_t1w,
            )
        mask = maps['brain_mask'] > 0.5
        fractions = np.stack([maps[name] for name in TISSUES])
        groups = np.where(mask, fractions.argmax(axis=0) + 1, 0).astype(np.uint8)
        for name in TISSUES:
            self._results[name] = save_image(maps[name], target, folder / f'{name}.nii')
        self._results['mask'] = save_image(mask, target, folder / 'mask.nii')
        self._results['noise_groups'] = save_image(groups, target, folder / 'noise_groups.nii')
        return runtime


class PredictTissue(Interface):
    """Average tissue over voxels of a scan's size and turn, centred on those of the target."""

    class Inputs(_ProbabilitiesInputSpec):
        reference = image('image that stands for the scan', 'a.u.')
        mask = image('voxels of the target; its grid is the target', '1')
        source_transform = image('rigid transform, T1w points to scan points (ITK)', '')
        target_transform = image('rigid transform, T1w points to target points (ITK)', '')

    class Outputs(TraitedSpec):
        tissue_there = result(
            'fractions of the three tissues (X, Y, Z, 3) on the target grid', '1'
        )

    def _run_interface(self, runtime):
        mask, target = read_mask(self.inputs.mask)
        to_voxel = np.linalg.inv(grid_of(self.inputs.grey_matter).affine)
        of_scan, of_target = (
            to_voxel @ np.linalg.inv(load_affine(transform)) @ grid.affine
            for transform, grid in (
                (self.inputs.source_transform, grid_of(self.inputs.reference)),
                (self.inputs.target_transform, target),
            )
        )
        centres = np.argwhere(mask) @ of_target[:3, :3].T + of_target[:3, 3]
        there = np.full((*mask.shape, len(TISSUES)), np.nan)
        for number, name in enumerate(TISSUES):
            tissue = load_data(getattr(self.inputs, name))
            there[mask, number] = average_around(tissue, centres, of_scan[:3, :3])
        path = Path(runtime.cwd) / 'tissue_there.nii'
        self._results['tissue_there'] = save_image(there, target, path)
        return runtime


def _source_points(inputs, target):
    """Voxel coordinates in the source of every target voxel: transforms joined, applied once."""
    source = grid_of(Bundle.read(inputs.quantity).value)
    to_source = (
        load_affine(inputs.source_transform) if isdefined(inputs.source_transform) else np.eye(4)
    )
    if isdefined(inputs.coordinates):
        to_voxel = np.linalg.inv(source.affine) @ to_source
        positions = load_data(inputs.coordinates)
        return positions @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    if isdefined(inputs.target_transform):
        to_source = to_source @ np.linalg.inv(load_affine(inputs.target_transform))
    return voxel_coordinates(
        target_shape=target.shape,
        target_affine=target.affine,
        source_affine=source.affine,
        transform=to_source,
    )


class ResampleQuantity(Interface):
    """Carry a quantity to another grid by a spline, its variance with the squared weights."""

    class Inputs(BaseInterfaceInputSpec):
        quantity = estimated('map on the grid of its scan', '')
        mask = image('voxels to fill; its grid is the target', '1')
        source_transform = image(
            'rigid transform, T1w points to scan points (ITK)', '', optional=True
        )
        target_transform = image(
            'rigid transform, T1w points to target points (ITK)', '', optional=True
        )
        coordinates = image(
            'T1w position of every target voxel, where the target is a template',
            'mm',
            optional=True,
        )
        grey_matter = image('grey-matter fraction, grid of the scan', '1', optional=True)
        white_matter = image('white-matter fraction, grid of the scan', '1', optional=True)
        csf = image('cerebrospinal-fluid fraction, grid of the scan', '1', optional=True)
        tissue_there = image(
            'fractions of the three over voxels of the scan at those of the target',
            '1',
            optional=True,
        )
        is_widened = traits.Bool(
            False,
            usedefault=True,
            desc='add to the variance what interpolation and alignment do not know',
            unit='',
        )
        alignment_error = traits.Float(
            0.0, usedefault=True, desc='SD of where scan and target lie to each other', unit='mm'
        )
        voxels_per_sample = traits.Float(
            1.0,
            usedefault=True,
            desc='voxels that shared one noise sample once the series of the scan was resampled',
            unit='1',
        )

    class Outputs(TraitedSpec):
        quantity = estimated('map on the target grid', '')

    def _run_interface(self, runtime):
        mask, target = read_mask(self.inputs.mask)
        points = _source_points(self.inputs, target)[mask]
        files = Bundle.read(self.inputs.quantity)
        value, variance, status = (load_data(path) for path in files.parts)
        status, source = status.astype(np.uint8), grid_of(files.value)
        trend = self._trend(value, variance, points, mask, source.zooms)

        carried = resample_map(value, points, variance=variance, status=status, trend=trend)

        facts = dict(files.sidecar)
        if self.inputs.is_widened:
            rest = value if trend is None else value - trend[0]
            carried, shares = self._widen(carried, points, rest, variance, source.zooms)
            facts[VARIANCE_SHARES] = shares
        facts[VOXELS_PER_SAMPLE] = round(
            facts.get(VOXELS_PER_SAMPLE, 1.0)
            * self.inputs.voxels_per_sample
            * voxels_per_sample(source, target, points),
            3,
        )
        facts |= share_after(facts, variance, carried.variance)
        self._results['quantity'] = save_estimate(
            'quantity', carried, mask, target, runtime.cwd, facts
        )
        return runtime

    def _trend(self, value, variance, points, mask, zooms):
        """Predict the map by the tissue at its own voxels and at those of the target."""
        if not isdefined(self.inputs.tissue_there):
            return None
        own = np.stack([load_data(getattr(self.inputs, name)) for name in TISSUES], axis=-1)
        there = load_data(self.inputs.tissue_there)[mask]
        return tissue_trend(value, variance, own, there, points=points, zooms=zooms)

    def _widen(self, carried, points, rest, variance, zooms):
        """Add what interpolation and alignment do not know, and tell the share of each."""
        inside = np.isfinite(carried.value)
        detail = measure_detail(rest, variance, np.isfinite(rest) & np.isfinite(variance))
        parts = {
            'noise': carried.variance[inside],
            'interpolation': detail.interpolation_variance(points[inside]),
            'alignment': detail.alignment_variance(
                points[inside], error=self.inputs.alignment_error, zooms=zooms
            ),
        }
        total = np.full(carried.value.shape, np.nan)
        total[inside] = sum(parts.values())
        wide = total[inside] > 0
        shares = {
            name: round(float(np.median(part[wide] / total[inside][wide])), 3)
            for name, part in parts.items()
            if wide.any()
        }
        return Estimate.of(carried.value, total, carried.status, carried.dof), shares


def share_after(facts, before, after):
    """Give the share of noise in common, which averaging leaves while it lowers the rest."""
    shares = facts.get(SHARED_NOISE)
    before, after = (part[part > 0] for part in (before, after))  # NaN is not
    if not (shares and before.size and after.size):
        return {}
    gain = max(float(np.median(before) / np.median(after)), 1.0)
    return {SHARED_NOISE: {name: round(min(gain * one, 1.0), 4) for name, one in shares.items()}}


def voxels_per_sample(source, target, points):
    """
    Tell how many target voxels share one noise sample of the source.

    Every source voxel enters a region's sum with the ratio of the voxel volumes; the target
    variances, added as if independent, hold the mean squared weight instead.
    """
    inside = ((points >= 0) & (points <= np.array(source.shape) - 1)).all(axis=-1)
    if not inside.any():
        return 1.0
    kept = kept_noise(points[inside] - np.floor(points[inside])).mean()
    ratio = abs(np.linalg.det(source.affine[:3, :3]) / np.linalg.det(target.affine[:3, :3]))
    return max(float(ratio / kept), 1.0)


class ResampleLabels(Interface):
    """Carry labels to another grid by nearest neighbour."""

    class Inputs(BaseInterfaceInputSpec):
        quantity = image('label map', '')
        mask = image('voxels to fill; its grid is the target', '1')
        source_transform = image(
            'rigid transform, T1w points to scan points (ITK)', '', optional=True
        )
        target_transform = image(
            'rigid transform, T1w points to target points (ITK)', '', optional=True
        )
        coordinates = image('position of every target voxel in the source', 'mm', optional=True)

    class Outputs(TraitedSpec):
        labels = result('label map on the target grid', '')

    def _run_interface(self, runtime):
        mask, target = read_mask(self.inputs.mask)
        points = _source_points(self.inputs, target)
        labels = resample_nearest(load_data(self.inputs.quantity), points)
        labels = np.where(mask, labels, 0).astype(np.int16)
        path = Path(runtime.cwd) / 'labels.nii'
        self._results['labels'] = save_image(labels, target, path)
        return runtime


class ResampleProbability(Interface):
    """Carry the probability of a label to another grid with the labels: by nearest neighbour."""

    Inputs = ResampleLabels.Inputs

    class Outputs(TraitedSpec):
        probability = result('probability on the target grid; NaN where there is none', '1')

    def _run_interface(self, runtime):
        mask, target = read_mask(self.inputs.mask)
        points = _source_points(self.inputs, target)
        values = resample_nearest(load_data(self.inputs.quantity), points, fill=np.nan)
        path = Path(runtime.cwd) / 'probability.nii'
        self._results['probability'] = save_image(np.where(mask, values, np.nan), target, path)
        return runtime


class ResampleFraction(Interface):
    """Carry a probability map to another grid linearly; outside its field of view it is 0."""

    class Inputs(ResampleLabels.Inputs):
        pass

    class Outputs(TraitedSpec):
        fraction = result('fraction on the target grid', '1')

    def _run_interface(self, runtime):
        _, target = read_mask(self.inputs.mask)
        points = _source_points(self.inputs, target)
        fraction = np.nan_to_num(sample_linear(load_data(self.inputs.quantity), points))
        path = Path(runtime.cwd) / 'fraction.nii'
        self._results['fraction'] = save_image(fraction, target, path)
        return runtime


class CombineRuns(Interface):
    """Combine the estimates of several runs by inverse variance, and compare them."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to combine', '1')
        quantity = estimated_each('map of one run', '')
        condition = traits.Str('', usedefault=True, desc='of the runs', unit='')
        by_scatter = traits.Bool(
            False, usedefault=True, desc='the error is that which the runs show', unit=''
        )

    class Outputs(ResampleQuantity.Outputs):
        table = File(
            exists=True, desc='whether the runs differ by more than their errors', unit=''
        )

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        runs = [load_estimate(path, mask, grid) for path in self.inputs.quantity]
        shared = max(sidecar_of(path).get(VOXELS_PER_SAMPLE, 1.0) for path in self.inputs.quantity)
        halves = (combine_runs(runs[first::2]) for first in (0, 1))
        found = calibrate_errors(*halves, voxels_per_sample=shared)
        facts = {
            RUNS_COMBINED: len(runs),
            'RunCalibration': found.as_sidecar(),
            VOXELS_PER_SAMPLE: shared,
            **_joined_sidecar([sidecar_of(path) for path in self.inputs.quantity], found),
        }
        combined = combine_runs(runs, by_scatter=self.inputs.by_scatter)
        if self.inputs.by_scatter:
            points = np.argwhere(mask) * grid.zooms
            stated = combine_runs(runs).variance
            larger = np.divide(combined.variance, stated, out=np.ones_like(stated),
                               where=stated > 0)  # fmt: skip
            shown = [run.with_variance(run.variance * larger) for run in runs]
            pairs = [compare_runs(*pair, points) for pair in itertools.pairwise(shown)]
            facts[SCAN_DIFFERENCES] = [found for found in pairs if found]
        self._results['quantity'] = save_estimate(
            'quantity', combined, mask, grid, runtime.cwd, facts
        )
        self._results['table'] = self._save_table(found, Path(runtime.cwd) / 'runs.tsv')
        return runtime

    def _save_table(self, found, path):
        """Write the comparison as a line of a quality table."""
        rows = judge_quality(
            {'calibration_of_runs': found.sd},
            intervals={'calibration_of_runs': (found.low, found.high)},
        )
        table = pd.DataFrame(rows)
        table.insert(0, 'condition', self.inputs.condition or 'n/a')
        table.insert(1, 'run', 'n/a')
        table.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.6g')
        return str(path)


def compare_runs(first, second, points):
    """Tell what two scans of one relaxation rate differ by, (1/s)^2; empty without a voxel."""
    known = np.isfinite(first.value) & np.isfinite(second.value)
    if not known.any():
        return {}
    one, two = first.at(known), second.at(known)
    difference = Estimate.of(one.value - two.value, one.variance + two.variance)
    level = Estimate.of((one.value + two.value) / 2, difference.variance / 4)
    found = compare_maps(difference, level, points[known], is_relative=False)
    return {part: round(variance, 6) for part, variance in found.items()}


def _joined_sidecar(runs, found):
    """Join what is known of runs: mean shares of noise, all differences, the worst first echo."""
    facts: dict[str, Any] = {}
    shares = [run[SHARED_NOISE] for run in runs if SHARED_NOISE in run]
    if shares:
        names = shares[0]
        facts[SHARED_NOISE] = {
            name: round(float(np.mean([one[name] for one in shares])), 4) for name in names
        }
    differences = [one for run in runs for one in run.get(SCAN_DIFFERENCES, [])]
    if differences:
        facts[SCAN_DIFFERENCES] = differences
    first = [run[FIRST_ECHO] for run in runs if FIRST_ECHO in run]
    if first:
        facts[FIRST_ECHO] = max(first, key=abs)
    factors = [one for run in runs for one in run.get(ERROR_FACTORS, [])]
    if np.isfinite(found.factor):
        factors.append(round(found.factor, 3))
    return facts | ({ERROR_FACTORS: factors} if factors else {})


class SmoothQuantity(Interface):
    """Smooth a quantity inside the brain; the variance takes the squared weights."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to smooth within', '1')
        quantity = estimated('map', '')
        fwhm = traits.Float(desc='full width at half maximum', unit='mm')
        fwhm_voxels = traits.Float(
            xor=['fwhm'], desc='full width at half maximum, in place of that in mm', unit='1'
        )

    Outputs = ResampleQuantity.Outputs

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        by_voxel = isdefined(self.inputs.fwhm_voxels)
        fwhm = (
            self.inputs.fwhm_voxels * grid.zooms
            if by_voxel
            else np.full(len(grid.zooms), self.inputs.fwhm)
        )
        rough = load_estimate(self.inputs.quantity, np.ones_like(mask), grid)
        variance = np.reshape(rough.variance, mask.shape)
        status = np.where(mask, np.reshape(rough.status, mask.shape), Status.OUTSIDE_MASK)

        smooth = smooth_in_mask(
            Estimate.of(np.reshape(rough.value, mask.shape), variance, status),
            mask,
            fwhm=fwhm / grid.zooms,
        )

        inside = Estimate.of(smooth.value[mask], smooth.variance[mask], smooth.status[mask])
        facts = sidecar_of(self.inputs.quantity)
        noisy = smooth.variance > 0  # NaN, where there is no estimate, is not
        gain = np.median(variance[noisy] / smooth.variance[noisy]) if noisy.any() else 1.0
        gain = max(float(gain), 1.0)
        facts[VOXELS_PER_SAMPLE] = round(facts.get(VOXELS_PER_SAMPLE, 1.0) * gain, 3)
        facts |= share_after(facts, variance[mask], inside.variance)
        facts['SmoothingFWHM'] = fwhm.round(3).tolist() if by_voxel else self.inputs.fwhm
        self._results['quantity'] = save_estimate(
            'quantity', inside, mask, grid, runtime.cwd, facts
        )
        return runtime
