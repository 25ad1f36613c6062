import dataclasses

import numpy as np
import pytest

from bids_app.phantom import acquisition, physics, truth
from bids_app.phantom.acquisition import Geometry, Places, Subject, protocol
from bids_app.phantom.anatomy import CHANNELS, Anatomy, Background, make_head, random_rigid
from bids_app.phantom.participant import NO_EFFECT, Participant, effects_of

PERSON = Participant(label='01', hct=0.42, sao2=0.98, flow_scale=1.0)
GRID = Geometry(shape=(5, 5, 4), zooms=(4.0, 4.0, 6.6), centre=(0, 0, 0), points=(3, 3, 5))
STILL = np.eye(4)


def uniform(tissue, *, gradient=0.0, region=5, **factors):
    """Endless block of one tissue under an axial gradient that is constant over the block."""
    maps = np.zeros((60, 60, 60, len(CHANNELS)), np.float32)
    maps[..., CHANNELS.index(tissue)] = 1
    for name in ('r2', 'cbf', 'cbv', 'oef'):
        maps[..., CHANNELS.index(name)] = factors.get(name, 1.0)
    affine = np.eye(4)
    affine[:3, 3] = -29.5
    background = Background(base=0.0, gradient=gradient, length=1e7, dipoles=np.zeros((0, 4)))
    labels = np.full((60, 60, 60), region, np.uint8)
    return Subject(PERSON, Anatomy(affine, maps, labels, None, background))


def scan_on(which, **changes):
    return dataclasses.replace(getattr(protocol('tiny'), which), geometry=GRID, **changes)


def test_voxels_lie_about_the_centre_of_the_grid():
    geometry = Geometry(shape=(4, 6, 3), zooms=(2, 3, 5), centre=(10, -20, 30), points=(1, 1, 1))
    middle = geometry.affine @ [1.5, 2.5, 1.0, 1.0]
    assert middle[:3] == pytest.approx([10, -20, 30])
    assert np.linalg.det(geometry.affine[:3, :3]) < 0  # radiological


def test_average_is_over_the_whole_voxel():
    def height(points):
        return points.position[:, 2:] ** 2

    means = acquisition.average(uniform('GM').anatomy, GRID, STILL, height)
    z = (np.arange(4) - 1.5) * 6.6
    expected = z**2 + 6.6**2 / 12 * (1 - 1 / 25)  # variance of 5 midpoints
    assert means[2, 2, :, 0] == pytest.approx(expected)


def test_average_follows_the_pose():
    pose = random_rigid(np.random.default_rng(0), degrees=2, millimetres=2)
    places = acquisition.average(uniform('GM').anatomy, GRID, pose, lambda p: p.position)
    expected = pose @ GRID.affine @ [1, 2, 3, 1]
    assert places[1, 2, 3] == pytest.approx(expected[:3])


def in_plane(function, decay=0.0):
    """Read lines of a complex function of the place (in voxels from the centre, (X, Y))."""
    scan = Geometry(
        shape=(16, 12, 1), zooms=(2, 3, 5), centre=(0, 0, 0), points=(3, 4, 1), readout_decay=decay
    )
    fine = scan.fine
    assert fine.zooms == pytest.approx((2 / 3, 3 / 4, 5))
    at = [
        (np.arange(n * f) + 0.5) / f - 0.5 - (n - 1) / 2
        for n, f in zip(scan.shape[:2], scan.points[:2], strict=True)
    ]
    there = [np.arange(n) - (n - 1) / 2 for n in scan.shape[:2]]
    image = function(*np.meshgrid(*at, indexing='ij'))[..., None, None]
    assert image.shape[:2] == fine.shape[:2]
    read = acquisition.read_lines(image, scan)[..., 0, 0]
    return read, function(*np.meshgrid(*there, indexing='ij'))


def test_lines_keep_waves_that_the_scan_can_hold_and_lose_finer_ones():
    read, wave = in_plane(lambda x, y: 2 + np.exp(2j * np.pi * (5 * x / 16 - 4 * y / 12)))
    assert read == pytest.approx(wave)
    read, _ = in_plane(lambda x, _: np.exp(2j * np.pi * 9 * x / 16))
    assert np.abs(read).max() < 1e-12


def test_gradient_in_plane_moves_a_sharp_edge_out_of_k_space():
    # what varies slowly survives a phase of under half a cycle a voxel, and nothing beyond
    held, dot = in_plane(lambda x, _: np.exp(-(x**2) / 18 + 2j * np.pi * 0.25 * x))
    lost, _ = in_plane(lambda x, _: np.exp(-(x**2) / 18 + 2j * np.pi * 0.75 * x))
    assert np.abs(held).max() == pytest.approx(np.abs(dot).max(), rel=0.01)
    assert np.abs(lost).max() < 0.01 * np.abs(held).max()


