"""The loop over participants: what one does harms no other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_app.bids.run.outcome import State, judge
from bids_app.bids.scans import Suspicion
from bids_app.errors import ExitCode, InputDataError
from bids_app.settings import RunSettings, resolve
from bids_app.workflows import app
from bids_app.workflows.app import _judge, _map_name, run_participants
from bids_app.workflows.dry_run import dry_run


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """Run three participants of whom the second ends with an outcome."""
    for sub in ('01', '02', '03'):
        (tmp_path / 'raw' / f'sub-{sub}' / 'anat').mkdir(parents=True)
        (tmp_path / 'raw' / f'sub-{sub}' / 'anat' / f'sub-{sub}_T1w.nii.gz').touch()
    description = '{"Name": "x", "BIDSVersion": "1.10.0"}'
    (tmp_path / 'raw' / 'dataset_description.json').write_text(description)
    monkeypatch.setattr(app, 'check_selection', lambda units: None)
    monkeypatch.setattr(app, 'update_shared', lambda *_: None)

    def run(outcomes, **options):
        def participant(found, run, settings):
            outcome = outcomes.get(found, None)
            if isinstance(outcome, BaseException):
                raise outcome
            return judge(found)

        monkeypatch.setattr(app, 'collect_participant', lambda info, sub, *_, **__: sub)
        monkeypatch.setattr(app, 'run_participant', participant)
        settings = RunSettings(
            bids_dir=tmp_path / 'raw', output_dir=tmp_path / 'out', level='participant', **options
        )
        return run_participants(settings, resolve())

    return run


def states(verdict):
    return {one.participant: str(one.state) for one in verdict.verdicts}


def test_a_participant_that_fails_does_not_stop_the_others(loop):
    verdict = loop({'02': InputDataError('two grids')})
    assert states(verdict) == {'01': 'complete', '02': 'failed', '03': 'complete'}
    assert verdict.code == ExitCode.PARTICIPANT_FAILED
    assert verdict.verdicts[1].reasons == ('two grids',)


def test_stop_on_first_crash_stops(loop):
    verdict = loop({'02': InputDataError('two grids')}, stop_on_first_crash=True)
    assert states(verdict) == {'01': 'complete', '02': 'failed'}


def test_a_signal_ends_the_run_and_says_who_was_not_started(loop):
    verdict = loop({'02': KeyboardInterrupt()})
    assert states(verdict) == {'01': 'complete', '02': 'interrupted', '03': 'interrupted'}
    assert verdict.code == ExitCode.INTERRUPTED
    assert verdict.state == State.INTERRUPTED


def test_a_mistake_of_the_program_is_not_taken_for_one_of_the_data(loop, caplog):
    verdict = loop({'02': ZeroDivisionError('division by zero')})
    assert states(verdict) == {'01': 'complete', '02': 'failed', '03': 'complete'}
    assert verdict.verdicts[1].code == ExitCode.SOFTWARE
    assert 'Traceback' in caplog.text


@pytest.mark.parametrize(
    ('key', 'entities', 'name'),
    [
        ('T2map', {'condition': None}, ('T2', None)),
        ('cbv', {'condition': 'calc', 'variant': 'grubb'}, ('cbv', 'calc')),
        ('contrast', {'quantity': 'cmro2', 'contrast': 'aMinusB'}, ('change_cmro2', 'aMinusB')),
        ('contrast', {'quantity': 'boldPct', 'contrast': 'aMinusB'}, ('boldPct', 'aMinusB')),
        ('brain_mask', {'space': 'MNI152NLin6Asym', 'res': '2'}, ('template', None)),
        ('brain_mask', {'space': 'MESE'}, ('brain_mask', None)),
        ('concordance', {'contrast': 'aMinusB'}, ('concordance', 'aMinusB')),
    ],
)
def test_a_lost_file_is_the_loss_of_its_map_and_of_no_other(key, entities, name):
    assert _map_name(key, entities) == name


def test_dry_run_shows_roles_what_is_unused_and_patterns_without_match(tmp_path):
    data = tmp_path / 'data'
    (data / 'x').mkdir(parents=True)
    (data / 'dataset_description.json').write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    for name in ('7_structure.nii', '7_other.nii', '8_other.nii'):
        (data / 'x' / name).touch()
    (tmp_path / 'map.toml').write_text(
        '[[file]]\nrole = "t1w"\npath = ["x/{sub}_structure.nii", "x/{sub}_t1.nii"]\n'
    )
    run = RunSettings(
        bids_dir=data,
        output_dir=tmp_path / 'out',
        level='participant',
        input_map=str(tmp_path / 'map.toml'),
        dry_run=True,
    )
    lines = dry_run(run, resolve()).splitlines()
    assert lines[2].split() == ['t1w', 'x/7_structure.nii']
    assert 'input map: nothing matches x/{sub}_t1.nii' in lines
    last = lines.index('summary of 1 participant(s)')
    assert lines[last - 3 : last] == ['       1  x/7_other.nii', '       1  x/8_other.nii', '']
    assert not (tmp_path / 'out').exists()


def test_verdict_names_a_suspicious_scan_and_stays_good():
    made = {'state': 'made', 'map': 'cbf', 'reason': None}
    sign = Suspicion(kind='copy', role='m0', reason='a.nii is b.nii', file=Path('a.nii'))
    unit = SimpleNamespace(problems=(), suspicions=(sign, sign), warnings=('odd phase',))
    record = {'maps': [made], 'errors': [], 'written': ['a'], 'has_results': True}
    verdict = _judge('01', [unit], [record | {'doubts': ['odd head']}])
    signs = 'suspicious (copy): a.nii is b.nii; odd phase; odd head'
    assert verdict.text == f'sub-01: complete ({signs})'
    assert verdict.is_good
