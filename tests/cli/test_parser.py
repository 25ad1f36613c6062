"""The command line: usual names, several spellings, every value typed and checked."""

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.cli.limits import memory_limit, processor_limit
from bids_app.cli.parser import (
    LevelError,
    UsageError,
    make_parser,
    parse,
    parse_memory,
    run_settings,
)
from bids_app.errors import ExitCode, SettingsError
from bids_app.settings import Settings, flags, resolve

BASE = ['raw', 'out', 'participant']

CONVENTIONAL = (
    '--participant-label', '--session-label', '--task-id', '--bids-filter-file', '--derivatives',
    '-d', '--work-dir', '-w', '--keep-work', '--nprocs', '--omp-nthreads', '--mem',
    '--skip-bids-validation', '--config-file', '--dry-run', '--reports-only',
    '--stop-on-first-crash', '--write-graph', '--nipype-plugin-file', '--random-seed', '--ignore',
    '-v', '--version', '--baseline', '--contrasts', '--condition-entity', '--fwhm', '--atlas',
    '--output-spaces', '--metadata-overrides', '--cbv-model', '--preset', '--set', '--force',
    '--sloppy',
)  # fmt: skip


def run_of(*arguments):
    argv = [*BASE, *arguments]
    return run_settings(parse(argv)[0], argv)


def settings_of(*arguments):
    return parse([*BASE, *arguments])[1]


def test_options_have_their_conventional_names():
    known = {name for action in make_parser()._actions for name in action.option_strings}
    assert set(CONVENTIONAL) <= known


def test_switches_are_off_unless_given():
    assert 'anatomy.sloppy' not in settings_of()
    assert settings_of('--sloppy') == {'anatomy.sloppy': True}
    assert settings_of('--set', 'anatomy.sloppy=false') == {'anatomy.sloppy': False}


def test_every_option_has_help():
    assert not [action.dest for action in make_parser()._actions if not action.help]


def test_nothing_given_is_the_defaults():
    assert settings_of() == {}
    assert resolve(command_line=settings_of()) == Settings()


@pytest.mark.parametrize(
    ('dashes', 'underscores'),
    [
        (['--participant-label', '01'], ['--participant_label', '01']),
        (['--cbv-model=grubb'], ['--cbv_model=grubb']),
        (['--omp-nthreads', '2'], ['--omp_nthreads', '2']),
        (['--skip-bids-validation'], ['--skip_bids_validation']),
        (['--condition-entity', 'ses'], ['--condition_entity', 'ses']),
    ],
)
def test_underscores_are_accepted_for_dashes(dashes, underscores):
    assert settings_of(*dashes) == settings_of(*underscores)
    one, other = run_of(*dashes), run_of(*underscores)
    for name in ('participants', 'omp_nthreads', 'skip_bids_validation'):
        assert getattr(one, name) == getattr(other, name)


def test_underscores_in_values_stay():
    assert settings_of('--set', 'perfusion.t1_blood=1.6') == {'perfusion.t1_blood': 1.6}
    assert run_of('--work_dir=a_b').work_dir == Path.cwd() / 'a_b'


def test_prefixes_of_labels_are_optional_and_repeats_fall_away():
    run = run_of('--participant-label', 'sub-01', '02', '01', '--session-label', 'ses-a',
                 '--task-id', 'task-x')  # fmt: skip
    assert (run.participants, run.sessions, run.tasks) == (('01', '02'), ('a',), ('x',))


def test_folders_are_made_absolute_and_the_command_is_kept():
    run = run_of('--dry-run')
    assert run.bids_dir == Path.cwd() / 'raw'
    assert run.command == ('oxybold', *BASE, '--dry-run')
    assert run.dry_run


@pytest.mark.parametrize(
    ('text', 'name', 'value'),
    [
        ('perfusion.background_suppression_factor=0.815', None, 0.815),
        ('anatomy.random_seed=7', None, 7),
        ('blood_volume.model=none', None, 'none'),
        ('contrasts=a-b,c-b', None, ('a-b', 'c-b')),
        ('baseline=a=b', None, 'a=b'),
    ],
)
def test_any_setting_by_its_dotted_name(text, name, value):
    name = text.partition('=')[0]
    assert settings_of('--set', text) == {name: value}
    assert type(settings_of('--set', text)[name]) is type(value)


