import numpy as np
import pytest
from scipy.integrate import quad

from bids_app.phantom import physics

LABELING = {'label_duration': 1.8, 'post_label_delay': 1.8, 'efficiency': 0.85}


def test_constants_give_the_numbers_of_the_specification():
    # science: 316.956 1/s with the rounded gamma of the preset, 0.04 % less with CODATA's
    rate = physics.static_dephasing_constant(b0=3.0, hct=0.42)
    assert rate == pytest.approx(316.956, rel=5e-4)
    assert rate == pytest.approx(316.956 * 267.52219 / 267.61918, rel=1e-5)
    assert physics.oxygen_content(hct=0.42, sao2=0.98) == pytest.approx(7.64358, abs=5e-6)


@pytest.mark.parametrize('arrival', [0.5, 1.5, 2.4, 4.0])
def test_label_is_the_integral_of_what_has_arrived(arrival):
    def arrived(age):
        return np.exp(-age / physics.T1_BLOOD) * (age >= arrival)

    total = quad(arrived, 1.8, 3.6, points=[min(max(arrival, 1.8), 3.6)])[0]
    expected = 2 * 0.85 * (60 / 6000) / 0.9 * total
    got = physics.labelled_magnetisation(60.0, arrival_time=arrival, **LABELING)
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_white_paper_inverts_the_label_that_has_all_arrived():
    flow = np.array([5.0, 20.0, 80.0])
    label = physics.labelled_magnetisation(flow, arrival_time=1.1, **LABELING)
    assert physics.white_paper_cbf(label, np.ones(3), **LABELING) == pytest.approx(flow)


def test_white_paper_factor_is_the_published_one():
    cbf = physics.white_paper_cbf(
        np.array([0.01]),
        np.array(
            [
                1.0,
            ]
        ),
        **LABELING,
    )
    assert float(cbf[0]) == pytest.approx(86.2999, abs=1e-4)


def test_white_paper_has_no_cbf_without_equilibrium_signal():
    assert np.isnan(physics.white_paper_cbf(np.array([1.0]), np.array([0.0]), **LABELING))[0]


def test_bolus_is_absent_before_arrival_and_peaks_at_one():
    times = np.arange(0, 105, 0.5)
    first, whole = physics.bolus(times, arrival=21.0)
    assert not whole[times <= 21].any()
    assert first.max() == pytest.approx(1.0, abs=1e-9)
    assert np.all(whole >= first)
    assert whole[-1] == pytest.approx(0.05, abs=0.01)
    # recirculation is a second hump: there is a valley for the end of the first pass
    after = whole[(times > 33) & (times < 60)]
    assert after.min() < after[-20:].max()


def test_response_to_an_endless_block_is_one():
    times = np.array([0.0, 200.0, 400.0])
    response = physics.haemodynamic_response([0.0], 1e4, times)
    assert response == pytest.approx([0.0, 1.0, 1.0], abs=1e-9)


def test_response_is_causal_and_additive():
    times = np.arange(0, 120, 1.2)
    one = physics.haemodynamic_response([30.0], 30.0, times)
    two = physics.haemodynamic_response([30.0, 60.0], 30.0, times)
    long = physics.haemodynamic_response([30.0], 60.0, times)
    assert not one[times <= 30].any()
    assert two == pytest.approx(long)
    assert times[np.argmax(np.diff(one))] == pytest.approx(34.8, abs=1.3)


def test_autoregressive_noise_has_its_spread_and_correlation():
    noise = physics.autoregressive(2000, 200, sigma=0.7, rho=0.4, rng=np.random.default_rng(5))
    assert noise.std() == pytest.approx(0.7, rel=0.01)
    assert noise[:, 0].std() == pytest.approx(0.7, rel=0.05)
    lagged = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert lagged == pytest.approx(0.4, abs=0.01)


def test_magnitude_noise_has_the_mean_square_of_its_channels():
    noisy = physics.rician(np.full(200_000, 3.0), 1.0, np.random.default_rng(2))
    assert (noisy**2).mean() == pytest.approx(9.0 + 2.0, rel=0.01)


def test_dipole_field_has_no_sources_where_the_brain_is():
    dipoles = np.array([[10.0, 60.0, -70.0, 2e-3]])
    h = 0.5

    def field(x, y, z):
        at = np.array([x, y, z])
        return physics.background_field(at, base=-50, gradient=0.0, length=38, dipoles=dipoles)

    centre = field(0, 0, 0)
    steps = [(h, 0, 0), (-h, 0, 0), (0, h, 0), (0, -h, 0), (0, 0, h), (0, 0, -h)]
    second = [field(*step) - centre for step in steps]
    assert abs(sum(second)) < 1e-3 * max(abs(x) for x in second)


def test_axial_gradient_is_the_one_asked_for_at_the_base():
    def field(z):
        at = np.array([3.0, 4.0, z])
        return physics.background_field(
            at, base=-50.0, gradient=40e-6, length=38.0, dipoles=np.zeros((0, 4))
        )

    slope = (field(-49.99) - field(-50.01)) / 0.02e-3
    assert slope == pytest.approx(40e-6, rel=1e-4)
    further = (field(-11.99) - field(-12.01)) / 0.02e-3
    assert further == pytest.approx(40e-6 / np.e, rel=1e-4)


def test_sum_of_squares_of_coils_keeps_the_signal_and_raises_the_floor():
    rng = np.random.default_rng(0)
    high = physics.rician(np.full(4000, 50.0), 1.0, rng, coils=8)
    assert high.mean() == pytest.approx(np.sqrt(50**2 + 2 * 8 - 1), rel=2e-3)
    assert high.std() == pytest.approx(1.0, rel=0.05)
    floor = physics.rician(np.zeros(4000), 1.0, rng, coils=8)
    assert floor.mean() == pytest.approx(np.sqrt(2 * 8), rel=0.03)


def test_physiological_noise_is_uneven_slow_shared_and_heavy_tailed():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((10, 9, 8, 3))
    noise = physics.physiological((10, 9, 8, 256), sigma=2.0, weights=weights, rng=rng)
    sd = noise.std(-1)
    assert np.median(sd) == pytest.approx(2.0, rel=0.1)
    assert np.log(sd).std() == pytest.approx(0.37, abs=0.06)
    z = noise / sd[..., None]
    power = (np.abs(np.fft.rfft(z)) ** 2).mean((0, 1, 2))
    assert power[1:6].mean() > 5 * power[60:].mean()
    assert np.linalg.norm(np.linalg.svd(z.reshape(720, 256))[1][:3]) ** 2 / z.size > 0.1
    assert (z**4).mean() > 3.4
