import numpy as np

from bids_app.engines.permutation import tfce_probability
from bids_app.images import Grid


def test_enhancement_finds_a_cluster_and_controls_the_rest():
    rng = np.random.default_rng(1)
    mask = np.zeros((8, 8, 8), bool)
    mask[1:7, 1:7, 1:7] = True
    truth = np.zeros(mask.shape)
    truth[1:4, 1:4, 1:4] = 2.5
    effects = rng.normal(size=(12, mask.sum())) + truth[mask]
    grid = Grid(mask.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    p = tfce_probability(effects, mask, grid, n_permutations=60, random_seed=1)
    assert p.shape == (216,)
    assert np.mean(p[truth[mask] > 0] < 0.05) > 0.8
    assert np.mean(p[truth[mask] == 0] < 0.05) < 0.3
