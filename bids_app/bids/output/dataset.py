"""
The output as a dataset: where it may lie, its root files, and the files all participants share.

Jobs of one study may run side by side. Files of fixed content are made by whoever comes first,
byte-equal for all; participants.tsv and index.html are rebuilt from the per-participant records
under a lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import stat
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bids_app
from bids_app.bids.output.names import output_path, row, table
from bids_app.bids.output.write import (
    atomic_write,
    create_once,
    output_error,
    remove_unfinished,
    to_json,
    tsv,
    write_json,
    write_table,
    write_text,
)
from bids_app.errors import ExitCode, OutputError, SettingsError
from bids_app.models.status import DESCRIPTIONS, Status, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bids_app.settings import RunSettings

LOGGER = logging.getLogger('oxybold')

NAME = 'oxybold'
"""Of the app in dataset_description.json."""

HIDDEN = '.oxybold'
"""Folder for lock and work; the validator does not look into dot folders."""

CONTAINER_VARIABLE = 'OXYBOLD_CONTAINER'
"""Environment variable by which an image tells its own name, as TYPE:TAG or TYPE:NAME@DIGEST."""

STATUS_COLORS = {
    Status.OK: '#FFFFFF',
    Status.OUTSIDE_MASK: '#000000',
    Status.OUTSIDE_FIELD_OF_VIEW: '#332288',
    Status.INVALID_INPUT: '#882255',
    Status.NO_SIGNAL: '#661100',
    Status.TOO_FEW_SAMPLES: '#6699CC',
    Status.NOT_CONVERGED: '#CC6677',
    Status.AT_BOUND: '#AA4499',
    Status.GRADIENT_TOO_STRONG: '#117733',
    Status.NO_BLOOD_VOLUME: '#44AA99',
    Status.NO_REFERENCE: '#999933',
    Status.EXCLUDED_VESSEL: '#BB5566',
    Status.NEGATIVE: '#88CCEE',
    Status.IMPLAUSIBLE: '#DDCC77',
    Status.LARGE_VESSEL: '#CC3311',
    Status.ARRIVAL_NOT_COVERED: '#B07AA1',
    Status.STRONG_LEAK: '#A52A2A',
    Status.LARGE_ARTERY: '#FF6F61',
    Status.LARGE_VEIN: '#4477AA',
    Status.FLUID: '#99DDFF',
    Status.INCONSISTENT_ECHOES: '#EE8866',
    Status.GRADIENT_UNCERTAIN: '#BBCC33',
    Status.CAPPED: '#FFAABB',
    Status.MOVED: '#7755BB',
}
"""Column color of the status table."""


# ------------------------------------------------------------------------------------- location


def work_dir_of(run: RunSettings) -> Path:
    """Give the folder for intermediate files: as chosen, else inside the output."""
    chosen = run.work_dir if run.work_dir is not None else run.output_dir / HIDDEN / 'work'
    return Path(chosen).expanduser().absolute()


def check_locations(run: RunSettings) -> None:
    """
    Refuse an output or work directory that would write into the input.

    At group level the input is not read and may be any folder, also the output itself.

    Raises
    ------
    SettingsError
        If the output is the input or lies in it elsewhere than in derivatives/NAME, if it is a
        file of other software, or the work directory lies in the input outside such an output.
    """
    raw, out = Path(run.bids_dir).resolve(), Path(run.output_dir).resolve()
    work = work_dir_of(run).resolve()
    is_ours = run.level == 'group' and _made_by(out) == NAME
    if not is_ours:
        _check_output_place(raw, out)
    if work == out or (work.is_relative_to(raw) and not work.is_relative_to(out)):
        msg = (
            f'the work directory {work} must lie outside of the dataset {raw} and not be the '
            f'output itself; leave -w out to use {out / HIDDEN / "work"}'
        )
        raise SettingsError(msg)


def _check_output_place(raw: Path, out: Path) -> None:
    """Apply the rule: derivatives/NAME, or outside of the dataset."""
    if not out.is_relative_to(raw):
        return
    parts = out.relative_to(raw).parts
    if len(parts) == 2 and parts[0] == 'derivatives':
        return
    where = 'is the dataset itself' if not parts else f'lies inside the dataset {raw}'
    msg = (
        f'the output folder {out} {where}, where only derivatives/NAME may be written; '
        f'use {raw / "derivatives" / NAME} or a folder outside'
    )
    raise SettingsError(msg)


def check_version(output_dir: Path, *, force: bool = False) -> None:
    """
    Refuse to mix results of different programs in one folder.

    Raises
    ------
    SettingsError
        If the folder was made by another program or another minor version of this one.
    """
    path = Path(output_dir) / output_path('dataset_description')
    if force or not path.exists():
        return
    by, version = _made_by(output_dir), _made_by(output_dir, 'Version')
    if by != NAME:
        msg = (
            f'{output_dir} holds a dataset of {by or "unknown origin"} ({path.name}), not of '
            f'{NAME}; choose another output folder, or --force'
        )
        raise SettingsError(msg)
    if _minor(version) != _minor(bids_app.__version__):
        msg = (
            f'{output_dir} was made by {NAME} {version}, this is {bids_app.__version__}; numbers '
            'of two versions must not mix: choose another output folder, or --force'
        )
        raise SettingsError(msg)


def _minor(version: str) -> str:
    """Give the first two numbers of a version."""
    return '.'.join(version.split('.')[:2])


def _is_compatible(output_dir: Path) -> bool:
    """Tell whether a folder was made by this program in this minor version."""
    version = _made_by(output_dir, 'Version')
    return _made_by(output_dir) == NAME and _minor(version) == _minor(bids_app.__version__)


def _made_by(output_dir: Path, key: str = 'Name') -> str:
    """Read an entry of the first GeneratedBy; empty where there is none."""
    path = Path(output_dir) / output_path('dataset_description')
    try:
        return str(json.loads(path.read_text('utf-8'))['GeneratedBy'][0][key])
    except (OSError, ValueError, LookupError, TypeError):
        return ''


def check_writable(folder: Path) -> None:
    """
    Make a folder and write a file into it, before hours of computing.

    Raises
    ------
    OutputError
        Exit code 73; 74 for a full disk.
    """
    folder = Path(folder)
    probe = folder / f'.write-test.{os.getpid()}.{secrets.token_hex(4)}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except OSError as error:
        raise output_error(error, folder) from error


def check_private(folder: Path, *, is_trusted: bool = False) -> None:
    """
    Refuse a folder for intermediate files that others own or may write to.

    Where files of others are protected (sticky bit, as in /tmp) it may be open to all.

    nipype keeps pickles there, and reading a pickle runs what its writer put into it.

    Raises
    ------
    SettingsError
        If somebody else could have put files there.
    """
    about, user = folder.stat(), os.geteuid()
    is_open = bool(about.st_mode & stat.S_IWOTH) and not about.st_mode & stat.S_ISVTX
    is_ours = about.st_uid in (user, 0) or user == 0
    if is_trusted or (is_ours and not is_open):
        return
    reason = 'may be written by everybody' if is_open else f'belongs to user {about.st_uid}'
    msg = (
        f'the work directory {folder} {reason}, and whoever writes there can run programs as you; '
        'use one of your own with -w, or --trust-work-dir'
    )
    raise SettingsError(msg)


def check_standing(run: RunSettings) -> None:
    """
    Assert that the output still stands: it may be deleted during a long run.

    Raises
    ------
    OutputError
        Exit code 74.
    """
    if not (run.output_dir / output_path('dataset_description')).is_file():
        error = OutputError(f'the output {run.output_dir} was deleted while the run used it')
        error.exit_code = ExitCode.IO_ERROR
        raise error


def prepare_output(run: RunSettings) -> None:
    """
    Check the output folder, and make it with its root files.

    A dry run is checked only; nothing is written.

    Raises
    ------
    SettingsError
        If it may not lie there, or was made by another version.
    OutputError
        If it cannot be written.
    """
    check_locations(run)
    check_version(run.output_dir, force=run.force)
    if run.dry_run:
        return
    check_writable(run.output_dir)
    check_writable(work_dir_of(run))
    check_private(work_dir_of(run), is_trusted=run.trust_work_dir)
    replace = run.force and not _is_compatible(run.output_dir)
    for name, content in root_files(run).items():
        if replace:
            atomic_write(run.output_dir / name, content)
        else:
            create_once(run.output_dir / name, content)


# ----------------------------------------------------------------------------------- root files


def root_files(run: RunSettings) -> dict[str, bytes]:
    """Make the files of fixed content: the same for every job, without time or participant."""
    contents = {
        output_path('dataset_description'): to_json(dataset_description(run)),
        output_path('readme'): table().readme.encode(),
        output_path('bidsignore'): ''.join(f'{line}\n' for line in table().bidsignore).encode(),
        output_path('descriptions'): _tsv('descriptions', description_rows()),
        output_path('status_table'): _tsv('status_table', status_rows()),
    }
    viewer = files('bids_app') / 'data' / 'viewer'
    for key in ('viewer', 'viewer_licence'):
        contents[output_path(key)] = (viewer / output_path(key).name).read_bytes()
    for seg in row('label_table').labels:
        contents[output_path('label_table', seg=seg)] = _tsv('label_table', label_rows(seg))
    return {str(name): content for name, content in contents.items()}


def _tsv(key: str, records: Iterable[Mapping[str, Any]]) -> bytes:
    """Make a table with the columns of its row."""
    return tsv(records, row(key).columns)


def description_rows() -> list[dict[str, str]]:
    """Give the lines of descriptions.tsv."""
    return [
        {'desc_id': f'desc-{name}', 'description': text}
        for name, text in table().descriptions.items()
    ]


def label_rows(seg: str) -> list[dict[str, Any]]:
    """Give the lines of a label table; the published sign rule knows no undetermined voxels."""
    from bids_app.models.concordance.labels import LABEL_COLORS, LABEL_NAMES, Label
    from bids_app.models.contrast.response_mode import MODE_COLORS, MODE_NAMES, Mode

    if seg == 'responseMode':
        return [
            {'index': int(mode), 'name': MODE_NAMES[mode], 'color': MODE_COLORS[mode]}
            for mode in Mode
        ]
    undetermined = (Label.UNDETERMINED_POSITIVE, Label.UNDETERMINED_NEGATIVE)
    left_out = undetermined if seg == 'concordanceSign' else ()
    return [
        {'index': int(label), 'name': LABEL_NAMES[label], 'color': LABEL_COLORS[label]}
        for label in Label
        if label not in left_out
    ]


def status_rows() -> list[dict[str, Any]]:
    """Give the lines of the table of status codes."""
    return [
        {
            'index': int(status),
            'name': status.name.lower(),
            'color': STATUS_COLORS[status],
            'description': DESCRIPTIONS[status],
            'has_value': not bool(is_missing(status)),
        }
        for status in Status
    ]


def dataset_description(run: RunSettings) -> dict[str, Any]:
    """
    Make dataset_description.json.

    With the program, its container where it runs in one, and the sources: relative paths where
    they contain the output, else addresses.
    """
    generator: dict[str, Any] = {'Name': NAME, 'Version': bids_app.__version__}
    kind, _, name = os.environ.get(CONTAINER_VARIABLE, '').partition(':')
    if kind:
        key = 'URI' if '@' in name else 'Tag'
        at = f'{kind}://{name}' if key == 'URI' else name
        generator['Container'] = {'Type': kind, **({key: at} if name else {})}
    raw = {'raw': run.bids_dir} if run.replay is None else {}
    sources = {**raw, **run.derivatives}
    links = {name: _link(Path(path), run.output_dir) for name, path in sources.items()}
    return {
        'Name': 'Oxygen metabolism maps',
        'BIDSVersion': table().bids_version,
        'DatasetType': 'derivative',
        'GeneratedBy': [generator],
        'SourceDatasets': [{'URL': link} for link in links.values()],
        'DatasetLinks': links,
    }


def _link(path: Path, output_dir: Path) -> str:
    """Give the place of a dataset: relative to an output inside it, else as an address."""
    path, out = path.resolve(), Path(output_dir).resolve()
    if out != path and out.is_relative_to(path):
        return Path(os.path.relpath(path, out)).as_posix()
    return path.as_uri()


# --------------------------------------------------------------------------------- shared files


@contextlib.contextmanager
def lock(output_dir: Path, name: str = 'shared', *, is_said: bool = True) -> Iterator[None]:
    """
    Hold a lock of the output; other jobs wait.

    A file system without locks is no reason to stop: files are replaced as a whole anyway.

    Raises
    ------
    OutputError
        If the lock file cannot be made.
    """
    import fcntl

    path = Path(output_dir) / HIDDEN / f'{name}.lock'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open('ab')
    except OSError as error:
        raise output_error(error, path) from error
    with stream:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                level = logging.INFO if is_said else logging.DEBUG
                LOGGER.log(level, '%s: another job is at work on it; waiting', name)
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def read_summaries(output_dir: Path) -> list[dict[str, Any]]:
    """Read the run summaries of participants, sorted; one that cannot be read is left out."""
    pattern = output_path('run_summary', sub='LABEL').name.replace('LABEL', '*')
    summaries = []
    for path in sorted((Path(output_dir) / 'logs').glob(pattern)):
        with contextlib.suppress(OSError, ValueError):
            summary = json.loads(path.read_text('utf-8'))
            if isinstance(summary, dict) and 'participant' in summary:
                summaries.append(summary)
    return summaries


def update_shared(
    output_dir: Path, render_index: Callable[[Path], str] | None = None
) -> tuple[Path, ...]:
    """
    Rebuild the files that all participants share, from the per-participant ones.

    participants.tsv, participants.json and index.html, whose HTML `render_index` gives; without it
    that file is left alone.

    Of jobs that end together one rebuilds for all: each leaves a request before it waits for the
    others, and whoever rebuilds takes away those that were there before it began to read.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    keys = ('participants', 'participants_json', 'index')
    requests = Path(output_dir) / HIDDEN / 'shared'
    own = requests / secrets.token_hex(8)
    try:
        requests.mkdir(parents=True, exist_ok=True)
        own.touch()
    except OSError as error:
        raise output_error(error, own) from error
    with lock(output_dir):
        if not own.exists():  # another job began to read after this one had written
            return tuple(Path(output_dir) / output_path(key) for key in keys)
        answered = list(requests.iterdir())
        for key in keys:
            remove_unfinished(Path(output_dir), output_path(key).name)
        records = participant_rows(output_dir)
        written = [
            write_table(records, output_dir=output_dir, key='participants', entities={}),
            write_json(
                participants_sidecar(),
                output_dir=output_dir,
                key='participants_json',
                entities={},
            ),
        ]
        if render_index is not None:
            html = render_index(Path(output_dir))
            written.append(write_text(html, output_dir=output_dir, key='index', entities={}))
        for one in answered if render_index is not None else (own,):
            one.unlink(missing_ok=True)
    return tuple(written)


