"""Every input role x every way to be broken: said in one line with the file, and only it is lost.

The whole app meets each class of defect in test_bad_input; here the layer that reads the input
meets every combination.
"""

import gzip
import json

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.collect import collect_participant
from bids_app.bids.input.dataset import check_dataset, read_dataset
from bids_app.bids.input.unreadable import drop_unreadable
from bids_app.settings import RunSettings, Settings, apply
from tests.e2e import support

FILES = {
    't1w': ('anat', '*_T1w.nii.gz'),
    'mese': ('anat', '*_echo-3_MESE.nii.gz'),
    'megre_mag': ('anat', '*_echo-3_part-mag_MEGRE.nii.gz'),
    'megre_phase': ('anat', '*_echo-3_part-phase_MEGRE.nii.gz'),
    'ase': ('anat', '*_ASE.nii.gz'),
    'asl': ('perf', '*_asl.nii.gz'),
    'm0': ('perf', '*_m0scan.nii.gz'),
    'dsc': ('perf', '*_dsc.nii.gz'),
    'bold': ('func', '*_bold.nii.gz'),
    'megre_real': ('anat', '*_echo-3_part-real_MEGRE.nii.gz'),
    'megre_imag': ('anat', '*_echo-3_part-imag_MEGRE.nii.gz'),
    'phasediff': ('fmap', '*_phasediff.nii.gz'),
    'fieldmap': ('fmap', '*_fieldmap.nii.gz'),
    'epi': ('fmap', '*_dir-AP_epi.nii.gz'),
    'aslcontext': ('perf', '*_aslcontext.tsv'),
    'events': ('func', '*_events.tsv'),
}
"""Role -> folder and pattern; the first file is broken."""

PARTS = ('megre_real', 'megre_imag')
FIELDS = ('phasediff', 'fieldmap', 'epi')
"""Roles that only some datasets have: their participants are changed before one file is broken."""

IMAGES = tuple(role for role in FILES if role not in {'aslcontext', 'events', *FIELDS})
SERIES = ('asl', 'dsc', 'bold')
LOSES = {'aslcontext': 'asl', 'm0': 'asl', 'events': 'bold', 'megre_mag': 'megre',
         'megre_phase': 'phase', 'megre_real': 'megre', 'megre_imag': 'megre'}  # fmt: skip
"""Role -> what is lost with it, where it is not the role itself."""


def save(path, data, **header):
    image = nb.load(path)
    affine = image.affine
    nb.Nifti1Image(data, affine).to_filename(path)


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b'')


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def cut_line(path):
    path.write_text(path.read_text().rstrip('\n').rpartition('\n')[0] + '\n')


def wrong_shape(path):
    data = support.read(path)
    save(path, data[..., 0] if data.ndim == 4 else data[:-1] if 'echo' in path.name else data[0])


def fill(value):
    def harm(path):
        save(path, np.full(support.read(path).shape, value, np.float32))

    return harm


def complex_numbers(path):
    save(path, support.read(path).astype(np.complex64))


