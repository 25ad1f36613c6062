"""Batched least squares."""

import time

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares

from bids_app.errors import ModelInputError
from bids_app.models.numerics.fitting import fit_least_squares
from bids_app.models.status import Status

TIMES = np.linspace(0.005, 0.06, 12)
UNBOUNDED = {'lower': [-np.inf, -np.inf], 'upper': [np.inf, np.inf]}


def decay(parameters, factor=1.0):
    shape = np.exp(-parameters[:, 1:] * TIMES) * factor
    prediction = parameters[:, :1] * shape
    return prediction, np.stack([shape, -TIMES * prediction], axis=-1)


def noisy_decay(n_voxels, noise=15.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.uniform(500, 1500, n_voxels), rng.uniform(8, 30, n_voxels)], axis=1)
    data = decay(truth)[0] + rng.normal(0, noise, (n_voxels, len(TIMES)))
    return truth, data, truth * [1.2, 0.7]


def test_noise_free_decay_is_recovered():
    truth, data, start = noisy_decay(200, noise=0.0)
    fit = fit_least_squares(decay, data, start, **UNBOUNDED)
    assert fit.parameters == pytest.approx(truth, rel=1e-7)
    assert not fit.status.any()


def test_parameters_covariance_and_residual_equal_those_of_scipy():
    _, data, start = noisy_decay(60)
    fit = fit_least_squares(decay, data, start, lower=[0, 0], upper=[1e5, 1e3])
    for voxel in range(60):
        expected, covariance = curve_fit(
            lambda t, a, b: a * np.exp(-b * t),
            TIMES,
            data[voxel],
            p0=start[voxel],
            bounds=([0, 0], [1e5, 1e3]),
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
        )
        ours = fit.covariance[voxel] * fit.residual_variance[voxel]
        assert fit.parameters[voxel] == pytest.approx(expected, rel=1e-6)
        assert ours == pytest.approx(covariance, rel=1e-4)


def test_three_parameters_equal_scipy():
    rng = np.random.default_rng(4)
    truth = np.stack([rng.uniform(5, 9, 40), rng.uniform(10, 30, 40), rng.uniform(1, 2, 40)], 1)

    def predict(p):
        shape = np.exp(-p[:, 1:2] * TIMES)
        jacobian = np.stack([shape, -TIMES * p[:, :1] * shape, np.ones_like(shape)], axis=-1)
        return p[:, :1] * shape + p[:, 2:], jacobian

    data = predict(truth)[0] + rng.normal(0, 0.01, (40, 12))
    fit = fit_least_squares(
        predict, data, np.full((40, 3), [6.0, 15, 0]), lower=[0, 0, -9], upper=[99, 200, 9]
    )
    for voxel in range(40):
        oracle = least_squares(
            lambda p, y=data[voxel]: predict(p[None])[0][0] - y, truth[voxel], xtol=1e-13
        )
        assert fit.parameters[voxel] == pytest.approx(oracle.x, rel=1e-5)


def test_error_bars_cover_the_truth():
    truth, data, start = noisy_decay(20_000, noise=15.0, seed=3)
    fit = fit_least_squares(decay, data, start, **UNBOUNDED)
    deviation = (fit.parameters - truth) / (15.0 * np.sqrt(np.einsum('vpp->vp', fit.covariance)))
    assert deviation.std(axis=0) == pytest.approx([1, 1], abs=0.02)
    assert fit.residual_variance.mean() == pytest.approx(225, rel=0.02)


def test_far_start_is_not_fatal():
    truth, data, _ = noisy_decay(500)
    fit = fit_least_squares(
        decay, data, np.full((500, 2), [1.0, 100.0]), lower=[0, 0], upper=[1e5, 1e3]
    )
    near = fit_least_squares(decay, data, truth, lower=[0, 0], upper=[1e5, 1e3])
    assert not fit.status.any()
    assert fit.parameters == pytest.approx(near.parameters, rel=1e-5)


