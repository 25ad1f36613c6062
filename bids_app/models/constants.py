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

LABELING_EFFICIENCY: Mapping[str, float] = MappingProxyType(
    {
        'PCASL': 0.85,
        'CASL': 0.68,
        'PASL': 0.98,
    }
)
"""Inversion efficiency without suppression, 1; Alsop et al. 2015; CASL Wang et al. 2005."""

SUPPRESSION_PER_PULSE = 0.93
"""Label kept per background-suppression pulse, 1; Epp et al. 2025: 0.93**4 = 0.75. Others: 0.95
(ASLPrep, after Alsop et al. 2015), 0.83 for two pulses (ExploreASL)."""

R1_BLOOD_PER_HCT = 0.52
"""Change of the relaxation rate of arterial blood with haematocrit at 3 T, 1/s; Lu et al. 2004,
doi:10.1002/mrm.20178."""

R1_BLOOD_PLASMA = 0.38
"""The same at a haematocrit of 0, 1/s; Lu et al. 2004."""

FIELD_OF_HCT_LINE = 3.0
"""Field at which that line was measured, T; Lu et al. 2004."""

DISPERSION_SHARPNESS = 10.0
"""s of the gamma kernel of dispersion, 1/s; ours, in the range of Chappell et al. 2013: with the
peak below the label is spread by 0.14 s."""

DISPERSION_PEAK = 0.1
"""p of that kernel, s; ours, likewise."""

M0_REGION_T1: Mapping[str, float] = MappingProxyType(
    {'grey_matter': 1.3, 'white_matter': 1.0, 'csf': 4.3}
)
"""T1 of a reference region at 3 T, s; defaults of oxasl (FSL), doi:10.1093/oso/9780198793816."""

M0_REGION_PARTITION: Mapping[str, float] = MappingProxyType(
    {'grey_matter': 0.98, 'white_matter': 0.82, 'csf': 1.15}
)
"""Water of a reference region over that of blood, 1; defaults of oxasl (FSL)."""

M0_REGION_T2_STAR: Mapping[str, float] = MappingProxyType(
    {'grey_matter': 0.05, 'white_matter': 0.05, 'csf': 0.4}
)
"""T2* of a reference region at 3 T, s; defaults of oxasl (FSL)."""

M0_REGION_BLOOD_T2_STAR = 0.05
"""T2* of the labelled water at 3 T, s; defaults of oxasl (FSL)."""

M0_REGION_FRACTION = 0.9
"""Tissue fraction above which a voxel belongs to a reference region, 1; ours."""

M0_REGION_VOXELS = 20
"""Voxels below which a region is no reference; ours."""

WHOLLY_COUNTED = 3.0
"""Residual, in standard deviations of the noise, up to which a pair counts wholly, 1; ours: normal
noise is beyond it once in 370 pairs, so that next to nothing is lost without outliers."""

BISQUARE = 6.0
"""Residual, in standard deviations of the noise, at which a pair counts nothing, 1; from
`WHOLLY_COUNTED` to there the weight is the bisquare of Beaton & Tukey 1974,
doi:10.1080/00401706.1974.10489171."""

ROBUST_MINIMUM = 4
"""Pairs of one delay below which none can be told to be an outlier, nor halves compared; ours."""

NOISY_PAIR = 2.0
"""Variance of a pair over that of the others from which on it is weighted down, 1; ours."""

SWAPPED_Z = -5.0
"""Mean difference in grey matter over its error that tells a swapped context, 1; ours."""

DELAYS_FOR_ARTERIES = 4
"""Delays below which arteries cannot be told from flow and arrival."""

LATEST_ARRIVAL = 4.0
"""Arrival times beyond it are not searched, s; ours: twice what white matter shows."""

ARRIVAL_STEP = 0.04
"""Spacing of the arrival times tried before a fit, s; ours."""

REFERENCE_CBF = 50.0
"""CBF at which the loss of label from tissue is taken before a fit, mL/100 g/min; ours."""

