"""Spin echoes of pulses that turn less than asked for."""

import numpy as np
import pytest

from bids_app.phantom import pulses

TIMES = tuple(0.016 * np.arange(1, 9))
DECAY = np.exp(-13.5 * np.asarray(TIMES))


def test_perfect_pulses_of_a_slab_leave_the_decay_alone():
    train = pulses.turn(13.5, 1.0, 0.016, 8, np.inf)
    np.testing.assert_allclose(train, DECAY, rtol=1e-6)


def test_the_first_echo_of_a_slab_is_that_of_its_angle():
    """After a 90 degree pulse of the same field: sin(b pi / 2) sin^2(b pi / 2)."""
    train = pulses.turn(13.5, 0.8, 0.016, 8, np.inf)
    np.testing.assert_allclose(train[0], np.sin(0.4 * np.pi) ** 3 * DECAY[0], rtol=1e-3)
    assert train[1] > train[0] * DECAY[0] * 1.02, 'a stimulated echo joins the second'


@pytest.mark.parametrize('thickness', [1.0, np.inf])
def test_between_the_nodes_spins_are_turned_as_well(thickness):
    rng = np.random.default_rng(3)
    rates, fields = rng.uniform(0.5, 25, 4), rng.uniform(0.72, 1.25, 4)
    wanted = [pulses.turn(r, b, 0.016, 4, thickness) for r, b in zip(rates, fields, strict=True)]
    found = pulses.echoes(rates, fields, TIMES[:4], thickness)
    np.testing.assert_allclose(found, wanted, rtol=2e-3)


def test_the_field_is_highest_in_the_middle_and_stays_within_the_nodes():
    places = np.random.default_rng(0).uniform(-90, 90, (500, 3))
    field = pulses.transmit_field(places)
    assert field.min() >= pulses.FIELDS[0]
    assert field.max() <= pulses.FIELDS[-1]
    middle = np.linalg.norm(places - [0, -18, 12], axis=1) < 40
    assert field[middle].mean() > field[~middle].mean() + 0.1
