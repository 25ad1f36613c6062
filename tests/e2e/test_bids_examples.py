"""The official ASL examples, filled with images of known flow, give that flow."""

import json
import shutil
import tarfile

import nibabel as nb
import numpy as np
import pytest

from tests.e2e import support
from tests.paths import DATA, SHARED

pytestmark = pytest.mark.e2e

T1_BLOOD, T1_TISSUE, PARTITION = 1.65, 1.33, 0.9
EFFICIENCY = {'PCASL': 0.85, 'PASL': 0.98}
KEPT_PER_PULSE = 0.93
ARRIVAL = 1.35
"""s; after the first delay of the last slice, so that arrival can be told in all of them."""

CONSTANTS = [
    word
    for name, value in (
        ('t1_blood', T1_BLOOD), ('t1_tissue', T1_TISSUE), ('partition_coefficient', PARTITION),
    )
    for word in ('--set', f'perfusion.{name}={value}')
]  # fmt: skip
SINGLE = ('asl001', 'asl002', 'asl005')
SEVERAL = ('asl003', 'asl004')
SHAPE = (18, 20)


def white_paper_difference(cbf, m0, delay, sidecar):
    """Turn the equations of Alsop et al. 2015 for PCASL round: difference of a flow."""
    duration, alpha = sidecar['LabelingDuration'], efficiency(sidecar)
    return (
        2 * alpha * T1_BLOOD * m0 * cbf * (1 - np.exp(-duration / T1_BLOOD))
        / (6000 * PARTITION * np.exp(delay / T1_BLOOD))
    )  # fmt: skip


def kinetic_difference(cbf, m0, delay, sidecar):
    """Integrate what arrives and what decays, step by step (Buxton et al. 1998)."""
    flow, alpha = cbf / 6000, efficiency(sidecar)
    pulsed = sidecar['ArterialSpinLabelingType'] == 'PASL'
    duration = sidecar['BolusCutOffDelayTime'][0] if pulsed else sidecar['LabelingDuration']
    end = delay if pulsed else delay + duration
    step = 2e-4
    time = np.arange(step / 2, end, step)
    age = time if pulsed else np.full_like(time, ARRIVAL)
    arriving = (time > ARRIVAL) & (time < ARRIVAL + duration)
    rate = 1 / T1_TISSUE + flow / PARTITION
    left = np.exp(-age / T1_BLOOD) * np.exp(-rate * (end - time)) * arriving
    return 2 * alpha * m0 / PARTITION * flow * left.sum() * step


def efficiency(sidecar):
    """Inversion and what the suppression pulses leave of it."""
    pulses = sidecar.get('BackgroundSuppressionNumberPulses', 0)
    stated = sidecar.get('LabelingEfficiency')
    return (stated or EFFICIENCY[sidecar['ArterialSpinLabelingType']]) * KEPT_PER_PULSE**pulses


