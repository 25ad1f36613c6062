"""Equilibrium magnetisation of arterial spin labeling: from volumes or a region, and its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_app.errors import ModelInputError
from bids_app.models.constants import (
    M0_REGION_BLOOD_T2_STAR,
    M0_REGION_FRACTION,
    M0_REGION_PARTITION,
    M0_REGION_T2_STAR,
    M0_REGION_VOXELS,
)
from bids_app.models.estimate import Estimate
from bids_app.models.numerics.checks import check_positive
from bids_app.models.numerics.noise import pool_variance
from bids_app.models.status import Status, combine_status, without_cautions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray


def estimate_m0(
    series: ArrayLike,
    *,
    t1_tissue: ArrayLike,
    repetition_time: float | None = None,
    noise_variance: ArrayLike | None = None,
) -> Estimate:
    r"""
    Estimate the equilibrium magnetisation from one or more volumes without labeling.

    Parameters
    ----------
    series : (V, T) array_like
        Signal of the volumes, any unit, T >= 1.
    t1_tissue : float or (V,) array_like
        Longitudinal relaxation time of tissue, s; positive.
    repetition_time : float, optional
        s. Without it, or if it is not positive, the signal is taken as fully recovered.
    noise_variance : float or (V,) array_like, optional
        Variance of a single volume. Default: from the spread over the volumes, pooled over all
        voxels; zero if there is one volume only (the error of M0 is then left out).

    Returns
    -------
    m0 : (V,) Estimate
        Unit of `series`; NaN with INVALID_INPUT where a volume is not finite and NO_REFERENCE
        where M0 is not positive.

    Raises
    ------
    ModelInputError
        If `series` has no volume or `t1_tissue` is not positive.

    Notes
    -----
    .. math:: M_0 = \bar{S} / (1 - e^{-TR/T_1})

    References
    ----------
    .. [1] Alsop et al., Magn Reson Med 73:102, 2015. doi:10.1002/mrm.25197

    Examples
    --------
    >>> estimate_m0([[900.0]], repetition_time=4.5, t1_tissue=1.607).value.round(1)
    array([958.3])
    """
    series = np.asarray(series, float)
    if series.ndim != 2 or series.shape[1] == 0:
        msg = f'series must be voxels x volumes with at least one volume, got {series.shape}'
        raise ModelInputError(msg)
    check_positive('t1_tissue (s)', t1_tissue)
    n_volumes = series.shape[1]
    finite = np.isfinite(series).all(axis=1)
    series = np.where(finite[:, np.newaxis], series, 0.0)
    dof = float('inf')
    if noise_variance is not None:
        variance = np.asarray(noise_variance, float) / n_volumes
    elif n_volumes > 1:
        variance, dof = _variance_of_mean(series, finite)
    else:
        variance = np.zeros(1)

    recovery = np.ones(1)
    if repetition_time is not None and repetition_time > 0:
        recovery = -np.expm1(-repetition_time / np.asarray(t1_tissue, float))
    value = series.mean(axis=1) / recovery
    status = np.where(value > 0, Status.OK, Status.NO_REFERENCE)
    status = np.where(finite, status, Status.INVALID_INPUT)
    return Estimate.of(value, variance / recovery**2, status, dof)


def m0_from_region(
    m0: Estimate,
    fraction: ArrayLike,
    *,
    region: str,
    echo_time: float,
    partition_coefficient: float,
) -> Estimate:
    r"""
    Replace M0 of every voxel by that of blood, from a region of one tissue.

    Parameters
    ----------
    m0 : (V,) Estimate
        Signal fully recovered with the T1 of the region, any unit.
    fraction : (V,) array_like
        Part of each voxel that is this tissue, dimensionless, in [0, 1].
    region : str
        ``grey_matter``, ``white_matter`` or ``csf``.
    echo_time : float
        Of the images, s; not negative. T2* of the region and of labelled water differ.
    partition_coefficient : float
        Blood-brain partition coefficient that the model of CBF divides by, mL/g; positive.

    Returns
    -------
    m0 : (V,) Estimate
        The same number everywhere: partition coefficient times M0 of blood, unit of `m0`.

    Raises
    ------
    ModelInputError
        If the region is unknown or has fewer than 20 voxels.

    Notes
    -----
    With the median over voxels whose fraction exceeds 0.9 and the water of the region over that
    of blood, :math:`p`:

    .. math:: M_0 = \lambda \frac{\mathrm{median}(M_r)}{p}
              \exp\left(\frac{TE}{T^*_{2r}} - \frac{TE}{T^*_{2b}}\right)

    References
    ----------
    .. [1] Chappell, MacIntosh & Okell, Introduction to Perfusion Quantification using Arterial
       Spin Labelling, 2018. doi:10.1093/oso/9780198793816.001.0001

    Examples
    --------
    >>> m0_from_region(
    ...     Estimate.of(np.full(30, 1000.0)), np.ones(30), region='grey_matter', echo_time=0.012,
    ...     partition_coefficient=0.98,
    ... ).value[:1].round(6)
    array([1000.])
    """
    if region not in M0_REGION_PARTITION:
        msg = f'region must be one of {", ".join(M0_REGION_PARTITION)}, got {region!r}'
        raise ModelInputError(msg)
    members = (np.asarray(fraction, float) > M0_REGION_FRACTION) & np.isfinite(m0.value)
    if members.sum() < M0_REGION_VOXELS:
        msg = (
            f'M0 from {region} needs {M0_REGION_VOXELS} voxels that are more than '
            f'{M0_REGION_FRACTION:g} {region}, found {members.sum()}; use another region or '
            'perfusion.m0_reference voxel'
        )
        raise ModelInputError(msg)
    rates = 1 / M0_REGION_T2_STAR[region] - 1 / M0_REGION_BLOOD_T2_STAR
    factor = partition_coefficient / M0_REGION_PARTITION[region] * np.exp(echo_time * rates)
    value = float(np.median(m0.value[members])) * factor
    # the scatter over the region holds anatomy and noise: no less than the noise alone
    variance = float(m0.value[members].var()) * factor**2 / members.sum()
    status = without_cautions(m0.status)
    return Estimate.of(np.full(m0.value.shape, value), variance, status, float(members.sum() - 1))


def separate_m0_error(cbf: Estimate, m0: Estimate) -> tuple[Estimate, Estimate]:
    r"""
    Separate the error of M0 from that of CBF, to count it once where conditions share one M0.

    Parameters
    ----------
    cbf : (V,) Estimate
        From :func:`~bids_app.models.asl.single_delay.estimate_cbf` with this `m0`, mL/100 g/min.
    m0 : (V,) Estimate
        Equilibrium magnetisation, any unit.

    Returns
    -------
    cbf : (V,) Estimate
        The same values; the variance is that of the difference alone.
    m0_relative : (V,) Estimate
        Value 1; its variance is the relative variance of M0.

    Examples
    --------
    >>> cbf, m0 = Estimate.of([50.0], [29.0]), Estimate.of([1000.0], [400.0])
    >>> [part.variance.round(6).tolist() for part in separate_m0_error(cbf, m0)]
    [[28.0], [0.0004]]
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        relative = m0.variance / m0.value**2
    without = np.maximum(cbf.variance - cbf.value**2 * relative, 0.0)
    usable = combine_status(
        m0.status, np.where(m0.value > 0, Status.OK, Status.NO_REFERENCE).astype(np.uint8)
    )
    return (
        Estimate.of(cbf.value, without, cbf.status, cbf.dof),
        Estimate.of(np.ones_like(m0.value), relative, usable, m0.dof),
    )


def _variance_of_mean(samples: FloatArray, usable: BoolArray) -> tuple[FloatArray, float]:
    """Return the variance of the mean over (V, N) samples, pooled over voxels, and its dof."""
    n_samples = samples.shape[1]
    variance = samples.var(axis=1, ddof=1) / n_samples
    return pool_variance(np.where(usable, variance, np.nan), n_samples - 1.0)
