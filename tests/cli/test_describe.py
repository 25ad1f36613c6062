"""The short help fits a screen; the descriptor and the completion follow the parser."""

import json
import re
import shutil
import subprocess

import pytest

from bids_app.cli.main import main
from bids_app.cli.parser import make_parser


def said(capsys, option):
    assert main([option]) == 0
    return capsys.readouterr().out


def test_help_fits_a_screen_and_names_the_rest(capsys):
    lines = said(capsys, '--help').splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    everything = said(capsys, '--help-all')
    for option in re.findall(r'^  (--[a-z-]+)', '\n'.join(lines), flags=re.MULTILINE):
        assert option in everything
    assert '--fwhm' in everything


def test_the_descriptor_has_every_argument_once(capsys):
    descriptor = json.loads(said(capsys, '--bids-exec-spec'))
    keys = [one['value-key'] for one in descriptor['inputs']]
    assert descriptor['command-line'].split()[1:] == keys
    assert len(set(keys)) == len(keys)
    flags = {one.get('command-line-flag') for one in descriptor['inputs']} - {None}
    options = {max(action.option_strings, key=len) for action in make_parser()._actions
               if action.option_strings}  # fmt: skip
    silent = {'--help', '--help-all', '--completion', '--bids-exec-spec', '--version'}
    assert flags == options - silent
    level = next(one for one in descriptor['inputs'] if one['id'] == 'level')
    assert level['value-choices'] == ['participant', 'group']


def test_the_descriptor_is_valid(capsys, tmp_path):
    validator = pytest.importorskip('boutiques.validator', reason='boutiques is not installed')
    path = tmp_path / 'oxybold.json'
    path.write_text(said(capsys, '--bids-exec-spec'))
    assert validator.validate_descriptor(str(path))['name'] == 'oxybold'


@pytest.mark.skipif(shutil.which('bash') is None, reason='bash is not installed')
@pytest.mark.parametrize(('words', 'expected'), [
    ('oxybold in out participant --preset recom', ['recommended']),
    ('oxybold in out participant --participant-l', ['--participant-label']),
    ('oxybold in out gr', ['group']),
    ('oxybold ini', ['init']),
])  # fmt: skip
def test_the_shell_completes(capsys, tmp_path, words, expected):
    count = len(words.split()) - 1
    script = (
        f'{said(capsys, "--completion")}\nCOMP_WORDS=({words}); COMP_CWORD={count}; _oxybold\n'
        'echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, cwd=tmp_path,
                          check=True)  # fmt: skip
    assert done.stdout.split() == expected
