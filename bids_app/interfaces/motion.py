"""Movement of the head within a series, and the one resampling that undoes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_app.engines.masks import mask_from_mean
from bids_app.errors import InputDataError
from bids_app.images import check_same_grid, grid_of, load_data, load_echoes, save_image
from bids_app.interfaces._base import (
    BUNDLE,
    BaseInterfaceInputSpec,
    Bundle,
    File,
    Interface,
    TraitedSpec,
    image,
    images,
    isdefined,
    result,
    traits,
)
from bids_app.models.bold.confounds import framewise_displacement
from bids_app.models.numerics.resampling import resample_series, voxels_per_noise_sample
from bids_app.models.preprocessing.realignment import (
    bolus_courses,
    estimate_echo_motion,
    estimate_rigid_motion,
    label_courses,
    mask_centre,
    motion_matrices,
)
from bids_app.models.preprocessing.volumes import fill_volumes

RIM = 2
"""Around the brain, whose edge shows movement best, voxels."""

COLUMNS = ('trans_x', 'trans_y', 'trans_z', 'rot_x', 'rot_y', 'rot_z')


OTHERS = 'series of the other echoes'


class FillVolumes(Interface):
    """Fill volumes from which nothing is estimated with what lies between their neighbours."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('series', 'a.u.')
        other_echoes = traits.List(
            image(OTHERS, 'a.u.'), usedefault=True, desc=OTHERS, unit='a.u.'
        )
        lost = traits.List(traits.Int, mandatory=True, desc='volumes that do not count', unit='')

    class Outputs(TraitedSpec):
        series = result('series with something to align in every volume, named as before', 'a.u.')
        other_echoes = traits.List(result(OTHERS, 'a.u.'), desc=OTHERS, unit='a.u.')

    def _run_interface(self, runtime):
        files = [self._fill(path, runtime.cwd) for path in _echoes(self.inputs)]
        self._results['series'], *self._results['other_echoes'] = files
        return runtime

    def _fill(self, path, cwd):
        """Fill one series."""
        grid, series = grid_of(path), load_data(path)
        filled = fill_volumes(series, np.isin(np.arange(series.shape[-1]), self.inputs.lost))
        return save_image(filled, grid, Path(cwd) / f'{Path(path).name.split(".")[0]}.nii')


def _echoes(inputs):
    """Files of a series, the first echo first."""
    return (inputs.series, *inputs.other_echoes)


