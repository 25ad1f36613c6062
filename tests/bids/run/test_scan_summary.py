"""What is said of the scans is what the acquisitions hold."""

import math
from pathlib import Path

from bids_app.bids import scans as acq
from bids_app.bids.run.scan_summary import scan_records

ROOT = Path('/data')


def inputs(**series):
    return acq.ParticipantInputs(participant='01', b0=3.0, hct=0.42, sao2=math.nan, **series)


def labelled(**changes):
    about = {
        'condition': 'calc',
        'run': None,
        'file': ROOT / 'sub-01' / 'perf' / 'a_asl.nii.gz',
        'context': ('control', 'label') * 3,
        'label_type': 'PCASL',
        'label_duration': (1.8,) * 6,
        'post_label_delay': (1.0, 1.0, 1.5, 1.5, 2.0, 2.0),
        'labeling_efficiency': 0.85,
        'm0': acq.M0Image(kind='Separate', file=None, repetition_time=4.5),
    }
    return acq.AslSeries(**about | changes)


def test_every_kind_of_scan_is_listed_found_or_not():
    records = scan_records(inputs(), ROOT)
    assert [record['scan'] for record in records] == ['T1w', 'MESE', 'MEGRE', 'ASL', 'DSC', 'BOLD']
    assert not any(record['files'] for record in records)


def test_asl_timing_names_every_delay_once():
    (record,) = (r for r in scan_records(inputs(asl=(labelled(),)), ROOT) if r['scan'] == 'ASL')
    assert record['files'] == ['sub-01/perf/a_asl.nii.gz']
    assert record['condition'] == 'calc'
    assert record['facts'] == {
        'labelling': 'PCASL, continuous',
        'volumes': '3 control, 3 label',
        'label duration': '1.8 s',
        'post-labelling delay': '1, 1.5, 2 s',
        'labelling efficiency': '0.85',
        'background suppression': 'no',
        'M0': 'Separate',
        'repetition time of M0': '4.5 s',
    }


def test_many_slice_times_are_a_range():
    series = labelled(
        slice_times=tuple(0.035 * k for k in range(20)),
        background_suppression=True,
        background_suppression_factor=0.748,
    )
    (record,) = (r for r in scan_records(inputs(asl=(series,)), ROOT) if r['scan'] == 'ASL')
    assert record['facts']['readout of the slices'] == '0 to 0.665 s in 20 steps after the first'
    assert record['facts']['background suppression'] == 'yes, 74.8 % of the label kept'


def test_echoes_and_their_phase_are_said():
    series = acq.EchoSeries(
        condition=None,
        run='1',
        magnitude=tuple(ROOT / f'{echo}.nii' for echo in range(2)),
        echo_times=(0.005, 0.0123),
    )
    (record,) = (r for r in scan_records(inputs(megre=(series,)), ROOT) if r['scan'] == 'MEGRE')
    assert record['run'] == '1'
    assert record['facts'] == {'echo times': '5, 12.3 ms', 'phase': 'no'}
