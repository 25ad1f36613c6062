"""Maps on the cortex from surfaces as fMRIPrep leaves them, made for the slab of the phantom."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from nilearn.surface import load_surf_mesh

import oxybold
from bids_app.bids.input.surfaces import standard_meshes
from bids_app.errors import MissingInputError
from bids_app.images import grid_of, load_data, load_surface
from tests.bids.input.test_surfaces import labels_file
from tests.e2e import support, trees
from tests.models.numerics.test_surface import icosphere

pytestmark = pytest.mark.e2e

INNER, OUTER = 15.0, 18.0
"""Radius of the made cortex, mm: in the ring of grey matter, but for its poles."""


def write_mesh(path, vertices, faces):
    """Write a surface."""
    arrays = [
        nb.gifti.GiftiDataArray(np.asarray(vertices, np.float32), 'NIFTI_INTENT_POINTSET'),
        nb.gifti.GiftiDataArray(np.asarray(faces, np.int32), 'NIFTI_INTENT_TRIANGLE'),
    ]
    nb.gifti.GiftiImage(darrays=arrays).to_filename(path)


def add_surfaces(folder):
    """Write a sphere in the middle of the head for both sides."""
    t1w = grid_of(next(folder.glob('sub-01_*desc-preproc_T1w.nii.gz')))
    centre = t1w.affine[:3] @ [*((np.array(t1w.shape) - 1) / 2), 1]
    unit, faces = icosphere(5)
    for side in 'LR':
        for name, vertices in (('white', centre + INNER * unit), ('pial', centre + OUTER * unit),
                               ('space-fsaverage_desc-reg_sphere', 100 * unit)):  # fmt: skip
            write_mesh(folder / f'sub-01_hemi-{side}_{name}.surf.gii', vertices, faces)
    return centre


@pytest.fixture(scope='module')
def made(study, tmp_path_factory):
    """A run that is asked for the surface."""
    folder = tmp_path_factory.mktemp('surface')
    prepared = trees.start(folder / 'fmriprep', 'fmriprep')
    centre = add_surfaces(trees.add_anatomy(prepared, study))
    (mesh,) = standard_meshes(['fsaverage5'])
    sphere, _ = load_surface(mesh.files[0])
    front = labels_file(folder / 'both.label.gii', np.where(sphere[:, 1] > 0, 1, 2))
    outcome = support.run_app(
        study, folder / 'out', 'participant', '--participant-label', '01', *support.HEADER,
        '-d', f'fmriprep={prepared}', '--ignore', 'dsc', 'bold',
        '--output-spaces', 'fsaverage5', '--surface-atlas', f'Halves={front},{front}',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    return folder / 'out', centre, sphere / np.linalg.norm(sphere, axis=1, keepdims=True)


def on_surface(output, name, side='L'):
    (path,) = output.rglob(f'sub-01_*hemi-{side}_space-fsaverage_den-10k_{name}_statmap.shape.gii')
    return nb.load(path).agg_data()


def points_in(path, centre, unit):
    """Voxel coordinates of the middle of the cortex: registration and headers are the identity."""
    grid = grid_of(path)
    world = centre + (INNER + OUTER) / 2 * unit
    inverse = np.linalg.inv(grid.affine)
    return world @ inverse[:3, :3].T + inverse[:3, 3]


@pytest.mark.parametrize(
    ('name', 'native'), [('desc-T2star', 'T2starmap'), ('desc-cbf', 'cbf'), ('desc-T2', 'T2map')]
)
def test_vertices_have_the_values_of_the_voxels_they_lie_in(made, name, native):
    output, centre, unit = made
    found = on_surface(output, f'stat-effect_{name}')
    assert len(found) == 10242
    (path,) = [
        one for one in output.rglob(f'sub-01_*space-MESE_{native}.nii.gz')
        if 'calc' not in one.name
    ]  # fmt: skip
    near = np.rint(points_in(path, centre, unit)).astype(int)
    data = load_data(path)
    inside = ((near >= 0) & (near < data.shape)).all(axis=1)
    nearest = np.full(len(near), np.nan)
    nearest[inside] = data[tuple(near[inside].T)]
    both = np.isfinite(found) & np.isfinite(nearest)
    assert both.sum() > 3000
    assert np.median(found[both] / nearest[both]) == pytest.approx(1, abs=0.02)
    assert np.corrcoef(found[both], nearest[both])[0, 1] > 0.6


def test_white_matter_at_the_poles_has_no_value(made):
    output, _, unit = made
    found = on_surface(output, 'stat-effect_desc-T2')
    at_pole = np.abs(unit[:, 2]) > 0.97
    assert at_pole.sum() > 100
    assert np.isnan(found[at_pole]).mean() > 0.9


def test_variance_is_that_of_averaged_voxels(made):
    output, _, _ = made
    variance = on_surface(output, 'stat-variance_desc-T2')
    found = on_surface(output, 'stat-effect_desc-T2')
    np.testing.assert_array_equal(np.isfinite(variance), np.isfinite(found))
    (path,) = output.rglob('sub-01_*space-MESE_stat-variance_desc-T2_statmap.nii.gz')
    of_voxels = np.nanmedian(load_data(path))
    assert 0.05 < np.nanmedian(variance) / of_voxels < 1


def test_parcels_have_mean_error_and_coverage_in_the_unit_of_the_maps(made):
    output, _, unit = made
    (path,) = output.rglob('*_space-fsaverage_atlas-Halves_den-10k_desc-parcels_summary.tsv')
    table = pd.read_csv(path, sep='\t', na_values=['n/a'])
    rows = table[(table.quantity == 'T2') & (table.hemisphere == 'L')].set_index('name')
    found = on_surface(output, 'stat-effect_desc-T2')
    for name, here in (('front', unit[:, 1] > 0), ('back', unit[:, 1] <= 0)):
        assert rows.value[name] == pytest.approx(np.nanmean(found[here]), rel=0.02)
        assert rows.n_vertices[name] == np.isfinite(found[here]).sum()
        assert 0 < rows.se[name] < 0.02 * rows.value[name]
        assert 0.3 < rows.coverage[name] < 1
    assert set(table.contrast.dropna()) == {'calcMinusControl'}
    assert {'cbf', 'T2star', 'R2prime'} <= set(table.quantity)


def test_sidecars_name_sources_mesh_and_unit(made):
    output, _, _ = made
    (path,) = output.rglob(
        'sub-01_hemi-L_space-fsaverage_den-10k_stat-effect_desc-T2_statmap.json'
    )
    about = json.loads(path.read_text())
    assert about['Units'] == 's'
    assert about['Density'] == '10242 vertices per hemisphere'
    assert about['Sources'] == ['bids::sub-01/anat/sub-01_space-MESE_T2map.nii.gz']
    image = nb.load(path.with_name(path.name.replace('.json', '.shape.gii')))
    assert image.meta['AnatomicalStructurePrimary'] == 'CortexLeft'


def test_python_gives_value_and_error_and_keeps_meshes_apart_from_images(made):
    output, _, _ = made
    one = oxybold.load(output)['01']
    value, error = one.surface('T2', 'R', mesh='fsaverage')
    np.testing.assert_array_equal(value, on_surface(output, 'stat-effect_desc-T2', 'R'))
    np.testing.assert_allclose(
        error**2, on_surface(output, 'stat-variance_desc-T2', 'R'), rtol=1e-6
    )
    change, _ = one.surface('cbf', 'L', contrast='calcMinusControl', mesh='fsaverage')
    assert np.isfinite(change).sum() > 3000
    assert one.spaces == ('MESE', 'MNI152NLin6Asym')  # the brain in the template is saved always
    assert one.conditions == ('calc', 'control')
    with pytest.raises(MissingInputError, match=r'no map on the cortex for .*quantity oef'):
        one.surface('oef', 'L', mesh='fsaverage')


def test_without_surfaces_one_sentence_says_so(study, tmp_path):
    outcome = support.run_app(
        study, tmp_path / 'out', 'participant', '--participant-label', '01', *support.HEADER,
        '-d', f'fmriprep={study / "derivatives" / "fmriprep"}', '--output-spaces', 'fsaverage5',
        '--dry-run',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert 'nothing is made on the surface fsaverage5' in outcome.out + outcome.log


def test_mesh_that_nilearn_reads_is_the_one_that_is_used():
    (mesh,) = standard_meshes(['fsaverage5'])
    for path in mesh.files:
        vertices, faces = load_surface(path)
        other = load_surf_mesh(path)
        np.testing.assert_allclose(vertices, other.coordinates)
        np.testing.assert_array_equal(faces, other.faces)
