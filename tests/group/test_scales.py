"""Shares at every scale, and what could make an offset."""

from types import SimpleNamespace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.engines.templates import ATLAS, FINE_ATLAS, packaged_template
from bids_app.group.dispute import _order, _sources
from bids_app.group.scales import Scale, _at_scale, _averages, _scales
from bids_app.group.stream import Stack
from bids_app.models.concordance.ashr import spatial_blocks
from bids_app.settings import Settings

SIDE = 24


def test_unit_is_the_mean_of_what_is_known_of_it():
    values = np.array([1.0, 3.0, np.nan, np.nan, 7.0])
    means = _averages(values, np.array([0, 0, 0, 1, -1]))
    np.testing.assert_array_equal(means, [2.0, np.nan])


@pytest.mark.parametrize('atlas', ['schaefer', 'none'])
def test_units_are_those_of_both_atlases_from_fine_to_coarse(atlas, monkeypatch):
    labels, fine = (nb.load(packaged_template(kind)).get_fdata() for kind in (ATLAS, FINE_ATLAS))
    mask = labels > 0
    study = SimpleNamespace(
        networks=None if atlas == 'none' else labels[mask].astype(int),
        mask=mask,
        n_voxels=int(mask.sum()),
        grid=SimpleNamespace(zooms=np.full(3, 2.0)),
    )
    monkeypatch.setattr('bids_app.group.scales.noise_width', lambda study, change: 6.0)
    found = {scale.name: scale for scale in _scales(study, None)}
    cubes = ['4 mm', '8 mm', '12 mm']
    if atlas == 'none':
        assert list(found) == cubes
        return
    assert list(found) == [*cubes, '400 parcels', '200 parcels', 'networks']
    sizes = {name: int(scale.unit.max()) + 1 for name, scale in found.items()}
    assert (sizes['400 parcels'], sizes['200 parcels'], sizes['networks']) == (400, 200, 7)
    unit = found['400 parcels'].unit
    np.testing.assert_array_equal(unit, np.where(fine[mask] > 0, fine[mask] - 1, -1))


def effect(folder, name, values):
    """Make the part of an effect that a scale reads."""
    values.astype(np.float32).tofile(folder / name)
    stack = Stack(
        participants=tuple(f'{n:02d}' for n in range(len(values))),
        n_voxels=values.shape[1],
        values=folder / name,
        variances=None,
    )
    return SimpleNamespace(stack=stack, baseline=None, maps=SimpleNamespace(name=name))


def test_averages_hold_the_truth_with_smaller_intervals_than_their_noise(tmp_path):
    """A quarter opposes BOLD in patches larger than the cubes; two cubes share noise."""
    rng = np.random.default_rng(5)
    points = np.indices((SIDE,) * 3).reshape(3, -1).T
    patch = spatial_blocks(points, side=4)
    sign = np.where(rng.random(patch.max() + 1) < 0.6, 1.0, -1.0)[patch]
    opposed = np.where(rng.random(patch.max() + 1) < 0.25, -1.0, 1.0)[patch]
    shape = (16, points.shape[0])
    bold = sign + 0.5 * rng.standard_normal(shape)
    pair = spatial_blocks(points, side=4)
    noise = 2.0 * rng.standard_normal((16, pair.max() + 1))[:, pair]
    change = 4.0 * sign * opposed + 8.0 * rng.standard_normal(shape) + noise
    study = SimpleNamespace(
        settings=Settings(), design=SimpleNamespace(matrix=lambda names: np.ones((len(names), 1)))
    )
    both = effect(tmp_path, 'bold', bold), effect(tmp_path, 'cmro2', change)
    unit = spatial_blocks(points, side=2)
    centres = np.stack([_averages(axis, unit) for axis in points.T.astype(float)], axis=1)
    scale = Scale(name='2', unit=unit, blocks=spatial_blocks(centres, side=4))
    rows = {row['bold']: row for row in _at_scale(study, scale, both, 1.0)}
    assert rows['all']['n_units'] == unit.max() + 1
    truth = np.mean(opposed < 0)
    for bold_sign in ('all', 'positive', 'negative'):
        row = rows[bold_sign]
        assert row['w_d_low'] - 0.02 <= truth <= row['w_d_high'] + 0.02
        assert row['w_d'] == pytest.approx(truth, abs=0.08)
    few = Scale(name='few', unit=np.where(unit < 20, unit, -1), blocks=np.arange(20))
    (row,) = _at_scale(study, few, both, 1.0)
    assert np.isnan(row['w_d'])
    assert 'needed' in row['note']


