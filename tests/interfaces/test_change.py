"""Changes, tests and labels of two voxels."""

import numpy as np
import pytest

from bids_app.images import load_data
from bids_app.interfaces import change as interfaces
from bids_app.interfaces._base import (
    BETWEEN_SCANS,
    ERROR_FACTORS,
    RUNS_COMBINED,
    SCAN_DIFFERENCES,
    SHARED_NOISE,
    VOXELS_PER_SAMPLE,
    sidecar_of,
)
from bids_app.models.concordance.labels import Label
from bids_app.models.oxygen.mqbold import static_dephasing_constant


def both(files, quantity, task, baseline, **options):
    return files.quantity(f'task_{quantity}', *task, **options) | files.quantity(
        f'baseline_{quantity}', *baseline, **options
    )


CHAIN = {'r2_prime': 'difference', 'oef': 'mqbold', 'cmro2': 'fick'}
RATE = static_dephasing_constant(b0=3.0, hct=0.42)
CONSTANTS = {'static_dephasing_constant': RATE, 'cao2': 8.0}


def change_in(files, quantity, ports, **options):
    """Outputs of the node; `reference` and `m0_relative` are ports that every change has."""
    names = [name for name in ports if name not in ('reference', 'm0_relative')]
    interface = interfaces.EstimateChange(
        mask=files.mask,
        sources=names,
        quantity=quantity,
        models=CHAIN,
        **({'between_scans': 'none'} | options),
    )
    for name, path in ports.items():
        setattr(interface.inputs, name, path)
    return files.run(interface)


def test_change_of_cbf_with_z_p_and_percent(files):
    ports = both(files, 'cbf', (60.0, 40.0), (50.0, 50.0), variance=8.0)
    ports |= files.quantity('reference', 50.0, -1.0)
    outputs = change_in(files, 'cbf', ports)
    np.testing.assert_allclose(files.read(outputs.change), [10, -10])
    np.testing.assert_allclose(files.read(outputs.change, 'variance'), [16, 16])
    np.testing.assert_allclose(files.read(outputs.change_z), [2.5, -2.5])
    np.testing.assert_allclose(files.read(outputs.change_p), [0.0124193, 0.0124193], rtol=1e-5)
    np.testing.assert_allclose(files.read(outputs.change_percent), [20, np.nan])


def test_error_of_a_shared_m0_counts_once(files):
    ports = both(files, 'cbf', (60.0, 50.0), (50.0, 50.0), variance=8.0)
    ports |= files.quantity('reference', 50.0, 50.0)
    ports |= files.quantity('m0_relative', 1.0, 1.0, variance=0.01)
    outputs = change_in(files, 'cbf', ports)
    np.testing.assert_allclose(files.read(outputs.change, 'variance'), [16 + 0.01 * 100, 16])


def test_shared_r2_cancels_in_the_change_of_r2_prime(files):
    ports = both(files, 'r2_star', (20.0, 17.0), (19.0, 19.0), variance=0.5)
    ports |= files.quantity('r2', 13.0, 13.0, variance=100.0)
    ports |= files.quantity('reference', 6.0, 6.0)
    outputs = change_in(files, 'r2_prime', ports, shared=['r2'])
    np.testing.assert_allclose(files.read(outputs.change), [1, -2])
    np.testing.assert_allclose(files.read(outputs.change, 'variance'), [1, 1])


def test_own_r2_of_each_condition_counts(files):
    ports = both(files, 'r2_star', (20.0, 17.0), (19.0, 19.0), variance=0.5)
    ports |= both(files, 'r2', (13.0, 13.0), (12.0, 13.0), variance=1.0)
    ports |= files.quantity('reference', 7.0, 6.0)
    outputs = change_in(files, 'r2_prime', ports)
    np.testing.assert_allclose(files.read(outputs.change), [0, -2])
    np.testing.assert_allclose(files.read(outputs.change, 'variance'), [3, 3])


