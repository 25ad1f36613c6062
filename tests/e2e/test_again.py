"""The same command again, and what makes it compute anew."""

import shutil

import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

OWN = ('sub-*/**/*', 'sub-*.html', 'logs/sub-*', 'dataset_description.json', '*.tsv', 'README.md')


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished derivatives, with their times."""
    output = tmp_path / 'out'
    shutil.copytree(finished.output, output)
    return output


@pytest.fixture(scope='module')
def spin_echo(study, tmp_path_factory):
    """A study of spin echoes only, with its derivatives; not to be changed."""
    root = support.start_dataset(tmp_path_factory.mktemp('spin_echo') / 'raw', study)
    for label in ('01', '02'):
        support.add_participant(root, study, label, 'mese', of=label)
    output = root.parent / 'out'
    outcome = support.run_app(root, output, 'participant', *support.HEADER)
    assert outcome.code == 0
    return root, output


@pytest.fixture
def again(spin_echo, tmp_path):
    """Copies of that study and its derivatives, and their command."""
    root, output = spin_echo
    shutil.copytree(root, tmp_path / 'raw')
    shutil.copytree(output, tmp_path / 'out')

    def run(*options):
        return support.run_app(
            tmp_path / 'raw', tmp_path / 'out', 'participant', *support.HEADER, *options
        )

    run.raw, run.output = tmp_path / 'raw', tmp_path / 'out'
    return run


def test_same_command_recomputes_nothing(finished, copy):
    before = support.times(copy, *(pattern for pattern in OWN if pattern != '*.tsv'))
    outcome = support.run_app(finished.study, copy, *finished.command)
    assert outcome.code == 0
    assert outcome.log.count('skipped (nothing to do') == 2
    assert 'computing' not in outcome.log
    assert 'skipped: 2 skipped; exit code 0' in outcome.last
    after = support.times(copy, *(pattern for pattern in OWN if pattern != '*.tsv'))
    assert after == before


def test_skipped_participants_keep_their_verdict_in_the_shared_table(finished, copy):
    before = (copy / 'participants.tsv').read_text()
    support.run_app(finished.study, copy, *finished.command)
    assert (copy / 'participants.tsv').read_text() == before
    assert before.count('complete') == 2


def test_number_of_processes_does_not_skip_less(again):
    assert '2 skipped' in again('--nprocs', '2').last


def test_deleted_output_is_made_again_and_only_its_participant(again):
    path = again.output / 'sub-02' / 'anat' / 'sub-02_space-MESE_T2map.nii.gz'
    before = path.read_bytes()
    untouched = support.times(again.output, 'sub-01/**/*')
    path.unlink()
    outcome = again()
    assert outcome.code == 0
    assert 'sub-01: skipped' in outcome.log
    assert f'an output is missing: {path.relative_to(again.output)}' in outcome.log
    assert path.read_bytes() == before
    assert support.times(again.output, 'sub-01/**/*') == untouched


def test_changed_output_is_made_again(again):
    path = again.output / 'sub-01' / 'anat' / 'sub-01_space-MESE_T2map.nii.gz'
    before = path.read_bytes()
    path.write_bytes(before + b'\0')
    outcome = again('--participant-label', '01')
    assert 'an output was changed' in outcome.log
    assert path.read_bytes() == before


def test_changed_setting_recomputes_and_is_named(again):
    outcome = again('--participant-label', 'sub-01', '--hct', '0.38')
    assert outcome.code == 0
    assert 'settings changed: oxygen.hct' in outcome.log


def test_changed_input_recomputes_and_is_named(again):
    path = again.raw / 'sub-01' / 'anat' / 'sub-01_echo-1_MESE.nii.gz'
    data = support.read(path).copy()
    data[0, 0, 0] += 1
    support.write(path, data)
    outcome = again()
    assert 'input files changed: sub-01/anat/sub-01_echo-1_MESE.nii.gz' in outcome.log
    assert 'sub-02: skipped' in outcome.log


def test_maps_that_a_new_setting_does_not_make_do_not_stay_behind(again, study):
    support.add_participant(again.raw, study, '01', 'asl')
    again('--participant-label', '01')
    assert list((again.output / 'sub-01').rglob('*_cbf.nii.gz'))
    again('--participant-label', '01', '--ignore', 'asl')
    assert not list((again.output / 'sub-01').rglob('*cbf*'))
    assert list((again.output / 'sub-01').rglob('*_T2map.nii.gz'))


def test_reports_only_makes_the_reports_from_the_derivatives(finished, copy):
    names = ('sub-01.html', 'sub-02.html', 'index.html')
    before = {name: (copy / name).read_bytes() for name in names}
    for name in names:
        (copy / name).unlink()
    shutil.rmtree(copy / 'sub-01' / 'figures')
    shutil.rmtree(copy / '.oxybold')
    maps = support.times(copy, 'sub-*/*/*.nii.gz')
    outcome = support.run_app(finished.study, copy, *finished.command, '--reports-only')
    assert outcome.code == 0
    assert 'reports made anew: 2' in outcome.last
    assert f'sub-02: report made anew: {copy / "sub-02.html"}' in outcome.log
    assert {name: (copy / name).read_bytes() for name in names} == before
    assert list((copy / 'sub-01' / 'figures').iterdir())
    assert support.times(copy, 'sub-*/*/*.nii.gz') == maps
    assert not (copy / '.oxybold' / 'work').exists()
    assert 'skipped' in support.run_app(finished.study, copy, *finished.command).last
    group = support.run_app(finished.study, copy, 'group', '--reports-only')
    assert 'report made anew' in group.last
    assert 'group.html' in group.last


def test_dry_run_lists_every_map_and_writes_nothing(finished, tmp_path):
    before = support.tree_digest(finished.study)
    output = tmp_path / 'out'
    outcome = support.run_app(finished.study, output, *finished.command, '--dry-run')
    assert outcome.code == 0
    changes = ('boldPct calcMinusControl', 'concordance calcMinusControl')
    maps = ('T2 ', 'T2star calc', 'R2prime calc', 'cbf calc', 'cbv', 'oef calc', 'cmro2 calc')
    for name in (*maps, *changes):
        assert outcome.out.count(f'will be made   {name}') == 2, name
    assert 'cannot be made' not in outcome.out
    assert not output.exists()
    assert support.tree_digest(finished.study) == before


def test_dry_run_in_an_existing_output_changes_nothing(finished, copy):
    before = support.tree_digest(copy)
    assert support.run_app(finished.study, copy, *finished.command, '--dry-run').code == 0
    assert support.tree_digest(copy) == before
