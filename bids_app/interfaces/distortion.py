"""From a field map to the displacement of an echo-planar scan, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bids_app.images import check_same_grid, grid_of, load_affine, load_data, load_mask, save_image
from bids_app.interfaces._base import (
    BaseInterfaceInputSpec,
    Interface,
    TraitedSpec,
    image,
    images,
    result,
    traits,
)
from bids_app.models.numerics.resampling import sample_linear, voxel_coordinates
from bids_app.models.preprocessing.distortion import (
    complete_field,
    shift_between_opposites,
    undistort,
    voxel_shift,
)
from bids_app.models.relaxometry.background_field import field_map_from_difference


class ReadFieldMap(Interface):
    """Turn the field map of a dataset into Hz."""

    class Inputs(BaseInterfaceInputSpec):
        files = images('field, phase difference, or two phases', '')
        kind = traits.Enum('phase', 'field', mandatory=True, desc='what the files hold', unit='')
        scale = traits.Float(mandatory=True, desc='radians or Hz per unit of the files', unit='')
        echo_difference = traits.Float(0.0, usedefault=True, desc='between the echoes', unit='s')
        mask = image('where the field is not noise', '1')

    class Outputs(TraitedSpec):
        field_map = result('offset of the field; NaN where it is not known', 'Hz')

    def _run_interface(self, runtime):
        grid = check_same_grid([*self.inputs.files, self.inputs.mask])
        mask = load_mask(self.inputs.mask)
        maps = [load_data(path) * self.inputs.scale for path in self.inputs.files]
        if self.inputs.kind == 'field':
            field = np.where(mask, maps[0], np.nan)
        else:
            difference = maps[-1] - maps[0] if len(maps) == 2 else maps[0]
            field = field_map_from_difference(
                difference, mask, echo_difference=self.inputs.echo_difference
            )
        path = Path(runtime.cwd) / 'field_map.nii'
        self._results['field_map'] = save_image(field, grid, path)
        return runtime


class FindFieldFromOpposites(Interface):
    """Find the field from two images that it displaces in opposite directions."""

    class Inputs(BaseInterfaceInputSpec):
        files = traits.List(
            image('echo-planar image or series', 'a.u.'),
            mandatory=True,
            minlen=2,
            maxlen=2,
            desc='phase encoding along the axis, and against it',
            unit='a.u.',
        )
        axis = traits.Range(0, 2, mandatory=True, desc='of the phase encoding', unit='')
        scale = traits.Float(mandatory=True, desc='field per voxel of displacement', unit='Hz')

    class Outputs(TraitedSpec):
        field_map = result('offset of the field', 'Hz')
        images = traits.List(result('mean image, not distorted', 'a.u.'), desc='one', unit='a.u.')

    def _run_interface(self, runtime):
        folder, axis = Path(runtime.cwd), self.inputs.axis
        grid = check_same_grid(self.inputs.files)
        plus, minus = (
            load_data(path).reshape(*grid.shape, -1).mean(axis=-1) for path in self.inputs.files
        )
        shift = shift_between_opposites(plus, minus, axis=axis)
        mean = (undistort(plus, shift, axis=axis) + undistort(minus, -shift, axis=axis)) / 2
        field = self.inputs.scale * shift
        self._results['field_map'] = save_image(field, grid, folder / 'field_map.nii')
        self._results['images'] = [save_image(mean, grid, folder / 'image.nii')]
        return runtime


class MapVoxelShift(Interface):
    """Carry a field to the grid of a scan, complete it, and turn it into a displacement."""

    class Inputs(BaseInterfaceInputSpec):
        field_map = image('field on its own grid; NaN where it is not known', 'Hz')
        reference = image('grid of the scan', '')
        source_transform = image('rigid transform, T1w points to field points (ITK)', '')
        target_transform = image('rigid transform, T1w points to scan points (ITK)', '')
        echo_spacing = traits.Float(mandatory=True, desc='effective, of the scan', unit='s')
        n_lines = traits.Int(mandatory=True, desc='along the phase encoding', unit='')
        polarity = traits.Enum(1, -1, mandatory=True, desc='of the phase encoding', unit='')

    class Outputs(TraitedSpec):
        voxel_shift = result('displacement along the phase encoding, on the grid of the scan', '1')

    def _run_interface(self, runtime):
        grid = grid_of(self.inputs.reference)
        points = voxel_coordinates(
            grid.shape,
            grid.affine,
            grid_of(self.inputs.field_map).affine,
            load_affine(self.inputs.source_transform)
            @ np.linalg.inv(load_affine(self.inputs.target_transform)),
        )
        field = sample_linear(load_data(self.inputs.field_map), points)
        shift = voxel_shift(
            complete_field(field, np.isfinite(field)),
            echo_spacing=self.inputs.echo_spacing,
            n_lines=self.inputs.n_lines,
            polarity=self.inputs.polarity,
        )
        path = Path(runtime.cwd) / 'voxel_shift.nii'
        self._results['voxel_shift'] = save_image(shift, grid, path)
        return runtime


class UndistortImage(Interface):
    """Undo the distortion of a reference or M0 image."""

    class Inputs(BaseInterfaceInputSpec):
        acquired = image('echo-planar image or series', 'a.u.')
        voxel_shift = image('displacement along the phase encoding', '1')
        axis = traits.Range(0, 2, mandatory=True, desc='of the phase encoding', unit='')

    class Outputs(TraitedSpec):
        undistorted = result('with every signal at its place', 'a.u.')

    def _run_interface(self, runtime):
        grid = check_same_grid([self.inputs.acquired, self.inputs.voxel_shift])
        data, shift = load_data(self.inputs.acquired), load_data(self.inputs.voxel_shift)
        volumes = data.reshape(*grid.shape, -1)
        corrected = [
            undistort(volumes[..., index], shift, axis=self.inputs.axis)
            for index in range(volumes.shape[-1])
        ]
        path = Path(runtime.cwd) / 'undistorted.nii'
        merged = np.stack(corrected, axis=-1).reshape(data.shape)
        self._results['undistorted'] = save_image(merged, grid, path)
        return runtime
