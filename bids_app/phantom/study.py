"""Make a study: raw BIDS of every participant, and the truth beside it."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app import __version__
from bids_app.phantom import acquisition, measurement, physics, truth
from bids_app.phantom.anatomy import Anatomy, change_territory, make_head, make_slab, random_rigid
from bids_app.phantom.defects import DEFECTS, spoil
from bids_app.phantom.derivatives import write_fmriprep, write_truth
from bids_app.phantom.design import TaskTiming, make_design
from bids_app.phantom.files import write_image, write_json, write_table
from bids_app.phantom.gases import GasStudy
from bids_app.phantom.layouts import FIRST_LABEL, LAYOUTS, make_untidy, write_untidy_dataset
from bids_app.phantom.participant import (
    AGE_SLOPE,
    TERRITORY_DIFFERENCE,
    baseline_of,
    effects_of,
    make_participant,
    make_person,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bids_app._typing import FloatArray
    from bids_app.phantom.acquisition import Labeling, Protocol, Subject
    from bids_app.phantom.participant import RegionEffect

BIDS_VERSION = '1.10.1'

COMMON = {
    'MagneticFieldStrength': 3,
    'Manufacturer': 'oxybold',
    'ManufacturersModelName': 'phantom',
}
"""In every sidecar."""

SINCE_STRUCTURAL = 1.5
"""Movement between the T1w image and the scans over that between the scans."""

NOISES = ('white', 'physiological')

LIMITS = {'movement': (0, 10), 'coils': (1, 64), 'soft_edges': (0, 1), 'scale_error': (0, 1)}
"""Of what may be asked for."""

THINNEST_REFOCUSING = 1.0
"""Thickness of a refocusing pulse relative to the slice."""

AXIAL_GRADIENT = {'mild': 40e-6, 'strong': 160e-6}
"""Background gradient at the base of the brain, T/m."""


SOME_BRAIN = 0.05
"""Fraction of brain from which on a voxel has a truth."""

READOUT = 0.030
"""Time in which all lines of an echo-planar image are read, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomStudy:
    """What to make."""

    root: Path
    n_participants: int = 3
    conditions: tuple[str, ...] = ('control', 'calc')
    seed: int = 0
    grid: str = 'coarse'
    background: str = 'mild'
    dsc_defect: str | None = None
    redundant_sets: bool = False
    either_side: bool = False
    """Whether the territory of every second patient lies on the right."""
    design: str = 'tasks'
    """patients: the second half are patients, older and with a changed territory; no BOLD where
    there is one condition. gases: one dual-echo ASL in which two gases and the task run."""
    layout: str = 'bids'
    """ds004873: names and sidecars of that dataset, with the redundant sets."""
    distorted: bool = False
    """Whether the field displaces the echo-planar images."""
    asymmetric_spin_echo: bool = False
    bold_echoes: bool = False
    """Whether BOLD has three echoes instead of one."""
    movement: float = 1.0
    """SD per axis of the head between two scans, mm and degrees."""
    noise: str = 'white'
    """Of ASL, BOLD and DSC series: one of NOISES."""
    coils: int = 1
    """That MESE and MEGRE magnitudes are joined from by the root of the sum of squares."""
    soft_edges: float = 0.0
    """Part of the slice over which the profile of gradient echoes falls to zero, each side."""
    refocusing: float | None = None
    """Thickness of the refocusing pulse of MESE over the slice (inf: a slab); default perfect
    pulses."""
    readout: str = 'box'
    """box: the average over the voxel; fourier: what the k-space of the scan holds."""
    concordant: bool = False
    """Whether metabolism follows BOLD in all regions."""
    scale_error: float = 0.0
    """SD of a factor of each label-control difference that nobody knows."""

    def check(self) -> None:
        """
        Refuse what cannot be made.

        Raises
        ------
        ValueError
            With all that is needed to repair the command.
        """
        if not 1 <= self.n_participants <= 999:
            msg = f'--participants must lie in 1 to 999, got {self.n_participants}'
            raise ValueError(msg)
        wrong = [name for name in self.conditions if not re.fullmatch('[a-zA-Z0-9]+', name)]
        if wrong or len(set(self.conditions)) < len(self.conditions) or not self.conditions:
            msg = (
                '--conditions must be different labels of letters and digits, comma between '
                f'them; got {",".join(self.conditions)!r}'
            )
            raise ValueError(msg)
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                option = name.replace('_', '-')
                msg = f'--{option} must lie in {low} to {high}, got {getattr(self, name):g}'
                raise ValueError(msg)
        if self.refocusing is not None and not self.refocusing >= THINNEST_REFOCUSING:
            least, got = THINNEST_REFOCUSING, self.refocusing
            msg = f'--refocusing must be slab or at least {least:g}, got {got:g}'
            raise ValueError(msg)
        if self.dsc_defect not in (None, *DEFECTS):
            msg = f'--dsc-defect must be one of {", ".join(DEFECTS)}; got {self.dsc_defect!r}'
            raise ValueError(msg)
        self._check_layout()
        acquisition.protocol(self.grid)
        make_design(self.conditions, length=480.0)
        if self.root.exists() and any(self.root.iterdir()):
            msg = f'{self.root} must be a new or empty folder; remove it or name another'
            raise ValueError(msg)

    def _check_layout(self) -> None:
        """Refuse layouts that there are not, or not of groups."""
        if self.layout not in LAYOUTS:
            msg = f'--layout must be one of {", ".join(LAYOUTS)}; got {self.layout!r}'
            raise ValueError(msg)
        if self.design == 'patients' and (self.layout != 'bids' or self.n_participants < 2):
            msg = '--design patients takes --layout bids and two participants or more'
            raise ValueError(msg)
        if self.either_side and self.design != 'patients':
            msg = '--either-side takes --design patients'
            raise ValueError(msg)
        if self.design == 'gases' and (self.layout != 'bids' or len(self.conditions) != 2):
            msg = '--design gases takes --layout bids and two conditions'
            raise ValueError(msg)
        if self.readout == 'fourier' and (self.grid == 'tiny' or self.design == 'gases'):
            # a slab that fills its field of view has no edge, and wraps around
            msg = '--readout fourier takes a whole head (--grid coarse or study) and no gases'
            raise ValueError(msg)

    @property
    def has_bold(self) -> bool:
        """Whether there is a BOLD run; patients at rest have none."""
        return self.design == 'tasks' or len(self.conditions) > 1

    @property
    def labels(self) -> tuple[str, ...]:
        """Participant labels without sub-."""
        if self.layout == 'ds004873':
            return tuple(f'p{i + FIRST_LABEL:03d}' for i in range(self.n_participants))
        return tuple(f'{i + 1:02d}' for i in range(self.n_participants))

    def stream(self, *names: str) -> np.random.Generator:
        """Random numbers that depend on the seed and these names only."""
        return np.random.default_rng([self.seed, *(zlib.crc32(n.encode()) for n in names)])


