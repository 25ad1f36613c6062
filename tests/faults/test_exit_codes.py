"""Every way to end: the exit code, one line that says why, nothing written where it must not."""

import json

import pytest

import bids_app.workflows.app
from tests.e2e import support

pytestmark = pytest.mark.e2e


def run(*arguments):
    """Run the app without registration, in one process."""
    return support.run_app(*arguments, *support.HEADER)


def write_toml(folder, text):
    path = folder / 'settings.toml'
    path.write_text(text)
    return path


USAGE = {
    # case: level, options, exit code, words of the last line
    'unknown option': ('participant', ('--no-such-option',), 64, ('--no-such-option', '--help')),
    'value not among the choices': ('participant', ('--cbv-model', 'guess'), 64, ('guess',)),
    'unknown setting': ('participant', ('--set', 'oxygen.hbc=1'), 64, ('oxygen.hbc', 'oxygen.')),
    'unknown level': ('subject', (), 17, ('subject', 'participant', 'group')),
    'unknown participant': ('participant', ('--participant-label', '07'), 18, ('07', '01, 02')),
    'unknown session': ('participant', ('--session-label', 'late'), 18, ('late',)),
    'derivatives not there': ('participant', ('-d', 'fmriprep=nowhere'), 64, ('nowhere',)),
    'condition found nowhere': ('participant', ('--contrasts', 'jump-run'), 64, ('jump',)),
    'baseline found nowhere': ('participant', ('--baseline', 'sleep'), 64, ('sleep',)),
    'no processes': ('participant', ('--nprocs', '0'), 64, ('0',)),
    'configuration not there': ('participant', ('--config-file', 'no.toml'), 64, ('no.toml',)),
}  # fmt: skip


@pytest.mark.parametrize('case', USAGE)
def test_wrong_command_ends_before_anything_is_written(spin_echo, tmp_path, case):
    level, options, code, words = USAGE[case]
    # options of the case last: they win over those of the run
    outcome = support.run_app(spin_echo, tmp_path / 'out', level, *support.HEADER, *options)
    assert outcome.code == code
    assert f'exit code {code}' in outcome.last
    assert [word for word in words if word not in outcome.last] == []
    assert len(outcome.log.strip().splitlines()) == 1
    assert 'Traceback' not in outcome.log
    assert not (tmp_path / 'out').exists()


def test_configuration_with_a_wrong_name_says_which_is_near(spin_echo, tmp_path):
    path = write_toml(tmp_path, '[oxygen]\nhtc = 0.4\n')
    outcome = run(spin_echo, tmp_path / 'out', 'participant', '--config-file', path)
    assert outcome.code == 64
    assert 'did you mean oxygen.hct' in outcome.last


def test_filters_that_select_nothing(spin_echo, tmp_path):
    path = tmp_path / 'filters.json'
    path.write_text(json.dumps({'mese': {'acquisition': 'none'}}))
    outcome = run(spin_echo, tmp_path / 'out', 'participant', '--bids-filter-file', path)
    assert outcome.code == 18
    assert 'filters' in outcome.last


@pytest.mark.parametrize(
    'content',
    [None, '', '{', '[]', '{"Name": "x"}'],
    ids=['none', 'empty', 'cut', 'list', 'hollow'],
)
def test_dataset_without_usable_description_is_not_bids(study, tmp_path, content):
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    path = root / 'dataset_description.json'
    path.unlink() if content is None else path.write_text(content)
    outcome = run(root, tmp_path / 'out', 'participant')
    assert outcome.code == 16
    assert 'dataset_description.json' in outcome.last
    assert 'BIDSVersion' in outcome.last


def test_dataset_that_is_not_there(tmp_path):
    outcome = run(tmp_path / 'nowhere', tmp_path / 'out', 'participant')
    assert outcome.code == 64
    assert 'nowhere' in outcome.last


