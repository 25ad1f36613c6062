"""The networks of the atlas as small brains with their numbers, to be pointed at."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np

from bids_app.engines.templates import ATLAS
from bids_app.reports.derivatives import load_upright, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bids_app._typing import BoolArray
    from bids_app.reports.page import UnitPage

BACKGROUND, SHADOW, LIT = (12, 13, 16), (60, 65, 74), (255, 157, 46)
"""Colours: behind the brain, the brain, the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A network."""

    name: str
    source: str
    """Picture as a data URI."""
    size: tuple[int, int]
    lines: tuple[tuple[str, str], ...]
    """What changed, and by how much."""


def network_cards(units: Iterable[UnitPage]) -> tuple[Card, ...]:
    """
    Make a card of every network that has numbers.

    Of the spaces whose atlas is packaged.
    """
    cards = []
    for unit in units:
        pictures = _pictures(unit.label)
        numbers: dict[str, list[tuple[str, str]]] = {}
        for table in unit.tables:
            for name, effects in table.regions:
                prefix = f'{table.title}: ' if len(unit.tables) > 1 else ''
                titles = (f'{prefix}{quantity}' for quantity in table.quantities)
                numbers.setdefault(name, []).extend(zip(titles, effects, strict=True))
        cards += [
            Card(name=name, source=source, size=size, lines=tuple(numbers[name]))
            for name, (source, size) in pictures.items()
            if name in numbers
        ]
    return tuple(cards)


def _pictures(space: str) -> dict[str, tuple[str, tuple[int, int]]]:
    """Draw every network of the packaged atlas from the side and from above."""
    folder = files('bids_app') / 'data' / 'templates'
    image = folder / f'tpl-{space}_res-02_{ATLAS}.nii.gz'
    if not image.is_file():
        return {}
    with as_file(image) as path, as_file(folder / f'tpl-{space}_res-02_{ATLAS}.tsv') as table:
        labels, _ = load_upright(path)
        lines = read_table(table)
    brain = labels > 0
    found = {}
    for name in dict.fromkeys(line['network'] for line in lines):
        indices = [int(line['index']) for line in lines if line['network'] == name]
        found[name] = _draw(np.isin(labels, indices), brain)
    return found


def _draw(network: BoolArray, brain: BoolArray) -> tuple[str, tuple[int, int]]:
    """Draw the shadows of brain and network, from the right and from above, side by side."""
    from PIL import Image

    views = []
    for axis in (0, 2):
        shadow, lit = (np.asarray(mask.any(axis=axis)).T[::-1] for mask in (brain, network))
        view = np.full((*shadow.shape, 3), BACKGROUND, np.uint8)
        view[shadow], view[lit] = SHADOW, LIT
        views.append(view)
    tall = max(view.shape[0] for view in views)
    padded = [
        np.pad(view, ((0, tall - view.shape[0]), (2, 2), (0, 0)), constant_values=BACKGROUND[0])
        for view in views
    ]
    pixels = np.hstack(padded)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'WEBP', lossless=True)
    source = 'data:image/webp;base64,' + base64.b64encode(content.getvalue()).decode()
    return source, (pixels.shape[1], pixels.shape[0])
