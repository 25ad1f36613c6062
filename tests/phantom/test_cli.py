"""The command that makes a digital study says what to do with it."""

from pathlib import Path

import pytest

from bids_app.phantom.cli import next_command
from tests.e2e.support import HEADER, anatomy_of


@pytest.mark.parametrize('grid', ['tiny', 'coarse', 'study'])
def test_a_slab_is_computed_with_its_anatomy_handed_over_and_a_head_without(grid):
    root = Path('/data/study')
    words = next_command(root, grid).split()
    assert words[:4] == ['oxybold', '/data/study', '/data/study-results', 'participant']
    assert words[4:] == ([*anatomy_of(root), *HEADER[:2]] if grid == 'tiny' else [])
