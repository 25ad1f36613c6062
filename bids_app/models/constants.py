"""Physical constants, literature values and limits: number, unit, source; no logic."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# --- physics ------------------------------------------------------------------------------

GYROMAGNETIC_RATIO = 267.52219e6
"""Of the proton, rad/s/T; CODATA 2018. Published mqBOLD code has 267.61918e6 (0.04 % more)."""

MILLILITRE_PER_DECILITRE = 100.0
"""mL/dL; exact."""

# --- blood --------------------------------------------------------------------------------

HAEMATOCRIT = 0.42
"""Large vessels, dimensionless; mean of Epp et al. 2025, doi:10.1038/s41593-025-02132-9."""

ARTERIAL_SATURATION = 0.98
"""Arterial oxygen saturation, dimensionless; median of Epp et al. 2025."""

SMALL_VESSEL_HCT_RATIO = 0.85
"""Haematocrit of small vessels over large ones, 1; Epp et al. 2025."""

SUSCEPTIBILITY = 0.264e-6
"""Of deoxygenated against oxygenated blood per unit haematocrit, cgs; Epp et al. 2025."""

OXYGEN_PER_HAEMOGLOBIN = 55.6
"""Oxygen bound per haemoglobin, umol/g; Epp et al. 2025 (1.34-1.39 mL/g would be 7-10 % more)."""

HAEMOGLOBIN_PER_HCT = 33.4
"""Haemoglobin concentration per unit haematocrit, g/dL; Epp et al. 2025."""

FIELD_TOLERANCE = 0.15
"""A field this near to a tabulated one is that one (2.89 T is sold as 3 T), T; ours."""

T1_BLOOD: Mapping[float, float] = MappingProxyType({1.5: 1.35, 3.0: 1.65, 7.0: 2.087})
"""T1 of arterial blood by field (T), s; doi:10.1002/mrm.25197 and, at 7 T, 10.1002/mrm.24550."""

T1_BLOOD_SLOPE = 0.110
"""Change of the T1 of blood with the field, s/T; Zhang et al. 2013, doi:10.1002/mrm.24550."""

T1_BLOOD_INTERCEPT = 1.316
"""T1 of blood extrapolated to no field, s; Zhang et al. 2013, doi:10.1002/mrm.24550."""

# --- tissue -------------------------------------------------------------------------------

T1_TISSUE: Mapping[float, float] = MappingProxyType({1.5: 1.197, 3.0: 1.607, 7.0: 1.939})
"""T1 of grey matter by field (T), s; Wright et al. 2008, doi:10.1007/s10334-008-0104-8."""

PARTITION_COEFFICIENT = 0.9
"""Blood-brain partition coefficient of water, mL/g; Alsop et al. 2015."""

WHITE_MATTER_CBV = 0.025
"""Blood volume, mL/mL; Leenders et al. 1990, doi:10.1093/brain/113.1.27."""

GREY_MATTER_CBV = 0.048
"""Blood volume, mL/mL; Epp et al. 2025 (0.0478 +- 0.0021)."""

GRUBB_FACTOR = 0.008
"""CBV at a CBF of 1 mL/100 g/min, mL/mL; Grubb et al. 1974, doi:10.1161/01.STR.5.5.630."""

GRUBB_EXPONENT = 0.38
"""Exponent of the power law of CBV and CBF, 1; Grubb et al. 1974."""

# --- arterial spin labeling ---------------------------------------------------------------

LABELING_EFFICIENCY: Mapping[str, float] = MappingProxyType({'PCASL': 0.85, 'CASL': 0.68})
"""Inversion efficiency without suppression, 1; Alsop et al. 2015; CASL Wang et al. 2005."""

SUPPRESSION_PER_PULSE = 0.93
"""Label kept per background-suppression pulse, 1; Epp et al. 2025: 0.93**4 = 0.75."""

CBF_PLAUSIBLE = (-50.0, 200.0)
"""Outside of this CBF is flagged, mL/100 g/min; ours: noise below, vessels above."""

# --- oxygen -------------------------------------------------------------------------------

OEF_PLAUSIBLE_MAXIMUM = 1.0
"""More oxygen cannot be extracted than arrives, 1; by definition."""

# --- bolus of contrast agent --------------------------------------------------------------

BOLUS_MINIMUM_CONTRAST_TO_NOISE = 10.0
"""Height of the brain-mean bolus over its noise below which there is none, 1; ours."""

BOLUS_MINIMUM_FALL = 0.03
"""Relative fall of the brain-mean signal below which there is no bolus, 1; ours."""

BOLUS_ARRIVAL_FRACTION = 0.02
"""Fraction of the height that a baseline volume must not exceed, 1; ours."""

BOLUS_ARRIVAL_NOISE = 3.0
"""Standard deviations of noise that a baseline volume may deviate, 1; ours."""

BOLUS_MINIMUM_BASELINE = 3
"""Volumes needed before the bolus to know signal and noise; ours."""

BOLUS_MINIMUM_VOLUMES = 10
"""Volumes below which a series cannot hold baseline, pass and return; ours."""

BOLUS_LOOK_AHEAD = 3
"""A minimum ends the first pass if as many following volumes are not lower; ours."""

DETECTION_LIMIT = 3.0
"""Signal over its noise below which there is none, 1; ours."""

MAD_TO_SD = 1.4826
"""Standard deviation of normal noise over its median absolute value, 1; 1/Phi^-1(3/4)."""
