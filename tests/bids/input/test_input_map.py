"""Role maps: their format, what each quirk of an untidy dataset becomes, what is left unused."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.input.external_maps import list_maps
from bids_app.bids.input.input_map import (
    choose_role_map,
    content_key,
    content_size,
    list_roles,
    load_role_map,
    roles_table,
    summarise,
    walk_tree,
)
from bids_app.bids.input.query import assign_roles
from bids_app.errors import SelectionError, SettingsError
from bids_app.settings import RunSettings, resolve
from tests.paths import SKELETON

KEY = '.git/annex/objects/aa/bb/SHA256E-s{size}--{hash}.nii.gz/SHA256E-s{size}--{hash}.nii.gz'


# ---------------------------------------------------------------------------- small made-up trees


class Tree:
    """A made-up dataset in the layout of ds004873."""

    def __init__(self, dataset):
        self.dataset, self.root = dataset, dataset.root
        # a participant whose files make the signature, so that the tree is recognised
        self.gradient_echoes('p001', 'control')

    def gradient_echoes(
        self, sub, task, *, acq='fullres', te=0.005, parts=('', 'real_', 'imaginary_')
    ):
        for part in parts:
            for echo in range(1, 4):
                name = f'sub-{sub}_echo-{echo:02d}_{part}task-{task}_acq-{acq}_MEGRE'
                metadata = {'EchoTime': te + 0.005 * (echo - 1), 'RepetitionTime': 2.2}
                self.image(f'derivatives/sub-{sub}/anat/{name}.nii.gz', metadata)

    def asl(self, sub, task, *, folder='qmri', extension='.nii.gz', metadata=None, data=None):
        stem = f'derivatives/sub-{sub}/{folder}/sub-{sub}_task-{task}_acq-'
        for kind, n_volumes in (('epi', 6), ('pd', 1)):
            sidecar = {'EchoTime': 0.011, 'RepetitionTime': 4.5, **(metadata or {})}
            shape = (3, 3, 2, n_volumes)
            self.image(f'{stem}{kind}_asl{extension}', sidecar, shape=shape, data=data)

    def bold(self, sub='p001', *, events='func/', table=None, task='all'):
        metadata = {'RepetitionTime': 1.2, 'EchoTime': 0.03}
        name = f'sub-{sub}/func/sub-{sub}_task-{task}_bold.nii.gz'
        self.image(name, metadata, shape=(3, 3, 2, 200))
        rows = 'onset\tduration\ttrial_type\n30\t30\tcalc\n90\t30\tcalc'
        self.dataset.text(f'sub-{sub}/{events}sub-{sub}_task-{task}_events.tsv', table or rows)

    def image(self, name, metadata=None, *, shape=(3, 3, 2), data=None):
        self.dataset.image(name, shape=shape, data=data)
        if metadata is not None:
            self.dataset.json(f'{name.removesuffix(".gz").removesuffix(".nii")}.json', metadata)

    def link(self, name, *, size=1000, content='ab' * 32):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(KEY.format(size=size, hash=content))
        return path

    def unit(self, sub='p001', **options):
        run = RunSettings(
            bids_dir=self.root,
            output_dir=self.root / 'derivatives' / 'oxybold',
            level='participant',
            **options,
        )
        settings = resolve(preset='epp2025')
        info = read_dataset(run, settings.preset)
        (unit,) = collect_participant(
            info, sub, run, settings, plan=check_dataset(info, run, settings)
        )
        return unit


@pytest.fixture
def tree(dataset):
    return Tree(dataset)


def texts(unit):
    return ' | '.join(problem.message for problem in unit.problems)


def test_preset_uses_the_map_where_the_layout_is_that_of_ds004873(tree, dataset):
    assert choose_role_map(None, 'epp2025', tree.root).name == 'ds004873'
    assert choose_role_map(None, 'recommended', tree.root) is None
    for path in (tree.root / 'derivatives').rglob('*'):
        if path.is_file():
            path.unlink()
    assert choose_role_map(None, 'epp2025', tree.root) is None


def test_raw_data_below_derivatives_and_loose_part_words_are_found(tree):
    tree.gradient_echoes('p001', 'calc')
    tree.gradient_echoes('p001', 'calc', acq='MoCoHR', te=0.006)
    unit = tree.unit()
    assert {series.condition for series in unit.megre} == {'control', 'calc'}
    calc = next(series for series in unit.megre if series.condition == 'calc')
    assert [len(part) for part in (calc.magnitude, calc.real, calc.imaginary)] == [3, 3, 3]
    assert all('_real_' in path.name for path in calc.real)
    # the second grid of echo times is that of the reduced set, with its own lines
    assert calc.reduced[0].echo_times == pytest.approx((0.006, 0.011, 0.016))
    assert not unit.problems


def test_what_sidecars_lack_comes_from_the_map_with_its_source(tree):
    tree.asl('p001', 'control')
    unit = tree.unit()
    assert unit.asl[0].label_type == 'PCASL'
    assert set(unit.asl[0].post_label_delay) == {1.8}
    assert unit.asl[0].context == ('control', 'label') * 3
    assert unit.asl[0].m0.file.name == 'sub-p001_task-control_acq-pd_asl.nii.gz'
    origins = {value.name: value.origin for value in unit.values}
    assert 'protocol name pCASL2DEPI_PLD1800' in origins['perfusion.post_label_delay']
    assert unit.b0 == 3.0
    assert unit.megre[0].slice_thickness == pytest.approx(3e-3)


def test_a_sidecar_wins_over_the_map_and_the_overrides_file_over_both(tree, tmp_path):
    tree.asl('p001', 'control', metadata={'PostLabelingDelay': 1.5})
    unit = tree.unit()
    assert set(unit.asl[0].post_label_delay) == {1.5}
    assert any('= 1.5 of the sidecar is used; the input map says 1.8' in n for n in unit.notes)
    file = tmp_path / 'overrides.toml'
    file.write_text('[[override]]\nmatch={role="asl"}\nset={PostLabelingDelay=1.6}\nsource="log"')
    unit = tree.unit(metadata_overrides=file)
    assert set(unit.asl[0].post_label_delay) == {1.6}
    assert any(
        'PostLabelingDelay = 1.6 of the overrides file is used (log), not 1.5' in n
        for n in unit.notes
    )


def test_perfusion_is_found_in_either_folder_and_either_format(tree):
    tree.asl('p001', 'control', folder='qmri')
    tree.asl('p001', 'calc', folder='perf', extension='.nii')
    found = {series.condition: series.file for series in tree.unit().asl}
    assert found['control'].parent.name == 'qmri'
    assert found['calc'].name.endswith('_asl.nii')


def test_of_identical_copies_the_first_is_used_and_an_empty_sidecar_beside_the_other_is_harmless(
    tree,
):
    tree.asl('p001', 'control', folder='qmri')
    for path in (tree.root / 'derivatives/sub-p001/qmri').glob('*_asl.nii.gz'):
        tree.dataset.text(f'derivatives/sub-p001/perf/{path.name}', '')
        (tree.root / f'derivatives/sub-p001/perf/{path.name}').write_bytes(path.read_bytes())
    tree.dataset.text('derivatives/sub-p001/perf/sub-p001_task-control_acq-epi_asl.json', '')
    unit = tree.unit()
    assert unit.asl[0].file.parent.name == 'qmri'
    assert not unit.problems
    assert any(
        'perf/sub-p001_task-control_acq-epi_asl.nii.gz is a copy of' in n for n in unit.notes
    )


def test_two_different_files_for_one_role_are_an_error_that_names_both(tree):
    tree.asl('p001', 'control', folder='qmri')
    tree.asl('p001', 'control', folder='perf', extension='.nii')
    unit = tree.unit()
    assert 'qmri/sub-p001_task-control_acq-epi_asl.nii.gz' in texts(unit)
    assert 'perf/sub-p001_task-control_acq-epi_asl.nii differ' in texts(unit)
    assert not unit.asl


def test_empty_sidecar_of_a_used_file_is_named(tree):
    tree.asl('p001', 'control')
    tree.dataset.text('derivatives/sub-p001/qmri/sub-p001_task-control_acq-epi_asl.json', '')
    assert 'sub-p001_task-control_acq-epi_asl.json is empty' in texts(tree.unit())


def test_events_outside_func_belong_to_their_run(tree):
    tree.bold(events='')
    unit = tree.unit()
    assert unit.bold[0].events_file.parent.name == 'sub-p001'
    assert [event.trial_type for event in unit.bold[0].events] == ['calc', 'calc']
    assert unit.baseline == 'control'


def test_tables_with_carriage_returns_and_without_final_newline_are_read(tree):
    tree.bold(table='onset\tduration\ttrial_type\r\n30\t30\tcalc\r\n90\t30\tcalc')
    assert [event.onset for event in tree.unit().bold[0].events] == [30.0, 90.0]


def test_sidecars_with_tabs_are_read(tree):
    path = 'derivatives/sub-p001/anat/sub-p001_echo-01_task-control_acq-fullres_MEGRE.json'
    tree.dataset.text(path, '{\r\n\t"EchoTime":\t0.005,\r\n\t"RepetitionTime": 2.2\r\n}\r\n')
    assert tree.unit().megre[0].echo_times[0] == 0.005


def test_text_file_named_as_an_image_is_a_problem_of_its_role_only(tree):
    tree.asl('p001', 'control')
    name = 'derivatives/sub-p001/qmri/sub-p001_task-control_acq-epi_asl.nii.gz'
    (tree.root / name).write_text('0.9 0 0 1\n0 0.9 0 2\n0 0 1 3\n0 0 0 1\n')
    unit = tree.unit()
    assert 'cannot be read as a NIfTI image' in texts(unit)
    assert not unit.asl
    assert unit.megre


def test_file_that_looks_like_a_participant_folder_is_no_participant(tree):
    tree.dataset.text('derivatives/sub-yv98_ses-4088+4137_QSM.nii.gz', 'x')
    tree.dataset.text('derivatives/sub-p001/func/sub-p001task-all_desc-preproc_bold.nii.gz', 'x')
    listing = list_roles(load_role_map('ds004873'), tree.root)
    assert set(listing.found) == {'p001'}
    assert [Path(path).name for path in listing.unused] == [
        'sub-p001task-all_desc-preproc_bold.nii.gz',
        'sub-yv98_ses-4088+4137_QSM.nii.gz',
    ]


def test_participants_may_lack_modalities_and_blood_values(tree):
    tree.image('sub-p002/func/sub-p002_task-all_bold.nii.gz', {'RepetitionTime': 1.2})
    tree.dataset.text(
        'participants.tsv',
        'participant_id\tHct\tO2sat\tcomments\nsub-p001\t40.2\t97\t\nsub-p002\t\t\t  EXCLUDED\n',
    )
    unit, other = tree.unit('p001'), tree.unit('p002')
    assert (unit.hct, unit.sao2) == (0.402, 0.97)
    assert (other.hct, other.sao2) == (0.42, 0.98)
    assert not other.problems
    assert any('no MEGRE' in note for note in other.notes)


def test_participants_may_differ_in_slices_and_tasks(tree):
    tree.bold('dp1', task='localizer')
    tree.bold('dp1', task='longblock')
    for sub, n_slices in (('p001', 30), ('p002', 35)):
        for echo in (1, 2, 3):
            name = f'sub-{sub}/anat/sub-{sub}_echo-0{echo}_MESE.nii.gz'
            metadata = {'EchoTime': 0.016 * echo, 'RepetitionTime': 0.25}
            tree.image(name, metadata, shape=(3, 3, n_slices))
    assert len(tree.unit('p001').mese[0].files) == len(tree.unit('p002').mese[0].files) == 3
    assert {run.task for run in tree.unit('dp1').bold} == {'localizer', 'longblock'}


def test_links_without_content_name_the_command_that_fetches(tree):
    for echo in (1, 2, 3):
        tree.link(f'sub-p001/anat/sub-p001_echo-0{echo}_MESE.nii.gz')
    unit = tree.unit()
    command = f'run: datalad get {tree.root}/sub-p001/anat/sub-p001_echo-*_MESE.nii.gz'
    assert '3 of 3 files of sub-p001_echo-01_MESE.nii.gz are not fetched' in texts(unit)
    assert command in texts(unit)
    assert unit.megre


def test_content_of_links_is_known_without_fetching(tree):
    one, same = tree.link('a.nii.gz'), tree.link('b.nii.gz')
    other = tree.link('c.nii.gz', size=77, content='cd' * 32)
    assert content_key(one) == content_key(same) != content_key(other)
    assert content_size(other) == 77
    (tree.root / 'd.nii').write_bytes(b'1234')
    assert content_size(tree.root / 'd.nii') == 4
    assert content_size(tree.root / 'no.nii') is None


def test_volumes_that_the_repeated_types_cannot_fill_are_an_error(tree):
    stem = 'derivatives/sub-p001/qmri/sub-p001_task-control_acq-'
    tree.image(f'{stem}epi_asl.nii.gz', {'EchoTime': 0.011}, shape=(3, 3, 2, 7))
    assert 'has 7 volumes, which is no multiple of 2 (control, label' in texts(tree.unit())


def test_output_inside_the_dataset_and_dot_folders_are_not_listed(tree):
    tree.dataset.text('.git/annex/x', '')
    tree.dataset.text('derivatives/oxybold/sub-p001/x.nii.gz', '')
    everything = walk_tree(tree.root, skip=tree.root / 'derivatives' / 'oxybold')
    assert not [path for path in everything if path.startswith(('.', 'derivatives/oxybold'))]


def test_table_of_roles_joins_echoes_and_names_what_a_file_says(tree):
    listing = list_roles(load_role_map('ds004873'), tree.root)
    assert roles_table(listing.found['p001'], tree.root)[0] == (
        'megre_mag',
        'task-control acq-fullres',
        'derivatives/sub-p001/anat/sub-p001_echo-*_task-control_acq-fullres_MEGRE.nii.gz',
        3,
    )


# ---------------------------------------------------------------------------------------- format


def write_map(dataset, text):
    return str(dataset.text('map.toml', text))


def test_all_pieces_of_a_pattern(dataset, collect):
    for name in ('one_calc.nii', 'one_rest.nii.gz', 'one_mem.nii', 'two_calc.nii'):
        dataset.text(f'data/s7/{name}', 'x')
    file = write_map(
        dataset,
        """
        [[file]]
        role = "bold"
        path = "data/s{sub}/(one|three)_{task:calc|rest}.nii[.gz]"
        entities = { run = 3 }
        """,
    )
    listing = list_roles(load_role_map(file), dataset.root)
    found = {item.get('task'): item for item in listing.found['7']}
    assert set(found) == {'calc', 'rest'}
    assert found['rest'].get('extension') == '.nii.gz'
    assert found['rest'].get('run') == '3'
    assert listing.unused == ('data/s7/one_mem.nii', 'data/s7/two_calc.nii', 'map.toml')


def test_an_entity_that_is_repeated_is_the_same_everywhere(dataset):
    dataset.text('a/sub-1/sub-2_bold.nii', 'x')
    dataset.text('a/sub-1/sub-1_bold.nii', 'x')
    file = write_map(dataset, '[[file]]\nrole="bold"\npath="a/sub-{sub}/sub-{sub}_bold.nii"\n')
    assert list(list_roles(load_role_map(file), dataset.root).found) == ['1']


def test_pattern_without_match_is_listed_unless_optional(dataset):
    dataset.text('1_T1w.nii', 'x')
    file = write_map(
        dataset,
        """
        [[file]]
        role = "t1w"
        path = "{sub}_T1w.nii"
        [[file]]
        role = "dsc"
        path = "{sub}_dsc.nii"
        [[file]]
        role = "asl"
        path = "{sub}_asl.nii"
        optional = true
        """,
    )
    assert list_roles(load_role_map(file), dataset.root).unmatched == ('{sub}_dsc.nii',)


def test_map_that_finds_nothing_is_refused(dataset):
    file = write_map(dataset, '[[file]]\nrole="t1w"\npath="x/{sub}_T1w.nii"\n')
    with pytest.raises(SelectionError, match=r'no pattern finds a file .* x/\{sub\}_T1w.nii'):
        list_roles(load_role_map(file), dataset.root)


GOOD = '[[file]]\nrole="t1w"\npath="{sub}_T1w.nii"\n'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('role=', 'neither a packaged map'),
        ('title="x"', r'expected \[\[file\]\] entries'),
        (f'files=1\n{GOOD}', 'did you mean file'),
        ('[[file]]\nrole="t1"\npath="{sub}.nii"', 'did you mean t1w'),
        ('[[file]]\nrole="t1w"', 'expected role = "..." and path'),
        ('[[file]]\nrole="t1w"\npath="{subject}_T1w.nii"', 'did you mean sub'),
        ('[[file]]\nrole="t1w"\npath="T1w.nii"', r'needs \{sub\}'),
        ('[[file]]\nrole="t1w"\npath="{sub}_[x.nii"', r'needs \{sub\}'),
        ('[[file]]\nrole="t1w"\npath="{sub}_T1w.json"', 'such a file ends in'),
        (f'{GOOD}volume_types=["tag"]', 'unknown name .tag.'),
        (f'{GOOD}entities={{tas="x"}}', 'did you mean task'),
        (f'{GOOD}[participants]\nunits={{Hct="per mille"}}', 'unknown name .per mille.'),
        (f'{GOOD}[[default]]\nmatch={{role="asl"}}\nset={{EchoTime=1}}', 'source = '),
        (
            f'{GOOD}[[default]]\nmatch={{role="asl"}}\nset={{EchoTim=1}}\nsource="x"',
            'did you mean EchoTime',
        ),
    ],
)
def test_mistakes_in_a_map_are_named(dataset, text, message):
    with pytest.raises(SettingsError, match=message):
        load_role_map(write_map(dataset, text))


def test_unknown_name_of_a_map_lists_the_packaged_ones():
    with pytest.raises(SettingsError, match=r'packaged map .ds004873.'):
        load_role_map('ds00487')


def test_paths_are_shortened_for_the_list_of_unused_files():
    paths = [f'sub-{s}/x_echo-{e}.nii' for s in (1, 2) for e in (1, 2)]
    assert summarise([*paths, 'README.txt']) == [('README.txt', 1), ('sub-*/x_echo-*.nii', 4)]


# --------------------------------------------------------------------------- the complete tree


@pytest.fixture(scope='module')
def skeleton(tmp_path_factory):
    if not SKELETON.is_file():
        pytest.skip('the tree of ds004873 is not here')
    root = tmp_path_factory.mktemp('ds004873')
    with tarfile.open(SKELETON) as archive:
        archive.extractall(root, filter='fully_trusted')
    return root


@pytest.fixture(scope='module')
def listing(skeleton):
    return list_roles(load_role_map('ds004873'), skeleton)


def groups(listing, role, **wanted):
    """Number of files and participants of a role per study."""
    files, people = Counter(), {}
    for label, found in listing.found.items():
        study = label.rstrip('0123456789')
        for item in assign_roles(found)[role]:
            if all(item.get(key) == value for key, value in wanted.items()):
                files[study] += 1
                people.setdefault(study, set()).add(label)
    return dict(files), {study: len(labels) for study, labels in people.items()}


def test_every_participant_of_the_tree_is_found(listing):
    assert len(listing.found) == 75
    assert Counter(label.rstrip('0123456789') for label in listing.found) == {
        'p': 47,
        'dp': 18,
        'r': 10,
    }
    assert not listing.problems
    assert not listing.unmatched


@pytest.mark.parametrize(
    ('role', 'wanted', 'expected'),
    [
        ('t1w', {}, {'p': 46, 'r': 10, 'dp': 18}),
        ('mese', {}, {'p': 46 * 8, 'r': 10 * 8}),
        *(
            (role, {'acquisition': acq}, {'p': p // 3, 'r': r // 3})
            for role in ('megre_mag', 'megre_real', 'megre_imag')
            for acq, p, r in (
                ('fullres', 5040, 612),
                ('MoCoHR', 4968, 612),
                ('MoCoQR', 5004, 576),
            )
        ),
        ('asl', {'task': 'control'}, {'p': 39, 'r': 9}),
        ('asl', {'task': 'calc'}, {'p': 39, 'r': 9}),
        ('m0', {'task': 'control'}, {'p': 36}),
        ('m0', {'task': 'calc'}, {'p': 35}),
        ('dsc', {'task': 'control'}, {'p': 40}),
        ('dsc', {'task': 'calc'}, {'p': 10}),
        ('bold', {}, {'p': 47, 'r': 10, 'dp': 35}),
        ('events', {}, {'p': 40, 'r': 10, 'dp': 35}),
    ],
)
def test_counts_of_the_tree(listing, role, wanted, expected):
    assert groups(listing, role, **wanted)[0] == expected


def test_each_participant_of_the_tree_has_the_scans_of_its_study(listing):
    n30 = {'rest', 'control', 'mem', 'calc'}
    lacking = {
        'p030': ('mem', 'MoCoHR'),
        'p031': ('rest', 'MoCoHR'),
        'r074': ('control', 'MoCoQR'),
    }
    for label, found in listing.found.items():
        tasks = {item.get('task') for item in assign_roles(found)['megre_mag']}
        if label.startswith('dp') or label in {'p022', 'p024', 'p025', 'p042', 'p053', 'p056',
                                               'p062', 'r076'}:  # fmt: skip
            assert not tasks
        elif label.startswith('p') and int(label[1:]) < 56:
            assert tasks == n30
        else:
            assert tasks == ({'control'} if label == 'r079' else {'control', 'calc'})
        sets = {(item.get('task'), item.get('acquisition')) for item in found if item.get('echo')}
        if label in lacking:
            assert lacking[label] not in sets


def test_copies_and_misplaced_files_of_the_tree_are_noted(listing, skeleton):
    assert set(listing.notes) == {'p026', 'p027'}
    (asl,) = [
        item for item in assign_roles(listing.found['p049'])['asl'] if item.get('task') == 'calc'
    ]
    assert asl.path.relative_to(skeleton).as_posix() == (
        'derivatives/sub-p049/perf/sub-p049_task-calc_acq-epi_asl.nii'
    )
    (bold,) = assign_roles(listing.found['p028'])['bold']
    assert bold.companions['events'][0].parent == skeleton / 'sub-p028'
    assert not assign_roles(listing.found['p020'])['asl']


def test_participants_of_the_tree_say_what_to_fetch(skeleton, tmp_path):
    run = RunSettings(bids_dir=skeleton, output_dir=tmp_path / 'out', level='participant')
    settings = resolve(preset='epp2025')
    info = read_dataset(run, settings.preset)
    plan = check_dataset(info, run, settings)
    assert {contrast.label for contrast in plan.contrasts} == {
        'calcMinusControl',
        'memMinusControl',
        'restMinusControl',
    }
    (suspect,) = info.suspects.pop('p031')
    assert (suspect.kind, suspect.condition) == ('copy', 'rest')
    assert not info.suspects
    blood = {}
    for label in ('p026', 'p058', 'p042', 'dp021', 'r070'):
        (unit,) = collect_participant(info, label, run, settings, plan=plan)
        lost = [problem.message for problem in unit.problems]
        assert any('run: datalad get' in message for message in lost) == (label != 'p042')
        assert all('not fetched' in message or 'no m0scan' in message for message in lost)
        blood[label] = (unit.hct, unit.sao2)
    assert blood['p042'] == (0.42, 0.99)
    assert blood['r070'] == (0.42, 0.98)
    assert blood['p058'] == (info.blood.hct['p058'], 0.98)


def test_shared_maps_of_the_tree_are_those_of_the_critique(skeleton):
    maps = list_maps(load_role_map('ds004873'), skeleton)
    assert len(maps.participants) == 40
    have = {(file.pattern.quantity, file.condition): set() for file in maps.maps}
    for file in maps.maps:
        have[file.pattern.quantity, file.condition].add(file.participant)
    both = have['cmro2', 'calc'] & have['cmro2', 'control'] & have['boldPct', None]
    assert set(maps.participants) - both == {'p020', 'p067'}
    transform = maps.steps['T2'].transform
    assert [label for label in both if maps.find(transform, label) is None] == ['p029']
