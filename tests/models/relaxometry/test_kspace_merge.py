"""Merge of a full acquisition with repeated central lines."""

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.relaxometry.decay import fit_r2_star
from bids_app.models.relaxometry.kspace_merge import EchoSet, align_sets, merge_redundant_echoes

FULL = tuple(0.005 * np.arange(1, 13))
REDUCED = tuple(0.001 + 0.005 * np.arange(1, 13))
SIZE = 64


def head(size=SIZE):
    """Rate, field, amplitude and mask of a slice with structure at all scales."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing='ij')
    mask = (x / 0.75) ** 2 + (y / 0.85) ** 2 < 1
    rate = 18 + 3 * np.sin(9 * x) * np.cos(7 * y) + 4 * ((x**2 + (y - 0.2) ** 2) < 0.06)
    field = 40 * x**2 - 25 * y + 15 * np.sin(3 * x + 2 * y)
    amplitude = mask * (1000 + 150 * np.cos(11 * y) * np.sin(8 * x))
    return rate, field, amplitude, mask


def echoes_of(echo_times, size=SIZE):
    rate, field, amplitude, _ = head(size)
    times = np.asarray(echo_times)
    return amplitude[..., None] * np.exp((2j * np.pi * field - rate)[..., None] * times)


def acquire(echo_times, n_lines, moves, rng, noise=3.0):
    """Read lines (second axis) one after another; `moves` gives each its shift in voxels."""
    lines = np.fft.fftshift(np.fft.fft2(echoes_of(echo_times), axes=(0, 1)), axes=(0, 1))
    k = np.arange(SIZE) - SIZE // 2
    shift = moves[None, :, 0] * k[None, :] + moves[None, :, 1] * k[:, None]
    lines = lines * np.exp(-2j * np.pi * shift / SIZE)[..., None]
    kept = np.abs(k + 0.5) < n_lines / 2
    lines = np.where(kept[None, :, None], lines, 0)
    image = np.fft.ifft2(np.fft.ifftshift(lines, axes=(0, 1)), axes=(0, 1))
    scale = noise * np.sqrt(n_lines / SIZE)
    white = rng.normal(0, scale, image.shape) + 1j * rng.normal(0, scale, image.shape)
    return EchoSet((image + white)[:, :, None], tuple(echo_times), n_lines)


def still():
    return np.zeros((SIZE, 2))


def burst(rng, share, size):
    """Rest, but for runs of lines in which the head has moved (voxels)."""
    moves = still()
    length = SIZE // 16
    for start in rng.choice(SIZE // length, round(share * SIZE / length), replace=False):
        moves[start * length : (start + 1) * length] = rng.normal(0, size, 2)
    return moves


def central_burst(rng, size):
    """Movement while the central lines were read."""
    moves = still()
    moves[SIZE // 2 - 6 : SIZE // 2 - 1] = rng.normal(0, size, 2)
    return moves


def error_of(echoes, mask, truth):
    estimate = fit_r2_star(np.abs(echoes[:, :, 0][mask]), 1.0, echo_times=FULL)
    time = 1 / estimate.value - 1 / truth[mask]
    return np.sqrt(np.nanmean(time**2))


@pytest.mark.parametrize('seed', range(3))
def test_movement_during_the_central_lines_of_the_full_set_is_halved_or_better(seed):
    rng = np.random.default_rng(seed)
    rate, _, _, mask = head()
    full = acquire(FULL, SIZE, central_burst(rng, 1.0), rng)
    half = acquire(REDUCED, SIZE // 2, still(), rng)
    quarter = acquire(REDUCED, SIZE // 4, still(), rng)
    merged = merge_redundant_echoes([full, half, quarter], mask[:, :, None])
    before, after = (error_of(echoes, mask, rate) for echoes in (full.echoes, merged.echoes))
    assert after < before / 2


def test_movement_in_lines_without_repetition_is_turned_back():
    rng = np.random.default_rng(5)
    rate, _, _, mask = head()
    moves = still()
    moves[4:10] = (0.6, -0.5)  # outside the central half
    full = acquire(FULL, SIZE, moves, rng)
    half = acquire(REDUCED, SIZE // 2, still(), rng)
    merged = merge_redundant_echoes([full, half], mask[:, :, None])
    before, after = (error_of(echoes, mask, rate) for echoes in (full.echoes, merged.echoes))
    assert after < before / 2


def test_a_set_at_rest_keeps_the_lines_that_it_alone_has():
    rng = np.random.default_rng(6)
    full = acquire(FULL, SIZE, still(), rng, noise=10.0)
    half = acquire(REDUCED, SIZE // 2, still(), rng, noise=10.0)
    merged = merge_redundant_echoes([full, half], head()[3][:, :, None])
    kept, made = (np.fft.fft(np.fft.ifftshift(item[:, :, 0], axes=1), axis=1)
                  for item in (full.echoes, merged.echoes))  # fmt: skip
    outer = slice(SIZE // 4 + 1, -SIZE // 4 - 1)
    np.testing.assert_allclose(made[:, outer], kept[:, outer], atol=1e-9 * np.abs(kept).max())


def test_movement_of_the_full_set_does_not_change_the_decay_of_the_others():
    rng = np.random.default_rng(7)
    rate, _, _, mask = head()
    moves = still()
    moves[SIZE // 2 - 5 : SIZE // 2 + 3] = (1.5, -1.5)  # half the lines of the quarter set
    full = acquire(FULL, SIZE, moves, rng)
    reduced = [acquire(REDUCED, SIZE // part, still(), rng) for part in (2, 4)]
    merged = merge_redundant_echoes([full, *reduced], mask[:, :, None])
    resting = merge_redundant_echoes(
        [acquire(FULL, SIZE, still(), rng), *reduced], mask[:, :, None]
    )
    after, bound = (error_of(item.echoes, mask, rate) for item in (merged, resting))
    assert after < 1.3 * bound


def test_sets_at_rest_agree_and_their_other_echo_times_do_no_harm():
    rng = np.random.default_rng(9)
    rate, _, _, mask = head()
    full = acquire(FULL, SIZE, still(), rng)
    half = acquire(REDUCED, SIZE // 2, still(), rng)
    quarter = acquire(REDUCED, SIZE // 4, still(), rng)
    merged = merge_redundant_echoes([full, half, quarter], mask[:, :, None])
    assert error_of(merged.echoes, mask, rate) < 1.1 * error_of(full.echoes, mask, rate)
    assert np.median(merged.disagreement[mask]) < 0.01
    moved = acquire(FULL, SIZE, central_burst(rng, 1.0), rng)
    worse = merge_redundant_echoes([moved, half, quarter], mask[:, :, None])
    assert np.median(worse.disagreement[mask]) > 0.02
    assert merged.weights.sum(axis=0) == pytest.approx(np.ones((SIZE, 1)))
    assert np.all(merged.weights[0, : SIZE // 4] == 1)  # outer lines are of the full set alone


def test_the_phase_encoding_may_run_along_either_axis_and_gain_and_drift_do_not_matter():
    rng = np.random.default_rng(4)
    _, _, _, mask = head()
    sets = [acquire(FULL, SIZE, central_burst(rng, 1.0), rng),
            acquire(REDUCED, SIZE // 2, still(), rng)]  # fmt: skip
    one = merge_redundant_echoes(sets, mask[:, :, None])
    turned = [EchoSet(item.echoes.swapaxes(0, 1), item.echo_times, item.n_lines) for item in sets]
    other = merge_redundant_echoes(turned, mask.T[:, :, None], line_axis=0)
    np.testing.assert_allclose(other.echoes.swapaxes(0, 1), one.echoes, atol=1e-6)
    drift = 2.5 * np.exp(2j * np.pi * 7 * np.asarray(REDUCED) + 0.4j)
    sets[1] = EchoSet(sets[1].echoes * drift, REDUCED, SIZE // 2)
    again = merge_redundant_echoes(sets, mask[:, :, None])
    np.testing.assert_allclose(again.echoes, one.echoes, atol=6.0)


def test_a_full_set_alone_stays_as_it_is():
    rng = np.random.default_rng(4)
    full = acquire(FULL, SIZE, still(), rng)
    merged = merge_redundant_echoes([full], head()[3][:, :, None])
    assert merged.echoes is full.echoes
    assert not merged.disagreement.any()


def test_sets_that_do_not_belong_together_are_refused():
    rng = np.random.default_rng(4)
    full, mask = acquire(FULL, SIZE, still(), rng), head()[3][:, :, None]
    short = EchoSet(full.echoes[..., :5], FULL[:5], SIZE)
    with pytest.raises(ModelInputError, match='shape'):
        merge_redundant_echoes([full, short], mask)
    with pytest.raises(ModelInputError, match='n_lines'):
        merge_redundant_echoes([full, EchoSet(full.echoes, FULL, 99)], mask)
    with pytest.raises(ModelInputError, match='mask'):
        merge_redundant_echoes([full], mask[:, :5])
    with pytest.raises(ModelInputError, match='line_axis'):
        merge_redundant_echoes([full], mask, line_axis=2)


def volume(echo_times, shift, n_lines, rng, shape=(48, 48, 12)):
    """A head of several slices, moved by `shift` voxels along the first two axes."""
    x, y, z = (
        (np.arange(n) - n / 2 - step) / (n / 2)
        for n, step in zip(shape, (*shift, 0.0), strict=True)
    )
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    inside = 1 / (1 + np.exp(20 * ((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 1.3) ** 2 - 1)))
    rate = 18 + 3 * np.sin(7 * x + 3 * z) * np.cos(6 * y)
    amplitude = 1000 * inside * (1 + 0.2 * np.sin(8 * x) * np.cos(7 * y + 2 * z))
    field = 25 * x**2 - 20 * y + 5 * z
    times = np.asarray(echo_times)
    image = amplitude[..., None] * np.exp((2j * np.pi * field - rate)[..., None] * times)
    lines = np.fft.fftshift(np.fft.fft(image, axis=1), axes=1)
    k = np.arange(shape[1]) - shape[1] // 2
    lines[:, np.abs(k + 0.5) > n_lines / 2] = 0
    image = np.fft.ifft(np.fft.ifftshift(lines, axes=1), axis=1)
    white = rng.normal(0, 2, image.shape) + 1j * rng.normal(0, 2, image.shape)
    return EchoSet(image + white, tuple(echo_times), n_lines), inside > 0.8, rate


def test_movement_between_the_sets_is_undone_before_they_are_merged():
    rng, affine = np.random.default_rng(3), np.diag([2.0, 2.0, 3.0, 1.0])
    full, mask, _ = volume(FULL, (0, 0), 48, rng)
    half, *_ = volume(REDUCED, (0.8, -0.6), 24, rng)
    aligned, displacement = align_sets([full, half], mask, affine)
    assert displacement == pytest.approx([0.0, 2.0], abs=0.3)  # 1 voxel of 2 mm
    assert aligned[0] is full
    apart, together = (
        np.median(merge_redundant_echoes(sets, mask).disagreement[mask])
        for sets in ([full, half], aligned)
    )
    assert together < apart / 3


def test_sets_at_one_place_are_not_interpolated():
    rng = np.random.default_rng(3)
    sets = [volume(times, (0, 0), lines, rng)[0] for times, lines in ((FULL, 48), (REDUCED, 24))]
    mask = volume(FULL, (0, 0), 48, rng)[1]
    aligned, displacement = align_sets(sets, mask, np.diag([2.0, 2.0, 3.0, 1.0]))
    assert aligned[1] is sets[1]
    assert not displacement.any()
