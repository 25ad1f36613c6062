"""What share of the changes opposes BOLD: truth, intervals, and when nothing can be said."""

from __future__ import annotations

import time

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.concordance.ashr import false_sign_rate, spatial_blocks
from bids_app.models.concordance.discordance import (
    SignPrior,
    discordant_shares,
    estimate_discordance,
    jackknife_reach,
    sign_posterior,
)
from bids_app.models.numerics.noise import error_scales
from tests.paths import REFS

N = 8000
SHAPES = {
    'bounded': lambda rng, n: rng.uniform(0.5, 1.5, n),
    'half-normal': lambda rng, n: np.abs(rng.normal(size=n)) * np.sqrt(np.pi / 2),
}


def draw(seed=0, *, discordant=0.0, noise=1.0, shape='bounded', n=N):
    """Make effects of mean size 1 with a share of negative ones, and estimates of them."""
    rng = np.random.default_rng(seed)
    truth = SHAPES[shape](rng, n) * np.where(rng.random(n) < discordant, -1, 1)
    error = noise * np.exp(0.2 * rng.normal(size=n))
    return truth, truth + error * rng.normal(size=n), error


# ------------------------------------------------------------------------------ the share


@pytest.mark.parametrize(('noise', 'bar'), [(0.5, 0.03), (1.0, 0.07), (2.0, 0.08)])
@pytest.mark.parametrize('discordant', [0.0, 0.1, 0.4])
@pytest.mark.parametrize('shape', SHAPES)
def test_share_of_negative_effects_survives_noise(shape, discordant, noise, bar):
    _, x, error = draw(8, discordant=discordant, noise=noise, shape=shape, n=27_000)
    found = estimate_discordance(x, error, smallest_effect=0.15)
    assert found.count.value == pytest.approx(discordant, abs=bar)
    assert found.count.low <= discordant <= found.count.high
    assert found.count.low <= found.count.value <= found.count.high
    assert found.converged


def test_sign_rule_and_noise_only_share_agree_where_nothing_is_discordant():
    _, x, error = draw(9, noise=2.0, n=27_000)
    found = estimate_discordance(x, error, smallest_effect=0.15, intervals=())
    assert found.sign_fraction > 0.25
    assert found.noise_only_fraction == pytest.approx(found.sign_fraction, abs=0.02)


@pytest.mark.parametrize('noise', [0.5, 1.0, 2.0])
def test_without_change_the_share_is_undefined(noise):
    rng = np.random.default_rng(10)
    found = estimate_discordance(
        noise * rng.normal(size=N), np.full(N, noise), smallest_effect=0.15
    )
    assert np.isnan(found.count.value)
    assert found.reason == 'no change detectable'
    assert found.null.high == 1.0


def test_smaller_errors_make_more_discordance():
    _, x, error = draw(11, noise=2.0)
    found = estimate_discordance(x, error, smallest_effect=0.15, intervals=())
    assert found.count.by_scale[2] < found.count.by_scale[0]
    assert found.size.by_scale[2] < found.size.by_scale[0]


def test_noise_in_blocks_widens_the_interval():
    rng = np.random.default_rng(12)
    block = np.repeat(np.arange(80), 100)
    truth = np.where(rng.random(block.size) < 0.2, -1.0, 1.0)
    shared = np.sqrt(0.5) * (rng.normal(size=80)[block] + rng.normal(size=block.size))
    apart = rng.normal(size=block.size)
    wide, narrow = (
        estimate_discordance(
            truth + noise, np.ones(block.size), smallest_effect=0.15, blocks=block
        )
        for noise in (shared, apart)
    )
    assert wide.design_effect > 2 * narrow.design_effect
    assert wide.count.low <= 0.2 <= wide.count.high


def test_few_blocks_give_no_interval():
    _, x, error = draw(13, noise=0.5)
    found = estimate_discordance(x, error, smallest_effect=0.15, blocks=np.arange(N) % 3)
    assert np.isnan(found.count.low)
    assert np.isfinite(found.count.value)
    assert '3 blocks' in found.reason


def test_columns_must_fit_together():
    with pytest.raises(ModelInputError, match='blocks and directions must be like'):
        estimate_discordance([1.0, 2.0], [1.0, 1.0], smallest_effect=0.0, blocks=[1])
    with pytest.raises(ModelInputError, match='at least 0'):
        estimate_discordance([1.0], [1.0], smallest_effect=-1.0)
    with pytest.raises(ModelInputError, match='positive numbers'):
        estimate_discordance([1.0], [1.0], smallest_effect=0.0, error_scales=(0.0, 1.0))


# ------------------------------------------------------------------------------ weighed by size


