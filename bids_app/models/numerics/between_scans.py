"""What differs between two scans of one person minutes apart, beside the noise of each."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.numerics.noise import SIZES, cubes_of
from bids_app.models.numerics.regions import summarise_regions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray
    from bids_app.models.estimate import Estimate
    from bids_app.models.numerics.regions import RegionSummary

REGION_VOLUME = 8000.0
"""Volume within which the local part is one draw, mm^3: a cube of 20 mm; ours."""

DIGITS = 4
"""Of a sidecar."""

PRIOR_SCANS = 8.0
"""Differences between scans that a prior weighs as much as; ours."""

SMALLEST_SHARE = 0.1
"""Of the prior variance, below which what few scans show does not bring it; ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDifference:
    """
    Standard deviation of a quantity over scans minutes apart, beside the noise.

    Parameters
    ----------
    common : float
        Of the part that all voxels have in common.
    local : float
        Of the part that regions of some centimetres have for themselves.
    is_relative : bool
        Both are relative to the value; else in the unit of the quantity.
    source : str
        Where the numbers come from.
    """

    common: float
    local: float
    is_relative: bool
    source: str

    def as_sidecar(self) -> dict[str, Any]:
        """Give entries of a sidecar."""
        return {
            'Common': round(self.common, DIGITS),
            'Local': round(self.local, DIGITS),
            'Relative': self.is_relative,
            'Source': self.source,
        }

    def variance(self, value: FloatArray) -> tuple[FloatArray, FloatArray]:
        """
        Give the variance that a map has from the common and from the local part.

        Parameters
        ----------
        value : (V,) ndarray
            The map.

        Returns
        -------
        common, local : (V,) ndarray of float64
            Unit of the map squared.
        """
        level = value**2 if self.is_relative else np.ones_like(value)
        return self.common**2 * level, self.local**2 * level


PRIORS: Mapping[str, ScanDifference] = MappingProxyType(
    {
        'cbf': ScanDifference(
            common=0.035,
            local=0.03,
            is_relative=True,
            source='common: within-session variation of grey-matter CBF by PCASL, Chen, Wang & '
            'Detre, J Magn Reson Imaging 33:940, 2011; local: ours',
        ),
        'r2_star': ScanDifference(
            common=0.1,
            local=0.1,
            is_relative=False,
            source='ours: slow fluctuation of BOLD by 0.3 % at an echo time of 30 ms',
        ),
        'oef': ScanDifference(
            common=0.02, local=0.02, is_relative=True, source="ours: that of R2* in R2'"
        ),
        'r2_prime': ScanDifference(
            common=0.1, local=0.1, is_relative=False, source='ours: that of R2*'
        ),
        'cbv': ScanDifference(
            common=0.05, local=0.03, is_relative=True, source='ours: injection and arrival'
        ),
    }
)
"""Quantity measured per condition -> what its scans differ by. BOLD has none: its conditions
alternate within one scan."""


def learn_scan_difference(
    quantity: str, samples: Iterable[Mapping[str, float]] = (), *, n_scans: int = 1
) -> ScanDifference:
    r"""
    Join a prior with what the scans of this participant show.

    Parameters
    ----------
    quantity : str
        One of :data:`PRIORS`.
    samples : iterable of dict
        Each from :func:`compare_maps`: variances ``common`` and ``local`` of the halves of one
        scan or of two runs, relative to the value where the prior is.
    n_scans : int
        Scans whose mean is compared.

    Returns
    -------
    difference : ScanDifference
        The prior, where there is no sample.

    Raises
    ------
    ModelInputError
        If the quantity has no prior.

    Notes
    -----
    With n samples :math:`\sigma_i^2`, which may be negative, and :math:`\nu_0 = 8`

    .. math:: \sigma^2 = \frac{\nu_0 \sigma_0^2 + \sum \sigma_i^2}{\nu_0 + n}

    and at least a tenth of :math:`\sigma_0^2`.

    Examples
    --------
    >>> learn_scan_difference('cbf').common
    0.035
    >>> seen = {'common': 0.1**2, 'local': 0.0}
    >>> round(learn_scan_difference('cbf', [seen, seen]).common, 3)
    0.055
    """
    if quantity not in PRIORS:
        msg = f'quantity must be one of {", ".join(PRIORS)}, got {quantity!r}'
        raise ModelInputError(msg)
    prior, samples = PRIORS[quantity], list(samples)

    def join(part: str) -> float:
        before = getattr(prior, part) ** 2
        total = PRIOR_SCANS * before + sum(sample[part] for sample in samples)
        joined = total / (PRIOR_SCANS + len(samples))
        return float(np.sqrt(max(joined, SMALLEST_SHARE * before) / n_scans))

    learnt = f'; joined with {len(samples)} differences of halves or runs of this participant'
    return ScanDifference(
        common=join('common'),
        local=join('local'),
        is_relative=prior.is_relative,
        source=prior.source + (learnt if samples else ''),
    )


