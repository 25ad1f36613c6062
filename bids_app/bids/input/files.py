"""Reading files: headers, JSON, tables, whole images; every way a file can be broken."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
import stat
import time
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_app import units
from bids_app.bids.input.query import NOT_UTF8, Found
from bids_app.errors import ExitCode, InputDataError, MissingInputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bids_app._typing import FloatArray
    from bids_app.bids.scans import ParticipantInputs

MISSING_VALUES = ('', 'n/a', 'N/A', 'nan', 'NaN')
"""Cells that hold no value."""

MAX_VOXELS = 1 << 31
"""Of one image; a header that claims more is damaged or hostile."""

SETTLED = 2_000_000_000
"""A folder that changed so shortly ago may change again without its time telling, ns."""

MAX_TEXT = 64 << 20
"""Of one table or sidecar, bytes."""

MOST_SHOWN = 40
"""Columns of a table that a message lists."""

MAX_PHASE = 2 * math.pi + 0.1
"""rad; a phase image beyond it is not in radians."""


QFORM_TOLERANCE = 1.0
"""Distance between what qform and sform say, above which they disagree, mm."""

SMALLEST_HEAD = 120
"""Largest side of a field of view that holds no head, mm."""

NOT_ENTITIES = ('datatype', 'extension', 'suffix')


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Geometry of an image."""

    shape: tuple[int, ...]
    affine: FloatArray
    zooms: tuple[float, ...]
    remark: str = ''
    """What is odd about its orientation."""

    @property
    def n_volumes(self) -> int:
        """Length of the fourth axis; 1 for a 3D image."""
        return self.shape[3] if len(self.shape) > 3 else 1

    def has_grid_of(self, other: Header) -> bool:
        """Tell whether two images have the same voxels."""
        from bids_app.images import Grid

        def grid(header: Header) -> Grid:
            n_i, n_j, n_k = (*header.shape[:3], 1, 1)[:3]
            return Grid((n_i, n_j, n_k), header.affine)

        return grid(self).matches(grid(other))


def is_not_fetched(path: Path) -> bool:
    """Tell whether a file is a git-annex link or pointer whose content is not here."""
    if path.is_symlink() and not path.exists():
        return True
    if not path.is_file():
        return False
    try:
        with path.open('rb') as stream:
            return stream.read(32).startswith(b'/annex/objects/')
    except OSError:
        return False


def fetch_command(paths: Sequence[Path]) -> str:
    """
    Write the command that fetches files; echoes become a star.

    Examples
    --------
    >>> fetch_command([Path('a_echo-1_MESE.nii'), Path('a_echo-2_MESE.nii')])
    'datalad get a_echo-*_MESE.nii'
    """
    several = len(paths) > 1
    names = [
        re.sub(r'echo-\w+?_', 'echo-*_', str(path)) if several else str(path) for path in paths
    ]
    return f'datalad get {" ".join(dict.fromkeys(names))}'


def check_readable(path: Path) -> None:
    """
    Assert that a file has content.

    Raises
    ------
    MissingInputError
        If it is absent, not fetched, empty, or no regular file.
    """
    if is_not_fetched(path):
        msg = f'{path.name} is not fetched (link without content); run: {fetch_command([path])}'
        raise MissingInputError(msg)
    try:
        about = path.stat()
    except OSError as error:
        msg = f'{path.name} cannot be opened ({error.strerror}): {path}'
        raise MissingInputError(msg) from error
    if not stat.S_ISREG(about.st_mode):  # to open a pipe or a device may take for ever
        msg = f'{path.name} is no regular file but a folder, pipe, socket or device: {path}'
        raise MissingInputError(msg)
    if about.st_size == 0:
        msg = f'{path.name} is empty (0 bytes); restore the file'
        raise MissingInputError(msg)


def map_of_user(pattern: str, setting: str, inputs: ParticipantInputs) -> Path:
    """
    Find the image a setting names for every participant.

    The pattern has {participant} and {session} (without sub- and ses-) in it; the path is
    absolute.

    Raises
    ------
    SettingsError
        If the path has other names in braces.
    MissingInputError
        If the image of this participant is absent, not fetched, or empty.
    """
    try:
        name = pattern.format(participant=inputs.participant, session=inputs.session or '')
    except (KeyError, IndexError, ValueError) as error:
        msg = (
            f'{setting} = {pattern}: expected no names in braces but {{participant}} and '
            f'{{session}}; found {error}'
        )
        raise SettingsError(msg) from error
    path = Path(name).absolute()
    try:
        check_readable(path)
    except MissingInputError as error:
        msg = f'{setting} names an image for {inputs.label}: {error}'
        raise MissingInputError(msg) from error
    return path


