"""Echo series from sidecars: times, parts, redundant sets."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bids_app.bids.run.feasible import t2_model
from bids_app.settings import RelaxometrySettings, Settings
from tests.bids.support import only_problem


@pytest.mark.parametrize('value', ['0.016', None, True, [0.016], float('nan')])
def test_echo_time_that_is_no_number_is_refused(full, unit, value):
    path = full.find('*echo-2_MESE.json')
    path.write_text(json.dumps({'EchoTime': value, 'MagneticFieldStrength': 3}))
    only_problem(unit(full), 'EchoTime', role='mese')


def test_gap_in_the_echoes_is_defective(full, unit):
    full.find('*echo-2_MESE.nii.gz').unlink()
    found = unit(full)
    only_problem(found, 'echoes 2 missing', '1, 3, 4', role='mese')
    assert found.mese == ()


def test_missing_first_echo_is_defective(full, unit):
    full.find('*echo-1_MESE.nii.gz').unlink()
    only_problem(unit(full), 'echoes 1 missing', role='mese')


def test_fewer_echoes_in_one_condition_or_part_is_defective(full, unit):
    for part in ('mag', 'phase'):
        full.find(f'*task-calc_echo-4_part-{part}_MEGRE.nii.gz').unlink()
    found = unit(full)
    problem = only_problem(found, '3 echoes where another condition', '4', role='megre_mag')
    assert problem.condition == 'calc'
    full.find('*task-control_echo-4_part-phase_MEGRE.nii.gz').unlink()
    assert 'but 3 of phase' in ' '.join(p.message for p in unit(full).problems)


def test_echo_of_another_size_or_place_is_defective(full, unit):
    full.image('sub-01/anat/sub-01_echo-2_MESE.nii.gz', shape=(3, 4, 2))
    full.image('sub-01/anat/sub-01_echo-3_MESE.nii.gz', affine=np.diag([1, 1, 2, 1]))
    first, second = unit(full).problems
    assert '(3, 4, 2)' in first.message
    assert 'another affine' in second.message
    assert first.file.name == 'sub-01_echo-2_MESE.nii.gz'


def test_two_echoes_of_one_time_are_defective(full, unit):
    full.edit('*echo-3_MESE.json', EchoTime=0.016)
    only_problem(unit(full), 'its own EchoTime', '0.016, 0.032, 0.016', role='mese')


def test_echoes_are_sorted_by_their_time_whatever_their_number(full, unit):
    for number in range(1, 5):
        full.edit(f'*echo-{number}_MESE.json', EchoTime=0.016 * (5 - number))
    found = unit(full)
    (series,) = found.mese
    assert found.problems == ()
    assert [path.name[12] for path in series.magnitude] == list('4321')
    assert series.echo_times == pytest.approx((0.016, 0.032, 0.048, 0.064))
    assert any('sorted by their EchoTime' in note for note in found.notes)


@pytest.mark.parametrize(('shift', 'is_one'), [(0.002, True), (0.009, True), (0.02, False)])
def test_echoes_may_be_apart_by_a_small_share_of_a_voxel(shift, is_one, full, unit):
    affine = np.eye(4)
    affine[0, 3] = shift
    full.image('sub-01/anat/sub-01_echo-2_MESE.nii.gz', affine=affine)
    found = unit(full)
    assert bool(found.mese) is is_one
    assert (found.problems == ()) is is_one


def test_phase_that_is_not_in_radians_is_left_out_and_said(full, unit):
    for echo in range(1, 5):
        full.edit(f'*calc_echo-{echo}_part-phase_MEGRE.json', Units='arbitrary')
    found = unit(full)
    assert found.problems == ()
    assert {series.condition: len(series.phase) for series in found.megre} == {
        'calc': 0, 'control': 4,
    }  # fmt: skip
    assert any('phase is not used' in note and 'arbitrary' in note for note in found.notes)


def write_parts(dataset, label, parts, *, delay=0.0, lines=None, direction='j', n_echoes=4):
    for echo in range(1, n_echoes + 1):
        metadata = {
            'EchoTime': round(0.005 * echo + delay, 4),
            'MagneticFieldStrength': 3,
            'PhaseEncodingDirection': direction,
        }
        if lines:
            metadata['AcquisitionMatrixPE'] = lines
        for part in parts:
            name = f'sub-01_task-calc{label}_echo-{echo}_part-{part}_MEGRE.nii.gz'
            dataset.image(f'sub-01/anat/{name}', shape=(4, 8, 2), metadata=metadata)


def test_real_and_imaginary_parts_serve_without_magnitude_and_phase(dataset, unit):
    write_parts(dataset, '', ('real', 'imag'))
    (series,) = unit(dataset).megre
    assert (series.magnitude, series.phase) == ((), ())
    assert (len(series.real), len(series.imaginary), series.has_phase) == (4, 4, True)
    dataset.find('*echo-3_part-imag_MEGRE.nii.gz').unlink()
    found = unit(dataset)
    assert not found.megre
    assert any('imaginary' in problem.message for problem in found.problems)


def test_phase_wins_over_real_and_imaginary_parts_unless_its_unit_is_unknown(full, unit):
    for echo in range(1, 5):
        full.edit(f'*calc_echo-{echo}_part-phase_MEGRE.json', Units='arbitrary')
    found = unit(full, settings={'relaxometry.phase_scale': 0.00153})
    calc = next(series for series in found.megre if series.condition == 'calc')
    assert (len(calc.phase), calc.phase_scale) == (4, 0.00153)
    assert any('0.00153 rad per unit' in note for note in found.notes)
    write_parts(full, '', ('real', 'imag'))
    assert any('relaxometry.phase_scale' in note for note in unit(full).notes)


def test_redundant_sets_join_the_full_one_with_their_echo_times_and_lines(dataset, unit):
    parts = ('mag', 'real', 'imag')
    write_parts(dataset, '_acq-fullres', parts)
    write_parts(dataset, '_acq-MoCoHR', parts, delay=0.001, lines=4)
    write_parts(dataset, '_acq-MoCoQR', parts, delay=0.001)
    found = unit(dataset)
    (series,) = found.megre
    assert not found.problems
    assert (series.n_lines, series.line_axis) == (8, 1)
    assert [item.n_lines for item in series.reduced] == [4, 2]
    assert series.reduced[0].echo_times == pytest.approx((0.006, 0.011, 0.016, 0.021))
    assert len(series.files) == 36
    assert any('0.25 of the lines is assumed' in note for note in found.notes)
    (alone,) = unit(dataset, settings={'ignore': ('redundant',)}).megre
    assert not alone.reduced


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'direction': 'k'}, 'PhaseEncodingDirection'),
        ({'parts': ('mag',)}, 'without phase'),
        ({'n_echoes': 3}, '3 echoes'),
        ({'lines': 9}, 'AcquisitionMatrixPE should be a number from 1 to 8'),
        ({'lines': 'all'}, "the full set), found 'all'"),
    ],
)
def test_sets_that_cannot_be_merged_are_left_out_and_said(change, reason, dataset, unit):
    parts = ('mag', 'real', 'imag')
    direction = change.get('direction', 'j')
    write_parts(dataset, '_acq-fullres', parts, direction=direction)
    write_parts(dataset, '_acq-MoCoHR', **{'parts': parts, 'delay': 0.001, **change})
    found = unit(dataset)
    assert [series.reduced for series in found.megre] == [()]
    assert any(reason in note for note in found.notes)


def test_echo_times_that_epg_cannot_have_are_named(full, unit):
    full.edit('*echo-2_MESE.json', EchoTime=0.035)
    found = unit(full, settings={'relaxometry.t2_model': 'epg'})
    assert not found.mese
    assert any('drop-first' in problem.message for problem in found.problems)
    assert unit(full).mese


@pytest.mark.parametrize(
    ('said', 'model', 'word'),
    [
        ({'MRAcquisitionType': '2D'}, 'epg-slice', 'slices'),
        ({'MRAcquisitionType': '2D', 'EchoTime': 0.02}, 'drop-first', 'does not say'),
        ({'MRAcquisitionType': '3D'}, 'drop-first', 'slab'),
        ({}, 'drop-first', 'does not say'),
    ],
)
def test_model_of_t2_follows_the_sidecar(full, unit, said, model, word):
    full.edit('*echo-1_MESE.json', **said)
    (series,) = unit(full).mese
    chosen, reason = t2_model(series, Settings())
    assert chosen == model
    assert word in reason
    by_hand = replace(Settings(), relaxometry=RelaxometrySettings(t2_model='epg'))
    assert t2_model(series, by_hand)[0] == 'epg'
