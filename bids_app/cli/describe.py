"""The command line described: a help that fits a screen, for other programs, for the shell."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import bids_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

OFTEN = (
    '--participant-label', '--derivatives', '--metadata-overrides', '--config-file', '--preset',
    '--baseline', '--contrasts', '--nprocs', '--dry-run', '--replay', '--help-all',
)  # fmt: skip
"""Options that the short help names."""

SHORT = """\
usage: oxybold BIDS_DIR OUTPUT_DIR {participant,group} [options]
       oxybold init BIDS_DIR      look at a dataset, write settings and commands
       oxybold status OUTPUT_DIR  say how far a study is
       oxybold --self-test        compute a digital study, compare with truth

Oxygen metabolism from quantitative BOLD and ASL with its uncertainty, and
labels of where BOLD and CMRO2 agree. A BIDS App; BIDS_DIR is only read.

often used:
"""

WIDTH = 32
"""Columns of the names of options in the short help."""


def said_once(write: Callable[[argparse.ArgumentParser], str]) -> type[argparse.Action]:
    """Make an option that writes a text about the command line and ends the program."""

    class Say(argparse.Action):
        def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
            super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
            sys.stdout.write(write(parser))
            parser.exit()

    return Say


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """List the arguments of a run; not those that only say something."""
    for action in parser._actions:
        if action.default is not argparse.SUPPRESS:
            yield action


def short_help(parser: argparse.ArgumentParser) -> str:
    """Write the help that fits a screen of 24 lines."""
    by_name = {name: action for action in parser._actions for name in action.option_strings}
    lines = []
    for name in OFTEN:
        action = by_name[name]
        takes = '' if action.nargs == 0 else f' {action.metavar or "VALUE"}'
        if action.choices:
            takes = f' {{{",".join(map(str, action.choices))}}}'
        text = re.split(r'[;:,(]', action.help or '')[0].strip()
        lines.append(f'  {name + takes:{WIDTH}}{text}')
    return SHORT + '\n'.join(lines) + '\n'


def boutiques(parser: argparse.ArgumentParser) -> str:
    """
    Describe the command line for programs that run tools, as JSON.

    Notes
    -----
    Schema 0.5 of Boutiques (Glatard et al., GigaScience 7:giy016, 2018), which the draft of the
    execution specification of BIDS asks of an app.
    """
    actions = list(options_of(parser))
    inputs = [_input(action) for action in actions]
    descriptor = {
        'name': 'oxybold',
        'tool-version': bids_app.__version__,
        'schema-version': '0.5',
        'description': parser.description,
        'command-line': 'oxybold ' + ' '.join(one['value-key'] for one in inputs),
        'inputs': inputs,
        'output-files': [
            {
                'id': 'output',
                'name': 'derivatives',
                'path-template': '[OUTPUT_DIR]',
                'description': 'BIDS derivatives with reports',
            }
        ],
        'tags': {'domain': ['neuroinformatics', 'mri', 'perfusion', 'fmri']},
    }
    return json.dumps(descriptor, indent=2) + '\n'


def _input(action: argparse.Action) -> dict[str, Any]:
    """Describe one argument."""
    name = action.dest.removeprefix('set_').replace('.', '_')
    key = f'[{name.upper()}]'
    flag = max(action.option_strings, key=len, default='')
    is_list = action.nargs in ('+', '*')
    about: dict[str, Any] = {
        'id': name,
        'name': name.replace('_', ' '),
        'type': _type(action),
        'value-key': key,
        'optional': bool(flag),
        'description': (action.help or '').replace('%%', '%'),
    }
    if flag:
        about['command-line-flag'] = flag
    if is_list:
        about |= {'list': True, 'min-list-entries': 1 if action.nargs == '+' else 0}
    if action.dest == 'level':
        about['value-choices'] = ['participant', 'group']
    elif action.choices:
        about['value-choices'] = list(action.choices)
    return about


def _type(action: argparse.Action) -> str:
    """Give the type of an argument in the words of Boutiques."""
    if action.nargs == 0:
        return 'Flag'
    if action.type in (int, float):
        return 'Number'
    is_file = getattr(action.type, '__name__', '') == 'Path' and action.dest != 'output_dir'
    return 'File' if is_file else 'String'


def completion(parser: argparse.ArgumentParser) -> str:
    """Write the completion for bash; zsh reads it after ``bashcompinit``."""
    actions = list(options_of(parser))
    cases = ''.join(
        f'    {"|".join(action.option_strings)}) words="{" ".join(map(str, action.choices))}" ;;\n'
        for action in actions
        if action.option_strings and action.choices
    )
    names = ' '.join(name for action in parser._actions for name in action.option_strings)
    return f"""\
# bash: eval "$(oxybold --completion)"
# zsh: autoload -U bashcompinit; bashcompinit; eval "$(oxybold --completion)"
_oxybold() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  case "$before" in
{cases}  esac
  if [ -z "$words" ]; then
    case "$word" in
      -*) words="{names}" ;;
      *) [ "$COMP_CWORD" = 1 ] && words="init status"
         [ "$COMP_CWORD" = 3 ] && words="participant group" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  case "$word" in -*) ;; *) COMPREPLY+=($(compgen -f -- "$word")) ;; esac
}}
complete -o filenames -F _oxybold oxybold
"""
