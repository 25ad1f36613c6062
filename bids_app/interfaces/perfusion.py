"""From a label-control series to CBF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_app.engines.glm import make_perfusion_design
from bids_app.errors import InputDataError
from bids_app.images import (
    grid_of,
    load_affine,
    load_data,
    load_masked,
    save_image,
    save_unmasked,
    scale_slope_of,
)
from bids_app.interfaces._base import (
    ERROR_FACTORS,
    HALF_CALIBRATION,
    PAIR_CALIBRATION,
    SCAN_DIFFERENCES,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    Bundle,
    File,
    Interface,
    ModelInterface,
    TraitedSpec,
    estimated,
    estimated_each,
    image,
    isdefined,
    load_estimate,
    read_mask,
    result,
    save_estimate,
    sidecar_of,
    traits,
)
from bids_app.interfaces.spatial import voxels_per_sample
from bids_app.interfaces.task import TaskInputSpec, cut_off_of, fit_task
from bids_app.models.asl.label_control import (
    estimate_difference,
    half_difference,
    sign_of_difference,
)
from bids_app.models.asl.m0 import estimate_m0, m0_from_region, separate_m0_error
from bids_app.models.asl.multi_delay import fit_shared_arrival
from bids_app.models.asl.partial_volume import correct_partial_volume
from bids_app.models.asl.quality import (
    grey_matter_statistics,
    judge_quality,
    probable_cause,
    quality_index,
)
from bids_app.models.asl.scan_noise import describe_scan_noise
from bids_app.models.asl.single_delay import BOLUS, effective_delay, relative_to_region
from bids_app.models.asl.time_encoded import decode
from bids_app.models.constants import QUALITY_FWHM, SWAPPED_Z
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.combining import smooth_in_mask
from bids_app.models.numerics.noise import calibrate_errors, correlation_width
from bids_app.models.numerics.resampling import resample_map, voxel_coordinates
from bids_app.models.registry import choices
from bids_app.models.status import Status

GREY_MATTER = 1
"""Number of grey matter in the map of tissue classes."""

"""Sidecar keys: odd against even pairs, the first half against the second; whether the stated
errors hold, from voxels to the brain."""

KNOWN_OF_PAIRS = (
    PAIR_CALIBRATION, HALF_CALIBRATION, SHARED_NOISE, ERROR_FACTORS, SCAN_DIFFERENCES,
)  # fmt: skip
"""Sidecar keys of a difference that hold for the blood flow made from it."""


class EstimateDifference(Interface):
    """Estimate the mean difference of control and label; refuse a swapped context."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('label-control series', 'a.u.')
        mask = image('voxels to estimate', '1')
        context = traits.List(traits.Str, mandatory=True, desc='kind of every volume', unit='')
        delay_index = traits.List(traits.Int, desc='delay of every volume, if several', unit='')
        pairs = traits.Enum(
            'robust', 'mean', usedefault=True, desc='how pairs are joined', unit=''
        )
        noise_groups = image('tissue class whose noise is pooled', '', optional=True)

    class Outputs(TraitedSpec):
        difference = estimated('control minus label, per delay', 'a.u.')
        half_difference = estimated('mean of odd minus mean of even pairs', 'a.u.')
        calibration = traits.List(
            traits.Float,
            desc='scatter of odd minus even pairs over its error; its interval',
            unit='1',
        )

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        groups = None
        if isdefined(self.inputs.noise_groups):
            groups = load_masked(self.inputs.noise_groups, mask, grid).astype(int)
        series = load_masked(self.inputs.series, mask, grid)
        series = series.reshape(series.shape[0], -1)
        several = isdefined(self.inputs.delay_index)
        how = {
            'context': self.inputs.context,
            'delay_index': self.inputs.delay_index if several else None,
            'robust': self.inputs.pairs == 'robust',
            'noise_groups': groups,
        }

        self._check_sign(series, groups)
        difference = estimate_difference(series, **how)
        half = half_difference(series, **how)

        where = (mask, grid, runtime.cwd)
        self._results['calibration'] = []
        if half is not None:
            self._results['half_difference'] = save_estimate('half_difference', half, *where)
            found = calibrate_errors(half, Estimate.of(np.zeros(half.value.shape)))
            self._results['calibration'] = [found.sd, found.low, found.high]
        grey = np.ones(len(series), bool) if groups is None else groups == GREY_MATTER
        points = np.argwhere(mask) * grid.zooms
        facts = _sidecar_of_noise(describe_scan_noise(series, points, grey, **how))
        self._results['difference'] = save_estimate('difference', difference, *where, facts)
        return runtime

    def _check_sign(self, series, groups):
        """Stop where label raises the signal of grey matter."""
        grey_matter = series if groups is None else series[groups == GREY_MATTER]
        z = sign_of_difference(grey_matter, context=self.inputs.context)
        if z < SWAPPED_Z:
            msg = (
                f'{Path(self.inputs.series).name}: control minus label is negative in grey matter '
                f'(z = {z:.1f}); control and label are probably swapped in its aslcontext.tsv'
            )
            raise InputDataError(msg)


