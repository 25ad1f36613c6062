"""Percent BOLD change: designs of the study, windows, recovery, calibration of the errors."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from nilearn.glm.first_level import compute_regressor
from scipy.signal import lfilter
from scipy.stats import gamma

from bids_app.engines.glm import (
    alternate_blocks,
    high_pass_of_design,
    implicit_blocks,
    make_task_design,
    make_time_course_design,
    median_change,
    volumes_in_blocks,
)
from bids_app.errors import ModelInputError
from bids_app.models.bold.glm import fit_task_design
from bids_app.models.status import Status
from tests.paths import SKELETON

TR = 1.2
# Block onsets of OpenNeuro ds004873 (Epp et al. 2025), s; control is what lies between.
N30 = {'rest': (0, 150, 270, 390), 'mem': (30, 120, 210, 450), 'calc': (60, 180, 300, 360)}
N10 = {'calc': (30, 90, 150, 210)}
BASE = 1000.0


def rows(design, duration=30.0):
    return [(float(onset), duration, name) for name, onsets in design.items() for onset in onsets]


def blocks(onsets, duration=30.0):
    return [(float(onset), duration) for onset in onsets]


def window(onsets, n_volumes):
    return volumes_in_blocks(
        blocks(onsets), n_volumes=n_volumes, repetition_time=TR, window_start=6.0
    )


def response(onsets, n_volumes, *, peak=6.0, undershoot=16.0):
    """Blocks convolved with a double-gamma response made here, plateau about 1."""
    step = 0.1
    time = np.arange(0, n_volumes * TR, step)
    boxcar = np.zeros(time.size)
    for onset in onsets:
        boxcar[(time >= onset) & (time < onset + 30)] = 1
    lag = np.arange(0, 32, step)
    kernel = gamma.pdf(lag, peak) - gamma.pdf(lag, undershoot) / 6
    signal = np.convolve(boxcar, kernel / kernel.sum())[: time.size]
    return signal[(np.arange(n_volumes) * TR / step).round().astype(int)]


def noise(rng, n_voxels, n_volumes, correlation):
    white = rng.normal(size=(n_voxels, n_volumes + 200))
    series = lfilter([1], [1, -correlation], white, axis=1)[:, 200:]
    return series * np.sqrt(1 - correlation**2)


def fit(series, design=None, **changes):
    arguments = {
        'repetition_time': TR,
        'events': rows(N30 if design is None else design),
        'baseline': 'control',
        'contrasts': [('calc', 'control')],
    }
    arguments |= changes
    how = {key: arguments.pop(key) for key in ('noise_model', 'memory_mb') if key in arguments}
    design = make_task_design(np.shape(series)[-1], **arguments)
    return fit_task_design(series, design, **how)


def test_gaps_of_both_study_designs_are_the_control_blocks():
    assert implicit_blocks(rows(N30), 480.0) == blocks((90, 240, 330, 420))
    assert implicit_blocks(rows(N10), 240.0) == blocks((0, 60, 120, 180))


def test_gaps_survive_disorder_overlap_events_outside_the_run_and_rounded_onsets():
    events = [(90.0, 30.0, 'b'), (30.0, 30.0, 'a'), (40.0, 30.0, 'b'), (69.9995, 20.0, 'c')]
    assert implicit_blocks([*events, (200.0, 30.0, 'a')], 130.0) == [(0.0, 30.0), (120.0, 10.0)]
    assert implicit_blocks([], 100.0) == [(0.0, 100.0)]
    assert implicit_blocks([(-5.0, 200.0, 'a')], 100.0) == []


@pytest.mark.parametrize(
    ('onsets', 'ranges'),
    [
        ((0, 150, 270, 390), [(5, 25), (130, 150), (230, 250), (330, 350)]),
        ((30, 120, 210, 450), [(30, 50), (105, 125), (180, 200), (380, 400)]),
        ((60, 180, 300, 360), [(55, 75), (155, 175), (255, 275), (305, 325)]),
        ((90, 240, 330, 420), [(80, 100), (205, 225), (280, 300), (355, 375)]),
    ],
)
def test_windows_are_the_published_volume_ranges(onsets, ranges):
    expected = np.zeros(400, bool)
    for first, last in ranges:
        expected[first:last] = True
    np.testing.assert_array_equal(window(onsets, 400), expected)


def test_windows_are_not_shifted_by_rounding_of_times():
    assert volumes_in_blocks(
        [(0.1 + 0.2, 0.9)], n_volumes=20, repetition_time=0.1, window_start=0.3
    ).nonzero()[0].tolist() == [6, 7, 8, 9, 10, 11]


def test_cut_off_keeps_the_longest_cycle_of_the_design():
    conditions = [blocks(onsets) for onsets in N30.values()]
    assert high_pass_of_design(conditions, 480.0) == pytest.approx(1 / 480)
    assert high_pass_of_design([blocks(N10['calc'])], 240.0) == pytest.approx(1 / 120)
    assert high_pass_of_design([blocks((30,))], 240.0) == pytest.approx(1 / 480)


@pytest.mark.parametrize(
    ('hrf_model', 'peak', 'bar'),
    [('flexible', 5.0, 0.01), ('flexible', 6.0, 0.01), ('flexible', 7.0, 0.01)]
    + [('spm', peak, 0.06) for peak in (5.0, 6.0, 7.0)]
    + [('glover', peak, 0.06) for peak in (5.0, 6.0, 7.0)],
)
def test_change_is_that_of_the_block_windows_whatever_the_response(hrf_model, peak, bar):
    signal = response(N30['calc'], 400, peak=peak)
    series = BASE * (1 + 0.012 * signal)[None]
    task, control = window(N30['calc'], 400), window((90, 240, 330, 420), 400)
    expected = 100 * (series[0, task].mean() / series[0, control].mean() - 1)
    change = fit(series, hrf_model=hrf_model)['calcMinusControl']
    assert change.value[0] == pytest.approx(expected, rel=bar)


@pytest.mark.parametrize('design', [N30, N10])
@pytest.mark.parametrize('true', ['spm', 'glover'])
def test_responses_of_spm_and_glover_give_the_same_change(design, true):
    n_volumes = 400 if design is N30 else 200
    condition = np.array([design['calc'], [30.0] * 4, [1.0] * 4])
    shape = compute_regressor(condition, true, TR * np.arange(n_volumes))[0][:, 0]
    series = BASE * (1 + 0.015 * shape)[None]
    gaps = implicit_blocks(rows(design), n_volumes * TR)
    task, control = (
        volumes_in_blocks(one, n_volumes=n_volumes, repetition_time=TR, window_start=6.0)
        for one in (blocks(design['calc']), gaps)
    )
    expected = 100 * (series[0, task].mean() / series[0, control].mean() - 1)
    change = fit(series, design)['calcMinusControl']
    assert change.value[0] == pytest.approx(expected, rel=0.01)


def test_change_is_exact_for_the_assumed_response_and_blind_to_drift_and_other_conditions():
    times = np.arange(400) / 400
    signal = 0.012 * response(N30['calc'], 400) - 0.02 * response(N30['mem'], 400)
    drift = 0.01 * np.cos(np.pi * times)
    series = BASE * (1 + signal + drift)[None]
    changes = fit(series, contrasts=[('calc', 'control'), ('mem', 'control'), ('rest', 'control')])
    control = window((90, 240, 330, 420), 400)

    def expected(amplitude, onsets):
        shape = response(onsets, 400)
        step = shape[window(onsets, 400)].mean() - shape[control].mean()
        return 100 * amplitude * BASE * step / series[0, control].mean()

    assert changes['calcMinusControl'].value[0] == pytest.approx(
        expected(0.012, N30['calc']), rel=0.01
    )
    assert changes['memMinusControl'].value[0] == pytest.approx(
        expected(-0.02, N30['mem']), rel=0.01
    )
    assert abs(changes['restMinusControl'].value[0]) < 0.02


def test_listed_baseline_gives_the_same_as_the_gaps():
    rng = np.random.default_rng(0)
    series = BASE * (1 + 0.01 * response(N30['calc'], 400)) + noise(rng, 20, 400, 0.3)
    listed = [*rows(N30), *rows({'control': (90, 240, 330, 420)})]
    implicit = fit(series)['calcMinusControl']
    explicit = fit(series, events=listed)['calcMinusControl']
    np.testing.assert_allclose(explicit.value, implicit.value, rtol=1e-10)
    np.testing.assert_allclose(explicit.variance, implicit.variance, rtol=1e-10)


def test_listed_baseline_is_modelled_where_gaps_remain():
    design = {'calc': (30, 150, 270, 390), 'control': (90, 210, 330, 420)}
    signal = 0.01 * response(design['calc'], 400) - 0.02 * response(design['control'], 400)
    change = fit(BASE * (1 + signal)[None], design)['calcMinusControl']
    assert change.value[0] == pytest.approx(100 * 0.03 / 0.98, rel=0.05)


def test_contrast_between_two_listed_conditions_needs_no_gap():
    signal = 0.01 * response(N30['calc'], 400) - 0.02 * response(N30['rest'], 400)
    change = fit(BASE * (1 + signal)[None], contrasts=[('calc', 'rest')])['calcMinusRest']
    assert change.value[0] == pytest.approx(100 * 0.03 / 0.98, rel=0.05)


@pytest.mark.parametrize(('design', 'n_volumes'), [(N30, 400), (N10, 200)], ids=['480s', '240s'])
@pytest.mark.parametrize('correlation', [0.0, 0.3, 0.6])
def test_standard_errors_are_calibrated_under_correlated_noise(design, n_volumes, correlation):
    rng = np.random.default_rng(int(10 * correlation) + n_volumes)
    clean = BASE * (1 + 0.01 * response(design['calc'], n_volumes))
    truth = fit(clean[None], design)['calcMinusControl'].value[0]
    series = clean + 10 * noise(rng, 4000, n_volumes, correlation)
    change = fit(series, design)['calcMinusControl']
    z = (change.value - truth) / np.sqrt(change.variance)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert abs(z.mean()) < 0.08
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.015)


def test_degrees_of_freedom_are_volumes_minus_rank():
    rng = np.random.default_rng(1)
    series = BASE + noise(rng, 2, 400, 0.0)
    # 3 conditions of 3 columns, 2 cosines of a 1/480 Hz cut-off, line, constant
    assert fit(series)['calcMinusControl'].dof == 387
    confounds = rng.normal(size=(400, 2))
    assert fit(series, confounds=confounds)['calcMinusControl'].dof == 385


def test_confounds_are_removed():
    rng = np.random.default_rng(2)
    motion = rng.normal(size=(400, 1))
    series = BASE * (1 + 0.01 * response(N30['calc'], 400)) + 30 * motion.T
    clean = fit(series - 30 * motion.T)['calcMinusControl'].value[0]
    change = fit(series, confounds=motion)['calcMinusControl']
    assert change.value[0] == pytest.approx(clean, rel=0.01)


def test_gain_of_the_scanner_cancels():
    series = BASE + noise(np.random.default_rng(3), 5, 400, 0.3)
    change, louder = (fit(gain * series)['calcMinusControl'] for gain in (1.0, 7.0))
    np.testing.assert_allclose(louder.value, change.value, rtol=1e-8)
    np.testing.assert_allclose(louder.variance, change.variance, rtol=1e-8)


def test_voxels_without_signal_say_so_and_leave_their_neighbours_alone():
    series = BASE + noise(np.random.default_rng(4), 6, 400, 0.3)
    alone = fit(series[5:])['calcMinusControl']
    series[0], series[1], series[2, 7] = 0.0, 55.0, np.nan
    series[3] -= 3 * BASE
    series[4, 9] = np.inf
    change = fit(series)['calcMinusControl']
    assert change.status.tolist() == [
        Status.NO_SIGNAL, Status.NO_SIGNAL, Status.INVALID_INPUT, Status.NO_REFERENCE,
        Status.INVALID_INPUT, Status.OK,
    ]  # fmt: skip
    assert np.isnan(change.value[:5]).all()
    np.testing.assert_allclose(change.value[5:], alone.value, rtol=1e-10)


def test_chunks_and_order_of_voxels_change_nothing():
    series = BASE + noise(np.random.default_rng(5), 50, 400, 0.4)
    order = np.random.default_rng(6).permutation(50)
    whole = fit(series)['calcMinusControl']
    parts = fit(series[order], memory_mb=0.2)['calcMinusControl']
    np.testing.assert_allclose(parts.value, whole.value[order], rtol=1e-10)
    np.testing.assert_allclose(parts.variance, whole.variance[order], rtol=1e-10)


def test_single_precision_and_read_only_series_are_accepted():
    series = (BASE + noise(np.random.default_rng(7), 3, 400, 0.2)).astype(np.float32)
    series.flags.writeable = False
    change = fit(series)['calcMinusControl']
    np.testing.assert_allclose(
        change.value, fit(series.astype(float))['calcMinusControl'].value, rtol=1e-10
    )


def test_noise_models_agree_on_white_noise():
    series = BASE + noise(np.random.default_rng(8), 50, 400, 0.0)
    free, white = (fit(series, noise_model=name)['calcMinusControl'] for name in ('fast', 'ols'))
    np.testing.assert_allclose(free.value, white.value, atol=0.02)
    assert np.median(free.variance / white.variance) == pytest.approx(1, abs=0.1)


def coloured(rng, kind, n_voxels, n_volumes):
    """Noise of unit variance by a filter or by its spectrum, not by the candidates of the fit."""
    if kind == '1/f':
        frequency = np.fft.rfftfreq(4 * n_volumes)[1:]
        real, imaginary = rng.normal(size=(2, n_voxels, frequency.size)) / np.sqrt(frequency)
        spectrum = np.concatenate([np.zeros((n_voxels, 1)), real + 1j * imaginary], axis=1)
        slow = np.fft.irfft(spectrum, axis=1)[:, :n_volumes]
        return slow / slow.std()
    white = rng.normal(size=(n_voxels, n_volumes + 200))
    return lfilter([np.sqrt(1 - 0.81)], [1, -0.9], white, axis=1)[:, 200:]


@pytest.mark.parametrize('white', [0.0, 1.0])
@pytest.mark.parametrize('kind', ['ar', '1/f'])
def test_gate_keeps_its_level_with_slow_noise(kind, white):
    rng = np.random.default_rng(3)
    series = coloured(rng, kind, 4000, 400) + white * rng.normal(size=(4000, 400))
    change = fit(1000 + 10 * series)['calcMinusControl']
    z = np.abs(change.value) / np.sqrt(change.variance)
    assert 0.04 <= np.mean(z > 1.95996) <= 0.07
    assert np.mean(z > 3.29053) < 0.003


def test_trial_types_may_be_named_like_other_columns_of_the_design():
    design = {'constant': N30['calc'], 'drift1': N30['mem'], '0back': N30['rest']}
    series = BASE * (1 + 0.01 * response(N30['calc'], 400))[None]
    change = fit(series, design, contrasts=[('constant', 'control')])['constantMinusControl']
    assert change.value[0] == pytest.approx(fit(series)['calcMinusControl'].value[0])


def test_events_after_the_end_of_the_run_are_ignored():
    series = BASE + noise(np.random.default_rng(9), 3, 400, 0.2)
    late = [*rows(N30), (600.0, 30.0, 'calc')]
    np.testing.assert_array_equal(
        fit(series, events=late)['calcMinusControl'].value, fit(series)['calcMinusControl'].value
    )


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'contrasts': [('sleep', 'control')]}, "'sleep' has no event"),
        ({'events': rows(N30, 4.0)}, "'calc' last at most 4 s.*window_start"),
        ({'events': [(0.0, 480.0, 'calc')]}, "'control' has no event"),
        ({'confounds': np.full((400, 1), np.nan)}, 'confounds'),
        ({'confounds': np.ones((3, 1))}, 'confounds'),
        ({'confounds': np.ones((400, 420)) * np.arange(420)}, 'too few'),
        ({'noise_model': 'ar7'}, "'ar7' is not one of"),
    ],
)
def test_design_that_cannot_be_estimated_is_refused(changes, message):
    with pytest.raises(ModelInputError, match=message):
        fit(BASE + np.arange(400.0)[None], **changes)


def test_series_must_be_voxels_by_volumes():
    with pytest.raises(ModelInputError, match='voxels, volumes'):
        fit(np.ones(400))


STUDY = [(onset, 30.0, 'calc') for onset in (60.0, 180.0, 300.0, 360.0)]


@pytest.mark.parametrize('baseline', ['gaps', 'listed'])
def test_halves_share_no_block_and_together_hold_all(baseline):
    listed = [(0.0, 30.0, 'control'), (120.0, 30.0, 'control')] if baseline == 'listed' else []
    halves = [
        alternate_blocks(STUDY + listed, 480.0, baseline='control', keep=keep, shortest=6.0)
        for keep in ('first', 'second')
    ]
    kept = [{event for event in half if not event[2].endswith('_')} for half in halves]
    assert not kept[0] & kept[1]
    assert {event for event in kept[0] | kept[1] if event[2] == 'calc'} == set(STUDY)
    assert all({event[2] for event in half} == {'calc', 'control'} for half in kept)
    assert [event[:2] for event in halves[0]] == [event[:2] for event in halves[1]]


def test_errors_of_the_halves_are_independent_and_both_are_unbiased():
    rng = np.random.default_rng(7)
    events = [(onset, 30.0, 'calc') for onset in (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)]
    task = np.zeros(330)
    for onset, duration, _ in events:
        task[int(onset / 1.2) : int((onset + duration) / 1.2)] = 1.0
    series = 1000 + 10 * task + rng.normal(0, 10, (3000, task.size))
    found = []
    for keep in ('first', 'second'):
        half = alternate_blocks(events, 396.0, baseline='control', keep=keep, shortest=6.0)
        (change,) = fit(series, events=half, noise_model='ols').values()
        found.append(change.value)
    assert np.mean(found[0]) == pytest.approx(np.mean(found[1]), abs=0.05)
    assert abs(np.corrcoef(found)[0, 1]) < 0.15


# ----------------------------------------------------------------- the events of the study

PUBLISHED = {
    12: {
        'rest': [(5, 25), (130, 150), (230, 250), (330, 350)],
        'mem': [(30, 50), (105, 125), (180, 200), (380, 400)],
        'calc': [(55, 75), (155, 175), (255, 275), (305, 325)],
        'control': [(80, 100), (205, 225), (280, 300), (355, 375)],
    },
    4: {
        'control': [(5, 25), (55, 75), (105, 125), (155, 175)],
        'calc': [(30, 50), (80, 100), (130, 150), (180, 200)],
    },
}
"""Number of events of a design -> volume ranges of its conditions (science.md 3.1)."""


@pytest.mark.skipif(not SKELETON.is_file(), reason='the tree of ds004873 is not here')
def test_windows_of_every_real_events_file_are_the_published_ranges():
    seen = dict.fromkeys(PUBLISHED, 0)
    with tarfile.open(SKELETON) as tree:
        for item in tree:
            if not item.name.endswith('_task-all_events.tsv'):
                continue
            lines = tree.extractfile(item).read().decode().split()
            table = list(zip(lines[3::3], lines[4::3], lines[5::3], strict=True))
            events = [(float(onset), float(duration), name) for onset, duration, name in table]
            n_volumes = {12: 400, 4: 200}[len(events)]
            seen[len(events)] += 1
            listed = {name: [e[:2] for e in events if e[2] == name] for _, _, name in events}
            listed['control'] = implicit_blocks(events, n_volumes * TR)
            expected = PUBLISHED[len(events)]
            assert set(listed) == set(expected)
            for name, ranges in expected.items():
                found = volumes_in_blocks(
                    listed[name], n_volumes=n_volumes, repetition_time=TR, window_start=6.0
                )
                chosen = np.concatenate([np.arange(*one) for one in ranges])
                np.testing.assert_array_equal(np.flatnonzero(found), chosen)
    assert all(count >= 10 for count in seen.values()), seen


# ----------------------------------------------------------------- what a run may need


def test_default_cut_off_costs_less_than_a_twentieth_of_the_standard_error():
    for design, n_volumes in ((N30, 400), (N10, 200), ({'calc': (30, 150)}, 200)):
        made = make_task_design(
            n_volumes,
            repetition_time=TR,
            events=rows(design),
            baseline='control',
            contrasts=[('calc', 'control')],
        )
        assert made.loss <= 0.05
        assert made.high_pass > 0


def test_cut_off_is_lowered_where_a_cosine_looks_like_the_task():
    events = [(120.0, 120.0, 'calc')]  # the task is the half cycle of the slowest drift
    arguments = {'repetition_time': TR, 'events': events,
                 'baseline': 'control', 'contrasts': [('calc', 'control')]}  # fmt: skip
    forced = make_task_design(200, high_pass=1 / 120, **arguments)
    free = make_task_design(200, **arguments)
    assert forced.loss > 0.05
    assert free.loss <= 0.05
    assert free.high_pass < 1 / 240


def test_slow_drift_is_removed_whatever_the_confounds_are():
    rng = np.random.default_rng(14)
    clean = BASE * (1 + 0.01 * response(N30['calc'], 400))
    phase = np.arange(0.5, 400) / 400
    slow = np.array([phase - 0.5, np.cos(np.pi * phase) / 2, np.cos(2 * np.pi * phase) / 2])
    drift = 20 * rng.normal(size=(500, 3)) @ slow
    series = clean + 10 * noise(rng, 500, 400, 0.3)
    walk = np.cumsum(rng.normal(size=(400, 6)), axis=0)  # as slow as the drift
    changes = [fit(one, confounds=walk)['calcMinusControl'] for one in (series, series + drift)]
    # what is left is that the percent is of a baseline the drift has moved a little
    np.testing.assert_allclose(changes[1].value, changes[0].value, rtol=0.04, atol=0.01)


def test_volumes_that_do_not_count_may_hold_anything():
    rng = np.random.default_rng(10)
    series = BASE * (1 + 0.01 * response(N30['calc'], 400)) + 5 * noise(rng, 20, 400, 0.4)
    censored = np.zeros(400, bool)
    censored[[0, 1, 60, 61, 210, 399]] = True
    spoilt = series.copy()
    spoilt[:, censored] = np.nan
    spoilt[0, 0] = 1e9
    sound, found = (fit(one, censored=censored)['calcMinusControl'] for one in (series, spoilt))
    np.testing.assert_allclose(found.value, sound.value, rtol=1e-10)
    np.testing.assert_allclose(found.variance, sound.variance, rtol=1e-10)
    assert found.dof == fit(series)['calcMinusControl'].dof - 6


def test_spikes_spoil_the_errors_unless_they_are_censored():
    rng = np.random.default_rng(11)
    clean = BASE * (1 + 0.01 * response(N30['calc'], 400))
    truth = fit(clean[None])['calcMinusControl'].value[0]
    series = clean + 10 * noise(rng, 2000, 400, 0.3)
    censored = np.zeros(400, bool)
    censored[[65, 66, 70, 163, 164, 310]] = True
    series[:, censored] += 100
    kept = fit(series, censored=censored)['calcMinusControl']
    z = (kept.value - truth) / np.sqrt(kept.variance)
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1, abs=0.06)
    assert abs(np.mean(fit(series)['calcMinusControl'].value) - truth) > 0.1 * truth


def test_all_volumes_of_a_condition_censored_is_refused():
    censored = window(N30['calc'], 400)
    with pytest.raises(ModelInputError, match=r"'calc' is censored; .*bold\.censor_dvars"):
        fit(BASE + np.arange(400.0)[None], censored=censored)
    with pytest.raises(ModelInputError, match='one entry per volume'):
        fit(BASE + np.arange(400.0)[None], censored=np.zeros(3, bool))


def test_a_slice_that_is_read_late_gets_the_design_of_its_time():
    delay, times = 0.9, np.arange(400) * TR
    shape = np.interp(times + delay, times, response(N30['calc'], 400))
    series = BASE * (1 + 0.01 * shape)[None]
    truth = fit(BASE * (1 + 0.01 * response(N30['calc'], 400))[None])['calcMinusControl'].value[0]
    late = fit(series, first_time=delay)['calcMinusControl']
    ignored = fit(series)['calcMinusControl']
    assert late.value[0] == pytest.approx(truth, rel=0.01)
    assert late.variance[0] < ignored.variance[0]


def test_medians_follow_the_windows_and_tell_their_drift():
    rng = np.random.default_rng(12)
    series = BASE * (1 + 0.01 * response(N30['calc'], 400)) + noise(rng, 3, 400, 0.0)
    arguments = {'repetition_time': TR, 'events': rows(N30), 'baseline': 'control',
                 'contrasts': [('calc', 'control'), ('mem', 'control')]}  # fmt: skip
    changes, drift = median_change(series, **arguments)
    task, control = window(N30['calc'], 400), window((90, 240, 330, 420), 400)
    base = np.median(series[:, control], axis=1)
    expected = 100 * (np.median(series[:, task], axis=1) / base - 1)
    np.testing.assert_allclose(changes['calcMinusControl'].value, expected, rtol=1e-10)
    assert abs(drift['memMinusControl']['Linear']) > abs(drift['calcMinusControl']['Linear'])


@pytest.mark.parametrize('listed', [False, True])
def test_courses_without_an_assumed_response_follow_the_true_one(listed):
    rng = np.random.default_rng(13)
    shape = response(N30['calc'], 400)
    series = BASE * (1 + 0.01 * shape - 0.005 * response(N30['mem'], 400))
    series = series + 0.2 * noise(rng, 2, 400, 0.3)
    control = rows({'control': (90, 240, 330, 420)}) if listed else []
    design = make_time_course_design(
        400,
        repetition_time=TR,
        events=[*rows(N30), *control],
        baseline='control',
        high_pass=1 / 480,
    )
    courses = fit_task_design(series, design)
    found = np.array([courses[f'calc@{k}'].value[0] for k in range(35)])
    alone = 100 * 0.01 * response((0.0,), 35)
    assert np.abs(found - alone).max() < 0.12
    assert {name.partition('@')[0] for name in courses} == {'calc', 'mem', 'rest'}
    z = (found - alone) / np.sqrt([courses[f'calc@{k}'].variance[0] for k in range(35)])
    assert np.isfinite(z).all()


def test_courses_of_a_run_too_short_to_tell_them_apart_are_left_out():
    design = make_time_course_design(
        100,
        repetition_time=TR,
        events=[(30.0, 30.0, 'calc'), (60.0, 30.0, 'mem')],
        baseline='control',
        high_pass=1 / 240,
    )
    assert 0 < len(design.weights) < 70
    assert 'calc@0' in design.weights
    assert 'mem@2' not in design.weights  # the tail of calc and the start of mem are one
