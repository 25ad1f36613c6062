"""Versions of the program and of the libraries that make its numbers."""

from __future__ import annotations

import importlib.metadata
from functools import cache

import bids_app

LIBRARIES = ('numpy', 'scipy', 'scikit-image', 'antspyx', 'nilearn')
"""Distributions whose version changes numbers."""


def library_versions() -> dict[str, str]:
    """Give the versions of libraries that make numbers; ``absent`` where there is none."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = 'absent'
    return versions


@cache
def software_versions() -> dict[str, str]:
    """
    Give the versions that every sidecar states: the program, then its libraries.

    Examples
    --------
    >>> list(software_versions())[:2]
    ['oxybold', 'numpy']
    """
    return {'oxybold': bids_app.__version__, **library_versions()}
