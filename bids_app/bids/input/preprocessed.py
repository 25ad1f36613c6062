"""Series that other software preprocessed: BOLD of fMRIPrep, CBF of ASLPrep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_app.bids.input.files import companions_of
from bids_app.bids.input.query import IMAGES, parse_name
from bids_app.bids.scans import FoundScan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bids_app.bids.input.query import Found

OF_THE_FILE = ('suffix', 'extension', 'datatype', 'space', 'res', 'desc', 'from', 'to', 'mode',
               'echo')  # fmt: skip
"""Entities that say what a derivative is, not which scan it is of."""

ANATOMICAL = ('T1w', 'anat')
"""Names of the space of the T1w image."""

NATIVE = (None, 'func', 'boldref', 'run', 'asl', 'aslref')
"""Names of the space of a scan itself."""

REFERENCES = ('boldref', 'run', 'aslref', 'scanner')
"""Names of the same in transforms; the last one of versions before 23."""

TRANSFORMS = ('.txt', '.h5')


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What to look for."""

    datatype: str
    suffix: str
    descriptions: tuple[str | None, ...]
    """desc- of the file, the best first."""
    reference: str
    """Suffix of the image that stands for the scan."""


KINDS = {
    'bold': Kind(datatype='func', suffix='bold', descriptions=('preproc',), reference='boldref'),
    'asl': Kind(
        datatype='perf', suffix='cbf', descriptions=('timeseries', None), reference='aslref'
    ),
}


def find_preprocessed(
    derivatives: Mapping[str, Path],
    found: Found,
    root: Path,
    *,
    kind: str,
    is_combined: bool = False,
    is_native: bool = False,
) -> tuple[Found, FoundScan] | str:
    """
    Find what derivatives hold of a raw series.

    Parameters
    ----------
    derivatives : dict of str to Path
        Names and roots; the first that holds something usable wins.
    found : Found
        The raw series; its image is not opened.
    root : Path
        The raw dataset, whose sidecars and tables still describe the series.
    kind : {'bold', 'asl'}
        Preprocessed BOLD, or CBF.
    is_combined : bool
        Look for one series made from all echoes, not for the echo that was found.
    is_native : bool
        Look on the grid of the scan only.

    Returns
    -------
    preprocessed : (Found, FoundScan) or str
        The file in the place of the raw one with what belongs to it. In T1w space where there is
        one; else on the grid of the scan with its transform. Else why there is none (empty where
        no derivatives are of this series at all).

    Notes
    -----
    Names of fMRIPrep 20 and later and of ASLPrep 0.6 and later, with and without sessions. Files
    in a template's space are not used: they were interpolated over a deformation, and a voxel
    there is none of the scan.
    """
    reason = ''
    echo = None if is_combined else echo_of(found.entities)
    for name, path in derivatives.items():
        folder = _folder(Path(path), found, KINDS[kind].datatype)
        files = [
            PreprocessedFile(one, parse_name(one))
            for one in sorted(folder.glob('sub-*'))
            if is_of_scan(parse_name(one), found.entities)
        ]
        chosen = _choose(files, KINDS[kind], echo, () if is_native else ANATOMICAL)
        if chosen is not None:
            image, transform = chosen
            return (
                put_in_place_of(found, image.path, root, KINDS[kind].suffix),
                _describe(name, files, image, transform, KINDS[kind]),
            )
        spaces = sorted({str(one.get('space')) for one in _images(files, KINDS[kind], echo)})
        if spaces and not reason:
            reason = (
                f'derivatives {name}: {KINDS[kind].suffix} of {found.path.name} is there in '
                f'{", ".join(spaces).replace("None", "its own space without a transform to T1w")} '
                'only; write it in T1w space too (--output-spaces T1w); the raw series is used'
            )
    return reason


