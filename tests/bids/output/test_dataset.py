"""Where the output may lie, its root files, and the files that participants share."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest

import bids_app
from bids_app.bids.output import dataset
from bids_app.bids.output.names import table
from bids_app.bids.output.write import write_json
from bids_app.bids.run.outcome import judge, participant_summary
from bids_app.errors import ExitCode, OutputError, SettingsError
from bids_app.models.concordance.labels import Label
from bids_app.models.status import Status
from bids_app.settings import RunSettings


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    raw = tmp_path / 'raw'
    raw.mkdir()
    return RunSettings(bids_dir=raw, output_dir=tmp_path / 'out', level='participant')


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def set_version(output_dir: Path, version: str, name: str = 'oxybold') -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    content = {'GeneratedBy': [{'Name': name, 'Version': version}]}
    (output_dir / 'dataset_description.json').write_text(json.dumps(content))


def summarise(output_dir: Path, participant: str, hct: float = 0.4) -> None:
    value = {
        'name': 'oxygen.hct',
        'value': hct,
        'unit': '1',
        'origin': 'participants.tsv column Hct',
        'overruled': '',
    }
    content = participant_summary(judge(participant), command=[], units=[{'values': [value]}])
    write_json(content, output_dir=output_dir, key='run_summary', entities={'sub': participant})


# -------------------------------------------------------------------------------- location


@pytest.mark.parametrize('place', ['derivatives/oxybold', '../out', '../raw2'])
def test_output_may_lie_in_derivatives_or_outside(run: RunSettings, place: str) -> None:
    chosen = dataclasses.replace(run, output_dir=run.bids_dir / place)
    dataset.prepare_output(chosen)
    assert (chosen.output_dir / 'dataset_description.json').exists()


@pytest.mark.parametrize('place', ['.', 'out', 'derivatives', 'derivatives/a/b', 'sub-01/x'])
def test_output_elsewhere_in_the_input_is_refused_and_nothing_written(
    run: RunSettings, place: str
) -> None:
    chosen = dataclasses.replace(run, output_dir=run.bids_dir / place)
    with pytest.raises(SettingsError, match='derivatives/oxybold') as caught:
        dataset.prepare_output(chosen)
    assert caught.value.exit_code == ExitCode.USAGE
    assert list(run.bids_dir.iterdir()) == []


def test_a_link_into_the_input_does_not_deceive(run: RunSettings, tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(run.bids_dir)
    chosen = dataclasses.replace(run, output_dir=tmp_path / 'link' / 'results')
    with pytest.raises(SettingsError):
        dataset.prepare_output(chosen)


def test_work_directory_in_the_input_is_refused(run: RunSettings) -> None:
    for work in (run.bids_dir, run.bids_dir / 'work', run.output_dir):
        with pytest.raises(SettingsError, match='work directory'):
            dataset.check_locations(dataclasses.replace(run, work_dir=work))
    inside = dataclasses.replace(run, output_dir=run.bids_dir / 'derivatives' / 'oxybold')
    dataset.check_locations(inside)
    dataset.check_locations(dataclasses.replace(inside, work_dir=inside.output_dir / 'tmp'))


def test_work_directory_is_hidden_in_the_output_by_default(run: RunSettings) -> None:
    assert dataset.work_dir_of(run) == run.output_dir / '.oxybold' / 'work'


def test_group_level_takes_any_folder_as_input_also_the_output(run: RunSettings) -> None:
    dataset.prepare_output(run)
    group = dataclasses.replace(run, bids_dir=run.output_dir, level='group')
    dataset.prepare_output(group)
    foreign = dataclasses.replace(run, output_dir=run.bids_dir, level='group')
    with pytest.raises(SettingsError):
        dataset.prepare_output(foreign)


# ------------------------------------------------------------------------- version, writable


def test_another_minor_version_is_refused_unless_forced(run: RunSettings) -> None:
    set_version(run.output_dir, '99.1.0')
    with pytest.raises(SettingsError, match=r'made by oxybold 99\.1\.0'):
        dataset.prepare_output(run)
    dataset.prepare_output(dataclasses.replace(run, force=True))
    described = json.loads((run.output_dir / 'dataset_description.json').read_text())
    assert described['GeneratedBy'][0]['Version'] == bids_app.__version__


def test_another_patch_version_is_continued(run: RunSettings) -> None:
    minor = '.'.join(bids_app.__version__.split('.')[:2])
    set_version(run.output_dir, f'{minor}.999')
    dataset.prepare_output(run)


@pytest.mark.parametrize('content', ['', '{}', '[]', '{"GeneratedBy": [{"Name": "fmriprep"}]}'])
def test_results_of_another_program_are_not_touched(run: RunSettings, content: str) -> None:
    run.output_dir.mkdir()
    (run.output_dir / 'dataset_description.json').write_text(content)
    with pytest.raises(SettingsError, match='not of oxybold'):
        dataset.prepare_output(run)
    assert tree(run.output_dir) == {'dataset_description.json': content.encode()}


def test_output_that_is_a_file_cannot_be_created(run: RunSettings) -> None:
    run.output_dir.write_text('')
    with pytest.raises(OutputError) as caught:
        dataset.prepare_output(run)
    assert caught.value.exit_code == ExitCode.CANNOT_CREATE_OUTPUT


@pytest.mark.parametrize(('number', 'code'), [(errno.EROFS, 73), (errno.ENOSPC, 74)])
def test_read_only_and_full_output_are_told_apart(
    run: RunSettings, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, 'write_bytes', refuse)
    with pytest.raises(OutputError, match=str(run.output_dir)) as caught:
        dataset.check_writable(run.output_dir)
    assert caught.value.exit_code == code


def test_write_test_leaves_nothing(tmp_path: Path) -> None:
    dataset.check_writable(tmp_path / 'new')
    assert list((tmp_path / 'new').iterdir()) == []


def test_dry_run_writes_nothing(run: RunSettings) -> None:
    dataset.prepare_output(dataclasses.replace(run, dry_run=True))
    assert not run.output_dir.exists()


# -------------------------------------------------------------------------------- root files


def test_root_files_are_equal_for_every_job(run: RunSettings) -> None:
    other = dataclasses.replace(run, participants=('02',), nprocs=4, verbose=2)
    assert dataset.root_files(run) == dataset.root_files(other)


def test_existing_root_files_stay(run: RunSettings) -> None:
    run.output_dir.mkdir()
    (run.output_dir / 'README.md').write_text('mine')
    dataset.prepare_output(run)
    assert (run.output_dir / 'README.md').read_text() == 'mine'


def test_source_is_named_relative_to_an_output_inside_it(run: RunSettings) -> None:
    inside = dataclasses.replace(run, output_dir=run.bids_dir / 'derivatives' / 'oxybold')
    description = dataset.dataset_description(inside)
    assert description['DatasetLinks'] == {'raw': '../..'}
    other = dataclasses.replace(run, derivatives={'fmriprep': run.bids_dir.parent / 'fmriprep'})
    links = dataset.dataset_description(other)['DatasetLinks']
    assert links['raw'].startswith('file:///')
    assert links['fmriprep'].endswith('/fmriprep')


def test_container_is_named_by_the_environment(
    run: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(dataset.CONTAINER_VARIABLE, raising=False)
    assert 'Container' not in dataset.dataset_description(run)['GeneratedBy'][0]
    monkeypatch.setenv(dataset.CONTAINER_VARIABLE, 'docker:oxybold:0.1.0')
    generator = dataset.dataset_description(run)['GeneratedBy'][0]
    assert generator['Container'] == {'Type': 'docker', 'Tag': 'oxybold:0.1.0'}
    monkeypatch.setenv(dataset.CONTAINER_VARIABLE, 'docker:lab/oxybold@sha256:ab12')
    generator = dataset.dataset_description(run)['GeneratedBy'][0]
    assert generator['Container']['URI'] == 'docker://lab/oxybold@sha256:ab12'


def read_tsv(content: bytes) -> list[dict[str, str]]:
    header, *lines = [line.split('\t') for line in content.decode().splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_label_tables_hold_the_labels_of_their_rule(run: RunSettings) -> None:
    content = dataset.root_files(run)
    robust = read_tsv(content['seg-concordance_dseg.tsv'])
    sign = read_tsv(content['seg-concordanceSign_dseg.tsv'])
    assert [int(line['index']) for line in robust] == [int(label) for label in Label]
    assert {5, 6}.isdisjoint(int(line['index']) for line in sign)
    assert len({line['color'] for line in robust}) == len(robust)


def test_status_table_holds_every_code_and_whether_there_is_a_value(run: RunSettings) -> None:
    lines = read_tsv(dataset.root_files(run)['desc-status_dseg.tsv'])
    assert [int(line['index']) for line in lines] == [int(status) for status in Status]
    with_value = {line['name'] for line in lines if line['has_value'] == 'true'}
    assert {'ok', 'negative', 'implausible'} <= with_value
    assert not {'no_signal', 'gradient_too_strong'} & with_value
    assert len({line['color'] for line in lines}) == len(lines)


def test_descriptions_carry_the_entity(run: RunSettings) -> None:
    lines = read_tsv(dataset.root_files(run)['descriptions.tsv'])
    assert {line['desc_id'] for line in lines} == {f'desc-{name}' for name in table().descriptions}


# ------------------------------------------------------------------------------ shared files


def test_participants_table_shows_the_values_used(tmp_path: Path) -> None:
    summarise(tmp_path, '02', hct=0.41)
    (tmp_path / 'sub-01' / 'anat').mkdir(parents=True)
    dataset.update_shared(tmp_path)
    first, second = read_tsv((tmp_path / 'participants.tsv').read_bytes())
    assert first == {
        'participant_id': 'sub-01',
        'Hct': 'n/a',
        'Hct_source': 'n/a',
        'SaO2': 'n/a',
        'SaO2_source': 'n/a',
        'verdict': 'n/a',
    }
    assert (second['Hct'], second['Hct_source']) == ('0.41', 'participants.tsv column Hct')
    assert second['verdict'] == 'complete'
    sidecar = json.loads((tmp_path / 'participants.json').read_text())
    assert sidecar['Hct']['Units'] == 'fraction'
    assert set(sidecar) == set(first)


def test_index_is_made_by_the_callback(tmp_path: Path) -> None:
    dataset.update_shared(tmp_path)
    assert not (tmp_path / 'index.html').exists()
    dataset.update_shared(tmp_path, lambda root: f'<p>{root.name}</p>')
    assert (tmp_path / 'index.html').read_text() == f'<p>{tmp_path.name}</p>'


def test_a_broken_summary_does_not_stop_the_others(tmp_path: Path) -> None:
    summarise(tmp_path, '01')
    (tmp_path / 'logs' / 'sub-02_run_summary.json').write_text('{')
    (tmp_path / 'logs' / 'group_run_summary.json').write_text('{"participant": "group"}')
    assert [line['participant_id'] for line in dataset.participant_rows(tmp_path)] == ['sub-01']
