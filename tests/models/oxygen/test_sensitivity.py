import math

import numpy as np
import pytest

from bids_app.models.asl.single_delay import cbf_from_difference
from bids_app.models.oxygen.cmro2 import arterial_oxygen_content, cmro2_from_cbf
from bids_app.models.oxygen.mqbold import oef_from_r2_prime, static_dephasing_constant
from bids_app.models.oxygen.sensitivity import (
    RELATIVE_ERROR,
    predict_relative,
    relative_effects,
    relative_error,
    variance_shares,
)

CONSTANTS = {
    'oxygen.b0': 3.0,
    'oxygen.hct': 0.42,
    'oxygen.sao2': 0.97,
    'oxygen.small_vessel_hct_ratio': 0.85,
    'oxygen.susceptibility': 0.264e-6,
    'oxygen.oxygen_per_haemoglobin': 55.6,
    'oxygen.haemoglobin_per_hct': 33.4,
    'perfusion.labeling_efficiency': 0.85,
    'perfusion.background_suppression_factor': 0.75,
    'perfusion.t1_blood': 1.65,
    'perfusion.partition_coefficient': 0.9,
    'perfusion.label_duration': 1.8,
    'perfusion.post_label_delay': 1.8,
    'blood_volume.white_matter_cbv': 0.025,
}


def full_chain(constants):
    """CMRO2 of one voxel by the functions of the app, one after the other."""
    get = {name.partition('.')[2]: value for name, value in constants.items()}
    flow_names = ('labeling_efficiency', 'background_suppression_factor', 't1_blood',
                  'partition_coefficient', 'label_duration', 'post_label_delay')  # fmt: skip
    flow = cbf_from_difference(0.005, 1.0, **{name: get[name] for name in flow_names})
    blood = ('b0', 'hct', 'small_vessel_hct_ratio', 'susceptibility')
    volume = 1.9 * get['white_matter_cbv']
    oef = oef_from_r2_prime(
        5.4,
        volume,
        static_dephasing_constant=static_dephasing_constant(**{x: get[x] for x in blood}),
    )
    content = ('hct', 'sao2', 'oxygen_per_haemoglobin', 'haemoglobin_per_hct')
    cao2 = arterial_oxygen_content(**{name: get[name] for name in content})
    return float(cmro2_from_cbf(flow, oef, cao2=cao2))


@pytest.mark.parametrize('name', sorted(set(CONSTANTS) & set(RELATIVE_ERROR)))
def test_the_effect_of_a_constant_is_that_on_the_whole_chain(name):
    changed = {**CONSTANTS, name: 1.02 * CONSTANTS[name]}
    elasticity = relative_effects(CONSTANTS)[name] / RELATIVE_ERROR[name][0]
    expected = math.log(full_chain(changed) / full_chain(CONSTANTS)) / math.log(1.02)
    assert elasticity == pytest.approx(expected, abs=0.02)


def test_haematocrit_cancels_between_extraction_and_content():
    assert relative_effects(CONSTANTS)['oxygen.hct'] == pytest.approx(0, abs=1e-9)


def test_by_a_power_law_flow_enters_volume_too():
    grubb = {name: value for name, value in CONSTANTS.items() if 'white' not in name}
    grubb |= {'blood_volume.grubb_factor': 0.008, 'blood_volume.grubb_exponent': 0.38}
    effects = relative_effects(grubb)
    error = RELATIVE_ERROR['perfusion.labeling_efficiency'][0]
    assert effects['perfusion.labeling_efficiency'] == pytest.approx(-error * 0.62, rel=1e-6)


def test_several_delays_and_no_suppression_are_understood():
    several = dict(CONSTANTS)
    del several['perfusion.post_label_delay'], several['perfusion.background_suppression_factor']
    several |= {'perfusion.post_label_delay_1': 0.5, 'perfusion.post_label_delay_2': 1.8}
    one, other = (predict_relative(given, 'cmro2') for given in (several, CONSTANTS))
    assert one == pytest.approx(0.75 * other)


