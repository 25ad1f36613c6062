"""What every test may use."""

import logging
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from bids_app.images import Grid

for profile, options in {
    'dev': {'max_examples': 30},
    'ci': {'max_examples': 50, 'derandomize': True},
    'prove': {'max_examples': 1000},
}.items():
    suppressed = [HealthCheck.too_slow]
    settings.register_profile(profile, deadline=None, suppress_health_check=suppressed, **options)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'dev'))


def pytest_collection_modifyitems(items):
    """Whole runs first: with several workers no long module is left for the end."""
    items.sort(key=lambda item: item.get_closest_marker('e2e') is None)


ANGLE = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [np.cos(ANGLE), -np.sin(ANGLE), 0.0],
        [np.sin(ANGLE), np.cos(ANGLE), 0.0],
        [0.0, 0.0, 1.0],
    ]
)
DIRECTIONS = {
    'RAS': np.eye(3),
    'LAS': np.diag([-1.0, 1.0, 1.0]),
    'LPS': np.diag([-1.0, -1.0, 1.0]),
    'oblique': OBLIQUE,
}
"""World direction of the voxel axes."""


@pytest.fixture(autouse=True)
def _logger():
    """Undo what the program does to its logger: pytest closes the stream it was given."""
    logger = logging.getLogger('oxybold')
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate, logger.level = before


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20261123)


@pytest.fixture(params=DIRECTIONS)
def oriented_grid(request):
    """A grid of 2 x 3 x 4 voxels of 2 x 3 x 4 mm, in four orientations in turn."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[request.param] @ np.diag([2.0, 3.0, 4.0])
    affine[:3, 3] = 11.0, -7.0, 5.0
    return Grid((2, 3, 4), affine)
