"""Threshold-free cluster enhancement with permutations, by nilearn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray
    from bids_app.images import Grid


def tfce_probability(
    effects: FloatArray,
    mask: BoolArray,
    grid: Grid,
    *,
    n_permutations: int,
    random_seed: int,
    n_jobs: int = 1,
) -> FloatArray:
    """
    Test the mean over participants with threshold-free cluster enhancement.

    `effects` are (N, V), nothing missing, `mask` (X, Y, Z) with V voxels. Family-wise two-sided,
    (V,).

    References
    ----------
    .. [1] Smith & Nichols, NeuroImage 44:83, 2009. doi:10.1016/j.neuroimage.2008.03.061
    """
    import nibabel as nb
    from nilearn.maskers import NiftiMasker
    from nilearn.mass_univariate import permuted_ols

    new_image: Any = nb.Nifti1Image
    masker = NiftiMasker(new_image(mask.astype(np.uint8), grid.affine)).fit()
    found = permuted_ols(
        np.ones((effects.shape[0], 1)),
        np.asarray(effects, float),
        model_intercept=False,
        n_perm=n_permutations,
        two_sided_test=True,
        random_state=random_seed,
        n_jobs=n_jobs,
        masker=masker,
        tfce=True,
        output_type='dict',
    )
    p: FloatArray = 10.0 ** -np.asarray(found['logp_max_tfce'], float)[0]
    return p
