"""Masks, tissue and maps on other grids."""

import inspect
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.engines import ants
from bids_app.errors import GridMismatchError
from bids_app.images import Grid, grid_of, load_affine, load_data, save_affine, save_image
from bids_app.interfaces import spatial
from bids_app.interfaces._base import (
    SCAN_DIFFERENCES,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    Bundle,
    sidecar_of,
)
from bids_app.models.numerics.resampling import resample_map
from bids_app.models.status import Status
from tests.interfaces.conftest import Files, data_of

# ------------------------------------------------------------------------------ engines


def calls(files, **inputs):
    """Arguments of every interface that hands its work to ANTs."""
    t1w, mask = files.image('t1w', np.ones(files.grid.shape)), files.mask
    return {
        'extract_brain': spatial.ExtractBrain(t1w=t1w, random_seed=7),
        'segment_tissue': spatial.SegmentTissue(t1w=t1w, brain_mask=mask, random_seed=7),
        'normalise_to_template': spatial.NormaliseToTemplate(
            t1w=t1w, brain_mask=mask, template=t1w, template_mask=mask, random_seed=7
        ),
        'register_rigid': spatial.RegisterRigid(
            fixed=t1w, moving=t1w, fixed_mask=mask, random_seed=7
        ),
        'template_coordinates': spatial.MapCoordinates(transform=t1w, reference=mask),
    }


TASKS = [
    'extract_brain', 'segment_tissue', 'normalise_to_template', 'register_rigid',
    'template_coordinates',
]  # fmt: skip


@pytest.mark.parametrize('task', TASKS)
def test_engine_gets_the_arguments_it_takes_and_makes_the_outputs(task, files, monkeypatch):
    def engine(name, *, cwd, seed=42, **arguments):
        assert name == task
        assert Path(cwd) == files.folder / 'node'
        assert seed == (42 if task == 'template_coordinates' else 7)
        inspect.signature(getattr(ants, name)).bind(**arguments)
        written = [path for key, path in arguments.items() if key.startswith('out')]
        for path in written:
            Path(path).touch()
        made.update(written)
        return {'turn': 20.0, 'shift': 3.0, 'placed': 0.1, 'likeness': 0.4}

    made = set()
    monkeypatch.setattr(spatial, 'run_isolated', engine)
    outputs = files.run(calls(files)[task]).get()
    table = outputs.pop('table', None)
    assert set(outputs.values()) == made
    if table:
        (row,) = pd.read_csv(table, sep='\t').to_dict('records')
        assert (row['scan'], row['turn'], row['verdict']) == ('T1w', 20, 'check')


# ------------------------------------------------------------------------------ masks, tissue


def test_header_is_trusted_by_the_identity(files):
    image = files.image('x', np.ones(files.grid.shape))
    outputs = files.run(spatial.TrustHeader(fixed=image, moving=image))
    np.testing.assert_array_equal(load_affine(outputs.transform), np.eye(4))


def test_scan_is_the_mean_of_its_echoes_or_volumes(oriented_files):
    files = oriented_files
    series = files.image('series', np.arange(4.0) * np.ones((*files.grid.shape, 1)))
    echo = files.image('echo', np.full(files.grid.shape, 9.0))
    mean = files.run(spatial.AverageVolumes(files=[series])).reference
    np.testing.assert_allclose(load_data(mean), 1.5)
    assert grid_of(mean).matches(files.grid)
    chosen = files.run(spatial.AverageVolumes(files=[series], volumes=[1, 3])).reference
    np.testing.assert_allclose(load_data(chosen), 2)
    both = files.run(spatial.AverageVolumes(files=[series, echo])).reference
    np.testing.assert_allclose(load_data(both), (1.5 + 9) / 2)


def test_echoes_on_two_grids_are_no_scan(files):
    other = Grid((2, 2, 2), np.diag([2.0, 3.0, 3.0, 1.0]))
    paths = [files.image('a', 1.0), files.image('b', 1.0, other)]
    with pytest.raises(GridMismatchError):
        files.run(spatial.AverageVolumes(files=paths))