class SeparateBlocks(Interface):
    """Separate the blocks of a time-encoded series: a difference of each."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('time-encoded series', 'a.u.')
        mask = image('voxels to decode', '1')
        encoding = traits.List(
            traits.List(traits.Int), mandatory=True, desc='1 label, 0 control', unit=''
        )
        cycles = traits.List(
            traits.List(traits.Int), mandatory=True, desc='volumes of each cycle', unit=''
        )

    class Outputs(TraitedSpec):
        differences = result('control minus label of every block and cycle', 'a.u.')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        series = load_masked(self.inputs.series, mask, grid)
        decoded = decode(series, self.inputs.encoding, self.inputs.cycles)
        path = Path(runtime.cwd) / 'differences.nii'
        self._results['differences'] = save_unmasked(decoded, mask, grid, path)
        return runtime


class EstimateTaskDifference(EstimateDifference):
    """Estimate control minus label in one condition of a task that runs in the series."""

    class Inputs(TaskInputSpec):
        noise_groups = image('tissue class; 1 is grey matter', '', optional=True)
        context = traits.List(traits.Str, mandatory=True, desc='kind of every volume', unit='')
        condition = traits.Str(mandatory=True, desc='that is wanted', unit='')

    class Outputs(TraitedSpec):
        difference = estimated('control minus label in one condition', 'a.u.')
        n_pairs = traits.List(traits.Int, desc='pairs in its windows', unit='')

    def _run_interface(self, runtime):
        inputs = self.inputs
        mask, grid = read_mask(inputs.mask)
        groups = None
        if isdefined(inputs.noise_groups):
            groups = load_masked(inputs.noise_groups, mask, grid).astype(int)
        series = load_masked(inputs.series, mask, grid)
        self._check_sign(series, groups)
        fit = fit_task(inputs, mask, grid, self._design, is_relative=False)
        made, design = fit.changes[inputs.condition], fit.design
        where = (mask, grid, runtime.cwd, fit.facts[inputs.condition])
        self._results['difference'] = save_estimate('difference', made, *where)
        filters = design.weights[inputs.condition][0] @ design.inverse
        # a mean difference of n pairs has 2/n of the variance of a volume
        self._results['n_pairs'] = [max(1, round(2 / float(filters @ filters)))]
        return runtime

    def _design(self, *, first_time):
        """Make the design of the wanted condition for the slices of one time."""
        inputs = self.inputs
        design = make_perfusion_design(
            inputs.context,
            repetition_time=inputs.repetition_time,
            events=list(inputs.events),
            baseline=inputs.baseline,
            hrf_model=inputs.hrf_model,
            high_pass=cut_off_of(inputs),
            window_start=inputs.window_start,
            first_time=first_time,
        )
        return replace(design, weights={inputs.condition: design.weights[inputs.condition]})


def _sidecar_of_noise(found):
    """Name what the halves of a series show as in a sidecar."""
    facts: dict[str, Any] = {
        SHARED_NOISE: {level: round(share, 4) for level, share in found['shared'].items()}
    }
    names = {'interleaved': PAIR_CALIBRATION, 'contiguous': HALF_CALIBRATION}
    facts |= {name: found[split] for split, name in names.items() if split in found}
    factors = [found[split]['voxel']['ImpliedFactor'] for split in names if split in found]
    if any(factors):
        facts[ERROR_FACTORS] = [factor for factor in factors if factor]
    if found.get('difference'):
        parts = {part: round(number, 6) for part, number in found['difference'].items()}
        facts[SCAN_DIFFERENCES] = [parts]
    return facts


class EstimateM0(Interface):
    """Estimate the equilibrium signal; its noise is that of one volume of the series."""

    class Inputs(BaseInterfaceInputSpec):
        series = image(
            'images with the equilibrium signal, on the grid of the mask', 'a.u.', optional=True
        )
        value = traits.Float(
            desc='equilibrium signal everywhere, in place of an image', unit='a.u.'
        )
        volumes = traits.List(traits.Int, desc='its volumes; empty means all', unit='')
        mask = image('voxels to estimate', '1')
        repetition_time = traits.Float(desc='time for recovery; unset means full', unit='s')
        t1_tissue = traits.Float(mandatory=True, desc='T1 of tissue, or of the region', unit='s')
        difference = estimated('control minus label, with the noise of the images', 'a.u.')
        n_pairs = traits.List(
            traits.Int, mandatory=True, desc='label-control pairs behind it, per delay', unit=''
        )
        region = traits.Enum(
            'voxel', 'grey_matter', 'white_matter', 'csf', usedefault=True,
            desc='take M0 of a region', unit='',
        )  # fmt: skip
        fraction = image('tissue fraction of that region', '1', optional=True)
        echo_time = traits.Float(desc='of the images', unit='s')
        partition_coefficient = traits.Float(desc='of water', unit='mL/g')

    class Outputs(TraitedSpec):
        m0 = estimated('equilibrium signal', 'a.u.')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        if isdefined(self.inputs.series):
            series = load_masked(self.inputs.series, mask, grid)
            series = series.reshape(series.shape[0], -1)
            if self.inputs.volumes:
                series = series[:, self.inputs.volumes]
            m0 = self._from_images(series, self._noise(mask, grid))
        else:
            m0 = Estimate.of(np.full(int(mask.sum()), self.inputs.value))

        if self.inputs.region != 'voxel':
            m0 = m0_from_region(
                m0,
                load_masked(self.inputs.fraction, mask, grid),
                region=self.inputs.region,
                echo_time=self.inputs.echo_time if isdefined(self.inputs.echo_time) else 0.0,
                partition_coefficient=self.inputs.partition_coefficient,
            )
        self._results['m0'] = save_estimate('m0', m0, mask, grid, runtime.cwd)
        return runtime

    def _noise(self, mask, grid):
        """Variance of one volume: that of a mean difference of n pairs is 2/n of it."""
        variance = load_estimate(self.inputs.difference, mask, grid).variance
        variance = variance.reshape(variance.shape[0], -1)
        return (variance * np.asarray(self.inputs.n_pairs) / 2).mean(axis=1)

    def _from_images(self, series, noise):
        repetition_time = self.inputs.repetition_time
        return estimate_m0(
            series,
            repetition_time=repetition_time if isdefined(repetition_time) else None,
            t1_tissue=self.inputs.t1_tissue,
            noise_variance=noise,
        )


class MapDelay(Interface):
    """Map the delay between the end of labelling and the readout of each slice."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('grid of the series', '1')
        post_label_delay = traits.List(
            traits.Float, mandatory=True, desc='delays of the first slice', unit='s'
        )
        slice_times = traits.List(traits.Float, desc='readout time of every slice', unit='s')
        slice_axis = traits.Range(
            0, 2, value=2, usedefault=True, desc='axis of the slices', unit=''
        )

    class Outputs(TraitedSpec):
        delay = result('delays at which each voxel was read out', 's')
        effective_delay = estimated('the first of them', 's')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        axis = self.inputs.slice_axis
        times = np.asarray(self.inputs.slice_times or [0.0] * grid.shape[axis])
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        delay = effective_delay(self.inputs.post_label_delay, times.reshape(shape))
        delay = np.broadcast_to(delay, (*grid.shape, delay.shape[-1]))
        folder = Path(runtime.cwd)
        image_of = delay if delay.shape[-1] > 1 else delay[..., 0]
        self._results['delay'] = save_image(image_of, grid, folder / 'delay.nii')
        first = Estimate.of(delay[..., 0][mask])
        facts = {'PostLabelingDelay': [round(float(x), 6) for x in self.inputs.post_label_delay]}
        self._results['effective_delay'] = save_estimate(
            'effective_delay', first, mask, grid, runtime.cwd, facts
        )
        return runtime


