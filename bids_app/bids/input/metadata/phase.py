"""The scale of phase images that scanners write in units of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_app.bids.input.files import read_values
from bids_app.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bids_app._typing import FloatArray

BRIGHT = 0.5
"""Of the 98th percentile of the magnitude: voxels above it hold tissue with a clear phase."""

LINEAR = 1.0
"""Deviation from a phase that is linear in echo time, up to which it counts as such, rad."""

MOSTLY = 0.7
"""Share of bright voxels whose phase must be linear; of random phases it is 0.32."""

FILLED = 0.95
"""Share of a turn that the values must span: the noise around a head spans all of it."""

WHOLE = 0.02
"""Of a quotient of echo intervals from a whole number: only then wraps cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How a maker writes phase."""

    low: float
    """Value of the lowest phase."""
    turn: float
    """Units of a whole turn."""
    makers: tuple[str, ...]
    """Lower case; how their names begin in Manufacturer."""
    source: str
    """Where that is stated; empty = known from data only."""

    @property
    def scale(self) -> float:
        """Radians per unit."""
        return 2 * math.pi / self.turn

    def fits(self, low: float, high: float) -> bool:
        """Tell whether values fill one turn from the lowest phase on."""
        slack = (1 - FILLED) * self.turn
        inside = low >= self.low - 0.1 * slack and high <= self.low + self.turn + 0.1 * slack
        return inside and high - low >= FILLED * self.turn


CONVENTIONS = (
    Convention(low=-4096, turn=8192, makers=('siemens',),
               source='dcm2niix issue 406, CMRR-C2P/MB issue 238'),
    Convention(low=0, turn=4096, makers=('siemens',),
               source='CMRR-C2P/MB issue 238, fmriprep pull 1359'),
    Convention(low=-1000 * math.pi, turn=2000 * math.pi, makers=('philips', 'ge'),
               source='dcm2niix issue 463 (Philips)'),
    Convention(low=-math.pi, turn=2 * math.pi, makers=('philips', 'ge'),
               source='fmriprep pull 1359 (Philips)'),
)  # fmt: skip
"""The noise around the head tells them apart: none has another's range."""


def recognise_phase(
    phase: Sequence[Path],
    maker: str,
    *,
    magnitude: Sequence[Path] = (),
    echo_times: Sequence[float] = (),
) -> tuple[float | None, str]:
    """
    Find the scale of phase images from their maker and their values.

    Parameters
    ----------
    phase : sequence of Path
        One image per echo, or a difference of two.
    maker : str
        Manufacturer of the sidecar; empty where it is not stated.
    magnitude : sequence of Path
        Of the same echoes: tells where phase is no noise. Without it linearity is not asked for.
    echo_times : sequence of float
        Of the same echoes, s.

    Returns
    -------
    scale : float or None
        Radians per unit; None where no known convention of the maker fits, or where phase would
        not be linear over the echoes.
    reason : str
        What was recognised and how, or why nothing was.
    """
    try:
        images = [read_values(path) for path in phase]
        brightness = read_values(magnitude[0]) if magnitude else None
    except AppError as error:  # the file is reported when all images are read
        return None, str(error)
    chosen, text = _choose(images, maker)
    if chosen is None or brightness is None:
        return (chosen.scale if chosen else None), text
    share = linear_share([chosen.scale * one for one in images], brightness, echo_times)
    if share is not None and share < MOSTLY:
        return None, f'{text}, but in {1 - share:.0%} of the head phase is not linear over echoes'
    more = '' if share is None else f'; linear over the echoes in {share:.0%} of the head'
    return chosen.scale, text + more


def _choose(images: Sequence[FloatArray], maker: str) -> tuple[Convention | None, str]:
    """Find the convention whose range the images fill, if their maker may have written it."""
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    text = f'values from {low:g} to {high:g}'
    chosen = next((one for one in CONVENTIONS if one.fits(low, high)), None)
    if chosen is None:
        return None, f'{text} are in no unit that is known'
    makers = tuple(one for known in CONVENTIONS for one in known.makers)
    named = maker.lower()
    if named.startswith(makers) and not named.startswith(chosen.makers):
        return None, f'{text} are not what {maker} writes'
    by = maker or ', '.join(chosen.makers)
    return chosen, f'{text} are {chosen.scale:.6g} rad per unit (as {by}; {chosen.source})'


def linear_share(
    phase: Sequence[FloatArray], magnitude: FloatArray, echo_times: Sequence[float]
) -> float | None:
    """
    Measure in how much of a head phase is linear in echo time.

    Of the bright voxels, for the best three echoes (phase in rad, times in s): echoes of
    alternating readout agree with every second. None where no three echoes have intervals of a
    whole quotient.
    """
    import numpy as np

    bright = magnitude > BRIGHT * np.percentile(magnitude, 98)
    shares = []
    for i, j, k in ((0, 1, 2), (0, 2, 4), (1, 2, 3)):
        if k >= len(phase) or not bright.any():
            continue
        factor = (echo_times[k] - echo_times[i]) / (echo_times[j] - echo_times[i])
        if abs(factor - round(factor)) > WHOLE:
            continue
        one, two, three = (phase[index][bright] for index in (i, j, k))
        rest = three - one - round(factor) * (two - one)
        rest = np.abs(np.angle(np.exp(1j * rest)))
        shares.append(float((rest < LINEAR).mean()))
    return max(shares, default=None)
