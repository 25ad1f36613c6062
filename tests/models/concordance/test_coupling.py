"""Ratios, shares and lines with errors: closed forms, coverage, limits."""

from __future__ import annotations

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.concordance.coupling import (
    fit_line,
    median_difference,
    ratio_of_means,
    relative_importance,
)


def test_set_of_fieller_covers_the_ratio_bounded_or_not():
    rng = np.random.default_rng(1)
    kinds, covered = [], []
    for _ in range(1000):
        below = rng.normal(1.0, 2.0, 10)
        above = 2.0 * below + rng.normal(0, 2.0, 10) + 0.0
        found = ratio_of_means(above, below)
        kinds.append(found.kind)
        inside = found.low <= 2.0 <= found.high
        covered.append(
            found.kind == 'everything'
            or (found.kind == 'interval' and inside)
            or (found.kind == 'outside' and (found.low <= 2.0 or found.high >= 2.0))
        )
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    assert {'interval', 'outside'} <= set(kinds)


def test_ratio_without_noise_has_no_width_and_one_pair_has_none():
    found = ratio_of_means([4.0, 6.0, 5.0], [2.0, 3.0, 2.5])
    assert (found.ratio, found.kind) == (2.0, 'interval')
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0)
    assert ratio_of_means([1.0, np.nan], [1.0, 2.0]).kind == 'undefined'
    assert ratio_of_means([1.0, -1.0, 0.3], [1.0, 0.5, -1.4]).kind == 'everything'


def test_line_is_corrected_for_errors_of_x_and_errors_that_both_share():
    rng = np.random.default_rng(2)
    slopes, errors = [], []
    for _ in range(60):
        truth = rng.normal(0.4, 0.05, 400)
        noise = rng.normal(0, 0.04, 400)
        x = truth + noise
        y = 10 * truth - 20 * noise + rng.normal(0, 1, 400)
        line = fit_line(x, y, x_variance=0.04**2, covariance=-20 * 0.04**2)
        slopes.append(line.slope)
        errors.append(line.slope_se)
        assert line.naive_slope < 2
    assert np.mean(slopes) == pytest.approx(10, abs=0.8)
    assert np.mean(errors) == pytest.approx(np.std(slopes), rel=0.3)
    assert line.reliability == pytest.approx(0.05**2 / (0.05**2 + 0.04**2), abs=0.12)


def test_line_without_errors_is_least_squares_and_blocks_widen_its_error():
    rng = np.random.default_rng(3)
    x = np.repeat(rng.normal(size=30), 20)
    y = 3 * x + np.repeat(rng.normal(size=30), 20)
    line = fit_line(x, y, x_variance=0.0)
    assert line.slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert line.slope == line.naive_slope
    blocks = np.repeat(np.arange(30), 20)
    assert fit_line(x, y, x_variance=0.0, blocks=blocks).slope_se > 3 * line.slope_se


def test_line_through_nothing_is_missing_and_pure_error_has_no_slope():
    assert np.isnan(fit_line([1.0, np.nan], [1.0, 2.0], x_variance=0.1).slope)
    line = fit_line([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], x_variance=50.0)
    assert np.isnan(line.slope)
    assert line.naive_slope == pytest.approx(0.5)
    with pytest.raises(ModelInputError, match='two equal columns'):
        fit_line([1.0], [1.0, 2.0], x_variance=0.0)


def test_importances_add_up_to_the_explained_variance():
    rng = np.random.default_rng(4)
    a, b, c = rng.normal(size=(3, 500))
    b = b + 0.8 * a
    y = 2 * a + b - 0.3 * c + rng.normal(size=500)
    found = relative_importance(y, {'a': a, 'b': b, 'c': c})
    design = np.stack([a, b, c, np.ones(500)], axis=1)
    coefficients, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    expected = 1 - residual[0] / np.sum((y - y.mean()) ** 2)
    assert sum(part for _, part in found.values()) == pytest.approx(expected)
    np.testing.assert_allclose([found[n][0] for n in 'abc'], coefficients[:3])
    assert found['a'][1] > found['b'][1] > found['c'][1] > 0
    assert relative_importance([1.0, 2.0], {'a': [1.0, 2.0]}) == {}
    with pytest.raises(ModelInputError, match='one length'):
        relative_importance([1.0], {'a': [1.0, 2.0]})


def test_equal_groups_are_told_apart_as_often_as_chance():
    rng = np.random.default_rng(5)
    p = [
        median_difference(*rng.normal(size=(2, 30)), rng=rng, n_permutations=99)[1]
        for _ in range(200)
    ]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.045)
    difference, p_shifted = median_difference(
        rng.normal(size=50), rng.normal(2, 1, 50), rng=rng, n_permutations=199
    )
    assert difference < -1
    assert p_shifted <= 0.01
    assert np.isnan(median_difference([], [1.0], rng=rng)[0])
