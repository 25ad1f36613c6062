"""A first look writes settings that are the defaults, the gaps of the sidecars, and commands."""

import re
import shlex

import pytest

from bids_app.cli.main import main
from bids_app.cli.parser import parse
from bids_app.settings import Settings, declarations, flatten, resolve
from bids_app.workflows.start import COMMANDS, METADATA, SETTINGS


@pytest.fixture
def looked(full, tmp_path, capsys):
    full.edit('*_bold.json', RepetitionTime=None)
    folder = tmp_path / 'start'
    code = main(['init', str(full.root), str(folder)])
    assert code == 0
    return folder, capsys.readouterr().out


def test_every_setting_is_there_at_its_default_with_its_meaning(looked):
    folder, _ = looked
    assert resolve(config_file=folder / SETTINGS) == Settings()
    text = (folder / SETTINGS).read_text()
    assert '# conditions found: control, calc' in text
    free = re.sub(r'^# (\w+ = )', r'\1', text, flags=re.MULTILINE)
    (folder / 'free.toml').write_text(free)
    assert flatten(resolve(config_file=folder / 'free.toml')) == flatten(Settings())
    assert len(re.findall(r'^# (?:\w+ = |\w+: made from)', text, re.MULTILINE)) == len(
        declarations()
    )


def test_what_sidecars_lack_is_to_be_filled_in(looked):
    folder, said = looked
    text = (folder / METADATA).read_text()
    assert 'role = "bold"' in text
    assert 'RepetitionTime = "?"' in text
    assert 'participant(s)' in said
    last = f'next: fill in {folder / METADATA}, then sh {folder / COMMANDS}'
    assert said.splitlines()[-1] == last


def test_commands_are_read_by_the_command_line(looked, full):
    folder, _ = looked
    lines = [
        line for line in (folder / COMMANDS).read_text().splitlines() if line.startswith('oxy')
    ]
    assert len(lines) == 4
    for line in lines:
        options, _ = parse(shlex.split(line)[1:])
        assert options.bids_dir == full.root.resolve()
    assert '--dry-run' in lines[0]


def test_nothing_is_overwritten(looked, full, capsys):
    folder, _ = looked
    before = (folder / SETTINGS).read_bytes()
    assert main(['init', str(full.root), str(folder)]) == 64
    assert 'exists; remove it' in capsys.readouterr().err
    assert (folder / SETTINGS).read_bytes() == before
