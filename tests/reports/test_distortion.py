"""Does an image fill the brain better without its distortion? A turned phase does the opposite."""

import numpy as np
import pytest

from bids_app.models.preprocessing.distortion import undistort
from bids_app.reports.reportlets.alignment import fit_fact


def study(noise=0.05):
    """A ball as acquired, displaced by up to 3 voxels towards its front, and its mask."""
    grid = np.indices((40, 44, 30), dtype=float)
    x, y, z = (axis - centre for axis, centre in zip(grid, (20, 22, 15), strict=True))
    brain = x**2 + y**2 + z**2 < 12**2
    shift = 3 * np.exp(-((y - 12) ** 2 + x**2 + z**2) / 80)
    image = brain + 0.3 * (x**2 + y**2 + z**2 < 17**2)
    acquired = undistort(image, -shift, axis=1)
    rng = np.random.default_rng(4)
    return acquired + noise * rng.standard_normal(acquired.shape), brain, shift


@pytest.mark.parametrize(('sign', 'verdict'), [(1, 'good'), (-1, 'check')])
def test_a_field_of_the_wrong_sign_is_told(sign, verdict):
    acquired, brain, shift = study()
    fact = fit_fact(acquired, undistort(acquired, sign * shift, axis=1), brain, sign * shift)
    assert fact.verdict == verdict
    assert 'phase_scale' in fact.rule


def test_nothing_is_said_where_nothing_is_displaced():
    acquired, brain, shift = study()
    assert fit_fact(acquired, acquired, brain, 0.05 * shift) is None
    assert fit_fact(acquired, acquired, np.ones_like(brain), np.ones(brain.shape)) is None
