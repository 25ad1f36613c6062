"""What is kept of a dataset gives the same plan, and is read anew only where it changed."""

import json
import os

import pytest

from bids_app.bids.input import inventory
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.input.inventory import take_inventory
from bids_app.settings import RunSettings, resolve

SCANS = ('anat/T1w', 'anat/task-calc_MEGRE', 'perf/acq-rest_asl', 'func/task-all_bold[calc,rest]')


@pytest.fixture
def cohort(dataset):
    """Four participants; every change is long ago."""
    for label in ('01', '02', '03', '04'):
        dataset.add(*SCANS, sub=label)
    dataset.add('ses-a/anat/T1w', sub='04')
    settle(dataset)
    return dataset


def settle(dataset):
    """Put all times of change back: a folder that has just changed is not trusted."""
    for path in sorted(dataset.root.rglob('*')):
        about = path.stat()
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - 10**10))


def read(dataset, tmp_path, *labels):
    run = RunSettings(
        bids_dir=dataset.root, output_dir=tmp_path / 'out', level='participant',
        participants=labels,
    )  # fmt: skip
    info = read_dataset(run)
    return info, check_dataset(info, run, resolve(command_line={}))


def keep(info, tmp_path):
    info.inventory.save(tmp_path / 'out' / '.oxybold' / 'inventory.json')


def what_is_known(info, plan):
    return dict(info.found), info.kinds, info.participants, info.notes, dict(info.suspects), plan


def test_a_kept_inventory_gives_the_same_plan_without_reading_again(cohort, tmp_path, monkeypatch):
    new = read(cohort, tmp_path)
    assert new[0].inventory.n_read == 4
    keep(new[0], tmp_path)
    monkeypatch.setattr(inventory, '_make_record', lambda *_: pytest.fail('was read again'))
    kept = read(cohort, tmp_path)
    assert kept[0].inventory.n_read == 0
    assert what_is_known(*kept) == what_is_known(*new)


def test_planning_one_participant_asks_the_folders_of_the_others_only(
    cohort, tmp_path, monkeypatch
):
    for number, path in enumerate(sorted(cohort.root.glob('sub-02/*/*.nii.gz')), start=1):
        path.write_bytes(path.read_bytes() + bytes(number))  # else they are copies of others
    settle(cohort)
    keep(read(cohort, tmp_path)[0], tmp_path)
    asked = []
    stat = os.stat

    def note(path, *arguments, **options):
        asked.append(os.fspath(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, 'stat', note)
    read(cohort, tmp_path, '01')
    others = {path for path in asked if isinstance(path, str) and 'sub-02' in path}
    names = {path.rpartition('/')[2] for path in others}
    assert names == {'sub-02', 'anat', 'perf', 'func', 'sub-02_task-all_events.tsv'}


@pytest.mark.parametrize(
    'change',
    [
        lambda root: (root / 'sub-02' / 'anat' / 'sub-02_acq-x_T1w.nii.gz').write_bytes(b'x'),
        lambda root: next(root.glob('sub-02/perf/*_asl.nii.gz')).unlink(),
        lambda root: (root / 'sub-02' / 'ses-b' / 'anat').mkdir(parents=True),
        lambda root: next(root.glob('sub-02/func/*_events.tsv')).write_text(
            'onset\tduration\ttrial_type\n0\t30\tsing\n'
        ),
    ],
    ids=['file', 'file-gone', 'session', 'events-in-place'],
)
def test_what_changed_is_read_again_and_nothing_else(cohort, tmp_path, change):
    keep(read(cohort, tmp_path)[0], tmp_path)
    change(cohort.root)
    info, plan = read(cohort, tmp_path)
    assert info.inventory.n_read == 1
    (tmp_path / 'out' / '.oxybold' / 'inventory.json').unlink()
    assert what_is_known(info, plan) == what_is_known(*read(cohort, tmp_path))


def test_new_and_removed_participants_are_seen(cohort, tmp_path):
    keep(read(cohort, tmp_path)[0], tmp_path)
    cohort.add(*SCANS, sub='05')
    (cohort.root / 'sub-01').rename(cohort.root.parent / 'away')
    info, _ = read(cohort, tmp_path)
    assert (info.participants, info.inventory.n_read) == (('02', '03', '04', '05'), 1)


def test_folder_that_has_just_changed_is_not_kept(cohort, tmp_path):
    cohort.add('anat/MESE', sub='03')
    keep(read(cohort, tmp_path)[0], tmp_path)
    assert read(cohort, tmp_path)[0].inventory.n_read == 1


@pytest.mark.parametrize(
    'content', ['', '{', '[]', '{"format": 1}', '{"format": 99, "root": "", "rows": {}}']
)
def test_damaged_inventory_is_not_used(cohort, tmp_path, content):
    info, _ = read(cohort, tmp_path)
    keep(info, tmp_path)
    path = tmp_path / 'out' / '.oxybold' / 'inventory.json'
    path.write_text(content)
    assert take_inventory(cohort.root, path).n_read == 4


def test_inventory_of_another_dataset_is_not_used(cohort, tmp_path):
    keep(read(cohort, tmp_path)[0], tmp_path)
    path = tmp_path / 'out' / '.oxybold' / 'inventory.json'
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {'root': '/elsewhere'}))
    assert take_inventory(cohort.root, path).n_read == 4


def test_copies_are_found_for_one_chosen_participant_as_for_all(cohort, tmp_path):
    one = next(cohort.root.glob('sub-01/anat/*_T1w.nii.gz'))
    other = next(cohort.root.glob('sub-03/anat/*_T1w.nii.gz'))
    other.write_bytes(one.read_bytes())
    of_all, _ = read(cohort, tmp_path)
    of_one, _ = read(cohort, tmp_path, '03')
    assert of_all.suspects['03']
    assert of_one.suspects['03'] == of_all.suspects['03']
