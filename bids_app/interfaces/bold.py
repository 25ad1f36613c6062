"""Percent BOLD change from a task run."""

from __future__ import annotations

from pathlib import Path

from bids_app.engines.glm import alternate_blocks, fit_percent_change
from bids_app.images import load_masked
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    SimpleInterface,
    TraitedSpec,
    image,
    isdefined,
    read_mask,
    result,
    save_estimate,
    traits,
)


class _PercentChangeInputSpec(BaseInterfaceInputSpec):
    series = image('task series', 'a.u.')
    mask = image('voxels to estimate', '1')
    repetition_time = traits.Float(mandatory=True, desc='repetition time', unit='s')
    events = traits.List(
        traits.Tuple(traits.Float, traits.Float, traits.Str),
        mandatory=True,
        desc='onset (s), duration (s), trial type',
        unit='s',
    )
    baseline = traits.Str(mandatory=True, desc='baseline trial type, or the gaps', unit='')
    contrasts = traits.List(
        traits.Tuple(traits.Str, traits.Str), mandatory=True, desc='task and baseline', unit=''
    )
    hrf_model = traits.Str('spm', usedefault=True, desc='haemodynamic response', unit='')
    noise_model = traits.Str('ar1', usedefault=True, desc='noise of the series', unit='')
    high_pass = traits.Float(desc='cut-off; unset means from the design', unit='Hz')
    window_start = traits.Float(6.0, usedefault=True, desc='of each block', unit='s')
    half = traits.Enum(
        'all', 'first', 'second', usedefault=True, desc='blocks: all, or every other one', unit=''
    )


class _PercentChangeOutputSpec(TraitedSpec):
    bold = traits.List(result('percent change', '%'), desc='one per contrast', unit='%')
    bold_variance = traits.List(
        result('its random variance', '%^2'), desc='one per contrast', unit='%^2'
    )
    bold_status = traits.List(
        result('why a voxel has no estimate', ''), desc='one per contrast', unit=''
    )
    bold_facts = traits.List(traits.Dict(), desc='entries of the sidecars', unit='')


class EstimatePercentChange(SimpleInterface):
    """Estimate the percent BOLD change of every contrast of one run."""

    input_spec = _PercentChangeInputSpec
    output_spec = _PercentChangeOutputSpec

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)

        series = load_masked(self.inputs.series, mask, grid)
        events = list(self.inputs.events)
        if self.inputs.half != 'all':
            run_length = series.shape[-1] * self.inputs.repetition_time
            events = alternate_blocks(
                events,
                run_length,
                baseline=self.inputs.baseline,
                keep=self.inputs.half,
                shortest=self.inputs.window_start,
            )
        changes = fit_percent_change(
            series,
            repetition_time=self.inputs.repetition_time,
            events=events,
            conditions=sorted({trial_type for _, _, trial_type in events}),
            baseline=self.inputs.baseline,
            contrasts=list(self.inputs.contrasts),
            hrf_model=self.inputs.hrf_model,
            noise_model=self.inputs.noise_model,
            high_pass=self.inputs.high_pass if isdefined(self.inputs.high_pass) else None,
            window_start=self.inputs.window_start,
        )

        for port in ('bold', 'bold_variance', 'bold_status', 'bold_facts'):
            self._results[port] = []
        for index, estimate in enumerate(changes.values()):
            folder = Path(runtime.cwd) / f'contrast{index}'
            folder.mkdir(exist_ok=True)
            files: dict[str, object] = {}
            save_estimate(files, 'bold', estimate, mask, grid, str(folder))
            for port, value in files.items():
                self._results[port].append(value)
        return runtime
