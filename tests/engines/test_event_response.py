"""Events: the response to one of them, its error, and the same from nilearn."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, compute_regressor
from scipy.signal import lfilter
from scipy.stats import gamma

from bids_app.engines.event_response import modulated_columns
from bids_app.engines.glm import make_task_design, make_time_course_design
from bids_app.errors import ModelInputError
from bids_app.models.bold.glm import fit_task_design

TR = 1.2
N_VOLUMES = 320
TIMES = TR * np.arange(N_VOLUMES)


def events_of(rng, names=('faces', 'houses'), duration=1.0, spacing=(3.0, 8.0)):
    """Events of several types in random order, with random gaps."""
    rows, time = [], 4.0
    while time < N_VOLUMES * TR - 25:
        rows.append((round(time, 3), duration, str(rng.choice(names))))
        time += duration + rng.uniform(*spacing)
    return rows


def shape(lag, peak, undershoot):
    """A double-gamma response to an event of 1 s, with a peak near 1."""
    fine = np.arange(0, 40, 0.05)
    kernel = gamma.pdf(fine, peak) - gamma.pdf(fine, undershoot) / 6
    box = np.convolve(kernel, np.ones(20))[: fine.size]
    return np.interp(lag, fine, box / box.max(), left=0.0, right=0.0)


def response(rows, name, peak=6.0, undershoot=16.0):
    """Sum of the responses to events of a type at the volumes."""
    onsets = [onset for onset, _, one in rows if one == name]
    return sum(shape(TIMES - onset, peak, undershoot) for onset in onsets)


def noise(rng, n_voxels, correlation=0.4):
    white = rng.normal(size=(n_voxels, N_VOLUMES + 100))
    series = lfilter([1], [1, -correlation], white, axis=1)[:, 100:]
    return series * np.sqrt(1 - correlation**2)


def design_of(rows, contrasts=(('faces', 'control'),), **options):
    return make_task_design(
        N_VOLUMES,
        repetition_time=TR,
        events=rows,
        baseline='control',
        contrasts=list(contrasts),
        **{'measure': 'peak'} | options,
    )


@pytest.fixture(scope='module', params=['peak', 'mean', 'area'])
def measured(request):
    """Events, and their design with a measure of the response."""
    rows = events_of(np.random.default_rng(20261123))
    return rows, design_of(rows, measure=request.param)


@pytest.mark.parametrize(('peak', 'undershoot'), [(6.0, 16.0), (5.4, 15.0), (6.6, 17.0)])
def test_a_response_is_measured_whatever_its_delay(measured, peak, undershoot):
    rows, design = measured
    series = 1000 + 10 * response(rows, 'faces', peak, undershoot)
    series += 5 * response(rows, 'houses')
    found = fit_task_design(series[np.newaxis], design)['facesMinusControl'].value[0]
    told = design.measured['faces']
    times = np.arange(told.start, told.end + 1e-9, TR / 10)
    expected = 100 * 10 * shape(times, peak, undershoot).mean() / series.mean()
    assert found == pytest.approx(expected, rel=0.05)


def test_errors_are_true_with_several_types_and_a_difference_of_two(rng):
    rows = events_of(rng)
    half, n_voxels = 750, 1500
    active = np.arange(n_voxels)[:, np.newaxis] < half
    clean = 8 * response(rows, 'faces') + 8 * response(rows, 'houses')
    series = 1000 + active * clean + 9 * noise(rng, n_voxels)
    pairs = (('faces', 'control'), ('faces', 'houses'))
    design = design_of(rows, pairs)
    made = fit_task_design(series, design)
    (true,) = fit_task_design(1000 + clean[np.newaxis], design)['facesMinusControl'].value
    assert true == pytest.approx(0.8, rel=0.03)
    alone, both = made['facesMinusControl'], made['facesMinusHouses']
    covered = np.abs(alone.value - true)[:half] < 1.96 * np.sqrt(alone.variance[:half])
    assert 0.92 < covered.mean() < 0.97
    assert alone.value[:half].mean() == pytest.approx(0.8, rel=0.05)
    for null in (alone.value[half:] / np.sqrt(alone.variance[half:]),
                 both.value / np.sqrt(both.variance)):  # fmt: skip
        assert 0.035 < np.mean(np.abs(null) > 1.96) < 0.07


@pytest.mark.filterwarnings('ignore::RuntimeWarning:nilearn')
@pytest.mark.filterwarnings('ignore:.*Generation of a mask:RuntimeWarning')
@pytest.mark.parametrize('hrf_model', ['spm', 'glover'])
def test_percent_and_t_are_those_of_nilearn(rng, hrf_model):
    rows = events_of(rng)
    n_voxels = 400
    effect = rng.normal(0, 8, (n_voxels, 1))
    series = rng.uniform(800, 1200, (n_voxels, 1)) + effect * response(rows, 'faces')
    series = series + 5 * rng.normal(size=series.shape)
    design = design_of(rows, hrf_model=hrf_model, high_pass=0.01)
    ours = fit_task_design(series, design, noise_model='ols')['facesMinusControl']

    image = nb.Nifti1Image(series.reshape(20, 20, 1, N_VOLUMES), np.eye(4))
    model = FirstLevelModel(
        t_r=TR, hrf_model=hrf_model, drift_model='cosine', high_pass=0.01, noise_model='ols',
        signal_scaling=False, mask_img=nb.Nifti1Image(np.ones((20, 20, 1), np.uint8), np.eye(4)),
        minimize_memory=False,
    )  # fmt: skip
    table = pd.DataFrame(rows, columns=['onset', 'duration', 'trial_type'])
    line = pd.DataFrame({'line': np.linspace(-0.5, 0.5, N_VOLUMES)})
    model.fit(image, events=table, confounds=line)
    size, t = (
        model.compute_contrast('faces', output_type=kind).get_fdata().ravel()
        for kind in ('effect_size', 'stat')
    )
    top = max(
        compute_regressor(([0.0], [1.0], [1.0]), hrf_model, TR * (np.arange(30) + step / 20))[
            0
        ].max()
        for step in range(20)
    )
    percent = 100 * size * top / series.mean(axis=1)
    for mine, theirs in ((ours.value, percent), (ours.value / np.sqrt(ours.variance), t)):
        slope = (mine @ theirs) / (theirs @ theirs)
        assert np.corrcoef(mine, theirs)[0, 1] > 0.999
        assert slope == pytest.approx(1, abs=0.01)


def test_free_response_agrees_and_one_that_cannot_be_told_is_refused(rng):
    rows = events_of(rng)
    series = 1000 + 10 * response(rows, 'faces') + 10 * response(rows, 'houses')
    free, shaped = (
        fit_task_design(series[np.newaxis], design_of(rows, hrf_model=model, measure='mean'))
        for model in ('fir', 'spm')
    )
    assert free['facesMinusControl'].value == pytest.approx(
        shaped['facesMinusControl'].value, rel=0.06
    )
    every = [(TR * n, TR, 'faces') for n in range(N_VOLUMES)]
    with pytest.raises(ModelInputError, match='cannot tell the response'):
        design_of(every, hrf_model='fir')


def test_slices_read_later_have_the_same_response(rng):
    rows = events_of(rng)
    late = sum(shape(TIMES + 0.6 - onset, 6.0, 16.0) for onset, _, name in rows
               if name == 'faces')  # fmt: skip
    found = [
        fit_task_design(1000 + 10 * course[np.newaxis], design_of(rows, first_time=first))[
            'facesMinusControl'
        ].value[0]
        for course, first in ((response(rows, 'faces'), 0.0), (late, 0.6))
    ]
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_condition_without_an_event_is_refused(rng):
    with pytest.raises(ModelInputError, match="'cats' has no event"):
        design_of(events_of(rng), (('cats', 'control'),))


def test_courses_of_events_need_no_block_of_baseline(rng):
    rows = events_of(rng)
    series = 1000 + 10 * response(rows, 'faces') + 5 * response(rows, 'houses')
    design = make_time_course_design(
        N_VOLUMES, repetition_time=TR, events=rows, baseline='control', high_pass=1 / 300,
        is_of_events=True,
    )  # fmt: skip
    found = fit_task_design(series[np.newaxis], design)
    peaks = {
        name: max(one.value[0] for label, one in found.items() if label.startswith(name))
        for name in ('faces', 'houses')
    }
    assert peaks['faces'] == pytest.approx(1.0, rel=0.15)
    assert peaks['houses'] == pytest.approx(0.5, rel=0.15)


def test_a_response_that_varies_with_a_modulator_is_that_at_its_mean(rng):
    rows = events_of(rng)
    speed = rng.uniform(0.4, 1.6, len(rows))
    faces = np.array([name == 'faces' for _, _, name in rows])
    size = 10 * (1 + 0.8 * (speed - speed[faces].mean()))
    signal = sum(
        one * shape(TIMES - onset, 6.0, 16.0)
        for one, (onset, _, name) in zip(size, rows, strict=True)
        if name == 'faces'
    )
    series = 1000 + signal + 3 * rng.normal(size=(400, N_VOLUMES))
    unknown = np.where(faces, speed, np.nan)
    columns = modulated_columns(
        rows, unknown[:, np.newaxis], ['speed'], hrf_model='flexible', repetition_time=TR,
        n_volumes=N_VOLUMES,
    )  # fmt: skip
    assert list(columns) == ['faces_speed']
    plain, modulated = (
        fit_task_design(series, design_of(rows, confounds=extra))['facesMinusControl']
        for extra in (None, np.column_stack(list(columns.values())))
    )
    assert modulated.value.mean() == pytest.approx(1.0, rel=0.03)
    assert np.median(modulated.variance) < 0.8 * np.median(plain.variance)
