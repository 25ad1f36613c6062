"""Find derivatives by the table of outputs and read them for display."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.bids.output.names import match, output_path
from bids_app.images import Grid, grid_of, load_data

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bids_app._typing import FloatArray


@dataclass(frozen=True, slots=True)
class Derivative:
    """A file of the output with its row of outputs.yml and the entities of its name."""

    path: Path
    key: str
    entities: dict[str, str]

    @property
    def sidecar(self) -> dict[str, Any]:
        """JSON beside the file; empty when there is none or it is not readable."""
        return read_json(self.path.with_name(self.path.name.split('.')[0] + '.json'))


def list_derivatives(output_dir: Path, folder: str) -> tuple[Derivative, ...]:
    """
    List the files of a folder of the output that outputs.yml describes.

    Without sidecars; sorted by path.
    """
    found = []
    for path in sorted((output_dir / folder).rglob('*')):
        row = match(path.relative_to(output_dir).as_posix()) if path.suffix != '.json' else None
        if row is not None and path.is_file():
            found.append(Derivative(path, *row))
    return tuple(found)


def select(
    files: Iterable[Derivative], key: str, **entities: str | None
) -> tuple[Derivative, ...]:
    """
    Choose files of a row by their entities.

    Entities must be equal, None must be absent; those not named are free.
    """
    return tuple(
        file
        for file in files
        if file.key == key
        and all(file.entities.get(name) == value for name, value in entities.items())
    )


def root_file(output_dir: Path, key: str, **entities: str) -> Path:
    """Give the path of a file that there is once in the output."""
    return output_dir / output_path(key, **entities)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty when the file is absent or broken."""
    try:
        content = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a TSV file as rows of text; empty when the file is absent."""
    try:
        with path.open(encoding='utf-8', newline='') as stream:
            return [
                {name: value or '' for name, value in row.items() if name is not None}
                for row in csv.DictReader(stream, delimiter='\t')
            ]
    except OSError:
        return []


def to_number(text: object) -> float:
    """
    Read a number of a table; NaN for n/a and anything else that is none.

    Examples
    --------
    >>> to_number('0.25'), to_number('n/a')
    (0.25, nan)
    """
    try:
        return float(str(text))
    except ValueError:
        return float('nan')


def load_upright(path: Path) -> tuple[FloatArray, Grid]:
    """
    Read a 3D image with its axes towards right, front and head.

    Axes are flipped and permuted, never interpolated; of a 4D image the first volume is read.
    """
    data = load_data(path)
    data = data[..., 0] if data.ndim == 4 else data
    return turn_upright(data, grid_of(path).affine)


def turn_upright(data: FloatArray, affine: FloatArray) -> tuple[FloatArray, Grid]:
    """Flip and permute the axes of a volume towards right, front and head."""
    import nibabel as nb

    tools: Any = nb.orientations  # untyped
    orientation = tools.io_orientation(affine)
    turned = np.asarray(tools.apply_orientation(data, orientation))
    matrix = affine @ tools.inv_ornt_aff(orientation, data.shape)
    return turned, Grid(turned.shape, np.asarray(matrix, float))


def finer_in_slice(grid: Grid, factor: int) -> Grid:
    """Divide the first two axes of a grid by a factor; the edges stay."""
    to_coarse = np.diag([1 / factor, 1 / factor, 1.0, 1.0])
    to_coarse[:2, 3] = 0.5 / factor - 0.5
    shape = (grid.shape[0] * factor, grid.shape[1] * factor, grid.shape[2])
    return Grid(shape, grid.affine @ to_coarse)


def sample(
    data: FloatArray, source: Grid, target: Grid, world: FloatArray | None = None
) -> FloatArray:
    """
    Look an image up at the voxel centres of another grid, for display.

    Linear interpolation; 0 outside. `data` (X, Y, Z) has no NaN; `world` leads from points of the
    target (RAS, mm) to points of the source, by default the same.
    """
    from scipy.ndimage import affine_transform

    world = np.eye(4) if world is None else world
    matrix = np.linalg.inv(source.affine) @ world @ target.affine
    values = affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=1, cval=0.0
    )
    return np.asarray(values, float)


def natural(text: str) -> list[tuple[int, str]]:
    """
    Give a sort key that puts sub-2 before sub-10.

    Examples
    --------
    >>> sorted(['sub-10', 'sub-2'], key=natural)
    ['sub-2', 'sub-10']
    """
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', text)]
