"""Small datasets made from a list of file kinds."""

import json
import re
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

ASL = {
    'ArterialSpinLabelingType': 'PCASL',
    'PostLabelingDelay': 1.8,
    'LabelingDuration': 1.8,
    'BackgroundSuppression': True,
    'BackgroundSuppressionNumberPulses': 4,
    'M0Type': 'Separate',
    'TotalAcquiredPairs': 3,
    'RepetitionTimePreparation': 4.5,
    'SliceTiming': [0.0, 0.045],
    'MagneticFieldStrength': 3,
}
CONTEXT = ('label', 'control') * 3

FULL = (
    'anat/T1w', 'anat/MESE', 'anat/task-control_MEGRE[phase]', 'anat/task-calc_MEGRE[phase]',
    'perf/acq-control_asl', 'perf/acq-calc_asl', 'perf/dsc', 'func/task-all_bold[calc]',
)  # fmt: skip
"""Every kind of scan."""


class Dataset:
    """A BIDS dataset under construction; every image is small, valid and not constant."""

    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.json('dataset_description.json', {'Name': 'test', 'BIDSVersion': '1.10.0'})

    def json(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    def text(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def image(self, name, *, shape=(3, 3, 2), metadata=None, data=None, affine=None):
        """Write an image with its sidecar."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(name))
        data = rng.uniform(-1, 1, shape).astype(np.float32) if data is None else data
        nb.save(nb.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
        if metadata is not None:
            self.json(name.replace('.nii.gz', '.json'), metadata)
        return path

    def add(self, *specs, sub='01'):
        """Add acquisitions such as 'ses-a/anat/task-calc_MEGRE' or 'func/task-x_bold[calc]'."""
        for spec in specs:
            *folders, name = spec.split('/')
            name, _, listed = name.partition('[')
            session = [f for f in folders if f.startswith('ses-')]
            stem, _, suffix = '_'.join([f'sub-{sub}', *session, name]).rpartition('_')
            folder = '/'.join([f'sub-{sub}', *folders])
            getattr(self, f'_{suffix.lower()}')(f'{folder}/{stem}', listed.rstrip(']'))
        return self

    def _t1w(self, stem, _):
        self.image(f'{stem}_T1w.nii.gz', metadata={'MagneticFieldStrength': 3})

    def _echoes(self, stem, suffix, step, part, n_echoes=4):
        for echo in range(1, n_echoes + 1):
            metadata = {'EchoTime': step * echo, 'RepetitionTime': 2.2, 'MagneticFieldStrength': 3}
            if part == '_part-phase':
                metadata['Units'] = 'rad'
            self.image(f'{stem}_echo-{echo}{part}_{suffix}.nii.gz', metadata=metadata)

    def _mese(self, stem, _):
        self._echoes(stem, 'MESE', 0.016, '')

    def _megre(self, stem, phase):
        self._echoes(stem, 'MEGRE', 0.005, '_part-mag' if phase else '')
        if phase:
            self._echoes(stem, 'MEGRE', 0.005, '_part-phase')

    def _asl(self, stem, kind):
        included = kind == 'included'
        context = ('m0scan', *CONTEXT) if included else CONTEXT
        metadata = {**ASL, 'M0Type': 'Included' if included else 'Separate'}
        self.image(f'{stem}_asl.nii.gz', shape=(3, 3, 2, len(context)), metadata=metadata)
        self.text(f'{stem}_aslcontext.tsv', '\n'.join(['volume_type', *context]))
        if not included:
            metadata = {'RepetitionTimePreparation': 4.5, 'EchoTime': 0.011}
            self.image(f'{stem}_m0scan.nii.gz', metadata=metadata)

    def _dsc(self, stem, _):
        metadata = {'EchoTime': 0.03, 'RepetitionTime': 1.5, 'MagneticFieldStrength': 3}
        self.image(f'{stem}_dsc.nii.gz', shape=(3, 3, 2, 12), metadata=metadata)

    def _bold(self, stem, listed):
        metadata = {'RepetitionTime': 1.2, 'EchoTime': 0.03, 'MagneticFieldStrength': 3}
        self.image(f'{stem}_bold.nii.gz', shape=(3, 3, 2, 200), metadata=metadata)
        types = [name for name in listed.split(',') if name]
        rows = [f'{30 + 60 * n}\t30\t{types[n % len(types)]}' for n in range(4) if types]
        self.text(f'{stem}_events.tsv', '\n'.join(['onset\tduration\ttrial_type', *rows]))

    def find(self, pattern):
        """Return the one file that matches."""
        (path,) = self.root.rglob(pattern)
        return path

    def edit(self, pattern, **changes):
        """Change keys of a sidecar; None removes one."""
        path = self.find(pattern)
        content = json.loads(path.read_text()) | changes
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(json.dumps(content))
        return path


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'data')


@pytest.fixture
def collect(tmp_path, monkeypatch):
    """
    Collect the units of a dataset: collect(dataset, settings={...}, participants=(...)).
    """
    from bids_app.bids.input.collect import collect_participant
    from bids_app.bids.input.dataset import check_dataset, read_dataset, select_participants
    from bids_app.settings import RunSettings, resolve

    def units(dataset, *, settings=None, **options):
        options = {'output_dir': tmp_path / 'out', 'level': 'participant', **options}
        run = RunSettings(bids_dir=dataset.root, **options)
        resolved = resolve(command_line=settings or {})
        info = read_dataset(run)
        chosen = select_participants(info, run)
        plan = check_dataset(info, run, resolved)
        return [
            unit
            for label in chosen
            for unit in collect_participant(info, label, run, resolved, plan=plan)
        ]

    return units


@pytest.fixture
def options_of():
    """Settings behind the options written in a documentation table."""

    def read(text):
        names = {'--condition-entity': 'condition_entity', '--baseline': 'baseline'}
        settings = {}
        for option, value in re.findall(r'(--[a-z-]+) ([^`\s]+)', text):
            settings[names.get(option, option.strip('-'))] = value
        return settings

    return read


@pytest.fixture
def full(dataset):
    return dataset.add(*FULL)


@pytest.fixture
def unit(collect):
    def one(dataset, **options):
        (found,) = collect(dataset, **options)
        return found

    return one
