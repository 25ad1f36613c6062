"""From relative blood volume to CBV."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.errors import ModelInputError
from bids_app.models.dsc.cbv_scaling import (
    cbv_change_that_flips_sign,
    cbv_from_arterial_input,
    cbv_from_cbf,
    cbv_from_tissue,
    change_cbv_by_flow,
    change_cbv_by_parcel,
    flag_large_vessels,
    haematocrit_factor,
    normalise_to_white_matter,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status


def test_white_matter_has_its_literature_value_on_average():
    area = Estimate.of([8.0, 12.0, 20.0, 40.0], dof=150)
    cbv = normalise_to_white_matter(area, [True, True, False, False], white_matter_cbv=0.025)
    assert cbv.value[:2].mean() == pytest.approx(0.025)
    np.testing.assert_allclose(cbv.value[2:], [0.05, 0.1])
    assert cbv.dof == 150


def test_variance_of_normalised_volume_is_its_spread():
    rng = np.random.default_rng(13)
    white, grey = 10 + rng.standard_normal((20_000, 20)), 20 + 2 * rng.standard_normal(20_000)
    spread = (0.025 * grey / white.mean(axis=1)).std()
    area = Estimate.of(np.append(np.full(20, 10.0), 20.0), np.append(np.full(20, 1.0), 4.0))
    is_white = np.arange(21) < 20
    cbv = normalise_to_white_matter(area, is_white, white_matter_cbv=0.025)
    assert float(cbv.variance[-1] ** 0.5) == pytest.approx(spread, rel=0.02)


def test_missing_white_matter_voxels_do_not_move_the_reference():
    area = Estimate.of([10.0, np.nan, 20.0], 0.0, [0, Status.NO_SIGNAL, 0])
    cbv = normalise_to_white_matter(area, [True, True, False], white_matter_cbv=0.025)
    np.testing.assert_array_equal(cbv.status, [Status.OK, Status.NO_SIGNAL, Status.OK])
    assert cbv.value[2] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ('area', 'white_matter'),
    [([10.0, 20.0], [False, False]), ([-1.0, 20.0], [True, False]), ([0.0, 2.0], [True, False])],
)
def test_without_a_positive_reference_there_is_no_volume(area, white_matter):
    cbv = normalise_to_white_matter(Estimate.of(area), white_matter, white_matter_cbv=0.025)
    np.testing.assert_array_equal(cbv.status, [Status.NO_REFERENCE] * 2)


def test_white_matter_of_another_shape_is_refused():
    with pytest.raises(ModelInputError, match='shape'):
        normalise_to_white_matter(Estimate.of([1.0, 2.0]), [True], white_matter_cbv=0.025)


def test_power_law_gives_the_published_volume():
    # Grubb et al. 1974: 0.80 CBF^0.38, mL/100 mL
    cbv = cbv_from_cbf(Estimate.of([55.0]), grubb_factor=0.008, grubb_exponent=0.38)
    assert cbv.value[0] == pytest.approx(0.03667988, abs=1e-7)


@given(st.floats(1, 150), st.floats(0.5, 2))
def test_relative_change_of_volume_is_the_exponent_of_that_of_flow(flow, ratio):
    options = {'grubb_factor': 0.008, 'grubb_exponent': 0.38}
    cbv = cbv_from_cbf(Estimate.of([flow, ratio * flow]), **options).value
    assert cbv[1] / cbv[0] == pytest.approx(ratio**0.38)


def test_error_of_flow_enters_volume_by_the_exponent():
    cbf = Estimate.of([50.0], 25.0, dof=140)
    cbv = cbv_from_cbf(cbf, grubb_factor=0.008, grubb_exponent=0.38)
    assert float(cbv.variance[0] ** 0.5 / cbv.value[0]) == pytest.approx(0.38 * 5 / 50)
    assert cbv.dof == 140


def test_without_flow_the_power_law_gives_no_volume():
    cbf = Estimate.of([0.0, -4.0, np.nan], 1.0, [0, Status.NEGATIVE, Status.NO_REFERENCE])
    cbv = cbv_from_cbf(cbf, grubb_factor=0.008, grubb_exponent=0.38)
    np.testing.assert_array_equal(
        cbv.status, [Status.NO_BLOOD_VOLUME, Status.NO_BLOOD_VOLUME, Status.NO_REFERENCE]
    )


def test_literature_volume_is_the_mean_of_the_tissues():
    cbv = cbv_from_tissue(
        [1.0, 0.0, 0.5, 0.0, np.nan, -0.2],
        [0.0, 1.0, 0.25, 0.0, 0.0, 0.0],
        grey_matter_cbv=0.048,
        white_matter_cbv=0.025,
        relative_error=0.1,
    )
    np.testing.assert_allclose(cbv.value[:4], [0.048, 0.025, 0.03025, 0.0])
    np.testing.assert_allclose(np.sqrt(cbv.variance[:4]), 0.1 * cbv.value[:4])
    np.testing.assert_array_equal(cbv.status, [0, 0, 0, 0, 3, 3])


@pytest.mark.parametrize(
    ('function', 'arguments', 'name'),
    [
        (cbv_from_cbf, {'grubb_factor': 0.0, 'grubb_exponent': 0.38}, 'grubb_factor'),
        (cbv_from_cbf, {'grubb_factor': 0.8, 'grubb_exponent': -1.0}, 'grubb_exponent'),
        (
            cbv_from_tissue,
            {'grey_matter_cbv': 0.0, 'white_matter_cbv': 0.025, 'relative_error': 0.1},
            'grey_matter_cbv',
        ),
        (
            cbv_from_tissue,
            {'grey_matter_cbv': 0.05, 'white_matter_cbv': 0.025, 'relative_error': -0.1},
            'relative_error',
        ),
    ],
)
def test_parameter_out_of_range_is_refused_by_name(function, arguments, name):
    inputs = (Estimate.of([50.0]),) if function is cbv_from_cbf else ([1.0], [0.0])
    with pytest.raises(ModelInputError, match=name):
        function(*inputs, **arguments)


def test_tissues_of_different_shape_are_refused():
    with pytest.raises(ModelInputError, match='equal shapes'):
        cbv_from_tissue(
            [1.0], [0.0, 1.0], grey_matter_cbv=0.05, white_matter_cbv=0.02, relative_error=0.1
        )


def test_absolute_volume_is_the_ratio_of_areas_times_the_plasma_ratio():
    # (1 - .42)/(1 - .357) 5/100
    cbv = cbv_from_arterial_input(
        Estimate.of([5.0], 0.25),
        arterial_area=100.0,
        haematocrit_factor=haematocrit_factor(hct=0.42, small_vessel_hct_ratio=0.85),
    )
    assert cbv.value[0] == pytest.approx(0.0451011, abs=1e-6)
    assert np.sqrt(cbv.variance[0]) / cbv.value[0] == pytest.approx(0.1)
    assert haematocrit_factor(hct=0.4, small_vessel_hct_ratio=1.0) == 1.0
    with pytest.raises(ModelInputError, match='hct'):
        haematocrit_factor(hct=42, small_vessel_hct_ratio=0.85)


def test_large_vessels_are_flagged_or_excluded_and_nothing_else_is():
    cbv = Estimate.of([0.05, 0.2, -0.01, np.nan], 1e-6, [0, 0, Status.NEGATIVE, Status.NO_SIGNAL])
    kept = flag_large_vessels(cbv, large_vessel_cbv=0.1, exclude=False)
    assert kept.status.tolist() == [0, Status.LARGE_VESSEL, Status.NEGATIVE, Status.NO_SIGNAL]
    np.testing.assert_array_equal(kept.value, cbv.value)
    gone = flag_large_vessels(cbv, large_vessel_cbv=0.1, exclude=True)
    assert gone.status[1] == Status.EXCLUDED_VESSEL
    assert np.isnan(gone.value[1])


def test_flow_carries_volume_to_the_task_with_all_three_errors():
    rng = np.random.default_rng(17)
    n = 40_000
    cbv, task, baseline = (
        mean * (1 + 0.05 * rng.standard_normal(n)) for mean in (0.048, 66.0, 55.0)
    )
    spread = (cbv * (task / baseline) ** 0.38).std()
    found = change_cbv_by_flow(
        *(Estimate.of([mean], (0.05 * mean) ** 2) for mean in (0.048, 66.0, 55.0)),
        grubb_exponent=0.38,
    )
    assert found.value[0] == pytest.approx(0.048 * 1.2**0.38)
    assert np.sqrt(found.variance[0]) == pytest.approx(spread, rel=0.02)
    none = change_cbv_by_flow(
        Estimate.of([0.05]), Estimate.of([-1.0]), Estimate.of([50.0]), grubb_exponent=0.38
    )
    assert none.status[0] == Status.NO_REFERENCE


def test_parcel_factor_scales_value_and_error_alike():
    found = change_cbv_by_parcel(Estimate.of([0.04, 0.04], 1e-6), [0.05, -0.05])
    np.testing.assert_allclose(found.value, [0.042, 0.038])
    np.testing.assert_allclose(np.sqrt(found.variance) / found.value, 1e-3 / 0.04)
    with pytest.raises(ModelInputError, match='above -1'):
        change_cbv_by_parcel(Estimate.of([0.04]), [5.0 - 7.0])


@given(st.floats(0.8, 1.3), st.floats(0.8, 1.3))
def test_at_the_tipping_point_metabolism_does_not_change(flow, rate):
    change = cbv_change_that_flips_sign(
        task_cbf=50 * flow, baseline_cbf=50, task_r2_prime=5 * rate, baseline_r2_prime=5
    )
    before, after = 50 * 5 / 0.048, 50 * flow * 5 * rate / (0.048 * (1 + change))
    assert after == pytest.approx(before)


def test_tipping_point_is_that_of_the_specification():
    # science: (1 + f) R2't/R2'b - 1 with BOLD +0.5 %, TE 30 ms, R2' 5.3: f* = 3.3 % at no change
    rate = 5.3 - 0.005 / 0.03
    found = cbv_change_that_flips_sign(
        task_cbf=1.0325, baseline_cbf=1.0, task_r2_prime=rate, baseline_r2_prime=5.3
    )
    assert found == pytest.approx(0.0, abs=5e-4)
    assert np.isnan(
        cbv_change_that_flips_sign(
            task_cbf=1.0, baseline_cbf=1.0, task_r2_prime=-1.0, baseline_r2_prime=5.3
        )
    )
