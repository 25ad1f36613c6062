"""Maps of other software: found by the input map, brought to the template, tested as a group."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.engines.templates import packaged_template
from bids_app.errors import SelectionError, SettingsError
from bids_app.group.maps import from_maps, list_shared_maps
from bids_app.group.workflow import run_group
from bids_app.images import grid_of, load_data, save_affine
from bids_app.models.numerics.resampling import world_of_flirt
from bids_app.settings import RunSettings, resolve

GRID = grid_of(packaged_template('desc-brain_mask'))
SLOPE = np.array([0.3, -0.2, 0.5])

MAP = """
[[space]]
name = "T2"
to = "T1w"
transform = "sub-{sub}_T2_to_T1w.mat"
target = "sub-{sub}_T1w.nii"
[[space]]
name = "T1w"
to = "template"
transform = "sub-{sub}_T1w_to_template.txt"
[[map]]
quantity = "cbf"
path = "sub-{sub}_task-{task}_cbf.nii"
factor = 2
source = "told"
[[map]]
quantity = "cmro2"
path = "sub-{sub}_task-{task}_cmro2.nii"
[[map]]
quantity = "oef"
space = "T2"
path = "sub-{sub}_task-{task}_space-T2_oef.nii"
[[map]]
quantity = "boldPct"
contrast = "calc-control"
path = "sub-{sub}_change_bold.nii"
"""


def save(path, data, affine=GRID.affine):
    nb.save(nb.Nifti1Image(np.asarray(data, np.float32), affine), path)


def rigid(x, y, z, angle):
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'maps'
    root.mkdir()
    (tmp_path / 'map.toml').write_text(MAP)
    return root


def shared(folder, *, participants=(), settings=None, **options):
    run = RunSettings(
        bids_dir=folder,
        output_dir=folder.parent / 'out',
        level='group',
        derivatives={'maps': folder},
        participants=participants,
        **{'input_map': str(folder.parent / 'map.toml'), **options},
    )
    resolved = settings or resolve(command_line={'group.permutations': 20, 'group.bootstraps': 20})
    return run, resolved


def read(folder, scratch, **options):
    run, settings = shared(folder, **options)
    scratch.mkdir(exist_ok=True)
    return from_maps(*list_shared_maps(run, settings), settings, scratch)


def world(grid_shape, affine):
    points = np.moveaxis(np.indices(grid_shape, dtype=float), 0, -1)
    return points @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize('kind', ['.txt', '.h5'])
def test_a_map_goes_through_flirt_and_itk_in_one_interpolation(folder, tmp_path, kind):
    to_t1w, to_template = rigid(3, -2, 1, 0.05), rigid(-4, 5, 2, -0.03)
    # a radiological grid of the map and a neurological one of the T1w image
    affine = np.diag([-6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = 120, -150, -100
    target = np.diag([3.0, 3.0, 3.0, 1.0])
    target[:3, 3] = -100, -130, -90
    shape, target_shape = (41, 42, 40), (70, 80, 60)
    for condition, scale in (('calc', 2.0), ('control', 1.0)):
        name = f'sub-1_task-{condition}_space-T2_oef.nii'
        save(folder / name, scale * (world(shape, affine) @ SLOPE), affine)
    save(folder / 'sub-1_T1w.nii', np.zeros(target_shape), target)
    # matrix of FLIRT whose world transform is to_t1w
    unit = world_of_flirt(np.eye(4), shape, affine, target_shape, target)
    source = np.diag([6.0, 6.0, 6.0, 1.0]) @ np.linalg.inv(affine)
    flirt = source @ np.linalg.inv(unit) @ to_t1w @ np.linalg.inv(source)
    np.savetxt(folder / 'sub-1_T2_to_T1w.mat', flirt)
    back = np.linalg.inv(to_template)
    if kind == '.txt':
        save_affine(back, folder / 'sub-1_T1w_to_template.txt')
    else:
        write_composite(back, folder / 'sub-1_T1w_to_template.h5')
        (tmp_path / 'map.toml').write_text(MAP.replace('_template.txt', '_template.h5'))
    inputs, sentences = read(folder, tmp_path / 'work')
    assert sentences == ()
    (oef,) = inputs.changes
    (source,) = oef.sources['1']
    moved = load_data(source.value) - load_data(source.minus)
    points = world(GRID.shape, GRID.affine)
    chain = np.linalg.inv(to_t1w) @ back
    expected = (points @ chain[:3, :3].T + chain[:3, 3]) @ SLOPE
    known = np.isfinite(moved)
    assert known.mean() > 0.5
    assert np.abs(moved - expected)[known].max() < 1e-3
    assert source.made_from[0].name == 'sub-1_task-calc_space-T2_oef.nii'


def write_composite(matrix, path):
    import ants

    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    itk = lps @ matrix @ lps
    transform = ants.create_ants_transform(
        transform_type='AffineTransform', precision='double', dimension=3,
        matrix=itk[:3, :3], offset=itk[:3, 3],
    )  # fmt: skip
    ants.write_transform(transform, str(path))


def make_study(folder, n=4):
    """
    Condition maps of CBF and CMRO2 and changes of BOLD; CMRO2 rises, and BOLD with it.

    More in some voxels than in others: what is equal everywhere could be one common offset.
    """
    rng = np.random.default_rng(1)
    pattern = rng.uniform(0.5, 1.5, GRID.shape)
    inside = load_data(packaged_template('desc-brain_mask')) > 0
    for sub in range(1, n + 1):
        for quantity, base, change in (('cbf', 25, 4), ('cmro2', 120, 20)):
            control = base + rng.normal(0, 0.05 * base, GRID.shape)
            task = control + change * pattern + rng.normal(0, 1, GRID.shape)
            for condition, data in (('control', control), ('calc', task)):
                name = f'sub-{sub}_task-{condition}_{quantity}.nii'
                save(folder / name, np.where(inside, data, np.nan))
        bold = 1 + rng.normal(0, 0.1, GRID.shape)
        save(folder / f'sub-{sub}_change_bold.nii', np.where(inside, bold, np.nan))


def test_the_group_runs_from_shared_maps_alone(folder):
    make_study(folder, n=6)  # fewer cannot show that anything changed
    run, settings = shared(folder)
    verdict = run_group(run, settings)
    assert verdict.code == 0
    out = run.output_dir / 'tpl-MNI152NLin6Asym'
    (effect,) = out.rglob('*contrast-*stat-effect*desc-cbf_*map.nii.gz')
    # the factor of the entry is in the result
    assert np.nanmedian(load_data(effect)) == pytest.approx(8, rel=0.05)
    (labels,) = out.rglob('*seg-concordance_*dseg.nii.gz')
    found = load_data(labels)
    assert (found[found > 0] == 1).mean() > 0.95


def test_what_cannot_be_used_is_said_and_the_rest_is_used(folder, tmp_path):
    make_study(folder, n=2)
    for condition in ('calc', 'control'):
        save(folder / f'sub-1_task-{condition}_space-T2_oef.nii', np.zeros((3, 3, 3)), np.eye(4))
    broken = folder / 'sub-2_task-calc_cbf.nii'
    broken.unlink()
    broken.symlink_to('.git/annex/objects/SHA256E-s9--' + 'ab' * 32)
    inputs, sentences = read(folder, tmp_path / 'work')
    changes = {maps.quantity: sorted(maps.sources) for maps in inputs.changes}
    assert changes == {'cbf': ['1'], 'cmro2': ['1', '2'], 'boldPct': ['1', '2']}
    assert any('oef.nii is not used: nothing matches sub-{sub}_T' in one for one in sentences)
    assert any('not fetched' in one for one in sentences)


def test_participants_that_have_no_maps_and_folders_without_a_map_are_refused(folder):
    make_study(folder, n=1)
    run, settings = shared(folder, participants=('9',))
    with pytest.raises(SelectionError, match='no maps of 9 by the input map map; there are: 1'):
        list_shared_maps(run, settings)
    run, settings = shared(folder, input_map=None)
    with pytest.raises(SettingsError, match='needs --input-map'):
        list_shared_maps(run, settings)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('quantity = "cbf"', 'quantity = "cbff"', 'did you mean cbf'),
        ('source = "told"', '', 'needs source'),
        ('space = "T2"', 'space = "T3"', 'unknown name .T3.'),
        ('to = "T1w"', 'to = "T2"', 'circle'),
        ('target = "sub-{sub}_T1w.nii"', '', 'needs target'),
        ('contrast = "calc-control"', 'contrast = "calc"', 'should be two conditions'),
        ('_cmro2.nii"', '_cmro2.mgz"', 'such a file ends in'),
    ],
)
def test_mistakes_in_the_entries_are_named(folder, tmp_path, old, new, message):
    for name in ('sub-1_task-calc_space-T2_oef.nii', 'sub-1_task-control_space-T2_oef.nii'):
        save(folder / name, np.zeros((3, 3, 3)), np.eye(4))
    (tmp_path / 'map.toml').write_text(MAP.replace(old, new))
    from bids_app.bids.input.input_map import load_role_map

    load_role_map.cache_clear()
    with pytest.raises(SettingsError, match=message):
        read(folder, tmp_path / 'work')


def test_the_change_of_block_medians_is_made_of_a_series(folder, tmp_path):
    (tmp_path / 'map.toml').write_text(
        '[[file]]\nrole = "events"\npath = "sub-{sub}_task-{task}_events.tsv"\n'
        '[[map]]\nquantity = "boldPct"\nseries = true\nrepetition_time = 3\n'
        'path = "sub-{sub}task-{task}_bold.nii.gz"\n'
    )
    (folder / 'sub-1_task-all_events.tsv').write_text(
        'onset\tduration\ttrial_type\r\n30\t30\tcalc\r\n90\t30\tcalc'
    )
    course = np.full(40, 100.0)
    course[10:20] = course[30:40] = 102.0
    course += np.tile([-0.1, 0.1], 20)
    series = np.ones((*GRID.shape, 1), np.float32) * course.astype(np.float32)
    save(folder / 'sub-1task-all_bold.nii.gz', series)
    inputs, sentences = read(folder, tmp_path / 'work')
    assert sentences == ()
    (maps,) = inputs.changes
    (source,) = maps.sources['1']
    assert (maps.contrast, maps.task) == ('calcMinusControl', 'all')
    assert np.nanmedian(load_data(source.value)) == pytest.approx(2.0, abs=0.05)
    assert source.variance is not None
