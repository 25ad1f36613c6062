"""Changes between two conditions and the labels made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_app.images import load_masked, save_image, save_unmasked
from bids_app.interfaces._base import (
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    SimpleInterface,
    TraitedSpec,
    estimated,
    facts_of,
    image,
    isdefined,
    load_estimate,
    load_value,
    read_mask,
    result,
    save_estimate,
    traits,
)
from bids_app.models.concordance import labels as concordance
from bids_app.models.contrast import calibrated_bold, difference, response_mode


class _ChangeInputSpec(BaseInterfaceInputSpec):
    mask = image('voxels to compare', '1')
    task_cbf = estimated('CBF of the task', 'mL/100 g/min', optional=True)
    baseline_cbf = estimated('CBF of the baseline', 'mL/100 g/min', optional=True)
    task_r2_star = estimated('R2* of the task', '1/s', optional=True)
    baseline_r2_star = estimated('R2* of the baseline', '1/s', optional=True)
    r2 = estimated('R2, shared by the conditions', '1/s', optional=True)
    baseline_r2 = estimated('R2 of the baseline, where each has its own', '1/s', optional=True)
    task_cbv = estimated('CBV of the task', 'mL/mL', optional=True)
    baseline_cbv = estimated('CBV of the baseline', 'mL/mL', optional=True)
    task_oef = estimated('OEF of the task by ASE', '1', optional=True)
    task_r2_prime = estimated("R2' of the task by ASE", '1/s', optional=True)
    baseline_oef = estimated('OEF of the baseline by ASE', '1', optional=True)
    baseline_r2_prime = estimated("R2' of the baseline by ASE", '1/s', optional=True)
    cbv_shared = traits.Bool(True, usedefault=True, desc='one CBV serves both', unit='')
    cbv_exponent = traits.Float(
        0.0, usedefault=True, desc='of the power law, where CBV comes from CBF', unit='1'
    )
    m0_relative = estimated('the one M0 that serves both, relative to itself', '1', optional=True)
    bold = estimated('BOLD change that stands for a change of R2*', '%', optional=True)
    route = traits.Enum(
        'quantitative',
        'semiquantitative',
        'epp2025',
        'combined',
        'davis',
        usedefault=True,
        desc='how the change of CMRO2 is found',
        unit='',
    )
    echo_time = traits.Float(desc='of the BOLD series', unit='s')
    cbv_response = traits.Float(
        0.0, usedefault=True, desc='assumed relative change of CBV', unit='1'
    )
    coefficients = traits.Str(desc='source of alpha and beta of the Davis model', unit='')
    davis_maximum = traits.Float(desc='maximum of BOLD, where it is given', unit='%')
    davis_maximum_map = image('the same per voxel', '%', optional=True)
    challenge_bold = estimated('BOLD change by a gas challenge', '%', optional=True)
    challenge_cbf = estimated('CBF during it', 'mL/100 g/min', optional=True)
    reference = estimated('the quantity in the baseline condition', '')
    rate = traits.Float(desc="R2' per OEF and CBV", unit='1/s')
    cao2 = traits.Float(desc='arterial oxygen content', unit='umol/mL')


class _ChangeOutputSpec(TraitedSpec):
    change = estimated('task minus baseline', '')
    change_z = result('change over its standard error', '1')
    change_p = result('two-sided probability', '1')
    change_percent = result('percent of the baseline', '%')


_MEASURED = (
    'task_cbf',
    'baseline_cbf',
    'task_r2_star',
    'baseline_r2_star',
    'r2',
    'baseline_r2',
    'task_cbv',
    'baseline_cbv',
    'task_oef',
    'baseline_oef',
    'task_r2_prime',
    'baseline_r2_prime',
    'bold',
    'challenge_bold',
    'challenge_cbf',
)


class ChangeInterface(SimpleInterface):
    """Compute the change of one quantity, with z, p and percent of the baseline."""

    input_spec = _ChangeInputSpec
    output_spec = _ChangeOutputSpec

    def change_of(self, maps: dict[str, Any]) -> Any:
        """Return the change as an Estimate."""
        raise NotImplementedError

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        maps: dict[str, Any] = {
            name: load_estimate(getattr(self.inputs, name), mask, grid)
            for name in _MEASURED
            if isdefined(getattr(self.inputs, name))
        }
        m0 = self.inputs.m0_relative
        maps['m0_relative_variance'] = (
            load_estimate(m0, mask, grid).variance if isdefined(m0) else None
        )
        largest = self.inputs.davis_maximum_map
        maps['davis_maximum'] = (
            load_masked(largest, mask, grid) if isdefined(largest) else self._given_maximum()
        )

        change = self.change_of(maps)

        reference = load_estimate(self.inputs.reference, mask, grid)
        z = difference.z_score(change)
        shared = [
            facts_of(getattr(self.inputs, name)).get(VOXELS_PER_SAMPLE, 1.0)
            for name in maps
            if name in _MEASURED
        ]
        facts = {VOXELS_PER_SAMPLE: max(shared, default=1.0)}
        self._results['change'] = save_estimate('change', change, mask, grid, runtime.cwd, facts)
        extras = {
            'change_z': z,
            'change_p': difference.p_value(z),
            'change_percent': difference.percent_of_baseline(change, reference),
        }
        for name, values in extras.items():
            path = Path(runtime.cwd) / f'{name}.nii'
            self._results[name] = save_unmasked(values, mask, grid, path)
        return runtime

    def _given_maximum(self):
        """M of the settings, if any."""
        given = self.inputs.davis_maximum
        return given if isdefined(given) else None


class EstimateChangeInCBF(ChangeInterface):
    """Estimate the change of CBF."""

    def change_of(self, maps):
        """Give dCBF."""
        return difference.change_in_cbf(
            maps['task_cbf'],
            maps['baseline_cbf'],
            m0_relative_variance=maps['m0_relative_variance'],
        )


class EstimateChangeInCBV(ChangeInterface):
    """Estimate the change of CBV, where it was measured in both conditions."""

    def change_of(self, maps):
        """Give dCBV."""
        return difference.change_between(maps['task_cbv'], maps['baseline_cbv'])


class EstimateChangeInR2Prime(ChangeInterface):
    """Estimate the change of R2', in which a shared R2 cancels."""

    def change_of(self, maps):
        """Give dR2'."""
        if 'task_r2_prime' in maps:
            return difference.change_between(maps['task_r2_prime'], maps['baseline_r2_prime'])
        own = (
            {'task_r2': maps['r2'], 'baseline_r2': maps['baseline_r2']}
            if ('baseline_r2' in maps)
            else {}
        )
        return difference.change_in_r2_prime(maps['task_r2_star'], maps['baseline_r2_star'], **own)


