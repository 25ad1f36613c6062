"""Labels: the published sign rule, the robust rule, and how they are counted."""

from __future__ import annotations

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.concordance.labels import (
    LABEL_COLORS,
    LABEL_NAMES,
    Label,
    bold_gate,
    concordance_summary,
    discordance_probability,
    estimate_shares,
    false_discovery_rate,
    gate_by_probability,
    label_by_posterior,
    label_by_probability,
    label_by_sign,
    label_robust,
    share_rows,
    within_limits,
)
from bids_app.models.estimate import Estimate

SUMMARY_COLUMNS = [
    'rule', 'bold', 'network', 'n_voxels', 'n_concordant', 'n_discordant', 'n_undetermined',
    'discordant_fraction', 'ci_low', 'ci_high', 'null_fraction', 'note',
]  # fmt: skip


def test_label_table_has_a_name_and_a_colour_of_its_own_per_code():
    assert list(LABEL_NAMES) == list(LABEL_COLORS) == list(Label) == list(range(8))
    assert len(set(LABEL_NAMES.values())) == len(set(LABEL_COLORS.values())) == 8


def test_q_values_follow_the_step_up_rule():
    p = np.array([0.01, 0.02, 0.03, 0.5])
    # q_(i) = min over j >= i of p_(j) m/j
    np.testing.assert_allclose(false_discovery_rate(p), [0.04, 0.04, 0.04, 0.5])


def test_q_values_ignore_missing_tests_and_keep_the_order_of_the_input():
    p = np.array([[0.5, np.nan, 0.03], [0.02, 0.01, np.nan]])
    q = false_discovery_rate(p)
    np.testing.assert_allclose(q, [[0.5, np.nan, 0.04], [0.04, 0.04, np.nan]])
    assert np.isnan(false_discovery_rate([np.nan, np.nan])).all()
    assert false_discovery_rate([]).size == 0


def test_q_values_refuse_what_is_no_probability():
    with pytest.raises(ModelInputError, match=r'\[0, 1\]'):
        false_discovery_rate([0.5, 1.2])


def test_gate_keeps_false_discoveries_below_its_level():
    rng = np.random.default_rng(0)
    truth = np.repeat([0.0, 4.0], [9000, 1000])
    shares = []
    for _ in range(20):
        bold = Estimate.of(truth + rng.normal(size=truth.size), 1.0)
        gate = bold_gate(bold, q=0.05, mask=np.ones(truth.size, bool))
        shares.append(np.mean(truth[gate] == 0))
    assert 0.03 < np.mean(shares) < 0.055


def test_gate_tests_only_within_the_mask():
    p = np.array([0.02, 1e-9, 0.9])
    assert gate_by_probability(p, q=0.05, mask=[True, False, True]).tolist() == [
        True,
        False,
        False,
    ]
    assert gate_by_probability(p, q=0.05, mask=[True, False, False])[0]
    assert not gate_by_probability([np.nan], q=0.05, mask=[True])[0]


@pytest.mark.parametrize('level', [0.0, 1.0, -0.1, float('nan')])
def test_gate_refuses_a_level_that_is_no_rate(level):
    with pytest.raises(ModelInputError, match='false discovery rate'):
        gate_by_probability([0.5], q=level, mask=[True])


@pytest.mark.parametrize(
    ('bold', 'change', 'label'),
    [
        (1, 1, Label.CONCORDANT_POSITIVE),
        (1, -1, Label.DISCORDANT_POSITIVE),
        (-1, -1, Label.CONCORDANT_NEGATIVE),
        (-1, 1, Label.DISCORDANT_NEGATIVE),
        (1, 0, Label.OUTSIDE),
        (1, np.nan, Label.OUTSIDE),
        (np.nan, 1, Label.OUTSIDE),
    ],
)
def test_sign_rule_reads_the_two_signs(bold, change, label):
    assert label_by_sign([bold], [change], [True], [True])[0] == label


def test_sign_rule_marks_the_rest_of_the_mask_as_not_significant():
    labels = label_by_sign([1, 1, 1], [1, 1, np.nan], [False] * 3, [True, False, True])
    assert labels.tolist() == [Label.NOT_SIGNIFICANT, Label.OUTSIDE, Label.OUTSIDE]
    assert labels.dtype == np.uint8


