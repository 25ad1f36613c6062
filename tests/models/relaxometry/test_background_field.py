"""Field map, gradient across slices, attenuation."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.integrate import quad

from bids_app.errors import ModelInputError
from bids_app.models.constants import GYROMAGNETIC_RATIO
from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.background_field import (
    field_map_from_echoes,
    gradient_attenuation,
    is_outside_kspace,
    slice_gradient,
)
from tests import strategies
from tests.paths import DATA, REFS

ECHO_TIMES = np.arange(1, 13) * 0.005
SHAPE = (24, 22, 10)
HALF_CYCLE = 1 / (2 * 0.005)


def field_hz(magnitude, phase, mask, *, echo_times):
    return field_map_from_echoes(magnitude, phase, mask, echo_times=echo_times).value


def gradient_of(field, mask, **parameters):
    return slice_gradient(Estimate.of(field), mask, **parameters).value


def smooth_field(shape=SHAPE, amplitude=350.0):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing='ij')
    return amplitude * (x**2 - 0.6 * y + 0.4 * z**3 + 0.5 * x * z)


def ball(shape=SHAPE):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing='ij')
    return x**2 + y**2 + z**2 < 0.95


def echoes(field, echo_times=ECHO_TIMES, noise=0.0, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    decay = 1000 * np.exp(-echo_times / 0.0545)
    signal = decay * np.exp(1j * (2 * np.pi * field[..., None] * echo_times + offset))
    signal += noise * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    return np.abs(signal), np.angle(signal)


def test_wrapped_field_is_recovered_up_to_one_cycle():
    field, mask = smooth_field(), ball()
    assert np.ptp(field[mask]) > 4 * HALF_CYCLE
    estimate = field_hz(*echoes(field), mask, echo_times=ECHO_TIMES)
    error = (estimate - field)[mask]
    assert error == pytest.approx(np.full(error.size, error[0]), abs=1e-6)
    assert error[0] / (2 * HALF_CYCLE) == pytest.approx(round(error[0] / (2 * HALF_CYCLE)))
    assert abs(np.median(estimate[mask])) <= HALF_CYCLE
    assert np.array_equal(np.isnan(estimate), ~mask)


def test_a_phase_offset_common_to_the_echoes_drops_out():
    field, mask = smooth_field(amplitude=60.0), ball()
    offset = 2.5 * np.sin(np.arange(SHAPE[0]))[:, None, None, None]
    estimate = field_hz(*echoes(field, offset=offset), mask, echo_times=ECHO_TIMES)
    assert estimate[mask] == pytest.approx(field[mask], abs=1e-6)


def test_noise_is_averaged_over_the_echoes():
    field, mask = smooth_field(amplitude=60.0), ball()
    magnitude, phase = echoes(field, noise=1000 / 60)
    estimate = field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES)
    single = np.sqrt(2) / 55 / (2 * np.pi * 0.005)
    assert np.std((estimate - field)[mask]) < single / 2


def test_echo_order_and_a_silent_last_echo_do_not_matter():
    field, mask = smooth_field(amplitude=60.0), ball()
    magnitude, phase = echoes(field, noise=5.0)
    magnitude[..., -1] = 0
    phase[..., -1] = np.nan
    one = field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES)
    other = field_hz(magnitude[..., ::-1], phase[..., ::-1], mask, echo_times=ECHO_TIMES[::-1])
    assert one[mask] == pytest.approx(other[mask], abs=1e-9)
    assert one[mask] == pytest.approx(field[mask], abs=5)


def test_of_unequal_spacings_the_shortest_counts():
    field, mask = smooth_field(amplitude=60.0), ball()
    echo_times = np.array([0.004, 0.008, 0.030])
    estimate = field_hz(*echoes(field, echo_times), mask, echo_times=echo_times)
    assert estimate[mask] == pytest.approx(field[mask], abs=1e-6)


def test_parts_of_the_mask_that_do_not_touch_get_their_own_cycle():
    mask = np.zeros(SHAPE, bool)
    mask[:8], mask[16:] = True, True
    field = np.where(np.arange(SHAPE[0])[:, None, None] < 12, 30.0, 330.0) * np.ones(SHAPE)
    estimate = field_hz(*echoes(field), mask, echo_times=ECHO_TIMES)
    assert estimate[0, 0, 0] == pytest.approx(30.0)
    assert estimate[20, 0, 0] == pytest.approx(330.0 - 400.0)


def test_noise_outside_the_mask_does_not_reach_into_it():
    field, mask = smooth_field(), ball()
    magnitude, phase = echoes(field)
    clean = field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES)
    phase[~mask] = np.random.default_rng(1).uniform(-np.pi, np.pi, (int((~mask).sum()), 12))
    noisy = field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES)
    assert np.array_equal(clean, noisy, equal_nan=True)


def test_voxels_without_signal_are_missing_not_zero():
    field, mask = smooth_field(amplitude=60.0), ball()
    magnitude, phase = echoes(field)
    magnitude[12, 11, 5] = 0
    estimate = field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES)
    assert np.isnan(estimate[12, 11, 5])
    assert np.isnan(estimate).sum() == (~mask).sum() + 1
    nothing = field_hz(magnitude, phase, np.zeros(SHAPE), echo_times=ECHO_TIMES)
    assert np.isnan(nothing).all()


@pytest.mark.parametrize('shape', [(12, 10, 1), (9, 1, 1), (1, 1, 1)])
def test_flat_images_are_unwrapped_too(shape):
    field = 40.0 * np.arange(np.prod(shape), dtype=float).reshape(shape) / np.prod(shape)
    magnitude, phase = echoes(field)
    estimate = field_hz(magnitude, phase, np.ones(shape, bool), echo_times=ECHO_TIMES)
    assert estimate == pytest.approx(field, abs=1e-6)


@pytest.mark.parametrize(
    ('magnitude_path', 'phase_path'),
    [
        (DATA / 'mritools' / 'magnitude.nii.gz', DATA / 'mritools' / 'phase.nii.gz'),
        (REFS / 'mritools' / 'Mag.nii.gz', REFS / 'mritools' / 'Phase.nii'),
    ],
    ids=['three slices', 'whole head'],
)
def test_real_echoes_give_a_field_without_jumps(magnitude_path, phase_path):
    """Real 3-echo head data of MriResearchTools.jl, MIT; phase in rescaled units."""
    nib = pytest.importorskip('nibabel')
    if not phase_path.exists():
        pytest.skip('the whole head of MriResearchTools is too large for the repository')
    magnitude = nib.load(magnitude_path).get_fdata()
    phase = nib.load(phase_path).get_fdata()
    phase *= np.pi / np.abs(phase).max()
    mask = magnitude[..., 0] > np.percentile(magnitude[..., 0], 60)
    echo_times = np.array([0.004, 0.008, 0.012])
    field = field_hz(magnitude, phase, mask, echo_times=echo_times)
    for axis in range(3):
        assert np.nanmax(np.abs(np.diff(field, axis=axis))) < 1 / (2 * 0.004)
    left = phase[..., 2] - phase[..., 0] - 2 * np.pi * field * 0.008
    assert np.median(np.abs(np.angle(np.exp(1j * left[mask])))) < 0.02


def test_gradient_of_a_linear_field_is_constant_up_to_the_edge_of_the_mask():
    gradient = 50e-6
    z = np.arange(SHAPE[2]) * 3.3e-3
    field = GYROMAGNETIC_RATIO / (2 * np.pi) * gradient * z * np.ones(SHAPE)
    mask = ball()
    estimate = gradient_of(field, mask, slice_spacing=3.3e-3)
    lonely = mask & ~np.roll(mask, 1, 2) & ~np.roll(mask, -1, 2)
    assert np.array_equal(np.isnan(estimate), ~mask | lonely)
    assert estimate[mask & ~lonely] == pytest.approx(gradient)


def test_gradient_does_not_look_across_the_edge_of_the_mask():
    field = np.array([0.0, 10, 20, 1e6, 50, 50]).reshape(1, 1, 6)
    mask = np.array([1, 1, 1, 0, 1, 0], bool).reshape(1, 1, 6)
    hertz_per_slice = gradient_of(field, mask, slice_spacing=1.0) * GYROMAGNETIC_RATIO / 2 / np.pi
    expected = [10, 10, 10, np.nan, np.nan, np.nan]
    assert hertz_per_slice.ravel() == pytest.approx(expected, nan_ok=True)


def test_gradient_is_central_between_neighbours_and_carried_on_at_the_edge():
    field = np.array([0.0, 1.0, 4.0]).reshape(1, 3, 1)
    mask = np.ones(field.shape, bool)
    gradient = gradient_of(field, mask, slice_spacing=2.0, axis=1)
    assert gradient.ravel() * GYROMAGNETIC_RATIO / 2 / np.pi == pytest.approx([0.0, 1.0, 2.0])


def test_unknown_field_counts_as_outside_the_mask():
    field = np.array([0.0, 1.0, np.nan, 7.0]).reshape(1, 1, 4)
    gradient = gradient_of(field, np.ones(field.shape, bool), slice_spacing=1.0)
    assert list(np.isnan(gradient.ravel())) == [False, False, True, True]


def test_dephasing_is_the_integral_over_the_slice():
    for gradient, echo_time in [(20e-6, 0.06), (80e-6, 0.03), (-150e-6, 0.02)]:
        turn = GYROMAGNETIC_RATIO * gradient * echo_time
        expected = quad(lambda z, k=turn: np.cos(k * z), -1.5e-3, 1.5e-3)[0] / 3e-3
        factor = gradient_attenuation(gradient, slice_thickness=3e-3, echo_times=[echo_time])
        assert factor == pytest.approx([abs(expected)], rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(strategies.gradients())
def test_attenuation_is_a_fraction_even_in_the_gradient_and_one_at_echo_time_zero(gradient):
    factor = gradient_attenuation(gradient, slice_thickness=3e-3, echo_times=[0.0, 0.02, 0.06])
    mirrored = gradient_attenuation(-gradient, slice_thickness=3e-3, echo_times=[0.0, 0.02, 0.06])
    assert np.all((factor >= 0) & (factor <= 1))
    assert np.array_equal(factor, mirrored)
    assert (factor[:, 0] == 1).all()


def test_unknown_gradient_and_profile_none_correct_nothing():
    unknown = gradient_attenuation([np.nan, 1e-4], slice_thickness=3e-3, echo_times=ECHO_TIMES)
    none = gradient_attenuation(
        [np.nan, 1e-4], slice_thickness=3e-3, echo_times=ECHO_TIMES, profile='none'
    )
    assert (unknown[0] == 1).all()
    assert unknown[1].max() < 1
    assert np.array_equal(none, np.ones((2, 12)))


def test_contradictory_arguments_are_refused():
    good = np.ones((2, 2, 2, 3))
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ModelInputError, match='magnitude and phase'):
        field_map_from_echoes(good, good[..., :2], mask, echo_times=[0.01, 0.02, 0.03])
    with pytest.raises(ModelInputError, match='echo times'):
        field_map_from_echoes(good, good, mask, echo_times=[0.01, 0.01, 0.01])
    with pytest.raises(ModelInputError, match='equal shapes'):
        gradient_of(np.ones((2, 2, 3)), mask, slice_spacing=1.0)
    with pytest.raises(ModelInputError, match='slice_spacing'):
        gradient_of(np.ones((2, 2, 2)), mask, slice_spacing=0.0)
    with pytest.raises(ModelInputError, match='slice_thickness'):
        gradient_attenuation(1e-5, slice_thickness=-1.0, echo_times=[0.01])
    with pytest.raises(ModelInputError, match='sinc-gauss, none'):
        gradient_attenuation(1e-5, slice_thickness=1.0, echo_times=[0.01], profile='gauss')


# --- what real readouts add --------------------------------------------------------------------


def test_a_phase_that_alternates_with_the_polarity_of_the_readout_drops_out():
    field, mask = smooth_field(), ball()
    magnitude, phase = echoes(field)
    odd = 0.6 * np.cos(np.arange(SHAPE[0]) / 3)[:, None, None, None]
    phase = phase + odd * (-1.0) ** np.arange(12)
    error = (field_hz(magnitude, phase, mask, echo_times=ECHO_TIMES) - field)[mask]
    assert error == pytest.approx(np.full(error.size, error[0]), abs=1e-6)
    neighbours = np.angle((magnitude[..., 1:] * magnitude[..., :-1] * np.exp(
        1j * np.diff(phase, axis=-1))).sum(-1)) / (2 * np.pi * 0.005)  # fmt: skip
    plain = np.abs(np.angle(np.exp(2j * np.pi * 0.005 * (neighbours - field))))[mask]
    assert plain.max() / (2 * np.pi * 0.005) > 5  # Hz; what it would cost


@pytest.mark.parametrize('edge', [37, 69, 89, 140])
@pytest.mark.parametrize('n_echoes', [4, 12])
def test_a_bipolar_readout_may_add_any_phase_at_the_edges(edge, n_echoes):
    """Delays of gradients against sampling add a phase that is linear along the readout."""
    field, mask, times = smooth_field(), ball(), ECHO_TIMES[:n_echoes]
    magnitude, phase = echoes(field, times, noise=10.0)
    across = np.linspace(-1, 1, SHAPE[0])[:, None, None, None]
    bipolar = phase + np.radians(edge) * across * (-1.0) ** np.arange(n_echoes)
    plain, found = (
        field_hz(magnitude, one, mask, echo_times=times)[mask] for one in (phase, bipolar)
    )
    assert np.abs(found - plain).max() < 1.0  # Hz; up to 100 when the limit was 45 degrees


def test_echo_times_of_two_sets_mixed_give_the_same_field():
    times = np.sort(np.concatenate([ECHO_TIMES, ECHO_TIMES + 0.001]))
    field, mask = smooth_field(), ball()
    magnitude, phase = echoes(field, times, noise=10.0)
    error = (field_hz(magnitude, phase, mask, echo_times=times) - field)[mask]
    assert np.std(error) < 0.3
    assert abs(np.median(error)) < 0.1


def test_the_variance_of_the_field_is_that_of_its_error():
    field, mask = smooth_field(amplitude=60.0), ball()
    magnitude, phase = echoes(field, noise=20.0)
    estimate = field_map_from_echoes(magnitude, phase, mask, echo_times=ECHO_TIMES)
    z = ((estimate.value - field) / np.sqrt(estimate.variance))[mask]
    assert np.std(z) == pytest.approx(1, abs=0.07)


def test_the_variance_of_the_gradient_covers_a_field_that_bends():
    z = np.arange(10.0)
    field = Estimate.of(np.broadcast_to(12 * np.cos(z / 1.5), (1, 1, 10)).copy(), 0.01)
    mask = np.ones((1, 1, 10), bool)
    gradient = slice_gradient(field, mask, slice_spacing=1.0)
    truth = -8 * np.sin(z / 1.5) * 2 * np.pi / GYROMAGNETIC_RATIO
    error = (gradient.value[0, 0] - truth)[1:-1]
    deviation = np.sqrt(gradient.variance[0, 0])[1:-1]
    assert 0.3 < np.sqrt(np.mean(error**2) / np.mean(deviation**2)) < 1.2
    straight = slice_gradient(Estimate.of(field.value * 0 + z, 0.01), mask, slice_spacing=1.0)
    scale = (2 * np.pi / GYROMAGNETIC_RATIO) ** 2
    assert straight.variance[0, 0, 4] == pytest.approx(0.01 / 2 * scale)


@pytest.mark.parametrize('profile', ['exponential', 'sinc-gauss'])
def test_profiles_are_the_transform_of_their_slice(profile):
    """Numerical Fourier transform of the Lorentzian and of the blurred rectangle."""
    from scipy.special import erf

    z = np.linspace(-400, 400, 800_001)  # in thicknesses
    lorentzian = 1 / (1 + (2 * z) ** 2)
    blurred = erf((z + 0.5) / 0.16 / np.sqrt(2)) - erf((z - 0.5) / 0.16 / np.sqrt(2))
    shape = lorentzian if profile == 'exponential' else blurred
    gradient, thickness, time = 60e-6, 3e-3, 0.04
    cycles = GYROMAGNETIC_RATIO / 2 / np.pi * gradient * thickness * time
    expected = abs((shape * np.exp(2j * np.pi * cycles * z)).sum() / shape.sum())
    found = gradient_attenuation(
        gradient, slice_thickness=thickness, echo_times=[time], profile=profile
    )
    assert found[0] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(('turns', 'left'), [(0.3, 1.0), (0.45, 1.0), (0.55, 0.0)])
def test_an_echo_in_the_plane_stays_whole_until_it_leaves_kspace(turns, left):
    n, parts, size, time = 64, 32, 2e-3, 0.03
    places = (np.arange(n * parts) + 0.5) / parts - n / 2
    line = np.where(np.abs(places) < n / 4, np.exp(2j * np.pi * turns * places), 0)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(n) - n // 2, places) / n)
    sampled = waves @ line / parts
    middle = np.abs(sampled.sum()) / n
    assert middle == pytest.approx(left, abs=0.05)
    gradient = turns / (GYROMAGNETIC_RATIO / (2 * np.pi) * size * time)
    lost = is_outside_kspace(gradient, voxel_size=size, echo_times=[time / 2, time])
    assert lost.tolist() == [False, turns > 0.4]


def test_size_of_a_voxel_in_the_plane_is_positive():
    with pytest.raises(ModelInputError, match='voxel_size'):
        is_outside_kspace(1e-6, voxel_size=0.0, echo_times=[0.01])
