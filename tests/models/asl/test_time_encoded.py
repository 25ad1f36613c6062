"""Decoding of a time-encoded label against an independent solution of every voxel."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from bids_app.errors import ModelInputError
from bids_app.models.asl.time_encoded import decode, decoding_of

LABEL = (1 - hadamard(8)[:, 1:]) // 2


@pytest.fixture
def encoded(rng):
    """Three cycles of 50 voxels with their static signal, and the label of every block."""
    static, label = rng.uniform(50, 100, (50, 1)), rng.uniform(0, 2, (50, 7))
    return np.tile(static - label @ LABEL.T, 3), static, label


def test_blocks_are_those_of_an_independent_solution_of_every_voxel(encoded, rng):
    series, _, label = encoded
    noisy = series + rng.standard_normal(series.shape)
    cycles = np.arange(24).reshape(3, 8)
    found = decode(noisy, LABEL, cycles).reshape(50, 3, 7)
    system = np.column_stack([np.ones(8), -LABEL])
    for voxel in range(0, 50, 7):
        for cycle in range(3):
            solved = np.linalg.solve(system, noisy[voxel, cycles[cycle]])
            np.testing.assert_allclose(found[voxel, cycle], solved[1:], atol=1e-12)
    np.testing.assert_allclose(decode(series, LABEL, cycles)[:, :7], label, atol=1e-12)


def test_every_block_has_four_over_n_of_the_variance_of_a_volume_and_shares_none(rng):
    noise = decode(rng.standard_normal((20_000, 8)), LABEL, [range(8)])
    np.testing.assert_allclose(np.cov(noise.T), np.eye(7) / 2, atol=0.03)


def test_order_of_the_encodings_does_not_matter_but_that_of_the_blocks_does(encoded):
    series, _, label = encoded
    turned = np.roll(np.arange(8), 3)
    found = decode(series[:, turned], LABEL[turned], [range(8)])
    np.testing.assert_allclose(found, label, atol=1e-12)


@pytest.mark.parametrize(
    ('encoding', 'reason'),
    [
        (LABEL[:7], 'apart'),
        ([[0, 0], [1, 0], [0, 1]], 'share noise'),
        ([[0, 2], [1, 0]], 'a table of 0'),
    ],
)
def test_encodings_whose_errors_would_be_wrong_are_refused(encoding, reason):
    with pytest.raises(ModelInputError, match=reason):
        decoding_of(encoding)