def _known_of_pairs(path):
    """Take from the facts of a map what the pairs tell of its errors."""
    known = sidecar_of(path)
    return {key: known[key] for key in KNOWN_OF_PAIRS if key in known}


class EstimateCBF(ModelInterface):
    """Estimate CBF with one model of the registry."""

    quantity = 'cbf'

    class Inputs(BaseInterfaceInputSpec):
        model = traits.Enum(*choices('cbf'), usedefault=True, desc='name in the registry', unit='')
        mask = image('voxels to estimate', '1')
        difference = estimated('control minus label, per delay', 'a.u.')
        m0 = estimated('equilibrium signal', 'a.u.', optional=True)
        label_duration = traits.List(
            traits.Float, desc='duration of labelling, per delay', unit='s'
        )
        post_label_delay = image('delays of every voxel', 's', optional=True)
        n_pairs = traits.List(traits.Int, desc='pairs per delay', unit='')
        labeling = traits.Enum(*BOLUS, desc='shape of the bolus', unit='')
        labeling_efficiency = traits.Float(desc='inversion efficiency', unit='1')
        background_suppression_factor = traits.Float(
            desc='signal kept by the suppression pulses', unit='1'
        )
        t1_blood = traits.Float(desc='T1 of blood', unit='s')
        t1_tissue = traits.Float(desc='T1 of tissue', unit='s')
        partition_coefficient = traits.Float(desc='of water', unit='mL/g')
        dispersion_sharpness = traits.Float(desc='of the gamma kernel', unit='1/s')
        dispersion_peak = traits.Float(desc='of the gamma kernel', unit='s')
        noise_groups = image('tissue class whose noise is pooled', '', optional=True)

    class Outputs(TraitedSpec):
        cbf = estimated('cerebral blood flow', 'mL/100 g/min')
        att = estimated('arrival time, where several delays were fitted', 's')
        abv = estimated('blood volume of arteries, where it was fitted', 'mL/mL')

    def _sidecar(self, arguments):
        """Repeat what the pairs tell of the errors."""
        return _known_of_pairs(self.inputs.difference)


