"""Which file plays which part; the providers agree."""

from pathlib import Path

import pytest

from bids_app.bids.input.inventory import take_inventory
from bids_app.bids.input.query import (
    Found,
    assign_roles,
    find_anatomy,
    labelled_folders,
    load_roles,
    parse_name,
)
from bids_app.errors import SettingsError


def found(*names):
    paths = [Path('sub-01') / name for name in names]
    return [Found(path=path, entities=parse_name(path)) for path in paths]


def test_table_of_roles_has_the_documented_keys_and_known_fields():
    roles = load_roles()
    assert set(roles) >= {
        't1w', 'mese', 'megre_mag', 'megre_phase', 'megre_real', 'megre_imag', 'ase', 'asl',
        'aslcontext', 'm0', 'physio', 'dsc', 'bold', 'events', 'fieldmaps',
    }  # fmt: skip
    for role in roles.values():
        assert role.description.endswith('.')
        assert role.suffix
        assert all(extension.startswith('.') for extension in role.extension)


def test_parts_of_a_gradient_echo_are_never_taken_for_magnitude():
    files = assign_roles(
        found(*(f'anat/sub-01_echo-1{part}_MEGRE.nii.gz'
                for part in ('', '_part-mag', '_part-phase', '_part-real', '_part-imag')))
    )  # fmt: skip
    assert [item.get('part') for item in files['megre_mag']] == [None, 'mag']
    for part in ('phase', 'real', 'imag'):
        assert [item.get('part') for item in files[f'megre_{part}']] == [part]


def test_files_with_role_names_in_other_folders_or_formats_are_left_out():
    files = assign_roles(found('func/sub-01_T1w.nii.gz', 'anat/sub-01_T1w.json', 'anat/T1w.mgz'))
    assert not any(files.values())


@pytest.mark.parametrize(
    ('query', 'kept'),
    [
        ({'acquisition': 'full'}, ['full']),
        ({'acq': 'full'}, ['full']),
        ({'acquisition': None}, [None]),
        ({'acquisition': '*'}, ['full', 'half']),
        ({'acquisition': [None, 'half']}, [None, 'half']),
        ({'run': 1}, ['half']),
    ],
)
def test_filters_select_by_value_list_absence_and_any(query, kept):
    names = ('sub-01_T1w.nii', 'sub-01_acq-full_T1w.nii', 'sub-01_acq-half_run-01_T1w.nii')
    files = assign_roles(found(*(f'anat/{name}' for name in names)), filters={'t1w': query})
    assert sorted(map(str, (f.get('acquisition') for f in files['t1w']))) == sorted(map(str, kept))


def test_filter_on_an_unknown_role_lists_the_roles():
    with pytest.raises(SettingsError, match=r"'megre'.*megre_mag"):
        assign_roles([], filters={'megre': {}})


@pytest.mark.parametrize(
    ('word', 'roles'),
    [
        ('phase', {'megre_phase'}),
        ('megre', {'megre_mag', 'megre_phase'}),
        ('asl', {'asl', 'aslcontext', 'm0'}),
        ('bold', {'bold', 'events'}),
    ],
)
def test_ignored_modalities_have_no_files(word, roles, dataset):
    dataset.add('anat/task-a_MEGRE[phase]', 'perf/asl', 'func/task-x_bold[a]')
    listed = take_inventory(dataset.root).files('01')
    before, after = assign_roles(listed), assign_roles(listed, ignore=(word,))
    assert {name for name in before if before[name] and not after[name]} == roles