def participants_sidecar() -> dict[str, Any]:
    """Give the content of participants.json: units are declared, as for the input."""
    columns = row('participants').columns
    words = {'description': 'Description', 'unit': 'Units'}
    return {
        name: {words[key]: text for key, text in about.items()} for name, about in columns.items()
    }


def participant_rows(output_dir: Path) -> list[dict[str, Any]]:
    """
    Give the lines of participants.tsv.

    One per participant that has a summary or a folder; what is not known is None.
    """
    summaries = {summary['participant']: summary for summary in read_summaries(output_dir)}
    folders = [path.name.removeprefix('sub-') for path in Path(output_dir).glob('sub-*/')]
    return [_participant_row(name, summaries.get(name)) for name in sorted({*summaries, *folders})]


def _participant_row(participant: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make one line from the summary of a participant."""
    summary = summary or {}
    values: dict[str, Mapping[str, Any]] = {}
    for unit in summary.get('units', []):
        for value in unit.get('values', []):
            values.setdefault(value['name'], value)
    hct, sao2 = values.get('oxygen.hct', {}), values.get('oxygen.sao2', {})
    return {
        'participant_id': f'sub-{participant}',
        'Hct': hct.get('value'),
        'Hct_source': hct.get('origin'),
        'SaO2': sao2.get('value'),
        'SaO2_source': sao2.get('origin'),
        'verdict': summary.get('verdict', {}).get('state'),
    }
