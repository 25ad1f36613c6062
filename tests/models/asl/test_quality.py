"""Laws of the quality of blood flow maps."""

import numpy as np
import pytest

from bids_app.models.asl.quality import (
    grey_matter_statistics,
    judge_quality,
    probable_cause,
    quality_index,
)

RNG = np.random.default_rng(0)
CLASS = RNG.integers(0, 3, 3000)
TISSUE = {
    name: (index == CLASS).astype(float)
    for index, name in enumerate(('grey_matter', 'white_matter', 'csf'))
}
FLOW = 55 * TISSUE['grey_matter'] + 22 * TISSUE['white_matter']


def index_at(noise):
    rng = np.random.default_rng(1)
    return quality_index(FLOW + noise * rng.standard_normal(FLOW.size), **TISSUE)['qei']


def test_index_falls_with_noise_from_near_one_to_near_zero():
    values = [index_at(noise) for noise in (0, 20, 60, 200)]
    assert values[0] > 0.95
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2


def test_index_is_the_published_formula_of_its_parts():
    parts = quality_index(FLOW + 30 * RNG.standard_normal(FLOW.size), **TISSUE)
    correlation, dispersion, negative = (
        parts[name]
        for name in ('structural_correlation', 'dispersion_index', 'negative_grey_matter')
    )
    gain = 1 - np.exp(-3.0126 * correlation**2.4419)
    loss = np.exp(-(0.054 * dispersion**0.9272 + 2.8478 * negative**0.5196))
    assert parts['qei'] == pytest.approx(np.cbrt(gain * loss))


def test_anticorrelated_map_has_index_zero_and_a_map_without_tissue_none():
    assert quality_index(-FLOW, **TISSUE)['qei'] == 0
    nothing = {name: np.zeros(FLOW.size) for name in TISSUE}
    assert np.isnan(quality_index(FLOW, **nothing)['qei'])


def test_missing_voxels_are_left_out_of_numbers_and_counted():
    flow = FLOW.copy()
    grey = np.flatnonzero(TISSUE['grey_matter'])
    flow[grey[::4]] = np.nan
    numbers = grey_matter_statistics(
        flow, grey_matter=TISSUE['grey_matter'], white_matter=TISSUE['white_matter']
    )
    assert numbers['grey_matter_median'] == 55
    assert numbers['ratio'] == 2.5
    assert numbers['missing_grey_matter'] == pytest.approx(0.25, abs=0.01)
    assert numbers['spatial_cov'] == pytest.approx(0, abs=1e-9)


def test_arrival_artefact_raises_the_spatial_variation():
    flow = FLOW.copy()
    flow[::2] *= 0.1
    numbers = grey_matter_statistics(
        flow, grey_matter=TISSUE['grey_matter'], white_matter=TISSUE['white_matter']
    )
    rows = {row['measure']: row for row in judge_quality(numbers)}
    assert rows['spatial_cov']['verdict'] == 'check'
    assert 'arrival' in rows['spatial_cov']['probable_cause']


@pytest.mark.parametrize(
    ('median', 'words'),
    [
        (550, 'scaled apart by 10'),
        (5.5, 'scaled apart by 10'),
        (1760, 'scaled apart by 32'),
        (1.7, 'scaled apart by 32'),
        (150, 'M0 too small'),
        (15, 'label not arrived'),
        (-20, 'swapped'),
        (55, ''),
    ],
)
def test_implausible_median_names_its_probable_cause(median, words):
    cause = probable_cause({'grey_matter_median': median})
    assert words in cause
    assert bool(cause) == bool(words)
    (row,) = judge_quality({'grey_matter_median': median}, cause=cause)
    assert row['verdict'] == ('check' if words else 'good')
    assert row['value'] == median


def test_number_with_an_interval_is_good_where_that_reaches_into_the_rule():
    for low, high, verdict in ((1.05, 1.35, 'good'), (1.15, 1.25, 'check')):
        row = judge_quality({'calibration': 1.2}, intervals={'calibration': (low, high)})[0]
        assert (row['low'], row['high'], row['verdict']) == (low, high, verdict)
