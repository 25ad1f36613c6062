"""Time-encoded series: matrix, blocks and their times; one clear message per defect."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.lost_volumes import drop_lost_volumes
from tests.bids.support import only_problem

MATRIX = [[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]]
KINDS = ('control', 'label', 'label', 'label')


@pytest.fixture
def encoded(dataset):
    """Two cycles of four encodings."""
    dataset.add('anat/T1w', 'perf/asl')
    rng = np.random.default_rng(2)
    dataset.image(
        'sub-01/perf/sub-01_asl.nii.gz', shape=(3, 3, 2, 8), data=rng.uniform(9, 10, (3, 3, 2, 8))
    )
    dataset.text('sub-01/perf/sub-01_aslcontext.tsv', '\n'.join(['volume_type', *KINDS * 2]))
    dataset.edit(
        '*_asl.json', TimeEncodedMatrix=MATRIX, LabelingDuration=[1.5, 0.8, 0.5],
        PostLabelingDelay=[0.7], TotalAcquiredPairs=None,
    )  # fmt: skip
    return dataset


def test_blocks_become_differences_with_the_delays_that_follow(encoded, unit):
    found = unit(encoded)
    assert found.problems == ()
    (series,) = found.asl
    assert series.encoding.cycles == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert series.differences == ('deltam',) * 6
    assert series.label_duration == (1.5, 0.8, 0.5) * 2
    assert series.post_label_delay == pytest.approx((2.0, 1.2, 0.7) * 2)
    assert series.context == tuple(f'encoded{i}' for i in (1, 2, 3, 4)) * 2
    assert any('2 cycle(s) of 4 encodings' in note for note in found.notes)


def test_delays_of_all_blocks_signs_and_a_file_say_the_same(encoded, unit):
    rows = [' '.join('1' if cell else '-1' for cell in row) for row in MATRIX]
    encoded.text('sub-01/perf/encoding.txt', '\n'.join(rows))
    encoded.edit('*_asl.json', TimeEncodedMatrix='encoding.txt', PostLabelingDelay=[2.0, 1.2, 0.7])
    found = unit(encoded)
    assert found.problems == ()
    assert [list(row) for row in found.asl[0].encoding.matrix] == MATRIX
    assert found.asl[0].post_label_delay[:3] == pytest.approx((2.0, 1.2, 0.7))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'TimeEncodedMatrix': None, 'TimeEncodedMatrixType': 'Hadamard'}, 'leaves open'),
        ({'TimeEncodedMatrix': [[0, 0], [1, 0], [0, 1]]}, 'share noise'),
        ({'TimeEncodedMatrix': 'absent.txt'}, 'not beside it'),
        ({'TimeEncodedMatrix': [[0, 'x'], [1]]}, 'must be a table'),
        ({'LabelingDuration': [1.5, 0.8]}, 'need one LabelingDuration each'),
        ({'PostLabelingDelay': [0.7, 1.2, 2.0]}, 'order of time'),
        ({'ArterialSpinLabelingType': 'PASL'}, 'pulsed labelling'),
    ],
)
def test_what_cannot_be_decoded_is_one_problem(encoded, unit, changes, words):
    encoded.edit('*_asl.json', **changes)
    found = unit(encoded)
    assert not found.asl
    assert any(words in item.message for item in found.problems)


def test_a_broken_cycle_is_a_problem(encoded, unit):
    kinds = ('volume_type', *KINDS, *KINDS[:3], 'n/a')
    encoded.text('sub-01/perf/sub-01_aslcontext.tsv', '\n'.join(kinds))
    only_problem(unit(encoded), 'no whole number of cycles', role='asl')


def test_a_lost_volume_costs_its_cycle(encoded, unit):
    path = encoded.find('*_asl.nii.gz')
    image = nb.load(path)
    data = image.get_fdata().astype(np.float32)
    data[..., 5] = np.nan
    nb.save(nb.Nifti1Image(data, image.affine), path)
    (series,) = drop_lost_volumes(unit(encoded), dummy_scans=None).asl
    assert series.encoding.cycles == ((0, 1, 2, 3),)
    assert len(series.differences) == len(series.post_label_delay) == 3
