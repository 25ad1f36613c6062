"""Named unit factors: the only place where a unit changes. Inside the app everything is SI."""

from __future__ import annotations

PERCENT = 0.01
"""One percent as a fraction."""

MILLISECOND = 1e-3
"""s."""

MILLIMETRE = 1e-3
"""m."""

MICROTESLA_PER_METRE = 1e-6
"""T/m."""

PPM = 1e-6
"""Parts per million as a fraction."""

ML_PER_100G_PER_MIN = 6000.0
"""Perfusion: 1 mL/g/s is 6000 mL/100 g/min."""