def test_flow_goes_as_one_over_the_duration_of_an_uncut_bolus():
    pulsed = {name: one for name, one in CONSTANTS.items() if 'label_duration' not in name}
    pulsed['perfusion.bolus_duration'] = 0.9
    error = RELATIVE_ERROR['perfusion.bolus_duration'][0]
    effects = relative_effects(pulsed, 'cbf')
    assert effects['perfusion.bolus_duration'] == pytest.approx(-error, rel=1e-3)


def test_flow_that_was_given_needs_no_constants_of_labelling():
    given = {name: value for name, value in CONSTANTS.items() if 'perfusion' not in name}
    assert not [name for name in relative_effects(given) if 'perfusion' in name]


def test_shares_add_up_and_noise_takes_what_it_is_worth():
    effects = relative_effects(CONSTANTS)
    shares = variance_shares(effects, 0.3)
    assert sum(shares.values()) == pytest.approx(1)
    total = 0.3**2 + np.square(list(effects.values())).sum()
    assert shares['noise'] == pytest.approx(0.3**2 / total)
    assert set(variance_shares({}, 0.0).values()) == {0.0}


def test_a_constant_at_the_end_of_its_range_has_an_effect():
    limits = {
        'oxygen.sao2': 1.0,
        'perfusion.labeling_efficiency': 1.0,
        'perfusion.background_suppression_factor': 1.0,
        'oxygen.small_vessel_hct_ratio': 1.0,
    }
    effects = relative_effects({**CONSTANTS, **limits})
    inside = relative_effects({**CONSTANTS, **{name: 0.999 for name in limits}})
    for name in limits:
        assert effects[name] == pytest.approx(inside[name], rel=2e-3)


def test_error_by_constants_follows_from_the_parts_of_a_quantity():
    """By hand: CBV 15 %; OEF that and susceptibility 10 %, haematocrit 3 % and its ratio 10 %."""
    constants = {
        'oxygen.b0': 3.0,
        'oxygen.hct': 0.42,
        'oxygen.sao2': 0.98,
        'oxygen.small_vessel_hct_ratio': 0.85,
        'oxygen.susceptibility': 0.264e-6,
        'blood_volume.white_matter_cbv': 0.025,
    }
    assert relative_error(constants, 'cbv') == pytest.approx(0.15, rel=1e-3)
    by_hand = np.sqrt(0.15**2 + 0.1**2 + 0.1**2 + 0.03**2)
    assert relative_error(constants, 'oef') == pytest.approx(by_hand, rel=1e-3)
    assert relative_error(constants, 'r2_prime') == 0
    effects = relative_effects(constants)
    total = np.sqrt(sum(effect**2 for effect in effects.values()))
    assert relative_error(constants, 'cmro2') == pytest.approx(total)


def test_scaled_by_venous_blood_oef_has_its_error_and_none_of_the_model():
    blood = {'oxygen.venous_saturation': 0.62, 'oxygen.venous_saturation_error': 0.03}
    scaled = {**CONSTANTS, **blood, 'oxygen.venous_extraction': 1 - 0.62 / 0.97}
    effects = {
        name: one for name, one in relative_effects(scaled, 'oef').items() if abs(one) > 1e-9
    }
    assert effects == pytest.approx(
        {
            'oxygen.venous_saturation': -0.03 / (0.97 - 0.62),
            'oxygen.sao2': 0.01 * 0.62 / (0.97 - 0.62),
        },
        rel=1e-3,
    )
    of_metabolism = relative_effects(scaled)
    for name in ('oxygen.susceptibility', 'blood_volume.white_matter_cbv'):
        assert of_metabolism[name] == pytest.approx(0, abs=1e-9)
    flow = relative_effects(CONSTANTS, 'cbf')['perfusion.t1_blood']
    assert of_metabolism['perfusion.t1_blood'] == pytest.approx(flow)
    # content and extraction together: metabolism goes with the difference of the saturations
    assert of_metabolism['oxygen.sao2'] == pytest.approx(0.01 * 0.97 / 0.35, rel=1e-3)
    assert relative_effects({**CONSTANTS, **blood}) == pytest.approx(relative_effects(CONSTANTS))
