"""Laws of the arterial input."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.dsc.arterial_input import arterial_input_from_mask, find_arterial_input

ECHO_TIME = 0.03
TIME = 1.5 * np.arange(60)


def bolus(start, scale, height):
    lag = np.clip(TIME - start, 0, None) / (3 * scale)
    return height * lag**3 * np.exp(3 - 3 * lag)


def head(*, height=70.0, n_arteries=20, noise=0.5, seed=0):
    """Tissue, then arteries, then veins: high but late and wide."""
    rng = np.random.default_rng(seed)
    curves = [bolus(20, 2.4, h) for h in rng.uniform(6, 18, 600)]
    curves += [bolus(18, 1.6, h) for h in rng.uniform(0.8 * height, height, n_arteries)]
    curves += [bolus(23, 2.8, h) for h in rng.uniform(40, 60, 20)]
    curves = np.array(curves)
    return curves + noise * rng.standard_normal(curves.shape), slice(600, 600 + n_arteries)


def find(curves, *, noise=0.5, **options):
    return find_arterial_input(
        curves,
        echo_time=ECHO_TIME,
        rate_variance=np.full(len(curves), noise**2),
        pass_start=11,
        pass_end=32,
        **options,
    )


def test_arteries_are_found_and_veins_are_not():
    curves, arteries = head()
    found = find(curves)
    assert found.voxels[arteries].sum() >= 15
    assert found.voxels.sum() == found.voxels[arteries].sum()
    assert found.relative_height > 3
    assert not found.curve[:11].any()


def test_tissue_alone_is_no_artery():
    curves, _ = head(n_arteries=0)
    with pytest.raises(ModelInputError, match=r'^no arterial input'):
        find(curves[:600])
    with pytest.raises(ModelInputError, match=r'^no arterial input'):
        find(curves[:3])


def test_arteries_cut_by_the_noise_are_named():
    curves, arteries = head(height=160.0)
    curves[arteries] = np.minimum(curves[arteries], 100.0)
    with pytest.raises(ModelInputError, match=r'^saturated arteries'):
        find(curves, noise=1.0)


def test_only_eligible_voxels_are_taken():
    curves, _ = head()
    eligible = np.ones(len(curves), bool)
    eligible[600:606] = False
    found = find(curves, eligible=eligible)
    assert not found.voxels[600:606].any()


def test_a_mask_of_the_user_overrides():
    curves, _ = head(noise=0.0)
    found = arterial_input_from_mask(
        curves,
        np.arange(len(curves)) >= 620,
        echo_time=ECHO_TIME,
        rate_variance=np.full(len(curves), 0.01),
        pass_start=11,
        pass_end=32,
    )
    np.testing.assert_allclose(found.curve[11:], curves[620:, 11:].mean(axis=0))
    with pytest.raises(ModelInputError, match=r'^no arterial input'):
        arterial_input_from_mask(
            curves,
            np.zeros(len(curves), bool),
            echo_time=ECHO_TIME,
            rate_variance=np.full(len(curves), 0.01),
            pass_start=11,
            pass_end=32,
        )
