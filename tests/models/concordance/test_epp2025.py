"""Published rules: their definitions, and the numbers that follow from a published table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_app.errors import ModelInputError
from bids_app.models.concordance.epp2025 import (
    below_typical,
    conjunction,
    consistency_probability,
    describe_voxels,
    discordance_by_quartile,
    label_by_consistency,
    label_by_medians,
    label_by_ttests,
)
from bids_app.models.concordance.labels import Label


def study(rng, n=20, n_voxels=300, missing=0.1):
    bold = rng.normal(0.5, 1, (n, n_voxels))
    cmro2 = rng.normal(1.0, 5, (n, n_voxels))
    cmro2[rng.random(cmro2.shape) < missing] = np.nan
    return bold, cmro2


def test_table_is_that_of_numpy_and_scipy():
    bold, cmro2 = study(np.random.default_rng(1))
    table = describe_voxels(bold, cmro2)
    np.testing.assert_allclose(table.cmro2_median, np.nanmedian(cmro2, axis=0))
    np.testing.assert_allclose(table.cmro2_mean, np.nanmean(cmro2, axis=0))
    expected = stats.ttest_1samp(cmro2, 0, nan_policy='omit').pvalue
    np.testing.assert_allclose(table.cmro2_p, np.asarray(expected, float), rtol=1e-9)
    assert (table.n_signs == np.isfinite(cmro2).sum(axis=0)).all()


def test_voxel_of_one_participant_has_no_test_and_no_label():
    bold, cmro2 = np.full((3, 1), np.nan), np.full((3, 1), np.nan)
    bold[0], cmro2[0] = 1.0, 2.0
    table = describe_voxels(bold, cmro2)
    assert np.isnan(table.cmro2_p[0])
    assert label_by_ttests(table, [True]).tolist() == [Label.OUTSIDE]


def test_consistency_probability_is_twice_the_smaller_tail():
    p = consistency_probability([37, 37, 10], [30, 7, 5])
    expected = 2 * stats.binom.cdf(7, 37, 0.5)
    np.testing.assert_allclose(p, [expected, expected, 1.0])
    with pytest.raises(ModelInputError, match='part of all'):
        consistency_probability([3], [4])
    with pytest.raises(ModelInputError, match='participants, voxels'):
        describe_voxels([1.0], [1.0])


def test_cut_of_the_published_consistency_test_is_30_and_7_of_37():
    """75 of 19,190 voxels survive where the cut is 30/37 and 7/37, as published."""
    n = np.full(19_190, 37)
    k = np.full(19_190, 18)
    k[:65], k[65:75], k[75:400] = 31, 6, 27
    k[0], k[65] = 30, 7
    labels = label_by_consistency(np.ones(19_190), n, k, np.ones(19_190, bool))
    concordant = labels == Label.CONCORDANT_POSITIVE
    discordant = labels == Label.DISCORDANT_POSITIVE
    assert (concordant.sum(), discordant.sum()) == (65, 10)
    assert k[concordant].min() == 30
    assert k[discordant].max() == 7


def test_rules_agree_where_everything_is_certain():
    rng = np.random.default_rng(2)
    signs = rng.choice([-1.0, 1.0], (2, 80))
    bold = signs[0] * rng.normal(5, 0.1, (30, 80))
    cmro2 = signs[1] * rng.normal(20, 0.5, (30, 80))
    table = describe_voxels(bold, cmro2)
    everywhere = np.ones(80, bool)
    medians = label_by_medians(table, everywhere, everywhere)
    np.testing.assert_array_equal(medians, label_by_ttests(table, everywhere))
    counted = label_by_consistency(table.bold_mean, table.n_signs, table.n_concordant, everywhere)
    np.testing.assert_array_equal(medians, counted)


def test_rules_behave_as_expected_where_metabolism_does_not_change():
    """The sign rule calls half of the voxels discordant, the tested rules hardly any."""
    rng = np.random.default_rng(3)
    bold = rng.normal(1.0, 0.3, (38, 4000))
    cmro2 = rng.normal(0.0, 12.0, (38, 4000))
    table = describe_voxels(bold, cmro2)
    everywhere = np.ones(4000, bool)
    sign = label_by_medians(table, everywhere, everywhere)
    assert np.mean(sign == Label.DISCORDANT_POSITIVE) == pytest.approx(0.5, abs=0.03)
    for labels in (
        label_by_ttests(table, everywhere),
        label_by_consistency(table.bold_mean, table.n_signs, table.n_concordant, everywhere),
    ):
        assert np.mean(labels == Label.UNDETERMINED_POSITIVE) > 0.95


def test_limits_leave_out_high_values_only():
    values = np.random.default_rng(4).normal(5, 1, (10, 500))
    values[:, 0], values[:, 1], values[:, 2] = 50.0, 0.0, np.nan
    inside = below_typical(values)
    assert inside[:3].tolist() == [False, True, False]
    assert not below_typical(np.full((2, 3), np.nan)).any()


def test_quartiles_hold_equally_many_voxels_and_all_of_them():
    rng = np.random.default_rng(5)
    bold = np.concatenate([rng.uniform(0.1, 2, 80), -rng.uniform(0.1, 2, 40)])
    labels = np.where(bold > 0, rng.integers(1, 3, 120), rng.integers(3, 5, 120))
    rows = discordance_by_quartile(labels, bold)
    sizes = [row['n_concordant'] + row['n_discordant'] for row in rows]
    assert sizes == [20] * 4 + [10] * 4
    assert discordance_by_quartile([0, 7, 5], [1, 1, 1]) == []


def test_conjunction_counts_only_opposite_and_decided_voxels():
    counts = conjunction([1, 1, 5, 1], [3, 1, 3, 4], [1, 1, 1, 1], [-1, 1, -1, -1])
    assert counts['first_up'] == {'concordant': 1, 'discordant': 0, 'inconsistent': 1}
    assert counts['second_up'] == {'concordant': 0, 'discordant': 0, 'inconsistent': 0}