def test_robust_rule_agrees_with_the_sign_rule_where_the_sign_is_known_and_only_there():
    rng = np.random.default_rng(1)
    bold = Estimate.of(rng.normal(0, 1, 4000), 0.01)
    change = Estimate.of(rng.normal(0, 4, 4000), 1.0)
    mask = rng.random(4000) < 0.9
    gate = bold_gate(bold, q=0.05, mask=mask)
    sign = label_by_sign(bold.value, change.value, gate, mask)
    robust = label_robust(bold, change, gate, mask, level=0.05)
    undetermined = np.isin(robust, [Label.UNDETERMINED_POSITIVE, Label.UNDETERMINED_NEGATIVE])
    np.testing.assert_array_equal(robust[~undetermined], sign[~undetermined])
    np.testing.assert_array_equal(
        robust[undetermined] == Label.UNDETERMINED_POSITIVE, bold.value[undetermined] > 0
    )
    assert 0.2 < undetermined[gate].mean() < 0.8
    known = np.abs(change.value[gate & ~undetermined])
    assert known.min() > np.abs(change.value[gate & undetermined]).max()


def test_robust_rule_has_few_wrong_signs_where_the_sign_rule_has_many():
    rng = np.random.default_rng(2)
    truth = np.where(rng.random(20000) < 0.5, 0.3, 4.0)
    change = Estimate.of(truth + rng.normal(0, 1, truth.size), 1.0)
    bold, everywhere = Estimate.of(np.ones(truth.size), 0.01), np.ones(truth.size, bool)
    sign = label_by_sign(bold.value, change.value, everywhere, everywhere)
    robust = label_robust(bold, change, everywhere, everywhere, level=0.05)
    assert np.mean(sign == Label.DISCORDANT_POSITIVE) > 0.15
    decided = robust[robust <= Label.DISCORDANT_NEGATIVE]
    assert decided.size > 0.4 * truth.size
    assert np.mean(decided == Label.DISCORDANT_POSITIVE) < 0.05


def test_robust_rule_leaves_a_null_undetermined():
    rng = np.random.default_rng(3)
    change = Estimate.of(rng.normal(size=5000), 1.0)
    bold, everywhere = Estimate.of(rng.choice([-1.0, 1.0], 5000), 0.01), np.ones(5000, bool)
    robust = label_robust(bold, change, everywhere, everywhere, level=0.05)
    assert np.mean(robust <= Label.DISCORDANT_NEGATIVE) <= 0.05


def test_change_without_sign_is_undetermined_not_outside():
    bold, change = Estimate.of([1.0, -1.0], 0.01), Estimate.of([0.0, 0.0], 0.0)
    robust = label_robust(bold, change, [True, True], [True, True], level=0.05)
    assert robust.tolist() == [Label.UNDETERMINED_POSITIVE, Label.UNDETERMINED_NEGATIVE]


def test_correction_counts_only_the_gated_voxels():
    change, p = np.ones(100), np.full(100, 0.9)
    p[0] = 0.04
    gate = np.arange(100) < 1
    labels = label_by_probability(np.ones(100), change, p, gate, np.ones(100, bool), q=0.05)
    assert labels[0] == Label.CONCORDANT_POSITIVE
    wide = label_by_probability(np.ones(100), change, p, ~gate | gate, np.ones(100, bool), q=0.05)
    assert wide[0] == Label.UNDETERMINED_POSITIVE


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ModelInputError, match='equal shapes'):
        label_by_sign([1, 1], [1], [True], [True])
    with pytest.raises(ModelInputError, match='equal shapes'):
        concordance_summary([1, 2], rule='sign', networks={'DMN': [True]})


def test_inputs_are_never_modified():
    arrays = [np.array([1.0, -1.0]), np.array([1.0, 1.0]), np.array([True, True])]
    for array in arrays:
        array.flags.writeable = False
    bold, change, gate = arrays
    assert label_by_sign(bold, change, gate, gate).tolist() == [1, 4]