def test_dataset_without_participants(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    assert run(root, tmp_path / 'out', 'participant').code == 18


def test_haematocrit_without_unit_prints_the_lines_to_add(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    (root / 'participants.json').write_text('{"Hct": {"Description": "haematocrit"}}')
    outcome = run(root, tmp_path / 'out', 'participant')
    assert outcome.code == 65
    for word in ('participants.json', '"Hct"', '"Units": "percent"', 'exit code 65'):
        assert word in outcome.log
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('place', ['.', 'out', 'sub-01/out', 'derivatives', 'derivatives/a/b'])
def test_output_inside_the_input_elsewhere_than_derivatives_name(spin_echo, place):
    before = support.tree_digest(spin_echo)
    outcome = run(spin_echo, spin_echo / place, 'participant')
    assert outcome.code == 64
    assert 'derivatives' in outcome.last
    assert support.tree_digest(spin_echo) == before


def test_work_directory_inside_the_input(spin_echo, tmp_path):
    before = support.tree_digest(spin_echo)
    outcome = run(spin_echo, tmp_path / 'out', 'participant', '-w', spin_echo / 'work')
    assert outcome.code == 64
    assert 'work directory' in outcome.last
    assert support.tree_digest(spin_echo) == before


def test_output_in_derivatives_name_writes_nowhere_else_in_the_input(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    support.add_participant(root, study, '01', 'mese')
    before = {path for path in root.rglob('*') if path.is_file()}
    assert run(root, root / 'derivatives' / 'oxybold', 'participant').code == 0
    new = {path for path in root.rglob('*') if path.is_file()} - before
    assert {path.relative_to(root).parts[:2] for path in new} == {('derivatives', 'oxybold')}
    assert run(root, root / 'derivatives' / 'oxybold', 'participant').last.count('skipped') == 2


def test_output_of_another_minor_version_is_refused_unless_forced(spin_echo, tmp_path):
    output = tmp_path / 'out'
    assert run(spin_echo, output, 'participant', '--participant-label', '01').code == 0
    description = output / 'dataset_description.json'
    support.edit_json(description, lambda c: c['GeneratedBy'][0].update(Version='0.0.9'))
    before = support.tree_digest(output)
    outcome = run(spin_echo, output, 'participant')
    assert outcome.code == 64
    assert '--force' in outcome.last
    assert support.tree_digest(output) == before
    command = (spin_echo, output, 'participant', '--participant-label', '01', '--force')
    assert run(*command).code == 0


def test_output_of_another_program_is_left_alone(study, spin_echo):
    before = support.tree_digest(study)
    outcome = run(spin_echo, study / 'derivatives' / 'fmriprep', 'participant')
    assert outcome.code == 64
    assert support.tree_digest(study) == before


@pytest.fixture
def read_only(tmp_path):
    """An output folder on a read-only mount, and the command prefix that makes it."""
    folder = tmp_path / 'out'
    folder.mkdir()
    prefix = support.isolated(read_only=folder)
    if prefix is None:
        pytest.skip('this system permits no read-only bind mount (unshare --mount)')
    return folder, prefix


def test_read_only_output_is_found_before_computing(spin_echo, read_only):
    output, prefix = read_only
    outcome = support.spawn(spin_echo, output, 'participant', *support.HEADER, prefix=prefix)
    assert outcome.code == 73
    assert str(output) in outcome.last
    assert 'computing' not in outcome.log
    assert 'Traceback' not in outcome.log


def test_read_only_output_at_group_level(spin_echo, read_only):
    output, prefix = read_only
    outcome = support.spawn(spin_echo, output, 'group', prefix=prefix)
    assert outcome.code in (73, 64)  # 64: it holds no results
    assert 'Traceback' not in outcome.log


def test_unexpected_error_of_one_participant_spares_the_others(spin_echo, tmp_path, monkeypatch):
    original = bids_app.workflows.app.collect_participant

    def fail(info, participant, *arguments, **options):
        if participant == '01':
            raise RuntimeError('spanner in the works')
        return original(info, participant, *arguments, **options)

    monkeypatch.setattr(bids_app.workflows.app, 'collect_participant', fail)
    outcome = run(spin_echo, tmp_path / 'out', 'participant')
    assert outcome.code == 1
    assert 'spanner in the works' in outcome.log
    assert support.value_maps(tmp_path / 'out' / 'sub-02')


def test_unexpected_error_in_all_participants(spin_echo, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('spanner in the works')

    monkeypatch.setattr(bids_app.workflows.app, 'collect_participant', fail)
    outcome = run(spin_echo, tmp_path / 'out', 'participant')
    assert outcome.code == 70
    assert 'exit code 70' in outcome.last


def test_unexpected_error_in_a_step_loses_its_branch(spin_echo, tmp_path, monkeypatch):
    from bids_app.interfaces.relaxometry import ConvertRateToTime

    def fail(*_, **__):
        raise RuntimeError('spanner in the works')

    monkeypatch.setattr(ConvertRateToTime, '_run_interface', fail)
    outcome = run(spin_echo, tmp_path / 'out', 'participant', '--participant-label', '01')
    assert outcome.code in (1, 70)
    assert 'spanner in the works' in outcome.log
    assert 'convert' in outcome.log
    assert str(tmp_path / 'out' / '.oxybold' / 'work') in outcome.last
    errors = support.summary(tmp_path / 'out', '01')['units'][0]['errors']
    assert 'Traceback' in errors[0]['trace']
    assert not list((tmp_path / 'out' / 'sub-01').rglob('*_T2map.nii.gz'))


def test_stop_on_first_crash_leaves_the_rest_alone(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese')
    next(folder.glob('anat/*_echo-3_MESE.nii.gz')).unlink()
    support.add_participant(root, study, '02', 'mese')
    outcome = run(root, tmp_path / 'out', 'participant', '--stop-on-first-crash')
    assert outcome.code == 65
    assert not (tmp_path / 'out' / 'sub-02').exists()


def test_group_level_without_results_says_what_to_do(spin_echo, tmp_path):
    outcome = support.run_app(spin_echo, tmp_path / 'out', 'group')
    assert outcome.code not in (0, 70)
    assert 'participant' in outcome.last
    assert 'Traceback' not in outcome.log
