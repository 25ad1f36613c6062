"""A change that all voxels share: where BOLD is absent, and what it does to the shares."""

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.concordance.offset import (
    crossings,
    is_bold_equivalent_to_zero,
    mean_offset,
    offset_curve,
)
from bids_app.models.concordance.sign_counts import deconvolve_counts
from tests.paths import REFS

N = 4000


def study(offset, discordant=0.0, seed=1):
    rng = np.random.default_rng(seed)
    up = np.where(rng.random(N) < 0.6, 1.0, -1.0)
    size = 4.0 * rng.gamma(2.0, 0.5, N) * np.where(rng.random(N) < discordant, -1, 1)
    truth = up * size
    return truth + offset + 3.0 * rng.normal(size=N), up, truth


def test_offset_hides_in_the_decreases_and_the_curve_finds_it_again():
    seen, up, _ = study(offset=3.0)
    given = (seen, np.full(N, 3.0), up, np.full(N, 100.0))
    points = list(offset_curve(*given, smallest_effect=1.0, offsets=(0.0, 0.03)))
    found = {(point.offset, point.bold): point.found for point in points}
    assert found[0.0, 'negative'].size.value > found[0.0, 'positive'].size.value + 0.1
    for bold in ('all', 'positive', 'negative'):
        share = found[0.03, bold].size
        assert share.low <= 0.01
        assert share.value < 0.03
    assert [point.bold for point in points[:3]] == ['all', 'positive', 'negative']


def test_without_a_baseline_in_a_voxel_its_median_serves():
    seen, up, _ = study(offset=0.0)
    baseline = np.full(N, 100.0)
    baseline[:10] = np.nan
    given = (seen, np.full(N, 3.0), up, baseline)
    point = next(offset_curve(*given, smallest_effect=1.0, offsets=(0.01,)))
    assert point.found.n_used == N
    with pytest.raises(ModelInputError, match='equal columns'):
        next(offset_curve(seen, [3.0], up, baseline, smallest_effect=1.0))


def test_equivalence_needs_a_small_error_not_only_a_small_change():
    found = is_bold_equivalent_to_zero([0.0, 0.0, 0.19, -0.1], [0.1, 0.2, 0.05, 0.01])
    assert found.tolist() == [True, False, False, True]


def test_curve_crosses_a_level_once_and_missing_points_never():
    assert crossings([0, 1, 2], [0.0, 0.25, 0.75]) == (1.5,)
    assert crossings([0, 1], [np.nan, 0.75]) == ()
    assert crossings([0, 1], [0.6, 0.75]) == ()


def test_mean_offset_is_a_t_interval_over_participants():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        _, _, low, high = mean_offset(rng.normal(1.0, 2.0, 8))
        covered += low <= 1.0 <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert np.isnan(mean_offset([np.nan])).all()
    assert mean_offset([2.0])[0] == 2.0


def test_counts_are_deconvolved_from_chance():
    rng = np.random.default_rng(3)
    alike = deconvolve_counts(np.full(N, 37), rng.binomial(37, 0.5, N))
    assert alike.below(0.35) + alike.above(0.65) < 0.03
    assert alike.spread == pytest.approx(alike.chance_spread, rel=0.05)
    mixed = deconvolve_counts(
        np.full(N, 37), rng.binomial(37, np.where(rng.random(N) < 0.3, 0.2, 0.7))
    )
    assert mixed.below(0.45) == pytest.approx(0.3, abs=0.04)
    with pytest.raises(ModelInputError, match='part of all'):
        deconvolve_counts([1], [2])


@pytest.mark.parametrize(('sign', 'below', 'above'), [(1, 0.02, 0.52), (-1, 0.14, 0.05)])
def test_published_counts_show_the_same_picture(sign, below, above):
    path = REFS / 'critique' / 'calccontrol_Stage1TtestFDR0.05_BOLDsig_voxels.csv.gz'
    if not path.is_file():
        pytest.skip(f'{path} is not here')
    table = pd.read_csv(path)
    part = table[np.sign(table.bold_median) == sign]
    found = deconvolve_counts(part.n_eff, part.k_conc)
    assert found.below(0.45) == pytest.approx(below, abs=0.02)
    assert found.above(0.55) == pytest.approx(above, abs=0.02)
