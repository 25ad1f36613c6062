"""A first look at a dataset: settings with comments, metadata to fill in, commands to run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from bids_app.bids.output.write import atomic_write
from bids_app.errors import SettingsError
from bids_app.settings import Settings, declarations, flatten
from bids_app.workflows.dry_run import make_preview, suggest_overrides, summarise_preview

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bids_app.settings import RunSettings

SETTINGS, METADATA, COMMANDS = 'oxybold.toml', 'oxybold-metadata.toml', 'oxybold-run.sh'
"""What is written."""


def start(run: RunSettings, folder: Path) -> str:
    """
    Look at a dataset and write what a first run needs.

    Raises
    ------
    SettingsError
        If one of the files is there already.
    """
    for name in (SETTINGS, METADATA, COMMANDS):
        if (folder / name).exists():
            msg = f'{folder / name} exists; remove it, or name another folder after BIDS_DIR'
            raise SettingsError(msg)
    remark, participants = '', []
    try:
        participants = make_preview(run, Settings()).participants
    except SettingsError as error:  # such as conditions without a baseline: to be set
        remark = str(error)
    missing = suggest_overrides(participants)
    contents = {
        SETTINGS: _settings(participants, remark),
        COMMANDS: _commands(run, folder, participants, has_metadata=bool(missing)),
    }
    if missing:
        contents[METADATA] = f'{HOW_TO_FILL}\n\n{missing}\n'
    for name, content in contents.items():
        atomic_write(folder / name, content.encode())
    return '\n'.join(_told(participants, remark, [str(folder / name) for name in contents])) + '\n'


HOW_TO_FILL = """\
# Put true values in the place of every "?" (times in s), and where you have them from as source.
# Take out what you do not know; the dry run says what cannot be made then."""


def _told(
    participants: Sequence[dict[str, Any]], remark: str, written: Sequence[str]
) -> Iterator[str]:
    """Say what was found."""
    summary = summarise_preview(participants)
    yield f'{summary["participants"]} participant(s)'
    for name, count in summary['maps'].items():
        yield f'  {name}: {count} of {summary["participants"]}'
    for one in summary['reasons']:
        yield f'  not made for {one["participants"]}: {one["reason"]}'
    if remark:
        yield f'to be set first: {remark}'
    yield f'written: {", ".join(written)}'
    fill = [f'fill in {name}, then' for name in written if name.endswith(METADATA)]
    (script,) = (name for name in written if name.endswith(COMMANDS))
    yield f'next: {"".join(f"{one} " for one in fill)}sh {shlex.quote(script)}'


def _settings(participants: Sequence[dict[str, Any]], remark: str) -> str:
    """Write every setting at its default as a comment with what it means."""
    units = [unit for one in participants for unit in one['units']]
    lines = [
        '# Settings of oxybold. Take the # from a line to change it; all others stay default.'
    ]
    for what in ('conditions', 'contrasts'):
        found = dict.fromkeys(name for unit in units for name in unit[what])
        lines += [f'# {what} found: {", ".join(found)}'] if found else []
    lines += [f'# To be set: {remark}'] if remark else []
    defaults, table = flatten(Settings()), ''
    known = sorted(declarations().items(), key=lambda item: '.' in item[0])  # tables come last
    for name, (declaration, _) in known:
        branch, _, last = name.rpartition('.')
        if branch != table:
            lines += ['', f'[{branch}]']
            table = branch
        lines += ['', f'# {_meaning(declaration.metadata)}', f'# {_line(last, defaults[name])}']
    return '\n'.join(lines) + '\n'


def _meaning(about: Any) -> str:
    """Say what a setting is, with its unit and choices."""
    unit = f', {about["unit"]}' if about['unit'] else ''
    choices = f'; one of {", ".join(about["choices"])}' if about['choices'] else ''
    return f'{about["help"]}{unit}{choices}'


def _line(name: str, default: Any) -> str:
    """Write a setting as a line of TOML; its numbers, texts and lists are those of JSON."""
    if default is None:
        return f'{name}: made from the data unless set'
    return f'{name} = {json.dumps(default, ensure_ascii=False)}'


def _commands(
    run: RunSettings, folder: Path, participants: Sequence[dict[str, Any]], *, has_metadata: bool
) -> str:
    """Write the commands from the dry run to the group."""
    words = ['oxybold', str(run.bids_dir), str(run.output_dir)]
    options = ['--config-file', str(folder / SETTINGS)]
    options += ['--metadata-overrides', str(folder / METADATA)] if has_metadata else []
    given = [f'{name}={path}' for name, path in run.derivatives.items()]
    options += ['--derivatives', *given] if given else []
    first = participants[0]['participant'] if participants else 'LABEL'
    steps = {
        'what can be made, and why the rest cannot; writes nothing': ['participant', *options,
                                                                     '--dry-run'],
        'one participant': ['participant', *options, '--participant-label', first],
        'all; those that are finished are skipped': ['participant', *options],
        'the group': ['group'],
    }  # fmt: skip
    text = '#!/bin/sh\nset -e\n'
    text += f'\n# fill in {folder / METADATA} first\n' if has_metadata else ''
    for title, arguments in steps.items():
        text += f'\n# {title}\n{shlex.join([*words, *arguments])}\n'
    return text
