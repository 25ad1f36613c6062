"""Nodes of a task run: nuisance, percent change, courses."""

import numpy as np
import pandas as pd
import pytest

from bids_app.images import Grid
from bids_app.interfaces._base import sidecar_of
from bids_app.interfaces.bold import (
    MOTION,
    CompareWithGradientEcho,
    EstimatePercentChange,
    EstimateTimeCourses,
    FindNuisance,
)
from bids_app.models.status import Status
from tests.interfaces.conftest import Files

TR, N = 1.2, 200
EVENTS = [(30.0, 30.0, 'calc'), (90.0, 30.0, 'calc'), (150.0, 30.0, 'calc')]
DESIGN = {
    'repetition_time': TR,
    'events': EVENTS,
    'baseline': 'control',
    'contrasts': [('calc', 'control')],
}


@pytest.fixture
def run(tmp_path):
    """A run of 6 x 6 x 4 voxels, all in the mask."""
    files = Files(tmp_path, Grid((6, 6, 4), np.diag([3.0, 3.0, 3.0, 1.0])))
    files.inside[:] = True
    files.mask = files.image('mask', files.inside)
    return files


def response(delay=5.0):
    times = np.arange(N) * TR
    boxes = [(times >= onset + delay) & (times < onset + 30 + delay) for onset, _, _ in EVENTS]
    return np.any(boxes, axis=0).astype(float)


def series(rng, *, change=10.0, noise=2.0):
    data = 1000 + change * response() + noise * rng.standard_normal((6, 6, 4, N))
    return data.astype(np.float32)


def table(path, columns):
    pd.DataFrame(columns).to_csv(path, sep='\t', index=False, na_rep='n/a')
    return str(path)


def nuisance(files, image, **options):
    found = files.run(
        FindNuisance(series=image, mask=files.mask, repetition_time=TR, **options)
    ).nuisance
    return pd.read_csv(found, sep='\t'), found


def test_nuisance_without_motion_or_tissue_is_the_image_change_alone(run, rng):
    data = series(rng, change=0.0)
    data[..., 77] += 30
    found, _ = nuisance(
        run, run.image('bold', data), confounds=['motion', 'compcor'], lost=[0, 1],
        censor_dvars=1.5, censor_displacement=0.9,
    )  # fmt: skip
    assert list(found) == ['framewise_displacement', 'relative_dvars', 'censored']
    assert np.flatnonzero(found['censored']).tolist() == [0, 1, 77, 78]
    assert found['framewise_displacement'].isna().all()


@pytest.mark.parametrize(('kind', 'count'), [('motion', 6), ('motion24', 24), ('none', 0)])
def test_motion_that_is_known_enters_the_design_and_censors(run, rng, kind, count):
    moves = np.zeros((N, 6))
    moves[50:, 1] = 1.2
    path = table(run.folder / 'motion.tsv', dict(zip(MOTION, moves.T, strict=True)))
    found, _ = nuisance(
        run, run.image('bold', series(rng)), table=path, confounds=[kind],
        censor_displacement=0.9,
    )  # fmt: skip
    assert len(found.columns) == 3 + count
    assert np.flatnonzero(found['censored']).tolist() == [50]
    assert found['framewise_displacement'][50] == pytest.approx(1.2)


def test_noise_components_come_from_pure_white_matter_and_fluid(run, rng):
    wave = rng.standard_normal(N)
    data = series(rng)
    data[0] += 20 * wave
    white = np.zeros((6, 6, 4))
    white[0, :3] = 1.0
    fluid = np.zeros((6, 6, 4))
    fluid[0, 3:] = 1.0
    found, _ = nuisance(
        run, run.image('bold', data), confounds=['compcor'], components=2,
        white_matter=run.image('wm', white), csf=run.image('csf', fluid),
    )  # fmt: skip
    components = found[['a_comp_cor_00', 'a_comp_cor_01']].to_numpy()
    assert np.abs(np.corrcoef(components[:, 0], wave)[0, 1]) > 0.95


def test_confounds_of_fmriprep_are_taken_as_they_are(run, rng):
    columns = dict(zip(MOTION, rng.standard_normal((6, N)) / 100, strict=True))
    columns |= {f'a_comp_cor_0{i}': rng.standard_normal(N) for i in range(3)}
    columns['non_steady_state_outlier00'] = (np.arange(N) == 0).astype(float)
    columns['white_matter'] = rng.standard_normal(N)
    path = table(run.folder / 'confounds.tsv', columns)
    found, _ = nuisance(
        run, run.image('bold', series(rng)), table=path, confounds=['motion', 'compcor'],
        components=2,
    )  # fmt: skip
    assert list(found)[3:] == [*MOTION, 'a_comp_cor_00', 'a_comp_cor_01']
    np.testing.assert_allclose(found['a_comp_cor_01'], columns['a_comp_cor_01'], rtol=1e-6)
    assert np.flatnonzero(found['censored']).tolist() == [0]