PROFILE_NODES = 61
"""Arrival times at which the profile likelihood of a voxel is evaluated; ours."""

PROFILE_REACH = 6.0
"""Half width of that window in standard errors, 1; ours."""

PROFILE_STRETCH = 1.5
"""Exponent that crowds these times around the estimate, 1; ours."""

NORMAL_95 = 1.959964
"""Half width of a 95 % interval in standard errors, 1; normal quantile."""

QUALITY_FRACTION = 0.7
"""Tissue fraction of the voxels in the quality index, 1; Dolui et al. 2024,
doi:10.1002/jmri.29308."""

QUALITY_FWHM = 5.0
"""Smoothing before the quality index, mm; Dolui et al. 2024."""

QUALITY_RATIO = 2.5
"""CBF of grey over white matter in the structural expectation, 1; Dolui et al. 2024."""

QUALITY_CORRELATION = (3.0126, 2.4419)
"""Factor and exponent of the structural correlation in the index, 1; Dolui et al. 2024."""

QUALITY_DISPERSION = (0.054, 0.9272)
"""Factor and exponent of the dispersion in the index, 1; Dolui et al. 2024."""

QUALITY_NEGATIVE = (2.8478, 0.5196)
"""Factor and exponent of the negative share of grey matter in the index, 1; Dolui et al. 2024."""

QUALITY_PARTS = 3
"""The index is the geometric mean of as many parts; Dolui et al. 2024."""

QUALITY_HIGH = (100.0, 150.0)
"""CBF above which the share of grey matter is counted, mL/100 g/min; as ASLPrep."""

SCALE_SLIPS = (10.0, 32.0)
"""Factors by which vendors scale M0 and series apart, 1; ExploreASL issues 25 and 604."""

SLIP_TOLERANCE = 0.5
"""How far, as a factor of e, a median may be from a slip to be told as one, 1; ours."""

GREY_CBF = 55.0
"""Median of healthy grey matter, mL/100 g/min; Alsop et al. 2015 (40-100 is the range)."""

GREY_CBF_RANGE = (20.0, 120.0)
"""Medians of grey matter outside of it are implausible, mL/100 g/min; ours."""

ERROR_SCALES = (0.9, 1.0, 1.1)
"""What standard errors may have to be multiplied by where nothing better is known, 1; ours."""

QUALITY_RULES: Mapping[str, tuple[float | None, float | None, str]] = MappingProxyType(
    {
        'qei': (0.5, None, 'noise, movement, or poor labelling'),
        'structural_correlation': (0.2, None, 'misalignment with the T1w image, or noise'),
        'negative_grey_matter': (None, 0.1, 'noise, or label that has not arrived'),
        'grey_matter_median': (*GREY_CBF_RANGE, ''),
        'ratio': (1.2, 4.0, 'misalignment with the T1w image, or noise'),
        'spatial_cov': (None, 0.8, 'late arrival or label in large arteries, or noise'),
        'missing_grey_matter': (None, 0.05, 'coverage of the scan, M0, or fits that failed'),
        'calibration': (
            *ERROR_SCALES[::2],
            'movement or drift between pairs: the variance is wrong',
        ),
        'calibration_of_runs': (
            *ERROR_SCALES[::2],
            'the person or the labeling changed between the runs: more than the variance knows',
        ),
        'scale_slope_ratio': (
            0.2,
            5.0,
            'the scale slopes in the headers of M0 and series differ greatly: right where each '
            'image was stored so, wrong where one was lost or made up; both are used as they are',
        ),
    }
)
"""Measure -> lowest and highest value that is good, and what is likely beyond. QEI: Dolui et al.
2024; GM/WM ratio and spatial variation: limits of the CBF_QC project; the others are ours."""

PVC_RADIUS = 2
"""Voxels on each side, in the slice, of the kernel of partial-volume correction (5 x 5 x 1);
Asllani et al. 2008, doi:10.1002/mrm.21670."""

