"""A study of dual-echo ASL alone, in which carbon dioxide, oxygen and a task run."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.phantom import acquisition, physics
from bids_app.phantom.derivatives import PLACES, UNITS, describe, true_labels, write_map
from bids_app.phantom.files import write_image, write_json, write_table
from bids_app.phantom.measurement import R2_STAR_GREY, living_noise, to_integers
from bids_app.phantom.participant import ARRIVAL, T1, RegionEffect
from bids_app.phantom.truth import contrast_label
from bids_app.phantom.vessels import vascular_signal

if TYPE_CHECKING:
    from pathlib import Path

    from bids_app._typing import BoolArray, FloatArray
    from bids_app.phantom.acquisition import Geometry, Labeling, Points, Subject

ECHO_TIMES = (0.0112, 0.030)
"""s"""

STATIC = 0.5
"""Static tissue that background suppression leaves for BOLD, relative to equilibrium."""

OXYGEN_RELAXIVITY = 1.3e-4
"""Of dissolved oxygen for T1 of blood, 1/s/mmHg."""

REST_CO2, REST_O2 = 40.0, 110.0
"""End-tidal pressures at rest, mmHg."""

OTHER_R2 = 3.0
"""Relaxation of tissue by what is neither T2 nor blood, 1/s."""

LAG = 12.0
"""Time constant of the gases in the lungs, s."""

RECORDED = 10.0
"""Samples of the recording, Hz."""

BREATHS = 15.0
"""A minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gas:
    """What a gas does to the whole brain; CMRO2 is as at rest."""

    flow: float
    """Ratio of CBF."""
    co2: float
    o2: float
    """End-tidal pressures, mmHg."""


GASES = {
    'hypercapnia': Gas(flow=1.5, co2=50.0, o2=116.0),
    'hyperoxia': Gas(flow=0.95, co2=38.5, o2=420.0),
}

BLOCKS = {
    'hypercapnia': ((60.0, 180.0), (870.0, 180.0)),
    'hyperoxia': ((450.0, 180.0), (1260.0, 180.0)),
    'task': ((330.0, 75.0), (690.0, 75.0), (1110.0, 75.0), (1530.0, 75.0)),
}
"""Onset and length of every block, s."""

