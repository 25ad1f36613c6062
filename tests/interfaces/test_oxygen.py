"""OEF beside venous blood: what the nodes compare, scale and write."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_app.errors import ModelInputError
from bids_app.interfaces._base import Bundle
from bids_app.interfaces.oxygen import CompareVenousBlood, NormaliseToVenousBlood, error_of_scale


def compare(files, *, is_applied, oef=(0.3, 0.4)):
    """Two voxels with flows of 60 and 40, of which both are grey matter."""
    maps = files.quantity('oef', *oef, variance=1e-4) | files.quantity('cbf', 60, 40, variance=4)
    behind = files.quantity('rate', 5, 5, sidecar={'VoxelsPerNoiseSample': 2.0})['rate']
    return files.run(
        CompareVenousBlood(
            mask=files.mask,
            grey_matter=files.voxels('grey', 0.9, 0.6),
            minimum_grey_matter=0.5,
            behind=[behind],
            venous_saturation=0.637,
            venous_saturation_error=0.03,
            sao2=0.98,
            is_applied=is_applied,
            **maps,
        )
    )


@pytest.mark.parametrize('is_applied', [False, True])
def test_oef_carries_the_comparison_and_is_scaled_only_on_request(files, is_applied):
    made = compare(files, is_applied=is_applied)
    mean, extraction = 0.34, 0.35
    row = pd.read_csv(made.table, sep='\t').iloc[0]
    assert row['map_mean'] == pytest.approx(mean)
    assert row['extraction'] == pytest.approx(extraction)
    assert row['scale'] == pytest.approx(extraction / mean, rel=1e-5)
    assert row['applied'] == ('yes' if is_applied else 'no')
    source = files.quantity('task', 0.3, np.nan, variance=(4e-4, np.nan), status=(0, 3))['task']
    out = files.run(
        NormaliseToVenousBlood(mask=files.mask, quantity=source, comparison=made.comparison)
    ).quantity
    factor = extraction / mean if is_applied else 1.0
    np.testing.assert_allclose(files.read(out), [0.3 * factor, np.nan], rtol=1e-6)
    np.testing.assert_allclose(files.read(out, 'variance'), [4e-4 * factor**2, np.nan], rtol=1e-6)
    assert files.read(out, 'status').tolist() == [0, 3]
    about = Bundle.read(out).sidecar
    assert about['VenousBlood'] == json.loads(Path(made.comparison).read_text())
    expected = row['map_mean_se'] / mean if is_applied else 0.0
    assert error_of_scale(about) == pytest.approx(expected, rel=1e-4)


def test_a_map_without_a_positive_mean_is_compared_but_cannot_be_scaled(files):
    made = compare(files, is_applied=False, oef=(-0.3, 0.1))
    assert pd.read_csv(made.table, sep='\t')['scale'].isna().all()
    with pytest.raises(ModelInputError, match='cannot be scaled by venous blood'):
        compare(files, is_applied=True, oef=(-0.3, 0.1))
