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


@pytest.mark.prove
def test_a_turned_phase_is_told_on_the_head_of_the_phantom():
    """Displaced by the phantom's own forward model, undone by the app's, in the true field."""
    from pathlib import Path

    from bids_app.phantom import acquisition, physics
    from bids_app.phantom.anatomy import make_head
    from bids_app.phantom.participant import make_participant
    from bids_app.phantom.study import READOUT, PhantomStudy

    study = PhantomStudy(root=Path('none'), n_participants=1, seed=3, grid='coarse')
    protocol = acquisition.protocol('coarse')
    head = acquisition.Subject(
        make_participant(study.stream('01', 'blood'), '01'),
        make_head(study.stream('01', 'anatomy'), spacing=protocol.spacing),
    )
    geometry, still = protocol.bold.geometry, np.eye(4)
    image = acquisition.steady_states(head, protocol.bold, still, ({},))[..., 0]
    fractions, _ = acquisition.tissue_fractions(head, geometry, still)
    brain = fractions.sum(axis=-1) > 0.5
    shift = READOUT * acquisition.field_at(head, geometry, still)
    noise = 0.02 * np.random.default_rng(0).standard_normal(image.shape)
    acquired = physics.distort(image, shift, axis=1) + noise
    facts = [
        fit_fact(acquired, undistort(acquired, sign * shift, axis=1), brain, sign * shift)
        for sign in (1, -1)
    ]
    assert [fact.verdict for fact in facts] == ['good', 'check']
    assert 'relaxometry.phase_scale' in facts[1].rule
    assert facts[1].beyond > 0.02
