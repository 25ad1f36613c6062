"""Whatever a stranger's file holds: a value, or one of our errors in one line; nothing else."""

import contextlib
import gzip
import json
import string
import struct
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bids_app.bids.input.files import read_json, read_table
from bids_app.bids.input.sidecar import OTHER_KEYS, RANGES, load_overrides
from bids_app.cli.parser import _filters
from bids_app.errors import AppError
from bids_app.settings import RunSettings, Settings, resolve
from bids_app.workflows.dry_run import make_preview, to_text
from bids_app.workflows.execution import choose_plugin
from tests.bids.conftest import Dataset

DEEP = 5_000
"""Levels of nesting that no recursive reader survives."""

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
documents = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode('utf-8', 'surrogatepass')),
    anything.map(lambda value: json.dumps(value).encode()),
    anything.map(lambda value: json.dumps(value).encode()[:-1]),
    st.text(alphabet='\t\r\n"\0' + string.ascii_letters + string.digits, max_size=200).map(
        str.encode
    ),
    st.sampled_from(
        [
            b'[' * DEEP,
            b'{"a":' * DEEP,
            b'a = ' + b'[' * DEEP,
            b'onset\tduration\n' + b'1' * 200_000,
        ]
    ),
)
READERS = {
    'json': read_json,
    'table': lambda path: read_table(path, ('onset', 'duration')),
    'settings': lambda path: resolve(config_file=path),
    'overrides': load_overrides,
    'filters': _filters,
    'plugin': lambda path: choose_plugin(
        RunSettings(bids_dir=path, output_dir=path, level='participant', plugin_file=path)
    ),
}


@pytest.mark.parametrize('reader', READERS)
@given(content=documents)
def test_reader_gives_a_value_or_one_of_our_errors(reader, content, tmp_path_factory):
    path = tmp_path_factory.mktemp('fuzz') / 'file'
    path.write_bytes(content)
    with contextlib.suppress(AppError):
        READERS[reader](path)


# ------------------------------------------------------------------------- a whole dataset

KEYS = [*RANGES, *OTHER_KEYS, 'VolumeTiming', 'Manufacturer', 'MRAcquisitionType', 'M0Estimate']
HUGE = st.integers(10**300, 10**400)
odd = anything | HUGE | st.lists(st.floats() | HUGE, max_size=6)
numbers = st.floats(width=32) | st.sampled_from([0.0, 1e30, -1e30, 1e-30])
FIELDS = {'dim': (40, '<8h'), 'type': (70, '<2h'), 'pixdim': (76, '<8f'), 'scale': (108, '<3f'),
          'codes': (252, '<2h'), 'quaternion': (256, '<6f'), 'affine': (280, '<12f')}  # fmt: skip
"""Field of a NIfTI-1 header -> where it lies, and its layout."""

patches = st.one_of(
    st.tuples(st.integers(0, 347), st.binary(min_size=1, max_size=8)),
    *(
        st.tuples(
            st.just(place),
            st.lists(
                st.integers(-(2**15), 2**15 - 1) if layout[-1] == 'h' else numbers,
                min_size=int(layout[1:-1]),
                max_size=int(layout[1:-1]),
            ).map(lambda values, layout=layout: struct.pack(layout, *values)),
        )
        for place, layout in FIELDS.values()
    ),
)


def as_sidecar(change, before):
    """Change keys of a sidecar, or put anything in its place."""
    if isinstance(change, bytes):
        return change
    return json.dumps(json.loads(before or b'{}') | change).encode()


def as_table(change, before):
    """Put anything in the place of a table, or of one of its cells."""
    if isinstance(change, bytes):
        return change
    (row, column), cell = change
    lines = [line.split('\t') for line in before.decode().splitlines()]
    line = lines[row % len(lines)]
    line[column % len(line)] = cell
    return '\n'.join('\t'.join(line) for line in lines).encode('utf-8', 'surrogatepass')


