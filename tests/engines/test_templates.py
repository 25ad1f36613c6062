"""The packaged template and atlas share one grid and lie the right way round."""

import csv

import nibabel as nb
import numpy as np
import pytest

from bids_app.engines.templates import ATLAS, FINE_ATLAS, TERRITORIES, packaged_template
from bids_app.errors import SettingsError

TISSUES = ('GM', 'WM', 'CSF')
IMAGES = (
    'T1w',
    'desc-brain_mask',
    *(f'label-{name}_probseg' for name in TISSUES),
    ATLAS,
    FINE_ATLAS,
    TERRITORIES,
)
AFFINE = [[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]
MEGABYTES = 3


def data(kind):
    return nb.load(packaged_template(kind)).get_fdata()


@pytest.fixture(scope='module')
def atlas():
    return data(ATLAS)


@pytest.fixture(scope='module')
def right():
    """World x of every voxel, mm."""
    return np.broadcast_to((90.0 - 2 * np.arange(91))[:, None, None], (91, 109, 91))


@pytest.mark.parametrize('kind', IMAGES)
def test_every_image_is_on_the_las_grid_of_the_atlas(kind):
    image = nb.load(packaged_template(kind))
    assert image.shape == (91, 109, 91)
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_qform(), AFFINE)


def test_labels_1_to_100_are_the_left_hemisphere(atlas, right):
    centres = np.array([right[atlas == label].mean() for label in range(1, 201)])
    assert (centres[:100] < 0).all()
    assert (centres[100:] > 0).all()
    # the source itself strays across the midline, by two millimetres at most
    left_labels = (atlas > 0) & (atlas <= 100)
    assert right[left_labels].max() <= 2
    assert (right[left_labels] < 0).mean() > 0.97


def test_four_hundred_parcels_cut_the_same_cortex_with_the_left_one_first(atlas, right):
    fine = data(FINE_ATLAS)
    centres = np.array([right[fine == label].mean() for label in range(1, 401)])
    assert (centres[:200] < 0).all()
    assert (centres[200:] > 0).all()
    assert fine.max() == 400
    overlap = ((fine > 0) & (atlas > 0)).sum() / ((fine > 0) | (atlas > 0)).sum()
    assert overlap > 0.95


def test_template_is_not_mirrored_against_the_atlas(atlas):
    grey = data('label-GM_probseg')
    assert grey[atlas > 0].mean() > grey[::-1][atlas > 0].mean() + 0.02


def test_table_names_every_label_and_its_hemisphere(atlas):
    with packaged_template(ATLAS, '.tsv').open() as lines:
        rows = list(csv.DictReader(lines, delimiter='\t'))
    assert [int(row['index']) for row in rows] == sorted(set(np.unique(atlas)) - {0})
    assert {row['hemisphere'] for row in rows[:100]} == {'L'}
    assert {row['hemisphere'] for row in rows[100:]} == {'R'}


def test_territories_lie_where_their_arteries_lead(right):
    """Midline to side and front to back: ACA, MCA and PCA of each hemisphere; VB below them."""
    labels = data(TERRITORIES)
    with packaged_template(TERRITORIES, '.tsv').open() as lines:
        rows = {row['name']: int(row['index']) for row in csv.DictReader(lines, delimiter='\t')}
    assert sorted(rows.values()) == sorted(set(np.unique(labels)) - {0})
    centre = {}
    for name, index in rows.items():
        places = np.argwhere(labels == index) @ np.array(AFFINE)[:3, :3] + (90, -126, -72)
        side = -1 if name.endswith('left') else 1
        # the source itself strays across the midline
        assert (side * places[:, 0] >= -4).all()
        centre[name] = places.mean(axis=0)
    for side in ('left', 'right'):
        anterior, middle, posterior, lowest = (
            centre[f'{artery} {side}'] for artery in ('ACA', 'MCA', 'PCA', 'VB')
        )
        assert abs(middle[0]) > abs(anterior[0]) + 20
        assert anterior[1] > posterior[1] + 40
        assert lowest[2] < posterior[2] - 30
    grey = data('label-GM_probseg') > 0.5
    cerebrum = data(ATLAS) > 0
    assert ((labels > 0) & (labels < 7))[grey & cerebrum].mean() > 0.9


def test_tissue_fractions_add_up_to_the_brain_and_follow_the_t1w_contrast():
    brain, t1w = data('desc-brain_mask') > 0, data('T1w')
    grey, white, fluid = (data(f'label-{name}_probseg') for name in TISSUES)
    total = grey + white + fluid
    np.testing.assert_allclose(total[brain], 1, atol=0.01)
    assert not total[~brain].any()
    assert t1w[fluid > 0.9].mean() < t1w[grey > 0.9].mean() < t1w[white > 0.9].mean()
    assert 1700 < brain.sum() * 0.008 < 1950


def test_t1w_has_its_skull():
    t1w, brain = data('T1w'), data('desc-brain_mask') > 0
    assert (t1w[~brain] > 2000).sum() * 0.008 > 500


def test_packaged_data_stay_small():
    folder = packaged_template('T1w').parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < MEGABYTES * 1e6


def test_unknown_file_is_an_error_that_lists_what_there_is():
    with pytest.raises(SettingsError, match=r'T1w\.nii\.gz'):
        packaged_template('T2w')
