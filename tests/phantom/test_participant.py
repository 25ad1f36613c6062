import numpy as np
import pytest

from bids_app.phantom.participant import (
    AGE_SLOPE,
    EFFECTS,
    EXTRACTION,
    TERRITORY_DIFFERENCE,
    baseline_of,
    effects_of,
    make_participant,
    make_person,
)


def test_effects_cover_all_sign_combinations_of_bold_and_metabolism():
    signs = {(e.extraction < 1, e.metabolism > 1) for e in EFFECTS.values()}
    assert len(signs) == 4
    assert [e.label for e in EFFECTS.values()] == [1, 2, 3, 4]


@pytest.mark.parametrize('effect', EFFECTS.values())
def test_effects_have_the_size_of_real_tasks(effect):
    assert 0.10 <= abs(effect.flow - 1) <= 0.25
    # TE 30 ms, R2' of grey matter 5.6 1/s
    bold = 100 * (np.exp(0.030 * 5.6 * (1 - effect.extraction)) - 1)
    assert 0.5 <= abs(bold) <= 1.5


def test_baseline_is_control_then_rest_then_the_first():
    assert baseline_of(('calc', 'rest', 'control')) == 'control'
    assert baseline_of(('calc', 'rest')) == 'rest'
    assert baseline_of(('off', 'on')) == 'off'


def test_nothing_changes_in_the_baseline_and_tasks_differ():
    conditions = ('control', 'calc', 'mem')
    assert {e.label for e in effects_of('control', conditions).values()} == {7}
    along = effects_of('calc', conditions, concordant=True)
    assert [e.label for e in along.values()] == [1, 1, 3, 3]
    calc, mem = (effects_of(name, conditions) for name in ('calc', 'mem'))
    assert sorted(e.label for e in mem.values()) == [1, 2, 3, 4]
    assert all(calc[r].label != mem[r].label for r in calc)


def test_blood_stays_in_the_range_of_the_target_study():
    people = [make_participant(np.random.default_rng(i), '01') for i in range(300)]
    assert all(0.36 <= p.hct <= 0.48 and 0.96 <= p.sao2 <= 1.0 for p in people)
    assert np.mean([p.hct for p in people]) == pytest.approx(0.42, abs=0.005)


def test_patients_are_older_and_their_territory_has_the_difference_on_top_of_age():
    healthy, ill = (
        [
            make_person(np.random.default_rng(seed), make_participant(
                np.random.default_rng(seed), '01'), is_patient=patient)
            for seed in range(200)
        ]
        for patient in (False, True)
    )  # fmt: skip
    ages = [np.array([one.age for one in group]) for group in (healthy, ill)]
    assert ages[1].mean() - ages[0].mean() == pytest.approx(10, abs=1.5)
    oef = [EXTRACTION[0] * np.array([one.extraction_scale for one in group])
           for group in (healthy, ill)]  # fmt: skip
    slope = np.polyfit(np.concatenate(ages), np.concatenate(oef), 1)[0]
    assert slope == pytest.approx(AGE_SLOPE, rel=0.15)
    territory = oef[1] * [one.territory_scale for one in ill]
    np.testing.assert_allclose(territory - oef[1], TERRITORY_DIFFERENCE)
    assert {one.territory_scale for one in healthy} == {1.0}
