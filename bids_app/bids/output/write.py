"""
Write images, tables and sidecars.

A file appears complete or not at all: it is written beside its place under a hidden name and
moved there.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import numbers
import os
import secrets
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.names import (
    output_path,
    quantity_of,
    row,
    scale_of,
    statistic_of,
    table,
    unit_of,
)
from bids_app.bids.output.versions import software_versions
from bids_app.errors import ExitCode, InputDataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""The medium failed, not the permission to write."""

NOTHING = ('', 'None', '<NA>', 'NaT')
"""Texts of what is no value: n/a in a table."""

COMPRESSION = 4
"""Level of gzip; float maps hardly shrink further."""


def base_sidecar(key: str, **entities: str | None) -> dict[str, Any]:
    """
    Make the part of a sidecar that follows from the table.

    Description, Units; for images SkullStripped, SpatialReference in a space that is not standard,
    Resolution; for tables the columns.
    """
    target = row(key)
    given = {name: value for name, value in entities.items() if value is not None}
    quantity, statistic = quantity_of(target, given), statistic_of(target, given)
    words = {
        **given,
        'name': quantity.name if quantity else '',
        'statistic_name': statistic.name if statistic else '',
    }
    text = target.description.format_map(words)
    sidecar: dict[str, Any] = {'Description': text[:1].upper() + text[1:]}
    if target.format == 'table':
        return sidecar | {name: _column(about) for name, about in target.columns.items()}
    sidecar['Units'] = unit_of(key, **given)
    if target.skull_stripped is not None:
        sidecar['SkullStripped'] = target.skull_stripped
    if 'res' in given:
        sidecar['Resolution'] = table().resolutions[given['res']]
    reference = _spatial_reference(given)
    if reference:
        sidecar['SpatialReference'] = reference
    return sidecar


def _column(about: Mapping[str, str]) -> dict[str, str]:
    """Describe a column of a table as BIDS does."""
    keys = {'description': 'Description', 'unit': 'Units'}
    return {keys[name]: value for name, value in about.items()}


def _spatial_reference(given: Mapping[str, str]) -> str | None:
    """URI of the image whose grid a space has; None where the schema knows the space."""
    space = given.get('space') or given.get('scan')
    if space != 'T1w' and space not in table().scans:
        return None
    unit = {'sub': given['sub'], 'ses': given.get('ses')}
    if space == 'T1w':
        return f'bids::{output_path("preproc_t1w", **unit)}'
    return f'bids::{output_path("reference", scan=space, **unit)}'


def output_error(error: OSError, path: Path) -> OutputError:
    """
    Say why a file could not be written; a full or broken disk has its own exit code.

    Exit code 74 for a full disk or an I/O error, else 73.
    """
    reason = error.strerror or str(error)
    result = OutputError(f'cannot write {path}: {reason}; check the space and the permissions')
    result.errno = error.errno
    if error.errno in DISK_ERRORS:
        result.exit_code = ExitCode.IO_ERROR
    return result


def atomic_write(path: Path, content: bytes) -> Path:
    """
    Write a file so that a reader sees the old one or the new one, never a part.

    Parents are created.

    Raises
    ------
    OutputError
        If it cannot be written; nothing is left behind.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open('xb') as stream:
            stream.write(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if path.parent.is_dir() else None
        raise output_error(error, path) from error
    return path


def create_once(path: Path, content: bytes) -> bool:
    """
    Write a file of fixed content unless it is there; of several writers one wins, complete.

    Parents are created; the content is equal for all writers. Tell whether the file was made.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    if path.exists():
        return False
    temporary = _temporary(path)
    atomic_write(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        # no hard links on this file system: the content is the same whoever comes last
        temporary.replace(path)
        return True
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _temporary(path: Path) -> Path:
    """Make a hidden name beside a file, unique among processes and hosts."""
    return path.with_name(f'.{path.name}.{os.getpid()}.{secrets.token_hex(4)}')


def remove_unfinished(folder: Path, name: str = '*', *, deep: bool = False) -> None:
    """
    Remove what a killed process was writing; only while no other can be at it.

    `name` is a pattern of the files; the folder may be absent. `deep` looks into the folders below
    too.
    """
    pattern = f'.{name}.*.' + '[0-9a-f]' * 8
    for path in folder.rglob(pattern) if deep else folder.glob(pattern):
        path.unlink(missing_ok=True)


def to_json(content: Any) -> bytes:
    r"""
    Write JSON as all files of the output have it: two spaces, NaN as null, infinity as text.

    Examples
    --------
    >>> to_json({'a': float('nan'), 'b': Path('x')}).decode()
    '{\n  "a": null,\n  "b": "x"\n}\n'
    """
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    return f'{text}\n'.encode()


def _plain(content: Any) -> Any:
    """Turn arrays, paths and numbers of any kind into what JSON knows."""
    if isinstance(content, dict | MappingProxyType):
        return {str(name): _plain(value) for name, value in content.items()}
    if hasattr(content, 'tolist'):
        content = content.tolist()
    if isinstance(content, set | frozenset):
        content = sorted(content, key=str)
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float):
        return _plain_float(content)
    if content is None or isinstance(content, bool | int | str):
        return content
    return str(content)


