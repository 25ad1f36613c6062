"""How far a map of blood flow can be trusted: quality index, dispersion, calibration, causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.models.constants import (
    GREY_CBF,
    GREY_CBF_RANGE,
    QUALITY_CORRELATION,
    QUALITY_DISPERSION,
    QUALITY_FRACTION,
    QUALITY_HIGH,
    QUALITY_NEGATIVE,
    QUALITY_PARTS,
    QUALITY_RATIO,
    QUALITY_RULES,
    SCALE_SLIPS,
    SLIP_TOLERANCE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray


def quality_index(
    cbf: ArrayLike, *, grey_matter: ArrayLike, white_matter: ArrayLike, csf: ArrayLike
) -> dict[str, float]:
    r"""
    Compute the quality evaluation index of a CBF map, and its parts.

    Parameters
    ----------
    cbf : (V,) array_like
        Smoothed by 5 mm, mL/100 g/min or relative; NaN is left out.
    grey_matter, white_matter, csf : (V,) array_like
        Tissue fractions, dimensionless, in [0, 1].

    Returns
    -------
    parts : dict of str to float
        ``qei`` in [0, 1], ``structural_correlation``, ``dispersion_index`` and
        ``negative_grey_matter``, all dimensionless; NaN where tissue is lacking.

    Notes
    -----
    With the correlation :math:`\rho` of CBF and 2.5 GM + WM, the variance within tissues over
    the mean of grey matter DI, and the share n of grey matter below 0:

    .. math:: QEI = \sqrt[3]{(1-e^{-3.0126\,\rho^{2.4419}})\,
              e^{-(0.054\,DI^{0.9272} + 2.8478\,n^{0.5196})}}

    References
    ----------
    .. [1] Dolui et al., J Magn Reson Imaging 60:2497, 2024. doi:10.1002/jmri.29308

    Examples
    --------
    >>> grey = np.repeat([1.0, 0.0, 0.0], 50)
    >>> white, csf = np.roll(grey, 50), np.roll(grey, 100)
    >>> perfect = quality_index(
    ...     50 * grey + 20 * white, grey_matter=grey, white_matter=white, csf=csf
    ... )
    >>> round(perfect['qei'], 3), perfect['dispersion_index']
    (0.983, 0.0)
    """
    cbf, grey, white, fluid = (
        np.asarray(array, float) for array in (cbf, grey_matter, white_matter, csf)
    )
    finite = np.isfinite(cbf)
    tissues = [cbf[finite & (part > QUALITY_FRACTION)] for part in (grey, white, fluid)]
    nan = float('nan')
    names = ('qei', 'structural_correlation', 'dispersion_index', 'negative_grey_matter')
    if tissues[0].size < 2 or finite.sum() < QUALITY_PARTS:
        return dict.fromkeys(names, nan)
    expected = QUALITY_RATIO * grey + white
    correlation = nan
    if cbf[finite].std() > 0 and expected[finite].std() > 0:
        correlation = float(np.corrcoef(cbf[finite], expected[finite])[0, 1])
    within = sum(part.var() * part.size for part in tissues if part.size)
    dof = sum(part.size - 1 for part in tissues if part.size)
    mean = abs(tissues[0].mean())
    dispersion = float(within / dof / mean) if mean > 0 else nan
    negative = float((tissues[0] < 0).mean())
    gain = 1 - np.exp(-QUALITY_CORRELATION[0] * max(correlation, 0) ** QUALITY_CORRELATION[1])
    loss = QUALITY_DISPERSION[0] * dispersion ** QUALITY_DISPERSION[1]
    loss += QUALITY_NEGATIVE[0] * negative ** QUALITY_NEGATIVE[1]
    index = float((gain * np.exp(-loss)) ** (1 / QUALITY_PARTS))
    return dict(zip(names, (index, correlation, dispersion, negative), strict=True))


def grey_matter_statistics(
    cbf: ArrayLike, *, grey_matter: ArrayLike, white_matter: ArrayLike
) -> dict[str, float]:
    """
    Summarise CBF in grey and white matter.

    Parameters
    ----------
    cbf : (V,) array_like
        Not smoothed, mL/100 g/min or relative.
    grey_matter, white_matter : (V,) array_like
        Tissue fractions, dimensionless, in [0, 1].

    Returns
    -------
    statistics : dict of str to float
        ``grey_matter_median``, ``white_matter_median`` (unit of `cbf`), ``ratio`` of them,
        ``spatial_cov`` (standard deviation over mean of grey matter), ``missing_grey_matter``
        and ``above_100``, ``above_150`` (shares of grey matter).

    References
    ----------
    .. [1] Mutsaerts et al., J Cereb Blood Flow Metab 37:3184, 2017.
       doi:10.1177/0271678X16683690

    Examples
    --------
    >>> numbers = grey_matter_statistics(
    ...     [60, 40, 25], grey_matter=[1, 1, 0], white_matter=[0, 0, 1]
    ... )
    >>> numbers['grey_matter_median'], numbers['ratio'], numbers['spatial_cov']
    (50.0, 2.0, 0.2)
    """
    cbf = np.asarray(cbf, float)
    grey = cbf[np.asarray(grey_matter, float) > QUALITY_FRACTION]
    white = cbf[np.asarray(white_matter, float) > QUALITY_FRACTION]
    medians = [_median(part) for part in (grey, white)]
    known = grey[np.isfinite(grey)]
    mean = float(known.mean()) if known.size else float('nan')
    return {
        'grey_matter_median': medians[0],
        'white_matter_median': medians[1],
        'ratio': medians[0] / medians[1] if medians[1] > 0 else float('nan'),
        'spatial_cov': float(known.std() / mean) if mean > 0 else float('nan'),
        'missing_grey_matter': float(1 - known.size / grey.size) if grey.size else float('nan'),
        **{
            f'above_{level:.0f}': float((known > level).mean()) if known.size else float('nan')
            for level in QUALITY_HIGH
        },
    }


def probable_cause(statistics: Mapping[str, float]) -> str:
    """
    Name the probable cause of an implausible median of grey matter; nothing is rescaled.

    Parameters
    ----------
    statistics : mapping of str to float
        From :func:`grey_matter_statistics`, in mL/100 g/min.

    Returns
    -------
    cause : str
        A sentence, empty where the median is plausible.

    Examples
    --------
    >>> probable_cause({'grey_matter_median': 540.0})[:55]
    'M0 and series may be scaled apart by 10 (scale slopes i'
    >>> probable_cause({'grey_matter_median': 54.0})
    ''
    """
    median = statistics['grey_matter_median']
    lowest, highest = GREY_CBF_RANGE
    if lowest <= median <= highest:
        return ''
    if not median > 0:
        return 'no flow in grey matter: label and control swapped, no labelling, or no M0'
    slip = abs(np.log(median / GREY_CBF))
    for factor in SCALE_SLIPS:
        if abs(slip - np.log(factor)) < SLIP_TOLERANCE:
            return (
                f'M0 and series may be scaled apart by {factor:g} (scale slopes in header or '
                'sidecar); correct the images or their sidecars'
            )
    if median > highest:
        return 'M0 too small (suppressed or short repetition time?), or arterial label'
    return 'label not arrived (delay too short), poor labelling, or M0 too large'


def judge_quality(
    numbers: Mapping[str, float],
    *,
    cause: str = '',
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[dict[str, Any]]:
    """
    Give every number of a quality table its verdict and the rule behind it.

    Parameters
    ----------
    numbers : mapping of str to float
        From :func:`quality_index`, :func:`grey_matter_statistics` and
        :func:`bids_app.models.numerics.noise.calibrate_errors` (``calibration``), and
        ``scale_slope_ratio``, the scale slope in the header of M0 over that of the series.
    cause : str
        From :func:`probable_cause`.
    intervals : mapping of str to (float, float), optional
        Intervals of 95 % of some of the numbers; these are good where the interval reaches into
        the rule.

    Returns
    -------
    rows : list of dict
        Keys measure, value, low, high, verdict (``good``, ``check``, or empty without a rule or
        number), rule, probable_cause.

    Examples
    --------
    >>> judge_quality({'qei': 0.3})[0]['verdict']
    'check'
    """
    rows = []
    for measure, value in numbers.items():
        low, high, advice = QUALITY_RULES.get(measure, (None, None, ''))
        ruled = not np.isnan(value) and not (low is None and high is None)
        ends = (intervals or {}).get(measure, (float('nan'), float('nan')))
        least, most = (value, value) if np.isnan(ends[0]) else ends
        good = ruled and (low is None or most >= low) and (high is None or least <= high)
        limits = ' to '.join(f'{limit:g}' for limit in (low, high) if limit is not None)
        words = 'at least ' if high is None else 'at most ' if low is None else ''
        if measure == 'grey_matter_median':
            advice = cause
        rows.append(
            {
                'measure': measure,
                'value': value,
                'low': ends[0],
                'high': ends[1],
                'verdict': ('good' if good else 'check') if ruled else '',
                'rule': f'{words}{limits}' if limits else '',
                'probable_cause': '' if good or not ruled else advice,
            }
        )
    return rows


def _median(values: FloatArray) -> float:
    """Return the median of what is known."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float('nan')
