"""Maps that were written but say nothing."""

import json

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.output.names import output_path
from bids_app.bids.run.coverage import is_result, poor_maps
from bids_app.models.status import DESCRIPTIONS, Status

AT = {'sub': '01', 'space': 'MESE'}


@pytest.fixture
def written(tmp_path):
    """Write a map with a value in a share of grey matter."""

    def write(share, counts=None):
        grey = np.zeros((10, 10, 2))
        grey[:, :, 0] = 0.9
        data = np.full(grey.shape, np.nan)
        data.reshape(-1, 2)[: round(100 * share), 0] = 40.0
        paths = [tmp_path / output_path('probseg', label='GM', **AT),
                 tmp_path / output_path('cbf', **AT)]  # fmt: skip
        for path, values in zip(paths, (grey, data), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            nb.Nifti1Image(values, np.eye(4)).to_filename(path)
        about = {'StatusCounts': counts} if counts else {}
        paths[1].with_name('sub-01_space-MESE_cbf.json').write_text(json.dumps(about))
        return poor_maps([('cbf', AT)], [paths[1]], tmp_path)

    return write


def test_a_map_without_a_value_in_grey_matter_is_told_with_its_most_frequent_reason(written):
    (said,) = written(0, {'OK': 100, 'OUTSIDE_FIELD_OF_VIEW': 40, 'FIT_FAILED': 3})
    assert said.startswith('sub-01_space-MESE_cbf has no value in grey matter: ')
    assert said.endswith(DESCRIPTIONS[Status.OUTSIDE_FIELD_OF_VIEW])


@pytest.mark.parametrize(('share', 'is_told'), [(0.24, True), (0.26, False), (1.0, False)])
def test_little_of_grey_matter_is_told_a_slab_is_not(share, is_told, written):
    said = written(share)
    assert bool(said) is is_told
    assert all('a value in 24% of grey matter only' in one for one in said)


def test_results_are_maps_and_changes_not_their_errors():
    assert is_result('oef')
    assert is_result('contrast')
    assert not is_result('variance')
    assert not is_result('surface')
