"""Readouts, field maps of every kind, and which serves which scan."""

import numpy as np
import pytest

from bids_app.bids.input.unreadable import drop_unreadable

READOUT = {'PhaseEncodingDirection': 'j-', 'EffectiveEchoSpacing': 0.0005}
PHASEDIFF = {'EchoTime1': 0.00492, 'EchoTime2': 0.00738, 'Units': 'rad'}


@pytest.fixture
def bold(dataset):
    dataset.add('anat/T1w', 'func/task-all_bold[calc]')
    dataset.edit('*bold.json', **READOUT)
    return dataset


@pytest.fixture
def unit(collect):
    def one(dataset, **options):
        (found,) = collect(dataset, **options)
        return found

    return one


def fmap(dataset, suffix, metadata=None, name='', **options):
    stem = f'sub-01/fmap/sub-01_{name}{suffix}.nii.gz'
    return dataset.image(stem, metadata=metadata or {}, **options)


def phase_difference(dataset, **changes):
    fmap(dataset, 'phasediff', PHASEDIFF | changes)
    fmap(dataset, 'magnitude1')


def noted(found, words):
    return any(words in note for note in found.notes)


@pytest.mark.parametrize(
    ('sidecar', 'expected'),
    [
        ({'PhaseEncodingDirection': 'j-'}, (1, -1, 0.0005)),
        ({'PhaseEncodingDirection': 'i'}, (0, 1, 0.0005)),
        (
            {'EffectiveEchoSpacing': None, 'TotalReadoutTime': 0.002, 'ReconMatrixPE': 5},
            (1, -1, 0.0005),
        ),
        ({'EffectiveEchoSpacing': None, 'TotalReadoutTime': 0.002}, (1, -1, 0.001)),
    ],
)
def test_readout_is_axis_polarity_and_time_per_line(bold, unit, sidecar, expected):
    phase_difference(bold)
    bold.edit('*bold.json', **sidecar)
    readout = unit(bold).bold[0].readout
    assert (readout.axis, readout.polarity, readout.echo_spacing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('lacking', 'asked'),
    [
        ('PhaseEncodingDirection', 'PhaseEncodingDirection'),
        ('EffectiveEchoSpacing', 'EffectiveEchoSpacing or TotalReadoutTime'),
    ],
)
def test_without_direction_or_time_a_scan_is_not_corrected_and_that_is_said(
    bold, unit, lacking, asked
):
    phase_difference(bold)
    bold.edit('*bold.json', **{lacking: None})
    found = unit(bold)
    assert found.bold[0].readout is None
    assert found.problems == ()
    assert noted(found, f'distortion is not corrected; its sidecar needs {asked}')


def test_spacing_in_milliseconds_is_refused(bold, unit):
    bold.edit('*bold.json', EffectiveEchoSpacing=0.5)
    (problem,) = unit(bold).problems
    assert 'write 0.0005' in problem.message


def test_without_any_field_a_scan_is_not_corrected_and_that_is_said(bold, unit):
    found = unit(bold)
    assert found.bold[0].readout is None
    assert noted(found, 'there is no field map for it, and no gradient echo with phase')


def test_gradient_echo_with_phase_gives_the_field_where_there_is_no_map(bold, unit):
    bold.add('anat/task-control_MEGRE[phase]')
    found = unit(bold)
    assert found.bold[0].readout is not None
    assert found.bold[0].field_map is None
    assert noted(found, 'corrected by the field of the gradient echo')


def test_correction_can_be_switched_off(bold, unit):
    phase_difference(bold)
    found = unit(bold, settings={'anatomy.distortion': 'none'})
    assert (found.bold[0].readout, found.bold[0].field_map) == (None, None)


def test_phase_difference_is_read_with_its_times_and_scale(bold, unit):
    phase_difference(bold)
    field_map = unit(bold).bold[0].field_map
    assert field_map.kind == 'phase'
    assert field_map.echo_difference == pytest.approx(0.00246)
    assert (field_map.scale, len(field_map.files)) == (1.0, 1)
    assert field_map.magnitude.name == 'sub-01_magnitude1.nii.gz'


