"""Whatever inputs exist give whatever maps can be made; what is missing is said."""

import numpy as np
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

RELAXATION = {
    'space-MESE_T2map',
    'task-control_space-MESE_T2starmap',
    'task-calc_space-MESE_T2starmap',
    'task-control_space-MESE_R2primemap',
    'task-calc_space-MESE_R2primemap',
}

CASES = {
    # label: scans, value maps, quantities whose change is made, what the verdict says
    'bold': (('bold',), set(), {'boldPct'}, ('no T1w image', 'no ASL: no cbf', 'no MESE: no T2')),
    'cbf': (
        ('t1w', 'asl'),
        {'task-control_space-ASL_cbf', 'task-calc_space-ASL_cbf'},
        {'cbf'},
        ('no MEGRE: no T2star', 'no DSC; choose --cbv-model'),
    ),
    'noanatomy': (
        ('mese', 'asl', 'dsc'),
        {'space-MESE_T2map', 'task-control_space-MESE_cbf', 'task-calc_space-MESE_cbf'},
        {'cbf'},
        ('no T1w image: no anatomy, template', 'DSC needs a T1w image'),
    ),
    'qbold': (
        ('t1w', 'mese', 'megre'),
        RELAXATION,
        {'R2prime'},
        ('no DSC; choose --cbv-model grubb or literature: no cbv', 'no ASL: no cbf'),
    ),
}


def names(folder, label):
    """Value maps on the quantification grid, without the participant."""
    found = {name.removeprefix(f'sub-{label}_') for name in support.value_maps(folder)}
    return {name for name in found if 'space-MNI' not in name}


def changed(folder):
    """Quantities whose change is there."""
    found = {name.rsplit('_desc-', maxsplit=1)[-1] for name in support.effects(folder)}
    return {name for name in found if not name.endswith('Pct') or name == 'boldPct'}


@pytest.fixture(scope='module')
def poor(study, tmp_path_factory):
    """A dataset whose participants lack different things."""
    root = support.start_dataset(tmp_path_factory.mktemp('poor') / 'raw', study)
    for label, (families, *_) in CASES.items():
        support.add_participant(root, study, label, *families)
    support.add_participant(root, study, 'all', 't1w', 'mese', 'megre', 'asl')
    return root


def run(root, output, *options):
    """Run the participant level."""
    arguments = (*support.anatomy_of(root), *support.HEADER, *options)
    return support.run_app(root, output, 'participant', *arguments)


@pytest.fixture(scope='module')
def served(poor):
    """Its derivatives."""
    output = poor.parent / 'out'
    return output, run(poor, output, '--participant-label', *CASES)


def test_absence_is_no_failure(served):
    _, outcome = served
    assert outcome.code == 0
    assert f'degraded: {len(CASES)} degraded; exit code 0' in outcome.last


@pytest.mark.parametrize('label', CASES)
def test_every_map_that_can_be_made_is_made_and_no_other(served, label):
    output, _ = served
    _, maps, changes, _ = CASES[label]
    assert names(output / f'sub-{label}', label) == maps
    assert changed(output / f'sub-{label}') == changes


@pytest.mark.parametrize('label', CASES)
def test_what_is_missing_is_said_once_in_log_and_report(served, label):
    output, outcome = served
    line = next(line for line in outcome.log.splitlines() if f'sub-{label}: degraded' in line)
    for text in CASES[label][3]:
        assert line.count(text) == 1
    rows = [row for unit in support.summary(output, label)['units'] for row in unit['maps']]
    report = (output / f'sub-{label}.html').read_text()
    for row in rows:
        assert (row['state'] == 'made') == (not row['reason']), row
        if row['state'] == 'absent':
            assert row['map'] in report


@pytest.mark.parametrize('label', CASES)
def test_no_map_is_empty_or_zero(served, label):
    output, _ = served
    for path in (output / f'sub-{label}').rglob('*.nii.gz'):
        name = path.name.removeprefix(f'sub-{label}_').removesuffix('.nii.gz')
        if name in CASES[label][1] or '_stat-effect_' in name:
            data = support.read(path)
            assert np.isfinite(data).any(), path.name
            assert np.any(data[np.isfinite(data)] != 0), path.name


def test_without_t1w_there_is_neither_tissue_nor_template_space(served):
    output, _ = served
    for label in ('bold', 'noanatomy'):
        found = [path.name for path in (output / f'sub-{label}').rglob('*.nii.gz')]
        assert not [name for name in found if 'probseg' in name or 'MNI152' in name]
        assert [name for name in found if name.endswith('desc-brain_mask.nii.gz')]


def test_quantification_grid_is_that_of_the_first_scan_there_is(served):
    output, _ = served
    spaces = {label: support.summary(output, label)['units'][0]['space'] for label in CASES}
    assert spaces == {'bold': 'BOLD', 'cbf': 'ASL', 'noanatomy': 'MESE', 'qbold': 'MESE'}


def test_literature_blood_volume_gives_oef_without_dsc(poor, tmp_path):
    options = ('--cbv-model', 'literature', '--participant-label', 'qbold')
    outcome = run(poor, tmp_path / 'out', *options)
    assert outcome.code == 0
    more = {
        'space-MESE_desc-literature_cbv',
        'task-control_space-MESE_oef',
        'task-calc_space-MESE_oef',
    }
    folder = tmp_path / 'out' / 'sub-qbold'
    assert names(folder, 'qbold') == RELAXATION | more
    assert changed(folder) == {'R2prime', 'oef'}
    (path,) = folder.rglob('*_task-control_space-MESE_oef.nii.gz')
    assert 0.2 < np.nanmedian(support.read(path)) < 0.6


def test_blood_volume_from_flow_gives_oef_and_cmro2_without_dsc(poor, tmp_path):
    options = ('--cbv-model', 'grubb', '--participant-label', 'all')
    outcome = run(poor, tmp_path / 'out', *options)
    assert outcome.code == 0
    folder = tmp_path / 'out' / 'sub-all'
    tasks = ('control', 'calc')
    kinds = ('desc-grubb_cbv', 'cbf', 'oef', 'cmro2')
    more = {f'task-{task}_space-MESE_{kind}' for task in tasks for kind in kinds}
    assert names(folder, 'all') == RELAXATION | more
    assert changed(folder) == {'cbf', 'cbv', 'R2prime', 'oef', 'cmro2'}


REVERSED = {'a': 'qbold', 'b': 'noanatomy', 'c': 'cbf', 'd': 'bold'}
"""Labels that turn the order of the participants round."""


def nameless(output, label):
    """Images of a participant, without its label."""
    found = support.images(output / f'sub-{label}')
    return {name.replace(f'sub-{label}', 'sub-X'): data for name, data in found.items()}


def test_participants_with_different_data_do_not_depend_on_their_order(served, study, tmp_path):
    output, _ = served
    root = support.start_dataset(tmp_path / 'raw', study)
    for new, old in REVERSED.items():
        support.add_participant(root, study, new, *CASES[old][0])
    outcome = run(root, tmp_path / 'out')
    assert outcome.code == 0
    for new, old in REVERSED.items():
        assert nameless(tmp_path / 'out', new) == nameless(output, old)
