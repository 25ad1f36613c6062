"""Bad input costs its own branch, with one clear message; everybody else is served."""

import shutil

import pytest

from tests.e2e import support
from tests.faults.defects import DEFECTS, EVENTS, drop_delay, remove_echo, rename_trials

pytestmark = pytest.mark.e2e

MAPS = {
    'mese': {'space-MESE_T2map'},
    'asl': {'task-calc_space-ASL_cbf', 'task-control_space-ASL_cbf'},
}
"""Scans -> the maps that can be made of them alone."""

NAMES = [defect.name for defect in DEFECTS]


@pytest.fixture(scope='module')
def ward(study, tmp_path_factory):
    """One run over all defects, and a sound participant at the end."""
    root = support.start_dataset(tmp_path_factory.mktemp('ward') / 'raw', study)
    for defect in (*DEFECTS, EVENTS):
        defect.harm(support.add_participant(root, study, defect.name, defect.family, defect.other))
    support.add_participant(root, study, 'zsound', 'mese')
    output = root.parent / 'out'
    return output, support.run_app(root, output, 'participant', *support.HEADER)


def test_one_lost_branch_gives_exit_code_1_and_says_so_last(ward):
    _, outcome = ward
    assert outcome.code == 1
    assert f'1 degraded, {len(DEFECTS) + 1} incomplete; exit code 1' in outcome.last


def test_sound_participant_after_all_defective_ones_is_finished(ward):
    output, _ = ward
    assert support.summary(output, 'zsound')['verdict']['state'] == 'degraded'
    assert support.value_maps(output / 'sub-zsound') == {'sub-zsound_space-MESE_T2map'}


@pytest.mark.parametrize('defect', [*DEFECTS, EVENTS], ids=[*NAMES, EVENTS.name])
def test_defect_costs_only_its_own_branch(ward, defect):
    output, _ = ward
    verdict = support.summary(output, defect.name)['verdict']
    assert (verdict['state'], verdict['exit_code']) == ('incomplete', 1)
    made = support.value_maps(output / f'sub-{defect.name}')
    assert made == {f'sub-{defect.name}_{name}' for name in MAPS[defect.other]}
    assert (output / f'sub-{defect.name}.html').is_file()


@pytest.mark.parametrize('defect', [*DEFECTS, EVENTS], ids=[*NAMES, EVENTS.name])
def test_defect_has_one_clear_message_in_summary_log_and_report(ward, defect):
    output, outcome = ward
    found = support.problems(output, defect.name)
    assert len(found) == defect.count, [problem['message'] for problem in found]
    report = (output / f'sub-{defect.name}.html').read_text()
    for problem in found:
        message = problem['message']
        assert [word for word in defect.words if word not in message] == []
        assert '\n' not in message
        assert outcome.log.count(message) == 1
        assert problem['file'].rsplit('/', maxsplit=1)[-1] in report


@pytest.mark.parametrize('defect', DEFECTS, ids=NAMES)
def test_exit_code_where_defective_data_are_all_there_is(study, tmp_path, defect):
    root = support.start_dataset(tmp_path / 'raw', study)
    defect.harm(support.add_participant(root, study, '01', defect.family))
    outcome = support.run_app(root, tmp_path / 'out', 'participant', *support.HEADER)
    assert outcome.code == defect.code
    assert f'failed: 1 failed; exit code {defect.code}' in outcome.last
    assert list((tmp_path / 'out').rglob('*.nii.gz')) == []


def test_all_problems_of_a_participant_come_at_once(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese', 'asl')
    remove_echo(folder)
    drop_delay(folder)
    outcome = support.run_app(root, tmp_path / 'out', 'participant', *support.HEADER)
    line = next(line for line in outcome.log.splitlines() if 'sub-01: failed' in line)
    assert 'echoes 3 missing' in line
    assert line.count('PostLabelingDelay is missing') == 2


def test_dry_run_names_the_defect_and_the_file(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    remove_echo(support.add_participant(root, study, '01', 'mese'))
    outcome = support.run_app(root, tmp_path / 'out', 'participant', '--dry-run')
    assert outcome.code == 0
    assert 'cannot be made T2' in outcome.out
    assert 'echoes 3 missing' in outcome.out


def test_repaired_participant_is_computed_by_the_same_command(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    folder = support.add_participant(root, study, '01', 'mese')
    kept = tmp_path / 'kept'
    shutil.copytree(folder, kept)
    remove_echo(folder)
    command = (root, tmp_path / 'out', 'participant', *support.HEADER)
    assert support.run_app(*command).code == 65
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    outcome = support.run_app(*command)
    assert outcome.code == 0
    assert 'its last run ended failed' in outcome.log
    assert support.problems(tmp_path / 'out', '01') == []


def test_condition_absent_from_every_events_table_is_a_usage_error(study, tmp_path):
    root = support.start_dataset(tmp_path / 'raw', study)
    rename_trials(support.add_participant(root, study, '01', 'bold'))
    options = ('--contrasts', 'calc-control', *support.HEADER)
    outcome = support.run_app(root, tmp_path / 'out', 'participant', *options)
    assert outcome.code == 64
    assert 'calc' in outcome.last
    assert 'memory' in outcome.last
    assert not (tmp_path / 'out').exists()
