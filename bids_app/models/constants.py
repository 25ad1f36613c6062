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

SPOILT_VOLUME = 0.5
"""Share of the brain without a number above which a volume cannot be used, 1; ours."""

DETECTION_LIMIT = 3.0
"""Signal over its noise below which there is none, 1; ours."""

MAD_TO_SD = 1.4826
"""Standard deviation of normal noise over its median absolute value, 1; 1/Phi^-1(3/4)."""

# --- signs of changes -----------------------------------------------------------------------

SMALLEST_CHANGED_FRACTION = 0.1
"""Share of changed voxels below which a share among them is undefined, 1; ours."""

FEWEST_NOISE_BLOCKS = 8
"""Blocks of independent noise that an interval needs; ours."""

SIGN_ALPHA = 0.05
"""Error of the intervals of shares, 1; by convention."""

SIGN_ERROR_FACTORS = (0.9, 1.1)
"""Standard errors are multiplied by these to show what a wrong one does, 1; ours."""

FEWEST_EFFECTS = 30
"""Effects below which the distribution of their sizes cannot be learnt from them; ours."""

MIXTURE_BARRIERS = (1e-2, 1e-3, 1e-4, 1e-5)
"""Weights of the logarithmic barrier per observation, one after the other, 1; ours."""

MIXTURE_STEPS = 40
"""Most Newton steps per barrier; ours, 32 in all suffice for 27,000 voxels."""

MIXTURE_STEP_TO_BOUNDARY = 0.95
"""A step goes at most this far to where a weight becomes 0, 1; ours."""

MIXTURE_TOLERANCE = 1e-2
"""Largest relative change of a weight in the last step of a barrier, 1; ours."""

SIGN_Z_BIN = 0.1
"""Width of the bins of effect over error, 1; ours."""

SIGN_ERROR_BIN = 0.1
"""Width of the bins of the logarithm of the error, 1; ours."""

SIGN_LARGEST_Z = 12.0
"""All effects further out share a bin, 1; ours."""

SIGN_TAIL = 0.01
"""Quantile of the errors that sets the narrowest normal component, 1; ours."""

SIGN_FINEST = 10.0
"""That quantile over the narrowest normal component, 1; Stephens 2017."""

SIGN_NARROWEST = 4.0
"""The widest component is at least so many times the narrowest, 1; ours."""

SIGN_OUTLIERS = 0.001
"""Share of the effects that may lie beyond the widest component, 1; ours."""

SIGN_ENDS = 16
"""Uniform components per side; ours."""

SIGN_FIRST_END = 8.0
"""Median error over the narrowest uniform component, 1; ours."""

SIGN_GRID_QUANTILE = 0.25
"""Half of this quantile of the errors is the spacing of the grid of point masses, 1; ours."""

SIGN_GROWTH = 0.08
"""Spacing of the grid far out relative to the distance from 0, 1; ours."""

SIGN_EDGE = 1e-6
"""The first point beyond the smallest effect lies this part of a spacing beyond it, 1; ours."""

SIGN_BLEND = 0.1
"""Share of equal weights in the start of a constrained fit, 1; ours."""

SIGN_BISECTIONS = 9
"""Halvings in the search for the end of an interval; ours, an error of 0.002."""

SIGN_END = 1e-4
"""An interval that reaches so near to 0 or 1 contains it, 1; ours."""

SIGN_LEVELS = 51
"""Quantiles of the errors over which noise-only shares are averaged; ours."""

SIGN_TINY = 1e-300
"""Floor of likelihoods, so that logarithms exist."""

MODE_PROBABILITY = 0.95
"""Probability above which a response mode is named, 1; ours."""

MODE_NODES = 64
"""Quantiles of the extraction ratio over which its error is averaged; ours."""

NOISE_BLOCK_WIDTHS = 3.0
"""Side of a block of noise over the width of its correlation, 1; ours."""

# --- calibrated BOLD ------------------------------------------------------------------------

DAVIS_GAGNON = (-0.05, 0.98)
"""alpha and beta, 1; Gagnon et al. 2016, default of the published analysis (Epp et al. 2025)."""

DAVIS_EPP = (0.23, 1.3)
"""alpha (Chen & Pike) and beta (Bright et al. 2019), 1; figure 3A of Epp et al. 2025."""

DAVIS_GRIFFETH = (0.14, 0.91)
"""alpha and beta, 1; Griffeth & Buxton 2011, doi:10.1016/j.neuroimage.2011.05.077."""

DAVIS_LIN = (0.58, 1.5)
"""alpha and beta, 1; Lin, Fox et al. 2008, as used by Epp et al. 2025."""

# --- asymmetric spin echo -------------------------------------------------------------------

ASE_LONG = 0.015
"""Displacement from which the decay is mono-exponential, s; Stone & Blockley 2017."""