class NormaliseCBF(Interface):
    """Divide blood flow without M0 by its median in grey matter (the brain, without tissue)."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to estimate', '1')
        cbf = estimated('cerebral blood flow, up to a factor', 'a.u.')
        noise_groups = image('tissue class; 1 is grey matter', '', optional=True)

    class Outputs(TraitedSpec):
        relative_cbf = estimated('relative blood flow', '1')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        cbf = load_estimate(self.inputs.cbf, mask, grid)
        region = np.ones(cbf.value.shape, bool)
        if isdefined(self.inputs.noise_groups):
            region = load_masked(self.inputs.noise_groups, mask, grid) == GREY_MATTER

        relative = relative_to_region(cbf, region)

        self._results['relative_cbf'] = save_estimate(
            'relative_cbf', relative, mask, grid, runtime.cwd
        )
        return runtime


class EstimateSharedArrival(Interface):
    """Estimate the CBF of several conditions with one arrival time, on one grid."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to estimate; the grid that all conditions are brought to', '1')
        difference = estimated_each('control minus label per delay', 'a.u.')
        m0 = estimated_each('equilibrium signals', 'a.u.')
        delay = traits.List(File(exists=True), desc='delays of every voxel', unit='s')
        source_transform = traits.List(
            File(exists=True),
            desc='rigid transforms, T1w points to points of each scan (ITK)',
            unit='',
        )
        target_transform = image('rigid transform, T1w points to points of the mask (ITK)', '')
        label_duration = traits.List(desc='durations of labelling, lists per delay', unit='s')
        n_pairs = traits.List(desc='pairs, lists per delay', unit='')
        labeling = traits.Enum('continuous', 'pulsed', desc='shape of the bolus', unit='')
        labeling_efficiency = traits.List(traits.Float, desc='inversion efficiencies', unit='1')
        background_suppression_factor = traits.List(
            traits.Float, desc='signals kept by the suppression pulses', unit='1'
        )
        t1_blood = traits.Float(mandatory=True, desc='T1 of blood', unit='s')
        t1_tissue = traits.Float(mandatory=True, desc='T1 of tissue', unit='s')
        partition_coefficient = traits.Float(mandatory=True, desc='of water', unit='mL/g')

    class Outputs(TraitedSpec):
        cbf = estimated_each('cerebral blood flow', 'mL/100 g/min')
        cbf_without_m0 = estimated_each(
            'cerebral blood flow without the variance of M0', 'mL/100 g/min'
        )
        att = estimated('arrival time of the label', 's')

    def _run_interface(self, runtime):
        mask, target = read_mask(self.inputs.mask)
        conditions = range(len(self.inputs.difference))
        points = [self._points(index, target)[mask] for index in conditions]
        differences = [self._carry('difference', i, points[i]) for i in conditions]
        references = [self._carry('m0', i, points[i]) for i in conditions]
        m0 = [Estimate(x.value[:, 0], x.variance[:, 0], x.status[:, 0], x.dof) for x in references]
        delays = [_resample(load_data(path), points[i]).value
                  for i, path in enumerate(self.inputs.delay)]  # fmt: skip

        cbf, att = fit_shared_arrival(
            differences,
            m0,
            post_label_delays=delays,
            label_durations=self.inputs.label_duration,
            n_pairs=self.inputs.n_pairs,
            labeling=self.inputs.labeling,
            labeling_efficiencies=self.inputs.labeling_efficiency,
            background_suppression_factors=self.inputs.background_suppression_factor,
            t1_blood=self.inputs.t1_blood,
            t1_tissue=self.inputs.t1_tissue,
            partition_coefficient=self.inputs.partition_coefficient,
        )

        shared = {
            VOXELS_PER_SAMPLE: round(
                max(
                    voxels_per_sample(grid_of(path), target, points[i])
                    for i, path in enumerate(self.inputs.delay)
                ),
                3,
            )
        }
        where = (mask, target, runtime.cwd, shared)
        self._results['att'] = save_estimate('att', att, *where)
        without = [separate_m0_error(cbf[index], m0[index])[0] for index in conditions]
        for name, estimates in (('cbf', cbf), ('cbf_without_m0', without)):
            self._results[name] = [
                save_estimate(f'{name}{index}', estimates[index], *where) for index in conditions
            ]
        return runtime

    def _points(self, index, target):
        """Voxel coordinates in a condition's scan of every voxel of the target."""
        to_source = load_affine(self.inputs.source_transform[index])
        to_source = to_source @ np.linalg.inv(load_affine(self.inputs.target_transform))
        return voxel_coordinates(
            target_shape=target.shape,
            target_affine=target.affine,
            source_affine=grid_of(self.inputs.delay[index]).affine,
            transform=to_source,
        )

    def _carry(self, name, index, points):
        """Carry a quantity of a condition to the target."""
        files = Bundle.read(getattr(self.inputs, name)[index])
        value, variance, status = (load_data(path) for path in files.parts)
        return _resample(value, points, variance, status)


