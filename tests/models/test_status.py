"""Reasons for missing estimates: what wins when several inputs are combined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_app.models.status import (
    DESCRIPTIONS,
    FIRST_FLAG,
    Status,
    combine_status,
    is_missing,
)

codes = st.sampled_from(list(Status))


def test_every_code_has_a_sentence_of_its_own():
    assert set(DESCRIPTIONS) == set(Status)
    assert len(set(DESCRIPTIONS.values())) == len(Status)


def test_codes_fit_into_the_status_map():
    assert max(Status) <= np.iinfo(np.uint8).max


@pytest.mark.parametrize('code', Status)
def test_cautions_keep_the_value_and_reasons_do_not(code):
    assert bool(is_missing(code)) == (0 < code < FIRST_FLAG)


@given(codes, codes)
def test_result_is_missing_as_soon_as_one_input_is(first, second):
    combined = combine_status(first, second)
    assert bool(is_missing(combined)) == bool(is_missing(first) or is_missing(second))
    assert int(combined) in (first, second)


@given(codes, codes)
def test_a_reason_beats_a_caution_and_a_caution_beats_ok(first, second):
    def rank(code):
        return 2 if is_missing(code) else int(code != Status.OK)

    combined = Status(int(combine_status(first, second)))
    assert rank(combined) == max(rank(first), rank(second))
    if rank(first) == rank(second):
        assert combined == first, 'of two of a kind the first argument wins'


@given(codes, codes, codes)
def test_combining_three_is_combining_twice(a, b, c):
    assert combine_status(a, b, c) == combine_status(combine_status(a, b), c)


def test_status_broadcasts_like_numbers():
    combined = combine_status([[0], [4]], [0, 20])
    np.testing.assert_array_equal(combined, [[0, 20], [4, 4]])
