"""The program: one verdict decides exit code, last log line and summary."""

import json
import signal

import pytest

from bids_app.bids.output.dataset import prepare_output
from bids_app.bids.run.cohort import note_end
from bids_app.bids.run.outcome import RunVerdict, combine, interrupted, judge
from bids_app.cli import main as program
from bids_app.cli.main import ENVIRONMENT, main
from bids_app.engines.isolated import THREAD_VARIABLES
from bids_app.errors import AppError, ExitCode
from bids_app.settings import RunSettings


def families(cls=AppError):
    """Every error class below AppError that the app raises."""
    return [one for sub in cls.__subclasses__() for one in (sub, *families(sub))]


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """Undo what the program does to the process."""
    for name in (*ENVIRONMENT, *THREAD_VARIABLES):
        monkeypatch.setenv(name, '1')
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / 'raw').mkdir()
    description = '{"Name": "x", "BIDSVersion": "1.10.0"}'
    (tmp_path / 'raw' / 'dataset_description.json').write_text(description)
    return [str(tmp_path / 'raw'), str(tmp_path / 'out'), 'participant']


def ends(monkeypatch, outcome):
    """Let the run end with an exception or a verdict."""

    def run(where, settings):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(program, '_run', run)


@pytest.mark.parametrize('error', families(), ids=lambda cls: cls.__name__)
def test_exit_code_is_that_of_the_error(error, folders, monkeypatch, capsys):
    ends(monkeypatch, error('what happened'))
    assert main(folders) == error.exit_code != 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'exit code {int(error.exit_code)}' in last
    assert 'what happened' in last
    assert 'Traceback' not in last


def test_our_own_mistake_shows_its_traceback(folders, monkeypatch, capsys):
    ends(monkeypatch, ZeroDivisionError('division by zero'))
    assert main(folders) == ExitCode.SOFTWARE
    said = capsys.readouterr().err
    assert 'Traceback' in said
    assert said.strip().splitlines()[-1].endswith('exit code 70')


def test_traceback_of_a_user_error_only_when_asked_for(folders, monkeypatch, capsys):
    ends(monkeypatch, program.AppError('wrong file'))
    main(folders)
    assert 'Traceback' not in capsys.readouterr().err
    main([*folders, '-v'])
    assert 'Traceback' in capsys.readouterr().err


def test_signal_ends_in_order(folders, monkeypatch):
    def run(where, settings):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(program, '_run', run)
    assert main(folders) == ExitCode.INTERRUPTED


VERDICTS = {
    'complete': combine([judge('01')]),
    'degraded': combine([judge('01', absences=['no DSC'])]),
    'incomplete': combine([judge('01'), judge('02', errors=['no fit'])]),
    'interrupted': combine([judge('01'), interrupted('02')]),
    'nothing': RunVerdict(),
}


@pytest.mark.parametrize('name', VERDICTS)
def test_code_log_and_summary_agree(name, folders, monkeypatch, capsys, tmp_path):
    verdict = VERDICTS[name]

    def run(where, settings):
        prepare_output(where)
        return verdict

    monkeypatch.setattr(program, '_run', run)
    code = main(folders)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    summary = json.loads((tmp_path / 'out' / 'logs' / 'run_summary.json').read_text())
    assert code == int(verdict.code) == summary['verdict']['exit_code']
    assert f'exit code {code}' in last
    assert summary['verdict']['state'] in last
    assert ('work directory kept' in last) == (name in ('incomplete', 'interrupted'))


@pytest.mark.parametrize(
    ('arguments', 'code'),
    [
        (['raw', 'out', 'analysis'], 17),
        (['raw', 'out'], 64),
        (['none', 'out', 'participant'], 64),
        (['raw', 'out', 'participant', '--set', 'x=1'], 64),
        (['raw', 'out', 'participant', '--config-file', 'none.toml'], 64),
        (['raw', 'out', 'participant'], 18),
        (['raw', 'raw', 'participant'], 18),
        (['raw', 'out', 'group'], 18),
    ],
)
def test_exit_codes_of_wrong_commands(arguments, code, folders, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code


def test_raw_data_are_not_the_place_for_output(folders, monkeypatch, tmp_path):
    (tmp_path / 'raw' / 'sub-01').mkdir()
    before = sorted(tmp_path.rglob('*'))
    assert main([folders[0], folders[0], 'participant']) == 64
    assert sorted(tmp_path.rglob('*')) == before


def test_dataset_without_description_is_16(folders, tmp_path):
    (tmp_path / 'raw' / 'dataset_description.json').unlink()
    assert main(folders) == 16


def test_plugin_file_is_checked_before_anything_is_written(folders, tmp_path):
    (tmp_path / 'raw' / 'sub-01' / 'anat').mkdir(parents=True)
    (tmp_path / 'raw' / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz').touch()
    plugin = tmp_path / 'plugin.yml'
    plugin.write_text('nothing: here')
    assert main([*folders, '--nipype-plugin-file', str(plugin)]) == 64
    assert not (tmp_path / 'out').exists()


def test_threads_above_one_warn_that_bits_may_differ(folders, monkeypatch, capsys):
    import os

    ends(monkeypatch, RunVerdict())
    main([*folders, '--omp-nthreads', '2'])
    assert 'no longer bit-identical' in capsys.readouterr().err
    assert os.environ['OMP_NUM_THREADS'] == os.environ['OPENBLAS_NUM_THREADS'] == '2'


def test_version_is_printed_and_nothing_else(capsys):
    import bids_app

    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'oxybold {bids_app.__version__}\n'


def test_status_says_what_is_left_of_an_output(tmp_path, capsys):
    run = RunSettings(bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant')
    assert main(['status', str(run.output_dir)]) == 18
    prepare_output(run)
    note_end(run.output_dir, judge('01'), 1.0)
    note_end(run.output_dir, judge('02', errors=['no fit']), 1.0)
    assert main(['status', str(run.output_dir)]) == 0
    out = capsys.readouterr().out
    assert '2 participant(s): 1 complete, 1 incomplete' in out
    assert 'left: --participant-label 02' in out
    assert main(['status', str(run.output_dir), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['participants']['02']['exit_code'] == 1
    assert main(['status']) == 64
