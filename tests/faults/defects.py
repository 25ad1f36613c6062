"""What can be wrong with a dataset: how to break it, and what has to be said then."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.e2e.support import edit_json, read, write


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One way to break the scans of a participant."""

    name: str
    """Also the label of the participant that has it."""
    family: str
    """Scans that are broken."""
    harm: Callable[[Path], None]
    """Breaks them, given the folder of the participant."""
    words: tuple[str, ...]
    """Has to be in the message: file, field, value, what to do."""
    code: int
    """Exit code where the participant has nothing else."""
    other: str = 'mese'
    """Scans that are sound and have to be used all the same."""
    count: int = 1
    """Number of messages: one per series that is broken."""


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def remove_echo(folder):
    for path in folder.glob('anat/*_echo-3_MESE.*'):
        path.unlink()


def shrink_echo(folder):
    path = first(folder, 'anat/*_echo-2_MESE.nii.gz')
    write(path, read(path)[:-1])


def use_milliseconds(folder):
    for path in folder.glob('anat/*_MESE.json'):
        edit_json(path, lambda sidecar: sidecar.update(EchoTime=sidecar['EchoTime'] * 1e3))


def shorten_context(folder):
    for path in folder.glob('perf/*_aslcontext.tsv'):
        path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]))


def drop_delay(folder):
    for path in folder.glob('perf/*_asl.json'):
        edit_json(path, lambda sidecar: sidecar.pop('PostLabelingDelay'))


def empty_image(folder):
    first(folder, 'anat/*_echo-4_MESE.nii.gz').write_bytes(b'')


def truncate_image(folder):
    path = first(folder, 'anat/*_echo-4_MESE.nii.gz')
    path.write_bytes(path.read_bytes()[:-200])


def truncate_plain_image(folder):
    path = first(folder, 'anat/*_echo-4_MESE.nii.gz')
    path.with_suffix('').write_bytes(gzip.decompress(path.read_bytes())[:-500])
    path.unlink()


def fill_with(value):
    def harm(folder):
        path = first(folder, 'anat/*_echo-5_MESE.nii.gz')
        write(path, np.full(read(path).shape, value, np.float32))

    return harm


def fill_series(folder):
    for path in folder.glob('perf/*_asl.nii.gz'):
        write(path, np.full(read(path).shape, np.nan, np.float32))


def dangle(folder):
    path = first(folder, 'anat/*_echo-6_MESE.nii.gz')
    path.unlink()
    path.symlink_to('../../.git/annex/objects/MD5E-s1--0.nii.gz')


def empty_json(folder):
    first(folder, 'anat/*_echo-7_MESE.json').write_text('')


def json_without_entries(folder):
    first(folder, 'anat/*_echo-7_MESE.json').write_text('{}')


def malformed_json(folder):
    first(folder, 'anat/*_echo-7_MESE.json').write_text('{"EchoTime": 0.016,')


def rename_trials(folder):
    path = first(folder, 'func/*_events.tsv')
    path.write_text(path.read_text().replace('calc', 'memory'))


def not_an_image(folder):
    first(folder, 'anat/*_echo-4_MESE.nii.gz').write_bytes(b'this is not a NIfTI file at all')


def json_list(folder):
    first(folder, 'anat/*_echo-7_MESE.json').write_text('[1, 2]')


DEFECTS = (
    Defect(name='missingecho', family='mese', harm=remove_echo, code=65, other='asl',
           words=('echo', '3', 'MESE')),
    Defect(name='echosize', family='mese', harm=shrink_echo, code=65, other='asl',
           words=('echo-2_MESE.nii.gz', '11', '12')),
    Defect(name='milliseconds', family='mese', harm=use_milliseconds, code=65, other='asl',
           words=('EchoTime', '16', 'millisecond', 'MESE')),
    Defect(name='context', family='asl', harm=shorten_context, code=65, count=2,
           words=('aslcontext.tsv', '77', '78')),
    Defect(name='nodelay', family='asl', harm=drop_delay, code=65, count=2,
           words=('PostLabelingDelay', '_asl.nii.gz', 'seconds')),
    Defect(name='emptyimage', family='mese', harm=empty_image, code=66, other='asl',
           words=('echo-4_MESE.nii.gz', 'empty')),
    Defect(name='truncated', family='mese', harm=truncate_image, code=66, other='asl',
           words=('echo-4_MESE.nii.gz', 'is the file complete?')),
    Defect(name='truncatedplain', family='mese', harm=truncate_plain_image, code=66, other='asl',
           words=('echo-4_MESE.nii', 'is the file complete?')),
    Defect(name='noimage', family='mese', harm=not_an_image, code=66, other='asl',
           words=('echo-4_MESE.nii.gz',)),
    Defect(name='nan', family='mese', harm=fill_with(np.nan), code=65, other='asl',
           words=('echo-5_MESE.nii.gz', 'NaN')),
    Defect(name='zero', family='mese', harm=fill_with(0.0), code=65, other='asl',
           words=('echo-5_MESE.nii.gz', 'zero')),
    Defect(name='nanseries', family='asl', harm=fill_series, code=65,
           count=2, words=('_asl.nii.gz', 'NaN')),
    Defect(name='dangling', family='mese', harm=dangle, code=66, other='asl',
           words=('echo-6_MESE.nii.gz', 'not fetched', 'datalad get')),
    Defect(name='emptyjson', family='mese', harm=empty_json, code=66, other='asl',
           words=('echo-7_MESE.json', 'empty')),
    Defect(name='hollowjson', family='mese', harm=json_without_entries, code=65, other='asl',
           words=('echo-7_MESE', 'EchoTime')),
    Defect(name='brokenjson', family='mese', harm=malformed_json, code=65, other='asl',
           words=('echo-7_MESE.json', 'JSON')),
    Defect(name='listjson', family='mese', harm=json_list, code=65, other='asl',
           words=('echo-7_MESE.json', 'object')),
)  # fmt: skip

EVENTS = Defect(
    name='events', family='bold', harm=rename_trials, code=1, other='asl',
    words=('events.tsv', 'calc', 'memory'),
)  # fmt: skip
"""A condition that is not in the table: percent BOLD change of another one may be made."""
