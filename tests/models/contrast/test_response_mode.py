"""Response modes: flow against extraction."""

from __future__ import annotations

import numpy as np
import pytest

from bids_app.errors import ModelInputError
from bids_app.models.contrast.response_mode import (
    MODE_COLORS,
    MODE_NAMES,
    Mode,
    flow_led_probability,
    label_response_mode,
    log_ratio,
)
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status


def test_every_mode_has_a_name_and_a_colour():
    assert list(MODE_NAMES) == list(MODE_COLORS) == list(Mode)


def test_probability_is_that_of_draws():
    rng = np.random.default_rng(0)
    flow, extraction = Estimate.of([0.1, -0.1], 0.05**2), Estimate.of([-0.06, 0.12], 0.04**2)
    f, o = (
        rng.normal(flow.value, 0.05, (200_000, 2)),
        rng.normal(extraction.value, 0.04, (200_000, 2)),
    )
    drawn = (np.abs(f) > np.abs(o)).mean(axis=0)
    np.testing.assert_allclose(flow_led_probability(flow, extraction), drawn, atol=0.01)


def test_logarithm_of_the_ratio_adds_up_to_that_of_the_product():
    flow = log_ratio(Estimate.of([10.0]), [50.0])
    extraction = log_ratio(Estimate.of([-0.04]), [0.4])
    assert flow.value + extraction.value == pytest.approx(np.log(60 * 0.36 / (50 * 0.4)))


def test_ratio_without_positive_reference_has_none():
    found = log_ratio(Estimate.of([1.0, -60.0]), [-50.0, 50.0])
    assert found.status.tolist() == [Status.NO_REFERENCE] * 2


def test_labels_follow_the_probability():
    flow = Estimate.of([0.3, 0.05, 0.1, 0.3, 0.3], 0.01**2)
    extraction = Estimate.of([-0.05, 0.3, 0.1, 0.0, 0.0], 0.01**2)
    labels = label_response_mode(
        flow, extraction, [True, True, True, False, True], [True, True, True, True, False]
    )
    assert labels.tolist() == [
        Mode.FLOW_LED, Mode.EXTRACTION_LED, Mode.UNDETERMINED, Mode.NOT_SIGNIFICANT, Mode.OUTSIDE,
    ]  # fmt: skip


def test_shapes_must_fit():
    with pytest.raises(ModelInputError, match='equal shapes'):
        label_response_mode(Estimate.of([0.1]), Estimate.of([0.1]), [True], [True, False])
