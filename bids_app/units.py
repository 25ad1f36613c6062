"""Named unit factors: the only place where a unit changes. Inside the app everything is SI."""

from __future__ import annotations

PERCENT = 0.01
"""One percent as a fraction."""

MILLISECOND = 1e-3
"""s."""

MILLIMETRE = 1e-3
"""m."""

ML_PER_100G_PER_MIN = 6000.0
"""Perfusion: 1 mL/g/s is 6000 mL/100 g/min."""

KILOPASCAL = 7.500617
"""mmHg: pressures of gases in blood are in mmHg throughout, as nothing else is in use."""