@pytest.mark.parametrize('estimator', ['glm', 'block-median'])
def test_percent_change_of_a_block_design(run, rng, estimator):
    data = series(rng, noise=0.2)
    data[3:] -= 10 * response()
    image = run.image('bold', data)
    _, table_ = nuisance(run, image)
    outputs = run.run(
        EstimatePercentChange(
            series=image, mask=run.mask, nuisance=table_, estimator=estimator, **DESIGN
        )
    )
    found = run.read(outputs.bold[0]).reshape(6, 24)
    np.testing.assert_allclose(found[:3], 1.0, atol=0.05)
    np.testing.assert_allclose(found[3:], 0.0, atol=0.05)
    facts = sidecar_of(outputs.bold[0])
    assert len(facts.get('ResidualAutocorrelation', [])) == (6 if estimator == 'glm' else 0)
    assert facts['DegreesOfFreedom'] > 100
    assert facts['Estimator'] == estimator
    assert ('DriftSensitivity' in facts) == (estimator == 'block-median')


def change_of(run, image, events=EVENTS):
    """Sidecar of the percent change of a run."""
    _, table_ = nuisance(run, image)
    how = {**DESIGN, 'events': events}
    outputs = run.run(EstimatePercentChange(series=image, mask=run.mask, nuisance=table_, **how))
    return sidecar_of(outputs.bold[0])