@dataclass(frozen=True, slots=True)
class PreprocessedFile:
    """A file of derivatives and what its name says."""

    path: Path
    entities: Mapping[str, str]

    def get(self, entity: str) -> str | None:
        """Value of an entity, None when it is absent."""
        return self.entities.get(entity)


def _folder(root: Path, found: Found, datatype: str) -> Path:
    """Where the derivatives of a scan lie."""
    folder = root / f'sub-{found.get("subject")}'
    session = found.get('session')
    return (folder / f'ses-{session}' if session else folder) / datatype


def _number(value: str | None) -> str | None:
    """Write a number without zeros before it: run-1 is run-01."""
    return value.lstrip('0') if value is not None and value.isdigit() else value


def echo_of(entities: Mapping[str, str]) -> str | None:
    """Tell which echo a file is of, without zeros before it; None where the name has none."""
    return _number(entities.get('echo'))


def is_of_scan(entities: Mapping[str, str], raw: Mapping[str, str]) -> bool:
    """Tell whether a derivative and a raw file agree in all that names a scan; run-1 is run-01."""
    one, other = (
        {(key, _number(value)) for key, value in names.items() if key not in OF_THE_FILE}
        for names in (entities, raw)
    )
    return one == other


def _images(
    files: Iterable[PreprocessedFile], kind: Kind, echo: str | None
) -> list[PreprocessedFile]:
    """Images of a kind and an echo, the best first."""
    images = [
        one
        for one in files
        if one.get('suffix') == kind.suffix
        and one.get('extension') in IMAGES
        and one.get('desc') in kind.descriptions
        and _number(one.get('echo')) == echo
    ]
    return sorted(images, key=lambda one: kind.descriptions.index(one.get('desc')))


def _choose(
    files: Sequence[PreprocessedFile], kind: Kind, echo: str | None, aligned: Sequence[str]
) -> tuple[PreprocessedFile, Path | None] | None:
    """Take the image in a space that is aligned, else that of the scan with its transform."""
    transforms = [
        one.path
        for one in files
        if one.get('suffix') == 'xfm'
        and one.get('extension') in TRANSFORMS
        and one.get('from') in REFERENCES
        and one.get('to') in ANATOMICAL
    ]
    for description in kind.descriptions:
        images = [one for one in _images(files, kind, echo) if one.get('desc') == description]
        for image in images:
            if image.get('space') in aligned:
                return image, None
        for image in images:
            if image.get('space') in NATIVE and transforms:
                return image, transforms[0]
    return None


def put_in_place_of(found: Found, path: Path, root: Path, suffix: str) -> Found:
    """
    Put a derivative in the place of a raw file.

    With the sidecars of the raw file first, then that of the derivative.
    """
    raw = str(found.get('suffix'))
    own = path.with_name(path.name.split('.')[0] + '.json')
    sidecars = companions_of(found, root, raw, '.json') + ([own] if own.is_file() else [])
    tables = {
        name: tuple(companions_of(found, root, name, '.tsv')) for name in ('events', 'aslcontext')
    }
    entities = {**found.entities, 'suffix': suffix}
    return replace(
        found, path=path, entities=entities, companions={'json': tuple(sidecars), **tables}
    )


def _describe(
    source: str,
    files: Sequence[PreprocessedFile],
    image: PreprocessedFile,
    transform: Path | None,
    kind: Kind,
) -> FoundScan:
    """Collect what belongs to an image."""
    references = [
        one
        for one in files
        if one.get('suffix') == kind.reference
        and one.get('extension') in IMAGES
        and one.get('space') == image.get('space')
        and one.get('res') == image.get('res')
        and one.get('desc') in ('coreg', None)
    ]
    tables = [
        one.path
        for one in files
        if one.get('desc') == 'confounds'
        and one.get('suffix') in ('timeseries', 'regressors')
        and one.get('extension') == '.tsv'
    ]
    return FoundScan(
        source=source,
        transform=transform,
        reference=references[0].path if references else None,
        confounds=tables[0] if tables else None,
    )
