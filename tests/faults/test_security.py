"""What SECURITY.md promises about files of strangers."""

import ast
import struct
from pathlib import Path

import pytest

import bids_app
from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.input.files import MAX_VOXELS, read_header
from bids_app.errors import AppError
from bids_app.settings import RunSettings, Settings
from tests.e2e import support

SOURCES = sorted(Path(bids_app.__file__).parent.rglob('*.py'))
FORBIDDEN = {'eval', 'exec', 'pickle', 'marshal', 'shelve', 'dill', 'joblib', 'cloudpickle',
             'load_module', 'unsafe_load', 'full_load', 'popen'}  # fmt: skip


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.stem)
def test_nothing_that_executes_data_is_in_the_source(path):
    tree = ast.parse(path.read_text('utf-8'))
    for node in ast.walk(tree):
        names = {getattr(node, 'attr', None), getattr(node, 'id', None)}
        names |= {alias.name.partition('.')[0] for alias in getattr(node, 'names', ())
                  if isinstance(alias, ast.alias)}  # fmt: skip
        assert not names & FORBIDDEN, f'{path.name}, line {node.lineno}'
        if isinstance(node, ast.keyword):
            given = getattr(node.value, 'value', None)
            assert (node.arg, given) not in {('shell', True), ('allow_pickle', True)}


def collect(root):
    run = RunSettings(bids_dir=root, output_dir=root.parent / 'out', level='participant')
    info = read_dataset(run)
    plan = check_dataset(info, run, Settings())
    (unit,) = collect_participant(info, '01', run=run, settings=Settings(), plan=plan)
    return unit


@pytest.fixture
def dataset(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese', 'asl')
    return root


def move_out(path, target):
    """Put a link in the place of a file or folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)
    return path


def notes_on_links(dataset):
    return [note for note in collect(dataset).notes if 'leads out' in note]


@pytest.mark.parametrize(
    'name', ['anat/*_echo-1_MESE.nii.gz', 'anat/*_echo-1_MESE.json',
             'perf/*control_aslcontext.tsv', 'perf/*control_m0scan.nii.gz'],
)  # fmt: skip
def test_link_that_leaves_the_dataset_is_said_and_one_that_stays_is_not(dataset, tmp_path, name):
    path = next((dataset / 'sub-01').glob(name))
    inside = next((dataset / 'sub-01').glob('anat/*_echo-2_MESE.nii.gz'))
    move_out(inside, dataset / '.git' / 'annex' / 'x.nii.gz')
    assert notes_on_links(dataset) == []
    target = tmp_path / 'elsewhere' / path.name
    move_out(path, target)
    assert notes_on_links(dataset) == [
        f'{path.name} is a link that leads out of the dataset: {target}'
    ]


def test_participant_whose_folder_is_elsewhere_is_said_once(dataset, tmp_path):
    move_out(dataset / 'sub-01', tmp_path / 'elsewhere' / 'sub-01')
    (note,) = notes_on_links(dataset)
    assert str(tmp_path / 'elsewhere') in note
    assert 'more files' in note


@pytest.mark.parametrize('target', ['../../../secret.nii.gz', '/etc/passwd', 'bids::../../x'])
def test_intended_for_opens_nothing(dataset, target):
    before = collect(dataset).files
    for path in (dataset / 'sub-01' / 'perf').glob('*_m0scan.json'):
        support.edit_json(path, lambda content: content.update(IntendedFor=target))
    assert set(collect(dataset).files) <= set(before)


def test_header_that_claims_more_than_there_can_be_is_refused_at_once(dataset):
    path = next((dataset / 'sub-01' / 'anat').glob('*_MESE.nii.gz')).with_suffix('')
    header = bytearray(352)
    struct.pack_into('<i', header, 0, 348)
    struct.pack_into('<8h', header, 40, 4, 32767, 32767, 32767, 32767, 1, 1, 1)
    struct.pack_into('<2h', header, 70, 16, 32)
    struct.pack_into('<f', header, 108, 352.0)
    header[344:348] = b'n+1\0'
    path.write_bytes(header)
    assert MAX_VOXELS < 32767**4
    with pytest.raises(AppError, match='claims'):
        read_header(path)


def test_condition_names_of_a_stranger_are_text_in_the_report(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese', 'bold')
    for path in folder.glob('func/*_events.tsv'):
        path.write_text(path.read_text().replace('calc', '<script>alert(1)</script>'))
    support.edit_json(root / 'dataset_description.json', lambda c: c.update(Name='<b>x</b>'))
    support.run_app(root, tmp_path / 'out', 'participant', *support.HEADER, '--ignore', 'bold')
    pages = [path.read_text() for path in (tmp_path / 'out').glob('*.html')]
    assert pages
    assert not any('<script>alert' in page or '<b>x</b>' in page for page in pages)
