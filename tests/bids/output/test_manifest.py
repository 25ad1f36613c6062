"""When a participant is computed anew, and when its outputs stand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bids_app.bids.output import manifest
from bids_app.bids.output.manifest import (
    Digest,
    check_manifest,
    code_digest,
    participant_digest,
    participant_files,
    read_manifest,
    remove_manifest,
    remove_stale,
    work_name,
    write_manifest,
)
from bids_app.bids.run.outcome import judge, skipped
from bids_app.bids.scans import Contrast, DataValue, ParticipantInputs
from bids_app.errors import MissingInputError
from bids_app.settings import Settings, apply


def make_dataset(root: Path) -> ParticipantInputs:
    files = (root / 'sub-01' / 'T1w.nii.gz', root / 'dataset_description.json')
    for number, path in enumerate(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 10)
    return ParticipantInputs(participant='01', b0=3.0, hct=0.42, sao2=0.98, files=files)


@pytest.fixture
def inputs(tmp_path: Path) -> ParticipantInputs:
    return make_dataset(tmp_path / 'raw')


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / 'out'
    for name in ('sub-01/anat/a.nii.gz', 'sub-01.html', 'sub-010/b.nii.gz', 'sub-010.html'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def digest(inputs: ParticipantInputs, tmp_path: Path) -> Digest:
    return participant_digest([inputs], Settings(), roots=[tmp_path / 'raw'])


def test_intact_outputs_of_equal_inputs_are_skipped(out: Path, digest: Digest) -> None:
    write_manifest(out, judge('01'), digest)
    assert check_manifest(out, '01', digest) is None


def test_degraded_runs_are_skipped_too_but_losses_are_tried_again(
    out: Path, digest: Digest
) -> None:
    write_manifest(out, judge('01', absences=['no DSC']), digest)
    assert check_manifest(out, '01', digest) is None
    write_manifest(out, judge('01', errors=['a step failed']), digest)
    assert check_manifest(out, '01', digest) == 'its last run ended incomplete'
    write_manifest(out, skipped('01'), digest)
    assert 'skipped' in str(check_manifest(out, '01', digest))


def test_the_reason_names_the_output(out: Path, digest: Digest) -> None:
    write_manifest(out, judge('01'), digest)
    (out / 'sub-01/anat/a.nii.gz').write_text('other')
    assert check_manifest(out, '01', digest) == 'an output was changed: sub-01/anat/a.nii.gz'
    (out / 'sub-01/anat/a.nii.gz').unlink()
    assert check_manifest(out, '01', digest) == 'an output is missing: sub-01/anat/a.nii.gz'


@pytest.mark.parametrize('content', [None, '', '[]', '{"digest"'])
def test_without_a_readable_manifest_there_is_no_finished_run(
    out: Path, digest: Digest, content: str | None
) -> None:
    if content is not None:
        (out / 'logs').mkdir()
        (out / 'logs/sub-01_manifest.json').write_text(content)
    assert check_manifest(out, '01', digest) == 'there is no finished run of it'


def test_a_removed_manifest_is_no_finished_run(out: Path, digest: Digest) -> None:
    write_manifest(out, judge('01'), digest)
    remove_manifest(out, '01')
    remove_manifest(out, '01')
    assert read_manifest(out, '01') is None


def test_the_reason_names_the_input_the_setting_the_value_and_the_program(
    out: Path, digest: Digest, inputs: ParticipantInputs, tmp_path: Path
) -> None:
    write_manifest(out, judge('01'), digest)
    roots = [tmp_path / 'raw']
    settings = apply(Settings(), {'perfusion.partition_coefficient': 0.98}, 'test')
    other = participant_digest([inputs], settings, roots=roots)
    assert check_manifest(out, '01', other) == (
        'settings changed: perfusion.partition_coefficient'
    )
    changed = dataclasses.replace(inputs, hct=0.4)
    other = participant_digest([changed], Settings(), roots=roots)
    assert check_manifest(out, '01', other) == 'values taken from the data changed: sub-01'
    other = dataclasses.replace(digest, code='0')
    assert check_manifest(out, '01', other) == 'the program changed'
    other = dataclasses.replace(digest, libraries={**digest.libraries, 'numpy': '1'})
    assert check_manifest(out, '01', other) == 'libraries changed: numpy'
    inputs.files[0].write_bytes(b'other')
    other = participant_digest([inputs], Settings(), roots=roots)
    assert check_manifest(out, '01', other) == 'input files changed: sub-01/T1w.nii.gz'


@pytest.mark.parametrize(
    'change',
    [
        {'b0': 7.0},
        {'sao2': 0.9},
        {'contrasts': (Contrast(task='calc', baseline='control'),)},
        {'values': (DataValue(name='x', value=1.0, unit='1', origin='y'),)},
        {'baseline': 'rest'},
    ],
)
def test_everything_that_changes_numbers_changes_the_digest(
    inputs: ParticipantInputs, digest: Digest, tmp_path: Path, change: dict
) -> None:
    changed = dataclasses.replace(inputs, **change)
    other = participant_digest([changed], Settings(), roots=[tmp_path / 'raw'])
    assert other.value != digest.value


def test_a_map_that_a_setting_names_counts_by_its_bytes_where_it_is_used(
    inputs: ParticipantInputs, tmp_path: Path
) -> None:
    path = tmp_path / 'M_01.nii'
    pattern = {'change.davis_maximum_map': f'{tmp_path}/M_{{participant}}.nii'}
    unused = apply(Settings(), pattern, 'test')
    participant_digest([inputs], unused)
    used = apply(unused, {'change.route': 'davis'}, 'test')
    with pytest.raises(MissingInputError, match=r'change\.davis_maximum_map.*M_01\.nii'):
        participant_digest([inputs], used)
    values = []
    for content in ('a', 'b'):
        path.write_text(content)
        values.append(participant_digest([inputs], used).value)
    assert len(set(values)) == 2


def test_a_moved_dataset_is_the_same_dataset(digest: Digest, tmp_path: Path) -> None:
    moved = make_dataset(tmp_path / 'elsewhere')
    other = participant_digest([moved], Settings(), roots=[tmp_path / 'elsewhere'])
    assert other.value == digest.value
    assert work_name('01', other) == work_name('01', digest)
    assert work_name('01', digest).startswith('sub-01_')


def test_an_absent_input_is_a_state_of_its_own(
    inputs: ParticipantInputs, digest: Digest, tmp_path: Path
) -> None:
    inputs.files[0].unlink()
    inputs.files[0].symlink_to('nowhere')
    other = participant_digest([inputs], Settings(), roots=[tmp_path / 'raw'])
    assert other.inputs['sub-01/T1w.nii.gz'] == 'unreadable'
    assert other.value != digest.value


def test_a_change_of_many_files_is_told_briefly(digest: Digest) -> None:
    other = {**digest.as_dict(), 'inputs': {f'{n}': 'x' for n in range(9)}}
    reason = str(digest.difference(other))
    assert reason.endswith('and 8 more')


def test_label_of_one_participant_may_begin_like_another(out: Path) -> None:
    names = [path.relative_to(out).as_posix() for path in participant_files(out, '01')]
    assert names == ['sub-01/anat/a.nii.gz', 'sub-01.html']


def test_only_unchanged_files_of_the_earlier_run_are_removed(out: Path, digest: Digest) -> None:
    mine = out / 'sub-01/anat/a.nii.gz'
    gone, touched = out / 'sub-01/anat/gone.json', out / 'sub-01/anat/touched.json'
    for path in (gone, touched):
        path.write_text('{}')
    write_manifest(out, judge('01'), digest)
    previous = read_manifest(out, '01')
    touched.write_text('by hand')
    (out / 'sub-01/anat/notes.txt').write_text('by hand')
    removed = remove_stale(out, previous, [mine, out / 'sub-01.html'])
    assert removed == (gone,)
    assert mine.exists()
    assert touched.exists()
    assert (out / 'sub-010/b.nii.gz').exists()
    assert remove_stale(out, None, []) == ()


def test_code_digest_follows_every_source_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('models/a.py', 'units.py', 'cli/main.py', 'models/__pycache__/a.pyc'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(manifest, 'files', lambda _: tmp_path)

    def fresh() -> str:
        code_digest.cache_clear()
        return code_digest()

    first = fresh()
    (tmp_path / 'cli/main.py').write_text('other')
    (tmp_path / 'models/__pycache__/a.pyc').write_text('other')
    assert fresh() == first
    (tmp_path / 'units.py').write_text('other')
    second = fresh()
    (tmp_path / 'models/a.py').rename(tmp_path / 'models/b.py')
    assert len({first, second, fresh()}) == 3
    code_digest.cache_clear()


def test_manifest_keeps_the_name_of_the_work_directory(out: Path, digest: Digest) -> None:
    write_manifest(out, judge('01'), digest, work_dir=out / '.oxybold/work/sub-01_abc')
    written = read_manifest(out, '01')
    assert written is not None
    assert written['work_directory'] == 'sub-01_abc'
    assert str(out) not in str(written)