def test_the_halves_of_a_run_agree_within_their_errors(run, rng):
    """White noise; then a task that is answered in the first half alone."""
    halves = change_of(run, run.image('bold', series(rng, change=0.0)))['HalfCalibration']
    assert halves['voxel']['Verdict'] == 'right'
    assert 0.7 < halves['voxel']['SDofZ'] < 1.3
    uneven = series(rng, change=0.0)
    uneven[..., : N // 2] += 10 * response()[: N // 2]
    halves = change_of(run, run.image('uneven', uneven))['HalfCalibration']
    assert halves['voxel']['SDofZ'] > 3
    assert 'too small' in halves['voxel']['Verdict']


def test_a_steady_drift_is_no_difference_of_the_halves(run, rng):
    """What the columns of drift take out of the whole run they take out of each half."""
    drift = 20 * np.sin(np.linspace(0, 4, N)) + np.linspace(0, 10, N)
    data = series(rng, change=0.0, noise=1.0) + drift.astype(np.float32)
    halves = change_of(run, run.image('bold', data))['HalfCalibration']
    assert abs(halves['brain']['Z']) < 3


def test_a_task_of_one_half_has_no_halves(run, rng):
    halves = change_of(run, run.image('bold', series(rng)), EVENTS[:1])['HalfCalibration']
    assert halves['Verdict'].startswith('not compared: ')
    assert 'calcMinusControl: half of the run' in halves['Verdict']


def test_slices_read_late_give_the_same_change(run, rng):
    times = [0.0, 0.3, 0.6, 0.9]
    data = np.full((6, 6, 4, N), 1000.0)
    smooth = np.convolve(response(), np.ones(5) / 5, 'same')
    for index, time in enumerate(times):
        data[:, :, index] += 10 * np.interp(np.arange(N) * TR + time, np.arange(N) * TR, smooth)
    data += 0.05 * rng.standard_normal(data.shape)
    image = run.image('bold', data)
    _, table_ = nuisance(run, image)
    found = {}
    for name, slices in (('with', times), ('without', [])):
        outputs = run.run(
            EstimatePercentChange(
                series=image, mask=run.mask, nuisance=table_, slice_times=slices, **DESIGN
            )
        )
        found[name] = run.read(outputs.bold[0]).reshape(6, 6, 4).mean(axis=(0, 1))
        assert sidecar_of(outputs.bold[0])['SliceTimingCorrected'] == bool(slices)
    assert np.ptp(found['with']) < np.ptp(found['without'])
    assert np.ptp(found['with']) < 0.015


def test_courses_are_told_for_parcels_networks_and_brain(run, rng):
    atlas = np.ones((6, 6, 4), np.int16)
    atlas[3:] = 2
    data = series(rng)
    data[3:] -= 10 * response()
    regions = table(
        run.folder / 'atlas.tsv', {'index': [1, 2], 'name': ['A', 'B'], 'network': ['x', 'y']}
    )
    image = run.image('bold', data)
    _, table_ = nuisance(run, image)
    outputs = run.run(
        EstimateTimeCourses(
            series=image,
            mask=run.mask,
            nuisance=table_,
            atlas=run.image('atlas', atlas),
            atlas_table=regions,
            grey_matter=run.mask,
            minimum_grey_matter=0.5,
            **DESIGN,
        )
    )
    found = pd.read_csv(outputs.table, sep='\t')
    assert set(found['level']) == {'parcel', 'network', 'brain'}
    plateau = found[(found['time'] > 8) & (found['time'] < 28)]
    means = plateau.groupby(['level', 'name'])['percent'].mean()
    assert means['parcel', 'A'] == pytest.approx(1.0, abs=0.05)
    assert means['parcel', 'B'] == pytest.approx(0.0, abs=0.05)
    assert means['brain', 'brain'] == pytest.approx(0.5, abs=0.05)
    assert (found['se'] > 0).all()


def test_measured_bold_stands_beside_what_the_gradient_echo_predicts(run):
    n = int(run.inside.sum())
    regions = table(
        run.folder / 'atlas.tsv', {'index': [1, 2], 'name': ['A', 'B'], 'network': ['x', 'y']}
    )
    atlas = np.ones((6, 6, 4), np.int16)
    atlas[3:] = 2
    missing = np.zeros(n, np.uint8)
    missing[0] = Status.NOT_CONVERGED
    outputs = run.run(
        CompareWithGradientEcho(
            mask=run.mask,
            grey_matter=run.mask,
            minimum_grey_matter=0.5,
            atlas=run.image('atlas', atlas),
            atlas_table=regions,
            echo_time=0.03,
            **run.quantity('bold', *np.full(n, 1.6), variance=0.04, status=np.zeros(n)),
            **run.quantity('task', *np.full(n, 19.5), variance=0.5, status=missing),
            **run.quantity('baseline', *np.full(n, 20.0), variance=0.5, status=np.zeros(n)),
        )
    )
    found = pd.read_csv(outputs.table, sep='\t').set_index('name')
    assert found['predicted'].tolist() == pytest.approx([1.5] * 5)
    assert found['difference'].tolist() == pytest.approx([0.1] * 5)
    assert found['n_voxels'].tolist() == [71, 72, 71, 72, 143]
    np.testing.assert_allclose(found.loc['A', 'predicted_se'], 3 / np.sqrt(71), rtol=1e-5)
    spread = np.hypot(found['measured_se'], found['predicted_se'])
    np.testing.assert_allclose(found['z'], found['difference'] / spread, rtol=1e-4)


def test_series_without_rejected_components_gives_what_the_whole_one_gives_with_them(run, rng):
    shared = response() - response().mean() + 0.5 * rng.standard_normal(N)
    courses = np.column_stack([shared, *rng.standard_normal((39, N))])
    courses = (courses - courses.mean(axis=0)) / courses.std(axis=0)
    names = [f'ICA_{index:02}' for index in range(40)]
    weights = rng.standard_normal((6, 6, 4, 40))
    whole = series(rng, noise=4.0) + weights @ courses.T
    mean = whole.mean(axis=-1, keepdims=True)
    fit = (whole - mean) @ np.linalg.pinv(courses).T
    # as tedana does it: all components are fitted, those rejected are subtracted
    clean = whole - fit @ courses.T
    path = table(run.folder / 'mixing.tsv', dict(zip(names, courses.T, strict=True)))
    image = run.image('clean', clean)
    found, _ = nuisance(run, image, courses=path, rejected=names)
    assert list(found)[3:] == [f'rejected_{name}' for name in names]
    with_them = table(run.folder / 'with_them.tsv', found)
    _, without = nuisance(run, image)

    def change(data, columns):
        node = EstimatePercentChange(
            series=run.image('series', data), mask=run.mask, nuisance=columns,
            noise_model='ols', **DESIGN,
        )  # fmt: skip
        estimate = run.run(node).bold[0]
        return run.read(estimate).ravel(), run.read(estimate, 'variance').ravel()

    reference, made, naive = (
        change(*one) for one in ((whole, with_them), (clean, with_them), (clean, without))
    )
    # but for the level of the baseline that the percentage is of
    np.testing.assert_allclose(made[0], reference[0], rtol=0.01)
    np.testing.assert_allclose(made[1], reference[1], rtol=0.01)
    assert made[0].mean() == pytest.approx(1, abs=0.1)
    z = (made[0] - made[0].mean()) / np.sqrt(made[1])
    assert z.std() == pytest.approx(1, abs=0.2)
    assert naive[0].mean() < 0.5, 'half of the task went with the component that shares it'