def test_decay_while_lines_are_read_blurs_along_the_second_axis_only():
    read, wave = in_plane(lambda x, y: np.exp(2j * np.pi * (3 * x / 16 + 4 * y / 12)), decay=0.6)
    assert read == pytest.approx(np.exp(-0.6 * 4 / 12) * wave)


def test_soft_edges_widen_the_slice_and_keep_the_amount_of_signal():
    soft = dataclasses.replace(GRID, points=(1, 1, 60), soft_edge=0.5)
    means = acquisition.average(
        uniform('GM').anatomy, soft, STILL, lambda p: p.position[:, 2:] ** np.array([0, 1, 2])
    )
    z = (np.arange(4) - 1.5) * 6.6
    # a trapezium is a box of 1 convolved with one of a half: their variances add up
    wide = 6.6**2 / 12 * (1 + 0.5**2)
    assert means[2, 2, :, 0] == pytest.approx(1.0)
    assert means[2, 2, :, 1] == pytest.approx(z)
    assert means[2, 2, :, 2] - z**2 == pytest.approx(wide, rel=2e-3)


@pytest.mark.parametrize('edge', [0.08, 0.2, 0.5])
def test_soft_slice_is_dephased_as_a_trapezium(edge):
    soft = dataclasses.replace(GRID, points=(1, 1, 3), soft_edge=edge)
    turns = np.linspace(0, 0.9, 10)  # of the phase over the nominal thickness
    phase = np.exp(2j * np.pi * np.outer(turns, soft.offsets[:, 2])) * np.sinc(turns / 3)[:, None]
    left = phase @ soft.weights
    assert left == pytest.approx(np.sinc(turns) * np.sinc(edge * turns), abs=1e-4)


def test_truth_elsewhere_is_the_average_over_a_voxel_of_the_scan_there():
    """A scan that lies there has, noise apart, exactly the truth that another one is given."""
    head = make_head(np.random.default_rng(0), spacing=4.0)
    rng = np.random.default_rng(1)
    there, here = (random_rigid(rng, degrees=3, millimetres=3) for _ in range(2))
    target = Geometry(shape=(6, 5, 4), zooms=(3.0, 3.0, 5.0), centre=(20, 0, 40), points=(1, 1, 1))
    wanted = np.ones(target.shape, bool)
    wanted[0] = False
    places = Places(acquisition.centres(target, there), wanted)

    def grey(points):
        return points.tissue.fractions[:, :1]

    found = acquisition.average(head, GRID, here, grey, places)
    for index in [(1, 2, 3), (5, 0, 1), (3, 3, 2)]:
        # a grid of one voxel of the scan's size and orientation at that place
        at = np.linalg.inv(here) @ [*places.position[index], 1]
        single = dataclasses.replace(GRID, shape=(1, 1, 1), centre=tuple(at[:3]))
        assert found[index] == pytest.approx(
            acquisition.average(head, single, here, grey)[0, 0, 0], abs=1e-9
        )
    assert not found[0].any()


@pytest.mark.parametrize(('tissue', 't2'), [('GM', 0.075), ('WM', 0.070)])
def test_spin_echoes_of_pure_tissue_decay_with_its_t2(tissue, t2):
    scan = scan_on('mese')
    train = acquisition.spin_echoes(uniform(tissue), scan, STILL)
    assert 1 / truth.fit_decay(train, scan.echo_times) == pytest.approx(t2, rel=1e-6)


def test_gradient_echoes_of_pure_tissue_hold_the_extraction():
    scan = scan_on('megre')
    ideal = acquisition.ideal_gradient_echoes(uniform('GM'), scan, STILL, {})
    r2_prime = truth.fit_decay(ideal, scan.echo_times) - 1 / 0.075
    assert r2_prime == pytest.approx(PERSON.static_dephasing_constant * 0.048 * 0.37, rel=1e-6)


def test_slice_dephasing_is_the_sinc_of_a_rectangular_profile():
    gradient = 60e-6
    scan = scan_on('megre')
    subject = uniform('GM', gradient=gradient)
    measured = acquisition.gradient_echoes(subject, scan, STILL, {})
    ideal = acquisition.ideal_gradient_echoes(subject, scan, STILL, {})
    cycles = physics.CYCLES_PER_TESLA * gradient * 6.6e-3 * np.array(scan.echo_times)
    got = np.abs(measured)[2, 2, 1] / ideal[2, 2, 1]
    assert got == pytest.approx(np.abs(np.sinc(cycles)), abs=1e-6)


