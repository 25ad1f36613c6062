"""Images of two voxels inside a mask, written for an interface to read."""

import numpy as np
import pytest

from bids_app.images import Grid, load_data, save_image

GRID = Grid((2, 2, 2), np.diag([3.0, 3.0, 3.0, 1.0]))
INSIDE = ((0, 0, 0), (1, 1, 0))


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

    def quantity(self, port, *values, variance=0.0, status=(0, 0), facts=None):
        """Ports of a quantity, as keyword arguments of an interface."""
        variance = np.broadcast_to(np.asarray(variance, float), len(values))
        ports = {
            port: self.voxels(port, *np.asarray(values, float)),
            f'{port}_variance': self.voxels(f'{port}_variance', *variance),
            f'{port}_status': self.voxels(f'{port}_status', *np.asarray(status, np.uint8)),
        }
        return ports | ({f'{port}_facts': facts} if facts is not None else {})

    def run(self, interface):
        folder = self.folder / 'node'
        folder.mkdir(exist_ok=True)
        return interface.run(cwd=str(folder)).outputs

    def read_all(self, path):
        """Every voxel."""
        return load_data(path)

    def read(self, path):
        """Values of the two voxels."""
        return load_data(path)[self.inside]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, GRID)


@pytest.fixture
def oriented_files(tmp_path, oriented_grid):
    return Files(tmp_path, oriented_grid)
