"""Conditions within one label-control series: perfusion apart from BOLD, with true errors."""

import numpy as np
import pytest
from scipy.signal import lfilter

from bids_app.engines.glm import (
    implicit_blocks,
    make_perfusion_design,
    make_task_design,
    volumes_in_blocks,
)
from bids_app.errors import ModelInputError
from bids_app.models.bold.glm import fit_task_design

TR = 4.5
N_VOLUMES = 160
ONSETS = np.arange(60.0, N_VOLUMES * TR - 60, 120.0)
EVENTS = [(onset, 60.0, 'calc') for onset in ONSETS]
CONTEXT = ['label', 'control'] * (N_VOLUMES // 2)
STATIC, DIFFERENCE = 150.0, 7.0
"""Of a series whose background is suppressed, M0 = 1000."""


def response(rise):
    """A block response that rises and falls exponentially: no response of the design."""
    fine = np.arange(0, N_VOLUMES * TR, 0.1)
    box = np.zeros(fine.size)
    for onset, length, _ in EVENTS:
        box[(fine >= onset) & (fine < onset + length)] = 1
    lag = np.arange(0, 60, 0.1)
    kernel = lag * np.exp(-lag / rise)
    course = np.convolve(box, kernel / kernel.sum())[: fine.size]
    return course[(np.arange(N_VOLUMES) * TR / 0.1).round().astype(int)]


def series_of(rng, n_voxels, *, flow, bold, sd=2.0):
    """Volumes with label, a change of flow (relative) and of the static signal, and noise."""
    perfusion = DIFFERENCE * (1 + flow * response(2.5))
    static = STATIC * (1 + bold * response(2.0))
    drift = STATIC * 0.01 * np.linspace(-1, 1, N_VOLUMES) ** 2
    sign = np.where(np.array(CONTEXT) == 'control', 0.0, -1.0)
    white = rng.normal(size=(n_voxels, N_VOLUMES + 50))
    noise = lfilter([1], [1, -0.3], white, axis=1)[:, 50:]
    return static + drift + sign * perfusion + sd * noise


def window_of(condition):
    """Volumes that count for a condition."""
    blocks = [event[:2] for event in EVENTS]
    if condition == 'control':
        blocks = implicit_blocks(EVENTS, N_VOLUMES * TR)
    return volumes_in_blocks(blocks, n_volumes=N_VOLUMES, repetition_time=TR, window_start=6.0)


def level(condition):
    """Mean of the response to flow over the windows of a condition."""
    return response(2.5)[window_of(condition)].mean()


def design_of(**options):
    return make_perfusion_design(
        CONTEXT, repetition_time=TR, events=EVENTS, baseline='control', **options
    )


@pytest.mark.parametrize('hrf_model', ['flexible', 'spm'])
@pytest.mark.parametrize('bold', [0.0, 0.02])
def test_perfusion_of_each_condition_is_found_whatever_bold_does(rng, bold, hrf_model):
    clean = series_of(rng, 1, flow=0.3, bold=bold, sd=0.0)
    found = fit_task_design(clean, design_of(hrf_model=hrf_model), is_relative=False)
    for name in ('control', 'calc'):
        true = DIFFERENCE * (1 + 0.3 * level(name))
        assert found[name].value[0] == pytest.approx(true, rel=0.01)
    change = found['calcMinusControl'].value[0]
    assert change == pytest.approx(found['calc'].value[0] - found['control'].value[0])
    true = 0.3 * DIFFERENCE * (level('calc') - level('control'))
    assert change == pytest.approx(true, rel=0.05)


def test_errors_of_conditions_and_of_their_change_are_true(rng):
    n_voxels, half, flow = 2000, 1000, 0.25
    design = design_of()
    series = np.concatenate([
        series_of(rng, half, flow=flow, bold=0.01),
        series_of(rng, half, flow=0.0, bold=0.01),
    ])  # fmt: skip
    found = fit_task_design(series, design, is_relative=False)
    truth = {name: DIFFERENCE * (1 + flow * level(name)) for name in ('calc', 'control')}
    truth['calcMinusControl'] = truth['calc'] - truth['control']
    for name, true in truth.items():
        one = found[name]
        assert one.value[:half].mean() == pytest.approx(true, abs=0.05 * flow * DIFFERENCE)
        covered = np.abs(one.value - true)[:half] < 1.96 * np.sqrt(one.variance[:half])
        assert 0.92 < covered.mean() < 0.97
    null = found['calcMinusControl']
    z = null.value[half:] / np.sqrt(null.variance[half:])
    assert 0.035 < np.mean(np.abs(z) > 1.96) < 0.07
    assert n_voxels == len(z) * 2


def test_conditions_are_nearly_independent():
    """So that the error of a change follows from those of its two conditions."""
    design = design_of()
    filters = {name: (w @ np.linalg.pinv(design.matrix))[0] for name, w in design.weights.items()}
    power = {name: one @ one for name, one in filters.items()}
    assert power['calcMinusControl'] == pytest.approx(power['calc'] + power['control'], rel=0.12)


def test_volumes_of_other_kinds_do_not_count(rng):
    context = ['m0scan', *CONTEXT[1:-2], 'n/a', 'n/a']
    series = series_of(rng, 1, flow=0.3, bold=0.01, sd=0.0)
    series[:, [0, -2, -1]] = 5000.0
    design = make_perfusion_design(context, repetition_time=TR, events=EVENTS, baseline='control')
    found = fit_task_design(series, design, is_relative=False)
    assert found['calc'].value[0] == pytest.approx(1.3 * DIFFERENCE, rel=0.03)


def test_blocks_too_short_are_refused():
    with pytest.raises(ModelInputError, match='window_start'):
        make_perfusion_design(
            CONTEXT, repetition_time=TR, events=[(0.0, 700.0, 'calc')], baseline='control',
            window_start=30.0,
        )  # fmt: skip


@pytest.mark.parametrize('flow', [0.0, 0.4])
def test_bold_of_control_volumes_does_not_depend_on_flow(rng, flow):
    series = series_of(rng, 1, flow=flow, bold=0.01, sd=0.0)
    design = make_task_design(
        N_VOLUMES,
        repetition_time=TR,
        events=EVENTS,
        baseline='control',
        contrasts=[('calc', 'control')],
        label=np.array(CONTEXT) == 'label',
    )
    found = fit_task_design(series, design)['calcMinusControl'].value[0]
    rise = [response(2.0)[window_of(name)].mean() for name in ('calc', 'control')]
    assert found == pytest.approx(rise[0] - rise[1], rel=0.03)
