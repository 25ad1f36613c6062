"""The dry run: finds what can be known before computing, for everyone, and sums it up."""

import gzip
import json

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.files import find_defect
from bids_app.workflows import dry_run as module
from tests.e2e.support import run_app


def dry(dataset, *options):
    return run_app(dataset.root, dataset.root.parent / 'out', 'participant', '--dry-run', *options)


@pytest.fixture
def study(dataset):
    """Three participants: all scans, no gradient echo, T1w only."""
    dataset.add('anat/T1w', 'anat/MESE', 'anat/MEGRE[phase]', 'perf/asl', sub='01')
    dataset.add('anat/T1w', 'anat/MESE', 'perf/asl', sub='02')
    return dataset.add('anat/T1w', sub='03')


def test_the_summary_counts_participants_per_map_and_the_reasons(study):
    text = dry(study).out
    summary = text[text.index('summary of 3 participant(s)') :].splitlines()
    counts = dict(line.split(maxsplit=1) for line in summary[1:] if line.endswith(' of 3'))
    assert counts == {'anatomy': '3 of 3', 'template': '3 of 3', 'T2': '2 of 3', 'cbf': '2 of 3',
                      'T2star': '1 of 3', 'R2prime': '1 of 3', 'cbv': '0 of 3', 'oef': '0 of 3',
                      'cmro2': '0 of 3'}  # fmt: skip
    reasons = summary[summary.index('most frequent reasons:') + 1 :]
    assert 0 < len(reasons) <= 5
    assert reasons[0].startswith('  3 of 3: no DSC')
    assert '  2 of 3: no MEGRE' in reasons
    assert '  1 of 3: no MESE' in reasons


def test_reasons_of_several_participants_are_one_whatever_their_labels(study):
    for sub in ('01', '02'):
        study.edit(f'sub-{sub}_asl.json', PostLabelingDelay=None)
    found = json.loads(dry(study, '--json').out)['summary']
    texts = [one for one in found['reasons'] if 'PostLabelingDelay' in one['reason']]
    assert [one['participants'] for one in texts] == [2]
    assert texts[0]['reason'].startswith('sub-*_asl.nii.gz')


def test_json_says_what_the_text_says(study):
    text = dry(study).out
    found = json.loads(dry(study, '--json').out)
    assert [one['participant'] for one in found['participants']] == ['01', '02', '03']
    (unit,) = found['participants'][0]['units']
    made = [row for row in unit['maps'] if row['state'] == 'made']
    assert {'T2', 'T2star', 'R2prime', 'cbf'} < {row['map'] for row in made}
    assert made[0]['files'] == ['sub-01/anat/sub-01_T1w.nii.gz']
    for note in unit['notes']:
        assert f'  note: {note}' in text
    assert found['summary']['maps']['T2'] == 2
    assert dry(study, '--json', '--participant-label', '03').out.count('"sub-03"') == 1


def test_json_is_a_form_of_the_dry_run_only(study):
    outcome = run_app(study.root, study.root.parent / 'out', 'participant', '--json')
    assert outcome.code == 64
    assert 'add --dry-run' in outcome.last


def test_processes_find_what_one_finds(study, monkeypatch):
    alone = dry(study, '--nprocs', '1').out
    monkeypatch.setattr(module, 'FEW', 1)
    assert dry(study, '--nprocs', '2').out == alone


def test_what_ends_a_process_is_said(study, monkeypatch):
    def broken(folder):
        raise OSError('stale file handle')

    monkeypatch.setattr(module, 'FEW', 1)
    monkeypatch.setattr(module, 'start_worker', broken)
    outcome = dry(study, '--nprocs', '2')
    assert 'stale file handle' in outcome.last
    assert 'killed' not in outcome.log


def test_files_that_cannot_be_described_hide_no_other_participant(study, monkeypatch):
    describe = module._describe_roles

    def faulty(found, root):
        if any('sub-02' in str(one.path) for one in found):
            raise ZeroDivisionError('by chance')
        return describe(found, root)

    monkeypatch.setattr(module, '_describe_roles', faulty)
    found = json.loads(dry(study, '--json').out)['participants']
    assert [one['error'] for one in found] == ['', 'ZeroDivisionError: by chance', '']
    assert [bool(one['units']) for one in found] == [True, False, True]


def test_a_fault_of_the_program_in_one_participant_hides_no_other(study, monkeypatch):
    collect = module.collect_participant

    def faulty(info, label, *rest, **options):
        if label == '02':
            msg = 'odd'
            raise ZeroDivisionError(msg)
        return collect(info, label, *rest, **options)

    monkeypatch.setattr(module, 'collect_participant', faulty)
    outcome = dry(study)
    assert outcome.code == 0
    assert 'sub-02: cannot be read: ZeroDivisionError: odd' in outcome.out
    assert 'sub-03: conditions none' in outcome.out
    assert '1 of 3: ZeroDivisionError: odd' in outcome.out


# ------------------------------------------------------------------------- opening images


def test_every_image_is_opened(study):
    path = study.find('sub-01_echo-2_MESE.nii.gz')
    path.write_bytes(path.read_bytes()[:-20])
    outcome = dry(study)
    assert 'problem: mese: sub-01_echo-2_MESE.nii.gz' in outcome.out
    assert 'T2                   1 of 3' in outcome.out


@pytest.fixture
def series(tmp_path):
    def make(data, name='x.nii.gz'):
        path = tmp_path / name
        nb.save(nb.Nifti1Image(data.astype(np.float32), np.eye(4)), path)
        return path

    return make


@pytest.mark.parametrize('name', ['x.nii', 'x.nii.gz'])
def test_a_series_that_is_cut_is_found_at_a_glance(name, series):
    data = np.random.default_rng(0).uniform(1, 2, (8, 8, 4, 50))
    path = series(data, name)
    assert find_defect(path, at_a_glance=True) is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert find_defect(path, at_a_glance=True) == find_defect(path) != (None, None)


def test_a_series_is_read_whole_where_a_glance_looks_odd(series):
    data = np.random.default_rng(0).uniform(1, 2, (8, 8, 4, 5))
    data[..., 0] = 0
    assert find_defect(series(data), at_a_glance=True) is None
    assert 'all zero' in find_defect(series(0 * data), at_a_glance=True)[0]


def test_a_file_of_several_compressed_parts_is_no_defect(series):
    path = series(np.random.default_rng(0).uniform(1, 2, (8, 8, 4, 5)), 'x.nii')
    content = path.read_bytes()
    joined = path.with_name('y.nii.gz')
    joined.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    assert find_defect(joined, at_a_glance=True) is None