def test_change_of_cbv(files):
    ports = both(files, 'cbv', (0.05, 0.04), (0.04, 0.04), variance=1e-6)
    ports |= files.quantity('reference', 0.04, 0.04)
    outputs = change_in(files, 'cbv', ports)
    np.testing.assert_allclose(files.read(outputs.change), [0.01, 0], atol=1e-8)


def test_what_scans_differ_by_is_part_of_the_error_of_a_change(files):
    """3.5 % of 60 and 50 in common, 3 % of them per region."""
    ports = both(files, 'cbf', (60.0, 50.0), (50.0, 50.0), variance=8.0)
    ports |= files.quantity('reference', 50.0, 50.0)
    outputs = change_in(files, 'cbf', ports, between_scans='prior')
    squares = np.array([60.0**2 + 50.0**2, 2 * 50.0**2])
    np.testing.assert_allclose(files.read(outputs.change_common), 0.035**2 * squares, rtol=1e-5)
    np.testing.assert_allclose(files.read(outputs.change_local), 0.03**2 * squares, rtol=1e-5)
    variance = 16 + (0.035**2 + 0.03**2) * squares
    np.testing.assert_allclose(files.read(outputs.change, 'variance'), variance, rtol=1e-5)
    np.testing.assert_allclose(
        files.read(outputs.change_z), [10, 0] / np.sqrt(variance), rtol=1e-5
    )
    assert sidecar_of(outputs.change)[BETWEEN_SCANS]['task_cbf']['Common'] == 0.035


def test_what_was_measured_once_does_not_differ_between_scans(files):
    ports = both(files, 'r2_star', (20.0, 17.0), (19.0, 19.0), variance=0.5)
    ports |= files.quantity('r2', 13.0, 13.0) | files.quantity('cbv', 0.05, 0.05)
    ports |= files.quantity('reference', 0.3, 0.3)
    shared = {'constants': CONSTANTS, 'shared': ['r2', 'cbv'], 'between_scans': 'prior'}
    facts = sidecar_of(change_in(files, 'oef', ports, **shared).change)
    assert set(facts[BETWEEN_SCANS]) == {'task_r2_star', 'baseline_r2_star'}


@pytest.mark.parametrize(
    ('how', 'common'), [('learnt', (8 * 0.035**2 + 0.1**2) / 9), ('prior', 0.035**2)]
)
def test_halves_and_repeated_scans_change_what_scans_differ_by(files, how, common):
    """Two conditions, each the mean of two scans: the variance of one scan."""
    facts = {SCAN_DIFFERENCES: [{'common': 0.1**2, 'local': 0.03**2}], RUNS_COMBINED: 2}
    ports = both(files, 'cbf', (50.0, 50.0), (50.0, 50.0), variance=8.0, sidecar=facts)
    ports |= files.quantity('reference', 50.0, 50.0)
    outputs = change_in(files, 'cbf', ports, between_scans=how)
    np.testing.assert_allclose(files.read(outputs.change_common), common * 50**2, rtol=1e-5)


def test_what_is_known_of_the_noise_of_a_change_is_that_of_its_maps(files):
    ports = both(files, 'cbf', (60.0, 50.0), (50.0, 50.0), variance=8.0,
                 sidecar={SHARED_NOISE: {'parcel': 0.2, 'network': 0.1, 'brain': 0.1},
                        ERROR_FACTORS: [1.3]})  # fmt: skip
    ports |= files.quantity('reference', 50.0, 50.0)
    outputs = change_in(files, 'cbf', ports)
    facts = sidecar_of(outputs.change)
    assert facts[ERROR_FACTORS] == [1.3, 1.3]  # of both scans
    shares = facts[SHARED_NOISE]
    assert shares == pytest.approx({'parcel': 0.2, 'network': 0.1, 'brain': 0.1})


