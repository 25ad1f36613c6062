"""Load and save NIfTI images as masked arrays; grids; affine transforms: the array/file border."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nb
import numpy as np

from bids_app.errors import GridMismatchError, InputDataError, MissingInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, IntArray, PathLike

PLACE_TOLERANCE = 0.01
"""Distance of two voxels that count as one, relative to their size."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI (RAS) to ITK (LPS) world coordinates."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Shape and affine (voxel to RAS mm) of a 3D image."""

    shape: tuple[int, int, int]
    affine: FloatArray

    @property
    def zooms(self) -> FloatArray:
        """Voxel size, mm, from the affine (header zooms may lie)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), float)

    def matches(self, other: Grid) -> bool:
        """Tell whether another grid has the same voxels."""
        if self.shape != other.shape:
            return False
        last = np.array(self.shape) - 1
        corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
        apart = np.abs(corners @ (self.affine - other.affine).T).max()
        return bool(apart <= PLACE_TOLERANCE * self.zooms.min())


def open_image(path: PathLike) -> Any:
    """
    Open a NIfTI image.

    Raises
    ------
    MissingInputError
        If it is absent, a dangling link, empty, truncated or not NIfTI.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        msg = f'{path} is a link to content that is not here (not fetched): datalad get {path}'
        raise MissingInputError(msg)
    try:
        return nb.load(path)
    except (OSError, EOFError, nb.filebasedimages.ImageFileError) as error:
        msg = f'{path} cannot be read as a NIfTI image ({error}); is it complete?'
        raise MissingInputError(msg) from error


def load_data(path: PathLike) -> FloatArray:
    """
    Read all voxels as float64; a fourth axis of length 1 before a fifth is left out.

    Raises
    ------
    MissingInputError
        If the data are truncated.
    """
    try:
        data = np.asarray(open_image(path).get_fdata(caching='unchanged', dtype=np.float64))
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, MissingInputError):
            raise
        msg = f'{path}: the image data cannot be read ({error}); is the file complete?'
        raise MissingInputError(msg) from error
    return data[:, :, :, 0] if data.ndim == 5 and data.shape[3] == 1 else data


def load_volume(path: PathLike) -> FloatArray:
    """
    Read an image of one volume, (X, Y, Z), whatever axes of length 1 it has beyond the third.

    Raises
    ------
    MissingInputError
        If the data are truncated.
    InputDataError
        If there are several volumes.
    """
    data = load_data(path)
    shape = (*data.shape, 1, 1, 1)[:3]
    if data.size != np.prod(shape):
        msg = f'{path}: expected a 3D image, found shape {data.shape}'
        raise InputDataError(msg)
    return data.reshape(shape)


def load_echoes(paths: Sequence[PathLike]) -> FloatArray:
    """Read images of one volume, (X, Y, Z, E)."""
    return np.stack([load_volume(path) for path in paths], axis=-1)


def grid_of(path: PathLike) -> Grid:
    """Shape and affine of the first three axes of an image."""
    image = open_image(path)
    shape = (*image.shape[:3], 1, 1)[:3]
    return Grid(shape, np.asarray(image.affine, float))


def scale_slope_of(path: PathLike) -> float:
    """Factor from the stored numbers of an image to its values, as its header has it."""
    return float(open_image(path).dataobj.slope)


def check_same_grid(paths: Sequence[PathLike]) -> Grid:
    """
    Assert that images share one voxel grid.

    Raises
    ------
    GridMismatchError
        Naming the first pair that differs.
    """
    first = grid_of(paths[0])
    for path in paths[1:]:
        other = grid_of(path)
        if not first.matches(other):
            msg = (
                f'{path} must have the voxel grid of {paths[0]}: expected shape {first.shape}, '
                f'found {other.shape}, or their affines differ'
            )
            raise GridMismatchError(msg)
    return first


def load_mask(path: PathLike) -> BoolArray:
    """Read a mask: voxels above 0.5 of a 3D image."""
    return load_data(path) > 0.5


def load_masked(path: PathLike, mask: BoolArray, grid: Grid) -> FloatArray:
    """
    Read the voxels of a mask.

    Parameters
    ----------
    path : path
        3D or 4D image.
    mask : (X, Y, Z) ndarray of bool
        Voxels to read.
    grid : Grid
        Of the mask.

    Returns
    -------
    values : (V,) or (V, T) ndarray of float64
        In the order of ``mask``'s True voxels.

    Raises
    ------
    GridMismatchError
        If the image is on another grid than the mask.
    """
    found = grid_of(path)
    if not found.matches(grid):
        msg = (
            f'{path} must be on the grid of its mask: expected shape {grid.shape}, found '
            f'{found.shape}, or their affines differ'
        )
        raise GridMismatchError(msg)
    return load_data(path)[mask]


def save_unmasked(
    values: Any, mask: BoolArray, grid: Grid, path: PathLike, *, fill: float = np.nan
) -> str:
    """
    Write voxels of a mask as an image on a grid.

    Parameters
    ----------
    values : (V,) or (V, T) array_like
        Floats are written as float32, integers as uint8.
    mask : (X, Y, Z) ndarray of bool
        Where they belong.
    grid : Grid
        Of the image.
    path : path
        To write; ``.nii`` in the work directory.
    fill : float
        Value outside the mask.

    Returns
    -------
    path : str
        As given.
    """
    values = np.asarray(values)
    is_integer = values.dtype.kind in 'iub'
    dtype = np.uint8 if is_integer else np.float32
    data = np.full((*mask.shape, *values.shape[1:]), fill if not is_integer else 0, dtype)
    if is_integer and np.isfinite(fill):
        data[...] = int(fill)
    data[mask] = values
    return save_image(data, grid, path)


def save_image(data: Any, grid: Grid, path: PathLike) -> str:
    """Write an array as an image; sform and qform both set, units mm and s."""
    data = np.asarray(data)
    if data.dtype == bool:
        data = data.astype(np.uint8)
    elif data.dtype == np.float64:
        data = data.astype(np.float32)
    if data.shape[:3] != grid.shape:
        msg = f'{path}: data of shape {data.shape} do not fit a grid of {grid.shape}'
        raise InputDataError(msg)
    image = nb.Nifti1Image(data, grid.affine)
    image.header.set_xyzt_units('mm', 'sec')
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    nb.save(image, path)
    return str(path)


def save_affine(matrix: ArrayLike, path: PathLike) -> str:
    """
    Write an affine as an ITK text transform.

    Parameters
    ----------
    matrix : (4, 4) array_like
        Maps points of the fixed image to points of the moving image, RAS mm (for a file named
        from-X_to-Y_mode-image: from Y points to X points, as ITK resamples).
    path : path
        Ends in .txt.
    """
    lps = LPS @ np.asarray(matrix, float) @ LPS
    numbers = ' '.join(f'{x:.12g}' for x in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    Path(path).write_text(
        '#Insight Transform File V1.0\n#Transform 0\n'
        'Transform: AffineTransform_double_3_3\n'
        f'Parameters: {numbers}\nFixedParameters: 0 0 0\n'
    )
    return str(path)


def load_surface(path: PathLike) -> tuple[FloatArray, IntArray]:
    """
    Read a triangle mesh (GIFTI).

    Returns
    -------
    vertices : (N, 3) ndarray of float64
        mm.
    faces : (F, 3) ndarray of int64
        Triangles.

    Raises
    ------
    MissingInputError
        If it is absent, or cannot be read.
    InputDataError
        If it holds no mesh.
    """
    image = _open_gifti(path)
    parts = [
        image.get_arrays_from_intent(intent)
        for intent in ('NIFTI_INTENT_POINTSET', 'NIFTI_INTENT_TRIANGLE')
    ]
    if [len(part) for part in parts] != [1, 1]:
        msg = f'{path} is no surface: expected one set of points and one of triangles'
        raise InputDataError(msg)
    return np.asarray(parts[0][0].data, float), np.asarray(parts[1][0].data, np.int64)


def _open_gifti(path: PathLike) -> Any:
    """Open a GIFTI file."""
    from xml.parsers.expat import ExpatError

    try:
        image: Any = nb.load(path)
    except (OSError, EOFError, ValueError, ExpatError, nb.filebasedimages.ImageFileError) as error:
        msg = f'{path}: cannot be read as GIFTI ({error})'
        raise MissingInputError(msg) from error
    if not isinstance(image, nb.gifti.GiftiImage):
        msg = f'{path}: expected GIFTI, found another format'
        raise InputDataError(msg)
    return image


def save_surface_map(data: ArrayLike, path: PathLike, *, side: str) -> str:
    """
    Write one number per vertex (GIFTI, float32).

    Parameters
    ----------
    data : (N,) array_like
        NaN where there is none.
    path : path
        Of the file.
    side : str
        ``left`` or ``right``.

    Returns
    -------
    path : str
        Of the file.
    """
    array = nb.gifti.GiftiDataArray(
        np.asarray(data, np.float32),
        intent='NIFTI_INTENT_SHAPE',
        datatype='NIFTI_TYPE_FLOAT32',
        encoding='GIFTI_ENCODING_B64GZ',
    )
    about = nb.gifti.GiftiMetaData({'AnatomicalStructurePrimary': f'Cortex{side.title()}'})
    nb.gifti.GiftiImage(darrays=[array], meta=about).to_filename(path)
    return str(path)


def load_surface_map(path: PathLike) -> FloatArray:
    """
    Read one number per vertex (GIFTI), (N,).

    Raises
    ------
    MissingInputError
        If it is absent, or cannot be read.
    InputDataError
        If it holds another number of maps.
    """
    arrays = _open_gifti(path).darrays
    if len(arrays) != 1:
        msg = f'{path} holds {len(arrays)} maps; expected one'
        raise InputDataError(msg)
    return np.asarray(arrays[0].data, float)


def both_sides(path: Path) -> tuple[Path, Path]:
    """
    Name the files of both hemispheres by that of the left one.

    Examples
    --------
    >>> both_sides(Path('sub-01_hemi-L_x.gii'))[1].name
    'sub-01_hemi-R_x.gii'
    """
    return path, path.with_name(path.name.replace('_hemi-L_', '_hemi-R_'))


def load_cortex(left: Path) -> FloatArray:
    """
    Read a map of both hemispheres by the name of the left one.

    Returns
    -------
    data : (N, 2, 1) ndarray of float64
        Vertices of a hemisphere, left and right: an image whose voxels are vertices.

    Raises
    ------
    MissingInputError
        If a side is absent, or cannot be read.
    InputDataError
        If a file holds no map, or the sides differ in their number of vertices.
    """
    sides = [load_surface_map(path) for path in both_sides(left)]
    if len(sides[0]) != len(sides[1]):
        msg = f'{left}: {len(sides[0])} vertices, but {len(sides[1])} on the right side'
        raise InputDataError(msg)
    return np.stack(sides, axis=1)[..., None]


def load_surface_labels(files: Sequence[PathLike], side: str) -> tuple[IntArray, dict[int, str]]:
    """
    Read the parcels of one hemisphere.

    Parameters
    ----------
    files : sequence of path
        Label files (GIFTI) of the left and right side, or one CIFTI file (dlabel) of both.
    side : str
        L or R.

    Returns
    -------
    labels : (N,) ndarray of int64
        Of every vertex; 0 where there is none.
    names : dict of int to str
        Label to name, without that of 0.

    Raises
    ------
    MissingInputError
        If a file cannot be read.
    InputDataError
        If it holds no labels of that side.
    """
    if len(files) == 1:
        return _cifti_labels(files[0], side)
    path = files['LR'.index(side)]
    image = _open_gifti(path)
    arrays = image.get_arrays_from_intent('NIFTI_INTENT_LABEL')
    if len(arrays) != 1:
        msg = f'{path} holds {len(arrays)} sets of labels; expected one'
        raise InputDataError(msg)
    names = {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items() if k != 0}
    return np.asarray(arrays[0].data, np.int64), names


def _cifti_labels(path: PathLike, side: str) -> tuple[IntArray, dict[int, str]]:
    """Read the parcels of one hemisphere from a CIFTI file."""
    try:
        image: Any = nb.load(path)
        labels, models = (image.header.get_axis(k) for k in (0, 1))
        values = np.asarray(image.get_fdata())[0]
    except (OSError, EOFError, ValueError, AttributeError, nb.filebasedimages.ImageFileError):
        msg = f'{path}: cannot be read as CIFTI (dlabel.nii)'
        raise MissingInputError(msg) from None
    structure = f'CIFTI_STRUCTURE_CORTEX_{"LEFT" if side == "L" else "RIGHT"}'
    if not hasattr(models, 'nvertices') or structure not in models.nvertices:
        msg = f'{path} has no vertices of {structure}'
        raise InputDataError(msg)
    here = models.name == structure
    found = np.zeros(models.nvertices[structure], np.int64)
    found[models.vertex[here]] = values[here].astype(np.int64)
    table = getattr(labels, 'label', [{}])[0]
    return found, {int(key): str(about[0]) for key, about in table.items() if key != 0}


def load_affine(path: PathLike) -> FloatArray:
    """
    Read an ITK text transform: affine, or rigid by angles or by a versor.

    Returns
    -------
    matrix : (4, 4) ndarray
        As :func:`save_affine` took it.

    Raises
    ------
    InputDataError
        If the file holds anything but one such transform.
    """
    try:
        text = Path(path).read_text('ascii')
    except UnicodeDecodeError:
        text = ''
    lines = [line.split(':', 1) for line in text.splitlines() if ':' in line]
    values = {key: value for key, value in lines if not key.startswith('#')}
    kind = values.get('Transform', 'Affine').strip()
    parameters = np.array(values.get('Parameters', '').split(), float)
    fixed = np.array(values.get('FixedParameters', '0 0 0').split(), float)
    turn = _turn(kind, parameters[:-3], fixed[3:])
    is_one = sum(key == 'Parameters' for key, _ in lines) == 1
    if turn is None or not is_one or fixed.size not in (3, 4):
        msg = (
            f'{path} should hold one ITK transform, affine (12 parameters) or rigid (6), as text; '
            f'found {kind} of {parameters.size} parameters'
        )
        raise InputDataError(msg)
    centre = fixed[:3]
    lps = np.eye(4)
    lps[:3, :3] = turn
    lps[:3, 3] = parameters[-3:] + centre - turn @ centre
    return np.asarray(LPS @ lps @ LPS, float)


def _turn(kind: str, parameters: FloatArray, flags: FloatArray) -> FloatArray | None:
    """Matrix (3, 3) of the parameters before the translation; None where there is none."""
    from scipy.spatial.transform import Rotation

    if parameters.size == 9:
        return parameters.reshape(3, 3)
    if parameters.size == 3 and kind.startswith('Euler3D'):
        order = 'ZYX' if flags.any() else 'ZXY'
        angles = dict(zip('XYZ', parameters, strict=True))
        turn = Rotation.from_euler(order, [angles[axis] for axis in order])
        return np.asarray(turn.as_matrix(), float)
    if parameters.size == 3 and kind.startswith('VersorRigid3D'):
        scalar = np.sqrt(np.clip(1 - parameters @ parameters, 0, 1))
        return np.asarray(Rotation.from_quat([*parameters, scalar]).as_matrix(), float)
    return None