def test_sources_of_an_offset_have_the_size_that_the_scans_show(tmp_path):
    """M0 rises by 2 +- 1 %, flow by 5 %; the baseline of half of the voxels is half as high."""
    for name, m0 in zip(('00', '01', '02'), (101.0, 102.0, 103.0), strict=True):
        rows = [
            (condition, measure, value)
            for condition, gains in (('control', (1.0, 1.0)), ('calc', (m0 / 100, 1.05)))
            for measure, value in zip(('m0_median', 'grey_matter_median'), gains, strict=True)
        ]
        path = tmp_path / f'sub-{name}' / 'perf' / f'sub-{name}_desc-quality_cbf.tsv'
        path.parent.mkdir(parents=True)
        table = pd.DataFrame(rows, columns=['condition', 'measure', 'value'])
        table.to_csv(path, sep='\t', index=False)
    base = np.tile(np.where(np.arange(100) < 50, 50.0, 100.0), (3, 1))
    change = effect(tmp_path, 'cmro2', np.full((3, 100), 1.5))
    change.maps.about = {'Task': 'calc', 'Baseline': 'control'}
    study = SimpleNamespace(
        run=SimpleNamespace(output_dir=tmp_path),
        inputs=SimpleNamespace(baseline_of=lambda maps: 'baseline'),
        stack=lambda maps: effect(tmp_path, maps, base).stack,
    )
    m0, grey, white, width, ratio = _sources(study, change, np.ones(100, bool))
    assert (m0['percent'], m0['se']) == pytest.approx((2.0, 1 / np.sqrt(3)))
    assert (grey['percent'], grey['n_participants']) == (pytest.approx(5.0), 3)
    assert white['n_participants'] == width['n_participants'] == 0
    # mean of 3 and 1.5 %, less 1.5 of 75
    assert ratio['percent'] == pytest.approx(0.25)


def test_the_order_of_the_conditions_is_a_source_where_participants_differ_in_it(tmp_path):
    """CMRO2 is 2 % higher in whichever condition comes second, beside 1 % of the task."""
    task_first = np.arange(12) % 2 == 0
    noise = np.random.default_rng(1).normal(scale=0.3, size=12)
    offsets = 1.0 + np.where(task_first, -2.0, 2.0) + noise
    names = [f'{number:02d}' for number in range(12)]
    for name, is_first in zip(names, task_first, strict=True):
        ranks = {'calc': 1 if is_first else 2, 'control': 2 if is_first else 1}
        path = tmp_path / f'sub-{name}' / 'perf' / f'sub-{name}_desc-quality_cbf.tsv'
        path.parent.mkdir(parents=True)
        lines = [f'{condition}\tscan_order\t{rank}' for condition, rank in ranks.items()]
        path.write_text('\n'.join(['condition\tmeasure\tvalue', *lines]) + '\n')
    common = {'quantity': 'cmro2', 'network': 'all'}
    rows = [
        common | {'participant': f'sub-{name}', 'percent': offset}
        for name, offset in zip(names, offsets, strict=True)
    ]
    rows.append(common | {'participant': 'group', 'percent': 1.0})
    change = SimpleNamespace(maps=SimpleNamespace(about={'Task': 'calc', 'Baseline': 'control'}))
    study = SimpleNamespace(run=SimpleNamespace(output_dir=tmp_path))
    found = _order(study, change, rows)
    assert found['n_participants'] == 12
    assert found['low'] < -4 < found['high'] < -3
    assert found['se'] == pytest.approx(0.3 * np.sqrt(2 / 6), rel=0.5)
    alone = _order(study, change, rows[::2])
    assert alone['n_participants'] == 0
    assert np.isnan(alone['percent'])
    assert 'task first in 6, baseline first in 0' in alone['source']