def test_two_phases_are_read_in_the_order_of_their_echoes(bold, unit):
    for name, time in (('phase1', 0.004), ('phase2', 0.006)):
        fmap(bold, name, {'EchoTime': time})
    fmap(bold, 'magnitude1')
    assert unit(bold).bold[0].field_map is None
    scaled = unit(bold, settings={'anatomy.fieldmap_phase_scale': 0.0015}).bold[0].field_map
    assert [path.name for path in scaled.files] == [
        'sub-01_phase1.nii.gz', 'sub-01_phase2.nii.gz',
    ]  # fmt: skip
    assert scaled.echo_difference == pytest.approx(0.002)
    assert scaled.scale == 0.0015


@pytest.mark.parametrize(('unit_of_field', 'scale'), [('Hz', 1.0), ('rad/s', 0.159155)])
def test_measured_field_is_read_in_its_unit(bold, unit, unit_of_field, scale):
    fmap(bold, 'fieldmap', {'Units': unit_of_field})
    fmap(bold, 'magnitude')
    field_map = unit(bold).bold[0].field_map
    assert field_map.kind == 'field'
    assert field_map.scale == pytest.approx(scale, rel=1e-5)


def opposites(dataset, **changes):
    for label, direction in (('AP', 'j-'), ('PA', 'j')):
        sidecar = {'PhaseEncodingDirection': direction, 'TotalReadoutTime': 0.02} | changes
        fmap(dataset, 'epi', sidecar, name=f'dir-{label}_')


def test_images_of_opposite_phase_encoding_are_a_pair(bold, unit):
    opposites(bold)
    field_map = unit(bold).bold[0].field_map
    assert field_map.kind == 'opposite'
    assert ['dir-PA' in path.name for path in field_map.files] == [True, False]
    assert field_map.scale == pytest.approx(1 / (3 * 0.01))
    assert field_map.axis == 1


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda d: phase_difference(d, Units=None), 'anatomy.fieldmap_phase_scale'),
        (lambda d: phase_difference(d, EchoTime2=None), 'EchoTime2 is missing'),
        (lambda d: phase_difference(d, EchoTime2=0.00492), 'both echo times'),
        (lambda d: fmap(d, 'phasediff', PHASEDIFF), 'no magnitude image'),
        (lambda d: fmap(d, 'phase1', {'EchoTime': 0.005}), 'no phase2'),
        (lambda d: fmap(d, 'fieldmap', {'Units': 'mT'}), 'should be one of Hz'),
        (lambda d: opposites(d, PhaseEncodingDirection='j'), 'opposite PhaseEncodingDirection'),
    ],
)
def test_field_map_that_cannot_be_used_is_said_and_costs_no_scan(bold, unit, make, words):
    make(bold)
    found = unit(bold)
    assert found.problems == ()
    assert found.bold[0].field_map is None
    assert noted(found, words), found.notes
    assert noted(found, 'distortion is not corrected')


def test_map_that_names_a_scan_serves_that_scan(bold, unit):
    bold.add('perf/acq-calc_asl')
    bold.edit('*_asl.json', **READOUT)
    for number in ('1', '2'):
        target = {'1': 'perf/sub-01_acq-calc_asl.nii.gz', '2': 'func/sub-01_task-all_bold.nii.gz'}
        sidecar = PHASEDIFF | {'IntendedFor': [f'bids::sub-01/{target[number]}']}
        fmap(bold, 'phasediff', sidecar, name=f'run-{number}_')
        fmap(bold, 'magnitude1', name=f'run-{number}_')
    found = unit(bold)
    assert 'run-1' in found.asl[0].field_map.name
    assert 'run-2' in found.bold[0].field_map.name


def test_field_identifier_goes_before_intention(bold, unit):
    for number in ('1', '2'):
        sidecar = PHASEDIFF | {'B0FieldIdentifier': f'field{number}'}
        fmap(bold, 'phasediff', sidecar, name=f'run-{number}_')
        fmap(bold, 'magnitude1', name=f'run-{number}_')
    assert unit(bold).bold[0].field_map is None
    bold.edit('*bold.json', B0FieldSource='field2')
    assert 'run-2' in unit(bold).bold[0].field_map.name


def test_empty_field_map_is_a_problem_and_the_scan_is_used_without_it(bold, unit):
    phase_difference(bold)
    fmap(bold, 'phasediff', PHASEDIFF, data=np.zeros((3, 3, 2), np.float32))
    found = drop_unreadable(unit(bold))
    (problem,) = found.problems
    assert (problem.role, 'all zero' in problem.message) == ('fieldmaps', True)
    assert len(found.bold) == 1
    assert (found.bold[0].readout, found.bold[0].field_map) == (None, None)
