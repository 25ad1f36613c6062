"""Interfaces that run a model: two voxels and an answer computed by hand."""

from dataclasses import replace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_app.errors import GridMismatchError
from bids_app.images import Grid, grid_of, load_data
from bids_app.interfaces._base import BUNDLE, Bundle, sidecar_of
from bids_app.interfaces.blood_volume import EstimateCBV, SelectWhiteMatter
from bids_app.interfaces.dsc import EstimateBolus
from bids_app.interfaces.oxygen import EstimateCMRO2, EstimateOEF, EstimateR2Prime
from bids_app.interfaces.perfusion import (
    EstimateCBF,
    EstimateDifference,
    EstimateM0,
    MapDelay,
    SeparateM0Error,
)
from bids_app.interfaces.relaxometry import (
    CombineSliceEdges,
    ConvertRateToTime,
    EstimateFieldMap,
    EstimateR2,
    EstimateR2Star,
    EstimateSliceEdge,
    MeasureEchoInconsistency,
    PredictGradientAttenuation,
    PrepareEchoes,
    SampleDecays,
)
from bids_app.models.status import Status
from tests.interfaces.conftest import Files, data_of

TIMES = [0.02, 0.04, 0.06, 0.08]
RATES = np.array([10.0, 20.0])
OEF_CONSTANTS = {'static_dephasing_constant': 316.956}


def echoes(files, rates, times=TIMES, kept=1.0):
    return [
        files.voxels(f'echo{n}', *(1000 * np.exp(-rates * time) * kept))
        for n, time in enumerate(times)
    ]


def test_r2_of_two_exact_decays(files):
    outputs = files.run(EstimateR2(signal=echoes(files, RATES), echo_times=TIMES, mask=files.mask))
    np.testing.assert_allclose(files.read(outputs.r2), RATES, rtol=1e-5)
    np.testing.assert_array_equal(files.read(outputs.r2, 'status'), [0, 0])


def test_a_low_first_echo_stands_in_the_sidecar_of_the_time(files):
    low = echoes(files, RATES)
    low[0] = files.voxels('low', *(900 * np.exp(-RATES * TIMES[0])))
    for signal, departure in ((echoes(files, RATES), 0.0), (low, -10.0)):
        rate = files.run(EstimateR2(signal=signal, echo_times=TIMES, mask=files.mask)).r2
        time = files.run(ConvertRateToTime(rate=rate, mask=files.mask)).time
        for path in (rate, time):
            assert sidecar_of(path)['FirstEchoDeparture'] == pytest.approx(departure, abs=1e-3)


def test_r2_star_takes_out_the_dephasing_of_the_background(files):
    gradient = np.exp(-5 * np.array(TIMES))
    signal = 1000 * np.exp(-np.outer(RATES, TIMES)) * gradient
    paths = [files.voxels(f'echo{n}', *signal[:, n]) for n in range(len(TIMES))]
    ports = {'signal': paths, 'echo_times': TIMES, 'mask': files.mask}
    attenuation = files.voxels('attenuation', gradient, gradient)
    corrected = files.run(EstimateR2Star(attenuation=attenuation, **ports))
    np.testing.assert_allclose(files.read(corrected.r2_star), RATES, rtol=1e-5)
    plain = files.run(EstimateR2Star(attenuation_floor=0.0, **ports))
    np.testing.assert_allclose(files.read(plain.r2_star), RATES + 5, rtol=1e-5)


def test_r2_prime_is_the_difference_and_keeps_negative_values(files):
    ports = files.quantity('r2_star', 18.0, 12.0, variance=4.0)
    ports |= files.quantity('r2', 13.0, 14.0, variance=1.0)
    outputs = files.run(EstimateR2Prime(mask=files.mask, **ports))
    np.testing.assert_allclose(files.read(outputs.r2_prime), [5, -2])
    np.testing.assert_allclose(files.read(outputs.r2_prime, 'variance'), [5, 5])
    np.testing.assert_array_equal(files.read(outputs.r2_prime, 'status'), [0, Status.NEGATIVE])


