"""Every number that is read has one range, ends included, and one message."""

import ast
import math

import pytest

from bids_app.bids.input.sidecar import RANGES, TIMES
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
}
"""Key -> a sidecar of the full dataset that may hold it."""


def written(key, value):
    """Value in the form of the key, with what must stand beside it."""
    beside = {'PhaseEncodingDirection': 'j'} if key.endswith(('PE', 'Spacing', 'Time')) else {}
    return {**beside, key: [0.0, value] if key == 'SliceTiming' else value}


def complaints(found, key):
    return [problem.message for problem in found.problems if f'{key} = ' in problem.message]


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


def test_every_time_has_a_range_and_every_range_two_ends():
    assert set(TIMES) <= set(RANGES)
    assert all(low < high and math.isfinite(high) for low, high in RANGES.values())


@pytest.mark.parametrize('end', [0, 1])
@pytest.mark.parametrize('key', PLACES)
def test_ends_are_inside_and_what_lies_beyond_is_refused_by_key_value_and_range(
    key, end, full, unit
):
    low, high = RANGES[key]
    full.edit(PLACES[key], **written(key, RANGES[key][end]))
    assert complaints(unit(full), key) == []
    step = 0.01 * (high - low) if end else max(0.01 * low, 1e-6)
    beyond = high + step if end else low - step
    full.edit(PLACES[key], **written(key, beyond))
    (message, *_) = complaints(unit(full), key)
    assert f'{key} = {beyond:g}' in message
    assert f'is outside {low:g}' in message
    assert 'sidecar sub-01' in message


@pytest.mark.parametrize('value', [True, 'x', {}, [], None, math.nan, math.inf])
@pytest.mark.parametrize('key', ['EffectiveEchoSpacing', 'SliceThickness', 'LabelingEfficiency'])
def test_what_is_no_number_is_refused_or_counts_as_absent(key, value, full, unit):
    full.edit(PLACES[key], **written(key, value))
    said = [one.message for one in unit(full).problems if key in one.message]
    assert bool(said) is (value is not None)
    assert all('should be a number, found' in one for one in said)
