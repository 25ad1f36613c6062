"""Anatomy, alignment of the scans and their distortion."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bids_app.bids.output.names import table as output_table
from bids_app.models.preprocessing.distortion import fit_to_outline
from bids_app.reports.background import ScanScene, Scene, slices_of
from bids_app.reports.derivatives import load_upright, select
from bids_app.reports.drawing import figures
from bids_app.reports.report_table import FigureRow
from bids_app.reports.reportlets.base import Fact, Reportlet, make_reportlet
from bids_app.reports.text import number, range_text, round_up

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.reports.derivatives import Derivative


ORANGE, BLUE = '#ff9d2e', '#4cc3ff'
"""Outlines of brain and white matter; on grey, for every kind of colour vision."""


def draw_anatomy(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show the T1w image with the outlines of brain and white matter."""
    found = select(scene.files, row.output)
    if not found or scene.t1w is None:
        return
    data, grid = scene.t1w
    mask = scene.anatomical('brain_mask')
    white = scene.anatomical('probseg', label='WM')
    shown = data > np.percentile(data, 50) if mask is None else mask[0] > 0.5
    slices = slices_of(shown, grid)
    outlines = {ORANGE: mask, BLUE: white}
    drawn = {colour: pair[0] for colour, pair in outlines.items() if pair is not None}
    figure = figures.draw_outlines(figures.Backdrop(data), drawn, slices)
    yield make_reportlet(row, found[0], pictures=[(row.title, figure, '')], output_key=row.key)


def draw_alignment(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show every scan on its own grid with the outlines of the T1w image, before and after."""
    references = select(scene.files, row.output)
    for file in sorted(references, key=lambda file: _rank_of_scan(file, scene)):
        scan = ScanScene(
            files=scene.files,
            space=file.entities['scan'],
            conditions=scene.conditions,
            read=scene.read,
            reference=file,
        )
        if scan.slices is None or scan.backdrop is None:
            continue
        is_grid = _is_grid(file, scene)
        if scene.t1w is None and not is_grid:
            continue  # nothing to compare it with
        shift, angle = scan.movement
        outlined = partial(_outlined, scan, scan.slices, scan.backdrop)
        moved = shift > 0.01 or angle > 0.01
        names = [file.entities[name] for name in ('scan', 'task', 'run') if name in file.entities]
        yield make_reportlet(
            row,
            file,
            pictures=[(row.title, outlined(scan.to_t1w), '')],
            before=outlined(np.eye(4)) if moved else None,
            where=' '.join(names) + (', quantification grid' if is_grid else ''),
            output_key='_'.join([row.key, *names]),
            facts=[
                Fact(name='movement from the header to the T1w image',
                     text=f'{number(shift)} mm and {number(angle)}°'),
            ] if scene.t1w is not None else [],
        )  # fmt: skip


def _rank_of_scan(file: Derivative, scene: Scene) -> tuple[bool, int, str]:
    """Order of the alignments: the quantification grid first, then as in the output table."""
    scans = list(output_table().scans)
    return not _is_grid(file, scene), scans.index(file.entities['scan']), file.path.name


def _is_grid(file: Derivative, scene: Scene) -> bool:
    """Tell whether a reference image is that of the quantification grid."""
    return file.entities['scan'] == scene.space and 'task' not in file.entities


def _outlined(
    scan: ScanScene, slices: figures.Slices, backdrop: figures.Backdrop, world: FloatArray
) -> Figure:
    """Draw the outlines of brain and white matter over a scan."""
    outlines = {
        ORANGE: scan.outlined('brain_mask', backdrop.factor, world),
        BLUE: scan.outlined('probseg', backdrop.factor, world, label='WM'),
    }
    drawn = {colour: values for colour, values in outlines.items() if values is not None}
    return figures.draw_outlines(backdrop, drawn, slices)


def fit_fact(
    before: FloatArray, after: FloatArray, brain: BoolArray, shifts: FloatArray
) -> Fact | None:
    """
    Tell whether an image fills the outline of the brain better without its distortion.

    A phase whose sign is turned, as some scanners write it, doubles the distortion.

    Parameters
    ----------
    before, after : (X, Y, Z) array
        Image as acquired and with the distortion undone, any unit.
    brain : (X, Y, Z) bool array
        Of the T1w image.
    shifts : (X, Y, Z) array
        Displacement, voxels.

    Returns
    -------
    fact : Fact or None
        Correlation of both images with the mask near its outline, where the field displaces; None
        where it displaces too few voxels, or on one side of the outline only.
    """
    fits = fit_to_outline([before, after], brain, shifts)
    if fits is None:
        return None
    return Fact(
        name='fit to the outline of the brain, where displaced',
        text=f'{fits[0]:.2f} as acquired, {fits[1]:.2f} without distortion',
        verdict='good' if fits[1] >= fits[0] else 'check',
        rule='usual: better without; if not, the phase may have the other sign '
        '(a negative relaxometry.phase_scale or anatomy.fieldmap_phase_scale turns it)',
        beyond=max(0.0, fits[0] - fits[1]),
    )


def draw_distortion(row: FigureRow, scene: Scene, _: Path) -> Iterator[Reportlet]:
    """Show an echo-planar scan without its distortion, with it, and the displacement."""
    for file in select(scene.files, row.output):
        scan = ScanScene(
            files=scene.files, space=file.entities['scan'], conditions=scene.conditions,
            read=scene.read, reference=file,
        )  # fmt: skip
        same = {name: file.entities.get(name) for name in ('scan', 'task', 'run')}
        pair = [select(scene.files, key, **same) for key in ('epi_acquired', row.also)]
        if scan.slices is None or scan.backdrop is None or not all(pair):
            continue
        acquired, shifts = (load_upright(found[0].path)[0] for found in pair)
        factor = scan.backdrop.factor
        before = figures.Backdrop(acquired.repeat(factor, axis=0).repeat(factor, axis=1), factor)
        outlined = partial(_outlined, scan, scan.slices, world=scan.to_t1w)
        inside = np.isfinite(shifts) if scan.brain is None else scan.brain & np.isfinite(shifts)
        top = round_up(float(np.percentile(np.abs(shifts[inside]), 99))) if inside.any() else 1.0
        scale = figures.Scale(limits=(-top, top), colormap='RdBu_r',
                              label='displacement (voxels)')  # fmt: skip
        drawn = figures.draw_map(shifts, scan.slices, scale, mask=inside)
        text = range_text(shifts[inside], row.unit)
        undone = load_upright(file.path)[0]
        facts = () if scan.brain is None else (fit_fact(acquired, undone, scan.brain, shifts),)
        yield make_reportlet(
            row,
            file,
            pictures=[
                ('Without distortion', outlined(scan.backdrop), ''),
                ('Displacement', drawn, f'Axial slices of the displacement. {text}'),
            ],
            before=outlined(before),
            before_is='as acquired',
            facts=facts,
            where=' '.join(label for label in same.values() if label),
            extra={'range': text},
        )
