import numpy as np
import pytest

from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.decay import predict_decay
from bids_app.models.relaxometry.decay_samples import choose_voxels, fitted_curve
from bids_app.models.relaxometry.epg import predict_echo_train
from bids_app.models.status import Status

TIMES = np.array([0.01, 0.02, 0.03, 0.04])
NAMES = {1: 'grey', 2: 'white', 3: 'csf'}


def test_the_typical_voxel_of_a_tissue_is_the_one_at_its_median():
    rate = Estimate.of([10.0, 14.0, 13.0, 1.0, 30.0], 1.0, [0, 0, 0, 0, 0])
    assert choose_voxels(rate, [1, 1, 1, 3, 2], NAMES) == {'grey': 2, 'white': 4, 'csf': 3}


def test_a_flagged_voxel_is_chosen_but_none_outside():
    status = [Status.OK, Status.FLUID, Status.OUTSIDE_MASK]
    rate = Estimate.of([10.0, 2.0, np.nan], [1.0, 1.0, np.nan], status)
    assert choose_voxels(rate, [1, 1, 1], NAMES) == {'grey': 0, 'flagged': 1}


def test_the_curve_of_an_exact_decay_is_the_decay_with_its_dephasing():
    attenuation = np.array([[1.0, 0.9, 0.7, 0.4]])
    signal = predict_decay(TIMES, [500.0], [12.0]) * attenuation
    curve = fitted_curve(signal, [12.0], [0], echo_times=TIMES, attenuation=attenuation)
    np.testing.assert_allclose(curve, signal)


def test_the_refocusing_angle_of_a_train_is_found():
    train = predict_echo_train(4, echo_spacing=0.01, r2=[12.0], refocusing_angle=150.0)
    curve = fitted_curve(900.0 * train, [12.0], [0], echo_times=TIMES, model='epg')
    np.testing.assert_allclose(curve, 900.0 * train, rtol=1e-6)


def test_the_first_echo_counts_only_where_the_model_uses_it():
    signal = predict_decay(TIMES, [500.0], [12.0])
    signal[0, 0] *= 0.8
    dropped = fitted_curve(signal, [12.0], [0], echo_times=TIMES, model='drop-first')
    np.testing.assert_allclose(dropped[0, 1:], signal[0, 1:])
    used = fitted_curve(signal, [12.0], [0], echo_times=TIMES)
    assert used[0, 1] < 0.99 * signal[0, 1]


@pytest.mark.parametrize('status', [Status.NO_SIGNAL, Status.OUTSIDE_MASK])
def test_a_voxel_without_a_rate_has_no_curve(status):
    curve = fitted_curve(np.ones((1, 4)), [np.nan], [status], echo_times=TIMES)
    assert np.isnan(curve).all()
