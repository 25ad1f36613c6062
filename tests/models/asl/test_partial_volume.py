"""Laws of partial-volume correction."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.asl.partial_volume import correct_partial_volume
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status

SHAPE = (20, 20, 4)
RNG = np.random.default_rng(0)
GREY = RNG.uniform(0, 1, SHAPE)
WHITE = (1 - GREY) * RNG.uniform(0.6, 1, SHAPE)


def mixture(noise=0.0, seed=1):
    rng = np.random.default_rng(seed)
    flow = 60 * GREY + 20 * WHITE + noise * rng.standard_normal(SHAPE)
    return Estimate.of(flow, max(noise, 1e-3) ** 2)


def test_noise_free_mixture_gives_back_the_flow_of_pure_tissue():
    grey, white = correct_partial_volume(mixture(), GREY, WHITE)
    told = grey.status == Status.OK
    assert told.mean() > 0.85
    np.testing.assert_allclose(grey.value[told], 60, rtol=1e-6)
    np.testing.assert_allclose(white.value[white.status == Status.OK], 20, rtol=1e-6)


def test_intervals_of_both_tissues_cover_the_truth():
    parts = correct_partial_volume(mixture(noise=5.0), GREY, WHITE)
    for part, truth in zip(parts, (60, 20), strict=True):
        told = np.isfinite(part.value)
        z = (part.value[told] - truth) / np.sqrt(part.variance[told])
        # a window is shared by neighbours: fewer independent samples than voxels
        assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.03)


def test_voxels_without_the_tissue_have_no_flow_of_it():
    grey = GREY.copy()
    grey[5:10] = 0.02
    part, _ = correct_partial_volume(mixture(), grey, WHITE)
    assert np.all(part.status[5:10] == Status.TOO_FEW_SAMPLES)


def test_equal_fractions_everywhere_cannot_be_told_apart():
    half = np.full(SHAPE, 0.5)
    grey, white = correct_partial_volume(Estimate.of(np.full(SHAPE, 40.0), 1.0), half, half)
    assert np.all(grey.status == Status.TOO_FEW_SAMPLES)
    assert np.all(white.status == Status.TOO_FEW_SAMPLES)


def test_missing_voxels_do_not_contribute_and_slices_are_kept_apart():
    flow = mixture()
    value = flow.value.copy()
    value[..., 0] = 1e6
    value[3, 3, 2] = np.nan
    grey, _ = correct_partial_volume(Estimate.of(value, flow.variance), GREY, WHITE)
    assert np.isnan(grey.value[3, 3, 2])
    inner = grey.value[..., 1:]
    np.testing.assert_allclose(inner[np.isfinite(inner)], 60, rtol=1e-5)


def test_grids_must_agree():
    with pytest.raises(ModelInputError, match='one 3D grid'):
        correct_partial_volume(mixture(), GREY[..., :2], WHITE)