def _plain_float(value: float) -> float | str | None:
    """Give NaN as null and infinity as text: JSON has neither."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def write_json(
    content: Mapping[str, Any], *, output_dir: Path, key: str, entities: Mapping[str, str | None]
) -> Path:
    """Write a JSON file of the table; raises OutputError."""
    return atomic_write(Path(output_dir) / output_path(key, **entities), to_json(content))


def write_text(
    text: str, *, output_dir: Path, key: str, entities: Mapping[str, str | None]
) -> Path:
    """Write a text file of the table (UTF-8); raises OutputError."""
    return atomic_write(Path(output_dir) / output_path(key, **entities), text.encode())


def write_copy(
    source: Path,
    *,
    output_dir: Path,
    key: str,
    entities: Mapping[str, str | None],
    extension: str | None = None,
) -> Path:
    """
    Copy a file (transform, figure) to its place in the output.

    The suffix of the source is the extension unless one is given; other arguments as of
    :func:`write_image`.
    """
    source = Path(source)
    name = output_path(key, extension=extension or source.suffix, **entities)
    return atomic_write(Path(output_dir) / name, source.read_bytes())


def write_image(
    source: Path,
    *,
    output_dir: Path,
    key: str,
    entities: Mapping[str, str | None],
    sidecar: Mapping[str, Any],
) -> Path:
    """
    Write an image of the work directory and its sidecar to their places in the output.

    The same voxels give the same bytes: the header is made anew and gzip holds no time.

    Parameters
    ----------
    source : Path
        NIfTI in SI units; multiplied by the scale of the quantity (variances by its square).
    output_dir : Path
        Root of the output.
    key : str
        Row of data/outputs.yml.
    entities : mapping of str to str or None
        As for :func:`output_path`.
    sidecar : mapping
        `Sources`, model, constants ...; wins over what the table says.

    Returns
    -------
    path : Path
        Written image, compressed; float32 or uint8 as the row says.

    Raises
    ------
    InputDataError
        If an image of labels holds anything but integers from 0 to 255.
    OutputError
        If it cannot be written.
    """
    target = row(key)
    path = Path(output_dir) / output_path(key, **entities)
    content = _nifti(Path(source), target.dtype, scale_of(key, **entities))
    _write_sidecar(output_dir, key, entities, sidecar)
    return atomic_write(path, gzip.compress(content, COMPRESSION, mtime=0))


def write_surface(
    source: Path,
    *,
    output_dir: Path,
    key: str,
    entities: Mapping[str, str | None],
    sidecar: Mapping[str, Any],
) -> Path:
    """
    Write a map on the surface (GIFTI) and its sidecar to their places in the output.

    Parameters
    ----------
    source : Path
        One number per vertex in SI units; multiplied by the scale of the quantity.
    output_dir, key, entities, sidecar
        As for :func:`write_image`.

    Returns
    -------
    path : Path
        Written file, float32.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import nibabel as nb
    import numpy as np

    image: Any = nb.load(source)
    for array in image.darrays:
        array.data = np.asarray(array.data * scale_of(key, **entities), np.float32)
    _write_sidecar(output_dir, key, entities, sidecar)
    return atomic_write(Path(output_dir) / output_path(key, **entities), image.to_bytes())


