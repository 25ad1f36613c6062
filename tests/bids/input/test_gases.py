"""End-tidal pressures: from recordings, tables and settings, and what is refused."""

import gzip
import json
import shutil

import numpy as np
import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.run.feasible import capabilities
from bids_app.errors import SettingsError
from bids_app.models.oxygen.end_tidal import find_end_tidal, pressure_in
from bids_app.settings import RunSettings, Settings, apply
from tests.e2e import support

GASES = {
    'oxygen.hypercapnia': 'hypercapnia',
    'oxygen.hyperoxia': 'hyperoxia',
    'change.route': 'davis',
}


@pytest.fixture(scope='module')
def gases(tmp_path_factory):
    """A study of dual-echo ASL in which two gases and a task run."""
    return support.phantom(tmp_path_factory.mktemp('gases'), '--design', 'gases', participants=1)


@pytest.fixture
def root(gases, tmp_path):
    return shutil.copytree(gases, tmp_path / 'study')


def collected(root, **changes):
    """Inputs of the participant, and its dry run."""
    settings = apply(Settings(), GASES | {k.replace('__', '.'): v for k, v in changes.items()}, '')
    run = RunSettings(bids_dir=root, output_dir=root.parent / 'out', level='participant')
    info = read_dataset(run, settings)
    plan = check_dataset(info, run, settings)
    (inputs,) = collect_participant(info, '01', run, settings, plan=plan)
    rows = {(row['map'], row['condition']): row for row in capabilities(inputs, settings)}
    return inputs, rows


def pressures(inputs):
    return {row.name.removeprefix('oxygen.'): row for row in inputs.values if row.unit == 'mmHg'}


def recording(root):
    return next(root.glob('sub-01/perf/*_physio.json'))


def test_recording_gives_the_pressures_of_every_condition(root):
    inputs, rows = collected(root)
    found = {name: row.value for name, row in pressures(inputs).items()}
    true = {'resting_po2': 110, 'hypercapnia_po2': 116, 'hyperoxia_po2': 420,
            'resting_pco2': 40, 'hypercapnia_pco2': 50}  # fmt: skip
    assert found == pytest.approx(true, rel=0.02)
    assert 'physio' in pressures(inputs)['hyperoxia_po2'].origin
    made = {key for key, row in rows.items() if row['state'] == 'made'}
    assert {('oef', 'control'), ('cmro2', 'control'), ('M', 'control'), ('cvr', 'control'),
            ('change_cmro2', 'calcMinusControl')} <= made  # fmt: skip
    assert ('change_cmro2', 'hypercapniaMinusControl') not in rows
    assert recording(root).with_suffix('').with_suffix('.tsv.gz') in inputs.files


def test_setting_wins_over_the_recording_and_says_so(root):
    inputs, _ = collected(root, oxygen__hyperoxia_po2=380.0)
    row = pressures(inputs)['hyperoxia_po2']
    assert row.value == 380
    assert 'physio' in row.overruled


def test_end_tidal_columns_and_kilopascal_are_read(root):
    path = recording(root)
    about = json.loads(path.read_text())
    about |= {'Columns': ['PetO2'], 'SamplingFrequency': 0.25, 'PetO2': {'Units': 'kPa'}}
    path.write_text(json.dumps(about))
    times = 4.0 * np.arange(430)
    inside = ((times >= 450) & (times < 630)) | ((times >= 1260) & (times < 1440))
    text = '\n'.join(f'{53.3 if one else 14.0}' for one in inside)
    path.with_suffix('').with_suffix('.tsv.gz').write_bytes(gzip.compress(text.encode()))
    found = pressures(collected(root)[0])
    assert found['hyperoxia_po2'].value == pytest.approx(399.8, abs=1)
    assert found['resting_po2'].value == pytest.approx(105.0, abs=1)
    assert 'resting_pco2' not in found


def without_recording(root):
    for path in root.glob('sub-01/perf/*_physio.*'):
        path.unlink()