def make_study(study: PhantomStudy) -> Iterator[str]:
    """
    Write a study, one participant after the other.

    Give the label of each that is done.

    Raises
    ------
    ValueError
        If the study cannot be made.
    """
    study.check()
    participants = [
        make_participant(study.stream(label, 'blood'), label) for label in study.labels
    ]
    if study.design == 'patients':
        half = len(participants) // 2
        participants = [
            make_person(study.stream(one.label, 'person'), one, is_patient=number >= half)
            for number, one in enumerate(participants)
        ]
        if study.either_side:
            participants[half + 1 :: 2] = [
                replace(one, territory_side='right') for one in participants[half + 1 :: 2]
            ]
    _write_dataset(study, participants)
    if study.layout == 'ds004873':
        write_untidy_dataset(study.root, participants, acquisition.protocol(study.grid))
    for participant in participants:
        _Session(study, participant).write()
        if study.layout == 'ds004873':
            make_untidy(study.root, participant.label)
        yield participant.label


def _write_dataset(study: PhantomStudy, participants: list[Any]) -> None:
    """Write the files at the root."""
    root = study.root
    write_json(
        root / 'dataset_description.json',
        {
            'Name': f'oxybold phantom ({study.grid}, seed {study.seed})',
            'BIDSVersion': BIDS_VERSION,
            'DatasetType': 'raw',
            'License': 'CC0',
            'Authors': ['oxybold-phantom'],
            'GeneratedBy': [{'Name': 'oxybold-phantom', 'Version': __version__}],
        },
    )
    (root / 'README.md').write_text(_readme(study), encoding='utf-8')
    ignored = ['*_dsc.*', *(['*_ASE.*'] if study.asymmetric_spin_echo else [])]
    text = ''.join(f'{line}\n' for line in ignored)
    (root / '.bidsignore').write_text(text, encoding='utf-8')
    has_groups = study.design == 'patients'
    more = ('group', 'age', 'affected_side') if has_groups else ()
    write_table(
        root / 'participants.tsv',
        ('participant_id', 'Hct', 'SaO2', *more),
        [
            (f'sub-{p.label}', f'{p.hct * 100:.1f}', f'{p.sao2 * 100:.0f}',
             *(_group_cells(p) if has_groups else ()))
            for p in participants
        ],
    )  # fmt: skip
    write_json(
        root / 'participants.json',
        {
            'Hct': {'Description': 'Haematocrit of venous blood', 'Units': 'percent'},
            'SaO2': {'Description': 'Arterial oxygen saturation', 'Units': 'percent'},
            **({'age': {'Description': 'Age', 'Units': 'year'}} if has_groups else {}),
        },
    )