def test_brain_is_found_without_a_t1w_image(files, monkeypatch):
    def engine(data, affine):
        np.testing.assert_allclose(affine, files.grid.affine)
        return data > 3

    monkeypatch.setattr(spatial, 'mask_from_mean', engine)
    reference = files.voxels('mean', 1.0, 5.0)
    mask = files.run(spatial.MaskFromMean(reference=reference)).mask
    np.testing.assert_array_equal(files.read(mask), [0, 1])
    assert nb.load(mask).get_data_dtype() == np.uint8


def test_tissue_is_named_by_the_labels_of_bids(files):
    maps = {
        'grey_matter': files.voxels('gm', 0.6, 0.1),
        'white_matter': files.voxels('wm', 0.3, 0.2),
        'csf': files.voxels('csf', 0.1, 0.7),
    }
    dseg = files.run(spatial.DiscretiseTissue(brain_mask=files.mask, **maps)).dseg
    np.testing.assert_array_equal(files.read(dseg), [1, 3])
    assert (load_data(dseg)[~files.inside] == 0).all()


def test_tissue_fraction_is_the_mean_over_a_coarse_voxel(files):
    """A scan voxel of 4 mm holds 8 T1w voxels of 2 mm, of which 6 are grey matter."""
    fine = Grid((2, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
    coarse = Grid((1, 1, 1), np.diag([4.0, 4.0, 4.0, 1.0]))
    coarse.affine[:3, 3] = 1.0
    grey = np.ones((2, 2, 2))
    grey[0, 0] = 0.0
    maps = {
        'brain_mask': files.image('brain', np.ones((2, 2, 2)), fine),
        'grey_matter': files.image('gm', grey, fine),
        'white_matter': files.image('wm', 1 - grey, fine),
        'csf': files.image('csf', np.zeros((2, 2, 2)), fine),
    }
    outputs = files.run(
        spatial.ResampleTissue(
            reference=files.image('scan', np.ones((1, 1, 1)), coarse),
            transform=save_affine(np.eye(4), files.folder / 'id.txt'),
            **maps,
        )
    )
    assert load_data(outputs.grey_matter).item() == pytest.approx(0.75)
    assert load_data(outputs.white_matter).item() == pytest.approx(0.25)
    assert load_data(outputs.mask).item() == 1
    assert load_data(outputs.noise_groups).item() == 1


# ------------------------------------------------------------------------------ other grids


@pytest.fixture
def row(tmp_path):
    """A map of four voxels of 2 mm along x, at x = 0, 2, 4, 6, and the ports that carry it."""

    grid = Grid((4, 1, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    files = Files.__new__(Files)
    files.folder, files.grid = tmp_path, grid
    files.value, files.variance = (
        np.reshape(row, (4, 1, 1)) for row in ([1.0, 3, 5, 9], [4.0, 4, 4, 8])
    )
    files.ports = {'quantity': files.bundle('row', files.value, files.variance)}
    return files


def targets(row, *positions):
    """Mask of voxels at positions x, mm; equally spaced."""
    step = positions[1] - positions[0] if len(positions) > 1 else 2.0
    affine = np.diag([step, 2.0, 2.0, 1.0])
    affine[0, 3] = positions[0]
    grid = Grid((len(positions), 1, 1), affine)
    return row.image('target', np.ones(grid.shape, bool), grid)


def test_value_and_variance_are_those_of_the_model(row):
    outputs = row.run(spatial.ResampleQuantity(mask=targets(row, 1.0, 2.5), **row.ports))
    wanted = resample_map(row.value, [[0.5, 0, 0], [1.25, 0, 0]], variance=row.variance)
    np.testing.assert_allclose(data_of(outputs.quantity).ravel(), wanted.value, rtol=1e-6)
    found = data_of(outputs.quantity, 'variance').ravel()
    np.testing.assert_allclose(found, wanted.variance, rtol=1e-6)
    assert 'VarianceShares' not in sidecar_of(outputs.quantity)


def test_own_grid_changes_nothing(row):
    mask = targets(row, 0.0, 2.0, 4.0, 6.0)
    for widened in (False, True):
        node = spatial.ResampleQuantity(mask=mask, is_widened=widened, **row.ports)
        outputs = row.run(node)
        np.testing.assert_allclose(data_of(outputs.quantity).ravel(), [1, 3, 5, 9], rtol=1e-6)
        found = data_of(outputs.quantity, 'variance').ravel()
        np.testing.assert_allclose(found, [4, 4, 4, 8], rtol=1e-6)
        assert sidecar_of(outputs.quantity)[VOXELS_PER_SAMPLE] == 1.0
    shares = sidecar_of(outputs.quantity)['VarianceShares']
    assert shares == {'noise': 1.0, 'interpolation': 0.0, 'alignment': 0.0}


def sheets(positions, period=5.0, width=1.6):
    """A map that is 10 in sheets across x and 2 between them: averages over voxels of 4 mm."""
    fine = positions[..., None] + (np.arange(40) + 0.5) / 10 - 2
    return 2 + 8 * (np.abs((fine + period / 2) % period - period / 2) < width / 2).mean(axis=-1)


def test_tissue_tells_what_lies_between_the_voxels(row, tmp_path):
    """Sheets finer than the voxels: the spline is off, the tissue of the T1w image sets right."""
    t1w = Grid((400, 12, 12), np.diag([0.25, 4.0, 4.0, 1.0]))
    is_sheet = (np.abs((0.25 * np.arange(400) + 2.5) % 5 - 2.5) < 0.8).astype(float)
    image = np.broadcast_to(is_sheet[:, None, None], t1w.shape)
    tissue = {
        name: row.image(name, part, t1w)
        for name, part in (
            ('grey_matter', image), ('white_matter', 1 - image), ('csf', 0 * image),
        )
    }  # fmt: skip
    scan = Grid((20, 8, 8), np.diag([4.0, 4.0, 4.0, 1.0]))
    scan.affine[:3, 3] = 8.0, 6.0, 6.0
    x = 8.0 + 4.0 * np.arange(20)
    value = np.broadcast_to(sheets(x)[:, None, None], scan.shape)
    quantity = row.bundle('sheets', value, np.full(scan.shape, 0.01), grid=scan)
    places = Grid((12, 1, 1), np.diag([4.0, 4.0, 4.0, 1.0]))
    places.affine[:3, 3] = 30.0, 18.0, 18.0
    mask = row.image('places', np.ones(places.shape, bool), places)
    still = {f'{which}_transform': shift(row, 0.0, which) for which in ('source', 'target')}
    reference = row.image('reference', np.ones(scan.shape), scan)
    brain = row.image('brain', np.ones(t1w.shape), t1w)
    own = row.run(
        spatial.ResampleTissue(
            reference=reference, transform=still['source_transform'], brain_mask=brain, **tissue
        )
    )
    there = row.run(spatial.PredictTissue(reference=reference, mask=mask, **still, **tissue))
    known = {name: getattr(own, name) for name in tissue} | {'tissue_there': there.tissue_there}
    truth = sheets(30.0 + 4.0 * np.arange(12))
    errors, variances, shares = [], [], []
    for help_ in ({}, known):
        outputs = row.run(
            spatial.ResampleQuantity(
                mask=mask,
                quantity=quantity,
                is_widened=True,
                alignment_error=0.1,
                **still,
                **help_,
            )
        )
        errors.append(np.abs(data_of(outputs.quantity).ravel() - truth).max())
        variances.append(data_of(outputs.quantity, 'variance').ravel().mean())
        shares.append(sidecar_of(outputs.quantity)['VarianceShares'])
    assert errors[1] < 0.2 * errors[0]
    assert variances[1] < variances[0]
    # where tissue explains the map, a small error of its place does no harm
    assert shares[0]['alignment'] > shares[1]['alignment']
    assert sum(shares[0].values()) == pytest.approx(1.0, abs=0.1)


def test_outside_of_the_scan_there_is_no_estimate(row):
    outputs = row.run(spatial.ResampleQuantity(mask=targets(row, 6.0, 20.0), **row.ports))
    np.testing.assert_allclose(data_of(outputs.quantity).ravel(), [9, np.nan])
    assert data_of(outputs.quantity, 'status').ravel()[1] == Status.OUTSIDE_FIELD_OF_VIEW


def test_nothing_of_the_scan_in_the_target_is_no_crash(row):
    outputs = row.run(spatial.ResampleQuantity(mask=targets(row, 90.0), **row.ports))
    assert np.isnan(data_of(outputs.quantity)).all()
    assert sidecar_of(outputs.quantity)[VOXELS_PER_SAMPLE] == 1.0


def shift(row, distance, name):
    matrix = np.eye(4)
    matrix[0, 3] = distance
    return save_affine(matrix, row.folder / f'{name}.txt')


def test_transforms_map_t1w_points_to_the_points_of_each_scan(row):
    """A point at T1w x lies at x + 1 in the source and at x + 3 in the target."""
    outputs = row.run(
        spatial.ResampleQuantity(
            mask=targets(row, 4.0),
            source_transform=shift(row, 1.0, 'source'),
            target_transform=shift(row, 3.0, 'target'),
            **row.ports,
        )
    )
    assert data_of(outputs.quantity).item() == pytest.approx(3.0)  # source x = 4 - 3 + 1


def test_coordinates_of_a_template_lead_through_t1w_space(row):
    mask = targets(row, 0.0, 50.0)
    positions = np.zeros((2, 1, 1, 3))
    positions[:, 0, 0, 0] = 1.0, 3.0
    coordinates = save_image(positions, grid_of(mask), row.folder / 'coordinates.nii')
    outputs = row.run(
        spatial.ResampleQuantity(
            mask=mask,
            coordinates=coordinates,
            source_transform=shift(row, 1.0, 'source'),
            **row.ports,
        )
    )
    np.testing.assert_allclose(data_of(outputs.quantity).ravel(), [3, 5])


def test_fine_target_voxels_share_the_noise_of_the_scan(row):
    """Eight target voxels per source voxel, of 2 x 2 x 2 / 0.5 x 2 x 2: 4 along x."""
    mask = targets(row, *np.arange(0.0, 6.1, 0.5))
    shared = row.run(spatial.ResampleQuantity(mask=mask, **row.ports))
    # the squared weights of a spline average .87 over the places between two voxels
    once = sidecar_of(shared.quantity)[VOXELS_PER_SAMPLE]
    assert once == pytest.approx(4 / 0.87, rel=0.03)
    twice = row.bundle('twice', row.value, row.variance, sidecar={VOXELS_PER_SAMPLE: 2.0})
    again = row.run(spatial.ResampleQuantity(mask=mask, quantity=twice))
    ratio = sidecar_of(again.quantity)[VOXELS_PER_SAMPLE] / once
    assert ratio == pytest.approx(2.0, rel=1e-3)


def test_orientation_of_the_target_is_only_a_matter_of_the_header(oriented_files, tmp_path):
    """A map that is a linear function of world x reads the same in every orientation."""
    source = Grid((12, 12, 12), np.diag([3.0, 3.0, 3.0, 1.0]))
    source.affine[:3, 3] = -10.0, -20.0, -10.0
    x = source.affine[0, 3] + 3.0 * np.indices(source.shape)[0]
    files = oriented_files
    outputs = files.run(
        spatial.ResampleQuantity(
            mask=files.mask,
            quantity=files.bundle('x', x, 1.0, grid=source),
        )
    )
    points = np.argwhere(files.inside) @ files.grid.affine[:3, :3].T + files.grid.affine[:3, 3]
    # a spline bends a little at the borders of a map
    np.testing.assert_allclose(files.read(outputs.quantity), points[:, 0], atol=0.01)
    assert grid_of(Bundle.read(outputs.quantity).value).matches(files.grid)


def test_labels_are_taken_from_the_nearest_voxel(row):
    labels = row.image('labels', np.array([10, 300, 20, 30], np.int16).reshape(4, 1, 1))
    mask = targets(row, 0.9, 2.9)
    outputs = row.run(spatial.ResampleLabels(quantity=labels, mask=mask))
    np.testing.assert_array_equal(load_data(outputs.labels).ravel(), [10, 300])


def test_fraction_is_zero_outside_of_its_map(row):
    mask = targets(row, 1.0, 41.0)
    fraction = row.image('fraction', row.value)
    outputs = row.run(spatial.ResampleFraction(quantity=fraction, mask=mask))
    np.testing.assert_allclose(load_data(outputs.fraction).ravel(), [2, 0])


# ------------------------------------------------------------------------------ runs, smoothing


NOT_COMPARED = {
    'SDofZ': None,
    'Interval95': None,
    'BeyondInterval95': None,
    'ImpliedFactor': None,
    'Voxels': 1,
    'Verdict': 'too few voxels',
}


def test_runs_that_differ_by_more_than_their_errors_are_found(tmp_path):
    shape = (10, 10, 10)
    files = Files(tmp_path, Grid(shape, np.eye(4)))
    mask = files.image('everywhere', np.ones(shape, np.uint8))
    rng = np.random.default_rng(4)
    runs = [files.bundle(f'run{n}', rng.normal(50, 1.5, shape), 1.0) for n in (1, 2)]
    outputs = files.run(spatial.CombineRuns(mask=mask, condition='control', quantity=runs))
    assert sidecar_of(outputs.quantity)['RunCalibration']['Verdict'].endswith('too small')
    row = pd.read_csv(outputs.table, sep='\t').iloc[0]
    assert (row.condition, row.verdict) == ('control', 'check')
    assert row.low < 1.5 < row.high


def test_runs_of_a_rate_tell_what_scans_differ_by(tmp_path):
    shape = (20, 20, 10)
    files = Files(tmp_path, Grid(shape, np.diag([4.0, 4, 4, 1])))
    mask = files.image('everywhere', np.ones(shape, np.uint8))
    rng = np.random.default_rng(5)
    shifts = np.array([[0.0, 0.0], [1.0, 0.4]])  # in common, and of one half of the head
    halves = np.arange(20)[:, np.newaxis, np.newaxis] < 10
    runs = [
        files.bundle(f'run{n}', rng.normal(20, 0.5, shape) + common + local * halves, 9.0)
        for n, (common, local) in enumerate(shifts)
    ]
    outputs = files.run(spatial.CombineRuns(mask=mask, quantity=runs, by_scatter=True))
    (seen,) = sidecar_of(outputs.quantity)['ScanDifferences']
    assert seen['common'] == pytest.approx(1.2**2 / 2, rel=0.05)
    assert seen['local'] == pytest.approx(0.2**2 / 2, abs=0.03)
    np.testing.assert_allclose(np.sqrt(np.median(files.read(outputs.quantity, 'variance'))),
                               0.5 / np.sqrt(2), rtol=0.25)  # fmt: skip


def test_runs_are_joined_by_inverse_variance_with_their_facts(files):
    def runs(*facts):
        ports = files.quantity('first', 10.0, 1.0, variance=1.0, sidecar=facts[0])
        ports |= files.quantity('second', 20.0, np.nan, variance=(4.0, np.nan), status=(0, 4),
                                sidecar=facts[1])  # fmt: skip
        return list(ports.values())

    known = ({'DegreesOfFreedom': 100.0, VOXELS_PER_SAMPLE: 3.0}, {'DegreesOfFreedom': 50.0})
    outputs = files.run(spatial.CombineRuns(mask=files.mask, quantity=runs(*known)))
    np.testing.assert_allclose(files.read(outputs.quantity), [12, 1])
    np.testing.assert_allclose(files.read(outputs.quantity, 'variance'), [0.8, 1])
    assert sidecar_of(outputs.quantity) == {
        'DegreesOfFreedom': 150.0, 'RunsCombined': 2, VOXELS_PER_SAMPLE: 3.0,
        'StatusCounts': {'OK': 2}, 'RunCalibration': NOT_COMPARED,
    }  # fmt: skip
    known = (
        {SHARED_NOISE: {'brain': 0.1}, SCAN_DIFFERENCES: [{'common': 1e-3}]},
        {SHARED_NOISE: {'brain': 0.3}, SCAN_DIFFERENCES: [{'common': 2e-3}]},
    )
    facts = sidecar_of(
        files.run(spatial.CombineRuns(mask=files.mask, quantity=runs(*known))).quantity
    )
    assert facts[SHARED_NOISE] == {'brain': 0.2}
    assert facts[SCAN_DIFFERENCES] == [{'common': 1e-3}, {'common': 2e-3}]
    without = files.run(spatial.CombineRuns(mask=files.mask, quantity=runs({}, {})))
    assert sidecar_of(without.quantity) == {
        'RunsCombined': 2,
        'RunCalibration': NOT_COMPARED,
        VOXELS_PER_SAMPLE: 1.0,
        'StatusCounts': {'OK': 2},
    }


def test_smoothing_is_in_mm_and_stays_in_the_mask(tmp_path, rng):

    files = Files(tmp_path, Grid((9, 9, 3), np.diag([2.0, 4.0, 4.0, 1.0])))
    inside = np.ones((9, 9, 3), bool)
    inside[0] = False
    value = np.zeros((9, 9, 3))
    value[4, 4, 1] = 1.0
    value[0] = 1e6
    outputs = files.run(
        spatial.SmoothQuantity(
            mask=files.image('inside', inside),
            quantity=files.bundle('rough', value, 1.0, sidecar={'DegreesOfFreedom': 90.0}),
            fwhm=4.0,
        )
    )
    smooth = data_of(outputs.quantity)
    assert smooth[5, 4, 1] / smooth[4, 4, 1] == pytest.approx(0.5, rel=0.03)  # 2 mm off
    assert smooth[4, 5, 1] / smooth[4, 4, 1] == pytest.approx(0.5**4, rel=0.03)  # 4 mm off
    assert np.nanmax(smooth) < 1
    assert np.isnan(smooth[0]).all()
    facts = sidecar_of(outputs.quantity)
    assert facts['SmoothingFWHM'] == 4.0
    assert facts['DegreesOfFreedom'] == 90.0
    assert facts[VOXELS_PER_SAMPLE] == pytest.approx(
        1 / np.nanmedian(data_of(outputs.quantity, 'variance')), rel=1e-3
    )


def test_smoothing_in_voxels_is_that_in_mm_divided_by_the_voxel(files):
    ports = files.quantity('quantity', 10.0, 20.0, variance=1.0)
    by_mm = files.run(spatial.SmoothQuantity(mask=files.mask, fwhm=6.0, **ports))
    expected = files.read(by_mm.quantity)
    by_voxel = files.run(spatial.SmoothQuantity(mask=files.mask, fwhm_voxels=2.0, **ports))
    np.testing.assert_allclose(files.read(by_voxel.quantity), expected)
    assert sidecar_of(by_voxel.quantity)['SmoothingFWHM'] == [6.0, 6.0, 6.0]


def test_reference_of_real_and_imaginary_parts_is_their_magnitude(files):
    values = {'real': -3.0, 'imaginary': 4.0}
    parts = [files.image(name, np.full((2, 2, 2), value)) for name, value in values.items()]
    outputs = files.run(spatial.AverageVolumes(files=parts[:1], imaginary=parts[1:]))
    np.testing.assert_allclose(load_data(outputs.reference), 5)
