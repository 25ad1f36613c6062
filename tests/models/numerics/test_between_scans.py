"""What two scans of one person differ by."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.between_scans import (
    PRIORS,
    compare_halves,
    learn_scan_difference,
    local_share,
)
from bids_app.models.numerics.regions import summarise_regions

N_REGIONS, N_VOXELS = 60, 50
LABELS = np.repeat(np.arange(N_REGIONS), N_VOXELS)


def halves(rng, common, local, noise=0.5):
    """Two halves of a scan of flow 50 whose level differs in common and per region."""
    factors = 1 + common * rng.normal(size=(2, 1)) + local * rng.normal(size=(2, N_REGIONS))
    flow = 50 * factors[:, LABELS] + noise * rng.normal(size=(2, LABELS.size))
    half = Estimate.of(flow[0] - flow[1], 2 * noise**2)
    level = Estimate.of(flow.mean(axis=0), noise**2 / 2)
    brain = np.zeros_like(LABELS)
    return compare_halves(
        summarise_regions(half, LABELS, np.arange(N_REGIONS)),
        summarise_regions(level, LABELS, np.arange(N_REGIONS)),
        (summarise_regions(half, brain, [0]), summarise_regions(level, brain, [0])),
    )


@pytest.mark.parametrize(('common', 'local'), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.04), (0.1, 0.05)])
def test_halves_show_what_differs_in_common_and_by_region(common, local):
    rng = np.random.default_rng([int(1000 * common), int(1000 * local)])
    found = [halves(rng, common, local) for _ in range(400)]
    seen = {name: np.mean([one[name] for one in found]) for name in ('common', 'local')}
    assert seen['common'] == pytest.approx(common**2 + local**2 / N_REGIONS, abs=3e-4)
    assert seen['local'] == pytest.approx(local**2, abs=2e-4)


def test_without_flow_halves_show_nothing():
    zero = summarise_regions(Estimate.of(np.zeros(3), 1.0), [0, 0, 0], [0])
    assert compare_halves(zero, zero, (zero, zero)) == {}


def test_few_scans_move_a_prior_and_never_remove_it():
    prior = PRIORS['cbf']
    assert learn_scan_difference('cbf') == prior
    quiet = learn_scan_difference('cbf', [{'common': 0.0, 'local': 0.0}] * 2)
    assert 0.8 * prior.common < quiet.common < prior.common
    many = learn_scan_difference('cbf', [{'common': -1.0, 'local': 0.1**2}] * 200)
    assert many.common == pytest.approx(prior.common * np.sqrt(0.1))
    assert many.local == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ModelInputError, match='cbf'):
        learn_scan_difference('bold')


def test_relative_and_absolute_differences_become_variances():
    common, local = PRIORS['cbf'].variance(np.array([50.0, -10.0]))
    np.testing.assert_allclose(common, [(0.035 * 50) ** 2, 0.35**2])
    np.testing.assert_allclose(local, [1.5**2, 0.3**2])
    common, _ = PRIORS['r2_star'].variance(np.array([20.0]))
    assert common[0] == pytest.approx(0.1**2)


def test_local_differences_average_out_over_large_regions_only():
    np.testing.assert_allclose(local_share([1, 125, 250, 2500], 64.0), [1, 1, 0.5, 0.05])


def test_every_prior_says_where_it_comes_from():
    assert all(one.source and one.common > 0 < one.local for one in PRIORS.values())