@pytest.mark.parametrize('discordant', [0.0, 0.1, 0.4])
@pytest.mark.parametrize('shape', SHAPES)
def test_share_weighed_by_size_is_that_of_the_truth_and_known_better(shape, discordant):
    truth, x, error = draw(21, discordant=discordant, noise=1.0, shape=shape, n=20_000)
    found = estimate_discordance(x, error, smallest_effect=0.15)
    true = np.maximum(-truth, 0).sum() / np.abs(truth).sum()
    assert found.size.value == pytest.approx(true, abs=0.03)
    assert found.size.low <= true <= found.size.high
    assert found.size.high - found.size.low < found.count.high - found.count.low
    assert found.mean_size == pytest.approx(np.abs(truth).mean(), rel=0.1)


def test_interval_holds_the_estimates_of_every_scale_of_the_errors():
    _, x, error = draw(22, discordant=0.1, noise=2.0)
    found = estimate_discordance(x, error, smallest_effect=0.15)
    alone = estimate_discordance(x, error, smallest_effect=0.15, error_scales=(1.0,))
    for share, narrow in ((found.size, alone.size), (found.count, alone.count)):
        assert len(share.by_scale) == 3
        assert share.low <= min(share.by_scale)
        assert share.high >= max(share.by_scale)
        assert share.low <= narrow.low
        assert share.high >= narrow.high
        assert share.value == narrow.value


def test_errors_ten_percent_too_small_do_not_break_the_interval():
    """Everything is concordant; the stated error is too small by as much as the union allows."""
    _, x, error = draw(23, noise=1.0, n=20_000)
    found = estimate_discordance(x, 0.9 * error, smallest_effect=0.15)
    assert found.size.low <= 0.005
    alone = estimate_discordance(x, 0.9 * error, smallest_effect=0.15, error_scales=(1.0,))
    assert found.size.low <= alone.size.low