PVC_MINIMUM = 0.1
"""Tissue fraction below which a voxel has no flow of that tissue, 1; as oxasl."""

SMALLEST_RATE = 1e-6
"""Rates nearer to 0 are taken as this, 1/s; keeps a quotient finite at its limit; ours."""

CBF_PLAUSIBLE = (-50.0, 200.0)
"""Outside of this CBF is flagged, mL/100 g/min; ours: noise below, vessels above."""

# --- oxygen -------------------------------------------------------------------------------

OEF_CAP_OF_MEDIAN = 5.0
"""Limit of OEF in the published analysis over the median of the brain, 1; Epp et al. 2025."""

OEF_SMALLEST_CAP = 1.5
"""That limit is at least this, 1; Epp et al. 2025."""

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

MAD_ERROR = 1.166
"""Relative standard error of a deviation found by the median, times the root of n; normal
values."""

MAD_TO_SD = 1.4826
"""Standard deviation of normal noise over its median absolute value, 1; 1/Phi^-1(3/4)."""

# --- signs of changes -----------------------------------------------------------------------

SMALLEST_CHANGED_FRACTION = 0.1
"""Share of changed voxels below which a share among them is undefined, 1; ours."""

FEWEST_NOISE_BLOCKS = 8
"""Blocks of independent noise that an interval needs; ours."""

SIGN_ALPHA = 0.05
"""Error of the intervals of shares, 1; by convention."""

FEWEST_EFFECTS = 30
"""Effects below which the distribution of their sizes cannot be learnt from them; ours."""

MIXTURE_BARRIER = 1e-5
"""Weight of the logarithmic barrier per observation, 1; ours."""

MIXTURE_FIRST_BARRIER, MIXTURE_WARM_BARRIER = 1e-2, 1e-4
"""Where it starts from equal weights, and from weights that are near, 1; ours."""

MIXTURE_FALL = 0.1
"""Barrier over the mean product of weights and multipliers, 1; ours."""

MIXTURE_STEPS = 100
"""Most Newton steps; ours, 45 sufficed for 27,000 voxels."""

MIXTURE_STEP_TO_BOUNDARY = 0.95
"""A step goes at most this far to where a weight becomes 0, 1; ours."""

MIXTURE_TOLERANCE = 1e-2
"""Largest relative change of a weight in the last step, 1; ours."""

SIGN_Z_BIN = 0.15
"""Width of the bins of effect over error, 1; ours."""

SIGN_ERROR_BIN = 0.15
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
"""Most steps in the search for the end of an interval; ours."""

SIGN_BISECT_EVERY = 3
"""One in so many steps to the end of an interval halves it, where the straight line sticks."""

SIGN_STEPS = (0.05, 0.95)
"""Smallest and largest share of the distance that a step to the end of an interval takes."""

SIGN_END_WIDTH = 0.003
"""The end of an interval is known that well, 1; ours."""

JACKKNIFE_GROUPS = 20
"""Groups of spatial blocks that are left out in turn; ours."""

BOLD_EQUIVALENCE = 0.2
"""Largest BOLD change that counts as none, percent; ours, a fifth of a usual response."""

OUTLYING_DEVIATIONS = 3.5
"""Robust z above which a participant is unlike the others; Iglewicz and Hoaglin 1993."""

SMALLEST_COMPARED_GROUP = 5
"""With fewer participants nobody can be told to be unlike the others; ours."""

OFFSETS = (-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03)
"""Common offsets whose effect on the shares is shown, share of the baseline, 1; ours."""

COUNT_GRID = 81
"""Population shares of agreeing signs on a grid from 0 to 1; ours."""

LABEL_DOF = 5.0
"""Degrees of freedom of the heavier tails that a label must withstand; ours."""

POSTERIOR_CHUNK = 20_000
"""Effects whose posterior is computed at a time; memory only."""

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

# --- regions of confidence ------------------------------------------------------------------

ELLIPSE_CONFIDENCE = 0.95
"""Probability that an ellipse holds the true mean, 1; convention."""