def test_pybids_finds_the_same_files(dataset):
    """The listing is our own, for a cohort on a shared disk; the library is what it is held to."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE', 'ses-b/perf/acq-x_asl', 'ses-b/perf/dsc')
    dataset.add('anat/T1w', sub='011')
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
    layout = BIDSLayout(dataset.root, validate=False, indexer=indexer)
    listed = {Path(name).resolve() for name in layout.get(subject='01', return_type='file')}
    assert {found.path.resolve() for found in take_inventory(dataset.root).files('01')} == listed


def test_only_files_of_the_participant_are_listed(dataset):
    dataset.add('ses-a/anat/T1w', 'ses-a/anat/MESE', 'ses-b/perf/acq-x_asl', 'ses-b/perf/dsc')
    dataset.add('anat/T1w', sub='011')
    dataset.text('sub-01_stray.json', '')
    listed = take_inventory(dataset.root).files('01')
    assert {item.get('subject') for item in listed} == {'01'}
    assert {item.get('session') for item in listed} == {'a', 'b'}
    assert {item.get('datatype') for item in listed} == {'anat', 'perf'}


def test_links_to_folders_around_are_not_followed_and_others_are(dataset):
    dataset.add('anat/T1w')
    folder = dataset.root / 'sub-01'
    for name, target in {'ses-a': '.', 'ses-b': '..', 'ses-c': '/', 'ses-d': 'ses-d'}.items():
        (folder / name).symlink_to(target)
    dataset.image('elsewhere/sub-01_ses-e_T2w.nii.gz')
    (folder / 'ses-e').mkdir()
    (folder / 'ses-e' / 'anat').symlink_to(dataset.root / 'elsewhere')
    (dataset.root / 'sub-02').symlink_to('.')
    assert labelled_folders(dataset.root, 'sub-') == (['01'], [])
    files = take_inventory(dataset.root).files('01')
    assert {item.get('session') for item in files} == {None, 'e'}


def test_derivatives_sourcedata_and_hidden_folders_are_never_searched(dataset):
    dataset.add('anat/T1w')
    for folder in ('derivatives/x', 'sourcedata', 'code', '.git', 'derivatives'):
        dataset.image(f'{folder}/sub-01/anat/sub-01_MESE.nii.gz')
    dataset.text('sub-01/anat/._sub-01_MESE.nii.gz', 'fork')
    assert [f.path.name for f in take_inventory(dataset.root).files('01')] == [
        'sub-01_T1w.json', 'sub-01_T1w.nii.gz',
    ]  # fmt: skip


def test_empty_and_broken_json_do_not_stop_the_query(dataset):
    dataset.add('anat/T1w')
    dataset.text('sub-01/anat/sub-01_T1w.json', '')
    dataset.text('task-all_bold.json', '{broken')
    assert len(take_inventory(dataset.root).files('01')) == 2


FMRIPREP = (
    'desc-preproc_T1w', 'desc-brain_mask', 'label-GM_probseg', 'label-WM_probseg',
    'label-CSF_probseg',
)  # fmt: skip


def test_anatomy_of_fmriprep_is_found_in_t1w_space_only(dataset):
    for name in FMRIPREP:
        dataset.image(f'd/sub-01/anat/sub-01_{name}.nii.gz')
        dataset.image(f'd/sub-01/anat/sub-01_space-MNI152NLin6Asym_{name}.nii.gz')
    stem = 'd/sub-01/anat/sub-01_from-T1w_to-MNI152NLin6Asym_mode-image_xfm'
    dataset.text(f'{stem}.txt', '')
    anatomy = find_anatomy('fmriprep', dataset.root / 'd', '01', None)
    assert anatomy.source == 'fmriprep'
    assert '_space-' not in ''.join(map(str, (anatomy.t1w, anatomy.brain_mask, anatomy.csf)))
    assert anatomy.to_template.name.endswith('from-T1w_to-MNI152NLin6Asym_mode-image_xfm.txt')
    assert anatomy.from_template is None


def test_anatomy_of_the_session_is_preferred_and_half_an_anatomy_is_none(dataset):
    for name in FMRIPREP:
        dataset.image(f'd/sub-01/anat/sub-01_{name}.nii.gz')
        dataset.image(f'd/sub-01/ses-b/anat/sub-01_ses-b_{name}.nii.gz')
    assert 'ses-b' in str(find_anatomy('f', dataset.root / 'd', '01', 'b').t1w)
    assert 'ses-' not in str(find_anatomy('f', dataset.root / 'd', '01', 'a').t1w)
    dataset.find('sub-01_label-CSF_probseg.nii.gz').unlink()
    assert find_anatomy('f', dataset.root / 'd', '01', 'a') == (
        'sub-01/anat has no label-CSF_probseg'
    )


def test_what_an_anatomy_lacks_is_named(dataset):
    root = dataset.root / 'd' / 'fmriprep'
    for name in FMRIPREP[:3]:
        dataset.image(f'd/fmriprep/sub-01/anat/sub-01_{name}.nii.gz')
    assert find_anatomy('f', root, '01') == (
        'sub-01/anat has no label-WM_probseg, label-CSF_probseg'
    )
    assert find_anatomy('f', root.parent, '01') == (
        f'no folder sub-01 in {root.parent}; there is one in {root}'
    )
    assert find_anatomy('f', root, '02') == f'no folder sub-02 in {root}'
    for path in (root / 'sub-01' / 'anat').iterdir():
        path.unlink()
    dataset.image('d/fmriprep/sub-01/anat/sub-01_T1w_preproc.nii.gz')
    assert 'those of fMRIPrep before 1.2' in find_anatomy('f', root, '01')
