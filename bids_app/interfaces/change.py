"""Changes between two conditions and the labels made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bids_app.images import load_masked, save_image, save_unmasked
from bids_app.interfaces._base import (
    BETWEEN_SCANS,
    ERROR_FACTORS,
    RUNS_COMBINED,
    SCAN_DIFFERENCES,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    Interface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    load_estimate,
    load_value,
    read_mask,
    result,
    save_estimate,
    sidecar_of,
    traits,
)
from bids_app.interfaces.oxygen import VENOUS_BLOOD, applied_scale
from bids_app.interfaces.regions import shares_of
from bids_app.models.concordance import labels as concordance
from bids_app.models.contrast import calibrated_bold, difference, response_mode
from bids_app.models.numerics.between_scans import PRIORS, learn_scan_difference
from bids_app.models.numerics.noise import SIZES


class _ChangeInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    mask = image('voxels to compare', '1')
    sources = traits.List(traits.Str, mandatory=True, desc='names of the ports of maps', unit='')
    m0_relative = estimated('the one M0 that serves both, relative to itself', '1', optional=True)
    reference = estimated('the quantity in the baseline condition', '')
    venous_blood = File(
        exists=True,
        desc='comparison with venous blood, where it scales the change',
        unit='',
    )
    between_scans = traits.Enum(
        'learnt', 'prior', 'none', usedefault=True, desc='what scans differ by', unit=''
    )
    within_scan = traits.List(
        traits.Str, usedefault=True, desc='maps of which both conditions are of one scan', unit=''
    )


_StatisticsOutputSpec: Any = type(
    '_StatisticsOutputSpec',
    (TraitedSpec,),
    {
        '__module__': __name__,
        **{f'change_{name}': result(f'{name} of a change', '') for name in difference.STATISTICS},
    },
)
"""One port per statistic of a change."""


def _statistics_of(change, mask, grid, cwd):
    """Compute and save every statistic of a change: port -> file."""
    return {
        f'change_{name}': save_unmasked(
            statistic(change), mask, grid, Path(cwd) / f'change_{name}.nii'
        )
        for name, statistic in difference.STATISTICS.items()
    }


SIDES = ('task', 'baseline')


class ChangeInterface(Interface):
    """
    Compute the change of one quantity, with its statistics and percent of the baseline.

    Besides the fixed ports there is one for every name in `sources`: the maps it is made from.
    """

    class Outputs(_StatisticsOutputSpec):
        change = estimated('task minus baseline', '')
        change_common = result('variance that all voxels have in common between scans', '')
        change_local = result('variance that regions have for themselves between scans', '')
        change_percent = result('percent of the baseline', '%')

    def __init__(self, sources: list[str] | None = None, **inputs: Any) -> None:
        super().__init__(**inputs)
        for name in sources or []:
            port = traits.Any(desc='map that the change is made from', unit='')
            self.inputs.add_trait(name, port)
        if sources:
            self.inputs.sources = sources

    def change_of(self, maps: dict[str, Any], m0_relative: Any) -> Any:
        """Return the change as an Estimate."""
        raise NotImplementedError

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        paths = {name: getattr(self.inputs, name) for name in self.inputs.sources}
        maps = {name: load_estimate(path, mask, grid) for name, path in paths.items()}
        m0 = self.inputs.m0_relative

        noise = self._scaled_change(maps, load_estimate(m0, mask, grid) if isdefined(m0) else None)
        differences = self._scan_differences(paths)
        common, local = self._between_scans(maps, differences)
        change = noise.with_variance(noise.variance + common + local)

        reference = load_estimate(self.inputs.reference, mask, grid)
        shared = [sidecar_of(path).get(VOXELS_PER_SAMPLE, 1.0) for path in paths.values()]
        facts = {
            VOXELS_PER_SAMPLE: max(shared),
            SHARED_NOISE: self._shares(paths, maps, noise),
            BETWEEN_SCANS: {name: one.as_sidecar() for name, one in differences.items()},
        }
        factors = [
            one for path in paths.values() for one in sidecar_of(path).get(ERROR_FACTORS, [])
        ]
        facts |= {ERROR_FACTORS: factors} if factors else {}
        facts |= {VENOUS_BLOOD: self._venous_blood()} if self._venous_blood() else {}
        self._results['change'] = save_estimate('change', change, mask, grid, runtime.cwd, facts)
        extras = {
            'change_common': common,
            'change_local': local,
            'change_percent': difference.percent_of_baseline(change, reference),
        }
        for name, values in extras.items():
            path = Path(runtime.cwd) / f'{name}.nii'
            self._results[name] = save_unmasked(values, mask, grid, path)
        self._results |= _statistics_of(change, mask, grid, runtime.cwd)
        return runtime

    def _venous_blood(self):
        """Give the comparison with venous blood; nothing where it does not scale the change."""
        path = self.inputs.venous_blood
        return json.loads(Path(path).read_text('utf-8')) if isdefined(path) else {}

    def _scaled_change(self, maps, m0_relative):
        """Return the change, in the scale of venous blood where the maps have that."""
        change, facts = self.change_of(maps, m0_relative), self._venous_blood()
        return change.scaled(applied_scale(facts)) if facts else change

    def _scan_differences(self, paths):
        """Tell what the scans of the maps that both conditions have differ by."""
        how = self.inputs.between_scans
        own = [
            name
            for name in PRIORS
            if name not in self.inputs.within_scan
            and all(f'{side}_{name}' in paths for side in SIDES)
        ]
        found: dict[str, Any] = {}
        for name, side in ((name, side) for name in own for side in SIDES if how != 'none'):
            facts = sidecar_of(paths[f'{side}_{name}'])
            seen = facts.get(SCAN_DIFFERENCES, []) if how == 'learnt' else []
            n_scans = facts.get(RUNS_COMBINED, 1)
            found[f'{side}_{name}'] = learn_scan_difference(name, seen, n_scans=n_scans)
        return found

    def _between_scans(self, maps, differences):
        """Give the variance of the change that the scans differ by: in common, and local."""
        parts = {name: one.variance(maps[name].value) for name, one in differences.items()}
        return [
            np.nan_to_num(self._variance_by(maps, {name: both[k] for name, both in parts.items()}))
            for k in (0, 1)
        ]

    def _variance_by(self, maps, variances):
        """Give the variance of the change if the maps had no others than these."""
        quiet = {name: one.with_variance(variances.get(name, 0.0)) for name, one in maps.items()}
        return self._scaled_change(quiet, None).variance

    def _shares(self, paths, maps, noise):
        """Tell which share of the noise of the change the voxels of regions have in common."""
        shares = dict.fromkeys(SIZES, 0.0)
        known = {name: sidecar_of(path).get(SHARED_NOISE) for name, path in paths.items()}
        for name, own in known.items():
            if not own or not np.any(noise.variance > 0):
                continue
            part = self._variance_by(maps, {name: maps[name].variance})
            positive = noise.variance > 0  # NaN is not
            typical = float(np.median(part[positive] / noise.variance[positive]))
            for level, share in own.items():
                shares[level] += typical * share
        return {level: round(min(share, 1.0), 4) for level, share in shares.items()}


class EstimateChange(ChangeInterface):
    """Estimate a change by the models that make the maps, shared errors counted once."""

    class Inputs(_ChangeInputSpec):
        quantity = traits.Str(mandatory=True, desc='what changes', unit='')
        models = traits.Dict(mandatory=True, desc='quantity and its row of the registry', unit='')
        constants = traits.Dict({}, usedefault=True, desc='parameters of the rows', unit='')
        shared = traits.List(
            traits.Str, usedefault=True, desc='maps with one error for both conditions', unit=''
        )
        cbv_exponent = traits.Float(
            0.0,
            usedefault=True,
            desc='of the flows that carried a shared CBV to the task',
            unit='1',
        )

    def change_of(self, maps, m0_relative):
        """Take a map without a side for both conditions."""
        inputs = self.inputs
        sides = [
            {
                name.removeprefix(f'{side}_'): item
                for name, item in maps.items()
                if not name.startswith(f'{other}_')
            }
            for side, other in (('task', 'baseline'), ('baseline', 'task'))
        ]
        return difference.change_between_conditions(
            inputs.quantity,
            *sides,
            models=inputs.models,
            constants=inputs.constants,
            shared=tuple(inputs.shared),
            cbv_exponent=inputs.cbv_exponent,
            m0_relative=m0_relative,
        )


class EstimateChangeByBOLD(ChangeInterface):
    """Estimate the change of CMRO2 by BOLD: in place of R2*, with it, or in the Davis model."""

    class Inputs(_ChangeInputSpec):
        route = traits.Enum(
            'semiquantitative',
            'epp2025',
            'combined',
            'davis',
            mandatory=True,
            desc='how BOLD enters the change of CMRO2',
            unit='',
        )
        cbv_shared = traits.Bool(True, usedefault=True, desc='one CBV serves both', unit='')
        echo_time = traits.Float(mandatory=True, desc='of the BOLD series', unit='s')
        cbv_response = traits.Float(
            0.0, usedefault=True, desc='assumed relative change of CBV', unit='1'
        )
        models = traits.Dict(desc='quantity and its row of the registry', unit='')
        constants = traits.Dict(desc='parameters of the rows, and of the Davis model', unit='')
        davis_maximum = traits.Float(desc='maximum of BOLD, where it is given', unit='%')
        davis_maximum_map = image('the same per voxel', '%', optional=True)
        static_dephasing_constant = traits.Float(
            mandatory=True, desc="R2' per OEF and CBV", unit='1/s'
        )
        cao2 = traits.Float(mandatory=True, desc='arterial oxygen content', unit='umol/mL')

    def change_of(self, maps, m0_relative):
        """Choose the route."""
        route, scale = self.inputs.route, self.inputs.cao2 / self.inputs.static_dephasing_constant
        variance = 0.0 if m0_relative is None else m0_relative.variance
        if route == 'davis':
            rest = {
                name.removeprefix('baseline_'): one
                for name, one in maps.items()
                if name.startswith('baseline_')
            }
            return calibrated_bold.change_in_cmro2_davis(
                bold=maps['bold'],
                task_cbf=maps['task_cbf'],
                baseline=rest,
                models=self.inputs.models,
                constants=self.inputs.constants,
                maximum=self._maximum(),
                m0_relative_variance=variance,
            )
        names = ('bold', 'task_cbf', 'baseline_cbf', 'baseline_r2_star', 'baseline_cbv')
        arguments: dict[str, Any] = {
            **{name: maps[name] for name in names},
            'r2': maps['baseline_r2'],
            'echo_time': self.inputs.echo_time,
            'm0_relative_variance': variance,
        }
        arguments |= {
            'task_cbv': maps.get('task_cbv'),
            'cbv_shared': self.inputs.cbv_shared,
            'cbv_response': self.inputs.cbv_response,
        }
        if route == 'epp2025':
            return calibrated_bold.change_in_cmro2_published(
                **arguments,
                static_dephasing_constant=self.inputs.static_dephasing_constant,
                cao2=self.inputs.cao2,
            )
        return calibrated_bold.change_in_cmro2_with_bold(
            **arguments, scale=scale, task_r2_star=maps.get('task_r2_star')
        )

    def _maximum(self):
        """M of the settings, if any."""
        largest, one = self.inputs.davis_maximum_map, self.inputs.davis_maximum
        if isdefined(largest):
            mask, grid = read_mask(self.inputs.mask)
            return load_masked(largest, mask, grid)
        return one if isdefined(one) else None


class ComputeStatistics(Interface):
    """Compute the statistics of an effect."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to test', '1')
        quantity = estimated('effect', '')

    Outputs = _StatisticsOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        change = load_estimate(self.inputs.quantity, mask, grid)
        self._results |= _statistics_of(change, mask, grid, runtime.cwd)
        return runtime


