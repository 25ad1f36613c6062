"""A site with ASL of several delays whose label still stands in large arteries."""

import json

import nibabel as nb
import numpy as np
import pytest

from bids_app.models.asl.kinetics import predict_difference
from tests.e2e import support

pytestmark = pytest.mark.e2e

DELAYS = (0.2, 0.5, 0.8, 1.1, 1.4, 1.7)
PAIRS = 4
FLOW, ARRIVAL, ARTERIAL = 50.0, 1.2, 0.02
"""mL/100 g/min, s, mL/mL."""
BLOOD = {
    'labeling_efficiency': 0.85,
    'background_suppression_factor': 0.93**4,
    't1_blood': 1.65,
    'partition_coefficient': 0.9,
}


def write_series(start, m0):
    """Put a series of several delays in the place of one with a single delay."""
    image = nb.load(f'{start}_asl.nii.gz')
    about = json.loads(start.with_name(f'{start.name}_asl.json').read_text())
    rng = np.random.default_rng(5)
    volumes, delays = [], []
    for delay in DELAYS:
        difference = predict_difference(
            FLOW, ARRIVAL, m0, post_label_delay=delay + np.array(about['SliceTiming']),
            label_duration=about['LabelingDuration'], labeling='continuous', t1_tissue=1.607,
            **BLOOD,
        )  # fmt: skip
        if delay < 0.65:  # the artery still holds label
            kept = BLOOD['labeling_efficiency'] * BLOOD['background_suppression_factor']
            decay = np.exp(-0.65 / BLOOD['t1_blood'])
            difference = difference + 2 * m0 / 0.9 * kept * decay * ARTERIAL
        for _ in range(PAIRS):
            level = 0.1 * m0
            noise = rng.normal(0, 1e-4 * m0.max(), (2, *m0.shape))
            volumes += [level + noise[0], level - difference + noise[1]]
            delays += [delay, delay]
    nb.save(
        nb.Nifti1Image(np.stack(volumes, axis=-1).astype(np.float32), image.affine),
        f'{start}_asl.nii.gz',
    )
    about |= {'PostLabelingDelay': delays, 'TotalAcquiredPairs': len(delays) // 2}
    start.with_name(f'{start.name}_asl.json').write_text(json.dumps(about))
    lines = ['volume_type', *['control', 'label'] * (len(delays) // 2)]
    start.with_name(f'{start.name}_aslcontext.tsv').write_text('\n'.join(lines) + '\n')


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    """What the app makes of it."""
    root = support.phantom(tmp_path_factory.mktemp('arteries'), participants=1)
    for condition in ('control', 'calc'):
        start = root / f'sub-01/perf/sub-01_acq-{condition}'
        write_series(start, support.read(start.with_name(f'{start.name}_m0scan.nii.gz')))
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER,
        '--cbf-model', 'multi-delay-arterial', '--ignore', 'mese', 'megre', 'dsc', 'bold',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    return made


def test_the_blood_of_arteries_is_saved_with_its_error_and_reasons(output):
    start = output / 'sub-01/perf/sub-01_task-control_space-ASL'
    inside = support.read(output / 'sub-01/anat/sub-01_space-ASL_label-GM_probseg.nii.gz') > 0.8
    found = support.read(start.with_name(f'{start.name}_abv.nii.gz'))[inside]
    assert np.nanmedian(found) == pytest.approx(100 * ARTERIAL, rel=0.2)
    error = np.sqrt(support.read(
        start.with_name(f'{start.name}_stat-variance_desc-abv_statmap.nii.gz')
    ))[inside]  # fmt: skip
    assert 0 < np.nanmedian(error) < 50 * ARTERIAL
    arrival = support.read(start.with_name(f'{start.name}_att.nii.gz'))[inside]
    assert np.nanmedian(arrival) == pytest.approx(ARRIVAL, abs=0.1)


def test_the_report_shows_arteries_arrival_and_every_delay(output):
    page = (output / 'sub-01.html').read_text()
    for key in ('abv', 'att'):
        figure = page.partition(f'id="{key}_condition-control"')[2].partition('</figure>')[0]
        assert 'Random error' in figure
    table = page.partition('Timing of ASL, control')[2].partition('</table>')[0]
    assert all(f'data-label="post-labelling delay (s)">{delay}' in table for delay in DELAYS)
