"""The edges of slices from decays whose slices were made by adding up thin layers."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.relaxometry.background_field import gradient_turns
from bids_app.models.relaxometry.slice_edge import (
    MODEL_ERROR,
    NARROWEST,
    PRIOR,
    SliceEdge,
    fit_slice_edge,
    join_slice_edges,
)

TIMES = 0.005 * np.arange(1, 13)
THICKNESS = 3.3e-3
LAYERS = np.linspace(-1.5, 1.5, 301)
"""Thicknesses from the middle of the slice."""


def find(signal, turns, **more):
    return join_slice_edges([fit_slice_edge(signal, turns, echo_times=TIMES, **more)])


def trapezium(edge):
    return np.clip((1 + edge) / 2 - np.abs(LAYERS), 0, edge) / edge


def windowed_sinc():
    """What a sinc pulse of three lobes with a Hann window excites, in the small-angle limit."""
    t = np.linspace(-3, 3, 1201)
    pulse = np.sinc(t) * (0.5 + 0.5 * np.cos(np.pi * t / 3))
    return np.cos(2 * np.pi * np.outer(LAYERS, t)) @ pulse


def left(turns, profile):
    """Signal that symmetric slices keep."""
    return np.cos(2 * np.pi * np.outer(turns, LAYERS)) @ profile / profile.sum()


def simulate(rng, profile, *, n=4000, snr=60.0, largest=120e-6, coils=1, twofold=0.3):
    """Magnitudes of voxels of two decays each, and the turns of their gradients."""
    gradient = rng.uniform(-largest, largest, n)
    turns = gradient_turns(gradient, slice_thickness=THICKNESS, echo_times=TIMES)
    one, which = np.unique(turns.round(4), return_inverse=True)
    kept = left(one, profile)[which].reshape(turns.shape)
    rate, share = rng.uniform(14, 26, (n, 1)), rng.uniform(0, twofold, (n, 1))
    decay = (1 - share) * np.exp(-rate * TIMES) + share * np.exp(-0.4 * rate * TIMES)
    signal = (decay * kept)[:, :, None] / np.sqrt(coils)
    noise = rng.standard_normal((2, n, TIMES.size, coils)) / snr
    return np.sqrt((np.abs(signal + noise[0] + 1j * noise[1]) ** 2).sum(-1)), turns


@pytest.mark.parametrize('snr', [40.0, 60.0, 150.0])
@pytest.mark.parametrize('edge', [0.05, 0.3, 0.5])
def test_soft_edges_are_found_among_voxels_of_two_tissues(edge, snr, rng):
    found = find(*simulate(rng, trapezium(edge), snr=snr))
    assert found.n_voxels > 3500
    assert found.variance == pytest.approx(edge**2 / 12, abs=2 * found.error)
    assert MODEL_ERROR / 2 < found.error < 0.006


def test_profile_of_another_shape_is_matched_by_its_dephasing(rng):
    profile = windowed_sinc()
    found = find(*simulate(rng, profile))
    turns = np.array([0.2, 0.4, 0.6])
    kept = np.sinc(turns) * np.exp(-2 * found.variance * (np.pi * turns) ** 2)
    assert kept == pytest.approx(left(turns, profile), abs=0.02)


def test_noise_floor_of_many_coils_is_no_narrow_slice(rng):
    signal, turns = simulate(rng, trapezium(0.3), coils=8)
    found = find(signal, turns, coils=8)
    assert found.variance == pytest.approx(0.3**2 / 12, abs=2 * found.error)


def test_slices_encoded_by_phase_turn_the_correction_off(rng):
    """A slab that no sidecar calls one: a uniform object loses nothing."""
    point = (np.abs(LAYERS) < 1e-9).astype(float)
    found = find(*simulate(rng, point))
    assert found.variance == pytest.approx(NARROWEST, abs=0.01)


def test_without_gradients_or_voxels_it_is_assumed(rng):
    signal, turns = simulate(rng, trapezium(0.3))
    assert find(signal[:400], turns[:400]) == (*PRIOR, 0)
    few = fit_slice_edge(signal[:, :4], turns[:, :4], echo_times=TIMES[:4])
    assert few == (0, np.inf, 0)
    weak = find(*simulate(rng, trapezium(0.3), largest=4e-6))
    assert weak.variance == pytest.approx(PRIOR[0], abs=PRIOR[1] / 2)
    assert weak.error == pytest.approx(PRIOR[1], rel=0.1)


def test_echoes_and_voxels_without_value_are_left_out(rng):
    signal, turns = simulate(rng, trapezium(0.5))
    signal[:200, 3], turns[200:400], turns[400:600, -2:] = np.nan, np.nan, np.nan
    found = find(signal, turns)
    assert found.variance == pytest.approx(0.5**2 / 12, abs=2 * found.error)


def test_scans_count_by_their_errors_and_one_that_says_nothing_does_not():
    sure, unsure, none = SliceEdge(0.02, 0.001, 900), SliceEdge(0.0, 0.01, 600), (0, np.inf, 0)
    joined = join_slice_edges([sure, unsure, SliceEdge(*none)])
    assert joined.n_voxels == 1500
    assert 0.018 < joined.variance < 0.02
    assert MODEL_ERROR * 0.9 < joined.error < MODEL_ERROR * 1.1
    assert join_slice_edges([SliceEdge(*none)]) == (*PRIOR, 0)


def test_shapes_must_agree():
    with pytest.raises(ModelInputError, match=r'signal \(4, 12\), turns \(4, 11\)'):
        fit_slice_edge(np.ones((4, 12)), np.ones((4, 11)), echo_times=TIMES)