class LimitVoxels(Interface):
    """Leave out of the grey matter what lies outside of published limits."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain', '1')
        grey_matter = image('grey-matter fraction', '1')
        maps = traits.List(estimated('a map', ''), mandatory=True, desc='what is limited', unit='')
        limits = traits.List(
            traits.Tuple(traits.Float, traits.Float),
            mandatory=True,
            desc='of each map: above the first, up to the second',
            unit='',
        )

    class Outputs(TraitedSpec):
        grey_matter = result('grey-matter fraction, 0 where a map is outside its limits', '1')

    def _run_interface(self, runtime):
        brain, grid = read_mask(self.inputs.mask)
        maps = [load_value(path, brain, grid) for path in self.inputs.maps]
        inside = concordance.within_limits(maps, self.inputs.limits)
        grey = np.where(inside, load_masked(self.inputs.grey_matter, brain, grid), 0.0)
        path = Path(runtime.cwd) / 'grey_matter.nii'
        self._results['grey_matter'] = save_unmasked(grey, brain, grid, path, fill=0)
        return runtime


class LabelConcordance(Interface):
    """Label every voxel by the signs of its BOLD and CMRO2 change."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain', '1')
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='label above this', unit='1')
        bold = estimated('percent BOLD change', '%')
        change = estimated('change of CMRO2', 'umol/100 g/min')
        bold_q = traits.Float(mandatory=True, desc='FDR level of the BOLD gate', unit='1')
        level = traits.Float(mandatory=True, desc='local false sign rate of a label', unit='1')
        baseline = estimated('CMRO2 of the baseline', 'umol/100 g/min')
        smallest_effect = traits.Float(
            mandatory=True, desc='of interest, relative to the median baseline', unit='1'
        )
        fwhm = traits.Float(0.0, usedefault=True, desc='smoothing of the maps', unit='mm')

    class Outputs(TraitedSpec):
        sign = result('labels by the published sign rule', '')
        robust = result('labels that may say undetermined', '')
        discordant = result('probability that BOLD and CMRO2 changed in opposite directions', '1')

    def _run_interface(self, runtime):
        brain, grid = read_mask(self.inputs.mask)
        bold = load_estimate(self.inputs.bold, brain, grid)
        change = load_estimate(self.inputs.change, brain, grid)
        grey = load_masked(self.inputs.grey_matter, brain, grid) > self.inputs.minimum_grey_matter

        gate = concordance.bold_gate(bold, q=self.inputs.bold_q, mask=grey)
        prior = shares_of(self.inputs, gate, grey)[0]['all', 'all'].prior
        given = bold, change, gate, grey
        robust, _ = concordance.label_by_posterior(*given, level=self.inputs.level, prior=prior)
        maps = {
            'sign': concordance.label_by_sign(bold.value, change.value, gate, grey),
            'robust': robust,
        }

        for name, labels in maps.items():
            data = np.zeros(brain.shape, np.uint8)
            data[brain] = labels
            path = Path(runtime.cwd) / f'{name}.nii'
            self._results[name] = save_image(data, grid, path)
        probability = concordance.discordance_probability(*given, prior=prior)
        path = Path(runtime.cwd) / 'discordant.nii'
        self._results['discordant'] = save_unmasked(probability, brain, grid, path)
        return runtime


class LabelResponseMode(Interface):
    """Tell whether blood flow or extraction changed more, relative to its baseline."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain', '1')
        labels = image('robust labels: which voxels to label', '')
        cbf = estimated('change of CBF', 'mL/100 g/min')
        oef = estimated('change of OEF', '1')
        baseline_cbf = estimated('CBF of the baseline', 'mL/100 g/min')
        baseline_oef = estimated('OEF of the baseline', '1')

    class Outputs(TraitedSpec):
        mode = result('flow-led, extraction-led or undetermined', '')

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