def test_weight_zero_equals_leaving_the_sample_out_even_if_it_is_nan():
    _, data, start = noisy_decay(50)
    data[:, 3] = np.nan
    weights = np.ones(data.shape)
    weights[:, 3] = 0
    fit = fit_least_squares(decay, data, start, weights=weights, **UNBOUNDED)

    kept = np.delete(np.arange(12), 3)

    def without(parameters):
        prediction, jacobian = decay(parameters)
        return prediction[:, kept], jacobian[:, kept]

    expected = fit_least_squares(without, data[:, kept], start, **UNBOUNDED)
    assert fit.parameters == pytest.approx(expected.parameters, rel=1e-9)
    assert fit.residual_variance == pytest.approx(expected.residual_variance, rel=1e-9)
    assert (fit.dof == 9).all()


def test_a_common_factor_of_the_weights_changes_only_scale():
    _, data, start = noisy_decay(50)
    one = fit_least_squares(decay, data, start, **UNBOUNDED)
    four = fit_least_squares(decay, data, start, weights=np.full(data.shape, 4.0), **UNBOUNDED)
    assert four.parameters == pytest.approx(one.parameters, rel=1e-7)
    assert four.covariance * 4 == pytest.approx(one.covariance, rel=1e-5)
    assert four.residual_variance == pytest.approx(4 * one.residual_variance)


def test_inverse_variance_weights_are_used():
    def line(parameters):
        return np.repeat(parameters, 2, axis=1), np.ones((len(parameters), 2, 1))

    fit = fit_least_squares(
        line, [[1.0, 4.0]], [[0.0]], lower=[-9], upper=[9], weights=[[2.0, 1.0]]
    )
    assert fit.parameters[0, 0] == pytest.approx(2.0)
    assert fit.covariance[0, 0, 0] == pytest.approx(1 / 3)


def test_chunks_permutation_and_neighbours_do_not_change_a_voxel():
    _, data, start = noisy_decay(64)
    factor = np.random.default_rng(8).uniform(0.5, 1, data.shape)
    whole = fit_least_squares(decay, data * factor, start, auxiliary=(factor,), **UNBOUNDED)
    parts = fit_least_squares(
        decay, data * factor, start, auxiliary=(factor,), memory_mb=0.01, **UNBOUNDED
    )
    order = np.random.default_rng(1).permutation(64)
    mixed = fit_least_squares(
        decay, (data * factor)[order], start[order], auxiliary=(factor[order],), **UNBOUNDED
    )
    assert np.array_equal(parts.parameters, whole.parameters)
    assert np.array_equal(mixed.parameters, whole.parameters[order])
    data[5] = np.nan
    spoilt = fit_least_squares(decay, data * factor, start, auxiliary=(factor,), **UNBOUNDED)
    assert np.array_equal(np.delete(spoilt.parameters, 5, 0), np.delete(whole.parameters, 5, 0))


def test_every_reason_for_a_missing_fit_has_its_status():
    _, data, start = noisy_decay(7)
    weights = np.ones(data.shape)
    data[0, 2] = np.nan
    data[1] = 0
    weights[2, 1:] = 0
    start[3] = np.nan
    start[4] = [1.0, 1.0]
    data[5] = decay(np.array([[1000.0, -40.0]]))[0]
    fit = fit_least_squares(
        decay, data, start, weights=weights, lower=[0, 0], upper=[1e5, 1e3], max_iterations=1
    )
    more = fit_least_squares(decay, data, start, weights=weights, lower=[0, 0], upper=[1e5, 1e3])
    assert list(fit.status[:5]) == [
        Status.INVALID_INPUT,
        Status.NO_SIGNAL,
        Status.TOO_FEW_SAMPLES,
        Status.INVALID_INPUT,
        Status.NOT_CONVERGED,
    ]
    assert list(more.status[4:]) == [Status.OK, Status.AT_BOUND, Status.OK]
    for result in (fit, more):
        missing = result.status != Status.OK
        assert np.array_equal(np.isnan(result.parameters).all(axis=1), missing)
        assert np.array_equal(np.isnan(result.parameters).any(axis=1), missing)
        assert np.array_equal(np.isnan(result.covariance).any(axis=(1, 2)), missing)