def test_time_is_the_inverse_of_the_rate(files):
    ports = files.quantity('rate', 10.0, 20.0, variance=1.0)
    outputs = files.run(ConvertRateToTime(mask=files.mask, **ports))
    np.testing.assert_allclose(files.read(outputs.time), [0.1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(files.read(outputs.time, 'variance'), [1e-4, 6.25e-6], rtol=1e-6)


def test_field_map_of_a_phase_that_grows_with_time(files):
    ports = {'mask': files.mask, 'echo_times': [0.004, 0.008, 0.012]}
    magnitude = [files.image(f'mag{n}', np.full(files.grid.shape, 100.0 * n)) for n in (1, 2, 3)]
    phase = [
        files.image(f'phase{n}', np.full(files.grid.shape, 2 * np.pi * 25.0 * time))
        for n, time in enumerate(ports['echo_times'])
    ]
    outputs = files.run(EstimateFieldMap(magnitude=magnitude, phase=phase, **ports))
    np.testing.assert_allclose(files.read(outputs.field_map), [25, 25], rtol=1e-5)
    np.testing.assert_allclose(load_data(outputs.field_magnitude), 200)
    assert np.isnan(load_data(outputs.field_map)[~files.inside]).all()


@pytest.mark.parametrize('axis', [0, 2])
def test_dephasing_of_a_field_that_rises_across_slices(axis, tmp_path):

    files = Files(tmp_path, Grid((3, 3, 3), np.diag([2.0, 2.0, 4.0, 1.0])))
    mask = files.image('whole', np.ones((3, 3, 3), bool))
    index = np.indices((3, 3, 3))[axis]
    hertz_per_slice = 20.0
    outputs = files.run(
        PredictGradientAttenuation(
            field_map=files.image('field', hertz_per_slice * index),
            field_map_variance=files.image('noise', np.full((3, 3, 3), 0.01)),
            mask=mask,
            echo_times=[0.01, 0.02],
            slice_axis=axis,
        )
    )
    spacing = files.grid.zooms[axis] * 1e-3
    gradient = hertz_per_slice / (267.52219e6 / (2 * np.pi)) / spacing
    np.testing.assert_allclose(load_data(outputs.gradient), gradient, rtol=1e-5)
    expected = np.sinc(hertz_per_slice * np.array([0.01, 0.02]))
    np.testing.assert_allclose(load_data(outputs.attenuation)[1, 1, 1], expected, rtol=1e-5)


def test_edges_that_the_echoes_cannot_tell_widen_the_error(tmp_path):
    files = Files(tmp_path, Grid((3, 3, 3), np.diag([2.0, 2.0, 4.0, 1.0])))
    mask, times = files.image('whole', np.ones((3, 3, 3), bool)), [0.01, 0.015, 0.02]
    field = 20.0 * np.indices((3, 3, 3))[2]
    echoes = {
        'magnitude': [files.image(f'm{n}', np.full((3, 3, 3), 100.0)) for n in range(3)],
        'phase': [files.image(f'p{n}', 2 * np.pi * time * field) for n, time in enumerate(times)],
        'real': [], 'imaginary': [], 'phase_scale': 1.0, 'echo_times': times,
    }  # fmt: skip
    alone = files.run(EstimateSliceEdge(echoes=echoes, mask=mask)).edge
    assert alone == [0, np.inf, 0]  # 27 voxels say nothing
    edge = files.run(CombineSliceEdges(edges=alone + alone)).edge
    ports = {
        'field_map': files.image('field', field),
        'field_map_variance': files.image('noise', np.full((3, 3, 3), 0.01)),
        'mask': mask,
        'echo_times': times,
    }
    plain = files.run(PredictGradientAttenuation(**ports))
    assumed = np.abs(load_data(plain.attenuation_error)[1, 1, 1])  # the next run replaces it
    fitted = files.run(
        PredictGradientAttenuation(slice_profile='fitted', slice_edge=edge, **ports)
    )
    variance, error, _ = edge
    turns = 20.0 * np.array(times)
    kept = np.sinc(turns) * np.exp(-2 * variance * (np.pi * turns) ** 2)
    at = (1, 1, 1)
    np.testing.assert_allclose(load_data(fitted.attenuation)[at], kept, rtol=1e-5)
    by_edge = 2 * error * (np.pi * turns) ** 2 * kept
    np.testing.assert_allclose(load_data(fitted.attenuation_error)[at], -by_edge, rtol=0.02)
    assert np.all(assumed < 0.1 * by_edge)


def test_slab_loses_nothing_across_its_slices_until_the_echo_leaves_kspace(tmp_path):
    files = Files(tmp_path, Grid((3, 3, 3), np.diag([2.0, 2.0, 4.0, 1.0])))
    outputs = files.run(
        PredictGradientAttenuation(
            field_map=files.image('field', 25.0 * np.indices((3, 3, 3))[2]),
            field_map_variance=files.image('noise', np.full((3, 3, 3), 0.01)),
            mask=files.image('whole', np.ones((3, 3, 3), bool)),
            echo_times=[0.01, 0.02],
            slice_profile='fitted',
            is_slab=True,
        )
    )
    np.testing.assert_allclose(load_data(outputs.attenuation)[1, 1, 1], [1, 0], atol=1e-6)


def test_echoes_that_leave_kspace_in_the_plane_do_not_count(tmp_path):
    files = Files(tmp_path, Grid((3, 3, 3), np.diag([2.0, 2.0, 4.0, 1.0])))
    outputs = files.run(
        PredictGradientAttenuation(
            field_map=files.image('field', 25.0 * np.indices((3, 3, 3))[1]),
            field_map_variance=files.image('noise', np.full((3, 3, 3), 0.01)),
            mask=files.image('whole', np.ones((3, 3, 3), bool)),
            echo_times=[0.01, 0.02],
        )
    )
    np.testing.assert_allclose(load_data(outputs.attenuation)[1, 1, 1], [1, 0], atol=1e-6)
    np.testing.assert_allclose(load_data(outputs.attenuation_error)[1, 1, 1, 1], 0, atol=1e-6)


def test_difference_is_control_minus_label_over_pairs(files):
    series = files.voxels('asl', [10.0, 13, 11, 16], [20.0, 20, 20, 24])
    context = ['label', 'control'] * 2
    outputs = files.run(EstimateDifference(series=series, mask=files.mask, context=context))
    np.testing.assert_allclose(files.read(outputs.difference), [4, 2])


def test_m0_is_corrected_for_recovery_and_takes_the_noise_of_one_volume(files):
    inputs = {
        'series': files.voxels('m0scan', [900.0, 1100.0], [500.0, 500.0]),
        **files.quantity('difference', 1.0, 1.0, variance=(2.0, 4.0)),
        'n_pairs': [10],
        't1_tissue': 1.6,
        'mask': files.mask,
    }
    outputs = files.run(EstimateM0(repetition_time=3.2, **inputs))
    recovery = 1 - np.exp(-2)
    np.testing.assert_allclose(files.read(outputs.m0), [1000 / recovery, 500 / recovery])
    one_volume = np.array([2.0, 4.0]) * 10 / 2
    np.testing.assert_allclose(files.read(outputs.m0, 'variance'), one_volume / 2 / recovery**2)
    first = files.run(EstimateM0(volumes=[0], **inputs))
    np.testing.assert_allclose(files.read(first.m0), [900, 500])


@pytest.mark.parametrize('axis', [0, 2])
def test_delay_grows_along_the_slices(files, axis):
    delay = files.run(
        MapDelay(mask=files.mask, post_label_delay=[1.8], slice_times=[0.0, 0.5], slice_axis=axis)
    ).delay
    expected = 1.8 + 0.5 * np.indices((2, 2, 2))[axis]
    np.testing.assert_allclose(load_data(delay), expected, rtol=1e-6)
    without = files.run(MapDelay(mask=files.mask, post_label_delay=[1.8])).delay
    np.testing.assert_allclose(load_data(without), 1.8, rtol=1e-6)


def test_cbf_is_the_formula_of_the_white_paper(files):
    """Alsop 2015 eq. 1 by hand: 6000 * 0.9 * dM * exp(1.8/1.65) / (2 * .85 * 1.65 * M0 * ...)."""
    ports = files.quantity('difference', 6.0, 3.0) | files.quantity('m0', 1000.0, 1000.0)
    outputs = files.run(
        EstimateCBF(
            mask=files.mask,
            label_duration=[1.8],
            post_label_delay=files.voxels('delay', 1.8, 1.8),
            labeling_efficiency=0.85,
            background_suppression_factor=1.0,
            t1_blood=1.65,
            partition_coefficient=0.9,
            **ports,
        )
    )
    decay = np.exp(1.8 / 1.65) / (1 - np.exp(-1.8 / 1.65))
    expected = 6000 * 0.9 * 6e-3 * decay / (2 * 0.85 * 1.65)
    np.testing.assert_allclose(files.read(outputs.cbf), [expected, expected / 2], rtol=1e-6)


def test_error_of_m0_is_taken_out_of_cbf(files):
    ports = files.quantity('m0', 1000.0, 500.0, variance=100.0)
    ports |= files.quantity('cbf', 50.0, 20.0, variance=9.0)
    outputs = files.run(SeparateM0Error(mask=files.mask, **ports))
    relative = np.array([1e-4, 4e-4])
    np.testing.assert_allclose(files.read(outputs.m0_relative), [1, 1])
    np.testing.assert_allclose(files.read(outputs.m0_relative, 'variance'), relative, rtol=1e-5)
    expected = 9 - np.array([2500, 400]) * relative
    np.testing.assert_allclose(files.read(outputs.cbf_without_m0, 'variance'), expected, rtol=1e-5)


def test_relative_cbv_is_larger_where_the_bolus_is_deeper(files, rng):
    time = 1.5 * np.arange(60)
    bolus = np.where(time > 20, np.maximum(time - 20, 0) ** 3 * np.exp(-(time - 20) / 1.5), 0)
    rate = np.outer([10.0, 20.0], bolus / bolus.max())
    signal = 1000 * np.exp(-0.03 * rate) + 0.5 * rng.standard_normal(rate.shape)
    outputs = files.run(
        EstimateBolus(
            series=files.voxels('dsc', *signal),
            mask=files.mask,
            echo_time=0.03,
            repetition_time=1.5,
        )
    )
    small, large = files.read(outputs.relative_cbv)
    assert large / small == pytest.approx(2, rel=0.03)
    assert small == pytest.approx(1.5 * rate[0].sum(), rel=0.03)


def test_white_matter_is_eroded_where_enough_is_left(tmp_path):

    files = Files(tmp_path, Grid((7, 7, 7), np.eye(4)))
    probability = np.zeros((7, 7, 7))
    probability[1:6, 1:6, 1:6] = 1.0
    path = files.image('wm', probability)
    eroded = files.run(SelectWhiteMatter(white_matter=path, minimum=20))
    assert load_data(eroded.white_matter).sum() == 27
    assert eroded.sidecar['WhiteMatterReference']['Eroded'] is True
    whole = files.run(SelectWhiteMatter(white_matter=path, minimum=100))
    assert load_data(whole.white_matter).sum() == 125
    assert whole.sidecar['WhiteMatterReference']['Voxels'] == 125
    with pytest.raises(Exception, match='found 125'):
        files.run(SelectWhiteMatter(white_matter=path, minimum=126))


def test_cbv_of_each_model(files):
    reference = files.voxels('wm', 1.0, 0.0)
    relative = files.quantity('relative_cbv', 10.0, 20.0)
    inputs = {'mask': files.mask, 'white_matter': reference, 'white_matter_cbv': 0.025}
    dsc = files.run(EstimateCBV(model='dsc', **inputs, **relative))
    np.testing.assert_allclose(files.read(dsc.cbv), [0.025, 0.05], rtol=1e-6)
    tissue = {'grey_matter': files.voxels('gm', 0.0, 0.5), 'grey_matter_cbv': 0.05}
    inputs['white_matter'] = files.voxels('wm2', 1.0, 0.5)
    fixed = files.run(EstimateCBV(model='literature', relative_error=0.1, **inputs, **tissue))
    np.testing.assert_allclose(files.read(fixed.cbv), [0.025, 0.0375], rtol=1e-6)
    power = {'grubb_factor': 0.01, 'grubb_exponent': 0.5, 'mask': files.mask}
    cbf = files.quantity('cbf', 25.0, 100.0)
    grubb = files.run(EstimateCBV(model='grubb', **power, **cbf))
    np.testing.assert_allclose(files.read(grubb.cbv), [0.05, 0.1], rtol=1e-6)


def test_oef_and_cmro2_of_grey_matter(files):
    """C = 316.956 1/s at 3 T and hct 0.42 with the ratio 0.85 (gamma of the preset)."""
    ports = files.quantity('r2_prime', 316.956 * 0.4 * 0.04, 5.0)
    ports |= files.quantity('cbv', 0.04, 0.0)
    oef = files.run(EstimateOEF(mask=files.mask, **OEF_CONSTANTS, **ports))
    np.testing.assert_allclose(files.read(oef.oef), [0.4, np.nan], rtol=1e-4)
    np.testing.assert_array_equal(files.read(oef.oef, 'status'), [0, Status.NO_BLOOD_VOLUME])
    ports = files.quantity('cbf', 50.0, 50.0)
    ports |= files.quantity('oef', 0.4, np.nan, status=(0, Status.NO_BLOOD_VOLUME))
    cmro2 = files.run(EstimateCMRO2(mask=files.mask, cao2=7.64, **ports))
    np.testing.assert_allclose(files.read(cmro2.cmro2), [50 * 0.4 * 7.64, np.nan], rtol=1e-5)
    assert files.read(cmro2.cmro2, 'status')[1] == Status.NO_BLOOD_VOLUME


# ------------------------------------------------------------------------------ every interface


def test_grid_header_and_type_of_the_outputs(oriented_files):
    files = oriented_files
    ports = files.quantity('r2_star', 18.0, 20.0) | files.quantity('r2', 13.0, 14.0)
    outputs = files.run(EstimateR2Prime(mask=files.mask, **ports))
    made = Bundle.read(outputs.r2_prime)
    for path, kind in zip(made.parts, (np.float32, np.float32, np.uint8), strict=True):
        assert grid_of(path).matches(files.grid)
        assert nb.load(path).get_data_dtype() == kind
        assert path.endswith('.nii'), 'compressing costs time; only derivatives are'
    np.testing.assert_allclose(files.read(outputs.r2_prime), [5, 6], rtol=1e-6)
    assert np.isnan(data_of(outputs.r2_prime)[~files.inside]).all()
    assert (data_of(outputs.r2_prime, 'status')[~files.inside] == Status.OUTSIDE_MASK).all()


SHIFTED = np.diag([3.0, 3.0, 3.0, 1.0])
SHIFTED[0, 3] = 1.5


@pytest.mark.parametrize(
    'other', [Grid((2, 2, 3), np.diag([3.0, 3, 3, 1])), Grid((2, 2, 2), SHIFTED)]
)
def test_map_on_another_grid_than_the_mask_is_refused(files, other):
    ports = files.quantity('rate', 10.0, 20.0)
    moved = files.image('moved', np.ones(other.shape), other)
    known = Bundle.read(ports['rate'])
    ports['rate'] = replace(known, variance=moved).write(files.folder / f'moved{BUNDLE}')
    with pytest.raises(GridMismatchError, match='on the grid of its mask'):
        files.run(ConvertRateToTime(mask=files.mask, **ports))


def test_degrees_of_freedom_travel_with_the_map(files):
    ports = files.quantity(
        'r2_star', 18.0, 12.0, variance=1.0, sidecar={'DegreesOfFreedom': 120.0}
    )
    ports |= files.quantity('r2', 13.0, 10.0, variance=1.0, sidecar={})
    facts = sidecar_of(files.run(EstimateR2Prime(mask=files.mask, **ports)).r2_prime)
    assert facts['DegreesOfFreedom'] >= 120
    time = files.run(
        ConvertRateToTime(
            mask=files.mask, **files.quantity('rate', 1.0, 2.0, sidecar={'DegreesOfFreedom': 77.0})
        )
    )
    assert sidecar_of(time.time) == {'DegreesOfFreedom': 77.0, 'StatusCounts': {'OK': 2}}


# --- parts and sets of a gradient echo ---------------------------------------------------------

GRADIENT_TIMES = [0.005, 0.010, 0.015, 0.020]


def gradient_echoes(times=GRADIENT_TIMES, rate=18.0, hertz=30.0):
    times = np.asarray(times)
    return 1000 * np.exp((2j * np.pi * hertz - rate) * times)


def parts_of(files, name, echoes, **parts):
    """One set as PrepareEchoes takes it; every voxel alike."""
    empty = {part: [] for part in ('magnitude', 'phase', 'real', 'imaginary')}
    lists = {
        part: [
            files.image(f'{name}_{part}{n}', np.full(files.grid.shape, function(echo)))
            for n, echo in enumerate(echoes)
        ]
        for part, function in parts.items()
    }
    return empty | lists | {'phase_scale': 1.0, 'echo_times': GRADIENT_TIMES, 'n_lines': None}


def test_real_and_imaginary_parts_and_a_declared_phase_scale_give_the_same_echoes(files):
    echoes = gradient_echoes()
    units = 4096 / (2 * np.pi)
    scaled = parts_of(files, 'a', echoes, magnitude=np.abs, phase=lambda e: np.angle(e) * units)
    scaled['phase_scale'] = 1 / units
    sets = [scaled, parts_of(files, 'b', echoes, real=np.real, imaginary=np.imag)]
    for one in sets:
        outputs = files.run(PrepareEchoes(sets=[one], mask=files.mask))
        for n, echo in enumerate(echoes):
            np.testing.assert_allclose(files.read(outputs.magnitude[n]), abs(echo), rtol=1e-5)
            np.testing.assert_allclose(files.read(outputs.phase[n]), np.angle(echo), atol=1e-4)
        assert not load_data(outputs.disagreement).any()


def test_inconsistency_is_zero_for_one_decay_and_counts_the_sets(files):
    ports = {
        'signal': [files.image(f'm{n}', np.full((2, 2, 2), abs(e)))
                   for n, e in enumerate(gradient_echoes())],
        'mask': files.mask,
        'echo_times': GRADIENT_TIMES,
        **files.quantity('r2_star', 18.0, 18.0),
    }  # fmt: skip
    still = files.run(MeasureEchoInconsistency(**ports))
    np.testing.assert_allclose(files.read(still.echo_inconsistency), 0, atol=1e-6)
    assert sidecar_of(still.echo_inconsistency)['MisfitErrorOfRate'] == 0
    assert sidecar_of(still.echo_inconsistency)['NoiseErrorOfRate'] == 0
    assert 'SliceEdge' not in sidecar_of(still.echo_inconsistency)
    apart = files.image('apart', np.full((2, 2, 2), 0.03))
    ports |= {'disagreement': apart, 'displacement': [0.0, 1.2], 'slice_edge': [0.01, 0.003, 900]}
    moved = files.run(MeasureEchoInconsistency(**ports))
    np.testing.assert_allclose(files.read(moved.echo_inconsistency), 0.03, rtol=1e-4)
    assert sidecar_of(moved.echo_inconsistency)['EchoInconsistency'] == pytest.approx(3.0)
    assert sidecar_of(moved.echo_inconsistency)['SetDisagreement'] == pytest.approx(3.0)
    assert sidecar_of(moved.echo_inconsistency)['SetDisplacement'] == [0.0, 1.2]
    edge = {'Variance': 0.01, 'Error': 0.003, 'Voxels': 900}
    assert sidecar_of(moved.echo_inconsistency)['SliceEdge'] == edge


def test_a_scale_slope_of_its_own_per_echo_is_applied(files, tmp_path):
    import nibabel as nb

    paths = []
    for n, echo in enumerate(np.abs(gradient_echoes())):
        image = nb.Nifti1Image(np.full((2, 2, 2), 7000, np.int16), files.grid.affine)
        image.header.set_slope_inter(echo / 7000, 0)
        paths.append(str(tmp_path / f'scaled{n}.nii'))
        nb.save(image, paths[-1])
    outputs = files.run(EstimateR2Star(signal=paths, mask=files.mask, echo_times=GRADIENT_TIMES))
    np.testing.assert_allclose(files.read(outputs.r2_star), 18, rtol=1e-4)


def test_published_limits_are_counted(files):
    ports = files.quantity('r2_star', 10.0, 18.0, variance=1.0)
    ports |= files.quantity('r2', 13.0, 13.0, variance=1.0)
    outputs = files.run(EstimateR2Prime(model='epp2025', mask=files.mask, **ports))
    np.testing.assert_allclose(files.read(outputs.r2_prime), [0, 5])
    assert sidecar_of(outputs.r2_prime)['StatusCounts'] == {'OK': 1, 'CAPPED': 1}


def test_decays_of_one_voxel_per_tissue_with_their_fit(files):
    signal = [files.voxels(f'echo{n}', 100.0 * np.exp(-10.0 * t), 80.0 * np.exp(-20.0 * t))
              for n, t in enumerate((0.01, 0.02))]  # fmt: skip
    made = files.run(
        SampleDecays(
            signal=signal,
            mask=files.mask,
            echo_times=[0.01, 0.02],
            noise_groups=files.voxels('groups', 1.0, 2.0),
            **files.quantity('rate', 10.0, 20.0, variance=1.0),
        )
    )
    table = pd.read_csv(made.decays, sep='\t')
    assert table.voxel.tolist() == ['grey matter'] * 2 + ['white matter'] * 2
    assert table[['i', 'j', 'k']].to_numpy()[[0, 2]].tolist() == [[0, 0, 0], [1, 1, 0]]
    np.testing.assert_allclose(table.fit, table.signal, rtol=1e-5)
