"""Signal of tissue with its vessels, and the oxygen in their blood; mmHg and mL/100 mL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from bids_app._typing import FloatArray

OXYGEN_CAPACITY = 1.34
"""mL of oxygen per g of haemoglobin."""

SOLUBILITY = 0.0031
"""mL of oxygen per 100 mL of blood and mmHg."""

GYROMAGNETIC_RATIO = 2.675e8
"""rad/s/T"""

SUSCEPTIBILITY = 0.264e-6
"""Of deoxygenated blood per haematocrit, cgs."""

EQUAL_SATURATION = 0.95
"""Saturation at which blood has the susceptibility of tissue (Spees et al. 2001)."""

SHARES = np.array([0.2, 0.4, 0.4])
"""Of arteries, capillaries and veins in the blood volume (Weber et al. 2008)."""

VOLUME_EXPONENTS = np.array([0.84, 0.1, 0.2])
"""By which their volumes follow flow (Lee 2001, Stefanovic 2008, Chen & Pike 2010)."""

HAEMATOCRIT_SHARES = np.array([1.0, 0.76, 1.0])
"""Of the large-vessel haematocrit (Sakai et al. 1985)."""

ARTERIAL_SHARE = 0.4
"""Of the saturation of capillaries; the rest is venous (Tsai et al. 2003)."""

BLOOD_SIGNAL = 1.15
"""Of blood over tissue at echo time 0 (Griffeth & Buxton 2011)."""


def saturation(pressure: ArrayLike) -> FloatArray:
    """Give the saturation of haemoglobin at a pressure of oxygen (mmHg) by Kelman (1966)."""
    p = np.asarray(pressure, float)
    bound = p * (-8532.2289 + p * (2121.4010 + p * (-67.073989 + p)))
    free = 935960.87 + p * (-31346.258 + p * (2396.1674 + p * (-67.104406 + p)))
    return np.asarray(bound / free)


def oxygen_content(pressure: ArrayLike, *, hct: float) -> FloatArray:
    """Give the oxygen in blood (mL/100 mL), bound and dissolved, at a pressure (mmHg)."""
    bound = OXYGEN_CAPACITY * 100 * hct / 3 * saturation(pressure)
    return np.asarray(bound + SOLUBILITY * np.asarray(pressure, float))


def saturation_of_content(content: ArrayLike, *, hct: float) -> FloatArray:
    """Give the saturation of blood that holds so much oxygen (mL/100 mL)."""
    pressure = np.geomspace(12.0, 700.0, 4000)
    held = oxygen_content(pressure, hct=hct)
    return saturation(np.interp(np.asarray(content, float), held, pressure))


def vascular_signal(
    echo_times: ArrayLike,
    *,
    flow: ArrayLike,
    extraction: ArrayLike,
    volume: ArrayLike,
    r2: ArrayLike,
    hct: float,
    po2: float,
    resting_po2: float,
    b0: float = 3.0,
) -> FloatArray:
    r"""
    Predict the gradient-echo signal of tissue with arteries, capillaries and veins.

    Parameters
    ----------
    echo_times : (E,) array_like
        s.
    flow : (...) array_like
        Relative to rest.
    extraction : (...) array_like
        Oxygen taken from a volume of blood, relative to what arterial blood holds at rest.
    volume : (...) array_like
        Of all blood at rest, mL/mL.
    r2 : (...) array_like
        Relaxation of tissue without vessels, 1/s.
    hct : float
        Of large vessels.
    po2, resting_po2 : float
        Arterial pressure of oxygen now and at rest, mmHg.
    b0 : float
        T.

    Returns
    -------
    signal : (..., E) ndarray
        Relative to tissue without blood at echo time 0.

    Notes
    -----
    The detailed model: outside of arteries and veins R2* is linear in the shift of frequency of
    their blood, outside of capillaries quadratic (Ogawa et al. 1993); within blood R2* is
    quadratic in deoxygenation (Zhao et al. 2007).

    References
    ----------
    .. [1] Griffeth & Buxton, NeuroImage 58:198, 2011. doi:10.1016/j.neuroimage.2011.05.077
    """
    ratio = np.asarray(flow, float)
    artery = np.broadcast_to(saturation(po2), ratio.shape)
    taken = np.asarray(extraction, float) * oxygen_content(resting_po2, hct=hct)
    vein = saturation_of_content(oxygen_content(po2, hct=hct) - taken, hct=hct)
    capillary = ARTERIAL_SHARE * artery + (1 - ARTERIAL_SHARE) * vein
    filled = np.stack([artery, capillary, vein], axis=-1)
    parts = SHARES * ratio[..., None] ** VOLUME_EXPONENTS * np.asarray(volume, float)[..., None]
    cells = hct * HAEMATOCRIT_SHARES
    shift = GYROMAGNETIC_RATIO * b0 * SUSCEPTIBILITY * cells * np.abs(EQUAL_SATURATION - filled)
    outside = np.asarray(r2, float) + 0.04 * parts[..., 1] * shift[..., 1] ** 2
    outside = outside + 4.3 * (parts[..., 0] * shift[..., 0] + parts[..., 2] * shift[..., 2])
    within = 14.9 * cells + 14.7 + (302.1 * cells + 41.8) * (1 - filled) ** 2
    times = np.asarray(echo_times, float)
    tissue = (1 - parts.sum(-1))[..., None] * np.exp(-outside[..., None] * times)
    blood = parts[..., None] * np.exp(-within[..., None] * times)
    return np.asarray(tissue + BLOOD_SIGNAL * blood.sum(-2))