def test_changes_of_oef_and_cmro2_are_those_of_the_models_of_the_maps(files):
    """OEF = R2'/(C CBV): 6/(C .05) against 4.5/(C .05); CMRO2 = CaO2 CBF OEF."""
    rate = RATE
    ports = both(files, 'r2_star', (19.0, 17.5), (17.5, 17.5))
    ports |= files.quantity('r2', 13.0, 13.0) | files.quantity('cbv', 0.05, 0.05)
    ports |= files.quantity('reference', 0.3, 0.3)
    shared = {'constants': CONSTANTS, 'shared': ['r2', 'cbv']}
    oef = change_in(files, 'oef', ports, **shared)
    task, baseline = 6.0 / (rate * 0.05), 4.5 / (rate * 0.05)
    np.testing.assert_allclose(files.read(oef.change), [task - baseline, 0], atol=1e-6)
    ports |= both(files, 'cbf', (60.0, 50.0), (50.0, 50.0))
    cmro2 = change_in(files, 'cmro2', ports, **shared)
    expected = [8 * (60 * task - 50 * baseline), 0]
    np.testing.assert_allclose(files.read(cmro2.change), expected, rtol=1e-5, atol=1e-5)


def test_change_tells_how_many_voxels_share_a_noise_sample(files):
    ports = files.quantity('task_cbf', 60.0, 50.0, sidecar={VOXELS_PER_SAMPLE: 3.0})
    ports |= files.quantity('baseline_cbf', 50.0, 50.0, sidecar={VOXELS_PER_SAMPLE: 2.0})
    ports |= files.quantity('reference', 50.0, 50.0)
    outputs = change_in(files, 'cbf', ports)
    assert sidecar_of(outputs.change)[VOXELS_PER_SAMPLE] == 3.0