def test_errors_that_a_calibration_finds_too_small_do_not_break_the_interval():
    """Stated errors are 25 % too small, which the halves of a scan tell."""
    truth, x, error = draw(23, noise=2.0, n=20_000)
    at = {'smallest_effect': 0.15, 'blocks': np.arange(truth.size) // 100}
    told = estimate_discordance(x, 0.8 * error, error_scales=error_scales([1.25]), **at)
    untold = estimate_discordance(x, 0.8 * error, **at)
    assert told.size.low <= 0.002
    assert untold.size.low > 0.005
    assert told.count.low <= 0.002


def test_patches_of_truth_are_no_noise_where_participants_tell_what_is():
    """Blocks scatter by what is true in them as well; the interval of a group need not."""
    rng = np.random.default_rng(41)
    block = np.repeat(np.arange(50), 60)
    opposed = np.where(rng.random(50) < 0.4, -1.0, 1.0)[block]
    shape = (12, block.size)
    values = 2.0 * opposed + np.sqrt(24.0) * rng.normal(size=shape)
    truth = np.mean(opposed < 0)
    groups = [np.delete(values, n, axis=0) for n in range(12)]
    left_out = [(one.mean(axis=0), np.full(block.size, np.sqrt(24 / 11))) for one in groups]
    given = (values.mean(axis=0), np.full(block.size, np.sqrt(2.0)))
    at = {'smallest_effect': 0.3, 'blocks': block, 'intervals': ('size',)}
    by_participants = estimate_discordance(*given, left_out=left_out, **at).size
    by_blocks = estimate_discordance(*given, **at).size
    assert by_participants.low <= truth <= by_participants.high
    assert by_participants.high - by_participants.low < 0.7 * (by_blocks.high - by_blocks.low)


def test_jackknife_over_participants_replaces_that_over_blocks():
    _, x, error = draw(24, discordant=0.2)
    rng = np.random.default_rng(24)
    left_out = [(x + 0.5 * rng.normal(size=1), error) for _ in range(10)]
    shaken = estimate_discordance(x, error, smallest_effect=0.15, left_out=left_out)
    plain = estimate_discordance(x, error, smallest_effect=0.15)
    assert shaken.size.jackknife > 2 * plain.size.jackknife
    assert shaken.size.high > plain.size.high
    assert np.isnan(jackknife_reach([1.0]))


# ------------------------------------------------------------------------------ nothing changed


def test_change_common_to_all_voxels_is_no_discordance():
    """D is one number everywhere: increases look concordant, decreases discordant."""
    rng = np.random.default_rng(25)
    sign = np.where(rng.random(N) < 0.6, 1.0, -1.0)
    x = sign * (2.0 + rng.normal(size=N))
    found = estimate_discordance(x, np.ones(N), smallest_effect=0.2, direction=sign)
    assert np.isnan(found.size.value)
    assert found.is_offset
    assert 'a change of 1.99 common to all' in found.reason
    assert found.prior is None
    assert np.isfinite(estimate_discordance(x, np.ones(N), smallest_effect=0.2).size.value)


def test_offset_on_top_of_true_changes_does_not_withhold_them():
    rng = np.random.default_rng(26)
    sign = np.where(rng.random(N) < 0.6, 1.0, -1.0)
    x = 2.0 * rng.gamma(2.0, 0.5, N) + sign * 1.0 + rng.normal(size=N)
    found = estimate_discordance(x, np.ones(N), smallest_effect=0.2, direction=sign)
    assert np.isfinite(found.size.value)


@pytest.mark.parametrize('seed', [0, 1, 3])
def test_offset_is_compared_with_changes_that_know_where_bold_rises_too(seed):
    """Changes as large as their error, 40 % opposite, and an offset of the same size."""
    # fitted to sign(BOLD) D alone, blind to where BOLD rises, these lost against an offset that
    # knows it
    rng = np.random.default_rng([40, seed])
    sign = np.where(rng.random(3000) < 0.6, 1.0, -1.0)
    change = rng.gamma(2.0, 0.5, 3000) * np.where(rng.random(3000) < 0.4, -1.0, 1.0)
    x = change + sign * 1.0 + rng.normal(size=3000)
    at = {'smallest_effect': 0.25, 'direction': sign, 'intervals': ()}
    assert not estimate_discordance(x, np.ones(3000), **at).reason
    nothing = sign * 1.0 + rng.normal(size=3000)
    assert estimate_discordance(nothing, np.ones(3000), **at).is_offset


def test_reason_from_elsewhere_withholds():
    _, x, error = draw(27)
    found = estimate_discordance(x, error, smallest_effect=0.15, withheld='no test passed')
    assert np.isnan(found.size.value)
    assert found.reason == 'no test passed'


@pytest.mark.prove
@pytest.mark.parametrize('offset', [0.0, 0.6])
def test_null_is_withheld_in_most_studies_with_and_without_offset(offset):
    """Correlated noise with blocks of its own, an offset that is common to all."""
    defined = 0
    for seed in range(40):
        rng = np.random.default_rng([28, seed])
        block = np.repeat(np.arange(60), 80)
        noise = np.sqrt(0.5) * (rng.normal(size=60)[block] + rng.normal(size=block.size))
        sign = np.where(rng.random(block.size) < 0.6, 1.0, -1.0)
        found = estimate_discordance(
            sign * (offset + noise),
            np.ones(block.size),
            smallest_effect=0.2,
            direction=sign,
            blocks=block,
            intervals=(),
        )
        defined += not found.reason
    assert defined <= 4


# ------------------------------------------------------------------------------ posterior


def test_posterior_is_that_of_bayes_on_two_points():
    prior = SignPrior(
        locations=np.array([-1.0, 1.0]), weights=np.array([[0.2, 0.8]]), scales=np.array([2.0])
    )
    negative, rate = sign_posterior([0.5, np.nan], [1.0, 1.0], prior)
    low, high = (w * np.exp(-(((0.5 - at) / 2) ** 2) / 2) for at, w in ((-1, 0.2), (1, 0.8)))
    assert negative[0, 0] == pytest.approx(low / (low + high))
    assert rate[0, 0] == pytest.approx(min(low, high) / (low + high))
    assert np.isnan(negative[0, 1])


def test_heavy_tails_make_outliers_less_certain():
    prior = SignPrior(
        locations=np.array([-1.0, 1.0]), weights=np.array([[0.5, 0.5]]), scales=np.array([1.0])
    )
    normal, heavy = (sign_posterior([6.0], [1.0], prior, dof=dof)[1] for dof in (np.inf, 5.0))
    assert heavy[0, 0] > 100 * normal[0, 0]


def test_prior_holds_both_ends_of_the_interval_of_the_share():
    _, x, error = draw(29, discordant=0.2)
    found = estimate_discordance(x, error, smallest_effect=0.15)
    below, above = (found.prior.locations < -0.15), (found.prior.locations > 0.15)
    shares = [
        weights[below].sum() / weights[below | above].sum() for weights in found.prior.weights
    ]
    assert len(shares) == 3
    assert shares[1] < shares[0] < shares[2]
    assert shares[1] == pytest.approx(found.count.low, abs=0.05)


# ------------------------------------------------------------------------------ speed


@pytest.mark.prove
def test_sixty_thousand_voxels_in_two_seconds_and_sixty():
    _, x, error = draw(14, discordant=0.3, n=60_000)
    block = np.arange(x.size) // 150
    start = time.perf_counter()
    false_sign_rate(x, error)
    for part in (x, x[:40_000], x[40_000:]):
        estimate_discordance(part, error[: part.size], smallest_effect=0.15, intervals=())
    without = time.perf_counter() - start
    start = time.perf_counter()
    for part in (x, x[:40_000], x[40_000:]):
        estimate_discordance(
            part, error[: part.size], smallest_effect=0.15, blocks=block[: part.size]
        )
    assert without < 2
    assert time.perf_counter() - start < 60


def test_shares_alone_are_those_of_the_whole_estimate():
    rng = np.random.default_rng(31)
    x = np.where(rng.random(3000) < 0.2, -2.0, 2.0) + rng.normal(size=3000)
    whole = estimate_discordance(x, np.ones(3000), smallest_effect=0.2, intervals=())
    count, size = discordant_shares(x, np.ones(3000), smallest_effect=0.2)
    assert count == pytest.approx(whole.count.value, abs=1e-12)
    assert size == pytest.approx(whole.size.value, abs=1e-12)
    assert np.isnan(discordant_shares([np.nan], [1.0], smallest_effect=0.2)).all()


# ------------------------------------------------------------------------------ a published table


def published(kind='median'):
    """Read effects of the critique's gated voxels, percent: aligned, sign of BOLD, blocks."""
    folder = REFS / 'critique'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not here')
    name = 'calccontrol_Stage1TtestFDR0.05_BOLDsig'
    table = pd.read_csv(folder / f'{name}_voxels.csv.gz')
    mask = np.asarray(nb.load(folder / f'{name}_mask.nii.gz').dataobj) > 0
    sign = np.sign(table[f'bold_{kind}'].to_numpy())
    blocks = spatial_blocks(np.argwhere(mask) * 2.0, side=18.0)
    return table[f'dcmr_{kind}'].to_numpy(), sign, blocks


EXACT = [
    # subtracted (%), sign of BOLD, sign rule, pi_d with interval: an independent computation
    (0.0, 0, 0.36, (0.22, 0.04, 0.59)),
    (0.0, 1, 0.22, (0.02, 0.00, 0.23)),
    (0.0, -1, 0.62, (0.80, 0.26, 0.97)),
    (1.5, 1, 0.34, (0.15, 0.00, 0.60)),
    (1.5, -1, 0.49, (0.43, 0.09, 0.92)),
    (3.0, 0, 0.43, (0.34, 0.06, 0.75)),
    (3.0, 1, 0.47, (0.48, 0.02, 0.85)),
    (3.0, -1, 0.36, (0.20, 0.07, 0.53)),
]


@pytest.mark.parametrize(('offset', 'wanted', 'sign_rule', 'pi_d'), EXACT)
def test_published_table_turns_with_a_common_offset(offset, wanted, sign_rule, pi_d):
    change, sign, blocks = published()
    x = sign * (change - offset)
    chosen = sign == wanted if wanted else sign != 0
    found = estimate_discordance(
        x[chosen], np.full(chosen.sum(), 3.5), smallest_effect=1.0, blocks=blocks[chosen]
    )
    assert found.sign_fraction == pytest.approx(sign_rule, abs=0.011)
    assert found.count.value == pytest.approx(pi_d[0], abs=0.02)
    # that interval knows neither a jackknife nor another scale of the errors
    assert found.count.low <= pi_d[1] + 0.02
    assert found.count.high >= pi_d[2] - 0.02


@pytest.mark.parametrize(
    ('offset', 'wanted', 'w_d'),
    [
        (0.0, 0, (0.24, 0.13, 0.33)),
        (0.0, 1, (0.03, 0.00, 0.06)),
        (0.0, -1, (0.79, 0.68, 0.90)),
        (2.65, 0, (0.31, 0.18, 0.39)),
        (2.65, 1, (0.31, 0.12, 0.43)),
        (2.65, -1, (0.31, 0.19, 0.43)),
    ],
)
def test_published_table_weighed_by_size(offset, wanted, w_d):
    change, sign, blocks = published()
    chosen = sign == wanted if wanted else sign != 0
    found = estimate_discordance(
        (sign * (change - offset))[chosen],
        np.full(chosen.sum(), 3.5),
        smallest_effect=1.0,
        blocks=blocks[chosen],
    )
    assert found.size.value == pytest.approx(w_d[0], abs=0.02)
    assert found.size.low <= w_d[1] + 0.02
    assert found.size.high >= w_d[2] - 0.02