ELLIPSE_PAIRS = 3
"""Fewest pairs whose covariance has two directions and a degree of freedom left, 1; exact."""

# --- calibrated BOLD ------------------------------------------------------------------------

DAVIS_GAGNON = (-0.05, 0.98)
"""alpha and beta, 1; Gagnon et al. 2016, default of the published analysis (Epp et al. 2025)."""

DAVIS_EPP = (0.23, 1.3)
"""alpha (Chen & Pike) and beta (Bright et al. 2019), 1; figure 3A of Epp et al. 2025."""

DAVIS_EPP_MAXIMUM = 5.5
"""Largest BOLD change of the lines of that figure, percent; Epp et al. 2025."""

DAVIS_GRIFFETH = (0.14, 0.91)
"""alpha and beta, 1; Griffeth & Buxton 2011, doi:10.1016/j.neuroimage.2011.05.077."""

DAVIS_LIN = (0.58, 1.5)
"""alpha and beta, 1; Lin, Fox et al. 2008, as used by Epp et al. 2025."""

# --- gases in blood -------------------------------------------------------------------------

SEVERINGHAUS = (23400.0, 150.0)
"""Of the dissociation curve of human blood, mmHg^3 and mmHg^2; Severinghaus 1979,
doi:10.1152/jappl.1979.46.3.599."""

OXYGEN_SOLUBILITY = 1.385e-3
"""In blood at 37 degrees, umol/mL/mmHg: 0.0031 mL per 100 mL; Gauthier & Hoge 2012."""

VENOUS_PO2 = 35.0
"""Pressure of oxygen in cerebral venous blood, which the gases move by a few, mmHg; ours: at a
saturation of 0.6 to 0.7 the curve of Severinghaus gives 31 to 37."""

OXYGEN_RELAXIVITY = 1.2e-4
"""Of dissolved oxygen for T1 of arterial blood at 3 T, 1/s/mmHg: 1.65 to 1.49 s with 95 % oxygen,
Siero et al. 2015, doi:10.1002/nbm.3411; the rise of the pressure is taken as 540 mmHg there
(ours)."""

SHORTEST_BREATH = 1.5
"""Two breaths do not end within less, s; ours."""

BREATH_DEPTH = 0.3
"""A breath goes up and down by this share of the usual range within a window, 1; ours."""

BREATH_WINDOW = 10.0
"""Of that range: one breath at least, s; ours."""

BLOOD_T2_OFFSET = (-13.5, 80.2, -75.9)
"""R2 of saturated blood by powers of the haematocrit, echoes 10 ms apart at 3 T, 1/s; Lu et al.
2012, doi:10.1002/mrm.22970."""

BLOOD_T2_SLOPE = (-0.5, 3.4)
"""Of R2 with the lack of saturation, times the haematocrit and its square, 1/s; Lu et al. 2012."""

BLOOD_T2_SQUARE = 247.4
"""Of the lack of saturation squared, times Hct (1 - Hct), 1/s; Lu et al. 2012."""

FIELD_OF_BLOOD_T2 = 3.0
"""Field of that calibration, T; Lu et al. 2012."""

BLOOD_T2_CALIBRATION_ERROR = 0.03
"""Of a saturation by T2, fraction; ours: at 62 ms and a haematocrit of 0.42 bovine blood (Lu et
al. 2012) gives 0.61, human blood (Bush et al. 2017, PMC5218988) 0.58."""

VENOUS_SATURATION_ERROR = 0.04
"""Of a venous saturation that is given without its error, fraction; ours: that calibration, and a
repeatability of 3.6 % (Krishnamurthy et al. 2014, doi:10.1002/mrm.24868)."""

GREY_R2_STAR = 20.0
"""Of grey matter at 3 T, by which echoes share noise, 1/s; ours: from 15 to 30 the correlation of
BOLD and flow changes from 0.43 to 0.35."""

DUAL_START = 0.4
"""Extraction at which the solution for two gases starts, 1; ours, any from 0 to 1 serves."""