class EstimateMotion(Interface):
    """Estimate the rigid movement within a series, relative to its mean."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('series', 'a.u.')
        context = traits.List(
            traits.Str, desc='kind of every volume, of label-control series', unit=''
        )
        has_bolus = traits.Bool(False, usedefault=True, desc='a contrast agent passes', unit='')

    class Outputs(TraitedSpec):
        matrices = File(
            exists=True,
            desc='per volume, world of the mean image to that of the volume',
            unit='mm',
        )
        confounds = File(exists=True, desc='table of the movement', unit='mm')
        voxels_per_sample = traits.Float(
            desc='voxels that share one noise sample once the movement is undone', unit='1'
        )

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        grid, series = grid_of(self.inputs.series), load_data(self.inputs.series)
        brain = mask_from_mean(series, grid.affine)
        mask = ndimage.binary_dilation(brain, iterations=RIM)

        motion = estimate_rigid_motion(
            series, mask, grid.affine, courses=self._courses(series[brain])
        )
        centre = mask_centre(mask, grid.affine)
        matrices = motion_matrices(motion, centre)

        self._results['matrices'] = str(folder / 'matrices.npy')
        np.save(self._results['matrices'], matrices)
        self._results['confounds'] = _tabulate(motion, centre, folder)
        samples = voxels_per_noise_sample(grid.shape, matrices, grid.affine)
        self._results['voxels_per_sample'] = samples
        return runtime

    def _courses(self, curves):
        """How the contrast changes; None where it does not."""
        if self.inputs.has_bolus:
            return bolus_courses(curves.mean(axis=0))
        return label_courses(self.inputs.context) if self.inputs.context else None


def _tabulate(motion, centre, folder):
    """Write the table of a movement; give it with what its sidecar says."""
    displacement = framewise_displacement(motion)
    table = pd.DataFrame(motion, columns=list(COLUMNS))
    table['framewise_displacement'] = displacement
    path = folder / 'confounds.tsv'
    table.to_csv(path, sep='\t', index=False)
    facts = {
        'CentreOfRotation': centre.round(2).tolist(),
        'MeanFramewiseDisplacement': round(float(displacement[1:].mean()), 4),
        'MaximumFramewiseDisplacement': round(float(displacement.max()), 4),
    }
    return Bundle(value=str(path), sidecar=facts).write(path.with_suffix(BUNDLE))


class EstimateEchoMotion(Interface):
    """Estimate the rigid movement between the echoes of a train; nothing is resampled."""

    class Inputs(BaseInterfaceInputSpec):
        echoes = images('magnitude or real part of an echo', 'a.u.')
        imaginary = images('imaginary part of each echo', 'a.u.', optional=True)
        echo_times = traits.List(traits.Float, mandatory=True, desc='of the echoes', unit='s')

    class Outputs(TraitedSpec):
        confounds = File(exists=True, desc='table of the movement', unit='mm')

    def _run_interface(self, runtime):
        grid = check_same_grid(self.inputs.echoes)
        echoes = load_echoes(self.inputs.echoes)
        if isdefined(self.inputs.imaginary) and self.inputs.imaginary:
            echoes = np.hypot(echoes, load_echoes(self.inputs.imaginary))
        brain = mask_from_mean(echoes, grid.affine)
        mask = ndimage.binary_dilation(brain, iterations=RIM)
        motion = estimate_echo_motion(echoes, self.inputs.echo_times, mask, grid.affine)
        centre = mask_centre(mask, grid.affine)
        self._results['confounds'] = _tabulate(motion, centre, Path(runtime.cwd))
        return runtime


class ResampleSeries(Interface):
    """
    Undo movement and distortion of a series on its own grid, in one interpolation.

    Both are optional. The movement comes from :class:`EstimateMotion`. The distortion is a NIfTI
    file of 3D floats on the voxel grid of the series, `voxel_shift`: the signal that belongs to
    voxel i is found at ``i + voxel_shift`` along array axis `shift_axis` (the phase-encoding
    axis) of the mean image as it was acquired. The sign is thus that of the array axis, whatever
    the header says; a field map f in Hz gives ``+- f * TotalReadoutTime`` voxels, plus where the
    phase-encoding direction is i, j, k and minus where it is i-, j-, k-. Signal is multiplied by
    1 + the derivative of the shift along the axis (Jacobian), so shifts must be smooth.
    """

    class Inputs(BaseInterfaceInputSpec):
        series = image('series', 'a.u.')
        other_echoes = traits.List(
            image(OTHERS, 'a.u.'), usedefault=True, desc=OTHERS, unit='a.u.'
        )
        matrices = File(
            exists=True,
            desc='per volume, world of the mean image to that of the volume',
            unit='mm',
        )
        voxel_shift = image(
            'distortion on the grid of the series: where along shift_axis what belongs to a voxel '
            'is found, relative to it',
            '1',
            optional=True,
        )
        shift_axis = traits.Range(0, 2, 1, usedefault=True, desc='of the array', unit='')

    class Outputs(TraitedSpec):
        series = result('series with the head at one place, named as before', 'a.u.')
        other_echoes = traits.List(result(OTHERS, 'a.u.'), desc=OTHERS, unit='a.u.')

    def _run_interface(self, runtime):
        grid = check_same_grid(_echoes(self.inputs))
        shift = None
        if isdefined(self.inputs.voxel_shift):
            if not grid_of(self.inputs.voxel_shift).matches(grid):
                msg = (
                    f'{self.inputs.voxel_shift} must be on the grid of {self.inputs.series}: '
                    f'expected {grid.shape}, found {grid_of(self.inputs.voxel_shift).shape}, or '
                    'their affines differ'
                )
                raise InputDataError(msg)
            shift = load_data(self.inputs.voxel_shift)
        files = []
        for path in _echoes(self.inputs):
            corrected = self._undo(load_data(path), grid, shift)
            name = Path(path).name.split('.')[0]
            files.append(save_image(corrected, grid, Path(runtime.cwd) / f'{name}.nii'))
        self._results['series'], *self._results['other_echoes'] = files
        return runtime

    def _undo(self, series, grid, shift):
        """Undo movement and distortion of one series."""
        matrices = np.tile(np.eye(4), (series.shape[3], 1, 1))
        if isdefined(self.inputs.matrices):
            matrices = np.load(self.inputs.matrices)
        return resample_series(
            series, matrices, grid.affine, shift=shift, shift_axis=self.inputs.shift_axis
        )
