"""Sidecars as dcm2niix writes them for every maker: what they lack is named, ready to be added."""

import json
import tomllib

import pytest

from bids_app.bids.input.sidecar import load_overrides
from bids_app.errors import SettingsError
from tests.bids.conftest import CONTEXT
from tests.e2e.support import run_app

MR = {'Modality': 'MR', 'MagneticFieldStrength': 3, 'ConversionSoftware': 'dcm2niix'}
TIMES = [0.0, 0.6]

MAKERS = {
    'Siemens': {
        'all': {'Manufacturer': 'Siemens', 'PhaseEncodingDirection': 'j-', 'SliceTiming': TIMES,
                'EffectiveEchoSpacing': 0.0005, 'TotalReadoutTime': 0.03},
        'asl': {'ArterialSpinLabelingType': 'PCASL', 'PostLabelDelay': 1.8, 'RFGap': 0.00036,
                'RepetitionTime': 4.5},
        'aslLacks': {'PostLabelingDelay', 'LabelingDuration', 'BackgroundSuppression'},
        'lacks': set(),
    },
    'Siemens PASL': {
        'all': {'Manufacturer': 'Siemens', 'PhaseEncodingDirection': 'j-', 'SliceTiming': TIMES,
                'EffectiveEchoSpacing': 0.0005, 'TotalReadoutTime': 0.03},
        'asl': {'ArterialSpinLabelingType': 'PASL', 'InversionTime': 1.99, 'BolusDuration': 0.7},
        'aslLacks': {'PostLabelingDelay', 'BolusCutOffFlag', 'BolusCutOffTechnique',
                     'BolusCutOffDelayTime', 'BackgroundSuppression'},
        'lacks': set(),
    },
    'GE': {
        'all': {'Manufacturer': 'GE', 'PhaseEncodingDirection': 'j', 'SliceTiming': TIMES,
                'PhaseEncodingPolarityGE': 'Unflipped', 'EffectiveEchoSpacing': 0.0005,
                'TotalReadoutTime': 0.03},
        'asl': {'PostLabelingDelay': 2.025, 'LabelingDuration': 1.45, 'MRAcquisitionType': '3D',
                'ASLContrastTechnique': 'PSEUDOCONTINUOUS', 'ASLLabelingTechnique': '3D spiral',
                'NumberOfArms': 8, 'NumberOfPointsPerArm': 512},
        'aslLacks': {'ArterialSpinLabelingType', 'BackgroundSuppression'},
        'lacks': set(),
    },
    'Philips': {
        'all': {'Manufacturer': 'Philips', 'PhaseEncodingAxis': 'j', 'PhilipsRescaleSlope': 2.1,
                'PhilipsScaleSlope': 0.005, 'EstimatedEffectiveEchoSpacing': 0.0005,
                'EstimatedTotalReadoutTime': 0.03},
        'asl': {'RepetitionTime': 4.5},
        'aslLacks': {'ArterialSpinLabelingType', 'PostLabelingDelay', 'LabelingDuration',
                     'BackgroundSuppression', 'SliceTiming'},
        'lacks': {'PhaseEncodingDirection', 'TotalReadoutTime'},
    },
    'Canon': {
        'all': {'Manufacturer': 'Canon', 'PhaseEncodingAxis': 'j'},
        'asl': {},
        'aslLacks': {'ArterialSpinLabelingType', 'PostLabelingDelay', 'LabelingDuration',
                     'BackgroundSuppression', 'SliceTiming'},
        'lacks': {'PhaseEncodingDirection', 'TotalReadoutTime'},
    },
    'UIH': {
        'all': {'Manufacturer': 'UIH', 'PhaseEncodingDirection': 'j', 'SliceTiming': TIMES},
        'asl': {},
        'aslLacks': {'ArterialSpinLabelingType', 'PostLabelingDelay', 'LabelingDuration',
                     'BackgroundSuppression'},
        'lacks': {'TotalReadoutTime'},
    },
}  # fmt: skip
"""What dcm2niix writes by maker (its BIDS/README.md and the pages of the makers there)."""

VALUES = {
    'ArterialSpinLabelingType': 'PCASL', 'PostLabelingDelay': 1.8, 'LabelingDuration': 1.8,
    'BackgroundSuppression': False, 'BolusCutOffFlag': True, 'BolusCutOffTechnique': 'Q2TIPS',
    'BolusCutOffDelayTime': 0.7, 'PhaseEncodingDirection': 'j', 'TotalReadoutTime': 0.03,
    'SliceTiming': TIMES, 'M0Type': 'Separate',
}  # fmt: skip


