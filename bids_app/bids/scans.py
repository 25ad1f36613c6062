"""Typed acquisitions in SI units: what a participant's files say, frozen. Holds no logic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bids_app.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


VOLUME_TYPES = ('control', 'label', 'm0scan', 'deltam', 'cbf', 'noRF', 'n/a')
"""Kinds of volume in an aslcontext.tsv."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the input of one participant."""

    role: str
    message: str
    """What was expected, what was found, and what to do."""
    file: Path | None = None
    code: ExitCode = ExitCode.BAD_INPUT
    """BAD_INPUT (opened but defective) or MISSING_INPUT (cannot be opened)."""
    condition: str | None = None
    """Of the scan it concerns; None = all of the role, or none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A sign that a scan is not what its name says; it is used, but not in the group."""

    kind: str
    """copy, small-bold, short-bold or one-sided."""
    role: str
    reason: str
    file: Path
    condition: str | None = None
    """None = it concerns every contrast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A key that the sidecar of a scan lacks."""

    role: str
    key: str
    value: str | float | None = None
    """What a converter wrote under another name; None = nothing alike is there."""
    written_as: str = ''
    """That name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataValue:
    """A number that came from somewhere; a row of the constants table."""

    name: str
    """Dotted name, such as oxygen.hct."""
    value: float
    unit: str
    origin: str
    """Such as 'participants.tsv column Hct', 'default', 'sidecar sub-01_asl.json'."""
    overruled: str = ''
    """The value and origin that lost, where two disagreed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two conditions to compare."""

    task: str
    baseline: str

    @property
    def label(self) -> str:
        """Name used in files, such as calcMinusControl."""
        return f'{self.task}Minus{self.baseline[:1].upper()}{self.baseline[1:]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoSeries:
    """Multi-echo spin echo (MESE) or gradient echo (MEGRE): one 3D file per echo."""

    condition: str | None
    run: str | None
    magnitude: tuple[Path, ...] = ()
    """In order of echo time; empty where there are only real and imaginary parts."""
    phase: tuple[Path, ...] = ()
    """Same order; empty when there is none that can be used."""
    phase_scale: float = 1.0
    """Radians per unit of the phase images."""
    real: tuple[Path, ...] = ()
    imaginary: tuple[Path, ...] = ()
    """Same order; used where there is no phase or no magnitude, else empty."""
    echo_times: tuple[float, ...]
    """s, ascending."""
    repetition_time: float | None = None
    """s"""
    slice_thickness: float | None = None
    """Without the gap, m; None = unknown."""
    slice_axis: int = 2
    """Axis of the slices."""
    n_slices: int | None = None
    """Along it; None = not known."""
    n_lines: int | None = None
    """Phase-encoding lines that were acquired; known where the series is merged with others."""
    line_axis: int | None = None
    """Axis of the phase encoding, likewise."""
    reduced: tuple[EchoSeries, ...] = ()
    """Sets of fewer lines around the centre of k-space, to be merged with this one."""
    metadata: dict[str, object] = field(default_factory=dict)
    """Merged sidecar of the first echo, as found."""

    @property
    def combined_coils(self) -> int:
        """Receivers that the sidecar says were combined by sum of squares; else 1."""
        method = str(self.metadata.get('CoilCombinationMethod', '')).lower()
        count = self.metadata.get('NumberReceiveCoilActiveElements')
        is_sum = 'sum' in method and 'square' in method
        return count if is_sum and isinstance(count, int) and count > 0 else 1

    @property
    def is_slab(self) -> bool:
        """Whether the slices are encoded by phase (3D), not selected one by one."""
        return str(self.metadata.get('MRAcquisitionType', '')).upper() == '3D'

    @property
    def has_phase(self) -> bool:
        """Whether the field can be known."""
        return bool(self.phase or self.real)

    @property
    def uncorrected(self) -> str:
        """Why background gradients through the slices are not corrected; empty where they are."""
        if not self.has_phase:
            return 'no usable phase images'
        return 'one slice only' if self.n_slices == 1 else ''

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image of the series and of those merged with it."""
        own = (*self.magnitude, *self.phase, *self.real, *self.imaginary)
        return own + tuple(path for item in self.reduced for path in item.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """How an echo-planar image was read out: what the field displaces."""

    axis: int
    """Of the array, along the phase encoding."""
    polarity: int
    """1, or -1 where the direction is i-, j- or k-."""
    echo_spacing: float
    """Effective, s."""
    n_lines: int
    """Of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """A field map of the dataset."""

    name: str
    """Of its file, without extension."""
    kind: str
    """phase (of two echoes, or their difference), field, or opposite (phase encoding)."""
    files: tuple[Path, ...]
    """Two where there are two phases, or opposites: along the axis and against it."""
    magnitude: Path
    """For the alignment."""
    scale: float
    """Radians, or Hz, per unit of the files; Hz per voxel of displacement of opposites."""
    axis: int = 1
    """Of the phase encoding of opposites."""
    echo_difference: float = 0.0
    """s, of a phase."""
    intended: tuple[str, ...] = ()
    """IntendedFor."""
    identifiers: tuple[str, ...] = ()
    """B0FieldIdentifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class M0Image:
    """Equilibrium magnetisation of blood and tissue for CBF."""

    kind: str
    """Separate, Included, Control (the control volumes), Estimate (one number), Absent (none:
    relative CBF) or Unneeded (the scanner computed CBF)."""
    file: Path | None
    """The image; for Included and Control the ASL series itself."""
    value: float | None = None
    """Of Estimate, unit of the series."""
    same_grid: bool = True
    """Whether the image has the grid and position of the series; else it is aligned to it."""
    readout: Readout | None = None
    """Of an image of its own grid; None: its distortion is not corrected."""
    echo_time: float | None = None
    """s"""
    volumes: tuple[int, ...] = ()
    """Indices of its volumes in `file`; empty = all."""
    repetition_time: float | None = None
    """s; None = unknown, then no recovery correction is made."""
    shared: bool = False
    """True when several conditions use this one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundScan:
    """What other derivatives say of a series that they preprocessed."""

    source: str
    """Name given on the command line, such as fmriprep."""
    transform: Path | None = None
    """From the scan to the T1w image (ITK); None = the file is in T1w space."""
    reference: Path | None = None
    """Image that stands for the scan, on its grid; None = the mean of the series."""
    confounds: Path | None = None
    """Table of one row per volume."""
    components: Path | None = None
    """Courses of the components of a series that was denoised, one row per volume."""
    classification: Path | None = None
    """Which of these were rejected, so that the series holds them no more."""
    rejected: tuple[str, ...] = ()
    """Their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEncoding:
    """How the label of a time-encoded ASL series is divided into blocks."""

    matrix: tuple[tuple[int, ...], ...]
    """1 = label, 0 = control: a row per encoding, a column per block in the order of time."""
    cycles: tuple[tuple[int, ...], ...]
    """Volumes of each cycle, in the order of the rows."""
    label_duration: tuple[float, ...]
    """Of every block, s."""
    post_label_delay: tuple[float, ...]
    """From the end of every block to the readout, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AslSeries:
    """Arterial spin labeling, one 4D file."""

    condition: str | None
    run: str | None
    file: Path
    context: tuple[str, ...]
    """Per volume: control, label, deltam, cbf, m0scan, noRF, n/a; encoded1, encoded2 ... of a
    time-encoded series."""
    label_type: str
    """PCASL, CASL or PASL."""
    labeling: str = 'continuous'
    """continuous, pulsed or pulsed-quipss: how the bolus is shaped."""
    label_duration: tuple[float, ...]
    """s, one per volume (of a time-encoded series per difference that is decoded); of pulsed
    labelling the time of the bolus cut-off."""
    post_label_delay: tuple[float, ...]
    """s, likewise; of pulsed labelling from the inversion on."""
    encoding: TimeEncoding | None = None
    """Of a time-encoded series."""
    slice_times: tuple[float, ...] = ()
    """s, readout time of each slice along the slice axis, first slice at 0; empty for 3D."""
    slice_axis: int = 2
    """Axis of the array along which slices are."""
    background_suppression: bool = False
    background_suppression_factor: float = 1.0
    """Signal kept by the suppression pulses, from the setting or 0.93 per pulse."""
    labeling_efficiency: float
    m0: M0Image
    lost: tuple[int, ...] = ()
    """Volumes without data; the context names them n/a, and their partners too."""
    readout: Readout | None = None
    """None: distortion is not corrected."""
    field_map: FieldMap | None = None
    """Of the dataset; without one the gradient echo gives the field."""
    found: FoundScan | None = None
    """Of a series that other software preprocessed."""
    events: tuple[Event, ...] = ()
    """Of a task that runs in the series; there is one such object per condition then."""
    events_file: Path | None = None
    baseline: str | None = None
    """Of these events: its own rows, or the gaps."""
    repetition_time: float | None = None
    """Between volumes, s; known where there are events."""
    acquired: float | None = None
    """When, s; tells the order of the scans of a participant and nothing else."""
    metadata: dict[str, object] = field(default_factory=dict)

    @property
    def n_volumes(self) -> int:
        """Of the series."""
        return len(self.context)

    @property
    def differences(self) -> tuple[str, ...]:
        """Kind of every volume once a time-encoded series is decoded; else the context."""
        return ('deltam',) * len(self.label_duration) if self.encoding else self.context

    @property
    def shows_head(self) -> bool:
        """Whether its volumes show more than what the scanner subtracted."""
        return self.encoding is not None or {'control', 'label'} <= set(self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class AseSeries:
    """Asymmetric spin echo, one 4D file."""

    condition: str | None
    run: str | None
    file: Path
    displacements: tuple[float, ...]
    """Of the spin echo from the time of the readout, s, one per volume."""
    metadata: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DscSeries:
    """Dynamic susceptibility contrast, one 4D file."""

    condition: str | None
    run: str | None
    file: Path
    echo_time: float
    """s"""
    repetition_time: float
    """s"""
    readout: Readout | None = None
    """None: distortion is not corrected."""
    field_map: FieldMap | None = None
    """Of the dataset; without one the gradient echo gives the field."""
    metadata: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of events.tsv."""

    onset: float
    """s"""
    duration: float
    """s"""
    trial_type: str
    """Lower-case, alphanumeric: the condition label."""
    modulators: tuple[float, ...] = ()
    """Values of the columns bold.modulators; NaN where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoldRun:
    """Task BOLD, one 4D file per echo, with its events."""

    task: str
    run: str | None
    condition: str | None = None
    """Only with sessions as conditions."""
    file: Path
    """The first echo, where there are several."""
    echoes: tuple[Path, ...] = ()
    """All of them in order of echo time, where there are several."""
    echo_times: tuple[float, ...] = ()
    """Of these, s."""
    events_file: Path
    events: tuple[Event, ...]
    """Explicit rows; gaps are the baseline where it has no rows."""
    is_of_events: bool = False
    """Whether the trial types are events whose response is estimated, not blocks."""
    context: tuple[str, ...] = ()
    """Kind of every volume where the run is an ASL series: its label is not BOLD."""
    repetition_time: float
    """s"""
    n_volumes: int
    lost: tuple[int, ...] = ()
    """Volumes that do not count: without data, or before the magnetisation was steady."""
    echo_time: float | None = None
    """s; of several echoes the one that percent change is stated for."""
    slice_times: tuple[float, ...] = ()
    """s, of each slice along the slice axis, the first at 0; empty where they are not known."""
    slice_axis: int = 2
    """Axis of the array along which slices are."""
    readout: Readout | None = None
    """None: distortion is not corrected."""
    field_map: FieldMap | None = None
    """Of the dataset; without one the gradient echo gives the field."""
    found: FoundScan | None = None
    """Of a series that other software preprocessed."""
    metadata: dict[str, object] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image of the run."""
        return self.echoes or (self.file,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAnatomy:
    """Anatomy taken from other derivatives (fMRIPrep): all in the space of its T1w image."""

    source: str
    """Name given on the command line, such as fmriprep."""
    t1w: Path
    brain_mask: Path
    grey_matter: Path
    white_matter: Path
    csf: Path
    to_template: Path | None = None
    """from-T1w_to-MNI152NLin6Asym (h5 or txt)."""
    from_template: Path | None = None
    to_others: tuple[tuple[str, Path], ...] = ()
    """Other template spaces, and from-T1w_to-<space>."""
    surfaces: tuple[tuple[str, Path], ...] = ()
    """Such as L_white, R_pial, L_fsLR (registered sphere), and their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMaps:
    """Maps of an earlier run, from which a replay goes on without the scans."""

    root: Path
    """The derivatives they lie in."""
    kind: str
    """Of the scan whose grid is the quantification grid, such as mese."""
    transform: Path | None
    """From that scan to the T1w image; None without anatomy."""
    to_template: Path | None
    """From the T1w image to the template."""
    cbv_model: str
    """The blood volume that was measured, or none."""
    bold_tasks: tuple[tuple[str, str], ...] = ()
    """Contrast and BOLD task of every BOLD change."""
    echo_times: tuple[tuple[str, float], ...] = ()
    """Contrast and echo time of its BOLD runs, s."""
    scales: tuple[tuple[str, float], ...] = ()
    """Quantity and the factor by which changed constants scale it."""
    smooth_bold: bool = False
    """The BOLD changes were saved unsmoothed and are to be smoothed now."""
    rows: tuple[Mapping[str, Any], ...] = ()
    """What the earlier run could make, as its dry run said."""
    multiverse: tuple[tuple[str, tuple[Any, ...]], ...] | None = None
    """Settings and the values each is to take, all in combination; None = no such table."""

    @property
    def has_anatomy(self) -> bool:
        """Whether there are tissue maps."""
        return self.transform is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantInputs:
    """Everything one unit of work (participant, session or none) starts from."""

    participant: str
    """Without sub-."""
    session: str | None = None
    """Without ses-; None also when sessions are conditions."""
    conditions: tuple[str, ...] = ()
    """Sorted; the baseline first."""
    baseline: str | None = None
    contrasts: tuple[Contrast, ...] = ()
    t1w: tuple[Path, ...] = ()
    anatomy: FoundAnatomy | None = None
    mese: tuple[EchoSeries, ...] = ()
    megre: tuple[EchoSeries, ...] = ()
    ase: tuple[AseSeries, ...] = ()
    asl: tuple[AslSeries, ...] = ()
    dsc: tuple[DscSeries, ...] = ()
    bold: tuple[BoldRun, ...] = ()
    b0: float
    """T"""
    hct: float
    """Large-vessel, fraction."""
    sao2: float
    """Fraction."""
    values: tuple[DataValue, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Branches that need these files are not built."""
    suspicions: tuple[Suspicion, ...] = ()
    """Leave the participant out of the group, unless the user accepts them."""
    missing: tuple[Missing, ...] = ()
    """Keys that sidecars lack and something needs."""
    warnings: tuple[str, ...] = ()
    """Notes that the verdict repeats: a number is less true than it could be."""
    notes: tuple[str, ...] = ()
    """Absences, defaults and choices, said in the report."""
    files: tuple[Path, ...] = ()
    """Every file whose bytes the result depends on, sorted."""
    saved: SavedMaps | None = None
    """In place of scans, where an earlier run is replayed."""

    @property
    def label(self) -> str:
        """Name of the unit: sub-01 or sub-01_ses-a."""
        return f'sub-{self.participant}' + (f'_ses-{self.session}' if self.session else '')
