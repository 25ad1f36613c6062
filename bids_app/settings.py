"""
Settings: frozen values made once by the command line and passed down by argument.

Every field carries its help text and unit in the metadata; the command line, the settings file
and the documentation are made from them. Two kinds: the branches (`Settings`), which change
numbers and enter the digest of a participant, and :class:`RunSettings`, which do not.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bids_app.errors import SettingsError
from bids_app.models.registry import choices


def _setting(default: Any, help_: str, *, unit: str = '', choices: tuple[str, ...] = ()) -> Any:
    """Declare one setting with its help, unit and choices."""
    metadata = {'help': help_, 'unit': unit, 'choices': choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomySettings:
    """T1w image, masks, tissue maps and alignment of every scan."""

    registration: str = _setting(
        'rigid',
        'align the scans by rigid registration, or trust the headers',
        choices=('rigid', 'header'),
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
    )
    sloppy: bool = _setting(
        False,
        'normalise to the template quickly and coarsely: for trials and tests, not for results',
    )
    random_seed: int = _setting(42, 'seed of everything that samples at random')


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxometrySettings:
    """T2, T2* and R2'."""

    t2_model: str = _setting('exponential', 'model of T2', choices=choices('r2'))
    t2_star_model: str = _setting('exponential', 'model of T2*', choices=choices('r2_star'))
    r2_prime_model: str = _setting('difference', "model of R2'", choices=choices('r2_prime'))
    slice_profile: str = _setting(
        'rectangular',
        'slice profile assumed by the background-gradient correction; none switches it off',
        choices=('rectangular', 'exponential', 'sinc-gauss', 'none'),
    )
    dephasing_floor: float = _setting(
        0.2, 'echoes whose predicted dephasing is below this are not used', unit='1'
    )
    noise_floor: str = _setting(
        'rician',
        'noise floor of magnitude images near the noise: modelled, or ignored',
        choices=('rician', 'none'),
    )
    phase_scale: float | None = _setting(
        None,
        'radians per unit of the phase images; default 1 where their sidecar says Units: rad, '
        'else what their maker, range and echoes tell, else the phase is not used',
        unit='rad',
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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfusionSettings:
    """CBF from arterial spin labeling."""

    model: str | None = _setting(
        None,
        'model of CBF; default multi-delay where there are several delays, multi-delay-arterial '
        'also finds blood in large arteries; single-delay then '
        'uses the longest alone',
        choices=('single-delay', 'multi-delay', 'multi-delay-arterial'),
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
        None, 'inversion efficiency; default PCASL 0.85, CASL 0.68, PASL 0.98', unit='1'
    )
    background_suppression_factor: float | None = _setting(
        None, 'signal kept by all suppression pulses; default 0.93 per pulse', unit='1'
    )
    t1_blood: float | None = _setting(None, 'T1 of blood; default by t1_blood_from', unit='s')
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
    )
    partition_coefficient: float = _setting(0.9, 'blood-brain partition coefficient', unit='mL/g')


