"""Whatever a stranger's file holds: a value, or one of our errors in one line; nothing else."""

import contextlib
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.bids.input.collect import check_dataset, collect_participant, read_dataset
from bids_app.bids.input.files import read_json, read_table
from bids_app.bids.input.sidecar import RANGES, load_overrides
from bids_app.cli.parser import _filters
from bids_app.errors import AppError
from bids_app.settings import RunSettings, Settings, resolve
from bids_app.workflows.execution import choose_plugin
from tests.e2e import support

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


@pytest.fixture(scope='module')
def unit(tmp_path_factory):
    """A participant with every kind of scan, and how to read it."""
    folder = tmp_path_factory.mktemp('fuzz')
    root = support.phantom(folder, participants=1)
    run = RunSettings(bids_dir=root, output_dir=folder / 'out', level='participant')
    info = read_dataset(run)
    plan = check_dataset(info, run, Settings())

    def collect():
        return collect_participant(info, '01', run=run, settings=Settings(), plan=plan)

    return root / 'sub-01', collect


KEYS = [*RANGES, 'ArterialSpinLabelingType', 'BackgroundSuppression', 'M0Type', 'IntendedFor',
        'Units', 'SliceEncodingDirection', 'MRAcquisitionType', 'TotalAcquiredPairs',
        'PhaseEncodingDirection']  # fmt: skip
SIDECARS = {
    'mese': 'anat/*_echo-2_MESE.json',
    'megre': 'anat/*_echo-2_part-phase_MEGRE.json',
    'asl': 'perf/*_asl.json',
    'm0': 'perf/*_m0scan.json',
    'dsc': 'perf/*_dsc.json',
    'bold': 'func/*_bold.json',
}


@pytest.mark.parametrize('family', SIDECARS)
@settings(max_examples=10)
@given(change=st.dictionaries(st.sampled_from(KEYS), anything, min_size=1, max_size=3))
def test_sidecar_of_any_values_gives_problems_not_exceptions(family, unit, change):
    folder, collect = unit
    path = sorted(folder.glob(SIDECARS[family]))[0]
    before = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(before) | change))
        (found,) = collect()
        assert all('\n' not in problem.message for problem in found.problems)
    finally:
        path.write_bytes(before)


TABLES = {'aslcontext': 'perf/*_aslcontext.tsv', 'events': 'func/*_events.tsv'}


@pytest.mark.parametrize('table', TABLES)
@settings(max_examples=10)
@given(content=documents)
def test_table_of_any_content_gives_problems_not_exceptions(table, unit, content):
    folder, collect = unit
    path = sorted(folder.glob(TABLES[table]))[0]
    before = path.read_bytes()
    try:
        path.write_bytes(content)
        (found,) = collect()
        assert all('\n' not in problem.message for problem in found.problems)
    finally:
        path.write_bytes(before)