DUAL_STEPS = 60
"""Steps of that solution: each divides its error by ten or more; ours."""

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

# --- deconvolution and leakage ------------------------------------------------------------

BRAIN_DENSITY = 1.04
"""Of tissue, g/mL; the value usual in perfusion imaging, Rempp et al. 1994."""

DECONVOLUTION_THRESHOLDS = tuple(round(0.01 * 1.06**step, 6) for step in range(79))
"""Fractions of the largest singular value that are tried, 0.01 to 0.94, 1; ours."""

DECONVOLUTION_CHUNK_MB = 100.0
"""Memory of one array of a chunk, MB; ours."""

LEAKAGE_RETURN_RATES = (0.0, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.048, 0.064)
"""Rates at which leaked agent may return to the blood, 1/s; transfer constants of up to 0.6 per
minute over extravascular spaces of 0.15 and more lie within, Leu et al. 2016."""

LEAKAGE_LEADS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
"""Times by which leaking blood may be ahead of the mean of the tissue, s: up to the mean transit
time, as if all left at the arterial end; ours."""

LEAKAGE_SATURATIONS = (float('inf'), 16.0, 11.0, 8.0, 6.0, 5.0, 4.0, 3.0)
"""Falls of the change of R2* by T1 that cannot be passed, 1/s: -ln(M)/TE for steady states M of
.55 to .9 (T1 1 to 1.6 s, TR 1 to 2.5 s, 50 to 90 degrees, TE 30 to 40 ms); ours."""

LEAKAGE_SIGNIFICANT = 3.0
"""Standard errors of K2 from which its saturation is modelled, 1; ours."""

LEAKAGE_STRONG = 0.5
"""Change of the area by a leak, over the corrected area, from which the correction is not to be
relied on, 1; ours: blood that leaks loses agent itself, which no correction of the curve sees."""

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

VESSEL_LEAD = 1.0
"""Time by which the centre of the bolus is before that of the brain in an artery, or after it in a
vein, s; ours: a quarter of a mean transit time."""

LARGE_VESSEL_CBV = 0.1
"""Blood volume from which a vessel dominates a voxel, mL/mL; upper limit of Epp et al. 2025."""


# --- published rules for a group ----------------------------------------------------------

PLS_SAMPLES = 3000
"""Permutations and bootstrap samples, 1; Epp et al. 2025, doi:10.1038/s41593-025-02132-9."""

PLS_BATCH = 250
"""Permutations or samples that are worked on at once, 1; a choice: memory."""

PLS_TIE = 1e-12
"""Relative difference below which singular values are equal, 1; rounding errors."""

BOOTSTRAP_RATIO = 2.0
"""Bootstrap ratio of a significant BOLD change, 1; Epp et al. 2025."""

CLUSTER_EXTENT = 30
"""Smallest cluster, voxels; Epp et al. 2025."""

TYPICAL_DEVIATIONS = 2.5
"""Allowed distance above the median, unscaled median absolute deviations; Epp et al. 2025."""

QUARTILES = (0.25, 0.5, 0.75)
"""Edges of quartiles, 1."""

RULE_LEVEL = 0.05
"""False discovery rate, 1; Goltermann, Huth & Buechel 2026, doi:10.64898/2026.04.21.719913."""

COUPLING_PERMUTATIONS = 5000
"""Permutations of voxels, 1; Epp et al. 2025."""

COUPLING_LEVEL = 0.05
"""Level of the set of Fieller, 1."""

CORTEX_DEPTHS = 5
"""Points through the thickness of the cortex at which voxels are weighed, 1; a choice: layers of
0.5 to 0.8 mm, far finer than the voxels."""

LEAST_CORTEX = 0.1
"""Grey matter in the voxels with an estimate below which a vertex has no value, 1; a choice: ten
times the error of a voxel of pure grey matter at worst."""

LEAST_ROUND = 0.9
"""Smallest radius of a mesh over its largest, above which it is a sphere, 1; a choice."""
