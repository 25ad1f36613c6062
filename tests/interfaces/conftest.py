"""Images of two voxels inside a mask, written for an interface to read."""

import numpy as np
import pytest

from bids_app.images import Grid, load_data, save_image
from bids_app.interfaces._base import BUNDLE, Bundle

GRID = Grid((2, 2, 2), np.diag([3.0, 3.0, 3.0, 1.0]))
INSIDE = ((0, 0, 0), (1, 1, 0))


def data_of(path, part='value'):
    """Every voxel of an image, or of a part of a quantity."""
    return load_data(getattr(Bundle.read(path), part))


class Files:
    """Writes images on one grid and runs interfaces in their folder."""

    def __init__(self, folder, grid):
        self.folder, self.grid = folder, grid
        self.inside = np.zeros(grid.shape, bool)
        for voxel in INSIDE:
            self.inside[voxel] = True
        self.mask = self.image('mask', self.inside)

    def image(self, name, data, grid=None):
        grid = grid or self.grid
        data = np.broadcast_to(data, (*grid.shape, *np.shape(data)[3:]))
        return save_image(np.array(data), grid, self.folder / f'{name}.nii')

    def voxels(self, name, *values, grid=None):
        """Image with a value (or a series) for each voxel of the mask."""
        values = np.asarray(values)
        data = np.full((*self.grid.shape, *values.shape[1:]), 99, values.dtype)
        data[self.inside] = values
        return self.image(name, data, grid)

    def bundle(self, name, value, variance=0.0, *, status=0, sidecar=None, grid=None):
        """Files of a quantity from whole images; the path that a port takes."""
        parts = {'value': value, 'variance': variance, 'status': np.asarray(status, np.uint8)}
        named = {part: self.image(f'{name}_{part}', data, grid) for part, data in parts.items()}
        return Bundle(**named, sidecar=sidecar or {}).write(self.folder / f'{name}{BUNDLE}')

    def quantity(self, port, *values, variance=0.0, status=(0, 0), sidecar=None):
        """Port of a quantity of the two voxels, as keyword argument of an interface."""
        named = {
            'value': self.voxels(f'{port}_value', *np.asarray(values, float)),
            'variance': self.voxels(
                f'{port}_variance', *np.broadcast_to(np.asarray(variance, float), len(values))
            ),
            'status': self.voxels(f'{port}_status', *np.asarray(status, np.uint8)),
        }
        bundle = Bundle(**named, sidecar=sidecar or {})
        return {port: bundle.write(self.folder / f'{port}{BUNDLE}')}

    def run(self, interface):
        folder = self.folder / 'node'
        folder.mkdir(exist_ok=True)
        return interface.run(cwd=str(folder)).outputs

    def read_all(self, path):
        """Every voxel."""
        return data_of(path)

    def read(self, path, part='value'):
        """The two voxels of an image, or of a part of a quantity."""
        return data_of(path, part)[self.inside]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, GRID)


@pytest.fixture
def oriented_files(tmp_path, oriented_grid):
    return Files(tmp_path, oriented_grid)
