"""
The table of outputs: paths, sidecars and data types from data/outputs.yml; atomic writing.

No other module spells a file name of the output. A file appears complete or not at all: it is
written beside its place under a hidden name and moved there.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import numbers
import os
import re
import secrets
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.versions import software_versions
from bids_app.errors import ExitCode, InputDataError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LABEL = re.compile(r'[A-Za-z0-9+]+')
"""What a BIDS label may hold (plus signs since 1.10.1)."""

FREE = {
    'figure': r'[A-Za-z0-9._+-]+',
    'template': r'(?!(?:MESE|MEGRE|ASE|ASL|DSC|boldref)(?:_|$))[A-Za-z0-9]+',
}
"""Entities that are free names instead of labels, or labels that are no scan's."""

RESTRICTED = ('label', 'scan', 'variant', 'seg')
"""Entities whose values a row may list under `labels`."""

DERIVED = ('folder', 'suffix')
"""Parts of a template that follow from the quantity or the scan."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""The medium failed, not the permission to write."""

NOTHING = ('', 'None', '<NA>', 'NaT')
"""Texts of what is no value: n/a in a table."""

COMPRESSION = 4
"""Level of gzip; float maps hardly shrink further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is measured: where its files go, in which unit, and the factor from the work files."""

    key: str
    folder: str
    unit: str
    scale: float
    """File value = work value (SI) x scale."""
    name: str
    port: str = ''
    """Its name in the graph, where that of its files differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """What a statistical map tells of a quantity."""

    key: str
    unit: str
    power: int
    """The scale of the quantity is applied this often: 1 effect, 2 variance, 0 z and p."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow:
    """One kind of file; the fields are those of data/outputs.yml."""

    key: str
    path: str
    format: str
    schema: str
    made_by: str
    when: str
    description: str
    extension: tuple[str, ...] = ('.nii.gz',)
    unit: str = ''
    dtype: str = ''
    skull_stripped: bool | None = None
    quantity: str = ''
    quantities: tuple[str, ...] = ()
    statistic: str = ''
    statistics: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    unknown_suffixes: tuple[str, ...] = ()
    """Suffixes of an S row that the schema does not know."""
    standard_space: bool = False
    """Whether the space must be one that the schema knows."""
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    further_columns: str = ''
    """What columns beyond these are, where a table may have some."""

    @property
    def entities(self) -> tuple[str, ...]:
        """Names that :func:`output_path` takes for this row."""
        found = dict.fromkeys(re.findall(r'\{(\w+)\}', self.path))
        if 'suffix' in found:
            found['scan'] = None
        return tuple(name for name in found if name not in DERIVED)

    @property
    def required(self) -> tuple[str, ...]:
        """Entities without which there is no name."""
        kept = re.sub(r'\[.*?\]', '', self.path)
        return tuple(name for name in self.entities if f'{{{name}}}' in kept)

    @property
    def has_sidecar(self) -> bool:
        """Whether a JSON file of the same name goes with it (a root file's would be inherited)."""
        return self.format in ('image', 'table') and '/' in self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTable:
    """The whole of data/outputs.yml."""

    bids_version: str
    quantities: Mapping[str, Quantity]
    statistics: Mapping[str, Statistic]
    scans: Mapping[str, Mapping[str, str]]
    spaces: tuple[str, ...]
    """Identifiers the schema knows; any other space needs a SpatialReference."""
    resolutions: Mapping[str, str]
    rows: Mapping[str, OutputRow]
    bidsignore: tuple[str, ...]
    descriptions: Mapping[str, str]
    readme: str


def packaged_table(name: str) -> Any:
    """
    Read a table of data/.

    Parameters
    ----------
    name : str
        Without .yml.

    Returns
    -------
    content : dict
        As written; read in C where PyYAML was built with it.
    """
    import yaml

    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load((files('bids_app') / 'data' / f'{name}.yml').read_bytes(), loader)


@cache
def table() -> OutputTable:
    """
    Read data/outputs.yml.

    Returns
    -------
    table : OutputTable
        Read-only, the same object at every call.
    """
    raw = packaged_table('outputs')
    return OutputTable(
        bids_version=raw['bids_version'],
        quantities=_records(Quantity, raw['quantities']),
        statistics=_records(Statistic, raw['statistics']),
        scans=MappingProxyType(raw['scans']),
        spaces=tuple(raw['spaces']),
        resolutions=MappingProxyType(raw['resolutions']),
        rows=_records(OutputRow, raw['rows']),
        bidsignore=tuple(raw['bidsignore']),
        descriptions=MappingProxyType(raw['descriptions']),
        readme=raw['readme'],
    )


