"""From a label-control series to CBF."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bids_app.images import grid_of, load_masked, save_image
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    ModelInterface,
    SimpleInterface,
    TraitedSpec,
    image,
    isdefined,
    load_estimate,
    read_mask,
    result,
    save_estimate,
    traits,
)
from bids_app.models.noise import alternate_pairs, calibrate_errors
from bids_app.models.perfusion import (
    effective_delay,
    estimate_difference,
    estimate_m0,
    separate_m0_error,
)
from bids_app.models.registry import choices

PAIR_CALIBRATION = 'PairCalibration'
"""Sidecar key: odd against even pairs, whether the stated errors are right."""


class _DifferenceInputSpec(BaseInterfaceInputSpec):
    series = image('label-control series', 'a.u.')
    mask = image('voxels to estimate', '1')
    context = traits.List(traits.Str, mandatory=True, desc='kind of every volume', unit='')
    noise_groups = image('tissue class whose noise is pooled', '', optional=True)


class _DifferenceOutputSpec(TraitedSpec):
    difference = result('control minus label', 'a.u.')
    difference_variance = result('its random variance', 'a.u.^2')
    difference_status = result('why a voxel has no estimate', '')
    difference_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateDifference(SimpleInterface):
    """Estimate the mean difference of control and label."""

    input_spec = _DifferenceInputSpec
    output_spec = _DifferenceOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        groups = None
        if isdefined(self.inputs.noise_groups):
            groups = load_masked(self.inputs.noise_groups, mask, grid).astype(int)

        series = load_masked(self.inputs.series, mask, grid)
        context = self.inputs.context
        difference = estimate_difference(series, context=context, noise_groups=groups)

        save_estimate(self._results, 'difference', difference, mask, grid, runtime.cwd)
        halves = [
            estimate_difference(
                series[:, volumes], context=[context[k] for k in volumes], noise_groups=groups
            )
            for volumes in alternate_pairs(context)
            if volumes
        ]
        if halves:
            found = calibrate_errors(*halves)
            self._results['difference_facts'][PAIR_CALIBRATION] = {
                'SDofZ': None if np.isnan(found.sd) else round(found.sd, 3),
                'Voxels': found.n_voxels,
                'Verdict': found.verdict,
            }
        return runtime


class _M0InputSpec(BaseInterfaceInputSpec):
    series = image('image or series with the equilibrium signal, on the grid of the mask', 'a.u.')
    volumes = traits.List(traits.Int, desc='its volumes; empty means all', unit='')
    mask = image('voxels to estimate', '1')
    repetition_time = traits.Float(desc='time for recovery; unset means full', unit='s')
    t1_tissue = traits.Float(mandatory=True, desc='T1 of tissue', unit='s')
    difference_variance = image('variance of the mean difference', 'a.u.^2')
    n_pairs = traits.Int(mandatory=True, desc='label-control pairs behind it', unit='')


class _M0OutputSpec(TraitedSpec):
    m0 = result('equilibrium signal', 'a.u.')
    m0_variance = result('its random variance', 'a.u.^2')
    m0_status = result('why a voxel has no estimate', '')
    m0_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateM0(SimpleInterface):
    """Estimate the equilibrium signal; its noise is that of one volume of the series."""

    input_spec = _M0InputSpec
    output_spec = _M0OutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        series = load_masked(self.inputs.series, mask, grid)
        series = series.reshape(series.shape[0], -1)
        if self.inputs.volumes:
            series = series[:, self.inputs.volumes]
        # the variance of a mean difference of n pairs is 2/n of that of one volume
        noise = load_masked(self.inputs.difference_variance, mask, grid) * self.inputs.n_pairs / 2

        m0 = estimate_m0(
            series,
            repetition_time=self.inputs.repetition_time
            if isdefined(self.inputs.repetition_time)
            else None,
            t1_tissue=self.inputs.t1_tissue,
            noise_variance=noise,
        )

        save_estimate(self._results, 'm0', m0, mask, grid, runtime.cwd)
        return runtime


class _DelayInputSpec(BaseInterfaceInputSpec):
    mask = image('grid of the series', '1')
    post_label_delay = traits.Float(mandatory=True, desc='delay of the first slice', unit='s')
    slice_times = traits.List(traits.Float, desc='readout time of every slice', unit='s')
    slice_axis = traits.Range(0, 2, value=2, usedefault=True, desc='axis of the slices', unit='')


class _DelayOutputSpec(TraitedSpec):
    delay = result('delay at which each voxel was read out', 's')


class MapDelay(SimpleInterface):
    """Map the delay between the end of labelling and the readout of each slice."""

    input_spec = _DelayInputSpec
    output_spec = _DelayOutputSpec

    def _run_interface(self, runtime):
        grid = grid_of(self.inputs.mask)
        axis = self.inputs.slice_axis
        times = np.asarray(self.inputs.slice_times or [0.0] * grid.shape[axis])
        per_slice = effective_delay(self.inputs.post_label_delay, times)
        shape = [1, 1, 1]
        shape[axis] = -1
        delay = np.broadcast_to(per_slice.reshape(shape), grid.shape)
        self._results['delay'] = save_image(delay, grid, Path(runtime.cwd) / 'delay.nii')
        return runtime


class _CBFInputSpec(BaseInterfaceInputSpec):
    model = traits.Enum(*choices('cbf'), usedefault=True, desc='name in the registry', unit='')
    mask = image('voxels to estimate', '1')
    difference = image('control minus label', 'a.u.')
    difference_variance = image('its random variance', 'a.u.^2')
    difference_status = image('its status', '')
    difference_facts = traits.Dict(desc='degrees of freedom', unit='')
    m0 = image('equilibrium signal', 'a.u.')
    m0_variance = image('its random variance', 'a.u.^2')
    m0_status = image('its status', '')
    m0_facts = traits.Dict(desc='degrees of freedom', unit='')
    label_duration = traits.Float(mandatory=True, desc='duration of labelling', unit='s')
    post_label_delay = image('delay of every voxel', 's')
    labeling_efficiency = traits.Float(mandatory=True, desc='inversion efficiency', unit='1')
    background_suppression_factor = traits.Float(
        mandatory=True, desc='signal kept by the suppression pulses', unit='1'
    )
    t1_blood = traits.Float(mandatory=True, desc='T1 of blood', unit='s')
    partition_coefficient = traits.Float(mandatory=True, desc='of water', unit='mL/g')


class _CBFOutputSpec(TraitedSpec):
    cbf = result('cerebral blood flow', 'mL/100 g/min')
    cbf_variance = result('its random variance', '(mL/100 g/min)^2')
    cbf_status = result('why a voxel has no estimate', '')
    cbf_facts = traits.Dict(desc='entries of the sidecar', unit='')


class EstimateCBF(ModelInterface):
    """Estimate CBF with one model of the registry."""

    quantity = 'cbf'
    input_spec = _CBFInputSpec
    output_spec = _CBFOutputSpec

    def _run_interface(self, runtime):
        runtime = super()._run_interface(runtime)
        facts = self.inputs.difference_facts if isdefined(self.inputs.difference_facts) else {}
        if PAIR_CALIBRATION in facts:
            self._results['cbf_facts'][PAIR_CALIBRATION] = facts[PAIR_CALIBRATION]
        return runtime


class _M0ErrorInputSpec(BaseInterfaceInputSpec):
    mask = image('voxels to estimate', '1')
    m0 = image('equilibrium signal', 'a.u.')
    m0_variance = image('its random variance', 'a.u.^2')
    m0_status = image('its status', '')
    cbf = image('cerebral blood flow', 'mL/100 g/min')
    cbf_variance = image('its random variance', '(mL/100 g/min)^2')
    cbf_status = image('its status', '')
    cbf_facts = traits.Dict(desc='degrees of freedom', unit='')


class _M0ErrorOutputSpec(TraitedSpec):
    m0_relative = result('equilibrium signal relative to itself, that is 1', '1')
    m0_relative_variance = result('relative variance of the equilibrium signal', '1')
    m0_relative_status = result('its status', '')
    m0_relative_facts = traits.Dict(desc='entries of the sidecar', unit='')
    cbf_without_m0 = result('cerebral blood flow', 'mL/100 g/min')
    cbf_without_m0_variance = result('variance without that of M0', '(mL/100 g/min)^2')
    cbf_without_m0_status = result('its status', '')
    cbf_without_m0_facts = traits.Dict(desc='entries of the sidecar', unit='')


class SeparateM0Error(SimpleInterface):
    """Separate the error of M0 from that of CBF, to count it once where conditions share M0."""

    input_spec = _M0ErrorInputSpec
    output_spec = _M0ErrorOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        m0 = load_estimate(self.inputs, 'm0', mask, grid)
        cbf = load_estimate(self.inputs, 'cbf', mask, grid)

        parts = separate_m0_error(cbf, m0)

        for name, part in zip(('cbf_without_m0', 'm0_relative'), parts, strict=True):
            save_estimate(self._results, name, part, mask, grid, runtime.cwd)
        return runtime
