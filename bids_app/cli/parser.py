"""The command line, made from the fields of the settings; imports nothing heavy."""

from __future__ import annotations

import argparse
import dataclasses
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import bids_app
from bids_app.cli.describe import boutiques, completion, said_once, short_help
from bids_app.cli.limits import memory_limit, processor_limit
from bids_app.errors import ExitCode, SettingsError
from bids_app.settings import RunSettings, Settings, field_of, flags, flatten, presets

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBERS: dict[Any, type] = {float: float, float | None: float, int: int}
"""Type of a setting -> how its text is read."""

LEVELS = ('participant', 'group')


class UsageError(SettingsError):
    """The command line cannot be understood."""


class LevelError(UsageError):
    """The analysis level is not known."""

    exit_code = ExitCode.UNKNOWN_LEVEL


class Parser(argparse.ArgumentParser):
    """An argument parser that raises our error (exit code 64) instead of leaving with 2."""

    def error(self, message: str) -> NoReturn:
        """Raise; the program prints and exits in one place."""
        msg = f'{message} (oxybold --help-all lists the options)'
        raise UsageError(msg)


def make_parser() -> argparse.ArgumentParser:
    """
    Make the parser of the participant and group levels.

    Spellings with underscores are accepted too.
    """
    parser = Parser(
        prog='oxybold',
        description='Oxygen metabolism from quantitative BOLD and ASL, with its uncertainty, and '
        'concordance labels of BOLD and CMRO2 changes. A BIDS App.',
        epilog='Exit codes: 0 done, 1 some participant failed or lost a branch, 16 the dataset '
        'is not BIDS, 17 unknown level, 18 nothing selected, 64 usage, 65 bad input data, '
        '66 unreadable input, 70 program error, 73 cannot write the output, 74 disk full, '
        '75 interrupted.',
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add('-h', '--help', action=said_once(short_help), help='what is often used')
    add('--help-all', action='help', help='all options')
    add('--completion', action=said_once(completion), help='completion for bash and zsh')
    add('--bids-exec-spec', action=said_once(boutiques), help='description for programs, as JSON')
    add('bids_dir', type=Path, help='BIDS dataset; only read')
    add('output_dir', type=Path, help='derivatives; BIDS_DIR/derivatives/NAME or outside BIDS_DIR')
    add('level', metavar='{participant,group}', help='analysis level')
    add('--version', action='version', version=f'oxybold {bids_app.__version__}')
    _add_selection(parser)
    _add_execution(parser)
    _add_models(parser)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose what is read."""
    group = parser.add_argument_group('which data')
    add = group.add_argument
    add('--participant-label', nargs='+', default=[], metavar='LABEL',
        help='participants, with or without sub-; default all')  # fmt: skip
    add('--session-label', nargs='+', default=[], metavar='LABEL',
        help='sessions, with or without ses-; default all')  # fmt: skip
    add('-t', '--task-id', nargs='+', default=[], metavar='TASK', help='BOLD tasks; default all')
    add('--bids-filter-file', type=Path, metavar='FILE',
        help='JSON: role to entities, null means absent')  # fmt: skip
    add(
        '-d',
        '--derivatives',
        nargs='+',
        action='extend',
        default=[],
        metavar='NAME=PATH',
        help='derivatives to use: fmriprep=PATH, aslprep=PATH, tedana=PATH; group: maps=PATH',
    )
    add('--metadata-overrides', type=Path, metavar='FILE',
        help='TOML with metadata that the sidecars lack')  # fmt: skip
    add('--input-map', metavar='FILE',
        help='TOML that gives files their roles where the dataset is not laid out as BIDS, or '
        'ds004873, which --preset epp2025 uses where the dataset has that layout')  # fmt: skip
    add('--skip-bids-validation', action='store_true',
        help='accepted for compatibility; the app checks the files it uses')  # fmt: skip


def _add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how to run."""
    group = parser.add_argument_group('how to run')
    add = group.add_argument
    add('-w', '--work-dir', type=Path, help='intermediate files; default OUTPUT/.oxybold/work')
    add('--keep-work', action='store_true', help='keep intermediate files after success')
    add('--trust-work-dir', action='store_true',
        help='use a work directory of somebody else, or one that all may write to')  # fmt: skip
    add('--nprocs', '--n-cpus', type=_positive_int, default=None,
        help='processes; default the processors this process may use')  # fmt: skip
    add('--omp-nthreads', type=_positive_int, default=1,
        help='threads per process; above 1 results are not bit-identical')  # fmt: skip
    add('--mem', type=parse_memory, default=None, metavar='MB',
        help='memory limit in MB, or with K, M, G, T; default that of the cgroup')  # fmt: skip
    add('--low-mem', action='store_true',
        help='one step at a time, each in a process that gives its memory back')  # fmt: skip
    add('--nipype-plugin-file', type=Path, metavar='FILE',
        help='YAML: plugin and plugin_args of nipype')  # fmt: skip
    add('--dry-run', action='store_true',
        help='print which maps can be made from which files, and stop')  # fmt: skip
    add('--json', dest='as_json', action='store_true', help='with --dry-run: print it as JSON')
    add('--replay', nargs='*', default=None, metavar='NAME=VALUE',
        help='BIDS_DIR is the output of an earlier run: recompute its maps, changes and labels '
        'with these constants, without fitting anew')  # fmt: skip
    add('--multiverse', nargs='*', default=None, metavar='NAME=VALUE,VALUE',
        help='with or in place of --replay: a table of sign rule and pi_d for all combinations '
        'of these values; without any: routes, rules of blood volume, limits, gates')  # fmt: skip
    add('--reports-only', action='store_true', help='make the reports anew from the derivatives')
    add('--stop-on-first-crash', action='store_true', help='stop at the first error')
    add('--write-graph', action='store_true', help='write the graph to logs/')
    add('--force', action='store_true', help='write into the output of another version')
    add('-v', '--verbose', action='count', default=0, help='more messages')


def _add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options that change numbers: one per flag of the table."""
    group = parser.add_argument_group('what to compute')
    group.add_argument('--config-file', type=Path, metavar='FILE', help='TOML with settings')
    group.add_argument('--preset', choices=tuple(presets()), help='named set of settings')
    group.add_argument('--set', nargs='+', action='extend', default=[], metavar='NAME=VALUE',
                       help='any setting by its dotted name')  # fmt: skip
    defaults = flatten(Settings())
    for name, flag in flags().items():
        declaration, annotation = field_of(name)
        options: dict[str, Any] = {'dest': f'set_{name}', 'default': None}
        metadata = declaration.metadata
        if metadata['choices'] == ('no', 'yes'):
            group.add_argument(
                flag, action='store_const', const='yes', help=metadata['help'], **options
            )
            continue
        if annotation == tuple[str, ...]:
            options['nargs'] = '+'
        elif annotation in NUMBERS:
            options['type'] = NUMBERS[annotation]
        if metadata['choices']:
            options['choices'] = metadata['choices']
            options['type'] = partial(_name_of_today, metadata['former_choices'])
        default = defaults[name]
        unit = f', {metadata["unit"]}' if metadata['unit'] else ''
        shown = f' (default {default}{unit})' if default not in (None, ()) else unit
        options['help'] = f'{metadata["help"]}{shown}'.replace('%', '%%')
        if annotation is bool:
            options |= {'action': 'store_true', 'help': metadata['help']}
        elif not metadata['choices']:
            options['metavar'] = 'A-B' if name == 'contrasts' else 'VALUE'
        group.add_argument(flag, **options)


def _name_of_today(former: Mapping[str, str], value: str) -> str:
    """Refuse the name that a value once had, and say the new one."""
    if value in former:
        msg = f'{value!r} is now called {former[value]!r}'
        raise argparse.ArgumentTypeError(msg)
    return value


def parse_status(argv: list[str]) -> argparse.Namespace:
    """
    Parse the command line of ``oxybold status``.

    Raises
    ------
    UsageError
        For unknown options, or without a folder.
    """
    parser = Parser(
        prog='oxybold status',
        description='Say how far the participants of an output are, and what is left and why.',
        allow_abbrev=False,
    )
    parser.add_argument('output_dir', type=Path, help='output of the participant level')
    parser.add_argument('--json', action='store_true', help='as JSON, for programs')
    return parser.parse_args(argv)


def parse_init(argv: list[str]) -> tuple[RunSettings, Path]:
    """
    Parse the command line of ``oxybold init``.

    A dry run of all participants, with the derivatives of fMRIPrep and ASLPrep found; and the
    folder where the files go.

    Raises
    ------
    UsageError
        For unknown options, or without a dataset.
    """
    parser = Parser(
        prog='oxybold init',
        description='Look at a dataset and write commented settings, the metadata that is '
        'missing, with blanks, and the commands to run. Nothing is written into the dataset.',
        allow_abbrev=False,
    )
    parser.add_argument('bids_dir', type=Path, help='BIDS dataset; only read')
    parser.add_argument('folder', type=Path, nargs='?', default=Path(), help='where the files '
                        'go; default this folder')  # fmt: skip
    options = parser.parse_args(argv)
    bids_dir = options.bids_dir.resolve()
    derivatives = bids_dir / 'derivatives'
    found = [f'{name}={derivatives / name}' for name in USED if (derivatives / name).is_dir()]
    line = [str(bids_dir), str(derivatives / 'oxybold'), 'participant', '--dry-run']
    line += ['--derivatives', *found] if found else []
    return run_settings(parse(line)[0], line), options.folder


USED = ('fmriprep', 'aslprep', 'tedana')
"""Derivatives that a first look takes along where they are."""


def _positive_int(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        msg = f'{text} is not a number above 0'
        raise argparse.ArgumentTypeError(msg)
    return number


def parse_memory(text: str) -> float:
    """
    Read an amount of memory: MB, or with a suffix K, M, G or T.

    Examples
    --------
    >>> parse_memory('8G'), parse_memory('512'), parse_memory('2048K')
    (8000.0, 512.0, 2.048)
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)B?', text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        msg = f'{text!r} is not an amount of memory such as 8000, 8G or 512M'
        raise argparse.ArgumentTypeError(msg)
    factor = {'K': 1e-3, '': 1.0, 'M': 1.0, 'G': 1e3, 'T': 1e6}[match[2].upper()]
    return float(match[1]) * factor


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """
    Parse a command line.

    Give the options, and of every setting that was given the dotted name and value.

    Raises
    ------
    UsageError
        For unknown options or values.
    LevelError
        For an unknown analysis level.
    """
    options = make_parser().parse_args([_with_dashes(argument) for argument in argv])
    if options.level not in LEVELS:
        msg = f'unknown analysis level {options.level!r}: expected participant or group'
        raise LevelError(msg)
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name in flags()
        if (value := getattr(options, f'set_{name}')) is not None
    }
    values |= _named_values('--set', options.set)
    if options.as_json and not options.dry_run:
        msg = '--json is a form of the dry run; add --dry-run'
        raise UsageError(msg)
    if options.multiverse is not None:
        options.multiverse = _named_lists('--multiverse', options.multiverse)
        options.replay = options.replay or []
    if options.replay is not None:
        _check_replay(options, values)
        options.replay = _named_values('--replay', options.replay)
    return options, values


