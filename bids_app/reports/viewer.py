"""The volumes of the map viewer: reduced copies beside the report, which it loads when asked."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.images import Grid
from bids_app.models.status import DESCRIPTIONS, Status
from bids_app.reports.background import Scene
from bids_app.reports.derivatives import load_upright, read_table, root_file, select
from bids_app.reports.report_table import FigureRow, report_table
from bids_app.reports.reportlets.base import standard_error_of, status_of
from bids_app.reports.text import contrast_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bids_app._typing import FloatArray
    from bids_app.reports.derivatives import Derivative

LARGEST = 8_000_000
"""Bytes of the file; with more every second (third ...) voxel is kept, and the page says so."""

ANATOMY = 2.0
"""mm; the anatomy behind the maps is about this fine."""

KEPT_BITS = 12
"""Of the mantissa of a value: 1 part in 8,000, four digits."""

MANTISSA, NOT_A_NUMBER = 23, np.uint32(0x7FC00000)
"""Bits of the mantissa, and the bits of a missing value, of IEEE 754 single precision."""

COLOURS = 64
"""Entries of a colour map."""

LABEL_ROWS = ('labels', 'response_mode')
"""Rows of report.yml whose labels can be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A map that can be shown: arrays on the quantification grid, upright, in the unit shown."""

    row: FigureRow
    title: str
    where: str
    value: FloatArray
    error: FloatArray | None = None
    status: FloatArray | None = None
    colours: tuple[tuple[int, str, str], ...] = ()
    """Of labels: code, name, #rrggbb."""


def viewer_file(scene: Scene, output_dir: Path) -> bytes:
    """
    Pack the maps of a participant or session as a script that hands them to the page.

    At most :data:`LARGEST` bytes; empty without any map. A script, because a page that was opened
    from a folder may load scripts beside it, but no other files.
    """
    layers = [*_maps(scene), *_changes(scene), *_labels(scene, output_dir)]
    if scene.grid is None or not layers:
        return b''
    script, stride = b'', 0
    while not script or (len(script) > LARGEST and stride < min(scene.grid.shape)):
        stride += 1
        content = _content(scene, scene.grid, layers, stride)
        script = b'oxyboldMaps(' + json.dumps(content, separators=(',', ':')).encode() + b');\n'
    return script


