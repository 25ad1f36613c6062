"""What tests of the dataset share."""

from pathlib import Path

import nibabel as nb
import numpy as np

from bids_app.errors import ExitCode


def only_problem(found, *words, role, code=ExitCode.BAD_INPUT):
    """Assert that there is one problem, that it says these words, and return it."""
    assert len(found.problems) == 1, [problem.message for problem in found.problems]
    (problem,) = found.problems
    assert (problem.role, problem.code) == (role, code)
    for word in words:
        assert word in problem.message
    return problem


def make_image(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nb.Nifti1Image(data, np.diag([-4.0, 4, 4, 1]) if affine is None else affine)
    nb.save(image, path)
    return path
