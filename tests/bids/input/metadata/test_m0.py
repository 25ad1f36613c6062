"""The equilibrium magnetisation of a perfusion series: each kind, each gap."""

from tests.bids.support import only_problem


def test_m0_estimate_is_a_number(full, unit):
    full.edit('*calc_asl.json', M0Type='Estimate', M0Estimate=1234.5)
    found = unit(full)
    assert found.problems == ()
    m0 = {asl.condition: asl.m0 for asl in found.asl}['calc']
    assert (m0.kind, m0.value, m0.file) == ('Estimate', 1234.5, None)
    full.edit('*calc_asl.json', M0Estimate=None)
    only_problem(unit(full), 'M0Estimate is missing', role='asl')


def test_absent_m0_is_the_controls_where_they_are_not_suppressed(full, unit):
    full.edit(
        '*calc_asl.json', M0Type='Absent', BackgroundSuppression=False,
        BackgroundSuppressionNumberPulses=None,
    )  # fmt: skip
    m0 = {asl.condition: asl.m0 for asl in unit(full).asl}['calc']
    assert (m0.kind, m0.volumes, m0.repetition_time) == ('Control', (1, 3, 5), 4.5)


def test_absent_m0_under_suppression_leaves_relative_flow(full, unit):
    full.edit('*calc_asl.json', M0Type='Absent')
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.kind for asl in found.asl}['calc'] == 'Absent'
    assert any('CBF is relative' in note for note in found.notes)


def test_several_delays_without_m0_are_refused(full, unit):
    full.edit('*calc_asl.json', M0Type='Absent', PostLabelingDelay=[1, 2, 3])
    only_problem(unit(full), 'several delays need M0', role='asl')


def test_unknown_kind_of_m0_lists_the_known(full, unit):
    full.edit('*calc_asl.json', M0Type='None')
    only_problem(unit(full), 'no M0', 'Separate', 'Included', 'Estimate', 'Absent', role='asl')


def test_m0_of_another_grid_is_marked_to_be_aligned(full, unit):
    path = full.find('*calc_m0scan.nii.gz')
    full.image(path.relative_to(full.root).as_posix(), shape=(4, 4, 3))
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.same_grid for asl in found.asl} == {
        'calc': False, 'control': True,
    }  # fmt: skip
    assert any('another grid or position' in note for note in found.notes)


def test_included_m0_and_its_real_quirks(dataset, unit):
    """Repetition time 0, label first, pairs counted twice: all of it from a real dataset."""
    dataset.add('perf/asl[included]')
    dataset.edit(
        '*_asl.json', RepetitionTimePreparation=0, RepetitionTime=4.0, TotalAcquiredPairs=6,
        BackgroundSuppression=False, MRAcquisitionType='3D', LabelingEfficiency=0.72,
    )  # fmt: skip
    found = unit(dataset)
    (asl,) = found.asl
    assert found.problems == ()
    assert (asl.m0.volumes, asl.m0.repetition_time) == ((0,), 4.0)
    assert asl.context[:3] == ('m0scan', 'label', 'control')
    assert (asl.labeling_efficiency, asl.background_suppression_factor) == (0.72, 1.0)
    assert asl.slice_times == ()
    notes = ' '.join(found.notes)
    assert 'RepetitionTimePreparation is 0; RepetitionTime (4 s) is used' in notes
    assert 'TotalAcquiredPairs is 6' in notes


def test_m0_without_any_repetition_time_is_not_corrected(full, unit):
    full.edit('*calc_m0scan.json', RepetitionTimePreparation=None)
    found = unit(full)
    assert found.problems == ()
    assert {asl.condition: asl.m0.repetition_time for asl in found.asl} == {
        'calc': None, 'control': 4.5,
    }  # fmt: skip
    assert any('M0 is not corrected' in note for note in found.notes)


def test_m0_is_found_by_intended_for_and_marked_shared(full, unit):
    for name in ('nii.gz', 'json'):
        full.find(f'*calc_m0scan.{name}').unlink()
    full.edit('*control_m0scan.json', IntendedFor=[
        'bids::sub-01/perf/sub-01_acq-calc_asl.nii.gz', 'perf/sub-01_acq-control_asl.nii.gz',
    ])  # fmt: skip
    found = unit(full)
    assert found.problems == ()
    assert [asl.m0.shared for asl in found.asl] == [True, True]
    assert len({asl.m0.file for asl in found.asl}) == 1


def test_separate_m0_that_is_missing_is_named(dataset, unit):
    dataset.add('perf/asl')
    dataset.find('*m0scan.nii.gz').unlink()
    only_problem(unit(dataset), 'no m0scan', 'IntendedFor', role='asl')