def _group_cells(person: Any) -> tuple[str, str, str]:
    """Write group, age and affected side."""
    if person.is_patient:
        return 'patient', f'{person.age:.1f}', person.territory_side
    return 'control', f'{person.age:.1f}', 'n/a'


def _readme(study: PhantomStudy) -> str:
    """Say what the dataset is."""
    baseline = baseline_of(study.conditions)
    scans = (
        'One PCASL of two echoes with M0, in which hypercapnia, hyperoxia and the task run, and a '
        'recording of the breathed gases'
        if study.design == 'gases'
        else 'Multi-echo spin echo once; multi-echo gradient echo (magnitude, phase) and PCASL '
        'with M0 per condition; one DSC series (not in the BIDS schema, see .bidsignore)'
    )
    bold = f'; one block-design BOLD run in which {baseline} is the gaps of events.tsv'
    side = 'one hemisphere (affected_side)' if study.either_side else 'the left hemisphere'
    patients = (
        f'. Patients have a higher OEF in the frontal and temporal region of {side} '
        f'(+{TERRITORY_DIFFERENCE:g}) and are older; OEF rises by {AGE_SLOPE:g} a year'
    )
    more = {'gases': '', 'patients': patients}.get(study.design, bold)
    more = bold if study.has_bold and study.design == 'patients' else more
    return (
        '# Digital study of oxygen metabolism\n\n'
        f'Made by `oxybold-phantom` {__version__} (grid {study.grid}, seed {study.seed}, '
        f'conditions {", ".join(study.conditions)}). No person was scanned.\n\n'
        f'{scans}{more}.\n\n'
        'The truth is in `derivatives/truth`: what a perfect measurement of these scans would '
        'give, on the grid of the spin echo (of gases, what is true of the tissue, on the grid of '
        'the ASL). Tissue maps follow MNI152 (McConnell Brain Imaging '
        'Centre).\n'
    )


def _protocol(study: PhantomStudy) -> Protocol:
    """Give the protocol of a study: how large its scans are and how they are read."""
    made = acquisition.protocol(study.grid)

    def read(scan: Any, decay: float, **more: Any) -> Any:
        lines = decay if study.readout == 'fourier' else None
        return replace(scan, geometry=replace(scan.geometry, readout_decay=lines, **more))

    planar = READOUT * measurement.R2_STAR_GREY
    return replace(
        made,
        mese=read(made.mese, 0.0),
        megre=read(made.megre, 0.0, soft_edge=study.soft_edges),
        asl=read(made.asl, planar),
        dsc=read(made.dsc, planar),
        bold=read(made.bold, planar),
    )