class EstimateChangeInOEF(ChangeInterface):
    """Estimate the change of OEF, shared errors counted once."""

    def change_of(self, maps):
        """Give dOEF."""
        if 'task_oef' in maps:
            return difference.change_between(maps['task_oef'], maps['baseline_oef'])
        return difference.change_in_oef(
            **{name: maps[name] for name in _MEASURED if name in maps and 'cbf' not in name},
            cbv_shared=self.inputs.cbv_shared,
            cbv_exponent=self.inputs.cbv_exponent,
            rate=self.inputs.rate,
        )


class EstimateChangeInCMRO2(ChangeInterface):
    """Estimate the change of CMRO2, shared errors counted once."""

    def change_of(self, maps):
        """Give D."""
        if self.inputs.route != 'quantitative':
            return self._change_with_bold(maps)
        if 'task_oef' in maps:
            return difference.change_in_cmro2_from_oef(
                **{name: maps[name] for name in _MEASURED if name in maps},
                cao2=self.inputs.cao2,
                m0_relative_variance=maps['m0_relative_variance'],
            )
        return difference.change_in_cmro2(
            **{name: maps[name] for name in _MEASURED if name in maps},
            cbv_shared=self.inputs.cbv_shared,
            cbv_exponent=self.inputs.cbv_exponent,
            scale=self.inputs.cao2 / self.inputs.rate,
            m0_relative_variance=maps['m0_relative_variance'],
        )

    def _change_with_bold(self, maps):
        """Give D where BOLD stands for the change of R2*, alone, with the MEGRE or in a model."""
        arguments: dict[str, Any] = {
            name: maps[name]
            for name in ('bold', 'task_cbf', 'baseline_cbf', 'baseline_r2_star', 'baseline_cbv')
        }
        m0 = maps['m0_relative_variance']
        arguments |= {
            'r2': maps['baseline_r2'],
            'echo_time': self.inputs.echo_time,
            'm0_relative_variance': 0.0 if m0 is None else m0,
        }
        scale = self.inputs.cao2 / self.inputs.rate
        if self.inputs.route == 'davis':
            alpha, beta = calibrated_bold.COEFFICIENTS[self.inputs.coefficients]
            gas = tuple(maps[name] for name in _MEASURED if name in maps and 'challenge' in name)
            return calibrated_bold.change_in_cmro2_davis(
                **arguments,
                scale=scale,
                alpha=alpha,
                beta=beta,
                maximum=maps['davis_maximum'],
                challenge=gas or None,
            )
        arguments |= {
            'task_cbv': maps.get('task_cbv'),
            'cbv_shared': self.inputs.cbv_shared,
            'cbv_response': self.inputs.cbv_response,
        }
        if self.inputs.route == 'epp2025':
            return calibrated_bold.change_in_cmro2_published(
                **arguments, rate=self.inputs.rate, cao2=self.inputs.cao2
            )
        return calibrated_bold.change_in_cmro2_with_bold(
            **arguments, scale=scale, task_r2_star=maps.get('task_r2_star')
        )


class _TestInputSpec(BaseInterfaceInputSpec):
    mask = image('voxels to test', '1')
    quantity = estimated('effect', '')


class _TestOutputSpec(TraitedSpec):
    z = result('effect over its standard error', '1')
    p = result('two-sided probability', '1')