@dataclass(frozen=True, slots=True, kw_only=True)
class BloodVolumeSettings:
    """Blood volume."""

    model: str | None = _setting(
        None,
        'where CBV comes from; default dsc where there is a good bolus, else none '
        '(then OEF and CMRO2 are not made)',
        choices=(*choices('cbv'), 'none'),
    )
    white_matter_cbv: float = _setting(0.025, 'blood volume of white matter', unit='mL/mL')
    grey_matter_cbv: float = _setting(
        0.048, 'blood volume of grey matter, for the model literature', unit='mL/mL'
    )
    relative_error: float = _setting(
        0.1, 'relative standard error of a literature value', unit='1'
    )
    grubb_factor: float = _setting(0.008, 'CBV at 1 mL/100 g/min, power law', unit='mL/mL')
    grubb_exponent: float = _setting(0.38, 'exponent of the power law', unit='1')
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
        0.05, 'largest oscillation of the residue function', unit='1'
    )
    arterial_mask: str | None = _setting(
        None,
        'mask of the arterial input on the DSC grid, with {participant} and {session} in the '
        'path; default found automatically',
    )
    large_vessel_cbv: float = _setting(
        0.1, 'measured blood volume from which a voxel counts as a vessel', unit='mL/mL'
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
    )
    parcel_table: str | None = _setting(
        None,
        'TSV for parcels: columns index (of the atlas) and <task>, percent change of CBV; or the '
        'name of a preset that brings one, in which a task without a column does not change CBV',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OxygenSettings:
    """Oxygen extraction and metabolism."""

    oef_model: str | None = _setting(
        None,
        'model of OEF; default mqbold, or qbold where there is an asymmetric spin echo and not '
        'both multi-echo scans',
        choices=choices('oef'),
    )
    cmro2_model: str = _setting('fick', 'model of CMRO2', choices=choices('cmro2'))
    b0: float | None = _setting(
        None, 'main magnetic field; default MagneticFieldStrength of the sidecars', unit='T'
    )
    hct: float | None = _setting(
        None, 'large-vessel haematocrit; default participants.tsv, else 0.42', unit='1'
    )
    sao2: float | None = _setting(
        None, 'arterial oxygen saturation; default participants.tsv, else 0.98', unit='1'
    )
    small_vessel_hct_ratio: float = _setting(
        0.85, 'haematocrit of small vessels relative to large ones', unit='1'
    )
    susceptibility: float = _setting(
        0.264e-6,
        'susceptibility difference of deoxygenated and oxygenated blood per unit haematocrit, cgs',
        unit='1',
    )
    gyromagnetic_ratio: float = _setting(267.52219e6, 'of the proton', unit='rad/s/T')
    oxygen_per_haemoglobin: float = _setting(
        55.6, 'oxygen bound by a gram of haemoglobin', unit='umol/g'
    )
    haemoglobin_per_hct: float = _setting(
        33.4, 'haemoglobin concentration per unit haematocrit', unit='g/dL'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoldSettings:
    """Percent BOLD change."""

    hrf_model: str = _setting(
        'flexible',
        'haemodynamic response of the design: one whose delay and width are fitted, or one shape',
        choices=('flexible', 'spm', 'glover'),
    )
    noise_model: str = _setting('ar1', 'noise of the time series', choices=('ar1', 'ols'))
    high_pass: float | None = _setting(
        None, 'cut-off; default 1/(2 x longest cycle of the design)', unit='Hz'
    )
    window_start: float = _setting(
        6.0, 'a block counts from this time after its start to its end', unit='s'
    )
    estimator: str = _setting(
        'glm',
        'percent change by a general linear model, or from block medians as published, which '
        'keeps slow drift',
        choices=('glm', 'block-median'),
    )
    slice_timing: str = _setting(
        'sidecar',
        'give every slice the design of its own time where the sidecar has SliceTiming, or not',
        choices=('sidecar', 'none'),
    )
    dummy_scans: int = _setting(
        0, 'first volumes, without a steady state, that do not count', unit='1'
    )
    confounds: tuple[str, ...] = _setting(
        ('motion',),
        'regressors of no interest: 6 or 24 of motion where it is known, noise components of '
        'white matter and fluid',
        choices=('motion', 'motion24', 'compcor', 'none'),
    )
    noise_components: int = _setting(5, 'how many noise components compcor takes', unit='1')
    censor_dvars: float = _setting(
        1.5,
        'volumes do not count whose step from the volume before is this many times the median '
        'step of the run; 0 never',
        unit='1',
    )
    censor_displacement: float = _setting(
        0.9, 'volumes do not count into which the head moved by more; 0 never', unit='mm'
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
    )
    bold_blocks: str = _setting(
        'alternate',
        'where the change of CMRO2 leans on BOLD: the BOLD gate from every other block and the '
        'change from the others, or both from all blocks as published',
        choices=('alternate', 'all'),
    )
    davis_coefficients: str = _setting(
        'gagnon2016',
        'source of alpha and beta of the Davis model',
        choices=('gagnon2016', 'epp2025', 'griffeth2011', 'lin2008'),
    )
    davis_maximum: float | None = _setting(
        None, "maximum of BOLD in the Davis model; default from R2' and the echo time", unit='%'
    )
    davis_maximum_map: str | None = _setting(
        None,
        'map of that maximum in percent on the quantification grid, with {participant} and '
        '{session} in the path',
    )
    hypercapnia: str | None = _setting(
        None,
        'condition of a gas challenge without a change of CMRO2: that maximum comes from its BOLD '
        'and CBF',
    )
    cbv_response: float = _setting(
        0.0, 'relative change of CBV with the task where it is not measured', unit='1'
    )
    fwhm: float = _setting(0.0, 'smoothing of condition maps before contrasts', unit='mm')
    bold_q: float = _setting(0.05, 'FDR level of the BOLD gate', unit='1')
    cmro2_q: float = _setting(
        0.05, 'FDR level of CMRO2 in the t test and consistency rules of a group', unit='1'
    )
    false_sign_rate: float = _setting(
        0.05, 'local false sign rate of the CMRO2 change below which a label is given', unit='1'
    )
    smallest_effect: float = _setting(
        0.01, 'smallest CMRO2 change of interest, relative to the median baseline', unit='1'
    )
    limits: str = _setting(
        'none',
        'label only voxels whose maps lie within the limits of the published analysis',
        choices=('none', 'epp2025'),
    )
    grey_matter: float = _setting(
        0.5, 'grey-matter probability above which voxels are labelled', unit='1'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """Inference over participants."""

    covariates: tuple[str, ...] = _setting(
        (), 'columns of participants.tsv that are regressed out; each is tested too'
    )
    groups: str | None = _setting(
        None, 'column of participants.tsv with two values whose groups are compared'
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
    permutations: int = _setting(1000, 'rearrangements of the tests by permutation', unit='1')
    bootstraps: int = _setting(1000, 'bootstrap samples of partial least squares', unit='1')
    random_seed: int = _setting(42, 'seed of permutations and samples', unit='1')
    yield_fwhm: tuple[float, ...] = _setting(
        (0.0, 4.0, 8.0), 'smoothing of the maps in the table of yield', unit='mm'
    )
    tfce: str = _setting(
        'no',
        'threshold-free cluster enhancement with permutations; about a second per permutation',
        choices=('no', 'yes'),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that changes numbers."""

    preset: str = _setting('recommended', 'named set of settings')
    condition_entity: str = _setting(
        'auto', 'entity that tells conditions apart', choices=('auto', 'task', 'acq', 'ses')
    )
    baseline: str | None = _setting(None, 'baseline condition; default control, else rest')
    contrasts: tuple[str, ...] = _setting(
        (), 'contrasts A-B; default every condition minus the baseline'
    )
    atlas: str = _setting(
        'Schaefer2018', 'atlas of the region tables', choices=('Schaefer2018', 'none')
    )
    output_spaces: tuple[str, ...] = _setting(
        ('MNI152NLin6Asym',),
        'template spaces of the maps: MNI152NLin6Asym (packaged; the group level reads no other), '
        'NAME of TemplateFlow where it is installed, NAME=FOLDER for a template of yours, or none',
    )
    ignore: tuple[str, ...] = _setting(
        (),
        'inputs to leave alone',
        choices=('mese', 'megre', 'phase', 'redundant', 'ase', 'asl', 'dsc', 'bold', 't1w'),
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


NOT_NEGATIVE = (0.0, math.inf)
"""Limits of a number that has none of its own below; NaN and infinity are refused everywhere."""

LIMITS = {
    'relaxometry.dephasing_floor': (0.0, 1.0),
    'relaxometry.phase_scale': (-1e3, 1e3),
    'perfusion.labeling_efficiency': (0.01, 1.0),
    'perfusion.background_suppression_factor': (0.01, 1.0),
    'perfusion.t1_blood': (0.1, 10.0),
    'perfusion.t1_tissue': (0.1, 10.0),
    'perfusion.partition_coefficient': (0.1, 2.0),
    'blood_volume.white_matter_cbv': (1e-3, 0.5),
    'blood_volume.grey_matter_cbv': (1e-3, 0.5),
    'blood_volume.large_vessel_cbv': (1e-3, 1.0),
    'blood_volume.oscillation_index': (1e-3, 1.0),
    'oxygen.b0': (0.05, 25.0),
    'oxygen.hct': (0.1, 0.75),
    'oxygen.sao2': (0.3, 1.0),
    'oxygen.small_vessel_hct_ratio': (0.1, 1.5),
    'oxygen.susceptibility': (1e-9, 1e-5),
    'oxygen.gyromagnetic_ratio': (1e6, 1e9),
    'change.cbv_response': (-1.0, 10.0),
    'change.fwhm': (0.0, 50.0),
    'change.bold_q': (0.0, 1.0),
    'change.cmro2_q': (0.0, 1.0),
    'change.false_sign_rate': (0.0, 0.5),
    'change.grey_matter': (0.0, 1.0),
}
"""Smallest and largest value of a setting, in its unit: what lies outside is a slip."""


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
    """
    Give every setting under its dotted name.

    Parameters
    ----------
    settings : dataclass
        :class:`Settings` or one of its branches.
    prefix : str
        Put before the names.

    Returns
    -------
    flat : dict of str to value
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


def field_of(name: str) -> tuple[dataclasses.Field[Any], Any]:
    """
    Find the declaration and the type of a setting by its dotted name.

    Raises
    ------
    SettingsError
        If there is no such setting; names the nearest one.
    """
    known = tuple(flatten(Settings()))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f'; did you mean {near[0]}?' if near else ''
        msg = f'unknown setting {name!r}{hint} (all settings: docs/reference/settings.md)'
        raise SettingsError(msg)
    cls: Any = Settings
    *branches, last = name.split('.')
    for branch in branches:
        cls = get_type_hints(cls)[branch]
    declaration = next(item for item in dataclasses.fields(cls) if item.name == last)
    return declaration, get_type_hints(cls)[last]


def apply(settings: Settings, values: dict[str, Any], origin: str) -> Settings:
    """
    Replace settings by dotted name.

    Parameters
    ----------
    settings : Settings
        Left unchanged.
    values : dict of str to value
        Dotted name to new value.
    origin : str
        Where the values come from; named in errors.

    Returns
    -------
    settings : Settings
        A new value.

    Raises
    ------
    SettingsError
        For an unknown name, a value of the wrong type, or one that is not among the choices.

    Examples
    --------
    >>> apply(Settings(), {'oxygen.hct': 0.4}, 'command line').oxygen.hct
    0.4
    """
    for name, value in values.items():
        declaration, annotation = field_of(name)
        checked = _checked(name, value, declaration, annotation, origin)
        *branches, last = name.split('.')
        if branches:
            branch = dataclasses.replace(getattr(settings, branches[0]), **{last: checked})
            settings = dataclasses.replace(settings, **{branches[0]: branch})
        else:
            settings = dataclasses.replace(settings, **{last: checked})
    return settings


def _checked(
    name: str, value: Any, declaration: dataclasses.Field[Any], annotation: Any, origin: str
) -> Any:
    """Return the value in its declared type, or say what is wrong with it."""
    if annotation in (tuple[str, ...], tuple[float, ...]):
        items = value if isinstance(value, list | tuple) else (value,)
        of_item = get_args(annotation)[0]
        return tuple(_checked(name, one, declaration, of_item, origin) for one in items)
    allowed = get_args(annotation) or (annotation,)
    if float in allowed and type(value) is int:
        value = float(value)
    if not isinstance(value, allowed) or isinstance(value, bool) != (annotation is bool):
        expected = str(annotation).removeprefix("<class '").removesuffix("'>")
        msg = f'{origin}: {name} = {value!r} should be of type {expected}'
        raise SettingsError(msg)
    if isinstance(value, int | float):
        _check_limits(name, value, declaration.metadata['unit'], origin)
    known = declaration.metadata['choices']
    if known and value is not None and value not in known:
        msg = f'{origin}: {name} = {value!r} is not one of {", ".join(known)}'
        raise SettingsError(msg)
    return value


def _check_limits(name: str, value: float, unit: str, origin: str) -> None:
    """Refuse a number that is not finite or lies outside of what is possible."""
    low, high = LIMITS.get(name, NOT_NEGATIVE)
    if math.isfinite(value) and low <= value <= high:
        return
    upper = f'to {high:g}' if math.isfinite(high) else 'up'
    shown = f' {unit}' if unit not in ('', '1') else ''
    msg = f'{origin}: {name} = {value:g} should be a number from {low:g} {upper}{shown}'
    raise SettingsError(msg)


def read_toml(path: Path) -> dict[str, Any]:
    """
    Read a settings file into dotted names.

    Raises
    ------
    SettingsError
        If the file cannot be read or is not TOML.
    """
    try:
        tables = tomllib.loads(Path(path).read_text('utf-8'))
    except OSError as error:
        msg = f'cannot read the settings file {path}: {error.strerror}'
        raise SettingsError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f'{path} is not a TOML file: {error}'
        raise SettingsError(msg) from error
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            flat |= {f'{name}.{key}': item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def presets() -> dict[str, str]:
    """Give the names of the packaged presets with the first comment line of each."""
    folder = files('bids_app') / 'data' / 'presets'
    found = sorted(item.name for item in folder.iterdir() if item.name.endswith('.toml'))
    return {
        name.removesuffix('.toml'): (folder / name).read_text('utf-8').splitlines()[0].lstrip('# ')
        for name in found
    }


def preset_file(name: str) -> Path:
    """Path of a packaged preset."""
    return Path(str(files('bids_app'))) / 'data' / 'presets' / f'{name}.toml'


def preset_reasons(name: str) -> dict[str, str]:
    """
    Say why a preset differs from the defaults: the comment at the end of each line of its file.

    Parameters
    ----------
    name : str
        Of a packaged preset.

    Returns
    -------
    reasons : dict of str to str
        By dotted name.
    """
    reasons, branch = {}, ''
    for line in preset_file(name).read_text('utf-8').splitlines():
        if line.startswith('['):
            branch = line.strip('[] ') + '.'
        key, separator, rest = line.partition(' = ')
        if separator and not line.startswith('#') and '  # ' in rest:
            reasons[branch + key] = rest.partition('  # ')[2].strip()
    return reasons


def parcel_file(volume: BloodVolumeSettings) -> Path:
    """Path of the factors of blood volume per parcel: that of a preset by its name, or a file."""
    named = str(volume.parcel_table)
    if named not in presets():
        return Path(named)
    return preset_file(named).with_name(f'{named}_parcels.tsv')


def parcel_tasks(volume: BloodVolumeSettings) -> tuple[str, ...] | None:
    """Tasks that the table of a preset has; None for a table of the user, which needs them all."""
    if str(volume.parcel_table) not in presets():
        return None
    return tuple(parcel_file(volume).read_text('utf-8').splitlines()[0].split('\t')[1:])


def resolve(
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    command_line: dict[str, Any] | None = None,
) -> Settings:
    """
    Make the settings of a run: default < preset < configuration file < command line.

    Parameters
    ----------
    preset : str, optional
        Name of a packaged preset.
    config_file : Path, optional
        TOML.
    command_line : dict, optional
        Dotted names.

    Returns
    -------
    settings : Settings
        The resolved value.

    Raises
    ------
    SettingsError
        For anything unknown or of the wrong type.
    """
    from_file = read_toml(config_file) if config_file else {}
    preset = preset or from_file.get('preset') or 'recommended'
    if preset not in tuple(presets()):
        msg = f'unknown preset {preset!r}; there are: {", ".join(presets())}'
        raise SettingsError(msg)
    settings = apply(Settings(), read_toml(preset_file(preset)), f'preset {preset}')
    settings = apply(settings, from_file, str(config_file))
    settings = apply(settings, command_line or {}, 'command line')
    return dataclasses.replace(settings, preset=preset)


def to_toml(settings: Settings) -> str:
    """Write settings as TOML; unset ones are left out and listed as comments."""
    import tomli_w

    tables: dict[str, Any] = {}
    unset = []
    for name, value in flatten(settings).items():
        if value is None:
            unset.append(name)
            continue
        *branches, last = name.split('.')
        target = tables
        for branch in branches:
            target = target.setdefault(branch, {})
        target[last] = list(value) if isinstance(value, tuple) else value
    comment = ''.join(f'# {name} is not set: made from the data\n' for name in unset)
    return comment + tomli_w.dumps(tables)


def setting_origin(name: str, value: Any, settings: Settings) -> str:
    """Tell which of default, preset and the user's own choice a setting came from."""
    if value == flatten(Settings()).get(name):
        return 'default'
    if value == flatten(resolve(preset=settings.preset)).get(name):
        return f'preset {settings.preset}'
    return 'configuration file or command line'


def setting_parameters(
    settings: Settings, branches: tuple[str, ...]
) -> dict[str, dict[str, float | str]]:
    """
    Entries of a sidecar: the numbers of branches with unit and origin.

    Examples
    --------
    >>> setting_parameters(Settings(), ('group',))['permutations']
    {'Value': 1000, 'Units': '1', 'Origin': 'default'}
    """
    return {
        name.split('.')[-1]: {
            'Value': value,
            'Units': field_of(name)[0].metadata['unit'],
            'Origin': setting_origin(name, value, settings),
        }
        for name, value in flatten(settings).items()
        if name.split('.')[0] in branches and isinstance(value, int | float)
    }
