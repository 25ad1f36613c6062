"""Standard meshes, atlases on them, and the surfaces of fMRIPrep."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.surfaces import (
    MESHES,
    find_surfaces,
    lacking_surfaces,
    standard_meshes,
    surface_atlases,
)
from bids_app.bids.input.templates import other_templates
from bids_app.errors import SettingsError


def labels_file(path, labels):
    """Write a label file."""
    array = nb.gifti.GiftiDataArray(
        np.asarray(labels, np.int32), intent='NIFTI_INTENT_LABEL', datatype='NIFTI_TYPE_INT32'
    )
    image = nb.gifti.GiftiImage(darrays=[array])
    for key, name in ((0, '???'), (1, 'front'), (2, 'back')):
        label = nb.gifti.GiftiLabel(key=key)
        label.label = name
        image.labeltable.labels.append(label)
    image.to_filename(path)
    return path


def test_fsaverage5_comes_with_nilearn():
    (mesh,) = standard_meshes(['MNI152NLin6Asym', 'fsaverage5'])
    assert (mesh.space, mesh.density) == ('fsaverage', '10k')
    for path in mesh.files:
        assert len(nb.load(path).darrays[0].data) == mesh.n_vertices


@pytest.mark.parametrize('name', ['fsLR', 'fsaverage', 'fsaverage6'])
def test_other_meshes_are_found_in_a_folder_or_in_templateflow_and_never_fetched(
    name, tmp_path, monkeypatch
):
    space, density, _ = MESHES[name]
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path / 'home'))
    with pytest.raises(
        SettingsError, match=f'tpl-{space}_hemi-L_den-{density}_sphere.* not found'
    ):
        standard_meshes([name])
    for folder, item in ((tmp_path / 'own', f'{name}={tmp_path / "own"}'),
                         (tmp_path / 'home' / f'tpl-{space}', name)):  # fmt: skip
        folder.mkdir(parents=True)
        for side in 'LR':
            (folder / f'tpl-{space}_hemi-{side}_den-{density}_sphere.surf.gii').write_text('any')
        (mesh,) = standard_meshes([item])
        assert {path.parent for path in mesh.files} == {folder}


def test_meshes_are_no_templates_of_images():
    assert other_templates(['fsaverage5', 'fsLR=anywhere']) == ()


def test_best_registration_to_fslr_is_taken_and_what_lacks_is_named(tmp_path):
    for name in ('white', 'pial', 'desc-reg_sphere', 'space-fsLR_desc-reg_sphere',
                 'space-fsLR_desc-msmsulc_sphere'):  # fmt: skip
        for side in 'LR':
            (tmp_path / f'sub-01_hemi-{side}_{name}.surf.gii').write_text('any')
    found = find_surfaces(tmp_path)
    assert dict(found)['L_fsLR'].name == 'sub-01_hemi-L_space-fsLR_desc-msmsulc_sphere.surf.gii'
    (mesh,) = standard_meshes(['fsaverage5'])
    assert lacking_surfaces(found, mesh) == []
    (tmp_path / 'sub-01_hemi-R_pial.surf.gii').unlink()
    assert lacking_surfaces(find_surfaces(tmp_path), mesh) == ['hemi-R_pial.surf.gii']


def test_atlases_are_read_from_label_files_and_cifti(tmp_path):
    meshes = standard_meshes(['fsaverage5'])
    labels = np.arange(10242) % 3
    pair = [labels_file(tmp_path / f'{side}.label.gii', labels) for side in 'LR']
    axes = [
        nb.cifti2.BrainModelAxis.from_mask(labels > 0, name='CortexLeft'),
        nb.cifti2.BrainModelAxis.from_mask(labels > 1, name='CortexRight'),
    ]
    table = {0: ('???', (0, 0, 0, 0)), 1: ('front', (1, 0, 0, 1)), 2: ('back', (0, 1, 0, 1))}
    values = np.concatenate([labels[labels > 0], labels[labels > 1]])[None]
    image = nb.Cifti2Image(
        values.astype(np.float32), (nb.cifti2.LabelAxis(['all'], [table]), axes[0] + axes[1])
    )
    image.to_filename(tmp_path / 'both.dlabel.nii')
    texts = [f'Pair={pair[0]},{pair[1]}', f'Both={tmp_path / "both.dlabel.nii"}']
    found = surface_atlases(texts, meshes)
    assert [(one.name, len(one.files), one.n_vertices) for one in found] == [
        ('Pair', 2, 10242), ('Both', 1, 10242)
    ]  # fmt: skip
    from bids_app.images import load_surface_labels

    for one in found:
        read, names = load_surface_labels(one.files, 'L')
        np.testing.assert_array_equal(read, labels)
        assert names == {1: 'front', 2: 'back'}
    right, _ = load_surface_labels(found[1].files, 'R')
    np.testing.assert_array_equal(right, np.where(labels > 1, labels, 0))


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('noname', 'should be NAME='),
        ('A=one.label.gii', 'should be NAME='),
        ('A=absent.dlabel.nii', 'cannot be read as CIFTI'),
        ('A=absent.label.gii,absent.label.gii', 'cannot be read as GIFTI'),
        ('A={small},{small}', 'has 7 vertices per hemisphere; expected 10242 of fsaverage5'),
        ('A={right},{right} A={right},{right}', 'the same name twice'),
    ],
)
def test_atlases_that_cannot_be_used_are_named_before_anything_is_computed(text, said, tmp_path):
    small = labels_file(tmp_path / 'small.label.gii', [1] * 7)
    right = labels_file(tmp_path / 'right.label.gii', [1] * 10242)
    texts = text.format(small=small, right=right).split()
    with pytest.raises(SettingsError, match=said):
        surface_atlases(texts, standard_meshes(['fsaverage5']))
