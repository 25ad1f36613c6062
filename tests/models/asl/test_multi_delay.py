"""Laws of the general kinetic model and of its fit."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import curve_fit

from bids_app.errors import ModelInputError
from bids_app.models.asl.kinetics import Kinetics, predict_difference
from bids_app.models.asl.multi_delay import (
    fit_multi_delay,
    fit_shared_arrival,
    fit_with_arteries,
)
from bids_app.models.constants import LATEST_ARRIVAL
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, is_missing
from tests.paths import DATA

TABLE = DATA / 'asldro' / 'asldro_gkm.csv'
CONTINUOUS = {
    'label_duration': 1.8,
    'labeling': 'continuous',
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 1.0,
    't1_blood': 1.65,
    't1_tissue': 1.33,
    'partition_coefficient': 0.9,
}
PULSED = CONTINUOUS | {'labeling': 'pulsed', 'label_duration': 0.8, 'labeling_efficiency': 0.98}
DELAYS = {'continuous': np.arange(0.25, 1.6, 0.25), 'pulsed': np.arange(0.4, 3.2, 0.4)}
both = pytest.mark.parametrize('labelling', [CONTINUOUS, PULSED], ids=['continuous', 'pulsed'])


def table():
    with TABLE.open() as file:
        return list(csv.DictReader(file))


def test_model_gives_every_case_that_asldro_computed():
    for row in table():
        pulsed = row['label_type'] == 'pasl'
        number = {name: float(text) for name, text in row.items() if name != 'label_type'}
        duration = number['label_duration_s']
        predicted = predict_difference(
            number['cbf_ml_100g_min'],
            number['att_s'],
            number['m0'],
            # asldro counts the delay of both kinds from the end of the label
            post_label_delay=number['post_label_delay_s'] + (duration if pulsed else 0),
            label_duration=duration,
            labeling='pulsed' if pulsed else 'continuous',
            labeling_efficiency=number['label_efficiency'],
            background_suppression_factor=1.0,
            t1_blood=number['t1_blood_s'],
            t1_tissue=number['t1_tissue_s'],
            partition_coefficient=number['lambda'],
        )
        assert float(predicted) == pytest.approx(number['delta_m'], abs=1e-10)


@both
def test_difference_is_the_convolution_of_delivery_and_loss(labelling):
    cbf, att, delay = 60.0, 0.7, 1.5
    duration, pulsed = labelling['label_duration'], labelling['labeling'] == 'pulsed'
    time = delay if pulsed else delay + duration
    rate = 1 / 1.33 + cbf / 6000 / 0.9

    def delivered(at):
        age = at if pulsed else att
        return np.exp(-age / 1.65) * np.exp(-rate * (time - at))

    inside, _ = quad(delivered, att, min(att + duration, time))
    expected = 2 * labelling['labeling_efficiency'] * 1000 / 0.9 * cbf / 6000 * inside
    predicted = predict_difference(cbf, att, 1000.0, post_label_delay=delay, **labelling)
    assert float(predicted) == pytest.approx(expected, rel=1e-9)


@both
@given(st.floats(5, 150), st.floats(0.3, 2.5), st.sampled_from(['arrival', 'complete']))
def test_model_is_continuous_at_its_kinks_from_both_sides_and_at_them(labelling, cbf, att, kink):
    duration = labelling['label_duration']
    time = att if kink == 'arrival' else att + duration
    delay = time if labelling['labeling'] == 'pulsed' else time - duration
    if delay < 0:
        return
    arrivals = att + np.array([-1e-9, 0.0, 1e-9])
    values = predict_difference(cbf, arrivals, post_label_delay=delay, **labelling)
    assert np.ptp(values) < 1e-9


@both
@given(st.floats(5, 150), st.floats(0.31, 2.0), st.floats(0.05, 3.0))
def test_derivatives_are_those_of_the_model(labelling, cbf, att, delay):
    kinetics = Kinetics.of(labelling['labeling'], 1.65, 1.33, 0.9)
    duration = np.array(labelling['label_duration'])
    time = kinetics.time(np.array(delay), duration)
    if min(abs(time - att), abs(time - att - duration)) < 1e-4:
        return
    _, by_cbf, by_att = kinetics.response(np.array(cbf), np.array(att), time, duration)

    def response(cbf, att):
        return float(kinetics.response(np.array(cbf), np.array(att), time, duration)[0])

    assert float(by_cbf) == pytest.approx(
        (response(cbf + 1e-3, att) - response(cbf - 1e-3, att)) / 2e-3, abs=1e-6
    )
    assert float(by_att) == pytest.approx(
        (response(cbf, att + 1e-6) - response(cbf, att - 1e-6)) / 2e-6, abs=1e-4, rel=1e-4
    )


@both
def test_gain_is_the_response_per_flow(labelling):
    kinetics = Kinetics.of(labelling['labeling'], 1.65, 1.33, 0.9)
    cbf, att = np.array([[20.0], [90.0]]), np.linspace(0.1, 3, 40)
    timing = (np.array(2.1), np.array(labelling['label_duration']))
    response, _, _ = kinetics.response(cbf, att, *timing)
    np.testing.assert_allclose(kinetics.gain(cbf, att, *timing), response / cbf, atol=1e-14)


def simulate(labelling, cbf, att, *, noise=0.0, seed=0, m0=1000.0):
    delays = DELAYS[labelling['labeling']]
    signal = predict_difference(
        np.asarray(cbf)[:, None],
        np.asarray(att)[:, None],
        m0,
        post_label_delay=delays,
        **labelling,
    )
    rng = np.random.default_rng(seed)
    noisy = Estimate.of(signal + noise * rng.standard_normal(signal.shape), noise**2, dof=500)
    return noisy, Estimate.of(np.full(len(signal), m0))


def fit(labelling, difference, m0, **changes):
    delays = {'post_label_delay': DELAYS[labelling['labeling']], 'n_pairs': 8}
    return fit_multi_delay(difference, m0, **labelling | delays | changes)


def peak(labelling):
    """Signal of grey matter at the best delay."""
    return simulate(labelling, [55.0], [1.0])[0].value.max()


@both
def test_noise_free_differences_give_back_flow_and_arrival(labelling):
    rng = np.random.default_rng(1)
    cbf, att = rng.uniform(10, 120, 300), rng.uniform(0.45, 1.45, 300)
    att[:4] = (0.5, 0.75, 1.0, 1.25)  # the kinks, too
    att[4:6] = (0.8, 1.2)
    made = fit(labelling, *simulate(labelling, cbf, att))
    np.testing.assert_allclose(made[0].value, cbf, rtol=1e-6)
    np.testing.assert_allclose(made[1].value, att, atol=1e-6)
    assert np.all(made[0].status == Status.OK)


@both
@pytest.mark.parametrize('snr', [10, 30])
def test_intervals_cover_the_truth_and_the_spread_is_the_bound(labelling, snr):
    rng = np.random.default_rng(2)
    n_voxels = 12_000
    cbf, att = rng.uniform(20, 90, n_voxels), rng.uniform(0.55, 1.3, n_voxels)
    noise = peak(labelling) / snr
    made = fit(labelling, *simulate(labelling, cbf, att, noise=noise, seed=3))
    told = (made[0].status == Status.OK) | (made[0].status == Status.IMPLAUSIBLE)
    for estimate, truth, low in ((made[0], cbf, 0.93), (made[1], att, 0.91)):
        z = (estimate.value - truth) / np.sqrt(estimate.variance)
        assert low <= np.mean(np.abs(z[told]) < 1.96) <= 0.97
        assert not is_missing(estimate.status).any()


@both
def test_spread_is_near_the_cramer_rao_bound(labelling):
    # away from the kinks, where the bound exists
    cbf, att, noise = np.full(8000, 55.0), np.full(8000, 0.9), peak(labelling) / 20
    made = fit(labelling, *simulate(labelling, cbf, att, noise=noise, seed=4))
    delays = DELAYS[labelling['labeling']]

    def predict(_, cbf, att):
        return predict_difference(cbf, att, 1000.0, post_label_delay=delays, **labelling)

    truth, steps = np.array([55, 0.9]), np.array([1e-3, 1e-5])
    jacobian = np.stack(
        [
            (predict(0, *(truth + step)) - predict(0, *(truth - step))) / (2 * step.sum())
            for step in np.diag(steps)
        ],
        axis=1,
    )
    bound = noise * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    for estimate, limit in zip(made, bound, strict=True):
        assert estimate.value.std() == pytest.approx(limit, rel=0.15)
        assert np.sqrt(np.median(estimate.variance)) == pytest.approx(limit, rel=0.15)


@both
def test_arrival_at_the_edges_is_covered_or_said(labelling):
    rng = np.random.default_rng(5)
    n_voxels = 6000
    delays = DELAYS[labelling['labeling']]
    # before the first delay, and after all readouts but the last
    late = delays[-2] if labelling['labeling'] == 'pulsed' else delays[-1] + 1.0
    att = np.concatenate([rng.uniform(0.05, delays[0] + 0.1, n_voxels // 2),
                          rng.uniform(late - 0.2, late + 0.4, n_voxels // 2)])  # fmt: skip
    cbf = rng.uniform(20, 90, n_voxels)
    made = fit(labelling, *simulate(labelling, cbf, att, noise=peak(labelling) / 15, seed=6))
    flagged = made[1].status == Status.ARRIVAL_NOT_COVERED
    for estimate, truth in ((made[0], cbf), (made[1], att)):
        with np.errstate(invalid='ignore'):
            covered = np.abs(estimate.value - truth) < 1.96 * np.sqrt(estimate.variance)
        assert np.mean(covered | flagged | is_missing(estimate.status)) >= 0.9


def test_fit_is_that_of_scipy_and_its_cost_no_higher():
    rng = np.random.default_rng(7)
    cbf, att = rng.uniform(20, 90, 40), rng.uniform(0.5, 1.3, 40)
    difference, m0 = simulate(CONTINUOUS, cbf, att, noise=peak(CONTINUOUS) / 30, seed=8)
    made = fit(CONTINUOUS, difference, m0)
    delays = DELAYS['continuous']

    def predict(_, cbf, att):
        return predict_difference(cbf, att, 1000.0, post_label_delay=delays, **CONTINUOUS)

    for voxel, samples in enumerate(difference.value):
        best, _ = curve_fit(predict, delays, samples, p0=(60, 1.0), bounds=([0, 0], [300, 3]))
        ours = np.sum((predict(0, made[0].value[voxel], made[1].value[voxel]) - samples) ** 2)
        assert ours <= np.sum((predict(0, *best) - samples) ** 2) * (1 + 1e-6)


def test_delays_of_each_slice_are_used():
    offset = np.linspace(0, 0.6, 50)[:, None]
    delays = DELAYS['continuous'] + offset
    cbf, att = np.full(50, 60.0), np.full(50, 1.1)
    signal = predict_difference(
        cbf[:, None], att[:, None], 1000.0, post_label_delay=delays, **CONTINUOUS
    )
    made = fit(
        CONTINUOUS, Estimate.of(signal), Estimate.of(np.full(50, 1000.0)), post_label_delay=delays
    )
    np.testing.assert_allclose(made[0].value, 60, rtol=1e-6)
    np.testing.assert_allclose(made[1].value, 1.1, atol=1e-6)


def test_labels_of_different_duration_are_fitted_together():
    # a Hadamard scheme: short labels with short delays, a long one with a long delay
    timing = {
        'label_duration': np.array([0.1, 0.1, 0.15, 0.15, 0.4, 0.8, 1.8]),
        'post_label_delay': np.array([0.17, 0.27, 0.37, 0.52, 0.67, 1.07, 1.87]),
    }
    labelling = CONTINUOUS | timing
    cbf, att = np.array([[30.0], [60.0]]), np.array([[0.7], [1.2]])
    signal = predict_difference(cbf, att, 1000.0, **labelling)
    made = fit_multi_delay(
        Estimate.of(signal), Estimate.of([1000.0, 1000.0]), n_pairs=1, **labelling
    )
    np.testing.assert_allclose(made[0].value, cbf[:, 0], rtol=1e-6)
    np.testing.assert_allclose(made[1].value, att[:, 0], atol=1e-6)


def test_without_repeated_pairs_noise_comes_from_the_residuals():
    rng = np.random.default_rng(9)
    cbf, att = rng.uniform(30, 80, 6000), rng.uniform(0.6, 1.2, 6000)
    noise = peak(CONTINUOUS) / 30
    difference, m0 = simulate(CONTINUOUS, cbf, att, noise=noise, seed=10)
    wrong = Estimate.of(difference.value, 1e6 * difference.variance)
    made = fit(CONTINUOUS, wrong, m0, n_pairs=1)
    z = (made[0].value - cbf) / np.sqrt(made[0].variance)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.02)
    assert made[0].dof > 100


def test_delay_with_more_pairs_weighs_more():
    pairs = np.array([1, 1, 1, 1, 1, 20])
    rng = np.random.default_rng(11)
    cbf, att = np.full(4000, 60.0), np.full(4000, 0.9)
    clean, m0 = simulate(CONTINUOUS, cbf, att)
    single = peak(CONTINUOUS) / 15
    variance = np.broadcast_to(single**2 / pairs, clean.value.shape)
    noisy = clean.value + np.sqrt(variance) * rng.standard_normal(clean.value.shape)
    weighted = fit(CONTINUOUS, Estimate.of(noisy, variance), m0, n_pairs=pairs)[0]
    plain = fit(CONTINUOUS, Estimate.of(noisy, single**2), m0, n_pairs=2)[0]
    assert weighted.value.std() < plain.value.std()
    covered = np.abs(weighted.value - 60) < 1.96 * np.sqrt(weighted.variance)
    assert covered.mean() == pytest.approx(0.95, abs=0.02)


def test_error_of_m0_is_part_of_that_of_flow_and_not_of_arrival():
    difference, m0 = simulate(CONTINUOUS, [60.0], [0.9], noise=0.01)
    shaky = Estimate.of(m0.value, 20.0**2)
    one, other = (fit(CONTINUOUS, difference, reference) for reference in (m0, shaky))
    added = other[0].variance - one[0].variance
    np.testing.assert_allclose(added, (one[0].value * 0.02) ** 2)
    np.testing.assert_allclose(other[1].variance, one[1].variance)


def test_suppression_and_efficiency_scale_flow_inversely():
    difference, m0 = simulate(CONTINUOUS, [40.0], [0.9])
    kept = fit(CONTINUOUS, difference, m0, background_suppression_factor=0.8)[0]
    assert kept.value[0] == pytest.approx(40 / 0.8, rel=0.03)


def test_reasons_of_missing_voxels_are_kept_apart():
    difference, m0 = simulate(CONTINUOUS, [60.0] * 5, [0.9] * 5, noise=0.01)
    value, status = difference.value.copy(), difference.status.copy()
    value[0], status[0] = np.nan, Status.INVALID_INPUT
    value[1] = 0
    reference = m0.value.copy()
    reference[2] = 0
    delays = np.repeat(DELAYS['continuous'][None], 5, axis=0)
    delays[3] = np.nan
    made = fit(
        CONTINUOUS,
        Estimate.of(value, difference.variance, status),
        Estimate.of(reference),
        post_label_delay=delays,
    )
    expected = [Status.INVALID_INPUT, Status.NO_SIGNAL, Status.NO_REFERENCE, Status.INVALID_INPUT]
    for estimate in made:
        np.testing.assert_array_equal(estimate.status, [*expected, Status.OK])


def test_voxels_without_label_are_estimated_without_bias():
    rng = np.random.default_rng(12)
    noise = peak(CONTINUOUS) / 10
    value = noise * rng.standard_normal((4000, 6))
    made = fit(CONTINUOUS, Estimate.of(value, noise**2), Estimate.of(np.full(4000, 1000.0)))[0]
    usable = ~is_missing(made.status)
    assert usable.mean() > 0.99
    assert abs(np.median(made.value[usable])) < 3
    assert np.mean(made.status == Status.ARRIVAL_NOT_COVERED) > 0.8


def test_shared_arrival_is_known_better_than_that_of_one_condition():
    n_voxels, att = 4000, 0.9
    noise = peak(CONTINUOUS) / 10
    conditions = [
        simulate(
            CONTINUOUS, np.full(n_voxels, cbf), np.full(n_voxels, att), noise=noise, seed=seed
        )
        for seed, cbf in ((14, 50.0), (15, 60.0))
    ]
    common = {'labeling': 'continuous', 't1_blood': 1.65, 't1_tissue': 1.33,
              'partition_coefficient': 0.9}  # fmt: skip
    cbf, shared = fit_shared_arrival(
        [difference for difference, _ in conditions],
        [m0 for _, m0 in conditions],
        post_label_delays=[DELAYS['continuous']] * 2,
        label_durations=[1.8] * 2,
        n_pairs=[8, 8],
        labeling_efficiencies=[0.85] * 2,
        background_suppression_factors=[1.0] * 2,
        **common,
    )
    alone = [fit(CONTINUOUS, *one) for one in conditions]
    assert shared.value.std() < 0.8 * alone[0][1].value.std()
    assert np.mean(np.abs(shared.value - att) < 1.96 * np.sqrt(shared.variance)) > 0.91
    change = (cbf[1].value - cbf[0].value).std()
    assert change < (alone[1][0].value - alone[0][0].value).std()
    for estimate, truth in zip(cbf, (50, 60), strict=True):
        z = (estimate.value - truth) / np.sqrt(estimate.variance)
        assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'labeling': 'pulsed-quipss'}, 'labeling must be'),
        ({'t1_tissue': 0.0}, 't1_tissue'),
        ({'partition_coefficient': np.inf}, 'partition_coefficient'),
        ({'labeling_efficiency': 1.5}, 'labeling_efficiency'),
        ({'background_suppression_factor': 0}, 'background_suppression_factor'),
        ({'label_duration': 0.0}, 'label_duration'),
        ({'n_pairs': 0}, 'n_pairs'),
        ({'post_label_delay': [0.5, 0.6]}, 'must fit 6 delays'),
        ({'post_label_delay': [1.8] * 6}, 'different delays'),
        ({'post_label_delay': [-0.5, 0.1, 0.2, 0.3, 0.4, 0.5]}, 'must not be negative'),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(change, message):
    difference, m0 = simulate(CONTINUOUS, [60.0], [0.9])
    with pytest.raises(ModelInputError, match=message):
        fit(CONTINUOUS, difference, m0, **change)


def test_shapes_that_contradict_each_other_are_refused():
    difference, _ = simulate(CONTINUOUS, [60.0], [0.9])
    with pytest.raises(ModelInputError, match='expected'):
        fit(CONTINUOUS, difference, Estimate.of([1.0, 1.0]))
    with pytest.raises(ModelInputError, match='every condition'):
        fit_shared_arrival(
            [difference], [], post_label_delays=[], label_durations=[], n_pairs=[],
            labeling='continuous', labeling_efficiencies=[], background_suppression_factors=[],
            t1_blood=1.65, t1_tissue=1.33, partition_coefficient=0.9,
        )  # fmt: skip


def test_arrival_is_searched_up_to_a_limit_only():
    difference, m0 = simulate(CONTINUOUS, [60.0] * 3, [0.9] * 3, noise=0.5)
    assert fit(CONTINUOUS, difference, m0)[1].value.max() <= LATEST_ARRIVAL


def test_change_between_conditions_that_share_arrival_is_never_more_certain_than_said():
    """The error of the arrival is common to both: adding variances overstates that of a change."""
    flows = (50.0, 60.0)
    n_voxels, sigma = 4000, peak(CONTINUOUS) / 20
    pairs = [
        simulate(CONTINUOUS, [flow] * n_voxels, [1.0] * n_voxels, noise=sigma, seed=seed)
        for seed, flow in enumerate(flows)
    ]
    cbf, _ = fit_shared_arrival(
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        post_label_delays=[DELAYS['continuous']] * 2,
        label_durations=[1.8] * 2,
        n_pairs=[8, 8],
        labeling='continuous',
        labeling_efficiencies=[0.85] * 2,
        background_suppression_factors=[1.0] * 2,
        **{name: CONTINUOUS[name] for name in ('t1_blood', 't1_tissue', 'partition_coefficient')},
    )
    change = cbf[1].value - cbf[0].value
    scatter = np.std(change) / np.sqrt(np.mean(cbf[0].variance + cbf[1].variance))
    assert 0.6 < scatter < 1.02
    assert change.mean() == pytest.approx(10, abs=0.2)


# ----------------------------------------------------------------- arteries

FINE = 0.25 * np.arange(1, 9)


def with_arteries(labelling, volume, *, noise, n_voxels=3000, seed=0):
    """Voxels whose arteries fill 0.2 to 1.1 s before their tissue, and their true flow."""
    rng = np.random.default_rng(seed)
    cbf, att = rng.uniform(30, 80, n_voxels), rng.uniform(1.0, 1.5, n_voxels)
    own = labelling | {'post_label_delay': FINE}
    signal = predict_difference(cbf[:, None], att[:, None], 1000.0, **own)
    first = rng.uniform(0.3, 0.75, (n_voxels, 1))
    pulsed = labelling['labeling'] == 'pulsed'
    time = FINE if pulsed else FINE + labelling['label_duration']
    lost = np.exp(-(time if pulsed else first) / labelling['t1_blood'])
    passing = (time > first) & (time < first + labelling['label_duration'])
    scale = 2000.0 * labelling['labeling_efficiency'] / labelling['partition_coefficient']
    signal += scale * volume * lost * passing
    sigma = noise * 15.0
    noisy = signal + sigma * rng.standard_normal(signal.shape)
    made = Estimate.of(noisy, sigma**2, dof=500), Estimate.of(np.full(n_voxels, 1000.0))
    return *made, own | {'n_pairs': 8}, cbf, att


@both
def test_arteries_are_found_and_taken_out_of_flow_and_arrival(labelling):
    difference, m0, own, cbf, att = with_arteries(labelling, 0.01, noise=1 / 40)
    flow, arrival, volume = fit_with_arteries(difference, m0, **own)
    plain, _ = fit_multi_delay(difference, m0, **own)
    found = volume.value > 0
    assert found.mean() > 0.9
    assert np.median(volume.value[found]) == pytest.approx(0.01, rel=0.05)
    for made, truth in ((flow, cbf), (arrival, att)):
        inside = np.abs(made.value - truth) < 1.96 * np.sqrt(made.variance)
        assert np.mean(inside[found]) == pytest.approx(0.95, abs=0.03)
    error, without = (np.median(np.abs(one.value - cbf)) for one in (flow, plain))
    assert error < 0.5 * without


@both
def test_voxels_without_arteries_keep_what_they_had(labelling):
    difference, m0, own, _, _ = with_arteries(labelling, 0.0, noise=1 / 20)
    flow, arrival, volume = fit_with_arteries(difference, m0, **own)
    plain, its_arrival = fit_multi_delay(difference, m0, **own)
    none = volume.value == 0
    assert none.mean() > 0.985
    np.testing.assert_array_equal(flow.value[none], plain.value[none])
    np.testing.assert_array_equal(arrival.variance[none], its_arrival.variance[none])
    assert np.all(volume.variance > 0)


def test_arteries_before_the_first_delay_cannot_be_seen():
    difference, m0 = simulate(CONTINUOUS, [60.0, 60.0], [0.05, 0.9], noise=0.01)
    timing = {'post_label_delay': DELAYS['continuous'], 'n_pairs': 8}
    *_, volume = fit_with_arteries(difference, m0, **CONTINUOUS | timing)
    assert volume.status.tolist() == [Status.ARRIVAL_NOT_COVERED, Status.OK]


def test_arteries_need_four_delays():
    difference, m0 = simulate(CONTINUOUS, [60.0], [0.9], noise=0.01)
    few = Estimate(difference.value[:, :3], difference.variance[:, :3], difference.status[:, :3])
    with pytest.raises(ModelInputError, match='4 delays or more'):
        fit_with_arteries(few, m0, **CONTINUOUS, n_pairs=8, post_label_delay=[0.25, 0.5, 0.75])