def _damages() -> tuple[type[Exception], ...]:
    """List what nibabel raises for an image that is damaged; infinite offsets overflow."""
    import nibabel as nb

    return (
        OSError,
        EOFError,
        ValueError,
        ArithmeticError,
        zlib.error,
        nb.filebasedimages.ImageFileError,
        nb.spatialimages.HeaderDataError,
    )


def _opened(path: Path) -> Any:
    """Open an image; of one file header, length and values are asked for in turn."""
    status = path.stat()
    return _open(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=512)
def _open(path: Path, *state: int) -> Any:
    """Open an image as it was at its last change; its voxels stay on the disk."""
    import nibabel as nb

    del state
    return nb.load(path)


def read_header(path: Path) -> Header:
    """
    Read the header of an image, not its voxels.

    Raises
    ------
    MissingInputError
        If the file is absent, not fetched, empty, truncated or not NIfTI.
    InputDataError
        If its voxels are colours or complex numbers.
    """
    check_readable(path)
    try:
        image = _opened(path)
    except _damages() as error:
        msg = f'{path.name} cannot be read as a NIfTI image ({error}); is it complete?'
        raise MissingInputError(msg) from error
    if math.prod(image.shape) > MAX_VOXELS:
        msg = f'{path.name}: its header claims {image.shape} voxels; the header is damaged'
        raise InputDataError(msg)
    dtype = image.get_data_dtype()
    if dtype.kind not in 'iuf':
        msg = (
            f'{path.name} holds {dtype.name if dtype.names is None else "colours"}; expected one '
            'real number per voxel: save magnitude, phase, real and imaginary parts apart'
        )
        raise InputDataError(msg)
    shape, zooms = tuple(image.shape), tuple(float(zoom) for zoom in image.header.get_zooms())
    if len(shape) == 5 and shape[3] == 1:  # volumes along the fifth axis
        shape, zooms = (*shape[:3], shape[4]), (*zooms[:3], zooms[4])
    if len(zooms) > 3 and _unit_of_time(image) == 'msec':
        zooms = (*zooms[:3], zooms[3] * units.MILLISECOND)
    return Header(shape=shape, affine=image.affine, zooms=zooms, remark=_remark(image, zooms))


def _unit_of_time(image: Any) -> str:
    """Read the unit of the time axis; a code that is none is no unit."""
    try:
        return str(image.header.get_xyzt_units()[1])
    except KeyError:
        return ''


