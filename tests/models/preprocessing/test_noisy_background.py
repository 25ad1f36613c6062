"""A background of noise is cleared, any other is left as it is."""

import numpy as np
import pytest
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.preprocessing.noisy_background import clear_background


def head(size=64):
    """Two inversions of a ball of three tissues in a scalp, with bone like air between."""
    grid = np.indices((size,) * 3) - size / 2
    radius = np.sqrt((grid**2).sum(axis=0)) * 64 / size
    tissue = np.select([radius < 12, radius < 18, radius < 21], [0.8, 0.5, 0.15], 0.0)
    scalp = (radius > 23) & (radius < 27)
    return np.where(scalp, 0.9, tissue), (radius < 21) | scalp, radius


def inversions(seed=0, noise=0.02):
    """Complex images S1, S2 whose ratio is the contrast; nothing but noise outside."""
    contrast, signal, radius = head()
    rng = np.random.default_rng(seed)
    ratio = contrast - 0.5
    first, second = np.where(signal, ratio, 0.0), signal.astype(float)
    first, second = (part + noise * rng.standard_normal(part.shape) for part in (first, second))
    return first, second, radius


def test_ratio_of_two_inversions_keeps_its_head_and_loses_its_air():
    first, second, radius = inversions()
    unit1 = np.rint(4095 * (first * second / (first**2 + second**2) + 0.5))
    cleared, was_noisy = clear_background(unit1)
    assert was_noisy
    assert (cleared[radius < 17] > 0).mean() > 0.97
    assert (cleared[radius > 33] == 0).all()
    inside = (cleared > 0) & (radius < 17)
    shift = unit1[inside] - cleared[inside]
    np.testing.assert_allclose(shift, shift[0])  # no value of the head changes but for its zero


@pytest.mark.parametrize('noise', [0.0, 0.02, 0.08])
def test_an_image_with_dark_air_is_left_as_it_is(noise):
    contrast, _, _ = head()
    rng = np.random.default_rng(1)
    parts = (contrast + noise * rng.standard_normal(contrast.shape),
             noise * rng.standard_normal(contrast.shape))  # fmt: skip
    image = np.hypot(*parts)
    cleared, was_noisy = clear_background(image)
    assert not was_noisy
    np.testing.assert_array_equal(cleared, image)


def test_a_tight_field_of_view_and_constant_images_are_left_as_they_are():
    contrast, _, _ = head()
    assert not clear_background(ndimage.zoom(contrast, 2, order=1)[44:84, 44:84, 44:84])[1]
    assert not clear_background(np.ones((12, 12, 12)))[1]
    with pytest.raises(ModelInputError, match='three axes'):
        clear_background(np.ones((12, 12)))