def _write_sidecar(
    output_dir: Path, key: str, entities: Mapping[str, str | None], sidecar: Mapping[str, Any]
) -> None:
    """Write what the table says and, over it, what the caller says, and by which software."""
    about = base_sidecar(key, **entities) | dict(sidecar)
    about['GeneratedWith'] = software_versions()
    name = output_path(key, extension='.json', **entities)
    atomic_write(Path(output_dir) / name, to_json(about))


def _nifti(source: Path, dtype: str, scale: float) -> bytes:
    """Make the bytes of an image with a clean header: affine twice, mm and s, no slope."""
    import nibabel as nb
    import numpy as np

    new_image: Any = nb.Nifti1Image
    image: Any = nb.load(source)
    data = np.asanyarray(image.dataobj)
    if dtype == 'uint8':
        if not _are_labels(data):
            msg = f'{source} should hold labels from 0 to 255, found other values'
            raise InputDataError(msg)
        data = data.astype(np.uint8)
    else:
        data = np.asarray(np.asarray(data, np.float64) * scale, np.float32)
    result = new_image(data, image.affine)
    result.header.set_xyzt_units('mm', 'sec')
    result.set_sform(image.affine, code=1)
    result.set_qform(image.affine, code=1)
    stream = io.BytesIO()
    result.to_stream(stream)
    return stream.getvalue()


def _are_labels(data: Any) -> bool:
    """Tell whether an array can be written as uint8 without loss."""
    import numpy as np

    data = np.asarray(data)
    if data.dtype == bool or data.size == 0:
        return True
    in_range = np.isfinite(data) & (data >= 0) & (data <= 255)
    return bool(np.all(in_range) and np.all(data % 1 == 0))


def write_table(
    rows: Any,
    *,
    output_dir: Path,
    key: str,
    entities: Mapping[str, str | None],
    sidecar: Mapping[str, Any] | None = None,
) -> Path:
    """
    Write a table (TSV) with the columns of its row, and a sidecar that explains them.

    NaN and None become ``n/a``; `sidecar` is added to the columns, other arguments as of
    :func:`write_image`.

    Raises
    ------
    ValueError
        If a column is missing, or not in data/outputs.yml and the row knows no further ones.
    OutputError
        If it cannot be written.
    """
    target = row(key)
    records: Sequence[Mapping[str, Any]] = (
        rows.to_dict('records') if hasattr(rows, 'to_dict') else list(rows)
    )
    path = Path(output_dir) / output_path(key, **entities)
    found = records[0] if target.further_columns and records else ()
    further = [name for name in found if name not in target.columns]
    content = tsv(records, [*target.columns, *further])
    if target.has_sidecar:
        about = {name: {'Description': target.further_columns} for name in further}
        _write_sidecar(output_dir, key, entities, about | dict(sidecar or {}))
    return atomic_write(path, content)


def tsv(records: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bytes:
    r"""
    Make the bytes of a BIDS table.

    Each record has exactly these columns, which stand in this order.

    Raises
    ------
    ValueError
        If a line has other columns.

    Examples
    --------
    >>> tsv([{'a': 1.5, 'b': None}], ['a', 'b']).decode()
    'a\tb\n1.5\tn/a\n'
    """
    columns = list(columns)
    lines = ['\t'.join(columns)]
    for record in records:
        if set(record) != set(columns):
            differing = sorted(set(record) ^ set(columns))
            msg = f'table of {", ".join(columns)}: missing or unknown columns {differing}'
            raise ValueError(msg)
        lines.append('\t'.join(_cell(record[name]) for name in columns))
    return '\n'.join([*lines, '']).encode()


def _cell(value: Any) -> str:
    """Format one cell: n/a for nothing, seven digits for numbers."""
    if hasattr(value, 'item'):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        return f'{float(value):.7g}' if not math.isnan(value) else 'n/a'
    text = ' '.join(str(value).split())
    return 'n/a' if text in NOTHING else text