def compare_halves(
    half: RegionSummary, level: RegionSummary, brain: tuple[RegionSummary, RegionSummary]
) -> dict[str, float]:
    r"""
    Tell what the first and the second half of a scan differ by, beyond their noise.

    Parameters
    ----------
    half, level : RegionSummary
        First minus second half, and their mean, per region.
    brain : tuple of RegionSummary
        The same two of all regions together.

    Returns
    -------
    variances : dict of str to float
        ``common`` and ``local``, relative to the mean squared; negative where noise explains more
        than there is. Empty where the mean is not positive.

    Notes
    -----
    With the relative difference d of a region and its noise v, and those of the brain,
    :math:`d_B` and :math:`v_B`: common :math:`(d_B^2 - v_B)/2`, local the mean of
    :math:`((d - d_B)^2 - v)/2`; halved, because both halves differ from what is sought.
    """
    of_brain, level_of_brain = brain
    if not level_of_brain['mean'][0] > 0:
        return {}
    scale = level_of_brain['mean'][0]
    common = float(of_brain['mean'][0] / scale)
    noise = float((of_brain['se'][0] / scale) ** 2)
    usable = (level['mean'] > 0) & np.isfinite(half['mean'])
    found = {'common': (common**2 - noise) / 2}
    apart = (half['mean'] - common * level['mean'])[usable] / scale
    beyond = apart**2 - (half['se'][usable] / scale) ** 2
    found['local'] = float(np.mean(beyond)) / 2 if usable.any() else 0.0
    return found


def compare_maps(
    difference: Estimate,
    level: Estimate,
    points: ArrayLike,
    shared: Mapping[str, float] | None = None,
    *,
    is_relative: bool = True,
) -> dict[str, float]:
    """
    Compare two measurements in regions of the size of parcels, and in the brain.

    Parameters
    ----------
    difference, level : (V,) Estimate
        Of two halves or scans, and their mean.
    points : (V, 3) array_like
        Where the voxels lie, mm.
    shared : dict of str to float, optional
        From :func:`bids_app.models.numerics.noise.shared_noise`; default none.
    is_relative : bool
        As the prior of the quantity.

    Returns
    -------
    variances : dict of str to float
        From :func:`compare_halves`; of a quantity that is not relative, in its unit squared.
    """
    of_difference, of_level = (
        [
            summarise_regions(
                one, *cubes_of(points, SIZES[size]), shared=(shared or {}).get(size, 0)
            )
            for size in ('parcel', 'brain')
        ]
        for one in (difference, level)
    )
    found = compare_halves(of_difference[0], of_level[0], (of_difference[1], of_level[1]))
    scale = 1.0 if is_relative or not found else float(of_level[1]['mean'][0]) ** 2
    return {part: scale * variance for part, variance in found.items()}


def local_share(n_voxels: ArrayLike, voxel_volume: float) -> FloatArray:
    """
    Tell how much of the local part is left in the mean of a region.

    Parameters
    ----------
    n_voxels : (K,) array_like
        Of each region.
    voxel_volume : float
        mm^3.

    Returns
    -------
    share : (K,) ndarray of float64
        Of its variance, dimensionless, in (0, 1].

    Examples
    --------
    >>> local_share(np.array([100, 2000]), 40.0)
    array([1. , 0.1])
    """
    share: FloatArray = 1 / np.maximum(np.asarray(n_voxels) * voxel_volume / REGION_VOLUME, 1.0)
    return share
