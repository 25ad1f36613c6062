"""Blood flow of grey and white matter apart, from voxels that hold both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from bids_app.errors import ModelInputError
from bids_app.models.constants import PVC_MINIMUM, PVC_RADIUS
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status, flag_negative, is_missing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


def correct_partial_volume(
    cbf: Estimate, grey_matter: ArrayLike, white_matter: ArrayLike, *, slice_axis: int = 2
) -> tuple[Estimate, Estimate]:
    r"""
    Estimate the blood flow of grey and white matter by linear regression around each voxel.

    Parameters
    ----------
    cbf : (X, Y, Z) Estimate
        mL/100 g/min; missing voxels do not contribute.
    grey_matter, white_matter : (X, Y, Z) array_like
        Tissue fractions, dimensionless, in [0, 1]; cerebrospinal fluid has no flow.
    slice_axis : int
        Across which nothing is averaged.

    Returns
    -------
    grey, white : (X, Y, Z) Estimate
        CBF of pure tissue, mL/100 g/min, unclipped. NaN with TOO_FEW_SAMPLES where the voxel
        holds less than a tenth of the tissue or its surroundings do not tell the two apart.

    Notes
    -----
    In a window of 5 x 5 voxels of the slice, :math:`CBF_i = P_{g,i} F_g + P_{w,i} F_w` is solved
    by least squares with weights 1/variance; M0 is taken as equal in both tissues. The window
    smooths: neighbouring voxels share their noise, and edges of flow become wider.

    References
    ----------
    .. [1] Asllani et al., Magn Reson Med 60:1362, 2008. doi:10.1002/mrm.21670

    Examples
    --------
    >>> grey = np.linspace(0, 1, 25).reshape(5, 5, 1)
    >>> cbf = Estimate.of(60 * grey + 20 * (1 - grey), 1.0)
    >>> pure = correct_partial_volume(cbf, grey, 1 - grey)
    >>> [part.value[2, 2, 0].round(6) for part in pure]
    [np.float64(60.0), np.float64(20.0)]
    """
    grey, white = np.asarray(grey_matter, float), np.asarray(white_matter, float)
    if not cbf.value.shape == grey.shape == white.shape or grey.ndim != 3:
        msg = f'one 3D grid expected, got {cbf.value.shape}, {grey.shape} and {white.shape}'
        raise ModelInputError(msg)
    present = ~is_missing(cbf.status)
    variance = np.where(present & (cbf.variance > 0), cbf.variance, np.nan)
    typical = np.nanmedian(variance) if np.isfinite(variance).any() else 1.0
    weight = np.where(present, typical / np.where(np.isfinite(variance), variance, typical), 0.0)
    value = np.where(present, cbf.value, 0.0)
    size = np.full(grey.ndim, 2 * PVC_RADIUS + 1)
    size[slice_axis] = 1

    def total(image: FloatArray) -> FloatArray:
        mean = ndimage.uniform_filter(image, tuple(size), mode='constant')
        return np.asarray(mean * size.prod(), float)

    gg, ww, gw = (total(weight * pair) for pair in (grey * grey, white * white, grey * white))
    gy, wy = total(weight * grey * value), total(weight * white * value)
    determinant = gg * ww - gw**2
    # of the correlation of the two fractions: below it they rise and fall together
    told = determinant > PVC_MINIMUM**2 * gg * ww
    safe = np.where(told, determinant, 1.0)
    solutions = (
        ((ww * gy - gw * wy) / safe, ww / safe, grey),
        ((gg * wy - gw * gy) / safe, gg / safe, white),
    )
    parts = []
    for flow, spread, fraction in solutions:
        lacking = np.where(told & (fraction > PVC_MINIMUM), Status.OK, Status.TOO_FEW_SAMPLES)
        lost = np.where(present, Status.OK, cbf.status)
        sign = flag_negative(flow)
        status = combine_status(lost, lacking, sign)
        parts.append(Estimate.of(flow, spread * typical, status, cbf.dof))
    return parts[0], parts[1]
