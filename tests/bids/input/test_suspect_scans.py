"""Signs that a scan is not what its name says: found where they are, and nowhere else."""

import json

import numpy as np
import pytest

from bids_app.bids.input.dataset import read_dataset
from bids_app.bids.input.suspect_scans import flag_suspicious
from bids_app.settings import RunSettings
from tests.bids.conftest import CONTEXT

PAIR = ('perf/acq-calc_asl', 'perf/acq-control_asl')
FULL = ('anat/task-calc_MEGRE', 'anat/task-control_MEGRE', *PAIR, 'func/task-all_bold[calc]')


def suspects(dataset):
    run = RunSettings(bids_dir=dataset.root, output_dir=dataset.root / 'o', level='participant')
    found = read_dataset(run).suspects
    return {label: [(one.kind, one.role, one.condition) for one in listed]
            for label, listed in found.items()}  # fmt: skip


def distinct(dataset, sub):
    """Make every image of a participant unlike any other."""
    rng = np.random.default_rng(int(sub))
    for path in sorted((dataset.root / f'sub-{sub}').rglob('*.nii.gz')):
        name = path.relative_to(dataset.root).as_posix()
        n_volumes = 6 if 'asl' in name else 200 if 'bold' in name else 0
        shape = (8, 3, 2, n_volumes) if n_volumes else (8, 3, 2)
        dataset.image(name, data=rng.uniform(1, 2, shape).astype(np.float32))


@pytest.fixture
def study(dataset):
    for sub in ('01', '02'):
        dataset.add(*FULL, sub=sub)
        distinct(dataset, sub)
    return dataset


def copy(dataset, source, target):
    dataset.find(target).write_bytes(dataset.find(source).read_bytes())


def test_distinct_scans_are_not_suspected(study, collect):
    assert suspects(study) == {}
    assert not any(flag_suspicious(unit).suspicions for unit in collect(study))


def test_an_m0_that_is_a_copy_is_told_from_its_source_by_the_protocol(study):
    copy(study, 'sub-01_acq-control_m0scan.nii.gz', 'sub-01_acq-calc_m0scan.nii.gz')
    both = {('copy', 'm0', 'calc'), ('copy', 'm0', 'control')}
    assert set(suspects(study)['01']) == both
    for condition in ('calc', 'control'):
        study.edit(f'sub-01_acq-{condition}_m0scan.json', ProtocolName='WIPcontrol_pCASL2D')
    assert suspects(study) == {'01': [('copy', 'm0', 'calc')]}


def test_copies_between_participants_concern_both(study):
    copy(study, 'sub-01_task-calc_echo-2_MEGRE.nii.gz', 'sub-02_task-calc_echo-2_MEGRE.nii.gz')
    assert suspects(study) == {
        '01': [('copy', 'megre_mag', 'calc')],
        '02': [('copy', 'megre_mag', 'calc')],
    }


def test_copies_are_known_from_links_that_are_not_fetched(study):
    for sub in ('01', '02'):
        path = study.find(f'sub-{sub}_acq-calc_asl.nii.gz')
        path.unlink()
        path.symlink_to('.git/annex/objects/SHA256E-s9--' + 'ab' * 32 + '.nii.gz')
    assert set(suspects(study)) == {'01', '02'}


def test_a_run_much_smaller_than_its_peers_is_named_and_another_design_is_no_peer(dataset):
    for sub in range(1, 7):
        dataset.add('func/task-all_bold[calc]', sub=f'{sub:02d}')
        distinct(dataset, f'{sub:02d}')
    rng = np.random.default_rng(1)
    small = rng.uniform(1, 2, (8, 3, 2, 60)).astype(np.float32)
    dataset.image('sub-04/func/sub-04_task-all_bold.nii.gz', data=small)
    assert suspects(dataset) == {'04': [('small-bold', 'bold', None)]}
    dataset.text('sub-04/func/sub-04_task-all_events.tsv',
                 'onset\tduration\ttrial_type\n0\t30\tmem\n')  # fmt: skip
    assert suspects(dataset) == {}


def test_a_run_that_ends_before_its_last_block_is_suspicious(study, collect):
    study.edit('sub-01_task-all_bold.json', RepetitionTime=1.1)
    unit, other = (flag_suspicious(unit) for unit in collect(study))
    assert [one.kind for one in unit.suspicions] == ['short-bold']
    assert 'ends at 220 s, its last block at 240 s' in unit.suspicions[0].reason
    assert any('ends at 220 s' in note for note in unit.notes)
    assert not other.suspicions


def test_flow_in_one_half_of_the_head_is_suspicious(study, collect):
    rng = np.random.default_rng(2)
    data = rng.uniform(99, 101, (8, 3, 2, 6)).astype(np.float32)
    labels = np.array(CONTEXT) == 'label'
    data[:4, ..., labels] -= 10
    study.image('sub-01/perf/sub-01_acq-calc_asl.nii.gz', data=data)
    unit = flag_suspicious(collect(study)[0])
    assert [(one.kind, one.role, one.condition) for one in unit.suspicions] == [
        ('one-sided', 'asl', 'calc')
    ]
    data[4:, ..., labels] -= 8
    study.image('sub-01/perf/sub-01_acq-calc_asl.nii.gz', data=data)
    assert not flag_suspicious(collect(study)[0]).suspicions


def test_echoes_of_one_half_of_the_head_are_suspicious(study, collect):
    data = np.random.default_rng(3).uniform(1, 2, (8, 3, 2)).astype(np.float32)
    data[4:] *= 0.1
    study.image('sub-01/anat/sub-01_task-calc_echo-1_MEGRE.nii.gz', data=data)
    unit = flag_suspicious(collect(study)[0])
    assert [(one.kind, one.condition) for one in unit.suspicions] == [('one-sided', 'calc')]


def test_an_unreadable_sidecar_does_not_hide_a_copy(study):
    copy(study, 'sub-01_acq-control_m0scan.nii.gz', 'sub-01_acq-calc_m0scan.nii.gz')
    study.find('sub-01_acq-calc_m0scan.json').write_text('')
    study.find('sub-01_acq-control_m0scan.json').write_text(json.dumps([]))
    assert len(suspects(study)['01']) == 2