def test_several_settings_at_once_and_again():
    given = settings_of('--set', 'oxygen.hct=0.4', 'change.fwhm=6', '--set', 'oxygen.sao2=0.97')
    assert given == {'oxygen.hct': 0.4, 'change.fwhm': 6.0, 'oxygen.sao2': 0.97}


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--set', 'oxygen.htc=0.4'], 'did you mean oxygen.hct'),
        (['--set', 'oxygen.hct'], 'NAME=VALUE'),
        (['--set', 'oxygen.hct=much'], 'expected a number'),
        (['--set', 'anatomy.sloppy=much'], 'expected true or false'),
        (['--hct', 'much'], '--hct'),
        (['--cbv-model', 'guess'], 'guess'),
        (['--particpant-label', '01'], 'particpant-label'),
        (['--participant', '01'], '--participant'),
        (['--nprocs', '0'], 'not a number above 0'),
        (['--nprocs', 'many'], '--nprocs'),
        (['--mem', '0'], 'not an amount of memory'),
        (['--mem', '8Q'], 'not an amount of memory'),
        (['--preset', 'magic'], 'magic'),
    ],
)
def test_what_cannot_be_understood_is_an_error_of_usage(arguments, said):
    with pytest.raises(SettingsError, match=said) as caught:
        parse([*BASE, *arguments])
    assert caught.value.exit_code == ExitCode.USAGE


def test_unknown_level_has_its_own_code():
    with pytest.raises(LevelError, match="'session'") as caught:
        parse(['raw', 'out', 'session'])
    assert caught.value.exit_code == ExitCode.UNKNOWN_LEVEL
    with pytest.raises(UsageError, match='required'):
        parse(['raw', 'out'])


@pytest.mark.parametrize(
    ('text', 'megabytes'),
    [('8000', 8000), ('8G', 8000), ('8GB', 8000), ('512M', 512), ('1.5g', 1500), ('2T', 2e6),
     ('4000000K', 4000), (' 16 G ', 16000)],
)  # fmt: skip
def test_memory_is_in_megabytes_or_with_a_suffix(text, megabytes):
    assert parse_memory(text) == pytest.approx(megabytes)


@given(st.text(alphabet='-+eEkKmMgGtTbBxX .', max_size=6))
def test_memory_without_a_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_memory(text)


def test_memory_and_processes_default_to_what_this_process_may_use():
    run = run_of()
    assert run.memory_mb == memory_limit() > 0
    assert run.nprocs == processor_limit()
    assert run_of('--mem', '3G', '--n-cpus', '5').memory_mb == 3000


def test_derivatives_are_named(tmp_path):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
    run = run_of('-d', f'fmriprep={tmp_path}/one', '-d', f'{tmp_path}/two')
    assert run.derivatives == {'fmriprep': tmp_path / 'one', 'two': tmp_path / 'two'}
    with pytest.raises(SettingsError, match='twice'):
        run_of('-d', f'a={tmp_path}/one', f'a={tmp_path}/two')
    with pytest.raises(SettingsError, match='there is no folder'):
        run_of('-d', f'a={tmp_path}/none')


@pytest.mark.parametrize('content', [None, '{', '[]', '{"asl": 3}'])
def test_filter_file_that_is_none_is_an_error_of_usage(content, tmp_path):
    path = tmp_path / 'filter.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match='--bids-filter-file'):
        run_of('--bids-filter-file', str(path))


def test_filter_file_keeps_null(tmp_path):
    path = tmp_path / 'filter.json'
    path.write_text('{"asl": {"acquisition": null}}')
    filters = run_of('--bids-filter-file', str(path)).bids_filters
    assert filters == {'asl': {'acquisition': None}}


def test_no_option_is_that_of_two_settings():
    assert len(set(flags().values())) == len(flags()) > 20


def test_former_name_of_a_model_is_refused_with_the_new_one():
    with pytest.raises(UsageError, match="'published' is now called 'epp2025'"):
        parse(['in', 'out', 'participant', '--oef-model', 'published'])