class _Session:
    """All scans of one participant."""

    def __init__(self, study: PhantomStudy, participant: Any) -> None:
        self.study = study
        self.protocol = _protocol(study)
        self.is_living = study.noise == 'physiological'
        anatomy = _anatomy(study, participant.label, self.protocol)
        change_territory(anatomy, participant.territory_scale, participant.territory_side)
        self.subject: Subject = acquisition.Subject(participant, anatomy)
        self.name = f'sub-{participant.label}'
        self.folder = study.root / self.name
        self.effects: dict[str, dict[int, RegionEffect]] = {
            c: effects_of(c, study.conditions, concordant=study.concordant)
            for c in study.conditions
        }
        self.poses: dict[str, FloatArray] = {}
        scan = self.protocol.bold
        self.design: TaskTiming = make_design(
            study.conditions, length=scan.n_volumes * scan.repetition_time
        )

    def rng(self, scan: str) -> np.random.Generator:
        """Random numbers of one scan."""
        return self.study.stream(self.subject.participant.label, scan)

    def pose(self, scan: str) -> FloatArray:
        """Where the head lies in a scan: scanner world to head world."""
        if scan not in self.poses:
            # uniform numbers of standard deviation 1 reach to the root of 3
            session, own = (
                random_rigid(self.rng(f'pose {what}'), degrees=most, millimetres=most)
                for what, most in (
                    ('session', math.sqrt(3) * SINCE_STRUCTURAL * self.study.movement),
                    (scan, math.sqrt(3) * self.study.movement),
                )
            )
            self.poses[scan] = session @ own if self.protocol.moves else np.eye(4)
        return self.poses[scan]

    @cached_property
    def places(self) -> acquisition.Places:
        """Where the truth is wanted: the brain on the quantification grid."""
        geometry, pose = self.protocol.mese.geometry, self.pose('MESE')
        fractions, _ = acquisition.tissue_fractions(self.subject, geometry, pose)
        wanted = fractions.sum(-1) > SOME_BRAIN
        return acquisition.Places(acquisition.centres(geometry, pose), wanted)

    def write(self) -> None:
        """Make and write every scan and the truth."""
        structural, brain = self.make_structural()
        if self.study.design == 'gases':
            self.make_gases()
        else:
            self.make_scans()
        if self.protocol.slab:
            write_fmriprep(
                self.study.root / 'derivatives' / 'fmriprep',
                self.subject,
                structural=structural,
                brain=brain,
                geometry=self.protocol.t1w,
            )

    def make_gases(self) -> None:
        """Write the one series of a study of gases, and the truth of it."""
        baseline = baseline_of(self.study.conditions)
        task = next(name for name in self.study.conditions if name != baseline)
        series = GasStudy(
            subject=self.subject,
            scan=self.protocol.asl,
            pose=self.pose('ASL'),
            rng=self.rng('gases'),
            effects=self.effects[task],
            task=task,
            baseline=baseline,
            is_living=self.is_living,
            common=COMMON,
        )
        series.write(self.folder / 'perf', self.name)
        series.write_truth(self.study.root / 'derivatives' / 'truth', self.name)

    def make_scans(self) -> None:
        """Write all other scans and the truth of them."""
        maps = truth.Truth(
            participant=self.subject.participant,
            conditions=self.study.conditions,
            r2=self.make_spin_echoes(),
            cbv=self.make_bolus(),
        )
        for condition in self.study.conditions:
            maps.r2_star[condition] = self.make_gradient_echoes(condition)
            maps.cbf[condition] = self.make_labeling(condition)
            if self.study.asymmetric_spin_echo:
                self.make_asymmetric_echoes(condition)
        if self.study.has_bold:
            self.make_bold(maps)
        quantification = self.protocol.mese.geometry
        write_truth(
            self.study.root / 'derivatives' / 'truth',
            self.subject,
            maps,
            effects=self.effects,
            quantification=quantification,
            structural=self.protocol.t1w,
            poses=self.poses,
        )

    def displaced(
        self, images: FloatArray, geometry: acquisition.Geometry, scan: str
    ) -> FloatArray:
        """Displace echo-planar images (X, Y, Z, N) by the field, where that is wanted."""
        if not self.study.distorted:
            return images
        field = acquisition.field_at(self.subject, geometry, self.pose(scan))
        shift = READOUT * field
        volumes = [physics.distort(volume, shift, axis=1) for volume in np.moveaxis(images, -1, 0)]
        return np.stack(volumes, axis=-1)

    def readout(self, geometry: acquisition.Geometry) -> dict[str, Any]:
        """Sidecar entries that tell how the field displaces."""
        if not self.study.distorted:
            return {}
        spacing = round(READOUT / geometry.shape[1], 9)
        return {'PhaseEncodingDirection': 'j', 'EffectiveEchoSpacing': spacing}

    def make_structural(self) -> tuple[np.ndarray, np.ndarray]:
        """Write the T1w image; give it with the brain mask."""
        geometry = self.protocol.t1w
        image, brain = acquisition.structural(self.subject, geometry)
        stored = measurement.measure_structural(image, geometry, self.rng('T1w'))
        stem = self.folder / 'anat' / f'{self.name}_T1w'
        write_image(stem.with_suffix('.nii.gz'), stored, geometry.affine)
        sidecar = {'EchoTime': 0.004, 'RepetitionTime': 0.009, 'InversionTime': 1.0}
        write_json(stem.with_suffix('.json'), COMMON | sidecar | {'FlipAngle': 8})
        return stored, brain

    def make_spin_echoes(self) -> FloatArray:
        """Write the MESE; give perfect R2."""
        scan = self.protocol.mese
        refocusing = self.study.refocusing
        which = (self.subject, scan, self.pose('MESE'))
        train, kind = acquisition.spin_echoes(*which, refocusing), {}
        if refocusing is not None:
            kind = {'MRAcquisitionType': '3D' if math.isinf(refocusing) else '2D'}
        stored = measurement.measure_spin_echoes(train, scan, self.rng('MESE'), self.study.coils)
        for i, echo_time in enumerate(scan.echo_times):
            stem = self.folder / 'anat' / f'{self.name}_echo-{i + 1}_MESE'
            write_image(stem.with_suffix('.nii.gz'), stored[..., i], scan.geometry.affine)
            sidecar = {'EchoTime': echo_time, 'RepetitionTime': scan.repetition_time}
            write_json(stem.with_suffix('.json'), COMMON | sidecar | kind | {'FlipAngle': 90})
        ideal = acquisition.spin_echoes(*which, at=self.places)
        return truth.fit_decay(ideal, scan.echo_times)

    def make_gradient_echoes(self, condition: str) -> FloatArray:
        """Write the MEGRE of a condition; give perfect R2* on the quantification grid."""
        scan, name = self.protocol.megre, f'MEGRE {condition}'
        which = (self.subject, scan, self.pose(name), self.effects[condition])
        train = acquisition.gradient_echoes(*which)
        if self.study.redundant_sets or self.study.layout == 'ds004873':
            self.write_redundant_sets(condition, train)
        else:
            magnitude, phase = measurement.measure_gradient_echoes(
                train, scan, self.rng(name), self.study.coils
            )
            parts: dict[str, Any] = {
                'mag': (magnitude, {}),
                'phase': (phase, {'Units': 'rad'}),
            }
            start = f'{self.name}_task-{condition}'
            self.write_echoes(start, scan.echo_times, parts, {'TaskName': condition})
        ideal = acquisition.ideal_gradient_echoes(*which, at=self.places)
        return truth.fit_decay(ideal, scan.echo_times)

    def write_echoes(
        self,
        start: str,
        echo_times: tuple[float, ...],
        parts: dict[str, tuple[np.ndarray, dict[str, Any]]],
        sidecar: dict[str, Any],
    ) -> None:
        """Write the parts of a gradient-echo train, one file per echo."""
        scan = self.protocol.megre
        for i, echo_time in enumerate(echo_times):
            own = {
                'EchoTime': echo_time,
                'RepetitionTime': scan.repetition_time,
                'FlipAngle': 30,
            }
            for part, (data, units) in parts.items():
                stem = self.folder / 'anat' / f'{start}_echo-{i + 1}_part-{part}_MEGRE'
                write_image(stem.with_suffix('.nii.gz'), data[..., i], scan.geometry.affine)
                write_json(stem.with_suffix('.json'), COMMON | own | sidecar | units)

    def write_redundant_sets(self, condition: str, train: np.ndarray) -> None:
        """Write the full set and those of fewer lines, as magnitude, real and imaginary part."""
        scan, name = self.protocol.megre, f'MEGRE {condition}'
        later = tuple(round(time + acquisition.REDUCED_DELAY, 6) for time in scan.echo_times)
        reduced = acquisition.gradient_echoes(
            self.subject,
            replace(scan, echo_times=later),
            self.pose(name),
            self.effects[condition],
        )
        axis = 0 if self.study.layout == 'ds004873' else 1
        n_total = scan.geometry.shape[axis]
        for label, share in acquisition.REDUNDANT_SETS.items():
            is_full = share == 1
            n_lines = round(share * n_total)
            whole = train if is_full else reduced
            rng = self.rng(f'{name} {label}')
            data = measurement.measure_lines(whole, scan, n_lines, rng, axis=axis)
            self.write_echoes(
                f'{self.name}_task-{condition}_acq-{label}',
                scan.echo_times if is_full else later,
                {part: (image, {}) for part, image in data.items()},
                {
                    'TaskName': condition,
                    'PhaseEncodingDirection': 'ij'[axis],
                    'AcquisitionMatrixPE': n_lines,
                },
            )

    def make_asymmetric_echoes(self, condition: str) -> None:
        """Write the ASE of a condition."""
        name = f'ASE {condition}'
        scan = acquisition.AsymmetricEcho(geometry=self.protocol.mese.geometry)
        series = acquisition.asymmetric_spin_echoes(
            self.subject, scan, self.pose(name), self.effects[condition]
        )
        stored = measurement.measure_asymmetric_echoes(series, scan, self.rng(name))
        stem = self.folder / 'anat' / f'{self.name}_task-{condition}_ASE'
        write_image(
            stem.with_suffix('.nii.gz'),
            stored,
            scan.geometry.affine,
            repetition_time=scan.repetition_time,
        )
        sidecar = {
            'TaskName': condition,
            'EchoTime': scan.echo_time,
            'RepetitionTime': scan.repetition_time,
            'SpinEchoDisplacement': list(scan.displacements),
        }
        write_json(stem.with_suffix('.json'), COMMON | sidecar)

    def make_labeling(self, condition: str) -> FloatArray:
        """Write ASL and M0 of a condition; give perfect CBF on the quantification grid."""
        scan, name = self.protocol.asl, f'ASL {condition}'
        which = (self.subject, scan, self.pose(name), self.effects[condition])
        difference, m0 = acquisition.labeling_images(*which)
        factor = 1 + self.study.scale_error * self.rng(f'scale {name}').standard_normal()
        both = self.displaced(np.stack([factor * difference, m0], axis=-1), scan.geometry, name)
        series, m0_image = measurement.measure_labeling(
            both[..., 0], both[..., 1], scan, self.rng(name), is_physiological=self.is_living
        )
        readout = self.readout(scan.geometry)
        start = self.folder / 'perf' / f'{self.name}_acq-{condition}'
        affine = scan.geometry.affine
        write_image(
            Path(f'{start}_asl.nii.gz'), series, affine, repetition_time=scan.repetition_time
        )
        write_json(Path(f'{start}_asl.json'), _labeling_sidecar(scan) | readout)
        context = [('control',), ('label',)] * scan.n_pairs
        write_table(Path(f'{start}_aslcontext.tsv'), ('volume_type',), context)
        write_image(Path(f'{start}_m0scan.nii.gz'), m0_image, affine)
        target = f'bids::{self.name}/perf/{self.name}_acq-{condition}_asl.nii.gz'
        write_json(
            Path(f'{start}_m0scan.json'),
            _readout_sidecar(scan) | readout | {'IntendedFor': [target]},
        )
        ideal = acquisition.labeling_images(*which, at=self.places)
        return truth.measured_cbf(*ideal, scan, scan.post_label_delay)

    def make_bolus(self) -> FloatArray:
        """Write the DSC series; give perfect blood volume on the quantification grid."""
        scan = self.protocol.dsc
        which = (self.subject, scan, self.pose('DSC'))
        whole = acquisition.bolus_passage(*which)
        displaced = self.displaced(whole, scan.geometry, 'DSC')
        stored = measurement.measure_bolus(
            displaced, scan, self.rng('DSC'), is_physiological=self.is_living
        )
        if self.study.dsc_defect is not None:
            stored = spoil(stored, scan, self.study.dsc_defect)
        stem = self.folder / 'perf' / f'{self.name}_dsc'
        write_image(
            stem.with_suffix('.nii.gz'),
            stored,
            scan.geometry.affine,
            repetition_time=scan.repetition_time,
        )
        sidecar = {'EchoTime': scan.echo_time, 'RepetitionTime': scan.repetition_time}
        sidecar |= self.readout(scan.geometry)
        write_json(stem.with_suffix('.json'), COMMON | sidecar | {'FlipAngle': 60})
        ideal = acquisition.bolus_passage(*which, at=self.places, recirculates=False)
        return truth.measured_cbv(ideal, scan)

    def make_bold(self, maps: truth.Truth) -> None:
        """Write the task run; add the perfect change of every task to the truth."""
        scan, design = self.protocol.bold, self.design
        effects = tuple(self.effects[name] for name in (design.baseline, *design.tasks))
        times = scan.echo_times if self.study.bold_echoes else (scan.echo_time,)
        rng = self.rng('BOLD')
        motion = measurement.motion_course(scan, rng)
        drift = measurement.drift_course(scan, rng)
        responses = design.responses(scan.times).reshape(-1, scan.n_volumes)
        start = self.folder / 'func' / f'{self.name}_task-all'
        ideals = []
        for number, echo_time in enumerate(times, start=1):
            which = (self.subject, replace(scan, echo_time=echo_time), self.pose('BOLD'), effects)
            displaced = self.displaced(acquisition.steady_states(*which), scan.geometry, 'BOLD')
            stored = measurement.measure_bold(
                displaced,
                responses,
                motion,
                scan,
                rng,
                drift=drift,
                is_physiological=self.is_living,
            )
            echo = f'_echo-{number}' if self.study.bold_echoes else ''
            self.write_bold(Path(f'{start}{echo}_bold'), stored, echo_time)
            ideals.append(acquisition.steady_states(*which, at=self.places))
        write_table(
            Path(f'{start}_events.tsv'), ('onset', 'duration', 'trial_type'), design.events
        )
        write_json(
            Path(f'{start}_events.json'),
            {'trial_type': {'Description': f'Task; the gaps are {design.baseline}'}},
        )
        middle = ideals[len(times) // 2]
        for task in design.tasks:
            maps.bold[task] = truth.measured_bold(middle, design, scan.times, task)
            if self.study.bold_echoes:
                maps.bold_r2_star[task] = truth.measured_bold_r2_star(
                    ideals, times, design, scan.times, task
                )

    def write_bold(self, stem: Path, stored: np.ndarray, echo_time: float) -> None:
        """Write one echo of the task run."""
        scan = self.protocol.bold
        write_image(
            stem.with_suffix('.nii.gz'),
            stored,
            scan.geometry.affine,
            repetition_time=scan.repetition_time,
        )
        sidecar = {
            'TaskName': 'all',
            'RepetitionTime': scan.repetition_time,
            'EchoTime': echo_time,
            'FlipAngle': 70,
        }
        write_json(stem.with_suffix('.json'), COMMON | sidecar | self.readout(scan.geometry))


def _anatomy(study: PhantomStudy, label: str, protocol: Protocol) -> Anatomy:
    """Make the head, or the slab, of a participant."""
    rng = study.stream(label, 'anatomy')
    if protocol.slab:
        scan = protocol.mese.geometry
        size = tuple(n * zoom for n, zoom in zip(scan.shape, scan.zooms, strict=True))
        return make_slab(rng, centre=scan.centre, size=size)
    gradient = AXIAL_GRADIENT[study.background]
    return make_head(rng, spacing=protocol.spacing, axial_gradient=gradient)


def _readout_sidecar(scan: Labeling) -> dict[str, Any]:
    """Fields that ASL and M0 share."""
    times = scan.slice_time * np.arange(scan.geometry.shape[2])
    return COMMON | {
        'MRAcquisitionType': '2D',
        'EchoTime': scan.echo_time,
        'RepetitionTimePreparation': scan.repetition_time,
        'FlipAngle': 90,
        'SliceTiming': [round(float(t), 6) for t in times],
    }


def _labeling_sidecar(scan: Labeling) -> dict[str, Any]:
    """Sidecar of the label-control series."""
    return _readout_sidecar(scan) | {
        'ArterialSpinLabelingType': 'PCASL',
        'LabelingDuration': scan.label_duration,
        'PostLabelingDelay': scan.post_label_delay,
        'BackgroundSuppression': True,
        'BackgroundSuppressionNumberPulses': acquisition.SUPPRESSION_PULSES,
        'LabelingEfficiency': 0.85,
        'M0Type': 'Separate',
        'TotalAcquiredPairs': scan.n_pairs,
    }
