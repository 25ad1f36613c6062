"""R2, R2*, R2' and the field map behind the background-gradient correction."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bids_app.images import check_same_grid, load_data, load_echoes, load_masked, save_image
from bids_app.interfaces._base import (
    FIRST_ECHO,
    BaseInterfaceInputSpec,
    Interface,
    ModelInterface,
    TraitedSpec,
    as_data,
    estimated,
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
from bids_app.models.estimate import Estimate
from bids_app.models.preprocessing.realignment import FEWEST_POINTS
from bids_app.models.registry import choices
from bids_app.models.relaxometry.background_field import (
    field_map_from_echoes,
    gradient_attenuation,
    gradient_turns,
    is_outside_kspace,
    slice_gradient,
)
from bids_app.models.relaxometry.decay import (
    echo_inconsistency,
    first_echo_departure,
    misfit_of_rate,
    time_from_rate,
)
from bids_app.models.relaxometry.decay_samples import choose_voxels, fitted_curve
from bids_app.models.relaxometry.kspace_merge import EchoSet, align_sets, merge_redundant_echoes
from bids_app.models.relaxometry.slice_edge import SliceEdge, fit_slice_edge, join_slice_edges
from bids_app.models.status import Status
from bids_app.units import MILLIMETRE, PERCENT


class _EchoInputSpec(BaseInterfaceInputSpec):
    signal = images('one magnitude image per echo', 'a.u.')
    mask = image('voxels to estimate', '1')
    echo_times = traits.List(traits.Float, mandatory=True, desc='echo times', unit='s')
    noise_groups = image('tissue class whose noise is pooled', '', optional=True)
    noise_floor = traits.Enum(
        'rician', 'none', usedefault=True, desc='noise floor of magnitude images', unit=''
    )
    coils = traits.Int(
        1, usedefault=True, desc='receivers combined as the root of the sum of squares', unit=''
    )


class EstimateR2(ModelInterface):
    """Estimate R2 from a multi-echo spin echo."""

    quantity = 'r2'

    class Inputs(_EchoInputSpec):
        model = traits.Enum(*choices('r2'), usedefault=True, desc='name in the registry', unit='')
        refocusing_thickness = traits.Float(
            desc='thickness that refocusing pulses select over that of the slice', unit='1'
        )

    class Outputs(TraitedSpec):
        r2 = estimated('transverse relaxation rate', '1/s')

    def _sidecar(self, arguments):
        """Tell how far the first echo lies from the decay of the others."""
        departure = first_echo_departure(arguments['signal'], echo_times=arguments['echo_times'])
        known = departure[np.isfinite(departure)]
        return {FIRST_ECHO: _in_percent(known)} if known.size else {}


class EstimateR2Star(ModelInterface):
    """Estimate R2* from a multi-echo gradient echo."""

    quantity = 'r2_star'

    class Inputs(_EchoInputSpec):
        model = traits.Enum(
            *choices('r2_star'), usedefault=True, desc='name in the registry', unit=''
        )
        attenuation = image('signal kept per echo in the background gradient', '1', optional=True)
        attenuation_error = image('change of it by the error of the gradient', '1', optional=True)
        attenuation_floor = traits.Float(
            0.2, usedefault=True, desc='echoes below are dropped', unit='1'
        )

    class Outputs(TraitedSpec):
        r2_star = estimated('effective transverse relaxation rate', '1/s')


class PrepareEchoes(Interface):
    """Make magnitude and phase in radians of whatever parts there are; align and merge sets."""

    class Inputs(BaseInterfaceInputSpec):
        sets = traits.List(
            traits.Dict,
            mandatory=True,
            desc='the full set, then reduced ones: lists of files per part (magnitude, phase, '
            'real, imaginary), phase_scale (rad per unit), echo_times (s), n_lines',
            unit='',
        )
        line_axis = traits.Range(0, 1, value=1, usedefault=True, desc='phase encoding', unit='')
        mask = image('voxels with signal', '1')

    class Outputs(TraitedSpec):
        magnitude = images('one per echo', 'a.u.', optional=True)
        phase = images('one per echo', 'rad', optional=True)
        disagreement = result('relative difference of the sets', '1')
        displacement = traits.List(
            traits.Float, desc='movement between the sets that was undone, one per set', unit='mm'
        )

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        first = self.inputs.sets[0]
        check_same_grid([*(first['magnitude'] or first['real']), self.inputs.mask])
        sets = [
            EchoSet(
                _load_complex(item),
                tuple(item['echo_times']),
                item['n_lines'] or grid.shape[self.inputs.line_axis],
            )
            for item in self.inputs.sets
        ]

        axis = self.inputs.line_axis
        displacement = np.zeros(len(sets))
        if len(sets) > 1 and mask.sum() >= FEWEST_POINTS:
            sets, displacement = align_sets(sets, mask, grid.affine, line_axis=axis)
        merged = merge_redundant_echoes(sets, mask, line_axis=axis)

        folder = Path(runtime.cwd)
        for name, part in (('magnitude', np.abs), ('phase', np.angle)):
            self._results[name] = [
                save_image(part(merged.echoes[..., echo]), grid, folder / f'{name}_{echo + 1}.nii')
                for echo in range(merged.echoes.shape[-1])
            ]
        self._results['disagreement'] = save_image(
            merged.disagreement, grid, folder / 'disagreement.nii'
        )
        self._results['displacement'] = [round(float(size), 3) for size in displacement]
        return runtime


def _load_complex(item):
    """Read the echoes of one set as complex images along the last axis."""
    parts = {
        name: load_echoes(item[name])
        for name in ('magnitude', 'phase', 'real', 'imaginary')
        if item[name]
    }
    if 'phase' in parts:
        return parts['magnitude'] * np.exp(1j * item['phase_scale'] * parts['phase'])
    return parts['real'] + 1j * parts['imaginary']


class EstimateFieldMap(Interface):
    """Estimate the field offset from the phase of the echoes."""

    class Inputs(BaseInterfaceInputSpec):
        magnitude = images('one magnitude per echo', 'a.u.')
        phase = images('one phase per echo', 'rad')
        mask = image('voxels with signal', '1')
        echo_times = traits.List(traits.Float, mandatory=True, desc='echo times', unit='s')

    class Outputs(TraitedSpec):
        field_map = result('offset of the main field', 'Hz')
        field_map_variance = result('its random variance', 'Hz^2')
        field_magnitude = result('magnitude image that belongs to it', 'a.u.')

    def _run_interface(self, runtime):
        grid = check_same_grid([*self.inputs.magnitude, *self.inputs.phase, self.inputs.mask])
        mask, _ = read_mask(self.inputs.mask)
        magnitude, phase = load_echoes(self.inputs.magnitude), load_echoes(self.inputs.phase)

        field_map = field_map_from_echoes(
            magnitude, phase, mask, echo_times=np.asarray(self.inputs.echo_times)
        )

        folder = Path(runtime.cwd)
        self._results['field_map'] = save_image(field_map.value, grid, folder / 'field_map.nii')
        self._results['field_map_variance'] = save_image(
            field_map.variance, grid, folder / 'field_map_variance.nii'
        )
        self._results['field_magnitude'] = save_image(
            magnitude.mean(axis=-1), grid, folder / 'field_magnitude.nii'
        )
        return runtime


class EstimateSliceEdge(Interface):
    """Estimate from one scan how soft its slices are."""

    class Inputs(BaseInterfaceInputSpec):
        echoes = traits.Dict(
            mandatory=True, desc='the full set, as for the node that prepares echoes', unit=''
        )
        mask = image('voxels with signal', '1')
        coils = traits.Int(
            1, usedefault=True, desc='receivers joined as the root of the sum of squares', unit=''
        )
        slice_thickness = traits.Float(
            desc='without the gap; default the distance of the slices', unit='m'
        )
        slice_axis = traits.Range(
            0, 2, value=2, usedefault=True, desc='axis of the slices', unit=''
        )

    class Outputs(TraitedSpec):
        edge = traits.List(
            traits.Float, desc='variance (squared thicknesses), its error, voxels', unit='1'
        )

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        axis, times = self.inputs.slice_axis, np.asarray(self.inputs.echoes['echo_times'])
        signal = _load_complex(self.inputs.echoes)
        magnitude = np.abs(signal)
        field_map = field_map_from_echoes(magnitude, np.angle(signal), mask, echo_times=times)
        spacing = float(grid.zooms[axis]) * MILLIMETRE
        gradient = slice_gradient(field_map, mask, slice_spacing=spacing, axis=axis)
        stated = self.inputs.slice_thickness
        turns = gradient_turns(
            gradient.value[mask],
            slice_thickness=stated if isdefined(stated) else spacing,
            echo_times=times,
        )
        lost = _lost_from_kspace(field_map, mask, grid, times, {0, 1, 2} - {axis})[mask]
        edge = fit_slice_edge(
            magnitude[mask],
            np.where(lost, np.nan, turns),
            echo_times=times,
            coils=self.inputs.coils,
        )
        self._results['edge'] = [float(number) for number in edge]
        return runtime


class CombineSliceEdges(Interface):
    """Combine what all scans say of the slices."""

    class Inputs(BaseInterfaceInputSpec):
        edges = traits.List(
            traits.Float, mandatory=True, desc='those of all scans, one after the other', unit='1'
        )

    class Outputs(TraitedSpec):
        edge = traits.List(
            traits.Float, desc='variance (squared thicknesses), its error, voxels', unit='1'
        )

    def _run_interface(self, runtime):
        edges = [
            SliceEdge(variance, error, int(n_voxels))
            for variance, error, n_voxels in np.reshape(self.inputs.edges, (-1, 3))
        ]
        self._results['edge'] = [float(number) for number in join_slice_edges(edges)]
        return runtime


def _lost_from_kspace(field_map, mask, grid, times, axes):
    """Tell which echoes gradients along some axes have pushed out of k-space, (X, Y, Z, E)."""
    lost = np.zeros((*mask.shape, len(times)), bool)
    for axis in axes:
        size = float(grid.zooms[axis]) * MILLIMETRE
        along = slice_gradient(field_map, mask, slice_spacing=size, axis=axis).value
        lost |= is_outside_kspace(along, voxel_size=size, echo_times=times)
    return lost


class PredictGradientAttenuation(Interface):
    """Predict the signal that the background gradient leaves at each echo."""

    class Inputs(BaseInterfaceInputSpec):
        field_map = image('offset of the main field', 'Hz')
        field_map_variance = image('its random variance', 'Hz^2')
        mask = image('voxels with signal', '1')
        echo_times = traits.List(traits.Float, mandatory=True, desc='echo times', unit='s')
        slice_profile = traits.Str('rectangular', usedefault=True, desc='slice profile', unit='')
        slice_edge = traits.List(
            traits.Float,
            desc='of a fitted profile: variance of the edges (squared thicknesses), error, voxels',
            unit='1',
        )
        is_slab = traits.Bool(
            False, usedefault=True, desc='the slices are encoded by phase (3D)', unit=''
        )
        slice_thickness = traits.Float(
            desc='without the gap; default the distance of the slices', unit='m'
        )
        slice_axis = traits.Range(
            0, 2, value=2, usedefault=True, desc='axis of the slices', unit=''
        )

    class Outputs(TraitedSpec):
        attenuation = result('signal kept per echo in the background gradient', '1')
        attenuation_error = result('its change by one standard deviation of the gradient', '1')
        gradient = result('through-slice gradient of the main field', 'T/m')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        axis = self.inputs.slice_axis
        spacing = float(grid.zooms[axis]) * MILLIMETRE
        stated = self.inputs.slice_thickness
        field_map = Estimate.of(
            load_data(self.inputs.field_map), load_data(self.inputs.field_map_variance)
        )

        gradient = slice_gradient(field_map, mask, slice_spacing=spacing, axis=axis)
        profile = 'none' if self.inputs.is_slab else self.inputs.slice_profile
        times = np.asarray(self.inputs.echo_times)
        lost = np.zeros((*mask.shape, len(times)), bool)
        if self.inputs.slice_profile != 'none':
            encoded = {0, 1, 2} if self.inputs.is_slab else {0, 1, 2} - {axis}
            lost = _lost_from_kspace(field_map, mask, grid, times, encoded)
        thickness = stated if isdefined(stated) else spacing
        turns = gradient_turns(gradient.value, slice_thickness=thickness, echo_times=times)
        edge, edge_error = 0.0, 0.0
        if profile == 'fitted':
            edge, edge_error, _ = self.inputs.slice_edge
        keep = partial(
            gradient_attenuation,
            slice_thickness=thickness,
            echo_times=times,
            profile=profile,
            edge=edge,
        )
        attenuation = keep(gradient.value)
        stronger = keep(np.abs(gradient.value) + np.sqrt(gradient.variance))
        # both errors grow with the square of gradient and time
        by_edge = 2 * edge_error * (np.pi * np.nan_to_num(turns)) ** 2 * attenuation
        error = -np.hypot(stronger - attenuation, by_edge)
        attenuation, error = (np.where(lost, 0.0, part) for part in (attenuation, error))

        folder = Path(runtime.cwd)
        self._results['gradient'] = save_image(gradient.value, grid, folder / 'gradient.nii')
        self._results['attenuation'] = save_image(attenuation, grid, folder / 'attenuation.nii')
        self._results['attenuation_error'] = save_image(
            error, grid, folder / 'attenuation_error.nii'
        )
        return runtime


class MeasureEchoInconsistency(Interface):
    """Measure how far echoes are from one decay, and sets from each other."""

    class Inputs(BaseInterfaceInputSpec):
        signal = images('one magnitude image per echo', 'a.u.')
        mask = image('voxels to estimate', '1')
        echo_times = traits.List(traits.Float, mandatory=True, desc='echo times', unit='s')
        attenuation = image('signal kept per echo in the background gradient', '1', optional=True)
        disagreement = image('relative difference of redundant sets', '1', optional=True)
        displacement = traits.List(
            traits.Float, desc='movement between the sets that was undone', unit='mm'
        )
        slice_edge = traits.List(
            traits.Float, desc='variance of the edges of the slices, its error, voxels', unit='1'
        )
        r2_star = estimated('effective transverse relaxation rate', '1/s')

    class Outputs(TraitedSpec):
        echo_inconsistency = estimated('deviation of the echoes from one decay', '1')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        given = {
            name: load_masked(getattr(self.inputs, name), mask, grid)
            for name in ('attenuation', 'disagreement')
            if isdefined(getattr(self.inputs, name))
        }

        signal = as_data(self.inputs.signal, mask, grid)
        rate = load_estimate(self.inputs.r2_star, mask, grid)
        times = np.asarray(self.inputs.echo_times)

        index = echo_inconsistency(signal, rate, echo_times=times, **given)
        attenuation = given.get('attenuation', 1.0)
        misfit = misfit_of_rate(signal, rate, attenuation, echo_times=times)

        known = index.value[np.isfinite(index.value)]
        facts = {'EchoInconsistency': _in_percent(known)} if known.size else {}
        if known.size:
            facts['MisfitErrorOfRate'] = round(float(np.nanmedian(misfit)), 3)
            facts['NoiseErrorOfRate'] = round(float(np.sqrt(np.nanmedian(rate.variance))), 3)
        if isdefined(self.inputs.slice_edge) and self.inputs.slice_edge:
            variance, error, n_voxels = self.inputs.slice_edge
            facts['SliceEdge'] = {
                'Variance': round(variance, 4), 'Error': round(error, 4), 'Voxels': int(n_voxels)
            }  # fmt: skip
        if 'disagreement' in given:
            facts['SetDisagreement'] = _in_percent(given['disagreement'])
            facts['SetDisplacement'] = list(self.inputs.displacement)
        self._results['echo_inconsistency'] = save_estimate(
            'echo_inconsistency', index, mask, grid, runtime.cwd, facts
        )
        return runtime


def _in_percent(values):
    """Give the median in the unit of the file."""
    return round(float(np.median(values)) / PERCENT, 3)


class SampleDecays(Interface):
    """Take the decays of a typical voxel per tissue and of a flagged one, with their fit."""

    class Inputs(BaseInterfaceInputSpec):
        signal = images('one magnitude image per echo', 'a.u.')
        mask = image('voxels to choose from', '1')
        echo_times = traits.List(traits.Float, mandatory=True, desc='echo times', unit='s')
        noise_groups = image('most frequent tissue', '', optional=True)
        attenuation = image('signal kept per echo in the background gradient', '1', optional=True)
        model = traits.Str('exponential', usedefault=True, desc='model of the rate', unit='')
        rate = estimated('R2 or R2*', '1/s')

    class Outputs(TraitedSpec):
        decays = result('table of echoes and fit of a few voxels', '')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        rate = load_estimate(self.inputs.rate, mask, grid)
        groups, names = np.zeros(rate.value.shape, int), {0: 'brain'}
        if isdefined(self.inputs.noise_groups):
            groups, names = load_masked(self.inputs.noise_groups, mask, grid), TISSUE_OF_GROUP
        voxels = choose_voxels(rate, np.rint(groups), names)
        rows = np.array(list(voxels.values()), int)
        signal = as_data(self.inputs.signal, mask, grid)[rows]
        kept = self.inputs.attenuation
        times = np.asarray(self.inputs.echo_times)

        curves = fitted_curve(
            signal,
            rate.value[rows],
            rate.status[rows],
            echo_times=times,
            attenuation=load_masked(kept, mask, grid)[rows] if isdefined(kept) else 1.0,
            model=self.inputs.model,
        )

        places = np.argwhere(mask)[rows]
        lines = [
            {
                'voxel': name,
                **dict(zip('ijk', places[row].tolist(), strict=True)),
                'echo_time': times[echo],
                'signal': signal[row, echo],
                'fit': curves[row, echo],
                'rate': rate.value[rows[row]],
                'status': Status(rate.status[rows[row]]).name,
            }
            for row, name in enumerate(voxels)
            for echo in np.argsort(times)
        ]
        self._results['decays'] = str(Path(runtime.cwd) / 'decays.tsv')
        pd.DataFrame(lines, columns=DECAY_COLUMNS).to_csv(
            self._results['decays'], sep='\t', index=False, na_rep='n/a'
        )
        return runtime


TISSUE_OF_GROUP = {1: 'grey matter', 2: 'white matter', 3: 'CSF'}
"""Code of the most frequent tissue and its name."""

DECAY_COLUMNS = ('voxel', 'i', 'j', 'k', 'echo_time', 'signal', 'fit', 'rate', 'status')
"""Of the table of decays."""


class ConvertRateToTime(Interface):
    """Convert a relaxation rate into a relaxation time."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to convert', '1')
        rate = estimated('relaxation rate', '1/s')

    class Outputs(TraitedSpec):
        time = estimated('relaxation time', 's')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        time = time_from_rate(load_estimate(self.inputs.rate, mask, grid))
        known = sidecar_of(self.inputs.rate)
        kept = {key: known[key] for key in (FIRST_ECHO,) if key in known}
        self._results['time'] = save_estimate('time', time, mask, grid, runtime.cwd, kept)
        return runtime