def _content(scene: Scene, grid: Grid, layers: list[Layer], stride: int) -> dict[str, Any]:
    """Put together what the script holds; of the maps every `stride`-th voxel along each axis."""
    used = np.any([np.isfinite(layer.value) for layer in layers], axis=0)
    corners = [np.flatnonzero(used.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    first = [int(found[0]) if len(found) else 0 for found in corners]
    part = tuple(
        slice(start, int(found[-1]) + 1 if len(found) else None, stride)
        for start, found in zip(first, corners, strict=True)
    )
    step = np.diag([stride, stride, stride, 1.0])
    step[:3, 3] = first
    world = scene.to_t1w if scene.t1w is not None else np.eye(4)
    affine = world @ grid.affine @ step
    shape = np.empty(grid.shape, np.uint8)[part].shape
    return {
        'stride': stride,
        'shape': shape,
        'affine': affine.tolist(),
        'anatomy': _nifti(*_anatomy(scene, grid)),
        'overlay': _nifti(np.zeros(shape, np.uint8), affine),
        'statuses': {int(code): text for code, text in DESCRIPTIONS.items()},
        'maps': [_packed_layer(layer, part) for layer in layers],
    }


def _maps(scene: Scene) -> Iterator[Layer]:
    """List the maps of the conditions."""
    for row in report_table().figures:
        if row.level == 'participant' and row.kind == 'map':
            for file in sorted(scene.maps(row.output), key=scene.rank):
                condition = file.entities.get('condition')
                yield Layer(
                    row=row,
                    title=row.title,
                    where=condition or 'all conditions',
                    value=_upright(file) * row.scale,
                    error=standard_error_of(scene, row, condition),
                    status=status_of(scene, row, condition),
                )


def _changes(scene: Scene) -> Iterator[Layer]:
    """List the changes between conditions."""
    for row in report_table().figures:
        if row.level != 'participant' or row.kind != 'change':
            continue
        for file in scene.maps(row.output, quantity=row.quantity, statistic='effect'):
            same = {name: file.entities.get(name) for name in ('contrast', 'task')}
            spread = scene.maps(row.output, quantity=row.quantity, statistic='variance', **same)
            yield Layer(
                row=row,
                title=row.title,
                where=contrast_text(file),
                value=_upright(file) * row.scale,
                error=np.sqrt(_upright(spread[0])) * row.scale if spread else None,
            )


def _labels(scene: Scene, output_dir: Path) -> Iterator[Layer]:
    """List the labels of the contrasts."""
    for row in report_table().figures:
        if row.key not in LABEL_ROWS:
            continue
        lines = read_table(root_file(output_dir, 'label_table', seg=row.seg))
        colours = tuple((int(one['index']), one['name'], one['color']) for one in lines)
        for file in scene.maps(row.output):
            codes = _upright(file)
            yield Layer(row=row, title=row.title, where=contrast_text(file), colours=colours,
                        value=np.where(codes > 0, codes, np.nan))  # fmt: skip


def _upright(file: Derivative) -> FloatArray:
    """Read a map upright; what is not finite is no value."""
    values = load_upright(file.path)[0]
    return np.where(np.isfinite(values), values, np.nan)


def _anatomy(scene: Scene, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Give the anatomy behind the maps and its affine: the T1w image, else that of the grid."""
    if scene.t1w is None:
        found = select(scene.files, 'reference', scan=scene.space)
        data = load_upright(found[0].path)[0] if found else np.zeros(grid.shape)
    else:
        data, grid = scene.t1w
    factors = np.maximum(1, np.rint(ANATOMY / grid.zooms)).astype(int)
    whole = [size // factor for size, factor in zip(data.shape, factors, strict=True)]
    cut = data[tuple(slice(n * f) for n, f in zip(whole, factors, strict=True))]
    blocks = [size for n, f in zip(whole, factors, strict=True) for size in (n, f)]
    coarse = np.nan_to_num(cut).reshape(blocks).mean(axis=(1, 3, 5))
    step = np.diag([*factors, 1.0])
    step[:3, 3] = (factors - 1) / 2
    top = float(np.percentile(coarse[coarse > 0], 99.5)) if (coarse > 0).any() else 1.0
    grey = np.rint(255 * np.clip(coarse / top, 0, 1)).astype(np.uint8)
    return grey, grid.affine @ step


def _nifti(data: FloatArray, affine: FloatArray) -> str:
    """Pack a volume as a NIfTI file."""
    import nibabel as nb

    image = nb.Nifti1Image(data, affine)
    return _base64(image.to_bytes())


def _packed_layer(layer: Layer, part: tuple[slice, ...]) -> dict[str, Any]:
    """Pack a map with what the page needs to show it."""
    about: dict[str, Any] = {'title': layer.title, 'where': layer.where, 'unit': layer.row.unit}
    about['value'] = _packed(layer.value[part])
    if layer.colours:
        return about | {'labels': layer.colours}
    import matplotlib as mpl

    colours = mpl.colormaps[layer.row.colormap](np.linspace(0, 1, COLOURS), bytes=True)[:, :3]
    about |= {'limits': layer.row.limits, 'colours': colours.tolist()}
    if layer.error is not None:
        about['error'] = _packed(layer.error[part])
    if layer.status is not None:
        codes = np.nan_to_num(layer.status[part], nan=int(Status.OUTSIDE_MASK))
        about['status'] = _base64(np.rint(codes).astype(np.uint8).tobytes(order='F'))
    return about


def _packed(values: FloatArray) -> str:
    """Pack numbers with :data:`KEPT_BITS`: byte by byte, the first axis fastest."""
    single = np.where(np.isfinite(values), values, np.nan).astype(np.float32).ravel(order='F')
    step = np.uint32(1 << (MANTISSA - KEPT_BITS))
    bits = (single.view(np.uint32) + step // 2) // step * step
    kept = np.where(np.isnan(single), NOT_A_NUMBER, bits).astype('<u4')
    return _base64(kept.view(np.uint8).reshape(-1, 4).T.tobytes())


def _base64(content: bytes) -> str:
    """Compress, the same bytes for the same content, and write as text."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