def _remark(image: Any, zooms: tuple[float, ...]) -> str:
    """Say what is odd about the place of an image: it is used as its header has it."""
    import numpy as np

    shape = (*image.shape, 1, 1)[:3]  # one slice may have two axes
    if hasattr(image, 'get_sform'):
        sform, has_sform = image.get_sform(True)
        try:
            qform, has_qform = image.get_qform(True)
        except ValueError:  # a quaternion that is none
            return 'its qform is damaged; the sform is used'
        if not has_qform and not has_sform:
            return (
                'its header has no orientation (qform and sform codes are 0): left and right are '
                'taken from the order of its voxels, right first'
            )
        last = np.array(shape) - 1
        corners = np.array([[*(corner * last), 1] for corner in np.ndindex(2, 2, 2)])
        apart = (
            np.abs((corners @ (qform - sform).T)[:, :3]).max() if has_qform and has_sform else 0
        )
        if apart > QFORM_TOLERANCE:
            return f'its qform and sform disagree by up to {apart:.0f} mm; the sform is used'
    if zooms[:3] == (1.0, 1.0, 1.0) and max(shape) < SMALLEST_HEAD:
        size = ' x '.join(str(n) for n in shape)
        return (
            f'its header says voxels of 1 x 1 x 1 mm, which makes {size} mm in all, less than a '
            'head; is that header true? Maps are per voxel, but nothing can be aligned by it'
        )
    return ''


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises
    ------
    MissingInputError
        If the file is absent, not fetched or empty.
    InputDataError
        If it is not JSON, or not an object.
    """
    check_readable(path)
    _check_size(path)
    try:
        content = json.loads(path.read_text('utf-8-sig'))
    except (ValueError, OSError, RecursionError) as error:
        msg = f'{path.name} is not valid JSON ({error}); correct the file'
        raise InputDataError(msg) from error
    if not isinstance(content, dict):
        msg = f'{path.name} should hold a JSON object {{...}}, found {type(content).__name__}'
        raise InputDataError(msg)
    return content


class Row(dict[str, str]):
    """Cells of a line of a table by the names of their columns."""

    line: int
    """Number of the line in its file, from 1."""


def read_table(path: Path, columns: Sequence[str], *, once: Sequence[str] = ()) -> list[Row]:
    """
    Read a tab-separated table; line ends of any kind, final newline optional.

    Cells are without surrounding blanks. `columns` must be there; neither these nor `once` may
    stand there twice.

    Raises
    ------
    MissingInputError
        If the file is absent, not fetched or empty.
    InputDataError
        If it is not UTF-8 text, lacks a column or has it twice, or a line has more cells.
    """
    check_readable(path)
    _check_size(path)
    try:
        text = _text(path)
        cells = list(csv.reader(io.StringIO(text, newline=None), delimiter='\t', quoting=3))
    except (OSError, csv.Error) as error:
        msg = f'{path.name} is not a text table ({error})'
        raise InputDataError(msg) from error
    lines = [
        (number, [cell.strip() for cell in line])
        for number, line in enumerate(cells, start=1)
        if any(map(str.strip, line))
    ]
    header = lines[0][1] if lines else []
    _check_header(path, header, columns, once)
    rows = []
    for number, line in lines[1:]:
        if len(line) > len(header):
            msg = (
                f'{path.name}, line {number}: {len(line)} cells where the header has {len(header)}'
            )
            raise InputDataError(msg)
        row = Row(zip(header, line + [''] * len(header), strict=False))
        row.line = number
        rows.append(row)
    return rows


def _check_size(path: Path) -> None:
    """Refuse a text file that is too large to be one of BIDS."""
    if path.stat().st_size > MAX_TEXT:
        msg = f'{path.name} has more than {MAX_TEXT >> 20} MB, which no table or sidecar has'
        raise InputDataError(msg)


def leaves_dataset(path: Path) -> bool:
    """Tell whether a file is, or lies behind, a link out of the dataset it is named in."""
    for folder in Path(path).absolute().parents:
        if (folder / 'dataset_description.json').is_file():
            target = Path(os.path.realpath(path))  # Path.resolve ends at a link to itself
            return not target.is_relative_to(os.path.realpath(folder))
    return False


def _text(path: Path) -> str:
    """Read a file as UTF-8; what it is instead, and where, is said."""
    content = path.read_bytes()
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        is_wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        line = content.count(b'\n', 0, error.start) + 1
        found = 'UTF-16' if is_wide else f'the byte {content[error.start]:#x} in line {line}'
        msg = f'{path.name} should be UTF-8 text, found {found}; save it as UTF-8'
        raise InputDataError(msg) from error


def _shown(path: Path, header: Sequence[str]) -> str:
    """Write the columns of a table; what a link out of the dataset holds is not told."""
    if leaves_dataset(path):
        return 'not shown, since the file is a link out of the dataset'
    more = f' and {len(header) - MOST_SHOWN} more' if len(header) > MOST_SHOWN else ''
    return (', '.join(header[:MOST_SHOWN]) or 'none') + more


def _check_header(
    path: Path, header: Sequence[str], columns: Sequence[str], once: Sequence[str]
) -> None:
    """Check that the columns that are needed are there, and there once."""
    lacking = [name for name in columns if name not in header]
    if lacking:
        msg = (
            f'{path.name} should be a tab-separated table with the column {lacking[0]!r}; '
            f'its columns are: {_shown(path, header)}'
        )
        raise InputDataError(msg)
    for name in (*columns, *once):
        places = [str(place) for place, one in enumerate(header, start=1) if one == name]
        if len(places) > 1:
            msg = (
                f'{path.name}, line 1: the column {name!r} stands there {len(places)} times '
                f'(columns {", ".join(places)}); keep one'
            )
            raise InputDataError(msg)


def find_companions(path: Path, root: Path, suffix: str, extension: str) -> list[Path]:
    """
    Find the files that apply to a file by the inheritance principle.

    From the most general to the nearest: those whose entities are all among the file's.
    """
    named = set(path.name.partition('.')[0].split('_'))
    folders = [folder for folder in path.parents if folder == root or root in folder.parents]
    found = []
    for folder in reversed(folders):
        matches = []
        for name in _texts_in(folder):
            stem, dot, ending = name.partition('.')
            *pairs, own = stem.split('_')
            entities = {pair for pair in pairs if '-' in pair}
            if own == suffix and dot + ending == extension and entities <= named:
                matches.append((len(entities), folder / name))
        found += [candidate for _, candidate in sorted(matches)]
    return found


def _texts_in(folder: Path) -> tuple[str, ...]:
    """List the sidecars and tables in a folder; that of a dataset is asked for by every file."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return ()
    if time.time_ns() - changed < SETTLED:
        return _list_texts.__wrapped__(str(folder), changed)
    return _list_texts(str(folder), changed)


@lru_cache(maxsize=64)
def _list_texts(folder: str, changed: int) -> tuple[str, ...]:
    """List the sidecars and tables of a folder as it was at its last change."""
    del changed
    try:
        names = os.listdir(folder)  # noqa: PTH208  a Path of each takes longer
    except OSError:
        return ()
    return tuple(
        name for name in names if name.endswith(('.json', '.tsv')) and not NOT_UTF8.search(name)
    )