def test_summary_counts_every_voxel_once_and_shares_follow():
    labels = np.repeat(list(Label), [50, 30, 10, 6, 12, 4, 3, 80])
    rows = concordance_summary(labels, rule='robust')
    assert [list(row) for row in rows] == [SUMMARY_COLUMNS] * 3
    everything, positive, negative = rows
    assert [row['bold'] for row in rows] == ['all', 'positive', 'negative']
    assert (positive['n_concordant'], positive['n_discordant']) == (30, 10)
    assert positive['discordant_fraction'] == 0.25
    assert negative['discordant_fraction'] == pytest.approx(12 / 18)
    assert everything['n_voxels'] == 65 == positive['n_voxels'] + negative['n_voxels']
    assert everything['n_undetermined'] == 7
    assert everything['discordant_fraction'] == pytest.approx(22 / 58)


def test_summary_of_the_published_counts_gives_the_published_shares():
    # calc-control of the critique (Goltermann et al. 2026): 3225/48 positive, 113/992 negative.
    labels = np.repeat([1, 2, 3, 4, 5, 6], [3225, 48, 113, 992, 9142, 5670])
    everything, positive, negative = concordance_summary(labels, rule='ttest')
    assert everything['n_voxels'] == 19190
    assert everything['n_undetermined'] / everything['n_voxels'] == pytest.approx(0.7719, abs=5e-5)
    assert everything['discordant_fraction'] == pytest.approx(0.238, abs=5e-4)
    assert positive['discordant_fraction'] == pytest.approx(0.015, abs=5e-4)
    assert negative['discordant_fraction'] == pytest.approx(0.898, abs=5e-4)


def test_summary_counts_within_networks():
    labels = np.array([1, 2, 3, 1])
    rows = concordance_summary(labels, rule='sign', networks={'DMN': [True, True, False, False]})
    assert [row['network'] for row in rows] == ['all'] * 3 + ['DMN'] * 3
    assert (rows[3]['n_concordant'], rows[3]['n_discordant']) == (1, 1)


def test_summary_has_no_share_where_nothing_is_decided_and_says_why():
    row = concordance_summary(np.array([5, 7, 0]), rule='robust')[0]
    assert row['n_voxels'] == 1
    assert np.isnan(row['discordant_fraction'])
    assert 'no voxel' in row['note']
    assert np.isnan(row['ci_low'])
    assert np.isnan(row['null_fraction'])


def both(n=6000, *, discordant, seed=0):
    """Estimate a strong BOLD change and a CMRO2 change of which a share is opposite."""
    rng = np.random.default_rng(seed)
    sign = rng.choice([-1.0, 1.0], n)
    opposite = rng.random(n) < discordant
    bold = Estimate.of(sign + rng.normal(0, 0.2, n), 0.04)
    truth = sign * np.where(opposite, -5.0, 5.0)
    return bold, Estimate.of(truth + rng.normal(0, 5.0, n), 25.0), opposite


def test_posterior_probability_is_calibrated_or_nearer_to_one_half():
    bold, change, opposite = both(discordant=0.5)
    everywhere = np.ones(opposite.size, bool)
    probability = discordance_probability(bold, change, everywhere, everywhere)
    for low, high in ((0.0, 0.2), (0.8, 1.0)):
        chosen = (probability >= low) & (probability <= high)
        assert chosen.any()
        assert abs(opposite[chosen].mean() - 0.5) >= abs(probability[chosen].mean() - 0.5) - 0.05


def test_posterior_is_given_inside_the_gate_only():
    bold, change, _ = both(n=100, discordant=0.5)
    gate, mask = np.arange(100) < 60, np.arange(100) >= 20
    probability = discordance_probability(bold, change, gate, mask)
    np.testing.assert_array_equal(np.isfinite(probability), gate & mask)


def test_noise_corrected_rows_stand_beside_what_noise_alone_would_make():
    bold, change, opposite = both(discordant=0.1)
    everywhere = np.ones(opposite.size, bool)
    networks = {'Vis': np.arange(opposite.size) < 3000}
    shares = estimate_shares(
        bold, change, everywhere, everywhere, smallest_effect=1.0, networks=networks
    )
    rows = share_rows(shares, 1.0)
    assert [list(row) for row in rows] == [SUMMARY_COLUMNS] * 18
    assert [row['rule'] for row in rows[:3]] == ['size_weighted', 'noise_corrected', 'noise_only']
    weighted, corrected, noise = rows[:3]
    assert weighted['ci_low'] <= 0.1 <= weighted['ci_high']
    assert weighted['n_concordant'] is None
    assert corrected['ci_low'] <= 0.1 <= corrected['ci_high']
    assert corrected['discordant_fraction'] < 0.17
    assert 0.1 < noise['discordant_fraction'] < 0.25
    assert corrected['n_voxels'] == opposite.size
    total = sum(corrected[f'n_{name}'] for name in ('concordant', 'discordant', 'undetermined'))
    assert total == opposite.size
    assert 'on a grid' in corrected['note']