def _resample(value, points, variance=None, status=None):
    """Carry an image of several volumes: by a spline, variances with the squared weights."""
    shape = (*value.shape[:3], -1)
    value = value.reshape(shape)
    variance = np.zeros(value.shape) if variance is None else variance.reshape(shape)
    status = np.zeros(value.shape) if status is None else status.reshape(shape)
    parts = [
        resample_map(
            value[..., index],
            points,
            variance=variance[..., index],
            status=status[..., index].astype(np.uint8),
        )
        for index in range(value.shape[-1])
    ]
    return Estimate(
        np.stack([part.value for part in parts], axis=-1),
        np.stack([part.variance for part in parts], axis=-1),
        np.stack([part.status for part in parts], axis=-1),
    )


class CorrectPartialVolume(Interface):
    """Estimate the blood flow of grey and white matter apart."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to estimate', '1')
        cbf = estimated('cerebral blood flow', 'mL/100 g/min')
        grey_matter = image('grey-matter fraction', '1')
        white_matter = image('white-matter fraction', '1')
        slice_axis = traits.Range(
            0, 2, value=2, usedefault=True, desc='axis of the slices', unit=''
        )

    class Outputs(TraitedSpec):
        grey_cbf = estimated('blood flow of pure grey matter', 'mL/100 g/min')
        white_cbf = estimated('blood flow of pure white matter', 'mL/100 g/min')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        everywhere = np.ones_like(mask)
        cbf = load_estimate(self.inputs.cbf, everywhere, grid)
        status = np.where(mask, cbf.status.reshape(mask.shape), Status.OUTSIDE_MASK)
        volume = Estimate.of(
            cbf.value.reshape(mask.shape), cbf.variance.reshape(mask.shape), status, cbf.dof
        )

        parts = correct_partial_volume(
            volume,
            load_data(self.inputs.grey_matter),
            load_data(self.inputs.white_matter),
            slice_axis=self.inputs.slice_axis,
        )

        for name, part in zip(('grey_cbf', 'white_cbf'), parts, strict=True):
            inside = Estimate.of(
                part.value[mask], part.variance[mask], part.status[mask], part.dof
            )
            self._results[name] = save_estimate(name, inside, mask, grid, runtime.cwd)
        return runtime


class SummariseQuality(Interface):
    """Summarise how far a map of blood flow can be trusted."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to summarise', '1')
        cbf = estimated('cerebral blood flow', 'mL/100 g/min')
        grey_matter = image('grey-matter fraction', '1')
        white_matter = image('white-matter fraction', '1')
        csf = image('cerebrospinal-fluid fraction', '1')
        calibration = traits.List(
            traits.Float,
            desc='scatter of odd minus even pairs over its error; its interval',
            unit='1',
        )
        m0 = estimated('equilibrium signal', 'a.u.', optional=True)
        half_difference = estimated('odd minus even pairs', 'a.u.', optional=True)
        order = traits.Int(desc='of the scan among those of the participant in time', unit='')
        condition = traits.Str(desc='of the scan', unit='')
        run = traits.Str(desc='of the scan', unit='')
        is_absolute = traits.Bool(True, usedefault=True, desc='in mL/100 g/min', unit='')
        scaled = traits.List(
            File(exists=True),
            desc='M0 and series as scanned, to compare their scale slopes',
            unit='',
        )

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='numbers and verdicts of one scan', unit='')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        cbf = load_estimate(self.inputs.cbf, np.ones_like(mask), grid)
        status = np.where(mask, cbf.status.reshape(mask.shape), Status.OUTSIDE_MASK)
        volume = Estimate.of(
            cbf.value.reshape(mask.shape), cbf.variance.reshape(mask.shape), status
        )
        smooth = smooth_in_mask(volume, mask, fwhm=QUALITY_FWHM / grid.zooms)
        tissue = {
            name: load_masked(getattr(self.inputs, name), mask, grid)
            for name in ('grey_matter', 'white_matter', 'csf')
        }

        numbers = quality_index(smooth.value[mask], **tissue)
        tissue.pop('csf')
        numbers |= grey_matter_statistics(volume.value[mask], **tissue)
        if isdefined(self.inputs.m0):
            m0 = load_estimate(self.inputs.m0, mask, grid).value
            numbers['m0_median'] = grey_matter_statistics(m0, **tissue)['grey_matter_median']
        if isdefined(self.inputs.half_difference):
            numbers['noise_width'] = self._width(mask, grid)
        if isdefined(self.inputs.order):
            numbers['scan_order'] = self.inputs.order
        numbers['calibration'], *ends = self.inputs.calibration or [float('nan')] * 3
        if isdefined(self.inputs.scaled):
            m0_slope, slope = (scale_slope_of(path) for path in self.inputs.scaled)
            numbers['scale_slope_ratio'] = m0_slope / slope
        cause = probable_cause(numbers) if self.inputs.is_absolute else ''

        intervals = {'calibration': (ends[0], ends[1])}
        rows = judge_quality(numbers, cause=cause, intervals=intervals)
        table = pd.DataFrame(rows)
        table.insert(0, 'condition', self.inputs.condition or 'n/a')
        table.insert(1, 'run', self.inputs.run or 'n/a')
        path = Path(runtime.cwd) / 'quality.tsv'
        table.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.6g')
        self._results['table'] = str(path)
        return runtime

    def _width(self, mask, grid):
        """Tell how wide the noise of the pairs is correlated, mm."""
        half = load_estimate(self.inputs.half_difference, mask, grid)
        noise = np.full((*mask.shape, half.value[0].size), np.nan)
        noise[mask] = (half.value / np.sqrt(half.variance)).reshape(len(half.value), -1)
        return correlation_width(np.moveaxis(noise, -1, 0), grid.zooms)