def test_phase_grows_with_the_field():
    gradient = 20e-6
    scan = scan_on('megre')
    measured = acquisition.gradient_echoes(uniform('GM', gradient=gradient), scan, STILL, {})
    step = np.angle(measured[2, 2, 2, 1] * np.conj(measured[2, 2, 1, 1]))
    turn = 2 * np.pi * physics.CYCLES_PER_TESLA * gradient * 6.6e-3 * scan.echo_times[1]
    assert step == pytest.approx(turn, rel=1e-4)


def test_perfect_cbf_of_pure_grey_matter_is_its_flow_in_every_slice():
    scan = scan_on('asl')
    difference, m0 = acquisition.labeling_images(uniform('GM'), scan, STILL, {})
    cbf = truth.measured_cbf(difference, m0, scan, scan.slice_delays)
    np.testing.assert_allclose(cbf, 55.0, rtol=1e-6)
    assert difference[2, 2, 0] > difference[2, 2, 3]  # later slices see older label


@pytest.mark.parametrize(('tissue', 'volume'), [('GM', 0.048), ('WM', 0.025)])
def test_perfect_cbv_of_pure_tissue_is_its_volume(tissue, volume):
    scan = scan_on('dsc')
    whole, first = (
        acquisition.bolus_passage(uniform(tissue), scan, STILL, recirculates=again)
        for again in (True, False)
    )
    np.testing.assert_allclose(truth.measured_cbv(first, scan), volume, rtol=1e-6)
    assert whole.min() > 0.3 * whole.max()  # the bolus does not drown in the noise


def test_task_changes_flow_extraction_and_bold_of_its_region_only():
    calc = effects_of('calc', ('control', 'calc'))
    for region, effect in (*calc.items(), (5, NO_EFFECT)):
        subject = uniform('GM', region=region)
        maps = acquisition.volume_averages(subject, GRID, STILL, calc)
        base = acquisition.volume_averages(subject, GRID, STILL, {})
        assert maps['cbf'] / base['cbf'] == pytest.approx(effect.flow)
        assert maps['cmro2'] / base['cmro2'] == pytest.approx(effect.metabolism)
        scan = scan_on('bold')
        states = acquisition.steady_states(subject, scan, STILL, ({}, calc))
        change = np.log(states[..., 1] / states[..., 0]) / -scan.echo_time
        assert change == pytest.approx(maps['R2prime'] - base['R2prime'], abs=1e-6)


def test_fractions_of_a_voxel_are_its_tissue_and_region():
    fractions, region = acquisition.tissue_fractions(uniform('GM', region=3), GRID, STILL)
    assert fractions[..., 0] == pytest.approx(1.0)
    assert np.all(region == 3)


@pytest.mark.parametrize('name', ['tiny', 'coarse', 'study'])
def test_protocols_have_the_echoes_and_times_of_the_target_study(name):
    p = protocol(name)
    assert p.mese.echo_times[0] == 0.016
    assert p.mese.echo_times[-1] == 0.128
    assert p.megre.echo_times[-1] == 0.060
    assert (len(p.mese.echo_times), len(p.megre.echo_times)) == (8, 12)
    assert p.bold.n_volumes * p.bold.repetition_time == pytest.approx(480.0)
    assert p.asl.n_pairs == 39


def test_coarse_voxels_are_the_ones_decided():
    p = protocol('coarse')
    assert p.t1w.zooms == (2.0, 2.0, 2.0)
    assert p.asl.geometry.zooms == (4.5, 4.5, 6.6)
    for scan in (p.mese, p.megre, p.dsc, p.bold):
        assert scan.geometry.zooms == (4.0, 4.0, 6.6)


def test_unknown_grid_is_refused_with_the_choices():
    with pytest.raises(ValueError, match='tiny, coarse, study'):
        protocol('huge')


@pytest.mark.parametrize('seed', [0, 1])
def test_background_gradients_stay_within_what_can_be_corrected(seed):
    head = make_head(np.random.default_rng(seed), spacing=4.0)
    pose = random_rigid(np.random.default_rng(seed), degrees=2.1, millimetres=3)
    geometry = protocol('coarse').megre.geometry
    world = pose @ geometry.affine
    index = np.indices(geometry.shape).reshape(3, -1).T
    centre = index @ world[:3, :3].T + world[:3, 3]
    centre = centre[head.sample(centre).fractions[:, :3].sum(1) > 0.5]
    slopes = []
    for axis in range(3):
        half = world[:3, axis] / 2
        field = head.background.field
        rise = field(centre + half) - field(centre - half)
        slopes.append(rise / geometry.zooms[axis] * 1e3 * 1e6)
    through = np.abs(slopes[2])
    assert 3 < np.median(through) <= 10
    assert 12 < np.percentile(through, 90) <= 40
    assert np.hypot(slopes[0], slopes[1]).max() <= 3
