"""R2, R2* and R2'."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.background_field import gradient_attenuation
from bids_app.models.relaxometry.decay import (
    echo_inconsistency,
    first_echo_departure,
    fit_r2,
    fit_r2_star,
    fit_r2_without_first,
    misfit_of_rate,
    predict_decay,
    rician_mean,
    time_from_rate,
)
from bids_app.models.status import Status, is_missing
from tests import strategies
from tests.paths import DATA

MESE = np.arange(1, 9) * 0.016
MEGRE = np.arange(1, 13) * 0.005
GREY_R2, GREY_R2_STAR = 1 / 0.074, 1 / 0.0545
property_test = settings(deadline=None, max_examples=40)


def rician(rng, signal, noise):
    return np.abs(
        signal + rng.normal(0, noise, signal.shape) + 1j * rng.normal(0, noise, signal.shape)
    )


def published_vectors():
    return json.loads((DATA / 'ukat' / 'relaxometry_vectors.json').read_text())


# --- closed forms and round trips --------------------------------------------------------------


def test_decay_has_published_values():
    """Numbers of UKRIN-MAPS/ukat 0.7.3, tests of T2 (120 ms) and T2* (50 ms), S0 3000."""
    t2 = predict_decay([0.012, 0.024, 0.120], 3000.0, 1 / 0.120)
    t2_star = predict_decay([0.005, 0.008, 0.038], 3000.0, 1 / 0.050)
    assert t2 == pytest.approx([2714.51225411, 2456.19225923, 1103.63832351], rel=1e-11)
    assert t2_star == pytest.approx([2714.51225411, 2556.4313669, 1402.99928103], rel=1e-11)


def test_published_trains_give_the_published_times():
    vectors = published_vectors()
    t2, t2_star = vectors['t2_ukat'], vectors['t2star_ukat']
    r2 = fit_r2([t2['signal']], echo_times=np.array(t2['te_ms']) / 1e3)
    r2_star = fit_r2_star([t2_star['signal']], 1.0, echo_times=np.array(t2_star['te_ms']) / 1e3)
    assert time_from_rate(r2).value == pytest.approx([0.120], rel=1e-8)
    assert time_from_rate(r2_star).value == pytest.approx([0.050], rel=1e-8)


@property_test
@given(strategies.echo_times(), strategies.signals(), strategies.rates())
def test_fit_inverts_the_decay(echo_times, s0, rate):
    estimate = fit_r2(predict_decay(echo_times, s0, rate), echo_times=echo_times)
    assert estimate.value == pytest.approx(rate, rel=1e-5)
    assert not is_missing(estimate.status).any()


@property_test
@given(strategies.signals(), strategies.rates(), strategies.gradients(), st.booleans())
def test_r2_star_does_not_see_a_known_background_gradient(s0, rate, gradient, reverse):
    attenuation = gradient_attenuation(gradient, slice_thickness=3e-3, echo_times=MEGRE)
    signal = predict_decay(MEGRE, s0, rate) * attenuation
    order = slice(None, None, -1 if reverse else 1)
    estimate = fit_r2_star(signal[:, order], attenuation[:, order], echo_times=MEGRE[order])
    fitted = ~is_missing(estimate.status)
    assert estimate.value[fitted] == pytest.approx(rate[fitted], rel=1e-5)
    assert (estimate.status[~fitted] == Status.GRADIENT_TOO_STRONG).all()
    assert fitted[np.abs(gradient) < 100e-6].all()


def test_uncorrected_gradient_shortens_t2_star():
    gradient = np.array([0.0, 20e-6, 40e-6])
    attenuation = gradient_attenuation(gradient, slice_thickness=3e-3, echo_times=MEGRE)
    signal = predict_decay(MEGRE, np.full(3, 1000.0), np.full(3, GREY_R2_STAR)) * attenuation
    uncorrected = fit_r2_star(signal, 1.0, echo_times=MEGRE).value
    assert uncorrected[0] == pytest.approx(GREY_R2_STAR, rel=1e-7)
    assert np.all(np.diff(uncorrected) > 0.5)


def test_rate_scales_inversely_with_time_and_ignores_gain():
    rng = np.random.default_rng(0)
    signal = rician(rng, predict_decay(MESE, np.full(50, 1000.0), np.full(50, GREY_R2)), 16)
    one = fit_r2(signal, echo_times=MESE)
    slow = fit_r2(signal, echo_times=2 * MESE)
    loud = fit_r2(7 * signal, echo_times=MESE)
    assert slow.value * 2 == pytest.approx(one.value, rel=1e-6)
    assert slow.variance * 4 == pytest.approx(one.variance, rel=1e-5)
    assert loud.value == pytest.approx(one.value, rel=1e-6)
    assert loud.variance == pytest.approx(one.variance, rel=1e-5)


# --- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('echo_times', 'rate'), [(MESE, GREY_R2), (MEGRE, GREY_R2_STAR), (MEGRE, 1 / 0.030)]
)
def test_fit_is_unbiased_and_its_interval_covers_at_a_signal_to_noise_ratio_of_60(
    echo_times, rate
):
    rng = np.random.default_rng(12)
    signal = predict_decay(echo_times, np.full(20_000, 1000.0), np.full(20_000, rate))
    estimate = fit_r2(rician(rng, signal, 1000 / 60), echo_times=echo_times)
    z = (estimate.value - rate) / np.sqrt(estimate.variance)
    assert np.median(estimate.value) == pytest.approx(rate, rel=0.012)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.01)
    assert estimate.dof > 100


def test_spread_reaches_the_cramer_rao_bound():
    rng = np.random.default_rng(13)
    s0, noise = 1000.0, 10.0
    signal = predict_decay(MEGRE, np.full(20_000, s0), np.full(20_000, GREY_R2_STAR))
    attenuation = gradient_attenuation(
        np.full(20_000, 30e-6), slice_thickness=3e-3, echo_times=MEGRE
    )
    noisy = signal * attenuation + rng.normal(0, noise, signal.shape)
    estimate = fit_r2_star(noisy, attenuation, echo_times=MEGRE)
    decay = attenuation[0] * np.exp(-GREY_R2_STAR * MEGRE)
    jacobian = np.stack([decay, -MEGRE * s0 * decay], axis=1)
    bound = noise**2 * np.linalg.inv(jacobian.T @ jacobian)[1, 1]
    assert estimate.value.var() == pytest.approx(bound, rel=0.05)
    assert np.median(estimate.variance) == pytest.approx(bound, rel=0.05)


def test_noise_groups_have_their_own_noise():
    rng = np.random.default_rng(14)
    groups = np.repeat([0, 1], 5000)
    noise = np.where(groups == 0, 5.0, 20.0)[:, None]
    signal = predict_decay(MESE, np.full(10_000, 1000.0), np.full(10_000, GREY_R2))
    estimate = fit_r2(
        signal + noise * rng.normal(size=signal.shape), echo_times=MESE, noise_groups=groups
    )
    quiet, loud = (np.median(estimate.variance[groups == group]) for group in (0, 1))
    assert loud / quiet == pytest.approx(16, rel=0.1)


# --- difficult voxels --------------------------------------------------------------------------


def test_every_missing_rate_has_its_reason_and_leaves_neighbours_alone():
    clean = predict_decay(MESE, np.full(8, 1000.0), np.full(8, GREY_R2))
    signal = clean.copy()
    signal[0] = np.nan
    signal[1] = 0
    signal[2, 2:] = 0
    signal[3, 1:] = np.nan
    signal[4, 2] = np.inf
    signal[4, 5] = -3
    signal[5, 1:] = 1e-9
    estimate = fit_r2(signal, echo_times=MESE)
    assert list(estimate.status) == [
        Status.INVALID_INPUT,
        Status.NO_SIGNAL,
        Status.TOO_FEW_SAMPLES,
        Status.INVALID_INPUT,
        Status.OK,
        Status.AT_BOUND,
        Status.OK,
        Status.OK,
    ]
    assert estimate.value[[4, 6, 7]] == pytest.approx([GREY_R2] * 3, rel=1e-7)
    assert np.array_equal(estimate.value[6:], fit_r2(clean, echo_times=MESE).value[6:])


def test_rising_signal_gives_a_negative_rate_and_time_both_flagged():
    rate = fit_r2(predict_decay(MESE, [100.0], [-0.5]), echo_times=MESE)
    assert rate.value == pytest.approx([-0.5], rel=1e-6)
    assert rate.status[0] == Status.NEGATIVE
    time = time_from_rate(rate)
    assert time.value == pytest.approx([-2.0], rel=1e-6)
    assert time.status[0] == Status.NEGATIVE


def test_a_rate_is_had_back_from_its_time_also_where_noise_made_it_negative():
    """A replay starts from saved times; what the first run kept must be there again."""
    rate = Estimate.of([20.0, -0.4, 0.0], 0.09)
    time = time_from_rate(rate)
    assert time.status.tolist() == [Status.OK, Status.NEGATIVE, Status.INVALID_INPUT]
    again = time_from_rate(time)
    np.testing.assert_allclose(again.value, [20.0, -0.4, np.nan])
    np.testing.assert_allclose(again.variance, [0.09, 0.09, np.nan])


def test_echoes_beyond_the_dephasing_floor_are_not_used():
    attenuation = gradient_attenuation([120e-6], slice_thickness=3e-3, echo_times=MEGRE)
    visible = attenuation[0] >= 0.2
    assert 3 < visible.sum() < 12
    signal = predict_decay(MEGRE, [1000.0], [20.0]) * attenuation
    signal[:, ~visible] = 1e6
    assert fit_r2_star(signal, attenuation, echo_times=MEGRE).value == pytest.approx([20.0])


def test_echoes_after_the_first_zero_of_the_dephasing_are_not_used_though_it_rises_again():
    attenuation = np.array([0.9, 0.7, 0.5, 0.1, 0.3, 0.3])
    echo_times = MEGRE[:6]
    signal = predict_decay(echo_times, [1000.0], [20.0]) * attenuation
    signal[:, 4:] = 1e6
    estimate = fit_r2_star(signal, attenuation, echo_times=echo_times)
    assert estimate.value == pytest.approx([20.0])


def test_unknown_dephasing_is_not_taken_for_none():
    signal = predict_decay(MEGRE, np.full(2, 1000.0), np.full(2, 20.0))
    attenuation = np.ones(signal.shape)
    attenuation[0, 0] = np.nan
    attenuation[1] = np.nan
    estimate = fit_r2_star(signal, attenuation, echo_times=MEGRE)
    assert estimate.value[0] == pytest.approx(20.0)
    assert np.isnan(estimate.value[1])


def test_strong_gradient_and_missing_signal_are_told_apart():
    attenuation = np.array([[0.5, 0.1, 0.05, 0.01], [0.5, 0.4, 0.3, 0.25]])
    signal = np.array([[900.0, 200, 80, 10], [0, 0, 0, 0]])
    estimate = fit_r2_star(signal, attenuation, echo_times=MEGRE[:4])
    assert list(estimate.status) == [Status.GRADIENT_TOO_STRONG, Status.NO_SIGNAL]


def test_single_precision_and_read_only_input_are_tolerated():
    signal = predict_decay(MESE, np.full(3, 1000.0), np.full(3, GREY_R2)).astype(np.float32)
    signal.setflags(write=False)
    assert fit_r2(signal, echo_times=MESE).value == pytest.approx([GREY_R2] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ('signal', 'echo_times', 'text'),
    [
        (np.ones((2, 3)), [0.01, 0.02], 'echo_times'),
        (np.ones(3), [0.01, 0.02, 0.03], 'signal'),
        (np.ones((2, 3)), [0.01, 0.02, -0.03], 'positive'),
        (np.ones((2, 3)), [0.01, 0.02, np.nan], 'positive'),
        (np.ones((2, 3)), [0.01, 0.02, 0.02], 'different echo times'),
    ],
)
def test_contradictory_trains_are_refused(signal, echo_times, text):
    with pytest.raises(ModelInputError, match=text):
        fit_r2(signal, echo_times=echo_times)


def test_contradictory_dephasing_is_refused():
    with pytest.raises(ModelInputError, match='attenuation'):
        fit_r2_star(np.ones((2, 3)), np.ones((2, 4)), echo_times=[0.01, 0.02, 0.03])
    with pytest.raises(ModelInputError, match='attenuation_floor'):
        fit_r2_star(np.ones((2, 3)), 1.0, echo_times=[0.01, 0.02, 0.03], attenuation_floor=1.0)


# --- times ---------------------------------------------------------------------------------------


def test_time_has_the_relative_error_of_the_rate():
    rng = np.random.default_rng(3)
    time = time_from_rate(Estimate.of([20.0], [0.09], dof=300))
    draws = 1 / rng.normal(20.0, 0.3, 200_000)
    assert time.value == pytest.approx([0.05])
    assert time.variance == pytest.approx([draws.var()], rel=0.02)
    assert time.dof == 300


# --- noise floor, errors of the gradient, flags ------------------------------------------------


def test_mean_of_a_noisy_magnitude_is_that_of_draws_and_its_slope_is_its_derivative():
    rng = np.random.default_rng(1)
    signal = np.array([0.0, 0.7, 2.0, 6.0])
    mean, slope = rician_mean(signal, np.full(4, 1.5))
    draws = rician(rng, np.tile(signal, (400_000, 1)), 1.5).mean(axis=0)
    assert mean == pytest.approx(draws, rel=3e-3)
    step = rician_mean(signal + 1e-6, np.full(4, 1.5))[0] - mean
    assert slope == pytest.approx(step / 1e-6, abs=1e-5)


def test_without_the_noise_floor_late_echoes_lengthen_t2_star():
    rng = np.random.default_rng(2)
    signal = predict_decay(MEGRE, np.full(20_000, 1000.0), np.full(20_000, 1 / 0.015))
    noisy = rician(rng, signal, 1000 / 30)
    bias = {
        floor: np.nanmedian(
            0.015 * fit_r2_star(noisy, 1.0, echo_times=MEGRE, noise_floor=floor).value
        )
        for floor in ('rician', 'none')
    }
    assert bias['rician'] == pytest.approx(1, abs=0.01)
    assert bias['none'] < 0.97


@pytest.mark.prove
@pytest.mark.parametrize('snr', [30, 60, 100])
@pytest.mark.parametrize(('echo_times', 'time'), [(MESE, 0.074), (MEGRE, 0.0545), (MEGRE, 0.030)])
def test_monte_carlo_meets_the_bars(snr, echo_times, time):
    rng = np.random.default_rng(snr)
    signal = predict_decay(echo_times, np.full(40_000, 1000.0), np.full(40_000, 1 / time))
    estimate = fit_r2(rician(rng, signal, 1000 / snr), echo_times=echo_times)
    assert abs(np.nanmedian(1 / estimate.value) / time - 1) < 0.01
    if snr >= 60:
        assert abs(np.nanmean(1 / estimate.value) / time - 1) < 0.005
    decay = np.exp(-echo_times / time)
    jacobian = snr * np.stack([decay, -echo_times * decay], axis=1)
    bound = np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1])
    assert np.nanstd(estimate.value) == pytest.approx(bound, rel=0.1)
    z = (estimate.value - 1 / time) / np.sqrt(estimate.variance)
    assert 0.93 < np.mean(np.abs(z) < 1.96) < 0.97


def test_the_error_of_the_gradient_enters_the_variance():
    rng = np.random.default_rng(5)
    n_voxels, gradient, deviation = 4000, 60e-6, 2e-6
    true = gradient + rng.normal(0, deviation, n_voxels)
    signal = predict_decay(MEGRE, np.full(n_voxels, 1000.0), np.full(n_voxels, GREY_R2_STAR))
    signal *= gradient_attenuation(true, slice_thickness=3e-3, echo_times=MEGRE)
    noisy = signal + rng.normal(0, 5, signal.shape)
    factors = [
        gradient_attenuation(g, slice_thickness=3e-3, echo_times=MEGRE)
        for g in (gradient, gradient + deviation)
    ]
    estimate = fit_r2_star(
        noisy, factors[0], echo_times=MEGRE, attenuation_error=factors[1] - factors[0]
    )
    z = (estimate.value - GREY_R2_STAR) / np.sqrt(estimate.variance)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)
    blind = fit_r2_star(noisy, factors[0], echo_times=MEGRE)
    z = (blind.value - GREY_R2_STAR) / np.sqrt(blind.variance)
    assert np.mean(np.abs(z) < 1.96) < 0.9
    rough = fit_r2_star(
        noisy, factors[0], echo_times=MEGRE, attenuation_error=10 * (factors[1] - factors[0])
    )
    assert (rough.status == Status.GRADIENT_UNCERTAIN).all()


def test_fluid_and_inconsistent_echoes_are_flagged_and_their_values_kept():
    rng = np.random.default_rng(6)
    rate = np.full(1000, GREY_R2_STAR)
    rate[0] = 1 / 0.4
    signal = predict_decay(MEGRE, np.full(1000, 1000.0), rate)
    signal += rng.normal(0, 10, signal.shape)
    signal[1, ::2] *= 1.15
    estimate = fit_r2_star(signal, 1.0, echo_times=MEGRE)
    assert estimate.status[0] == Status.FLUID
    assert estimate.status[1] == Status.INCONSISTENT_ECHOES
    assert np.isfinite(estimate.value).all()
    assert np.mean(estimate.status[2:] == Status.OK) > 0.999
    index = echo_inconsistency(signal, estimate, echo_times=MEGRE)
    assert index.value[1] > 4 * np.median(index.value)
    assert np.median(index.value) == pytest.approx(0.01, rel=0.1)


BENT = 100 * np.arange(4000)[:, None] / 4000 * MEGRE**2
TWO_POOLS = np.log(0.75 * np.exp(-18 * MEGRE) + 0.25 * np.exp(-90 * MEGRE)) + 20 * MEGRE


@pytest.mark.parametrize('away', [0.0, -BENT, TWO_POOLS, 0.02 * (-1.0) ** np.arange(12)])
def test_misfit_that_repeats_with_the_scan_is_no_part_of_the_error(away):
    rng = np.random.default_rng(3)
    clean = predict_decay(MEGRE, np.full(4000, 1000.0), np.full(4000, 20.0)) * np.exp(away)
    one, two = (fit_r2_star(rician(rng, clean, 5.0), 1.0, echo_times=MEGRE) for _ in range(2))
    z = (one.value - two.value) / np.sqrt(one.variance + two.variance)
    assert 0.95 < z.std() < 1.05
    noisy = rician(rng, clean, 5.0)
    misfit = np.median(misfit_of_rate(noisy, one, echo_times=MEGRE))
    assert (misfit > np.sqrt(np.median(one.variance))) == np.any(away)


def test_a_voxel_with_three_echoes_in_sight_has_an_error():
    kept = np.where(MEGRE < 0.016, 0.9, 0.01)
    signal = predict_decay(MEGRE, [1000.0], [20.0]) * kept * [1, 1.01, *np.ones(10)]
    estimate = fit_r2_star(signal, kept, echo_times=MEGRE)
    assert estimate.variance > 0


def test_movement_is_told_from_noise_by_echoes_and_by_sets():
    rng = np.random.default_rng(8)
    signal = predict_decay(MEGRE, np.full(300, 1000.0), np.full(300, 18.0))
    noisy = signal + 40 * rng.standard_normal(signal.shape)  # 4 % of the signal: no movement
    noisy[:10] += 200 * np.where(np.arange(len(MEGRE)) % 2, 1, -1)
    apart = np.where(np.arange(300) >= 290, 0.1, 0.0)
    estimate = Estimate.of(np.full(300, 18.0))
    index = echo_inconsistency(noisy, estimate, disagreement=apart, echo_times=MEGRE)
    moved = index.status == Status.MOVED
    assert moved[:10].all()
    assert moved[290:].all()
    assert moved[10:290].mean() < 0.01


# --- unusual trains ----------------------------------------------------------------------------


def test_echo_times_may_repeat_and_mix_two_sets():
    times = np.concatenate([MEGRE, MEGRE + 0.001, MEGRE[:2]])[::-1]
    estimate = fit_r2_star(predict_decay(times, [900.0], [18.0]), 1.0, echo_times=times)
    assert estimate.value == pytest.approx([18.0], rel=1e-8)


def test_dropping_the_first_echo_needs_four_and_drops_the_earliest():
    signal = predict_decay(MESE, [900.0], [13.0])
    signal[0, 0] *= 0.5
    assert fit_r2_without_first(signal[:, ::-1], echo_times=MESE[::-1]).value == pytest.approx(
        [13.0], rel=1e-8
    )
    with pytest.raises(ModelInputError, match='4 echo times'):
        fit_r2_without_first(signal[:, :3], echo_times=MESE[:3])
    with pytest.raises(ModelInputError, match='noise_floor'):
        fit_r2(signal, echo_times=MESE, noise_floor='gauss')
    with pytest.raises(ModelInputError, match='coils must be 1 or more'):
        fit_r2(signal, echo_times=MESE, coils=0)


def test_a_low_first_echo_is_measured_in_noise_whatever_the_order_of_the_echoes():
    rng = np.random.default_rng(3)
    train = predict_decay(MESE, np.full(4000, 900.0), np.full(4000, GREY_R2))
    for first in (1.0, 0.9):
        signal = train * np.where(MESE.min() == MESE, first, 1.0)
        found = first_echo_departure(rician(rng, signal, 15.0)[:, ::-1], echo_times=MESE[::-1])
        assert np.median(found) == pytest.approx(first - 1, abs=0.004)
    assert np.isnan(first_echo_departure(train[:, :3], echo_times=MESE[:3])).all()
    train[0, 4], train[1, 0] = 0.0, np.nan
    found = first_echo_departure(train, echo_times=MESE)
    assert np.isnan(found).tolist() == [True, True, *[False] * 3998]


def test_one_echo_is_refused():
    with pytest.raises(ModelInputError, match='different echo times'):
        fit_r2_star(np.ones((3, 1)), 1.0, echo_times=[0.01])


def test_gradients_up_to_200_microtesla_per_metre_are_corrected_or_said():
    """The bar of the benchmark: bias of R2' under 5 %, in the top tenth of the gradients."""
    rng = np.random.default_rng(7)
    from bids_app.models.relaxometry.background_field import field_map_from_echoes, slice_gradient

    shape, thickness = (40, 10, 12), 3.3e-3
    strength = 200e-6 * np.linspace(0, 1, shape[0])[:, None, None]
    z = (np.arange(shape[2] * 16) + 0.5) / 16 * thickness
    field = strength * (z + 0.0045 * np.sin(z / 0.03)) * np.ones((1, shape[1], 1))
    turned = np.exp(1j * 267.52219e6 * field[..., None] * MEGRE)
    signal = 1000 * np.exp(-GREY_R2_STAR * MEGRE) * turned.reshape(*shape, 16, 12).mean(axis=3)
    signal = signal + rng.normal(0, 10, signal.shape) + 1j * rng.normal(0, 10, signal.shape)
    mask = np.ones(shape, bool)
    magnitude = np.abs(signal)
    field_map = field_map_from_echoes(magnitude, np.angle(signal), mask, echo_times=MEGRE)
    gradient = slice_gradient(field_map, mask, slice_spacing=thickness)
    factor, stronger = (
        gradient_attenuation(g[mask], slice_thickness=thickness, echo_times=MEGRE)
        for g in (gradient.value, np.abs(gradient.value) + np.sqrt(gradient.variance))
    )
    estimate = fit_r2_star(
        magnitude[mask], factor, echo_times=MEGRE, attenuation_error=stronger - factor
    )
    plain = fit_r2_star(magnitude[mask], 1.0, echo_times=MEGRE, attenuation_floor=0.0)
    truth = GREY_R2_STAR - GREY_R2
    steep = (strength * np.ones(shape))[mask] > 180e-6
    bias = np.nanmedian(estimate.value[steep]) - GREY_R2_STAR
    before = np.nanmedian(plain.value[steep]) - GREY_R2_STAR
    assert abs(bias) / truth < 0.05
    assert abs(bias) < abs(before) / 5
    z_score = (estimate.value - GREY_R2_STAR) / np.sqrt(estimate.variance)
    assert np.nanmean(np.abs(z_score[steep]) < 1.96) > 0.93


