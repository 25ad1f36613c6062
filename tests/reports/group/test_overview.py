import numpy as np
import pytest

from bids_app.reports.drawing.charts import NAME_HEIGHT, _apart
from bids_app.reports.group import overview


def summary(state):
    return {'verdict': {'state': state}}


def test_the_flow_counts_every_stage_and_says_what_was_lost():
    runs = {'sub-01': 'complete', 'sub-02': 'degraded', 'sub-03': 'incomplete', 'sub-04': 'failed'}
    flow = overview.inclusion_flow({name: summary(state) for name, state in runs.items()})
    assert [(stage.title, stage.count) for stage in flow] == [
        ('run', 4), ('with results', 3), ('without loss', 2),
    ]  # fmt: skip
    assert flow[0].lost == (('failed', 1),)
    assert flow[1].lost == (('incomplete', 1),)


def test_after_the_group_the_flow_ends_with_who_is_in_it():
    decisions = [
        {'included': 'yes', 'reason': 'n/a'},
        {'included': 'no', 'reason': 'moved'},
        {'included': 'partly', 'reason': 'no map of cbf'},
    ]
    flow = overview.inclusion_flow({'sub-01': summary('complete')}, decisions)
    assert [stage.count for stage in flow][-2:] == [3, 2]
    assert flow[-2].lost == (('moved', 1),)
    assert flow[-1].lost == (('no map of cbf', 1),)


@pytest.mark.parametrize('odd', [9.0, -9.0])
def test_an_outlier_is_one_unlike_the_others_on_either_side(odd):
    values = {f'sub-{k}': value for k, value in enumerate([1.0, 1.1, 0.9, 1.05, 0.95, odd])}
    measure = overview.make_measure(('x', 'mm'), values)
    assert [label for label, _ in measure.outliers] == ['sub-5']
    places = [place for _, place, _, _ in measure.places]
    assert (min(places), max(places)) == (0, 100)


def test_four_participants_are_too_few_for_an_outlier():
    values = {'a': 1.0, 'b': 1.01, 'c': 0.99, 'd': 50.0}
    assert overview.make_measure(('x', '1'), values).outliers == ()


def test_names_of_near_points_do_not_overlap():
    places = np.array([[100.0, 50.0], [120.0, 52.0], [110.0, 51.0], [400.0, 50.0]])
    heights = _apart(places)
    assert np.diff(np.sort(heights[:3])).min() >= NAME_HEIGHT
    assert heights[3] == 43.0