def test_effect_is_tested_against_its_error(files):
    ports = files.quantity('quantity', 1.0, 0.0, variance=0.25)
    outputs = files.run(interfaces.ComputeStatistics(mask=files.mask, **ports))
    np.testing.assert_allclose(files.read(outputs.change_z), [2, 0])
    np.testing.assert_allclose(files.read(outputs.change_p), [0.04550026, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ('change', 'sign', 'robust'),
    [
        (20.0, Label.CONCORDANT_POSITIVE, Label.CONCORDANT_POSITIVE),
        (-20.0, Label.DISCORDANT_POSITIVE, Label.DISCORDANT_POSITIVE),
        (-0.1, Label.DISCORDANT_POSITIVE, Label.UNDETERMINED_POSITIVE),
    ],
)
def test_labels_of_a_voxel_with_bold_increase(files, change, sign, robust):
    ports = files.quantity('bold', 1.0, 0.0, variance=0.01)
    ports |= files.quantity('change', change, 20.0, variance=1.0)
    ports |= files.quantity('baseline', 130.0, 130.0)
    levels = {'minimum_grey_matter': 0.5, 'bold_q': 0.05, 'level': 0.05, 'mask': files.mask,
              'smallest_effect': 0.01}  # fmt: skip
    grey = files.voxels('gm', 0.9, 0.9)
    outputs = files.run(interfaces.LabelConcordance(grey_matter=grey, **levels, **ports))
    np.testing.assert_array_equal(files.read(outputs.sign), [sign, Label.NOT_SIGNIFICANT])
    np.testing.assert_array_equal(files.read(outputs.robust), [robust, Label.NOT_SIGNIFICANT])
    assert (load_data(outputs.sign)[~files.inside] == Label.OUTSIDE).all()


def test_white_matter_is_not_labelled(files):
    ports = files.quantity('bold', 1.0, 1.0, variance=0.01)
    ports |= files.quantity('change', 20.0, 20.0, variance=1.0)
    ports |= files.quantity('baseline', 130.0, 130.0)
    levels = {'minimum_grey_matter': 0.5, 'bold_q': 0.05, 'level': 0.05, 'mask': files.mask,
              'smallest_effect': 0.01}  # fmt: skip
    grey = files.voxels('gm', 0.9, 0.5)
    outputs = files.run(interfaces.LabelConcordance(grey_matter=grey, **levels, **ports))
    np.testing.assert_array_equal(files.read(outputs.robust), [1, Label.OUTSIDE])


def test_probability_of_discordance_is_given_where_bold_is_significant(files):
    ports = files.quantity('bold', 1.0, 0.0, variance=0.01)
    ports |= files.quantity('change', -20.0, 20.0, variance=1.0)
    ports |= files.quantity('baseline', 130.0, 130.0)
    levels = {'minimum_grey_matter': 0.5, 'bold_q': 0.05, 'level': 0.05, 'mask': files.mask,
              'smallest_effect': 0.01}  # fmt: skip
    grey = files.voxels('gm', 0.9, 0.9)
    outputs = files.run(interfaces.LabelConcordance(grey_matter=grey, **levels, **ports))
    np.testing.assert_allclose(files.read(outputs.discordant), [1.0, np.nan], atol=1e-6)


def test_response_mode_compares_flow_with_extraction(files):
    ports = files.quantity('cbf', 15.0, 0.5, variance=0.01)
    ports |= files.quantity('oef', -0.01, -0.1, variance=1e-6)
    outputs = files.run(
        interfaces.LabelResponseMode(
            mask=files.mask,
            labels=files.voxels('labels', np.uint8(1), np.uint8(6)),
            baseline_cbf=files.voxels('base_cbf', 50.0, 50.0),
            baseline_oef=files.voxels('base_oef', 0.4, 0.4),
            **ports,
        )
    )
    np.testing.assert_array_equal(files.read(outputs.mode), [1, 2])


@pytest.mark.parametrize(
    ('route', 'ratio'),
    [
        ('semiquantitative', 1.1 * (1 - 10 * 0.5 / (30 * 5.3)) / 1.05),
        ('davis', (1 - 0.5 / 15.9) ** (1 / 1.3) * 1.1 ** (1 - 0.23 / 1.3)),
    ],
)
def test_route_through_bold_gives_the_ratio_of_its_closed_form(files, route, ratio):
    values = {
        'bold': 0.5, 'task_cbf': 52.8, 'baseline_cbf': 48.0, 'baseline_r2_star': 18.8,
        'baseline_r2': 13.5, 'baseline_cbv': 0.048, 'reference': 120.0,
    }  # fmt: skip
    ports = {}
    for name, value in values.items():
        ports |= files.quantity(name, value, value)
    names = [name for name in ports if name != 'reference']
    interface = interfaces.EstimateChangeByBOLD(
        sources=names, mask=files.mask, route=route, echo_time=0.03, cbv_response=0.05,
        static_dephasing_constant=316.956, cao2=7.64358,
        models={'bold_maximum': 'r2-prime', 'r2_prime': 'difference', 'oef': 'mqbold',
                'cmro2': 'fick'},
        constants={'static_dephasing_constant': 316.956, 'cao2': 7.64358, 'bold_echo_time': 0.03,
                   'alpha': 0.23, 'beta': 1.3},
    )  # fmt: skip
    for name, path in ports.items():
        setattr(interface.inputs, name, path)
    outputs = files.run(interface)
    baseline = 48.0 * 5.3 / 0.048 * 7.64358 / 316.956
    np.testing.assert_allclose(files.read(outputs.change), baseline * (ratio - 1), rtol=1e-5)


def test_voxels_beyond_published_limits_are_no_grey_matter(files):
    outputs = files.run(
        interfaces.LimitVoxels(
            mask=files.mask,
            grey_matter=files.voxels('gm', 0.9, 0.8),
            maps=[files.voxels('oef', 0.4, 0.95)],
            limits=[(0.0, 0.9)],
        )
    )
    np.testing.assert_allclose(files.read(outputs.grey_matter), [0.9, 0.0], rtol=1e-6)