def _named_values(option: str, items: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs in the types of their settings."""
    values = {}
    for item in items:
        name, separator, text = item.partition('=')
        if not separator:
            msg = f'{option} expects NAME=VALUE, got {item!r}'
            raise UsageError(msg)
        values[name] = _typed(option, name, text)
    return values


def _named_lists(option: str, items: list[str]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Read NAME=VALUE,VALUE in the types of their settings."""
    lists = []
    for item in items:
        name, _, texts = item.partition('=')
        each = [_named_values(option, [f'{name}={text}']) for text in texts.split(',') if text]
        if not each:
            msg = f'{option} expects NAME=VALUE,VALUE, got {item!r}'
            raise UsageError(msg)
        lists.append((name, tuple(value for pair in each for value in pair.values())))
    return tuple(lists)


def _check_replay(options: argparse.Namespace, values: dict[str, Any]) -> None:
    """Refuse what a replay does not read: its settings are those of the earlier run."""
    given = [option for option, is_given in (
        ('--preset', options.preset), ('--config-file', options.config_file),
        ('--set and the options of models', values), ('--derivatives', options.derivatives),
        ('--input-map', options.input_map), ('--bids-filter-file', options.bids_filter_file),
        ('--metadata-overrides', options.metadata_overrides), ('--task-id', options.task_id),
        ('--reports-only', options.reports_only), ('level group', options.level == 'group'),
    ) if is_given]  # fmt: skip
    if given:
        msg = (
            f'--replay takes the settings of the earlier run, so it cannot be combined with '
            f'{given[0]}; write what is to change as --replay NAME=VALUE'
        )
        raise UsageError(msg)


def _with_dashes(argument: str) -> str:
    """Accept --participant_label for --participant-label."""
    if not argument.startswith('--'):
        return argument
    name, separator, value = argument.partition('=')
    return name.replace('_', '-') + separator + value


def _typed(option: str, name: str, text: str) -> Any:
    """Read a value in the type of its setting."""
    _, annotation = field_of(name)
    if annotation == tuple[str, ...]:
        return tuple(text.split(','))
    if annotation not in (bool, int, float, float | None, tuple[float, ...]):
        return text
    try:
        if annotation == tuple[float, ...]:
            return tuple(map(float, text.split(',')))
        if annotation is bool:
            return ('false', 'true').index(text) == 1
        return int(text) if annotation is int else float(text)
    except ValueError as error:
        expected = 'true or false' if annotation is bool else 'a number'
        msg = f'{option} {name}={text}: expected {expected}'
        raise UsageError(msg) from error


def run_settings(options: argparse.Namespace, argv: list[str]) -> RunSettings:
    """
    Make the settings that change no number.

    Raises
    ------
    SettingsError
        If a derivative or filter file cannot be used.
    """
    fields = {item.name for item in dataclasses.fields(RunSettings)}
    same = {name: value for name, value in vars(options).items() if name in fields}
    return RunSettings(
        **same
        | {
            'bids_dir': options.bids_dir.absolute(),
            'output_dir': options.output_dir.absolute(),
            'work_dir': options.work_dir.absolute() if options.work_dir else None,
            'participants': _labels(options.participant_label, 'sub-'),
            'sessions': _labels(options.session_label, 'ses-'),
            'tasks': _labels(options.task_id, 'task-'),
            'bids_filters': _filters(options.bids_filter_file),
            'derivatives': _derivatives(options.derivatives),
            'nprocs': options.nprocs or processor_limit(),
            'memory_mb': options.mem or memory_limit(),
            'plugin_file': options.nipype_plugin_file,
            'command': ('oxybold', *argv),
        }
    )


def _labels(labels: list[str], prefix: str) -> tuple[str, ...]:
    """Remove prefixes and repetitions, keep the order."""
    return tuple(dict.fromkeys(label.removeprefix(prefix) for label in labels))


def _filters(path: Path | None) -> dict[str, Any]:
    """Read the filter file."""
    if path is None:
        return {}
    import json

    try:
        filters = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        msg = f'--bids-filter-file {path} cannot be read as JSON: {error}'
        raise SettingsError(msg) from error
    if not isinstance(filters, dict) or not all(isinstance(v, dict) for v in filters.values()):
        msg = f'--bids-filter-file {path} should map roles to entities'
        raise SettingsError(msg)
    return filters


def _derivatives(items: list[str]) -> dict[str, Path]:
    """Read NAME=PATH pairs."""
    found: dict[str, Path] = {}
    for item in items:
        name, separator, path = item.partition('=')
        if not separator:
            name, path = Path(item).name, item
        if name in found:
            msg = f'--derivatives names {name!r} twice; give each dataset its own NAME=PATH'
            raise SettingsError(msg)
        if not Path(path).is_dir():
            msg = f'--derivatives {item}: there is no folder {path}'
            raise SettingsError(msg)
        found[name] = Path(path).absolute()
    return found