class CombineTables(Interface):
    """Combine the tables of several scans into one."""

    class Inputs(BaseInterfaceInputSpec):
        tables = traits.List(File(exists=True), mandatory=True, desc='one per scan', unit='')

    Outputs = SummariseQuality.Outputs

    def _run_interface(self, runtime):
        parts = [pd.read_csv(path, sep='\t', keep_default_na=False) for path in self.inputs.tables]
        path = Path(runtime.cwd) / 'table.tsv'
        pd.concat(parts).to_csv(path, sep='\t', index=False)
        self._results['table'] = str(path)
        return runtime


class SeparateM0Error(Interface):
    """Separate the error of M0 from that of CBF, to count it once where conditions share M0."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to estimate', '1')
        m0 = estimated('equilibrium signal', 'a.u.')
        cbf = estimated('cerebral blood flow', 'mL/100 g/min')

    class Outputs(TraitedSpec):
        m0_relative = estimated('equilibrium signal relative to itself, that is 1', '1')
        cbf_without_m0 = estimated('cerebral blood flow', 'mL/100 g/min')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        m0 = load_estimate(self.inputs.m0, mask, grid)
        cbf = load_estimate(self.inputs.cbf, mask, grid)

        parts = separate_m0_error(cbf, m0)

        facts: tuple[dict[str, Any], ...] = (_known_of_pairs(self.inputs.cbf), {})
        for name, part, own in zip(('cbf_without_m0', 'm0_relative'), parts, facts, strict=True):
            self._results[name] = save_estimate(name, part, mask, grid, runtime.cwd, own)
        return runtime