ASE_SPIN_ECHO = 5e-4
"""A displacement below this is the spin echo, s; ours."""

ASE_KERNEL_PHASE = 1.5
"""Largest local frequency around a vessel over the characteristic one, 1; Yablonskiy 1994."""

ASE_KERNEL_NODES = 96
"""Nodes of the integral over vessel orientations; ours, exact to 1e-6 up to a phase of 60."""

ASE_KERNEL_RANGE = 60.0
"""The exponent is tabulated to this phase and straight beyond, rad; ours."""

ASE_KERNEL_POINTS = 1201
"""Points of that table; ours."""

ASE_START = ((0.5, 30.0), (0.005, 0.15))
"""Range of R2' (1/s) and blood volume (mL/mL) in which a fit starts; ours."""

ASE_LOWER = (0.01, 1e-4)
"""Least R2' (1/s) and blood volume (mL/mL) of a fit; ours."""

ASE_UPPER = (100.0, 0.5)
"""Largest R2' (1/s) and blood volume (mL/mL) of a fit; ours."""

# --- published analysis ---------------------------------------------------------------------

PUBLISHED_LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        'r2': (1 / 0.09, float('inf')),
        'r2_star': (1 / 0.09, float('inf')),
        'r2_prime': (0.0, 9.0),
        'cbv': (0.0, float('inf')),
        'oef': (0.0, 0.9),
        'cbf': (0.0, 120.0),
    }
)
"""Above the first and up to the second (1/s, mL/mL, 1, mL/100 g/min); code of Epp et al. 2025.

T2 and T2* up to 90 ms; CBF up to 90 before division by 0.75; the limit of 10 % of CBV was
written down but not applied."""

ASE_FEWEST_LONG = 3
"""Samples at long displacements that a fit needs; ours."""

FEWEST_PAIRS = 4
"""Label-control pairs of which each half can still tell its noise; ours."""

# --- deconvolution and leakage ------------------------------------------------------------

BRAIN_DENSITY = 1.04
"""Of tissue, g/mL; the value usual in perfusion imaging, Rempp et al. 1994."""

DECONVOLUTION_THRESHOLDS = tuple(round(0.01 * 1.06**step, 6) for step in range(79))
"""Fractions of the largest singular value that are tried, 0.01 to 0.94, 1; ours."""

DECONVOLUTION_CHUNK_MB = 100.0
"""Memory of one array of a chunk, MB; ours."""

LEAKAGE_FIT_PASSES = 2
"""Length of the fit of a leak in lengths of the area that is corrected; ours."""

LEAKAGE_OUTLIER = 1.5
"""Robust standard deviations from the usual tail beyond which a voxel may leak, 1; ours."""

# --- arterial input and defects of a bolus series -----------------------------------------

ARTERY_HEIGHT_QUANTILE = 0.95
"""Curves below this quantile of the heights are not arterial, 1; ours."""

ARTERY_MAXIMUM_VOXELS = 40
"""Voxels whose curves are averaged at most; ours."""

ARTERY_MINIMUM_VOXELS = 5
"""Voxels that an arterial input needs; ours."""

ARTERY_MINIMUM_HEIGHT = 2.0
"""Height over the median of the brain below which a curve is that of tissue, 1; ours."""

ARTERY_CORRELATION = 0.9
"""With the median of the best curves, 1; ours."""

SATURATED_SHARE = 0.5
"""Share of the arterial voxels in the noise above which the input is cut, 1; ours."""

CLIPPED_SHARE = 0.01
"""Share of the brain that sits at one end of the range above which a series is clipped, 1."""

CLIPPED_VOLUMES = 3
"""Volumes that a voxel must sit there to count; ours."""

ONE_SIDED_RATIO = 0.5
"""Median area of one half of the brain over that of the other, 1; ours."""

BOLUS_MOTION = 1.0
"""Shift between the baseline and a volume of the first pass that spoils the area, mm; ours."""

ROTATION_RADIUS = 50.0
"""Distance at which a turn of the head counts as a shift, mm; Power et al. 2012."""

MOTION_MINIMUM_VOXELS = 1500
"""Below this the brain has too little structure to show movement; ours."""

ROBUST_FLOOR = 0.01
"""Residual below which reweighting stops to matter, mm; ours."""

ROBUST_ITERATIONS = 20
"""Of a fit of least absolute deviations by reweighting; ours."""

MOTION_MINIMUM_STRUCTURE = 0.1
"""Of the best-seen movement; below this a movement cannot be seen, 1; ours."""

ABSURD_SHARE = 0.1
"""Share of the brain with a significantly negative area above which it is absurd, 1; ours."""

ABSURD_Z = 3.0
"""Standard errors below zero from which an area counts as negative, 1; ours."""

LARGE_VESSEL_CBV = 0.1
"""Blood volume from which a vessel dominates a voxel, mL/mL; upper limit of Epp et al. 2025."""
