"""What can be made from what is there: absence, defect and fallback told apart."""

import pytest

from bids_app.bids.run.feasible import capabilities, cbv_model
from bids_app.settings import resolve

FULL = (
    'anat/T1w', 'anat/MESE', 'anat/task-control_MEGRE[phase]', 'anat/task-calc_MEGRE[phase]',
    'perf/acq-control_asl', 'perf/acq-calc_asl', 'perf/dsc', 'func/task-all_bold[calc]',
)  # fmt: skip


@pytest.fixture
def table(collect):
    def rows(dataset, settings=None, **options):
        (unit,) = collect(dataset, settings=settings, **options)
        listed = capabilities(unit, resolve(command_line=settings or {}))
        return {(row['map'], row['condition']): row for row in listed}

    return rows


def made(rows):
    return {key for key, row in rows.items() if row['state'] == 'made'}


def test_complete_participant_makes_everything(dataset, table):
    rows = table(dataset.add(*FULL))
    assert made(rows) == set(rows)
    assert {key for key in rows if key[1] is None} == {
        ('anatomy', None), ('template', None), ('T2', None), ('cbv', None),
    }  # fmt: skip
    both = {one for name, one in rows if name == 'cmro2'}
    assert both == {'control', 'calc'}
    assert ('concordance', 'calcMinusControl') in rows
    assert all(row['files'] and not row['fallback'] for row in rows.values())


def test_t1w_and_asl_alone_make_cbf(dataset, table):
    rows = table(dataset.add('anat/T1w', 'perf/asl'))
    assert made(rows) == {('anatomy', None), ('template', None), ('cbf', None)}
    assert rows['T2', None]['reason'] == 'no MESE'
    assert rows['cmro2', None]['state'] == 'absent'


def test_without_dsc_oef_needs_a_chosen_blood_volume(dataset, table):
    dataset.add('anat/T1w', 'anat/MESE', 'anat/MEGRE')
    assert table(dataset)['oef', None]['state'] == 'absent'
    assert '--cbv-model' in table(dataset)['oef', None]['reason']
    chosen = {'blood_volume.model': 'literature'}
    assert ('oef', None) in made(table(dataset, settings=chosen))


def test_power_law_blood_volume_follows_cbf_per_condition(dataset, table):
    dataset.add(*FULL)
    rows = table(dataset, settings={'blood_volume.model': 'grubb'})
    assert {key for key in made(rows) if key[0] == 'cbv'} == {('cbv', 'control'), ('cbv', 'calc')}


def test_dsc_without_tissue_is_no_blood_volume(dataset, table, collect):
    dataset.add(*FULL[1:])
    rows = table(dataset)
    assert 'T1w' in rows['cbv', None]['reason']
    assert ('R2prime', 'calc') in made(rows)
    (unit,) = collect(dataset)
    assert cbv_model(unit, resolve()) == 'none'


def test_missing_phase_is_a_fallback_not_a_loss(dataset, table):
    rows = table(dataset.add('anat/MESE', 'anat/MEGRE'))
    assert rows['T2star', None]['state'] == 'made'
    assert 'background gradients' in rows['R2prime', None]['fallback']


def test_defect_costs_its_branch_in_its_condition_only(dataset, table):
    dataset.add(*FULL)
    dataset.find('*task-calc_echo-2_part-mag_MEGRE.nii.gz').unlink()
    rows = table(dataset)
    lost = {key for key, row in rows.items() if row['state'] == 'defective'}
    assert lost == {
        ('T2star', 'calc'), ('R2prime', 'calc'), ('oef', 'calc'), ('cmro2', 'calc'),
        ('change_R2prime', 'calcMinusControl'), ('change_oef', 'calcMinusControl'),
        ('change_cmro2', 'calcMinusControl'), ('concordance', 'calcMinusControl'),
    }  # fmt: skip
    assert not [key for key, row in rows.items() if row['state'] == 'absent']
    assert 'echoes 2 missing' in rows['cmro2', 'calc']['reason']


def test_one_scan_for_both_conditions_makes_no_change(dataset, table):
    dataset.add('anat/task-control_MEGRE', 'anat/task-calc_MEGRE', 'perf/asl')
    rows = table(dataset)
    assert rows['change_cbf', 'calcMinusControl'] == {
        'map': 'change_cbf', 'condition': 'calcMinusControl', 'state': 'absent', 'files': (),
        'fallback': '', 'reason': 'one ASL serves both conditions',
    }  # fmt: skip


def test_impossible_haematocrit_costs_oef_and_not_cbf(dataset, table):
    dataset.add(*FULL)
    dataset.text('participants.tsv', 'participant_id\tHct\nsub-01\t4200\n')
    dataset.json('participants.json', {'Hct': {'Units': 'percent'}})
    rows = table(dataset)
    assert rows['oef', 'calc']['state'] == 'defective'
    assert {('cbf', 'calc'), ('R2prime', 'calc')} <= made(rows)


def test_unknown_field_strength_costs_cbf_unless_blood_t1_is_given(dataset, table):
    dataset.add('perf/asl')
    dataset.edit('*_asl.json', MagneticFieldStrength=None)
    assert table(dataset)['cbf', None]['state'] == 'defective'
    assert ('cbf', None) in made(table(dataset, settings={'perfusion.t1_blood': 1.65}))


def test_sessions_as_conditions_compare_no_bold(dataset, table):
    dataset.add('ses-rest/func/task-x_bold[a]', 'ses-rest/perf/asl', 'ses-drug/perf/asl')
    rows = table(dataset, settings={'condition_entity': 'ses'})
    assert rows['boldPct', 'drugMinusRest']['state'] == 'absent'
    assert ('change_cbf', 'drugMinusRest') in made(rows)
