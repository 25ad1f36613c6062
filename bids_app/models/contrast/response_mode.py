"""Response modes: whether blood flow or oxygen extraction changed more."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from bids_app.errors import ModelInputError
from bids_app.models.constants import MODE_NODES, MODE_PROBABILITY
from bids_app.models.estimate import Estimate
from bids_app.models.status import Status, combine_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray, StatusArray


class Mode(IntEnum):
    """Values of every map of response modes."""

    OUTSIDE = 0
    FLOW_LED = 1
    EXTRACTION_LED = 2
    UNDETERMINED = 3
    NOT_SIGNIFICANT = 4


MODE_NAMES: Mapping[Mode, str] = {
    Mode.OUTSIDE: 'outside',
    Mode.FLOW_LED: 'flow-led (CBF changes more than OEF)',
    Mode.EXTRACTION_LED: 'extraction-led (OEF changes more than CBF)',
    Mode.UNDETERMINED: 'undetermined',
    Mode.NOT_SIGNIFICANT: 'BOLD not significant',
}
"""Column name of the label table."""

MODE_COLORS: Mapping[Mode, str] = {
    Mode.OUTSIDE: '#000000',
    Mode.FLOW_LED: '#D55E00',
    Mode.EXTRACTION_LED: '#0072B2',
    Mode.UNDETERMINED: '#8C8C8C',
    Mode.NOT_SIGNIFICANT: '#D9D9D9',
}
"""Column color of the label table."""


def log_ratio(change: Estimate, baseline: ArrayLike) -> Estimate:
    r"""
    Turn a change into the logarithm of the ratio of the two conditions.

    Parameters
    ----------
    change : (...) Estimate
        Task minus baseline, any unit.
    baseline : (...) array_like
        The baseline, same unit.

    Returns
    -------
    ratio : (...) Estimate
        ln(task/baseline); missing with NO_REFERENCE where either is not positive.

    Notes
    -----
    The variance is that of the change over the squared mean of the conditions.

    Examples
    --------
    >>> log_ratio(Estimate.of([10.0, 1.0], 4.0), [50.0, -1.0]).value.round(3)
    array([0.182,   nan])
    """
    base = np.asarray(baseline, float)
    task = base + change.value
    defined = (base > 0) & (task > 0)
    safe = np.where(defined, base, 1.0), np.where(defined, task, 1.0)
    status = combine_status(change.status, np.where(defined, Status.OK, Status.NO_REFERENCE))
    variance = change.variance / ((safe[0] + safe[1]) / 2) ** 2
    return Estimate.of(np.log(safe[1] / safe[0]), variance, status, change.dof)


def flow_led_probability(cbf_ratio: Estimate, oef_ratio: Estimate) -> FloatArray:
    """
    Give the probability that blood flow changed more than extraction.

    Parameters
    ----------
    cbf_ratio, oef_ratio : (V,) Estimate
        Logarithms of the ratios between the conditions, with independent errors.

    Returns
    -------
    probability : (V,) ndarray of float64
        P(abs(ln f) > abs(ln o)), flat prior; NaN where one is missing.

    Examples
    --------
    >>> flow, extraction = Estimate.of([0.2, 0.1], 1e-4), Estimate.of([0.1, 0.1], 1e-4)
    >>> flow_led_probability(flow, extraction).round(2)
    array([1. , 0.5])
    """
    nodes = ndtri((np.arange(MODE_NODES) + 1 / 2) / MODE_NODES)
    probability: FloatArray = np.zeros(cbf_ratio.value.shape)
    tiny = np.finfo(float).tiny
    error = np.sqrt(np.maximum(cbf_ratio.variance, tiny))
    spread = np.sqrt(np.maximum(oef_ratio.variance, tiny))
    for node in nodes:
        size = np.abs(oef_ratio.value + node * spread)
        above = ndtr((cbf_ratio.value - size) / error)
        below = ndtr((-cbf_ratio.value - size) / error)
        probability += (above + below) / MODE_NODES
    return probability


def label_response_mode(
    cbf_ratio: Estimate, oef_ratio: Estimate, gate: ArrayLike, mask: ArrayLike
) -> StatusArray:
    r"""
    Label voxels flow-led, extraction-led or undetermined.

    Parameters
    ----------
    cbf_ratio, oef_ratio : (V,) Estimate
        Logarithms of the ratios between the conditions.
    gate : (V,) array_like of bool
        Where BOLD is significant.
    mask : (V,) array_like of bool
        Voxels to label.

    Returns
    -------
    labels : (V,) ndarray of uint8
        Codes of :class:`Mode`; a label is given where its probability exceeds .95.

    Notes
    -----
    ln of the CMRO2 ratio is the sum of the two logarithms. The sign of BOLD is nearly that of
    -ln o, so these labels almost repeat concordance: they are no independent evidence.

    Examples
    --------
    >>> flow, extraction = Estimate.of([0.2, 0.1], 1e-4), Estimate.of([0.1, 0.1], 1e-4)
    >>> label_response_mode(flow, extraction, [True, True], [True, True])
    array([1, 3], dtype=uint8)
    """
    selected, inside = np.asarray(gate, bool), np.asarray(mask, bool)
    if len({cbf_ratio.value.shape, oef_ratio.value.shape, selected.shape, inside.shape}) != 1:
        msg = 'maps, gate and mask must have equal shapes'
        raise ModelInputError(msg)
    probability = flow_led_probability(cbf_ratio, oef_ratio)
    labels = np.where(inside, Mode.UNDETERMINED, Mode.OUTSIDE).astype(np.uint8)
    labels[inside & (probability > MODE_PROBABILITY)] = Mode.FLOW_LED
    labels[inside & (probability < 1 - MODE_PROBABILITY)] = Mode.EXTRACTION_LED
    labels[inside & ~selected] = Mode.NOT_SIGNIFICANT
    return labels
