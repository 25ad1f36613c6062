"""Phase in the units of a scanner: recognised where maker, range and echoes agree, else said."""

import math

import nibabel as nb
import numpy as np
import pytest

from bids_app.bids.input.metadata.phase import CONVENTIONS, recognise_phase

TIMES = (0.005, 0.010, 0.015, 0.020)
SHAPE = (24, 24, 8)


def head(shape=SHAPE):
    """Magnitude of a ball, and the phase of a smooth field inside it, of noise around it, rad."""
    rng = np.random.default_rng(5)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    inside = sum(axis**2 for axis in axes) < 0.6
    field = 60 * axes[0] + 40 * axes[2] ** 2  # Hz
    offset = 2 * axes[1]
    phases = []
    for time in TIMES:
        phase = offset + 2 * math.pi * field * time + rng.normal(0, 0.05, shape)
        phase = np.where(inside, phase, rng.uniform(-math.pi, math.pi, shape))
        phases.append(np.angle(np.exp(1j * phase)))
    return np.where(inside, 1000.0, 10.0), phases


def write(folder, images, name):
    paths = []
    for number, data in enumerate(images, start=1):
        path = folder / f'{name}-{number}.nii.gz'
        nb.save(nb.Nifti1Image(data, np.eye(4)), path)
        paths.append(path)
    return paths


def as_stored(phase, kind):
    """Write phase as a scanner does."""
    if kind == 'siemens0':
        return np.floor((phase + math.pi) / (2 * math.pi) * 4096).clip(0, 4095).astype(np.int16)
    if kind == 'siemens':
        return (2 * as_stored(phase, 'siemens0') - 4096).astype(np.int16)
    return (1000 * phase).astype(np.float32) if kind == 'milli' else phase.astype(np.float32)


@pytest.fixture
def series(tmp_path):
    def make(kind, change=lambda phases: phases):
        magnitude, phases = head()
        stored = [as_stored(one, kind) for one in change(phases)]
        return {
            'phase': write(tmp_path, stored, 'phase'),
            'magnitude': write(tmp_path, [magnitude.astype(np.float32)] * len(stored), 'mag'),
            'echo_times': TIMES[: len(stored)],
        }

    return make


@pytest.mark.parametrize(('maker', 'kind', 'turn'), [
    ('Siemens', 'siemens', 8192), ('SIEMENS', 'siemens0', 4096), ('', 'siemens0', 4096),
    ('Siemens Healthineers', 'siemens', 8192), ('Philips Medical', 'milli', 2000 * math.pi),
    ('GE MEDICAL SYSTEMS', 'milli', 2000 * math.pi), ('Philips', 'rad', 2 * math.pi),
    ('UIH', 'siemens', 8192),
])  # fmt: skip
def test_what_a_maker_is_known_to_write_is_recognised(maker, kind, turn, series):
    scale, reason = recognise_phase(maker=maker, **series(kind))
    assert scale == pytest.approx(2 * math.pi / turn)
    assert 'linear over the echoes in 100% of the head' in reason


@pytest.mark.parametrize(('maker', 'kind', 'words'), [
    ('GE MEDICAL SYSTEMS', 'siemens', 'not what GE MEDICAL SYSTEMS writes'),
    ('Siemens', 'milli', 'not what Siemens writes'),
])  # fmt: skip
def test_what_a_maker_does_not_write_is_not_taken(maker, kind, words, series):
    scale, reason = recognise_phase(maker=maker, **series(kind))
    assert scale is None
    assert words in reason


@pytest.mark.parametrize('factor', [0.5, 0.8, 1.1, 2.0])
def test_a_range_that_is_no_turn_is_not_taken(factor, series):
    scale, reason = recognise_phase(
        maker='', **series('milli', lambda phases: [factor * one for one in phases])
    )
    assert scale is None
    assert 'in no unit that is known' in reason


def test_values_that_are_no_phase_are_told_by_their_echoes(series):
    rng = np.random.default_rng(1)

    def noise(phases):
        return [rng.uniform(-math.pi, math.pi, one.shape) for one in phases]

    scale, reason = recognise_phase(maker='Siemens', **series('siemens', noise))
    assert scale is None
    assert 'phase is not linear over echoes' in reason


def test_a_readout_that_alternates_is_still_linear(series):
    def bipolar(phases):
        ramp = np.linspace(-1.5, 1.5, SHAPE[0])[:, None, None]
        return [np.angle(np.exp(1j * (one + (-1) ** n * ramp))) for n, one in enumerate(phases)]

    def five(phases):
        return bipolar([*phases, np.angle(np.exp(1j * (2 * phases[3] - phases[2])))])

    made = series('siemens', five)
    scale, _ = recognise_phase(maker='Siemens', **{**made, 'echo_times': (*TIMES, 0.025)})
    assert scale == pytest.approx(math.pi / 4096)


def test_a_file_that_cannot_be_read_is_no_error_here(series):
    made = series('siemens')
    made['phase'][1].write_bytes(b'')
    assert recognise_phase(maker='Siemens', **made)[0] is None


def test_no_two_conventions_share_a_range():
    for one in CONVENTIONS:
        fitting = [two for two in CONVENTIONS if two.fits(one.low, one.low + one.turn)]
        assert fitting == [one]


# ------------------------------------------------------------------------- in a dataset


