"""Saturation of venous blood: settings before sessions.tsv before participants.tsv."""

import json
import shutil

import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.run.feasible import capabilities
from bids_app.models.oxygen.venous import saturation_from_t2
from bids_app.settings import RunSettings, Settings, apply
from tests.e2e import support


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    return support.phantom(tmp_path_factory.mktemp('venous'), participants=1)


@pytest.fixture
def root(study, tmp_path):
    return shutil.copytree(study, tmp_path / 'study')


def add_columns(path, cells, described):
    """Add columns to a table of one row, and their description."""
    header, row = path.read_text().splitlines()
    lines = ['\t'.join([header, *cells]), '\t'.join([row, *cells.values()]), '']
    path.write_text('\n'.join(lines))
    about = path.with_suffix('.json')
    known = json.loads(about.read_text()) if about.exists() else {}
    about.write_text(
        json.dumps(known | {name: {'Units': unit} for name, unit in described.items()})
    )


def collected(root, **changes):
    """What is known of venous blood, with the dry run and the inputs."""
    settings = apply(Settings(), {f'oxygen.{name}': one for name, one in changes.items()}, '')
    run = RunSettings(bids_dir=root, output_dir=root.parent / 'out', level='participant')
    info = read_dataset(run, settings)
    plan = check_dataset(info, run, settings)
    (inputs,) = collect_participant(info, '01', run, settings, plan=plan)
    rows = {(row['map'], row['condition']): row for row in capabilities(inputs, settings)}
    known = {row.name.removeprefix('oxygen.'): row for row in inputs.values}
    return known, rows, inputs


def test_without_a_number_nothing_is_said_of_it(root):
    known, rows, inputs = collected(root)
    assert 'venous_saturation' not in known
    assert ('venous_blood', 'control') not in rows
    assert not inputs.problems


def test_column_gives_saturation_and_error_and_the_setting_wins(root):
    add_columns(root / 'participants.tsv', {'Yv': '62', 'Yv_se': '2'}, {'Yv': '%', 'Yv_se': '%'})
    known, rows, inputs = collected(root)
    assert known['venous_saturation'].value == 0.62
    assert known['venous_saturation_error'].value == 0.02
    assert known['venous_saturation'].origin == 'participants.tsv column Yv'
    assert rows['venous_blood', 'control']['state'] == 'made'
    assert root / 'participants.tsv' in inputs.files
    known, _, _ = collected(root, venous_saturation=0.7)
    assert known['venous_saturation'].value == 0.7
    assert known['venous_saturation_error'].origin == 'default'  # that of the column is of 62 %


def test_error_of_the_settings_serves_a_column_without_one(root):
    add_columns(root / 'participants.tsv', {'SvO2': '0.6'}, {'SvO2': 'fraction'})
    known, _, _ = collected(root, venous_saturation_error=0.015)
    assert known['venous_saturation_error'].value == 0.015


def test_t2_gives_the_saturation_with_the_haematocrit_of_the_participant(root):
    add_columns(
        root / 'participants.tsv', {'T2v': '61', 'T2v_se': '2'}, {'T2v': 'ms', 'T2v_se': 'ms'}
    )
    known, _, inputs = collected(root)
    expected = saturation_from_t2(0.061, inputs.hct, b0=3.0)
    assert known['venous_saturation'].value == pytest.approx(expected, abs=1e-4)
    assert 'T2 of 61 ms (participants.tsv column T2v)' in known['venous_saturation'].origin
    assert 0.03 < known['venous_saturation_error'].value < 0.04  # calibration and T2
    other, _, _ = collected(root, hct=0.3)
    assert other['venous_saturation'].value < expected - 0.02
    known, _, inputs = collected(root, venous_saturation=0.66)
    assert known['venous_saturation'].value == 0.66
    assert any('T2 of venous blood is not used' in note for note in inputs.notes)


@pytest.mark.parametrize(
    ('cells', 'described', 'changes', 'words'),
    [
        ({'Yv': '62'}, {}, {}, 'the unit of Yv is not declared'),
        ({'Yv': 'high'}, {'Yv': '%'}, {}, "Yv should be a number, found 'high'"),
        ({'Yv': '62'}, {'Yv': '1'}, {}, 'is outside 0.2 to 0.95'),
        ({'T2v': '61'}, {'T2v': 's'}, {}, 'is outside 0.01 to 0.2 s'),
        ({'T2v': '61'}, {'T2v': 'ms'}, {'b0': 1.5}, 'at 3 T only'),
    ],
)
def test_what_cannot_be_a_saturation_is_a_problem_and_no_scale(
    root, cells, described, changes, words
):
    add_columns(root / 'participants.tsv', cells, described)
    known, rows, inputs = collected(root, oef_scale='venous', **changes)
    assert 'venous_saturation' not in known
    assert [words in problem.message for problem in inputs.problems] == [True]
    assert rows['oef', 'control']['state'] == 'defective'
    assert words in rows['oef', 'control']['reason']


def test_scale_without_a_number_leaves_oef_out_and_says_what_to_give(root):
    _, rows, _ = collected(root, oef_scale='venous')
    assert rows['oef', 'calc']['state'] == 'absent'
    assert 'oxygen.venous_t2' in rows['oef', 'calc']['reason']
    assert rows['cmro2', 'calc']['state'] == 'absent'
    assert rows['cbf', 'calc']['state'] == 'made'


def test_session_goes_before_participant(root):
    sub = root / 'sub-01'
    folder = sub / 'ses-a'
    folder.mkdir()
    for part in ('anat', 'perf', 'func'):
        shutil.move(sub / part, folder / part)
    for path in sorted(folder.rglob('sub-01_*')):
        path.rename(path.with_name(path.name.replace('sub-01_', 'sub-01_ses-a_')))
    add_columns(root / 'participants.tsv', {'Yv': '62'}, {'Yv': '%'})
    table = sub / 'sub-01_sessions.tsv'
    table.write_text('session_id\nses-a\n')
    add_columns(table, {'Yv': '0.58'}, {})
    (root / 'sessions.json').write_text(json.dumps({'Yv': {'Units': '1'}}))
    known, _, _ = collected(root)
    assert known['venous_saturation'].value == 0.58
    assert known['venous_saturation'].origin == 'sub-01_sessions.tsv column Yv'
    table.write_text('session_id\tYv\nses-a\t0.5\t0.6\n')
    _, _, inputs = collected(root)
    assert any('sessions.tsv' in problem.message for problem in inputs.problems)


def test_trust_series_is_left_out_with_the_number_that_serves(root):
    perf = root / 'sub-01/perf'
    for path in perf.glob('*acq-control*_asl*'):
        shutil.copy(path, path.with_name(path.name.replace('acq-control', 'acq-trust')))
    for path in perf.glob('*acq-control*_aslcontext.tsv'):
        shutil.copy(path, path.with_name(path.name.replace('acq-control', 'acq-trust')))
    _, rows, inputs = collected(root)
    assert any('a TRUST series tells T2' in note for note in inputs.notes)
    assert {one.condition for one in inputs.asl} == {'control', 'calc'}
    assert rows['cbf', 'control']['state'] == 'made'
    assert not inputs.problems
