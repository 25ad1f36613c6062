"""Maps on disk: order, blocks, differences of condition maps, and memory."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.group import stream
from bids_app.group.inputs import MapSet, MapSource
from bids_app.group.statistics import random_effects, weigh_participants
from bids_app.group.stream import paired_blocks, stack_effects, stack_maps
from bids_app.images import Grid

SHAPE = (6, 5, 4)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
MASK = np.ones(SHAPE, bool)


def write(folder, name, data):
    path = folder / f'{name}.nii.gz'
    nb.Nifti1Image(np.asarray(data, np.float32), GRID.affine).to_filename(path)
    return path


@pytest.fixture
def maps(tmp_path):
    rng = np.random.default_rng(1)
    sources = {}
    for name in ('03', '01', '02'):
        value = write(tmp_path, f'v{name}', rng.normal(1, 1, SHAPE))
        variance = write(tmp_path, f'u{name}', rng.uniform(1, 2, SHAPE))
        sources[name] = (MapSource(value=value, variance=variance),)
    return MapSet(quantity='cmro2', contrast='aMinusb', sources=sources)


def test_rows_are_sorted_whatever_the_order_of_the_input(maps, tmp_path):
    stack = stack_maps(maps, MASK, GRID, tmp_path)
    turned = MapSet(
        quantity='cbf', contrast='x', sources=dict(reversed(list(maps.sources.items())))
    )
    other = stack_maps(turned, MASK, GRID, tmp_path)
    assert stack.participants == other.participants == ('01', '02', '03')
    assert stack.values.read_bytes() == other.values.read_bytes()


def test_blocks_give_what_the_whole_gives(maps, tmp_path, monkeypatch):
    stack = stack_maps(maps, MASK, GRID, tmp_path)
    x, v = stack.block(slice(None))
    expected = random_effects(x, v, weighting=weigh_participants(x, v))
    monkeypatch.setattr(stream, 'BLOCK_BYTES', 1)
    monkeypatch.setattr(stream, 'SAMPLE', 1000)
    found = stack_effects(stack)
    np.testing.assert_allclose(found.t, expected.t, rtol=1e-12)
    joined = np.concatenate([values[0] for _, values in paired_blocks([stack])], axis=1)
    np.testing.assert_array_equal(joined, x)
    np.testing.assert_array_equal(stack.row(1), x[1])


def test_change_is_the_difference_of_condition_maps_in_the_unit_of_the_table(tmp_path):
    task = write(tmp_path, 'task', np.full(SHAPE, 3.0))
    base = write(tmp_path, 'base', np.full(SHAPE, 1.0))
    error = write(tmp_path, 'error', np.full(SHAPE, 0.5))
    full = MapSource(value=task, variance=error, minus=base, minus_variance=error, factor=10.0)
    bare = MapSource(value=base, minus=task)
    with_errors = MapSet(quantity='cbf', contrast='a', sources={'01': (full,)})
    stack = stack_maps(with_errors, MASK, GRID, tmp_path)
    x, v = stack.block(slice(0, 2))
    assert x.tolist() == [[20.0, 20.0]]
    assert v.tolist() == [[100.0, 100.0]]
    without = MapSet(quantity='cbf', contrast='b', sources={'01': (full,), '02': (bare,)})
    stack = stack_maps(without, MASK, GRID, tmp_path)
    assert stack.variances is None
    assert stack.block(slice(0, 1))[0].tolist() == [[20.0], [-2.0]]


def test_constant_condition_maps_may_be_alike_but_participants_may_not(tmp_path):
    same = write(tmp_path, 'same', np.full(SHAPE, 3.0))
    sources = {name: (MapSource(value=same),) for name in ('01', '02')}
    stack = stack_maps(
        MapSet(quantity='cbf', condition='rest', sources=sources), MASK, GRID, tmp_path
    )
    assert stack.participants == ('01',)
    assert 'sub-02' in stack.defects[0]
    assert 'identical to that of sub-01' in stack.defects[0]
