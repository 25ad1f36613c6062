"""Every setting, declared once; the branches change numbers, :class:`RunSettings` does not."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from bids_app.errors import SettingsError
from bids_app.models import constants as c
from bids_app.models.bold.events import MEASURES
from bids_app.models.registry import choices

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_NEGATIVE = (0.0, math.inf)
"""Limits of what is no number; every number has its own. NaN and infinity are always refused."""

SEEDS = (0, 2**31 - 1)
"""Of the random numbers of ANTs, a signed integer of 32 bits."""


class Scale(NamedTuple):
    """How a saved map follows a constant of its model without a new fit."""

    quantity: str
    model: str
    power: int


def _setting(
    default: Any,
    help_: str,
    *,
    unit: str = '',
    choices: tuple[str, ...] = (),
    limits: tuple[float, float] = NOT_NEGATIVE,
    flag: str = '',
    replay: bool | Scale = False,
    former: tuple[str, ...] = (),
    former_choices: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """
    Declare everything that is to be known of one setting.

    Parameters
    ----------
    default : value
        None where it is made from the data.
    help_ : str
        For the command line and the pages.
    unit : str
        Of a number.
    choices : tuple of str
        The values it can take.
    limits : tuple of float
        Smallest and largest number, in its unit: what lies outside is a slip.
    flag : str
        Option of its own on the command line; without it ``--set`` and the settings file only.
    replay : bool or Scale
        Whether saved maps can follow a change: recomputed (True) or scaled.
    former : tuple of str
        Dotted names it once had, refused with the new one.
    former_choices : mapping of str to str
        Names its values once had -> those of today.
    """
    metadata = {
        'help': help_,
        'unit': unit,
        'choices': choices,
        'limits': limits,
        'flag': flag,
        'replay': replay,
        'former': former,
        'former_choices': former_choices,
    }
    return field(default=default, metadata=metadata)


def _pressure(what: str, limits: tuple[float, float], further: str = '') -> Any:
    """Declare an end-tidal pressure."""
    help_ = (
        f'end-tidal pressure of {what}; default the recording beside the series, else '
        f'participants.tsv{further}'
    )
    return _setting(None, help_, unit='mmHg', limits=limits, replay=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomySettings:
    """T1w image, masks, tissue maps and alignment of every scan."""

    registration: str = _setting(
        'rigid',
        'align the scans by rigid registration, or trust the headers',
        choices=('rigid', 'header'),
        flag='--registration',
    )
    motion: str = _setting(
        'rigid',
        'undo the movement of the head within BOLD, ASL and DSC series; registration header '
        'takes the volumes as they are too',
        choices=('rigid', 'none'),
    )
    distortion: str = _setting(
        'auto',
        'undo the distortion of BOLD, ASL and DSC by the field maps of the dataset, else by the '
        'field of the gradient echo',
        choices=('auto', 'none'),
    )
    fieldmap_phase_scale: float | None = _setting(
        None,
        'radians per unit of the phases in fmap/ whose sidecar does not say Units: rad; default '
        'what their maker and their range tell, else they are not used',
        unit='rad',
        limits=(-1e3, 1e3),
    )
    smallest_brain: float = _setting(
        900.0,
        'brain found in a T1w image below which it is refused',
        unit='mL',
        limits=(1.0, 5000.0),
    )
    largest_brain: float = _setting(
        2100.0,
        'brain found in a T1w image above which it is refused',
        unit='mL',
        limits=(1.0, 5000.0),
    )
    tissue_detail: bool = _setting(
        True,
        'predict from the tissue of the T1w image what lies between the voxels of a scan; else '
        'maps are carried to the quantification grid by a spline alone',
    )
    resampling_error: bool = _setting(
        True,
        'count in the variance what interpolation and alignment do not know',
    )
    alignment_error: float = _setting(
        0.3,
        'SD per axis of where two scans lie to each other once they are aligned, for the variance',
        unit='mm',
        limits=(0.0, 20.0),
    )
    sloppy: bool = _setting(
        False,
        'normalise to the template quickly and coarsely: for trials and tests, not for results',
        flag='--sloppy',
    )
    random_seed: int = _setting(
        42, 'seed of everything that samples at random', flag='--random-seed', limits=SEEDS
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxometrySettings:
    """T2, T2* and R2'."""

    t2_model: str | None = _setting(
        None,
        'model of T2; default epg-slice for 2D trains whose echoes are multiples of the first, '
        'else drop-first, exponential where there are only three echoes',
        choices=choices('r2'),
        flag='--t2-model',
    )
    refocusing_thickness: float | None = _setting(
        None,
        'thickness that the refocusing pulses of a 2D multi-echo spin echo select over that of '
        'the slice; default the one that fits the echoes best',
        unit='1',
        limits=(0.5, 10.0),
    )
    t2_star_model: str = _setting(
        'exponential', 'model of T2*', choices=choices('r2_star'), flag='--t2star-model'
    )
    r2_prime_model: str = _setting(
        'difference',
        "model of R2'",
        choices=choices('r2_prime'),
        replay=True,
        former_choices={'published': 'epp2025'},
    )
    slice_profile: str = _setting(
        'fitted',
        'slice profile of the background-gradient correction: a rectangle whose edges are as '
        'blurred as the echoes show, or one that is assumed; none switches it off',
        choices=('fitted', 'rectangular', 'exponential', 'sinc-gauss', 'none'),
        flag='--slice-profile',
    )
    attenuation_floor: float = _setting(
        0.2,
        'echoes that keep less of their signal in the background gradient are not used',
        unit='1',
        limits=(0.0, 1.0),
        former=('relaxometry.dephasing_floor',),
    )
    noise_floor: str = _setting(
        'rician',
        'noise floor of magnitude images near the noise: modelled, or ignored',
        choices=('rician', 'none'),
    )
    coils: int | None = _setting(
        None,
        'receivers whose magnitudes were combined as the root of the sum of their squares, which '
        'lifts the noise floor; default what the sidecar says, else 1',
        limits=(1.0, 256.0),
    )
    phase_scale: float | None = _setting(
        None,
        'radians per unit of the phase images; default 1 where their sidecar says Units: rad, '
        'else what their maker, range and echoes tell, else the phase is not used',
        unit='rad',
        limits=(-1e3, 1e3),
    )
    redundant_sets: tuple[str, ...] = _setting(
        ('MoCoHR', 'MoCoQR'),
        'acq- labels of gradient echoes that repeat the centre of k-space; merged with the '
        'full set',
    )
    smoothing: float = _setting(
        0.0,
        "smoothing of R2 and R2* before R2' is made, full width at half maximum in voxels",
        unit='1',
        replay=True,
        limits=(0.0, 50.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfusionSettings:
    """CBF from arterial spin labeling."""

    model: str | None = _setting(
        None,
        'model of CBF; default multi-delay where there are several delays, multi-delay-arterial '
        'also finds blood in large arteries, multi-delay-dispersed spreads the bolus by a gamma '
        'kernel; single-delay then uses the longest alone',
        choices=('single-delay', 'multi-delay', 'multi-delay-dispersed', 'multi-delay-arterial'),
        flag='--cbf-model',
    )
    arrival: str = _setting(
        'own',
        'with several delays: an arrival time of each condition, or one that all share',
        choices=('own', 'shared'),
    )
    pairs: str = _setting(
        'robust',
        'weight outlying label-control pairs down, or take their plain mean',
        choices=('robust', 'mean'),
    )
    m0_reference: str = _setting(
        'voxel',
        'M0 of every voxel, or one for all from a region of one tissue',
        choices=('voxel', 'grey_matter', 'white_matter', 'csf'),
    )
    partial_volume_correction: str = _setting(
        'none',
        'also estimate CBF of grey and white matter apart, by linear regression',
        choices=('none', 'linear'),
    )
    labeling_efficiency: float | None = _setting(
        None,
        'inversion efficiency; default PCASL 0.85, CASL 0.68, PASL 0.98',
        unit='1',
        limits=(0.01, 1.0),
        replay=Scale('cbf', 'single-delay', -1),
    )
    background_suppression_factor: float | None = _setting(
        None,
        'signal kept by all suppression pulses; default 0.93 per pulse',
        unit='1',
        limits=(0.01, 1.0),
        replay=Scale('cbf', 'single-delay', -1),
    )
    dispersion_sharpness: float = _setting(
        c.DISPERSION_SHARPNESS,
        's of the gamma kernel of the model multi-delay-dispersed',
        unit='1/s',
        limits=(0.5, 1000.0),
    )
    dispersion_peak: float = _setting(
        c.DISPERSION_PEAK,
        'p of that kernel: when most of the label has come, after its front',
        unit='s',
        limits=(0.0, 5.0),
    )
    bolus_duration: float | None = _setting(
        None,
        'duration of the bolus of PASL without cut-off; without it such a series is refused',
        unit='s',
        limits=(0.01, 10.0),
    )
    t1_blood: float | None = _setting(
        None, 'T1 of blood; default by t1_blood_from', unit='s', limits=(0.1, 10.0)
    )
    t1_blood_from: str = _setting(
        'field',
        'T1 of blood by field strength, or from haematocrit (3 T)',
        choices=('field', 'haematocrit'),
    )
    t1_tissue: float | None = _setting(
        None,
        'T1 of tissue, for the recovery of M0 and the fit of several delays; default by field '
        'strength',
        unit='s',
        limits=(0.1, 10.0),
    )
    partition_coefficient: float = _setting(
        c.PARTITION_COEFFICIENT,
        'blood-brain partition coefficient',
        unit='mL/g',
        limits=(0.1, 2.0),
        replay=Scale('cbf', 'single-delay', 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodVolumeSettings:
    """Blood volume."""

    model: str | None = _setting(
        None,
        'where CBV comes from; default dsc where there is a good bolus, else none '
        '(then OEF and CMRO2 are not made)',
        choices=(*choices('cbv'), 'none'),
        flag='--cbv-model',
        replay=True,
    )
    white_matter_cbv: float = _setting(
        c.WHITE_MATTER_CBV,
        'blood volume of white matter',
        unit='mL/mL',
        limits=(1e-3, 0.5),
        replay=Scale('cbv', 'dsc', 1),
    )
    grey_matter_cbv: float = _setting(
        c.GREY_MATTER_CBV,
        'blood volume of grey matter, for the model literature',
        unit='mL/mL',
        limits=(1e-3, 0.5),
        replay=True,
    )
    relative_error: float = _setting(
        0.1,
        'relative standard error of a literature value',
        unit='1',
        replay=True,
        limits=(0.0, 2.0),
    )
    grubb_factor: float = _setting(
        c.GRUBB_FACTOR,
        'CBV at 1 mL/100 g/min, power law',
        unit='mL/mL',
        replay=True,
        limits=(1e-6, 1.0),
    )
    grubb_exponent: float = _setting(
        c.GRUBB_EXPONENT,
        'exponent of the power law',
        unit='1',
        replay=True,
        limits=(0.0, 2.0),
    )
    area: str = _setting(
        'first-pass',
        'part of the bolus curve whose area is blood volume',
        choices=('first-pass', 'full'),
    )
    leakage: str = _setting(
        'none',
        'correction of the bolus for leakage; its maps K1 and K2 are saved',
        choices=('none', 'boxerman-weisskoff'),
    )
    accepted_defects: tuple[str, ...] = _setting(
        (),
        'named defects of a DSC series in spite of which blood volume is made',
        choices=('truncated', 'clipped', 'one-sided', 'motion', 'absurd'),
    )
    deconvolution: str = _setting(
        'none',
        'CBF, mean transit time and Tmax from the bolus as by-products',
        choices=('none', 'oscillation-limited'),
    )
    oscillation_index: float = _setting(
        0.05, 'largest oscillation of the residue function', unit='1', limits=(1e-3, 1.0)
    )
    arterial_mask: str | None = _setting(
        None,
        'mask of the arterial input on the DSC grid, with {participant} and {session} in the '
        'path; default found automatically',
    )
    large_vessel_cbv: float = _setting(
        c.LARGE_VESSEL_CBV,
        'measured blood volume from which a voxel counts as a vessel',
        unit='mL/mL',
        limits=(1e-3, 1.0),
    )
    large_vessels: str = _setting(
        'flag',
        'voxels of large vessels: flagged in the status map, or without blood volume',
        choices=('flag', 'exclude'),
    )
    from_condition: str | None = _setting(
        None, 'condition whose measured blood volume serves all others; default each its own'
    )
    from_session: str | None = _setting(
        None, 'session whose DSC series serves the sessions that have none'
    )
    task_change: str = _setting(
        'none',
        'change with the task of a blood volume that was measured once: none, the power law of '
        'CBF, or a table of factors per parcel',
        choices=('none', 'grubb', 'parcels'),
        replay=True,
    )
    parcel_table: str | None = _setting(
        None,
        'TSV for parcels: columns index (of the atlas) and <task>, percent change of CBV; or the '
        'name of a preset that brings one, in which a task without a column does not change CBV',
        replay=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OxygenSettings:
    """Oxygen extraction and metabolism."""

    oef_model: str | None = _setting(
        None,
        'model of OEF; default mqbold, or without both multi-echo scans qbold where there is an '
        'asymmetric spin echo, else dual-calibrated where both gases are named',
        choices=choices('oef'),
        flag='--oef-model',
        former_choices={'published': 'epp2025'},
    )
    hypercapnia: str | None = _setting(
        None,
        'condition in which carbon dioxide was breathed: it calibrates BOLD and gives the '
        'vascular reactivity',
        flag='--hypercapnia',
        former=('change.hypercapnia',),
    )
    hyperoxia: str | None = _setting(
        None,
        'condition in which oxygen was breathed: it calibrates BOLD, and with hypercapnia gives '
        'OEF at rest',
        flag='--hyperoxia',
    )
    bold_maximum_model: str | None = _setting(
        None,
        'model of the maximum of BOLD; default hypercapnia where that gas is named, generalised '
        "where hyperoxia alone is, or OEF comes from both gases; else r2-prime, R2' times the "
        'echo time',
        choices=choices('bold_maximum'),
        replay=True,
    )
    gas_fwhm: float = _setting(
        8.0,
        'smoothing of BOLD and CBF of the gases, and of CBF at rest beside them, before they '
        'calibrate BOLD',
        unit='mm',
        limits=(0.0, 50.0),
        replay=True,
    )
    hypercapnia_cmro2: float = _setting(
        1.0,
        'CMRO2 in hypercapnia over that at rest; 1 takes it as unchanged',
        unit='1',
        limits=(0.5, 1.5),
        replay=True,
    )
    oxygen_relaxivity: float = _setting(
        1.2e-4,
        'by which oxygen that is breathed shortens T1 of arterial blood, and so CBF with it',
        unit='1/s/mmHg',
        limits=(0.0, 1e-3),
    )
    resting_po2: float | None = _pressure('oxygen at rest', (20.0, 800.0))
    resting_pco2: float | None = _pressure('carbon dioxide at rest', (10.0, 120.0))
    hypercapnia_po2: float | None = _pressure(
        'oxygen in hypercapnia', (20.0, 800.0), ', else that at rest'
    )
    hypercapnia_pco2: float | None = _pressure('carbon dioxide in hypercapnia', (10.0, 120.0))
    hyperoxia_po2: float | None = _pressure('oxygen in hyperoxia', (20.0, 800.0))
    oef_scale: str = _setting(
        'model',
        'scale of OEF, and of CMRO2 with it: as its model has it, or multiplied so that the '
        'flow-weighted mean of grey matter at baseline is that of venous blood',
        choices=('model', 'venous'),
        flag='--oef-scale',
        replay=True,
    )
    venous_saturation: float | None = _setting(
        None,
        'saturation of blood in the sagittal sinus, to which OEF is compared; default column Yv '
        'of sessions.tsv or participants.tsv, else by venous_t2',
        unit='1',
        limits=(0.2, 0.95),
        replay=True,
    )
    venous_saturation_error: float | None = _setting(
        None,
        'its standard deviation; default column Yv_se, else 0.04',
        unit='1',
        limits=(0.001, 0.3),
        replay=True,
    )
    venous_t2: float | None = _setting(
        None,
        'T2 of that blood (TRUST, echoes 10 ms apart, 3 T) in place of its saturation; default '
        'column T2v',
        unit='s',
        limits=(0.01, 0.2),
    )
    venous_t2_error: float | None = _setting(
        None,
        'its standard deviation; default column T2v_se',
        unit='s',
        limits=(1e-5, 0.05),
    )
    cmro2_model: str = _setting('fick', 'model of CMRO2', choices=choices('cmro2'), replay=True)
    b0: float | None = _setting(
        None,
        'main magnetic field; default MagneticFieldStrength of the sidecars',
        unit='T',
        limits=(0.05, 25.0),
        replay=True,
    )
    hct: float | None = _setting(
        None,
        'large-vessel haematocrit; default participants.tsv, else 0.42',
        unit='1',
        limits=(0.1, 0.75),
        flag='--hct',
        replay=True,
    )
    sao2: float | None = _setting(
        None,
        'arterial oxygen saturation; default participants.tsv, else 0.98',
        unit='1',
        limits=(0.3, 1.0),
        flag='--sao2',
        replay=True,
    )
    small_vessel_hct_ratio: float = _setting(
        c.SMALL_VESSEL_HCT_RATIO,
        'haematocrit of small vessels relative to large ones',
        unit='1',
        limits=(0.1, 1.5),
        replay=True,
    )
    susceptibility: float = _setting(
        c.SUSCEPTIBILITY,
        'susceptibility difference of deoxygenated and oxygenated blood per unit haematocrit, cgs',
        unit='1',
        limits=(1e-9, 1e-5),
        replay=True,
    )
    gyromagnetic_ratio: float = _setting(
        c.GYROMAGNETIC_RATIO, 'of the proton', unit='rad/s/T', limits=(1e6, 1e9), replay=True
    )
    oxygen_per_haemoglobin: float = _setting(
        c.OXYGEN_PER_HAEMOGLOBIN,
        'oxygen bound by a gram of haemoglobin',
        unit='umol/g',
        replay=True,
        limits=(10.0, 100.0),
    )
    haemoglobin_per_hct: float = _setting(
        c.HAEMOGLOBIN_PER_HCT,
        'haemoglobin concentration per unit haematocrit',
        unit='g/dL',
        replay=True,
        limits=(10.0, 100.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoldSettings:
    """Percent BOLD change."""

    hrf_model: str = _setting(
        'flexible',
        'haemodynamic response of the design: one whose delay and width are fitted, one shape, or '
        '(of events) a free number per volume',
        choices=('flexible', 'spm', 'glover', 'fir'),
    )
    design: str = _setting(
        'auto',
        'take trial types as blocks, whose plateau is compared, or as events, whose response is '
        'estimated; auto: events where no trial type of the run has a block longer than '
        'window_start',
        choices=('auto', 'blocks', 'events'),
    )
    event_measure: str = _setting(
        'peak',
        'percent change of events: the response to one of them at its peak, its mean while above '
        'half of the peak, or its mean from the start to 32 s after the end (its area over that '
        'time); times are those of the canonical response',
        choices=MEASURES,
    )
    modulators: tuple[str, ...] = _setting(
        (),
        'numeric columns of events.tsv with which the response to events may vary; percent change '
        'is then that at their mean',
    )
    noise_model: str = _setting(
        'fast',
        'noise of the time series: white noise and noise of many memories, up to 1/f (fast); of '
        'one memory (ar1); or white (ols)',
        choices=('fast', 'ar1', 'ols'),
    )
    high_pass: float | None = _setting(
        None, 'cut-off; default 1/(2 x longest cycle of the design)', unit='Hz', limits=(0.0, 1.0)
    )
    window_start: float = _setting(
        6.0,
        'a block counts from this time after its start to its end',
        unit='s',
        limits=(0.0, 100.0),
    )
    estimator: str = _setting(
        'glm',
        'percent change by a general linear model, or from block medians as published, which '
        'keeps slow drift',
        choices=('glm', 'block-median'),
    )
    echo_time: float | None = _setting(
        None,
        'echo time for which the percent change of a run of several echoes is stated; default '
        'that of its middle echo, of two the later',
        unit='s',
        limits=(5e-4, 0.5),
    )
    slice_timing: str = _setting(
        'sidecar',
        'give every slice the design of its own time where the sidecar has SliceTiming, or not',
        choices=('sidecar', 'none'),
    )
    dummy_scans: int | None = _setting(
        None,
        'first volumes that do not count; default those found brighter than the plateau',
        unit='1',
        limits=(0, 1000),
    )
    confounds: tuple[str, ...] = _setting(
        ('motion',),
        'regressors of no interest: 6 or 24 of motion where it is known, noise components of '
        'white matter and fluid',
        choices=('motion', 'motion24', 'compcor', 'none'),
    )
    noise_components: int = _setting(
        5, 'how many noise components compcor takes', unit='1', limits=(0, 100)
    )
    censor_dvars: float = _setting(
        1.5,
        'volumes do not count whose step from the volume before is this many times the median '
        'step of the run; 0 never',
        unit='1',
        limits=(0.0, 1e6),
    )
    censor_displacement: float = _setting(
        0.9,
        'volumes do not count into which the head moved by more; 0 never',
        unit='mm',
        limits=(0.0, 1e6),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """Contrasts and labels."""

    route: str = _setting(
        'quantitative',
        "change of CMRO2: R2' measured in both conditions; R2' of the task from the baseline and "
        'BOLD (semiquantitative), also with the limits of the published analysis (epp2025); both '
        'by their precision (combined); or the Davis model',
        choices=('quantitative', 'semiquantitative', 'epp2025', 'combined', 'davis'),
        replay=True,
    )
    bold_blocks: str = _setting(
        'alternate',
        'where the change of CMRO2 leans on BOLD: the BOLD gate from every other block and the '
        'change from the others, or both from all blocks as published',
        choices=('alternate', 'all'),
        replay=True,
    )
    davis_coefficients: str = _setting(
        'gagnon2016',
        'source of alpha and beta of the Davis model',
        choices=('gagnon2016', 'epp2025', 'griffeth2011', 'lin2008'),
        replay=True,
    )
    davis_maximum: float | None = _setting(
        None,
        'maximum of BOLD in the Davis model; default by the model of oxygen.bold_maximum_model',
        unit='%',
        replay=True,
        limits=(0.0, 100.0),
    )
    davis_maximum_map: str | None = _setting(
        None,
        'map of that maximum in percent on the quantification grid, with {participant} and '
        '{session} in the path',
        replay=True,
    )
    cbv_response: float = _setting(
        0.0,
        'relative change of CBV with the task where it is not measured',
        unit='1',
        limits=(-1.0, 10.0),
        replay=True,
    )
    between_scans: str = _setting(
        'learnt',
        'what the scans of two conditions differ by beside their noise is part of the error of a '
        'change: literature joined with the halves and runs of this participant, or literature '
        'alone; with none, errors and labels hold for these minutes only, and slow changes of '
        'flow or scanner count as effects of the task',
        choices=('learnt', 'prior', 'none'),
        replay=True,
    )
    fwhm: float = _setting(
        0.0,
        'smoothing of condition maps before contrasts',
        unit='mm',
        limits=(0.0, 50.0),
        flag='--fwhm',
        replay=True,
    )
    bold_q: float = _setting(
        0.05, 'FDR level of the BOLD gate', unit='1', limits=(0.0, 1.0), replay=True
    )
    cmro2_q: float = _setting(
        0.05,
        'FDR level of CMRO2 in the t test and consistency rules of a group',
        unit='1',
        limits=(0.0, 1.0),
        replay=True,
    )
    false_sign_rate: float = _setting(
        0.05,
        'local false sign rate of the CMRO2 change below which a label is given',
        unit='1',
        limits=(0.0, 0.5),
        replay=True,
    )
    smallest_effect: float = _setting(
        0.01,
        'smallest CMRO2 change of interest, relative to the median baseline',
        unit='1',
        flag='--smallest-effect',
        replay=True,
        limits=(0.0, 1.0),
    )
    limits: str = _setting(
        'none',
        'label only voxels whose maps lie within the limits of the published analysis',
        choices=('none', 'epp2025'),
        replay=True,
    )
    grey_matter: float = _setting(
        0.5,
        'grey-matter probability above which voxels are labelled',
        unit='1',
        limits=(0.0, 1.0),
        replay=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """Inference over participants."""

    covariates: tuple[str, ...] = _setting(
        (),
        'columns of participants.tsv that are regressed out; each is tested too',
        flag='--covariates',
    )
    groups: str | None = _setting(
        None,
        'column of participants.tsv with two values whose groups are compared',
        flag='--groups',
    )
    model: str | None = _setting(
        None,
        'formula over columns of participants.tsv, such as "~ group + age" for every quantity or '
        '"oef ~ group * age" for one; every column and pair of groups is tested',
        flag='--model',
    )
    session_contrasts: tuple[str, ...] = _setting(
        (),
        'A-B ...: analyse the differences between sessions A and B of the same participant',
        flag='--session-contrasts',
    )
    session_column: str | None = _setting(
        None,
        'column of sessions.tsv that A and B of --session-contrasts are values of, such as '
        'treatment; default the labels of the sessions',
        flag='--session-column',
    )
    regions: tuple[str, ...] = _setting(
        (),
        'territories (arteries, packaged), NAME=IMAGE,TSV or NAME=atlas-... of the local '
        'TemplateFlow: further atlases in template space for the tables of regions; the TSV has '
        'columns index and name',
        flag='--regions',
    )
    roi: str | None = _setting(
        None,
        'BIDS derivatives with sub-XX/**/*_mask or *_dseg: regions of interest of each '
        'participant, on the T1w image or in the native space of the maps; needs no template',
        flag='--roi',
    )
    asymmetry: str = _setting(
        'no',
        'compare the hemispheres: maps and region tables of the asymmetry index of every quantity',
        choices=('no', 'yes'),
        flag='--asymmetry',
    )
    affected_side: str | None = _setting(
        None,
        'column of participants.tsv with left or right (n/a: none): maps are mirrored so that the '
        'affected side of everybody is the left one',
        flag='--affected-side',
    )
    reference: str | None = _setting(
        None,
        'folder of a norm: output of the group level, or the norm files of one; every participant '
        'is compared with it',
        flag='--reference',
    )
    exclude: tuple[str, ...] = _setting(
        (),
        'leave out participants by verdict: incomplete, degraded, or quality of the blood flow',
        choices=('incomplete', 'degraded', 'quality'),
    )
    accept_suspects: tuple[str, ...] = _setting(
        (),
        'signs of a wrong scan in spite of which a participant stays in the group',
        choices=('copy', 'small-bold', 'short-bold', 'one-sided'),
    )
    permutations: int = _setting(
        1000, 'rearrangements of the tests by permutation', unit='1', limits=(0, 1_000_000)
    )
    bootstraps: int = _setting(
        1000, 'bootstrap samples of partial least squares', unit='1', limits=(0, 1_000_000)
    )
    random_seed: int = _setting(42, 'seed of permutations and samples', unit='1', limits=SEEDS)
    yield_fwhm: tuple[float, ...] = _setting(
        (0.0, 4.0, 8.0),
        'smoothing of the maps in the table of yield',
        unit='mm',
        limits=(0.0, 100.0),
    )
    tfce: str = _setting(
        'no',
        'threshold-free cluster enhancement with permutations; about a second per permutation',
        choices=('no', 'yes'),
        flag='--tfce',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that changes numbers."""

    preset: str = _setting('recommended', 'named set of settings')
    condition_entity: str = _setting(
        'auto',
        'entity that tells conditions apart',
        choices=('auto', 'task', 'acq', 'ses'),
        flag='--condition-entity',
    )
    baseline: str | None = _setting(
        None, 'baseline condition; default control, else rest', flag='--baseline'
    )
    contrasts: tuple[str, ...] = _setting(
        (), 'contrasts A-B; default every condition minus the baseline', flag='--contrasts'
    )
    atlas: str = _setting(
        'Schaefer2018',
        'atlas of the region tables',
        choices=('Schaefer2018', 'none'),
        flag='--atlas',
    )
    output_spaces: tuple[str, ...] = _setting(
        ('MNI152NLin6Asym',),
        'template spaces of the maps: MNI152NLin6Asym (packaged), '
        'NAME of TemplateFlow where it is installed, NAME=FOLDER for a template of yours, or '
        'none; the group level reads the first of them. On the surface: fsLR, fsaverage, '
        'fsaverage6, fsaverage5, from the surfaces of -d fmriprep=PATH; the group reads all of '
        'these',
        flag='--output-spaces',
        replay=True,
    )
    surface_atlas: tuple[str, ...] = _setting(
        (),
        'atlases on the cortical surface, for tables of its parcels: '
        'NAME=LEFT.label.gii,RIGHT.label.gii or NAME=FILE.dlabel.nii',
        flag='--surface-atlas',
    )
    ignore: tuple[str, ...] = _setting(
        (),
        'inputs to leave alone',
        choices=('mese', 'megre', 'phase', 'redundant', 'ase', 'asl', 'dsc', 'bold', 't1w'),
        flag='--ignore',
    )
    anatomy: AnatomySettings = field(default_factory=AnatomySettings)
    relaxometry: RelaxometrySettings = field(default_factory=RelaxometrySettings)
    perfusion: PerfusionSettings = field(default_factory=PerfusionSettings)
    blood_volume: BloodVolumeSettings = field(default_factory=BloodVolumeSettings)
    oxygen: OxygenSettings = field(default_factory=OxygenSettings)
    bold: BoldSettings = field(default_factory=BoldSettings)
    change: ChangeSettings = field(default_factory=ChangeSettings)
    group: GroupSettings = field(default_factory=GroupSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Where and how a run is made; nothing here changes a number."""

    bids_dir: Path
    output_dir: Path
    level: str
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    bids_filters: dict[str, dict[str, Any]] = field(default_factory=dict)
    derivatives: dict[str, Path] = field(default_factory=dict)
    metadata_overrides: Path | None = None
    input_map: str | None = None
    """Name of a packaged role map, or a path."""
    work_dir: Path | None = None
    keep_work: bool = False
    trust_work_dir: bool = False
    nprocs: int = 1
    omp_nthreads: int = 1
    memory_mb: float = 4000.0
    low_mem: bool = False
    plugin_file: Path | None = None
    dry_run: bool = False
    as_json: bool = False
    """Of the dry run."""
    reports_only: bool = False
    replay: dict[str, Any] | None = None
    """Constants to change in a replay of an earlier run; None = no replay."""
    multiverse: tuple[tuple[str, tuple[Any, ...]], ...] | None = None
    """Settings of a replay and the values each is to take, for a table; None = no table."""
    stop_on_first_crash: bool = False
    write_graph: bool = False
    skip_bids_validation: bool = False
    force: bool = False
    verbose: int = 0
    command: tuple[str, ...] = ()


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
    """
    Give every setting under its dotted name.

    Such as ``{'perfusion.model': 'single-delay'}``.

    Examples
    --------
    >>> flatten(Settings())['blood_volume.white_matter_cbv']
    0.025
    """
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f'{prefix}{item.name}.')
        else:
            flat[prefix + item.name] = value
    return flat


@cache
def declarations() -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """
    Find the declaration and the type of every setting.

    Dotted name -> field, whose metadata are the arguments of its declaration, and type.
    """
    found: dict[str, tuple[dataclasses.Field[Any], Any]] = {}
    for item in dataclasses.fields(Settings):
        kind = get_type_hints(Settings)[item.name]
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            for one in dataclasses.fields(kind):
                found[f'{item.name}.{one.name}'] = (one, hints[one.name])
        else:
            found[item.name] = (item, kind)
    return found


def flags() -> dict[str, str]:
    """Give the settings with an option of their own: dotted name -> option."""
    return {
        name: declaration.metadata['flag']
        for name, (declaration, _) in declarations().items()
        if declaration.metadata['flag']
    }


def field_of(name: str) -> tuple[dataclasses.Field[Any], Any]:
    """
    Find the declaration and the type of a setting by its dotted name.

    Raises
    ------
    SettingsError
        If there is no such setting; names the new name of a former one, else the nearest.
    """
    known = declarations()
    if name in known:
        return known[name]
    for new, (declaration, _) in known.items():
        if name in declaration.metadata['former']:
            msg = f'setting {name!r} is now called {new!r}'
            raise SettingsError(msg)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'; did you mean {near[0]}?' if near else ''
    msg = f'unknown setting {name!r}{hint} (all settings: docs/reference/settings.md)'
    raise SettingsError(msg)


def limits_of(name: str) -> tuple[float, float]:
    """Give the lowest and highest value of a setting that is a number."""
    low, high = field_of(name)[0].metadata['limits']
    return low, high
