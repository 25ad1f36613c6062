"""What is to be thought of an alignment."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.preprocessing.coregistration import (
    judge_alignment,
    mask_overlap,
    mutual_information,
)

RNG = np.random.default_rng(0)


def test_overlap_is_one_for_equal_and_zero_for_disjoint_masks():
    mask = RNG.random(100) > 0.5
    assert mask_overlap(mask, mask) == 1
    assert mask_overlap(mask, ~mask) == 0
    assert np.isnan(mask_overlap([False], [False]))


def test_information_is_blind_to_contrast_and_scale():
    x = RNG.normal(size=2000)
    y = np.sin(x) + 0.1 * RNG.normal(size=2000)
    one = mutual_information(x, y)
    assert mutual_information(np.exp(x), 7 - 3 * y) == pytest.approx(one, rel=0.05)
    assert mutual_information(y, x) == pytest.approx(one, rel=1e-9)
    assert mutual_information(x, RNG.permutation(y)) < 0.3 * one


def test_information_needs_voxels():
    with pytest.raises(ModelInputError, match='200 voxels'):
        mutual_information(np.zeros(10), np.zeros(10))


@pytest.mark.parametrize(
    ('overlap', 'moved', 'name'),
    [(0.95, 0.9, 'good'), (0.8, 0.9, 'check'), (0.95, 1.05, 'check'), (0.95, 1.2, 'failed'),
     (0.5, 0.1, 'failed')],
)  # fmt: skip
def test_verdict_follows_overlap_and_similarity(overlap, moved, name):
    verdict = judge_alignment(overlap, 1.0, [0.2, moved])
    assert verdict.name == name
    assert bool(verdict.reason) == (name != 'good')