def _records(cls: Any, raw: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Make one frozen record per key; lists become tuples."""
    records = {}
    for key, fields in raw.items():
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        records[key] = cls(key=key, **values)
    return MappingProxyType(records)


def row(key: str) -> OutputRow:
    """
    Find a row of the table.

    Raises
    ------
    KeyError
        If there is no such row: an error of the program, not of the user.
    """
    try:
        return table().rows[key]
    except KeyError:
        msg = f'data/outputs.yml has no row {key!r}; rows: {", ".join(table().rows)}'
        raise KeyError(msg) from None


# ---------------------------------------------------------------------------------------- paths


def output_path(
    key: str, *, extension: str | None = None, **entities: str | None
) -> PurePosixPath:
    """
    Name a file of the output, relative to the output folder.

    Parameters
    ----------
    key : str
        Row of data/outputs.yml.
    extension : str, optional
        One of the row's extensions; default its first. ``.json`` gives the sidecar.
    **entities : str or None
        Labels without their prefix (``sub='01'``); None is the same as leaving one out.

    Returns
    -------
    path : PurePosixPath
        With entities in the order of the BIDS schema.

    Raises
    ------
    ValueError
        If an entity is unknown to the row or missing, or a value is not allowed there.

    See Also
    --------
    match : The inverse.

    Examples
    --------
    >>> str(output_path('T2starmap', sub='01', condition='calc', space='MESE'))
    'sub-01/anat/sub-01_task-calc_space-MESE_T2starmap.nii.gz'
    >>> str(output_path('variance', sub='01', ses='a', space='MESE', quantity='cbv'))
    'sub-01/ses-a/perf/sub-01_ses-a_space-MESE_stat-variance_desc-cbv_statmap.nii.gz'
    """
    target = row(key)
    given = {name: value for name, value in entities.items() if value is not None}
    _check_entities(target, given)
    values = given | _derived(target, given)
    stem = re.sub(r'\[(.*?)\]', lambda part: _optional(part.group(1), values), target.path)
    return PurePosixPath(stem.format_map(values) + _extension(target, extension))


def _optional(part: str, values: Mapping[str, str]) -> str:
    """Keep an optional part of a template where all its entities are given."""
    return part if all(name in values for name in re.findall(r'\{(\w+)\}', part)) else ''


def _extension(target: OutputRow, extension: str | None) -> str:
    """Check the extension against the row."""
    extension = target.extension[0] if extension is None else extension
    allowed = (*target.extension, *(['.json'] if target.has_sidecar else []))
    if extension not in allowed:
        msg = f'{target.key}: extension {extension!r} is not one of {", ".join(allowed)}'
        raise ValueError(msg)
    return extension


def _check_entities(target: OutputRow, given: Mapping[str, str]) -> None:
    """Refuse entities that the row does not know, lacks, or restricts to other values."""
    unknown = [name for name in given if name not in target.entities]
    missing = [name for name in target.required if name not in given]
    if unknown or missing:
        msg = (
            f'{target.key}: entities {", ".join(target.entities) or "none"} are known and '
            f'{", ".join(target.required) or "none"} are required; '
            f'unknown: {", ".join(unknown) or "none"}, missing: {", ".join(missing) or "none"}'
        )
        raise ValueError(msg)
    for name, value in given.items():
        allowed = _allowed(target, name)
        if allowed and value not in allowed:
            msg = f'{target.key}: {name}={value!r} is not one of {", ".join(allowed)}'
            raise ValueError(msg)
        if not re.fullmatch(FREE.get(name, LABEL.pattern), str(value)):
            msg = f'{target.key}: {name}={value!r} is not a BIDS label (letters and digits)'
            raise ValueError(msg)


def _allowed(target: OutputRow, name: str) -> tuple[str, ...]:
    """Values an entity may have in a row; empty = any label."""
    if name in RESTRICTED and target.labels:
        return target.labels
    if name == 'space':
        return table().spaces if target.standard_space else ()
    return {
        'quantity': target.quantities,
        'statistic': target.statistics,
        'scan': tuple(table().scans),
        'res': tuple(table().resolutions),
    }.get(name, ())


def _derived(target: OutputRow, given: Mapping[str, str]) -> dict[str, str]:
    """Fill the parts that follow from the quantity or the scan."""
    if '{folder}' in target.path and 'scan' in given:
        return dict(table().scans[given['scan']])
    key = given.get('quantity', target.quantity)
    return {'folder': table().quantities[key].folder} if key else {}


def match(path: PurePosixPath | str) -> tuple[str, dict[str, str]] | None:
    """
    Find the row a file belongs to.

    Parameters
    ----------
    path : path
        Relative to the output folder; a JSON sidecar belongs to the row of its file.

    Returns
    -------
    found : (key, entities) or None
        None for a file that no row describes.

    See Also
    --------
    output_path : The inverse.

    Examples
    --------
    >>> match('sub-01/perf/sub-01_task-calc_space-MESE_desc-dsc_cbv.json')
    ('cbv', {'sub': '01', 'condition': 'calc', 'space': 'MESE', 'variant': 'dsc'})
    """
    path = PurePosixPath(path)
    for target in table().rows.values():
        extensions = [*target.extension, *(['.json'] if target.has_sidecar else [])]
        for extension in (ending for ending in extensions if str(path).endswith(ending)):
            found = _pattern(target.path).fullmatch(str(path).removesuffix(extension))
            groups = found.groupdict() if found else {}
            entities = {name: label for name, label in groups.items() if label}
            entities = {name: label for name, label in entities.items() if name not in DERIVED}
            if found and _names(target.key, extension, entities, path):
                return target.key, entities
    return None


def _names(key: str, extension: str, entities: dict[str, str], path: PurePosixPath) -> bool:
    """Tell whether the row with these entities gives exactly this path."""
    try:
        return output_path(key, extension=extension, **entities) == path
    except (ValueError, KeyError):
        return False


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Turn a template into a regular expression with a group per entity."""
    text, seen = '', set()
    for token in re.split(r'(\{\w+\}|\[|\])', template):
        name = token[1:-1]
        if token == '[':
            text += '(?:'
        elif token == ']':
            text += ')?'
        elif token.startswith('{') and name in seen:
            text += f'(?P={name})'
        elif token.startswith('{'):
            seen.add(name)
            text += f'(?P<{name}>{FREE.get(name, LABEL.pattern)})'
        else:
            text += re.escape(token)
    return re.compile(text)


def source_uri(
    path: Path,
    *,
    output_dir: Path,
    bids_dir: Path | None = None,
    derivatives: Mapping[str, Path] | None = None,
) -> str:
    """
    Name a file as a BIDS URI, for `Sources`.

    Parameters
    ----------
    path : Path
        Input or output file.
    output_dir : Path
        This dataset: ``bids::``.
    bids_dir : Path, optional
        The raw dataset: ``bids:raw:``.
    derivatives : mapping of str to Path, optional
        Other datasets: ``bids:NAME:``. All of these names stand in `DatasetLinks`.

    Returns
    -------
    uri : str
        For a file in none of them, its ``file:`` address.

    Examples
    --------
    >>> raw = Path('/data')
    >>> source_uri(raw / 'sub-01' / 'x.nii', output_dir=raw / 'derivatives' / 'o', bids_dir=raw)
    'bids:raw:sub-01/x.nii'
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (a git-annex link must not be followed)
    roots = {'': output_dir, **(derivatives or {}), **({'raw': bids_dir} if bids_dir else {})}
    for name, root in roots.items():
        root = Path(os.path.abspath(root))  # noqa: PTH100, PLW2901
        if path.is_relative_to(root):
            return f'bids:{name}:{path.relative_to(root).as_posix()}'
    return path.as_uri()


# -------------------------------------------------------------------------------------- sidecars


def label_of(port: str) -> str:
    """
    Give the label that a quantity has in file names and tables.

    Parameters
    ----------
    port : str
        Its name in the graph and in the registry.

    Returns
    -------
    label : str
        Key of a quantity of data/outputs.yml.

    Examples
    --------
    >>> label_of('r2_prime'), label_of('cbf')
    ('R2prime', 'cbf')
    """
    found = (key for key, item in table().quantities.items() if item.port == port)
    return next(found, port)


def row_of_quantity(label: str) -> str:
    """
    Give the row of the map of a quantity.

    Parameters
    ----------
    label : str
        Of the quantity, such as T2.

    Returns
    -------
    key : str
        Of data/outputs.yml.

    Raises
    ------
    KeyError
        If no row holds a map of it.

    Examples
    --------
    >>> row_of_quantity('T2'), row_of_quantity('cbf')
    ('T2map', 'cbf')
    """
    for key, item in table().rows.items():
        if item.quantity == label and item.format == 'image' and '{space}' in item.path:
            return key
    raise KeyError(label)


def unit_of(key: str, **entities: str | None) -> str:
    """
    Give the unit of a file.

    Examples
    --------
    >>> unit_of('variance', quantity='R2prime')
    '(1/s)^2'
    """
    target = row(key)
    if target.unit:
        return target.unit
    quantity, statistic = _quantity(target, entities), _statistic(target, entities)
    unit = quantity.unit if quantity else ''
    return statistic.unit.format(unit=unit) if statistic else unit


def scale_of(key: str, **entities: str | None) -> float:
    """
    Give the factor from a work file (SI) to the file on disk.

    Examples
    --------
    >>> scale_of('contrast', quantity='cbv', statistic='variance')
    10000.0
    """
    target = row(key)
    quantity, statistic = _quantity(target, entities), _statistic(target, entities)
    if quantity is None or target.unit or target.dtype == 'uint8':
        return 1.0
    return float(quantity.scale ** (statistic.power if statistic else 1))


def _quantity(target: OutputRow, entities: Mapping[str, str | None]) -> Quantity | None:
    """Quantity of a file, from its name or its row."""
    key = entities.get('quantity') or target.quantity
    return table().quantities[key] if key else None


def _statistic(target: OutputRow, entities: Mapping[str, str | None]) -> Statistic | None:
    """Statistic of a file, from its name or its row."""
    key = entities.get('statistic') or target.statistic
    return table().statistics[key] if key else None


def base_sidecar(key: str, **entities: str | None) -> dict[str, Any]:
    """
    Make the part of a sidecar that follows from the table.

    Returns
    -------
    sidecar : dict
        Description, Units; for images SkullStripped, SpatialReference in a space that is not
        standard, Resolution; for tables the columns.
    """
    target = row(key)
    given = {name: value for name, value in entities.items() if value is not None}
    quantity, statistic = _quantity(target, given), _statistic(target, given)
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
    if space is None or space in table().spaces:
        return None
    unit = {'sub': given['sub'], 'ses': given.get('ses')}
    if space == 'T1w':
        return f'bids::{output_path("preproc_t1w", **unit)}'
    if space in table().scans:
        return f'bids::{output_path("reference", scan=space, **unit)}'
    return None


# --------------------------------------------------------------------------------------- writing


def output_error(error: OSError, path: Path) -> OutputError:
    """
    Say why a file could not be written; a full or broken disk has its own exit code.

    Parameters
    ----------
    error : OSError
        As caught.
    path : Path
        What was to be written.

    Returns
    -------
    error : OutputError
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

    Parameters
    ----------
    path : Path
        Parents are created.
    content : bytes
        All of it.

    Returns
    -------
    path : Path
        As given.

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

    Parameters
    ----------
    path : Path
        Parents are created.
    content : bytes
        Equal for all writers.

    Returns
    -------
    created : bool
        False when the file was there.

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

    Parameters
    ----------
    folder : Path
        Where the files were to appear; may be absent.
    name : str
        Of the files; a pattern.
    deep : bool
        Look into the folders below too.
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

    Parameters
    ----------
    source : Path
        Its suffix is the extension unless `extension` is given.
    output_dir, key, entities
        As for :func:`write_image`.
    extension : str, optional
        One of the row.

    Returns
    -------
    path : Path
        Written file.
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

    Parameters
    ----------
    rows : list of dict or DataFrame
        One mapping per line. NaN and None become ``n/a``.
    output_dir, key, entities
        As for :func:`write_image`.
    sidecar : mapping, optional
        Added to the columns, such as `Sources` and `Contrast`.

    Returns
    -------
    path : Path
        Written table.

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

    Parameters
    ----------
    records : iterable of mapping
        One per line, each with exactly these columns.
    columns : iterable of str
        In this order.

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
