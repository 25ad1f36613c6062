"""Write the files of a study: the same bytes for the same values."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import nibabel as nb
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bids_app._typing import FloatArray

COMPRESSION = 1
"""gzip level; noise does not compress any better at higher ones."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS to LPS world."""


def write_image(
    path: Path,
    data: NDArray[np.generic],
    affine: FloatArray,
    *,
    repetition_time: float | None = None,
) -> Path:
    """
    Write a compressed NIfTI image without a time stamp.

    The data, (X, Y, Z[, T]), are int16, uint8 or float32 (float64 is stored as float32), the
    affine RAS mm, the repetition time s.
    """
    if data.dtype == np.float64:
        data = data.astype(np.float32)
    library: Any = nb
    image = library.Nifti1Image(data, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units('mm', 'sec')
    if repetition_time is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], repetition_time))
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with gzip.GzipFile('', 'wb', COMPRESSION, buffer, mtime=0) as stream:
        stream.write(image.to_bytes())
    path.write_bytes(buffer.getvalue())
    return path


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """Write a sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    return path


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a tab-separated table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['\t'.join(columns), *('\t'.join(str(cell) for cell in row) for row in rows)]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def write_itk_affine(path: Path, image_transform: FloatArray) -> Path:
    """
    Write an affine transform as ITK text.

    The matrix (4, 4), RAS, maps points of the space that images are resampled to into the space
    they come from.
    """
    matrix = LPS @ image_transform @ LPS
    numbers = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
    text = (
        '#Insight Transform File V1.0\n#Transform 0\n'
        'Transform: AffineTransform_double_3_3\n'
        f'Parameters: {" ".join(repr(float(n)) for n in numbers)}\nFixedParameters: 0 0 0\n'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return path