@pytest.fixture
def hospital(dataset):
    """Every kind of scan as a scanner of a maker and its converter leave it."""

    def make(maker):
        own = MAKERS[maker]
        common = {**MR, **own['all']}
        dataset.add('anat/T1w')
        for echo in range(1, 5):
            for suffix, step in (('MESE', 0.016), ('MEGRE', 0.005)):
                sidecar = {**common, 'EchoTime': step * echo, 'EchoNumber': echo,
                           'RepetitionTime': 2.0, 'SliceThickness': 3}  # fmt: skip
                name = f'sub-01/anat/sub-01_echo-{echo}_{suffix}.nii.gz'
                dataset.image(name, metadata=sidecar)
        scan = {**common, 'EchoTime': 0.03, 'RepetitionTime': 1.2}
        dataset.image('sub-01/perf/sub-01_dsc.nii.gz', shape=(3, 3, 2, 12), metadata=scan)
        bold = 'sub-01/func/sub-01_task-all'
        dataset.image(f'{bold}_bold.nii.gz', shape=(3, 3, 2, 200), metadata=scan)
        dataset.text(f'{bold}_events.tsv', 'onset\tduration\ttrial_type\n30\t30\tcalc\n')
        asl = {**common, 'EchoTime': 0.012, **own['asl']}
        shape = (3, 3, 2, len(CONTEXT))
        dataset.image('sub-01/perf/sub-01_asl.nii.gz', shape=shape, metadata=asl)
        dataset.text('sub-01/perf/sub-01_aslcontext.tsv', '\n'.join(['volume_type', *CONTEXT]))
        dataset.image('sub-01/perf/sub-01_m0scan.nii.gz',
                      metadata={**common, 'RepetitionTime': 6.0})  # fmt: skip
        return dataset

    return make


def lacking(found, role):
    return {one.key for one in found.missing if one.role == role}


def filled(text):
    """Put true values in the place of the question marks."""
    lines = []
    for line in text.splitlines():
        for key, value in VALUES.items():
            line = line.replace(f'{key} = "?"', f'{key} = {json.dumps(value)}')  # noqa: PLW2901
        lines.append(line)
    return '\n'.join(lines)


def suggested(root):
    command = (root, root.parent / 'out', 'participant', '--dry-run', '--json')
    return json.loads(run_app(*command).out)['overrides']


@pytest.mark.parametrize('maker', MAKERS)
def test_what_a_sidecar_lacks_is_named(maker, hospital, unit):
    found = unit(hospital(maker))
    assert lacking(found, 'asl') == MAKERS[maker]['aslLacks'] | MAKERS[maker]['lacks']
    for role in ('bold', 'dsc'):
        assert lacking(found, role) == MAKERS[maker]['lacks']
    assert (len(found.mese), len(found.megre), len(found.bold), len(found.dsc)) == (1, 1, 1, 1)


@pytest.mark.parametrize('maker', MAKERS)
def test_the_lines_to_add_can_be_pasted_and_make_the_scan_usable(maker, hospital, unit):
    dataset = hospital(maker)
    text = suggested(dataset.root)
    tomllib.loads(text)
    path = dataset.text('overrides.toml', filled(text))
    assert load_overrides(path)
    found = unit(dataset, metadata_overrides=path)
    assert found.problems == ()
    assert len(found.asl) == 1
    assert found.missing == ()


@pytest.mark.parametrize('maker', ['Siemens', 'Philips', 'UIH'])
def test_a_question_mark_is_never_taken_for_a_value(maker, hospital):
    dataset = hospital(maker)
    path = dataset.text('overrides.toml', suggested(dataset.root))
    words = r'override 1: "\?" still stands for .*; put the true value there, or take it out'
    with pytest.raises(SettingsError, match=words):
        load_overrides(path)


@pytest.mark.parametrize(('maker', 'hint'), [
    ('Siemens', '# PostLabelingDelay: is it PostLabelDelay = 1.8 of the sidecar?'),
    ('Siemens PASL', '# PostLabelingDelay: is it InversionTime = 1.99 of the sidecar?'),
    ('Siemens PASL', '# BolusCutOffDelayTime: is it BolusDuration = 0.7 of the sidecar?'),
    ('Philips', '# PhaseEncodingDirection: is it PhaseEncodingAxis = "j" of the sidecar?'),
    ('Philips', '# TotalReadoutTime: is it EstimatedTotalReadoutTime = 0.03 of the sidecar?'),
])  # fmt: skip
def test_what_a_converter_wrote_under_another_name_is_shown(maker, hint, hospital):
    root = hospital(maker).root
    assert hint in suggested(root)
    outcome = run_app(root, root.parent / 'out', 'participant', '--dry-run')
    assert hint in outcome.out
    assert 'name it with --metadata-overrides' in outcome.out


def test_only_the_participants_that_lack_a_key_are_named(dataset):
    for sub in ('01', '02', '03'):
        dataset.add('anat/T1w', 'perf/asl', sub=sub)
        dataset.edit(f'sub-{sub}_asl.json', PhaseEncodingDirection='j', TotalReadoutTime=0.03)
    for sub in ('01', '03'):
        dataset.edit(f'sub-{sub}_asl.json', PostLabelingDelay=None)
    (entry,) = tomllib.loads(suggested(dataset.root))['override']
    assert entry['match'] == {'role': 'asl', 'sub': ['01', '03']}
    assert entry['set'] == {'PostLabelingDelay': '?'}


def test_nothing_is_suggested_where_nothing_is_missing(dataset):
    dataset.add('anat/T1w', 'perf/asl')
    dataset.edit('sub-01_asl.json', PhaseEncodingDirection='j', TotalReadoutTime=0.03)
    assert suggested(dataset.root) == ''
