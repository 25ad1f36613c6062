"""The reversible rate R2': what of R2* is not R2."""

from __future__ import annotations

import numpy as np

from bids_app.models.estimate import Estimate
from bids_app.models.relaxometry.decay import median_known
from bids_app.models.status import Status, combine_status, flag_negative, without_cautions

CAP_OF_MEDIAN = 5.0
"""Limit of a rate in the published pipeline over the median of the brain; no unit."""

SMALLEST_CAP = 20.0
"""Limit of R2' in the published pipeline is at least this, 1/s."""


def estimate_r2_prime(r2_star: Estimate, r2: Estimate) -> Estimate:
    """
    Estimate the reversible relaxation rate R2'.

    Parameters
    ----------
    r2_star : Estimate
        1/s.
    r2 : Estimate
        1/s; on the same voxels.

    Returns
    -------
    r2_prime : Estimate
        1/s. Negative values are kept and flagged NEGATIVE; NaN where either rate is missing.
        The errors of the two are taken as independent; degrees of freedom are the smaller.

    Notes
    -----
    .. math:: R_2' = R_2^* - R_2

    Examples
    --------
    >>> estimate_r2_prime(Estimate.of([18.3], 0.04), Estimate.of([13.5], 0.05)).value.round(1)
    array([4.8])
    """
    value = r2_star.value - r2.value
    status = combine_status(
        without_cautions(r2_star.status), without_cautions(r2.status), flag_negative(value)
    )
    return Estimate.of(value, r2_star.variance + r2.variance, status, dof=min(r2_star.dof, r2.dof))


def estimate_r2_prime_epp2025(r2_star: Estimate, r2: Estimate) -> Estimate:
    """
    Estimate R2' with the limits of the published pipeline.

    Parameters
    ----------
    r2_star : Estimate
        1/s.
    r2 : Estimate
        1/s; on the same voxels.

    Returns
    -------
    r2_prime : Estimate
        1/s. Values that were changed are flagged CAPPED; their variance is that of the value
        before.

    Notes
    -----
    R2* and R2 are limited to 5 times their median, negative R2' becomes 0, and R2' is limited
    to 5 times its median or 20 1/s, whichever is more. Limits hide what went wrong: this is for
    comparison with published numbers.

    References
    ----------
    .. [1] Hirsch et al., NMR Biomed 27:853, 2014.

    Examples
    --------
    >>> r2_star, r2 = Estimate.of([18.3, 9.0]), Estimate.of([13.5, 13.5])
    >>> estimate_r2_prime_epp2025(r2_star, r2).value.round(1)
    array([4.8, 0. ])
    """
    limited = [
        np.minimum(rate.value, CAP_OF_MEDIAN * median_known(rate.value)) for rate in (r2_star, r2)
    ]
    value = np.maximum(limited[0] - limited[1], 0.0)
    value = np.minimum(value, max(CAP_OF_MEDIAN * median_known(value), SMALLEST_CAP))
    plain = estimate_r2_prime(r2_star, r2)
    changed = np.abs(value - plain.value) > 0
    flags = np.where(changed, Status.CAPPED, Status.OK)
    status = combine_status(without_cautions(plain.status), flags)
    return Estimate.of(value, plain.variance, status, dof=plain.dof)
