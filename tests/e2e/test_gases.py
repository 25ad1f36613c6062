"""Dual-echo ASL alone, in which two gases and a task run: from the scan to labels and group."""

import json

import numpy as np
import pytest

from tests.e2e import support

pytestmark = pytest.mark.e2e

OPTIONS = ('--hypercapnia', 'hypercapnia', '--hyperoxia', 'hyperoxia', '--set',
           'change.route=davis')  # fmt: skip
CHANGE = 'space-ASL_contrast-calcMinusControl_stat-{}_desc-cmro2_statmap'


@pytest.fixture(scope='module')
def gases(tmp_path_factory):
    """The study and what the app makes of it."""
    root = support.phantom(tmp_path_factory.mktemp('gases'), '--design', 'gases')
    made = root.parent / 'out'
    outcome = support.run_app(
        root, made, 'participant', *support.anatomy_of(root), *support.HEADER, *OPTIONS
    )
    assert outcome.code == 0, outcome.log
    return root, made


def maps(gases, name, truth):
    """A map of the app with its standard error, and what is true, in grey matter; the regions."""
    study, made = gases
    true = study / 'derivatives/truth/sub-01'
    grey = support.read(true / 'anat/sub-01_space-ASL_label-GM_probseg.nii.gz') > 0.8
    regions = support.read(true / 'anat/sub-01_space-ASL_desc-regions_dseg.nii.gz')[grey]
    folder = made / 'sub-01/perf'
    value, variance = (
        support.read(folder / f'sub-01_{one}.nii.gz')[grey] for one in (name, errors_of(name))
    )
    expected = support.read(true / f'perf/sub-01_{truth}.nii.gz')[grey]
    return value, np.sqrt(variance), expected, regions


def errors_of(name):
    """Name of the variance of a map."""
    if 'stat-effect' in name:
        return name.replace('stat-effect', 'stat-variance')
    start, _, quantity = name.rpartition('_')
    return f'{start}_stat-variance_desc-{quantity}_statmap'


def test_change_of_metabolism_has_the_right_sign_in_every_region(gases):
    name = CHANGE.format('effect')
    found, error, true, regions = maps(gases, name, name)
    for region in (1, 2, 3, 4):
        inside = regions == region
        mean, expected = found[inside].mean(), true[inside].mean()
        assert mean * expected > 0
        assert mean == pytest.approx(expected, rel=0.5)  # what the exponents cost
    null = regions == 5
    assert abs(found[null].mean()) < 0.1 * np.abs(true[regions < 5]).mean()
    assert 0.9 < np.mean(np.abs(found[null]) < 1.96 * error[null]) < 0.98


def test_extraction_and_metabolism_at_rest_are_those_of_the_tissue(gases):
    for quantity, bar in (('cbf', 0.03), ('oef', 0.12), ('cmro2', 0.14)):
        found, _, true, _ = maps(
            gases,
            f'task-control_space-ASL_{quantity}',
            f'task-control_space-ASL_desc-tissue_{quantity}',
        )
        assert np.nanmedian(found) == pytest.approx(np.median(true), rel=bar), quantity


def test_labels_reactivity_and_maximum_are_made_and_none_for_a_gas(gases):
    _, made = gases
    perf = made / 'sub-01/perf'
    reactivity = support.read(perf / 'sub-01_task-control_space-ASL_cvr.nii.gz')
    assert 4 < np.nanmedian(reactivity) < 6  # 50 % of flow for 10 mmHg
    largest = support.read(perf / 'sub-01_task-control_space-ASL_Mmap.nii.gz')
    assert 5 < np.nanmedian(largest) < 12
    labels = list(made.glob('sub-01/func/*space-ASL*seg-concordance_*dseg.nii.gz'))
    assert [path.name for path in labels] == [
        'sub-01_task-asl_space-ASL_seg-concordance_desc-calcMinusControl_dseg.nii.gz'
    ]
    assert not list(perf.glob('*hypercapniaMinusControl*desc-cmro2_*'))


def test_sidecars_name_gases_pressures_and_what_exponents_cost(gases):
    _, made = gases
    perf = made / 'sub-01/perf'
    about = json.loads((perf / 'sub-01_task-control_space-ASL_oef.json').read_text())
    assert about['Model']['Name'] == 'dual-calibrated'
    assert about['ModelParameters']['hyperoxia_po2']['Value'] == pytest.approx(420, abs=5)
    assert any('boldGasPct' in source for source in about['Sources'])
    flow = json.loads((perf / 'sub-01_task-hyperoxia_space-ASL_cbf.json').read_text())
    assert flow['ArterialT1WithGas'] == pytest.approx(1.555, abs=0.01)
    stem = 'sub-01_task-control_space-ASL_stat-variance_desc-oefTotal_statmap.json'
    cost = json.loads((perf / stem).read_text())['ConstantsError']
    assert cost['Effects']['change.davis_coefficients'] == pytest.approx(0.2, abs=0.05)
    assert 'change.davis_coefficients' in cost['SharedByGroup']
    page = (made / 'sub-01.html').read_text()
    assert 'Cerebrovascular reactivity' in page
    assert 'M, the maximum of BOLD' in page


def test_the_group_takes_the_maps_of_gases(gases):
    _, made = gases
    outcome = support.run_app(gases[0], made, 'group')
    assert outcome.code == 0, outcome.log
    (folder,) = made.glob('tpl-*')
    assert list(folder.glob('perf/*contrast-calcMinusControl*desc-cmro2_statmap.nii.gz'))
    assert list(folder.glob('func/*seg-concordance_*calcMinusControl_dseg.nii.gz'))
    assert not list(folder.glob('perf/*hypercapniaMinusControl*desc-cmro2_statmap.nii.gz'))


def test_replay_with_other_exponents_needs_no_scan(gases, tmp_path):
    _, made = gases
    outcome = support.run_app(
        made, tmp_path / 'out', 'participant', '--replay',
        'change.davis_coefficients=griffeth2011',
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    name = 'sub-01/perf/sub-01_task-control_space-ASL_oef.nii.gz'
    before, after = (np.nanmedian(support.read(root / name)) for root in (made, tmp_path / 'out'))
    assert 1.1 < after / before < 1.4
