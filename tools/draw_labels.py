"""
Draw label maps one below the other, with their legend: the picture of README.md.

Usage
-----
``python tools/draw_labels.py docs/_static/labels.png "sign rule=FILE" "robust rule=FILE" ...``
with label images of one grid.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nb
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bids_app.models.concordance.labels import LABEL_COLORS, LABEL_NAMES, Label

N_SLICES = 6
LEGEND = (
    Label.CONCORDANT_POSITIVE,
    Label.DISCORDANT_POSITIVE,
    Label.UNDETERMINED_POSITIVE,
    Label.CONCORDANT_NEGATIVE,
    Label.DISCORDANT_NEGATIVE,
    Label.UNDETERMINED_NEGATIVE,
    Label.NOT_SIGNIFICANT,
)


def read(path: str) -> tuple[np.ndarray, tuple[float, float]]:
    image = nb.as_closest_canonical(nb.load(path))
    return np.asarray(image.dataobj).astype(int), image.header.get_zooms()[:2]


def strip(labels: np.ndarray, box: tuple[slice, slice], heights: np.ndarray) -> np.ndarray:
    """Slices beside each other, front up, as colours."""
    row = np.concatenate([labels[(*box, k)].T[::-1] for k in heights], axis=1)
    colours = np.zeros((*row.shape, 4))
    for label, colour in LABEL_COLORS.items():
        if label != Label.OUTSIDE:
            colours[row == label] = to_rgba(colour)
    return colours


def main(out: str, *items: str) -> None:
    maps = {title: read(path) for title, _, path in (item.partition('=') for item in items)}
    used = np.any([labels > 0 for labels, _ in maps.values()], axis=0)
    spans = [np.flatnonzero(used.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(max(0, span[0] - 1), span[-1] + 2) for span in spans[:2])
    heights = np.linspace(spans[2][0], spans[2][-1], N_SLICES + 2).round().astype(int)[1:-1]

    figure = Figure(figsize=(9, 1.75 * len(maps) + 0.8), facecolor='white')
    for position, (title, (labels, zooms)) in enumerate(maps.items(), start=1):
        axes = figure.add_subplot(len(maps), 1, position)
        shown = strip(labels, box, heights)
        axes.imshow(shown, aspect=zooms[1] / zooms[0], interpolation='nearest')
        axes.set_ylabel(title, fontsize=10)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    handles = [Patch(color=LABEL_COLORS[k], label=LABEL_NAMES[k]) for k in LEGEND]
    figure.legend(handles=handles, loc='lower center', ncols=2, fontsize=8, frameon=False)
    figure.subplots_adjust(
        left=0.05, right=0.99, top=0.99, bottom=0.95 / figure.get_figheight(), hspace=0.04
    )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


if __name__ == '__main__':
    main(*sys.argv[1:])