@pytest.mark.parametrize('defect', ['no gate', 'no variance', 'no change'])
def test_bad_input_has_a_reason_instead_of_a_number(defect):
    bold, change, _ = both(n=500, discordant=0.2)
    everywhere = np.ones(500, bool)
    gate = everywhere & (defect != 'no gate')
    if defect == 'no variance':
        change = Estimate.of(change.value, 0.0)
    if defect == 'no change':
        change = Estimate.of(np.zeros(500), 0.0)  # baseline equal to task
    rows = share_rows(estimate_shares(bold, change, gate, everywhere, smallest_effect=1.0), 1.0)
    assert all(np.isnan(row['discordant_fraction']) for row in rows)
    assert rows[0]['note'] == 'no voxel with an estimate and its error'
    labels = label_robust(bold, change, gate, everywhere, level=0.05)
    assert not np.isin(labels, (1, 2, 3, 4)).any()


@pytest.mark.parametrize('bad', [-1.0, np.nan, np.inf])
def test_variance_that_is_impossible_costs_its_voxel_and_no_other(bad):
    bold, change, _ = both(n=500, discordant=0.2)
    gate, spoilt = np.ones(500, bool), np.arange(500) < 10
    both_bad = [
        Estimate.of(one.value, np.where(spoilt, bad, one.variance)) for one in (bold, change)
    ]
    assert not bold_gate(both_bad[0], q=0.05, mask=gate)[spoilt].any()
    labels = label_robust(*both_bad, gate, gate, level=0.05)
    assert (labels[spoilt] == Label.OUTSIDE).all()
    assert (labels[~spoilt] != Label.OUTSIDE).all()
    rows = share_rows(estimate_shares(*both_bad, gate, gate, smallest_effect=1.0), 1.0)
    assert rows[0]['n_voxels'] == 490
    assert np.isfinite(rows[0]['discordant_fraction'])


def test_limits_hold_for_every_map_and_nan_lies_nowhere():
    oef = [0.4, 0.95, 0.4, np.nan, 0.0]
    rate = [20.0, 20.0, 5.0, 20.0, 20.0]
    inside = within_limits([oef, rate], [(0.0, 0.9), (1 / 0.09, np.inf)])
    assert inside.tolist() == [True, False, False, False, False]
    with pytest.raises(ModelInputError, match='one pair of limits per map'):
        within_limits([oef], [])


def test_labels_need_both_ends_of_the_interval_and_none_is_given_where_nothing_may_have_changed():
    bold, change, opposite = both(discordant=0.1)
    everywhere = np.ones(opposite.size, bool)
    shares = estimate_shares(bold, change, everywhere, everywhere, smallest_effect=1.0)
    prior = shares['all', 'all'].prior
    given = bold, change, everywhere, everywhere
    labels, expected = label_by_posterior(*given, level=0.05, prior=prior)
    decided = (labels >= Label.CONCORDANT_POSITIVE) & (labels <= Label.DISCORDANT_NEGATIVE)
    wrong = (np.isin(labels, (2, 4)) != opposite) & decided
    assert decided.sum() > 20
    assert wrong.sum() <= 0.05 * decided.sum()
    assert expected <= 0.05 * decided.sum()
    none, nothing = label_by_posterior(*given, level=0.05, prior=None)
    assert not np.isin(none, (1, 2, 3, 4)).any()
    assert nothing == 0


def test_posterior_is_calibrated():
    """Among voxels whose probability of opposition is near p, the share p is opposed."""
    bold, change, opposite = both(n=20_000, discordant=0.2)
    everywhere = np.ones(opposite.size, bool)
    shares = estimate_shares(bold, change, everywhere, everywhere, smallest_effect=1.0)
    given = bold, change, everywhere, everywhere
    probability = discordance_probability(*given, prior=shares['all', 'all'].prior)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0)):
        here = (probability >= low) & (probability < high)
        if here.sum() > 100:
            assert opposite[here].mean() == pytest.approx(probability[here].mean(), abs=0.1)