LENGTH = 1710.0
"""Of the series, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GasStudy:
    """The series of one participant."""

    subject: Subject
    scan: Labeling
    pose: FloatArray
    rng: np.random.Generator
    effects: dict[int, RegionEffect]
    """Of the task."""
    task: str
    baseline: str
    is_living: bool
    """Noise of a living head."""
    common: dict[str, Any]
    """Entries of every sidecar."""

    @property
    def times(self) -> FloatArray:
        """Of the volumes, s."""
        step = self.scan.repetition_time
        return np.asarray(step * np.arange(round(LENGTH / step)), float)

    @property
    def blocks(self) -> dict[str, tuple[tuple[float, float], ...]]:
        """Condition -> its blocks."""
        return {self.task if name == 'task' else name: rows for name, rows in BLOCKS.items()}

    @property
    def grey(self) -> float:
        """Signal of grey matter in M0."""
        recovered = physics.saturation_recovery(self.scan.repetition_time, T1[0])
        decayed = math.exp(-self.scan.echo_time * R2_STAR_GREY)
        return float(acquisition.PROTON_DENSITY[0] * recovered * decayed)

    def write(self, folder: Path, name: str) -> None:
        """Write both echoes, their tables, M0 and the recording of the gases."""
        images = self.images()
        m0, states = images[..., -1], images[..., :-1].reshape(*images.shape[:3], -1, 2, 2)
        is_label = np.arange(len(self.times)) % 2 == 1
        for echo, echo_time in enumerate(ECHO_TIMES):
            course = self.course(states[..., echo, :], is_label)
            stem = folder / f'{name}_echo-{echo + 1}_asl'
            self.store(stem, self.with_noise(course), {'EchoTime': echo_time})
        context = [('label' if one else 'control',) for one in is_label]
        write_table(folder / f'{name}_aslcontext.tsv', ('volume_type',), context)
        rows = sorted((onset, length, one) for one, rows in self.blocks.items()
                      for onset, length in rows)  # fmt: skip
        write_table(folder / f'{name}_events.tsv', ('onset', 'duration', 'trial_type'), rows)
        noisy = physics.rician(m0, self.scan.noise * self.grey, self.rng)
        target = f'bids::{name}/perf/{name}_echo-1_asl.nii.gz'
        about = {'EchoTime': self.scan.echo_time, 'IntendedFor': [target]}
        self.store(folder / f'{name}_m0scan', noisy, about)
        self.write_recording(folder / f'{name}_physio')

    def course(self, states: FloatArray, is_label: BoolArray) -> FloatArray:
        """Let the states (X, Y, Z, states, control or label) of an echo follow the blocks."""
        responses = self.responses()
        course = np.empty((*states.shape[:3], len(is_label)), np.float32)
        for kind in (0, 1):
            own, rest = is_label == bool(kind), states[..., :1, kind]
            change = states[..., 1:, kind] - rest
            course[..., own] = rest + change @ responses[:, own]
        return course

    def store(self, stem: Path, image: FloatArray, more: dict[str, Any]) -> None:
        """Write an image of the series, or M0, with its sidecar."""
        about = self.sidecar() | more
        if 'IntendedFor' in more:
            about = {key: one for key, one in about.items() if 'Label' not in key
                     and 'Background' not in key and key != 'M0Type'}  # fmt: skip
        write_image(
            stem.with_name(f'{stem.name}.nii.gz'),
            to_integers(image, self.grey / 4),
            self.scan.geometry.affine,
            repetition_time=self.scan.repetition_time if image.ndim > 3 else None,
        )
        write_json(stem.with_name(f'{stem.name}.json'), about)

    def sidecar(self) -> dict[str, Any]:
        """Give the sidecar that both echoes share."""
        times = self.scan.slice_time * np.arange(self.scan.geometry.shape[2])
        return self.common | {
            'MRAcquisitionType': '2D',
            'RepetitionTimePreparation': self.scan.repetition_time,
            'FlipAngle': 90,
            'SliceTiming': [round(float(t), 6) for t in times],
            'ArterialSpinLabelingType': 'PCASL',
            'LabelingDuration': self.scan.label_duration,
            'PostLabelingDelay': self.scan.post_label_delay,
            'BackgroundSuppression': True,
            'BackgroundSuppressionNumberPulses': acquisition.SUPPRESSION_PULSES,
            'LabelingEfficiency': 0.85,
            'M0Type': 'Separate',
        }

    def with_noise(self, course: FloatArray) -> FloatArray:
        """Add noise of the scanner, or of a living head, to a series."""
        sigma = self.scan.noise * self.grey
        if not self.is_living:
            return physics.rician(course, sigma, self.rng)
        noise = living_noise(course.shape, sigma, self.scan.geometry, self.rng)
        return np.asarray(np.abs(course + noise))

    def responses(self) -> FloatArray:
        """Course of every condition relative to its plateau, (conditions, T)."""
        return np.array([
            sum(physics.haemodynamic_response([onset], length, self.times)
                for onset, length in rows)
            for rows in self.blocks.values()
        ])  # fmt: skip

    def images(self) -> FloatArray:
        """Give noise-free images: states x echoes x (control, label), and M0 last."""
        person, scan = self.subject.participant, self.scan
        recovery = physics.saturation_recovery(scan.repetition_time, T1)
        still = ((1.0, REST_O2, {}), *((one.flow, one.o2, {}) for one in GASES.values()),
                 (1.0, REST_O2, self.effects))  # fmt: skip

        def signal(points: Points) -> FloatArray:
            weights = points.tissue.fractions * acquisition.PROTON_DENSITY
            rest = person.values(points.tissue, {})
            columns = []
            for flow, po2, effects in still:
                values = person.values(points.tissue, effects)
                base = np.where(rest.flow > 0, rest.flow, 1.0)
                ratio = np.where(rest.flow > 0, flow * values.flow / base, 1.0)
                decay = vascular_signal(
                    ECHO_TIMES,
                    flow=ratio,
                    extraction=values.extraction / flow,
                    volume=rest.volume,
                    r2=rest.r2 + OTHER_R2 * (rest.volume > 0),
                    hct=person.hct,
                    po2=po2,
                    resting_po2=REST_O2,
                )
                labelled = physics.labelled_magnetisation(
                    flow * values.flow,
                    arrival_time=ARRIVAL,
                    label_duration=scan.label_duration,
                    post_label_delay=scan.slice_delays[points.slice_index][:, None],
                    efficiency=scan.efficiency,
                    t1_blood=1 / (1 / physics.T1_BLOOD + OXYGEN_RELAXIVITY * (po2 - REST_O2)),
                )
                for echo in range(len(ECHO_TIMES)):
                    control = (weights * STATIC * recovery * decay[..., echo]).sum(1)
                    label = (weights * labelled * decay[..., echo]).sum(1)
                    columns += [control, control - label]
                if not columns[4:]:
                    m0 = (weights * recovery * decay[..., 0]).sum(1)
            return np.stack([*columns, m0], axis=1)

        return acquisition.average(self.subject.anatomy, scan.geometry, self.pose, signal).real

    def write_recording(self, stem: Path) -> None:
        """Write the breathed gases: carbon dioxide is high, oxygen low at the end of a breath."""
        times = np.arange(0, LENGTH, 1 / RECORDED)
        course = {'co2': np.full(times.shape, REST_CO2), 'o2': np.full(times.shape, REST_O2)}
        for name, gas in GASES.items():
            for onset, length in self.blocks[name]:
                risen = np.exp(-np.maximum(times - onset, 0) / LAG)
                fallen = np.exp(-np.maximum(times - onset - length, 0) / LAG)
                part = np.where(times < onset, 0.0, fallen - risen)
                course['co2'] += part * (gas.co2 - REST_CO2)
                course['o2'] += part * (gas.o2 - REST_O2)
        expired = (0.5 - 0.5 * np.cos(2 * np.pi * BREATHS / 60 * times)) ** 0.5
        breathed_in = {'co2': 0.5, 'o2': 1.35}
        columns = [
            expired * end + (1 - expired) * factor * (end if gas == 'o2' else 1.0)
            for (gas, end), factor in zip(course.items(), breathed_in.values(), strict=True)
        ]
        noise = 0.3 * self.rng.standard_normal((2, len(times)))
        rows = (np.array(columns) + noise).T
        text = '\n'.join('\t'.join(f'{value:.2f}' for value in row) for row in rows) + '\n'
        stem.parent.mkdir(parents=True, exist_ok=True)
        # the time in the header of the compression would change the bytes
        stem.with_name(f'{stem.name}.tsv.gz').write_bytes(gzip.compress(text.encode(), mtime=0))
        write_json(
            stem.with_name(f'{stem.name}.json'),
            {
                'SamplingFrequency': RECORDED,
                'StartTime': 0.0,
                'Columns': ['co2', 'o2'],
                'co2': {'Description': 'breathed carbon dioxide', 'Units': 'mmHg'},
                'o2': {'Description': 'breathed oxygen', 'Units': 'mmHg'},
            },
        )

    def write_truth(self, root: Path, name: str) -> None:
        """Write tissue averages on the grid of the series: at rest, in the task, its change."""
        describe(root, 'truth of the phantom')
        folder, geometry = root / name, self.scan.geometry
        maps = {
            one: acquisition.volume_averages(self.subject, geometry, self.pose, effects)
            for one, effects in ((self.baseline, {}), (self.task, self.effects))
        }
        label = contrast_label(self.task, self.baseline)
        for quantity in ('cbf', 'oef', 'cmro2'):
            where, suffix = PLACES[quantity]
            for condition, made in maps.items():
                stem = f'{name}_task-{condition}_space-ASL_desc-tissue_{suffix}'
                write_map(folder / where / stem, made[quantity], geometry.affine, UNITS[quantity])
            change = maps[self.task][quantity] - maps[self.baseline][quantity]
            stem = f'{name}_space-ASL_contrast-{label}_stat-effect_desc-{quantity}_statmap'
            write_map(folder / where / stem, change, geometry.affine, UNITS[quantity])
        self.write_regions(folder / 'anat', name, geometry, label)

    def write_regions(self, folder: Path, name: str, geometry: Geometry, label: str) -> None:
        """Write regions, grey matter and true labels."""
        fractions, region = acquisition.tissue_fractions(self.subject, geometry, self.pose)
        images: dict[str, Any] = {
            'label-GM_probseg': fractions[..., 0].astype(np.float32),
            'desc-regions_dseg': region,
            f'seg-concordance_desc-{label}_dseg': true_labels(region, self.effects),
        }
        for suffix, image in images.items():
            write_image(folder / f'{name}_space-ASL_{suffix}.nii.gz', image, geometry.affine)
