"""Every number that is read has one range, ends included, and one message."""

import ast
import math

import pytest

from bids_app.bids.input.external_maps import FACTORS, _map_pattern
from bids_app.bids.input.metadata.bold import EVENT_RANGES
from bids_app.bids.input.sidecar import RANGES, TIMES
from bids_app.errors import SettingsError
from tests.architecture.source import nodes

READ = ('number', 'numbers', 'value')
"""Methods of a Probe that read numbers."""

PLACES = {
    'EchoTime': '*echo-2_MESE.json',
    'RepetitionTime': '*_bold.json',
    'RepetitionTimePreparation': '*calc_m0scan.json',
    'PostLabelingDelay': '*calc_asl.json',
    'LabelingDuration': '*calc_asl.json',
    'SliceTiming': '*calc_asl.json',
    'SliceThickness': '*task-calc_echo-1_part-mag_MEGRE.json',
    'ReconMatrixPE': '*_dsc.json',
    'EffectiveEchoSpacing': '*_dsc.json',
    'TotalReadoutTime': '*_dsc.json',
    'MagneticFieldStrength': '*_dsc.json',
    'LabelingEfficiency': '*calc_asl.json',
    'BackgroundSuppressionNumberPulses': '*calc_asl.json',
    'BolusCutOffDelayTime': '*calc_asl.json',
    'M0Estimate': '*calc_asl.json',
    'EchoTime1': '*_phasediff.json',
    'EchoTime2': '*_phasediff.json',
    'SpinEchoDisplacement': '*_ASE.json',
}
"""Key -> a sidecar of the dataset that may hold it."""

OF_PARTICIPANTS = ('Hct', 'SaO2')
"""Read from participants.tsv."""

OF_PREPROCESSED = ('StartTime',)
"""Read from preprocessed series; its test is among theirs."""

PASL = {
    'ArterialSpinLabelingType': 'PASL', 'LabelingDuration': None, 'BolusCutOffFlag': True,
    'PostLabelingDelay': 9.99,
}  # fmt: skip

BESIDE = {
    'BolusCutOffDelayTime': PASL | {'BolusCutOffTechnique': 'QUIPSSII'},
    'M0Estimate': {'M0Type': 'Estimate'},
}
"""Key -> what makes it count."""


def written(key, value):
    """Value in the form of the key, with what must stand beside it."""
    beside = {'PhaseEncodingDirection': 'j'} if key.endswith(('PE', 'Spacing', 'Time')) else {}
    value = {'SliceTiming': [0.0, value], 'SpinEchoDisplacement': [0.0, value]}.get(key, value)
    return {**beside, **BESIDE.get(key, {}), key: value}


@pytest.fixture
def wide(full):
    """The full dataset, with a map of the field by phase difference and an asymmetric echo."""
    times = {'EchoTime1': 0.005, 'EchoTime2': 0.007, 'Units': 'rad'}
    full.image('sub-01/fmap/sub-01_phasediff.nii.gz', metadata=times)
    full.image('sub-01/fmap/sub-01_magnitude1.nii.gz')
    full.image('sub-01/anat/sub-01_ASE.nii.gz', shape=(3, 3, 2, 2), metadata={})
    full.edit('*_bold.json', PhaseEncodingDirection='j', TotalReadoutTime=0.03)
    return full


def complaints(found, key):
    said = [*(problem.message for problem in found.problems), *found.notes]
    return [message for message in said if f'{key} = ' in message]


def test_every_number_that_is_read_has_a_range():
    keys = {
        argument.value
        for path, node in nodes(ast.Call)
        if path.startswith('bids/input/') and isinstance(node.func, ast.Attribute)
        and node.func.attr in READ
        for argument in node.args[:2]
        if isinstance(argument, ast.Constant) and str(argument.value)[:1].isupper()
    }  # fmt: skip
    assert keys <= set(RANGES)
    by_variable = {'Hct', 'SaO2', 'EchoTime1', 'EchoTime2', 'LabelingDuration'}
    assert set(RANGES) - keys <= by_variable | {'PostLabelingDelay', 'RepetitionTime'}
    assert set(RANGES) == {*PLACES, *OF_PARTICIPANTS, *OF_PREPROCESSED}  # each has its test below