def test_columns_of_participants_serve_where_nothing_was_recorded(root):
    without_recording(root)
    table = root / 'participants.tsv'
    head, row = table.read_text().splitlines()
    table.write_text(f'{head}\tPetO2_control\tPetO2_hyperoxia\n{row}\t110\t400\n')
    units = {'PetO2_control': {'Units': 'mmHg'}, 'PetO2_hyperoxia': {'Units': 'mmHg'}}
    support.edit_json(root / 'participants.json', lambda content: content.update(units))
    inputs, rows = collected(root)
    found = pressures(inputs)
    assert (found['resting_po2'].value, found['hyperoxia_po2'].value) == (110, 400)
    assert found['hypercapnia_po2'].origin == 'oxygen.resting_po2'
    assert any('taken as that at rest' in note for note in inputs.notes)
    assert rows['oef', 'control']['state'] == 'made'
    assert 'carbon dioxide' in rows['cvr', 'control']['reason']


def test_what_is_not_known_is_said_with_every_way_to_give_it(root):
    without_recording(root)
    _, rows = collected(root)
    row = rows['oef', 'control']
    assert row['state'] == 'absent'
    for word in ('physio.tsv.gz', 'participants.tsv', 'oxygen.hyperoxia_po2'):
        assert word in row['reason']
    assert rows['cmro2', 'control']['state'] == 'absent'


def spoil_unit(path):
    support.edit_json(path, lambda content: content['o2'].update(Units='percent'))


def spoil_columns(path):
    support.edit_json(path, lambda content: content.update(Columns=['co2', 'o2', 'belt']))


def spoil_rate(path):
    support.edit_json(path, lambda content: content.pop('SamplingFrequency'))


def spoil_table(path):
    path.with_suffix('').with_suffix('.tsv.gz').write_bytes(b'no gzip')


@pytest.mark.parametrize(
    ('harm', 'word'),
    [(spoil_unit, 'mmHg or kPa'), (spoil_columns, '3 Columns'), (spoil_rate, 'SamplingFrequency'),
     (spoil_table, 'physio')],
)  # fmt: skip
def test_recording_that_cannot_be_used_is_named_and_costs_only_what_needs_it(root, harm, word):
    harm(recording(root))
    inputs, rows = collected(root)
    (problem,) = [item for item in inputs.problems if item.role == 'gases']
    assert word in problem.message
    assert rows['oef', 'control']['state'] == 'defective'
    assert rows['cbf', 'hypercapnia']['state'] == 'made'


def test_pressure_that_cannot_be_one_is_refused(root):
    support.edit_json(recording(root), lambda content: content['o2'].update(Units='kPa'))
    inputs, _ = collected(root)
    assert any('hyperoxia_po2' in item.message for item in inputs.problems)


def test_gas_that_is_no_condition_stops_the_run(root):
    with pytest.raises(SettingsError, match='--hyperoxia'):
        collected(root, oxygen__hyperoxia='oxygen100')


def test_one_gas_calibrates_and_gives_no_extraction(root):
    _, rows = collected(root, oxygen__hyperoxia=None)
    assert rows['M', 'control']['state'] == 'made'
    assert rows['cvr', 'control']['state'] == 'made'
    assert {row['state'] for (name, _), row in rows.items() if name == 'oef'} == {'absent'}


def test_ends_of_breaths_are_found_beside_swallows_and_gaps():
    rng = np.random.default_rng(0)
    times = np.arange(0, 120, 0.1)
    trace = 40 * np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * times / 4)) + rng.normal(0, 0.5, 1200)
    trace[500:540] = np.nan
    ends = find_end_tidal(trace, sampling_rate=10.0, rises_in_expiration=True)
    assert len(ends) == pytest.approx(29, abs=1)
    np.testing.assert_allclose(trace[ends], 40, atol=2)
    assert pressure_in(times[ends], trace[ends], [(0, 60)]) == pytest.approx(40.5, abs=0.5)
    assert np.isnan(pressure_in(times[ends], trace[ends], [(200, 300)]))
    flat = find_end_tidal(np.full(100, np.nan), sampling_rate=10.0, rises_in_expiration=False)
    assert not flat.size
