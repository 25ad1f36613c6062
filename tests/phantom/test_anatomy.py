import numpy as np
import pytest
from scipy import ndimage

from bids_app.phantom import anatomy
from bids_app.phantom.anatomy import CHANNELS, change_territory, make_head, make_slab, smooth_field


@pytest.fixture(scope='module')
def head():
    return make_head(np.random.default_rng(3), spacing=4.0)


@pytest.fixture(scope='module')
def slab():
    return make_slab(np.random.default_rng(3), centre=(-32.0, -38.0, 46.0), size=(48, 48, 39.6))


def test_head_is_of_human_size_and_has_all_tissues(head):
    voxel = 4.0**3 / 1000
    assert 1200 < head.brain.sum() * voxel < 2100
    grey, white, fluid, other = head.maps[..., :4].sum((0, 1, 2)) * voxel
    assert grey > white > fluid > 50
    assert other > 300


def test_fractions_never_exceed_the_voxel(head):
    fractions = head.maps[..., :3]
    assert fractions.min() >= 0
    assert fractions.sum(-1).max() <= 1 + 1e-5


def test_tissue_is_sharp_as_in_one_person(head):
    grey = head.maps[..., 0]
    assert (grey > 0.8).sum() > 0.7 * (grey > 0.5).sum()


def test_cortex_is_folded_thin_and_has_fluid_in_its_sulci():
    """Along rays from the surface: fluid below the surface, and ribbons of 2 to 4 mm or double."""
    spacing = 1.25
    head = make_head(np.random.default_rng(3), spacing=spacing)
    upper = slice(*(int((z - head.affine[2, 3]) / spacing) for z in (40, 60)))
    grey, white, fluid = (head.maps[:, :, upper, i] for i in range(3))
    inside = head.maps[:, :, upper, :3].sum(-1) > 0.99
    depth = spacing * ndimage.distance_transform_edt(inside)
    folded = inside & (depth > 4) & (depth < 12)
    assert 0.03 < fluid[folded].mean() < 0.25
    assert 0.3 < grey[folded].mean() < 0.75
    # distance of pure grey matter from what is not: half of a ribbon, or of one bank
    half = spacing * ndimage.distance_transform_edt(grey > 0.5)[folded & (grey > 0.5)]
    assert np.percentile(half, 90) < 3.5
    assert (white[folded] > 0.5).mean() > 0.15


def test_head_is_the_same_at_every_spacing(head):
    fine = make_head(np.random.default_rng(3), spacing=2.0)
    # nodes of the coarse grid are nodes of the fine grid
    nodes = np.argwhere(head.brain)[::50] * 4.0 + head.affine[:3, 3]
    a, b = head.sample(nodes), fine.sample(nodes)
    assert a.fractions == pytest.approx(b.fractions, abs=1e-5)
    for name in ('r2', 'cbf', 'cbv', 'oef'):
        assert a.factors[name] == pytest.approx(b.factors[name], abs=1e-5)


def test_participants_have_different_heads(head):
    other = make_head(np.random.default_rng(4), spacing=4.0)
    overlap = (head.brain & other.brain).sum() * 2 / (head.brain.sum() + other.brain.sum())
    assert 0.75 < overlap < 0.98


def test_a_small_head_has_a_brain_of_its_cube(head):
    small = make_head(np.random.default_rng(3), spacing=4.0, size=0.8)
    assert small.brain.sum() / head.brain.sum() == pytest.approx(0.8**3, rel=0.03)


def test_atrophy_widens_the_fluid_inside_the_same_skull(head):
    shrunken = make_head(np.random.default_rng(3), spacing=4.0, atrophy=2.0)
    np.testing.assert_array_equal(shrunken.brain, head.brain)
    np.testing.assert_allclose(
        shrunken.maps[..., :3].sum(-1), head.maps[..., :3].sum(-1), atol=1e-5
    )
    grey, white, fluid = (shrunken.maps[..., i].sum() / head.maps[..., i].sum() for i in range(3))
    assert fluid > 1.5
    assert grey < 0.9
    assert white < 1.0


def test_all_regions_hold_grey_matter(head):
    voxel = 4.0**3 / 1000
    for region in range(1, 6):
        volume = head.maps[..., 0][head.region == region].sum() * voxel
        assert volume > 40