def test_every_time_has_a_range_and_every_range_two_ends():
    assert set(TIMES) <= set(RANGES)
    assert all(low < high and math.isfinite(high) for low, high in RANGES.values())


@pytest.mark.parametrize('end', [0, 1])
@pytest.mark.parametrize('key', PLACES)
def test_ends_are_inside_and_what_lies_beyond_is_refused_by_key_value_and_range(
    key, end, wide, unit
):
    low, high = RANGES[key]
    wide.edit(PLACES[key], **written(key, RANGES[key][end]))
    assert complaints(unit(wide), key) == []
    step = 0.01 * (high - low) if end else max(0.01 * abs(low), 1e-6 * (low == 0))
    beyond = high + step if end else low - step
    wide.edit(PLACES[key], **written(key, beyond))
    (message, *_) = complaints(unit(wide), key)
    assert f'{key} = {beyond:g}' in message
    assert f'is outside {low:g}' in message
    assert 'sidecar sub-01' in message


@pytest.mark.parametrize('end', [0, 1])
@pytest.mark.parametrize('key', OF_PARTICIPANTS)
def test_ends_of_blood_are_inside_and_what_lies_beyond_is_refused(key, end, dataset, unit):
    low, high = RANGES[key]
    dataset.add('anat/T1w')
    dataset.json('participants.json', {key: {'Units': '1'}})
    for step in (0.0, 0.01 * (1 if end else -1)):
        value = (high if end else low) + step
        dataset.text('participants.tsv', f'participant_id\t{key}\nsub-01\t{value:g}\n')
        said = [one.message for one in unit(dataset).problems if f'{key} of sub-01' in one.message]
        assert bool(said) is bool(step)
        assert all(f'= {value:g} (' in one and f'is outside {low:g}' in one for one in said)


@pytest.mark.parametrize('end', [0, 1])
@pytest.mark.parametrize('column', EVENT_RANGES)
def test_ends_of_events_are_inside_and_what_lies_beyond_is_refused(column, end, dataset, unit):
    dataset.add('anat/T1w', 'func/task-x_bold[calc]')
    limit = EVENT_RANGES[column][end]
    for value in (limit, limit + (1 if end else -1)):
        row = {'onset': '10', 'duration': '30', column: f'{value:g}'}
        text = f'{row["onset"]}\t{row["duration"]}\tcalc\n100\t30\tcalc\n'
        dataset.text(
            'sub-01/func/sub-01_task-x_events.tsv', f'onset\tduration\ttrial_type\n{text}'
        )
        said = [p.message for p in unit(dataset).problems if 'number of seconds' in p.message]
        assert bool(said) is (value != limit)
        assert all(f'line 2: {column} should be' in one and f'{value:g}' in one for one in said)


@pytest.mark.parametrize(('key', 'limits'), [
    ('factor', FACTORS), ('repetition_time', RANGES['RepetitionTime'])
])  # fmt: skip
@pytest.mark.parametrize('end', [0, 1])
def test_ends_of_numbers_of_an_input_map_are_inside_and_beyond_is_refused(key, limits, end):
    beyond = limits[end] * (2 if end else 0.5)
    entry = {'quantity': 'cbf', 'path': 'sub-{sub}_cbf.nii', 'source': 'told'}
    for sign in (1, -1) if key == 'factor' else (1,):
        assert getattr(_map_pattern({**entry, key: sign * limits[end]}, 'map'), key)
        with pytest.raises(SettingsError, match=f'{key} should be a number from {limits[0]:g}'):
            _map_pattern({**entry, key: sign * beyond}, 'map')
    for value in ('x', float('nan'), True, 0):
        with pytest.raises(SettingsError, match='should be a number'):
            _map_pattern({**entry, key: value}, 'map')


@pytest.mark.parametrize('value', [True, 'x', {}, [], None, math.nan, math.inf])
@pytest.mark.parametrize('key', ['EffectiveEchoSpacing', 'SliceThickness', 'LabelingEfficiency'])
def test_what_is_no_number_is_refused_or_counts_as_absent(key, value, full, unit):
    full.edit(PLACES[key], **written(key, value))
    said = [one.message for one in unit(full).problems if key in one.message]
    assert bool(said) is (value is not None)
    assert all('should be a number, found' in one for one in said)