def as_image(change, before):
    """Patch the header of an image, and cut it."""
    listed, length = change
    content = bytearray(gzip.decompress(before))
    for place, patch in listed:
        content[place : place + len(patch)] = patch
    return gzip.compress(bytes(content[: length or None]), 1)


sidecars = st.dictionaries(st.sampled_from(KEYS), odd, min_size=1, max_size=3) | documents
tables = (
    st.tuples(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.text(max_size=9)) | documents
)
images = st.tuples(st.lists(patches, min_size=1, max_size=4), st.none() | st.integers(0, 500))

PLACES = {
    'mese': ('anat/MESE', 'anat/*_echo-2_MESE.json', as_sidecar, sidecars),
    'megre': ('anat/task-x_MEGRE[phase]', 'anat/*_echo-2_part-phase_MEGRE.json', as_sidecar,
              sidecars),
    'asl': ('perf/asl', 'perf/*_asl.json', as_sidecar, sidecars),
    'm0': ('perf/asl', 'perf/*_m0scan.json', as_sidecar, sidecars),
    'dsc': ('perf/dsc', 'perf/*_dsc.json', as_sidecar, sidecars),
    'bold': ('func/task-all_bold[calc]', 'func/*_bold.json', as_sidecar, sidecars),
    'participants-json': ('anat/T1w', '../participants.json', as_sidecar, sidecars),
    'aslcontext': ('perf/asl', 'perf/*_aslcontext.tsv', as_table, tables),
    'events': ('func/task-all_bold[calc]', 'func/*_events.tsv', as_table, tables),
    'participants': ('anat/T1w', '../participants.tsv', as_table, tables),
    't1w-image': ('anat/T1w', 'anat/*_T1w.nii.gz', as_image, images),
    'mese-image': ('anat/MESE', 'anat/*_echo-2_MESE.nii.gz', as_image, images),
    'phase-image': ('anat/task-x_MEGRE[phase]', 'anat/*_echo-2_part-phase_MEGRE.nii.gz', as_image,
                    images),
    'asl-image': ('perf/asl', 'perf/*_asl.nii.gz', as_image, images),
    'm0-image': ('perf/asl', 'perf/*_m0scan.nii.gz', as_image, images),
    'bold-image': ('func/task-all_bold[calc]', 'func/*_bold.nii.gz', as_image, images),
}  # fmt: skip
"""What is changed -> the scans of the dataset, the file, how and to what."""

CASES, MANY = 32, 1250
"""Per place: 500 in all with every test run, 20,000 in `make prove`."""


def fuzz(place, folder, count):
    """Change a file again and again; the dry run must end in words every time."""
    scans, pattern, apply, changes = PLACES[place]
    dataset = Dataset(folder / 'data').add('anat/T1w', scans)
    dataset.text('participants.tsv', 'participant_id\tHct\tSaO2\nsub-01\t41\t98\n')
    dataset.json('participants.json', {key: {'Units': 'percent'} for key in ('Hct', 'SaO2')})
    (path,) = (dataset.root / 'sub-01').glob(pattern)
    before = path.read_bytes()
    run = RunSettings(
        bids_dir=dataset.root, output_dir=folder / 'out', level='participant', dry_run=True
    )

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(change=changes)
    def attempt(change):
        path.write_bytes(apply(change, before))
        try:
            preview = make_preview(run, Settings())
        except AppError:  # of the dataset as a whole, such as a column without unit
            return
        assert [record['error'] for record in preview.participants] == ['']
        (unit,) = preview.participants[0]['units']
        assert all('\n' not in problem['message'] for problem in unit['problems'])
        json.dumps(to_text(preview))

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of numpy about numbers that are none
        attempt()


@pytest.mark.parametrize('place', PLACES)
def test_whatever_a_file_holds_ends_in_words(place, tmp_path):
    fuzz(place, tmp_path, CASES)


@pytest.mark.prove
@pytest.mark.parametrize('place', PLACES)
def test_whatever_a_file_holds_ends_in_words_20000_times(place, tmp_path):
    fuzz(place, tmp_path, MANY)
