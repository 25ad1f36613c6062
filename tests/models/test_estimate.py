"""An estimate is NaN exactly where its status says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bids_app.errors import ModelInputError
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, is_missing

anything = npst.arrays(float, 4, elements=st.floats(allow_nan=True, allow_infinity=True))
any_status = npst.arrays(np.uint8, 4, elements=st.sampled_from([int(code) for code in Status]))


@given(anything, anything, any_status)
def test_of_makes_nan_and_status_agree_whatever_it_is_given(value, variance, status):
    estimate = Estimate.of(value, variance, status)
    missing = is_missing(estimate.status)
    np.testing.assert_array_equal(np.isnan(estimate.value), missing)
    np.testing.assert_array_equal(np.isnan(estimate.variance), missing)
    assert np.isfinite(estimate.value[~missing]).all()
    assert np.isfinite(estimate.variance[~missing]).all()
    assert (estimate.variance[~missing] >= 0).all()


@given(anything, any_status)
def test_of_keeps_what_is_known_and_the_reason_that_was_given(value, status):
    estimate = Estimate.of(value, 1.0, status)
    kept = np.isfinite(value) & ~is_missing(status)
    np.testing.assert_array_equal(estimate.value[kept], value[kept])
    np.testing.assert_array_equal(estimate.status[kept | is_missing(status)],
                                  status[kept | is_missing(status)])  # fmt: skip


def test_value_that_is_not_finite_or_has_no_possible_variance_is_invalid_input():
    estimate = Estimate.of([1.0, np.nan, np.inf, 1.0, 1.0], [0.0, 1.0, 1.0, np.nan, -1.0])
    expected = [Status.OK, *[Status.INVALID_INPUT] * 4]
    np.testing.assert_array_equal(estimate.status, expected)


def test_of_leaves_its_inputs_alone():
    value, variance = np.array([1.0, 2.0]), np.array([0.1, 0.2])
    status = np.array([Status.OK, Status.NO_SIGNAL], np.uint8)
    for array in (value, variance, status):
        array.setflags(write=False)
    estimate = Estimate.of(value, variance, status, dof=12)
    assert estimate.dof == 12.0
    assert value[1] == 2.0
    assert not np.shares_memory(estimate.value, value)


@pytest.mark.parametrize(
    ('value', 'variance', 'status', 'said'),
    [
        ([1.0], [1.0, 2.0], [0], 'equal shapes'),
        ([np.nan], [np.nan], [Status.OK], 'value must be NaN exactly where'),
        ([1.0], [np.nan], [Status.NO_SIGNAL], 'value must be NaN exactly where'),
        ([np.nan], [1.0], [Status.NO_SIGNAL], 'variance must be NaN'),
    ],
)
def test_contradictions_are_refused(value, variance, status, said):
    with pytest.raises(ModelInputError, match=said):
        Estimate(np.array(value), np.array(variance), np.array(status, np.uint8))


def test_an_estimate_cannot_be_changed():
    estimate = Estimate.of([1.0])
    with pytest.raises(AttributeError):
        estimate.value = np.zeros(1)