@pytest.mark.parametrize(
    ('contrast', 'column', 'fit'), [('se', 't2_s', fit_r2), ('ge', 't2star_s', fit_r2_star)]
)
def test_signals_of_asldro_give_the_times_they_were_made_with(contrast, column, fit):
    pandas = pytest.importorskip('pandas')
    path = DATA / 'asldro' / 'asldro_mri_signal.csv'
    table = pandas.read_csv(path).query('contrast == @contrast').copy()
    if contrast == 'se':  # every echo time was simulated with other repetition times
        table['signal'] /= 1 - np.exp(-table.tr_s / table.t1_s)
        table['tr_s'] = np.inf
    tissue = ['t1_s', 't2_s', 't2star_s', 'tr_s', 'flip_deg', 'm0']
    trains = [train for _, train in table.groupby(tissue) if train.te_s.nunique() >= 3]
    assert trains
    for train in trains:
        extra = {'attenuation': 1.0} if fit is fit_r2_star else {}
        rate = fit([train.signal.to_numpy()], echo_times=train.te_s.to_numpy(), **extra)
        assert time_from_rate(rate).value == pytest.approx([train[column].iloc[0]], rel=1e-9)


def combined(train, coils, noise, rng):
    """Root of the sum of squares of coils that share the signal evenly, each with its noise."""
    parts = train[..., None] / np.sqrt(coils)
    real, imaginary = noise * rng.standard_normal((2, *train.shape, coils))
    return np.sqrt(((parts + real) ** 2 + imaginary**2).sum(axis=-1))


@pytest.mark.parametrize('coils', [8, 32])
@pytest.mark.parametrize(('rate', 'times'), [(GREY_R2, MESE), (GREY_R2_STAR, MEGRE)])
def test_floor_of_many_coils_does_not_lower_the_rate(coils, rate, times):
    train = 1000 * np.exp(-rate * np.broadcast_to(times, (1500, len(times))))
    measured = combined(train, coils, 1000 / 60, np.random.default_rng(coils))
    plain = fit_r2(measured, echo_times=times)
    found = fit_r2(measured, echo_times=times, coils=coils)
    covered = np.abs(found.value - rate) < 1.96 * np.sqrt(found.variance)
    assert np.nanmedian(plain.value) < 0.99 * rate
    assert np.nanmedian(found.value) == pytest.approx(rate, rel=0.012)
    assert covered.mean() > 0.92
