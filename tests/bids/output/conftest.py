"""Small images to write."""

from pathlib import Path

import numpy as np
import pytest

from tests.bids.support import make_image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    data = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    data[0, 0, 0] = np.nan
    return make_image(tmp_path / 'in.nii', data)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return make_image(tmp_path / 'labels.nii', np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 8)
