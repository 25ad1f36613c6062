"""A task run: its nuisance, the percent BOLD change, and courses that assume no response."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_app.engines.event_response import modulated_columns
from bids_app.engines.glm import (
    alternate_blocks,
    make_task_design,
    make_time_course_design,
    median_change,
)
from bids_app.images import load_data, load_masked, save_unmasked
from bids_app.interfaces._base import (
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
from bids_app.interfaces.regions import read_atlas, region_levels
from bids_app.interfaces.task import TaskInputSpec, cut_off_of, fit_task
from bids_app.models.bold.block_median import bold_from_r2_star
from bids_app.models.bold.confounds import (
    expand_motion,
    framewise_displacement,
    noise_components,
    relative_dvars,
)
from bids_app.models.bold.echoes import fit_decay_series
from bids_app.models.bold.glm import fit_task_design, residual_autocorrelation
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.regions import summarise_regions
from bids_app.models.status import Status
from bids_app.units import PERCENT

MOTION = ('trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z')
"""Columns of a table of motion, mm and rad."""

NOT_STEADY = 'non_steady_state_outlier'
"""Start of the columns of fMRIPrep that mark volumes without a steady state."""

COMPONENT = 'a_comp_cor_'
"""Start of the columns that hold noise components."""

PURE = 0.99
"""Tissue fraction above which a voxel of white matter or fluid holds no task; no unit."""

SLOW = 128.0
"""Period of the slowest course that a noise component may hold, s; as in fMRIPrep."""

OWN_COLUMNS = ('framewise_displacement', 'relative_dvars', 'censored')
"""Columns of the table of nuisance that are no regressors."""


class FindNuisance(Interface):
    """Collect the regressors of no interest, and find the volumes that do not count."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('task series', 'a.u.')
        mask = image('brain', '1')
        white_matter = image('white-matter fraction', '1', optional=True)
        csf = image('fraction of cerebrospinal fluid', '1', optional=True)
        table = File(exists=True, desc='motion of every volume, or confounds of fMRIPrep', unit='')
        courses = File(exists=True, desc='of the components of a denoised series', unit='')
        rejected = traits.List(traits.Str, usedefault=True, desc='those it holds no more', unit='')
        repetition_time = traits.Float(mandatory=True, desc='repetition time', unit='s')
        confounds = traits.List(
            traits.Str, usedefault=True, desc='motion, motion24, compcor', unit=''
        )
        components = traits.Int(5, usedefault=True, desc='noise components', unit='')
        lost = traits.List(traits.Int, usedefault=True, desc='volumes that do not count', unit='')
        censor_dvars = traits.Float(0.0, usedefault=True, desc='relative, 0 means never', unit='1')
        censor_displacement = traits.Float(0.0, usedefault=True, desc='0 means never', unit='mm')

    class Outputs(TraitedSpec):
        nuisance = File(exists=True, desc='regressors, and volumes that do not count', unit='')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        series = load_masked(self.inputs.series, mask, grid)
        given = pd.DataFrame(index=range(series.shape[1]))
        if isdefined(self.inputs.table):
            given = pd.read_csv(
                Bundle.read(self.inputs.table).value, sep='\t', na_values='n/a'
            ).fillna(0.0)
        moves = given[list(MOTION)].to_numpy(float) if set(MOTION) <= set(given) else None
        displacement = np.full(series.shape[1], np.nan)
        if moves is not None:
            displacement = framewise_displacement(moves)
        dvars = relative_dvars(series)
        columns = self._motion(moves)
        if 'compcor' in self.inputs.confounds:
            columns |= self._components(series, given, mask, grid)
        if self.inputs.rejected:
            # what is no longer in the series took as many degrees of freedom as it has columns
            courses = pd.read_csv(self.inputs.courses, sep='\t')[list(self.inputs.rejected)]
            columns |= {f'rejected_{name}': courses[name].to_numpy(float) for name in courses}
        censored = self._censored(given, dvars, displacement)
        own = dict(zip(OWN_COLUMNS, (displacement, dvars, censored.astype(int)), strict=True))
        path = Path(runtime.cwd) / 'nuisance.tsv'
        table = pd.DataFrame({**own, **columns})
        table.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.8g')
        self._results['nuisance'] = str(path)
        return runtime

    def _motion(self, moves):
        """Give the columns of motion, where it is known and asked for."""
        if moves is not None and 'motion24' in self.inputs.confounds:
            columns = expand_motion(moves).T
            return {f'motion_{index:02}': column for index, column in enumerate(columns)}
        if moves is not None and 'motion' in self.inputs.confounds:
            return dict(zip(MOTION, moves.T, strict=True))
        return {}

    def _censored(self, given, dvars, displacement):
        """Mark the volumes that do not count."""
        censored = np.isin(np.arange(len(dvars)), self.inputs.lost)
        if self.inputs.censor_dvars > 0:
            censored |= dvars > self.inputs.censor_dvars
        if self.inputs.censor_displacement > 0:
            censored |= displacement > self.inputs.censor_displacement
        unsteady = [name for name in given if name.startswith(NOT_STEADY)]
        return censored | (given[unsteady].to_numpy(float) > 0).any(axis=1)

    def _components(self, series, given, mask, grid):
        """Take the components of the table, else find them in white matter and fluid."""
        wanted = [f'{COMPONENT}{index:02}' for index in range(self.inputs.components)]
        found = [name for name in wanted if name in given]
        if found:
            return {name: given[name].to_numpy(float) for name in found}
        if not isdefined(self.inputs.white_matter):
            return {}
        white, fluid = (
            load_masked(path, mask, grid) > PURE
            for path in (self.inputs.white_matter, self.inputs.csf)
        )
        n_half_waves = int(2 * series.shape[1] * self.inputs.repetition_time / SLOW)
        courses = noise_components(
            series[white | fluid], self.inputs.components, n_half_waves=n_half_waves
        )
        return dict(zip(wanted, courses.T, strict=False))


