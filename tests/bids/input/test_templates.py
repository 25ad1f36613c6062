"""Templates beside the packaged one."""

import sys
from types import SimpleNamespace

import pytest

from bids_app.bids.input.templates import other_templates
from bids_app.errors import SettingsError


def add(folder, name, *middles):
    """Make files that stand for a template."""
    folder.mkdir(exist_ok=True)
    for middle in middles:
        for kind in ('T1w', 'desc-brain_mask'):
            (folder / f'tpl-{name}{middle}_{kind}.nii.gz').write_text('any')
    return f'{name}={folder}'


@pytest.mark.parametrize(
    ('middles', 'chosen'),
    [(('',), ''), (('_res-01', '_res-02'), '_res-02'), (('', '_res-2'), '_res-2')],
)
def test_a_folder_gives_the_pair_of_2_mm_or_the_only_one(middles, chosen, tmp_path):
    (found,) = other_templates(['MNI152NLin6Asym', add(tmp_path / 't', 'Old', *middles)])
    assert found.space == 'Old'
    assert found.t1w.name == f'tpl-Old{chosen}_T1w.nii.gz'
    assert found.mask.name == f'tpl-Old{chosen}_desc-brain_mask.nii.gz'


def test_an_image_without_its_mask_or_of_another_kind_is_no_template(tmp_path):
    item = add(tmp_path, 'Old', '_res-01', '_res-03')
    with pytest.raises(SettingsError, match=r'found tpl-Old_res-01_T1w\.nii\.gz, tpl-Old_res-03'):
        other_templates([item])
    for path in tmp_path.glob('*_desc-brain_mask.nii.gz'):
        path.unlink()
    with pytest.raises(SettingsError, match=r'expected tpl-Old_T1w\.nii\.gz and .* found none'):
        other_templates([item])


@pytest.mark.parametrize(
    ('spaces', 'said'),
    [
        (['none', 'MNI152NLin6Asym'], 'none alone'),
        (['a_b=x'], 'letters and digits'),
        (['MNI152NLin6Asym=x'], 'packaged'),
        (['Old=absent'], 'found none'),
        (['Old'], 'TemplateFlow is not installed; .* Old=FOLDER'),
    ],
)
def test_other_ways_to_name_a_space_are_refused(spaces, said, monkeypatch):
    monkeypatch.setitem(sys.modules, 'templateflow', None)
    with pytest.raises(SettingsError, match=said):
        other_templates(spaces)


def test_the_same_name_twice_is_refused(tmp_path):
    item = add(tmp_path, 'Old', '')
    with pytest.raises(SettingsError, match='twice'):
        other_templates([item, item])


def test_templateflow_is_asked_for_head_and_brain_of_2_mm(monkeypatch, tmp_path):
    add(tmp_path, 'Old', '_res-02')

    def get(template, *, resolution, extension, suffix, desc):
        assert (resolution, extension) == (2, '.nii.gz')
        if template != 'Old':
            return []
        middle = f'desc-{desc}_' if desc else ''
        return tmp_path / f'tpl-Old_res-02_{middle}{suffix}.nii.gz'

    monkeypatch.setitem(sys.modules, 'templateflow', SimpleNamespace(api=SimpleNamespace(get=get)))
    (found,) = other_templates(['Old'])
    assert found.mask == tmp_path / 'tpl-Old_res-02_desc-brain_mask.nii.gz'
    with pytest.raises(SettingsError, match='one T1w image and one brain mask of 2 mm'):
        other_templates(['New'])
