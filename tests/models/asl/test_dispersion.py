"""Dispersion of the bolus: against a convolution on a grid, and what it costs to leave out."""

import numpy as np
import pytest
from scipy.stats import gamma

from bids_app.errors import ModelInputError
from bids_app.models.asl.kinetics import Kinetics, signal_scale
from bids_app.models.asl.multi_delay import fit_dispersed, fit_multi_delay
from bids_app.models.estimate import Estimate
from tests.forward import dispersed_difference

CONSTANTS = {
    'labeling_efficiency': 0.85, 'background_suppression_factor': 0.9, 't1_blood': 1.65,
    't1_tissue': 1.5, 'partition_coefficient': 0.9,
}  # fmt: skip
DELAYS = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0])
KERNEL = {'dispersion_sharpness': 6.0, 'dispersion_peak': 0.15}


@pytest.mark.parametrize('labeling', ['continuous', 'pulsed'])
@pytest.mark.parametrize(('sharpness', 'peak'), [(10.0, 0.1), (5.0, 0.2), (20.0, 0.0)])
def test_response_is_that_of_a_convolved_input(labeling, sharpness, peak):
    duration, flow, arrival = (1.8, 60.0, 0.8) if labeling == 'continuous' else (0.8, 60.0, 0.8)
    relaxing = (CONSTANTS[name] for name in ('t1_blood', 't1_tissue', 'partition_coefficient'))
    kinetics = Kinetics.of(labeling, *relaxing, (sharpness, peak))
    delays = DELAYS if labeling == 'continuous' else DELAYS + 0.5
    time = kinetics.time(delays, np.full(len(delays), duration))
    made, _, _ = kinetics.response(np.array(flow), np.array(arrival), time, np.array(duration))
    scale = signal_scale(0.85, 0.9, kinetics)
    expected = dispersed_difference(
        flow, arrival, time, duration, labeling=labeling,
        kernel=gamma(1 + sharpness * peak, scale=1 / sharpness).pdf, **CONSTANTS,
    )  # fmt: skip
    np.testing.assert_allclose(scale * made, expected, atol=5e-4 * expected.max())


def measured(flow, arrival, kernel=KERNEL):
    """Differences of all delays with dispersed label, M0 1."""
    shape = gamma(1 + kernel['dispersion_sharpness'] * kernel['dispersion_peak'],
                  scale=1 / kernel['dispersion_sharpness'])  # fmt: skip
    return dispersed_difference(
        flow, arrival, DELAYS + 1.8, 1.8, labeling='continuous', kernel=shape.pdf, **CONSTANTS
    )


def fitted(function, differences, sd=1e-6, **more):
    """Flow and arrival of rows of differences."""
    return function(
        Estimate.of(np.atleast_2d(differences), sd**2),
        Estimate.of(np.ones(len(np.atleast_2d(differences)))),
        post_label_delay=DELAYS, label_duration=1.8, n_pairs=8, labeling='continuous',
        **CONSTANTS, **more,
    )  # fmt: skip


@pytest.mark.parametrize('arrival', [0.6, 0.9, 1.2])
def test_known_kernel_takes_the_bias_away(arrival):
    """What the page says: without it arrival is later, and flow up to some percent off."""
    differences = measured(60.0, arrival)
    cbf, att = fitted(fit_dispersed, differences, **KERNEL)
    assert cbf.value[0] == pytest.approx(60.0, rel=0.005)
    assert att.value[0] == pytest.approx(arrival, abs=0.01)
    plain, late = fitted(fit_multi_delay, differences)
    assert late.value[0] - arrival > 0.15
    assert abs(plain.value[0] / 60 - 1) > 2 * abs(cbf.value[0] / 60 - 1)


def test_intervals_hold_the_flow_of_a_dispersed_bolus():
    rng, sd = np.random.default_rng(3), 6e-4
    differences = measured(60.0, 0.9) + sd * rng.standard_normal((2000, len(DELAYS)))
    cbf, _ = fitted(fit_dispersed, differences, sd, **KERNEL)
    assert np.mean(np.abs(cbf.value - 60) < 1.96 * np.sqrt(cbf.variance)) == pytest.approx(
        0.95, abs=0.025
    )


def test_a_sharp_kernel_is_no_kernel():
    differences = measured(50.0, 0.8)
    sharp = fitted(fit_dispersed, differences, dispersion_sharpness=900.0, dispersion_peak=0.0)
    for one, other in zip(sharp, fitted(fit_multi_delay, differences), strict=True):
        assert one.value == pytest.approx(other.value, rel=5e-3)


@pytest.mark.parametrize(('sharpness', 'peak'), [(0.0, 0.1), (10.0, -0.1), (10.0, np.nan)])
def test_what_is_no_kernel_is_refused(sharpness, peak):
    with pytest.raises(ModelInputError, match='dispersion_'):
        Kinetics.of('continuous', 1.65, 1.5, 0.9, (sharpness, peak))


@pytest.mark.parametrize('labeling', ['continuous', 'pulsed'])
def test_derivatives_are_those_of_the_response(labeling):
    kinetics = Kinetics.of(labeling, 1.65, 1.5, 0.9, (8.0, 0.12))
    time, duration = np.array([0.9, 1.6, 2.4, 3.3]), np.array(1.2)

    def response(flow, arrival):
        return kinetics.response(np.array(flow), np.array(arrival), time, duration)

    _, by_cbf, by_att = response(60.0, 0.8)
    step = 1e-4
    for made, ahead, behind, size in (
        (by_cbf, response(60.0 + step, 0.8), response(60.0 - step, 0.8), step),
        (by_att, response(60.0, 0.8 + step), response(60.0, 0.8 - step), step),
    ):
        expected = (ahead[0] - behind[0]) / (2 * size)
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
    gain = kinetics.gain(np.array(60.0), np.array(0.8), time, duration)
    np.testing.assert_allclose(60 * gain, response(60.0, 0.8)[0])
