"""Where tests find the tree, and the references that only some machines have."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared'
"""Images and tables of others; a test that needs one skips where it is absent."""
REFS = SHARED / 'refs'
SKELETON = SHARED / 'ds004873' / 'skeleton.tar.xz'
