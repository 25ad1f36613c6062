"""Series of several echoes that tedana denoised."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_app.bids.input.preprocessed import (
    ANATOMICAL,
    IMAGES,
    NATIVE,
    PreprocessedFile,
    echo_of,
    find_preprocessed,
    is_of_scan,
    put_in_place_of,
)
from bids_app.bids.input.query import parse_name
from bids_app.bids.scans import FoundScan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bids_app.bids.input.query import Found

TEDANA = 'tedana'
"""Name that derivatives of tedana are given by."""

COMBINED = ('denoised', 'optcomDenoised')
"""desc- of the series that is combined from all echoes; the second before version 24."""

OF_ECHO = 'Denoised'
"""desc- of one echo, which tedana writes with --verbose."""

COURSES, CLASSES = 'desc-ICA_mixing.tsv', 'desc-tedana_metrics.tsv'
"""Tables beside the series: course and classification of every component."""

WITHOUT_GLOBAL_SIGNAL = 'desc-optcomNoGlobalSignal_bold'
"""Image that is there where tedana took the global signal away, task and all."""


def find_denoised(
    derivatives: Mapping[str, Path], items: Sequence[Found], root: Path
) -> tuple[list[Found], FoundScan] | str:
    """
    Find what tedana made of the echoes of a run.

    Give the denoised echoes, else the one series combined from them, with what belongs to it; else
    say why it cannot be used. The raw sidecars and tables still describe the run.

    Notes
    -----
    Names of tedana's BIDS convention, from version 0.0.11 on, with the name of the run as prefix
    or as folder. In T1w space, else on the grid of the echoes that other derivatives hold, whose
    transform, reference and confounds serve it.
    """
    if len(items) < 2:
        return f'derivatives {TEDANA}: {items[0].path.name} has one echo; they are not used'
    series = _series_of(derivatives[TEDANA], items[0])
    train = [_one_of(series, (OF_ECHO,), echo_of(item.entities)) for item in items]
    whole = [one for one in train if one is not None]
    if len(whole) < len(items):
        combined = _one_of(series, COMBINED, None)
        whole = [] if combined is None else [combined]
    if not whole:
        return (
            f'derivatives {TEDANA}: no desc-{COMBINED[0]}_bold of {items[0].path.name}, neither '
            'by prefix nor in a folder of its name'
        )
    return _describe(derivatives, whole, items, root)


def _series_of(folder: Path, found: Found) -> list[PreprocessedFile]:
    """Find the series that tedana made of a run, in T1w space first."""
    label = f'sub-{found.get("subject")}'
    places = (
        ((folder / label).rglob, '*'),
        (folder.glob, f'{label}_*'),
        (folder.glob, f'{label}_*/*'),
    )
    paths = {path for search, start in places for path in search(f'{start}bold.nii*')}
    named = [
        PreprocessedFile(path, parse_name(path.with_name(_full_name(path))))
        for path in sorted(paths)
    ]
    mine = [
        one
        for one in named
        if is_of_scan(one.entities, found.entities)
        and one.get('extension') in IMAGES
        and one.get('space') in (*ANATOMICAL, *NATIVE)
    ]
    return sorted(mine, key=lambda one: one.get('space') not in ANATOMICAL)


def _full_name(path: Path) -> str:
    """Name a file by its folder where it has no prefix."""
    return path.name if path.name.startswith('sub-') else f'{path.parent.name}_{path.name}'


def _one_of(
    series: Sequence[PreprocessedFile], descriptions: Sequence[str], echo: str | None
) -> PreprocessedFile | None:
    """Take the first series of a kind and an echo."""
    found = (
        one for one in series if one.get('desc') in descriptions and echo_of(one.entities) == echo
    )
    return next(found, None)


def _describe(
    derivatives: Mapping[str, Path],
    series: Sequence[PreprocessedFile],
    items: Sequence[Found],
    root: Path,
) -> tuple[list[Found], FoundScan] | str:
    """Collect what belongs to a series, or say what is missing."""
    first = series[0].path
    prefix = re.sub(r'(echo-[0-9]+_)?desc-.*', '', first.name)
    courses, classes = (first.with_name(prefix + name) for name in (COURSES, CLASSES))
    missing = [path.name for path in (courses, classes) if not path.is_file()]
    if missing:
        return (
            f'derivatives {TEDANA}: {", ".join(missing)} is not beside {first.name}; without the '
            'components that were removed the errors of the series are unknown'
        )
    if any(first.with_name(f'{prefix}{WITHOUT_GLOBAL_SIGNAL}{end}').is_file() for end in IMAGES):
        return (
            f'derivatives {TEDANA}: the global signal was removed from {first.name}, and with it '
            'what the task does to the whole head; run tedana without --gscontrol gsr'
        )
    others = {name: path for name, path in derivatives.items() if name != TEDANA}
    is_native = series[0].get('space') not in ANATOMICAL
    before = [
        find_preprocessed(others, item, root, kind='bold', is_native=is_native)
        for item in items[: len(series)]
    ]
    known = [one for one in before if not isinstance(one, str)]
    about = FoundScan(source=TEDANA, components=courses, classification=classes)
    if len(known) == len(series):
        own = known[0][1]
        place = (own.transform, own.reference) if is_native else (None, None)
        about = replace(about, transform=place[0], reference=place[1], confounds=own.confounds)
        return [
            replace(found, path=one.path) for (found, _), one in zip(known, series, strict=True)
        ], about
    if is_native:
        return (
            f'derivatives {TEDANA}: {first.name} lies on the grid of the echoes that it was made '
            'from, and how that lies to the T1w image is not known; give the derivatives of '
            'fMRIPrep that hold these echoes too (-d fmriprep=PATH, made with '
            '--me-output-echos), or bring it to T1w space and name it space-T1w'
        )
    return [
        put_in_place_of(item, one.path, root, 'bold')
        for item, one in zip(items[: len(series)], series, strict=True)
    ], about