class EstimateDecays(Interface):
    """Estimate signal, R2* and S0 of every volume from its echoes."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('series of the first echo', 'a.u.')
        other_echoes = images('series of an echo', 'a.u.')
        mask = image('voxels to estimate', '1')
        echo_times = traits.List(traits.Float, mandatory=True, desc='of all echoes', unit='s')
        echo_time = traits.Float(mandatory=True, desc='of the signal that is wanted', unit='s')
        lost = traits.List(traits.Int, usedefault=True, desc='volumes that do not count', unit='')

    class Outputs(TraitedSpec):
        series = result('series at the wanted echo time', 'a.u.')
        r2_star = result('R2* of every volume', '1/s')
        s0 = result('signal of every volume at echo time 0', 'a.u.')

    def _run_interface(self, runtime):
        inputs = self.inputs
        mask, grid = read_mask(inputs.mask)
        echoes = [load_masked(path, mask, grid) for path in (inputs.series, *inputs.other_echoes)]
        kept = ~np.isin(np.arange(echoes[0].shape[1]), inputs.lost)
        made = fit_decay_series(echoes, inputs.echo_times, at=inputs.echo_time, kept=kept)
        for name, data in (('series', made.signal), ('r2_star', made.r2_star), ('s0', made.s0)):
            path = Path(runtime.cwd) / f'{name}.nii'
            self._results[name] = save_unmasked(data, mask, grid, path)
        return runtime


class _DesignInputSpec(TaskInputSpec):
    nuisance = File(
        exists=True, mandatory=True, desc='regressors, and volumes that do not count', unit=''
    )
    measure = traits.Str(desc='of the response to one event; unset for blocks', unit='')
    modulators = traits.Dict(desc='column of events.tsv and its value per event', unit='')
    contrasts = traits.List(
        traits.Tuple(traits.Str, traits.Str), mandatory=True, desc='task and baseline', unit=''
    )


def _nuisance(path):
    """Read the table of nuisance: regressors (T, C), which volumes do not count, and names."""
    table = pd.read_csv(path, sep='\t')
    columns = table.drop(columns=list(OWN_COLUMNS))
    return columns.to_numpy(float), table['censored'].to_numpy(bool), list(columns)


class EstimatePercentChange(Interface):
    """Estimate the percent BOLD change of every contrast of one run."""

    class Inputs(_DesignInputSpec):
        estimator = traits.Enum(
            'glm', 'block-median', usedefault=True, desc='model, or published medians', unit=''
        )
        factor = traits.Float(
            desc='of a change in the unit of the series; unset: percent', unit='1'
        )
        half = traits.Enum(
            'all',
            'first',
            'second',
            usedefault=True,
            desc='blocks: all, or every other one',
            unit='',
        )

    class Outputs(TraitedSpec):
        bold = estimated_each('percent change, one per contrast', '%')

    def _run_interface(self, runtime):
        inputs = self.inputs
        mask, grid = read_mask(inputs.mask)
        series = load_masked(inputs.series, mask, grid)
        confounds, censored, names = _nuisance(inputs.nuisance)
        events = list(inputs.events)
        if isdefined(inputs.modulators) and inputs.modulators:
            columns = self._modulated(events, series.shape[1])
            names += list(columns)
            confounds = np.column_stack([confounds, *columns.values()])
        if inputs.half != 'all':
            events = alternate_blocks(
                events,
                series.shape[1] * inputs.repetition_time,
                baseline=inputs.baseline,
                keep=inputs.half,
                shortest=np.inf if isdefined(inputs.measure) else inputs.window_start,
            )
        common = {
            'repetition_time': inputs.repetition_time,
            'events': events,
            'baseline': inputs.baseline,
            'contrasts': list(inputs.contrasts),
            'window_start': inputs.window_start,
            'censored': censored,
        }
        facts = {'Estimator': inputs.estimator, 'CensoredVolumes': int(censored.sum())}
        if inputs.estimator == 'block-median':
            changes, drift = median_change(series, **common)
            extra = [facts | {'DriftSensitivity': drift[label]} for label in changes]
        else:
            common['confounds'] = confounds
            if isdefined(inputs.context) and inputs.context:
                common['label'] = np.array(inputs.context) == 'label'
            changes, noise, sidecar_of_fit = self._fit(series, mask, grid, common)
            facts |= {'Confounds': names, 'NoiseModel': inputs.noise_model} | sidecar_of_fit
            extra = [facts | noise[label] for label in changes]

        self._results['bold'] = [
            save_estimate(f'bold{index}', estimate, mask, grid, runtime.cwd, extra[index])
            for index, estimate in enumerate(changes.values())
        ]
        return runtime

    def _modulated(self, events, n_volumes):
        """Make the columns of responses that vary from event to event."""
        return modulated_columns(
            events,
            list(zip(*self.inputs.modulators.values(), strict=True)),
            list(self.inputs.modulators),
            hrf_model=self.inputs.hrf_model,
            repetition_time=self.inputs.repetition_time,
            n_volumes=n_volumes,
        )

    def _fit(self, series, mask, grid, common):
        """Fit the slices of each time with the design of that time."""
        inputs = self.inputs
        is_relative = not isdefined(inputs.factor)
        make_design = partial(
            make_task_design,
            series.shape[1],
            hrf_model=inputs.hrf_model,
            high_pass=cut_off_of(inputs),
            measure=inputs.measure if isdefined(inputs.measure) else None,
            **common,
        )
        fit = fit_task(inputs, mask, grid, make_design, is_relative=is_relative)
        changes, design = fit.changes, fit.design
        if not is_relative:
            changes = {label: _times(one, inputs.factor) for label, one in changes.items()}
        facts: dict[str, Any] = {
            'HighPassCutoff': round(design.high_pass, 6),
            'HighPassLoss': round(design.loss, 4),
            'SliceTimingCorrected': isdefined(inputs.slice_times) and bool(inputs.slice_times),
            'ResidualAutocorrelation': residual_autocorrelation(series, design),
        }
        if design.measured:
            facts['Response'] = {
                name: {'Measure': inputs.measure, 'Duration': one.duration,
                       'From': round(one.start, 3), 'To': round(one.end, 3)}
                for name, one in design.measured.items()
            }  # fmt: skip
        return changes, fit.facts, facts


def _times(estimate, factor):
    """Multiply an estimate by a number."""
    scaled = factor * estimate.value, factor**2 * estimate.variance
    return Estimate.of(*scaled, estimate.status, estimate.dof)


class EstimateTimeCourses(Interface):
    """Estimate the course of BOLD after the start of each condition, per region."""

    class Inputs(_DesignInputSpec):
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='a voxel counts above', unit='1')
        atlas = image('region of every voxel', '')
        atlas_table = File(exists=True, mandatory=True, desc='index and name per region', unit='')

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='one row per region, condition and time', unit='')

    def _run_interface(self, runtime):
        inputs = self.inputs
        mask, grid = read_mask(inputs.mask)
        mask = mask & (load_data(inputs.grey_matter) > inputs.minimum_grey_matter)
        series = load_masked(inputs.series, mask, grid)
        atlas = load_masked(inputs.atlas, mask, grid).astype(int)
        confounds, censored, _ = _nuisance(inputs.nuisance)
        common = {
            'repetition_time': inputs.repetition_time,
            'events': list(inputs.events),
            'baseline': inputs.baseline,
            'window_start': inputs.window_start,
            'confounds': confounds,
            'censored': censored,
        }
        cut_off, is_of_events = cut_off_of(inputs), isdefined(inputs.measure)
        if cut_off is None:
            cut_off = make_task_design(
                series.shape[1],
                contrasts=list(inputs.contrasts),
                hrf_model=inputs.hrf_model,
                measure=inputs.measure if is_of_events else None,
                **common,
            ).high_pass
        design = make_time_course_design(
            series.shape[1], high_pass=cut_off, is_of_events=is_of_events, **common
        )
        parts = []
        for regions, labels in region_levels(atlas, read_atlas(inputs.atlas_table)):
            present = regions[regions['index'].isin(np.unique(labels))]
            means = [series[labels == index].mean(axis=0) for index in present['index']]
            if means:
                courses = fit_task_design(np.array(means), design, noise_model=inputs.noise_model)
                parts.append(self._rows(present, courses))
        columns = ['level', 'index', 'name', 'network', 'condition', 'time', 'percent', 'se']
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
        table['index'] = table['index'].where(table['level'] == 'parcel').astype('Int64')
        path = Path(runtime.cwd) / 'courses.tsv'
        table[columns].to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.5g')
        self._results['table'] = str(path)
        return runtime

    def _rows(self, regions, courses):
        """Turn the courses of regions into rows."""
        rows = []
        for label, estimate in courses.items():
            condition, _, position = label.rpartition('@')
            rows.append(regions[['level', 'index', 'name', 'network']].assign(
                condition=condition,
                time=int(position) * self.inputs.repetition_time,
                percent=estimate.value,
                se=np.sqrt(estimate.variance),
            ))  # fmt: skip
        return pd.concat(rows, ignore_index=True) if rows else regions.iloc[:0]


class CompareWithGradientEcho(Interface):
    """Compare BOLD, per region, with what R2* of the gradient echoes predicts."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain', '1')
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='a voxel counts above', unit='1')
        atlas = image('region of every voxel', '')
        atlas_table = File(exists=True, mandatory=True, desc='index and name per region', unit='')
        echo_time = traits.Float(mandatory=True, desc='of the BOLD runs', unit='s')
        bold = estimated('percent BOLD change, or change of R2* in 1/s', '%')
        is_rate = traits.Bool(False, usedefault=True, desc='it is a change of R2*', unit='')
        task = estimated('R2* of the task', '1/s')
        baseline = estimated('R2* of the baseline', '1/s')

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='one row per region', unit='')

    def _run_interface(self, runtime):
        inputs = self.inputs
        mask, grid = read_mask(inputs.mask)
        mask = mask & (load_data(inputs.grey_matter) > inputs.minimum_grey_matter)
        bold, task, baseline = (
            load_estimate(getattr(inputs, name), mask, grid)
            for name in ('bold', 'task', 'baseline')
        )
        if inputs.is_rate:
            bold = _times(bold, -inputs.echo_time / PERCENT)
        predicted = bold_from_r2_star(task, baseline, echo_time=inputs.echo_time)
        both = np.where(np.isfinite(bold.value) & np.isfinite(predicted.value), Status.OK,
                        Status.INVALID_INPUT)  # fmt: skip
        measured = {
            'measured': (Estimate.of(bold.value, bold.variance, both), inputs.bold),
            'predicted': (Estimate.of(predicted.value, predicted.variance, both), inputs.task),
        }
        atlas = load_masked(inputs.atlas, mask, grid).astype(int)
        parts = []
        for regions, labels in region_levels(atlas, read_atlas(inputs.atlas_table)):
            rows = regions[['level', 'index', 'name', 'network']].copy()
            for name, (estimate, source) in measured.items():
                shared = sidecar_of(source).get(VOXELS_PER_SAMPLE, 1.0)
                summary = summarise_regions(
                    estimate, labels, regions['index'], voxels_per_sample=shared
                )
                rows[name], rows[f'{name}_se'] = summary['mean'], summary['se']
                rows['n_voxels'] = summary['n_voxels']
            rows['difference'] = rows['measured'] - rows['predicted']
            rows['z'] = rows['difference'] / np.hypot(rows['measured_se'], rows['predicted_se'])
            parts.append(rows)
        table = pd.concat(parts, ignore_index=True)
        table['index'] = table['index'].where(table['level'] == 'parcel').astype('Int64')
        path = Path(runtime.cwd) / 'consistency.tsv'
        table.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.6g')
        self._results['table'] = str(path)
        return runtime