def flow_map(shape):
    """A head: flow rises from 30 to 80 mL/100 g/min from left to right, 0 around it."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    inside = axes[0] ** 2 + axes[1] ** 2 < 0.8
    return np.where(inside, 55 + 25 * axes[0], 0.0), inside


def fill(root):
    """Write the series and its M0 of a flow map beside the sidecars; return that map."""
    (path,) = root.rglob('*_asl.json')
    sidecar = json.loads(path.read_text())
    context = path.with_name(path.name.replace('asl.json', 'aslcontext.tsv'))
    types = context.read_text().split()[1:]
    times = sidecar.get('SliceTiming') or [0.0] * 6
    shape = (*SHAPE, len(times))
    flow, inside = flow_map(shape)
    delays, several = sidecar['PostLabelingDelay'], isinstance(sidecar['PostLabelingDelay'], list)
    model = kinetic_difference if several else white_paper_difference
    rng = np.random.default_rng(3)
    m0 = np.where(inside, 1000.0, 0.0)
    known = {}
    volumes = []
    for number, kind in enumerate(types):
        sequence = {**sidecar, 'LabelingDuration': at(sidecar.get('LabelingDuration'), number)}
        delay = at(delays, number)
        difference = np.zeros(shape)
        if kind in {'label', 'deltam'}:
            for index, start in enumerate(times):
                key = (delay + start, sequence['LabelingDuration'])
                if key not in known:
                    known[key] = model_of_flows(model, delay + start, sequence)
                difference[..., index] = known[key](flow[..., index])
        base = 300.0 * inside if kind != 'deltam' else 0.0
        signal = {'deltam': difference, 'label': base - difference}.get(kind, base)
        if kind == 'm0scan':
            signal = recovering(m0, at(sidecar['RepetitionTimePreparation'], number))
        noise = rng.normal(0, 0.004, shape) if kind != 'noRF' else rng.normal(0, 1, shape)
        volumes.append(signal + noise * inside)
    affine = np.diag([*sidecar['AcquisitionVoxelSize'], 1.0])
    save(np.stack(volumes, axis=-1), affine, path)
    for other in path.parent.glob('*_m0scan.json'):
        time = json.loads(other.read_text())['RepetitionTimePreparation']
        save(recovering(m0, time), affine, other)
    return flow, inside


def at(value, index):
    """Value of a volume."""
    return value[index] if isinstance(value, list) else value


def model_of_flows(model, delay, sidecar):
    """Tabulate a difference over flow, with M0 = 1000."""
    flows = np.linspace(0, 100, 51)
    values = [float(model(cbf, 1000.0, delay, sidecar)) for cbf in flows]
    return lambda flow: np.interp(flow, flows, values)


def recovering(m0, time):
    """Signal of M0 that had so long to recover."""
    return m0 * (1 - np.exp(-time / T1_TISSUE))


def save(data, affine, sidecar):
    path = sidecar.with_suffix('.nii.gz')
    nb.save(nb.Nifti1Image(data.astype(np.float32), affine), path)


def prepared(name, folder):
    """Copy an example."""
    root = folder / name
    if name != '2d_mb_pcasl':
        shutil.copytree(DATA / 'bids_examples' / name, root)
        return root
    archive = SHARED / 'examples' / 'asl.tar.xz'
    if not archive.is_file():
        pytest.skip('the archive of the examples is not here')
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter='data', members=[
            item for item in tar if name in item.name and '/anat/' not in item.name
        ])  # fmt: skip
    return root


@pytest.mark.parametrize('name', [*SINGLE, *SEVERAL, '2d_mb_pcasl'])
def test_flow_of_an_official_example_is_true_within_1_percent(name, tmp_path):
    root = prepared(name, tmp_path)
    flow, inside = fill(root)
    outcome = support.run_app(root, tmp_path / 'out', 'participant', *support.HEADER, *CONSTANTS)
    assert outcome.code == 0, outcome.log
    (path,) = (tmp_path / 'out').rglob('*_cbf.nii.gz')
    found = support.read(path)
    known = np.isfinite(found)
    assert known[inside].mean() > 0.9
    ratio = found[known & inside] / flow[known & inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.002)
    assert np.percentile(np.abs(ratio - 1), 95) < 0.01


QMRI = {'MESE': (0.01 * np.arange(1, 33), 'SE', 'T2map'),
        'MEGRE': (0.02 * np.arange(1, 9), 'GR', 'T2starmap')}  # fmt: skip
"""Suffix -> echo times (s) and sequence of the examples qmri_mese, qmri_megre; its map."""


@pytest.mark.parametrize('suffix', QMRI)
def test_decay_of_an_official_example_is_true(suffix, tmp_path):
    # their sidecars hold no more than this, the common keys above the participants
    times, sequence, made = QMRI[suffix]
    root = tmp_path / 'raw'
    folder = root / 'sub-01' / 'anat'
    folder.mkdir(parents=True)
    (root / 'dataset_description.json').write_text('{"Name": "qmri", "BIDSVersion": "1.5.0"}')
    (root / f'{suffix}.json').write_text(json.dumps({
        'MagneticFieldStrength': 3, 'Manufacturer': 'Siemens', 'PulseSequenceType': sequence,
    }))  # fmt: skip
    grid = np.indices((*SHAPE, 6), dtype=float)
    radius = np.hypot(grid[0] / 8.5 - 1, grid[1] / 9.5 - 1)
    inside, truth = radius < 0.8, 0.06 + 0.02 * grid[0] / SHAPE[0]
    rng = np.random.default_rng(8)
    for number, time in enumerate(times, 1):
        data = 1000 * inside * np.exp(-time / truth) + rng.normal(0, 2, inside.shape)
        sidecar = folder / f'sub-01_echo-{number:02d}_{suffix}.json'
        sidecar.write_text(json.dumps({'EchoTime': round(float(time), 3)}))
        save(np.abs(data), np.diag([2.0, 2.0, 3.0, 1.0]), sidecar)
    outcome = support.run_app(root, tmp_path / 'out', 'participant', *support.HEADER)
    assert outcome.code == 0, outcome.log
    (path,) = (tmp_path / 'out').rglob(f'*_{made}.nii.gz')
    found = support.read(path)
    (mask,) = path.parent.glob('*_desc-brain_mask.nii.gz')
    brain = support.read(mask) > 0
    assert brain.sum() > 0.6 * inside.sum()  # the object is a cylinder, a brain is round
    known = np.isfinite(found)
    assert known[brain].mean() > 0.99
    known &= inside
    assert np.median(found[known] / truth[known]) == pytest.approx(1, abs=0.005)