def test_a_parameter_pressed_against_its_bound_does_not_hold_up_the_others():
    seen = []

    def watch(parameters):
        seen.append(parameters[0].copy())
        return decay(parameters)

    _, data, start = noisy_decay(1, noise=0.0)
    fit = fit_least_squares(watch, data, start, lower=[0, 40], upper=[1e5, 100])
    assert fit.status[0] == Status.AT_BOUND
    shape = np.exp(-40 * TIMES)
    assert seen[-1] == pytest.approx([data[0] @ shape / (shape @ shape), 40], rel=1e-6)


def test_parameters_that_the_data_do_not_determine_are_not_reported():
    def twice(parameters):
        jacobian = np.ones((len(parameters), 4, 2))
        return parameters.sum(axis=1, keepdims=True) * np.ones(4), jacobian

    fit = fit_least_squares(twice, [[1.0, 2, 3, 4]], [[0.0, 0.0]], **UNBOUNDED)
    assert fit.status[0] == Status.NOT_CONVERGED


def test_a_prediction_that_is_not_finite_is_invalid_input_or_a_rejected_step():
    _, data, start = noisy_decay(2, noise=0.0)

    def partial(parameters):
        prediction, jacobian = decay(parameters)
        prediction[parameters[:, 0] > 2000] = np.nan
        return prediction, jacobian

    start[0, 0] = 3000
    fit = fit_least_squares(partial, data, start, **UNBOUNDED)
    assert list(fit.status) == [Status.INVALID_INPUT, Status.OK]


def test_as_many_samples_as_parameters_leave_no_residual_variance():
    _, data, start = noisy_decay(3, noise=0.0)
    weights = np.zeros(data.shape)
    weights[:, [0, 11]] = 1
    fit = fit_least_squares(decay, data, start, weights=weights, **UNBOUNDED)
    assert not fit.status.any()
    assert (fit.dof == 0).all()
    assert np.isnan(fit.residual_variance).all()


def test_inputs_stay_as_they_are_and_an_empty_mask_is_no_error():
    _, data, start = noisy_decay(5)
    for array in (data, start):
        array.setflags(write=False)
    fit_least_squares(decay, data, start, **UNBOUNDED)
    empty = fit_least_squares(decay, data[:0], start[:0], **UNBOUNDED)
    assert len(empty.status) == 0


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'data': np.ones(12)}, r'data \(V, N\)'),
        ({'start': np.ones((3, 2))}, r'start \(V, P\)'),
        ({'weights': -np.ones((2, 12))}, 'weights'),
        ({'weights': np.ones((2, 3))}, 'weights'),
        ({'lower': [0, 5], 'upper': [1, 5]}, 'lower < upper'),
        ({'auxiliary': (np.ones(3),)}, 'auxiliary'),
    ],
)
def test_contradictory_arguments_are_refused(change, text):
    arguments = {'data': np.ones((2, 12)), 'start': np.ones((2, 2)), **UNBOUNDED, **change}
    data, start = arguments.pop('data'), arguments.pop('start')
    with pytest.raises(ModelInputError, match=text):
        fit_least_squares(decay, data, start, **arguments)


@pytest.mark.prove
def test_batched_fit_is_fifty_times_faster_per_voxel_than_curve_fit_with_bounds():
    _, data, start = noisy_decay(40_000)
    begin = time.process_time()
    fit_least_squares(decay, data, start, lower=[0, 0], upper=[1e5, 1e3])
    ours = (time.process_time() - begin) / len(data)
    begin = time.process_time()
    for voxel in range(200):
        curve_fit(
            lambda t, a, b: a * np.exp(-b * t),
            TIMES,
            data[voxel],
            p0=start[voxel],
            bounds=([0, 0], [1e5, 1e3]),
        )
    theirs = (time.process_time() - begin) / 200
    assert theirs / ours >= 50