def companions_of(found: Found, root: Path, suffix: str, extension: str) -> list[Path]:
    """
    Find the files that belong to a file: those its role map gave, else by inheritance.

    From the most general to the nearest.
    """
    if found.companions is None:
        return find_companions(found.path, root, suffix, extension)
    return list(found.companions.get('json' if extension == '.json' else suffix, ()))


def find_defect(
    path: Path,
    *,
    phase_scale: float | None = None,
    may_be_constant: bool = False,
    at_a_glance: bool = False,
) -> tuple[str, ExitCode] | None:
    """
    Read a whole image once and tell whether it can be used.

    Parameters
    ----------
    path : Path
        Image.
    phase_scale : float, optional
        Of a phase: radians per unit; times it the values must lie within a few turns.
    may_be_constant : bool
        A mask or tissue map, which may hold one value only.
    at_a_glance : bool
        Read the length and the first volume of a series; all of it where they look odd.

    Returns
    -------
    defect : (message, code) or None
        Truncated data, all NaN, all zero, constant, or a phase that is not in radians.
    """
    import numpy as np

    try:
        raw, (slope, inter) = _stored(path, first_volume=at_a_glance and _is_whole(path))
    except MissingInputError as error:
        return str(error), error.exit_code
    finite = raw if raw.dtype.kind in 'iu' else raw[np.isfinite(raw)]
    if at_a_glance and (finite.size == 0 or finite.min() == finite.max()):
        return find_defect(path, phase_scale=phase_scale, may_be_constant=may_be_constant)
    if finite.size == 0:
        return f'{path.name} holds no finite value (all NaN)', ExitCode.BAD_INPUT
    ends = sorted(float(end) * slope + inter for end in (finite.min(), finite.max()))
    if ends[0] == ends[1] and not may_be_constant:
        what = 'all zero' if ends[0] == 0 else f'constant ({ends[0]:g})'
        return f'{path.name} is {what}; there is no image in it', ExitCode.BAD_INPUT
    if phase_scale is not None and max(map(abs, ends)) * phase_scale > MAX_PHASE:
        stated = (
            'its Units are rad' if phase_scale == 1 else f'{phase_scale:g} rad per unit is set'
        )
        message = (
            f'{path.name}: {stated} but its values run from {ends[0]:g} to {ends[1]:g}; phase is '
            'not used: scale it to radians, state Units: arbitrary, or set relaxometry.phase_scale'
        )
        return message, ExitCode.BAD_INPUT
    return None


def read_values(path: Path) -> FloatArray:
    """
    Read the values of a whole image; what is not finite is 0.

    Raises
    ------
    MissingInputError
        If it is absent or truncated.
    """
    import numpy as np

    raw, (slope, inter) = _stored(path)
    return np.nan_to_num(raw.astype(float) * slope + inter, posinf=0.0, neginf=0.0)


MOST_COMPRESSED = 1032
"""Bytes that one byte of a compressed file can hold (deflate)."""


def _check_length(path: Path, image: Any) -> None:
    """Refuse an image that cannot be in its file, before memory is asked for it."""
    wanted = image.get_data_dtype().itemsize * math.prod(image.shape)
    held = path.stat().st_size * (MOST_COMPRESSED if path.suffix == '.gz' else 1)
    if wanted > held:
        msg = f'expected {wanted} bytes of voxels, the file holds {held} at most'
        raise EOFError(msg)


def _is_whole(path: Path) -> bool:
    """Tell whether a file is as long as its header says; of a compressed one by its last bytes."""
    try:
        image = _opened(path)
        length = image.dataobj.offset + image.get_data_dtype().itemsize * math.prod(image.shape)
        if path.suffix != '.gz':
            return path.stat().st_size >= length
        with path.open('rb') as stream:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(4), 'little') == length % 2**32
    except _damages():
        return False


def _stored(path: Path, *, first_volume: bool = False) -> tuple[Any, tuple[float, float]]:
    """Read the numbers of an image as they are stored, with slope and intercept."""
    import numpy as np

    try:
        image = _opened(path)
        _check_length(path, image)
        if first_volume and len(image.shape) > 3:
            return np.asanyarray(image.dataobj[..., 0]), (1.0, 0.0)
        raw = np.asanyarray(image.dataobj.get_unscaled())
    except _damages() as error:
        why = ' '.join(str(error).split())
        msg = f'{path.name}: the image data cannot be read ({why}); is the file complete?'
        raise MissingInputError(msg) from error
    return raw, (image.dataobj.slope, image.dataobj.inter)