@pytest.fixture
def gradient_echo(dataset):
    """A gradient echo with phase in a unit, and what its sidecar says."""

    def make(kind, **sidecar):
        magnitude, phases = head()
        for echo, (time, phase) in enumerate(zip(TIMES, phases, strict=True), start=1):
            metadata = {'EchoTime': time, 'RepetitionTime': 2.2, 'MagneticFieldStrength': 3}
            stem = f'sub-01/anat/sub-01_echo-{echo}'
            dataset.image(f'{stem}_part-mag_MEGRE.nii.gz', data=magnitude.astype(np.float32),
                          metadata=metadata)  # fmt: skip
            dataset.image(f'{stem}_part-phase_MEGRE.nii.gz', data=as_stored(phase, kind),
                          metadata=metadata | sidecar)  # fmt: skip
        return dataset.add('anat/T1w')

    return make


def test_the_phase_of_a_siemens_scanner_is_used_and_said(gradient_echo, unit):
    found = unit(gradient_echo('siemens', Manufacturer='Siemens', Units='arbitrary'))
    (series,) = found.megre
    assert (len(series.phase), series.phase_scale) == (4, pytest.approx(math.pi / 4096))
    assert found.warnings == ()
    words = 'values from -4096 to 4094 are 0.00076699 rad per unit (as Siemens; dcm2niix'
    assert any(words in note for note in found.notes)


def test_a_phase_of_unknown_scale_is_a_warning_with_the_size_of_its_effect(gradient_echo, unit):
    found = unit(gradient_echo('siemens', Manufacturer='GE', Units='arbitrary'))
    (series,) = found.megre
    assert (series.phase, series.uncorrected) == ((), 'no usable phase images')
    (warning,) = found.warnings
    assert "R2' is 12 % too high" in warning
    assert 'relaxometry.phase_scale' in warning
    assert found.problems == ()


@pytest.mark.parametrize('units', [[], {}, ['rad'], 1, None])
def test_units_that_are_no_word_are_no_radians(units, gradient_echo, unit):
    (series,) = unit(gradient_echo('milli', Units=units, Manufacturer='GE')).megre
    assert series.phase_scale == pytest.approx(0.001)


@pytest.mark.parametrize('kind', ['phasediff', 'phase1'])
def test_the_phase_of_a_field_map_is_recognised_too(kind, dataset, unit):
    dataset.add('func/task-all_bold[calc]')
    _, phases = head((24, 24, 8))
    dataset.edit('*_bold.json', PhaseEncodingDirection='j', TotalReadoutTime=0.03)
    sidecar = {'Manufacturer': 'Siemens', 'EchoTime1': 0.004, 'EchoTime2': 0.006}
    names = {'phasediff': ['phasediff'], 'phase1': ['phase1', 'phase2']}[kind]
    for number, name in enumerate(names):
        dataset.image(f'sub-01/fmap/sub-01_{name}.nii.gz', data=as_stored(phases[0], 'siemens'),
                      metadata=sidecar | {'EchoTime': 0.004 + 0.002 * number})  # fmt: skip
    dataset.image('sub-01/fmap/sub-01_magnitude1.nii.gz', shape=(24, 24, 8))
    found = unit(dataset)
    assert found.bold[0].field_map.scale == pytest.approx(math.pi / 4096)


# ------------------------------------------------------------------------- slices


@pytest.mark.parametrize(('zooms', 'stated', 'axis', 'words'), [
    ((2, 2, 5), None, 2, ''),
    ((2, 5, 2), None, 1, 'its slices lie along axis 2'),
    ((5, 2, 2), None, 0, 'its slices lie along axis 1'),
    ((2, 5, 2), 'k', 2, ''),
    ((2, 2, 2), 'i-', 0, 'its slices lie along axis 1'),
    ((2, 2, 2), None, 2, 'do not tell how the slices lie'),
])  # fmt: skip
def test_slices_lie_where_sidecar_or_voxels_say(  # noqa: PLR0917
    zooms, stated, axis, words, dataset, unit
):
    for echo in range(1, 5):
        metadata = {'EchoTime': 0.005 * echo, 'MagneticFieldStrength': 3}
        metadata |= {'SliceEncodingDirection': stated}
        dataset.image(f'sub-01/anat/sub-01_echo-{echo}_MEGRE.nii.gz', shape=(4, 5, 6),
                      affine=np.diag([*zooms, 1]), metadata=metadata)  # fmt: skip
    found = unit(dataset)
    (series,) = found.megre
    assert (series.slice_axis, series.n_slices) == (axis, (4, 5, 6)[axis])
    said = [note for note in found.notes if 'slices lie' in note]
    assert bool(said) is bool(words)
    assert all(words in note for note in said)


def test_one_slice_has_no_gradient_and_that_is_said(gradient_echo, dataset, unit):
    gradient_echo('rad', Units='rad')
    for path in sorted(dataset.root.rglob('*_MEGRE.nii.gz')):
        image = nb.load(path)
        data = np.asarray(image.dataobj)[:, :, 3:4]
        nb.save(nb.Nifti1Image(data, np.diag([2, 2, 5, 1])), path)
    found = unit(dataset)
    assert (found.megre[0].has_phase, found.megre[0].uncorrected) == (True, 'one slice only')