class ComputeSignificance(SimpleInterface):
    """Compute z and p of an effect."""

    input_spec = _TestInputSpec
    output_spec = _TestOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        z = difference.z_score(load_estimate(self.inputs.quantity, mask, grid))
        folder = Path(runtime.cwd)
        self._results['z'] = save_unmasked(z, mask, grid, folder / 'z.nii')
        self._results['p'] = save_unmasked(difference.p_value(z), mask, grid, folder / 'p.nii')
        return runtime


class _LimitInputSpec(BaseInterfaceInputSpec):
    mask = image('brain', '1')
    grey_matter = image('grey-matter fraction', '1')
    maps = traits.List(estimated('a map', ''), mandatory=True, desc='what is limited', unit='')
    limits = traits.List(
        traits.Tuple(traits.Float, traits.Float),
        mandatory=True,
        desc='of each map: above the first, up to the second',
        unit='',
    )


class _LimitOutputSpec(TraitedSpec):
    grey_matter = result('grey-matter fraction, 0 where a map is outside its limits', '1')


class LimitVoxels(SimpleInterface):
    """Leave out of the grey matter what lies outside of published limits."""

    input_spec = _LimitInputSpec
    output_spec = _LimitOutputSpec

    def _run_interface(self, runtime):
        brain, grid = read_mask(self.inputs.mask)
        maps = [load_value(path, brain, grid) for path in self.inputs.maps]
        inside = concordance.within_limits(maps, self.inputs.limits)
        grey = np.where(inside, load_masked(self.inputs.grey_matter, brain, grid), 0.0)
        path = Path(runtime.cwd) / 'grey_matter.nii'
        self._results['grey_matter'] = save_unmasked(grey, brain, grid, path, fill=0)
        return runtime


class _LabelInputSpec(BaseInterfaceInputSpec):
    mask = image('brain', '1')
    grey_matter = image('grey-matter fraction', '1')
    minimum_grey_matter = traits.Float(mandatory=True, desc='label above this', unit='1')
    bold = estimated('percent BOLD change', '%')
    change = estimated('change of CMRO2', 'umol/100 g/min')
    bold_q = traits.Float(mandatory=True, desc='FDR level of the BOLD gate', unit='1')
    level = traits.Float(mandatory=True, desc='local false sign rate of a label', unit='1')


class _LabelOutputSpec(TraitedSpec):
    sign = result('labels by the published sign rule', '')
    robust = result('labels that may say undetermined', '')
    discordant = result('probability that BOLD and CMRO2 changed in opposite directions', '1')


class LabelConcordance(SimpleInterface):
    """Label every voxel by the signs of its BOLD and CMRO2 change."""

    input_spec = _LabelInputSpec
    output_spec = _LabelOutputSpec

    def _run_interface(self, runtime):
        brain, grid = read_mask(self.inputs.mask)
        bold = load_estimate(self.inputs.bold, brain, grid)
        change = load_estimate(self.inputs.change, brain, grid)
        grey = load_masked(self.inputs.grey_matter, brain, grid) > self.inputs.minimum_grey_matter

        gate = concordance.bold_gate(bold, q=self.inputs.bold_q, mask=grey)
        maps = {
            'sign': concordance.label_by_sign(bold.value, change.value, gate, grey),
            'robust': concordance.label_robust(bold, change, gate, grey, level=self.inputs.level),
        }

        for name, labels in maps.items():
            data = np.zeros(brain.shape, np.uint8)
            data[brain] = labels
            path = Path(runtime.cwd) / f'{name}.nii'
            self._results[name] = save_image(data, grid, path)
        probability = concordance.discordance_probability(bold, change, gate, grey)
        path = Path(runtime.cwd) / 'discordant.nii'
        self._results['discordant'] = save_unmasked(probability, brain, grid, path)
        return runtime


class _ModeInputSpec(BaseInterfaceInputSpec):
    mask = image('brain', '1')
    labels = image('robust labels: which voxels to label', '')
    cbf = estimated('change of CBF', 'mL/100 g/min')
    oef = estimated('change of OEF', '1')
    baseline_cbf = estimated('CBF of the baseline', 'mL/100 g/min')
    baseline_oef = estimated('OEF of the baseline', '1')


class _ModeOutputSpec(TraitedSpec):
    mode = result('flow-led, extraction-led or undetermined', '')


class LabelResponseMode(SimpleInterface):
    """Tell whether blood flow or extraction changed more, relative to its baseline."""

    input_spec = _ModeInputSpec
    output_spec = _ModeOutputSpec

    def _run_interface(self, runtime):
        brain, grid = read_mask(self.inputs.mask)
        labels = load_masked(self.inputs.labels, brain, grid).astype(np.uint8)
        inside = labels != concordance.Label.OUTSIDE
        cbf, oef = (
            response_mode.log_ratio(
                load_estimate(getattr(self.inputs, name), brain, grid),
                load_value(getattr(self.inputs, f'baseline_{name}'), brain, grid),
            )
            for name in ('cbf', 'oef')
        )
        gate = inside & (labels != concordance.Label.NOT_SIGNIFICANT)
        data = np.zeros(brain.shape, np.uint8)
        data[brain] = response_mode.label_response_mode(cbf, oef, gate, inside)
        self._results['mode'] = save_image(data, grid, Path(runtime.cwd) / 'mode.nii')
        return runtime