def test_in_plane_gradient_of_the_sources_is_limited(head):
    places = np.argwhere(head.brain)[::20] * 4.0 + head.affine[:3, 3]
    field = head.background.field
    slopes = [(field(places + np.eye(3)[i]) - field(places)) * 1000 for i in (0, 1)]
    assert np.hypot(*slopes).max() < 1.2 * anatomy.MAX_IN_PLANE


def test_sampling_a_linear_map_is_exact_and_air_is_empty(slab):
    centre = np.array([-32.0, -38.0, 46.0])
    position = np.random.default_rng(0).uniform(-20, 20, (50, 3)) + centre
    index = np.indices(slab.maps.shape[:3])
    world = np.einsum('ij,jxyz->xyzi', slab.affine[:3, :3], index) + slab.affine[:3, 3]
    linear = (world @ [0.01, -0.02, 0.03]).astype(np.float32)[..., None]
    voxel = (position - slab.affine[:3, 3]) / np.diag(slab.affine)[:3]
    got = anatomy._trilinear(linear, voxel)[:, 0]
    assert got == pytest.approx(position @ [0.01, -0.02, 0.03], abs=1e-5)
    far = slab.sample(np.array([[500.0, 0.0, 0.0]]))
    assert not far.fractions.any()
    assert far.region[0] == 0


def test_slab_is_full_of_brain_with_four_quadrants_and_a_null_region(slab):
    inside = slab.maps[4:-4, 4:-4, 4:-4]
    assert inside[..., :3].sum(-1) == pytest.approx(1.0, abs=1e-5)
    centre = np.array([[-32.0, -38.0, 40.0]])
    assert slab.sample(centre).fractions[0, 1] == pytest.approx(1.0, abs=1e-5)
    offsets = np.array([[-18, -18, -5], [18, -18, -5], [-18, 18, -5], [18, 18, -5], [18, 18, 15]])
    corners = slab.sample(offsets + np.array([-32.0, -38.0, 46.0]))
    assert corners.region.tolist() == [1, 2, 3, 4, 5]
    assert corners.fractions[:, 0] == pytest.approx(1.0, abs=1e-5)


def test_grey_matter_values_vary_smoothly_about_one(head):
    for name, spread in anatomy.VARIATION.items():
        factor = head.maps[..., CHANNELS.index(name)]
        assert factor.mean() == pytest.approx(1.0, abs=spread)
        assert abs(factor - 1).max() <= 2 * spread + 1e-6


def test_smooth_field_has_unit_variance():
    axes = [np.arange(-280, 280, 5.0)] * 3
    field = smooth_field(np.random.default_rng(1), axes, length=24.0)
    assert field.std() == pytest.approx(1.0, rel=0.1)


def test_rigid_transforms_keep_distances_and_stay_small():
    rng = np.random.default_rng(9)
    for _ in range(10):
        matrix = anatomy.random_rigid(rng, degrees=1.5, millimetres=2.5)
        assert matrix[:3, :3] @ matrix[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1.0)
        assert abs(matrix[:3, 3]).max() <= 2.5


def test_quarter_turns_follow_the_right_hand():
    assert anatomy.rotation(np.array([0, 0, 90.0])) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert anatomy.rotation(np.array([90.0, 0, 0])) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert anatomy.rotation(np.array([0, 90.0, 0])) @ [0, 0, 1] == pytest.approx([1, 0, 0])


@pytest.mark.parametrize('side', ['left', 'right'])
def test_territory_is_the_part_of_two_regions_on_one_side(side):
    at = {'centre': (-24.0, 40.0, 20.0), 'size': (48.0, 48.0, 40.0)}
    plain, changed = (make_slab(np.random.default_rng(1), **at) for _ in range(2))
    change_territory(changed, 1.16, side)
    oef = CHANNELS.index('oef')
    ratio = changed.maps[..., oef] / plain.maps[..., oef]
    place = np.arange(len(ratio)) - (len(ratio) - 1) / 2
    is_there = (place < 0 if side == 'left' else place > 0)[:, None, None]
    inside = np.isin(plain.region, (1, 4)) & is_there
    assert inside.sum() > 1000
    np.testing.assert_allclose(ratio, np.where(inside, 1.16, 1.0), rtol=1e-5)
    np.testing.assert_array_equal(
        np.delete(changed.maps, oef, axis=-1), np.delete(plain.maps, oef, axis=-1)
    )
