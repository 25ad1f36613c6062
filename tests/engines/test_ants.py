"""Registration, brain extraction and tissue on heads made from the packaged template."""

import nibabel as nb
import numpy as np
import pytest
from scipy import ndimage

from bids_app.engines.ants import (
    DILATION,
    _check_volume,
    _dilate,
    _matrix,
    _place_head,
    _size_head,
    _tissue_fractions,
    _to_ants,
    _to_zooms,
    segment_tissue,
    template_coordinates,
)
from bids_app.engines.isolated import run_isolated
from bids_app.engines.templates import packaged_template
from bids_app.errors import InputDataError
from bids_app.images import Grid, grid_of, load_affine, load_data, save_affine, save_image
from bids_app.models.preprocessing.coregistration import judge_brain

CENTRE = np.array([0.0, -20.0, 10.0])
TISSUES = ('GM', 'WM', 'CSF')


def rigid(degrees, shift):
    """Rotation about the x, then the z axis through the centre of the head, then a shift."""
    a, c = np.deg2rad(degrees)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(about_z) @ about_x
    matrix[:3, 3] = CENTRE + shift - matrix[:3, :3] @ CENTRE
    return matrix


def apply(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def centred(shape, zooms, direction=None):
    """Grid around the centre of the head."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if direction is None else direction) * np.array(zooms)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def points_of(grid):
    return apply(grid.affine, np.moveaxis(np.indices(grid.shape, dtype=float), 0, -1))


def seen_on(grid, data, affine, to_source=None, parts=(1, 1, 1)):
    """Voxel averages of a map on a grid of a moved head."""
    total = 0.0
    for part in np.ndindex(*parts):
        offset = (np.array(part) + 0.5) / parts - 0.5
        points = points_of(grid) + grid.affine[:3, :3] @ offset
        points = apply(
            np.linalg.inv(affine) @ (np.eye(4) if to_source is None else to_source), points
        )
        flat = points.reshape(-1, 3).T
        total = total + ndimage.map_coordinates(data, flat, order=1).reshape(grid.shape)
    return total / np.prod(parts)


@pytest.fixture(scope='module')
def head():
    """T1w with skull, brain, grey, white, fluid of the template; its affine."""
    kinds = ('T1w', 'desc-brain_mask', *(f'label-{name}_probseg' for name in TISSUES))
    return [load_data(packaged_template(kind)) for kind in kinds], grid_of(
        packaged_template('T1w')
    ).affine


def brain_points(head):
    (_, brain, *_), affine = head
    return apply(affine, np.argwhere(brain > 0)[::97])


SCANS = {
    'spin-echo': ((56, 56, 20), (4, 4, 6.6), (1.0, 0.8, 1.6, 0.5)),
    'perfusion': ((48, 52, 20), (4.5, 4.5, 6.6), (1.0, 0.8, 1.3, 0.3)),
    'echo-planar': ((52, 56, 15), (4, 4, 6.6), (1.0, 0.75, 1.5, 0.15)),
}


def scan_of(head, kind, motion, seed=1, noise=0.03):
    """A scan of the moved head: tissue contrast, bias, thick slices, Rician noise."""
    (t1w, brain, *tissues), affine = head
    shape, zooms, signals = SCANS[kind]
    grid = centred(shape, zooms)
    signal = sum(s * tissue for s, tissue in zip(signals, tissues, strict=False))
    signal = signal + signals[3] * (1 - brain) * np.clip(t1w / 8000, 0, 1)
    image = seen_on(grid, signal, affine, np.linalg.inv(motion), (2, 2, 3))
    image = image * (1 + 0.002 * (points_of(grid)[..., 1] - CENTRE[1]))
    rng = np.random.default_rng(seed)
    real, imaginary = noise * rng.standard_normal((2, *shape))
    return 1000 * np.hypot(image + real, imaginary), grid


def mean_error(estimated, true, head):
    points = brain_points(head)
    return np.linalg.norm(apply(estimated, points) - apply(true, points), axis=1).mean()


def t1w_of(head, path):
    """T1w image of the very tissue the scans show; the template's is 0.15 mm off its maps."""
    (t1w, brain, grey, white, fluid), affine = head
    image = np.where(brain > 0, 700 * grey + 1000 * white + 300 * fluid, t1w / 8)
    real, imaginary = 25 * np.random.default_rng(0).standard_normal((2, *image.shape))
    return save_image(np.hypot(image + real, imaginary), Grid(image.shape, affine), path)


@pytest.fixture
def align(head, tmp_path):
    def _align(kind, motion, **options):
        image, grid = scan_of(head, kind, motion)
        out = tmp_path / 'transform.txt'
        reply = run_isolated(
            'register_rigid',
            cwd=tmp_path,
            fixed=t1w_of(head, tmp_path / 't1w.nii'),
            fixed_mask=packaged_template('desc-brain_mask'),
            moving=save_image(image, grid, tmp_path / 'scan.nii'),
            out_transform=out,
            **options,
        )
        return load_affine(out), reply

    return _align


def test_rigid_registration_finds_a_known_motion(align, head):
    motion = rigid((3, -2), (3, -2, 2.5))
    estimated, reply = align('perfusion', motion)
    assert mean_error(estimated, motion, head) < 0.3
    assert reply['rotation'] == pytest.approx(np.hypot(3, 2), abs=0.3)
    assert reply['translation'] == pytest.approx([3, -2, 2.5], abs=1)


@pytest.mark.prove
@pytest.mark.parametrize('kind', SCANS)
@pytest.mark.parametrize(
    ('degrees', 'shift'), [((0, 0), (0, 0, 0)), ((-4, 3), (-5, 4, 3)), ((5, 5), (4, 0, -6))]
)
def test_rigid_registration_is_below_a_third_of_a_millimetre(align, head, kind, degrees, shift):
    motion = rigid(degrees, shift)
    assert mean_error(align(kind, motion)[0], motion, head) < 0.3


@pytest.mark.prove
def test_rigid_registration_survives_a_header_far_off(align, head):
    motion = rigid((2, 2), (10, 35, -15))
    assert mean_error(align('spin-echo', motion)[0], motion, head) < 1


@pytest.mark.prove
def test_rigid_registration_repeats_to_the_bit(align):
    first, second = (align('perfusion', rigid((1, 1), (1, 1, 1)))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def coarse_template(tmp_path, head):
    """Template at 4 mm."""
    (t1w, brain, *_), affine = head
    grid = Grid((45, 54, 45), affine @ np.diag([2.0, 2, 2, 1]))
    image = seen_on(grid, ndimage.gaussian_filter(t1w, 0.7), affine)
    mask = (seen_on(grid, brain, affine) > 0.5).astype(float)
    return (
        save_image(image, grid, tmp_path / 'template.nii'),
        save_image(mask, grid, tmp_path / 'template_mask.nii'),
    )


@pytest.mark.parametrize('sloppy', [True, pytest.param(False, marks=pytest.mark.prove)])
def test_normalisation_and_its_inverse_lead_there_and_back(head, sloppy, tmp_path):
    (t1w, brain, *_), affine = head
    template, template_mask = coarse_template(tmp_path, head)
    to_head = rigid((4, -3), (3, 5, -4)) @ np.diag([1.05, 0.97, 1.04, 1])
    grid = centred((52, 60, 52), (4, 4, 4))
    to_template = np.linalg.inv(to_head)
    image = seen_on(grid, t1w, affine, to_template, (2, 2, 2))
    mask = (seen_on(grid, brain, affine, to_template) > 0.5).astype(float)
    forward, inverse = tmp_path / 'forward.h5', tmp_path / 'inverse.h5'
    run_isolated(
        'normalise_to_template',
        cwd=tmp_path,
        t1w=save_image(image, grid, tmp_path / 't1w.nii'),
        mask=save_image(mask, grid, tmp_path / 'mask.nii'),
        template=template,
        template_mask=template_mask,
        sloppy=sloppy,
        out_forward=forward,
        out_inverse=inverse,
    )
    maps = {}
    for transform, reference in ((forward, template), (inverse, tmp_path / 't1w.nii')):
        out = tmp_path / f'{transform.stem}.nii'
        run_isolated(
            'template_coordinates', cwd=tmp_path, transform=transform, template=reference, out=out
        )
        maps[transform] = load_data(out), grid_of(out)
    in_head, template_grid = maps[forward]
    inside = load_data(template_mask) > 0
    wanted = apply(to_head, points_of(template_grid)[inside])
    assert np.linalg.norm(in_head[inside] - wanted, axis=1).mean() < 1.0

    in_template, head_grid = maps[inverse]
    voxels = apply(np.linalg.inv(head_grid.affine), in_head[inside]).T
    back = np.stack(
        [ndimage.map_coordinates(in_template[..., k], voxels, order=1) for k in range(3)]
    )
    assert np.linalg.norm(back.T - points_of(template_grid)[inside], axis=1).mean() < 0.2


def test_coordinates_of_an_affine_are_its_points(tmp_path):
    grid = Grid((3, 4, 5), np.array([[-2.0, 0, 0, 9], [0, 2, 0, -5], [0, 0, 3, 1], [0, 0, 0, 1]]))
    reference = save_image(np.zeros(grid.shape), grid, tmp_path / 'reference.nii')
    motion = rigid((10, 20), (1, 2, 3))
    transform = save_affine(motion, tmp_path / 'motion.txt')
    template_coordinates(transform, reference, tmp_path / 'xyz.nii')
    found = load_data(tmp_path / 'xyz.nii')
    np.testing.assert_allclose(found, apply(motion, points_of(grid)), atol=1e-4)


def test_head_is_found_however_its_header_turns_it(head, tmp_path):
    (t1w, brain, *_), affine = head
    turn = rigid((40, -5), (20, -30, 10))
    fixed, moving = (_to_zooms(_to_ants(t1w, a), 4.0) for a in (affine, turn @ affine))
    around = _to_zooms(_dilate(_to_ants(brain, affine), DILATION), 4.0)
    found, likeness = _place_head(fixed, moving, around, tmp_path)
    assert mean_error(_matrix(found), turn, head) < 2
    assert judge_brain(likeness, likeness).name == 'good'


def test_a_head_of_another_size_is_brought_to_the_template(head, tmp_path):
    (t1w, brain, *_), affine = head
    resize = np.diag([0.75, 0.75, 0.75, 1.0])
    fixed, moving = (_to_zooms(_to_ants(t1w, a), 4.0) for a in (affine, resize @ affine))
    around = _to_zooms(_dilate(_to_ants(brain, affine), DILATION), 4.0)
    rigid_file, _ = _place_head(fixed, moving, around, tmp_path)
    found = _size_head(fixed, moving, rigid_file, around, tmp_path)
    assert mean_error(_matrix(found), resize, head) < 2


@pytest.mark.prove
def test_brain_is_extracted_from_a_turned_head(head, tmp_path):
    (t1w, brain, *_), affine = head
    grid = centred((100, 116, 110), (2, 2, 2))
    to_template = np.linalg.inv(rigid((12, -8), (10, -20, 15)) @ np.diag([1.06, 0.96, 1.03, 1]))
    image = seen_on(grid, t1w, affine, to_template)
    true = seen_on(grid, brain, affine, to_template) > 0.5
    path = save_image(image, grid, tmp_path / 't1w.nii')
    out = tmp_path / 'mask.nii'
    reply = run_isolated(
        'extract_brain', cwd=tmp_path, t1w=path, out_mask=out, out_corrected=tmp_path / 'c.nii'
    )
    mask = load_data(out) > 0
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.97
    assert reply['volume'] == pytest.approx(mask.sum() * 0.008)


def plain(image, grid):
    return image, grid


def defaced(image, grid):
    """Take everything below and before the brain away, as defacing does."""
    _, y, z = np.moveaxis(points_of(grid) - CENTRE, -1, 0)
    return np.where((y > 55) & (z < 5), 0.0, image), grid


def cropped(image, grid):
    """Leave the neck and the outer skull outside the image."""
    edges = CENTRE + np.array([(-72, -92, -75), (72, 92, 85)])
    low, high = np.rint(apply(np.linalg.inv(grid.affine), edges)).astype(int)
    part = tuple(map(slice, low, high))
    affine = grid.affine.copy()
    affine[:3, 3] = apply(grid.affine, low)
    return image[part], Grid(image[part].shape, affine)


def turned(image, grid):
    """Write the same head in another order and handedness of the axes."""
    axes = nb.orientations.axcodes2ornt(('P', 'S', 'R'))
    done = nb.Nifti1Image(image.astype(np.float32), grid.affine).as_reoriented(axes)
    return np.asarray(done.dataobj), Grid(done.shape, done.affine)


TILT = rigid((18, 9), (0, 0, 0))[:3, :3]


@pytest.mark.prove
@pytest.mark.parametrize(
    ('grid', 'change'),
    [
        (centred((283, 331, 286), (0.7, 0.7, 0.7)), plain),
        (centred((133, 155, 133), (-1.5, 1.5, 1.5)), plain),
        (centred((110, 230, 130), (1.8, 1.0, 1.7), TILT), plain),
        (centred((110, 126, 110), (2, 2, 2)), turned),
        (centred((110, 126, 110), (2, 2, 2)), defaced),
        (centred((110, 126, 110), (2, 2, 2)), cropped),
    ],
    ids=['0.7 mm', '1.5 mm, left-handed', 'oblique, anisotropic', 'PSR', 'defaced', 'cropped'],
)
def test_brain_is_extracted_from_heads_as_they_come(head, grid, change, tmp_path):
    (t1w, brain, *_), affine = head
    to_template = np.linalg.inv(rigid((7, -5), (4, -8, 6)) @ np.diag([1.04, 0.97, 1.02, 1]))
    image, place = change(seen_on(grid, t1w, affine, to_template), grid)
    true, _ = change(seen_on(grid, brain, affine, to_template) > 0.5, grid)
    path = save_image(image.astype(np.float32), place, tmp_path / 't1w.nii')
    out = tmp_path / 'mask.nii'
    run_isolated(
        'extract_brain', cwd=tmp_path, t1w=path, out_mask=out, out_corrected=tmp_path / 'c.nii'
    )
    mask = load_data(out) > 0
    assert 2 * (mask & (true > 0)).sum() / (mask.sum() + (true > 0).sum()) > 0.97
    assert ndimage.label(mask)[1] == 1


@pytest.mark.prove
def test_scan_is_found_however_its_header_turns_it(align, head):
    motion = rigid((-35, 10), (5, 10, -10))
    assert mean_error(align('spin-echo', motion)[0], motion, head) < 0.5


@pytest.mark.parametrize('volume', [899.0, 2101.0, 0.0])
def test_implausible_brain_volume_is_an_error_that_says_what_to_do(volume):
    with pytest.raises(InputDataError, match=r'sub-01_T1w.* mL.*-d NAME=PATH'):
        _check_volume(volume, (900.0, 2100.0), 'sub-01_T1w.nii.gz')


def mixed_brain(rng, n=60_000):
    """Intensities of fluid 300, grey 700, white 1000, a fifth of the voxels mixed; fractions."""
    fractions = np.eye(3)[rng.choice(3, n, p=[0.12, 0.48, 0.4])]
    mixed = rng.random(n) < 0.2
    share, lower = rng.random(n), rng.integers(0, 2, n)
    blend = share[:, None] * np.eye(3)[lower] + (1 - share[:, None]) * np.eye(3)[lower + 1]
    fractions[mixed] = blend[mixed]
    return fractions @ [300, 700, 1000] + 45 * rng.standard_normal(n), fractions


@pytest.mark.parametrize('unit', [1.0, 1e-3, 50.0])
def test_tissue_fractions_are_recovered_in_any_unit(unit):
    values, true = mixed_brain(np.random.default_rng(0))
    found = _tissue_fractions(values * unit)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.min() >= 0
    assert abs(found - true).mean() < 0.06
    np.testing.assert_allclose(found.mean(axis=0), true.mean(axis=0), atol=0.02)


def test_tissue_maps_are_zero_outside_the_mask(tmp_path):
    values, _ = mixed_brain(np.random.default_rng(0), 4000)
    grid = Grid((20, 20, 12), np.eye(4))
    mask = np.zeros(grid.shape, bool)
    mask[:, :, 1:11] = True
    data = np.full(grid.shape, np.nan)
    data[mask] = values
    paths = [save_image(data, grid, tmp_path / 't1w.nii'), tmp_path / 'mask.nii']
    save_image(mask, grid, paths[1])
    out = [tmp_path / f'{name}.nii' for name in TISSUES]
    segment_tissue(*paths, *out)
    total = sum(load_data(path) for path in out)
    np.testing.assert_allclose(total, mask, atol=1e-5)


def test_segmentation_without_contrast_is_an_error(tmp_path):
    grid = Grid((3, 3, 3), np.eye(4))
    path = save_image(np.ones(grid.shape), grid, tmp_path / 'flat.nii')
    with pytest.raises(InputDataError, match='contrast inside the brain mask'):
        segment_tissue(path, path, 'a.nii', 'b.nii', 'c.nii')


def test_sheared_image_is_an_error_that_names_the_file(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.3
    path = tmp_path / 'sheared.nii'
    nb.save(nb.Nifti1Image(np.random.default_rng(0).random((4, 4, 4), 'float32'), affine), path)
    with pytest.raises(InputDataError, match=r'sheared\.nii.*orthogonal'):
        run_isolated('correct_bias', cwd=tmp_path, image=path, out_image=tmp_path / 'out.nii')


@pytest.mark.parametrize('voxels', ['alike', 'smaller'])
def test_mean_of_two_heads_has_less_noise_than_one_and_no_blur(head, voxels, tmp_path):
    """The second is turned, shifted, brighter and of another matrix."""
    (t1w, brain, *_), affine = head
    own = Grid(t1w.shape, affine)
    finer = centred((128, 155, 131), (1.5, 1.5, 1.5))
    other = finer if voxels == 'smaller' else Grid((100, 115, 96), affine)
    motion = rigid((6, -8), (5, 3, -4))
    rng = np.random.default_rng(0)
    clean = [t1w / 8, 1.3 * seen_on(other, t1w / 8, affine, np.linalg.inv(motion))]
    noisy = [one + 40 * rng.standard_normal(one.shape) for one in clean]
    files = [
        save_image(one, grid, tmp_path / f'{n}.nii')
        for n, (one, grid) in enumerate(zip(noisy, (own, other), strict=True))
    ]
    out = tmp_path / 'mean.nii'
    run_isolated('average_heads', cwd=tmp_path, images=files, out_image=str(out))
    inside = ndimage.binary_erosion(brain > 0, iterations=2)
    error = (load_data(out) - clean[0])[inside]
    assert error.std() < 0.85 * 40
    assert abs(error.mean()) < 4