def colours(path):
    shape = support.read(path).shape
    save(path, np.zeros(shape, [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


def times_in_milliseconds(*keys):
    def harm(path):
        stem = path.name.replace('.nii.gz', '.json')
        if 'echo-3' in stem:
            stem = stem.replace('echo-3_', 'echo-*_')
        for sidecar in path.parent.glob(stem):
            support.edit_json(
                sidecar,
                lambda content: content.update(
                    {key: np.multiply(content[key], 1e3).tolist() for key in keys}
                ),
            )

    return harm


def in_scanner_units(path):
    save(path, (support.read(path) * 1000).astype(np.float32))


def onsets_in_milliseconds(path):
    head, *rows = path.read_text().splitlines()
    column = head.split('\t').index('onset')
    lines = [head]
    for row in rows:
        cells = row.split('\t')
        cells[column] = str(float(cells[column]) * 1e3)
        lines.append('\t'.join(cells))
    path.write_text('\n'.join(lines) + '\n')


def words(path):
    path.write_text(path.read_text().replace('control', 'baseline').replace('label', 'tag'))


def not_fetched(path):
    path.unlink()
    path.symlink_to('../../.git/annex/objects/MD5E-s1--0/x')


def unreadable(path):
    # a link to itself cannot be opened by any user, root included
    path.unlink()
    path.symlink_to(path.name)


def garbage(path):
    path.write_bytes(bytes(range(256)) * 4)


def garbage_gz(path):
    path.write_bytes(gzip.compress(bytes(range(256)) * 4))


def split_parts(folder):
    """Turn magnitude and phase into real and imaginary part."""
    for magnitude in sorted(folder.glob('anat/*_part-mag_MEGRE.nii.gz')):
        phase = magnitude.with_name(magnitude.name.replace('part-mag', 'part-phase'))
        signal = support.read(magnitude) * np.exp(1j * support.read(phase))
        for path, part, values in (
            (magnitude, 'mag', signal.real),
            (phase, 'phase', signal.imag),
        ):
            new = path.name.replace(f'part-{part}', 'part-real' if part == 'mag' else 'part-imag')
            save(path, values.astype(np.float32))
            path.rename(path.with_name(new))
            old = path.with_name(path.name.replace('.nii.gz', '.json'))
            content = json.loads(old.read_text())
            content.pop('Units', None)
            old.with_name(new.replace('.nii.gz', '.json')).write_text(json.dumps(content))
            old.unlink()


FIELD_FILES = {
    'phasediff': {
        'phasediff': {'EchoTime1': 0.00492, 'EchoTime2': 0.00738, 'Units': 'rad'},
        'magnitude1': {'EchoTime': 0.00492},
    },
    'fieldmap': {'fieldmap': {'Units': 'Hz'}, 'magnitude': {}},
    'epi': {
        f'dir-{name}_epi': {'PhaseEncodingDirection': axis, 'TotalReadoutTime': 0.03}
        for name, axis in (('AP', 'j-'), ('PA', 'j'))
    },
}


def add_field(kind):
    """Add a field map of a kind for the BOLD run, which can be corrected by it."""

    def add(folder):
        (bold,) = folder.glob('func/*_bold.nii.gz')
        sidecar = bold.with_name(bold.name.replace('.nii.gz', '.json'))
        readout = {'PhaseEncodingDirection': 'j', 'TotalReadoutTime': 0.03}
        support.edit_json(sidecar, lambda content: content.update(readout))
        values = support.read(bold)[..., 0]
        (folder / 'fmap').mkdir()
        for number, (name, content) in enumerate(FIELD_FILES[kind].items()):
            path = folder / 'fmap' / f'{folder.name}_{name}.nii.gz'
            image = (values / values.max() + number).astype(np.float32)
            nb.Nifti1Image(image, nb.load(bold).affine).to_filename(path)
            about = content | {'IntendedFor': f'bids::{folder.name}/func/{bold.name}'}
            path.with_name(path.name.replace('.nii.gz', '.json')).write_text(json.dumps(about))

    return add


PREPARED = {role: split_parts for role in PARTS} | {kind: add_field(kind) for kind in FIELDS}
"""Role -> what is done to its participant first."""

ANY = {
    'empty': empty, 'notfetched': not_fetched, 'garbage': garbage, 'unreadable': unreadable,
}  # fmt: skip
OF_IMAGES = ANY | {
    'truncated': truncated,
    'shape': wrong_shape,
    'nan': fill(np.nan),
    'zeros': fill(0),
    'constant': fill(7),
    'complex': complex_numbers,
    'colours': colours,
    'garbagegz': garbage_gz,
}
UNITS = {
    'mese': times_in_milliseconds('EchoTime'),
    'megre_mag': times_in_milliseconds('EchoTime'),
    'megre_phase': in_scanner_units,
    'ase': times_in_milliseconds('EchoTime', 'SpinEchoDisplacement'),
    'asl': times_in_milliseconds('PostLabelingDelay', 'LabelingDuration'),
    'm0': times_in_milliseconds('RepetitionTimePreparation'),
    'dsc': times_in_milliseconds('EchoTime'),
    'bold': times_in_milliseconds('RepetitionTime'),
    'events': onsets_in_milliseconds,
    'aslcontext': words,
}
CASES = {
    **{(role, name): harm for role in IMAGES for name, harm in OF_IMAGES.items()},
    **{(role, name): harm for role in ('aslcontext', 'events') for name, harm in ANY.items()},
    **{(role, 'units'): harm for role, harm in UNITS.items()},
    ('aslcontext', 'cut'): cut_line,
    ('mese', 'missing'): missing,
    ('megre_mag', 'missing'): missing,
    ('megre_phase', 'missing'): missing,
    ('aslcontext', 'missing'): missing,
}
FIELD_CASES = {(kind, name): harm for kind in FIELDS for name, harm in OF_IMAGES.items()}
ABSENT = ('t1w', 'ase', 'asl', 'm0', 'dsc', 'bold', 'events')
"""Roles that may be missing as a whole: that is no defect."""


def label(case):
    return ''.join(case).replace('_', '')


def families(unit):
    names = ('t1w', 'mese', 'megre', 'ase', 'asl', 'dsc', 'bold')
    counts = {name: len(getattr(unit, name)) for name in names}
    return counts | {'phase': sum(series.has_phase for series in unit.megre)}


@pytest.fixture(scope='module')
def hospital(tmp_path_factory):
    """A dataset of one participant per case, a sound one beside them, and how to read one."""
    study = support.phantom(
        tmp_path_factory.mktemp('everything'), '--asymmetric-spin-echo', participants=1
    )
    root = support.start_dataset(tmp_path_factory.mktemp('matrix') / 'raw', study)
    everything = tuple(support.FAMILIES)
    support.add_participant(root, study, 'sound', *everything)
    absent = {(role, 'missing'): missing for role in ABSENT}
    whole = {(role, 'sound'): lambda _: None for role in (*PARTS, *FIELDS)}
    for case, harm in (CASES | FIELD_CASES | absent | whole).items():
        folder = support.add_participant(root, study, label(case), *everything)
        PREPARED.get(case[0], lambda _: None)(folder)
        place, pattern = FILES[case[0]]
        harm(sorted((folder / place).glob(pattern))[0])
    run = RunSettings(bids_dir=root, output_dir=root.parent / 'out', level='participant')
    info = read_dataset(run)
    plan = check_dataset(info, run, Settings())

    def collect(case):
        units = collect_participant(info, label(case), run=run, settings=Settings(), plan=plan)
        return drop_unreadable(units[0])

    return collect


@pytest.fixture(scope='module')
def sound(hospital):
    unit = hospital(('sound',))
    assert unit.problems == ()
    return families(unit)


@pytest.mark.parametrize('case', CASES, ids=label)
def test_defect_is_said_once_per_file_and_costs_only_its_family(hospital, sound, case):
    unit = hospital(case)
    assert unit.problems
    for problem in unit.problems:
        assert problem.file is not None
        assert problem.code in {65, 66}
        assert '\n' not in problem.message
        assert problem.message.strip()
    assert len({problem.message for problem in unit.problems}) == len(unit.problems)
    lost = LOSES.get(case[0], case[0])
    found = families(unit)
    gone = {lost, 'phase'} if lost == 'megre' else {lost}
    assert {name: found[name] for name in found if name not in gone} == {
        name: sound[name] for name in sound if name not in gone
    }
    assert found[lost] < sound[lost]


@pytest.mark.parametrize('role', ABSENT)
def test_absence_is_no_defect(hospital, role):
    unit = hospital((role, 'missing'))
    assert unit.problems == () or role == 'm0'


@pytest.mark.parametrize('role', PARTS)
def test_real_and_imaginary_parts_are_read(hospital, sound, role):
    unit = hospital((role, 'sound'))
    assert unit.problems == ()
    assert families(unit) == sound


@pytest.mark.parametrize('kind', FIELDS)
def test_field_map_is_used(hospital, kind):
    unit = hospital((kind, 'sound'))
    assert unit.problems == ()
    assert unit.bold[0].field_map is not None


@pytest.mark.parametrize('case', FIELD_CASES, ids=label)
def test_broken_field_map_is_said_and_costs_only_the_correction(hospital, sound, case):
    unit = hospital(case)
    assert families(unit) == sound
    said = [problem.message for problem in unit.problems] + list(unit.notes)
    assert [text for text in said if FILES[case[0]][1].strip('*') in text]
    assert unit.bold[0].field_map is None


RECORDING = ANY | {'truncated': truncated, 'garbagegz': garbage_gz}


@pytest.fixture(scope='module')
def breathed(tmp_path_factory):
    """Read a study of gases whose recording is broken in a way, or sound."""
    study = support.phantom(tmp_path_factory.mktemp('gases'), '--design', 'gases', participants=1)
    (recording,) = study.glob('sub-01/perf/*_physio.tsv.gz')
    content = recording.read_bytes()
    settings = apply(Settings(), {'oxygen.hypercapnia': 'hypercapnia',
                                  'oxygen.hyperoxia': 'hyperoxia'}, '')  # fmt: skip
    run = RunSettings(bids_dir=study, output_dir=study.parent / 'out', level='participant')

    def collect(harm):
        recording.unlink(missing_ok=True)
        recording.write_bytes(content)
        harm(recording)
        info = read_dataset(run, settings)
        plan = check_dataset(info, run, settings)
        unit, *_ = collect_participant(info, '01', run=run, settings=settings, plan=plan)
        return drop_unreadable(unit), recording

    return collect


@pytest.mark.parametrize('name', RECORDING)
def test_broken_recording_of_gases_is_said_once_and_costs_only_the_pressures(breathed, name):
    whole, _ = breathed(lambda _: None)
    assert whole.problems == ()
    unit, recording = breathed(RECORDING[name])
    (problem,) = unit.problems
    assert (problem.role, problem.file) == ('gases', recording)
    assert '\n' not in problem.message
    assert recording.name in problem.message
    assert families(unit) == families(whole)
    assert not [value.name for value in unit.values if value.unit == 'mmHg']


def test_recording_may_be_absent(breathed):
    unit, _ = breathed(missing)
    assert unit.problems == ()
