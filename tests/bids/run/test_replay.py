"""What an earlier run may be replayed with, and what it may not."""

import json

import pytest

from bids_app.bids.output.names import output_path
from bids_app.bids.run.replay import collect_saved, read_sidecar, saved_participants
from bids_app.errors import InputDataError, SelectionError, SettingsError
from bids_app.settings import RunSettings, Settings, apply, to_toml

ENTITIES = {'sub': '01', 'space': 'MESE'}


def value(name, number):
    """A row of the constants table."""
    return {'name': name, 'value': number, 'unit': '1', 'origin': 'test', 'overruled': ''}


def write_run(folder, *, model='single-delay', changes=None):
    """Write the records of a run, and one CBF map."""
    unit = {
        'label': 'sub-01', 'session': None, 'conditions': ['control', 'calc'],
        'baseline': 'control', 'contrasts': [{'task': 'calc', 'baseline': 'control'}],
        'space': 'MESE', 'notes': [], 'maps': [],
        'values': [
            value('oxygen.b0', 3.0), value('oxygen.hct', 0.42), value('oxygen.sao2', 0.98),
            value('perfusion.labeling_efficiency', 0.85),
        ],
    }  # fmt: skip
    image = folder / output_path('cbf', condition='control', **ENTITIES)
    image.parent.mkdir(parents=True)
    image.write_bytes(b'')
    sidecar = image.with_name(image.name.replace('.nii.gz', '.json'))
    sidecar.write_text(json.dumps({'Model': {'Name': model}}))
    logs = folder / 'logs'
    logs.mkdir()
    (logs / output_path('run_summary', sub='01').name).write_text(
        json.dumps({'participant': '01', 'units': [unit]})
    )
    settings = apply(Settings(), changes or {}, 'test')
    (logs / output_path('settings', sub='01').name).write_text(to_toml(settings))
    return RunSettings(bids_dir=folder, output_dir=folder.parent / 'new', level='participant')


def test_changed_constants_win_and_are_on_record(tmp_path):
    run = write_run(tmp_path / 'old')
    (unit,), settings = collect_saved('01', run, {'oxygen.hct': 0.4, 'change.bold_q': 0.01})
    assert (unit.hct, unit.sao2, unit.b0) == (0.4, 0.98, 3.0)
    assert settings.change.bold_q == 0.01
    row = next(item for item in unit.values if item.name == 'oxygen.hct')
    assert (row.origin, row.overruled) == ('--replay', '0.42 (test)')
    assert any('oxygen.hct = 0.4' in note for note in unit.notes)


def test_a_scale_factor_of_the_flow_scales_the_saved_map(tmp_path):
    run = write_run(tmp_path / 'old')
    (unit,), _ = collect_saved('01', run, {'perfusion.labeling_efficiency': 0.8})
    assert dict(unit.saved.scales) == {'cbf': pytest.approx(0.85 / 0.8)}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'relaxometry.t2_model': 'epg'}, 'needs a new fit'),
        ({'perfusion.t1_blood': 1.7}, 'needs a new fit'),
        ({'oxygen.hcr': 0.4}, 'did you mean oxygen.hct'),
        ({'oxygen.oef_model': 'guess'}, 'is not one of'),
        ({'change.route': 'davis'}, 'BOLD of alternate blocks'),
        ({'blood_volume.white_matter_cbv': 0.02, 'blood_volume.model': 'dsc'}, 'cannot follow'),
    ],
)
def test_what_saved_maps_cannot_follow_is_refused_by_name(tmp_path, changes, words):
    run = write_run(tmp_path / 'old')
    with pytest.raises(SettingsError, match=words):
        collect_saved('01', run, changes)


def test_a_fit_of_several_delays_does_not_follow_the_efficiency(tmp_path):
    run = write_run(tmp_path / 'old', model='multi-delay')
    with pytest.raises(SettingsError, match='cannot follow'):
        collect_saved('01', run, {'perfusion.labeling_efficiency': 0.8})


@pytest.mark.parametrize(
    ('before', 'changes', 'words'),
    [
        ({'perfusion.t1_blood_from': 'haematocrit'}, {'oxygen.hct': 0.4}, 'T1 of blood'),
        ({'blood_volume.model': 'arterial'}, {'oxygen.hct': 0.4}, 'arterial input'),
        ({'change.fwhm': 5.0}, {'change.fwhm': 8.0}, 'smoothed by 5 mm'),
    ],
)
def test_what_the_earlier_run_has_used_up_is_refused(tmp_path, before, changes, words):
    run = write_run(tmp_path / 'old', changes=before)
    with pytest.raises(SettingsError, match=words):
        collect_saved('01', run, changes)


def test_a_folder_without_a_run_selects_nothing(tmp_path):
    run = RunSettings(bids_dir=tmp_path, output_dir=tmp_path / 'new', level='participant')
    with pytest.raises(SelectionError, match='output of an earlier run'):
        saved_participants(run)


def test_damaged_records_are_named(tmp_path):
    run = write_run(tmp_path / 'old')
    (tmp_path / 'old/logs' / output_path('run_summary', sub='01').name).write_text('{')
    with pytest.raises(InputDataError, match='summary of sub-01'):
        collect_saved('01', run, {})
    with pytest.raises(InputDataError, match='cannot be read as JSON'):
        read_sidecar(tmp_path / 'none.nii.gz')
