"""
The table of outputs: names, units and descriptions, from data/outputs.yml.

No other module spells a file name of the output.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    extension: tuple[str, ...]
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
        return self.format in ('image', 'surface', 'table') and '/' in self.path


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
    """Read a table of data/, named without .yml; in C where PyYAML was built with it."""
    import yaml

    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load((files('bids_app') / 'data' / f'{name}.yml').read_bytes(), loader)


@cache
def table() -> OutputTable:
    """Read data/outputs.yml; the same object at every call."""
    raw = packaged_table('outputs')
    quantities = _records(Quantity, raw['quantities'])
    of_format = raw['defaults']
    complete = {
        key: {'format': 'image', **of_format[about.get('format', 'image')], **about}
        for key, about in raw['rows'].items()
    }
    rows = _records(OutputRow, complete)
    of_quantities = {
        key + suffix: raw['descriptions_of_quantities'][suffix].format(name=quantities[key].name)
        for about in rows.values()
        for suffix in re.findall(r'_desc-\{quantity\}([A-Za-z0-9]*)', about.path)
        for key in about.quantities
    }
    return OutputTable(
        bids_version=raw['bids_version'],
        quantities=quantities,
        statistics=_records(Statistic, raw['statistics']),
        scans=MappingProxyType(raw['scans']),
        spaces=tuple(raw['spaces']),
        resolutions=MappingProxyType(raw['resolutions']),
        rows=rows,
        bidsignore=(*raw['bidsignore'], *_unknown_to_schema(rows.values())),
        descriptions=MappingProxyType(raw['descriptions'] | of_quantities),
        readme=raw['readme'],
    )


def _records(cls: Any, raw: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Make one frozen record per key; lists become tuples, with the members of lists in them."""
    records = {}
    for key, fields in raw.items():
        values = {k: tuple(_members(v)) if isinstance(v, list) else v for k, v in fields.items()}
        records[key] = cls(key=key, **values)
    return MappingProxyType(records)


def _unknown_to_schema(rows: Iterable[OutputRow]) -> list[str]:
    """Patterns of the files whose suffix the schema does not know."""
    suffixes: dict[str, set[str]] = {'S': set(), 'N': set()}
    for about in rows:
        _, separator, suffix = about.path.rpartition('_')
        suffixes[about.schema].add(suffix if separator else '')
        suffixes['N'].update(about.unknown_suffixes)
    found = suffixes['N'] - suffixes['S']
    return [f'*_{suffix}.*' for suffix in sorted(found) if suffix.isalnum()]


def _members(entries: list[Any]) -> Iterator[Any]:
    """Go through a list, and the lists in it."""
    for entry in entries:
        if isinstance(entry, list):
            yield from _members(entry)
        else:
            yield entry


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

    Entities are labels without their prefix (``sub='01'``), None the same as leaving one out, and
    stand in the order of the BIDS schema. The extension is one of the row's, by default its first;
    ``.json`` gives the sidecar.

    Raises
    ------
    ValueError
        If an entity is unknown to the row or missing, or a value is not allowed there.

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

    Give key and entities, None for a file that no row describes; a JSON sidecar belongs to the row
    of its file.

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

    ``bids::`` in this dataset, ``bids:raw:`` in the raw one, ``bids:NAME:`` in other derivatives,
    as in `DatasetLinks`; a file in none of them has its ``file:`` address.

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
    Give the key in data/outputs.yml of a quantity that is named as in the graph.

    Examples
    --------
    >>> label_of('r2_prime'), label_of('cbf')
    ('R2prime', 'cbf')
    """
    found = (key for key, item in table().quantities.items() if item.port == port)
    return next(found, port)


def row_of_quantity(label: str) -> str:
    """
    Give the row of data/outputs.yml that holds the map of a quantity.

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
    quantity, statistic = quantity_of(target, entities), statistic_of(target, entities)
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
    quantity, statistic = quantity_of(target, entities), statistic_of(target, entities)
    if quantity is None or target.unit or target.dtype == 'uint8':
        return 1.0
    return float(quantity.scale ** (statistic.power if statistic else 1))


def quantity_of(target: OutputRow, entities: Mapping[str, str | None]) -> Quantity | None:
    """Quantity of a file, from its name or its row."""
    key = entities.get('quantity') or target.quantity
    return table().quantities[key] if key else None


def statistic_of(target: OutputRow, entities: Mapping[str, str | None]) -> Statistic | None:
    """Statistic of a file, from its name or its row."""
    key = entities.get('statistic') or target.statistic
    return table().statistics[key] if key else None


# --------------------------------------------------------------------------------------- writing
