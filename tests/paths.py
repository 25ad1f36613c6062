"""Where tests find the tree, the data of others in it, and what is too large to be in it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / 'tests' / 'data'
"""Tables and small images of others; `README.md` there names source and licence."""
SHARED = ROOT.parent / 'shared'
"""Whole heads and file trees; a test that needs one skips where it is absent and says so."""
REFS = SHARED / 'refs'
SKELETON = SHARED / 'ds004873' / 'skeleton.tar.xz'
