import numpy as np
import pytest

from bids_app.phantom.design import make_design

TIMES = 1.2 * np.arange(400)
N30 = ('control', 'rest', 'mem', 'calc')


def blocks(window):
    """Half-open volume ranges of a window."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], window.astype(int), [0]])))
    return [tuple(int(v) for v in pair) for pair in edges.reshape(-1, 2)]


def test_full_study_has_the_control_gaps_of_the_published_design():
    design = make_design(N30, length=480.0)
    assert design.gaps == [(90, 120), (240, 270), (330, 360), (420, 450)]
    assert len(design.events) == 12
    assert 'control' not in {row[2] for row in design.events}


def test_windows_are_the_published_volumes():
    design = make_design(N30, length=480.0)
    got = {name: blocks(design.window(name, TIMES)) for name in N30}
    assert got['rest'] == [(5, 25), (130, 150), (230, 250), (330, 350)]
    assert got['mem'] == [(30, 50), (105, 125), (180, 200), (380, 400)]
    assert got['calc'] == [(55, 75), (155, 175), (255, 275), (305, 325)]
    assert got['control'] == [(80, 100), (205, 225), (280, 300), (355, 375)]


def test_blocks_of_conditions_that_are_not_there_belong_to_the_baseline():
    design = make_design(('control', 'calc'), length=480.0)
    assert [row[0] for row in design.events] == [60, 180, 300, 360]
    assert design.gaps == [(0, 60), (90, 180), (210, 300), (330, 360), (390, 480)]


def test_other_names_take_free_slots():
    design = make_design(('off', 'on', 'calc'), length=480.0)
    assert design.baseline == 'off'
    onsets = [onset for task in design.tasks.values() for onset in task]
    assert len(set(onsets)) == 8


def test_more_tasks_than_slots_are_refused():
    with pytest.raises(ValueError, match='three tasks'):
        make_design(('control', 'a', 'b', 'c', 'd'), length=480.0)
